"""Pooling over boxes against the published loops, bin by bin, sample by sample."""

from fractions import Fraction
from math import ceil, floor

import keras
import numpy as np
import pytest
from keras import ops

from shared.errors import ConvsuiteError
from shared.layers import RoIAlign, RoIPool

HEIGHT, WIDTH = 9, 12
SCALE = 0.25


def features(rng):
    return rng.normal(size=(2, HEIGHT, WIDTH, 3)).astype("float32")


def boxes(rng):
    """Boxes inside, over the border, far outside, empty and of a single pixel."""
    corner = rng.uniform(-8, 44, (2, 6, 2))
    inside = np.concatenate([corner, corner + rng.uniform(0, 30, (2, 6, 2))], -1)
    special = [[0, 0, 47, 35], [10, 10, 10, 10], [100, 100, 130, 130], [-20, -9, -10, -5]]
    return np.concatenate([inside, np.broadcast_to(special, (2, 4, 4))], 1).astype("float32")


def run(layer, maps, places):
    return ops.convert_to_numpy(layer([maps, places]))


def loop_pool(maps, places, size):
    """The Caffe layer of Fast R-CNN; halves are rounded away from zero."""
    out = np.zeros((*places.shape[:2], *size, maps.shape[-1]), "float32")
    for b, n in np.ndindex(places.shape[:2]):
        scaled = places[b, n] * SCALE
        x1, y1, x2, y2 = (int(np.sign(v) * np.floor(abs(v) + 0.5)) for v in scaled)
        bin_y = Fraction(max(y2 - y1 + 1, 1), size[0])
        bin_x = Fraction(max(x2 - x1 + 1, 1), size[1])
        for i, j in np.ndindex(*size):
            top, bottom = (
                min(max(v + y1, 0), HEIGHT) for v in (floor(i * bin_y), ceil((i + 1) * bin_y))
            )
            left, right = (
                min(max(v + x1, 0), WIDTH) for v in (floor(j * bin_x), ceil((j + 1) * bin_x))
            )
            if bottom > top and right > left:
                out[b, n, i, j] = maps[b, top:bottom, left:right].max((0, 1))
    return out


def bilinear(picture, y, x):
    """The interpolation of Mask R-CNN's operator: 0 beyond one pixel outside, clamped before."""
    if not (-1 <= y <= HEIGHT and -1 <= x <= WIDTH):
        return np.zeros(picture.shape[-1])
    y, x = max(y, 0), max(x, 0)
    y0, x0 = min(int(y), HEIGHT - 1), min(int(x), WIDTH - 1)
    y1, x1 = min(y0 + 1, HEIGHT - 1), min(x0 + 1, WIDTH - 1)
    dy, dx = (0 if y0 == y1 else y - y0), (0 if x0 == x1 else x - x0)
    above = (1 - dx) * picture[y0, x0] + dx * picture[y0, x1]
    below = (1 - dx) * picture[y1, x0] + dx * picture[y1, x1]
    return (1 - dy) * above + dy * below


def loop_align(maps, places, size, sampling, aligned):
    out = np.zeros((*places.shape[:2], *size, maps.shape[-1]))
    for b, n in np.ndindex(places.shape[:2]):
        x1, y1, x2, y2 = np.float64(places[b, n]) * SCALE - (0.5 if aligned else 0)
        height, width = y2 - y1, x2 - x1
        if not aligned:
            height, width = max(height, 1), max(width, 1)
        bin_y, bin_x = height / size[0], width / size[1]
        for i, j in np.ndindex(*size):
            samples = [
                bilinear(
                    maps[b],
                    y1 + (i + (p + 0.5) / sampling) * bin_y,
                    x1 + (j + (q + 0.5) / sampling) * bin_x,
                )
                for p, q in np.ndindex(sampling, sampling)
            ]
            out[b, n, i, j] = np.mean(samples, axis=0)
    return out


@pytest.mark.backends
@pytest.mark.parametrize("size", [(2, 2), (7, 7), (3, 5)])
def test_pool_equals_the_loops_of_caffe(rng, size):
    maps, places = features(rng), boxes(rng)
    found = run(RoIPool(size, SCALE), maps, places)
    np.testing.assert_array_equal(found, loop_pool(maps, places, size))


@pytest.mark.backends
def test_pool_rounds_halves_away_from_zero():
    maps = np.arange(HEIGHT * WIDTH, dtype="float32").reshape(1, HEIGHT, WIDTH, 1)
    # 2.5 becomes 3 and 4.5 becomes 5; rounding to even would give 2 and 4.
    found = run(RoIPool(1, 1.0), maps, np.array([[[2.5, 2.5, 4.5, 4.5]]], "float32"))
    assert found.item() == 5 * WIDTH + 5


@pytest.mark.backends
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize(("size", "sampling"), [((2, 2), 2), ((7, 7), 1), ((3, 5), 3)])
def test_align_equals_the_loops_of_its_paper(rng, size, sampling, aligned):
    maps, places = features(rng), boxes(rng)
    found = run(RoIAlign(size, SCALE, sampling, aligned), maps, places)
    expected = loop_align(maps, places, size, sampling, aligned)
    np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.backends
def test_align_reads_a_ramp_where_the_bins_are():
    ramp = np.broadcast_to(np.arange(WIDTH, dtype="float32")[:, None], (1, HEIGHT, WIDTH, 1))
    box = np.array([[[2.0, 3.0, 8.0, 5.0]]], "float32")
    # Bins of one pixel; the centre of pixel k lies at k + 1/2.
    found = run(RoIAlign((2, 6), 1.0), ramp, box)[0, 0, :, :, 0]
    np.testing.assert_allclose(found, [np.arange(2, 8)] * 2, atol=1e-5)
    shifted = run(RoIAlign((2, 6), 1.0, aligned=False), ramp, box)[0, 0, :, :, 0]
    np.testing.assert_allclose(shifted, found + 0.5, atol=1e-5)


@pytest.mark.slow_on_jax
@pytest.mark.backends
@pytest.mark.parametrize("kind", [RoIPool, RoIAlign])
def test_gradients_equal_finite_differences(rng, check_gradients, kind):
    maps = rng.permutation(2 * HEIGHT * WIDTH).reshape(2, HEIGHT, WIDTH, 1) / 20
    places = boxes(rng)[:, :3]
    layer = kind(2, SCALE)
    check_gradients(lambda maps: layer([maps, places]), maps)
    if kind is RoIAlign:
        # Where no sample falls on the centre of a pixel, the boxes have a slope, too.
        places = np.array([[[7.3, 6.1, 24.9, 20.7]]], "float32")
        check_gradients(
            lambda box: RoIAlign(2, SCALE, 1)([maps[:1].astype("float32"), box]), places
        )


@pytest.mark.backends
@pytest.mark.parametrize("kind", [RoIPool, RoIAlign])
def test_files_and_open_sides(rng, tmp_path, kind):
    maps = keras.Input((None, None, 3))
    places = keras.Input((None, 4))
    model = keras.Model([maps, places], kind((2, 3), SCALE)([maps, places]))
    assert model.output.shape == (None, None, 2, 3, 3)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.layers[-1].get_config() == model.layers[-1].get_config()
    inputs = [features(rng), boxes(rng)]
    expected = run(kind((2, 3), SCALE), *inputs)
    np.testing.assert_allclose(loaded.predict_on_batch(inputs), expected, atol=1e-5)


@pytest.mark.parametrize("kind", [RoIPool, RoIAlign])
def test_boxes_keep_their_digits_in_half_precision(rng, kind):
    maps = np.round(features(rng) * 4) / 4
    places = boxes(rng) * [8, 8, 8, 8]
    half = kind(2, SCALE / 8, dtype="mixed_bfloat16")
    found = ops.cast(half([ops.cast(maps, "bfloat16"), places]), "float32")
    expected = run(kind(2, SCALE / 8), maps, places)
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, atol=0.05)


@pytest.mark.parametrize("kind", [RoIPool, RoIAlign])
def test_wrong_inputs_are_refused_by_name(kind):
    layer = kind(2, 1.0, name="regions")
    with pytest.raises(ConvsuiteError, match="regions takes"):
        layer([np.zeros((4, 4, 1), "float32"), np.zeros((1, 1, 4), "float32")])
    with pytest.raises(ConvsuiteError, match=r"regions: boxes are .*not \(1, 5\)"):
        layer([np.zeros((1, 4, 4, 1), "float32"), np.zeros((1, 5), "float32")])

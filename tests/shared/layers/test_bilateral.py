"""Slicing against a plain triple loop, finite differences, and hand-made grids."""

import keras
import numpy as np
import pytest
from keras import ops

from shared.layers.bilateral import (
    bilateral_slice,
    bilateral_slice_apply,
    bilateral_slice_apply_points,
    pixel_positions,
)
from shared.layers.bilateral_numba import GuideConstants, slice_apply


def loop_slice_apply(grid, guide, image):
    """The published definition, pixel by pixel, tap by tap."""
    rows, columns, depth = grid.shape[:3]
    height, width = guide.shape
    out = np.zeros((height, width, 3))
    for y in range(height):
        for x in range(width):
            gx, gy = (x + 0.5) * columns / width, (y + 0.5) * rows / height
            gz = guide[y, x] * depth
            x0, y0, z0 = (int(np.floor(g - 0.5)) for g in (gx, gy, gz))
            matrix = np.zeros((3, 4))
            for yy in (y0, y0 + 1):
                for xx in (x0, x0 + 1):
                    for zz in (z0, z0 + 1):
                        weight = (
                            (1 - abs(xx + 0.5 - gx))
                            * (1 - abs(yy + 0.5 - gy))
                            * (1 - abs(zz + 0.5 - gz))
                        )
                        cell = (
                            min(max(yy, 0), rows - 1),
                            min(max(xx, 0), columns - 1),
                            min(max(zz, 0), depth - 1),
                        )
                        matrix += weight * grid[cell]
            out[y, x] = matrix[:, :3] @ image[y, x] + matrix[:, 3]
    return out


def random_case(seed):
    rng = np.random.default_rng(seed)
    rows, columns, depth = rng.integers(1, 7, 3)
    height, width = rng.integers(1, 14, 2)
    grid = rng.normal(size=(rows, columns, depth, 3, 4)).astype("float32")
    borders = np.concatenate(
        [[0, 1], np.arange(depth + 1) / depth, (np.arange(depth) + 0.5) / depth]
    )
    guide = rng.choice(np.concatenate([borders, rng.random(8)]), (height, width)).astype("float32")
    return grid, guide, rng.random((height, width, 3)).astype("float32")


def guide_of_red(depth_curve=None):
    """A guide that is the red channel itself."""
    matrix = np.zeros((3, 3), "float32")
    matrix[0, 0] = 1
    slopes = np.zeros((3, 16), "float32")
    slopes[0, 0] = 1
    knots = np.tile(np.arange(16, dtype="float32") / 16, (3, 1))
    return GuideConstants("curves", matrix, np.zeros(3, "float32"), slopes, knots, 0.0)


# Every seed has other shapes, which JAX compiles anew.
SEEDS = [*range(10), *(pytest.param(n, marks=pytest.mark.slow_on_jax) for n in range(10, 50))]


@pytest.mark.backends
@pytest.mark.parametrize("seed", SEEDS)
def test_equals_plain_loop(seed):
    grid, guide, image = random_case(seed)
    expected = loop_slice_apply(grid, guide, image)
    found = bilateral_slice_apply(grid[None], guide[None], image[None])
    np.testing.assert_allclose(ops.convert_to_numpy(found)[0], expected, atol=1e-5)


@pytest.mark.parametrize("seed", range(50))
def test_numba_equals_plain_loop(seed):
    grid, guide, image = random_case(seed)
    image[..., 0] = guide
    expected = loop_slice_apply(grid, guide, image)
    found = slice_apply(grid, guide_of_red(), image, clip=False)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(("kind", "white"), [("uint8", 255), ("uint16", 65535)])
def test_numba_integers_are_rounded(rng, kind, white):
    grid = rng.normal(0, 0.2, (16, 16, 8, 3, 4)) + np.eye(3, 4)
    image = rng.integers(0, white + 1, (61, 83, 3)).astype(kind)
    exact = slice_apply(grid, guide_of_red(), (image / white).astype("float32"))
    found = slice_apply(grid, guide_of_red(), image)
    assert np.abs(found - exact * white).max() <= 0.5 + 1e-3 * white / 255


def test_result_goes_where_it_is_asked_for(rng):
    image = rng.integers(0, 256, (20, 300, 3)).astype("uint8")
    grid = rng.normal(0, 0.2, (16, 16, 8, 3, 4)) + np.eye(3, 4)
    out = np.zeros_like(image)
    assert slice_apply(grid, guide_of_red(), image, out=out) is out
    np.testing.assert_array_equal(out, slice_apply(grid, guide_of_red(), image))
    with pytest.raises(ValueError, match="contiguous"):
        slice_apply(grid, guide_of_red(), image[:, ::2], out=out[:, ::2])


def test_curves_of_any_number_of_knots(rng):
    """Knots are padded to whole sweeps; a row is longer than several tiles."""
    image = rng.random((3, 300, 3)).astype("float32")
    for count in (1, 5, 16):
        slopes = rng.normal(0, 0.1, (3, count)).astype("float32")
        knots = rng.random((3, count)).astype("float32")
        matrix = rng.normal(size=(3, 3)).astype("float32")
        shift = rng.normal(size=3).astype("float32")
        guide = GuideConstants("curves", matrix, shift, slopes, knots, 0.4)
        value = (image.astype("float64") @ matrix + shift)[..., None]
        curves = (slopes * np.maximum(value - knots, 0)).sum((-2, -1))
        np.testing.assert_allclose(guide(image), np.clip(curves + 0.4, 0, 1), atol=2e-6)


def test_bands_of_rows_equal_the_whole(rng):
    grid = rng.normal(size=(16, 16, 8, 3, 4))
    image = rng.random((101, 40, 3)).astype("float32")
    whole = slice_apply(grid, guide_of_red(), image)
    parts = [
        slice_apply(grid, guide_of_red(), image[a:b], first_row=a, height=101)
        for a, b in ((0, 13), (13, 77), (77, 101))
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.backends
def test_constant_grid_is_one_matrix(rng):
    matrix = rng.normal(size=(3, 4)).astype("float32")
    grid = np.broadcast_to(matrix, (1, 5, 6, 7, 3, 4))
    image = rng.random((1, 11, 9, 3)).astype("float32")
    found = bilateral_slice_apply(grid, rng.random((1, 11, 9)).astype("float32"), image)
    expected = image @ matrix[:, :3].T + matrix[:, 3]
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, atol=1e-5)


@pytest.mark.backends
def test_one_marked_cell_colours_the_right_pixels():
    grid = np.zeros((4, 6, 8, 3, 4), "float32")
    grid[1, 4, 6, 0, 3] = 1  # red offset: row 1 of 4, column 4 of 6, bright
    height, width = 40, 60
    image = np.zeros((height, width, 3), "float32")
    bright, dark = (np.full((height, width), g, "float32") for g in (6.5 / 8, 1.5 / 8))
    for guide, seen in ((bright, 1.0), (dark, 0.0)):
        red = ops.convert_to_numpy(bilateral_slice_apply(grid[None], guide[None], image[None]))[0]
        red = red[..., 0]
        # The cell's centre is (1.5 / 4 of the height, 4.5 / 6 of the width): between four pixels.
        assert red[14:16, 44:46].min() == pytest.approx(seen * 0.95**2, abs=1e-5)
        assert not red[:5].any()
        assert not red[26:].any()
        assert not red[:, :35].any()
        assert not red[:, 55:].any()


@pytest.mark.backends
def test_gradients_equal_finite_differences(rng):
    """A linear probe of the output is differentiated through the running backend."""
    grid = rng.normal(size=(1, 3, 3, 4, 3, 4)).astype("float32")
    guide = (0.2 + 0.5 * rng.random((1, 5))).astype("float32")
    positions = rng.random((1, 5, 2)).astype("float32")
    colours = rng.random((1, 5, 3)).astype("float32")
    probe = rng.normal(size=(1, 5, 3)).astype("float32")

    def value(grid, guide):
        out = bilateral_slice_apply_points(grid, guide, positions, colours)
        return ops.sum(ops.multiply(out, probe))

    by_grid, by_guide = gradients(value, grid, guide)
    step = 1e-2
    for array, gradient, other in ((grid, by_grid, "grid"), (guide, by_guide, "guide")):
        for index in list(np.ndindex(array.shape))[:: max(1, array.size // 25)]:
            if other == "guide" and crosses_a_sample(array[index], step):
                continue
            high, low = array.copy(), array.copy()
            high[index] += step
            low[index] -= step
            pair = ((high, guide), (low, guide)) if other == "grid" else ((grid, high), (grid, low))
            difference = (float(value(*pair[0])) - float(value(*pair[1]))) / (2 * step)
            assert gradient[index] == pytest.approx(difference, abs=5e-3, rel=5e-3)


def crosses_a_sample(guide, step, depth=4):
    position = guide * depth - 0.5
    return np.floor(position - step * depth) != np.floor(position + step * depth)


def gradients(function, *arrays):
    """Gradients by the running backend's own machinery."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        variables = [tf.Variable(array) for array in arrays]
        with tf.GradientTape() as tape:
            value = function(*variables)
        return [
            tf.convert_to_tensor(gradient).numpy() for gradient in tape.gradient(value, variables)
        ]
    if keras.backend.backend() == "jax":
        import jax

        return [
            np.asarray(gradient)
            for gradient in jax.grad(function, argnums=tuple(range(len(arrays))))(*arrays)
        ]
    import torch

    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    function(*tensors).backward()
    return [tensor.grad.numpy() for tensor in tensors]


@pytest.mark.backends
def test_positions_are_pixel_centres():
    found = ops.convert_to_numpy(pixel_positions(2, 4))
    np.testing.assert_allclose(
        found[:5], [[1 / 8, 1 / 4], [3 / 8, 1 / 4], [5 / 8, 1 / 4], [7 / 8, 1 / 4], [1 / 8, 3 / 4]]
    )


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match="5 axes"):
        bilateral_slice(np.zeros((1, 2, 2, 12)), np.zeros((1, 3, 2)), np.zeros((1, 3)))
    with pytest.raises(ValueError, match="Positions"):
        bilateral_slice(np.zeros((1, 2, 2, 2, 12)), np.zeros((1, 4, 2)), np.zeros((1, 3)))
    with pytest.raises(TypeError, match="uint8, uint16 or float32"):
        slice_apply(np.zeros((2, 2, 2, 3, 4)), guide_of_red(), np.zeros((4, 4, 3)))


def test_keep_hue_limits_without_changing_the_hue():
    grid = np.broadcast_to(2 * np.eye(3, 4), (2, 2, 2, 3, 4))
    image = np.full((3, 3, 3), [0.8, 0.4, 0.2], "float32")
    plain = slice_apply(grid, guide_of_red(), image)[0, 0]
    kept = slice_apply(grid, guide_of_red(), image, keep_hue=True)[0, 0]
    np.testing.assert_allclose(plain, [1, 0.8, 0.4], atol=1e-5)
    assert kept[0] == pytest.approx(1, abs=1e-5)
    # The order and the proportions of the distances from grey stay.
    wanted = np.array([1.6, 0.8, 0.4])
    ratio = (kept[0] - kept[1]) / (kept[1] - kept[2])
    assert ratio == pytest.approx((wanted[0] - wanted[1]) / (wanted[1] - wanted[2]), rel=1e-4)

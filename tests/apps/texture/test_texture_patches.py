"""The patch energy against loops, central differences and the three backends; descent, resuming."""

import numpy as np
import pytest

from apps.texture import patches
from apps.texture.patches import Clouds, descend, directions, value_and_gradient
from shared import backend

BORDERS = ["zero", "reflect", "wrap"]


def energy_by_loops(picture, exemplars, mix, kernels, border, quantiles=10**9):
    """Return E in float64: patch by patch, with NumPy's interpolation."""
    size = kernels.shape[1]
    pads = {"zero": (0, 0), "wrap": (0, size - 1), "reflect": (size - 1, size - 1)}[border]
    mode = "edge" if border == "zero" else border
    padded = np.pad(np.asarray(picture, np.float64), (pads, pads, (0, 0)), mode=mode)

    def seen(image, kernel):
        rows, columns = (side - size + 1 for side in image.shape[:2])
        values = [
            (image[y : y + size, x : x + size] * kernel).sum()
            for y in range(rows)
            for x in range(columns)
        ]
        return np.sort(values)

    def levels(values, count):
        ranks = (np.arange(count) + 0.5) / count
        return np.interp(ranks, (np.arange(len(values)) + 0.5) / len(values), values)

    parts = []
    for kernel in kernels.astype(np.float64):
        own = seen(padded, kernel)
        wanted = sum(
            weight * levels(seen(np.float64(exemplar), kernel), min(quantiles, len(own)))
            for exemplar, weight in zip(exemplars, mix, strict=True)
        )
        parts.append(np.abs(own - levels(wanted, len(own))).mean())
    return np.mean(parts)


@pytest.mark.parametrize("border", BORDERS)
def test_energy_equals_loops(rng, border):
    picture = rng.random((12, 15, 3)).astype(np.float32)
    exemplars = [rng.random(size).astype(np.float32) for size in ((9, 20, 3), (17, 8, 3))]
    kernels = directions(3, 5, 1)
    for quantiles in (20, 10**6):
        energy, _ = value_and_gradient(
            picture,
            Clouds(exemplars, [3, 1], 5),
            kernels,
            quantiles=quantiles,
            borders=(border, border),
        )
        expected = energy_by_loops(
            picture, exemplars, [0.75, 0.25], kernels, border, quantiles=quantiles
        )
        assert energy == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("border", BORDERS)
def test_gradient_equals_central_differences(rng, border):
    picture = rng.random((24, 24, 3)).astype(np.float32)
    exemplar = rng.random((20, 26, 3)).astype(np.float32)
    kernels = directions(2, 7, 0)
    _, gradient = value_and_gradient(
        picture, Clouds([exemplar], [1], 7), kernels, borders=(border, border)
    )
    places = [(0, 0, 0), (23, 23, 2), (0, 11, 1), *rng.integers(0, (24, 24, 3), (7, 3))]
    step = 1e-7  # E is straight between kinks
    for place in map(tuple, places):
        ends = []
        for sign in (1, -1):
            moved = np.float64(picture)
            moved[place] += sign * step
            ends.append(energy_by_loops(moved, [exemplar], [1], kernels, border, 1024))
        expected = (ends[0] - ends[1]) / (2 * step)
        scale = float(np.abs(gradient).max())
        assert float(gradient[place]) == pytest.approx(expected, rel=1e-5, abs=1e-5 * scale)


@pytest.mark.backends
@pytest.mark.parametrize("border", ["zero", "wrap"])
def test_value_and_gradient_equal_those_of_a_framework(rng, border):
    from keras import ops

    picture = rng.random((24, 24, 3)).astype(np.float32)
    kernels = directions(8, 7, 5)
    # As many patches as the picture has: the reference does not interpolate.
    wanted = rng.random((24, 24, 3) if border == "zero" else (30, 30, 3)).astype(np.float32)

    def energy(image, other, filters):
        if border == "wrap":
            image = ops.concatenate([image, image[:6]], axis=0)
            image = ops.concatenate([image, image[:, :6]], axis=1)
        seen = [
            ops.sort(ops.reshape(ops.conv(x[None], filters, padding="valid"), (-1, 8)), axis=0)
            for x in (image, other)
        ]
        return ops.mean(ops.abs(seen[0] - seen[1]))

    filters = np.ascontiguousarray(kernels.transpose(1, 2, 3, 0))
    value, gradient = backend.value_and_grad(energy)(picture, wanted, filters)
    own, own_gradient = value_and_gradient(
        picture, Clouds([wanted], [1], 7), kernels, quantiles=10**6, borders=(border, border)
    )
    assert own == pytest.approx(float(value), rel=1e-5)
    np.testing.assert_allclose(own_gradient, gradient, atol=1e-4 * np.abs(gradient).max())


@pytest.mark.parametrize("limit", ["_POSITIONS_AT_ONCE", "_VALUES_AT_ONCE"])
def test_bands_and_groups_do_not_change_anything(rng, monkeypatch, limit):
    picture = rng.random((20, 30, 3)).astype(np.float32)
    clouds, kernels = Clouds([picture[:15]], [1], 7), directions(4, 7, 0)
    energy, gradient = value_and_gradient(picture, clouds, kernels)
    monkeypatch.setattr(patches, limit, 64)
    in_bands = value_and_gradient(picture, clouds, kernels)
    assert in_bands[0] == pytest.approx(energy, rel=1e-6)
    # Sums in another order may swap two patches that are as good as equal, which changes a sign.
    assert np.linalg.norm(in_bands[1] - gradient) < 0.1 * np.linalg.norm(gradient)


def test_large_exemplars_are_sampled(rng, monkeypatch):
    large = rng.uniform(size=(120, 130, 3)).astype(np.float32) ** 2
    kernels = directions(16, 5, 0)
    wanted = Clouds([large], [1.0], 5).quantiles(kernels, 100)
    monkeypatch.setattr(patches, "_MOST_PATCHES", 4000)
    sampled = Clouds([large], [1.0], 5)
    assert sampled._views[0](kernels).shape == (16, 4000)
    found = sampled.quantiles(kernels, 100)
    assert 0 < np.abs(found - wanted).mean() < 0.02 * np.ptp(wanted)
    # The patches that are drawn are patches of the exemplar.
    every = patches._project(patches._planes(large), kernels)
    values = np.sort(every[0])
    near = np.searchsorted(values, found[0, 50])
    assert values[near - 1] <= found[0, 50] <= values[near]
    seen = sampled._views[0](kernels)[0]
    at = np.clip(np.searchsorted(values, seen), 1, len(values) - 1)
    assert np.minimum(seen - values[at - 1], values[at] - seen).max() < 1e-4


def test_wrapped_energy_does_not_change_when_the_picture_rolls(rng):
    picture, exemplar = rng.random((2, 16, 20, 3)).astype(np.float32)
    clouds, kernels = Clouds([exemplar], [1], 7), directions(4, 7, 0)
    energy, gradient = value_and_gradient(picture, clouds, kernels, borders=("wrap", "wrap"))
    rolled = np.roll(picture, (5, 9), (0, 1))
    again = value_and_gradient(rolled, clouds, kernels, borders=("wrap", "wrap"))
    assert again[0] == pytest.approx(energy, rel=1e-5)
    rolled = np.roll(gradient, (5, 9), (0, 1))
    assert np.linalg.norm(again[1] - rolled) < 0.1 * np.linalg.norm(rolled)


def test_exemplar_itself_has_no_energy(rng):
    picture = rng.random((14, 14, 3)).astype(np.float32)
    clouds, kernels = Clouds([picture], [2], 7), directions(4, 7, 0)
    energy, gradient = value_and_gradient(picture, clouds, kernels, borders=("zero", "zero"))
    assert energy == 0
    assert not gradient.any()


def test_sorting_by_integers_equals_argsort(rng):
    values = np.concatenate([rng.normal(size=500), [0, -1e-40, 1e30, -1e30]]).astype(np.float32)
    ordered, order = patches._sorted(values, np.arange(len(values)))
    np.testing.assert_array_equal(ordered, np.sort(values))
    np.testing.assert_array_equal(values[order], ordered)
    tied = np.zeros(9, np.float32)
    np.testing.assert_array_equal(patches._sorted(tied, np.arange(9))[1], np.arange(9))


def stripes(size, period=6):
    x = np.arange(size)
    wave = np.tile(0.5 + 0.45 * np.sin(2 * np.pi * x / period), (size, 1))
    return np.stack([wave, 1 - wave, 0.3 + 0.4 * wave], axis=2).astype(np.float32)


@pytest.mark.parametrize("border", BORDERS)
def test_descent_finds_the_exemplars_patches(rng, border):
    noise = rng.random((24, 32, 3)).astype(np.float32)
    start = 0.5 * stripes(32)[:24] + 0.25 * noise + 0.1
    picture, energies = descend(
        start, [stripes(30)], [1], steps=60, projections=16, borders=(border, border)
    )
    assert picture.shape == start.shape
    assert picture.dtype == np.float32
    assert 0 <= picture.min() <= picture.max() <= 1
    assert len(energies) == 60
    assert np.mean(energies[-5:]) < energies[0] / 4


def test_same_seed_same_picture_other_seed_another(rng):
    start = rng.random((16, 20, 3)).astype(np.float32)
    first, again, other = (
        descend(start, [stripes(16)], [1], steps=5, projections=8, seed=seed)[0]
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


def test_resuming_is_exact(rng):
    start = rng.random((16, 16, 3)).astype(np.float32)
    settings = {"steps": 12, "projections": 8, "seed": 4}
    seen = {}

    def watch(step, value, picture, state):
        seen[step] = (value, picture, state)

    picture, energies = descend(start, [stripes(12)], [1], every=5, watch=watch, **settings)
    assert list(seen) == [5, 10]
    assert [seen[5][0], seen[10][0]] == [energies[4], energies[9]]
    assert all(isinstance(array, np.ndarray) for array in seen[5][2].values())
    resumed, resumed_energies = descend(
        np.zeros_like(start), [stripes(12)], [1], state=seen[5][2], **settings
    )
    np.testing.assert_array_equal(resumed, picture)
    assert resumed_energies == energies


def test_mask_holds_pixels(rng):
    start = rng.random((16, 20, 3)).astype(np.float32)
    mask = np.zeros((16, 20), np.float32)
    mask[:, 8:14] = 1
    picture, _ = descend(start, [stripes(16)], [1], steps=5, projections=8, mask=mask)
    changed = (picture != start).any(axis=2)
    np.testing.assert_array_equal(picture[mask == 0], start[mask == 0])
    assert changed[mask == 1].mean() > 0.9


def test_mixture_lies_between(rng):
    dark, bright = np.float32(0.2), np.float32(0.8)
    exemplars = [np.full((10, 10, 3), dark), np.full((12, 9, 3), bright)]
    start = rng.random((16, 16, 3)).astype(np.float32)
    picture, _ = descend(
        start, exemplars, [3, 1], steps=100, projections=4, borders=("wrap", "wrap")
    )
    assert picture.mean() == pytest.approx(0.75 * 0.2 + 0.25 * 0.8, abs=0.02)


def test_mistakes(rng):
    picture = rng.random((16, 16, 3)).astype(np.float32)
    with pytest.raises(ValueError, match="weights"):
        Clouds([picture], [1, 1], 7)
    with pytest.raises(ValueError, match="weights"):
        Clouds([picture], [0], 7)
    with pytest.raises(ValueError, match="no patch of 7"):
        Clouds([picture[:6]], [1], 7)
    with pytest.raises(ValueError, match="too small"):
        value_and_gradient(picture[:, :5], Clouds([picture], [1], 7), directions(2, 7, 0))

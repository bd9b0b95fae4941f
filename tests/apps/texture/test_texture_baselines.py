"""Quilting and worse: cuts against all paths, pieces of the exemplar, errors."""

import itertools

import numpy as np
import pytest

from apps.texture import baselines
from shared import metrics
from shared.errors import ConvsuiteError


@pytest.fixture
def exemplar(rng):
    """Noise of which no two pixels are equal."""
    return rng.random((40, 52, 3)).astype("float32")


def cheapest_path(difference):
    """Return the columns of the cheapest path, of all that move by at most one."""
    height, width = difference.shape
    paths = [
        path
        for path in itertools.product(range(width), repeat=height)
        if all(abs(a - b) <= 1 for a, b in itertools.pairwise(path))
    ]
    costs = [sum(difference[y, x] for y, x in enumerate(path)) for path in paths]
    return paths[int(np.argmin(costs))]


def test_the_cut_is_the_cheapest_of_all_paths(rng):
    for _ in range(10):
        difference = rng.random((6, 4))
        expected = [[x < end for x in range(4)] for end in cheapest_path(difference)]
        assert baselines.before_cut(difference).tolist() == expected


def test_the_cut_follows_a_valley():
    difference = np.ones((5, 6))
    valley = [1, 2, 3, 3, 4]
    difference[range(5), valley] = 0
    assert baselines.before_cut(difference).sum(axis=1).tolist() == valley


@pytest.mark.parametrize("make", [baselines.quilting, baselines.shuffled, baselines.tiled_crop])
@pytest.mark.parametrize("size", [(50, 33), (7, 90)])
def test_every_pixel_comes_from_the_exemplar(exemplar, make, size):
    options = {"side": 12} if make is baselines.tiled_crop else {"patch": 12}
    if make is baselines.quilting:
        options["overlap"] = 4
    for source in (exemplar, exemplar[..., 0]):
        result = make(source, size, **options, seed=3)
        assert result.shape == (*size, *source.shape[2:])
        assert result.dtype == np.float32
        pixels = {p.tobytes() for p in source.reshape(-1, *source.shape[2:])}
        assert all(p.tobytes() in pixels for p in result.reshape(-1, *source.shape[2:]))
        assert np.array_equal(result, make(source, size, **options, seed=3))
        assert not np.array_equal(result, make(source, size, **options, seed=4))


def test_quilting_chooses_what_fits(exemplar):
    """A patch that goes on where its neighbour ends is the best there is; the seam vanishes."""
    y, x = np.mgrid[:64, :64]
    waves = (0.5 + 0.3 * np.sin(x / 2.5) + 0.2 * np.sin(y / 3)).astype("float32")
    quilted = baselines.quilting(waves, (96, 96), patch=24, overlap=8)
    largest = max(np.abs(np.diff(waves, axis=axis)).max() for axis in (0, 1))
    for axis in (0, 1):
        assert np.abs(np.diff(quilted, axis=axis)).max() < 1.5 * largest
    pasted = baselines.shuffled(waves, (96, 96), patch=24)
    assert max(np.abs(np.diff(pasted, axis=axis)).max() for axis in (0, 1)) > 2 * largest


def test_quilting_finds_the_only_patch_that_fits(exemplar):
    place = np.zeros((12, 12, 3), np.float32)
    place[:, :4], place[:4] = exemplar[20:32, 31:35], exemplar[20:24, 31:43]
    known = np.zeros((12, 12), bool)
    known[:, :4] = known[:4] = True
    place[~known] = 5  # what is not known does not count
    corner = baselines._fitting(exemplar, place, known, np.random.default_rng(0))
    assert tuple(corner) == (20, 31)


def test_shuffled_patches_are_copies_and_tiles_repeat(exemplar):
    shuffled = baselines.shuffled(exemplar, (32, 32), patch=16)
    assert metrics.novelty(shuffled, exemplar, 16, 16) == pytest.approx((1, 1), abs=1e-4)
    tiled = baselines.tiled_crop(exemplar, (40, 56), side=20)
    assert np.array_equal(tiled[:20, :36], tiled[20:, 20:])
    assert metrics.novelty(tiled, exemplar, 20, 20) == pytest.approx((1, 1), abs=1e-4)


def test_what_is_too_small_is_refused(exemplar):
    for make, limit in [
        (baselines.quilting, 32),
        (baselines.shuffled, 32),
        (baselines.tiled_crop, 48),
    ]:
        small = exemplar[:, : limit - 1]
        with pytest.raises(ConvsuiteError, match=rf"smaller than a patch of {limit} x {limit}"):
            make(small, (64, 64))
    for overlap in (0, 16):
        with pytest.raises(ConvsuiteError, match="overlap of 1 to 15"):
            baselines.quilting(exemplar, (64, 64), patch=16, overlap=overlap)

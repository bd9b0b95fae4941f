"""Grids over time: noise is averaged, cuts and changes of exposure are not smeared."""

import numpy as np
import pytest

from apps.enhance.temporal import CUT, GridSmoother

STILL = np.full((256, 256, 3), 0.4, "float32")


def grids(rng, count, spread=0.1):
    return [rng.normal(1, spread, (2, 2, 2, 3, 4)).astype("float32") for _ in range(count)]


def test_noise_is_averaged_with_the_stated_time_constant(rng):
    smoother = GridSmoother(30, 0.3)
    found = [smoother(STILL, grid) for grid in grids(rng, 300)]
    weight = 1 - np.exp(-1 / 9)
    expected = 0.1 * np.sqrt(weight / (2 - weight))
    assert np.std(found[100:]) == pytest.approx(expected, rel=0.1)


def test_off_passes_every_grid_on(rng):
    smoother = GridSmoother(30, "off")
    for grid in grids(rng, 5):
        np.testing.assert_array_equal(smoother(STILL, grid), grid)


def test_a_cut_starts_afresh(rng):
    for smooth in ("auto", 0.3, 5.0):
        smoother = GridSmoother(30, smooth)
        for grid in grids(rng, 10):
            smoother(STILL, grid)
        fresh = grids(rng, 1)[0]
        np.testing.assert_array_equal(smoother(STILL + np.float32(1.1 * CUT), fresh), fresh)


def test_auto_follows_brightness_and_a_fixed_constant_does_not(rng):
    brighter = STILL + np.float32(0.02)
    first, second = grids(rng, 2)
    followed = []
    for smooth in ("auto", 0.3):
        smoother = GridSmoother(30, smooth)
        smoother(STILL, first)
        followed.append(np.abs(smoother(brighter, second) - second).max())
    assert followed[0] < 1e-6
    assert followed[1] > 0.05

import numpy as np
import pytest
from scipy import optimize

from apps.texture import optimise


def rosenbrock(x):
    x = x.astype(np.float64)
    return float(optimize.rosen(x)), optimize.rosen_der(x).astype(np.float32)


def test_finds_the_minimum_that_scipy_finds():
    done = optimise.lbfgs(
        rosenbrock, np.full(6, -0.5, np.float32), steps=300, bounds=(-2, 2), tolerance=0
    )
    np.testing.assert_allclose(done.picture, np.ones(6), atol=0.02)


def test_stays_within_bounds_where_scipy_does():
    rng = np.random.default_rng(0)
    basis = rng.normal(size=(12, 12))
    matrix, centre = basis @ basis.T + np.eye(12), rng.uniform(-1, 2, 12)

    def quadratic(x):
        away = x.astype(np.float64) - centre
        return float(away @ matrix @ away / 2), (matrix @ away).astype(np.float32)

    done = optimise.lbfgs(quadratic, np.full(12, 0.5, np.float32), steps=200, tolerance=1e-9)
    known = optimize.minimize(
        lambda x: quadratic(x)[0], np.full(12, 0.5), method="L-BFGS-B", bounds=[(0, 1)] * 12
    )
    np.testing.assert_allclose(done.picture, known.x, atol=2e-3)
    assert done.picture.min() >= 0
    assert done.picture.max() <= 1


def test_energy_falls_at_every_step():
    done = optimise.lbfgs(rosenbrock, np.zeros(5, np.float32), steps=40, bounds=(-2, 2))
    assert np.all(np.diff(done.curve) < 0)


@pytest.mark.parametrize("stop", [1, 7, 20])
def test_going_on_gives_what_an_uninterrupted_run_gives(stop):
    kept = {}

    def watch(step, value, picture, state):
        kept[step] = state

    start = np.zeros(5, np.float32)
    full = optimise.lbfgs(
        rosenbrock, start, steps=30, bounds=(-2, 2), memory=4, every=1, watch=watch, tolerance=0
    )
    again = optimise.lbfgs(
        rosenbrock, start, steps=30, bounds=(-2, 2), memory=4, state=kept[stop], tolerance=0
    )
    np.testing.assert_array_equal(again.picture, full.picture)
    assert again.curve == full.curve


def test_mask_holds_what_it_covers():
    mask = np.array([1, 0, 1, 0, 1], np.float32)
    done = optimise.lbfgs(
        rosenbrock, np.full(5, 0.2, np.float32), steps=20, bounds=(-2, 2), mask=mask
    )
    np.testing.assert_array_equal(done.picture[[1, 3]], np.float32(0.2))
    assert np.abs(done.picture[[0, 2, 4]] - 0.2).min() > 0.01


def test_stops_when_nothing_is_gained():
    def flat(x):
        return 1 + 1e-9 * float(x @ x), (2e-9 * x).astype(np.float32)

    done = optimise.lbfgs(flat, np.ones(3, np.float32), steps=500, bounds=(-2, 2))
    assert len(done.curve) <= 22


def test_stops_when_no_value_moves_any_more():
    start, kept = np.full(50, -0.5, np.float32), {}

    def watch(step, value, picture, state):
        kept[step] = state

    def run(**options):
        return optimise.lbfgs(
            rosenbrock, start, steps=2000, bounds=(-2, 2), tolerance=0.0, still=10.0, **options
        )

    done = run(every=40, watch=watch)
    assert len(done.curve) == 52
    assert run(state=kept[40]).curve == done.curve
    assert len(optimise.lbfgs(rosenbrock, start, steps=60, tolerance=0.0).curve) > 52


def test_a_start_without_slope_is_returned():
    done = optimise.lbfgs(lambda x: (0.0, np.zeros_like(x)), np.ones(3, np.float32), steps=5)
    np.testing.assert_array_equal(done.picture, 1)

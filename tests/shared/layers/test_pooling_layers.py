"""Pooling layers against torch and against loops over windows."""

import numpy as np
import pytest
from keras import ops

from shared.errors import ConvsuiteError
from shared.layers import CeilPool, LpPool, Maxout, MixedPool, SpatialPyramidPool, StochasticPool


def run(layer, x, **options):
    return ops.convert_to_numpy(layer(np.asarray(x, "float32"), **options))


def loop_pool(x, size, stride, function, rows, columns):
    """Apply a function to each window of each channel, clipped to the map."""
    out = np.zeros((x.shape[0], rows, columns, x.shape[3]))
    for b, i, j, c in np.ndindex(out.shape):
        top, left = i * stride, j * stride
        out[b, i, j, c] = function(x[b, top : top + size, left : left + size, c])
    return out


def torch_pool(peer, x):
    torch = pytest.importorskip("torch")
    return peer(torch)(torch.tensor(x.transpose(0, 3, 1, 2))).numpy().transpose(0, 2, 3, 1)


CEIL = [(3, 2, 7, 8), (3, 2, 8, 13), (2, 2, 5, 5), (3, 1, 5, 4), (5, 3, 14, 9), (2, 3, 8, 7)]


@pytest.mark.backends
@pytest.mark.parametrize(("size", "stride", "height", "width"), CEIL)
@pytest.mark.parametrize("mode", ["max", "avg"])
def test_ceil_pool_clips_its_last_window(rng, mode, size, stride, height, width):
    x = rng.normal(size=(2, height, width, 3)).astype("float32")
    rows, columns = (-(-(side - size) // stride) + 1 for side in (height, width))
    # A window that would begin outside is none.
    rows -= (rows - 1) * stride >= height
    columns -= (columns - 1) * stride >= width
    function = {"max": np.max, "avg": np.mean}[mode]
    expected = loop_pool(x, size, stride, function, rows, columns)
    np.testing.assert_allclose(run(CeilPool(size, stride, mode), x), expected, atol=1e-6)


@pytest.mark.backends
@pytest.mark.parametrize(("size", "stride", "height", "width"), CEIL)
@pytest.mark.parametrize("mode", ["max", "avg"])
def test_ceil_pool_equals_torch(rng, mode, size, stride, height, width):
    x = rng.normal(size=(2, height, width, 3)).astype("float32")
    name = {"max": "MaxPool2d", "avg": "AvgPool2d"}[mode]
    expected = torch_pool(lambda torch: getattr(torch.nn, name)(size, stride, ceil_mode=True), x)
    np.testing.assert_allclose(run(CeilPool(size, stride, mode), x), expected, atol=1e-6)


@pytest.mark.backends
@pytest.mark.parametrize("p", [1, 2, 3.5])
def test_lp_pool_equals_its_formula(rng, p):
    x = rng.random((2, 7, 8, 3)).astype("float32")
    found = run(LpPool(3, 2, p), x)
    expected = loop_pool(x, 3, 2, lambda w: (np.sum(np.float64(w) ** p)) ** (1 / p), 3, 3)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(run(LpPool(3, 2, p), -x), expected, atol=1e-5)


@pytest.mark.backends
@pytest.mark.parametrize("p", [1, 2, 3.5])
def test_lp_pool_equals_torch(rng, p):
    x = rng.random((2, 7, 8, 3)).astype("float32")
    expected = torch_pool(lambda torch: torch.nn.LPPool2d(p, 3, 2), x)
    np.testing.assert_allclose(run(LpPool(3, 2, p), x), expected, atol=1e-5)


@pytest.mark.backends
def test_lp_pool_reaches_from_sum_to_maximum(rng):
    x = 1 + rng.random((1, 6, 6, 2)).astype("float32")
    total, maximum = (loop_pool(x, 2, 2, f, 3, 3) for f in (np.sum, np.max))
    np.testing.assert_allclose(run(LpPool(2, p=1), x), total, atol=1e-5)
    np.testing.assert_array_equal(run(LpPool(2, p=float("inf")), -x), maximum.astype("float32"))
    np.testing.assert_allclose(run(LpPool(2, p=60), x), maximum, rtol=0.03)
    assert np.isfinite(run(LpPool(2, p=2), np.zeros((1, 2, 2, 1)))).all()


@pytest.mark.backends
def test_mixed_pool_tosses_a_coin_per_step(rng):
    x = rng.random((1, 4, 4, 3)).astype("float32")
    maximum, mean = (loop_pool(x, 2, 2, f, 2, 2) for f in (np.max, np.mean))
    layer = MixedPool(2, seed=3)
    np.testing.assert_allclose(run(layer, x), (maximum + mean) / 2, atol=1e-6)
    steps = [run(layer, x, training=True) for _ in range(200)]
    is_maximum = [np.allclose(step, maximum, atol=1e-6) for step in steps]
    is_mean = [np.allclose(step, mean, atol=1e-6) for step in steps]
    assert np.all(np.array(is_maximum) ^ np.array(is_mean))
    assert abs(sum(is_maximum) - 100) < 3 * np.sqrt(200 / 4)


@pytest.mark.backends
def test_gated_pool_weighs_each_window(rng):
    x = rng.normal(size=(2, 7, 7, 3)).astype("float32")
    layer = MixedPool(3, 2, gated=True)
    layer.build(x.shape)
    gate = rng.normal(size=(9, 1)).astype("float32")
    layer.set_weights([gate, *layer.get_weights()[1:]])

    def formula(window):
        part = 1 / (1 + np.exp(-np.sum(window.ravel() * gate[:, 0])))
        return part * window.max() + (1 - part) * window.mean()

    np.testing.assert_allclose(run(layer, x), loop_pool(x, 3, 2, formula, 3, 3), atol=1e-5)


@pytest.mark.backends
def test_stochastic_pool_draws_in_proportion():
    draws = 20_000
    window = np.array([[0.0, 1.0, 0.2], [3.0, -2.0, 0.5], [0.0, 0.3, 2.0]], "float32")
    x = np.broadcast_to(window[None, :, :, None], (draws, 3, 3, 1))
    drawn = run(StochasticPool(3, seed=5), x, training=True).ravel()
    values = window[window > 0]
    chances = values / values.sum()
    mean = np.sum(values * chances)
    deviation = np.sqrt(np.sum(values**2 * chances) - mean**2)
    assert abs(drawn.mean() - mean) < 3 * deviation / np.sqrt(draws)
    for value, chance in zip(values, chances, strict=True):
        error = np.sqrt(chance * (1 - chance) / draws)
        assert abs(np.mean(drawn == value) - chance) < 3.5 * error
    assert set(drawn) == set(values)
    np.testing.assert_allclose(run(StochasticPool(3), x[:1]).ravel(), [mean], atol=1e-6)


@pytest.mark.backends
def test_stochastic_pool_of_zeros_is_zero():
    x = np.zeros((2, 4, 4, 3))
    x[1] = -1
    for training in (False, True):
        assert not run(StochasticPool(2), x, training=training).any()


@pytest.mark.backends
@pytest.mark.parametrize(("height", "width"), [(7, 9), (40, 13), (6, 6), (2, 3)])
def test_pyramid_has_one_length_and_the_bins_of_the_paper(rng, height, width):
    x = rng.normal(size=(2, height, width, 5)).astype("float32")
    layer = SpatialPyramidPool([6, 3, 2, 1])
    found = run(layer, x)
    assert found.shape == (2, 50 * 5)
    expected = []
    for n in layer.levels:
        for i, j in np.ndindex(n, n):
            rows = slice(i * height // n, int(np.ceil((i + 1) * height / n)))
            columns = slice(j * width // n, int(np.ceil((j + 1) * width / n)))
            expected.append(x[:, rows, columns].max((1, 2)))
    np.testing.assert_array_equal(found, np.concatenate(expected, 1))


@pytest.mark.backends
@pytest.mark.parametrize(("height", "width"), [(7, 9), (40, 13)])
def test_pyramid_equals_torch(rng, height, width):
    x = rng.normal(size=(2, height, width, 5)).astype("float32")
    layer = SpatialPyramidPool([6, 3, 2, 1])
    levels = [
        torch_pool(lambda torch, n=n: torch.nn.AdaptiveMaxPool2d(n), x).reshape(2, -1)
        for n in layer.levels
    ]
    np.testing.assert_array_equal(run(layer, x), np.concatenate(levels, 1))


@pytest.mark.backends
def test_maxout_takes_neighbouring_channels(rng):
    x = rng.normal(size=(2, 3, 12)).astype("float32")
    expected = x.reshape(2, 3, 4, 3).max(-1)
    np.testing.assert_array_equal(run(Maxout(3), x), expected)
    np.testing.assert_array_equal(run(Maxout(1), x), x)
    with pytest.raises(ConvsuiteError, match="12 channels are no multiple of 5"):
        Maxout(5)(x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CeilPool(3, 2, mode="min"), "max or avg, not min"),
        (lambda: CeilPool(0), "1 or more"),
        (lambda: LpPool(2, p=0.5), "1 or more, not 0.5"),
        (lambda: LpPool(2, p=float("nan")), "1 or more, not nan"),
        (lambda: Maxout(0), "1 or more, not 0"),
    ],
)
def test_senseless_arguments_are_refused(make, message):
    with pytest.raises(ConvsuiteError, match=message):
        make()

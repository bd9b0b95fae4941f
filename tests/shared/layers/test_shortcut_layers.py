"""Highway layers, stochastic depth and padded shortcuts against their formulas."""

import numpy as np
import pytest
from keras import ops

from shared.errors import ConvsuiteError
from shared.layers import ChannelPad, HighwayConv, HighwayDense, StochasticDepth


def run(layer, x, **options):
    return ops.convert_to_numpy(layer(np.asarray(x, "float32"), **options))


@pytest.mark.backends
def test_channel_pad_subsamples_and_puts_zeros_behind(rng):
    x = rng.normal(size=(2, 7, 8, 3)).astype("float32")
    found = run(ChannelPad(5, 2), x)
    assert found.shape == (2, 4, 4, 5)
    np.testing.assert_array_equal(found[..., :3], x[:, ::2, ::2])
    assert not found[..., 3:].any()
    np.testing.assert_array_equal(run(ChannelPad(3), x), x)


@pytest.mark.backends
def test_stochastic_depth_drops_and_scales(rng):
    x = rng.normal(size=(4, 2, 2, 3)).astype("float32")
    layer = StochasticDepth(0.8, seed=2)
    np.testing.assert_allclose(run(layer, x), 0.8 * x, atol=1e-6)
    steps = [run(layer, x, training=True) for _ in range(300)]
    kept = [np.array_equal(step, x) for step in steps]
    dropped = [not step.any() for step in steps]
    assert np.all(np.array(kept) ^ np.array(dropped))
    assert abs(sum(kept) - 240) < 3 * np.sqrt(300 * 0.8 * 0.2)
    for survival, expected in ((1.0, x), (0.0, 0 * x)):
        found = run(StochasticDepth(survival), x, training=True)
        np.testing.assert_array_equal(found, expected)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.backends
def test_highway_dense_mixes_by_its_gate(rng):
    x = rng.normal(size=(5, 6)).astype("float32")
    layer = HighwayDense(6, bias=-1.5)
    layer.build(x.shape)
    kernel, bias, gate_kernel, gate_bias = layer.get_weights()
    assert (gate_bias == -1.5).all()
    bias = rng.normal(size=6).astype("float32")
    layer.set_weights([kernel, bias, gate_kernel, gate_bias])
    gate = sigmoid(x @ gate_kernel + gate_bias)
    expected = gate * np.maximum(x @ kernel + bias, 0) + (1 - gate) * x
    np.testing.assert_allclose(run(layer, x), expected, atol=1e-5)
    assert layer.count_params() == layer.macs((6,), (6,)) + 12 == 84


@pytest.mark.backends
def test_highway_convolution_equals_torch(rng):
    torch = pytest.importorskip("torch")
    x = rng.normal(size=(2, 6, 7, 4)).astype("float32")
    layer = HighwayConv(4, 3)
    layer.build(x.shape)
    weights = [rng.normal(0, 0.3, w.shape).astype("float32") for w in layer.get_weights()]
    layer.set_weights(weights)

    def convolve(kernel, bias):
        kernel = torch.tensor(kernel.transpose(3, 2, 0, 1))
        return torch.nn.functional.conv2d(maps, kernel, torch.tensor(bias), padding=1)

    maps = torch.tensor(x.transpose(0, 3, 1, 2))
    gate = torch.sigmoid(convolve(*weights[2:]))
    expected = gate * torch.relu(convolve(*weights[:2])) + (1 - gate) * maps
    expected = expected.numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(run(layer, x), expected, atol=1e-5)


@pytest.mark.backends
@pytest.mark.parametrize("layer", [HighwayDense(4, -30.0), HighwayConv(4, 3, -30.0)])
def test_a_closed_gate_carries_its_input(rng, layer):
    x = rng.normal(size=(2, 4) if isinstance(layer, HighwayDense) else (2, 5, 5, 4))
    np.testing.assert_allclose(run(layer, x), x, atol=1e-6)


def test_wrong_widths_are_refused_by_name():
    with pytest.raises(ConvsuiteError, match="carry carries its input through: 3 channels in, 4"):
        HighwayDense(4, name="carry").build((None, 3))
    with pytest.raises(ConvsuiteError, match="carry carries its input through: 3 channels in, 4"):
        HighwayConv(4, 3, name="carry").build((None, 8, 8, 3))
    with pytest.raises(ConvsuiteError, match="pad cannot reduce 8 channels to 4"):
        ChannelPad(4, name="pad").build((None, 8, 8, 8))
    with pytest.raises(ConvsuiteError, match=r"0\.\.1, not 1\.5"):
        StochasticDepth(1.5)

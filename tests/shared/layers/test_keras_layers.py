"""Layers of Keras that the papers need are what torch calls by the same names."""

import keras
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.backends


def maps(rng, height=9, width=8, channels=4):
    return rng.normal(0, 4, (2, height, width, channels)).astype("float32")


def run(layer, x):
    return keras.ops.convert_to_numpy(layer(x))


def to_torch(x):
    return torch.tensor(x.transpose(0, 3, 1, 2))


def from_torch(x):
    return x.detach().numpy().transpose(0, 2, 3, 1)


def test_prelu(rng):
    x = maps(rng)
    layer = keras.layers.PReLU(shared_axes=[1, 2])
    layer.build(x.shape)
    slopes = rng.normal(size=4).astype("float32")
    layer.set_weights([slopes.reshape(1, 1, 4)])
    expected = torch.nn.functional.prelu(to_torch(x), torch.tensor(slopes))
    np.testing.assert_allclose(run(layer, x), from_torch(expected), atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "peer"),
    [
        (keras.layers.ELU(alpha=1.0), torch.nn.ELU()),
        (keras.layers.ReLU(max_value=6.0), torch.nn.ReLU6()),
    ],
    ids=["elu", "relu6"],
)
def test_activations(rng, layer, peer):
    x = maps(rng)
    np.testing.assert_allclose(run(layer, x), from_torch(peer(to_torch(x))), atol=1e-5)


CONVOLUTIONS = {
    "grouped": ({"groups": 2}, {"groups": 2}),
    "atrous": ({"dilation_rate": 2}, {"dilation": 2}),
    "strided": ({"strides": 2}, {"stride": 2}),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(rng, name):
    options, peer_options = CONVOLUTIONS[name]
    x = maps(rng)
    layer = keras.layers.Conv2D(6, 3, **options)
    layer.build(x.shape)
    kernel = rng.normal(0, 0.3, layer.kernel.shape).astype("float32")
    bias = rng.normal(size=6).astype("float32")
    layer.set_weights([kernel, bias])
    peer = torch.nn.functional.conv2d(
        to_torch(x),
        torch.tensor(kernel.transpose(3, 2, 0, 1)),
        torch.tensor(bias),
        **peer_options,
    )
    np.testing.assert_allclose(run(layer, x), from_torch(peer), rtol=1e-5, atol=1e-5)


def test_transposed_convolution(rng):
    x = maps(rng, 4, 5)
    layer = keras.layers.Conv2DTranspose(6, 3, strides=2)
    layer.build(x.shape)
    kernel = rng.normal(0, 0.3, layer.kernel.shape).astype("float32")
    layer.set_weights([kernel, np.zeros(6)])
    peer = torch.nn.functional.conv_transpose2d(
        to_torch(x), torch.tensor(kernel.transpose(3, 2, 0, 1)), stride=2
    )
    np.testing.assert_allclose(run(layer, x), from_torch(peer), rtol=1e-5, atol=1e-5)


def test_depthwise_separable_convolution(rng):
    x = maps(rng)
    layer = keras.layers.SeparableConv2D(6, 3, depth_multiplier=2, use_bias=False)
    layer.build(x.shape)
    depthwise, pointwise = (
        rng.normal(0, 0.3, w.shape).astype("float32") for w in layer.get_weights()
    )
    layer.set_weights([depthwise, pointwise])
    # (height, width, channels, multiplier) against (channels * multiplier, 1, height, width).
    middle = torch.nn.functional.conv2d(
        to_torch(x),
        torch.tensor(depthwise.reshape(3, 3, 1, 8).transpose(3, 2, 0, 1)),
        groups=4,
    )
    peer = torch.nn.functional.conv2d(middle, torch.tensor(pointwise.transpose(3, 2, 0, 1)))
    np.testing.assert_allclose(run(layer, x), from_torch(peer), rtol=1e-5, atol=1e-5)

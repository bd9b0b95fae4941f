"""SqueezeNet: the accuracy of AlexNet with a fiftieth of its parameters (Iandola et al. 2016)."""

import lazy_loader as lazy

from shared import layers

from .blocks import class_maps, conv_relu
from .specs import Spec, Tap, in_torch

keras = lazy.load("keras")

# Squeeze and expand channels of fire2 to fire9; both expansions have the same.
_FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))


def squeezenet(x, classes, *, stem, pools):
    """Yield the taps of a SqueezeNet; layer names as in the authors' Caffe model.

    Args:
        x: Input, `(batch, height, width, 3)`.
        classes: Maps of the last convolution.
        stem: Channels and kernel of the first convolution.
        pools: Layers that a pool follows: 1 is the stem, 2 to 9 are fire modules.
    """
    channels, kernel = stem
    x = conv_relu(x, channels, kernel, 2, "valid", name="conv1")
    yield "conv1", x
    for i in range(1, 10):
        if i > 1:
            x = _fire(x, *_FIRES[i - 2], name=f"fire{i}")
            yield f"fire{i}", x
        if i in pools:
            x = layers.CeilPool(3, 2, name=f"pool{i}")(x)
            yield f"pool{i}", x
    x = keras.layers.Dropout(0.5, name="drop9")(x)
    x = conv_relu(x, classes, 1, name="conv10")
    yield "conv10", x
    yield from class_maps(x)


def _fire(x, squeeze, expand, name):
    x = conv_relu(x, squeeze, 1, name=f"{name}_squeeze1x1")
    branches = [conv_relu(x, expand, k, name=f"{name}_expand{k}x{k}") for k in (1, 3)]
    return keras.layers.Concatenate(name=f"{name}_concat")(branches)


def _taps(stem, pools):
    total, channels = 2, stem[0]
    yield Tap("conv1", total, channels)
    for i in range(1, 10):
        if i > 1:
            channels = 2 * _FIRES[i - 2][1]
            yield Tap(f"fire{i}", total, channels)
        if i in pools:
            total *= 2
            yield Tap(f"pool{i}", total, channels)
    yield from (Tap("conv10", total, 1000), Tap("logits", 0, 1000), Tap("probs", 0, 1000))


_V10 = {"stem": (96, 7), "pools": (1, 4, 8)}
_V11 = {"stem": (64, 3), "pools": (1, 3, 5)}

_NETWORKS = (
    Spec(
        name="squeezenet1.0",
        build=squeezenet,
        variant=_V10,
        paper="Iandola et al. 2016, arXiv:1602.07360",
        table="table 1",
        size=227,
        preprocessing="caffe_rounded",
        parameters=1_248_424,
        gmacs=0.833,
        body="fire9",
        taps=tuple(_taps(**_V10)),
        minimum=21,
        crop=227 / 256,
        elsewhere={"torch": "squeezenet1.0_torch"},
        note="The last convolution has a ReLU, too: logits are never negative.",
    ),
    Spec(
        name="squeezenet1.1",
        build=squeezenet,
        variant=_V11,
        paper="Iandola et al. 2016, arXiv:1602.07360",
        table="table 1, as changed in release 1.1 of the authors",
        size=227,
        preprocessing="caffe_rounded",
        parameters=1_235_496,
        gmacs=0.388,
        body="fire9",
        taps=tuple(_taps(**_V11)),
        minimum=17,
        crop=227 / 256,
        elsewhere={"torch": "squeezenet1.1_torch"},
        note="Earlier pools and a smaller first kernel: 2.1 times less work than 1.0. The last "
        "convolution has a ReLU, too: logits are never negative.",
    ),
)
# Pictures of torchvision have 224 pixels.
SPECS = (
    *_NETWORKS,
    in_torch(_NETWORKS[0], size=224, crop=0.875, gmacs=0.819),
    in_torch(_NETWORKS[1], size=224, crop=0.875, gmacs=0.349),
)

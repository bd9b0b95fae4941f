"""Xception: residual blocks of depthwise separable convolutions (Chollet 2017)."""

from functools import partial

import lazy_loader as lazy

from .blocks import classifier
from .specs import Spec, Tap, in_torch, vector_taps

keras = lazy.load("keras")

# Separable convolutions of blocks 2 to 4, of each middle block, and of blocks 13 and 14.
_ENTRY = ((128, 128), (256, 256), (728, 728))
_MIDDLE = (728, 728, 728)
_EXIT = ((728, 1024), (1536, 2048))


def xception(x, classes, *, middle=8, width=1.0, epsilon=1e-3, padding="same"):
    """Yield the taps of an Xception network.

    Args:
        x: Input, `(batch, height, width, 3)`.
        classes: Classes of the classifier.
        middle: Blocks of the middle flow.
        width: Share of the published channels that every convolution has.
        epsilon: Of the normalisations.
        padding: Of the pools at even sides: below and right (`same`), or above and left (`torch`).
    """
    block = partial(_block, epsilon=epsilon, padding=padding)

    def scaled(channels):
        return [max(1, round(c * width)) for c in channels]

    for i, (channels, stride) in enumerate(zip(scaled((32, 64)), (2, 1), strict=True), 1):
        name = f"block1_conv{i}"
        x = keras.layers.Conv2D(channels, 3, stride, use_bias=False, name=name)(x)
        x = _bn(x, name, epsilon)
        x = keras.layers.Activation("relu", name=f"{name}_act")(x)
    yield "stem", x
    for i, channels in enumerate(_ENTRY, 2):
        x = block(x, scaled(channels), f"block{i}", first_relu=i > 2)
        yield ("stage3.block1" if i == 4 else f"stage{i - 1}"), x
    for i in range(middle):
        x = block(x, scaled(_MIDDLE), f"block{i + 5}", shrink=False)
        yield f"stage3.block{i + 2}", x
    yield "stage3", x
    x = block(x, scaled(_EXIT[0]), f"block{middle + 5}")
    yield "stage4.block1", x
    for i, channels in enumerate(scaled(_EXIT[1]), 1):
        name = f"block{middle + 6}_sepconv{i}"
        x = _separable(x, channels, name, epsilon)
        x = keras.layers.Activation("relu", name=f"{name}_act")(x)
    yield "stage4", x
    yield from classifier(x, classes)


def _bn(x, name, epsilon):
    return keras.layers.BatchNormalization(epsilon=epsilon, name=f"{name}_bn")(x)


def _separable(x, channels, name, epsilon):
    """Depthwise, then pointwise convolution without ReLU between, one normalisation behind."""
    layer = keras.layers.SeparableConv2D(channels, 3, padding="same", use_bias=False, name=name)
    return _bn(layer(x), name, epsilon)


def _block(x, channels, name, *, epsilon, padding, shrink=True, first_relu=True):
    """Separable convolutions added to their input, which a 1x1 convolution halves and widens."""
    shortcut = x
    if shrink:
        layer = keras.layers.Conv2D(
            channels[-1], 1, 2, padding="same", use_bias=False, name=f"{name}_shortcut"
        )
        shortcut = _bn(layer(x), f"{name}_shortcut", epsilon)
    for i, c in enumerate(channels, 1):
        if i > 1 or first_relu:
            x = keras.layers.Activation("relu", name=f"{name}_sepconv{i}_act")(x)
        x = _separable(x, c, f"{name}_sepconv{i}", epsilon)
    if shrink and padding == "torch":
        # At stride 1 `same` pads all sides alike, whatever the parity.
        x = keras.layers.MaxPooling2D(3, 1, padding="same", name=f"{name}_maxima")(x)
        x = keras.layers.MaxPooling2D(1, 2, name=f"{name}_pool")(x)
    elif shrink:
        x = keras.layers.MaxPooling2D(3, 2, padding="same", name=f"{name}_pool")(x)
    return keras.layers.Add(name=f"{name}_add")([x, shortcut])


_XCEPTION = Spec(
    name="xception",
    build=xception,
    paper="Chollet 2017, arXiv:1610.02357",
    table="figure 5",
    size=299,
    preprocessing="tf",
    parameters=22_855_952,
    statistics=54_528,
    gmacs=8.357,
    body="stage4",
    taps=(
        Tap("stem", 2, 64),
        Tap("stage1", 4, 128),
        Tap("stage2", 8, 256),
        *(Tap(f"stage3.block{i}", 16, 728) for i in range(1, 10)),
        Tap("stage3", 16, 728),
        Tap("stage4.block1", 32, 1024),
        Tap("stage4", 32, 2048),
        *vector_taps(2048),
    ),
    minimum=7,
    twin="Xception",
    elsewhere={"torch": "xception_torch"},
    note="As in Keras: no ReLU between the depthwise and the pointwise convolution.",
)
SPECS = (
    _XCEPTION,
    in_torch(
        _XCEPTION,
        variant={"epsilon": 1e-5, "padding": "torch"},
        preprocessing="tf",
        elsewhere={},
        note="`xception` for the files of timm (`legacy_xception`), whose pools pad even sides "
        "above and left and whose normalisations have another epsilon.",
    ),
)

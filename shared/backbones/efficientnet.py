"""EfficientNet-Lite0: EfficientNet without squeeze-excitation and swish (Tan and Le 2019)."""

import lazy_loader as lazy

from .blocks import classifier, conv_bn
from .specs import Spec, Tap, vector_taps

keras = lazy.load("keras")

# Inverted residuals of EfficientNet-B0: repeats, kernel, stride, expansion, channels.
_BLOCKS = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM, _HEAD = 32, 1280


def efficientnet_lite(x, classes, *, blocks=_BLOCKS, dropout=0.2):
    """Yield the taps of an EfficientNet-Lite.

    Args:
        x: Input, `(batch, height, width, 3)`.
        classes: Classes of the classifier.
        blocks: Repeats, kernel, stride, expansion and channels of each row of the table.
        dropout: In front of the classifier.
    """
    x = conv_bn(x, _STEM, 3, 2, name="stem", activation="relu6")
    yield "stem", x
    n = 0
    for repeats, kernel, row_stride, expansion, channels in blocks:
        for repeat in range(repeats):
            stride, shortcut = (row_stride if repeat == 0 else 1), x
            if expansion > 1:
                wide = expansion * x.shape[-1]
                x = conv_bn(x, wide, 1, name=f"block{n}_expand", activation="relu6")
                yield f"x{n}", x
            x = _depthwise(x, kernel, stride, name=f"block{n}_dw")
            x = conv_bn(x, channels, 1, name=f"block{n}_project", activation=None)
            if repeat > 0:
                x = keras.layers.Add(name=f"block{n}_add")([x, shortcut])
            yield f"b{n}", x
            n += 1
    x = conv_bn(x, _HEAD, 1, name="head", activation="relu6")
    yield "head", x
    yield from classifier(x, classes, dropout=dropout)


def _depthwise(x, kernel, stride, *, name):
    x = keras.layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False, name=f"{name}_conv")(x)
    x = keras.layers.BatchNormalization(epsilon=1e-3, name=f"{name}_bn")(x)
    return keras.layers.Activation("relu6", name=f"{name}_relu")(x)


def _taps(blocks):
    yield Tap("stem", 2, _STEM)
    n, stride, before = 0, 2, _STEM
    for repeats, _, row_stride, expansion, channels in blocks:
        for repeat in range(repeats):
            if expansion > 1:
                yield Tap(f"x{n}", stride, expansion * before)
            stride *= row_stride if repeat == 0 else 1
            yield Tap(f"b{n}", stride, channels)
            n, before = n + 1, channels
    yield Tap("head", stride, _HEAD)
    yield from vector_taps(_HEAD)


SPECS = (
    Spec(
        name="efficientnet_lite0",
        build=efficientnet_lite,
        paper="Tan and Le 2019, arXiv:1905.11946",
        table="table 1, without squeeze-excitation and with ReLU6",
        size=224,
        preprocessing="lite",
        parameters=4_652_008,
        statistics=42_016,
        gmacs=0.385,
        body="head",
        taps=tuple(_taps(_BLOCKS)),
        minimum=1,
        note=(
            "The Lite variant of the TensorFlow model garden: stem and head are not scaled, the "
            "projections have no activation, TensorFlow's `same` padding."
        ),
    ),
)

"""MobileNet: depthwise separable convolutions (Howard et al. 2017, Sandler et al. 2018)."""

from collections.abc import Iterator
from itertools import groupby
from typing import Literal

import lazy_loader as lazy

from .blocks import classifier, pad
from .specs import Spec, Tap, vector_taps

keras = lazy.load("keras")

# Output channels and stride of each depthwise separable block.
_V1 = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)
# Expansion, output channels, repeats, stride of the first of them.
_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v1(x, classes, *, alpha: float = 1.0, dropout: float = 1e-3, epsilon: float = 1e-3):
    """Yield the taps of MobileNet v1.

    The blocks at stride 2, in front of stage 1, make up a stage 0.

    Args:
        x: Input, `(batch, height, width, 3)`.
        classes: Classes of the classifier.
        alpha: Factor on all widths.
        dropout: In front of the classifier.
        epsilon: Of the normalisations.
    """
    conv = keras.layers.Conv2D
    filters = int(32 * alpha)
    x = conv(filters, 3, 2, "same", use_bias=False, name="conv1")(x)
    x = _bn_relu6(x, "conv1_bn", "conv1_relu", epsilon)
    yield "stem", x
    number = 0
    for stage, blocks in enumerate(_stages(_V1)):
        for i, (width, stride) in enumerate(blocks, 1):
            number += 1
            if stride == 2:
                # TensorFlow's rule for even sides, kept for odd ones.
                around = ((0, 1), (0, 1))
                x = keras.layers.ZeroPadding2D(around, name=f"conv_pad_{number}")(x)
            x = keras.layers.DepthwiseConv2D(
                3,
                stride,
                "same" if stride == 1 else "valid",
                use_bias=False,
                name=f"conv_dw_{number}",
            )(x)
            x = _bn_relu6(x, f"conv_dw_{number}_bn", f"conv_dw_{number}_relu", epsilon)
            x = conv(int(width * alpha), 1, use_bias=False, name=f"conv_pw_{number}")(x)
            x = _bn_relu6(x, f"conv_pw_{number}_bn", f"conv_pw_{number}_relu", epsilon)
            yield f"stage{stage}.block{i}", x
        yield f"stage{stage}", x
    x = keras.layers.GlobalAveragePooling2D(name="avg_pool")(x)
    yield "penultimate", x
    # A 1x1 convolution instead of a dense layer, as in the paper's table and in published files.
    x = keras.layers.Reshape((1, 1, x.shape[-1]), name="reshape_1")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    x = conv(classes, 1, name="conv_preds")(x)
    x = keras.layers.Reshape((classes,), name="reshape_2")(x)
    yield "logits", x
    yield "probs", keras.layers.Activation("softmax", dtype="float32", name="probs")(x)


def mobilenet_v2(
    x,
    classes,
    *,
    alpha: float = 1.0,
    epsilon: float = 1e-3,
    padding: Literal["tf", "torch"] = "tf",
):
    """Yield the taps of MobileNet v2: inverted residuals with linear bottlenecks.

    The blocks at stride 2, in front of stage 1, make up a stage 0.

    Args:
        x: Input, `(batch, height, width, 3)`.
        classes: Classes of the classifier.
        alpha: Factor on all widths; the last layer only grows with it.
        epsilon: Of the normalisations.
        padding: At stride 2, of even sides: below and right (`tf`), or on all sides.
    """
    conv = keras.layers.Conv2D
    x, mode = _padded(x, 2, padding, "Conv1_pad")
    x = conv(_eights(32 * alpha), 3, 2, mode, use_bias=False, name="Conv1")(x)
    x = _bn_relu6(x, "bn_Conv1", "Conv1_relu", epsilon)
    yield "stem", x
    number = 0
    for stage, blocks in enumerate(_stages(_v2_blocks())):
        for i, (expansion, width, stride) in enumerate(blocks, 1):
            name = f"block_{number}" if number else "expanded_conv"
            number += 1
            narrow = x
            if expansion > 1:
                wide = expansion * x.shape[-1]
                x = conv(wide, 1, use_bias=False, name=f"{name}_expand")(x)
                x = _bn_relu6(x, f"{name}_expand_BN", f"{name}_expand_relu", epsilon)
            x, mode = _padded(x, stride, padding, f"{name}_pad")
            x = keras.layers.DepthwiseConv2D(
                3, stride, mode, use_bias=False, name=f"{name}_depthwise"
            )(x)
            x = _bn_relu6(x, f"{name}_depthwise_BN", f"{name}_depthwise_relu", epsilon)
            filters = _eights(int(width * alpha))
            x = conv(filters, 1, use_bias=False, name=f"{name}_project")(x)
            x = keras.layers.BatchNormalization(epsilon=epsilon, name=f"{name}_project_BN")(x)
            if stride == 1 and narrow.shape[-1] == filters:
                x = keras.layers.Add(name=f"{name}_add")([narrow, x])
            yield f"stage{stage}.block{i}", x
        yield f"stage{stage}", x
    x = conv(_eights(1280 * max(alpha, 1.0)), 1, use_bias=False, name="Conv_1")(x)
    x = _bn_relu6(x, "Conv_1_bn", "out_relu", epsilon)
    yield "head", x
    yield from classifier(x, classes)


def _bn_relu6(x, norm: str, activation: str, epsilon: float):
    x = keras.layers.BatchNormalization(epsilon=epsilon, name=norm)(x)
    return keras.layers.ReLU(6.0, name=activation)(x)


def _padded(x, stride: int, padding: str, name: str) -> tuple:
    """Return the input of a 3x3 convolution and the padding that the layer is left with."""
    if padding == "torch" and stride == 2:
        return pad(x, 1, name), "valid"
    return x, "same"


def _eights(width: float) -> int:
    """Round to a multiple of 8, but by no more than a tenth down."""
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * width else rounded


def _v2_blocks() -> Iterator[tuple[int, int, int]]:
    """Yield expansion, output channels and stride of each block."""
    for expansion, width, repeats, stride in _V2:
        for i in range(repeats):
            yield expansion, width, stride if i == 0 else 1


def _stages(blocks) -> Iterator[list]:
    """Group blocks by the stride of their output; their own stride stands last in each."""
    depth = 0

    def stage(block) -> int:
        nonlocal depth
        depth += block[-1] == 2
        return depth

    for _, group in groupby(blocks, stage):
        yield list(group)


def _taps(blocks, channel: int) -> Iterator[Tap]:
    yield Tap("stem", 2, 32)
    for stage, group in enumerate(_stages(blocks)):
        for i, block in enumerate(group, 1):
            yield Tap(f"stage{stage}.block{i}", 2 ** (stage + 1), block[channel])
        yield Tap(f"stage{stage}", 2 ** (stage + 1), block[channel])


_V2_FACTS = {
    "build": mobilenet_v2,
    "paper": "Sandler et al. 2018, arXiv:1801.04381",
    "table": "table 2",
    "size": 224,
    "parameters": 3_504_872,
    "statistics": 34_112,
    "gmacs": 0.301,
    "body": "head",
    "taps": (*_taps(_v2_blocks(), 1), Tap("head", 32, 1280), *vector_taps(1280)),
    "minimum": 1,
}

SPECS = (
    Spec(
        name="mobilenet_v1",
        build=mobilenet_v1,
        paper="Howard et al. 2017, arXiv:1704.04861",
        table="table 1",
        size=224,
        preprocessing="tf",
        parameters=4_231_976,
        statistics=21_888,
        gmacs=0.569,
        body="stage4",
        taps=(*_taps(_V1, 0), *vector_taps(1024)),
        minimum=31,
        twin="MobileNet",
        note="ReLU6 instead of the paper's ReLU, as in the authors' own code and files.",
    ),
    Spec(
        name="mobilenet_v2",
        preprocessing="tf",
        twin="MobileNetV2",
        elsewhere={"torch": "mobilenet_v2_torch"},
        **_V2_FACTS,
    ),
    Spec(
        name="mobilenet_v2_torch",
        variant={"epsilon": 1e-5, "padding": "torch"},
        preprocessing="torch",
        note="As in torchvision, whose files it takes: pads on all sides where the authors' code "
        "and Keras pad below and right, and has another epsilon.",
        **_V2_FACTS,
    ),
)

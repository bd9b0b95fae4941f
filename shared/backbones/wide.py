"""Wide residual networks (Zagoruyko and Komodakis 2016)."""

from collections.abc import Iterator

import lazy_loader as lazy

from .blocks import bn_relu, classifier, conv_bn
from .specs import Spec, Tap, vector_taps

keras = lazy.load("keras")

_STAGES = 3


def wrn(x, classes, *, repeat: int, widen: int, dropout: float = 0.0, epsilon: float = 1e-5):
    """Yield the taps of a wide residual network with pre-activation.

    A tap `stageS` is the last map of its stride behind normalisation and ReLU, as the next
    convolution reads it.

    Args:
        x: Input, `(batch, height, width, 3)`.
        classes: Classes of the classifier.
        repeat: Blocks of each stage, (depth - 4) / 6.
        widen: Factor on the widths 16, 32, 64 of the stages.
        dropout: Rate between the two convolutions of a block; the paper's is 0 or 0.3.
        epsilon: Of the normalisations.
    """
    conv = keras.layers.Conv2D
    x = conv(16, 3, padding="same", use_bias=False, name="conv1_conv")(x)
    yield "stem", x
    for stage in range(1, _STAGES + 1):
        width = 16 * widen * 2 ** (stage - 1)
        for i in range(1, repeat + 1):
            name = f"conv{stage + 1}_block{i}"
            stride = 2 if stage > 1 and i == 1 else 1
            before = bn_relu(x, epsilon=epsilon, name=f"{name}_preact")
            if stride == 2:
                yield f"stage{stage - 1}", before
            if x.shape[-1] != width:
                x = conv(width, 1, stride, use_bias=False, name=f"{name}_0_conv")(before)
            around = "same" if stride == 1 else 1
            y = conv_bn(before, width, 3, stride, around, epsilon=epsilon, name=f"{name}_1")
            if dropout:
                y = keras.layers.Dropout(dropout, name=f"{name}_dropout")(y)
            y = conv(width, 3, padding="same", use_bias=False, name=f"{name}_2_conv")(y)
            x = keras.layers.Add(name=f"{name}_out")([x, y])
            yield f"stage{stage}.block{i}", x
    x = bn_relu(x, epsilon=epsilon, name="post")
    yield f"stage{_STAGES}", x
    yield from classifier(x, classes)


def _taps(repeat: int, widen: int) -> Iterator[Tap]:
    yield Tap("stem", 1, 16)
    for stage in range(1, _STAGES + 1):
        stride, width = 2 ** (stage - 1), 16 * widen * 2 ** (stage - 1)
        for i in range(1, repeat + 1):
            yield Tap(f"stage{stage}.block{i}", stride, width)
        yield Tap(f"stage{stage}", stride, width)
    yield from vector_taps(width, 10)


def _spec(depth: int, widen: int, parameters: int, statistics: int, gmacs: float) -> Spec:
    repeat = (depth - 4) // 6
    return Spec(
        name=f"wrn-{depth}-{widen}",
        build=wrn,
        variant={"repeat": repeat, "widen": widen},
        paper="Zagoruyko and Komodakis 2016, arXiv:1605.07146",
        table="table 1",
        size=32,
        classes=10,
        preprocessing="unit",
        parameters=parameters,
        statistics=statistics,
        gmacs=gmacs,
        body=f"stage{_STAGES}",
        taps=tuple(_taps(repeat, widen)),
        minimum=1,
        crop=1.0,
    )


SPECS = (
    _spec(16, 4, 2_748_890, 3_616, 0.393),
    _spec(16, 8, 10_961_370, 7_200, 1.548),
    _spec(40, 4, 8_949_210, 10_784, 1.299),
    _spec(22, 8, 17_158_106, 10_784, 2.454),
    _spec(28, 10, 36_479_194, 17_952, 5.243),
)

"""ResNet: residual networks and the plain networks beside them (He et al. 2015 and 2016)."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Literal

import lazy_loader as lazy

from shared import layers
from shared.errors import ConvsuiteError

from . import registry
from .blocks import bn_relu, classifier, conv_bn
from .specs import Spec, Tap, vector_taps

keras = lazy.load("keras")

Padding = Literal["caffe", "torch", "same"]


def resnet(
    x,
    classes,
    *,
    repeats: Sequence[int],
    channels: Sequence[int],
    inner: Sequence[int] | None = None,
    groups: int = 1,
    stem: tuple[int, int] = (7, 64),
    strided: Literal["1x1", "3x3"] = "1x1",
    shortcut: Literal["A", "B"] = "B",
    bias: bool = False,
    epsilon: float = 1e-5,
    padding: Padding = "torch",
    stochastic_depth: float = 1.0,
    gates: Iterator | None = None,
):
    """Yield the taps of a residual network.

    Args:
        x: Input, `(batch, height, width, channels)`.
        classes: Classes of the classifier.
        repeats: Blocks of each stage.
        channels: Output channels of each stage.
        inner: Width inside the bottlenecks of each stage; None makes basic blocks of two 3x3.
        groups: Groups of the 3x3 convolution in a bottleneck, the cardinality of ResNeXt.
        stem: Side of the first kernel and its filters. 7 has stride 2 and a max pooling behind it;
            3 has neither.
        strided: Which convolution of a bottleneck carries the stride.
        shortcut: Where a block changes the shape: `A` subsamples and appends channels of zeros,
            `B` is a 1x1 convolution.
        bias: The convolutions have biases, useless beside a normalisation, as Keras' have.
        epsilon: Of the normalisations.
        padding: `torch` pads all four sides alike. `caffe` does too, but its max pooling pads
            nothing and lets the last window hang over the border. `same` is Keras' rule, which at
            stride 2 and an even side pads only the bottom and the right.
        stochastic_depth: Survival probability of the last block; that of the others falls linearly
            from 1 (Huang et al. 2016, equation 4).
        gates: One `(batch, 1, 1, 1)` per block to multiply the residual branch with, see `gated`.
    """
    conv = partial(conv_bn, bias=bias, epsilon=epsilon)
    x = _stem(x, *stem, conv, padding)
    yield "stem", x
    x = _pool(x, padding) if stem[0] == 7 else x
    for done, (stage, i, stride) in enumerate(_blocks(repeats), 1):
        name, width = f"conv{stage + 1}_block{i}", channels[stage - 1]
        if inner is None:
            branch = conv(x, width, 3, stride, _around(3, stride, padding), name=f"{name}_1")
            branch = conv(branch, width, 3, activation=None, name=f"{name}_2")
        else:
            narrow = inner[stage - 1]
            outer, middle = (stride, 1) if strided == "1x1" else (1, stride)
            branch = conv(x, narrow, 1, outer, name=f"{name}_1")
            around = _around(3, middle, padding)
            branch = conv(branch, narrow, 3, middle, around, groups=groups, name=f"{name}_2")
            branch = conv(branch, width, 1, activation=None, name=f"{name}_3")
        if stochastic_depth < 1:
            survival = 1 - done / sum(repeats) * (1 - stochastic_depth)
            branch = layers.StochasticDepth(survival, name=f"{name}_survival")(branch)
        if gates is not None:
            branch = keras.layers.Multiply(name=f"{name}_gated")([branch, next(gates)])
        if shortcut == "A":
            x = _identity(x, width, stride, name)
        elif stride > 1 or x.shape[-1] != width:
            x = conv(x, width, 1, stride, activation=None, name=f"{name}_0")
        x = keras.layers.Add(name=f"{name}_add")([x, branch])
        x = keras.layers.Activation("relu", name=f"{name}_out")(x)
        yield f"stage{stage}.block{i}", x
        if i == repeats[stage - 1]:
            yield f"stage{stage}", x
    yield from classifier(x, classes)


def plain(
    x,
    classes,
    *,
    repeats: Sequence[int],
    channels: Sequence[int],
    stem: tuple[int, int] = (7, 64),
    epsilon: float = 1e-5,
    padding: Padding = "torch",
    gates: Iterator | None = None,
):
    """Yield the taps of a plain network: `resnet` with basic blocks, without the shortcuts.

    Args:
        x: Input, `(batch, height, width, channels)`.
        classes: Classes of the classifier.
        repeats: Pairs of 3x3 convolutions of each stage.
        channels: Filters of each stage.
        stem: As in `resnet`.
        epsilon: Of the normalisations.
        padding: As in `resnet`.
        gates: Per convolution its `(batch, 1, 1, 1)` weight and that of the identity, see `gated`.
    """
    conv = partial(conv_bn, epsilon=epsilon)
    x = _stem(x, *stem, conv, padding)
    yield "stem", x
    x = _pool(x, padding) if stem[0] == 7 else x
    for stage, i, stride in _blocks(repeats):
        width = channels[stage - 1]
        for n, step in ((1, stride), (2, 1)):
            name = f"conv{stage + 1}_block{i}_{n}"
            y = conv(x, width, 3, step, _around(3, step, padding), name=name)
            if gates is not None:
                kept, replaced = next(gates)
                y = keras.layers.Multiply(name=f"{name}_gated")([y, kept])
                x = _identity(x, width, step, name)
                x = keras.layers.Multiply(name=f"{name}_replaced")([x, replaced])
                y = keras.layers.Add(name=f"{name}_add")([y, x])
            x = y
        yield f"stage{stage}.block{i}", x
        if i == repeats[stage - 1]:
            yield f"stage{stage}", x
    yield from classifier(x, classes)


def resnet_v2(x, classes, *, repeats: Sequence[int], epsilon: float = 1.001e-5):
    """Yield the taps of a pre-activation ResNet as `keras.applications` builds it.

    There the last block of a stage carries the stride, not the first of the next one, and the
    outermost convolutions have biases. A tap `stageS` is the last map of its stride behind
    normalisation and ReLU, as the next convolution reads it.

    Args:
        x: Input, `(batch, height, width, channels)`.
        classes: Classes of the classifier.
        repeats: Blocks of each stage.
        epsilon: Of the normalisations.
    """
    conv = partial(conv_bn, epsilon=epsilon)
    x = keras.layers.ZeroPadding2D(3, name="conv1_pad")(x)
    x = keras.layers.Conv2D(64, 7, 2, name="conv1_conv")(x)
    yield "stem", x
    x = _pool(x, "torch")
    for stage, i, _ in _blocks(repeats):
        name, width = f"conv{stage + 1}_block{i}", 64 * 2 ** (stage - 1)
        stride = 2 if i == repeats[stage - 1] and stage < len(repeats) else 1
        before = bn_relu(x, epsilon=epsilon, name=f"{name}_preact")
        if stride == 2:
            yield f"stage{stage}", before
            x = keras.layers.MaxPooling2D(1, 2, name=f"{name}_0_pool")(x)
        if i == 1:
            x = keras.layers.Conv2D(4 * width, 1, stride, name=f"{name}_0_conv")(before)
        y = conv(before, width, 1, name=f"{name}_1")
        y = conv(y, width, 3, stride, _around(3, stride, "torch"), name=f"{name}_2")
        y = keras.layers.Conv2D(4 * width, 1, name=f"{name}_3_conv")(y)
        x = keras.layers.Add(name=f"{name}_out")([x, y])
        yield f"stage{stage}.block{i}", x
    x = bn_relu(x, epsilon=epsilon, name="post")
    yield f"stage{len(repeats)}", x
    yield from classifier(x, classes)


def gated(
    name: str,
    classes: int | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    **variant: Any,
) -> "keras.Model":
    """Build a network whose blocks can be switched off picture by picture.

    Lesions are then studied by one compiled network (Veit et al. 2016, arXiv:1605.06431). All
    layers with weights are called as in `create(name)`, and compute the same.

    Args:
        name: A residual or plain network of this module.
        classes: As in `create`.
        input_shape: As in `create`.
        **variant: As in `create`.

    Returns:
        A model of two inputs: pictures, and gates `(batch, count)`, by default probabilities out.
        In a residual network gate b multiplies the residual branch of block b, from the input to
        the output. In a plain one, which has two gates per block, gate c weighs convolution c
        (with its normalisation and ReLU) against the identity: 1 keeps it, 0 replaces it. Where
        the shape changes the identity subsamples and appends channels of zeros.

    Raises:
        ConvsuiteError: The network has no such blocks, or is unknown.
    """
    entry = registry.spec(name)
    if entry.build not in (resnet, plain):
        raise ConvsuiteError(
            f"{name} has no blocks to switch off; take a residual or plain network, "
            f"such as {SPECS[0].name}."
        )
    options = {**entry.variant, **variant}
    shape = input_shape or (entry.size, entry.size, entry.channels)
    inputs = keras.Input(shape, name="input")
    count = sum(options["repeats"]) * (2 if entry.build is plain else 1)
    gates = keras.Input((count,), name="gates")
    columns: Iterator = _columns(gates, count, "gate")
    if entry.build is plain:
        # A layer, since a Python number minus a symbolic tensor counts as sparse.
        others = keras.layers.Rescaling(-1.0, 1.0, name="complements")(gates)
        columns = zip(columns, _columns(others, count, "complement"), strict=True)
    classes = entry.classes if classes is None else classes
    *_, (_, outputs) = entry.build(inputs, classes, **options, gates=columns)
    return registry.functional([inputs, gates], outputs, f"{name}_gated")


def _columns(gates, count: int, name: str) -> Iterator:
    for i in range(count):
        yield keras.layers.Reshape((1, 1, 1), name=f"{name}{i + 1}")(gates[:, i : i + 1])


def _stem(x, kernel: int, filters: int, conv, padding: Padding):
    if padding not in ("caffe", "torch", "same"):
        raise ConvsuiteError(f"padding must be caffe, torch or same, not {padding}.")
    stride = 2 if kernel == 7 else 1
    return conv(x, filters, kernel, stride, _around(kernel, stride, padding), name="conv1")


def _pool(x, padding: Padding):
    if padding == "caffe":
        return layers.CeilPool(3, 2, name="pool1_pool")(x)
    if padding == "same":
        return keras.layers.MaxPooling2D(3, 2, "same", name="pool1_pool")(x)
    x = keras.layers.ZeroPadding2D(1, name="pool1_pad")(x)
    return keras.layers.MaxPooling2D(3, 2, name="pool1_pool")(x)


def _around(kernel: int, stride: int, padding: Padding) -> int | str:
    """Return how a convolution is padded; at stride 1 all the rules agree."""
    return "same" if stride == 1 or padding == "same" else kernel // 2


def _identity(x, width: int, stride: int, name: str):
    """Return the map itself, subsampled and with channels of zeros where the shape changes."""
    if stride == 1 and x.shape[-1] == width:
        return x
    return layers.ChannelPad(width, stride, name=f"{name}_0_pad")(x)


def _blocks(repeats: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Yield stage, number within the stage, and stride of each block."""
    for stage, repeat in enumerate(repeats, 1):
        for i in range(1, repeat + 1):
            yield stage, i, 2 if stage > 1 and i == 1 else 1


def stage_taps(
    repeats: Sequence[int], channels: Sequence[int], stem: tuple[int, int], classes: int
) -> Iterator[Tap]:
    """Yield the taps of `resnet` and `plain`."""
    stride = 4 if stem[0] == 7 else 1
    yield Tap("stem", min(stride, 2), stem[1])
    for stage, (repeat, width) in enumerate(zip(repeats, channels, strict=True), 1):
        for i in range(1, repeat + 1):
            yield Tap(f"stage{stage}.block{i}", stride, width)
        yield Tap(f"stage{stage}", stride, width)
        stride *= 2
    yield from vector_taps(channels[-1], classes)


def _v2_taps(repeats: Sequence[int]) -> Iterator[Tap]:
    stride = 4
    yield Tap("stem", 2, 64)
    for stage, repeat in enumerate(repeats, 1):
        width = 128 * 2**stage
        for i in range(1, repeat + 1):
            if i == repeat and stage < len(repeats):
                yield Tap(f"stage{stage}", stride, width)
                stride *= 2
            yield Tap(f"stage{stage}.block{i}", stride, width)
    yield Tap(f"stage{len(repeats)}", stride, width)
    yield from vector_taps(width)


_PAPER = "He et al. 2015, arXiv:1512.03385"
_OUTER = (256, 512, 1024, 2048)
_INNER = (64, 128, 256, 512)

_BASIC = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
_BASIC_FIGURES = {
    # name: parameters, statistics, multiply-adds in 10^9
    "resnet18": (11_689_512, 9_600, 1.814),
    "resnet34": (21_797_672, 17_024, 3.664),
    "plain18": (11_515_688, 7_808, 1.795),
    "plain34": (21_623_848, 15_232, 3.645),
}

_DEEP = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
_DEEP_FIGURES = {
    # depth: parameters, those with biases, statistics, multiply-adds of v1, of v1.5
    50: (25_557_032, 25_583_592, 53_120, 3.858, 4.089),
    101: (44_549_160, 44_601_832, 105_344, 7.570, 7.801),
    152: (60_192_808, 60_268_520, 151_424, 11.282, 11.514),
}
_V2_FIGURES = {
    50: (25_568_360, 45_440, 3.482),
    101: (44_577_896, 97_664, 7.194),
    152: (60_236_904, 143_744, 10.907),
}

_CIFAR = {n: ((n - 2) // 6,) * 3 for n in (20, 32, 44, 56, 110, 1202)}
_CIFAR_FIGURES = {
    20: (269_722, 1_376, 0.0406),
    32: (464_154, 2_272, 0.0689),
    44: (658_586, 3_168, 0.0972),
    56: (853_018, 4_064, 0.1255),
    110: (1_727_962, 8_096, 0.2529),
    1202: (19_421_274, 89_632, 2.829),
}


def _basic(kind: str, depth: int) -> Spec:
    parameters, statistics, gmacs = _BASIC_FIGURES[f"{kind}{depth}"]
    return Spec(
        name=f"{kind}{depth}",
        build=resnet if kind == "resnet" else plain,
        variant={"repeats": _BASIC[depth], "channels": _INNER},
        paper=_PAPER,
        table="table 1",
        size=224,
        preprocessing="torch",
        parameters=parameters,
        statistics=statistics,
        gmacs=gmacs,
        body="stage4",
        taps=tuple(stage_taps(_BASIC[depth], _INNER, (7, 64), 1000)),
        minimum=1,
        elsewhere={"caffe": ""},
        note="Option B shortcuts; `shortcut='A'` has no weights in them."
        if kind == "resnet"
        else "",
    )


def _deep(
    depth: int, suffix: str, parameters: int, gmacs: float, minimum: int, note: str, **more: Any
) -> Spec:
    repeats = _DEEP[depth]
    variant = {"repeats": repeats, "channels": _OUTER, "inner": _INNER, **more.pop("variant")}
    return Spec(
        name=f"resnet{depth}{suffix}",
        build=resnet,
        variant=variant,
        paper=_PAPER,
        table="table 1",
        size=224,
        parameters=parameters,
        statistics=_DEEP_FIGURES[depth][2],
        gmacs=gmacs,
        body="stage4",
        taps=tuple(stage_taps(repeats, _OUTER, (7, 64), 1000)),
        minimum=minimum,
        note=note,
        **more,
    )


def _deep_flavours(depth: int) -> Iterator[Spec]:
    free, biased, _, v1, v15 = _DEEP_FIGURES[depth]
    yield _deep(
        depth,
        "",
        free,
        v1,
        3,
        "The authors' Caffe networks: stride in the 1x1, pooling in ceil mode.",
        variant={"padding": "caffe"},
        preprocessing="caffe",
        elsewhere={"torch": f"resnet{depth}_v1.5"},
    )
    yield _deep(
        depth,
        "_keras",
        biased,
        v1,
        1,
        "Stride in the 1x1, symmetric padding, biases beside the normalisations.",
        variant={"bias": True, "epsilon": 1.001e-5},
        preprocessing="caffe",
        twin=f"ResNet{depth}",
    )
    yield _deep(
        depth,
        "_v1.5",
        free,
        v15,
        1,
        "Stride in the 3x3, symmetric padding, as torchvision has it.",
        variant={"strided": "3x3"},
        preprocessing="torch",
        elsewhere={"caffe": f"resnet{depth}"},
    )


def _v2(depth: int) -> Spec:
    parameters, statistics, gmacs = _V2_FIGURES[depth]
    return Spec(
        name=f"resnet{depth}v2",
        build=resnet_v2,
        variant={"repeats": _DEEP[depth]},
        paper="He et al. 2016, arXiv:1603.05027",
        table="figure 4e; widths of table 1 of arXiv:1512.03385",
        size=224,
        preprocessing="tf",
        parameters=parameters,
        statistics=statistics,
        gmacs=gmacs,
        body="stage4",
        taps=tuple(_v2_taps(_DEEP[depth])),
        minimum=1,
        twin=f"ResNet{depth}V2",
        note="As Keras has it: the stride sits in the last block of a stage, not in the first.",
    )


def _small(
    name: str,
    repeats: Sequence[int],
    figures: tuple[int, int, float],
    *,
    widths: Sequence[int] = (16, 32, 64),
    **more: Any,
) -> Spec:
    build = plain if name.startswith("plain") else resnet
    stem = (3, widths[0])
    variant = {"repeats": repeats, "channels": widths, "stem": stem}
    settings: dict[str, Any] = {
        "paper": _PAPER,
        "table": "section 4.2",
        "size": 32,
        "note": "Option A shortcuts, which have no weights." if build is resnet else "",
        **more,
    }
    return Spec(
        name=name,
        build=build,
        variant={**variant, "shortcut": "A"} if build is resnet else variant,
        classes=10,
        preprocessing="unit",
        parameters=figures[0],
        statistics=figures[1],
        gmacs=figures[2],
        body="stage3",
        taps=tuple(stage_taps(repeats, widths, stem, 10)),
        minimum=1,
        crop=1.0,
        **settings,
    )


def _narrow(name: str) -> Spec:
    return _small(
        name,
        (5, 5, 5),
        (116_738, 1_136, 0.004295),
        widths=(8, 16, 32),
        paper="The layers of He et al. 2015 at half the width, for digits",
        table="section 4.2",
        size=16,
        channels=1,
    )


SPECS = (
    *(_basic(kind, depth) for kind in ("plain", "resnet") for depth in _BASIC),
    *(spec for depth in _DEEP for spec in _deep_flavours(depth)),
    *(_small(f"plain{n}", _CIFAR[n], _CIFAR_FIGURES[n]) for n in (20, 32, 44, 56)),
    *(_small(f"resnet{n}", _CIFAR[n], _CIFAR_FIGURES[n]) for n in _CIFAR),
    *(_narrow(name) for name in ("plain32_narrow", "resnet32_narrow")),
    *(_v2(depth) for depth in _DEEP),
)

"""DenseNet: every layer reads the maps of all layers before it (Huang et al. 2017)."""

from collections.abc import Iterator, Sequence

import lazy_loader as lazy

from .blocks import bn_relu, classifier, conv_bn
from .specs import Spec, Tap, vector_taps

keras = lazy.load("keras")


def densenet(
    x,
    classes,
    *,
    repeats: Sequence[int],
    growth: int,
    stem: tuple[int, int] = (7, 64),
    bottleneck: bool = True,
    reduction: float = 0.5,
    epsilon: float = 1.001e-5,
):
    """Yield the taps of a DenseNet.

    A tap `stageS` is the last map of its stride behind normalisation and ReLU, as the next
    convolution reads it.

    Args:
        x: Input, `(batch, height, width, 3)`.
        classes: Classes of the classifier.
        repeats: Layers of each dense block.
        growth: Channels that a layer appends.
        stem: Side of the first kernel and its filters. 7 has stride 2, normalisation, ReLU and a
            max pooling; 3 has none of them.
        bottleneck: A 1x1 convolution of four times the growth stands before each 3x3 (the B of BC).
        reduction: Part of the channels that a transition keeps (the C of BC).
        epsilon: Of the normalisations.
    """
    conv = keras.layers.Conv2D
    if stem[0] == 7:
        x = conv_bn(x, stem[1], 7, 2, 3, epsilon=epsilon, name="conv1")
        yield "stem", x
        x = keras.layers.ZeroPadding2D(1, name="pool1_pad")(x)
        x = keras.layers.MaxPooling2D(3, 2, name="pool1")(x)
    else:
        x = conv(stem[1], 3, padding="same", use_bias=False, name="conv1_conv")(x)
        yield "stem", x
    for stage, repeat in enumerate(repeats, 1):
        if stage > 1:
            name = f"pool{stage}"
            x = bn_relu(x, epsilon=epsilon, name=name)
            yield f"stage{stage - 1}", x
            kept = int(x.shape[-1] * reduction)
            x = conv(kept, 1, use_bias=False, name=f"{name}_conv")(x)
            x = keras.layers.AveragePooling2D(2, name=f"{name}_pool")(x)
        for i in range(1, repeat + 1):
            name = f"conv{stage + 1}_block{i}"
            y = bn_relu(x, epsilon=epsilon, name=f"{name}_0")
            if bottleneck:
                y = conv_bn(y, 4 * growth, 1, epsilon=epsilon, name=f"{name}_1")
            last = f"{name}_{2 if bottleneck else 1}_conv"
            y = conv(growth, 3, padding="same", use_bias=False, name=last)(y)
            x = keras.layers.Concatenate(name=f"{name}_concat")([x, y])
            yield f"stage{stage}.block{i}", x
    x = keras.layers.BatchNormalization(epsilon=epsilon, name="bn")(x)
    x = keras.layers.Activation("relu", name="relu")(x)
    yield f"stage{len(repeats)}", x
    yield from classifier(x, classes)


def _taps(
    repeats: Sequence[int], growth: int, stem: tuple[int, int], reduction: float, classes: int
) -> Iterator[Tap]:
    stride, width = (4, stem[1]) if stem[0] == 7 else (1, stem[1])
    yield Tap("stem", min(stride, 2), width)
    for stage, repeat in enumerate(repeats, 1):
        for i in range(1, repeat + 1):
            width += growth
            yield Tap(f"stage{stage}.block{i}", stride, width)
        yield Tap(f"stage{stage}", stride, width)
        if stage < len(repeats):
            stride, width = 2 * stride, int(width * reduction)
    yield from vector_taps(width, classes)


def _imagenet(depth: int, repeats: Sequence[int], figures: tuple[int, int, float]) -> Spec:
    return Spec(
        name=f"densenet{depth}",
        build=densenet,
        variant={"repeats": repeats, "growth": 32},
        paper="Huang et al. 2017, arXiv:1608.06993",
        table="table 1",
        size=224,
        preprocessing="torch",
        parameters=figures[0],
        statistics=figures[1],
        gmacs=figures[2],
        body="stage4",
        taps=tuple(_taps(repeats, 32, (7, 64), 0.5, 1000)),
        minimum=29,
        twin=f"DenseNet{depth}",
    )


def _cifar(name: str, repeat: int, growth: int, figures: tuple[int, int, float]) -> Spec:
    compact = "_bc" in name
    options = {
        "repeats": (repeat,) * 3,
        "growth": growth,
        "stem": (3, 2 * growth if compact else 16),
        "reduction": 0.5 if compact else 1.0,
    }
    return Spec(
        name=name,
        build=densenet,
        variant={**options, "bottleneck": compact, "epsilon": 1e-5},
        paper="Huang et al. 2017, arXiv:1608.06993",
        table="table 2, section 3",
        size=32,
        classes=10,
        preprocessing="unit",
        parameters=figures[0],
        statistics=figures[1],
        gmacs=figures[2],
        body="stage3",
        taps=tuple(_taps(**options, classes=10)),
        minimum=4,
        crop=1.0,
        note="Without the dropout that the paper uses on pictures that are not augmented.",
    )


SPECS = (
    _imagenet(121, (6, 12, 24, 16), (7_978_856, 83_648, 2.834)),
    _imagenet(169, (6, 12, 32, 32), (14_149_480, 158_400, 3.360)),
    _imagenet(201, (6, 12, 48, 32), (20_013_928, 229_056, 4.291)),
    _cifar("densenet40_k12", 12, 12, (1_019_722, 18_096, 0.265)),
    _cifar("densenet100_k12", 32, 12, (6_979_642, 117_216, 1.770)),
    _cifar("densenet_bc100_k12", 16, 12, (769_162, 23_988, 0.288)),
    _cifar("densenet_bc250_k24", 41, 24, (15_324_406, 257_976, 5.419)),
    _cifar("densenet_bc190_k40", 31, 40, (25_624_430, 256_960, 9.302)),
)

"""ResNeXt: bottlenecks of many parallel paths, as grouped convolutions (Xie et al. 2017)."""

from collections.abc import Sequence

from .resnet import resnet, stage_taps
from .specs import Spec

_OUTER = (256, 512, 1024, 2048)


def resnext(
    x,
    classes,
    *,
    repeats: Sequence[int],
    groups: int,
    width: int,
    stem: tuple[int, int] = (7, 64),
    epsilon: float = 1e-5,
):
    """Yield the taps of a ResNeXt: `resnet` with its stride in the grouped 3x3 convolution.

    Args:
        x: Input, `(batch, height, width, 3)`.
        classes: Classes of the classifier.
        repeats: Blocks of each stage.
        groups: The paths of a block, its cardinality.
        width: Channels of a path in the first stage; doubles with every stage.
        stem: As in `resnet`.
        epsilon: Of the normalisations.
    """
    yield from resnet(
        x,
        classes,
        repeats=repeats,
        channels=_OUTER[: len(repeats)],
        inner=[groups * width * 2**stage for stage in range(len(repeats))],
        groups=groups,
        stem=stem,
        strided="3x3",
        epsilon=epsilon,
    )


def _spec(name: str, figures: tuple[int, int, float], size: int, **variant) -> Spec:
    repeats, small = variant["repeats"], size == 32
    stem = (3, 64) if small else (7, 64)
    classes = 10 if small else 1000
    return Spec(
        name=name,
        build=resnext,
        variant={**variant, "stem": stem},
        paper="Xie et al. 2017, arXiv:1611.05431",
        table="section 5.3" if small else "table 1, figure 3c",
        size=size,
        classes=classes,
        preprocessing="unit" if small else "torch",
        parameters=figures[0],
        statistics=figures[1],
        gmacs=figures[2],
        body=f"stage{len(repeats)}",
        taps=tuple(stage_taps(repeats, _OUTER[: len(repeats)], stem, classes)),
        minimum=1,
        crop=1.0 if small else 0.875,
    )


SPECS = (
    _spec(
        "resnext50_32x4d",
        (25_028_904, 68_224, 4.230),
        224,
        repeats=(3, 4, 6, 3),
        groups=32,
        width=4,
    ),
    _spec(
        "resnext101_32x4d",
        (44_177_704, 137_856, 7.970),
        224,
        repeats=(3, 4, 23, 3),
        groups=32,
        width=4,
    ),
    _spec(
        "resnext101_64x4d",
        (83_455_272, 202_880, 15.46),
        224,
        repeats=(3, 4, 23, 3),
        groups=64,
        width=4,
    ),
    _spec(
        "resnext29_8x64d", (34_426_698, 57_472, 5.387), 32, repeats=(3, 3, 3), groups=8, width=64
    ),
    _spec(
        "resnext29_16x64d", (68_155_210, 100_480, 10.69), 32, repeats=(3, 3, 3), groups=16, width=64
    ),
)

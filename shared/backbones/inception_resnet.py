"""Inception-ResNet: Inception branches that are added to their input (Szegedy et al. 2017)."""

from functools import reduce

import lazy_loader as lazy

from .blocks import classifier
from .inception import conv_bn_of, flow, run_step
from .specs import Spec, Tap, in_torch, vector_taps

keras = lazy.load("keras")

# Steps are those of `inception`. A network is its stem and three stages; a stage is
# (steps in front, name of the blocks, branches of a block, scale of what is added).
_STEM = ((32, 3, 2, "valid"), (32, 3, 1, "valid"), (64, 3))
_STAGE1 = ("max/2V", (80, 1), (192, 3, 1, "valid"))

_V1 = (
    (
        ((256, 3, 2, "valid"),),
        "block35",
        [[(32, 1)], [(32, 1), (32, 3)], [(32, 1), (32, 3), (32, 3)]],
        0.17,
    ),
    (
        ([[(384, 3, 2, "valid")], [(192, 1), (192, 3), (256, 3, 2, "valid")], ["max/2V"]],),
        "block17",
        [[(128, 1)], [(128, 1), (128, (1, 7)), (128, (7, 1))]],
        0.10,
    ),
    (
        (
            [
                [(256, 1), (384, 3, 2, "valid")],
                [(256, 1), (256, 3, 2, "valid")],
                [(256, 1), (256, 3), (256, 3, 2, "valid")],
                ["max/2V"],
            ],
        ),
        "block8",
        [[(192, 1)], [(192, 1), (192, (1, 3)), (192, (3, 1))]],
        0.20,
    ),
)
_V2 = (
    (
        (
            "max/2V",
            [
                [(96, 1)],
                [(48, 1), (64, 5)],
                [(64, 1), (96, 3), (96, 3)],
                ["avg", (64, 1)],
            ],
        ),
        "block35",
        [[(32, 1)], [(32, 1), (32, 3)], [(32, 1), (48, 3), (64, 3)]],
        0.17,
    ),
    (
        ([[(384, 3, 2, "valid")], [(256, 1), (256, 3), (384, 3, 2, "valid")], ["max/2V"]],),
        "block17",
        [[(192, 1)], [(128, 1), (160, (1, 7)), (192, (7, 1))]],
        0.10,
    ),
    (
        (
            [
                [(256, 1), (384, 3, 2, "valid")],
                [(256, 1), (288, 3, 2, "valid")],
                [(256, 1), (288, 3), (320, 3, 2, "valid")],
                ["max/2V"],
            ],
        ),
        "block8",
        [[(192, 1)], [(192, 1), (224, (1, 3)), (256, (3, 1))]],
        0.20,
    ),
)
_MIXED = ("mixed_5b", "mixed_6a", "mixed_7a")


def inception_resnet(
    x,
    classes,
    *,
    stages,
    repeats,
    gamma=False,
    width=1.0,
    linear_last=False,
    head=0,
    dropout=0.0,
    embedding=False,
):
    """Yield the taps of an Inception-ResNet.

    Args:
        x: Input, `(batch, height, width, 3)`.
        classes: Classes of the classifier; entries of the embedding.
        stages: Table of the three stages.
        repeats: Blocks of each stage.
        gamma: The normalisations have a scale.
        width: Share of the published channels that every convolution has.
        linear_last: The last block adds without scale and has no ReLU.
        head: Channels of a 1x1 convolution in front of the classifier; 0 leaves it out.
        dropout: Share of the pooled features that training drops.
        embedding: End in a vector of length 1 instead of a classifier.
    """
    conv = conv_bn_of(width, scale=gamma)
    x = _sequence(x, _STEM, "stem", conv)
    yield "stem", x
    x = _sequence(x, _STAGE1, "stage1", conv)
    yield "stage1", x
    for stage, (entry, name, branches, scale) in enumerate(stages, 2):
        mixed = _MIXED[stage - 2]
        x = _sequence(x, entry[:-1], f"{mixed}_in", conv)
        x = run_step(x, entry[-1], name=mixed, conv=conv)
        yield f"stage{stage}.entry", x
        for i in range(1, repeats[stage - 2] + 1):
            linear = linear_last and stage == 4 and i == repeats[-1]
            x = _block(x, branches, 1.0 if linear else scale, not linear, f"{name}_{i}", conv)
            yield f"stage{stage}.block{i}", x
        yield f"stage{stage}", x
    if head:
        # Not `conv_bn`: Keras calls these three layers otherwise.
        x = keras.layers.Conv2D(max(1, round(head * width)), 1, use_bias=False, name="conv_7b")(x)
        x = keras.layers.BatchNormalization(epsilon=1e-3, scale=gamma, name="conv_7b_bn")(x)
        x = keras.layers.Activation("relu", name="conv_7b_ac")(x)
        yield "conv_7b", x
    yield from (_embedding if embedding else classifier)(x, classes, dropout=dropout)


def _sequence(x, steps, name, conv):
    for i, step in enumerate(steps, 1):
        x = run_step(x, step, name=f"{name}_{i}", conv=conv)
    return x


def _block(x, branches, scale, relu, name, conv):
    """Return x + scale * (1x1 convolution of the branches), with ReLU unless it is the last."""
    up = run_step(x, branches, name=f"{name}_mixed", conv=conv)
    up = keras.layers.Conv2D(x.shape[-1], 1, name=f"{name}_conv")(up)
    up = keras.layers.Rescaling(scale, name=f"{name}_scale")(up)
    x = keras.layers.Add(name=f"{name}_add")([x, up])
    return keras.layers.Activation("relu", name=f"{name}_ac")(x) if relu else x


def _embedding(x, size, *, dropout):
    """Yield the end of FaceNet: features of a face whose distances compare persons."""
    x = keras.layers.GlobalAveragePooling2D(name="avg_pool")(x)
    yield "penultimate", x
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    x = keras.layers.Dense(size, use_bias=False, name="bottleneck")(x)
    x = keras.layers.BatchNormalization(epsilon=1e-3, name="bottleneck_bn")(x)
    unit = keras.layers.UnitNormalization(dtype="float32", name="embedding")
    yield "embedding", unit(x)


def _taps(stages, repeats, end, head=0):
    place = reduce(flow, _STEM, (1, 3))
    yield Tap("stem", *place)
    place = reduce(flow, _STAGE1, place)
    yield Tap("stage1", *place)
    for stage, (entry, *_) in enumerate(stages, 2):
        place = reduce(flow, entry, place)
        yield Tap(f"stage{stage}.entry", *place)
        for i in range(1, repeats[stage - 2] + 1):
            yield Tap(f"stage{stage}.block{i}", *place)
        yield Tap(f"stage{stage}", *place)
    if head:
        yield Tap("conv_7b", place[0], head)
    yield from end


_PAPER = "Szegedy, Ioffe, Vanhoucke and Alemi 2017, arXiv:1602.07261"

_NETWORKS = (
    Spec(
        name="inception_resnet_v1",
        build=inception_resnet,
        variant={"stages": _V1, "repeats": (5, 10, 5), "dropout": 0.2},
        paper=_PAPER,
        table="figures 10 to 15",
        size=299,
        preprocessing="tf",
        parameters=22_742_808,
        statistics=27_040,
        gmacs=6.206,
        body="stage4",
        taps=tuple(_taps(_V1, (5, 10, 5), vector_taps(1792))),
        minimum=75,
        note="Normalisations without gamma; `gamma=True` has 22,756,328 parameters.",
    ),
    Spec(
        name="inception_resnet_v1_facenet",
        build=inception_resnet,
        variant={
            "stages": _V1,
            "repeats": (5, 10, 6),
            "gamma": True,
            "linear_last": True,
            "dropout": 0.6,
            "embedding": True,
        },
        paper=f"{_PAPER}; Schroff, Kalenichenko and Philbin 2015, arXiv:1503.03832",
        table="figures 10 to 15; the FaceNet implementations that are around",
        size=160,
        classes=512,
        preprocessing="tf",
        parameters=23_482_624,
        statistics=29_600,
        gmacs=1.418,
        body="stage4",
        taps=tuple(_taps(_V1, (5, 10, 6), (Tap("penultimate", 0, 1792), Tap("embedding", 0, 512)))),
        minimum=75,
        note="A sixth, linear C block and a 512-d embedding of length 1 instead of a classifier; "
        "`classes` is its size. Its weights were trained on (x - 127.5) / 128.",
    ),
    Spec(
        name="inception_resnet_v2",
        build=inception_resnet,
        variant={"stages": _V2, "repeats": (10, 20, 10), "linear_last": True, "head": 1536},
        paper=_PAPER,
        table="figures 3 and 15 to 19, with the filters of the released code",
        size=299,
        preprocessing="tf",
        parameters=55_813_192,
        statistics=60_544,
        gmacs=13.16,
        body="conv_7b",
        taps=tuple(_taps(_V2, (10, 20, 10), vector_taps(1536), head=1536)),
        minimum=75,
        twin="InceptionResNetV2",
        elsewhere={"torch": "inception_resnet_v2_torch"},
        note="The released code (also Keras'), whose filters differ from the drawings of the "
        "paper. Normalisations without gamma.",
    ),
)
SPECS = (
    *_NETWORKS,
    in_torch(
        _NETWORKS[-1],
        variant={**_NETWORKS[-1].variant, "gamma": True},
        preprocessing="tf",
        parameters=55_843_464,
        elsewhere={},
        note="`inception_resnet_v2` with gamma in its normalisations, for the files of timm.",
    ),
)

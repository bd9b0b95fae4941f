"""Inception: branches of several kernel sizes side by side (Szegedy et al. 2015 and 2016).

A network is one table of `(name, step)` rows. A step is

- a tuple `(channels, kernel, stride, padding)`: convolution, batch normalisation, ReLU;
- a string: a pool, see `_POOLS`;
- a list of branches, each a list of steps: run side by side, then concatenated.
"""

from functools import reduce

import lazy_loader as lazy

from .blocks import classifier, conv_bn, pad
from .specs import Spec, Tap, in_torch, vector_taps

keras = lazy.load("keras")

# Kind, stride, padding. `avg0` counts the zeros beyond the border, as Caffe's average does.
_POOLS = {
    "avg": ("AveragePooling2D", 1, "same"),
    "avg0": ("AveragePooling2D", 1, 1),
    "max": ("MaxPooling2D", 1, "same"),
    "max/2": ("MaxPooling2D", 2, "same"),
    "max/2V": ("MaxPooling2D", 2, "valid"),
}


def conv_bn_of(width=1.0, **options):
    """Return `conv_bn` with fixed options and a share `width` of the channels."""

    def conv(x, channels, *window, name):
        return conv_bn(x, max(1, round(channels * width)), *window, name=name, **options)

    return conv


def run_step(x, step, *, name, conv):
    """Run a step of a table, as the module describes it; `conv` comes from `conv_bn_of`."""
    if isinstance(step, str):
        kind, stride, padding = _POOLS[step]
        if isinstance(padding, int):
            x, padding = pad(x, padding, f"{name}_pad"), "valid"
        return getattr(keras.layers, kind)(3, stride, padding, name=name)(x)
    if isinstance(step, tuple):
        return conv(x, *step, name=name)
    ends = []
    for b, branch in enumerate(step, 1):
        end = x
        for i, inner in enumerate(branch, 1):
            end = run_step(end, inner, name=f"{name}_branch{b}_{i}", conv=conv)
        ends.append(end)
    return keras.layers.Concatenate(name=name)(ends)


def flow(place, step):
    """Return `(stride, channels)` behind a step, from those in front of it."""
    stride, channels = place
    if isinstance(step, str):
        return stride * _POOLS[step][1], channels
    if isinstance(step, tuple):
        return stride * (step[2] if len(step) > 2 else 1), step[0]
    ends = [reduce(flow, branch, place) for branch in step]
    return ends[0][0], sum(end[1] for end in ends)


def inception(
    x,
    classes,
    *,
    table,
    gamma=True,
    bias=False,
    epsilon=1e-3,
    width=1.0,
    dropout=0.0,
    aux="",
):
    """Yield the taps of an Inception network.

    Args:
        x: Input, `(batch, height, width, 3)`.
        classes: Classes of the classifier.
        table: Rows `(tap, step)`, see the module.
        gamma: The normalisations have a scale.
        bias: The convolutions have a bias beside the normalisation.
        epsilon: Of the normalisations.
        width: Share of the published channels that every convolution has.
        dropout: Share of the pooled features that training drops.
        aux: Row behind which the auxiliary classifier of version 3 branches off: taps `aux_logits`
            and `aux_probs`. It needs a map of at least 17 x 17 there.
    """
    conv = conv_bn_of(width, scale=gamma, bias=bias, epsilon=epsilon)
    for name, step in table:
        x = run_step(x, step, name=name, conv=conv)
        yield name, x
        if name == aux:
            yield from _auxiliary(x, classes, conv)
    yield from classifier(x, classes, dropout=dropout)


def _auxiliary(x, classes, conv):
    """Yield the auxiliary classifier, which training adds with a weight of 0.3 (v3, section 4)."""
    x = keras.layers.AveragePooling2D(5, 3, "valid", name="aux_pool")(x)
    x = conv(x, 128, 1, name="aux_1")
    x = conv(x, 768, 5, 1, "valid", name="aux_2")
    x = keras.layers.GlobalAveragePooling2D(name="aux_avg_pool")(x)
    x = keras.layers.Dense(classes, name="aux_predictions")(x)
    yield "aux_logits", x
    yield "aux_probs", keras.layers.Activation("softmax", dtype="float32", name="aux_probs")(x)


def _bn_inception(projections_4c_4d):
    """Return the table of figure 5 of the paper.

    Strided convolutions pad a zero on every side. The pools are Caffe's, which hang over the lower
    and right border: at even sides that is `same`, and at odd ones `same` keeps all branches equal.
    """

    def module(one, three, double, pool, projection):
        return [
            [(one, 1)],
            [(three[0], 1), (three[1], 3)],
            [(double[0], 1), (double[1], 3), (double[1], 3)],
            [pool, (projection, 1)],
        ]

    def reduction(three, double):
        return [
            [(three[0], 1), (three[1], 3, 2, 1)],
            [(double[0], 1), (double[1], 3), (double[1], 3, 2, 1)],
            ["max/2"],
        ]

    return (
        ("conv1_1", (64, 7, 2, 3)),
        ("pool1", "max/2"),
        ("conv2_1", (64, 1)),
        ("conv2_2", (192, 3)),
        ("pool2", "max/2"),
        ("inception_3a", module(64, (64, 64), (64, 96), "avg0", 32)),
        ("inception_3b", module(64, (64, 96), (64, 96), "avg0", 64)),
        ("inception_3c", reduction((128, 160), (64, 96))),
        ("inception_4a", module(224, (64, 96), (96, 128), "avg0", 128)),
        ("inception_4b", module(192, (96, 128), (96, 128), "avg0", 128)),
        ("inception_4c", module(160, (128, 160), (128, 160), "avg0", projections_4c_4d)),
        ("inception_4d", module(96, (128, 192), (160, 192), "avg0", projections_4c_4d)),
        ("inception_4e", reduction((128, 192), (192, 256))),
        ("inception_5a", module(352, (192, 320), (160, 224), "avg0", 128)),
        ("inception_5b", module(352, (192, 320), (192, 224), "max", 128)),
    )


def _v3_a(projection):
    return [
        [(64, 1)],
        [(48, 1), (64, 5)],
        [(64, 1), (96, 3), (96, 3)],
        ["avg", (projection, 1)],
    ]


def _v3_b(q):
    return [
        [(192, 1)],
        [(q, 1), (q, (1, 7)), (192, (7, 1))],
        [(q, 1), (q, (7, 1)), (q, (1, 7)), (q, (7, 1)), (192, (1, 7))],
        ["avg", (192, 1)],
    ]


def _fork(channels):
    """Return a 1x3 and a 3x1 convolution side by side."""
    return [[(channels, (1, 3))], [(channels, (3, 1))]]


_V3_C = [
    [(320, 1)],
    [(384, 1), _fork(384)],
    [(448, 1), (384, 3), _fork(384)],
    ["avg", (192, 1)],
]

_V3 = (
    ("conv1_1", (32, 3, 2, "valid")),
    ("conv1_2", (32, 3, 1, "valid")),
    ("conv1_3", (64, 3)),
    ("pool1", "max/2V"),
    ("conv2_1", (80, 1)),
    ("conv2_2", (192, 3, 1, "valid")),
    ("pool2", "max/2V"),
    ("mixed0", _v3_a(32)),
    ("mixed1", _v3_a(64)),
    ("mixed2", _v3_a(64)),
    (
        "mixed3",
        [[(384, 3, 2, "valid")], [(64, 1), (96, 3), (96, 3, 2, "valid")], ["max/2V"]],
    ),
    ("mixed4", _v3_b(128)),
    ("mixed5", _v3_b(160)),
    ("mixed6", _v3_b(160)),
    ("mixed7", _v3_b(192)),
    (
        "mixed8",
        [
            [(192, 1), (320, 3, 2, "valid")],
            [(192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3, 2, "valid")],
            ["max/2V"],
        ],
    ),
    ("mixed9", _V3_C),
    ("mixed10", _V3_C),
)


def _counting_zeros(step):
    if isinstance(step, list):
        return [[_counting_zeros(inner) for inner in branch] for branch in step]
    return "avg0" if step == "avg" else step


# Branches in the order of the released code, which concatenates the pooled branch last.
_V4_A = [
    [(96, 1)],
    [(64, 1), (96, 3)],
    [(64, 1), (96, 3), (96, 3)],
    ["avg", (96, 1)],
]
_V4_B = [
    [(384, 1)],
    [(192, 1), (224, (1, 7)), (256, (7, 1))],
    [(192, 1), (192, (7, 1)), (224, (1, 7)), (224, (7, 1)), (256, (1, 7))],
    ["avg", (128, 1)],
]
_V4_C = [
    [(256, 1)],
    [(384, 1), _fork(256)],
    [(384, 1), (448, (3, 1)), (512, (1, 3)), _fork(256)],
    ["avg", (256, 1)],
]
_V4 = (
    ("conv1_1", (32, 3, 2, "valid")),
    ("conv1_2", (32, 3, 1, "valid")),
    ("conv1_3", (64, 3)),
    ("mixed_3a", [["max/2V"], [(96, 3, 2, "valid")]]),
    (
        "mixed_4a",
        [
            [(64, 1), (96, 3, 1, "valid")],
            [(64, 1), (64, (1, 7)), (64, (7, 1)), (96, 3, 1, "valid")],
        ],
    ),
    ("mixed_5a", [[(192, 3, 2, "valid")], ["max/2V"]]),
    *((f"mixed_5{letter}", _V4_A) for letter in "bcde"),
    (
        "mixed_6a",
        [[(384, 3, 2, "valid")], [(192, 1), (224, 3), (256, 3, 2, "valid")], ["max/2V"]],
    ),
    *((f"mixed_6{letter}", _V4_B) for letter in "bcdefgh"),
    (
        "mixed_7a",
        [
            [(192, 1), (192, 3, 2, "valid")],
            [(256, 1), (256, (1, 7)), (320, (7, 1)), (320, 3, 2, "valid")],
            ["max/2V"],
        ],
    ),
    *((f"mixed_7{letter}", _V4_C) for letter in "bcd"),
)


# Averages of torchvision count the zeros beyond the border.
_V3_TORCH = tuple((name, _counting_zeros(step)) for name, step in _V3)


def _taps(table, aux=""):
    place = (1, 3)
    for name, step in table:
        place = flow(place, step)
        yield Tap(name, *place)
        if name == aux:
            yield from (Tap("aux_logits", 0, 1000), Tap("aux_probs", 0, 1000))
    yield from vector_taps(place[1])


_BN = _bn_inception(96)
_BN_CAFFE = _bn_inception(128)
_BN_PAPER = "Ioffe and Szegedy 2015, arXiv:1502.03167"
_V3_PAPER = "Szegedy, Vanhoucke, Ioffe, Shlens and Wojna 2016, arXiv:1512.00567"

_INCEPTION_V3 = Spec(
    name="inception_v3",
    build=inception,
    variant={"table": _V3, "gamma": False},
    paper=_V3_PAPER,
    table="table 1 and figures 5 to 7",
    size=299,
    preprocessing="tf",
    parameters=23_817_352,
    statistics=34_432,
    gmacs=5.713,
    body="mixed10",
    taps=tuple(_taps(_V3)),
    minimum=75,
    twin="InceptionV3",
    elsewhere={"torch": "inception_v3_torch"},
    note="Normalisations without gamma, as in Keras.",
)
SPECS = (
    Spec(
        name="bn_inception",
        build=inception,
        variant={"table": _BN, "epsilon": 1e-5},
        paper=_BN_PAPER,
        table="figure 5",
        size=224,
        preprocessing="tf",
        parameters=11_194_984,
        statistics=19_904,
        gmacs=2.019,
        body="inception_5b",
        taps=tuple(_taps(_BN)),
        minimum=1,
        note="Also called Inception-v2. The projections of 4c and 4d have 96 channels, as printed.",
    ),
    Spec(
        name="bn_inception_caffe",
        build=inception,
        variant={"table": _BN_CAFFE, "bias": True, "epsilon": 1e-5},
        paper=_BN_PAPER,
        table="figure 5; the weights that are around",
        size=224,
        preprocessing="caffe_rounded",
        parameters=11_295_240,
        statistics=20_032,
        gmacs=2.033,
        body="inception_5b",
        taps=tuple(_taps(_BN_CAFFE)),
        minimum=1,
        note="Projections of 4c and 4d with 128 channels and a bias beside every normalisation, as "
        "in the Caffe model and its torch port (which subtract 128 instead of 123 from red).",
    ),
    _INCEPTION_V3,
    in_torch(
        _INCEPTION_V3,
        variant={"table": _V3_TORCH},
        preprocessing="tf",
        parameters=23_834_568,
        taps=tuple(_taps(_V3_TORCH)),
        elsewhere={},
        note="As in torchvision and timm, whose files it takes: with gamma, and averages of three "
        "by three that count the zeros beyond the border.",
    ),
    Spec(
        name="inception_v3_aux",
        build=inception,
        variant={"table": _V3, "aux": "mixed7"},
        paper=_V3_PAPER,
        table="table 1, figures 5 to 7, and figure 8",
        size=299,
        preprocessing="tf",
        parameters=27_161_264,
        statistics=36_224,
        gmacs=5.719,
        body="mixed10",
        taps=tuple(_taps(_V3, "mixed7")),
        minimum=299,
        elsewhere={"torch": "inception_v3_torch"},
        note="With gamma, and an auxiliary classifier for training, which is built where one of "
        'its taps is asked for: `features=["aux_probs", "probs"]`.',
    ),
    Spec(
        name="inception_v4",
        build=inception,
        variant={"table": _V4, "dropout": 0.2},
        paper="Szegedy, Ioffe, Vanhoucke and Alemi 2017, arXiv:1602.07261",
        table="figures 3 to 9",
        size=299,
        preprocessing="tf",
        parameters=42_679_816,
        statistics=63_168,
        gmacs=12.25,
        body="mixed_7d",
        taps=tuple(_taps(_V4)),
        minimum=75,
        note="Order of the 1x7 and 7x1 kernels of the stem as in the released code.",
    ),
)

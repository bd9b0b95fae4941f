"""The early nets: handwritten digits, from 1989 to LeNet-5 (LeCun et al. 1989, 1990, 1998)."""

import lazy_loader as lazy

from shared import layers
from shared.errors import ConvsuiteError

from .blocks import classifier, conv_relu
from .specs import Spec, Tap, vector_taps

keras = lazy.load("keras")

# Input maps of every map of the second convolution. In 1989 each sees 8 of 12; which ones is not
# printed, so the choice of taking turns is ours. The rows of 1990 give the published number of
# connections; those of 1998 are table I of the paper.
EIGHT_OF_TWELVE = tuple(tuple((i + j) % 12 for j in range(8)) for i in range(12))
TABLE_1990 = (
    *((0,), (0, 1), (0, 1), (1,), (0, 1), (0, 1)),
    *((2,), (2, 3), (2, 3), (3,), (2, 3), (2, 3)),
)
TABLE_1998 = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (4, 5, 0), (5, 0, 1)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (3, 4, 5, 0), (4, 5, 0, 1), (5, 0, 1, 2)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5)),
)

# The targets of F6: ten glyphs of 7x12 pixels. The paper prints its own as a picture only.
_GLYPHS = """
.#####. ...##.. .#####. .#####. ....##. ####### ..####. ####### .#####. .#####.
##...## ..###.. ##...## ##...## ...###. ##..... .##.... .....## ##...## ##...##
##...## .####.. .....## .....## ...###. ##..... ##..... .....## ##...## ##...##
##...## ...##.. .....## .....## ..#.##. ##..... ##..... ....##. ##...## ##...##
##...## ...##.. .....## .....## ..#.##. ##..... ##..... ....##. .##.##. ##...##
##...## ...##.. ....##. ..####. .#..##. ######. ######. ...##.. ..###.. .######
##...## ...##.. ...##.. .....## .#..##. .....## ##...## ...##.. .##.##. .....##
##...## ...##.. ..##... .....## #...##. .....## ##...## ..##... ##...## .....##
##...## ...##.. .##.... .....## ####### .....## ##...## ..##... ##...## .....##
##...## ...##.. ##..... .....## ....##. .....## ##...## ..##... ##...## .....##
##...## ...##.. ##..... ##...## ....##. ##...## ##...## .##.... ##...## ....##.
.#####. .###### ####### .#####. ....##. .#####. .#####. .##.... .#####. .####..
"""


def codes() -> list[list[float]]:
    """Return the code of each digit: 84 numbers, +1 for ink and -1 for paper, row by row."""
    rows = [line.split() for line in _GLYPHS.split("\n") if line]
    return [
        [1.0 if pixel == "#" else -1.0 for row in rows for pixel in row[digit]]
        for digit in range(10)
    ]


def lecun1989(x, classes):
    """Yield the taps of the net of 1989, whose kernels are shared but whose biases are not.

    Args:
        x: Input, `(batch, 16, 16, 1)`, background -1, ink 1.
        classes: Classes of the classifier.
    """
    for i, table in enumerate((None, EIGHT_OF_TWELVE), 1):
        x = layers.LocallyBiasedConv(12, 5, strides=2, border=-1.0, table=table, name=f"h{i}")(x)
        x = _squash(x, f"h{i}")
        yield f"conv{i}", x
    x = _dense(keras.layers.Flatten(name="flatten")(x), 30, "h3")
    yield from _squashed_classifier(x, classes)


def lecun1990(x, classes):
    """Yield the taps of the net of 1990: shared biases, and subsampling that is learned.

    Args:
        x: Input, `(batch, 28, 28, 1)`, background -1, ink 1.
        classes: Classes of the classifier.
    """
    for i, (filters, table) in enumerate(((4, None), (12, TABLE_1990)), 1):
        x = _conv(x, filters, table, f"h{2 * i - 1}")
        yield f"conv{i}", x
        x = _subsample(x, f"h{2 * i}")
        yield f"pool{i}", x
    yield from _squashed_classifier(keras.layers.Flatten(name="flatten")(x), classes)


def lenet5(x, classes, *, output="rbf"):
    """Yield the taps of LeNet-5.

    Args:
        x: Input, `(batch, 32, 32, 1)`, background -0.1, ink 1.175.
        classes: Classes of the classifier; 10 with the fixed codes.
        output: `rbf`, distances to the glyphs of the digits, or `softmax`.

    Raises:
        ConvsuiteError: Other classes than the digits, with `rbf`.
    """
    if output == "rbf" and classes != 10:
        raise ConvsuiteError(
            f"lenet5 compares with glyphs of the ten digits and cannot have {classes} classes; "
            "lenet5_softmax can."
        )
    for i, (filters, table) in enumerate(((6, None), (16, TABLE_1998)), 1):
        x = _conv(x, filters, table, f"c{2 * i - 1}")
        yield f"conv{i}", x
        x = _subsample(x, f"s{2 * i}")
        yield f"pool{i}", x
    x = _conv(x, 120, None, "c5")
    yield "conv3", x
    x = _dense(keras.layers.Flatten(name="flatten")(x), 84, "f6")
    if output == "softmax":
        yield from classifier(x, classes)
        return
    yield "penultimate", x
    x = layers.RBFOutput(codes(), name="predictions")(x)
    yield "distances", x
    x = keras.layers.Rescaling(-1.0, name="negative")(x)
    yield "logits", x
    yield "probs", keras.layers.Activation("softmax", dtype="float32", name="probs")(x)


def lenet5_modern(x, classes):
    """Yield the taps of what is called LeNet today: all links, maximum pooling, ReLU, softmax.

    Args:
        x: Input, `(batch, 32, 32, 1)`.
        classes: Classes of the classifier.
    """
    for i, filters in enumerate((6, 16), 1):
        x = conv_relu(x, filters, 5, padding="valid", name=f"conv{i}")
        yield f"conv{i}", x
        x = keras.layers.MaxPooling2D(2, name=f"pool{i}")(x)
        yield f"pool{i}", x
    x = keras.layers.Flatten(name="flatten")(x)
    for i, units in enumerate((120, 84), 1):
        x = keras.layers.Dense(units, activation="relu", name=f"fc{i}")(x)
    yield from classifier(x, classes)


def _squash(x, name):
    return layers.ScaledTanh(name=f"{name}_squash")(x)


def _conv(x, filters, table, name):
    """Convolution of 5x5 with a squashing function; None as table links all maps."""
    if table is None:
        start = layers.FanInUniform()
        x = keras.layers.Conv2D(filters, 5, kernel_initializer=start, name=name)(x)
    else:
        x = layers.PartialConv(filters, 5, table, name=name)(x)
    return _squash(x, name)


def _subsample(x, name):
    return _squash(layers.ChannelLinearSubsample(2, name=name)(x), name)


def _dense(x, units, name):
    start = layers.FanInUniform()
    return _squash(keras.layers.Dense(units, kernel_initializer=start, name=name)(x), name)


def _squashed_classifier(x, classes):
    """Yield the end of the nets whose targets are +1 for the class and -1 for the others."""
    yield "penultimate", x
    start = layers.FanInUniform()
    x = keras.layers.Dense(classes, kernel_initializer=start, name="predictions")(x)
    yield "logits", x
    yield "outputs", layers.ScaledTanh(name="outputs")(x)


_LENET5_TAPS = (
    *(Tap("conv1", 1, 6), Tap("pool1", 2, 6), Tap("conv2", 2, 16), Tap("pool2", 4, 16)),
    *(Tap("conv3", 4, 120), Tap("penultimate", 0, 84)),
)
_ENDS = (Tap("logits", 0, 10), Tap("outputs", 0, 10))
_COMMON = {"channels": 1, "classes": 10, "crop": 1.0}
_LENET5 = {
    **_COMMON,
    "crop": 32 / 28,  # the paper puts its digits into the middle of a larger field
    "preprocessing": "lecun",
    "build": lenet5,
    "paper": "LeCun, Bottou, Bengio and Haffner 1998, Proceedings of the IEEE 86(11)",
    "table": "figure 2 and table I",
    "size": 32,
    "gmacs": 326_520e-9,
    "body": "pool2",
    "minimum": 16,
    "fixed_size": True,
}

SPECS = (
    Spec(
        **_COMMON,
        name="lecun1989",
        build=lecun1989,
        paper="LeCun et al. 1989, Neural Computation 1(4)",
        table="figure 3",
        size=16,
        preprocessing="tf",
        parameters=9_760,
        gmacs=63_660e-9,
        body="conv2",
        taps=(Tap("conv1", 2, 12), Tap("conv2", 4, 12), Tap("penultimate", 0, 30), *_ENDS),
        minimum=16,
        fixed_size=True,
        note="Which 8 of the 12 maps each second map sees is not printed; here they take turns.",
    ),
    Spec(
        **_COMMON,
        name="lecun1990",
        build=lecun1990,
        paper="LeCun et al. 1990, NIPS 2",
        table="figure 4",
        size=28,
        preprocessing="tf",
        parameters=2_578,
        gmacs=91_520e-9,
        body="pool2",
        taps=(
            *(Tap("conv1", 1, 4), Tap("pool1", 2, 4), Tap("conv2", 2, 12), Tap("pool2", 4, 12)),
            *(Tap("penultimate", 0, 192), *_ENDS),
        ),
        minimum=16,
        fixed_size=True,
    ),
    Spec(
        **_LENET5,
        name="lenet5",
        parameters=60_000,
        taps=(*_LENET5_TAPS, Tap("distances", 0, 10), *vector_taps(84, 10)[1:]),
        note="The glyphs behind the output are drawn anew: the paper prints them as a picture.",
    ),
    Spec(
        **_LENET5,
        name="lenet5_softmax",
        variant={"output": "softmax"},
        parameters=60_850,
        taps=(*_LENET5_TAPS, *vector_taps(84, 10)[1:]),
        note="LeNet-5 with a trained softmax in place of the fixed codes.",
    ),
    Spec(
        **_LENET5
        | {"build": lenet5_modern, "gmacs": 416_520e-9, "table": "figure 2, as commonly rebuilt"},
        name="lenet5_modern",
        parameters=61_706,
        taps=(*_LENET5_TAPS[:4], *vector_taps(84, 10)),
        note="All links in the second convolution, maximum pooling, ReLU, softmax.",
    ),
)

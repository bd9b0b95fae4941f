"""AlexNet and its relatives: five convolutions, two hidden layers (Krizhevsky et al. 2012)."""

import lazy_loader as lazy

from shared import layers

from .blocks import classifier, conv_relu
from .specs import Spec, Tap, vector_taps

keras = lazy.load("keras")

# Channels, kernel, stride, padding, divided into columns, what follows.
_ALEXNET = (
    (96, 11, 4, "valid", False, ("norm", "pool")),
    (256, 5, 1, "same", True, ("norm", "pool")),
    (384, 3, 1, "same", False, ()),
    (384, 3, 1, "same", True, ()),
    (256, 3, 1, "same", True, ("pool",)),
)
_OWT = (
    (64, 11, 4, 2, False, ("pool",)),
    (192, 5, 1, "same", False, ("pool",)),
    (384, 3, 1, "same", False, ()),
    (256, 3, 1, "same", False, ()),
    (256, 3, 1, "same", False, ("pool",)),
)
_ZFNET = (
    (96, 7, 2, 1, False, ("pool", "norm")),
    (256, 5, 2, "valid", False, ("pool", "norm")),
    (384, 3, 1, "same", False, ()),
    (384, 3, 1, "same", False, ()),
    (256, 3, 1, "same", False, ("pool",)),
)
# CaffeNet pools in front of its normalisations.
_CAFFENET = (
    (*_ALEXNET[0][:5], ("pool", "norm")),
    (*_ALEXNET[1][:5], ("pool", "norm")),
    *_ALEXNET[2:],
)
_ZF5 = (*_ZFNET[:4], (*_ZFNET[4][:5], ()))
_PYRAMID = (6, 3, 2, 1)

# Constants of the response normalisation: of the paper, and of the models trained with Caffe.
_NORMS = {
    "paper": {"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 2.0, "normalize_by_n": False},
    "caffe": {"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 1.0, "normalize_by_n": True},
}


def alexnet(x, classes, *, convolutions, columns=1, norm="paper", ceil=True, pyramid=()):
    """Yield the taps of an AlexNet.

    Args:
        x: Input, `(batch, height, width, 3)`.
        classes: Classes of the classifier.
        convolutions: Rows of channels, kernel, stride, padding, whether it is divided into columns,
            and what follows it: `norm`, `pool`.
        columns: Into how many groups those convolutions are divided.
        norm: Constants of the response normalisation, `paper` (k = 2, alpha not divided by the
            five channels) or `caffe` (k = 1, alpha divided).
        ceil: Pooling windows may hang over the border, as in Caffe.
        pyramid: Levels of a spatial pyramid in front of the hidden layers, which then take maps of
            any size.
    """
    for i, (channels, kernel, stride, padding, divided, behind) in enumerate(convolutions, 1):
        groups = columns if divided else 1
        x = conv_relu(x, channels, kernel, stride, padding, groups=groups, name=f"conv{i}")
        yield f"conv{i}", x
        for step in behind:
            name = f"{step}{i}"
            if step == "norm":
                x = layers.LRN(**_NORMS[norm], name=name)(x)
            elif ceil:
                x = layers.CeilPool(3, 2, name=name)(x)
            else:
                x = keras.layers.MaxPooling2D(3, 2, name=name)(x)
            yield name, x
    if pyramid:
        x = layers.SpatialPyramidPool(pyramid, name="spp")(x)
        yield "spp", x
    else:
        x = keras.layers.Flatten(name="flatten")(x)
    for i in (6, 7):
        x = keras.layers.Dense(4096, activation="relu", name=f"fc{i}")(x)
        x = keras.layers.Dropout(0.5, name=f"drop{i}")(x)
    yield from classifier(x, classes, name="fc8")


def _columns(name, convolutions=_ALEXNET, norm="paper", **facts):
    """Return an AlexNet of two columns."""
    return Spec(
        name=name,
        build=alexnet,
        variant={"convolutions": convolutions, "columns": 2, "norm": norm},
        paper=_KRIZHEVSKY,
        size=227,
        preprocessing="caffe_rounded",
        parameters=60_965_224,
        gmacs=0.724,
        body="pool5",
        taps=tuple(_taps(convolutions)),
        minimum=39,
        fixed_size=True,
        crop=227 / 256,
        **facts,
    )


def _taps(convolutions, pyramid=()):
    total = 1
    for i, (channels, _, stride, _, _, behind) in enumerate(convolutions, 1):
        total *= stride
        yield Tap(f"conv{i}", total, channels)
        for step in behind:
            total *= 2 if step == "pool" else 1
            yield Tap(f"{step}{i}", total, channels)
    if pyramid:
        yield Tap("spp", 0, channels * sum(level**2 for level in pyramid))
    yield from vector_taps(4096)


_KRIZHEVSKY = "Krizhevsky, Sutskever and Hinton 2012, NIPS"
_ZEILER = "Zeiler and Fergus 2013, arXiv:1311.2901"

SPECS = (
    _columns(
        "alexnet",
        table="section 3.5, figure 2",
        elsewhere={"caffe": "alexnet_caffe or caffenet"},
        note="Two columns are convolutions of two groups. The paper says 224 pixels, its figures "
        "need 227. Normalisation with the paper's constants.",
    ),
    _columns(
        "alexnet_caffe",
        norm="caffe",
        table="section 3.5, figure 2; the reference model of Caffe, bvlc_alexnet",
        note="`alexnet` with the constants of the normalisation that the file of Caffe was trained "
        "with: k = 1, alpha divided by the five channels.",
    ),
    _columns(
        "caffenet",
        _CAFFENET,
        norm="caffe",
        table="the reference model of Caffe, bvlc_reference_caffenet",
        note="`alexnet_caffe` with each normalisation behind the pool instead of in front of it.",
    ),
    Spec(
        name="alexnet_single",
        build=alexnet,
        variant={"convolutions": _ALEXNET},
        paper=_KRIZHEVSKY,
        table="section 3.5, in one column",
        size=227,
        preprocessing="caffe_rounded",
        parameters=62_378_344,
        gmacs=1.135,
        body="pool5",
        taps=tuple(_taps(_ALEXNET)),
        minimum=39,
        fixed_size=True,
        crop=227 / 256,
        note="`alexnet` without the division into two columns.",
    ),
    Spec(
        name="alexnet_owt",
        build=alexnet,
        variant={"convolutions": _OWT, "ceil": False},
        paper="Krizhevsky 2014, arXiv:1404.5997",
        table="section 5",
        size=224,
        preprocessing="torch",
        parameters=61_100_840,
        gmacs=0.714,
        body="pool5",
        taps=tuple(_taps(_OWT)),
        minimum=63,
        fixed_size=True,
        note="“One weird trick”: fewer channels, no response normalisation; the AlexNet of "
        "torchvision, whose pools do not hang over the border.",
    ),
    Spec(
        name="zfnet",
        build=alexnet,
        variant={"convolutions": _ZFNET},
        paper=_ZEILER,
        table="figure 3",
        size=224,
        preprocessing="caffe",
        parameters=62_357_608,
        gmacs=1.168,
        body="pool5",
        taps=tuple(_taps(_ZFNET)),
        minimum=47,
        fixed_size=True,
        elsewhere={"caffe": ""},
        note="The paper names no constants of the normalisation; these are AlexNet's.",
    ),
    Spec(
        name="spp_zf5",
        build=alexnet,
        variant={"convolutions": _ZF5, "pyramid": _PYRAMID},
        paper="He, Zhang, Ren and Sun 2014, arXiv:1406.4729",
        table="table 1, ZF-5, with the pyramid of 50 bins",
        size=224,
        preprocessing="caffe",
        parameters=77_037_672,
        gmacs=1.183,
        body="conv5",
        taps=tuple(_taps(_ZF5, _PYRAMID)),
        minimum=31,
        elsewhere={"caffe": ""},
        note="The pyramid stands where `zfnet` has its last pool; pictures of any size.",
    ),
)

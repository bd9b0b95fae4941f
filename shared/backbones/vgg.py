"""VGG: stacks of 3x3 convolutions (Simonyan and Zisserman 2014)."""

from collections.abc import Iterator

import lazy_loader as lazy

from .blocks import classifier, conv_relu
from .specs import Spec, Tap, in_torch

keras = lazy.load("keras")

# Convolutions per block of configurations A, B, D and E.
_CONFIGURATIONS = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
_CHANNELS = (64, 128, 256, 512, 512)
_FIGURES = {
    "vgg11": (132_863_336, 7.609),
    "vgg13": (133_047_848, 11.308),
    "vgg16": (138_357_544, 15.47),
    "vgg19": (143_667_240, 19.63),
}


def vgg(x, classes, *, repeats, pool="max"):
    """Yield the taps of a VGG network.

    Args:
        x: Input, `(batch, height, width, 3)`.
        classes: Classes of the classifier.
        repeats: Convolutions of each of the five blocks.
        pool: `max`, or `avg` as texture synthesis prefers.
    """
    layer = {"max": "MaxPooling2D", "avg": "AveragePooling2D"}[pool]
    for block, (repeat, channels) in enumerate(zip(repeats, _CHANNELS, strict=True), 1):
        for i in range(1, repeat + 1):
            x = conv_relu(x, channels, 3, name=f"block{block}_conv{i}")
            yield f"conv{block}_{i}", x
        x = getattr(keras.layers, layer)(2, name=f"block{block}_pool")(x)
        yield f"pool{block}", x
    x = keras.layers.Flatten(name="flatten")(x)
    for i in (1, 2):
        x = keras.layers.Dense(4096, activation="relu", name=f"fc{i}")(x)
        x = keras.layers.Dropout(0.5, name=f"dropout{i}")(x)
    yield from classifier(x, classes)


def _taps(repeats):
    for block, (repeat, channels) in enumerate(zip(repeats, _CHANNELS, strict=True), 1):
        for i in range(1, repeat + 1):
            yield Tap(f"conv{block}_{i}", 2 ** (block - 1), channels)
        yield Tap(f"pool{block}", 2**block, channels)
    yield from (Tap("penultimate", 0, 4096), Tap("logits", 0, 1000), Tap("probs", 0, 1000))


def _specs(name: str, configuration: str) -> Iterator[Spec]:
    """Yield a network for the files of its authors and Keras, and the same for those of torch."""
    repeats = _CONFIGURATIONS[name]
    spec = Spec(
        name=name,
        build=vgg,
        variant={"repeats": repeats},
        paper="Simonyan and Zisserman 2014, arXiv:1409.1556",
        table=f"table 1, configuration {configuration}",
        size=224,
        preprocessing="caffe",
        parameters=_FIGURES[name][0],
        gmacs=_FIGURES[name][1],
        body="pool5",
        taps=tuple(_taps(repeats)),
        minimum=32,
        fixed_size=True,
        twin=name.upper() if name in ("vgg16", "vgg19") else "",
        elsewhere={"torch": f"{name}_torch"},
        note="Without the local response normalisation of A-LRN, which the paper found useless.",
    )
    yield from (spec, in_torch(spec))


SPECS = tuple(
    spec
    for name, configuration in zip(_CONFIGURATIONS, "ABDE", strict=True)
    for spec in _specs(name, configuration)
)

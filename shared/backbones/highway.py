"""Highway networks: gates carry the input through many layers (Srivastava et al. 2015)."""

import lazy_loader as lazy

from shared import layers

from .blocks import classifier
from .specs import Spec, Tap, vector_taps

keras = lazy.load("keras")

_DEPTHS = (10, 20, 50, 100)
_FIGURES = {
    "highway_mlp": (80_560, 131_560, 284_560, 539_560),
    "plain_mlp": (97_351, 148_471, 301_831, 557_431),
}


def highway_mlp(x, classes, *, depth, gate_bias=-2.0, activation="relu"):
    """Yield the taps of a highway network of 50 units a layer.

    Args:
        x: Input, `(batch, 28, 28, 1)`.
        classes: Classes of the classifier.
        depth: Layers with weights: one plain, `depth` - 2 highway, one classifier.
        gate_bias: Where the biases of the gates start; the deeper, the further below 0.
        activation: Of the plain layer and of the transformations.
    """
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dense(50, activation=activation, name="layer1")(x)
    yield "layer1", x
    for i in range(2, depth):
        x = layers.HighwayDense(50, bias=gate_bias, activation=activation, name=f"layer{i}")(x)
        yield f"layer{i}", x
    yield from classifier(x, classes)


def plain_mlp(x, classes, *, depth, activation="relu"):
    """Yield the taps of the plain control: 71 units a layer, about as many parameters.

    Args:
        x: Input, `(batch, 28, 28, 1)`.
        classes: Classes of the classifier.
        depth: Layers with weights.
        activation: Of all layers but the last.
    """
    x = keras.layers.Flatten(name="flatten")(x)
    for i in range(1, depth):
        x = keras.layers.Dense(71, activation=activation, name=f"layer{i}")(x)
        yield f"layer{i}", x
    yield from classifier(x, classes)


def _multiply_adds(build, depth):
    width, per_layer = (50, 2) if build is highway_mlp else (71, 1)
    return 784 * width + (depth - 2) * per_layer * width**2 + width * 10


SPECS = tuple(
    Spec(
        name=f"{build.__name__}_d{depth}",
        build=build,
        variant={"depth": depth},
        paper="Srivastava, Greff and Schmidhuber 2015, arXiv:1505.00387",
        table="section 3.1, MNIST",
        size=28,
        channels=1,
        classes=10,
        preprocessing="unit",
        parameters=parameters,
        gmacs=_multiply_adds(build, depth) * 1e-9,
        body="penultimate",
        taps=(
            *(Tap(f"layer{i}", 0, width) for i in range(1, depth)),
            *vector_taps(width, 10),
        ),
        minimum=28,
        fixed_size=True,
        crop=1.0,
    )
    for build, width in ((highway_mlp, 50), (plain_mlp, 71))
    for depth, parameters in zip(_DEPTHS, _FIGURES[build.__name__], strict=True)
)

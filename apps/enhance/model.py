"""The network of HDRNet: a bilateral grid of colour matrices from a thumbnail, and a guide.

Source: Gharbi et al. 2017, section 3 and table 1. All inputs are sRGB in 0..1.
"""

import math
from dataclasses import dataclass

import keras
import numpy as np
from keras import layers, ops

from shared.layers.bilateral import SliceApply
from shared.layers.bilateral_numba import GuideConstants

from .thumbnail import SIZE
from .views import NOISE, NOISY, PATCH, patch_sides

GLOBAL_STRIDED_CONVS = 2
KNOTS = 16


@dataclass(frozen=True)
class Architecture:
    """Sizes of the network; the defaults are the published ones."""

    width: int = 1
    """Channel multiplier; the paper uses 2 for faces and style transfer."""
    cells: int = 16
    """Grid cells along each side of the picture."""
    depth: int = 8
    """Grid cells along the guide."""
    guide: str = "curves"
    """`curves` (the paper) or `nn` (a pointwise network, most of the published weights)."""
    batch_norm: bool = False
    levels: int = 1
    """Levels of the Gaussian pyramid: 1, or 3 for the multi-scale variant of section 5.1."""
    grid_smoothness: float = 0.0
    """Weight of the squared difference between neighbouring cells, added to the loss."""


def coefficients(architecture=Architecture(), name="coefficients"):
    """Build the network that predicts the grid.

    Args:
        architecture: sizes.
        name: of the model.

    Returns:
        A functional model, thumbnail `(batch, 256, 256, 3)` -> grids
        `(batch, cells, cells, depth, 3 * levels, 4)`; the first three output rows belong to the
        full resolution. Untrained, every cell is close to the identity matrix (coarse levels: 0).
    """
    a = architecture

    def conv(x, filters, name, *, stride=1, activation="relu", bias=True, normalise=a.batch_norm):
        x = layers.Conv2D(
            filters, 3, stride, "same", use_bias=bias, kernel_initializer="he_normal", name=name
        )(x)
        if normalise:
            x = layers.BatchNormalization(scale=False, epsilon=1e-3, name=f"{name}_bn")(x)
        return layers.Activation(activation, name=f"{name}_out")(x) if activation else x

    def dense(x, units, name, *, activation="relu"):
        x = layers.Dense(units, kernel_initializer="he_normal", name=name)(x)
        if activation and a.batch_norm:
            x = layers.BatchNormalization(scale=False, epsilon=1e-3, name=f"{name}_bn")(x)
        return layers.Activation(activation, name=f"{name}_out")(x) if activation else x

    thumbnail = keras.Input((SIZE, SIZE, 3), name="thumbnail")
    features = thumbnail
    base = a.width * a.depth
    halvings = round(math.log2(SIZE / a.cells))
    for i in range(halvings):
        features = conv(
            features, base * 2**i, f"splat{i + 1}", stride=2, normalise=a.batch_norm and i > 0
        )

    x = features
    for i in range(GLOBAL_STRIDED_CONVS):
        x = conv(x, 8 * base, f"global_conv{i + 1}", stride=2)
    x = layers.Flatten(name="global_flat")(x)
    x = dense(x, 32 * base, "global_dense1")
    x = dense(x, 16 * base, "global_dense2")
    x = dense(x, 8 * base, "global_dense3", activation=None)
    scene = layers.Reshape((1, 1, 8 * base), name="global")(x)

    x = conv(features, 8 * base, "local1")
    local = conv(x, 8 * base, "local2", activation=None, bias=False, normalise=False)
    fused = layers.Activation("relu", name="fusion")(layers.Add(name="sum")([local, scene]))

    rows = 3 * a.levels
    grid = layers.Conv2D(
        a.depth * rows * 4,
        1,
        kernel_initializer=keras.initializers.RandomNormal(stddev=5e-4),
        bias_initializer=_IdentityMatrices(a.depth, rows),
        dtype="float32",  # arithmetic on the grid in bfloat16 would band skies
        name="prediction",
    )(fused)
    grid = layers.Reshape((a.cells, a.cells, a.depth, rows, 4), dtype="float32", name="grid")(grid)
    if a.grid_smoothness:
        grid = GridSmoothness(a.grid_smoothness, dtype="float32", name="grid_smoothness")(grid)
    return keras.Model(thumbnail, grid, name=name)


@keras.saving.register_keras_serializable("convsuite")
class _IdentityMatrices(keras.initializers.Initializer):
    """Bias of the prediction layer: the first three rows are the identity, the others 0."""

    def __init__(self, depth, rows):
        self.depth, self.rows = depth, rows

    def __call__(self, shape, dtype=None):
        matrix = np.eye(self.rows, 4) * (np.arange(self.rows) < 3)[:, None]
        return ops.reshape(ops.convert_to_tensor(np.tile(matrix, (self.depth, 1, 1)), dtype), shape)

    def get_config(self):
        return {"depth": self.depth, "rows": self.rows}


@keras.saving.register_keras_serializable("convsuite")
class GridSmoothness(keras.layers.Layer):
    """Pass the grid through and add `weight` x mean squared neighbour differences to the loss."""

    def __init__(self, weight, **kwargs):
        super().__init__(**kwargs)
        self.weight = weight

    def call(self, grid):
        """Return the grid itself."""
        for axis in (1, 2, 3):
            size = grid.shape[axis]
            upper = ops.take(grid, range(1, size), axis=axis)
            lower = ops.take(grid, range(size - 1), axis=axis)
            self.add_loss(self.weight * ops.mean(ops.square(upper - lower)))
        return grid

    def get_config(self):
        """Return the arguments of the constructor."""
        return super().get_config() | {"weight": self.weight}


class NoiseConsistency(keras.layers.Layer):
    """Pass the colours through and add `weight` x the mean squared response of the grid to noise.

    The response is the change of a coefficient over the standard deviation of the noise, so that
    the weight does not depend on how strong the noise is.
    """

    def __init__(self, weight, **kwargs):
        super().__init__(**kwargs)
        self.weight = weight

    def call(self, inputs):
        """Return the colours of `[colours, grid, noisy grid]`."""
        colours, grid, noisy = inputs
        self.add_loss(self.weight * ops.mean(ops.square((noisy - grid) / NOISE)))
        return colours


@keras.saving.register_keras_serializable("convsuite")
class CurvesGuide(keras.layers.Layer):
    """Guide of the paper (equation 6): colour matrix, three piecewise linear curves, mixing.

    `(..., 3)` in 0..1 -> `(...)` in 0..1. The clipping has no gradient outside 0..1, so the
    overshoot costs `1e-3` x its mean; otherwise very dark or bright sets could lose the guide.
    """

    overshoot_cost = 1e-3

    def build(self, input_shape):
        """Create `matrix`, `shift`, `slopes`, `knots`, `mix`, `mix_shift`."""

        def weight(name, value):
            value = np.asarray(value, "float32")
            return self.add_weight(
                shape=value.shape,
                initializer=lambda shape, dtype: ops.convert_to_tensor(value, dtype),
                name=name,
            )

        first_only = np.zeros((3, KNOTS))
        first_only[:, 0] = 1
        self.matrix = weight(
            "matrix", np.eye(3) + 1e-4 * ops.convert_to_numpy(keras.random.normal(()))
        )
        self.shift = weight("shift", np.zeros(3))
        self.slopes = weight("slopes", first_only)
        self.knots = weight("knots", np.tile(np.arange(KNOTS) / KNOTS, (3, 1)))
        self.mix = weight("mix", np.full(3, 1 / 3))
        self.mix_shift = weight("mix_shift", 0.0)

    def call(self, colours):
        """Return the guide."""
        value = ops.matmul(colours, self.matrix) + self.shift
        curves = ops.sum(self.slopes * ops.relu(ops.expand_dims(value, -1) - self.knots), axis=-1)
        guide = ops.sum(curves * self.mix, axis=-1) + self.mix_shift
        self.add_loss(self.overshoot_cost * ops.mean(ops.relu(-guide) + ops.relu(guide - 1)))
        return ops.clip(guide, 0, 1)

    def constants(self) -> GuideConstants:
        """Return the weights as arrays."""
        matrix, shift, slopes, knots, mix, mix_shift = map(
            ops.convert_to_numpy,
            (self.matrix, self.shift, self.slopes, self.knots, self.mix, self.mix_shift),
        )
        return GuideConstants(
            "curves", matrix, shift, slopes * mix[:, None], knots, float(mix_shift)
        )


@keras.saving.register_keras_serializable("convsuite")
class PointwiseGuide(keras.layers.Layer):
    """Guide by a pointwise network: 1x1 to 16 channels, BN without scale, ReLU, 1x1, sigmoid.

    `(..., 3)` in 0..1 -> `(...)` in 0..1.
    """

    def build(self, input_shape):
        """Create the two dense layers and the normalisation."""
        self.hidden = layers.Dense(KNOTS, kernel_initializer="he_normal", name="hidden")
        self.normalise = layers.BatchNormalization(scale=False, epsilon=1e-3, name="normalise")
        self.out = layers.Dense(1, kernel_initializer="he_normal", name="out")
        self.hidden.build(input_shape)
        self.normalise.build((*input_shape[:-1], KNOTS))
        self.out.build((*input_shape[:-1], KNOTS))

    def call(self, colours, training=None):
        """Return the guide."""
        x = ops.relu(self.normalise(self.hidden(colours), training=training))
        return ops.sigmoid(self.out(x))[..., 0]

    def constants(self) -> GuideConstants:
        """Return the weights as arrays, with the normalisation folded in."""
        n = self.normalise
        kernel, bias, out, out_shift, mean, variance, beta = map(
            ops.convert_to_numpy,
            (
                self.hidden.kernel,
                self.hidden.bias,
                self.out.kernel,
                self.out.bias,
                n.moving_mean,
                n.moving_variance,
                n.beta,
            ),
        )
        scale = 1 / np.sqrt(variance + n.epsilon)
        return GuideConstants(
            "nn",
            matrix=kernel * scale,
            shift=(bias - mean) * scale + beta,
            slopes=out.T,
            knots=np.zeros((1, 1), "float32"),
            out_shift=float(out_shift[0]),
        )


def _guide(kind, name):
    guides = {"curves": CurvesGuide, "nn": PointwiseGuide}
    if kind not in guides:
        raise ValueError(f"Unknown guide {kind!r}: choose one of {', '.join(guides)}.")
    return guides[kind](dtype="float32", name=name)


def hdrnet(architecture=Architecture(), points=2048):
    """Build the whole network as it is trained: on scattered pixels, or patches with `levels` 3.

    Args:
        architecture: sizes.
        points: pixels per picture; patches of 16 x 16 pixels in the multi-scale variant.

    Returns:
        A functional model. Single scale: `{"thumbnail": (batch, 256, 256, 3),
        "positions": (batch, points, 2), "colours": (batch, points, 3)} -> (batch, points, 3)`, not
        clipped. Multi-scale: `positions0..2` and `colours0..2` hold patches of the three levels,
        `(batch, points, side, side, 2 or 3)`. Its layers `coefficients` and `guide…` are what
        inference needs.
    """
    thumbnail = keras.Input((SIZE, SIZE, 3), name="thumbnail")
    grid = coefficients(architecture)(thumbnail)
    if architecture.levels > 1:
        return _pyramid(architecture, points, thumbnail, grid)
    positions = keras.Input((points, 2), name="positions", dtype="float32")
    colours = keras.Input((points, 3), name="colours", dtype="float32")
    guide = _guide(architecture.guide, "guide")(colours)
    out = SliceApply(dtype="float32", name="out")([grid, guide, positions, colours])
    inputs = {"thumbnail": thumbnail, "positions": positions, "colours": colours}
    return keras.Model(inputs, out, name="hdrnet")


def steadied(network, weight):
    """Wrap a network for a training that keeps its grid steady under noise in the thumbnail.

    Args:
        network: made by `hdrnet`; it shares its weights with the result.
        weight: of the mean squared response of the grid, see `NoiseConsistency`.

    Returns:
        A functional model that takes a second thumbnail, `views.NOISY`, beside the inputs of the
        network and returns what the network returns.
    """
    coefficients = network.get_layer("coefficients")
    # Ends before a `GridSmoothness`, which would count twice.
    predict = keras.Model(coefficients.input, coefficients.get_layer("grid").output, name="noisy")
    thumbnail = keras.Input((SIZE, SIZE, 3), name=NOISY)
    noisy = predict(thumbnail)
    out = NoiseConsistency(weight, dtype="float32", name="noise_consistency")(
        [network.output, _grid_of(network), noisy]
    )
    return keras.Model({**network.input, NOISY: thumbnail}, out, name="steadied")


def _grid_of(network):
    """Return the tensor in which a network of `hdrnet` has its grid."""
    first = next(x for x in network.layers if isinstance(x, (SliceApply, _Rows)))
    return first.input[0] if isinstance(first, SliceApply) else first.input


def _pyramid(architecture, patches, thumbnail, grid):
    """Section 5.1: each level has its guide and its three rows; coarse results are enlarged."""
    inputs = {"thumbnail": thumbnail}
    result = None
    for level, side in reversed(list(enumerate(patch_sides()))):
        shape = (patches, side, side)
        positions = keras.Input((*shape, 2), name=f"positions{level}", dtype="float32")
        colours = keras.Input((*shape, 3), name=f"colours{level}", dtype="float32")
        inputs |= {f"positions{level}": positions, f"colours{level}": colours}
        guide = _guide(architecture.guide, f"guide{level}")(colours)
        rows = _Rows(level, dtype="float32", name=f"rows{level}")(grid)
        flat = [
            layers.Reshape((patches * side * side, *tail), dtype="float32")(x)
            for x, tail in ((guide, ()), (positions, (2,)), (colours, (3,)))
        ]
        part = SliceApply(dtype="float32", name=f"slice{level}")([rows, *flat])
        part = layers.Reshape((*shape, 3), dtype="float32")(part)
        if result is not None:
            part = layers.Add(dtype="float32")([part, _Enlarge(dtype="float32")(result)])
        result = part
    return keras.Model(inputs, result, name="hdrnet_pyramid")


@keras.saving.register_keras_serializable("convsuite")
class _Rows(keras.layers.Layer):
    """The three output rows of one level of the grid."""

    def __init__(self, level, **kwargs):
        super().__init__(**kwargs)
        self.level = level

    def call(self, grid):
        return grid[..., 3 * self.level : 3 * self.level + 3, :]

    def get_config(self):
        return super().get_config() | {"level": self.level}


@keras.saving.register_keras_serializable("convsuite")
class _Enlarge(keras.layers.Layer):
    """Double patches bilinearly and drop their ring: side 6 -> 10, 10 -> 16."""

    def call(self, patches):
        count, side = patches.shape[1:3]
        flat = ops.reshape(patches, (-1, side, side, 3))
        double = ops.image.resize(flat, (2 * side, 2 * side), interpolation="bilinear")
        ring = 2 if 2 * side - 4 == PATCH else 1
        inner = double[:, ring:-ring, ring:-ring]
        return ops.reshape(inner, (-1, count, 2 * side - 2 * ring, 2 * side - 2 * ring, 3))


def guides(network):
    """Return the guides of a trained network as arrays, the full resolution first."""
    found = [layer for layer in network.layers if isinstance(layer, (CurvesGuide, PointwiseGuide))]
    return [layer.constants() for layer in sorted(found, key=lambda layer: layer.name)]

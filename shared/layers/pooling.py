"""Pooling that Keras lacks."""

import math

import keras
from keras import ops

from shared.errors import ConvsuiteError

from .windows import Window, check_map, windows


@keras.saving.register_keras_serializable("convsuite")
class CeilPool(Window):
    """Pooling as Caffe counts: the last window may hang over the lower and right border.

    A side becomes `ceil((side - pool_size) / strides) + 1`. Maxima ignore what lies outside,
    averages divide by the part of the window that lies inside.

    Args:
        pool_size: Side of the window, or its height and width.
        strides: Steps of the window; its size by default.
        mode: `max` or `avg`.
        **options: Of every Keras layer.

    Raises:
        ConvsuiteError: The input is not `(batch, height, width, channels)`, or too small.
    """

    def __init__(self, pool_size, strides=None, mode="max", **options):
        super().__init__(pool_size, strides, "ceil", **options)
        if mode not in ("max", "avg"):
            raise ConvsuiteError(f"CeilPool: mode is max or avg, not {mode}.")
        self.mode = mode

    def call(self, x):
        """Return `(batch, rows, columns, channels)`."""
        if self.mode == "max":
            return ops.max_pool(self._pad(x, -math.inf), self.pool_size, self.strides, "valid")
        inside = self._average(ops.ones_like(x[:1, :, :, :1]))
        return self._average(x) / inside

    def _average(self, x):
        return ops.average_pool(self._pad(x, 0.0), self.pool_size, self.strides, "valid")

    def _pad(self, x, value):
        # One pixel less than a step gives one window more wherever pixels are left over.
        rows, columns = (
            (0, min(window, stride) - 1)
            for window, stride in zip(self.pool_size, self.strides, strict=True)
        )
        return ops.pad(x, [(0, 0), rows, columns, (0, 0)], constant_values=value)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "mode": self.mode}


@keras.saving.register_keras_serializable("convsuite")
class SpatialPyramidPool(keras.layers.Layer):
    """Maxima over pyramids of n x n bins: a vector of fixed length for maps of any size.

    Bin i of n covers `floor(i h / n)` to `ceil((i + 1) h / n)`. Source: He et al. 2014, section 2.

    Args:
        levels: Bins along a side, one number per level.
        **options: Of every Keras layer.

    Raises:
        ConvsuiteError: The input is not `(batch, height, width, channels)`.
    """

    def __init__(self, levels=(6, 3, 2, 1), **options):
        super().__init__(**options)
        self.levels = tuple(levels)

    def build(self, input_shape):
        """Check the shape."""
        check_map(self, input_shape)

    def call(self, x):
        """Return `(batch, sum of levels^2 * channels)`: by level, row, column, channel."""
        height, width = ops.shape(x)[1:3]
        vectors = []
        for level in self.levels:
            rows = [ops.max(x[:, a:b], axis=1) for a, b in _bins(height, level)]
            rows = ops.stack(rows, axis=1)
            cells = [ops.max(rows[:, :, a:b], axis=2) for a, b in _bins(width, level)]
            cells = ops.stack(cells, axis=2)
            vectors.append(ops.reshape(cells, (-1, level**2 * x.shape[-1])))
        return ops.concatenate(vectors, axis=1)

    def compute_output_shape(self, input_shape):
        """Return the shape of the output."""
        return (input_shape[0], sum(level**2 for level in self.levels) * input_shape[-1])

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "levels": self.levels}


def _bins(side, bins):
    """Return where each bin begins and ends."""
    return [(i * side // bins, ((i + 1) * side + bins - 1) // bins) for i in range(bins)]


@keras.saving.register_keras_serializable("convsuite")
class LpPool(Window):
    """`(sum over the window of |x|^p)^(1/p)`: p = 1 is the sum, infinity the maximum.

    Source: Sermanet et al. 2012, section 2.1.

    Args:
        pool_size: Side of the window, or its height and width.
        strides: Steps of the window; its size by default.
        p: Exponent, 1 or more.
        **options: Of every Keras layer.

    Raises:
        ConvsuiteError: p is below 1, or the input is not `(batch, height, width, channels)`.
    """

    def __init__(self, pool_size, strides=None, p=2.0, **options):
        super().__init__(pool_size, strides, **options)
        if not p >= 1:
            raise ConvsuiteError(f"LpPool: p must be 1 or more, not {p}.")
        self.p = float(p)

    def call(self, x):
        """Return `(batch, rows, columns, channels)`."""
        x = ops.abs(x)
        if math.isinf(self.p):
            return ops.max_pool(x, self.pool_size, self.strides, "valid")
        total = ops.average_pool(x**self.p, self.pool_size, self.strides, "valid")
        # The root has no slope at 0.
        return (total * math.prod(self.pool_size) + 1e-6) ** (1 / self.p)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "p": self.p}


@keras.saving.register_keras_serializable("convsuite")
class MixedPool(Window):
    """`l * maximum + (1 - l) * average`.

    Mixed (Yu et al. 2014): l is 0 or 1 by chance, one draw per layer and step of training, and
    1/2 elsewhere. Gated (Lee et al. 2016, section 3.2): l is the sigmoid of a learned weighting
    of the window, shared by all channels.

    Args:
        pool_size: Side of the window, or its height and width.
        strides: Steps of the window; its size by default.
        gated: Learn l.
        seed: Of the random choice.
        **options: Of every Keras layer.

    Raises:
        ConvsuiteError: The input is not `(batch, height, width, channels)`, or too small.
    """

    def __init__(self, pool_size, strides=None, gated=False, seed=None, **options):
        super().__init__(pool_size, strides, **options)
        self.gated = gated
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        """Make the weights of the gate."""
        super().build(input_shape)
        if self.gated:
            self.gate = self.add_weight(
                shape=(math.prod(self.pool_size), 1), initializer="zeros", name="gate"
            )

    def call(self, x, training=False):
        """Return `(batch, rows, columns, channels)`."""
        maximum = ops.max_pool(x, self.pool_size, self.strides, "valid")
        average = ops.average_pool(x, self.pool_size, self.strides, "valid")
        if self.gated:
            cut = windows(x, self.pool_size, self.strides)
            part = ops.sigmoid(ops.sum(cut * self.gate, axis=3))
        elif training:
            drawn = keras.random.uniform((), seed=self.seed_generator) < 0.5
            part = ops.cast(drawn, x.dtype)
        else:
            part = 0.5
        return average + part * (maximum - average)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "gated": self.gated, "seed": self.seed}


@keras.saving.register_keras_serializable("convsuite")
class StochasticPool(Window):
    """Training picks one value of each window, with a probability proportional to the value.

    Elsewhere the output is the average with these probabilities as weights. Values below 0 count
    as 0; a window of zeros gives 0. Source: Zeiler and Fergus 2013, equations 4 to 6.

    Args:
        pool_size: Side of the window, or its height and width.
        strides: Steps of the window; its size by default.
        seed: Of the random choice.
        **options: Of every Keras layer.

    Raises:
        ConvsuiteError: The input is not `(batch, height, width, channels)`, or too small.
    """

    def __init__(self, pool_size, strides=None, seed=None, **options):
        super().__init__(pool_size, strides, **options)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, x, training=False):
        """Return `(batch, rows, columns, channels)`."""
        cut = windows(ops.relu(x), self.pool_size, self.strides)
        if not training:
            total = ops.sum(cut, axis=3)
            return ops.sum(ops.square(cut), axis=3) / ops.maximum(total, keras.config.epsilon())
        # The largest of log(weight) + Gumbel noise is a draw with these weights; log(0) never wins
        # against a positive value.
        uniform = keras.random.uniform(ops.shape(cut), 1e-7, 1.0, seed=self.seed_generator)
        weights = ops.log(ops.cast(ops.stop_gradient(cut), "float32"))
        drawn = ops.argmax(weights - ops.log(-ops.log(uniform)), axis=3, keepdims=True)
        return ops.squeeze(ops.take_along_axis(cut, drawn, axis=3), axis=3)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "seed": self.seed}


@keras.saving.register_keras_serializable("convsuite")
class Maxout(keras.layers.Layer):
    """Maximum over groups of neighbouring channels.

    Source: Goodfellow et al. 2013, section 2. Works on vectors and maps alike.

    Args:
        pieces: Channels of a group.
        **options: Of every Keras layer.

    Raises:
        ConvsuiteError: The channels cannot be divided into such groups.
    """

    def __init__(self, pieces, **options):
        super().__init__(**options)
        if pieces < 1:
            raise ConvsuiteError(f"Maxout: pieces must be 1 or more, not {pieces}.")
        self.pieces = pieces

    def build(self, input_shape):
        """Check the shape."""
        if not input_shape[-1] or input_shape[-1] % self.pieces:
            raise ConvsuiteError(
                f"Maxout {self.name}: {input_shape[-1]} channels are no multiple of "
                f"{self.pieces} pieces."
            )

    def call(self, x):
        """Return the shape of the input with channels / pieces channels."""
        return ops.max(ops.stack([x[..., i :: self.pieces] for i in range(self.pieces)]), axis=0)

    def compute_output_shape(self, input_shape):
        """Return the shape of the output."""
        return (*input_shape[:-1], input_shape[-1] // self.pieces)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "pieces": self.pieces}

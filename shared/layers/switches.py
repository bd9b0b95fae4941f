"""Maxima with their places, and the way back: the switches of deconvolutional networks."""

import math

import keras
from keras import ops

from shared.errors import ConvsuiteError

from .windows import Window, check_map, same_margins, windows


@keras.saving.register_keras_serializable("convsuite")
class MaxPoolWithIndices(Window):
    """Max pooling that also tells where each maximum stood.

    An index is `row * width + column` in the input; of equal maxima the first counts, row by row.
    Source: Zeiler and Fergus 2013, "Visualizing and Understanding Convolutional Networks",
    section 2.1.

    Args:
        pool_size: Side of the window, or its height and width.
        strides: Steps of the window; its size by default.
        padding: `valid`, `same`, or `ceil` as in `CeilPool`. Indices never point outside.
        **options: Of every Keras layer.

    Raises:
        ConvsuiteError: The input is not `(batch, height, width, channels)`, or too small.
    """

    def call(self, x):
        """Return values and int32 indices, both `(batch, rows, columns, channels)`."""
        height, width = ops.shape(x)[1:3]
        (top, bottom), (left, right) = (
            self._margins(side, axis) for axis, side in enumerate((height, width))
        )
        margins = [(0, 0), (top, bottom), (left, right), (0, 0)]
        x = ops.pad(x, margins, constant_values=-math.inf)
        cut = windows(x, self.pool_size, self.strides)
        # argmax of TensorFlow does not promise which of equal values it takes.
        places = math.prod(self.pool_size)
        inside = ops.reshape(ops.arange(places, dtype="int32"), (-1, 1))
        is_maximum = ops.equal(cut, ops.max(cut, axis=3, keepdims=True))
        first = ops.min(ops.where(is_maximum, inside, places - 1), axis=3, keepdims=True)
        values = ops.squeeze(ops.take_along_axis(cut, first, axis=3), axis=3)
        first = ops.squeeze(first, axis=3)
        rows, columns = (
            ops.arange(ops.shape(first)[axis], dtype="int32") * self.strides[axis - 1] - before
            for axis, before in ((1, top), (2, left))
        )
        row = ops.reshape(rows, (-1, 1, 1)) + first // self.pool_size[1]
        column = ops.reshape(columns, (-1, 1)) + first % self.pool_size[1]
        return values, row * width + column

    def _margins(self, side, axis):
        """Return how many pixels to add before and behind."""
        window, stride = self.pool_size[axis], self.strides[axis]
        match self.padding:
            case "valid":
                return 0, 0
            case "ceil":
                return 0, min(window, stride) - 1
        return same_margins(side, window, stride)

    def compute_output_spec(self, x):
        """Return what `call` returns, as shapes."""
        shape = self.compute_output_shape(x.shape)
        return keras.KerasTensor(shape, x.dtype), keras.KerasTensor(shape, "int32")

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "padding": self.padding}


@keras.saving.register_keras_serializable("convsuite")
class MaxUnpool(keras.layers.Layer):
    """Put values back to where their maxima stood; zeros elsewhere.

    Source: Zeiler and Fergus 2013, section 2.1.

    Args:
        overlap: Where windows overlap, several values may belong to one pixel: `sum` adds them,
            as deconvnets do; `last` keeps the last one, row by row, as torch does.
        **options: Of every Keras layer.

    Raises:
        ConvsuiteError: Values and indices differ in shape, or overlap is unknown.
    """

    def __init__(self, overlap="sum", **options):
        super().__init__(**options)
        if overlap not in ("sum", "last"):
            raise ConvsuiteError(f"MaxUnpool: overlap is sum or last, not {overlap}.")
        self.overlap = overlap

    def build(self, input_shape):
        """Check the shapes."""
        values, indices = input_shape
        check_map(self, values)
        if tuple(values) != tuple(indices):
            raise ConvsuiteError(
                f"MaxUnpool {self.name}: values {tuple(values)} and indices {tuple(indices)} "
                "must have the same shape."
            )

    def call(self, inputs, size):
        """Return `(batch, *size, channels)`.

        Args:
            inputs: Values and int32 indices, both `(batch, rows, columns, channels)`.
            size: Height and width of the map that was pooled.
        """
        values, indices = inputs
        batch, rows, columns, channels = ops.shape(values)
        pixels = size[0] * size[1]
        places = ops.reshape(ops.arange(batch, dtype="int32"), (-1, 1, 1, 1)) * pixels + indices
        places = places * channels + ops.arange(channels, dtype="int32")
        places = ops.reshape(places, (-1,))
        flat = ops.reshape(values, (-1,))
        total = batch * pixels * channels
        if self.overlap == "last":
            order = ops.arange(batch * rows * columns * channels, dtype="int32")
            last = ops.segment_max(order, places, total)
            flat = flat * ops.cast(ops.equal(ops.take(last, places), order), flat.dtype)
        return ops.reshape(ops.segment_sum(flat, places, total), (batch, *size, channels))

    def compute_output_spec(self, inputs, size):
        """Return what `call` returns, as a shape."""
        values = inputs[0]
        return keras.KerasTensor((values.shape[0], *size, values.shape[-1]), values.dtype)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "overlap": self.overlap}

"""The building blocks of the first convolutional networks (LeCun et al. 1989, 1990, 1998)."""

import math

import keras
import numpy as np
from keras import ops

from shared.errors import ConvsuiteError

from .windows import check_axes, check_map, pair, pooled, same_margins


@keras.saving.register_keras_serializable("convsuite")
class FanInUniform(keras.initializers.Initializer):
    """Uniform between -scale / F and scale / F, where F is the fan-in of a unit.

    Source: LeCun et al. 1998, section II.B and appendix A, with scale 2.4.

    Args:
        scale: Of the interval.
        fan_in: Inputs of a unit, or one number per output map; by default the product of all axes
            of the weight but the last.
        seed: Of the random numbers.
    """

    def __init__(self, scale=2.4, fan_in=None, seed=None):
        self.scale = scale
        self.fan_in = fan_in
        self.seed = seed

    def __call__(self, shape, dtype=None):
        """Return random numbers of this shape."""
        fan_in = np.asarray(math.prod(shape[:-1]) if self.fan_in is None else self.fan_in)
        bound = ops.convert_to_tensor(self.scale / fan_in, dtype or keras.config.floatx())
        return keras.random.uniform(shape, -1, 1, dtype, seed=self.seed) * bound

    def get_config(self):
        """Return the arguments of the constructor."""
        return {"scale": self.scale, "fan_in": self.fan_in, "seed": self.seed}


@keras.saving.register_keras_serializable("convsuite")
class ScaledTanh(keras.layers.Layer):
    """The squashing function `1.7159 tanh(2/3 x)`, with f(1) = 1 and f(-1) = -1.

    Source: LeCun et al. 1998, equation 6 and appendix A.
    """

    def build(self, input_shape):
        """Nothing to make: any shape will do."""

    def call(self, x):
        """Return values between -1.7159 and 1.7159."""
        return 1.7159 * ops.tanh(2 / 3 * x)

    def compute_output_shape(self, input_shape):
        """Return the shape of the input."""
        return input_shape


@keras.saving.register_keras_serializable("convsuite")
class ChannelLinearSubsample(keras.layers.Layer):
    """Sum over square windows, times one coefficient per map, plus one bias per map.

    Source: LeCun et al. 1998, section II.B, layer S2. Windows do not overlap; what does not fill
    a window at the lower and right border is left out.

    Args:
        pool: Side of a window.
        **options: Of every Keras layer.

    Raises:
        ConvsuiteError: The input is not `(batch, height, width, channels)`.
    """

    def __init__(self, pool=2, **options):
        super().__init__(**options)
        self.pool = pool
        self.pool_size = self.strides = pair(pool)

    def build(self, input_shape):
        """Make coefficients and biases."""
        check_map(self, input_shape)
        channels = (input_shape[-1],)
        start = FanInUniform(fan_in=self.pool**2)
        self.coefficient = self.add_weight(shape=channels, initializer=start, name="coefficient")
        self.bias = self.add_weight(shape=channels, initializer="zeros", name="bias")

    def call(self, x):
        """Return `(batch, height // pool, width // pool, channels)`."""
        total = ops.average_pool(x, self.pool_size, self.strides, "valid") * self.pool**2
        return total * self.coefficient + self.bias

    def compute_output_shape(self, input_shape):
        """Return the shape of the output."""
        sides = (pooled(side, self.pool, self.pool, "valid") for side in input_shape[1:3])
        return (input_shape[0], *sides, input_shape[-1])

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "pool": self.pool}


class _TableConv(keras.layers.Layer):
    """A convolution whose maps see some of the input maps only.

    The weight `kernel` is `(height, width, links)`, so that it holds what the network really has;
    `dense_kernel` spreads it over all pairs of maps, with zeros where there is no link.
    """

    def __init__(self, filters, kernel_size, strides, table, **options):
        super().__init__(**options)
        self.filters = filters
        self.kernel_size = pair(kernel_size)
        self.strides = pair(strides)
        self.table = None if table is None else _input_maps(table)
        if self.table is not None and len(self.table) != filters:
            raise ConvsuiteError(
                f"{type(self).__name__} {self.name}: the connection table is made for "
                f"{len(self.table)} maps, not for {filters}."
            )

    def _build_kernel(self, input_shape):
        check_map(self, input_shape)
        inputs = input_shape[-1]
        table = self.table or [list(range(inputs))] * self.filters
        if not all(maps and maps[0] >= 0 and maps[-1] < inputs for maps in table):
            raise ConvsuiteError(
                f"{type(self).__name__} {self.name}: every row of the connection table needs "
                f"input maps between 0 and {inputs - 1}."
            )
        window = self.kernel_size[0] * self.kernel_size[1]
        self.links = sum(len(maps) for maps in table)
        self._places = np.full((inputs, self.filters), self.links, "int32")
        for link, (source, target) in enumerate(
            (source, target) for target, maps in enumerate(table) for source in maps
        ):
            self._places[source, target] = link
        fan_in = [window * len(maps) for maps in table for _ in maps]
        self.kernel = self.add_weight(
            shape=(*self.kernel_size, self.links),
            initializer=FanInUniform(fan_in=fan_in),
            name="kernel",
        )

    def dense_kernel(self):
        """Return the kernel as `(height, width, input maps, filters)`."""
        kernel = ops.pad(ops.convert_to_tensor(self.kernel), [(0, 0), (0, 0), (0, 1)])
        kernel = ops.take(kernel, self._places.ravel(), axis=-1)
        return ops.reshape(kernel, (*self.kernel_size, *self._places.shape))

    def macs(self, before, after):
        """Return the multiply-adds along the links that exist."""
        return math.prod(after[:2]) * math.prod(self.kernel.shape)

    def get_config(self):
        """Return the arguments that both kinds have."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "table": self.table,
        }


def _input_maps(table) -> list[list[int]]:
    """Return the input maps of every output map, sorted, from either form of a table."""
    if isinstance(table, np.ndarray):
        table = [np.flatnonzero(column) for column in table.T]
    return [sorted({int(source) for source in maps}) for maps in table]


@keras.saving.register_keras_serializable("convsuite")
class PartialConv(_TableConv):
    """Convolution with a connection table: each map sees some of the input maps only.

    Source: LeCun et al. 1998, section II.B, table I.

    Args:
        filters: Output maps.
        kernel_size: Side of the kernel, or height and width.
        table: A boolean array `(input maps, filters)`, or the numbers of the input maps (from 0)
            for every output map.
        strides: Of the convolution.
        padding: `valid` or `same`.
        **options: Of every Keras layer.

    Raises:
        ConvsuiteError: The input is not `(batch, height, width, channels)`, or the table does not
            fit filters and channels.
    """

    def __init__(self, filters, kernel_size, table, strides=1, padding="valid", **options):
        super().__init__(filters, kernel_size, strides, table, **options)
        self.padding = padding

    def build(self, input_shape):
        """Make kernel and bias."""
        self._build_kernel(input_shape)
        self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias")

    def call(self, x):
        """Return `(batch, rows, columns, filters)`."""
        return ops.conv(x, self.dense_kernel(), self.strides, self.padding) + self.bias

    def compute_output_shape(self, input_shape):
        """Return the shape of the output."""
        sides = (
            pooled(side, window, stride, self.padding)
            for side, window, stride in zip(
                input_shape[1:3], self.kernel_size, self.strides, strict=True
            )
        )
        return (input_shape[0], *sides, self.filters)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "padding": self.padding}


@keras.saving.register_keras_serializable("convsuite")
class LocallyBiasedConv(_TableConv):
    """Convolution with a bias of its own for every unit, and a border of constant value.

    A side becomes `ceil(side / strides)`, with the margins of Keras' `same`. Source: LeCun et al.
    1989, section 3.3: the units of a map share a kernel but no bias; those at the border see a
    background of constant value.

    Args:
        filters: Output maps.
        kernel_size: Side of the kernel, or height and width.
        strides: Of the convolution.
        border: Value beyond the border.
        table: Which input maps each output map sees, as in `PartialConv`; all by default.
        **options: Of every Keras layer.

    Raises:
        ConvsuiteError: The input is not `(batch, height, width, channels)` with known sides, or
            the table does not fit filters and channels.
    """

    padding = "same"

    def __init__(self, filters, kernel_size, strides=1, border=0.0, table=None, **options):
        super().__init__(filters, kernel_size, strides, table, **options)
        self.border = border

    def build(self, input_shape):
        """Make kernel and biases."""
        self._build_kernel(input_shape)
        if None in input_shape[1:]:
            raise ConvsuiteError(
                f"LocallyBiasedConv {self.name} has a bias per unit and needs maps of known size, "
                f"not {tuple(input_shape)}."
            )
        self.bias = self.add_weight(
            shape=self.compute_output_shape(input_shape)[1:], initializer="zeros", name="bias"
        )

    def call(self, x):
        """Return `(batch, ceil(height / strides), ceil(width / strides), filters)`."""
        rows, columns = map(same_margins, x.shape[1:3], self.kernel_size, self.strides)
        x = ops.pad(x, [(0, 0), rows, columns, (0, 0)], constant_values=self.border)
        return ops.conv(x, self.dense_kernel(), self.strides, "valid") + self.bias

    def compute_output_shape(self, input_shape):
        """Return the shape of the output."""
        sides = (
            pooled(side, 1, stride, "same")
            for side, stride in zip(input_shape[1:3], self.strides, strict=True)
        )
        return (input_shape[0], *sides, self.filters)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "border": self.border}


@keras.saving.register_keras_serializable("convsuite")
class RBFOutput(keras.layers.Layer):
    """Squared Euclidean distance between a vector and one fixed code per class.

    Source: LeCun et al. 1998, equation 7; the codes of LeNet-5 are +-1.

    Args:
        codes: `(classes, features)`.
        **options: Of every Keras layer.

    Raises:
        ConvsuiteError: The codes are no matrix, or the input is not `(batch, features)`.
    """

    def __init__(self, codes, **options):
        super().__init__(**options)
        self.codes = np.asarray(codes, "float32")
        if self.codes.ndim != 2:
            raise ConvsuiteError(
                f"RBFOutput: codes are (classes, features), not {self.codes.shape}."
            )

    def build(self, input_shape):
        """Check the shape."""
        check_axes(self, input_shape, "batch, features")
        if input_shape[-1] != self.codes.shape[1]:
            raise ConvsuiteError(
                f"RBFOutput {self.name} has codes of {self.codes.shape[1]} entries, the input has "
                f"{input_shape[-1]}."
            )

    def call(self, x):
        """Return `(batch, classes)`; the smallest distance is the answer."""
        codes = ops.convert_to_tensor(self.codes, x.dtype)
        return ops.sum(ops.square(x[:, None] - codes), axis=-1)

    def compute_output_shape(self, input_shape):
        """Return the shape of the output."""
        return (input_shape[0], self.codes.shape[0])

    def macs(self, before, after):
        """Return the multiply-adds of the distances."""
        return before[-1] * after[-1]

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "codes": self.codes.tolist()}

"""Highway layers: a learned gate mixes a transformation with its input."""

import keras

from shared.errors import ConvsuiteError

from .windows import check_axes, check_map, pair


def _check_width(layer, channels, width):
    if channels != width:
        raise ConvsuiteError(
            f"{type(layer).__name__} {layer.name} carries its input through: {channels} channels "
            f"in, {width} out; both must be equal."
        )


def _mix(x, transformed, gate):
    return transformed * gate + x * (1.0 - gate)


@keras.saving.register_keras_serializable("convsuite")
class HighwayDense(keras.layers.Layer):
    """`y = H(x) T(x) + x (1 - T(x))` with dense H and T.

    Source: Srivastava et al. 2015, equation 3.

    Args:
        units: Width, equal to that of the input.
        bias: Where the bias of the gate T starts; below 0 the layer begins by carrying its input.
        activation: Of H.
        **options: Of every Keras layer.

    Raises:
        ConvsuiteError: The input is not `(batch, units)`.
    """

    def __init__(self, units, bias=-2.0, activation="relu", **options):
        super().__init__(**options)
        self.units = units
        self.bias = bias
        self.activation = activation
        self.transform = keras.layers.Dense(
            units, activation=activation, dtype=self.dtype_policy, name="transform"
        )
        self.gate = keras.layers.Dense(
            units,
            activation="sigmoid",
            bias_initializer=keras.initializers.Constant(bias),
            dtype=self.dtype_policy,
            name="gate",
        )

    def build(self, input_shape):
        """Make H and T."""
        check_axes(self, input_shape, "batch, units")
        _check_width(self, input_shape[-1], self.units)
        self.transform.build(input_shape)
        self.gate.build(input_shape)

    def call(self, x):
        """Return `(batch, units)`."""
        return _mix(x, self.transform(x), self.gate(x))

    def compute_output_shape(self, input_shape):
        """Return the shape of the input."""
        return input_shape

    def macs(self, before, after):
        """Return the multiply-adds of H and T."""
        return 2 * before[-1] * after[-1]

    def get_config(self):
        """Return the arguments of the constructor."""
        return {
            **super().get_config(),
            "units": self.units,
            "bias": self.bias,
            "activation": self.activation,
        }


@keras.saving.register_keras_serializable("convsuite")
class HighwayConv(keras.layers.Layer):
    """`y = H(x) T(x) + x (1 - T(x))` with convolutions H and T, padded to the same size.

    Source: Srivastava et al. 2015, sections 2 and 2.1.

    Args:
        filters: Channels, equal to those of the input.
        kernel_size: Of both convolutions.
        bias: Where the bias of the gate T starts.
        activation: Of H.
        **options: Of every Keras layer.

    Raises:
        ConvsuiteError: The input is not `(batch, height, width, filters)`.
    """

    strides = (1, 1)
    padding = "same"

    def __init__(self, filters, kernel_size, bias=-2.0, activation="relu", **options):
        super().__init__(**options)
        self.filters = filters
        self.kernel_size = pair(kernel_size)
        self.bias = bias
        self.activation = activation
        self.transform = keras.layers.Conv2D(
            filters,
            self.kernel_size,
            padding="same",
            activation=activation,
            dtype=self.dtype_policy,
            name="transform",
        )
        self.gate = keras.layers.Conv2D(
            filters,
            self.kernel_size,
            padding="same",
            activation="sigmoid",
            bias_initializer=keras.initializers.Constant(bias),
            dtype=self.dtype_policy,
            name="gate",
        )

    def build(self, input_shape):
        """Make H and T."""
        check_map(self, input_shape)
        _check_width(self, input_shape[-1], self.filters)
        self.transform.build(input_shape)
        self.gate.build(input_shape)

    def call(self, x):
        """Return a map of the same shape."""
        return _mix(x, self.transform(x), self.gate(x))

    def compute_output_shape(self, input_shape):
        """Return the shape of the input."""
        return input_shape

    def macs(self, before, after):
        """Return the multiply-adds of H and T."""
        height, width, channels = after
        window = self.kernel_size[0] * self.kernel_size[1]
        return 2 * height * width * window * before[-1] * channels

    def get_config(self):
        """Return the arguments of the constructor."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "bias": self.bias,
            "activation": self.activation,
        }

"""Normalisation across neighbouring channels."""

import keras
from keras import ops

from shared.errors import ConvsuiteError

from .windows import check_map


@keras.saving.register_keras_serializable("convsuite")
class LRN(keras.layers.Layer):
    """Local response normalisation: `a / (k + alpha * sum a^2)^beta` over neighbouring channels.

    Source: Krizhevsky et al. 2012, section 3.3, whose constants are the defaults. Caffe and torch
    divide alpha by the number of channels in the sum (`normalize_by_n`), and take k = 1.

    Args:
        size: Channels in the sum, the middle one included.
        alpha: Weight of the sum of squares.
        beta: Exponent.
        k: Added to the sum.
        normalize_by_n: Divide alpha by `size`.
        **options: Of every Keras layer.

    Raises:
        ConvsuiteError: The input is not `(batch, height, width, channels)`, or size is below 1.
    """

    def __init__(
        self, size=5, alpha=1e-4, beta=0.75, k=2.0, normalize_by_n=False, **options
    ) -> None:
        super().__init__(**options)
        if size < 1:
            raise ConvsuiteError(f"LRN: size must be 1 channel or more, not {size}.")
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k
        self.normalize_by_n = normalize_by_n

    def build(self, input_shape):
        """Check the shape."""
        check_map(self, input_shape)

    def call(self, x):
        """Return a map of the same shape."""
        alpha = self.alpha / self.size if self.normalize_by_n else self.alpha
        before, behind = self.size // 2, (self.size - 1) // 2
        squares = ops.pad(ops.square(x), [(0, 0), (0, 0), (0, 0), (before, behind)])
        channels = x.shape[-1]
        total = sum(squares[..., i : i + channels] for i in range(self.size))
        return x * (self.k + alpha * total) ** -self.beta

    def compute_output_shape(self, input_shape):
        """Return the shape of the input."""
        return input_shape

    def get_config(self):
        """Return the arguments of the constructor."""
        return {
            **super().get_config(),
            "size": self.size,
            "alpha": self.alpha,
            "beta": self.beta,
            "k": self.k,
            "normalize_by_n": self.normalize_by_n,
        }

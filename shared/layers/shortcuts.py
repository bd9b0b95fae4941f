"""What stands beside or around the blocks of residual networks."""

import keras
from keras import ops

from shared.errors import ConvsuiteError

from .windows import check_map, pair


@keras.saving.register_keras_serializable("convsuite")
class ChannelPad(keras.layers.Layer):
    """Shortcut without weights: every second pixel, and zeros for the channels that are new.

    Source: He et al. 2015, section 3.3, option A; the new channels stand behind the old ones.

    Args:
        channels: Of the output.
        strides: Step of the subsampling.
        **options: Of every Keras layer.

    Raises:
        ConvsuiteError: The input is not `(batch, height, width, channels)`, or has more channels
            than the output.
    """

    pool_size = (1, 1)

    def __init__(self, channels, strides=1, **options):
        super().__init__(**options)
        self.channels = channels
        self.strides = pair(strides)

    def build(self, input_shape):
        """Check the shape."""
        check_map(self, input_shape)
        if input_shape[-1] > self.channels:
            raise ConvsuiteError(
                f"ChannelPad {self.name} cannot reduce {input_shape[-1]} channels "
                f"to {self.channels}."
            )

    def call(self, x):
        """Return `(batch, ceil(height / strides), ceil(width / strides), channels)`."""
        x = x[:, :: self.strides[0], :: self.strides[1]]
        return ops.pad(x, [(0, 0), (0, 0), (0, 0), (0, self.channels - x.shape[-1])])

    def compute_output_shape(self, input_shape):
        """Return the shape of the output."""
        sides = (
            None if side is None else -(-side // stride)
            for side, stride in zip(input_shape[1:3], self.strides, strict=True)
        )
        return (input_shape[0], *sides, self.channels)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "channels": self.channels, "strides": self.strides}


@keras.saving.register_keras_serializable("convsuite")
class StochasticDepth(keras.layers.Layer):
    """Drop a residual branch at random: training keeps or drops it for the whole batch.

    Elsewhere the branch is multiplied by its probability of survival.

    Source: Huang et al. 2016, equations 2 and 5.

    Args:
        survival: Probability that the branch is kept.
        seed: Of the random choice.
        **options: Of every Keras layer.

    Raises:
        ConvsuiteError: The survival is no probability.
    """

    def __init__(self, survival, seed=None, **options):
        super().__init__(**options)
        if not 0 <= survival <= 1:
            raise ConvsuiteError(f"StochasticDepth: survival lies in 0..1, not {survival}.")
        self.survival = survival
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        """Nothing to make: any shape will do."""

    def call(self, x, training=False):
        """Return the branch, times 0 or 1 in training, times `survival` otherwise."""
        if not training:
            return ops.multiply(x, ops.cast(self.survival, x.dtype))
        kept = keras.random.uniform((), seed=self.seed_generator) < self.survival
        return ops.multiply(x, ops.cast(kept, x.dtype))

    def compute_output_shape(self, input_shape):
        """Return the shape of the input."""
        return input_shape

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "survival": self.survival, "seed": self.seed}

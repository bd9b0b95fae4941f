"""Maps brought to the size of other maps."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("convsuite")
class ResizeLike(keras.layers.Layer):
    """Resize a map bilinearly to height and width of another one.

    Called with `[map, other]`, `(batch, height, width, channels)` each; returns
    `(batch, other height, other width, channels of map)`. Samples lie at the centres of the pixels
    and no filter runs before shrinking, as in `tf.image.resize`.
    """

    def call(self, inputs):
        """Return the resized map."""
        source, other = inputs
        _, height, width, _ = ops.shape(other)
        return ops.image.resize(source, (height, width), data_format="channels_last")

    def compute_output_shape(self, input_shape):
        """Return the shape of the resized map."""
        source, other = input_shape
        return (source[0], other[1], other[2], source[3])

    def receptive(self, before):
        """Return stride, side and first pixel seen, from those of `[map, other]`; see `macs`."""
        (stride, side, first), (other_stride, _, _) = before
        return other_stride, side + stride, first - stride

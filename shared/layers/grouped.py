"""Convolution of groups of channels (Krizhevsky et al. 2012; Xie et al. 2017)."""

import math

import keras
from keras import ops

from shared import backend


@keras.saving.register_keras_serializable("convsuite")
class GroupedConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` with groups, the same in arguments, weights and results.

    Keras has XLA compile grouped convolutions under TensorFlow. On CPUs one dense convolution per
    group is faster, up to 4.6 times where groups are narrow, and makes ResNeXt-50 1.6 times faster
    (`convsuite backbones bench grouped`); so it is done there.
    """

    def convolution_op(self, inputs, kernel):
        """Return the convolution, without bias and activation."""
        if self.groups == 1 or backend.jit_compile():
            return super().convolution_op(inputs, kernel)
        axis = -1 if self.data_format == "channels_last" else 1
        parts = zip(
            ops.split(inputs, self.groups, axis), ops.split(kernel, self.groups, -1), strict=True
        )
        convolve = super().convolution_op
        return ops.concatenate([convolve(part, filters) for part, filters in parts], axis)

    def macs(self, before, after):
        """Return the multiply-adds from an input to an output of these shapes, without batch."""
        return math.prod(after[:-1]) * math.prod(self.kernel.shape)

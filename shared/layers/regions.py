"""Pooling over boxes of any size (regions of interest), as detectors use it."""

import math

import keras
from keras import ops

from shared.errors import ConvsuiteError

from .windows import check_map, pair


class _Regions(keras.layers.Layer):
    """Input, output and sizes of both kinds."""

    def __init__(self, size, scale, **options):
        # Coordinates need more digits than half precision has.
        super().__init__(autocast=False, **options)
        self.size = pair(size)
        self.scale = scale

    def build(self, input_shape):
        """Check the shapes."""
        features, boxes = input_shape
        check_map(self, features)
        if len(boxes) != 3 or boxes[-1] != 4:
            raise ConvsuiteError(
                f"{type(self).__name__} {self.name}: boxes are (batch, boxes, 4) with x1, y1, x2, "
                f"y2, not {tuple(boxes)}."
            )

    def compute_output_spec(self, inputs):
        """Return what `call` returns, as a shape."""
        features, boxes = inputs
        shape = (boxes.shape[0], boxes.shape[1], *self.size, features.shape[-1])
        return keras.KerasTensor(shape, features.dtype)

    def get_config(self):
        """Return the arguments that both kinds have."""
        return {**super().get_config(), "size": self.size, "scale": self.scale}


@keras.saving.register_keras_serializable("convsuite")
class RoIPool(_Regions):
    """Maxima over the bins of a box whose corners are rounded to whole pixels of the map.

    The box includes its last pixel. Bins cover whole pixels and may overlap; a bin outside the map
    gives 0. Source: Girshick 2015, "Fast R-CNN", section 2.1, with the rounding of its Caffe layer.

    Args:
        size: Bins along a side, or along height and width.
        scale: Pixels of the map per unit of the boxes: 1 / stride.
        **options: Of every Keras layer.

    Raises:
        ConvsuiteError: The inputs are not maps and `(batch, boxes, 4)`.
    """

    def call(self, inputs):
        """Return `(batch, boxes, *size, channels)`.

        Args:
            inputs: `(batch, height, width, channels)` and `(batch, boxes, 4)` with x1, y1, x2, y2.
        """

        def pool_picture(picture):
            features, boxes = picture
            return ops.map(lambda box: self._pool(features, box), boxes)

        return ops.map(pool_picture, tuple(inputs))

    def _pool(self, features, box):
        box = ops.cast(box, "float32") * self.scale
        corners = ops.cast(ops.sign(box) * ops.floor(ops.abs(box) + 0.5), "int32")
        height, width, _ = ops.shape(features)
        rows = _bins(corners[1], corners[3], self.size[0], height)[:, :, None, None]
        columns = _bins(corners[0], corners[2], self.size[1], width)[None, :, :, None]
        slabs = ops.max(ops.where(rows, features, -math.inf), axis=1)
        cells = ops.max(ops.where(columns, slabs[:, None], -math.inf), axis=2)
        return ops.where(ops.isinf(cells), 0.0, cells)


def _bins(first, last, bins, side):
    """Return which pixels of a side belong to which bin, `(bins, side)`."""
    length = ops.maximum(last - first + 1, 1)
    i = ops.arange(bins, dtype="int32")
    start = first + i * length // bins
    end = first + ((i + 1) * length + bins - 1) // bins
    pixel = ops.arange(side, dtype="int32")
    return (pixel >= start[:, None]) & (pixel < end[:, None])


@keras.saving.register_keras_serializable("convsuite")
class RoIAlign(_Regions):
    """Averages over the bins of a box, sampled bilinearly, without any rounding.

    Source: He et al. 2017, "Mask R-CNN", section 3. The samples are separable: two small matrices
    per box hold the weights of rows and columns.

    Args:
        size: Bins along a side, or along height and width.
        scale: Pixels of the map per unit of the boxes: 1 / stride.
        sampling: Samples along each side of a bin.
        aligned: The centre of the first pixel is 0.5, not 0.
        **options: Of every Keras layer.

    Raises:
        ConvsuiteError: The inputs are not maps and `(batch, boxes, 4)`.
    """

    def __init__(self, size, scale, sampling=2, aligned=True, **options):
        super().__init__(size, scale, **options)
        self.sampling = sampling
        self.aligned = aligned

    def call(self, inputs):
        """Return `(batch, boxes, *size, channels)`.

        Args:
            inputs: `(batch, height, width, channels)` and `(batch, boxes, 4)` with x1, y1, x2, y2.
        """
        features, boxes = inputs
        boxes = ops.cast(boxes, "float32") * self.scale - (0.5 if self.aligned else 0.0)
        height, width = ops.shape(features)[1:3]
        rows = self._weights(boxes[..., 1], boxes[..., 3], self.size[0], height)
        columns = self._weights(boxes[..., 0], boxes[..., 2], self.size[1], width)
        rows, columns = (ops.cast(weights, features.dtype) for weights in (rows, columns))
        return ops.einsum(
            "bnjw,bniwc->bnijc", columns, ops.einsum("bnih,bhwc->bniwc", rows, features)
        )

    def _weights(self, start, end, bins, side):
        """Return how much each pixel of a side adds to each bin, `(batch, boxes, bins, side)`."""
        length = end - start if self.aligned else ops.maximum(end - start, 1.0)
        samples = bins * self.sampling
        steps = (ops.arange(samples, dtype="float32") + 0.5) / samples
        position = start[..., None] + length[..., None] * steps
        pixels = ops.arange(side, dtype="float32")
        last = pixels[-1]
        inside = ops.cast((position >= -1.0) & (position <= last + 1.0), "float32")
        distance = ops.abs(ops.clip(position, 0.0, last)[..., None] - pixels)
        weights = ops.maximum(1.0 - distance, 0.0) * inside[..., None]
        shape = ops.shape(weights)
        weights = ops.reshape(weights, (shape[0], shape[1], bins, self.sampling, shape[3]))
        return ops.mean(weights, axis=3)

    def get_config(self):
        """Return the arguments of the constructor."""
        return {**super().get_config(), "sampling": self.sampling, "aligned": self.aligned}

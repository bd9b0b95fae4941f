"""Slicing and applying a bilateral grid of affine colour matrices, with `keras.ops`.

Source: Gharbi et al., "Deep Bilateral Learning for Real-Time Image Enhancement", 2017, section 3.3;
Chen et al., "Bilateral Guided Upsampling", 2016. Grid samples sit at half-integer coordinates;
indices beyond the border are clamped and the weights are not renormalised.
"""

import keras
from keras import ops


def pixel_positions(height, width):
    """Return the centres of all pixels as fractions of the picture.

    Args:
        height: rows.
        width: columns.

    Returns:
        float32 `(height * width, 2)`: x to the right, y downwards, row by row.
    """
    x = (ops.arange(width, dtype="float32") + 0.5) / width
    y = (ops.arange(height, dtype="float32") + 0.5) / height
    x, y = ops.meshgrid(x, y)
    return ops.stack([ops.reshape(x, (-1,)), ops.reshape(y, (-1,))], axis=-1)


def _taps(coordinate, size):
    """Return the two clamped neighbour indices and their weights along one axis of the grid."""
    position = coordinate * size - 0.5
    below = ops.floor(position)
    weight_above = position - below
    below = ops.cast(below, "int32")
    return (
        (ops.clip(below, 0, size - 1), 1.0 - weight_above),
        (ops.clip(below + 1, 0, size - 1), weight_above),
    )


def bilateral_slice(grid, positions, guide):
    """Interpolate a bilateral grid at scattered points, trilinearly.

    Args:
        grid: `(batch, rows, columns, depth, channels)`.
        positions: `(batch, points, 2)`, x and y as fractions of the picture, 0..1.
        guide: `(batch, points)`, 0..1, the coordinate along `depth`.

    Returns:
        `(batch, points, channels)`.

    Raises:
        ValueError: the grid does not have five axes, or positions and guide do not match.
    """
    if len(grid.shape) != 5:
        raise ValueError(
            f"A bilateral grid has 5 axes (batch, y, x, z, channels), got {grid.shape}."
        )
    if tuple(positions.shape[1:]) != (guide.shape[1], 2):
        raise ValueError(
            f"Positions {positions.shape} must be (batch, points, 2), guide {guide.shape}."
        )
    positions, guide = ops.convert_to_tensor(positions), ops.convert_to_tensor(guide)
    rows, columns, depth, channels = grid.shape[1:]
    cells = ops.reshape(grid, (-1, channels))
    batch = ops.shape(positions)[0]
    first_cell = ops.reshape(ops.arange(batch, dtype="int32") * (rows * columns * depth), (-1, 1))
    result = 0.0
    for y, weight_y in _taps(positions[..., 1], rows):
        for x, weight_x in _taps(positions[..., 0], columns):
            column = first_cell + (y * columns + x) * depth
            for z, weight_z in _taps(guide, depth):
                weight = ops.expand_dims(weight_y * weight_x * weight_z, -1)
                result = result + weight * ops.take(cells, column + z, axis=0)
    return result


def apply_affine(matrices, colours):
    """Map each colour by its own 3x4 matrix.

    Args:
        matrices: `(..., 3, 4)`, `[output, input]`; input 3 is the offset.
        colours: `(..., 3)`.

    Returns:
        `(..., 3)`.
    """
    linear = ops.sum(matrices[..., :3] * ops.expand_dims(colours, -2), axis=-1)
    return linear + matrices[..., 3]


def bilateral_slice_apply_points(grid, guide, positions, colours):
    """Slice a grid of 3x4 matrices at scattered points and apply the matrices to their colours.

    Args:
        grid: `(batch, rows, columns, depth, 3, 4)`.
        guide: `(batch, points)`, 0..1.
        positions: `(batch, points, 2)`, x and y, 0..1.
        colours: `(batch, points, 3)`.

    Returns:
        `(batch, points, 3)`, not clipped.
    """
    rows, columns, depth = grid.shape[1:4]
    flat = ops.reshape(grid, (-1, rows, columns, depth, 12))
    matrices = bilateral_slice(flat, positions, guide)
    points = matrices.shape[1]
    return apply_affine(ops.reshape(matrices, (-1, points, 3, 4)), colours)


def bilateral_slice_apply(grid, guide, image):
    """Slice a grid of 3x4 matrices at every pixel and apply the matrices.

    This is the reference; it holds several copies of `(height, width, 12)` in memory. For whole
    photographs on a CPU see `shared.layers.bilateral_numba`.

    Args:
        grid: `(batch, rows, columns, depth, 3, 4)`.
        guide: `(batch, height, width)`, 0..1.
        image: `(batch, height, width, 3)`.

    Returns:
        `(batch, height, width, 3)`, not clipped.
    """
    height, width = image.shape[1:3]
    batch = ops.shape(image)[0]
    positions = ops.broadcast_to(pixel_positions(height, width), (batch, height * width, 2))
    result = bilateral_slice_apply_points(
        grid,
        ops.reshape(guide, (-1, height * width)),
        positions,
        ops.reshape(image, (-1, height * width, 3)),
    )
    return ops.reshape(result, (-1, height, width, 3))


@keras.saving.register_keras_serializable("convsuite")
class SliceApply(keras.layers.Layer):
    """`bilateral_slice_apply_points` as a layer: `[grid, guide, positions, colours] -> colours`."""

    def call(self, inputs):
        """Return `(batch, points, 3)`."""
        return bilateral_slice_apply_points(*inputs)

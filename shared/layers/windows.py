"""Shapes and windows, as all layers of this package see them."""

from typing import Literal

import keras
from keras import ops

from shared.errors import ConvsuiteError

Padding = Literal["valid", "same", "ceil"]


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    """Return a size as height and width."""
    height, width = (value, value) if isinstance(value, int) else value
    return int(height), int(width)


def check_axes(layer: keras.layers.Layer, shape: tuple, axes: str) -> None:
    """Refuse a tensor that does not have the axes a layer works on.

    Args:
        layer: Who asks; its name stands in the message.
        shape: Of the tensor, with the batch.
        axes: Their names, such as `batch, height, width, channels`.

    Raises:
        ConvsuiteError: The number of axes differs.
    """
    if len(shape) != len(axes.split(",")):
        raise ConvsuiteError(
            f"{type(layer).__name__} {layer.name} takes ({axes}), not {tuple(shape)}."
        )


def check_map(layer: keras.layers.Layer, shape: tuple) -> None:
    """Refuse what is no batch of maps, or has an unknown number of channels."""
    check_axes(layer, shape, "batch, height, width, channels")
    if shape[-1] is None:
        raise ConvsuiteError(
            f"{type(layer).__name__} {layer.name} must know its channels, not {tuple(shape)}."
        )


def pooled(size: int | None, window: int, stride: int, padding: Padding) -> int | None:
    """Return the number of windows along a side; None where the side is open."""
    if size is None:
        return None
    match padding:
        case "valid":
            return (size - window) // stride + 1
        case "same":
            return -(-size // stride)
        case "ceil":
            return (size + min(window, stride) - 1 - window) // stride + 1


def same_margins(side, window: int, stride: int):
    """Return the pixels that `same` adds before and behind a side, a number or a tensor."""
    missing = (pooled(side, window, stride, "same") - 1) * stride + window - side
    missing = max(missing, 0) if isinstance(side, int) else ops.maximum(missing, 0)
    return missing // 2, missing - missing // 2


def windows(x, size: tuple[int, int], strides: tuple[int, int]):
    """Cut a map into windows that lie inside it.

    Args:
        x: `(batch, height, width, channels)`.
        size: Height and width of a window.
        strides: Steps from one window to the next.

    Returns:
        `(batch, rows, columns, size[0] * size[1], channels)`; a window is read row by row.
    """
    rows, columns = (
        [slice(i, (i - length + 1) or None, stride) for i in range(length)]
        for length, stride in zip(size, strides, strict=True)
    )
    return ops.stack([x[:, row, column] for row in rows for column in columns], axis=3)


class Window(keras.layers.Layer):
    """What all pooling layers share: a window, its strides, and the shapes that follow.

    Args:
        pool_size: Side of the window, or its height and width.
        strides: Steps of the window; its size by default.
        padding: `valid` keeps the window inside the map; `same` is that of Keras; `ceil` lets the
            last window hang over the lower and right border, as Caffe does.
        **options: Of every Keras layer.

    Raises:
        ConvsuiteError: The input is no batch of maps, or smaller than a window.
    """

    def __init__(self, pool_size, strides=None, padding: Padding = "valid", **options):
        super().__init__(**options)
        self.pool_size = pair(pool_size)
        self.strides = pair(pool_size if strides is None else strides)
        if min(*self.pool_size, *self.strides) < 1:
            raise ConvsuiteError(
                f"{type(self).__name__}: window {self.pool_size} and strides {self.strides} "
                "must be 1 or more."
            )
        if padding not in ("valid", "same", "ceil"):
            raise ConvsuiteError(
                f"{type(self).__name__}: padding is valid, same or ceil, not {padding}."
            )
        self.padding = padding

    def build(self, input_shape):
        """Check the shape."""
        check_map(self, input_shape)
        self.compute_output_shape(input_shape)

    def compute_output_shape(self, input_shape):
        """Return `(batch, rows, columns, channels)`."""
        rows, columns = (
            pooled(size, window, stride, self.padding)
            for size, window, stride in zip(
                input_shape[1:3], self.pool_size, self.strides, strict=True
            )
        )
        if any(side is not None and side < 1 for side in (rows, columns)):
            raise ConvsuiteError(
                f"{type(self).__name__} {self.name}: a window of {self.pool_size} does not fit "
                f"into a map of {tuple(input_shape[1:3])}."
            )
        return (input_shape[0], rows, columns, input_shape[-1])

    def get_config(self):
        """Return the arguments of the constructor."""
        return {
            **super().get_config(),
            "pool_size": self.pool_size,
            "strides": self.strides,
        }

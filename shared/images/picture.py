"""A picture in memory, and its values: integers or floats, linear light or sRGB."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture in memory, or on disk behind a memory map, with what belongs to its file.

    Attributes:
        pixels: (height, width, 3) uint8, uint16 or float32, RGB; display-referred sRGB unless
            `linear`. A grey file has three equal channels. A read-only `np.memmap` for a TIFF
            beyond the pixel limit; its values are as stored, in the colours of `icc`.
        alpha: (height, width), same type as `pixels`; 0 is transparent.
        grey: the file has one channel; `save` writes one while the three are equal.
        linear: values are linear light and may exceed 1 (Radiance HDR, OpenEXR).
        exif: EXIF block with the orientation already applied and set to 1.
        icc: colour profile of the file; `save` converts back to it and embeds it.
        source: file that the picture was read from.
        notes: what a person should know about the reading ("CMYK converted to RGB").
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    grey: bool = False
    linear: bool = False
    exif: bytes | None = None
    icc: bytes | None = None
    source: Path | None = None
    notes: tuple[str, ...] = ()


def to_float(pixels: np.ndarray) -> np.ndarray:
    """Return pixels as float32: integers divided by their largest value, floats as they are.

    Raises:
        TypeError: for anything but uint8, uint16 and floating-point arrays.
    """
    if pixels.dtype in (np.uint8, np.uint16):
        return np.divide(pixels, np.float32(np.iinfo(pixels.dtype).max), dtype=np.float32)
    if np.issubdtype(pixels.dtype, np.floating):
        return pixels.astype(np.float32, copy=False)
    raise TypeError(f"pixels are uint8, uint16 or float, not {pixels.dtype}")


def from_float(image: np.ndarray, dtype: np.dtype | type) -> np.ndarray:
    """Return values of 0..1 as `dtype`.

    Args:
        image: floating-point array.
        dtype: uint8 or uint16 (clipped and rounded), or a floating-point type (only converted).
    """
    dtype = np.dtype(dtype)
    if np.issubdtype(dtype, np.floating):
        return image.astype(dtype, copy=False)
    scaled = np.clip(image, 0, 1)
    scaled *= np.iinfo(dtype).max
    scaled += 0.5
    return scaled.astype(dtype)


def as_depth(pixels: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return pixels of any depth as `dtype`."""
    return pixels if pixels.dtype == dtype else from_float(to_float(pixels), dtype)


def packed(pixels: np.ndarray) -> np.ndarray:
    """Return pixels without gaps between them.

    NumPy calls a row or a column cut from a larger array contiguous whatever the step of its
    axis of length 1; the codecs do not.
    """
    return pixels if 1 not in pixels.shape and pixels.flags.c_contiguous else pixels.copy()


def three_channels(grey: np.ndarray) -> np.ndarray:
    """Return (height, width) as (height, width, 3) with equal channels."""
    return np.repeat(grey[..., None], 3, axis=2)


def linear_to_srgb(linear: np.ndarray) -> np.ndarray:
    """Apply the transfer curve of sRGB, mirrored for negative values."""
    size = np.abs(linear)
    curve = np.where(size <= 0.0031308, 12.92 * size, 1.055 * size ** (1 / 2.4) - 0.055)
    return np.copysign(curve, linear).astype(np.float32)


def srgb_to_linear(encoded: np.ndarray) -> np.ndarray:
    """Invert `linear_to_srgb`."""
    size = np.abs(encoded)
    curve = np.where(size <= 0.04045, size / 12.92, ((size + 0.055) / 1.055) ** 2.4)
    return np.copysign(curve, encoded).astype(np.float32)

"""Save a picture in the format of a suffix, as close to the picture as the format allows."""

from pathlib import Path

import numpy as np

from shared.errors import ImageError

from .exif import exif_block, parse_exif
from .files import replacing
from .formats import Content, Format, format_of
from .picture import (
    Picture,
    as_depth,
    from_float,
    linear_to_srgb,
    srgb_to_linear,
    three_channels,
    to_float,
)
from .profiles import from_srgb, profile_space


def save(picture: Picture, path: str | Path, *, quality: int = 95) -> None:
    """Write a picture in the format of the suffix, complete or not at all.

    What the format cannot hold is reduced: bit depth, alpha, values beyond 1 (`losses` names
    it). Linear light and sRGB are converted into each other as the format needs. An EXIF block
    that exceeds the 64 kB of a JPEG is left out. A memory-mapped picture goes through
    `save_bands` instead, which keeps its colours as they are stored.

    Args:
        picture: what to write.
        path: target; its folder is created when missing.
        quality: 1..100 for JPEG and WebP.

    Raises:
        ImageError: unknown suffix, a size that the format does not allow, or a failed write.
    """
    path = Path(path)
    target = format_of(path)
    height, width = picture.pixels.shape[:2]
    if target.max_side and max(height, width) > target.max_side:
        raise ImageError(
            f"{path} cannot be written: {target.name} allows {target.max_side} pixels a side, "
            f"the picture has {width} x {height}; choose .png or .tif"
        )
    content = _content(picture, target)
    with replacing(path) as part:
        target.encode(content, part, quality)


def losses(picture: Picture, path: str | Path) -> tuple[str, ...]:
    """Say what `save` under this name leaves out, as notes for a person."""
    target = format_of(Path(path))
    dtype = picture.pixels.dtype
    found = []
    if picture.alpha is not None and not target.alpha:
        found.append(f"transparency is left out in {target.name}")
    if dtype not in target.depths and dtype != np.uint8:
        depth = "float" if dtype.kind == "f" else f"{dtype.itemsize * 8} bit"
        found.append(f"{depth} reduced in {target.name}")
    return tuple(found)


def write(path: str | Path, image: np.ndarray, *, quality: int = 95) -> None:
    """Write an array as a picture.

    Args:
        path: target; the suffix chooses the format.
        image: (height, width, 3) or (height, width). Floating-point values of 0..1 become an
            8-bit file, except in .tif (float32, as they are) and .hdr and .exr (linear light, as
            they are). uint8 and uint16 arrays keep their depth where the format has it.
        quality: 1..100 for JPEG and WebP.

    Raises:
        ImageError: as `save`.
        ValueError: the array is not a picture.
    """
    path = Path(path)
    target = format_of(path)
    image = np.asarray(image)
    if image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)) or not image.size:
        raise ValueError(f"a picture is (height, width) or (height, width, 3), not {image.shape}")
    floating = np.issubdtype(image.dtype, np.floating)
    if floating:
        image = from_float(image, np.float32 if np.float32 in target.depths else np.uint8)
    grey = image.ndim == 2
    pixels = three_channels(image) if grey else image
    linear = floating and target.linear
    save(Picture(pixels, grey=grey, linear=linear), path, quality=quality)


def _content(picture: Picture, target: Format) -> Content:
    pixels = picture.pixels
    if picture.linear and not target.linear:
        pixels = linear_to_srgb(pixels)
    elif target.linear and not picture.linear:
        pixels = srgb_to_linear(to_float(pixels))
    grey = target.grey and picture.grey and _channels_are_equal(pixels)
    icc = picture.icc if target.metadata else None
    if icc and grey == (profile_space(icc) == "gray"):
        pixels = from_srgb(pixels, icc)
    else:
        icc = None
        pixels = pixels[..., 0] if grey else pixels
    same_depth = pixels.dtype in target.depths
    dtype = pixels.dtype if same_depth else np.dtype(target.depths[-1])  # else the largest it has
    alpha = None
    if picture.alpha is not None and target.alpha:
        alpha = as_depth(picture.alpha, dtype)
    exif = None
    if picture.exif and target.metadata:
        exif = exif_block(parse_exif(picture.exif), picture.pixels, [])
    return Content(as_depth(pixels, dtype), alpha, icc, exif)


def _channels_are_equal(pixels: np.ndarray) -> bool:
    red, green, blue = np.moveaxis(pixels, 2, 0)
    return np.array_equal(red, green) and np.array_equal(red, blue)

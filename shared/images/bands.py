"""Save a picture that does not fit into memory."""

import mmap
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tifffile

from shared.errors import ImageError

from .files import replacing
from .picture import Picture
from .profiles import from_srgb, profile_space


def save_bands(picture: Picture, path: str | Path, bands: Iterable[tuple[int, np.ndarray]]) -> None:
    """Write an uncompressed RGB TIFF band by band, in memory for one band, without EXIF.

    Args:
        picture: gives size, type and colour profile.
        path: target with suffix .tif or .tiff.
        bands: pairs (first row, rows); rows have the shape (n, width, 3) and the picture's type,
            and together cover the picture.

    Raises:
        ImageError: another suffix, or a failed write.
        ValueError: the bands do not cover the picture.
    """
    path = Path(path)
    if path.suffix.lower() not in (".tif", ".tiff"):
        raise ImageError(f"{path} cannot be written in bands; choose the suffix .tif")
    pixels = picture.pixels
    height, width = pixels.shape[:2]
    icc = picture.icc if picture.icc and profile_space(picture.icc) == "rgb" else None
    convert = icc is not None and not isinstance(pixels, np.memmap)
    covered = 0
    with replacing(path) as part:
        start, _ = tifffile.imwrite(
            part,
            shape=pixels.shape,
            dtype=pixels.dtype,
            photometric="rgb",
            iccprofile=icc,
            metadata=None,
            software=False,
            returnoffset=True,
        )
        # Plain writes instead of a writable memory map: a full disk is then an error, not a
        # signal that ends the process, and no written page stays in memory.
        with part.open("r+b") as file:
            for first, rows in bands:
                if rows.shape[1:] != pixels.shape[1:] or rows.dtype != pixels.dtype:
                    raise ValueError(f"a band is {rows.dtype} {rows.shape}, not {pixels.dtype}")
                if convert:
                    rows = from_srgb(rows, icc)
                file.seek(start + first * width * 3 * pixels.itemsize)
                file.write(np.ascontiguousarray(rows).data)
                covered += len(rows)
                forget_pages(pixels)
        if covered != height:
            raise ValueError(f"the bands cover {covered} of {height} rows")


def forget_pages(pixels: np.ndarray) -> None:
    """Let go of the pages of a memory map that were read; they come back when touched again."""
    if isinstance(pixels.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        pixels.base.madvise(mmap.MADV_DONTNEED)

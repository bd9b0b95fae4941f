"""What every decoder gives and checks."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from shared.errors import ImageError


@dataclass
class Decoded:
    """What a decoder found: samples as stored, nothing turned or converted yet."""

    samples: np.ndarray  # (height, width) grey, (…, 3) RGB, (…, 4) CMYK
    alpha: np.ndarray | None = None
    linear: bool = False
    exif: Image.Exif | None = None
    orientation: int = 1
    icc: bytes | None = None
    notes: list[str] = field(default_factory=list)


def check_size(path: Path, width: int, height: int, limit: float, hint: str = "") -> None:
    """Refuse a picture without pixels, or with more than `limit` megapixels."""
    if width < 1 or height < 1:
        raise ImageError(f"{path} holds no picture: its size is {width} x {height} pixels")
    megapixels = width * height / 1e6
    if megapixels > limit:
        raise ImageError(
            f"{path} has {width} x {height} pixels, more than the limit of {limit:g} megapixels; "
            f"raise it with --max-megapixels {math.ceil(megapixels)}{hint}"
        )


def note_frames(count: int, notes: list[str]) -> None:
    """Note that a file holds more pictures than the one that is read."""
    if count > 1:
        notes.append(f"the first of {count} pictures in the file is used")


def all_finite(pixels: np.ndarray, notes: list[str]) -> np.ndarray:
    """Replace NaN by 0 and infinities by the largest and smallest finite value of the picture."""
    finite = np.isfinite(pixels)
    count = finite.size - np.count_nonzero(finite)
    if not count:
        return pixels
    notes.append(f"{count} values that are no finite numbers replaced")
    known = pixels[finite]
    top, bottom = known.max(initial=0), known.min(initial=0)
    return np.nan_to_num(pixels, nan=0, posinf=top, neginf=bottom)

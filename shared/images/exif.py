"""EXIF blocks: taken from files in any state, and fitted to the picture they travel with."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.ExifTags import IFD, Base

TEXT_TAGS = (Base.Make, Base.Model, Base.Software, Base.DateTime, Base.Artist, Base.Copyright)
_CARRIED_TAGS = (
    *TEXT_TAGS,
    Base.ImageDescription,
    Base.XResolution,
    Base.YResolution,
    Base.ResolutionUnit,
)


@contextlib.contextmanager
def _damage_noted(notes: list[str]) -> Iterator[None]:
    """Note any exception instead of raising it: a damaged block must not cost the picture."""
    try:
        yield
    except Exception:
        notes.append("damaged EXIF block ignored")


def parse_exif(block: bytes | None) -> Image.Exif:
    """Return the tags of a block; none without one."""
    exif = Image.Exif()
    if block:
        exif.load(block)
    return exif


def pillow_exif(picture: Image.Image, notes: list[str]) -> tuple[Image.Exif | None, int]:
    """Return the tags, if any, and the orientation of a picture that Pillow has opened."""
    with _damage_noted(notes):
        exif = picture.getexif()
        return (exif if len(exif) else None), valid_orientation(exif.get(Base.Orientation))
    return None, 1


def tiff_exif(path: Path, notes: list[str]) -> Image.Exif | None:
    """Return the EXIF part of a classic TIFF: photographic tags, without those of the layout."""
    found, kept = Image.Exif(), Image.Exif()
    with _damage_noted(notes):
        with path.open("rb") as file:
            found.load_from_fp(file)
            kept.update({tag: found[tag] for tag in _CARRIED_TAGS if tag in found})
            blocks = exif_directories(found)
        for tag, directory in blocks.items():
            kept.get_ifd(tag).update(directory)
        return kept if len(kept) or blocks else None
    return None


def exif_directories(exif: Image.Exif) -> dict[int, dict]:
    """Return the directories of camera and place, without pointers that lead out of them."""
    directories = {tag: dict(exif.get_ifd(tag)) for tag in (IFD.Exif, IFD.GPSInfo)}
    directories[IFD.Exif].pop(IFD.Interop, None)
    return {tag: directory for tag, directory in directories.items() if directory}


def valid_orientation(value: object) -> int:
    """Return an EXIF orientation, 1 to 8; 1 for anything else."""
    return value if value in range(1, 9) else 1


def exif_block(exif: Image.Exif, pixels: np.ndarray, notes: list[str]) -> bytes | None:
    """Return the block with orientation 1 and the size of `pixels`; thumbnails are dropped."""
    height, width = pixels.shape[:2]
    with _damage_noted(notes):
        if Base.Orientation in exif:
            exif[Base.Orientation] = 1
        directory = exif.get_ifd(IFD.Exif)
        for tag, length in ((Base.ExifImageWidth, width), (Base.ExifImageHeight, height)):
            if tag in directory:
                directory[tag] = length
        return exif.tobytes()
    return None

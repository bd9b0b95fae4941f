"""Decoders of JPEG, PNG, WebP and BMP."""

import io
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image, PngImagePlugin, WebPImagePlugin

from .decoded import Decoded, check_size, note_frames
from .exif import pillow_exif

_BAND_PIXELS = 2**21


def read_pillow(plugin: Callable[..., Image.Image], path: Path, limit: float) -> Decoded:
    """Decode with a plug-in of Pillow.

    The plug-ins are called directly, since `Image.open` adds a pixel limit of its own that only
    a global setting can lift.
    """
    notes: list[str] = []
    with path.open("rb") as file:
        picture = plugin(file, str(path))
        check_size(path, *picture.size, limit)
        picture.load()
        samples, alpha = _pillow_samples(picture)
        if picture.format != "MPO":
            note_frames(getattr(picture, "n_frames", 1), notes)
        exif, orientation = pillow_exif(picture, notes)
    icc = picture.info.get("icc_profile")
    return Decoded(samples, alpha, exif=exif, orientation=orientation, icc=icc, notes=notes)


def _pillow_samples(picture: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """Copy a Pillow picture out in bands, which needs no second copy of the whole."""
    transparent = picture.has_transparency_data
    if picture.mode in ("1", "L", "LA"):
        mode = "LA" if transparent else "L"
    elif picture.mode == "CMYK":
        mode = "CMYK"
    else:
        mode = "RGBA" if transparent else "RGB"
    width, height = picture.size
    colours = {"L": (), "LA": (), "RGB": (3,), "RGBA": (3,), "CMYK": (4,)}[mode]
    samples = np.empty((height, width, *colours), np.uint8)
    alpha = np.empty((height, width), np.uint8) if transparent else None
    step = max(1, _BAND_PIXELS // width)
    for top in range(0, height, step):
        rows = slice(top, min(top + step, height))
        band = picture.crop((0, rows.start, width, rows.stop))
        # Converting to the same mode would copy.
        band = np.asarray(band if band.mode == mode else band.convert(mode))
        if alpha is None:
            samples[rows] = band
        else:
            samples[rows] = band[..., 0] if mode == "LA" else band[..., :3]
            alpha[rows] = band[..., -1]
    return samples, alpha


def read_webp(path: Path, limit: float) -> Decoded:
    """Decode WebP; Pillow sets up two canvases before it can be asked for the size."""
    with path.open("rb") as file:
        head = file.read(30)
    if int.from_bytes(head[4:8], "little") + 8 > path.stat().st_size:
        raise EOFError("truncated")
    check_size(path, *_webp_size(head), limit)
    return read_pillow(WebPImagePlugin.WebPImageFile, path, limit)


def _webp_size(head: bytes) -> tuple[int, int]:
    kind = head[12:16]
    if kind == b"VP8X":
        return tuple(int.from_bytes(head[at : at + 3], "little") + 1 for at in (24, 27))
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return tuple(int.from_bytes(head[at : at + 2], "little") & 0x3FFF for at in (26, 28))


def read_png16(path: Path, limit: float) -> Decoded:
    """Decode a 16-bit PNG, of which Pillow would keep 8 bits."""
    data = path.read_bytes()
    notes: list[str] = []
    with PngImagePlugin.PngImageFile(io.BytesIO(data), str(path)) as header:
        check_size(path, *header.size, limit)
        note_frames(getattr(header, "n_frames", 1), notes)
        icc = header.info.get("icc_profile")
        # Asking for EXIF makes Pillow decode the picture, in case the block comes after it.
        exif, orientation = None, 1
        if b"eXIf" in data or "exif" in header.info or "Raw profile type exif" in header.info:
            exif, orientation = pillow_exif(header, notes)
    samples = imagecodecs.png_decode(data)
    alpha = None
    if samples.ndim == 3 and samples.shape[2] in (2, 4):
        alpha = samples[..., -1].copy()
        samples = samples[..., 0] if samples.shape[2] == 2 else samples[..., :3].copy()
    return Decoded(samples, alpha, exif=exif, orientation=orientation, icc=icc, notes=notes)

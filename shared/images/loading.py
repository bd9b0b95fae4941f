"""Load a picture: tell the kind of file by its content, decode, turn upright, convert to sRGB."""

import codecs
import contextlib
import functools
import logging
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import BmpImagePlugin, JpegImagePlugin, PngImagePlugin

from shared.errors import ImageError, reason

from .decoded import Decoded, check_size
from .exif import exif_block
from .files import first_bytes
from .picture import Picture, three_channels, to_float
from .profiles import to_srgb
from .read_common import read_pillow, read_png16, read_webp
from .read_linear import read_exr, read_hdr
from .read_tiff import read_tiff

READABLE = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".hdr", ".exr"})

# What the libraries would print about a damaged file is told by an error or a note.
logging.getLogger("tifffile").addHandler(logging.NullHandler())
warnings.filterwarnings("ignore", module=r"PIL\.", category=UserWarning)


def load(path: str | Path, *, max_megapixels: float = 150) -> Picture:
    """Read a picture with its own bit depth; the kind of file is told by its content.

    Args:
        path: file to read.
        max_megapixels: limit on the size that the file claims, checked before decoding. An
            uncompressed, contiguous 8-bit, 16-bit or float32 RGB TIFF in the byte order of this
            machine may exceed it: its pixels come as a read-only memory map.

    Raises:
        ImageError: the file is missing, unreadable, damaged, too large or no picture.
    """
    path = Path(path)
    decode = _decoder(path, first_bytes(path))
    try:
        decoded = decode(path, max_megapixels)
        return decoded if isinstance(decoded, Picture) else _finish(decoded, path)
    except ImageError:
        raise
    except MemoryError:
        raise ImageError(f"{path} does not fit into memory; use a smaller picture") from None
    except Exception as error:  # decoders raise nearly anything on a damaged file
        raise _damaged(path, error) from error


def read(path: str | Path, *, max_megapixels: float = 150) -> np.ndarray:
    """Read a picture as float32 (height, width, 3), values 0..1, or linear light for HDR files.

    Raises:
        ImageError: as `load`, and for every picture beyond the limit.
    """
    pixels = load(path, max_megapixels=max_megapixels).pixels
    if isinstance(pixels, np.memmap):
        check_size(Path(path), pixels.shape[1], pixels.shape[0], max_megapixels)
    return to_float(pixels)


def _decoder(path: Path, head: bytes) -> Callable[[Path, float], Decoded | Picture]:
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        deep = head[24:25] == b"\x10"
        return read_png16 if deep else functools.partial(read_pillow, PngImagePlugin.PngImageFile)
    if head.startswith(b"\xff\xd8"):
        return functools.partial(read_pillow, JpegImagePlugin.jpeg_factory)
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return read_webp
    if head.startswith(b"BM") and b"\0" in head:
        return functools.partial(read_pillow, BmpImagePlugin.BmpImageFile)
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return read_tiff
    if head.startswith(b"#?"):
        return read_hdr
    if head.startswith(b"\x76\x2f\x31\x01"):
        return read_exr
    raise ImageError(
        f"{path} is not a picture{_what_it_is(head)}; readable are JPEG, PNG, TIFF, WebP, BMP, "
        "Radiance HDR and OpenEXR"
    )


def _what_it_is(head: bytes) -> str:
    for magic, name in ((b"GIF8", "GIF"), (b"8BPS", "Photoshop"), (b"%PDF", "PDF")):
        if head.startswith(magic):
            return f" that can be read: it is a {name} file"
    if head[4:8] == b"ftyp":
        return f" that can be read: it is a {head[8:12].decode('ascii', 'replace')} container"
    with contextlib.suppress(UnicodeDecodeError):
        # Incremental, since the first bytes may end in the middle of a character.
        if "\0" not in codecs.getincrementaldecoder("utf-8")().decode(head):
            return ": it is a text file"
    return ""


def _damaged(path: Path, error: Exception) -> ImageError:
    cause = reason(error)
    if re.search(r"truncat|too small|failed to read \d+|READ_ERROR|mmap length", cause, re.I):
        return ImageError(f"{path} is truncated: the picture ends too early; copy it again")
    if "not identified by this driver" in cause:  # Pillow's words for it
        return ImageError(f"{path} holds no picture: its size is 0 pixels")
    return ImageError(
        f"{path} cannot be decoded, it is damaged or of an unsupported kind ({cause})"
    )


def _finish(decoded: Decoded, path: Path) -> Picture:
    samples, icc = to_srgb(decoded)
    grey = samples.ndim == 2
    pixels = _turn(three_channels(samples) if grey else samples, decoded.orientation)
    alpha = None if decoded.alpha is None else _turn(decoded.alpha, decoded.orientation)
    exif = None
    if decoded.exif is not None:
        exif = exif_block(decoded.exif, pixels, decoded.notes)
    return Picture(pixels, alpha, grey, decoded.linear, exif, icc, path, tuple(decoded.notes))


def _turn(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation, 1 to 8."""
    if orientation in (5, 6, 7, 8):
        samples = cv2.transpose(samples)
    flips = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}
    return cv2.flip(samples, flips[orientation]) if orientation in flips else samples

"""Read and write pictures with their bit depth, alpha, colour profile and EXIF block.

| file | read | written |
| --- | --- | --- |
| JPEG | 8 bit, grey, RGB, CMYK | 8 bit, 4:4:4, no alpha |
| PNG | 1 to 16 bit, grey, RGB, palette, alpha | 8 or 16 bit, alpha |
| WebP | 8 bit, alpha | 8 bit, lossy, alpha, never grey |
| BMP | 8 bit, palette | 8 bit, no alpha, no profile, no EXIF |
| TIFF | 1 to 16 bit, float, grey, RGB, palette, CMYK, alpha | 8 or 16 bit, float32, alpha |
| Radiance HDR | RGBE | RGBE, no alpha, linear |
| OpenEXR | R G B, Y or one channel, with A; whole data window | float32, alpha, linear |

Alpha stays beside the colours and never multiplies them; TIFF colours stored multiplied by alpha
are divided first, OpenEXR colours stay as stored (the format defines them as multiplied).
"""

import codecs
import contextlib
import functools
import io
import logging
import math
import mmap
import os
import re
import stat
import struct
import sys
import threading
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import OpenEXR
import tifffile
from PIL import (
    BmpImagePlugin,
    Image,
    ImageCms,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from shared.errors import ImageError

READABLE = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".hdr", ".exr"})

_BAND_PIXELS = 2**21
_MAX_CHANNELS = 8
_MAX_JPEG_EXIF = 65533
_ORIENTATION, _EXIF_IFD, _GPS_IFD = 0x0112, 0x8769, 0x8825
_EXIF_WIDTH, _EXIF_HEIGHT, _INTEROPERABILITY = 0xA002, 0xA003, 0xA005
_TEXT_TAGS = (271, 272, 305, 306, 315, 33432)  # make, model, software, date, artist, copyright
_DESCRIPTION, _X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 270, 282, 283, 296
_CARRIED_TAGS = (*_TEXT_TAGS, _DESCRIPTION, _X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT)
_DNG_VERSION = 50706
_ICC_SPACES = {b"RGB ": "rgb", b"GRAY": "gray", b"CMYK": "cmyk"}
_SPACE_NAMES = {"rgb": "RGB", "gray": "grey", "cmyk": "CMYK"}
# OpenEXR prints its complaints about a damaged file to standard output, where results belong.
_EXR_LOCK = threading.Lock()

logging.getLogger("tifffile").addHandler(logging.NullHandler())
warnings.filterwarnings("ignore", module=r"PIL\.", category=UserWarning)


# ------------------------------------------------------------------------------------- values


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


def _as_depth(pixels: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return pixels if pixels.dtype == dtype else from_float(to_float(pixels), dtype)


def _packed(pixels: np.ndarray) -> np.ndarray:
    """Return pixels without gaps between them.

    NumPy calls a row or a column cut from a larger array contiguous whatever the step of its
    axis of length 1; the codecs do not.
    """
    return pixels if 1 not in pixels.shape and pixels.flags.c_contiguous else pixels.copy()


def _linear_to_srgb(linear: np.ndarray) -> np.ndarray:
    size = np.abs(linear)
    curve = np.where(size <= 0.0031308, 12.92 * size, 1.055 * size ** (1 / 2.4) - 0.055)
    return np.copysign(curve, linear).astype(np.float32)


def _srgb_to_linear(encoded: np.ndarray) -> np.ndarray:
    size = np.abs(encoded)
    curve = np.where(size <= 0.04045, size / 12.92, ((size + 0.055) / 1.055) ** 2.4)
    return np.copysign(curve, encoded).astype(np.float32)


def _all_finite(pixels: np.ndarray, notes: list[str]) -> np.ndarray:
    """Replace NaN by 0 and infinities by the largest and smallest finite value of the picture."""
    finite = np.isfinite(pixels)
    count = finite.size - np.count_nonzero(finite)
    if not count:
        return pixels
    notes.append(f"{count} values that are no finite numbers replaced")
    known = pixels[finite]
    top, bottom = known.max(initial=0), known.min(initial=0)
    return np.nan_to_num(pixels, nan=0, posinf=top, neginf=bottom)


# ------------------------------------------------------------------------------------- picture


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


@dataclass
class _Decoded:
    """What a decoder found: samples as stored, nothing turned or converted yet."""

    samples: np.ndarray  # (height, width) grey, (…, 3) RGB, (…, 4) CMYK
    alpha: np.ndarray | None = None
    linear: bool = False
    exif: Image.Exif | None = None
    orientation: int = 1
    icc: bytes | None = None
    notes: list[str] = field(default_factory=list)


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
    decode = _decoder(path, _first_bytes(path))
    try:
        decoded = decode(path, max_megapixels)
        if isinstance(decoded, Picture):
            return decoded
        return _finish(decoded, path)
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
        _check_size(Path(path), pixels.shape[1], pixels.shape[0], max_megapixels)
    return to_float(pixels)


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
    target = _format(path)
    height, width = picture.pixels.shape[:2]
    if target.max_side and max(height, width) > target.max_side:
        raise ImageError(
            f"{path} cannot be written: {target.name} allows {target.max_side} pixels a side, "
            f"the picture has {width} x {height}; choose .png or .tif"
        )
    content = _content(picture, target)
    with _replacing(path) as part:
        target.encode(content, part, quality)


def losses(picture: Picture, path: str | Path) -> tuple[str, ...]:
    """Say what `save` under this name leaves out, as notes for a person."""
    target = _format(Path(path))
    found = []
    if picture.alpha is not None and not target.alpha:
        found.append(f"transparency is left out in {target.name}")
    if picture.pixels.dtype not in target.depths and picture.pixels.dtype != np.uint8:
        found.append(f"{_depth_name(picture.pixels.dtype)} reduced in {target.name}")
    return tuple(found)


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
    icc = picture.icc if picture.icc and picture.icc[16:20] == b"RGB " else None
    convert = icc is not None and not isinstance(pixels, np.memmap)
    covered = 0
    with _replacing(path) as part:
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
                    rows = _from_srgb(rows, icc)
                file.seek(start + first * width * 3 * pixels.itemsize)
                file.write(np.ascontiguousarray(rows).data)
                covered += len(rows)
                _forget_pages(pixels)
        if covered != height:
            raise ValueError(f"the bands cover {covered} of {height} rows")


def _forget_pages(pixels: np.ndarray) -> None:
    """Let go of the pages of a memory map that were read; they come back when touched again."""
    if isinstance(pixels.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        pixels.base.madvise(mmap.MADV_DONTNEED)


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
    target = _format(path)
    image = np.asarray(image)
    if image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)) or not image.size:
        raise ValueError(f"a picture is (height, width) or (height, width, 3), not {image.shape}")
    floating = np.issubdtype(image.dtype, np.floating)
    if floating:
        image = from_float(image, np.float32 if np.float32 in target.depths else np.uint8)
    pixels = _three_channels(image) if image.ndim == 2 else image
    save(
        Picture(pixels, grey=image.ndim == 2, linear=floating and target.linear),
        path,
        quality=quality,
    )


# ------------------------------------------------------------------------- what a file is


def _first_bytes(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ImageError(f"{path} is a folder, not a picture; name the pictures inside it")
        if not stat.S_ISREG(mode):
            raise ImageError(f"{path} is a device or a pipe, not a file; copy it to a file first")
        with path.open("rb") as file:
            head = file.read(4096)
    except FileNotFoundError:
        raise ImageError(f"{path} does not exist; check the name") from None
    except PermissionError:
        raise ImageError(f"{path} cannot be read: permission denied") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"{path} cannot be read: {_reason(error)}") from error
    if not head:
        raise ImageError(f"{path} is empty (0 bytes); copy it again from where it came from")
    return head


def _decoder(path: Path, head: bytes) -> Callable[[Path, float], "_Decoded | Picture"]:
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return _read_png16 if head[24:25] == b"\x10" else _pillow(PngImagePlugin.PngImageFile)
    if head.startswith(b"\xff\xd8"):
        return _pillow(JpegImagePlugin.jpeg_factory)
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return _read_webp
    if head.startswith(b"BM") and b"\0" in head:
        return _pillow(BmpImagePlugin.BmpImageFile)
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _read_tiff
    if head.startswith(b"#?"):
        return _read_hdr
    if head.startswith(b"\x76\x2f\x31\x01"):
        return _read_exr
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


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())


def _damaged(path: Path, error: Exception) -> ImageError:
    reason = _reason(error)
    if re.search(r"truncat|too small|failed to read \d+|READ_ERROR|mmap length", reason, re.I):
        return ImageError(f"{path} is truncated: the picture ends too early; copy it again")
    if "not identified by this driver" in reason:  # Pillow's words for it
        return ImageError(f"{path} holds no picture: its size is 0 pixels")
    return ImageError(
        f"{path} cannot be decoded, it is damaged or of an unsupported kind ({reason})"
    )


def _check_size(path: Path, width: int, height: int, limit: float, hint: str = "") -> None:
    if width < 1 or height < 1:
        raise ImageError(f"{path} holds no picture: its size is {width} x {height} pixels")
    megapixels = width * height / 1e6
    if megapixels > limit:
        raise ImageError(
            f"{path} has {width} x {height} pixels, more than the limit of {limit:g} megapixels; "
            f"raise it with --max-megapixels {math.ceil(megapixels)}{hint}"
        )


# ------------------------------------------------------------------------------- decoders


def _pillow(plugin: Callable[..., Image.Image]) -> Callable[[Path, float], _Decoded]:
    """Return a decoder for a Pillow plug-in.

    The plug-ins are called directly, since `Image.open` adds a pixel limit of its own that only
    a global setting can lift.
    """

    def decode(path: Path, limit: float) -> _Decoded:
        with path.open("rb") as file:
            picture = plugin(file, str(path))
            _check_size(path, *picture.size, limit)
            picture.load()
            samples, alpha = _pillow_samples(picture)
            notes = []
            if picture.format != "MPO":
                _note_frames(getattr(picture, "n_frames", 1), notes)
            exif, orientation = _pillow_exif(picture, notes)
        return _Decoded(
            samples, alpha, False, exif, orientation, picture.info.get("icc_profile"), notes
        )

    return decode


def _read_webp(path: Path, limit: float) -> _Decoded:
    # Pillow sets up its decoder, with two canvases, before the size can be asked for.
    with path.open("rb") as file:
        head = file.read(30)
    if int.from_bytes(head[4:8], "little") + 8 > path.stat().st_size:
        raise EOFError("truncated")
    _check_size(path, *_webp_size(head), limit)
    return _pillow(WebPImagePlugin.WebPImageFile)(path, limit)


def _webp_size(head: bytes) -> tuple[int, int]:
    kind = head[12:16]
    if kind == b"VP8X":
        return tuple(int.from_bytes(head[at : at + 3], "little") + 1 for at in (24, 27))
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return tuple(int.from_bytes(head[at : at + 2], "little") & 0x3FFF for at in (26, 28))


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


def _pillow_exif(picture: Image.Image, notes: list[str]) -> tuple[Image.Exif | None, int]:
    try:
        exif = picture.getexif()
        return (exif if len(exif) else None), _orientation(exif)
    except Exception:  # a damaged block must not cost the picture
        notes.append("damaged EXIF block ignored")
        return None, 1


def _orientation(exif: Image.Exif) -> int:
    value = exif.get(_ORIENTATION)
    return value if value in range(1, 9) else 1


def _read_png16(path: Path, limit: float) -> _Decoded:
    """Read a 16-bit PNG, of which Pillow would keep 8 bits."""
    data = path.read_bytes()
    notes: list[str] = []
    with PngImagePlugin.PngImageFile(io.BytesIO(data), str(path)) as header:
        _check_size(path, *header.size, limit)
        _note_frames(getattr(header, "n_frames", 1), notes)
        icc = header.info.get("icc_profile")
        # Asking for EXIF makes Pillow decode the picture, in case the block comes after it.
        exif, orientation = None, 1
        if b"eXIf" in data or "exif" in header.info or "Raw profile type exif" in header.info:
            exif, orientation = _pillow_exif(header, notes)
    samples = imagecodecs.png_decode(data)
    alpha = None
    if samples.ndim == 3 and samples.shape[2] in (2, 4):
        alpha = samples[..., -1].copy()
        samples = samples[..., 0] if samples.shape[2] == 2 else samples[..., :3].copy()
    return _Decoded(samples, alpha, False, exif, orientation, icc, notes)


def _read_hdr(path: Path, limit: float) -> _Decoded:
    data = path.read_bytes()
    size = re.search(rb"\n[-+]Y (\d+) [-+]X (\d+)\n", data[:65536])
    if size is None:
        raise ImageError(
            f"{path} is a Radiance file without a size line '-Y height +X width'; "
            "it is damaged or turned, store it anew"
        )
    _check_size(path, int(size[2]), int(size[1]), limit)
    if b"FORMAT=32-bit_rle_xyze" in data[: size.start()]:
        raise ImageError(f"{path} stores XYZ colours, which cannot be read; store it as RGBE")
    notes: list[str] = []
    return _Decoded(_all_finite(imagecodecs.rgbe_decode(data), notes), linear=True, notes=notes)


def _read_exr(path: Path, limit: float) -> _Decoded:
    header = OpenEXR.File(str(path), header_only=True).header()
    (left, top), (right, bottom) = header["dataWindow"]
    _check_size(path, int(right) - int(left) + 1, int(bottom) - int(top) + 1, limit)
    if header.get("type") in (OpenEXR.deepscanline, OpenEXR.deeptile):
        raise ImageError(f"{path} is a deep OpenEXR file; flatten it first")
    colours = _exr_colours(path, header["channels"])
    with _EXR_LOCK, contextlib.redirect_stdout(io.StringIO()):
        file = OpenEXR.File(str(path), separate_channels=True)
    if not file.parts:
        raise ImageError(f"{path} is truncated or damaged; copy it again")
    channels = file.channels()
    notes: list[str] = []
    if header.get("chromaticities") is not None and not _is_rec709(header["chromaticities"]):
        notes.append("colour primaries of the file are not those of sRGB; taken as if they were")
    planes = [channels[name].pixels for name in colours]
    samples = np.empty((*planes[0].shape, len(planes)), np.float32)
    for index, plane in enumerate(planes):
        samples[..., index] = plane
    samples = _all_finite(samples[..., 0] if len(planes) == 1 else samples, notes)
    alpha = channels["A"].pixels.astype(np.float32) if "A" in channels else None
    return _Decoded(samples, alpha, linear=True, notes=notes)


def _exr_colours(path: Path, channels: list) -> list[str]:
    names = [channel.name for channel in channels]
    if {"Y", "RY", "BY"} <= set(names):
        raise ImageError(
            f"{path} stores luminance and subsampled colour (Y, RY, BY); convert it to R, G, B"
        )
    single = [name for name in names if name != "A"]
    if {"R", "G", "B"} <= set(names):
        colours = ["R", "G", "B"]
    elif "Y" in names:
        colours = ["Y"]
    elif len(single) == 1:
        colours = single
    else:
        raise ImageError(
            f"{path} has the channels {', '.join(names)}; store the picture as R, G, B"
        )
    if any(c.xSampling != 1 or c.ySampling != 1 for c in channels if c.name in [*colours, "A"]):
        raise ImageError(f"{path} has subsampled channels; store it without subsampling")
    return colours


def _is_rec709(chromaticities: Iterable[float]) -> bool:
    rec709 = (0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.329)
    return bool(np.allclose(list(chromaticities), rec709, atol=2e-3))


def _note_frames(count: int, notes: list[str]) -> None:
    if count > 1:
        notes.append(f"the first of {count} pictures in the file is used")


# ------------------------------------------------------------------------------------- TIFF


def _read_tiff(path: Path, limit: float) -> _Decoded | Picture:
    with tifffile.TiffFile(path) as tif:
        page = tif.pages.first
        height, width = page.imagelength, page.imagewidth
        if _mappable(tif, page) and width * height > limit * 1e6:
            return _map_tiff(path, page)
        hint = " or store it as uncompressed RGB TIFF, which is worked on in bands"
        _check_size(path, width, height, limit, hint)
        _check_tiff_kind(path, page)
        ends = map(sum, zip(page.dataoffsets, page.databytecounts, strict=True))
        if max(ends, default=0) > path.stat().st_size:
            raise EOFError("truncated")
        notes: list[str] = []
        _note_frames(len(tif.pages), notes)
        samples, alpha = _tiff_samples(path, page, notes)
        icc = page.tags.valueof(34675)
        orientation = page.tags.valueof(_ORIENTATION)
    return _Decoded(
        samples,
        alpha,
        exif=_tiff_exif(path, notes),
        orientation=orientation if orientation in range(1, 9) else 1,
        icc=icc,
        notes=notes,
    )


def _mappable(tif: tifffile.TiffFile, page: tifffile.TiffPage) -> bool:
    native = {"little": "<", "big": ">"}[sys.byteorder]
    return (
        page.imagewidth > 0
        and page.photometric == tifffile.PHOTOMETRIC.RGB
        and page.shape == (page.imagelength, page.imagewidth, 3)
        and page.dtype in (np.uint8, np.uint16, np.float32)
        and (tif.byteorder == native or page.dtype == np.uint8)
        and page.tags.valueof(_ORIENTATION, default=1) == 1
        and page.is_memmappable
    )


def _map_tiff(path: Path, page: tifffile.TiffPage) -> Picture:
    pixels = tifffile.memmap(path, page=0, mode="r")
    icc = page.tags.valueof(34675)
    notes = ["worked on from disk, without EXIF"]
    if icc is not None:
        try:
            if _profile_use(icc, "rgb") != "srgb":
                notes.append(f"{_profile_name(icc)} kept, but taken as sRGB while at work")
        except imagecodecs.CmsError:
            notes.append("damaged colour profile ignored")
            icc = None
    return Picture(pixels, icc=icc, source=path, notes=tuple(notes))


def _check_tiff_kind(path: Path, page: tifffile.TiffPage) -> None:
    kind = page.photometric
    known = tifffile.PHOTOMETRIC
    if _DNG_VERSION in page.tags or kind in (known.CFA, known.LINEAR_RAW):
        raise ImageError(f"{path} is a camera raw file; develop it to TIFF, PNG or JPEG first")
    if kind not in (
        known.MINISWHITE,
        known.MINISBLACK,
        known.RGB,
        known.PALETTE,
        known.SEPARATED,
        known.YCBCR,
    ):
        name = getattr(kind, "name", kind)
        raise ImageError(f"{path} stores {name} colours, which cannot be read; store it as RGB")
    if page.imagedepth > 1 or page.samplesperpixel > _MAX_CHANNELS:
        raise ImageError(
            f"{path} has {page.samplesperpixel} channels and {page.imagedepth} layers; "
            "store it as grey or RGB"
        )
    if page.dtype is None or page.dtype.kind not in "buf" or page.dtype in (np.uint32, np.uint64):
        raise ImageError(
            f"{path} stores {page.dtype or 'mixed or unknown'} samples; store it with 8 or "
            "16 bits or as float"
        )


def _tiff_samples(
    path: Path, page: tifffile.TiffPage, notes: list[str]
) -> tuple[np.ndarray, np.ndarray | None]:
    known = tifffile.PHOTOMETRIC
    stored = page.asarray()
    if page.samplesperpixel > 1 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
        stored = np.moveaxis(stored, 0, -1)
    stored = stored.reshape(page.imagelength, page.imagewidth, page.samplesperpixel)
    if page.photometric == known.PALETTE:
        colours = (page.colormap >> 8).astype(np.uint8)
        return colours.T[stored[..., 0]], None
    stored = _standard_depth(stored, page.bitspersample, notes)
    if page.photometric == known.MINISWHITE:
        white = 1 if stored.dtype.kind == "f" else np.iinfo(stored.dtype).max
        stored = np.asarray(white - stored, stored.dtype)
    colours = {known.MINISWHITE: 1, known.MINISBLACK: 1, known.SEPARATED: 4}.get(
        page.photometric, 3
    )
    if stored.shape[2] < colours:
        raise ImageError(
            f"{path} has {stored.shape[2]} channels where {colours} belong; store it as RGB"
        )
    samples, alpha = _split_alpha(stored, colours, page.extrasamples, notes)
    return (samples[..., 0] if colours == 1 else samples), alpha


def _standard_depth(stored: np.ndarray, bits: int | tuple, notes: list[str]) -> np.ndarray:
    if stored.dtype.kind == "f":
        return _all_finite(stored.astype(np.float32), notes)
    bits = bits if isinstance(bits, int) else max(bits)
    if bits in (8, 16):
        return stored.astype(np.uint8 if bits == 8 else np.uint16, copy=False)
    dtype = np.uint8 if bits < 8 else np.uint16
    levels = np.rint(np.linspace(0, np.iinfo(dtype).max, 2**bits)).astype(dtype)
    return levels[stored.astype(dtype, copy=False)]


def _split_alpha(
    stored: np.ndarray, colours: int, extra: tuple[int, ...], notes: list[str]
) -> tuple[np.ndarray, np.ndarray | None]:
    if stored.shape[2] == colours:
        return stored, None
    samples = np.ascontiguousarray(stored[..., :colours])
    kinds = tifffile.EXTRASAMPLE
    for index, kind in enumerate(extra):
        if kind in (kinds.ASSOCALPHA, kinds.UNASSALPHA):
            alpha = np.ascontiguousarray(stored[..., colours + index])
            if kind == kinds.ASSOCALPHA:
                notes.append("colours divided by alpha, which they were multiplied by")
                samples = _divide_by_alpha(samples, alpha)
            return samples, alpha
    notes.append("extra channels of unknown meaning left out")
    return samples, None


def _divide_by_alpha(samples: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    cover = to_float(alpha)[..., None]
    straight = np.divide(
        to_float(samples), cover, out=np.zeros(samples.shape, np.float32), where=cover > 0
    )
    return from_float(straight, samples.dtype)


def _tiff_exif(path: Path, notes: list[str]) -> Image.Exif | None:
    """Return the EXIF part of a classic TIFF: photographic tags, without those of the layout."""
    found, kept = Image.Exif(), Image.Exif()
    try:
        with path.open("rb") as file:
            found.load_from_fp(file)
            kept.update({tag: found[tag] for tag in _CARRIED_TAGS if tag in found})
            blocks = _exif_blocks(found)
        for tag, block in blocks.items():
            kept.get_ifd(tag).update(block)
    except Exception:  # a damaged block must not cost the picture
        notes.append("damaged EXIF block ignored")
        return None
    return kept if len(kept) or blocks else None


def _exif_blocks(exif: Image.Exif) -> dict[int, dict]:
    """Return the directories of camera and place, without pointers that lead out of them."""
    blocks = {tag: dict(exif.get_ifd(tag)) for tag in (_EXIF_IFD, _GPS_IFD)}
    blocks[_EXIF_IFD].pop(_INTEROPERABILITY, None)
    return {tag: block for tag, block in blocks.items() if block}


# ---------------------------------------------------------------------- from file to picture


def _finish(decoded: _Decoded, path: Path) -> Picture:
    samples, icc = _to_srgb(decoded)
    grey = samples.ndim == 2
    if grey:
        samples = _three_channels(samples)
    pixels = _turn(samples, decoded.orientation)
    alpha = None if decoded.alpha is None else _turn(decoded.alpha, decoded.orientation)
    exif = None
    if decoded.exif is not None:
        exif = _exif_bytes(decoded.exif, pixels, decoded.notes)
    return Picture(pixels, alpha, grey, decoded.linear, exif, icc, path, tuple(decoded.notes))


def _three_channels(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


def _turn(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation, 1 to 8."""
    if orientation in (5, 6, 7, 8):
        samples = cv2.transpose(samples)
    flips = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}
    return cv2.flip(samples, flips[orientation]) if orientation in flips else samples


def _exif_bytes(exif: Image.Exif, pixels: np.ndarray, notes: list[str]) -> bytes | None:
    """Return the block with orientation 1 and the size of `pixels`; thumbnails are dropped."""
    try:
        if _ORIENTATION in exif:
            exif[_ORIENTATION] = 1
        block = exif.get_ifd(_EXIF_IFD)
        for tag, length in ((_EXIF_WIDTH, pixels.shape[1]), (_EXIF_HEIGHT, pixels.shape[0])):
            if tag in block:
                block[tag] = length
        return exif.tobytes()
    except Exception:  # a damaged block must not cost the picture
        notes.append("damaged EXIF block ignored")
        return None


# --------------------------------------------------------------------------- colour profiles


@functools.cache
def _srgb_profile() -> bytes:
    return imagecodecs.cms_profile("srgb")


def _transform(
    samples: np.ndarray, profile: bytes, target: bytes, space: str, target_space: str
) -> np.ndarray:
    # The optimised path of lcms is off by up to 2 % in the shadows of 16-bit pictures.
    flags = imagecodecs.CMS.FLAGS.BLACKPOINTCOMPENSATION
    if samples.dtype != np.uint8:
        flags |= imagecodecs.CMS.FLAGS.NOOPTIMIZE
    return imagecodecs.cms_transform(
        _packed(samples),
        profile,
        target,
        colorspace=space,
        outcolorspace=target_space,
        intent=imagecodecs.CMS.INTENT.RELATIVE_COLORIMETRIC,
        flags=flags,
    )


@functools.lru_cache(maxsize=32)
def _profile_use(icc: bytes, space: str) -> str:
    """Compare a profile with sRGB.

    Returns:
        "srgb" (differs by less than one 8-bit level), "both" (converts to sRGB and back) or
        "one way" (scanner and camera profiles convert to sRGB only).

    Raises:
        imagecodecs.CmsError: the profile is damaged.
    """
    ramp = np.linspace(0, 1, 9 if space == "rgb" else 256, dtype=np.float32)
    if space == "rgb":
        lattice = np.stack(np.meshgrid(ramp, ramp, ramp), axis=-1).reshape(27, 27, 3)
        expected = lattice
    else:
        lattice = ramp.reshape(16, 16)
        expected = _three_channels(lattice)
    converted = _transform(lattice, icc, _srgb_profile(), space, "rgb")
    if np.abs(converted - expected).max() < 1 / 255:
        return "srgb"
    try:
        _transform(converted, _srgb_profile(), icc, "rgb", space)
    except imagecodecs.CmsError:
        return "one way"
    return "both"


def _profile_name(icc: bytes) -> str:
    try:
        name = ImageCms.ImageCmsProfile(io.BytesIO(icc)).profile.profile_description
    except OSError:
        name = None
    return f"colour profile '{name.strip()}'" if name else "colour profile"


def _to_srgb(decoded: _Decoded) -> tuple[np.ndarray, bytes | None]:
    """Return samples in sRGB and the profile to embed again, if any; adds notes."""
    samples, icc, notes = decoded.samples, decoded.icc, decoded.notes
    space = {2: "gray", 3: "rgb", 4: "cmyk"}[
        samples.ndim if samples.ndim == 2 else samples.shape[2]
    ]
    if icc:
        profile_space = _ICC_SPACES.get(icc[16:20])
        # An RGB profile in a grey file is common; it describes the three equal channels.
        widened = profile_space == "rgb" and space == "gray"
        if profile_space != space and not widened:
            notes.append(f"colour profile ignored: it is damaged or not for {_SPACE_NAMES[space]}")
            icc = None
    if space == "cmyk":
        return _cmyk_to_srgb(samples, icc, notes), None
    if not icc:
        return samples, None
    try:
        use = _profile_use(icc, "rgb" if widened else space)
        if use == "srgb":
            return samples, None if widened else icc
        if widened:
            rgb = _transform(_three_channels(samples), icc, _srgb_profile(), "rgb", "rgb")
            return np.ascontiguousarray(rgb[..., 1]), None
        converted = _transform(samples, icc, _srgb_profile(), space, "rgb")
    except imagecodecs.CmsError:
        notes.append("damaged colour profile ignored")
        return samples, None
    if space == "gray":
        converted = np.ascontiguousarray(converted[..., 1])
    if use == "one way":
        notes.append(f"{_profile_name(icc)} converted to sRGB")
        return converted, None
    if space == "rgb" and converted.dtype.kind != "f":
        notes.append(f"{_profile_name(icc)} converted to sRGB and back; colours beyond it clipped")
    return converted, icc


def _cmyk_to_srgb(samples: np.ndarray, icc: bytes | None, notes: list[str]) -> np.ndarray:
    if icc:
        try:
            rgb = _transform(samples, icc, _srgb_profile(), "cmyk", "rgb")
        except imagecodecs.CmsError:
            notes.append("damaged colour profile ignored")
        else:
            notes.append(f"CMYK converted to RGB by its {_profile_name(icc)}")
            return rgb
    notes.append("CMYK converted to RGB without a profile, so colours are approximate")
    paper = 1 - to_float(samples)
    return from_float(paper[..., :3] * paper[..., 3:], samples.dtype)


def _from_srgb(pixels: np.ndarray, icc: bytes) -> np.ndarray:
    """Convert sRGB pixels (height, width, 3) to the profile; grey ones to (height, width)."""
    space = _ICC_SPACES[icc[16:20]]
    if _profile_use(icc, space) == "srgb":
        return pixels[..., 0] if space == "gray" else pixels
    return _transform(pixels, _srgb_profile(), icc, "rgb", space)


# ------------------------------------------------------------------------------ encoders


@dataclass(frozen=True)
class _Content:
    """What goes into a file, ready for its encoder."""

    samples: np.ndarray  # (height, width) or (height, width, 3)
    alpha: np.ndarray | None
    icc: bytes | None
    exif: bytes | None

    def joined(self) -> np.ndarray:
        """Return colours and alpha in one contiguous array."""
        if self.alpha is None:
            return _packed(self.samples)
        return np.dstack((self.samples, self.alpha))


@dataclass(frozen=True)
class _Format:
    """What a file format holds, and its encoder."""

    name: str
    encode: Callable[[_Content, Path, int], None]
    depths: tuple[type, ...] = (np.uint8,)
    grey: bool = True
    alpha: bool = True
    linear: bool = False
    metadata: bool = True
    max_side: int | None = None


def _format(path: Path) -> _Format:
    try:
        return _FORMATS[path.suffix.lower()]
    except KeyError:
        raise ImageError(
            f"{path} cannot be written: choose one of the suffixes {', '.join(_FORMATS)}"
        ) from None


def _depth_name(dtype: np.dtype) -> str:
    return "float" if dtype.kind == "f" else f"{dtype.itemsize * 8} bit"


def _content(picture: Picture, target: _Format) -> _Content:
    pixels, icc = picture.pixels, None
    if picture.linear and not target.linear:
        pixels = _linear_to_srgb(pixels)
    elif target.linear and not picture.linear:
        pixels = _srgb_to_linear(to_float(pixels))
    grey = (
        target.grey
        and picture.grey
        and np.array_equal(pixels[..., 0], pixels[..., 1])
        and np.array_equal(pixels[..., 0], pixels[..., 2])
    )
    if picture.icc and target.metadata and grey == (_ICC_SPACES[picture.icc[16:20]] == "gray"):
        icc = picture.icc
        pixels = _from_srgb(pixels, icc)
    elif grey:
        pixels = pixels[..., 0]
    dtype = _best_depth(pixels.dtype, target)
    alpha = None
    if picture.alpha is not None and target.alpha:
        alpha = _as_depth(picture.alpha, dtype)
    exif = None
    if picture.exif and target.metadata:
        block = Image.Exif()
        block.load(picture.exif)
        exif = _exif_bytes(block, picture.pixels, [])
    return _Content(_as_depth(pixels, dtype), alpha, icc, exif)


def _best_depth(dtype: np.dtype, target: _Format) -> np.dtype:
    """Return the depth of the file: the same, or else the largest that the format has."""
    return np.dtype(dtype if dtype in target.depths else target.depths[-1])


def _encode_jpeg(content: _Content, part: Path, quality: int) -> None:
    exif = content.exif if content.exif and len(content.exif) <= _MAX_JPEG_EXIF else b""
    Image.fromarray(content.joined()).save(
        part,
        "JPEG",
        quality=quality,
        subsampling=0,
        exif=exif,
        icc_profile=content.icc,
    )


def _encode_webp(content: _Content, part: Path, quality: int) -> None:
    Image.fromarray(content.joined()).save(
        part,
        "WEBP",
        quality=quality,
        exact=True,  # colours below full transparency stay
        exif=content.exif or b"",
        icc_profile=content.icc,
    )


def _encode_bmp(content: _Content, part: Path, quality: int) -> None:
    Image.fromarray(content.joined()).save(part, "BMP")


def _encode_png(content: _Content, part: Path, quality: int) -> None:
    data = memoryview(imagecodecs.png_encode(content.joined()))
    after_header = 8 + 4 + 4 + 13 + 4
    with part.open("wb") as file:
        file.write(data[:after_header])
        if content.icc:
            file.write(_png_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(content.icc)))
        if content.exif:
            file.write(_png_chunk(b"eXIf", content.exif.removeprefix(b"Exif\0\0")))
        file.write(data[after_header:])


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _encode_hdr(content: _Content, part: Path, quality: int) -> None:
    positive = np.maximum(content.joined(), 0)
    try:
        data = imagecodecs.rgbe_encode(positive, header=True, rle=True)
    except imagecodecs.RgbeError:  # noise grows under run-length coding, beyond the room given
        data = imagecodecs.rgbe_encode(positive, header=True, rle=False)
    part.write_bytes(data)


def _encode_exr(content: _Content, part: Path, quality: int) -> None:
    names = ("Y",) if content.samples.ndim == 2 else ("R", "G", "B")
    planes = dict(zip(names, np.moveaxis(np.atleast_3d(content.samples), 2, 0), strict=True))
    if content.alpha is not None:
        planes["A"] = content.alpha
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    channels = {name: np.ascontiguousarray(plane) for name, plane in planes.items()}
    try:
        OpenEXR.File(header, channels).write(str(part))
    except RuntimeError as error:
        raise OSError(str(error)) from error


def _encode_tiff(content: _Content, part: Path, quality: int) -> None:
    exif = Image.Exif()
    if content.exif:
        exif.load(content.exif)
    text = {tag: str(exif[tag]).encode("latin-1", "replace") for tag in _TEXT_TAGS if tag in exif}
    samples = content.joined()
    big = samples.nbytes > 2**32 - 2**25
    # The directories are laid out for classic TIFF.
    blocks = {} if big else _exif_blocks(exif)
    resolution = {}
    if _X_RESOLUTION in exif and _Y_RESOLUTION in exif:
        resolution = {
            "resolution": (float(exif[_X_RESOLUTION]), float(exif[_Y_RESOLUTION])),
            "resolutionunit": exif.get(_RESOLUTION_UNIT, 2),
        }
    tifffile.imwrite(
        part,
        samples,
        bigtiff=big,
        byteorder="<",
        photometric="minisblack" if content.samples.ndim == 2 else "rgb",
        planarconfig="contig",
        extrasamples=() if content.alpha is None else ("unassalpha",),
        compression="zlib",
        predictor=True,
        iccprofile=content.icc,
        metadata=None,
        software=False,
        description=str(exif.get(_DESCRIPTION, "")).encode("latin-1", "replace") or None,
        extratags=[
            *((tag, "s", 0, value, True) for tag, value in text.items()),
            *((tag + 1, "I", 1, 0, True) for tag in blocks),
        ],
        **resolution,
    )
    if blocks:
        _append_exif_blocks(part, blocks)


def _append_exif_blocks(part: Path, blocks: dict[int, dict]) -> None:
    """Append the EXIF and GPS directories and let the reserved tags point to them.

    tifffile writes no tags that point to directories, so `_encode_tiff` reserves each under the
    next number, which keeps the tags in order.
    """
    with tifffile.TiffFile(part) as tif:
        places = {tag: tif.pages.first.tags[tag + 1] for tag in blocks}
    with part.open("r+b") as file:
        for tag, block in blocks.items():
            directory = TiffImagePlugin.ImageFileDirectory_v2(b"II*\0\x08\0\0\0")
            for key, value in block.items():
                directory[key] = value
            start = file.seek(0, os.SEEK_END)
            if start % 2:
                start += file.write(b"\0")
            file.write(directory.tobytes(start))
            file.seek(places[tag].offset)
            file.write(struct.pack("<H", tag))
            file.seek(places[tag].valueoffset)
            file.write(struct.pack("<I", start))


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Give a temporary file beside `path` that replaces it at the end, or vanishes on an error."""
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, path)
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {_reason(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


_INTEGERS = (np.uint8, np.uint16)
_JPEG = _Format("JPEG", _encode_jpeg, alpha=False, max_side=65500)
_TIFF = _Format("TIFF", _encode_tiff, (*_INTEGERS, np.float32))
_FORMATS = {
    ".png": _Format("PNG", _encode_png, _INTEGERS),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".webp": _Format("WebP", _encode_webp, grey=False, max_side=16383),
    ".bmp": _Format("BMP", _encode_bmp, alpha=False, metadata=False),
    ".hdr": _Format(
        "Radiance HDR",
        _encode_hdr,
        (np.float32,),
        grey=False,
        alpha=False,
        linear=True,
        metadata=False,
    ),
    ".exr": _Format("OpenEXR", _encode_exr, (np.float32,), linear=True, metadata=False),
}

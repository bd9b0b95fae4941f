"""The file formats that are written: what each holds, and its encoder."""

import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import OpenEXR
import tifffile
from PIL import Image, TiffImagePlugin
from PIL.ExifTags import Base

from shared.errors import ImageError

from .exif import TEXT_TAGS, exif_directories, parse_exif
from .picture import packed

_MAX_JPEG_EXIF = 65533


@dataclass(frozen=True)
class Content:
    """What goes into a file, ready for its encoder."""

    samples: np.ndarray  # (height, width) or (height, width, 3)
    alpha: np.ndarray | None
    icc: bytes | None
    exif: bytes | None

    def joined(self) -> np.ndarray:
        """Return colours and alpha in one contiguous array."""
        if self.alpha is None:
            return packed(self.samples)
        return np.dstack((self.samples, self.alpha))


@dataclass(frozen=True)
class Format:
    """What a file format holds, and its encoder."""

    name: str
    encode: Callable[[Content, Path, int], None]
    depths: tuple[type, ...] = (np.uint8,)
    grey: bool = True
    alpha: bool = True
    linear: bool = False
    metadata: bool = True
    max_side: int | None = None


def format_of(path: Path) -> Format:
    """Return the format of a suffix.

    Raises:
        ImageError: none has it.
    """
    try:
        return _FORMATS[path.suffix.lower()]
    except KeyError:
        raise ImageError(
            f"{path} cannot be written: choose one of the suffixes {', '.join(_FORMATS)}"
        ) from None


def _encode_jpeg(content: Content, part: Path, quality: int) -> None:
    exif = content.exif if content.exif and len(content.exif) <= _MAX_JPEG_EXIF else b""
    Image.fromarray(content.joined()).save(
        part,
        "JPEG",
        quality=quality,
        subsampling=0,
        exif=exif,
        icc_profile=content.icc,
    )


def _encode_webp(content: Content, part: Path, quality: int) -> None:
    Image.fromarray(content.joined()).save(
        part,
        "WEBP",
        quality=quality,
        exact=True,  # colours below full transparency stay
        exif=content.exif or b"",
        icc_profile=content.icc,
    )


def _encode_bmp(content: Content, part: Path, quality: int) -> None:
    Image.fromarray(content.joined()).save(part, "BMP")


def _encode_png(content: Content, part: Path, quality: int) -> None:
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


def _encode_hdr(content: Content, part: Path, quality: int) -> None:
    positive = np.maximum(content.joined(), 0)
    # Noise grows under run-length coding, beyond the room that the codec allots by itself.
    room = 2 * positive.size + 1024
    part.write_bytes(imagecodecs.rgbe_encode(positive, header=True, rle=True, out=room))


def _encode_exr(content: Content, part: Path, quality: int) -> None:
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


def _encode_tiff(content: Content, part: Path, quality: int) -> None:
    exif = parse_exif(content.exif)
    samples = content.joined()
    big = samples.nbytes > 2**32 - 2**25
    # The directories are laid out for classic TIFF.
    directories = {} if big else exif_directories(exif)
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
        description=_latin1(exif.get(Base.ImageDescription, "")) or None,
        extratags=[
            *((tag, "s", 0, _latin1(exif[tag]), True) for tag in TEXT_TAGS if tag in exif),
            *((tag + 1, "I", 1, 0, True) for tag in directories),
        ],
        **_resolution(exif),
    )
    if directories:
        _append_directories(part, directories)


def _latin1(text: object) -> bytes:
    return str(text).encode("latin-1", "replace")


def _resolution(exif: Image.Exif) -> dict[str, object]:
    if Base.XResolution not in exif or Base.YResolution not in exif:
        return {}
    return {
        "resolution": (float(exif[Base.XResolution]), float(exif[Base.YResolution])),
        "resolutionunit": exif.get(Base.ResolutionUnit, 2),
    }


def _append_directories(part: Path, directories: dict[int, dict]) -> None:
    """Append the EXIF and GPS directories and let the reserved tags point to them.

    tifffile writes no tags that point to directories, so `_encode_tiff` reserves each under the
    next number, which keeps the tags in order.
    """
    with tifffile.TiffFile(part) as tif:
        places = {tag: tif.pages.first.tags[tag + 1] for tag in directories}
    with part.open("r+b") as file:
        for tag, entries in directories.items():
            directory = TiffImagePlugin.ImageFileDirectory_v2(b"II*\0\x08\0\0\0")
            for key, value in entries.items():
                directory[key] = value
            start = file.seek(0, os.SEEK_END)
            if start % 2:
                start += file.write(b"\0")
            file.write(directory.tobytes(start))
            file.seek(places[tag].offset)
            file.write(struct.pack("<H", tag))
            file.seek(places[tag].valueoffset)
            file.write(struct.pack("<I", start))


_INTEGERS = (np.uint8, np.uint16)
_FLOAT = (np.float32,)
_JPEG = Format("JPEG", _encode_jpeg, alpha=False, max_side=65500)
_TIFF = Format("TIFF", _encode_tiff, _INTEGERS + _FLOAT)
_FORMATS = {
    ".png": Format("PNG", _encode_png, _INTEGERS),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".webp": Format("WebP", _encode_webp, grey=False, max_side=16383),
    ".bmp": Format("BMP", _encode_bmp, alpha=False, metadata=False),
    ".hdr": Format(
        "Radiance HDR", _encode_hdr, _FLOAT, grey=False, alpha=False, linear=True, metadata=False
    ),
    ".exr": Format("OpenEXR", _encode_exr, _FLOAT, linear=True, metadata=False),
}

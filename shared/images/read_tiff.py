"""Decoder of TIFF, and the memory map of one that exceeds the pixel limit."""

import sys
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from PIL.ExifTags import Base

from shared.errors import ImageError

from .decoded import Decoded, all_finite, check_size, note_frames
from .exif import tiff_exif, valid_orientation
from .picture import Picture, from_float, to_float
from .profiles import profile_name, profile_use

_MAX_CHANNELS = 8
_KINDS = tifffile.PHOTOMETRIC


def read_tiff(path: Path, limit: float) -> Decoded | Picture:
    """Decode the first picture of a TIFF; map it where it exceeds the limit and can be mapped."""
    with tifffile.TiffFile(path) as tif:
        page = tif.pages.first
        height, width = page.imagelength, page.imagewidth
        if _mappable(tif, page) and width * height > limit * 1e6:
            return _map_tiff(path, page)
        hint = " or store it as uncompressed RGB TIFF, which is worked on in bands"
        check_size(path, width, height, limit, hint)
        _check_kind(path, page)
        ends = map(sum, zip(page.dataoffsets, page.databytecounts, strict=True))
        if max(ends, default=0) > path.stat().st_size:
            raise EOFError("truncated")
        notes: list[str] = []
        note_frames(len(tif.pages), notes)
        samples, alpha = _tiff_samples(path, page, notes)
        orientation = valid_orientation(page.tags.valueof(Base.Orientation))
        icc = page.tags.valueof(Base.InterColorProfile)
    exif = tiff_exif(path, notes)
    return Decoded(samples, alpha, exif=exif, orientation=orientation, icc=icc, notes=notes)


def _mappable(tif: tifffile.TiffFile, page: tifffile.TiffPage) -> bool:
    native = {"little": "<", "big": ">"}[sys.byteorder]
    return (
        page.imagewidth > 0
        and page.photometric == _KINDS.RGB
        and page.shape == (page.imagelength, page.imagewidth, 3)
        and page.dtype in (np.uint8, np.uint16, np.float32)
        and (tif.byteorder == native or page.dtype == np.uint8)
        and page.tags.valueof(Base.Orientation, default=1) == 1
        and page.is_memmappable
    )


def _map_tiff(path: Path, page: tifffile.TiffPage) -> Picture:
    pixels = tifffile.memmap(path, page=0, mode="r")
    icc = page.tags.valueof(Base.InterColorProfile)
    notes = ["worked on from disk, without EXIF"]
    if icc is not None:
        try:
            if profile_use(icc, "rgb") != "srgb":
                notes.append(f"{profile_name(icc)} kept, but taken as sRGB while at work")
        except imagecodecs.CmsError:
            notes.append("damaged colour profile ignored")
            icc = None
    return Picture(pixels, icc=icc, source=path, notes=tuple(notes))


def _check_kind(path: Path, page: tifffile.TiffPage) -> None:
    kind = page.photometric
    if Base.DNGVersion in page.tags or kind in (_KINDS.CFA, _KINDS.LINEAR_RAW):
        raise ImageError(f"{path} is a camera raw file; develop it to TIFF, PNG or JPEG first")
    if kind not in (
        _KINDS.MINISWHITE,
        _KINDS.MINISBLACK,
        _KINDS.RGB,
        _KINDS.PALETTE,
        _KINDS.SEPARATED,
        _KINDS.YCBCR,
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
    stored = page.asarray()
    if page.samplesperpixel > 1 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
        stored = np.moveaxis(stored, 0, -1)
    stored = stored.reshape(page.imagelength, page.imagewidth, page.samplesperpixel)
    if page.photometric == _KINDS.PALETTE:
        colours = (page.colormap >> 8).astype(np.uint8)
        return colours.T[stored[..., 0]], None
    stored = _standard_depth(stored, page.bitspersample, notes)
    if page.photometric == _KINDS.MINISWHITE:
        white = 1 if stored.dtype.kind == "f" else np.iinfo(stored.dtype).max
        stored = np.asarray(white - stored, stored.dtype)
    channels = {_KINDS.MINISWHITE: 1, _KINDS.MINISBLACK: 1, _KINDS.SEPARATED: 4}
    colours = channels.get(page.photometric, 3)
    if stored.shape[2] < colours:
        raise ImageError(
            f"{path} has {stored.shape[2]} channels where {colours} belong; store it as RGB"
        )
    samples, alpha = _split_alpha(stored, colours, page.extrasamples, notes)
    return (samples[..., 0] if colours == 1 else samples), alpha


def _standard_depth(stored: np.ndarray, bits: int | tuple, notes: list[str]) -> np.ndarray:
    if stored.dtype.kind == "f":
        return all_finite(stored.astype(np.float32), notes)
    bits = bits if isinstance(bits, int) else max(bits)
    dtype = np.uint8 if bits <= 8 else np.uint16
    stored = stored.astype(dtype, copy=False)
    if bits in (8, 16):
        return stored
    levels = np.rint(np.linspace(0, np.iinfo(dtype).max, 2**bits)).astype(dtype)
    return levels[stored]


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

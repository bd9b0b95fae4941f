"""Decoders of linear light: Radiance HDR and OpenEXR."""

import contextlib
import io
import re
import threading
from collections.abc import Iterable
from pathlib import Path

import imagecodecs
import numpy as np
import OpenEXR

from shared.errors import ImageError

from .decoded import Decoded, all_finite, check_size

# OpenEXR prints its complaints about a damaged file to standard output, where results belong.
_STDOUT_LOCK = threading.Lock()


def read_hdr(path: Path, limit: float) -> Decoded:
    """Decode Radiance HDR."""
    data = path.read_bytes()
    size = re.search(rb"\n[-+]Y (\d+) [-+]X (\d+)\n", data[:65536])
    if size is None:
        raise ImageError(
            f"{path} is a Radiance file without a size line '-Y height +X width'; "
            "it is damaged or turned, store it anew"
        )
    check_size(path, int(size[2]), int(size[1]), limit)
    if b"FORMAT=32-bit_rle_xyze" in data[: size.start()]:
        raise ImageError(f"{path} stores XYZ colours, which cannot be read; store it as RGBE")
    notes: list[str] = []
    return Decoded(all_finite(imagecodecs.rgbe_decode(data), notes), linear=True, notes=notes)


def read_exr(path: Path, limit: float) -> Decoded:
    """Decode OpenEXR, the whole data window."""
    header = OpenEXR.File(str(path), header_only=True).header()
    (left, top), (right, bottom) = header["dataWindow"]
    check_size(path, int(right) - int(left) + 1, int(bottom) - int(top) + 1, limit)
    if header.get("type") in (OpenEXR.deepscanline, OpenEXR.deeptile):
        raise ImageError(f"{path} is a deep OpenEXR file; flatten it first")
    colours = _exr_colours(path, header["channels"])
    with _STDOUT_LOCK, contextlib.redirect_stdout(io.StringIO()):
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
    samples = all_finite(samples[..., 0] if len(planes) == 1 else samples, notes)
    alpha = channels["A"].pixels.astype(np.float32) if "A" in channels else None
    return Decoded(samples, alpha, linear=True, notes=notes)


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

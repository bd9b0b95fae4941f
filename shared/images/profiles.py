"""Colour profiles: from the colours of a file to sRGB, and back."""

import functools
import io

import imagecodecs
import numpy as np
from PIL import ImageCms

from .decoded import Decoded
from .picture import from_float, packed, three_channels, to_float

_SPACES = {b"RGB ": "rgb", b"GRAY": "gray", b"CMYK": "cmyk"}
_SPACE_NAMES = {"rgb": "RGB", "gray": "grey", "cmyk": "CMYK"}


def profile_space(icc: bytes) -> str | None:
    """Return the colours that a profile is for: "rgb", "gray" or "cmyk"."""
    return _SPACES.get(icc[16:20])


def profile_name(icc: bytes) -> str:
    """Return what a person calls the profile."""
    try:
        name = ImageCms.ImageCmsProfile(io.BytesIO(icc)).profile.profile_description
    except OSError:
        name = None
    return f"colour profile '{name.strip()}'" if name else "colour profile"


@functools.lru_cache(maxsize=32)
def profile_use(icc: bytes, space: str) -> str:
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
        expected = three_channels(lattice)
    converted = _transform(lattice, icc, _srgb_profile(), space, "rgb")
    if np.abs(converted - expected).max() < 1 / 255:
        return "srgb"
    try:
        _transform(converted, _srgb_profile(), icc, "rgb", space)
    except imagecodecs.CmsError:
        return "one way"
    return "both"


def to_srgb(decoded: Decoded) -> tuple[np.ndarray, bytes | None]:
    """Return samples in sRGB and the profile to embed again, if any; adds notes."""
    samples, icc, notes = decoded.samples, decoded.icc, decoded.notes
    space = {(): "gray", (3,): "rgb", (4,): "cmyk"}[samples.shape[2:]]
    # An RGB profile in a grey file is common; it describes the three equal channels.
    widened = bool(icc) and space == "gray" and profile_space(icc) == "rgb"
    if icc and profile_space(icc) != space and not widened:
        notes.append(f"colour profile ignored: it is damaged or not for {_SPACE_NAMES[space]}")
        icc = None
    if space == "cmyk":
        return _cmyk_to_srgb(samples, icc, notes), None
    if not icc:
        return samples, None
    colours = three_channels(samples) if widened else samples
    try:
        use = profile_use(icc, profile_space(icc))
        if use == "srgb":
            return samples, None if widened else icc
        converted = _transform(colours, icc, _srgb_profile(), profile_space(icc), "rgb")
    except imagecodecs.CmsError:
        notes.append("damaged colour profile ignored")
        return samples, None
    if space == "gray":
        converted = np.ascontiguousarray(converted[..., 1])
    if widened:
        return converted, None
    if use == "one way":
        notes.append(f"{profile_name(icc)} converted to sRGB")
        return converted, None
    if space == "rgb" and converted.dtype.kind != "f":
        notes.append(f"{profile_name(icc)} converted to sRGB and back; colours beyond it clipped")
    return converted, icc


def from_srgb(pixels: np.ndarray, icc: bytes) -> np.ndarray:
    """Convert sRGB pixels (height, width, 3) to the profile; grey ones to (height, width)."""
    space = profile_space(icc)
    if profile_use(icc, space) == "srgb":
        return pixels[..., 0] if space == "gray" else pixels
    return _transform(pixels, _srgb_profile(), icc, "rgb", space)


def _cmyk_to_srgb(samples: np.ndarray, icc: bytes | None, notes: list[str]) -> np.ndarray:
    if icc:
        try:
            rgb = _transform(samples, icc, _srgb_profile(), "cmyk", "rgb")
        except imagecodecs.CmsError:
            notes.append("damaged colour profile ignored")
        else:
            notes.append(f"CMYK converted to RGB by its {profile_name(icc)}")
            return rgb
    notes.append("CMYK converted to RGB without a profile, so colours are approximate")
    paper = 1 - to_float(samples)
    return from_float(paper[..., :3] * paper[..., 3:], samples.dtype)


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
        packed(samples),
        profile,
        target,
        colorspace=space,
        outcolorspace=target_space,
        intent=imagecodecs.CMS.INTENT.RELATIVE_COLORIMETRIC,
        flags=flags,
    )

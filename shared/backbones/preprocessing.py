"""From a picture to the input of a network, and back; no caller knows about BGR or means."""

from collections.abc import Sequence

import cv2
import numpy as np

from shared import images
from shared.errors import ConvsuiteError

from .specs import Spec

# Mean and divisor of each kind, on values of 0..255, in the order of the network's channels.
_STATISTICS = {
    "caffe": ((103.939, 116.779, 123.68), 1),
    "caffe_rounded": ((104, 117, 123), 1),
    "hed": ((104.00699, 116.66877, 122.67892), 1),
    "tf": (127.5, 127.5),
    "lite": (127, 128),
    "torch": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    # Background -0.1 and foreground 1.175, so that digits have mean 0 and variance 1.
    "lecun": (20, 200),
}
_BGR = frozenset({"caffe", "caffe_rounded", "hed"})
_LUMA = np.float32([0.299, 0.587, 0.114])
# Sharpening filters overshoot a little; beyond, the values are 0..255 or linear light.
_LARGEST_VALUE = 1.5

Statistics = float | Sequence[float] | None


def described(spec: Spec) -> str:
    """Say how `preprocess` resizes and cuts a picture for a network."""
    shorter = round(spec.size / spec.crop)
    middle = f"the middle {spec.size} x {spec.size} of it"
    if shorter <= spec.size:
        middle = "the middle square of it"
    if shorter < spec.size:
        middle += f", in a black frame of {spec.size} x {spec.size}"
    return f"shorter side resized to {shorter} pixels, by area where it shrinks; {middle}"


def preprocess(
    image: np.ndarray,
    spec: Spec,
    *,
    size: int | None = None,
    mean: Statistics = None,
    std: Statistics = None,
) -> np.ndarray:
    """Turn a picture into the input of a network.

    The shorter side is resized (by area where it shrinks) to `size / spec.crop`, the middle is cut
    out or framed in black, and its values are shifted and scaled as the network was trained.

    Args:
        image: `(height, width, 3)`, or grey `(height, width)` or `(height, width, 1)`; float of
            0..1 in sRGB, or uint8 or uint16.
        spec: The network.
        size: Side of the result in pixels; that of the paper by default.
        mean: Mean of the training pictures on values of 0..1, one number or one per channel of the
            network; for networks of the kind `unit`, and only there.
        std: Their standard deviation, likewise.

    Returns:
        float32 `(size, size, spec.channels)`.

    Raises:
        ConvsuiteError: The array is no picture, its values exceed 1, or `unit` lacks statistics.
    """
    statistics = _statistics(spec, mean, std)
    size = spec.size if size is None else size
    picture = _with_channels(_checked(image), spec.channels)
    picture = _middle(_resized(picture, round(size / spec.crop)), size)
    return _as_trained(picture, spec, *statistics)


def preprocess_whole(
    image: np.ndarray, spec: Spec, *, mean: Statistics = None, std: Statistics = None
) -> np.ndarray:
    """Turn a picture into the input of a network, pixel by pixel: nothing is resized or cut.

    Args:
        image: As for `preprocess`.
        spec: The network; one of open sides (see `trunk`).
        mean: As for `preprocess`.
        std: As for `preprocess`.

    Returns:
        float32 `(height, width, spec.channels)`.

    Raises:
        ConvsuiteError: As for `preprocess`.
    """
    statistics = _statistics(spec, mean, std)
    return _as_trained(_with_channels(_checked(image), spec.channels), spec, *statistics)


def to_picture(
    batch: np.ndarray, spec: Spec, *, mean: Statistics = None, std: Statistics = None
) -> np.ndarray:
    """Turn inputs of a network back into pictures.

    Args:
        batch: `(…, height, width, spec.channels)`, as `preprocess` makes them.
        spec: The network.
        mean: As for `preprocess`.
        std: As for `preprocess`.

    Returns:
        float32 `(…, height, width, 3)`, RGB, 0..1; values beyond are clipped.

    Raises:
        ConvsuiteError: `unit` lacks statistics.
    """
    shift, scale = _statistics(spec, mean, std)
    pictures = np.clip((np.asarray(batch, np.float32) * scale + shift) / np.float32(255), 0, 1)
    if spec.preprocessing in _BGR:
        pictures = pictures[..., ::-1]
    if pictures.shape[-1] == 1:
        pictures = np.repeat(pictures, 3, axis=-1)
    return np.ascontiguousarray(pictures)


def _statistics(spec: Spec, mean: Statistics, std: Statistics) -> tuple[np.ndarray, np.ndarray]:
    """Return shift and scale on values of 0..255."""
    if spec.preprocessing == "unit":
        if mean is None or std is None:
            raise ConvsuiteError(
                f"{spec.name} needs the mean and the standard deviation of its training pictures; "
                "they stand in the card of its weights."
            )
        return 255 * np.asarray(mean, np.float32), 255 * np.asarray(std, np.float32)
    if mean is not None or std is not None:
        raise ConvsuiteError(
            f"{spec.name} has the fixed preprocessing `{spec.preprocessing}`; "
            "leave out mean and std."
        )
    shift, scale = _STATISTICS[spec.preprocessing]
    return np.asarray(shift, np.float32), np.asarray(scale, np.float32)


def _as_trained(
    picture: np.ndarray, spec: Spec, shift: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    """Order, shift and scale the channels as the network was trained."""
    if spec.preprocessing in _BGR:
        picture = picture[..., ::-1]
    return np.ascontiguousarray((picture * np.float32(255) - shift) / scale)


def _checked(image: np.ndarray) -> np.ndarray:
    """Return a picture as float32 `(height, width, 1 or 3)` of 0..1."""
    picture = image[..., None] if image.ndim == 2 else image
    if picture.ndim != 3 or picture.shape[2] not in (1, 3) or 0 in picture.shape:
        raise ConvsuiteError(
            f"A picture has the shape (height, width, 3) or (height, width), not {image.shape}."
        )
    try:
        picture = images.to_float(picture)
    except TypeError as error:
        raise ConvsuiteError(f"A picture cannot be used: its {error}.") from None
    largest = picture.max()
    if not largest <= _LARGEST_VALUE:  # NaN, too
        raise ConvsuiteError(
            f"The values of a picture lie in 0..1, but this one reaches {largest:g}: "
            "divide 0..255 by 255, and tone-map linear light."
        )
    return np.clip(picture, 0, 1)


def _with_channels(picture: np.ndarray, channels: int) -> np.ndarray:
    if picture.shape[2] == channels:
        return picture
    if channels == 1:
        return (picture @ _LUMA)[..., None]
    return np.repeat(picture, channels, axis=2)


def _resized(picture: np.ndarray, shorter: int) -> np.ndarray:
    """Return the picture with a shorter side of `shorter`, a strip cut to its middle."""
    # A strip of 1 x 10,000 pixels must not become one of 256 x 2,560,000.
    height, width, channels = picture.shape
    side = min(height, width)
    y, x = (max(0, (length - 2 * side) // 2) for length in (height, width))
    picture = np.ascontiguousarray(picture[y : height - y, x : width - x])
    height, width = (
        round(length * shorter / side) if length > side else shorter for length in picture.shape[:2]
    )
    how = cv2.INTER_AREA if shorter < side else cv2.INTER_LINEAR
    return cv2.resize(picture, (width, height), interpolation=how).reshape(height, width, channels)


def _middle(picture: np.ndarray, size: int) -> np.ndarray:
    y, x = (max(0, length - size) // 2 for length in picture.shape[:2])
    picture = picture[y : y + size, x : x + size]
    missing = [(size - length, (size - length) // 2) for length in picture.shape[:2]]
    return np.pad(picture, (*((before, total - before) for total, before in missing), (0, 0)))

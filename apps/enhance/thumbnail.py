"""What the network sees of a picture: a square of 256 x 256, made the same way in training."""

import cv2
import numpy as np

from shared import images

SIZE = 256
_BAND_ROWS = 512


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """Squash a picture to a square by area averaging.

    Args:
        pixels: `(height, width, 3)` uint8, uint16 or float32.

    Returns:
        float32 `(256, 256, 3)`, 0..1.
    """
    height, width = pixels.shape[:2]
    if min(height, width) < SIZE:
        # Area averaging only reduces; along a short side OpenCV would repeat pixels in blocks.
        pixels = cv2.resize(images.to_float(pixels), (max(width, SIZE), max(height, SIZE)))
    return images.to_float(cv2.resize(pixels, (SIZE, SIZE), interpolation=cv2.INTER_AREA))


def banded_thumbnail(pixels: np.ndarray) -> np.ndarray:
    """Return the thumbnail of a memory-mapped picture without reading it whole at once."""
    height, width = pixels.shape[:2]
    if min(height, width) < SIZE:
        return thumbnail(np.asarray(pixels))
    narrow = np.empty((height, SIZE, 3), "float32")
    for first in range(0, height, _BAND_ROWS):
        rows = images.to_float(pixels[first : first + _BAND_ROWS])
        narrow[first : first + len(rows)] = cv2.resize(
            rows, (SIZE, len(rows)), interpolation=cv2.INTER_AREA
        )
        images.forget_pages(pixels)
    return cv2.resize(narrow, (SIZE, SIZE), interpolation=cv2.INTER_AREA)

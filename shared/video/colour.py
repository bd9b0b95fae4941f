"""Colour matrices of video (codes of ITU-T H.273), and the conversion from and to RGB."""

from av.video.reformatter import ColorRange, Interpolation

BT709, BT601, UNSTATED = 1, 6, 2
LIMITED_RANGE = ColorRange.MPEG
# Without the last two flags the converter truncates, and every pass darkens a video by one level.
CONVERSION = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT

_CONVERTIBLE = frozenset({BT709, 4, 5, BT601, 7, 9})


def known_matrix(stated: int, width: int, height: int) -> int:
    """Return the YCbCr matrix of a picture; where none is stated, the one that players assume."""
    if stated in _CONVERTIBLE:
        return stated
    return BT709 if width >= 1280 or height > 576 else BT601

"""Measures of picture quality, and the uncertainty of a measured share.

Pictures are display-referred sRGB, `(height, width, 3)`, 0..1.

Source of the interval: Wilson 1927, "Probable inference, the law of succession, and statistical
inference".
"""

import numpy as np
from skimage.color import deltaE_cie76, rgb2lab
from skimage.metrics import structural_similarity


def _bytes(image: np.ndarray) -> np.ndarray:
    return np.round(np.clip(image, 0, 1) * 255)


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio after rounding both to 8 bits, in dB."""
    error = np.mean(np.square(_bytes(image) - _bytes(reference)))
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def ssim(image: np.ndarray, reference: np.ndarray) -> float:
    """Return the structural similarity (Wang et al. 2004) of the colour pictures, at most 1."""
    side = min(7, *image.shape[:2])
    return float(
        structural_similarity(
            np.clip(image, 0, 1),
            np.clip(reference, 0, 1),
            win_size=side - (side + 1) % 2,
            channel_axis=-1,
            data_range=1.0,
        )
    )


def colour_difference(image: np.ndarray, reference: np.ndarray) -> float:
    """Return the mean CIE76 difference in L*a*b*, the unit of the retouching literature."""
    lab = [rgb2lab(np.clip(picture, 0, 1)) for picture in (image, reference)]
    return float(deltaE_cie76(*lab).mean())


def wilson(right: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a share, `right` out of `total`.

    Of nothing measured the interval is 0 to 1.

    Raises:
        ValueError: `right` is negative or more than `total`.
    """
    from scipy.stats import binomtest

    if right == total == 0:
        return 0.0, 1.0
    interval = binomtest(int(right), int(total)).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)

"""Measures of pictures and textures, and the uncertainty of a measured share.

Pictures are display-referred sRGB, `(height, width, 3)`, 0..1. A texture made from an exemplar has
no pixel in common with it: its measures compare borders, patches and distributions.

Source of the interval: Wilson 1927, "Probable inference, the law of succession, and statistical
inference".
"""

import itertools
from typing import NamedTuple

import numpy as np
from skimage.color import deltaE_cie76, rgb2lab
from skimage.metrics import structural_similarity

# Half of an 8-bit step: a picture of this deviation is even, its correlations are rounding errors.
_EVEN = 0.5 / 255
# Correlation above which a patch counts as a copy.
_COPY = 0.9
# Patches are drawn beyond this many times pixels: all patches of 512 x 512 in itself.
_SEARCHES = 1024 * 512 * 512
_FEWEST_PATCHES = 256
# Shifts within which a peak of the autocorrelation is the highest value.
_PEAK = 7


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


class Novelty(NamedTuple):
    """How well the patches of a picture are found again.

    Attributes:
        mean: Mean over the patches of the best correlation, 1 for a copy.
        share: Share of the patches above 0.9: copies for the eye.
    """

    mean: float
    share: float


VISIBLE_SEAM = 1.05
"""`tileability` above which the border of a picture may be seen."""


def tileability(image: np.ndarray, axes: str = "xy") -> float:
    """Return how visible the border is when copies of a picture are laid side by side.

    The mean step across the border is divided by the largest mean step between neighbouring
    columns (rows) inside. Up to 1 the border is no stronger than the picture's own edges; the mean
    step as divisor would punish pictures of few strong edges that tile perfectly.

    Args:
        image: `(height, width)` or `(height, width, channels)`, at least 2 x 2.
        axes: `x` for copies side by side, `y` for copies on top of each other, `xy` for the larger
            of both.

    Returns:
        0 or more; infinity for an even picture with a step at its border only.

    Raises:
        ValueError: `axes` names none, or the picture has one row or column.
    """
    if not axes or not set(axes) <= {"x", "y"}:
        raise ValueError(f"axes must be x, y or xy, not {axes!r}")
    return max(_seam(np.moveaxis(np.asarray(image, np.float64), "yx".index(a), 0)) for a in axes)


def novelty(image: np.ndarray, exemplar: np.ndarray, patch: int = 32, stride: int = 16) -> Novelty:
    """Return how well the patches of a picture are found in the exemplar it was made from.

    Of every patch the best zero-mean normalised cross-correlation at any place of the exemplar
    counts. Even patches (deviation below half of an 8-bit step) have none and are left out; a
    picture of even patches only has copied nothing: 0. Of large pictures some patches are drawn, at
    least 256: time grows with their number times the pixels that are searched.

    Args:
        image: `(height, width)` or `(height, width, 3)`, 0..1.
        exemplar: Likewise, of the same number of channels.
        patch: Side of the patches, in pixels.
        stride: Pixels from patch to patch.

    Raises:
        ValueError: A picture is smaller than a patch.
    """
    return _found_again(image, exemplar, patch, stride, nearest=0)


def repetition(image: np.ndarray, patch: int = 32, stride: int = 16, nearest: int = 16) -> Novelty:
    """Return how well the patches of a picture are found elsewhere in the same picture.

    Args:
        image: `(height, width)` or `(height, width, 3)`, 0..1.
        patch: Side of the patches, in pixels.
        stride: Pixels from patch to patch.
        nearest: Places closer than this in both axes do not count.

    Returns:
        As `novelty`; patches with no place far enough away are left out as well.

    Raises:
        ValueError: The picture is smaller than a patch.
    """
    return _found_again(image, image, patch, stride, nearest)


def autocorrelation_distance(a: np.ndarray, b: np.ndarray, shifts: int = 32) -> float:
    """Return the RMS difference of the autocorrelations of two pictures: order, period, grain.

    The autocorrelation is that of the mean-free luma, linear (not circular), each shift divided by
    the number of pixels that overlap, and 1 at shift 0; an even picture has 0 elsewhere.

    Args:
        a: `(height, width)` or `(height, width, 3)`.
        b: Likewise, of any size.
        shifts: Largest shift in both axes, in pixels; at most half of the shortest side is used,
            because few pixels overlap beyond.
    """
    shifts = min(shifts, *(side // 2 for picture in (a, b) for side in picture.shape[:2]))
    difference = _autocorrelation(_grey(a), shifts) - _autocorrelation(_grey(b), shifts)
    return float(np.sqrt(np.mean(np.square(difference))))


def regularity(picture: np.ndarray) -> float:
    """Return how strictly a texture repeats: the second highest peak of its autocorrelation.

    That of shift 0 is 1, and the highest; a lattice comes near it, a texture without order has none
    that rises out of chance. Shifts of up to half of the shorter side count.

    Args:
        picture: `(height, width)` or `(height, width, 3)`.
    """
    from scipy import ndimage

    shifts = min(picture.shape[:2]) // 2
    found = _autocorrelation(_grey(picture), shifts)
    is_peak = found == ndimage.maximum_filter(found, _PEAK)
    is_peak[shifts, shifts] = False
    # What rises towards the rim is no peak that can be seen.
    inner = (slice(1, -1),) * 2
    return float(max(0.0, found[inner][is_peak[inner]].max(initial=0.0)))


def sliced_wasserstein(
    a: np.ndarray,
    b: np.ndarray,
    directions: int = 128,
    quantiles: int = 256,
    seed: int = 0,
) -> float:
    """Return the sliced Wasserstein-1 distance of two clouds of features, in deviations.

    Both clouds are projected on random unit directions. In each the mean difference of the
    quantiles is divided by the deviation of the projected reference; the mean over the directions
    counts (Rabin et al. 2011, "Wasserstein barycenter and its application to texture mixing").

    Args:
        a: `(positions, channels)`.
        b: The reference, `(positions, channels)`; the numbers of positions may differ.
        directions: Number of directions.
        quantiles: Number of quantiles, at the middles of as many equal shares.
        seed: Chooses the directions.
    """
    axes = np.random.default_rng(seed).standard_normal((a.shape[1], directions))
    axes /= np.linalg.norm(axes, axis=0)
    ours, theirs = (cloud @ axes.astype(np.float32) for cloud in (a, b))
    shares = (np.arange(quantiles) + 0.5) / quantiles
    # Sorting once is quicker than the selection of 256 places by `np.quantile`.
    distances = np.abs(_quantiles(ours, shares) - _quantiles(theirs, shares)).mean(axis=0)
    deviations = theirs.std(axis=0, dtype=np.float64)
    return float(np.mean(distances / np.maximum(deviations, np.finfo(np.float32).tiny)))


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


def _quantiles(values: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return the quantiles of each column, interpolated between neighbours."""
    values = np.sort(values, axis=0)
    places = shares * (len(values) - 1)
    below = np.floor(places).astype(int)
    above = np.minimum(below + 1, len(values) - 1)
    return values[below] + (places - below)[:, None] * (values[above] - values[below])


def _seam(image: np.ndarray) -> float:
    """Return the step from the last row to the first over the largest step between two rows."""
    if len(image) < 2:
        raise ValueError("a picture of one row or column has no steps inside")
    inside = np.abs(np.diff(image, axis=0)).mean(axis=tuple(range(1, image.ndim))).max()
    border = np.abs(image[0] - image[-1]).mean()
    if inside == 0:
        return float("inf") if border else 0.0
    return float(border / inside)


def _found_again(
    image: np.ndarray, exemplar: np.ndarray, patch: int, stride: int, nearest: int
) -> Novelty:
    import cv2

    image, exemplar = (np.ascontiguousarray(p, dtype=np.float32) for p in (image, exemplar))
    if min(*image.shape[:2], *exemplar.shape[:2]) < patch:
        raise ValueError(f"a picture is smaller than a patch of {patch} x {patch} pixels")
    # Correlation with a mean-free patch does not see the mean of a place, whose norm is the same
    # for all patches. This, channel by channel, is 3 to 5 times as quick as TM_CCOEFF_NORMED.
    exemplar = exemplar - exemplar.mean(axis=(0, 1))
    norms = _norms(exemplar, patch)
    channels, even = cv2.split(exemplar), _EVEN * patch
    norms[norms < even] = np.inf
    best = []
    for top, left in _places(image.shape, patch, stride, exemplar.shape):
        wanted = image[top : top + patch, left : left + patch]
        wanted = wanted - wanted.mean(axis=(0, 1))
        if (norm := np.linalg.norm(wanted)) < even:
            continue
        pairs = zip(channels, cv2.split(wanted), strict=True)
        found = sum(cv2.matchTemplate(*pair, cv2.TM_CCORR) for pair in pairs) / norms
        found[_around(top, nearest), _around(left, nearest)] = -np.inf
        if np.isfinite(highest := found.max()):
            best.append(min(highest / norm, 1.0))
    if not best:
        return Novelty(0.0, 0.0)
    return Novelty(float(np.mean(best)), float(np.mean(np.array(best) > _COPY)))


def _places(
    shape: tuple[int, ...], patch: int, stride: int, searched: tuple[int, ...]
) -> list[tuple[int, int]]:
    """Return the upper left corners of the patches, or always the same ones of too many."""
    axes = (range(0, side - patch + 1, stride) for side in shape[:2])
    places = list(itertools.product(*axes))
    most = max(_FEWEST_PATCHES, _SEARCHES // (searched[0] * searched[1]))
    if len(places) <= most:
        return places
    drawn = np.random.default_rng(0).choice(len(places), most, replace=False)
    return [places[index] for index in np.sort(drawn)]


def _around(place: int, nearest: int) -> slice:
    """Return the places closer than `nearest`."""
    return slice(max(0, place - nearest + 1), place + nearest) if nearest else slice(0)


def _norms(image: np.ndarray, patch: int) -> np.ndarray:
    """Return the norm of the patch at each place, free of the mean of each channel."""
    import cv2

    window = {"ddepth": cv2.CV_64F, "ksize": (patch, patch), "anchor": (0, 0)}
    variance = cv2.sqrBoxFilter(image, **window) - cv2.boxFilter(image, **window) ** 2
    rows, columns = (side - patch + 1 for side in image.shape[:2])
    variance = variance[:rows, :columns].reshape(rows, columns, -1).sum(axis=2)
    return (patch * np.sqrt(np.maximum(variance, 0))).astype(np.float32)


def _grey(image: np.ndarray) -> np.ndarray:
    """Return the Rec. 601 luma in float64."""
    image = np.asarray(image, np.float64)
    if image.ndim == 2 or image.shape[2] == 1:
        return image.reshape(image.shape[:2])
    return image @ [0.299, 0.587, 0.114]


def _autocorrelation(grey: np.ndarray, shifts: int) -> np.ndarray:
    """Return the shifts of up to +-`shifts` rows and columns, shift 0 in the middle."""
    from scipy import fft

    grey = grey - grey.mean()
    # Room for the shifts, so that nothing comes back round the border.
    sizes = [fft.next_fast_len(side + shifts, real=True) for side in grey.shape]
    sums = fft.irfft2(np.abs(fft.rfft2(grey, sizes)) ** 2, sizes)
    steps = np.arange(-shifts, shifts + 1)
    overlap = np.outer(*(side - np.abs(steps) for side in grey.shape))
    found = sums[steps[:, None], steps] / overlap
    if grey.std() < _EVEN:
        found = np.zeros_like(found)
        found[shifts, shifts] = 1
        return found
    return found / found[shifts, shifts]

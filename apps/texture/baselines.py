"""Textures made from pieces of the exemplar: the classic that every method has to face, and worse.

Sources: Efros and Freeman 2001, "Image quilting for texture synthesis and transfer", section 2 and
figure 2.
"""

import itertools
from collections.abc import Iterator

import cv2
import numpy as np

from shared.errors import ConvsuiteError

# A candidate may differ from the overlap by this much more than the best one (section 2.1).
_TOLERANCE = 0.1


def quilting(
    exemplar: np.ndarray, size: tuple[int, int], patch: int = 32, overlap: int = 8, seed: int = 0
) -> np.ndarray:
    """Sew patches of the exemplar together along the cuts where they differ least.

    Row by row, a patch is drawn among those that fit the overlap with their neighbours almost as
    well as the best; it is cut along the path of least squared difference through the overlap.

    Args:
        exemplar: `(height, width)` or `(height, width, 3)`, float32, 0..1.
        size: Height and width of the result, in pixels.
        patch: Side of the patches, in pixels.
        overlap: Width of the overlap, in pixels.
        seed: Chooses the first patch and among the candidates.

    Returns:
        `(*size, …)`, float32; pixels of the exemplar only.

    Raises:
        ConvsuiteError: The exemplar is smaller than a patch, or the patches would not advance.
    """
    if not 0 < overlap < patch:
        raise ConvsuiteError(
            f"Quilting needs an overlap of 1 to {patch - 1} pixels for patches of {patch}, "
            f"not {overlap}."
        )
    exemplar = _checked(exemplar, patch)
    rng = np.random.default_rng(seed)
    canvas = _canvas(exemplar, [_covered(side, patch, overlap) for side in size])
    for y, x in _grid(canvas.shape, patch, patch - overlap):
        place = canvas[y : y + patch, x : x + patch]
        known = np.zeros((patch, patch), bool)
        known[:overlap] |= y > 0
        known[:, :overlap] |= x > 0
        new = _cut(exemplar, _fitting(exemplar, place, known, rng), patch)
        difference = np.square(place - new).reshape(patch, patch, -1).sum(axis=2)
        keep_old = np.zeros((patch, patch), bool)
        if x > 0:
            keep_old[:, :overlap] |= before_cut(difference[:, :overlap])
        if y > 0:
            keep_old[:overlap] |= before_cut(difference[:overlap].T).T
        place[~keep_old] = new[~keep_old]
    return canvas[: size[0], : size[1]].copy()


def shuffled(
    exemplar: np.ndarray, size: tuple[int, int], patch: int = 32, seed: int = 0
) -> np.ndarray:
    """Lay patches from random places of the exemplar side by side.

    Args:
        exemplar: `(height, width)` or `(height, width, 3)`, float32, 0..1.
        size: Height and width of the result, in pixels.
        patch: Side of the patches, in pixels.
        seed: Chooses the places.

    Returns:
        `(*size, …)`, float32.

    Raises:
        ConvsuiteError: The exemplar is smaller than a patch.
    """
    exemplar = _checked(exemplar, patch)
    rng = np.random.default_rng(seed)
    canvas = _canvas(exemplar, [_covered(side, patch, 0) for side in size])
    for y, x in _grid(canvas.shape, patch, patch):
        corner = _anywhere(exemplar, patch, rng)
        canvas[y : y + patch, x : x + patch] = _cut(exemplar, corner, patch)
    return canvas[: size[0], : size[1]].copy()


def tiled_crop(
    exemplar: np.ndarray, size: tuple[int, int], side: int = 48, seed: int = 0
) -> np.ndarray:
    """Repeat one random square of the exemplar.

    Args:
        exemplar: `(height, width)` or `(height, width, 3)`, float32, 0..1.
        size: Height and width of the result, in pixels.
        side: Side of the square, in pixels.
        seed: Chooses the square.

    Returns:
        `(*size, …)`, float32.

    Raises:
        ConvsuiteError: The exemplar is smaller than the square.
    """
    exemplar = _checked(exemplar, side)
    square = _cut(exemplar, _anywhere(exemplar, side, np.random.default_rng(seed)), side)
    rows, columns = (np.arange(length) % side for length in size)
    return square[rows[:, None], columns]


def before_cut(difference: np.ndarray) -> np.ndarray:
    """Return what lies left of the path of least difference from the top row to the bottom row.

    The path takes one pixel of each row and moves at most one column from row to row.

    Args:
        difference: Squared difference of the two sides, `(height, width)`.

    Returns:
        Boolean `(height, width)`; the path itself is False.
    """
    costs = difference.astype(np.float64)
    for above, row in itertools.pairwise(costs):
        row += np.minimum(above, np.minimum(_shifted(above, 1), _shifted(above, -1)))
    path = np.empty(len(costs), int)
    path[-1] = costs[-1].argmin()
    for y in range(len(costs) - 2, -1, -1):
        left = max(0, path[y + 1] - 1)
        path[y] = left + costs[y, left : path[y + 1] + 2].argmin()
    return np.arange(costs.shape[1]) < path[:, None]


def _shifted(row: np.ndarray, step: int) -> np.ndarray:
    """Return a row moved by one place; nothing comes in from outside."""
    moved = np.full_like(row, np.inf)
    if step > 0:
        moved[1:] = row[:-1]
    else:
        moved[:-1] = row[1:]
    return moved


def _fitting(
    exemplar: np.ndarray, place: np.ndarray, known: np.ndarray, rng: np.random.Generator
) -> tuple[int, int]:
    """Return the corner of a patch that fits what is known about as well as the best one."""
    if not known.any():
        return _anywhere(exemplar, len(place), rng)
    errors = cv2.matchTemplate(exemplar, place, cv2.TM_SQDIFF, mask=known.astype(np.float32))
    errors = np.maximum(errors, 0)
    return tuple(rng.choice(np.argwhere(errors <= (1 + _TOLERANCE) * errors.min())))


def _anywhere(exemplar: np.ndarray, side: int, rng: np.random.Generator) -> tuple[int, int]:
    height, width = exemplar.shape[:2]
    return int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))


def _cut(picture: np.ndarray, corner: tuple[int, int], side: int) -> np.ndarray:
    y, x = corner
    return picture[y : y + side, x : x + side]


def _covered(length: int, patch: int, overlap: int) -> int:
    """Return the length of the patches that cover a side."""
    return patch + max(0, -((patch - length) // (patch - overlap))) * (patch - overlap)


def _canvas(exemplar: np.ndarray, size: list[int]) -> np.ndarray:
    return np.zeros((*size, *exemplar.shape[2:]), np.float32)


def _grid(shape: tuple[int, ...], patch: int, step: int) -> Iterator[tuple[int, int]]:
    for y in range(0, shape[0] - patch + 1, step):
        for x in range(0, shape[1] - patch + 1, step):
            yield y, x


def _checked(exemplar: np.ndarray, patch: int) -> np.ndarray:
    height, width = exemplar.shape[:2]
    if min(height, width) < patch:
        raise ConvsuiteError(
            f"The exemplar has {width} x {height} pixels and is smaller than a patch of "
            f"{patch} x {patch}; take smaller patches or a larger exemplar."
        )
    return np.ascontiguousarray(exemplar, dtype=np.float32)

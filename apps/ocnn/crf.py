"""Dense conditional random field that smooths part probabilities over a surface.

Sources: Krähenbühl and Koltun 2011, "Efficient inference in fully connected CRFs with Gaussian edge
potentials", equations 2, 3 and algorithm 1; Wang et al. 2017, "O-CNN", section on segmentation, for
the two kernels and their widths. Differences: both kernels have Potts compatibility, whose weights
`choose` takes from validation shapes, and instead of filtering on a lattice, which approximates all
pairs, the pairs within three standard deviations are summed exactly.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from shared.errors import DataError

from . import scores

CUT = 3.0
"""Standard deviations beyond which a kernel is zero."""
MOST_PAIRS = 20_000_000
"""Most pairs of one kernel. Each takes 12 bytes, and about 60 while they are being found."""
_FLOOR = 0.01


@dataclass(frozen=True)
class CrfParameters:
    """Widths and weights of the two kernels.

    Attributes:
        steps: Mean-field iterations.
        smooth_sigma: Width of the kernel on positions, in leaf cells.
        smooth_weight: Its weight; 0 leaves the kernel out.
        bilateral_sigma: Width in position of the kernel on positions and normals, in leaf cells.
        normal_sigma: Its width in normals; normals have length 1.
        bilateral_weight: Its weight; 0 leaves the kernel out.
    """

    steps: int = 5
    smooth_sigma: float = 2.0
    smooth_weight: float = 3.0
    bilateral_sigma: float = 4.0
    normal_sigma: float = 0.3
    bilateral_weight: float = 1.0


DEFAULT = CrfParameters()


def refine(
    probabilities: np.ndarray,
    points: np.ndarray,
    normals: np.ndarray,
    parameters: CrfParameters = DEFAULT,
) -> np.ndarray:
    """Smooth part probabilities so that near points of like normals agree.

    Each step adds to the log-probability of a part its mean probability among the neighbours, times
    the weight of the kernel. Probabilities enter as `log(p + 0.01)`, so that with weights of 0 the
    order of the parts stays as it is, though not the exact figures.

    Args:
        probabilities: Of the parts at each point `(n, k)`, rows summing to 1.
        points: `(n, 3)` in leaf cells.
        normals: Of length 1, `(n, 3)`.
        parameters: Widths and weights.

    Returns:
        float64 `(n, k)`, rows summing to 1.

    Raises:
        DataError: The arrays do not fit together or hold numbers that are not finite, or the
            points lie so densely that a kernel would have more than `MOST_PAIRS` pairs.
    """
    _check(probabilities, points, normals)
    weights = (parameters.smooth_weight, parameters.bilateral_weight)
    features = _features(points, normals, parameters)
    terms = [
        (weight, _kernel(rows)) for weight, rows in zip(weights, features, strict=True) if weight
    ]
    return _mean_field(probabilities, terms, parameters.steps)


def choose(
    shapes: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]],
    parameters: CrfParameters = DEFAULT,
    smooth_weights: Sequence[float] = (0, 0.3, 1, 3),
    bilateral_weights: Sequence[float] = (0, 0.3, 1, 3),
) -> tuple[CrfParameters, dict[tuple[float, float], float]]:
    """Pick the weights that segment validation shapes best.

    Args:
        shapes: Per shape: probabilities `(n, k)`, points `(n, 3)` in leaf cells, normals `(n, 3)`,
            true parts `(n,)` with -1 for unknown. May be a generator: one shape is held at a time.
        parameters: Widths and steps, which stay as they are.
        smooth_weights: Candidates; with 0 in both, doing nothing can win.
        bilateral_weights: Candidates.

    Returns:
        The parameters with the best weights (of equally good ones the smallest), and the mean IoU
        over the shapes for each pair of smooth and bilateral weight.

    Raises:
        DataError: There are no shapes, or one of them cannot be worked on; see `refine`.
    """
    grid = sorted(itertools.product(smooth_weights, bilateral_weights), key=sum)
    ious = []
    for probabilities, points, normals, labels in shapes:
        _check(probabilities, points, normals)
        kernels = [_kernel(rows) for rows in _features(points, normals, parameters)]
        fields = (
            _mean_field(probabilities, list(zip(weights, kernels, strict=True)), parameters.steps)
            for weights in grid
        )
        parts = np.shape(probabilities)[1]
        ious.append([scores.mean_iou(labels, field.argmax(axis=1), parts) for field in fields])
    if not ious:
        raise DataError("There are no validation shapes to choose the weights of the CRF on.")
    means = np.mean(ious, axis=0)
    smooth, bilateral = grid[int(means.argmax())]
    best = replace(parameters, smooth_weight=smooth, bilateral_weight=bilateral)
    return best, dict(zip(grid, means.tolist(), strict=True))


def _features(points, normals, parameters):
    """Return the places of the points in both kernels, in standard deviations."""
    points, normals = np.asarray(points, np.float64), np.asarray(normals, np.float64)
    bilateral = [points / parameters.bilateral_sigma, normals / parameters.normal_sigma]
    return points / parameters.smooth_sigma, np.concatenate(bilateral, axis=1)


def _kernel(features):
    """Return the upper triangle of the Gaussian kernel, divided by the roots of both degrees.

    Without the diagonal: a point sends no message to itself.
    """
    from scipy.sparse import csr_array
    from scipy.spatial import KDTree

    tree = KDTree(features)
    pairs = (tree.count_neighbors(tree, CUT) - len(features)) // 2
    if pairs > MOST_PAIRS:
        raise DataError(
            f"{len(features):,} points have {pairs:,} pairs of neighbours in the CRF, more than "
            f"{MOST_PAIRS:,}; keep one point per leaf, or take a smaller sigma."
        )
    first, second = tree.query_pairs(CUT, output_type="ndarray").astype(np.int32).T
    squared = np.zeros(len(first))
    for column in features.T:
        squared += (column[first] - column[second]) ** 2
    values = np.exp(-squared / 2)
    size = len(features)
    degrees = np.bincount(first, values, size) + np.bincount(second, values, size)
    scale = 1 / np.sqrt(np.where(degrees > 0, degrees, 1))
    return csr_array((values * scale[first] * scale[second], (first, second)), (size, size))


def _mean_field(probabilities, terms, steps):
    """Return the marginals after some steps (Krähenbühl and Koltun 2011, algorithm 1)."""
    from scipy.special import softmax

    unary = np.log(np.asarray(probabilities, np.float64) + _FLOOR)
    field = softmax(unary, axis=1)
    for _ in range(steps):
        # Potts: what the other parts' neighbours cost is, but for a constant, what the own gain.
        messages = sum(weight * (upper @ field + upper.T @ field) for weight, upper in terms)
        field = softmax(unary + messages, axis=1)
    return field


def _check(probabilities, points, normals):
    """Raise DataError unless there are probabilities, a place and a normal for each point."""
    shapes = [np.shape(rows) for rows in (probabilities, points, normals)]
    size = shapes[0][0] if shapes[0] else 0
    if len(shapes[0]) != 2 or not size or shapes[1:] != [(size, 3)] * 2:
        raise DataError(
            "Probabilities, points and normals must have the shapes (n, k), (n, 3) and (n, 3), "
            f"not {', '.join(map(str, shapes))}."
        )
    if not all(np.isfinite(rows).all() for rows in (probabilities, points, normals)):
        raise DataError("Probabilities, points or normals hold numbers that are not finite.")
    if np.min(probabilities) < 0:
        raise DataError("Some probabilities are negative; give the softmax, not the logits.")

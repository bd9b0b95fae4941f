"""The patch energy: how far two clouds of patches are apart, seen along random directions.

Source: Elnekave and Weiss, "Generating Natural Images with Direct Patch Distributions Matching",
ECCV 2022 (the sliced Wasserstein distance of all patches at stride 1, Adam, fresh directions in
every step). No network is needed. Ours: borders that wrap or reflect, exemplars of any size, and
mixtures of exemplars.

Everything here is NumPy: the gradient is the sign of a difference that is carried back to the
patch it came from. With 64 directions on 192 x 96 pixels and one core (EPYC), energy and gradient
took 58 ms, the same compiled by TensorFlow 280 ms, most of it for the sort.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np

from .features import Borders
from .optimise import Watch

_BETAS = (0.9, 0.99)
_LAST_RATE = 0.1  # of the first
_POSITIONS_AT_ONCE = 1 << 15
# Projections of all patches of a picture; more are worked on in groups.
_VALUES_AT_ONCE = 1 << 25
# Patches of an exemplar that count; of more, so many are drawn, which changes quantiles by less
# than a hundredth of their range.
_MOST_PATCHES = 1 << 16


def descend(
    start: np.ndarray,
    exemplars: Sequence[np.ndarray],
    mix: Sequence[float],
    *,
    steps: int,
    rate: float = 0.05,
    patch: int = 7,
    projections: int = 64,
    quantiles: int = 1024,
    borders: Borders = ("reflect", "reflect"),
    mask: np.ndarray | None = None,
    seed: int = 0,
    state: dict[str, np.ndarray] | None = None,
    every: int = 20,
    watch: Watch | None = None,
) -> tuple[np.ndarray, list[float]]:
    """Change a picture until its patches are distributed as those of the exemplars (Adam).

    Args:
        start: `(height, width, 3)`, 0..1.
        exemplars: Pictures of any size, each side at least `patch`.
        mix: Weight of each exemplar's quantile functions.
        steps: Number of steps in all, those of `state` included.
        rate: Of the first step; it falls to a tenth exponentially.
        patch: Side of the patches.
        projections: Directions in each step.
        quantiles: See `value_and_gradient`.
        borders: `wrap` makes a picture that tiles along that axis; `zero` takes inner patches only.
        mask: `(height, width)`, 0..1, multiplies the change of each pixel.
        seed: The directions of each step depend on it and the number of the step only.
        state: Goes on where `watch` was given it; `start` is ignored then.
        every: Steps between two calls of `watch`.
        watch: Called with the number of steps done, the energy, the picture and the state.

    Returns:
        float32 `(height, width, 3)`, 0..1, and the energy before each step.

    Raises:
        ValueError: A picture is too small for the patches or the border, or `mix` does not fit.
    """
    clouds = Clouds(exemplars, mix, patch)
    if state is None:
        picture = np.clip(start, 0, 1).astype(np.float32)
        mean, square = np.zeros_like(picture), np.zeros_like(picture)
        first, energies = 0, []
    else:
        picture, mean, square = (state[name].copy() for name in ("picture", "mean", "square"))
        first, energies = int(state["step"]), state["energies"].tolist()
    for step in range(first, steps):
        kernels = directions(projections, patch, [seed, step])
        energy, gradient = value_and_gradient(
            picture, clouds, kernels, quantiles=quantiles, borders=borders
        )
        energies.append(energy)
        # Of the sum over pixels: that of the mean would sink below Adam's epsilon in large ones.
        gradient *= gradient.size
        mean += (1 - _BETAS[0]) * (gradient - mean)
        square += (1 - _BETAS[1]) * (gradient * gradient - square)
        unbiased = (1 - _BETAS[0] ** (step + 1), 1 - _BETAS[1] ** (step + 1))
        change = (mean / unbiased[0]) / (np.sqrt(square / unbiased[1]) + 1e-8)
        change *= rate * _LAST_RATE ** (step / max(steps - 1, 1))
        if mask is not None:
            change *= mask[..., None]
        # Clipped at the end only: clipping each step made dark textures markedly worse.
        picture = picture - change.astype(np.float32)
        if watch is not None and (step + 1) % every == 0:
            arrays = {"picture": picture, "mean": mean, "square": square}
            now = {name: array.copy() for name, array in arrays.items()}
            now |= {"step": np.array(step + 1), "energies": np.array(energies)}
            watch(step + 1, energy, np.clip(picture, 0, 1), now)
    return np.clip(picture, 0, 1), energies


def directions(count: int, patch: int, seed: int | Sequence[int]) -> np.ndarray:
    """Return directions of length 1 in the space of patches, float32 `(count, patch, patch, 3)`."""
    drawn = np.random.default_rng(seed).standard_normal((count, patch, patch, 3), dtype=np.float32)
    return drawn / np.sqrt((drawn**2).sum(axis=(1, 2, 3), keepdims=True))


class Clouds:
    """The patches of some exemplars and their weights.

    Args:
        exemplars: `(height, width, 3)` each; of large ones 65,536 patches are drawn.
        mix: A weight of each, not negative; their sum does not matter.
        patch: Side of the patches.

    Raises:
        ValueError: An exemplar is smaller than a patch, or the weights do not fit.
    """

    def __init__(self, exemplars: Sequence[np.ndarray], mix: Sequence[float], patch: int):
        weights = np.asarray(mix, np.float64)
        if weights.shape != (len(exemplars),) or (weights < 0).any() or not weights.sum() > 0:
            raise ValueError(f"{len(exemplars)} exemplars need as many weights >= 0, not {mix}")
        for exemplar in exemplars:
            if min(exemplar.shape[:2]) < patch:
                raise ValueError(f"an exemplar of {exemplar.shape[:2]} has no patch of {patch}")
        self._weights = (weights / weights.sum()).tolist()
        self._views = [_view(np.asarray(exemplar, np.float32), patch) for exemplar in exemplars]

    def quantiles(self, kernels: np.ndarray, count: int) -> np.ndarray:
        """Return the mean quantile functions along directions, float32 `(kernels, count)`."""
        total = 0
        for view, weight in zip(self._views, self._weights, strict=True):
            values = np.sort(view(kernels), axis=1)
            total = total + np.float32(weight) * _at_levels(values, count)
        return total


def _view(exemplar: np.ndarray, patch: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function of directions that gives what they see of an exemplar's patches."""
    planes = _planes(exemplar)
    every = np.lib.stride_tricks.sliding_window_view(planes, (patch, patch), (1, 2))
    height, width = every.shape[1:3]
    if height * width <= _MOST_PATCHES:
        return functools.partial(_project, planes)
    drawn = np.random.default_rng(0).choice(height * width, _MOST_PATCHES, replace=False)
    rows, columns = np.divmod(np.sort(drawn), width)
    patches = every[:, rows, columns].transpose(0, 2, 3, 1).reshape(-1, _MOST_PATCHES)
    return lambda kernels: _matrix(kernels) @ patches


def value_and_gradient(
    picture: np.ndarray,
    clouds: Clouds,
    kernels: np.ndarray,
    *,
    quantiles: int = 1024,
    borders: Borders = ("reflect", "reflect"),
) -> tuple[float, np.ndarray]:
    """Return the sliced Wasserstein-1 distance between clouds of patches, and its gradient.

    The projections of the picture's patches are sorted and compared, one by one, with the
    exemplars' quantile functions at the same levels: E = mean |sorted - quantiles|.

    Args:
        picture: `(height, width, 3)`, 0..1.
        clouds: Of the exemplars.
        kernels: Directions `(projections, patch, patch, 3)`.
        quantiles: Knots of the exemplars' quantile functions, between which they are straight.
        borders: How the picture goes on beyond its border, so that all pixels lie in as many
            patches; with `zero` there are no patches beyond.

    Returns:
        E, and its derivative by each value of the picture, float32 `(height, width, 3)`.

    Raises:
        ValueError: The picture is too small for the patches or the border.
    """
    patch = kernels.shape[1]
    if min(picture.shape[:2]) < patch:
        raise ValueError(f"a picture of {picture.shape[:2]} is too small for patches of {patch}")
    padded = _pad(np.asarray(picture, np.float32), patch, borders)
    planes = _planes(padded)
    positions = int(np.prod([side - patch + 1 for side in padded.shape[:2]]))
    gradient, energy = np.zeros_like(planes), 0.0
    at_once = max(1, _VALUES_AT_ONCE // positions)
    for first in range(0, len(kernels), at_once):
        some = kernels[first : first + at_once]
        values = _project(planes, some)
        energy += _compared(values, clouds.quantiles(some, min(quantiles, positions)))
        gradient += _project_back(values, some, padded.shape[:2])
    count = len(kernels) * positions
    gradient /= np.float32(count)
    return energy / count, _fold(gradient, picture.shape[:2], patch, borders)


def _compared(values: np.ndarray, wanted: np.ndarray) -> float:
    """Return the sum of differences to quantiles; in place of the values leave its derivative."""
    numbers = np.arange(values.shape[1], dtype=np.int64)
    energy = 0.0
    for row, target in zip(values, wanted, strict=True):
        ordered, order = _sorted(row, numbers)
        difference = ordered - _at_levels(target[None], len(row))[0]
        energy += float(np.abs(difference).sum(dtype=np.float64))
        row[order] = np.sign(difference)
    return energy


def _sorted(values, numbers):
    """Return sorted float32 values and their places.

    As 64-bit integers, the value above its place, they are sorted more than twice as fast as by
    `argsort`.
    """
    bits = values.view(np.int32)
    keys = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).astype(np.int64) << 32
    keys |= numbers
    keys.sort()
    bits = (keys >> 32).astype(np.int32)
    ordered = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(np.float32)
    return ordered, keys & 0xFFFFFFFF


def _at_levels(values, count):
    """Read rows, sorted values or knots of quantile functions, at `count` even levels."""
    have = values.shape[1]
    if have == count:
        return values
    at = np.clip((np.arange(count) + 0.5) * (have / count) - 0.5, 0, have - 1)
    below = np.minimum(at.astype(np.int64), have - 2) if have > 1 else np.zeros(count, np.int64)
    share = (at - below).astype(np.float32)
    above = np.minimum(below + 1, have - 1)
    return values[:, below] * (1 - share) + values[:, above] * share


def _planes(picture):
    return np.ascontiguousarray(picture.transpose(2, 0, 1))


def _pad(picture, patch, borders):
    """Continue a picture by what a patch reaches; on a torus, one side is enough."""
    reach = patch - 1
    for axis, border in enumerate(borders):
        if border == "zero":
            continue
        width = [(0, 0)] * picture.ndim
        width[axis] = (0, reach) if border == "wrap" else (reach, reach)
        picture = np.pad(picture, width, mode=border)
    return picture


def _fold(planes, size, patch, borders):
    """Return the transposed `_pad` of `(3, height, width)` as `(height, width, 3)`."""
    numbers = np.arange(size[0] * size[1]).reshape(*size, 1)
    numbers = _pad(numbers, patch, borders).ravel()
    sums = [np.bincount(numbers, plane.ravel(), size[0] * size[1]) for plane in planes]
    return np.stack(sums, axis=1).reshape(*size, 3).astype(np.float32)


def _bands(height, width):
    rows = max(1, _POSITIONS_AT_ONCE // width)
    return [(first, min(first + rows, height)) for first in range(0, height, rows)]


def _matrix(kernels):
    """Return directions as rows, the colour first, as patches of planes are."""
    return kernels.transpose(0, 3, 1, 2).reshape(len(kernels), -1)


def _project(planes, kernels):
    """Return what each direction sees of each patch of `(3, height, width)`, `(kernels, n)`."""
    patch, matrix = kernels.shape[1], _matrix(kernels)
    height, width = (side - patch + 1 for side in planes.shape[1:])
    values = np.empty((len(kernels), height, width), np.float32)
    for first, end in _bands(height, width):
        columns = np.empty((3, patch, patch, end - first, width), np.float32)
        for y in range(patch):
            for x in range(patch):
                columns[:, y, x] = planes[:, first + y : end + y, x : x + width]
        band = matrix @ columns.reshape(3 * patch * patch, -1)
        values[:, first:end] = band.reshape(len(kernels), -1, width)
    return values.reshape(len(kernels), -1)


def _project_back(values, kernels, size):
    """Return the transposed `_project`, `(3, height, width)`."""
    patch, matrix = kernels.shape[1], _matrix(kernels).T
    height, width = (side - patch + 1 for side in size)
    values = values.reshape(len(kernels), height, width)
    planes = np.zeros((3, *size), np.float32)
    for first, end in _bands(height, width):
        columns = matrix @ values[:, first:end].reshape(len(kernels), -1)
        columns = columns.reshape(3, patch, patch, end - first, width)
        for y in range(patch):
            for x in range(patch):
                planes[:, first + y : end + y, x : x + width] += columns[:, y, x]
    return planes

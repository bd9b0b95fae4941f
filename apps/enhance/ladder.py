"""What a look gains over simpler means, rung by rung, and what would be possible.

The oracles are fitted to the answer of each single picture. They tell what a colour table, or a
bilateral grid (Bilateral Guided Upsampling, Chen et al. 2016), could do at best.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from shared import metrics

from .lut import Lut, apply_lut, fit_lut
from .operators import autocontrast, luma

_ORACLE_SAMPLES = 60_000
_GRID = (16, 16, 8)
_GRID_SMOOTHNESS = 1.0

Picture = np.ndarray
Method = Callable[[Picture, Picture], Picture]


@dataclass(frozen=True)
class Rung:
    """One method's mean quality over the test pictures."""

    method: str
    psnr: float
    standard_error: float
    ssim: float
    colour_difference: float
    pictures: int


def ladder(
    tests: Iterable[Callable[[], tuple[Picture, Picture]]],
    methods: dict[str, Method],
    *,
    oracle_pictures: int = 8,
) -> list[Rung]:
    """Measure methods and oracles against the wanted pictures.

    Args:
        tests: each opens one test picture: (before, wanted).
        methods: name -> function of (before, wanted); only oracles look at the second.
        oracle_pictures: methods whose name ends in `oracle` see only so many pictures.

    Returns:
        One rung per method, in order.
    """
    scores: dict[str, list[tuple[float, float, float]]] = {name: [] for name in methods}
    for number, open_test in enumerate(tests):
        before, wanted = open_test()
        for name, method in methods.items():
            if name.endswith("oracle") and number >= oracle_pictures:
                continue
            found = method(before, wanted)
            scores[name].append(
                (
                    metrics.psnr(found, wanted),
                    metrics.ssim(found, wanted),
                    metrics.colour_difference(found, wanted),
                )
            )
    rungs = []
    for name, rows in scores.items():
        psnrs, ssims, differences = np.transpose(rows)
        error = psnrs.std(ddof=1) / np.sqrt(len(psnrs)) if len(psnrs) > 1 else 0.0
        rungs.append(
            Rung(
                name,
                float(psnrs.mean()),
                float(error),
                float(ssims.mean()),
                float(differences.mean()),
                len(rows),
            )
        )
    return rungs


def simple_methods(global_lut: Lut) -> dict[str, Method]:
    """Return what every ladder begins with."""
    return {
        "identity": lambda before, wanted: before,
        "auto-contrast": lambda before, wanted: autocontrast(before),
        "global LUT": lambda before, wanted: apply_lut(before, global_lut),
        "per-image LUT oracle": lut_oracle,
        "per-image grid oracle": grid_oracle,
    }


def lut_oracle(before: Picture, wanted: Picture) -> Picture:
    """Fit a 17^3 colour table to this very picture, and apply it."""
    samples = _sample(before)
    return apply_lut(before, fit_lut(before[samples], wanted[samples], smoothness=0.1))


def grid_oracle(before: Picture, wanted: Picture) -> Picture:
    """Fit a bilateral grid with luma as guide to this very picture, and apply it."""
    y, x = _sample(before)
    weights = _slice_matrix(before, y, x)
    colours = np.concatenate([before[y, x], np.ones((len(y), 1), "float32")], axis=1)
    rows = scipy.sparse.hstack(
        [scipy.sparse.diags_array(colours[:, i]) @ weights for i in range(4)], format="csr"
    )
    penalty = np.sqrt(_GRID_SMOOTHNESS) * scipy.sparse.block_diag([_differences()] * 4, "csr")
    system = scipy.sparse.vstack([rows, penalty], format="csr")
    padding = np.zeros(penalty.shape[0])
    solution = np.stack(
        [
            scipy.sparse.linalg.lsqr(
                system,
                np.concatenate([wanted[y, x, o] - before[y, x, o], padding]),
                iter_lim=60,
            )[0]
            for o in range(3)
        ],
        axis=-1,
    )
    height, width = before.shape[:2]
    all_y, all_x = (a.ravel() for a in np.mgrid[:height, :width])
    weights = _slice_matrix(before, all_y, all_x)
    colours = np.concatenate([before.reshape(-1, 3), np.ones((len(all_y), 1))], axis=1)
    cells = int(np.prod(_GRID))
    change = sum(
        colours[:, i : i + 1] * (weights @ solution[i * cells : (i + 1) * cells]) for i in range(4)
    )
    return np.clip(before + change.reshape(before.shape), 0, 1).astype("float32")


def _sample(image):
    height, width = image.shape[:2]
    rng = np.random.default_rng(0)
    chosen = rng.choice(height * width, min(_ORACLE_SAMPLES, height * width), replace=False)
    return np.divmod(chosen, width)


def _slice_matrix(image, y, x):
    """Return the sparse `(pixels, cells)` matrix of trilinear weights."""
    height, width = image.shape[:2]
    coordinates = ((y + 0.5) / height, (x + 0.5) / width, luma(image[y, x]))
    rows, columns, values = [], [], []
    taps = []
    for coordinate, size in zip(coordinates, _GRID, strict=True):
        position = np.clip(coordinate * size - 0.5, 0, size - 1)
        low = np.minimum(position.astype(int), size - 2)
        taps.append(((low, 1 - (position - low)), (low + 1, position - low)))
    for i, weight_y in taps[0]:
        for j, weight_x in taps[1]:
            for k, weight_z in taps[2]:
                rows.append(np.arange(len(y)))
                columns.append((i * _GRID[1] + j) * _GRID[2] + k)
                values.append(weight_y * weight_x * weight_z)
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return scipy.sparse.csr_array(entries, shape=(len(y), int(np.prod(_GRID))))


def _differences():
    """Return the sparse first differences between neighbouring cells along all three axes."""
    number = np.arange(np.prod(_GRID)).reshape(_GRID)
    low = np.concatenate([np.delete(number, -1, axis).ravel() for axis in range(3)])
    high = np.concatenate([np.delete(number, 0, axis).ravel() for axis in range(3)])
    rows = np.arange(len(low))
    ones = np.ones(len(low))
    entries = (np.concatenate([ones, -ones]), (np.tile(rows, 2), np.concatenate([high, low])))
    return scipy.sparse.csr_array(entries, shape=(len(low), number.size))

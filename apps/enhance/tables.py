"""Global colour tables fitted to training material: the first rung, and sometimes the answer."""

from pathlib import Path

import numpy as np

from shared import images, metrics

from .lut import Lut, apply_lut, fit_lut, write_cube
from .material import Material, pair_material
from .views import PointSampler, Views, collect

SMOOTHNESS = (0.05, 0.5, 5.0, 50.0, 500.0)
"""Many and varied pictures want a free table, a few want a smooth one."""
_SAMPLES = 200_000


def fit_table(views: Views, sources: int, size: int = 17) -> Lut:
    """Fit a global colour table to sampled pixels of all views.

    How smooth it has to be is found on every fifth picture, with a table fitted to the others.

    Args:
        views: made by `views.collect`.
        sources: from how many pictures; one is split by views instead.
        size: grid points per axis.
    """
    rng = np.random.default_rng(0)
    colours = views.arrays["colours" if "colours" in views.arrays else "colours0"]
    colours, targets = (
        values.reshape(len(views), -1, 3) for values in (colours, views.arrays["targets"])
    )

    def samples(chosen, count):
        view, sample = rng.choice(chosen, count), rng.integers(colours.shape[1], size=count)
        return [images.to_float(values[view, sample]) for values in (colours, targets)]

    everything = np.arange(len(views))
    held = everything % sources % 5 == 4 if sources >= 5 else everything % 5 == 4
    smoothness = SMOOTHNESS[len(SMOOTHNESS) // 2]
    if held.any():
        learn, check = samples(everything[~held], _SAMPLES // 2), samples(everything[held], 50_000)

        def error(smoothness):
            table = fit_lut(*learn, size, smoothness)
            return np.square(apply_lut(check[0], table) - check[1]).mean()

        smoothness = min(SMOOTHNESS, key=error)
    return fit_lut(*samples(everything, _SAMPLES), size, smoothness)


def held_out_psnr(table: Lut, material: Material) -> float:
    """Return the mean PSNR of a table on the test pictures, in dB."""
    return float(
        np.mean(
            [
                metrics.psnr(apply_lut(before, table), wanted)
                for before, wanted in (open_test() for open_test in material.tests)
            ]
        )
    )


def fit_pairs(folder: Path, out: Path, *, size: int = 17, title: str = "") -> float:
    """Fit a colour table to a folder of pairs and write it.

    Returns:
        PSNR on held-out pairs, in dB; on the pair itself where there is only one.

    Raises:
        DataError: no pairs, or pairs that do not match.
    """
    material = pair_material(folder)
    count = len(material.sources)
    views = collect(material.sources, max(5, 4 * count), 0, PointSampler())
    table = fit_table(views, count, size)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_cube(Lut(table.table, title=title), out)
    return held_out_psnr(table, material)

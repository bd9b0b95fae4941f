"""Looks for other programs: the coefficient network, one picture's grid, or a colour table."""

from pathlib import Path

import numpy as np

from shared import assets, images, metrics, weights
from shared.errors import DataError, WeightsError

from .enhancer import Enhancer, LutEnhancer
from .lut import Lut, apply_lut, fit_lut, write_cube
from .thumbnail import thumbnail

_SAMPLES_PER_PICTURE = 40_000


def export_network(enhancer: Enhancer, path: Path, format: str) -> float:
    """Export the coefficient network: thumbnail `(1, 256, 256, 3)` -> grid.

    Returns:
        Largest difference between the exported network and ours on one input.
    """
    return weights.export_model(enhancer.network.get_layer("coefficients"), path, format)


def export_grid(enhancer: Enhancer, pixels: np.ndarray, path: Path) -> None:
    """Write the grid of one picture and the constants of the guide into a `.npz` file.

    The arrays: `grid` `(16, 16, 8, 3, 4)`, `matrix`, `shift`, `slopes`, `knots`, `out_shift`.

    Raises:
        DataError: the look is multi-scale or its guide is no curve, or the suffix is not `.npz`.
    """
    if path.suffix.lower() != ".npz":
        raise DataError(f"{path}: a grid is written to a file that ends in .npz.")
    guide, *more = enhancer.guides
    if more or guide.kind != "curves":
        raise DataError("Only single-scale looks with a curve guide have one grid to export.")
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        grid=enhancer.coefficients(pixels),
        matrix=guide.matrix,
        shift=guide.shift,
        slopes=guide.slopes,
        knots=guide.knots,
        out_shift=np.float32(guide.out_shift),
    )


def export_table(look: Enhancer | LutEnhancer, path: Path, *, mean: bool) -> float | None:
    """Write a look as a `.cube` table.

    Args:
        look: a table is written as it is; a network only on request, since it acts differently at
            different places.
        path: ends in `.cube`.
        mean: write the mean of what a network does to the sample pictures.

    Returns:
        What the table loses: dB between its results and the network's on the sample pictures.

    Raises:
        WeightsError: the look is a network and `mean` is not set.
    """
    if isinstance(look, LutEnhancer):
        write_cube(look.lut, path)
        return None
    if not mean:
        raise WeightsError(
            "This look changes a colour differently at different places, which no table can hold; "
            "--global writes the mean of what it does."
        )
    rng = np.random.default_rng(0)
    befores = [images.read(photo) for photo in sorted(assets.samples_dir().glob("*.jpg"))]
    afters = [look(before) for before in befores]
    samples = [
        [picture.reshape(-1, 3)[chosen] for picture in (before, after)]
        for before, after in zip(befores, afters, strict=True)
        for chosen in [rng.integers(before.size // 3, size=_SAMPLES_PER_PICTURE)]
    ]
    table: Lut = fit_lut(*(np.concatenate(colours) for colours in zip(*samples, strict=True)))
    write_cube(table, path)
    losses = [
        metrics.psnr(apply_lut(before, table), after)
        for before, after in zip(befores, afters, strict=True)
    ]
    return float(np.mean(losses))


def inspection(enhancer: Enhancer, pixels: np.ndarray):
    """Draw what the network makes of a picture: thumbnail, guide, and the slices of the grid.

    Returns:
        A matplotlib figure.
    """
    from matplotlib.figure import Figure

    grid = enhancer.coefficients(pixels)
    depth = grid.shape[2]
    figure = Figure(figsize=(12, 8.4), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=[2, 1, 1])
    left, centre, right = top.subplots(1, 3)
    left.imshow(np.clip(images.to_float(pixels), 0, 1))
    left.set_title("picture")
    centre.imshow(thumbnail(pixels))
    centre.set_title("what the network sees")
    shown = right.imshow(enhancer.guides[0](pixels), cmap="gray", vmin=0, vmax=1)
    right.set_title("guide")
    top.colorbar(shown, ax=right, shrink=0.8)
    gain = grid[..., :3, :3].sum(-1).mean(-1)
    offset = grid[..., :3, 3].mean(-1)
    for row, values, title in ((middle, gain, "gain"), (bottom, offset, "offset")):
        limit = np.abs(values - values.mean()).max()
        axes = row.subplots(1, depth)
        for z, axis in enumerate(axes):
            shown = axis.imshow(
                values[:, :, z],
                cmap="coolwarm",
                vmin=values.mean() - limit,
                vmax=values.mean() + limit,
            )
            axis.set_title(f"{(z + 0.5) / depth:.2f}")
        row.colorbar(shown, ax=axes, shrink=0.8)
        row.suptitle(f"{title} of the colour matrices, at guide…")
    for axis in figure.get_axes():
        if axis.images:
            axis.set(xticks=[], yticks=[])
    return figure

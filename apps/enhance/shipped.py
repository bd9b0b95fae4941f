"""How the looks that ship with convsuite are made: `convsuite enhance train-looks DATA`."""

import dataclasses
import os
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from shared import assets, weights
from shared.errors import DataError
from shared.weights import Card

from . import pairs
from .enhancer import APP
from .ladder import ladder, simple_methods
from .lut import apply_lut, make_look, write_cube
from .material import photo_material
from .model import Architecture
from .operators import autocontrast
from .tables import fit_table
from .train import Recipe, Trained, results, train
from .views import PointSampler, collect

PHOTOS = ("photos/kodak", "photos/cc0_budgie")
PANORAMAS = ("hdr/polyhaven",)
TESTS = "photos/bsds500/test"
LICENCE = "MIT; trained on pictures free for any use"


@dataclass(frozen=True)
class Shipped:
    """One network look of ours."""

    operator: str
    summary: str
    folders: tuple[str, ...] = PHOTOS
    tests: str | None = TESTS
    recipe: Recipe = field(default_factory=Recipe)
    settings: dict = field(default_factory=dict)


NETWORKS = {
    "clahe": Shipped("clahe", "local contrast: opens flat areas, as CLAHE does"),
    "tonemap": Shipped(
        "tonemap",
        "HDR pictures (.hdr, .exr) to display range, as Durand and Dorsey's bilateral filter",
        folders=PANORAMAS,
        tests=None,
    ),
    "tone": Shipped("tone", "tonal range compressed, detail kept, as a local Laplacian filter"),
    "detail": Shipped(
        "detail",
        "fine detail lifted, as a local Laplacian filter",
        recipe=Recipe(architecture=Architecture(levels=3, guide="nn"), steps=2000, views=700),
    ),
}
TABLES = {
    "warm": "colour table: warm film",
    "cool": "colour table: cool film",
    "fade": "colour table: faded print",
    "noir": "colour table: nearly black and white",
}


def data_folder(folder: Path | None) -> Path:
    """Return the folder of training photographs: as named, or from CONVSUITE_DATA.

    Raises:
        DataError: neither is there.
    """
    folder = folder or os.environ.get("CONVSUITE_DATA")
    if not folder or not Path(folder).is_dir():
        raise DataError(
            "The training photographs are not part of convsuite: name their folder, or set "
            "CONVSUITE_DATA to it."
        )
    return Path(folder)


def train_network(name: str, data: Path, out: Path, **options) -> Trained:
    """Train one of `NETWORKS` as shipped, into the folder `out`."""
    look = NETWORKS[name]
    material = photo_material(
        [data / folder for folder in look.folders],
        look.operator,
        data / look.tests if look.tests else None,
        held_out=0.25,
    )
    return train(
        material,
        out / f"{name}.keras",
        look.recipe,
        settings=look.settings,
        summary=look.summary,
        licence=LICENCE,
        command=f"convsuite enhance train-looks {name}",
        **options,
    )


def write_table(name: str, out: Path) -> Card:
    """Write one of `TABLES` and its card into the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}.cube"
    write_cube(make_look(name), path)
    card = Card(
        app=APP,
        name=name,
        kind="cube",
        summary=TABLES[name],
        training={"data": "none: curves, matrix and saturation", "command": f"train-looks {name}"},
        licence="MIT",
    )
    return weights.write_card(path, card)


def train_auto(data: Path, out: Path) -> Trained:
    """Make `auto`: auto-contrast, then a table that was fitted to spoilt photographs.

    Learned from few photographs, no network did better than this on pairs of an expert's hand;
    the README has the figures.
    """
    folders = [data / folder for folder in PHOTOS]
    material = photo_material(folders, "auto", data / TESTS)
    sources = [partial(pairs.stretched, source) for source in material.sources]
    views = collect(sources, 20 * len(sources), 0, PointSampler())
    table = fit_table(views, len(sources))
    methods = simple_methods(table)
    methods.pop("per-image grid oracle")
    methods["auto-contrast + table"] = lambda before, wanted: apply_lut(autocontrast(before), table)
    rungs = ladder(material.tests, methods)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "auto.cube"
    write_cube(dataclasses.replace(table, title="auto"), path)
    card = Card(
        app=APP,
        name="auto",
        kind="cube",
        summary="auto-contrast, then exposure and colour put right by a table",
        settings={"autocontrast": True},
        training={
            "data": material.data,
            "operator": "auto",
            "command": "convsuite enhance train-looks auto",
        },
        results=results(rungs),
        licence=LICENCE,
    )
    return Trained(path, weights.write_card(path, card), rungs)


def default_folder() -> Path:
    """Return the folder the shipped looks live in."""
    return assets.weights_dir() / APP

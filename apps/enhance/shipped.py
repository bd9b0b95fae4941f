"""How the looks that ship with convsuite are made: `convsuite enhance train-looks DATA`."""

import dataclasses
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from shared import assets, weights
from shared.errors import DataError
from shared.weights import Card

from . import pairs
from .bench import leave_one_out
from .enhancer import APP
from .ladder import ladder, simple_methods
from .lut import apply_lut, make_look, write_cube
from .material import pair_material, photo_material
from .operators import autocontrast
from .tables import fit_table
from .train import Trained, results, train
from .views import PointSampler, collect

PHOTOS = ("photos/kodak", "photos/cc0_budgie")
PANORAMAS = ("hdr/polyhaven",)
TESTS = "photos/bsds500/test"
UNDERWATER = "enhance/underwater"
LICENCE = "MIT; trained on pictures free for any use"


@dataclass(frozen=True)
class Shipped:
    """One network look of ours."""

    operator: str
    summary: str
    folders: tuple[str, ...] = PHOTOS
    tests: str | None = TESTS


NETWORKS = {
    "clahe": Shipped("clahe", "local contrast: opens flat areas, as CLAHE does"),
    "tonemap": Shipped(
        "tonemap",
        "HDR pictures (.hdr, .exr) to display range, as Durand and Dorsey's bilateral filter",
        folders=PANORAMAS,
        tests=None,
    ),
    "tone": Shipped("tone", "tonal range compressed, detail kept, as a local Laplacian filter"),
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
            "The data for training and tests are not part of convsuite: name their folder with "
            "--data, or set CONVSUITE_DATA to it."
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
        training={
            "data": "none: curves, a matrix and saturation",
            "command": f"convsuite enhance train-looks {name}",
        },
        licence="MIT",
    )
    return weights.write_card(path, card)


def fit_auto(data: Path, out: Path) -> Trained:
    """Make `auto`: auto-contrast, then a table that was fitted to spoilt photographs.

    Learned from few photographs, no network did better than this on pairs of an expert's hand;
    the README has the figures.
    """
    material = photo_material([data / folder for folder in PHOTOS], "auto", data / TESTS)
    sources = [partial(pairs.stretched, source) for source in material.sources]
    table = fit_table(collect(sources, 20 * len(sources), 0, PointSampler()), len(sources))
    methods = simple_methods(table)
    methods.pop("per-image grid oracle")
    methods["auto-contrast + table"] = lambda before, wanted: apply_lut(autocontrast(before), table)
    return _ship_table(
        table,
        Card(
            app=APP,
            name="auto",
            summary="auto-contrast, then exposure and colour put right by a table",
            settings={"autocontrast": True},
            training={"data": material.data, "operator": "auto"},
            licence=LICENCE,
        ),
        ladder(material.tests, methods),
        out,
    )


def fit_underwater(data: Path, out: Path) -> Trained:
    """Make `underwater`: a table fitted to all pairs, measured by leaving one out at a time."""
    rungs = [
        rung
        for rung in leave_one_out(data / UNDERWATER, quiet=True)
        if rung.method in ("identity", "table")
    ]
    material = pair_material(data / UNDERWATER, data / UNDERWATER)
    count = len(material.sources)
    return _ship_table(
        fit_table(collect(material.sources, 8 * count, 0, PointSampler()), count),
        Card(
            app=APP,
            name="underwater",
            summary="colour table: the blue-green cast of water taken out",
            training={"data": "19 pairs of FUnIE-GAN (targets made by another method), MIT"},
            licence="MIT",
        ),
        rungs,
        out,
    )


def _ship_table(table, card, rungs, out):
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{card.name}.cube"
    write_cube(dataclasses.replace(table, title=card.name), path)
    training = {**card.training, "command": f"convsuite enhance train-looks {card.name}"}
    card = dataclasses.replace(card, kind="cube", training=training, results=results(rungs))
    return Trained(path, weights.write_card(path, card), rungs)


FITTED = {"auto": fit_auto, "underwater": fit_underwater}


def default_folder() -> Path:
    """Return the folder the shipped looks live in."""
    return assets.weights_dir() / APP

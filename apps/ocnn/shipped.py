"""The weights that ship: how each is trained again."""

import dataclasses
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from shared import assets
from shared.errors import DataError

from . import shapes, train
from .data import Poses
from .tasks import APP

REAL_PARTS = {
    "airplane": ("fuselage", "wing or engine", "tail"),
    "ant": ("body", "limb or antenna"),
    "cup": ("body", "handle"),
    "glasses": ("front", "temple"),
    "hand": ("palm and wrist", "finger"),
    "octopus": ("body", "arm"),
    "table": ("top", "leg"),
    "teddy": ("trunk and head", "limb", "ear"),
}
"""Labels of the meshes of SHREC 2007 whose segmentations by persons were named."""
LONG = ("ant", "octopus", "table", "teddy")
"""Of these, parts that 400 steps left behind a random forest; they are learned for 1,000."""
MADE_UP = ("chair", "lamp")
"""Classes whose parts are learned from made-up shapes."""
MADE_COUNT, MADE_SEED, MADE_TEST_SHARE = 120, 1, 0.2
_PRINCETON = "objects24: Princeton Shape Benchmark and another course collection, from the web"
_SHREC = "SHREC 2007 watertight meshes, segmentations of the Princeton benchmark (Chen et al. 2009)"
_RESEARCH = "non-commercial: the meshes are for research"


def names() -> list[str]:
    """Return the names of all weights that ship."""
    return list(_RECIPES)


def default_folder() -> Path:
    """Return where they lie."""
    return assets.weights_dir() / APP


def train_weights(
    name: str, out: Path, data: Path | None = None, seed: int = 0, **options: Any
) -> train.Trained:
    """Train shipped weights again.

    Args:
        name: One of `names`.
        out: Folder of the weights.
        data: Folder that holds `objects24` and `watertight19`; not needed for made-up shapes.
        seed: Of the training.
        **options: As in `train.Options`.

    Raises:
        DataError: The data are needed and missing, or there is a training already.
    """
    if name not in _RECIPES:
        raise DataError(f"no shipped weights are called {name}; there are: {', '.join(names())}.")
    return _RECIPES[name](out=out / f"{name}.keras", data=data, seed=seed, **options)


def made_up_recipe(skips: bool = True) -> train.Recipe:
    """Return how parts of made-up shapes are learned: upright, since they are made so."""
    poses = Poses(12, stretch=0.15, tilt=5, mirror=True)
    return dataclasses.replace(train.PARTS, options={"skips": skips}, poses=poses)


def _needed(data: Path | None, name: str) -> Path:
    if data is None or not (data / name).is_dir():
        raise DataError(
            f"the folder {name} with meshes is needed; name the folder it lies in with --data."
        )
    return data / name


def _classes(*, out, data, seed, **options):
    return train.train_classes(
        _needed(data, "objects24"),
        out,
        seed=seed,
        source=f"{_PRINCETON}; 251 meshes of 24 classes, 111 held out",
        summary="24 classes of things, from toys and furniture to vehicles",
        licence=_RESEARCH,
        **options,
    )


def _real_parts(kind, *, out, data, seed, **options):
    steps = 1000 if kind in LONG else train.PARTS.steps
    return train.train_parts(
        _needed(data, "watertight19") / kind,
        out,
        dataclasses.replace(train.PARTS, steps=steps),
        parts=REAL_PARTS[kind],
        seed=seed,
        source=f"{_SHREC}; class {kind}",
        summary=f"parts of {kind}: {', '.join(REAL_PARTS[kind])}; any orientation",
        licence=_RESEARCH,
        **options,
    )


def _made_up_parts(kind, *, out, data, seed, **options):
    with tempfile.TemporaryDirectory() as folder:
        shapes.write_set(folder, [kind], MADE_COUNT, MADE_SEED, test_share=MADE_TEST_SHARE)
        return train.train_parts(
            Path(folder) / kind,
            out,
            made_up_recipe(),
            parts=shapes.PARTS[kind],
            seed=seed,
            source=f"synthetic: `convsuite ocnn generate {kind} --count {MADE_COUNT} "
            f"--seed {MADE_SEED} --test-share {MADE_TEST_SHARE}`",
            summary=f"parts of {kind}: {', '.join(shapes.PARTS[kind])}; upright, synthetic",
            licence="MIT",
            **options,
        )


_RECIPES: dict[str, Callable[..., train.Trained]] = {
    "objects24": _classes,
    **{f"parts_{kind}": partial(_real_parts, kind) for kind in REAL_PARTS},
    **{f"made_{kind}": partial(_made_up_parts, kind) for kind in MADE_UP},
}

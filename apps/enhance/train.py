"""Learn a look: from a folder of before/after pairs, or from photographs and an exact operator.

A colour table is fitted first, in seconds. Where it reproduces the look, no network will come near,
so the table is written and the training stops. Otherwise the network of the paper is trained on
sampled pixels, and a ladder of simpler methods and oracles tells what it is worth.
"""

import dataclasses
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import keras

from shared import backend, report, training, weights
from shared.console import console, progress
from shared.errors import DataError
from shared.weights import Card

from . import model
from .enhancer import APP, Enhancer, open_look
from .ladder import Rung, ladder, simple_methods
from .lut import write_cube
from .material import Material, pair_material
from .model import Architecture
from .pairs import Maker
from .tables import fit_table, held_out_psnr
from .views import PatchSampler, PointSampler, collect, view_bytes

TABLE_SUFFICES = 40.0
"""dB on held-out pictures from which a look is a colour table."""
FEW_PAIRS = 10


@dataclass(frozen=True)
class Recipe:
    """How a look is trained."""

    architecture: Architecture = field(default_factory=Architecture)
    steps: int = 3000
    minutes: float | None = None
    views: int = 1500
    """Random crops of the training pictures, made once."""
    batch: int = 8
    learning_rate: float = 1e-3
    noise_consistency: float = 0.0
    """Weight of the grid's squared response to noise in the thumbnail, added to the loss."""
    seed: int = 0
    cache_gb: float = 4.0
    """Views beyond this size are kept on disk and streamed from there."""

    @property
    def sampler(self) -> PointSampler | PatchSampler:
        """What is kept of a view."""
        return PatchSampler() if self.architecture.levels > 1 else PointSampler()


@dataclass(frozen=True)
class Trained:
    """What came out: the file, its card, and the ladder on the test pictures."""

    path: Path
    card: Card
    rungs: list[Rung]


def train(
    material: Material,
    out: Path,
    recipe: Recipe | None = None,
    *,
    settings: dict | None = None,
    summary: str = "",
    licence: str = "of the training pictures' owner",
    command: str = "",
    start_from: str | Path | None = None,
    force: bool = False,
    resume: bool = False,
    quiet: bool = False,
) -> Trained:
    """Train a look and write it, its card and a folder `NAME-training` with log and curve.

    Args:
        material: training and test pictures.
        out: a `.keras` file; the card goes beside it.
        recipe: sizes and lengths; the defaults take about ten minutes on two cores.
        settings: for the card, what `Enhancer` needs to know.
        summary: one line for tables.
        licence: of the weights, for the card.
        command: that repeats the training, for the card.
        start_from: a look whose weights to go on from.
        force: train a network even though a colour table suffices.
        resume: go on from the last checkpoint.
        quiet: no progress.

    Returns:
        The trained look; a `.cube` file when a colour table suffices.

    Raises:
        DataError: too little material, or a folder with an unfinished training.
    """
    recipe = recipe or Recipe()
    folder = out.with_name(f"{out.stem}-training")
    if len(material.sources) < FEW_PAIRS and not material.look:
        console.print(
            f"warning: {len(material.sources)} pairs are few; {FEW_PAIRS} or more let a look carry "
            "over to other pictures"
        )
    started = time.monotonic()
    backend.distribute()
    material_views = _collect(material, recipe, folder, quiet)
    table = fit_table(material_views, len(material.sources))
    card = Card(
        app=APP,
        name=out.stem,
        summary=summary,
        settings={
            "input": "log" if material.look == "tonemap" else "srgb",
            "thumbnail": "area",
            "grid": "y, x, z, output, input",
            "architecture": dataclasses.asdict(recipe.architecture),
            **(settings or {}),
        },
        licence=licence,
    )
    facts = {"data": material.data, "operator": material.look, "command": command}
    methods = simple_methods(table)
    table_psnr = held_out_psnr(table, material)
    if table_psnr >= TABLE_SUFFICES and not force:
        console.print(
            f"this look is a 3D LUT: a colour table reaches {table_psnr:.1f} dB on held-out "
            "pictures, and no network comes near (--force trains one all the same)"
        )
        methods.pop("per-image grid oracle")
        rungs = ladder(material.tests, methods)
        facts |= {"seconds": round(time.monotonic() - started)}
        path = out.with_suffix(".cube")
        write_cube(dataclasses.replace(table, title=out.stem), path)
        return Trained(path, _write_table_card(path, card, facts, rungs), rungs)

    keras.utils.set_random_seed(recipe.seed)
    network = model.hdrnet(recipe.architecture, recipe.sampler.used)
    if start_from:
        _copy_weights(start_from, network)
    steady = recipe.noise_consistency > 0
    learner = model.steadied(network, recipe.noise_consistency) if steady else network
    _compile(learner)
    outcome = training.fit(
        learner,
        lambda step: material_views.random_batch(recipe.batch, recipe.seed, step, noisy=steady),
        training.Schedule(recipe.steps, learning_rate=recipe.learning_rate, minutes=recipe.minutes),
        folder,
        resume=resume,
        quiet=quiet,
    )
    enhancer = Enhancer(network, card.settings)
    methods["network"] = lambda before, wanted: enhancer(before)
    rungs = ladder(material.tests, methods)
    facts |= {
        "steps": outcome.steps,
        "batch": recipe.batch,
        "seed": recipe.seed,
        "seconds": round(outcome.seconds),
        "precision": keras.config.dtype_policy().name,
        "machine": report.machine().get("CPU", ""),
    }
    card = dataclasses.replace(card, training=facts, results=results(rungs))
    return Trained(out, weights.save_model(network, out, card), rungs)


def train_pairs(folder: str | Path, out: str | Path, **options) -> Trained:
    """Train a look on a folder of pairs; `options` as for `train`."""
    return train(pair_material(Path(folder)), Path(out), **options)


def fine_tune(
    look: Enhancer, sources: Sequence[Callable[[], Maker]], *, steps: int = 150, seed: int = 0
) -> Enhancer:
    """Return a copy of a network look that was trained further on a few pairs."""
    keras.utils.set_random_seed(seed)
    network = keras.models.clone_model(look.network)
    network.set_weights(look.network.get_weights())
    _compile(network)
    recipe = Recipe()
    material_views = collect(sources, 12 * len(sources), seed, recipe.sampler)
    with tempfile.TemporaryDirectory() as folder:
        training.fit(
            network,
            lambda step: material_views.random_batch(recipe.batch, seed, step),
            training.Schedule(steps, learning_rate=3e-4, warmup=20),
            Path(folder),
            quiet=True,
        )
    return Enhancer(network, look.settings)


def results(rungs: Sequence[Rung]) -> dict[str, float]:
    """Return a ladder as the results of a card, the look itself first."""
    rows = {f"{rung.method}, dB": round(rung.psnr, 2) for rung in reversed(rungs)}
    return rows | {"SSIM": round(rungs[-1].ssim, 4), "test pictures": rungs[-1].pictures}


def _compile(network):
    network.compile(keras.optimizers.Adam(), loss="mse", jit_compile=backend.jit_compile())


def _collect(material, recipe, folder, quiet):
    sampler = recipe.sampler
    on_disk = recipe.views * view_bytes(sampler) > recipe.cache_gb * 2**30
    with progress("making views", recipe.views, unit="views", quiet=quiet) as advance:
        return collect(
            material.sources,
            recipe.views,
            recipe.seed,
            sampler,
            folder=folder / "views" if on_disk else None,
            progress=advance,
        )


def _copy_weights(look, network):
    source = open_look(look)
    if not isinstance(source, Enhancer):
        raise DataError(f"{look} is a colour table; only a network can be trained further.")
    try:
        network.set_weights(source.network.get_weights())
    except ValueError as error:
        raise DataError(f"{look} has other sizes than asked for: {error}") from error


def _write_table_card(path, card, facts, rungs):
    ordered = sorted(rungs, key=lambda rung: rung.method == "global LUT")
    card = dataclasses.replace(
        card, kind="cube", settings={"size": 17}, training=facts, results=results(ordered)
    )
    return weights.write_card(path, card)

"""Exemplar files in, texture files out: what `shared.folders` does with each file."""

import dataclasses
import functools
import hashlib
import importlib.metadata
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from shared import backend, console, images, metrics
from shared.errors import ConvsuiteError
from shared.images import Picture

from . import patches, seamless, synth
from .checkpoint import Checkpoint
from .files import digest, write_text
from .judge import Judge
from .objective import in_tiles
from .synth import Progress, Size, Synthesis, TextureSynthesizer

RESUME_FOLDER = ".resume"
_LARGE = 1024 * 1024
_PROBE = 128
_PROBES = 3
# Tiles compute forward twice, and their surroundings.
_TILING = 1.6


@dataclasses.dataclass(frozen=True)
class Order:
    """What is made of each exemplar.

    Attributes:
        recipe: A key of `synth.RECIPES`.
        weights: A file for the network.
        changes: Fields of the recipe that differ.
        keep_order: With `gram` on VGG-19, take deep correlations, too, for regular exemplars.
        size: Height and width; those of the exemplar, times `factor`, when None.
        factor: Of the size of the exemplar.
        tile: Axes along which the result tiles.
        strip: Keep the middle and make only a border of this width anew, so that it tiles.
        others: Further exemplars, which are mixed in.
        mix: Shares of the exemplars, the file's own first.
        seed: Of the first variant; the others count on.
        variants: How many are made and ranked.
        judge: Weights of the judge that ranks; see `judge.Judge.open`.
        max_pixels: Larger results are refused.
        every: Steps between checkpoints.
        command: The command line, for the card.
        quiet: Do not say how long a large texture will take.
    """

    recipe: str = "gram"
    weights: str | None = None
    changes: dict[str, Any] = dataclasses.field(default_factory=dict)
    keep_order: bool = False
    size: Size | None = None
    factor: float = 1.0
    tile: str = ""
    strip: int = 0
    others: tuple[str, ...] = ()
    mix: tuple[float, ...] | None = None
    seed: int = 0
    variants: int = 1
    judge: str | None = None
    max_pixels: int = 2048 * 2048
    every: int = 20
    command: str = ""
    quiet: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """What the results depend on besides the exemplars."""
        kept = dataclasses.asdict(self)
        for name in ("max_pixels", "every", "command", "quiet"):
            del kept[name]
        return kept


class Exemplar(NamedTuple):
    """A file that was read: its picture, RGB 0..1, and what is to be said about it."""

    path: Path
    picture: np.ndarray
    notes: tuple[str, ...]


class Made(NamedTuple):
    """Results for one file, best first, with what the card says of each."""

    pictures: list[np.ndarray]
    cards: list[dict[str, Any]]
    notes: tuple[str, ...]
    checkpoints: list[Checkpoint]


Watch = Callable[[Path, Progress], None]


class SynthesisWork:
    """Reads exemplars, makes textures, writes PNG and JSON, for `shared.folders`."""

    def __init__(
        self, order: Order, out: Path, device: str, precision: str, watch: Watch | None = None
    ):
        """Open the network, in the process that does the work.

        Args:
            order: What is made.
            out: Folder of the results, where checkpoints are kept.
            device: For `backend.setup`.
            precision: For `backend.setup`.
            watch: Called every few steps with the file and where its synthesis stands.
        """
        if synth.RECIPES[order.recipe].energy != "patch" or order.variants > 1:
            backend.setup(device, precision)  # starts a framework, which patches alone do not need
        self._order, self._out, self._watch = order, out, watch
        self._synthesizer = TextureSynthesizer.from_weights(
            order.recipe, order.weights, **order.changes
        )
        self._others = [self.read(Path(other)) for other in order.others]
        self._judge = Judge.open(order.judge) if order.variants > 1 else None

    def read(self, path: Path) -> Exemplar:
        """Read an exemplar; transparency is left out, and said."""
        loaded = images.load(path)
        notes = loaded.notes
        if loaded.alpha is not None:
            notes += ("transparency is left out",)
        picture = display_referred(loaded)
        try:
            synth.check(picture)
        except ConvsuiteError as error:
            raise ConvsuiteError(f"{path}: {error}") from error
        return Exemplar(path, picture, notes)

    def apply(self, exemplar: Exemplar) -> Made:
        """Make and rank the variants."""
        order = self._order
        pictures = [exemplar.picture, *(other.picture for other in self._others)]
        size = order.size or tuple(round(order.factor * n) for n in exemplar.picture.shape[:2])
        check_size(size, order.max_pixels)
        synthesizer, notes = self._synthesizer_for(pictures, size)
        if size[0] * size[1] >= _LARGE and not order.quiet:
            seconds = order.variants * estimate(synthesizer, exemplar.picture, size)
            console.console.print(
                f"{exemplar.path.name}: {size[1]}x{size[0]} pixels, about {_duration(seconds)} "
                "on this machine",
                markup=False,
                soft_wrap=True,
            )
        start = time.perf_counter()
        results, checkpoints = [], []
        for seed in range(order.seed, order.seed + order.variants):
            checkpoint = self._checkpoint(synthesizer.recipe, exemplar, size, seed)
            made = self._one(synthesizer, exemplar.path, pictures, size, seed, checkpoint)
            results.append((seed, made))
            checkpoints.append(checkpoint)
        seconds = (time.perf_counter() - start) / order.variants
        scores = [self._score(result.picture, exemplar.picture) for _, result in results]
        results = [(seed, self._checked(result)) for seed, result in results]
        ranked = sorted(zip(results, scores, strict=True), key=lambda pair: pair[1].get("sw", 0.0))
        cards = [
            self._card(synthesizer.recipe, exemplar, seed, result, score, seconds)
            for (seed, result), score in ranked
        ]
        notes += [*exemplar.notes, *(n for other in self._others for n in other.notes)]
        notes += ranked[0][0][1].notes
        return Made(
            [result.picture for (_, result), _ in ranked],
            cards,
            tuple(dict.fromkeys(notes)),
            checkpoints,
        )

    def write(self, made: Made, path: Path) -> tuple[str, ...]:
        """Write the best as `path`, the others beside it with their rank, cards with each."""
        names = variant_names(path, len(made.pictures))
        # The best comes last: once it is there, the exemplar counts as done.
        for target, picture, card in reversed(
            list(zip(names, made.pictures, made.cards, strict=True))
        ):
            write_text(target.with_suffix(".json"), console.to_json(card, indent=1) + "\n")
            images.write(target, picture)
        for checkpoint in made.checkpoints:
            checkpoint.remove()
        return made.notes

    def _synthesizer_for(self, pictures, size) -> tuple[TextureSynthesizer, list[str]]:
        """Return the synthesizer for an exemplar, and what is to be said about it."""
        recipe = self._synthesizer.recipe
        can_order = recipe.energy == "gram" and recipe.network == "vgg19"
        can_order &= self._synthesizer.keeps_order(
            pictures, size, is_started=bool(self._order.strip)
        )
        if self._order.keep_order and can_order:
            regularity = metrics.regularity(pictures[0])
            if regularity >= synth.REGULAR:
                note = (
                    f"repeats ({regularity:.2f} of 1), so its order is kept as --energy dcor does"
                )
                return self._ordered, [note]
        return self._synthesizer, []

    @functools.cached_property
    def _ordered(self) -> TextureSynthesizer:
        return synth.ordered(self._synthesizer)

    def _one(self, synthesizer, path, pictures, size, seed, checkpoint) -> Synthesis:
        watch = None
        if self._watch is not None:

            def watch(progress: Progress) -> None:
                self._watch(path, progress)

        order = self._order
        every = 5
        if order.strip:
            return seamless.seamless(
                synthesizer, pictures[0], order.strip, seed=seed,
                checkpoint=checkpoint, watch=watch, every=every,
            )  # fmt: skip
        return synthesizer.synthesise(
            pictures, size, tile=order.tile, mix=order.mix, seed=seed,
            checkpoint=checkpoint, watch=watch, every=every,
        )  # fmt: skip

    def _checkpoint(self, recipe, exemplar: Exemplar, size: Size, seed: int) -> Checkpoint:
        order = self._order
        settings = {
            "recipe": dataclasses.asdict(recipe),
            "pictures": [digest(e.picture) for e in (exemplar, *self._others)],
            "size": size, "tile": order.tile, "strip": order.strip, "mix": order.mix,
            "seed": seed, "weights": order.weights, "precision": backend.precision_in_use(),
        }  # fmt: skip
        key = hashlib.sha256(console.to_json(settings).encode()).hexdigest()[:12]
        path = self._out / RESUME_FOLDER / f"{exemplar.path.stem}-{key}.npz"
        return Checkpoint(path, settings, every=order.every)

    @property
    def _tiling(self) -> str:
        return "xy" if self._order.strip else self._order.tile

    def _seam(self, picture: np.ndarray) -> float:
        """Return how visible the border is in the file."""
        return round(metrics.tileability(images.from_float(picture, np.uint8), self._tiling), 3)

    def _checked(self, result: Synthesis) -> Synthesis:
        """Return a result that says so if its border may be seen where it should tile."""
        if not self._tiling or self._seam(result.picture) <= metrics.VISIBLE_SEAM:
            return result
        note = f"the border may be seen (seam {self._seam(result.picture):.2f}); try another --seed"
        return result._replace(notes=(*result.notes, note))

    def _score(self, picture, exemplar) -> dict[str, float]:
        return {} if self._judge is None else self._judge(picture, exemplar)._asdict()

    def _card(self, recipe, exemplar, seed, result, score, seconds) -> dict[str, Any]:
        order = self._order
        height, width = result.picture.shape[:2]
        card = {
            "command": order.command,
            "exemplars": [
                {"file": e.path.name, "sha256 of pixels": digest(e.picture)}
                for e in (exemplar, *self._others)
            ],
            "size": f"{width}x{height}",
            "tile": self._tiling,
            "seed": seed,
            "energy": order.recipe if recipe is self._synthesizer.recipe else recipe.energy,
            "recipe": dataclasses.asdict(recipe),
            "network": None if recipe.energy == "patch" else recipe.network,
            "weights": order.weights,
            "backend": backend.name(),
            "precision": backend.precision_in_use(),
            "convsuite": importlib.metadata.version("convsuite"),
            "seconds": round(seconds, 1),
            "notes": result.notes,
            "curves": [[float(f"{value:.6g}") for value in curve] for curve in result.curves],
        }
        if self._tiling:
            card["seam"] = self._seam(result.picture)
        if order.strip:
            card["strip"] = order.strip
        if order.mix is not None:
            card["mix"] = order.mix
        if score:
            card["judge"], card["score"] = self._judge.network, score
        return card


def variant_names(path: Path, count: int) -> list[Path]:
    """Return where variants go, the best first."""
    others = (path.with_name(f"{path.stem}-{rank}{path.suffix}") for rank in range(2, count + 1))
    return [path, *others]


def check_size(size: Size, most: int) -> None:
    """Refuse a size that is too small, or larger than the person wants to wait for.

    Raises:
        ConvsuiteError: It is.
    """
    height, width = size
    if min(size) < synth.SMALLEST:
        raise ConvsuiteError(
            f"a texture of {width}x{height} pixels is too small; the least is "
            f"{synth.SMALLEST}x{synth.SMALLEST}."
        )
    if height * width > most:
        raise ConvsuiteError(
            f"a texture of {width}x{height} has {height * width:,} pixels, more than {most:,}; "
            "allow it with --max-pixels."
        )


def estimate(synthesizer: TextureSynthesizer, exemplar: np.ndarray, size: Size) -> float:
    """Return about how many seconds a texture takes on this machine; measures a small one."""
    small = exemplar[:_PROBE, :_PROBE]
    seconds = functools.cache(functools.partial(_seconds, synthesizer, small))
    total = 0.0
    for stage in synthesizer.stages([exemplar], size):
        at = tuple(length >> stage.octave for length in size)
        tiling = _TILING if stage.energy == "features" and in_tiles(at) else 1.0
        each = seconds(stage.energy, stage.dtype) * tiling
        total += stage.steps * each * math.prod(at)
    return total


def _seconds(synthesizer, small, energy, dtype) -> float:
    """Return the seconds of a step, a pixel."""
    if energy == "patch":
        patches.descend(small, [small], [1.0], steps=1, projections=synthesizer.recipe.projections)
        start = time.perf_counter()
        patches.descend(
            small, [small], [1.0], steps=_PROBES, projections=synthesizer.recipe.projections
        )
    else:
        borders = ("reflect", "reflect")
        evaluate = synthesizer.evaluation([small], [1.0], small.shape[:2], borders, dtype)
        evaluate(small)  # compiles
        start = time.perf_counter()
        for _ in range(_PROBES):
            evaluate(small)
    return (time.perf_counter() - start) / _PROBES / math.prod(small.shape[:2])


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def parse_size(text: str) -> Size:
    """Return height and width of `WIDTHxHEIGHT`, or of one number for both.

    Raises:
        ConvsuiteError: The text is neither.
    """
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.strip().isdecimal() for part in parts):
        raise ConvsuiteError(f"--size {text}: give WIDTHxHEIGHT in pixels, such as 512x512.")
    width, height = int(parts[0]), int(parts[-1])
    return height, width


def display_referred(picture: Picture) -> np.ndarray:
    """Return the pixels of a picture, RGB, 0..1; linear light is encoded as sRGB."""
    pixels = images.to_float(picture.pixels)
    if picture.linear:
        pixels = images.linear_to_srgb(np.clip(pixels, 0, 1))
    return pixels

"""Textures from exemplars: coarse to fine, tileable, of any size.

Sources: Gatys, Ecker, Bethge, "Texture Synthesis Using Convolutional Neural Networks", NIPS 2015;
Sendik and Cohen-Or, "Deep Correlations for Texture Synthesis", ACM TOG 36(5), 2017; Elnekave and
Weiss, "Generating Natural Images with Direct Patch Distributions Matching", ECCV 2022.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np

from shared import backend
from shared.errors import ConvsuiteError

from . import objective, optimise, patches, start
from .checkpoint import Checkpoint
from .features import Borders, Network, Normalise, has_vgg19, open_network
from .objective import Terms

Energy = Literal["gram", "dcor", "patch", "mix"]
Size = start.Size

SMALLEST = 32
"""Shortest side of an exemplar, in pixels."""
_SMALLEST_OCTAVE = 24
_STRIDE = 8
# Every doubling of a result beyond it is begun at one size more.
_LARGEST_SIMPLE = 512
_SCALES_FROM = 128
_MEMORY_FROM = 1024 * 1024
# bfloat16 finds the way; its last steps are taken again in full precision.
_FLOAT32_STEPS = 20
_SEEDS = 31


_AUTOMATIC_SCALES = Terms(scales=0)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a texture is made; the presets are in `RECIPES`.

    Attributes:
        energy: `gram`, `dcor` (Gram and deep correlations), `patch` (distributions of patches, no
            network), or `mix` (patch, then gram at full size).
        network: Of features, see `features.NETWORKS`.
        normalise: See `features.open_network`.
        terms: Energies of feature maps; `scales` 0 there means two for exemplars of 128 pixels and
            more.
        octaves: Sizes, each half of the next, that are worked on one after the other, for results
            of up to 512 pixels; each doubling adds one, unless there is one only.
        coarse_steps: Steps at the smaller sizes.
        steps: Steps at full size.
        patch_steps: Steps of the patch energy at the smaller sizes and at full size.
        projections: Directions along which it compares patches in each step; more come nearer.
        start: `phase` (random phases), `noise` (nearly flat grey) or `pixels` (of the exemplar).
        deviation: Of the noise, in 8-bit steps.
        bounds: Of the pixels: `unit` (0..1), `exemplar` (its least and largest value), or `wide`
            (one unit around the mean of the network); what is beyond 0..1 is cut off at the end.
        memory: Pairs that L-BFGS remembers.
        tolerance: Relative decrease over 20 steps that is worth going on for.
        still: Largest change of a pixel, in 8-bit steps, that is not worth going on for when no
            step of 51 made a larger one.
        match_colours: Give the result the histograms of the exemplar at the end.
    """

    energy: Energy = "gram"
    network: str = "vgg16_hed"
    normalise: Normalise = "layer"
    terms: Terms = _AUTOMATIC_SCALES
    octaves: int = 2
    coarse_steps: int = 100
    steps: int = 110
    patch_steps: tuple[int, int] = (200, 150)
    projections: int = 128
    start: Literal["phase", "noise", "pixels"] = "phase"
    deviation: float = 1.0
    bounds: Literal["unit", "exemplar", "wide"] = "unit"
    memory: int = 10
    tolerance: float = 1e-4
    still: float = 0.0
    match_colours: bool = False


_CORRELATED = Terms(scales=0, correlation=1e4)
RECIPES = {
    "gram": Recipe(),
    "dcor": Recipe(energy="dcor", terms=_CORRELATED),
    # A patch energy wants more, and smaller, sizes.
    "patch": Recipe(energy="patch", octaves=3),
    "mix": Recipe(energy="mix"),
    # As published: the notebook of Gatys et al. (weight 1e9 there, which moves no minimum); it
    # takes all of 2000 steps, which is an hour.
    "gatys": Recipe(
        network="vgg19",
        normalise="channel",
        terms=Terms(layers=("conv1_1", "pool1", "pool2", "pool3", "pool4")),
        octaves=1,
        steps=2000,
        start="noise",
        bounds="exemplar",
        memory=20,
        match_colours=True,
    ),
    # As published: DCor of Sendik and Cohen-Or. Their Gram term is a quarter of ours, times 1/2.
    "sendik": Recipe(
        energy="dcor",
        network="vgg19",
        normalise="none",
        terms=Terms(
            gram=0.125,
            layers=("pool1", "pool2", "pool3", "pool4"),
            correlation_sum=0.5e-4,
            diversity=-1e-6,
            smoothness=-7.5e-6,
        ),
        octaves=1,
        steps=300,
        start="noise",
        deviation=0.1,
        bounds="wide",
        memory=5,
        tolerance=0.0,
        still=0.5,
    ),
}


REGULAR = 0.3
"""`shared.metrics.regularity` of exemplars from which on their order is kept."""


def default_network() -> str | None:
    """Return the best network of features on this machine; None leaves that of the recipe."""
    return "vgg19" if has_vgg19() else None


def automatic(network: str | None) -> str:
    """Return the recipe that is taken where none is named; see the README for the table behind it.

    `gram` if a network is named, or if VGG-19 is on this machine; else `patch`, which comes as near
    to exemplars as `gram` on the network that is installed, and nearer to their order.

    Args:
        network: That is named, or `default_network`.
    """
    return "patch" if network is None else "gram"


def ordered(synthesizer: "TextureSynthesizer") -> "TextureSynthesizer":
    """Return a synthesizer of the same network that keeps deep correlations, too."""
    recipe = synthesizer.recipe
    terms = dataclasses.replace(recipe.terms, correlation=RECIPES["dcor"].terms.correlation)
    return TextureSynthesizer(
        dataclasses.replace(recipe, energy="dcor", terms=terms), synthesizer.network
    )


class Stage(NamedTuple):
    """A part of a synthesis.

    Attributes:
        octave: How often the size is halved; 0 is full size.
        energy: What falls.
        steps: Most steps.
        dtype: What the network computes in.
    """

    octave: int
    energy: Literal["patch", "features"]
    steps: int
    dtype: str


class Progress(NamedTuple):
    """Where a synthesis stands.

    Attributes:
        stage: Number of the stage, from 1.
        stages: How many there are.
        step: Done in this stage.
        steps: Most steps of this stage.
        energy: Of the picture.
        picture: At the size of this stage.
    """

    stage: int
    stages: int
    step: int
    steps: int
    energy: float
    picture: np.ndarray


Watch = Callable[[Progress], None]


class Synthesis(NamedTuple):
    """A texture and how it came about.

    Attributes:
        picture: `(height, width, 3)`, RGB, 0..1.
        curves: Energy at the start and after each step, stage by stage.
        notes: What a person should know.
    """

    picture: np.ndarray
    curves: list[list[float]]
    notes: tuple[str, ...]


class TextureSynthesizer:
    """Makes textures that look like exemplars and are arranged differently.

    Attributes:
        recipe: How.
        network: Features; None for the patch energy.
    """

    def __init__(self, recipe: Recipe, network: Network | None = None):
        """Take a recipe, and the network it names, opened by `open_network`."""
        self.recipe = recipe
        self.network = network

    @classmethod
    def from_weights(
        cls, name: str = "gram", weights: str | Path | None = None, **changes: Any
    ) -> "TextureSynthesizer":
        """Open a recipe and its network.

        Args:
            name: A key of `RECIPES`.
            weights: A file for the network.
            **changes: Fields of `Recipe` that differ.

        Raises:
            ConvsuiteError: Unknown recipe or network.
            WeightsError: Weights are missing or do not fit.
        """
        if name not in RECIPES:
            raise ConvsuiteError(f"{name}: no such energy; there are {', '.join(RECIPES)}.")
        recipe = dataclasses.replace(RECIPES[name], **changes)
        if recipe.energy == "patch":
            return cls(recipe)
        network = open_network(
            recipe.network, weights, taps=recipe.terms.taps, normalise=recipe.normalise
        )
        return cls(recipe, network)

    @property
    def stride(self) -> int:
        """Of which sizes must be multiples, in pixels: what the pools of the network divide."""
        return 1 if self.recipe.energy == "patch" else _STRIDE

    def __call__(
        self,
        exemplars: np.ndarray | Sequence[np.ndarray],
        size: Size | None = None,
        tile: str = "",
        mix: Sequence[float] | None = None,
        seed: int = 0,
    ) -> np.ndarray:
        """Return the picture of `synthesise`."""
        if isinstance(exemplars, np.ndarray):
            exemplars = [exemplars]
        return self.synthesise(exemplars, size, tile=tile, mix=mix, seed=seed).picture

    def synthesise(
        self,
        exemplars: Sequence[np.ndarray],
        size: Size | None = None,
        *,
        tile: str = "",
        mix: Sequence[float] | None = None,
        seed: int = 0,
        mask: np.ndarray | None = None,
        first: np.ndarray | None = None,
        checkpoint: Checkpoint | None = None,
        watch: Watch | None = None,
        every: int = 20,
    ) -> Synthesis:
        """Make a texture.

        Args:
            exemplars: `(height, width, 3)`, RGB, 0..1, 32 pixels or more.
            size: Height and width; those of the first exemplar by default. Along an axis that tiles
                it is rounded up, and said.
            tile: Axes along which the result tiles: `""`, `x`, `y` or `xy`.
            mix: Shares of the exemplars; equal by default, scaled to sum to 1.
            seed: Start of the random numbers.
            mask: `(height, width)`, 1 where the picture may change; with `first` only.
            first: Picture to start from at full size, without smaller sizes before.
            checkpoint: Where to leave what is needed to go on, and to look for it.
            watch: Called every so many steps.
            every: Steps between calls of `watch`.

        Raises:
            ConvsuiteError: An exemplar is too small or holds no picture, or the result is too large
                for deep correlations.
        """
        size = size or exemplars[0].shape[:2]
        shares, notes = shares_of(mix, len(exemplars))
        for exemplar in exemplars:
            check(exemplar)
        if all(np.ptp(exemplar, axis=(0, 1)).max() == 0 for exemplar in exemplars):
            colour = sum(s * e[0, 0] for s, e in zip(shares, exemplars, strict=True))
            flat = np.broadcast_to(colour, (*size, 3)).astype(np.float32)
            return Synthesis(flat, [], (*notes, "an exemplar of one colour gives that colour"))
        stages = self.stages(exemplars, size, is_started=first is not None)
        worked, notes = _whole_strides(size, tile, self.stride << stages[0].octave, notes)
        if self.recipe.terms.needs_whole:
            notes += self._where_ordered(exemplars, worked, stages[0].octave)
        borders: Borders = tuple("wrap" if axis in tile else "reflect" for axis in "yx")
        stored = checkpoint.load() if checkpoint is not None else None
        begin, picture, curves = (
            (0, first, []) if stored is None else (stored.stage, stored.picture, stored.curves)
        )
        for number in range(begin, len(stages)):
            stage = stages[number]
            small = [reduced(exemplar, stage.octave) for exemplar in exemplars]
            at = tuple(length >> stage.octave for length in worked)
            if picture is None:
                picture = self._first(small[0], at, seed)
            elif picture.shape[:2] != at:
                picture = enlarged(picture, at, borders)
            seen, calls = _watcher(checkpoint, watch, every, number, stages, curves)
            picture, curve = self._solve(
                stage,
                small,
                shares,
                picture,
                borders=borders,
                seed=seed,
                mask=mask,
                state=stored.state if stored is not None and number == begin else None,
                every=calls,
                watch=seen,
            )
            curves = [*curves, curve]
        height, width = (
            w if axis in tile else s for axis, w, s in zip("yx", worked, size, strict=True)
        )
        picture = np.clip(picture[:height, :width], 0, 1)
        if self.recipe.match_colours and mask is None:
            picture = matched(picture, exemplars, shares)
        return Synthesis(np.ascontiguousarray(picture), curves, notes)

    def stages(
        self, exemplars: Sequence[np.ndarray], size: Size, *, is_started: bool = False
    ) -> list[Stage]:
        """Return what is done one after the other, smallest size first.

        Args:
            exemplars: Sizes of these limit how often can be halved.
            size: Height and width of the result.
            is_started: There is a picture at full size already.
        """
        shortest = min(*size, *(min(e.shape[:2]) for e in exemplars))
        most = int(np.log2(max(shortest / _SMALLEST_OCTAVE, 1))) + 1
        octaves = self.recipe.octaves
        if octaves > 1:
            octaves += max(0, round(math.log2(max(size) / _LARGEST_SIMPLE)))
        octaves = 1 if is_started else max(1, min(octaves, most))
        dtype = backend.precision_in_use()
        found = []
        for octave in range(octaves - 1, -1, -1):
            energy = self.recipe.energy
            if energy == "patch" or (energy == "mix" and octave):
                steps = self.recipe.patch_steps[octave == 0]
                found.append(Stage(octave, "patch", steps, "float32"))
                continue
            steps = self.recipe.coarse_steps if octave else self.recipe.steps
            exact = min(_FLOAT32_STEPS, steps) if dtype != "float32" and not octave else 0
            if steps > exact:
                found.append(Stage(octave, "features", steps - exact, dtype))
            if exact:
                found.append(Stage(octave, "features", exact, "float32"))
        return found

    def keeps_order(
        self, exemplars: Sequence[np.ndarray], size: Size, *, is_started: bool = False
    ) -> bool:
        """Return whether deep correlations count at one size at least, see `stages`."""
        octave = self.stages(exemplars, size, is_started=is_started)[0].octave
        return not _is_large([e.shape[:2] for e in exemplars], size, octave)

    def _where_ordered(self, exemplars, size, octave) -> tuple[str, ...]:
        """Return a note where deep correlations count at smaller sizes only.

        Raises:
            ConvsuiteError: They count at none.
        """
        shapes = [exemplar.shape[:2] for exemplar in exemplars]
        if _is_large(shapes, size, octave):
            height, width = (length >> octave for length in max([size, *shapes], key=math.prod))
            raise ConvsuiteError(
                f"{width}x{height} pixels are too large for deep correlations, which must be held "
                f"in memory; stay below {objective.WHOLE:,} pixels, allow more --octaves, or use "
                "--energy gram."
            )
        counts = next(o for o in range(octave + 1) if not _is_large(shapes, size, o))
        if not counts:
            return ()
        height, width = (length >> counts for length in size)
        return (f"deep correlations count up to {width}x{height}, Gram matrices beyond",)

    def _first(self, exemplar, size, seed):
        kind = self.recipe.start
        if kind == "phase":
            return start.random_phase(exemplar, size, seed)
        if kind == "pixels":
            return start.pixels(exemplar, size, seed)
        mean = 0.5 if self.network is None else self.network.mean
        return start.noise(size, seed, mean=mean, deviation=self.recipe.deviation / 255)

    def _bounds(self, exemplars):
        if self.recipe.bounds == "exemplar":
            return min(float(e.min()) for e in exemplars), max(float(e.max()) for e in exemplars)
        if self.recipe.bounds == "wide":
            return self.network.mean - 1, self.network.mean + 1
        return 0.0, 1.0

    def _solve(
        self, stage, exemplars, shares, picture, *, borders, seed, mask, state, every, watch
    ):
        if stage.energy == "patch":
            return patches.descend(
                picture,
                exemplars,
                shares,
                steps=stage.steps,
                projections=self.recipe.projections,
                borders=borders,
                mask=mask,
                seed=seed * _SEEDS + stage.octave,
                state=state,
                every=every,
                watch=watch,
            )
        is_large = picture.shape[0] * picture.shape[1] > _MEMORY_FROM
        result = optimise.lbfgs(
            self.evaluation(exemplars, shares, picture.shape[:2], borders, stage.dtype),
            picture,
            steps=stage.steps,
            bounds=self._bounds(exemplars),
            memory=min(5, self.recipe.memory) if is_large else self.recipe.memory,
            tolerance=self.recipe.tolerance,
            still=self.recipe.still / 255,
            mask=None if mask is None else mask[..., None],
            state=state,
            every=every,
            watch=watch,
        )
        return result.picture, result.curve

    def evaluation(
        self,
        exemplars: Sequence[np.ndarray],
        shares: Sequence[float],
        size: Size,
        borders: Borders,
        dtype: str = "float32",
    ) -> objective.Evaluate:
        """Return energy and gradient of a picture of some size, computed in tiles if it is large.

        Of large pictures, or exemplars, Gram matrices alone count.

        Args:
            exemplars: `(height, width, 3)` each, at the scale of the picture.
            shares: Of the exemplars.
            size: Height and width of the picture.
            borders: What lies beyond it.
            dtype: What the network computes in.
        """
        terms = self.recipe.terms
        if not terms.scales:
            shortest = min(*size, *(min(e.shape[:2]) for e in exemplars))
            terms = dataclasses.replace(terms, scales=2 if shortest >= _SCALES_FROM else 1)
        if terms.needs_whole and _is_large([e.shape[:2] for e in exemplars], size):
            terms = terms.gram_alone
        targets = objective.statistics(self.network, terms, exemplars, shares, size, dtype)
        make = objective.tiled if objective.in_tiles(size) else objective.whole
        return make(self.network, terms, targets, borders, dtype)


def _watcher(checkpoint, watch, every, number, stages, curves):
    """Return what a solver calls in one stage, and every how many steps."""
    stage = stages[number]
    wanted = [every] * (watch is not None)
    wanted += [checkpoint.every] if checkpoint is not None else []
    if not wanted:
        return None, stage.steps

    def seen(step: int, energy: float, picture: np.ndarray, state: optimise.State) -> None:
        if checkpoint is not None and step % checkpoint.every == 0:
            checkpoint.save(number, picture, state, curves)
        if watch is not None and step % every == 0:
            shown = np.clip(picture, 0, 1)
            watch(Progress(number + 1, len(stages), step, stage.steps, energy, shown))

    return seen, math.gcd(*wanted)


def check(exemplar: np.ndarray) -> None:
    """Refuse what no texture can be learned from.

    Raises:
        ConvsuiteError: Smaller than 32 pixels, or values that are no numbers.
    """
    height, width = exemplar.shape[:2]
    if min(height, width) < SMALLEST:
        raise ConvsuiteError(
            f"the exemplar has {width}x{height} pixels; give one of at least {SMALLEST}x{SMALLEST}."
        )
    if not np.isfinite(exemplar).all():
        raise ConvsuiteError("the exemplar holds NaN or infinite values; repair it first.")


def shares_of(mix: Sequence[float] | None, count: int) -> tuple[list[float], tuple[str, ...]]:
    """Return the shares of exemplars, which sum to 1, and a note where they had to be scaled.

    Raises:
        ConvsuiteError: Another number of shares than exemplars, a negative one, or all zero.
    """
    if mix is None:
        return [1 / count] * count, ()
    if len(mix) != count:
        raise ConvsuiteError(
            f"--mix has {len(mix)} shares for {count} exemplars; give one for each."
        )
    total = float(sum(mix))
    if min(mix) < 0 or not 0 < total < math.inf:
        raise ConvsuiteError("--mix takes shares of 0 and more, one of which is above 0.")
    shares = [share / total for share in mix]
    if abs(total - 1) < 1e-6:
        return shares, ()
    shown = ", ".join(f"{share:.3g}" for share in shares)
    return shares, (f"the shares sum to {total:.3g}; {shown} is used",)


def reduced(exemplar: np.ndarray, octave: int) -> np.ndarray:
    """Halve a picture so many times, by area."""
    if not octave:
        return exemplar
    height, width = (length >> octave for length in exemplar.shape[:2])
    return cv2.resize(exemplar, (width, height), interpolation=cv2.INTER_AREA)


def enlarged(picture: np.ndarray, size: Size, borders: Borders) -> np.ndarray:
    """Enlarge a picture by cubic interpolation, across its rim where it goes round."""
    around = 4
    modes = {"wrap": "wrap", "reflect": "symmetric", "zero": "edge"}
    for axis, border in enumerate(borders):
        width = [(0, 0)] * 3
        width[axis] = (around, around)
        picture = np.pad(picture, width, mode=modes[border])
    factors = [
        length / (have - 2 * around) for length, have in zip(size, picture.shape[:2], strict=True)
    ]
    whole = tuple(round(have * f) for have, f in zip(picture.shape[:2], factors, strict=True))
    large = cv2.resize(picture, whole[::-1], interpolation=cv2.INTER_CUBIC)
    top, left = ((have - length) // 2 for have, length in zip(whole, size, strict=True))
    return np.clip(large[top : top + size[0], left : left + size[1]], 0, 1)


def matched(
    picture: np.ndarray, exemplars: Sequence[np.ndarray], shares: Sequence[float]
) -> np.ndarray:
    """Give every channel the histogram of the exemplars, as the authors' notebook does for one.

    Quantiles are the weighted means of those of the exemplars.
    """
    from skimage.exposure import match_histograms

    changed = [match_histograms(picture, exemplar, channel_axis=-1) for exemplar in exemplars]
    return sum(s * c for s, c in zip(shares, changed, strict=True)).astype(np.float32)


def _is_large(shapes: Sequence[Size], size: Size, octave: int = 0) -> bool:
    """Return whether exemplars or a result, halved so often, are worked on in tiles."""
    halved = ([length >> octave for length in shape] for shape in (*shapes, size))
    return any(map(objective.in_tiles, halved))


def _whole_strides(size, tile, step, notes):
    """Return a size that is a multiple of a step, and the notes with a remark.

    The pools of a network must divide every halving. Where the result tiles it must be that large;
    elsewhere the rest is cut off at the end.
    """
    worked = tuple(-(-length // step) * step for length in size)
    changed = [
        a for a, have, want in zip("yx", worked, size, strict=True) if a in tile and have != want
    ]
    if changed:
        height, width = (w if a in tile else s for a, w, s in zip("yx", worked, size, strict=True))
        notes += (f"rounded up to {width}x{height}, so that it tiles (multiples of {step})",)
    return worked, notes

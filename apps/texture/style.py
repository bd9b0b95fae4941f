"""Style transfer: the content of one picture in the texture of another.

Source: Gatys, Ecker, Bethge, "Image Style Transfer Using Convolutional Neural Networks", CVPR 2016
(S); Gatys, Bethge, Hertzmann, Shechtman, "Preserving Color in Neural Artistic Style Transfer", 2016
(P), luminance-only transfer and transfer of colours.
"""

import dataclasses
import functools
import importlib.metadata
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import lazy_loader as lazy
import numpy as np

from shared import backend, console, images
from shared.errors import ConvsuiteError, ImageError
from shared.images import Picture

from . import energy, optimise
from .features import Network, by_shape, open_network
from .files import digest

keras = lazy.load("keras")

_STYLE = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
_CONTENT = "conv4_2"
# What a file of VGG-19 up to its third block allows.
_SHALLOW_STYLE = ("conv1_1", "pool1", "pool2", "pool3")
_SHALLOW_CONTENT = "conv3_1"
_STYLE_WEIGHT = 100.0
_MEMORY = 10
_LONGEST_STYLE = 2048
# Two positions of the deepest maps, which reflect at their rims.
_SMALLEST = 32
COARSE_STEPS = 60
"""Steps at half size."""
_WATCHED = 5
# Y, I, Q of NTSC from red, green, blue.
_YIQ = np.array(
    [[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]], np.float32
)


@dataclasses.dataclass(frozen=True)
class StyleRecipe:
    """How style is transferred.

    Attributes:
        content_weight: Of the content; 1 to 100 is the useful range, more keeps more of it.
        keep_colour: Transfer luminance alone and keep the colours of the content.
        style_scale: Size of the style picture, relative to that of the content.
        side: Longest side that is worked at, in pixels; larger pictures are enlarged at the end. A
            style is at most 2048 pixels long there.
        steps: Steps at half size and at full size.
    """

    content_weight: float = 30.0
    keep_colour: bool = False
    style_scale: float = 1.0
    side: int = 512
    steps: tuple[int, int] = (COARSE_STEPS, 40)


@dataclasses.dataclass(frozen=True)
class Stylised:
    """A picture in another style.

    Attributes:
        picture: `(height, width, 3)`, RGB, 0..1.
        content: Mean square error of the content's features, relative to their mean square.
        style: Mean over layers of the relative square distance of Gram matrices.
        curve: Energy at the start and after each step at full size.
    """

    picture: np.ndarray
    content: float
    style: float
    curve: list[float]


class StyleTransfer:
    """Gives pictures the style of some pictures; a filter of `shared.filters`.

    Attributes:
        strength: 0 leaves the picture, 1 is the style, between the two are mixed.
        recipe: How.
        network: Features.
        card: Settings, errors and energies of the last picture that was filtered.
    """

    def __init__(
        self,
        network: Network,
        styles: Sequence[np.ndarray],
        recipe: StyleRecipe | None = None,
        *,
        strength: float = 1.0,
        watch: optimise.Watch | None = None,
    ):
        """Take a network with the layers it needs, and RGB pictures, 0..1, that have a style.

        Pictures that are filtered are shown to `watch` while they are worked on.
        """
        self.recipe = recipe or StyleRecipe()
        self.strength = strength
        self.network = network
        self.card: dict[str, Any] | None = None
        self._watch = watch
        self._styles = list(styles)
        is_deep = "conv5_1" in network.parameters
        self._style_taps = _STYLE if is_deep else _SHALLOW_STYLE
        self._content_tap = _CONTENT if is_deep else _SHALLOW_CONTENT

    @classmethod
    def from_weights(
        cls,
        name: str = "vgg16_hed",
        styles: Sequence[np.ndarray] = (),
        weights: str | Path | None = None,
        **settings: Any,
    ) -> "StyleTransfer":
        """Open a network of features.

        Args:
            name: See `features.NETWORKS`.
            styles: Pictures that have the style.
            weights: A file for the network; one of VGG-19 up to its third block will do.
            **settings: Fields of `StyleRecipe`, `strength` and `watch`.

        Raises:
            WeightsError: Weights are missing or do not fit.
        """
        if not styles:
            raise ConvsuiteError("a style is needed; name pictures that have it with --style.")
        own = {key: settings.pop(key) for key in ("strength", "watch") if key in settings}
        return cls(open_features(name, weights), styles, StyleRecipe(**settings), **own)

    def stylise(
        self,
        picture: np.ndarray,
        watch: optimise.Watch | None = None,
        every: int = 20,
    ) -> Stylised:
        """Transfer the style.

        Args:
            picture: The content, `(height, width, 3)`, RGB, 0..1; worked at `recipe.side`.
            watch: See `optimise.Watch`; called with the picture that is worked on.
            every: Steps between calls of `watch`.

        Raises:
            ConvsuiteError: The picture is too small, or too narrow for the side it is worked at.
        """
        recipe = self.recipe
        content = limited(picture, recipe.side)
        if min(content.shape[:2]) < _SMALLEST:
            height, width = content.shape[:2]
            raise ConvsuiteError(
                f"the picture has {width}x{height} pixels where it is worked at; style transfer "
                f"needs {_SMALLEST}x{_SMALLEST}, so take a larger picture, or a larger --side."
            )
        styles = [self._scaled(style, content.shape[:2]) for style in self._styles]
        if recipe.keep_colour:
            content, styles = _luminance(content), [_luminance(style) for style in styles]
            styles = [_like(style, content) for style in styles]
        result, terms, curve = self._run(content, styles, watch, every)
        result = _resized(result, size=picture.shape[:2])
        if recipe.keep_colour:
            result = _coloured(result @ _YIQ[0], picture)
        return Stylised(np.clip(result, 0, 1), *terms, curve)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Filter RGB pixels, `(height, width, 3)` uint8, uint16 or float32; the type stays."""
        picture = images.to_float(pixels)
        begin = time.perf_counter()
        done = self.stylise(picture, self._watch, _WATCHED)
        self.card = {
            "command": console.command_line(),
            "sha256 of pixels": {
                "content": digest(picture), "styles": [digest(style) for style in self._styles],
            },
            "recipe": dataclasses.asdict(self.recipe),
            "strength": self.strength,
            "network": self.network.name,
            "backend": backend.name(),
            "precision": backend.precision_in_use(),
            "convsuite": importlib.metadata.version("convsuite"),
            "seconds": round(time.perf_counter() - begin, 1),
            "errors": {"content": done.content, "style": done.style},
            "curve": [float(f"{value:.6g}") for value in done.curve],
        }  # fmt: skip
        mixed = picture + np.float32(self.strength) * (done.picture - picture)
        return images.from_float(np.clip(mixed, 0, 1), pixels.dtype)

    def stream(self, fps: float) -> Callable[[np.ndarray], np.ndarray]:
        """Return a function of the frames of a video: each for itself, from the frame itself."""
        return self

    def bands(self, pixels: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Refuse pictures that do not fit into memory.

        Raises:
            ImageError: Always.
        """
        raise ImageError("the picture is too large for style transfer; reduce it first.")

    def prepare(self, picture: Picture) -> Picture:
        """Take linear light as display-referred sRGB, which the network was trained on."""
        if not picture.linear:
            return picture
        pixels = images.linear_to_srgb(np.clip(np.nan_to_num(picture.pixels), 0, 1))
        notes = (*picture.notes, "values above 1 are clipped")
        return dataclasses.replace(picture, pixels=pixels, linear=False, notes=notes)

    def _scaled(self, style: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Return a style picture whose longest side is that of the content, times the scale."""
        longest = min(self.recipe.style_scale * max(size), _LONGEST_STYLE)
        factor = longest / max(style.shape[:2])
        shape = [max(_SMALLEST, round(factor * length)) for length in style.shape[:2]]
        method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
        return np.clip(cv2.resize(style, shape[::-1], interpolation=method), 0, 1)

    def _run(self, content, styles, watch, every):
        curve, result = [], None
        terms = (0.0, 0.0)
        is_small = min(content.shape[:2]) < 128
        for octave, steps in zip((1, 0), self.recipe.steps, strict=True):
            if octave and (is_small or not steps):
                continue
            factor = 0.5**octave
            small = _resized(content, factor)
            start = None if result is None else _resized(result, size=content.shape[:2])
            others = [_resized(style, size=_halved(style.shape[:2], octave)) for style in styles]
            result, terms, curve = self._optimised(small, others, start, steps, watch, every)
        return result, terms, curve

    def errors(self, picture: np.ndarray, content: np.ndarray) -> tuple[float, float]:
        """Return how far a picture is from a content and from the style, as `Stylised` has it.

        Args:
            picture: `(height, width, 3)`, RGB, 0..1; a result, of whatever origin.
            content: What it was made from, of the same size.
        """
        content = limited(content, self.recipe.side)
        styles = [self._scaled(style, content.shape[:2]) for style in self._styles]
        terms, _ = self._objective(content, styles)(limited(picture, self.recipe.side))
        return terms[1:]

    def _optimised(self, content, styles, start, steps, watch, every):
        objective = self._objective(content, styles)
        if start is None:
            # Colours of the style are far to go for hundreds of steps, unless content counts more.
            starts = content, with_colours_of(content, styles[0])
            start = min(starts, key=lambda picture: objective(picture)[0][0])

        def evaluate(picture):
            terms, gradient = objective(picture)
            return terms[0], gradient

        done = optimise.lbfgs(
            evaluate, start, steps=steps, memory=_MEMORY, every=every, watch=watch
        )
        return done.picture, objective(done.picture)[0][1:], done.curve

    def _objective(self, content, styles):
        """Return the function of a picture that gives (energy, content, style) and a gradient."""
        described, differentiate = self._compiled
        parameters = self.network.parameters
        grams = energy.mixed(
            [described(parameters, style)[0] for style in styles], [1 / len(styles)] * len(styles)
        )
        wanted = described(parameters, content)[1]
        weight = np.float32(self.recipe.content_weight)
        kept = keras.tree.map_structure(
            keras.ops.convert_to_tensor, (parameters, grams, wanted, weight)
        )

        def objective(picture):
            terms, gradient = differentiate(picture, *kept)
            return tuple(map(float, terms)), gradient

        return objective

    @functools.cached_property
    def _compiled(self):
        """The functions of pictures that are optimised, compiled once for all of one size."""
        dtype = backend.precision_in_use()
        taps = list(dict.fromkeys([*self._style_taps, self._content_tap]))
        network = self.network

        def described(parameters, picture):
            maps = network.maps(parameters, picture, taps, dtype=dtype)
            grams = {tap: energy.gram(maps[tap]) for tap in self._style_taps}
            return grams, maps[self._content_tap]

        def run(picture, parameters, grams, wanted, weight):
            found, features = described(parameters, picture)
            distances = [energy.relative_gram_distance(found[tap], grams[tap]) for tap in found]
            style = sum(distances) / len(distances)
            content = energy.content(features, wanted)
            return weight * content + _STYLE_WEIGHT * style, content, style

        return (
            by_shape(backend.compiled, described, 1),
            by_shape(backend.value_and_grad, run, 0),
        )


def open_features(name: str, weights: str | Path | None = None) -> Network:
    """Open a network with the layers that style transfer needs, or those that a short file has.

    Args:
        name: See `features.NETWORKS`.
        weights: A file for the network; one of VGG-19 up to its third block will do.

    Raises:
        WeightsError: Weights are missing or do not fit.
    """
    try:
        return open_network(name, weights, taps=[*_STYLE, _CONTENT])
    except ConvsuiteError:
        if weights is None and name != "random":
            raise
        return open_network(name, weights, taps=[*_SHALLOW_STYLE, _SHALLOW_CONTENT])


def _halved(size: tuple[int, int], octave: int) -> tuple[int, int]:
    return tuple(max(_SMALLEST, length >> octave) for length in size)


def limited(picture: np.ndarray, side: int) -> np.ndarray:
    """Return a picture, reduced until its longest side has `side` pixels if it is larger."""
    factor = side / max(picture.shape[:2])
    return picture if factor >= 1 else _resized(picture, factor)


def _resized(
    picture: np.ndarray, factor: float = 1.0, size: tuple[int, int] | None = None
) -> np.ndarray:
    height, width = size or [max(1, round(factor * length)) for length in picture.shape[:2]]
    if (height, width) == picture.shape[:2]:
        return picture
    method = cv2.INTER_AREA if height < picture.shape[0] else cv2.INTER_CUBIC
    return np.clip(cv2.resize(picture, (width, height), interpolation=method), 0, 1)


def _luminance(picture: np.ndarray) -> np.ndarray:
    return np.repeat((picture @ _YIQ[0])[..., None], 3, axis=-1)


def _like(style: np.ndarray, content: np.ndarray) -> np.ndarray:
    """Return a style with the mean and the deviation of the content's luminance. Source: P, 4.2."""
    factor = content.std() / max(float(style.std()), 1e-6)
    return np.clip((style - style.mean()) * factor + content.mean(), 0, 1)


def with_colours_of(picture: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return a picture with mean and covariance of the colours of another, 0..1. Source: P, 4.1."""
    (mean, root), (wanted, wanted_root) = (_colour_statistics(p) for p in (picture, other))
    change = wanted_root @ np.linalg.inv(root)
    return np.clip((picture - mean) @ change.T + wanted, 0, 1).astype(np.float32)


def _colour_statistics(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of the colours and the square root of their covariance."""
    colours = picture.reshape(-1, 3).astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(colours.T) + 1e-5 * np.eye(3))
    return colours.mean(axis=0), (vectors * np.sqrt(values)) @ vectors.T


def _coloured(luminance: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Return RGB of a luminance in the chroma of a picture.

    Luminance gives way where the two leave 0..1 together, since it is the colour that is kept.
    """
    chroma = picture @ _YIQ.T
    chroma[..., 0] = 0
    offsets = chroma @ np.linalg.inv(_YIQ).T.astype(np.float32)
    low, high = -offsets.min(-1), 1 - offsets.max(-1)
    return offsets + np.clip(luminance, low, np.maximum(low, high))[..., None]

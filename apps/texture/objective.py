"""Energy and gradient of a picture against the statistics of exemplars, whole or tile by tile.

Sources: Gatys, Ecker, Bethge, NIPS 2015, equations 1 to 4; Snelgrove, "High-Resolution
Multi-Scale Neural Texture Synthesis", SIGGRAPH Asia Technical Briefs 2017 (statistics at several
scales); Sendik and Cohen-Or, ACM TOG 36(5), 2017 (structure, diversity, smoothness).
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import lazy_loader as lazy
import numpy as np

from shared import backend

from . import energy
from .features import Borders, Network, by_shape, halo, stride

keras = lazy.load("keras")

WHOLE = 768 * 768
"""Pixels from which on a picture is worked on in tiles."""
TILE = 512
"""Height and width of a tile, without what surrounds it."""
# Whose graphs are kept, so that a folder of exemplars, and variants, are compiled once.
_KEPT = 8
_REFLECT: Borders = ("reflect", "reflect")

Evaluate = Callable[[np.ndarray], tuple[float, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Terms:
    """Which energies are summed, with their weights; 0 leaves a term out.

    Attributes:
        gram: Of the distance of Gram matrices, the same for each layer.
        layers: Taps whose Gram matrices count.
        scales: Full, half, quarter … size at which the Gram matrices are compared.
        correlation: Of the mean square difference of deep correlations.
        correlation_sum: Of their sum of squares, as in the paper.
        correlation_layer: Tap whose correlations count.
        diversity: Of the distance to the exemplar at equal places; negative keeps away from it.
            Counts only where exemplar and result are equally large.
        smoothness: Of the smoothness of `conv1_1` before its ReLU.
    """

    gram: float = 1e3
    layers: tuple[str, ...] = ("conv1_1", "pool1", "pool2", "pool3")
    scales: int = 1
    correlation: float = 0.0
    correlation_sum: float = 0.0
    correlation_layer: str = "pool2"
    diversity: float = 0.0
    smoothness: float = 0.0

    @property
    def needs_whole(self) -> bool:
        """Whether a term is no sum over positions, so that tiles cannot add it up."""
        return any((self.correlation, self.correlation_sum, self.diversity, self.smoothness))

    @property
    def gram_alone(self) -> "Terms":
        """The same without the terms that need the whole picture."""
        without = dict.fromkeys(("correlation", "correlation_sum", "diversity", "smoothness"), 0.0)
        return dataclasses.replace(self, **without)

    @property
    def taps(self) -> list[str]:
        """What the network must return at full size."""
        correlates = self.correlation or self.correlation_sum or self.diversity
        extra = [self.correlation_layer] * bool(correlates) + ["conv1_1:linear"] * bool(
            self.smoothness
        )
        return list(dict.fromkeys([*self.layers, *extra]))


class Tile(NamedTuple):
    """A part of a picture and what surrounds it.

    Attributes:
        rows: Of the picture, with the surroundings; may go round.
        columns: As rows.
        inner: First and one past the last row and column within these that are the tile's own.
        borders: Rules beyond them.
    """

    rows: np.ndarray
    columns: np.ndarray
    inner: tuple[int, int, int, int]
    borders: Borders


def statistics(
    network: Network,
    terms: Terms,
    exemplars: Sequence[np.ndarray],
    mix: Sequence[float],
    size: tuple[int, int],
    dtype: str = "float32",
) -> dict[str, Any]:
    """Return what a result of some size must agree with, the weighted mean over exemplars.

    The exemplars are continued by reflection: zeros around them would be features that a picture
    without a rim cannot have.

    Args:
        network: Of features.
        terms: The energies.
        exemplars: `(height, width, 3)` each.
        mix: Shares of the exemplars, which sum to 1.
        size: Height and width of the result.
        dtype: What the network computes in.

    Raises:
        ValueError: An exemplar is too large for a term that needs the whole of it.
    """
    parameters = network.until(terms.taps)
    limit = _shifts(terms, [*(e.shape for e in exemplars), size])
    compiled = _describing(network, terms, limit, dtype)
    tiles = _tiles(network, terms.layers, _REFLECT, dtype, TILE)

    def described(picture):
        if not in_tiles(picture.shape[:2]):
            return compiled(parameters, picture)
        if terms.needs_whole:
            raise ValueError("only Gram matrices can be added up over tiles")
        return {
            f"gram{scale}:{tap}": found.astype(np.float32)
            for scale, smaller in enumerate(_scales(picture, terms.scales))
            for tap, found in tiles.grams(smaller).items()
        }

    targets = energy.mixed([described(picture) for picture in exemplars], mix)
    if not _is_diverse(terms, exemplars, size):
        targets.pop("diversity", None)
    return targets


def whole(
    network: Network,
    terms: Terms,
    targets: dict[str, Any],
    borders: Borders,
    dtype: str = "float32",
) -> Evaluate:
    """Return the function of a picture that gives its energy and the gradient.

    Args:
        network: Of features.
        terms: The energies.
        targets: From `statistics`.
        borders: What lies beyond the picture.
        dtype: What the network computes in.
    """
    parameters = network.until(terms.taps)
    differentiate = _differentiating(network, terms, borders, _limit_of(targets), dtype)
    kept = keras.tree.map_structure(keras.ops.convert_to_tensor, targets)

    def evaluate(picture: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = differentiate(picture, parameters, kept)
        return float(value), gradient

    return evaluate


def tiled(
    network: Network,
    terms: Terms,
    targets: dict[str, Any],
    borders: Borders,
    dtype: str = "float32",
    *,
    side: int = TILE,
) -> Evaluate:
    """Return the same function as `whole`, with the memory of one tile.

    A Gram matrix is a sum over positions. A first pass adds it up over tiles; its derivative is
    then a constant, with which a second pass adds the gradient of every tile into the picture.

    Args:
        network: Of features.
        terms: The energies; Gram matrices alone.
        targets: From `statistics`.
        borders: What lies beyond the picture.
        dtype: What the network computes in.
        side: Height and width of a tile, without what surrounds it.

    Raises:
        ValueError: A term is no sum over positions, or `side` is no multiple of the deepest stride.
    """
    if terms.needs_whole:
        raise ValueError("only Gram matrices can be added up over tiles")
    tiles = _tiles(network, terms.layers, borders, dtype, side)

    def evaluate_scale(picture: np.ndarray, scale: int) -> tuple[float, np.ndarray]:
        value, slopes = 0.0, {}
        for tap, found in tiles.grams(picture).items():
            wanted = np.asarray(targets[f"gram{scale}:{tap}"], np.float64)
            value += terms.gram * np.square(found - wanted).sum() / (4 * len(found) ** 2)
            slopes[tap] = terms.gram * energy.gram_slope(found, wanted)
        return value, tiles.gradient(picture, slopes)

    def evaluate(picture: np.ndarray) -> tuple[float, np.ndarray]:
        total, gradient = 0.0, np.zeros_like(picture)
        for scale, smaller in enumerate(_scales(picture, terms.scales)):
            value, slope = evaluate_scale(smaller, scale)
            total += value
            factor = 2**scale
            height, width = (factor * length for length in slope.shape[:2])
            gradient[:height, :width] += slope.repeat(factor, 0).repeat(factor, 1) / np.float32(
                factor**2
            )
        return total, gradient

    return evaluate


@functools.lru_cache(_KEPT)
def _describing(network, terms, limit, dtype):
    """Return the function of parameters and an exemplar that gives its statistics."""

    def run(parameters, picture):
        return _described(
            network, parameters, terms, picture, _REFLECT, limit, (False, False), dtype
        )

    return by_shape(backend.compiled, run, 1)


@functools.lru_cache(_KEPT)
def _differentiating(network, terms, borders, limit, dtype):
    """Return the function of picture, parameters and targets that gives energy and gradient."""
    circular = tuple(border == "wrap" for border in borders)

    def run(picture, parameters, targets):
        found = _described(network, parameters, terms, picture, borders, limit, circular, dtype)
        return _total(terms, found, targets)

    return by_shape(backend.value_and_grad, run, 0)


class _Tiles:
    """Gram matrices of a picture of any size, and their gradient, tile by tile."""

    def __init__(
        self, network: Network, layers: Sequence[str], borders: Borders, dtype: str, side: int
    ):
        coarsest = max(map(stride, layers))
        if side % coarsest:
            raise ValueError(f"tiles are {side} wide, which is no multiple of {coarsest}")
        self._network, self._layers, self._dtype = network, layers, dtype
        self._borders, self._side = borders, side
        self._parameters = network.until(layers)
        self._around = halo(layers, network.name)
        self._passes: dict[tuple, tuple[Callable, Callable]] = {}

    def grams(self, picture: np.ndarray) -> dict[str, np.ndarray]:
        """Return the Gram matrix of each layer, float64."""
        sums = dict.fromkeys(self._layers, 0.0)
        for tile, part in self._cut(picture):
            found = self._compiled(tile)[0](self._parameters, part)
            sums = {tap: sums[tap] + found[tap].astype(np.float64) for tap in sums}
        return {tap: total / _positions(picture, tap) for tap, total in sums.items()}

    def gradient(self, picture: np.ndarray, slopes: dict[str, np.ndarray]) -> np.ndarray:
        """Return the derivative in the picture, given that in each Gram matrix."""
        shares = {
            tap: (slope / _positions(picture, tap)).astype(np.float32)
            for tap, slope in slopes.items()
        }
        gradient = np.zeros_like(picture)
        for tile, part in self._cut(picture):
            _, slope = self._compiled(tile)[1](part, self._parameters, shares)
            np.add.at(gradient, np.ix_(tile.rows, tile.columns), slope)
        return gradient

    def _cut(self, picture: np.ndarray) -> Iterator[tuple[Tile, np.ndarray]]:
        for tile in cut(picture.shape[:2], self._side, self._around, self._borders):
            yield tile, picture[np.ix_(tile.rows, tile.columns)]

    def _compiled(self, tile: Tile) -> tuple[Callable, Callable]:
        key = (len(tile.rows), len(tile.columns), tile.inner)
        if key not in self._passes:

            def sums(parameters, part):
                maps = self._network.maps(parameters, part, self._layers, tile.borders, self._dtype)
                return {tap: _inner_sum(found, tap, tile.inner) for tap, found in maps.items()}

            def product(part, parameters, shares):
                found = sums(parameters, part)
                return sum(keras.ops.sum(shares[tap] * found[tap]) for tap in self._layers)

            self._passes[key] = backend.compiled(sums), backend.value_and_grad(product)
        return self._passes[key]


_tiles = functools.lru_cache(_KEPT)(_Tiles)


def _positions(picture: np.ndarray, tap: str) -> int:
    return int(np.prod([length // stride(tap) for length in picture.shape[:2]]))


def _scales(picture: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """Yield a picture and, each half as large as the one before, further ones."""
    for scale in range(count):
        picture = _halved(picture) if scale else picture
        yield picture


def in_tiles(size: tuple[int, int]) -> bool:
    """Return whether a picture is so large that memory counts."""
    return size[0] * size[1] >= WHOLE


def cut(size: tuple[int, int], side: int, around: int, borders: Borders) -> Iterator[Tile]:
    """Cut a picture into tiles.

    Where the picture ends, a tile ends with it, and the rule of the border holds for each
    convolution, as on the whole picture; where it goes round, so do the surroundings.
    """
    axes = [
        list(_spans(length, side, around, border))
        for length, border in zip(size, borders, strict=True)
    ]
    inside: Borders = tuple("reflect" if b == "wrap" else b for b in borders)
    for (rows, top, bottom), (columns, left, right) in itertools.product(*axes):
        yield Tile(rows, columns, (top, bottom, left, right), inside)


def _spans(length, side, around, border):
    for first in range(0, length, side):
        last = min(first + side, length)
        if border == "wrap":
            begin, end = first - around, last + around
        else:
            begin, end = max(0, first - around), min(length, last + around)
        yield np.arange(begin, end) % length, first - begin, last - begin


def _inner_sum(features: Any, tap: str, inner: tuple[int, int, int, int]) -> Any:
    top, bottom, left, right = (edge // stride(tap) for edge in inner)
    part = features[top:bottom, left:right]
    flat = keras.ops.reshape(part, (-1, part.shape[-1]))
    return keras.ops.matmul(keras.ops.transpose(flat), flat)


def _halved(picture: np.ndarray) -> np.ndarray:
    height, width = (length // 2 * 2 for length in picture.shape[:2])
    even = picture[:height, :width]
    return (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / np.float32(4)


def _described(network, parameters, terms, picture, borders, limit, circular, dtype):
    """Return the statistics of a picture by name, as tensors."""
    maps = network.maps(parameters, picture, terms.taps, borders, dtype)
    found = {f"gram0:{tap}": energy.gram(maps[tap]) for tap in terms.layers if terms.gram}
    smaller = picture
    for scale in range(1, terms.scales if terms.gram else 1):
        smaller = keras.ops.average_pool(smaller[None], 2, 2, padding="valid")[0]
        small = network.maps(parameters, smaller, terms.layers, borders, dtype)
        found |= {f"gram{scale}:{tap}": energy.gram(small[tap]) for tap in terms.layers}
    if terms.correlation or terms.correlation_sum:
        found["correlation"] = energy.correlation(maps[terms.correlation_layer], limit, circular)
    if terms.diversity:
        found["diversity"] = maps[terms.correlation_layer]
    if terms.smoothness:
        found["smoothness"] = energy.smoothness(maps["conv1_1:linear"])
    return found


def _total(terms, found, targets):
    total = 0.0
    for name, value in found.items():
        if name.startswith("gram"):
            total = total + terms.gram * energy.gram_distance(value, targets[name])
        elif name == "correlation":
            if terms.correlation:
                total = total + terms.correlation * energy.correlation_distance(
                    value, targets[name]
                )
            if terms.correlation_sum:
                total = total + terms.correlation_sum * energy.correlation_sum(value, targets[name])
        elif name == "smoothness":
            total = total + terms.smoothness * value
        elif name in targets:
            total = total + terms.diversity * energy.diversity(value, targets[name])
    return total


def _shifts(terms: Terms, shapes: Sequence[tuple[int, ...]]) -> tuple[int, int]:
    """Return the largest shifts at which correlations are compared: half of the smallest map.

    Further ones rest on so few positions that they are noise.
    """
    step = stride(terms.correlation_layer)
    return tuple(min(shape[axis] // step for shape in shapes) // 2 for axis in (0, 1))


def _limit_of(targets: dict[str, Any]) -> tuple[int, int]:
    """Return the shifts that targets were made with."""
    if "correlation" not in targets:
        return 0, 0
    _, down, side = targets["correlation"].shape
    return down - 1, side // 2


def _is_diverse(terms, exemplars, size) -> bool:
    """Return whether exemplar and result are equally large, so that places can be compared."""
    return bool(terms.diversity) and len(exemplars) == 1 and exemplars[0].shape[:2] == size

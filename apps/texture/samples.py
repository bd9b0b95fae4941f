"""Textures drawn by the computer: samples that ship, most with a known number of texels.

`python -m apps.texture.samples FOLDER` draws them all again, together with three photographs that
scikit-image bundles.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from shared import images

# Everything is drawn at twice the size and averaged: smooth edges.
_FINE = 2
# Towards the light: right, down, out of the picture.
_LIGHT = np.float32([-0.48, -0.6, 0.64])
_GAMMA = 2.2

# Pixels from thread to thread, stone to stone, brick to brick (height, width) and so on.
_THREAD = 16
_STONE = 28
_BRICK = 19, 46
_DOT = 24
_CHIP = 15
_RING = 11

_LINEN = (0.62, 0.52, 0.38), (0.86, 0.78, 0.62), (0.95, 0.9, 0.79)
_INDIGO = (0.13, 0.23, 0.36), (0.22, 0.38, 0.52), (0.36, 0.53, 0.63)
_PEBBLES = (
    (0.33, 0.33, 0.35),
    (0.52, 0.48, 0.44),
    (0.44, 0.5, 0.54),
    (0.7, 0.6, 0.48),
    (0.64, 0.44, 0.34),
    (0.82, 0.78, 0.7),
)
_CLAY = (0.42, 0.2, 0.15), (0.6, 0.29, 0.2), (0.7, 0.37, 0.25), (0.78, 0.5, 0.36)
_MORTAR = (0.6, 0.57, 0.52), (0.78, 0.75, 0.69)
_OAK = (0.82, 0.6, 0.37), (0.74, 0.5, 0.28), (0.6, 0.37, 0.19), (0.4, 0.22, 0.1)
_GRAVEL = (0.36, 0.33, 0.31), (0.6, 0.53, 0.45), (0.74, 0.69, 0.62), (0.56, 0.59, 0.61)
_EARTH = (0.2, 0.15, 0.11), (0.36, 0.28, 0.21)
_PAPER = (0.9, 0.86, 0.78), (0.96, 0.93, 0.87)
_GLAZES = (
    (0.8, 0.28, 0.22),
    (0.93, 0.66, 0.25),
    (0.2, 0.5, 0.52),
    (0.26, 0.33, 0.52),
    (0.56, 0.65, 0.38),
)

Size = tuple[int, int]
Colour = tuple[float, float, float]


class Generator(NamedTuple):
    """A drawn texture.

    Attributes:
        summary: One line for tables.
        draw: `(size, seed) -> picture`; `size` is height and width in pixels, the picture
            `(*size, 3)`, float32, 0..1.
        texels_per_area: Texels (stones, bricks, dots, crossings of threads) per square pixel, those
            that others cover included; None where there are none to count.
    """

    summary: str
    draw: Callable[[Size, int], np.ndarray]
    texels_per_area: float | None


def weave(size: Size, seed: int = 0) -> np.ndarray:
    """Draw a plain weave of linen and indigo threads of uneven width and course."""
    rng = np.random.default_rng(seed)
    y, x = _places(size)
    row, across = _threads(y, size[0], rng)
    column, along = _threads(x, size[1], rng)
    warp_is_on_top = (row + column) % 2 == 0
    across, along = (np.where(warp_is_on_top, *pair) for pair in ((along, across), (across, along)))
    # Round, and highest halfway between the places where it dives under its neighbours.
    height = 5 * np.sqrt(np.clip(1 - across**2, 0, 1)) * np.cos(1.15 * along)
    fibres = np.where(warp_is_on_top, y + 0.6 * x, x - 0.6 * y) + 0.4 * _noise(y.shape, 3, rng)
    height += 0.22 * np.sin(fibres * (2 * np.pi / 3.4)) + 0.1 * _noise(y.shape, 0.8, rng)
    tints = [rng.random(shape) for shape in ((row.max() + 1), (column.max() + 1))]
    mottle = 0.08 * _noise(y.shape, 2, rng)
    warp = _palette(tints[1][column] * 0.7 + 0.2 + mottle, _LINEN)
    weft = _palette(tints[0][row] * 0.7 + 0.2 + mottle, _INDIGO)
    colour = np.where(warp_is_on_top[..., None], warp, weft)
    light = _ramp(1 - np.abs(across), 0, 0.45) * _ramp(1.2 - np.abs(along), 0, 0.75)
    return _lit(colour, height, 0.2 + 0.8 * light, size)


def pebbles(size: Size, seed: int = 0) -> np.ndarray:
    """Draw rounded stones side by side: the cells of a Voronoi diagram of jittered places."""
    from scipy.spatial import cKDTree

    rng = np.random.default_rng(seed)
    y, x = _places(size)
    seeds = _lattice(size, (_STONE, _STONE), 0.36, rng)
    bend = [1.1 * _noise(y.shape, 5, rng) for _ in "yx"]
    distance, nearest = cKDTree(seeds).query(np.stack([y + bend[0], x + bend[1]], -1), k=6)
    own, others = seeds[nearest[..., :1]], seeds[nearest[..., 1:]]
    # Distance from the border with each neighbour; the soft minimum rounds the corners.
    borders = (distance[..., 1:] ** 2 - distance[..., :1] ** 2) / (
        2 * np.linalg.norm(others - own, axis=-1)
    )
    inside = -2.2 * np.log(np.exp(-borders / 2.2).sum(axis=-1))
    dome = np.sqrt(np.clip(1 - (1 - np.clip(inside / 9, 0, 1)) ** 2, 0, 1))
    cell = nearest[..., 0]
    tilt = rng.normal(0, 0.09, (len(seeds), 2))[cell]
    lean = (tilt * (np.stack([y, x], -1) - own[..., 0, :])).sum(-1)
    grain = _fractal(y.shape, 6, rng)
    height = 6.5 * dome + lean * dome + 0.22 * grain
    tone = _fractal(y.shape, 9, rng)
    chosen = np.float32(_PEBBLES)[rng.integers(len(_PEBBLES), size=len(seeds))]
    chosen = chosen * rng.normal(1, 0.09, (len(seeds), 1)).astype(np.float32)
    stone = chosen[cell] * (1 + 0.07 * tone + 0.05 * grain)[..., None]
    sand = _palette(0.4 + 0.25 * grain, _EARTH)
    cover = _ramp(inside, 0, 0.8)[..., None]
    return _lit(
        sand + cover * (stone - sand), height, 0.3 + 0.7 * _ramp(inside, -2, 4.5), size, gloss=0.1
    )


def bricks(size: Size, seed: int = 0) -> np.ndarray:
    """Draw courses of hand-made bricks in mortar, each course half a brick from the last."""
    rng = np.random.default_rng(seed)
    course_height, length = _BRICK
    y, x = _places(size)
    warped_y = y + 0.7 * _noise(y.shape, 14, rng)
    course = np.floor(warped_y / course_height).astype(int) + 1
    count = size[1] // length + 4
    shift = rng.normal(0, 1.5, course.max() + 1) + np.arange(course.max() + 1) % 2 * length / 2
    warped_x = x + 0.6 * _noise(y.shape, 14, rng) + shift[course] + length / 2
    brick = np.clip(np.floor(warped_x / length).astype(int), 0, count - 1)
    number = course * count + brick
    total = (course.max() + 1) * count
    half = np.stack(
        [
            rng.normal(course_height / 2 - 1.6, 0.3, total),
            rng.normal(length / 2 - 1.8, 0.6, total),
        ],
        -1,
    )
    turn = rng.normal(0, 0.008, total)[number]
    dy = warped_y - (course - 0.5) * course_height
    dx = warped_x - (brick + 0.5) * length
    dy, dx = dy + turn * dx, dx - turn * dy
    # Distance from the outline of a rectangle with corners of radius 2.
    outside = np.abs(np.stack([dy, dx], -1)) - half[number] + 2
    inside = 2 - np.linalg.norm(np.maximum(outside, 0), axis=-1) - np.minimum(outside.max(-1), 0)
    grain = _fractal(y.shape, 5, rng)
    inside = inside + 0.35 * _noise(y.shape, 2, rng)
    pits = np.maximum(_noise(y.shape, 1.1, rng) - 1.5, 0)
    cover = _ramp(inside, 0, 1)
    height = 2.6 * _ramp(inside, -0.4, 2.2) + cover * (0.28 * grain - 1.1 * pits)
    height += (1 - cover) * 0.3 * _noise(y.shape, 0.9, rng)
    tint = rng.random(total)[number]
    clay = _palette(0.1 + 0.8 * tint + 0.07 * grain + 0.05 * _noise(y.shape, 12, rng), _CLAY)
    mortar = _palette(0.5 + 0.25 * grain, _MORTAR)
    colour = mortar + cover[..., None] * (clay - mortar)
    return _lit(colour, height, 0.62 + 0.38 * _ramp(np.abs(inside + 0.6), 0, 1.5), size)


def wood(size: Size, seed: int = 0) -> np.ndarray:
    """Draw the growth rings of a plank: light early wood that darkens to a sharp late edge."""
    rng = np.random.default_rng(seed)
    y, x = _places(size)
    bend = 9 * _noise(y.shape, (90, 26), rng) + 0.8 * _noise(y.shape, (18, 5), rng)
    years = (x + bend) / _RING + 0.35 * np.sin((x + bend) / 37)
    ring = np.floor(years).astype(int)
    ring -= ring.min()
    age = years - np.floor(years)
    late = age ** rng.uniform(1.6, 3.4, ring.max() + 1)[ring] * (1 - _ramp(age, 0.93, 1))
    fibre = _noise(y.shape, (22, 0.5), rng)
    pores = np.maximum(_noise(y.shape, (6, 0.45), rng) - 1.25, 0) * (1.1 - late)
    depth = rng.uniform(0.5, 0.85, ring.max() + 1)[ring]
    tone = 0.1 + depth * late + 0.05 * fibre + 0.16 * pores + 0.05 * _noise(y.shape, (60, 14), rng)
    height = 0.5 * late - 0.5 * pores + 0.12 * fibre
    return _lit(_palette(tone, _OAK), height, np.ones_like(tone), size, gloss=0.04)


def gravel(size: Size, seed: int = 0) -> np.ndarray:
    """Draw chips of stone, ellipses of uneven outline, that lie on and over each other."""
    rng = np.random.default_rng(seed)
    y, x = _places(size)
    grain = _fractal(y.shape, 4, rng)
    top = 0.8 * _noise(y.shape, 2.5, rng) - 2
    colour = _palette(0.4 + 0.25 * grain, _EARTH)
    inside = np.zeros_like(top)
    for centre in rng.permutation(_lattice(size, (_CHIP, _CHIP), 0.45, rng)):
        radii = rng.uniform(0.58, 0.8) * _CHIP * np.array([1, rng.uniform(0.65, 0.95)])
        window = _window(centre, 1.35 * radii[0], y.shape)
        angle = rng.uniform(0, np.pi)
        along, across = _turned(y[window] - centre[0], x[window] - centre[1], angle)
        bearing = np.arctan2(across / radii[1], along / radii[0])
        phases, sizes = rng.uniform(0, 2 * np.pi, 3), rng.normal(0, (0.07, 0.05, 0.03))
        outline = 1 + sum(
            s * np.cos(n * bearing + p) for n, p, s in zip((2, 3, 5), phases, sizes, strict=True)
        )
        reach = np.hypot(along / radii[0], across / radii[1]) / outline
        tilt = rng.normal(0, 0.16, 2)
        dome = np.sqrt(np.clip(1 - reach**3, 0, 1))
        height = rng.uniform(0, 3) + 0.52 * radii[1] * dome + tilt[0] * along + tilt[1] * across
        height += 0.3 * grain[window]
        seen = (reach < 1) & (height > top[window])
        chosen = _palette(np.full((1, 1), rng.random()), _GRAVEL)[0, 0] * rng.normal(1, 0.1)
        stone = chosen * (1 + 0.1 * grain[window])[..., None]
        top[window][seen] = height[seen]
        colour[window][seen] = stone[seen]
        inside[window][seen] = 1 - reach[seen]
    # Deeper than its surroundings is darker.
    sunk = np.clip(cv2.GaussianBlur(top, (0, 0), 3.5 * _FINE) - top, 0, 4) / 4
    return _lit(colour, top, (1 - 0.75 * sunk) * (0.55 + 0.45 * _ramp(inside, 0, 0.25)), size)


def dots(size: Size, seed: int = 0) -> np.ndarray:
    """Draw glazed dots in a hexagonal lattice on paper, each with its shadow."""
    rng = np.random.default_rng(seed)
    y, x = _places(size)
    pitch = _DOT * np.sqrt(0.75), _DOT
    paper = 0.35 * _fractal(y.shape, 3, rng) + 0.2 * _noise(y.shape, (0.7, 5), rng)
    colour = _palette(0.6 + 0.22 * paper, _PAPER)
    height, shadow = 0.14 * paper, np.ones_like(y)
    drawn = []
    for centre in _lattice(size, pitch, 0.025, rng, offset=0.5):
        radius = rng.normal(0.34, 0.014) * _DOT
        window = _window(centre, 1.9 * radius, y.shape)
        dy, dx = y[window] - centre[0], x[window] - centre[1]
        fall = np.hypot(dy - 0.24 * radius, dx - 0.2 * radius) / radius
        shadow[window] *= 1 - 0.5 * (1 - _ramp(fall, 0.75, 1.3))
        drawn.append((window, np.hypot(dy, dx) / radius, radius))
    for window, reach, radius in drawn:
        glaze = np.float32(_GLAZES[rng.integers(len(_GLAZES))]) * rng.normal(1, 0.04)
        is_dot = reach < 1
        rim = np.clip(1 - reach, 0, 1)
        height[window][is_dot] = (0.62 * radius * (1 - (1 - rim) ** 2.6))[is_dot]
        tone = 0.86 + 0.2 * _ramp(rim, 0, 0.5)
        colour[window][is_dot] = (glaze * tone[..., None])[is_dot]
        shadow[window][is_dot] = 1
    return _lit(colour, height, shadow, size, gloss=0.35)


GENERATORS = {
    "weave": Generator("plain weave of linen and indigo", weave, 1 / _THREAD**2),
    "pebbles": Generator("rounded stones side by side", pebbles, 1 / _STONE**2),
    "bricks": Generator("courses of hand-made bricks", bricks, 1 / (_BRICK[0] * _BRICK[1])),
    "wood": Generator("growth rings of a plank", wood, None),
    "gravel": Generator("chips of stone on and over each other", gravel, 1 / _CHIP**2),
    "dots": Generator("glazed dots in a hexagonal lattice", dots, 1 / (_DOT**2 * np.sqrt(0.75))),
}

_PHOTOGRAPHS = ("brick", "grass", "gravel")


def write(folder: str | Path, side: int = 256) -> list[Path]:
    """Write all drawn textures, and the grey photographs brick, grass and gravel, as PNG.

    Args:
        folder: Where to; made if it does not exist.
        side: Height and width, in pixels.

    Returns:
        The files.
    """
    from skimage import data

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {f"{name}.png": entry.draw((side, side), 0) for name, entry in GENERATORS.items()}
    for name in _PHOTOGRAPHS:
        photograph = images.to_float(getattr(data, name)())
        reduced = cv2.resize(photograph, (side, side), interpolation=cv2.INTER_AREA)
        pictures[f"{name}-grey.png"] = reduced
    for name, picture in pictures.items():
        images.write(folder / name, picture)
    return [folder / name for name in pictures]


def _places(size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Return row and column of every drawn point, in pixels of the result."""
    rows, columns = ((np.arange(side * _FINE) + 0.5) / _FINE for side in size)
    return np.meshgrid(rows, columns, indexing="ij")


def _window(centre: np.ndarray, reach: float, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Return the drawn points around a place."""
    low, high = (np.round((centre + sign * reach) * _FINE).astype(int) for sign in (-1, 1))
    return tuple(
        slice(*np.clip(ends, 0, side)) for *ends, side in zip(low, high, shape, strict=True)
    )


def _turned(y: np.ndarray, x: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    return np.cos(angle) * y + np.sin(angle) * x, np.cos(angle) * x - np.sin(angle) * y


def _lattice(
    size: Size,
    pitch: tuple[float, float],
    jitter: float,
    rng: np.random.Generator,
    offset: float = 0,
) -> np.ndarray:
    """Return places `(n, 2)` on a lattice, and two more beyond each border.

    Args:
        size: Height and width of the picture.
        pitch: Pixels from row to row, from place to place.
        jitter: Largest shift, in pitches.
        rng: Source of the random numbers.
        offset: Shift of every second row, in pitches.
    """
    rows, columns = (np.arange(-2, side / step + 2) for side, step in zip(size, pitch, strict=True))
    y, x = np.meshgrid(rows, columns, indexing="ij")
    places = np.stack([y + 0.5, x + 0.5 + offset * (y % 2)], -1).reshape(-1, 2)
    return (places + rng.uniform(-jitter, jitter, places.shape)) * pitch


def _threads(
    place: np.ndarray, length: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of the thread at each place, and where across it (-1..1) that is."""
    place = place + 0.9 * _noise(place.shape, 18, rng)
    edges = np.arange(-2, length / _THREAD + 3) * _THREAD
    edges = edges + rng.uniform(-0.1, 0.1, len(edges)) * _THREAD
    number = np.searchsorted(edges, place) - 1
    return number, 2 * (place - edges[number]) / (edges[number + 1] - edges[number]) - 1


def _noise(
    shape: tuple[int, ...], scale: float | tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    """Return smooth noise of mean 0 and deviation 1; `scale` in pixels of the result."""
    down, across = np.broadcast_to(scale, 2).tolist()
    noise = rng.standard_normal(shape)
    noise = cv2.GaussianBlur(noise, (0, 0), across * _FINE, sigmaY=down * _FINE)
    return (noise - noise.mean()) / noise.std()


def _fractal(shape: tuple[int, ...], scale: float, rng: np.random.Generator) -> np.ndarray:
    """Return noise of four octaves, each half as large and half as strong as the last."""
    return sum(_noise(shape, scale / 2**n, rng) / 2**n for n in range(4))


def _ramp(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return 0 below `low`, 1 above `high`, smooth in between."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _palette(tone: np.ndarray, stops: tuple[Colour, ...]) -> np.ndarray:
    """Return colours between the stops, the first at tone 0, the last at 1."""
    places = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(tone, places, channel) for channel in zip(*stops, strict=True)], -1)


def _lit(
    colour: np.ndarray, height: np.ndarray, open_sky: np.ndarray, size: Size, gloss: float = 0
) -> np.ndarray:
    """Light a relief from the upper left, in linear light, and reduce it to its size.

    Args:
        colour: sRGB colour of the surface.
        height: Height of each point, in pixels of the result.
        open_sky: Share of the light of the sky, 0..1.
        size: Height and width of the result.
        gloss: Strength of the reflection of the lamp.
    """
    slope_y, slope_x = np.gradient(height, 1 / _FINE)
    normal = np.stack([-slope_x, -slope_y, np.ones_like(height)], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    lamp = np.clip(normal @ (_LIGHT / np.linalg.norm(_LIGHT)), 0, 1)
    halfway = _LIGHT / np.linalg.norm(_LIGHT) + [0, 0, 1]
    shine = np.clip(normal @ (halfway / np.linalg.norm(halfway)), 0, 1) ** 40
    light = (0.28 + 1.12 * lamp) * open_sky
    linear = np.clip(colour, 0, 1) ** _GAMMA * light[..., None] + (gloss * shine * lamp)[..., None]
    small = cv2.resize(linear, size[::-1], interpolation=cv2.INTER_AREA)
    return np.clip(small, 0, 1).astype(np.float32) ** np.float32(1 / _GAMMA)


if __name__ == "__main__":
    write(sys.argv[1])

"""Textures for meshes without texture coordinates: three projections, baked into an atlas.

Source of the blending: Geiss, "Generating Complex Procedural Terrains Using the GPU", GPU Gems 3,
chapter 1, 2007. The atlas is plain: every triangle has a cell of its own, which takes a moment for
a hundred thousand of them; charts that hold many triangles would take minutes to find.
"""

from typing import NamedTuple

import numpy as np

from shared.errors import DataError

SHARPNESS = 4
"""Power of the normal's components that weighs the three projections."""
LARGEST_SIDE = 4096

_GUTTER = 2  # texels around a triangle that are filled as its plane goes on
_SMALLEST_LEG = 4
_STEP = 16  # texels by which an atlas grows until all fits
_ROWS_AT_ONCE = 1 << 18


class Atlas(NamedTuple):
    """A picture for the surface of a mesh.

    Attributes:
        picture: float32 `(side, side, 3)`, 0..1.
        uv: Where the corners of each face lie, float64 `(faces, 3, 2)`, 0..1, v upwards.
        density: Texels per texel of the texture, 1 unless the atlas would have been too large.
    """

    picture: np.ndarray
    uv: np.ndarray
    density: float


def sample(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Look up colours bilinearly in a texture that repeats.

    Args:
        texture: `(height, width, 3)`.
        uv: Places `(..., 2)`; u to the right and v upwards, 1 is one texture.

    Returns:
        float32 `(..., 3)`.
    """
    height, width = texture.shape[:2]
    uv = uv - np.floor(uv)
    x, y = uv[..., 0] * width - 0.5, (1 - uv[..., 1]) * height - 0.5
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    right_share = (x - left).astype(np.float32)[..., None]
    bottom_share = (y - top).astype(np.float32)[..., None]
    columns = left % width, (left + 1) % width
    texels = np.asarray(texture, np.float32).reshape(-1, 3)

    def between(row):
        first = row % height * width
        ends = (texels.take(first + column, axis=0) for column in columns)
        return next(ends) * (1 - right_share) + next(ends) * right_share

    return between(top) * (1 - bottom_share) + between(top + 1) * bottom_share


def colours(
    texture: np.ndarray, places: np.ndarray, normals: np.ndarray, scale: float
) -> np.ndarray:
    """Return the blend of three projections of a texture along the axes.

    A projection is turned so that it is never seen mirrored; where a component of the normal
    changes its sign, its weight is 0, so that the blend stays continuous.

    Args:
        texture: `(height, width, 3)`; its width is laid along one unit.
        places: `(n, 3)`.
        normals: `(n, 3)`, of any length.
        scale: Textures per unit.

    Returns:
        float32 `(n, 3)`.
    """
    height, width = texture.shape[:2]
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = np.where(lengths > 0, normals / np.where(lengths > 0, lengths, 1), (0, 0, 1))
    weights = np.abs(normals) ** SHARPNESS
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    outwards = np.where(normals < 0, -1.0, 1.0)
    # Seen from outside with z up, and for the z axis with y up: what lies to the right, upwards.
    axes = ((1, 1, 2), (0, -1, 2), (0, 1, 1))
    total = np.zeros((len(places), 3), np.float32)
    for axis, (right, sign, up) in enumerate(axes):
        seen = np.flatnonzero(weights[:, axis] > 1e-6)
        u = sign * outwards[seen, axis] * places[seen, right]
        uv = scale * np.stack([u, places[seen, up] * width / height], axis=1)
        total[seen] += weights[seen, axis, None] * sample(texture, uv)
    return total


def bake(
    vertices: np.ndarray, faces: np.ndarray, normals: np.ndarray, texture: np.ndarray, scale: float
) -> Atlas:
    """Bake the blend of three projections into an atlas with a cell for every triangle.

    Texels beyond the edge of a triangle continue its plane, so neither bilinear look-ups nor the
    first two reduced levels show a seam.

    Args:
        vertices: `(vertices, 3)`, in units of the texture's repetition at scale 1.
        faces: `(faces, 3)`.
        normals: Of the vertices, `(vertices, 3)`; equal where faces meet, or the blend has steps.
        texture: `(height, width, 3)`, 0..1.
        scale: Textures per unit.

    Raises:
        DataError: There are too many faces for the largest atlas.
    """
    corners, turned = _longest_edge_last(vertices, faces)
    legs = np.linalg.norm(corners[:, 1:] - corners[:, :1], axis=2).max(axis=1)
    wanted = texture.shape[1] * scale
    density = 1.0
    while (packed := _pack(_leg_texels(legs * wanted * density))) is None:
        if density < 2**-20:
            raise DataError(
                f"{len(faces):,} faces are too many for an atlas of {LARGEST_SIDE:,} texels a "
                "side; simplify the mesh, or give it texture coordinates"
            )
        density /= 2
    texels, origins, flipped, side = packed
    picture = np.empty((side, side, 3), np.float32)
    picture[:] = texture.mean(axis=(0, 1))
    turned_faces = np.take_along_axis(faces, turned, axis=1)
    places_and_normals = np.concatenate([corners, normals[turned_faces]], axis=2)
    for leg in np.unique(texels):
        rows, columns, shares = _cell(leg)
        chosen = np.flatnonzero(texels == leg)
        step = max(1, _ROWS_AT_ONCE // len(rows))
        for some in np.split(chosen, range(step, len(chosen), step)):
            values = np.einsum("tk,fkd->ftd", shares, places_and_normals[some]).reshape(-1, 6)
            baked = colours(texture, values[:, :3], values[:, 3:], scale)
            y, x = _in_atlas(rows[None], columns[None], origins[some], flipped[some], leg)
            picture[y, x] = baked.reshape(*y.shape, 3)
    ends = np.array([[0, 0], [1, 0], [0, 1]]) * texels[:, None, None] + _GUTTER  # x, y
    far = _cell_side(texels)[:, None, None] - ends
    ends = np.where(flipped[:, None, None], far, ends) + origins[:, None, ::-1]
    uv = np.empty((len(faces), 3, 2))
    places = np.stack([ends[..., 0] / side, 1 - ends[..., 1] / side], axis=2)
    np.put_along_axis(uv, turned[:, :, None], places, axis=1)
    return Atlas(picture, uv, density)


def _longest_edge_last(vertices, faces):
    """Return corners `(faces, 3, 3)` with the longest edge opposite to the first, and their order.

    A right-angled cell then fits the triangle as well as a rotation allows.
    """
    corners = vertices[faces]
    opposite = np.linalg.norm(np.roll(corners, -1, axis=1) - np.roll(corners, -2, axis=1), axis=2)
    order = (opposite.argmax(axis=1)[:, None] + np.arange(3)) % 3
    return np.take_along_axis(corners, order[:, :, None], axis=1), order


def _leg_texels(lengths):
    """Return the legs of the cells, rounded up to quarters of octaves: there are few kinds then."""
    steps = np.ceil(4 * np.log2(np.maximum(lengths, _SMALLEST_LEG))) / 4
    return np.ceil(np.exp2(np.minimum(steps, 20))).astype(np.int64)


def _cell_side(leg):
    """Return the side of a square for two triangles with gutters also between their diagonals."""
    return leg + 4 * _GUTTER


def _pack(texels):
    """Lay out pairs of triangles on shelves, the largest first.

    Returns:
        Legs, the first row and column of each face's square, whether it is the far half, and the
        side of the atlas; None if that would be too large.
    """
    order = np.argsort(-texels, kind="stable")
    texels = texels.copy()
    texels[order[1::2]] = texels[order[: len(texels) - len(texels) % 2 : 2]]  # a pair is alike
    cells = _cell_side(texels[order[::2]])
    area = int((cells.astype(np.float64) ** 2).sum())
    side = max(_STEP * -(-int(np.sqrt(area)) // _STEP), int(cells[0]))
    while side <= LARGEST_SIDE:
        places = _shelves(cells, side)
        if places is not None:
            origins = np.empty((len(texels), 2), np.int64)
            origins[order] = np.repeat(places, 2, axis=0)[: len(texels)]
            flipped = np.zeros(len(texels), bool)
            flipped[order[1::2]] = True
            return texels, origins, flipped, side
        side += max(_STEP, side // 32)
    return None


def _shelves(cells, side):
    """Return row and column of squares in falling order of size; None if they do not fit."""
    places = np.empty((len(cells), 2), np.int64)
    first, top = 0, 0
    while first < len(cells):
        # A shelf is as high as its first square; equal squares on it are placed together.
        height, x = cells[first], 0
        if top + height > side:
            return None
        while first < len(cells) and x + cells[first] <= side:
            size = cells[first]
            alike = np.searchsorted(-cells, -size, side="right") - first
            count = min(int(alike), int((side - x) // size))
            places[first : first + count, 0] = top
            places[first : first + count, 1] = x + size * np.arange(count)
            first, x = first + count, x + size * count
        top += height
    return places


def _cell(leg):
    """Return rows, columns and barycentric coordinates of the texels of a near half-square."""
    side = _cell_side(leg)
    rows, columns = np.nonzero(np.add.outer(np.arange(side), np.arange(side)) < side)
    second = (columns + 0.5 - _GUTTER) / leg
    third = (rows + 0.5 - _GUTTER) / leg
    return rows, columns, np.stack([1 - second - third, second, third], axis=1)


def _in_atlas(rows, columns, origins, flipped, leg):
    last = _cell_side(leg) - 1
    flipped = flipped[:, None]
    rows = np.where(flipped, last - rows, rows) + origins[:, :1]
    return rows, np.where(flipped, last - columns, columns) + origins[:, 1:]

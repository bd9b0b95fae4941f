"""Pictures of meshes and clouds by ray casting on the CPU, the same on every machine."""

import numpy as np

from shared.errors import DataError
from shared.raycasting import EYE, HALF_VIEW, camera_axes, camera_rays, cast

from .meshes import Cloud, Mesh, check

BACKGROUND = (0.93, 0.93, 0.93)
"""Light grey: the shapes, middle-toned, stand out, and it glares on neither white nor black."""
PLAIN = (0.76, 0.71, 0.65)
"""The warm grey of shapes without colours."""
NO_PART = (0.62, 0.62, 0.62)
PALETTE = (
    np.array(
        [
            [86, 180, 233],
            [230, 159, 0],
            [0, 158, 115],
            [213, 94, 0],
            [204, 121, 167],
            [240, 228, 66],
            [0, 114, 178],
        ],
        np.float32,
    )
    / 255
)
"""Colours that most kinds of colour blindness tell apart, `(7, 3)` (Okabe and Ito 2008)."""
FROM = (-60.0, 20.0)
"""Azimuth and elevation of the camera, in degrees, unless others are given."""
LARGEST_SIZE = 1024

_SAMPLES = 2  # rays a pixel and axis
# Directions in the camera's system (right, up, towards the camera) and strengths. A face that
# looks into the camera has a brightness of about 1; the rest is what makes edges visible.
_LIGHTS = (((0, 0, 1), 0.36), ((-0.45, 0.75, 0.5), 0.6))
_AMBIENT = 0.28
_DISC = 1.6  # radius of a point's disc in mean distances of points


def part_colours(labels: np.ndarray) -> np.ndarray:
    """Return a colour for each label.

    Args:
        labels: Parts, integers `(n,)`; -1 is none, and grey.

    Returns:
        float32 `(n, 3)`, 0..1; labels beyond the palette start it again.
    """
    labels = np.asarray(labels)
    colours = PALETTE[labels % len(PALETTE)]
    colours[labels < 0] = NO_PART
    return colours


def picture(
    shape: Mesh | Cloud,
    colours: np.ndarray | None = None,
    *,
    size: int = 384,
    azimuth: float = FROM[0],
    elevation: float = FROM[1],
) -> np.ndarray:
    """Show a shape, z up, on a light ground. Both sides of a face are shaded alike.

    Args:
        shape: What to show. The camera is fitted to the sphere around it, so that it keeps its
            size when it is turned.
        colours: 0..1, of the faces of a mesh or the points of a cloud, `(n, 3)`.
        size: Pixels a side, up to 1,024.
        azimuth: Degrees from the x axis to the camera, towards y; -90 looks along +y.
        elevation: Degrees of the camera above the ground, -90..90.

    Returns:
        RGB, float32 `(size, size, 3)`, 0..1, row 0 at the top.

    Raises:
        DataError: The shape, the colours, the size or an angle make no picture.
        DependencyError: Open3D is needed for a mesh and not installed.
    """
    check(shape)
    if not 8 <= size <= LARGEST_SIZE:
        raise DataError(f"A picture of {size} pixels cannot be made; choose 8 to {LARGEST_SIZE:,}.")
    if not (np.isfinite(azimuth) and abs(elevation) <= 90):
        raise DataError(
            f"A camera at {azimuth} and {elevation} degrees cannot be placed; the second is from "
            "-90 to 90."
        )
    is_mesh = isinstance(shape, Mesh)
    colours = checked_colours(shape, colours)
    axes = camera_axes(azimuth, elevation)
    centre, radius = bounding_sphere(shape)
    places = shape.vertices[shape.faces] if is_mesh else shape.points
    places = (places - centre) / radius @ axes.T
    if is_mesh:
        normals = np.cross(places[:, 1] - places[:, 0], places[:, 2] - places[:, 0])
        colours = colours * _brightness(normals, EYE - places[:, 0])[:, None]
        seen = _faces_seen(places, _SAMPLES * size)
    else:
        if shape.normals is not None:
            brightness = _brightness(shape.normals @ axes.T, EYE - places)
        else:
            brightness = 0.7 + 0.3 * places[:, 2]  # near is bright
        colours = colours * brightness[:, None]
        seen = _points_seen(places, _SAMPLES * size)
    # One row more, for rays that meet nothing: -1.
    table = np.concatenate([np.clip(colours, 0, 1), [BACKGROUND]]).astype(np.float32)
    samples = [seen[i::_SAMPLES, j::_SAMPLES] for i in range(_SAMPLES) for j in range(_SAMPLES)]
    return sum(table.take(sample, axis=0) for sample in samples) / np.float32(len(samples))


def checked_colours(shape: Mesh | Cloud, colours: np.ndarray | None) -> np.ndarray:
    """Return float32 colours of the faces or points of a shape; the plain one for None.

    Raises:
        DataError: They are not `(n, 3)`, or not numbers from 0 to 1.
    """
    name, count = (
        ("faces", len(shape.faces))
        if isinstance(shape, Mesh)
        else (
            "points",
            len(shape.points),
        )
    )
    if colours is None:
        return np.tile(np.float32(PLAIN), (count, 1))
    colours = np.asarray(colours, np.float32)
    if colours.shape != (count, 3):
        raise DataError(
            f"Colours of {count:,} {name} need the shape ({count}, 3), not {colours.shape}."
        )
    if not ((colours >= 0) & (colours <= 1)).all():
        raise DataError(f"Colours of {name} are numbers from 0 to 1; these are not.")
    return colours


def bounding_sphere(shape: Mesh | Cloud) -> tuple[np.ndarray, float]:
    """Return the centre of the box around a shape, and the radius that reaches all of it."""
    used = shape.vertices[np.unique(shape.faces)] if isinstance(shape, Mesh) else shape.points
    centre = used.min(axis=0) / 2 + used.max(axis=0) / 2
    return centre, np.linalg.norm(used - centre, axis=1).max()


def _brightness(normals, to_eye):
    """Return the light of each surface on the side that is seen, `(n,)`."""
    lengths = np.linalg.norm(normals, axis=1)
    side = np.where((normals * to_eye).sum(axis=1) < 0, -1, 1)
    normals = normals * (side / np.where(lengths > 0, lengths, 1))[:, None]
    light = np.full(len(normals), _AMBIENT)
    for direction, strength in _LIGHTS:
        direction = np.array(direction) / np.linalg.norm(direction)
        light += strength * np.maximum(normals @ direction, 0)
    return light


def _faces_seen(triangles, side):
    """Return the face that each ray meets first, int32 `(side, side)`, -1 for none."""
    corners = np.arange(3 * len(triangles)).reshape(-1, 3)
    return cast(triangles.reshape(-1, 3), corners, camera_rays(side))["primitive_ids"]


def _points_seen(points, side):
    """Return the point whose disc is the nearest in each sample, `(side, side)`, -1 for none."""
    points_far_first = np.argsort(points[:, 2], kind="stable")
    x, y, z = (points[points_far_first] - EYE).T
    scale = side / 2 / np.tan(HALF_VIEW)
    columns = np.floor(side / 2 - scale * x / z).astype(np.int64)
    rows = np.floor(side / 2 + scale * y / z).astype(np.int64)
    # The mean distance, if the points lay all over a sphere that fills the picture.
    radius = np.clip(_DISC * side / np.sqrt(len(points)), 1, side / 60)
    reach = np.arange(-int(radius), int(radius) + 1)
    down, across = (part.ravel() for part in np.meshgrid(reach, reach, indexing="ij"))
    inside = down**2 + across**2 <= radius**2
    seen = np.full((side, side), -1)
    rows = np.clip(rows[:, None] + down[inside], 0, side - 1)
    columns = np.clip(columns[:, None] + across[inside], 0, side - 1)
    # Of places that are named several times, the last assignment stays: the nearest.
    seen[rows, columns] = points_far_first[:, None]
    return seen

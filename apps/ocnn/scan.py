"""From a mesh to oriented points in -1..1: virtual scanner, presets of normalisation, poses.

Source: Wang et al. 2017, "O-CNN", section 5, and the authors' tool `virtualscanner`: a mesh is
seen from 14 sides, so that only its outer surface counts, and normals face whoever sees them,
whatever the winding of the faces.
"""

import contextlib
import itertools
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np

from shared.errors import DataError
from shared.raycasting import cast, open3d

from .meshes import Cloud, Mesh

Preset = Literal["paper", "ocnn2"]
Up = Literal["x", "y", "z"]
PRESETS = ("paper", "ocnn2")
FEATURES = {"paper": "N", "ocnn2": "ND"}
"""Input features that belong to a preset, see `octree.Octree.input_features`."""
NORMAL_OFFSET = 0.55
"""Preset `paper`: points move so many leaves along their normals, so thin sheets get two sides."""
OCNN2_SIZE = 0.8
_LIMIT = 0.99999
_SMALLEST_AREA = 1e-15
_AXES = [(0, 0, 1), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, -1)]
VIEWS = np.array([*_AXES, *itertools.product((1, -1), repeat=3)], np.float64)
"""Where the scanner looks from, relative to half the box; `(14, 3)`."""


class Sphere(NamedTuple):
    """A bounding sphere."""

    centre: np.ndarray
    radius: float


def resolution(depth: int) -> int:
    """Return the half width of the grid of rays that a depth needs: 63 for 5, 127 for 6."""
    return 2 ** (depth + 1) - 1


def scan(mesh: Mesh, half_width: int = 63) -> Cloud:
    """See a mesh from 14 sides.

    Args:
        mesh: Any triangles; winding, holes and inner parts do not matter.
        half_width: R; each view casts `(2 R + 1)^2` parallel rays.

    Returns:
        First hits, with normals that face the view, the labels of the faces, and their numbers.

    Raises:
        DataError: No ray hits anything.
        DependencyError: Open3D is not installed, or a system library it needs.
    """
    # Sizes of CAD files run from 1e-3 to 1e6; rays are cast in float32.
    centre = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2
    scale = np.abs(mesh.vertices - centre).max()
    vertices = (mesh.vertices - centre) / scale
    faces = np.flatnonzero(areas(vertices, mesh.faces) > _SMALLEST_AREA)
    if not len(faces):
        raise DataError("all faces of the mesh are degenerate; it has no surface to scan.")
    used = vertices[np.unique(mesh.faces[faces])]
    rays = _rays(used.min(axis=0), used.max(axis=0), half_width).reshape(-1, 6)
    seen = cast(vertices, mesh.faces[faces], rays)
    distance = seen["t_hit"]
    hit = np.flatnonzero(np.isfinite(distance))
    if not len(hit):
        raise DataError("no ray of the scanner hits the mesh; it has no visible surface.")
    rays = rays[hit]
    points = rays[:, :3] + distance[hit, None] * rays[:, 3:]
    normals = seen["primitive_normals"][hit]
    away = np.sum(normals * rays[:, 3:], axis=1) > 0
    normals = np.where(away[:, None], -normals, normals)
    numbers = faces[seen["primitive_ids"][hit]].astype(np.int32)
    labels = None if mesh.labels is None else mesh.labels[numbers]
    return Cloud(points * scale + centre, normals, labels, numbers)


def as_cloud(shape: Mesh | Cloud, half_width: int = 63) -> Cloud:
    """Scan a mesh; take a cloud as it is, with estimated normals where it has none.

    Normals of a cloud without any are those of planes through 16 neighbours; each points away from
    the centre of the cloud if a consistent side cannot be found, which is right for what is
    roughly convex only.

    Raises:
        DataError: As `scan`, or the cloud has fewer than four points.
    """
    if isinstance(shape, Mesh):
        return scan(shape, half_width)
    if shape.normals is not None:
        return shape
    if len(shape.points) < 4:
        raise DataError("the cloud has no normals, and too few points to estimate them.")
    o3d = open3d()
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(_unit(shape.points)))
    cloud.estimate_normals(o3d.geometry.KDTreeSearchParamKNN(16))
    with contextlib.suppress(RuntimeError):  # points in a plane or on a line
        cloud.orient_normals_consistent_tangent_plane(16)
    normals = np.asarray(cloud.normals)
    outward = np.sum(normals * (shape.points - shape.points.mean(axis=0)), axis=1)
    if outward.sum() < 0:
        normals = -normals
    return replace(shape, normals=normals.astype(np.float32))


def upright(cloud: Cloud, up: Up, wanted: Up = "z") -> Cloud:
    """Turn a cloud whose `up` axis points up so that its `wanted` axis does."""
    shift = "xyz".index(wanted) - "xyz".index(up)
    if not shift:
        return cloud
    # A cyclic change of the axes is a rotation.
    return replace(
        cloud,
        points=np.roll(cloud.points, shift, axis=1),
        normals=np.roll(cloud.normals, shift, axis=1),
    )


def centred(cloud: Cloud) -> Cloud:
    """Bring a cloud with normals into the unit sphere, float32: its smallest sphere becomes that.

    Raises:
        DataError: All points are the same.
    """
    sphere = bounding_sphere(cloud.points)
    if not sphere.radius > 0:
        raise DataError("all points of the shape are the same; there is nothing to normalise.")
    points = (cloud.points - sphere.centre) / sphere.radius
    return replace(cloud, points=points.astype(np.float32))


def normalise(cloud: Cloud, preset: Preset, depth: int) -> Cloud:
    """Make a centred cloud, turned or not, ready for an octree.

    Args:
        cloud: From `centred`.
        preset: `paper`: sphere around 0, points moved along their normals by a share of a leaf.
            `ocnn2`: box, its longest side 1.6, absolute values of the normals (as `ocnn`).
        depth: Level of the leaves to be built.

    Returns:
        The cloud, strictly inside -1..1.
    """
    points, normals = cloud.points, cloud.normals
    if preset == "paper":
        radius = np.linalg.norm(points, axis=1).max()
        offset = np.float32(NORMAL_OFFSET * 2 * radius / 2**depth)
        points = (points + normals * offset) / (radius + offset)
    else:
        low, high = points.min(axis=0), points.max(axis=0)
        points = (points - (low + high) / 2) * (2 * OCNN2_SIZE / (high - low).max())
        normals = np.abs(normals)
    return replace(cloud, points=np.clip(points, -_LIMIT, _LIMIT), normals=normals)


def transformed(cloud: Cloud, matrix: np.ndarray) -> Cloud:
    """Apply an invertible matrix `(3, 3)` to a centred cloud: normals stay normal."""
    matrix = matrix.astype(np.float32)
    normals = cloud.normals @ np.linalg.inv(matrix)
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    return replace(
        cloud,
        points=cloud.points @ matrix.T,
        normals=normals / np.where(lengths > 0, lengths, 1),
    )


def rotation(angle: float, up: Up = "z") -> np.ndarray:
    """Return the matrix of a turn about the up axis, in degrees, counter-clockwise from above."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_euler(up, angle, degrees=True).as_matrix()


def bounding_sphere(points: np.ndarray) -> Sphere:
    """Return the smallest sphere around points `(n, 3)`.

    Exact up to rounding: at most four points carry it; the farthest point outside is exchanged
    for one of them until there is none, as in the simplex method (Gärtner 1999).
    """
    points = np.asarray(points, np.float64)
    carriers = points[:1]
    centre, radius = points[0], 0.0
    for _ in range(1000):
        squares = np.sum((points - centre) ** 2, axis=1)
        farthest = int(np.argmax(squares))
        if squares[farthest] <= radius**2 * (1 + 1e-12):
            break
        carriers = np.vstack([carriers, points[farthest]])
        centre, radius, carriers = _sphere_of_few(carriers)
    return Sphere(centre, float(np.sqrt(np.sum((points - centre) ** 2, axis=1).max())))


def _sphere_of_few(points):
    """Return centre, radius and carriers of the smallest sphere around at most five points."""
    best = None
    # All sizes: the sphere around an obtuse triangle may hold all points and not be the smallest.
    for size in range(2, min(len(points), 4) + 1):
        for chosen in itertools.combinations(range(len(points)), size):
            corners = points[list(chosen)]
            edges = corners[1:] - corners[0]
            half_squares = np.sum(edges**2, axis=1) / 2
            way = np.linalg.lstsq(edges, half_squares, rcond=None)[0]
            square = way @ way
            outside = np.sum((points - corners[0] - way) ** 2, axis=1).max() > square * (1 + 1e-10)
            if not outside and (best is None or square < best[1]):
                best = corners[0] + way, square, corners
    if best is None:  # nearly equal points, by rounding
        centre = points.mean(axis=0)
        best = centre, np.sum((points - centre) ** 2, axis=1).max(), points[-4:]
    return best[0], float(np.sqrt(best[1])), best[2]


def areas(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return the areas of triangles `(faces,)`."""
    first, second, third = vertices[faces].transpose(1, 0, 2)
    return np.linalg.norm(np.cross(second - first, third - first), axis=1) / 2


def _unit(points):
    return (points - points.mean(axis=0)) / max(np.abs(points - points.mean(axis=0)).max(), 1e-300)


def _rays(low, high, half_width):
    """Return rays `(14, (2R + 1)^2, 6)`: origin and direction, parallel in each view."""
    middle, half_diagonal = (low + high) / 2, np.linalg.norm(high - low) / 2
    spacing = (high - low).max() / (2 * half_width + 1)
    steps = np.arange(-half_width, half_width + 1) * spacing
    across, along = (grid.ravel()[:, None] for grid in np.meshgrid(steps, steps, indexing="ij"))
    views = []
    for view in VIEWS:
        direction = view if np.count_nonzero(view) == 1 else view * (high - low) / 2
        direction = direction / np.linalg.norm(direction)
        turn = _turn_from_z(direction)
        origins = middle + direction * half_diagonal + across * turn[:, 0] + along * turn[:, 1]
        views.append(np.hstack([origins, np.broadcast_to(-direction, origins.shape)]))
    return np.stack(views).astype(np.float32)


def _turn_from_z(direction):
    """Return the rotation matrix that takes +z to a direction by the shortest way."""
    x, y, z = direction
    if z < -1 + 1e-12:
        return np.diag([1.0, -1.0, -1.0])
    return np.array(
        [
            [1 - x * x / (1 + z), -x * y / (1 + z), x],
            [-x * y / (1 + z), 1 - y * y / (1 + z), y],
            [-x, -y, z],
        ]
    )

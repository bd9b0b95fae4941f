"""Solids from which made-up shapes are put together: lofts, and what is special about them.

A solid is a pair of vertices `(n, 3)` and triangles `(m, 3)`, closed and wound outward. z is up.
"""

from collections.abc import Iterable, Sequence

import numpy as np

Solid = tuple[np.ndarray, np.ndarray]
Point = Sequence[float]


def areas(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return the areas `(faces,)` of triangles."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2


def volume(solid: Solid) -> float:
    """Return the signed volume of a closed solid, by the divergence theorem."""
    a, b, c = (solid[0][solid[1][:, i]] for i in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


def loft(rings: np.ndarray, closed: bool = False) -> Solid:
    """Stretch a skin over rings.

    Args:
        rings: Loops of points, `(rings, points, 3)`. The first and the last must be star-shaped
            about their means, where their lids meet. A ring may shrink to a point.
        closed: Join the last ring to the first instead of putting lids on both.

    Returns:
        The solid, wound outward; triangles without area are left out.
    """
    rings = np.asarray(rings, np.float64)
    count, sides = rings.shape[:2]
    grid = np.arange(count * sides).reshape(count, sides)
    this = grid if closed else grid[:-1]
    above = np.roll(grid, -1, axis=0) if closed else grid[1:]
    a, b, c, d = this, np.roll(this, -1, axis=1), np.roll(above, -1, axis=1), above
    faces = [np.stack([a, b, c], -1), np.stack([a, c, d], -1)]
    vertices = rings.reshape(-1, 3)
    if not closed:
        vertices = np.concatenate([vertices, rings[[0, -1]].mean(axis=1)])
        for loop, centre in ((grid[0][::-1], count * sides), (grid[-1], count * sides + 1)):
            faces.append(np.stack([loop, np.roll(loop, -1), np.full(sides, centre)], -1))
    faces = np.concatenate([rows.reshape(-1, 3) for rows in faces])
    faces = faces[areas(vertices, faces) > 1e-10 * np.ptp(vertices, axis=0).max() ** 2]
    used, faces = np.unique(faces, return_inverse=True)
    return outward((vertices[used], faces.reshape(-1, 3)))


def outward(solid: Solid) -> Solid:
    """Turn a closed solid inside out if it is wound inward."""
    return solid if volume(solid) > 0 else (solid[0], solid[1][:, ::-1])


def superellipse(width: float, depth: float, power: float = 2, sides: int = 16) -> np.ndarray:
    """Return the outline `(sides, 2)` of an ellipse (power 2) up to nearly a rectangle (10).

    With four sides and power 2 it is the rectangle itself.
    """
    angle = (np.arange(sides) + 0.5) * (2 * np.pi / sides)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    if sides == 4:
        ring *= np.sqrt(2)
    ring = np.sign(ring) * np.abs(ring) ** (2 / power)
    return ring * (width / 2, depth / 2)


def box(size: Point, at: Point = (0, 0, 0)) -> Solid:
    """Return a box of sizes x, y, z; `at` is the middle of its bottom."""
    return extrude(superellipse(size[0], size[1], sides=4), size[2], at)


def extrude(outline: np.ndarray, height: float, at: Point = (0, 0, 0), top: float = 1) -> Solid:
    """Raise an outline `(points, 2)` along z; at the top it is `top` times as large."""
    outline = np.asarray(outline, np.float64)
    rings = [np.insert(outline * scale, 2, z, axis=1) for scale, z in ((1, 0), (top, height))]
    return loft(np.stack(rings) + np.asarray(at))


def revolve(
    profile: Iterable[Point], at: Point = (0, 0, 0), sides: int = 20, power: float = 2
) -> Solid:
    """Turn a profile about the z axis.

    Args:
        profile: Pairs of radius and height. To be hollow it goes up outside and down inside.
        at: Where its origin stands.
        sides: Corners of a ring.
        power: That of the superellipse of its rings.
    """
    ring = np.insert(superellipse(2, 2, power, sides), 2, 0, axis=1)
    return loft(np.stack([ring * r + (0, 0, z) for r, z in profile]) + np.asarray(at))


def cylinder(radius: float, height: float, at: Point = (0, 0, 0), sides: int = 16) -> Solid:
    """Return an upright cylinder; `at` is the middle of its bottom."""
    return revolve([(radius, 0), (radius, height)], at, sides)


def ellipsoid(radii: Point | float, at: Point = (0, 0, 0), sides: int = 12) -> Solid:
    """Return an ellipsoid about its centre."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, sides // 2 + 1)
    ball = revolve(zip(np.cos(angle).round(12), np.sin(angle), strict=True), sides=sides)
    return move(stretch(ball, radii), at)


def tube(
    path: Iterable[Point], radius: float | Iterable[float], sides: int = 8, flat: float = 1
) -> Solid:
    """Lead a section along a path.

    Args:
        path: Points `(points, 3)`, no two neighbours alike.
        radius: One, or one for each point. With four sides the section is a square of side
            twice the radius.
        sides: Corners of the section.
        flat: The second axis of the section as a share of the first, which starts level.
    """
    path = np.asarray(list(path), np.float64)
    along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    across = np.cross(along[0], (0, 0, 1))
    if np.linalg.norm(across) < 1e-6:
        across = np.array([1.0, 0, 0])
    section = superellipse(2, 2 * flat, sides=sides)
    rings = []
    for point, ahead, r in zip(path, along, np.broadcast_to(radius, len(path)), strict=True):
        # Carried along without twist.
        across = across - across @ ahead * ahead
        across /= np.linalg.norm(across)
        rings.append(point + r * section @ np.stack([across, np.cross(ahead, across)]))
    return loft(rings)


def ring(radius: float, thick: float, at: Point = (0, 0, 0), sides: int = 16) -> Solid:
    """Return a torus that lies level."""
    profile = superellipse(2 * thick, 2 * thick, sides=6)
    angle = np.arange(sides) * (2 * np.pi / sides)
    r = radius + profile[:, 0]
    rings = [np.stack([r * np.cos(t), r * np.sin(t), profile[:, 1]], axis=1) for t in angle]
    return loft(np.stack(rings) + np.asarray(at), closed=True)


def wing(root: Point, tip: Point, chords: Point, thick: float = 0.1) -> Solid:
    """Return a wing between the leading edges at its root and its tip; it trails toward -x.

    Args:
        root: Leading edge at the root.
        tip: Leading edge at the tip, any direction but x away.
        chords: Lengths along x at the root and the tip.
        thick: Thickness as a share of the chord.
    """
    root, tip = np.asarray(root, np.float64), np.asarray(tip, np.float64)
    up = np.cross((1.0, 0, 0), tip - root)
    up /= np.linalg.norm(up)
    section = [(0, 0), (-0.3, 0.5), (-1, 0.05), (-1, -0.05), (-0.3, -0.5)]
    rings = [
        [edge + chord * (np.array([x, 0, 0]) + y * thick * up) for x, y in section]
        for edge, chord in zip((root, tip), chords, strict=True)
    ]
    return loft(rings)


def bend(start: Point, control: Point, end: Point, count: int = 8) -> np.ndarray:
    """Return points `(count, 3)` of a quadratic Bezier curve."""
    t = np.linspace(0, 1, count)[:, None]
    start, control, end = (np.asarray(p, np.float64) for p in (start, control, end))
    return (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end


def move(solid: Solid, by: Point) -> Solid:
    """Shift a solid."""
    return solid[0] + np.asarray(by, np.float64), solid[1]


def stretch(solid: Solid, factors: Point | float) -> Solid:
    """Scale a solid about the origin; a negative factor mirrors it."""
    return outward((solid[0] * np.asarray(factors, np.float64), solid[1]))


def turn(solid: Solid, axis: str, degrees: float, about: Point = (0, 0, 0)) -> Solid:
    """Turn a solid by the right-hand rule about an axis, `x`, `y` or `z`, through a point."""
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    about = np.asarray(about, np.float64)
    places = solid[0] - about
    places[:, [i, j]] = places[:, [i, j]] @ np.array([[cos, sin], [-sin, cos]])
    return places + about, solid[1]


def lean(solid: Solid, slope: float, axis: int = 0, foot: float = 0) -> Solid:
    """Shear a solid along x (0) or y (1) by `slope` times the height above `foot`."""
    places = solid[0].copy()
    places[:, axis] += slope * (places[:, 2] - foot)
    return places, solid[1]


def union(solids: Iterable[Solid]) -> Solid:
    """Put solids into one, without cutting what overlaps."""
    solids = list(solids)
    starts = np.cumsum([0] + [len(vertices) for vertices, _ in solids[:-1]])
    faces = [faces + start for (_, faces), start in zip(solids, starts, strict=True)]
    return np.concatenate([vertices for vertices, _ in solids]), np.concatenate(faces)


def pair(solid: Solid, axis: int = 1) -> Solid:
    """Return a solid and its mirror image across x = 0 (axis 0) or y = 0 (1) in one."""
    factors = np.ones(3)
    factors[axis] = -1
    return union([solid, stretch(solid, factors)])


def shifted(point: Point, x: float = 0, y: float = 0, z: float = 0) -> np.ndarray:
    """Return a point beside another."""
    return np.add(point, (x, y, z))

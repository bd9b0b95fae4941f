"""Put a texture onto a mesh: by its own texture coordinates, or by three projections."""

import re
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from shared import images
from shared.errors import ConvsuiteError, DataError, reason

from . import triplanar, turntable
from .files import write_text

READABLE = frozenset({".glb", ".obj", ".off", ".ply", ".stl"})
"""Lower-case suffixes of meshes that can be read."""

_LARGEST_COORDINATE = 1e30


class Mapped(NamedTuple):
    """What `map_texture` did.

    Attributes:
        files: What was written: mesh, material, texture, turntable as a strip and as an animation.
        mode: `uv` where the mesh brought texture coordinates, otherwise `triplanar`.
        notes: Sentences for a person.
    """

    files: tuple[Path, ...]
    mode: Literal["uv", "triplanar"]
    notes: tuple[str, ...]


class Surface(NamedTuple):
    """A triangle mesh.

    Attributes:
        vertices: float64 `(vertices, 3)`.
        faces: int64 `(faces, 3)`.
        uv: Texture coordinates of the corners of each face `(faces, 3, 2)`, v upwards; or None.
    """

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray | None


def map_texture(
    mesh_file: str | Path,
    texture: str | Path,
    out: str | Path,
    *,
    scale: float = 1.0,
    overwrite: bool = False,
) -> Mapped:
    """Write a textured mesh (OBJ, MTL, PNG) and pictures of it turning.

    With texture coordinates the texture repeats `scale` times over their unit square. Without, it
    is projected along the three axes, `scale` times over the longest side of the bounding box,
    and the blend is baked into an atlas of its own. The texture should tile in both.

    Args:
        mesh_file: GLB, OBJ, OFF, PLY or STL.
        texture: A picture.
        out: Folder of the results, named after the mesh.
        scale: Repetitions, greater than 0.
        overwrite: Replace results that are already there.

    Raises:
        DataError: The mesh cannot be read or holds no surface, a result would replace an input, or
            is there already.
        ImageError: The texture cannot be read, or a result cannot be written.
        DependencyError: A library for meshes is missing.
    """
    from shared import metrics

    mesh_file, out = Path(mesh_file), Path(out)
    if not (np.isfinite(scale) and scale > 0):
        raise DataError(f"--scale {scale}: choose a number greater than 0.")
    surface = read(mesh_file)
    picture = images.read(texture)
    stem = re.sub(r"[^\w.-]+", "_", mesh_file.stem)  # spaces end a name in an MTL file
    obj, mtl, png, strip, animation = files = tuple(
        out / f"{stem}{ending}"
        for ending in (".obj", ".mtl", ".png", "_turntable.png", "_turntable.gif")
    )
    for file in files:
        if file.resolve() in (mesh_file.resolve(), Path(texture).resolve()):
            raise DataError(f"{file} is an input; choose another folder for the results.")
        if file.exists() and not overwrite:
            raise DataError(f"{file} is already there; --overwrite makes it again.")
    notes = []
    if min(picture.shape[:2]) > 1 and metrics.tileability(picture) > metrics.VISIBLE_SEAM:
        notes.append(f"{texture} does not tile: edges will show where it repeats.")
    if surface.uv is not None:
        uv = surface.uv * scale
        notes += _seam_notes(surface, uv)
    else:
        try:
            atlas = triplanar.bake(*_in_unit_box(surface), picture, scale)
        except DataError as error:
            raise DataError(f"{mesh_file}: {reason(error)}.") from error
        picture, uv = atlas.picture, atlas.uv
        if atlas.density < 1:
            notes.append(
                f"The texture was reduced to {atlas.density:g} of its resolution to fit an atlas "
                f"of {triplanar.LARGEST_SIDE:,} texels a side."
            )
    views = turntable.views(surface.vertices, surface.faces, uv, picture)
    images.write(png, picture)
    write_text(mtl, f"newmtl texture\nKa 1 1 1\nKd 1 1 1\nKs 0 0 0\nillum 1\nmap_Kd {png.name}\n")
    write_text(obj, _obj(surface, uv, mtl.name))
    images.write(strip, np.concatenate(views, axis=1))
    turntable.write_animation(animation, views)
    return Mapped(files, "triplanar" if surface.uv is None else "uv", tuple(notes))


def read(path: str | Path) -> Surface:
    """Read a mesh; several parts become one, polygons become triangles.

    Nothing that the file names is opened, neither materials nor pictures.

    Raises:
        DataError: The file cannot be read, is damaged, or holds no surface.
    """
    path = Path(path)
    if path.suffix.lower() not in READABLE:
        raise DataError(
            f"{path}: not a kind of mesh that can be read; choose from "
            f"{', '.join(sorted(READABLE))}."
        )
    import trimesh

    try:
        with path.open("rb") as file:
            scene = trimesh.load_scene(
                file, file_type=path.suffix[1:].lower(), process=False, skip_materials=True
            )
            parts = [part for part in scene.dump() if isinstance(part, trimesh.Trimesh)]
        return _checked(parts)
    except ConvsuiteError as error:
        raise DataError(f"{path}: {reason(error)}.") from error
    except Exception as error:  # whatever a damaged or hostile file makes the library raise
        raise DataError(f"{path} cannot be read as a mesh: {reason(error)[:200]}.") from error


def _checked(parts) -> Surface:
    parts = [part for part in parts if len(part.faces)]
    if not parts:
        raise DataError("it holds no faces; export the surface, not points or lines")
    starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    vertices = np.concatenate([np.asarray(part.vertices, np.float64) for part in parts])
    faces = [
        np.asarray(part.faces, np.int64) + start
        for part, start in zip(parts, starts[:-1], strict=True)
    ]
    for own, start, end in zip(faces, starts[:-1], starts[1:], strict=True):
        if own.min() < start or own.max() >= end:
            raise DataError(f"a face names a vertex beyond the {end - start:,} that it holds")
    faces = np.concatenate(faces)
    used = vertices[np.unique(faces)]
    if not np.isfinite(used).all():
        raise DataError("it holds coordinates that are not finite numbers; repair it first")
    if np.abs(used).max() > _LARGEST_COORDINATE:
        raise DataError("its coordinates are too large to compute with; scale it down")
    if not np.ptp(used, axis=0).max() > 0:
        raise DataError("all its vertices are one and the same")
    coordinates = [getattr(part.visual, "uv", None) for part in parts]
    if any(uv is None for uv in coordinates):
        return Surface(vertices, faces, None)
    uv = np.concatenate([np.asarray(uv, np.float64)[:, :2] for uv in coordinates])[faces]
    if not np.isfinite(uv).all():
        raise DataError("it holds texture coordinates that are not finite; export them again")
    return Surface(vertices, faces, uv)


def _in_unit_box(surface):
    """Return vertices of which the box has a longest side of 1, faces, and vertex normals.

    Vertices at one place share a normal, so that the blend has no step between faces.
    """
    import trimesh

    used = surface.vertices[np.unique(surface.faces)]
    low = used.min(axis=0)
    vertices = (surface.vertices - low) / np.ptp(used, axis=0).max()
    # Vertices that no face names may be anything.
    vertices = np.nan_to_num(np.clip(vertices, 0, 1), nan=0.0)
    merged, place = np.unique(vertices, axis=0, return_inverse=True)
    whole = trimesh.Trimesh(merged, place.reshape(-1)[surface.faces], process=False)
    return vertices, surface.faces, np.asarray(whole.vertex_normals)[place.reshape(-1)]


def _seam_notes(surface, uv):
    """Say how many edges with a jump of the coordinates do not show the same texels twice."""
    _, place = np.unique(surface.vertices, axis=0, return_inverse=True)
    corners = place.reshape(-1)[surface.faces]
    first, second = corners, np.roll(corners, -1, axis=1)
    ends = np.stack([first, second], axis=2).reshape(-1, 2)
    at_ends = np.stack([uv, np.roll(uv, -1, axis=1)], axis=2).reshape(-1, 2, 2)
    turned = ends[:, 0] > ends[:, 1]
    ends[turned], at_ends[turned] = ends[turned, ::-1], at_ends[turned, ::-1]
    order = np.lexsort((ends[:, 1], ends[:, 0]))
    ends, at_ends = ends[order], at_ends[order]
    pairs = np.flatnonzero((ends[1:] == ends[:-1]).all(axis=1) & (ends[1:, 0] != ends[1:, 1]))
    jump = at_ends[pairs + 1] - at_ends[pairs]
    # The texture continues where both ends jump by the same number of whole textures.
    error = np.abs(jump - np.rint(jump[:, :1])).max(axis=(1, 2), initial=0)
    visible = int((error > 1e-3).sum())
    if not visible:
        return []
    return [
        f"At {visible:,} of {len(pairs):,} edges between faces the texture coordinates jump by "
        "other than whole textures; the texture breaks off there (choose a whole number for "
        "--scale, or remove the coordinates for a triplanar projection)."
    ]


def _obj(surface, uv, material):
    """Return the text of an OBJ file with one pair of texture coordinates per different corner."""
    used, faces = np.unique(surface.faces, return_inverse=True)
    corners, numbers = np.unique(uv.reshape(-1, 2), axis=0, return_inverse=True)
    pairs = np.stack([faces.reshape(-1), numbers.reshape(-1)], axis=1).reshape(-1, 6) + 1
    lines = [f"mtllib {material}", "usemtl texture"]
    lines += [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in surface.vertices[used].tolist()]
    lines += [f"vt {u:.9g} {v:.9g}" for u, v in corners.tolist()]
    lines += ["f {}/{} {}/{} {}/{}".format(*row) for row in pairs.tolist()]
    return "\n".join([*lines, ""])

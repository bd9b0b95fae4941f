"""Meshes and point clouds: what they are here, and the files they come from and go to.

Read: OFF, OBJ, STL, PLY, NPZ and the `.points` of O-CNN. Written: PLY, OFF, NPZ, `.points`.
Nothing a file contains is ever executed, and no size it claims is believed.
"""

import contextlib
import dataclasses
import importlib
import io
import itertools
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.checkpoints.arrays import read_npz
from shared.errors import DataError, DependencyError, WeightsError, reason

_POINTS_MAGIC = b"_POINTS_1.0_".ljust(16, b"\0")
_POINTS_HEADER = 88
_POINTS_BLOCKS = ("points", "normals", "features", "labels")
_POINTS_CHANNELS = {"points": 3, "normals": 3, "labels": 1}
LARGEST_LABEL = 32_767


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangle mesh, winding and topology as they come.

    Attributes:
        vertices: float64 `(vertices, 3)`, in the units of its maker.
        faces: int32 `(faces, 3)`, rows of `vertices`.
        labels: Part of each face, int32 `(faces,)`, -1 for none; or None.
    """

    vertices: np.ndarray
    faces: np.ndarray
    labels: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Cloud:
    """Points on a surface.

    Attributes:
        points: float64 `(points, 3)`, in the units of their maker.
        normals: Outward normals of length 1, float32 `(points, 3)`; or None.
        labels: Part of each point, int32 `(points,)`, -1 for none; or None.
        faces: The face each point was taken from, int32 `(points,)`; or None.
    """

    points: np.ndarray
    normals: np.ndarray | None = None
    labels: np.ndarray | None = None
    faces: np.ndarray | None = None


def read(path: str | Path) -> Mesh | Cloud:
    """Read a mesh or a point cloud.

    Args:
        path: A file; its suffix, in any case, says what it is.

    Returns:
        A mesh where the file has faces, otherwise a cloud; checked.

    Raises:
        DataError: The file cannot be read, is damaged, or holds no surface.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(
            f"{path}: not a kind of mesh that can be read; "
            f"choose from {', '.join(sorted(READABLE))}."
        )
    try:
        with np.errstate(all="ignore"):
            return check(reader(path))
    except (OSError, DataError, WeightsError) as error:
        text = reason(error).rstrip(".") or "it is damaged"
        raise DataError(f"{path}: {text.removeprefix(str(path)).lstrip(': ')}.") from error


def check(shape: Mesh | Cloud) -> Mesh | Cloud:
    """Return a shape that can be worked on.

    Raises:
        DataError: It has no faces or points, numbers that are not finite or so large that their
            squares overflow, labels out of range, or no extent.
    """
    is_mesh = isinstance(shape, Mesh)
    places = shape.vertices if is_mesh else shape.points
    if not len(places):
        raise DataError("it holds no points")
    if is_mesh and not len(shape.faces):
        raise DataError("it holds no faces")
    if not np.isfinite(places).all():
        raise DataError("it holds coordinates that are not finite numbers")
    if float(np.abs(places).max()) > 1e100:  # of single precision, too
        raise DataError("its coordinates are too large to compute with")
    if not is_mesh and shape.normals is not None and not np.isfinite(shape.normals).all():
        raise DataError("it holds normals that are not finite numbers")
    used = places[np.unique(shape.faces)] if is_mesh else places
    if not float(np.ptp(used, axis=0).max()) > 1e-100:
        raise DataError("all its points are one and the same")
    labels = shape.labels
    if labels is not None and not (labels.min() >= -1 and labels.max() <= LARGEST_LABEL):
        raise DataError(f"its labels are not all from -1 to {LARGEST_LABEL:,}")
    return shape


def write(path: str | Path, shape: Mesh | Cloud, colours: np.ndarray | None = None) -> None:
    """Write a shape; the file appears complete or not at all.

    Args:
        path: Target; `.ply` (with colours and labels), `.off` (meshes), `.npz`, `.points` (clouds).
        shape: What to write.
        colours: For `.ply`: of faces or points, 0..1, `(faces or points, 3)`.

    Raises:
        DataError: The suffix does not fit, or the file cannot be written.
    """
    path = Path(path)
    is_mesh = isinstance(shape, Mesh)
    writer = (_MESH_WRITERS if is_mesh else _CLOUD_WRITERS).get(path.suffix.lower())
    if writer is None:
        names = ", ".join(_MESH_WRITERS if is_mesh else _CLOUD_WRITERS)
        raise DataError(
            f"{path}: a {'mesh' if is_mesh else 'point cloud'} can be written as {names}."
        )
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            writer(file, shape, colours)
        os.replace(part, path)
    except (OSError, DataError) as error:
        raise DataError(f"{path} cannot be written: {reason(error)}.") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def triangles(counts: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut polygons into fans.

    Args:
        counts: Corners of each polygon `(polygons,)`.
        corners: Their vertices, one polygon after the other.

    Returns:
        Triangles `(triangles, 3)`, and the polygon each comes from. Polygons of fewer than three
        corners give none.
    """
    fans = np.maximum(counts - 2, 0)
    polygon = np.repeat(np.arange(len(counts)), fans)
    first = (np.cumsum(counts) - counts)[polygon]
    step = np.arange(len(polygon)) - (np.cumsum(fans) - fans)[polygon]
    rows = first[:, None] + np.stack([np.zeros_like(step), step + 1, step + 2], axis=1)
    return corners[rows].astype(np.int64).reshape(-1, 3), polygon


def _mesh(vertices, faces, labels=None):
    """Return a mesh; indices and labels that do not fit their type are kept out, not wrapped."""
    faces = np.asarray(faces, np.int64).reshape(-1, 3)
    if len(faces) and (faces.max() >= len(vertices) or faces.min() < 0):
        bad = faces.max() if faces.min() >= 0 else faces.min()
        raise DataError(f"a face names vertex {bad} of {len(vertices):,}")
    labels = None if labels is None else _labels(labels, len(faces), "faces")
    return Mesh(np.asarray(vertices, np.float64), faces.astype(np.int32), labels)


def _labels(values, count, name):
    """Return int32 labels; those out of range stay out of range."""
    values = np.asarray(values)
    if values.shape != (count,):
        raise DataError(f"it has labels of the shape {values.shape} for {count:,} {name}")
    if values.dtype.kind not in "iubf" or (values != np.rint(values)).any():
        raise DataError("its labels are no integers")
    return np.clip(values.astype(np.float64), -2, LARGEST_LABEL + 1).astype(np.int32)


def _numbers(rows, dtype, width=None):
    """Return the numbers of words, or with a width of rows of that many words."""
    wanted = (len(rows), width) if width else (len(rows),)
    try:
        numbers = np.array(rows, dtype) if rows else np.empty(wanted, dtype)
    except (ValueError, OverflowError):
        numbers = None
    if numbers is None or numbers.shape != wanted:
        raise DataError("it holds something that is no number, or lines that are too short")
    return numbers


def _read_off(path):
    """Read OFF. Many files of ModelNet lack the line break behind the word OFF."""
    rows = [line.partition(b"#")[0].split() for line in path.read_bytes().splitlines()]
    rows = [row for row in rows if row]
    head = re.match(rb"C?OFF", rows[0][0], re.IGNORECASE) if rows else None
    if head is None:
        raise DataError("it does not begin with OFF")
    rows[0][0] = rows[0][0][head.end() :]
    rows[0] = [word for word in rows[0] if word]
    rows = rows if rows[0] else rows[1:]
    try:
        vertex_count, face_count = int(rows[0][0]), int(rows[0][1])
    except (IndexError, ValueError):
        raise DataError("its counts of vertices and faces are missing") from None
    if vertex_count < 0 or face_count < 0 or len(rows) < 1 + vertex_count + face_count:
        raise DataError(
            f"it claims {vertex_count:,} vertices and {face_count:,} faces, and ends before"
        )
    # What stands behind the coordinates and the corners are colours.
    vertices = _numbers([row[:3] for row in rows[1 : 1 + vertex_count]], np.float64, 3)
    polygons = rows[1 + vertex_count : 1 + vertex_count + face_count]
    counts = _numbers([row[0] for row in polygons], np.int64)
    corners = [row[1 : 1 + count] for row, count in zip(polygons, counts, strict=True)]
    if (counts < 0).any() or [len(row) for row in corners] != counts.tolist():
        raise DataError("a face has fewer corners than it claims")
    corners = _numbers(list(itertools.chain.from_iterable(corners)), np.int64)
    return _mesh(vertices, triangles(counts, corners)[0])


def _read_obj(path):
    """Read OBJ: vertices and faces of all its objects; the rest, such as materials, is skipped."""
    vertices, faces, before = [], [], []
    for line in re.sub(rb"\\\r?\n", b" ", path.read_bytes()).splitlines():
        word, *values = line.partition(b"#")[0].split() or [b""]
        if word == b"v":
            vertices.append(values[:3])
        elif word == b"f":
            faces.append([value.partition(b"/")[0] for value in values])
            before.append(len(vertices))
    counts = np.array([len(face) for face in faces], np.int64)
    corners = _numbers(list(itertools.chain.from_iterable(faces)), np.int64)
    if not corners.all():
        raise DataError("a face names vertex 0, but the first one is 1")
    # Negative numbers count back from the line they stand in.
    corners = np.where(corners > 0, corners - 1, corners + np.repeat(before, counts))
    return _mesh(_numbers(vertices, np.float64, 3), triangles(counts, corners)[0])


def _read_stl(path):
    """Read STL, binary or text; each face brings its own three vertices."""
    trimesh = _library("trimesh")
    with path.open("rb") as file, _library_errors("STL"):
        parts = trimesh.load_scene(file, file_type="stl", process=False).dump()
    parts = [part for part in parts if isinstance(part, trimesh.Trimesh)]
    if not parts:
        raise DataError("it holds no faces")
    starts = np.cumsum([0] + [len(part.vertices) for part in parts[:-1]])
    faces = [part.faces + start for part, start in zip(parts, starts, strict=True)]
    return _mesh(np.concatenate([part.vertices for part in parts]), np.concatenate(faces))


def _read_ply(path):
    """Read PLY: faces with `label`, or points with `nx ny nz` and `label`."""
    plyfile = _library("plyfile")
    text = path.read_bytes()
    # Every row takes a byte or more, and plyfile makes room for all rows before it reads them.
    claims = re.findall(rb"element[\s\x1c-\x1f]+\S+[\s\x1c-\x1f]+\+?([\d_]+)", text)
    with _library_errors("PLY"):
        if max((int(claim) for claim in claims), default=0) > len(text):
            raise ValueError("it claims more than it holds")
        # Triangles first: lists of any length are read one by one in Python.
        lists = {"face": {"vertex_indices": 3, "vertex_index": 3}}
        try:
            content = plyfile.PlyData.read(path, known_list_len=lists)
        except (plyfile.PlyElementParseError, KeyError):
            content = plyfile.PlyData.read(io.BytesIO(text))
    if "vertex" not in content:
        raise DataError("it holds no points")
    vertex = content["vertex"].data
    points = _columns(vertex, "x", "y", "z")
    if points is None:
        raise DataError("its points have no x, y and z")
    if "face" not in content or not content["face"].count:
        normals = _columns(vertex, "nx", "ny", "nz")
        return _cloud(points, normals, _column(vertex, "label"))
    face = content["face"].data
    name = next((n for n in ("vertex_indices", "vertex_index") if n in face.dtype.names), None)
    if name is None:
        raise DataError("its faces have no vertex_indices")
    corners, labels = face[name], _column(face, "label")
    counts = np.full(len(corners), 3)
    if corners.dtype == object:
        counts = np.array([len(polygon) for polygon in corners])
        corners = np.concatenate(corners)
    elif corners.ndim == 1:
        raise DataError("its faces are no lists of vertices")
    if corners.dtype.kind not in "iu":
        raise DataError("its faces name vertices by numbers that are no integers")
    corners, polygon = triangles(counts, corners.reshape(-1))
    return _mesh(points, corners, None if labels is None else labels[polygon])


def _read_npz(path):
    """Read NPZ: `points`, `normals`, `labels`, or `vertices`, `faces`, `labels`."""
    arrays = read_npz(path)
    labels = arrays.get("labels")
    if "faces" in arrays:
        faces = _matrix(arrays, "faces")
        if faces.dtype.kind == "f":
            raise DataError("its `faces` are no integers")
        return _mesh(_matrix(arrays, "vertices"), faces, labels)
    if "points" not in arrays:
        raise DataError("it holds neither `points` nor `vertices` and `faces`")
    normals = _matrix(arrays, "normals") if "normals" in arrays else None
    return _cloud(_matrix(arrays, "points"), normals, labels)


def _read_points(path):
    """Read `.points`: a header of 88 bytes, then blocks of float32, point after point."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(_POINTS_HEADER)
        if len(header) < _POINTS_HEADER or header[:16].rstrip(b"\0") != _POINTS_MAGIC.rstrip(b"\0"):
            raise DataError("it does not begin as a .points file does")
        count, flags, *numbers = np.frombuffer(header, "<i4", 18, offset=16).tolist()
        blocks = {}
        for bit, name in enumerate(_POINTS_BLOCKS):
            if not flags >> bit & 1:
                continue
            channels, offset = numbers[bit], numbers[8 + bit]
            wanted = _POINTS_CHANNELS.get(name, channels)
            if count < 0 or channels != wanted or channels < 1 or offset < _POINTS_HEADER:
                raise DataError(f"its header is wrong about the {name}")
            if offset + 4 * count * channels > size:
                raise DataError(f"it claims {count:,} points and ends before their {name}")
            file.seek(offset)
            values = np.frombuffer(file.read(4 * count * channels), "<f4")
            blocks[name] = values.reshape(count, channels)
    if "points" not in blocks:
        raise DataError("it holds no points")
    labels = blocks.get("labels")
    labels = None if labels is None else labels[:, 0]
    return _cloud(blocks["points"], blocks.get("normals"), labels)


def _cloud(points, normals=None, labels=None):
    """Return a cloud with normals of length 1; one of length 0 stays."""
    points = np.asarray(points, np.float64)
    if normals is not None:
        if len(normals) != len(points):
            raise DataError(f"it has {len(normals):,} normals for {len(points):,} points")
        lengths = np.linalg.norm(normals, axis=1, keepdims=True)
        normals = (normals / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    labels = None if labels is None else _labels(labels, len(points), "points")
    return Cloud(points, normals, labels)


def _matrix(arrays, name):
    if name not in arrays:
        raise DataError(f"it holds no `{name}`")
    if arrays[name].ndim != 2 or arrays[name].shape[1] != 3 or arrays[name].dtype.kind not in "iuf":
        raise DataError(f"its `{name}` are no numbers of the shape (n, 3)")
    return arrays[name]


def _columns(data, *names):
    columns = [_column(data, name) for name in names]
    if any(column is None or column.dtype == object for column in columns):
        return None
    return np.stack(columns, axis=1).astype(np.float64)


def _column(data, name):
    return data[name] if name in data.dtype.names else None


@contextlib.contextmanager
def _library_errors(kind):
    """Turn whatever a damaged or hostile file makes a library raise into a `DataError`."""
    try:
        yield
    except Exception as error:
        raise DataError(f"it is no sound {kind} ({reason(error)[:200]})") from error


def _library(name):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DependencyError(
            f"Reading this kind of mesh needs {name}; run `pip install {name}`."
        ) from error


def _is_single(values):
    """Say whether float32 holds the values as they are."""
    with np.errstate(over="ignore"):
        return np.array_equal(values.astype(np.float32), values)


def _write_off(file, mesh, colours):
    file.write(f"OFF\n{len(mesh.vertices)} {len(mesh.faces)} 0\n".encode())
    np.savetxt(file, mesh.vertices, "%.17g")
    np.savetxt(file, np.insert(mesh.faces, 0, 3, axis=1), "%d")


def _write_ply(file, shape, colours):
    """Write binary PLY; labels and colours stand on what they belong to."""
    extra = [] if shape.labels is None else [("label", "<i4", shape.labels)]
    if colours is not None:
        levels = np.round(np.clip(colours, 0, 1) * 255).astype(np.uint8)
        extra += [(name, "u1", levels[:, i]) for i, name in enumerate(("red", "green", "blue"))]
    is_mesh = isinstance(shape, Mesh)
    places = shape.vertices if is_mesh else shape.points
    kind = "<f4" if _is_single(places) else "<f8"
    columns = [(axis, kind, places[:, i]) for i, axis in enumerate("xyz")]
    if is_mesh:
        counts = np.full(len(shape.faces), 3)
        corners = [("size", "u1", counts), ("vertex_indices", "<i4", shape.faces)]
        elements = [("vertex", columns), ("face", corners + extra)]
    else:
        if shape.normals is not None:
            columns += [(f"n{axis}", "<f4", shape.normals[:, i]) for i, axis in enumerate("xyz")]
        elements = [("vertex", columns + extra)]
    kinds = {"u1": "uchar", "<i4": "int", "<f4": "float", "<f8": "double"}
    lines = ["ply", "format binary_little_endian 1.0", "comment written by convsuite"]
    for name, fields in elements:
        lines.append(f"element {name} {len(fields[0][2])}")
        for field, kind, _ in fields:
            if field == "vertex_indices":
                lines.append("property list uchar int vertex_indices")
            elif field != "size":
                lines.append(f"property {kinds[kind]} {field}")
    file.write("\n".join([*lines, "end_header", ""]).encode())
    for _, fields in elements:
        formats = [(field, kind, np.shape(values)[1:]) for field, kind, values in fields]
        rows = np.empty(len(fields[0][2]), formats)
        for field, _, values in fields:
            rows[field] = values
        file.write(rows.tobytes())


def _write_npz(file, shape, colours):
    arrays = {field.name: getattr(shape, field.name) for field in dataclasses.fields(shape)}
    # The faces that points were taken from mean nothing without the mesh.
    if isinstance(shape, Cloud):
        arrays.pop("faces")
    np.savez(file, **{name: array for name, array in arrays.items() if array is not None})


def _write_points(file, cloud, colours):
    if np.abs(cloud.points).max(initial=0) > np.finfo(np.float32).max:
        raise DataError("its coordinates are too large for a .points file")
    blocks = {"points": cloud.points, "normals": cloud.normals, "labels": cloud.labels}
    flags, at = 0, _POINTS_HEADER
    channels, offsets = np.zeros((2, 8), "<i4")
    for bit, name in enumerate(_POINTS_BLOCKS):
        if blocks.get(name) is not None:
            flags |= 1 << bit
            channels[bit], offsets[bit] = _POINTS_CHANNELS[name], at
            at += 4 * blocks[name].size
    file.write(_POINTS_MAGIC + np.array([len(cloud.points), flags], "<i4").tobytes())
    file.write(channels.tobytes() + offsets.tobytes())
    for name in _POINTS_BLOCKS:
        if blocks.get(name) is not None:
            file.write(np.asarray(blocks[name], "<f4").tobytes())


_READERS = {
    ".off": _read_off,
    ".obj": _read_obj,
    ".stl": _read_stl,
    ".ply": _read_ply,
    ".npz": _read_npz,
    ".points": _read_points,
}
READABLE = frozenset(_READERS)
"""Lower-case suffixes of what can be read."""
_MESH_WRITERS = {".ply": _write_ply, ".off": _write_off, ".npz": _write_npz}
_CLOUD_WRITERS = {".ply": _write_ply, ".npz": _write_npz, ".points": _write_points}

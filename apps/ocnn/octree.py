"""Octrees of oriented point clouds and the tables that convolutions on them read. Pure NumPy.

Source: Wang et al. 2017, "O-CNN". Conventions:

- Points lie in -1..1; *leaf units* run from 0 to `2 ** depth` along each axis.
- The *key* of a node interleaves the bits of its cell, x highest: `4 x + 2 y + z` per level. The
  number of the shape in a batch stands in the bits from 48 on, so sorted keys are sorted by shape.
- Levels 0 to 2 are full. Every level below holds all eight children of every node above that
  contains points, in the order of their keys: `8 * child .. 8 * child + 7`.
- Column `9 (dx + 1) + 3 (dy + 1) + (dz + 1)` of a neighbour table is the node at `(dx, dy, dz)`.
"""

import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from shared.errors import DataError, reason

FULL_DEPTH = 2
SMALLEST_DEPTH, LARGEST_DEPTH = 3, 10
LARGEST_BATCH = 32_767
LARGEST_LABEL = 32_767

_SHAPE_BIT = 48
_COORDINATE_BITS = 10
# What NumPy raises for files that are not what they claim to be.
_UNREADABLE = (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error)


def _spread_table() -> np.ndarray:
    """Return the numbers 0..1023 with two zero bits between any two of their bits."""
    numbers = np.arange(1 << _COORDINATE_BITS, dtype=np.int32)
    spread = np.zeros_like(numbers)
    for bit in range(_COORDINATE_BITS):
        spread |= (numbers >> bit & 1) << 3 * bit
    return spread


_SPREAD = _spread_table()
_CORNERS = np.indices((2, 2, 2)).reshape(3, 8).T
_OFFSETS = np.indices((3, 3, 3)).reshape(3, 27).T - 1


def _sibling_tables() -> tuple[np.ndarray, np.ndarray]:
    """Return for child s and column k the column of the parent's table, and which child there.

    Along an axis the children of the parent and of its two neighbours have the places 0 to 5;
    those of the parent are 2 and 3.
    """
    places = _CORNERS[:, None] + _OFFSETS[None] + 2
    return (places // 2 @ (9, 3, 1)).ravel(), (places % 2 @ (4, 2, 1)).astype(np.int32).ravel()


_PARENT_COLUMN, _CHILD = _sibling_tables()


def encode(cells: np.ndarray) -> np.ndarray:
    """Return the keys of cells.

    Args:
        cells: Integers `(..., 3)` in 0..1023.

    Returns:
        int32 keys `(...)`, without the number of a shape.
    """
    x, y, z = (np.take(_SPREAD, cells[..., axis]) for axis in range(3))
    return x << 2 | y << 1 | z


def decode(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the cells `(n, 3)` and the numbers of the shapes `(n,)` of keys `(n,)`, int32."""
    cells = np.zeros((len(keys), 3), np.int32)
    for bit in range(_COORDINATE_BITS):
        for axis in range(3):
            cells[:, axis] |= (keys >> (3 * bit + 2 - axis) & 1).astype(np.int32) << bit
    return cells, (keys >> _SHAPE_BIT).astype(np.int32)


@dataclass(frozen=True, eq=False)
class Octree:
    """One octree, or several merged into a batch.

    Attributes:
        depth: Level of the leaves, 3 to 10.
        batch: Number of shapes.
        keys: Per level 0..depth: int64 keys of all nodes `(nodes,)`, ascending.
        children: Per level: int32 `(nodes,)`, running number of the node among those that contain
            points, -1 for an empty one. Levels 0 and 1 count as containing points everywhere.
        points: Mean of the points of each leaf that has any, in leaf units, float32 `(leaves, 3)`.
        normals: Their mean normal, of length 1, float32 `(leaves, 3)`; zero if they cancel out.
        labels: Their most frequent label (of equally frequent ones the smallest), int32
            `(leaves,)`; -1 where no point has one. None without labels.
        features: The mean of further features, float32 `(leaves, channels)`, or None.
    """

    depth: int
    batch: int
    keys: tuple[np.ndarray, ...]
    children: tuple[np.ndarray, ...]
    points: np.ndarray
    normals: np.ndarray
    labels: np.ndarray | None = None
    features: np.ndarray | None = None

    @cached_property
    def nonempty(self) -> tuple[np.ndarray, ...]:
        """Per level: rows of the nodes that contain points, int32."""
        return tuple(np.flatnonzero(child >= 0).astype(np.int32) for child in self.children)

    @cached_property
    def _tables(self) -> list[np.ndarray]:
        """Neighbour tables of the levels computed so far."""
        return [_full_neighbours(level, self.batch) for level in range(FULL_DEPTH + 1)]

    def neighbours(self, level: int, nonempty: bool = False, stride: int = 1) -> np.ndarray:
        """Return the 3 x 3 x 3 neighbours of the nodes of a level.

        Args:
            level: 0 to `depth`.
            nonempty: Count and list only the nodes that contain points.
            stride: 2 lists the first of every eight siblings only, one for each node of the level
                above that contains points.

        Returns:
            int32 `(nodes, 27)`, -1 where there is none. Do not write into it.
        """
        tables = self._tables
        while len(tables) <= level:
            tables.append(_neighbours_below(tables[-1], self.children[len(tables) - 1]))
        table = tables[level]
        if stride == 2:
            table = table[::8]
        elif nonempty:
            table = table[self.nonempty[level]]
        return _following(self.children[level], table) if nonempty else table

    def input_features(self, kinds: str = "N") -> np.ndarray:
        """Return what a network sees in the leaves.

        Args:
            kinds: Letters: N normal (3 channels); D distance of the mean point from the centre of
                the leaf along the normal, in leaf units (1); L mean point relative to the centre
                (3); P mean point in -1..1 (3); F the further features.

        Returns:
            float32 `(leaves, channels)`, for leaves that contain points.

        Raises:
            DataError: A letter is unknown, or there are no further features.
        """
        local = self.points - np.floor(self.points) - np.float32(0.5)
        parts = {
            "N": self.normals,
            "D": np.sum(local * self.normals, axis=1, keepdims=True),
            "L": local,
            "P": self.points * np.float32(2.0 ** (1 - self.depth)) - np.float32(1),
            "F": self.features,
        }
        missing = [kind for kind in kinds if parts.get(kind) is None]
        if missing or not kinds:
            raise DataError(
                f"This octree has no input feature {''.join(missing)!r}; choose from "
                f"{', '.join(kind for kind, part in parts.items() if part is not None)}."
            )
        return np.concatenate([parts[kind] for kind in kinds], axis=1)

    def locate(
        self, keys: np.ndarray, shapes: np.ndarray, level: int, nonempty: bool = False
    ) -> np.ndarray:
        """Find nodes of a level from 2 on.

        Args:
            keys: Keys without the number of a shape `(...)`.
            shapes: Numbers of the shapes, of a shape that fits.
            level: Of the keys.
            nonempty: Return running numbers among the nodes that contain points.

        Returns:
            Rows, int32 `(...)`; -1 where there is no such node.
        """
        rows = shapes.astype(np.int32) * 8**FULL_DEPTH + (keys >> 3 * (level - FULL_DEPTH))
        for below in range(FULL_DEPTH + 1, level + 1):
            child = _following(self.children[below - 1], rows)
            inside = keys >> 3 * (level - below) & 7
            rows = np.where(child < 0, -1, 8 * child + inside)
        rows = rows.astype(np.int32)
        return _following(self.children[level], rows) if nonempty else rows

    def interpolation(
        self, points: np.ndarray, shapes: np.ndarray, level: int, nonempty: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the tables for trilinear interpolation between the centres of nodes.

        Args:
            points: Places in -1..1, `(points, 3)`.
            shapes: Numbers of their shapes in the batch, `(points,)`.
            level: Of the nodes, 2 to `depth`.
            nonempty: Count only the nodes that contain points.

        Returns:
            Rows of the eight nodes around each point, int32 `(points, 8)`, -1 where there is none,
            and weights, float32 `(points, 8)`, 0 there and of sum 1, if there is any node at all.
        """
        scaled = _leaf_units(points, level) - np.float32(0.5)
        low = np.floor(scaled)
        weights = np.abs(1 - _CORNERS - (scaled - low)[:, None]).prod(axis=2)
        cells = low.astype(np.int32)[:, None] + _CORNERS
        inside = ((cells >= 0) & (cells < 2**level)).all(axis=2)
        keys = encode(np.clip(cells, 0, 2**level - 1))
        rows = np.where(inside, self.locate(keys, shapes[:, None], level, nonempty), -1)
        weights = np.where(rows < 0, 0, weights)
        weights = weights / (weights.sum(axis=1, keepdims=True) + 1e-12)
        return rows.astype(np.int32), weights.astype(np.float32)


def build(
    points: np.ndarray,
    normals: np.ndarray,
    depth: int,
    labels: np.ndarray | None = None,
    features: np.ndarray | None = None,
) -> Octree:
    """Build the octree of one shape.

    Args:
        points: Points `(n, 3)` in -1..1; +1 itself counts to the last cell.
        normals: Their normals `(n, 3)`, of length 1.
        depth: Level of the leaves, 3 to 10.
        labels: Their labels, integers `(n,)`, -1 for none.
        features: Further features `(n, channels)`, such as colours.

    Returns:
        The octree.

    Raises:
        DataError: The depth is outside 3..10; there are no points; shapes do not agree; values are
            not finite; points lie outside -1..1; labels are no integers from -1 to 32,767.
    """
    _check_depth(depth)
    points = _rows("points", points, 3)
    normals = _rows("normals", normals, 3, len(points))
    if (largest := np.abs(points).max()) > 1:
        raise DataError(
            f"The largest coordinate of the points is {largest:.4g}; normalise the shape into "
            "-1 to 1 before its octree is built."
        )
    scaled = _scaled(points, depth)
    places = scaled.astype(np.int32)
    leaves, order, starts = _groups(encode(places))
    counts = np.diff(starts, append=len(order))

    # Sums of fractions keep more digits than sums of coordinates.
    fractions = _sums(scaled - places, order, starts) / counts[:, None].astype(np.float32)
    sums = _sums(normals, order, starts)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    if features is not None:
        features = _rows("features", features, None, len(points))
        features = _sums(features, order, starts) / counts[:, None].astype(np.float32)
    if labels is not None:
        labels = _majority(_check_labels(labels, len(points))[order], counts)
    return _grown(
        depth,
        leaves,
        (places[order[starts]] + fractions).astype(np.float32),
        sums / np.maximum(lengths, np.float32(1e-12)),
        labels,
        features,
    )


def cells(points: np.ndarray, level: int) -> np.ndarray:
    """Return the cells of a level that points `(n, 3)` in -1..1 lie in, int32 `(n, 3)`."""
    return _scaled(points, level).astype(np.int32)


def merge(octrees: Sequence[Octree]) -> Octree:
    """Merge octrees of single shapes into one batch.

    Args:
        octrees: At least one, of equal depth, all or none with labels, and with features.

    Returns:
        The batch; shape i has the number i.

    Raises:
        DataError: There is none, or more than 32,767, or they differ in what they hold.
    """
    if not 0 < len(octrees) <= LARGEST_BATCH:
        raise DataError(
            f"A batch of {len(octrees):,} octrees cannot be made; take 1 to {LARGEST_BATCH:,}."
        )
    first = octrees[0]
    kinds = {(o.depth, o.batch, o.labels is None, o.features is None) for o in octrees}
    if len(kinds) > 1 or first.batch != 1:
        raise DataError(
            "Octrees to merge must be of one shape each, of equal depth, and alike in having "
            "labels and features."
        )

    def joined(name):
        parts = [getattr(octree, name) for octree in octrees]
        return None if parts[0] is None else np.concatenate(parts)

    keys, children = [], []
    for level in range(first.depth + 1):
        own = [octree.children[level] for octree in octrees]
        shifts = np.cumsum([0] + [np.count_nonzero(child >= 0) for child in own[:-1]])
        children.append(
            np.concatenate(
                [
                    np.where(child < 0, child, child + np.int32(shift))
                    for child, shift in zip(own, shifts, strict=True)
                ]
            )
        )
        keys.append(
            np.concatenate([o.keys[level] | i << _SHAPE_BIT for i, o in enumerate(octrees)])
        )
    return Octree(
        first.depth,
        len(octrees),
        tuple(keys),
        tuple(children),
        *map(joined, ("points", "normals", "labels", "features")),
    )


def save(octrees: Sequence[Octree], path: str | Path) -> None:
    """Write octrees as one small `.npz`; it appears complete or not at all.

    Args:
        octrees: As for `merge`.
        path: Target.

    Raises:
        DataError: They differ in what they hold, or the file cannot be written.
    """
    merged = merge(octrees)
    arrays = {
        "depth": np.array(merged.depth),
        "counts": np.array([len(octree.points) for octree in octrees]),
        "leaves": merged.keys[-1][merged.nonempty[-1]] & (1 << _SHAPE_BIT) - 1,
        "points": merged.points,
        "normals": merged.normals,
        "labels": merged.labels,
        "features": merged.features,
    }
    part = Path(f"{path}.part-{os.getpid()}")
    try:
        with part.open("wb") as file:
            np.savez(file, **{name: array for name, array in arrays.items() if array is not None})
        os.replace(part, path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {reason(error)}.") from error
    finally:
        part.unlink(missing_ok=True)


def load(path: str | Path) -> list[Octree]:
    """Read what `save` wrote; nothing in the file is ever executed.

    Raises:
        DataError: The file cannot be read, or holds no sound octrees.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        depth, counts = int(arrays.pop("depth")), arrays.pop("counts")
        _check_depth(depth)
        if counts.dtype.kind not in "iu" or counts.ndim != 1 or (counts < 1).any():
            raise DataError("its octrees have no leaves")
        if any(len(rows) != counts.sum() for rows in arrays.values()):
            raise DataError("its arrays do not go together")
        ends = np.cumsum(counts)[:-1]
        parts = {name: np.split(rows, ends) for name, rows in arrays.items()}
        return [
            _checked(depth, **{name: rows[number] for name, rows in parts.items()})
            for number in range(len(counts))
        ]
    except (DataError, *_UNREADABLE) as error:
        raise DataError(
            f"{path} holds no octrees of this program ({reason(error)}); build them again."
        ) from error


def _checked(depth, leaves, points, normals, labels=None, features=None):
    """Return the octree of arrays that come from outside."""
    if leaves.dtype != np.int64 or leaves.ndim != 1:
        raise DataError("it has no keys")
    if leaves[0] < 0 or leaves[-1] >= 8**depth or (np.diff(leaves) <= 0).any():
        raise DataError("its keys are not in order")
    points = _rows("points", points, 3, len(leaves))
    if (encode(np.clip(points, 0, 2**depth - 1).astype(np.int32)) != leaves).any():
        raise DataError("its points lie outside their leaves")
    normals = _rows("normals", normals, 3, len(leaves))
    if labels is not None:
        labels = _check_labels(labels, len(leaves)).astype(np.int32)
    if features is not None:
        features = _rows("features", features, None, len(leaves))
    return _grown(depth, leaves, points, normals, labels, features)


def _check_depth(depth):
    if not SMALLEST_DEPTH <= depth <= LARGEST_DEPTH:
        raise DataError(
            f"An octree of depth {depth} cannot be built; choose {SMALLEST_DEPTH} to "
            f"{LARGEST_DEPTH}."
        )


def _rows(name, values, channels, count=None):
    """Return values as float32 `(count, channels)`; None for either takes what comes."""
    values = np.asarray(values)
    wanted = f"({'n' if count is None else f'{count:,}'}, {channels or 'channels'})"
    if values.ndim != 2 or channels not in (None, values.shape[1]):
        raise DataError(f"The {name} of a shape need the form {wanted}, not {values.shape}.")
    if count not in (None, len(values)):
        raise DataError(f"The {name} of a shape need the form {wanted}, not {values.shape}.")
    if not len(values):
        raise DataError(f"A shape without {name} has no octree; give at least one point.")
    values = values.astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        raise DataError(f"The {name} of a shape hold NaN or infinite values; remove these points.")
    return values


def _check_labels(labels, count):
    labels = np.asarray(labels)
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise DataError(
            f"Labels need the form ({count:,},) of integers, not {labels.shape} of {labels.dtype}."
        )
    if labels.min() < -1 or labels.max() > LARGEST_LABEL:
        raise DataError(
            f"Labels run from {labels.min()} to {labels.max()}; they must lie between -1 (none) "
            f"and {LARGEST_LABEL:,}."
        )
    return labels


def _leaf_units(points, level):
    """Return points of -1..1 in units of the cells of a level, in float32 as `ocnn` does."""
    return (points.astype(np.float32, copy=False) + np.float32(1)) * np.float32(2 ** (level - 1))


def _scaled(points, level):
    """Return points in units of the cells of a level, inside the last one at most."""
    scaled = _leaf_units(points, level)
    # Rounding may carry a point just below +1 there, whose cell would not exist.
    return np.minimum(scaled, np.nextafter(np.float32(2**level), np.float32(0)))


def _groups(keys):
    """Sort keys: return the different ones (int64), the order, and where each begins in it.

    One sort of numbers that carry key and index is many times faster than an argsort.
    """
    bits = len(keys).bit_length()
    packed = keys.astype(np.int64) << bits | np.arange(len(keys))
    packed.sort()
    order = packed & (1 << bits) - 1
    packed >>= bits
    starts = np.flatnonzero(np.diff(packed, prepend=-1))
    return packed[starts], order, starts


def _sums(values, order, starts):
    """Return the sums `(groups, channels)` of the rows of each group."""
    return np.stack(
        [np.add.reduceat(np.take(column, order), starts) for column in values.T], axis=1
    )


def _majority(labels, counts):
    """Return the most frequent label of each group of consecutive labels, ignoring -1."""
    classes = int(labels.max()) + 1
    result = np.full(len(counts), -1, np.int32)
    groups = np.repeat(np.arange(len(counts)), counts)[labels >= 0]
    pairs, votes = np.unique(groups * classes + labels[labels >= 0], return_counts=True)
    if len(pairs):
        group, label = np.divmod(pairs, classes)
        starts = np.flatnonzero(np.diff(group, prepend=-1))
        best = np.maximum.reduceat(votes * classes + (classes - 1 - label), starts)
        result[group[starts]] = classes - 1 - best % classes
    return result


def _grown(depth, leaves, *signals):
    """Return the octree of one shape above given leaves."""
    keys, children, nodes = [], [], leaves
    for _ in range(depth, FULL_DEPTH, -1):
        above = nodes >> 3
        begins = np.diff(above, prepend=-1) != 0
        parents = above[begins]
        keys.append((parents[:, None] * 8 + np.arange(8)).ravel())
        places = (np.cumsum(begins) - 1) * 8 + (nodes & 7)
        children.append(_numbered(len(keys[-1]), places))
        nodes = parents
    for level in range(FULL_DEPTH, -1, -1):
        count = 8**level
        keys.append(np.arange(count))
        children.append(_numbered(count, nodes if level == FULL_DEPTH else np.arange(count)))
    return Octree(depth, 1, tuple(keys[::-1]), tuple(children[::-1]), *signals)


def _numbered(count, places):
    """Return int32 `(count,)`: 0, 1, … at the places, -1 elsewhere."""
    numbers = np.full(count, -1, np.int32)
    numbers[places] = np.arange(len(places), dtype=np.int32)
    return numbers


def _following(children, rows):
    """Return `children[rows]`, and -1 where the row is -1."""
    # Row -1 reads the entry appended behind the last one.
    return np.take(np.append(children, np.int32(-1)), rows, mode="wrap")


def _full_neighbours(level, batch):
    """Return the table of a full level, `(batch * 8 ** level, 27)`."""
    cells, _ = decode(np.arange(8**level))
    around = cells[:, None] + _OFFSETS
    inside = ((around >= 0) & (around < 2**level)).all(axis=2)
    rows = encode(np.maximum(around, 0)) + np.arange(batch)[:, None, None] * 8**level
    return np.where(inside, rows, -1).astype(np.int32).reshape(-1, 27)


def _neighbours_below(above, children):
    """Return the table of a level from the table and the children of the level above."""
    # A missing child is -1, and 8 * -1 + 7 still is below 0. All of it stays in int32: at depth 8
    # wider numbers would double the time.
    table = _following(children, above[children >= 0]) * np.int32(8)
    table = np.take(table, _PARENT_COLUMN, axis=1)
    table += _CHILD
    np.maximum(table, -1, out=table)
    return table.reshape(-1, 27)

"""What the networks read: a batch of octrees as a dictionary of arrays. Pure NumPy.

Rows of the arrays are nodes of the whole batch, shape after shape, in the order of their keys.
*Rows of a level* are all its nodes, or with `nonempty` those that contain points. References to
rows are shifted by one, and 0 means nothing. By name, `L` being a level:

| name | form | content |
| --- | --- | --- |
| `features` | float32 `(rows, channels)` | input features of the leaves, 0 in empty ones |
| `neighboursL` | int32 `(rows, 27)` | the rows around each row |
| `childrenL` | int32 `(nodes,)` | for all nodes, which of those that contain points it is |
| `nonemptyL` | int32 `(filled,)` | for those, which of all nodes it is, from 0 |
| `maskL` | bool `(rows,)` | whether a row is real and not padding |
| `corners` | int32 `(points, 8)` | the leaves around each query point |
| `weights` | float32 `(points, 8)` | their weights |
| `point_mask` | bool `(points,)` | whether a query point is real |
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from shared.errors import DataError

from .octree import FULL_DEPTH, Octree


class Query(NamedTuple):
    """Points at which a network is asked for an answer.

    Attributes:
        points: Places in -1..1, `(points, 3)`.
        shapes: Numbers of their shapes in the batch, `(points,)`.
    """

    points: np.ndarray
    shapes: np.ndarray


def arrays(
    octree: Octree,
    names: Iterable[str],
    nonempty: bool = False,
    features: str = "N",
    query: Query | None = None,
    capacity: Sequence[int] | None = None,
    query_capacity: int | None = None,
) -> dict[str, np.ndarray]:
    """Turn a batch into the inputs of a network.

    Args:
        octree: The batch.
        names: Inputs to make, such as `network.input`.
        nonempty: As the network was built.
        features: Letters, see `Octree.input_features`.
        query: Where to interpolate; needed for `corners`, `weights` and `point_mask`.
        capacity: Sizes to pad to, for backends that compile for each size: nodes of the levels
            0..depth + 1, where a level below the leaves counts eight for each leaf that contains
            points. Multiples of 8; sizes of the full levels 0 to 2 are never padded.
        query_capacity: Number of query points to pad to.

    Returns:
        Arrays by name. Padding copies references to the first row, so that it stays finite, and
        has the mask False.

    Raises:
        DataError: An input is unknown, the query is missing, or a capacity is too small.
    """
    sizes = _sizes(octree, capacity)
    result = {}
    for name in names:
        match = re.fullmatch(r"(neighbours|children|nonempty|mask)(\d+)", name)
        if name == "features":
            values = octree.input_features(features)
            if not nonempty:
                values = _at_all_nodes(values, octree.children[-1])
            result[name] = _padded(name, values, _row_count(sizes, octree.depth, nonempty), 0)
        elif match and int(match[2]) <= octree.depth:
            kind, level = match[1], int(match[2])
            result[name] = _level_array(octree, kind, level, nonempty, sizes)
        elif name in ("corners", "weights", "point_mask"):
            if query is None:
                raise DataError(f"The network wants {name}; give points to interpolate at.")
        else:
            raise DataError(f"An octree of depth {octree.depth} has no network input {name!r}.")
    if query is not None:
        corners, weights = octree.interpolation(*query, octree.depth, nonempty)
        count = len(corners) if query_capacity is None else query_capacity
        tables = {
            "corners": _padded("corners", corners + 1, count, 0),
            "weights": _padded("weights", weights, count, 0),
            "point_mask": np.arange(count) < len(corners),
        }
        result |= {name: table for name, table in tables.items() if name in set(names)}
    return result


def _sizes(octree, capacity):
    """Return how many nodes each level shall have; the last entry is eight per filled leaf."""
    own = [len(keys) for keys in octree.keys] + [8 * len(octree.nonempty[-1])]
    if capacity is None:
        return own
    if len(capacity) != len(own) or any(size % 8 for size in capacity[FULL_DEPTH + 1 :]):
        raise DataError(
            f"The capacity of a batch needs {len(own)} sizes, multiples of 8 from level "
            f"{FULL_DEPTH + 1} on, not {list(capacity)}."
        )
    return own[: FULL_DEPTH + 1] + list(capacity[FULL_DEPTH + 1 :])


def _filled_count(sizes, level):
    """Return the rows of nodes that contain points: each has eight children below."""
    return sizes[level + 1] // 8 if level >= FULL_DEPTH else sizes[level]


def _row_count(sizes, level, nonempty):
    return _filled_count(sizes, level) if nonempty else sizes[level]


def _level_array(octree, kind, level, nonempty, sizes):
    name = f"{kind}{level}"
    rows = _row_count(sizes, level, nonempty)
    match kind:
        case "neighbours":
            return _padded(name, octree.neighbours(level, nonempty) + 1, rows, 0)
        case "children":
            # A padding row of nothing but empty children would have the maximum -infinity.
            return _padded(name, octree.children[level] + 1, sizes[level], 1)
        case "nonempty":
            return _padded(name, octree.nonempty[level], _filled_count(sizes, level), 0)
    real = len(octree.nonempty[level]) if nonempty else len(octree.keys[level])
    return np.arange(rows) < real


def _at_all_nodes(values, children):
    """Return rows of filled nodes at their places among all nodes, 0 elsewhere."""
    result = np.zeros((len(children), values.shape[1]), values.dtype)
    result[children >= 0] = values
    return result


def _padded(name, values, count, filling):
    if len(values) > count:
        raise DataError(f"The batch has {len(values):,} rows of {name}, more than {count:,}.")
    if len(values) == count:
        return values
    rest = np.full((count - len(values), *values.shape[1:]), filling, values.dtype)
    return np.concatenate([values, rest])

import itertools
import math
import os
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_ocnn import random_cloud, reference_octree

from apps.ocnn import octree as octrees
from apps.ocnn.octree import build, decode, encode, load, merge, save
from shared.errors import DataError


def clouds_of(seed, counts):
    rng = np.random.default_rng(seed)
    return [random_cloud(rng, count) for count in counts]


def batch_of(clouds, depth):
    return merge([build(points, normals, depth) for points, normals in clouds])


# --- against `ocnn`; once is enough, since octrees are the same on all backends ---


def assert_equal_to_ocnn(clouds, depth):
    ours, theirs = batch_of(clouds, depth), reference_octree(clouds, depth)
    for level in range(depth + 1):
        assert len(ours.keys[level]) == theirs.nnum[level]
        assert len(ours.nonempty[level]) == theirs.nnum_nempty[level]
        np.testing.assert_array_equal(ours.keys[level], theirs.keys[level].numpy())
        np.testing.assert_array_equal(ours.children[level], theirs.children[level].numpy())
        for nonempty, stride in itertools.product((False, True), (1, 2)) if level else ():
            expected = theirs.get_neigh(level, "333", stride, nonempty).numpy()
            np.testing.assert_array_equal(ours.neighbours(level, nonempty, stride), expected)
    np.testing.assert_allclose(ours.points, theirs.points[depth].numpy(), atol=1e-4)
    # Where normals cancel out, what rounding leaves of the sum points anywhere.
    sums = leaf_sums(clouds, ours)
    clear = np.linalg.norm(sums, axis=1) > 0.02
    np.testing.assert_allclose(ours.normals[clear], theirs.normals[depth].numpy()[clear], atol=1e-5)


def leaf_sums(clouds, octree):
    sums = np.zeros_like(octree.normals)
    for shape, (points, normals) in enumerate(clouds):
        cells = np.floor((points + np.float32(1)) * 2 ** (octree.depth - 1)).astype(int)
        rows = octree.locate(encode(cells), np.full(len(points), shape), octree.depth, True)
        np.add.at(sums, rows, normals)
    return sums


@pytest.mark.slow_on_jax
@pytest.mark.backends
@settings(max_examples=200 if os.environ.get("CONVSUITE_SLOW") else 20)
@given(
    seed=st.integers(0, 2**32 - 1),
    depth=st.integers(3, 8),
    counts=st.lists(st.integers(1, 1500), min_size=1, max_size=8),
)
def test_equals_ocnn(seed, depth, counts):
    assert_equal_to_ocnn(clouds_of(seed, counts), depth)


@pytest.mark.slow_on_jax
@pytest.mark.backends
@pytest.mark.parametrize("depth", range(3, 9))
def test_equals_ocnn_on_large_clouds(depth):
    assert_equal_to_ocnn(clouds_of(depth, [100_000, 1, 10_000]), depth)


@pytest.mark.backends
@pytest.mark.slow
@pytest.mark.parametrize("depth", [3, 5, 8])
@pytest.mark.parametrize("shape", ["sphere", "box", "duplicates"])
def test_equals_ocnn_on_a_million_points(depth, shape, rng):
    assert_equal_to_ocnn([random_cloud(rng, 1_000_000, shape)], depth)


@pytest.mark.backends
@pytest.mark.parametrize("kinds", ["N", "D", "L", "P", "ND", "NDLP"])
def test_input_features_equal_ocnn(kinds):
    clouds = clouds_of(3, [1000, 50])
    ours = batch_of(clouds, 5).input_features(kinds)
    expected = reference_octree(clouds, 5).get_input_feature(kinds, nempty=True).numpy()
    # `ocnn` sorts the letters into this order itself.
    np.testing.assert_allclose(ours, expected, atol=1e-4)


# --- against dictionaries and loops ---


def cells_of(points, level):
    return [tuple(int((float(c) + 1) * 2 ** (level - 1)) for c in point) for point in points]


def key_of(cell, level):
    """Interleave bits by writing them down."""
    return int("".join(f"{c:0{level}b}"[i] for i in range(level) for c in cell) or "0", 2)


def brute_force(shapes, depth):
    """Return per level: cells in order with their shape, and those that contain points."""
    levels = []
    for level in range(depth + 1):
        nodes, filled = [], []
        for shape, points in enumerate(shapes):
            own = set(cells_of(points, level)) if level else {(0, 0, 0)}
            if level <= 2:
                every = set(itertools.product(range(2**level), repeat=3))
                own = own if level == 2 else every
            else:
                above = set(cells_of(points, level - 1))
                every = {
                    tuple(2 * a + b for a, b in zip(cell, corner, strict=True))
                    for cell in above
                    for corner in itertools.product((0, 1), repeat=3)
                }
            nodes += [(shape, cell) for cell in sorted(every, key=lambda c: key_of(c, level))]
            filled += [(shape, cell) for cell in own]
        levels.append((nodes, set(filled)))
    return levels


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    depth=st.integers(3, 5),
    counts=st.lists(st.integers(1, 60), min_size=1, max_size=3),
)
def test_equals_brute_force(seed, depth, counts):
    # Multiples of 1/64 are exact in float32, so that loops and arrays cannot round differently.
    rng = np.random.default_rng(seed)
    shapes = [rng.integers(-64, 64, (n, 3)).astype(np.float32) / 64 for n in counts]
    tree = merge([build(points, np.ones_like(points), depth) for points in shapes])
    for level, (nodes, filled) in enumerate(brute_force(shapes, depth)):
        expected = [key_of(cell, level) + (shape << 48) for shape, cell in nodes]
        assert tree.keys[level].tolist() == expected
        row_of = {node: row for row, node in enumerate(nodes)}
        number_of = {node: n for n, node in enumerate(node for node in nodes if node in filled)}
        assert tree.children[level].tolist() == [number_of.get(node, -1) for node in nodes]
        for nonempty, numbers in ((False, row_of), (True, number_of)):
            table = [
                [
                    numbers.get((shape, (x + dx, y + dy, z + dz)), -1)
                    for dx, dy, dz in itertools.product((-1, 0, 1), repeat=3)
                ]
                for shape, (x, y, z) in numbers
            ]
            assert tree.neighbours(level, nonempty).tolist() == table


def test_leaves_hold_means_and_majorities(rng):
    points, normals = random_cloud(rng, 500, "box")
    labels = rng.integers(-1, 4, 500)
    colours = rng.random((500, 2), np.float32)
    tree = build(points, normals, 3, labels, colours)
    cells = cells_of(points, 3)
    order = sorted(set(cells), key=lambda cell: key_of(cell, 3))
    assert len(tree.points) == len(order)
    assert {tree.points.dtype, tree.normals.dtype, tree.features.dtype} == {np.dtype("float32")}
    for row, cell in enumerate(order):
        own = np.array([c == cell for c in cells])
        np.testing.assert_allclose(tree.points[row], ((points[own] + 1) * 4).mean(0), atol=1e-5)
        total = normals[own].sum(0)
        np.testing.assert_allclose(tree.normals[row], total / np.linalg.norm(total), atol=1e-4)
        np.testing.assert_allclose(tree.features[row], colours[own].mean(0), atol=1e-6)
        votes = Counter(label for label in labels[own].tolist() if label >= 0)
        best = min(votes, key=lambda label: (-votes[label], label), default=-1)
        assert tree.labels[row] == best


def test_leaves_without_any_label_have_none():
    tree = build(np.zeros((3, 3)), np.ones((3, 3)), 4, np.full(3, -1))
    assert tree.labels.tolist() == [-1]


@given(st.lists(st.tuples(*[st.integers(0, 1023)] * 3), min_size=1, max_size=20))
def test_keys_are_interleaved_bits(cells):
    cells = np.array(cells)
    keys = encode(cells)
    assert keys.tolist() == [key_of(tuple(cell), 10) for cell in cells.tolist()]
    np.testing.assert_array_equal(decode(keys)[0], cells)


def test_neighbours_are_symmetric(rng):
    tree = batch_of(clouds_of(5, [800, 300]), 5)
    for nonempty in (False, True):
        table = tree.neighbours(5, nonempty)
        for column in range(27):
            rows = np.flatnonzero(table[:, column] >= 0)
            np.testing.assert_array_equal(table[table[rows, column], 26 - column], rows)


# --- interpolation ---


@pytest.mark.parametrize("nonempty", [False, True])
def test_interpolation_tables_equal_loops(nonempty, rng):
    clouds = clouds_of(7, [400, 30])
    tree = batch_of(clouds, 4)
    places = rng.uniform(-1, 1, (40, 3)).astype(np.float32)
    shapes = rng.integers(0, 2, 40)
    for level in (2, 3, 4):
        keys = tree.keys[level][tree.nonempty[level]] if nonempty else tree.keys[level]
        row_of = {key: row for row, key in enumerate(keys.tolist())}
        rows, weights = tree.interpolation(places, shapes, level, nonempty)
        for i, (place, shape) in enumerate(zip(places.astype(float), shapes, strict=True)):
            units = ((place + 1) * 2 ** (level - 1) - 0.5).tolist()
            expected = {}
            for corner in itertools.product((0, 1), repeat=3):
                cell = tuple(int(np.floor(u)) + c for u, c in zip(units, corner, strict=True))
                inside = all(0 <= c < 2**level for c in cell)
                key = key_of(cell, level) + (int(shape) << 48) if inside else -1
                if key in row_of:
                    parts = (1 - abs(u - c) for u, c in zip(units, cell, strict=True))
                    expected[row_of[key]] = math.prod(parts)
            total = sum(expected.values())
            pairs = zip(rows[i].tolist(), weights[i].tolist(), strict=True)
            found = {row: weight for row, weight in pairs if row >= 0}
            assert found == pytest.approx({r: w / total for r, w in expected.items()}, abs=1e-5)
            assert weights[i].sum() == pytest.approx(1 if expected else 0, abs=1e-5)


# --- edges and errors ---


def test_the_last_cell_holds_what_lies_at_plus_one():
    edge = np.array([[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0], [np.nextafter(np.float32(1), 0)] * 3])
    tree = build(edge, np.ones((3, 3)), 3)
    assert decode(tree.keys[3][tree.nonempty[3]])[0].tolist() == [[0, 0, 0], [7, 7, 7]]
    assert (tree.points < 8).all()


def test_equal_points_make_one_leaf():
    tree = build(np.full((1000, 3), 0.3), np.tile([0.0, 0.0, 1.0], (1000, 1)), 6)
    assert [len(rows) for rows in tree.nonempty] == [1, 8, 1, 1, 1, 1, 1]
    np.testing.assert_allclose(tree.points, [[1.3 * 32] * 3], rtol=1e-6)


def test_opposite_normals_cancel_out():
    tree = build(np.zeros((2, 3)), np.array([[0, 0, 1], [0, 0, -1]]), 3)
    assert tree.normals.tolist() == [[0, 0, 0]]


GOOD = np.zeros((4, 3)), np.ones((4, 3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*GOOD, 2), "depth 2"),
        ((*GOOD, 11), "depth 11"),
        ((np.zeros((0, 3)), np.zeros((0, 3)), 5), "without points"),
        ((np.full((4, 3), np.nan), GOOD[1], 5), "points of a shape hold NaN"),
        ((GOOD[0], np.full((4, 3), np.inf), 5), "normals of a shape hold NaN or inf"),
        ((np.full((4, 3), 1e30), GOOD[1], 5), "normalise"),
        ((np.full((4, 3), -1.001), GOOD[1], 5), "normalise"),
        ((np.zeros((4, 2)), GOOD[1], 5), "points"),
        ((GOOD[0], np.ones((3, 3)), 5), "normals"),
        ((*GOOD, 5, np.array([0, 1, 2])), "Labels need the form"),
        ((*GOOD, 5, np.array([0.0, 1, 2, 3])), "of integers"),
        ((*GOOD, 5, np.array([0, 1, 2, -2])), "-2 to 2"),
        ((*GOOD, 5, np.array([0, 1, 2, 40_000])), "40000"),
        ((*GOOD, 5, None, np.full((4, 1), np.nan)), "features of a shape hold NaN"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        build(*arguments)


def test_bad_batches_are_refused():
    tree = build(*GOOD, 3)
    for octrees_, message in (
        ([], "batch of 0"),
        ([tree] * 32_768, "32,768"),
        ([tree, build(*GOOD, 4)], "equal depth"),
        ([tree, build(*GOOD, 3, np.arange(4))], "labels"),
        ([merge([tree, tree])], "one shape"),
    ):
        with pytest.raises(DataError, match=message):
            merge(octrees_)


def test_unknown_features_are_refused():
    tree = build(*GOOD, 3)
    for kinds in ("NX", "F", ""):
        with pytest.raises(DataError, match="choose from N, D, L, P"):
            tree.input_features(kinds)


# --- files ---


def test_saved_octrees_come_back(tmp_path, rng):
    trees = []
    for count in (700, 1, 90):
        points, normals = random_cloud(rng, count)
        trees.append(build(points, normals, 5, rng.integers(-1, 5, count), rng.random((count, 2))))
    save(trees, tmp_path / "trees.npz")
    found = load(tmp_path / "trees.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["trees.npz"]
    for tree, back in zip(trees, found, strict=True):
        assert (back.depth, back.batch) == (5, 1)
        for ours, theirs in zip(back.keys + back.children, tree.keys + tree.children, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        for name in ("points", "normals", "labels", "features"):
            np.testing.assert_array_equal(getattr(back, name), getattr(tree, name))
    with pytest.raises(DataError, match="cannot be made"):
        save([], tmp_path / "none.npz")
    with pytest.raises(DataError, match="cannot be written"):
        save(trees, tmp_path / "nowhere" / "trees.npz")


def test_damaged_files_are_refused(tmp_path, rng):
    trees = [build(*random_cloud(rng, 50), 4) for _ in range(2)]
    path = tmp_path / "trees.npz"
    save(trees, path)
    whole = path.read_bytes()
    with np.load(path) as file:
        arrays = dict(file)

    def refused():
        with pytest.raises(DataError, match="build them again"):
            load(path)

    for part in (b"", whole[:10], whole[:-30], b"PK" + whole[5:], b"\x80\x04N."):
        path.write_bytes(part)
        refused()
    path.unlink()
    refused()
    np.save(tmp_path / "tree.npy", np.zeros(3))
    (tmp_path / "tree.npy").rename(path)
    refused()
    for change in (
        {"depth": np.array(99)},
        {"depth": np.array([4, 4])},
        {"depth": np.array({}, dtype=object)},
        {"counts": arrays["counts"][:1]},
        {"counts": arrays["counts"] + [1, -1]},
        {"counts": np.append(arrays["counts"], 0)},
        {"counts": arrays["counts"].astype(np.float64)},
        {"leaves": arrays["leaves"][::-1]},
        {"leaves": arrays["leaves"] + 8**4},
        {"leaves": arrays["leaves"].astype(np.float64)},
        {"points": arrays["points"] * np.nan},
        {"points": arrays["points"][:-1]},
        {"points": arrays["points"][::-1]},
        {"normals": arrays["normals"][:, :2]},
        {"labels": np.full(len(arrays["leaves"]), -7)},
        {"more": arrays["leaves"]},
    ):
        np.savez(path, **(arrays | change))
        refused()


def test_octree_depth_constants_agree_with_the_key_width():
    assert 3 * octrees.LARGEST_DEPTH <= 31

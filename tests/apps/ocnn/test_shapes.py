import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.ocnn import meshes, primitives, shapes
from apps.ocnn.shapes import EASY, EXTRA, HARD, PARTS
from shared.errors import DataError

SIZES = st.floats(0.1, 5)


def seeded(name, seed, hard=False):
    return shapes.generate(name, np.random.default_rng(seed), hard)


def area(solid):
    return primitives.areas(*solid).sum()


def closed(vertices, faces):
    """Say whether every directed edge is met by as many that run the other way."""
    _, place = np.unique(vertices.round(9), axis=0, return_inverse=True)
    faces = place.reshape(-1)[faces]
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = edges[edges[:, 0] != edges[:, 1]]
    there, count = np.unique(edges, axis=0, return_counts=True)
    back, other = np.unique(edges[:, ::-1], axis=0, return_counts=True)
    return np.array_equal(there, back) and np.array_equal(count, other)


def cyclic(faces):
    """Return faces with their smallest corner in front, winding kept."""
    rows = np.arange(len(faces))[:, None]
    return faces[rows, (faces.argmin(axis=1)[:, None] + np.arange(3)) % 3]


@given(SIZES, SIZES, SIZES)
@settings(max_examples=20, deadline=None)
def test_a_box_has_the_volume_and_the_area_of_the_formula(x, y, z):
    solid = primitives.box((x, y, z), (3, -2, 1))
    assert primitives.volume(solid) == pytest.approx(x * y * z)
    assert area(solid) == pytest.approx(2 * (x * y + y * z + z * x))
    np.testing.assert_allclose(solid[0].min(axis=0), [3 - x / 2, -2 - y / 2, 1], atol=1e-9)
    np.testing.assert_allclose(solid[0].max(axis=0), [3 + x / 2, -2 + y / 2, 1 + z], atol=1e-9)


@given(SIZES, SIZES, st.integers(3, 40))
@settings(max_examples=20, deadline=None)
def test_a_cylinder_is_the_prism_over_a_regular_polygon(radius, height, sides):
    solid = primitives.cylinder(radius, height, sides=sides)
    radius *= np.sqrt(2) if sides == 4 else 1
    base = sides / 2 * radius**2 * np.sin(2 * np.pi / sides)
    edge = 2 * radius * np.sin(np.pi / sides)
    assert primitives.volume(solid) == pytest.approx(base * height)
    assert area(solid) == pytest.approx(2 * base + sides * edge * height)


def test_round_solids_approach_their_formulas():
    ball = primitives.ellipsoid((1, 2, 3), sides=200)
    assert primitives.volume(ball) == pytest.approx(4 / 3 * np.pi * 6, rel=1e-3)
    torus = primitives.ring(3, 0.5, sides=200)
    hexagon = 3 / 2 * np.sqrt(3) * 0.25
    assert primitives.volume(torus) == pytest.approx(2 * np.pi * 3 * hexagon, rel=1e-3)
    cone = primitives.revolve([(1, 0), (0, 2)], sides=200)
    assert primitives.volume(cone) == pytest.approx(np.pi * 2 / 3, rel=1e-3)
    cup = primitives.revolve([(1, 0), (1, 2), (0.9, 2), (0.9, 0.1), (0, 0.1)], sides=200)
    assert primitives.volume(cup) == pytest.approx(np.pi * (2 - 0.81 * 1.9), rel=1e-3)
    path = primitives.bend((0, 0, 0), (0, 0, 2), (2, 0, 2), 40)
    length = np.linalg.norm(np.diff(path, axis=0), axis=1).sum()
    pipe = primitives.tube(path, 0.1, sides=60)
    assert primitives.volume(pipe) == pytest.approx(np.pi * 0.01 * length, rel=0.01)


SOLIDS = {
    "box": primitives.box((1, 2, 3)),
    "ball": primitives.ellipsoid((1, 2, 3)),
    "cone": primitives.revolve([(1, 0), (0, 2)]),
    "vessel": primitives.revolve([(1, 0), (1, 2), (0.9, 2), (0.9, 0.1), (0, 0.1)]),
    "torus": primitives.ring(3, 0.5),
    "star": primitives.extrude([(2, 0), (0.5, 0.5), (0, 2), (-0.5, 0.5), (-2, 0), (0, -1)], 1),
    "upside down": primitives.revolve([(1, 2), (1, 0)]),
    "pipe": primitives.tube(primitives.bend((0, 0, 0), (0, 0, 2), (2, 1, 2)), 0.1),
    "wing": primitives.wing((0, 0, 0), (-1, 4, 0.3), (1, 0.4)),
    "mirrored": primitives.stretch(primitives.box((1, 2, 3)), (1, -1, 2)),
    "pair": primitives.pair(primitives.ellipsoid(1, (0, 3, 0))),
    "leaning": primitives.lean(primitives.box((1, 2, 3)), 0.4),
    "turned": primitives.turn(primitives.box((1, 2, 3)), "y", 77, (1, 2, 3)),
}


@pytest.mark.parametrize("name", SOLIDS)
def test_solids_agree_with_trimesh_and_are_closed(name):
    trimesh = pytest.importorskip("trimesh")
    vertices, faces = SOLIDS[name]
    other = trimesh.Trimesh(vertices, faces)
    assert other.is_watertight
    assert other.is_winding_consistent
    assert closed(vertices, faces)
    assert primitives.volume(SOLIDS[name]) == pytest.approx(other.volume)
    assert other.volume > 0
    np.testing.assert_allclose(primitives.areas(vertices, faces).sum(), other.area)


def test_a_missing_or_a_turned_face_is_not_closed():
    vertices, faces = SOLIDS["box"]
    turned = faces.copy()
    turned[3] = turned[3, ::-1]
    assert not closed(vertices, faces[1:])
    assert not closed(vertices, turned)


def test_turns_follow_the_right_hand_rule():
    point = np.eye(3), np.zeros((0, 3), int)
    for axis, (i, j) in {"x": (1, 2), "y": (2, 0), "z": (0, 1)}.items():
        np.testing.assert_allclose(primitives.turn(point, axis, 90)[0][i], np.eye(3)[j], atol=1e-12)


def test_a_turn_leaves_its_centre():
    solid = primitives.turn((np.array([[1.0, 2, 3], [2, 2, 3]]), None), "z", 90, (1, 2, 3))
    np.testing.assert_allclose(solid[0], [[1, 2, 3], [1, 3, 3]], atol=1e-12)


def test_the_sets_of_classes():
    assert len(EASY) == 13
    assert HARD[:13] == EASY
    assert not set(HARD) & set(EXTRA)
    assert set(PARTS) == set(HARD) | set(EXTRA)
    assert all(len(set(parts)) == len(parts) >= 2 for parts in PARTS.values())


@pytest.mark.parametrize("name", PARTS)
def test_shapes_are_sound_and_show_all_their_parts(name):
    seen = set()
    for seed in range(5):
        mesh = seeded(name, seed)
        meshes.check(mesh)
        assert (mesh.vertices.dtype, mesh.faces.dtype) == (np.float64, np.int32)
        assert (mesh.faces.min(), mesh.faces.max()) == (0, len(mesh.vertices) - 1)
        assert mesh.labels.dtype == np.int32
        assert len(mesh.labels) == len(mesh.faces) < 20_000
        assert 0 <= mesh.labels.min() <= mesh.labels.max() < len(PARTS[name])
        assert primitives.areas(mesh.vertices, mesh.faces).min() > 0
        assert mesh.vertices[:, 2].min() == 0
        assert 0.04 < np.ptp(mesh.vertices, axis=0).max() < 300
        assert primitives.volume((mesh.vertices, mesh.faces)) > 0
        seen |= set(mesh.labels.tolist())
        if seed < 2:
            assert closed(mesh.vertices, mesh.faces)
    for seed in range(5, 40):
        if len(seen) < len(PARTS[name]):
            seen |= set(seeded(name, seed).labels.tolist())
    assert seen == set(range(len(PARTS[name])))


@pytest.mark.slow
@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("hard", [False, True])
def test_many_shapes_are_sound(name, hard):
    for seed in range(25):
        mesh = meshes.check(seeded(name, 1000 + seed, hard))
        assert -hard <= mesh.labels.min() <= mesh.labels.max() < len(PARTS[name])
        assert primitives.areas(mesh.vertices, mesh.faces).min() > 0
        assert hard or closed(mesh.vertices, mesh.faces)


@pytest.mark.parametrize("name", ["piano", "guitar", "ship", "gun", "car", "airplane"])
def test_lids_do_not_fold_over(name, monkeypatch):
    rings = []
    loft = primitives.loft
    monkeypatch.setattr(
        primitives, "loft", lambda loops, **more: rings.append(loops) or loft(loops, **more)
    )
    for seed in range(6):
        seeded(name, seed)
    assert len(rings) >= 6
    for loops in rings:
        for ring in (np.asarray(loops[0]), np.asarray(loops[-1])):
            spokes = ring - ring.mean(axis=0)
            fan = np.cross(spokes, np.roll(spokes, -1, axis=0))
            assert np.linalg.norm(fan.sum(axis=0)) == pytest.approx(
                np.linalg.norm(fan, axis=1).sum(), rel=1e-3, abs=1e-12
            )


def test_shapes_of_a_class_differ_and_equal_seeds_give_equal_shapes():
    for name in ("chair", "plant"):
        first, again, other = seeded(name, 1), seeded(name, 1), seeded(name, 2)
        np.testing.assert_array_equal(first.vertices, again.vertices)
        np.testing.assert_array_equal(first.faces, again.faces)
        assert first.vertices.shape != other.vertices.shape


def test_headings_cover_the_circle():
    # The lid of a laptop is hinged at its back.
    headings = []
    for seed in range(40):
        mesh = seeded("laptop", seed)
        lid = np.unique(mesh.faces[mesh.labels == PARTS["laptop"].index("lid")])
        base = np.unique(mesh.faces[mesh.labels == PARTS["laptop"].index("base")])
        hinge = mesh.vertices[lid][mesh.vertices[lid][:, 2].argsort()[:4]].mean(axis=0)
        way = mesh.vertices[base].mean(axis=0) - hinge
        headings.append(np.arctan2(way[1], way[0]))
    counts, _ = np.histogram(headings, 4, (-np.pi, np.pi))
    assert counts.min() >= 3


@pytest.mark.parametrize("name", ["chair", "bottle", "car"])
def test_hard_shapes_miss_faces_turn_others_over_and_hold_a_foreign_piece(name):
    easy, hard = seeded(name, 5), seeded(name, 5, hard=True)
    own = hard.labels >= 0
    wound = {tuple(row) for row in cyclic(easy.faces).tolist()}
    kept = [tuple(row) in wound for row in cyclic(hard.faces[own]).tolist()]
    turned = [tuple(row) in wound for row in cyclic(hard.faces[own][:, ::-1]).tolist()]
    assert all(a != b for a, b in zip(kept, turned, strict=True))
    assert 0.1 < np.mean(turned) < 0.6
    assert 0.85 < own.sum() / len(easy.faces) < 1
    assert not closed(hard.vertices, hard.faces[own])
    foreign = hard.vertices[np.unique(hard.faces[~own])]
    assert 0 < np.ptp(foreign, axis=0).max() < 0.35 * np.ptp(hard.vertices, axis=0).max()
    assert closed(hard.vertices, hard.faces[~own])
    # A least-squares fit of three factors leaves nothing but noise of under 1 % of the size.
    mine = hard.vertices[: len(easy.vertices)]
    factors = (mine * easy.vertices).sum(axis=0) / (easy.vertices**2).sum(axis=0)
    noise = (mine - factors * easy.vertices).std() / np.ptp(mine, axis=0).max()
    assert np.ptp(factors) > 0.01
    assert 5e-4 < noise < 5e-3


def digests(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_a_set_has_its_layout_and_the_same_seed_gives_the_same_bytes(tmp_path):
    shapes.write_set(tmp_path / "a", ("cup", "laptop"), 5, seed=3)
    shapes.write_set(tmp_path / "b", ("laptop", "cup"), 5, seed=3)
    shapes.write_set(tmp_path / "c", ("laptop",), 5, seed=4)
    shapes.write_set(tmp_path / "d", ("laptop",), 5, seed=3, hard=True)
    found = digests(tmp_path / "a")
    names = [f"train/{{0}}_{i:04d}.ply" for i in range(4)] + ["test/{0}_0004.ply"]
    assert set(found) == {f"{c}/{n.format(c)}" for c in ("cup", "laptop") for n in names}
    assert digests(tmp_path / "b") == found
    for other in ("c", "d"):
        assert not set(digests(tmp_path / other).values()) & set(found.values())
    pytest.importorskip("plyfile")
    mesh = meshes.read(tmp_path / "a" / "cup" / "test" / "cup_0004.ply")
    assert isinstance(mesh, meshes.Mesh)
    assert set(mesh.labels) <= {0, 1, 2}


def test_a_larger_set_begins_with_the_smaller_one(tmp_path):
    shapes.write_set(tmp_path / "small", ("monitor",), 7, seed=0, test_share=0.3)
    shapes.write_set(tmp_path / "large", ("monitor",), 20, seed=0, test_share=0.3)
    small, large = digests(tmp_path / "small"), digests(tmp_path / "large")
    assert small.items() <= large.items()
    assert sum("/test/" in name for name in large) == 6


@pytest.mark.parametrize(("share", "expected"), [(0, 0), (1, 10), (0.2, 2), (0.29, 2), (0.7, 7)])
def test_the_share_of_the_test_shapes(tmp_path, share, expected):
    shapes.write_set(tmp_path, ("laptop",), 10, seed=0, test_share=share)
    assert len(list(tmp_path.glob("laptop/test/*.ply"))) == expected
    assert len(list(tmp_path.glob("laptop/*/*.ply"))) == 10


def test_what_cannot_be_made_up_is_said(tmp_path):
    with pytest.raises(DataError, match="'unicorn' is no class that can be made up; choose from"):
        seeded("unicorn", 0)
    for bad in ({"count": 0}, {"seed": -1}, {"test_share": 1.5}):
        with pytest.raises(DataError, match="give at least 1 shape"):
            shapes.write_set(tmp_path, ("cup",), **{"count": 2, "seed": 0, **bad})
    with pytest.raises(DataError, match="'unicorn'"):
        shapes.write_set(tmp_path, ("cup", "unicorn"), 2, seed=0)
    assert not list(tmp_path.iterdir())

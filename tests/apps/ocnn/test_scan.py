import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from apps.ocnn import scan
from apps.ocnn.meshes import Cloud, Mesh
from shared.errors import DataError

CORNERS = np.array(list(itertools.product((0.0, 1.0), repeat=3)))
BOX = np.array(
    [
        [0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
        [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3],
    ],
    np.int32,
)  # fmt: skip


def box(size=(1, 1, 1), at=(0, 0, 0), faces=BOX):
    return CORNERS * size + at, faces


def cloud(rng, count=400):
    normals = rng.normal(size=(count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    points = normals * [3, 2, 1] + [10, -20, 30]
    return Cloud(points, normals.astype(np.float32), rng.integers(0, 3, count).astype(np.int32))


# --- the scanner ---


@pytest.fixture(autouse=True)
def _open3d(request):
    if request.node.name.startswith("test_scan"):
        pytest.importorskip("open3d")


def test_scanned_points_lie_on_the_faces_they_name_and_normals_look_out():
    vertices, faces = box((4, 2, 1), (100, 0, -7))
    mesh = Mesh(vertices, faces, np.arange(12, dtype=np.int32) // 2)
    seen = scan.scan(mesh, 15)
    assert len(seen.points) > 14 * 100
    assert set(seen.labels) == set(range(6))
    np.testing.assert_array_equal(seen.labels, mesh.labels[seen.faces])
    corners = vertices[faces[seen.faces]]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    np.testing.assert_allclose(
        np.sum((seen.points - corners[:, 0]) * normals, axis=1), 0, atol=1e-5
    )
    outward = seen.points - vertices.mean(axis=0)
    # A ray that grazes a side sees it from neither of its sides.
    assert np.mean(np.sum(seen.normals * outward, axis=1) > 0) > 0.99


def test_scan_does_not_depend_on_winding():
    vertices, faces = box()
    mixed = faces.copy()
    mixed[::2] = mixed[::2, ::-1]
    first, second = scan.scan(Mesh(vertices, faces), 15), scan.scan(Mesh(vertices, mixed), 15)
    np.testing.assert_allclose(first.points, second.points)
    assert np.mean(np.abs(first.normals - second.normals).max(axis=1) < 1e-6) > 0.99  # see above


def test_scan_does_not_see_what_is_inside():
    outer, inner = box(), box((0.4,) * 3, (0.3,) * 3)
    mesh = Mesh(
        np.concatenate([outer[0], inner[0]]),
        np.concatenate([BOX, BOX + 8]),
        np.repeat([0, 1], 12).astype(np.int32),
    )
    assert not scan.scan(mesh, 15).labels.any()


def test_scan_casts_parallel_rays_from_fourteen_sides():
    low, high = np.zeros(3), np.array([4.0, 2.0, 1.0])
    rays = scan._rays(low, high, 3)
    assert rays.shape == (14, 49, 6)
    for view, bundle in zip(scan.VIEWS, rays, strict=True):
        wanted = view if np.count_nonzero(view) == 1 else view * high
        wanted = wanted / np.linalg.norm(wanted)
        np.testing.assert_allclose(bundle[:, 3:], np.broadcast_to(-wanted, (49, 3)), atol=1e-6)
        grid = bundle[:, :3] - (low + high) / 2
        np.testing.assert_allclose(grid @ wanted, np.linalg.norm(high) / 2, rtol=1e-5)
        gaps = np.linalg.norm(bundle[:, None, :3] - bundle[None, :, :3], axis=2)
        np.testing.assert_allclose(np.sort(gaps, axis=1)[:, 1], 4 / 7, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e6, 1e40])
def test_scan_works_at_any_size(scale):
    vertices, faces = box((3, 2, 1))
    plain = scan.scan(Mesh(vertices, faces), 7)
    found = scan.scan(Mesh(vertices * scale, faces), 7)
    np.testing.assert_allclose(found.points / scale, plain.points, atol=1e-6)


def test_scan_refuses_what_has_no_surface():
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])
    with pytest.raises(DataError, match="degenerate"):
        scan.scan(Mesh(vertices, np.array([[0, 1, 2]], np.int32)), 7)


def test_scan_estimates_missing_normals(rng):
    whole = cloud(rng, 2000)
    found = scan.as_cloud(Cloud(whole.points, None))
    truth = (whole.points - [10, -20, 30]) / np.array([9, 4, 1])
    truth /= np.linalg.norm(truth, axis=1, keepdims=True)
    assert np.mean(np.sum(found.normals * truth, axis=1) > 0.9) > 0.95
    with pytest.raises(DataError, match="too few"):
        scan.as_cloud(Cloud(whole.points[:3], None))


# --- spheres, presets, turns ---


@example(318863582, 48, 3)  # an obtuse triangle whose sphere holds all points
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 3))
def test_bounding_sphere_is_the_smallest(seed, count, dimensions):
    rng = np.random.default_rng(seed)
    points = np.zeros((count, 3))
    points[:, :dimensions] = rng.normal(size=(count, dimensions))
    centre, radius = scan.bounding_sphere(points)
    distances = np.linalg.norm(points - centre, axis=1)
    assert distances.max() <= radius * (1 + 1e-9)
    # No other centre does better: the carriers pull from all sides.
    for step in (1e-3, 1e-2, 0.1):
        for direction in rng.normal(size=(8, 3)):
            moved = centre + step * direction / np.linalg.norm(direction)
            assert np.linalg.norm(points - moved, axis=1).max() >= radius * (1 - 1e-9)


def test_bounding_sphere_of_known_shapes():
    tetrahedron = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1.0]])
    centre, radius = scan.bounding_sphere(np.vstack([tetrahedron, [[0.1, 0.2, 0.3]]]))
    np.testing.assert_allclose(centre, 0, atol=1e-9)
    assert radius == pytest.approx(np.sqrt(3))
    centre, radius = scan.bounding_sphere(np.repeat([[1.0, 2, 3]], 5, axis=0))
    np.testing.assert_allclose(centre, [1, 2, 3])
    assert radius == 0


def test_paper_preset_moves_points_along_their_normals(rng):
    centred = scan.centred(cloud(rng))
    assert np.linalg.norm(centred.points, axis=1).max() == pytest.approx(1, abs=1e-5)
    found = scan.normalise(centred, "paper", 5)
    offset = 0.55 * 2 / 32
    np.testing.assert_allclose(
        found.points, (centred.points + offset * centred.normals) / (1 + offset), atol=1e-5
    )
    assert np.abs(found.points).max() < 1


def test_ocnn2_preset_is_that_of_ocnn(rng):
    found = scan.normalise(scan.centred(cloud(rng)), "ocnn2", 5)
    size = np.ptp(found.points, axis=0)
    assert size.max() == pytest.approx(1.6, abs=1e-5)
    np.testing.assert_allclose(found.points.min(axis=0) + found.points.max(axis=0), 0, atol=1e-5)
    assert found.normals.min() >= 0


def test_transforms_keep_normals_normal(rng):
    before = scan.centred(cloud(rng))
    matrix = scan.rotation(33) @ np.diag([1.3, 0.7, -1.1])
    after = scan.transformed(before, matrix)
    tangents = np.cross(before.normals, rng.normal(size=before.normals.shape))
    np.testing.assert_allclose(np.sum((tangents @ matrix.T) * after.normals, axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(after.normals, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("up", "xyz")
@pytest.mark.parametrize("wanted", "xyz")
def test_upright_turns_one_axis_to_another_without_mirroring(up, wanted, rng):
    given_cloud = cloud(rng)
    found = scan.upright(given_cloud, up, wanted)
    np.testing.assert_array_equal(
        found.points[:, "xyz".index(wanted)], given_cloud.points[:, "xyz".index(up)]
    )
    turn, *_ = np.linalg.lstsq(given_cloud.points, found.points, rcond=None)
    assert np.linalg.det(turn) == pytest.approx(1)


def test_all_points_equal_cannot_be_centred():
    with pytest.raises(DataError, match="the same"):
        scan.centred(Cloud(np.ones((5, 3)), np.ones((5, 3), np.float32)))

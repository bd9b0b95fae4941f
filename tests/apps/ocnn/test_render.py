"""Pictures of shapes against geometry worked out by hand, and against rays in plain NumPy."""

import numpy as np
import pytest

from apps.ocnn import meshes, render
from apps.ocnn.meshes import Cloud, Mesh
from apps.ocnn.render import BACKGROUND, PALETTE, part_colours, picture
from shared import raycasting
from shared.errors import DataError

open3d = pytest.importorskip("open3d")

RED, GREEN, BLUE, BLACK = np.eye(3)[0], np.eye(3)[1], np.eye(3)[2], np.zeros(3)
HALF_VIEW = np.radians(14)
DISTANCE = 1.03 / np.sin(HALF_VIEW)  # from the eye to the centre, in radii


def sphere(resolution=60):
    mesh = open3d.geometry.TriangleMesh.create_sphere(1, resolution)
    return Mesh(np.asarray(mesh.vertices), np.asarray(mesh.triangles))


def coverage(image):
    """Return how much of each pixel a black shape covers."""
    return 1 - image[..., 0] / BACKGROUND[0]


def black(shape):
    count = len(shape.faces) if isinstance(shape, Mesh) else len(shape.points)
    return np.zeros((count, 3))


def projected(place, centre, radius, azimuth, elevation, size):
    """Return column and row of a place, through an ordinary look-at matrix."""
    a, e = np.radians([azimuth, elevation])
    eye = centre + radius * DISTANCE * np.array(
        [np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)]
    )
    forward = (centre - eye) / np.linalg.norm(centre - eye)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    x, y, z = np.array([right, up, forward]) @ (place - eye)
    scale = size / 2 / np.tan(HALF_VIEW)
    return size / 2 + scale * x / z, size / 2 - scale * y / z


def soup(rng, count=40):
    vertices = rng.normal(size=(count, 1, 3)) * 0.6 + rng.normal(size=(count, 3, 3)) * 0.5
    return Mesh(vertices.reshape(-1, 3) + np.array([5, -3, 2]), np.arange(3 * count).reshape(-1, 3))


def test_silhouette_of_a_sphere():
    image = picture(sphere(), black(sphere()), size=256)
    radius = 128 * np.tan(np.arcsin(1 / DISTANCE)) / np.tan(HALF_VIEW)
    assert coverage(image).sum() == pytest.approx(np.pi * radius**2, rel=0.004)
    rows, columns = np.nonzero(coverage(image) > 0.5)
    assert rows.mean() == pytest.approx(127.5, abs=0.05)
    assert columns.mean() == pytest.approx(127.5, abs=0.05)


@pytest.mark.parametrize("elevation", [20, -75])
@pytest.mark.parametrize("azimuth", [-60, 30, 200])
def test_places_land_where_a_look_at_matrix_puts_them(azimuth, elevation, rng):
    corners = np.array([[-1.0, -2, -3], [1, 2, 3]]) * 40 + 1000
    centre, radius = corners.mean(axis=0), np.linalg.norm(corners[1] - corners[0]) / 2
    place = centre + rng.uniform(-0.5, 0.5, 3) * [40, 80, 120]
    column, row = projected(place, centre, radius, azimuth, elevation, 200)
    # A small tetrahedron there; the corners of the box are faces and points without colour.
    solid = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    places = np.concatenate([corners, place + 5 * solid])
    faces = np.array([[0, 0, 0], [1, 1, 1], [2, 3, 4], [2, 3, 5], [2, 4, 5], [3, 4, 5]])
    for shape in (Mesh(places, faces), Cloud(places)):
        colours = np.concatenate([np.ones((2, 3)), np.zeros((4, 3))])
        image = picture(shape, colours, size=200, azimuth=azimuth, elevation=elevation)
        rows, columns = np.nonzero(image[..., 0] < 0.01)
        assert len(rows) > 10
        assert columns.mean() + 0.5 == pytest.approx(column, abs=1.5)
        assert rows.mean() + 0.5 == pytest.approx(row, abs=1.5)


def first_hits(mesh, azimuth, elevation, side):
    """Return the face that each ray meets first, by Moller and Trumbore's formula, in float64."""
    a, e = np.radians([azimuth, elevation])
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    centre = (low + high) / 2
    radius = max(np.linalg.norm(vertex - centre) for vertex in mesh.vertices)
    back = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
    right = np.array([-np.sin(a), np.cos(a), 0])
    up = np.cross(back, right)
    eye = centre + DISTANCE * radius * back
    seen, nearest = np.full((side, side), -1), np.full((side, side), np.inf)
    at = np.tan(HALF_VIEW) * (2 * (np.arange(side) + 0.5) / side - 1)
    rays = at[None, :, None] * right - at[:, None, None] * up - back
    for number, (p, q, r) in enumerate(mesh.vertices[mesh.faces]):
        cross = np.cross(rays, r - p)
        scale = cross @ (q - p)
        u = cross @ (eye - p) / scale
        other = np.cross(eye - p, q - p)
        v, t = rays @ other / scale, other @ (r - p) / scale
        hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0) & (t < nearest)
        seen[hit], nearest[hit] = number, t[hit]
    return seen


def test_faces_seen_are_those_of_rays_in_numpy(rng):
    mesh, size = soup(rng), 96
    # Shading keeps the ratio of two channels, and so it tells the faces.
    ratio = np.arange(len(mesh.faces)) / len(mesh.faces)
    colours = 0.8 * np.stack([np.ones_like(ratio), ratio, np.zeros_like(ratio)], axis=1)
    image = picture(mesh, colours, size=size, azimuth=25, elevation=40)
    samples = first_hits(mesh, 25, 40, 2 * size).reshape(size, 2, size, 2).transpose(0, 2, 1, 3)
    samples = samples.reshape(size, size, 4)
    pure = (samples == samples[..., :1]).all(axis=-1)
    inside = pure & (samples[..., 0] >= 0)
    assert inside.sum() > 800
    assert len(np.unique(samples[inside])) > 20
    found = image[inside][:, 1] / image[inside][:, 0]
    wrong = np.abs(found - ratio[samples[inside][:, 0]]) > 1e-5
    assert wrong.sum() <= 3  # rays along an edge, in float32
    empty = image[pure & (samples[..., 0] < 0)]
    assert (empty == np.float32(BACKGROUND)).all(axis=-1).mean() > 0.999


@pytest.mark.parametrize("flipped", [False, True])
def test_the_front_face_wins(flipped):
    square = np.array([[-1.0, 0, -1], [1, 0, -1], [1, 0, 1], [-1, 0, 1]])
    faces = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    small = 0.4 * square - [0, 0.5, 0]  # before the large one, as seen along +y
    mesh = Mesh(np.concatenate([square, small]), faces[:, ::-1] if flipped else faces)
    colours = np.array([RED, RED, GREEN, GREEN])
    front, back = (picture(mesh, colours, azimuth=a, elevation=0, size=64) for a in (-90, 90))
    assert front[32, 32].argmax() == 1
    assert front[32, 32, [0, 2]].max() == 0
    assert front[32, 14].argmax() == 0
    assert back[32, 32].argmax() == 0
    assert front[32, 32, 1] > 0.6


def test_winding_and_sign_of_normals_change_nothing(rng):
    mesh = soup(rng)
    turned = Mesh(mesh.vertices, mesh.faces[:, ::-1])
    np.testing.assert_allclose(picture(mesh, size=80), picture(turned, size=80), atol=1e-6)
    points, normals = rng.normal(size=(2, 300, 3))
    clouds = [Cloud(points, sign * normals.astype(np.float32)) for sign in (1, -1)]
    np.testing.assert_allclose(*(picture(cloud, size=80) for cloud in clouds), atol=1e-6)


def test_place_and_size_of_a_shape_do_not_matter(rng):
    mesh = soup(rng)
    for scale, shift in ((1e-6, 0), (1e80, 0), (3.0, 5e3)):
        moved = Mesh(mesh.vertices * scale + shift, mesh.faces)
        difference = np.abs(picture(moved, size=80) - picture(mesh, size=80)).max(axis=-1)
        assert (difference > 1e-3).mean() < 0.002


def test_brightness_follows_the_light():
    image = picture(sphere(), np.ones((len(sphere().faces), 3)), size=128).mean(axis=-1)
    assert image[40, 44] > image[64, 64] > image[90, 100] > 0.2
    assert image.max() <= 1
    assert image.min() > 0.2


def test_edges_are_smooth():
    covered = coverage(picture(sphere(), black(sphere()), size=128))
    assert set(np.round(np.unique(covered) * 4, 4)) == {0, 1, 2, 3, 4}


def test_cloud_of_a_sphere_covers_what_the_sphere_covers(rng):
    points = rng.normal(size=(20_000, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    cloud = Cloud(points, points.astype(np.float32))
    cloud_covers = coverage(picture(cloud, black(cloud), size=128))
    mesh_covers = coverage(picture(sphere(), black(sphere()), size=128))
    assert cloud_covers.sum() == pytest.approx(mesh_covers.sum(), rel=0.06)
    assert cloud_covers[24:104, 24:104].mean() > 0.95
    # What the camera sees of it is its near half.
    colours = np.where(points @ raycasting.camera_axes(-90, 0)[2][:, None] > 0, GREEN, RED)
    image = picture(cloud, colours, size=128, azimuth=-90, elevation=0)
    red, green, _ = image[30:98, 30:98].mean(axis=(0, 1))
    assert green > 0.6
    assert red < 0.2


def test_the_nearest_point_wins_whatever_the_order():
    points = np.array([[0.0, 0, 0], [0, -1, 0], [0, 1, 0], [1, 0, 0], [-1, 0, 0]])
    colours = np.array([RED, GREEN, BLUE, RED, RED])
    for order in ([0, 1, 2, 3, 4], [4, 2, 3, 1, 0], [1, 0, 2, 3, 4]):
        image = picture(Cloud(points[order]), colours[order], size=65, azimuth=-90, elevation=0)
        assert image[32, 32, 1] > 0.5
        assert image[32, 32, [0, 2]].max() == 0


def test_points_seen_are_the_nearest_of_all_whose_discs_reach(rng):
    points, side = rng.uniform(-0.5, 0.5, (300, 3)), 60
    seen = render._points_seen(points, side)
    expected, height = np.full((side, side), -1), np.full((side, side), -np.inf)
    for number, (x, y, z) in enumerate(points):
        scale = side / 2 / np.tan(HALF_VIEW) / (DISTANCE - z)
        column, row = int(side / 2 + scale * x), int(side / 2 - scale * y)
        for i, j in [(row + i, column + j) for i, j in ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))]:
            if z > height[i, j]:
                expected[i, j], height[i, j] = number, z
    np.testing.assert_array_equal(seen, expected)


@pytest.mark.parametrize("size", [8, 33, 200])
def test_form(size, rng):
    for shape in (soup(rng), Cloud(rng.normal(size=(50, 3)))):
        for angles in ((-60, 20), (0, 90), (0, -90), (725, 0)):
            image = picture(shape, size=size, azimuth=angles[0], elevation=angles[1])
            assert image.shape == (size, size, 3)
            assert image.dtype == np.float32
            assert image.min() >= 0
            assert image.max() <= 1
            np.testing.assert_array_equal(image[0, 0], np.float32(BACKGROUND))


def test_faces_without_area_do_no_harm():
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 0, 1]])
    with_flat = Mesh(vertices, np.array([[0, 1, 2], [0, 0, 0], [1, 1, 2]]))
    image = picture(with_flat, np.array([GREEN, RED, RED]), size=64)
    assert np.isfinite(image).all()
    np.testing.assert_array_equal(
        image, picture(Mesh(vertices, with_flat.faces[:1]), GREEN[None], size=64)
    )


def test_part_colours():
    colours = part_colours(np.array([0, 1, -1, len(PALETTE), 5]))
    assert colours.dtype == np.float32
    np.testing.assert_array_equal(colours[[0, 1, 4]], PALETTE[[0, 1, 5]])
    np.testing.assert_array_equal(colours[3], PALETTE[0])
    assert np.ptp(colours[2]) == 0
    everything = np.concatenate([PALETTE, [render.PLAIN, BACKGROUND]])
    apart = np.abs(everything[:, None] - everything).max(axis=-1) + np.eye(len(everything))
    assert apart.min() > 0.15


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": 4}, "4 pixels"),
        ({"size": 5000}, "choose 8 to 1,024"),
        ({"elevation": 91}, "-90 to 90"),
        ({"elevation": np.nan}, "-90 to 90"),
        ({"azimuth": np.inf}, "cannot be placed"),
        ({"colours": np.zeros((3, 3))}, r"Colours of 40 faces need the shape \(40, 3\)"),
        ({"colours": np.zeros(40)}, "need the shape"),
        ({"colours": np.full((40, 3), 255)}, "from 0 to 1"),
        ({"colours": np.full((40, 3), np.nan)}, "from 0 to 1"),
    ],
)
def test_errors(change, words, rng):
    with pytest.raises(DataError, match=words):
        picture(soup(rng), **change)


def test_shapes_without_extent_are_refused():
    with pytest.raises(DataError, match="one and the same"):
        picture(Cloud(np.ones((5, 3))))
    with pytest.raises(DataError, match="no faces"):
        picture(Mesh(np.eye(3), np.zeros((0, 3), int)))


def test_real_parts_show_in_their_colours(data):
    path = sorted((data / "meshes/watertight19/hand/test").glob("*.ply"))[0]
    mesh = meshes.read(path)
    image = picture(mesh, part_colours(mesh.labels), size=192)
    shape = np.abs(image - np.float32(BACKGROUND)).max(axis=-1) > 0.05
    assert 0.05 < shape.mean() < 0.7
    blue = image[..., 2] > image[..., 0] * 1.5
    orange = image[..., 0] > image[..., 2] * 1.5
    assert (blue | orange)[shape].mean() > 0.9
    assert min(blue.sum(), orange.sum()) > 500

"""Textures on meshes: written files read by two libraries, seams measured in space, bad input."""

import functools

import numpy as np
import pytest

from apps.texture import mesh, triplanar, turntable
from shared import images, metrics
from shared.errors import DataError, ImageError

trimesh = pytest.importorskip("trimesh")
open3d = pytest.importorskip("open3d")
pytestmark = pytest.mark.skipif(
    not hasattr(metrics, "tileability"), reason="the measure of tiling is not there yet"
)


@pytest.fixture(autouse=True)
def _small_views(monkeypatch):
    """Draw small turntables: what they show has a test of its own."""
    small = functools.partial(turntable.views, size=32)
    monkeypatch.setattr(mesh.turntable, "views", small)


PLAIN = {
    "cube": lambda: trimesh.creation.box((2, 1.5, 1)),
    "sphere": lambda: trimesh.creation.icosphere(2, radius=40),
    "torus": lambda: trimesh.creation.torus(1, 0.35, major_sections=24, minor_sections=12),
}


def waves(size=64, width=None):
    """A smooth picture that tiles."""
    y = 2 * np.pi * np.arange(size) / size
    x = 2 * np.pi * np.arange(width or size) / (width or size)
    x, y = np.meshgrid(x, y)
    planes = [np.sin(2 * x + y), np.cos(x - 2 * y) * np.sin(y), np.sin(3 * x) * np.cos(2 * y)]
    return (0.5 + 0.45 * np.stack(planes, axis=2)).astype(np.float32)


def largest_step(texture):
    """The largest step between neighbouring texels of a texture that repeats."""
    return max(np.abs(texture - np.roll(texture, 1, axis)).max() for axis in (0, 1))


def grid_uv(rows, columns, place):
    """A patch of triangles with texture coordinates of 0..1, seams where the surface closes."""
    u, v = np.meshgrid(np.linspace(0, 1, columns + 1), np.linspace(0, 1, rows + 1))
    uv = np.stack([u, v], axis=-1).reshape(-1, 2)
    number = np.arange(len(uv)).reshape(rows + 1, columns + 1)
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1]
    faces = np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)]).reshape(-1, 3)
    return np.array([place(*pair) for pair in uv]), faces, uv


def torus_place(u, v):
    a, b = 2 * np.pi * (u % 1), 2 * np.pi * (v % 1)
    return (1 + 0.4 * np.cos(b)) * np.cos(a), (1 + 0.4 * np.cos(b)) * np.sin(a), 0.4 * np.sin(b)


def sphere_place(u, v):
    a, b = 2 * np.pi * (u % 1), np.pi * (v - 0.5)
    return np.cos(b) * np.cos(a), np.cos(b) * np.sin(a), np.sin(b)


def write_uv_mesh(path, kind):
    if kind == "cube":  # all six sides show the whole texture
        box = trimesh.creation.box()
        corners = box.vertices[box.faces]
        axis = np.abs(box.face_normals).argmax(axis=1)
        uv = np.stack([np.delete(c, k, axis=1) for c, k in zip(corners, axis, strict=True)])
        vertices, faces, uv = corners.reshape(-1, 3), np.arange(36).reshape(-1, 3), uv + 0.5
    else:
        place = {"torus": torus_place, "sphere": sphere_place}[kind]
        vertices, faces, uv = grid_uv(12, 24, place)
    lines = [f"v {x} {y} {z}" for x, y, z in vertices]
    lines += [f"vt {u} {v}" for u, v in uv.reshape(-1, 2)]
    lines += ["f " + " ".join(f"{k + 1}/{k + 1}" for k in face) for face in faces]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def tile(tmp_path):
    images.write(tmp_path / "waves.png", waves())
    return tmp_path / "waves.png"


def read_back(mapped):
    """Read vertices, faces, texture coordinates of corners and the picture by trimesh."""
    part = trimesh.load(mapped.files[0], force="mesh", process=False)
    picture = np.asarray(part.visual.material.image.convert("RGB"), np.float32) / 255
    return part.vertices, part.faces, part.visual.uv[part.faces], picture


def steps_across_edges(vertices, faces, uv, picture, distance):
    """Return the colour step at points on both sides of each edge, `distance` apart in space."""
    places, number = np.unique(np.round(vertices, 6), axis=0, return_inverse=True)
    sides = {}
    for face, corners in enumerate(number.reshape(-1)[faces]):
        for k in range(3):
            pair = corners[k], corners[(k + 1) % 3]
            if pair[0] != pair[1]:
                sides.setdefault(tuple(sorted(pair)), []).append((face, k, pair[0] > pair[1]))
    looked_up = []
    for pair, shared in sides.items():
        if len(shared) != 2:
            continue
        length = np.linalg.norm(places[pair[0]] - places[pair[1]])
        t = np.linspace(0.05, 0.95, 13)
        both = []
        for face, k, turned in shared:
            order = [k, (k + 1) % 3, (k + 2) % 3]
            first, second, third = vertices[faces[face, order]]
            area = np.linalg.norm(np.cross(second - first, third - first))
            inwards = min(0.5 * distance * length / max(area, 1e-12), 0.3)
            along = 1 - t if turned else t
            shares = [(1 - along) * (1 - inwards), along * (1 - inwards), 0 * t + inwards]
            both.append(np.stack(shares, axis=1) @ uv[face, order])
        looked_up.append(both)
    colours = triplanar.sample(picture, np.array(looked_up))
    return np.abs(colours[:, 0] - colours[:, 1]).max(axis=-1).ravel()


@pytest.mark.parametrize("kind", PLAIN)
def test_without_coordinates_no_edge_of_a_face_shows(tmp_path, tile, kind):
    shape = PLAIN[kind]()
    shape.export(tmp_path / f"{kind}.stl")
    mapped = mesh.map_texture(tmp_path / f"{kind}.stl", tile, tmp_path / "out", scale=2)
    assert mapped.mode == "triplanar"
    vertices, faces, uv, picture = read_back(mapped)
    assert len(faces) == len(shape.faces)
    texel = np.ptp(vertices, axis=0).max() / (2 * 64)
    # Askew, this is half a texel right and half a texel down.
    steps = steps_across_edges(vertices, faces, uv, picture, texel / np.sqrt(2))
    assert len(steps) > 100
    assert steps.max() <= 1.05 * largest_step(waves())


@pytest.mark.parametrize(("kind", "scale"), [("torus", 1), ("torus", 3), ("sphere", 2)])
def test_with_coordinates_a_tiling_texture_has_no_seam(tmp_path, tile, kind, scale):
    source = write_uv_mesh(tmp_path / f"{kind}.obj", kind)
    mapped = mesh.map_texture(source, tile, tmp_path / "out", scale=scale)
    assert (mapped.mode, mapped.notes) == ("uv", ())
    vertices, faces, uv, picture = read_back(mapped)
    assert uv.max() == pytest.approx(scale)
    np.testing.assert_allclose(picture, waves(), atol=0.5 / 255 + 1e-6)
    # A texel is smallest where v runs; on both sides of an edge, none is stepped over.
    steps = steps_across_edges(vertices, faces, uv, picture, 0.5 / (64 * scale))
    assert steps.max() <= 1.05 * largest_step(waves())


def test_coordinates_that_break_the_texture_are_told(tmp_path, tile):
    torus = write_uv_mesh(tmp_path / "torus.obj", "torus")
    (note,) = mesh.map_texture(torus, tile, tmp_path / "out", scale=1.5).notes
    assert note.startswith("At 36 of ")  # 24 edges along, 12 around
    with pytest.raises(DataError, match="already there"):
        mesh.map_texture(torus, tile, tmp_path / "out")
    again = mesh.map_texture(torus, tile, tmp_path / "out", scale=1.5, overwrite=True)
    vertices, faces, uv, picture = read_back(again)
    assert steps_across_edges(vertices, faces, uv, picture, 0.01).max() > 2 * largest_step(waves())


@pytest.mark.parametrize("kind", ["cube", "sphere", "torus"])
@pytest.mark.parametrize("coordinates", [True, False])
def test_results_are_read_by_open3d(tmp_path, tile, kind, coordinates):
    if coordinates:
        source = write_uv_mesh(tmp_path / "my mesh.obj", kind)
    else:
        source = tmp_path / "my mesh.ply"
        PLAIN[kind]().export(source)
    mapped = mesh.map_texture(source, tile, tmp_path / "out")
    model = open3d.io.read_triangle_model(str(mapped.files[0]))
    assert np.asarray(model.materials[0].albedo_img).shape[2] == 3
    shape = open3d.io.read_triangle_mesh(str(mapped.files[0]))
    assert shape.has_triangle_uvs()
    assert np.asarray(shape.textures[-1]).shape == images.read(mapped.files[2]).shape
    assert images.read(mapped.files[3]).shape == (32, 8 * 32, 3)
    assert sorted(mapped.files) == sorted((tmp_path / "out").iterdir())


def test_blend_equals_loops(rng):
    texture = rng.random((5, 7, 3)).astype(np.float32)
    places, normals = rng.normal(size=(2, 20, 3))
    expected = []
    for (x, y, z), normal in zip(places, normals, strict=True):
        wx, wy, wz = np.abs(normal / np.linalg.norm(normal)) ** 4
        sx, sy, sz = np.sign(normal)
        pairs = [(wx, sx * y, z), (wy, -sy * x, z), (wz, sz * x, y)]
        total = 0
        for weight, u, v in pairs:
            column, row = (3 * u) % 1 * 7 - 0.5, (1 - (3 * v * 7 / 5) % 1) * 5 - 0.5
            for i, j in np.ndindex(2, 2):
                r, c = int(np.floor(row)) + i, int(np.floor(column)) + j
                share = (1 - abs(row - r)) * (1 - abs(column - c))
                total = total + weight * share * texture[r % 5, c % 7]
        expected.append(total / (wx + wy + wz))
    found = triplanar.colours(texture, places, normals, 3)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_atlas_holds_the_blend_everywhere_on_the_surface(rng):
    shape = trimesh.creation.icosphere(1)
    vertices = (shape.vertices + 1) / 2
    atlas = triplanar.bake(vertices, shape.faces, shape.vertex_normals, waves(96), 1.0)
    face = rng.integers(len(shape.faces), size=2000)
    shares = rng.dirichlet((1, 1, 1), 2000)[:, :, None]
    uv = (shares * atlas.uv[face]).sum(axis=1)
    places = (shares * vertices[shape.faces[face]]).sum(axis=1)
    normals = (shares * shape.vertex_normals[shape.faces[face]]).sum(axis=1)
    expected = triplanar.colours(waves(96), places, normals, 1.0)
    assert np.abs(triplanar.sample(atlas.picture, uv) - expected).max() < 0.02


def test_atlas_of_many_faces_is_reduced_or_refused(monkeypatch):
    shape = trimesh.creation.icosphere(2)
    whole = (shape.vertices, shape.faces, shape.vertex_normals, waves(256), 2.0)
    monkeypatch.setattr(triplanar, "LARGEST_SIDE", 512)
    atlas = triplanar.bake(*whole)
    assert atlas.density < 1
    assert len(atlas.picture) <= 512
    monkeypatch.setattr(triplanar, "LARGEST_SIDE", 64)
    with pytest.raises(DataError, match="320 faces are too many"):
        triplanar.bake(*whole)


def test_cells_of_an_atlas_do_not_meet(rng):
    texels, origins, flipped, side = triplanar._pack(rng.choice([4, 5, 9, 30, 77], size=301))
    owner = np.zeros((side, side), int)
    for leg, origin, far in zip(texels, origins, flipped, strict=True):
        rows, columns, shares = triplanar._cell(leg)
        inside = (shares > -1.5 / leg).all(axis=1)  # what bilinear look-ups touch
        y, x = triplanar._in_atlas(
            rows[None, inside], columns[None, inside], origin[None], np.array([far]), leg
        )
        owner[y, x] += 1
    assert owner.max() == 1


def test_views_show_the_texture_and_the_ground():
    vertices = np.array([[-1, 0, -1], [1, 0, -1], [1, 0, 1], [-1, 0, 1.0]])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1.0]])[faces]
    texture = np.zeros((2, 2, 3), np.float32)
    texture[0, 0], texture[1, 1] = (1, 0, 0), (0, 1, 0)  # red upper left, green lower right
    views = turntable.views(
        vertices, faces, uv, texture.repeat(8, 0).repeat(8, 1), count=6, size=64
    )
    assert len(views) == 6
    front = views[5]  # 240 degrees: 30 degrees off the -y axis
    assert front.shape == (64, 64, 3)
    assert front[2, 2] == pytest.approx(0.93, abs=1e-6)
    assert front[24, 26].argmax() == 0
    assert front[42, 40].argmax() == 1
    assert front[24, 40].max() == 0


def test_texture_that_does_not_tile_is_told(tmp_path):
    ramp = np.linspace(0, 1, 32)[None, :, None] * np.ones((32, 1, 3))
    images.write(tmp_path / "ramp.png", ramp)
    PLAIN["cube"]().export(tmp_path / "cube.off")
    mapped = mesh.map_texture(tmp_path / "cube.off", tmp_path / "ramp.png", tmp_path / "out")
    assert any("does not tile" in note for note in mapped.notes)


BAD = {
    "points.obj": ("v 0 0 0\nv 1 0 0\nv 0 1 0\n", "no faces"),
    "nan.obj": ("v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "not finite"),
    "uv.obj": ("v 0 0 0\nv 1 0 0\nv 0 1 0\nvt nan 0\nf 1/1 2/1 3/1\n", "not finite"),
    "far.obj": ("v 1e300 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "too large"),
    "one.obj": ("v 1 0 0\nv 1 0 0\nv 1 0 0\nf 1 2 3\n", "one and the same"),
    "index.off": ("OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n", "."),
    "cut.ply": ("ply\nformat ascii 1.0\nelement vertex 900000000\n", "."),
    "noise.stl": ("\x00\x01\x02", "."),
    "noise.glb": ("glTF\x02", "."),
    "mesh.fbx": ("", "choose from .glb"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_meshes_are_one_sentence(tmp_path, tile, name):
    text, message = BAD[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        mesh.map_texture(tmp_path / name, tile, tmp_path / "out")
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_other_mistakes(tmp_path, tile):
    cube = write_uv_mesh(tmp_path / "cube.obj", "cube")
    with pytest.raises(DataError, match=r"missing\.obj"):
        mesh.map_texture(tmp_path / "missing.obj", tile, tmp_path / "out")
    with pytest.raises(DataError, match="greater than 0"):
        mesh.map_texture(cube, tile, tmp_path / "out", scale=0)
    with pytest.raises(DataError, match="is an input"):
        mesh.map_texture(cube, tile, tmp_path)
    (tmp_path / "broken.png").write_bytes(tile.read_bytes()[:60])
    with pytest.raises(ImageError, match=r"broken\.png"):
        mesh.map_texture(cube, tmp_path / "broken.png", tmp_path / "out")

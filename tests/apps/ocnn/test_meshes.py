"""Files of meshes and clouds: ours, those of other programs, and broken ones."""

import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.ocnn import meshes
from apps.ocnn.meshes import Cloud, Mesh, read, write
from shared.errors import DataError

pytest.importorskip("plyfile")

CORNERS = [[0, 0, 0], [2, 0, 0], [2, 1, 0], [0, 1, 0], [1, 0.5, 1.5]]
# A pyramid: one quad, four triangles.
POLYGONS = [[3, 2, 1, 0], [0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]]
FACES = [[3, 2, 1], [3, 1, 0], *POLYGONS[1:]]
LABELS = [0, 0, 1, 1, 2, -1]


@pytest.fixture
def mesh(rng):
    vertices = rng.normal(size=(40, 3)).astype(np.float32).astype(np.float64)
    faces = np.stack([rng.permutation(40)[:3] for _ in range(60)]).astype(np.int32)
    return Mesh(vertices, faces, rng.integers(-1, 5, 60).astype(np.int32))


@pytest.fixture
def cloud(rng):
    points = rng.normal(size=(50, 3)).astype(np.float32).astype(np.float64)
    normals = rng.normal(size=(50, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    labels = rng.integers(-1, 4, 50).astype(np.int32)
    return Cloud(points, normals.astype(np.float32), labels)


@pytest.fixture
def file(tmp_path):
    """Make a file of text or bytes; return its path."""

    def make(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return make


def assert_equal(shape, expected, ignore=()):
    assert type(shape) is type(expected)
    for name, value in vars(expected).items():
        found = getattr(shape, name)
        if value is None or name in ignore:
            assert found is None
        else:
            assert found.dtype == value.dtype
            np.testing.assert_allclose(found, value, rtol=0, atol=1e-7 if name == "normals" else 0)


def assert_pyramid(shape, labels=None):
    assert isinstance(shape, Mesh)
    np.testing.assert_array_equal(shape.vertices, CORNERS)
    np.testing.assert_array_equal(shape.faces, FACES)
    assert (shape.labels is None) == (labels is None)
    if labels is not None:
        np.testing.assert_array_equal(shape.labels, labels)


def assert_refused(path, *words):
    with pytest.raises(DataError) as caught:
        read(path)
    message = str(caught.value)
    assert message.count(str(path)) == 1
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert message.endswith(".")
    assert all(word in message for word in words), message


# --- what is written comes back ---


@pytest.mark.parametrize("suffix", [".ply", ".PLY", ".npz", ".off"])
def test_meshes_come_back(suffix, mesh, tmp_path):
    path = tmp_path / "new" / f"mesh{suffix}"
    write(path, mesh)
    assert_equal(read(path), mesh, ignore=["labels"] if suffix == ".off" else [])
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".ply", ".npz", ".off"])
def test_coordinates_far_from_zero_keep_their_digits(suffix, mesh, tmp_path):
    far = Mesh(mesh.vertices / 3 + [4_000_000.1, 0, 500_000], mesh.faces)
    write(tmp_path / f"far{suffix}", far)
    assert_equal(read(tmp_path / f"far{suffix}"), far)


@pytest.mark.parametrize("suffix", [".ply", ".npz", ".points"])
@pytest.mark.parametrize("kept", ["points", "normals", "labels", "all"])
def test_clouds_come_back(suffix, kept, cloud, tmp_path):
    names = ["points", "normals", "labels"] if kept == "all" else ["points", kept]
    cloud = Cloud(**{name: getattr(cloud, name) for name in names})
    write(tmp_path / f"cloud{suffix}", cloud)
    assert_equal(read(tmp_path / f"cloud{suffix}"), cloud)


def test_points_have_the_layout_of_the_paper_s_program(cloud, tmp_path):
    path = tmp_path / "cloud.points"
    write(path, cloud)
    data, n = path.read_bytes(), len(cloud.points)
    assert data[:16] == b"_POINTS_1.0_\0\0\0\0"
    assert struct.unpack("<2i", data[16:24]) == (n, 1 | 2 | 8)
    assert struct.unpack("<8i", data[24:56]) == (3, 3, 0, 1, 0, 0, 0, 0)
    assert struct.unpack("<8i", data[56:88]) == (88, 88 + 12 * n, 0, 88 + 24 * n, 0, 0, 0, 0)
    values = np.frombuffer(data[88:], "<f4")
    np.testing.assert_array_equal(values[: 3 * n].reshape(n, 3), cloud.points)
    np.testing.assert_array_equal(values[3 * n : 6 * n].reshape(n, 3), cloud.normals)
    np.testing.assert_array_equal(values[6 * n :], cloud.labels)


def points_header(count, flags, channels, offsets):
    channels, offsets = ([*row, *[0] * (8 - len(row))] for row in (channels, offsets))
    return struct.pack("<16s18i", b"_POINTS_1.0_", count, flags, *channels, *offsets)


def test_points_with_features_between(file):
    header = points_header(2, 15, [3, 3, 2, 1], [88, 112, 136, 152])
    blocks = np.array([0, 0, 0, 1, 2, 3, 0, 0, 2, 0, 0, 0, 9, 9, 9, 9, 4, -1], "<f4").tobytes()
    cloud = read(file("a.points", header + blocks))
    np.testing.assert_array_equal(cloud.points, [[0, 0, 0], [1, 2, 3]])
    np.testing.assert_array_equal(cloud.normals, [[0, 0, 1], [0, 0, 0]])
    np.testing.assert_array_equal(cloud.labels, [4, -1])


@pytest.mark.parametrize("suffix", [".off", ".ply"])
def test_other_programs_read_our_meshes(suffix, mesh, tmp_path):
    trimesh, open3d = pytest.importorskip("trimesh"), pytest.importorskip("open3d")
    path = tmp_path / f"mesh{suffix}"
    colours = np.linspace(0, 1, 180).reshape(60, 3)
    write(path, mesh, colours if suffix == ".ply" else None)
    theirs = trimesh.load_mesh(path, process=False)
    np.testing.assert_array_equal(theirs.vertices, mesh.vertices)
    np.testing.assert_array_equal(theirs.faces, mesh.faces)
    if suffix == ".ply":
        np.testing.assert_array_equal(theirs.visual.face_colors[:, :3], np.round(255 * colours))
    theirs = open3d.io.read_triangle_mesh(str(path))
    np.testing.assert_array_equal(np.asarray(theirs.vertices), mesh.vertices)
    np.testing.assert_array_equal(np.asarray(theirs.triangles), mesh.faces)


def test_other_programs_read_our_clouds(cloud, tmp_path):
    trimesh, open3d = pytest.importorskip("trimesh"), pytest.importorskip("open3d")
    colours = np.linspace(0, 1, 150).reshape(50, 3)
    write(tmp_path / "cloud.ply", cloud, colours)
    theirs = trimesh.load(tmp_path / "cloud.ply")
    np.testing.assert_array_equal(theirs.vertices, cloud.points)
    np.testing.assert_array_equal(theirs.colors[:, :3], np.round(255 * colours))
    theirs = open3d.io.read_point_cloud(str(tmp_path / "cloud.ply"))
    np.testing.assert_array_equal(np.asarray(theirs.points), cloud.points)
    np.testing.assert_allclose(np.asarray(theirs.normals), cloud.normals)
    np.testing.assert_allclose(np.asarray(theirs.colors), colours, atol=1 / 500)


def test_what_cannot_be_written(mesh, cloud, tmp_path):
    with pytest.raises(DataError, match=r"a mesh can be written as \.ply, \.off, \.npz"):
        write(tmp_path / "a.points", mesh)
    with pytest.raises(DataError, match="a point cloud can be written as"):
        write(tmp_path / "a.off", cloud)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write(tmp_path / "file" / "a.ply", mesh)
    with pytest.raises(DataError, match="cannot be written: its coordinates are too large"):
        write(tmp_path / "a.points", Cloud(np.full((2, 3), 1e39)))
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


# --- files of other programs ---

ROWS = "\n".join(" ".join(map(str, row)) for row in CORNERS)
LISTS = "\n".join(f"{len(row)} {' '.join(map(str, row))}" for row in POLYGONS)


@pytest.mark.parametrize(
    "head",
    [
        "OFF\n5 5 0\n",
        "OFF5 5 0\n",
        "OFF 5 5 0\n",
        "off\r\n5 5\r\n",
        "# a comment\n\nOFF # one more\n# and\n5 5 8 # one\n",
    ],
)
def test_off_headers(head, file):
    assert_pyramid(read(file("a.off", f"{head}{ROWS}\n\n{LISTS}")))


def test_off_with_colours_of_faces_and_vertices(file):
    lists = "\n".join(f"{line} {red} 0.5 0 # {red}" for red, line in enumerate(LISTS.split("\n")))
    assert_pyramid(read(file("a.off", f"OFF\n5 5 0\n{ROWS}\n{lists}\n")))
    rows = "\n".join(f"{row} 255 0 0 255" for row in ROWS.split("\n"))
    assert_pyramid(read(file("b.off", f"COFF\n5 5 0\n{rows}\n{LISTS}\n")))


def ply(form, number="float", labels=None, corner="int"):
    """Return a PLY of the pyramid, with its quad, in one of three formats."""
    order = {"ascii": None, "binary_little_endian": "<", "binary_big_endian": ">"}[form]
    label = "" if labels is None else "property uchar label\n"
    text = (
        f"ply\nformat {form} 1.0\ncomment made here\nelement vertex 5\nproperty {number} x\n"
        f"property {number} y\nproperty {number} z\nproperty uchar red\nelement face 5\n"
        f"property list uchar {corner} vertex_indices\n{label}end_header\n"
    )
    kinds = {"float": "f", "double": "d", "int": "i", "uint": "I", "ushort": "H"}
    body = b""
    for row in CORNERS:
        body += (
            (" ".join(map(str, row)) + " 7\n").encode()
            if order is None
            else struct.pack(f"{order}3{kinds[number]}B", *row, 7)
        )
    for i, row in enumerate(POLYGONS):
        values = [len(row), *row] + ([] if labels is None else [labels[i]])
        code = f"{order}B{len(row)}{kinds[corner]}" + ("" if labels is None else "B")
        body += (
            (" ".join(map(str, values)) + "\n").encode()
            if order is None
            else struct.pack(code, *values)
        )
    return text.encode() + body


FORMATS = ["ascii", "binary_little_endian", "binary_big_endian"]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(("number", "corner"), [("float", "int"), ("double", "ushort")])
def test_ply_with_quads_and_labels(form, number, corner, file):
    path = file("a.ply", ply(form, number, [4, 0, 1, 2, 200], corner))
    assert_pyramid(read(path), [4, 4, 0, 1, 2, 200])
    assert_pyramid(read(file("b.ply", ply(form, number, None, corner))))


@pytest.mark.parametrize("newline", ["\r\n", "\r"])
def test_ply_of_points_with_other_line_ends(newline, file):
    text = "ply,format ascii 1.0,element vertex 2,property double nx,property double ny,"
    text += "property double nz,property double x,property double y,property double z,"
    text += "property int label,end_header,0 0 2 1 2 3.25 1,0 3 0 4 5 6 -1,"
    cloud = read(file("a.ply", text.replace(",", newline)))
    np.testing.assert_array_equal(cloud.points, [[1, 2, 3.25], [4, 5, 6]])
    np.testing.assert_array_equal(cloud.normals, [[0, 0, 1], [0, 1, 0]])
    np.testing.assert_array_equal(cloud.labels, [1, -1])


def test_ply_without_faces_is_a_cloud(file):
    cloud = read(file("a.ply", ply("ascii").replace(b"face 5", b"face 0").rsplit(b"\n", 6)[0]))
    assert isinstance(cloud, Cloud)
    np.testing.assert_array_equal(cloud.points, CORNERS)


def test_obj_with_quads_materials_and_continued_lines(file):
    text = "mtllib gone.mtl\no one\n" + "".join(f"v {row} 1.0\n" for row in ROWS.split("\n"))
    text += "vt 0 0\nvn 0 0 1\nusemtl no_such\ng a b\ns off\n"
    text += "f 4/1/1 3/1/1 2/1/1 \\\n1/1/1\nf 1//1 2//1 5//1 # comment\nusemtl other\n"
    text += "f 2/1 3/1 5/1\nf 3 4 5\n#f 1 1 1\nf 4 1 5\nl 1 2\n"
    assert_pyramid(read(file("a.obj", text)))
    assert_pyramid(read(file("b.obj", text.replace("\n", "\r\n"))))


def test_obj_with_negative_numbers_in_several_objects(file):
    triangle = "v 0 0 {0}\nv 1 0 {0}\nv 0 1 {0}\nf -3 -2 -1\n"
    mesh = read(file("a.obj", "o a\n" + triangle.format(0) + "o b\n" + triangle.format(5)))
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(mesh.vertices[mesh.faces[:, 0]], [[0, 0, 0], [0, 0, 5]])


def test_obj_and_stl_of_another_program(mesh, tmp_path):
    trimesh = pytest.importorskip("trimesh")
    theirs = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    corners = mesh.vertices[mesh.faces]
    for name, kind in (("a.obj", "obj"), ("b.stl", "stl"), ("c.STL", "stl_ascii")):
        theirs.export(tmp_path / name, file_type=kind)
        ours = read(tmp_path / name)
        np.testing.assert_allclose(ours.vertices[ours.faces], corners, atol=1e-6)


def stl(name, z):
    return (
        f"solid {name}\nfacet normal 0 0 1\nouter loop\nvertex 0 0 {z}\nvertex 1 0 {z}\n"
        f"vertex 0 1 {z}\nendloop\nendfacet\nendsolid {name}\n"
    )


def test_stl_with_two_solids(file):
    pytest.importorskip("trimesh")
    mesh = read(file("a.stl", stl("one", 0) + stl("two", 3)))
    assert mesh.faces.shape == (2, 3)
    np.testing.assert_array_equal(np.sort(mesh.vertices[mesh.faces][:, :, 2].mean(1)), [0, 3])


def test_triangles_of_polygons():
    faces, polygon = meshes.triangles(np.array([3, 2, 0, 5, 1]), np.arange(11))
    np.testing.assert_array_equal(faces, [[0, 1, 2], [5, 6, 7], [5, 7, 8], [5, 8, 9]])
    np.testing.assert_array_equal(polygon, [0, 3, 3, 3])


def test_real_meshes_equal_those_of_another_program(data):
    trimesh = pytest.importorskip("trimesh")
    paths = sorted((data / "meshes").glob("*/*/test/*.ply"))[::8]
    assert len(paths) > 15
    for path in paths:
        ours, theirs = read(path), trimesh.load_mesh(path, process=False)
        np.testing.assert_array_equal(ours.vertices, theirs.vertices)
        np.testing.assert_array_equal(ours.faces, theirs.faces)


# --- bad files ---

PLY = "ply\nformat ascii 1.0\nelement "
TRIANGLE = {"vertices": np.eye(3), "faces": np.array([[0, 1, 2]])}


def off(vertices, faces):
    return "\n".join([f"OFF\n{len(vertices)} {len(faces)} 0", *vertices, *faces]) + "\n"


def obj(vertices, faces):
    faces = [[int(corner) + 1 for corner in face.split()[1:]] for face in faces]
    rows = [f"v {row}" for row in vertices] + [f"f {' '.join(map(str, row))}" for row in faces]
    return "\n".join(rows) + "\n"


def ascii_ply(vertices, faces):
    head = f"ply\nformat ascii 1.0\nelement vertex {len(vertices)}\nproperty double x\n"
    head += f"property double y\nproperty double z\nelement face {len(faces)}\n"
    head += "property list uchar int vertex_index\nend_header"
    return "\n".join([head, *vertices, *faces]) + "\n"


@pytest.mark.parametrize("make", [off, obj, ascii_ply])
@pytest.mark.parametrize(
    ("vertices", "faces", "words"),
    [
        (["0 0 0", "1 0 0", "0 nan 0"], ["3 0 1 2"], "not finite"),
        (["0 0 0", "1 0 0", "0 -inf 0"], ["3 0 1 2"], "not finite"),
        (["0 0 0", "1 0 0", "0 1e200 0"], ["3 0 1 2"], "too large"),
        (["0 0 0", "1 0 0", "0 1 0"], ["3 0 1 3"], "a face names vertex 3 of 3"),
        (["0 0 0", "1 0 0", "0 1 0"], ["3 0 1 70000000000"], ""),
        (["0 0 0", "1 0 0", "0 1 0"], ["3 0 1 9999999999999999999999"], ""),
        (["0 0 0", "1 0 0", "0 1 0"], ["3 0 1 -5"], "a face names vertex"),
        (["2 2 2", "2 2 2", "2 2 2"], ["3 0 1 2"], "one and the same"),
        (["2 2 2", "2 2 2", "2 2 2", "5 5 5"], ["3 0 1 2"], "one and the same"),
        (["0 0 0", "1 0 0", "0 1 0"], ["2 0 1"], "it holds no faces"),
        (["0 0 0", "1 0 zero", "0 1 0"], ["3 0 1 2"], ""),
        (["0 0", "1 0", "0 1"], ["3 0 1 2"], ""),
        ([], ["3 0 1 2"], ""),
    ],
)
def test_bad_numbers(make, vertices, faces, words, file):
    assert_refused(file(f"a.{make.__name__[-3:]}", make(vertices, faces)), words)


@pytest.mark.parametrize("make", [off, obj])
def test_no_faces(make, file):
    content = make(["0 0 0", "1 0 0", "0 1 0"], [])
    assert_refused(file(f"a.{make.__name__}", content), "it holds no faces")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.off", "OFF\n", "counts of vertices and faces are missing"),
        ("a.off", "OFF\n-3 1 0\n", "claims -3 vertices"),
        ("a.off", "OFF\n3 1000000000 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n", "claims"),
        ("a.off", "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n1000000000 0 1 2\n", "fewer corners"),
        ("a.off", "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n-3 0 1 2\n", "fewer corners"),
        ("a.off", "PLY\n", "does not begin with OFF"),
        ("a.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 0 1 2\n", "vertex 0"),
        ("a.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf -4 -1 -2\n", "vertex -1"),
        ("a.ply", "This is a text\n" * 9, "no sound PLY"),
        (
            "a.ply",
            f"{PLY}face 0\nproperty int x\nend_header\n",
            "no points",
        ),
        (
            "a.ply",
            f"{PLY}vertex 1\nproperty int x\nend_header\n1\n",
            "x, y",
        ),
        ("a.npz", "not a zip", ""),
        ("a.points", "_POINTS_1.0_", "does not begin as"),
        ("a.stl", b"\0" * 84, ""),
        ("a.stl", b"\0" * 80 + b"\xff" * 4 + b"\0" * 50, ""),
        ("a.stl", "solid a\nendsolid a\n", ""),
        ("a.glb", "", "not a kind of mesh that can be read; choose from .npz, .obj, .off"),
    ],
)
def test_bad_content(name, content, words, file):
    assert_refused(file(name, content), words)


@pytest.mark.parametrize("suffix", sorted(meshes.READABLE))
def test_empty_missing_and_folder(suffix, file, tmp_path):
    assert_refused(file(f"empty{suffix}", b""))
    assert_refused(file(f"break{suffix}", b"\n"))
    (tmp_path / f"folder{suffix}").mkdir()
    assert_refused(tmp_path / f"folder{suffix}", "directory")
    assert_refused(tmp_path / f"none{suffix}", "No such file")


def made(mesh, cloud, tmp_path):
    """Write one file of each kind; return the paths."""
    paths = []
    for suffix, shape in ((".off", mesh), (".ply", mesh), (".npz", cloud), (".points", cloud)):
        write(tmp_path / f"sound{suffix}", shape)
        paths.append(tmp_path / f"sound{suffix}")
    for form in FORMATS:
        paths.append(tmp_path / f"{form}.ply")
        paths[-1].write_bytes(ply(form, labels=[0] * 5))
    paths.append(tmp_path / "text.stl")
    paths[-1].write_text(stl("one", 0) + stl("two", 3))
    paths.append(tmp_path / "binary.stl")
    triangle = struct.pack("<12fH", *range(12), 0)
    paths[-1].write_bytes(b"made here".ljust(80) + struct.pack("<I", 4) + 4 * triangle)
    paths.append(tmp_path / "text.obj")
    paths[-1].write_text(obj(ROWS.split("\n"), LISTS.split("\n")))
    return paths


def test_cut_off_files(mesh, cloud, tmp_path):
    pytest.importorskip("trimesh")
    for path in made(mesh, cloud, tmp_path):
        data = path.read_bytes()
        whole = read(path)
        for tenth in range(10):
            path.write_bytes(data[: len(data) * tenth // 10])
            # What is left of these two can be a whole file.
            if path.name in ("text.obj", "text.stl"):
                try:
                    assert len(read(path).faces) < len(whole.faces)
                except DataError:
                    continue
            else:
                assert_refused(path)


def test_changed_bytes_raise_data_errors_alone(mesh, cloud, tmp_path):
    pytest.importorskip("trimesh")
    sound = [(path, path.read_bytes()) for path in made(mesh, cloud, tmp_path)]

    @settings(max_examples=120, suppress_health_check=list(HealthCheck))
    @given(
        which=st.integers(0, len(sound) - 1),
        changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4),
        near_start=st.booleans(),
    )
    def check(which, changes, near_start):
        path, data = sound[which]
        data = bytearray(data)
        for place, value in changes:
            data[int(place * (min(len(data), 300 if near_start else len(data)) - 1))] = value
        path.write_bytes(bytes(data))
        try:
            shape = read(path)
        except DataError as error:
            message = str(error)
        else:
            meshes.check(shape)
            message = str(path)
        assert message.count(str(path)) == 1

    check()


@pytest.mark.parametrize(
    "labels", [[-2, 0, 0, 0, 0, 0], [0, 0, 40_000, 0, 0, 0], [0, 2**32 + 1, 0, 0, 0, 0]]
)
def test_labels_out_of_range(labels, tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, vertices=np.array(CORNERS), faces=np.array(FACES), labels=labels)
    assert_refused(path, "labels are not all from -1 to 32,767")
    np.savez(path, points=np.random.default_rng(0).random((6, 3)), labels=labels)
    assert_refused(path, "labels are not all from -1 to 32,767")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"faces": None}, "neither"),
        ({"vertices": None}, "holds no `vertices`"),
        ({"vertices": np.eye(2)}, "shape (n, 3)"),
        ({"faces": np.array([[0.0, 1.0, np.nan]])}, "`faces` are no integers"),
        ({"faces": np.array([[0, 1, 2**63 + 2]], np.uint64)}, "a face names vertex"),
        ({"faces": np.zeros((0, 3), int)}, "it holds no faces"),
        ({"labels": np.array([0, 1])}, "labels of the shape (2,)"),
        ({"labels": np.array([[0]])}, "labels of the shape (1, 1)"),
        ({"labels": np.array([0.5])}, "no integers"),
        ({"labels": np.array([np.nan])}, "no integers"),
        ({"labels": np.array(["a"])}, ""),
    ],
)
def test_bad_arrays(changes, words, tmp_path):
    arrays = {k: v for k, v in {**TRIANGLE, **changes}.items() if v is not None}
    np.savez(tmp_path / "a.npz", **arrays)
    assert_refused(tmp_path / "a.npz", words)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u8", "f4", "?"])
def test_labels_of_any_type(dtype, tmp_path):
    np.savez(tmp_path / "a.npz", **TRIANGLE, labels=np.array([1], dtype))
    assert read(tmp_path / "a.npz").labels.tolist() == [1]
    assert read(tmp_path / "a.npz").labels.dtype == np.int32


def test_bad_clouds(tmp_path):
    for normals in (np.ones((4, 3)), np.array([[0, 0, np.nan]] * 3), np.ones(3)):
        np.savez(tmp_path / "a.npz", points=np.eye(3), normals=normals)
        assert_refused(tmp_path / "a.npz")


class Hostile:
    ran = False

    def __reduce__(self):
        return setattr, (Hostile, "ran", True)


def npy(shape, payload=b""):
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}".encode()
    header = header.ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + payload


def claims(tmp_path):
    """Yield files that claim gigabytes, or want code to run."""
    for form in FORMATS:
        for word in (b"vertex 5", b"face 5"):
            for count in (b" 1000000000", b" 999999999999999999999", b" +1_000_000_000", b" -1"):
                yield ".ply", ply(form).replace(word, word[:-2] + count)
        if form != "ascii":
            yield ".ply", ply(form).replace(b"list uchar int", b"list double int")
    lists = ply("binary_little_endian").replace(b"list uchar int", b"list uint double")
    at = lists.index(b"end_header\n") + 11 + 5 * 13
    yield ".ply", lists[:at] + struct.pack("<I", 1_000_000_000) + lists[at + 1 :]
    text = ply("ascii").replace(b"list uchar int", b"list uint double")
    yield ".ply", text.replace(b"\n4 3 2 1 0", b"\n1000000000 3 2 1 0")
    yield ".ply", text.replace(b"uint", b"float").replace(b"\n4 3 2 1 0", b"\ninf 3 2 1 0")
    for count in (2**31 - 1, -1):
        header = points_header(count, 1, [3], [88])
        yield ".points", header + b"\0" * 120
    header = points_header(1, 5, [3, 0, 2**31 - 1], [88, 0, 100])
    yield ".points", header + b"\0" * 120
    path = tmp_path / "made"
    for content in (npy((10**9, 3)), npy((2**62, 3)), npy((3, 3)), pickle.dumps(Hostile())):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("points.npy", content)
        yield ".npz", path.read_bytes()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("points.npy", npy((2_000_000, 3), bytes(48_000_000)))
    yield ".npz", path.read_bytes()
    with path.open("wb") as stream:
        np.savez(stream, points=np.array([Hostile()], object))
    yield ".npz", path.read_bytes()
    yield ".npz", pickle.dumps(Hostile())
    yield ".npz", npy((10**9, 3))


def test_no_claim_is_believed(tmp_path):
    contents = list(claims(tmp_path))
    tracemalloc.start()
    try:
        for number, (suffix, content) in enumerate(contents):
            path = tmp_path / f"{number}{suffix}"
            path.write_bytes(content)
            tracemalloc.reset_peak()
            assert_refused(path)
            assert tracemalloc.get_traced_memory()[1] < 30e6, path
    finally:
        tracemalloc.stop()
    assert not Hostile.ran


@pytest.mark.filterwarnings("error")
def test_single_precision_is_checked_quietly(cloud):
    single = Cloud(cloud.points.astype(np.float32))
    assert meshes.check(single) is single

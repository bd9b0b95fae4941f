"""The command line as a user meets it."""

import json

import numpy as np
import pytest
from command_lines import help_of, runner

from apps.ocnn import meshes, octree
from apps.ocnn.cli import app


@pytest.fixture
def ocnn(capsys, tmp_path, monkeypatch):
    """Run a command in this process; return what it printed to stdout and stderr."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user"))

    return runner(app, "ocnn", capsys)


@pytest.fixture
def mixed(clouds, tmp_path):
    """A folder of shapes with broken ones among them."""
    folder = tmp_path / "mixed"
    for file in sorted(clouds.glob("*/test/*.npz")):
        (folder / file.parent.parent.name).mkdir(parents=True, exist_ok=True)
        (folder / file.parent.parent.name / file.name).write_bytes(file.read_bytes())
    (folder / "empty.off").touch()
    (folder / "words.ply").write_text("not a mesh\n")
    (folder / "claims.off").write_text("OFF\n3 1000000000 0\n0 0 0\n1 0 0\n0 1 0\n")
    (folder / "point.off").write_text("OFF\n3 1 0\n1 1 1\n1 1 1\n1 1 1\n3 0 1 2\n")
    (folder / "notes.txt").write_text("no shape\n")
    return folder


def test_help_imports_no_framework():
    assert "--votes" in help_of("ocnn", "classify", ("tensorflow", "keras", "open3d", "scipy"))


def test_classify_a_folder_with_broken_shapes(ocnn, trained, mixed, tmp_path):
    pytest.importorskip("open3d")
    words = ("classify", mixed, "-o", tmp_path / "out", "--weights", trained.path, "--json")
    printed = ocnn(*words, check=1)
    answer = json.loads(printed.out)
    assert answer["done"] == 6
    assert {failure["input"].rsplit("/")[-1] for failure in answer["failures"]} == {
        "empty.off", "words.ply", "claims.off", "point.off"
    }  # fmt: skip
    assert "Traceback" not in printed.err
    assert all("\n" not in failure["reason"] for failure in answer["failures"])
    for shape in answer["shapes"]:
        assert shape["top"][0]["name"] == shape["shape"].split("/")[-2]
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count("<figure") == 6
    again = json.loads(ocnn(*words, check=1).out)
    assert (again["done"], again["skipped"]) == (0, 6)


def test_classify_prints_a_table(ocnn, trained, clouds):
    file = clouds / "slab" / "test" / "slab8.npz"
    printed = ocnn("classify", file, "--weights", trained.path, "--votes", 1)
    assert "slab8.npz" in printed.out
    assert "slab" in printed.out.split("slab8.npz")[1]


def test_retrieve_finds_the_shape_itself_first(ocnn, trained, clouds, tmp_path):
    index = tmp_path / "index.npz"
    ocnn("retrieve", "index", clouds, "-o", index, "--weights", trained.path)
    file = clouds / "ball" / "test" / "ball8.npz"
    words = ("retrieve", "query", file, "--index", index, "--weights", trained.path, "-n", 4)
    found = json.loads(ocnn(*words, "-o", tmp_path / "page.html", "--json").out)["found"]
    hits = found[str(file)]
    assert len(hits) == 4
    assert hits[0]["file"] == str(file)
    assert (tmp_path / "page.html").read_text().count("<figure") == 5
    assert "ball" in ocnn(*words).out
    ocnn("retrieve", "query", tmp_path / "none.off", *words[3:], check=1)


def test_segment_writes_labels_and_colours(ocnn, trained_parts, clouds, tmp_path):
    file = clouds / "pole" / "test" / "pole8.npz"
    out = tmp_path / "out"
    words = ("segment", file, "-o", out, "--weights", trained_parts.path, "--json")
    answer = json.loads(ocnn(*words).out)
    assert answer["parts"] == ["lower", "upper"]
    found = meshes.read(out / "pole8.ply")
    assert np.mean(found.labels == meshes.read(file).labels) > 0.9
    assert (out / "index.html").exists()


def test_octrees_are_counted_and_exported(ocnn, clouds, tmp_path):
    file = clouds / "ball" / "test" / "ball8.npz"
    ocnn("octree", file, "--depth", 4, "-o", tmp_path / "tree.npz")
    (tree,) = octree.load(tmp_path / "tree.npz")
    printed = json.loads(
        ocnn("octree", file, "--depth", 4, "-o", tmp_path / "leaves.ply", "--json").out
    )
    assert [row["nodes"] for row in printed["levels"]] == [len(keys) for keys in tree.keys]
    leaves = meshes.read(tmp_path / "leaves.ply")
    np.testing.assert_allclose(leaves.points, tree.points, atol=1e-5)
    ocnn("octree", file, "-o", tmp_path / "tree.obj", check=1)


def test_shapes_are_made_up_and_scanned(ocnn, tmp_path):
    pytest.importorskip("open3d")
    ocnn("generate", "stool", "-o", tmp_path / "made", "--count", 2, "--seed", 5)
    files = sorted((tmp_path / "made").glob("stool/*/*.ply"))
    assert len(files) == 2
    ocnn("scan", *files, "-o", tmp_path / "scans", "--resolution", 15)
    cloud = meshes.read(tmp_path / "scans" / "stool_0000.points")
    assert set(cloud.labels) == {0, 1}
    assert "no class" in ocnn("generate", "unicorn", "-o", tmp_path / "x", check=1).err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["classify", "x.off", "--weights", "nothing"], "No weights of ocnn are called nothing"),
        (["segment", "x.off", "-o", "out", "--weights", "nothing"], "No weights of ocnn"),
        (["retrieve", "query", "x.off", "--index", "no.npz"], "not an index of shapes"),
        (["retrieve", "index", "x.off", "-o", "index.txt"], "must end in .npz"),
        (["octree", "nothing.off"], "nothing.off"),
        (["octree", "nothing.off", "--depth", "2"], "greater than or equal to 3"),
        (["train", "classes", "nowhere", "-o", "x.keras"], "no such folder"),
        (["import-weights", "nothing.caffemodel"], "nothing.caffemodel"),
    ],
)
def test_mistakes_are_one_line(words, message, ocnn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    printed = ocnn(*words, check=2 if "greater" in message else 1)
    assert message in " ".join(printed.err.split())
    assert "Traceback" not in printed.err


def test_the_authors_weights_are_imported_by_name(ocnn, data, tmp_path):
    pytest.importorskip("open3d")
    ocnn("import-weights", data / "ocnn_weights" / "ocnn_M40_5.caffemodel")
    file = data / "meshes" / "objects24" / "person" / "test"
    printed = ocnn("classify", file, "--weights", "ocnn_M40_5", "--votes", 2, "--json")
    names = [shape["top"][0]["name"] for shape in json.loads(printed.out)["shapes"]]
    assert names.count("person") >= 4

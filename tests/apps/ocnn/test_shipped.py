"""The weights that ship, on shapes they have not seen, and the controls of what that means."""

import json

import numpy as np
import pytest

from apps.ocnn import caffe, meshes, scan, scores, shapes, shipped, tasks
from apps.ocnn.data import Poses, octrees
from apps.ocnn.tasks import Classifier, Segmenter
from shared import weights

pytest.importorskip("open3d")


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_what_ships_is_what_the_command_trains():
    files = shipped.default_folder().glob("*.keras")
    assert sorted(file.stem for file in files) == sorted(shipped.names())
    for name in shipped.names():
        card = weights.read_card(weights.find(tasks.APP, name))
        assert card.training["command"].startswith(f"convsuite ocnn train shipped {name} ")
        assert card.settings["task"] == ("classes" if name == "objects24" else "parts")


def test_the_classifier_knows_made_up_shapes_though_it_learned_real_ones():
    classifier = Classifier.from_weights("objects24", votes=2)
    rng = np.random.default_rng(123)
    names = [name for name in shapes.EASY if name in classifier.names] * 2
    right = [classifier(shapes.generate(name, rng)).top(1)[0][0] == name for name in names]
    assert np.mean(right) > 0.6, "chance is 1 in 24"


def test_the_classifier_is_right_on_held_out_meshes(data):
    """The card's figure, with one pose, on every third of the test meshes."""
    classifier = Classifier.from_weights("objects24", votes=1)
    folder = data / "meshes" / "objects24"
    files = sorted(folder.glob("*/test/*.ply"))[::3]
    found = [classifier(meshes.read(file)).top(1)[0][0] for file in files]
    assert (
        np.mean([name == f.parent.parent.name for name, f in zip(found, files, strict=True)]) > 0.68
    )


@pytest.mark.parametrize("kind", shipped.MADE_UP)
def test_parts_of_made_up_shapes(kind):
    segmenter = Segmenter.from_weights(f"made_{kind}", votes=2)
    rng = np.random.default_rng(77)
    ious = []
    for _ in range(4):
        mesh = shapes.generate(kind, rng)
        found = segmenter(mesh)
        ious.append(scores.mean_iou(mesh.labels, found.labels, len(segmenter.parts), found.weights))
    assert segmenter.parts == shapes.PARTS[kind]
    assert np.mean(ious) > 0.85


@pytest.mark.parametrize(
    "kind",
    [
        # The others are the same code and take some seconds each.
        pytest.param(kind, marks=[] if kind in ("cup", "hand") else pytest.mark.slow)
        for kind in shipped.REAL_PARTS
    ],
)
def test_parts_of_held_out_meshes(kind, data):
    segmenter = Segmenter.from_weights(f"parts_{kind}", votes=3)
    ious = []
    for file in sorted((data / "meshes" / "watertight19" / kind / "test").glob("*.ply"))[:2]:
        mesh = meshes.read(file)
        found = segmenter(mesh)
        ious.append(scores.mean_iou(mesh.labels, found.labels, len(segmenter.parts), found.weights))
    card = json.loads(weights.find(tasks.APP, f"parts_{kind}").with_suffix(".json").read_text())
    known = list(card["results"]["per shape"].values())[:2]
    assert np.mean(ious) > np.mean(known) - 0.1, "the card says otherwise"


def test_the_authors_network_and_what_breaks_it(data):
    """Kernels reversed, answers permuted, normals zeroed, another axis up: each must lose most."""
    path = data / "ocnn_weights" / "ocnn_M40_5.caffemodel"
    network = weights.load_model(caffe.import_weights(path), tasks.APP)
    _, settings = tasks.open_network("ocnn_M40_5", "classes")
    classifier = Classifier(network, settings)
    rng = np.random.default_rng(0)
    made = [(name, scan.scan(shapes.generate(name, rng))) for name in shapes.EASY * 2]

    def share_right(classifier, up="z", normals=1.0):
        right = 0
        for name, cloud in made:
            (tree,) = octrees(cloud, classifier.form, Poses(1), up)
            tree.normals[:] *= normals
            right += classifier.answer([tree]).top(1)[0][0] == name
        return right / len(made)

    whole = share_right(classifier)
    assert whole >= 0.95 - 1 / len(made)
    assert share_right(classifier, up="y") < whole / 2 + 0.15
    assert share_right(classifier, normals=0.0) < 0.2
    permuted = settings | {"names": list(np.roll(settings["names"], 7))}
    assert share_right(Classifier(network, permuted)) < 0.2
    for layer in ("conv5", "conv4", "conv3"):
        (kernel,) = network.get_layer(layer).get_weights()
        network.get_layer(layer).set_weights([kernel[::-1]])
    assert share_right(Classifier(network, settings)) < 0.75 * whole


@pytest.mark.slow
def test_the_authors_network_is_right_on_real_meshes(data):
    """On the test meshes of the classes it knows; 60 of 77 are right with the scan of one pose."""
    path = caffe.import_weights(data / "ocnn_weights" / "ocnn_M40_5.caffemodel")
    classifier = Classifier.from_weights(path, votes=1)
    folder = data / "meshes" / "objects24"
    files = [
        f for f in sorted(folder.glob("*/test/*.ply")) if f.parent.parent.name in caffe.MODELNET40
    ]
    files = files[::3]
    found = [classifier(meshes.read(file)).top(1)[0][0] for file in files]
    assert (
        np.mean([name == f.parent.parent.name for name, f in zip(found, files, strict=True)]) > 0.6
    )

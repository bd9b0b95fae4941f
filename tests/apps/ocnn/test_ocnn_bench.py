"""The benches measure what they say, on small material."""

import dataclasses
import json

import numpy as np
import pytest
from reference_ocnn import ocnn

from apps.ocnn import bench, octree
from apps.ocnn.cli import app
from apps.ocnn.data import find
from apps.ocnn.tasks import Classifier, Segmenter
from shared import backend, console
from shared.errors import ConvsuiteError, DataError


def test_building_counts_points_and_nodes():
    rows = bench.building([2000], repeats=1)
    assert [row["depth"] for row in rows] == [5, 6, 7, 8]
    tree = octree.build(*bench.sphere(2000), 6)
    assert rows[1]["nodes"] == len(tree.keys[-1])
    assert all(row["points/s"] > 0 and row["neighbours, s"] > 0 for row in rows)


def test_scaling_counts_bytes_and_compares_levels():
    rows = bench.scaling((3, 4, 5), points=4000, channels=4, repeats=1)
    for row in rows:
        tree = octree.build(*bench.sphere(4000), row["depth"])
        assert row["octree, MB"] == pytest.approx(len(tree.keys[-1]) * 4 * 4 / 1e6)
        assert row["dense, MB"] == pytest.approx(8 ** row["depth"] * 4 * 4 / 1e6)
    assert "dense, ms" not in rows[2]
    assert rows[1]["dense, times"] == rows[1]["dense, ms"] / rows[0]["dense, ms"]
    assert rows[2]["octree, times"] == rows[2]["octree, ms"] / rows[1]["octree, ms"]


def test_retrieval_is_better_than_chance(trained, clouds, tmp_path):
    classifier = Classifier.from_weights(trained.path, cache=tmp_path)
    found = find(clouds)
    rows = bench.retrieval(classifier, found.test, found.test_labels, quiet=True)
    micro = {row["method"]: row for row in rows if row["mean over"] == "micro"}
    assert micro["classes, as the paper"]["F1@N"] == 1
    assert micro["features, cosine"]["mAP"] == 1
    assert micro["random"]["mAP"] < 1


def test_a_shape_that_cannot_be_read_ends_the_bench(trained, clouds, tmp_path):
    found = find(clouds)
    (tmp_path / "cut.npz").write_bytes(found.test[0].read_bytes()[:100])
    files = [*found.test, tmp_path / "cut.npz"]
    with pytest.raises(DataError, match=r"cut\.npz"):
        bench.retrieval(
            Classifier.from_weights(trained.path, cache=tmp_path), files, [], quiet=True
        )


def test_smoothing_is_tried_on_other_shapes_than_chose_it(trained_parts, clouds):
    segmenter = Segmenter.from_weights(trained_parts.path)
    rows = bench.smoothing(segmenter, sorted((clouds / "pole" / "train").glob("*")), quiet=True)
    assert [row["count"] for row in rows] == [4, 4]
    assert rows[0]["IoU with CRF"] >= rows[0]["IoU"] > 0.8
    assert rows[0]["smooth weight"] == rows[1]["smooth weight"]


def test_robustness_needs_classes_that_can_be_made_up(trained):
    with pytest.raises(ConvsuiteError, match="knows none of the classes"):
        bench.robustness(Classifier.from_weights(trained.path), quiet=True)


def test_robustness_spoils_shapes_in_every_way(trained, monkeypatch):
    pytest.importorskip("open3d")
    classifier = Classifier.from_weights(trained.path)
    classifier.names = ("stool", "vase", "cup")
    rows = bench.robustness(classifier, count=1, quiet=True)
    assert {row["of"] for row in rows} == {3}
    assert [row["condition"] for row in rows] == list(bench._CONDITIONS)


@pytest.mark.backends
@pytest.mark.skipif(backend.name() != "torch", reason="the peer runs on PyTorch whatever we run on")
def test_the_peer_learns_the_same_shapes(clouds, recipe, tmp_path):
    ocnn()
    quick = dataclasses.replace(recipe, steps=20)
    row = bench.peer_classes(clouds, quick, seed=1, cache=tmp_path, quiet=True)
    assert row["accuracy with voting"] > 0.6


def test_benches_print_a_table_or_json(monkeypatch, capsys):
    monkeypatch.setattr(bench, "building", lambda: [{"points": 7, "points/s": np.float64(1234.5)}])
    for words, wanted in ((["bench", "build"], "1,234"), (["bench", "build", "--json"], "1234.5")):
        with pytest.raises(SystemExit):
            console.run(app, words, prog="convsuite ocnn")
        printed = capsys.readouterr().out
        assert wanted in printed
    assert json.loads(printed)["rows"] == [{"points": 7, "points/s": 1234.5}]

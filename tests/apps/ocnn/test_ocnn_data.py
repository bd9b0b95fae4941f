import dataclasses

import numpy as np
import pytest

from apps.ocnn import data, meshes, model, octree
from apps.ocnn.data import Cache, Form, Poses, Reader
from shared import backend
from shared.errors import DataError

FORM = Form(depth=3)


def test_first_pose_is_the_shape_as_it_is():
    for poses in (Poses(12), Poses(6, stretch=0.3, tilt=10, mirror=True), Poses(5, free=True)):
        matrices = poses.matrices("z")
        assert len(matrices) == poses.count
        np.testing.assert_array_equal(matrices[0], np.eye(3))


def test_plain_poses_are_even_turns_about_the_up_axis():
    for up, axis in zip("xyz", np.eye(3), strict=True):
        for number, matrix in enumerate(Poses(12).matrices(up)):
            np.testing.assert_allclose(matrix @ axis, axis, atol=1e-12)
            assert np.trace(matrix) == pytest.approx(1 + 2 * np.cos(np.radians(30 * number)))


def test_varied_poses_depend_on_the_seed_alone():
    poses = Poses(8, stretch=0.2, tilt=5, mirror=True, seed=3)
    first, again = poses.matrices("z"), poses.matrices("z")
    other = dataclasses.replace(poses, seed=4).matrices("z")
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first[1], other[1])
    signs = np.sign([np.linalg.det(matrix) for matrix in first])
    assert set(signs) == {-1, 1}


def test_folders_with_and_without_a_split(clouds, tmp_path):
    found = data.find(clouds)
    assert found.classes == ("ball", "pole", "slab")
    assert (len(found.train), len(found.test)) == (24, 6)
    assert [file.parent.parent.name for file in found.test] == [
        found.classes[label] for label in found.test_labels
    ]
    for file in clouds.glob("*/*/*.npz"):
        target = tmp_path / file.parent.parent.name / file.name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(file.read_bytes())
    chosen = data.find(tmp_path, 0.3, seed=1)
    assert (len(chosen.train), len(chosen.test)) == (21, 9)
    assert not set(chosen.train) & set(chosen.test)
    assert data.find(tmp_path, 0.3, seed=1).test == chosen.test
    assert data.find(tmp_path, 0.3, seed=2).test != chosen.test


@pytest.mark.parametrize("content", [[], ["one/a.off"], ["a.off", "b.off"]])
def test_other_folders_are_refused(content, tmp_path):
    for name in content:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(DataError, match="two folders of classes"):
        data.find(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        data.find(tmp_path / "nothing")


def test_cache_gives_the_same_and_survives_damage(clouds, tmp_path, monkeypatch):
    file = clouds / "ball" / "test" / "ball8.npz"
    cache = Cache(tmp_path)
    made = cache.octrees(file, FORM, Poses(3))
    monkeypatch.setattr(meshes, "read", lambda path: pytest.fail("read again"))
    again = cache.octrees(file, FORM, Poses(3))
    for ours, theirs in zip(made, again, strict=True):
        np.testing.assert_array_equal(ours.keys[-1], theirs.keys[-1])
        np.testing.assert_array_equal(ours.normals, theirs.normals)
    monkeypatch.undo()
    (kept,) = tmp_path.rglob("*.npz")
    kept.write_bytes(kept.read_bytes()[:100])
    assert len(cache.octrees(file, FORM, Poses(3))) == 3
    for form, poses, up in (
        (Form(depth=4), Poses(3), None),
        (FORM, Poses(3, seed=1), None),
        (FORM, Poses(3), "y"),
    ):
        cache.octrees(file, form, poses, up)
    assert len(list(tmp_path.rglob("*.npz"))) == 4


def test_a_cache_that_cannot_be_written_costs_no_answer(clouds, tmp_path):
    (tmp_path / "file").touch()
    file = clouds / "ball" / "test" / "ball8.npz"
    assert len(Cache(tmp_path / "file").octrees(file, FORM, Poses(2))) == 2


def test_prepare_leaves_out_what_cannot_be_read(clouds, tmp_path):
    broken = tmp_path / "broken.off"
    broken.write_text("OFF\n")
    good = clouds / "slab" / "test" / "slab8.npz"
    found = data.prepare([broken, good], FORM, Poses(2), cache=tmp_path / "c", quiet=True)
    assert found.files == [good]
    assert [len(poses) for poses in found.octrees] == [2]
    assert [failure.source for failure in found.failures] == [broken]
    with pytest.raises(DataError, match="none of 1 files"):
        data.prepare([broken], FORM, Poses(2), cache=tmp_path / "c", quiet=True)


def test_fingerprints_tell_equal_leaves(clouds):
    files = sorted(clouds.glob("*/test/*.npz"))[:3]
    prints = [data.fingerprint(data.octrees(meshes.read(f), FORM, Poses(1))[0]) for f in files]
    assert len(set(prints)) == 3
    shape = meshes.read(files[0])
    larger = meshes.Cloud(shape.points * 4, shape.normals)
    assert data.fingerprint(data.octrees(larger, FORM, Poses(1))[0]) == prints[0]


@pytest.mark.backends
def test_reader_gives_the_same_for_any_batch(clouds):
    files = sorted(clouds.glob("*/test/*.npz"))
    trees = [data.octrees(meshes.read(file), FORM, Poses(1))[0] for file in files]
    network = model.lenet(3, classes=3)
    forward = backend.compiled(network)
    reader = Reader(network, FORM, trees, 4)
    found = reader.predict(forward, trees)
    assert found.shape == (6, 3)
    for tree, row in zip(trees, found, strict=True):
        np.testing.assert_allclose(reader.predict(forward, [tree])[0], row, atol=1e-5)


def test_reader_pads_to_few_sizes_where_each_compiles(clouds, monkeypatch):
    monkeypatch.setattr(backend, "compiles_each_size", lambda: True)
    files = sorted(clouds.glob("*/train/*.npz"))
    trees = [data.octrees(meshes.read(f), Form(depth=4), Poses(1))[0] for f in files]
    network = model.segnet(4)
    reader = Reader(network, Form(depth=4), trees, 4)
    rng = np.random.default_rng(0)
    sizes = set()
    for _ in range(20):
        chosen = [trees[i] for i in rng.choice(len(trees), 4)]
        tables, labels = reader.with_labels(chosen)
        sizes.add(tuple(table.shape for table in tables.values()))
        merged = octree.merge(chosen)
        np.testing.assert_array_equal(labels[: len(merged.labels)], merged.labels)
        assert (labels[len(merged.labels) :] == -1).all()
        assert len(tables["nonempty4"]) == len(labels)
    assert len(sizes) <= 2
    outputs = reader.predict_leaves(backend.compiled(network), trees[:5])
    assert [len(rows) for rows in outputs] == [len(tree.points) for tree in trees[:5]]

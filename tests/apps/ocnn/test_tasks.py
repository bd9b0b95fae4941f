import dataclasses
import json

import numpy as np
import pytest

from apps.ocnn import data, meshes
from apps.ocnn.tasks import Classifier, Index, Segmenter, card_names, checksum
from shared import backend
from shared.errors import DataError, WeightsError


@pytest.fixture(scope="module")
def classifier(trained, tmp_path_factory):
    return Classifier.from_weights(trained.path, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def held_out(clouds):
    return sorted(clouds.glob("*/test/*.npz"))


@pytest.fixture(scope="module")
def index(classifier, clouds):
    files = sorted(clouds.glob("*/*/*.npz"))
    looks = [classifier.look(classifier.of_file(file)) for file in files]
    probabilities, features = (np.stack(column) for column in zip(*looks, strict=True))
    return Index([str(f) for f in files], features, probabilities, list(classifier.names), "abc")


@pytest.mark.backends
def test_training_tells_the_classes_and_the_file_says_so(trained, classifier, held_out):
    assert trained.facts["test shapes"] == 6
    assert trained.facts["accuracy with voting"] == 1
    assert json.loads(trained.path.with_suffix(".json").read_text())["results"] == trained.facts
    for file in held_out:
        answer = classifier(meshes.read(file))
        assert answer.top(1)[0][0] == file.parent.parent.name
        assert answer.probabilities.sum() == pytest.approx(1)


@pytest.mark.backends
@pytest.mark.skipif(backend.name() != "jax", reason="only JAX compiles every size")
def test_a_training_compiles_its_network_at_most_eight_times(training_and_messages):
    _, messages = training_and_messages
    of_network = [m for m in messages if "XLA compilation of jit(train_step)" in m]
    assert 1 <= len(of_network) <= 2
    of_network += [m for m in messages if "XLA compilation of jit(stateless)" in m]
    assert 2 <= len(of_network) <= 8


def test_voting_is_the_mean_of_the_poses(classifier, held_out):
    poses = classifier.of_file(held_out[0])
    assert len(poses) == 3
    alone = [classifier.of_octrees([pose]) for pose in poses]
    np.testing.assert_allclose(classifier.of_octrees(poses), np.mean(alone, axis=0), atol=1e-6)
    _, features = classifier.look(poses)
    np.testing.assert_allclose(
        features, np.max([classifier.look([pose])[1] for pose in poses], axis=0), atol=1e-5
    )


def test_the_up_axis_matters(classifier, held_out):
    pole = meshes.read(next(file for file in held_out if "pole" in file.stem))
    lying = meshes.Cloud(np.roll(pole.points, 1, axis=1), np.roll(pole.normals, 1, axis=1))
    np.testing.assert_allclose(
        classifier(lying, up="x").probabilities, classifier(pole).probabilities, atol=1e-5
    )
    assert not np.allclose(
        classifier(lying).probabilities, classifier(pole).probabilities, atol=1e-3
    )


def test_an_index_finds_a_shape_itself_first(index, classifier, held_out):
    for file in held_out:
        probabilities, features = classifier.look(classifier.of_file(file))
        for ranking in ("cosine", "classes"):
            hits = index.search(features, probabilities, 8, ranking)
            assert hits[0].file == str(file)
            assert hits[0].distance == pytest.approx(0, abs=1e-5)
            assert [h.distance for h in hits] == sorted(h.distance for h in hits)
            assert {hit.name for hit in hits[:8]} == {file.parent.parent.name}


def test_the_ranking_of_the_paper_stays_inside_a_class(index, classifier, held_out):
    probabilities, features = classifier.look(classifier.of_file(held_out[0]))
    hits = index.search(features, probabilities, 2000, "classes")
    assert len(hits) == 10
    assert len(index.search(features, probabilities, 2000, "cosine")) == 30


def test_an_index_is_kept_in_plain_arrays(index, tmp_path):
    index.save(tmp_path / "index.npz")
    again = Index.load(tmp_path / "index.npz")
    assert (again.files, again.names, again.network) == (index.files, index.names, "abc")
    np.testing.assert_array_equal(again.features, index.features)
    with np.load(tmp_path / "index.npz", allow_pickle=False) as file:
        arrays = dict(file)
    for change in (
        {"features": arrays["features"][:3]},
        {"features": arrays["features"] * np.nan},
        {"probabilities": arrays["probabilities"][:, :2]},
        {"files": np.array([object()] * len(arrays["files"]))},
    ):
        np.savez(tmp_path / "bad.npz", **(arrays | change))
        with pytest.raises(DataError, match="not an index of shapes"):
            Index.load(tmp_path / "bad.npz")
    whole = (tmp_path / "index.npz").read_bytes()
    for part in (b"", whole[:50], whole[:-40]):
        (tmp_path / "bad.npz").write_bytes(part)
        with pytest.raises(DataError, match="not an index of shapes"):
            Index.load(tmp_path / "bad.npz")


def test_retrieval_layers_see_the_largest_feature_of_all_poses(trained, clouds, held_out, tmp_path):
    from apps.ocnn import train

    found = train.train_retrieval(
        clouds, tmp_path / "found.keras", trained.path, cache=tmp_path, quiet=True
    )
    assert found.facts["accuracy"] == 1
    network = Classifier.from_weights(found.path, cache=tmp_path, votes=6)
    poses = network.of_file(held_out[0])
    probabilities, features = network.look(poses)
    again = network.look(poses[::-1])
    np.testing.assert_allclose(again[0], probabilities, atol=1e-5)
    np.testing.assert_allclose(again[1], features, atol=1e-5)
    assert not np.allclose(network.look(poses[:1])[1], features, atol=1e-3)


@pytest.mark.backends
def test_parts_are_named_at_every_point(trained_parts, clouds):
    segmenter = Segmenter.from_weights(trained_parts.path)
    assert segmenter.parts == ("lower", "upper")
    assert trained_parts.facts["mean IoU"] > 0.85
    shape = meshes.read(clouds / "pole" / "test" / "pole9.npz")
    found = segmenter(shape)
    assert found.labels.shape == shape.labels.shape
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)
    assert np.mean(found.labels == shape.labels) > 0.9
    smoothed = Segmenter.from_weights(trained_parts.path, smooth=True)(shape)
    assert np.mean(smoothed.labels == shape.labels) > 0.9
    assert not np.allclose(smoothed.probabilities, found.probabilities)


def test_faces_take_the_parts_of_their_points(trained_parts):
    pytest.importorskip("open3d")
    import trimesh

    pole = trimesh.creation.icosphere(3).apply_scale([0.2, 0.2, 1])
    inside = trimesh.creation.icosphere(1).apply_scale(0.05)  # which nobody sees from outside
    vertices = np.concatenate([pole.vertices, inside.vertices + np.array([0, 0, 0.7])])
    mesh = meshes.Mesh(
        vertices, np.concatenate([pole.faces, inside.faces + len(pole.vertices)]).astype(np.int32)
    )
    found = Segmenter.from_weights(trained_parts.path)(mesh)
    assert len(found.labels) == len(mesh.faces)
    heights = vertices[mesh.faces][..., 2].mean(axis=1)
    assert np.mean(found.labels == (heights > 0)) > 0.9
    assert found.labels[len(pole.faces) :].all()
    assert found.weights.sum() == pytest.approx(pole.area + inside.area)


def test_weights_for_another_task_are_refused(trained, trained_parts, tmp_path):
    with pytest.raises(WeightsError, match="for classes, not for parts"):
        Segmenter.from_weights(trained.path)
    with pytest.raises(WeightsError, match="for parts, not for classes"):
        checksum(trained_parts.path)
    assert card_names(trained.path, "classes") == ("ball", "pole", "slab")
    with pytest.raises(WeightsError, match="No weights of ocnn"):
        Classifier.from_weights("nothing")


def test_training_leaves_out_shapes_that_equal_test_shapes(clouds, recipe, tmp_path, capsys):
    from apps.ocnn import train

    for file in clouds.glob("*/*/*.npz"):
        target = tmp_path / "data" / file.relative_to(clouds)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    held_out = tmp_path / "data" / "ball" / "test" / "ball8.npz"
    (tmp_path / "data" / "ball" / "train" / "copy.npz").write_bytes(held_out.read_bytes())
    (tmp_path / "data" / "ball" / "train" / "broken.off").write_text("OFF\n1 2")
    quick = dataclasses.replace(recipe, steps=1)
    trained = train.train_classes(
        tmp_path / "data", tmp_path / "x.keras", quick, cache=tmp_path / "cache", quiet=True
    )
    assert trained.facts["training shapes"] == 24
    told = capsys.readouterr().err
    assert "left out 1 training shapes" in told
    assert "broken.off" in told
    with pytest.raises(DataError, match="--resume"):
        train.train_classes(
            tmp_path / "data", tmp_path / "x.keras", quick, cache=tmp_path / "cache", quiet=True
        )


def test_batches_of_a_step_are_a_function_of_its_number():
    from apps.ocnn.train import drawn

    seen = [drawn(step, 10, 5, 4, seed=1) for step in range(4)]
    np.testing.assert_array_equal(np.sort(np.concatenate([seen[0][0], seen[1][0]])), range(10))
    np.testing.assert_array_equal(seen[3][1], drawn(3, 10, 5, 4, seed=1)[1])
    assert not np.array_equal(seen[0][0], seen[2][0])
    assert all(0 <= pose < 4 for _, poses in seen for pose in poses)


def test_unlabelled_shapes_cannot_teach_parts(clouds, recipe, tmp_path):
    from apps.ocnn import train

    for number in range(3):
        shape = meshes.read(clouds / "pole" / "train" / f"pole{number}.npz")
        meshes.write(tmp_path / f"{number}.npz", meshes.Cloud(shape.points, shape.normals))
    quick = dataclasses.replace(recipe, network="segnet", steps=1)
    with pytest.raises(DataError, match="none of the training shapes has labels"):
        train.train_parts(tmp_path, tmp_path / "x.keras", quick, cache=tmp_path / "c", quiet=True)


def test_data_module_reads_a_mesh_as_points_of_the_unit_sphere():
    pytest.importorskip("open3d")
    import trimesh

    ball = trimesh.creation.icosphere(2, radius=40)
    cloud = data.centred(meshes.Mesh(ball.vertices, ball.faces.astype(np.int32)), data.Form())
    assert np.linalg.norm(cloud.points, axis=1).max() == pytest.approx(1, abs=1e-4)

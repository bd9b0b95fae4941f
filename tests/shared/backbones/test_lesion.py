"""Lesions against networks that are cut by hand, and on shipped weights the claim of the paper."""

import csv

import keras
import numpy as np
import pytest
from keras import ops

from shared import backbones
from shared.backbones import lesion
from shared.backbones.resnet import gated

_SMALL = {"repeats": (2, 2, 2), "channels": (8, 12, 12)}


def network(name, rng):
    """A gated network of three stages with random weights and statistics."""
    model = gated(name, classes=4, input_shape=(16, 16, 1), **_SMALL)
    for weight in model.weights:
        shape = weight.shape
        if weight.name == "kernel":
            value = rng.normal(0, np.prod(shape[:-1]) ** -0.5, shape)
        elif weight.name in ("gamma", "moving_variance"):
            value = rng.uniform(0.5, 1.5, shape)
        else:
            value = rng.normal(0, 0.2, shape)
        weight.assign(value.astype("float32"))
    return model


def answers(model, pictures, deleted=()):
    gates = np.ones((len(pictures), len(lesion.block_names(model))), "float32")
    gates[:, list(deleted)] = 0
    return ops.convert_to_numpy(model([pictures, gates], training=False))


@pytest.fixture
def pictures(rng):
    return rng.normal(size=(60, 16, 16, 1)).astype("float32")


@pytest.mark.parametrize("name", ["resnet32_narrow", "plain32_narrow"])
def test_accuracies_are_those_of_the_gated_network(name, rng, pictures):
    model = network(name, rng)
    labels = answers(model, pictures).argmax(-1)
    labels[:15] = (labels[:15] + 1) % 4
    result = lesion.study(model, pictures, labels, deletions=(1, 2, 4), swaps=(1, 2), draws=3)
    assert result.intact == pytest.approx(0.75)
    blocks = lesion.block_names(model)
    assert result.blocks == blocks
    assert len(blocks) == (6 if name.startswith("resnet") else 12)
    for index in (0, len(blocks) - 1):
        right = answers(model, pictures, [index]).argmax(-1) == labels
        assert result.single[index] == pytest.approx(right.mean())
    assert [len(row) for row in result.several.values()] == [3, 3, 3]
    assert all(-1 <= tau < 1 for row in result.swaps.values() for tau, _ in row)


def test_a_deleted_block_is_one_whose_branch_gives_nothing(rng, pictures):
    model = network("resnet32_narrow", rng)
    deleted = answers(model, pictures, [1])
    last = lesion._layers(model, lesion.block_names(model)[1])[-1]
    assert isinstance(last, keras.layers.BatchNormalization)
    gamma, beta, mean, variance = last.get_weights()
    last.set_weights([0 * gamma, 0 * beta, mean, variance])
    np.testing.assert_allclose(answers(model, pictures), deleted, rtol=1e-5)


def test_swapping_exchanges_weights_and_puts_them_back(rng, pictures):
    model = network("resnet32_narrow", rng)
    before = [weight.copy() for weight in model.get_weights()]
    intact = answers(model, pictures)
    blocks = lesion.block_names(model)
    groups = lesion._equal_blocks(model, blocks)
    assert all(len(group) > 1 for group in groups)
    a, b = groups[-1][:2]
    order = list(range(len(blocks)))
    order[a], order[b] = b, a
    with lesion._Reordered(model, blocks, order):
        swapped = answers(model, pictures)
        np.testing.assert_array_equal(
            lesion._layers(model, blocks[a])[0].get_weights()[0],
            before_of(model, before, lesion._layers(model, blocks[b])[0]),
        )
    assert np.abs(swapped - intact).max() > 1e-4
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def before_of(model, before, layer):
    paths = [weight.path for weight in model.weights]
    return before[paths.index(layer.weights[0].path)]


def test_table_and_json_hold_every_accuracy(tmp_path):
    import json

    from shared.console import to_json

    one = lesion.Study("a", ["x", "y"], 0.9, [0.8, 0.1], {1: [0.5], 2: [0.3]}, {1: [(0.5, 0.7)]})
    lesion.write_csv([one], tmp_path / "deep" / "lesion.csv")
    rows = list(csv.DictReader((tmp_path / "deep" / "lesion.csv").open()))
    assert [float(row["accuracy"]) for row in rows] == [0.9, 0.8, 0.1, 0.5, 0.3, 0.7]
    (again,) = lesion.read_studies(json.loads(to_json([one])))
    assert again == one
    assert one.trend == pytest.approx(-1)
    assert one.median_single == pytest.approx(0.45)


def test_the_verdict_can_go_either_way():
    smooth = lesion.Study("residual", ["x"], 0.98, [0.95])
    broken = lesion.Study("plain", ["x"], 0.97, [0.11])
    assert "degrades smoothly" in lesion.verdict(smooth, broken)
    assert "does not show" in lesion.verdict(broken, smooth)


def test_networks_without_blocks_are_refused():
    from shared.errors import ConvsuiteError

    with pytest.raises(ConvsuiteError, match="no blocks"):
        gated("vgg16")
    assert "resnet32_narrow" in backbones.list_networks()


@pytest.mark.parametrize("name", ["resnet32_narrow", "plain32_narrow"])
def test_shipped_networks_show_the_claim_of_the_paper(name):
    model, pictures, labels = lesion.trained_on_digits(name)
    result = lesion.study(model, pictures, labels, deletions=(), swaps=())
    if name == "plain32_narrow":
        assert result.median_single <= 0.5
    else:
        assert result.intact >= 0.98
        assert result.median_single >= 0.85
        assert sum(accuracy >= 0.8 for accuracy in result.single) >= 10


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_seed_shows_the_claim_of_the_paper(seed, tmp_path, data):
    """Seed 0 ships; the others are trained here, alike."""
    from shared.backbones.train import train_digits

    studies = {}
    for name in ("resnet32_narrow", "plain32_narrow"):
        file = None
        if seed:
            file = tmp_path / f"{name}.keras"
            train_digits(name, file, data / "digits", seed=seed, quiet=True)
        trained = lesion.trained_on_digits(name, file, data / "digits")
        studies[name] = lesion.study(*trained, swaps=(), seed=seed)
    residual, plain = studies["resnet32_narrow"], studies["plain32_narrow"]
    assert residual.intact >= 0.98
    assert residual.median_single >= 0.85
    assert sum(accuracy >= 0.8 for accuracy in residual.single) >= 10
    assert residual.trend <= -0.8
    assert plain.intact >= 0.95
    assert plain.median_single <= 0.5


def test_what_ships_is_what_the_command_trains():
    from shared import assets
    from shared.backbones.train import SHIPPED

    files = (assets.weights_dir() / "backbones").glob("*.keras")
    assert {file.stem for file in files} == set(SHIPPED)

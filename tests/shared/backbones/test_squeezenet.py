"""SqueezeNet 1.1 with the weights of its authors, and both versions against torch layers."""

import dataclasses

import numpy as np
import pytest

from shared import backbones, images
from shared.assets import samples_dir

MAPS = (
    *("conv1", "pool1", "fire2", "fire3", "pool3", "fire4", "fire5", "pool5"),
    *("fire6", "fire7", "fire8", "fire9", "conv10"),
)


@pytest.fixture(scope="module")
def pack(data):
    return data / "backbones" / "squeezenet_v1.1"


def load_by_name(model, file):
    weights = np.load(file, allow_pickle=False)
    used = set()
    for layer in model.layers:
        if layer.weights:
            keys = [f"{layer.name}/{v.name}" for v in layer.weights]
            layer.set_weights([weights[key].astype(np.float32) for key in keys])
            used.update(keys)
    assert used == set(weights.files)
    return model


def stored(pack):
    return np.load(pack / "reference_activations.npz", allow_pickle=False)


def as_it_is(spec):
    """Return a spec whose preprocessing neither resizes nor cuts a picture of the right size."""
    return dataclasses.replace(spec, crop=1.0)


def test_every_map_is_that_of_the_published_weights(pack):
    reference = stored(pack)
    spec = backbones.spec("squeezenet1.1")
    model = backbones.create(
        spec.name, features=[*MAPS, "logits", "probs"], input_shape=(227, 227, 3)
    )
    load_by_name(model, pack / "squeezenet_v1.1.npz")
    pictures = ("chelsea", "coffee", "astronaut")
    batch = np.stack(
        [backbones.preprocess(reference[f"{p}/input_rgb"], as_it_is(spec)) for p in pictures]
    )
    *maps, logits, probs = model.predict(batch, verbose=0)
    for i, picture in enumerate(pictures):
        for name, found in zip(MAPS, maps, strict=True):
            key = f"{picture}/{name}"
            assert found.shape[1:] == tuple(reference[f"{key}/shape"])
            mean = reference[f"{key}/mean_hw"]
            ours = found[i].mean((0, 1), dtype=np.float64)
            np.testing.assert_allclose(ours, mean, 0, 1e-5 * mean.max())
            if key in reference:
                largest = np.abs(reference[key]).max()
                np.testing.assert_allclose(found[i], reference[key], 0, 1e-5 * largest)
        np.testing.assert_allclose(logits[i], reference[f"{picture}/pool10"], 1e-4, 1e-4)
        np.testing.assert_allclose(probs[i], reference[f"{picture}/prob"], 0, 1e-4)


@pytest.fixture(scope="module")
def classify(pack):
    model = backbones.create("squeezenet1.1")
    load_by_name(model, pack / "squeezenet_v1.1.npz")
    return lambda batch: model.predict(batch, verbose=0)


def test_the_cat_is_an_egyptian_cat(classify):
    spec = backbones.spec("squeezenet1.1")
    for picture, label in (("chelsea.jpg", "Egyptian cat"), ("coffee.jpg", "espresso")):
        image = images.read(samples_dir() / picture)
        name, probability = backbones.decode(classify(backbones.preprocess(image, spec)[None])[0])[
            0
        ]
        assert name == label
        assert probability > 0.3


def test_red_for_blue_is_another_answer(classify, pack):
    reference = stored(pack)
    spec = as_it_is(backbones.spec("squeezenet1.1"))
    for picture in ("chelsea", "coffee"):
        swapped = reference[f"{picture}/input_rgb"][..., ::-1]
        probs = classify(backbones.preprocess(swapped, spec)[None])[0]
        assert np.abs(probs - reference[f"{picture}/prob"]).max() > 0.05


@pytest.mark.slow_on_jax
@pytest.mark.backends
@pytest.mark.parametrize(
    ("version", "kernel", "pools"), [("1.0", 7, (1, 4, 8)), ("1.1", 3, (1, 3, 5))]
)
def test_both_versions_are_those_of_torch_layers(version, kernel, pools, rng):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    nn = torch.nn.functional
    from keras import ops

    model = backbones.create(
        f"squeezenet{version}", classes=7, features=["conv10", "probs"], input_shape=(50, 50, 3)
    )
    batch = rng.normal(0, 60, (1, 50, 50, 3)).astype(np.float32)
    ours, probs = model.predict(batch, verbose=0)

    def conv(x, layer, stride=1):
        weight, bias = (
            torch.tensor(ops.convert_to_numpy(v)) for v in model.get_layer(layer).weights
        )
        padding = 1 if "expand3x3" in layer else 0
        return nn.relu(nn.conv2d(x, weight.permute(3, 2, 0, 1), bias, stride, padding))

    assert model.get_layer("conv1").kernel_size == (kernel, kernel)
    x = conv(torch.tensor(batch).permute(0, 3, 1, 2), "conv1", 2)
    for i in range(1, 10):
        if i > 1:
            x = conv(x, f"fire{i}_squeeze1x1")
            x = torch.cat([conv(x, f"fire{i}_expand1x1"), conv(x, f"fire{i}_expand3x3")], 1)
        if i in pools:
            x = nn.max_pool2d(x, 3, 2, ceil_mode=True)
    x = conv(x, "conv10")
    np.testing.assert_allclose(ours, x.permute(0, 2, 3, 1), 0, 2e-5 * float(x.max()))
    np.testing.assert_allclose(probs, torch.softmax(x.mean((2, 3)), 1), 0, 1e-5)

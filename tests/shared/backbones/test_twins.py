"""All networks with a twin in `keras.applications`, their weights brought in by our importer."""

import numpy as np
import pytest
from comparing import difference, pictures, randomise, run, twin
from torch_files import save_state_dict

from shared import backbones

NAMES = [name for name in backbones.list_networks() if backbones.spec(name).twin]
# The others are their larger relatives, or have a test below or a smaller twin in another file.
QUICK = ("vgg16", "inception_v3", "xception", "resnet50v2", "mobilenet_v1", "mobilenet_v2")
# Formats keep the order of layers in different ways, which counts where they have no name.
FORMATS = {"xception": (".h5", ".weights.h5", ".keras")}
SIDES = {"xception": 71, "inception_v3": 75, "inception_resnet_v2": 75}
# Where nothing is added to the map, ReLUs would halve what is left of the picture every time.
CHAINS = {"vgg16", "vgg19", "inception_v3", "mobilenet_v1"}


def trained(name, side, rng):
    """Return the twin of a network with random weights; the epsilon of its norms matters."""
    is_saturated = name == "mobilenet_v1"  # its ReLUs end at 6
    model = randomise(twin(name, side), rng, 1.0 if "vgg" in name or is_saturated else 0.04)
    if name in CHAINS:
        for weight in model.weights:
            if len(weight.shape) == 4:
                weight.assign(weight * 2**0.5)
    return model


@pytest.mark.timeout(900)  # a minute of CPU time at most, longer on a busy machine
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in NAMES],
)
def test_files_of_keras_give_the_outputs_of_keras(name, tmp_path, rng):
    side = SIDES.get(name, 32)
    theirs = trained(name, side, rng)
    batch = pictures(rng, side, 1)
    expected = run(theirs, batch)
    assert np.abs(expected).max() > 0.1
    for suffix in FORMATS.get(name, (".h5",)):
        file = tmp_path / f"twin{suffix}"
        (theirs.save_weights if suffix == ".weights.h5" else theirs.save)(file)
        shape = (side, side, 3)
        ours = backbones.create(name, 10, shape, features=["logits"], weights=file)
        assert difference(run(ours, batch), expected) < 1e-4
    assert difference(run(ours, batch[..., ::-1]), expected) > 1e-3
    norms = [layer for layer in ours.layers if hasattr(layer, "epsilon")]
    for layer in norms:
        layer.epsilon = 1e-5 if layer.epsilon == 1e-3 else 1e-3
    assert not norms or difference(run(ours, batch), expected) > 1e-3


def test_all_18_are_here():
    assert len(NAMES) == 18


# --- the same weights in a state dict with the names of torchvision -------------------------------

VGG16_FEATURES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
RESNET_PARTS = {"conv": ("conv", "downsample.0"), "bn": ("bn", "downsample.1")}
DENSENET_PARTS = {"0_bn": "norm1", "1_conv": "conv1", "1_bn": "norm2", "2_conv": "conv2"}


def name_of_vgg(layer):
    heads = {"fc1": "classifier.0", "fc2": "classifier.3", "predictions": "classifier.6"}
    block, _, number = layer.removeprefix("block").partition("_conv")
    before = sum((2, 2, 3, 3, 3)[: int(block) - 1]) if number else 0
    return heads.get(layer) or f"features.{VGG16_FEATURES[before + int(number) - 1]}"


def name_of_resnet(layer):
    if layer == "predictions":
        return "fc"
    stage, *place, kind = layer.replace("block", "").split("_")
    if not place:
        return f"{kind}1"
    block, number = map(int, place)
    plain, shortcut = RESNET_PARTS[kind]
    return f"layer{int(stage[-1]) - 1}.{block - 1}.{f'{plain}{number}' if number else shortcut}"


def name_of_densenet(layer):
    heads = {"conv1_conv": "conv0", "conv1_bn": "norm0", "bn": "norm5"}
    if layer == "predictions":
        return "classifier"
    if layer in heads:
        return f"features.{heads[layer]}"
    stage, _, part = layer.partition("_")
    number = int(stage[-1]) - 1
    if stage.startswith("pool"):
        return f"features.transition{number}.{part.replace('bn', 'norm')}"
    block, _, part = part.removeprefix("block").partition("_")
    return f"features.denseblock{number}.denselayer{block}.{DENSENET_PARTS[part]}"


def state_of(model, name_of):
    """Return a state dict; torch counts kernels and flattened maps otherwise than Keras."""
    values = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
    state = {}
    for layer, arrays in values.items():
        name, norm = name_of(layer), values.get(layer.replace("_conv", "_bn"), ())
        if len(arrays) == 4:
            gamma, beta, mean, variance = arrays
            # Convolutions of torchvision have no bias in front of a normalisation.
            _, *bias = values.get(layer.replace("_bn", "_conv"), [None])
            state[f"{name}.running_mean"] = mean - sum(bias) if len(bias) == 1 else mean
            state[f"{name}.running_var"] = variance
            state[f"{name}.num_batches_tracked"] = np.float32(7)
            arrays = [gamma, beta]
        elif layer == "fc1":
            maps = arrays[0].reshape(2, 2, 512, -1).transpose(3, 2, 0, 1)
            arrays = [maps.reshape(len(maps), -1), arrays[1]]
        else:
            axes = (3, 2, 0, 1) if arrays[0].ndim == 4 else (1, 0)
            arrays = [arrays[0].transpose(axes), *arrays[1:]]
            arrays = arrays[:1] if len(norm) == 4 else arrays
        state.update(zip((f"{name}.weight", f"{name}.bias"), arrays, strict=False))
    return state


@pytest.mark.parametrize(
    ("name", "ours", "variant", "side", "name_of", "count"),
    [
        ("vgg16", "vgg16_torch", {}, 64, name_of_vgg, 32),
        # The network of torchvision has its strides elsewhere; the weights are the same.
        ("resnet50_keras", "resnet50_v1.5", {"strided": "1x1"}, 32, name_of_resnet, 320),
        ("densenet121", "densenet121", {}, 32, name_of_densenet, 727),
    ],
)
def test_state_dicts_of_torchvision(name, ours, variant, side, name_of, count, tmp_path, rng):
    theirs = trained(name, side, rng)
    state = state_of(theirs, name_of)
    assert len(state) == count  # as torchvision has them
    save_state_dict(tmp_path / "a.pth", dict(sorted(state.items(), reverse=True)))
    options = {"input_shape": (side, side, 3), "features": ["logits"], **variant}
    model = backbones.create(ours, 10, weights=tmp_path / "a.pth", **options)
    batch = pictures(rng, side, 1)
    assert difference(run(model, batch), run(theirs, batch)) < 1e-4

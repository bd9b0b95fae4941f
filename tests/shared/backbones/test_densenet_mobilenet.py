"""DenseNet and MobileNet against keras.applications, published weights and NumPy."""

import keras
import numpy as np
import pytest
from comparing import copy_by_name, difference, logits, pictures, randomise, run, structure, twin
from keras import ops

from shared import backbones
from shared.backbones.macs import abstract, layer_table


@pytest.mark.parametrize(
    ("name", "side", "variant"),
    [
        pytest.param("densenet169", 32, {}, marks=pytest.mark.slow),  # 201 has all of it
        ("densenet201", 47, {}),
        ("mobilenet_v1", 45, {"alpha": 0.5}),
        ("mobilenet_v2", 45, {"alpha": 0.35}),
        ("mobilenet_v2", 32, {"alpha": 1.4}),
    ],
)
def test_layers_are_those_of_keras(name, side, variant):
    ours, theirs = abstract(logits, name, side, **variant), abstract(twin, name, side, **variant)
    assert structure(ours) == structure(theirs)


# Even sides stand in test_twins.py.
@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2"])
def test_outputs_are_those_of_keras_at_odd_sides(name, rng):
    theirs, ours = twin(name, 37), logits(name, 37)
    randomise(theirs, rng)
    copy_by_name(theirs, ours)
    x = pictures(rng, 37)
    assert difference(run(ours, x), run(theirs, x)) < 1e-4


def test_published_weights_give_their_published_activations(data):
    folder = data / "backbones" / "mobilenet_v1_1.0_to_pw12"
    weights = np.load(folder / f"{folder.name}.npz")
    stored = np.load(folder / "reference_activations.npz")
    whole = backbones.create("mobilenet_v1")
    model = keras.Model(whole.input, whole.get_layer("conv_pw_12_relu").output)
    for layer in model.layers:
        if layer.weights:
            layer.set_weights([weights[key(layer, weight)] for weight in layer.weights])
    names = sorted({name.split("/")[1] for name in stored if name.endswith("mean_hw")})
    assert len(names) == 6
    maps = keras.Model(model.input, [model.get_layer(name).output for name in names])
    for picture in ("chelsea", "coffee"):
        x = stored[f"{picture}/input_rgb"][None].astype("float32") / 127.5 - 1
        found = dict(zip(names, map(ops.convert_to_numpy, maps(x, training=False)), strict=True))
        for name, value in found.items():
            assert difference(value[0].mean((0, 1)), stored[f"{picture}/{name}/mean_hw"]) < 1e-4
        last = stored[f"{picture}/conv_pw_12_relu"]
        assert difference(found["conv_pw_12_relu"][0], last) < 1e-4
        assert difference(run(model, x[..., ::-1])[0], last) > 1e-2


def key(layer, weight):
    kind = "depthwise_kernel" if layer.name.startswith("conv_dw") else "kernel"
    return f"{layer.name}/{kind if weight.name == 'kernel' else weight.name}"


@pytest.mark.parametrize("name", backbones.list_networks("densenet*_k*"))
def test_statistics_follow_from_the_widths(name):
    spec = backbones.spec(name)
    count, growth = spec.variant["repeats"][0], spec.variant["growth"]
    compact = spec.variant["bottleneck"]
    width, features = 2 * growth if compact else 16, 0
    for _ in range(3):
        for _ in range(count):
            features += width + (4 * growth if compact else 0)
            width += growth
        features += width
        width = width if not compact else width // 2
    assert spec.statistics == 2 * features


def test_every_layer_of_a_dense_block_reads_all_maps_before_it():
    model = abstract(backbones.create, "densenet40_k12", repeats=(3, 1, 1))
    widths = [model.get_layer(f"conv2_block{i}_0_bn").input.shape[-1] for i in (1, 2, 3)]
    assert widths == [16, 28, 40]
    for i in (2, 3):
        before = model.get_layer(f"conv2_block{i - 1}_concat")
        assert model.get_layer(f"conv2_block{i}_0_bn").input is before.output
    rows = {row.name: row for row in layer_table(model)}
    assert rows["pool2_conv"].shape == (32, 32, 52)
    assert rows["pool2_pool"].shape == (16, 16, 52)

"""Weights of other programs in our networks: same output, or refused with both tables."""

import h5py
import keras
import numpy as np
import pytest
from caffe_files import caffe_layer
from command_lines import runner
from comparing import difference, pictures
from comparing import randomise as randomise_by
from comparing import run as run_once
from torch_files import save_state_dict

from shared import backbones, checkpoints
from shared import weights as store
from shared.backbones import load
from shared.backbones.classify import Classifier
from shared.backbones.cli import app
from shared.backbones.macs import abstract
from shared.errors import ConvsuiteError, WeightsError


def randomise(model):
    return randomise_by(model, np.random.default_rng(0))


def run(model, batch):
    return np.asarray(model.predict(batch, verbose=0)).reshape(len(batch), -1)


def values(model):
    return {
        f"{layer.name}/{variable.name}": keras.ops.convert_to_numpy(variable.value)
        for layer in model.layers
        for variable in layer.weights
    }


def same_weights(first, second):
    first, second = values(first), values(second)
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


@pytest.fixture
def batch(rng):
    return rng.uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)


def test_a_cut_network_takes_its_part_of_a_file(tmp_path):
    whole = randomise(backbones.create("mobilenet_v1", 7, (32, 32, 3), alpha=0.25))
    whole.save(tmp_path / "a.h5")
    # Whatever its number of classes.
    options = {"input_shape": (32, 32, 3), "top": False, "alpha": 0.25}
    cut = values(backbones.create("mobilenet_v1", weights=tmp_path / "a.h5", **options))
    whole = values(whole)
    assert 0 < len(cut) < len(whole)
    for key, value in cut.items():
        np.testing.assert_array_equal(value, whole[key])


@pytest.mark.parametrize("suffix", ["_notop.h5", ".weights.h5", "download"])
def test_layers_that_keras_numbers_in_a_cut_network(suffix, tmp_path, monkeypatch):
    """The classifier has a name, and is missing in the file, in the network, or in both."""
    options = {"weights": None, "input_shape": (71, 71, 3)}
    twin = randomise(keras.applications.Xception(include_top=suffix == ".weights.h5", **options))
    weights = tmp_path / f"twin{suffix}"
    if suffix == "download":
        weights = "imagenet"
        monkeypatch.setattr(keras.applications, "Xception", lambda **options: twin)
    else:
        (twin.save_weights if suffix == ".weights.h5" else twin.save)(weights)
    ours = backbones.trunk("xception", features=["stage2", "stage4"], weights=weights)
    theirs = keras.Model(twin.input, twin.get_layer("block14_sepconv2_act").output)
    batch = pictures(np.random.default_rng(0), 71, 1)
    expected = run_once(theirs, batch)
    assert np.abs(expected).max() > 0.1
    found = keras.ops.convert_to_numpy(ours(batch, training=False)[1])
    assert difference(found, expected) < 1e-4


def numbered_by_keras(model, path, swap=()):
    """Write a file of Keras 2 whose layers go by their class and a number."""
    layers = {layer.name: layer for layer in model.layers if layer.weights}
    if swap:
        first, second = swap
        layers[first], layers[second] = layers[second], layers[first]
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [f"conv2d_{i}" for i in range(1, len(layers) + 1)]
        for name, layer in zip(file.attrs["layer_names"], layers.values(), strict=True):
            group = file.create_group(name)
            group.attrs["weight_names"] = ["kernel:0", "bias:0"]
            for variable in layer.weights:
                group[f"{variable.name}:0"] = keras.ops.convert_to_numpy(variable.value)


def test_order_counts_where_names_tell_nothing_and_everything_fits(tmp_path):
    model = randomise(backbones.create("squeezenet1.1", classes=3))
    numbered_by_keras(model, tmp_path / "a.h5")
    same_weights(model, backbones.create("squeezenet1.1", 3, weights=tmp_path / "a.h5"))
    branches = ("fire2_expand1x1", "fire2_expand3x3")
    numbered_by_keras(model, tmp_path / "b.h5", branches)
    with pytest.raises(WeightsError, match=r"does not fit squeezenet1\.1: 2 of 52") as error:
        backbones.create("squeezenet1.1", 3, weights=tmp_path / "b.h5")
    assert all(name in str(error.value) for name in branches)


def test_order_counts_for_nothing_where_there_are_names_or_branches(tmp_path):
    model = backbones.create("squeezenet1.1", classes=3)
    layers = [layer for layer in model.layers if layer.weights]
    for name_of in (lambda i: f"towers.t{i}", str):
        arrays = {
            f"{name_of(i)}.{variable.name}": keras.ops.convert_to_numpy(variable.value)
            for i, layer in enumerate(layers)
            for variable in layer.weights
        }
        np.savez(tmp_path / "a.npz", **arrays)
        with pytest.raises(WeightsError, match=r"does not fit squeezenet1\.1: 104 of") as error:
            backbones.create("squeezenet1.1", 3, weights=tmp_path / "a.npz")
        assert "conv1/kernel" in str(error.value)
        assert f"{name_of(0)}/kernel" in str(error.value)


def test_weights_of_another_network_are_refused_with_both_tables(tmp_path):
    squeezenet = backbones.create("squeezenet1.1", classes=3)
    squeezenet.save_weights(tmp_path / "a.weights.h5")
    with pytest.raises(WeightsError) as error:
        backbones.create("squeezenet1.0", classes=3, weights=tmp_path / "a.weights.h5")
    lines = str(error.value).splitlines()
    assert "does not fit squeezenet1.0: 3 of 52 arrays differ" in lines[0]
    assert lines[1].split() == ["ours", "shape", "theirs", "shape"]
    assert "conv1/kernel" in lines[2]
    assert "7 x 7 x 3 x 96" in lines[2]
    assert "3 x 3 x 3 x 64" in lines[2]
    with pytest.raises(WeightsError, match=r"does not fit lenet5_modern(.|\n)*and \d+ more"):
        backbones.create("lenet5_modern", weights=tmp_path / "a.weights.h5")


def test_a_missing_array_a_strange_one_and_numbers_that_are_none(tmp_path):
    arrays = values(randomise(backbones.create("lenet5_modern")))
    name = list(arrays)[3]
    faults = {
        "no array for": {key: array for key, array in arrays.items() if key != name},
        "strange/kernel": {**arrays, "strange/kernel": arrays[name]},
        "not finite": {**arrays, name: np.full_like(arrays[name], np.nan)},
    }
    for message, changed in faults.items():
        np.savez(tmp_path / "a.npz", **changed)
        model = backbones.create("lenet5_modern")
        before = values(model)
        with pytest.raises(WeightsError, match=message):
            load.load_into(model, backbones.spec("lenet5_modern"), tmp_path / "a.npz")
        for key, value in values(model).items():  # nothing is assigned by halves
            np.testing.assert_array_equal(value, before[key])


def lenet_in_torch(torch):
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
        nn.Softmax(1),
    )  # fmt: skip


@pytest.mark.backends
def test_a_chain_of_torch_in_order_with_its_flattened_map(tmp_path, rng):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs = lenet_in_torch(torch)
    torch.save(theirs.state_dict(), tmp_path / "a.pth")
    ours = backbones.create("lenet5_modern", weights=tmp_path / "a.pth")
    batch = rng.uniform(-1, 1, (3, 32, 32, 1)).astype(np.float32) * 3
    with torch.no_grad():
        expected = theirs(torch.tensor(batch.transpose(0, 3, 1, 2).copy())).numpy()
    np.testing.assert_allclose(run(ours, batch), expected, atol=1e-5)
    # The flattened map in the wrong order of axes must show.
    dense = ours.get_layer("fc1")
    kernel = keras.ops.convert_to_numpy(dense.kernel.value).reshape(-1, 120)
    dense.kernel.assign(
        kernel.reshape(5, 5, 16, 120).transpose(2, 0, 1, 3).reshape(dense.kernel.shape)
    )
    assert np.abs(run(ours, batch) - expected).max() > 1e-3


def test_numbers_of_torch_in_a_chain_count_as_its_order(tmp_path):
    model = randomise(backbones.create("nin_cifar", classes=3))
    state = {}
    for number, layer in enumerate(layer for layer in model.layers if layer.weights):
        kernel, bias = layer.get_weights()
        state[f"{2 * number}.weight"] = kernel.transpose(3, 2, 0, 1)
        state[f"{2 * number}.bias"] = bias
    save_state_dict(tmp_path / "a.pth", state)
    same_weights(model, backbones.create("nin_cifar", 3, weights=tmp_path / "a.pth"))
    cut = backbones.create("nin_cifar", 3, features=["conv2_1"], weights=tmp_path / "a.pth")
    found = values(cut)
    assert len(found) == 8
    assert all((values(model)[name] == value).all() for name, value in found.items())


def basic_block(torch, width_in, width, stride):
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(width)
            if stride > 1:
                shortcut = nn.Conv2d(width_in, width, 1, stride, bias=False)
                self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(width))

        def forward(self, x):
            y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
            return (y + (self.downsample(x) if hasattr(self, "downsample") else x)).relu()

    return Block()


def resnet18_in_torch(torch):
    nn = torch.nn
    model = nn.Module()
    model.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
    model.bn1 = nn.BatchNorm2d(64)
    before = 64
    for stage, width in enumerate((64, 128, 256, 512), 1):
        blocks = [
            basic_block(torch, before, width, 2 if stage > 1 else 1),
            basic_block(torch, width, width, 1),
        ]
        setattr(model, f"layer{stage}", nn.Sequential(*blocks))
        before = width
    model.fc = nn.Linear(512, 10)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)

    def forward(x):
        x = model.bn1(model.conv1(x)).relu()
        x = nn.functional.max_pool2d(x, 3, 2, 1)
        for stage in range(1, 5):
            x = getattr(model, f"layer{stage}")(x)
        return model.fc(x.mean((2, 3)))

    return model.eval(), forward


@pytest.mark.slow_on_jax
@pytest.mark.backends
def test_a_residual_network_of_torchvision_by_name(tmp_path, batch):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model, forward = resnet18_in_torch(torch)
    state = {f"module.{key}": value for key, value in model.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "a.pth")
    options = {"classes": 10, "input_shape": (32, 32, 3)}
    ours = backbones.create("resnet18", weights=tmp_path / "a.pth", **options)
    with torch.no_grad():
        expected = forward(torch.tensor(batch.transpose(0, 3, 1, 2).copy())).softmax(1).numpy()
    np.testing.assert_allclose(run(ours, batch), expected, rtol=1e-4, atol=1e-6)


def mobilenet_v2_in_torch(torch):
    nn = torch.nn

    def unit(before, after, kernel, stride=1, groups=1, last=nn.ReLU6):
        conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(after), last())

    class Residual(nn.Module):
        def __init__(self, before, after, stride, expansion):
            super().__init__()
            wide = before * expansion
            expand = [unit(before, wide, 1)] if expansion > 1 else []
            project = unit(wide, after, 1, last=nn.Identity)
            self.conv = nn.Sequential(*expand, unit(wide, wide, 3, stride, wide), *project)
            self.adds = stride == 1 and before == after

        def forward(self, x):
            return x + self.conv(x) if self.adds else self.conv(x)

    layers, before = [unit(3, 32, 3, 2)], 32
    for expansion, after, repeats, stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):  # fmt: skip
        for i in range(repeats):
            layers.append(Residual(before, after, stride if i == 0 else 1, expansion))
            before = after
    model = nn.Module()
    model.features = nn.Sequential(*layers, unit(320, 1280, 1))
    model.classifier = nn.Sequential(nn.Dropout(), nn.Linear(1280, 10))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.2, 0.6)
    model.eval()
    return model, lambda x: model.classifier(model.features(x).mean((2, 3)))


@pytest.mark.slow_on_jax
@pytest.mark.backends
def test_mobilenet_v2_of_torchvision_has_a_network_of_its_own(tmp_path, batch):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model, forward = mobilenet_v2_in_torch(torch)
    torch.save(model.state_dict(), tmp_path / "a.pth")
    with torch.no_grad():
        expected = forward(torch.tensor(batch.transpose(0, 3, 1, 2).copy())).softmax(1).numpy()
    options = {"classes": 10, "input_shape": (32, 32, 3)}
    ours = backbones.create("mobilenet_v2_torch", weights=tmp_path / "a.pth", **options)
    np.testing.assert_allclose(run(ours, batch), expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(WeightsError, match="mobilenet_v2_torch"):
        backbones.create("mobilenet_v2", weights=tmp_path / "a.pth", **options)
    other = backbones.create("mobilenet_v2", **options)
    for layer in ours.layers:
        if layer.weights:
            other.get_layer(layer.name).set_weights(layer.get_weights())
    assert np.abs(run(other, batch) - expected).max() > 1e-3


def refusals(file, name):
    """Return what the four ways to a network say about a file."""
    ways = (
        lambda: backbones.create(name, weights=file),
        lambda: backbones.trunk(name, [backbones.spec(name).body], file),
        lambda: load.import_weights(file, name, out=file.with_name("none.keras")),
        lambda: Classifier(name, file),
    )
    for way in ways:
        with pytest.raises(WeightsError) as error:
            way()
        assert not file.with_name("none.keras").exists()
        yield str(error.value)


@pytest.mark.parametrize("suffix", [".pth", ".npz"])
@pytest.mark.parametrize(
    ("name", "key", "other"),
    [
        ("squeezenet1.1", "features.0.weight", "squeezenet1.1_torch"),
        ("vgg19", "features.0.weight", "vgg19_torch"),
        ("resnet50", "layer1.0.conv1.weight", "resnet50_v1.5"),
        ("inception_v3", "Mixed_5b.branch1x1.conv.weight", "inception_v3_torch"),
        ("inception_resnet_v2", "conv2d_1a.conv.weight", "inception_resnet_v2_torch"),
    ],
)
def test_files_that_fit_but_mean_something_else_are_refused(name, key, other, suffix, tmp_path):
    file = tmp_path / f"a{suffix}"
    save = save_state_dict if suffix == ".pth" else lambda path, arrays: np.savez(path, **arrays)
    save(file, {key: np.ones((64, 3, 3, 3), np.float32)})
    ways = refusals(file, name) if name == "squeezenet1.1" else [refused(file, name)]
    for message in ways:
        assert message.endswith(f"load it into {other}.")
        assert "\n" not in message
    assert backbones.spec(other).name == other


def refused(file, name):
    with pytest.raises(WeightsError) as error:
        backbones.create(name, features=[backbones.spec(name).taps[2].name], weights=file)
    return str(error.value)


def test_files_of_caffe_go_to_the_constants_they_were_trained_with(tmp_path):
    content = caffe_layer("conv1", "Convolution", np.ones((96, 3, 11, 11)), np.zeros(96))
    alexnet, caffenet = tmp_path / "a.caffemodel", tmp_path / "c.caffemodel"
    norm, pool = caffe_layer("norm1", "LRN"), caffe_layer("pool1", "Pooling")
    alexnet.write_bytes(content + norm + pool)
    caffenet.write_bytes(content + pool + norm)
    for file, name in ((alexnet, "alexnet_caffe"), (caffenet, "caffenet")):
        model = backbones.create(name, features=["conv1"], weights=file)
        np.testing.assert_array_equal(values(model)["conv1/kernel"], 1)
        assert "alexnet_caffe or caffenet" in refused(file, "alexnet")
    for file, name in ((caffenet, "alexnet_caffe"), (alexnet, "caffenet")):
        assert "another order" in refused(file, name)
    assert "no network for this file" in refused(alexnet, "zfnet")
    assert "resnet50." in refused(alexnet, "resnet50_v1.5")
    norm = abstract(backbones.create, "caffenet").get_layer("norm1")
    assert (norm.k, norm.normalize_by_n) == (1, True)


def test_a_card_of_another_network_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "user_dir", lambda: tmp_path / "user")
    model = randomise(backbones.create("squeezenet1.1_torch", classes=3))
    np.savez(tmp_path / "a.npz", **values(model))
    file = load.import_weights(tmp_path / "a.npz", "squeezenet1.1_torch", classes=3)
    same_weights(model, backbones.create("squeezenet1.1_torch", 3, weights=file))
    with pytest.raises(WeightsError, match=r"weights of squeezenet1.1_torch, not of squeezenet1.1"):
        backbones.create("squeezenet1.1", 3, weights=file)


def test_a_missing_key_of_a_state_dict_is_named_in_one_line(tmp_path):
    model = randomise(backbones.create("squeezenet1.1_torch", classes=3))
    state = {}
    for name, (kernel, bias) in ((la.name, la.get_weights()) for la in model.layers if la.weights):
        state[f"{name}.weight"] = kernel.transpose(3, 2, 0, 1)
        state[f"{name}.bias"] = bias
    for role, ours in (("weight", r"kernel \(3 x 3 x 32 x 128\)"), ("bias", r"bias \(128\)")):
        rest = {key: array for key, array in state.items() if key != f"fire5_expand3x3.{role}"}
        save_state_dict(tmp_path / "a.pth", rest)
        message = rf"1\.1_torch: it has no array for fire5_expand3x3/{ours}\.$"
        with pytest.raises(WeightsError, match=message) as error:
            backbones.create("squeezenet1.1_torch", classes=3, weights=tmp_path / "a.pth")
        assert "\n" not in str(error.value)


def in_torch_layout(value):
    return value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T


def name_in_caffe(layer):
    """Return what He's Caffe networks call a layer."""
    if layer in ("conv1_conv", "conv1_bn"):
        return {"conv1_conv": "conv1", "conv1_bn": "bn_conv1"}[layer]
    if layer == "predictions":
        return "fc1000"
    stage, block, number, kind = layer.split("_")
    place = f"{stage[-1]}{'abc'[int(block[-1]) - 1]}_branch2{'ab'[int(number) - 1]}"
    return f"{'res' if kind == 'conv' else 'bn'}{place}"


def test_a_network_of_caffe_with_sums_and_scale_layers(tmp_path):
    model = randomise(backbones.create("resnet20", classes=3))
    content = b""
    for layer in model.layers:
        arrays = [keras.ops.convert_to_numpy(v.value) for v in layer.weights]
        name = name_in_caffe(layer.name) if arrays else ""
        if len(arrays) == 4:
            gamma, beta, mean, variance = arrays
            factor = np.float32([64])
            content += caffe_layer(name, "BatchNorm", mean * 64, variance * 64, factor)
            content += caffe_layer(name.replace("bn", "scale"), "Scale", gamma, beta)
        elif arrays:
            kind = "InnerProduct" if arrays[0].ndim == 2 else "Convolution"
            content += caffe_layer(name, kind, in_torch_layout(arrays[0]), *arrays[1:])
    (tmp_path / "a.caffemodel").write_bytes(content)
    assert checkpoints.detect(tmp_path / "a.caffemodel") == "caffe"
    loaded = backbones.create("resnet20", classes=3, weights=tmp_path / "a.caffemodel")
    same_weights(model, loaded)
    (tmp_path / "a.caffemodel").write_bytes(content[:-100])
    with pytest.raises(WeightsError, match=r"^.*a\.caffemodel: .*cut off.*$") as error:
        backbones.create("resnet20", classes=3, weights=tmp_path / "a.caffemodel")
    assert "\n" not in str(error.value)


def test_depthwise_kernels_of_torch(tmp_path):
    model = randomise(backbones.create("mobilenet_v1", classes=3, input_shape=(32, 32, 3)))
    arrays = {}
    for layer in model.layers:
        for variable in layer.weights:
            value = keras.ops.convert_to_numpy(variable.value)
            if type(layer).__name__ == "DepthwiseConv2D":
                value = value.transpose(2, 3, 0, 1)
            elif value.ndim > 1:
                value = in_torch_layout(value)
            names = {"kernel": "weight", "gamma": "weight", "beta": "bias", "bias": "bias",
                     "moving_mean": "running_mean", "moving_variance": "running_var"}  # fmt: skip
            arrays[f"{layer.name}.{names[variable.name]}"] = np.ascontiguousarray(value)
    pytest.importorskip("safetensors.numpy").save_file(arrays, tmp_path / "a")
    # safetensors sorts names, so this one only works by name.
    options = {"classes": 3, "input_shape": (32, 32, 3)}
    same_weights(model, backbones.create("mobilenet_v1", weights=tmp_path / "a", **options))


def test_import_writes_a_network_with_a_card(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "user_dir", lambda: tmp_path / "user")
    monkeypatch.setattr(store.assets, "weights_dir", lambda: tmp_path / "none shipped")
    model = randomise(backbones.create("lenet5_modern", classes=4))
    np.savez(tmp_path / "foreign.npz", **values(model))
    path = load.import_weights(tmp_path / "foreign.npz", "lenet5_modern", classes=4)
    assert path == tmp_path / "user" / "backbones" / "lenet5_modern.keras"
    assert store.verify(path) == []
    card = store.read_card(path)
    assert card.settings["classes"] == 4
    assert card.settings["imported"] == load.fingerprint(model)
    assert "foreign.npz" in card.summary
    for weights in (path, "lenet5_modern"):
        same_weights(model, backbones.create("lenet5_modern", classes=4, weights=weights))
    with pytest.raises(WeightsError, match="exists already"):
        load.import_weights(tmp_path / "foreign.npz", "lenet5_modern", classes=4)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="checksum"):
        backbones.create("lenet5_modern", classes=4, weights=path)


def test_mean_and_deviation_come_with_the_import(tmp_path, rng, capsys):
    command_line = runner(app, "backbones", capsys)
    model = randomise(backbones.create("nin_cifar"))
    np.savez(tmp_path / "a.npz", **values(model))
    words = ("import-weights", tmp_path / "a.npz", "-n", "nin_cifar")
    file = tmp_path / "a.keras"
    moments = ("--mean", ".49,.48,.45", "--std", ".25,.24,.26")
    command_line(*words, "-o", file, *moments)
    classify = Classifier("nin_cifar", file)
    picture = rng.uniform(0, 1, (40, 32, 3)).astype(np.float32)
    batch = backbones.preprocess(
        picture, classify.spec, mean=[0.49, 0.48, 0.45], std=[0.25, 0.24, 0.26]
    )
    expected = run(model, batch[None])[0]
    np.testing.assert_allclose(classify.probabilities(picture), expected, atol=1e-5)
    for more, message in (
        (("--mean", ".5,.5,.5"), "a mean and a deviation"),
        (("--mean", ".5,.5", "--std", ".2"), "of one number or 3"),
        (("--mean", ".5", "--std", "0"), "above 0"),
        (("--mean", "half", "--std", ".2"), "--mean takes numbers"),
        (("--variant", "epsilon"), "NAME=VALUE"),
    ):
        assert message in command_line(*words, "-o", tmp_path / "b.keras", *more, check=1).err
    with pytest.raises(ConvsuiteError, match="fixed preprocessing `caffe`"):
        load.import_weights(tmp_path / "a.npz", "vgg16", mean=[0.5], std=[0.2])
    with pytest.raises(WeightsError, match="--mean and --std"):
        Classifier("nin_cifar", tmp_path / "a.npz")


def test_a_variant_comes_back_with_its_weights(tmp_path):
    model = randomise(backbones.create("mobilenet_v1", 3, alpha=0.25))
    model.save(tmp_path / "a.h5")
    options = {"classes": 3, "out": tmp_path / "b.keras"}
    file = load.import_weights(
        tmp_path / "a.h5", "mobilenet_v1", variant={"alpha": 0.25}, **options
    )
    same_weights(model, backbones.trunk("mobilenet_v1", features=["probs"], weights=file))


def test_a_shipped_name_is_not_imported_over(tmp_path):
    np.savez(tmp_path / "foreign.npz", **values(backbones.create("lenet5_modern")))
    with pytest.raises(WeightsError, match="ships weights of this name"):
        load.import_weights(tmp_path / "foreign.npz", "lenet5_modern")


def test_the_fingerprint_tells_networks_apart():
    model = randomise(backbones.create("lenet5_modern"))
    before = load.fingerprint(model)
    assert load.fingerprint(model) == before
    kernel = next(v for v in model.weights if len(v.shape) == 4)
    kernel.assign(kernel.value + 0.01)
    assert load.fingerprint(model)["sha256"] != before["sha256"]


def test_the_first_convolution_can_be_turned_from_bgr_to_rgb(tmp_path, batch):
    options = {"features": ["stem"], "input_shape": (32, 32, 3)}
    model = randomise(backbones.create("resnet20", **options))
    model.save_weights(tmp_path / "a.weights.h5")
    turned = backbones.create("resnet20", **options)
    spec = backbones.spec("resnet20")
    load.load_file(turned, spec, tmp_path / "a.weights.h5", bgr=True)
    swapped = np.ascontiguousarray(batch[..., ::-1])
    expected = run(model, batch)
    np.testing.assert_allclose(run(turned, swapped), expected, atol=1e-5)
    assert np.abs(run(turned, batch) - expected).max() > 0.1


def test_the_download_of_keras(monkeypatch):
    options = {"classes": 1000, "input_shape": (32, 32, 3)}
    twin = randomise(keras.applications.MobileNet(weights=None, **options))
    asked = {}

    def offline(weights, include_top):
        raise Exception("URL fetch failure on https://…: None -- [Errno -3]")  # as Keras raises it

    def online(weights, include_top):
        asked.update(weights=weights, include_top=include_top)
        return twin

    monkeypatch.setattr(keras.applications, "MobileNet", offline)
    with pytest.raises(WeightsError, match=r"cannot be downloaded .*connect once") as error:
        backbones.create("mobilenet_v1", weights="imagenet", features=["stage1"])
    assert "\n" not in str(error.value)
    monkeypatch.setattr(keras.applications, "MobileNet", online)
    ours = backbones.create("mobilenet_v1", weights="imagenet", **options)
    assert asked == {"weights": "imagenet", "include_top": True}
    same_weights(ours, twin)
    backbones.create("mobilenet_v1", weights="imagenet", top=False)
    assert asked["include_top"] is False
    with pytest.raises(WeightsError, match=r"keras\.applications offers no weights"):
        backbones.create("alexnet", weights="imagenet", top=False)


def test_weights_that_are_not_there():
    with pytest.raises(WeightsError, match="ships no weights"):
        backbones.create("vgg16", weights="shipped", features=["conv1_1"])
    with pytest.raises(WeightsError, match=r"no such weight file|No weights of backbones"):
        backbones.create("vgg16", weights="nowhere.h5", features=["conv1_1"])
    with pytest.raises(ConvsuiteError, match="No network"):
        load.import_weights("a.h5", "vgg99")


def test_packs_of_real_weights_load_into_cut_networks(data):
    vgg = data / "backbones" / "vgg19_conv1-3" / "vgg19_block1-3.npz"
    model = backbones.create("vgg19", features=["conv3_4"], weights=vgg)
    bias = keras.ops.convert_to_numpy(model.get_layer("block1_conv1").bias.value)
    np.testing.assert_allclose(bias[:4], [0.7302, 0.0649, 0.0343, 0.8260], atol=1e-4)
    with pytest.raises(WeightsError, match=r"block4_conv1/kernel .* missing"):
        backbones.create("vgg19", features=["conv4_1"], weights=vgg)
    squeezenet = data / "backbones" / "squeezenet_v1.1" / "squeezenet_v1.1.npz"
    backbones.create("squeezenet1.1", weights=squeezenet)

"""The ImageNet networks of 2012 to 2014: sizes of their papers, values of torch."""

import dataclasses
import math

import numpy as np
import pytest

from shared import backbones
from shared.backbones.macs import abstract, layer_table
from shared.errors import ConvsuiteError

NAMES = (
    "alexnet",
    "alexnet_single",
    "alexnet_owt",
    "zfnet",
    "spp_zf5",
    "nin",
    "nin_cifar",
    "googlenet",
    "squeezenet1.0",
    "squeezenet1.1",
)


def shapes(name):
    """Return the shape of every tap at the size of the paper."""
    spec = backbones.spec(name)
    taps = [tap.name for tap in spec.taps]
    shape = (spec.size, spec.size, spec.channels)
    model = abstract(backbones.create, name, features=taps, input_shape=shape)
    return {
        tap: tensor.shape[1] if len(tensor.shape) == 2 else (tensor.shape[1], tensor.shape[3])
        for tap, tensor in zip(taps, model.outputs, strict=True)
    }


def parameters(model):
    return sum(math.prod(v.shape) for v in model.trainable_weights)


def test_alexnet_has_the_maps_of_its_paper():
    assert shapes("alexnet") == {
        "conv1": (55, 96),
        "norm1": (55, 96),
        "pool1": (27, 96),
        "conv2": (27, 256),
        "norm2": (27, 256),
        "pool2": (13, 256),
        "conv3": (13, 384),
        "conv4": (13, 384),
        "conv5": (13, 256),
        "pool5": (6, 256),
        "penultimate": 4096,
        "logits": 1000,
        "probs": 1000,
    }


def test_zfnet_has_the_maps_of_its_figure_3():
    found = shapes("zfnet")
    sides = {tap: found[tap][0] for tap in ("conv1", "pool1", "conv2", "pool2", "conv5", "pool5")}
    assert sides == {"conv1": 110, "pool1": 55, "conv2": 26, "pool2": 13, "conv5": 13, "pool5": 6}


def test_googlenet_has_the_maps_of_its_table_1():
    assert shapes("googlenet") == {
        "conv1": (112, 64),
        "pool1": (56, 64),
        "norm1": (56, 64),
        "conv2_1": (56, 64),
        "conv2_2": (56, 192),
        "norm2": (56, 192),
        "pool2": (28, 192),
        "inception_3a": (28, 256),
        "inception_3b": (28, 480),
        "pool3": (14, 480),
        "inception_4a": (14, 512),
        "inception_4b": (14, 512),
        "inception_4c": (14, 512),
        "inception_4d": (14, 528),
        "inception_4e": (14, 832),
        "pool4": (7, 832),
        "inception_5a": (7, 832),
        "inception_5b": (7, 1024),
        "penultimate": 1024,
        "logits": 1000,
        "probs": 1000,
    }


def test_nin_has_the_maps_of_its_caffe_models():
    assert [shapes("nin")[f"pool{i}"] for i in (1, 2, 3)] == [(27, 96), (13, 256), (6, 384)]
    assert [shapes("nin_cifar")[f"pool{i}"] for i in (1, 2)] == [(16, 96), (8, 192)]


def test_columns_halve_the_kernels_of_three_convolutions():
    double, single = (
        {row.name: row.parameters for row in layer_table(abstract(backbones.create, name))}
        for name in ("alexnet", "alexnet_single")
    )
    assert {name for name in double if double[name] != single[name]} == {"conv2", "conv4", "conv5"}
    # Counts of the published Caffe model.
    assert double["conv2"] == 256 * (5 * 5 * 48 + 1)
    assert double["conv4"] == 384 * (3 * 3 * 192 + 1)


def test_auxiliary_classifiers_of_googlenet():
    model = abstract(backbones.create, "googlenet", aux=True)
    assert parameters(model) == 13_378_280
    ends = [tensor._keras_history.operation.name for tensor in model.outputs]
    assert ends == ["probs", "loss1_probs", "loss2_probs"]
    for name, place in (("loss1", "4a"), ("loss2", "4d")):
        pool = model.get_layer(f"{name}_ave_pool")
        assert pool.input is model.get_layer(f"inception_{place}_output").output
        assert pool.output.shape[1:3] == (4, 4)
    narrow = abstract(backbones.create, "googlenet", aux=True, features=["inception_5b"])
    assert not [layer.name for layer in narrow.layers if layer.name.startswith("loss")]


def test_3x3_for_5x5_is_the_count_of_the_ports():
    model = abstract(backbones.create, "googlenet", third_kernel=3)
    assert parameters(model) == 6_617_624
    # torchvision has 6,624,904: gamma and beta where this has a bias.
    convolutions = [layer for layer in model.layers if type(layer).__name__ == "Conv2D"]
    assert parameters(model) + sum(layer.filters for layer in convolutions) == 6_624_904


@pytest.mark.parametrize("name", NAMES)
def test_one_pixel_less_than_the_minimum_does_not_work(name):
    import keras

    def works(side):
        spec = backbones.spec(name)
        taps = spec.build(keras.Input((side, side, 3)), spec.classes, **spec.variant)
        try:
            body = next(tensor for tap, tensor in taps if tap == spec.body)
        except (ValueError, ConvsuiteError):
            return False
        return min(body.shape[1:3]) >= 1

    minimum = backbones.spec(name).minimum
    assert abstract(works, minimum)
    assert not abstract(works, minimum - 1)


@pytest.mark.backends
def test_the_pyramid_makes_vectors_of_one_length(rng):
    model = backbones.create("spp_zf5", features=["spp", "conv5"], input_shape=(None, None, 3))
    for height, width in ((67, 91), (120, 64)):
        batch = rng.normal(0, 60, (1, height, width, 3)).astype(np.float32)
        spp, conv5 = outputs(model, batch)
        assert spp.shape == (1, 50 * 256)
        # The last bin of the pyramid covers the whole map.
        np.testing.assert_allclose(spp[0, -256:], conv5[0].max(axis=(0, 1)), rtol=1e-6)


def numpy(tensor):
    from keras import ops

    return ops.convert_to_numpy(tensor)


def outputs(model, batch):
    """Return the outputs as a list; Keras gives a single one without."""
    found = model.predict(batch, verbose=0)
    return found if isinstance(found, list) else [found]


class Peer:
    """The steps of a network in torch, with the weights of a model of ours."""

    def __init__(self, torch, model):
        self.torch = torch
        self.nn = torch.nn.functional
        self.weights = {
            layer.name: [self.torch.tensor(numpy(v)) for v in layer.weights]
            for layer in model.layers
        }

    def input(self, batch):
        return self.torch.tensor(batch).permute(0, 3, 1, 2)

    def output(self, x):
        return x.permute(0, 2, 3, 1).numpy()

    def conv(self, x, name, stride=1, padding=0, groups=1):
        kernel, bias = self.weights[name]
        kernel = kernel.permute(3, 2, 0, 1)
        return self.nn.relu(self.nn.conv2d(x, kernel, bias, stride, padding, 1, groups))

    def pool(self, x, ceil=True):
        return self.nn.max_pool2d(x, 3, 2, ceil_mode=ceil)

    def norm(self, x, alpha=1e-4, k=1.0):
        return self.nn.local_response_norm(x, 5, alpha, 0.75, k)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="torch is not installed")


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5 * np.abs(theirs).max())


def built(name, taps, side, rng, **variant):
    model = backbones.create(name, features=taps, input_shape=(side, side, 3), **variant)
    batch = rng.normal(0, 60, (1, side, side, 3)).astype(np.float32)
    return model, batch, outputs(model, batch)


@pytest.mark.backends
@pytest.mark.parametrize(("norm", "alpha", "k"), [("paper", 5e-4, 2.0), ("caffe", 1e-4, 1.0)])
def test_alexnet_is_that_of_torch_layers(norm, alpha, k, torch, rng):
    # 71 pixels leave a column over in each pool; torch divides alpha by the five channels.
    model, batch, ours = built("alexnet", ["norm1", "pool5"], 71, rng, norm=norm)
    peer = Peer(torch, model)
    first = peer.norm(peer.conv(peer.input(batch), "conv1", 4), alpha, k)
    x = peer.norm(peer.conv(peer.pool(first), "conv2", padding=2, groups=2), alpha, k)
    x = peer.conv(peer.pool(x), "conv3", padding=1)
    x = peer.conv(peer.conv(x, "conv4", padding=1, groups=2), "conv5", padding=1, groups=2)
    close(ours[0], peer.output(first))
    close(ours[1], peer.output(peer.pool(x)))


def test_dividing_alpha_by_the_channels_changes_the_maps(rng):
    model, batch, (paper, pool5) = built("alexnet", ["norm1", "pool5"], 71, rng)
    twin = backbones.create(
        "alexnet", features=["norm1", "pool5"], input_shape=(71, 71, 3), norm="caffe"
    )
    twin.set_weights(model.get_weights())
    caffe = outputs(twin, batch)
    assert np.abs(paper - caffe[0]).max() > 0.05 * np.abs(paper).max()
    assert np.abs(pool5 - caffe[1]).max() > 0.05 * np.abs(pool5).max()


@pytest.mark.backends
def test_alexnet_owt_is_that_of_torch_layers(torch, rng):
    # At 79 pixels, floor and ceil differ in the first pool.
    model, batch, (ours,) = built("alexnet_owt", ["pool5"], 79, rng)
    peer = Peer(torch, model)
    x = peer.pool(peer.conv(peer.input(batch), "conv1", 4, 2), ceil=False)
    x = peer.pool(peer.conv(x, "conv2", padding=2), ceil=False)
    for name in ("conv3", "conv4", "conv5"):
        x = peer.conv(x, name, padding=1)
    close(ours, peer.output(peer.pool(x, ceil=False)))


@pytest.mark.backends
def test_zfnet_is_that_of_torch_layers(torch, rng):
    model, batch, (ours,) = built("zfnet", ["pool5"], 64, rng)
    peer = Peer(torch, model)
    x = peer.norm(peer.pool(peer.conv(peer.input(batch), "conv1", 2, 1)), 5e-4, 2.0)
    x = peer.norm(peer.pool(peer.conv(x, "conv2", 2)), 5e-4, 2.0)
    for name in ("conv3", "conv4", "conv5"):
        x = peer.conv(x, name, padding=1)
    close(ours, peer.output(peer.pool(x)))


@pytest.mark.backends
def test_nin_cifar_is_that_of_torch_layers(torch, rng):
    model, batch, (ours, logits) = built("nin_cifar", ["conv3_3", "logits"], 32, rng)
    peer = Peer(torch, model)
    x = peer.input(batch)
    for i, kernel in ((1, 5), (2, 5), (3, 3)):
        x = peer.conv(x, f"conv{i}", padding=kernel // 2)
        x = peer.conv(peer.conv(x, f"cccp{2 * i - 1}"), f"cccp{2 * i}")
        if i == 1:
            x = peer.pool(x)
        elif i == 2:
            x = peer.nn.avg_pool2d(x, 3, 2, ceil_mode=True)
    close(ours, peer.output(x))
    close(logits, x.mean((2, 3)).numpy())


@pytest.mark.slow_on_jax
@pytest.mark.backends
def test_googlenet_is_that_of_torch_layers(torch, rng):
    model, batch, (ours,) = built("googlenet", ["pool3"], 50, rng)
    peer = Peer(torch, model)

    def inception(x, name):
        name = f"inception_{name}"
        third = peer.conv(peer.conv(x, f"{name}_3x3_reduce"), f"{name}_3x3", padding=1)
        fifth = peer.conv(peer.conv(x, f"{name}_5x5_reduce"), f"{name}_5x5", padding=2)
        pooled = peer.conv(peer.nn.max_pool2d(x, 3, 1, 1), f"{name}_pool_proj")
        return peer.torch.cat([peer.conv(x, f"{name}_1x1"), third, fifth, pooled], 1)

    x = peer.norm(peer.pool(peer.conv(peer.input(batch), "conv1_7x7_s2", 2, 3)))
    x = peer.conv(peer.conv(x, "conv2_3x3_reduce"), "conv2_3x3", padding=1)
    x = inception(inception(peer.pool(peer.norm(x)), "3a"), "3b")
    close(ours, peer.output(peer.pool(x)))


def test_vgg19_reproduces_the_maps_of_the_published_weights(data):
    folder = data / "backbones" / "vgg19_conv1-3"
    weights = np.load(folder / "vgg19_block1-3.npz", allow_pickle=False)
    stored = np.load(folder / "reference_activations.npz", allow_pickle=False)
    names = [key.split("/")[1] for key in stored if key.endswith("mean_hw") and "chelsea" in key]
    assert len(names) == 11
    model = backbones.create("vgg19", features=names, input_shape=(227, 227, 3))
    for layer in model.layers:
        if layer.weights:
            layer.set_weights([weights[f"{layer.name}/{v.name}"] for v in layer.weights])
    spec = dataclasses.replace(backbones.spec("vgg19"), size=227, crop=1.0)
    for picture in ("chelsea", "coffee", "astronaut"):
        rgb = stored[f"{picture}/input_rgb"]
        maps = model.predict(backbones.preprocess(rgb, spec)[None], verbose=0)
        for name, found in zip(names, maps, strict=True):
            key = f"{picture}/{name}"
            assert found.shape[1:] == tuple(stored[f"{key}/shape"])
            flat = found.reshape(-1, found.shape[-1]).astype(np.float64)
            close(flat.mean(0), stored[f"{key}/mean_hw"])
            if f"{key}/gram_over_hw" in stored:
                close(flat.T @ flat / len(flat), stored[f"{key}/gram_over_hw"])
            if key in stored:
                close(found[0], stored[key])
    swapped = model.predict(
        backbones.preprocess(stored["chelsea/input_rgb"][..., ::-1], spec)[None], verbose=0
    )
    assert np.abs(swapped[-1][0] - stored["chelsea/block3_pool"]).max() > 10

"""ResNet, ResNeXt and wide networks against keras.applications, torch.nn and hand-made weights."""

import keras
import numpy as np
import pytest
from comparing import copy_by_name, difference, logits, pictures, randomise, run, structure, twin
from keras import ops

from shared import backbones
from shared.backbones.macs import abstract, layer_table
from shared.backbones.resnet import gated
from shared.errors import ConvsuiteError

TWINS = [f"resnet{depth}{flavour}" for flavour in ("_keras", "v2") for depth in (50, 101, 152)]


@pytest.mark.parametrize("name", TWINS)
def test_layers_are_those_of_keras(name):
    assert structure(abstract(logits, name, 64)) == structure(abstract(twin, name, 64))


@pytest.mark.parametrize(
    "wrong", [{"epsilon": 1e-3}, {"padding": "same"}, {"padding": "caffe"}, {"strided": "3x3"}]
)
def test_flavours_share_weights_and_differ_in_outputs(wrong, rng):
    sizes = {"repeats": (2, 2), "channels": (32, 64), "inner": (8, 16)}
    right = logits("resnet50_keras", 32, **sizes)
    other = logits("resnet50_keras", 32, **sizes, **wrong)
    randomise(right, rng)
    copy_by_name(right, other)
    x = pictures(rng, 32)
    assert difference(run(other, x), run(right, x)) > 2e-4


def test_shortcuts_change_parameters_and_strides_change_multiply_adds():
    def totals(name, **variant):
        rows = layer_table(abstract(backbones.create, name, **variant))
        return sum(row.parameters for row in rows), sum(row.macs for row in rows)

    assert totals("resnet34", shortcut="A")[0] == 21_623_848 == totals("plain34")[0]
    assert totals("resnet34")[0] == 21_797_672
    caffe, torch = totals("resnet50"), totals("resnet50", strided="3x3")
    assert caffe[0] == torch[0]
    assert torch[1] / caffe[1] == pytest.approx(4.089 / 3.858, rel=1e-3)


def test_caffe_pools_without_a_border_but_in_ceil_mode(rng):
    sizes = {"repeats": (1,), "channels": (32,), "inner": (8,)}
    model = backbones.create("resnet50", 10, (63, 63, 3), **sizes)
    layers = [model.get_layer(name).output for name in ("conv1_relu", "pool1_pool")]
    stem, pooled = keras.Model(model.input, layers)(pictures(rng, 63), training=False)
    stem = ops.convert_to_numpy(stem)
    assert stem.shape[1:3] == (32, 32)
    rows = np.stack([stem[:, i : i + 3].max(axis=1) for i in range(0, 31, 2)], axis=1)
    maxima = np.stack([rows[:, :, i : i + 3].max(axis=2) for i in range(0, 31, 2)], axis=2)
    np.testing.assert_array_equal(ops.convert_to_numpy(pooled), maxima)


def test_padding_must_be_known():
    with pytest.raises(ConvsuiteError, match="caffe, torch or same"):
        backbones.create("resnet18", padding="keras")


@pytest.mark.backends
@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("groups", [1, 4])
def test_blocks_are_those_of_torch(bottleneck, groups, rng):
    torch = pytest.importorskip("torch", reason="torch is not installed here")
    if groups > 1 and not bottleneck:
        pytest.skip("basic blocks have no groups")
    variant = {"repeats": (2, 1), "channels": (16, 24), "groups": groups, "strided": "3x3"}
    ours = logits("resnet18", 37, inner=(8, 16) if bottleneck else None, stem=(7, 16), **variant)
    randomise(ours, rng)
    theirs = TorchNet(torch, ours)
    x = pictures(rng, 37)
    assert difference(run(ours, x), theirs(x)) < 1e-4
    theirs.epsilon = 1e-3
    assert difference(run(ours, x), theirs(x)) > 1e-4


class TorchNet:
    """The same network in torch.nn, one module at a time, with the weights of ours."""

    def __init__(self, torch, source):
        self.torch, self.source, self.epsilon = torch, source, 1e-5
        self.names = {layer.name for layer in source.layers}

    def __call__(self, x):
        relu = self.torch.nn.functional.relu
        with self.torch.no_grad():
            x = relu(self.conv_bn(self.torch.tensor(x.transpose(0, 3, 1, 2)), "conv1", 2))
            x = self.torch.nn.MaxPool2d(3, 2, padding=1)(x)
            for block, stride in (("conv2_block1", 1), ("conv2_block2", 1), ("conv3_block1", 2)):
                x = relu(self.block(x, block, stride))
            kernel, bias = self.source.get_layer("predictions").get_weights()
            return (x.mean((2, 3)) @ self.torch.tensor(kernel)).numpy() + bias

    def block(self, x, name, stride):
        relu, deep = self.torch.nn.functional.relu, f"{name}_3_conv" in self.names
        y = relu(self.conv_bn(x, f"{name}_1", 1 if deep else stride))
        y = self.conv_bn(y, f"{name}_2", stride if deep else 1)
        y = self.conv_bn(relu(y), f"{name}_3", 1) if deep else y
        return y + (self.conv_bn(x, f"{name}_0", stride) if f"{name}_0_conv" in self.names else x)

    def conv_bn(self, x, name, stride):
        nn, tensor = self.torch.nn, self.torch.tensor
        (kernel,) = self.source.get_layer(f"{name}_conv").get_weights()
        side, _, inputs, outputs = kernel.shape
        groups = x.shape[1] // inputs
        conv = nn.Conv2d(x.shape[1], outputs, side, stride, side // 2, groups=groups, bias=False)
        conv.weight.data = tensor(kernel.transpose(3, 2, 0, 1).copy())
        norm = nn.BatchNorm2d(outputs, eps=self.epsilon).eval()
        values = self.source.get_layer(f"{name}_bn").get_weights()
        names = ("weight", "bias", "running_mean", "running_var")
        for key, value in zip(names, values, strict=True):
            getattr(norm, key).data = tensor(value)
        return norm(conv(x))


def test_survival_falls_linearly_to_that_of_the_last_block():
    model = abstract(backbones.create, "resnet110", stochastic_depth=0.5)
    found = [layer.survival for layer in model.layers if hasattr(layer, "survival")]
    np.testing.assert_allclose(found, [1 - i / 54 * 0.5 for i in range(1, 55)])
    names = structure(abstract(backbones.create, "resnet110"))
    assert [row for row in structure(model) if not row[0].endswith("_survival")] == names


def test_wide_blocks_drop_out_between_their_convolutions():
    model = abstract(backbones.create, "wrn-28-10", dropout=0.3)
    found = [layer for layer in model.layers if type(layer).__name__ == "Dropout"]
    assert [layer.rate for layer in found] == [0.3] * 12
    for layer in found:
        name = layer.name.removesuffix("_dropout")
        assert layer.input is model.get_layer(f"{name}_1_relu").output
        assert layer.output is model.get_layer(f"{name}_2_conv").input
    usual = abstract(backbones.create, "wrn-28-10")
    assert "Dropout" not in [type(layer).__name__ for layer in usual.layers]


@pytest.mark.backends
def test_gates_remove_residual_blocks_picture_by_picture(rng):
    net = backbones.create("resnet32_narrow", repeats=(2, 2, 2))
    randomise(net, rng)
    model = gated("resnet32_narrow", repeats=(2, 2, 2))
    copy_by_name(net, model)
    assert model.input_shape == [(None, 16, 16, 1), (None, 6)]
    x = pictures(rng, 16, channels=1)
    gates = np.ones((2, 6), "float32")
    intact = run(net, x)
    np.testing.assert_array_equal(run(model, [x, gates]), intact)
    gates[1, 2] = 0
    found = run(model, [x, gates])
    norm = net.get_layer("conv3_block1_2_bn")
    gamma, beta, mean, variance = norm.get_weights()
    norm.set_weights([0 * gamma, 0 * beta, mean, variance])
    np.testing.assert_allclose(found[0], intact[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], run(net, x)[1], rtol=1e-5)
    assert difference(found[1], intact[1]) > 1e-2


@pytest.mark.backends
@pytest.mark.parametrize("gate", [1, 2, 4, 5])  # behind the first stage's pair, shapes change at 2
def test_gates_replace_plain_convolutions_by_the_identity(gate, rng):
    net = backbones.create("plain32_narrow", repeats=(1, 1, 1))
    randomise(net, rng)
    model = gated("plain32_narrow", repeats=(1, 1, 1))
    copy_by_name(net, model)
    assert model.input_shape[1] == (None, 6)
    x, gates = pictures(rng, 16, channels=1), np.ones((2, 6), "float32")
    intact = run(net, x)
    np.testing.assert_array_equal(run(model, [x, gates]), intact)
    gates[:, gate] = 0
    name = f"conv{gate // 2 + 2}_block1_{gate % 2 + 1}"
    conv, norm = net.get_layer(f"{name}_conv"), net.get_layer(f"{name}_bn")
    kernel = np.zeros(conv.kernel.shape)
    kernel[1, 1] = np.eye(*kernel.shape[2:])
    conv.set_weights([kernel])
    one = np.ones(kernel.shape[3])
    norm.set_weights([one, 0 * one, 0 * one, one - 1e-5])
    expected = run(net, x)
    assert difference(run(model, [x, gates]), expected) < 1e-5
    assert difference(expected, intact) > 1e-2


def test_only_networks_of_blocks_have_gates():
    with pytest.raises(ConvsuiteError, match="no blocks to switch off"):
        gated("wrn-16-4")

"""Inception, Inception-ResNet, Xception and NASNet against independent implementations."""

import sys

import keras
import numpy as np
import pytest
from comparing import difference, logits, pictures, randomise, run, twin
from keras import ops
from keras.src.applications.nasnet import NASNet

from shared import backbones
from shared.backbones.inception import inception
from shared.backbones.macs import abstract, layer_table


def carry_over(source, target):
    """Copy weights by layer name where both have it, else in the order of the layers."""
    names = {layer.name for layer in target.layers}
    by_name = {layer.name: layer for layer in source.layers if layer.name in names}
    rest = iter([layer for layer in source.layers if layer.weights and layer.name not in by_name])
    ordered = 0
    for layer in target.layers:
        if layer.weights:
            other = by_name.get(layer.name) or next(rest)
            ordered += layer.name not in by_name
            assert type(other) is type(layer)
            assert [w.shape for w in other.weights] == [w.shape for w in layer.weights]
            layer.set_weights(other.get_weights())
    assert next(rest, None) is None
    return ordered


def in_order(model):
    return [
        (type(layer).__name__, [tuple(w.shape) for w in layer.weights])
        for layer in model.layers
        if layer.weights
    ]


VARIANCE = 0.04  # makes the epsilon of normalisations, 1e-3, matter


def leave_blocks_out(monkeypatch):
    """Let Inception-ResNet v2 of Keras have two blocks of each kind."""
    module = sys.modules[keras.applications.InceptionResNetV2.__module__]
    block = module.inception_resnet_block

    def first_or_last(x, *, block_type, block_idx, **options):
        kept = block_idx in ((1, 10) if block_type == "block8" else (1, 2))
        return block(x, block_type=block_type, block_idx=block_idx, **options) if kept else x

    monkeypatch.setattr(module, "inception_resnet_block", first_or_last)


def test_a_small_inception_resnet_equals_its_twin_in_keras(monkeypatch, rng):
    """The whole one takes minutes, see `test_twins.py`."""
    leave_blocks_out(monkeypatch)
    theirs = randomise(twin("inception_resnet_v2", 75), rng, VARIANCE)
    ours = logits("inception_resnet_v2", 75, repeats=(2, 2, 2))
    # Layers with a number instead of a name come over in their order; the last block of Keras is
    # always number 10.
    assert carry_over(theirs, ours) == 103
    assert in_order(ours) == in_order(theirs)
    batch = pictures(rng, 75, 1)
    expected = run(theirs, batch)
    assert np.abs(expected).max() > 0.1
    assert difference(run(ours, batch), expected) < 1e-4
    for layer in ours.layers:
        if hasattr(layer, "epsilon"):
            layer.epsilon = 1e-5
    assert difference(run(ours, batch), expected) > 1e-3


def test_averages_of_torchvision_count_the_zeros_beyond_the_border(rng):
    options = {"input_shape": (75, 75, 3), "features": ["mixed0"], "width": 0.1}
    torch = backbones.create("inception_v3_torch", **options)
    keras_like = backbones.create("inception_v3", gamma=True, **options)
    carry_over(randomise(torch, rng), keras_like)
    batch = pictures(rng, 75, 1)
    found, other = (
        run(keras.Model(model.input, model.get_layer("mixed0_branch4_1").output), batch)
        for model in (torch, keras_like)
    )
    assert np.abs(other[:, 0, 0]).max() > 1e-3
    np.testing.assert_allclose(found[:, 0, 0] * 9, other[:, 0, 0] * 4, rtol=1e-5)
    np.testing.assert_allclose(found[:, 1, 1], other[:, 1, 1], rtol=1e-5)


def symmetric_pool(monkeypatch):
    """Let strided `same` pools pad on all four sides, as Caffe and torch do."""
    pool = keras.layers.MaxPooling2D

    @keras.saving.register_keras_serializable("test")
    class Surrounded(keras.layers.Layer):
        def call(self, x):
            return ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)

    def padded(size, strides, padding="valid", name=None):
        if padding == "valid":
            return pool(size, strides, padding, name=name)
        return lambda x: pool(size, strides, "valid", name=name)(Surrounded()(x))

    monkeypatch.setattr(keras.layers, "MaxPooling2D", padded)


def test_symmetric_padding_breaks_xception_where_a_map_is_even(monkeypatch, rng):
    small = {"middle": 1, "width": 0.125}
    right = logits("xception", 75, **small)
    randomise(right, rng, VARIANCE)
    symmetric_pool(monkeypatch)
    wrong = logits("xception", 75, **small)
    carry_over(right, wrong)
    batch = pictures(rng, 75, 1)
    assert difference(run(wrong, batch), run(right, batch)) > 1e-2


@pytest.mark.parametrize(("side", "skip", "repeats"), [(32, False, 1), (45, True, 1)])
def test_nasnet_of_open_size_equals_its_twin_of_fixed_size(side, skip, repeats, rng, tmp_path):
    twin = NASNet(
        penultimate_filters=192,
        num_blocks=repeats,
        stem_block_filters=8,
        skip_reduction=skip,
        filter_multiplier=2,
        weights=None,
        classes=10,
        input_shape=(side, side, 3),
        classifier_activation=None,
    )
    randomise(twin, rng, VARIANCE)
    twin.save(tmp_path / "a.h5")
    variant = {"repeats": repeats, "filters": 192, "stem": 8, "skip": skip}
    ours = logits("nasnet_mobile", None, weights=tmp_path / "a.h5", **variant)
    assert in_order(ours) == in_order(twin)
    batch = pictures(rng, side, 1)
    theirs = run(twin, batch)
    assert np.abs(theirs).max() > 0.1
    assert difference(run(ours, batch), theirs) < 1e-4
    for layer in ours.layers:
        if hasattr(layer, "epsilon"):
            layer.epsilon = 1e-5
    assert difference(run(ours, batch), theirs) > 1e-3


def test_symmetric_padding_breaks_nasnet(monkeypatch, rng):
    def create():
        small = {"repeats": 1, "filters": 96, "stem": 4}
        shape = (45, 45, 3)
        return backbones.create("nasnet_mobile", input_shape=shape, features=["stage1"], **small)

    right = create()
    randomise(right, rng, VARIANCE)
    separable = keras.layers.SeparableConv2D

    def symmetric(channels, kernel, stride, padding, **named):
        if stride == 1:
            return separable(channels, kernel, stride, padding, **named)
        layer = separable(channels, kernel, stride, "valid", **named)
        return lambda x: layer(keras.layers.ZeroPadding2D(kernel // 2)(x))

    monkeypatch.setattr(keras.layers, "SeparableConv2D", symmetric)
    wrong = create()
    carry_over(right, wrong)
    batch = pictures(rng, 45, 1)
    assert difference(run(wrong, batch), run(right, batch)) > 1e-2


def parameters(name, **arguments):
    rows = layer_table(abstract(backbones.create, name, **arguments))
    return sum(row.parameters for row in rows), sum(row.statistics for row in rows)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("inception_v3_aux", {"features": ["aux_probs", "probs"]}, (27_161_264, 36_224)),
        ("inception_resnet_v1", {"gamma": True}, (22_756_328, 27_040)),
        ("inception_resnet_v1_facenet", {"features": ["stage4.block5"]}, (20_963_328, 27_040)),
    ],
)
def test_named_variants_have_the_published_parameters(name, arguments, expected):
    assert parameters(name, **arguments) == expected


def tail_of(name, first):
    """Return the rows of a table from one on."""
    table = backbones.spec(name).variant["table"]
    return table[[tap for tap, _ in table].index(first) :]


@pytest.fixture
def quick(monkeypatch, rng):
    """Draw initial weights by NumPy: JAX compiles a program for every new shape."""

    def draw(self, shape, dtype=None):
        return ops.convert_to_tensor(rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape), dtype)

    monkeypatch.setattr(keras.initializers.VarianceScaling, "__call__", draw)


class Torch:
    """The layers of a model by their names, computed by torch on channels-first maps."""

    def __init__(self, model):
        self.torch = pytest.importorskip("torch")
        self.functional = self.torch.nn.functional
        self.model = model

    def tensors(self, name):
        return [self.torch.tensor(value) for value in self.model.get_layer(name).get_weights()]

    def from_picture(self, batch):
        return self.torch.tensor(np.moveaxis(batch, -1, 1).copy())

    def conv(self, x, name, stride=1, padding=0, gamma=True, epsilon=1e-3):
        kernel, *bias = self.tensors(f"{name}_conv")
        x = self.functional.conv2d(
            x, kernel.permute(3, 2, 0, 1), *bias, stride=stride, padding=padding
        )
        scale = self.tensors(f"{name}_bn")
        scale = scale if gamma else [None, *scale]
        x = self.functional.batch_norm(x, scale[2], scale[3], scale[0], scale[1], eps=epsilon)
        return self.torch.relu(x)

    def linear(self, x, name):
        kernel, bias = self.tensors(name)
        return self.functional.conv2d(x, kernel.permute(3, 2, 0, 1), bias)

    def as_maps(self, x):
        return np.moveaxis(x.detach().numpy(), 1, -1)


@pytest.mark.backends
@pytest.mark.usefixtures("quick")
def test_bn_inception_pools_and_pads_as_the_caffe_model(rng):
    model = backbones.create(
        "bn_inception_caffe", input_shape=(64, 64, 3), features=["inception_3a", "inception_3c"]
    )
    randomise(model, rng, VARIANCE)
    net = Torch(model)
    batch = pictures(rng, 64, 1)

    def conv(x, name, **options):
        return net.conv(x, name, epsilon=1e-5, **options)

    def down(x):
        return net.functional.max_pool2d(x, 3, 2, ceil_mode=True)

    def double(x, name, stride=1):
        x = conv(conv(x, f"{name}_1"), f"{name}_2", padding=1)
        return conv(x, f"{name}_3", stride=stride, padding=1)

    def three(x, name, stride=1):
        return conv(conv(x, f"{name}_1"), f"{name}_2", stride=stride, padding=1)

    x = down(conv(net.from_picture(batch), "conv1_1", stride=2, padding=3))
    x = down(conv(conv(x, "conv2_1"), "conv2_2", padding=1))
    modules = []
    for name in ("inception_3a", "inception_3b"):
        pooled = net.functional.avg_pool2d(x, 3, 1, 1, ceil_mode=True, count_include_pad=True)
        x = net.torch.cat(
            [
                conv(x, f"{name}_branch1_1"),
                three(x, f"{name}_branch2"),
                double(x, f"{name}_branch3"),
                conv(pooled, f"{name}_branch4_2"),
            ],
            1,
        )
        modules.append(x)
    branches = [
        three(x, "inception_3c_branch1", 2),
        double(x, "inception_3c_branch2", 2),
        down(x),
    ]
    last = net.torch.cat(branches, 1)
    ours = model.predict_on_batch(batch)
    for mine, theirs in zip(ours, (modules[0], last), strict=True):
        assert difference(mine, net.as_maps(theirs)) < 1e-4


@pytest.mark.backends
@pytest.mark.usefixtures("quick")
def test_inception_v4_forks_and_averages_as_the_torch_port(rng):
    inputs = keras.Input((6, 6, 16))
    table = tail_of("inception_v4", "mixed_7d")
    _, output = next(inception(inputs, 10, table=table, width=0.125))
    model = keras.Model(inputs, output)
    randomise(model, rng, VARIANCE)
    net = Torch(model)
    batch = rng.normal(size=(1, 6, 6, 16)).astype("float32")
    x = net.from_picture(batch)

    def conv(x, name, padding=0):
        return net.conv(x, f"mixed_7d_{name}", padding=padding)

    def fork(x, name):
        return [
            conv(x, f"{name}_branch1_1", (0, 1)),
            conv(x, f"{name}_branch2_1", (1, 0)),
        ]

    tall = conv(conv(x, "branch3_1"), "branch3_2", (1, 0))
    average = net.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    theirs = net.torch.cat(
        [
            conv(x, "branch1_1"),
            *fork(conv(x, "branch2_1"), "branch2_2"),
            *fork(conv(tall, "branch3_3", (0, 1)), "branch3_4"),
            conv(average, "branch4_2"),
        ],
        1,
    )
    assert difference(model.predict_on_batch(batch), net.as_maps(theirs)) < 1e-4


@pytest.mark.backends
@pytest.mark.usefixtures("quick")
def test_facenet_ends_in_a_linear_block_and_a_unit_vector(rng):
    model = backbones.create(
        "inception_resnet_v1_facenet",
        classes=24,
        input_shape=(75, 75, 3),
        features=["stage4.entry", "stage4.block1", "stage4", "embedding"],
        repeats=(0, 0, 2),
        width=0.125,
    )
    randomise(model, rng, VARIANCE)
    net = Torch(model)
    outputs = model.predict_on_batch(pictures(rng, 75, 1))
    x = net.from_picture(outputs[0])

    def block(x, name, scale):
        side = net.conv(
            net.conv(x, f"{name}_mixed_branch2_1"), f"{name}_mixed_branch2_2", 1, (0, 1)
        )
        side = net.conv(side, f"{name}_mixed_branch2_3", 1, (1, 0))
        both = net.torch.cat([net.conv(x, f"{name}_mixed_branch1_1"), side], 1)
        return x + scale * net.linear(both, f"{name}_conv")

    first = net.torch.relu(block(x, "block8_1", 0.2))
    last = block(first, "block8_2", 1.0)
    assert (outputs[2] < 0).any()
    assert difference(outputs[1], net.as_maps(first)) < 1e-4
    assert difference(outputs[2], net.as_maps(last)) < 1e-4
    (kernel,) = net.tensors("bottleneck")
    gamma, beta, mean, variance = net.tensors("bottleneck_bn")
    vector = net.functional.batch_norm(
        last.mean((2, 3)) @ kernel, mean, variance, gamma, beta, eps=1e-3
    )
    assert outputs[3].shape == (1, 24)
    assert difference(outputs[3], net.functional.normalize(vector, dim=1).numpy()) < 1e-4

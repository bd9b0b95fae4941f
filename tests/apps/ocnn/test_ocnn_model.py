"""Networks against those of `ocnn` with the same weights; padding; training; errors."""

import keras
import numpy as np
import pytest
from keras import ops
from reference_ocnn import ocnn, random_cloud, reference_octree

from apps.ocnn import inputs, model
from apps.ocnn.octree import build, decode, merge
from shared import backend
from shared.errors import ConvsuiteError, DataError

pytestmark = pytest.mark.slow_on_jax
DEPTH, CLASSES = 5, 7
rng = np.random.default_rng(1)
CLOUDS = [random_cloud(rng, count, "sphere") for count in (200, 90, 300, 150)]
TREE = merge([build(*cloud, DEPTH) for cloud in CLOUDS])
QUERY = inputs.Query(
    np.concatenate([points for points, _ in CLOUDS]),
    np.repeat(np.arange(len(CLOUDS)), [len(points) for points, _ in CLOUDS]),
)
NETWORKS = {
    "lenet": lambda **o: model.lenet(DEPTH, 4, CLASSES, dropout=0, **o),
    "resnet": lambda **o: model.resnet(DEPTH, 4, CLASSES, blocks=2, dropout=0, **o),
    "segnet": lambda **o: model.segnet(DEPTH, 4, CLASSES, width=2, points=True, **o),
    "unet": lambda **o: model.unet(DEPTH, 4, CLASSES, width=1 / 8, points=True, **o),
}
MODES = pytest.mark.parametrize("nonempty", [False, True], ids=["all", "nonempty"])


def arrays_for(network, nonempty, **options):
    options = {"features": "ND", "query": QUERY} | options
    return inputs.arrays(TREE, network.input, nonempty, **options)


# --- the same networks of `ocnn` ---


def their_network(name, nonempty):
    """Return the network of `ocnn` with random weights and statistics, without dropout."""
    package = ocnn()
    import torch

    stages = DEPTH - 2
    network = {
        "lenet": lambda: package.models.LeNet(4, CLASSES, stages, nonempty),
        "resnet": lambda: package.models.ResNet(4, CLASSES, 2, stages, nonempty, dropout=0),
        "segnet": lambda: package.models.SegNet(4, CLASSES, stages, nempty=nonempty),
        "unet": lambda: narrow_unet(package.models.UNet)(4, CLASSES, nempty=nonempty),
    }[name]()
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_(0, 0.1)
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(module, package.nn.OctreeInterp):
            module.bound_check = True
    if name == "segnet":
        network.bottleneck.conv.nempty = nonempty  # forgotten there
    return network


def narrow_unet(unet):
    class Narrow(unet):
        def config_network(self):
            super().config_network()
            self.encoder_channel = [c // 8 for c in self.encoder_channel]
            self.decoder_channel = [c // 8 for c in self.decoder_channel]
            self.head_channel //= 8

    return Narrow


def steps_of(name, network):
    """Return pairs: our name of a convolution, their module of it and its normalisation."""
    levels = list(range(DEPTH, 2, -1))

    def blocks(theirs, ours, parts):
        for number, block in enumerate(theirs.resblks, 1):
            for attribute, part in parts.items():
                if hasattr(block, attribute):
                    yield f"{ours}_{number}_{part}", getattr(block, attribute)

    bottleneck = {f"conv1x1{letter}": f"conv{i}" for letter, i in (("a", 1), ("b", 3))}
    bottleneck |= {"conv3x3": "conv2", "conv1x1c": "shortcut"}
    basic = {"conv3x3a": "conv1", "conv3x3b": "conv2", "conv1x1": "shortcut"}
    match name:
        case "lenet":
            yield from ((f"conv{level}", m) for level, m in zip(levels, network.convs, strict=True))
            yield "fc1", network.header[1]
        case "resnet":
            yield f"conv{DEPTH}", network.conv1
            for level, theirs in zip(levels[1:], network.resblocks, strict=True):
                yield from blocks(theirs, f"res{level}", bottleneck)
            yield "fc1", network.header[0]
        case "segnet":
            yield from ((f"conv{level}", m) for level, m in zip(levels, network.convs, strict=True))
            yield "conv2", network.bottleneck
            for level, module in zip(levels[::-1], network.deconvs, strict=True):
                yield f"deconv{level}", module
            yield "head", network.header[0]
        case "unet":
            yield f"conv{DEPTH}", network.conv1
            for i in range(4):
                above, below = DEPTH - 1 - i, DEPTH - 3 + i
                yield f"down{above}", network.downsample[i]
                yield from blocks(network.encoder[i], f"encoder{above}", basic)
                yield f"up{below}", network.upsample[i]
                yield from blocks(network.decoder[i], f"decoder{below}", basic)
            yield "head", network.header[0]


def kernel_of(module):
    conv = next(getattr(module, n) for n in ("conv", "deconv", "fc") if hasattr(module, n))
    if hasattr(conv, "weights"):
        return conv.weights.detach().numpy()
    return getattr(conv, "linear", conv).weight.detach().numpy().T


def copy_weights(name, theirs, ours):
    for layer, module in steps_of(name, theirs):
        kernel, bn = kernel_of(module), module.bn
        if (name, layer) == ("lenet", "fc1"):
            # Theirs counts voxels by x, y, z; ours by keys.
            cells, _ = decode(np.arange(64))
            kernel = kernel.reshape(64, 64, 128)[cells @ (16, 4, 1)].reshape(4096, 128)
        ours.get_layer(layer).set_weights([kernel])
        statistics = (bn.weight, bn.bias, bn.running_mean, bn.running_var)
        # Copies: JAX may keep the array itself, into which torch goes on writing.
        ours.get_layer(f"{layer}_bn").set_weights([s.detach().numpy().copy() for s in statistics])
    last = getattr(theirs.header[-1], "linear", theirs.header[-1])
    ours.get_layer("logits").set_weights(
        [last.weight.detach().numpy().T, last.bias.detach().numpy()]
    )


@pytest.mark.backends
@MODES
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_equal_those_of_ocnn(name, nonempty):
    theirs = their_network(name, nonempty)
    import torch

    ours, octree = NETWORKS[name](nonempty=nonempty), reference_octree(CLOUDS, DEPTH)
    parameters = sum(parameter.numel() for parameter in theirs.parameters())
    assert parameters == sum(int(np.prod(w.shape)) for w in ours.trainable_weights)
    copy_weights(name, theirs, ours)
    x = octree.get_input_feature("ND", nempty=nonempty)
    query = torch.tensor(np.c_[QUERY.points, QUERY.shapes].astype(np.float32))
    tables = arrays_for(ours, nonempty)
    for training in (False, True):
        theirs.train(training)
        with torch.no_grad():
            # Their interpolation scales the points in place.
            arguments = [query.clone()] if name in ("segnet", "unet") else []
            expected = theirs(x, octree, DEPTH, *arguments).numpy()
        result = ops.convert_to_numpy(ours(tables, training=training))
        scale = max(1, np.abs(expected).max())
        np.testing.assert_allclose(result, expected, atol=1e-4 * scale)
        assert np.abs(expected).std() > 0.01
    # After the training call, the statistics of both have moved alike.
    for layer, module in steps_of(name, theirs):
        if layer == "fc1":
            continue  # of 4 shapes, where the two estimates of a variance differ by a third
        bn = ours.get_layer(f"{layer}_bn")
        for mine, other in ((bn.moving_mean, "running_mean"), (bn.moving_variance, "running_var")):
            other = getattr(module.bn, other).numpy()
            np.testing.assert_allclose(ops.convert_to_numpy(mine), other, rtol=0.02, atol=1e-3)


# --- tables of the papers ---


def channels_of(network, prefix):
    names = [layer.name for layer in network.layers]
    return [
        network.get_layer(f"{prefix}{level}").filters
        for level in range(10, 1, -1)
        if f"{prefix}{level}" in names
    ]


def test_channels_are_those_of_the_paper():
    assert channels_of(model.lenet(8), "conv") == [2, 4, 8, 16, 32, 64]
    assert channels_of(model.lenet(8, least=4), "conv") == [4, 4, 8, 16, 32, 64]
    network = model.segnet(5)
    assert channels_of(network, "conv") == [16, 32, 64, 64]
    assert channels_of(network, "deconv") == [16, 16, 32]
    narrow = model.unet(5, width=1 / 8)
    assert [narrow.get_layer(f"encoder{i}_1_conv1").filters for i in (4, 3, 2, 1)] == [4, 8, 16, 32]
    assert [narrow.get_layer(f"decoder{i}_1_conv1").filters for i in (2, 3, 4, 5)] == [
        *(32, 16),
        *(12, 12),
    ]


def test_the_published_size_of_the_classification_network():
    # 3 -> 16 -> 32 -> 64 by 27, each with scale and shift, 4096 -> 128 -> 40.
    expected = 27 * (3 * 16 + 16 * 32 + 32 * 64) + 2 * (16 + 32 + 64)
    expected += 4096 * 128 + 2 * 128 + 128 * 40 + 40
    counted = sum(int(np.prod(w.shape)) for w in model.lenet(5).trainable_weights)
    assert counted == expected


# --- padding, heads, training ---


def capacity_of(tree, extra=16):
    sizes = [len(keys) for keys in tree.keys] + [8 * len(tree.nonempty[-1])]
    return [size + (extra * i if i > 2 else 0) for i, size in enumerate(sizes)]


@pytest.mark.backends
@MODES
@pytest.mark.parametrize("name", ["lenet", "resnet", "segnet", "unet"])
def test_padding_changes_nothing(name, nonempty):
    network = NETWORKS[name](nonempty=nonempty)
    capacity = capacity_of(TREE)
    tight = arrays_for(network, nonempty)
    loose = arrays_for(network, nonempty, capacity=capacity, query_capacity=len(QUERY.points) + 10)
    assert any(len(loose[key]) > len(tight[key]) for key in tight)
    state = network.get_weights()
    for training in (False, True):
        network.set_weights(state)
        expected = ops.convert_to_numpy(network(tight, training=training))
        moved = network.get_weights()
        network.set_weights(state)
        result = ops.convert_to_numpy(network(loose, training=training))
        np.testing.assert_allclose(result[: len(expected)], expected, atol=2e-4)
        assert np.isfinite(result).all()
        for one, other in zip(network.get_weights(), moved, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)


@MODES
def test_gradients_stay_finite_with_padding(nonempty):
    network = model.lenet(DEPTH, 4, CLASSES, nonempty=nonempty, dropout=0)
    gradients = []
    for capacity in (None, capacity_of(TREE)):
        tables = arrays_for(network, nonempty, capacity=capacity)
        features = tables.pop("features")
        rest = {name: ops.convert_to_tensor(table) for name, table in tables.items()}

        def loss(x, rest=rest):
            return ops.sum(ops.square(network({"features": x} | rest, training=True)))

        gradients.append(backend.value_and_grad(loss)(features)[1])
    tight, loose = gradients
    assert np.abs(tight).max() > 1e-4
    np.testing.assert_allclose(loose[: len(tight)], tight, atol=1e-3 * np.abs(tight).max())
    assert not loose[len(tight) :].any()


@pytest.mark.parametrize("build_network", [model.segnet, model.unet])
@MODES
def test_leaves_are_answered_in_order(build_network, nonempty):
    width = {"width": 1 / 8} if build_network is model.unet else {}
    network = build_network(DEPTH, 3, CLASSES, nonempty=nonempty, **width)
    result = network(inputs.arrays(TREE, network.input, nonempty))
    assert result.shape == (len(TREE.points), CLASSES)
    alone = build(*CLOUDS[2], DEPTH)
    start = sum(len(build(*cloud, DEPTH).points) for cloud in CLOUDS[:2])
    own = network(inputs.arrays(alone, network.input, nonempty))
    np.testing.assert_allclose(
        ops.convert_to_numpy(result)[start : start + len(own)],
        ops.convert_to_numpy(own),
        atol=1e-4,
    )


class Batches(keras.utils.PyDataset):
    """Shapes of two classes in batches of different size: normals point out, or in."""

    def __init__(self, network, **options):
        super().__init__()
        self.options, self.names = options, list(network.input)

    def __len__(self):
        return 3

    def __getitem__(self, index):
        random = np.random.default_rng(index)
        trees, classes = [], random.permutation([0, 1] * 4)
        for side in classes:
            points, normals = random_cloud(random, random.integers(50, 200), "sphere")
            trees.append(build(points, normals * (1 - 2 * side), 4))
        return inputs.arrays(merge(trees), self.names, **self.options), classes


@pytest.mark.backends
def test_batches_of_any_size_are_trained_on():
    keras.utils.set_random_seed(0)
    network = model.lenet(4, 3, 2, dropout=0)
    network.compile(
        keras.optimizers.Adam(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    batches = Batches(network)
    history = network.fit(batches, epochs=4, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert history["accuracy"][-1] == 1
    assert network.predict(batches, verbose=0).shape == (24, 2)


def test_networks_are_saved(tmp_path):
    network = model.segnet(4, 3, CLASSES, skips=True, points=True, nonempty=True)
    tree = build(*CLOUDS[0], 4)
    query = inputs.Query(CLOUDS[0][0], np.zeros(len(CLOUDS[0][0]), int))
    tables = inputs.arrays(tree, network.input, True, query=query)
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    assert list(again.input) == list(network.input)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(again(tables)), ops.convert_to_numpy(network(tables))
    )


# --- errors ---


@pytest.mark.parametrize("make", [model.lenet, model.resnet, model.segnet, model.unet])
@pytest.mark.parametrize("depth", [2, 11])
def test_impossible_depths_are_refused(make, depth):
    with pytest.raises(ConvsuiteError, match=f"depth {depth}"):
        make(depth)


def test_impossible_inputs_are_refused():
    for names, options, message in (
        (["neighbours6"], {}, "no network input 'neighbours6'"),
        (["mask"], {}, "no network input 'mask'"),
        (["corners"], {}, "give points"),
        (["mask5"], {"capacity": [8] * 6}, "needs 7 sizes"),
        (["mask5"], {"capacity": [9_999] * 7}, "multiples of 8"),
        (["neighbours5"], {"capacity": [8] * 7}, "more than 8"),
    ):
        with pytest.raises(DataError, match=message):
            inputs.arrays(TREE, names, **options)

"""Each layer against loops over cells, and against `ocnn` where torch is installed."""

import itertools
import math

import keras
import numpy as np
import pytest
from keras import ops
from reference_ocnn import ocnn, random_cloud, reference_octree

from apps.ocnn import layers
from apps.ocnn.octree import build, decode, merge
from shared import backend
from shared.errors import ConvsuiteError

DEPTH, CHANNELS, FILTERS = 5, 3, 4
OFFSETS = list(itertools.product((-1, 0, 1), repeat=3))
CORNERS = list(itertools.product((0, 1), repeat=3))

rng = np.random.default_rng(0)
CLOUDS = [random_cloud(rng, count, shape) for count, shape in ((150, "sphere"), (60, "box"))]
TREE = merge([build(*cloud, DEPTH) for cloud in CLOUDS])


def down(level, nonempty):
    return [TREE.children[level if nonempty else level - 1] + 1]


def up(level, nonempty):
    return [TREE.nonempty[level + 1 if nonempty else level]]


def strided(level, nonempty):
    return [TREE.neighbours(level, nonempty, 2) + 1, TREE.children[level - 1] + 1]


# Name: the layer, its tables, the change of level.
LAYERS = {
    "conv3": (
        lambda n: layers.OctreeConv(FILTERS, nonempty=n),
        lambda level, n: [TREE.neighbours(level, n) + 1],
        0,
    ),
    "conv3_stride2": (lambda n: layers.OctreeConv(FILTERS, 3, 2, nonempty=n), strided, -1),
    "conv2_stride2": (lambda n: layers.OctreeConv(FILTERS, 2, nonempty=n), down, -1),
    "pool": (lambda n: layers.OctreeMaxPool(nonempty=n), down, -1),
    "deconv": (lambda n: layers.OctreeDeconv(FILTERS, nonempty=n), up, 1),
    "upsample": (lambda n: layers.OctreeUpsample(nonempty=n), up, 1),
}
CASES = [
    pytest.param(name, level, nonempty, id=f"{name}-{level}-{'nonempty' if nonempty else 'all'}")
    for name, (_, _, step) in LAYERS.items()
    for level in ((2, 4) if step == 1 else (3, 5) if step else (2, 5))
    for nonempty in (False, True)
]


def made(name, level, nonempty, seed=1):
    """Return a built layer with random weights, an input and the tables."""
    make, tables, _ = LAYERS[name]
    random = np.random.default_rng(seed)
    layer = make(nonempty)
    x = random.normal(size=(len(nodes(level, nonempty)), CHANNELS)).astype(np.float32)
    tables = tables(level, nonempty)
    layer(x, *tables)
    layer.set_weights([random.normal(size=w.shape) for w in layer.get_weights()])
    return layer, x, tables


def nodes(level, nonempty):
    keys = TREE.keys[level][TREE.nonempty[level]] if nonempty else TREE.keys[level]
    cells, shapes = decode(keys)
    return [(shape, *cell) for shape, cell in zip(shapes.tolist(), cells.tolist(), strict=True)]


def rows_of(level, nonempty):
    return {node: row for row, node in enumerate(nodes(level, nonempty))}


def parent_of(node):
    shape, *cell = node
    return (shape, *(c // 2 for c in cell)), CORNERS.index(tuple(c % 2 for c in cell))


def children_of(node):
    shape, *cell = node
    return [(shape, *(2 * c + d for c, d in zip(cell, corner, strict=True))) for corner in CORNERS]


def moved(node, offset):
    shape, *cell = node
    return (shape, *(c + d for c, d in zip(cell, offset, strict=True)))


def by_loops(name, layer, x, level, nonempty):
    """Return what the layer should, cell by cell; empty parents have 0."""
    row_of, step = rows_of(level, nonempty), LAYERS[name][2]
    filled = set(nodes(level - 1, True)) if step == -1 else None
    kernel = layer.get_weights()[0] if layer.weights else None
    result = []
    for node in nodes(level + step, nonempty):
        total = np.zeros(CHANNELS if kernel is None else FILTERS)
        if step == 1:
            parent, which = parent_of(node)
            value = x[row_of[parent]]
            total += value if kernel is None else kernel[which] @ value
        elif step == -1 and node not in filled:
            pass
        elif name == "pool":
            total = np.max([x[row_of[c]] for c in children_of(node) if c in row_of], axis=0)
        else:
            if name == "conv2_stride2":
                cells = children_of(node)
            else:
                first = children_of(node)[0] if step else node
                cells = [moved(first, offset) for offset in OFFSETS]
            for k, cell in enumerate(cells):
                if cell in row_of:
                    total += x[row_of[cell]] @ kernel[k]
        result.append(total)
    return np.array(result)


@pytest.mark.backends
@pytest.mark.parametrize(("name", "level", "nonempty"), CASES)
def test_layers_equal_loops(name, level, nonempty):
    layer, x, tables = made(name, level, nonempty)
    result = ops.convert_to_numpy(layer(x, *tables))
    np.testing.assert_allclose(result, by_loops(name, layer, x, level, nonempty), atol=1e-4)


def theirs(name, level, nonempty, x, kernel):
    """Return the result of `ocnn` and the gradients of its square sum in x and the kernel."""
    package, octree = ocnn(), reference_octree(CLOUDS, DEPTH)
    import torch

    x = torch.tensor(x, requires_grad=True)
    parameters = [x]
    match name:
        case "pool":
            result = package.nn.OctreeMaxPool(nonempty)(x, octree, level)
        case "upsample":
            result = package.nn.octree_interp.octree_nearest_upsample(x, octree, level, nonempty)
        case _:
            kind = package.nn.OctreeDeconv if name == "deconv" else package.nn.OctreeConv
            size, stride = (3, 1 if name == "conv3" else 2) if "conv3" in name else (2, 2)
            module = kind(CHANNELS, FILTERS, [size], stride, nonempty)
            module.weights.data = torch.tensor(kernel)
            parameters.append(module.weights)
            result = module(x, octree, level)
    gradients = torch.autograd.grad((result**2).sum(), parameters)
    return result.detach().numpy(), [gradient.numpy() for gradient in gradients]


def gradients_of(layer, x, tables):
    """Return the gradients of the square sum of a layer in its input and its kernel."""
    tables = [ops.convert_to_tensor(table) for table in tables]

    def of_input(x):
        return ops.sum(ops.square(layer(x, *tables)))

    def of_kernel(kernel):
        result, _ = layer.stateless_call([kernel], [], ops.convert_to_tensor(x), *tables)
        return ops.sum(ops.square(result))

    found = [backend.value_and_grad(of_input)(x)[1]]
    if layer.weights:
        found.append(backend.value_and_grad(of_kernel)(layer.get_weights()[0])[1])
    return found


@pytest.mark.slow_on_jax
@pytest.mark.backends
@pytest.mark.parametrize(("name", "level", "nonempty"), CASES)
def test_layers_and_gradients_equal_ocnn(name, level, nonempty):
    ocnn()
    layer, x, tables = made(name, level, nonempty)
    kernel = layer.get_weights()[0] if layer.weights else None
    expected, expected_gradients = theirs(name, level, nonempty, x, kernel)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x, *tables)), expected, atol=1e-4)
    found = gradients_of(layer, x, tables)
    for gradient, other in zip(found, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient, other, atol=1e-4 * max(1, np.abs(other).max()))


@pytest.mark.parametrize(("name", "level", "nonempty"), CASES)
def test_gradients_equal_differences(name, level, nonempty):
    """Squares of linear layers are quadratic, so central differences are exact."""
    layer, x, tables = made(name, level, nonempty)
    gradients = gradients_of(layer, x, tables)
    random = np.random.default_rng(2)

    def value(x, kernel=None):
        if kernel is not None:
            layer.set_weights([kernel])
        return float(np.sum(np.square(ops.convert_to_numpy(layer(x, *tables)), dtype=np.float64)))

    # Small enough not to change which sibling is the largest.
    step = 1e-4 if name == "pool" else 1.0
    points = [x, layer.get_weights()[0]] if layer.weights else [x]
    for which, (point, gradient) in enumerate(zip(points, gradients, strict=True)):
        way = random.normal(size=point.shape).astype(np.float32)
        if which == 0:
            change = value(x + step * way) - value(x - step * way)
        else:
            change = value(x, point + step * way) - value(x, point - step * way)
        expected = float(np.sum(gradient * way, dtype=np.float64))
        assert change / (2 * step) == pytest.approx(expected, rel=5e-3, abs=0.05)


@pytest.mark.backends
@pytest.mark.parametrize("nonempty", [False, True])
@pytest.mark.parametrize("level", [3, 5])
def test_unpooling_puts_maxima_back(level, nonempty):
    _, x, tables = made("pool", level, nonempty)
    pooled, places = layers.OctreeMaxPool(places=True, nonempty=nonempty)(x, *tables)
    unpool = layers.OctreeMaxUnpool(nonempty=nonempty)
    rows = up(level - 1, nonempty)[0]
    result = ops.convert_to_numpy(unpool(pooled, places, rows))
    # Random values are different, so that each family keeps its largest and nothing else.
    numbers, parents = x + 0 * result, rows_of(level - 1, nonempty)
    for row, node in enumerate(nodes(level, nonempty)):
        largest = ops.convert_to_numpy(pooled)[parents[parent_of(node)[0]]]
        expected = np.where(numbers[row] == largest, largest, 0)
        np.testing.assert_array_equal(result[row], expected)


@pytest.mark.slow_on_jax
@pytest.mark.backends
@pytest.mark.parametrize("nonempty", [False, True])
def test_unpooling_and_its_gradient_equal_ocnn(nonempty):
    package = ocnn()
    import torch

    level = 4
    _, x, tables = made("pool", level, nonempty)
    octree = reference_octree(CLOUDS, DEPTH)
    their_x = torch.tensor(x, requires_grad=True)
    pooled, indices = package.nn.OctreeMaxPool(nonempty, True)(their_x, octree, level)
    expected = package.nn.OctreeMaxUnpool(nonempty)(pooled, indices, octree, level - 1)
    (their_gradient,) = torch.autograd.grad((expected**2).sum(), their_x)

    pool = layers.OctreeMaxPool(places=True, nonempty=nonempty)
    unpool = layers.OctreeMaxUnpool(nonempty=nonempty)
    children, rows = (
        ops.convert_to_tensor(table) for table in (tables[0], up(level - 1, nonempty)[0])
    )

    def square_sum(x):
        pooled, places = pool(x, children)
        result = unpool(pooled, places, rows)
        return ops.sum(ops.square(result)), places, result

    (_, places, result), gradient = backend.value_and_grad(square_sum)(x)
    np.testing.assert_array_equal(places, indices.numpy())
    np.testing.assert_allclose(result, expected.detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(gradient, their_gradient.numpy(), atol=1e-5)


@pytest.mark.backends
def test_of_equal_siblings_the_first_counts():
    pool = layers.OctreeMaxPool(places=True)
    x = np.zeros((len(TREE.keys[3]), 1), np.float32)
    x[np.arange(len(x)) % 8 == 5] = 1
    x[np.arange(len(x)) % 8 == 7] = 1
    _, places = pool(x, TREE.children[2] + 1)
    np.testing.assert_array_equal(ops.convert_to_numpy(places), 5)


@pytest.mark.backends
@pytest.mark.parametrize("nonempty", [False, True])
def test_averages_and_voxels_count_each_shape(nonempty):
    x = np.random.default_rng(3).normal(size=(len(nodes(2, nonempty)), 3)).astype(np.float32)
    children = TREE.children[2] + 1
    mean = ops.convert_to_numpy(layers.OctreeGlobalAverage(nonempty=nonempty)(x, children))
    voxels = ops.convert_to_numpy(layers.OctreeVoxels(nonempty=nonempty)(x, children))
    for shape in range(2):
        own = [row for node, row in rows_of(2, nonempty).items() if node[0] == shape]
        np.testing.assert_allclose(mean[shape], x[own].mean(0), atol=1e-6)
        np.testing.assert_allclose(voxels[shape].sum(0), x[own].sum(0), atol=1e-5)
    assert voxels.shape == (2, 64, 3)


@pytest.mark.backends
@pytest.mark.parametrize("nonempty", [False, True])
def test_average_and_interpolation_equal_ocnn(nonempty):
    package = ocnn()
    import torch

    octree, random = reference_octree(CLOUDS, DEPTH), np.random.default_rng(4)
    x = random.normal(size=(len(nodes(2, nonempty)), 3)).astype(np.float32)
    expected = package.nn.OctreeGlobalPool(nonempty)(torch.tensor(x), octree, 2).numpy()
    average = layers.OctreeGlobalAverage(nonempty=nonempty)
    np.testing.assert_allclose(
        ops.convert_to_numpy(average(x, TREE.children[2] + 1)), expected, atol=1e-5
    )
    places = np.concatenate([random.uniform(-1, 1, (200, 3)), CLOUDS[0][0]]).astype(np.float32)
    shapes = np.r_[random.integers(0, 2, 200), np.zeros(len(CLOUDS[0][0]), int)]
    for level in (2, 3, DEPTH):
        x = random.normal(size=(len(nodes(level, nonempty)), 3)).astype(np.float32)
        query = torch.tensor(np.c_[places, shapes].astype(np.float32))
        # Without the check, cells beyond the border would be those of the opposite side.
        interpolate = package.nn.OctreeInterp("linear", nonempty, bound_check=True)
        expected = interpolate(torch.tensor(x), octree, level, query).numpy()
        corners, weights = TREE.interpolation(places, shapes, level, nonempty)
        result = layers.OctreeInterpolation()(x, corners + 1, weights)
        np.testing.assert_allclose(ops.convert_to_numpy(result), expected, atol=1e-4)


@pytest.mark.backends
def test_interpolation_adds_weighted_rows():
    x = np.array([[1.0, 10], [2, 20], [4, 40]], np.float32)
    corners = np.array([[1, 2, 3, 0, 0, 0, 0, 0], [0] * 8], np.int32)
    weights = np.array([[0.5, 0.25, 0.25, 0, 0, 0, 0, 0], [0] * 8], np.float32)
    result = layers.OctreeInterpolation()(x, corners, weights)
    np.testing.assert_allclose(ops.convert_to_numpy(result), [[2, 20], [0, 0]])


@pytest.mark.backends
def test_convolution_of_filled_cells_equals_a_dense_one():
    """On a grid that is 0 elsewhere, read at the cells that contain points."""
    layer, x, tables = made("conv3", 4, True)
    dense = keras.layers.Conv3D(FILTERS, 3, padding="same", use_bias=False)
    grid = np.zeros((2, 16, 16, 16, CHANNELS), np.float32)
    places = tuple(np.array(nodes(4, True)).T)
    grid[places] = x
    dense.build(grid.shape)
    dense.set_weights([layer.get_weights()[0].reshape(3, 3, 3, CHANNELS, FILTERS)])
    expected = ops.convert_to_numpy(dense(grid))[places]
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x, *tables)), expected, atol=1e-4)


@pytest.mark.slow_on_jax
@pytest.mark.backends
def test_large_levels_are_convolved_in_parts(monkeypatch):
    monkeypatch.setattr(layers, "LARGEST_BUFFER", 150_000)
    x = keras.Input((CHANNELS,))
    table = keras.Input((27,), dtype="int32")
    model = keras.Model([x, table], layers.OctreeConv(FILTERS)(x, table))
    for level in (3, 5):  # below and above the limit
        layer, values, tables = made("conv3", level, False)
        model.layers[-1].set_weights(layer.get_weights())
        result = ops.convert_to_numpy(model.predict_on_batch([values, *tables]))
        expected = by_loops("conv3", layer, values, level, False)
        np.testing.assert_allclose(result, expected, atol=1e-4)
    assert math.prod(tables[0].shape) * CHANNELS * 4 > 150_000
    whole = gradients_of(*made("conv3", 3, False))
    monkeypatch.setattr(layers, "LARGEST_BUFFER", 0)
    parts = gradients_of(*made("conv3", 3, False))
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-3)


@pytest.mark.backends
@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_saved_with_their_options(name, tmp_path):
    layer, x, tables = made(name, 4, True)
    inputs = [keras.Input((CHANNELS,))]
    inputs += [keras.Input(table.shape[1:], dtype="int32") for table in tables]
    model = keras.Model(inputs, layer(*inputs))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.layers[-1].get_config() == layer.get_config()
    np.testing.assert_array_equal(
        ops.convert_to_numpy(again([x, *tables])), ops.convert_to_numpy(model([x, *tables]))
    )


def test_biases_are_added():
    plain, x, tables = made("conv3", 3, False)
    layer = layers.OctreeConv(FILTERS, use_bias=True)
    layer(x, *tables)
    layer.set_weights([*plain.get_weights(), np.arange(FILTERS)])
    difference = ops.convert_to_numpy(layer(x, *tables)) - ops.convert_to_numpy(plain(x, *tables))
    np.testing.assert_allclose(difference, np.tile(np.arange(FILTERS), (len(x), 1)), atol=1e-5)


@pytest.mark.parametrize(("size", "strides"), [(2, 1), (4, 1), (3, 3)])
def test_impossible_convolutions_are_refused(size, strides):
    with pytest.raises(ConvsuiteError, match="choose size 3"):
        layers.OctreeConv(4, size, strides)

"""The layers of LeNet against their formulas, loops and the counts of the papers."""

import keras
import numpy as np
import pytest
from keras import ops

from shared.errors import ConvsuiteError
from shared.layers import (
    ChannelLinearSubsample,
    FanInUniform,
    LocallyBiasedConv,
    PartialConv,
    RBFOutput,
    ScaledTanh,
)

C3 = ["012", "123", "234", "345", "450", "501", "0123", "1234", "2345", "3450", "4501", "5012"]
C3 += ["0134", "1245", "0235", "012345"]
C3 = [[int(source) for source in maps] for maps in C3]


def run(layer, x):
    return ops.convert_to_numpy(layer(np.asarray(x, "float32")))


def randomised(layer, shape, rng):
    layer.build(shape)
    layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    return layer


def loop_conv(x, kernel, strides, margins=((0, 0), (0, 0)), border=0.0):
    """Correlate with `(height, width, inputs, filters)`, place by place."""
    x = np.pad(x, [(0, 0), *margins, (0, 0)], constant_values=border)
    height, width = kernel.shape[:2]
    rows, columns = ((x.shape[a] - kernel.shape[a - 1]) // strides + 1 for a in (1, 2))
    out = np.zeros((len(x), rows, columns, kernel.shape[-1]))
    for i, j in np.ndindex(rows, columns):
        top, left = i * strides, j * strides
        window = x[:, top : top + height, left : left + width]
        out[:, i, j] = np.tensordot(window, kernel, 3)
    return out


def spread(kernel, table, inputs):
    """Return the full kernel of a table, link by link in the order of the output maps."""
    full = np.zeros((*kernel.shape[:2], inputs, len(table)))
    link = 0
    for target, maps in enumerate(table):
        for source in sorted(maps):
            full[:, :, source, target] = kernel[:, :, link]
            link += 1
    assert link == kernel.shape[-1]
    return full


@pytest.mark.backends
def test_scaled_tanh_keeps_plus_and_minus_one(rng):
    x = rng.normal(0, 3, (4, 5)).astype("float32")
    np.testing.assert_allclose(run(ScaledTanh(), x), 1.7159 * np.tanh(2 * x / 3), atol=1e-6)
    np.testing.assert_allclose(run(ScaledTanh(), [[1.0, -1.0]]), [[1.0, -1.0]], atol=1e-4)


@pytest.mark.backends
def test_arithmetic_in_layers_never_makes_sparse_tensors():
    """A number times a symbolic tensor is sparse to Keras 3.15; a layer's output is not."""
    x = ScaledTanh()(keras.Input((8, 8, 2)))
    x = ChannelLinearSubsample()(x)
    assert not x.sparse
    assert PartialConv(1, 3, [[0, 1]])(x).shape == (None, 2, 2, 1)


@pytest.mark.backends
@pytest.mark.parametrize("pool", [2, 3])
def test_subsampling_is_one_line_per_map(rng, pool):
    x = rng.normal(size=(2, 7, 6, 3)).astype("float32")
    layer = randomised(ChannelLinearSubsample(pool), x.shape, rng)
    coefficient, bias = layer.get_weights()
    rows, columns = 7 // pool, 6 // pool
    blocks = x[:, : rows * pool, : columns * pool].reshape(2, rows, pool, columns, pool, 3)
    expected = coefficient * blocks.sum((2, 4)) + bias
    np.testing.assert_allclose(run(layer, x), expected, atol=1e-5)
    assert coefficient.shape == bias.shape == (3,)


@pytest.mark.backends
@pytest.mark.parametrize("form", ["sets", "array"])
@pytest.mark.parametrize("strides", [1, 2])
def test_partial_convolution_equals_loops(rng, form, strides):
    x = rng.normal(size=(2, 9, 8, 6)).astype("float32")
    table = [set(maps) for maps in C3]
    if form == "array":
        table = np.array([[source in maps for maps in C3] for source in range(6)])
    layer = randomised(PartialConv(16, (5, 3), table, strides), x.shape, rng)
    kernel, bias = layer.get_weights()
    expected = loop_conv(x, spread(kernel, C3, 6), strides) + bias
    np.testing.assert_allclose(run(layer, x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.backends
def test_partial_convolution_equals_a_masked_one_of_torch(rng):
    torch = pytest.importorskip("torch")
    x = rng.normal(size=(2, 9, 8, 6)).astype("float32")
    layer = randomised(PartialConv(16, 5, C3, padding="same"), x.shape, rng)
    kernel, bias = layer.get_weights()
    weight = spread(kernel, C3, 6).transpose(3, 2, 0, 1).astype("float32")
    expected = torch.nn.functional.conv2d(
        torch.tensor(x.transpose(0, 3, 1, 2)), torch.tensor(weight), torch.tensor(bias), padding=2
    )
    expected = expected.numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(run(layer, x), expected, rtol=1e-5, atol=2e-5)


def test_counts_are_those_of_the_papers():
    c3 = PartialConv(16, 5, C3)
    c3.build((None, 14, 14, 6))
    assert c3.count_params() == 1_516
    assert c3.macs((14, 14, 6), (10, 10, 16)) + 10 * 10 * 16 == 151_600
    h1 = LocallyBiasedConv(12, 5, 2, -1.0)
    h1.build((None, 16, 16, 1))
    assert h1.count_params() == 1_068
    h2 = LocallyBiasedConv(12, 5, 2, -1.0, [[(i + k) % 12 for k in range(8)] for i in range(12)])
    h2.build((None, 8, 8, 12))
    assert h2.count_params() == 2_592
    connections = h1.macs((16, 16, 1), (8, 8, 12)) + h2.macs((8, 8, 12), (4, 4, 12)) + 768 + 192
    assert connections + 192 * 30 + 30 + 310 == 64_660


@pytest.mark.backends
@pytest.mark.parametrize("strides", [1, 2, 3])
def test_local_biases_and_border(rng, strides):
    x = rng.normal(size=(2, 8, 7, 3)).astype("float32")
    table = [[0, 2], [1], [0, 1, 2]]
    layer = randomised(LocallyBiasedConv(3, 5, strides, -1.0, table), x.shape, rng)
    kernel, bias = layer.get_weights()
    sides = [-(-side // strides) for side in (8, 7)]
    assert bias.shape == (*sides, 3)
    totals = [(count - 1) * strides + 5 - side for count, side in zip(sides, (8, 7), strict=True)]
    margins = [(total // 2, total - total // 2) for total in totals]
    expected = loop_conv(x, spread(kernel, table, 3), strides, margins, border=-1.0) + bias
    np.testing.assert_allclose(run(layer, x), expected, rtol=1e-5, atol=1e-5)
    zero_border = LocallyBiasedConv(3, 5, strides, 0.0, table)
    zero_border.build(x.shape)
    zero_border.set_weights([kernel, bias])
    assert np.abs(run(zero_border, x) - expected).max() > 0.1


@pytest.mark.backends
def test_local_convolution_of_background_gives_background(rng):
    """With the value of the border everywhere, no unit can tell where the border is."""
    x = np.full((1, 16, 16, 1), -1.0)
    layer = LocallyBiasedConv(4, 5, 2, -1.0)
    found = run(layer, x)
    np.testing.assert_allclose(found, np.broadcast_to(found[:, :1, :1], found.shape), atol=1e-6)


@pytest.mark.backends
def test_codes_answer_with_squared_distances(rng):
    codes = np.sign(rng.normal(size=(10, 84)))
    x = rng.normal(size=(3, 84)).astype("float32")
    expected = ((x[:, None] - codes) ** 2).sum(-1)
    layer = RBFOutput(codes)
    np.testing.assert_allclose(run(layer, x), expected, rtol=1e-5)
    assert run(layer, codes).argmin(-1).tolist() == list(range(10))
    assert layer.count_params() == 0


@pytest.mark.backends
def test_initial_weights_fill_the_interval_of_their_fan_in():
    dense = ops.convert_to_numpy(FanInUniform(seed=1)((24, 5000)))
    assert 0.099 < np.abs(dense).max() <= 0.1
    assert abs(dense.mean()) < 1e-3
    layer = PartialConv(2, 5, [[0], [0, 1, 2, 3]])
    layer.build((None, 8, 8, 4))
    kernel = layer.get_weights()[0]
    assert 0.05 < np.abs(kernel[:, :, 0]).max() <= 2.4 / 25
    assert 0.015 < np.abs(kernel[:, :, 1:]).max() <= 2.4 / 100


def test_wrong_tables_and_shapes_are_refused_by_name():
    with pytest.raises(ConvsuiteError, match="c3: the connection table is made for 2 maps, not"):
        PartialConv(3, 5, [[0], [1]], name="c3")
    for table in ([[0], [6]], [[0], []], [[-1], [0]]):
        with pytest.raises(ConvsuiteError, match="c3: every row of the connection table needs"):
            PartialConv(2, 5, table, name="c3").build((None, 14, 14, 6))
    with pytest.raises(ConvsuiteError, match="h1 has a bias per unit"):
        LocallyBiasedConv(2, 5, name="h1").build((None, None, 16, 1))
    with pytest.raises(ConvsuiteError, match="output has codes of 2 entries, the input has 3"):
        RBFOutput([[1, -1]], name="output").build((None, 3))
    with pytest.raises(ConvsuiteError, match="codes are"):
        RBFOutput([1, -1])

"""The early nets and highway networks: tables, connections, and forward passes in plain NumPy."""

import math

import keras
import numpy as np
import pytest

from shared import backbones
from shared.backbones import early
from shared.backbones.macs import abstract, layer_table
from shared.errors import ConvsuiteError

EARLY = ("lecun1989", "lecun1990", "lenet5", "lenet5_softmax", "lenet5_modern")
# Table I of LeCun et al. 1998, drawn as in the paper: rows are maps of S2, columns maps of C3.
TABLE_I = """
X...XXX..XXXX.XX
XX...XXX..XXXX.X
XXX...XXX..X.XXX
.XXX..XXXX..X.XX
..XXX..XXXX.XX.X
...XXX..XXXX.XXX
"""


def units(row):
    return math.prod(row.shape)


def connections(name):
    """Count as the papers do: one per input of a unit, and one for its bias."""
    total = 0
    for row in layer_table(abstract(backbones.create, name)):
        if row.kind == "ChannelLinearSubsample":
            total += units(row) * (2 * 2 + 1)
        elif row.macs:
            total += row.macs + (units(row) if row.parameters else 0)
    return total


@pytest.mark.parametrize(
    ("name", "published"), [("lecun1989", 64_660), ("lecun1990", 98_442), ("lenet5", 340_908)]
)
def test_connections(name, published):
    assert connections(name) == published


def test_units_of_1989():
    rows = layer_table(abstract(backbones.create, "lecun1989"))
    assert 16 * 16 + sum(units(row) for row in rows if row.parameters) == 1_256


def test_table_of_1998():
    drawn = [list(line) for line in TABLE_I.split()]
    columns = [tuple(i for i in range(6) if drawn[i][j] == "X") for j in range(16)]
    assert [tuple(sorted(maps)) for maps in early.TABLE_1998] == columns
    assert sum(map(len, early.TABLE_1998)) == 60


def test_tables_of_1989_and_1990():
    assert all(len(set(maps)) == 8 for maps in early.EIGHT_OF_TWELVE)
    seen = np.bincount(np.ravel(early.EIGHT_OF_TWELVE))
    assert list(seen) == [8] * 12  # no map of the first layer counts more than another
    assert sum(map(len, early.TABLE_1990)) == 20
    # Two halves of 6 maps, each from a pair of maps of its own.
    assert {i for maps in early.TABLE_1990[:6] for i in maps} == {0, 1}
    assert {i for maps in early.TABLE_1990[6:] for i in maps} == {2, 3}


def test_codes_are_distinct_glyphs():
    codes = np.array(early.codes())
    assert codes.shape == (10, 7 * 12)
    assert set(np.unique(codes)) == {-1.0, 1.0}
    different = (codes[:, None] != codes[None]).sum(-1)
    assert different[~np.eye(10, dtype=bool)].min() >= 4


def squash(x):
    return 1.7159 * np.tanh(2 / 3 * x)


def convolve(x, kernel, bias, stride=1):
    """Valid convolution by loops over the places of the map, `(batch, h, w, c)`."""
    size = kernel.shape[0]
    sides = [(side - size) // stride + 1 for side in x.shape[1:3]]
    out = np.empty((len(x), *sides, kernel.shape[-1]))
    for i in range(sides[0]):
        for j in range(sides[1]):
            patch = x[:, i * stride : i * stride + size, j * stride : j * stride + size]
            out[:, i, j] = np.tensordot(patch, kernel, 3)
    return out + bias


def spread(kernel, table, inputs):
    """Put the links of a partial convolution, in the order of the table, among zeros."""
    dense = np.zeros((*kernel.shape[:2], inputs, len(table)))
    links = iter(np.moveaxis(kernel, -1, 0))
    for target, maps in enumerate(table):
        for source in sorted(maps):
            dense[:, :, source, target] = next(links)
    return dense


def subsample(x, coefficient, bias):
    n, height, width, channels = x.shape
    blocks = x.reshape(n, height // 2, 2, width // 2, 2, channels)
    return squash(blocks.sum((2, 4)) * coefficient + bias)


def randomised(name, seed=0, **options):
    """Return a network with large random weights, biases too, so that every part counts."""
    model = backbones.create(name, **options)
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(0, 0.2, w.shape).astype("float32") for w in model.get_weights()])
    return model


def run(model, x):
    outputs = model(x.astype("float32"))
    outputs = outputs if isinstance(outputs, list) else [outputs]
    return [keras.ops.convert_to_numpy(output) for output in outputs]


def weights_of(model, layer):
    return model.get_layer(layer).get_weights()


@pytest.mark.backends
def test_lenet5_against_loops(rng):
    model = randomised("lenet5", features=["conv2", "penultimate", "distances", "probs"])
    x = rng.normal(size=(2, 32, 32, 1))
    got = run(model, x)
    y = squash(convolve(x, *weights_of(model, "c1")))
    y = subsample(y, *weights_of(model, "s2"))
    kernel, bias = weights_of(model, "c3")
    y = squash(convolve(y, spread(kernel, early.TABLE_1998, 6), bias))
    np.testing.assert_allclose(got[0], y, atol=1e-4)
    y = subsample(y, *weights_of(model, "s4"))
    y = squash(convolve(y, *weights_of(model, "c5")))
    kernel, bias = weights_of(model, "f6")
    y = squash(y.reshape(2, 120) @ kernel + bias)
    np.testing.assert_allclose(got[1], y, atol=1e-4)
    distances = ((y[:, None] - np.array(early.codes())) ** 2).sum(-1)
    np.testing.assert_allclose(got[2], distances, rtol=1e-4)
    probabilities = np.exp(distances.min(1, keepdims=True) - distances)
    probabilities /= probabilities.sum(1, keepdims=True)
    np.testing.assert_allclose(got[3], probabilities, atol=1e-3)


@pytest.mark.backends
def test_lecun1989_against_loops(rng):
    model = randomised("lecun1989")
    x = rng.normal(size=(2, 16, 16, 1))
    (got,) = run(model, x)
    y = x
    for layer, table in (("h1", [(0,)] * 12), ("h2", early.EIGHT_OF_TWELVE)):
        kernel, bias = weights_of(model, layer)
        framed = np.pad(y, ((0, 0), (1, 2), (1, 2), (0, 0)), constant_values=-1.0)
        y = squash(convolve(framed, spread(kernel, table, y.shape[-1]), bias, stride=2))
    y = y.reshape(2, -1)
    for layer in ("h3", "predictions"):
        kernel, bias = weights_of(model, layer)
        y = squash(y @ kernel + bias)
    np.testing.assert_allclose(got, y, atol=1e-4)


@pytest.mark.backends
def test_lecun1990_against_loops(rng):
    model = randomised("lecun1990")
    x = rng.normal(size=(2, 28, 28, 1))
    (got,) = run(model, x)
    y = squash(convolve(x, *weights_of(model, "h1")))
    y = subsample(y, *weights_of(model, "h2"))
    kernel, bias = weights_of(model, "h3")
    y = squash(convolve(y, spread(kernel, early.TABLE_1990, 4), bias))
    y = subsample(y, *weights_of(model, "h4"))
    kernel, bias = weights_of(model, "predictions")
    np.testing.assert_allclose(got, squash(y.reshape(2, -1) @ kernel + bias), atol=1e-4)


def test_a_glyph_is_recognised_with_certainty():
    model = backbones.create("lenet5")
    tail = keras.Model(model.get_layer("f6_squash").output, model.output)
    probabilities = tail.predict(np.array(early.codes(), "float32"), verbose=0)
    np.testing.assert_array_equal(probabilities.argmax(1), np.arange(10))
    assert probabilities.max(1).min() > 0.95


def test_the_start_follows_the_fan_in():
    model = backbones.create("lenet5")
    for layer, fan_in in (("c1", 25), ("c5", 400), ("f6", 120)):
        kernel = weights_of(model, layer)[0]
        assert 0.9 * 2.4 / fan_in < np.abs(kernel).max() <= 2.4 / fan_in


def test_fixed_codes_are_for_ten_digits():
    with pytest.raises(ConvsuiteError, match="lenet5_softmax"):
        backbones.create("lenet5", classes=12)
    assert backbones.create("lenet5_softmax", classes=12).output_shape == (None, 12)


@pytest.mark.parametrize("name", ["lecun1989", "highway_mlp_d10"])
def test_nets_of_one_size_know_it_without_a_classifier(name):
    spec = backbones.spec(name)
    assert backbones.create(name, top=False).input_shape == (None, spec.size, spec.size, 1)


@pytest.mark.backends
@pytest.mark.parametrize("name", [*EARLY, "highway_mlp_d10", "plain_mlp_d10"])
def test_saved_and_loaded_networks_are_equal(name, tmp_path, rng):
    model = backbones.create(name)
    size = backbones.spec(name).size
    x = rng.normal(size=(3, size, size, 1))
    model.save(tmp_path / "net.keras")
    loaded = keras.saving.load_model(tmp_path / "net.keras")
    np.testing.assert_array_equal(run(model, x)[0], run(loaded, x)[0])


@pytest.mark.backends
def test_highway_against_loops(rng):
    model = randomised("highway_mlp_d10")
    x = rng.normal(size=(3, 28, 28, 1))
    kernel, bias = weights_of(model, "layer1")
    y = np.maximum(x.reshape(3, -1) @ kernel + bias, 0)
    for i in range(2, 10):
        transform, transform_bias, gate, gate_bias = weights_of(model, f"layer{i}")
        share = 1 / (1 + np.exp(-(y @ gate + gate_bias)))
        y = np.maximum(y @ transform + transform_bias, 0) * share + y * (1 - share)
    kernel, bias = weights_of(model, "predictions")
    logits = y @ kernel + bias
    probabilities = np.exp(logits - logits.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    np.testing.assert_allclose(run(model, x)[0], probabilities, atol=1e-4)


def test_a_hundred_layers_begin_by_carrying_their_input(rng):
    x = rng.normal(size=(4, 28, 28, 1))
    taps = ["layer1", "layer99"]
    first, last = run(backbones.create("highway_mlp_d100", features=taps, gate_bias=-12.0), x)
    np.testing.assert_allclose(last, first, rtol=0.05, atol=0.01)
    first, last = run(backbones.create("plain_mlp_d100", features=taps), x)
    assert np.linalg.norm(last) < 0.1 * np.linalg.norm(first)  # nothing is left of it

"""Maxima with their places, and back, against torch and loops."""

import keras
import numpy as np
import pytest
from keras import ops

from shared.errors import ConvsuiteError
from shared.layers import CeilPool, MaxPoolWithIndices, MaxUnpool


def pool(layer, x):
    return [ops.convert_to_numpy(tensor) for tensor in layer(x)]


def unpool(values, indices, size, overlap="sum"):
    return ops.convert_to_numpy(MaxUnpool(overlap)([values, indices], size=size))


def loop_unpool(values, indices, size, overlap):
    out = np.zeros((values.shape[0], size[0] * size[1], values.shape[3]))
    for b, i, j, c in np.ndindex(values.shape):
        before = out[b, indices[b, i, j, c], c] if overlap == "sum" else 0
        out[b, indices[b, i, j, c], c] = before + values[b, i, j, c]
    return out.reshape(values.shape[0], *size, values.shape[3])


def to_torch(x):
    torch = pytest.importorskip("torch")
    return torch.tensor(x.transpose(0, 3, 1, 2))


def from_torch(x):
    return x.numpy().transpose(0, 2, 3, 1)


SIZES = [(2, 2, 6, 8), (3, 2, 7, 8), (3, 1, 5, 6), (2, 3, 8, 7)]


@pytest.mark.backends
@pytest.mark.parametrize(("size", "stride", "height", "width"), SIZES)
@pytest.mark.parametrize("padding", ["valid", "same", "ceil"])
def test_values_are_those_of_pooling_and_indices_lead_to_them(
    rng, padding, size, stride, height, width
):
    x = rng.normal(size=(2, height, width, 3)).astype("float32")
    values, indices = pool(MaxPoolWithIndices(size, stride, padding), x)
    plain = (
        CeilPool(size, stride)
        if padding == "ceil"
        else keras.layers.MaxPooling2D(size, stride, padding)
    )
    np.testing.assert_array_equal(values, ops.convert_to_numpy(plain(x)))
    flat = x.reshape(2, -1, 3)
    there = np.take_along_axis(flat, indices.reshape(2, -1, 3), axis=1)
    np.testing.assert_array_equal(there.reshape(values.shape), values)


@pytest.mark.backends
@pytest.mark.parametrize(("size", "stride", "height", "width"), SIZES)
@pytest.mark.parametrize("padding", ["valid", "ceil"])
def test_indices_equal_torch(rng, padding, size, stride, height, width):
    torch = pytest.importorskip("torch")
    # Few values, so that there are many ties.
    x = rng.integers(0, 3, (2, height, width, 3)).astype("float32")
    peer = torch.nn.MaxPool2d(size, stride, ceil_mode=padding == "ceil", return_indices=True)
    expected = [from_torch(tensor) for tensor in peer(to_torch(x))]
    for found, wanted in zip(
        pool(MaxPoolWithIndices(size, stride, padding), x), expected, strict=True
    ):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.backends
def test_the_first_of_equal_maxima_counts():
    values, indices = pool(MaxPoolWithIndices(2, 2, "valid"), np.ones((1, 4, 6, 2), "float32"))
    assert (values == 1).all()
    np.testing.assert_array_equal(indices[0, :, :, 0], [[0, 2, 4], [12, 14, 16]])
    assert indices.dtype == "int32"


@pytest.mark.backends
@pytest.mark.parametrize("overlap", ["sum", "last"])
def test_unpooling_restores_the_maxima_at_their_places(rng, overlap):
    x = rng.normal(size=(2, 6, 8, 3)).astype("float32")
    values, indices = pool(MaxPoolWithIndices(2, 2, "valid"), x)
    found = unpool(values, indices, (6, 8), overlap)
    repeated = values.repeat(2, 1).repeat(2, 2)
    np.testing.assert_array_equal(found, np.where(x == repeated, x, 0))


@pytest.mark.backends
@pytest.mark.parametrize("overlap", ["sum", "last"])
def test_overlapping_windows_add_or_overwrite(rng, overlap):
    x = rng.normal(size=(2, 7, 9, 3)).astype("float32")
    values, indices = pool(MaxPoolWithIndices(3, 2, "valid"), x)
    values = rng.normal(size=values.shape).astype("float32")
    expected = loop_unpool(values, indices, (7, 9), overlap)
    assert len(np.unique(indices[0, :, :, 0])) < indices[0, :, :, 0].size
    np.testing.assert_allclose(unpool(values, indices, (7, 9), overlap), expected, atol=1e-6)


@pytest.mark.backends
def test_last_equals_torch(rng):
    torch = pytest.importorskip("torch")
    x = rng.normal(size=(2, 7, 9, 3)).astype("float32")
    values, indices = pool(MaxPoolWithIndices(3, 2, "valid"), x)
    values = rng.normal(size=values.shape).astype("float32")
    peer = torch.nn.MaxUnpool2d(3, 2)
    expected = peer(to_torch(values), to_torch(indices.astype("int64")), output_size=(7, 9))
    found = unpool(values, indices, (7, 9), "last")
    np.testing.assert_array_equal(found, from_torch(expected))


@pytest.mark.slow_on_jax
@pytest.mark.backends
@pytest.mark.parametrize("overlap", ["sum", "last"])
def test_gradients_equal_finite_differences(rng, check_gradients, overlap):
    x = rng.permutation(2 * 7 * 6 * 2).reshape(2, 7, 6, 2).astype("float32") / 10
    layer, back = MaxPoolWithIndices(3, 2, "same"), MaxUnpool(overlap)
    check_gradients(lambda x: layer(x)[0], x)
    indices = layer(x)[1]
    values = rng.normal(size=indices.shape)
    check_gradients(lambda values: back([values, indices], size=(7, 6)), values)


@pytest.mark.backends
def test_a_model_keeps_its_switches_in_a_file(rng, tmp_path):
    inputs = keras.Input((8, 8, 3))
    values, indices = MaxPoolWithIndices(2, 2, "same")(inputs)
    outputs = MaxUnpool("last")([values, indices], size=(8, 8))
    model = keras.Model(inputs, outputs)
    assert outputs.shape == (None, 8, 8, 3)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [layer.get_config() for layer in loaded.layers] == [
        layer.get_config() for layer in model.layers
    ]
    x = rng.normal(size=(2, 8, 8, 3)).astype("float32")
    found = loaded.predict_on_batch(x)
    np.testing.assert_array_equal(found, model.predict_on_batch(x))
    assert np.count_nonzero(found) == 2 * 4 * 4 * 3


@pytest.mark.parametrize("padding", ["valid", "same", "ceil"])
def test_sides_may_stay_open(rng, padding):
    inputs = keras.Input((None, None, 2))
    model = keras.Model(inputs, MaxPoolWithIndices(3, 2, padding)(inputs))
    x = rng.normal(size=(2, 7, 10, 2)).astype("float32")
    for found, expected in zip(
        model.predict_on_batch(x), pool(MaxPoolWithIndices(3, 2, padding), x), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_wrong_inputs_are_refused_by_name():
    with pytest.raises(ConvsuiteError, match="switch takes"):
        MaxPoolWithIndices(2, name="switch")(np.zeros((4, 4, 1), "float32"))
    with pytest.raises(ConvsuiteError, match="valid, same or ceil, not full"):
        MaxPoolWithIndices(2, padding="full")
    with pytest.raises(ConvsuiteError, match="sum or last, not mean"):
        MaxUnpool("mean")
    with pytest.raises(ConvsuiteError, match="must have the same shape"):
        MaxUnpool()([np.zeros((1, 2, 2, 1)), np.zeros((1, 2, 3, 1), "int32")], size=(4, 4))

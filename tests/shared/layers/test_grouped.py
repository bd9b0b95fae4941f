"""Grouped convolutions against Keras' own and against loops."""

import keras
import numpy as np
import pytest
from keras import ops

from shared import backend, layers
from shared.backbones.macs import layer_table


def small(**options):
    return layers.GroupedConv2D(6, 3, groups=2, bias_initializer="normal", **options)


def by_loops(x, kernel, bias, groups, stride):
    """Convolve without padding, one output at a time."""
    height, width = ((side - 3) // stride + 1 for side in x.shape[1:3])
    out = np.empty((len(x), height, width, kernel.shape[-1]))
    inputs, outputs = kernel.shape[2], kernel.shape[3] // groups
    for y in range(height):
        for left in range(width):
            window = x[:, y * stride :, left * stride :][:, :3, :3]
            for channel in range(kernel.shape[-1]):
                first = channel // outputs * inputs
                part = window[..., first : first + inputs]
                out[:, y, left, channel] = (part * kernel[..., channel]).sum((1, 2, 3))
    return out + bias


@pytest.mark.backends
def test_equals_loops(rng):
    layer = small(strides=2)
    x = rng.normal(size=(2, 7, 6, 4)).astype("float32")
    found = ops.convert_to_numpy(layer(x))
    np.testing.assert_allclose(found, by_loops(x, *layer.get_weights(), 2, 2), atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"padding": "same", "dilation_rate": 2}])
def test_equals_the_layer_of_keras(rng, options):
    ours, theirs = small(**options), keras.layers.Conv2D(6, 3, groups=2, **options)
    x = rng.normal(size=(2, 7, 6, 4)).astype("float32")
    ours.build(x.shape)
    theirs.build(x.shape)
    theirs.set_weights(ours.get_weights())
    np.testing.assert_allclose(ours(x), theirs(x), atol=1e-5)


def test_is_a_loop_of_dense_convolutions_where_xla_is_off(rng, monkeypatch):
    layer = small()
    x = rng.normal(size=(2, 7, 6, 4)).astype("float32")
    layer.build(x.shape)
    seen = []
    convolve = keras.layers.Conv2D.convolution_op

    def noted(self, inputs, kernel):
        seen.append((inputs.shape[-1], kernel.shape[-1]))
        return convolve(self, inputs, kernel)

    monkeypatch.setattr(keras.layers.Conv2D, "convolution_op", noted)
    for jit, expected in ((False, [(2, 3), (2, 3)]), ("auto", [(4, 6)])):
        monkeypatch.setattr(backend, "jit_compile", lambda jit=jit: jit)
        seen.clear()
        layer(x)
        assert seen == expected


@pytest.mark.slow_on_jax
@pytest.mark.backends
def test_gradients_equal_finite_differences(rng, check_gradients):
    layer = small(padding="same")
    x = rng.normal(size=(2, 4, 5, 4)).astype("float32")
    layer.build(x.shape)
    check_gradients(lambda x, *w: layer.stateless_call(list(w), [], x)[0], x, *layer.get_weights())


def test_comes_back_from_a_file_and_counts_its_multiply_adds(rng, tmp_path):
    inputs = keras.Input((7, 6, 4))
    model = keras.Model(inputs, small(padding="same", activation="relu")(inputs))
    assert layer_table(model)[0].macs == 7 * 6 * 6 * 9 * 2
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.layers[-1], layers.GroupedConv2D)
    x = rng.normal(size=(2, 7, 6, 4)).astype("float32")
    np.testing.assert_array_equal(loaded.predict_on_batch(x), model.predict_on_batch(x))

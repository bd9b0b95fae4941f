"""Local response normalisation against torch, TensorFlow and the formula."""

import keras
import numpy as np
import pytest
from keras import ops

from shared.errors import ConvsuiteError
from shared.layers import LRN


def formula(x, size, alpha, beta, k):
    """Krizhevsky et al. 2012, channel by channel."""
    out = np.zeros_like(x)
    for c in range(x.shape[-1]):
        around = x[..., max(0, c - size // 2) : c + (size - 1) // 2 + 1]
        out[..., c] = x[..., c] / (k + alpha * (around**2).sum(-1)) ** beta
    return out


@pytest.mark.backends
@pytest.mark.parametrize("size", [1, 3, 4, 5, 11])
def test_equals_the_formula(rng, size):
    x = rng.normal(0, 10, (2, 3, 4, 8)).astype("float32")
    found = ops.convert_to_numpy(LRN(size, 0.3, 0.6, 1.5)(x))
    np.testing.assert_allclose(found, formula(x, size, 0.3, 0.6, 1.5), atol=1e-5)


def test_defaults_are_those_of_alexnet(rng):
    x = rng.normal(0, 50, (1, 2, 2, 96)).astype("float32")
    found = ops.convert_to_numpy(LRN()(x))
    np.testing.assert_allclose(found, formula(x, 5, 1e-4, 0.75, 2.0), rtol=1e-5)


@pytest.mark.backends
@pytest.mark.parametrize("size", [2, 3, 5])
def test_divided_by_n_equals_torch(rng, size):
    torch = pytest.importorskip("torch")
    x = rng.normal(0, 10, (2, 3, 4, 8)).astype("float32")
    peer = torch.nn.LocalResponseNorm(size, alpha=0.9, beta=0.75, k=1.0)
    expected = peer(torch.tensor(x.transpose(0, 3, 1, 2))).numpy().transpose(0, 2, 3, 1)
    found = ops.convert_to_numpy(LRN(size, 0.9, 0.75, 1.0, normalize_by_n=True)(x))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    undivided = ops.convert_to_numpy(LRN(size, 0.9, 0.75, 1.0)(x))
    assert np.abs(undivided - expected).max() > 0.1


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="needs tf.nn")
def test_not_divided_equals_tensorflow(rng):
    import tensorflow as tf

    x = rng.normal(0, 10, (2, 3, 4, 8)).astype("float32")
    expected = tf.nn.lrn(x, depth_radius=2, bias=2.0, alpha=0.3, beta=0.75).numpy()
    np.testing.assert_allclose(ops.convert_to_numpy(LRN(5, 0.3)(x)), expected, atol=1e-5)


def test_size_below_one_is_refused():
    with pytest.raises(ConvsuiteError, match="size must be 1"):
        LRN(0)

"""What tests of layers and losses share: gradients of the running backend, and their check."""

import keras
import numpy as np
import pytest
from keras import ops


def gradients(function, *arrays):
    """Return the gradients of a scalar function, by the running backend's own machinery."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        variables = [tf.Variable(array) for array in arrays]
        with tf.GradientTape() as tape:
            value = function(*(tf.convert_to_tensor(variable) for variable in variables))
        found = tape.gradient(value, variables)
        return [tf.convert_to_tensor(gradient).numpy() for gradient in found]
    if keras.backend.backend() == "jax":
        import jax

        found = jax.grad(function, argnums=tuple(range(len(arrays))))(*arrays)
        return [np.asarray(gradient) for gradient in found]
    import torch

    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    function(*tensors).backward()
    return [tensor.grad.numpy() for tensor in tensors]


@pytest.fixture
def check_gradients():
    """Compare gradients with finite differences, at 1e-3, through a random linear probe."""

    def check(function, *arrays, step=1e-2, samples=8):
        rng = np.random.default_rng(1)
        arrays = [np.asarray(array, "float32") for array in arrays]

        def apply(*arrays):
            return function(*(ops.convert_to_tensor(array) for array in arrays))

        if keras.backend.backend() == "jax":
            import jax

            # Compiling once is quicker than compiling every operation on its own.
            apply = jax.jit(apply)
        shape = tuple(apply(*arrays).shape)
        probe = rng.normal(size=shape).astype("float32")
        found = gradients(lambda *a: ops.sum(ops.multiply(apply(*a), probe)), *arrays)

        def value(changed, which):
            out = apply(*(changed if i == which else a for i, a in enumerate(arrays)))
            return float(np.sum(ops.convert_to_numpy(out).astype("float64") * probe))

        for which, (array, gradient) in enumerate(zip(arrays, found, strict=True)):
            assert gradient.shape == array.shape
            for place in rng.choice(array.size, min(samples, array.size), replace=False):
                index = np.unravel_index(place, array.shape)
                high, low = array.copy(), array.copy()
                high[index] += step
                low[index] -= step
                # The step as it is after rounding.
                difference = value(high, which) - value(low, which)
                difference /= float(high[index]) - float(low[index])
                assert gradient[index] == pytest.approx(difference, abs=1e-3, rel=1e-3)

    return check

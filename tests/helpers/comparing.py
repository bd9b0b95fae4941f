"""What tests of networks share: random weights, copies by name, runs, differences."""

import keras
import numpy as np
from keras import ops

from shared import backbones


def randomise(model, rng, scale=1.0):
    """Give a model weights and statistics as after training, at which activations stay sane.

    A small `scale` of the variances of maps makes the epsilon of normalisations matter.
    """
    for layer in model.layers:
        values = []
        for weight in layer.weights:
            shape, name = tuple(weight.shape), weight.name
            if name in ("gamma", "moving_variance"):
                values.append(rng.uniform(0.5, 1.5, shape) * (scale if name[0] == "m" else 1))
            elif len(shape) > 1:
                depthwise = "depthwise" in weight.path + type(layer).__name__.lower()
                variance = 1 / np.prod(shape[:2]) if depthwise else scale / np.prod(shape[:-1])
                values.append(rng.normal(0, np.sqrt(variance), shape))
            elif name != "seed_generator_state":
                values.append(rng.normal(0, 0.1, shape))
        if values and not layer.name.endswith("_survival"):
            layer.set_weights(values)
    return model


def copy_by_name(source, target):
    names = [layer.name for layer in target.layers if layer.weights]
    assert names == [layer.name for layer in source.layers if layer.weights]
    for name in names:
        target.get_layer(name).set_weights(source.get_layer(name).get_weights())


def structure(model):
    return [
        (layer.name, type(layer).__name__, [w.shape for w in layer.weights], layer.output.shape)
        for layer in model.layers
        if layer.weights
    ]


def run(model, inputs):
    """Return the output, or the first of several."""
    if keras.backend.backend() == "jax":  # slow one layer at a time
        output = model.predict_on_batch(inputs)
    else:
        output = model(inputs, training=False)
    return ops.convert_to_numpy(output[0] if isinstance(output, list) else output)


def difference(found, expected):
    """Return the largest difference, relative to the largest number."""
    assert found.shape == expected.shape
    return np.abs(found - expected).max() / np.abs(expected).max()


def pictures(rng, side, count=2, channels=3):
    return rng.uniform(-1, 1, (count, side, side, channels)).astype("float32")


def logits(name, side, **variant):
    shape = (side, side, backbones.spec(name).channels)
    return backbones.create(name, 10, shape, features=["logits"], **variant)


def twin(name, side, **variant):
    """Return the network of `keras.applications` with the same layers, ending in logits."""
    build = getattr(keras.applications, backbones.spec(name).twin)
    options = {"weights": None, "classes": 10, "classifier_activation": None}
    return build(input_shape=(side, side, 3), **options, **variant)

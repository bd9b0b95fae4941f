"""Fixtures that many tests use."""

import os
from pathlib import Path

import numpy as np
import pytest

from shared import backend

backend.setup(device="cpu", precision="float32")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of larger real data, outside the repository."""
    folder = os.environ.get("CONVSUITE_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("CONVSUITE_DATA names no folder of real data")
    return Path(folder)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)

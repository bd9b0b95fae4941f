"""Fixtures that many tests use."""

import os
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from shared import backend

# A busy machine must not fail a property for being slow.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")
backend.setup(device="cpu", precision="float32")


def pytest_collection_modifyitems(items):
    """Leave out what JAX compiles for minutes; TensorFlow and PyTorch run all of it."""
    if backend.name() != "jax" or os.environ.get("CONVSUITE_SLOW"):
        return
    skip = pytest.mark.skip(reason="compiles for minutes on JAX; CONVSUITE_SLOW=1 runs it")
    for item in items:
        if item.get_closest_marker("slow_on_jax"):
            item.add_marker(skip)


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


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """A headless browser that asks nobody outside for anything."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    service = pytest.importorskip("selenium.webdriver.chrome.service")
    if not os.path.exists("/usr/bin/chromedriver"):
        pytest.skip("chromium-driver is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1280,1000",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(flag)
    driver = webdriver.Chrome(options, service.Service("/usr/bin/chromedriver"))
    yield driver
    driver.quit()

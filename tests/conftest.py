"""Fixtures that many tests use."""

import os
import subprocess
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
    """Leave out what takes many minutes, on JAX also what it compiles for minutes."""
    if os.environ.get("CONVSUITE_SLOW"):
        return
    skip = pytest.mark.skip(reason="takes minutes; CONVSUITE_SLOW=1 runs it")
    markers = {"slow", "slow_on_jax"} if backend.name() == "jax" else {"slow"}
    for item in items:
        if any(mark.name in markers for mark in item.iter_markers()):
            item.add_marker(skip)


@pytest.fixture(autouse=True, scope="session")
def _initial_weights_by_numpy():
    """On JAX, draw initial weights by NumPy: JAX compiles a program for every new shape."""
    if backend.name() != "jax":
        yield
        return
    import keras
    from keras.src.initializers.random_initializers import compute_fans

    def draw(self, shape, dtype=None, **_):
        """Return uniform numbers of the same variance and seed."""
        fans = compute_fans(shape)
        fan = {"fan_in": fans[0], "fan_out": fans[1], "fan_avg": sum(fans) / 2}[self.mode]
        limit = (3 * self.scale / max(fan, 1)) ** 0.5
        values = np.random.default_rng(self.seed).uniform(-limit, limit, shape)
        return keras.ops.convert_to_tensor(values, dtype)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.initializers.VarianceScaling, "__call__", draw)
        yield


@pytest.fixture(autouse=True)
def _float32():
    """Undo what commands that ran in this process chose: bfloat16 where the CPU has it."""
    if backend.precision_in_use() != "float32":
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


@pytest.fixture(scope="module")
def display():
    """A free X display of its own."""
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1400x900x24", "-nolisten", "tcp"]
    # Without a client it would start anew, and refuse one that comes meanwhile.
    command.append("-noreset")
    server = subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as answer:
        number = answer.readline().strip()
    if not number:
        pytest.skip("Xvfb found no free display")
    yield f":{number}"
    server.terminate()
    server.wait(timeout=30)


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

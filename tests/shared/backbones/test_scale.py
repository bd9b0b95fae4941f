"""Many pictures over Ray, and training over several devices: the same results as on one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shared import assets, backend, console
from shared.backbones.cli import app

ROOT = Path(__file__).parents[3]
NETWORK = ("--network", "lenet5_modern")
TAPS = ("--tap", "conv2", "--tap", "penultimate")


def run_python(code, *arguments, **environment):
    """Run code in a process of its own and return what it prints, as JSON."""
    inherited = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=inherited | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


RAY = """
import json, sys
from shared import console
from shared.backbones.cli import app

try:
    console.run(app, sys.argv[1:], prog="convsuite backbones")
except SystemExit as stopped:
    print(json.dumps(stopped.code))
"""


def run_here(*words):
    with pytest.raises(SystemExit) as stopped:
        console.run(app, words, prog="convsuite backbones")
    return stopped.value.code


def bytes_of(folder):
    """Return what stands in each result of a folder, but for the failures, which hold a time."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "failures.json"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("verb", "options", "files"), [("classify", (), 12), ("features", TAPS, 11)]
)
def test_pictures_over_ray_give_the_results_of_one_process(
    verb, options, files, tmp_path, monkeypatch
):
    pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    samples = sorted(assets.samples_dir().glob("*.jpg"))
    for number in range(11):
        shutil.copyfile(samples[number % len(samples)], f"photos/{number:02}.jpg")
    Path("photos/broken.jpg").write_bytes(samples[0].read_bytes()[:300])
    words = [verb, "photos", *NETWORK, *options, "--quiet", "--out"]

    assert run_here(*words, "local") == 1
    assert run_python(RAY, *words, "ray", "--engine", "ray") == 1
    results = bytes_of(tmp_path / "ray")
    assert len(results) == files
    assert results == bytes_of(tmp_path / "local")
    (failure,) = json.loads(Path("ray/failures.json").read_text())["failures"]
    assert failure["input"] == "photos/broken.jpg"

    made = {path: path.stat().st_mtime_ns for path in Path("ray").glob("*.jpg.*")}
    assert run_here(*words, "ray") == 1
    assert made == {path: path.stat().st_mtime_ns for path in Path("ray").glob("*.jpg.*")}


TRAINING = """
import json, sys
from shared import backend
backend.setup("cpu", "float32")
import keras
import numpy as np
from shared import backbones

def weights_after_training():
    keras.utils.set_random_seed(0)
    small = {"repeats": (1, 1), "channels": (4, 8), "stem": (3, 4)}
    network = backbones.create("resnet20", 10, (8, 8, 3), **small)
    before = network.get_weights()
    network.compile(keras.optimizers.SGD(0.1, 0.9), "sparse_categorical_crossentropy")
    random = np.random.default_rng(0)
    # Every device gets pictures of another contrast: statistics of its own share would be others.
    contrast = np.repeat([0.5, 1.0, 2.0, 4.0], 4).reshape(-1, 1, 1, 1)
    for _ in range(2):
        pictures = (contrast * random.normal(size=(16, 8, 8, 3))).astype("float32")
        network.train_on_batch(pictures, random.integers(0, 10, 16))
    after = network.get_weights()
    assert max(np.abs(b - a).max() for a, b in zip(before, after)) > 1e-2
    return np.concatenate([weight.ravel() for weight in after])

one = weights_after_training()
backend.distribute()
assert keras.distribution.distribution().device_mesh.devices.size == 4
four = weights_after_training()
print(json.dumps(float(np.abs(four - one).max())))
"""


@pytest.mark.slow
@pytest.mark.backends
def test_training_on_four_devices_gives_the_weights_of_one():
    if backend.name() != "jax":
        pytest.skip("only JAX splits a CPU into several virtual devices")
    difference = run_python(
        TRAINING, KERAS_BACKEND="jax", XLA_FLAGS="--xla_force_host_platform_device_count=4"
    )
    assert difference < 1e-4

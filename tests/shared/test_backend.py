import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from shared import backend
from shared.errors import ConvsuiteError, DependencyError

ROOT = Path(backend.__file__).parents[1]


def run_python(code, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
    )


@pytest.fixture(autouse=True)
def unchanged_process(monkeypatch):
    """Undo what setup() changes for good."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setattr(sys, "meta_path", sys.meta_path.copy())
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(backend, "_reported_gpus", list)


@pytest.fixture
def one_gpu(monkeypatch):
    monkeypatch.setattr(backend, "_reported_gpus", lambda: [Path("/dev/nvidia0")])
    monkeypatch.setattr(backend, "devices", lambda: ["cpu:0", "gpu:0"])
    for name in backend._HIDE_GPUS:
        os.environ.pop(name, None)


def image_batch(height=9, width=7):
    return np.random.default_rng(0).random((2, height, width, 3), np.float32)


def small_network():
    inputs = keras.Input((None, None, 3))
    features = keras.layers.Conv2D(4, 3, padding="same")(inputs)
    return keras.Model(inputs, keras.layers.BatchNormalization()(features))


def test_setup_imports_no_framework_for_float32():
    done = run_python(
        "import sys, os\n"
        "from shared import backend\n"
        "backend.setup('cpu', 'float32')\n"
        "print(os.environ['KERAS_BACKEND'], *sorted({'keras', *backend.BACKENDS} & {*sys.modules}))"
    )
    assert done.stdout.split() == [backend.backend_choice()[0]]
    assert done.stderr == ""


def test_frameworks_start_without_a_word():
    pytest.importorskip("tensorflow")
    done = run_python(
        "from shared import backend\n"
        "backend.setup('cpu', 'bfloat16')\n"
        "import keras\n"
        "print(keras.config.backend(), keras.config.dtype_policy().name, backend.devices())",
        KERAS_BACKEND="tensorflow",
    )
    assert done.stdout.strip() == "tensorflow mixed_bfloat16 ['cpu:0']"
    assert done.stderr == ""


def test_cpu_hides_gpus_from_every_backend(no_gpu):
    backend.setup("cpu", "float32")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "-1"
    assert os.environ["JAX_PLATFORMS"] == "cpu"
    assert os.environ["KERAS_TORCH_DEVICE"] == "cpu"


def test_cpu_comes_too_late_once_a_gpu_runs(one_gpu):
    with pytest.raises(ConvsuiteError, match="already runs on a GPU"):
        backend.setup("cpu", "float32")


def test_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr(backend, "devices", lambda: ["cpu:0"])
    with pytest.raises(ConvsuiteError, match=r"--device gpu: .* sees no GPU"):
        backend.setup("gpu")


def test_backend_of_the_user_is_kept(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert backend.backend_choice() == ("jax", "KERAS_BACKEND is set")


def test_unknown_backend(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "theano")
    with pytest.raises(DependencyError, match="theano: choose one of tensorflow, jax, torch"):
        backend.setup()


def test_backend_that_is_not_installed(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DependencyError, match="pip install torch"):
        backend.setup()


@pytest.mark.parametrize("installed", ["tensorflow", "jax", "torch"])
def test_first_installed_backend_is_the_default(monkeypatch, installed):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == installed or None)
    assert backend.backend_choice()[0] == installed


def test_no_backend_at_all(monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DependencyError, match="No backend"):
        backend.backend_choice()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"sse2", "avx2"}, "float32"),
        ({"avx512f", "avx512_bf16"}, "bfloat16"),
        ({"avx512_bf16", "amx_bf16", "amx_tile"}, "bfloat16"),
        (set(), "float32"),
    ],
)
def test_precision_follows_the_cpu(monkeypatch, no_gpu, flags, expected):
    monkeypatch.setattr(backend, "_cpu_flags", lambda: flags)
    precision, reason = backend.precision_choice()
    assert precision == expected
    assert reason.startswith("the CPU reports") == (expected == "bfloat16")


def test_precision_on_a_gpu(monkeypatch, one_gpu):
    monkeypatch.setattr(backend, "_cpu_flags", set)
    assert backend.precision_choice() == ("bfloat16", "a GPU is in use")
    os.environ.update(backend._HIDE_GPUS)
    assert backend.precision_choice()[0] == "float32"


def test_precision_that_was_asked_for(no_gpu):
    assert backend.precision_choice("bfloat16")[0] == "bfloat16"
    backend.setup(precision="bfloat16")
    assert keras.config.dtype_policy().name == "mixed_bfloat16"
    assert backend.precision_in_use() == "bfloat16"
    backend.setup(precision="float32")
    assert backend.precision_in_use() == "float32"
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.backends
def test_bfloat16_results_are_widened():
    def halved(x):
        return keras.ops.cast(x / 2, "bfloat16"), keras.ops.cast(keras.ops.sum(x), "bfloat16")

    several, one = backend.compiled(halved)(np.array([1, 2], "float32"))
    assert (several.dtype, one.dtype) == ("float32", "float32")
    assert (several.tolist(), float(one)) == ([0.5, 1.0], 3.0)

    value, gradient = backend.value_and_grad(lambda x: halved(x)[1])(np.array([1, 2], "float32"))
    assert (float(value), gradient.dtype, gradient.tolist()) == (3.0, "float32", [1.0, 1.0])


def test_networks_in_float32_whatever_was_chosen(no_gpu):
    backend.setup(precision="bfloat16")
    with backend.in_float32():
        layer = keras.layers.Dense(1)
    assert layer.compute_dtype == "float32"
    assert backend.precision_in_use() == "bfloat16"


@pytest.mark.skipif(not shutil.which("lscpu"), reason="lscpu is not installed")
def test_cpu_flags_are_those_of_lscpu():
    done = subprocess.run(["lscpu"], env={"LC_ALL": "C"}, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("Flags:")]
    if not lines:
        pytest.skip("this CPU reports no flags")
    assert set(lines[0].split()[1:]) == backend._cpu_flags() - {"flags", ":"}


@pytest.mark.backends
def test_devices_start_with_the_cpu():
    assert backend.devices()[0] == "cpu:0"
    assert backend.name() == keras.config.backend()


@pytest.mark.backends
def test_tensorflow_never_uses_xla_on_a_cpu(no_gpu):
    assert backend.jit_compile() == (False if backend.name() == "tensorflow" else "auto")


@pytest.mark.backends
def test_compiled_network_equals_the_network():
    network = small_network()
    forward = backend.compiled(network)
    for size in ((9, 7), (4, 12)):
        images = image_batch(*size)
        expected = keras.ops.convert_to_numpy(network(images, training=False))
        found = forward(images)
        assert isinstance(found, np.ndarray)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.backends
def test_compiled_network_sees_new_weights():
    network = small_network()
    forward = backend.compiled(network)
    before = forward(image_batch())
    network.layers[1].bias.assign(np.full(4, 1.0))
    scale = 1 / np.sqrt(1 + network.layers[2].epsilon)
    np.testing.assert_allclose(forward(image_batch()) - before, scale, atol=1e-5)


@pytest.mark.backends
def test_compiled_function_keeps_nesting_and_widens_bfloat16():
    forward = backend.compiled(
        lambda image, other: {"sum": image + other["b"], "half": keras.ops.cast(image, "bfloat16")}
    )
    images = image_batch()
    found = forward(images, {"b": images})
    np.testing.assert_allclose(found["sum"], 2 * images, rtol=1e-6)
    assert found["half"].dtype == np.float32
    np.testing.assert_allclose(found["half"], images, rtol=2**-8)


TRAINING = """
import sys
from shared import backend
backend.setup("cpu", "float32")
import keras
import numpy as np
keras.utils.set_random_seed(0)
if sys.argv[1:] == ["distributed"]:
    backend.distribute()
    assert keras.distribution.distribution().device_mesh.devices.size == 2
network = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4), keras.layers.Dense(1)])
network.compile(keras.optimizers.Adam(0.1), "mse")
inputs = np.random.default_rng(0).random((32, 8), np.float32)
network.fit(inputs, inputs.sum(axis=1, keepdims=True), batch_size=8, epochs=2, verbose=0)
print(*np.concatenate([weight.ravel() for weight in network.get_weights()]))
"""


@pytest.mark.backends
def test_training_on_two_devices_gives_the_weights_of_one():
    if backend.name() != "jax":
        pytest.skip("only JAX splits a CPU into several virtual devices")
    environment = {
        "KERAS_BACKEND": "jax",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    }
    one, two = (
        run_python(TRAINING, *arguments, **environment) for arguments in ((), ("distributed",))
    )
    assert two.stderr == ""
    np.testing.assert_allclose(
        [float(word) for word in two.stdout.split()],
        [float(word) for word in one.stdout.split()],
        atol=1e-5,
    )

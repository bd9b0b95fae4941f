"""The only module that knows which Keras backend runs: device, precision, compilation.

Call `setup()` before the first `import keras`; a framework reads its environment once, when it
starts. Nothing here imports a framework before a question cannot be answered without it.
"""

import contextlib
import importlib
import importlib.util
import itertools
import logging
import operator
import os
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from shared.errors import ConvsuiteError, DependencyError

if TYPE_CHECKING:
    import numpy as np

Device = Literal["auto", "cpu", "gpu"]
Precision = Literal["auto", "float32", "bfloat16"]

BACKENDS = ("tensorflow", "jax", "torch")
_QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "GLOG_minloglevel": "3",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
}
# TensorFlow leaves oneDNN off on CPUs without AVX-512. With AVX2 alone it made training steps
# 1.1 times (ResNet-20) to 2 times (LeNet-5) faster, MobileNet v2 1.3 times.
_FAST = {"TF_ENABLE_ONEDNN_OPTS": "1"}
_HIDE_GPUS = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "HIP_VISIBLE_DEVICES": "-1",
    "JAX_PLATFORMS": "cpu",
    "KERAS_TORCH_DEVICE": "cpu",
}
_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
_FAST_BFLOAT16 = ("amx_bf16", "avx512_bf16")


class _QuietImport:
    """Import hook: drops what TensorFlow writes to stderr while it starts.

    It reports the absence of CUDA before any of its log levels is in force.
    """

    @staticmethod
    def find_spec(fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return the usual spec of TensorFlow with a silent loader; None for other modules."""
        if fullname != "tensorflow":
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_quietly(module: Any) -> None:
                with silent_stderr():
                    execute(module)

            spec.loader.exec_module = execute_quietly
        return spec


def setup(device: Device = "auto", precision: Precision = "auto") -> None:
    """Choose backend, device and precision for this process.

    Keras itself is imported only where the choice needs it: for bfloat16, for `gpu`, and to look
    at a GPU that the system reports. May be called again to change the precision.

    Args:
        device: `cpu` hides every GPU from the backend; `gpu` fails when there is none.
        precision: `auto` takes what `precision_choice()` says.

    Raises:
        DependencyError: The backend is not installed, or KERAS_BACKEND names none.
        ConvsuiteError: No GPU where one is asked for, or the framework already started on a GPU.
    """
    os.environ["KERAS_BACKEND"] = backend_choice()[0]
    for key, value in (_QUIET | _FAST).items():
        os.environ.setdefault(key, value)
    for logger in ("absl", "tensorflow"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    if _QuietImport not in sys.meta_path:
        sys.meta_path.insert(0, _QuietImport)
    if device == "cpu":
        _hide_gpus()
    elif device == "gpu" and not _accelerators():
        raise ConvsuiteError(
            f"--device gpu: {name()} sees no GPU on this machine; use --device auto or cpu, "
            f"or install the driver and the GPU build of {name()}."
        )
    chosen, _ = precision_choice(precision)
    if chosen != "float32" or _is_keras_imported():
        import keras

        keras.config.set_dtype_policy(_POLICIES[chosen])


def backend_choice() -> tuple[str, str]:
    """Return the backend that runs (or would run) and the reason for it.

    Raises:
        DependencyError: No backend, or not that of KERAS_BACKEND, is installed.
    """
    if "KERAS_BACKEND" in os.environ:
        _check_backend(os.environ["KERAS_BACKEND"])
        return os.environ["KERAS_BACKEND"], "KERAS_BACKEND is set"
    for backend in BACKENDS:
        if importlib.util.find_spec(backend):
            is_default = backend == BACKENDS[0]
            return backend, "the default" if is_default else f"{BACKENDS[0]} is not installed"
    raise DependencyError(
        "No backend for Keras is installed; run `pip install tensorflow` (or jax, or torch)."
    )


def name() -> str:
    """Return `tensorflow`, `jax` or `torch`."""
    if _is_keras_imported():
        return sys.modules["keras"].config.backend()
    return backend_choice()[0]


def precision_choice(precision: Precision = "auto") -> tuple[str, str]:
    """Return `float32` or `bfloat16` and the reason for it.

    bfloat16 means `mixed_bfloat16`: variables stay float32. It pays on GPUs and on CPUs with
    bfloat16 units, and is slower than float32 everywhere else.
    """
    if precision != "auto":
        return precision, "asked for with --precision"
    if _gpus():
        return "bfloat16", "a GPU is in use"
    flags = [flag for flag in _FAST_BFLOAT16 if flag in _cpu_flags()]
    if flags:
        return "bfloat16", f"the CPU reports {flags[0]}"
    return "float32", f"no GPU in use and the CPU reports none of {', '.join(_FAST_BFLOAT16)}"


def _is_keras_imported() -> bool:
    """Return whether Keras has been loaded, not just promised by `lazy_loader`."""
    return type(sys.modules.get("keras")) is types.ModuleType


def precision_in_use() -> str:
    """Return what networks compute in since the last `setup`: `float32` or `bfloat16`."""
    if not _is_keras_imported():  # it is imported for bfloat16
        return "float32"
    import keras

    return keras.config.dtype_policy().compute_dtype


@contextlib.contextmanager
def in_float32() -> Iterator[None]:
    """Let networks that are made inside compute in float32, whatever `setup` chose."""
    import keras

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)


def devices() -> list[str]:
    """Return the devices the backend can use, such as `["cpu:0"]`; imports the backend."""
    import keras

    if name() == "torch":
        torch = importlib.import_module("torch")
        accelerator = importlib.import_module("keras.src.backend.torch.core").get_device()
        kind = accelerator.split(":")[0]
        if kind == "cpu":
            return ["cpu:0"]
        count = torch.cuda.device_count() if kind == "cuda" else 1
        return ["cpu:0", *(f"gpu:{index}" for index in range(count))]
    found = keras.distribution.list_devices()
    return found if found[0].startswith("cpu") else ["cpu:0", *found]


def distribute() -> None:
    """Split the batches of a training over all accelerators, if there are several.

    Keras keeps a copy of the model on each (`keras.distribution.DataParallel`).
    """
    import keras

    if name() == "jax" and len(found := keras.distribution.list_devices()) > 1:
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=found))


def jit_compile() -> bool | str:
    """Return the value for `model.compile(jit_compile=…)`.

    XLA made small networks 1.5 to 3.6 times slower under TensorFlow on CPUs, so it stays off there.
    """
    return False if name() == "tensorflow" and not _gpus() else "auto"


def compiles_each_size() -> bool:
    """Return whether a new length of a batch costs a compilation, so that padding pays."""
    return name() == "jax" or bool(_gpus())


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a forward function for the running backend: NumPy arrays in, NumPy arrays out.

    Every new input shape compiles once more, so callers keep shapes few.

    Args:
        function: A Keras layer or model, or a function of tensors written with `keras.ops`. Under
            JAX a plain function keeps the values its variables have at the first call; layers and
            models always use their present ones.

    Returns:
        A function of the same positional arguments, each an array or a nest of arrays; results
        have the same nesting, with bfloat16 widened to float32. Layers run with `training=False`.
    """
    import keras

    forward = _FORWARD[name()](function, isinstance(function, keras.Layer))

    def run(*inputs: Any) -> Any:
        tensors = keras.tree.map_structure(keras.ops.convert_to_tensor, inputs)
        return keras.tree.map_structure(_to_numpy, forward(*tensors))

    return run


def value_and_grad(function: Callable[..., Any]) -> "Callable[..., tuple[Any, np.ndarray]]":
    """Compile a scalar function together with its gradient in its first argument.

    Args:
        function: Of tensors, written with `keras.ops` and Keras layers; returns a scalar, or a
            scalar and a nest of further tensors. Variables of layers keep the values that they
            have at the first call.

    Returns:
        A function of the same positional arguments, NumPy arrays, that returns what `function`
        does and the gradient, of the shape of the first argument, float32.
    """
    import keras

    differentiate = _GRADIENT[name()](function)

    def run(*inputs: Any) -> "tuple[Any, np.ndarray]":
        tensors = keras.tree.map_structure(keras.ops.convert_to_tensor, inputs)
        return keras.tree.map_structure(_to_numpy, differentiate(*tensors))

    return run


def training_steps(
    model: Any,
) -> Callable[[Sequence[tuple[Any, Any]], Sequence[float]], list[float]]:
    """Return a function that trains a compiled Keras model one step on each of some batches.

    TensorFlow runs all that are equally long in one call, which saves 4 to 7 ms a step; the weights
    afterwards are those of single calls. JAX compiles once more for every new length.

    Returns:
        A function of batches (inputs, targets), and of the learning rate of each step, that returns
        the loss of each step. Batches may differ in length, in other axes they may not.
    """
    return _STEPS[name()](model)


def run_saved_model(folder: Path, inputs: "dict[str, np.ndarray]") -> "list[np.ndarray]":
    """Run the signature `serving_default` of a TensorFlow SavedModel on named inputs."""
    tensorflow = _tensorflow()
    loaded = tensorflow.saved_model.load(str(folder))
    signature = loaded.signatures["serving_default"]
    names = list(signature.structured_input_signature[1])
    tensors = {name: tensorflow.constant(v) for name, v in _rename_inputs(inputs, names).items()}
    return _in_order(signature(**tensors))


def run_litert(file: Path, inputs: "dict[str, np.ndarray]") -> "list[np.ndarray]":
    """Run the default signature of a LiteRT (`.tflite`) file on named inputs."""
    with silent_stderr():
        interpreter = _tensorflow().lite.Interpreter(model_path=str(file))
    signature = interpreter.get_signature_runner()
    names = list(signature.get_input_details())
    with silent_stderr():
        return _in_order(signature(**_rename_inputs(inputs, names)))


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """Silence the process's stderr below Python, where C++ writes."""
    saved = os.dup(2)
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(sink)


def _check_backend(backend: str) -> None:
    if backend not in BACKENDS:
        raise DependencyError(f"KERAS_BACKEND={backend}: choose one of {', '.join(BACKENDS)}.")
    if importlib.util.find_spec(backend) is None:
        raise DependencyError(
            f"KERAS_BACKEND={backend}, but {backend} is not installed; run `pip install {backend}`."
        )


def _hide_gpus() -> None:
    if _is_keras_imported() and _gpus():
        raise ConvsuiteError(
            f"--device cpu: {name()} already runs on a GPU in this process; "
            "start a new process, or call setup() before the first import of keras."
        )
    os.environ.update(_HIDE_GPUS)


def _gpus() -> list[str]:
    """Return the GPUs in use; starts the backend only where the system reports a GPU."""
    return _accelerators() if _reported_gpus() and not _hidden() else []


def _accelerators() -> list[str]:
    return [device for device in devices() if not device.startswith("cpu")]


def _hidden() -> bool:
    return all(os.environ.get(key) == value for key, value in _HIDE_GPUS.items())


def _reported_gpus() -> list[Path]:
    """Return the device files of NVIDIA and AMD GPUs."""
    return [*Path("/dev").glob("nvidia[0-9]*"), *Path("/dev").glob("kfd")]


def _cpu_flags() -> set[str]:
    """Return the CPU's features as Linux reports them; empty on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return set(next((line.split() for line in lines if line.startswith("flags")), []))


def _tensorflow() -> Any:
    try:
        return importlib.import_module("tensorflow")
    except ImportError as error:
        raise DependencyError(
            "This needs TensorFlow, which is not installed; run `pip install tensorflow`."
        ) from error


def _rename_inputs(inputs: "dict[str, np.ndarray]", names: list[str]) -> "dict[str, np.ndarray]":
    """Return the inputs under the names an exported file knows; exporters rename a lone input."""
    if len(inputs) == len(names) == 1:
        return dict(zip(names, inputs.values(), strict=True))
    return {name: inputs[name] for name in names}


def _in_order(outputs: dict[str, Any]) -> "list[np.ndarray]":
    """Sort outputs as Keras flattens them: `output_N` by number, other names alphabetically."""
    import numpy as np

    names = sorted(outputs, key=lambda name: (_output_number(name), name))
    return [np.asarray(outputs[name]) for name in names]


def _output_number(name: str) -> int:
    number = name.removeprefix("output_")
    return int(number) if number.isdecimal() else 0


def _to_numpy(tensor: Any) -> "np.ndarray":
    import keras

    # Before, not after: TensorFlow makes no array of a single number in bfloat16.
    if keras.backend.standardize_dtype(tensor.dtype) == "bfloat16":
        tensor = keras.ops.cast(tensor, "float32")
    return keras.ops.convert_to_numpy(tensor)


def _forward_tensorflow(function: Callable[..., Any], is_layer: bool) -> Callable[..., Any]:
    def call(*tensors: Any) -> Any:
        return function(*tensors, training=False) if is_layer else function(*tensors)

    # Octrees and windows of many sizes: from the second on, one graph serves all.
    jit_compile = True if _gpus() else None
    return _tensorflow().function(call, jit_compile=jit_compile, reduce_retracing=True)


def _forward_jax(function: Any, is_layer: bool) -> Callable[..., Any]:
    jax = importlib.import_module("jax")
    if not is_layer:
        return jax.jit(function)

    @jax.jit
    def stateless(trainable: list, frozen: list, *tensors: Any) -> Any:
        outputs, _ = function.stateless_call(trainable, frozen, *tensors, training=False)
        return outputs

    def call(*tensors: Any) -> Any:
        trainable = [variable.value for variable in function.trainable_variables]
        frozen = [variable.value for variable in function.non_trainable_variables]
        return stateless(trainable, frozen, *tensors)

    return call


def _forward_torch(function: Callable[..., Any], is_layer: bool) -> Callable[..., Any]:
    torch = importlib.import_module("torch")

    def call(*tensors: Any) -> Any:
        with torch.no_grad():
            return function(*tensors, training=False) if is_layer else function(*tensors)

    return call


def _first(result: Any) -> Any:
    return result[0] if isinstance(result, tuple) else result


def _gradient_tensorflow(function: Callable[..., Any]) -> Callable[..., Any]:
    tensorflow = _tensorflow()

    @tensorflow.function(jit_compile=True if _gpus() else None)
    def run(point: Any, *others: Any) -> Any:
        with tensorflow.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(point)
            result = function(point, *others)
        return result, tape.gradient(_first(result), point)

    return run


def _gradient_jax(function: Callable[..., Any]) -> Callable[..., Any]:
    jax = importlib.import_module("jax")

    def scalar_first(*tensors: Any) -> tuple[Any, Any]:
        result = function(*tensors)
        return _first(result), result

    differentiate = jax.jit(jax.grad(scalar_first, has_aux=True))

    def run(*tensors: Any) -> tuple[Any, Any]:
        gradient, result = differentiate(*tensors)
        return result, gradient

    return run


def _gradient_torch(function: Callable[..., Any]) -> Callable[..., Any]:
    torch = importlib.import_module("torch")
    import keras

    def run(point: Any, *others: Any) -> tuple[Any, Any]:
        point = point.detach().requires_grad_()
        with torch.enable_grad():
            result = function(point, *others)
        (gradient,) = torch.autograd.grad(_first(result), point)
        return keras.tree.map_structure(lambda tensor: tensor.detach(), result), gradient

    return run


def _steps_tensorflow(model: Any) -> Callable[..., float]:
    tensorflow = _tensorflow()
    import keras
    import numpy as np

    step = model.train_step
    if model.jit_compile is True or (model.jit_compile == "auto" and _gpus()):
        step = tensorflow.function(step, jit_compile=True)

    def run(stacked: Any, rates: Any) -> Any:
        count = tensorflow.shape(rates)[0]
        losses = tensorflow.TensorArray("float32", count)
        for index in tensorflow.range(count):
            model.reset_metrics()
            model.optimizer.learning_rate = rates[index]
            batch = keras.tree.map_structure(operator.itemgetter(index), stacked)
            losses = losses.write(index, step(batch)["loss"])
        return losses.stack()

    functions: dict[tuple, Any] = {}

    def together(batches: Sequence[tuple[Any, Any]], rates: Sequence[float]) -> list[float]:
        stacked = keras.tree.map_structure(lambda *arrays: np.stack(arrays), *batches)
        key = tuple((array.shape[2:], array.dtype) for array in keras.tree.flatten(stacked))
        if key not in functions:
            # One graph for batches of any length: those of octrees have a new one each time.
            signature = keras.tree.map_structure(
                lambda array: tensorflow.TensorSpec((None, None, *array.shape[2:]), array.dtype),
                stacked,
            )
            functions[key] = tensorflow.function(
                run, input_signature=[signature, tensorflow.TensorSpec([None], "float32")]
            )
        return functions[key](stacked, np.asarray(rates, np.float32)).numpy().tolist()

    def call(batches: Sequence[tuple[Any, Any]], rates: Sequence[float]) -> list[float]:
        def shapes(pair: tuple[tuple[Any, Any], float]) -> tuple:
            return tuple(array.shape for array in keras.tree.flatten(pair[0]))

        groups = itertools.groupby(zip(batches, rates, strict=True), key=shapes)
        return [
            loss for _, pairs in groups for loss in together(*map(list, zip(*pairs, strict=True)))
        ]

    return call


def _steps_singly(model: Any) -> Callable[..., list[float]]:
    def call(batches: Sequence[tuple[Any, Any]], rates: Sequence[float]) -> list[float]:
        losses = []
        for batch, rate in zip(batches, rates, strict=True):
            model.optimizer.learning_rate = rate
            model.reset_metrics()
            losses.append(float(model.train_on_batch(*batch, return_dict=True)["loss"]))
        return losses

    return call


_STEPS = {"tensorflow": _steps_tensorflow, "jax": _steps_singly, "torch": _steps_singly}
_GRADIENT = {
    "tensorflow": _gradient_tensorflow,
    "jax": _gradient_jax,
    "torch": _gradient_torch,
}
_FORWARD = {"tensorflow": _forward_tensorflow, "jax": _forward_jax, "torch": _forward_torch}

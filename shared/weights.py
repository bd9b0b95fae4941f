"""Find, check, load, save and export trained weights.

A weight file `NAME.keras` (a network) or `NAME.cube` (a colour table) has a card `NAME.json` beside
it that says what it is, how it was trained, and which checksum it has. A network is only opened
when its card, its checksum and its contents are in order; nothing in the file is ever executed.
"""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import sys
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import platformdirs

from shared import assets, backend
from shared.console import to_json
from shared.errors import DependencyError, WeightsError

if TYPE_CHECKING:
    import keras
    import numpy as np

Format = Literal["onnx", "litert", "openvino", "saved_model"]

EXPORT_SUFFIXES = {"onnx": ".onnx", "litert": ".tflite", "openvino": ".xml", "saved_model": ""}
EXPORT_TOLERANCE = 1e-4
_WEIGHT_SUFFIXES = {"keras": ".keras", "cube": ".cube"}
_MAX_CARD_BYTES = 1 << 20
_MAX_CONFIG_BYTES = 1 << 24
_MEMBERS = frozenset({"metadata.json", "config.json", "model.weights.h5"})
# What layers keep besides weights, such as a vocabulary.
_ASSET = re.compile(r"assets/layers/[A-Za-z0-9_]+/[A-Za-z0-9_]+\.(?:txt|npz)")
# Layers whose configuration is code, or names a file that holds code.
_CODE_CLASSES = frozenset(
    {"Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}
)
# RuntimeError: encrypted members, unknown compression, JSON nested too deeply.
_ARCHIVE_ERRORS = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a person and a program need to know about one weight file.

    Attributes:
        app: Application the weights belong to.
        name: Name they are found by.
        kind: `keras` (a network) or `cube` (a 3D colour table).
        summary: One line for tables.
        settings: What the application needs to use them.
        training: Data and its licence, command, steps, seconds, machine, seed, precision.
        results: Measured quality; the first entry is the one shown in tables.
        licence: Licence of the weights.
        file: File name beside the card; filled in when the card is written.
        sha256: Checksum of that file; filled in.
        bytes: Size of that file; filled in.
        convsuite: Version that wrote the card; filled in.
    """

    app: str
    name: str
    kind: str = "keras"
    summary: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    licence: str = ""
    file: str = ""
    sha256: str = ""
    bytes: int = 0
    convsuite: str = ""


def user_dir() -> Path:
    """Return the folder of weights that the user imported."""
    return platformdirs.user_data_path("convsuite") / "weights"


def card_files(app: str | None = None) -> list[Path]:
    """Return the card files of all installed weights, shipped ones first."""
    pattern = f"{app or '*'}/*.json"
    return [
        file for root in (assets.weights_dir(), user_dir()) for file in sorted(root.glob(pattern))
    ]


def cards(app: str | None = None) -> list[Card]:
    """Return the readable cards of all installed weights, shipped ones first."""
    found = []
    for file in card_files(app):
        try:
            found.append(read_card(file))
        except WeightsError:
            continue  # `verify` and `convsuite doctor` name it
    return found


def find(app: str, name_or_path: str | Path) -> Path:
    """Return the weight file of an installed name, or the path itself where it is one.

    Raises:
        WeightsError: No such file or name; lists the names that exist.
    """
    path = Path(name_or_path)
    if path.name != str(name_or_path) or path.suffix in _WEIGHT_SUFFIXES.values():
        if path.is_file():
            return path
        raise WeightsError(f"{path}: no such weight file.")
    for file in card_files(app):
        if file.stem == path.name:
            return file.with_name(read_card(file).file)
    names = ", ".join(sorted({file.stem for file in card_files(app)})) or "none"
    raise WeightsError(
        f"No weights of {app} are called {path.name}; installed: {names}. A file can be given, too."
    )


def read_card(path: str | Path) -> Card:
    """Read the card beside a weight file, or a card file itself.

    Raises:
        WeightsError: The card is missing, is not valid, or describes another file.
    """
    file = Path(path).with_suffix(".json")
    try:
        if file.stat().st_size > _MAX_CARD_BYTES:
            raise WeightsError(f"{file}: too large for a card (over {_MAX_CARD_BYTES} bytes).")
        entries = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeightsError(
            f"{path}: its card {file.name} is missing; both files belong together."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{file}: not a readable card ({_first_line(error)}).") from error
    problem = _card_problem(entries)
    if not problem and Path(path).suffix not in (".json", Path(entries["file"]).suffix):
        problem = f"it describes {entries['file']}, not {Path(path).name}"
    if problem:
        raise WeightsError(f"{file}: not a valid card: {problem}.")
    return Card(**entries)


def write_card(path: str | Path, card: Card) -> Card:
    """Write the card of a finished weight file beside it.

    Args:
        path: The weight file.
        card: Its card; file name, size, checksum and version are filled in.

    Returns:
        The card as written.

    Raises:
        WeightsError: The card is not valid, or the card file belongs to another weight file.
    """
    path = Path(path)
    file = path.with_suffix(".json")
    card = dataclasses.replace(
        card, file=path.name, sha256=_sha256(path), bytes=path.stat().st_size, convsuite=_version()
    )
    entries = json.loads(to_json(card))
    problem = _card_problem(entries)
    if problem:
        raise WeightsError(f"{file}: not a valid card: {problem}.")
    others = [path.with_suffix(suffix) for suffix in _WEIGHT_SUFFIXES.values()]
    if file.exists() and any(other.exists() for other in others if other != path):
        raise WeightsError(f"{file}: this card belongs to another weight file; choose a new name.")
    part = file.with_name(f".{file.name}.part")
    part.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
    os.replace(part, file)
    return card


@contextlib.contextmanager
def deep_graphs() -> Iterator[None]:
    """Let Keras walk graphs of more layers than Python's limit of recursion allows.

    It does so by one call a layer when a functional model is made or read: 1,202 are too many.
    """
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, 20_000))
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def load_model(path: str | Path, app: str) -> "keras.Model":
    """Open a network after checking its card, checksum and contents.

    Layers of `shared.layers` are imported as needed; other custom classes must have been imported.
    All are registered under the package `convsuite`.
    Layers saved with a mixed precision follow the precision in force; others keep theirs.

    Args:
        path: A `.keras` file with its card beside it.
        app: Application the weights must belong to.

    Returns:
        The network, not compiled.

    Raises:
        WeightsError: A check failed, or Keras cannot read the file.
    """
    import keras

    path = Path(path)
    card = read_card(path)
    if card.app != app:
        raise WeightsError(f"{path}: these weights belong to {card.app}, not to {app}.")
    if card.kind != "keras":
        raise WeightsError(f"{path}: this is a {card.kind} file, not a network.")
    for problem in _file_problems(path, card):
        raise WeightsError(problem)
    with deep_graphs():
        return _open(path, keras.config.dtype_policy().name)


def save_model(model: "keras.Model", path: str | Path, card: Card) -> Card:
    """Write a network (without its optimizer) and its card; a killed process leaves no half file.

    Args:
        model: The network to save.
        path: Target, `NAME.keras`.
        card: Its card; file name, size, checksum and version are filled in.

    Returns:
        The card as written.

    Raises:
        WeightsError: Wrong suffix, or a card that is not valid.
    """
    path = Path(path)
    if path.suffix != ".keras":
        raise WeightsError(f"{path}: the name of a network's weight file must end in .keras.")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.part.keras")
    _copy(model).save(part)
    os.replace(part, path)
    return write_card(path, card)


def import_weights(path: str | Path) -> Path:
    """Check a weight file and copy it with its card to the user's folder, to be found by name.

    Returns:
        The copy.

    Raises:
        WeightsError: The file has problems, or its name is taken.
    """
    path = Path(path)
    card = read_card(path)
    source = path.with_name(card.file)
    for problem in verify(source):
        raise WeightsError(problem)
    if any(file.stem == source.stem for file in card_files(card.app)):
        raise WeightsError(
            f"{path}: weights called {card.app}/{source.stem} are installed already; "
            "rename the two files (and `file` in the card)."
        )
    target = user_dir() / card.app / source.name
    target.parent.mkdir(parents=True, exist_ok=True)
    for origin in (source, source.with_suffix(".json")):
        part = target.with_name(f".{origin.name}.part")
        shutil.copyfile(origin, part)
        os.replace(part, target.with_name(origin.name))
    return target


def verify(path: str | Path) -> list[str]:
    """Check a weight file (or the one a card names) without opening the network.

    Returns:
        One sentence per problem; empty when all is well.
    """
    path = Path(path)
    try:
        card = read_card(path)
    except WeightsError as error:
        return [str(error)]
    return list(_file_problems(path.with_name(card.file), card))


def export_model(model: "keras.Model", path: str | Path, format: Format) -> float:
    """Export a network in float32, run the exported file, and compare it with the network.

    Args:
        model: The network to export; unknown sides of its inputs are tried with 64 pixels.
        path: Target; `.onnx`, `.tflite`, `.xml` (with a `.bin` beside it), or a new folder.
        format: What to write.

    Returns:
        Largest absolute difference between the outputs of both on the same random input.

    Raises:
        WeightsError: Wrong suffix, failed export, or a difference above `EXPORT_TOLERANCE`.
        DependencyError: A package of the extra `export` is missing.
    """
    path = Path(path)
    if path.suffix != EXPORT_SUFFIXES[format]:
        ending = EXPORT_SUFFIXES[format] or "no suffix (it is a folder)"
        raise WeightsError(f"{path}: an export to {format} needs a name with {ending}.")
    if path.is_dir():
        raise WeightsError(f"{path}: this folder exists already; choose a new name.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".", suffix=".part") as scratch:
        try:
            difference = _export_and_compare(_copy(model, "float32"), Path(scratch, path.name))
        except ImportError as error:
            raise DependencyError(
                f"Export to {format} needs {error.name}; run `pip install 'convsuite[export]'`."
            ) from error
        except Exception as error:
            raise WeightsError(f"{path}: export failed ({_first_line(error)}).") from error
        if not difference <= EXPORT_TOLERANCE:
            raise WeightsError(
                f"{path}: not written, since the exported network differs by {difference:.2g} "
                f"(allowed: {EXPORT_TOLERANCE:g})."
            )
        for made in Path(scratch).iterdir():
            os.replace(made, path.with_name(made.name))
    return difference


def _version() -> str:
    try:
        return importlib.metadata.version("convsuite")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _card_problem(entries: Any) -> str:
    """Return what is wrong with the contents of a card; empty when nothing is."""
    if not isinstance(entries, dict):
        return "it holds no object"
    fields = {entry.name: entry for entry in dataclasses.fields(Card)}
    missing, unknown = fields.keys() - entries.keys(), entries.keys() - fields.keys()
    if missing or unknown:
        both = [*(f"{name} is missing" for name in missing), *(f"{n} is unknown" for n in unknown)]
        return ", ".join(sorted(both))
    for name, entry in fields.items():
        expected = {"str": str, "int": int}.get(getattr(entry.type, "__name__", ""), dict)
        if type(entries[name]) is not expected:
            return f"{name} must be of type {expected.__name__}"
    if entries["kind"] not in _WEIGHT_SUFFIXES:
        return f"kind must be one of {', '.join(_WEIGHT_SUFFIXES)}"
    for name in ("app", "name", "file"):
        if not _SAFE_NAME.fullmatch(entries[name]):
            return f"{name} may hold only letters, digits and . _ -"
    if Path(entries["file"]).suffix != _WEIGHT_SUFFIXES[entries["kind"]]:
        return f"file must end in {_WEIGHT_SUFFIXES[entries['kind']]}"
    return ""


def _file_problems(path: Path, card: Card) -> Iterator[str]:
    if not path.is_file():
        yield f"{path}: the weight file is missing; its card is there."
    elif path.stat().st_size != card.bytes or _sha256(path) != card.sha256:
        yield f"{path}: checksum differs from its card; the file is damaged or was replaced."
    elif card.kind == "keras":
        try:
            _read_config(path)
        except WeightsError as error:
            yield str(error)


def _read_config(path: Path) -> dict[str, Any]:
    """Return a network's configuration after checking that the archive holds nothing hostile."""
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(path, archive)
            config = json.loads(archive.read("config.json"))
    except _ARCHIVE_ERRORS as error:
        raise WeightsError(f"{path}: not a readable .keras file ({_first_line(error)}).") from error
    if not isinstance(config, dict):
        raise WeightsError(f"{path}: not a .keras file: its config.json describes no network.")
    for entry in _objects(config):
        _check_object(path, entry)
    return config


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    names = [member.filename for member in members if not _ASSET.fullmatch(member.filename)]
    if sorted(names) != sorted(_MEMBERS):
        raise WeightsError(
            f"{path}: not a .keras file: it must hold exactly {', '.join(sorted(_MEMBERS))}."
        )
    # Keras stores members uncompressed, so honest sizes never add up to more than the file.
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise WeightsError(f"{path}: its members unpack to more than the file holds; refused.")
    if archive.getinfo("config.json").file_size > _MAX_CONFIG_BYTES:
        raise WeightsError(f"{path}: its config.json is over {_MAX_CONFIG_BYTES} bytes; refused.")


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    """Yield every object description inside a Keras configuration."""
    pending = [config]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            if "class_name" in value:
                yield value
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)


def _check_object(path: Path, entry: dict[str, Any]) -> None:
    if str(entry["class_name"]) in _CODE_CLASSES:
        raise WeightsError(f"{path}: it holds a {entry['class_name']}, which runs code; refused.")
    module = entry.get("module")
    is_ours = str(entry.get("registered_name")).startswith("convsuite>")
    is_keras = module in (None, "builtins", "keras") or str(module).startswith("keras.")
    if not (is_ours or is_keras):
        raise WeightsError(f"{path}: it asks for code from the module {module}; refused.")


def _open(path: Path, policy: str | None = None) -> "keras.Model":
    """Open a checked archive; mixed precision policies in it become `policy` where one is given."""
    import keras

    config = _read_config(path)
    _register_layers(config)
    try:
        with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
            # Keras only warns when it leaves layers with random weights.
            warnings.filterwarnings("error", message="Skipping")
            if policy is not None and _replace_mixed_policies(config, policy):
                changed = Path(scratch, path.name)
                _copy_with_config(path, changed, config)
                return keras.saving.load_model(changed, compile=False, safe_mode=True)
            return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # whatever a hostile or foreign file makes Keras raise
        raise WeightsError(f"{path}: Keras cannot load it ({_first_line(error)}).") from error


def _register_layers(config: dict[str, Any]) -> None:
    """Import those of our own layers that a network holds; Keras finds classes once imported."""
    from shared import layers

    for entry in _objects(config):
        package, _, name = str(entry.get("registered_name")).partition(">")
        if package == "convsuite" and name in layers.__all__:
            getattr(layers, name)


def _replace_mixed_policies(config: dict[str, Any], policy: str) -> bool:
    changed = False
    for entry in _objects(config):
        settings = entry.get("config")
        if entry["class_name"] == "DTypePolicy" and isinstance(settings, dict):
            name = str(settings.get("name"))
            if name.startswith("mixed_") and name != policy:
                settings["name"] = policy
                changed = True
    return changed


def _copy_with_config(source: Path, target: Path, config: dict[str, Any]) -> None:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = json.dumps(config).encode() if name == "config.json" else old.read(name)
            new.writestr(name, content)


def _copy(model: "keras.Model", policy: str | None = None) -> "keras.Model":
    """Return a copy without optimizer; mixed precision becomes `policy` where one is given."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "model.keras")
        model.save(file)
        return _open(file, policy)


def _export_and_compare(model: "keras.Model", path: Path) -> float:
    """Export to a scratch path, and return the largest deviation of the exported file."""
    import keras

    format = next(name for name, suffix in EXPORT_SUFFIXES.items() if suffix == path.suffix)
    keras_format = "tf_saved_model" if format == "saved_model" else format
    inputs = _random_inputs(model)
    structure = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    tensors = keras.tree.pack_sequence_as(structure, list(inputs.values()))
    expected = keras.tree.flatten(backend.compiled(model)(tensors))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.export(str(path), format=keras_format, verbose=False)
        found = _RUNNERS[format](path, inputs)
    return max(_deviation(a, b) for a, b in zip(expected, found, strict=True))


def _random_inputs(model: "keras.Model") -> "dict[str, np.ndarray]":
    import numpy as np

    random = np.random.default_rng(0)
    inputs = {}
    for tensor in model.inputs:
        shape = (1, *(64 if side is None else side for side in tensor.shape[1:]))
        if "int" in tensor.dtype:
            inputs[tensor.name] = random.integers(0, 2, shape).astype(tensor.dtype)
        else:
            inputs[tensor.name] = random.random(shape).astype(tensor.dtype)
    return inputs


def _deviation(expected: "np.ndarray", found: "np.ndarray") -> float:
    if expected.shape != found.shape:
        return float("inf")
    return float(abs(expected.astype("float64") - found).max())


def _run_onnx(path: Path, inputs: "dict[str, np.ndarray]") -> "list[np.ndarray]":
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def _run_openvino(path: Path, inputs: "dict[str, np.ndarray]") -> "list[np.ndarray]":
    import openvino

    network = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = network(inputs)
    return [results[output] for output in network.outputs]


_RUNNERS: dict[str, Callable[[Path, dict[str, Any]], list[Any]]] = {
    "onnx": _run_onnx,
    "openvino": _run_openvino,
    "litert": backend.run_litert,
    "saved_model": backend.run_saved_model,
}

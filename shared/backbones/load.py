"""Weights into a network: shipped ones, those of Keras, and files of other programs."""

import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from shared import assets, backend, checkpoints
from shared import weights as store
from shared.errors import ConvsuiteError, WeightsError, reason

from . import names
from .macs import abstract
from .registry import create
from .registry import spec as find_spec
from .specs import APP, Spec

if TYPE_CHECKING:
    import keras

Layout = Literal["keras", "torch"]

_LAYOUTS: dict[str, Layout] = {"torch": "torch", "safetensors": "torch", "caffe": "torch"}
_PROGRAMS = {"torch": "torchvision and timm", "caffe": "Caffe"}
_ROWS_SHOWN = 10
_IGNORED = frozenset({"num_batches_tracked"})
_ROLES = {"weight": "kernel", "bias": "bias"}
_NORM_ROLES = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
_HASH_DECIMALS = 3
# Layers that turn logits into what a network returns.
_SQUASHING = ("probs", "edges")


class _Slot(NamedTuple):
    """A variable of a network.

    Attributes:
        role: Its name, such as `kernel`.
        shape: Its shape.
        kind: Class of its layer.
        flattened: Height, width, channels of the map that a dense layer sees flattened.
        variable: The variable.
    """

    role: str
    shape: tuple[int, ...]
    kind: str
    flattened: tuple[int, ...] | None
    variable: "keras.Variable"


class _Row(NamedTuple):
    """A line of the two tables: a variable of ours, an array of theirs."""

    ours: str
    our_shape: tuple[int, ...] | None
    variable: "keras.Variable | None"
    theirs: str
    their_shape: tuple[int, ...] | None
    array: np.ndarray | None


Layers = dict[str, list[_Slot]]
Arrays = dict[str, dict[str, np.ndarray]]
# By our name of a layer: their name of it, and its arrays.
Theirs = dict[str, tuple[str, dict[str, np.ndarray]]]


def load_into(model: "keras.Model", spec: Spec, weights: str | Path) -> None:
    """Fill a network with trained weights.

    Args:
        model: A network made by `create`, whole or cut.
        spec: What it was made from.
        weights: `shipped` (trained by this project), `imagenet` (the download of
            `keras.applications`), a file, or the name of weights that were imported.

    Raises:
        WeightsError: They cannot be found, are damaged, or do not fit; then both tables are shown.
    """
    if weights == "imagenet":
        _copy_twin(model, spec)
        return
    path = shipped_file(spec) if weights == "shipped" else weight_file(weights)
    if path.suffix == ".keras" and path.with_suffix(".json").is_file():
        network = store.read_card(path).settings.get("network", spec.name)
        if network != spec.name:
            raise WeightsError(f"{path}: these are weights of {network}, not of {spec.name}.")
        arrays = _by_layer(_arrays_of(store.load_model(path, APP)))
        _fill(model, spec, arrays, str(path))
    else:
        load_file(model, spec, path)


def load_file(
    model: "keras.Model",
    spec: Spec,
    path: str | Path,
    *,
    layout: Layout | None = None,
    bgr: bool = False,
) -> None:
    """Fill a network from a file of another program.

    Args:
        model: A network made by `create`, whole or cut.
        spec: What it was made from.
        path: Any file that `shared.checkpoints` reads.
        layout: Order of the axes, `torch` (out, in, height, width; also Caffe's) or `keras`
            (height, width, in, out); by default what the format usually has.
        bgr: The file's network sees blue first where ours sees red first, or the reverse: turn the
            input channels of the first convolution round.

    Raises:
        WeightsError: Not readable, NaN, of a program whose network differs here, or does not fit;
            then both tables are shown.
    """
    kind = checkpoints.detect(path)
    layout = layout or _LAYOUTS.get(kind, "keras")
    found = checkpoints.read(path)
    _check_program(spec, path, kind, found)
    if kind == "caffe" and spec.family == "alexnet":
        _check_order(model, path)
    arrays = _by_layer(found)
    if layout == "torch":
        arrays = _in_keras_terms(arrays)
    _fill(model, spec, arrays, str(path), layout)
    if bgr:
        import keras

        kernel = next(v for v in model.weights if len(v.shape) == 4)
        kernel.assign(keras.ops.flip(kernel.value, axis=2))


def import_weights(
    file: str | Path,
    name: str,
    *,
    classes: int | None = None,
    out: str | Path | None = None,
    layout: Layout | None = None,
    bgr: bool = False,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    variant: Mapping[str, Any] | None = None,
) -> Path:
    """Turn a weight file of another program into a `.keras` file with a card.

    A fixed noise picture is then run through the network, and a hash of its logits stands in the
    card, so that two machines can be compared.

    Args:
        file: Any file that `shared.checkpoints` reads.
        name: The network it belongs to.
        classes: Classes of its classifier; the published number by default.
        out: The file to write; `NAME.keras` in the user's folder by default.
        layout: As for `load_file`.
        bgr: As for `load_file`.
        mean: Mean of the pictures it was trained on, on values of 0..1, one number or one per
            channel; for networks of the kind `unit`.
        std: Their standard deviation, likewise.
        variant: Arguments of the constructor that differ from those of the network, such as
            `alpha` of MobileNets; `trunk` builds it with them again.

    Returns:
        The file written.

    Raises:
        ConvsuiteError: Unknown network or variant, or a mean or deviation that does not belong.
        WeightsError: Not readable, does not fit, the target exists, or weights of this name are
            shipped.
    """
    entry = find_spec(name)
    if out is None and (assets.weights_dir() / APP / f"{name}.keras").is_file():
        raise WeightsError(
            f"{name}: convsuite ships weights of this name, which would stand before these; "
            "name another file with --out, and give it to the tools with --weights."
        )
    target = Path(out) if out is not None else store.user_dir() / APP / f"{name}.keras"
    if target.exists():
        raise WeightsError(f"{target}: this file exists already; choose another with --out.")
    moments = _moments(entry, mean, std)
    model = create(name, classes=classes, **(variant or {}))
    load_file(model, entry, file, layout=layout, bgr=bgr)
    settings = {
        "network": name,
        "classes": model.output_shape[-1],
        "imported": fingerprint(model),
        **moments,
        **({"variant": dict(variant)} if variant else {}),
    }
    with Path(file).open("rb") as stream:
        checksum = hashlib.file_digest(stream, "sha256").hexdigest()
    card = store.Card(
        app=APP,
        name=target.stem,
        summary=f"{name}, imported from {Path(file).name}",
        settings=settings,
        training={"imported from": Path(file).name, "sha256": checksum},
        licence="that of the file it was imported from",
    )
    store.save_model(model, target, card)
    return target


def _moments(
    spec: Spec, mean: Sequence[float] | None, std: Sequence[float] | None
) -> dict[str, list[float]]:
    """Return mean and deviation as cards hold them, checked; nothing where none is given."""
    if mean is None and std is None:
        return {}
    if spec.preprocessing != "unit":
        raise ConvsuiteError(
            f"{spec.name} has the fixed preprocessing `{spec.preprocessing}`; "
            "leave out mean and std."
        )
    for numbers in (mean, std):
        if numbers is None or len(numbers) not in (1, spec.channels):
            raise ConvsuiteError(
                f"{spec.name} takes a mean and a deviation, each of one number or {spec.channels}."
            )
    if min(std) <= 0:
        raise ConvsuiteError(f"{spec.name}: a deviation must be above 0, not {min(std):g}.")
    return {"mean": list(mean), "std": list(std)}


def fingerprint(model: "keras.Model") -> dict[str, Any]:
    """Return what a network makes of a fixed noise picture.

    Returns:
        `sha256` of the logits rounded to three decimals, and the first eight `logits` themselves:
        processors differ in the last digits, and rounding does not always hide it.
    """
    import keras

    _, height, width, channels = model.input_shape
    noise = np.random.default_rng(0).uniform(-1, 1, (1, height or 64, width or 64, channels))
    ends = [layer.input for layer in model.layers if layer.name in _SQUASHING]
    run = backend.compiled(keras.Model(model.inputs, ends[-1] if ends else model.output))
    logits = run(noise.astype(np.float32)).reshape(-1)
    rounded = np.round(logits.astype(np.float64), _HASH_DECIMALS) + 0.0  # no negative zeros
    digest = hashlib.sha256(rounded.astype("<f4").tobytes()).hexdigest()
    return {"sha256": digest, "logits": [float(f"{value:.6g}") for value in logits[:8]]}


def shipped_file(spec: Spec) -> Path:
    """Return the weights of a network that this project trained.

    Raises:
        WeightsError: There are none.
    """
    path = assets.weights_dir() / APP / f"{spec.name}.keras"
    if not path.is_file():
        raise WeightsError(
            f"{spec.name}: this project ships no weights of it; give a file, or train it."
        )
    return path


def weight_file(weights: str | Path) -> Path:
    """Return a weight file given by its path or by the name it was imported under.

    Raises:
        WeightsError: There is none; names those that are installed.
    """
    return Path(weights) if Path(weights).is_file() else store.find(APP, weights)


def _copy_twin(model: "keras.Model", spec: Spec) -> None:
    """Copy the weights of the same network in `keras.applications`, which downloads them."""
    import keras

    if not spec.twin:
        raise WeightsError(f"{spec.name}: keras.applications offers no weights of it; give a file.")
    without_top = _layers(abstract(create, spec.name, top=False))
    include_top = not _layers(model).keys() <= without_top.keys()
    try:
        twin = getattr(keras.applications, spec.twin)(weights="imagenet", include_top=include_top)
    except Exception as error:  # Keras raises bare exceptions when a download fails
        raise WeightsError(
            f"{spec.name}: the weights of keras.applications cannot be downloaded "
            f"({reason(error)[:200]}); connect once to the network, or give a file."
        ) from error
    _fill(model, spec, _by_layer(_arrays_of(twin)), f"keras.applications.{spec.twin}")


def _arrays_of(model: "keras.Model") -> dict[str, np.ndarray]:
    """Return the arrays of a network by `layer/number`."""
    import keras

    return {
        f"{layer.name}/{i}": keras.ops.convert_to_numpy(variable.value)
        for layer in model.layers
        for i, variable in enumerate(layer.weights)
    }


def _check_program(spec: Spec, path: str | Path, kind: str, arrays: Iterable[str]) -> None:
    """Refuse files that fit, but would give wrong answers; see `Spec.elsewhere`."""
    program = "caffe" if kind == "caffe" else "torch"
    # Only torch calls a kernel so and joins names with dots, whatever kept its arrays.
    is_known = kind in ("caffe", "torch") or any(name.endswith(".weight") for name in arrays)
    if is_known and program in spec.elsewhere:
        other = spec.elsewhere[program]
        raise WeightsError(
            f"{path}: networks of {_PROGRAMS[program]} have the arrays of {spec.name}, but other "
            "borders, constants or colours; "
            + (f"load it into {other}." if other else "convsuite has no network for this file.")
        )


def _check_order(model: "keras.Model", path: str | Path) -> None:
    """Refuse a Caffe file whose pools and normalisations stand in another order than ours.

    They have no weights: AlexNet and CaffeNet differ in nothing else.
    """
    ours = [layer.name for layer in model.layers]
    theirs = [name for name in checkpoints.layer_names(path) if name in ours]
    if theirs != sorted(theirs, key=ours.index):
        raise WeightsError(
            f"{path}: its pools and normalisations stand in another order than those of "
            f"{model.name}; it belongs into the other of alexnet_caffe and caffenet."
        )


def _layers(model: "keras.Model") -> Layers:
    """Return the variables of every layer that has some, in the order of computation."""
    return {
        layer.name: [
            _Slot(v.name, tuple(v.shape), type(layer).__name__, _flattened(layer), v)
            for v in layer.weights
        ]
        for layer in model.layers
        if layer.weights
    }


def _flattened(layer: "keras.Layer") -> tuple[int, ...] | None:
    """Return height, width, channels of the map that a dense layer sees flattened, if it does."""
    if type(layer).__name__ != "Dense":
        return None
    before = layer.input._keras_history.operation
    while type(before).__name__ in ("Dropout", "Activation"):
        before = before.input._keras_history.operation
    if type(before).__name__ != "Flatten" or len(before.input.shape) != 4:
        return None
    return tuple(before.input.shape[1:])


def _by_layer(arrays: dict[str, np.ndarray]) -> Arrays:
    """Group arrays of the names `layer/variable` or `layer.variable`, in their order."""
    found: Arrays = {}
    for name, array in arrays.items():
        layer, _, role = name.rpartition("/" if "/" in name else ".")
        if role not in _IGNORED:
            found.setdefault(layer, {})[role] = array
    return found


def _in_keras_terms(arrays: Arrays) -> Arrays:
    """Rename the variables of torch and Caffe.

    Caffe stores sums and a count instead of means, and scales in a layer behind the normalisation.
    """
    found: Arrays = {}
    norm = None
    for layer, group in arrays.items():
        if "factor" in group:
            factor = float(group["factor"].reshape(-1)[0])
            share = 1 / factor if factor else 0.0
            found[layer] = {f"moving_{r}": group[r] * share for r in ("mean", "variance")}
            norm = layer
        elif norm is not None and group.keys() <= {"gamma", "beta"}:
            found[norm] = {**group, **found[norm]}
            norm = None
        else:
            roles = _NORM_ROLES if "running_mean" in group else _ROLES
            found[layer] = {roles.get(role, role): array for role, array in group.items()}
            norm = None
    return found


def _fill(
    model: "keras.Model", spec: Spec, arrays: Arrays, source: str, layout: Layout = "keras"
) -> None:
    """Find the array of every variable, check all of them, then assign them."""
    mine = _layers(model)
    theirs = _renamed(arrays, spec, mine)
    target, is_chain = mine, _is_chain(model)
    if theirs.keys() != mine.keys():
        whole = abstract(create, spec.name)
        complete = _layers(whole)
        if mine.keys() < complete.keys():  # the model is cut, and the file is not, or elsewhere
            target = {name: mine.get(name, slots) for name, slots in complete.items()}
            is_chain = _is_chain(whole)
    rows = [
        row
        for name, other in _pairs(target, theirs, is_chain)
        for row in _rows(name, target.get(name, []), *theirs.get(other, ("", {})), layout)
    ]
    # What stands behind the cut of a model need not fit: its classifier may have other classes.
    rows = [row for row in rows if not row.ours or row.ours.rpartition("/")[0] in mine]
    wrong = [row for row in rows if row.our_shape != row.their_shape]
    if wrong:
        raise WeightsError(_tables(f"{source} does not fit {spec.name}", wrong, len(rows)))
    for row in rows:
        if not np.isfinite(row.array).all():
            raise WeightsError(f"{source}: {row.theirs} holds numbers that are not finite.")
    for row in rows:
        row.variable.assign(row.array)


def _renamed(arrays: Arrays, spec: Spec, mine: Layers) -> Theirs:
    """Return their layers by our names, in their order, without heads that only help training."""
    found: Theirs = {}
    ours = names.translator(spec)
    for layer, group in arrays.items():
        name, _, role = ours(layer).partition("/")
        if role:  # a part of a layer
            group = {role if one == "kernel" else one: array for one, array in group.items()}
        if role and name in found and not found[name][1].keys() & group.keys():
            group = {**found[name][1], **group}
        elif name in found:
            raise WeightsError(
                f"The weights of {spec.name} hold two layers for {name}: "
                f"{found[name][0]} and {layer}."
            )
        if name in mine or not names.TRAINING_ONLY.fullmatch(layer):
            found[name] = (layer, group)
    return found


def _pairs(target: Layers, theirs: Theirs, is_chain: bool) -> list[tuple[str, str]]:
    """Pair layers of a network with those of a file; an empty name has no partner.

    By name. Order counts only among layers whose names tell nothing, and only if all of them find
    a partner: those that Keras named after their class, within each class; numbers of torch, in a
    chain of layers without branches, whose order in the file might be another one.
    """
    pairs = [(name, name) for name in target if name in theirs]
    ours = [name for name in target if name not in theirs]
    others = [name for name in theirs if name not in target]
    kinds = {names.automatic(name) for name in others}
    if is_chain and kinds == {""} and len(ours) == len(others):
        return [*pairs, *zip(ours, others, strict=True)]
    if None not in kinds and "" not in kinds:
        for kind in kinds:
            mine = [name for name in ours if target[name][0].kind == kind]
            same = [name for name in others if names.automatic(name) == kind]
            if len(mine) == len(same):
                pairs += zip(mine, same, strict=True)
    partners = dict(pairs)
    alone = [name for name in others if name not in partners.values()]
    return [
        *pairs,
        # One of each in turn, so that the first rows of an error show both.
        *(
            pair
            for name, other in itertools.zip_longest(
                (name for name in ours if name not in partners), alone
            )
            for pair in ((name, ""), ("", other))
            if any(pair)
        ),
    ]


def _is_chain(model: "keras.Model") -> bool:
    """Whether every layer of a network reads one map."""
    reads = (layer.input for layer in model.layers)
    return not any(isinstance(maps, list) and len(maps) > 1 for maps in reads)


def _rows(
    name: str, slots: list[_Slot], their_layer: str, group: dict[str, np.ndarray], layout: Layout
) -> Iterator[_Row]:
    """Yield the variables of a layer beside their arrays: by name if all are known, or in order."""
    roles = [slot.role for slot in slots]
    is_named = group.keys() <= set(roles)
    order = [role if role in group else None for role in roles] if is_named else list(group)
    for slot, role in itertools.zip_longest(slots, order):
        array = None if role is None else group[role]
        if slot is not None and array is not None and layout == "torch":
            array = _transposed(array, slot)
        yield _Row(
            f"{name}/{slot.role}" if slot else "",
            slot.shape if slot else None,
            slot.variable if slot else None,
            f"{their_layer}/{role}".lstrip("/") if role is not None else "",
            array.shape if array is not None else None,
            array,
        )


def _transposed(array: np.ndarray, slot: _Slot) -> np.ndarray:
    """Bring a kernel from torch's order of axes (out, in, height, width) to Keras'."""
    if array.ndim == 4 and slot.kind == "Dense":
        array = array.reshape(len(array), -1)  # a dense layer written as a convolution
    if array.ndim == 2 and slot.kind == "Conv2D":
        array = array[:, :, None, None]  # and the reverse
    if array.ndim == 4:
        out, per_group, height, width = array.shape
        is_depthwise = slot.kind == "DepthwiseConv2D" or slot.role == "depthwise_kernel"
        if is_depthwise and per_group == 1 and out % slot.shape[2] == 0:
            return array.reshape(slot.shape[2], -1, height, width).transpose(2, 3, 0, 1)
        return array.transpose(2, 3, 1, 0)
    if array.ndim != 2:
        return array
    if slot.flattened and math.prod(slot.flattened) == array.shape[1]:
        # Keras flattens height, width, channels; torch and Caffe channels, height, width.
        height, width, channels = slot.flattened
        array = array.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
    return array.reshape(len(array), -1).T


def _tables(reason: str, wrong: list[_Row], count: int) -> str:
    """Return the error text: one sentence, and the first rows of both tables if several differ."""
    if len(wrong) == 1:
        (row,) = wrong
        if not row.theirs:
            return f"{reason}: it has no array for {row.ours} ({_shape(row.our_shape)})."
        wanted = _shape(row.our_shape) if row.ours else "nothing of this name"
        return f"{reason}: its {row.theirs} is {_shape(row.their_shape)}, wanted is {wanted}."
    rows = [
        (row.ours or "-", _shape(row.our_shape), row.theirs or "-", _shape(row.their_shape))
        for row in wrong[:_ROWS_SHOWN]
    ]
    table = [("ours", "shape", "theirs", "shape"), *rows]
    widths = [max(len(line[i]) for line in table) for i in range(4)]
    lines = [
        "  ".join(f"{cell:{w}}" for cell, w in zip(line, widths, strict=True)) for line in table
    ]
    more = [f"… and {len(wrong) - len(rows)} more"] if len(wrong) > len(rows) else []
    text = "\n".join(f"  {line.rstrip()}" for line in (*lines, *more))
    return f"{reason}: {len(wrong)} of {count} arrays differ (shapes in Keras' order).\n{text}"


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else " x ".join(map(str, shape)) or "number"

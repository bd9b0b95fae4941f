"""The list of all networks, and how to make one."""

import difflib
import fnmatch
import inspect
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from shared.errors import ConvsuiteError

from .specs import Spec, Tap

if TYPE_CHECKING:
    import keras

_FAMILIES = (
    "early",
    "highway",
    "alexnet",
    "nin",
    "vgg",
    "googlenet",
    "squeezenet",
    "inception",
    "inception_resnet",
    "xception",
    "nasnet",
    "resnet",
    "resnext",
    "wide",
    "densenet",
    "mobilenet",
    "efficientnet",
    "hed",
)


@cache
def _specs() -> dict[str, Spec]:
    from importlib import import_module

    modules = (import_module(f"shared.backbones.{family}") for family in _FAMILIES)
    return {spec.name: spec for module in modules for spec in module.SPECS}


def list_networks(pattern: str = "*") -> list[str]:
    """Return the names of the networks that match a shell pattern, in the order of history."""
    return [name for name in _specs() if fnmatch.fnmatchcase(name, pattern)]


def spec(name: str) -> Spec:
    """Return what is known about a network; imports no framework.

    Raises:
        ConvsuiteError: There is none of this name; names the nearest three.
    """
    try:
        return _specs()[name]
    except KeyError:
        near = difflib.get_close_matches(name, _specs(), 3, 0) or list_networks()[:3]
        raise ConvsuiteError(
            f"No network is called {name}; the nearest names are {', '.join(near)}."
        ) from None


def tap(name: str, tap_name: str) -> Tap:
    """Return a tap of a network, by its name or by that of the layer it comes from.

    Layers are called as in `keras.applications` where the network has a twin there, so that its
    names (`block3_conv1`, `conv4_block6_out`) will do.

    Raises:
        ConvsuiteError: The network has no such tap; names those that it has.
    """
    taps = {entry.name: entry for entry in spec(name).taps}
    found = taps.get(tap_name) or taps.get(_layer_taps(name).get(tap_name, ""))
    if found is None:
        near = difflib.get_close_matches(tap_name, taps, 5, 0)
        raise ConvsuiteError(
            f"{name} has no tap {tap_name}; the nearest are {', '.join(near)} "
            f"(all: `convsuite backbones summary {name}`)."
        )
    return found


@cache
def _layer_taps(name: str) -> dict[str, str]:
    """Return the taps of a network by the layers they come from; builds it without its weights."""
    from .macs import abstract

    entry = spec(name)
    names = [tap.name for tap in entry.taps]
    model = abstract(
        create, name, input_shape=(entry.size, entry.size, entry.channels), features=names
    )
    found: dict[str, str] = {}
    for tap_name, tensor in zip(names, model.outputs, strict=True):
        layer = tensor._keras_history.operation
        found.setdefault(layer.name, tap_name)
        if type(layer).__name__ == "Dropout":  # which changes nothing here, and Keras lacks
            found.setdefault(layer.input._keras_history.operation.name, tap_name)
    if "predictions" in found:  # in Keras this layer has its softmax inside
        found["predictions"] = names[-1]
    return found


def create(
    name: str,
    classes: int | None = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    features: Sequence[str] | None = None,
    weights: str | Path | None = None,
    top: bool = True,
    pooling: Literal["avg", "max"] | None = None,
    **variant: Any,
) -> "keras.Model":
    """Build a network.

    Args:
        name: Its name, see `list_networks`.
        classes: Classes of its classifier; the published number by default.
        input_shape: `(height, width, channels)`; the published size by default with a classifier,
            `(None, None, channels)` without one.
        features: Taps to return instead of the classification. The network ends behind the last.
        weights: None (random), a file, `shipped` (trained by this project), or `imagenet` (the
            download of `keras.applications`, where the network has a twin there).
        top: Keep the classifier; otherwise the output is the map in front of it.
        pooling: Without a classifier, reduce that map to a vector.
        **variant: Replaces arguments of the constructor.

    Returns:
        A functional model, `(batch, height, width, channels)` in, probabilities out; with
        several `features` a list of one output per tap, in that order.

    Raises:
        ConvsuiteError: Unknown name or tap, an input below the minimal size or of unknown size
            where the size decides on the weights, classes below 1, or a variant the family does
            not know.
        WeightsError: The weights cannot be found or do not fit.
    """
    import keras

    entry = spec(name)
    classes = entry.classes if classes is None else classes
    if classes < 1:
        raise ConvsuiteError(f"{name}: classes must be 1 or more, not {classes}.")
    wanted = [tap(name, feature).name for feature in features or ()]
    last = {entry.taps[-1].name} if top else {entry.body}
    behind = entry.fixed_size and any(tap(name, feature).stride == 0 for feature in wanted)
    shape = _input_shape(entry, input_shape, behind or (top and not wanted))
    inputs = keras.Input(shape, name="input")
    found = _build(entry, inputs, classes, set(wanted) or last, variant)
    outputs: Any = [found[feature] for feature in wanted]
    if not wanted:
        outputs = found[last.pop()]
        if pooling and not top:
            layer = {"avg": "GlobalAveragePooling2D", "max": "GlobalMaxPooling2D"}[pooling]
            outputs = getattr(keras.layers, layer)(name=f"{pooling}_pool")(outputs)
    model = functional(inputs, outputs, name)
    if weights is not None:
        from .load import load_into

        load_into(model, entry, weights)
    return model


def functional(inputs: Any, outputs: Any, name: str) -> "keras.Model":
    """Make a functional model, of more layers than Python's limit allows where need be."""
    import keras

    from shared.weights import deep_graphs

    with deep_graphs():
        return keras.Model(inputs, outputs, name=name)


def _build(entry: Spec, inputs: Any, classes: int, wanted: set[str], variant: dict) -> dict:
    """Run a constructor until all wanted taps have passed by."""
    known = set(inspect.signature(entry.build).parameters) - {"x", "classes", "gates"}
    unknown = variant.keys() - known
    if unknown:
        raise ConvsuiteError(f"{entry.name} has no variant called {', '.join(sorted(unknown))}.")
    found = {}
    for tap_name, tensor in entry.build(inputs, classes, **{**entry.variant, **variant}):
        if tap_name in wanted:
            found[tap_name] = tensor
            if len(found) == len(wanted):
                break
    return found


def _input_shape(entry: Spec, shape: Any, with_top: bool) -> tuple:
    if shape is None:
        side = entry.size if with_top or entry.minimum == entry.size else None
        return (side, side, entry.channels)
    height, width, channels = shape
    for side in (height, width):
        if side is not None and side < entry.minimum:
            raise ConvsuiteError(
                f"{entry.name} needs pictures of at least {entry.minimum} x {entry.minimum} "
                f"pixels, not {height} x {width}."
            )
    if channels < 1:
        raise ConvsuiteError(f"{entry.name}: a picture has 1 channel or more, not {channels}.")
    if None in (height, width) and (entry.minimum == entry.size or (with_top and entry.fixed_size)):
        raise ConvsuiteError(
            f"{entry.name} needs pictures of a known size here, such as {entry.size} x "
            f"{entry.size}: a layer of it has weights for every place."
        )
    return (height, width, channels)

"""Speed of the networks beside peers and beside their own counts, each table from one run.

Times are CPU milliseconds of this process, all threads together, per picture. Methods take turns
and ratios are medians over the turns: what else the machine does touches all of them alike, so
ratios carry over from machine to machine where times do not.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from shared import backend, layers
from shared.timing import ratio, turns

from .macs import layer_table
from .registry import create, spec

TWINS = ("resnet50_keras", "vgg16", "mobilenet_v1")
TAPS: Mapping[str, Sequence[str]] = {
    "resnet50": ("stem", "stage1", "stage2", "stage3", "stage4"),
    "vgg16": ("conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3"),
    "mobilenet_v1": ("stem", "stage1", "stage2", "stage3", "stage4"),
}
# Side and channels of 3x3 convolutions, and their groups.
RESNEXT = ((56, 128, 32), (28, 256, 32), (14, 512, 32), (7, 1024, 32))
DEPTHWISE = ((112, 32, 32), (56, 128, 128), (28, 256, 256), (14, 512, 512), (7, 1024, 1024))
GROUPED_NETWORKS = ("resnext50_32x4d", "alexnet")


def twins(
    networks: Sequence[str] = TWINS, *, side: int | None = None, batch: int = 4, repeats: int = 15
) -> list[dict[str, Any]]:
    """Compare networks with `keras.applications`, with the same random weights.

    Args:
        networks: Names of networks with a twin.
        side: Of the pictures; the published size by default.
        batch: Pictures per call.
        repeats: Turns.

    Returns:
        One row per network; `speed` is ours divided by the twin's, `difference` the largest of the
        logits, relative to the largest logit.
    """
    rows = []
    for name in networks:
        entry, pictures = spec(name), _pictures(name, side, batch)
        build = getattr(keras.applications, entry.twin)
        theirs = build(weights=None, input_shape=pictures.shape[1:], classifier_activation=None)
        ours = create(name, input_shape=pictures.shape[1:], features=["logits"])
        _randomise(theirs)
        for layer in theirs.layers:
            if layer.weights:
                ours.get_layer(layer.name).set_weights(layer.get_weights())
        calls = _calls([ours, theirs], pictures)
        found, wanted = (call() for call in calls)
        seconds = turns(calls, repeats)
        rows.append(
            {
                "network": name,
                "twin": entry.twin,
                "ours, ms": _milliseconds(seconds, batch, 0),
                "theirs, ms": _milliseconds(seconds, batch, 1),
                "speed": ratio(seconds, 1, 0),
                "difference": _difference(found, wanted),
            }
        )
    return rows


def taps(
    networks: Mapping[str, Sequence[str]] = TAPS,
    *,
    side: int | None = None,
    batch: int = 4,
    repeats: int = 9,
) -> list[dict[str, Any]]:
    """Compare the time up to a tap with the multiply-adds up to there, as shares of the whole.

    Args:
        networks: Names of networks, each with some of its taps.
        side: Of the pictures; the published size by default.
        batch: Pictures per call.
        repeats: Turns.

    Returns:
        One row per tap; `ratio` is the share of multiply-adds divided by the share of time.
    """
    rows = []
    for name, cuts in networks.items():
        pictures = _pictures(name, side, batch)
        shape = pictures.shape[1:]
        models = [create(name, input_shape=shape, features=[tap]) for tap in cuts]
        models.append(create(name, input_shape=shape))
        seconds = turns(_calls(models, pictures), repeats)
        counts = [sum(row.macs for row in layer_table(model)) for model in models]
        for which, tap in enumerate(cuts):
            share = counts[which] / counts[-1]
            rows.append(
                {
                    "network": name,
                    "tap": tap,
                    "ms": _milliseconds(seconds, batch, which),
                    "% of multiply-adds": 100 * share,
                    "% of time": 100 * ratio(seconds, which, -1),
                    "ratio": share * ratio(seconds, -1, which),
                }
            )
    return rows


def grouped(
    shapes: Sequence[tuple[int, int, int]] = (*RESNEXT, *DEPTHWISE),
    *,
    batch: int = 4,
    repeats: int = 9,
) -> list[dict[str, Any]]:
    """Time grouped 3x3 convolutions in three ways.

    Args:
        shapes: Side and channels of the map, and groups; as many groups as channels are timed
            with Keras' depthwise layer instead of its grouped one.
        batch: Maps per call.
        repeats: Turns.

    Returns:
        One row per shape: Keras' layer, ours (`layers.GroupedConv2D`, under TensorFlow on CPUs a
        loop of dense convolutions) and one dense convolution, which has as many times the
        multiply-adds as there are groups. `slower per multiply-add` compares the faster of the
        first two with it.
    """
    rows = []
    for side, channels, groups in shapes:
        options = {"padding": "same", "use_bias": False}
        if groups == channels:
            first = keras.layers.DepthwiseConv2D(3, **options)
        else:
            first = keras.layers.Conv2D(channels, 3, groups=groups, **options)
        candidates = [
            first,
            layers.GroupedConv2D(channels, 3, groups=groups, **options),
            keras.layers.Conv2D(channels, 3, **options),
        ]
        inputs = keras.Input((side, side, channels))
        models = [keras.Model(inputs, layer(inputs)) for layer in candidates]
        seconds = turns(_calls(models, _noise((batch, side, side, channels))), repeats)
        rows.append(
            {
                "map": f"{side}x{side}x{channels}",
                "groups": groups,
                "Keras, ms": _milliseconds(seconds, batch, 0),
                "ours, ms": _milliseconds(seconds, batch, 1),
                "dense, ms": _milliseconds(seconds, batch, 2),
                "slower per multiply-add": groups * min(ratio(seconds, i, 2) for i in (0, 1)),
            }
        )
    return rows


def grouped_networks(
    networks: Sequence[str] = GROUPED_NETWORKS,
    *,
    side: int | None = None,
    batch: int = 4,
    repeats: int = 7,
) -> list[dict[str, Any]]:
    """Time whole networks with `layers.GroupedConv2D`, and with Keras' grouped convolutions.

    Args:
        networks: Names of networks with grouped convolutions.
        side: Of the pictures; the published size by default.
        batch: Pictures per call.
        repeats: Turns.

    Returns:
        One row per network; `speed` and `difference` as of `twins`.
    """
    rows = []
    for name in networks:
        pictures = _pictures(name, side, batch)
        ours = create(name, input_shape=pictures.shape[1:], features=["logits"])
        theirs = keras.models.clone_model(ours, clone_function=_with_keras_layer)
        theirs.set_weights(ours.get_weights())
        calls = _calls([ours, theirs], pictures)
        found, wanted = (call() for call in calls)
        seconds = turns(calls, repeats)
        rows.append(
            {
                "network": name,
                "ours, ms": _milliseconds(seconds, batch, 0),
                "Keras' layer, ms": _milliseconds(seconds, batch, 1),
                "speed": ratio(seconds, 1, 0),
                "difference": _difference(found, wanted),
            }
        )
    return rows


def _with_keras_layer(layer):
    kind = keras.layers.Conv2D if isinstance(layer, layers.GroupedConv2D) else type(layer)
    return kind.from_config(layer.get_config())


def _randomise(model: keras.Model) -> None:
    """Move every weight a little, so that no statistic or bias stays at zero or one."""
    random = np.random.default_rng(0)
    model.set_weights([w + 0.01 * random.standard_normal(w.shape) for w in model.get_weights()])


def _noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")


def _pictures(name: str, side: int | None, batch: int) -> np.ndarray:
    entry = spec(name)
    return _noise((batch, side or entry.size, side or entry.size, entry.channels))


def _calls(models: Sequence[keras.Model], batch: np.ndarray) -> list[Callable[[], np.ndarray]]:
    return [functools.partial(backend.compiled(model), batch) for model in models]


def _milliseconds(seconds: np.ndarray, batch: int, which: int) -> float:
    return float(1000 * np.median(seconds[:, which]) / batch)


def _difference(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())

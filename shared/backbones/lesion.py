"""What happens to a trained network when blocks are deleted or swapped.

Source: Veit, Wilber and Belongie 2016, "Residual networks behave like ensembles of relatively
shallow networks", section 4. Nothing is trained again, and moving statistics stay as they are.
"""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
from scipy import stats

from shared import backend
from shared.datasets import load_digits
from shared.report import Page, line_plot

from .load import load_into
from .registry import spec
from .resnet import gated
from .train import digit_inputs
from .trunks import input_statistics

_BATCH = 500


@dataclass
class Study:
    """Accuracies of one network on one test set, 0..1.

    Attributes:
        name: Of the network.
        blocks: Names of what can be deleted, from the input to the output.
        intact: Accuracy without a lesion.
        single: Accuracy with one block deleted, in the order of `blocks`.
        several: By number of blocks deleted at random: accuracies of the draws.
        swaps: By number of pairs swapped: (Kendall's tau of the new order, accuracy) of the draws.
    """

    name: str
    blocks: list[str]
    intact: float
    single: list[float] = field(default_factory=list)
    several: dict[int, list[float]] = field(default_factory=dict)
    swaps: dict[int, list[tuple[float, float]]] = field(default_factory=dict)

    @property
    def median_single(self) -> float:
        """Median accuracy with one block deleted."""
        return float(np.median(self.single))

    @property
    def trend(self) -> float:
        """Spearman's correlation of the number of deleted blocks with the accuracy."""
        pairs = [(count, value) for count, row in self.several.items() for value in row]
        return float(stats.spearmanr(*zip(*pairs, strict=True)).statistic)


def study(
    model: keras.Model,
    pictures: np.ndarray,
    labels: np.ndarray,
    *,
    deletions: Sequence[int] = (1, 2, 4, 6, 8, 10),
    swaps: Sequence[int] = (1, 2, 3, 4, 6),
    draws: int = 5,
    seed: int = 0,
) -> Study:
    """Delete every block, delete several at random, swap pairs of equal shape.

    Args:
        model: From `shared.backbones.resnet.gated`, with trained weights; they are put back in
            their order at the end.
        pictures: Test inputs, `(count, height, width, channels)`.
        labels: Their classes, `(count,)`.
        deletions: Numbers of blocks to delete at random.
        swaps: Numbers of pairs to swap.
        draws: Draws per number.
        seed: Of the draws.
    """
    random = np.random.default_rng(seed)
    blocks = block_names(model)
    forward = backend.compiled(model)

    def accuracy(deleted: Sequence[int] = ()) -> float:
        gates = np.ones(len(blocks), "float32")
        gates[list(deleted)] = 0
        right = 0
        for start in range(0, len(pictures), _BATCH):
            batch = pictures[start : start + _BATCH]
            found = forward([batch, np.broadcast_to(gates, (len(batch), len(blocks)))])
            right += int((found.argmax(-1) == labels[start : start + _BATCH]).sum())
        return right / len(pictures)

    result = Study(model.name.removesuffix("_gated"), blocks, accuracy())
    result.single = [accuracy([index]) for index in range(len(blocks))]
    for count in (count for count in deletions if count < len(blocks)):
        chosen = [random.choice(len(blocks), count, replace=False) for _ in range(draws)]
        result.several[count] = [accuracy(deleted) for deleted in chosen]
    groups = _equal_blocks(model, blocks)
    for count in swaps:
        for _ in range(draws):
            order = _swapped(groups, len(blocks), count, random)
            with _Reordered(model, blocks, order):
                tau = float(stats.kendalltau(range(len(blocks)), order).statistic)
                result.swaps.setdefault(count, []).append((tau, accuracy()))
    return result


def trained_on_digits(
    name: str, weights: str | None = None, folder: Path | None = None, count: int = 2000
) -> tuple[keras.Model, np.ndarray, np.ndarray]:
    """Open a network that reads digits, with gates, and the digits to test it with.

    Args:
        name: A residual or plain network.
        weights: A file; the shipped ones by default.
        folder: The four files of MNIST; None takes the small digits of scikit-learn.
        count: Use the first so many test digits; a study reads them some eighty times.

    Returns:
        Model, pictures, labels, as `study` takes them.
    """
    entry, source = spec(name), weights or "shipped"
    model = gated(name, entry.classes)
    load_into(model, entry, source)
    digits = load_digits(folder)
    pictures = digit_inputs(digits.test_images[:count], entry, input_statistics(name, source))
    return model, pictures, digits.test_labels[:count]


def block_names(model: keras.Model) -> list[str]:
    """Return the prefixes of the layers behind each gate, from the input to the output."""
    names = (layer.name for layer in model.layers)
    return [name.removesuffix("_gated") for name in names if name.endswith("_gated")]


def _layers(model: keras.Model, block: str) -> list[keras.layers.Layer]:
    """Return the layers with weights of a block; a projection of the shortcut is not its own."""
    return [
        layer
        for layer in model.layers
        if layer.weights and layer.name.startswith(f"{block}_") and f"{block}_0_" not in layer.name
    ]


def _equal_blocks(model: keras.Model, blocks: Sequence[str]) -> list[list[int]]:
    """Return the groups of blocks whose weights have the same shapes, of two blocks or more."""
    groups: dict[tuple, list[int]] = {}
    for index, block in enumerate(blocks):
        shapes = tuple(
            tuple(weight.shape) for layer in _layers(model, block) for weight in layer.weights
        )
        groups.setdefault(shapes, []).append(index)
    return [group for group in groups.values() if len(group) > 1]


def _swapped(groups, length: int, count: int, random: np.random.Generator) -> list[int]:
    """Return an order of the blocks after some swaps of neighbours in shape."""
    order = list(range(length))
    sizes = np.array([len(group) for group in groups], float)
    for _ in range(count):
        group = groups[random.choice(len(groups), p=sizes / sizes.sum())]
        a, b = random.choice(group, 2, replace=False)
        order[a], order[b] = order[b], order[a]
    return order


class _Reordered:
    """Gives blocks each other's weights while the context lasts."""

    def __init__(self, model: keras.Model, blocks: Sequence[str], order: Sequence[int]):
        self._layers = [_layers(model, block) for block in blocks]
        self._own = [[layer.get_weights() for layer in row] for row in self._layers]
        self._order = order

    def __enter__(self) -> None:
        self._assign(self._order)

    def __exit__(self, *_) -> None:
        self._assign(range(len(self._layers)))

    def _assign(self, order: Sequence[int]) -> None:
        for row, index in zip(self._layers, order, strict=True):
            for layer, weights in zip(row, self._own[index], strict=True):
                layer.set_weights(weights)


def verdict(residual: Study, plain: Study) -> str:
    """Say in one line whether the residual network degrades smoothly and the plain collapses."""
    shows = residual.median_single >= 0.85 and plain.median_single <= 0.5
    return (
        f"Deleting any one block leaves {residual.name} at {residual.median_single:.3f} (median; "
        f"intact {residual.intact:.3f}) and {plain.name} at {plain.median_single:.3f} (intact "
        f"{plain.intact:.3f}): "
        + (
            "the residual network degrades smoothly, the plain one collapses."
            if shows
            else "this does not show the claim of the paper."
        )
    )


def write_csv(studies: Sequence[Study], path: Path) -> None:
    """Write every accuracy as one row: network, lesion, count, block, tau, accuracy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".part-{path.name}")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["network", "lesion", "count", "block", "kendall_tau", "accuracy"])
        for one in studies:
            writer.writerow([one.name, "none", 0, "", "", one.intact])
            for block, value in zip(one.blocks, one.single, strict=True):
                writer.writerow([one.name, "delete", 1, block, "", value])
            for count, values in one.several.items():
                writer.writerows([one.name, "delete", count, "", "", value] for value in values)
            for count, pairs in one.swaps.items():
                writer.writerows([one.name, "swap", count, "", tau, value] for tau, value in pairs)
    os.replace(part, path)


def read_studies(entries: Sequence[dict]) -> list[Study]:
    """Return studies from the JSON that the command line prints."""
    return [
        Study(
            entry["name"],
            entry["blocks"],
            entry["intact"],
            entry["single"],
            {int(count): values for count, values in entry["several"].items()},
            {int(count): list(map(tuple, pairs)) for count, pairs in entry["swaps"].items()},
        )
        for entry in entries
    ]


def add_to_page(page: Page, studies: Sequence[Study]) -> None:
    """Add the curves of the paper's figures 3 and 5 to a page."""
    page.svg(
        line_plot(
            {one.name: (_depths(one), one.single) for one in studies},
            x_label="depth of the deleted block, 0 input, 1 output",
            y_label="accuracy",
        ),
        "Accuracy with one block deleted; residual networks keep working, plain ones do not",
    )
    page.svg(
        line_plot(
            {
                one.name: (
                    [0, *one.several],
                    [one.intact, *(float(np.mean(row)) for row in one.several.values())],
                )
                for one in studies
            },
            x_label="blocks deleted at random",
            y_label="mean accuracy",
        ),
        "Accuracy with several blocks deleted, mean of the draws",
    )
    page.svg(
        line_plot(
            {one.name: _by_tau(one) for one in studies},
            x_label="Kendall's tau of the order of blocks, 1 as trained",
            y_label="accuracy",
        ),
        "Accuracy with blocks of equal shape swapped, each draw a point",
    )


def _depths(one: Study) -> list[float]:
    return [index / max(len(one.blocks) - 1, 1) for index in range(len(one.blocks))]


def _by_tau(one: Study) -> tuple[list[float], list[float]]:
    pairs = sorted([(1.0, one.intact), *(pair for row in one.swaps.values() for pair in row)])
    return [tau for tau, _ in pairs], [value for _, value in pairs]

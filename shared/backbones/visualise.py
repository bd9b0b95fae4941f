"""What a network looks at: deconvnet, gradients, occlusion, Grad-CAM, filters.

Sources: Zeiler and Fergus 2013, "Visualizing and understanding convolutional networks" (deconvnet,
section 2.1, and occlusion, section 4.2); Simonyan, Vedaldi and Zisserman 2013 (gradient);
Springenberg et al. 2014 (guided backpropagation); Selvaraju et al. 2016 (Grad-CAM).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import keras
import numpy as np
from keras import ops

from shared import backend
from shared.errors import ConvsuiteError

from .macs import layer_table

Method = Literal["deconvnet", "gradient", "guided"]
METHODS: tuple[Method, ...] = ("deconvnet", "gradient", "guided")
# Told apart by people who are colour-blind, too (Okabe and Ito 2008); the last is for the rest.
_COLOURS = {
    "blue": (0, 114, 178),
    "orange": (230, 159, 0),
    "green": (0, 158, 115),
    "purple": (204, 121, 167),
    "yellow": (240, 228, 66),
    "grey": (128, 128, 128),
}
BGR = ("caffe", "caffe_rounded", "hed")


@dataclass(frozen=True)
class Unit:
    """One place of one channel of a map, and what it answered.

    Attributes:
        picture: Which picture of the batch or list.
        channel: Which channel.
        row: Place in the map, from the top.
        column: Place in the map, from the left.
        value: The activation there.
    """

    picture: int
    channel: int
    row: int
    column: int
    value: float


def _rectifier(method: Method, ceiling: float | None = None) -> Callable:
    """Return max(x, 0), or min(max(x, 0), ceiling), with the backward rule of a method.

    The gradient lets a signal pass where the input was positive, the deconvnet where the signal is
    positive, guided backpropagation where both are.
    """
    top = float("inf") if ceiling is None else ceiling

    @ops.custom_gradient
    def rectify(x):
        def backward(*upstreams, upstream=None):
            signal = upstreams[0] if upstream is None else upstream
            if method != "gradient":
                signal = ops.relu(signal)
            if method != "deconvnet":
                passes = ops.logical_and(x > 0, x < top)
                signal = ops.where(passes, signal, ops.zeros_like(signal))
            return signal

        rectified = ops.relu(x)
        return (rectified if ceiling is None else ops.minimum(rectified, ceiling)), backward

    return rectify


class _Rectify(keras.layers.Layer):
    """A ReLU layer with the backward rule of a method."""

    def __init__(self, rule: Callable, **options):
        super().__init__(**options)
        self._rule = rule

    def call(self, x):
        return self._rule(x)


class _Ignored(keras.layers.Layer):
    """A layer that works forwards and is left out backwards, as local normalisation is."""

    def __init__(self, layer: keras.layers.Layer, **options):
        super().__init__(**options)
        self._layer = layer

    def call(self, x):
        return x + ops.stop_gradient(self._layer(x) - x)


def with_rule(model: keras.Model, method: Method) -> keras.Model:
    """Return a model with the same weights whose ReLUs send signals back by the rule of a method.

    Convolutions go backwards as their transposes without biases and max pooling as unpooling with
    switches, which is what their gradients are; overlapping windows add up. Layers without a ReLU
    are shared with `model`, the others are copied.

    Raises:
        ConvsuiteError: Unknown method.
    """
    if method not in METHODS:
        raise ConvsuiteError(f"No method is called {method}; choose {', '.join(METHODS)}.")
    copied = []

    def replace(layer):
        if isinstance(layer, keras.layers.ReLU):
            return _Rectify(_rectifier(method, layer.max_value), name=layer.name)
        if type(layer).__name__ == "LRN" and method == "deconvnet":
            return _Ignored(layer, name=layer.name)
        activation = getattr(layer, "activation", None)
        if activation not in (keras.activations.relu, keras.activations.relu6):
            return layer
        rule = _rectifier(method, 6.0 if activation is keras.activations.relu6 else None)
        if isinstance(layer, keras.layers.Activation):
            return _Rectify(rule, name=layer.name)
        copy = type(layer).from_config(layer.get_config())
        copy.activation = rule
        copied.append((copy, layer))
        return copy

    rebuilt = keras.models.clone_model(model, clone_function=replace)
    for copy, layer in copied:
        copy.set_weights(layer.get_weights())
    return rebuilt


class Projector:
    """Projects single activations of a map back to the pixels that caused them.

    Attributes:
        side: Of the square that a unit sees, in pixels, before clipping by the border.
    """

    def __init__(self, model: keras.Model, method: Method = "deconvnet"):
        """Prepare a network.

        Args:
            model: One input, one output `(batch, height, width, channels)`, such as
                `create(name, features=[tap])`.
            method: Backward rule.
        """
        rebuilt = with_rule(model, method)
        self._scaled = method == "deconvnet"
        self._project = backend.value_and_grad(lambda batch, at: _chosen_sum(rebuilt(batch), at))
        self._row = layer_table(model)[-1]
        self.side = self._row.receptive_field

    def __call__(self, batch: np.ndarray, units: Sequence[Unit], shape: tuple) -> np.ndarray:
        """Project one unit per picture.

        Args:
            batch: Network inputs, `(pictures, height, width, channels)`.
            units: One per picture, in order.
            shape: Shape of the map, `(height, width, channels)`.

        Returns:
            Signal in the pixels, the shape of `batch`.
        """
        places = [np.ravel_multi_index((u.row, u.column, u.channel), shape) for u in units]
        _, signal = self._project(batch, np.array(places, "int32")[:, None])
        if self._scaled:
            signal = signal * np.array([u.value for u in units], "float32")[:, None, None, None]
        return signal

    def box(self, unit: Unit, size: tuple[int, int]) -> tuple[slice, slice]:
        """Return the rows and columns of the input that a unit sees, clipped at the border."""
        side, (height, width) = self.side, size
        top = self._row.first + unit.row * self._row.stride
        left = self._row.first + unit.column * self._row.stride
        return (
            slice(max(top, 0), min(top + side, height)),
            slice(max(left, 0), min(left + side, width)),
        )


def _chosen_sum(maps, places):
    flat = ops.reshape(maps, (ops.shape(maps)[0], -1))
    return ops.sum(ops.take_along_axis(flat, places, axis=1))


def strongest_units(maps: np.ndarray, first_picture: int = 0) -> list[list[Unit]]:
    """Return the strongest unit of every channel in every picture.

    Args:
        maps: `(pictures, height, width, channels)`.
        first_picture: Number of the first picture.

    Returns:
        Per picture, one unit per channel.
    """
    count, height, width, channels = maps.shape
    flat = maps.reshape(count, height * width, channels)
    places = flat.argmax(axis=1)
    values = flat.max(axis=1)
    return [
        [
            Unit(first_picture + p, c, *divmod(int(places[p, c]), width), float(values[p, c]))
            for c in range(channels)
        ]
        for p in range(count)
    ]


def top_units(
    forward: Callable[[np.ndarray], np.ndarray], batches: Iterable[np.ndarray], count: int = 9
) -> list[list[Unit]]:
    """Find the pictures that excite each channel most; memory does not grow with the pictures.

    Args:
        forward: Network inputs to maps, see `shared.backend.compiled`.
        batches: Network inputs.
        count: Pictures to keep per channel.

    Returns:
        Per channel, its strongest units, at most one per picture, the strongest first.
    """
    best: list[list[Unit]] = []
    seen = 0
    for batch in batches:
        for units in strongest_units(forward(batch), seen):
            best = best or [[] for _ in units]
            for channel, unit in enumerate(units):
                best[channel] = sorted([*best[channel], unit], key=lambda u: -u.value)[:count]
        seen += len(batch)
    return best


@dataclass(frozen=True)
class Occlusion:
    """What a grey square changes; each map has one entry per place of the square.

    Attributes:
        probability: Of the class in question, `(rows, columns)`.
        activation: Sum of the map that answered most to the whole picture, as a share of that.
        labels: Likeliest class.
        whole: Probability of the class without the square.
        corners: Top and left of the square at each place, `(rows, 2)` and `(columns, 2)` joined:
            the positions along one axis in pixels.
    """

    probability: np.ndarray
    activation: np.ndarray
    labels: np.ndarray
    whole: float
    corners: np.ndarray

    def centre_of_minimum(self, side: int) -> tuple[float, float]:
        """Return row and column, in pixels, of the middle of the most harmful square."""
        row, column = np.unravel_index(self.probability.argmin(), self.probability.shape)
        return self.corners[row] + side / 2, self.corners[column] + side / 2


def occlusion(
    forward: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    picture: np.ndarray,
    grey: np.ndarray,
    *,
    label: int | None = None,
    side: int | None = None,
    step: int | None = None,
    batch: int = 32,
) -> Occlusion:
    """Slide a grey square over a picture and watch the answer.

    Args:
        forward: Network inputs to (maps, probabilities).
        picture: One network input, `(size, size, channels)`.
        grey: Grey as a network input, `(channels,)`.
        label: Class to watch; the likeliest by default.
        side: Of the square in pixels; a quarter of the picture by default.
        step: Between two squares; a sixteenth by default.
        batch: Pictures per forward pass.
    """
    size = picture.shape[0]
    side, step = side or size // 4, step or max(1, size // 16)
    maps, probabilities = forward(picture[None])
    label = int(probabilities[0].argmax()) if label is None else label
    channel = int(maps[0].sum(axis=(0, 1)).argmax())
    corners = np.arange(1 - side // 2, size - side // 2, step)
    found = []
    places = [(top, left) for top in corners for left in corners]
    for start in range(0, len(places), batch):
        chunk = places[start : start + batch]
        # One batch size, so that the network is compiled once.
        covered = np.repeat(picture[None], batch, axis=0)
        for one, (top, left) in zip(covered, chunk, strict=False):
            one[max(top, 0) : top + side, max(left, 0) : left + side] = grey
        some_maps, some = forward(covered)
        sums = some_maps[: len(chunk), ..., channel].sum(axis=(1, 2))
        found.extend(
            zip(some[: len(chunk), label], sums, some[: len(chunk)].argmax(1), strict=True)
        )
    shape = (len(corners), len(corners))
    chances, sums, labels = (np.array(column).reshape(shape) for column in zip(*found, strict=True))
    whole_sum = float(maps[0, ..., channel].sum()) or 1.0
    return Occlusion(chances, sums / whole_sum, labels, float(probabilities[0, label]), corners)


class GradCam:
    """Where a network sees a class: ReLU(sum_k alpha_k A_k), alpha_k = mean of d y_c / d A_k."""

    def __init__(self, model: keras.Model):
        """Prepare a network.

        Args:
            model: Two outputs, the last maps and the logits behind them, such as
                `create(name, features=[spec.body, "logits"])`.

        Raises:
            ConvsuiteError: Signals pass the maps by, so that they do not decide on the logits.
        """
        maps, logits = model.outputs
        self._maps = backend.compiled(keras.Model(model.input, maps))
        try:
            tail = keras.Model(maps, logits)
        except ValueError as error:
            raise ConvsuiteError(
                "Grad-CAM needs maps that all signals pass through; these stand inside a block."
            ) from error
        self._gradient = backend.value_and_grad(lambda a, at: _chosen_sum(tail(a), at))

    def __call__(self, picture: np.ndarray, label: int) -> np.ndarray:
        """Return the class activation map of a network input, 0..1, of the picture's size."""
        maps = self._maps(picture[None])
        _, gradient = self._gradient(maps, np.array([[label]], "int32"))
        weighted = np.maximum((maps[0] * gradient[0].mean(axis=(0, 1))).sum(-1), 0)
        height, width = picture.shape[:2]
        enlarged = cv2.resize(weighted, (width, height), interpolation=cv2.INTER_LINEAR)
        return enlarged / max(float(enlarged.max()), 1e-12)


def filters(model: keras.Model, preprocessing: str) -> np.ndarray:
    """Tile the filters of the first convolution; each has a contrast of its own, grey is zero.

    Args:
        model: A network.
        preprocessing: Of its spec; tells the order of its colours.

    Returns:
        uint8 RGB picture.

    Raises:
        ConvsuiteError: The network has no convolution.
    """
    kernels = (_kernel(layer) for layer in model.layers)
    first = next((kernel for kernel in kernels if kernel is not None), None)
    if first is None:
        raise ConvsuiteError(f"{model.name} has no convolution whose filters could be shown.")
    kernel = np.moveaxis(ops.convert_to_numpy(first), -1, 0)
    if preprocessing in BGR:
        kernel = kernel[..., ::-1]
    if kernel.shape[-1] != 3:
        kernel = np.repeat(kernel.mean(axis=-1, keepdims=True), 3, axis=-1)
    return tiles([centred(one) for one in kernel], zoom=max(1, 40 // kernel.shape[1]))


def _kernel(layer: keras.layers.Layer):
    """Return the kernel of a convolution, `(height, width, in, out)`; None for other layers."""
    if hasattr(layer, "dense_kernel"):  # our own convolutions, whose maps need not see all others
        return layer.dense_kernel()
    return layer.kernel if isinstance(layer, keras.layers.Conv2D) else None


def centred(signal: np.ndarray) -> np.ndarray:
    """Show a signed signal as uint8 RGB: grey is zero, strong values are black or white.

    One value in a hundred of those that are not zero may be stronger than black or white.
    """
    sizes = np.abs(signal[signal != 0])
    strong = float(np.quantile(sizes, 0.99, method="higher")) if sizes.size else 1.0
    shown = 127.5 + 127.5 * signal / strong
    return np.clip(np.rint(shown), 0, 255).astype("uint8")


def tiles(pictures: Sequence[np.ndarray], *, zoom: int = 1, gap: int = 2) -> np.ndarray:
    """Lay out pictures of equal size as a nearly square sheet with white gaps, uint8 RGB."""
    columns = int(np.ceil(np.sqrt(len(pictures))))
    rows = -(-len(pictures) // columns)
    large = [np.kron(one, np.ones((zoom, zoom, 1), "uint8")) for one in pictures]
    height, width = large[0].shape[:2]
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, "uint8")
    for index, one in enumerate(large):
        row, column = divmod(index, columns)
        top, left = row * (height + gap), column * (width + gap)
        sheet[top : top + height, left : left + width] = one
    return sheet


def areas(
    labels: np.ndarray, picture: np.ndarray, share: float = 0.55
) -> tuple[np.ndarray, list[tuple[str, int | None, float]]]:
    """Colour a picture by the class at each place.

    Args:
        labels: `(rows, columns)` numbers of classes.
        picture: `(height, width, 3)` uint8 RGB.
        share: Of the colours in the mixture.

    Returns:
        uint8 RGB, and per colour its name, its class (None for all that have no colour of their
        own) and its share of the places, the commonest first.
    """
    classes, counts = np.unique(labels, return_counts=True)
    order = np.argsort(-counts, kind="stable")[: len(_COLOURS) - 1]
    painted = np.full(labels.shape, len(_COLOURS) - 1, "uint8")
    legend: list[tuple[str, int | None, float]] = []
    for number, index in enumerate(order):
        painted[labels == classes[index]] = number
        legend.append(
            (list(_COLOURS)[number], int(classes[index]), float(counts[index] / labels.size))
        )
    rest = float(np.mean(painted == len(_COLOURS) - 1))
    if rest:
        legend.append((list(_COLOURS)[-1], None, rest))
    height, width = picture.shape[:2]
    enlarged = cv2.resize(painted, (width, height), interpolation=cv2.INTER_NEAREST)
    colours = np.array(list(_COLOURS.values()), "uint8")[enlarged]
    return np.rint((1 - share) * picture + share * colours).astype("uint8"), legend


def heat(values: np.ndarray, picture: np.ndarray, share: float = 0.55) -> np.ndarray:
    """Lay a map over a picture in false colours, blue for small and red for large values.

    Args:
        values: `(rows, columns)`, 0..1.
        picture: `(height, width, 3)` uint8 RGB.
        share: Of the colours in the mixture.

    Returns:
        uint8 RGB.
    """
    height, width = picture.shape[:2]
    enlarged = cv2.resize(values.astype("float32"), (width, height), interpolation=cv2.INTER_LINEAR)
    levels = np.rint(255 * np.clip(enlarged, 0, 1)).astype("uint8")
    colours = cv2.applyColorMap(levels, cv2.COLORMAP_TURBO)[..., ::-1]
    return np.rint((1 - share) * picture + share * colours).astype("uint8")

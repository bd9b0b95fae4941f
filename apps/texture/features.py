"""The feature network of texture synthesis: a VGG with average pools, any border, tamed scales.

Sources: Gatys, Ecker, Bethge, "Texture Synthesis Using Convolutional Neural Networks", NIPS 2015,
section 2 (average pools, weights normalised); Simonyan and Zisserman 2014 for the layers.
"""

import dataclasses
import functools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import lazy_loader as lazy
import numpy as np

from shared import backend
from shared.errors import ConvsuiteError, WeightsError

keras = lazy.load("keras")

Border = Literal["zero", "reflect", "wrap"]
Borders = tuple[Border, Border]
"""What lies beyond the picture: above and below, left and right."""
Normalise = Literal["layer", "channel", "none"]

NETWORKS = ("vgg16_hed", "vgg19", "random")
_REPEATS = {"vgg16_hed": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4), "random": (2, 2, 4, 4)}
_CHANNELS = (64, 128, 256, 512, 512)
# Mean of ImageNet that each was trained with: red, green, blue, of 255.
_MEANS = {
    "vgg16_hed": (122.67892, 116.66877, 104.00699),
    "vgg19": (123.68, 116.779, 103.939),
    "random": (123.68, 116.779, 103.939),
}
# As Keras calls its download.
_VGG19_FILE = "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"
_PHOTOGRAPHS = ("astronaut.jpg", "chelsea.jpg", "coffee.jpg", "rocket.jpg")
_PHOTOGRAPH_SIDE = 192
# A channel that no photograph excites keeps its scale instead of being blown up.
_DEAD = 1e-6
# Whose graphs are kept: contents and styles at two sizes, and those of the picture before.
_SHAPES = 8


class Convolution(NamedTuple):
    """A convolution before its ReLU.

    Attributes:
        kernel: `(3, 3, in, out)`.
        bias: `(out,)`.
    """

    kernel: Any
    bias: Any


Parameters = dict[str, Convolution]


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """Convolutions of a VGG with ReLU, and an average pool behind each block.

    Attributes:
        name: One of `NETWORKS`.
        mean: What is subtracted from the picture, red, green, blue, 0..1.
        parameters: Convolutions by tap, from the picture on, as tensors of the backend.
    """

    name: str
    mean: np.ndarray
    parameters: Parameters

    @property
    def taps(self) -> list[str]:
        """Every layer that `maps` can return, from the picture on."""
        return _order(tuple(self.parameters))

    def maps(
        self,
        parameters: Mapping[str, Convolution],
        picture: Any,
        taps: Sequence[str],
        borders: Borders = ("reflect", "reflect"),
        dtype: str = "float32",
    ) -> dict[str, Any]:
        """Return features of a picture; a pure function of tensors, to be compiled.

        Args:
            parameters: Those of this network, passed in so that they need not be compiled in.
            picture: `(height, width, 3)`, RGB, 0..1.
            taps: Names such as `conv1_1` (behind its ReLU), `pool2`, or `conv1_1:linear` (before
                its ReLU).
            borders: One pixel beyond the rim of each map, for each convolution.
            dtype: What the network computes in.

        Returns:
            By tap, `(height / stride, width / stride, channels)`, float32.
        """
        wanted, found = set(taps), {}
        x = keras.ops.cast(keras.ops.subtract(picture, self.mean)[None], dtype)
        for tap in _order(tuple(parameters)):
            if tap in parameters:
                kernel, bias = (keras.ops.cast(part, dtype) for part in parameters[tap])
                x = keras.ops.conv(_padded(x, borders), kernel, padding="valid") + bias
                linear = f"{tap}:linear"
                if linear in wanted:
                    found[linear] = keras.ops.cast(x[0], "float32")
                x = keras.ops.relu(x)
            else:
                x = keras.ops.average_pool(x, 2, 2, padding="valid")
            if tap in wanted:
                found[tap] = keras.ops.cast(x[0], "float32")
            if len(found) == len(wanted):
                return found
        missing = sorted(wanted - found.keys())
        raise ConvsuiteError(
            f"{self.name} has no layer {missing[0]}; it has {', '.join(self.taps)}."
        )

    def until(self, taps: Sequence[str]) -> Parameters:
        """Return the parameters that some taps need."""
        names = _order(_names(_REPEATS[self.name]))[: deepest(taps, self.name) + 1]
        return {name: self.parameters[name] for name in names if name in self.parameters}


def deepest(taps: Sequence[str], name: str) -> int:
    """Return the place of the deepest of some taps in the order of a network's layers.

    Raises:
        ConvsuiteError: The network has no such layer.
    """
    order = _order(_names(_REPEATS[name]))
    wanted = [tap.partition(":")[0] for tap in taps]
    unknown = [tap for tap in wanted if tap not in order]
    if unknown:
        raise ConvsuiteError(f"{name} has no layer {unknown[0]}; it has {', '.join(order)}.")
    return max(map(order.index, wanted))


def stride(tap: str) -> int:
    """Return how many pixels of the picture one position of a tap is wide."""
    return 2 ** (_block(tap) - (not tap.startswith("pool")))


def halo(taps: Sequence[str], name: str) -> int:
    """Return how far beyond a tile the picture must be known, in pixels.

    That is half of what the receptive field exceeds the stride by, rounded up to the coarsest
    stride, so that positions of tile and picture coincide.
    """
    field, step = 1, 1
    for tap in _order(_names(_REPEATS[name]))[: deepest(taps, name) + 1]:
        if tap.startswith("pool"):
            field += step
            step *= 2
        else:
            field += 2 * step
    beyond = (field - step + 1) // 2
    coarsest = max(map(stride, taps))
    return -(-beyond // coarsest) * coarsest


def has_vgg19() -> bool:
    """Return whether weights of VGG-19 are on this machine: imported, or downloaded by Keras.

    Imports no framework and opens no weight file.
    """
    from shared.backbones.trunks import found

    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    return found()["vgg19"].startswith("file ") or (home / "models" / _VGG19_FILE).is_file()


def open_network(
    name: str = "vgg16_hed",
    weights: str | Path | None = None,
    *,
    taps: Sequence[str] = ("pool3",),
    normalise: Normalise = "layer",
) -> Network:
    """Open a feature network.

    Args:
        name: `vgg16_hed` (an installed package), `vgg19` (a file, or the download of Keras), or
            `random` (He-normal kernels; what a texture looks like without learned features).
        weights: A file of weights, as `shared.backbones.trunk` takes it.
        taps: Layers that are needed.
        normalise: `layer` divides every map by its root mean square on photographs, `channel` every
            channel by its mean, as the paper does; `none` leaves the weights as they are. What a
            network computes stays the same, up to these factors. Many channels of `vgg16_hed` are
            nearly dead, which `channel` would blow up.

    Raises:
        ConvsuiteError: Unknown network or tap.
        WeightsError: Weights are not found (says what to install), or do not fit.
    """
    if name not in NETWORKS:
        raise ConvsuiteError(f"{name}: no feature network; there are {', '.join(NETWORKS)}.")
    order = _order(_names(_REPEATS[name]))
    names = [tap for tap in order[: deepest(taps, name) + 1] if tap.startswith("conv")]
    mean = np.array(_MEANS[name], np.float32) / 255
    arrays = _random(names) if name == "random" else _pretrained(name, names, weights)
    network = _network(name, mean, arrays)
    if name == "random":
        network = _centred(network)
    return network if normalise == "none" else normalised(network, photographs(), normalise)


def normalised(
    network: Network, pictures: Sequence[np.ndarray], per: Literal["layer", "channel"]
) -> Network:
    """Scale the weights of a network so that its maps have size 1 on some pictures.

    Args:
        network: As opened.
        pictures: `(height, width, 3)`, RGB, 0..1; all of one size are compiled once.
        per: `layer`: root mean square of every map 1; `channel`: mean of every channel 1 (the
            normalisation of Gatys et al.; m_l below are their means of activation).

    Returns:
        W_l[..., i, o] m_(l-1)[i] / m_l[o] and b_l[o] / m_l[o], with m_0 = 1.
    """
    measure = {"layer": _layer_size, "channel": _channel_size}[per]
    taps = list(network.parameters)
    sums = dict.fromkeys(taps, 0.0)
    for values in _on_pictures(network, taps, measure, pictures):
        sums = {tap: sums[tap] + values[tap] for tap in taps}
    scaled, before = {}, np.ones(3, np.float32)
    for tap, (kernel, bias) in _as_arrays(network.parameters).items():
        size = np.asarray(sums[tap] / len(pictures), np.float64)
        if per == "layer":
            size = np.full(len(bias), np.sqrt(size))
        size = np.where(size > _DEAD * max(size.max(), 1e-30), size, 1.0).astype(np.float32)
        scaled[tap] = Convolution(kernel * (before[:, None] / size), bias / size)
        before = size
    return _network(network.name, network.mean, scaled)


@functools.cache
def photographs() -> tuple[np.ndarray, ...]:
    """Return the middle of some photographs that ship with convsuite, `(192, 192, 3)` each."""
    import cv2

    from shared import assets, images

    found = []
    for name in _PHOTOGRAPHS:
        picture = images.read(assets.samples_dir() / name)
        scale = _PHOTOGRAPH_SIDE / min(picture.shape[:2])
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        top, left = ((length - _PHOTOGRAPH_SIDE) // 2 for length in picture.shape[:2])
        found.append(picture[top : top + _PHOTOGRAPH_SIDE, left : left + _PHOTOGRAPH_SIDE])
    return tuple(found)


def by_shape(
    compiler: Callable[[Callable], Callable], function: Callable[..., Any], place: int
) -> Callable[..., Any]:
    """Compile a function once for each shape of a picture, and keep the latest shapes.

    A compiled function alone may go over to one graph for all shapes, where the number of positions
    is not known before it runs.

    Args:
        compiler: `backend.compiled` or `backend.value_and_grad`.
        function: Of tensors.
        place: Of the picture among its arguments.
    """

    @functools.lru_cache(_SHAPES)
    def made(shape: tuple[int, ...]) -> Callable[..., Any]:
        return compiler(function)

    def run(*arguments: Any) -> Any:
        return made(arguments[place].shape)(*arguments)

    return run


def _names(repeats: Sequence[int]) -> list[str]:
    return [
        f"conv{block}_{number}"
        for block, count in enumerate(repeats, 1)
        for number in range(1, count + 1)
    ]


@functools.cache
def _order_of(convolutions: tuple[str, ...]) -> list[str]:
    order = []
    for tap, following in zip(convolutions, (*convolutions[1:], ""), strict=True):
        order.append(tap)
        if not following or _block(following) > _block(tap):
            order.append(f"pool{_block(tap)}")
    return order


def _order(convolutions: Sequence[str]) -> list[str]:
    """Return the taps of a network that has these convolutions, a pool behind each block."""
    return _order_of(tuple(sorted(convolutions)))


def _block(tap: str) -> int:
    found = re.match(r"(?:conv|pool)(\d)", tap)
    if found is None:
        raise ConvsuiteError(f"{tap}: no layer of a VGG; layers are called conv2_1 or pool2.")
    return int(found[1])


def _padded(x: Any, borders: Borders) -> Any:
    """Add one pixel on all sides; `wrap` and mixtures are beyond `keras.ops.pad` of TensorFlow."""
    if borders == ("reflect", "reflect"):  # at once, which is twice as fast
        return keras.ops.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], mode="reflect")
    for axis, border in enumerate(borders, 1):
        if border == "wrap":
            # Slices, since the gradient of `take` is a scatter over the whole map.
            first, final = (x[:, :1], x[:, -1:]) if axis == 1 else (x[:, :, :1], x[:, :, -1:])
            x = keras.ops.concatenate([final, x, first], axis=axis)
        else:
            width = [(0, 0)] * 4
            width[axis] = (1, 1)
            x = keras.ops.pad(x, width, mode={"zero": "constant", "reflect": "reflect"}[border])
    return x


def _network(name: str, mean: np.ndarray, arrays: Mapping[str, Convolution]) -> Network:
    tensors = {
        tap: Convolution(*(keras.ops.convert_to_tensor(np.asarray(a, np.float32)) for a in pair))
        for tap, pair in arrays.items()
    }
    return Network(name, mean, tensors)


def _as_arrays(parameters: Parameters) -> dict[str, Convolution]:
    return {
        tap: Convolution(*map(keras.ops.convert_to_numpy, pair)) for tap, pair in parameters.items()
    }


def _pretrained(
    name: str, names: Sequence[str], weights: str | Path | None
) -> dict[str, Convolution]:
    from shared.backbones import trunk

    try:
        model = trunk(name, features=[names[-1]], weights=weights)
    except WeightsError as error:
        if name != "vgg19" or weights is not None:
            raise
        raise WeightsError(
            f"{error} Without them, --network vgg16_hed and --energy patch work offline."
        ) from error
    arrays = {}
    for tap in names:
        block, number = tap.removeprefix("conv").split("_")
        kernel, bias = model.get_layer(f"block{block}_conv{number}").get_weights()
        arrays[tap] = Convolution(kernel, bias)
    # Ours sees red first, and 0..1 instead of 0..255.
    first = arrays[names[0]]
    arrays[names[0]] = Convolution(first.kernel[:, :, ::-1] * 255, first.bias)
    return arrays


def _random(names: Sequence[str]) -> dict[str, Convolution]:
    generator = np.random.default_rng(0)
    arrays, before = {}, 3
    for tap in names:
        channels = _CHANNELS[_block(tap) - 1]
        kernel = generator.normal(0, np.sqrt(2 / (9 * before)), (3, 3, before, channels))
        arrays[tap] = Convolution(kernel, np.zeros(channels))
        before = channels
    return arrays


def _centred(network: Network) -> Network:
    """Give random kernels biases that centre every channel on photographs, layer by layer."""
    arrays = _as_arrays(network.parameters)
    for tap in arrays:
        present = _network(network.name, network.mean, arrays)
        small = [picture[:64, :64] for picture in photographs()]
        means = list(_on_pictures(present, [f"{tap}:linear"], _channel_size, small))
        mean = np.mean([values[f"{tap}:linear"] for values in means], axis=0)
        arrays[tap] = Convolution(arrays[tap].kernel, -mean)
    return _network(network.name, network.mean, arrays)


def _on_pictures(network, taps, measure, pictures):
    """Yield a measure of the maps of each picture, by tap."""
    parameters = network.until(taps)

    def run(parameters, picture):
        return {tap: measure(m) for tap, m in network.maps(parameters, picture, taps).items()}

    compiled = backend.compiled(run)
    for picture in pictures:
        yield compiled(parameters, picture)


def _layer_size(features: Any) -> Any:
    return keras.ops.mean(keras.ops.square(features))


def _channel_size(features: Any) -> Any:
    return keras.ops.mean(features, axis=(0, 1))

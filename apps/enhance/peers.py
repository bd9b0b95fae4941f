"""Two published enhancement networks, rebuilt to stand beside our looks in `bench peers`.

Their weights are not part of convsuite; they are read as plain arrays from a folder of data.
"""

from collections.abc import Callable
from pathlib import Path

import cv2
import keras
import numpy as np
from keras import layers

from shared import backend
from shared.errors import DataError

from .lut import Lut, apply_lut
from .thumbnail import SIZE

Look = Callable[[np.ndarray], np.ndarray]

TABLES = "lut3d_srgb/lut3d_srgb.npz"
CURVES = "zero_dce/zero_dce.npz"
_ITERATIONS = 8


def adaptive_table(folder: Path) -> Look:
    """Open the image-adaptive 3D LUT of Zeng et al. 2020, trained on FiveK.

    A classifier weighs three tables of 33^3; their sum is applied to the picture.

    Args:
        folder: holds `TABLES`.

    Returns:
        A function of a float32 `(height, width, 3)` picture.
    """
    arrays = _read(folder / TABLES)
    # Stored as [colour, blue, green, red]; a `Lut` is [red, green, blue, colour].
    tables = np.stack([arrays.pop(f"lut{i}").transpose(3, 2, 1, 0) for i in range(3)])
    classify = backend.compiled(_filled(_classifier(), arrays))

    def enhance(picture):
        small = cv2.resize(picture, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
        weights = classify(small[None]).reshape(3)
        table = np.tensordot(weights, tables, 1)
        return np.clip(apply_lut(picture, Lut(table)), 0, 1)

    return enhance


def _classifier():
    x = picture = keras.Input((SIZE, SIZE, 3))
    for number, filters in enumerate((16, 32, 64, 128, 128), 1):
        # Pads all sides alike, as PyTorch does; `same` would pad bottom and right only.
        x = layers.ZeroPadding2D(1)(x)
        x = layers.Conv2D(filters, 3, 2, name=f"conv{number}")(x)
        x = layers.LeakyReLU(0.2)(x)
        if number < 5:
            x = layers.GroupNormalization(-1, epsilon=1e-5, name=f"in{number}")(x)
    return keras.Model(picture, layers.Conv2D(3, 8, name="conv6")(x))


def zero_dce(folder: Path) -> Look:
    """Open Zero-DCE of Guo et al. 2020, which brightens dark pictures, learned without targets.

    Seven convolutions predict, pixel by pixel, the curves `x + r (x^2 - x)` applied in turn.

    Args:
        folder: holds `CURVES`.

    Returns:
        A function of a float32 `(height, width, 3)` picture.
    """
    network = backend.compiled(_filled(_curves(), _read(folder / CURVES)))
    return lambda picture: np.clip(network(picture[None])[0], 0, 1)


def _curves():
    def conv(number, *inputs):
        x = layers.Concatenate()(inputs) if len(inputs) > 1 else inputs[0]
        return layers.Conv2D(32, 3, padding="same", activation="relu", name=f"conv{number}")(x)

    picture = keras.Input((None, None, 3))
    x1 = conv(1, picture)
    x2 = conv(2, x1)
    x3 = conv(3, x2)
    x4 = conv(4, x3)
    x5 = conv(5, x3, x4)
    x6 = conv(6, x2, x5)
    x7 = layers.Concatenate()([x1, x6])
    slopes = layers.Conv2D(3 * _ITERATIONS, 3, padding="same", activation="tanh", name="conv7")(x7)
    x = picture
    for k in range(_ITERATIONS):
        x = x + slopes[..., 3 * k : 3 * k + 3] * (x * x - x)
    return keras.Model(picture, x)


def _read(path):
    if not path.exists():
        raise DataError(f"{path} is missing: this peer's weights are not part of convsuite.")
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _filled(network, arrays):
    """Set the weights of a network from arrays named `layer/part`, all of them."""
    parts = {"conv": ("kernel", "bias"), "in": ("scale", "shift")}
    for layer in network.layers:
        if layer.weights:
            names = parts[layer.name.rstrip("0123456789")]
            layer.set_weights([arrays.pop(f"{layer.name}/{part}") for part in names])
    assert not arrays, f"left over: {', '.join(arrays)}"
    return network

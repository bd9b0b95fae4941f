"""The authors' own networks: O-CNN(5) and O-CNN(6) from the `.caffemodel` files of their paper.

Files: microsoft/O-CNN, caffe/experiments/models (MIT). `ocnn_M40_5` and `ocnn_M40_6` know the 40
classes of ModelNet40, `S55_5` and `S55_6` the 55 of ShapeNetCore. The reader of the format never
runs what a file contains.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shared import checkpoints
from shared.errors import WeightsError

from .octree import FULL_DEPTH, decode

if TYPE_CHECKING:
    import keras

_COARSEST = FULL_DEPTH + 1
_LAST = 3  # `conv3` works on level 3, `conv2` on level 4, and so on
_SIDE = 2**FULL_DEPTH


def load(path: str | Path) -> "keras.Model":
    """Build the network of a file, with its weights.

    Args:
        path: A `.caffemodel` of the authors.

    Returns:
        `model.lenet` of the depth and the number of classes that the file has, for normals as the
        only input feature.

    Raises:
        WeightsError: The file is damaged, or not a classification network of O-CNN.
    """
    from . import model

    arrays = checkpoints.read(path)
    depth = _COARSEST + _LAST - min(_numbers(arrays), default=_LAST)
    try:
        network = model.lenet(depth, classes=len(arrays["ip2/bias"]))
        for number in range(_LAST, _LAST - (depth - FULL_DEPTH), -1):
            layer = f"conv{_COARSEST + _LAST - number}"
            kernel = arrays[f"conv{number}/0"][..., 0].transpose(2, 1, 0)
            network.get_layer(layer).set_weights([kernel])
            network.get_layer(f"{layer}_bn").set_weights(_normalisation(arrays, number))
        network.get_layer("fc1").set_weights([_in_key_order(arrays["ip1/weight"])])
        network.get_layer("fc1_bn").set_weights(_normalisation(arrays, _LAST + 1))
        network.get_layer("logits").set_weights([arrays["ip2/weight"].T, arrays["ip2/bias"]])
    except (KeyError, ValueError, IndexError) as error:
        raise WeightsError(
            f"{path}: this is no classification network of O-CNN ({error}); its authors publish "
            "ocnn_M40_5, ocnn_M40_6, S55_5 and S55_6."
        ) from None
    if any(not np.isfinite(weight).all() for weight in network.get_weights()):
        raise WeightsError(f"{path}: the file holds numbers that are not finite.")
    return network


def _numbers(arrays: dict[str, np.ndarray]) -> list[int]:
    """Return the numbers of the convolutions; the more, the deeper the octree."""
    names = [name.removeprefix("conv").removesuffix("/0") for name in arrays]
    return [int(name) for name in names if name.isdecimal() and int(name) <= _LAST]


def _normalisation(arrays: dict[str, np.ndarray], number: int) -> list[np.ndarray]:
    """Return gamma, beta, mean and variance; Caffe stores sums and what to divide them by."""
    factor = float(arrays[f"bn{number}/factor"][0])
    share = 1 / factor if factor else 0.0
    mean, variance = (share * arrays[f"bn{number}/{name}"] for name in ("mean", "variance"))
    return [arrays[f"scale{number}/gamma"], arrays[f"scale{number}/beta"], mean, variance]


def _in_key_order(weight: np.ndarray) -> np.ndarray:
    """Return the dense kernel `(64 voxels * channels, out)` of `(out, channels * x * y * z)`."""
    grid = weight.reshape(len(weight), -1, _SIDE, _SIDE, _SIDE)
    cells, _ = decode(np.arange(_SIDE**3))
    return grid[:, :, *cells.T].transpose(2, 1, 0).reshape(-1, len(weight))

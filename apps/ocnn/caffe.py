"""The authors' own networks: O-CNN(5) and O-CNN(6) from the `.caffemodel` files of their paper.

Files: microsoft/O-CNN, caffe/experiments/models (MIT). `ocnn_M40_5` and `ocnn_M40_6` know the 40
classes of ModelNet40, `S55_5` and `S55_6` the 55 of ShapeNetCore. The reader of the format never
runs what a file contains.
"""

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shared import assets, checkpoints, weights
from shared.errors import WeightsError
from shared.weights import Card

from .data import Form
from .octree import FULL_DEPTH, decode

if TYPE_CHECKING:
    import keras

# fmt: off
MODELNET40 = (
    "airplane", "bathtub", "bed", "bench", "bookshelf", "bottle", "bowl", "car", "chair", "cone",
    "cup", "curtain", "desk", "door", "dresser", "flower_pot", "glass_box", "guitar", "keyboard",
    "lamp", "laptop", "mantel", "monitor", "night_stand", "person", "piano", "plant", "radio",
    "range_hood", "sink", "sofa", "stairs", "stool", "table", "tent", "toilet", "tv_stand", "vase",
    "wardrobe", "xbox",
)
# fmt: on
"""The classes of ModelNet40 in the order of `ocnn_M40_5`; that of `ocnn_M40_6` is another."""
_COARSEST = FULL_DEPTH + 1
_LAST = 3  # `conv3` works on level 3, `conv2` on level 4, and so on
_SIDE = 2**FULL_DEPTH
_SHAPENET = 55
_CONV = re.compile(r"conv(\d+)")


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


def import_weights(path: str | Path, name: str | None = None) -> Path:
    """Convert a file of the authors into weights that are found by name.

    Args:
        path: As for `load`.
        name: By which they are found; the name of the file unless given.

    Returns:
        The `.keras` file in the user's folder. `ocnn_M40_5` has the names of its classes, the
        others have numbers, since their orders were not published.

    Raises:
        WeightsError: As `load`, or the name is that of weights that ship.
    """
    from . import tasks

    path = Path(path)
    network = load(path)
    stem = path.stem if name is None else name
    out = weights.user_dir() / tasks.APP / f"{stem}.keras"
    if (assets.weights_dir() / tasks.APP / out.name).exists():
        raise WeightsError(f"{stem} is the name of weights that ship; choose another with --name.")
    count = network.output_shape[-1]
    depth = max(int(match[1]) for layer in network.layers if (match := _CONV.fullmatch(layer.name)))
    names = MODELNET40 if path.stem == "ocnn_M40_5" else [f"class {i}" for i in range(count)]
    form = Form(depth=depth, up="y" if count == _SHAPENET else "z")
    card = Card(
        app=tasks.APP,
        name=stem,
        summary=f"O-CNN({depth}) of its authors, {count} classes",
        settings={
            "task": "classes",
            "names": list(names),
            "network": "lenet",
            "votes": 12,
            "form": dataclasses.asdict(form),
        },
        training={"data": "ModelNet40" if count == len(MODELNET40) else "ShapeNetCore55"},
        licence="MIT (microsoft/O-CNN)",
    )
    weights.save_model(network, out, card)
    return out


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

"""Weights of Keras: `.h5` of version 2 (weights or whole models), `.weights.h5` and `.keras` of 3.

Only arrays are read. A whole model's description of itself is never looked at.
"""

import io
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .refusal import INFLATION, RefusedError, check_members, check_size, reader, widen_bfloat16

MAGIC = b"\x89HDF\r\n\x1a\n"
ARCHIVE_MEMBER = "model.weights.h5"
_MAX_DEPTH = 16


@reader("Keras weight file")
def read(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a weight file or of a whole model of Keras.

    Args:
        path: `.h5`, `.weights.h5` or `.keras`.

    Returns:
        Arrays by `layer/variable`. Keras 2 names the variables (`conv1/kernel`) and keeps the order
        of the layers; Keras 3 numbers them (`conv1/0`) and keeps no order. Layers that are
        attributes of a model of one's own go by their path (`encoder/conv2d_1/0`).

    Raises:
        WeightsError: No such file, damaged, links that lead out of it, or sizes it cannot hold.
    """
    import h5py

    with path.open("rb") as stream:
        is_hdf5 = stream.read(len(MAGIC)) == MAGIC
    if is_hdf5:
        with h5py.File(path, "r") as file:
            return _arrays(file, path)
    with zipfile.ZipFile(path) as archive:
        check_members(archive, path)  # Keras stores its members uncompressed
        content = archive.read(ARCHIVE_MEMBER)
    with h5py.File(io.BytesIO(content), "r") as file:
        return _arrays(file, path)


def _arrays(file: Any, path: Path) -> dict[str, np.ndarray]:
    datasets = dict(_walk(file, "", 0))
    check_size(sum(dataset.nbytes for dataset in datasets.values()), path, INFLATION)
    if "layer_names" in file.attrs or "layer_names0" in file.attrs:
        names = _keras2(file, "", datasets)
    elif "model_weights" in file:
        names = _keras2(file["model_weights"], "model_weights/", datasets)
    else:
        names = _keras3(file, datasets)
    if not names:
        raise RefusedError("it holds no weights of layers")
    return {name: _array(datasets[place]) for name, place in names.items()}


def _walk(group: Any, prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    """Yield every dataset with its path; refuse whatever does not lie in this file."""
    import h5py

    if depth > _MAX_DEPTH:
        raise RefusedError("its groups are nested too deeply; refused")
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise RefusedError(f"{prefix}{name} is a link that may lead out of the file; refused")
        entry = group[name]
        if isinstance(entry, h5py.Group):
            yield from _walk(entry, f"{prefix}{name}/", depth + 1)
        elif isinstance(entry, h5py.Dataset):
            if entry.external or entry.is_virtual:
                raise RefusedError(f"{prefix}{name} lies in another file; refused")
            yield f"{prefix}{name}", entry


def _keras2(root: Any, prefix: str, datasets: dict[str, Any]) -> dict[str, str]:
    """Return paths by `layer/variable`, in the order of the layers."""
    found = {}
    for layer in _texts(root, "layer_names"):
        if layer not in root:
            raise RefusedError(f"it names the layer {layer}, but does not hold it")
        for weight in _texts(root[layer], "weight_names"):
            place = f"{prefix}{layer}/{weight}"
            if place not in datasets:
                raise RefusedError(f"it names the array {weight}, but does not hold it")
            # Scopes may stand in front: `block/conv1/kernel` of the layer conv1.
            _, _, variable = f"/{weight.partition(':')[0]}".rpartition(f"/{layer}/")
            variable = variable.removeprefix("/")
            found[f"{layer}/{variable}"] = place
    return found


def _texts(group: Any, attribute: str) -> list[str]:
    """Return a list of names; Keras spreads long ones over several attributes."""
    parts = [attribute] if attribute in group.attrs else []
    while (part := f"{attribute}{len(parts)}") in group.attrs:
        parts.append(part)
    texts = [text for part in parts for text in group.attrs[part]]
    return [text.decode() if isinstance(text, bytes) else str(text) for text in texts]


def _keras3(file: Any, datasets: dict[str, Any]) -> dict[str, str]:
    """Return paths by `layer/variable`, sorted by path, numbers by value."""
    places = [
        place
        for place in sorted(datasets, key=_natural)
        if place.split("/")[-2:-1] == ["vars"]
        and not place.startswith("optimizer/")
        and "/seed_generator" not in place
    ]
    groups = {place: place.rpartition("/")[0] for place in places}
    names = {group: _layer_name(file, group) for group in groups.values()}
    count = Counter(names.values())
    found = {}
    for place, group in groups.items():
        layer = names[group] if count[names[group]] == 1 else _plain(group)
        found[f"{layer}/{place.rpartition('/')[2]}".lstrip("/")] = place
    return found


def _layer_name(file: Any, group: str) -> str:
    """Return the name of a layer of a functional model; layers of other models have only a path."""
    name = file[group].attrs.get("name") if group.startswith("layers/") else None
    return name if isinstance(name, str) else _plain(group)


def _plain(group: str) -> str:
    return "/".join(part for part in group.split("/") if part not in ("layers", "vars"))


def _natural(place: str) -> list[tuple[int, str]]:
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", place)
    ]


def _array(dataset: Any) -> np.ndarray:
    if dataset.attrs.get("dtype") == "bfloat16":
        return widen_bfloat16(dataset[()].view(np.uint16))
    if dataset.dtype.kind not in "fiub":
        raise RefusedError(f"{dataset.name} holds no numbers")
    return dataset[()]

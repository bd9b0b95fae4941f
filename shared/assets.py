"""Where the parts of convsuite lie, in a checkout and in an installed wheel."""

import importlib.util
from pathlib import Path

_HERE = Path(__file__).resolve().parent
# The wheel carries the top-level `data/` folder inside this package (see pyproject.toml).
_ROOTS = (_HERE / "data", _HERE.parent / "data")
# Parts of `shared` that have verbs, a demonstration and a page of their own, as applications do.
_LIBRARIES = (_HERE / "backbones",)


def data_dir() -> Path:
    """Return the folder that holds `labels/`, `samples/` and `weights/`."""
    return next((root for root in _ROOTS if root.is_dir()), _ROOTS[-1])


def samples_dir() -> Path:
    """Return the folder of the small sample inputs that ship with convsuite."""
    return data_dir() / "samples"


def weights_dir() -> Path:
    """Return the folder of the weights this project trained: `<app>/<name>.keras` and cards."""
    return data_dir() / "weights"


def labels_dir() -> Path:
    """Return the folder of the names of classes, `imagenet.txt`."""
    return data_dir() / "labels"


def packages_with(module: str) -> dict[str, Path]:
    """Return the folders that hold `MODULE.py`, by name: applications, then the backbones.

    Imports none of them; `package` says under which name they are imported.
    """
    spec = importlib.util.find_spec("apps")
    roots = spec.submodule_search_locations if spec else ()
    apps = sorted(file.parent for root in roots or () for file in Path(root).glob(f"*/{module}.py"))
    library = [folder for folder in _LIBRARIES if (folder / f"{module}.py").exists()]
    return {folder.name: folder for folder in (*apps, *library)}


def package(folder: Path) -> str:
    """Return the name by which a folder of `packages_with` is imported."""
    return f"shared.{folder.name}" if folder in _LIBRARIES else f"apps.{folder.name}"

"""Where the parts of convsuite lie, in a checkout and in an installed wheel."""

import importlib.util
from pathlib import Path

_HERE = Path(__file__).resolve().parent
# The wheel carries the top-level `data/` folder inside this package (see pyproject.toml).
_ROOTS = (_HERE / "data", _HERE.parent / "data")


def data_dir() -> Path:
    """Return the folder that holds `samples/` and `weights/`."""
    return next((root for root in _ROOTS if root.is_dir()), _ROOTS[-1])


def samples_dir() -> Path:
    """Return the folder of the small sample inputs that ship with convsuite."""
    return data_dir() / "samples"


def weights_dir() -> Path:
    """Return the folder of the weights this project trained: `<app>/<name>.keras` and cards."""
    return data_dir() / "weights"


def apps_with(module: str) -> dict[str, Path]:
    """Return the folders of the applications that hold `MODULE.py`, by name; imports none."""
    spec = importlib.util.find_spec("apps")
    roots = spec.submodule_search_locations if spec else ()
    found = (file.parent for root in roots or () for file in Path(root).glob(f"*/{module}.py"))
    return {folder.name: folder for folder in sorted(found)}

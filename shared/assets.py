"""Where the files that ship with convsuite lie: in a checkout, and in an installed wheel."""

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

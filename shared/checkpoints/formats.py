"""Which format a weight file has, by its content, and the reader for it."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from . import arrays, caffe, keras_h5, torch_state
from .refusal import RefusedError, reader

Format = Literal["torch", "keras", "npz", "npy", "safetensors", "caffe"]

_READERS: dict[str, Callable[[str | Path], dict[str, np.ndarray]]] = {
    "torch": torch_state.read,
    "keras": keras_h5.read,
    "npz": arrays.read_npz,
    "npy": arrays.read_npy,
    "safetensors": arrays.read_safetensors,
    "caffe": caffe.read,
}
_ZIP_MAGIC = b"PK\x03\x04"
_PICKLE_MAGICS = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))
# First bytes of a NetParameter: its name, its first old layer, its first layer.
_CAFFE_STARTS = (b"\x0a", b"\x12", b"\xa2\x06")
_KNOWN = "Keras .h5 and .keras, torch .pth, .npz, .npy, .safetensors, Caffe"


@reader("weight file")
def detect(path: Path) -> Format:
    """Return the format of a weight file; its name does not matter.

    Raises:
        WeightsError: No such file, an empty one, a bare pickle, or no known format.
    """
    if not path.is_file():
        raise RefusedError("no such weight file")
    with path.open("rb") as stream:
        start = stream.read(16)
    if not start:
        raise RefusedError("it is empty")
    if start.startswith(torch_state.LEGACY_MAGIC):
        return "torch"
    if start.startswith(keras_h5.MAGIC):
        return "keras"
    if start.startswith(arrays.NPY_MAGIC):
        return "npy"
    if start.startswith(_ZIP_MAGIC):
        return _detect_archive(path)
    if start.startswith(_PICKLE_MAGICS):
        raise RefusedError("it is a bare pickle, which could run code; refused")
    if start[8:9] == b"{":
        return "safetensors"
    if start.startswith(_CAFFE_STARTS):
        return "caffe"
    raise RefusedError(f"it has none of the known formats ({_KNOWN})")


def read(path: str | Path) -> dict[str, np.ndarray]:
    """Read the arrays of a weight file of any known format; runs nothing it contains.

    Returns:
        Arrays by the names the file gives them, in its layout: see the reader of the format.

    Raises:
        WeightsError: Not readable, damaged, hostile, or of no known format.
    """
    return _READERS[detect(path)](path)


def _detect_archive(path: Path) -> Format:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.split("/")[1:] == ["data.pkl"] for name in names):
        return "torch"
    if keras_h5.ARCHIVE_MEMBER in names:
        return "keras"
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    raise RefusedError(f"it is a zip archive of none of the known formats ({_KNOWN})")

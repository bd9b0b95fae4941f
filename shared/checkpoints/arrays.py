"""Plain arrays: `.npz`, `.npy`, `.safetensors`."""

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from .refusal import INFLATION, RefusedError, check_members, check_size, reader

NPY_MAGIC = b"\x93NUMPY"
LONE = "array"
"""Name of the one array of an `.npy` file."""


@reader("NumPy archive")
def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read an `.npz` archive.

    Returns:
        Arrays by name, in the order of the file.

    Raises:
        WeightsError: No such file, damaged, pickled objects, or sizes it cannot hold.
    """
    with zipfile.ZipFile(path) as archive:
        check_members(archive, path, INFLATION)
        for member in archive.infolist():
            with archive.open(member) as stream:
                check_header(stream, member.file_size, member.filename)
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


@reader("NumPy array")
def read_npy(path: Path) -> dict[str, np.ndarray]:
    """Read an `.npy` file; its array is called `array`.

    Raises:
        WeightsError: No such file, damaged, pickled objects, or a size it cannot hold.
    """
    with path.open("rb") as stream:
        check_header(stream, path.stat().st_size, path.name)
    return {LONE: np.load(path, allow_pickle=False)}


@reader("safetensors file")
def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Read a `.safetensors` file.

    Returns:
        Arrays by name; bfloat16 as float32.

    Raises:
        WeightsError: No such file, damaged, or a size it cannot hold.
    """
    from safetensors.numpy import load_file

    with path.open("rb") as stream:
        check_size(int.from_bytes(stream.read(8), "little"), path)
    arrays = load_file(path)
    return {
        name: array.astype(np.float32) if array.dtype.name == "bfloat16" else array
        for name, array in arrays.items()
    }


def check_header(stream: Any, length: int, name: str, kinds: str = "fiub") -> None:
    """Refuse an array of other kinds, or one that claims more than its file holds.

    Args:
        stream: At the beginning of an `.npy` file.
        length: Of that file, in bytes.
        name: Of the array, for the message.
        kinds: Kinds of NumPy types that are wanted; those of numbers by default.

    Raises:
        RefusedError: It is refused; pickled objects always are.
    """
    version = np.lib.format.read_magic(stream)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise RefusedError(f"{name} has an unknown version of the .npy format")
    shape, _, dtype = read(stream)
    if dtype.hasobject:
        raise RefusedError(f"{name} holds pickled objects, which could run code; refused")
    if dtype.kind not in kinds:
        wanted = "neither numbers nor text" if "U" in kinds else "no numbers"
        raise RefusedError(f"{name} holds {wanted}")
    if math.prod(shape) * dtype.itemsize > length:
        raise RefusedError(f"{name} claims an array of shape {shape}, more than it holds; refused")

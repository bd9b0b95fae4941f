"""Handwritten digits: MNIST files in the IDX format, or the small set that scikit-learn bundles."""

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from shared.errors import DataError, reason

SIDE = 28
_LIMIT = 1 << 29
"""Bytes; ten times the largest file of MNIST."""
_UNSIGNED_BYTES = 0x08
_FILES = {
    "train images": "train-images{}idx3-ubyte{}",
    "train labels": "train-labels{}idx1-ubyte{}",
    "test images": "t10k-images{}idx3-ubyte{}",
    "test labels": "t10k-labels{}idx1-ubyte{}",
}
_SCIKIT_TRAIN = 1_347
"""Three quarters of the bundled digits, in their order."""


@dataclass(frozen=True, eq=False)
class Digits:
    """Pictures of digits, white on black, with their classes.

    Attributes:
        train_images: `(n, 28, 28)` uint8.
        train_labels: `(n,)` int64, 0 to 9.
        test_images: `(m, 28, 28)` uint8.
        test_labels: `(m,)` int64.
        source: What they are, for tables and cards.
        licence: Of the pictures.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    source: str
    licence: str


def load_digits(folder: str | Path | None = None) -> Digits:
    """Return handwritten digits.

    Args:
        folder: Holds the four MNIST files, `train-images-idx3-ubyte.gz` and so on, compressed or
            not. None takes the 1,797 digits of 8x8 pixels that scikit-learn bundles, enlarged to
            20x20 in the middle of 28x28: a toy beside MNIST, as `source` says.

    Raises:
        DataError: A file is missing or damaged, or the files do not belong together.
    """
    if folder is None:
        return _scikit_digits()
    arrays = {name: read_idx(_find(Path(folder), pattern)) for name, pattern in _FILES.items()}
    for part in ("train", "test"):
        _check(folder, part, arrays[f"{part} images"], arrays[f"{part} labels"])
    return Digits(
        arrays["train images"],
        arrays["train labels"].astype(np.int64),
        arrays["test images"],
        arrays["test labels"].astype(np.int64),
        f"MNIST, {len(arrays['train labels']):,} training and "
        f"{len(arrays['test labels']):,} test digits",
        "CC BY-SA 3.0 (LeCun, Cortes, Burges)",
    )


def read_idx(path: str | Path) -> np.ndarray:
    """Read an IDX file of unsigned bytes, compressed with gzip or not.

    The format: two zero bytes, the type 8, the number of dimensions, then each dimension as a
    big-endian 32-bit number, then the values.

    Returns:
        uint8, of the shape that the file states.

    Raises:
        DataError: The file is missing, damaged, of another kind, cut off, too long, or claims a
            size beyond half a gigabyte.
    """
    path = Path(path)
    try:
        with path.open("rb") as raw:
            is_gzip = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if not is_gzip:
                return _read(raw, path)
            with gzip.open(raw) as unpacked:
                return _read(unpacked, path)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; check the name.") from None
    except EOFError:
        raise DataError(f"{path} is cut off; copy it again.") from None
    except (OSError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {reason(error)}.") from error


def _read(file: BinaryIO, path: Path) -> np.ndarray:
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0":
        raise DataError(f"{path} is no IDX file: it starts with {head.hex(' ') or 'nothing'}.")
    kind, dimensions = head[2], head[3]
    if kind != _UNSIGNED_BYTES:
        raise DataError(
            f"{path} holds values of the IDX type {kind:#x}; only bytes (0x8) are read."
        )
    if not 1 <= dimensions <= 4:
        raise DataError(f"{path} claims {dimensions} dimensions; 1 to 4 are read.")
    sizes = file.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise DataError(f"{path} is cut off within its header; copy it again.")
    shape = tuple(int(size) for size in np.frombuffer(sizes, ">u4"))
    count = math.prod(shape)
    stated = " x ".join(map(str, shape))
    if count > _LIMIT:
        raise DataError(f"{path} claims {stated} values, more than the {_LIMIT:,} that are read.")
    values = file.read(count + 1)
    if len(values) < count:
        raise DataError(
            f"{path} is cut off: it claims {stated} values and holds {len(values):,}; "
            "copy it again."
        )
    if len(values) > count:
        raise DataError(f"{path} holds more than the {stated} values it claims; copy it again.")
    return np.frombuffer(values, np.uint8).reshape(shape)


def _find(folder: Path, pattern: str) -> Path:
    names = [pattern.format(dot, end) for dot in "-." for end in (".gz", "")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{folder} holds no {names[0]}; name the folder of the four MNIST files.")


def _check(folder: str | Path, part: str, images: np.ndarray, labels: np.ndarray) -> None:
    if images.shape[1:] != (SIDE, SIDE) or labels.ndim != 1:
        raise DataError(
            f"{folder}: the {part} pictures have the shape {images.shape} and the labels "
            f"{labels.shape}; digits are (n, {SIDE}, {SIDE}) and (n,)."
        )
    if len(images) != len(labels) or not len(labels):
        raise DataError(
            f"{folder}: {len(images):,} {part} pictures and {len(labels):,} labels do not belong "
            "together."
        )
    if labels.max() > 9:
        raise DataError(f"{folder}: a {part} label is {labels.max()}; digits are 0 to 9.")


def _scikit_digits() -> Digits:
    import cv2
    from sklearn.datasets import load_digits as bundled

    found = bundled()
    images = np.zeros((len(found.images), SIDE, SIDE), np.uint8)
    for image, small in zip(images, found.images, strict=True):
        large = cv2.resize(small.astype(np.float32) * (255 / 16), (20, 20))
        image[4:24, 4:24] = np.rint(large)
    labels = found.target.astype(np.int64)
    n = _SCIKIT_TRAIN
    return Digits(
        images[:n],
        labels[:n],
        images[n:],
        labels[n:],
        f"scikit-learn digits (8x8 pixels, enlarged), {n:,} training and {len(labels) - n} test "
        "digits",
        "distributed with scikit-learn (BSD-3-Clause)",
    )

"""Networks of Caffe (`.caffemodel`): the protobuf wire format, as far as weights need it."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .refusal import RefusedError, reader

# Field numbers of caffe.proto.
_NET_FIELDS = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 100})
_V1_LAYERS, _V2_LAYER = 2, 100
_V1_NAME, _V1_TYPE, _V1_BLOBS = 4, 5, 6
_V2_NAME, _V2_TYPE, _V2_BLOBS = 1, 2, 7
_OLD_SIDES, _FLOATS, _SHAPE, _DOUBLES = (1, 2, 3, 4), 5, 7, 8
_V1_TYPES = {4: "Convolution", 14: "InnerProduct", 39: "Deconvolution"}
_BLOB_NAMES = {
    "Convolution": ("weight", "bias"),
    "Deconvolution": ("weight", "bias"),
    "InnerProduct": ("weight", "bias"),
    "BatchNorm": ("mean", "variance", "factor"),
    "Scale": ("gamma", "beta"),
    # Of the branch of Caffe that BN-Inception was trained with.
    "BN": ("gamma", "beta", "moving_mean", "moving_variance"),
    "PReLU": ("alpha",),
}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10


class Layer(NamedTuple):
    """A layer with weights.

    Attributes:
        name: Its name.
        type: Its type as in a prototxt, such as `Convolution`; of old networks only those that
            have weights, otherwise a number.
        blobs: Its arrays, in Caffe's layout (convolutions: out, in, height, width).
    """

    name: str
    type: str
    blobs: tuple[np.ndarray, ...]


def read(path: str | Path) -> dict[str, np.ndarray]:
    """Read the arrays of a network.

    Returns:
        Arrays by `layer/weight` and `layer/bias` (convolutions and dense layers), `layer/mean`,
        `/variance` and `/factor` (`BatchNorm`: sums, and what they are divided by), `layer/gamma`
        and `/beta` (`Scale`), these with `/moving_mean` and `/moving_variance` (`BN`), `layer/0`
        and so on for other types; in the order of the file.

    Raises:
        WeightsError: See `read_layers`.
    """
    arrays = {}
    for layer in read_layers(path):
        names = _BLOB_NAMES.get(layer.type, ())
        for i, blob in enumerate(layer.blobs):
            arrays[f"{layer.name}/{names[i] if i < len(names) else i}"] = blob
    return arrays


@reader("Caffe network")
def read_layers(path: Path) -> list[Layer]:
    """Read the layers of a network that have weights, in the order of the file.

    Raises:
        WeightsError: No such file, damaged, a claimed size it does not hold, or no weights.
    """
    layers = [layer for layer in _layers(path) if layer.blobs]
    if not layers:
        raise RefusedError("it holds no weights of a known format")
    return layers


@reader("Caffe network")
def layer_names(path: Path) -> list[str]:
    """Return the names of all layers of a network, in their order, with or without weights.

    Raises:
        WeightsError: See `read_layers`.
    """
    return [layer.name for layer in _layers(path)]


def _layers(path: Path) -> Iterator[Layer]:
    for field, value in _fields(memoryview(path.read_bytes())):
        if field not in _NET_FIELDS:
            raise RefusedError("it is neither a weight file of a known format nor a Caffe network")
        if field == _V1_LAYERS:
            yield _layer(value, _V1_NAME, _V1_TYPE, _V1_BLOBS)
        elif field == _V2_LAYER:
            yield _layer(value, _V2_NAME, _V2_TYPE, _V2_BLOBS)


def _layer(message: memoryview, name_field: int, type_field: int, blob_field: int) -> Layer:
    name, kind, blobs = "", "", []
    for field, value in _fields(message):
        if field == name_field:
            name = bytes(value).decode()
        elif field == type_field:
            is_number = isinstance(value, int)
            kind = _V1_TYPES.get(value, str(value)) if is_number else bytes(value).decode()
        elif field == blob_field:
            blobs.append(_blob(value))
    if kind == "InnerProduct":
        blobs = [blob.reshape(blob.shape[-2:]) if blob.ndim == 4 else blob for blob in blobs]
    if kind == "BN":
        blobs = [blob.reshape(-1) for blob in blobs]
    elif kind in ("Convolution", "Deconvolution", "InnerProduct"):
        blobs = [*blobs[:1], *(blob.reshape(-1) for blob in blobs[1:])]
    return Layer(name, kind, tuple(blobs))


def _blob(message: memoryview) -> np.ndarray:
    old_shape, shape, parts, dtype = dict.fromkeys(_OLD_SIDES, 1), None, [], "<f4"
    for field, value in _fields(message):
        if field in _OLD_SIDES:
            old_shape[field] = value
        elif field == _SHAPE:
            shape = [side for _, packed in _fields(value) for side in _varints(packed)]
        elif field in (_FLOATS, _DOUBLES):
            dtype = "<f4" if field == _FLOATS else "<f8"
            parts.append(value)
    sides = tuple(old_shape.values() if shape is None else shape)
    # The parts are slices of the file, so only the claimed shape can be too large.
    numbers = np.frombuffer(parts[0] if len(parts) == 1 else b"".join(parts), dtype)
    if math.prod(sides) != len(numbers):
        raise RefusedError(f"a blob claims the shape {sides}, but holds {len(numbers)} numbers")
    return numbers.reshape(sides)


def _fields(message: memoryview) -> Iterator[tuple[int, "int | memoryview"]]:
    """Yield the number and the content of every field of a message."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind = key & 7
        if kind == _VARINT:
            value, place = _varint(message, place)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            length, place = _varint(message, place)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise RefusedError("it is neither a weight file of a known format nor a Caffe network")
        if length > len(message) - place:
            raise RefusedError("it is damaged or cut off: a part is longer than the file")
        yield key >> 3, message[place : place + length]
        place += length


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    number = 0
    for i, byte in enumerate(message[place : place + _MAX_VARINT_BYTES]):
        number |= (byte & 127) << (7 * i)
        if byte < 128:
            return number, place + i + 1
    raise RefusedError("it is damaged or cut off: a number does not end")


def _varints(packed: "int | memoryview") -> list[int]:
    if isinstance(packed, int):
        return [packed]
    numbers, place = [], 0
    while place < len(packed):
        number, place = _varint(packed, place)
        numbers.append(number)
    return numbers

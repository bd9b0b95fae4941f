"""Writes the layers of a `.caffemodel`, for tests of its readers."""

import numpy as np


def message(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def varint(number: int) -> bytes:
    found = b""
    while number > 127:
        found += bytes([number & 127 | 128])
        number >>= 7
    return found + bytes([number])


def caffe_layer(name: str, kind: str, *blobs: np.ndarray) -> bytes:
    parts = [message(1, name.encode()), message(2, kind.encode())]
    for blob in blobs:
        shape = message(7, message(1, b"".join(varint(side) for side in blob.shape)))
        parts.append(message(7, shape + message(5, blob.astype("<f4").tobytes())))
    return message(100, b"".join(parts))

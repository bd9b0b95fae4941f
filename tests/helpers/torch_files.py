"""Writes files of torch by hand, for tests of their reader and where torch is not installed."""

import pickle
import struct
import zipfile

import numpy as np


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def numbers(*values: int) -> bytes:
    return b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t"


def storage(key: str, count: int, kind: str = "FloatStorage", view: bytes = b"") -> bytes:
    size = b"J" + struct.pack("<i", count)
    parts = (text("storage"), name("torch", kind), text(key), text("cpu"), size, view)
    return b"(" + b"".join(parts) + b"tQ"


def tensor(stored: bytes, offset: int, shape: tuple, strides: tuple) -> bytes:
    place = b"J" + struct.pack("<i", offset)
    hooks = name("collections", "OrderedDict") + b")R"
    rebuild = name("torch._utils", "_rebuild_tensor_v2")
    return (
        rebuild
        + b"("
        + stored
        + place
        + numbers(*shape)
        + numbers(*strides)
        + b"\x89"
        + hooks
        + b"tR"
    )


def state_dict(**entries: bytes) -> bytes:
    items = b"".join(text(key) + value for key, value in entries.items())
    return b"\x80\x02" + name("collections", "OrderedDict") + b")R(" + items + b"u."


def torch_zip(path, content: bytes, **storages: np.ndarray):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/byteorder", "little")
        for key, values in storages.items():
            archive.writestr(f"archive/data/{key}", values.tobytes())
    return path


def torch_legacy(path, content: bytes, **storages: np.ndarray):
    with path.open("wb") as file:
        pickle.dump(0x1950A86A20F9469CFC6C, file, protocol=2)
        pickle.dump(1001, file, protocol=2)
        pickle.dump({"protocol_version": 1001, "little_endian": True}, file, protocol=2)
        file.write(content)
        pickle.dump(list(storages), file, protocol=2)
        for values in storages.values():
            file.write(struct.pack("<q", values.size) + values.tobytes())
    return path


def save_state_dict(path, arrays: dict[str, np.ndarray]):
    """Write arrays of float32 as `torch.save` writes a state dict."""
    entries, storages = {}, {}
    for number, (key, array) in enumerate(arrays.items()):
        array = np.ascontiguousarray(array, np.float32)
        storages[str(number)] = array
        strides = tuple(stride // array.itemsize for stride in array.strides)
        entries[key] = tensor(storage(str(number), array.size), 0, array.shape, strides)
    return torch_zip(path, state_dict(**entries), **storages)

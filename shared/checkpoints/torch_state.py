"""State dicts written by `torch.save`, in the zip format and in the one before it, without torch.

The pickle inside is not unpickled: a small machine walks over its instructions, knows the few that
a dictionary of tensors needs, and refuses all others. No object is ever made, and no function
called, that the file names; names of the file only select one of the cases written down here.
"""

import math
import mmap
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .refusal import RefusedError, check_members, reader, widen_bfloat16

LEGACY_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
_LEGACY_PROTOCOL = 1001
_MAX_INSTRUCTIONS = 5_000_000
_BFLOAT16 = "bfloat16"
_STORAGES = {
    "torch DoubleStorage": "<f8",
    "torch FloatStorage": "<f4",
    "torch HalfStorage": "<f2",
    "torch BFloat16Storage": _BFLOAT16,
    "torch LongStorage": "<i8",
    "torch IntStorage": "<i4",
    "torch ShortStorage": "<i2",
    "torch CharStorage": "<i1",
    "torch ByteStorage": "<u1",
    "torch BoolStorage": "?",
}
_DICT = "collections OrderedDict"
_TENSOR = frozenset({"torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor"})
_PARAMETER = "torch._utils _rebuild_parameter"
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}
_LITERALS = frozenset(
    {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
    | {"BINUNICODE", "SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING"}
)
# Keys under which training programs put the state dict beside epochs and optimizers.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "params_ema", "params")


class _Global(NamedTuple):
    """A name the pickle asks for."""

    name: str


class _Storage(NamedTuple):
    """A row of numbers, stored elsewhere in the file."""

    key: str
    dtype: str
    count: int


class _Tensor(NamedTuple):
    """A view of a storage; sizes and strides in numbers, not in bytes."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@reader("torch file")
def read(path: Path) -> dict[str, np.ndarray]:
    """Read the tensors of a state dict.

    Args:
        path: What `torch.save(model.state_dict(), path)` wrote, or a dictionary that holds one
            under `state_dict`, `model` or another usual key.

    Returns:
        Arrays by name, in the order of the file, in torch's layout; bfloat16 as float32. They may
        share memory, as the tensors did.

    Raises:
        WeightsError: No such file, damaged, or anything in it but tensors and plain values.
    """
    with path.open("rb") as stream:
        legacy = stream.read(len(LEGACY_MAGIC)) == LEGACY_MAGIC
    return _read_legacy(path) if legacy else _read_zip(path)


def _read_zip(path: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        check_members(archive, path)  # torch stores its members uncompressed
        pickle = next((n for n in archive.namelist() if n.split("/")[1:] == ["data.pkl"]), None)
        if pickle is None:
            raise RefusedError("it is a zip archive without the `data.pkl` of a torch file")
        prefix = pickle.removesuffix("data.pkl")
        if f"{prefix}byteorder" in archive.namelist() and (
            archive.read(f"{prefix}byteorder") != b"little"
        ):
            raise RefusedError("its numbers are big-endian; save it again on a usual machine")
        tensors = _state_dict(_walk(archive.read(pickle)))
        storages = {
            key: _numbers(archive.read(f"{prefix}data/{key}"), storage)
            for key, storage in _storages_of(tensors).items()
        }
    return {name: _view(tensor, storages) for name, tensor in tensors.items()}


def _read_legacy(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        _walk(stream)  # the magic number
        if _walk(stream) != _LEGACY_PROTOCOL:
            raise RefusedError("it is a torch file of an unknown version")
        machine = _walk(stream)
        if not isinstance(machine, dict) or machine.get("little_endian") is not True:
            raise RefusedError("its numbers are big-endian; save it again on a usual machine")
        tensors = _state_dict(_walk(stream))
        wanted = _storages_of(tensors)
        sizes = _all_storages_in_order(_walk(stream))
        storages = {}
        for key in sizes:
            count = int.from_bytes(stream.read(8), "little")
            if key not in wanted:
                raise RefusedError("it holds tensors outside the state dict; save that alone")
            width = np.dtype(_stored(wanted[key].dtype)).itemsize
            if count != wanted[key].count or count * width > len(stream) - stream.tell():
                raise RefusedError(f"it is cut off: the numbers of storage {key} are incomplete")
            storages[key] = _numbers(stream.read(count * width), wanted[key])
    return {name: _view(tensor, storages) for name, tensor in tensors.items()}


def _all_storages_in_order(keys: Any) -> list[str]:
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise RefusedError("its list of storages is damaged")
    if len(set(keys)) != len(keys):
        raise RefusedError("its list of storages names one twice")
    return keys


def _state_dict(found: Any) -> dict[str, _Tensor]:
    """Pick the tensors out of what a file holds."""
    for key in _WRAPPERS:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict):
        raise RefusedError("it holds no state dict; write it with torch.save(model.state_dict())")
    tensors = {str(key): value for key, value in found.items() if isinstance(value, _Tensor)}
    if not tensors:
        raise RefusedError("its state dict holds no tensors")
    return tensors


def _storages_of(tensors: Mapping[str, _Tensor]) -> dict[str, _Storage]:
    storages: dict[str, _Storage] = {}
    for tensor in tensors.values():
        if storages.setdefault(tensor.storage.key, tensor.storage) != tensor.storage:
            raise RefusedError(f"it describes its storage {tensor.storage.key} in two ways")
    return storages


def _stored(dtype: str) -> str:
    return "<u2" if dtype == _BFLOAT16 else dtype


def _numbers(content: bytes, storage: _Storage) -> np.ndarray:
    numbers = np.frombuffer(content, _stored(storage.dtype))
    if len(numbers) != storage.count:
        raise RefusedError(
            f"its storage {storage.key} holds {len(numbers)} numbers, not {storage.count}"
        )
    return widen_bfloat16(numbers) if storage.dtype == _BFLOAT16 else numbers


def _view(tensor: _Tensor, storages: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return a tensor as a view of its storage; the checks keep it inside."""
    numbers = storages[tensor.storage.key]
    geometry = (tensor.shape, tensor.strides)
    last = sum((side - 1) * stride for side, stride in zip(*geometry, strict=True))
    inside = 0 in tensor.shape or tensor.offset + last < len(numbers)
    if not inside or math.prod(tensor.shape) > max(len(numbers), 1):
        raise RefusedError(f"a tensor of shape {tensor.shape} does not fit into its storage")
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, numbers.dtype)
    strides = [stride * numbers.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(
        numbers[tensor.offset :], tensor.shape, strides, writeable=False
    )


def _walk(pickle: Any) -> Any:
    """Follow the instructions of one pickle, from bytes or from where a stream stands."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def above_mark() -> list[Any]:
        start = marks.pop()
        taken = stack[start:]
        del stack[start:]
        return taken

    for count, (opcode, argument, _) in enumerate(pickletools.genops(pickle)):
        if count > _MAX_INSTRUCTIONS:
            raise RefusedError("its pickle has too many instructions; refused")
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop()
            case "MARK":
                marks.append(len(stack))
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append(_CONSTANTS[opcode.name])
            case "EMPTY_TUPLE" | "EMPTY_LIST" | "EMPTY_DICT":
                stack.append(_EMPTY[opcode.name]())
            case name if name in _LITERALS:
                stack.append(argument)
            case "TUPLE":
                stack.append(tuple(above_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                size = int(opcode.name[-1])
                stack[-size:] = [tuple(stack[-size:])]
            case "APPEND":
                value = stack.pop()
                _a(list, stack[-1]).append(value)
            case "APPENDS":
                values = above_mark()
                _a(list, stack[-1]).extend(values)
            case "SETITEM":
                pair = stack[-2:]
                del stack[-2:]
                _set_items(stack[-1], pair)
            case "SETITEMS":
                values = above_mark()
                _set_items(stack[-1], values)
            case "GLOBAL":
                stack.append(_known(argument))
            case "STACK_GLOBAL":
                module, name = stack[-2:]
                stack[-2:] = [_known(f"{module} {name}")]
            case "REDUCE":
                function, arguments = stack[-2:]
                stack[-2:] = [_rebuild(_a(_Global, function).name, _a(tuple, arguments))]
            case "BUILD":
                stack.pop()  # attributes, such as the version numbers of modules
                _a(dict, stack[-1])
            case "BINPERSID":
                stack.append(_storage(stack.pop()))
            case name:
                raise RefusedError(f"its pickle holds the instruction {name}; refused")
    raise RefusedError("its pickle is cut off")


def _a(kind: type, value: Any) -> Any:
    """Return the value if it is of that kind (and no kind made from it, such as a storage)."""
    if type(value) is not kind:
        raise RefusedError("its pickle is damaged; refused")
    return value


def _known(name: str) -> _Global:
    if name not in _STORAGES and name not in _TENSOR and name not in (_DICT, _PARAMETER):
        raise RefusedError(
            f"its pickle asks for `{name.replace(' ', '.')}`, which a state dict does not need; "
            "refused, since it could run code"
        )
    return _Global(name)


def _set_items(target: Any, flat: list[Any]) -> None:
    _a(dict, target)
    for key, value in zip(flat[::2], flat[1::2], strict=True):
        if type(key) not in (str, int):
            raise RefusedError("its pickle uses something other than text as a key; refused")
        target[key] = value


def _rebuild(function: str, arguments: tuple[Any, ...]) -> Any:
    """Return what a call in the pickle stands for."""
    if function == _DICT:
        found: dict[Any, Any] = {}
        for pair in arguments[0] if arguments else ():
            _set_items(found, list(pair))
        return found
    if function == _PARAMETER:
        return _a(_Tensor, arguments[0])
    if function in _TENSOR:
        storage, offset, shape, strides = arguments[:4]
        if len(_a(tuple, shape)) != len(_a(tuple, strides)):
            raise RefusedError("its pickle is damaged; refused")
        for number in (offset, *shape, *strides):
            if _a(int, number) < 0:
                raise RefusedError("a tensor has a negative size or stride; refused")
        return _Tensor(_a(_Storage, storage), offset, shape, strides)
    raise RefusedError("its pickle calls a storage type; refused")


def _storage(identity: Any) -> _Storage:
    kind, storage, key, _, count, *view = _a(tuple, identity)
    if kind != "storage" or any(entry is not None for entry in view):
        raise RefusedError("it holds a kind of storage that is not known here")
    dtype = _STORAGES.get(_a(_Global, storage).name)
    if dtype is None:
        raise RefusedError("its pickle is damaged; refused")
    return _Storage(_a(str, key), dtype, _a(int, count))

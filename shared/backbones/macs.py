"""Sizes, parameters, multiply-adds and receptive fields, read off a functional graph."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Row:
    """One layer of a network.

    Attributes:
        name: Name of the layer.
        kind: Class of the layer.
        shape: Output shape without the batch; None where the input leaves a side open.
        parameters: Trainable parameters.
        statistics: Other variables that hold numbers of the network, such as moving averages.
        macs: Multiply-adds at that shape; 0 where a side is open.
        stride: Input pixels from one place of the map to the next; 0 for vectors.
        receptive_field: Side of the square of input pixels that a place sees, before clipping by
            the border; 0 for vectors.
        first: Input row (and column) where the square of the first place begins; negative when it
            hangs over the border.
    """

    name: str
    kind: str
    shape: tuple[int | None, ...]
    parameters: int
    statistics: int
    macs: int
    stride: int
    receptive_field: int
    first: int


def abstract(build: Any, *args: Any, **options: Any) -> "keras.Model":
    """Call a function that builds a network, but allocate none of its variables.

    Enough to count and to list layers: a network of 140 million parameters takes no memory.
    """
    import keras
    from keras.src.backend.common import global_state

    # Keras notes variables without a value in a list and gives all of them one when the next scope
    # ends, which would allocate the network after all.
    waiting = list(global_state.get_global_attribute("uninitialized_variables") or ())
    try:
        with keras.StatelessScope(initialize_variables=False):
            return build(*args, **options)
    finally:
        global_state.set_global_attribute("uninitialized_variables", waiting)


def layer_table(model: "keras.Model") -> list[Row]:
    """Return one row per layer of a functional model, in the order of computation."""
    seen = {id(tensor): _Seen() for tensor in model.inputs}
    rows = []
    for operation in _in_order(model):
        inputs, output = _flat(operation.input), _flat(operation.output)[0]
        before = [seen[id(tensor)] for tensor in inputs]
        now = _see(operation, inputs[0].shape, before) if len(output.shape) == 4 else _Seen(0, 0)
        for tensor in _flat(operation.output):
            seen[id(tensor)] = now
        trainable = sum(math.prod(v.shape) for v in _weights(operation, "trainable_weights"))
        total = sum(math.prod(v.shape) for v in _weights(operation, "weights") if _is_number(v))
        rows.append(
            Row(
                name=operation.name,
                kind=type(operation).__name__,
                shape=tuple(output.shape[1:]),
                parameters=trainable,
                statistics=total - trainable,
                macs=_macs(operation, inputs[0].shape[1:], output.shape[1:]),
                stride=now.stride,
                receptive_field=now.side,
                first=now.first,
            )
        )
    return rows


class _Seen(NamedTuple):
    """The square of input pixels behind the first place of a map, and the step to the next."""

    stride: int = 1
    side: int = 1
    first: int = 0


def _flat(tensors: Any) -> list:
    return list(tensors) if isinstance(tensors, list | tuple) else [tensors]


def _in_order(model):
    inputs = {id(tensor) for tensor in model.inputs}
    return [
        operation
        for operation in model.operations
        if not (len(_flat(operation.output)) == 1 and id(_flat(operation.output)[0]) in inputs)
    ]


def _weights(operation, attribute: str) -> list:
    return getattr(operation, attribute, [])


def _is_number(variable) -> bool:
    return "seed" not in variable.path.rpartition("/")[2]


def _square(value: Any) -> int:
    """Return the larger side of a kernel or stride."""
    return max(value) if isinstance(value, list | tuple) else int(value or 1)


def _see(operation, shape: tuple, before: list[_Seen]) -> _Seen:
    """Follow one layer; layers of ours may say theirs by a method `receptive`."""
    if hasattr(operation, "receptive"):
        return _Seen(*operation.receptive(before))
    stride = max(seen.stride for seen in before)
    first = min(seen.first for seen in before)
    side = max(seen.first + seen.side for seen in before) - first
    window = getattr(operation, "kernel_size", None) or getattr(operation, "pool_size", None)
    padding = getattr(operation, "padding", 0)
    if window is None:
        if type(operation).__name__ == "ZeroPadding2D":
            first -= padding[0][0] * stride
        return _Seen(stride, side, first)
    reach = (_square(window) - 1) * _square(getattr(operation, "dilation_rate", 1))
    step = _square(getattr(operation, "strides", 1))
    if padding == "same":
        # TensorFlow's rule: what is missing at the right border decides; an open side counts as
        # a multiple of the stride.
        length = shape[1] or step
        total = max((-(-length // step) - 1) * step + reach + 1 - length, 0)
        first -= total // 2 * stride
    return _Seen(stride * step, side + reach * stride, first)


def _macs(operation, before: tuple, after: tuple) -> int:
    """Return the multiply-adds of a layer; layers of ours may say theirs by a method `macs`."""
    if None in (*before, *after):
        return 0
    if hasattr(operation, "macs"):
        return operation.macs(before, after)
    places = math.prod(after[:-1])
    match type(operation).__name__:
        case "Conv2D":
            return places * math.prod(operation.kernel.shape)
        case "Dense":
            return places * math.prod(operation.kernel.shape)
        case "DepthwiseConv2D":
            return places * math.prod(operation.kernel.shape)
        case "SeparableConv2D":
            depthwise, pointwise = operation.depthwise_kernel, operation.pointwise_kernel
            return places * (math.prod(depthwise.shape) + math.prod(pointwise.shape))
        case _:
            return 0

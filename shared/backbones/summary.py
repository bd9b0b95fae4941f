"""The layers of a network as a table: shapes, parameters, multiply-adds, receptive fields."""

from collections.abc import Iterator
from pathlib import Path

from shared.report import Page

from .macs import Row, abstract, layer_table
from .preprocessing import described
from .registry import create
from .registry import spec as find_spec
from .specs import Spec

HEADERS = ("Layer", "Kind", "Output", "Tap", "Parameters", "Multiply-adds", "Stride", "Sees")


def network_table(name: str, size: int | None = None) -> tuple[list[Row], dict[str, str]]:
    """Return the layers of a network and the taps by the layer that makes them.

    Args:
        name: Name of the network.
        size: Side of the input; that of the paper by default. At another one, a classifier that
            flattens a map would be another classifier, and is left out.
    """
    spec = find_spec(name)
    side = size or spec.size
    shape = (side, side, spec.channels)
    taps = [entry.name for entry in spec.taps if entry.stride or not _is_cut(spec, size)]
    model = abstract(create, name, features=taps, input_shape=shape)
    makers = {
        tensor._keras_history.operation.name: tap
        for tap, tensor in zip(taps, model.outputs, strict=True)
    }
    return layer_table(model), makers


def cells(rows: list[Row], makers: dict[str, str]) -> Iterator[tuple]:
    """Yield the cells below `HEADERS`; layers without parameters, window or tap are left out."""
    for row in rows:
        if row.parameters or row.macs or row.name in makers or "Pool" in row.kind:
            shape = " x ".join("?" if side is None else str(side) for side in row.shape)
            sees = f"{row.receptive_field} px" if row.stride else ""
            yield (
                row.name,
                row.kind,
                shape,
                makers.get(row.name, ""),
                f"{row.parameters:,}" if row.parameters else "",
                f"{row.macs / 1e6:,.1f} M" if row.macs else "",
                row.stride or "",
                sees,
            )


def _is_cut(spec: Spec, size: int | None) -> bool:
    return spec.fixed_size and size not in (None, spec.size)


def facts(name: str, rows: list[Row], size: int | None = None) -> dict[str, str]:
    """Return what is said about a network as a whole; arguments as of `network_table`."""
    spec = find_spec(name)
    side = size or spec.size
    entries = {
        "Paper": spec.paper,
        "Layers after": spec.table,
        "Input": f"{side} x {side} x {spec.channels}, preprocessing “{spec.preprocessing}”",
        "Pictures": described(spec),
        "Left out": f"the classifier, which needs {spec.size} x {spec.size}"
        if _is_cut(spec, size)
        else "",
        "Smallest input": f"{spec.minimum} x {spec.minimum}",
        "Parameters": f"{sum(row.parameters for row in rows):,} trainable"
        + (f", {spec.statistics:,} moving statistics" if spec.statistics else ""),
        "Multiply-adds": f"{sum(row.macs for row in rows) / 1e9:.3f} billion per picture",
        "Same layers in Keras": f"keras.applications.{spec.twin}" if spec.twin else "",
        "Note": spec.note,
    }
    return {key: value for key, value in entries.items() if value}


def write_page(name: str, path: Path, size: int | None = None) -> None:
    """Write the table of a network as one HTML page."""
    rows, makers = network_table(name, size)
    page = Page(name, find_spec(name).paper)
    page.facts(facts(name, rows, size))
    page.heading("Layers")
    page.table(
        HEADERS,
        cells(rows, makers),
        "Tap: name for `features`. Stride: input pixels from one place of the map to the next. "
        "Sees: side of the receptive field in input pixels. Activations, additions and paddings "
        "without parameters are left out.",
    )
    page.write(path)

"""Pages of shapes with what was found about them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from shared.errors import ConvsuiteError
from shared.report import Page

from . import meshes, render
from .tasks import Hit

MOST = 200
"""Shapes on a page; pictures are embedded, so that more would make it slow to open."""


def classes(page: Page, answers: Sequence[dict[str, Any]]) -> None:
    """Add shapes with their likeliest classes.

    Args:
        page: Where they go.
        answers: From `batch.collected`.
    """
    for answer in answers[:MOST]:
        first, *others = answer["top"]
        rest = ", ".join(f"{o['name']} {o['probability']:.0%}" for o in others[:2])
        caption = f"{Path(answer['shape']).name}: {first['name']} {first['probability']:.0%}"
        _add(page, answer["shape"], f"{caption}; then {rest}" if rest else caption)
    _cut(page, len(answers))


def parts(page: Page, files: Sequence[Path], names: Sequence[str]) -> None:
    """Add shapes in the colours of their parts; the files are results of `batch.SegmentWork`."""
    page.picture(legend(names), "Colours of the parts", alt="Colours: " + ", ".join(names))
    for file in files[:MOST]:
        _add(page, file, Path(file).stem, coloured=True)
    _cut(page, len(files))


def hits(page: Page, query: Path, found: Sequence[Hit]) -> None:
    """Add a shape that was searched for, and what is nearest to it."""
    _add(page, query, f"Searched for: {Path(query).name}")
    for place, hit in enumerate(found, 1):
        _add(
            page,
            hit.file,
            f"{place}. {Path(hit.file).name} ({hit.name}), distance {hit.distance:.3f}",
        )


def legend(names: Sequence[str]) -> np.ndarray:
    """Return a picture of the colours of parts with their names, `(height, width, 3)` uint8."""
    colours = render.part_colours(np.arange(len(names)))
    ground = [round(255 * level) for level in render.BACKGROUND]
    shown = np.full((40 * len(names) + 20, 384, 3), ground, np.uint8)
    for row, (name, colour) in enumerate(zip(names, colours, strict=True)):
        y = 40 * row + 15
        shown[y : y + 28, 16:64] = np.round(255 * colour)
        cv2.putText(
            shown, name, (80, y + 22), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (40,) * 3, 1, cv2.LINE_AA
        )
    return shown


def _add(page, file, caption, coloured=False):
    try:
        shape = meshes.read(file)
    except ConvsuiteError as error:  # it was moved since it was indexed
        page.problem(f"{caption}: {error}")
        return
    colours = render.part_colours(shape.labels) if coloured and shape.labels is not None else None
    page.picture(render.picture(shape, colours), caption)


def _cut(page, count):
    if count > MOST:
        page.text(f"The first {MOST} of {count} shapes.")

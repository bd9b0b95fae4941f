"""The tab of this application on the page of `convsuite web`."""

import dataclasses
import functools
import threading
import time
from pathlib import Path

import cv2
import gradio
import numpy as np

from shared import images, web
from shared.images import Picture

from .enhancer import Enhancer, looks

TITLE = "Enhance"
_PREVIEW_SIDE = 1600
# The strength of a look is set on the look itself, which all visitors share.
_ENHANCING = threading.Lock()


def build() -> None:
    """Add upload, look, strength, a before/after slider and the download."""
    cards = looks()
    with gradio.Row():
        with gradio.Column(scale=1, min_width=280):
            file = web.chooser("Picture", web.sample_pictures())
            look = gradio.Radio(
                label="Look",
                choices=[(f"{card.name} · {card.summary}", card.name) for card in cards],
                value=cards[0].name if cards else None,
            )
            strength = gradio.Slider(
                0, 2, value=1, step=0.05, label="Strength", info="1 is the look as it was trained"
            )
        with gradio.Column(scale=3, min_width=320):
            slider = gradio.ImageSlider(
                label="Before and after", max_height=680, buttons=["fullscreen"], interactive=False
            )
            facts = gradio.Markdown()
            download = gradio.DownloadButton(
                "Download in full size", variant="primary", interactive=False
            )
    gradio.on(
        fn=_update,
        inputs=[file, look, strength],
        outputs=[slider, facts, download],
        trigger_mode="always_last",
        show_progress="minimal",
    )


@web.shows_errors
def _update(path: str | None, look: str | None, strength: float) -> tuple:
    """Return the values of the slider, the facts and the download."""
    if path is None or look is None:
        return None, "", gradio.DownloadButton(interactive=False)
    picture = _source(path)
    result, seconds = _enhanced(picture, look, strength)
    folder = web.result_folder()
    pair = folder / "before.jpg", folder / "after.jpg"
    for target, shown in zip(pair, (picture, result), strict=True):
        images.save(_preview(shown), target, quality=92)
    # What was linear light is display-referred now.
    suffix = ".png" if picture.linear else Path(path).suffix
    full = folder / f"{Path(path).stem}-{look}{suffix}"
    images.save(result, full)
    notes = (*result.notes, *images.losses(result, full))
    return pair, _facts(result, seconds, notes), gradio.DownloadButton(value=full, interactive=True)


# The path of an upload holds the checksum of the file, so the file behind a path never changes.
@functools.lru_cache(maxsize=2)
def _source(path: str) -> Picture:
    return web.load(path)


@functools.cache
def _look(name: str) -> Enhancer:
    return Enhancer.from_weights(name)


def _enhanced(picture: Picture, name: str, strength: float) -> tuple[Picture, float]:
    """Return the picture in full size, and the seconds that the look took."""
    with _ENHANCING:
        look = _look(name)
        look.strength = strength
        prepared = look.prepare(picture)
        start = time.perf_counter()
        pixels = look(prepared.pixels)
        return dataclasses.replace(prepared, pixels=pixels), time.perf_counter() - start


def _preview(picture: Picture) -> Picture:
    """Return the picture without alpha, profile and EXIF, small enough for a browser."""
    pixels = np.asarray(picture.pixels)
    height, width = pixels.shape[:2]
    scale = min(1, _PREVIEW_SIDE / max(height, width))
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return Picture(pixels, linear=picture.linear)


def _facts(picture: Picture, seconds: float, notes: tuple[str, ...]) -> str:
    height, width = picture.pixels.shape[:2]
    size = f"{width} x {height} pixels, enhanced in {1000 * seconds:.0f} ms"
    return "; ".join([size, *notes]) + "."

"""The tab of textures and styles on the page of `convsuite web`.

A picture takes many steps, so it is made in a thread of its own and shown while it comes about.
"""

import dataclasses
import functools
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import gradio
import numpy as np

from shared import assets, images, metrics, web

from .features import Network, open_network
from .style import StyleRecipe, StyleTransfer, open_features
from .synth import RECIPES, Progress, TextureSynthesizer, automatic, default_network
from .work import check_size, display_referred

TITLE = "Textures"
_ENERGIES = {
    "gram": "Features of a network",
    "dcor": "Features and their order",
    "patch": "Patches, without a network",
    "mix": "Patches, then features",
}
_EXEMPLAR_SIDE = 256
_STYLE_SIDE = 512
_STYLE_NETWORK = "vgg16_hed"
_LARGEST = 512
_EVERY = 3
_WAKE_SECONDS = 1.0
_BUSY = "Another picture is being made; this one begins when that is done."
# A synthesis wants all cores and much memory.
_TURN = threading.Lock()


class News(NamedTuple):
    """What a visitor sees while a picture is made.

    Attributes:
        picture: RGB, 0..1; None leaves the one that is shown.
        text: Where the work stands; None leaves the one that is shown.
    """

    picture: np.ndarray | None = None
    text: str | None = None


Show = Callable[[News], None]


class _StoppedError(Exception):
    """Nobody looks any more."""


def build() -> None:
    """Add a tab for textures and one for styles, both live."""
    with gradio.Tabs():
        with gradio.Tab("Texture"):
            _build_texture()
        with gradio.Tab("Style"):
            _build_style()


def _build_texture() -> None:
    with gradio.Row():
        with gradio.Column(scale=1, min_width=280):
            exemplar = web.chooser("Exemplar", _textures())
            energy = gradio.Radio(
                label="What has to agree",
                choices=[(text, name) for name, text in _ENERGIES.items()],
                value=automatic(default_network()),
            )
            size = gradio.Slider(64, _LARGEST, value=128, step=32, label="Side, in pixels")
            tile = gradio.CheckboxGroup(
                label="Tile", choices=[("across", "x"), ("down", "y")], value=["x", "y"]
            )
            steps = gradio.Slider(
                10, 200, value=30, step=10, label="Steps", info="More are better, and slower."
            )
            seed = gradio.Number(label="Seed", value=0, precision=0, minimum=0, maximum=2**31)
        with gradio.Column(scale=2, min_width=320):
            start, stop = _buttons()
            with gradio.Row():
                used = gradio.Image(label="Exemplar, as it is used", interactive=False, height=300)
                result = gradio.Image(label="Texture", interactive=False, height=300)
            facts = gradio.Markdown()
            download = gradio.DownloadButton("Download", variant="primary", interactive=False)
            tiles = gradio.Image(label="Side by side", interactive=False, visible=False)
    gradio.on(
        fn=_used, inputs=[exemplar], outputs=[used], trigger_mode="always_last",
        show_progress="hidden",
    )  # fmt: skip
    inputs = [exemplar, energy, size, tile, steps, seed]
    _wire(start, stop, _texture, inputs, [result, facts, download, tiles])


def _build_style() -> None:
    with gradio.Row():
        with gradio.Column(scale=1, min_width=280):
            content = web.chooser("Content", web.sample_pictures())
            style = web.chooser("Style", [*_textures(), *web.sample_pictures()])
            weight = gradio.Slider(
                1, 100, value=30, step=1, label="Weight of the content", info="More keeps more."
            )
            keep = gradio.Checkbox(label="Keep the colours of the content")
            side = gradio.Slider(96, _LARGEST, value=160, step=32, label="Longest side, in pixels")
            steps = gradio.Slider(
                10, 100, value=20, step=5, label="Steps", info="More are better, and slower."
            )
        with gradio.Column(scale=2, min_width=320):
            start, stop = _buttons()
            result = gradio.Image(label="Result", interactive=False)
            facts = gradio.Markdown()
            download = gradio.DownloadButton("Download", variant="primary", interactive=False)
    inputs = [content, style, weight, keep, side, steps]
    _wire(start, stop, _style, inputs, [result, facts, download])


def _buttons() -> tuple[gradio.Button, gradio.Button]:
    """Add the buttons beside the result, which comes about in view of who presses them."""
    with gradio.Row():
        return gradio.Button("Make", variant="primary"), gradio.Button("Stop")


def _textures() -> list[str]:
    """Return the textures that ship with convsuite, the most telling first."""
    files = sorted((assets.samples_dir() / "textures").glob("*.png"))
    return [str(file) for file in sorted(files, key=lambda file: file.stem.endswith("-grey"))]


def _wire(start, stop, handler, inputs, outputs) -> None:
    event = start.click(
        handler,
        inputs,
        outputs,
        show_progress="minimal",
        concurrency_id="texture",
        concurrency_limit=1,
    )
    stop.click(lambda: "Stopped.", None, outputs[1], cancels=[event], show_progress="hidden")


@web.shows_errors
def _used(path: str | None) -> np.ndarray | None:
    """Return the picture that textures are made from."""
    return None if path is None else _bytes(_read(path, _EXEMPLAR_SIDE))


@web.shows_errors
def _texture(
    path: str | None, energy: str, size: float, tile: list[str], steps: float, seed: float
) -> Iterator[tuple]:
    """Yield picture, facts, download and a view of several tiles, while the first comes about."""
    hidden = gradio.Image(value=None, visible=False)
    if path is None:
        yield None, "Choose an exemplar.", _no_download(), hidden
        return
    axes = "".join(axis for axis in "xy" if axis in tile)
    steps, size = int(steps), (int(size), int(size))
    check_size(size, _LARGEST**2)
    exemplar = _read(path, _EXEMPLAR_SIDE)
    recipe = RECIPES[energy]
    recipe = dataclasses.replace(
        recipe, steps=steps, coarse_steps=steps, patch_steps=(steps, steps),
        network=default_network() or recipe.network,
    )  # fmt: skip

    def make(show: Show) -> Any:
        network = None
        if recipe.energy != "patch":
            network = _network(recipe.network, tuple(recipe.terms.taps), recipe.normalise)
        synthesizer = TextureSynthesizer(recipe, network)

        def watch(progress: Progress) -> None:
            height, width = progress.picture.shape[:2]
            where = f"step {progress.step} of {progress.steps}, energy {progress.energy:.4g}"
            show(News(progress.picture, f"{width} x {height} pixels, {where}"))

        show(News(text="Beginning…"))
        return synthesizer.synthesise(
            [exemplar], size, tile=axes, seed=int(seed), watch=watch, every=_EVERY
        )

    yield None, "Opening the network…", _no_download(), hidden
    begun = time.perf_counter()
    for news in live(make):
        if isinstance(news, News):
            yield *_shown(news), gradio.skip(), gradio.skip()
            continue
        picture = news.picture
        facts = [f"{picture.shape[1]} x {picture.shape[0]} pixels in {_seconds(begun)}"]
        if news.curves:
            facts.append(f"energy {news.curves[-1][0]:.4g} → {news.curves[-1][-1]:.4g}")
        if axes:
            seam = metrics.tileability(picture, axes)
            facts.append(f"seam {seam:.2f} (up to 1 is invisible)")
            hidden = gradio.Image(value=_bytes(_repeated(picture, axes)), visible=True)
        name = f"{Path(path).stem}-{energy}.png"
        text = "; ".join([*facts, *news.notes]) + "."
        yield _bytes(picture), text, _download(picture, name), hidden


@web.shows_errors
def _style(
    content_path: str | None,
    style_path: str | None,
    weight: float,
    keep_colour: bool,
    side: float,
    steps: float,
) -> Iterator[tuple]:
    """Yield picture, facts and download, while the first comes about."""
    if content_path is None or style_path is None:
        yield None, "Choose a content and a style.", _no_download()
        return
    side, steps = int(side), int(steps)
    check_size((side, side), _LARGEST**2)
    content, style = _read(content_path, side), _read(style_path, _STYLE_SIDE)
    recipe = StyleRecipe(
        content_weight=weight, keep_colour=keep_colour, side=side, steps=(steps, steps)
    )

    def make(show: Show) -> Any:
        transfer = StyleTransfer(_style_network(), [style], recipe)

        def watch(step: int, energy: float, picture: np.ndarray, _state: Any) -> None:
            height, width = picture.shape[:2]
            where = f"step {step} of {steps}, energy {energy:.4g}"
            show(News(picture, f"{width} x {height} pixels, {where}"))

        show(News(text="Beginning…"))
        return transfer.stylise(content, watch, _EVERY)

    yield None, "Opening the network…", _no_download()
    begun = time.perf_counter()
    for news in live(make):
        if isinstance(news, News):
            yield *_shown(news), gradio.skip()
            continue
        height, width = news.picture.shape[:2]
        facts = (
            f"{width} x {height} pixels in {_seconds(begun)}; relative error of the content "
            f"{news.content:.2f}, of the style {news.style:.3f}."
        )
        name = f"{Path(content_path).stem}-{Path(style_path).stem}.png"
        yield _bytes(news.picture), facts, _download(news.picture, name)


def live(make: Callable[[Show], Any]) -> Iterator[Any]:
    """Run work in a thread, one at a time in this process, and yield its news, then its result.

    Where news come faster than they are taken, the newest are yielded. Between news that take long
    an empty one is yielded now and then, since only then can the iteration be closed. Closing it
    ends the work at its next news.

    Args:
        make: Takes a function to be called with `News`, which raises to end the work; returns what
            is yielded last.

    Yields:
        `News`, then what `make` returns.
    """
    stop = threading.Event()
    came: queue.SimpleQueue = queue.SimpleQueue()

    def show(news: News) -> None:
        if stop.is_set():
            raise _StoppedError
        came.put(news)

    def run() -> None:
        try:
            if not _TURN.acquire(blocking=False):
                show(News(text=_BUSY))
                _TURN.acquire()
            try:
                show(News())
                came.put(make(show))
            finally:
                _TURN.release()
        except _StoppedError:
            pass
        except BaseException as error:  # what it was, the visitor's handler says
            came.put(error)

    threading.Thread(target=run, name="texture", daemon=True).start()
    try:
        while True:
            news = _newest(came)
            if isinstance(news, BaseException):
                raise news
            yield news
            if not isinstance(news, News):
                return
    finally:
        stop.set()


def _newest(came: queue.SimpleQueue) -> Any:
    """Return the latest of what came, or, after a while without any, empty news."""
    news = News()
    with suppress(queue.Empty):
        news = came.get(timeout=_WAKE_SECONDS)
        while isinstance(news, News):
            news = came.get_nowait()
    return news


@functools.cache
def _network(name: str, taps: tuple[str, ...], normalise: Any) -> Network:
    return open_network(name, taps=taps, normalise=normalise)


@functools.cache
def _style_network() -> Network:
    return open_features(_STYLE_NETWORK)


def _read(path: str, side: int) -> np.ndarray:
    """Return a picture, RGB, 0..1, reduced to a longest side."""
    picture = display_referred(web.load(path))
    height, width = picture.shape[:2]
    factor = side / max(height, width)
    if factor >= 1:
        return picture
    size = max(1, round(factor * width)), max(1, round(factor * height))
    return np.clip(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), 0, 1)


def _repeated(picture: np.ndarray, axes: str) -> np.ndarray:
    return np.tile(picture, (3 if "y" in axes else 1, 3 if "x" in axes else 1, 1))


def _shown(news: News) -> tuple:
    """Return the values of the picture and the text."""
    picture = gradio.skip() if news.picture is None else _bytes(news.picture)
    return picture, gradio.skip() if news.text is None else news.text


def _bytes(picture: np.ndarray) -> np.ndarray:
    return images.from_float(np.clip(picture, 0, 1), np.uint8)


def _seconds(begun: float) -> str:
    return f"{time.perf_counter() - begun:.0f} s"


def _no_download() -> gradio.DownloadButton:
    return gradio.DownloadButton(interactive=False)


def _download(picture: np.ndarray, name: str) -> gradio.DownloadButton:
    file = web.result_folder() / name
    images.write(file, picture)
    return gradio.DownloadButton(value=file, interactive=True)

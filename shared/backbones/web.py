"""The tab of the backbone library on the page of `convsuite web`."""

import functools
import threading

import gradio
import numpy as np

from shared import images, web

TITLE = "Classify"
_LOOKING = threading.Lock()


def build() -> None:
    """Add upload, the likeliest names, and where the network sees the first of them."""
    with gradio.Row():
        with gradio.Column(scale=1, min_width=280):
            file = web.chooser("Picture", web.sample_pictures())
            names = gradio.Label(label="What it is", num_top_classes=5)
        with gradio.Column(scale=2, min_width=320):
            slider = gradio.ImageSlider(
                label="What the network gets, and where it sees the likeliest name",
                max_height=620,
                buttons=["fullscreen"],
                interactive=False,
            )
    gradio.on(
        fn=_update,
        inputs=[file],
        outputs=[names, slider],
        trigger_mode="always_last",
        show_progress="minimal",
    )


@functools.cache
def _looker():
    """Open the network, which starts the framework, when the first picture arrives."""
    from .classify import DEFAULT
    from .look import Looker

    return Looker(DEFAULT)


@web.shows_errors
def _update(path: str | None) -> tuple:
    """Return the values of the names and of the slider."""
    if path is None:
        return None, None
    image = images.to_float(np.asarray(web.load(path).pixels))
    with _LOOKING:
        from .visualise import heat

        looker = _looker()
        prepared = looker.prepare(np.clip(image, 0, 1))
        names = dict(looker.names(prepared))
        shown = looker.shown(prepared)
        seen = heat(looker.gradcam(prepared), shown)
    folder = web.result_folder()
    pair = folder / "picture.jpg", folder / "seen.jpg"
    for target, pixels in zip(pair, (shown, seen), strict=True):
        images.write(target, pixels)
    return names, pair

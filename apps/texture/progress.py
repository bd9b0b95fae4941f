"""What a person sees while a texture is made: a bar, and the picture in a window if wished."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from shared import console

from .synth import Progress

_REFRESH = 0.1


class Follow:
    """Shows where each synthesis stands, as long as the context lasts."""

    def __init__(self, *, preview: bool, quiet: bool):
        """Ask for a window, or for no bar.

        Raises:
            VideoError: A window is asked for where none can be opened.
        """
        self._bar = console.progress("opening the network", None, unit="steps", quiet=quiet)
        self._steps, self._last = 0, (Path(), 0, 0)
        self._window: Any = None
        self._shown = 0.0
        if preview:
            from shared.video.window import Window, require_window_system

            require_window_system()
            self._window = Window("convsuite texture")

    def __enter__(self) -> "Follow":
        self._update = self._bar.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._bar.__exit__(*error)
        if self._window is not None:
            self._window.close()

    def watch(self, path: Path, progress: Progress) -> None:
        """Show a step; closing the window leaves the synthesis alone."""
        *before, step = self._last
        goes_on = before == [path, progress.stage] and progress.step > step
        self._steps += progress.step - step if goes_on else progress.step
        self._last = path, progress.stage, progress.step
        self._update(
            self._steps,
            f"{path.name}: part {progress.stage} of {progress.stages}, "
            f"step {progress.step} of {progress.steps}, energy {progress.energy:.4g}",
        )
        now = time.monotonic()
        if self._window is None or now - self._shown < _REFRESH:
            return
        self._shown = now
        if self._window.is_closed():
            self._window = None
            return
        shown = np.round(np.clip(progress.picture, 0, 1) * 255).astype(np.uint8)
        self._window.show(np.ascontiguousarray(shown[..., ::-1]))
        self._window.key(0.001)

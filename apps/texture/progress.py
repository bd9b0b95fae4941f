"""What a person sees while a texture is made: a bar, and the picture in a window if wished."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from shared import console

from .synth import Progress

_REFRESH = 0.1


class Preview:
    """A window with the picture that is worked on; closing it leaves the work alone."""

    def __init__(self) -> None:
        """Open it.

        Raises:
            VideoError: There can be no window here.
        """
        from shared.video.window import Window, require_window_system

        require_window_system()
        self._window: Any = Window("convsuite texture")
        self._shown = 0.0

    def show(self, picture: np.ndarray) -> None:
        """Show a picture, RGB, 0..1, unless one was shown just now."""
        now = time.monotonic()
        if self._window is None or now - self._shown < _REFRESH:
            return
        # Before its first picture, a window may not have come up yet.
        if self._shown and self._window.is_closed():
            self._window = None
            return
        self._shown = now
        shown = np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)
        self._window.show(np.ascontiguousarray(shown[..., ::-1]))
        self._window.key(0.001)

    def watch(self, step: int, energy: float, picture: np.ndarray, state: Any) -> None:
        """Show a step of an optimisation, see `optimise.Watch`."""
        self.show(picture)

    def close(self) -> None:
        """Close it, if it is still open."""
        if self._window is not None:
            self._window.close()


class Follow:
    """Shows where each synthesis stands, as long as the context lasts."""

    def __init__(self, *, preview: bool, quiet: bool):
        """Ask for a window, or for no bar.

        Raises:
            VideoError: A window is asked for where none can be opened.
        """
        self._bar = console.progress("opening the network", None, unit="steps", quiet=quiet)
        self._steps, self._last = 0, (Path(), 0, 0)
        self._preview = Preview() if preview else None

    def __enter__(self) -> "Follow":
        self._update = self._bar.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._bar.__exit__(*error)
        if self._preview is not None:
            self._preview.close()

    def watch(self, path: Path, progress: Progress) -> None:
        """Show a step."""
        *before, step = self._last
        goes_on = before == [path, progress.stage] and progress.step > step
        self._steps += progress.step - step if goes_on else progress.step
        self._last = path, progress.stage, progress.step
        self._update(
            self._steps,
            f"{path.name}: part {progress.stage} of {progress.stages}, "
            f"step {progress.step} of {progress.steps}, energy {progress.energy:.4g}",
        )
        if self._preview is not None:
            self._preview.show(progress.picture)

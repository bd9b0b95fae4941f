"""Show a camera or a video through a filter in a window with keys."""

import itertools
import math
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from shared import images

from .blame import blamed_on
from .controls import View, press
from .feed import Feed
from .frames import FrameFunction
from .overlay import compose, draw_overlay, draw_red_dot, status_phrases
from .recorder import Recorder
from .window import Window, require_window_system

_HELP_SECONDS = 6.0
_MESSAGE_SECONDS = 3.0


class _LiveFilter(Protocol):
    strength: float

    def stream(self, fps: float) -> FrameFunction: ...


def play(
    source: int | str,
    filter: _LiveFilter,
    *,
    title: str,
    out: Path,
    mirror: bool = False,
    max_frames: int | None = None,
) -> None:
    """Show a camera or a video through a filter in a window; the keys stand in the window.

    A file plays once, at its own rate and without skipping frames. Recordings of a file get its
    sound. Snapshots and recordings hold the filtered frame alone.

    Args:
        source: A camera number, a video file, a device or a stream address.
        filter: Has a `strength` (0 to 2, set by keys) and `stream(fps)`, which returns the function
            of (height, width, 3) uint8 RGB frames.
        title: Title of the window.
        out: Folder for snapshots and recordings, made when the first one is.
        mirror: Swap left and right before filtering, as a mirror does.
        max_frames: End after so many frames.

    Raises:
        VideoError: The source cannot be opened or fails, or there is no display.
    """
    feed = Feed(source, mirror)
    try:
        require_window_system()
        session = _Session(feed, filter, Path(out))
        window = Window(title)
        try:
            with blamed_on(Path(out), "writing"):
                _loop(session, window, paced=feed.file is not None, max_frames=max_frames)
        finally:
            window.close()
            session.stop_recording()
    finally:
        feed.close()


def _loop(session: "_Session", window: Window, *, paced: bool, max_frames: int | None) -> None:
    frames = 0
    begin = 0.0
    while not session.view.quit:
        wait = 0.03
        if not session.view.paused or frames == 0:
            seconds = None if frames == max_frames else session.advance()
            if seconds is None:
                return
            frames += 1
            now = time.perf_counter()
            # A late frame moves the schedule, so that later ones are not shown in a rush.
            begin = max(begin, now - seconds) if frames > 1 else now - seconds
            wait = begin + seconds - now if paced else 0.0
        window.show(session.picture())
        key = window.key(wait)
        if window.is_closed():
            return
        view = press(session.view, key)
        if window.dragged is not None:
            view, window.dragged = replace(view, split=True, divider=window.dragged), None
        session.change(view)


class _Session:
    """What one run of `play` holds between two frames, apart from window and feed."""

    def __init__(self, feed: Feed, live_filter: _LiveFilter, out: Path):
        self.view = View(strength=live_filter.strength)
        self._feed = feed
        self._filter = live_filter
        self._apply = live_filter.stream(feed.rate)
        self._out = out
        self._recorder: Recorder | None = None
        self._before: np.ndarray | None = None
        self._after: np.ndarray | None = None
        self._seconds = 0.0
        self._ticks: deque[float] = deque(maxlen=30)
        self._help_until = time.perf_counter() + _HELP_SECONDS
        self._message = ""
        self._message_until = 0.0

    def advance(self) -> float | None:
        """Take and filter the next frame; return its time in seconds, None at the end."""
        got = self._feed.read()
        if got is None:
            return None
        self._before, self._seconds = got
        self._after = self._apply(self._before)
        self._ticks.append(time.perf_counter())
        if self._recorder:
            self._recorder.write(self._after, self._seconds)
        return self._seconds

    def change(self, view: View) -> None:
        """Take over a view that keys or the mouse changed, and do what it asks for."""
        old, self.view = self.view, replace(view, snapshot=False)
        if view.help and not old.help:
            self._help_until = math.inf
        if view.strength != old.strength:
            self._filter.strength = view.strength
            if view.paused:
                self._after = self._apply(self._before)
        if view.snapshot:
            self._save_snapshot()
        if view.recording and not self._recorder:
            path = _unused(self._out, "recording", ".mp4")
            self._recorder = Recorder(path, self._feed, self._seconds)
            self._recorder.write(self._after, self._seconds)
        elif not view.recording:
            self.stop_recording()

    def picture(self) -> np.ndarray:
        """Return what the window shows: uint8 BGR with the overlay."""
        now = time.perf_counter()
        if now > self._help_until:
            self.view = replace(self.view, help=False)
        shown = compose(self._before, self._after, self.view)
        recorded = self._recorder.seconds if self._recorder else None
        message = self._message if now < self._message_until else ""
        status = status_phrases(self.view, self._fps(), recorded, message)
        draw_overlay(shown, status, with_help=self.view.help)
        if self._recorder:
            draw_red_dot(shown)
        return shown

    def stop_recording(self) -> None:
        if self._recorder:
            recorder, self._recorder = self._recorder, None
            self._tell(f"saved {recorder.finish().name}")

    def _save_snapshot(self) -> None:
        path = _unused(self._out, "snapshot", ".png")
        images.write(path, self._after)
        self._tell(f"saved {path.name}")

    def _tell(self, message: str) -> None:
        self._message = message
        self._message_until = time.perf_counter() + _MESSAGE_SECONDS

    def _fps(self) -> float:
        if len(self._ticks) < 2:
            return 0.0
        return (len(self._ticks) - 1) / (self._ticks[-1] - self._ticks[0])


def _unused(folder: Path, stem: str, suffix: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    numbered = (folder / f"{stem}_{number:03d}{suffix}" for number in itertools.count(1))
    return next(path for path in numbered if not path.exists())

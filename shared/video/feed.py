"""Frames of a camera or a video file as they come, for the live window."""

import time
from pathlib import Path

import cv2
import numpy as np

from shared.errors import VideoError

from .frames import FALLBACK_RATE


class Feed:
    """A camera or a video file, read through OpenCV."""

    def __init__(self, source: int | str, mirror: bool):
        self.file = Path(source) if isinstance(source, str) and Path(source).is_file() else None
        self._name = f"camera {source}" if isinstance(source, int) else source
        self._mirror = mirror
        if isinstance(source, str) and "://" not in source and not Path(source).exists():
            raise VideoError(f"{source}: no such file or camera; check the name")
        self._capture = _quietly_opened(source)
        if not self._capture.isOpened():
            raise VideoError(f"{self._name}: cannot be opened; {self._remedy()}")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 1 <= rate <= 1000 else float(FALLBACK_RATE)
        self._started = time.perf_counter()
        self._frames = 0

    def read(self) -> tuple[np.ndarray, float] | None:
        """Return the next frame, (height, width, 3) uint8 RGB, and its time in seconds."""
        fine, pixels = self._capture.read()
        if not fine:
            if self.file is None or self._frames == 0:
                raise VideoError(f"{self._name}: delivers no picture; {self._remedy()}")
            return None
        if self.file is None:
            seconds = time.perf_counter() - self._started
        else:
            seconds = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        self._frames += 1
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
        return (cv2.flip(pixels, 1) if self._mirror else pixels), seconds

    def close(self) -> None:
        """Let go of the camera or the file."""
        self._capture.release()

    def _remedy(self) -> str:
        if self.file is not None:
            return "give a complete video file"
        return (
            "check that it is plugged in, that no other program uses it and that you may read it "
            "(on Linux: group video), or try another camera number"
        )


def _quietly_opened(source: int | str) -> cv2.VideoCapture:
    """Open a capture without OpenCV's own warnings, which an error of ours replaces."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        return cv2.VideoCapture(source)
    finally:
        cv2.utils.logging.setLogLevel(level)

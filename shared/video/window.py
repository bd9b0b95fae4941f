"""A window of OpenCV, and whether one can be opened."""

import ctypes
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np

from shared.errors import VideoError

_FIRST_SIZE = (1280, 720)


def require_window_system() -> None:
    """Raise where a window cannot be opened; the window library itself would end the process."""
    if not sys.platform.startswith("linux"):
        return
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise VideoError(
            "no display for the window: neither DISPLAY nor WAYLAND_DISPLAY is set; run this in a "
            "desktop session, or under xvfb-run"
        )
    if "av.libs/libxcb-shm" in Path("/proc/self/maps").read_text():
        raise VideoError(
            "no window can be opened: PyAV (av) was imported before shared.video, and its X11 "
            "libraries block OpenCV's; import shared.video first"
        )
    probe = subprocess.run(
        [sys.executable, "-c", "import cv2; cv2.namedWindow('convsuite')"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if probe.returncode:
        reason = next((line for line in probe.stderr.splitlines() if "qt.qpa" in line), "")
        raise VideoError(
            f"no window can be opened on display {os.environ.get('DISPLAY', '')} "
            f"({reason or 'OpenCV was built without windows'}); check DISPLAY, or run this under "
            "xvfb-run"
        )


class Window:
    """A HighGUI window; the mouse moves the divider."""

    def __init__(self, title: str):
        self._title = title
        self._sized = False
        self.dragged: float | None = None
        self._width = 1
        _leave_events_to_qt()
        # OpenCV points Qt to a font folder that its wheels do not carry; Qt then complains.
        if Path("/usr/share/fonts").is_dir():
            os.environ["QT_QPA_FONTDIR"] = "/usr/share/fonts"
        flags = cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL
        cv2.namedWindow(title, flags)
        cv2.setMouseCallback(title, self._on_mouse)

    def show(self, image: np.ndarray) -> None:
        """Show a picture, uint8 BGR; the first one sets the size of the window."""
        height, self._width = image.shape[:2]
        if not self._sized:
            scale = min(_FIRST_SIZE[0] / self._width, _FIRST_SIZE[1] / height)
            cv2.resizeWindow(self._title, round(self._width * scale), round(height * scale))
            self._sized = True
        cv2.imshow(self._title, image)

    def key(self, wait_seconds: float) -> int:
        """Wait for a key; return its code, or -1."""
        code = cv2.waitKey(max(1, int(wait_seconds * 1000)))
        return code if code < 0 else code & 0xFF

    def is_closed(self) -> bool:
        """Say whether the person has closed the window."""
        try:
            return cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1
        except cv2.error:  # Qt has ended with its last window
            return True

    def close(self) -> None:
        """Close the window."""
        with suppress(cv2.error):
            cv2.destroyWindow(self._title)

    def _on_mouse(self, event: int, x: int, _y: int, flags: int, _parameter: object) -> None:
        if event == cv2.EVENT_LBUTTONDOWN or (
            event == cv2.EVENT_MOUSEMOVE and flags & cv2.EVENT_FLAG_LBUTTON
        ):
            self.dragged = min(1.0, max(0.0, x / self._width))


def _leave_events_to_qt() -> None:
    """Load the system's libX11-xcb, which goes before the one in OpenCV's wheel.

    Through it Qt tells libX11 to leave events alone. The wheel's was built for a libX11 whose
    structures were laid out differently (XSetEventQueueOwner writes at 0x40 instead of 0x48), so
    libX11 1.8 still takes events: where Qt's thread comes late, on a busy machine, it takes the one
    that says that the window is visible, and the window stays black.
    """
    if sys.platform.startswith("linux"):
        with suppress(OSError):
            ctypes.CDLL("libX11-xcb.so.1", ctypes.RTLD_GLOBAL)

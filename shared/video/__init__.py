"""Videos, cameras and folders of frames through a frame function, and the live window.

`transform` turns a video or a folder of frames into another one: decoding, the frame function and
encoding overlap. `play` shows a camera or a video through a filter in a window with keys.
"""

import ctypes
from contextlib import suppress
from pathlib import Path

import cv2


def _load_window_libraries() -> None:
    """Load the X11 helper libraries of OpenCV's wheel.

    PyAV's wheel carries libraries of the same names that are bound to another libxcb. The loader
    keeps the first of a name, and with PyAV's the window library waits for its display for ever.
    Python runs this module before any other of the package, so it comes before `import av`.
    """
    for library in Path(cv2.__file__).parents[1].glob("opencv*.libs/libxcb-*.so*"):
        with suppress(OSError):
            ctypes.CDLL(str(library))


_load_window_libraries()

from .conversion import VideoSummary, transform  # noqa: E402 - these import av
from .frames import FrameFunction  # noqa: E402
from .live import play  # noqa: E402
from .sinks import CONTAINERS  # noqa: E402

__all__ = ["CONTAINERS", "FrameFunction", "VideoSummary", "play", "transform"]

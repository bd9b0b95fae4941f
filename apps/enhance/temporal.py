"""Steady looks in video: the grid of coefficients follows the scene, not its noise."""

import math

import numpy as np

CUT = 0.15
"""Mean absolute change of the thumbnail beyond which a new scene begins."""
BRIGHTNESS_STEP = 0.02
"""Change of the mean brightness that `auto` follows at once."""
AUTO_SECONDS = 0.3


class GridSmoother:
    """Exponential average of grids over the frames of one video.

    Sensor noise makes the coefficients jump between frames, which shows as flicker. Averaging them
    over about 0.3 s removes it; a cut starts afresh.

    Args:
        fps: frames per second.
        smooth: time constant in seconds, `auto` or `off`. `auto` is 0.3 s, but follows changes of
            the mean brightness at once, since a look that compensates exposure would lag behind.
    """

    def __init__(self, fps: float, smooth: str | float = "auto"):
        self._adaptive = smooth == "auto"
        seconds = {"auto": AUTO_SECONDS, "off": 0.0}.get(smooth, smooth)
        self._weight = 1.0 if seconds <= 0 else 1 - math.exp(-1 / (fps * seconds))
        self._grid: np.ndarray | None = None
        self._thumbnail: np.ndarray | None = None

    def __call__(self, thumbnail: np.ndarray, grid: np.ndarray) -> np.ndarray:
        """Take the next frame's thumbnail and grid; return the grid to use."""
        weight = self._weight
        if self._grid is None or np.abs(thumbnail - self._thumbnail).mean() > CUT:
            weight = 1.0
        elif self._adaptive:
            step = abs(float(thumbnail.mean() - self._thumbnail.mean()))
            weight = min(1.0, weight + step / BRIGHTNESS_STEP)
        self._thumbnail = thumbnail
        self._grid = grid if weight == 1.0 else self._grid + weight * (grid - self._grid)
        return self._grid

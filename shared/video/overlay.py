"""The picture in the live window: before and after, status line, keys."""

from collections.abc import Sequence

import cv2
import numpy as np

from .controls import View

_HELP = (
    "+ -  strength",
    "s  before/after",
    "[ ] or mouse  divider",
    "space  pause",
    "p  snapshot",
    "r  record",
    "h  help",
    "q  quit",
)


def compose(before: np.ndarray, after: np.ndarray, view: View) -> np.ndarray:
    """Return the picture for the window, uint8 BGR: filtered, or before | after with a divider."""
    shown = cv2.cvtColor(after, cv2.COLOR_RGB2BGR)
    if view.split:
        height, width = shown.shape[:2]
        x = round(view.divider * width)
        if x > 0:
            shown[:, :x] = cv2.cvtColor(before[:, :x], cv2.COLOR_RGB2BGR)
        line = max(1, height // 360)
        shown[:, max(0, x - line) : x + line] = 255
    return shown


def status_phrases(view: View, fps: float, recorded: float | None, message: str) -> list[str]:
    """Return the phrases of the upper line; `recorded` is the length of a running recording."""
    phrases = [f"{fps:.0f} frames/s", f"strength {view.strength:.1f}"]
    if view.split:
        phrases.append("before | after")
    if view.paused:
        phrases.append("paused")
    if recorded is not None:
        phrases.append(f"REC {int(recorded) // 60}:{int(recorded) % 60:02d}")
    if message:
        phrases.append(message)
    return phrases


def draw_overlay(shown: np.ndarray, status: Sequence[str], *, with_help: bool) -> None:
    """Write the status into the picture, and the keys below it."""
    height, width = shown.shape[:2]
    scale = _text_scale(height)
    beside_the_dot = width - round(50 * scale)
    _write_lines(shown, _packed(status, beside_the_dot, scale), top=True)
    if with_help:
        _write_lines(shown, _packed(_HELP, width, scale), top=False)


def draw_red_dot(shown: np.ndarray) -> None:
    """Mark a running recording in the upper right corner."""
    radius = round(11 * _text_scale(shown.shape[0]))
    centre = (shown.shape[1] - 3 * radius, 2 * radius)
    cv2.circle(shown, centre, radius, (40, 40, 235), cv2.FILLED, cv2.LINE_AA)


def _write_lines(image: np.ndarray, lines: Sequence[str], *, top: bool) -> None:
    """Write lines of text into the upper or lower left corner, on a darkened band."""
    if not lines:
        return
    scale = _text_scale(image.shape[0])
    weight = max(1, round(scale * 1.6))
    step = round(scale * 34)
    band_height = len(lines) * step + step // 2
    start = 0 if top else max(0, image.shape[0] - band_height)
    band = image[start : start + band_height]
    band[:] = band // 3
    for number, line in enumerate(lines, start=1):
        origin = (step // 2, start + number * step)
        cv2.putText(
            image,
            line,
            origin,
            cv2.FONT_HERSHEY_SIMPLEX,
            scale,
            (245, 245, 245),
            weight,
            cv2.LINE_AA,
        )


def _packed(phrases: Sequence[str], width: int, scale: float) -> list[str]:
    """Join phrases into as few lines as fit the width."""
    lines: list[str] = []
    for phrase in phrases:
        joined = f"{lines[-1]}     {phrase}" if lines else phrase
        (text_width, _), _ = cv2.getTextSize(joined, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
        if lines and text_width < width - 34 * scale:
            lines[-1] = joined
        else:
            lines.append(phrase)
    return lines


def _text_scale(height: int) -> float:
    return max(0.4, 0.7 * height / 720)

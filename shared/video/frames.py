"""What flows from a source through the frame function to a sink."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av
import numpy as np

from .colour import UNSTATED

FrameFunction = Callable[[np.ndarray], np.ndarray]

FALLBACK_RATE = Fraction(25)


@dataclass(frozen=True)
class Form:
    """What a target must know of its source before the first frame."""

    rate: Fraction
    time_base: Fraction
    matrix: int = UNSTATED
    primaries: int = UNSTATED
    transfer: int = UNSTATED
    tracks: tuple[av.stream.Stream, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Frame:
    """One picture, (height, width, 3) uint8 RGB; times count in the time base of the form."""

    pixels: np.ndarray
    pts: int
    duration: int
    aspect: Fraction | None = None


@dataclass(frozen=True)
class Step:
    """One frame and the audio and subtitle packets that precede it; the last step has no frame."""

    frame: Frame | None
    packets: Sequence[av.Packet] = ()


class Source(Protocol):
    """Where frames come from; `total` is their expected number."""

    path: Path
    form: Form
    total: int | None
    notes: list[str]

    def steps(self) -> Iterator[Step]:
        """Yield the frames in display order."""

    def close(self) -> None:
        """Let go of the file."""


class Sink(Protocol):
    """Where frames go; nothing is seen at `path` before `finish`."""

    path: Path
    audio: bool
    notes: list[str]

    def write(self, step: Step) -> None:
        """Add what a step holds."""

    def finish(self) -> None:
        """Complete the target and give it its name."""

    def discard(self) -> None:
        """Remove what has been written."""

"""Record what the live window shows, with the sound of the file it comes from."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from .feed import Feed
from .frames import Form, Frame, Step
from .sinks import open_sink
from .sources import open_video

_TICKS = 90000  # a second, as MPEG counts


class Recorder:
    """A recording in progress: the filtered frames, and the sound of the file they come from."""

    def __init__(self, target: Path, feed: Feed, start: float):
        self.seconds = 0.0
        self._start = start
        self._frame_seconds = 1 / feed.rate
        self._sound = _Sound(feed.file, start) if feed.file else None
        form = Form(
            rate=Fraction(feed.rate).limit_denominator(1001),
            time_base=Fraction(1, _TICKS),
            tracks=self._sound.tracks if self._sound else (),
        )
        self._sink = open_sink(target, form, crf=18)
        self._last_pts = -1

    def write(self, pixels: np.ndarray, seconds: float) -> None:
        """Add a frame, (height, width, 3) uint8 RGB, and the sound that belongs to it."""
        passed = max(0.0, seconds - self._start)
        pts = max(round(passed * _TICKS), self._last_pts + 1)
        self._last_pts = pts
        self.seconds = passed + self._frame_seconds
        frame = Frame(pixels, pts, duration=round(self._frame_seconds * _TICKS))
        packets = tuple(self._sound.until(self.seconds)) if self._sound else ()
        self._sink.write(Step(frame, packets))

    def finish(self) -> Path:
        """Complete the recording and return its path; nothing is left of one that fails."""
        try:
            self._sink.finish()
        except BaseException:
            self._sink.discard()
            raise
        finally:
            if self._sound:
                self._sound.close()
        return self._sink.path


class _Sound:
    """The audio packets of a file from a given time on."""

    def __init__(self, path: Path, start: float):
        self._container = open_video(path)
        self.tracks = tuple(self._container.streams.audio)
        self._start = Fraction(start) + Fraction(self._container.start_time or 0, av.time_base)
        self._packets = self._from_start()
        self._ahead = next(self._packets, None)

    def until(self, seconds: float) -> Iterator[av.Packet]:
        """Yield the packets from the last call's time up to this one, counted from the start."""
        while self._ahead is not None and self._ahead.dts * self._ahead.time_base < seconds:
            packet, self._ahead = self._ahead, next(self._packets, None)
            yield packet

    def close(self) -> None:
        self._container.close()

    def _from_start(self) -> Iterator[av.Packet]:
        if not self.tracks:
            return
        self._container.seek(int(self._start * av.time_base))
        for packet in self._container.demux(*self.tracks):
            if packet.dts is None:
                continue
            start = round(self._start / packet.time_base)
            if packet.dts >= start:
                packet.dts -= start
                packet.pts = packet.dts if packet.pts is None else packet.pts - start
                yield packet

"""Decode, apply and encode at the same time, with few frames in flight."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from .blame import blamed_on
from .frames import FrameFunction, Sink, Source

_QUEUED_FRAMES = 4


@dataclass
class Clock:
    """Time spent in each stage, in seconds."""

    decode: float = 0.0
    apply: float = 0.0
    encode: float = 0.0

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time that the context lasts."""
        start = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, stage, getattr(self, stage) + time.perf_counter() - start)


def pump(
    source: Source, sink: Sink, function: FrameFunction, advance: Callable[[], None]
) -> tuple[int, Clock]:
    """Decode, apply (on this thread) and encode at the same time; return the count and the times.

    Raises whatever a stage raised; the other stages have ended by then.
    """
    stop = threading.Event()
    decoded, filtered = _Pipe(stop), _Pipe(stop)
    clock = Clock()
    frames = 0

    def decode() -> None:
        steps = source.steps()
        while True:
            with clock.measure("decode"), blamed_on(source.path, "decoding"):
                step = next(steps, None)
            if step is None:
                return decoded.end()
            decoded.put(step)

    def encode() -> None:
        for step in filtered:
            with clock.measure("encode"), blamed_on(sink.path, "writing"):
                sink.write(step)

    with ThreadPoolExecutor(2) as pool:
        stages = [pool.submit(_stage, stop, work) for work in (decode, encode)]
        try:
            for step in decoded:
                if step.frame is not None:
                    with clock.measure("apply"):
                        pixels = function(step.frame.pixels)
                    step = replace(step, frame=replace(step.frame, pixels=pixels))
                    frames += 1
                    advance()
                filtered.put(step)
            filtered.end()
        except _Stopped:
            pass
        except BaseException:
            stop.set()
            raise
    for stage in stages:
        stage.result()
    with clock.measure("encode"), blamed_on(sink.path, "writing"):
        sink.finish()
    return frames, clock


class _Stopped(Exception):  # noqa: N818 - a signal between the stages, not an error
    """Another stage has failed or was interrupted."""


class _Pipe:
    """A bounded queue between two stages; ends for all of them when `stop` is set."""

    _END = object()

    def __init__(self, stop: threading.Event):
        self._stop = stop
        self._items: queue.Queue = queue.Queue(_QUEUED_FRAMES)

    def put(self, item: object) -> None:
        while not self._stop.is_set():
            with suppress(queue.Full):
                return self._items.put(item, timeout=0.1)
        raise _Stopped

    def end(self) -> None:
        self.put(self._END)

    def __iter__(self) -> Iterator:
        while not self._stop.is_set():
            try:
                item = self._items.get(timeout=0.1)
            except queue.Empty:
                continue
            if item is self._END:
                return
            yield item
        raise _Stopped


def _stage(stop: threading.Event, work: Callable[[], None]) -> None:
    try:
        work()
    except _Stopped:
        return
    except BaseException:
        stop.set()
        raise

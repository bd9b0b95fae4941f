"""Videos, cameras and folders of frames through a frame function, and the live window.

`transform` turns a video or a folder of frames into another one: decoding, the frame function and
encoding overlap. `play` shows a camera or a video through a filter in a window with keys.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from shared import images
from shared.console import console
from shared.errors import VideoError


def _load_window_libraries() -> None:
    """Load the X11 helper libraries of OpenCV's wheel.

    PyAV's wheel carries libraries of the same names that are bound to another libxcb. The loader
    keeps the first of a name, and with PyAV's the window library waits for its display for ever.
    """
    for library in Path(cv2.__file__).parents[1].glob("opencv*.libs/libxcb-*.so*"):
        with suppress(OSError):
            ctypes.CDLL(str(library))


_load_window_libraries()

import av  # noqa: E402 - must follow the line above

FrameFunction = Callable[[np.ndarray], np.ndarray]

CONTAINERS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
}
"""Suffixes that a video can be written to, and the name of the muxer of each."""

_FRAME_SUFFIXES = images.READABLE - {".hdr", ".exr"}
_VIDEO_ENCODERS = ("libx264", "mpeg4", "libvpx-vp9")
_AUDIO_ENCODERS = ("aac", "libopus")
_FALLBACK_RATE = Fraction(25)
_QUEUED_FRAMES = 4
# ITU-T H.273 codes of the YCbCr matrices that the converter knows, and "not stated".
_BT709, _BT601, _UNSTATED = 1, 6, 2
_LIMITED_RANGE = av.video.reformatter.ColorRange.MPEG
_MATRICES = frozenset({_BT709, 4, 5, _BT601, 7, 9})
# Without these two flags the converter truncates, and every pass darkens a video by one level.
_CONVERSION = (
    av.video.reformatter.Interpolation.BILINEAR
    | av.video.reformatter.Interpolation.ACCURATE_RND
    | av.video.reformatter.Interpolation.FULL_CHR_H_INT
)


@dataclass(frozen=True)
class VideoSummary:
    """What `transform` did.

    Attributes:
        frames: Number of frames written.
        seconds_decode: Time spent reading and decoding, waiting excluded.
        seconds_apply: Time spent in the frame function.
        seconds_encode: Time spent encoding and writing, waiting excluded.
        fps_apply: Frames per second of the frame function alone.
        audio: Whether the target has sound.
        notes: What a person should know, such as a subtitle track that had to be left out.
    """

    frames: int
    seconds_decode: float
    seconds_apply: float
    seconds_encode: float
    fps_apply: float
    audio: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Form:
    """What a target must know of its source before the first frame."""

    rate: Fraction
    time_base: Fraction
    matrix: int = _UNSTATED
    primaries: int = _UNSTATED
    transfer: int = _UNSTATED
    tracks: tuple[av.stream.Stream, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Frame:
    pixels: np.ndarray
    pts: int
    duration: int
    aspect: Fraction | None = None


@dataclass(frozen=True)
class _Step:
    """One frame and the audio and subtitle packets that precede it; the last step has no frame."""

    frame: _Frame | None
    packets: Sequence[av.Packet] = ()


class _Source(Protocol):
    path: Path
    form: _Form
    total: int | None
    notes: list[str]

    def steps(self) -> Iterator[_Step]: ...
    def close(self) -> None: ...


class _Sink(Protocol):
    path: Path
    audio: bool
    notes: list[str]

    def write(self, step: _Step) -> None: ...
    def finish(self) -> None: ...
    def discard(self) -> None: ...


# Reading ------------------------------------------------------------------------------------------


def _matrix(stated: int, width: int, height: int) -> int:
    """Return the YCbCr matrix of a picture; where none is stated, the one that players assume."""
    if stated in _MATRICES:
        return stated
    return _BT709 if width >= 1280 or height > 576 else _BT601


def _display_matrix(frame: av.VideoFrame) -> np.ndarray | None:
    data = frame.side_data.get("DISPLAYMATRIX")
    return None if data is None else np.frombuffer(bytes(data), np.int32).reshape(3, 3)


def _is_turned(matrix: np.ndarray | None) -> bool:
    return matrix is not None and abs(int(matrix[0, 1])) > abs(int(matrix[0, 0]))


def _upright(pixels: np.ndarray, matrix: np.ndarray | None) -> np.ndarray:
    """Turn or mirror a decoded frame as its display matrix (ISO/IEC 14496-12, 6.2.2) asks."""
    if matrix is None:
        return pixels
    if _is_turned(matrix):
        pixels = pixels.swapaxes(0, 1)
        x, y = matrix[1, 0], matrix[0, 1]
    else:
        x, y = matrix[0, 0], matrix[1, 1]
    return np.ascontiguousarray(pixels[:: -1 if y < 0 else 1, :: -1 if x < 0 else 1])


class _VideoSource:
    """Frames of a video file in display order, with its audio and subtitle packets between them."""

    def __init__(self, path: Path):
        self.path = path
        self._container = _open_video(path)
        self._stream = _video_stream(self._container, path)
        self._stream.thread_type = "AUTO"
        codec = self._stream.codec_context
        rate = self._stream.average_rate or self._stream.guessed_rate or _FALLBACK_RATE
        self.form = _Form(
            rate=rate,
            time_base=self._stream.time_base,
            matrix=_matrix(codec.colorspace, codec.width, codec.height),
            primaries=codec.color_primaries,
            transfer=codec.color_trc,
            tracks=(*self._container.streams.audio, *self._container.streams.subtitles),
            metadata=dict(self._container.metadata),
        )
        self.total = self._stream.frames or self._expected_frames()
        self.notes: list[str] = []
        self._start = max(0, self._container.start_time or 0)
        self._frame_duration = max(1, round(1 / (rate * self.form.time_base)))
        self._next_pts = 0
        self._last_pts: int | None = None
        self._size: tuple[int, int] | None = None
        self._reformatter = av.video.reformatter.VideoReformatter()

    def steps(self) -> Iterator[_Step]:
        damaged = 0
        waiting: list[av.Packet] = []
        for packet in self._container.demux(self._stream, *self.form.tracks):
            if packet.stream.index != self._stream.index:
                if packet.dts is not None:
                    waiting.append(self._shifted(packet))
                continue
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                damaged += 1
                continue
            for frame in frames:
                yield _Step(self._picture(frame), waiting)
                waiting = []
        if self._last_pts is None:
            raise VideoError(f"{self.path}: no frame of it can be decoded; give a complete video")
        if damaged:
            self.notes.append(f"{self.path.name}: damaged packets skipped: {damaged}")
        yield _Step(None, waiting)

    def close(self) -> None:
        self._container.close()

    def _expected_frames(self) -> int | None:
        duration = self._container.duration
        return duration and round(duration / av.time_base * self.form.rate)

    def _shifted(self, packet: av.Packet) -> av.Packet:
        shift = self._start_in(packet.time_base)
        packet.dts -= shift
        if packet.pts is not None:
            packet.pts -= shift
        return packet

    def _start_in(self, time_base: Fraction) -> int:
        return round(Fraction(self._start, av.time_base) / time_base)

    def _picture(self, frame: av.VideoFrame) -> _Frame:
        self._size = self._size or (frame.width, frame.height)
        if not frame.format.is_rgb:
            frame.colorspace = _matrix(frame.colorspace, frame.width, frame.height)
        rgb = self._reformatter.reformat(frame, *self._size, "rgb24", interpolation=_CONVERSION)
        matrix = _display_matrix(frame)
        aspect = self._stream.codec_context.sample_aspect_ratio
        return _Frame(
            pixels=_upright(rgb.to_ndarray(), matrix),
            pts=self._timestamp(frame),
            duration=frame.duration or self._frame_duration,
            aspect=1 / aspect if aspect and _is_turned(matrix) else aspect,
        )

    def _timestamp(self, frame: av.VideoFrame) -> int:
        """Return the time of a frame; frames without one, or out of order, follow the last."""
        if frame.pts is None:
            pts = self._next_pts
        else:
            pts = frame.pts - self._start_in(self.form.time_base)
        if self._last_pts is not None:
            pts = max(pts, self._last_pts + 1)
        self._last_pts = pts
        self._next_pts = pts + (frame.duration or self._frame_duration)
        return pts


def _open_video(path: Path) -> av.container.InputContainer:
    try:
        return av.open(str(path), metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        raise VideoError(
            f"{path}: not a readable video ({_reason(error)}); give a complete video file or a "
            "folder of frames"
        ) from error


def _video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    for stream in container.streams.video:
        cover_art = stream.disposition & av.stream.Disposition.attached_pic
        if stream.codec_context is not None and not cover_art:
            return stream
    container.close()
    raise VideoError(f"{path}: this file has no video in it that can be decoded; give another file")


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


class _FolderSource:
    """The pictures of a folder as the frames of a video, sorted by name, numbers by value."""

    def __init__(self, folder: Path, fps: Fraction):
        self.path = folder
        self._paths = sorted(
            (
                path
                for path in folder.iterdir()
                if path.suffix.lower() in _FRAME_SUFFIXES and not path.name.startswith(".")
            ),
            key=_natural,
        )
        if not self._paths:
            raise VideoError(f"{folder}: no frames in this folder; it must hold pictures (.png)")
        self.form = _Form(rate=fps, time_base=1 / fps)
        self.total = len(self._paths)
        self.notes: list[str] = []

    def steps(self) -> Iterator[_Step]:
        size = None
        for index, path in enumerate(self._paths):
            pixels = images.load(path).pixels
            size = size or pixels.shape
            if pixels.shape != size:
                raise VideoError(
                    f"{path}: this frame has {_size(pixels.shape)} pixels, the first one of the "
                    f"folder {_size(size)}; give frames of one size"
                )
            if pixels.dtype != np.uint8:
                pixels = images.from_float(images.to_float(pixels), np.uint8)
            yield _Step(_Frame(pixels, pts=index, duration=1))
        yield _Step(None)

    def close(self) -> None:
        """Nothing stays open between frames."""


def _natural(path: Path) -> list[tuple[int, int | str]]:
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts]


def _size(shape: Sequence[int]) -> str:
    return f"{shape[1]} x {shape[0]}"


# Writing ------------------------------------------------------------------------------------------


class _CopiedTrack:
    """An audio or subtitle stream whose packets are passed on as they are."""

    def __init__(self, container: av.container.OutputContainer, source: av.stream.Stream):
        self._container = container
        self._stream = container.add_stream_from_template(source)
        _describe(self._stream, source)

    def write(self, packet: av.Packet) -> None:
        packet.stream = self._stream
        self._container.mux_one(packet)

    def finish(self) -> None:
        """Nothing is held back."""


class _EncodedTrack:
    """An audio stream in a codec that the container does not hold, encoded anew."""

    def __init__(self, container: av.container.OutputContainer, source: av.AudioStream):
        self._container = container
        # Old formats state a number of channels and no layout, which encoders refuse.
        layout = {1: "mono", 2: "stereo"}.get(source.channels, source.layout.name)
        self._stream = _add_stream(container, _AUDIO_ENCODERS, layout=layout)
        rates = self._stream.codec_context.codec.audio_rates
        self._stream.codec_context.sample_rate = source.rate if source.rate in rates else 48000
        _describe(self._stream, source)

    def write(self, packet: av.Packet) -> None:
        with suppress(av.error.InvalidDataError):
            for frame in packet.decode():
                self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        self._container.mux(self._stream.encode(None))


def _describe(stream: av.stream.Stream, source: av.stream.Stream) -> None:
    stream.metadata.update(source.metadata)
    stream.disposition = source.disposition


def _add_stream(
    container: av.container.OutputContainer, encoders: Sequence[str], **settings
) -> av.stream.Stream:
    """Add a stream of the first encoder that is installed and that the container holds."""
    for encoder in encoders:
        with suppress(ValueError):
            return container.add_stream(encoder, **settings)
    raise VideoError(
        f"no installed encoder writes {container.format.name}; give the output the suffix .mkv"
    )


def _encoder_options(encoder: str, crf: int) -> dict[str, str]:
    if encoder == "libx264":
        # Without B-frames, times and durations of variable frame rates stay exact in MP4.
        return {"crf": str(crf), "preset": "veryfast", "bf": "0"}
    if encoder == "libvpx-vp9":
        return {"crf": str(crf), "deadline": "good", "cpu-used": "5", "row-mt": "1"}
    # MPEG-4 quantisers run from 2 (best) to 31, in the encoder's units of 1/118; crf 18 gives 3.
    return {"flags": "+qscale", "global_quality": str(118 * max(2, round(crf / 6)))}


def _pixel_format(encoder: str, height: int, width: int) -> str:
    odd = height % 2 or width % 2
    return "yuv444p" if encoder == "libx264" and odd else "yuv420p"


class _VideoSink:
    """A video file, written beside its final name until `finish` renames it."""

    def __init__(self, target: Path, form: _Form, *, crf: int):
        self.path = target
        self._part = target.with_name(f".{target.stem}.part{target.suffix}")
        self._form = form
        self._crf = crf
        self._reformatter = av.video.reformatter.VideoReformatter()
        self._stream: av.VideoStream | None = None
        self._tracks: dict[int, _CopiedTrack | _EncodedTrack] = {}
        self.notes: list[str] = []
        self.audio = False
        target.parent.mkdir(parents=True, exist_ok=True)
        self._container = av.open(
            str(self._part),
            "w",
            format=CONTAINERS[target.suffix.lower()],
            metadata_errors="replace",
        )

    def write(self, step: _Step) -> None:
        if self._stream is None:
            self._add_streams(step.frame)
        for packet in step.packets:
            if packet.stream.index in self._tracks:
                self._tracks[packet.stream.index].write(packet)
        if step.frame is not None:
            self._container.mux(self._stream.encode(self._picture(step.frame)))

    def finish(self) -> None:
        self._container.mux(self._stream.encode(None))
        for track in self._tracks.values():
            track.finish()
        self._container.close()
        os.replace(self._part, self.path)

    def discard(self) -> None:
        with suppress(Exception):
            self._container.close()
        self._part.unlink(missing_ok=True)

    def _add_streams(self, frame: _Frame) -> None:
        self._container.metadata.update(self._form.metadata)
        self._add_video(frame)
        for source in self._form.tracks:
            track = self._track(source)
            if track is None:
                self.notes.append(
                    f"{source.type} track {source.index} is left out: "
                    f"{self.path.suffix} files cannot hold it"
                )
            else:
                self._tracks[source.index] = track
                self.audio = self.audio or source.type == "audio"

    def _add_video(self, frame: _Frame) -> None:
        height, width = frame.pixels.shape[:2]
        self._stream = _add_stream(
            self._container, _VIDEO_ENCODERS, rate=self._form.rate, width=width, height=height
        )
        codec = self._stream.codec_context
        encoder = codec.codec.name
        codec.options = _encoder_options(encoder, self._crf)
        codec.pix_fmt = _pixel_format(encoder, height, width)
        codec.time_base = self._form.time_base
        if encoder == "mpeg4":
            codec.time_base = max(codec.time_base, Fraction(1, 65535))
        codec.flags |= av.codec.context.Flags.frame_duration.value
        codec.thread_type = "AUTO"
        codec.colorspace = _matrix(self._form.matrix, width, height)
        codec.color_range = _LIMITED_RANGE
        codec.color_primaries = self._form.primaries
        codec.color_trc = self._form.transfer
        if frame.aspect:
            codec.sample_aspect_ratio = frame.aspect

    def _track(self, source: av.stream.Stream) -> _CopiedTrack | _EncodedTrack | None:
        with suppress(ValueError):
            return _CopiedTrack(self._container, source)
        if source.type == "audio" and source.codec_context is not None:
            return _EncodedTrack(self._container, source)
        return None

    def _picture(self, frame: _Frame) -> av.VideoFrame:
        codec = self._stream.codec_context
        rgb = av.VideoFrame.from_ndarray(frame.pixels, format="rgb24")
        picture = self._reformatter.reformat(
            rgb,
            format=codec.pix_fmt,
            dst_colorspace=5 if codec.colorspace == _BT601 else codec.colorspace,
            dst_color_range=_LIMITED_RANGE,
            interpolation=_CONVERSION,
        )
        picture.pts = frame.pts
        picture.time_base = self._form.time_base
        picture.duration = frame.duration
        return picture


class _FolderSink:
    """A folder of numbered PNG files, written beside its final name until `finish` moves them."""

    audio = False

    def __init__(self, target: Path):
        self.path = target
        self._part = target.resolve().with_name(f".{target.resolve().name}.part")
        self._count = 0
        self.notes: list[str] = []
        shutil.rmtree(self._part, ignore_errors=True)
        self._part.mkdir(parents=True)

    def write(self, step: _Step) -> None:
        if step.frame is not None:
            self._count += 1
            images.write(self._part / f"frame_{self._count:06d}.png", step.frame.pixels)

    def finish(self) -> None:
        self.path.mkdir(exist_ok=True)
        for stale in self.path.glob("frame_*.png"):
            stale.unlink()
        for path in self._part.iterdir():
            os.replace(path, self.path / path.name)
        self._part.rmdir()

    def discard(self) -> None:
        shutil.rmtree(self._part, ignore_errors=True)


# The pipeline -------------------------------------------------------------------------------------


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


@dataclass
class _Clock:
    """Time spent in each stage, in seconds."""

    decode: float = 0.0
    apply: float = 0.0
    encode: float = 0.0

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, stage, getattr(self, stage) + time.perf_counter() - start)


@contextmanager
def _blamed_on(path: Path, activity: str) -> Iterator[None]:
    """Turn what FFmpeg and the system report into one sentence that names the file."""
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        raise VideoError(f"{path}: {activity} failed ({_reason(error)})") from error


def _stage(stop: threading.Event, work: Callable[[], None]) -> None:
    try:
        work()
    except _Stopped:
        return
    except BaseException:
        stop.set()
        raise


def _pump(
    source: _Source, sink: _Sink, function: FrameFunction, advance: Callable[[], None]
) -> tuple[int, _Clock]:
    """Decode, apply (on this thread) and encode at the same time; return the count and the times.

    Raises whatever a stage raised; the other stages have ended by then.
    """
    stop = threading.Event()
    decoded, filtered = _Pipe(stop), _Pipe(stop)
    clock = _Clock()
    frames = 0

    def decode() -> None:
        steps = source.steps()
        while True:
            with clock.measure("decode"), _blamed_on(source.path, "decoding"):
                step = next(steps, None)
            if step is None:
                return decoded.end()
            decoded.put(step)

    def encode() -> None:
        for step in filtered:
            with clock.measure("encode"), _blamed_on(sink.path, "writing"):
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
    with clock.measure("encode"), _blamed_on(sink.path, "writing"):
        sink.finish()
    return frames, clock


class _RateColumn(ProgressColumn):
    """Frames per second so far."""

    def render(self, task) -> Text:
        return Text(f"{task.speed:.1f} frames/s" if task.speed else "")


def _progress(quiet: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        _RateColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=quiet or not console.is_terminal,
    )


def _check_paths(source: Path, target: Path, overwrite: bool) -> None:
    if not source.exists():
        raise VideoError(f"{source}: no such file or folder; check the name")
    if target.suffix and target.suffix.lower() not in CONTAINERS:
        raise VideoError(
            f"{target}: cannot write this kind of video; end the name in "
            f"{', '.join(CONTAINERS)}, or in nothing for a folder of PNG frames"
        )
    if target.exists() and source.resolve() == target.resolve():
        raise VideoError(f"{target}: the output would replace the input; give another name")
    if target.suffix:
        _check_file_target(target, overwrite)
    elif target.exists():
        _check_folder_target(target, overwrite)


def _check_file_target(target: Path, overwrite: bool) -> None:
    if target.is_dir():
        raise VideoError(f"{target}: this is a folder; give the name of a video file")
    if target.exists() and not overwrite:
        raise VideoError(f"{target}: exists already; pass --overwrite to replace it")


def _check_folder_target(target: Path, overwrite: bool) -> None:
    if not target.is_dir():
        raise VideoError(f"{target}: exists and is not a folder; give another name for the frames")
    if not overwrite and any(target.iterdir()):
        raise VideoError(f"{target}: is not empty; pass --overwrite to replace the frames in it")


def transform(
    source: Path,
    target: Path,
    make_frame_function: Callable[[float], FrameFunction],
    *,
    quiet: bool = False,
    overwrite: bool = False,
    crf: int = 18,
    fps: float = 25,
) -> VideoSummary:
    """Send a video, or a folder of frames, through a frame function.

    The times of the frames, sound, subtitles, colour description and pixel aspect stay those of the
    source; frames are turned upright. Nothing is left behind when it fails or is interrupted.

    Args:
        source: A video file, or a folder of pictures of one size (sorted by name).
        target: A video file (`CONTAINERS` lists the suffixes), or, without a suffix, a folder that
            receives `frame_000001.png` and so on.
        make_frame_function: Gets the frame rate and returns the function that gets each frame, in
            order, as (height, width, 3) uint8 RGB, and returns the new one.
        quiet: Show no progress bar.
        overwrite: Replace an existing target.
        crf: Constant rate factor of the encoder; smaller is better and larger.
        fps: Frame rate given to a folder of frames, which has none of its own.

    Raises:
        VideoError: The source is missing, damaged, without frames or of changing size; the target
            exists or cannot be written.
        ImageError: A picture of the folder cannot be read.
    """
    source, target = Path(source), Path(target)
    _check_paths(source, target, overwrite)
    reader = _open_source(source, fps)
    try:
        function = make_frame_function(float(reader.form.rate))
        with _blamed_on(target, "writing"):
            sink = _open_sink(target, reader.form, crf)
        try:
            with _progress(quiet) as progress:
                task = progress.add_task(source.name, total=reader.total)
                frames, clock = _pump(reader, sink, function, lambda: progress.advance(task))
        except BaseException:
            sink.discard()
            raise
    finally:
        reader.close()
    return VideoSummary(
        frames=frames,
        seconds_decode=clock.decode,
        seconds_apply=clock.apply,
        seconds_encode=clock.encode,
        fps_apply=frames / max(clock.apply, 1e-9),
        audio=sink.audio,
        notes=(*reader.notes, *sink.notes),
    )


def _open_source(source: Path, fps: float) -> _Source:
    if source.is_dir():
        return _FolderSource(source, Fraction(fps).limit_denominator(1001))
    return _VideoSource(source)


def _open_sink(target: Path, form: _Form, crf: int) -> _Sink:
    return _VideoSink(target, form, crf=crf) if target.suffix else _FolderSink(target)


# The live window ----------------------------------------------------------------------------------

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
_HELP_SECONDS = 6.0
_MESSAGE_SECONDS = 3.0
_MAX_STRENGTH = 2.0
_WINDOW = (1280, 720)
_ESCAPE = 27


@dataclass(frozen=True)
class _View:
    """What the keys of the window control.

    Attributes:
        strength: Strength of the filter, 0 to 2.
        split: Show the unfiltered picture left of the divider.
        divider: Position of the divider, 0 (left) to 1 (right).
        paused: Hold the picture.
        recording: Write the filtered frames to a file.
        snapshot: Save the filtered frame once.
        help: Show the keys.
        quit: End.
    """

    strength: float
    split: bool = False
    divider: float = 0.5
    paused: bool = False
    recording: bool = False
    snapshot: bool = False
    help: bool = True
    quit: bool = False


def _press(view: _View, key: int) -> _View:
    """Return the view after a key press (a character code; others change nothing)."""
    if key == _ESCAPE:
        return replace(view, quit=True)
    match chr(key) if 0 <= key < 128 else "":
        case "+" | "=":
            return replace(view, strength=min(_MAX_STRENGTH, round(view.strength + 0.1, 1)))
        case "-" | "_":
            return replace(view, strength=max(0.0, round(view.strength - 0.1, 1)))
        case "[":
            return replace(view, split=True, divider=max(0.0, round(view.divider - 0.05, 2)))
        case "]":
            return replace(view, split=True, divider=min(1.0, round(view.divider + 0.05, 2)))
        case "s":
            return replace(view, split=not view.split)
        case " ":
            return replace(view, paused=not view.paused)
        case "p":
            return replace(view, snapshot=True)
        case "r":
            return replace(view, recording=not view.recording)
        case "h":
            return replace(view, help=not view.help)
        case "q":
            return replace(view, quit=True)
    return view


def _compose(before: np.ndarray, after: np.ndarray, view: _View) -> np.ndarray:
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


def _text_scale(height: int) -> float:
    return max(0.4, 0.7 * height / 720)


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


def _status(view: _View, fps: float, recorded: float | None, message: str) -> list[str]:
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


def _draw_overlay(shown: np.ndarray, status: Sequence[str], *, with_help: bool) -> None:
    height, width = shown.shape[:2]
    scale = _text_scale(height)
    beside_the_dot = width - round(50 * scale)
    _write_lines(shown, _packed(status, beside_the_dot, scale), top=True)
    if with_help:
        _write_lines(shown, _packed(_HELP, width, scale), top=False)


def _draw_red_dot(shown: np.ndarray) -> None:
    radius = round(11 * _text_scale(shown.shape[0]))
    centre = (shown.shape[1] - 3 * radius, 2 * radius)
    cv2.circle(shown, centre, radius, (40, 40, 235), cv2.FILLED, cv2.LINE_AA)


class _Feed:
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
        self.rate = rate if 1 <= rate <= 1000 else float(_FALLBACK_RATE)
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


class _Sound:
    """The audio packets of a file from a given time on."""

    def __init__(self, path: Path, start: float):
        self._container = _open_video(path)
        self.tracks = tuple(self._container.streams.audio)
        self._start = Fraction(start) + Fraction(self._container.start_time or 0, av.time_base)
        if self.tracks:
            self._container.seek(int(self._start * av.time_base))
        self._packets = self._container.demux(*self.tracks) if self.tracks else iter(())
        self._ahead: list[av.Packet] = []

    def until(self, seconds: float) -> Iterator[av.Packet]:
        """Return the packets from the last call's time up to this one, counted from the start."""
        while self._ahead or self._fetch():
            packet = self._ahead[0]
            if packet.dts * packet.time_base >= seconds:
                return
            yield self._ahead.pop()

    def close(self) -> None:
        self._container.close()

    def _fetch(self) -> bool:
        for packet in self._packets:
            if packet.dts is None:
                continue
            start = round(self._start / packet.time_base)
            if packet.dts >= start:
                packet.dts -= start
                packet.pts = packet.dts if packet.pts is None else packet.pts - start
                self._ahead.append(packet)
                return True
        return False


class _Recorder:
    """A recording in progress: the filtered frames, and the sound of the file they come from."""

    def __init__(self, target: Path, feed: _Feed, start: float):
        self.seconds = 0.0
        self._start = start
        self._frame_seconds = 1 / feed.rate
        self._sound = _Sound(feed.file, start) if feed.file else None
        form = _Form(
            rate=Fraction(feed.rate).limit_denominator(1001),
            time_base=Fraction(1, 90000),
            tracks=self._sound.tracks if self._sound else (),
        )
        self._sink = _VideoSink(target, form, crf=18)
        self._last_pts = -1

    def write(self, pixels: np.ndarray, seconds: float) -> None:
        passed = max(0.0, seconds - self._start)
        pts = max(round(passed * 90000), self._last_pts + 1)
        self._last_pts = pts
        self.seconds = passed + self._frame_seconds
        frame = _Frame(pixels, pts, duration=round(self._frame_seconds * 90000))
        packets = tuple(self._sound.until(self.seconds)) if self._sound else ()
        self._sink.write(_Step(frame, packets))

    def finish(self) -> Path:
        try:
            self._sink.finish()
        except BaseException:
            self._sink.discard()
            raise
        finally:
            self._close_sound()
        return self._sink.path

    def _close_sound(self) -> None:
        if self._sound:
            self._sound.close()


def _require_window_system() -> None:
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


class _Window:
    """A HighGUI window; the mouse moves the divider."""

    def __init__(self, title: str):
        self._title = title
        self._sized = False
        self.dragged: float | None = None
        self._width = 1
        # OpenCV points Qt to a font folder that its wheels do not carry; Qt then complains.
        if Path("/usr/share/fonts").is_dir():
            os.environ["QT_QPA_FONTDIR"] = "/usr/share/fonts"
        flags = cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL
        cv2.namedWindow(title, flags)
        cv2.setMouseCallback(title, self._on_mouse)

    def show(self, image: np.ndarray) -> None:
        height, self._width = image.shape[:2]
        if not self._sized:
            scale = min(_WINDOW[0] / self._width, _WINDOW[1] / height)
            cv2.resizeWindow(self._title, round(self._width * scale), round(height * scale))
            self._sized = True
        cv2.imshow(self._title, image)

    def key(self, wait_seconds: float) -> int:
        """Wait for a key; return its code, or -1."""
        code = cv2.waitKey(max(1, int(wait_seconds * 1000)))
        return code if code < 0 else code & 0xFF

    def is_closed(self) -> bool:
        try:
            return cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1
        except cv2.error:  # Qt has ended with its last window
            return True

    def close(self) -> None:
        with suppress(cv2.error):
            cv2.destroyWindow(self._title)

    def _on_mouse(self, event: int, x: int, _y: int, flags: int, _parameter: object) -> None:
        if event == cv2.EVENT_LBUTTONDOWN or (
            event == cv2.EVENT_MOUSEMOVE and flags & cv2.EVENT_FLAG_LBUTTON
        ):
            self.dragged = min(1.0, max(0.0, x / self._width))


class _LiveFilter(Protocol):
    strength: float

    def stream(self, fps: float) -> FrameFunction: ...


class _Session:
    """What one run of `play` holds between two frames, apart from window and feed."""

    def __init__(self, feed: _Feed, live_filter: _LiveFilter, out: Path):
        self.view = _View(strength=live_filter.strength)
        self._feed = feed
        self._filter = live_filter
        self._apply = live_filter.stream(feed.rate)
        self._out = out
        self._recorder: _Recorder | None = None
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

    def change(self, view: _View) -> None:
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
            self._recorder = _Recorder(path, self._feed, self._seconds)
            self._recorder.write(self._after, self._seconds)
        elif not view.recording:
            self.stop_recording()

    def picture(self) -> np.ndarray:
        """Return what the window shows: uint8 BGR with the overlay."""
        now = time.perf_counter()
        if now > self._help_until:
            self.view = replace(self.view, help=False)
        shown = _compose(self._before, self._after, self.view)
        recorded = self._recorder.seconds if self._recorder else None
        message = self._message if now < self._message_until else ""
        status = _status(self.view, self._fps(), recorded, message)
        _draw_overlay(shown, status, with_help=self.view.help)
        if self._recorder:
            _draw_red_dot(shown)
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
    feed = _Feed(source, mirror)
    try:
        _require_window_system()
        session = _Session(feed, filter, Path(out))
        window = _Window(title)
        try:
            with _blamed_on(Path(out), "writing"):
                _loop(session, window, paced=feed.file is not None, max_frames=max_frames)
        finally:
            window.close()
            session.stop_recording()
    finally:
        feed.close()


def _loop(session: _Session, window: _Window, *, paced: bool, max_frames: int | None) -> None:
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
        view = _press(session.view, key)
        if window.dragged is not None:
            view, window.dragged = replace(view, split=True, divider=window.dragged), None
        session.change(view)

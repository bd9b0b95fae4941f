"""Read frames: from a video file, or from a folder of pictures."""

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from shared import images
from shared.errors import VideoError, reason

from .colour import CONVERSION, known_matrix
from .frames import FALLBACK_RATE, Form, Frame, Source, Step

_FRAME_SUFFIXES = images.READABLE - {".hdr", ".exr"}


def open_source(path: Path, fps: float) -> Source:
    """Open a video file, or a folder of frames, which gets the rate `fps`."""
    if path.is_dir():
        return _FolderSource(path, Fraction(fps).limit_denominator(1001))
    return _VideoSource(path)


def open_video(path: Path) -> av.container.InputContainer:
    """Open a video file for reading.

    Raises:
        VideoError: it is missing or no video.
    """
    try:
        return av.open(str(path), metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        raise VideoError(
            f"{path}: not a readable video ({reason(error)}); give a complete video file or a "
            "folder of frames"
        ) from error


class _VideoSource:
    """Frames of a video file in display order, with its audio and subtitle packets between them."""

    def __init__(self, path: Path):
        self.path = path
        self._container = open_video(path)
        self._stream = _video_stream(self._container, path)
        self._stream.thread_type = "AUTO"
        codec = self._stream.codec_context
        rate = self._stream.average_rate or self._stream.guessed_rate or FALLBACK_RATE
        self.form = Form(
            rate=rate,
            time_base=self._stream.time_base,
            matrix=known_matrix(codec.colorspace, codec.width, codec.height),
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

    def steps(self) -> Iterator[Step]:
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
                yield Step(self._picture(frame), waiting)
                waiting = []
        if self._last_pts is None:
            raise VideoError(f"{self.path}: no frame of it can be decoded; give a complete video")
        if damaged:
            self.notes.append(f"{self.path.name}: damaged packets skipped: {damaged}")
        yield Step(None, waiting)

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

    def _picture(self, frame: av.VideoFrame) -> Frame:
        self._size = self._size or (frame.width, frame.height)
        if not frame.format.is_rgb:
            frame.colorspace = known_matrix(frame.colorspace, frame.width, frame.height)
        rgb = self._reformatter.reformat(frame, *self._size, "rgb24", interpolation=CONVERSION)
        matrix = _display_matrix(frame)
        aspect = self._stream.codec_context.sample_aspect_ratio
        return Frame(
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


def _video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    for stream in container.streams.video:
        cover_art = stream.disposition & av.stream.Disposition.attached_pic
        if stream.codec_context is not None and not cover_art:
            return stream
    container.close()
    raise VideoError(f"{path}: this file has no video in it that can be decoded; give another file")


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
        self.form = Form(rate=fps, time_base=1 / fps)
        self.total = len(self._paths)
        self.notes: list[str] = []

    def steps(self) -> Iterator[Step]:
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
            yield Step(Frame(pixels, pts=index, duration=1))
        yield Step(None)

    def close(self) -> None:
        """Nothing stays open between frames."""


def _natural(path: Path) -> list[tuple[int, int | str]]:
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts]


def _size(shape: Sequence[int]) -> str:
    return f"{shape[1]} x {shape[0]}"

"""Write frames: into a video file, or as a folder of pictures."""

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av

from shared import images
from shared.errors import VideoError

from .colour import BT601, CONVERSION, LIMITED_RANGE, known_matrix
from .frames import Form, Frame, Sink, Step

CONTAINERS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
}
"""Suffixes that a video can be written to, and the name of the muxer of each."""

_VIDEO_ENCODERS = ("libx264", "mpeg4", "libvpx-vp9")
_AUDIO_ENCODERS = ("aac", "libopus")


def open_sink(target: Path, form: Form, crf: int) -> Sink:
    """Start a video file, or, where `target` has no suffix, a folder of frames."""
    return _VideoSink(target, form, crf) if target.suffix else _FolderSink(target)


class _VideoSink:
    """A video file, written beside its final name until `finish` renames it."""

    def __init__(self, target: Path, form: Form, crf: int):
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

    def write(self, step: Step) -> None:
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

    def _add_streams(self, frame: Frame) -> None:
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

    def _add_video(self, frame: Frame) -> None:
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
        codec.colorspace = known_matrix(self._form.matrix, width, height)
        codec.color_range = LIMITED_RANGE
        codec.color_primaries = self._form.primaries
        codec.color_trc = self._form.transfer
        if frame.aspect:
            codec.sample_aspect_ratio = frame.aspect

    def _track(self, source: av.stream.Stream) -> "_CopiedTrack | _EncodedTrack | None":
        with suppress(ValueError):
            return _CopiedTrack(self._container, source)
        if source.type == "audio" and source.codec_context is not None:
            return _EncodedTrack(self._container, source)
        return None

    def _picture(self, frame: Frame) -> av.VideoFrame:
        codec = self._stream.codec_context
        rgb = av.VideoFrame.from_ndarray(frame.pixels, format="rgb24")
        picture = self._reformatter.reformat(
            rgb,
            format=codec.pix_fmt,
            dst_colorspace=5 if codec.colorspace == BT601 else codec.colorspace,
            dst_color_range=LIMITED_RANGE,
            interpolation=CONVERSION,
        )
        picture.pts = frame.pts
        picture.time_base = self._form.time_base
        picture.duration = frame.duration
        return picture


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

    def write(self, step: Step) -> None:
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

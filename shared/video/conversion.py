"""A video or a folder of frames through a frame function into another one."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shared.console import progress
from shared.errors import VideoError

from .blame import blamed_on
from .frames import FrameFunction
from .pipeline import pump
from .sinks import CONTAINERS, open_sink
from .sources import open_source


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
    reader = open_source(source, fps)
    try:
        function = make_frame_function(float(reader.form.rate))
        with blamed_on(target, "writing"):
            sink = open_sink(target, reader.form, crf)
        try:
            with progress(source.name, reader.total, unit="frames", quiet=quiet) as update:
                done = itertools.count(1)
                frames, clock = pump(reader, sink, function, lambda: update(next(done)))
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

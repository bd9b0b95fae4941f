"""One sentence that names the file, for what FFmpeg and the system report."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av

from shared.errors import VideoError, reason


@contextmanager
def blamed_on(path: Path, activity: str) -> Iterator[None]:
    """Turn what FFmpeg and the system report into a VideoError about `path`."""
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        raise VideoError(f"{path}: {activity} failed ({reason(error)})") from error

"""The file behind a picture: whether it can be read, and how it is replaced as a whole."""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from shared.errors import ImageError, reason


def first_bytes(path: Path) -> bytes:
    """Return the first 4 kB of a file.

    Raises:
        ImageError: it is missing, empty, no regular file or not readable.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ImageError(f"{path} is a folder, not a picture; name the pictures inside it")
        if not stat.S_ISREG(mode):
            raise ImageError(f"{path} is a device or a pipe, not a file; copy it to a file first")
        with path.open("rb") as file:
            head = file.read(4096)
    except FileNotFoundError:
        raise ImageError(f"{path} does not exist; check the name") from None
    except PermissionError:
        raise ImageError(f"{path} cannot be read: permission denied") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"{path} cannot be read: {reason(error)}") from error
    if not head:
        raise ImageError(f"{path} is empty (0 bytes); copy it again from where it came from")
    return head


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary file beside `path` that replaces it at the end, or vanishes on an error."""
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, path)
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {reason(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)

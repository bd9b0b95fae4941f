"""What every reader does with a file it does not trust."""

import functools
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from shared.errors import WeightsError, reason

Result = TypeVar("Result")

# Arrays of honest compressed files are no more than this many times larger than the file.
INFLATION = 16


class RefusedError(Exception):
    """What is wrong with a file, as the part of the sentence behind its name."""


def reader(kind: str) -> Callable[[Callable[[Path], Result]], Callable[[str | Path], Result]]:
    """Make a reader of a path report every fault as a `WeightsError` of one sentence.

    Args:
        kind: What the reader reads, such as `Caffe network`.
    """

    def decorate(function: Callable[[Path], Result]) -> Callable[[str | Path], Result]:
        @functools.wraps(function)
        def read(path: str | Path) -> Result:
            try:
                return function(Path(path))
            except WeightsError:
                raise
            except RefusedError as error:
                raise WeightsError(f"{path}: {error}.") from error
            except Exception as error:  # whatever a damaged or hostile file makes a library raise
                raise WeightsError(
                    f"{path}: not a readable {kind}, damaged or cut off ({reason(error)[:200]})."
                ) from error

        return read

    return decorate


def check_size(claimed: int, path: Path, inflation: int = 1) -> None:
    """Refuse a file whose arrays would take more memory than its length allows."""
    if claimed > path.stat().st_size * inflation:
        raise RefusedError(f"it claims arrays of {claimed} bytes, more than it can hold; refused")


def check_members(archive: zipfile.ZipFile, path: Path, inflation: int = 1) -> None:
    """Refuse an archive that unpacks to more than its length allows."""
    check_size(sum(member.file_size for member in archive.infolist()), path, inflation)


def widen_bfloat16(bits: Any) -> Any:
    """Return float32 numbers from the 16 bits of bfloat16, given as `uint16`."""
    import numpy as np

    return (bits.astype(np.uint32) << 16).view(np.float32)

"""Pictures sorted into one folder per class, from a folder or a zip archive, as arrays."""

import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from shared import images
from shared.errors import DataError, ImageError, reason

_MAX_MEMBER = 1 << 26
_MAX_TOTAL = 1 << 32
_MAX_RATIO = 200
"""Bytes out per byte in; a picture is packed already, so an honest archive stays near 1."""
_MAX_ARRAY = 1 << 33
_ENCRYPTED = 0x1


@dataclass(frozen=True, eq=False)
class Labelled:
    """Pictures with their classes.

    Attributes:
        images: `(n, side, side, 3)` uint8, RGB.
        labels: `(n,)` int64, places in `classes`.
        classes: Names of the classes, in alphabetical order.
        skipped: One sentence per picture that could not be read.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    skipped: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)


def load_labelled(source: str | Path, side: int, classes: Sequence[str] | None = None) -> Labelled:
    """Read pictures whose folder is their class: `anything/CLASS/picture.jpg`.

    Each is cut to its central square and brought to one size, by area where it shrinks.

    Args:
        source: A folder, or a `.zip` file, which is read in place and never unpacked.
        side: Of the square pictures, in pixels.
        classes: Names to number the classes by; those found, in alphabetical order, by default.

    Returns:
        The pictures in the order of their paths. Those that cannot be read are left out, and named.

    Raises:
        DataError: No pictures, fewer than two classes, a class that `classes` lacks, or an archive
            that is damaged, encrypted, points outside itself or unpacks to absurd sizes.
    """
    source = Path(source)
    if source.is_dir():
        paths = sorted(p for p in source.rglob("*") if p.is_file() and _is_picture(p))
        entries = [(path.parent.name, str(path), path) for path in paths if path.parent != source]
        return _collect(source, entries, images.load, side, classes)
    if not source.is_file():
        raise DataError(f"{source} is neither a folder nor a zip file; check the name.")
    try:
        with zipfile.ZipFile(source) as archive, tempfile.TemporaryDirectory() as scratch:
            members = _members(source, archive)

            def load(member: zipfile.ZipInfo) -> images.Picture:
                return _load_member(archive, member, Path(scratch, "picture"))

            entries = [(PurePosixPath(m.filename).parent.name, m.filename, m) for m in members]
            return _collect(source, entries, load, side, classes)
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise DataError(f"{source} is not a readable zip file: {reason(error)}.") from error


def hold_out(data: Labelled, every: int = 10) -> tuple[Labelled, Labelled]:
    """Split off every `every`-th picture of each class.

    Returns:
        The rest, and the pictures split off.
    """
    rank = np.zeros(len(data), int)
    for label in range(len(data.classes)):
        of_class = data.labels == label
        rank[of_class] = np.arange(of_class.sum())
    held = rank % every == every - 1
    return tuple(
        Labelled(data.images[part], data.labels[part], data.classes, data.skipped)
        for part in (~held, held)
    )


def _is_picture(path: Path | PurePosixPath) -> bool:
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return path.suffix.lower() in images.READABLE and not hidden


def _members(source: Path, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Return the pictures of an archive, after looking at what all its members claim."""
    total = 0
    for member in archive.infolist():
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
            raise DataError(f"{source}: {member.filename} points outside the archive; refused.")
        total += member.file_size
        ratio = member.file_size / max(member.compress_size, 1)
        bomb = member.file_size > _MAX_MEMBER or total > _MAX_TOTAL
        if bomb or (ratio > _MAX_RATIO and member.file_size > 1 << 20):
            raise DataError(
                f"{source}: {member.filename} claims {member.file_size:,} bytes from "
                f"{member.compress_size:,}; refused as a decompression bomb."
            )
    pictures = [m for m in archive.infolist() if _is_picture(PurePosixPath(m.filename))]
    if any(member.flag_bits & _ENCRYPTED for member in pictures):
        raise DataError(f"{source} is encrypted; unpack it to a folder and name that.")
    nested = [m for m in pictures if PurePosixPath(m.filename).parent.name]
    return sorted(nested, key=lambda member: member.filename)


def _load_member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, scratch: Path
) -> images.Picture:
    try:
        with archive.open(member) as file:
            content = file.read(_MAX_MEMBER)
    except (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError) as error:
        raise ImageError(
            f"{member.filename} is damaged in the archive ({reason(error)})"
        ) from error
    scratch.write_bytes(content)
    try:
        return images.load(scratch)
    except ImageError as error:
        raise ImageError(str(error).replace(str(scratch), member.filename)) from error


def _collect(
    source: Path,
    entries: list[tuple[str, str, object]],
    load: Callable[..., images.Picture],
    side: int,
    classes: Sequence[str] | None,
) -> Labelled:
    found = sorted({name for name, _, _ in entries})
    if not found:
        raise DataError(f"{source} holds no pictures in folders named after their classes.")
    classes = tuple(found if classes is None else classes)
    unknown = [name for name in found if name not in classes]
    if unknown:
        raise DataError(f"{source} has a class {unknown[0]}, which the training pictures lack.")
    if len(classes) < 2:
        raise DataError(f"{source} has one class only, {classes[0]}; a network needs two or more.")
    if len(entries) * side * side * 3 > _MAX_ARRAY:
        raise DataError(f"{source}: {len(entries):,} pictures of {side} pixels exceed the memory.")
    pixels = np.empty((len(entries), side, side, 3), np.uint8)
    labels, skipped = [], []
    for name, picture in _readable(entries, load, skipped):
        pixels[len(labels)] = _square(picture, side)
        labels.append(classes.index(name))
    if not labels:
        raise DataError(f"{source} holds no readable picture; the first problem: {skipped[0]}.")
    return Labelled(pixels[: len(labels)], np.array(labels, np.int64), classes, tuple(skipped))


def _readable(entries, load, skipped: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    for name, shown, item in entries:
        try:
            yield name, load(item).pixels
        except ImageError as error:
            skipped.append(str(error) if shown in str(error) else f"{shown}: {error}")


def _square(pixels: np.ndarray, side: int) -> np.ndarray:
    height, width = pixels.shape[:2]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    pixels = pixels[top : top + edge, left : left + edge]
    if edge != side:
        way = cv2.INTER_AREA if edge > side else cv2.INTER_LINEAR
        pixels = cv2.resize(np.ascontiguousarray(pixels), (side, side), interpolation=way)
    if pixels.dtype == np.uint8:
        return pixels
    return images.from_float(images.to_float(pixels), np.uint8)

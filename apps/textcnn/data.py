r"""Texts and their classes from the files people have them in; and texts without end, as a stream.

Lines end at `\n` only (a `\r` before it goes with it): texts hold U+0085 and other characters at
which `str.splitlines` would break them.
"""

import codecs
import contextlib
import csv
import dataclasses
import gzip
import io
import itertools
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from shared.datasets.sentences import parse_numbered, parse_sst, parse_trec, read_classes
from shared.errors import DataError, reason

FORMATS = (
    "auto",
    "csv",
    "tsv",
    "jsonl",
    "folder",
    "files",
    "fasttext",
    "trec",
    "trec-fine",
    "sst",
    "sst-phrases",
    "sst2",
    "sst2-phrases",
    "numbered",
    "lines",
)
"""`folder`: one folder per class; `files`: one file per class; `numbered`: text, tab, number of the
class; `lines`: texts only. `sst2` leaves out the neutral ones and merges the rest into two."""
TEXT_COLUMNS = ("text", "review", "sentence")
LABEL_COLUMNS = ("label", "class", "y")
_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}
_SIDES = {"train", "dev", "valid", "val", "test"}
_FASTTEXT = "__label__"
_MOST_BYTES = 1 << 32
_LONGEST_FIELD = 1 << 24
_GZIP_MAGIC = b"\x1f\x8b"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# Of the characters that are not ASCII; a Latin text read as Chinese has other ones as well.
_CHINESE_SHARE = 0.8


@dataclass(frozen=True)
class Rows:
    """Texts with their classes.

    Attributes:
        texts: As in the file.
        labels: Of each text; several are separated by `;`. Empty where they were not asked for.
        name: Of the file or folder.
        notes: What was guessed, one sentence each.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    name: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.texts)

    def chosen(self, numbers: np.ndarray) -> "Rows":
        """Return the texts of these numbers, with their labels."""
        return dataclasses.replace(
            self,
            texts=tuple(self.texts[i] for i in numbers),
            labels=tuple(self.labels[i] for i in numbers),
        )


class Record(NamedTuple):
    """One text of a stream.

    Attributes:
        text: The text.
        row: All columns of the input by name; None for plain lines.
        cut: The line was too long, and its end is lost.
    """

    text: str
    row: dict[str, Any] | None
    cut: bool


def read(
    path: str | Path,
    *,
    text: str | None = None,
    label: str | None = None,
    encoding: str = "utf-8",
    labelled: bool = True,
    format: str = "auto",
) -> Rows:
    """Read a file or folder of texts.

    Args:
        path: CSV, TSV (without quoting), JSONL, fastText, TREC, SST trees, or `text<TAB>number`
            (`classes.txt` beside it names the numbers), each as it is or as `.gz`; a folder with a
            folder of `.txt` files for each class; a folder, or the common stem, of files such as
            `x.pos` and `x.neg`.
        text: Column of the texts; `text`, `review` or `sentence` by default.
        label: Column of the classes; `label`, `class` or `y` by default.
        encoding: Of the file; a byte order mark of UTF-8 is left out.
        labelled: Read the classes too.
        format: One of `FORMATS`.

    Raises:
        DataError: The file is missing, empty, not in this encoding or format, lacks a column or a
            label, or has one class only. The line is named where there is one.
    """
    path = Path(path)
    if format not in FORMATS:
        raise DataError(f"There is no format {format!r}; choose from {', '.join(FORMATS)}.")
    notes = []
    if format == "auto" and (guess := _guess_files(path)):
        format = guess
        notes.append(f"{path.name}: read as {format} of classes.")
    if format in ("folder", "files"):
        try:
            texts, labels = (_read_folder if format == "folder" else _read_files)(path, encoding)
        except OSError as error:
            raise DataError(f"{path}: cannot be read as {format} ({reason(error)}).") from error
    else:
        content = _content(path, encoding)
        if format == "auto":
            format = _guess(path, content, labelled)
            notes.append(f"{path.name}: read as {format}.")
        texts, labels = _parse(path, content, format, text, label, labelled, notes)
    if not texts:
        raise DataError(f"{path}: holds no texts.")
    texts = tuple(_clean(one) for one in texts)
    if not labelled:
        return Rows(texts, (), path.name, tuple(notes))
    labels = tuple(_clean(one).strip() for one in labels)
    _check_labels(path, labels)
    return Rows(texts, labels, path.name, tuple(notes))


def stream(
    source: str | Path | BinaryIO,
    *,
    text: str | None = None,
    encoding: str = "utf-8",
    chunk: int = 8192,
    most_bytes: int = 1 << 20,
    format: str = "auto",
) -> Iterator[list[Record]]:
    """Read texts chunk by chunk, in memory that does not grow with their number.

    Args:
        source: A file (`.gz` or not), or an open one such as `sys.stdin.buffer`, which stays open.
        text: Column of the texts, as for `read`; for CSV, TSV and JSONL.
        encoding: Of the texts.
        chunk: Texts to return at a time.
        most_bytes: Longest line, counted in characters; the rest of a longer one is skipped.
        format: `csv`, `tsv`, `jsonl` or `lines`; `auto` goes by the ending of the file, and takes
            an open file as lines.

    Raises:
        DataError: As for `read`, when the faulty line is reached.
    """
    name = str(source) if isinstance(source, str | Path) else "standard input"
    if format == "auto":
        path = Path(source) if isinstance(source, str | Path) else Path()
        format = _SUFFIXES.get(_suffix(path), "lines")
    if format not in ("csv", "tsv", "jsonl", "lines"):
        raise DataError(f"Texts cannot be streamed as {format!r}; use csv, tsv, jsonl or lines.")
    try:
        with contextlib.ExitStack() as files:
            file = source
            if isinstance(source, str | Path):
                file = files.enter_context(Path(source).open("rb"))
                packed = file.read(2) == _GZIP_MAGIC
                file.seek(0)
                file = files.enter_context(gzip.GzipFile(fileobj=file)) if packed else file
            lines = _Lines(file, name, encoding, most_bytes)
            # Before the file is closed, and so that one of the caller's stays open.
            files.callback(lines.detach)
            records = _records(lines, name, format, text)
            while found := list(itertools.islice(records, chunk)):
                yield found
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name}: cannot be read ({reason(error)}).") from error


def stream_labelled(
    path: str | Path, *, text: str | None = None, label: str | None = None, encoding: str = "utf-8"
) -> Iterator[tuple[str, str]]:
    """Read texts with their classes one by one, in memory that does not grow with their number.

    Args:
        path: CSV, TSV or JSONL by its ending, or else fastText lines; each as it is or as `.gz`.
        text: Column of the texts, as for `read`.
        label: Column of the classes, as for `read`.
        encoding: Of the file.

    Raises:
        DataError: As for `read`, when the faulty line is reached.
    """
    column, number = None, 0
    for records in stream(path, text=text, encoding=encoding):
        for record in records:
            number += 1
            if record.row is None:
                yield from zip(*_read_fasttext(path, [record.text], True, number), strict=True)
                continue
            if column is None or column not in record.row:
                column = _column(path, list(record.row), label, LABEL_COLUMNS, "label", number)
            yield record.text, _clean(_cell(path, record.row, column, number, "label")).strip()


def split(rows: Rows, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide rows at random, each class in the same proportion.

    Args:
        rows: Labelled texts. Where some have several labels, classes are not looked at.
        share: Of the second part, 0..1.
        seed: Of the order.

    Returns:
        Rows of the first part and of the second.

    Raises:
        DataError: A class has fewer than two rows, or a part would have fewer rows than classes.
    """
    from sklearn.model_selection import train_test_split

    _need(rows, 2, "to be divided")
    try:
        first, second = train_test_split(
            np.arange(len(rows)), test_size=share, random_state=seed, stratify=_strata(rows)
        )
    except ValueError as error:
        raise DataError(f"{rows.name}: cannot be divided ({reason(error)})") from error
    return first, second


def folds(rows: Rows, k: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Divide rows for cross-validation, each class in the same proportion.

    Args:
        rows: Labelled texts. Where some have several labels, classes are not looked at.
        k: Number of folds, at least 2.
        seed: Of the order.

    Returns:
        Training and test rows of each fold.

    Raises:
        DataError: A class has fewer than `k` rows.
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    if k < 2:
        raise DataError(f"Cross-validation needs at least 2 folds, not {k}.")
    _need(rows, k, f"for {k} folds")
    strata = _strata(rows)
    kind = KFold if strata is None else StratifiedKFold
    divided = kind(k, shuffle=True, random_state=seed)
    return list(divided.split(np.zeros(len(rows)), strata))


def duplicates(train: Rows, test: Rows) -> int:
    """Return how many test texts are among the training texts, outer white space aside."""
    known = {one.strip() for one in train.texts}
    return sum(one.strip() in known for one in test.texts)


def _strata(rows):
    return None if any(";" in label for label in rows.labels) else np.array(rows.labels)


def _need(rows, least, purpose):
    if _strata(rows) is None:
        if len(rows) < least:
            raise DataError(f"{rows.name}: has {len(rows)} rows; it needs {least} {purpose}.")
        return
    for name, count in Counter(rows.labels).items():
        if count < least:
            raise DataError(
                f"{rows.name}: class {name!r} has {count} row{'s' * (count > 1)}; it needs "
                f"{least} {purpose}."
            )


def _clean(text):
    """Replace lone surrogates, which JSON can spell but no file can hold."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _suffix(path):
    return Path(path.stem if path.suffix == ".gz" else path.name).suffix.lower()


def _check_labels(path, labels):
    names = dict.fromkeys(labels)
    if len(names) < 2:
        raise DataError(f"{path}: has one class only, {next(iter(names))!r}; it needs two.")
    numbers: dict[float, str] = {}
    for name in names:
        try:
            other = numbers.setdefault(float(name), name)
        except ValueError:
            continue
        if other != name:
            raise DataError(
                f"{path}: has the labels {other!r} and {name!r}, one number spelt in two ways; "
                "make them the same."
            )


def _read_bytes(path):
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP_MAGIC
            file.seek(0)
            data = (gzip.GzipFile(fileobj=file) if packed else file).read(_MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({reason(error)}).") from error
    if len(data) > _MOST_BYTES:
        raise DataError(f"{path}: holds more than {_MOST_BYTES >> 30} GiB; divide it.")
    return data


def _content(path, encoding):
    """Return the text of a file."""
    data = _read_bytes(path)
    encoding = _known(encoding)
    if encoding == "utf-8":
        if data.startswith(_UTF16):
            raise DataError(f"{path}: is UTF-16; give the encoding utf-16.")
        encoding = "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        # Places count from behind a byte order mark.
        start = error.start + 3 * (encoding == "utf-8-sig" and data.startswith(codecs.BOM_UTF8))
        line = data.count(b"\n", 0, start) + 1
        raise DataError(
            f"{path}, line {line}: is not {encoding.removesuffix('-sig')} "
            f"(byte {data[start]:#04x}); {_suggestion(data, encoding)}."
        ) from error
    except UnicodeError as error:
        raise DataError(f"{path}: is not {encoding} ({reason(error)}).") from error
    if (place := text.find("\0")) >= 0:
        _refuse_nul(path, text.count("\n", 0, place) + 1)
    if not text.strip():
        raise DataError(f"{path}: is empty.")
    return text


def _known(encoding):
    try:
        "".encode(encoding)  # codecs that are none of text, such as hex, fail here
        return codecs.lookup(encoding).name
    except (LookupError, UnicodeError):
        raise DataError(f"There is no encoding {encoding!r}; try utf-8 or latin-1.") from None


def _refuse_nul(name, line):
    raise DataError(
        f"{name}, line {line}: holds a NUL byte; it is no text, or it needs the encoding utf-16."
    )


def _suggestion(data, encoding):
    if encoding == "utf-8-sig":
        lenient = data.decode("utf-8", "replace")
        wrong = lenient.count("\ufffd")
        right = sum(not character.isascii() for character in lenient) - wrong
        # Some pairs of bytes in other encodings are UTF-8 by chance.
        if right > 3 * wrong:
            return "the rest is mostly UTF-8, so mend this line"
    try:
        other = [character for character in data.decode("gb18030") if not character.isascii()]
        chinese = sum(
            "\u4e00" <= character <= "\u9fff" or "\u3000" <= character <= "\u303f"
            for character in other
        )
        if chinese > _CHINESE_SHARE * len(other):
            return "try the encoding gb18030"
    except UnicodeDecodeError:
        pass
    return "try the encoding latin-1" if encoding != "iso8859-1" else "try another encoding"


def _guess_files(path):
    """Return how a folder or a stem holds its classes; None for a file."""
    if path.is_dir():
        if any(child.is_dir() for child in path.iterdir() if not child.name.startswith(".")):
            return "folder"
        return "files"
    return "files" if not path.exists() and len(_siblings(path)) > 1 else None


def _siblings(path):
    """Return the class of each file of a folder, or of those that begin with a stem."""
    if path.is_dir():
        files = [child for child in path.iterdir() if not child.name.startswith(".")]
    elif path.parent.is_dir():
        files = [child for child in path.parent.iterdir() if child.name.startswith(f"{path.name}.")]
    else:
        files = []
    return {child: _suffix(child)[1:] for child in sorted(files) if child.is_file()}


def _read_folder(path, encoding):
    texts, labels = [], []
    for folder in sorted(child for child in path.iterdir() if child.is_dir()):
        if folder.name.startswith("."):
            continue
        files = [file for file in sorted(folder.iterdir()) if _suffix(file) == ".txt"]
        texts += [_content(file, encoding).strip() for file in files]
        labels += [folder.name] * len(files)
    if not texts:
        raise DataError(f"{path}: its folders hold no .txt files.")
    return texts, labels


def _read_files(path, encoding):
    classes = _siblings(path)
    stems = {file.name.removesuffix(".gz").removesuffix(f".{classes[file]}") for file in classes}
    if len(classes) < 2 or len(stems) > 1 or set(classes.values()) <= _SIDES:
        raise DataError(
            f"{path}: holds neither a folder for each class nor files such as x.pos and x.neg; "
            "name the file to be read."
        )
    texts, labels = [], []
    for file, name in classes.items():
        lines = [line for line in _lines_of(_content(file, encoding)) if line.strip()]
        texts += lines
        labels += [name] * len(lines)
    return texts, labels


def _lines_of(content):
    return [line.removesuffix("\r") for line in content.split("\n")]


def _guess(path, content, labelled):
    """Return the format of a file by its ending, or by its first line."""
    first = next(line for line in content.split("\n") if line.strip())
    by_name = _SUFFIXES.get(_suffix(path))
    if by_name == "tsv":
        columns = {column.strip().lower() for column in first.split("\t")}
        if not columns & {*TEXT_COLUMNS, *LABEL_COLUMNS} and _parses(parse_numbered, first):
            return "numbered"
    if by_name:
        return by_name
    if first.lstrip().startswith(_FASTTEXT):
        return "fasttext"
    for format, parse in (("sst", parse_sst), ("trec", parse_trec), ("numbered", parse_numbered)):
        if _parses(parse, first):
            return format
    if labelled:
        raise DataError(
            f"{path}: its first line is neither fastText, TREC, a tree nor `text<TAB>number`; "
            "name CSV, TSV and JSONL files by their ending, or give the format."
        )
    return "lines"


def _parses(parse: Callable, line: str) -> bool:
    try:
        parse([line.removesuffix("\r")], "")
    except DataError:
        return False
    return True


def _parse(path, content, format, text, label, labelled, notes):
    if format in ("csv", "tsv", "jsonl"):
        return _read_table(path, content, format, text, label, labelled, notes)
    lines = _lines_of(content)
    if format == "lines":
        if labelled:
            raise DataError(f"{path}: plain lines hold no labels.")
        if lines and not lines[-1]:
            lines.pop()
        return lines, []
    if format == "fasttext":
        return _read_fasttext(path, lines, labelled)
    if format.startswith("trec"):
        return parse_trec(lines, path, fine=format == "trec-fine")
    if format.startswith("sst"):
        return parse_sst(
            lines, path, phrases=format.endswith("phrases"), binary=format.startswith("sst2")
        )
    return parse_numbered(lines, path, read_classes(path))


def _read_fasttext(path, lines, labelled, first=1):
    texts, labels = [], []
    for number, line in enumerate(lines, first):
        if not line.strip():
            continue
        words = line.split(" ")
        count = next(
            (place for place, word in enumerate(words) if not word.startswith(_FASTTEXT)),
            len(words),
        )
        if not count and labelled:
            raise DataError(f"{path}, line {number}: has no label such as `{_FASTTEXT}x`.")
        labels.append(";".join(word.removeprefix(_FASTTEXT) for word in words[:count]))
        texts.append(" ".join(words[count:]))
    return texts, labels


def _read_table(path, content, format, text, label, labelled, notes):
    texts, labels, columns = [], [], None
    for number, row in _table(iter(content.split("\n")), str(path), format):
        if columns is None or format == "jsonl":
            names = list(row)
            columns = (
                _column(path, names, text, TEXT_COLUMNS, "text", number),
                _column(path, names, label, LABEL_COLUMNS, "label", number) if labelled else None,
            )
        texts.append(_cell(path, row, columns[0], number, "text"))
        if labelled:
            labels.append(_cell(path, row, columns[1], number, "label"))
            if not labels[-1].strip():
                raise DataError(f"{path}, line {number}: has no label.")
    if columns is not None:
        used = [f"texts from column {columns[0]!r}"]
        used += [f"labels from column {columns[1]!r}"] if labelled else []
        notes.append(f"{path.name}: {', '.join(used)}.")
    return texts, labels


def _column(path, names, wanted, usual, role, number):
    """Return the name of a column: what the user says, or one of the usual names."""
    if wanted is not None:
        if wanted in names:
            return wanted
        raise DataError(
            f"{path}, line {number}: has no column {wanted!r}; its columns are {_list(names)}."
        )
    for name in usual:
        for found in names:
            if found.strip().lower() == name:
                return found
    if role == "text" and len(names) == 1:
        return names[0]
    raise DataError(
        f"{path}, line {number}: has no column {' or '.join(usual)}; its columns are "
        f"{_list(names)}; name the {role} column."
    )


def _list(names):
    shown = ", ".join(repr(name[:40]) for name in names[:12])
    return shown + ("…" if len(names) > 12 else "") if names else "none"


def _cell(path, row, column, number, role):
    value = row[column]
    if isinstance(value, str):
        return value
    if role == "label" and isinstance(value, list) and value:
        return ";".join(map(str, value))
    if role == "label" and isinstance(value, int | float):
        return str(value)
    raise DataError(f"{path}, line {number}: the {role} in {column!r} is no text.")


def _table(lines: Iterator[str], name: str, format: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Return the rows of CSV, TSV or JSONL, each with the number of its first line."""
    if format == "jsonl":
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield number, _json_row(name, number, line)
        return
    header = None
    for number, fields in _fields(lines, name, format):
        if header is None:
            header = fields
            if len(set(header)) < len(header):
                twice = Counter(header).most_common(1)[0][0]
                raise DataError(f"{name}, line {number}: has the column {twice!r} twice.")
        elif len(fields) != len(header):
            raise DataError(
                f"{name}, line {number}: has {len(fields)} fields, the header has {len(header)}."
            )
        else:
            yield number, dict(zip(header, fields, strict=True))


def _json_row(name, number, line):
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}, line {number}: is no JSON ({reason(error)}).") from error
    if not isinstance(row, dict):
        raise DataError(f"{name}, line {number}: is JSON, but no object with columns.")
    return row


def _fields(lines, name, format):
    """Return the fields of each row of CSV or TSV."""
    if format == "tsv":
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield number, line.removesuffix("\r").split("\t")
        return
    # The reader wants the line ends, as they may be part of a field.
    kept: list[str] = []

    def remembered():
        for line in lines:
            kept.append(line)
            yield line + "\n"

    csv.field_size_limit(_LONGEST_FIELD)
    source = remembered()
    first = next(source, "")
    delimiter = "," if "," in first or ";" not in first else ";"
    reader = csv.reader(_again(first, source), delimiter=delimiter, strict=True)
    number = 1
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            quote = number + _opening(kept)
            raise DataError(
                f"{name}, line {quote}: a quote opens there and is not closed as it should be "
                f"({reason(error)})."
            ) from error
        if fields:
            yield number, fields
        number = reader.line_num + 1
        kept.clear()


def _again(first, rest):
    yield first
    yield from rest


def _opening(lines):
    """Return in which of the lines of one row the last quote opens; doubled ones close again."""
    opened, place = False, 0
    for number, line in enumerate(lines):
        for _ in range(line.replace('""', "").count('"')):
            opened = not opened
            place = number if opened else place
    return place


class _Lines:
    """Lines of bounded length; `cut` says whether one was cut since it was last set to False."""

    def __init__(self, file, name, encoding, most):
        self.cut = False
        self._name, self._most = name, most
        encoding = _known(encoding)
        self._reader = io.TextIOWrapper(file, encoding, errors="surrogateescape", newline="\n")

    def __iter__(self):
        number = 0
        try:
            while line := self._reader.readline(self._most):
                number += 1
                if number == 1:
                    line = line.removeprefix("\ufeff")
                if line.endswith("\n"):
                    line = line[:-1].removesuffix("\r")
                elif len(line) >= self._most - 1:
                    self.cut = self._skip()
                self._check(line, number)
                yield line
        except UnicodeError as error:
            raise DataError(
                f"{self._name}, line {number + 1} or later: {reason(error)}; give its encoding."
            ) from error

    def detach(self):
        self._reader.detach()

    def _skip(self):
        """Leave out the rest of a line; say whether there was any."""
        lost = False
        while rest := self._reader.readline(self._most):
            lost = lost or rest not in ("\n", "\r\n")
            if rest.endswith("\n"):
                break
        return lost

    def _check(self, line, number):
        if "\0" in line:
            _refuse_nul(self._name, number)
        if not line.isascii():
            try:
                line.encode()
            except UnicodeEncodeError as error:
                raise DataError(
                    f"{self._name}, line {number}: is not {self._reader.encoding} (byte "
                    f"{ord(line[error.start]) & 0xFF:#04x}); give its encoding, such as latin-1."
                ) from None


def _records(lines, name, format, text):
    if format == "lines":
        for line in lines:
            yield Record(line, None, lines.cut)
            lines.cut = False
        return
    column = None
    for number, row in _table(iter(lines), name, format):
        if column is None or format == "jsonl":
            column = _column(name, list(row), text, TEXT_COLUMNS, "text", number)
        yield Record(_clean(_cell(name, row, column, number, "text")), row, lines.cut)
        lines.cut = False

"""Answers for streams of texts: in order, a chunk at a time, in memory that does not grow."""

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, TextIO

import numpy as np

from shared import backend
from shared.errors import DataError, reason

from . import data
from .classifier import TextClassifier
from .data import Record

Format = Literal["jsonl", "csv", "tsv"]
FORMATS: tuple[Format, ...] = ("jsonl", "csv", "tsv")
CHUNK = 8192
"""Texts that are answered at once."""
READABLE = frozenset({".txt", ".csv", ".tsv", ".jsonl", ".gz"})
_KEPT = "input_"
"""Before names of input columns that are also names of ours."""


@dataclass(frozen=True)
class Answering:
    """What is read, and what is answered.

    Attributes:
        text: Column of the texts in CSV, TSV and JSONL.
        encoding: Of the input.
        input_format: `csv`, `tsv`, `jsonl`, `lines`, or `auto`: by the ending of the file.
        format: Of the answers.
        all_classes: Give the probability of every class.
        keep: Repeat the columns of the input, or the text where there are none.
        min_confidence: Below it the label is null.
        chunk: Texts at once.
    """

    text: str | None = None
    encoding: str = "utf-8"
    input_format: str = "auto"
    format: Format = "jsonl"
    all_classes: bool = False
    keep: bool = False
    min_confidence: float = 0.0
    chunk: int = CHUNK


class Answered(NamedTuple):
    """How many texts there were, how many had no words, and how many were cut in the reading."""

    texts: int
    empty: int
    cut: int


def answer(
    classifier: TextClassifier,
    source: str | Path | BinaryIO,
    target: TextIO,
    options: Answering,
    progress: Callable[[int], None] = lambda done: None,
) -> Answered:
    """Answer every text of a source, in order.

    Args:
        classifier: Who answers.
        source: A file, or an open one.
        target: Receives one line a text, with a header for CSV and TSV; is flushed every chunk.
        options: What is read and answered.
        progress: Told how many texts are answered.

    Raises:
        DataError: The source cannot be read to its end; what came before it is answered.
    """
    write = _WRITERS[options.format](target)
    texts = empty = cut = 0
    for records in data.stream(
        source,
        text=options.text,
        encoding=options.encoding,
        chunk=options.chunk,
        format=options.input_format,
    ):
        for row in _rows(classifier, records, options):
            empty += row.get("empty", False)
            cut += row.get("cut", False)
            write(row)
        target.flush()
        texts += len(records)
        progress(texts)
    return Answered(texts, empty, cut)


def _rows(
    classifier: TextClassifier, records: list[Record], options: Answering
) -> Iterator[dict[str, Any]]:
    """Return the answer for each text, by the names of its columns."""
    found = classifier([record.text for record in records])
    tabular = options.format != "jsonl"
    for record, one in zip(records, found, strict=True):
        row: dict[str, Any] = {
            "label": one.label if one.probability >= options.min_confidence else None,
            "probability": round(one.probability, 6),
        }
        if one.empty or tabular:
            row["empty"] = one.empty
        if record.cut or tabular:
            row["cut"] = record.cut
        if options.all_classes:
            each = dict(zip(classifier.names, np.round(one.probabilities, 6).tolist(), strict=True))
            row |= {f"p({name})": p for name, p in each.items()} if tabular else {"all": each}
        if options.keep:
            kept = {"text": record.text} if record.row is None else record.row
            row = {_KEPT * (name in row) + name: value for name, value in kept.items()} | row
        yield row


def _jsonl(target: TextIO) -> Callable[[dict[str, Any]], None]:
    def write(row: dict[str, Any]) -> None:
        target.write(json.dumps(row, ensure_ascii=False) + "\n")

    return write


def _csv(target: TextIO) -> Callable[[dict[str, Any]], None]:
    return _table(csv.writer(target, lineterminator="\n").writerow)


def _tsv(target: TextIO) -> Callable[[dict[str, Any]], None]:
    def line(cells: Iterable[Any]) -> None:
        # Such files know no quotes, so that white space inside a cell becomes a space.
        plain = ("" if cell is None else str(cell) for cell in cells)
        target.write("\t".join(cell.translate(_ONE_CELL) for cell in plain) + "\n")

    return _table(line)


_ONE_CELL = str.maketrans("\t\n\r", "   ")


def _table(write_line: Callable[[Iterable[Any]], Any]) -> Callable[[dict[str, Any]], None]:
    """Return a writer of rows that names the columns of the first one above it."""
    columns: list[str] = []

    def write(row: dict[str, Any]) -> None:
        if not columns:
            columns.extend(row)
            write_line(columns)
        # Truth is written as in JSON.
        write_line(
            str(cell).lower() if isinstance(cell, bool) else cell
            for cell in (row.get(name) for name in columns)
        )

    return write


_WRITERS = {"jsonl": _jsonl, "csv": _csv, "tsv": _tsv}


def answer_file(
    classifier: TextClassifier,
    source: str | Path | BinaryIO,
    target: Path,
    options: Answering,
    progress: Callable[[int], None] = lambda done: None,
) -> Answered:
    """Answer a source into a file, which appears complete or not at all.

    Raises:
        DataError: The source cannot be read, or the file cannot be written.
    """
    part = target.with_name(f".{target.name}.part-{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", encoding="utf-8", newline="") as file:
            answered = answer(classifier, source, file, options, progress)
        os.replace(part, target)
    except OSError as error:
        raise DataError(f"{target} cannot be written: {reason(error)}.") from error
    finally:
        part.unlink(missing_ok=True)
    return answered


class AnswerWork:
    """Answers whole files, for `shared.folders`.

    Args:
        make: Opens the classifier, in the process that uses it.
        options: What is read and answered.
    """

    def __init__(self, make: Callable[[], TextClassifier], options: Answering):
        backend.setup("cpu", "float32")
        self._classifier, self._options = make(), options

    def read(self, path: Path) -> Path:
        """Return the path: files are read while they are answered, since they may be large."""
        return path

    def apply(self, path: Path) -> Path:
        """Return the path."""
        return path

    def write(self, path: Path, target: Path) -> list[str]:
        """Answer a file into another, and say what was lost of it."""
        answered = answer_file(self._classifier, path, target, self._options)
        return notes(answered)


def notes(answered: Answered) -> list[str]:
    """Return what a person should know about the texts."""
    found = []
    if answered.cut:
        found.append(f"{answered.cut} texts were too long and were cut")
    if answered.empty:
        found.append(f"{answered.empty} texts hold no words; the commonest class stands for them")
    return found

r"""Sentence-classification sets: MR, Subj, TREC, the Stanford Sentiment Treebank, two Chinese ones.

Lines end at `\n` only: several of these files hold U+0085, at which `str.splitlines` would break
sentences in two.

Sources: Pang & Lee 2005 (MR) and 2004 (Subj); Li & Roth 2002 (TREC); Socher et al. 2013 (SST);
Sun et al. 2016 (THUCNews); ChnSentiCorp.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from shared.errors import DataError, reason

SIDES = ("train", "dev", "test")
_TREC = re.compile(r"([A-Za-z]+):(\w+)\s+(.*\S)\s*")
_TREE = re.compile(r"\(|\)|[^\s()]+")
_NEUTRAL = 2
# How the Penn Treebank spells what it uses itself; texts of users hold the characters.
_ESCAPES = {"-LRB-": "(", "-RRB-": ")"}
_LABELS = ("0", "1", "2", "3", "4")


class Sentences(NamedTuple):
    """Texts with their classes.

    Attributes:
        texts: As in the file.
        labels: Name of the class of each text.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...]


def load_mr(folder: str | Path) -> Sentences:
    """Read the movie-review snippets, `rt-polarity.pos` and `rt-polarity.neg` (latin-1)."""
    return _two_files(folder, "rt-polarity", ("pos", "neg"))


def load_subj(folder: str | Path) -> Sentences:
    """Read subjective snippets and plots, `subj.subjective` and `subj.objective` (latin-1)."""
    return _two_files(folder, "subj", ("subjective", "objective"))


def load_trec(folder: str | Path, fine: bool = False) -> tuple[Sentences, Sentences]:
    """Read the question types, `TREC.train` and `TREC.test` (latin-1).

    Args:
        folder: Holds both.
        fine: The 50 fine classes, such as `NUM:date`, instead of the six coarse ones.

    Returns:
        Training and test questions.

    Raises:
        DataError: A file is missing, or a line has another form.
    """
    train, test = (Path(folder, f"TREC.{side}") for side in ("train", "test"))
    return (
        parse_trec(_lines(train, "latin-1"), train, fine),
        parse_trec(_lines(test, "latin-1"), test, fine),
    )


def load_sst(
    folder: str | Path, *, phrases: bool = True, binary: bool = False
) -> tuple[Sentences, Sentences, Sentences]:
    """Read the treebank, `train.trees.txt`, `dev.trees.txt` and `test.trees.txt`.

    Args:
        folder: Holds the three.
        phrases: Train on every phrase, as the papers do; dev and test are sentences always.
        binary: Leave the neutral ones out, and merge the rest into `0` and `1` (SST-2).

    Returns:
        Training, dev and test rows, with the labels `0` to `4` or `0` and `1`.

    Raises:
        DataError: A file is missing, or a line is no tree.
    """
    paths = [Path(folder, f"{side}.trees.txt") for side in SIDES]
    train, dev, test = (
        parse_sst(_lines(path, "utf-8"), path, phrases=phrases and side == "train", binary=binary)
        for side, path in zip(SIDES, paths, strict=True)
    )
    return train, dev, test


def load_chnsenticorp(path: str | Path) -> Sentences:
    """Read the Chinese hotel reviews, a CSV file `label,review`; `1` is positive."""
    path = Path(path)
    rows = list(csv.DictReader(io.StringIO(_text(path, "utf-8-sig"), newline="")))
    if not rows or not {"label", "review"} <= rows[0].keys():
        raise DataError(f"{path}: has no columns `label` and `review`.")
    return Sentences(
        tuple(row["review"] or "" for row in rows), tuple(row["label"] or "" for row in rows)
    )


def load_thucnews(path: str | Path) -> Sentences:
    """Read Chinese headlines, `headline<TAB>class`; names come from `classes.txt` beside it."""
    path = Path(path)
    return parse_numbered(_lines(path, "utf-8"), path, read_classes(path))


def read_classes(path: Path) -> tuple[str, ...] | None:
    """Return the lines of `classes.txt` beside a file; None where there is none."""
    names = path.with_name("classes.txt")
    if not names.is_file():
        return None
    return tuple(line.strip() for line in _lines(names, "utf-8") if line.strip())


def parse_trec(lines: Iterable[str], source: object, fine: bool = False) -> Sentences:
    """Read lines of the form `COARSE:fine question`.

    Args:
        lines: Without their line ends; empty ones are left out.
        source: What to call them in errors.
        fine: Return `COARSE:fine` instead of `COARSE`.

    Raises:
        DataError: A line has another form.
    """
    texts, labels = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        match = _TREC.fullmatch(line)
        if match is None:
            raise DataError(f"{source}, line {number}: not of the form `COARSE:fine question`.")
        coarse, kind, text = match.groups()
        texts.append(text)
        labels.append(f"{coarse}:{kind}" if fine else coarse)
    return Sentences(tuple(texts), tuple(labels))


def parse_sst(
    lines: Iterable[str], source: object, *, phrases: bool = False, binary: bool = False
) -> Sentences:
    r"""Read trees such as `(3 (2 It) (4 works))`, one a line; `-LRB-` and `\/` become `(` and `/`.

    Args:
        lines: Without their line ends; empty ones are left out.
        source: What to call them in errors.
        phrases: Return every labelled span, each text once with the label it has first.
        binary: Leave the neutral ones out, and merge the rest into `0` and `1`.

    Raises:
        DataError: A line is no tree.
    """
    texts, labels = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        spans, words = _spans(line)
        if not spans:
            raise DataError(f"{source}, line {number}: not a tree such as `(3 (2 It) (4 works))`.")
        for label, start, end in spans if phrases else spans[-1:]:
            if not binary or label != _NEUTRAL:
                texts.append(" ".join(words[start:end]))
                labels.append(str(int(label > _NEUTRAL) if binary else label))
    if not phrases:
        return Sentences(tuple(texts), tuple(labels))
    unique: dict[str, str] = {}
    for text, label in zip(texts, labels, strict=True):
        unique.setdefault(text, label)
    return Sentences(tuple(unique), tuple(unique.values()))


def parse_numbered(
    lines: Iterable[str], source: object, classes: Sequence[str] | None = None
) -> Sentences:
    """Read lines of the form `text<TAB>class number`.

    Args:
        lines: Without their line ends; empty ones are left out.
        source: What to call them in errors.
        classes: Names of the classes; without them the numbers stay.

    Raises:
        DataError: A line has another form, or a number has no name.
    """
    texts, labels = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        text, tab, label = line.rpartition("\t")
        label = label.strip()
        if not tab or not (label.isascii() and label.isdigit()):
            raise DataError(f"{source}, line {number}: not of the form `text<TAB>class number`.")
        if classes is not None and int(label) >= len(classes):
            raise DataError(
                f"{source}, line {number}: class {label} is not among the {len(classes)} of "
                "classes.txt."
            )
        texts.append(text)
        labels.append(label if classes is None else classes[int(label)])
    return Sentences(tuple(texts), tuple(labels))


def _two_files(folder, stem, classes):
    texts, labels = [], []
    for name in classes:
        lines = [line for line in _lines(Path(folder, f"{stem}.{name}"), "latin-1") if line.strip()]
        texts += lines
        labels += [name] * len(lines)
    return Sentences(tuple(texts), tuple(labels))


def _lines(path, encoding):
    return _text(path, encoding).split("\n")


def _text(path, encoding):
    try:
        return path.read_bytes().decode(encoding)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason(error)}).") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not {encoding} at byte {error.start}.") from error


def _spans(line):
    """Return label, start and end of every span, the whole tree last, and the words.

    There are no spans where the line is no tree.
    """
    spans, nodes, words = [], [], []
    previous = ""
    for part in _TREE.findall(line):
        if previous == "(":
            if part not in _LABELS:
                return [], []
            nodes.append((int(part), len(words)))
        elif spans and not nodes:
            return [], []
        elif part == ")":
            if not nodes or nodes[-1][1] == len(words):
                return [], []
            spans.append((*nodes.pop(), len(words)))
        elif part != "(":
            words.append(_ESCAPES.get(part) or part.replace("\\", ""))
        previous = part
    return ([], []) if nodes or previous != ")" else (spans, words)

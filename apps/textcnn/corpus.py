"""Texts of a training that stay on disk: only their lengths and classes are held in memory.

A first pass over the file counts texts and classes, a second one writes the number of each word
into one long array. Words are numbered as they appear, since how frequent they are is known at the
end only; a small table turns these numbers into rows of the vocabulary while texts are read back.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from shared.errors import DataError, reason

from . import data, text
from .data import Rows
from .text import UNKNOWN, Vocabulary

MOST_HELD = 20_000
"""Texts held out at most; more make stopping and calibrating no better."""
_SAMPLE = 1_000


class Numbers(Sequence):
    """Rows of word numbers in a file.

    Args:
        path: int32 numbers of all words, one text after the other.
        lengths: Words of each text.
        rows: Row of the vocabulary for each number.
    """

    def __init__(self, path: Path, lengths: np.ndarray, rows: np.ndarray):
        self.lengths = lengths
        self._rows = rows
        self._ends = np.cumsum(lengths)
        # A file of no words cannot be mapped.
        has_words = len(lengths) and self._ends[-1]
        self._words = np.memmap(path, np.int32, "r") if has_words else np.empty(0, np.int32)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> np.ndarray:
        end = self._ends[index]
        return self._rows[self._words[end - self.lengths[index] : end]]


@dataclass(frozen=True)
class Corpus:
    """Texts to learn from, on disk.

    Attributes:
        ids: Rows of the words of each text.
        labels: Place of the class of each text in `names`, int32.
        names: Of the classes, sorted.
        vocabulary: Of the texts.
        tokeniser: That made the words.
        held: Texts that were held out, in memory.
        name: Of the file.
    """

    ids: Numbers
    labels: np.ndarray
    names: tuple[str, ...]
    vocabulary: Vocabulary
    tokeniser: str
    held: Rows | None
    name: str


def write(
    path: str | Path,
    folder: Path,
    *,
    tokeniser: str = "auto",
    min_count: int = 1,
    most: int = text.MOST,
    dev_share: float = 0.1,
    seed: int = 0,
    text_column: str | None = None,
    label_column: str | None = None,
    encoding: str = "utf-8",
    progress: Callable[[int], None] = lambda done: None,
) -> Corpus:
    """Write the words of a file as numbers.

    Args:
        path: CSV, TSV, JSONL or fastText lines, as for `data.stream_labelled`.
        folder: Receives the file `words`; it must last as long as the corpus.
        tokeniser: One of `text.TOKENISERS`, or `auto`.
        min_count: Rarer words get no row of the vocabulary.
        most: Words that get one.
        dev_share: Of the texts are held out, `MOST_HELD` at most; 0 for none.
        seed: Of the choice of these.
        text_column: Of the texts.
        label_column: Of the classes.
        encoding: Of the file.
        progress: Told how many texts are read.

    Raises:
        DataError: As of `data.read`; or the folder cannot be written.
    """

    def rows():
        return data.stream_labelled(path, text=text_column, label=label_column, encoding=encoding)

    classes = Counter(label for _, label in rows())
    count = sum(classes.values())
    if not count:
        raise DataError(f"{path}: holds no texts.")
    names = tuple(sorted(classes))
    places = {name: number for number, name in enumerate(names)}
    if tokeniser == "auto":
        tokeniser = text.choose_tokeniser([one for one, _ in islice(rows(), _SAMPLE)])
    rng = np.random.default_rng(seed)
    share = min(dev_share, MOST_HELD / count)
    numbers: dict[str, int] = {}
    counts: list[int] = []
    lengths, labels = np.empty(count, np.int32), np.empty(count, np.int32)
    held: list[tuple[str, str]] = []
    kept = 0
    try:
        with (folder / "words").open("wb") as file:
            for done, (one, label) in enumerate(rows()):
                if not done % 8192:
                    progress(done)
                if share and rng.random() < share:
                    held.append((one, label))
                    continue
                words = text.tokenise(one, tokeniser)
                found = []
                for word in words:
                    number = numbers.setdefault(word, len(numbers))
                    if number == len(counts):
                        counts.append(0)
                    counts[number] += 1
                    found.append(number)
                np.array(found, np.int32).tofile(file)
                lengths[kept], labels[kept] = len(words), places[label]
                kept += 1
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({reason(error)}).") from error
    progress(count)
    vocabulary = Vocabulary.of_counts(
        Counter(dict(zip(numbers, counts, strict=True))), min_count=min_count, most=most
    )
    table = vocabulary.ids(list(numbers)) if numbers else np.array([UNKNOWN], np.int32)
    ids = Numbers(folder / "words", lengths[:kept].astype(np.int64), table)
    rest = Rows(*map(tuple, zip(*held, strict=True)), "held out") if held else None
    return Corpus(ids, labels[:kept].copy(), names, vocabulary, tokeniser, rest, Path(path).name)

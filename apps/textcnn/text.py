"""From text to padded rows of word numbers: tokenisers, the vocabulary, padding and batches.

Sources: Kim 2014, "Convolutional Neural Networks for Sentence Classification", EMNLP, and its code
yoonkim/CNN_sentence (`process_data.py`: `clean_str` and `clean_str_sst`).
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from itertools import chain

import numpy as np

from shared.errors import DataError, DependencyError

TOKENISERS = ("unicode", "kim", "kim-cased", "sst", "char", "jieba")
"""`unicode` for anything with spaces, `char` for Chinese, Japanese and Thai, `jieba` for Chinese
words; `kim` (`kim-cased` for TREC) and `sst` as the author of the paper cleaned his data."""
LONG = ("head", "head-tail", "windows")
"""What `cut` can keep of a text that is too long."""
PAD, UNKNOWN = 0, 1
"""Rows of the embedding that are no word."""
LEFT, RIGHT = 4, 5
"""Least padding on each side. With `widest - 1` on the left and `widest` on the right every filter
sees each of its partial windows and one of padding alone, so that more padding changes nothing."""
MOST = 50_000
"""Words that a vocabulary counts by default."""
_SAMPLE = 1_000
_CJK_SHARE = 0.3
_WINDOW = 50
_SHORT = 24
_REMEMBERED = 1 << 16
# Han (with its extensions), Japanese syllables, Thai: written without spaces between words.
_UNSPACED = (
    "\u0e00-\u0e7f\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003fffd"
)
_PICTURES = "\u00a9\u00ae\u203c-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
_KEPT = re.compile(r"[^A-Za-z0-9(),!?'`]")
_ENDINGS = re.compile(r"('s|'ve|n't|'re|'d|'ll)")
_SIGNS = re.compile(r"([,!()?])")
_UNSPACED_CHARACTER = re.compile(f"[{_UNSPACED}]")


def tokenise(text: str, tokeniser: str) -> list[str]:
    """Split a text into tokens.

    Args:
        text: Any text; a token never holds white space.
        tokeniser: One of `TOKENISERS`. `unicode` and `char` apply NFKC, lower-case, and keep runs
            of letters, marks and digits with inner apostrophes, emoji and emoticons as one token,
            every other visible character alone; `char` takes Chinese, Japanese and Thai characters
            one by one. The rest is documented at `TOKENISERS`.

    Raises:
        DataError: There is no such tokeniser.
        DependencyError: `jieba` is asked for and not installed.
    """
    if tokeniser not in TOKENISERS:
        raise DataError(
            f"There is no tokeniser {tokeniser!r}; choose from {', '.join(TOKENISERS)}."
        )
    if tokeniser == "jieba":
        return [word for word in _jieba().cut(_normalised(text)) if _visible(word)]
    # No token crosses white space, and pieces between it come again and again.
    pieces = [
        _short(piece, tokeniser) if len(piece) <= _SHORT else _pieces(piece, tokeniser)
        for piece in text.split()
    ]
    return list(chain.from_iterable(pieces))


def choose_tokeniser(texts: Sequence[str]) -> str:
    """Return `char` where over 30 % of the letters are Chinese, Japanese or Thai, else `unicode`.

    The first 1,000 texts decide.
    """
    letters = "".join(
        character for text in texts[:_SAMPLE] for character in text if character.isalpha()
    )
    unspaced = len(_UNSPACED_CHARACTER.findall(letters))
    return "char" if unspaced > _CJK_SHARE * len(letters) else "unicode"


class Numbering:
    """Texts to numbers of their tokens in one step: a piece that was seen before is one look-up.

    Args:
        numbers: Of the tokens.
        unknown: Number of all others.
        tokeniser: As of `tokenise`.
    """

    def __init__(self, numbers: Mapping[str, int], unknown: int, tokeniser: str):
        self._tokeniser = tokeniser
        self._known = _Known(numbers, unknown, tokeniser)

    def __call__(self, text: str) -> list[int]:
        """Return the number of each token of a text."""
        if self._tokeniser == "jieba":
            return self._known.of(tokenise(text, "jieba"))
        return list(chain.from_iterable(map(self._known.__getitem__, text.split())))


class _Known(dict):
    """Numbers of the tokens of pieces without white space; short ones are remembered."""

    def __init__(self, numbers, unknown, tokeniser):
        self._numbers, self._unknown, self._tokeniser = numbers, unknown, tokeniser

    def of(self, tokens):
        return [self._numbers.get(token, self._unknown) for token in tokens]

    def __missing__(self, piece):
        found = self.of(_pieces(piece, self._tokeniser))
        if len(piece) <= _SHORT and len(self) < _REMEMBERED:
            self[piece] = found
        return found


@dataclass(frozen=True)
class Vocabulary:
    """The words that have a row of their own in the embedding.

    Attributes:
        tokens: Token `i` has row `i + 2`; the rows `PAD` and `UNKNOWN` come before.
        counts: How often each token occurs in the training texts, int64 `(len(tokens),)`; 0 for
            those that `extended` added. `None` where it is not known, as after `from_bytes`.

    Raises:
        DataError: A token is empty, holds a line end, or is there twice.
    """

    tokens: tuple[str, ...]
    counts: np.ndarray | None = field(default=None, compare=False)

    def __post_init__(self):
        if len(self._rows) < len(self.tokens):
            twice = Counter(self.tokens).most_common(1)[0][0]
            raise DataError(f"The vocabulary holds the token {twice!r} more than once.")
        if any(not token or "\n" in token for token in self.tokens):
            raise DataError("The vocabulary holds an empty token or one with a line end.")

    @classmethod
    def of(
        cls, token_lists: Iterable[Sequence[str]], *, min_count: int = 1, most: int = MOST
    ) -> "Vocabulary":
        """Count tokens; the frequent ones come first, equally frequent ones as they appeared.

        Args:
            token_lists: Training texts only.
            min_count: Rarer tokens get no row.
            most: Tokens that get a row.
        """
        counts = Counter()
        for tokens in token_lists:
            counts.update(tokens)
        return cls.of_counts(counts, min_count=min_count, most=most)

    @classmethod
    def of_counts(cls, counts: Counter, *, min_count: int = 1, most: int = MOST) -> "Vocabulary":
        """Do as `of` with tokens that are counted already, in the order of their appearance."""
        kept = [(token, count) for token, count in counts.most_common(most) if count >= min_count]
        return cls(
            tuple(token for token, _ in kept), np.array([count for _, count in kept], np.int64)
        )

    def extended(self, words: Iterable[str]) -> "Vocabulary":
        """Return the vocabulary with the words it lacks behind its own, counted 0 times."""
        new = tuple(word for word in dict.fromkeys(words) if word not in self._rows)
        counts = self.counts
        if counts is not None:
            counts = np.concatenate([counts, np.zeros(len(new), np.int64)])
        return Vocabulary(self.tokens + new, counts)

    def ids(self, tokens: Sequence[str]) -> np.ndarray:
        """Return the rows of tokens, int32 `(len(tokens),)`; `UNKNOWN` for those without one."""
        get = self._rows.get
        return np.array([get(token, UNKNOWN) for token in tokens], np.int32)

    def numbering(self, tokeniser: str) -> Numbering:
        """Return what turns texts into the rows of their tokens."""
        return Numbering(self._rows, UNKNOWN, tokeniser)

    def to_bytes(self) -> bytes:
        """Return the tokens as UTF-8, one a line."""
        return "\n".join(self.tokens).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Vocabulary":
        """Read what `to_bytes` wrote.

        Raises:
            DataError: The bytes are not UTF-8, or no vocabulary.
        """
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            raise DataError(f"The vocabulary is not UTF-8 at byte {error.start}.") from error
        # Not splitlines: tokens of a vector file may hold U+0085 and its like.
        return cls(tuple(text.split("\n")) if text else ())

    def __len__(self) -> int:
        """Return the rows of the embedding, those of `PAD` and `UNKNOWN` included."""
        return len(self.tokens) + 2

    @cached_property
    def _rows(self):
        return {token: row for row, token in enumerate(self.tokens, 2)}


def pad(
    ids: Sequence[np.ndarray], multiple: int = 16, widest: int = RIGHT, length: int | None = None
) -> np.ndarray:
    """Put texts of different lengths into one batch.

    Args:
        ids: Rows of the embedding of each text, int `(tokens,)`.
        multiple: The length is the next multiple of it, so that few graphs are compiled.
        widest: Width of the widest filter; see `LEFT`.
        length: Pad to this length instead.

    Returns:
        int32 `(len(ids), length)`, texts from column `max(LEFT, widest - 1)` on, the rest `PAD`.

    Raises:
        ValueError: A text does not fit into `length`.
    """
    left, right = max(LEFT, widest - 1), max(RIGHT, widest)
    lengths = np.array([len(row) for row in ids], np.int64)
    least = left + right + int(lengths.max(initial=0))
    if length is None:
        length = -(-least // multiple) * multiple
    elif length < least:
        raise ValueError(f"The longest text needs {least} columns with its padding, not {length}.")
    batch = np.zeros((len(lengths), length), np.int32)
    if lengths.sum():
        # The position of each word in its text: the running number less that of its text's start.
        starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
        columns = np.arange(lengths.sum()) - starts + left
        batch[np.repeat(np.arange(len(lengths)), lengths), columns] = np.concatenate(ids)
    return batch


def cut(ids: np.ndarray, most: int, long: str = "head") -> list[np.ndarray]:
    """Cut a text that has more than `most` words.

    Args:
        ids: Rows of the embedding `(tokens,)`.
        most: Words to keep, at least 2.
        long: `head` keeps the first ones, `head-tail` half from each end, `windows` all of them in
            several texts of `most` words that overlap by half or more.

    Returns:
        One text; several for `windows` where `ids` is longer.

    Raises:
        DataError: `long` is none of these, or `most` is less than 2.
    """
    if long not in LONG:
        raise DataError(f"Long texts cannot be cut by {long!r}; choose from {', '.join(LONG)}.")
    if most < 2:
        raise DataError(f"A text cannot be cut to {most} words; keep at least 2.")
    if len(ids) <= most:
        return [ids]
    if long == "head":
        return [ids[:most]]
    if long == "head-tail":
        tail = most // 2
        return [np.concatenate([ids[: most - tail], ids[-tail:]])]
    last = len(ids) - most
    return [ids[start : start + most] for start in (*range(0, last, most // 2), last)]


def buckets(lengths: Collection[int], batch: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Divide shuffled texts into batches of similar length.

    Args:
        lengths: Words of each text.
        batch: Texts of a batch; one batch may have fewer.
        rng: Source of the order.

    Returns:
        The texts of each batch; every text is in one of them.
    """
    lengths = np.asarray(lengths)
    order = rng.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), batch * _WINDOW):
        window = order[start : start + batch * _WINDOW]
        window = window[np.argsort(lengths[window], kind="stable")]
        batches += [window[first : first + batch] for first in range(0, len(window), batch)]
    return [batches[number] for number in rng.permutation(len(batches))]


def _normalised(text):
    """Return the text in NFKC and lower case, with plain apostrophes."""
    return unicodedata.normalize("NFKC", text).lower().replace("\u2019", "'")


def _visible(token):
    """Say whether a token shows: it is no white space, control, format or such character alone."""
    return any(
        unicodedata.category(character)[0] not in "CZ" and not "\ufe00" <= character <= "\ufe0f"
        for character in token
    )


def _pieces(piece, tokeniser):
    """Return the tokens of a text without white space."""
    if tokeniser in ("unicode", "char"):
        found = _pattern(tokeniser).findall(_normalised(piece))
        return tuple(token for token in found if _visible(token))
    kept = _KEPT.sub(" ", piece)
    if tokeniser != "sst":
        kept = _SIGNS.sub(r" \1 ", _ENDINGS.sub(r" \1", kept))
    return tuple((kept if tokeniser == "kim-cased" else kept.lower()).split())


_short = lru_cache(_REMEMBERED)(_pieces)


@cache
def _pattern(tokeniser):
    """Return the pattern of the tokens of `unicode` or `char`."""
    # `\w` of Python leaves out the marks that, for example, Hindi words are full of.
    marks = "".join(
        chr(code)
        for code in range(0x300, 0x20000)
        if unicodedata.category(chr(code))[0] == "M" and not 0xFE00 <= code <= 0xFE0F
    )
    letter = f"[^\\W_{_UNSPACED}]" if tokeniser == "char" else r"[^\W_]"
    word = f"{letter}(?:{letter}|[{marks}])*"
    picture = f"[{_PICTURES}][\U0001f3fb-\U0001f3ff\ufe0f\u20e3]*"
    return re.compile(
        rf"(?<!\w)(?:[:;=][-'^o]?[()\[\]dpo/\\|*3]|<3|\^_\^|[x;:]d)(?!\w)"
        rf"|{word}(?:'{word})*"
        "|[\U0001f1e6-\U0001f1ff]{2}"
        f"|{picture}(?:\u200d{picture})*"
        rf"|[{_UNSPACED}][{marks}]*"
        r"|\S"
    )


@cache
def _jieba():
    try:
        import jieba
    except ImportError:
        raise DependencyError(
            "The tokeniser jieba needs a package: pip install jieba; or use the tokeniser char."
        ) from None
    return jieba

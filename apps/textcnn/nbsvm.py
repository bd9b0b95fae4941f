"""A linear support vector machine on n-grams weighted by naive Bayes: the peer to beat.

Source: Wang & Manning 2012, "Baselines and Bigrams: Simple, Good Sentiment and Topic
Classification", ACL, section 2.3.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np

from shared.errors import DataError, WeightsError

from .text import Numbering


class NBSVM:
    """Binary n-gram features times their log-count ratio, then a linear SVM, one against the rest.

    `fit` learns; `scores` answers. A token must not hold a space or a line end.

    Attributes:
        classes: Number of classes.
        ngrams: Shortest and longest n-gram.
    """

    def __init__(self):
        self.classes = 0
        self.ngrams = (1, 2)
        self._columns: dict[str, int] = {}
        # One column for each class; for two classes a single one, of the second class.
        self._weights = np.zeros((0, 0), np.float32)
        self._bias = np.zeros(0, np.float32)

    def fit(
        self,
        token_lists: Sequence[Sequence[str]],
        labels: np.ndarray,
        classes: int,
        *,
        ngrams: tuple[int, int] = (1, 2),
        alpha: float = 1.0,
        beta: float = 0.25,
        c: float = 1.0,
    ) -> "NBSVM":
        """Learn from training texts.

        Args:
            token_lists: Tokens of each text.
            labels: Class of each text, 0..classes - 1.
            classes: Number of classes, at least 2.
            ngrams: Shortest and longest n-gram.
            alpha: Added to every count.
            beta: Share of the SVM, weights and bias; the rest is naive Bayes, the log-count ratios
                times the mean size of the weights.
            c: Penalty of the SVM.

        Returns:
            Itself.

        Raises:
            DataError: A class has no texts or all of them, or no text has a token.
        """
        from sklearn.svm import LinearSVC

        labels = np.asarray(labels)
        present = np.unique(labels)
        if classes < 2 or not np.array_equal(present, np.arange(classes)):
            raise DataError(
                f"NB-SVM needs texts of each of at least two classes; of {classes} classes "
                f"{len(present)} have texts."
            )
        self.classes, self.ngrams, self._columns = classes, ngrams, {}
        features = self._count(token_lists, learn=True)
        if not self._columns:
            raise DataError("No training text holds a single token.")
        weights, biases = [], []
        for positive in [1] if classes == 2 else range(classes):
            own = labels == positive
            ratio = _ratio(features, own, alpha)
            features.data = ratio[features.indices]
            svm = LinearSVC(C=c, random_state=0).fit(features, own)
            features.data = np.ones(features.nnz)
            weight = svm.coef_[0]
            weights.append(ratio * ((1 - beta) * np.abs(weight).mean() + beta * weight))
            # Naive Bayes has no bias; with all of the SVM's, MR lost 1.6 points.
            biases.append(beta * svm.intercept_[0])
        # Single precision from the start, so that saved weights give the very same scores.
        self._weights = np.stack(weights, axis=1).astype(np.float32)
        self._bias = np.array(biases, np.float32)
        return self

    def scores(self, token_lists: Sequence[Sequence[str]]) -> np.ndarray:
        """Return the decision values of texts, float64 `(texts, classes)`; for two classes -s, s.

        They are no probabilities; the greatest is the class.
        """
        values = self._count(token_lists) @ self._weights.astype(np.float64) + self._bias
        return np.concatenate([-values, values], axis=1) if self.classes == 2 else values

    def numbering(self, tokeniser: str) -> Numbering | None:
        """Return what turns texts into what `scores_of_numbers` takes; None but for (1, 2)."""
        if self.ngrams != (1, 2):
            return None
        return Numbering(self._pairs.numbers, len(self._pairs.numbers), tokeniser)

    def scores_of_numbers(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        """Return `scores` of texts that are numbers already, made by `numbering`."""
        values = self._pairs.count(rows) @ self._weights.astype(np.float64) + self._bias
        return np.concatenate([-values, values], axis=1) if self.classes == 2 else values

    @cached_property
    def _pairs(self) -> "_Pairs":
        return _Pairs(self._columns)

    def weights_of(self, ngram: str) -> np.ndarray | None:
        """Return what an n-gram, its tokens joined by spaces, adds to `scores`, float64 `(K,)`.

        None if no training text holds it.
        """
        column = self._columns.get(ngram)
        return None if column is None else self._of_classes(self._weights[column])

    @property
    def bias(self) -> np.ndarray:
        """What `scores` gives a text without n-grams, float64 `(K,)`."""
        return self._of_classes(self._bias)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return what `from_arrays` needs, as plain arrays to be saved."""
        text = "\n".join(self._columns).encode()
        return {
            "ngrams": np.frombuffer(text, np.uint8),
            "orders": np.array(self.ngrams, np.int64),
            "weights": self._weights,
            "bias": self._bias,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "NBSVM":
        """Restore a fitted machine.

        Raises:
            WeightsError: The arrays are not those of `to_arrays`.
        """
        try:
            text = np.asarray(arrays["ngrams"], np.uint8).tobytes().decode()
            least, most = (int(order) for order in arrays["orders"])
            weights = np.asarray(arrays["weights"], np.float32)
            bias = np.asarray(arrays["bias"], np.float32)
        except (KeyError, ValueError, TypeError) as error:
            raise WeightsError("The arrays are not those of a saved NB-SVM.") from error
        machine = cls()
        machine._columns = {ngram: column for column, ngram in enumerate(text.split("\n"))}
        if (
            weights.shape != (len(machine._columns), len(bias))
            or bias.ndim != 1
            or len(bias) in (0, 2)
            or not 1 <= least <= most
            or not (np.isfinite(weights).all() and np.isfinite(bias).all())
        ):
            raise WeightsError("The arrays of the saved NB-SVM do not fit together.")
        machine.ngrams, machine._weights, machine._bias = (least, most), weights, bias
        machine.classes = max(2, len(bias))
        return machine

    def _of_classes(self, values):
        values = values.astype(np.float64)
        return np.concatenate([-values, values]) if self.classes == 2 else values

    def _count(self, token_lists, learn=False):
        """Return which n-grams each text holds, a sparse matrix of 0 and 1."""
        from scipy.sparse import csr_array

        columns, rows, ends = self._columns, [], [0]
        for tokens in token_lists:
            found = _ngrams(tokens, *self.ngrams)
            if learn:
                found = dict.fromkeys(found)
                rows += [columns.setdefault(ngram, len(columns)) for ngram in found]
            else:
                rows += {columns[ngram] for ngram in found if ngram in columns}
            ends.append(len(rows))
        shape = (len(ends) - 1, len(columns))
        indices, ends = np.array(rows, np.int32), np.array(ends, np.int32)
        return csr_array((np.ones(len(rows)), indices, ends), shape)


class _Pairs:
    """Words and pairs of words as numbers, which are found without making strings of them.

    Attributes:
        numbers: Of the words; the number after the last stands for all others.
    """

    def __init__(self, columns: Mapping[str, int]):
        words = [ngram for ngram in columns if " " not in ngram]
        self.numbers = {word: number for number, word in enumerate(words)}
        # Column of each word; the last place, of unknown ones, is never looked at.
        self._words = np.array([*(columns[word] for word in words), -1], np.int64)
        pairs = [ngram for ngram in columns if " " in ngram]
        try:
            halves = [[self.numbers[word] for word in pair.split(" ")] for pair in pairs]
            keys = np.array([self._key(*half) for half in halves], np.int64)
        except (KeyError, TypeError) as error:
            raise WeightsError("The n-grams of the saved NB-SVM do not fit together.") from error
        order = np.argsort(keys)
        self._keys = keys[order]
        self._columns = np.array([columns[pair] for pair in pairs], np.int64)[order]
        self._width = len(columns)

    def _key(self, first, second):
        return first * (len(self.numbers) + 1) + second

    def count(self, rows: Sequence[Sequence[int]]) -> Any:
        """Return which words and pairs each text holds, a sparse matrix of 0 and 1."""
        from scipy.sparse import csr_array

        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        flat = np.fromiter(chain.from_iterable(rows), np.int64, lengths.sum())
        owners = np.repeat(np.arange(len(rows)), lengths)
        is_word = flat < len(self.numbers)
        is_pair = is_word[:-1] & is_word[1:] & (owners[:-1] == owners[1:])
        keys = self._key(flat[:-1], flat[1:])[is_pair]
        places = np.searchsorted(self._keys, keys)
        places[places == len(self._keys)] = 0
        hit = self._keys[places] == keys if len(self._keys) else np.zeros(len(keys), bool)
        columns = np.concatenate([self._words[flat[is_word]], self._columns[places[hit]]])
        texts = np.concatenate([owners[is_word], owners[:-1][is_pair][hit]])
        found = csr_array((np.ones(len(columns)), (texts, columns)), (len(rows), self._width))
        found.sum_duplicates()
        found.data[:] = 1
        return found


def _ngrams(tokens, least, most):
    found = list(tokens) if least == 1 else []
    for order in range(max(2, least), most + 1):
        found += map(" ".join, zip(*(tokens[start:] for start in range(order)), strict=False))
    return found


def _ratio(features, own, alpha):
    """Return the log-count ratio of each n-gram between a class and the rest."""
    inside, outside = (alpha + features[rows].sum(axis=0) for rows in (own, ~own))
    return np.log(inside / inside.sum() / (outside / outside.sum()))

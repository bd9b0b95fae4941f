"""Classifiers without word vectors that every comparison is made with; NB-SVM is in `nbsvm`.

Sources: Salton & Buckley 1988 (TF-IDF); Joulin et al. 2017, "Bag of tricks for efficient text
classification" (fastText).
"""

import importlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

_LABEL = "__label__"


def tfidf_svm(ngrams: tuple[int, int] = (1, 2), characters: bool = False, c: float = 1.0):
    """Return an untrained linear SVM on TF-IDF of n-grams, with logarithmic counts.

    Args:
        ngrams: Shortest and longest n-gram.
        characters: Count n-grams of the characters of texts in lower case, instead of n-grams of
            tokens.
        c: Penalty of the SVM.

    Returns:
        A scikit-learn estimator with `fit(rows, labels)` and `predict(rows)`; rows are lists of
        tokens, with `characters` texts.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    kind = (
        {"analyzer": "char"}
        if characters
        else {"tokenizer": _themselves, "token_pattern": None, "lowercase": False}
    )
    features = TfidfVectorizer(ngram_range=ngrams, sublinear_tf=True, **kind)
    return make_pipeline(features, LinearSVC(C=c, random_state=0))


class FastText:
    """fastText on lists of tokens. Use `fasttext` to make one."""

    def __init__(self, module, settings: dict):
        self._module, self._settings = module, settings
        self._model = None

    def fit(self, token_lists: Sequence[Sequence[str]], labels: Sequence[int]) -> "FastText":
        """Train, on rows in random order: fastText takes them as they come, and does not shuffle.

        Args:
            token_lists: Tokens of each text.
            labels: Class of each text.

        Returns:
            Itself.
        """
        order = np.random.default_rng(self._settings["seed"]).permutation(len(labels))
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "train.txt")
            lines = (f"{_LABEL}{int(labels[row])} {_line(token_lists[row])}" for row in order)
            file.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
            self._model = self._module.train_supervised(input=str(file), **self._settings)
        return self

    def predict(self, token_lists: Sequence[Sequence[str]]) -> np.ndarray:
        """Return the classes of texts, int64 `(texts,)`."""
        # `model.predict` of fastText 0.9 asks NumPy for what NumPy 2 refuses; what it wraps works.
        best = [self._model.f.predict(_line(row) + "\n", 1, 0.0, "strict") for row in token_lists]
        return np.array([int(found[0][1].removeprefix(_LABEL)) for found in best], np.int64)


def fasttext(
    ngrams: int = 2, dim: int = 100, learning_rate: float = 0.3, epochs: int = 10, seed: int = 0
) -> FastText | None:
    """Return an untrained fastText classifier; None where fastText is not installed.

    Args:
        ngrams: Longest n-gram.
        dim: Numbers of a vector.
        learning_rate: Of the first step; it falls to 0.
        epochs: Passes over the rows.
        seed: Of the order and the start; one thread, so that it decides everything.
    """
    try:
        module = importlib.import_module("fasttext")
    except ImportError:
        return None
    settings = {
        "wordNgrams": ngrams,
        "dim": dim,
        "lr": learning_rate,
        "epoch": epochs,
        "seed": seed,
        "thread": 1,
        "verbose": 0,
    }
    return FastText(module, settings)


def _themselves(tokens):
    return tokens


def _line(tokens):
    """Return a text as fastText reads it, without tokens that it would take for labels."""
    return " ".join(token for token in tokens if not token.startswith(_LABEL))

"""What is done with a trained network: tell the class of texts, and how sure it is.

Source: Kim 2014, EMNLP; the temperature is that of Guo et al. 2017, "On Calibration of Modern
Neural Networks", ICML.
"""

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from shared import backend, weights
from shared.errors import WeightsError

from . import fast, model, text
from .nbsvm import NBSVM
from .text import Vocabulary

if TYPE_CHECKING:
    import keras

    from .explain import Explanation
    from .vectors import Vectors

APP = "textcnn"
Engine = Literal["fast", "keras"]
_BATCH = 256


class Prediction(NamedTuple):
    """The class of a text.

    Attributes:
        label: Its name; for several labels a text, their names joined by `;`.
        probability: Of this class; for several labels, of the likeliest.
        probabilities: Of all classes `(K,)`, in the order of `TextClassifier.names`.
        empty: The text holds no token, so the answer is the share of each class in training.
    """

    label: str
    probability: float
    probabilities: np.ndarray
    empty: bool


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return log-probabilities `(n, K)`, float64."""
    shifted = np.asarray(logits, np.float64)
    shifted = shifted - shifted.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


class TextClassifier:
    """Tells the class of texts.

    Args:
        network: Of `model.network`, its vocabulary with it.
        settings: Of its card: `names`, `tokeniser`, `temperature`, `prior`, and optionally `hybrid`
            (weights of `network` and `nbsvm`), `multi_label`, `thresholds`, `max_tokens`, `long`.
        engine: `fast` looks tables up, `keras` runs the network itself.
        workers: Threads of the fast engine; all cores unless given.

    Raises:
        WeightsError: The settings or the vocabulary are missing or do not fit the network.
    """

    def __init__(
        self,
        network: "keras.Model",
        settings: dict[str, Any],
        *,
        engine: Engine = "fast",
        workers: int | None = None,
    ):
        self.network, self.settings, self.engine = network, settings, engine
        self._workers = workers
        try:
            embedding = network.get_layer("words")
            classes = network.output.shape[-1]
            self.names = tuple(str(name) for name in settings["names"])
            self.tokeniser = str(settings["tokeniser"])
            self.temperature = float(settings["temperature"])
            self.prior = np.array(settings["prior"], np.float64)
            self.multi_label = bool(settings.get("multi_label", False))
            self.max_tokens = int(settings.get("max_tokens", 400))
            self.long = str(settings.get("long", "head"))
            thresholds = settings.get("thresholds")
            self.thresholds = None if thresholds is None else np.array(thresholds, np.float64)
            hybrid = settings.get("hybrid")
            self.hybrid = hybrid and (float(hybrid["network"]), float(hybrid["nbsvm"]))
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise WeightsError(
                f"The card of these weights does not describe a text classifier ({error})."
            ) from error
        problem = (
            f"{len(self.names)} names for {classes} classes"
            if not len(self.names) == len(self.prior) == classes
            else "a temperature that is not positive"
            if not self.temperature > 0
            else f"the tokeniser {self.tokeniser!r}"
            if self.tokeniser not in text.TOKENISERS
            else f"{self.long!r} for long texts"
            if self.long not in text.LONG
            else "no vocabulary"
            if embedding.vocabulary is None
            else f"{len(embedding.vocabulary)} words for {embedding.rows} vectors"
            if len(embedding.vocabulary) != embedding.rows
            else ""
        )
        if problem:
            raise WeightsError(f"These weights are of no use: their files hold {problem}.")
        self.vocabulary: Vocabulary = embedding.vocabulary
        self.nbsvm = NBSVM.from_arrays(embedding.arrays) if self.hybrid else None

    @classmethod
    def from_weights(
        cls, name_or_path: str | Path, *, engine: Engine = "fast", workers: int | None = None
    ) -> "TextClassifier":
        """Open installed weights, or a `.keras` file.

        Raises:
            WeightsError: There is no such file, it is damaged, or it is for something else.
        """
        path = weights.find(APP, name_or_path)
        network = weights.load_model(path, APP)
        try:
            return cls(network, weights.read_card(path).settings, engine=engine, workers=workers)
        except WeightsError as error:
            raise WeightsError(f"{path}: {error}") from error

    def __call__(self, texts: Sequence[str]) -> list[Prediction]:
        """Return the class of each text, in order."""
        numbers = [self._numbering(one) for one in texts]
        probabilities = self.to_probabilities(self._logits(texts, numbers))
        return [
            Prediction(label, float(row.max() if index is None else row[index]), row, not words)
            for (label, index), row, words in zip(
                self._labels(probabilities), probabilities, numbers, strict=True
            )
        ]

    def predict(self, texts: Sequence[str]) -> list[str]:
        """Return the name of the class of each text."""
        return [label for label, _ in self._labels(self.probabilities(texts))]

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """Return the probability of each class `(n, K)`, calibrated, float64.

        Of several labels a text each has a probability of its own; else they add up to 1.
        """
        return self.to_probabilities(self.logits(texts))

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Return what the softmax (for several labels: the sigmoid) turns into probabilities.

        The temperature, and the NB-SVM of a hybrid, are in it.

        Returns:
            float64 `(n, K)`.
        """
        return self._logits(texts, [self._numbering(one) for one in texts])

    def explain(self, text: str, label: str | None = None) -> "Explanation":
        """Take the decision for a class apart, word by word; for the likeliest one if not given."""
        from . import explain

        return explain.explain(self, text, label)

    def tokens(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the tokens of each text."""
        return [text.tokenise(one, self.tokeniser) for one in texts]

    def logits_of_tokens(self, tokens: Sequence[Sequence[str]]) -> np.ndarray:
        """Return `logits` of texts that are tokens already."""
        svm = None if self.nbsvm is None else self.nbsvm.scores(tokens)
        return self._joined([self.vocabulary.ids(words) for words in tokens], svm)

    def _logits(self, texts, numbers):
        svm = None
        if self.nbsvm is not None:
            # Most NB-SVMs count words and pairs, for which there is a quicker way.
            if self._pairs is None:
                svm = self.nbsvm.scores(self.tokens(texts))
            else:
                svm = self.nbsvm.scores_of_numbers([self._pairs(one) for one in texts])
        return self._joined([np.array(row, np.int32) for row in numbers], svm)

    def _joined(self, ids, svm):
        """Return the logits of word numbers and the decision values of the NB-SVM."""
        logits = self.network_logits(ids)
        if svm is None:
            logits = logits / self.temperature
        else:
            logits = self.hybrid[0] * log_softmax(logits) + self.hybrid[1] * svm
        is_empty = np.array([not len(row) for row in ids], bool)
        logits[is_empty] = np.log(np.clip(self.prior, 1e-9, None))
        if self.multi_label:
            logits[is_empty] -= np.log1p(-np.clip(self.prior, None, 1 - 1e-9))
        return logits

    def network_logits(self, ids: Sequence[np.ndarray]) -> np.ndarray:
        """Return the logits of the network alone, before the temperature, float64 `(n, K)`.

        Args:
            ids: Rows of the embedding of each text, of any length.
        """
        parts = [text.cut(row, self.max_tokens, self.long) for row in ids]
        found = self._run([part for one in parts for part in one]).astype(np.float64)
        counts = np.array([len(one) for one in parts], np.int64)
        if len(found) == len(ids):
            return found
        return np.add.reduceat(found, np.cumsum(counts) - counts) / counts[:, None]

    def to_probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return the probabilities of `logits`, `(n, K)`."""
        if self.multi_label:
            return 0.5 * (1 + np.tanh(0.5 * logits))
        return np.exp(log_softmax(logits))

    def _labels(self, probabilities):
        """Return label and class number of each text; no number for several labels."""
        if self.multi_label:
            chosen = probabilities >= (0.5 if self.thresholds is None else self.thresholds)
            return [
                (";".join(name for name, is_on in zip(self.names, row, strict=True) if is_on), None)
                for row in chosen
            ]
        # With thresholds of 1 - t and t, the second of two classes wins from t on.
        shift = 0 if self.thresholds is None else self.thresholds
        return [(self.names[i], int(i)) for i in (probabilities - shift).argmax(1)]

    def _run(self, ids):
        if self.engine == "fast":
            return self.tables.logits(ids)
        out = np.empty((len(ids), len(self.names)), np.float32)
        widest = max(self.tables.parameters.widths)
        order = np.argsort([len(row) for row in ids], kind="stable")
        for start in range(0, len(order), _BATCH):
            part = order[start : start + _BATCH]
            out[part] = self._forward(text.pad([ids[i] for i in part], 16, widest))
        return out

    @cached_property
    def _numbering(self) -> text.Numbering:
        return self.vocabulary.numbering(self.tokeniser)

    @cached_property
    def _pairs(self) -> text.Numbering | None:
        return self.nbsvm.numbering(self.tokeniser)

    @cached_property
    def tables(self) -> fast.TableNetwork:
        """The network as tables, with the weights that it had at the first use."""
        return fast.TableNetwork(model.parameters(self.network), workers=self._workers)

    @cached_property
    def _forward(self):
        return backend.compiled(self.network)


class SentenceClassifier(ClassifierMixin, BaseEstimator):
    """The training and the network behind the interface of scikit-learn.

    Args:
        preset: One of `train.PRESETS`.
        vectors: Word vectors; random ones unless given.
        hybrid: Join the network with an NB-SVM.
        epochs: At most; as the preset says unless given.
        tokeniser: One of `text.TOKENISERS`, or `auto`.
        seed: Of weights and order.

    Example:
        >>> from sklearn.model_selection import cross_val_score
        >>> cross_val_score(SentenceClassifier(hybrid=True), texts, labels)
        array([...])
    """

    def __init__(
        self,
        preset: str = "default",
        vectors: "Vectors | None" = None,
        hybrid: bool = False,
        epochs: int | None = None,
        tokeniser: str = "auto",
        seed: int = 0,
    ):
        self.preset = preset
        self.vectors = vectors
        self.hybrid = hybrid
        self.epochs = epochs
        self.tokeniser = tokeniser
        self.seed = seed

    def fit(self, X: Sequence[str], y: Sequence[Any]) -> "SentenceClassifier":  # noqa: N803
        """Train on texts and their labels, of any type that can be compared."""
        from . import data, train

        labels = np.asarray(y)
        self.classes_ = np.unique(labels)
        recipe = dataclasses.replace(
            train.PRESETS[self.preset], hybrid=self.hybrid, tokeniser=self.tokeniser
        )
        if self.epochs is not None:
            recipe = dataclasses.replace(recipe, epochs=self.epochs)
        # Numbers with leading zeros keep the order of the classes.
        numbers = np.searchsorted(self.classes_, labels)
        digits = len(str(len(self.classes_)))
        rows = data.Rows(
            tuple(str(one) for one in X), tuple(f"{n:0{digits}d}" for n in numbers), "fit", ()
        )
        self.classifier_ = train.train(
            rows, None, recipe, vectors=self.vectors, seed=self.seed, quiet=True
        ).classifier
        return self

    def predict_proba(self, X: Sequence[str]) -> np.ndarray:  # noqa: N803
        """Return the probability of each class `(n, K)`, in the order of `classes_`."""
        return self.classifier_.probabilities([str(one) for one in X])

    def predict(self, X: Sequence[str]) -> np.ndarray:  # noqa: N803
        """Return the label of each text."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

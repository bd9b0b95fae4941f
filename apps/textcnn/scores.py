"""Scores of classifiers: how often right, how well calibrated, and whether two differ.

Sources: Guo et al. 2017, "On calibration of modern neural networks", section 2 (the calibration
error); McNemar 1947, in its exact form. The interval of a share is `shared.metrics.wilson`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from shared.errors import DataError
from shared.metrics import wilson

__all__ = ["McNemar", "accuracy", "ece", "macro_f1", "mcnemar", "nll", "per_class", "wilson"]

_SMALLEST = 1e-12


class McNemar(NamedTuple):
    """Two classifiers on the same rows.

    Attributes:
        first: Rows that only the first has right.
        second: Rows that only the second has right.
        p: Probability of so uneven a division, or a more uneven one, if both were equally good.
    """

    first: int
    second: int
    p: float


def accuracy(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Return the share of right answers, 0..1.

    Raises:
        DataError: The arrays differ in length, or are empty.
    """
    truth, predicted = _labels(truth, predicted)
    return float((truth == predicted).mean())


def macro_f1(truth: np.ndarray, predicted: np.ndarray, classes: int) -> float:
    """Return the mean over the classes of F1, 0 for a class that is neither there nor predicted.

    Raises:
        DataError: The arrays differ in length, or are empty.
    """
    from sklearn.metrics import f1_score

    truth, predicted = _labels(truth, predicted)
    return float(
        f1_score(truth, predicted, labels=np.arange(classes), average="macro", zero_division=0)
    )


def nll(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean negative logarithm of the probability of the true class, in nats.

    Args:
        probabilities: `(rows, classes)`.
        labels: `(rows,)`.

    Raises:
        DataError: The arrays do not fit together, or are empty.
    """
    probabilities, labels = _probabilities(probabilities, labels)
    own = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(own, _SMALLEST)).mean())


def ece(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Return the expected calibration error, 0..1.

    That is the distance between confidence and accuracy in bins of equal width, weighted by rows.

    Args:
        probabilities: `(rows, classes)`.
        labels: `(rows,)`.
        bins: Of the confidence; a bin holds its upper end.

    Raises:
        DataError: The arrays do not fit together, or are empty.
    """
    probabilities, labels = _probabilities(probabilities, labels)
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    places = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(places, right - confidence, bins)
    return float(np.abs(gaps).sum() / len(labels))


def mcnemar(first_right: np.ndarray, second_right: np.ndarray) -> McNemar:
    """Compare two classifiers by the rows on which only one of them is right.

    Args:
        first_right: Of each row, whether the first is right, bool `(rows,)`.
        second_right: The same of the second.

    Raises:
        DataError: The arrays differ in length, or are empty.
    """
    from scipy.stats import binomtest

    first_right, second_right = _labels(first_right, second_right)
    first = int((first_right & ~second_right).sum())
    second = int((second_right & ~first_right).sum())
    p = binomtest(first, first + second).pvalue if first + second else 1.0
    return McNemar(first, second, float(p))


def per_class(
    truth: np.ndarray, predicted: np.ndarray, names: Sequence[str]
) -> list[dict[str, Any]]:
    """Return a table with `class`, `precision`, `recall`, `f1` (0..1) and `rows` of each class.

    Raises:
        DataError: The arrays differ in length, or are empty.
    """
    from sklearn.metrics import precision_recall_fscore_support

    truth, predicted = _labels(truth, predicted)
    columns = precision_recall_fscore_support(
        truth, predicted, labels=np.arange(len(names)), zero_division=0
    )
    return [
        {"class": name, "precision": float(p), "recall": float(r), "f1": float(f), "rows": int(n)}
        for name, p, r, f, n in zip(names, *columns, strict=True)
    ]


def _labels(truth, predicted):
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if truth.shape != predicted.shape or truth.ndim != 1 or not len(truth):
        raise DataError(
            f"Lists of the shapes {truth.shape} and {predicted.shape} cannot be compared; they "
            "must be of the same length, and not empty."
        )
    return truth, predicted


def _probabilities(probabilities, labels):
    probabilities, labels = np.asarray(probabilities, np.float64), np.asarray(labels)
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or not len(labels):
        raise DataError(
            f"Probabilities of the shape {probabilities.shape} do not fit the labels of "
            f"{labels.shape} rows."
        )
    return probabilities, labels

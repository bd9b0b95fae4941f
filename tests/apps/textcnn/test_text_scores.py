"""Scores against plain computations; the peers on small sets that they must learn."""

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.textcnn import baselines, scores
from shared.errors import DataError

TRUTH = np.array([0, 0, 1, 1, 2, 2])
PREDICTED = np.array([0, 1, 1, 1, 2, 0])


def test_accuracy_and_f1():
    assert scores.accuracy(TRUTH, PREDICTED) == pytest.approx(4 / 6)
    # F1 of the classes: 1/2, 4/5, 2/3; a fourth that never occurs counts 0.
    assert scores.macro_f1(TRUTH, PREDICTED, 3) == pytest.approx((1 / 2 + 4 / 5 + 2 / 3) / 3)
    assert scores.macro_f1(TRUTH, PREDICTED, 4) == pytest.approx((1 / 2 + 4 / 5 + 2 / 3) / 4)


def test_table_of_the_classes():
    table = scores.per_class(TRUTH, PREDICTED, ["a", "b", "c"])
    assert [row["class"] for row in table] == ["a", "b", "c"]
    assert table[1] == {
        "class": "b",
        "precision": pytest.approx(2 / 3),
        "recall": 1.0,
        "f1": pytest.approx(0.8),
        "rows": 2,
    }


def test_negative_log_likelihood():
    probabilities = np.array([[0.25, 0.75], [0.5, 0.5]])
    expected = -(math.log(0.75) + math.log(0.5)) / 2
    assert scores.nll(probabilities, [1, 0]) == pytest.approx(expected)
    assert math.isfinite(scores.nll(np.array([[0.0, 1.0]]), [0]))


@given(st.integers(0, 1000), st.integers(1, 80), st.sampled_from([1, 4, 15]))
def test_calibration_error_is_the_weighted_gap_of_the_bins(seed, rows, bins):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet([0.6] * 3, rows)
    labels = rng.integers(0, 3, rows)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    expected = 0
    for low in range(bins):
        inside = (confidence > low / bins) & (confidence <= (low + 1) / bins)
        if inside.any():
            gap = abs(right[inside].mean() - confidence[inside].mean())
            expected += inside.sum() / rows * gap
    assert scores.ece(probabilities, labels, bins) == pytest.approx(expected)


def test_calibration_error_of_extremes():
    assert scores.ece(np.array([[1.0, 0.0]] * 4), [0, 0, 0, 0]) == 0
    assert scores.ece(np.array([[1.0, 0.0]] * 4), [1, 1, 1, 1]) == 1


def test_mcnemar_is_the_binomial_test_of_the_differences():
    first = np.array([1] * 8 + [0] * 2 + [1] * 5, bool)
    second = np.array([0] * 8 + [1] * 2 + [1] * 5, bool)
    result = scores.mcnemar(first, second)
    assert result[:2] == (8, 2)
    assert result.p == pytest.approx(2 * sum(math.comb(10, k) for k in range(3)) / 2**10)
    assert scores.mcnemar(first, first) == (0, 0, 1.0)


def test_refuses_what_cannot_be_compared():
    for first, second in (([1, 2], [1]), ([], []), ([[1]], [[1]])):
        with pytest.raises(DataError, match="same length"):
            scores.accuracy(first, second)
    with pytest.raises(DataError, match="do not fit"):
        scores.nll(np.ones((2, 2)), [0])


ROWS = [["good", "film"], ["not", "bad"], ["bad", "film"], ["not", "good"]] * 5
LABELS = np.array([1, 1, 0, 0] * 5)


def test_tfidf_svm_needs_bigrams_for_negation():
    assert (baselines.tfidf_svm().fit(ROWS, LABELS).predict(ROWS) == LABELS).all()
    words = baselines.tfidf_svm((1, 1)).fit(ROWS, LABELS).predict(ROWS)
    assert (words == LABELS).mean() < 1


def test_tfidf_svm_on_characters():
    texts = ["AAB", "aba", "ccd", "CDC"]
    peer = baselines.tfidf_svm((1, 2), characters=True).fit(texts, [0, 0, 1, 1])
    assert peer.predict(["ab", "cd"]).tolist() == [0, 1]


def test_fasttext_sees_shuffled_rows_and_is_asked_below_its_broken_wrapper(monkeypatch):
    seen = {}

    def train_supervised(input, **settings):
        with open(input, encoding="utf-8") as file:
            seen["lines"] = file.read().split("\n")[:-1]
        seen["settings"] = settings
        answers = {
            "bad film\n": [(0.9, "__label__0")],
            "good film\n": [(1.00001, "__label__1")],
        }
        return SimpleNamespace(f=SimpleNamespace(predict=lambda text, *_: answers[text]))

    fake = SimpleNamespace(train_supervised=train_supervised)
    monkeypatch.setitem(sys.modules, "fasttext", fake)
    peer = baselines.fasttext(ngrams=1, epochs=3).fit(ROWS, LABELS)
    plain = [f"__label__{label} {' '.join(row)}" for row, label in zip(ROWS, LABELS, strict=True)]
    assert sorted(seen["lines"]) == sorted(plain)
    assert seen["lines"] != plain
    assert seen["settings"]["epoch"] == 3
    assert peer.predict([["bad", "film"], ["good", "__label__0", "film"]]).tolist() == [0, 1]


def test_fasttext_may_be_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "fasttext", None)
    assert baselines.fasttext() is None

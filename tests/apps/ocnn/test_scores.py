import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from apps.ocnn import scores
from shared.errors import DataError


def test_confusion_has_truth_in_rows():
    table = scores.confusion([0, 0, 1, 1, 1], [0, 1, 1, 1, 3], 4)
    assert table.tolist() == [[1, 1, 0, 0], [0, 2, 0, 1], [0] * 4, [0] * 4]
    assert not scores.confusion([], [], 3).any()
    with pytest.raises(DataError, match=r"predicted classes run from 0 to 4; .* 0\.\.3"):
        scores.confusion([0, 1], [0, 4], 4)
    with pytest.raises(DataError, match="same length"):
        scores.confusion([0, 1], [0], 4)


def test_mistakes_are_named_most_often_first():
    table = np.array([[5, 1, 0], [2, 3, 0], [0, 0, 4]])
    assert scores.mistakes(table, "abc") == ["b as a: 2", "a as b: 1"]
    assert scores.mistakes(table, "abc", most=1) == ["b as a: 2"]


def ious(truth, predicted, classes, weights):
    """The definition, point by point."""
    result = []
    for part in range(classes):
        both = either = 0
        for true, answer, weight in zip(truth, predicted, weights, strict=True):
            if true != -1:
                both += weight * (true == part and answer == part)
                either += weight * (true == part or answer == part)
        result.append(both / either if either else 1)
    return result


def test_iou_by_hand():
    truth = np.array([0, 0, 1, -1])
    # 1 of 2, 1 of 2, absent in both.
    assert scores.mean_iou(truth, [0, 1, 1, 2], 3) == pytest.approx((0.5 + 0.5 + 1) / 3)
    # A part invented on a labelled point counts 0.
    assert scores.mean_iou(truth, [0, 0, 2, 0], 3) == pytest.approx((1 + 0 + 0) / 3)
    assert scores.mean_iou(truth, [0, 1, 1, 2], 3, [3, 1, 1, 9]) == pytest.approx(
        (0.75 + 0.5 + 1) / 3
    )


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 5))
def test_iou_equals_its_definition(seed, size, classes):
    rng = np.random.default_rng(seed)
    truth, predicted = rng.integers(-1, classes, size), rng.integers(0, classes, size)
    truth[0] = 0
    weights = rng.uniform(0.1, 2, size)
    found = scores.part_ious(truth, predicted, classes, weights)
    np.testing.assert_allclose(found, ious(truth, predicted, classes, weights))


def test_iou_needs_labels():
    with pytest.raises(DataError, match="no labelled"):
        scores.mean_iou([-1, -1], [0, 0], 2)
    with pytest.raises(DataError, match="true classes"):
        scores.mean_iou([-2, 0], [0, 0], 2)


def test_retrieval_by_hand():
    collection = np.array(list("aaabbc"))
    lists = [[0, 3, 1], [4, 0], [5]]
    found = scores.retrieval_scores(lists, np.array(list("abb")), collection)
    precision, recall = np.array([2 / 3, 1 / 2, 0]), np.array([2 / 3, 1 / 2, 0])
    average_precision = np.array([(1 + 2 / 3) / 2, 1, 0])
    first, second, third = 1, 1 / math.log2(3), 1 / 2
    ndcg = np.array([(first + third) / (first + second + third), first / (first + second), 0])
    rows = np.array([precision, recall, precision, average_precision, ndcg])
    names = ["P@N", "R@N", "F1@N", "mAP", "NDCG@N"]
    assert list(found["micro"]) == names
    assert list(found["micro"].values()) == pytest.approx(rows.mean(axis=1))
    macro = (rows[:, 0] + rows[:, 1:].mean(axis=1)) / 2
    assert list(found["macro"].values()) == pytest.approx(macro)


def test_average_precision_can_exceed_recall():
    found = scores.retrieval_scores([[0]], np.array([1]), np.ones(10, int))["micro"]
    assert found["R@N"] == pytest.approx(0.1)
    assert found["mAP"] == found["P@N"] == found["NDCG@N"] == 1


def test_retrieval_equals_scikit_learn(rng):
    """One list per call, so that means hide nothing; whole and cut lists."""
    collection = rng.integers(0, 4, 60)
    distances = rng.random((8, 60))
    for longest in (60, 17, 2):
        for query, ranked in enumerate(scores.ranked_lists(distances, longest)):
            wanted = query % 4
            found = scores.retrieval_scores([ranked], np.array([wanted]), collection)["micro"]
            hits, nearness = collection == wanted, -distances[query]
            answer = np.isin(np.arange(60), ranked)
            assert found["P@N"] == pytest.approx(metrics.precision_score(hits, answer))
            assert found["R@N"] == pytest.approx(metrics.recall_score(hits, answer))
            assert found["F1@N"] == pytest.approx(metrics.f1_score(hits, answer))
            assert found["NDCG@N"] == pytest.approx(
                metrics.ndcg_score(hits[None].astype(float), nearness[None], k=longest)
            )
            if longest == 60:
                expected = metrics.average_precision_score(hits, nearness)
                assert found["mAP"] == pytest.approx(expected)


def test_perfect_and_leave_one_out():
    classes = np.array([0, 0, 0, 1, 1])
    distances = np.where(classes[:, None] == classes, 1.0, np.inf)
    every = scores.retrieval_scores(scores.ranked_lists(distances), classes, classes)
    np.fill_diagonal(distances, np.inf)
    others = scores.ranked_lists(distances)
    assert [len(ranked) for ranked in others] == [2, 2, 2, 1, 1]
    strict = scores.retrieval_scores(others, classes, classes, leave_one_out=True)
    for found in (every, strict):
        for means in found.values():
            assert list(means.values()) == [1] * 5
    lost = scores.retrieval_scores(others, classes, classes)["micro"]
    assert lost["R@N"] == pytest.approx((3 * 2 / 3 + 2 / 2) / 5)


def test_ranked_lists_are_stable_and_cut():
    lists = scores.ranked_lists([[1, 0, 1, np.inf, 0.5], [np.inf] * 5], longest=3)
    assert [ranked.tolist() for ranked in lists] == [[1, 4, 0], []]


@pytest.mark.parametrize(
    ("lists", "queries", "options", "message"),
    [
        ([[0]], [0, 1], {}, "1 ranked lists for 2"),
        ([], [], {}, "0 ranked lists"),
        ([[3]], [0], {}, r"outside 0\.\.2"),
        ([[1, 1]], [0], {}, "more than once"),
        ([[0]], [7], {}, "class 7"),
        ([[0, 1], [2], [1]], [0, 0, 1], {"leave_one_out": True}, "query itself"),
        ([[1], [0], [0]], [0, 0, 1], {"leave_one_out": True}, "Query 2 is of the class 1"),
    ],
)
def test_retrieval_refuses(lists, queries, options, message):
    with pytest.raises(DataError, match=message):
        scores.retrieval_scores(lists, np.array(queries), np.array([0, 0, 1]), **options)

"""NB-SVM against scikit-learn's counting and a plain computation of the paper's formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.svm import LinearSVC

from apps.textcnn.nbsvm import NBSVM
from apps.textcnn.text import tokenise
from shared.errors import DataError, WeightsError

WORDS = ["good", "bad", "film", "a", "not", "很", "it's"]


def texts_of(count, classes, seed=0):
    """Return texts in which a class prefers a word of its own."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    texts = []
    for label in labels:
        odds = np.ones(len(WORDS))
        odds[label] = 4
        texts.append(list(rng.choice(WORDS, rng.integers(1, 9), p=odds / odds.sum())))
    return texts, labels


def vectorizer(ngrams):
    return CountVectorizer(ngram_range=ngrams, binary=True, analyzer=plain(ngrams))


def plain(ngrams):
    """Return scikit-learn's own n-grams of given tokens."""
    return CountVectorizer(
        ngram_range=ngrams, tokenizer=lambda tokens: tokens, lowercase=False, token_pattern=None
    ).build_analyzer()


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(WORDS), max_size=6), min_size=4, max_size=8),
    st.sampled_from([(1, 1), (1, 2), (2, 2), (1, 3), (2, 3)]),
)
def test_counts_the_same_ngrams_as_scikit_learn(texts, ngrams):
    texts = [*texts, ["good", "film", "a"], ["bad", "film", "not"]]
    machine = NBSVM().fit(texts, np.arange(len(texts)) % 2, 2, ngrams=ngrams)
    theirs = vectorizer(ngrams).fit(texts)
    order = [theirs.vocabulary_[ngram] for ngram in machine._columns]
    assert sorted(order) == list(range(len(theirs.vocabulary_)))
    probe = [*texts, ["never", "seen"], []]
    expected = theirs.transform(probe).toarray()[:, order]
    np.testing.assert_array_equal(machine._count(probe).toarray(), expected)


@pytest.mark.parametrize("classes", [2, 3])
def test_scores_follow_the_paper(classes):
    texts, labels = texts_of(60, classes)
    probe, _ = texts_of(10, classes, seed=1)
    machine = NBSVM().fit(texts, labels, classes, alpha=0.5, beta=0.4, c=2.0)
    counter = vectorizer((1, 2))
    f = counter.fit_transform(texts).toarray().astype(float)
    expected = []
    for positive in [1] if classes == 2 else range(classes):
        p = 0.5 + f[labels == positive].sum(0)
        q = 0.5 + f[labels != positive].sum(0)
        r = np.log((p / np.abs(p).sum()) / (q / np.abs(q).sum()))
        svm = LinearSVC(C=2.0, tol=1e-8, max_iter=100_000).fit(f * r, labels == positive)
        w = svm.coef_[0]
        w = 0.6 * np.abs(w).sum() / len(w) + 0.4 * w
        expected.append(counter.transform(probe).toarray() * r @ w + 0.4 * svm.intercept_)
    scores = machine.scores(probe)
    expected = [-expected[0], expected[0]] if classes == 2 else expected
    # Two solvers stop at slightly different places.
    np.testing.assert_allclose(scores, np.stack(expected, 1), atol=5e-3)
    assert scores.dtype == np.float64


@pytest.mark.parametrize("classes", [2, 3])
def test_arrays_restore_the_very_same_scores(classes, tmp_path):
    texts, labels = texts_of(40, classes)
    machine = NBSVM().fit(texts, labels, classes)
    np.savez(tmp_path / "m.npz", **machine.to_arrays())
    with np.load(tmp_path / "m.npz", allow_pickle=False) as arrays:
        restored = NBSVM.from_arrays(arrays)
    np.testing.assert_array_equal(restored.scores(texts), machine.scores(texts))
    assert restored.classes == classes
    assert restored.ngrams == (1, 2)


def test_refuses_what_cannot_be_learnt():
    with pytest.raises(DataError, match="of 3 classes 2 have texts"):
        NBSVM().fit([["a"], ["b"]], [0, 1], 3)
    with pytest.raises(DataError, match="single token"):
        NBSVM().fit([[], []], [0, 1], 2)


def test_refuses_arrays_of_something_else():
    arrays = NBSVM().fit(*texts_of(20, 2), 2).to_arrays()
    for change in (
        {"bias": np.zeros(3)},
        {"weights": np.full_like(arrays["weights"], np.nan)},
        {"orders": np.array([2, 1])},
        {"orders": np.array([1])},
        {"ngrams": np.array([255], np.uint8)},
    ):
        with pytest.raises(WeightsError):
            NBSVM.from_arrays(arrays | change)
    with pytest.raises(WeightsError):
        NBSVM.from_arrays({})


@pytest.mark.parametrize("classes", [2, 3])
@given(texts=st.lists(st.text("abc '\u00e9x.", max_size=20), min_size=1, max_size=8))
def test_numbers_give_the_scores_of_tokens(classes, texts):
    learned = ["a b c", "b c a", "c a b a", "x . b", "b b b", "a ' c"]
    machine = NBSVM().fit(
        [tokenise(one, "unicode") for one in learned], np.arange(6) % classes, classes
    )
    numbered = machine.numbering("unicode")
    np.testing.assert_allclose(
        machine.scores_of_numbers([numbered(one) for one in texts]),
        machine.scores([tokenise(one, "unicode") for one in texts]),
        atol=1e-9,
    )


def test_pairs_of_a_file_must_consist_of_its_words():
    machine = NBSVM().fit([["a", "b"], ["b", "c"]], np.array([0, 1]), 2)
    arrays = machine.to_arrays()
    arrays["ngrams"] = np.frombuffer(arrays["ngrams"].tobytes().replace(b"a b", b"q b"), np.uint8)
    with pytest.raises(WeightsError, match="fit together"):
        NBSVM.from_arrays(arrays).numbering("unicode")

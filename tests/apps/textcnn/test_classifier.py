"""The classifier: engines, empty and long texts, hybrids, files, scikit-learn."""

import json

import numpy as np
import pytest
from sklearn.base import clone

from apps.textcnn.classifier import APP, SentenceClassifier, TextClassifier, log_softmax
from apps.textcnn.text import Vocabulary
from shared import weights
from shared.errors import WeightsError
from shared.weights import Card

TEXTS = ["filler1 lovely filler2", "awful", "", "no word of these", "boring filler3 " * 30]


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_both_engines_agree(two_classes):
    reference = TextClassifier(two_classes.network, two_classes.settings, engine="keras")
    found = two_classes.probabilities(TEXTS)
    np.testing.assert_allclose(found, reference.probabilities(TEXTS), atol=1e-5)
    np.testing.assert_allclose(found, softmax(two_classes.logits(TEXTS)), atol=1e-12)


def test_predictions_in_order(two_classes):
    found = two_classes(TEXTS)
    assert [one.label for one in found[:2]] == ["good", "bad"]
    assert [one.empty for one in found] == [False, False, True, False, False]
    np.testing.assert_allclose(found[2].probabilities, two_classes.prior, atol=1e-6)
    for one in found:
        assert one.probability == one.probabilities.max()
        assert one.label == two_classes.names[one.probabilities.argmax()]
    assert two_classes([]) == []
    assert two_classes.probabilities([]).shape == (0, 2)
    assert two_classes.predict(TEXTS) == [one.label for one in found]


def test_temperature_divides_the_logits(two_classes):
    hot = TextClassifier(two_classes.network, two_classes.settings | {"temperature": 4.0})
    ratio = 4 / two_classes.temperature
    np.testing.assert_allclose(
        hot.logits(TEXTS[:2]) * ratio, two_classes.logits(TEXTS[:2]), rtol=1e-5
    )


def test_hybrid_is_the_weighted_sum(three_classes):
    tokens = [["lovely", "filler1"], ["fair", "enough"], ["not", "bad", "filler2"]]
    network, svm = three_classes.hybrid
    logits = three_classes.network_logits([three_classes.vocabulary.ids(one) for one in tokens])
    expected = softmax(logits) ** network * np.exp(svm * three_classes.nbsvm.scores(tokens))
    found = three_classes.probabilities([" ".join(one) for one in tokens])
    np.testing.assert_allclose(found, expected / expected.sum(axis=1, keepdims=True), atol=1e-9)


def test_long_texts(two_classes):
    def shortened(long):
        settings = two_classes.settings | {"max_tokens": 4, "long": long}
        return TextClassifier(two_classes.network, settings).logits

    words = ["filler1", "lovely", "filler2", "filler3", "filler4", "awful", "filler5", "filler6"]
    pieces = {
        "head": [words[:4]],
        "head-tail": [words[:2] + words[-2:]],
        "windows": [words[:4], words[2:6], words[4:]],
    }
    for long, parts in pieces.items():
        expected = two_classes.logits([" ".join(part) for part in parts]).mean(axis=0)
        found = shortened(long)(["filler1", " ".join(words)])
        np.testing.assert_allclose(found[1], expected, atol=1e-6)
        np.testing.assert_allclose(found[0], two_classes.logits(["filler1"])[0], atol=1e-6)


def test_threshold_of_two_classes(two_classes):
    probability = two_classes.probabilities(["awful lovely"])[0, 1]
    for threshold, name in ((probability - 0.01, "good"), (probability + 0.01, "bad")):
        settings = two_classes.settings | {"thresholds": [1 - threshold, threshold]}
        (found,) = TextClassifier(two_classes.network, settings)(["awful lovely"])
        assert found.label == name
        assert found.probability == found.probabilities[two_classes.names.index(name)]


def test_several_labels(two_classes):
    settings = two_classes.settings | {"multi_label": True, "thresholds": [0.5, 0.5]}
    classifier = TextClassifier(two_classes.network, settings)
    logits = classifier.logits(TEXTS)
    np.testing.assert_allclose(classifier.probabilities(TEXTS), 1 / (1 + np.exp(-logits)))
    np.testing.assert_allclose(classifier.probabilities([""])[0], classifier.prior, atol=1e-6)
    for one, row in zip(classifier(TEXTS), logits, strict=True):
        expected = [name for name, logit in zip(classifier.names, row, strict=True) if logit >= 0]
        assert one.label == ";".join(expected)


def test_round_trip_through_a_file(three_classes, tmp_path):
    path = tmp_path / "made.keras"
    weights.save_model(
        three_classes.network, path, Card(app=APP, name="made", settings=three_classes.settings)
    )
    assert not weights.verify(path)
    loaded = TextClassifier.from_weights(path)
    assert loaded.vocabulary == three_classes.vocabulary
    np.testing.assert_allclose(
        loaded.probabilities(TEXTS), three_classes.probabilities(TEXTS), atol=1e-6
    )
    card = json.loads(path.with_suffix(".json").read_text())
    card["settings"]["tokeniser"] = "none"
    path.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(WeightsError, match=r"made\.keras: .* hold the tokeniser 'none'"):
        TextClassifier.from_weights(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": ["one"]}, "1 names for 2 classes"),
        ({"names": None}, "does not describe a text classifier"),
        ({"temperature": 0}, "temperature that is not positive"),
        ({"temperature": float("nan")}, "temperature that is not positive"),
        ({"prior": [1.0]}, "2 names for 2 classes"),
        ({"long": "middle"}, "'middle' for long texts"),
        ({"hybrid": {"network": 1.0}}, "does not describe a text classifier"),
        ({"hybrid": {"network": 1.0, "nbsvm": 1.0}}, "not those of a saved NB-SVM"),
    ],
)
def test_settings_that_do_not_fit(two_classes, changes, message):
    with pytest.raises(WeightsError, match=message):
        TextClassifier(two_classes.network, two_classes.settings | changes)


def test_a_network_without_vocabulary(two_classes, monkeypatch):
    embedding = two_classes.network.get_layer("words")
    monkeypatch.setattr(embedding, "vocabulary", None)
    with pytest.raises(WeightsError, match="no vocabulary"):
        TextClassifier(two_classes.network, two_classes.settings)
    monkeypatch.setattr(embedding, "vocabulary", Vocabulary(("a",)))
    with pytest.raises(WeightsError, match="3 words for"):
        TextClassifier(two_classes.network, two_classes.settings)


def test_log_softmax_of_large_logits():
    np.testing.assert_allclose(log_softmax(np.array([[1000.0, 1000.0]])), np.log([[0.5, 0.5]]))


def test_scikit_learn_interface(made):
    rows = made(120)
    labels = np.where(np.array(rows.labels) == "good", 10, 2)
    estimator = clone(SentenceClassifier(epochs=15, seed=1))
    assert estimator.get_params()["epochs"] == 15
    estimator.set_params(epochs=12)
    found = estimator.fit(rows.texts, labels)
    assert found.classes_.tolist() == [2, 10]
    test = made(60, seed=9)
    expected = np.where(np.array(test.labels) == "good", 10, 2)
    assert found.score(test.texts, expected) > 0.8
    np.testing.assert_allclose(found.predict_proba(test.texts).sum(axis=1), 1)

"""Training: resume, calibration, hybrids, imbalance, several labels, folds, tuning, errors."""

import dataclasses
import json

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.metrics import f1_score
from sklearn.utils.class_weight import compute_class_weight

from apps.textcnn import train, vectors
from apps.textcnn.classifier import TextClassifier
from apps.textcnn.data import Rows
from apps.textcnn.model import Architecture
from apps.textcnn.text import UNKNOWN
from shared.errors import DataError


def test_resumed_training_ends_like_the_uninterrupted_one(made, small, tmp_path):
    rows, test = made(150), made(50, seed=4)
    test = dataclasses.replace(test, texts=(*test.texts[:-1], "lovely onlyhere"))
    recipe = dataclasses.replace(small, epochs=2)
    whole = train.train(rows, tmp_path / "a.keras", recipe, test=test, seed=3, quiet=True)
    half = dataclasses.replace(recipe, epochs=1)
    train.train(rows, tmp_path / "b.keras", half, seed=3, quiet=True)
    with pytest.raises(DataError, match="holds a training already"):
        train.train(rows, tmp_path / "b.keras", recipe, seed=3, quiet=True)
    resumed = train.train(rows, tmp_path / "b.keras", recipe, seed=3, resume=True, quiet=True)
    weights = [one.classifier.network.get_weights() for one in (whole, resumed)]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(whole.facts["curve"]) == whole.facts["epochs"] == 2

    # Words of the test texts alone have no row.
    assert "onlyhere" not in whole.classifier.vocabulary.tokens
    loaded = TextClassifier.from_weights(tmp_path / "a.keras")
    np.testing.assert_allclose(
        loaded.probabilities(test.texts), whole.classifier.probabilities(test.texts), atol=1e-6
    )
    card = json.loads((tmp_path / "a.json").read_text())
    assert next(iter(card["results"])) == "test"
    assert "macro-F1" in card["results"]["test"]
    assert card["training"]["recipe"]["architecture"]["maps"] == 12


def test_evaluation_equals_scikit_learn(two_classes, made):
    rows = made(80, seed=21)
    facts = train.evaluate(two_classes, rows)
    found = two_classes.predict(rows.texts)
    assert facts["accuracy"] == pytest.approx(np.mean(np.array(found) == rows.labels), abs=1e-4)
    assert facts["macro-F1"] == pytest.approx(f1_score(rows.labels, found, average="macro"), 1e-3)
    assert facts["accuracy"] > 0.8
    low, high = facts["95 % interval"]
    assert low < facts["accuracy"] < high or facts["accuracy"] == 1
    with pytest.raises(DataError, match="label 'other' is none of the 2"):
        train.evaluate(two_classes, Rows(("a",), ("other",), "x", ()))


@pytest.mark.parametrize("true", [0.4, 1.0, 3.5])
def test_temperature_is_found(rng, true):
    logits = rng.normal(0, 2, (20_000, 3))
    noise = rng.gumbel(size=logits.shape)
    labels = (logits + noise).argmax(axis=1)
    assert train.temperature(true * logits, labels) == pytest.approx(true, rel=0.05)
    binary = (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    assert train.temperature(true * logits, binary) == pytest.approx(true, rel=0.05)


def test_hybrid_weights_are_the_best_of_a_grid(rng):
    network, svm = log_softmax(rng.normal(0, 2, (4000, 3)), axis=1), rng.normal(0, 1, (4000, 3))
    labels = (0.5 * network + 1.5 * svm + rng.gumbel(size=svm.shape)).argmax(axis=1)

    def loss(a, b):
        return -np.mean(log_softmax(a * network + b * svm, axis=1)[np.arange(4000), labels])

    a, b = train.hybrid_weights(network, svm, labels)
    assert (a, b) == pytest.approx((0.5, 1.5), rel=0.1)
    assert loss(a, b) <= min(loss(i, j) for i in (0.3, 0.5, 0.8) for j in (1, 1.5, 2)) + 1e-9


def test_class_weights():
    labels = np.array([0] * 90 + [1] * 10)
    expected = compute_class_weight("balanced", classes=np.arange(2), y=labels)
    np.testing.assert_allclose(train.class_weights(labels, 2, "balanced"), expected)
    root = train.class_weights(labels, 2, "sqrt")
    assert root[1] / root[0] == pytest.approx(3)
    for kind in train.CLASS_WEIGHTS:
        assert train.class_weights(labels, 2, kind)[labels].mean() == pytest.approx(1)


def test_balanced_weights_let_a_rare_class_be_found(small):
    """Of four texts with the sign one is of the rare class, never the answer without weights."""
    rng = np.random.default_rng(0)
    texts, labels = [], []
    for number in range(400):
        sign = "sign " if number % 5 == 0 else ""
        texts.append(sign + " ".join(rng.choice(["a", "b", "c", "d", "e"], 4)))
        labels.append("rare" if number % 20 == 0 else "usual")
    rows = Rows(tuple(texts), tuple(labels), "made", ())
    recipe = dataclasses.replace(small, class_weight="balanced", epochs=8)
    facts = train.train(rows, None, recipe, test=rows, quiet=True).facts
    assert facts["per class"]["rare"]["recall"] >= 0.8


def test_several_labels_a_text(small):
    rng = np.random.default_rng(0)
    signs = {"food": "tasty", "price": "cheap", "place": "central"}
    texts, labels = [], []
    for number in range(300):
        chosen = [name for name in signs if rng.random() < 0.5]
        words = [signs[name] for name in chosen] + list(rng.choice(["a", "b", "c"], 2))
        texts.append(" ".join([*rng.permutation(words), f"once{number}"]))
        labels.append("; ".join(chosen))
    rows = Rows(tuple(texts), tuple(labels), "made", ())
    recipe = dataclasses.replace(small, multi_label=True, epochs=8)
    result = train.train(rows, None, recipe, test=rows, quiet=True)
    assert result.classifier.names == ("food", "place", "price")
    assert result.facts["macro-F1"] > 0.9
    assert result.classifier.predict(["tasty central a"]) == ["food;place"]
    # Words counted once stand for the unknown one, so its row was trained.
    first = vectors.matrix(
        result.classifier.vocabulary, None, recipe.dim, np.random.default_rng(0), recipe.rescale
    )
    tuned = result.classifier.tables.parameters.table
    assert np.abs(tuned[UNKNOWN] - first[UNKNOWN]).max() > 1e-3


def test_without_words_counted_once_the_unknown_one_stays(two_classes, small):
    first = vectors.matrix(
        two_classes.vocabulary, None, small.dim, np.random.default_rng(0), small.rescale
    )
    tuned = two_classes.tables.parameters.table
    np.testing.assert_array_equal(tuned[UNKNOWN], first[UNKNOWN])
    assert np.abs(tuned[2:] - first[2:]).max() > 1e-2


def test_thresholds_give_the_best_f1(rng):
    truth = np.array([False] * 6 + [True] * 3)
    probabilities = np.array([0.05, 0.1, 0.1, 0.2, 0.2, 0.25, 0.3, 0.35, 0.4])
    found = train._best_threshold(probabilities, truth, lambda a, t: train._f1(a, t)[0])
    assert 0.25 < found < 0.3


def test_names_of_classes():
    assert train.class_names(("b", "a", "b")) == ("a", "b")
    assert train.class_names(("b;a", "a; c", ""), multi_label=True) == ("a", "b", "c")
    with pytest.raises(DataError, match="only 'a' as their label"):
        train.class_names(("a", "a"))
    with pytest.raises(DataError, match=r"'1' and '1\.0' are the same number"):
        train.class_names(("1", "1.0", "2"))


def test_cross_validation(made, small, monkeypatch):
    """Every text is held out once for each seed, and never learned from at the same time."""
    rows, seen = made(40), []

    def fake(learned, out, recipe, *, test, vectors, seed, quiet):
        assert not set(learned.texts) & set(test.texts)
        seen.append((seed, test.texts))
        return train.Trained(None, None, {"accuracy": 0.5 + 0.1 * seed, "macro-F1": 0.4})

    monkeypatch.setattr(train, "train", fake)
    facts = train.crossvalidate(rows, small, folds=4, seeds=(0, 1))
    for seed in (0, 1):
        held = [text for one, texts in seen if one == seed for text in texts]
        assert sorted(held) == sorted(rows.texts)
    assert facts["accuracy"] == pytest.approx(0.55)
    assert len(facts["accuracy of each"]) == 8
    low, high = facts["95 % interval"]
    assert high - low > 0.25  # of 40 texts, not of 80


def test_tuning_walks_along_widths_maps_and_dropout(made, small, monkeypatch):
    def fake(learned, out, recipe, *, dev, vectors, seed, quiet):
        sizes = recipe.architecture
        score = 0.5 - 0.01 * abs(np.mean(sizes.widths) - 7) + 0.01 * len(sizes.widths)
        score += 0.0001 * sizes.maps - 0.1 * abs(sizes.dropout - 0.3)
        return train.Trained(None, None, {"dev accuracy": score, "dev NLL": 1 - score})

    monkeypatch.setattr(train, "train", fake)
    lines = []
    best, trials = train.tune(made(40), small, maps=(50, 100), progress=lines.append)
    assert best.architecture == Architecture(widths=(7,) * 4, maps=100, dropout=0.3)
    assert [one["widths"] for one in trials[:10]] == [[width] for width in range(1, 11)]
    assert [one["stage"] for one in trials[10:]] == ["widths"] * 4 + ["maps"] * 2 + ["dropout"] * 2
    assert len(lines) == len(trials)


def test_preset_of_the_paper():
    recipe = train.PRESETS["paper"]
    assert (recipe.optimizer, recipe.learning_rate, recipe.batch, recipe.epochs) == (
        "adadelta",
        1.0,
        50,
        25,
    )
    assert recipe.architecture.init == "paper"
    assert recipe.rescale is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 0}, "at least 1"),
        ({"learning_rate": float("nan")}, "must be positive"),
        ({"dev_share": 1.0}, "between 0 and 1"),
        ({"class_weight": "all"}, "no class weight 'all'"),
        ({"tokeniser": "words"}, "no tokeniser 'words'"),
        ({"hybrid": True, "multi_label": True}, "cannot give several labels"),
        ({"class_weight": "sqrt", "multi_label": True}, "one label each"),
    ],
)
def test_recipes_that_make_no_sense(options, message):
    with pytest.raises(DataError, match=message):
        dataclasses.replace(train.DEFAULT, **options)

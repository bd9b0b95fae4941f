"""The weights that ship: what they say of the samples, and of real texts that they never saw."""

import numpy as np
import pytest

from apps.textcnn import data, shipped, train
from apps.textcnn.classifier import TextClassifier
from shared import assets, weights

SENTENCES = assets.samples_dir() / "sentences"


def test_every_recipe_has_weights_and_a_card():
    cards = {card.name: card for card in weights.cards("textcnn")}
    assert sorted(cards) == sorted(shipped.names())
    for card in cards.values():
        assert card.results["accuracy"] > 0.8
        assert "non-commercial" in card.licence
        assert card.file.endswith(".keras")
        assert card.bytes < 5e6


@pytest.mark.parametrize(("name", "least"), [("mr-en", 10), ("sst2-en", 10)])
def test_opinions_of_the_sample(name, least):
    rows = data.read(SENTENCES / "opinions.csv")
    found = TextClassifier.from_weights(name).predict(rows.texts)
    assert sum(np.array(found) == np.array(rows.labels)) >= least


def test_questions_and_chinese_of_the_samples():
    expected = {
        ("trec-en", "questions.txt"): "HUM NUM ABBR LOC DESC ENTY NUM DESC",
        ("hotel-zh", "hotel-zh.txt"): "good bad good bad",
    }
    for (name, file), labels in expected.items():
        rows = data.read(SENTENCES / file, labelled=False)
        assert " ".join(TextClassifier.from_weights(name).predict(rows.texts)) == labels
    rows = data.read(SENTENCES / "headlines-zh.txt", labelled=False)
    found = TextClassifier.from_weights("news-zh").predict(rows.texts)
    assert found[0] == "sports"
    assert len(set(found)) >= 7


def test_the_card_tells_the_truth(data):
    learned, _, held = shipped._RECIPES["trec-en"][0](data / "text")
    assert len(learned) == 5452
    found = train.evaluate(TextClassifier.from_weights("trec-en"), held)
    card = weights.read_card(weights.find("textcnn", "trec-en"))
    assert found["accuracy"] == pytest.approx(card.results["accuracy"], abs=0.003)


# Written down under TensorFlow, with which the weights were trained.
ANSWERS = {
    "What is the capital of Peru ?": [0.000952, 0.004485, 0.000208, 0.000224, 0.993069, 0.001063],
    "Who painted the ceiling ?": [0.000020, 0.000011, 0.000162, 0.999683, 0.000057, 0.000068],
}


@pytest.mark.backends
def test_every_backend_gives_the_same_answers(tmp_path):
    """As shipped, and after another round through a file of the backend that runs."""
    path, copy = weights.find("textcnn", "trec-en"), tmp_path / "trec-en.keras"
    weights.save_model(weights.load_model(path, "textcnn"), copy, weights.read_card(path))
    for source in ("trec-en", copy):
        found = TextClassifier.from_weights(source)(list(ANSWERS))
        for answer, expected in zip(found, ANSWERS.values(), strict=True):
            np.testing.assert_allclose(answer.probabilities, expected, atol=2e-6)

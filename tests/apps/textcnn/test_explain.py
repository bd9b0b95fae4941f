"""Explanations add up, agree with deletion, and are safe to look at."""

import dataclasses

import numpy as np
import pytest

from apps.textcnn import explain, model
from apps.textcnn.classifier import TextClassifier
from apps.textcnn.model import Architecture
from shared.errors import DataError


def total(explanation):
    return sum(score for _, score in explanation.words) + explanation.constant


@pytest.mark.parametrize("which", ["two_classes", "three_classes"])
def test_words_and_constant_add_up_to_the_margin(which, request, made):
    classifier = request.getfixturevalue(which)
    texts = [*made(60, 3, seed=5).texts, "", "awful", "unheard of", "lovely lovely lovely"]
    for text in texts:
        for number, name in enumerate(classifier.names):
            found = explain.explain(classifier, text, name)
            logits = classifier.logits([text])[0]
            others = np.delete(logits, number).mean()
            assert found.margin == pytest.approx(logits[number] - others, abs=1e-6)
            assert total(found) == pytest.approx(found.margin, abs=1e-4)


def test_tanh_and_windows_add_up(rng, two_classes, made):
    vocabulary = two_classes.vocabulary
    network = model.network(
        Architecture(widths=(1, 4), maps=5, activation="tanh", mode="multichannel"),
        rng.normal(0, 0.5, (len(vocabulary), 6)),
        2,
        vocabulary,
    )
    for layer in network.layers[2:]:
        layer.set_weights([rng.normal(0, 0.5, array.shape) for array in layer.get_weights()])
    for long in ("head", "head-tail", "windows"):
        settings = two_classes.settings | {"max_tokens": 6, "long": long}
        classifier = TextClassifier(network, settings)
        for text in made(10, seed=8).texts:
            found = explain.explain(classifier, text)
            assert total(found) == pytest.approx(found.margin, abs=1e-4)


def test_a_score_is_what_the_word_adds(two_classes):
    """With the windows left as they are, a zero vector takes exactly the score of its word."""
    text = "filler1 awful filler2 filler3"
    found = explain.explain(two_classes, text, "bad")
    parameters = two_classes.tables.parameters
    ids = two_classes.vocabulary.ids(text.split())
    winners = explain._winners(parameters, [ids])
    maps = len(parameters.biases[0])
    margin = 0.0
    for feature in range(winners.largest.shape[1]):
        kernel = parameters.kernels[feature // maps][:, :, feature % maps]
        answer = winners.largest[0, feature]
        offset = 1 - winners.starts[0, feature]
        if answer > 0 and 0 <= offset < len(kernel):
            weight = parameters.dense[feature] @ np.array([1, -1])
            margin += weight * float(kernel[offset] @ parameters.table[ids[1]])
    assert dict(found.words)["awful"] == pytest.approx(margin / two_classes.temperature, abs=1e-4)


def test_the_words_that_decide_have_the_largest_scores(two_classes, three_classes):
    for classifier in (two_classes, three_classes):
        found = classifier.explain("filler1 filler2 lovely filler3 filler4")
        assert found.label == "good"
        assert max(found.words, key=lambda pair: pair[1])[0] == "lovely"
        assert "lovely" in found.ngrams[0].text.split()
        assert found.ngrams[0].filters >= 1


def test_without_a_word_all_is_constant(two_classes):
    found = two_classes.explain(" ")
    assert (found.words, found.ngrams, found.constant) == ([], [], found.margin)


def test_unknown_class(two_classes):
    with pytest.raises(DataError, match="no class 'x'; choose from bad, good"):
        two_classes.explain("a", "x")


def test_global_view(two_classes, made):
    rows = made(100, seed=3)
    view = explain.global_view(two_classes, rows.texts)
    largest = explain._winners(
        two_classes.tables.parameters,
        [two_classes.vocabulary.ids(words) for words in two_classes.tokens(rows.texts)],
    ).largest
    rates = np.mean(largest > 0, axis=0)
    assert [one["firing rate"] for one in view["filters"]] == pytest.approx(rates.tolist())
    assert view["dead"] == np.flatnonzero(rates == 0).tolist()
    for one in view["filters"]:
        values = [value for _, value in one["ngrams"]]
        assert values == sorted(values, reverse=True)
        assert len(one["ngrams"]) <= 10
        named = [name for cluster in one["clusters"] for name in cluster]
        assert len(named) == len(set(named))
        assert {name for name, _ in one["ngrams"]} <= set(named)
    best = view["classes"]["good"][0][0]
    assert any(word in best for word in ("lovely", "funny", "bright", "bad"))


def test_clusters_part_n_grams_that_fill_different_places():
    answers = {
        "a": (1.0, np.array([1.0, 0.0])),
        "b": (0.9, np.array([0.9, 0.0])),
        "c": (0.8, np.array([0.0, 0.8])),
    }
    assert explain._clusters(answers) == [["a", "b"], ["c"]]


def test_page_escapes_every_string(two_classes, tmp_path):
    hostile = '<script>alert(1)</script> "&lovely& <img src=x onerror=y>'
    found = two_classes.explain(hostile)
    words = [("<script>", 1.0), ('"><b onload="x', -0.5)]
    found = dataclasses.replace(found, words=words + found.words, label="<i>good</i>")
    explain.page([found], tmp_path / "a.html", title="<u>", command="a <b>")
    markup = (tmp_path / "a.html").read_text()
    for tag in ("<script>alert", "<img src=x", "<b onload", "<i>good", "<u>", "<b>"):
        assert tag not in markup
    assert "&lt;script&gt;" in markup
    assert f"{found.constant:+.3f}" in markup


def test_deleting_the_top_word_flips_decisions(two_classes, made):
    rows = made(100, seed=11)
    rng = np.random.default_rng(0)
    flips = {"top": 0, "random": 0}
    for text in rows.texts:
        found = two_classes.explain(text)
        count = 1
        order = np.argsort([-score for _, score in found.words])
        chosen = {"top": order[:count], "random": rng.permutation(len(order))[:count]}
        for kind, places in chosen.items():
            words = [w if i not in places else "zzz" for i, (w, _) in enumerate(found.words)]
            flips[kind] += two_classes.predict([" ".join(words)])[0] != found.label
    assert flips["top"] >= 40
    assert flips["random"] < flips["top"] / 2

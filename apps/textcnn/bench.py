"""Measurements of quality and speed, each beside its peers in the same process."""

import dataclasses
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from shared.console import progress
from shared.timing import ratio, turns

from . import baselines, data, model, scores, text, train, vectors
from .classifier import TextClassifier
from .data import Rows
from .nbsvm import NBSVM
from .text import Vocabulary
from .train import Recipe
from .vectors import Vectors

HYBRID, NB_SVM = "network + NB-SVM", "NB-SVM (1,2)"
_SHARE = 0.2
"""Of the words of a text that are taken away to see whether the decision rests on them."""
_NO_WORD = "\0"
"""No tokeniser gives such a token, so that it is an unknown word."""


def peers(
    rows: Rows,
    recipe: Recipe,
    *,
    test: Rows | None = None,
    dev: Rows | None = None,
    folds: int = 10,
    only: int | None = None,
    seeds: Sequence[int] = (0,),
    given: Vectors | None = None,
    quiet: bool = False,
) -> list[dict[str, Any]]:
    """Compare the network with linear classifiers on the same texts, words and folds.

    Args:
        rows: Texts to learn from, or all texts.
        recipe: Of the network.
        test: Texts to measure on; folds of `rows` unless given.
        dev: Texts to stop and calibrate the network by; a share of those learned unless given.
        folds: Into how many parts the texts are divided.
        only: Measure on so many of the folds only.
        seeds: Of the trainings of the network.
        given: Word vectors.
        quiet: No progress.

    Returns:
        A row a method: accuracy with its interval and spread, macro-F1, seconds of CPU to learn,
        texts learned in one of them, texts a second to answer; of the hybrid also McNemar's p
        against the NB-SVM.

    Raises:
        DataError: The labels are of no use, or a class has fewer texts than there are folds.
    """
    names = train.class_names(rows.labels)
    if test is None:
        parts = [
            (rows.chosen(learned), rows.chosen(held))
            for learned, held in list(data.folds(rows, folds, 0))[:only]
        ]
    else:
        parts = [(rows, test)]
    tokeniser = recipe.tokeniser
    if tokeniser == "auto":
        tokeniser = text.choose_tokeniser(rows.texts)
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    with progress("peers", len(parts) * (1 + len(seeds)), quiet=quiet) as update:
        for number, (learned, held) in enumerate(parts):
            tokens, asked = (
                [text.tokenise(one, tokeniser) for one in side.texts] for side in (learned, held)
            )
            labels, truth = (train.targets(side.labels, names) for side in (learned, held))
            for name, peer in _linear(len(names)).items():
                found[name].append(_measured(peer, tokens, labels, asked, truth))
            for step, seed in enumerate(seeds):
                update(number * (1 + len(seeds)) + 1 + step)
                for name, row in _network(learned, held, dev, recipe, given, seed, truth).items():
                    found[name].append(row)
        update(len(parts) * (1 + len(seeds)))
    table = [_summary(name, runs, len(names)) for name, runs in found.items()]
    table[-1]["p against NB-SVM"] = _mcnemar(found[HYBRID], found[NB_SVM], len(seeds))
    return table


class _Joined:
    """The NB-SVM behind the two methods that all peers have."""

    def __init__(self, classes: int):
        self._classes, self._svm = classes, NBSVM()

    def fit(self, tokens, labels):
        self._svm.fit(tokens, labels, self._classes)

    def predict(self, tokens):
        return self._svm.scores(tokens).argmax(1)


def _linear(classes: int) -> dict[str, Any]:
    """Return the peers that are there, by name."""
    found = {"TF-IDF (1,2) + SVM": baselines.tfidf_svm(), NB_SVM: _Joined(classes)}
    other = baselines.fasttext()
    return found if other is None else found | {"fastText (1,2)": other}


def _measured(peer, tokens, labels, asked, truth) -> dict[str, Any]:
    started = time.process_time()
    peer.fit(tokens, labels)
    learned, answering = time.process_time(), time.perf_counter()
    answers = np.asarray(peer.predict(asked))
    seconds = time.perf_counter() - answering
    return _run(answers, truth, len(tokens), learned - started, len(asked) / seconds)


def _network(learned, held, dev, recipe, given, seed, truth) -> dict[str, dict[str, Any]]:
    """Return the runs of the network alone and with the NB-SVM, of one training."""
    recipe = dataclasses.replace(recipe, hybrid=True)
    started = time.process_time()
    classifier = train.train(
        learned, None, recipe, dev=dev, vectors=given, seed=seed, quiet=True
    ).classifier
    spent = time.process_time() - started
    runs = {}
    ids = [classifier.vocabulary.ids(words) for words in classifier.tokens(held.texts)]
    answering = time.perf_counter()
    alone = classifier.network_logits(ids).argmax(1)
    speed = len(ids) / (time.perf_counter() - answering)
    runs["network"] = _run(alone, truth, len(learned), spent, speed)
    tokens = classifier.tokens(held.texts)
    answering = time.perf_counter()
    joined = classifier.logits_of_tokens(tokens).argmax(1)
    speed = len(ids) / (time.perf_counter() - answering)
    runs[HYBRID] = _run(joined, truth, len(learned), spent, speed)
    return runs


def _run(answers, truth, count, fit_seconds, speed) -> dict[str, Any]:
    return {
        "answers": answers,
        "truth": truth,
        "fit CPU s": fit_seconds,
        # Where these part, so many texts ask for another method.
        "learned/CPU s": count / max(fit_seconds, 1e-6),
        "texts/s": speed,
    }


def _summary(name: str, runs: list[dict[str, Any]], classes: int) -> dict[str, Any]:
    accuracies = [float(np.mean(run["answers"] == run["truth"])) for run in runs]
    f1s = [scores.macro_f1(run["truth"], run["answers"], classes) for run in runs]
    row = {
        "method": name,
        "accuracy": round(100 * float(np.mean(accuracies)), 2),
        "macro-F1": round(100 * float(np.mean(f1s)), 2),
    }
    if len(runs) > 1:
        row["deviation"] = round(100 * float(np.std(accuracies, ddof=1)), 2)
    for column in ("fit CPU s", "learned/CPU s", "texts/s"):
        row[column] = float(np.mean([run[column] for run in runs]))
    return row


def _mcnemar(joined, svm, seeds: int) -> float:
    """Return p of the first training of every fold against the NB-SVM on the same texts."""
    first = joined[::seeds]
    return scores.mcnemar(
        np.concatenate([run["answers"] == run["truth"] for run in first]),
        np.concatenate([run["answers"] == run["truth"] for run in svm]),
    ).p


def speed(rows: Rows, *, dim: int = 300, repeats: int = 5) -> list[dict[str, Any]]:
    """Time whole answers on one thread: texts in, labels out.

    The weights of the network are random, which makes no difference to the time.

    Args:
        rows: Texts to answer; the linear classifier learns from them.
        dim: Numbers of a word vector.
        repeats: Turns of all, one after the other.
    """
    names = train.class_names(rows.labels)
    labels = train.targets(rows.labels, names)
    tokens = [text.tokenise(one, "unicode") for one in rows.texts]
    vocabulary = Vocabulary.of(tokens)
    rng = np.random.default_rng(0)
    network = model.network(
        dataclasses.replace(Recipe().architecture, mode="rand", init="glorot"),
        vectors.matrix(vocabulary, None, dim, rng),
        len(names),
        vocabulary,
    )
    settings = {
        "names": list(names),
        "tokeniser": "unicode",
        "temperature": 1.0,
        "prior": [1 / len(names)] * len(names),
    }
    tables = TextClassifier(network, settings, workers=1)
    whole = TextClassifier(network, settings, engine="keras", workers=1)
    # As people use it: with the words that scikit-learn itself finds.
    pairs, single = (
        make_pipeline(TfidfVectorizer(ngram_range=ngrams, sublinear_tf=True), LinearSVC())
        for ngrams in ((1, 2), (1, 1))
    )
    for peer in (pairs, single):
        peer.fit(rows.texts, labels)
    svm = NBSVM().fit(tokens, labels, len(names))
    network.get_layer("words").arrays = svm.to_arrays()
    joined = TextClassifier(
        network, settings | {"hybrid": {"network": 1.0, "nbsvm": 1.0}}, workers=1
    )
    jobs = {
        "network, tables": lambda: tables.predict(rows.texts),
        "network, tables + NB-SVM": lambda: joined.predict(rows.texts),
        "TF-IDF (1,2) + SVM": lambda: pairs.predict(rows.texts),
        "TF-IDF (1) + SVM": lambda: single.predict(rows.texts),
    }
    seconds = turns(list(jobs.values()), repeats)
    # The network itself is so slow that a part of the texts, and fewer turns, will do.
    some = rows.texts[: max(1, len(rows.texts) // 8)]
    keras_jobs = [lambda: tables.predict(some), lambda: whole.predict(some)]
    pair = turns(keras_jobs, max(1, repeats // 2))
    table = [
        {
            "method": name,
            "texts/s": len(rows.texts) / float(np.median(seconds[:, i])),
            "tables against it": ratio(seconds, i, 0),
        }
        for i, name in enumerate(jobs)
    ]
    table.append(
        {
            "method": f"network, {keras.backend.backend()}",
            "texts/s": len(some) / float(np.median(pair[:, 1])),
            "tables against it": ratio(pair, 1, 0),
        }
    )
    return table


def faithfulness(classifier: TextClassifier, texts: Sequence[str], seed: int = 0) -> dict[str, Any]:
    """Take away the fifth of the words that an explanation names, or any fifth, and ask again.

    Args:
        classifier: Whose decisions.
        texts: To decide.
        seed: Of the words taken at random.

    Returns:
        Shares of the decisions that change, and the largest difference between a margin and the sum
        of its words and constant.
    """
    rng = np.random.default_rng(seed)
    changed = {"words that speak most for it": 0, "words at random": 0}
    difference, total = 0.0, 0
    for one in texts:
        tokens = classifier.tokens([one])[0]
        if not tokens:
            continue
        explanation = classifier.explain(one)
        told = sum(score for _, score in explanation.words) + explanation.constant
        difference = max(difference, abs(told - explanation.margin))
        count = max(1, round(_SHARE * len(tokens)))
        strongest = np.argsort([-score for _, score in explanation.words])[:count]
        chosen = {"words that speak most for it": strongest}
        chosen["words at random"] = rng.choice(len(tokens), count, replace=False)
        total += 1
        for name, places in chosen.items():
            left = [_NO_WORD if i in set(places) else word for i, word in enumerate(tokens)]
            logits = classifier.logits_of_tokens([left])
            changed[name] += classifier.names[int(logits[0].argmax())] != explanation.label
    return {
        "texts": total,
        **{f"changed without {name}": round(count / total, 4) for name, count in changed.items()},
        "largest difference of margin and sum": difference,
    }


def calibration(
    rows: Rows,
    recipe: Recipe,
    *,
    epochs: int = 8,
    test: Rows | None = None,
    given: Vectors | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Overfit on purpose, and say how far the temperature mends what is too sure of itself.

    Args:
        rows: Texts to learn from.
        recipe: Of the network.
        epochs: Of the training, none of them stopped early.
        test: Texts to measure on; a tenth of `rows` unless given.
        given: Word vectors.
        seed: Of the training.

    Returns:
        Temperature, accuracy, and the expected calibration error (ECE) before and after.
    """
    if test is None:
        learned, held = data.folds(rows, 10, 0)[0]
        rows, test = rows.chosen(learned), rows.chosen(held)
    recipe = dataclasses.replace(recipe, hybrid=False, epochs=epochs, patience=0)
    classifier = train.train(rows, None, recipe, vectors=given, seed=seed, quiet=True).classifier
    truth = train.targets(test.labels, classifier.names)
    after = classifier.probabilities(test.texts)
    classifier.temperature, temperature = 1.0, classifier.temperature
    before = classifier.probabilities(test.texts)
    return {
        "epochs": epochs,
        "accuracy": round(float(np.mean(after.argmax(1) == truth)), 4),
        "temperature": round(temperature, 3),
        "ECE before": round(scores.ece(before, truth), 4),
        "ECE after": round(scores.ece(after, truth), 4),
        "test texts": len(truth),
    }

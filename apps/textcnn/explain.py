"""Why a text got its class: exact shares of every word, and what each filter looks for.

Every filter answers for one window, the one with the largest sum, and that sum has one term for
each word and a bias; everything behind is linear (tanh is scaled by its own ratio). So the margin
of a class is a sum over words plus a constant. The NB-SVM of a hybrid is linear in its n-grams.

Source: Jacovi, Sar Shalom & Goldberg 2018, "Understanding Convolutional Neural Networks for Text
Classification", BlackboxNLP: informative n-grams, and several kinds of them for one filter. They
cluster by mean shift; here by average linkage, cut at a fixed share of the filter's answer.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, NamedTuple

import numpy as np

from shared.errors import DataError
from shared.report import Page

from .classifier import TextClassifier
from .model import Parameters
from .text import LEFT, cut, pad

STRONGEST = 10
"""N-grams of a filter, or of a class, that are named."""
_CLUSTERED = 40
"""N-grams of a filter that are clustered."""
_APART = 0.5
"""Clusters of one filter are so far apart, as a share of its largest answer."""
_BATCH = 128
_SHOWN = 15


class NGram(NamedTuple):
    """Words that filters fired for together.

    Attributes:
        text: The words.
        score: Their share of the margin.
        filters: How many filters chose this window; n-grams of the NB-SVM count as one.
    """

    text: str
    score: float
    filters: int


@dataclass(frozen=True)
class Explanation:
    """A decision, taken apart: the scores of all words and the constant add up to the margin.

    Attributes:
        words: Each word of the text with its score; positive ones speak for the class.
        constant: What no word has a share in: biases, and windows with padding in them.
        margin: Logit of the class less the mean of the others (for two classes, the other).
        ngrams: The windows that filters chose, the largest scores first.
        label: The class.
        probability: Of the class.
    """

    words: list[tuple[str, float]]
    constant: float
    margin: float
    ngrams: list[NGram]
    label: str
    probability: float


class _Winners(NamedTuple):
    """What the filters answer for some texts.

    Attributes:
        largest: Largest sum over time, before activation, with bias `(n, features)`.
        starts: First word of its window, negative where that is padding `(n, features)`.
    """

    largest: np.ndarray
    starts: np.ndarray


def explain(classifier: TextClassifier, text: str, label: str | None = None) -> Explanation:
    """Take a decision apart.

    Args:
        classifier: Whose decision.
        text: The text; one longer than `classifier.max_tokens` is explained as it is read.
        label: The class to explain; the likeliest unless given.

    Raises:
        DataError: There is no such class.
    """
    tokens = classifier.tokens([text])[0]
    logits = classifier.logits_of_tokens([tokens])
    probabilities = classifier.to_probabilities(logits)[0]
    if label is None:
        label = classifier.names[int(probabilities.argmax())]
    elif label not in classifier.names:
        raise DataError(f"There is no class {label!r}; choose from {', '.join(classifier.names)}.")
    chosen = classifier.names.index(label)
    contrast = _contrast(len(classifier.names), chosen)
    margin = float(logits[0] @ contrast)
    words, groups = np.zeros(len(tokens)), defaultdict(lambda: [0.0, 0])
    if tokens:
        scale = classifier.hybrid[0] if classifier.hybrid else 1 / classifier.temperature
        pieces = _pieces(classifier, len(tokens))
        for places in pieces:
            _network_scores(
                classifier, tokens, places, scale / len(pieces) * contrast, words, groups
            )
        if classifier.hybrid:
            _nbsvm_scores(classifier, tokens, classifier.hybrid[1] * contrast, words, groups)
    ngrams = [NGram(name, float(score), count) for name, (score, count) in groups.items()]
    ngrams.sort(key=lambda one: -abs(one.score))
    return Explanation(
        list(zip(tokens, words.tolist(), strict=True)),
        _constant(classifier, tokens, contrast, margin),
        margin,
        ngrams,
        label,
        float(probabilities[chosen]),
    )


def global_view(classifier: TextClassifier, texts: Sequence[str]) -> dict[str, Any]:
    """Say what the filters look for, judged by texts.

    Returns:
        `filters`: for each one `number`, `width`, `firing rate` (share of the texts with a positive
        answer), `weights` (of each class), `ngrams` (the strongest ones with their answers) and
        `clusters` (lists of n-grams that are alike); `dead`: numbers of filters that never fire;
        `classes`: for each class its strongest n-grams with the mean share of its margin.
    """
    parameters = classifier.tables.parameters
    tokens = [words[: classifier.max_tokens] for words in classifier.tokens(texts)]
    ids = [classifier.vocabulary.ids(words) for words in tokens]
    found = _winners(parameters, ids)
    features = parameters.features(found.largest)
    maps = len(parameters.biases[0])
    filters, dead = [], []
    by_class: list[dict[str, list[float]]] = [defaultdict(list) for _ in classifier.names]
    contrasts = parameters.dense @ np.stack(
        [_contrast(len(classifier.names), i) for i in range(len(classifier.names))], axis=1
    )
    for number in range(found.largest.shape[1]):
        width, values = parameters.widths[number // maps], features[:, number]
        answers: dict[str, tuple[float, np.ndarray]] = {}
        for row in np.argsort(-values, kind="stable"):
            if values[row] <= 0:
                break
            start = found.starts[row, number]
            name = _name(tokens[row], start, width)
            if not name:
                continue
            for scores, weight in zip(by_class, contrasts[number], strict=True):
                scores[name].append(float(values[row] * weight))
            if name not in answers and len(answers) < _CLUSTERED:
                terms = _terms(parameters, ids[row], number // maps, number % maps, start)
                answers[name] = (float(values[row]), terms)
        fires = float(np.mean(values > 0)) if len(values) else 0.0
        if not fires:
            dead.append(number)
        filters.append(
            {
                "number": number,
                "width": width,
                "firing rate": fires,
                "weights": dict(
                    zip(classifier.names, parameters.dense[number].tolist(), strict=True)
                ),
                "ngrams": [(name, value) for name, (value, _) in answers.items()][:STRONGEST],
                "clusters": _clusters(answers),
            }
        )
    strongest = {}
    for label, scores in zip(classifier.names, by_class, strict=True):
        totals = [(name, sum(values) / max(1, len(texts))) for name, values in scores.items()]
        strongest[label] = sorted(totals, key=lambda pair: -pair[1])[:STRONGEST]
    return {"filters": filters, "dead": dead, "classes": strongest}


def page(
    explanations: Explanation | Sequence[Explanation],
    path: str | PathLike,
    *,
    title: str = "Why these texts got their classes",
    command: str = "",
) -> None:
    """Write explanations as one self-contained page.

    Args:
        explanations: One or several; every word in them is escaped.
        path: Of the HTML file.
        title: Of the page.
        command: That made it.

    Raises:
        ConvsuiteError: The file cannot be written.
    """
    if isinstance(explanations, Explanation):
        explanations = [explanations]
    built = Page(
        title,
        "Coloured words speak for the class or against it. The scores of all words and the "
        "constant add up to the margin, exactly.",
    )
    if command:
        built.command(command)
    for number, one in enumerate(explanations, 1):
        built.heading(f"Text {number}: {one.label} ({100 * one.probability:.1f} %)")
        built.words(
            one.words,
            f"Margin {one.margin:+.3f} = words {sum(score for _, score in one.words):+.3f}, "
            f"constant {one.constant:+.3f}",
        )
        built.table(
            ["N-gram", "Score", "Filters"],
            [(ngram.text, ngram.score, ngram.filters) for ngram in one.ngrams[:_SHOWN]],
            "What filters fired for, the largest shares first",
        )
    built.write(path)


def global_page(
    view: dict[str, Any],
    path: str | PathLike,
    *,
    title: str = "What the filters look for",
    command: str = "",
) -> None:
    """Write what `global_view` found as one self-contained page.

    Raises:
        ConvsuiteError: The file cannot be written.
    """
    built = Page(
        title,
        f"{len(view['filters'])} filters, of which {len(view['dead'])} never fire on these texts. "
        "N-grams that a filter answers for different reasons stand in clusters of their own.",
    )
    if command:
        built.command(command)
    built.table(
        ["Class", "N-grams", "Share of the margin"],
        [
            (name, words, score)
            for name, ngrams in view["classes"].items()
            for words, score in ngrams
        ],
        "The n-grams that speak most for a class, over all texts",
    )
    fire = [one for one in view["filters"] if one["ngrams"]]
    fire.sort(key=lambda one: -max(abs(weight) for weight in one["weights"].values()))
    built.table(
        ["Filter", "Width", "Fires in", "Speaks most for", "N-grams, in clusters"],
        [
            (
                one["number"],
                one["width"],
                f"{100 * one['firing rate']:.0f} %",
                max(one["weights"], key=one["weights"].get),
                " | ".join(", ".join(cluster) for cluster in one["clusters"]),
            )
            for one in fire
        ],
        "All filters that fire, the most decisive ones first",
    )
    built.write(path)


def _contrast(classes, chosen):
    """Return what makes the margin of a class out of the logits `(K,)`."""
    contrast = np.full(classes, -1 / max(1, classes - 1))
    contrast[chosen] = 1.0
    return contrast


def _pieces(classifier, length):
    """Return the places of the words of each piece that the network reads."""
    return cut(np.arange(length), classifier.max_tokens, classifier.long)


def _gains(parameters, largest):
    """Return activation / sum, so that the activation is a multiple of a linear sum."""
    if parameters.activation == "relu":
        return (largest > 0).astype(np.float64)
    safe = np.where(largest == 0, 1, largest)
    return np.where(largest == 0, 1.0, np.tanh(largest) / safe)


def _network_scores(classifier, tokens, places, contrast, words, groups):
    """Add the scores of one piece to those of its words, and of its windows to the groups."""
    parameters = classifier.tables.parameters
    ids = classifier.vocabulary.ids([tokens[place] for place in places])
    found = _winners(parameters, [ids])
    weights = parameters.dense.astype(np.float64) @ contrast
    weights *= _gains(parameters, found.largest[0].astype(np.float64))
    maps = len(parameters.biases[0])
    for number, kernel in enumerate(parameters.kernels):
        chosen = slice(number * maps, (number + 1) * maps)
        starts, factors = found.starts[0, chosen], weights[chosen]
        scores = np.zeros(maps)
        for offset, matrix in enumerate(kernel.astype(np.float64)):
            at = starts + offset
            inside = (at >= 0) & (at < len(ids))
            vectors = parameters.table[ids[at[inside]]].astype(np.float64)
            terms = np.einsum("md,dm->m", vectors, matrix[:, inside]) * factors[inside]
            np.add.at(words, places[at[inside]], terms)
            scores[inside] += terms
        for start, score, factor in zip(starts, scores, factors, strict=True):
            name = _name([tokens[place] for place in places], start, len(kernel))
            if name and factor:
                groups[name][0] += score
                groups[name][1] += 1


def _nbsvm_scores(classifier, tokens, contrast, words, groups):
    """Add the weights of the n-grams that the NB-SVM knows to those of their words."""
    places = defaultdict(list)
    least, most = classifier.nbsvm.ngrams
    for order in range(least, most + 1):
        for start in range(len(tokens) - order + 1):
            places[" ".join(tokens[start : start + order])].append((start, order))
    for name, found in places.items():
        weight = classifier.nbsvm.weights_of(name)
        if weight is None:
            continue
        score = float(weight @ contrast)
        # It counts once, however often it occurs.
        for start, order in found:
            words[start : start + order] += score / (len(found) * order)
        groups[name][0] += score
        groups[name][1] += 1


def _constant(classifier, tokens, contrast, margin):
    """Return the share of the margin that belongs to no word, without using the words' shares."""
    if not tokens:
        return margin
    parameters = classifier.tables.parameters
    scale = classifier.hybrid[0] if classifier.hybrid else 1 / classifier.temperature
    pieces = _pieces(classifier, len(tokens))
    found = _winners(
        parameters,
        [classifier.vocabulary.ids([tokens[place] for place in places]) for places in pieces],
    )
    gains = _gains(parameters, found.largest.astype(np.float64)).mean(axis=0)
    biases = np.concatenate(parameters.biases).astype(np.float64)
    constant = scale * float(
        (gains * biases) @ (parameters.dense.astype(np.float64) @ contrast)
        + parameters.dense_bias @ contrast
    )
    if classifier.hybrid:
        constant += classifier.hybrid[1] * float(classifier.nbsvm.bias @ contrast)
    return constant


def _winners(parameters: Parameters, ids: Sequence[np.ndarray]) -> _Winners:
    """Return largest sums and their windows, of texts without padding."""
    features = parameters.dense.shape[0]
    largest = np.empty((len(ids), features), np.float32)
    starts = np.empty((len(ids), features), np.int64)
    widest = max(parameters.widths)
    order = np.argsort([len(row) for row in ids], kind="stable")
    for first in range(0, len(order), _BATCH):
        part = order[first : first + _BATCH]
        batch = pad([ids[i] for i in part], 1, widest)
        before = max(LEFT, widest - 1)
        vectors = parameters.table[batch]
        sums = []
        for kernel, bias in zip(parameters.kernels, parameters.biases, strict=True):
            count = batch.shape[1] - len(kernel) + 1
            total = sum(vectors[:, j : j + count] @ matrix for j, matrix in enumerate(kernel))
            sums.append((total.max(axis=1) + bias, total.argmax(axis=1) - before))
        largest[part] = np.concatenate([one for one, _ in sums], axis=1)
        starts[part] = np.concatenate([one for _, one in sums], axis=1)
    return _Winners(largest, starts)


def _name(tokens, start, width):
    """Return the words of a window; empty for one of padding alone."""
    return " ".join(tokens[max(0, start) : max(0, start + width)])


def _terms(parameters, ids, convolution, map_, start):
    """Return the answer of a filter to each place of a window `(width,)`."""
    kernel = parameters.kernels[convolution][:, :, map_]
    at = start + np.arange(len(kernel))
    inside = (at >= 0) & (at < len(ids))
    terms = np.zeros(len(kernel))
    rows = parameters.table[ids[at[inside]]]
    terms[inside] = np.sum(rows * kernel[inside], axis=1)
    return terms


def _clusters(answers):
    """Return lists of n-grams to whose places a filter answers alike, the strongest first."""
    from scipy.cluster.hierarchy import fcluster, linkage

    names = list(answers)
    if len(names) < 2:
        return [names] if names else []
    largest = max(value for value, _ in answers.values())
    tree = linkage(np.stack([terms for _, terms in answers.values()]), "average")
    numbers = fcluster(tree, _APART * largest, "distance")
    groups = defaultdict(list)
    for name, number in zip(names, numbers, strict=True):
        groups[number].append(name)
    return list(groups.values())

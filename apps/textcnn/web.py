"""The tab of sentence classification on the page of `convsuite web`."""

import functools

import gradio

from shared import assets, web
from shared import weights as installed

from . import data
from .classifier import APP, TextClassifier
from .explain import Explanation

TITLE = "Sentences"
_SAMPLES = {
    "mr-en": "opinions.csv",
    "sst2-en": "opinions.csv",
    "trec-en": "questions.txt",
    "news-zh": "headlines-zh.txt",
    "hotel-zh": "hotel-zh.txt",
}
_LONGEST = 20_000
_NGRAMS = 12


def build() -> None:
    """Add the text, the label, and the words that speak for it, live while one types."""
    cards = {card.name: card for card in installed.cards(APP)}
    first = next((name for name in _SAMPLES if name in cards), next(iter(cards), None))
    with gradio.Row():
        with gradio.Column(scale=1, min_width=280):
            network = gradio.Dropdown(
                label="Classifier",
                choices=[(f"{card.name} · {card.summary}", card.name) for card in cards.values()],
                value=first,
            )
            text = gradio.Textbox(
                label="Text",
                value=_sample(first),
                lines=4,
                max_length=_LONGEST,
                info="The answer follows while you type.",
            )
            names = gradio.Label(label="What it is", num_top_classes=6)
        with gradio.Column(scale=2, min_width=320):
            words = gradio.HighlightedText(
                label="Words that speak for it (1) and against it (-1)",
                show_legend=True,
                combine_adjacent=False,
            )
            ngrams = gradio.Dataframe(
                label="What filters fired for",
                headers=["N-gram", "Score", "Filters"],
                interactive=False,
            )
            sums = gradio.Markdown()
    network.change(lambda name: _SAMPLES.get(name, ""), network, text, show_progress="hidden")
    gradio.on(
        triggers=[text.input, text.change],
        fn=_update,
        inputs=[text, network],
        outputs=[names, words, ngrams, sums],
        trigger_mode="always_last",
        show_progress="hidden",
    )


def _sample(name: str | None) -> str:
    """Return a text that a classifier has an answer for."""
    if name not in _SAMPLES:
        return ""
    return next(data.stream(assets.samples_dir() / "sentences" / _SAMPLES[name]))[0].text


@functools.lru_cache(maxsize=4)
def _classifier(name: str) -> TextClassifier:
    """Open a classifier when its first text arrives."""
    return TextClassifier.from_weights(name)


@web.shows_errors
def _update(text: str, network: str | None) -> tuple:
    """Return the values of the names, the words, the n-grams and the sums."""
    if network is None or not text.strip():
        return None, None, None, ""
    classifier = _classifier(network)
    prediction = classifier([text])[0]
    explanation = classifier.explain(text)
    probabilities = dict(zip(classifier.names, map(float, prediction.probabilities), strict=True))
    rows = [
        [ngram.text, round(ngram.score, 3), ngram.filters] for ngram in explanation.ngrams[:_NGRAMS]
    ]
    return probabilities, _coloured(explanation), rows, _sums(explanation)


def _coloured(explanation: Explanation) -> list[tuple[str, float]]:
    """Return the words with their scores, the largest of which becomes 1."""
    largest = max((abs(score) for _, score in explanation.words), default=0.0) or 1.0
    return [(f"{word} ", score / largest) for word, score in explanation.words]


def _sums(explanation: Explanation) -> str:
    words = sum(score for _, score in explanation.words)
    return (
        f"Margin of *{explanation.label}*: {explanation.margin:+.3f} = words {words:+.3f}, "
        f"constant {explanation.constant:+.3f}. The sum is exact."
    )

"""The section of sentence classification on the page of `convsuite demo`."""

import csv
from pathlib import Path

from shared import demo
from shared.report import Page

from .classifier import TextClassifier

_SHOWN = (
    ("mr-en", "opinions.csv", "What people think of films"),
    ("trec-en", "questions.txt", "What a question asks for"),
    ("news-zh", "headlines-zh.txt", "What Chinese headlines are about"),
    ("hotel-zh", "hotel-zh.txt", "What guests think of Chinese hotels"),
)
_EXPLAINED = 9


def build(page: Page, out: Path) -> None:
    """Show answers with the words that they rest on, and what filters look for."""
    _show_table(page, out)
    for weights, name, title in _SHOWN:
        page.heading(title, level=3)
        done = demo.convsuite(
            "textcnn", "explain", demo.sample(f"sentences/{name}"), "--weights", weights, "--json"
        )
        page.command(done.command)
        for one in done.answer["explanations"][:_EXPLAINED]:
            told = sum(score for _, score in one["words"])
            page.words(
                one["words"],
                f"{one['label']}, {100 * one['probability']:.0f} %: margin {one['margin']:+.2f} = "
                f"words {told:+.2f}, constant {one['constant']:+.2f}",
            )
    page.heading("What filters look for", level=3)
    source = demo.sample("sentences/opinions.csv")
    done = demo.convsuite("textcnn", "explain", source, "--global", "--weights", "mr-en", "--json")
    page.command(done.command)
    page.table(
        ["Class", "N-grams of the sample that speak most for it"],
        [
            (name, ", ".join(words for words, _ in ngrams[:6]))
            for name, ngrams in done.answer["classes"].items()
        ],
        "Sums of all filters that fired for an n-gram",
    )
    _show_card(page)


def _show_table(page, out):
    page.heading("From a table of texts to a table of answers", level=3)
    answers = out / "answers.csv"
    done = demo.convsuite(
        "textcnn", "predict", demo.sample("sentences/opinions.csv"), "--weights", "mr-en",
        "--keep", "--out", answers, "--overwrite",
    )  # fmt: skip
    page.command(done.command)
    with answers.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    page.table(
        ["Text", "As written", "Answer", "Probability"],
        [
            (row["text"], row["input_label"], row["label"], f"{float(row['probability']):.2f}")
            for row in rows
        ],
        "Sentences of our own, in no training set",
    )


def _show_card(page):
    rows = []
    for weights, _, _ in _SHOWN:
        classifier = TextClassifier.from_weights(weights)
        rows.append((weights, len(classifier.vocabulary) - 2, ", ".join(classifier.names)))
    page.table(["Weights", "Words", "Classes"], rows, "What ships")

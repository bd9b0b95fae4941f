"""The section of sentence classification on the page of `convsuite demo`."""

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
_EXPLAINED = 4


def build(page: Page, out: Path) -> None:
    """Show answers with the words that they rest on, and what filters look for."""
    for weights, name, title in _SHOWN:
        page.heading(title, level=3)
        source = demo.sample(f"sentences/{name}")
        answers = out / f"{weights}.jsonl"
        done = demo.convsuite(
            "textcnn", "predict", source, "--weights", weights, "--keep", "--out", answers,
            "--overwrite", "--quiet",
        )  # fmt: skip
        page.command(done.command)
        _show_answers(page, answers)
        done = demo.convsuite(
            "textcnn", "explain", source, "--weights", weights, "--count", _EXPLAINED, "--json"
        )
        page.command(done.command)
        for one in done.answer["explanations"]:
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


def _show_answers(page, answers):
    import json

    rows = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
    # The label of the sample, where there is one, stands beside the answer.
    is_known = "input_label" in rows[0]
    page.table(
        ["Text", "Answer", "Probability", *(["As written"] if is_known else [])],
        [
            (row["text"], row["label"], f"{row['probability']:.2f}")
            + ((row["input_label"],) if is_known else ())
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

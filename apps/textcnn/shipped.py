"""The weights that ship: how each is trained again."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shared import assets
from shared.datasets import sentences
from shared.errors import DataError

from . import data, text, train, vectors
from .classifier import APP
from .data import Rows
from .train import Recipe, Trained

_RESEARCH = "non-commercial: the texts are for research"
_ENGLISH, _CHINESE = "vectors/glove6B_50d_subset.npz", "vectors/tencent_char_200d.npz"
_GLOVE = "word vectors GloVe 6B (PDDL)"
_TENCENT = "character vectors of Tencent AI Lab (CC BY 3.0)"


def names() -> list[str]:
    """Return the names of all weights that ship."""
    return list(_RECIPES)


def default_folder() -> Path:
    """Return where they lie."""
    return assets.weights_dir() / APP


def train_weights(name: str, out: Path, folder: Path, seed: int = 0, **options: Any) -> Trained:
    """Train shipped weights again.

    Args:
        name: One of `names`.
        out: Folder of the weights.
        folder: Holds the texts in `mr`, `trec`, `sst`, `zh_news`, `zh_hotel`, and `vectors`.
        seed: Of the training.
        **options: As of `train.train`.

    Raises:
        DataError: The texts are missing, or there is a training already.
    """
    if name not in _RECIPES:
        raise DataError(f"no shipped weights are called {name}; there are: {', '.join(names())}.")
    load, vector_file, recipe, about = _RECIPES[name]
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of texts; name it with --data.")
    learned, dev, test = load(folder)
    kind = text.choose_tokeniser(learned.texts) if recipe.tokeniser == "auto" else recipe.tokeniser
    wanted = {word for one in learned.texts for word in text.tokenise(one, kind)}
    return train.train(
        learned,
        out / f"{name}.keras",
        recipe,
        test=test,
        dev=dev,
        vectors=vectors.read(folder / vector_file, wanted, recipe.extend),
        seed=seed,
        licence=_RESEARCH,
        **about,
        **options,
    )


def _rows(found: sentences.Sentences, name: str, words: dict[str, str] | None = None) -> Rows:
    """Return texts, their labels as words where they are numbers or short."""
    labels = [words[label] for label in found.labels] if words else found.labels
    return Rows(tuple(found.texts), tuple(labels), name)


def _fold(rows: Rows, k: int) -> tuple[Rows, None, Rows]:
    """Return all but the first of k folds, and the first."""
    learned, held = data.folds(rows, k, 0)[0]
    return rows.chosen(learned), None, rows.chosen(held)


def _mr(folder):
    words = {"pos": "positive", "neg": "negative"}
    return _fold(_rows(sentences.load_mr(folder / "mr"), "MR", words), 10)


def _trec(folder):
    learned, test = sentences.load_trec(folder / "trec")
    return _rows(learned, "TREC"), None, _rows(test, "TREC test")


def _sst2(folder):
    # Phrases of a sentence are no test of another phrase of it: sentences stop the training.
    words = {"0": "negative", "1": "positive"}
    sides = sentences.load_sst(folder / "sst", phrases=True, binary=True)
    return tuple(_rows(side, "SST-2", words) for side in sides)


def _news(folder):
    learned, test = (
        sentences.load_thucnews(folder / "zh_news" / f"{side}.tsv") for side in ("train", "test")
    )
    return _rows(learned, "headlines"), None, _rows(test, "headlines test")


def _hotel(folder):
    found = sentences.load_chnsenticorp(folder / "zh_hotel" / "ChnSentiCorp_htl_all.csv")
    return _fold(_rows(found, "hotel reviews", {"0": "bad", "1": "good"}), 5)


def _about(summary: str, source: str) -> dict[str, str]:
    return {"summary": summary, "source": source}


_DEFAULT = dataclasses.replace(train.DEFAULT, hybrid=True)
_CHARACTERS = dataclasses.replace(
    _DEFAULT, architecture=dataclasses.replace(_DEFAULT.architecture, widths=(2, 3, 4))
)
_RECIPES: dict[str, tuple[Callable, str, Recipe, dict[str, str]]] = {
    "mr-en": (
        _mr,
        _ENGLISH,
        _DEFAULT,
        _about(
            "English opinions on films: negative, positive",
            f"MR (Pang & Lee 2005), nine of ten folds; {_GLOVE}",
        ),
    ),
    "sst2-en": (
        _sst2,
        _ENGLISH,
        _DEFAULT,
        _about(
            "English opinions, learned from phrases: negative, positive",
            f"Stanford Sentiment Treebank (Socher et al. 2013), phrases of train; {_GLOVE}",
        ),
    ),
    "trec-en": (
        _trec,
        _ENGLISH,
        _DEFAULT,
        _about(
            "English questions: what is asked for (ABBR, DESC, ENTY, HUM, LOC, NUM)",
            f"TREC questions (Li & Roth 2002), train; {_GLOVE}",
        ),
    ),
    "news-zh": (
        _news,
        _CHINESE,
        # Without the rarest characters the file stays below 5 MB.
        dataclasses.replace(_CHARACTERS, min_count=2),
        _about(
            "Chinese headlines: ten subjects",
            f"10,000 headlines of THUCNews (Sun et al. 2016); {_TENCENT}",
        ),
    ),
    "hotel-zh": (
        _hotel,
        _CHINESE,
        dataclasses.replace(_CHARACTERS, max_tokens=300),
        _about(
            "Chinese reviews of hotels: bad, good",
            f"ChnSentiCorp hotel reviews, four of five folds; {_TENCENT}",
        ),
    ),
}

"""Made-up sentences whose class hangs on a few words, and classifiers trained on them."""

import dataclasses

import numpy as np
import pytest

from apps.textcnn import train
from apps.textcnn.data import Rows
from apps.textcnn.model import Architecture

FILLERS = [f"filler{number}" for number in range(30)]
SIGNS = {
    "bad": ("awful", "boring", "not good", "dull"),
    "good": ("lovely", "funny", "not bad", "bright"),
    "so-so": ("average", "fair enough", "middling", "okay"),
}


def made_rows(count, classes=2, seed=0, shares=None):
    """Return texts of a few fillers around one sign of their class."""
    rng = np.random.default_rng(seed)
    names = list(SIGNS)[:classes]
    texts, labels = [], []
    for number in range(count):
        name = names[number % classes] if shares is None else rng.choice(names, p=shares)
        words = list(rng.choice(FILLERS, rng.integers(1, 6)))  # few enough for one graph
        words.insert(rng.integers(len(words) + 1), str(rng.choice(SIGNS[name])))
        texts.append(" ".join(words))
        labels.append(str(name))
    return Rows(tuple(texts), tuple(labels), "made", ())


SMALL = dataclasses.replace(
    train.DEFAULT,
    architecture=Architecture(widths=(2, 3), maps=12),
    dim=16,
    epochs=4,
    learning_rate=1e-2,
)


@pytest.fixture(scope="session")
def made():
    return made_rows


@pytest.fixture(scope="session")
def small():
    return SMALL


@pytest.fixture(scope="session")
def two_classes():
    """A classifier of two classes."""
    return train.train(made_rows(300), None, SMALL, quiet=True).classifier


@pytest.fixture(scope="session")
def three_classes():
    """A hybrid of three classes."""
    recipe = dataclasses.replace(SMALL, hybrid=True)
    return train.train(made_rows(300, 3), None, recipe, quiet=True).classifier

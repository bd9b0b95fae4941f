"""What ships reads its test pictures as well as the cards say."""

import functools

import numpy as np
import pytest

from shared import assets, backend, datasets, weights
from shared.backbones import spec, train, trunks

# Percentage points: processors and frameworks differ in the last digits of what a network returns.
MARGIN = {"digits": 0.2, "pictures": 0.5}


@functools.cache
def digits_in(folder):
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}")
    return datasets.load_digits(folder)


def inputs_and_classes(entry, card, data):
    """Return the test examples that the figure of a card is about."""
    moments = trunks.input_statistics(entry.name)
    if train.learns_digits(entry.name):
        digits = digits_in(data / "digits")
        return train.digit_inputs(digits.test_images, entry, moments), digits.test_labels
    file = data / "cifar" / "cifar10_test_2k.zip"
    if not file.is_file():
        pytest.skip(f"there is no {file}")
    pictures = datasets.load_labelled(file, entry.size, tuple(card.settings["labels"]))
    return train.picture_inputs(pictures.images, entry, moments), pictures.labels


@pytest.mark.parametrize(
    "name", ["lecun1989", "lecun1990", "lenet5", "lenet5_softmax", "lenet5_modern", "resnet20"]
)
def test_test_errors_are_those_of_the_cards(name, data):
    entry = spec(name)
    path = assets.weights_dir() / train.APP / f"{name}.keras"
    card = weights.read_card(path)
    inputs, classes = inputs_and_classes(entry, card, data)
    forward = backend.compiled(weights.load_model(path, train.APP))
    answers = np.concatenate(
        [forward(inputs[i : i + 500]).argmax(1) for i in range(0, len(inputs), 500)]
    )
    margin = MARGIN["digits" if train.learns_digits(name) else "pictures"]
    error = 100 * np.mean(answers != classes)
    assert len(classes) == card.results["test examples"]
    assert error <= card.results["test error, %"] + margin

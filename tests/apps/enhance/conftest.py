"""Small trained material for the tests of image enhancement."""

import numpy as np
import pytest

from shared import images


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """A photograph, uint8."""
    from skimage import data

    return data.coffee()[100:260, 150:350].copy()


def write_exposure_pairs(folder, photo, count=12):
    """Write pairs whose target has the same exposure whatever that of the input.

    Equal colours change differently from picture to picture, which no table can do.
    """
    for number in range(count):
        good = np.roll(photo, 17 * number, axis=1)
        gain = 0.2 + 0.8 * number / (count - 1)
        images.write(folder / "input" / f"{number:02}.png", (gain * good).astype("uint8"))
        images.write(folder / "target" / f"{number:02}.png", (0.7 * good).astype("uint8"))


@pytest.fixture
def pair_folder(tmp_path, photo):
    """A folder of 12 pairs that no table reproduces."""
    write_exposure_pairs(tmp_path / "pairs", photo)
    return tmp_path / "pairs"


@pytest.fixture(scope="session")
def trained(tmp_path_factory, photo):
    """A network trained for some seconds on such pairs."""
    from apps.enhance.train import Recipe, train_pairs

    folder = tmp_path_factory.mktemp("trained")
    write_exposure_pairs(folder / "pairs", photo)
    recipe = Recipe(steps=150, views=60, learning_rate=2e-3)
    return train_pairs(folder / "pairs", folder / "look.keras", recipe=recipe, quiet=True)

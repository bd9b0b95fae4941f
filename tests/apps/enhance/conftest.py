"""Small trained material for the tests of image enhancement."""

import numpy as np
import pytest

from shared import images


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """A photograph, uint8."""
    from skimage import data

    return data.coffee()[:240, :320].copy()


@pytest.fixture
def pair_folder(tmp_path, photo):
    """A folder of 12 pairs: the darker half of each picture is lifted, which no table can do."""
    folder = tmp_path / "pairs"
    for number in range(12):
        before = np.roll(photo, 25 * number, axis=1)
        after = before.astype(float)
        after[:, :160] *= 0.5
        images.write(folder / "input" / f"{number:02}.png", before)
        images.write(folder / "target" / f"{number:02}.png", after.astype("uint8"))
    return folder

"""Picture metrics against scikit-image on 8-bit pictures, and known values; shares."""

import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from shared import metrics


def test_psnr_equals_scikit_image_on_bytes(rng):
    a, b = rng.random((2, 20, 30, 3))
    expected = peak_signal_noise_ratio(np.round(a * 255), np.round(b * 255), data_range=255)
    assert metrics.psnr(a, b) == pytest.approx(expected)


def test_values_outside_the_range_are_clipped():
    assert metrics.psnr(np.full((4, 4, 3), 1.7), np.ones((4, 4, 3))) == np.inf


def test_ssim_falls_with_noise_and_takes_tiny_pictures(rng):
    image = rng.random((40, 40, 3)).astype("float32")
    noisy = [np.clip(image + rng.normal(0, s, image.shape), 0, 1) for s in (0, 0.05, 0.3)]
    scores = [metrics.ssim(n.astype("float32"), image) for n in noisy]
    assert scores[0] == pytest.approx(1)
    assert scores[0] > scores[1] > scores[2]
    assert metrics.ssim(image[:4, :4], image[:4, :4]) == pytest.approx(1)


def test_colour_difference_of_greys_is_the_lightness_difference():
    grey = np.full((3, 3, 3), 0.5)
    white = np.ones((3, 3, 3))
    # L* of sRGB 0.5 is 53.39.
    assert metrics.colour_difference(grey, white) == pytest.approx(100 - 53.39, abs=0.01)


@pytest.mark.parametrize(("right", "total"), [(0, 7), (83, 111), (5, 5), (1, 2)])
def test_wilson_solves_its_equation(right, total):
    z, share = 1.959964, right / total
    for bound in metrics.wilson(right, total):
        assert abs(share - bound) == pytest.approx(
            z * math.sqrt(bound * (1 - bound) / total), abs=1e-5
        )
    low, high = metrics.wilson(right, total)
    assert 0 <= low <= share <= high <= 1


def test_wilson_of_nothing_and_of_nonsense():
    assert metrics.wilson(0, 0) == (0, 1)
    with pytest.raises(ValueError, match="must"):
        metrics.wilson(3, 2)

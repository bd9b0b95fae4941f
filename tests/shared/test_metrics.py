"""Picture metrics against scikit-image, SciPy and plain loops, and known values; shares."""

import math

import cv2
import numpy as np
import pytest
from scipy.stats import wasserstein_distance
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


def textured(rng, *shape):
    """Return noise with neighbours that are alike."""
    rough = rng.random(shape)
    return ((rough + np.roll(rough, 1, 0) + np.roll(rough, 1, 1)) / 3).astype("float32")


def step(a, b):
    return float(np.mean([abs(x - y) for x, y in zip(np.ravel(a), np.ravel(b), strict=True)]))


@pytest.mark.parametrize("shape", [(7, 9, 3), (6, 5)])
def test_tileability_equals_loops(rng, shape):
    image = textured(rng, *shape)
    height, width = shape[:2]
    inside_y = max(step(image[y], image[y + 1]) for y in range(height - 1))
    inside_x = max(step(image[:, x], image[:, x + 1]) for x in range(width - 1))
    y = step(image[0], image[-1]) / inside_y
    x = step(image[:, 0], image[:, -1]) / inside_x
    assert metrics.tileability(image, "x") == pytest.approx(x)
    assert metrics.tileability(image, "y") == pytest.approx(y)
    assert metrics.tileability(image) == pytest.approx(max(x, y))


def test_tileability_knows_a_period_wherever_it_is_cut():
    y, x = np.mgrid[:32, :48] * 2 * np.pi
    wave = np.sin(3 * y / 32) + np.cos(2 * x / 48)
    for shift in (0, 5, 17):
        assert metrics.tileability(np.roll(wave, shift, (0, 1))) <= 1.01
    cut = wave[:, :36]
    assert metrics.tileability(cut, "x") > 5
    assert metrics.tileability(cut, "y") <= 1.01


def test_tileability_of_even_pictures_and_of_nonsense():
    assert metrics.tileability(np.full((4, 4, 3), 0.3)) == 0
    for image, axes in [(np.ones((1, 4)), "xy"), (np.ones((4, 4)), "z"), (np.ones((4, 4)), "")]:
        with pytest.raises(ValueError, match=r"must be|no steps"):
            metrics.tileability(image, axes)


def correlation(a, b):
    """Return the zero-mean normalised cross-correlation; each channel has its own mean."""
    a, b = (p.reshape(-1, p.shape[-1] if p.ndim == 3 else 1).astype("float64") for p in (a, b))
    a, b = a - a.mean(0), b - b.mean(0)
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def best_correlations(image, exemplar, patch, stride, nearest):
    found = []
    for top in range(0, image.shape[0] - patch + 1, stride):
        for left in range(0, image.shape[1] - patch + 1, stride):
            wanted = image[top : top + patch, left : left + patch]
            places = [
                correlation(wanted, exemplar[y : y + patch, x : x + patch])
                for y in range(exemplar.shape[0] - patch + 1)
                for x in range(exemplar.shape[1] - patch + 1)
                if abs(y - top) >= nearest or abs(x - left) >= nearest
            ]
            if places:
                found.append(max(places))
    return found


@pytest.mark.parametrize("channels", [(), (3,)])
def test_novelty_and_repetition_equal_loops(rng, channels):
    exemplar, image = textured(rng, 15, 18, *channels), textured(rng, 20, 17, *channels)
    image[4:14, 4:14] = 0.2 + 0.5 * exemplar[3:13, 5:15]  # contrast and level do not count
    image[12:18, 0:6] = image[0:6, 8:14]
    expected = best_correlations(image, exemplar, 6, 4, 0)
    novelty = metrics.novelty(image, exemplar, patch=6, stride=4)
    assert novelty.mean == pytest.approx(np.mean(expected), abs=1e-4)
    assert novelty.share == np.mean(np.array(expected) > 0.9) > 0
    expected = best_correlations(image, image, 6, 4, 5)
    repetition = metrics.repetition(image, patch=6, stride=4, nearest=5)
    assert repetition.mean == pytest.approx(np.mean(expected), abs=1e-4)
    assert repetition.share == np.mean(np.array(expected) > 0.9) > 0


def test_novelty_leaves_even_patches_out(rng):
    exemplar = textured(rng, 20, 20, 3)
    half = np.full((8, 16, 3), 0.4, "float32")
    half[:, 8:] = exemplar[5:13, 2:10]
    assert metrics.novelty(half, exemplar, 8, 8) == pytest.approx((1, 1), abs=1e-4)
    even = np.full((20, 20, 3), 0.7, "float32")
    assert metrics.novelty(even, exemplar, 8, 8) == (0, 0)
    # An even place of the exemplar is like nothing.
    assert metrics.novelty(exemplar, even, 8, 8) == (0, 0)
    assert metrics.repetition(even, 8, 8, 4) == (0, 0)
    assert metrics.repetition(exemplar[:8, :8], 8, 8, 4) == (0, 0)


def test_patches_of_large_pictures_are_drawn(rng, monkeypatch):
    exemplar, image = textured(rng, 40, 40, 3), textured(rng, 96, 96, 3)
    image[:48] = np.tile(exemplar[:24], (2, 3, 1))[:, :96]
    every = metrics.novelty(image, exemplar, 12, 6)
    monkeypatch.setattr(metrics, "_SEARCHES", 60 * exemplar[..., 0].size)
    monkeypatch.setattr(metrics, "_FEWEST_PATCHES", 10)
    searches = []
    monkeypatch.setattr(
        cv2,
        "matchTemplate",
        lambda *args, found=cv2.matchTemplate: searches.append(1) or found(*args),
    )
    drawn = metrics.novelty(image, exemplar, 12, 6)
    assert len(searches) == 3 * 60
    assert drawn == metrics.novelty(image, exemplar, 12, 6)
    assert drawn == pytest.approx(every, abs=0.1)
    assert 0.2 < drawn.share < 0.8


def test_novelty_of_a_picture_smaller_than_a_patch(rng):
    with pytest.raises(ValueError, match="smaller than a patch of 32 x 32"):
        metrics.novelty(rng.random((40, 40, 3)), rng.random((40, 31, 3)))


def autocorrelation(image, shifts):
    grey = image @ [0.299, 0.587, 0.114] if image.ndim == 3 else image
    grey = grey - grey.mean()
    height, width = grey.shape
    found = np.zeros((2 * shifts + 1, 2 * shifts + 1))
    for i in range(-shifts, shifts + 1):
        for j in range(-shifts, shifts + 1):
            pairs = [
                grey[y, x] * grey[y + i, x + j]
                for y in range(max(0, -i), min(height, height - i))
                for x in range(max(0, -j), min(width, width - j))
            ]
            found[shifts + i, shifts + j] = np.mean(pairs)
    return found / found[shifts, shifts]


def test_autocorrelation_distance_equals_loops(rng):
    a, b = textured(rng, 11, 14, 3), rng.random((13, 10))
    for shifts in (1, 4, 5):
        difference = autocorrelation(a, shifts) - autocorrelation(b, shifts)
        expected = np.sqrt(np.mean(difference**2))
        assert metrics.autocorrelation_distance(a, b, shifts) == pytest.approx(expected)
    # Half of the shorter side is the largest shift.
    assert metrics.autocorrelation_distance(a, b) == metrics.autocorrelation_distance(a, b, 5)


def test_autocorrelation_distance_sees_order_and_not_place_or_contrast(rng):
    y, x = np.mgrid[:64, :64]
    lattice = np.sin(y * 0.8) * np.sin(x * 0.8)
    moved = 0.5 + 0.1 * np.sin(y * 0.8 + 1) * np.sin(x * 0.8 + 2)
    noise = rng.random((64, 64))
    assert metrics.autocorrelation_distance(moved, lattice) < 0.05
    assert metrics.autocorrelation_distance(noise, lattice) > 0.3
    even = np.full((64, 64), 0.3)
    assert metrics.autocorrelation_distance(even, even) == 0
    assert metrics.autocorrelation_distance(even, noise) < 0.05


def test_regularity_tells_a_lattice_from_a_jumble(rng):
    y, x = np.mgrid[:64, :80]
    lattice = 0.5 + 0.3 * np.sin(y * 0.8) * np.sin(x * 0.6)
    noise = textured(rng, 64, 80, 3)
    assert metrics.regularity(lattice) > 0.9
    assert metrics.regularity(noise) < 0.3
    assert 0.3 < metrics.regularity(lattice + 0.1 * rng.standard_normal(lattice.shape)) < 0.9
    assert metrics.regularity(np.full((32, 32, 3), 0.4)) == 0
    # Light that fades towards the rim rises towards no shift but 0.
    fading = np.exp(-((y - 32) ** 2 + (x - 40) ** 2) / 800)
    assert metrics.regularity(np.repeat(fading[..., None], 3, axis=-1)) < 0.1


def test_sliced_wasserstein_in_one_channel_equals_scipy(rng):
    a, b = rng.gamma(2, 1, (300, 1)), rng.normal(0, 2, (300, 1))
    expected = wasserstein_distance(a[:, 0], b[:, 0]) / b.std()
    found = metrics.sliced_wasserstein(a, b, directions=3, quantiles=4000)
    assert found == pytest.approx(expected, rel=0.01)


def test_sliced_wasserstein_equals_loops(rng):
    a, b = rng.gamma(2, 1, (150, 4)), rng.normal(0, 2, (90, 4))
    axes = np.random.default_rng(7).standard_normal((4, 6))
    distances = []
    for axis in axes.T / np.linalg.norm(axes, axis=0)[:, None]:
        shares = [(i + 0.5) / 20 for i in range(20)]
        gaps = [abs(np.quantile(a @ axis, s) - np.quantile(b @ axis, s)) for s in shares]
        distances.append(np.mean(gaps) / np.std(b @ axis))
    found = metrics.sliced_wasserstein(a, b, directions=6, quantiles=20, seed=7)
    assert found == pytest.approx(np.mean(distances), rel=1e-5)


def test_sliced_wasserstein_of_a_shift_a_shuffle_and_another_unit(rng):
    cloud = rng.standard_normal((500, 8))
    assert metrics.sliced_wasserstein(rng.permutation(cloud), cloud) == pytest.approx(0, abs=1e-6)
    # The mean of |sum of the parts of a unit vector| in 8 dimensions is about that of a normal.
    moved = metrics.sliced_wasserstein(cloud + 1, cloud)
    assert moved == pytest.approx(np.sqrt(2 / np.pi), rel=0.25)
    assert metrics.sliced_wasserstein(10 * cloud + 10, 10 * cloud) == pytest.approx(moved, rel=1e-4)
    assert metrics.sliced_wasserstein(np.ones((5, 2)), np.ones((7, 2))) == 0

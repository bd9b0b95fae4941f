import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import color, data

from apps.enhance import operators
from apps.enhance.operators import OPERATORS, SPOILERS

DATA = os.environ.get("CONVSUITE_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="CONVSUITE_DATA is not set")


def photo(height, width):
    image = cv2.resize(data.astronaut(), (width, height), interpolation=cv2.INTER_AREA)
    return image.astype(np.float32) / np.float32(255)


def psnr(a, b):
    a = np.rint(np.clip(a, 0, 1) * 255) / 255
    return -10 * np.log10(np.mean((a - b) ** 2))


def gaussians(grey, count):
    levels = [grey]
    for _ in range(count):
        levels.append(cv2.pyrDown(levels[-1]))
    return levels


def band(levels, number):
    return levels[number] - cv2.pyrUp(levels[number + 1], dstsize=levels[number].shape[::-1])


def published_curve(values, centre, sigma, alpha, beta):
    offset = values - centre
    distance, sign = abs(offset), np.sign(offset)
    t = np.clip((distance - 0.01) / 0.01, 0, 1)
    tau = t**2 * (t - 2) ** 2
    enhanced = tau * sign * sigma * (distance / sigma) ** alpha + (1 - tau) * offset
    edge = sign * (beta * (distance - sigma) + sigma)
    return centre + np.piecewise(
        offset, [distance <= sigma], [enhanced[distance <= sigma], edge[distance > sigma]]
    )


def direct_local_laplacian(grey, count, **curve):
    """One remapping of the whole picture for each coefficient: the paper's definition."""
    levels = gaussians(grey, count)
    result = levels[-1]
    for number in range(count - 1, -1, -1):
        detail = np.empty_like(levels[number])
        for index in np.ndindex(detail.shape):
            remapped = published_curve(grey, levels[number][index], **curve)
            detail[index] = band(gaussians(remapped, number + 1), number)[index]
        result = detail + cv2.pyrUp(result, dstsize=detail.shape[::-1])
    return result


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("shape", [(1, 1), (2, 9), (37, 53), (64, 64)])
def test_every_operator_keeps_shape_type_and_range(name, shape):
    image = photo(*shape)
    before = image.copy()
    result = OPERATORS[name](image)
    assert result.shape == image.shape
    assert result.dtype == np.float32
    assert np.isfinite(result).all()
    assert result.min() >= 0
    assert result.max() <= 1
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("level", [0, 0.5, 1])
def test_every_operator_survives_an_even_picture(name, level):
    result = OPERATORS[name](np.full((20, 24, 3), level, np.float32))
    assert np.isfinite(result).all()
    assert np.ptp(result) < 1e-3


@pytest.mark.parametrize("name", OPERATORS)
def test_local_flag_tells_whether_a_colour_table_could_do_it(name):
    image = photo(128, 128)
    grey = np.float32(0.45)
    image[8, 8] = image[64, 64] = grey
    dark_place, bright_place = image[:16, :16], image[56:72, 56:72]
    dark_place[:, :8] = 0.2
    bright_place[:, :8] = 0.8
    result = OPERATORS[name](image)
    difference = np.abs(result[8, 8] - result[64, 64]).max()
    assert (difference > 1e-3) == OPERATORS[name].local


def numpy_clahe(grey, clip=2.0, tiles=8):
    """Zuiderveld's method with OpenCV's choices; sides must be multiples of `tiles`."""
    height, width = grey.shape[0] // tiles, grey.shape[1] // tiles
    limit = max(int(clip * height * width / 256), 1)
    curves = np.empty((tiles, tiles, 256))
    for row, column in np.ndindex(tiles, tiles):
        tile = grey[row * height : (row + 1) * height, column * width : (column + 1) * width]
        counts = np.bincount(tile.ravel(), minlength=256)
        excess = np.maximum(counts - limit, 0).sum()
        counts = np.minimum(counts, limit) + excess // 256
        left = excess % 256
        if left:
            counts[:: max(256 // left, 1)][:left] += 1
        curves[row, column] = np.rint(np.cumsum(counts) * 255 / tile.size)
    result = np.empty(grey.shape)
    for y, x in np.ndindex(grey.shape):
        ty, tx = y / height - 0.5, x / width - 0.5
        y0, x0 = int(np.floor(ty)), int(np.floor(tx))
        result[y, x] = sum(
            (1 - abs(ty - row))
            * (1 - abs(tx - column))
            * curves[np.clip(row, 0, tiles - 1), np.clip(column, 0, tiles - 1), grey[y, x]]
            for row in (y0, y0 + 1)
            for column in (x0, x0 + 1)
        )
    return result


def test_clahe_equals_a_numpy_version_on_lightness():
    image = photo(96, 128)

    def lightness(picture):
        return cv2.cvtColor(np.rint(picture * 255).astype(np.uint8), cv2.COLOR_RGB2LAB)[..., 0]

    grey = image[..., :1].repeat(3, axis=2)
    error = np.abs(lightness(operators.clahe(grey)) - numpy_clahe(lightness(grey)))
    assert error.max() < 1.6


def test_clahe_keeps_the_colour():
    image = photo(96, 128) * np.float32(0.4) + np.float32(0.3)
    before, after = color.rgb2lab(image), color.rgb2lab(operators.clahe(image))
    assert np.abs(before[..., 0] - after[..., 0]).mean() > 3
    assert np.percentile(np.abs(before[..., 1:] - after[..., 1:]), 95) < 2


def test_fast_local_laplacian_approaches_the_direct_one():
    # Away from 0 and 1, so that nothing is clipped.
    image = photo(48, 48) * np.float32(0.5) + np.float32(0.25)
    grey = operators.luma(image)
    curve = {"sigma": 0.2, "alpha": 0.4, "beta": 0.6}
    expected = direct_local_laplacian(grey, 3, **curve)

    def error(knots):
        fast = operators.luma(operators.local_laplacian(image, **curve, knots=knots))
        return np.sqrt(np.mean((fast - expected) ** 2))

    change = np.sqrt(np.mean((grey - expected) ** 2))
    assert error(400) < 0.01 * change
    assert error(100) < 0.06 * change
    assert error(10) < change


def test_ten_knots_suffice_for_a_smooth_curve():
    image = photo(48, 48) * np.float32(0.5) + np.float32(0.25)
    grey = operators.luma(image)
    curve = {"sigma": 0.15, "alpha": 1, "beta": 0.3}
    expected = direct_local_laplacian(grey, 3, **curve)
    fast = operators.luma(operators.local_laplacian(image, **curve))
    assert np.mean((fast - expected) ** 2) < 0.1**2 * np.mean((grey - expected) ** 2)


@pytest.mark.parametrize("shape", [(1, 1), (5, 40), (61, 83)])
def test_local_laplacian_with_straight_curve_is_identity(shape):
    image = photo(*shape)
    result = operators.local_laplacian(image, sigma=0.2, alpha=1, beta=1)
    np.testing.assert_allclose(result, image, atol=2e-6)


def test_detail_lifts_contrast_of_texture_and_tone_compresses_the_range():
    x, y = np.meshgrid(np.arange(96), np.arange(96))
    texture = 0.5 + 0.05 * np.sin(x * 0.7) * np.sin(y * 0.7)
    detail = OPERATORS["detail"](np.repeat(texture[..., None], 3, 2).astype(np.float32))
    assert detail.std() > 1.3 * texture.std()
    bars = np.where(x // 6 % 2, 0.1, 0.9)
    tone = OPERATORS["tone"](np.repeat(bars[..., None], 3, 2).astype(np.float32))
    assert 0.2 < np.ptp(tone[48]) < 0.65


def test_log_code_is_twenty_stops_about_middle_grey():
    linear = np.array([0.18 * 2.0**-10, 0.18, 0.36, 0.18 * 2.0**10], np.float32)
    np.testing.assert_allclose(operators.encode_log(linear), [0, 0.5, 0.55, 1], atol=1e-6)


@given(st.floats(0.18 * 2.0**-10, 0.18 * 2.0**10))
@settings(max_examples=100, deadline=None)
def test_log_code_round_trip(value):
    light = np.float32(value)
    assert operators.decode_log(operators.encode_log(light)) == pytest.approx(light, rel=1e-4)


def test_log_code_takes_any_light():
    hostile = np.array([np.nan, np.inf, -np.inf, -1, 0, 1e38], np.float32)
    np.testing.assert_array_equal(operators.encode_log(hostile), [0, 1, 0, 0, 0, 1])


def slow_bilateral(values, sigma_space, sigma_range):
    radius = round(1.5 * sigma_space)
    offsets = np.arange(-radius, radius + 1)
    dy, dx = np.meshgrid(offsets, offsets, indexing="ij")
    near = np.exp(-(dx**2 + dy**2) / (2 * sigma_space**2)) * (dx**2 + dy**2 <= radius**2)
    padded = np.pad(values, radius, mode="reflect")
    result = np.empty_like(values)
    for y, x in np.ndindex(values.shape):
        window = padded[y : y + 2 * radius + 1, x : x + 2 * radius + 1]
        weight = near * np.exp(-((window - values[y, x]) ** 2) / (2 * sigma_range**2))
        result[y, x] = (weight * window).sum() / weight.sum()
    return result


def test_tonemap_equals_a_slow_base_and_detail_split():
    linear = operators.srgb_to_linear(photo(60, 100)).astype(np.float64) + 1e-3
    linear[:, 50:] *= 200
    image = operators.encode_log(linear)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    log = np.log10(luminance)
    base = slow_bilateral(log, sigma_space=2.0, sigma_range=0.4)
    dark, bright = np.percentile(base, [1, 99])
    shown = np.log10(20) / (bright - dark) * (base - bright) + log - base
    expected = np.clip(linear * (10**shown / luminance)[..., None], 0, 1)
    expected = np.where(
        expected <= 0.0031308, 12.92 * expected, 1.055 * expected ** (1 / 2.4) - 0.055
    )
    error = np.abs(operators.tonemap(image) - expected)
    # OpenCV tabulates the range weights.
    assert error.mean() < 5e-4
    assert error.max() < 0.02


def test_tonemap_never_expands_contrast():
    linear = np.linspace(0.4, 0.5, 64, dtype=np.float32)
    image = np.broadcast_to(operators.encode_log(linear)[None, :, None], (64, 64, 3))
    shown = operators.srgb_to_linear(operators.tonemap(np.ascontiguousarray(image)))
    assert shown[32, -1, 0] / shown[32, 0, 0] == pytest.approx(1.25, rel=0.02)


def test_srgb_transfer_equals_scikit_image():
    image = np.linspace(0, 1, 1001, dtype=np.float32)[:, None, None].repeat(3, 2)
    linear = operators.srgb_to_linear(image)
    scikit = color.rgb2xyz(image) @ np.linalg.inv(color.colorconv.xyz_from_rgb).T
    np.testing.assert_allclose(linear, scikit, atol=1e-5)
    np.testing.assert_allclose(operators.linear_to_srgb(linear), image, atol=1e-5)
    np.testing.assert_allclose(operators.linear_to_srgb(np.array([-1.0, 2.0])), [0, 1], atol=1e-6)


@needs_data
@pytest.mark.parametrize(
    ("operator", "folder", "published"),
    [
        ("autocontrast", "fivek", 22.53),
        ("autocontrast", "sice_under", 12.83),
        ("mean_gamma", "fivek", 17.74),
        ("mean_gamma", "sice_under", 20.03),
    ],
)
def test_peers_reproduce_their_published_psnr(operator, folder, published):
    root = Path(DATA) / "enhance" / folder

    def read(path):
        return cv2.imread(str(path))[..., ::-1].astype(np.float32) / np.float32(255)

    scores = [
        psnr(OPERATORS[operator](read(path)), read(root / "target" / path.name))
        for path in sorted((root / "input").iterdir())
    ]
    assert len(scores) >= 12
    assert np.mean(scores) == pytest.approx(published, abs=0.02)


@needs_data
def test_log_code_holds_all_but_the_brightest_lamps():
    for path in sorted((Path(DATA) / "hdr" / "polyhaven").glob("*.hdr")):
        code = operators.encode_log(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
        assert np.mean(code == 1) < 0.002, path.name
        shown = operators.tonemap(code[::4, ::4, ::-1])
        assert 0.15 < shown.mean() < 0.7, path.name


def test_autocontrast_fills_the_range():
    image = photo(64, 64) * np.float32(0.3) + np.float32(0.4)
    low, high = np.percentile(operators.luma(operators.autocontrast(image)), [0.5, 99.5])
    assert low == pytest.approx(0, abs=0.02)
    assert high == pytest.approx(1, abs=0.02)


def test_mean_gamma_moves_the_mean():
    dark = photo(64, 64) ** np.float32(3)
    shown = operators.luma(operators.mean_gamma(dark))
    assert abs(shown.mean() - 0.45) < 0.5 * abs(operators.luma(dark).mean() - 0.45)
    even = np.full((4, 4, 3), 0.1, np.float32)
    np.testing.assert_allclose(operators.mean_gamma(even, target=0.6), 0.6, atol=1e-5)


class Middle:
    """Stands in for a generator: always the value at a given part of the range."""

    def __init__(self, part):
        self.part = part

    def uniform(self, low, high, size=None):
        value = low + self.part * (high - low)
        return value if size is None else np.full(size, value)


@pytest.mark.parametrize("part", [0, 0.3, 1])
def test_spoil_equals_its_definition(part):
    image = photo(24, 30)
    at = Middle(part).uniform
    light = np.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)
    light = np.clip(light * np.exp(at(np.log(0.2), np.log(1.1))) * at(0.85, 1.18), 0, 1)
    shown = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    grey = (shown @ [0.299, 0.587, 0.114])[..., None]
    shown = grey + at(0.6, 1.05) * (shown - grey)
    shown = at(0, 0.5) + at(0.75, 1.1) * (shown - at(0, 0.5)) + at(-0.01, 0.03)
    np.testing.assert_allclose(
        operators.spoil(image, Middle(part)), np.clip(shown, 0, 1), atol=1e-5
    )


@pytest.mark.parametrize("name", SPOILERS)
def test_spoilers_are_reproducible_and_in_range(name):
    image = photo(40, 50)
    first, again, other = (SPOILERS[name](image, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.dtype == np.float32
    assert first.min() >= 0
    assert first.max() <= 1


def test_low_light_is_dark_and_slightly_noisy():
    even = np.full((64, 64, 3), 0.5, np.float32)
    rng = np.random.default_rng(0)
    spoilt = [operators.darken(even, rng) for _ in range(30)]
    assert max(np.mean(image) for image in spoilt) < 0.35
    noise = [image.std(axis=(0, 1)).mean() * 255 for image in spoilt]
    assert 0.2 < np.mean(noise) < 3
    assert operators.spoil(even, rng).std(axis=(0, 1)).max() < 1e-4


def test_expose_brings_any_unit_to_middle_grey(rng):
    linear = np.exp(rng.normal(0, 2, (20, 30, 3))).astype("float32")
    linear[0, 0] = 0
    exposed = operators.expose(linear)
    luminance = exposed.reshape(-1, 3)[1:] @ np.array([0.2126, 0.7152, 0.0722])
    assert np.exp(np.log(luminance).mean()) == pytest.approx(0.18, rel=1e-3)
    np.testing.assert_allclose(operators.expose(1000 * linear), exposed, rtol=1e-4)
    np.testing.assert_array_equal(operators.expose(0 * linear), 0 * linear)

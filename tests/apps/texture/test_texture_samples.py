"""Drawn textures: numbers of texels, seeds, sizes; the files that ship are what is drawn."""

import cv2
import numpy as np
import pytest
from scipy import ndimage

from apps.texture import samples
from shared import assets, images

SHIPPED = assets.samples_dir() / "textures"


@pytest.mark.parametrize("name", samples.GENERATORS)
def test_sizes_and_seeds(name):
    draw = samples.GENERATORS[name].draw
    picture = draw((40, 72), 1)
    assert picture.shape == (40, 72, 3)
    assert picture.dtype == np.float32
    assert 0 <= picture.min() < picture.max() <= 1
    assert picture.std() > 0.05
    assert np.array_equal(picture, draw((40, 72), 1))
    assert np.abs(picture - draw((40, 72), 2)).mean() > 0.02


def shipped(name):
    return images.read(SHIPPED / f"{name}.png")


def count(mask):
    return ndimage.label(ndimage.binary_opening(mask, iterations=1))[1]


def expected(name, picture):
    return samples.GENERATORS[name].texels_per_area * picture[..., 0].size


def test_dots_have_the_promised_number():
    picture = shipped("dots")
    colourful = picture.max(axis=2) - picture.min(axis=2) > 0.22
    # Those that the border cuts count, too: half a pitch more on each side.
    pitch = samples._DOT
    outer = (256 + 0.68 * pitch) ** 2 / 256**2
    assert count(colourful) == pytest.approx(expected("dots", picture) * outer, rel=0.06)


def test_bricks_have_the_promised_number():
    picture = shipped("bricks")
    red = picture[..., 0] - picture[..., 2] > 0.16
    height, length = samples._BRICK
    outer = (1 + height / 256) * (1 + length / 256)
    assert count(red) == pytest.approx(expected("bricks", picture) * outer, rel=0.12)


def test_threads_have_the_promised_pitch():
    """The chequer of over and under repeats after two threads: a peak of the power spectrum."""
    picture = shipped("weave")
    hue = picture[..., 0] - picture[..., 2]
    power = np.abs(np.fft.rfft2(hue - hue.mean()))
    y, x = np.unravel_index(power.argmax(), power.shape)
    threads = 2 * min(y, 256 - y), 2 * x
    assert threads[0] * threads[1] == pytest.approx(expected("weave", picture), rel=0.15)


def test_stones_have_the_promised_number():
    picture = shipped("pebbles")
    light = picture.max(axis=2)
    # Brighter than the gaps of the neighbourhood; the gaps close to a net.
    stones = light / cv2.GaussianBlur(light, (0, 0), 7) > 0.7
    outer = (1 + samples._STONE / 256) ** 2
    found = ndimage.label(ndimage.binary_erosion(stones, iterations=2, border_value=1))[1]
    assert found == pytest.approx(expected("pebbles", picture) * outer, rel=0.15)


@pytest.mark.parametrize("name", ["dots", "wood"])
def test_what_ships_is_what_is_drawn(name):
    drawn = samples.GENERATORS[name].draw((256, 256), 0)
    # Not to the bit: sines and blurs of another machine may round otherwise.
    assert np.abs(drawn - shipped(name)).mean() < 1 / 255


def test_everything_is_written_and_small(tmp_path):
    files = samples.write(tmp_path / "new", side=32)
    assert {file.name for file in files} == {file.name for file in SHIPPED.iterdir()}
    assert all(images.read(file).shape[:2] == (32, 32) for file in files)
    assert sum((SHIPPED / f"{name}.png").stat().st_size for name in samples.GENERATORS) < 700_000

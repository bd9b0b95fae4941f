"""From pictures to inputs: constants, geometry, and what is refused."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import block_reduce

from shared import backbones
from shared.backbones.preprocessing import preprocess, preprocess_whole, to_picture
from shared.errors import ConvsuiteError

VGG = backbones.spec("vgg16")
UNIT = {"mean": (0.49, 0.48, 0.45), "std": (0.25, 0.24, 0.26)}


def spec_of(kind, size=8, channels=3, crop=1.0):
    return dataclasses.replace(
        VGG, name=kind, preprocessing=kind, size=size, channels=channels, crop=crop
    )


@pytest.fixture
def picture(rng):
    return rng.random((8, 8, 3), dtype=np.float32)


@pytest.mark.parametrize("mode", ["caffe", "tf", "torch"])
def test_kinds_of_keras_applications(mode, picture):
    from keras.applications import imagenet_utils

    theirs = imagenet_utils.preprocess_input(255 * picture, "channels_last", mode)
    np.testing.assert_allclose(preprocess(picture, spec_of(mode)), theirs, 0, 1e-4)


@pytest.mark.parametrize("mode", ["caffe", "tf", "torch"])
def test_whole_pictures_keep_their_pixels(mode, rng):
    from keras.applications import imagenet_utils

    picture = rng.random((5, 9, 3), dtype=np.float32)
    theirs = imagenet_utils.preprocess_input(255 * picture, "channels_last", mode)
    np.testing.assert_allclose(preprocess_whole(picture, spec_of(mode)), theirs, 0, 1e-4)
    square = picture[:, :5]
    at_size = preprocess(square, spec_of(mode, size=5))
    np.testing.assert_array_equal(preprocess_whole(square, spec_of(mode)), at_size)


def test_other_kinds(picture):
    red, green, blue = np.moveaxis(255 * picture, -1, 0)
    rounded = np.stack([blue - 104, green - 117, red - 123], -1)
    np.testing.assert_allclose(preprocess(picture, spec_of("caffe_rounded")), rounded, 0, 1e-4)
    hed = np.stack([blue - 104.00699, green - 116.66877, red - 122.67892], -1)
    np.testing.assert_allclose(preprocess(picture, spec_of("hed")), hed, 0, 1e-4)
    lite = (255 * picture - 127) / 128
    np.testing.assert_allclose(preprocess(picture, spec_of("lite")), lite, 0, 1e-5)
    unit = (picture - UNIT["mean"]) / UNIT["std"]
    np.testing.assert_allclose(preprocess(picture, spec_of("unit"), **UNIT), unit, 0, 1e-5)


def test_digits_have_the_levels_of_lenet():
    spec = spec_of("lecun", channels=1)
    assert preprocess(np.zeros((8, 8)), spec) == pytest.approx(np.full((8, 8, 1), -0.1))
    assert preprocess(np.ones((8, 8)), spec) == pytest.approx(np.full((8, 8, 1), 1.175))
    red = preprocess(np.float32([1, 0, 0]) * np.ones((8, 8, 1), np.float32), spec)
    assert red == pytest.approx(np.full((8, 8, 1), 0.299 * 1.275 - 0.1))


@pytest.mark.parametrize(
    "kind", ["caffe", "caffe_rounded", "tf", "torch", "lite", "hed", "unit", "lecun"]
)
def test_the_way_back(kind, picture):
    statistics = UNIT if kind == "unit" else {}
    spec = spec_of(kind)
    batch = preprocess(picture, spec, **statistics)[None]
    np.testing.assert_allclose(to_picture(batch, spec, **statistics)[0], picture, 0, 1e-6)
    far = to_picture(batch + 1000, spec, **statistics)
    assert (far.min(), far.max()) == (1, 1)


def test_the_way_back_of_digits_is_a_grey_picture(rng):
    spec = spec_of("lecun", channels=1)
    digit = rng.random((8, 8), dtype=np.float32)
    back = to_picture(preprocess(digit, spec), spec)
    np.testing.assert_allclose(back, np.repeat(digit[..., None], 3, -1), 0, 1e-6)


def test_the_shorter_side_is_reduced_by_area_and_the_middle_cut_out(rng):
    picture = rng.random((512, 768, 3), dtype=np.float32)
    halved = block_reduce(picture, (2, 2, 1), np.mean)[16:240, 80:304]
    expected = 255 * halved[..., ::-1] - np.float32([103.939, 116.779, 123.68])
    np.testing.assert_allclose(preprocess(picture, VGG), expected, 0, 1e-3)
    turned = preprocess(picture.transpose(1, 0, 2), VGG)
    np.testing.assert_allclose(turned, expected.transpose(1, 0, 2), 0, 1e-3)


def test_crop_says_how_much_of_the_shorter_side_is_seen():
    # A white frame of an eighth of the picture in all is just what a crop of 0.875 leaves out.
    picture = np.ones((256, 256), np.float32)
    picture[16:240, 16:240] = 0
    spec = spec_of("tf", size=224, crop=0.875)
    assert preprocess(picture, spec).max() == -1
    assert preprocess(picture, dataclasses.replace(spec, crop=0.95)).max() == 1
    assert preprocess(picture, spec, size=56).shape == (56, 56, 3)


def test_grey_and_integer_pictures(rng):
    spec = spec_of("torch")
    grey = rng.integers(0, 256, (20, 30), np.uint8)
    colours = np.repeat(grey[..., None], 3, -1)
    expected = preprocess(colours / np.float32(255), spec)
    for same in (grey, grey[..., None], colours, grey.astype(np.uint16) * 257, grey / 255):
        np.testing.assert_allclose(preprocess(same, spec), expected, 0, 1e-6)


@settings(max_examples=40)
@given(st.integers(1, 90), st.integers(1, 90), st.floats(0, 1, width=32))
def test_any_size_makes_the_size_of_the_network(height, width, value):
    found = preprocess(np.full((height, width, 3), value, np.float32), spec_of("tf", crop=0.875))
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, np.full((8, 8, 3), 2 * value - 1), 0, 1e-5)


def test_the_middle_of_a_strip():
    strip = np.zeros((3, 100_000, 3), np.float32)
    strip[:, 49_990:50_010] = 1
    white = np.broadcast_to(255 - np.float32([103.939, 116.779, 123.68]), (224, 224, 3))
    np.testing.assert_allclose(preprocess(strip, VGG), white, 1e-6)
    assert preprocess(strip.transpose(1, 0, 2), VGG).shape == (224, 224, 3)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 4)), "shape"),
        (np.zeros(4), "shape"),
        (np.zeros((1, 4, 4, 3)), "shape"),
        (np.zeros((0, 4, 3)), "shape"),
        (np.full((4, 4, 3), 255.0), "reaches 255: divide"),
        (np.full((4, 4, 3), np.nan), "nan"),
        (np.zeros((4, 4, 3), np.int64), "int64"),
    ],
)
def test_what_is_no_picture_is_refused(image, message):
    with pytest.raises(ConvsuiteError, match=message):
        preprocess(image, VGG)


def test_statistics_belong_to_unit_alone(picture):
    with pytest.raises(ConvsuiteError, match="needs the mean"):
        preprocess(picture, spec_of("unit"), mean=0.5)
    with pytest.raises(ConvsuiteError, match="needs the mean"):
        to_picture(picture, spec_of("unit"))
    with pytest.raises(ConvsuiteError, match="leave out mean and std"):
        preprocess(picture, VGG, **UNIT)

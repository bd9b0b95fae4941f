import dataclasses

import cv2
import numpy as np
import pytest

from apps.texture import features, samples, style
from apps.texture.style import _YIQ, StyleRecipe, StyleTransfer, with_colours_of
from shared import metrics
from shared.errors import ConvsuiteError

QUICK = StyleRecipe(steps=(0, 6))


@pytest.fixture(scope="module")
def content():
    y, x = np.mgrid[:40, :48] / 48
    return np.stack([y, x, 1 - y], axis=-1).astype(np.float32) * 0.8 + 0.1


@pytest.fixture(scope="module")
def transfer(deep, exemplar):
    return StyleTransfer(deep, [exemplar], QUICK)


def with_settings(transfer, **settings):
    return StyleTransfer(transfer.network, transfer._styles, dataclasses.replace(QUICK, **settings))


def test_more_weight_keeps_more_of_the_content(transfer, content):
    few, many = (
        with_settings(transfer, content_weight=weight).stylise(content) for weight in (0.1, 1000)
    )
    assert many.content < few.content
    assert few.style < many.style
    assert few.picture.shape == content.shape


@pytest.mark.backends
def test_style_comes_nearer_and_content_goes(narrow, exemplar, content, monkeypatch):
    monkeypatch.setattr(style, "_SHALLOW_STYLE", ("conv1_1", "pool2"))
    monkeypatch.setattr(style, "_SHALLOW_CONTENT", "conv2_1")
    few = StyleTransfer(narrow(8, 8, 8, 8), [exemplar], QUICK)
    done = few.stylise(content)
    before = few.errors(content, content)
    assert before[0] < 1e-6 < done.content
    assert done.style < 0.5 * before[1]
    assert done.curve == sorted(done.curve, reverse=True)


def test_learned_features_follow_the_weight_of_the_content(hed):
    """On the layers of the paper; the astronaut in a weave, 48 x 48."""
    photograph = cv2.resize(features.photographs()[0], (48, 48), interpolation=cv2.INTER_AREA)
    learned = StyleTransfer(hed, [samples.weave((96, 96))])
    done = {}
    for weight, steps in ((1, 20), (10, 20), (100, 20), (1e9, 3)):
        learned.recipe = StyleRecipe(content_weight=weight, steps=(0, steps))
        done[weight] = learned.stylise(photograph)
    found = [(done[weight].content, done[weight].style) for weight in (1, 10, 100)]
    assert found[0][0] > found[1][0] > found[2][0]
    assert found[0][1] < found[1][1] < found[2][1]
    assert metrics.psnr(done[1e9].picture, photograph) > 35
    assert metrics.psnr(done[100].picture, photograph) < 25


def test_colours_are_kept(transfer, content):
    done = with_settings(transfer, keep_colour=True, content_weight=0.1).stylise(content)
    before, after = (picture @ _YIQ[1:].T for picture in (content, done.picture))
    assert np.abs(before - after).max() < 1 / 255
    assert np.abs(done.picture - content).max() > 0.02


def test_colours_are_those_of_the_other_picture(rng):
    picture = np.clip(0.5 + 0.05 * rng.standard_normal((40, 40, 3)), 0, 1)
    mixed = rng.standard_normal((30, 50, 3)) @ [[0.05, 0.02, 0], [0, 0.04, 0.01], [0, 0, 0.03]]
    other = 0.4 + mixed
    found = with_colours_of(picture, other)
    np.testing.assert_allclose(found.mean((0, 1)), other.mean((0, 1)), atol=1e-3)
    covariances = (np.cov(p.reshape(-1, 3).T) for p in (found, other))
    np.testing.assert_allclose(*covariances, atol=1e-4)
    grey = with_colours_of(np.full((8, 8, 3), 0.3), np.full((9, 9, 3), 0.6))
    np.testing.assert_allclose(grey, 0.6, atol=1e-6)


def test_filter_keeps_type_size_and_follows_its_strength(transfer, content):
    pixels = np.round(content * 255).astype(np.uint8)
    strong = transfer(pixels)
    assert strong.dtype == np.uint8
    assert strong.shape == pixels.shape
    transfer.strength = 0.0
    np.testing.assert_array_equal(transfer(pixels), pixels)
    transfer.strength = 1.0


def test_large_pictures_are_worked_at_the_side_asked_for(transfer, content):
    seen = []
    small = with_settings(transfer, side=40)
    done = small.stylise(content, watch=lambda s, v, p, state: seen.append(p.shape), every=2)
    assert seen[0] == (33, 40, 3)
    assert done.picture.shape == content.shape


def test_pictures_too_narrow_are_refused_and_styles_of_any_shape_are_not(transfer, content):
    with pytest.raises(ConvsuiteError, match=r"48x20 pixels.*--side"):
        transfer.stylise(content[:20])
    narrow = StyleTransfer(
        transfer.network,
        [content[:, :3], content[:5]],
        dataclasses.replace(QUICK, steps=(0, 1), style_scale=0.1),
    )
    assert narrow.stylise(content).picture.shape == content.shape


def test_without_a_style_nothing_is_opened():
    with pytest.raises(ConvsuiteError, match="--style"):
        StyleTransfer.from_weights("vgg16_hed")

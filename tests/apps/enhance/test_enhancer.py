"""Looks applied to pictures: strength, bands, encodings, video, shipped weights."""

import dataclasses

import numpy as np
import pytest
from keras import ops

from apps.enhance import model as enhance
from apps.enhance import operators
from apps.enhance.enhancer import Enhancer, LutEnhancer, looks, open_look, prepare
from apps.enhance.lut import identity_lut, make_look
from apps.enhance.model import Architecture
from apps.enhance.thumbnail import SIZE, banded_thumbnail, thumbnail
from shared import metrics
from shared.errors import WeightsError
from shared.images import Picture
from shared.layers.bilateral import bilateral_slice_apply


def random_network(seed=0, **sizes):
    """A network whose grid differs from place to place."""
    network = enhance.hdrnet(Architecture(**sizes), points=4)
    rng = np.random.default_rng(seed)
    part = network.get_layer("coefficients")
    part.set_weights([w + rng.normal(0, 0.03, w.shape) for w in part.get_weights()])
    return network


@pytest.fixture(scope="module")
def network():
    return random_network()


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_strength(network, photo, kind):
    pixels = as_type(photo, kind)
    enhancer = Enhancer(network, {}, strength=0)
    assert enhancer(pixels).tobytes() == pixels.tobytes()
    results = {}
    for strength in (0.5, 1.0, 1.5):
        enhancer.strength = strength
        results[strength] = as_float(enhancer(pixels))
        assert enhancer(pixels).dtype == kind
    inside = np.all([(r > 0.01) & (r < 0.99) for r in results.values()], axis=0)
    assert inside.mean() > 0.3
    middle = (as_float(pixels) + results[1.0]) / 2
    assert np.abs(middle - results[0.5])[inside].max() <= 1.01 / 255
    beyond = 1.5 * results[1.0] - 0.5 * as_float(pixels)
    assert np.abs(beyond - results[1.5])[inside].max() <= 1.3 / 255


def as_type(photo, kind):
    if kind == "uint16":
        return photo.astype("uint16") * 257
    return photo if kind == "uint8" else (photo / np.float32(255)).astype("float32")


def as_float(pixels):
    white = {"uint8": 255, "uint16": 65535, "float32": 1}[pixels.dtype.name]
    return pixels.astype("float64") / white


def test_picture_equals_the_reference_path(network, photo):
    """Thumbnail, network, guide, slicing and applying, all with `keras.ops`."""
    pixels = as_type(photo, "float32")
    grid = network.get_layer("coefficients")(thumbnail(pixels)[None])
    guide = network.get_layer("guide")(pixels[None])
    expected = ops.convert_to_numpy(bilateral_slice_apply(grid, guide, pixels[None]))[0]
    np.testing.assert_allclose(Enhancer(network, {})(pixels), np.clip(expected, 0, 1), atol=1e-5)


@pytest.mark.parametrize("levels", [1, 3])
def test_bands_equal_the_whole(photo, levels, monkeypatch):
    import apps.enhance.enhancer as module

    monkeypatch.setattr(module, "_BAND_ROWS", 64)
    pixels = as_type(photo, "uint16")[:237, :301]
    look = Enhancer(random_network(1, levels=levels), {})
    whole = look(pixels).astype(int)
    bands = np.concatenate([rows for _, rows in look.bands(pixels)]).astype(int)
    assert np.abs(bands - whole).max() <= 65535 / 255 / 4


def test_banded_thumbnail_equals_the_plain_one(rng):
    pixels = rng.integers(0, 65536, (1500, 700, 3)).astype("uint16")
    np.testing.assert_allclose(banded_thumbnail(pixels), thumbnail(pixels), atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (255, 300), (3000, 20), (256, 256)])
def test_thumbnail_takes_any_size(rng, shape):
    pixels = rng.random((*shape, 3)).astype("float32")
    found = thumbnail(pixels)
    assert found.shape == (SIZE, SIZE, 3)
    assert found.mean() == pytest.approx(pixels.mean(), abs=0.02)


@pytest.mark.parametrize("shape", [(1, 1), (2, 301), (20_000, 10), (333, 257)])
def test_odd_sizes(network, rng, shape):
    pixels = rng.integers(0, 256, (*shape, 3)).astype("uint8")
    assert Enhancer(network, {})(pixels).shape == pixels.shape


def test_auto_table_acts_on_the_stretched_picture(photo):
    pixels = (0.3 + 0.3 * as_type(photo, "float32")).astype("float32")
    low, high = operators.contrast_limits(thumbnail(pixels))
    stretched = np.clip((pixels - low) / (high - low), 0, 1)
    inside = ((stretched > 0) & (stretched < 1)).all(-1)
    assert inside.mean() > 0.5
    found = LutEnhancer(make_look("warm"), {"autocontrast": True})(pixels)
    expected = LutEnhancer(make_look("warm"), {})(stretched)
    assert np.abs(found - expected)[inside].max() < 1e-4
    np.testing.assert_array_equal(
        LutEnhancer(make_look("warm"), {"autocontrast": True}, strength=0)(photo), photo
    )


def test_video_without_smoothing_equals_run(network, photo):
    look = Enhancer(network, {}, smooth="off")
    stream = look.stream(30)
    for shift in range(3):
        frame = np.roll(photo, 20 * shift, axis=1)
        np.testing.assert_array_equal(stream(frame), look(frame))


def test_hard_cut_is_not_smeared(network, photo):
    look = Enhancer(network, {})
    stream = look.stream(30)
    for _ in range(5):
        stream(photo)
    cut = 255 - photo
    assert np.abs(stream(cut).astype(int) - look(cut)).max() <= 1


def test_linear_pictures_are_encoded_or_clipped(photo):
    linear = Picture(4 * operators.srgb_to_linear(as_type(photo, "float32")), linear=True)
    log = prepare(linear, "log")
    assert not log.linear
    exposed = operators.expose(linear.pixels)
    np.testing.assert_allclose(operators.decode_log(log.pixels).max(), exposed.max(), rtol=1e-3)
    again = dataclasses.replace(linear, pixels=100 * linear.pixels)
    np.testing.assert_allclose(prepare(again, "log").pixels, log.pixels, atol=1e-4)
    clipped = prepare(linear, "srgb")
    assert clipped.pixels.max() == pytest.approx(1)
    assert any("tonemap" in note for note in clipped.notes)
    plain = prepare(Picture(photo), "log")
    assert any("no HDR" in note for note in plain.notes)


def test_panoramas_are_warned_about():
    assert prepare(Picture(np.zeros((10, 31, 3), "uint8")), "srgb").notes
    assert not prepare(Picture(np.zeros((10, 30, 3), "uint8")), "srgb").notes


def test_table_look(photo):
    plain = LutEnhancer(identity_lut(17), {})
    np.testing.assert_array_equal(plain(photo), photo)
    warm = LutEnhancer(make_look("warm"), {})
    assert (warm(photo)[..., 0].mean() - warm(photo)[..., 2].mean()) > (
        photo[..., 0].mean() - photo[..., 2].mean()
    )
    bands = np.concatenate([rows for _, rows in warm.bands(photo)])
    np.testing.assert_array_equal(bands, warm(photo))


def test_weights_of_another_application_and_missing_cards_are_refused(tmp_path, network):
    path = tmp_path / "x.keras"
    network.save(path)
    with pytest.raises(WeightsError, match="card"):
        open_look(path)
    from shared.weights import Card, save_model

    save_model(network, path, Card(app="colorize", name="x", summary="s"))
    with pytest.raises(WeightsError, match="colorize"):
        open_look(path)


def shipped():
    return [card for card in looks() if card.results]


def test_there_are_shipped_looks():
    names = {card.name for card in looks()}
    assert {"auto", "clahe", "warm", "noir"} <= names


@pytest.mark.parametrize("card", shipped(), ids=lambda card: card.name)
def test_shipped_look_keeps_its_quality_on_the_samples(card):
    """A floor for each look against its operator, so that a silent regression fails."""
    from apps.enhance.bench import sample_photos

    operator = card.training.get("operator")
    if operator not in operators.OPERATORS or operator == "tonemap":
        pytest.skip("this look has no exact operator on ordinary photographs")
    look = open_look(card.name)
    scores, plain = [], []
    for pixels in sample_photos():
        image = pixels / np.float32(255)
        wanted = operators.OPERATORS[operator](image)
        scores.append(metrics.psnr(look(image), wanted))
        plain.append(metrics.psnr(image, wanted))
    floors = {"clahe": 26.0, "tone": 27.0}
    assert np.mean(scores) >= floors[operator]
    assert np.mean(scores) >= np.mean(plain) + 2


def test_shipped_looks_name_what_they_need():
    for card in looks():
        assert card.summary
        assert card.licence
        assert dataclasses.asdict(card)["app"] == "enhance"
        if card.kind == "keras":
            assert card.settings["input"] in ("srgb", "log")
            assert card.training["command"].startswith("convsuite enhance train")

"""Folders of pairs, good and bad, and random views of them."""

import numpy as np
import pytest

from apps.enhance import pairs
from apps.enhance.material import pair_material, photo_material
from apps.enhance.operators import OPERATORS, decode_log
from apps.enhance.views import PATCH, PatchSampler, PointSampler, collect
from shared import images
from shared.errors import ConvsuiteError, DataError


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    images.write(path, image)
    return path


@pytest.fixture
def image(rng):
    return rng.random((40, 60, 3)).astype("float32")


def test_input_and_target_folders_with_sub_folders_and_other_suffixes(tmp_path, image):
    for name in ("a", "sub/b"):
        write(tmp_path / "input" / f"{name}.jpg", image)
        write(tmp_path / "output" / f"{name}.png", image)
    found = pairs.find_pairs(tmp_path)
    assert [pair.before.name for pair in found] == ["a.jpg", "b.jpg"]
    assert [pair.after.name for pair in found] == ["a.png", "b.png"]


def test_before_and_after_in_one_folder(tmp_path, image):
    write(tmp_path / "x_before.jpg", image)
    write(tmp_path / "x_after.png", image)
    write(tmp_path / "other.png", image)
    (found,) = pairs.find_pairs(tmp_path)
    assert (found.before.name, found.after.name) == ("x_before.jpg", "x_after.png")


def test_a_lonely_picture_is_named(tmp_path, image):
    write(tmp_path / "input" / "a.jpg", image)
    write(tmp_path / "input" / "b.jpg", image)
    write(tmp_path / "target" / "b.jpg", image)
    with pytest.raises(DataError, match=r"a\.jpg has no partner"):
        pairs.find_pairs(tmp_path)


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir(), lambda p: p.write_text("x")])
def test_no_pairs(tmp_path, make):
    make(tmp_path / "pairs")
    with pytest.raises(DataError):
        pairs.find_pairs(tmp_path / "pairs")


def test_the_larger_picture_is_reduced(tmp_path, image):
    before = write(tmp_path / "b.png", np.kron(image, np.ones((2, 2, 1), "float32")))
    pair = pairs.Pair(before, write(tmp_path / "a.png", image))
    found = pairs.read_pair(pair)
    assert found[0].shape == found[1].shape == (40, 60, 3)
    assert np.abs(found[0] - found[1]).max() <= 1 / 255


def test_another_aspect_ratio_is_refused(tmp_path, image):
    pair = pairs.Pair(write(tmp_path / "b.png", image), write(tmp_path / "a.png", image[:, :50]))
    with pytest.raises(DataError, match=r"a\.png is 50x40 but .*b\.png is 60x40"):
        pairs.read_pair(pair)


def test_a_truncated_picture_is_named(tmp_path, image):
    path = write(tmp_path / "b.jpg", image)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ConvsuiteError, match=r"b\.jpg"):
        pairs.read_pair(pairs.Pair(path, path))


def test_views_show_the_same_place_before_and_after(image):
    make = pairs.views_of(image, 1 - image)
    for seed in range(20):
        before, after = make(np.random.default_rng(seed))
        np.testing.assert_allclose(before, 1 - after, atol=1e-6)
        assert 24 <= before.shape[0] <= 40
        assert 36 <= before.shape[1] <= 60


@pytest.mark.parametrize("look", ["clahe", "autocontrast"])
def test_views_of_exact_operators_are_exact(tmp_path, photo, look):
    make = pairs.photo_views(write(tmp_path / "p.png", photo), look)
    before, after = make(np.random.default_rng(3))
    for flip in (1, -1):
        exact = OPERATORS[look](np.ascontiguousarray(before[:, ::flip]))[:, ::flip]
        if np.abs(exact - after).max() < 1e-6:
            return
    pytest.fail("the target is not the operator's answer to the input")


def test_perspective_looks_where_it_is_told():
    """A panorama whose red is the longitude and green the latitude."""
    rows, columns = 256, 512
    x, y = np.meshgrid((np.arange(columns) + 0.5) / columns, (np.arange(rows) + 0.5) / rows)
    panorama = np.stack([x, y, np.zeros_like(x)], axis=-1).astype("float32")
    for yaw, pitch in ((90, 0), (200, 20), (200, -20)):
        view = pairs.perspective(panorama, yaw=yaw, pitch=pitch, fov=60, size=(101, 101))
        assert view[50, 50, 0] * 360 == pytest.approx(yaw, abs=1)
        assert 90 - view[50, 50, 1] * 180 == pytest.approx(pitch, abs=1)
        assert view[50, 100, 0] > view[50, 0, 0], "right is right"
        assert view[100, 50, 1] > view[0, 50, 1], "down is down"
    level = pairs.perspective(panorama, yaw=90, pitch=0, fov=60, size=(101, 101))
    assert (level[50, 100, 0] - level[50, 0, 0]) * 360 == pytest.approx(60, abs=1)


def test_tonemap_views_are_log_encoded(tmp_path, rng):
    panorama = np.exp(rng.normal(0, 2, (64, 128, 3))).astype("float32")
    path = tmp_path / "p.hdr"
    images.write(path, panorama)
    before, after = pairs.photo_views(path, "tonemap")(rng)
    assert before.shape == after.shape == (320, 480, 3)
    assert decode_log(before).max() > 1
    assert 0 <= after.min() < after.max() <= 1


def test_points_are_pixels_of_the_view(image):
    views = collect([lambda: lambda rng: (image, 1 - image)], 2, 0, PointSampler(50, 20))
    inputs, targets = views.batch(np.array([1]), 5)
    x = np.round(inputs["positions"][0, :, 0] * 60 - 0.5).astype(int)
    y = np.round(inputs["positions"][0, :, 1] * 40 - 0.5).astype(int)
    assert targets.shape == (1, 20, 3)
    np.testing.assert_allclose(inputs["colours"][0], image[y, x], atol=1e-4)
    np.testing.assert_allclose(targets[0], 1 - image[y, x], atol=1e-4)


def test_patches_stay_inside_and_small_pictures_work(rng):
    for height, width in ((9, 33), (16, 16), (70, 41)):
        image = rng.random((height, width, 3)).astype("float32")
        views = collect([lambda: lambda rng: (image, image)], 1, 0, PatchSampler(6, 3))  # noqa: B023
        inputs, targets = views.batch(np.array([0]), 0)
        assert targets.shape == (1, 3, PATCH, PATCH, 3)
        np.testing.assert_array_equal(targets, inputs["colours0"])
        for level in range(3):
            positions = inputs[f"positions{level}"]
            assert positions.min() > 0
            assert positions.max() < 1


def test_views_are_the_same_for_the_same_seed_in_memory_and_on_disk(tmp_path, image):
    source = lambda: pairs.views_of(image, image)  # noqa: E731
    here = collect([source, source], 5, 3, PointSampler(40, 10))
    there = collect([source, source], 5, 3, PointSampler(40, 10), folder=tmp_path)
    other = collect([source, source], 5, 4, PointSampler(40, 10))
    for name, values in here.arrays.items():
        np.testing.assert_array_equal(values, there.arrays[name])
    assert isinstance(there.arrays["colours"], np.memmap)
    assert (here.arrays["colours"] != other.arrays["colours"]).any()


def test_batches_depend_on_seed_and_step_alone(image):
    views = collect([lambda: pairs.views_of(image, image)], 9, 0, PointSampler(40, 10))
    one, two = views.random_batch(4, 0, 7)[1], views.random_batch(4, 0, 7)[1]
    np.testing.assert_array_equal(one, two)
    assert (one != views.random_batch(4, 0, 8)[1]).any()


def test_held_out_pairs_are_not_trained_on(pair_folder):
    material = pair_material(pair_folder)
    trained = {source.args[0].before for source in material.sources}
    tested = {test.args[0].before for test in material.tests}
    assert (len(trained), len(tested)) == (10, 2)
    assert not trained & tested


def test_unknown_operator_is_named(tmp_path):
    with pytest.raises(DataError, match="no operator 'sharpen'"):
        photo_material([tmp_path], "sharpen")

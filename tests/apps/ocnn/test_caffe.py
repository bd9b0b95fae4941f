"""Files of the authors' networks: every number at its place, and nothing else accepted."""

import numpy as np
import pytest
from caffe_files import caffe_layer

from apps.ocnn import caffe, model
from apps.ocnn.octree import encode
from shared.errors import WeightsError


def author_file(network, depth, path, factor=4.0):
    """Write the weights of our network as the authors' program would."""

    def weights(name):
        return network.get_layer(name).get_weights()

    def normalisation(layer, number):
        gamma, beta, mean, variance = weights(f"{layer}_bn")
        sums = (factor * mean, factor * variance, np.float32([factor]))
        return caffe_layer(f"bn{number}", "BatchNorm", *sums) + caffe_layer(
            f"scale{number}", "Scale", gamma, beta
        )

    content = b""
    for level in range(depth, 2, -1):
        number, (kernel,) = 6 - level, weights(f"conv{level}")
        blob = np.empty((kernel.shape[2], kernel.shape[1], 27, 1), "float32")
        for k, i, o in np.ndindex(kernel.shape):
            blob[o, i, k, 0] = kernel[k, i, o]
        content += caffe_layer(f"conv{number}", "OctreeConv", blob)
        content += normalisation(f"conv{level}", number)
    (dense,) = weights("fc1")
    grid = np.empty((128, 64, 4, 4, 4), "float32")
    for x, y, z in np.ndindex(4, 4, 4):
        voxel = encode(np.array([x, y, z]))
        grid[:, :, x, y, z] = dense[64 * voxel : 64 * voxel + 64].T
    content += caffe_layer("ip1", "InnerProduct", grid.reshape(128, 4096))
    content += normalisation("fc1", 4)
    kernel, bias = weights("logits")
    path.write_bytes(content + caffe_layer("ip2", "InnerProduct", kernel.T, bias))


@pytest.mark.parametrize(("depth", "classes"), [(5, 3), (6, 2)])
def test_every_number_comes_to_its_place(depth, classes, tmp_path, rng):
    network = model.lenet(depth, classes=classes)
    network.set_weights([rng.normal(size=w.shape).astype("float32") for w in network.weights])
    author_file(network, depth, tmp_path / "a.caffemodel")
    found = caffe.load(tmp_path / "a.caffemodel")
    assert [w.path for w in found.weights] == [w.path for w in network.weights]
    for mine, theirs in zip(found.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "depth", "classes"),
    [("ocnn_M40_5", 5, 40), ("ocnn_M40_6", 6, 40), ("S55_5", 5, 55), ("S55_6", 6, 55)],
)
def test_published_files_fit(name, depth, classes, data):
    network = caffe.load(data / "ocnn_weights" / f"{name}.caffemodel")
    assert f"neighbours{depth}" in network.input
    assert network.output_shape == (None, classes)


def test_other_files_are_refused(tmp_path, rng):
    network = model.lenet(5, classes=2)
    author_file(network, 5, tmp_path / "whole.caffemodel")
    content = (tmp_path / "whole.caffemodel").read_bytes()
    (tmp_path / "cut.caffemodel").write_bytes(content[:-200])
    lone = caffe_layer("conv1", "Convolution", np.zeros((16, 3, 27, 1), "float32"))
    (tmp_path / "other.caffemodel").write_bytes(lone)
    network.get_layer("logits").set_weights([np.full((128, 2), np.nan), np.zeros(2)])
    author_file(network, 5, tmp_path / "nan.caffemodel")
    for name, message in (
        ("cut", "cut"),
        ("other", "no classification network of O-CNN"),
        ("nan", "not finite"),
    ):
        with pytest.raises(WeightsError, match=message):
            caffe.load(tmp_path / f"{name}.caffemodel")

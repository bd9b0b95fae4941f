"""The independent implementation that octrees and their networks are compared with."""

import functools
import importlib.util
import sys
import types

import numpy as np
import pytest


@functools.cache
def ocnn():
    """Return the package `ocnn` (MIT, needs torch), or skip the test."""
    pytest.importorskip("torch")
    if importlib.util.find_spec("torchvision") is not None:
        return pytest.importorskip("ocnn")
    # One of its networks, which nothing here uses, starts from an image network.
    names = ("torchvision", "torchvision.models")
    sys.modules |= {name: types.ModuleType(name) for name in names}
    sys.modules["torchvision.models"].resnet18 = None
    try:
        return pytest.importorskip("ocnn")
    finally:
        for name in names:
            del sys.modules[name]


def reference_octree(clouds, depth):
    """Return the batch of `ocnn` for a list of (points, normals), with neighbours."""
    package = ocnn()
    import torch

    octrees = []
    for points, normals in clouds:
        octree = package.octree.Octree(depth, full_depth=2)
        octree.build_octree(
            package.octree.Points(torch.tensor(points), normals=torch.tensor(normals))
        )
        octrees.append(octree)
    merged = package.octree.merge_octrees(octrees)
    merged.construct_all_neigh()
    return merged


def random_cloud(rng, count, shape="any"):
    """Return points in -1..1 and normals, float32: a sphere, a filled box, or few places often."""
    normals = rng.normal(size=(count, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    shape = rng.choice(["sphere", "box", "duplicates"]) if shape == "any" else shape
    if shape == "sphere":
        points = normals * 0.9 + rng.normal(0, 0.01, (count, 3))
    else:
        points = rng.uniform(-0.999, 0.999, (count, 3))
    if shape == "duplicates":
        points = points[rng.integers(0, 1 + count // 10, count)]
    return points.clip(-0.999, 0.999).astype(np.float32), normals.astype(np.float32)

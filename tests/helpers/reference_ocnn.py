"""The independent implementation that octrees and their networks are compared with."""

import numpy as np
import pytest

from apps.ocnn.bench import peer


def ocnn():
    """Return the package `ocnn` (MIT, needs torch), or skip the test."""
    package = peer()
    if package is None:
        pytest.skip("the package ocnn is not installed")
    return package


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

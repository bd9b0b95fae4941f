from dataclasses import replace

import numpy as np
import pytest

from apps.ocnn import crf, scores
from shared.errors import DataError

SMALL = crf.CrfParameters(smooth_weight=3, bilateral_weight=2)


def cloud(rng, size=100, parts=3):
    """Probabilities, places in a box of 8 cells and normals."""
    normals = rng.normal((0, 0, 3), 1, (size, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return rng.dirichlet([0.5] * parts, size), rng.uniform(0, 8, (size, 3)), normals


def brute_force(probabilities, points, normals, parameters):
    """Mean field with dense kernels and the full matrix of costs, pair by pair."""
    size, parts = probabilities.shape
    costs = 1 - np.eye(parts)
    kernels = []
    for kind in ("smooth", "bilateral"):
        kernel = np.zeros((size, size))
        for i in range(size):
            for j in range(size):
                step = points[i] - points[j]
                if kind == "smooth":
                    exponent = step @ step / parameters.smooth_sigma**2
                else:
                    turn = normals[i] - normals[j]
                    exponent = step @ step / parameters.bilateral_sigma**2
                    exponent += turn @ turn / parameters.normal_sigma**2
                if i != j and exponent <= 9:
                    kernel[i, j] = np.exp(-exponent / 2)
        degree = kernel.sum(axis=1)
        root = np.diag([1 / np.sqrt(d) if d else 0 for d in degree])
        kernels.append(getattr(parameters, f"{kind}_weight") * root @ kernel @ root)
    energy = -np.log(probabilities + 0.01)
    field = np.exp(-energy) / np.exp(-energy).sum(axis=1, keepdims=True)
    for _ in range(parameters.steps):
        field = np.exp(-energy - sum(kernel @ field @ costs for kernel in kernels))
        field /= field.sum(axis=1, keepdims=True)
    return field


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"smooth_weight": 0},
        {"bilateral_weight": 0},
        {"steps": 1, "smooth_sigma": 0.7, "bilateral_sigma": 1.5, "normal_sigma": 0.1},
    ],
)
def test_equals_dense_mean_field(rng, changes):
    parameters = replace(SMALL, **changes)
    shape = cloud(rng)
    found = crf.refine(*shape, parameters)
    np.testing.assert_allclose(found, brute_force(*shape, parameters), atol=1e-9)
    assert np.abs(found - shape[0]).max() > 0.05


def test_without_weights_only_the_floor_acts(rng):
    probabilities, points, normals = cloud(rng)
    nothing = crf.CrfParameters(smooth_weight=0, bilateral_weight=0)
    found = crf.refine(probabilities, points, normals, nothing)
    np.testing.assert_allclose(found, (probabilities + 0.01) / 1.03)
    np.testing.assert_array_equal(found.argsort(axis=1), probabilities.argsort(axis=1))


def test_isolated_points_keep_their_parts(rng):
    probabilities, points, normals = cloud(rng, size=5)
    found = crf.refine(probabilities, 100 * points, normals)
    np.testing.assert_allclose(found, (probabilities + 0.01) / 1.03)
    alone = crf.refine(probabilities[:1], points[:1], normals[:1])
    np.testing.assert_allclose(alone, found[:1])


def test_order_of_points_and_parts_and_position_do_not_matter(rng):
    probabilities, points, normals = cloud(rng)
    found = crf.refine(probabilities, points, normals)
    order, parts = rng.permutation(100), [2, 0, 1]
    moved = crf.refine(probabilities[order][:, parts], points[order] + 50, normals[order])
    np.testing.assert_allclose(moved, found[order][:, parts], atol=1e-9)
    np.testing.assert_allclose(found.sum(axis=1), 1)


def plane(rng, fold=False, side=20):
    """Two parts that meet in a line, noisy probabilities; folded, they meet at a right angle."""
    x, y = np.indices((side, side)).reshape(2, -1).astype(float)
    middle = side // 2
    labels = (x >= middle).astype(int)
    points = np.stack([x, y, np.zeros(side**2)], axis=1)
    normals = np.tile([0.0, 0, 1], (side**2, 1))
    if fold:
        up = labels == 1
        points[up] = np.stack([np.full(up.sum(), middle), y[up], x[up] - middle], axis=1)
        normals[up] = [-1, 0, 0]
    right = np.clip(0.58 + 0.25 * rng.normal(size=side**2), 0.02, 0.98)
    first = np.where(labels == 0, right, 1 - right)
    return np.stack([first, 1 - first], axis=1), points, normals, labels


def test_smooths_a_noisy_plane(rng):
    probabilities, points, normals, labels = plane(rng)
    before = np.mean(probabilities.argmax(axis=1) == labels)
    after = np.mean(crf.refine(probabilities, points, normals).argmax(axis=1) == labels)
    assert before < 0.7
    assert after > 0.93


def test_normals_keep_a_fold_sharp(rng):
    """Along a fold only the kernel that looks at normals tells the sides apart."""
    probabilities, points, normals, labels = plane(rng, fold=True)
    edge = np.abs(points[:, 0] - 10) + points[:, 2] <= 2

    def right(normals, **weights):
        parts = crf.refine(probabilities, points, normals, crf.CrfParameters(**weights))
        return np.mean(parts.argmax(axis=1)[edge] == labels[edge])

    bilateral = {"smooth_weight": 0, "bilateral_weight": 3}
    assert right(normals, **bilateral) > right(np.tile(normals[:1], (400, 1)), **bilateral) + 0.05


def test_choose_finds_weights_that_help(rng):
    shapes = [plane(rng) for _ in range(2)]
    best, table = crf.choose(iter(shapes))
    assert table[best.smooth_weight, best.bilateral_weight] == max(table.values())
    assert max(table.values()) > table[0, 0] + 0.2
    means = [
        np.mean([scores.mean_iou(labels, p.argmax(axis=1), 2) for p, _, _, labels in refined])
        for refined in (shapes, [(crf.refine(*shape[:3], best), *shape[1:]) for shape in shapes])
    ]
    assert means == pytest.approx([table[0, 0], max(table.values())])


def test_choose_leaves_the_crf_out_where_it_does_no_good(rng):
    _, points, normals, _ = plane(rng)
    labels = rng.integers(0, 2, 400)
    sure = np.where(labels[:, None] == [0, 1], 0.6, 0.4)
    best, _ = crf.choose([(sure, points, normals, labels)])
    assert (best.smooth_weight, best.bilateral_weight) == (0, 0)
    with pytest.raises(DataError, match="no validation shapes"):
        crf.choose([])


def test_refuses_what_does_not_fit(rng):
    probabilities, points, normals = cloud(rng)
    with pytest.raises(DataError, match="shapes"):
        crf.refine(probabilities[:-1], points, normals)
    with pytest.raises(DataError, match="shapes"):
        crf.refine(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3)))
    with pytest.raises(DataError, match="not finite"):
        crf.refine(probabilities, points + np.nan, normals)
    with pytest.raises(DataError, match="negative"):
        crf.refine(-probabilities, points, normals)


def test_refuses_more_pairs_than_memory_holds(rng, monkeypatch):
    probabilities, points, normals = cloud(rng)
    monkeypatch.setattr(crf, "MOST_PAIRS", 100)
    with pytest.raises(DataError, match="keep one point per leaf"):
        crf.refine(probabilities, points / 100, normals)

"""What shape analysis without a network reaches: the peers in every comparison.

- Classes: D2 shape distributions (Osada, Funkhouser, Chazelle and Dobkin 2002, "Shape
  distributions", ACM TOG 21(4)) with a support vector machine or the nearest neighbour.
- Parts: a random forest on features of faces, of the kind that Kalogerakis, Hertzmann and Singh
  2010, "Learning 3D mesh segmentation and labeling", ACM TOG 29(4), collect.
"""

from collections.abc import Sequence

import numpy as np

from shared.errors import DataError
from shared.raycasting import cast

from .meshes import Mesh
from .scan import areas

RADII = (0.05, 0.1, 0.2)
"""Neighbourhoods of `face_features`, relative to the root of the area of the mesh."""
FEATURES = 6 + 4 * len(RADII)
# No pair of points on a rod is farther apart than three times their mean distance.
_WIDEST = 3.0
_SMALLEST_AREA = 1e-15
_STEP = 1e-4


def d2(mesh: Mesh, rng: np.random.Generator, pairs: int = 20_000, bins: int = 64) -> np.ndarray:
    """Return the D2 shape distribution of a mesh.

    The histogram of the distances between random pairs of points, spread by area, relative to
    their mean. It does not depend on place, orientation, scale, winding or tessellation.

    Args:
        mesh: Any triangles.
        rng: Source of the random numbers.
        pairs: Number of distances.
        bins: Number of equal bins over 0..3; what is wider falls into the last one.

    Returns:
        Shares `(bins,)`, summing to 1.

    Raises:
        DataError: The mesh has no area.
    """
    from trimesh import Trimesh
    from trimesh.sample import sample_surface

    _surface(mesh)
    solid = Trimesh(mesh.vertices, mesh.faces, process=False)
    points, _ = sample_surface(solid, 2 * pairs, seed=rng)
    distances = np.linalg.norm(points[:pairs] - points[pairs:], axis=1)
    relative = np.minimum(distances / distances.mean(), _WIDEST)
    return np.histogram(relative, bins, (0, _WIDEST))[0] / pairs


def shape_classifier(histograms: np.ndarray, labels: np.ndarray, seed: int = 0):
    """Fit a support vector machine with a Gaussian kernel to shape distributions.

    The penalty C comes from cross-validation on the training shapes.

    Args:
        histograms: `(shapes, bins)`, from `d2`.
        labels: Classes `(shapes,)`; each has at least three shapes.
        seed: Of the folds.

    Returns:
        A fitted scikit-learn estimator with `predict(histograms)`.

    Raises:
        DataError: There is only one class, or one has fewer than three shapes.
    """
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    names, counts = np.unique(labels, return_counts=True)
    if len(names) < 2 or counts.min() < 3:
        raise DataError(
            "A classifier needs at least two classes of at least three shapes each; "
            f"the smallest of {len(names)} has {counts.min() if len(counts) else 0}."
        )
    folds = StratifiedKFold(min(5, counts.min()), shuffle=True, random_state=seed)
    pipeline = make_pipeline(StandardScaler(), SVC())
    search = GridSearchCV(pipeline, {"svc__C": [0.3, 1, 3, 10, 30, 100]}, cv=folds)
    return search.fit(histograms, labels)


def nearest_neighbour(histograms: np.ndarray, labels: np.ndarray):
    """Return the fitted scikit-learn estimator that answers the class of the nearest histogram."""
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(1).fit(histograms, labels)


def clearance(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Measure the mesh along the normals of its faces.

    Args:
        mesh: Triangles whose normals point outwards.

    Returns:
        From the centroid of each face to the next face inwards, which is the thickness of the
        shape there, and outwards; in the units of the mesh, infinite where nothing is hit;
        `(faces,)` both.

    Raises:
        DataError: The mesh has no area.
        DependencyError: Open3D is not installed, or a system library it needs.
    """
    vertices, scale = _surface(mesh)
    centroids, normals = _centroids(vertices, mesh.faces), _normals(vertices, mesh.faces)
    distances = _cast(vertices, mesh.faces, centroids, np.stack([-normals, normals]))
    return distances[0] * scale, distances[1] * scale


def face_features(mesh: Mesh) -> np.ndarray:
    """Describe each face by its place and its surroundings, whatever the pose of the mesh.

    Columns, lengths relative to the root of the area:

    - 0: distance from the centroid of the surface.
    - 1 to 3: size of the coordinates along the principal axes, the longest first.
    - 4, 5: `clearance` inwards and outwards, at most 1.
    - then for each of `RADII`: linearity, planarity and scatter, that is the differences between
      the roots of the eigenvalues of the scatter of the surface around the face, and the least of
      them, relative to the largest; and how far normals vary, which is one minus the largest
      eigenvalue of their mean outer product.

    Args:
        mesh: Triangles; columns 4 and 5 want normals that point outwards.

    Returns:
        `(faces, 18)`.

    Raises:
        DataError: The mesh has no area.
        DependencyError: Open3D is not installed, or a system library it needs.
    """
    vertices, _ = _surface(mesh)
    centroids, normals = _centroids(vertices, mesh.faces), _normals(vertices, mesh.faces)
    # A degenerate face that is alone in its surroundings must still have some weight there.
    weights = np.maximum(areas(vertices, mesh.faces), _SMALLEST_AREA)
    rays = _cast(vertices, mesh.faces, centroids, np.stack([-normals, normals]))
    centred = centroids - weights @ centroids / weights.sum()
    axes = np.linalg.eigh(centred.T @ (centred * weights[:, None]))[1][:, ::-1]
    columns = [
        np.linalg.norm(centred, axis=1, keepdims=True),
        np.abs(centred @ axes),
        np.minimum(rays, 1).T,
        *(_surroundings(centred, normals, weights, radius) for radius in RADII),
    ]
    return np.concatenate(columns, axis=1)


def part_forest(meshes: Sequence[Mesh], seed: int = 0, trees: int = 100):
    """Fit a random forest that tells parts by `face_features`; faces count by their area.

    Args:
        meshes: Training meshes of one class, with labels; faces of label -1 are left out.
        seed: Of the forest.
        trees: Number of trees.

    Returns:
        A fitted scikit-learn classifier with `predict(face_features(mesh))` and `predict_proba`.

    Raises:
        DataError: There is no labelled face.
        DependencyError: Open3D is not installed, or a system library it needs.
    """
    from sklearn.ensemble import RandomForestClassifier

    rows, labels, weights = [], [], []
    for mesh in meshes:
        if mesh.labels is None:
            continue
        known = mesh.labels >= 0
        area = areas(mesh.vertices, mesh.faces)
        rows.append(face_features(mesh)[known])
        labels.append(mesh.labels[known])
        weights.append((area / area.sum())[known])
    if not sum(map(len, labels)):
        raise DataError("The training meshes have no labelled faces.")
    forest = RandomForestClassifier(trees, min_samples_leaf=3, random_state=seed, n_jobs=1)
    weights = np.concatenate(weights)
    weights *= len(weights) / weights.sum()
    return forest.fit(np.concatenate(rows), np.concatenate(labels), weights)


def _surface(mesh):
    """Return the vertices scaled to a surface of area 1 around the origin, and the scale."""
    centre = mesh.vertices.mean(axis=0)
    extent = np.abs(mesh.vertices - centre).max()
    vertices = (mesh.vertices - centre) / (extent or 1)
    area = areas(vertices, mesh.faces).sum()
    if area < _SMALLEST_AREA:
        raise DataError("All faces of the mesh are degenerate; it has no surface to describe.")
    return vertices / np.sqrt(area), extent * np.sqrt(area)


def _centroids(vertices, faces):
    return vertices[faces].mean(axis=1)


def _normals(vertices, faces):
    """Return the normals of faces, of length 1; zero for degenerate ones."""
    first, second, third = vertices[faces].transpose(1, 0, 2)
    normals = np.cross(second - first, third - first)
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    return normals / np.where(lengths > 0, lengths, 1)


def _cast(vertices, faces, origins, directions):
    """Return the distances to the next face `(ways, rays)`, infinite where there is none."""
    # Rays must not hit the face they start from.
    starts = origins + _STEP * directions
    rays = np.concatenate([starts, directions], axis=2)
    return cast(vertices, faces, rays)["t_hit"].astype(np.float64) + _STEP


def _surroundings(points, normals, weights, radius):
    """Return linearity, planarity, scatter and variation of normals within a radius."""
    from scipy.sparse import coo_array
    from scipy.spatial import KDTree

    tree = KDTree(points)
    first, second = tree.query_pairs(radius, output_type="ndarray").T
    own = np.arange(len(points))
    rows, columns = np.concatenate([first, second, own]), np.concatenate([second, first, own])
    size = len(points)
    near = coo_array((weights[columns], (rows, columns)), (size, size)).tocsr()
    total = near.sum(axis=1)[:, None]
    mean = near @ points / total
    scatter = near @ _outer(points, points) / total - _outer(mean, mean)
    spread = np.linalg.eigvalsh(scatter.reshape(-1, 3, 3))[:, ::-1]
    spread = np.sqrt(np.maximum(spread, 0))
    # Of a face that is alone in its surroundings only rounding errors would be compared.
    relative = spread / np.maximum(spread[:, :1], 1e-3 * radius)
    turning = np.linalg.eigvalsh((near @ _outer(normals, normals) / total).reshape(-1, 3, 3))
    return np.stack(
        [
            relative[:, 0] - relative[:, 1],
            relative[:, 1] - relative[:, 2],
            relative[:, 2],
            1 - turning[:, 2],
        ],
        axis=1,
    )


def _outer(left, right):
    return (left[:, :, None] * right[:, None, :]).reshape(len(left), 9)

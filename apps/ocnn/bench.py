"""Speed and quality of the application beside peers, each table from one run.

The peer `ocnn` (the authors' later package, PyTorch) takes part where it is installed.
"""

import contextlib
import dataclasses
import functools
import importlib.util
import itertools
import sys
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shared import backend
from shared.console import progress
from shared.errors import ConvsuiteError, DataError
from shared.timing import ratio, turns
from shared.training import Schedule

from . import baselines, crf, data, inputs, meshes, octree, scores, shapes, train
from .data import Form, Poses
from .meshes import Cloud, Mesh
from .octree import Octree
from .scan import Up
from .tasks import Classifier, Segmenter

DEPTHS = (5, 6, 7, 8)
_SPHERE_POINTS = 1_000_000


def building(points: Sequence[int] = (10_000, 1_000_000), repeats: int = 5) -> list[dict[str, Any]]:
    """Time the building of octrees, and the search for neighbours.

    Args:
        points: How many, one after the other.
        repeats: Turns.

    Returns:
        One row per number of points and depth; times are of the wall, medians of the repeats.
    """
    rows = []
    for count in points:
        cloud = sphere(count)
        for depth in DEPTHS:
            tree = octree.build(*cloud, depth)

            def fresh(tree: Octree = tree) -> Octree:
                return dataclasses.replace(tree)  # without the tables that it keeps

            calls: list[Callable[[], Any]] = [
                functools.partial(octree.build, *cloud, depth),
                lambda fresh=fresh, depth=depth: fresh().neighbours(depth),
            ]
            row: dict[str, Any] = {
                "points": count,
                "depth": depth,
                "nodes": len(tree.keys[-1]),
            }
            if (package := peer()) is not None:
                calls.append(functools.partial(_their_octree, package, cloud, depth))
            seconds = np.median(turns(calls, repeats, time.perf_counter), axis=0)
            row["points/s"] = count / seconds[0]
            row["neighbours, s"] = seconds[1]
            if package is not None:
                row["ocnn points/s"] = count / seconds[2]
            rows.append(row)
    return rows


def scaling(
    depths: Sequence[int] = DEPTHS,
    points: int = _SPHERE_POINTS,
    channels: int = 16,
    repeats: int = 7,
) -> list[dict[str, Any]]:
    """Time a convolution on the surface of a sphere beside the dense one, and compare their memory.

    Args:
        depths: Levels, one after the other.
        points: On the sphere.
        channels: In and out.
        repeats: Turns.

    Returns:
        One row per depth: milliseconds (medians of turns), how many times those of the level above
        they are, and bytes of one map. The dense map of the last depth is counted, not computed.
    """
    import keras

    from .layers import OctreeConv

    cloud = sphere(points)
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    calls, places = [], []
    for depth in depths:
        tree = octree.build(*cloud, depth)
        row: dict[str, Any] = {"depth": depth}
        for nonempty in (False, True):
            table = inputs.arrays(tree, [f"neighbours{depth}"], nonempty)[f"neighbours{depth}"]
            x = rng.random((len(table), channels), np.float32)
            layer = OctreeConv(channels, nonempty=nonempty)
            layer(x[:1], np.zeros((1, 27), np.int32))
            name = "nonempty, ms" if nonempty else "octree, ms"
            calls.append(functools.partial(backend.compiled(layer), x, table))
            places.append((row, name))
            if not nonempty:
                row["octree, MB"] = x.nbytes / 1e6
        row["dense, MB"] = 8**depth * channels * 4 / 1e6
        if depth < depths[-1]:
            layer = keras.layers.Conv3D(channels, 3, padding="same", use_bias=False)
            grid = rng.random((1, *3 * [2**depth], channels), np.float32)
            layer.build(grid.shape)
            calls.append(functools.partial(backend.compiled(layer), grid))
            places.append((row, "dense, ms"))
        rows.append(row)
    seconds = turns(calls, repeats, time.perf_counter)
    for (row, name), column in zip(places, seconds.T, strict=True):
        row[name] = 1000 * float(np.median(column))
    for above, row in itertools.pairwise(rows):
        for kind in ("octree", "nonempty", "dense"):
            if f"{kind}, ms" in row:
                row[f"{kind}, times"] = row[f"{kind}, ms"] / above[f"{kind}, ms"]
    return rows


def lenets(
    sizes: Sequence[tuple[int, int]] = ((5, 32), (6, 8), (7, 8)), repeats: int = 7
) -> list[dict[str, Any]]:
    """Compare the speed of the LeNet with that of `ocnn`, the building of octrees excluded.

    Args:
        sizes: Depths, and shapes at once.
        repeats: Turns.

    Returns:
        One row per depth, of shapes per second; without the package only ours.
    """
    from . import model

    rows = []
    for depth, batch in sizes:
        clouds = [_blob(number) for number in range(batch)]
        trees = [octree.build(*cloud, depth) for cloud in clouds]
        network = model.lenet(depth, 4, 40, least=4)
        tables = inputs.arrays(octree.merge(trees), network.input, features="ND")
        calls = [functools.partial(backend.compiled(network), tables)]
        if (package := peer()) is not None:
            calls.append(_their_lenet(package, clouds, depth))
        seconds = turns(calls, repeats, time.perf_counter)
        row = {"depth": depth, "batch": batch, "shapes/s": batch / np.median(seconds[:, 0])}
        if package is not None:
            row["ocnn shapes/s"] = batch / np.median(seconds[:, 1])
            row["times ocnn"] = ratio(seconds, 1, 0)
        rows.append(row)
    return rows


def robustness(
    classifier: Classifier, count: int = 6, seed: int = 0, quiet: bool = False
) -> list[dict[str, Any]]:
    """Count the right answers for easy made-up shapes that are spoiled in several ways.

    Args:
        classifier: Its classes are compared by name.
        count: Shapes of each class that it knows.
        seed: Of the shapes.
        quiet: No progress.

    Returns:
        One row per condition: right answers of one pose, and how many shapes there were.
    """
    names = [name for name in shapes.EASY if name in classifier.names]
    if not names:
        raise ConvsuiteError(
            f"the network knows none of the classes that can be made up: {', '.join(shapes.EASY)}."
        )
    rng = np.random.default_rng(seed)
    right = dict.fromkeys(_CONDITIONS, 0)
    total = count * len(names)
    with progress("robustness", total, unit="shapes", quiet=quiet) as update:
        for number in range(total):
            name = names[number % len(names)]
            mesh = shapes.generate(name, rng)
            for condition, spoil in _CONDITIONS.items():
                trees = spoil(mesh, classifier, rng)
                right[condition] += classifier.answer(trees).top(1)[0][0] == name
            update(number + 1)
    return [{"condition": name, "right": right[name], "of": total} for name in _CONDITIONS]


def retrieval(
    classifier: Classifier, files: Sequence[Path], labels: np.ndarray, quiet: bool = False
) -> list[dict[str, Any]]:
    """Search each shape among the others, by several distances.

    Args:
        classifier: Whose features and probabilities are compared.
        files: Shapes.
        labels: Their classes.
        quiet: No progress.

    Returns:
        One row per method, with the scores of `scores.retrieval_scores`.

    Raises:
        DataError: A shape cannot be read.
    """
    shapes = _prepared(files, classifier.form, classifier.poses, classifier.cache.folder, quiet)
    looks = [classifier.look(poses) for poses in shapes]
    probabilities, features = (np.stack(column) for column in zip(*looks, strict=True))
    from .tasks import Index

    index = Index(list(files), features, probabilities, list(classifier.names), "")
    rng = np.random.default_rng(0)
    read = [meshes.read(file) for file in files]
    cosine, classes = (
        np.stack([index.distances(f, p, ranking) for p, f in looks])
        for ranking in ("cosine", "classes")
    )
    tables = {
        "classes, as the paper": classes,
        "features, cosine": cosine,
        "random": rng.random((len(labels), len(labels))),
    }
    if all(isinstance(shape, Mesh) for shape in read):
        histograms = np.stack([baselines.d2(mesh, rng) for mesh in read])
        tables["D2 histograms"] = np.abs(histograms[:, None] - histograms[None]).sum(axis=2)
    # Lists of the paper end with the class; those of the others do not.
    tables["features, same class"] = np.where(np.isfinite(classes), cosine, np.inf)
    rows = []
    for method, distances in tables.items():
        np.fill_diagonal(distances, np.inf)
        lists = scores.ranked_lists(distances)
        found = scores.retrieval_scores(lists, labels, labels, leave_one_out=True)
        for kind, means in found.items():
            rows.append({"method": method, "mean over": kind, **means})
    return rows


def _prepared(
    files: Sequence[Path], form: Form, poses: Poses, cache: str | Path | None, quiet: bool
) -> list[list[Octree]]:
    """Return the octrees of all files: a table tells nothing if it leaves some out."""
    prepared = data.prepare(files, form, poses, cache=cache, quiet=quiet)
    for failure in prepared.failures:
        raise DataError(f"{failure.source}: {failure.reason}")
    return prepared.octrees


def smoothing(
    segmenter: Segmenter, files: Sequence[Path], up: Up = "z", quiet: bool = False
) -> list[dict[str, Any]]:
    """Choose the weights of the CRF on every second labelled shape, and try them on the others.

    Args:
        segmenter: Whose answers are smoothed.
        files: Held-out shapes with labels.
        up: The axis that points up in them.
        quiet: No progress.

    Returns:
        One row each for the shapes that chose and for the others: mean IoU over the leaves without
        and with the CRF, and the weights.
    """
    answers = []
    with progress("smoothing", len(files), unit="shapes", quiet=quiet) as update:
        for done, file in enumerate(files, 1):
            shape = meshes.read(file)
            if shape.labels is not None:
                probabilities, tree = segmenter.of_leaves(shape, up)
                answers.append((probabilities, tree.points, tree.normals, tree.labels))
            update(done)
    best, _ = crf.choose(answers[::2])
    rows = []
    for name, part in (("that chose", answers[::2]), ("others", answers[1::2])):
        ious = np.array(
            [
                [
                    scores.mean_iou(labels, rows.argmax(axis=1), rows.shape[1])
                    for rows in (found, crf.refine(found, points, normals, best))
                ]
                for found, points, normals, labels in part
            ]
        )
        without, with_crf = ious.mean(axis=0)
        rows.append(
            {
                "shapes": name,
                "count": len(part),
                "IoU": float(without),
                "IoU with CRF": float(with_crf),
                "smooth weight": best.smooth_weight,
                "bilateral weight": best.bilateral_weight,
            }
        )
    return rows


def parts(
    folders_of_classes: Sequence[Path],
    open_segmenter: Callable[[str], Segmenter],
    quiet: bool = False,
) -> list[dict[str, Any]]:
    """Compare part networks with a random forest on hand-made features of faces.

    Args:
        folders_of_classes: `DIR/<class>/{train,test}/*` of meshes with labels.
        open_segmenter: Returns the network of a class by its name.
        quiet: No progress.

    Returns:
        One row per test mesh: class, file, IoU of the network, of the forest, and of one label.
    """
    rows = []
    with progress("parts", len(folders_of_classes), unit="classes", quiet=quiet) as update:
        for done, folder in enumerate(folders_of_classes, 1):
            train, test = (
                [(f, m) for f in files if (m := meshes.read(f)).labels is not None]
                for files in data.split(folder, 0.25, 0)
            )
            segmenter = open_segmenter(folder.name)
            forest = baselines.part_forest([mesh for _, mesh in train])
            most = np.bincount(np.concatenate([m.labels[m.labels >= 0] for _, m in train])).argmax()
            for file, mesh in test:
                found = segmenter(mesh)
                answers = {
                    "network": found.labels,
                    "forest": forest.predict(baselines.face_features(mesh)),
                    "one label": np.full(len(mesh.faces), most),
                }
                ious = {
                    name: scores.mean_iou(mesh.labels, labels, len(segmenter.parts), found.weights)
                    for name, labels in answers.items()
                }
                rows.append({"class": folder.name, "mesh": file.stem, **ious})
            update(done)
    return rows


def peer_classes(
    folder: str | Path,
    recipe: train.Recipe,
    *,
    seed: int = 0,
    cache: Path | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train the LeNet of `ocnn` as `train.train_classes` trains ours: same octrees, order, rates.

    Returns:
        Its accuracy on the test shapes, of one pose and with voting.

    Raises:
        ConvsuiteError: `ocnn` or PyTorch is not installed.
    """
    package = peer()
    if package is None:
        raise ConvsuiteError("the package ocnn takes part in this bench; `pip install torch ocnn`.")
    import torch

    found = data.find(folder, seed=seed)
    form = recipe.form
    poses = dataclasses.replace(recipe.poses, seed=seed)
    train_shapes = _prepared(found.train, form, poses, cache, quiet)
    test_shapes = _prepared(found.test, form, Poses(recipe.votes), cache, quiet)
    torch.manual_seed(seed)
    stages = form.depth - octree.FULL_DEPTH
    network = package.models.LeNet(form.channels, len(found.classes), stages, nempty=form.nonempty)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=recipe.weight_decay)
    loss = torch.nn.CrossEntropyLoss(label_smoothing=recipe.smoothing)
    size = min(recipe.batch, len(train_shapes))
    schedule = Schedule(recipe.steps, recipe.learning_rate, warmup=train.WARMUP)

    def logits(trees):
        batch = package.octree.merge_octrees([_converted(package, tree) for tree in trees])
        batch.construct_all_neigh()
        features = batch.get_input_feature(form.features, nempty=form.nonempty)
        return network(features, batch, form.depth)

    with progress("training ocnn", schedule.steps, unit="steps", quiet=quiet) as update:
        for step in range(schedule.steps):
            numbers, chosen = train.drawn(step, len(train_shapes), size, recipe.poses.count, seed)
            trees = [train_shapes[n][pose] for n, pose in zip(numbers, chosen, strict=True)]
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(step, step / schedule.steps)
            optimizer.zero_grad()
            loss(logits(trees), torch.tensor(found.train_labels[numbers]).long()).backward()
            optimizer.step()
            update(step + 1)
    network.eval()
    with torch.no_grad():
        answers = [torch.softmax(logits(trees), 1).numpy() for trees in test_shapes]
    single = np.array([rows[0].argmax() for rows in answers])
    voted = np.array([rows.mean(axis=0).argmax() for rows in answers])
    return {
        "seed": seed,
        "accuracy of one pose": float(np.mean(single == found.test_labels)),
        "accuracy with voting": float(np.mean(voted == found.test_labels)),
    }


def sphere(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return evenly random points of a sphere in -1..1, and their normals, float32."""
    normals = np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return normals * np.float32(0.9), normals


@functools.cache
def peer() -> types.ModuleType | None:
    """Return the package `ocnn` where it and PyTorch are installed."""
    if any(importlib.util.find_spec(name) is None for name in ("torch", "ocnn")):
        return None
    names = ()
    if importlib.util.find_spec("torchvision") is None:
        # One of its networks, which nothing here uses, starts from an image network.
        names = ("torchvision", "torchvision.models")
        sys.modules |= {name: types.ModuleType(name) for name in names}
        sys.modules["torchvision.models"].resnet18 = None
    try:
        with contextlib.suppress(ImportError):
            return importlib.import_module("ocnn")
        return None
    finally:
        for name in names:
            del sys.modules[name]


def _blob(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return 8,000 points of a bumpy sphere."""
    _, normals = sphere(8000)
    waves = np.sin((3 + number % 5) * normals) @ np.ones(3, np.float32)
    return normals * (0.7 + 0.08 * waves)[:, None], normals


def _their_octree(package, cloud, depth):
    import torch

    points, normals = map(torch.from_numpy, cloud)
    tree = package.octree.Octree(depth, full_depth=2)
    tree.build_octree(package.octree.Points(points, normals=normals))
    return tree


def _converted(package, tree):
    """Return the same octree of `ocnn`: one point per leaf makes it."""
    points = tree.points * np.float32(2.0 ** (1 - tree.depth)) - np.float32(1)
    return _their_octree(package, (points, tree.normals), tree.depth)


def _their_lenet(package, clouds, depth):
    import torch

    batch = package.octree.merge_octrees([_their_octree(package, cloud, depth) for cloud in clouds])
    batch.construct_all_neigh()
    network = package.models.LeNet(4, 40, depth - 2, nempty=False).eval()
    features = batch.get_input_feature("ND", nempty=False)

    def call():
        with torch.no_grad():
            return network(features, batch, depth)

    return call


def _one_pose(cloud: Cloud, classifier: Classifier) -> list[Octree]:
    return data.octrees(cloud, classifier.form, Poses(1))


def _scanned(mesh: Mesh, classifier: Classifier) -> Cloud:
    return data.centred(mesh, classifier.form)


def _kept(count):
    def spoil(mesh, classifier, rng):
        cloud = _scanned(mesh, classifier)
        kept = rng.choice(len(cloud.points), min(count, len(cloud.points)), replace=False)
        return _one_pose(Cloud(cloud.points[kept], cloud.normals[kept]), classifier)

    return spoil


def _turned(free):
    def spoil(mesh, classifier, rng):
        from scipy.spatial.transform import Rotation

        turn = Rotation.from_euler(classifier.form.up, rng.uniform(0, 360), degrees=True)
        matrix = (Rotation.random(rng=rng) if free else turn).as_matrix()
        return data.octrees(Mesh(mesh.vertices @ matrix.T, mesh.faces), classifier.form, Poses(1))

    return spoil


def _noisy(mesh, classifier, rng):
    cloud = _scanned(mesh, classifier)
    noise = rng.normal(0, 0.02, cloud.points.shape).astype(np.float32)
    return _one_pose(Cloud(cloud.points + noise, cloud.normals), classifier)


def _halved(mesh, classifier, rng):
    cloud = _scanned(mesh, classifier)
    direction = rng.normal(size=3)
    side = cloud.points @ direction
    kept = side > np.median(side)
    return _one_pose(Cloud(cloud.points[kept], cloud.normals[kept]), classifier)


_CONDITIONS: dict[str, Callable[[Mesh, Classifier, np.random.Generator], list[Octree]]] = {
    "as scanned": lambda mesh, classifier, rng: data.octrees(mesh, classifier.form, Poses(1)),
    "8,000 points kept": _kept(8000),
    "2,048 points kept": _kept(2048),
    "512 points kept": _kept(512),
    "turned about the up axis": _turned(free=False),
    "turned at random": _turned(free=True),
    "noise of 2 % of the radius": _noisy,
    "half of the points cut away": _halved,
}

"""How the networks are trained: classes of whole shapes, and parts of the shapes of one class.

Sources: Wang et al. 2017, "O-CNN", section 5 (12 poses, voting, one segmentation network for each
category); the variations of the poses are those of the authors' later package `ocnn`. Adam with a
cosine decay takes the place of 160,000 steps of gradient descent.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from shared import backend, report, training, weights
from shared.console import console
from shared.errors import ConvsuiteError, DataError, WeightsError
from shared.metrics import wilson
from shared.weights import Card

from . import baselines, data, meshes, model, scores
from .data import Form, Poses, Reader
from .octree import Octree
from .scan import Up
from .tasks import APP, Classifier, Segmenter, open_network

WARMUP = 20
"""Steps during which the learning rate rises."""
_HEAD_STEPS = 400
_ROWS = 25
"""Rows of the log of a training, each with a validation and a checkpoint."""
Network = Literal["lenet", "resnet", "segnet", "unet"]


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        network: Which of `model`.
        options: Arguments of its constructor, such as `skips`.
        form: How shapes become octrees.
        poses: Poses made of each training shape, once; an epoch shows one of them.
        steps: Batches to learn from.
        batch: Shapes of a step.
        learning_rate: At its highest.
        weight_decay: Of AdamW.
        smoothing: Of the labels of classes.
        votes: Poses over which an answer is averaged.
    """

    network: Network = "lenet"
    options: dict[str, Any] = field(default_factory=dict)
    form: Form = field(default_factory=Form)
    poses: Poses = field(default_factory=lambda: Poses(24, stretch=0.2, tilt=5, mirror=True))
    steps: int = 1000
    batch: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 5e-4
    smoothing: float = 0.1
    votes: int = 12


CLASSES = Recipe(form=Form(preset="ocnn2", features="ND"))
"""For classes of whole shapes. On two folds of real meshes the preset of `ocnn` was right as often
as that of the paper or oftener, and needs no voting (README, "What was tried")."""
PARTS = Recipe(
    network="segnet",
    options={"skips": True},
    poses=Poses(48, stretch=0.15, mirror=True, free=True),
    steps=400,
    batch=8,
    votes=12,
)
"""For parts of shapes in any orientation."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What both trainings take.

    Attributes:
        up: The axis that points up in the files.
        test_share: Held out where the folder does not say what is for testing.
        seed: Of weights, order and held-out choice.
        minutes: Time budget.
        cache: Folder of octrees; the user's unless given.
        licence: Of the weights, for the card.
        summary: One line for tables, for the card.
        source: What the data are, for the card.
        command: That repeats the training, for the card.
        resume: Go on from the last checkpoint.
        quiet: No progress.
    """

    up: Up = "z"
    test_share: float = 0.25
    seed: int = 0
    minutes: float | None = None
    cache: Path | None = None
    licence: str = "as the training data"
    summary: str = ""
    source: str = ""
    command: str = ""
    resume: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class Trained:
    """What came out: the file, its card, and facts about the held-out shapes."""

    path: Path
    card: Card
    facts: dict[str, Any]


def train_classes(
    folder: str | Path,
    out: str | Path,
    recipe: Recipe = CLASSES,
    *,
    extra: str | Path | None = None,
    **options: Any,
) -> Trained:
    """Train a network to tell the classes of shapes.

    Args:
        folder: As for `data.find`.
        out: A `.keras` file; its card goes beside it, log and curve into `NAME-training`.
        recipe: Sizes and lengths.
        extra: A folder of the same form whose shapes of the same classes are learned from, too.
        **options: As in `Options`.

    Raises:
        DataError: The folder does not have this form, or there is a training already and `resume`
            is not set.
    """
    given, out = Options(**options), Path(out)
    found = data.find(folder, given.test_share, given.seed)
    train_files, labels = list(found.train), found.train_labels
    if extra is not None:
        files, more = _extra(extra, found.classes, given)
        train_files, labels = train_files + files, np.concatenate([labels, more])
    form = recipe.form
    known = dict(zip([*train_files, *found.test], [*labels, *found.test_labels], strict=True))
    train = _prepare(train_files, form, dataclasses.replace(recipe.poses, seed=given.seed), given)
    test = _prepare(found.test, form, Poses(recipe.votes), given)
    shapes, shape_labels = _apart(train, known, test, given)
    test_labels = np.array([known[file] for file in test.files], np.int32)

    keras.utils.set_random_seed(given.seed)
    network = build(recipe, len(found.classes))
    reader = Reader(network, form, [poses[0] for poses in shapes], min(recipe.batch, len(shapes)))
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=recipe.smoothing)
    targets = np.eye(len(found.classes), dtype=np.float32)[shape_labels]

    def batch(numbers: np.ndarray, chosen: np.ndarray) -> tuple:
        picked = [shapes[n][pose] for n, pose in zip(numbers, chosen, strict=True)]
        return reader(picked), targets[numbers]

    forward = backend.compiled(network)
    watch = [poses[0] for poses in test.octrees]

    def validate() -> float:
        return float(np.mean(reader.predict(forward, watch).argmax(1) == test_labels))

    outcome = _fit(network, loss, shapes, batch, validate, recipe, out, given)
    classifier = Classifier(network, _settings(recipe, found.classes), cache=given.cache)
    classifier.expect([pose for poses in test.octrees for pose in poses])
    probabilities = np.stack([classifier.of_octrees(poses) for poses in test.octrees])
    single = np.stack([classifier.of_octrees(poses[:1]) for poses in test.octrees])
    answers = probabilities.argmax(1)
    right = int(np.sum(answers == test_labels))
    table = scores.confusion(test_labels, answers, len(found.classes))
    facts = {
        "accuracy with voting": round(right / len(test_labels), 4),
        "95 % interval": [round(bound, 3) for bound in wilson(right, len(test_labels))],
        "accuracy of one pose": round(float(np.mean(single.argmax(1) == test_labels)), 4),
        "test shapes": len(test_labels),
        "training shapes": len(shapes),
        **_without_network(train_files, labels, test.files, test_labels, given.seed),
        "per class": {
            name: f"{table[i, i]} of {table[i].sum()}" for i, name in enumerate(found.classes)
        },
        "mistaken": scores.mistakes(table, found.classes),
    }
    return _save(network, classifier.settings, facts, recipe, outcome, out, given)


def train_retrieval(
    folder: str | Path, out: str | Path, weights_of: str | Path, **options: Any
) -> Trained:
    """Train dense layers for retrieval on the features of a trained LeNet.

    The largest of each feature over 12 poses goes into them (paper, section 5.2); the layers of the
    octree stay as they are.

    Args:
        folder: As for `data.find`.
        out: As for `train_classes`.
        weights_of: The trained network, a name or a file.
        **options: As in `Options`.

    Raises:
        DataError: As `train_classes`.
        WeightsError: The network cannot be opened, knows other classes, or is no LeNet.
    """
    given, out = Options(**options), Path(out)
    network, settings = open_network(weights_of, "classes")
    classifier = Classifier(network, settings, cache=given.cache)
    found = data.find(folder, given.test_share, given.seed)
    if settings["network"] != "lenet" or found.classes != classifier.names:
        raise WeightsError(
            f"{weights_of}: retrieval needs a LeNet that knows the classes of {folder}."
        )
    form = classifier.form
    poses = dataclasses.replace(CLASSES.poses, seed=given.seed)
    train = _prepare(found.train, form, poses, given)
    test = _prepare(found.test, form, Poses(CLASSES.votes), given)
    all_labels = [*found.train_labels, *found.test_labels]
    known = dict(zip([*found.train, *found.test], all_labels, strict=True))
    shapes, labels = _apart(train, known, test, given)
    trunk = keras.Model(network.input, network.get_layer("flat").output)
    reader = Reader(trunk, form, shapes[0], poses.count)
    forward = backend.compiled(trunk)
    features = np.stack([reader.predict(forward, shown) for shown in shapes])

    keras.utils.set_random_seed(given.seed)
    whole = model.pooled(network, len(found.classes))
    inputs = keras.Input(features.shape[-1:])
    dense = keras.Model(inputs, model.head(inputs, len(found.classes)))
    recipe = dataclasses.replace(CLASSES, poses=poses, steps=_HEAD_STEPS)

    def batch(numbers: np.ndarray, chosen: np.ndarray) -> tuple:
        rng = np.random.default_rng(chosen)
        shown = rng.permuted(np.tile(np.arange(poses.count), (len(numbers), 1)), axis=1)
        some = features[numbers[:, None], shown[:, : recipe.votes]]
        return some.max(axis=1), labels[numbers]

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    outcome = _fit(dense, loss, shapes, batch, None, recipe, out, given)
    for layer in dense.layers:
        if layer.weights:
            whole.get_layer(layer.name).set_weights(layer.get_weights())
    finished = Classifier(whole, settings | {"network": "pooled"}, cache=given.cache)
    right = sum(
        finished.of_octrees(shown).argmax() == known[file]
        for file, shown in zip(test.files, test.octrees, strict=True)
    )
    facts = {
        "accuracy": round(right / len(test.files), 4),
        "95 % interval": [round(bound, 3) for bound in wilson(right, len(test.files))],
        "test shapes": len(test.files),
        "training shapes": len(shapes),
    }
    return _save(whole, finished.settings, facts, recipe, outcome, out, given)


def train_parts(
    folder: str | Path,
    out: str | Path,
    recipe: Recipe = PARTS,
    parts: tuple[str, ...] = (),
    **options: Any,
) -> Trained:
    """Train a network to name the parts of the shapes of one class.

    Args:
        folder: `DIR/{train,test}/*` of meshes with labels on their faces, or clouds with labels;
            without these two, a share is held out.
        out: As for `train_classes`.
        recipe: Sizes and lengths.
        parts: Names of the parts, by label; numbers unless given.
        **options: As in `Options`.

    Raises:
        DataError: As `train_classes`, or shapes have no labels.
    """
    given, out, folder = Options(**options), Path(out), Path(folder)
    train_files, test_files = data.split(folder, given.test_share, given.seed)
    form = recipe.form
    poses = dataclasses.replace(recipe.poses, seed=given.seed)
    shapes = [s for s in _prepare(train_files, form, poses, given).octrees if _labelled(s[0])]
    if not shapes:
        raise DataError(f"{folder}: none of the training shapes has labels.")
    count = max(int(shape[0].labels.max()) for shape in shapes) + 1
    names = tuple(parts) or tuple(f"part {number}" for number in range(count))
    if len(names) < count:
        raise DataError(f"{folder}: the shapes have {count} parts; {len(names)} names were given.")

    keras.utils.set_random_seed(given.seed)
    network = build(recipe, len(names))
    samples = [pose for poses in shapes for pose in poses[:2]]
    reader = Reader(network, form, samples, min(recipe.batch, len(shapes)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)

    def batch(numbers: np.ndarray, chosen: np.ndarray) -> tuple:
        return reader.with_labels(
            [shapes[n][pose] for n, pose in zip(numbers, chosen, strict=True)]
        )

    forward = backend.compiled(network)
    watch = [
        octrees[0]
        for octrees in _prepare(test_files, form, Poses(2, free=True), given).octrees
        if _labelled(octrees[0])
    ]

    def validate() -> float:
        found = reader.predict_leaves(forward, watch)
        return float(
            np.mean(
                [
                    scores.mean_iou(shape.labels, rows.argmax(1), len(names))
                    for shape, rows in zip(watch, found, strict=True)
                ]
            )
        )

    outcome = _fit(network, loss, shapes, batch, validate if watch else None, recipe, out, given)
    segmenter = Segmenter(network, _settings(recipe, names))
    facts = part_facts(segmenter, test_files, given.up) | {"training shapes": len(shapes)}
    return _save(network, segmenter.settings, facts, recipe, outcome, out, given)


def _without_network(train_files, train_labels, test_files, test_labels, seed):
    """Return what distances of random points reach on the same meshes."""
    rng = np.random.default_rng(seed)

    def histograms(files, labels):
        pairs = [
            (baselines.d2(shape, rng), label)
            for file, label in zip(files, labels, strict=True)
            if isinstance(shape := _readable(file), meshes.Mesh)
        ]
        return [np.array(column) for column in zip(*pairs, strict=True)]

    learned, asked = histograms(train_files, train_labels), histograms(test_files, test_labels)
    if not learned or not asked:
        return {}
    methods = {
        "D2 + SVM": baselines.shape_classifier,
        "D2 + nearest neighbour": lambda rows, labels, seed: baselines.nearest_neighbour(
            rows, labels
        ),
    }
    return {
        name: round(float(np.mean(fit(*learned, seed).predict(asked[0]) == asked[1])), 4)
        for name, fit in methods.items()
    }


def _readable(file):
    try:
        return meshes.read(file)
    except ConvsuiteError:  # named already, when its octrees were wanted
        return None


def _apart(train, known, test, given):
    """Return the training shapes that equal no test shape, and their labels."""
    held_out = {data.fingerprint(poses[0]) for poses in test.octrees}
    pairs = [
        (poses, known[file])
        for file, poses in zip(train.files, train.octrees, strict=True)
        if data.fingerprint(poses[0]) not in held_out
    ]
    if len(pairs) < len(train.files):
        console.print(
            f"left out {len(train.files) - len(pairs)} training shapes equal to test shapes"
        )
    if not pairs:
        raise DataError("every training shape equals a test shape; there is nothing to learn.")
    return [poses for poses, _ in pairs], np.array([label for _, label in pairs], np.int32)


def _extra(folder, classes, given):
    """Return further training files of the same classes, and their labels."""
    files, labels = [], []
    for label, name in enumerate(classes):
        if (Path(folder) / name).is_dir():
            found, _ = data.split(Path(folder) / name, 0.0, given.seed)
            files += found
            labels += [label] * len(found)
    if not files:
        raise DataError(f"{folder}: holds shapes of none of the classes {', '.join(classes)}.")
    return files, np.array(labels, np.int32)


def part_facts(segmenter: Segmenter, files: tuple[Path, ...], up: Up = "z") -> dict[str, Any]:
    """Return the mean IoU over the faces (by area) or points of held-out shapes, and of each."""
    per_shape = {}
    for file in files:
        shape = meshes.read(file)
        if shape.labels is None:
            continue
        found = segmenter(shape, up=up)
        per_shape[file.stem] = round(
            scores.mean_iou(shape.labels, found.labels, len(segmenter.parts), found.weights), 4
        )
    return {
        "mean IoU": round(float(np.mean(list(per_shape.values()))), 4) if per_shape else None,
        "test shapes": len(per_shape),
        "per shape": per_shape,
    }


def build(recipe: Recipe, classes: int) -> keras.Model:
    """Return the untrained network of a recipe."""
    constructor = {
        "lenet": model.lenet,
        "resnet": model.resnet,
        "segnet": model.segnet,
        "unet": model.unet,
    }[recipe.network]
    form = recipe.form
    return constructor(form.depth, form.channels, classes, nonempty=form.nonempty, **recipe.options)


def drawn(
    step: int, shapes: int, size: int, poses: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return which shapes, and which pose of each, a step learns from: a function of its number.

    An epoch shows each shape once, in another pose each time; a rest below `size` is left out.
    """
    epoch, place = divmod(step, shapes // size)
    rng = np.random.default_rng((seed, epoch))
    numbers = rng.permutation(shapes)[place * size : (place + 1) * size]
    return numbers, rng.integers(0, poses, shapes)[numbers]


def _prepare(files, form, poses, given):
    found = data.prepare(
        list(files), form, poses, up=given.up, cache=given.cache, quiet=given.quiet
    )
    for failure in found.failures:
        console.print(f"left out {failure.source}: {failure.reason}", soft_wrap=True)
    return found


def _labelled(shape: Octree) -> bool:
    return shape.labels is not None and bool((shape.labels >= 0).any())


def _settings(recipe, names):
    return {
        "task": "parts" if recipe.network in ("segnet", "unet") else "classes",
        "names": list(names),
        "network": recipe.network,
        "votes": recipe.votes,
        "free": recipe.poses.free,
        "form": dataclasses.asdict(recipe.form),
    }


def _fit(network, loss, shapes, batch, validate, recipe, out, given):
    """Train a network with the batches that `batch` makes of numbers of shapes and of poses."""
    size = min(recipe.batch, len(shapes))
    network.compile(
        optimizer=keras.optimizers.AdamW(weight_decay=recipe.weight_decay),
        loss=loss,
        jit_compile=backend.jit_compile(),
    )

    def batches(step: int) -> tuple:
        return batch(*drawn(step, len(shapes), size, recipe.poses.count, given.seed))

    return training.fit(
        network,
        batches,
        training.Schedule(
            recipe.steps,
            recipe.learning_rate,
            warmup=WARMUP,
            minutes=given.minutes,
            log_every=max(1, recipe.steps // _ROWS),
        ),
        out.with_name(f"{out.stem}-training"),
        validate=validate,
        resume=given.resume,
        quiet=given.quiet,
    )


def _save(network, settings, facts, recipe, outcome, out, given):
    card = Card(
        app=APP,
        name=out.stem,
        summary=given.summary,
        settings=settings,
        training={
            "data": given.source,
            "recipe": dataclasses.asdict(recipe),
            "command": given.command,
            "steps": outcome.steps,
            "seed": given.seed,
            "seconds": round(outcome.seconds),
            "precision": keras.config.dtype_policy().name,
            "machine": report.machine().get("CPU", ""),
        },
        results=facts,
        licence=given.licence,
    )
    return Trained(out, weights.save_model(network, out, card), facts)

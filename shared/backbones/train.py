"""Train a network on digits or on labelled pictures: recipes by name, tables over seeds."""

import dataclasses
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from shared import backend, losses, report, training, weights
from shared.console import to_json, warning_line
from shared.datasets import Digits, hold_out, load_digits, load_labelled
from shared.errors import ConvsuiteError, DataError
from shared.weights import Card

from .preprocessing import preprocess
from .registry import create, spec
from .sdlm import SDLM, Curvature
from .specs import APP, Spec

_CHUNK = 500
_WATCHED = 2_000
"""Test examples looked at after every epoch, for the curve alone."""
_BORDER = 4
_MADE_FROM = "made-from.json"
_OWNERS = "of the training pictures' owner"
_TEST, _TRAIN = "test error, %", "training error, %"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained; the rate falls to 0 along half a cosine.

    Attributes:
        network: What is trained; empty where a recipe fits any.
        loss: Cross entropy of the softmax, squared error against targets of +-1, or the MAP
            criterion of LeNet-5.
        optimizer: `sgd` with momentum, `adam`, or `sdlm` (see `shared.backbones.sdlm`).
        epochs: Passes over the training examples.
        batch: Examples per update.
        learning_rate: The largest.
        momentum: Of `sgd`.
        weight_decay: Of the squared weights, coupled to the loss as the papers have it.
        warmup: Updates during which the rate rises.
        examples: Train on the first so many; 0 takes all.
        bundled: Learn the small digits that scikit-learn bundles, too, so that a network can be
            shown at work where MNIST is not at hand.
        augment: Cut pictures out of a border of 4 zero pixels, and mirror them.
        paper: What the paper reports, for tables.
    """

    network: str = ""
    loss: Literal["cross_entropy", "mse", "map"] = "cross_entropy"
    optimizer: Literal["sgd", "adam", "sdlm"] = "sgd"
    epochs: int
    batch: int
    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    warmup: int = 0
    examples: int = 0
    bundled: bool = False
    augment: bool = False
    paper: str = ""


_LENET5_PAPER = "0.95 % (60,000 digits)"
DIGITS = {
    "lecun1989": Recipe(
        network="lecun1989",
        loss="mse",
        epochs=23,
        batch=8,
        learning_rate=0.15,
        examples=7_291,
        paper="5.0 % (7,291 zip-code digits)",
    ),
    "lecun1990": Recipe(
        network="lecun1990",
        loss="mse",
        epochs=8,
        batch=16,
        learning_rate=0.1,
        paper="1 % at 9 % rejected (zip-code digits)",
    ),
    "lenet5": Recipe(
        network="lenet5",
        loss="map",
        optimizer="adam",
        epochs=8,
        batch=32,
        learning_rate=1e-3,
        paper=_LENET5_PAPER,
    ),
    "lenet5_softmax": Recipe(
        network="lenet5_softmax",
        epochs=8,
        batch=32,
        learning_rate=0.02,
        momentum=0.9,
        paper=_LENET5_PAPER,
    ),
    "lenet5_softmax_sdlm": Recipe(
        network="lenet5_softmax",
        optimizer="sdlm",
        epochs=8,
        batch=16,
        learning_rate=4e-3,
        warmup=1_500,  # an epoch: the first curvature is that of an untrained network
        paper=_LENET5_PAPER,
    ),
    "lenet5_modern": Recipe(
        network="lenet5_modern",
        optimizer="adam",
        epochs=12,
        batch=32,
        learning_rate=2e-3,
        paper=_LENET5_PAPER,
    ),
    **{
        name: Recipe(
            network=name,
            epochs=6,
            batch=64,
            learning_rate=0.1,
            momentum=0.9,
            weight_decay=1e-4,
            warmup=100,
            bundled=True,
        )
        for name in ("resnet32_narrow", "plain32_narrow")
    },
    "mlp": Recipe(epochs=8, batch=64, learning_rate=0.05, momentum=0.9, warmup=200),
}
"""Recipes for digits. `mlp` fits the highway networks and their plain controls."""

HISTORIC = (
    "lecun1989",
    "lecun1990",
    "lenet5",
    "lenet5_softmax",
    "lenet5_softmax_sdlm",
    "lenet5_modern",
)
"""The recipes of the table of the early networks."""

SHIPPED = (
    "lecun1989",
    "lecun1990",
    "lenet5",
    "lenet5_softmax",
    "lenet5_modern",
    "resnet32_narrow",
    "plain32_narrow",
    "resnet20",
)
"""What `convsuite backbones train shipped` trains: the weights in `data/weights/backbones`."""

PICTURES = {
    "cifar": Recipe(
        epochs=60,
        batch=64,
        learning_rate=0.1,
        momentum=0.9,
        weight_decay=1e-4,
        augment=True,
    )
}
"""Recipes for labelled pictures."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What all trainings take.

    Attributes:
        epochs: Instead of those of the recipe.
        learning_rate: The same.
        seed: Of the weights, and of the order and the cuts of the examples.
        minutes: Time budget.
        command: That repeats the training, for the card.
        resume: Go on from the last checkpoint.
        keep: Go on from the last checkpoint, or return the result that is there already, if it was
            made from the same examples with the same recipe, seed, minutes and precision; else
            begin anew.
        quiet: No progress.
    """

    epochs: int | None = None
    learning_rate: float | None = None
    seed: int = 0
    minutes: float | None = None
    command: str = ""
    resume: bool = False
    keep: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class Trained:
    """A network that was trained: its weight file, its card, its errors in percent."""

    path: Path
    card: Card
    error: float
    train_error: float


def train_digits(
    name: str, out: str | Path, folder: str | Path | None = None, **options: Any
) -> Trained:
    """Train a network on handwritten digits.

    Args:
        name: A recipe of `DIGITS`, or a network that one of them fits.
        out: A `.keras` file; its card goes beside it, log and curve into `NAME-training`.
        folder: The four MNIST files; None takes the small digits of scikit-learn.
        **options: As in `Options`.

    Raises:
        ConvsuiteError: No recipe of that name.
        DataError: Digits are missing or damaged, or there is a training already and `resume` is
            not set.
    """
    chosen = Options(**options)
    recipe = _adapted(digit_recipe(name), chosen)
    digits = load_digits(folder)
    if recipe.bundled and folder is not None:
        digits = _with_bundled(digits)
    entry = spec(recipe.network)
    moments = _moments(digits.train_images[..., None], entry)
    count = min(recipe.examples or len(digits.train_images), len(digits.train_images))
    source = digits.source
    if count < len(digits.train_images):
        source += f"; trained on the first {count:,}"
    parts = [
        (digits.train_images[:count], digits.train_labels[:count]),
        (digits.test_images, digits.test_labels),
    ]
    made_from = _made_from(recipe, parts, chosen)
    if chosen.keep and (kept := _kept(Path(out), made_from)):
        return kept
    examples = [_Examples(digit_inputs(images, entry, moments), y) for images, y in parts]
    card = Card(
        app=APP,
        name=Path(out).stem,
        summary=f"{recipe.network} for handwritten digits",
        settings=_settings(entry, [str(digit) for digit in range(10)], moments),
        training={"data": source, "licence of the data": digits.licence},
        licence=digits.licence,
    )

    def make() -> keras.Model:
        return create(recipe.network)

    return _train(make, recipe, *examples, Path(out), card, chosen, made_from)


def train_pictures(
    name: str,
    source: str | Path,
    out: str | Path,
    *,
    test: str | Path | None = None,
    recipe: str = "cifar",
    licence: str = _OWNERS,
    **options: Any,
) -> Trained:
    """Train a network on pictures sorted into one folder per class.

    Args:
        name: Of the network; its input has the size that its paper has.
        source: A folder or a zip file, see `shared.datasets.load_labelled`.
        out: A `.keras` file; its card goes beside it, log and curve into `NAME-training`.
        test: Pictures to test with; every tenth of each class is held out by default.
        recipe: A name of `PICTURES`.
        licence: Of the weights, for the card.
        **options: As in `Options`.

    Raises:
        ConvsuiteError: No such network or recipe, or a network for grey digits or without classes.
        DataError: No usable pictures, or there is a training already and `resume` is not set.
    """
    if recipe not in PICTURES:
        raise ConvsuiteError(f"No recipe is called {recipe}; there is {', '.join(PICTURES)}.")
    chosen = Options(**options)
    adapted = _adapted(dataclasses.replace(PICTURES[recipe], network=name), chosen)
    entry = spec(name)
    entry.check_classes()
    if entry.channels != 3:
        raise ConvsuiteError(f"{name} takes grey digits; choose a network with coloured input.")
    pictures = load_labelled(source, entry.size)
    if test is None:
        pictures, tests = hold_out(pictures)
    else:
        tests = load_labelled(test, entry.size, pictures.classes)
    for sentence in dict.fromkeys((*pictures.skipped, *tests.skipped)):
        warning_line(f"left out: {sentence}")
    moments = _moments(pictures.images, entry)
    made_from = _made_from(
        adapted, [(part.images, part.labels) for part in (pictures, tests)], chosen
    )
    if chosen.keep and (kept := _kept(Path(out), made_from)):
        return kept
    examples = [
        _Examples(part.images, part.labels, lambda images: picture_inputs(images, entry, moments))
        for part in (pictures, tests)
    ]
    card = Card(
        app=APP,
        name=Path(out).stem,
        summary=f"{name} for {len(pictures.classes)} classes of pictures",
        settings=_settings(entry, list(pictures.classes), moments),
        training={
            "data": f"{Path(source).name}, {len(pictures):,} training and {len(tests):,} test "
            "pictures",
            "licence of the data": licence,
        },
        licence=licence,
    )

    def make() -> keras.Model:
        return create(name, len(pictures.classes), (entry.size, entry.size, 3))

    backend.distribute()
    return _train(make, adapted, *examples, Path(out), card, chosen, made_from)


def digits_table(
    names: Iterable[str],
    seeds: Iterable[int],
    folder: str | Path | None,
    out: str | Path,
    **options: Any,
) -> list[dict[str, Any]]:
    """Train networks on digits, several seeds each, beside nearest neighbours and the papers.

    Args:
        names: As for `train_digits`.
        seeds: One training each.
        folder: The four MNIST files; None takes the small digits of scikit-learn.
        out: Folder for `NAME-seedN.keras`. Trainings found there are kept, see `Options`.
        **options: As in `Options`.

    Returns:
        One row per network, then one for 1-NN and 3-NN on raw pixels: `name`, `error` (mean of the
        test errors, percent), `spread` (their standard deviation), `errors`, `train_error` (mean),
        `seconds` (of all seeds), `paper`.
    """
    rows = []
    seeds = list(seeds)
    for name in names:
        cards = []
        for seed in seeds:
            path = Path(out) / f"{name}-seed{seed}.keras"
            cards.append(train_digits(name, path, folder, seed=seed, keep=True, **options).card)
        errors = [card.results[_TEST] for card in cards]
        rows.append(
            {
                "name": name,
                "error": float(np.mean(errors)),
                "spread": float(np.std(errors, ddof=1)) if len(errors) > 1 else None,
                "errors": errors,
                "train_error": float(np.mean([card.results[_TRAIN] for card in cards])),
                "seconds": sum(card.training["seconds"] for card in cards),
                "paper": digit_recipe(name).paper,
            }
        )
    return [*rows, *_neighbours(folder)]


def ship(
    name: str,
    out: str | Path,
    source: str | Path,
    *,
    test: str | Path | None = None,
    licence: str = _OWNERS,
    **options: Any,
) -> Trained:
    """Train a network and keep its weight file and card alone, as they ship with convsuite.

    Args:
        name: A recipe or network for digits, else a network for labelled pictures.
        out: Folder of weights, `data/weights/backbones`; receives `NAME.keras` and `NAME.json`.
        source: Folder of MNIST files; folder or zip file of labelled pictures.
        test: Labelled pictures to test with.
        licence: Of weights learned from pictures.
        **options: As in `Options`.

    Returns:
        As the trainings, with the path under `out`.
    """
    out = Path(out)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, f"{name}.keras")
        if learns_digits(name):
            trained = train_digits(name, path, source, **options)
        else:
            trained = train_pictures(name, source, path, test=test, licence=licence, **options)
        out.mkdir(parents=True, exist_ok=True)
        for file in (path, path.with_suffix(".json")):
            shutil.copyfile(file, out / file.name)
    return dataclasses.replace(trained, path=out / path.name)


def learns_digits(name: str) -> bool:
    """Return whether a recipe for digits has this name, or fits a network of this name."""
    return _fitting(name) is not None


def digit_recipe(name: str) -> Recipe:
    """Return a recipe for digits by its name, or the one that fits a network.

    Raises:
        ConvsuiteError: There is none.
    """
    key = _fitting(name)
    if key is None:
        known = ", ".join(DIGITS)
        raise ConvsuiteError(
            f"No recipe for digits is called {name}; there is {known}. mlp fits highway_mlp_d10 to "
            "d100 and plain_mlp_d10 to d100."
        )
    recipe = DIGITS[key]
    return recipe if recipe.network else dataclasses.replace(recipe, network=name)


def digit_inputs(images: np.ndarray, entry: Spec, moments: dict[str, Any]) -> np.ndarray:
    """Return digits as a network takes them.

    Args:
        images: `(n, 28, 28)` uint8, white on black.
        entry: The network.
        moments: `mean` and `std` for networks of the kind `unit`.

    Returns:
        float32 `(n, size, size, 1)`.
    """
    return np.stack([preprocess(image, entry, **moments) for image in images])


def picture_inputs(images: np.ndarray, entry: Spec, moments: dict[str, Any]) -> np.ndarray:
    """Return pictures that have the size of a network as it takes them; arguments as above."""
    whole = dataclasses.replace(entry, crop=1.0)
    return np.stack([preprocess(image, whole, **moments) for image in images])


@dataclass(frozen=True, eq=False)
class _Examples:
    images: np.ndarray
    labels: np.ndarray
    prepare: Callable[[np.ndarray], np.ndarray] = np.asarray

    def error(self, forward: Callable[..., Any], count: int | None = None) -> float:
        """Return the share of wrong answers among the first `count`, in percent."""
        labels = self.labels[:count]
        right = 0
        for i in range(0, len(labels), _CHUNK):
            outputs = forward(self.prepare(self.images[i : min(i + _CHUNK, len(labels))]))
            right += int(np.sum(outputs.argmax(1) == labels[i : i + _CHUNK]))
        return 100 * (1 - right / len(labels))


class _Batches:
    """The batch of a step, a function of its number: every epoch another order of the examples."""

    def __init__(self, examples: _Examples, recipe: Recipe, seed: int):
        self._examples = examples
        self._recipe = recipe
        self._seed = seed
        self._epoch, self._order = -1, np.empty(0, int)
        self.batch = min(recipe.batch, len(examples.labels))
        self.per_epoch = len(examples.labels) // self.batch

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            rng = np.random.default_rng((self._seed, epoch))
            self._epoch, self._order = epoch, rng.permutation(len(self._examples.labels))
        rows = self._order[place * self.batch : (place + 1) * self.batch]
        images = self._examples.prepare(self._examples.images[rows])
        if self._recipe.augment:
            images = _cut_and_mirror(images, np.random.default_rng((self._seed, epoch, place)))
        return images, self._examples.labels[rows]


def _cut_and_mirror(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cut each picture at random out of itself with a border of zeros, and mirror half of them."""
    n, height, width, _ = images.shape
    framed = np.pad(images, ((0, 0), (_BORDER, _BORDER), (_BORDER, _BORDER), (0, 0)))
    top, left = rng.integers(0, 2 * _BORDER + 1, (2, n))
    rows = top[:, None] + np.arange(height)
    columns = left[:, None] + np.arange(width)
    mirrored = rng.random(n) < 0.5
    columns[mirrored] = columns[mirrored, ::-1]
    return framed[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]


def _train(
    make: Callable[[], keras.Model],
    recipe: Recipe,
    examples: _Examples,
    tests: _Examples,
    out: Path,
    card: Card,
    options: Options,
    made_from: dict[str, Any],
) -> Trained:
    directory = out.with_name(f"{out.stem}-training")
    _open_directory(directory, made_from, options)
    keras.utils.set_random_seed(options.seed)
    model = make()
    learner = _compiled(model, recipe)
    batches = _Batches(examples, recipe, options.seed)
    forward = backend.compiled(model)
    curvature = None
    if recipe.optimizer == "sdlm":
        curvature = Curvature(learner, examples.images, options.seed)
        curvature.estimate()

    def validate() -> float:
        if curvature:
            curvature.estimate()  # before the checkpoint is written, which holds the result
        return 100 - tests.error(forward, _WATCHED)

    outcome = training.fit(
        learner,
        batches,
        training.Schedule(
            recipe.epochs * batches.per_epoch,
            recipe.learning_rate,
            warmup=recipe.warmup,
            final=0.0,
            minutes=options.minutes,
            log_every=batches.per_epoch,
        ),
        directory,
        validate=validate,
        resume=options.resume or options.keep,
        quiet=options.quiet,
    )
    error, train_error = tests.error(forward), examples.error(forward)
    facts = {
        "command": options.command,
        "steps": outcome.steps,
        "batch": batches.batch,
        "seconds": round(outcome.seconds),
        "machine": report.machine().get("CPU", ""),
    }
    card = dataclasses.replace(
        card,
        training={**card.training, **made_from, **facts},
        results={
            _TEST: round(error, 3),
            _TRAIN: round(train_error, 3),
            "test examples": len(tests.labels),
        },
    )
    return Trained(out, weights.save_model(model, out, card), error, train_error)


def _adapted(recipe: Recipe, options: Options) -> Recipe:
    """Return a recipe with the epochs and the rate of the options, where they name some."""
    return dataclasses.replace(
        recipe,
        epochs=options.epochs or recipe.epochs,
        learning_rate=options.learning_rate or recipe.learning_rate,
    )


def _made_from(
    recipe: Recipe, parts: Iterable[tuple[np.ndarray, np.ndarray]], options: Options
) -> dict[str, Any]:
    """Return what decides the result of a training, for its card."""
    digest = hashlib.sha256()
    for images, labels in parts:
        for array in (images, labels):
            digest.update(f"{array.shape} {array.dtype}".encode())
            digest.update(np.ascontiguousarray(array))
    return {
        "sha256 of the examples": digest.hexdigest(),
        "recipe": dataclasses.asdict(recipe),
        "seed": options.seed,
        "minutes": options.minutes,
        "precision": keras.config.dtype_policy().name,
    }


def _kept(out: Path, made_from: dict[str, Any]) -> Trained | None:
    """Return a finished training, if there is one that was made from the same."""
    if weights.verify(out):
        return None
    card = weights.read_card(out)
    if not made_from.items() <= card.training.items():
        return None
    return Trained(out, card, card.results[_TEST], card.results[_TRAIN])


def _open_directory(directory: Path, made_from: dict[str, Any], options: Options) -> None:
    """Note in the folder of a training what it is made from.

    Raises:
        DataError: Another training is there that is to go on.
    """
    file = directory / _MADE_FROM
    text = to_json(made_from, indent=1) + "\n"
    if (directory / training.CHECKPOINT).exists():
        is_same = file.is_file() and file.read_text(encoding="utf-8") == text
        if options.resume and not is_same:
            raise DataError(
                f"{directory} holds a training of other examples or options: resume with those of "
                "the first run, or name another file."
            )
        if options.keep and not is_same:
            shutil.rmtree(directory)
    if not (directory / training.CHECKPOINT).exists():
        directory.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def _compiled(model: keras.Model, recipe: Recipe) -> keras.Model:
    """Return the model up to what the loss looks at, compiled."""
    match recipe.loss:
        case "cross_entropy":
            output = model.get_layer("probs").input
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        case "mse":
            output, loss = model.output, losses.TargetMSE()
        case "map":
            output, loss = model.get_layer("predictions").output, losses.MAPLoss()
    match recipe.optimizer:
        case "sgd":
            # Keras takes rate * decay * weight off the weight. The papers' decay runs through the
            # momentum, which lets it act 1 / (1 - momentum) times.
            decay = recipe.weight_decay / (1 - recipe.momentum)
            optimizer = keras.optimizers.SGD(momentum=recipe.momentum, weight_decay=decay or None)
        case "adam":
            optimizer = keras.optimizers.Adam()
        case "sdlm":
            optimizer = SDLM()
    learner = keras.Model(model.input, output, name=model.name)
    learner.compile(optimizer, loss=loss, jit_compile=backend.jit_compile())
    return learner


def _with_bundled(digits: Digits) -> Digits:
    bundled = load_digits(None)
    return dataclasses.replace(
        digits,
        train_images=np.concatenate([digits.train_images, bundled.train_images]),
        train_labels=np.concatenate([digits.train_labels, bundled.train_labels]),
        source=f"{digits.source}; trained also on {len(bundled.train_labels):,} digits of "
        "scikit-learn",
    )


def _moments(images: np.ndarray, entry: Spec) -> dict[str, Any]:
    """Return mean and deviation per channel on 0..1 where the network is of the kind `unit`."""
    if entry.preprocessing != "unit":
        return {}
    values = images.reshape(-1, images.shape[-1])
    return {
        "mean": [round(float(mean) / 255, 6) for mean in values.mean(0)],
        "std": [round(float(std) / 255, 6) for std in values.std(0)],
    }


def _settings(entry: Spec, labels: list[str], moments: dict[str, Any]) -> dict[str, Any]:
    return {
        "network": entry.name,
        "classes": len(labels),
        "labels": labels,
        "preprocessing": entry.preprocessing,
        **moments,
    }


def _fitting(name: str) -> str | None:
    if name in DIGITS and DIGITS[name].network:
        return name
    return "mlp" if name.startswith(("highway_mlp_", "plain_mlp_")) else None


def _neighbours(folder: str | Path | None) -> list[dict[str, Any]]:
    from sklearn.neighbors import KNeighborsClassifier

    digits = load_digits(folder)
    train, test = (
        images.reshape(len(images), -1).astype(np.float32)
        for images in (digits.train_images, digits.test_images)
    )
    rows = []
    for k in (1, 3):
        fitted = KNeighborsClassifier(k, algorithm="brute").fit(train, digits.train_labels)
        error = 100 * float(np.mean(fitted.predict(test) != digits.test_labels))
        rows.append(
            {"name": f"{k}-NN", "error": error, "spread": None, "errors": [error], "paper": ""}
        )
    return rows

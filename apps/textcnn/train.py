"""How a network is trained, calibrated and joined with an NB-SVM; cross-validation and tuning.

Sources: Kim 2014, EMNLP, section 3.1 (the preset `paper`); Zhang & Wallace 2015, "A Sensitivity
Analysis of (and Practitioners' Guide to) CNNs for Sentence Classification", section 5 (`tune`);
Guo et al. 2017, ICML (temperature).
"""

import csv
import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
from scipy import optimize

from shared import backend, metrics, report, training, weights
from shared.console import console, warning_line
from shared.errors import DataError
from shared.weights import Card

from . import data, fast, model, scores, text, vectors
from .classifier import APP, TextClassifier, log_softmax
from .corpus import Corpus, Numbers
from .data import Rows
from .model import Architecture
from .nbsvm import NBSVM
from .text import UNKNOWN, Vocabulary
from .vectors import Vectors

ClassWeight = Literal["none", "balanced", "sqrt"]
CLASS_WEIGHTS = ("none", "balanced", "sqrt")
_RARE = 0.5
"""Share of the words counted once that a step reads as unknown, so that `UNKNOWN` is trained."""
_LONG_TEXT = 128
_BINS = 15
_PROGRESS = 0.01
"""Nats below the entropy of the classes that the dev loss must reach to call it learned."""
_LEAST, _LARGEST = 0.05, 20.0
"""Bounds of temperatures and of hybrid weights, which dev texts without an error would not set."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        architecture: Its sizes.
        optimizer: `adam` or `adadelta`.
        learning_rate: Constant.
        batch: Texts of a step.
        epochs: At most.
        patience: Epochs without a better dev score before stopping; the best weights are kept.
            With 0, all epochs are made, and the last weights are kept.
        watch: The dev score: `loss`, or `accuracy` (of equal ones the last).
        clip: Largest norm of all gradients together; 0 for any.
        rescale: Standard deviation that given vectors are brought to; None leaves them.
        dev_share: Of the training texts, where no dev texts are given.
        dim: Numbers of a vector where none are given.
        tokeniser: One of `text.TOKENISERS`, or `auto`.
        min_count: Rarer words get no row of their own.
        most: Words of the training texts that get one.
        extend: Further words that get one, of the most frequent of the vectors.
        max_tokens: Words of a text that are read at once.
        long: What becomes of longer texts, see `text.cut`.
        class_weight: `balanced` weighs classes by n / (K n_c), `sqrt` by its root; mean 1.
        hybrid: Join the network with an NB-SVM of the same texts.
        multi_label: A text may have several labels, joined by `;`.
        thresholds: Choose those of the classes on the dev texts, for the largest macro-F1. Always
            done for `multi_label`; else for two classes only.

    Raises:
        DataError: A value is out of range.
    """

    architecture: Architecture = field(default_factory=Architecture)
    optimizer: Literal["adam", "adadelta"] = "adam"
    learning_rate: float = 1e-3
    batch: int = 50
    epochs: int = 15
    patience: int = 2
    watch: Literal["loss", "accuracy"] = "loss"
    clip: float = 1.0
    rescale: float | None = vectors.RESCALED
    dev_share: float = 0.1
    dim: int = 300
    tokeniser: str = "auto"
    min_count: int = 1
    most: int = text.MOST
    extend: int = 0
    max_tokens: int = 400
    long: str = "head"
    class_weight: ClassWeight = "none"
    hybrid: bool = False
    multi_label: bool = False
    thresholds: bool = False

    def __post_init__(self):
        if not (self.batch >= 1 and self.epochs >= 1 and self.patience >= 0 and self.dim >= 1):
            raise DataError(
                "Batch, epochs and vector length must be at least 1, and patience not negative."
            )
        if not self.learning_rate > 0:
            raise DataError(f"The learning rate must be positive, not {self.learning_rate}.")
        if not 0 < self.dev_share < 1:
            raise DataError(f"The dev share must be between 0 and 1, not {self.dev_share}.")
        if self.class_weight not in CLASS_WEIGHTS:
            raise DataError(
                f"There is no class weight {self.class_weight!r}; choose from "
                f"{', '.join(CLASS_WEIGHTS)}."
            )
        if self.tokeniser != "auto" and self.tokeniser not in text.TOKENISERS:
            raise DataError(
                f"There is no tokeniser {self.tokeniser!r}; choose from auto, "
                f"{', '.join(text.TOKENISERS)}."
            )
        if self.hybrid and self.multi_label:
            raise DataError("A hybrid cannot give several labels to a text; leave one of them out.")
        if self.class_weight != "none" and self.multi_label:
            raise DataError("Class weights need texts of one label each; leave one of them out.")


DEFAULT = Recipe()
PAPER = Recipe(
    architecture=Architecture(init="paper"),
    optimizer="adadelta",
    learning_rate=1.0,
    epochs=25,
    patience=25,
    watch="accuracy",
    clip=0.0,
    rescale=None,
)
"""Of the author, with his dev set of 10 %; the weights of the last best epoch are kept."""
PRESETS = {"default": DEFAULT, "paper": PAPER}


class Trained(NamedTuple):
    """What came out: the classifier, its card (None if no file was asked for), and facts."""

    classifier: TextClassifier
    card: Card | None
    facts: dict[str, Any]


class _Texts(NamedTuple):
    """Texts as the training sees them."""

    tokens: list[list[str]] | None
    """None for texts on disk"""
    ids: Sequence[np.ndarray]
    targets: np.ndarray
    """int32 `(n,)`, for several labels float32 `(n, K)`"""


def train(
    rows: Rows | Corpus,
    out: str | Path | None,
    recipe: Recipe = DEFAULT,
    *,
    test: Rows | None = None,
    dev: Rows | None = None,
    vectors: Vectors | None = None,
    seed: int = 0,
    resume: bool = False,
    quiet: bool = False,
    licence: str = "as the training data",
    source: str = "",
    summary: str = "",
    command: str = "",
) -> Trained:
    """Train a network.

    Args:
        rows: Texts and their labels; a corpus stays on disk.
        out: A `.keras` file; its card goes beside it, log and curve into `NAME-training`. None
            writes nothing.
        recipe: Sizes and lengths.
        test: Texts to measure on; nothing else is learned from or chosen by them.
        dev: Texts to stop and calibrate by; a share of `rows` unless given.
        vectors: Of words; random ones unless given.
        seed: Of weights, order and the choice of dev texts.
        resume: Go on from the last checkpoint.
        quiet: No progress, no messages.
        licence: Of the weights, for the card.
        source: What the data are, for the card.
        summary: One line for tables, for the card.
        command: That repeats the training, for the card.

    Raises:
        DataError: The labels are of no use, `dev` or `test` hold others, or there is a training
            already and `resume` is not set.
    """
    further = () if vectors is None else vectors.words[: recipe.extend]
    if isinstance(rows, Corpus):
        _check_on_disk(rows, recipe)
        names, tokeniser, dev = class_names(rows.names), rows.tokeniser, dev or rows.held
        vocabulary = rows.vocabulary.extended(further)
        learned = _Texts(None, rows.ids, rows.labels)
    else:
        names = class_names(rows.labels, recipe.multi_label)
        if dev is None:
            kept, held = data.split(rows, recipe.dev_share, seed)
            rows, dev = rows.chosen(kept), rows.chosen(held)
        tokeniser = recipe.tokeniser
        if tokeniser == "auto":
            tokeniser = text.choose_tokeniser(rows.texts)
        tokens = [text.tokenise(one, tokeniser) for one in rows.texts]
        vocabulary = Vocabulary.of(tokens, min_count=recipe.min_count, most=recipe.most)
        vocabulary = vocabulary.extended(further)
        learned = _texts(rows, tokens, vocabulary, names, recipe)
    if dev is None:
        raise DataError(f"{rows.name}: no texts were held out; give some to stop by.")
    watched = _texts(
        dev, [text.tokenise(one, tokeniser) for one in dev.texts], vocabulary, names, recipe
    )
    if not quiet:
        _report_cut(learned, recipe)

    keras.utils.set_random_seed(seed)
    network = _network(recipe, vocabulary, vectors, len(names), seed)
    if out is None:
        with tempfile.TemporaryDirectory() as scratch:
            outcome, epochs, curve = _fit(
                network, recipe, learned, watched, Path(scratch, "run"), seed, False, quiet
            )
    else:
        out = Path(out)
        folder = out.with_name(f"{out.stem}-training")
        outcome, epochs, curve = _fit(
            network, recipe, learned, watched, folder, seed, resume, quiet
        )

    settings = {
        "task": "classes",
        "names": list(names),
        "tokeniser": tokeniser,
        "temperature": 1.0,
        "prior": _prior(learned.targets, len(names)).round(6).tolist(),
        "hybrid": None,
        "multi_label": recipe.multi_label,
        "thresholds": None,
        "max_tokens": recipe.max_tokens,
        "long": recipe.long,
        "vectors": vectors and {"source": vectors.source, "licence": vectors.licence},
    }
    classifier = TextClassifier(network, settings)
    facts = _calibrate(classifier, recipe, learned, watched)
    classifier = TextClassifier(network, settings)
    if recipe.thresholds or recipe.multi_label:
        settings["thresholds"] = _thresholds(classifier, watched)
        classifier = TextClassifier(network, settings)
    facts |= {
        "dev texts": len(dev.texts),
        "training texts": len(learned.ids),
        "classes": dict(zip(names, _counts(learned.targets, len(names)).tolist(), strict=True)),
        "epochs": epochs,
        "stopped by": outcome.stopped,
        "curve": curve,
    }
    prior = np.array(settings["prior"])
    entropy = -np.sum(prior * np.log(np.clip(prior, 1e-9, None)))
    if not recipe.multi_label and facts["dev NLL"] > entropy - _PROGRESS:
        facts["note"] = "the network learned nothing: on the dev texts it only guesses"
        if not quiet:
            warning_line(f"{facts['note']}; try another learning rate, or more texts.")
    if test is not None:
        facts = evaluate(classifier, test) | facts
    card = None
    if out is not None:
        card = _save(
            network,
            settings,
            facts,
            recipe,
            outcome,
            out,
            seed=seed,
            licence=licence,
            source=source,
            summary=summary,
            command=command,
        )
    return Trained(classifier, card, facts)


def class_names(labels: Sequence[str], multi_label: bool = False) -> tuple[str, ...]:
    """Return the names of the classes, sorted.

    Raises:
        DataError: There are fewer than two, or two are the same number written differently.
    """
    names = sorted({name for label in labels for name in split_label(label, multi_label)})
    if len(names) < 2 - multi_label:
        only = f"only {names[0]!r}" if names else "none"
        raise DataError(f"The texts have {only} as their label; two classes are needed.")
    numbers: dict[float, str] = {}
    for name in names:
        try:
            number = float(name)
        except ValueError:
            continue
        if number in numbers:
            raise DataError(
                f"The labels {numbers[number]!r} and {name!r} are the same number; write them "
                "alike."
            )
        numbers[number] = name
    return tuple(names)


def split_label(label: str, multi_label: bool) -> list[str]:
    """Return the labels of a text: several ones are joined by `;`."""
    if not multi_label:
        return [label]
    return [name for part in label.split(";") if (name := part.strip())]


def targets(labels: Sequence[str], names: Sequence[str], multi_label: bool = False) -> np.ndarray:
    """Return the class of each text, int32 `(n,)`; for several labels float32 `(n, K)` of 0 and 1.

    Raises:
        DataError: A label is none of the names.
    """
    numbers = {name: number for number, name in enumerate(names)}
    try:
        chosen = [[numbers[name] for name in split_label(one, multi_label)] for one in labels]
    except KeyError as error:
        raise DataError(
            f"The label {error.args[0]!r} is none of the {len(names)} that the training texts have."
        ) from None
    if not multi_label:
        return np.array([one[0] for one in chosen], np.int32)
    found = np.zeros((len(labels), len(names)), np.float32)
    for row, one in zip(found, chosen, strict=True):
        row[one] = 1
    return found


def evaluate(classifier: TextClassifier, rows: Rows) -> dict[str, Any]:
    """Measure a classifier on labelled texts.

    Returns:
        The first entry is a line for tables.

    Raises:
        DataError: A label is none of the classifier's.
    """
    expected = targets(rows.labels, classifier.names, classifier.multi_label)
    probabilities = classifier.probabilities(rows.texts)
    if classifier.multi_label:
        thresholds = 0.5 if classifier.thresholds is None else classifier.thresholds
        answers = probabilities >= thresholds
        f1 = float(np.mean(_f1(answers, expected > 0.5)))
        exact = float(np.mean(np.all(answers == (expected > 0.5), axis=1)))
        return {
            "test": f"macro-F1 {100 * f1:.1f} %, all labels right {100 * exact:.1f} %",
            "macro-F1": round(f1, 4),
            "all labels right": round(exact, 4),
            "test texts": len(expected),
        }
    answers = targets(classifier.predict(rows.texts), classifier.names)
    accuracy = scores.accuracy(expected, answers)
    f1 = scores.macro_f1(expected, answers, len(classifier.names))
    interval = metrics.wilson(int(np.sum(answers == expected)), len(expected))
    return {
        "test": f"accuracy {100 * accuracy:.1f} %, macro-F1 {100 * f1:.1f} %",
        "accuracy": round(accuracy, 4),
        "95 % interval": [round(bound, 4) for bound in interval],
        "macro-F1": round(f1, 4),
        "NLL": round(scores.nll(probabilities, expected), 4),
        "ECE": round(scores.ece(probabilities, expected, _BINS), 4),
        "test texts": len(expected),
        "per class": {
            row["class"]: {
                name: round(value, 4) if isinstance(value, float) else value
                for name, value in row.items()
                if name != "class"
            }
            for row in scores.per_class(expected, answers, classifier.names)
        },
    }


def crossvalidate(
    rows: Rows,
    recipe: Recipe = DEFAULT,
    folds: int = 10,
    seeds: Sequence[int] = (0,),
    vectors: Vectors | None = None,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Train and measure on every fold, with every seed; folds are the same for all seeds.

    Args:
        rows: All texts.
        recipe: As for `train`.
        folds: Into how many parts the texts are divided.
        seeds: Of the trainings.
        vectors: As for `train`.
        progress: Told how many of how many trainings are done.

    Returns:
        Mean accuracy with its spread, the interval of all texts together, and each fold.

    Raises:
        DataError: A class has fewer texts than there are folds.
    """
    accuracies, f1s, right, total = [], [], 0, 0
    parts = list(data.folds(rows, folds, 0))
    for seed in seeds:
        for learned, held in parts:
            result = train(
                rows.chosen(learned),
                None,
                recipe,
                test=rows.chosen(held),
                vectors=vectors,
                seed=seed,
                quiet=True,
            ).facts
            accuracies.append(result.get("accuracy", result.get("all labels right")))
            f1s.append(result["macro-F1"])
            right += round(accuracies[-1] * len(held))
            total += len(held)
            progress(len(accuracies), len(parts) * len(seeds))
    # Seeds repeat the same texts, so they make the interval no narrower.
    once = round(right / len(seeds)), round(total / len(seeds))
    return {
        "test": f"accuracy {100 * np.mean(accuracies):.1f} %, macro-F1 {100 * np.mean(f1s):.1f} %",
        "accuracy": round(float(np.mean(accuracies)), 4),
        "95 % interval": [round(bound, 4) for bound in metrics.wilson(*once)],
        "standard deviation of the folds": round(float(np.std(accuracies, ddof=1)), 4),
        "macro-F1": round(float(np.mean(f1s)), 4),
        "folds": folds,
        "seeds": list(seeds),
        "accuracy of each": accuracies,
    }


def tune(
    rows: Rows,
    recipe: Recipe = DEFAULT,
    *,
    dev: Rows | None = None,
    vectors: Vectors | None = None,
    widths: Sequence[int] = tuple(range(1, model.WIDEST + 1)),
    maps: Sequence[int] = (100, 200, 400, 600),
    dropouts: Sequence[float] = (0.1, 0.3, 0.5),
    seeds: Sequence[int] = (0,),
    progress: Callable[[str], None] = lambda line: None,
) -> tuple[Recipe, list[dict[str, Any]]]:
    """Search sizes one after the other, as Zhang & Wallace advise: widths, maps, dropout.

    First one width alone, then combinations around the best one, then the rest. Test texts have no
    part in it. Differences below a point mean nothing with one seed.

    Args:
        rows: Training texts.
        recipe: Where to start.
        dev: Texts to compare by; a share of `rows` unless given.
        vectors: As for `train`.
        widths: To try.
        maps: To try.
        dropouts: To try.
        seeds: Whose mean counts.
        progress: Told about each trial.

    Returns:
        The best recipe, and each trial: `stage`, `widths`, `maps`, `dropout`, `dev accuracy`,
        `dev NLL`.
    """
    if dev is None:
        kept, held = data.split(rows, recipe.dev_share, 0)
        rows, dev = rows.chosen(kept), rows.chosen(held)
    trials: dict[Architecture, dict[str, Any]] = {}

    def try_one(stage: str, architecture: Architecture) -> None:
        if architecture in trials:
            return
        changed = dataclasses.replace(recipe, architecture=architecture, hybrid=False)
        facts = [
            train(rows, None, changed, dev=dev, vectors=vectors, seed=seed, quiet=True).facts
            for seed in seeds
        ]
        trials[architecture] = {
            "stage": stage,
            "widths": list(architecture.widths),
            "maps": architecture.maps,
            "dropout": architecture.dropout,
            "dev accuracy": round(float(np.mean([one["dev accuracy"] for one in facts])), 4),
            "dev NLL": round(float(np.mean([one["dev NLL"] for one in facts])), 4),
        }
        progress(", ".join(f"{name} {value}" for name, value in trials[architecture].items()))

    def best(stages: tuple[str, ...]) -> Architecture:
        chosen = [one for one in trials if trials[one]["stage"] in stages]
        return max(chosen, key=lambda one: (trials[one]["dev accuracy"], -trials[one]["dev NLL"]))

    start = recipe.architecture
    for width in widths:
        try_one("one width", dataclasses.replace(start, widths=(width,)))
    top = best(("one width",)).widths[0]
    near = [w for w in (top - 1, top, top + 1) if 1 <= w <= model.WIDEST]
    for combination in (start.widths, tuple(near), (top,) * 3, (top,) * 4):
        try_one("widths", dataclasses.replace(start, widths=combination))
    # Widths are now those of the best trial so far, of one width or several.
    start = best(("one width", "widths"))
    for count in maps:
        try_one("maps", dataclasses.replace(start, maps=count))
    start = best(("one width", "widths", "maps"))
    for dropout in dropouts:
        try_one("dropout", dataclasses.replace(start, dropout=dropout))
    winner = best(("one width", "widths", "maps", "dropout"))
    return dataclasses.replace(recipe, architecture=winner), list(trials.values())


def nll(log_probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean negative log-likelihood of the right classes, in nats."""
    return float(-np.mean(log_probabilities[np.arange(len(labels)), labels]))


def temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the T for which softmax(logits / T) is likeliest to give the labels.

    Args:
        logits: `(n, K)`.
        labels: `(n,)` of class numbers, or `(n, K)` of 0 and 1 for a sigmoid.
    """

    def loss(log_t: float) -> float:
        scaled = logits / np.exp(log_t)
        if labels.ndim == 2:
            return float(np.mean(np.logaddexp(0, scaled) - labels * scaled))
        return nll(log_softmax(scaled), labels)

    found = optimize.minimize_scalar(loss, bounds=np.log([_LEAST, _LARGEST]), method="bounded")
    return float(np.exp(found.x))


def hybrid_weights(
    log_probabilities: np.ndarray, svm: np.ndarray, labels: np.ndarray
) -> tuple[float, float]:
    """Return the weights (a, b) for which softmax(a log p + b s) is likeliest to give the labels.

    Args:
        log_probabilities: Of the network `(n, K)`.
        svm: Decision values of the NB-SVM `(n, K)`.
        labels: `(n,)`.
    """

    def loss(logs: np.ndarray) -> float:
        a, b = np.clip(np.exp(logs), _LEAST, _LARGEST)
        return nll(log_softmax(a * log_probabilities + b * svm), labels)

    found = optimize.minimize(loss, np.log([0.7, 0.7]), method="Nelder-Mead")
    a, b = np.clip(np.exp(found.x), _LEAST, _LARGEST)
    return float(a), float(b)


def class_weights(labels: np.ndarray, classes: int, kind: ClassWeight) -> np.ndarray:
    """Return the weight of each class `(K,)`; the mean over the texts is 1."""
    counts = np.bincount(labels, minlength=classes)
    if kind == "none":
        return np.ones(classes)
    inverse = len(labels) / (classes * np.maximum(counts, 1))
    if kind == "sqrt":
        inverse = np.sqrt(inverse)
    return inverse * len(labels) / np.sum(inverse * counts)


def _texts(rows, tokens, vocabulary, names, recipe):
    ids = [vocabulary.ids(words) for words in tokens]
    return _Texts(tokens, ids, targets(rows.labels, names, recipe.multi_label))


def _lengths(ids):
    return ids.lengths if isinstance(ids, Numbers) else np.array([len(row) for row in ids])


def _check_on_disk(corpus, recipe):
    if recipe.hybrid or recipe.multi_label or recipe.long != "head":
        raise DataError(
            f"{corpus.name}: texts on disk are learned by the network alone, from their heads, "
            "with one label each; leave out the NB-SVM, --multi-label and --long."
        )


def _report_cut(learned, recipe):
    count = int(np.sum(_lengths(learned.ids) > recipe.max_tokens))
    if count:
        console.print(
            f"{count} of {len(learned.ids)} training texts are longer than {recipe.max_tokens} "
            f"words; of these: {recipe.long}"
        )


def _network(recipe, vocabulary, given, classes, seed):
    dim = recipe.dim if given is None else given.array.shape[1]
    if recipe.architecture.mode == "rand":
        given = None
    rng = np.random.default_rng(seed)
    table = vectors.matrix(vocabulary, given, dim, rng, recipe.rescale)
    network = model.network(recipe.architecture, table, classes, vocabulary)
    options = {"global_clipnorm": recipe.clip} if recipe.clip else {}
    if recipe.optimizer == "adam":
        optimizer = keras.optimizers.Adam(recipe.learning_rate, **options)
    else:
        optimizer = keras.optimizers.Adadelta(
            recipe.learning_rate, rho=0.95, epsilon=1e-6, **options
        )
    loss = (
        keras.losses.BinaryCrossentropy(from_logits=True)
        if recipe.multi_label
        else keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    network.compile(optimizer, loss, jit_compile=backend.jit_compile())
    return network


def _pieces(learned, recipe):
    """Return what is learned from at once, the text of each, and their lengths."""
    if isinstance(learned.ids, Numbers):
        return learned.ids, np.arange(len(learned.ids)), learned.ids.lengths
    pairs = [
        (piece, number)
        for number, row in enumerate(learned.ids)
        for piece in text.cut(row, recipe.max_tokens, recipe.long)
    ]
    pieces, owners = zip(*pairs, strict=True)
    return pieces, np.array(owners), np.array([len(piece) for piece in pieces])


def _fit(network, recipe, learned, watched, folder, seed, resume, quiet):
    """Train, and return the outcome, the number of epochs, and the rows of the log."""
    pieces, owners, lengths = _pieces(learned, recipe)
    size = min(recipe.batch, len(pieces))
    per_epoch = -(-len(pieces) // size)
    vocabulary = network.get_layer("words").vocabulary
    is_rare = np.concatenate([[False, False], vocabulary.counts == 1])
    widest = max(recipe.architecture.widths)
    weight = None
    if recipe.class_weight != "none":
        of_classes = class_weights(
            learned.targets, network.output.shape[-1], recipe.class_weight
        ).astype(np.float32)
        weight = of_classes[learned.targets]
    orders: dict[int, list[np.ndarray]] = {}

    def batches(step: int) -> tuple:
        epoch, place = divmod(step, per_epoch)
        if epoch not in orders:
            orders.clear()
            orders[epoch] = text.buckets(lengths, size, np.random.default_rng((seed, epoch)))
        chosen = orders[epoch][place]
        rng = np.random.default_rng((seed, epoch, place))
        # Only texts on disk can still be too long here.
        ids = _padded([pieces[i][: recipe.max_tokens] for i in chosen], widest)
        ids[is_rare[ids] & (rng.random(ids.shape) < _RARE)] = UNKNOWN
        batch = (ids, learned.targets[owners[chosen]])
        return batch if weight is None else (*batch, weight[owners[chosen]])

    def validate() -> float:
        logits = _logits(network, watched.ids, recipe)
        if recipe.watch == "accuracy" and not recipe.multi_label:
            # The last of equally good epochs counts, as with the author.
            later = 1e-9 * int(network.optimizer.iterations)
            return float(np.mean(logits.argmax(1) == watched.targets)) + later
        if recipe.multi_label:
            return -float(np.mean(np.logaddexp(0, logits) - watched.targets * logits))
        own = log_softmax(logits)[np.arange(len(logits)), watched.targets]
        # What the training minimises; without the weights it would stop before rare classes count.
        return float(np.mean(own if weight is None else own * of_classes[watched.targets]))

    schedule = training.Schedule(
        recipe.epochs * per_epoch,
        recipe.learning_rate,
        warmup=1,
        final=1.0,
        log_every=per_epoch,
        patience=recipe.patience or None,
    )
    outcome = training.fit(
        network, batches, schedule, folder, validate=validate, resume=resume, quiet=quiet
    )
    with (folder / training.METRICS).open(newline="") as file:
        curve = [
            {"loss": round(float(row["loss"]), 4), f"dev {recipe.watch}": _dev(row, recipe)}
            for row in csv.DictReader(file)
        ]
    return outcome, -(-outcome.steps // per_epoch), curve


def _dev(row, recipe):
    score = float(row["score"])
    return round(score if recipe.watch == "accuracy" else -score, 4)


def _padded(pieces, widest):
    longest = max(map(len, pieces))
    # Every length is a graph to trace, on some backends one to compile.
    is_coarse = longest > _LONG_TEXT or backend.compiles_each_size()
    return text.pad(pieces, 64 if is_coarse else 16, widest)


def _logits(network, ids, recipe):
    """Return the logits of texts with the weights as they are now, float64."""
    tables = fast.TableNetwork(model.parameters(network))
    parts = [text.cut(row, recipe.max_tokens, recipe.long) for row in ids]
    found = tables.logits([piece for one in parts for piece in one]).astype(np.float64)
    counts = np.array([len(one) for one in parts])
    return np.add.reduceat(found, np.cumsum(counts) - counts) / counts[:, None]


def _calibrate(classifier, recipe, learned, watched):
    """Fit temperature and weights of the hybrid into the settings; return the dev facts."""
    settings, labels = classifier.settings, watched.targets
    logits = classifier.network_logits(watched.ids)
    settings["temperature"] = round(temperature(logits, labels), 6)
    if recipe.multi_label:
        return {"temperature": settings["temperature"]}
    before = log_softmax(logits)
    after = log_softmax(logits / settings["temperature"])
    facts = {
        "dev accuracy": round(float(np.mean(logits.argmax(1) == labels)), 4),
        "dev NLL": round(nll(after, labels), 4),
        "dev ECE without temperature": round(scores.ece(np.exp(before), labels, _BINS), 4),
        "dev ECE": round(scores.ece(np.exp(after), labels, _BINS), 4),
        "temperature": settings["temperature"],
    }
    if recipe.hybrid:
        svm = NBSVM().fit(learned.tokens, learned.targets, len(settings["names"]))
        values = svm.scores(watched.tokens)
        a, b = hybrid_weights(before, values, labels)
        settings["hybrid"] = {"network": round(a, 6), "nbsvm": round(b, 6)}
        classifier.network.get_layer("words").arrays = svm.to_arrays()
        joined = log_softmax(a * before + b * values)
        facts |= {
            "dev accuracy of the NB-SVM": round(float(np.mean(values.argmax(1) == labels)), 4),
            "dev accuracy of the hybrid": round(float(np.mean(joined.argmax(1) == labels)), 4),
            "dev NLL of the hybrid": round(nll(joined, labels), 4),
            "hybrid": settings["hybrid"],
        }
    return facts


def _thresholds(classifier, watched):
    """Return the threshold of each class with the largest F1 on the dev texts."""
    probabilities = classifier.to_probabilities(classifier.logits_of_tokens(watched.tokens))
    if classifier.multi_label:
        return [
            _best_threshold(column, truth > 0.5, lambda answers, truth: _f1(answers, truth)[0])
            for column, truth in zip(probabilities.T, watched.targets.T, strict=True)
        ]
    if len(classifier.names) != 2:
        raise DataError("A threshold can be chosen for two classes, or for several labels a text.")

    def macro(answers: np.ndarray, truth: np.ndarray) -> float:
        return float(_f1(np.hstack([answers, ~answers]), np.hstack([truth, ~truth])).mean())

    chosen = _best_threshold(probabilities[:, 1], watched.targets == 1, macro)
    return [round(1 - chosen, 6), chosen]


def _best_threshold(probabilities, truth, score):
    """Return the middle of the gap between two probabilities that divides best."""
    values = np.unique(probabilities)
    if len(values) > 200:
        values = np.quantile(values, np.linspace(0, 1, 201))
    candidates = (values[1:] + values[:-1]) / 2
    if not len(candidates) or truth.all() or not truth.any():
        return 0.5
    found = [score((probabilities >= one)[:, None], truth[:, None]) for one in candidates]
    return round(float(candidates[int(np.argmax(found))]), 6)


def _f1(answers, truth):
    """Return the F1 of each column of `(n, K)` booleans; 0 where nothing was right."""
    both = np.sum(answers & truth, axis=0)
    return 2 * both / np.maximum(answers.sum(axis=0) + truth.sum(axis=0), 1)


def _counts(labels, classes):
    if labels.ndim == 2:
        return labels.sum(axis=0).astype(int)
    return np.bincount(labels, minlength=classes)


def _prior(labels, classes):
    return _counts(labels, classes) / len(labels)


def _save(network, settings, facts, recipe, outcome, out, *, seed, licence, source, summary,
          command):  # fmt: skip
    card = Card(
        app=APP,
        name=out.stem,
        summary=summary,
        settings=settings,
        training={
            "data": source,
            "vectors": settings["vectors"],
            "recipe": dataclasses.asdict(recipe),
            "command": command,
            "steps": outcome.steps,
            "seed": seed,
            "seconds": round(outcome.seconds),
            "precision": "float32",
            "machine": report.machine().get("CPU", ""),
        },
        results=facts,
        licence=licence,
    )
    return weights.save_model(network, out, card)

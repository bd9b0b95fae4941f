"""One training loop: seed, exact resume, log, curves, early stop, time budget.

A step's batch is a function of the step number alone, and a checkpoint holds weights and optimiser
in one file that is renamed into place. So a run killed at any moment and resumed ends, on a CPU,
with the same weights as the run that was left alone.
"""

import csv
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from shared import backend
from shared.console import console, progress
from shared.errors import DataError

CHECKPOINT = "checkpoint.weights.h5"
BEST = "best.weights.h5"
METRICS = "metrics.csv"
CURVE = "curve.png"
_GROUP, _CALL = 32, 0.25
"""Steps handed to the backend at once: so many at most, and as take so many seconds."""


@dataclass(frozen=True)
class Schedule:
    """How long, and how fast, to learn."""

    steps: int
    learning_rate: float = 1e-3
    warmup: int = 100
    """Steps of linear warm-up."""
    final: float = 0.03
    """The cosine decay ends at this fraction of `learning_rate`."""
    minutes: float | None = None
    """Time budget; the decay then follows whichever of steps and time is further."""
    log_every: int = 50
    """Steps between two rows of `metrics.csv`, with a validation and a checkpoint each."""
    patience: int | None = None
    """Rows without a better validation before stopping; the best weights are kept."""

    def rate(self, step: int, progress: float) -> float:
        """Return the learning rate of a step, `progress` in 0..1."""
        cosine = 0.5 * (1 + np.cos(np.pi * min(progress, 1.0)))
        decay = self.final + (1 - self.final) * cosine
        return float(self.learning_rate * decay * min(1.0, (step + 1) / max(self.warmup, 1)))


@dataclass(frozen=True)
class Outcome:
    """What a training run came to."""

    steps: int
    seconds: float
    best: float | None
    stopped: str
    """`steps`, `minutes`, or `patience`."""


def fit(
    model: keras.Model,
    batches: Callable[[int], tuple[Any, Any]],
    schedule: Schedule,
    directory: Path,
    *,
    validate: Callable[[], float] | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Train a compiled model.

    Args:
        model: compiled, with its loss and optimiser; the learning rate is set here.
        batches: step number -> (inputs, targets); must give the same batch for the same number.
        schedule: length and learning rate.
        directory: receives `checkpoint.weights.h5`, `metrics.csv`, `curve.png`.
        validate: returns a score of the current model, higher is better.
        resume: go on from the checkpoint in `directory` if there is one.
        quiet: no progress bar.

    Returns:
        How the run ended; the model holds the final weights (with `patience`, the best ones).

    Raises:
        DataError: `directory` holds a run already and `resume` is not set, or the loss is NaN.
    """
    directory.mkdir(parents=True, exist_ok=True)
    model.optimizer.build(model.trainable_variables)
    step, rows = _restore(model, directory, resume)
    spent = rows[-1]["seconds"] if rows else 0.0
    started = time.monotonic() - spent
    best, stale = _best(rows)
    stopped = "patience" if schedule.patience and stale >= schedule.patience else "steps"
    losses: list[float] = []
    train, size = backend.training_steps(model), 1
    with (
        progress("training", schedule.steps, unit="steps", done=step, quiet=quiet) as bar,
        _Prefetch(batches, step, schedule.steps) as prefetched,
    ):
        while step < schedule.steps and stopped == "steps":
            seconds = time.monotonic() - started
            share = step / schedule.steps
            if schedule.minutes:
                share = max(share, seconds / (60 * schedule.minutes))
                if share >= 1:
                    stopped = "minutes"
                    break
            until = min(schedule.steps, step + schedule.log_every - step % schedule.log_every)
            group = [next(prefetched) for _ in range(min(size, until - step))]
            rates = [schedule.rate(step + i, share + i / schedule.steps) for i in range(len(group))]
            called = time.monotonic()
            losses += train(group, rates)
            size = _group_size(len(group), time.monotonic() - called)
            step += len(group)
            if step % schedule.log_every == 0 or step == schedule.steps:
                row = {
                    "step": step,
                    "loss": float(np.mean(losses)),
                    "learning_rate": rates[-1],
                    "seconds": time.monotonic() - started,
                }
                if not np.isfinite(row["loss"]):
                    raise DataError(
                        f"The loss became {row['loss']} at step {step}: lower the learning rate "
                        f"or check the data for NaN; {directory} keeps the last checkpoint."
                    )
                losses.clear()
                if validate:
                    row["score"] = float(validate())
                    if best is None or row["score"] > best:
                        best, stale = row["score"], 0
                        if schedule.patience:
                            _save(model, directory / BEST)
                    else:
                        stale += 1
                    if schedule.patience and stale >= schedule.patience:
                        stopped = "patience"
                rows.append(row)
                _write_rows(rows, directory / METRICS)
                _save(model, directory / CHECKPOINT)
            bar(step, f"loss {np.mean(losses) if losses else rows[-1]['loss']:.5f}")
    if schedule.patience and (directory / BEST).exists():
        model.load_weights(directory / BEST)
    if rows:
        _plot(rows, directory / CURVE)
    return Outcome(step, time.monotonic() - started, best, stopped)


def _group_size(steps: int, seconds: float) -> int:
    return max(1, min(_GROUP, int(_CALL * steps / max(seconds, 1e-6))))


def _restore(model, directory: Path, resume: bool) -> tuple[int, list[dict[str, float]]]:
    checkpoint = directory / CHECKPOINT
    if not checkpoint.exists():
        return 0, []
    if not resume:
        raise DataError(
            f"{directory} holds a training already: go on with --resume, or name another folder."
        )
    try:
        model.load_weights(checkpoint)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{checkpoint} does not fit this network: resume with the options of the first run, "
            f"or name another folder."
        ) from error
    step = int(model.optimizer.iterations)
    rows = [row for row in _read_rows(directory / METRICS) if row["step"] <= step]
    console.print(f"going on from step {step} of {directory}")
    return step, rows


def _best(rows: list[dict[str, float]]) -> tuple[float | None, int]:
    """Return the best score so far and how many rows ago it was reached."""
    scores = [row["score"] for row in rows if "score" in row]
    if not scores:
        return None, 0
    return max(scores), len(scores) - 1 - int(np.argmax(scores))


def _save(model: keras.Model, path: Path) -> None:
    temporary = path.with_name(f"part-{path.name}")
    model.save_weights(temporary)
    os.replace(temporary, path)


def _read_rows(path: Path) -> list[dict[str, float]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def _write_rows(rows: list[dict[str, float]], path: Path) -> None:
    temporary = path.with_name(f"part-{path.name}")
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[-1]))
        writer.writeheader()
        writer.writerows(rows)
    os.replace(temporary, path)


def _plot(rows: list[dict[str, float]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    steps = [row["step"] for row in rows]
    axes.semilogy(steps, [row["loss"] for row in rows], label="training loss")
    axes.set(xlabel="step", ylabel="loss")
    axes.grid(alpha=0.3)
    if "score" in rows[-1]:
        right = axes.twinx()
        right.plot(
            steps, [row.get("score", np.nan) for row in rows], "C1", label="validation score"
        )
        right.set_ylabel("validation score")
    figure.legend(loc="outside upper center", ncols=2)
    figure.savefig(path, dpi=120)


class _Prefetch:
    """Prepares the next batches on a thread, in order, at most `AHEAD` ahead."""

    AHEAD = 4

    def __init__(self, batches: Callable[[int], Any], first: int, last: int):
        self._queue: queue.Queue = queue.Queue(self.AHEAD)
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._produce, args=(batches, range(first, last)), daemon=True
        )

    def __enter__(self) -> Iterator[Any]:
        self._thread.start()
        return iter(self._next, None)

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join()

    def _produce(self, batches: Callable[[int], Any], steps: range) -> None:
        for step in steps:
            try:
                item = batches(step)
            except Exception as error:  # handed over to the training thread, which raises it
                item = error
            while not self._stop.is_set():
                try:
                    self._queue.put(item, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if self._stop.is_set() or isinstance(item, Exception):
                return

    def _next(self) -> Any:
        item = self._queue.get()
        if isinstance(item, Exception):
            raise item
        return item

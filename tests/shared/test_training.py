"""The training loop: exact resume, log, early stop, time budget, errors."""

import os
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from shared import backend, training
from shared.errors import DataError


def network():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(1)]
    )
    model.compile(keras.optimizers.Adam(), loss="mse", jit_compile=False)
    return model


def batches(step):
    rng = np.random.default_rng([7, step])
    x = rng.normal(size=(16, 4)).astype("float32")
    return x, np.sin(x.sum(1, keepdims=True))


def weights(model):
    return np.concatenate([np.ravel(w) for w in model.get_weights()])


@pytest.mark.backends
def test_learns_and_leaves_log_and_curve(tmp_path):
    model = network()
    outcome = training.fit(
        model, batches, training.Schedule(300, learning_rate=1e-2, log_every=50), tmp_path
    )
    rows = training._read_rows(tmp_path / training.METRICS)
    assert [row["step"] for row in rows] == [50, 100, 150, 200, 250, 300]
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    assert rows[-1]["learning_rate"] < 0.1 * max(row["learning_rate"] for row in rows)
    assert (outcome.steps, outcome.stopped) == (300, "steps")
    assert (tmp_path / training.CURVE).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow_on_jax
@pytest.mark.backends
def test_resumed_run_equals_uninterrupted_one(tmp_path):
    schedule = training.Schedule(120, log_every=20)
    whole = network()
    training.fit(whole, batches, schedule, tmp_path / "whole")

    def failing(step):
        if step == 75:
            raise OSError("the disk is gone")
        return batches(step)

    with pytest.raises(OSError, match="disk"):
        training.fit(network(), failing, schedule, tmp_path / "cut")
    resumed = network()
    training.fit(resumed, batches, schedule, tmp_path / "cut", resume=True)
    np.testing.assert_array_equal(weights(resumed), weights(whole))
    one, two = (
        training._read_rows(tmp_path / name / training.METRICS) for name in ("whole", "cut")
    )
    assert [row["loss"] for row in one] == [row["loss"] for row in two]


SCRIPT = """
import sys, time
from pathlib import Path
from shared import backend
backend.setup("cpu", "float32")
sys.path.insert(0, {tests!r})
import test_training as t
from shared import backend, training


def slow_batches(step):
    time.sleep(0.02)  # the run must not end before it is killed
    return t.batches(step)


training.fit(t.network(), slow_batches, t.LONG, Path(sys.argv[1]))
"""
LONG = training.Schedule(400, log_every=40)


def test_killed_at_any_moment_and_resumed(tmp_path):
    checkpoint = tmp_path / "killed" / training.CHECKPOINT
    script = SCRIPT.format(tests=os.path.dirname(__file__))
    process = subprocess.Popen([sys.executable, "-c", script, str(checkpoint.parent)])
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    steps = [row["step"] for row in training._read_rows(checkpoint.with_name(training.METRICS))]
    assert 0 < steps[-1] < LONG.steps, "the run ended before it could be killed"
    whole, resumed = network(), network()
    training.fit(whole, batches, LONG, tmp_path / "whole")
    training.fit(resumed, batches, LONG, checkpoint.parent, resume=True)
    np.testing.assert_array_equal(weights(resumed), weights(whole))


@pytest.mark.backends
def test_early_stop_keeps_the_best_weights(tmp_path):
    model = network()
    scores = iter([1.0, 3.0, 2.0, 2.5, 9.0])
    kept = {}

    def validate():
        score = next(scores)
        kept[score] = weights(model)
        return score

    schedule = training.Schedule(500, log_every=10, patience=2)
    outcome = training.fit(model, batches, schedule, tmp_path, validate=validate)
    assert (outcome.stopped, outcome.steps, outcome.best) == ("patience", 40, 3.0)
    np.testing.assert_array_equal(weights(model), kept[3.0])


def test_time_budget_ends_the_run_at_a_low_rate(tmp_path):
    schedule = training.Schedule(10**9, minutes=4 / 60, log_every=20)
    outcome = training.fit(network(), batches, schedule, tmp_path)
    assert outcome.stopped == "minutes"
    assert 3 < outcome.seconds < 25
    last = training._read_rows(tmp_path / training.METRICS)[-1]
    assert last["learning_rate"] < 0.5 * schedule.learning_rate


def test_a_second_run_does_not_overwrite_the_first(tmp_path):
    schedule = training.Schedule(10, log_every=10)
    training.fit(network(), batches, schedule, tmp_path)
    with pytest.raises(DataError, match="--resume"):
        training.fit(network(), batches, schedule, tmp_path)


def test_checkpoint_of_another_network_is_refused(tmp_path):
    training.fit(network(), batches, training.Schedule(10, log_every=10), tmp_path)
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])
    other.compile("adam", "mse", jit_compile=False)
    with pytest.raises(DataError, match="does not fit"):
        training.fit(other, batches, training.Schedule(20), tmp_path, resume=True)


def test_nan_loss_is_reported_and_not_saved(tmp_path):
    def poisoned(step):
        x, y = batches(step)
        return (x, y) if step < 25 else (x * np.nan, y)

    with pytest.raises(DataError, match="loss became nan at step 30"):
        training.fit(network(), poisoned, training.Schedule(100, log_every=10), tmp_path)
    model = network()
    model.optimizer.build(model.trainable_variables)
    model.load_weights(tmp_path / training.CHECKPOINT)
    assert np.isfinite(weights(model)).all()
    assert int(model.optimizer.iterations) == 20


@pytest.mark.backends
def test_steps_in_groups_equal_single_steps():
    def learner():
        keras.utils.set_random_seed(1)
        model = keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(8),
                keras.layers.BatchNormalization(),
                keras.layers.Dropout(0.5, seed=3),
                keras.layers.Dense(1),
            ]
        )
        model.compile(keras.optimizers.SGD(momentum=0.9), "mse", jit_compile=False)
        model.optimizer.build(model.trainable_variables)
        return model

    rates = [1e-2 * (step + 1) for step in range(9)]
    single, grouped = learner(), learner()
    expected = []
    for step, rate in enumerate(rates):
        single.optimizer.learning_rate = rate
        expected.append(single.train_on_batch(*batches(step)))
    train = backend.training_steps(grouped)
    losses = [
        loss
        for start, end in ((0, 1), (1, 6), (6, 9))
        for loss in train([batches(step) for step in range(start, end)], rates[start:end])
    ]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    np.testing.assert_allclose(weights(grouped), weights(single), rtol=1e-5, atol=1e-7)
    assert int(grouped.optimizer.iterations) == 9

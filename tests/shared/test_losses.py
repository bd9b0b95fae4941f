"""Losses against torch, scikit-learn and their formulas."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

from shared import losses
from shared.errors import ConvsuiteError


def run(loss, *arguments):
    """Return one value per example."""
    return ops.convert_to_numpy(loss(*arguments))


def classifier_case(rng, classes=5):
    labels = rng.integers(0, classes, 7)
    return labels, rng.normal(0, 2, (7, classes)).astype("float32")


def plus_minus(labels, classes=5):
    return np.where(np.arange(classes) == labels[:, None], 1, -1)


def every_loss():
    return [
        losses.TargetMSE(reduction="none"),
        losses.SmoothedCrossEntropy(0.2, from_logits=True, reduction="none"),
        losses.MAPLoss(2.0, reduction="none"),
        losses.Hinge(reduction="none"),
        losses.Hinge(2, reduction="none"),
        losses.BatchHardTriplet(0.7, reduction="none"),
    ]


by_class = pytest.mark.parametrize(
    "loss", every_loss(), ids=["mse", "smoothed", "map", "hinge", "squared_hinge", "batch_hard"]
)


@pytest.mark.backends
def test_target_mse_aims_at_plus_and_minus_one(rng):
    labels, outputs = classifier_case(rng)
    expected = ((outputs - plus_minus(labels)) ** 2).mean(-1)
    found = run(losses.TargetMSE(reduction="none"), labels, outputs)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert run(losses.TargetMSE(), labels, plus_minus(labels)) == 0


@pytest.mark.backends
def test_mse_and_smoothed_cross_entropy_of_keras_equal_torch(rng):
    torch = pytest.importorskip("torch")
    labels, outputs = classifier_case(rng)
    targets = np.eye(5, dtype="float32")[labels]
    expected = torch.nn.functional.mse_loss(torch.tensor(outputs), torch.tensor(targets))
    found = run(keras.losses.MeanSquaredError(), targets, outputs)
    assert found == pytest.approx(float(expected), abs=1e-5)
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(outputs), torch.tensor(labels), label_smoothing=0.1
    )
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    assert run(loss, targets, outputs) == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.backends
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_smoothed_cross_entropy_equals_its_formula(rng, smoothing):
    labels, logits = classifier_case(rng)
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    targets = (1 - smoothing) * np.eye(5)[labels] + smoothing / 5
    expected = -(targets * np.log(probabilities)).sum(-1)
    from_logits = losses.SmoothedCrossEntropy(smoothing, from_logits=True, reduction="none")
    np.testing.assert_allclose(run(from_logits, labels, logits), expected, rtol=1e-5)
    plain = losses.SmoothedCrossEntropy(smoothing, reduction="none")
    np.testing.assert_allclose(run(plain, labels, probabilities), expected, rtol=1e-4)


@pytest.mark.backends
def test_smoothed_cross_entropy_equals_torch(rng):
    torch = pytest.importorskip("torch")
    labels, logits = classifier_case(rng)
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(logits), torch.tensor(labels), label_smoothing=0.3, reduction="none"
    )
    loss = losses.SmoothedCrossEntropy(0.3, from_logits=True, reduction="none")
    np.testing.assert_allclose(run(loss, labels, logits), expected.numpy(), atol=1e-5)


@pytest.mark.backends
def test_map_loss_equals_equation_9(rng):
    labels, penalties = classifier_case(rng)
    penalties = penalties**2
    right = penalties[np.arange(7), labels]
    expected = right + np.log(np.exp(-2.0) + np.exp(-penalties).sum(-1))
    found = run(losses.MAPLoss(2.0, reduction="none"), labels, penalties)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.isfinite(run(losses.MAPLoss(), labels, 1e4 * penalties))


@pytest.mark.backends
def test_map_loss_leaves_far_penalties_alone():
    """Without the rubbish class, raising a wrong penalty would pay for ever."""

    def gain(wrong):
        """What one more unit of the wrong penalty brings."""
        before, after = ([[0.0, penalty]] for penalty in (wrong, wrong + 1))
        loss = losses.MAPLoss(1.0)
        return run(loss, np.array([0]), np.array(before)) - run(
            loss, np.array([0]), np.array(after)
        )

    near, far = gain(0.5), gain(9.0)
    assert near > 0.1
    assert 0 <= far < 1e-4


@pytest.mark.backends
@pytest.mark.parametrize("power", [1, 2])
def test_hinge_is_one_classifier_against_the_rest_per_class(rng, power):
    labels, outputs = classifier_case(rng)
    expected = (np.maximum(0, 1 - plus_minus(labels) * outputs) ** power).sum(-1)
    found = run(losses.Hinge(power, reduction="none"), labels, outputs)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.backends
def test_hinge_equals_scikit_learn_and_torch(rng):
    metrics = pytest.importorskip("sklearn.metrics")
    labels, outputs = classifier_case(rng)
    expected = sum(
        metrics.hinge_loss(plus_minus(labels)[:, k], outputs[:, k], labels=[-1, 1])
        for k in range(5)
    )
    assert run(losses.Hinge(), labels, outputs) == pytest.approx(expected, abs=1e-5)
    torch = pytest.importorskip("torch")
    # With margin 1 the hinge embedding loss of torch is max(0, 1 - s) for targets of -1.
    signs = torch.tensor(plus_minus(labels))
    peer = torch.nn.functional.hinge_embedding_loss(
        signs * torch.tensor(outputs), -torch.ones_like(signs), reduction="none"
    )
    found = run(losses.Hinge(reduction="none"), labels, outputs)
    np.testing.assert_allclose(found, peer.sum(-1).numpy(), atol=1e-5)


@pytest.mark.backends
def test_contrastive_equals_its_formula(rng):
    apart = rng.uniform(0, 3, 20).astype("float32")
    same = rng.integers(0, 2, 20)
    expected = np.where(same == 1, apart**2, np.maximum(0, 1.5 - apart) ** 2)
    found = run(losses.Contrastive(1.5, reduction="none"), same, apart)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.backends
def test_triplet_equals_its_formula(rng):
    anchor, positive, negative = rng.normal(size=(3, 8, 4)).astype("float32")
    near, far = (np.linalg.norm(anchor - other, axis=-1) for other in (positive, negative))
    found = ops.convert_to_numpy(losses.triplet(anchor, positive, negative, 0.4))
    np.testing.assert_allclose(found, np.maximum(0, near - far + 0.4), atol=1e-5)


@pytest.mark.backends
def test_triplet_equals_torch(rng):
    torch = pytest.importorskip("torch")
    vectors = rng.normal(size=(3, 8, 4)).astype("float32")
    expected = torch.nn.functional.triplet_margin_loss(
        *map(torch.tensor, vectors), margin=0.4, reduction="none"
    )
    found = ops.convert_to_numpy(losses.triplet(*vectors, 0.4))
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


@pytest.mark.backends
def test_batch_hard_finds_the_hardest_of_all_triplets(rng):
    labels = np.array([0, 1, 0, 2, 1, 0, 3])
    vectors = rng.normal(size=(7, 3)).astype("float32")
    expected = np.zeros(7)
    for a, p, n in itertools.permutations(range(7), 3):
        if labels[a] == labels[p] != labels[n]:
            near, far = (np.linalg.norm(vectors[a] - vectors[i]) for i in (p, n))
            expected[a] = max(expected[a], near - far + 0.7)
    found = run(losses.BatchHardTriplet(0.7, reduction="none"), labels, vectors)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found[3] == found[6] == 0


@pytest.mark.backends
def test_equal_vectors_have_a_finite_slope():
    """The square root alone would give NaN for equal embeddings."""
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(2, kernel_initializer="zeros")(inputs))
    model.compile(keras.optimizers.SGD(0.1), losses.BatchHardTriplet())
    value = model.train_on_batch(np.eye(4, 2), np.array([0, 0, 1, 1]))
    assert value == pytest.approx(1.0)
    assert all(np.isfinite(w).all() for w in model.get_weights())


@pytest.mark.slow_on_jax
@pytest.mark.backends
@by_class
def test_gradients_equal_finite_differences(rng, check_gradients, loss):
    labels, outputs = classifier_case(rng)
    labels[:4] = [0, 0, 1, 1]
    check_gradients(lambda x: loss(labels, x), outputs, step=2e-3)


@pytest.mark.slow_on_jax
@pytest.mark.backends
def test_gradients_of_pairs_and_triplets(rng, check_gradients):
    contrastive = losses.Contrastive(1.0, reduction="none")
    apart = np.array([0.2, 0.6, 1.4, 0.3, 2.0], "float32")
    check_gradients(lambda d: contrastive(np.array([1, 0, 1, 0, 0]), d), apart)
    check_gradients(losses.triplet, *rng.normal(size=(3, 5, 4)), step=2e-3)


@pytest.mark.backends
def test_tasks_are_weighted(rng, check_gradients):
    values = rng.uniform(0.5, 2, 3).astype("float32")
    fixed = losses.MultiTask([1.0, 0.3, 0.3])
    expected = values @ [1, 0.3, 0.3]
    assert run(fixed, list(values)) == pytest.approx(expected, rel=1e-5)
    learned = losses.MultiTask("learned")
    assert run(learned, list(values)) == pytest.approx(values.sum(), rel=1e-5)
    logs = rng.normal(size=3).astype("float32")
    learned.set_weights([logs])
    expected = np.sum(np.exp(-logs) * values + logs)
    assert run(learned, list(values)) == pytest.approx(expected, rel=1e-5)

    def apply(logs, values):
        return learned.stateless_call([logs], [], [values[0], values[1], values[2]])[0]

    check_gradients(apply, logs, values)


@pytest.mark.backends
def test_learned_weights_settle_at_the_log_of_each_loss():
    """The derivative of e^-s L + s is zero where s = log L."""
    inputs = [keras.Input((1,)), keras.Input((1,))]
    total = losses.MultiTask()(inputs)
    model = keras.Model(inputs, total)
    model.compile(keras.optimizers.SGD(0.3), lambda _, value: value)
    values = [np.full((1, 1), 4.0), np.full((1, 1), 0.25)]
    for _ in range(60):
        model.train_on_batch(values, np.zeros((1, 1)))
    np.testing.assert_allclose(model.get_weights()[0], np.log([4.0, 0.25]), atol=1e-3)


@pytest.mark.backends
@pytest.mark.parametrize("axes", [1, 2])
def test_a_model_learns_with_integer_labels(rng, axes):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    x = rng.normal(size=(60, 4)).astype("float32")
    labels = x[:, :3].argmax(-1).reshape((60, 1)[:axes])
    model.compile(keras.optimizers.SGD(0.1), losses.Hinge(2))
    first = model.train_on_batch(x, labels)
    for _ in range(20):
        last = model.train_on_batch(x, labels)
    assert last < first / 2


@by_class
def test_configurations_bring_the_loss_back(rng, loss):
    labels, outputs = classifier_case(rng)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.get_config() == loss.get_config()
    np.testing.assert_array_equal(run(again, labels, outputs), run(loss, labels, outputs))


def test_configurations_of_the_other_two():
    contrastive = losses.Contrastive(0.3)
    again = keras.losses.deserialize(keras.losses.serialize(contrastive))
    assert again.get_config() == contrastive.get_config()
    for weights in ("learned", [1.0, 0.3]):
        layer = losses.MultiTask(weights)
        assert losses.MultiTask.from_config(layer.get_config()).get_config() == layer.get_config()


@by_class
def test_wrong_shapes_are_refused_by_name(loss):
    with pytest.raises(ConvsuiteError, match=type(loss).__name__ + r" takes labels \(batch,\)"):
        loss(np.zeros((7, 5)), np.zeros((7, 5)))
    with pytest.raises(ConvsuiteError, match=type(loss).__name__ + r" takes labels \(batch,\)"):
        loss(np.zeros(7), np.zeros(7))


def test_senseless_arguments_are_refused():
    with pytest.raises(ConvsuiteError, match=r"Contrastive takes .* \(3,\) and \(3, 1\)"):
        losses.Contrastive()(np.zeros(3), np.zeros((3, 1)))
    with pytest.raises(ConvsuiteError, match="triplet takes three batches of one shape"):
        losses.triplet(np.zeros((3, 2)), np.zeros((3, 2)), np.zeros((4, 2)))
    with pytest.raises(ConvsuiteError, match="j must be above 0"):
        losses.MAPLoss(0)
    with pytest.raises(ConvsuiteError, match=r"0\.\.1, not 2"):
        losses.SmoothedCrossEntropy(2)
    with pytest.raises(ConvsuiteError, match="tasks has 2 weights for 3 losses"):
        losses.MultiTask([1, 2], name="tasks")([np.ones(2)] * 3)

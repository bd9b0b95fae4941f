"""Recipes, trainings that end and resume, and the curvatures of Levenberg-Marquardt."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import ops

from shared import backbones, images, losses, training, weights
from shared.backbones import sdlm, train
from shared.backbones.classify import Classifier
from shared.datasets import Digits, load_digits
from shared.errors import ConvsuiteError, DataError

RECIPES = (*(name for name in train.DIGITS if name != "mlp"), "highway_mlp_d10", "plain_mlp_d10")


@pytest.fixture
def few_digits(monkeypatch):
    """The first digits of scikit-learn alone, so that a training takes a second."""
    whole = load_digits()
    few = Digits(
        whole.train_images[:96],
        whole.train_labels[:96],
        whole.test_images[:40],
        whole.test_labels[:40],
        "a few digits",
        "none",
    )
    monkeypatch.setattr(train, "load_digits", lambda folder=None: few)
    return few


@pytest.fixture
def quick(monkeypatch):
    """Give every recipe larger batches and some rate at once, for a few steps only."""
    for name, recipe in train.DIGITS.items():
        monkeypatch.setitem(
            train.DIGITS, name, dataclasses.replace(recipe, batch=16, warmup=0, examples=0)
        )


def values(path):
    model = weights.load_model(path, train.APP)
    return np.concatenate([np.ravel(w) for w in model.get_weights()])


# Digits


@pytest.mark.parametrize(
    ("name", "epochs", "most"), [("lenet5_modern", 6, 15), ("lecun1989", 12, 20)]
)
def test_learns_the_bundled_digits(tmp_path, name, epochs, most):
    out = tmp_path / f"{name}.keras"
    trained = train.train_digits(name, out, epochs=epochs, quiet=True)
    rows = training._read_rows(tmp_path / f"{name}-training" / training.METRICS)
    assert len(rows) == epochs
    assert rows[-1]["loss"] < 0.3 * rows[0]["loss"]
    assert trained.error <= most
    assert trained.train_error <= trained.error
    assert (tmp_path / f"{name}-training" / training.CURVE).exists()
    card = weights.read_card(out)
    assert card.results["test error, %"] == pytest.approx(trained.error, abs=1e-3)
    assert "scikit-learn" in card.training["data"]
    assert card.settings["preprocessing"] == backbones.spec(name).preprocessing
    # The file alone, through the preprocessing of the library, makes the same errors.
    digits = load_digits()
    spec = backbones.spec(name)
    model = weights.load_model(out, train.APP)
    inputs = train.digit_inputs(digits.test_images, spec, {})
    found = model.predict(inputs, verbose=0).argmax(1)
    assert 100 * np.mean(found != digits.test_labels) == pytest.approx(trained.error)


@pytest.mark.backends
@pytest.mark.parametrize(
    "name",
    [n if n == "lenet5" else pytest.param(n, marks=pytest.mark.slow_on_jax) for n in RECIPES],
)
def test_every_recipe_takes_steps_that_lower_the_loss(name, few_digits):
    recipe = train.digit_recipe(name)
    entry = backbones.spec(recipe.network)
    moments = train._moments(few_digits.train_images[..., None], entry)
    x = train.digit_inputs(few_digits.train_images[:16], entry, moments)
    y = few_digits.train_labels[:16]
    keras.utils.set_random_seed(0)
    learner = train._compiled(backbones.create(recipe.network), recipe)
    learner.optimizer.learning_rate = 0.3 * recipe.learning_rate
    # Eight steps take less than compiling one, but for JAX.
    learner.run_eagerly = keras.backend.backend() != "jax"
    if recipe.optimizer == "sdlm":
        sdlm.Curvature(learner, x, 0).estimate()
    found = []
    for _ in range(8):
        found.append(float(learner.train_on_batch(x, y, return_dict=True)["loss"]))
        learner.reset_metrics()
    assert found[-1] < found[0]


# The second has all that the first has to restore, and curvatures.
@pytest.mark.parametrize(
    "name", [pytest.param("lecun1989", marks=pytest.mark.slow), "lenet5_softmax_sdlm"]
)
def test_a_training_cut_off_and_resumed_equals_the_whole(
    name, tmp_path, few_digits, quick, monkeypatch
):
    whole = train.train_digits(name, tmp_path / "whole.keras", epochs=4, quiet=True)
    honest = train._Batches.__call__

    def failing(self, step):
        if step == 15:  # in the third epoch of 6 steps
            raise OSError("the disk is gone")
        return honest(self, step)

    part = tmp_path / "part.keras"
    monkeypatch.setattr(train._Batches, "__call__", failing)
    with pytest.raises(OSError, match="disk"):
        train.train_digits(name, part, epochs=4, quiet=True)
    monkeypatch.setattr(train._Batches, "__call__", honest)
    with pytest.raises(DataError, match="--resume"):
        train.train_digits(name, part, epochs=4, quiet=True)
    with pytest.raises(DataError, match="other examples or options"):
        train.train_digits(name, part, epochs=5, resume=True, quiet=True)
    resumed = train.train_digits(name, part, epochs=4, resume=True, quiet=True)
    np.testing.assert_array_equal(values(resumed.path), values(whole.path))
    assert resumed.error == whole.error


def test_seeds_differ_and_repeat(tmp_path, few_digits, quick):
    runs = [
        train.train_digits("lecun1989", tmp_path / f"{i}.keras", epochs=1, seed=seed, quiet=True)
        for i, seed in enumerate((0, 0, 1))
    ]
    first, second, third = (values(run.path) for run in runs)
    np.testing.assert_array_equal(first, second)
    assert not np.allclose(first, third)


def test_every_epoch_shows_every_example_once(few_digits):
    recipe = train.Recipe(epochs=1, batch=10, learning_rate=1.0)
    examples = train._Examples(np.arange(96), np.arange(96))
    batches = train._Batches(examples, recipe, seed=3)
    epochs = [[batches(9 * e + i)[0] for i in range(9)] for e in range(2)]
    for epoch in epochs:
        assert len(np.unique(epoch)) == 90
    assert not np.array_equal(*epochs)
    np.testing.assert_array_equal(batches(4)[0], epochs[0][4])  # again, out of order


def test_recipes_by_name():
    assert train.digit_recipe("highway_mlp_d50").network == "highway_mlp_d50"
    assert all(train.digit_recipe(name).network for name in RECIPES)
    for name in ("vgg16", "mlp", "lenet6"):
        with pytest.raises(ConvsuiteError, match="lenet5_modern"):
            train.digit_recipe(name)


def test_the_inputs_are_those_of_the_papers(few_digits):
    for name, size, paper, ink in [
        ("lenet5", 32, -0.1, 1.175),
        ("lecun1989", 16, -1.0, 1.0),
        ("lecun1990", 28, -1.0, 1.0),
    ]:
        black = np.zeros((1, 28, 28), np.uint8)
        black[:, 8:20, 8:20] = 255
        x = train.digit_inputs(black, backbones.spec(name), {})
        assert x.shape == (1, size, size, 1)
        np.testing.assert_allclose([x.min(), x.max()], [paper, ink], atol=1e-6)
        np.testing.assert_allclose(x[0, 0], paper, atol=1e-6)  # the border is background
    entry = backbones.spec("highway_mlp_d10")
    moments = train._moments(few_digits.train_images[..., None], entry)
    x = train.digit_inputs(few_digits.train_images, entry, moments)
    assert abs(x.mean()) < 1e-3
    assert x.std() == pytest.approx(1, abs=1e-3)


def test_table_beside_neighbours(tmp_path, few_digits, quick):
    rows = train.digits_table(
        ["lenet5_modern", "lecun1989"], [0, 1], None, tmp_path, epochs=1, quiet=True
    )
    assert [row["name"] for row in rows] == ["lenet5_modern", "lecun1989", "1-NN", "3-NN"]
    for row in rows[:2]:
        assert row["error"] == pytest.approx(np.mean(row["errors"]))
        assert row["spread"] == pytest.approx(np.std(row["errors"], ddof=1))
        assert len(row["errors"]) == 2
    assert "%" in rows[0]["paper"]
    train_x, test_x = (
        x.reshape(len(x), -1).astype(float)
        for x in (few_digits.train_images, few_digits.test_images)
    )
    nearest = ((test_x[:, None] - train_x[None]) ** 2).sum(-1).argmin(1)
    wrong = few_digits.train_labels[nearest] != few_digits.test_labels
    assert rows[2]["error"] == pytest.approx(100 * wrong.mean())
    # What is there is not trained again.
    before = (tmp_path / "lecun1989-seed1.keras").stat().st_mtime_ns
    again = train.digits_table(["lecun1989"], [0, 1], None, tmp_path, epochs=1, quiet=True)
    assert again[0] == rows[1]
    assert (tmp_path / "lecun1989-seed1.keras").stat().st_mtime_ns == before


def test_the_table_keeps_nothing_that_was_made_otherwise(tmp_path, few_digits, quick, monkeypatch):
    out = tmp_path / "lecun1989-seed0.keras"

    def training(**options):
        before = out.stat().st_mtime_ns if out.exists() else 0
        train.digits_table(["lecun1989"], [0], None, tmp_path, quiet=True, **options)
        return weights.read_card(out).training, out.stat().st_mtime_ns != before

    facts, _ = training(epochs=1, command="convsuite …")
    assert facts["command"] == "convsuite …"
    assert (facts["recipe"]["epochs"], facts["steps"], facts["minutes"]) == (1, 6, None)
    assert not training(epochs=1)[1]
    facts, is_new = training(epochs=2)  # not on top of the first epoch, whose rate ended at 0
    assert is_new
    assert (facts["recipe"]["epochs"], facts["steps"]) == (2, 12)

    def anew(*_):
        raise InterruptedError

    monkeypatch.setattr(train, "_train", anew)
    assert not training(epochs=2)[1]
    with pytest.raises(InterruptedError):
        training(epochs=2, minutes=5)
    other = dataclasses.replace(few_digits, train_labels=few_digits.train_labels[::-1])
    with monkeypatch.context() as patch:
        patch.setattr(train, "load_digits", lambda folder=None: other)
        with pytest.raises(InterruptedError):
            training(epochs=2)
    out.write_bytes(b"damaged")
    with pytest.raises(InterruptedError):
        training(epochs=2)


def test_shipping_leaves_weights_and_card_alone(tmp_path, few_digits, quick):
    trained = train.ship("lenet5", tmp_path / "w", "unused", epochs=1, quiet=True)
    assert sorted(p.name for p in (tmp_path / "w").iterdir()) == ["lenet5.json", "lenet5.keras"]
    assert weights.verify(trained.path) == []
    model = weights.load_model(trained.path, train.APP)
    spec = backbones.spec("lenet5")
    x = train.digit_inputs(few_digits.test_images, spec, {})
    probabilities = model.predict(x, verbose=0)
    error = 100 * np.mean(probabilities.argmax(1) != few_digits.test_labels)
    assert error == pytest.approx(trained.error)


# Levenberg-Marquardt


def jacobian(model, x, step=1e-2):
    """Derivative of every output with respect to every weight, by differences."""
    start = model.get_weights()
    flat = np.concatenate([w.ravel() for w in start])

    def outputs(vector):
        cut = np.split(vector, np.cumsum([w.size for w in start])[:-1])
        model.set_weights([v.reshape(w.shape) for v, w in zip(cut, start, strict=True)])
        return ops.convert_to_numpy(model(x)).astype(float)

    columns = []
    for k in range(flat.size):
        shift = np.zeros_like(flat)
        shift[k] = step
        columns.append((outputs(flat + shift) - outputs(flat - shift)) / (2 * step))
    model.set_weights(start)
    return np.stack(columns, -1)  # (examples, outputs, weights)


def softmax_hessian(logits):
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return p[:, :, None] * np.eye(p.shape[1]) - p[:, :, None] * p[:, None]


@pytest.mark.backends
@pytest.mark.parametrize("kind", ["cross entropy", "mse", "map"])
def test_curvature_is_the_gauss_newton_diagonal(kind, rng, monkeypatch):
    loss = {
        "cross entropy": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "mse": losses.TargetMSE(),
        "map": losses.MAPLoss(j=2.0),
    }[kind]
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    outputs = keras.layers.Dense(3)(keras.layers.Dense(5, "tanh")(inputs))
    model = keras.Model(inputs, outputs)
    model.compile(sdlm.SDLM(), loss=loss, jit_compile=False)
    x = rng.normal(size=(sdlm.EXAMPLES, 4)).astype("float32")
    curvature = sdlm.Curvature(model, x, 0)
    found = []
    for i in range(4):
        model.optimizer.build(model.trainable_variables)
        model.optimizer.iterations.assign(i)
        curvature.estimate()
        found.append([ops.convert_to_numpy(c).ravel() for c in model.optimizer.curvatures])
    found = np.mean([np.concatenate(f) for f in found], 0)
    outputs = ops.convert_to_numpy(model(x)).astype(float)
    if kind == "cross entropy":
        hessian = softmax_hessian(outputs)
    elif kind == "mse":
        hessian = np.broadcast_to(2 / 3 * np.eye(3), (len(x), 3, 3))
    else:
        rubbish = np.full((len(x), 1), -2.0)
        hessian = softmax_hessian(np.concatenate([-outputs, rubbish], 1))[:, :3, :3]
    derivative = jacobian(model, x)
    exact = np.einsum("nik,nij,njk->k", derivative, hessian, derivative) / len(x)
    assert found.sum() == pytest.approx(exact.sum(), rel=0.08)
    np.testing.assert_allclose(found, exact, rtol=0.45, atol=0.02 * exact.max())
    assert np.corrcoef(found, exact)[0, 1] > 0.97


@pytest.mark.backends
def test_a_step_divides_by_mu_and_curvature():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(sdlm.SDLM(0.1, mu=0.5), loss="mse", jit_compile=False)
    model.set_weights([np.float32([[1.0]])])
    model.optimizer.build(model.trainable_variables)
    model.optimizer.curvatures[0].assign([[1.5]])
    model.train_on_batch(np.float32([[2.0]]), np.float32([[0.0]]))
    # gradient 2 * w * x^2 = 8; step 0.1 * 8 / (0.5 + 1.5)
    assert float(model.get_weights()[0][0, 0]) == pytest.approx(1 - 0.4, rel=1e-6)


def test_the_estimate_leaves_the_weights_alone(few_digits):
    learner = train._compiled(
        backbones.create("lenet5_softmax"), train.DIGITS["lenet5_softmax_sdlm"]
    )
    before = learner.get_weights()
    x = train.digit_inputs(few_digits.train_images, backbones.spec("lenet5_softmax"), {})
    sdlm.Curvature(learner, x, 0).estimate()
    for a, b in zip(before, learner.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert all(ops.convert_to_numpy(c).max() > 0 for c in learner.optimizer.curvatures)


# Pictures


@pytest.fixture
def coloured(tmp_path, rng):
    """Three classes that differ in colour, with noise."""
    for label, colour in {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1)}.items():
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for i in range(20):
            noise = rng.random((32, 32, 3), np.float32)
            picture = 0.5 * noise + 0.5 * np.float32(colour)
            images.write(tmp_path / "pictures" / label / f"{i:02}.png", picture)
    return tmp_path / "pictures"


def test_pictures_from_a_folder(coloured, tmp_path, monkeypatch):
    monkeypatch.setitem(
        train.PICTURES, "cifar", dataclasses.replace(train.PICTURES["cifar"], batch=18)
    )
    (coloured / "red" / "broken.png").write_bytes(b"\x89PNG broken")
    out = tmp_path / "net.keras"
    trained = train.train_pictures("resnet20", coloured, out, epochs=6, quiet=True, licence="mine")
    rows = training._read_rows(tmp_path / "net-training" / training.METRICS)
    assert rows[-1]["loss"] < rows[0]["loss"]
    card = weights.read_card(out)
    assert card.settings["labels"] == ["blue", "green", "red"]
    assert card.settings["classes"] == 3
    assert card.licence == "mine"
    assert "54 training and 6 test" in card.training["data"]
    mean = card.settings["mean"]
    assert mean == pytest.approx([0.4167] * 3, abs=0.03)
    model = weights.load_model(trained.path, train.APP)
    assert model.output_shape == (None, 3)
    assert Classifier("resnet20", str(out)).labels == ["blue", "green", "red"]


def test_wrong_networks_and_recipes_for_pictures(coloured, tmp_path):
    with pytest.raises(ConvsuiteError, match="coloured"):
        train.train_pictures("lenet5_modern", coloured, tmp_path / "x.keras")
    with pytest.raises(ConvsuiteError, match="cifar"):
        train.train_pictures("resnet20", coloured, tmp_path / "x.keras", recipe="imagenet")
    for name in ("vgg16_hed", "inception_resnet_v1_facenet"):
        with pytest.raises(ConvsuiteError, match=f"{name} is .* without classes"):
            train.train_pictures(name, coloured, tmp_path / "x.keras")


def test_cuts_are_windows_of_the_framed_picture(rng):
    pictures = rng.normal(size=(40, 8, 8, 3)).astype("float32")
    cut = train._cut_and_mirror(pictures, np.random.default_rng(1))
    framed = np.pad(pictures, ((0, 0), (4, 4), (4, 4), (0, 0)))
    places = set()
    for one, frame in zip(cut, framed, strict=True):
        hits = [
            (y, x, mirrored)
            for y in range(9)
            for x in range(9)
            for mirrored in (False, True)
            if np.array_equal(frame[y : y + 8, x : x + 8][:, :: -1 if mirrored else 1], one)
        ]
        assert hits
        places.add(hits[0])
    assert len(places) > 25
    assert {mirrored for _, _, mirrored in places} == {False, True}
    again = train._cut_and_mirror(pictures, np.random.default_rng(1))
    np.testing.assert_array_equal(cut, again)


def test_weight_decay_acts_as_in_the_papers():
    """With no gradient but that of the decay, weights shrink as in coupled SGD with momentum."""
    recipe = dataclasses.replace(train.PICTURES["cifar"], weight_decay=1e-2)
    inputs = keras.Input((1,))
    outputs = keras.layers.Activation("softmax", name="probs")(keras.layers.Dense(2)(inputs))
    learner = train._compiled(keras.Model(inputs, outputs), recipe)
    learner.optimizer.learning_rate = 0.05
    variable = learner.trainable_variables[0]
    variable.assign(ops.ones(variable.shape))
    zeros = [ops.zeros(v.shape) for v in learner.trainable_variables]
    for _ in range(200):
        learner.optimizer.apply(zeros, learner.trainable_variables)
    weight, velocity = 1.0, 0.0
    for _ in range(200):
        velocity = 0.9 * velocity - 0.05 * 0.01 * weight
        weight += velocity
    assert float(ops.convert_to_numpy(variable).ravel()[0]) == pytest.approx(weight, rel=0.02)

"""The network against PyTorch and NumPy: forward pass, padding, channels, a training step."""

import keras
import numpy as np
import pytest

from apps.textcnn import model
from apps.textcnn.model import Architecture
from apps.textcnn.text import Vocabulary, pad
from shared import backend, weights
from shared.errors import DataError, WeightsError
from shared.weights import Card

ROWS, DIM, MAPS, CLASSES = 40, 6, 5, 3
WORDS = Vocabulary(
    (*(f"w{number}" for number in range(ROWS - 6)), "中文", "\U0001f600", "a\u0085b", "\u2028")
)


def network(rng, **options):
    """Return a network whose every weight is random, so that nothing hides behind a zero."""
    architecture = Architecture(**({"maps": MAPS} | options))
    built = model.network(architecture, rng.normal(0, 1, (ROWS, DIM)), CLASSES, WORDS)
    for layer in built.layers[2:]:
        layer.set_weights([rng.normal(0, 0.5, array.shape) for array in layer.get_weights()])
    return built


def texts(rng, lengths):
    return [rng.integers(1, ROWS, length).astype(np.int32) for length in lengths]


def by_hand(built, ids, widths=(3, 4, 5), activation=lambda x: np.maximum(x, 0)):
    """Return the logits of one text, in float64, from its words and 9 words of padding around."""
    table = keras.ops.convert_to_numpy(built.get_layer("words").table).astype(np.float64)
    rows = np.concatenate([np.zeros((9, DIM)), table[ids], np.zeros((9, DIM))])
    features = []
    for number, width in enumerate(widths):
        kernel, bias = built.get_layer(f"conv{number}").get_weights()
        windows = np.stack([rows[i : i + width] for i in range(len(rows) - width + 1)])
        features.append(activation(np.einsum("nwd,wdm->nm", windows, kernel) + bias).max(0))
    kernel, bias = built.get_layer("classes").get_weights()
    return np.concatenate(features) @ kernel + bias


@pytest.mark.backends
def test_forward_pass_equals_torch(rng):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    built = network(rng)
    batch = pad(texts(rng, [7, 0, 1, 12]))
    vectors = torch.tensor(np.array(keras.ops.convert_to_numpy(built.get_layer("words").table)))
    vectors[0] = 0
    x = vectors[torch.tensor(batch.astype(np.int64))].movedim(2, 1)
    pooled = []
    for number in range(3):
        kernel, bias = map(torch.tensor, built.get_layer(f"conv{number}").get_weights())
        convolution = torch.nn.Conv1d(DIM, MAPS, len(kernel))
        convolution.weight.data, convolution.bias.data = kernel.permute(2, 1, 0), bias
        pooled.append(convolution(x).relu().amax(2))
    kernel, bias = map(torch.tensor, built.get_layer("classes").get_weights())
    expected = (torch.cat(pooled, 1) @ kernel + bias).detach().numpy()
    np.testing.assert_allclose(backend.compiled(built)(batch), expected, atol=1e-5)


@pytest.mark.parametrize("widths", [(3, 4, 5), (1, 10)])
def test_padding_changes_nothing(rng, widths):
    built = network(rng, widths=widths)
    run = backend.compiled(built)
    ids = texts(rng, [0, 1, 2, 5, 30, 45])
    expected = [by_hand(built, row, widths) for row in ids]
    for length in (None, 64, 400):
        found = run(pad(ids, widest=max(widths), length=length))
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_tanh(rng):
    built = network(rng, activation="tanh")
    (ids,) = texts(rng, [9])
    np.testing.assert_allclose(
        backend.compiled(built)(pad([ids]))[0], by_hand(built, ids, activation=np.tanh), atol=1e-5
    )


def test_two_equal_channels_are_one_of_twice_the_vectors(rng):
    double, single = network(rng, mode="multichannel"), network(rng)
    for layer in double.layers[2:]:
        single.get_layer(layer.name).set_weights(layer.get_weights())
    single.get_layer("words").assign(model.parameters(double).table)
    batch = pad(texts(rng, [6, 11]))
    assert len(double.get_layer("words").trainable_variables) == 1
    np.testing.assert_allclose(
        backend.compiled(double)(batch), backend.compiled(single)(batch), atol=1e-6
    )


def test_two_channels_share_filters_and_bias(rng):
    """Convolving both channels apart, with one bias, and adding before the ReLU is the same."""
    built = network(rng, mode="multichannel")
    words = built.get_layer("words")
    tuned, frozen = rng.normal(0, 1, (2, ROWS, DIM))
    words.table.assign(tuned)
    words.frozen.assign(frozen)
    (ids,) = texts(rng, [8])
    batch = pad([ids])[0]
    features = []
    for number in range(3):
        kernel, bias = built.get_layer(f"conv{number}").get_weights()
        sums = 0
        for table in (tuned, frozen):
            rows = table[batch] * (batch > 0)[:, None]
            windows = np.lib.stride_tricks.sliding_window_view(rows, len(kernel), axis=0)
            sums = sums + np.einsum("ndw,wdm->nm", windows, kernel)
        features.append(np.maximum(sums + bias, 0).max(0))
    kernel, bias = built.get_layer("classes").get_weights()
    np.testing.assert_allclose(
        backend.compiled(built)(batch[None])[0], np.concatenate(features) @ kernel + bias, atol=1e-5
    )


@pytest.mark.parametrize(
    "mode", [pytest.param("nonstatic", marks=pytest.mark.backends), "multichannel"]
)
def test_one_step_of_the_paper(rng, mode):
    """Adadelta, rate 1, then the norm: against the same step in NumPy, gradients by hand."""
    built = network(rng, mode=mode, dropout=0.0, max_norm=1.0)
    old = {variable.path: np.array(keras.ops.convert_to_numpy(variable), np.float64)
           for variable in built.weights}  # fmt: skip
    built.compile(
        keras.optimizers.Adadelta(1.0, rho=0.95, epsilon=1e-6),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=backend.jit_compile(),
    )
    batch, labels = pad(texts(rng, [4, 9, 1])), np.array([0, 2, 1])
    built.train_on_batch(batch, labels)
    gradients = gradients_by_hand(old, batch, labels)
    for variable in built.weights:
        gradient = gradients[variable.path]
        if variable.path == "words/frozen":
            gradient = 0 * gradient
        step = -gradient * np.sqrt(1e-6) / np.sqrt(0.05 * gradient**2 + 1e-6)
        expected = old[variable.path] + step
        if variable.path == "classes/kernel":
            norms = np.linalg.norm(expected, axis=0)
            assert norms.max() > 1
            expected *= np.clip(norms, 0, 1) / norms
        found = keras.ops.convert_to_numpy(variable)
        np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=variable.path)
    assert not np.any(keras.ops.convert_to_numpy(built.get_layer("words").table)[0])


def gradients_by_hand(old, batch, labels):
    """Return the gradient of the mean NLL in every weight."""
    table = old["words/table"] + old.get("words/frozen", 0)
    vectors = table[batch] * (batch > 0)[..., None]
    gradients = {name: np.zeros_like(array) for name, array in old.items()}
    features, active = [], []
    for number in range(3):
        kernel = old[f"conv{number}/kernel"]
        windows = np.lib.stride_tricks.sliding_window_view(vectors, len(kernel), axis=1)
        sums = np.einsum("bndw,wdm->bnm", windows, kernel) + old[f"conv{number}/bias"]
        features.append(np.maximum(sums.max(1), 0))
        active.append((sums.argmax(1), sums.max(1) > 0))
    joined = np.concatenate(features, 1)
    logits = joined @ old["classes/kernel"] + old["classes/bias"]
    error = np.exp(logits - logits.max(1, keepdims=True))
    error = (error / error.sum(1, keepdims=True) - np.eye(CLASSES)[labels]) / len(labels)
    gradients["classes/kernel"], gradients["classes/bias"] = joined.T @ error, error.sum(0)
    behind = error @ old["classes/kernel"].T
    for number, (places, is_active) in enumerate(active):
        kernel = old[f"conv{number}/kernel"]
        for text in range(len(batch)):
            for map_ in range(MAPS):
                weight = behind[text, number * MAPS + map_] * is_active[text, map_]
                gradients[f"conv{number}/bias"][map_] += weight
                for offset in range(len(kernel)):
                    place = places[text, map_] + offset
                    word = batch[text, place]
                    gradients[f"conv{number}/kernel"][offset, :, map_] += (
                        weight * vectors[text, place]
                    )
                    gradients["words/table"][word] += weight * kernel[offset, :, map_] * (word > 0)
    return gradients


def test_static_vectors_are_not_tuned(rng):
    assert not network(rng, mode="static").get_layer("words").trainable_variables


def test_starts_of_author_and_of_default(rng):
    author = model.network(Architecture(init="paper"), np.ones((ROWS, DIM)), 2, WORDS)
    kernel, bias = author.get_layer("conv0").get_weights()
    assert 0.009 < np.abs(kernel).max() <= 0.01
    assert not bias.any()
    assert not np.any(author.get_layer("classes").get_weights()[0])
    default = model.network(Architecture(), np.ones((ROWS, DIM)), 2, WORDS)
    assert np.abs(default.get_layer("conv0").get_weights()[0]).max() > 0.05
    assert np.any(default.get_layer("classes").get_weights()[0])


def test_vocabulary_and_arrays_travel_with_the_weights(rng, tmp_path):
    built = network(rng, mode="multichannel")
    words = built.get_layer("words")
    words.arrays = {"weights": rng.normal(size=7).astype(np.float32), "n": np.array([3])}
    path = tmp_path / "a.keras"
    weights.save_model(built, path, Card(app="textcnn", name="a"))
    loaded = weights.load_model(path, "textcnn")
    assert loaded.get_layer("words").vocabulary == WORDS
    for name, array in words.arrays.items():
        np.testing.assert_array_equal(loaded.get_layer("words").arrays[name], array)
    for one, other in zip(built.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_vocabulary_of_another_size_is_refused(rng, tmp_path):
    built = network(rng)
    built.get_layer("words").vocabulary = Vocabulary(("only",))
    with pytest.raises(WeightsError, match="Keras cannot load it"):
        weights.save_model(built, tmp_path / "a.keras", Card(app="textcnn", name="a"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": (0, 3)}, "1 to 10 words wide"),
        ({"widths": ()}, "1 to 10 words wide"),
        ({"widths": (11,)}, "1 to 10 words wide"),
        ({"maps": 0}, "at least one map"),
        ({"dropout": 1.0}, "below 1"),
        ({"max_norm": float("nan")}, "norm cannot be nan"),
        ({"mode": "other"}, "no mode 'other'; choose from nonstatic"),
        ({"activation": "elu"}, "no activation"),
        ({"init": "he"}, "no init"),
    ],
)
def test_values_out_of_range(options, message):
    with pytest.raises(DataError, match=message):
        Architecture(**options)

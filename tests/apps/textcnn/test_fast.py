"""The table look-up against the Keras network."""

import numpy as np
import pytest

from apps.textcnn import fast, model
from apps.textcnn.model import Architecture
from apps.textcnn.text import Vocabulary, pad
from shared import backend

ROWS, DIM = 300, 8
WORDS = Vocabulary(tuple(f"w{number}" for number in range(ROWS - 2)))


def network(rng, **options):
    built = model.network(
        Architecture(maps=7, **options), rng.normal(0, 0.5, (ROWS, DIM)), 3, WORDS
    )
    for layer in built.layers[2:]:
        layer.set_weights([rng.normal(0, 0.3, array.shape) for array in layer.get_weights()])
    return built


def by_keras(built, ids, widest):
    run, out = backend.compiled(built), np.empty((len(ids), 3), np.float32)
    order = np.argsort([len(row) for row in ids])
    for part in np.array_split(order, min(8, len(ids))):
        out[part] = run(pad([ids[i] for i in part], 128, widest))
    return out


@pytest.mark.parametrize(
    ("options", "largest_table"),
    [
        ({"widths": (1, 2, 3, 4, 5, 6, 7)}, fast.LARGEST_TABLE),
        ({"widths": (3, 7, 7), "mode": "multichannel"}, 0),
        ({"widths": (10,), "activation": "tanh"}, fast.LARGEST_TABLE),
    ],
)
def test_equals_keras(rng, options, largest_table):
    built = network(rng, **options)
    lengths = [0, 1, 2, 3, 400, *rng.integers(0, 60, 2_495)]
    ids = [rng.integers(1, ROWS, length).astype(np.int32) for length in lengths]
    tables = fast.TableNetwork(model.parameters(built), largest_table=largest_table)
    expected = by_keras(built, ids, max(options["widths"]))
    np.testing.assert_allclose(tables.logits(ids), expected, atol=2e-5, rtol=1e-5)


@pytest.mark.backends
def test_equals_every_backend(rng):
    built = network(rng)
    ids = [rng.integers(1, ROWS, length).astype(np.int32) for length in (0, 1, 5, 9)]
    expected = backend.compiled(built)(pad(ids))
    found = fast.TableNetwork(model.parameters(built)).logits(ids)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_rows_are_made_when_a_word_is_first_seen(rng):
    built = network(rng)
    tables = fast.TableNetwork(model.parameters(built), workers=1)
    first = [np.array([5, 6, 5])]
    alone = tables.logits(first)
    assert np.flatnonzero(tables._known).tolist() == [5, 6]
    both = tables.logits([np.array([250, 7, 6]), *first])
    np.testing.assert_allclose(both[1:], alone, atol=1e-5)


def test_nothing_to_do(rng):
    built = network(rng)
    tables = fast.TableNetwork(model.parameters(built))
    assert tables.logits([]).shape == (0, 3)
    empty = tables.logits([np.array([], np.int32)])
    np.testing.assert_allclose(empty, by_keras(built, [np.array([], np.int32)], 5), atol=1e-5)


def test_result_does_not_depend_on_threads_or_order(rng):
    parameters = model.parameters(network(rng))
    ids = [rng.integers(1, ROWS, n).astype(np.int32) for n in rng.integers(0, 30, 200)]
    one = fast.TableNetwork(parameters, workers=1).logits(ids)
    four = fast.TableNetwork(parameters, workers=4).logits(ids[::-1])[::-1]
    np.testing.assert_allclose(four, one, atol=1e-6)

import contextlib
import importlib
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras.src.backend.common import dtypes

from apps.texture import energy, features, objective, start
from apps.texture.objective import Terms
from shared import backend

RNG = np.random.default_rng(0)
MAPS = RNG.uniform(-1, 1, (7, 9, 4)).astype(np.float32)


def value(function, *arrays):
    return backend.compiled(function)(*arrays)


@pytest.mark.backends
def test_gram_equals_loops():
    flat = MAPS.reshape(-1, 4).astype(np.float64)
    wanted = sum(np.outer(row, row) for row in flat) / len(flat)
    np.testing.assert_allclose(value(energy.gram, MAPS), wanted, atol=1e-5)


def loop_correlation(maps, down, side, circular):
    height, width, channels = maps.shape
    found = np.zeros((channels, down + 1, 2 * side + 1))
    for i in range(down + 1):
        for j in range(-side, side + 1):
            total, count = 0.0, 0
            for y in range(height):
                for x in range(width):
                    v, u = y + i, x + j
                    v = v % height if circular[0] else v
                    u = u % width if circular[1] else u
                    if 0 <= v < height and 0 <= u < width:
                        total, count = total + maps[y, x] * maps[v, u], count + 1
            found[:, i, j + side] = total / count
    return found


@pytest.mark.backends
@pytest.mark.parametrize("circular", [(False, False), (True, True), (True, False)])
def test_correlation_equals_loops(circular):
    def run(maps):
        return energy.correlation(maps, (3, 4), circular)

    wanted = loop_correlation(MAPS.astype(np.float64), 3, 4, circular)
    np.testing.assert_allclose(value(run, MAPS), wanted, atol=1e-5)


def test_sum_over_half_of_the_shifts_is_that_over_all():
    half = RNG.normal(size=(2, 4, 7))
    full = np.concatenate([half[:, :0:-1, ::-1], half], axis=1)
    found = value(energy.correlation_sum, half.astype(np.float32), np.zeros_like(half, "float32"))
    assert found == pytest.approx(np.square(full).sum(), rel=1e-5)


@pytest.mark.backends
def test_smoothness_equals_loops():
    s = 0.3
    total = 0.0
    for y in range(7):
        for x in range(9):
            neighbours = [
                MAPS[(y + 1) % 7, x], MAPS[y - 1, x], MAPS[y, (x + 1) % 9], MAPS[y, x - 1]
            ]  # fmt: skip
            inner = sum(np.exp(-s * (MAPS[y, x] - n) ** 2) for n in neighbours) / 4
            total += np.log(inner).sum() / (2 * s)

    def run(maps):
        return energy.smoothness(maps, s)

    assert value(run, MAPS) == pytest.approx(total, rel=1e-4)


@pytest.mark.backends
def test_gradient_equals_the_formula_of_the_paper(exemplar):
    """dE/dF = F (G - G') / (M N^2), for features that are given themselves."""
    wanted = value(energy.gram, RNG.normal(size=(5, 5, 4)).astype(np.float32))

    def run(features, wanted):
        return energy.gram_distance(energy.gram(features), wanted)

    _, gradient = backend.value_and_grad(run)(MAPS, wanted)
    flat = MAPS.reshape(-1, 4).astype(np.float64)
    difference = flat.T @ flat / len(flat) - wanted
    formula = flat @ difference / (len(flat) * 4**2)
    np.testing.assert_allclose(gradient.reshape(-1, 4), formula, rtol=1e-4, atol=1e-7)


@pytest.mark.backends
def test_gradient_is_nothing_where_the_unit_is(exemplar):
    """The formula holds where F > 0; elsewhere the ReLU lets nothing through (T, equation 5)."""
    kernel = np.zeros((3, 3, 3, 3), np.float32)
    kernel[1, 1] = np.eye(3)
    bias = np.array([-0.5, -0.6, -0.2], np.float32)
    network = features.Network("random", np.zeros(3, np.float32), {"conv1_1": (kernel, bias)})
    terms = Terms(gram=1.0, layers=("conv1_1",))
    wanted = value(energy.gram, RNG.uniform(size=(5, 5, 3)).astype(np.float32))
    evaluate = objective.whole(network, terms, {"gram0:conv1_1": wanted}, ("reflect",) * 2)
    _, gradient = evaluate(exemplar)
    linear = (exemplar + bias).reshape(-1, 3).astype(np.float64)
    units = np.maximum(linear, 0)
    formula = units @ (units.T @ units / len(units) - wanted) / (len(units) * 3**2)
    assert 0.2 < (linear > 0).mean() < 0.8
    assert np.abs(formula[linear <= 0]).max() > 0.1 * np.abs(formula).max()
    masked = np.where(linear > 0, formula, 0)
    np.testing.assert_allclose(gradient.reshape(-1, 3), masked, rtol=1e-4, atol=1e-9)


@pytest.fixture
def double(monkeypatch):
    """Everything computes in float64, and features keep that type."""
    with contextlib.ExitStack() as stack:
        if keras.config.backend() == "jax":
            stack.enter_context(importlib.import_module("jax").enable_x64(True))
        before = keras.config.floatx()
        stack.callback(keras.config.set_floatx, before)
        keras.config.set_floatx("float64")
        # On these two Keras narrows what it computes.
        monkeypatch.setitem(dtypes.BIT64_TO_BIT32_DTYPE, "float64", "float64")
        monkeypatch.setattr(keras.ops, "cast", lambda x, dtype: x)
        convert = keras.ops.convert_to_tensor

        def widened(x):
            return convert(np.float64(x) if isinstance(x, (np.ndarray, np.float32)) else x)

        monkeypatch.setattr(keras.ops, "convert_to_tensor", widened)
        yield


@pytest.mark.backends
def test_gradients_equal_central_differences(double, narrow):
    """In float64, on 24 x 24 pixels, along two directions; compiled once for all energies."""
    taps, borders = ["conv1_1", "pool1"], ("reflect", "reflect")
    weights = {"gram": 1, "correlation": 1, "correlation_sum": 1}
    weights |= {"diversity": -1, "smoothness": -1}
    terms = Terms(**weights, layers=tuple(taps), scales=2)
    texture, other = RNG.uniform(0.1, 0.9, (2, 24, 24, 3))
    network = narrow(6, 5, 7, 4)

    def described(picture):
        parameters = network.parameters
        return network.maps(parameters, picture, taps, borders, "float64"), objective._described(
            network, parameters, terms, picture, borders, (2, 3), (False, False), "float64"
        )

    def energies(picture, targets):
        (maps, found), (kept, wanted) = described(picture), targets
        alone = [Terms(**(dict.fromkeys(weights, 0) | {k: v})) for k, v in weights.items()]
        totals = [objective._total(one, found, wanted) for one in alone]
        totals.append(sum(energy.content(maps[t], kept[t]) for t in taps))
        grams = [[energy.gram(m[t]) for m in (maps, kept)] for t in taps]
        return [*totals, sum(energy.relative_gram_distance(*pair) for pair in grams)]

    def chosen(picture, choice, targets):
        values = energies(picture, targets)
        return sum(c * e for c, e in zip(choice, values, strict=True)), values

    targets = backend.compiled(described)(texture)
    differentiate = backend.value_and_grad(chosen)
    step, names = 1e-5, [*weights, "content", "relative gram"]
    for number, name in enumerate(names):
        choice = list(np.eye(len(names))[number])
        (value, _), gradient = differentiate(other, choice, targets)
        assert value.dtype == gradient.dtype == np.float64
        # Along the gradient itself, where a wrong one shows most, and across.
        for direction in (gradient, RNG.normal(size=other.shape)):
            direction = direction / np.linalg.norm(direction)
            above, below = (
                float(differentiate(other + sign * direction, choice, targets)[0][0])
                for sign in (step, -step)
            )
            error = (above - below) / (2 * step) - np.vdot(gradient, direction)
            assert abs(error) < 1e-5 * np.linalg.norm(gradient), name


@pytest.mark.slow_on_jax
@pytest.mark.backends
@pytest.mark.parametrize(
    ("size", "side", "borders", "scales"),
    [
        # Tiles of 64 x 64 and 64 x 32; of 96 x 96, 96 x 64, 32 x 96 and 32 x 64.
        ((128, 160), 64, ("wrap", "reflect"), 2),
        ((128, 160), 96, ("reflect", "wrap"), 1),
        pytest.param((512, 512), 64, ("reflect", "reflect"), 2, marks=pytest.mark.slow),
        pytest.param((512, 512), 128, ("wrap", "wrap"), 2, marks=pytest.mark.slow),
        pytest.param((512, 512), 256, ("reflect", "reflect"), 1, marks=pytest.mark.slow),
        pytest.param((512, 512), 200, ("wrap", "reflect"), 1, marks=pytest.mark.slow),
    ],
)
def test_tiles_give_energy_and_gradient_of_the_whole(
    double, narrow, exemplar, size, side, borders, scales
):
    """In float64, since a unit that is 0 but for rounding has two derivatives."""
    network, terms = narrow(*[8] * 8), Terms(scales=scales)
    assert (terms.layers[-1], features.halo(terms.layers, network.name)) == ("pool3", 24)
    targets = objective.statistics(network, terms, [exemplar], [1.0], size)
    picture = start.random_phase(exemplar, size, 1).astype(np.float64)
    value, gradient = objective.whole(network, terms, targets, borders)(picture)
    total, slope = objective.tiled(network, terms, targets, borders, side=side)(picture)
    assert total == pytest.approx(value, rel=1e-5)
    assert np.abs(slope - gradient).max() < 1e-6 * np.abs(gradient).max()


def test_large_exemplars_are_described_in_tiles(shallow, exemplar, monkeypatch):
    terms = Terms(layers=("conv1_1", "pool2"), scales=2)
    wanted = objective.statistics(shallow, terms, [exemplar], [1.0], (40, 40))
    monkeypatch.setattr(objective, "WHOLE", 32 * 32)
    monkeypatch.setattr(objective, "TILE", 24)
    found = objective.statistics(shallow, terms, [exemplar], [1.0], (40, 40))
    assert found.keys() == wanted.keys()
    for name, gram in found.items():
        assert np.abs(gram - wanted[name]).max() < 1e-5 * np.abs(wanted[name]).max()
    with pytest.raises(ValueError, match="tiles"):
        objective.statistics(
            shallow, Terms(layers=("pool2",), correlation=1.0), [exemplar], [1.0], (40, 40)
        )


def test_with_less_around_them_tiles_are_wrong(narrow, exemplar, monkeypatch):
    network, terms = narrow(*[8] * 8), Terms(layers=("pool3",))
    targets = objective.statistics(network, terms, [exemplar], [1.0], (64, 64))
    picture = start.random_phase(exemplar, (64, 64), 1)
    _, gradient = objective.whole(network, terms, targets, ("reflect",) * 2)(picture)
    monkeypatch.setattr(objective, "halo", lambda taps, name: 16)
    _, slope = objective.tiled(network, terms, targets, ("reflect",) * 2, side=32)(picture)
    assert np.abs(slope - gradient).max() > 1e-4 * np.abs(gradient).max()


def test_terms_that_need_the_whole_picture_are_not_tiled(shallow):
    with pytest.raises(ValueError, match="Gram"):
        objective.tiled(shallow, Terms(correlation=1.0), {}, ("wrap", "wrap"))


def test_energy_of_the_exemplar_itself_is_nothing(shallow, exemplar):
    terms = Terms(layers=("conv1_1", "pool2"), scales=2, correlation=1e3)
    targets = objective.statistics(shallow, terms, [exemplar], [1.0], exemplar.shape[:2])
    value, gradient = objective.whole(shallow, terms, targets, ("reflect",) * 2)(exemplar)
    assert value < 1e-6
    assert np.abs(gradient).max() < 1e-3


def test_mix_is_the_mean_of_statistics():
    mixed = energy.mixed([{"a": np.ones(2)}, {"a": np.zeros(2)}], [0.25, 0.75])
    np.testing.assert_allclose(mixed["a"], 0.25)


_MEASURE = """
import resource, sys
import numpy as np
from shared import backend
backend.setup("cpu", "float32")
from apps.texture import features, objective
from apps.texture.objective import Terms

def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

side = int(sys.argv[1])
network = features.open_network("random", taps=["pool3"])
exemplar = np.random.default_rng(0).random((64, 64, 3), np.float32)
terms = Terms(scales=2)
targets = objective.statistics(network, terms, [exemplar], [1.0], (side, side))
before = peak()
evaluate = objective.tiled(network, terms, targets, ("wrap", "wrap"))
evaluate(np.random.default_rng(1).random((side, side, 3), np.float32))
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_memory_is_that_of_a_tile():
    def taken(side):
        command = [sys.executable, "-c", _MEASURE, str(side)]
        root = Path(objective.__file__).parents[2]
        return int(subprocess.run(command, cwd=root, check=True, capture_output=True).stdout)

    picture = 4 * 3 * 1024**2
    # The picture, its gradient, and a slope that is spread over the pixels it is the mean of.
    small, large = taken(1024) - 3 * picture, taken(2048) - 3 * 4 * picture
    assert large <= 1.5 * small

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from apps.texture import energy, objective, start
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


TERMS = {
    "gram": {"gram": 1.0},
    "correlation": {"correlation": 1.0},
    "correlation sum": {"correlation_sum": 1.0},
    "diversity": {"diversity": -1.0},
    "smoothness": {"smoothness": -1.0},
}


class TestCentralDifferences:
    """In float64, on 24 x 24 pixels, along random directions."""

    @pytest.fixture(autouse=True)
    def _double(self):
        before = keras.config.floatx()
        keras.config.set_floatx("float64")
        yield
        keras.config.set_floatx(before)

    @pytest.mark.parametrize("name", TERMS)
    def test_gradient(self, shallow, name, monkeypatch):
        if keras.config.backend() == "jax":
            pytest.skip("JAX computes in float32 unless it is started otherwise")
        monkeypatch.setattr(keras.ops, "cast", lambda x, dtype: x)
        terms = Terms(**({"gram": 0.0} | TERMS[name]), layers=("conv1_1", "pool1"), scales=2)
        texture = np.clip(RNG.uniform(size=(24, 24, 3)), 0.1, 0.9)
        other = np.clip(RNG.uniform(size=(24, 24, 3)), 0.1, 0.9)
        doubled = type(shallow)(
            shallow.name,
            shallow.mean.astype(np.float64),
            {
                tap: type(pair)(*(np.asarray(keras.ops.convert_to_numpy(a), float) for a in pair))
                for tap, pair in shallow.parameters.items()
            },
        )
        taps = terms.taps

        def described(picture):
            return objective._described(
                doubled, doubled.until(taps), terms, picture, ("reflect",) * 2, (2, 3),
                (False, False), "float64",
            )  # fmt: skip

        targets = backend.compiled(described)(texture)

        def run(picture):
            return objective._total(terms, described(picture), targets)

        differentiate = backend.value_and_grad(run)
        _, gradient = differentiate(other)
        # Along the gradient itself, where a wrong one shows most, and across.
        for direction in (gradient, RNG.normal(size=other.shape)):
            direction = direction / np.linalg.norm(direction)
            step = 1e-5
            above, below = (float(differentiate(other + s * direction)[0]) for s in (step, -step))
            slope = float(np.vdot(gradient, direction))
            scale = np.linalg.norm(gradient)
            assert abs((above - below) / (2 * step) - slope) < 1e-5 * scale


@pytest.mark.slow_on_jax
@pytest.mark.backends
@pytest.mark.parametrize(
    ("size", "side", "borders", "scales"),
    [
        ((32, 48), 16, ("wrap", "reflect"), 2),
        pytest.param((512, 512), 64, ("reflect", "reflect"), 2, marks=pytest.mark.slow),
        pytest.param((512, 512), 128, ("wrap", "wrap"), 2, marks=pytest.mark.slow),
        pytest.param((512, 512), 256, ("reflect", "reflect"), 1, marks=pytest.mark.slow),
        pytest.param((512, 512), 200, ("wrap", "reflect"), 1, marks=pytest.mark.slow),
    ],
)
def test_tiles_give_energy_and_gradient_of_the_whole(
    shallow, exemplar, size, side, borders, scales
):
    terms = Terms(layers=("conv1_1", "pool1", "pool2"), scales=scales)
    targets = objective.statistics(shallow, terms, [exemplar], [1.0], size)
    picture = start.random_phase(exemplar, size, 1)
    value, gradient = objective.whole(shallow, terms, targets, borders)(picture)
    total, slope = objective.tiled(shallow, terms, targets, borders, side=side)(picture)
    assert total == pytest.approx(value, rel=1e-5)
    assert np.abs(slope - gradient).max() < 1e-5 * np.abs(gradient).max()


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


def test_without_what_surrounds_them_tiles_are_wrong(shallow, exemplar, monkeypatch):
    terms = Terms(layers=("pool2",))
    targets = objective.statistics(shallow, terms, [exemplar], [1.0], (48, 48))
    picture = start.random_phase(exemplar, (48, 48), 1)
    _, gradient = objective.whole(shallow, terms, targets, ("reflect",) * 2)(picture)
    monkeypatch.setattr(objective, "halo", lambda taps, name: 0)
    _, slope = objective.tiled(shallow, terms, targets, ("reflect",) * 2, side=16)(picture)
    assert np.abs(slope - gradient).max() > 1e-3 * np.abs(gradient).max()


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

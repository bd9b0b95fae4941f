"""What holds for each layer: shapes, gradients, files, half precision, wrong inputs."""

import keras
import numpy as np
import pytest
from keras import ops

from shared import layers
from shared.errors import ConvsuiteError

MAP = (2, 7, 6, 4)
VECTORS = (3, 4)
TABLE = [[0, 2], [3], [0, 1, 2, 3]]
CODES = [[1, -1, 1, 1], [-1, -1, 1, -1]]
MAPS = {
    "lrn": lambda **o: layers.LRN(3, 0.5, 0.75, **o),
    "lrn_by_n": lambda **o: layers.LRN(4, 1.0, 0.5, 1.0, normalize_by_n=True, **o),
    "ceil_max": lambda **o: layers.CeilPool(3, 2, **o),
    "ceil_avg": lambda **o: layers.CeilPool((2, 3), (3, 2), mode="avg", **o),
    "lp": lambda **o: layers.LpPool(2, 2, 3, **o),
    "lp_max": lambda **o: layers.LpPool(3, 1, float("inf"), **o),
    "mixed": lambda **o: layers.MixedPool(3, 2, seed=1, **o),
    "gated": lambda **o: layers.MixedPool((3, 2), 2, gated=True, **o),
    "stochastic": lambda **o: layers.StochasticPool(3, 2, seed=1, **o),
    "pyramid": lambda **o: layers.SpatialPyramidPool((3, 2, 1), **o),
    "pyramid_finer_than_the_map": lambda **o: layers.SpatialPyramidPool((8,), **o),
    "maxout": lambda **o: layers.Maxout(2, **o),
    "subsample": lambda **o: layers.ChannelLinearSubsample(2, **o),
    "partial": lambda **o: layers.PartialConv(3, (3, 2), TABLE, 2, **o),
    "partial_same": lambda **o: layers.PartialConv(3, 3, TABLE, 2, "same", **o),
    "local_bias": lambda **o: layers.LocallyBiasedConv(3, 5, 2, -1.0, TABLE, **o),
    "scaled_tanh": lambda **o: layers.ScaledTanh(**o),
    "highway": lambda **o: layers.HighwayConv(4, 3, activation="tanh", **o),
    "depth": lambda **o: layers.StochasticDepth(0.7, seed=1, **o),
    "channel_pad": lambda **o: layers.ChannelPad(7, 2, **o),
}
DENSE = {
    "highway_dense": lambda **o: layers.HighwayDense(4, activation="tanh", **o),
    "rbf": lambda **o: layers.RBFOutput(CODES, **o),
    "maxout_vector": lambda **o: layers.Maxout(4, **o),
    "tanh_vector": lambda **o: layers.ScaledTanh(**o),
}
CASES = [(name, make, MAP) for name, make in MAPS.items()]
CASES += [(name, make, VECTORS) for name, make in DENSE.items()]
every_layer = pytest.mark.parametrize(
    ("make", "shape"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)


def far_apart(rng, shape):
    """Values above 0 of which no two come nearer than 3 / size: no maximum changes by a step."""
    size = int(np.prod(shape))
    return (0.1 + 3 * rng.permutation(size) / size).reshape(shape).astype("float32")


def randomise(layer, rng):
    """Give every weight another value than the usual first one."""
    layer.set_weights(
        [
            w if w.dtype.kind == "u" else w + rng.normal(0, 0.3, w.shape).astype(w.dtype)
            for w in layer.get_weights()
        ]
    )


def model_of(layer, shape):
    inputs = keras.Input(shape[1:])
    return keras.Model(inputs, layer(inputs))


@pytest.mark.backends
@every_layer
def test_output_has_the_promised_shape(rng, make, shape):
    model = model_of(make(), shape)
    assert model.predict_on_batch(far_apart(rng, shape)).shape[1:] == model.output.shape[1:]


@pytest.mark.parametrize("name", sorted(MAPS.keys() - {"local_bias"}))
def test_sides_may_stay_open(rng, name):
    x = far_apart(rng, MAP)
    layer = MAPS[name]()
    expected = model_of(layer, MAP).predict_on_batch(x)
    found = model_of(layer, (None, None, None, MAP[-1])).predict_on_batch(x)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def check_layer(check_gradients, rng, layer, shape, **options):
    layer.build(shape)
    randomise(layer, rng)
    # The state of the random numbers is handed in, so that every call draws the same ones.
    state = [ops.convert_to_tensor(v) for v in layer.non_trainable_variables]
    weights = [ops.convert_to_numpy(v) for v in layer.trainable_variables]

    def apply(x, *weights):
        return layer.stateless_call(list(weights), state, x, **options)[0]

    check_gradients(apply, far_apart(rng, shape), *weights, step=2e-3)


@pytest.mark.slow_on_jax
@pytest.mark.backends
@every_layer
def test_gradients_equal_finite_differences(rng, check_gradients, make, shape):
    check_layer(check_gradients, rng, make(), shape)


@pytest.mark.slow_on_jax
@pytest.mark.backends
@pytest.mark.parametrize("name", ["mixed", "stochastic", "depth"])
def test_gradients_in_training(rng, check_gradients, name):
    check_layer(check_gradients, rng, MAPS[name](), MAP, training=True)


@every_layer
def test_files_bring_the_layer_back(rng, tmp_path, make, shape):
    model = model_of(make(), shape)
    randomise(model.layers[-1], rng)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = far_apart(rng, shape)
    assert loaded.layers[-1].get_config() == model.layers[-1].get_config()
    np.testing.assert_array_equal(loaded.predict_on_batch(x), model.predict_on_batch(x))


@every_layer
def test_half_precision_stays_near(rng, make, shape):
    full = model_of(make(), shape)
    randomise(full.layers[-1], rng)
    half = model_of(make(dtype="mixed_bfloat16"), shape)
    half.layers[-1].set_weights(full.layers[-1].get_weights())
    x = far_apart(rng, shape)
    found = ops.convert_to_numpy(ops.cast(half(x), "float32"))
    assert half.output.dtype == "bfloat16"
    np.testing.assert_allclose(found, full.predict_on_batch(x), rtol=0.05, atol=0.1)


@pytest.mark.parametrize("name", sorted(MAPS.keys() - {"maxout", "scaled_tanh", "depth"}))
def test_what_is_no_map_is_refused_by_name(name):
    layer = MAPS[name](name="the_layer")
    with pytest.raises(ConvsuiteError, match=r"the_layer takes \(batch, height, .*\(2, 7, 4\)"):
        layer(np.zeros((2, 7, 4), "float32"))


@pytest.mark.parametrize("name", ["highway_dense", "rbf"])
def test_what_is_no_vector_is_refused_by_name(name):
    layer = DENSE[name](name="the_layer")
    with pytest.raises(ConvsuiteError, match=r"the_layer takes \(batch, .*not \(2, 7, 4\)"):
        layer(np.zeros((2, 7, 4), "float32"))


@pytest.mark.parametrize("name", ["ceil_max", "lp_max", "mixed", "gated", "stochastic"])
def test_maps_below_the_window_are_refused(name):
    with pytest.raises(ConvsuiteError, match="does not fit"):
        MAPS[name]()(np.zeros((1, 1, 7, 4), "float32"))


def test_all_names_are_exported():
    for name in layers.__all__:
        assert getattr(layers, name)

"""Every network learns a batch by heart, and is the same after saving: small members, and all."""

import keras
import numpy as np
import pytest
from comparing import run
from keras import ops

from shared import backbones, weights

SMALL = {
    "lenet5_softmax": {},
    "highway_mlp_d10": {},
    "nin_cifar": {},
    "squeezenet1.1": {},
    "plain20": {"repeats": (1, 1, 1)},
    "resnet20": {"repeats": (1, 1, 1), "stochastic_depth": 0.999},
    "resnet18": {"repeats": (1, 1), "channels": (8, 16)},
    "resnet50": {"repeats": (1, 1), "channels": (32, 64), "inner": (8, 16)},
    "resnet50v2": {"repeats": (2, 1)},
    "resnext29_8x64d": {"repeats": (1, 1), "groups": 4, "width": 2},
    "wrn-16-4": {"repeat": 1, "widen": 1},
    "densenet121": {"repeats": (2, 2), "growth": 8, "stem": (7, 16)},
    "densenet40_k12": {"repeats": (2, 2, 2)},
    "densenet_bc100_k12": {"repeats": (2, 2, 2)},
    "mobilenet_v1": {"alpha": 0.25},
    "mobilenet_v2": {"alpha": 0.35},
    "bn_inception": {
        "table": (
            ("conv1_1", (8, 3, 2, "valid")),
            ("mixed0", dict(backbones.spec("inception_v3").variant["table"])["mixed0"]),
            ("inception_5b", [[(16, 3, 2, "valid")], ["max/2V"]]),
        ),
        "width": 0.125,
    },
    "inception_resnet_v2": {"repeats": (1, 0, 1), "width": 0.0625, "head": 256},
    "xception": {"middle": 1, "width": 0.0625},
}
STEPS = {"plain56": 1e-4, "resnet1202": 1e-4, "lenet5_softmax": 1e-2}
"""Learning rates of what is too deep, or too flat, for a thousandth."""
EAGER = ("resnet1202",)
"""What JAX had not compiled after twelve minutes, with ten gigabytes."""
NAMES = backbones.list_networks()
MEMBERS = [
    *(pytest.param(name, variant, id=f"small-{name}") for name, variant in SMALL.items()),
    *(pytest.param(name, {}, id=name, marks=pytest.mark.slow) for name in NAMES),
]


@pytest.fixture
def quick(monkeypatch, rng):
    """Draw initial weights by NumPy: JAX compiles a program for every new shape."""

    def draw(self, shape, dtype=None):
        return ops.convert_to_tensor(rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape), dtype)

    monkeypatch.setattr(keras.initializers.VarianceScaling, "__call__", draw)


def without_dropout(model):
    """Let the loss fall by learning alone."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0


def by_layer(model, x):
    return ops.convert_to_numpy(model(x, training=False))


@pytest.mark.slow_on_jax
@pytest.mark.backends
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("name", "variant"), MEMBERS)
def test_learns_a_batch_and_saves_what_it_learned(name, variant, rng, tmp_path):
    spec = backbones.spec(name)
    # Normalising over fewer numbers, deep networks jump about instead of going downhill.
    side = spec.size if spec.size <= 32 else max(64, 2 * spec.minimum)
    if name == "inception_v3_aux":
        side = spec.size
    keras.utils.set_random_seed(0)
    model = backbones.create(name, 10, (side, side, spec.channels), **variant)
    without_dropout(model)
    x = rng.uniform(-1, 1, (8, side, side, spec.channels)).astype("float32")
    target = rng.uniform(0, 1, (8, *model.output_shape[1:])).astype("float32")
    # Without compiling, which takes longer than the steps, but for JAX.
    model.compile(
        keras.optimizers.SGD(STEPS.get(name, 1e-3), global_clipnorm=1.0),
        "mse",
        run_eagerly=keras.backend.backend() != "jax" or name in EAGER,
    )
    first, *_, last = (float(model.train_on_batch(x, target)) for _ in range(3))
    assert last < first
    seen = run if name not in EAGER else by_layer
    learned = seen(model, x)
    model.save(tmp_path / "net.keras")
    with weights.deep_graphs():
        loaded = keras.saving.load_model(tmp_path / "net.keras")
    np.testing.assert_array_equal(seen(loaded, x), learned)


@pytest.mark.slow
@pytest.mark.backends
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("name", "settings", "head", "shares"),
    [
        # GoogLeNet, section 5, and Inception v3, section 4, give side classifiers a weight of .3.
        ("googlenet", {"aux": True}, "loss1_fc", [1, 0.3, 0.3]),
        ("inception_v3_aux", {"features": ["aux_probs", "probs"]}, "aux_predictions", [0.3, 1]),
    ],
)
def test_auxiliary_classifiers_learn_beside_the_main_one(name, settings, head, shares, rng):
    keras.utils.set_random_seed(0)
    model = backbones.create(name, 10, **settings)
    without_dropout(model)
    side = backbones.spec(name).size
    x = rng.uniform(-1, 1, (4, side, side, 3)).astype("float32")
    outputs = model.predict_on_batch(x)
    for probabilities in outputs:
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-4)
    targets = [np.eye(10, dtype="float32")[[1, 2, 3, 4]]] * len(outputs)
    model.compile(
        keras.optimizers.SGD(1e-2, global_clipnorm=1.0),
        ["categorical_crossentropy"] * len(outputs),
        loss_weights=shares,
        run_eagerly=keras.backend.backend() != "jax",
    )
    before = ops.convert_to_numpy(model.get_layer(head).kernel)
    losses = [model.train_on_batch(x, targets)[0] for _ in range(3)]
    assert losses[-1] < losses[0]
    assert np.abs(ops.convert_to_numpy(model.get_layer(head).kernel) - before).max() > 0

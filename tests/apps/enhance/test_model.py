"""The networks: layer table, parameters, identity at the start, guides, one training step."""

import keras
import numpy as np
import pytest
from keras import ops

from apps.enhance import model as enhance
from apps.enhance.model import Architecture
from apps.enhance.thumbnail import thumbnail
from apps.enhance.views import NOISE, NOISY, PatchSampler, PointSampler, collect
from shared.layers.bilateral_numba import slice_apply

# Gharbi et al. 2017, table 1 and section 3.1, for 256 x 256, cm = 1, gd = 8.
TABLE = {
    "splat1": (128, 128, 8),
    "splat2": (64, 64, 16),
    "splat3": (32, 32, 32),
    "splat4": (16, 16, 64),
    "global_conv1": (8, 8, 64),
    "global_conv2": (4, 4, 64),
    "global_dense1": (256,),
    "global_dense2": (128,),
    "global_dense3": (64,),
    "local1": (16, 16, 64),
    "local2": (16, 16, 64),
    "fusion": (16, 16, 64),
    "prediction": (16, 16, 96),
    "grid": (16, 16, 8, 3, 4),
}


def numpy(tensor):
    return ops.convert_to_numpy(tensor)


@pytest.mark.slow_on_jax
@pytest.mark.backends
def test_layer_table_and_parameters():
    network = enhance.coefficients()
    assert {n: tuple(network.get_layer(n).output.shape[1:]) for n in TABLE} == TABLE
    assert network.count_params() == 481_968
    assert not network.get_layer("local2").use_bias
    wide = enhance.coefficients(Architecture(width=2))
    assert wide.get_layer("splat4").filters == 128
    coarse = enhance.coefficients(Architecture(cells=8))
    assert coarse.output_shape[1:] == (8, 8, 8, 3, 4)


def test_batch_norm_starts_at_the_second_convolution_and_has_no_scale():
    network = enhance.coefficients(Architecture(batch_norm=True))
    names = [x.name for x in network.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert "splat1_bn" not in names
    assert "splat2_bn" in names
    assert "global_dense3_bn" not in names
    assert "local2_bn" not in names
    assert not network.get_layer("splat2_bn").scale


@pytest.mark.backends
@pytest.mark.parametrize("guide", ["curves", "nn"])
def test_untrained_network_returns_the_picture(rng, guide):
    keras.utils.set_random_seed(0)
    network = enhance.hdrnet(Architecture(guide=guide), points=500)
    image = rng.random((60, 80, 3)).astype("float32")
    grid = numpy(network.get_layer("coefficients")(thumbnail(image)[None]))[0]
    found = slice_apply(grid, enhance.guides(network)[0], image)
    assert np.abs(found - image).max() < 0.02


@pytest.mark.backends
@pytest.mark.parametrize("kind", ["curves", "nn"])
def test_guide_constants_equal_the_layer(rng, kind):
    layer = enhance._guide(kind, "guide")
    colours = rng.random((1, 7, 9, 3)).astype("float32")
    layer(colours)
    layer.set_weights([w + rng.normal(0, 0.2, w.shape) ** 2 for w in layer.get_weights()])
    expected = numpy(layer(colours))[0]
    np.testing.assert_allclose(layer.constants()(colours[0]), expected, atol=1e-5)


@pytest.mark.backends
def test_curves_guide_starts_as_the_mean_of_the_channels(rng):
    colours = rng.random((5, 3)).astype("float32")
    found = numpy(enhance.CurvesGuide()(colours))
    np.testing.assert_allclose(found, colours.mean(-1), atol=1e-3)


@pytest.mark.backends
def test_overshooting_guide_costs_something():
    layer = enhance.CurvesGuide()
    layer(np.full((4, 3), 2.0, "float32"))
    assert float(sum(layer.losses)) == pytest.approx(1e-3, rel=0.01)


def test_unknown_guide_is_named():
    with pytest.raises(ValueError, match="'depth'"):
        enhance.hdrnet(Architecture(guide="depth"))


def halved(rng):
    image = rng.random((64, 96, 3)).astype("float32")
    return image, 0.5 * image


@pytest.mark.parametrize(
    ("architecture", "sampler"),
    [
        pytest.param(Architecture(), PointSampler(kept=600, used=500), marks=pytest.mark.backends),
        (Architecture(guide="nn", grid_smoothness=1e-3), PointSampler(kept=600, used=500)),
        (Architecture(levels=3, guide="nn"), PatchSampler(kept=4, used=3)),
    ],
    ids=["curves", "nn", "pyramid"],
)
def test_training_steps_lower_the_loss_and_the_file_gives_the_same(tmp_path, architecture, sampler):
    views = collect([lambda: halved], 4, 0, sampler)
    # At this rate, one start in some hundreds diverges.
    keras.utils.set_random_seed(0)
    network = enhance.hdrnet(architecture, sampler.used)
    # An optimizer without variables: TensorFlow traces the step once instead of twice.
    network.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    losses = [float(network.train_on_batch(*views.random_batch(4, 0, s))) for s in range(12)]
    assert losses[-1] < 0.8 * losses[0]
    network.save(tmp_path / "net.keras")
    again = keras.saving.load_model(tmp_path / "net.keras", safe_mode=True, compile=False)
    inputs, _ = views.random_batch(2, 0, 99)
    np.testing.assert_allclose(
        numpy(again(inputs)), numpy(network(inputs, training=False)), atol=1e-5
    )


@pytest.mark.slow_on_jax
@pytest.mark.backends
@pytest.mark.parametrize(
    ("architecture", "sampler"),
    [
        (Architecture(), PointSampler(kept=60, used=50)),
        (Architecture(levels=3, grid_smoothness=1e-2), PatchSampler(kept=4, used=3)),
    ],
    ids=["curves", "smooth pyramid"],
)
def test_noise_consistency_adds_the_squared_response_of_the_grid(rng, architecture, sampler):
    views = collect([lambda: halved], 2, 0, sampler)
    network = enhance.hdrnet(architecture, sampler.used)
    coefficients = network.get_layer("coefficients")
    coefficients.set_weights([w + rng.normal(0, 0.02, w.shape) for w in coefficients.get_weights()])
    inputs, targets = views.random_batch(2, 0, 0, noisy=True)
    grid, noisy = (numpy(coefficients(inputs[name])) for name in ("thumbnail", NOISY))
    penalty = np.square((noisy - grid) / NOISE).mean()
    found = numpy(network({name: inputs[name] for name in network.input}, training=True))
    plain = np.square(found - targets).mean() + float(sum(network.losses))

    before = network.get_weights()
    learner = enhance.steadied(network, 0.5)
    # One step, which is quicker than compiling it, but for JAX.
    eager = keras.backend.backend() != "jax"
    learner.compile(keras.optimizers.SGD(), "mse", jit_compile=False, run_eagerly=eager)
    loss = float(learner.train_on_batch(inputs, targets))
    assert penalty > 0
    assert loss == pytest.approx(plain + 0.5 * penalty, rel=1e-3)
    assert loss != pytest.approx(plain, rel=1e-2)
    changed = zip(network.get_weights(), before, strict=True)
    assert any((new != old).any() for new, old in changed)


def test_noise_depends_on_the_step_alone_and_changes_nothing_else():
    views = collect([lambda: halved], 4, 0, PointSampler(kept=60, used=50))
    (plain, targets), (inputs, same) = (
        views.random_batch(2, 0, 7, noisy=noisy) for noisy in (False, True)
    )
    noise = inputs[NOISY] - inputs["thumbnail"]
    assert noise.std() == pytest.approx(NOISE, rel=0.02)
    assert abs(noise.mean()) < 1e-4
    np.testing.assert_array_equal(targets, same)
    for name, values in plain.items():
        np.testing.assert_array_equal(values, inputs[name])
    np.testing.assert_array_equal(inputs[NOISY], views.random_batch(2, 0, 7, noisy=True)[0][NOISY])
    assert (inputs[NOISY] != views.random_batch(2, 0, 8, noisy=True)[0][NOISY]).any()


@pytest.mark.slow_on_jax
@pytest.mark.backends
def test_pyramid_on_patches_equals_the_whole_picture(rng):
    """What training sees of a patch is what inference computes there, borders included."""
    from apps.enhance.enhancer import Enhancer

    sampler = PatchSampler(kept=40, used=40)
    network = enhance.hdrnet(Architecture(levels=3), sampler.used)
    coefficients = network.get_layer("coefficients")
    coefficients.set_weights([w + rng.normal(0, 0.02, w.shape) for w in coefficients.get_weights()])
    image = (0.2 + 0.6 * rng.random((48, 64, 3))).astype("float32")

    views = collect([lambda: lambda rng: (image, image)], 1, 3, sampler)
    inputs, _ = views.batch(np.array([0]), 0)
    patches = numpy(network(inputs))[0]
    whole = Enhancer(network, {})(image)
    positions = inputs["positions0"][0]
    x = np.round(positions[..., 0] * 64 - 0.5).astype(int)
    y = np.round(positions[..., 1] * 48 - 0.5).astype(int)
    np.testing.assert_allclose(np.clip(patches, 0, 1), whole[y, x], atol=2e-3)
    assert x.min() == 0
    assert x.max() == 63

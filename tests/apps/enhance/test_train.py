"""Training from a folder of pairs: what is learned, refused, resumed and written."""

import dataclasses

import keras
import numpy as np
import pytest

from apps.enhance.enhancer import Enhancer, LutEnhancer, open_look
from apps.enhance.ladder import grid_oracle, ladder, lut_oracle
from apps.enhance.lut import apply_lut, make_look, read_cube
from apps.enhance.material import pair_material
from apps.enhance.model import hdrnet, steadied
from apps.enhance.tables import fit_pairs, fit_table
from apps.enhance.thumbnail import thumbnail
from apps.enhance.train import Recipe, fine_tune, train, train_pairs
from apps.enhance.views import NOISE, PointSampler, collect
from shared import images, metrics
from shared.errors import DataError
from shared.training import METRICS, Schedule, fit
from shared.weights import read_card

QUICK = Recipe(steps=150, views=60, learning_rate=2e-3)


def test_learns_what_no_table_can_do(trained):
    rungs = {rung.method: rung for rung in trained.rungs}
    assert list(rungs) == [
        "identity",
        "auto-contrast",
        "global LUT",
        "per-image LUT oracle",
        "per-image grid oracle",
        "network",
    ]
    assert rungs["network"].psnr > rungs["global LUT"].psnr + 2
    assert rungs["per-image LUT oracle"].psnr > rungs["network"].psnr
    assert rungs["network"].pictures == 2


def test_leaves_look_card_log_and_curve(trained, photo):
    card = read_card(trained.path)
    assert card.settings["thumbnail"] == "area"
    assert card.training["steps"] == 150
    assert next(iter(card.results)) == "network, dB"
    folder = trained.path.with_name("look-training")
    assert (folder / METRICS).exists()
    assert (folder / "curve.png").exists()
    look = open_look(trained.path)
    dark, bright = ((gain * photo).astype("uint8") for gain in (0.4, 1.0))
    assert look(dark).mean() > 1.2 * dark.mean()
    assert look(bright).mean() < 0.9 * bright.mean()


def test_a_colour_table_ends_the_training(tmp_path, photo):
    table = make_look("warm")
    for number in range(11):
        before = np.roll(photo, 25 * number, axis=1)
        images.write(tmp_path / "p" / "input" / f"{number}.png", before)
        images.write(tmp_path / "p" / "target" / f"{number}.png", apply_lut(before, table))
    found = train_pairs(tmp_path / "p", tmp_path / "look.keras", recipe=QUICK, quiet=True)
    assert found.path == tmp_path / "look.cube"
    assert not (tmp_path / "look.keras").exists()
    assert isinstance(open_look(found.path), LutEnhancer)
    assert found.card.kind == "cube"
    assert next(iter(found.card.results)) == "global LUT, dB"
    assert found.card.results["global LUT, dB"] > 40


@pytest.mark.slow
def test_views_on_disk_give_the_same_network(tmp_path, pair_folder):
    recipe = dataclasses.replace(QUICK, steps=3, views=6)
    looks = []
    for name, cache in (("memory", 4.0), ("disk", 0.0)):
        out = tmp_path / name / "look.keras"
        recipe = dataclasses.replace(recipe, cache_gb=cache)
        train_pairs(pair_folder, out, recipe=recipe, quiet=True, force=True)
        looks.append(open_look(out).network.get_weights())
        assert (tmp_path / name / "look-training" / "views").exists() == (name == "disk")
    for one, two in zip(*looks, strict=True):
        np.testing.assert_array_equal(one, two)


def test_one_pair_trains_with_a_warning_from_a_look_and_from_a_checkpoint(
    tmp_path, photo, capsys, trained
):
    images.write(tmp_path / "pair" / "a_before.png", photo)
    images.write(tmp_path / "pair" / "a_after.png", 255 - photo)
    recipe = dataclasses.replace(QUICK, steps=4, views=8)
    material = pair_material(tmp_path / "pair")
    options = {"quiet": True, "force": True}
    train(material, tmp_path / "a.keras", recipe, start_from=trained.path, **options)
    assert "1 pairs are few" in capsys.readouterr().err
    with pytest.raises(DataError, match="--resume"):
        train(material, tmp_path / "a.keras", recipe, **options)
    longer = dataclasses.replace(recipe, steps=6)
    assert (
        train(material, tmp_path / "a.keras", longer, resume=True, **options).card.training["steps"]
        == 6
    )
    with pytest.raises(DataError, match="colour table"):
        train(material, tmp_path / "b.keras", recipe, start_from="warm", **options)


def learned(folder, weight, steps):
    """Train a network for some steps; a weight of None is the plain training."""
    views = collect(pair_material(folder).sources, 24, 0, QUICK.sampler)
    keras.utils.set_random_seed(0)
    network = hdrnet(points=QUICK.sampler.used)
    steady = weight is not None
    learner = steadied(network, weight) if steady else network
    # For a few steps, compiling takes longer than what it saves.
    learner.compile(keras.optimizers.Adam(1e-3), "mse", jit_compile=False, run_eagerly=steps < 10)
    for step in range(steps):
        learner.train_on_batch(*views.random_batch(2, 0, step, noisy=steady))
    return network


def test_noise_consistency_of_weight_0_leaves_the_training_as_it_was(pair_folder):
    plain, without = (learned(pair_folder, weight, 3) for weight in (None, 0.0))
    for one, two in zip(plain.get_weights(), without.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)


@pytest.mark.slow
def test_noise_consistency_steadies_the_grid(pair_folder, photo):
    """Measured: a response of 0.087 without, 0.028 with it."""
    small = thumbnail(photo)
    noise = np.random.default_rng(9).normal(0, NOISE, (8, *small.shape)).astype("float32")

    def response(network):
        coefficients = network.get_layer("coefficients")
        grids = keras.ops.convert_to_numpy(coefficients(np.stack([small, *small + noise])))
        return np.sqrt(np.square(grids[1:] - grids[0]).mean()) / NOISE

    plain, steady = (response(learned(pair_folder, weight, 60)) for weight in (None, 1.0))
    assert steady < 0.6 * plain


@pytest.mark.slow  # noise depends on the step alone, and every training resumes exactly
def test_noisy_training_resumes_exactly(tmp_path, pair_folder):
    views = collect(pair_material(pair_folder).sources, 6, 0, QUICK.sampler)
    schedule = Schedule(4, learning_rate=1e-3, log_every=2)

    def run(folder, killed_at=None, resume=False):
        def batches(step):
            if step == killed_at:
                raise InterruptedError
            return views.random_batch(2, 0, step, noisy=True)

        keras.utils.set_random_seed(0)
        network = hdrnet(points=QUICK.sampler.used)
        learner = steadied(network, 1.0)
        # With a memory to restore, as Adam, but quicker to trace.
        learner.compile(keras.optimizers.SGD(momentum=0.9), "mse", jit_compile=False)
        fit(learner, batches, schedule, folder, resume=resume, quiet=True)
        return network.get_weights()

    whole = run(tmp_path / "whole")
    with pytest.raises(InterruptedError):
        run(tmp_path / "parts", killed_at=3)
    for one, two in zip(whole, run(tmp_path / "parts", resume=True), strict=True):
        np.testing.assert_array_equal(one, two)


def test_fine_tuning_leaves_the_look_itself_alone(trained, pair_folder):
    look = open_look(trained.path)
    before = [w.copy() for w in look.network.get_weights()]
    tuned = fine_tune(look, pair_material(pair_folder).sources[:2], steps=3)
    assert isinstance(tuned, Enhancer)
    for old, kept, new in zip(
        before, look.network.get_weights(), tuned.network.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(old, kept)
        if old.size > 100:
            assert (new != old).any()


def test_table_is_fitted_with_the_smoothness_that_carries_over(photo):
    table = make_look("fade")

    def source():
        return lambda rng: (
            (x := np.roll(photo / 255, rng.integers(300), 1)),
            apply_lut(x.astype("float32"), table),
        )

    views = collect([source] * 5, 10, 0, PointSampler(500, 100))
    fitted = fit_table(views, 5)
    image = (photo / 255).astype("float32")
    assert metrics.psnr(apply_lut(image, fitted), apply_lut(image, table)) > 45


def test_fit_pairs_writes_a_table(tmp_path, photo):
    table = make_look("cool")
    for number in range(6):
        before = np.roll(photo, 40 * number, axis=1)
        images.write(tmp_path / f"{number}_before.png", before)
        images.write(tmp_path / f"{number}_after.png", apply_lut(before, table))
    psnr = fit_pairs(tmp_path, tmp_path / "out" / "look.cube", title="mine")
    assert psnr > 45
    assert read_cube(tmp_path / "out" / "look.cube").title == "mine"


def test_oracles_reach_what_they_can_represent(photo):
    before = (photo / 255).astype("float32")
    by_table = apply_lut(before, make_look("warm"))
    assert metrics.psnr(lut_oracle(before, by_table), by_table) > 40
    ramp = np.linspace(0.5, 1, before.shape[1], dtype="float32")[None, :, None]
    assert metrics.psnr(grid_oracle(before, before * ramp), before * ramp) > 40
    assert metrics.psnr(lut_oracle(before, before * ramp), before * ramp) < 35


def test_ladder_means_and_errors(photo):
    image = (photo / 255).astype("float32")
    tests = [lambda: (image, image * 0.9), lambda: (image, image * 0.8)]
    (rung,) = ladder(tests, {"identity": lambda before, wanted: before})
    each = [metrics.psnr(image, image * f) for f in (0.9, 0.8)]
    assert rung.psnr == pytest.approx(np.mean(each), abs=1e-3)
    assert rung.standard_error == pytest.approx(abs(each[0] - each[1]) / 2, abs=1e-3)

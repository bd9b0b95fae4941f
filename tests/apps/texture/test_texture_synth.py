import dataclasses

import numpy as np
import pytest

from apps.texture import checkpoint, objective, start, synth
from apps.texture.objective import Terms
from apps.texture.synth import Recipe, TextureSynthesizer
from shared import backend
from shared.errors import ConvsuiteError

QUICK = Recipe(
    network="random",
    terms=Terms(layers=("conv1_1", "pool1", "pool2")),
    octaves=1,
    steps=8,
)


@pytest.fixture(scope="module")
def synthesizer(shallow):
    return TextureSynthesizer(QUICK, shallow)


def test_random_phase_keeps_mean_and_spectrum(exemplar):
    made = start.random_phase(exemplar, (40, 48), 3)
    np.testing.assert_allclose(made.mean((0, 1)), exemplar.mean((0, 1)), atol=0.02)
    np.testing.assert_allclose(made.std((0, 1)), exemplar.std((0, 1)), rtol=0.25)
    colours = [np.corrcoef(p.reshape(-1, 3).T) for p in (made, exemplar)]
    assert np.abs(colours[0] - colours[1]).max() < 0.35
    larger = start.random_phase(exemplar, (96, 80), 3)
    np.testing.assert_allclose(larger.std((0, 1)), exemplar.std((0, 1)), rtol=0.25)


@pytest.mark.backends
def test_energy_falls_and_size_is_as_asked(synthesizer, exemplar):
    done = synthesizer.synthesise([exemplar], (44, 50), seed=2)
    assert done.picture.shape == (44, 50, 3)
    assert done.picture.dtype == np.float32
    assert 0 <= done.picture.min() <= done.picture.max() <= 1
    assert done.curves[-1][-1] < 0.5 * done.curves[-1][0]


def test_same_seed_same_picture_other_seed_another(synthesizer, exemplar):
    first, again, other = (synthesizer(exemplar, (40, 40), seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.corrcoef(first.ravel(), other.ravel())[0, 1] < 0.5


def test_tiles_are_rounded_up_and_said(synthesizer, exemplar):
    done = synthesizer.synthesise([exemplar], (44, 50), tile="x")
    assert done.picture.shape == (44, 56, 3)
    assert "56x44" in done.notes[0]


def test_half_sizes_come_first(shallow, exemplar):
    recipe = dataclasses.replace(QUICK, octaves=3, coarse_steps=3)
    stages = TextureSynthesizer(recipe, shallow).stages([np.zeros((128, 200, 3))], (256, 256))
    assert [(stage.octave, stage.steps) for stage in stages if stage.dtype == "float32"][-1][0] == 0
    assert stages[0].octave == 2
    few = TextureSynthesizer(recipe, shallow).stages([exemplar], (256, 256))
    assert few[0].octave == 0


@pytest.mark.parametrize(
    ("side", "octaves", "coarsest"), [(512, 2, 1), (640, 2, 1), (1024, 2, 2), (2048, 2, 3),
                                      (2048, 1, 0), (1024, 3, 3)]
)  # fmt: skip
def test_large_results_begin_smaller(shallow, side, octaves, coarsest):
    recipe = dataclasses.replace(QUICK, octaves=octaves)
    stages = TextureSynthesizer(recipe, shallow).stages([np.zeros((256, 256, 3))], (side, 512))
    assert stages[0].octave == coarsest


def test_order_counts_where_a_picture_is_small_enough(shallow, exemplar, monkeypatch):
    monkeypatch.setattr(synth, "_SMALLEST_OCTAVE", 16)
    monkeypatch.setattr(synth.objective, "WHOLE", 40 * 40)
    terms = dataclasses.replace(QUICK.terms, layers=("conv1_1", "pool2"), correlation=1.0)
    recipe = dataclasses.replace(QUICK, octaves=2, coarse_steps=2, steps=2, terms=terms)
    synthesizer = TextureSynthesizer(recipe, shallow)
    done = synthesizer.synthesise([exemplar], (48, 64), tile="xy")
    assert done.notes == ("deep correlations count up to 32x24, Gram matrices beyond",)
    assert [curve[-1] < curve[0] for curve in done.curves] == [True, True]
    assert synthesizer.keeps_order([exemplar], (48, 64))
    assert not synthesizer.keeps_order([exemplar], (96, 96))
    with pytest.raises(ConvsuiteError, match=r"48x48 pixels.*--energy gram"):
        synthesizer(exemplar, (96, 96))


def test_one_size_is_compiled_once(shallow, exemplar, monkeypatch):
    made, compiled = [], backend.value_and_grad

    def counted(function):
        made.append(function)
        return compiled(function)

    monkeypatch.setattr(backend, "value_and_grad", counted)
    objective._differentiating.cache_clear()
    synthesizer = TextureSynthesizer(dataclasses.replace(QUICK, steps=1), shallow)
    for seed, picture in enumerate((exemplar, exemplar[::-1])):
        synthesizer([picture, exemplar], (56, 40), seed=seed)
    assert len(made) == 1


def test_published_settings_start_and_stay_where_the_authors_do(shallow):
    pictures = [np.full((40, 40, 3), 0.4, np.float32), np.full((40, 40, 3), 0.6, np.float32)]
    pictures[0][::2], pictures[1][:, ::2] = 0.3, 0.7

    def made(name, **changes):
        terms = Terms(layers=("conv1_1", "pool2"), gram=1e3)
        recipe = dataclasses.replace(synth.RECIPES[name], terms=terms, steps=3, **changes)
        return TextureSynthesizer(recipe, shallow)

    gatys, sendik = made("gatys", match_colours=False), made("sendik")
    inside = gatys.synthesise(pictures, (40, 40)).picture
    assert inside.min() >= np.float32(0.3)
    assert inside.max() <= np.float32(0.7)
    grey, finer = (s._first(pictures[0], (40, 40), 0) for s in (gatys, sendik))
    np.testing.assert_allclose(grey.mean((0, 1)), shallow.mean, atol=1e-3)
    assert grey.std() > 5 * (finer - shallow.mean).std()
    low, high = sendik._bounds(pictures)
    np.testing.assert_allclose(high - low, 2, atol=1e-6)
    assert synth.RECIPES["sendik"].still == 0.5
    # Colours of a mixture lie between those of its exemplars.
    dark, mixed, light = (
        made("gatys").synthesise(pictures, (40, 40), mix=mix).picture.mean()
        for mix in ([1, 0], [0.5, 0.5], [0, 1])
    )
    assert dark < 0.4 < mixed < 0.6 < light


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_precision_is_as_asked_and_the_end_is_exact(shallow, exemplar, precision):
    recipe = dataclasses.replace(QUICK, steps=23)
    backend.setup("cpu", precision)
    try:
        synthesizer = TextureSynthesizer(recipe, shallow)
        stages = synthesizer.stages([exemplar], (40, 48))
        rough = synthesizer.evaluation([exemplar], [1], (40, 48), ("wrap", "wrap"), precision)
        exact = synthesizer.evaluation([exemplar], [1], (40, 48), ("wrap", "wrap"))
        slopes = [evaluate(exemplar[::-1])[1] for evaluate in (rough, exact)]
    finally:
        backend.setup("cpu", "float32")
    steps = {"float32": [(23, "float32")], "bfloat16": [(3, "bfloat16"), (20, "float32")]}
    assert [(stage.steps, stage.dtype) for stage in stages] == steps[precision]
    angle = np.vdot(*slopes) / np.linalg.norm(slopes[0]) / np.linalg.norm(slopes[1])
    assert angle > 0.99
    assert (angle > 1 - 1e-6) == (precision == "float32")


def test_mix_of_a_patch_and_a_feature_energy(shallow):
    recipe = dataclasses.replace(QUICK, energy="mix", octaves=2)
    stages = TextureSynthesizer(recipe, shallow).stages([np.zeros((128, 128, 3))], (128, 128))
    assert [stage.energy for stage in stages if stage.octave] == ["patch"]
    assert {stage.energy for stage in stages if not stage.octave} == {"features"}


@pytest.mark.parametrize("borders", [("wrap", "wrap"), ("reflect", "reflect")])
def test_enlarged_pictures_go_round(borders, exemplar):
    large = synth.enlarged(exemplar, (80, 96), borders)
    assert large.shape == (80, 96, 3)
    rolled = synth.enlarged(np.roll(exemplar, 20, axis=1), (80, 96), borders)
    same = np.abs(np.roll(large, 40, axis=1) - rolled).max() < 1e-5
    assert same == (borders[1] == "wrap")


def test_exemplars_may_differ_in_size(shallow, exemplar):
    terms = dataclasses.replace(QUICK.terms, correlation=1.0)
    recipe = dataclasses.replace(QUICK, steps=2, terms=terms)
    three = [exemplar, exemplar[:36, :33], exemplar[:33]]
    done = TextureSynthesizer(recipe, shallow).synthesise(three, (32, 40))
    assert done.curves[0][-1] < done.curves[0][0]


def test_one_colour_gives_one_colour(synthesizer):
    done = synthesizer.synthesise([np.full((40, 40, 3), 0.25, np.float32)], (33, 35))
    np.testing.assert_array_equal(done.picture, np.float32(0.25))
    assert done.notes


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((31, 64, 3), np.float32), "64x31"),
        (np.full((40, 40, 3), np.nan, np.float32), "NaN"),
    ],
)
def test_bad_exemplars_are_named(synthesizer, picture, message):
    with pytest.raises(ConvsuiteError, match=message):
        synthesizer(picture, (40, 40))


def test_shares_are_scaled_and_said():
    assert synth.shares_of(None, 4) == ([0.25] * 4, ())
    shares, notes = synth.shares_of([7, 3], 2)
    assert shares == pytest.approx([0.7, 0.3])
    assert "10" in notes[0]
    for bad in ([1.0], [0, 0], [-1, 2], [np.nan, 1]):
        with pytest.raises(ConvsuiteError, match="mix"):
            synth.shares_of(bad, 2)


def test_gone_on_with_after_a_cut_it_ends_as_if_never_cut(synthesizer, exemplar, tmp_path):
    class CutError(Exception):
        pass

    def cut(progress):
        if progress.step == 5:
            raise CutError

    kept = checkpoint.Checkpoint(tmp_path / "x.npz", {"seed": 0}, every=2)
    with pytest.raises(CutError):
        synthesizer.synthesise([exemplar], (40, 40), checkpoint=kept, watch=cut, every=1)
    assert kept.load().stage == 0
    resumed = synthesizer.synthesise([exemplar], (40, 40), checkpoint=kept)
    whole = synthesizer.synthesise([exemplar], (40, 40))
    np.testing.assert_array_equal(resumed.picture, whole.picture)
    assert resumed.curves == whole.curves


def test_checkpoint_of_other_settings_or_damaged_is_not_used(tmp_path):
    kept = checkpoint.Checkpoint(tmp_path / "x.npz", {"seed": 0})
    kept.save(1, np.zeros((2, 2, 3)), {"x": np.ones(3)}, [[1.0, 0.5]])
    stored = kept.load()
    assert stored.stage == 1
    assert stored.curves == [[1.0, 0.5]]
    np.testing.assert_array_equal(stored.state["x"], 1)
    assert checkpoint.Checkpoint(tmp_path / "x.npz", {"seed": 1}).load() is None
    (tmp_path / "x.npz").write_bytes((tmp_path / "x.npz").read_bytes()[:-40])
    assert kept.load() is None
    kept.remove()
    assert kept.load() is None


def test_mask_and_start_keep_the_middle(synthesizer, exemplar):
    mask = np.zeros((40, 40), np.float32)
    mask[:8] = 1
    first = exemplar[:40, :40]
    done = synthesizer.synthesise([exemplar], (40, 40), tile="xy", mask=mask, first=first)
    np.testing.assert_array_equal(done.picture[8:], first[8:])
    assert np.abs(done.picture[:8] - first[:8]).max() > 0


def test_unknown_energy_is_named():
    with pytest.raises(ConvsuiteError, match="quilting"):
        TextureSynthesizer.from_weights("quilting")

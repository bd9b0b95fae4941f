"""The benches measure what they say, on small material."""

import json

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from apps.texture import bench, cli, samples
from apps.texture.judge import Judge
from apps.texture.objective import Terms
from apps.texture.synth import Recipe, TextureSynthesizer
from shared import console, images, metrics
from shared.errors import ConvsuiteError


def made(size, seed=0):
    return images.to_float(images.from_float(samples.pebbles(size, seed), np.uint8))


class Colours(Judge):
    """A judge whose features are the pixels, so that no network is opened."""

    def __init__(self):
        self.network, self.layers = "colours", ("rgb",)

    def features(self, picture):
        return {"rgb": picture.reshape(-1, 3)}


@pytest.fixture(scope="module")
def exemplars():
    return {"spots": made((64, 120)), "more": made((56, 112), 1)}


def test_exemplars_are_reduced_by_area_and_cut_to_the_middle(tmp_path):
    picture = made((192, 240))
    images.write(tmp_path / "a.png", picture)
    found = bench.read_exemplars([tmp_path / "a.png"], 96)["a"]
    assert found.shape == (96, 96, 3)
    blocks = picture.reshape(96, 2, 120, 2, 3).mean((1, 3))[:, 12:108]
    np.testing.assert_allclose(found, blocks, atol=0.51 / 255)


def test_small_exemplars_stay_and_too_small_ones_are_refused(tmp_path):
    for name, size in (("same", (50, 97)), ("low", (40, 200)), ("narrow", (90, 95))):
        images.write(tmp_path / f"{name}.png", made(size))
    (tmp_path / "x").mkdir()
    images.write(tmp_path / "x" / "same.png", made((64, 120)))
    both = bench.read_exemplars([tmp_path / "same.png", tmp_path / "x" / "same.png"])
    assert [(name, p.shape) for name, p in both.items()] == [
        ("same", (50, 97, 3)),
        ("x-same", (64, 120, 3)),
    ]
    for name in ("low", "narrow"):
        with pytest.raises(ConvsuiteError, match=f"{name}.*96x48"):
            bench.read_exemplars([tmp_path / f"{name}.png"])


def test_halves_do_not_overlap():
    picture = np.arange(2 * 7 * 3, dtype=np.float32).reshape(2, 7, 3)
    pair = bench.halves("odd", picture)
    np.testing.assert_array_equal(pair.seen, picture[:, :3])
    np.testing.assert_array_equal(pair.unseen, picture[:, 4:])


def test_methods_that_cannot_run_are_left_out_and_said(monkeypatch):
    monkeypatch.setattr(bench.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(bench, "has_vgg19", lambda: False)
    ways, notes = bench.methods(["gmic", "gram-vgg19", "dcor-vgg19", "tiled", "tiled"])
    assert list(ways) == ["tiled"]
    assert [note.split()[0] for note in notes] == ["gmic", "gram-vgg19", "dcor-vgg19"]
    monkeypatch.setattr(bench, "has_vgg19", lambda: True)
    assert list(bench.methods(["gram-vgg19", "sendik"])[0]) == ["gram-vgg19", "sendik"]
    with pytest.raises(ConvsuiteError, match="grom: no such method"):
        bench.methods(["grom"])


def test_settings_of_a_method_tell_recipes_apart():
    ways, _ = bench.methods(["gram", "gram-pool4", "gram-random"])
    fewer, _ = bench.methods(["gram"], changes={"steps": 3})
    settings = [console.to_json(way.settings) for way in (*ways.values(), *fewer.values())]
    assert len(set(settings)) == 4
    assert "pool4" in settings[1]
    assert '"random"' in settings[2]


def test_a_recipe_makes_a_picture_of_the_size_of_a_half():
    changes = {
        "terms": Terms(layers=("conv1_1",)),
        "octaves": 1,
        "steps": 2,
        "patch_steps": (1, 2),
    }
    pair = bench.halves("spots", made((48, 96)))
    ways, _ = bench.methods(["gram-random", "patch"], changes=changes)
    picture, steps = ways["gram-random"].make(pair, 0)
    assert picture.shape == (48, 48, 3)
    assert steps == 2
    assert ways["patch"].make(pair, 0)[0].shape == (48, 48, 3)


def test_figures_are_those_of_the_pictures_on_the_disk(tmp_path, exemplars):
    ways, _ = bench.methods(["tiled", "shuffled", "quilting"])
    report = bench.quality(exemplars, ways, Colours(), seeds=2, out=tmp_path)
    assert json.loads((tmp_path / "quality.json").read_text()) == report
    rows = {row["method"]: row for row in report["rows"]}
    assert list(rows) == ["unseen", "tiled", "shuffled", "quilting"]
    assert rows["unseen"]["gram to B"] == rows["unseen"]["NCC - unseen"] == 0
    assert rows["tiled"]["copied"] > rows["unseen"]["copied"]
    assert rows["quilting"]["pictures"] == 4
    assert rows["shuffled"]["< shuffled"] is None

    ratios, copies = [], []
    for name, picture in exemplars.items():
        seen, unseen = picture[:, : picture.shape[1] // 2], picture[:, picture.shape[1] // 2 :]
        for seed in range(2):
            result = images.read(tmp_path / f"pictures/{name}/quilting-{seed}.png")
            grams = [p.reshape(-1, 3).T @ p.reshape(-1, 3) for p in (result, seen, unseen)]
            grams = [g / seen[..., 0].size for g in grams]
            ratios.append(np.linalg.norm(grams[0] - grams[2]) / np.linalg.norm(grams[1] - grams[2]))
            copies.append(metrics.novelty(result, seen).mean - metrics.novelty(unseen, seen).mean)
    assert rows["quilting"]["gram to B"] == pytest.approx(np.mean(ratios), rel=1e-4)
    assert rows["quilting"]["NCC - unseen"] == pytest.approx(np.mean(copies))

    page = (tmp_path / "index.html").read_text()
    assert page.count("<figure") == 2
    assert "quilting: gram" in page


def test_a_sheet_shows_every_picture_enlarged():
    pictures = {name: np.full((9, 50, 3), grey / 10) for grey, name in enumerate("abc")}
    laid = bench.sheet(pictures, columns=2)
    pitch = 11 * 50 + bench._GAP
    assert laid.shape[1] == 2 * pitch
    height = laid.shape[0] // 2
    at = {"a": (60, 60), "b": (60, pitch + 60), "c": (height + 60, 60)}
    for grey, (y, x) in enumerate(at.values()):
        np.testing.assert_allclose(laid[y, x], grey * 25.5, atol=0.6)
    assert np.all(laid[height:, pitch:] == 255)
    assert laid[: bench._LABEL, :50].min() < 128


def test_a_run_that_was_cut_off_goes_on(tmp_path, exemplars):
    calls = []

    def make(pair, seed):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append((pair.name, seed))
        return pair.seen[::-1], 7

    def run(**settings):
        ways = {"mirror": bench.Method(make, settings)}
        return bench.quality(exemplars, ways, Colours(), seeds=2, out=tmp_path)

    with pytest.raises(KeyboardInterrupt):
        run(kind=1)
    # Everything has a picture of seed 0 before there is one of seed 1.
    assert calls == [("spots", 0), ("more", 0), ("spots", 1)]
    assert len(json.loads((tmp_path / "quality.json").read_text())["results"]) == 6
    calls.clear()
    whole = run(kind=1)
    assert calls == [("more", 1)]
    calls.clear()
    assert run(kind=1) == whole
    assert calls == []
    (tmp_path / "pictures/spots/mirror-0.json").write_text("{")
    run(kind=1)
    assert calls == [("spots", 0)]
    calls.clear()
    with pytest.raises(KeyboardInterrupt):
        run(kind=2)
    assert len(calls) == 3


def test_share_below_shuffled_counts_exemplars():
    def result(method, exemplar, seed, gram, copied=0.0):
        return {
            "method": method, "exemplar": exemplar, "seed": seed, "gram": gram,
            "gram relative": gram, "sw relative": gram, "ac": 0.1, "copy_mean": 0.5,
            "copy_share": copied, "repeat_mean": 0.2, "steps": None, "CPU s": 1.0,
        }  # fmt: skip

    results = [result("unseen", e, 0, 0.0) for e in "ab"]
    results += [result("shuffled", e, s, 0.5) for e in "ab" for s in (0, 1)]
    # Below on the mean of both seeds for a, above for b.
    grams = {("a", 0): 0.1, ("a", 1): 0.6, ("b", 0): 0.1, ("b", 1): 1.0}
    results += [result("gram", e, s, gram, 0.5) for (e, s), gram in grams.items()]
    row = next(row for row in bench.table(results) if row["method"] == "gram")
    assert row["< shuffled"] == 0.5
    assert row["gram to B"] == pytest.approx(0.45)
    assert row["copied"] == 0.5
    assert row["steps"] is None


def test_structure_is_the_ratio_of_autocorrelations():
    results = [
        {"method": method, "exemplar": "weave", "ac": value}
        for method, value in (
            ("gram", 0.1), ("gram", 0.3), ("dcor", 0.1), ("gram-vgg19", 0.4), ("dcor-vgg19", 0.1)
        )
    ]  # fmt: skip
    assert bench.structure(results) == [
        {"network": network, "exemplar": "weave", "ac, gram": gram, "ac, dcor": 0.1, "ratio": ratio}
        for network, gram, ratio in (("vgg16_hed", 0.2, 0.5), ("vgg19", 0.4, 0.25))
    ]


def test_starts_count_evaluations(shallow):
    budgets = (2, 6)
    recipe = Recipe(network="random", terms=Terms(layers=("conv1_1", "pool1")))
    synthesizer = TextureSynthesizer(recipe, shallow)
    curves = bench.starts(synthesizer, made((32, 32)), budgets=budgets)
    for curve in curves.values():
        assert len(curve) == 6
        assert np.all(np.diff(curve) <= 0)
    assert curves["phase"][0] < curves["noise"][0]
    *_, ratios = bench.start_rows(curves, budgets)
    assert ratios["6 evaluations"] == curves["noise"][5] / curves["phase"][5]


def test_the_curves_are_on_a_page(tmp_path):
    curves = {kind: [10.0 / n for n in range(1, 61)] for kind in ("noise", "pixels", "phase")}
    page = bench.write_starts(tmp_path, curves).read_text()
    assert page.count("<svg") >= 1
    assert "30 evaluations" in page


def test_seams_are_those_of_the_files(tmp_path, shallow):
    recipe = Recipe(network="random", terms=Terms(layers=("conv1_1", "pool1")), octaves=1, steps=12)
    picture = made((48, 48))
    # Whatever lies at the border of the exemplar, the tile must have none.
    picture[:, :2] = 0
    (row,) = bench.tiles({"spots": picture}, TextureSynthesizer(recipe, shallow), out=tmp_path)
    tiled, plain = (cv2.imread(str(tmp_path / f"tile/spots-{t}-0.png")) for t in ("xy", "none"))
    assert row["tiled"] == pytest.approx(metrics.tileability(tiled), rel=1e-5)
    assert row["not tiled"] == pytest.approx(metrics.tileability(plain), rel=1e-5)
    rolled = np.roll(tiled, (24, 24), (0, 1))
    assert row["tiled, rolled"] == pytest.approx(metrics.tileability(rolled), rel=1e-5)
    assert row["tiled"] < row["not tiled"]
    broken = TextureSynthesizer(recipe, None)
    assert bench.tiles({"spots": picture}, broken, out=tmp_path) == [row]


@pytest.mark.slow
def test_an_evaluation_costs_more_than_a_forward_pass():
    rows = bench._evaluation_rows(made((32, 32)))
    assert rows[0]["ratio"] == 1
    assert all(row["CPU s"] > 0 for row in rows if "no bfloat16" not in row["what"])


@pytest.mark.slow
def test_speed_has_all_tables():
    tables = bench.speed(made((48, 48)), side=48)
    assert tables["start"][0]["share"] < 1
    assert {"gram", "patch", "quilting"} <= {row["method"] for row in tables["texture"]}


def test_gmic_keeps_the_size_and_the_colours():
    pytest.importorskip("gmic")
    exemplar = made((64, 48))
    exemplar[..., 0] *= 0.2
    result, _ = bench.methods(["gmic"])[0]["gmic"].make(bench.Halves("", exemplar, exemplar), 0)
    assert result.shape == (64, 48, 3)
    np.testing.assert_allclose(result.mean((0, 1)), exemplar.mean((0, 1)), atol=0.1)


def test_the_command_prints_the_table(tmp_path, exemplars, monkeypatch):
    monkeypatch.setattr(Judge, "open", lambda weights: Colours())
    images.write(tmp_path / "spots.png", exemplars["spots"])
    done = CliRunner().invoke(
        cli.app,
        f"bench quality {tmp_path}/spots.png --methods tiled,shuffled --seeds 1 -o {tmp_path}/out "
        "--json",
    )
    assert done.exit_code == 0, done.output
    methods = [row["method"] for row in json.loads(done.stdout)["rows"]]
    assert methods == ["unseen", "tiled", "shuffled"]
    assert (tmp_path / "out/index.html").exists()

"""The command line as a user meets it."""

import dataclasses
import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from command_lines import help_of, runner
from PIL import Image

from apps.texture import cli, features, mesh, progress, samples, synth, turntable, work
from apps.texture.cli import app
from shared import folders, images, metrics

QUICK = ("--energy", "patch", "--octaves", "1", "--steps", "3")


@pytest.fixture
def texture(capsys, monkeypatch):
    """Run a command in this process; return what it printed to stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "200")

    return runner(app, "texture", capsys)


@pytest.fixture
def stones(exemplar, tmp_path):
    """A file of an exemplar, 48 x 40."""
    images.write(tmp_path / "stones.png", exemplar)
    return tmp_path / "stones.png"


@pytest.fixture
def opened_once(monkeypatch, shallow):
    """Random kernels up to the second pool in place of every network, and few steps of style."""
    from apps.texture import style

    monkeypatch.setattr(synth, "open_network", lambda *_, **__: shallow)
    monkeypatch.setattr(style, "open_network", lambda *_, **__: shallow)


def names(folder):
    found = (path.name for path in folder.iterdir())
    return sorted(name for name in found if name != folders.SETTINGS_FILE)


def test_help_imports_no_framework():
    assert "--variants" in help_of("texture", "synth", ("tensorflow", "keras", "cv2", "scipy"))


@pytest.fixture
def oddities(exemplar, tmp_path):
    """A folder of pictures that are hardly any."""
    folder = tmp_path / "in"
    pixels = images.from_float(exemplar, np.uint8)
    images.write(folder / "good.png", pixels)
    images.write(folder / "one.png", pixels[:1, :1])
    images.write(folder / "small.png", pixels[:20])
    images.write(folder / "flat.png", np.full((36, 34, 3), 77, np.uint8))
    holes = exemplar.copy()
    holes[3, 4] = np.nan
    tifffile.imwrite(folder / "holes.tif", holes, photometric="rgb")
    Image.fromarray(pixels).convert("CMYK").save(folder / "ink.jpg")
    images.write(folder / "cut.jpg", np.tile(pixels, (4, 4, 1)))
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:2000])
    alpha = np.full((*pixels.shape[:2], 1), 99, np.uint8)
    Image.fromarray(np.concatenate([pixels, alpha], axis=2)).save(folder / "glass.png")
    frames = [Image.fromarray(np.roll(pixels, n, 1)) for n in range(3)]
    for suffix in ("webp", "gif"):
        frames[0].save(folder / f"moving.{suffix}", save_all=True, append_images=frames[1:])
    return folder


def test_broken_exemplars_are_named_and_the_rest_is_done(texture, oddities, tmp_path):
    out = tmp_path / "out"
    printed = texture("synth", oddities, oddities / "moving.gif", "-o", out, *QUICK, check=1)
    done = {path.stem for path in out.glob("*.png")}
    assert done == {"good", "flat", "holes", "ink", "glass", "moving.webp"}
    failed = json.loads((out / "failures.json").read_text())["failures"]
    assert [os.path.basename(f["input"]) for f in failed] == [
        "cut.jpg", "one.png", "small.png", "moving.gif"
    ]  # fmt: skip
    for line in printed.err.splitlines():
        assert "Error:" not in line
    assert "1x1 pixels; give one of at least 32x32" in printed.err
    assert "cut.jpg: is truncated" in printed.err
    for note in (
        "an exemplar of one colour gives that colour (1 file)",
        "3 values that are no finite numbers replaced (1 file)",
        "the first of 3 pictures in the file is used (1 file)",
        "transparency is left out (1 file)",
        "CMYK converted to RGB",
    ):
        assert f"warning: {note}" in printed.err
    np.testing.assert_array_equal(images.load(out / "flat.png").pixels, 77)
    assert images.load(out / "flat.png").pixels.shape == (36, 34, 3)


def test_sizes(texture, stones, tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert texture("synth", stones, "-o", out, *QUICK, "--size", "large", check=2)
    refused = texture("synth", stones, "-o", out, *QUICK, "--size", "9000x9000", check=1).err
    assert "81,000,000 pixels" in refused
    assert "--max-pixels" in refused
    assert "too small" in texture("synth", stones, "-o", out, *QUICK, "--size", "31", check=1).err
    monkeypatch.setattr(work, "_LARGE", 60 * 60)
    monkeypatch.setattr(work, "estimate", lambda *_: 190.0)
    said = texture("synth", stones, "-o", out, *QUICK, "--size", "65x61", "--tile", "x").err
    assert "stones.png: 65x61 pixels, about 3 min on this machine" in said
    assert images.read(out / "stones.png").shape == (61, 65, 3)  # patches fit any size
    texture("synth", stones, "-o", out, *QUICK, "--size", "32x36", "--overwrite")
    assert images.read(out / "stones.png").shape == (36, 32, 3)


def test_an_estimate_is_near_what_it_takes(exemplar, shallow):
    terms = synth.Terms(layers=("conv1_1", "pool2"))
    gram = synth.Recipe(terms=terms, octaves=1, steps=20, tolerance=0.0)
    patch = synth.Recipe("patch", octaves=1, patch_steps=(0, 15), projections=32)
    large = np.tile(exemplar, (2, 3, 1))
    for made in (synth.TextureSynthesizer(gram, shallow), synth.TextureSynthesizer(patch)):
        estimated = work.estimate(made, large, large.shape[:2])
        if made.network:
            made.synthesise([large], seed=1)  # compiles, which is left out
        start = time.perf_counter()
        made.synthesise([large])
        assert 0.4 < (time.perf_counter() - start) / estimated < 2.5


def test_a_border_that_shows_is_said(texture, tmp_path, monkeypatch):
    ramp = np.repeat(np.linspace(0, 1, 64, dtype=np.float32)[None, :, None], 64, 0).repeat(3, -1)
    images.write(tmp_path / "ramp.png", ramp)
    # Not solved at all, a picture keeps its border.
    monkeypatch.setattr(
        synth.TextureSynthesizer, "_solve", lambda self, *a, **k: (ramp, [1.0, 0.5])
    )
    out = tmp_path / "out"
    said = texture("synth", tmp_path / "ramp.png", "-o", out, "--tile", "x", *QUICK[:4]).err
    assert "the border may be seen (seam " in said
    card = json.loads((out / "ramp.json").read_text())
    assert card["seam"] == pytest.approx(
        metrics.tileability(images.read(out / "ramp.png"), "x"), abs=0.01
    )
    assert card["seam"] > 1.05
    assert "the border may be seen" in card["notes"][-1]


def seam(file, axes="xy", rolled=False):
    picture = images.read(file)
    half = [length // 2 for length in picture.shape[:2]]
    return metrics.tileability(np.roll(picture, half, (0, 1)) if rolled else picture, axes)


def test_what_tiles_has_no_seam_in_its_file(texture, tmp_path):
    images.write(tmp_path / "dots.png", samples.GENERATORS["dots"].draw((96, 96), 0))
    words = ("synth", tmp_path / "dots.png", "--energy", "patch", "--octaves", "1")
    files = {}
    for tile in ("xy", "x", ""):
        out = tmp_path / f"tile-{tile}"
        texture(*words, "--steps", "40", "-o", out, *(("--tile", tile) if tile else ()))
        files[tile] = out / "dots.png"
    assert seam(files["xy"]) <= 1.05
    assert seam(files["xy"], rolled=True) <= 1.05
    assert seam(files[""], "x") > 1.3
    assert seam(files[""], "y") > 1.3
    assert seam(files["x"], "x") <= 1.05
    assert seam(files["x"], "y") > 1.3


def test_card_repeats_the_run(texture, stones, tmp_path):
    out = tmp_path / "out"
    words = ("synth", stones, "-o", out, *QUICK, "--tile", "xy", "--seed", "5", "--json")
    summary = json.loads(texture(*words).out)
    assert (summary["done"], summary["failures"]) == (1, [])
    first = (out / "stones.png").read_bytes()
    card = json.loads((out / "stones.json").read_text())
    assert (card["seed"], card["tile"], card["network"]) == (5, "xy", None)
    seam = metrics.tileability(images.read(out / "stones.png"), "xy")
    assert card["seam"] == pytest.approx(seam, abs=0.001)
    assert len(card["curves"][0]) == 3
    recipe = synth.Recipe(**{**card["recipe"], "terms": synth.Terms(**card["recipe"]["terms"])})
    width, height = map(int, card["size"].split("x"))
    again = synth.TextureSynthesizer(recipe)(
        images.read(stones), (height, width), tile=card["tile"], seed=card["seed"]
    )
    images.write(tmp_path / "again.png", again)
    assert (tmp_path / "again.png").read_bytes() == first
    assert json.loads(texture(*words).out)["skipped"] == 1
    texture(*words, "--overwrite")
    assert (out / "stones.png").read_bytes() == first
    said = texture(*words[:-3], "--seed", "6").err
    assert "1 already there, 1 of them with other settings" in said
    assert (out / "stones.png").read_bytes() == first
    texture(*words[:-3], "--seed", "6", "--overwrite")
    assert (out / "stones.png").read_bytes() != first
    assert "seeds are 0 and more" in texture(*words[:-2], "-1", check=2).err


def test_shares_are_scaled_and_said(texture, stones, exemplar, tmp_path):
    images.write(tmp_path / "moss.png", 1 - exemplar)
    both = ("synth", stones, tmp_path / "moss.png", "-o", tmp_path / "out", *QUICK)
    assert "the shares sum to 10; 0.7, 0.3 is used" in texture(*both, "--mix", "7,3").err
    assert names(tmp_path / "out") == ["stones.json", "stones.png"]
    card = json.loads((tmp_path / "out" / "stones.json").read_text())
    assert [e["file"] for e in card["exemplars"]] == ["stones.png", "moss.png"]
    for wrong in ("1", "1,-1", "0,0", "nan,1", "a,b"):
        assert "--mix" in texture(*both, "--mix", wrong, check=2).err
    images.write(tmp_path / "moss.png", exemplar[:9])
    refused = texture(*both, "--mix", "1,1", "--overwrite", check=1).err
    assert "moss.png: the exemplar has 48x9 pixels" in refused


def test_missing_weights_are_one_sentence(texture, stones, tmp_path, monkeypatch):
    import keras

    def offline(**_):
        raise OSError("URL fetch failure")

    monkeypatch.setattr(keras.applications, "VGG19", offline)
    monkeypatch.setenv("CONVSUITE_WEIGHTS", str(tmp_path))
    out = ("-o", tmp_path / "out")
    error = texture("synth", stones, *out, "--network", "vgg19", check=1).err
    assert error.count("\n") == 1
    assert error.startswith("error: ")
    assert "--energy patch work offline" in error
    texture("synth", stones, *out, *QUICK, "--network", "random", check=2)
    missing = tmp_path / "mine.h5"
    assert "mine.h5" in texture("synth", stones, *out, "--weights", missing, check=1).err


def test_without_vgg19_patches_are_the_default(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert synth.automatic(synth.default_network()) == "patch"
    assert synth.automatic("vgg16_hed") == "gram"
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5").touch()
    assert synth.default_network() == "vgg19"
    assert synth.automatic("vgg19") == "gram"


def test_the_order_of_regular_exemplars_is_kept(
    texture, stones, tmp_path, opened_once, monkeypatch
):
    quick = synth.Recipe(
        terms=synth.Terms(layers=("conv1_1", "pool2"), scales=1), octaves=1, steps=2
    )
    monkeypatch.setitem(synth.RECIPES, "gram", quick)
    monkeypatch.setattr(synth, "has_vgg19", lambda: True)
    y, x = np.mgrid[:48, :48] * 0.8
    lattice = 0.5 + 0.3 * np.sin(x) * np.sin(y)
    images.write(tmp_path / "lattice.png", np.repeat(lattice[..., None], 3, -1).astype("float32"))

    def energy(file, *words):
        texture("synth", file, "-o", tmp_path / "out", "--overwrite", *words)
        card = json.loads((tmp_path / "out" / file.name).with_suffix(".json").read_text())
        assert card["network"] == "vgg19"
        assert card["recipe"]["terms"]["correlation"] == 1e4 * (card["energy"] == "dcor")
        return card["energy"]

    assert energy(tmp_path / "lattice.png") == "dcor"
    assert energy(stones) == "gram"
    # Who names an energy gets it.
    assert energy(tmp_path / "lattice.png", "--energy", "gram", "--network", "vgg19") == "gram"


def test_cut_off_it_goes_on_from_the_last_checkpoint(texture, stones, tmp_path, monkeypatch):
    words = (stones, "--energy", "patch", "--octaves", "1", "--steps", "30")
    texture("synth", *words, "-o", tmp_path / "whole")
    steps, cuts = [], [25]

    def cut(_follow, _path, seen):
        steps.append(seen.step)
        if seen.step in cuts:
            cuts.remove(seen.step)
            raise KeyboardInterrupt

    monkeypatch.setattr(progress.Follow, "watch", cut)
    out = tmp_path / "out"
    printed = texture("synth", *words, "-o", out, check=130)
    assert "run the same command again" in printed.err
    assert names(out) == [work.RESUME_FOLDER]
    (checkpoint,) = (out / work.RESUME_FOLDER).iterdir()
    checkpoint.with_name(f"{checkpoint.name}.part").write_bytes(b"half")
    texture("synth", *words, "-o", out)
    assert steps == [5, 10, 15, 20, 25, 25, 30]
    assert names(out) == ["stones.json", "stones.png"]
    whole = (tmp_path / "whole" / "stones.png").read_bytes()
    assert (out / "stones.png").read_bytes() == whole


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_twenty_moments_it_ends_the_same(stones, tmp_path, rng):
    words = ("texture", "synth", str(stones), "--size", "96x96", "--steps", "200", "--quiet")
    words += ("--energy", "gram", "--network", "random")
    command = [sys.executable, "-m", "shared.cli", *words]

    def run(out, seconds=None):
        begun = time.perf_counter()
        with subprocess.Popen([*command, "-o", str(out)], cwd=Path(cli.__file__).parents[2]) as run:
            try:
                run.wait(seconds)
            except subprocess.TimeoutExpired:
                run.kill()
        return time.perf_counter() - begun, run.returncode

    whole, out = tmp_path / "whole", tmp_path / "out"
    seconds, code = run(whole)
    assert code == 0
    (curve,) = json.loads((whole / "stones.json").read_text())["curves"]

    def check_ended(out):
        (resumed,) = json.loads((out / "stones.json").read_text())["curves"]
        assert resumed[-1] == pytest.approx(curve[-1], rel=0.01)
        assert names(out) == ["stones.json", "stones.png"]

    kills, ends = 0, 0
    while kills < 20:
        # From the import of packages to the end of the work.
        code = run(out, rng.uniform(0.2, 1) * seconds)[1]
        kills += code == -signal.SIGKILL
        for picture in out.glob("*.png"):
            Image.open(picture).load()
        if code == 0:
            check_ended(out)
            ends += 1
            out = tmp_path / f"out{ends}"
    assert run(out)[1] == 0
    check_ended(out)


def test_interrupted_once_it_finishes_the_texture_in_hand(texture, tmp_path, exemplar, monkeypatch):
    for name in "abcdef":
        images.write(tmp_path / "in" / f"{name}.png", exemplar)
    monkeypatch.setattr(progress.Follow, "watch", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    words = ("--energy", "patch", "--octaves", "1", "--steps", "5")
    printed = texture("synth", tmp_path / "in", "-o", tmp_path / "out", *words, check=130)
    assert "run the same command again" in printed.err
    assert names(tmp_path / "out") == ["a.json", "a.png"]


def test_variants_are_ranked_and_take_nobodys_place(texture, stones, tmp_path, monkeypatch):
    class Judge:
        network = "a judge"

        def __call__(self, picture, exemplar):
            return _Score(float(-picture.mean()))

    @dataclasses.dataclass
    class _Score:
        sw: float

        def _asdict(self):
            return {"sw": self.sw}

    monkeypatch.setattr(work.Judge, "open", lambda _weights: Judge())
    out = tmp_path / "out"
    texture("synth", stones, "-o", out, *QUICK, "--variants", "3")
    found = [out / name for name in ("stones.png", "stones-2.png", "stones-3.png")]
    assert sorted(found) == sorted(out.glob("*.png"))
    cards = [json.loads(path.with_suffix(".json").read_text()) for path in found]
    assert sorted(card["seed"] for card in cards) == [0, 1, 2]
    means = [images.read(path).mean() for path in found]
    assert means == sorted(means, reverse=True)
    images.write(tmp_path / "stones-2.png", images.read(stones))
    both = (stones, tmp_path / "stones-2.png")
    assert "is taken" in texture("synth", *both, "-o", out, "--variants", "2", check=1).err


def test_more_of_a_texture(texture, stones, tmp_path, monkeypatch):
    quick = dataclasses.replace(synth.RECIPES["patch"], octaves=1, patch_steps=(3, 3))
    monkeypatch.setitem(synth.RECIPES, "patch", quick)
    texture(
        "extend", stones, "-o", tmp_path / "out", "--factor", "1.5", "--energy", "patch", "--quiet"
    )
    assert images.read(tmp_path / "out" / "stones.png").shape == (60, 72, 3)
    for wrong in ("nan", "0.5", "inf"):
        texture("extend", stones, "-o", tmp_path / "out", "--factor", wrong, check=2)


@pytest.mark.parametrize("energy", ["patch", "gatys"])
def test_seamless_keeps_the_middle(texture, tmp_path, energy, opened_once, monkeypatch):
    quick = dataclasses.replace(
        synth.RECIPES[energy],
        steps=12,
        patch_steps=(0, 30),
        terms=synth.Terms(layers=("conv1_1", "pool1")),
    )
    monkeypatch.setitem(synth.RECIPES, energy, quick)
    y, x = np.mgrid[:64, :72] / 64
    picture = np.stack([x, y, 0.5 * (x + y)], axis=2) * 0.6 + 0.1
    images.write(tmp_path / "wall.png", picture.astype(np.float32))
    before = images.read(tmp_path / "wall.png")
    words = ("-o", tmp_path / "out", "--strip", "12", "--energy", energy)
    texture("seamless", tmp_path / "wall.png", *words)
    after = images.read(tmp_path / "out" / "wall.png")
    np.testing.assert_array_equal(after[12:-12, 12:-12], before[12:-12, 12:-12])
    assert metrics.tileability(before) > 1.3
    assert metrics.tileability(after) <= 1.05
    large = ("--strip", "40", "--overwrite")
    assert (
        "smaller --strip" in texture("seamless", tmp_path / "wall.png", *words, *large, check=1).err
    )


def test_style_of_files(texture, stones, tmp_path, opened_once, monkeypatch):
    from apps.texture import style

    monkeypatch.setattr(style, "_SHALLOW_STYLE", ("conv1_1", "pool1"))
    monkeypatch.setattr(style, "_SHALLOW_CONTENT", "conv2_1")
    photo = cv2.resize(images.read(stones), (70, 60))
    images.write(tmp_path / "photo.jpg", photo)
    images.write(tmp_path / "line.png", photo[:8])
    images.write(tmp_path / "dark.png", photo[::-1] ** 3)
    words = (
        "-o", tmp_path / "out", "--style", tmp_path / "dark.png", "--keep-colour", "--steps", "3",
        "--content-weight", "0.1", "--json",
    )  # fmt: skip
    summary = json.loads(texture("style", tmp_path / "photo.jpg", *words).out)
    assert summary["done"] == 1
    before, after = (images.read(tmp_path / part / "photo.jpg") for part in ("", "out"))
    assert after.shape == before.shape
    assert np.abs(after - before).mean() > 0.003
    card = json.loads((tmp_path / "out" / "photo.jpg.json").read_text())
    assert card["recipe"]["content_weight"] == 0.1
    assert len(card["curve"]) > 1
    assert card["errors"]["style"] > 0
    chroma = [picture @ style._YIQ[1:].T for picture in (before, after)]
    assert np.abs(chroma[1] - chroma[0]).mean() < 1.5 / 255
    printed = texture("style", tmp_path / "line.png", *words, check=1).err
    assert "line.png: the picture has 70x8 pixels" in printed
    for option in ("--content-weight", "--style-scale", "--strength"):
        texture("style", tmp_path / "photo.jpg", *words, option, "nan", check=2)
    assert "--style" in texture("style", tmp_path / "line.png", *words[:2], check=1).err


def test_video_is_styled_frame_by_frame(
    texture, stones, exemplar, tmp_path, opened_once, monkeypatch
):
    from apps.texture import style

    monkeypatch.setattr(style, "_SHALLOW_STYLE", ("conv1_1", "pool1"))
    monkeypatch.setattr(style, "_SHALLOW_CONTENT", "conv2_1")
    y, x = np.mgrid[:64, :80] / 80
    ramp = images.from_float(np.stack([x, y, 1 - x], -1), np.uint8)
    frames = np.stack([ramp, ramp[:, ::-1]])
    size = frames.shape[2:0:-1]
    clip = cv2.VideoWriter(str(tmp_path / "clip.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 5, size)
    for frame in frames:
        clip.write(frame)
    clip.release()
    words = ("video", tmp_path / "clip.mp4", tmp_path / "painted.mp4", "--style", stones)
    summary = json.loads(texture(*words, "--side", "64", "--steps", "2", "--json").out)
    assert summary["frames"] == 2
    painted, found = cv2.VideoCapture(str(tmp_path / "painted.mp4")), []
    while (frame := painted.read()[1]) is not None:
        found.append(frame)
    assert np.shape(found) == frames.shape
    for own, other, after in zip(frames, frames[::-1], np.array(found, int), strict=True):
        assert 3 < np.abs(after - own).mean() < np.abs(after - other).mean()


def test_map_and_metrics_and_weights_as_json(texture, stones, tmp_path, monkeypatch):
    trimesh = pytest.importorskip("trimesh")
    small = functools.partial(turntable.views, size=32)
    monkeypatch.setattr(mesh.turntable, "views", small)
    trimesh.creation.box((1, 1, 1)).export(tmp_path / "cube.obj")
    words = ("map", tmp_path / "cube.obj", "--texture", stones, "-o", tmp_path / "out")
    texture(*words)
    assert "already there" in texture(*words, check=1).err
    mapped = json.loads(texture(*words, "--overwrite", "--json").out)
    assert mapped["mode"] == "triplanar"
    assert all(os.path.exists(file) for file in mapped["files"])
    found = json.loads(texture("metrics", stones, "--exemplar", stones, "--json").out)
    (row,) = found["rows"]
    assert row["against"] == "exemplar"
    assert row["gram"] == pytest.approx(0, abs=1e-6)
    assert row["copy_share"] == 1
    rows = json.loads(texture("weights", "--json").out)["rows"]
    assert [row["network"] for row in rows][:-1] == list(features.NETWORKS)
    (tmp_path / "empty.off").write_text("OFF\n0 0 0\n")
    assert "empty.off" in texture(words[0], tmp_path / "empty.off", *words[2:], check=1).err

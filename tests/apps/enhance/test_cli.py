"""The command line as a user meets it."""

import json
import subprocess
import sys

import numpy as np
import pytest
from command_lines import help_of, runner

from apps.enhance.cli import app
from shared import assets, images


@pytest.fixture
def enhance(capsys):
    """Run a command in this process; return what it printed to stdout and stderr."""

    return runner(app, "enhance", capsys)


@pytest.fixture
def sample(tmp_path):
    path = tmp_path / "in" / "photo.png"
    images.write(path, images.load(next(assets.samples_dir().glob("c*.jpg"))).pixels[:200, :300])
    return path


def test_run_help_imports_no_framework():
    assert "--strength" in help_of("enhance", "run", ("tensorflow", "keras", "cv2", "numba"))


def test_python_m_runs_in_a_process_of_its_own(sample, tmp_path):
    words = ["run", str(sample), "-o", str(tmp_path / "out"), "--look", "clahe", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "apps.enhance", *words], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["done"] == 1
    assert done.stderr.count("\n") == 1, "one closing line, no noise of the frameworks"


def test_run_and_strength_zero(enhance, sample, tmp_path):
    out = tmp_path / "out"
    enhance("run", sample, "-o", out, "--look", "clahe")
    assert (images.load(out / "photo.png").pixels != images.load(sample).pixels).any()
    enhance("run", sample, "-o", tmp_path / "same", "--look", "clahe", "--strength", 0)
    np.testing.assert_array_equal(
        images.load(tmp_path / "same" / "photo.png").pixels, images.load(sample).pixels
    )


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["run", "{photo}", "-o", "{folder}"], "overwritten"),
        (["run", "{photo}", "-o", "x", "--look", "nothing"], "installed"),
        (["run", "{photo}", "-o", "x", "--look", "{text}.cube"], "cube"),
        (["train", "{empty}", "-o", "x.keras"], "no pairs"),
        (["train", "{folder}", "-o", "x.keras", "--operator", "sharpen"], "choose one of"),
        (["fit-lut", "{empty}", "-o", "x.cube"], "no pairs"),
        (["export", "clahe", "--format", "cube", "-o", "x.cube"], "--global"),
        (["export", "warm", "--format", "onnx", "-o", "x.onnx"], "colour table"),
        (["inspect", "{photo}", "--look", "warm", "-o", "x.png"], "colour table"),
        (["make-pairs", "sharpen", "{photo}", "-o", "x"], "choose one of"),
        (["video", "{text}.cube", "x.mp4"], "text.cube"),
        (["bench", "pairs", "{empty}"], "no pairs"),
        (["bench", "peers", "--data", "{empty}"], "missing"),
    ],
    ids=lambda value: " ".join(value[:1]) if isinstance(value, list) else "",
)
def test_mistakes_get_one_line(enhance, sample, tmp_path, monkeypatch, args, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.cube").write_text("no table at all")
    names = {
        "photo": sample,
        "folder": sample.parent,
        "empty": tmp_path / "empty",
        "text": tmp_path / "text",
    }
    printed = enhance(*(str(a).format(**names) for a in args), check=1)
    assert words in printed.err
    errors = [line for line in printed.err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1


def test_wrong_usage_is_exit_code_2(enhance, sample, tmp_path):
    enhance("run", sample, check=2)
    enhance("run", sample, "-o", tmp_path / "x", "--strength", 3, check=2)
    enhance("train", sample.parent, "-o", tmp_path / "x.txt", check=2)
    enhance("run", sample, "-o", tmp_path / "x", "--smooth", "often", check=2)


def test_make_pairs_then_train_then_run(enhance, tmp_path, photo, monkeypatch):
    for number in range(12):
        images.write(tmp_path / "photos" / f"{number}.png", np.roll(photo, 25 * number, 1))
    enhance("make-pairs", "clahe", tmp_path / "photos", "-o", tmp_path / "pairs")
    assert len(list((tmp_path / "pairs" / "input").iterdir())) == 12
    look = tmp_path / "mine.keras"
    sizes = ["--steps", 5, "--views", 12, "--noise-consistency", 0.3, "--json"]
    monkeypatch.setattr(sys, "argv", ["convsuite", "enhance", "train", "pairs"])
    done = enhance("train", tmp_path / "pairs", "-o", look, *sizes)
    report = json.loads(done.out)
    assert report["ladder"][-1]["method"] == "network"
    assert "train" in json.loads(look.with_suffix(".json").read_text())["training"]["command"]
    enhance("run", tmp_path / "photos" / "1.png", "-o", tmp_path / "out", "--look", look)
    assert (tmp_path / "out" / "1.png").exists()


def test_apply_lut_equals_run_with_the_table(enhance, sample, tmp_path):
    enhance("export", "warm", "--format", "cube", "-o", tmp_path / "w.cube")
    enhance("apply-lut", tmp_path / "w.cube", sample, "-o", tmp_path / "a")
    enhance("run", sample, "-o", tmp_path / "b", "--look", "warm")
    np.testing.assert_array_equal(
        images.load(tmp_path / "a" / "photo.png").pixels,
        images.load(tmp_path / "b" / "photo.png").pixels,
    )


def test_inspect_gallery_and_looks(enhance, sample, tmp_path):
    enhance("inspect", sample, "-o", tmp_path / "grid.png")
    assert images.load(tmp_path / "grid.png").pixels.shape[1] > 800
    enhance("gallery", sample.parent, "-o", tmp_path / "g.html", "--look", "clahe")
    assert "photo.png" in (tmp_path / "g.html").read_text()
    cards = json.loads(enhance("looks", "--json").out)["looks"]
    assert {"clahe", "auto", "noir"} <= {card["name"] for card in cards}

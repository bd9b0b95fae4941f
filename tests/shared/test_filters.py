import dataclasses
import json
import pickle
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
import tifffile
import typer
from PIL import Image

from shared import backend, console, filters, folders, images, video
from shared.errors import ConvsuiteError

ROOT = Path(__file__).resolve().parents[2]


class Inversion:
    """Mixes a picture with its negative."""

    def __init__(self, strength):
        self.strength = strength

    def __call__(self, pixels):
        levels = images.to_float(pixels)
        mixed = levels + np.float32(self.strength) * (1 - 2 * levels)
        return images.from_float(mixed, pixels.dtype)

    def stream(self, fps):
        return self

    def bands(self, pixels):
        for first in range(0, len(pixels), 7):
            yield first, self(np.asarray(pixels[first : first + 7]))

    def prepare(self, picture):
        if not picture.linear:
            return picture
        pixels = np.clip(picture.pixels, 0, 1) ** np.float32(1 / 2.2)
        return dataclasses.replace(
            picture, pixels=pixels, linear=False, notes=(*picture.notes, "linear light encoded")
        )


def make(
    strength: Annotated[float, typer.Option("--strength", min=0, max=2, help="How much.")] = 1.0,
    smooth: Annotated[str, typer.Option("--smooth", help="Over time.")] = "auto",
) -> Inversion:
    assert smooth in ("auto", "off")
    return Inversion(strength)


@pytest.fixture
def app():
    application = typer.Typer(add_completion=False)
    examples = {"run": ["tool run a.jpg -o out"], "video": ["tool video a.mp4 b.mp4"]}
    filters.add_verbs(application, make, examples=examples)
    return application


@pytest.fixture(autouse=True)
def setups(monkeypatch):
    calls = []
    monkeypatch.setattr(backend, "setup", lambda *arguments: calls.append(arguments))
    return calls


def call(app, *arguments):
    with pytest.raises(SystemExit) as stopped:
        console.run(app, [str(argument) for argument in arguments], prog="tool")
    return stopped.value.code


def noise(rng, height=12, width=16, dtype=np.uint8):
    return rng.integers(0, np.iinfo(dtype).max, (height, width, 3), dtype, endpoint=True)


# ------------------------------------------------------------------ run


def test_run_filters_files_and_folders(app, tmp_path, rng, setups, capsys):
    pixels = noise(rng)
    images.write(tmp_path / "in/a.png", pixels)
    images.write(tmp_path / "in/sub/b.png", pixels)
    out = tmp_path / "out"
    assert call(app, "run", tmp_path / "in", "-o", out, "--device", "cpu") == 0
    assert setups == [("cpu", "auto")]
    for name in ("a.png", "sub/b.png"):
        np.testing.assert_array_equal(np.asarray(Image.open(out / name)), 255 - pixels)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("2 done, ")
    assert captured.err.endswith(" pictures/s)\n")
    assert captured.err.count("\n") == 1


def test_run_on_one_file_and_strength_reaches_the_filter(app, tmp_path, rng):
    pixels = noise(rng)
    images.write(tmp_path / "a.png", pixels)
    assert call(app, "run", tmp_path / "a.png", "-o", tmp_path / "out", "--strength", "0") == 0
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out/a.png")), pixels)


@pytest.mark.parametrize("arguments", [["--strength", "2.5"], ["--format", "gif"], ["--crf", "1"]])
def test_wrong_options_are_wrong_usage(app, tmp_path, arguments):
    assert call(app, "run", tmp_path, "-o", tmp_path / "out", *arguments) == 2


def test_output_folder_is_required(app, tmp_path, capsys):
    assert call(app, "run", tmp_path) == 2
    assert "--out" in capsys.readouterr().err


def test_depth_alpha_grey_and_profile_stay(app, tmp_path, rng):
    deep, small = noise(rng, dtype=np.uint16), noise(rng)
    alpha = noise(rng, dtype=np.uint16)[..., 0]
    images.save(images.Picture(deep, alpha=alpha), tmp_path / "in/deep.png")
    images.write(tmp_path / "in/grey.png", small[..., 0])
    Image.fromarray(small).save(tmp_path / "in/exif.jpg", exif=_exif("Ada"))
    assert call(app, "run", tmp_path / "in", "-o", tmp_path / "out") == 0
    result = images.load(tmp_path / "out/deep.png")
    assert result.pixels.dtype == np.uint16
    np.testing.assert_array_equal(result.pixels, 65535 - deep)
    np.testing.assert_array_equal(result.alpha, alpha)
    grey = Image.open(tmp_path / "out/grey.png")
    assert grey.mode == "L"
    np.testing.assert_array_equal(np.asarray(grey), 255 - small[..., 0])
    assert Image.open(tmp_path / "out/exif.jpg").getexif()[315] == "Ada"


def _exif(artist):
    exif = Image.Exif()
    exif[315] = artist
    return exif


def test_linear_pictures_become_16_bit_png_and_notes_are_told_once(app, tmp_path, rng, capsys):
    for name in ("a.hdr", "b.exr", "sub/c.exr"):
        images.write(tmp_path / "in" / name, rng.random((8, 9, 3), np.float32))
    assert call(app, "run", tmp_path / "in", "-o", tmp_path / "out", "--json") == 0
    assert images.load(tmp_path / "out/a.png").pixels.dtype == np.uint16
    captured = capsys.readouterr()
    assert "warning: linear light encoded (3 files)\n" in captured.err
    told = json.loads(captured.out)
    assert [Path(name).name for name in told["warnings"]["linear light encoded"]] == [
        *("a.hdr", "b.exr", "c.exr")
    ]


def test_format_changes_the_suffix_and_tells_what_is_lost(app, tmp_path, rng, capsys):
    alpha = noise(rng)[..., 0]
    images.save(images.Picture(noise(rng), alpha=alpha), tmp_path / "in/a.png")
    images.write(tmp_path / "in/a.webp", noise(rng))
    out = tmp_path / "out"
    assert call(app, "run", tmp_path / "in", "-o", out, "--format", "jpg", "--quality", "40") == 0
    assert sorted(path.name for path in out.glob("[!.]*")) == ["a.png.jpg", "a.webp.jpg"]
    assert "warning: transparency is left out in JPEG (1 file)\n" in capsys.readouterr().err


def test_quality_reaches_the_file(app, tmp_path, rng):
    images.write(tmp_path / "a.png", noise(rng, 64, 64))
    for quality in ("30", "95"):
        assert (
            call(
                app,
                *("run", tmp_path / "a.png", "-o", tmp_path / quality),
                *("--format", "jpg", "--quality", quality),
            )
            == 0
        )
    assert 2 * (tmp_path / "30/a.jpg").stat().st_size < (tmp_path / "95/a.jpg").stat().st_size


def test_named_picture_without_a_known_suffix_becomes_png(app, tmp_path, rng):
    images.write(tmp_path / "a.png", noise(rng))
    (tmp_path / "a.png").rename(tmp_path / "download")
    assert call(app, "run", tmp_path / "download", "-o", tmp_path / "out") == 0
    assert (tmp_path / "out/download.png").is_file()


def test_huge_picture_goes_through_in_bands(app, tmp_path, rng, monkeypatch):
    heights = []
    whole = Inversion.__call__
    monkeypatch.setattr(
        Inversion, "__call__", lambda self, part: heights.append(len(part)) or whole(self, part)
    )
    pixels = noise(rng, 40, 50)
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in/big.tif", pixels, photometric="rgb")
    images.write(tmp_path / "in/small.png", noise(rng, 5, 5))
    out = tmp_path / "out"
    assert call(app, "run", tmp_path / "in", "-o", out, "--max-megapixels", "0.001") == 0
    np.testing.assert_array_equal(tifffile.imread(out / "big.tif"), 255 - pixels)
    assert max(heights) == 7
    images.write(tmp_path / "in/big.png", pixels)
    assert call(app, "run", tmp_path / "in", "-o", out, "--max-megapixels", "0.001") == 1
    stored = json.loads((out / "failures.json").read_text())
    assert [Path(f["input"]).name for f in stored["failures"]] == ["big.png"]
    assert "--max-megapixels" in stored["failures"][0]["reason"]


def _png_that_claims(width, height):
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + bytes(64)


def test_folder_with_bad_and_odd_files(app, tmp_path, rng, capsys):
    source, out = tmp_path / "in", tmp_path / "out"
    for number in range(20):
        images.write(source / f"{number:02}.jpg", noise(rng, 64, 64))
    whole = (source / "00.jpg").read_bytes()
    (source / "empty.jpg").write_bytes(b"")
    (source / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (source / "text.jpg").write_text("dear diary")
    (source / "nothing.png").write_bytes(_png_that_claims(0, 0))
    (source / "claims.png").write_bytes(_png_that_claims(100_000, 100_000))
    (source / "gone.jpg").symlink_to(source / "nowhere")
    (source / "folder.jpg").mkdir()
    (source / "Ferien am Süßsee ☀.jpg").write_bytes(whole)
    Image.fromarray(noise(rng)).convert("CMYK").save(source / "cmyk.jpg")
    before = {path: path.read_bytes() for path in source.iterdir() if path.is_file()}
    bad = {
        *("empty.jpg", "truncated.jpg", "text.jpg", "nothing.png", "claims.png", "gone.jpg"),
        "folder.jpg",
    }

    assert call(app, "run", source, "-o", out, "--json") == 1
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    assert (told["done"], told["skipped"]) == (22, 0)
    assert {Path(f["input"]).name for f in told["failures"]} == bad
    for failure in told["failures"]:
        assert f"failed: {failure['input']}: {failure['reason']}\n" in captured.err
        assert failure["reason"]
    assert "Traceback" not in captured.err
    assert told["failures"] == json.loads((out / "failures.json").read_text())["failures"]

    (out / "03.jpg").unlink()
    assert call(app, "run", source, "-o", out, "--json", "--quiet") == 1
    captured = capsys.readouterr()
    again = json.loads(captured.out)
    assert (again["done"], again["skipped"], len(again["failures"])) == (1, 21, 7)
    assert all(line.startswith("failed: ") for line in captured.err.splitlines())
    assert before == {path: path.read_bytes() for path in source.iterdir() if path.is_file()}
    assert call(app, "run", source, "-o", source) == 1
    assert "name another folder for the results" in capsys.readouterr().err


def test_mistake_in_building_the_filter_is_one_line(tmp_path, rng, capsys):
    def broken():
        raise ConvsuiteError("no look of this name")

    app = typer.Typer()
    filters.add_verbs(app, broken, examples={})
    images.write(tmp_path / "a.png", noise(rng))
    assert call(app, "run", tmp_path / "a.png", "-o", tmp_path / "out") == 1
    assert capsys.readouterr().err == "error: no look of this name\n"


def test_work_can_be_sent_to_a_cluster(app, tmp_path, rng, monkeypatch):
    """What `run` hands to the engine survives pickling and works in the other process."""
    sent = {}

    def process(jobs, make_work, **options):
        sent.update(options, work=pickle.dumps(make_work), jobs=jobs)
        return folders.Summary()

    monkeypatch.setattr(folders, "process", process)
    monkeypatch.setitem(sys.modules, make.__module__, sys.modules[__name__])
    pixels = noise(rng)
    images.write(tmp_path / "a.png", pixels)
    arguments = ("run", tmp_path / "a.png", "-o", tmp_path / "out", "--engine", "ray")
    assert call(app, *arguments, "--overwrite", "--strength", "0.5") == 0
    assert (sent["engine"], sent["overwrite"], sent["quiet"]) == ("ray", True, False)
    work = pickle.loads(sent["work"])()
    result = work.apply(work.read(sent["jobs"][0].source))
    np.testing.assert_array_equal(result.picture.pixels, Inversion(0.5)(pixels))


# ------------------------------------------------------------------ video, webcam


def test_video_goes_through_the_stream_of_the_filter(app, tmp_path, monkeypatch, capsys, setups):
    seen = {}

    def transform(source, target, make_frame_function, **options):
        seen.update(options, source=source, target=target)
        seen["frame"] = make_frame_function(25.0)(np.zeros((2, 2, 3), np.uint8))
        return video.VideoSummary(
            frames=12,
            seconds_decode=0.1,
            seconds_apply=0.2,
            seconds_encode=0.3,
            fps_apply=60.0,
            audio=True,
            notes=("one track left out",),
        )

    monkeypatch.setattr(video, "transform", transform)
    options = ("--strength", "0.2", "--smooth", "off", "--crf", "20", "--overwrite", "--json")
    assert call(app, "video", "a.mp4", "b.mp4", *options, "--precision", "float32") == 0
    assert (seen["source"], seen["target"]) == (Path("a.mp4"), Path("b.mp4"))
    assert (seen["crf"], seen["fps"], seen["overwrite"], seen["quiet"]) == (20, 25.0, True, False)
    assert np.all(seen["frame"] == 51)
    assert setups == [("auto", "float32")]
    captured = capsys.readouterr()
    assert captured.err == (
        "warning: one track left out\n12 frames done, 60.0 frames/s without decoding and encoding\n"
    )
    assert json.loads(captured.out)["frames"] == 12


def test_video_that_is_missing_is_one_line(app, tmp_path, capsys):
    assert call(app, "video", tmp_path / "none.mp4", tmp_path / "b.mp4") == 1
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize(
    ("arguments", "source"),
    [((), 0), (("2",), 2), (("clip.mp4",), "clip.mp4"), (("rtsp://a/b",), "rtsp://a/b")],
)
def test_webcam_opens_a_camera_or_a_file(app, monkeypatch, arguments, source):
    seen = {}
    monkeypatch.setattr(
        video, "play", lambda source, live, **options: seen.update(options, source=source, f=live)
    )
    assert call(app, "webcam", *arguments, "--strength", "0.7", "--mirror", "-o", "shots") == 0
    assert seen.pop("f").strength == 0.7
    assert seen == {"source": source, "title": "tool", "out": Path("shots"), "mirror": True}


# ------------------------------------------------------------------ help


def test_help_of_every_verb_has_own_and_common_options_and_examples(app, capsys):
    for verb, common in [
        ("run", ("--out", "--format", "--quality", "--max-megapixels", "--overwrite", "--engine")),
        ("video", ("--crf", "--overwrite", "--json")),
        ("webcam", ("--mirror", "--out")),
    ]:
        assert call(app, verb, "--help") == 0
        text = capsys.readouterr().out
        for option in ("--strength", "--smooth", "--device", "--precision", *common):
            assert option in text
        assert ("Examples:" in text) == (verb != "webcam")


def test_option_of_the_filter_may_not_hide_a_common_one():
    def clashing(quality: int = 1):
        return Inversion(quality)

    with pytest.raises(ValueError, match="quality"):
        filters.add_verbs(typer.Typer(), clashing, examples={})


def test_help_imports_nothing_heavy():
    script = (
        "import sys, typer\nfrom shared import console, filters\n"
        "def make(strength: float = 1.0): pass\n"
        "app = typer.Typer()\nfilters.add_verbs(app, make, examples={})\n"
        "try: console.run(app, ['run', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'cv2', 'keras', 'PIL', 'av', 'numba', 'ray', 'tensorflow'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "--strength" in result.stdout
    assert result.stdout.splitlines()[-1] == "[]"

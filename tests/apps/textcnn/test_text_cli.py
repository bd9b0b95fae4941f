"""The command line as a user meets it."""

import csv
import dataclasses
import io
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from command_lines import help_of, runner

from apps.textcnn.classifier import TextClassifier
from apps.textcnn.cli import app
from shared import console


@pytest.fixture
def textcnn(capsys, tmp_path, monkeypatch):
    """Run a command in this process; return what it printed to stdout and stderr."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user"))
    monkeypatch.setenv("COLUMNS", "200")

    command = runner(app, "textcnn", capsys)

    def run(*words, check=0, stdin=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        return command(*words, check=check)

    return run


@pytest.fixture(scope="session")
def weights(made, tmp_path_factory):
    """A small hybrid, trained through the command line."""
    folder = tmp_path_factory.mktemp("textcnn")
    write_csv(folder / "train.csv", made(300))
    write_csv(folder / "test.csv", made(60, seed=9))
    with pytest.raises(SystemExit) as stopped:
        console.run(
            app,
            ["train", str(folder / "train.csv"), "--test", str(folder / "test.csv"),
             "-o", str(folder / "made.keras"), "--vectors", "none", "--widths", "2,3",
             "--maps", "12", "--epochs", "3", "--learning-rate", "0.01", "--quiet",
             "--licence", "MIT", "--summary", "made-up opinions"],
        )  # fmt: skip
    assert stopped.value.code == 0
    return folder / "made.keras"


def write_csv(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(zip(rows.texts, rows.labels, strict=True))


def test_help_imports_no_framework():
    heavy = ("tensorflow", "keras", "sklearn", "scipy")
    assert "--class-weight" in help_of("textcnn", "train", heavy)


def test_training_writes_a_file_that_answers(weights, textcnn):
    card = json.loads(weights.with_suffix(".json").read_text())
    assert card["results"]["accuracy"] > 0.9
    assert card["results"]["test texts"] == 60
    assert card["training"]["recipe"]["architecture"]["maps"] == 12
    assert card["settings"]["hybrid"]["nbsvm"] > 0
    facts = json.loads(textcnn("info", weights, "--json").out)
    assert list(facts["classes"]) == ["bad", "good"]
    assert facts["what"] == "made-up opinions"
    found = json.loads(
        textcnn("evaluate", weights.with_name("test.csv"), "--weights", weights, "--json").out
    )
    assert found["accuracy"] == card["results"]["accuracy"]
    assert "F1" in textcnn("evaluate", weights.with_name("test.csv"), "--weights", weights).out


def test_training_from_disk(textcnn, tmp_path, made, small, monkeypatch):
    from apps.textcnn import train

    monkeypatch.setitem(train.PRESETS, "default", small)
    write_csv(tmp_path / "made.csv", made(300))
    write_csv(tmp_path / "test.csv", made(60, seed=9))
    words = ("--test", tmp_path / "test.csv", "--vectors", "none", "--on-disk", "--json")
    out = tmp_path / "disk.keras"
    facts = json.loads(textcnn("train", tmp_path / "made.csv", "-o", out, *words).out)
    assert facts["accuracy"] > 0.9
    assert facts["training texts"] + facts["dev texts"] == 300
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["disk-training"]
    again = ("train", tmp_path / "made.csv", "-o", tmp_path / "x.keras", *words, "--hybrid")
    assert "NB-SVM" in textcnn(*again, check=1).err


def test_answers_from_standard_input_in_order(weights, textcnn):
    texts = ["a lovely film", "", "an awful film", "\x85 not bad 😀"]
    out = textcnn(
        "predict", "-", "--weights", weights, "--all", "--keep", stdin="\n".join(texts).encode()
    ).out
    rows = [json.loads(line) for line in out.rstrip("\n").split("\n")]
    assert [row["text"] for row in rows] == texts
    classifier = TextClassifier.from_weights(weights)
    for row, expected in zip(rows, classifier(texts), strict=True):
        assert row["label"] == expected.label
        assert row["probability"] == pytest.approx(expected.probability, abs=1e-6)
        assert sum(row["all"].values()) == pytest.approx(1, abs=1e-5)
        assert row.get("empty", False) == expected.empty
    assert [row["label"] for row in rows][::2] == ["good", "bad"]


@pytest.mark.parametrize(("suffix", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_answers_as_a_table_keep_the_columns(weights, textcnn, tmp_path, suffix, delimiter):
    source = tmp_path / "in.csv"
    source.write_text('id,review,label\n1,=1+1 lovely,x\n2,"an ""awful\tone"",\ntwice",y\n')
    out = tmp_path / f"out.{suffix}"
    arguments = ("predict", source, "--weights", weights, "-o", out, "--keep")
    answered = json.loads(textcnn(*arguments, "--json").out)
    assert answered == {"texts": 2, "empty": 0, "cut": 0}
    rows = list(csv.DictReader(out.open(newline=""), delimiter=delimiter))
    assert [row["id"] for row in rows] == ["1", "2"]
    assert [row["input_label"] for row in rows] == ["x", "y"]
    assert [row["label"] for row in rows] == ["good", "bad"]
    assert rows[0]["review"] == "=1+1 lovely"
    white = " " if suffix == "tsv" else "\t"
    assert rows[1]["review"].startswith(f'an "awful{white}one",')
    textcnn(*arguments, check=2)  # it is there already
    source.write_text("text\nnothing\nlovely lovely\n")
    unsure, sure = TextClassifier.from_weights(weights)(["nothing", "lovely lovely"])
    assert unsure.probability < sure.probability - 1e-4
    between = str((unsure.probability + sure.probability) / 2)
    textcnn(*arguments, "--overwrite", "--min-confidence", between, "--quiet")
    rows = list(csv.DictReader(out.open(newline=""), delimiter=delimiter))
    assert [row["label"] for row in rows] == ["", "good"]


def test_folders_go_through_the_engine_for_folders(weights, textcnn, tmp_path):
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("lovely\nawful\n")
    (folder / "deep" / "b.jsonl").write_text('{"text": "funny"}\n')
    (folder / "broken.jsonl").write_text('{"text": "funny"}\n{"text": \n')
    (folder / "nul.csv").write_bytes(b"text\na\0b\n")
    out = tmp_path / "out"
    done = textcnn("predict", folder, "--weights", weights, "-o", out, "--json", check=1)
    summary = json.loads(done.out)
    assert {Path(one["input"]).name for one in summary["failures"]} == {"broken.jsonl", "nul.csv"}
    assert "line 2" in next(
        one["reason"] for one in summary["failures"] if "broken" in one["input"]
    )
    assert len((out / "a.jsonl").read_text().splitlines()) == 2
    assert json.loads((out / "deep" / "b.jsonl").read_text())["label"] == "good"
    assert not list(out.rglob("*.part*"))
    assert "several inputs" in textcnn("predict", folder, "--weights", weights, check=2).err


def test_long_lines_are_cut_and_named(weights, textcnn, monkeypatch):
    from apps.textcnn import data

    monkeypatch.setattr(
        data.stream, "__kwdefaults__", data.stream.__kwdefaults__ | {"most_bytes": 100}
    )
    done = textcnn("predict", "-", "--weights", weights, stdin=b"lovely " * 100 + b"\nawful\n")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert rows[0]["cut"]
    assert [row["label"] for row in rows] == ["good", "bad"]
    assert "1 texts were too long" in done.err


def test_a_reader_that_goes_away_ends_it_quietly(weights):
    command = [sys.executable, "-m", "apps.textcnn", "predict", "-", "--weights", str(weights)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:

        def feed():
            try:
                for _ in range(6):
                    process.stdin.write(b"a lovely film\n" * 8192)
                process.stdin.close()
            except BrokenPipeError:
                pass

        feeder = threading.Thread(target=feed)
        feeder.start()
        assert json.loads(process.stdout.readline())["label"] == "good"
        process.stdout.close()
        feeder.join(timeout=60)
        messages = process.stderr.read()
        assert process.wait(timeout=60) in (0, 1, -signal.SIGPIPE)
    assert messages == b""


def test_explanations(weights, textcnn, tmp_path):
    found = json.loads(textcnn("explain", "a lovely film", "--weights", weights, "--json").out)
    one = found["explanations"][0]
    assert sum(score for _, score in one["words"]) + one["constant"] == pytest.approx(
        one["margin"], abs=1e-4
    )
    assert "lovely" in textcnn("explain", "a lovely film", "--weights", weights).out
    source = tmp_path / "texts.txt"
    source.write_text("a lovely film\nan <b>awful</b> one\n")
    page = tmp_path / "why.html"
    textcnn("explain", source, "--weights", weights, "-o", page)
    assert "awful" in page.read_text()
    assert "<b>awful" not in page.read_text()
    textcnn("explain", source, "--weights", weights, "--global", "-o", page)
    assert "Fires in" in page.read_text()
    assert "lovely" in textcnn("explain", source, "--weights", weights, "--global").out
    textcnn("explain", "x", "--weights", weights, "--label", "ugly", check=1)


def test_vectors_are_cut_and_converted(textcnn, tmp_path, rng):
    words = ["the", "lovely", "rare"]
    lines = [" ".join([word, *(f"{v:.4f}" for v in rng.normal(size=4))]) for word in words]
    (tmp_path / "glove.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "texts.txt").write_text("a lovely film\n")
    facts = json.loads(textcnn("vectors", tmp_path / "glove.txt", "--json").out)
    assert facts["rows"] == 3
    out = tmp_path / "mine.npz"
    textcnn(
        "vectors", tmp_path / "glove.txt", "--cut-to", tmp_path / "texts.txt", "-o", out, "--json"
    )
    with np.load(out, allow_pickle=False) as arrays:
        assert arrays["vectors"].shape == (1, 4)


def test_cross_validation(textcnn, tmp_path, made, small, monkeypatch):
    from apps.textcnn import train

    monkeypatch.setitem(train.PRESETS, "default", dataclasses.replace(small, epochs=1, dim=8))
    write_csv(tmp_path / "made.csv", made(80))
    facts = json.loads(
        textcnn(
            "evaluate", tmp_path / "made.csv", "--folds", "2", "--vectors", "none", "--json"
        ).out
    )
    assert len(facts["accuracy of each"]) == 2
    textcnn("evaluate", tmp_path / "made.csv", check=2)


def test_bench_of_peers_and_of_calibration(textcnn, tmp_path, made, small, monkeypatch):
    from apps.textcnn import train

    monkeypatch.setitem(train.PRESETS, "default", small)
    write_csv(tmp_path / "made.csv", made(120))
    write_csv(tmp_path / "test.csv", made(40, seed=5))
    words = (tmp_path / "made.csv", "--test", tmp_path / "test.csv", "--vectors", "none", "--json")
    rows = json.loads(textcnn("bench", "peers", *words).out)["rows"]
    found = {row["method"]: row for row in rows}
    assert found["NB-SVM (1,2)"]["accuracy"] > 80
    assert 0 <= found["network + NB-SVM"]["p against NB-SVM"] <= 1
    [facts] = json.loads(textcnn("bench", "calibration", *words, "--epochs", "2").out)["rows"]
    assert facts["epochs"] == 2


def test_bench_of_faithfulness(weights, textcnn):
    words = ("bench", "faithfulness", weights.with_name("test.csv"), "--weights", weights)
    [facts] = json.loads(textcnn(*words, "--json").out)["rows"]
    named = facts["changed without words that speak most for it"]
    assert named > facts["changed without words at random"] + 0.1
    assert facts["largest difference of margin and sum"] < 1e-4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\n", "holds no texts"),
        ("text,label\na,1\nb,1\n", "1"),
        ("words,label\na,1\n", "text"),
        ("text,label\na,1\nb,1.0\n", "spelt in two ways"),
        ('text,label\na,1\n"b,2\n', "line 3"),
    ],
)
def test_bad_training_data_is_one_line(textcnn, tmp_path, content, message):
    source = tmp_path / "bad.csv"
    source.write_text(content)
    printed = textcnn("train", source, "-o", tmp_path / "x.keras", "--vectors", "none", check=1)
    assert message in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert not (tmp_path / "x.keras").exists()

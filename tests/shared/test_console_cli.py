import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import typer
import typer.core

from shared import cli, console
from shared.errors import DependencyError, ImageError

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("numpy", "cv2", "keras", "tensorflow", "matplotlib", "gradio", "ray", "av", "numba", "PIL")


def python(*arguments, **options):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


def exit_code(app, *arguments):
    with pytest.raises(SystemExit) as stopped:
        console.run(app, arguments, prog="tool")
    return stopped.value.code


def app_with(function):
    app = typer.Typer(add_completion=False)
    app.command()(function)
    return app


# ------------------------------------------------------------------ console


def test_success_exits_with_0():
    assert exit_code(app_with(lambda: None)) == 0


def test_user_mistake_is_one_literal_line_on_stderr(capsys):
    long_name = "a" * 200 + "[red].jpg"

    def command():
        raise ImageError(f"{long_name} is empty; take another file")

    assert exit_code(app_with(command)) == 1
    captured = capsys.readouterr()
    assert captured.err == f"error: {long_name} is empty; take another file\n"
    assert captured.out == ""


def test_file_the_system_refuses_is_one_line(capsys, tmp_path):
    def command():
        (tmp_path / "missing" / "file").read_bytes()

    assert exit_code(app_with(command)) == 1
    assert capsys.readouterr().err.endswith("missing/file: No such file or directory\n")


def test_bug_keeps_its_traceback():
    def command():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        console.run(app_with(command), [], prog="tool")


def test_ctrl_c_exits_with_130():
    def command():
        raise KeyboardInterrupt

    assert exit_code(app_with(command)) == 130


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--help"], 0), (["-h"], 0), (["--no-such-option"], 2), (["--device", "tpu"], 2)],
)
def test_usage(arguments, code):
    def command(device: console.Device = "auto"):
        raise AssertionError

    assert exit_code(app_with(command), *arguments) == code


def test_shared_options_reach_the_command():
    seen = {}

    def command(
        inputs: console.Inputs,
        out: console.Out,
        weights: console.Weights = None,
        device: console.Device = "auto",
        precision: console.Precision = "auto",
        seed: console.Seed = 0,
        quiet: console.Quiet = False,
        json: console.Json = False,
        overwrite: console.Overwrite = False,
        engine: console.Engine = "local",
    ):
        seen.update(locals())

    line = "a b -o out --weights w --device cpu --precision bfloat16 --seed 7 -q --json --overwrite"
    assert exit_code(app_with(command), *line.split(), "--engine", "ray") == 0
    assert seen["inputs"] == ["a", "b"]
    assert seen["out"] == Path("out")
    assert (seen["weights"], seen["device"], seen["precision"]) == ("w", "cpu", "bfloat16")
    assert (seen["seed"], seen["engine"]) == (7, "ray")
    assert seen["quiet"]
    assert seen["json"]
    assert seen["overwrite"]


def test_help_is_broken_where_the_terminal_ends_not_where_the_code_does(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")

    def command():
        """First line.

        A second paragraph that the source breaks
        in the middle of a sentence.
        """

    assert exit_code(app_with(command), "--help") == 0
    text = capsys.readouterr().out
    assert "A second paragraph that the source breaks in the middle of a sentence." in text


def test_examples_stand_on_lines_of_their_own(capsys):
    app = typer.Typer(add_completion=False)
    app.command(epilog=console.examples("tool run a.jpg", "tool run 'b[0-9].jpg'"))(lambda: None)
    exit_code(app, "--help")
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines.index("tool run 'b[0-9].jpg'") == lines.index("tool run a.jpg") + 1


@dataclass
class Record:
    path: Path
    score: float


def test_emit_prints_strict_json(capsys):
    console.emit(
        {
            "array": np.arange(3, dtype=np.uint8),
            "scalar": np.float32(0.5),
            "nothing": float("nan"),
            "not_finite": np.array([1.0, np.inf]),
            "record": Record(Path("a/b"), 1.5),
            "names": {"b", "a"},
            Path("key"): ("ä", None, True),
        }
    )
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1
    assert json.loads(captured.out) == {
        "array": [0, 1, 2],
        "scalar": 0.5,
        "nothing": None,
        "not_finite": [1.0, None],
        "record": {"path": "a/b", "score": 1.5},
        "names": ["a", "b"],
        "key": ["ä", None, True],
    }
    assert captured.err == ""


def test_rows_lose_no_figure_however_many_columns_there_are(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    row = {f"column {number}": 1000 * number + 0.25 for number in range(1, 20)} | {
        "note": "word " * 9
    }
    console.emit_rows([row], False)
    header, *_, values, _ = capsys.readouterr().out.splitlines()[1:]
    assert [word.strip() for word in header.strip("┃").split("┃")] == list(row)
    shown = [word.strip() for word in values.strip("│").split("│")]
    assert shown[:3] == ["1,000", "2,000", "3,000"]
    assert shown[-1] == row["note"].strip()


def test_emit_refuses_what_json_cannot_hold():
    with pytest.raises(TypeError):
        console.emit({"object": object()})


@pytest.mark.parametrize("lines", [1, 20_000])
def test_reader_that_goes_away_is_no_error(lines):
    script = (
        "import typer\nfrom shared import console\n"
        "app = typer.Typer(add_completion=False)\n"
        "@app.command()\ndef main():\n"
        f"    for number in range({lines}): print('line', number)\n"
        "console.run(app, [])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 1


# ------------------------------------------------------------------ umbrella


@pytest.fixture
def apps(tmp_path, monkeypatch):
    """A package of applications: one fine, one that must not be imported, one without commands."""
    folder = tmp_path / "apps"
    for name in ("hello", "loud", "plain"):
        (folder / name).mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "hello" / "__init__.py").write_text(
        '"""Greets [a] person.\n\nMore.\n"""\nraise RuntimeError("imported")\n'
    )
    (folder / "hello" / "cli.py").write_text("")
    (folder / "loud" / "__init__.py").write_text("this is no Python\n")
    (folder / "loud" / "cli.py").write_text("raise RuntimeError('imported')\n")
    (folder / "plain" / "__init__.py").write_text('"""Has no commands."""\n')
    monkeypatch.setattr(
        cli.assets,
        "packages_with",
        lambda module: {p.parent.name: p.parent for p in folder.glob(f"*/{module}.py")},
    )
    return folder


def umbrella(*arguments):
    with pytest.raises(SystemExit) as stopped:
        console.run(cli._application(), arguments, prog="convsuite")
    return stopped.value.code


def test_help_lists_applications_without_importing_them(apps, capsys):
    assert umbrella("--help") == 0
    text = capsys.readouterr().out
    assert "Greets [a] person" in text
    assert "loud" in text
    assert "plain" not in text
    for tool in ("demo", "doctor", "web", "weights"):
        assert tool in text


def test_command_is_loaded_when_called(apps, capsys, monkeypatch):
    def greet(name: str = "you"):
        """Greet."""
        print(f"hello {name}")

    monkeypatch.setattr(cli, "_load", lambda name, entry: console.as_command(greet))
    assert umbrella("hello", "--name", "Ada") == 0
    assert capsys.readouterr().out == "hello Ada\n"


@pytest.mark.parametrize("kind", ["function", "typer"])
def test_modules_offer_a_function_or_an_application(kind, capsys):
    def greet():
        """Greet."""
        print("hello")

    command = console.as_command(greet if kind == "function" else app_with(greet))
    assert exit_code(command) == 0
    assert capsys.readouterr().out == "hello\n"


def test_missing_package_is_named(monkeypatch, tmp_path):
    (tmp_path / "needs_more.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DependencyError, match="`convsuite more` needs no_such_package"):
        cli._load("more", cli._Entry("needs_more", "app", "", ""))


def test_unknown_command_suggests_the_closest(apps, capsys):
    assert umbrella("helo") == 2
    assert "Did you mean 'hello'?" in capsys.readouterr().err


def test_without_arguments_shows_the_help(apps, capsys):
    assert umbrella() == 2
    assert "Usage: convsuite" in capsys.readouterr().out


def test_version(capsys):
    assert umbrella("--version") == 0
    assert capsys.readouterr().out.startswith("convsuite ")


def test_help_of_the_real_command_imports_nothing_heavy():
    script = (
        "import sys, atexit\n"
        f"atexit.register(lambda: print([m for m in {HEAVY} if m in sys.modules]))\n"
        "from shared import cli\nsys.argv = ['convsuite', '--help']\ncli.main()\n"
    )
    result = python("-c", script)
    assert result.returncode == 0
    assert result.stdout.splitlines()[-1] == "[]"
    for name in (path.parent.name for path in (ROOT / "apps").glob("*/cli.py")):
        assert name in result.stdout


def test_shell_completion_knows_the_tools():
    environment = dict(
        os.environ,
        _CONVSUITE_COMPLETE="complete_bash",
        COMP_WORDS="convsuite w",
        COMP_CWORD="1",
    )
    result = python("-m", "shared.cli", env=environment)
    assert set(result.stdout.split()) == {"web", "weights"}

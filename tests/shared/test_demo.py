import importlib
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from shared import demo, report
from shared.errors import ConvsuiteError
from shared.weights import Card

_GOOD = """
import numpy as np
def build(page, out):
    assert out.is_dir()
    page.heading("Part of the good one", level=3)
    page.picture(np.zeros((4, 4, 3), np.uint8), "a black square", command="convsuite good run")
"""
_BROKEN = """
from shared.errors import DataError
def build(page, out):
    page.text("Before the end.")
    raise DataError("pairs: no pictures <here>; add some.")
"""
_CRASHING = """
def build(page, out):
    return 1 / 0
"""


@pytest.fixture
def applications(monkeypatch, tmp_path):
    """Three stand-in applications in place of those of convsuite."""
    apps = importlib.import_module("apps")
    folder = tmp_path / "apps"
    for name, text in {"broken": _BROKEN, "crashing": _CRASHING, "good": _GOOD}.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f'"""What {name} is.\n\nMore."""')
        (folder / name / "demo.py").write_text(text)
    (folder / "undemonstrated").mkdir()
    monkeypatch.setattr(apps, "__path__", [str(folder)])
    monkeypatch.setattr(demo.assets, "_LIBRARIES", ())
    monkeypatch.setattr(apps.__spec__, "submodule_search_locations", [str(folder)])
    yield tmp_path
    for module in [name for name in sys.modules if name.startswith("apps.")]:
        if str(folder) in str(sys.modules[module].__file__):
            del sys.modules[module]


def _demo(out, *arguments):
    return CliRunner().invoke(demo.command, ["--out", str(out), *arguments])


def test_one_failing_application_does_not_stop_the_others(applications):
    result = _demo(applications / "out")
    markup = (applications / "out" / "index.html").read_text()
    assert result.exit_code == 1
    for text in (
        "What broken is.",
        "Before the end.",
        "pairs: no pictures &lt;here&gt;; add some.",
        "ZeroDivisionError: division by zero",
        "a black square",
        "Part of the good one",
    ):
        assert text in markup
    assert markup.count('class="problem"') == 2
    assert markup.count(" s to make.") == 1
    assert "undemonstrated" not in markup
    assert "Traceback" in result.output
    assert result.output.count("Traceback") == 1


def test_one_application_can_be_chosen(applications):
    result = _demo(applications / "out", "--app", "good", "--quiet")
    markup = (applications / "out" / "index.html").read_text()
    assert result.exit_code == 0
    assert result.output == ""
    assert "What good is." in markup
    assert "What broken is." not in markup


def test_an_unknown_application_is_named(applications):
    with pytest.raises(ConvsuiteError, match=r"--app god: .* broken, crashing, good\."):
        demo._chosen(["god"])
    assert not (applications / "out").exists()


def test_the_page_tells_machine_and_contents(applications):
    _demo(applications / "out", "--app", "good")
    markup = (applications / "out" / "index.html").read_text()
    assert report.machine()["CPU"].split()[0] in markup
    assert 'aria-label="Contents"' in markup
    assert markup.count('<a href="#section-') == 3


def test_an_application_may_fail_at_import(applications):
    (applications / "apps" / "good" / "demo.py").write_text("import no_such_module")
    assert _demo(applications / "out", "--app", "good").exit_code == 1
    assert "ModuleNotFoundError" in (applications / "out" / "index.html").read_text()


def test_help_imports_nothing_heavy():
    program = (
        "import sys; from shared import demo; from typer.testing import CliRunner; "
        "print(CliRunner().invoke(demo.command, ['--help']).output); "
        "assert not {'numpy', 'cv2', 'PIL', 'keras'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "convsuite demo --app enhance" in done.stdout


# ------------------------------------------------- the section of enhance, with a stand-in program


def _card(name, kind="keras", operator=None, encoding="srgb", **results):
    training = {"operator": operator} if operator else {}
    return Card(
        app="enhance",
        name=name,
        kind=kind,
        summary=f"what {name} does",
        settings={"input": encoding},
        training=training,
        results=results,
    )


class _StandIn:
    """Answers the commands of enhance at once; every picture gets darker."""

    def __init__(self):
        self.calls = []
        self._run = subprocess.run

    def __call__(self, command, **options):
        if "shared.cli" not in command:  # of a library
            return self._run(command, **options)
        words = command[command.index("enhance") + 1 :]
        self.calls.append(words)
        answer = getattr(self, words[0].replace("-", "_"))(words)
        return subprocess.CompletedProcess(command, 0, json.dumps(answer), "")

    def run(self, words):
        inputs = words[1 : words.index("--look")]
        out = Path(words[words.index("--out" if "--out" in words else "-o") + 1])
        out.mkdir(parents=True, exist_ok=True)
        for source in map(Path, inputs):
            name = f"{source.stem}.png" if source.suffix == ".hdr" else source.name
            assert cv2.imwrite(str(out / name), cv2.imread(str(source)) // 2)
        return {"done": len(inputs), "apply_seconds": 0.084}

    def make_pairs(self, words):
        out = Path(words[words.index("--out") + 1]) / "input"
        out.mkdir(parents=True)
        for source in words[2 : words.index("--out")]:
            cv2.imwrite(str(out / f"{Path(source).stem}.png"), cv2.imread(source) // 4)
        return {}

    def inspect(self, words):
        cv2.imwrite(words[words.index("--out") + 1], np.zeros((20, 30, 3), np.uint8))
        return {}

    def video(self, words):
        Path(words[2]).write_bytes(Path(words[1]).read_bytes())
        return {"frames": 48, "fps_apply": 99.4}


@pytest.fixture
def enhance(monkeypatch):
    section = importlib.import_module("apps.enhance.demo")
    stand_in = _StandIn()
    cards = [
        _card("auto", operator="auto", **{"network, dB": 24.55, "identity, dB": 17.98}),
        _card("clahe", operator="clahe", **{"network, dB": 26.81, "identity, dB": 19.92}),
        _card("tonemap", operator="tonemap", encoding="log"),
        _card("warm", kind="cube"),
    ]
    monkeypatch.setattr(section, "looks", lambda: cards)
    monkeypatch.setattr(demo.subprocess, "run", stand_in)
    monkeypatch.setattr(section, "_MEGAPIXELS", (0.05, 0.1))
    return section, stand_in


def _section(section, folder):
    page = report.Page("title")
    section.build(page, folder)
    page.write(folder / "page.html")
    return (folder / "page.html").read_text()


def test_enhance_shows_every_look_with_the_command_that_made_it(enhance, tmp_path):
    section, stand_in = enhance
    markup = _section(section, tmp_path)
    # Three looks with two pictures each, one with an HDR picture, and two frames to compare;
    # four strengths, one grid and one plot, which is the only one without a command.
    assert markup.count('type="range"') == 3 * 2 + 1 + 2
    assert markup.count("<figure>") == 3 * 2 + 1 + 2 + 4 + 1 + 1
    assert markup.count('<code class="command">') == markup.count("<figure>") - 1 + 1
    shown = markup.replace("<span>", "").replace("</span>", "")
    for words in stand_in.calls:
        assert f"convsuite enhance {' '.join(words)}<" in shown
    for text in ("24.6 dB", "18.0 dB", "26.8 dB", "42 ms", "99 frames per second"):
        assert text in markup
    assert "megapixels" in markup


def test_enhance_spoils_pictures_for_a_look_that_repairs(enhance, tmp_path):
    section, stand_in = enhance
    _section(section, tmp_path)
    spoiled = [words[1] for words in stand_in.calls if words[0] == "make-pairs"]
    runs = {
        words[words.index("--look") + 1]: words[1]
        for words in reversed(stand_in.calls)
        if words[0] == "run"
    }
    assert spoiled == ["auto"]
    assert Path(runs["auto"]).parent.name == "input"
    assert Path(runs["clahe"]).parent.name == "samples"


def test_enhance_says_which_command_failed(enhance, tmp_path, monkeypatch):
    section, _ = enhance
    failed = subprocess.CompletedProcess([], 1, "", "first line\nerror: no such look\n")
    monkeypatch.setattr(demo.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(ConvsuiteError, match=r"`convsuite enhance .*ended with 1: error: no such"):
        _section(section, tmp_path)


def test_enhance_without_looks_says_how_to_get_them(enhance, tmp_path, monkeypatch):
    section, _ = enhance
    monkeypatch.setattr(section, "looks", list)
    with pytest.raises(ConvsuiteError, match="train-looks"):
        _section(section, tmp_path)


def test_the_clip_of_enhance_pans(enhance, tmp_path):
    section, _ = enhance
    picture = np.zeros((400, 600, 3), np.uint8)
    picture[:, 300:] = 255
    cv2.imwrite(str(tmp_path / "half.png"), picture)
    section._write_pan(tmp_path / "half.png", tmp_path / "pan.mp4")
    first, last = (section._frame(tmp_path / "pan.mp4", number) for number in (0, 47))
    assert first.shape == last.shape == (320, 448, 3)
    assert (first > 128).mean() == pytest.approx(148 / 448, abs=0.02)
    assert (last > 128).mean() == pytest.approx(300 / 448, abs=0.02)
    with pytest.raises(ConvsuiteError, match=r"pan\.mp4: frame 48"):
        section._frame(tmp_path / "pan.mp4", 48)

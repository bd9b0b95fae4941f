import ctypes
import importlib.metadata
import json
import os
from collections import Counter

import pytest
import typer
from packaging.requirements import Requirement
from typer.testing import CliRunner

from shared import assets, backend, doctor, weights
from shared.doctor import Check
from shared.weights import Card

FINDINGS = {
    "devices": ["cpu:0"],
    "precision": ["float32", "no GPU in use"],
    "images_per_second": 123.4,
}


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """A doctor that starts no framework and looks for weights in an empty folder."""
    monkeypatch.setattr(doctor, "_run_probe", lambda: FINDINGS)
    monkeypatch.setattr(assets, "weights_dir", lambda: tmp_path / "shipped")
    monkeypatch.setattr(weights, "user_dir", lambda: tmp_path / "user")
    return tmp_path


@pytest.fixture
def one_table(quick):
    """One installed colour table."""
    path = quick / "shipped" / "enhance" / "film.cube"
    path.parent.mkdir(parents=True)
    path.write_text("LUT_3D_SIZE 2")
    weights.write_card(path, Card(app="enhance", name="film", kind="cube"))
    return path


def call(*arguments):
    app = typer.Typer()
    app.command()(doctor.command)
    return CliRunner().invoke(app, list(arguments))


def sections(checks):
    return list(dict.fromkeys(check["section"] for check in checks))


def test_page_and_json_tell_the_same(quick, monkeypatch):
    monkeypatch.setattr(doctor, "_packages", lambda: iter(()))
    page, result = call(), call("--json")
    assert page.exit_code == result.exit_code == 0
    checks = json.loads(result.stdout)["checks"]
    assert sections(checks)[:3] == ["Machine", "Networks", "System"]
    for check in checks:
        assert check["name"] in page.stdout
    counts = Counter(check["status"] for check in checks)
    assert f"{counts['broken']} broken, {counts['warn']} warnings" in page.stdout
    assert "123 images/s" in page.stdout


def test_real_probe():
    findings = doctor._run_probe()
    assert findings["devices"] == backend.devices()
    assert findings["precision"] == list(backend.precision_choice())
    assert findings["images_per_second"] > 0


def test_framework_that_crashes_is_reported(monkeypatch):
    monkeypatch.setattr(doctor, "_PROBE_CODE", "import os; os.abort()")
    (check,) = doctor._network_engine()
    assert check.status == "broken"
    assert "cannot start" in check.detail


def test_framework_that_raises_is_reported(monkeypatch):
    monkeypatch.setattr(doctor, "_PROBE_CODE", "raise ValueError('no such device')")
    (check,) = doctor._network_engine()
    assert "ValueError: no such device" in check.detail


def test_framework_that_hangs_is_reported(monkeypatch):
    monkeypatch.setattr(doctor, "_PROBE_CODE", "import time; time.sleep(60)")
    monkeypatch.setattr(doctor, "_PROBE_TIMEOUT", 0.2)
    (check,) = doctor._network_engine()
    assert "did not answer within 0.2 seconds" in check.detail


def test_backend_that_cannot_be_used_is_broken(monkeypatch):
    monkeypatch.setattr(os, "environ", os.environ | {"KERAS_BACKEND": "theano"})
    (check,) = doctor._network_engine()
    assert check.status == "broken"
    assert "choose one of tensorflow, jax, torch" in check.detail


@pytest.mark.parametrize(
    ("line", "status", "detail"),
    [
        ("numpy>=1", "ok", importlib.metadata.version("numpy")),
        ("numpy>=99", "broken", f"{importlib.metadata.version('numpy')}, but >=99 is needed"),
        ("no-such-package-here>=1", "broken", "not installed"),
    ],
)
def test_requirements(line, status, detail):
    check = doctor._check_requirement("Packages", Requirement(line))
    assert (check.status, check.detail) == (status, detail)
    assert check.advice == ("" if status == "ok" else f"pip install '{line}'")


def test_packages_of_an_installed_convsuite(monkeypatch):
    lines = ["numpy>=1", "no-such-package>=1; extra == 'web'", "rich>=1; extra == 'dev'"]
    versions = {"convsuite": "1.0", "numpy": "2.0", "rich": "14.0"}
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: lines)
    monkeypatch.setattr(
        importlib.metadata, "metadata", lambda name: _Metadata({"Provides-Extra": ["web", "dev"]})
    )
    monkeypatch.setattr(doctor, "_installed_version", versions.get)
    assert [check.name for check in doctor._packages()] == ["convsuite", "numpy"]
    web, dev = doctor._extras()
    assert (web.status, web.advice) == ("warn", "pip install 'convsuite[web]'")
    assert (dev.status, dev.detail) == ("ok", "rich")


class _Metadata(dict):
    get_all = dict.get


def test_libraries(monkeypatch):
    monkeypatch.setattr(doctor.sys, "platform", "linux")
    libraries = (
        doctor._Library("libc.so.6", "libc6", "everything", True),
        doctor._Library("libnowhere.so.1", "libnowhere1", "OpenCV", True),
        doctor._Library("libnothing.so.1", "libnothing1", "3D rendering", False),
    )
    monkeypatch.setattr(doctor, "_LIBRARIES", libraries)
    monkeypatch.setattr(ctypes, "CDLL", _load_only_libc)
    found = {check.name: check for check in doctor._libraries()}
    assert [found[library.file].status for library in libraries] == ["ok", "broken", "warn"]
    assert found["libnowhere.so.1"].advice == "apt-get install libnowhere1"


def _load_only_libc(name):
    if name != "libc.so.6":
        raise OSError(name)


@pytest.mark.parametrize(("variable", "status"), [("DISPLAY", "ok"), ("NOTHING", "warn")])
def test_display(monkeypatch, variable, status):
    monkeypatch.setattr(doctor.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, ":7")
    assert {check.name: check.status for check in doctor._libraries()}["display"] == status


def test_damaged_weights_break_the_installation(one_table):
    (check,) = doctor._weights()
    assert (check.status, check.detail) == ("ok", "enhance 1; every checksum is right")
    one_table.write_text("LUT_3D_SIZE 3")
    result = call("--json")
    assert result.exit_code == 1
    (broken,) = [c for c in json.loads(result.stdout)["checks"] if c["section"] == "Weights"]
    assert broken["status"] == "broken"
    assert "film.cube: checksum differs" in broken["detail"]


def test_no_weights(quick):
    (check,) = doctor._weights()
    assert check.status == "warn"


def test_folder_that_does_not_exist_yet_can_be_written(tmp_path):
    assert doctor._write_problem(tmp_path / "a" / "b") == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="needs a folder that nobody can write")
def test_folder_that_cannot_be_written():
    assert doctor._write_problem(doctor.Path("/proc/nowhere/convsuite")) != ""


def test_markup_in_findings_is_shown_as_it_is(quick, monkeypatch):
    odd = Check("Machine", "odd", "broken", "[bold]not markup[/nonsense]", "[red]neither")
    monkeypatch.setattr(doctor, "_machine", lambda: iter([odd]))
    result = call()
    assert result.exit_code == 1
    assert "[bold]not markup[/nonsense]" in result.stdout

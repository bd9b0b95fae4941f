"""The wheel works from any folder, and brings its weights and samples along."""

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]


def run(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = ["wheel", str(ROOT), "--no-deps", "--no-build-isolation", "--no-index"]
    run([*PIP, *build, "--wheel-dir", str(folder)])
    (file,) = folder.glob("convsuite-*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder that holds the installed wheel."""
    target = tmp_path_factory.mktemp("installed")
    run([*PIP, "install", "--no-deps", "--no-index", "--target", str(target), str(wheel)])
    return target


def run_installed(installed, tmp_path, *arguments):
    environment = os.environ | {"PYTHONPATH": str(installed), "HOME": str(tmp_path)}
    return run([sys.executable, *arguments], cwd=tmp_path, env=environment)


def names_below(folder):
    return {
        file.relative_to(folder).as_posix()
        for file in folder.rglob("*")
        if file.is_file() and not file.name.startswith(".") and "__pycache__" not in file.parts
    }


def test_wheel_holds_what_the_checkout_holds(wheel):
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    for folder, prefix in (("apps", "apps"), ("shared", "shared"), ("data", "shared/data")):
        expected = {f"{prefix}/{name}" for name in names_below(ROOT / folder)}
        assert expected <= inside
    assert any(name.endswith("licenses/LICENSE") for name in inside)
    assert not [name for name in inside if name.startswith(("tests/", "data/"))]


def test_version(installed, tmp_path):
    shown = run_installed(installed, tmp_path, "-m", "shared.cli", "--version")
    assert shown.strip() == f"convsuite {PROJECT['version']}"


def test_weights_and_samples_are_found_in_the_wheel(installed, tmp_path):
    code = "from shared import assets; print(assets.weights_dir()); print(assets.samples_dir())"
    for line in run_installed(installed, tmp_path, "-c", code).splitlines():
        assert Path(line).is_relative_to(installed)
    shown = run_installed(installed, tmp_path, "-m", "shared.cli", "weights", "list", "--json")
    found = {(card["app"], card["name"]) for card in json.loads(shown)["weights"]}
    shipped = (ROOT / "data" / "weights").glob("*/*.json")
    assert found == {(card.parent.name, card.stem) for card in shipped}


def test_shipped_weights_are_in_order(installed, tmp_path):
    shown = run_installed(installed, tmp_path, "-m", "shared.cli", "weights", "verify", "--json")
    problems = json.loads(shown)["problems"]
    assert [found for found in problems.values() if found] == []


def test_every_requirement_is_pinned():
    pins = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            name, version = line.split("==")
            pins[canonicalize_name(name)] = version
    optional = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    for line in [*PROJECT["dependencies"], *optional, "jax", "torch"]:
        requirement = Requirement(line)
        version = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), line

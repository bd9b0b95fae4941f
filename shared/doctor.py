"""`convsuite doctor`: one page about the installation; its exit code tells when it is broken."""

import ctypes
import importlib.metadata
import json as json_format
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import platformdirs
import typer
from packaging.requirements import Requirement
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shared import backend, console, report, weights
from shared.errors import ConvsuiteError

Status = Literal["ok", "warn", "broken"]

_COLOURS = {"ok": "green", "warn": "yellow", "broken": "bold red"}
_PROBE_SECONDS = 1.0
_PROBE_TIMEOUT = 180
_PROBE_CODE = "from shared import doctor; doctor.probe()"


@dataclass(frozen=True)
class _Library:
    file: str
    package: str
    purpose: str
    needed: bool


_LIBRARIES = (
    _Library("libGL.so.1", "libgl1", "OpenCV", True),
    _Library("libEGL.so.1", "libegl1", "3D rendering", False),
    _Library("libgomp.so.1", "libgomp1", "3D rendering", False),
    _Library("libusb-1.0.so.0", "libusb-1.0-0", "3D rendering", False),
)


@dataclass(frozen=True)
class Check:
    """One line of the page.

    Attributes:
        section: Heading it stands under.
        name: What was looked at.
        status: `ok`, `warn` (works, but something is missing) or `broken`.
        detail: What was found.
        advice: What to do about it; empty when nothing needs doing.
    """

    section: str
    name: str
    status: Status
    detail: str
    advice: str = ""


def command(json: console.Json = False) -> None:
    """Check versions, backend, devices, libraries and weights; exit code 1 when one is broken."""
    with console.console.status("looking around (about 10 seconds)"):
        checks = list(examine())
    if json:
        console.emit({"checks": [asdict(check) for check in checks]})
    else:
        _print_page(checks)
    if any(check.status == "broken" for check in checks):
        raise typer.Exit(1)


def examine() -> Iterator[Check]:
    """Look at everything the page reports, in the order of the page."""
    yield from _machine()
    yield from _packages()
    yield from _network_engine()
    yield from _libraries()
    yield from _extras()
    yield from _weights()
    yield from _trunks()
    yield from _folders()


def probe() -> None:
    """Start the backend, time a small network for a second, print the findings as JSON.

    Runs in a process of its own: a framework built for another CPU ends the process.
    """
    backend.setup()
    console.emit(
        {
            "devices": backend.devices(),
            "precision": backend.precision_choice(),
            "images_per_second": _images_per_second(),
        }
    )


def _machine() -> Iterator[Check]:
    for name, value in report.machine().items():
        if name not in ("Keras", "Backend", "convsuite"):
            yield Check("Machine", name, "ok", value)


def _packages() -> Iterator[Check]:
    version = _installed_version("convsuite")
    if version is None:
        detail, advice = "runs from its folder, not installed", "make setup, or pip install ."
        yield Check("Packages", "convsuite", "warn", detail, advice)
        return
    yield Check("Packages", "convsuite", "ok", version)
    for requirement in _requirements():
        yield _check_requirement("Packages", requirement)


def _check_requirement(section: str, requirement: Requirement) -> Check:
    version = _installed_version(requirement.name)
    advice = f"pip install '{requirement.name}{requirement.specifier}'"
    if version is None:
        other_backend = requirement.name == "tensorflow" and backend.name() != "tensorflow"
        status = "warn" if other_backend else "broken"
        return Check(section, requirement.name, status, "not installed", advice)
    if not requirement.specifier.contains(version, prereleases=True):
        detail = f"{version}, but {requirement.specifier} is needed"
        return Check(section, requirement.name, "broken", detail, advice)
    return Check(section, requirement.name, "ok", version)


def _network_engine() -> Iterator[Check]:
    section = "Networks"
    try:
        name, reason = backend.backend_choice()
        findings = _run_probe()
    except ConvsuiteError as error:
        yield Check(section, "backend", "broken", str(error))
        return
    yield Check(section, "backend", "ok", f"{name} {_installed_version(name)} ({reason})")
    yield Check(section, "devices", "ok", ", ".join(findings["devices"]))
    precision, reason = findings["precision"]
    yield Check(section, "precision", "ok", f"{precision} ({reason})")
    speed = f"{findings['images_per_second']:.0f} images/s (128 x 128, three small convolutions)"
    yield Check(section, "speed", "ok", speed)


def _run_probe() -> dict[str, Any]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE_CODE],
            env=environment,
            capture_output=True,
            text=True,
            timeout=_PROBE_TIMEOUT,
            check=True,
        )
        return json_format.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        raise ConvsuiteError(
            f"{backend.name()} did not answer within {_PROBE_TIMEOUT} seconds."
        ) from None
    except (subprocess.CalledProcessError, ValueError, IndexError) as error:
        message = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1]
        raise ConvsuiteError(
            f"{backend.name()} cannot start ({message}); install it again, or choose another "
            "backend with KERAS_BACKEND."
        ) from error


def _images_per_second() -> float:
    import keras
    import numpy as np

    layers = [keras.layers.Conv2D(16, 3, padding="same", activation="relu") for _ in range(3)]
    forward = backend.compiled(keras.Sequential([keras.Input((128, 128, 3)), *layers]))
    images = np.zeros((8, 128, 128, 3), np.float32)
    forward(images)
    start, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < _PROBE_SECONDS:
        forward(images)
        count += len(images)
    return count / elapsed


def _libraries() -> Iterator[Check]:
    section = "System"
    for library in _LIBRARIES if sys.platform == "linux" else ():
        if _loads(library.file):
            yield Check(section, library.file, "ok", "found")
        else:
            status = "broken" if library.needed else "warn"
            detail = f"missing; {library.purpose} needs it"
            yield Check(section, library.file, status, detail, f"apt-get install {library.package}")
    if _has_display():
        yield Check(section, "display", "ok", "found")
    else:
        detail = "none; `webcam` cannot open its window here"
        yield Check(section, "display", "warn", detail, "set DISPLAY, or use a desktop session")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    detail = chromium or "not found; only tests of web pages use it"
    yield Check(section, "chromium", "ok" if chromium else "warn", detail)


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _has_display() -> bool:
    if sys.platform != "linux":
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _extras() -> Iterator[Check]:
    if _installed_version("convsuite") is None:
        return
    for extra in importlib.metadata.metadata("convsuite").get_all("Provides-Extra") or []:
        needed = [requirement.name for requirement in _requirements(extra)]
        missing = [name for name in needed if _installed_version(name) is None]
        if missing:
            detail, advice = f"missing {', '.join(missing)}", f"pip install 'convsuite[{extra}]'"
            yield Check("Optional parts", extra, "warn", detail, advice)
        else:
            yield Check("Optional parts", extra, "ok", ", ".join(needed))


def _requirements(extra: str = "") -> list[Requirement]:
    """Return what convsuite needs itself, or what one of its extras adds."""
    parsed = map(Requirement, importlib.metadata.requires("convsuite") or [])
    return [
        requirement
        for requirement in parsed
        if (requirement.marker is None) == (not extra)
        and (not extra or requirement.marker.evaluate({"extra": extra}))
    ]


def _installed_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _weights() -> Iterator[Check]:
    files = weights.card_files()
    problems = [problem for file in files for problem in weights.verify(file)]
    for problem in problems:
        advice = "copy it again, or install convsuite again"
        yield Check("Weights", "damaged", "broken", problem, advice)
    apps = Counter(file.parent.name for file in files)
    detail = ", ".join(f"{app} {count}" for app, count in apps.items())
    if not files:
        yield Check("Weights", "installed", "warn", "none found", "install convsuite again")
    elif not problems:
        yield Check("Weights", "installed", "ok", f"{detail}; every checksum is right")


def _trunks() -> Iterator[Check]:
    from shared.backbones.trunks import PACKAGES, found

    lines = found()
    for name in PACKAGES:
        missing = lines[name].startswith("missing: ")
        detail = "not installed" if missing else lines[name]
        advice = lines[name].removeprefix("missing: ") if missing else ""
        yield Check("Pretrained networks", name, "warn" if missing else "ok", detail, advice)


def _folders() -> Iterator[Check]:
    for name, folder in (
        ("cache", platformdirs.user_cache_path("convsuite")),
        ("imported weights", weights.user_dir()),
    ):
        reason = _write_problem(folder)
        if reason:
            advice = "make it writable, or set HOME to a folder that is"
            yield Check("Folders", name, "warn", f"{folder}: {reason}", advice)
        else:
            yield Check("Folders", name, "ok", f"{folder} can be written")


def _write_problem(folder: Path) -> str:
    """Return why a folder cannot be written; it need not exist."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def _print_page(checks: list[Check]) -> None:
    page = Console(highlight=False)
    width = max(len(check.name) for check in checks)
    for section in dict.fromkeys(check.section for check in checks):
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        table.add_column(width=len("broken"))
        table.add_column(width=width)
        table.add_column(overflow="fold")
        for check in checks:
            if check.section == section:
                advice = f"\n-> {check.advice}" if check.advice else ""
                status = Text(check.status, _COLOURS[check.status])
                table.add_row(status, check.name, Text(check.detail + advice))
        page.print(f"\n[bold]{section}[/bold]")
        page.print(table)
    counts = Counter(check.status for check in checks)
    page.print(f"\n{counts['broken']} broken, {counts['warn']} warnings, {counts['ok']} ok")

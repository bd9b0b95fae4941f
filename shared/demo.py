"""`convsuite demo`: every application at work on real pictures, on one page.

An application takes part by a module `demo.py` with `build(page, out)`, which runs its commands,
keeps their results in the folder `out`, and shows them on the page under headings of level 3.
"""

import importlib
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from shared import assets, console
from shared.errors import ConvsuiteError

_INTRO = """\
convsuite runs the classic applications of convolutional networks in graphics and vision, whose
reference code and weights need frameworks that are gone: from one command, without a network
connection, on an ordinary processor or a graphics card.

Everything on this page was made on the machine described below, by the commands printed with the
results. Drag the line in a picture, or reach it with the Tab key and move it with the arrow keys.
"""

command = typer.Typer(add_completion=False)


@command.command(
    epilog=console.examples("convsuite demo", "convsuite demo --app enhance --out /tmp/demo")
)
def _demo(
    out: console.Out = Path("out/demo"),
    app: Annotated[
        list[str] | None,
        typer.Option("--app", metavar="NAME", help="Only this application; may be repeated."),
    ] = None,
    quiet: console.Quiet = False,
) -> None:
    """Run every application on sample pictures and show the results on one page.

    The page is OUT/index.html, one file that needs nothing else. An application that fails is
    named there; the others go on, and the exit code is 1.
    """
    failed = run(out, _chosen(app), quiet=quiet)
    if not quiet:
        console.console.print(f"The page is {out / 'index.html'}", soft_wrap=True, markup=False)
    raise typer.Exit(1 if failed else 0)


def run(out: Path, apps: Sequence[str], *, quiet: bool = False) -> list[str]:
    """Build the page `out/index.html`.

    Args:
        out: Folder of the page; each application gets a folder of its own below.
        apps: Names of applications with a `demo.py`, in the order of their sections.
        quiet: Print nothing but errors.

    Returns:
        Names of the applications that failed.
    """
    from shared import backend, report

    backend.setup()  # before any section imports a framework, which would chatter
    page = report.Page("convsuite at work", _INTRO)
    page.heading("Machine")
    page.facts(report.machine())
    failed = [name for name in apps if not _section(page, name, out / name, quiet)]
    page.write(out / "index.html")
    return failed


class Done(NamedTuple):
    """A command that was run: as a person types it, and what it answered with --json."""

    command: str
    answer: dict[str, Any]


def convsuite(*arguments: object) -> Done:
    """Run a command of convsuite in a process of its own.

    Args:
        *arguments: Application, verb and the rest; `--json` among them gives an answer.

    Raises:
        ConvsuiteError: It failed; holds the last line that it printed.
    """
    words = [str(argument) for argument in arguments]
    done = subprocess.run(
        [sys.executable, "-m", "shared.cli", *words], capture_output=True, text=True, check=False
    )
    command = f"convsuite {shlex.join(words)}"
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise ConvsuiteError(f"`{command}` ended with {done.returncode}: {reason[0]}")
    return Done(command, json.loads(done.stdout) if "--json" in words else {})


def sample(name: str) -> Path:
    """Return the path of a sample input, relative to the working folder where that is shorter."""
    path = assets.samples_dir() / name
    # Relative paths keep the commands short; they are run from this folder, too.
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _chosen(wanted: Sequence[str] | None) -> list[str]:
    found = list(assets.packages_with("demo"))
    unknown = [name for name in wanted or () if name not in found]
    if unknown:
        raise ConvsuiteError(
            f"--app {unknown[0]}: no application of this name has a demonstration; "
            f"there are: {', '.join(found) or 'none'}."
        )
    return [name for name in found if not wanted or name in wanted]


def _section(page, name: str, out: Path, quiet: bool) -> bool:
    """Let one application build its section; return whether it succeeded."""
    page.heading(name)
    start = time.perf_counter()
    if not quiet:
        console.console.print(f"{name} …")
    try:
        out.mkdir(parents=True, exist_ok=True)
        package = assets.package(assets.packages_with("demo")[name])
        summary = importlib.import_module(package).__doc__ or ""
        page.text(summary.partition("\n")[0])
        importlib.import_module(f"{package}.demo").build(page, out)
    # One application must not take the page of the others with it, whatever happens in it.
    except Exception as error:
        expected = isinstance(error, ConvsuiteError)
        reason = str(error) if expected else f"{type(error).__name__}: {error}"
        page.problem(f"This demonstration failed. {reason}")
        console.error_line(f"{name}: {reason}")
        if not expected:
            console.console.print_exception()
        return False
    seconds = time.perf_counter() - start
    page.text(f"This section took {seconds:.1f} s to make.")
    if not quiet:
        console.console.print(f"{name}: {seconds:.1f} s")
    return True

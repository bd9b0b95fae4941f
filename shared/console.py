"""What every command line shares: option types, messages on stderr, JSON on stdout, exit codes."""

import contextlib
import dataclasses
import inspect
import json
import math
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer
import typer.core
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from shared.errors import ConvsuiteError

Command = typer.core.TyperCommand | typer.core.TyperGroup

console = Console(stderr=True, highlight=False)
"""Where progress and messages go; stdout is left to results and JSON."""

Inputs = Annotated[
    list[str],
    typer.Argument(metavar="INPUT", help="Files, folders (with their sub-folders), patterns."),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder the results go to.")]
Weights = Annotated[
    str | None,
    typer.Option("--weights", help="Name of installed weights, or a weight file."),
]
Device = Annotated[
    Literal["auto", "cpu", "gpu"],
    typer.Option("--device", help="Where the network runs; auto takes a GPU when there is one."),
]
Precision = Annotated[
    Literal["auto", "float32", "bfloat16"],
    typer.Option("--precision", help="Number format inside the network; auto takes the fast one."),
]
Seed = Annotated[int, typer.Option("--seed", help="Start of the random numbers.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Make results again that are already there.")
]
Engine = Annotated[
    Literal["local", "ray"],
    typer.Option("--engine", help="Work in this process, or over a Ray cluster."),
]


def examples(*commands: str) -> str:
    """Format example commands for typer's `epilog`, each on its own line of the help.

    Args:
        *commands: complete command lines, the simplest first.

    Returns:
        The epilog.
    """
    return "\n".join(["Examples:", *(escape(command) for command in commands)])


def command_line() -> str:
    """Return the command that runs, for cards and pages, without the place of the data folder."""
    data = os.environ.get("CONVSUITE_DATA")
    words = [word.replace(data, "DATA") if data else word for word in sys.argv[1:]]
    program = Path(sys.argv[0])
    application = [program.parent.name] * (program.name == "__main__.py")  # python -m apps.texture
    return shlex.join(["convsuite", *application, *words])


def _plain(value: Any) -> Any:
    """Turn a value into what strict JSON can hold; numbers that are not finite become null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(_plain(entry) for entry in value)
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # NumPy scalars and arrays, without importing NumPy
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Write a value as strict JSON.

    Args:
        value: dicts, lists, numbers, text; also paths, dataclasses, NumPy scalars and arrays.
        indent: spaces per level; None puts everything on one line.

    Returns:
        ASCII text. Numbers that are not finite become null.
    """
    return json.dumps(_plain(value), indent=indent, allow_nan=False)


def emit(obj: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout.

    Args:
        obj: what `to_json` takes.
    """
    print(to_json(obj), flush=True)


def emit_rows(rows: Sequence[Mapping[str, Any]], json: bool) -> None:
    """Print rows, such as those of a bench, as a table, or as one JSON object.

    Args:
        rows: values by column; a column that a row lacks stays empty.
        json: as `{"rows": …}` on stdout.
    """
    if json:
        emit({"rows": rows})
        return
    from rich.table import Table

    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = Table()
    for name in columns:
        table.add_column(name, overflow="fold")  # a figure cut short would be another figure
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in columns))
    stdout = Console()
    if not stdout.is_terminal:
        unbounded = stdout.options.update(max_width=10_000)
        stdout.width = max(stdout.width, stdout.measure(table, options=unbounded).maximum)
    stdout.print(table)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return "" if value is None else str(value)


@contextlib.contextmanager
def progress(
    label: str, total: int | None, *, unit: str = "", done: int = 0, quiet: bool = False
) -> Iterator[Callable[[int, str], None]]:
    """Show a bar with count, rate and time left while the context lasts, on a terminal only.

    Args:
        label: what is going on.
        total: number of items, if it is known.
        unit: what the items are called in the rate, such as `frames`.
        done: items done before.
        quiet: show nothing.

    Yields:
        A function that takes the number of items done, and optionally a new label.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
        console=console,
        disable=quiet or not console.is_terminal,
        transient=True,
        refresh_per_second=4,
    )
    with bar:
        task = bar.add_task(label, total=total, completed=done, rate="")
        started = time.perf_counter()

        def update(count: int, text: str = label) -> None:
            rate = (count - done) / max(time.perf_counter() - started, 1e-9)
            bar.update(task, completed=count, description=text, rate=f"{rate:.1f} {unit}/s")

        yield update


def error_line(message: str) -> None:
    """Print `error: …` on stderr as one unbroken line; the message is taken literally."""
    console.print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)


def warning_line(message: str) -> None:
    """Print `warning: …` on stderr as one unbroken line; the message is taken literally."""
    console.print(Text.assemble(("warning: ", "yellow"), message), soft_wrap=True)


def note_line(message: str) -> None:
    """Print a message on stderr as one unbroken line, above a bar if there is one."""
    console.print(Text(message), soft_wrap=True)


def _unwrap_help(command: Command) -> None:
    """Join the lines of each paragraph of the help, which typer would break where the code does."""
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    command.help = "\n\n".join(
        paragraph if paragraph.startswith("\b") else " ".join(paragraph.split())
        for paragraph in paragraphs
    )
    for verb in getattr(command, "commands", {}).values():
        _unwrap_help(verb)


def as_command(app: typer.Typer | Callable[..., Any]) -> Command:
    """Build the command of an application, or of one function annotated for typer.

    Args:
        app: a `Typer`, or the function.

    Returns:
        What `run` runs.
    """
    if not isinstance(app, typer.Typer):
        function, app = app, typer.Typer(add_completion=False)
        app.command()(function)
    command = typer.main.get_command(app)
    _unwrap_help(command)
    return command


def _silence_stdout() -> None:
    """Keep the interpreter from complaining when it flushes a closed pipe at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(
    app: typer.Typer | Command,
    args: Sequence[str] | None = None,
    prog: str | None = None,
) -> NoReturn:
    """Run a command line and leave the process with its exit code.

    A `ConvsuiteError`, or a file the system refuses, is printed as one line on stderr.

    Args:
        app: the application or command.
        args: arguments; those of the process when None.
        prog: the name shown in usage lines.

    Raises:
        SystemExit: always; 0 all done, 1 something failed, 2 wrong usage, 130 interrupted.
    """
    command = as_command(app) if isinstance(app, typer.Typer) else app
    try:
        try:
            command.main(args, prog_name=prog, help_option_names=["--help", "-h"])
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _silence_stdout()
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except ConvsuiteError as error:
        error_line(str(error))
    except OSError as error:
        if error.filename is None:
            raise
        error_line(f"{error.filename}: {error.strerror}")
    sys.exit(1)

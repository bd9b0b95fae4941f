"""The umbrella command `convsuite`: finds applications by folder, imports one when it is called."""

import ast
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
import typer.core
from rich.markup import escape

from shared import console
from shared.errors import DependencyError

Command = typer.core.TyperCommand | typer.core.TyperGroup


class _Entry(NamedTuple):
    """One sub-command before its module is imported."""

    module: str
    attribute: str
    summary: str
    panel: str


_TOOLS = {
    "demo": _Entry(
        "shared.demo", "command", "Run every application and show it on a page", "Tools"
    ),
    "doctor": _Entry(
        "shared.doctor", "command", "Check the installation, devices, weights", "Tools"
    ),
    "web": _Entry(
        "shared.web", "command", "Serve the applications as a page in a browser", "Tools"
    ),
    "weights": _Entry("shared.weights_cli", "app", "List, verify, import, export weights", "Tools"),
}


def _apps_folder() -> Path:
    spec = importlib.util.find_spec("apps")
    if spec is None or not spec.submodule_search_locations:
        raise DependencyError("the package `apps` is missing; install convsuite again")
    return Path(next(iter(spec.submodule_search_locations)))


def _summary(init_file: Path) -> str:
    """Return the first line of a module's docstring without importing the module."""
    try:
        docstring = ast.get_docstring(ast.parse(init_file.read_bytes()))
    except (OSError, SyntaxError, ValueError):
        docstring = None
    return docstring.partition("\n")[0].rstrip(".") if docstring else ""


def _entries() -> dict[str, _Entry]:
    apps = {
        file.parent.name: _Entry(
            f"apps.{file.parent.name}.cli",
            "app",
            _summary(file.parent / "__init__.py"),
            "Applications",
        )
        for file in sorted(_apps_folder().glob("*/cli.py"))
    }
    return apps | _TOOLS


def _as_command(found: typer.Typer | Callable[..., None]) -> Command:
    if isinstance(found, typer.Typer):
        return typer.main.get_command(found)
    single = typer.Typer(add_completion=False)
    single.command()(found)
    return typer.main.get_command(single)


def _load(name: str, entry: _Entry) -> Command:
    try:
        module = importlib.import_module(entry.module)
    except ModuleNotFoundError as error:
        raise DependencyError(
            f"`convsuite {name}` needs {error.name}, which is not installed"
        ) from error
    return _as_command(getattr(module, entry.attribute))


class _LazyGroup(typer.core.TyperGroup):
    """A group whose help and suggestions come from stand-ins; the real command loads on call."""

    def __init__(self, **attributes):
        super().__init__(**attributes)
        self._entries = _entries()
        for name, entry in self._entries.items():
            stand_in = typer.core.TyperCommand(
                name, short_help=escape(entry.summary), rich_help_panel=entry.panel
            )
            self.add_command(stand_in)

    def resolve_command(self, ctx, args):
        name, _, rest = super().resolve_command(ctx, args)
        return name, name and _load(name, self._entries[name]), rest


def _version() -> str:
    from importlib import metadata  # costs 30 ms that no other call needs

    try:
        return metadata.version("convsuite")
    except metadata.PackageNotFoundError:
        return "(a checkout that is not installed)"


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"convsuite {_version()}")
        raise typer.Exit


def _umbrella(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Classic convolutional-network applications of graphics and vision, running today.

    Each application has its own verbs and its own help: convsuite APPLICATION --help.
    """


def _application() -> typer.Typer:
    app = typer.Typer(
        cls=_LazyGroup,
        no_args_is_help=True,
        epilog=console.examples(
            "convsuite enhance run photo.jpg --out out",
            "convsuite enhance run holiday/ --out out --strength 0.7",
            "convsuite weights list",
            "convsuite doctor",
        ),
    )
    app.callback()(_umbrella)
    return app


def main() -> None:
    """Run the command `convsuite` with the arguments of the process."""
    console.run(_application(), prog="convsuite")


if __name__ == "__main__":
    main()

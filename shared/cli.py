"""The umbrella command `convsuite`: finds applications by folder, imports one when it is called."""

import ast
import importlib
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
import typer.core
from rich.markup import escape

from shared import assets, console
from shared.errors import DependencyError


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


def _summary(init_file: Path) -> str:
    """Return the first line of a module's docstring without importing the module."""
    try:
        docstring = ast.get_docstring(ast.parse(init_file.read_bytes()))
    except (OSError, SyntaxError, ValueError):
        docstring = None
    return docstring.partition("\n")[0].rstrip(".") if docstring else ""


def _entries() -> dict[str, _Entry]:
    found = {
        name: _Entry(
            f"{assets.package(folder)}.cli", "app", _summary(folder / "__init__.py"), "Applications"
        )
        for name, folder in assets.packages_with("cli").items()
    }
    return found | _TOOLS


def _load(name: str, entry: _Entry) -> console.Command:
    try:
        module = importlib.import_module(entry.module)
    except ModuleNotFoundError as error:
        raise DependencyError(
            f"`convsuite {name}` needs {error.name}, which is not installed"
        ) from error
    return console.as_command(getattr(module, entry.attribute))


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

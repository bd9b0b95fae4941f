"""The viewer in a real window on a virtual display, with keys and mouse from outside."""

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from waiting import wait_for

from apps.ocnn import view
from apps.ocnn.meshes import Cloud, Mesh
from apps.ocnn.render import BACKGROUND
from shared.errors import DataError, VideoError

# Windows are those of other processes; importing it here would take seconds for nothing.
if importlib.util.find_spec("open3d") is None:
    pytest.skip("open3d is not installed", allow_module_level=True)

TITLE = "convsuite view test"
SQUARE = np.array([[-1.0, 0, -1], [1, 0, -1], [1, 0, 1], [-1, 0, 1]])
SHOW = f"""
import sys
import numpy as np
from apps.ocnn import view
from apps.ocnn.meshes import Cloud, Mesh

square = np.array({SQUARE.tolist()})
mesh = Mesh(100 * square, np.array([[0, 1, 2], [0, 3, 2]]))
cloud = Cloud(np.random.default_rng(0).uniform(-0.01, 0.01, (4000, 3)))
red, blue = np.array([[1.0, 0, 0]] * 2), np.array([[0.0, 0, 1]] * 4000)
saved = view.show([mesh, cloud], [red, blue], {TITLE!r}, sys.argv[1])
print(len(saved))
"""
needs_display = pytest.mark.skipif(
    not (shutil.which("Xvfb") and shutil.which("xdotool")),
    reason="needs Xvfb and xdotool (apt packages xvfb, xdotool)",
)


@needs_display
@pytest.mark.window
def test_keys_mouse_and_pictures(display, tmp_path):
    environment = {**os.environ, "DISPLAY": display}
    environment.pop("WAYLAND_DISPLAY", None)
    viewer = subprocess.Popen(
        [sys.executable, "-c", SHOW, str(tmp_path / "out")],
        cwd=Path(view.__file__).parents[2],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def xdotool(*arguments):
        done = subprocess.run(
            ["xdotool", *arguments], env=environment, capture_output=True, text=True
        )
        return done.stdout.strip()

    def snapshot(number):
        """Press `s` until the picture is there; return it, uint8."""
        path = tmp_path / "out" / f"view_{number:03d}.png"
        xdotool("key", "s")
        wait_for(path.exists)
        return np.asarray(Image.open(path)).astype(int)

    try:
        window = wait_for(lambda: xdotool("search", "--onlyvisible", "--name", TITLE))
        assert xdotool("getwindowname", window).startswith(TITLE)
        time.sleep(0.5)
        xdotool("windowfocus", window)
        first = snapshot(1)
        xdotool("key", "c")
        plain = snapshot(2)
        xdotool("mousemove", "--window", window, "480", "360", "mousedown", "1")
        for x in (520, 560, 600):
            xdotool("mousemove", "--window", window, str(x), "300")
            time.sleep(0.1)
        xdotool("mouseup", "1")
        turned = snapshot(3)
        xdotool("key", "c", "key", "Right")
        points = snapshot(4)
        xdotool("key", "Right")
        again = snapshot(5)
        xdotool("key", "q")
        out, messages = viewer.communicate(timeout=60)
    finally:
        viewer.kill()
        viewer.wait(timeout=30)
    assert viewer.returncode == 0, messages
    assert out == "5\n"
    assert messages == ""
    height, width = first.shape[:2]
    assert (width, height) == (960, 720)
    assert np.abs(first[5, 5] - 255 * np.array(BACKGROUND)).max() <= 1
    # Both triangles are lit, though one is wound the other way.
    red = (first[..., 0] > 100) & (first[..., 1:].max(axis=-1) < 30)
    shape = np.abs(first - first[5, 5]).max(axis=-1) > 20
    assert red.sum() > 0.95 * shape.sum() > 0.1 * shape.size
    assert min(red[: height // 2].sum(), red[height // 2 :].sum()) > 0.3 * red.sum()
    # Without colours it covers the same pixels in grey; then it is turned.
    covered = np.abs(plain - plain[5, 5]).max(axis=-1) > 20
    assert np.ptp(plain[covered], axis=-1).max() < 80
    grey = np.abs(turned - turned[5, 5]).max(axis=-1) > 20
    assert (grey != shape).mean() > 0.02
    blue = (points[..., 2] > 100) & (points[..., :2].max(axis=-1) < 30)
    assert blue.mean() > 0.03
    # Back at the first shape, seen as it was left.
    covered = np.abs(again - again[5, 5]).max(axis=-1) > 20
    assert (covered == grey).mean() > 0.95
    assert (again[grey][:, 1:].max(axis=-1) < 60).mean() > 0.9


def test_without_a_display(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(VideoError, match="no display for the window"):
        view.show(Mesh(SQUARE, np.array([[0, 1, 2]])))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="X11 only")
def test_with_a_display_that_does_not_answer(monkeypatch, capfd):
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", ":4711")
    with pytest.raises(VideoError, match="no window can be opened on display :4711"):
        view.show(Mesh(SQUARE, np.array([[0, 1, 2]])))
    assert capfd.readouterr() == ("", "")


def test_a_window_that_crashes(monkeypatch):
    monkeypatch.setenv("DISPLAY", ":4711")
    monkeypatch.setattr(view.sys, "executable", "/bin/false")
    with pytest.raises(VideoError, match="the window ended with code 1"):
        view.show(Mesh(SQUARE, np.array([[0, 1, 2]])))


@pytest.mark.parametrize(
    ("shapes", "colours", "words"),
    [
        ([], None, "0 colourings for 0 shapes"),
        ([Cloud(SQUARE)], [None, None], "2 colourings for 1 shapes"),
        (Cloud(SQUARE), np.zeros((3, 3)), "Colours of 4 points"),
        (Cloud(0 * SQUARE), None, "one and the same"),
    ],
)
def test_what_cannot_be_shown(shapes, colours, words):
    with pytest.raises(DataError, match=words):
        view.show(shapes, colours)

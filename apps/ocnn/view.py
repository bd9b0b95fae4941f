"""Turn shapes by mouse, in a window of Open3D.

The window has a process of its own: where Mesa draws on the CPU, a window of Open3D ends a process
that has imported TensorFlow (signal 11).
"""

import contextlib
import io
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from shared import images
from shared.errors import ConvsuiteError, DataError, VideoError
from shared.raycasting import camera_axes, open3d

from .meshes import Cloud, Mesh, check
from .render import BACKGROUND, FROM, PLAIN, bounding_sphere, checked_colours

_SIZE = (960, 720)
_RIGHT, _LEFT = 262, 263  # GLFW's numbers of keys
_KEYS = {ord("C"): "c", ord("S"): "s", _RIGHT: "right", _LEFT: "left"}
_FRAME_SECONDS = 1 / 60
_DIMMED = 0.8  # Open3D's four lights together make surfaces brighter than their colours


def show(
    shapes: Mesh | Cloud | Sequence[Mesh | Cloud],
    colours: np.ndarray | Sequence[np.ndarray | None] | None = None,
    title: str = "convsuite",
    out: str | Path = ".",
) -> list[Path]:
    """Show shapes until the person closes the window.

    The mouse turns, the wheel zooms. Keys: left and right for the other shapes, `c` with and
    without colours, `s` saves a picture, `q` and Esc close.

    Args:
        shapes: One, or several.
        colours: Of the faces or points, as `render.picture` takes them; for several shapes a
            sequence as long, of arrays or None.
        title: Of the window.
        out: Folder for the pictures saved, `view_001.png` and so on.

    Returns:
        The pictures saved.

    Raises:
        DataError: The shapes or colours cannot be shown.
        VideoError: No window can be opened, or a picture cannot be saved.
    """
    if isinstance(shapes, Mesh | Cloud):
        shapes, colours = [shapes], [colours]
    colours = [None] * len(shapes) if colours is None else colours
    if not shapes or len(colours) != len(shapes):
        raise DataError(f"{len(colours)} colourings for {len(shapes)} shapes cannot be shown.")
    colours = [checked_colours(check(s), c) for s, c in zip(shapes, colours, strict=True)]
    displays = ("DISPLAY", "WAYLAND_DISPLAY")
    if sys.platform.startswith("linux") and not any(os.environ.get(name) for name in displays):
        raise VideoError(
            "no display for the window: neither DISPLAY nor WAYLAND_DISPLAY is set; run this in a "
            "desktop session, or under xvfb-run"
        )
    with tempfile.TemporaryDirectory() as folder:
        for number, (shape, colouring) in enumerate(zip(shapes, colours, strict=True)):
            _pack(Path(folder) / f"{number:06d}.npz", shape, colouring)
        root = str(Path(__file__).parents[2])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        # Without -P, Python would look for its modules in the person's folder.
        done = subprocess.run(
            [sys.executable, "-P", "-m", __name__, folder, title, str(out)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            text=True,
            check=False,
        )
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise VideoError(
            f"the window ended with code {done.returncode} ({last[0]}); check the graphics driver"
        ) from None
    if "error" in answer:
        raise VideoError(answer["error"])
    return [Path(path) for path in answer["saved"]]


def _pack(path, shape, colours):
    """Write what is to be drawn, in the unit sphere: corners of faces or points, and colours."""
    centre, radius = bounding_sphere(shape)
    places = shape.vertices[shape.faces] if isinstance(shape, Mesh) else shape.points
    arrays = {"places": (places - centre) / radius, "colours": colours.astype(np.float64)}
    if isinstance(shape, Cloud) and shape.normals is not None:
        arrays["normals"] = shape.normals.astype(np.float64)
    np.savez(path, **arrays)


def _run(folder, title, out):
    """Show what `_pack` wrote; return the pictures saved."""
    packed = []
    for path in sorted(Path(folder).glob("*.npz")):
        with np.load(path, allow_pickle=False) as file:
            packed.append({name: file[name] for name in file.files})
    library = open3d()
    with library.utility.VerbosityContextManager(library.utility.VerbosityLevel.Error):
        window, pressed = _window(library, f"{title} | arrows, c colours, s save, q close")
        try:
            return _loop(library, window, pressed, packed, Path(out))
        finally:
            window.destroy_window()


def _window(library, title):
    """Open a window; return it and the list to which it adds the keys that are pressed."""
    window = library.visualization.VisualizerWithKeyCallback()
    levels = library.utility.VerbosityLevel
    messages = io.StringIO()
    with (
        contextlib.redirect_stdout(messages),
        library.utility.VerbosityContextManager(levels.Info),
    ):
        opened = window.create_window(title, *_SIZE)
    # Without a display Open3D goes on with a window that nobody can see or close.
    if not opened or "offscreen" in messages.getvalue().lower():
        raise VideoError(
            f"no window can be opened on display {os.environ.get('DISPLAY', '')}; check DISPLAY "
            "and the graphics driver, or run this under xvfb-run"
        )
    pressed = []
    for number, name in _KEYS.items():
        # An exception must not pass through the library's own code, so keys are only noted here.
        window.register_key_callback(number, lambda _, name=name: bool(pressed.append(name)))
    options = window.get_render_option()
    options.background_color = np.array(BACKGROUND)
    options.point_size = 4
    return window, pressed


def _loop(library, window, pressed, packed, out):
    """Do what the keys ask for until the window is closed; return the pictures saved."""
    saved, number, coloured = [], 0, True
    window.add_geometry(_geometry(library, packed[0], coloured))
    control = window.get_view_control()
    control.set_up([0, 0, 1])
    control.set_front(camera_axes(*FROM)[2])
    control.set_zoom(0.7)
    # Else planes that suit the first shape cut the others.
    control.set_constant_z_near(0.05)
    control.set_constant_z_far(50)
    while window.poll_events():
        for key in pressed:
            if key == "s":
                saved.append(_save(window, out))
                continue
            if key == "c":
                coloured = not coloured
            else:
                number = (number + (1 if key == "right" else -1)) % len(packed)
            window.clear_geometries()
            # The camera stays where it is.
            window.add_geometry(_geometry(library, packed[number], coloured), False)
        pressed.clear()
        window.update_renderer()
        time.sleep(_FRAME_SECONDS)
    return saved


def _geometry(library, packed, coloured):
    """Return what Open3D draws; meshes have each face twice, so that both sides are lit."""
    vectors = library.utility.Vector3dVector
    places = packed["places"]
    colours = packed["colours"] if coloured else np.tile(np.float64(PLAIN), (len(places), 1))
    if places.ndim == 2:
        cloud = library.geometry.PointCloud(vectors(places))
        cloud.colors = vectors(colours)
        if "normals" in packed:
            cloud.normals = vectors(packed["normals"])
        return cloud
    corners = np.concatenate([places, places[:, ::-1]]).reshape(-1, 3)
    numbers = np.arange(len(corners), dtype=np.int32).reshape(-1, 3)
    mesh = library.geometry.TriangleMesh(vectors(corners), library.utility.Vector3iVector(numbers))
    mesh.vertex_colors = vectors(_DIMMED * np.tile(np.repeat(colours, 3, axis=0), (2, 1)))
    mesh.compute_vertex_normals()
    return mesh


def _save(window, out):
    """Save what the window shows under the first free name; return the file."""
    names = (out / f"view_{number:03d}.png" for number in itertools.count(1))
    path = next(name for name in names if not name.exists())
    images.write(path, np.asarray(window.capture_screen_float_buffer(True), np.float32))
    return path


if __name__ == "__main__":
    try:
        result = {"saved": [str(path) for path in _run(*sys.argv[1:])]}
    except ConvsuiteError as error:
        result = {"error": str(error)}
    print(json.dumps(result))

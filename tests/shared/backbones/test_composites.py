"""Occlusion and Grad-CAM find an object that was pasted on a plain background."""

import functools
from dataclasses import dataclass

import cv2
import numpy as np
import pytest

from shared import backbones, backend, images
from shared.assets import samples_dir
from shared.backbones.labels import load_labels
from shared.backbones.visualise import GradCam, occlusion

NETWORK = "squeezenet1.1"
SIDE = 227
# Photographs (of BSDS500, unless named), what is in them, and where: left, top, right, bottom.
OBJECTS = (
    ("130066", "zebra", (105, 35, 335, 300)),
    ("183066", "ice bear", (110, 60, 350, 310)),
    ("35049", "monarch", (180, 0, 385, 215)),
    ("257098", "schooner", (15, 120, 305, 280)),
    ("134067", "leopard", (85, 145, 260, 400)),
    ("108069", "tiger, Panthera", (120, 70, 350, 300)),
    ("41029", "bison", (5, 70, 400, 321)),
    ("326085", "lynx", (60, 150, 305, 455)),
    ("159022", "porcupine", (145, 25, 365, 310)),
    ("coffee", "espresso", (100, 30, 500, 390)),
)


@dataclass(frozen=True)
class Composite:
    """A network input with one object, its class, and the box that it fills."""

    picture: np.ndarray
    label: int
    top: int
    left: int
    bottom: int
    right: int

    def holds(self, point):
        row, column = point
        return self.top <= row <= self.bottom and self.left <= column <= self.right


@pytest.fixture(scope="module")
def network(data):
    """SqueezeNet 1.1 with its authors' weights, up to some taps."""
    file = data / "backbones" / "squeezenet_v1.1" / "squeezenet_v1.1.npz"
    return functools.partial(backbones.trunk, NETWORK, weights=str(file))


@pytest.fixture(scope="module")
def composites(data):
    """Each object once, at a random place and size (40 to 65 % of the side), on a random colour."""
    rng = np.random.default_rng(0)
    labels = load_labels(None, 1000)
    photos = data / "photos" / "bsds500" / "test"
    found = []
    for name, label, (x0, y0, x1, y1) in OBJECTS:
        file = photos / f"{name}.jpg" if name.isdecimal() else samples_dir() / f"{name}.jpg"
        cut = images.read(file)[y0:y1, x0:x1]
        scale = rng.uniform(0.4, 0.65) * SIDE / max(cut.shape[:2])
        cut = cv2.resize(cut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        height, width = cut.shape[:2]
        top, left = (int(rng.integers(0, SIDE - length + 1)) for length in (height, width))
        canvas = np.full((SIDE, SIDE, 3), rng.uniform(0.2, 0.8, 3), "float32")
        canvas[top : top + height, left : left + width] = cut
        number = next(i for i, text in enumerate(labels) if text.startswith(label))
        box = (top, left, top + height, left + width)
        found.append(Composite(as_input(canvas), number, *box))
    return found


def as_input(picture):
    """Return a network input of the whole picture, without the margin that is cut off."""
    margin = (round(SIDE / backbones.spec(NETWORK).crop) - SIDE + 1) // 2
    wide = cv2.copyMakeBorder(picture, *(margin,) * 4, cv2.BORDER_REPLICATE)
    return backbones.preprocess(wide[: SIDE + 29, : SIDE + 29], backbones.spec(NETWORK))


def hits(composites, points):
    """Count the points in the box of their composite, and in that of the next one."""
    others = [*composites[1:], composites[0]]
    return tuple(
        sum(one.holds(point) for one, point in zip(boxes, points, strict=True))
        for boxes in (composites, others)
    )


@pytest.mark.parametrize(
    ("every", "part", "wanted"),
    [(2, 6, 4), pytest.param(1, 16, 8, marks=pytest.mark.slow)],
)
def test_a_grey_square_harms_most_on_the_object(network, composites, every, part, wanted):
    composites = composites[::every]
    forward = backend.compiled(network([backbones.spec(NETWORK).body, "probs"]))
    grey = as_input(np.full((SIDE, SIDE, 3), 0.5, "float32"))[0, 0]
    side, step = SIDE // 4, SIDE // part
    points = [
        occlusion(
            forward, one.picture, grey, label=one.label, side=side, step=step, batch=49
        ).centre_of_minimum(side)
        for one in composites
    ]
    found, elsewhere = hits(composites, points)
    assert found >= wanted
    assert elsewhere < wanted


def test_gradcam_peaks_on_the_object(network, composites):
    explain = GradCam(network([backbones.spec(NETWORK).body, "logits"]))
    maps = [explain(one.picture, one.label) for one in composites]
    points = [np.unravel_index(seen.argmax(), seen.shape) for seen in maps]
    found, elsewhere = hits(composites, points)
    assert found >= 8
    assert elsewhere < 8

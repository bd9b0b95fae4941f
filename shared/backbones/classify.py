"""What is in a picture: one picture, a folder of them, or a video with the answer drawn in."""

import json
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from shared import backend, images
from shared.console import to_json
from shared.folders import Job

from .labels import as_probabilities, decode, load_labels
from .preprocessing import preprocess
from .registry import spec as find_spec
from .trunks import class_names, input_statistics, trunk

DEFAULT = "efficientnet_lite0"
_SMALLEST_SHOWN = 0.01


class Classifier:
    """A network with its labels: picture in, names with probabilities out.

    Attributes:
        spec: What is known about the network.
        top: How many names `__call__` returns.
    """

    def __init__(
        self,
        network: str = DEFAULT,
        weights: str | None = None,
        *,
        labels: Path | None = None,
        top: int = 5,
    ):
        """Open a network with its weights.

        Args:
            network: A name from `list_networks`.
            weights: A file, or None for the first that is found, see `shared.backbones.trunk`.
            labels: Text file with one name per line; by default the names in the card of the
                weights, else those of ImageNet for networks of 1,000 classes, else the numbers of
                the classes.
            top: How many names to return.

        Raises:
            ConvsuiteError: Unknown network, one without classes, weights that are missing or do not
                fit, or labels of the wrong number.
        """
        self.spec = find_spec(network)
        self.spec.check_classes()
        self.top = top
        model = trunk(network, features=[self.spec.taps[-1].name], weights=weights)
        self._statistics = input_statistics(network, weights)
        self.labels = load_labels(labels, model.output_shape[-1], class_names(network, weights))
        self._forward = backend.compiled(model)

    def __call__(self, image: np.ndarray) -> list[tuple[str, float]]:
        """Classify a picture.

        Args:
            image: float32 `(height, width, 3)`, RGB, 0..1.

        Returns:
            The `top` likeliest names with their probabilities, the likeliest first.
        """
        return decode(self.probabilities(image), self.top, self.labels)

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        """Return the probabilities of all classes, float32 `(classes,)`."""
        batch = preprocess(image, self.spec, **self._statistics)[None]
        return as_probabilities(self._forward(batch)[0], self.spec)


class FeatureExtractor:
    """A network that returns maps at some taps."""

    def __init__(self, network: str, taps: Sequence[str], weights: str | None = None):
        """Open a network with its weights, cut behind the last of some taps."""
        self.spec = find_spec(network)
        self.taps = list(taps)
        self._statistics = input_statistics(network, weights)
        self._forward = backend.compiled(trunk(network, features=self.taps, weights=weights))

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Return the map of each tap, float32 `(height, width, channels)` or `(entries,)`."""
        batch = preprocess(image, self.spec, **self._statistics)[None]
        found = self._forward(batch)
        maps = found if isinstance(found, list) else [found]
        return {tap: one[0] for tap, one in zip(self.taps, maps, strict=True)}


class PictureWork:
    """Runs a function of pictures over files for `shared.folders`, one result file each."""

    def __init__(
        self,
        make: Callable[[], Callable[[np.ndarray], Any]],
        settings: dict[str, Any],
        device: str,
        precision: str,
    ):
        """Build the function in the process that does the work.

        Args:
            make: Builds it.
            settings: What results depend on besides the picture; kept in each, see `is_made`.
            device: For `backend.setup`.
            precision: For `backend.setup`.
        """
        backend.setup(device, precision)
        self._function = make()
        self._settings = to_json(settings)

    def read(self, path: Path) -> tuple[Path, np.ndarray]:
        """Return the path and the picture."""
        return path, images.read(path)

    def apply(self, item: tuple[Path, np.ndarray]) -> tuple[Path, Any]:
        """Return the path and what the function makes of the picture."""
        path, image = item
        return path, self._function(image)

    def write(self, result: tuple[Path, Any], path: Path) -> None:
        """Write predictions as JSON, or maps as .npz, whole or not at all."""
        source, found = result
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".part-{path.name}")
        if isinstance(found, dict):
            np.savez(part, settings=self._settings, **found)
        else:
            result = {
                "picture": os.path.abspath(source),
                "top": [{"label": label, "probability": share} for label, share in found],
                "settings": json.loads(self._settings),
            }
            part.write_text(to_json(result) + "\n", encoding="utf-8")
        os.replace(part, path)


def is_made(path: Path, settings: dict[str, Any]) -> bool:
    """Return whether a result of `PictureWork` is there that was made with the same settings."""
    try:
        if path.suffix == ".npz":
            with np.load(path) as maps:
                kept = json.loads(str(maps["settings"]))
        else:
            kept = json.loads(path.read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return False  # not there, damaged, or without settings
    return kept == json.loads(to_json(settings))


def collected(jobs: Sequence[Job], settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Read the predictions that `PictureWork` wrote with these settings, where there are some.

    Pictures are called as in the jobs: a file may come from a run that named them otherwise.
    """
    return [
        {
            "picture": str(job.source),
            "top": json.loads(job.target.read_text(encoding="utf-8"))["top"],
        }
        for job in jobs
        if is_made(job.target, settings)
    ]


class LabelDrawer:
    """A picture filter that draws the likeliest names into the picture.

    Attributes:
        strength: 0 draws nothing.
    """

    def __init__(self, classifier: Classifier):
        self.strength = 1.0
        self._classifier = classifier

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return a copy of RGB pixels with the names and their bars in the lower left."""
        return self._drawn(pixels, self._classifier.probabilities(images.to_float(pixels)))

    def stream(self, fps: float) -> Callable[[np.ndarray], np.ndarray]:
        """Return a function of video frames; probabilities are averaged over half a second."""
        share = min(1.0, 2.0 / fps)
        average: np.ndarray | None = None

        def draw(frame: np.ndarray) -> np.ndarray:
            nonlocal average
            now = self._classifier.probabilities(images.to_float(frame))
            average = now if average is None else average + share * (now - average)
            return self._drawn(frame, average)

        return draw

    def _drawn(self, pixels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        if self.strength == 0:
            return pixels
        names = decode(probabilities, self._classifier.top, self._classifier.labels)
        return draw_labels(pixels, names)


def draw_labels(pixels: np.ndarray, names: Sequence[tuple[str, float]]) -> np.ndarray:
    """Draw names with bars of their probabilities over the lower left of a picture.

    Args:
        pixels: `(height, width, 3)` uint8 RGB.
        names: From `Classifier`; those below one percent are left out.

    Returns:
        A new picture of the same shape.
    """
    shown = pixels.copy()
    height, width = shown.shape[:2]
    step = max(12, round(height / 24))
    scale, weight = step / 36, max(1, step // 18)
    lines = [(label, share) for label, share in names if share >= _SMALLEST_SHOWN]
    bottom = height - height // 6  # below, the live window writes its keys
    top = max(0, bottom - step * len(lines) - step // 2)
    band = shown[top:bottom, : min(width, step * 20)]
    band[:] = band // 3
    for row, (label, share) in enumerate(lines):
        y = top + step * row + step // 4
        end = step // 3 + round(share * (band.shape[1] - step))
        cv2.rectangle(band, (step // 3, y - top), (end, y - top + step - 3), (196, 92, 20), -1)
        text = f"{share:4.0%}  {label}"
        origin = (step // 2, y - top + round(step * 0.72))
        cv2.putText(
            band, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, (250,) * 3, weight, cv2.LINE_AA
        )
    return shown

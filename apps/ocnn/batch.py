"""Many shapes through one network, for `shared.folders`: one result file each."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shared import backend
from shared.console import to_json
from shared.folders import Job

from . import meshes, render, scan
from .scan import Up
from .tasks import Classifier, Index, Segmenter


class ClassifyWork:
    """Tells the classes of shapes; results are `.json` files.

    Args:
        make: Opens the network, in the process that uses it.
        device: For `backend.setup`.
        up: The axis that points up in the files.
        top: How many names to keep.
    """

    def __init__(
        self, make: Callable[[], Classifier], device: str, up: Up | None = None, top: int = 5
    ):
        backend.setup(device, "float32")
        self._classifier, self._up, self._top = make(), up, top

    def read(self, path: Path) -> tuple[Path, list]:
        """Return the path and the octrees of the poses, from the cache where they are there."""
        return path, self._classifier.of_file(path, self._up)

    def apply(self, item: tuple[Path, list]) -> dict[str, Any]:
        """Return what the file shall say."""
        path, poses = item
        probabilities, features = self._classifier.look(poses)
        order = np.argsort(-probabilities, kind="stable")[: self._top]
        return {
            "shape": os.path.abspath(path),
            "top": [
                {"name": self._classifier.names[i], "probability": float(probabilities[i])}
                for i in order
            ],
        } | self._more(probabilities, features)

    def _more(self, probabilities, features):
        return {}

    def write(self, result: dict[str, Any], path: Path) -> None:
        """Write JSON, whole or not at all."""
        part = path.with_name(f".{path.name}.part")
        part.write_text(to_json(result) + "\n", encoding="utf-8")
        os.replace(part, path)


class IndexWork(ClassifyWork):
    """As `ClassifyWork`, and keeps what an index needs."""

    def _more(self, probabilities, features):
        return {"probabilities": probabilities, "features": features}


class SegmentWork:
    """Names the parts of shapes; results are `.ply` files with labels and colours.

    Args:
        make: Opens the network, in the process that uses it.
        device: For `backend.setup`.
        up: The axis that points up in the files.
    """

    def __init__(self, make: Callable[[], Segmenter], device: str, up: Up | None = None):
        backend.setup(device, "float32")
        self._segmenter, self._up = make(), up

    def read(self, path: Path) -> Any:
        """Return the shape."""
        return meshes.read(path)

    def apply(self, shape: Any) -> Any:
        """Return the shape with its parts as labels."""
        return labelled(shape, self._segmenter(shape, self._up).labels)

    def write(self, shape: Any, path: Path) -> None:
        """Write PLY, whole or not at all."""
        meshes.write(path, shape, render.part_colours(shape.labels))


class ScanWork:
    """Turns meshes into clouds, see `scan.scan`; clouds are written as they are."""

    def __init__(self, half_width: int):
        self._half_width = half_width

    def read(self, path: Path) -> meshes.Cloud:
        """Return the cloud."""
        return scan.as_cloud(meshes.read(path), self._half_width)

    def apply(self, cloud: meshes.Cloud) -> meshes.Cloud:
        """Return it."""
        return cloud

    def write(self, cloud: meshes.Cloud, path: Path) -> None:
        """Write it, whole or not at all."""
        meshes.write(path, cloud)


def labelled(shape: meshes.Mesh | meshes.Cloud, labels: np.ndarray) -> meshes.Mesh | meshes.Cloud:
    """Return a shape with other labels."""
    if isinstance(shape, meshes.Mesh):
        return meshes.Mesh(shape.vertices, shape.faces, labels)
    return meshes.Cloud(shape.points, shape.normals, labels)


def collected(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Read the answers that `ClassifyWork` wrote; files that are not there are left out."""
    return [
        {**json.loads(job.target.read_text(encoding="utf-8")), "shape": str(job.source)}
        for job in jobs
        if job.target.is_file()
    ]


def index(answers: Sequence[dict[str, Any]], classifier: Classifier, network: str) -> Index:
    """Return the index of answers of `IndexWork`."""
    return Index(
        [answer["shape"] for answer in answers],
        np.array([answer["features"] for answer in answers], np.float32),
        np.array([answer["probabilities"] for answer in answers], np.float32),
        list(classifier.names),
        network,
    )

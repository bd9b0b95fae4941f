"""What is done with shapes: tell their class, find similar ones, name their parts.

Source: Wang et al. 2017, "O-CNN", section 5: answers are averaged over 12 poses (voting).
"""

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from shared import backend, weights
from shared.errors import DataError, WeightsError, reason

from . import crf, data, octree, scan
from .data import Cache, Form, Poses, Reader
from .meshes import Cloud, Mesh
from .octree import Octree
from .scan import Up

if TYPE_CHECKING:
    import keras

APP = "ocnn"
EMBEDDING = "fc1_relu"
"""Layer whose outputs stand for a shape."""
_BATCH = 12
_LONGEST_LIST = 1000
Ranking = Literal["cosine", "classes"]


def open_network(name_or_path: str | Path, task: str) -> tuple["keras.Model", dict[str, Any]]:
    """Open installed weights, a `.keras` file, or a `.caffemodel` of the authors.

    Args:
        name_or_path: A name, or a file.
        task: `classes` or `parts`.

    Returns:
        The network, and the settings of its card.

    Raises:
        WeightsError: There is no such file, it is damaged, or it is for another task.
    """
    from . import layers  # noqa: F401  registers the layers that the file names

    path, card = _card(name_or_path, task)
    return weights.load_model(path, APP), card.settings


def card_names(name_or_path: str | Path, task: str) -> tuple[str, ...]:
    """Return the names of the classes or parts of weights, without opening them."""
    return tuple(_card(name_or_path, task)[1].settings["names"])


def checksum(name_or_path: str | Path) -> str:
    """Return the checksum of weights for classes, by which an index knows its network."""
    return _card(name_or_path, "classes")[1].sha256


def _card(name_or_path, task):
    path = weights.find(APP, name_or_path)
    card = weights.read_card(path)
    if card.settings.get("task") != task:
        raise WeightsError(
            f"{name_or_path}: these weights are for {card.settings.get('task')}, not for {task}; "
            "`convsuite weights list` shows what there is."
        )
    return path, card


def _form(settings: dict[str, Any]) -> Form:
    try:
        return Form(**settings["form"])
    except (KeyError, TypeError) as error:
        raise WeightsError(f"the card does not say how shapes become octrees ({error}).") from None


def _softmax(logits):
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


@dataclass(frozen=True)
class Answer:
    """The classes of a shape.

    Attributes:
        probabilities: `(classes,)`, of sum 1.
        names: Of the classes.
    """

    probabilities: np.ndarray
    names: tuple[str, ...]

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """Return the likeliest names and their probabilities, the likeliest first."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self.names[i], float(self.probabilities[i])) for i in order]


class Classifier:
    """Tells the class of a shape, and where it stands among others.

    Args:
        network: Of `model.lenet` or `model.resnet`.
        settings: Of its card: `names`, `form`, `votes`.
        cache: Folder of octrees; the user's unless given.
        votes: Poses to average over; as the card says unless given.
    """

    def __init__(
        self,
        network: "keras.Model",
        settings: dict[str, Any],
        *,
        cache: str | Path | None = None,
        votes: int | None = None,
    ):
        self.network, self.settings = network, settings
        self.names = tuple(settings["names"])
        self.form = _form(settings)
        self.poses = Poses(votes or settings.get("votes", _BATCH))
        self.cache = Cache(cache)
        self._reader: Reader | None = None

    @classmethod
    def from_weights(cls, name_or_path: str | Path, **options: Any) -> "Classifier":
        """Open installed weights or a file; options as of the constructor."""
        return cls(*open_network(name_or_path, "classes"), **options)

    def __call__(self, shape: Mesh | Cloud, up: Up | None = None) -> Answer:
        """Return the classes of a shape whose `up` axis points up."""
        return self.answer(data.octrees(shape, self.form, self.poses, up))

    def of_file(self, path: str | Path, up: Up | None = None) -> list[Octree]:
        """Return the octrees of a file in all poses, from the cache where they are there."""
        return self.cache.octrees(path, self.form, self.poses, up)

    def answer(self, poses: list[Octree]) -> Answer:
        """Return the classes, given the octrees of the poses."""
        return Answer(self.of_octrees(poses), self.names)

    def expect(self, shapes: Sequence[Octree]) -> None:
        """Fit the sizes of batches to shapes, where each size is compiled; else to the first."""
        self._reader = Reader(self.network, self.form, shapes, min(self.poses.count, _BATCH))

    def of_octrees(self, poses: list[Octree]) -> np.ndarray:
        """Return the mean probabilities `(classes,)` over the poses."""
        return self.look(poses)[0]

    def look(self, poses: list[Octree]) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean probabilities, and the largest of the features that stand for a shape.

        Taking the largest over the poses is what the paper does for retrieval (section 5.2).
        """
        if self._reader is None:
            self.expect(poses)
        reader = self._reader
        logits, features = [], []
        for start in range(0, len(poses), reader.batch):
            part = poses[start : start + reader.batch]
            rows = self._forward(reader(part))
            logits.append(rows[0][: len(part)])
            features.append(rows[1][: len(part)])
        probabilities = _softmax(np.concatenate(logits).astype(np.float64)).mean(axis=0)
        return probabilities, np.concatenate(features).max(axis=0)

    @cached_property
    def _forward(self):
        import keras

        embedding = self.network.get_layer(EMBEDDING).output
        both = keras.Model(self.network.input, [self.network.output, embedding])
        return backend.compiled(both)


@dataclass(frozen=True)
class Hit:
    """A shape found.

    Attributes:
        file: Its file, as named in the index.
        distance: 0 is equal.
        name: Its likeliest class.
    """

    file: str
    distance: float
    name: str


class Index:
    """Shapes that can be searched.

    Args:
        files: Their names `(shapes,)`.
        features: What stands for them `(shapes, channels)`.
        probabilities: Of their classes `(shapes, classes)`.
        names: Of the classes.
        network: Checksum of the weights it was made with.
    """

    def __init__(self, files, features, probabilities, names, network):
        self.files, self.features, self.probabilities = files, features, probabilities
        self.names, self.network = names, network

    def __len__(self) -> int:
        return len(self.files)

    def save(self, path: str | Path) -> None:
        """Write an `.npz` of plain arrays.

        Raises:
            DataError: The file cannot be written.
        """
        path = Path(path)
        part = path.with_name(f".{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                np.savez_compressed(
                    file,
                    files=np.array(self.files, np.str_),
                    features=self.features,
                    probabilities=self.probabilities,
                    names=np.array(self.names, np.str_),
                    network=np.array(self.network),
                )
            part.replace(path)
        except OSError as error:
            raise DataError(f"{path} cannot be written: {reason(error)}.") from error
        finally:
            part.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> "Index":
        """Read what `save` wrote.

        Raises:
            DataError: The file is missing, or is no index.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            files, names = arrays["files"].tolist(), arrays["names"].tolist()
            features, probabilities = arrays["features"], arrays["probabilities"]
            fits = (
                features.ndim == 2
                and len(features) == len(files)
                and probabilities.shape == (len(files), len(names))
                and np.isfinite(features).all()
                and np.isfinite(probabilities).all()
            )
            if not fits:
                raise ValueError("its arrays do not go together")
            return cls(files, features, probabilities, names, str(arrays["network"]))
        except (
            OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error
        ) as error:  # fmt: skip
            raise DataError(
                f"{path}: not an index of shapes ({reason(error)}); make one with "
                "`convsuite ocnn retrieve index FOLDER -o FILE`."
            ) from error

    def distances(
        self, features: np.ndarray, probabilities: np.ndarray, ranking: Ranking = "cosine"
    ) -> np.ndarray:
        """Return how far each shape is from a query, `(shapes,)`; infinite is not found at all.

        Args:
            features: Of the query.
            probabilities: Of the query.
            ranking: `cosine`: angle between the features, for shapes of any class. `classes`: as
                the paper ranks, the Euclidean distance of the probabilities among the shapes of
                the same likeliest class.
        """
        if ranking == "cosine":
            lengths = np.linalg.norm(self.features, axis=1) * np.linalg.norm(features)
            return 1 - self.features @ features / np.maximum(lengths, 1e-12)
        far = np.linalg.norm(self.probabilities - probabilities, axis=1)
        same = self.probabilities.argmax(axis=1) == probabilities.argmax()
        return np.where(same, far, np.inf)

    def search(
        self,
        features: np.ndarray,
        probabilities: np.ndarray,
        count: int = 8,
        ranking: Ranking = "cosine",
    ) -> list[Hit]:
        """Return the nearest shapes, the nearest first; at most 1,000, as the paper cuts."""
        far = self.distances(features, probabilities, ranking)
        order = np.argsort(far, kind="stable")[: min(count, _LONGEST_LIST)]
        likeliest = self.probabilities.argmax(axis=1)
        return [
            Hit(self.files[i], float(far[i]), self.names[likeliest[i]])
            for i in order
            if np.isfinite(far[i])
        ]


@dataclass(frozen=True)
class Parts:
    """The parts of a shape.

    Attributes:
        labels: Of each face of a mesh, or point of a cloud, int32.
        probabilities: `(faces or points, parts)`.
        weights: Areas of the faces, or ones.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    weights: np.ndarray


class Segmenter:
    """Names the parts of a shape of one class.

    Args:
        network: Of `model.segnet` or `model.unet`, that answers in the leaves.
        settings: Of its card: `names`, `form`, `votes`, perhaps `crf`.
        votes: Poses to average over; as the card says unless given.
        smooth: Whether a dense CRF smooths the answer; as the card says unless given.
    """

    def __init__(
        self,
        network: "keras.Model",
        settings: dict[str, Any],
        *,
        votes: int | None = None,
        smooth: bool | None = None,
    ):
        self.network, self.settings = network, settings
        self.parts = tuple(settings["names"])
        self.form = _form(settings)
        found = settings.get("crf")
        wanted = bool(found) if smooth is None else smooth
        self.crf = crf.CrfParameters(**(found or {})) if wanted else None
        # Poses of a network for any orientation are such, too.
        free = settings.get("free", False)
        self.poses = Poses(votes or settings.get("votes", _BATCH), free=free)
        self._reader: Reader | None = None

    @classmethod
    def from_weights(cls, name_or_path: str | Path, **options: Any) -> "Segmenter":
        """Open installed weights or a file; options as of the constructor."""
        return cls(*open_network(name_or_path, "parts"), **options)

    def __call__(self, shape: Mesh | Cloud, up: Up | None = None) -> Parts:
        """Name the parts of a shape whose `up` axis points up."""
        cloud, probabilities, tree, leaves = self._voted(shape, up)
        if self.crf is not None:
            of_leaves = _means(probabilities, leaves, len(tree.points))
            probabilities = crf.refine(of_leaves, tree.points, tree.normals, self.crf)[leaves]
        if isinstance(shape, Cloud):
            return Parts(_likeliest(probabilities), probabilities, np.ones(len(probabilities)))
        probabilities = _on_faces(shape, cloud, probabilities)
        return Parts(
            _likeliest(probabilities), probabilities, scan.areas(shape.vertices, shape.faces)
        )

    def of_leaves(self, shape: Mesh | Cloud, up: Up | None = None) -> tuple[np.ndarray, Octree]:
        """Return what is thought of the leaves, `(leaves, parts)`, before any smoothing.

        Points of a scan are many and close to each other, so that smoothing works on leaves.
        """
        _, probabilities, tree, leaves = self._voted(shape, up)
        return _means(probabilities, leaves, len(tree.points)), tree

    def _voted(self, shape, up):
        """Return the points, their parts, the first octree, and in which leaf each point lies."""
        cloud = data.centred(shape, self.form, up)
        matrices = self.poses.matrices(self.form.up)
        posed = [data.pose(cloud, matrix, self.form) for matrix in matrices]
        trees = [tree for tree, _ in posed]
        leaves = [_leaves_of(tree, points.points) for tree, points in posed]
        if self._reader is None:
            self._reader = Reader(self.network, self.form, trees, min(len(trees), _BATCH))
        answers = self._reader.predict_leaves(self._forward, trees)
        total = sum(
            _softmax(logits.astype(np.float64))[rows]
            for rows, logits in zip(leaves, answers, strict=True)
        )
        return cloud, total / len(trees), trees[0], leaves[0]

    @cached_property
    def _forward(self):
        return backend.compiled(self.network)


def _means(values: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """Return the mean of the rows of each group, 0 for none, `(count, columns)`."""
    sums = np.stack([np.bincount(groups, column, count) for column in values.T], axis=1)
    return sums / np.maximum(np.bincount(groups, minlength=count), 1)[:, None]


def _likeliest(probabilities):
    return probabilities.argmax(axis=1).astype(np.int32)


def _leaves_of(tree: Octree, points: np.ndarray) -> np.ndarray:
    """Return the number of the filled leaf around each point `(points,)`."""
    cells = octree.cells(points, tree.depth)
    return tree.locate(octree.encode(cells), np.zeros(len(points), int), tree.depth, nonempty=True)


def _on_faces(mesh: Mesh, cloud: Cloud, probabilities: np.ndarray) -> np.ndarray:
    """Return the mean over the points seen on each face; faces unseen ask the nearest seen one."""
    from scipy.spatial import cKDTree

    result = _means(probabilities, cloud.faces, len(mesh.faces))
    seen = np.bincount(cloud.faces, minlength=len(mesh.faces)) > 0
    if not seen.all():
        centres = mesh.vertices[mesh.faces].mean(axis=1)
        _, nearest = cKDTree(centres[seen]).query(centres[~seen])
        result[~seen] = result[seen][nearest]
    return result

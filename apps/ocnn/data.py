"""From files to batches: folders of classes, octrees of every pose (cached), batches of both.

A folder is `DIR/<class>/{train,test}/*`, as ModelNet40 has it, or `DIR/<class>/*`, of which a share
is held out.
"""

import contextlib
import dataclasses
import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import platformdirs

from shared import backend, folders
from shared.console import to_json
from shared.errors import DataError, reason

from . import inputs, meshes, octree, scan
from .meshes import Cloud, Mesh
from .octree import Octree
from .scan import Preset, Up

_FORMAT = 1
"""Raised when the same file would give other octrees, so that old caches are not used."""


@dataclass(frozen=True)
class Poses:
    """In which poses a shape is shown, and how they are varied for a training.

    The first pose is always the shape as it is.

    Attributes:
        count: Turns about the up axis, evenly spaced.
        stretch: Each axis is scaled by 1 - stretch to 1 + stretch.
        tilt: Degrees by which the up axis leans at most; turns are then uneven, too.
        mirror: Mirror every second pose.
        free: Any orientation instead of turns about the up axis.
        seed: Of all that is random.
    """

    count: int = 12
    stretch: float = 0.0
    tilt: float = 0.0
    mirror: bool = False
    free: bool = False
    seed: int = 0

    def matrices(self, up: Up) -> list[np.ndarray]:
        """Return the matrix `(3, 3)` of each pose."""
        from scipy.spatial.transform import Rotation

        rng = np.random.default_rng(self.seed)
        step = 360 / self.count
        result = [np.eye(3)]
        for number in range(1, self.count):
            jitter = rng.uniform(-0.5, 0.5) * step if self.tilt else 0.0
            lean = Rotation.from_euler("xyz", rng.uniform(-self.tilt, self.tilt, 3), degrees=True)
            turn = lean.as_matrix() @ scan.rotation(number * step + jitter, up)
            scales = rng.uniform(1 - self.stretch, 1 + self.stretch, 3)
            if self.mirror and number % 2:
                scales[0] = -scales[0]
            if self.free:
                turn = Rotation.random(rng=rng).as_matrix()
            result.append(turn @ np.diag(scales))
        return result


@dataclass(frozen=True)
class Form:
    """How a shape becomes the octrees that a network reads.

    Attributes:
        depth: Level of the leaves.
        preset: See `scan.normalise`.
        up: The axis that the network takes for up.
        features: Input features, see `octree.Octree.input_features`.
        nonempty: As the network was built, see `model`.
    """

    depth: int = 5
    preset: Preset = "paper"
    up: Up = "z"
    features: str = "N"
    nonempty: bool = False

    @property
    def channels(self) -> int:
        """Channels of the input features."""
        return sum({"N": 3, "D": 1, "L": 3, "P": 3}[kind] for kind in self.features)


def centred(shape: Mesh | Cloud, form: Form, up: Up | None = None) -> Cloud:
    """Return a shape as an oriented cloud in the unit sphere, before any pose.

    Args:
        shape: What to look at.
        form: As which it shall be seen.
        up: The axis that points up in it; that of the form unless given.

    Raises:
        DataError: It has no surface.
    """
    cloud = scan.as_cloud(shape, scan.resolution(form.depth))
    return scan.centred(scan.upright(cloud, up or form.up, form.up))


def pose(cloud: Cloud, matrix: np.ndarray, form: Form) -> tuple[Octree, Cloud]:
    """Return the octree of a centred cloud in one pose, and the points it was built of."""
    cloud = scan.normalise(scan.transformed(cloud, matrix), form.preset, form.depth)
    return octree.build(cloud.points, cloud.normals, form.depth, cloud.labels), cloud


def octrees(
    shape: Mesh | Cloud, form: Form, poses: Poses | None = None, up: Up | None = None
) -> list[Octree]:
    """Return the octrees of all poses of a shape; arguments as of `centred`."""
    cloud = centred(shape, form, up)
    return [pose(cloud, matrix, form)[0] for matrix in (poses or Poses()).matrices(form.up)]


class Cache:
    """Octrees of files that were seen before: scanning takes longer than the network.

    Args:
        folder: Where they lie; that of the user's cache unless given.
    """

    def __init__(self, folder: str | Path | None = None):
        self.folder = Path(folder or platformdirs.user_cache_path("convsuite") / "ocnn")

    def target(self, content: bytes, form: Form, poses: Poses, up: Up | None) -> Path:
        """Return where the octrees of a file of this content lie, or will."""
        settings = {
            "format": _FORMAT,
            "depth": form.depth,
            "preset": form.preset,
            "up": [up or form.up, form.up],
            **dataclasses.asdict(poses),
        }
        digest = hashlib.sha256(to_json(settings).encode() + b"\0" + content).hexdigest()
        return self.folder / digest[:2] / f"{digest[2:34]}.npz"

    def octrees(
        self, path: str | Path, form: Form, poses: Poses | None = None, up: Up | None = None
    ) -> list[Octree]:
        """Return the octrees of all poses of a file; arguments as of `centred`.

        Raises:
            DataError: The file is no mesh or cloud with a surface.
        """
        poses = poses or Poses()
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise DataError(f"{path}: {reason(error)}.") from error
        target = self.target(content, form, poses, up)
        if target.exists():
            try:
                return octree.load(target)
            except DataError:
                target.unlink(missing_ok=True)  # from a full disk, perhaps; made again
        found = octrees(meshes.read(path), form, poses, up)
        # A folder that cannot be written costs time, not answers.
        with contextlib.suppress(OSError, DataError):
            target.parent.mkdir(parents=True, exist_ok=True)
            octree.save(found, target)
        return found


@dataclass(frozen=True)
class Dataset:
    """Files and their classes.

    Attributes:
        classes: Names, sorted.
        train: Files to learn from.
        train_labels: Their classes, int32.
        test: Held-out files.
        test_labels: Their classes, int32.
    """

    classes: tuple[str, ...]
    train: tuple[Path, ...]
    train_labels: np.ndarray
    test: tuple[Path, ...]
    test_labels: np.ndarray


def find(folder: str | Path, test_share: float = 0.25, seed: int = 0) -> Dataset:
    """Find the shapes of a folder.

    Args:
        folder: `DIR/<class>/{train,test}/*` or `DIR/<class>/*`.
        test_share: Held out of each class in the second form.
        seed: Of that choice.

    Raises:
        DataError: The folder does not have this form, or a part of it is empty.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of classes.")
    classes, train, test = [], [], []
    for place in sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] != "."):
        learned, held_out = split(place, test_share, seed + len(classes))
        if learned:
            train += [(file, len(classes)) for file in learned]
            test += [(file, len(classes)) for file in held_out]
            classes.append(place.name)
    if len(classes) < 2 or not test:
        raise DataError(
            f"{folder}: needs two folders of classes or more, each with meshes, or with meshes in "
            f"train and test; found {len(classes)} of them with {len(test)} test meshes."
        )
    return Dataset(tuple(classes), *_columns(train), *_columns(test))


def split(folder: Path, test_share: float, seed: int) -> tuple[list[Path], list[Path]]:
    """Return the training and the test files of one class: of `train` and `test`, or chosen."""
    parts = _shapes(folder / "train"), _shapes(folder / "test")
    if any(parts):
        return parts
    files = _shapes(folder)
    order = np.random.default_rng(seed).permutation(len(files))
    count = round(test_share * len(files))
    held_out = {files[number] for number in order[:count]}
    return [file for file in files if file not in held_out], sorted(held_out)


def _columns(entries):
    return tuple(file for file, _ in entries), np.array([label for _, label in entries], np.int32)


def _shapes(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    files = (file for file in folder.iterdir() if file.is_file() and file.name[0] != ".")
    # Beside a mesh may lie arrays that belong to it.
    return sorted(
        file
        for file in files
        if file.suffix.lower() in meshes.READABLE and not file.stem.endswith("_human")
    )


class Prepared(NamedTuple):
    """Files with their octrees, and what could not be read."""

    files: list[Path]
    octrees: list[list[Octree]]
    failures: list[folders.Failure]


class _Preparation:
    """Gathers the octrees of files, for `shared.folders`."""

    def __init__(self, cache: Cache, form: Form, poses: Poses, up: Up | None):
        self._cache, self._arguments = cache, (form, poses, up)
        self.found: dict[Path, list[Octree]] = {}

    def read(self, path: Path) -> tuple[Path, list[Octree]]:
        return path, self._cache.octrees(path, *self._arguments)

    def apply(self, item: tuple[Path, list[Octree]]) -> tuple[Path, list[Octree]]:
        return item

    def write(self, item: tuple[Path, list[Octree]], target: Path) -> None:
        path, self.found[path] = item


def prepare(
    files: Sequence[Path],
    form: Form,
    poses: Poses,
    *,
    up: Up | None = None,
    cache: str | Path | None = None,
    quiet: bool = False,
) -> Prepared:
    """Return the octrees of many files, those of the cache, or made and put there.

    Args:
        files: Meshes or clouds.
        form: As which they shall be seen.
        poses: In which poses.
        up: The axis that points up in the files; that of the form unless given.
        cache: Folder of the cache; the user's unless given.
        quiet: Show no progress.

    Raises:
        DataError: None of them can be read.
    """
    work = _Preparation(Cache(cache), form, poses, up)
    with tempfile.TemporaryDirectory() as nothing:
        out = Path(nothing)
        jobs = [folders.Job(file, out / str(number)) for number, file in enumerate(files)]
        summary = folders.process(jobs, lambda: work, out=out, quiet=quiet)
    if summary.interrupted:
        raise KeyboardInterrupt
    if files and not work.found:
        first = summary.failures[0]
        raise DataError(f"none of {len(files)} files can be read; {first.source}: {first.reason}")
    good = [file for file in files if file in work.found]
    return Prepared(good, [work.found[file] for file in good], summary.failures)


def fingerprint(shape: Octree) -> bytes:
    """Return a digest of which leaves are filled: near-duplicates have the same."""
    return hashlib.sha256(shape.keys[-1][shape.nonempty[-1]].tobytes()).digest()


class Reader:
    """Makes the inputs of a network from octrees, of few sizes where each size is compiled.

    Args:
        network: Built by `model`.
        form: As which shapes are seen.
        samples: Octrees to estimate sizes from.
        batch: Shapes at once.
    """

    def __init__(self, network: Any, form: Form, samples: Sequence[Octree], batch: int):
        self.batch = batch
        self._names = list(network.input)
        self._form = form
        self._capacities = _capacities(samples, batch) if backend.compiles_each_size() else []

    def __call__(self, shapes: Sequence[Octree]) -> dict[str, np.ndarray]:
        """Return the inputs for at most `batch` shapes; missing ones repeat the first."""
        # Labelled and unlabelled shapes go together where labels are not wanted.
        merged = self._merge([dataclasses.replace(shape, labels=None) for shape in shapes])
        return self._arrays(merged, self._capacity(merged))

    def with_labels(self, shapes: Sequence[Octree]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return the inputs for exactly `batch` shapes, and the labels of their leaves."""
        merged = self._merge(shapes)
        capacity = self._capacity(merged)
        labels = merged.labels
        if capacity is not None:
            labels = np.pad(labels, (0, capacity[-1] // 8 - len(labels)), constant_values=-1)
        return self._arrays(merged, capacity), labels

    def predict(self, forward: Callable[..., np.ndarray], shapes: Sequence[Octree]) -> np.ndarray:
        """Return one row of a classification network per shape, `(shapes, classes)`."""
        rows = []
        for start in range(0, len(shapes), self.batch):
            part = shapes[start : start + self.batch]
            rows.append(forward(self(part))[: len(part)])
        return np.concatenate(rows)

    def predict_leaves(
        self, forward: Callable[..., np.ndarray], shapes: Sequence[Octree]
    ) -> list[np.ndarray]:
        """Return what a segmentation network says of each shape's leaves, `(leaves, parts)`."""
        result = []
        for start in range(0, len(shapes), self.batch):
            part = shapes[start : start + self.batch]
            rows = forward(self(part))
            ends = np.cumsum([len(shape.points) for shape in part])
            result += np.split(rows, ends)[: len(part)]
        return result

    def _merge(self, shapes):
        if self._capacities:
            shapes = [*shapes, *[shapes[0]] * (self.batch - len(shapes))]
        return octree.merge(shapes)

    def _capacity(self, merged):
        sizes = _sizes(merged)
        for capacity in self._capacities:
            if all(size <= most for size, most in zip(sizes, capacity, strict=True)):
                return capacity
        if self._capacities:
            # A batch larger than all samples: room for more of them, too.
            room = [_rounded(1.25 * size) for size in sizes]
            self._capacities.append(np.maximum(room, self._capacities[-1]).tolist())
            return self._capacities[-1]
        return None

    def _arrays(self, merged, capacity):
        return inputs.arrays(
            merged,
            self._names,
            nonempty=self._form.nonempty,
            features=self._form.features,
            capacity=capacity,
        )


def _sizes(shape: Octree) -> np.ndarray:
    """Return the nodes of each level, and eight for each leaf that contains points."""
    return np.array([*map(len, shape.keys), 8 * len(shape.points)])


def _capacities(samples: Sequence[Octree], batch: int) -> list[list[int]]:
    """Return sizes that most batches fit into, and sizes that all batches of the samples do."""
    counts = np.stack([_sizes(sample) for sample in samples])
    usual = batch * counts.mean(axis=0) + 2 * np.sqrt(batch) * counts.std(axis=0)
    largest = np.sort(counts, axis=0)[-1] * batch
    return [[_rounded(size) for size in sizes] for sizes in (usual, largest)]


def _rounded(size: float) -> int:
    """Round up to a multiple of 8, and to three digits in binary, so that sizes repeat."""
    step = max(8, 2 ** int(np.log2(max(size, 1))) // 8)
    return int(-(-size // step) * step)

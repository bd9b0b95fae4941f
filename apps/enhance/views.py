"""Views of training pairs, reduced to what the loss needs: a thumbnail and some pixels.

Slicing is pointwise, so a few thousand random pixels give an unbiased loss whatever the size of the
picture, and a pair of 24 megapixels costs as much as a small one. The multi-scale network needs the
surroundings of a pixel too: small patches on three levels of a pyramid.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from .pairs import Maker
from .thumbnail import SIZE, thumbnail

PATCH = 16
"""Side of a full-resolution patch; a multiple of 4."""
NOISY = "noisy_thumbnail"
"""Name of the input for a second thumbnail, with noise."""
NOISE = 4 / 255
"""Standard deviation of that noise: a sensor in poor light."""
_WHITE = 65535.0


@dataclass(frozen=True)
class PointSampler:
    """Random pixels, for the single-scale network."""

    kept: int = 12_000
    """Pixels kept per view."""
    used: int = 2048
    """Pixels of a view in one training step."""

    def shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Return shape and type of what is kept of one view."""
        return {
            "positions": ((self.kept, 2), "float32"),
            "colours": ((self.kept, 3), "uint16"),
            "targets": ((self.kept, 3), "uint16"),
        }

    def sample(self, before, after, rng) -> dict[str, np.ndarray]:
        """Pick pixels of a view."""
        height, width = before.shape[:2]
        y, x = rng.integers(height, size=self.kept), rng.integers(width, size=self.kept)
        return {
            "positions": np.stack([(x + 0.5) / width, (y + 0.5) / height], axis=-1),
            "colours": before[y, x],
            "targets": after[y, x],
        }


@dataclass(frozen=True)
class PatchSampler:
    """Random patches on three levels of a Gaussian pyramid, for the multi-scale network.

    A patch of 16 x 16 pixels needs 10 x 10 pixels of the half and 6 x 6 of the quarter resolution,
    one pixel around it for the bilinear upsampling. Beyond the border, pixels repeat.
    """

    kept: int = 48
    used: int = 12

    def shapes(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Return shape and type of what is kept of one view."""
        shapes = {"targets": ((self.kept, PATCH, PATCH, 3), "uint16")}
        for level, side in enumerate(patch_sides()):
            shapes[f"positions{level}"] = ((self.kept, side, side, 2), "float32")
            shapes[f"colours{level}"] = ((self.kept, side, side, 3), "uint16")
        return shapes

    def sample(self, before, after, rng) -> dict[str, np.ndarray]:
        """Pick patches of a view, after cropping it to multiples of 4 pixels."""
        height, width = (max(PATCH, side // 4 * 4) for side in before.shape[:2])
        before, after = (
            cv2.copyMakeBorder(
                image[:height, :width],
                0,
                max(0, height - image.shape[0]),
                0,
                max(0, width - image.shape[1]),
                cv2.BORDER_REPLICATE,
            )
            for image in (before, after)
        )
        top = 4 * rng.integers((height - PATCH) // 4 + 1, size=self.kept)
        left = 4 * rng.integers((width - PATCH) // 4 + 1, size=self.kept)
        kept = {}
        level = before
        for i, side in enumerate(patch_sides()):
            rows, columns = level.shape[:2]
            ring = (side - PATCH // 2**i) // 2
            y = np.clip(np.add.outer(top // 2**i - ring, np.arange(side)), 0, rows - 1)
            x = np.clip(np.add.outer(left // 2**i - ring, np.arange(side)), 0, columns - 1)
            y, x = np.broadcast_arrays(y[:, :, None], x[:, None, :])
            kept[f"positions{i}"] = np.stack([(x + 0.5) / columns, (y + 0.5) / rows], axis=-1)
            kept[f"colours{i}"] = level[y, x]
            if i == 0:
                kept["targets"] = after[y, x]
            level = cv2.resize(level, (columns // 2, rows // 2), interpolation=cv2.INTER_AREA)
        return kept


def patch_sides() -> tuple[int, int, int]:
    """Return the sides of a patch at full, half and quarter resolution: 16, 10, 6."""
    return PATCH, PATCH // 2 + 2, PATCH // 4 + 2


@dataclass
class Views:
    """Many views, with colours as 16-bit integers."""

    sampler: PointSampler | PatchSampler
    arrays: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.arrays["thumbnail"])

    def batch(self, chosen: np.ndarray, first: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return the network's inputs and the wanted colours.

        Args:
            chosen: numbers of views.
            first: number of the first sample of each; `sampler.used` follow.
        """
        inputs = {}
        for name, values in self.arrays.items():
            part = values[chosen]
            if name != "thumbnail":
                part = part[:, first : first + self.sampler.used]
            inputs[name] = part.astype("float32") / (_WHITE if part.dtype == np.uint16 else 1)
        return inputs, inputs.pop("targets")

    def random_batch(
        self, size: int, seed: int, step: int, *, noisy: bool = False
    ) -> tuple[dict, np.ndarray]:
        """Return the batch of a training step; the same for the same seed and step.

        Args:
            size: views.
            seed: of the training.
            step: number of the step.
            noisy: add the input `NOISY`, the thumbnails with fresh noise; the rest stays the same.
        """
        rng = np.random.default_rng([seed, step])
        chosen = rng.choice(len(self), size, replace=len(self) < size)
        first = int(rng.integers(self.sampler.kept - self.sampler.used + 1))
        inputs, targets = self.batch(chosen, first)
        if noisy:
            small = inputs["thumbnail"]
            noise = rng.standard_normal(small.shape, "float32")
            inputs[NOISY] = small + np.float32(NOISE) * noise
        return inputs, targets


def view_bytes(sampler: PointSampler | PatchSampler) -> int:
    """Return the memory one view takes."""
    return sum(
        np.prod(shape) * np.dtype(kind).itemsize for shape, kind in _shapes(sampler).values()
    )


def collect(
    sources: Sequence[Callable[[], Maker]],
    count: int,
    seed: int,
    sampler: PointSampler | PatchSampler,
    *,
    folder: Path | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Views:
    """Make `count` views, spread evenly over the sources.

    Args:
        sources: each opens one picture or pair; it is read once for all its views.
        count: views in all.
        seed: view k is the same for the same seed.
        sampler: what is kept of a view.
        folder: for memory-mapped arrays; without it the views stay in memory.
        progress: called with the number of views made.
    """
    arrays = {
        name: _allocate((count, *shape), kind, folder and folder / f"{name}.npy")
        for name, (shape, kind) in _shapes(sampler).items()
    }
    done = 0
    for number, open_source in enumerate(sources):
        mine = range(number, count, len(sources))
        if not mine:
            break
        make = open_source()
        for k in mine:
            rng = np.random.default_rng([seed, k])
            before, after = make(rng)
            kept = {"thumbnail": thumbnail(before), **sampler.sample(before, after, rng)}
            for name, values in kept.items():
                is_colour = arrays[name].dtype == np.uint16
                arrays[name][k] = _encode(values) if is_colour else values
            done += 1
            progress(done)
    return Views(sampler, arrays)


def _shapes(sampler):
    return {"thumbnail": ((SIZE, SIZE, 3), "uint16"), **sampler.shapes()}


def _encode(colours):
    return np.round(np.clip(colours, 0, 1) * _WHITE)


def _allocate(shape, kind, path):
    if path is None:
        return np.empty(shape, kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    return np.lib.format.open_memmap(path, "w+", kind, shape)

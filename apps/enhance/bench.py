"""Speed and quality beside peers, each table measured in one run.

Times are CPU milliseconds of one thread unless they say otherwise: what the work costs whatever
else the machine does, so ratios carry over from machine to machine where times do not.
"""

import dataclasses
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import psutil
from PIL import Image

from shared import assets, images, metrics, video
from shared.console import progress
from shared.errors import DataError, DependencyError
from shared.layers.bilateral_numba import slice_apply

from . import ladder as ladders
from . import operators, pairs, peers
from .enhancer import Enhancer, open_look
from .ladder import Rung, ladder
from .lut import apply_lut, make_look
from .material import Material
from .tables import fit_table
from .thumbnail import thumbnail
from .views import PointSampler, collect

SIZES = {"1280x720": (720, 1280), "1920x1080": (1080, 1920), "4000x3000": (3000, 4000)}
PAIR_SETS = ("fivek", "sice_under", "lol_thumbs", "underwater")
_NOISE = 4.0
_BLOCK = 20


def sample_photos() -> list[np.ndarray]:
    """Return the sample photographs that ship with convsuite, uint8."""
    return [images.load(path).pixels for path in sorted(assets.samples_dir().glob("*.jpg"))]


def picture_of_size(height: int, width: int) -> np.ndarray:
    """Return a sample photograph enlarged to a size, with fresh fine grain, uint8."""
    photo = cv2.resize(sample_photos()[0], (width, height), interpolation=cv2.INTER_CUBIC)
    grain = np.random.default_rng(0).integers(-4, 5, photo.shape, "int16")
    return np.clip(photo + grain, 0, 255).astype("uint8")


def speed(look: str = "clahe") -> list[dict]:
    """Time the parts of `run` beside peers.

    Returns:
        One row per method with CPU milliseconds of one thread at each of `SIZES`.
    """
    try:
        from pillow_lut import identity_table
    except ImportError:
        raise DependencyError("The speed table needs pillow-lut: pip install pillow-lut.") from None
    enhancer = _network(look, workers=1)
    pillow_table, our_table = identity_table(33), make_look("warm", 33)
    rows: dict[str, dict] = {}
    cv2.setNumThreads(1)
    try:
        for size, (height, width) in SIZES.items():
            picture = picture_of_size(height, width)
            for name, method, repeats in _methods(enhancer, picture, pillow_table, our_table):
                rows.setdefault(name, {"method": name})[size] = cpu_milliseconds(method, repeats)
    finally:
        cv2.setNumThreads(-1)
    return list(rows.values())


def _methods(enhancer, picture, pillow_table, our_table):
    """Yield (name, function, repeats) of everything the speed table compares."""
    floats, pillow = images.to_float(picture), Image.fromarray(picture)
    small, grid, guide = thumbnail(picture), enhancer.coefficients(picture), enhancer.guides[0]
    plain_guide = guide(floats)
    yield (
        "guide + slice + apply, numba, uint8",
        partial(slice_apply, grid, guide, picture, workers=1),
        5,
    )
    yield "the same, float32", partial(slice_apply, grid, guide, floats, workers=1), 5
    yield "slice + apply by keras.ops gathers", partial(_by_gathers, grid, plain_guide, floats), 1
    yield "thumbnail", partial(thumbnail, picture), 5
    yield "coefficient network", partial(enhancer.coefficients, (small * 255).astype("uint8")), 5
    yield "Pillow, 33^3 table", partial(pillow.filter, pillow_table), 5
    yield "ours, 33^3 table", partial(apply_lut, picture, our_table, workers=1), 5
    yield "OpenCV CLAHE", partial(operators.clahe, floats), 3
    yield "local Laplacian (ours)", partial(operators.OPERATORS["detail"], floats), 1
    yield "cv2.detailEnhance", partial(cv2.detailEnhance, picture, sigma_s=10, sigma_r=0.15), 1


def _by_gathers(grid, guide, image, rows=256):
    """Slice and apply with `keras.ops`, in chunks of rows so that memory stays bounded."""
    from keras import ops

    from shared.layers.bilateral import bilateral_slice_apply_points, pixel_positions

    height, width = guide.shape
    positions = ops.reshape(pixel_positions(height, width), (height, width, 2))
    out = np.empty_like(image)
    for first in range(0, height, rows):
        part = slice(first, first + rows)
        found = bilateral_slice_apply_points(
            grid[None],
            guide[part].reshape(1, -1),
            ops.reshape(positions[part], (1, -1, 2)),
            image[part].reshape(1, -1, 3),
        )
        out[part] = ops.convert_to_numpy(found).reshape(out[part].shape)
    return out


def cpu_milliseconds(function: Callable, repeats: int) -> float:
    """Return the least process time of some calls after a warm-up."""
    if repeats > 1:
        function()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return 1000 * min(times)


def whole_run(look: str = "clahe", megapixels: float = 24) -> dict[str, float]:
    """Time decoding, enhancing and encoding of one large JPEG, and measure its memory.

    Returns:
        Milliseconds of the stages on all cores (wall time), CPU milliseconds of `enhance`, and the
        peak memory beyond input and output in MB.
    """
    enhancer = _network(look)
    enhancer(picture_of_size(720, 1280))  # compiles
    height = round((megapixels * 1e6 * 2 / 3) ** 0.5)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.jpg"), Path(folder, "out.jpg")
        images.write(source, picture_of_size(height, round(1.5 * height)))
        with _Memory() as memory:
            picture, decode, _ = _timed(lambda: images.load(source))
            after, enhance, cpu = _timed(lambda: enhancer(picture.pixels))
            result = dataclasses.replace(picture, pixels=after)
            _, encode, _ = _timed(lambda: images.save(result, target))
            extra = memory.peak() - picture.pixels.nbytes - after.nbytes
    return {
        "decode": decode,
        "enhance": enhance,
        "encode": encode,
        "enhance, CPU": cpu,
        "extra MB": extra / 2**20,
    }


def _timed(function: Callable):
    """Return what a function returns, and its wall and CPU milliseconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    return result, 1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - cpu)


class _Memory:
    """Samples this process's resident memory on a thread; `peak` is relative to the start."""

    def __enter__(self):
        self._process = psutil.Process()
        self._start = self._highest = self._process.memory_info().rss
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _sample(self):
        while not self._stop.wait(0.005):
            self._highest = max(self._highest, self._process.memory_info().rss)

    def peak(self) -> int:
        return self._highest - self._start


def video_speed(look: str = "clahe", frames: int = 300, size=(720, 1280)) -> dict[str, float]:
    """Enhance a generated clip of a panning photograph.

    Returns:
        Frames per second (wall time) of the frame function: alone, and while decoding and encoding
        share the cores with it.
    """
    enhancer = _network(look)
    photo = picture_of_size(size[0], 2 * size[1])
    lefts = [i * size[1] // frames for i in range(frames)]
    clip = [np.ascontiguousarray(photo[:, left : left + size[1]]) for left in lefts]
    stream = enhancer.stream(30)
    start = time.perf_counter()
    for frame in clip:
        stream(frame)
    alone = frames / (time.perf_counter() - start)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "frames")
        source.mkdir()
        for i, frame in enumerate(clip):
            images.write(source / f"{i:04}.png", frame)
        summary = video.transform(source, Path(folder, "out.mp4"), enhancer.stream, quiet=True)
    return {
        "frames": summary.frames,
        "frames/s alone": alone,
        "frames/s beside the codec": summary.fps_apply,
    }


def flicker(look: str = "clahe", frames: int = 20, photos: int = 4) -> list[dict]:
    """Measure how much still pictures with fresh noise in every frame flicker under a look.

    Returns:
        Rows with the mean frame-to-frame change of the means of blocks of 20 x 20 pixels, in
        levels: of the input, unsmoothed, and smoothed; for noise of 4 levels, and for random gains
        of 2 % per frame.
    """
    rows = []
    for disturbance in ("noise, sigma 4", "gain, +-2 %"):
        sums = {"input": [], "unsmoothed": [], "smoothed": []}
        for number, photo in enumerate(sample_photos()[:photos]):
            rng = np.random.default_rng(number)
            clip = [_disturbed(photo, disturbance, rng) for _ in range(frames)]
            streams = {
                "unsmoothed": _network(look, smooth="off").stream(30),
                "smoothed": _network(look, smooth=0.3).stream(30),
                "auto": _network(look).stream(30),
            }
            sums["input"].append(_block_change(clip))
            for name, stream in streams.items():
                sums.setdefault(name, []).append(_block_change([stream(frame) for frame in clip]))
        means = {name: statistics.fmean(values) for name, values in sums.items()}
        rows.append({"disturbance": disturbance, **means})
    return rows


def _disturbed(photo, disturbance, rng):
    if disturbance.startswith("noise"):
        changed = photo + rng.normal(0, _NOISE, photo.shape)
    else:
        changed = photo * rng.uniform(0.98, 1.02)
    return np.clip(np.round(changed), 0, 255).astype("uint8")


def _block_change(frames: Sequence[np.ndarray]) -> float:
    height, width = (side // _BLOCK for side in frames[0].shape[:2])
    means = [
        frame[: height * _BLOCK, : width * _BLOCK]
        .reshape(height, _BLOCK, width, _BLOCK, 3)
        .mean(axis=(1, 3))
        for frame in frames
    ]
    return float(np.mean([np.abs(b - a).mean() for a, b in pairwise(means)]))


def controls(look: str, material: Material) -> list[Rung]:
    """Measure a look beside itself with its grid spoilt: what does the grid's structure carry?"""
    enhancer = _network(look)

    def with_grid(change):
        def method(before, wanted):
            return slice_apply(change(enhancer.coefficients(before)), enhancer.guides[0], before)

        return method

    return ladder(
        material.tests,
        {
            "identity": lambda before, wanted: before,
            "per-image LUT oracle": ladders.lut_oracle,
            "network": lambda before, wanted: enhancer(before),
            "grid: spatial mean": with_grid(
                lambda g: np.broadcast_to(g.mean((0, 1), keepdims=True), g.shape)
            ),
            "grid: mean over depth": with_grid(
                lambda g: np.broadcast_to(g.mean(2, keepdims=True), g.shape)
            ),
            "grid: x and y swapped": with_grid(lambda g: g.swapaxes(0, 1)),
        },
    )


def pair_sets(data: Path, look: str = "auto") -> list[dict]:
    """Compare a look with simple means and published networks on pairs made by others.

    Args:
        data: holds the folders of pairs `enhance/…`, and `enhance_weights` for `peers`.
        look: of ours, as it is.

    Returns:
        One row per set of `PAIR_SETS`: its name, its size, and each method's mean PSNR in dB.
    """
    weights = data / "enhance_weights"
    methods = {
        "identity": lambda before: before,
        "auto-contrast": operators.autocontrast,
        "mean gamma": operators.mean_gamma,
        "adaptive 3D LUT": peers.adaptive_table(weights),
        "Zero-DCE": peers.zero_dce(weights),
        f"look {look}": open_look(look),
    }
    rows = []
    for name in PAIR_SETS:
        scores = {method: [] for method in methods}
        found = pairs.find_pairs(data / "enhance" / name)
        for before, wanted in map(pairs.read_pair, found):
            for method, enhance in methods.items():
                scores[method].append(metrics.psnr(enhance(before), wanted))
        means = {method: statistics.fmean(values) for method, values in scores.items()}
        rows.append({"set": name, "pairs": len(found), **means})
    return rows


def leave_one_out(
    folder: Path,
    *,
    pretrained: str | None = None,
    steps: int = 150,
    seed: int = 0,
    quiet: bool = False,
) -> list[Rung]:
    """Compare means of learning a look from few pairs; each pair is tested by the others' look.

    Args:
        folder: pairs.
        pretrained: a look to measure as it is, and after `steps` of training on the other pairs.
        steps: 0 leaves the fine-tuning out.
        seed: of the training.
        quiet: no progress.

    Returns:
        Identity, auto-contrast, mean gamma, a table, auto-contrast and a table, and the networks.
    """
    found = pairs.find_pairs(folder)
    if len(found) < 2:
        raise DataError(f"{folder} holds one pair; leaving one out needs two or more.")
    methods: dict[str, list[Rung]] = {}
    with progress("leave one out", len(found), unit="pairs", quiet=quiet) as advance:
        for number, held in enumerate(found):
            others = [pair for pair in found if pair != held]
            tried = _fitted(others, pretrained, steps, seed)
            for rung in ladder([partial(pairs.read_pair, held)], tried):
                methods.setdefault(rung.method, []).append(rung)
            advance(number + 1)
    return [_mean(rungs) for rungs in methods.values()]


def _fitted(others, pretrained, steps, seed):
    """Return the methods of `leave_one_out`, fitted to all pairs but one."""
    makers = [partial(pairs.pair_views, pair) for pair in others]
    count = len(makers)
    table = fit_table(collect(makers, 8 * count, seed, PointSampler()), count)
    stretched = [partial(pairs.stretched, maker) for maker in makers]
    after_contrast = fit_table(collect(stretched, 8 * count, seed, PointSampler()), count)
    methods = {
        "identity": lambda before, wanted: before,
        "auto-contrast": lambda before, wanted: operators.autocontrast(before),
        "mean gamma": lambda before, wanted: operators.mean_gamma(before),
        "table": lambda before, wanted: apply_lut(before, table),
        "auto-contrast + table": lambda before, wanted: apply_lut(
            operators.autocontrast(before), after_contrast
        ),
    }
    if pretrained:
        look = open_look(pretrained)
        methods[f"{pretrained}, as it is"] = lambda before, wanted: look(before)
        if steps and isinstance(look, Enhancer):
            from .train import fine_tune

            tuned = fine_tune(look, makers, steps=steps, seed=seed)
            after = fine_tune(look, stretched, steps=steps, seed=seed)
            methods[f"{pretrained}, fine-tuned"] = lambda before, wanted: tuned(before)
            methods[f"auto-contrast + {pretrained}, fine-tuned"] = lambda before, wanted: after(
                operators.autocontrast(before)
            )
    return methods


def _mean(rungs):
    psnrs = [rung.psnr for rung in rungs]
    return Rung(
        rungs[0].method,
        statistics.fmean(psnrs),
        float(np.std(psnrs, ddof=1)) / len(psnrs) ** 0.5,
        statistics.fmean(rung.ssim for rung in rungs),
        statistics.fmean(rung.colour_difference for rung in rungs),
        len(rungs),
    )


def _network(look: str, **options) -> Enhancer:
    opened = open_look(look, **options)
    if not isinstance(opened, Enhancer):
        raise DataError(f"{look} is a colour table; this measurement needs a network.")
    return opened

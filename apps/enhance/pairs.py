"""Training material: folders of before/after pairs, and makers of random views of them."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from shared import images
from shared.errors import DataError

from .lut import apply_lut, read_cube
from .operators import OPERATORS, SPOILERS, autocontrast, encode_log, expose

Maker = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]
"""Makes the input and target of one random view, float32 `(height, width, 3)`, 0..1."""


@dataclass(frozen=True)
class Pair:
    """The files of one picture before and after."""

    before: Path
    after: Path


def find_pairs(folder: Path) -> list[Pair]:
    """List the pairs of a folder, sorted by name.

    Args:
        folder: holds `input/` and `target/` (or `output/`) with the same file stems, or files
            named `*_before.*` and `*_after.*`.

    Raises:
        DataError: no pairs, or a picture without partner.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder: name one that holds input/ and target/.")
    targets = [folder / name for name in ("target", "output") if (folder / name).is_dir()]
    if (folder / "input").is_dir() and targets:
        before, after = (
            {_stem(path, part): path for path in _pictures(part)}
            for part in (folder / "input", targets[0])
        )
    else:
        before, after = (
            {
                _stem(path, folder).removesuffix(suffix): path
                for path in _pictures(folder)
                if path.stem.endswith(suffix)
            }
            for suffix in ("_before", "_after")
        )
    if not before and not after:
        raise DataError(
            f"{folder} holds no pairs: put pictures of the same names into input/ and target/, "
            "or name them *_before.* and *_after.*."
        )
    lonely = sorted(before.keys() ^ after.keys())
    if lonely:
        path = before.get(lonely[0]) or after[lonely[0]]
        more = f" ({len(lonely) - 1} more like it)" if len(lonely) > 1 else ""
        raise DataError(f"{path} has no partner{more}: add it or take the picture out.")
    return [Pair(before[stem], after[stem]) for stem in sorted(before)]


def _stem(path, folder):
    return path.relative_to(folder).with_suffix("").as_posix()


def find_photos(folder: Path) -> list[Path]:
    """List the pictures of a folder and its sub-folders, sorted.

    Raises:
        DataError: there are none.
    """
    photos = _pictures(folder)
    if not photos:
        raise DataError(f"{folder} holds no pictures.")
    return photos


def _pictures(folder):
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in images.READABLE
        and not path.name.startswith(".")
        and path.is_file()
    ]


def read_pair(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Read a pair; where the sizes differ at the same aspect ratio, the larger is reduced by area.

    Returns:
        Two float32 `(height, width, 3)` pictures of one size.

    Raises:
        DataError: the aspect ratios differ by more than 1 %.
    """
    before, after = images.read(pair.before), images.read(pair.after)
    (h0, w0), (h1, w1) = before.shape[:2], after.shape[:2]
    if (h0, w0) == (h1, w1):
        return before, after
    if abs(w0 * h1 / (w1 * h0) - 1) > 0.01:
        raise DataError(
            f"{pair.after} is {w1}x{h1} but {pair.before} is {w0}x{h0}: "
            "a pair must show the same picture at the same aspect ratio."
        )
    size = min((w0, h0), (w1, h1))
    return tuple(
        image
        if image.shape[1::-1] == size
        else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        for image in (before, after)
    )


def pair_views(pair: Pair) -> Maker:
    """Views of a fixed pair: crop and mirror only."""
    return views_of(*read_pair(pair))


def stretched(open_source: Callable[[], Maker]) -> Maker:
    """Views whose input is auto-contrasted, for looks that come after auto-contrast."""
    make = open_source()

    def make_stretched(rng):
        before, after = make(rng)
        return autocontrast(before), after

    return make_stretched


def views_of(before: np.ndarray, after: np.ndarray) -> Maker:
    """Views of two pictures of one size: crop and mirror only."""

    def make(rng):
        window = _window(rng, before.shape)
        return _mirrored(rng, before[window], after[window])

    return make


def photo_views(photo: Path, look: str) -> Maker:
    """Views of a photograph before and after an exact operator, or spoilt and as it is.

    Args:
        photo: a good photograph; for `tonemap` an HDR panorama (2:1), seen in perspective.
        look: a key of `OPERATORS` or of `SPOILERS`.
    """
    if look == "tonemap":
        return _tonemap_views(images.read(photo))
    image = images.read(photo)

    def make(rng):
        view = image[_window(rng, image.shape)]
        if look in SPOILERS:
            before, after = SPOILERS[look](view, rng), view
        else:
            # Brightness varies before the operator, so the pair stays exact.
            before = np.clip(rng.uniform(0.8, 1.1) * view ** rng.uniform(0.75, 1.33), 0, 1)
            before = before.astype("float32")
            after = OPERATORS[look](before)
        return _mirrored(rng, before, after)

    return make


def exact_pair(photo: Path, look: str, seed: int | list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return a whole photograph as input and target of an exact operator, without variation.

    Spoiling is random by nature; it depends on `seed` alone. Of an HDR panorama one view is taken.
    """
    rng = np.random.default_rng(seed)
    image = images.read(photo)
    if look == "tonemap":
        view = perspective(image, yaw=rng.uniform(0, 360), pitch=0, fov=80)
        image = encode_log(expose(view))
    if look in SPOILERS:
        return SPOILERS[look](image, rng), image
    return image, OPERATORS[look](image)


def _tonemap_views(panorama):
    def make(rng):
        view = perspective(
            panorama, yaw=rng.uniform(0, 360), pitch=rng.uniform(-25, 25), fov=rng.uniform(50, 100)
        )
        before = encode_log(expose(view))
        return _mirrored(rng, before, OPERATORS["tonemap"](before))

    return make


def perspective(
    panorama: np.ndarray,
    *,
    yaw: float,
    pitch: float,
    fov: float,
    size: tuple[int, int] = (480, 320),
) -> np.ndarray:
    """Look into an equirectangular panorama with an ordinary lens.

    Args:
        panorama: `(height, 2 * height, 3)` float32.
        yaw: degrees to the right.
        pitch: degrees upwards.
        fov: horizontal field of view, degrees.
        size: width and height of the result.
    """
    width, height = size
    focal = width / 2 / np.tan(np.radians(fov) / 2)
    x, y = np.meshgrid(np.arange(width) - (width - 1) / 2, np.arange(height) - (height - 1) / 2)
    up = np.radians(pitch)
    forward, down = focal * np.cos(up) + y * np.sin(up), y * np.cos(up) - focal * np.sin(up)
    longitude = np.arctan2(x, forward) + np.radians(yaw)
    latitude = np.arctan2(down, np.hypot(x, forward))
    rows, columns = panorama.shape[:2]
    u = (longitude / (2 * np.pi) % 1) * columns - 0.5
    v = (latitude / np.pi + 0.5) * rows - 0.5
    return cv2.remap(
        panorama, u.astype("float32"), v.astype("float32"), cv2.INTER_LINEAR, cv2.BORDER_WRAP
    )


def _window(rng, shape):
    def side(length):
        size = max(1, round(length * rng.uniform(0.6, 1.0)))
        start = rng.integers(length - size + 1)
        return slice(start, start + size)

    return side(shape[0]), side(shape[1])


def _mirrored(rng, before, after):
    return (before[:, ::-1], after[:, ::-1]) if rng.random() < 0.5 else (before, after)


# --- writing pairs ----------------------------------------------------------------------------


def check_operator(name: str) -> None:
    """Raise a DataError unless `name` is an operator or spoiler of ours, or a `.cube` file."""
    if name not in OPERATORS and name not in SPOILERS and not name.lower().endswith(".cube"):
        names = ", ".join([*OPERATORS, *SPOILERS])
        raise DataError(f"There is no operator {name!r}: choose one of {names}, or a .cube file.")


class PairWork:
    """For `shared.folders`: a photograph becomes `target/NAME.png` and `input/NAME.png`.

    Args:
        operator: a name that `check_operator` accepts.
        targets: the folder `target`; `input` is made beside it.
        seed: of the spoilers.
    """

    def __init__(self, operator: str, targets: Path, seed: int):
        self._operator, self._targets, self._seed = operator, targets, seed
        self._table = read_cube(operator) if operator.lower().endswith(".cube") else None

    def read(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """Return the pair of a photograph."""
        if self._table:
            before = images.read(path)
            return before, apply_lut(before, self._table)
        number = zlib.crc32(path.name.encode())
        return exact_pair(path, self._operator, [self._seed, number])

    def apply(self, pair: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Round to what the files hold: 16 bits for log-encoded HDR, else 8."""
        kind = "uint16" if self._operator == "tonemap" else "uint8"
        return tuple(images.from_float(picture, kind) for picture in pair)

    def write(self, pair: tuple[np.ndarray, np.ndarray], path: Path) -> None:
        """Write the input first, so that a target never stands without it."""
        before, after = pair
        beside = self._targets.with_name("input") / path.relative_to(self._targets)
        beside.parent.mkdir(parents=True, exist_ok=True)
        images.write(beside, before)
        images.write(path, after)

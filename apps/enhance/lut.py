"""Global colour looks as 3D look-up tables: read, write, apply, fit and make `.cube` files."""

import dataclasses
import math
import os
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse
from scipy.interpolate import PchipInterpolator

from apps.enhance.operators import luma
from shared.errors import DataError
from shared.parallel import kernel, over_rows

SMALLEST_SIZE, LARGEST_SIZE = 2, 129
_LARGEST_FILE = 256 * 2**20
_LONGEST_LINE, _LONGEST_TITLE = 1024, 200
# Far above any colour, far below the end of float32.
_LARGEST_VALUE = 1e30
# The domain keyword of Resolve gives both ends at once; the other two are Adobe's.
_DOMAIN_KEYWORDS = {"DOMAIN_MIN": 3, "DOMAIN_MAX": 3, "LUT_3D_INPUT_RANGE": 2}

_CHUNK = 250_000


@dataclass(frozen=True)
class Lut:
    """A 3D look-up table on a regular grid.

    Attributes:
        table: Colours `(n, n, n, 3)`, float32, indexed `[red, green, blue]`.
        domain_min: Input colour of the first grid point.
        domain_max: Input colour of the last grid point.
        title: Name written into the file.

    Raises:
        DataError: The table has another shape, 2 > n or n > 129, values that are not finite, or an
            empty domain.
    """

    table: np.ndarray
    domain_min: tuple[float, float, float] = (0.0, 0.0, 0.0)
    domain_max: tuple[float, float, float] = (1.0, 1.0, 1.0)
    title: str = ""

    def __post_init__(self):
        table = np.ascontiguousarray(self.table, np.float32)
        size = table.shape[0] if table.ndim else 0
        if table.shape != (size, size, size, 3) or not SMALLEST_SIZE <= size <= LARGEST_SIZE:
            raise DataError(
                f"A 3D table of shape {table.shape} cannot be used; it needs the shape "
                f"(n, n, n, 3) with n from {SMALLEST_SIZE} to {LARGEST_SIZE}."
            )
        if not np.isfinite(table).all():
            raise DataError("The 3D table holds values that are not finite; replace them.")
        domain = np.array([self.domain_min, self.domain_max], np.float64)
        if (
            domain.shape != (2, 3)
            or not np.isfinite(domain).all()
            or (domain[0] >= domain[1]).any()
        ):
            raise DataError(
                f"The domain {self.domain_min} to {self.domain_max} of the 3D table is empty; "
                "the minimum must be below the maximum in each channel."
            )
        object.__setattr__(self, "table", table)

    @property
    def size(self) -> int:
        """Grid points along each axis."""
        return self.table.shape[0]

    def stretched(self, low: float, high: float) -> "Lut":
        """Return the table for pictures whose values `low` to `high` are to count as 0 to 1."""

        def moved(domain):
            return tuple(float(low + (high - low) * end) for end in domain)

        return dataclasses.replace(
            self, domain_min=moved(self.domain_min), domain_max=moved(self.domain_max)
        )


@dataclass(frozen=True)
class LookRecipe:
    """A film-like look: channel mixer, saturation, then one tone curve per channel.

    Attributes:
        summary: One line for tables.
        matrix: Channel mixer, rows are output channels.
        saturation: 1 keeps, 0 removes colour.
        curves: Outputs for inputs 0, 1/4, 1/2, 3/4, 1, one row for each of R, G, B.
    """

    summary: str
    matrix: tuple[tuple[float, float, float], ...]
    saturation: float
    curves: tuple[tuple[float, float, float, float, float], ...]


LOOKS: dict[str, LookRecipe] = {
    "warm": LookRecipe(
        "golden light, soft shoulder, shadows slightly brown",
        ((1.03, -0.01, -0.02), (0.02, 0.97, 0.01), (0.00, 0.05, 0.95)),
        1.08,
        (
            (0.02, 0.27, 0.57, 0.83, 1.00),
            (0.01, 0.24, 0.52, 0.78, 0.97),
            (0.01, 0.21, 0.46, 0.72, 0.91),
        ),
    ),
    "cool": LookRecipe(
        "blue shadows, clear whites, more contrast",
        ((0.95, 0.04, 0.01), (0.00, 0.98, 0.02), (-0.02, 0.00, 1.02)),
        0.92,
        (
            (0.00, 0.18, 0.46, 0.76, 0.98),
            (0.01, 0.22, 0.51, 0.79, 0.99),
            (0.04, 0.29, 0.57, 0.82, 1.00),
        ),
    ),
    "fade": LookRecipe(
        "faded print: lifted blacks, muted colours, green shadows and rosy lights",
        ((0.94, 0.05, 0.01), (0.03, 0.94, 0.03), (0.02, 0.06, 0.92)),
        0.72,
        (
            (0.09, 0.29, 0.54, 0.77, 0.95),
            (0.11, 0.30, 0.53, 0.75, 0.92),
            (0.12, 0.31, 0.52, 0.72, 0.88),
        ),
    ),
    "noir": LookRecipe(
        "black and white through an orange filter, strong contrast",
        ((0.52, 0.40, 0.08),) * 3,
        0.0,
        ((0.00, 0.15, 0.48, 0.82, 1.00),) * 3,
    ),
}


def identity_lut(size: int, title: str = "identity") -> Lut:
    """Return the table that changes nothing."""
    if not SMALLEST_SIZE <= size <= LARGEST_SIZE:
        raise DataError(
            f"A 3D table cannot have {size} grid points per axis; "
            f"choose {SMALLEST_SIZE} to {LARGEST_SIZE}."
        )
    axis = np.linspace(0, 1, size, dtype=np.float32)
    return Lut(np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1), title=title)


def make_look(name: str, size: int = 33) -> Lut:
    """Make the table of one of our own looks (`LOOKS`).

    Raises:
        DataError: There is no look of this name.
    """
    if name not in LOOKS:
        raise DataError(f'There is no look "{name}"; choose one of {", ".join(LOOKS)}.')
    recipe = LOOKS[name]
    mixed = identity_lut(size).table @ np.array(recipe.matrix, np.float32).T
    grey = luma(mixed)[..., None]
    coloured = np.clip(grey + np.float32(recipe.saturation) * (mixed - grey), 0, 1)
    knots = np.linspace(0, 1, 5)
    channels = [
        PchipInterpolator(knots, curve)(coloured[..., channel])
        for channel, curve in enumerate(recipe.curves)
    ]
    return Lut(np.stack(channels, axis=-1), title=name)


def read_cube(path: str | os.PathLike) -> Lut:
    """Read a `.cube` file (Adobe Cube LUT Specification 1.0, and Resolve's input range).

    Raises:
        DataError: The file is missing, too large, no text, a 1D table, or has a damaged line; the
            message names file and line.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise DataError(
                f"{path} is larger than {_LARGEST_FILE // 2**20} MiB and cannot be a .cube table "
                f"of at most {LARGEST_SIZE} points per axis; choose another file."
            )
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            return _CubeParser(path).parse(file)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read as a .cube file ({error.strerror}); check the path."
        ) from error


def write_cube(lut: Lut, path: str | os.PathLike) -> None:
    """Write a `.cube` file with seven significant digits, through a temporary file and a rename."""
    path = Path(path)
    rows = lut.table.transpose(2, 1, 0, 3).reshape(-1, 3)
    # A quote would end the title early, a line break the line; a NUL would make it no text.
    words = "".join(c for c in lut.title if c.isprintable() or c.isspace()).split()
    title = " ".join(words).replace('"', "'")[:_LONGEST_TITLE]
    header = [
        f'TITLE "{title}"',
        f"LUT_3D_SIZE {lut.size}",
        "DOMAIN_MIN " + " ".join(f"{value:.9g}" for value in lut.domain_min),
        "DOMAIN_MAX " + " ".join(f"{value:.9g}" for value in lut.domain_max),
    ]
    partial = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            file.write("\n".join(header) + "\n\n")
            np.savetxt(file, rows, fmt="%.7g")
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DataError(
            f"{path} cannot be written ({error.strerror}); choose another place."
        ) from error


def apply_lut(
    pixels: np.ndarray, lut: Lut, strength: float = 1.0, *, workers: int | None = None
) -> np.ndarray:
    """Apply a table by trilinear interpolation, in float32.

    Args:
        pixels: `(..., 3)` uint8 (0..255), uint16 (0..65535) or float32 (0..1), RGB. Values outside
            the table's domain, and NaN, are moved to its border first.
        lut: The table.
        strength: 0 returns the input bit for bit, 1 is the plain table, linear in between and
            beyond.
        workers: Threads; all cores by default.

    Returns:
        Pixels of the same shape and type; integers are rounded and clipped, floats are not clipped.
    """
    pixels = np.asarray(pixels)
    if pixels.shape[-1:] != (3,):
        raise ValueError(f"pixels need three channels, not the shape {pixels.shape}")
    if strength == 0:
        return pixels.copy()
    integer = np.issubdtype(pixels.dtype, np.integer)
    white = np.float32(np.iinfo(pixels.dtype).max if integer else 1)
    minimum = np.array(lut.domain_min, np.float64)
    scale = (lut.size - 1) / (np.array(lut.domain_max, np.float64) - minimum)
    flat = np.ascontiguousarray(pixels).reshape(-1, 3)
    # Memory-mapped pictures cannot be written to: one kind of array, one compilation.
    flat.flags.writeable = False
    result = np.empty_like(flat)
    settings = (
        _blended(lut, strength) * white,
        np.int32(lut.size),
        (scale / white).astype(np.float32),
        (-minimum * scale).astype(np.float32),
        np.float32(0.5 if integer else 0),
        np.float32(0 if integer else -np.inf),
        white if integer else np.float32(np.inf),
    )
    over_rows(
        lambda start, end: _trilinear(flat[start:end], *settings, result[start:end]),
        len(flat),
        workers,
    )
    return result.reshape(pixels.shape)


def fit_lut(
    samples_in: np.ndarray,
    samples_out: np.ndarray,
    size: int = 17,
    smoothness: float = 5.0,
) -> Lut:
    """Fit a table to pairs of colours by regularised least squares.

    The deviation from identity is solved for. Its squared first differences between neighbouring
    grid points are weighted as much as `smoothness` samples; so what the samples do not reach
    follows its neighbours.

    Args:
        samples_in: Input colours `(n, 3)`, 0..1.
        samples_out: Wanted colours `(n, 3)`, 0..1.
        size: Grid points per axis.
        smoothness: Weight of smoothness, above 0.

    Raises:
        DataError: No samples, samples that do not match or are not finite, or a bad setting.
    """
    samples_in = np.asarray(samples_in, np.float32)
    samples_out = np.asarray(samples_out, np.float32)
    _check_samples(samples_in, samples_out)
    if not (smoothness > 0 and math.isfinite(smoothness)):
        raise DataError(f"A smoothness of {smoothness:g} cannot be used; it must be above 0.")
    identity = identity_lut(size)
    normal, right = _normal_equations(samples_in, samples_out, size)
    normal = (normal + smoothness * _difference_penalty(size)).tocsr()
    preconditioner = scipy.sparse.diags_array(1 / normal.diagonal())
    deviation = [
        scipy.sparse.linalg.cg(normal, side, rtol=1e-7, maxiter=1000, M=preconditioner)[0]
        for side in right.T
    ]
    return Lut(identity.table + np.stack(deviation, axis=-1).reshape(identity.table.shape))


class _CubeParser:
    """State of reading one `.cube` file; every complaint names file and line."""

    def __init__(self, path: Path):
        self.path = path
        self.number = 0
        self.title = ""
        self.size = 0
        self.domain_min = (0.0, 0.0, 0.0)
        self.domain_max = (1.0, 1.0, 1.0)
        self.values = array("f")

    def parse(self, file) -> Lut:
        for line in self._lines(file):
            colour = _numbers(line.split())
            if colour is None:
                self._keyword(line)
            else:
                self._colour(colour)
        self._check_complete()
        table = np.array(self.values, np.float32).reshape(self.size, self.size, self.size, 3)
        return Lut(table.transpose(2, 1, 0, 3), self.domain_min, self.domain_max, self.title)

    def _lines(self, file) -> Iterator[str]:
        while line := file.readline(_LONGEST_LINE + 1):
            self.number += 1
            if len(line) > _LONGEST_LINE or "\0" in line:
                raise self._error("is not text", "choose a .cube file")
            line = line.strip()
            if line and not line.startswith("#"):
                yield line

    def _colour(self, colour: list[float]) -> None:
        if len(colour) != 3:
            raise self._error(f"holds {len(colour)} numbers instead of 3", "correct the line")
        if not self.size:
            raise self._error("has a colour before LUT_3D_SIZE", "add the size above the table")
        if not _usable(colour):
            raise self._error("holds a value that is not finite", "replace it by a number")
        if len(self.values) == 3 * self.size**3:
            raise self._error(
                f"follows a full table of {self.size**3} colours", "correct LUT_3D_SIZE"
            )
        self.values.extend(colour)

    def _keyword(self, line: str) -> None:
        keyword, *words = line.split()
        if self.values:
            raise self._error("interrupts the table", "it must hold three numbers")
        if keyword == "TITLE":
            self.title = line[len(keyword) :].strip().strip('"')
        elif keyword == "LUT_3D_SIZE":
            self.size = self._table_size(" ".join(words))
        elif keyword == "LUT_1D_SIZE":
            raise self._error("announces a 1D table", "only 3D tables can be used")
        elif keyword in _DOMAIN_KEYWORDS:
            self._domain(keyword, _numbers(words))
        else:
            shown = keyword[:24] if keyword.isprintable() else "?"
            raise self._error(
                f'starts with "{shown}", no keyword of 3D .cube files',
                "correct or remove the line",
            )

    def _table_size(self, text: str) -> int:
        if not re.fullmatch("[0-9]{1,9}", text) or not (SMALLEST_SIZE <= int(text) <= LARGEST_SIZE):
            raise self._error(
                f'has the table size "{text[:24]}"',
                f"it must be from {SMALLEST_SIZE} to {LARGEST_SIZE}",
            )
        return int(text)

    def _domain(self, keyword: str, ends: list[float] | None) -> None:
        expected = _DOMAIN_KEYWORDS[keyword]
        if ends is None or len(ends) != expected or not _usable(ends):
            raise self._error(f"needs {expected} numbers after {keyword}", "correct the line")
        if keyword == "DOMAIN_MIN":
            self.domain_min = tuple(ends)
        elif keyword == "DOMAIN_MAX":
            self.domain_max = tuple(ends)
        else:
            self.domain_min, self.domain_max = (ends[0],) * 3, (ends[1],) * 3

    def _check_complete(self) -> None:
        if not self.size:
            raise self._error("ends without LUT_3D_SIZE", "choose a .cube file with a 3D table")
        if len(self.values) != 3 * self.size**3:
            raise self._error(
                f"ends after {len(self.values) // 3} of {self.size**3} colours",
                "get a complete copy",
            )
        if any(low >= high for low, high in zip(self.domain_min, self.domain_max, strict=True)):
            raise self._error(
                "ends with an empty domain", "DOMAIN_MIN must be below DOMAIN_MAX in each channel"
            )

    def _error(self, fault: str, remedy: str) -> DataError:
        return DataError(f"{self.path}, line {self.number}: {fault}; {remedy}.")


def _numbers(words: list[str]) -> list[float] | None:
    try:
        return [float(word) for word in words]
    except ValueError:
        return None


def _usable(numbers: list[float]) -> bool:
    """Tell whether all numbers are finite, also as float32."""
    return all(abs(number) <= _LARGEST_VALUE for number in numbers)


def _blended(lut: Lut, strength: float) -> np.ndarray:
    """Return the table `(n^3, 4)`, mixed with identity; the fourth column pads to vector loads."""
    axes = np.linspace(lut.domain_min, lut.domain_max, lut.size).T.astype(np.float32)
    identity = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    mixed = lut.table if strength == 1 else identity + np.float32(strength) * (lut.table - identity)
    return np.pad(mixed.reshape(-1, 3), ((0, 0), (0, 1)))


@kernel
def _trilinear(pixels, table, size, scale, offset, rounding, low, high, result):
    """Read the table at every pixel; compiled, one thread.

    Args:
        pixels: `(n, 3)`.
        table: `(size^3, 4)`, float32, in the units of the result.
        size: Grid points per axis.
        scale: Grid steps per unit of a pixel, one per channel.
        offset: Grid position of pixel value 0, one per channel.
        rounding: Added before the result is cut to its type.
        low: Least result.
        high: Greatest result.
        result: `(n, 3)`, written.
    """
    zero, one = np.float32(0), np.float32(1)
    last = np.float32(size - 1)
    last_cell = np.int32(size - 2)
    block = 2048
    corner = np.empty(block, np.int32)
    weight = np.empty((3, block), np.float32)
    mixed = np.empty((block, 4), np.float32)
    for index in range((len(pixels) + block - 1) // block):
        start = index * block
        count = min(len(pixels) - start, block)
        # Three passes over a block that stays in cache: each one is vectorised by itself.
        for i in range(count):
            x = np.float32(pixels[start + i, 0]) * scale[0] + offset[0]
            y = np.float32(pixels[start + i, 1]) * scale[1] + offset[1]
            z = np.float32(pixels[start + i, 2]) * scale[2] + offset[2]
            # Comparisons in this direction send NaN to zero.
            x = x if x > zero else zero
            y = y if y > zero else zero
            z = z if z > zero else zero
            x = x if x < last else last
            y = y if y < last else last
            z = z if z < last else last
            red = min(np.int32(x), last_cell)
            green = min(np.int32(y), last_cell)
            blue = min(np.int32(z), last_cell)
            weight[0, i] = x - np.float32(red)
            weight[1, i] = y - np.float32(green)
            weight[2, i] = z - np.float32(blue)
            corner[i] = (red * size + green) * size + blue
        for i in range(count):
            a = corner[i]
            b = a + size
            c = a + size * size
            d = c + size
            fine = weight[2, i]
            d_weight = weight[0, i] * weight[1, i]
            c_weight = weight[0, i] - d_weight
            b_weight = weight[1, i] - d_weight
            a_weight = one - weight[0, i] - b_weight
            a_next, b_next = a_weight * fine, b_weight * fine
            c_next, d_next = c_weight * fine, d_weight * fine
            for k in range(4):
                mixed[i, k] = (
                    (a_weight - a_next) * table[a, k]
                    + a_next * table[a + 1, k]
                    + (b_weight - b_next) * table[b, k]
                    + b_next * table[b + 1, k]
                    + (c_weight - c_next) * table[c, k]
                    + c_next * table[c + 1, k]
                    + (d_weight - d_next) * table[d, k]
                    + d_next * table[d + 1, k]
                )
        for i in range(count):
            for k in range(3):
                result[start + i, k] = min(max(mixed[i, k] + rounding, low), high)


def _check_samples(samples_in: np.ndarray, samples_out: np.ndarray) -> None:
    if samples_in.shape != samples_out.shape or samples_in.ndim != 2 or samples_in.shape[1] != 3:
        raise DataError(
            f"Samples of shapes {samples_in.shape} and {samples_out.shape} cannot be fitted; "
            "both need the same shape (n, 3)."
        )
    if not len(samples_in):
        raise DataError("A look cannot be fitted to no samples; give at least one pair of colours.")
    if not (np.isfinite(samples_in).all() and np.isfinite(samples_out).all()):
        raise DataError("Samples that are not finite cannot be fitted; leave them out.")


def _normal_equations(
    samples_in: np.ndarray, samples_out: np.ndarray, size: int
) -> tuple[scipy.sparse.csr_array, np.ndarray]:
    """Return `A^T A` and `A^T (out - in)` of the trilinear weights A, summed over chunks."""
    normal = scipy.sparse.csr_array((size**3, size**3), dtype=np.float64)
    right = np.zeros((size**3, 3))
    for start in range(0, len(samples_in), _CHUNK):
        colours = np.clip(samples_in[start : start + _CHUNK].astype(np.float64), 0, 1)
        weights = _trilinear_weights(colours, size)
        normal = normal + weights.T @ weights
        right += weights.T @ (samples_out[start : start + _CHUNK] - colours)
    return normal, right


def _trilinear_weights(colours: np.ndarray, size: int) -> scipy.sparse.csr_array:
    """Return the sparse matrix `(n, size^3)` that reads a flattened table at the colours."""
    position = colours * (size - 1)
    cell = np.minimum(position.astype(np.int32), size - 2)
    fraction = position - cell
    columns, weights = [], []
    for red, green, blue in np.ndindex(2, 2, 2):
        corner = np.array([red, green, blue], np.int32)
        columns.append((cell + corner) @ np.array([size**2, size, 1], np.int32))
        weights.append(np.where(corner, fraction, 1 - fraction).prod(axis=1))
    starts = np.arange(0, 8 * len(colours) + 1, 8)
    return scipy.sparse.csr_array(
        (np.stack(weights, axis=1).ravel(), np.stack(columns, axis=1).ravel(), starts),
        shape=(len(colours), size**3),
    )


def _difference_penalty(size: int) -> scipy.sparse.csr_array:
    """Return `D^T D` of the first differences along the three axes: a grid Laplacian."""
    step = scipy.sparse.diags_array([-1.0, 1.0], offsets=[0, 1], shape=(size - 1, size))
    along = (step.T @ step).tocsr()
    eye = scipy.sparse.eye_array(size)
    kron = scipy.sparse.kron
    return (
        kron(kron(along, eye), eye) + kron(kron(eye, along), eye) + kron(kron(eye, eye), along)
    ).tocsr()

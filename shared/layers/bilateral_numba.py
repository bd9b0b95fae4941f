"""Guide, slice and apply in one pass over whole photographs, for CPUs.

Equal to `shared.layers.bilateral` (same source, same conventions) and an order of magnitude faster:
the grid is interpolated in y once per row, the guide of a row is computed in a pass of its own that
the compiler turns into vector instructions, and the pixels between two columns of cells share one
table of matrices.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from shared.parallel import kernel, over_rows

_WHITE = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}


@dataclass(frozen=True)
class GuideConstants:
    """A trained guide as plain arrays, float32.

    `curves`: value = colour @ matrix + shift; guide = sum over channels c and knots k of
    `slopes[c, k] * relu(value[c] - knots[c, k])`, plus `out_shift`, clipped to 0..1.
    `nn`: guide = sigmoid(relu(colour @ matrix + shift) @ slopes[0] + out_shift); `knots` is unused.
    """

    kind: Literal["curves", "nn"]
    matrix: np.ndarray
    """`(3, 3)`, or `(3, units)` for `nn`"""
    shift: np.ndarray
    """`(3,)` or `(units,)`"""
    slopes: np.ndarray
    """`(3, knots)` or `(1, units)`"""
    knots: np.ndarray
    """`(3, knots)`"""
    out_shift: float

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Compute the guide of a picture.

        Args:
            image: `(height, width, 3)` uint8, uint16 or float32.

        Returns:
            float32 `(height, width)`, 0..1.
        """
        height, width = image.shape[:2]
        guide = np.empty((height, width), "float32")
        constants = self._scaled(_white(image))
        image = _readable(image)

        def band(first, end):
            _guide_rows(image[first:end], guide[first:end], *constants)

        over_rows(band, height)
        return guide

    def _scaled(self, white):
        """Return kernel arguments that take colours in 0..white."""
        return (
            self.kind == "nn",
            np.ascontiguousarray(self.matrix / white, "float32"),
            np.ascontiguousarray(self.shift, "float32"),
            np.ascontiguousarray(self.slopes, "float32"),
            np.ascontiguousarray(self.knots, "float32"),
            np.float32(self.out_shift),
        )


def slice_apply(
    grid: np.ndarray,
    guide: GuideConstants,
    image: np.ndarray,
    *,
    out: np.ndarray | None = None,
    first_row: int = 0,
    height: int | None = None,
    clip: bool = True,
    keep_hue: bool = False,
    workers: int | None = None,
) -> np.ndarray:
    """Compute the guide of a picture, slice the grid with it and apply the matrices.

    Args:
        grid: float32 `(rows, columns, depth, 3, 4)`.
        guide: constants of the guide.
        image: `(height, width, 3)` uint8, uint16 or float32, or a band of rows of such a picture.
        out: receives the result; made when not given.
        first_row: where the band begins in the whole picture.
        height: rows of the whole picture; that of `image` by default.
        clip: limit the result to 0..1 (integers always are).
        keep_hue: where a channel exceeds white, pull the colour towards its luma instead of
            clipping the channel alone.
        workers: threads; all cores by default.

    Returns:
        `out`, the same shape and type as `image`.
    """
    white = _white(image)
    image = _readable(image)
    out = np.empty(image.shape, image.dtype) if out is None else out
    matrices = np.array(grid, "float32").reshape(*grid.shape[:3], 12)
    matrices[..., 3::4] *= np.float32(white)
    limit = np.float32(white if clip or image.dtype != np.float32 else np.inf)
    half = np.float32(0 if image.dtype == np.float32 else 0.5)
    constants = guide._scaled(white)

    def band(first, end):
        _slice_apply_rows(
            image[first:end],
            out[first:end],
            matrices,
            *constants,
            first_row + first,
            height or image.shape[0],
            limit,
            half,
            keep_hue,
        )

    over_rows(band, image.shape[0], workers)
    return out


def _readable(image):
    """Return a contiguous read-only view: one kind of array, one compilation."""
    view = np.ascontiguousarray(image).view(np.ndarray)
    view.flags.writeable = False
    return view


def _white(image):
    try:
        return _WHITE[image.dtype.name]
    except KeyError:
        raise TypeError(f"Pictures are uint8, uint16 or float32, not {image.dtype}.") from None


@kernel
def _guide_row(row, guide, is_nn, matrix, shift, slopes, knots, out_shift):
    width = row.shape[0]
    zero, one = np.float32(0), np.float32(1)
    for x in range(width):
        guide[x] = out_shift
    if is_nn:
        for unit in range(matrix.shape[1]):
            r, g, b = matrix[0, unit], matrix[1, unit], matrix[2, unit]
            bias, weight = shift[unit], slopes[0, unit]
            for x in range(width):
                value = (
                    r * np.float32(row[x, 0])
                    + g * np.float32(row[x, 1])
                    + b * np.float32(row[x, 2])
                    + bias
                )
                guide[x] += weight * max(value, zero)
        for x in range(width):
            guide[x] = one / (one + np.exp(-guide[x]))
        return
    value = np.empty(width, np.float32)
    for c in range(3):
        r, g, b, bias = matrix[0, c], matrix[1, c], matrix[2, c], shift[c]
        for x in range(width):
            value[x] = (
                r * np.float32(row[x, 0])
                + g * np.float32(row[x, 1])
                + b * np.float32(row[x, 2])
                + bias
            )
        for k in range(knots.shape[1]):
            slope, knot = slopes[c, k], knots[c, k]
            if slope != zero:
                for x in range(width):
                    guide[x] += slope * max(value[x] - knot, zero)
    for x in range(width):
        guide[x] = min(max(guide[x], zero), one)


@kernel
def _guide_rows(image, guide, is_nn, matrix, shift, slopes, knots, out_shift):
    for y in range(image.shape[0]):
        _guide_row(image[y], guide[y], is_nn, matrix, shift, slopes, knots, out_shift)


@kernel
def _slice_apply_rows(
    image,
    out,
    grid,
    is_nn,
    matrix,
    shift,
    slopes,
    knots,
    out_shift,
    first_row,
    height,
    limit,
    half,
    keep_hue,
):
    cells_y, cells_x, depth = grid.shape[0], grid.shape[1], grid.shape[2]
    width = image.shape[1]
    zero, one = np.float32(0), np.float32(1)
    floor = zero if limit < np.inf else -limit
    guide = np.empty(width, np.float32)
    lines = np.empty((cells_x, depth, 12), np.float32)
    # One entry more at either end of the depth, so that the clamping needs no test per pixel.
    table = np.empty((depth + 2, 12), np.float32)
    change = np.empty((depth + 2, 12), np.float32)
    for y in range(image.shape[0]):
        _guide_row(image[y], guide, is_nn, matrix, shift, slopes, knots, out_shift)
        position = np.float32((first_row + y + 0.5) * cells_y / height - 0.5)
        above = int(np.floor(position))
        weight = position - np.float32(above)
        upper, lower = max(above, 0), min(above + 1, cells_y - 1)
        for i in range(cells_x):
            for z in range(depth):
                for k in range(12):
                    a, b = grid[upper, i, z, k], grid[lower, i, z, k]
                    lines[i, z, k] = a + weight * (b - a)
        x = 0
        scale = np.float32(cells_x / width)
        for left in range(-1, cells_x):
            # Pixels whose centre lies between the columns `left` and `left + 1` of the grid.
            end = min(width, int(np.ceil((left + 1.5) * width / cells_x - 0.5)))
            if end <= x:
                continue
            i, j = max(left, 0), min(left + 1, cells_x - 1)
            for z in range(depth + 2):
                inside = min(max(z - 1, 0), depth - 1)
                for k in range(12):
                    table[z, k] = lines[i, inside, k]
                    change[z, k] = lines[j, inside, k] - lines[i, inside, k]
            offset = np.float32(0.5) * scale - np.float32(0.5) - np.float32(left)
            while x < end:
                along = np.float32(x) * scale + offset
                z_position = guide[x] * np.float32(depth) + np.float32(0.5)
                z = int(z_position)
                up = z_position - np.float32(z)
                down = one - up
                low, high, dlow, dhigh = table[z], table[z + 1], change[z], change[z + 1]
                red, green, blue = (
                    np.float32(image[y, x, 0]),
                    np.float32(image[y, x, 1]),
                    np.float32(image[y, x, 2]),
                )
                result_r = _row(low, high, dlow, dhigh, 0, along, down, up, red, green, blue)
                result_g = _row(low, high, dlow, dhigh, 4, along, down, up, red, green, blue)
                result_b = _row(low, high, dlow, dhigh, 8, along, down, up, red, green, blue)
                if keep_hue:
                    peak = max(result_r, result_g, result_b)
                    if peak > limit:
                        luma = (
                            np.float32(0.299) * result_r
                            + np.float32(0.587) * result_g
                            + np.float32(0.114) * result_b
                        )
                        luma = min(luma, limit)
                        share = (limit - luma) / (peak - luma)
                        result_r = luma + share * (result_r - luma)
                        result_g = luma + share * (result_g - luma)
                        result_b = luma + share * (result_b - luma)
                out[y, x, 0] = min(max(result_r, floor), limit) + half
                out[y, x, 1] = min(max(result_g, floor), limit) + half
                out[y, x, 2] = min(max(result_b, floor), limit) + half
                x += 1


@kernel
def _row(low, high, dlow, dhigh, o, along, down, up, red, green, blue):
    r = down * (low[o] + along * dlow[o]) + up * (high[o] + along * dhigh[o])
    g = down * (low[o + 1] + along * dlow[o + 1]) + up * (high[o + 1] + along * dhigh[o + 1])
    b = down * (low[o + 2] + along * dlow[o + 2]) + up * (high[o + 2] + along * dhigh[o + 2])
    s = down * (low[o + 3] + along * dlow[o + 3]) + up * (high[o + 3] + along * dhigh[o + 3])
    return r * red + g * green + b * blue + s

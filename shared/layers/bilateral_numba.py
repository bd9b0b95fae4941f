"""Guide, slice and apply in one pass over whole photographs, for CPUs.

Equal to `shared.layers.bilateral` (same source, same conventions) and far faster. The grid is
interpolated in y once per row, and the pixels between two columns of cells share one table of
matrices. Rows are worked on in tiles that stay in the first-level cache, as planes of floats, by
loops without branches or look-ups, which the compiler turns into vector instructions: instead of
fetching the two matrices around a pixel's guide, every matrix of the table that a tile touches is
added to all its pixels, with weight 0 where it does not count.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from shared.parallel import kernel, over_rows

_TILE = 128
_KNOTS = 4
"""Knots per sweep over a tile."""
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
        image = _flat(_readable(image))

        def band(first, end):
            _guide_rows(image[first:end], guide[first:end], *constants)

        over_rows(band, height)
        return guide

    def _scaled(self, white):
        """Return kernel arguments that take colours in 0..white.

        Curves are brought to the cheaper `slope * max(value, knot)`, and to a multiple of `_KNOTS`.
        """
        slopes, knots, out_shift = self.slopes, self.knots, self.out_shift
        if self.kind == "curves":
            out_shift = out_shift - np.sum(slopes * knots, dtype="float64")
            missing = (0, 0), (0, -knots.shape[1] % _KNOTS)
            slopes, knots = np.pad(slopes, missing), np.pad(knots, missing)
        return (
            self.kind == "nn",
            np.ascontiguousarray(self.matrix / white, "float32"),
            np.ascontiguousarray(self.shift, "float32"),
            np.ascontiguousarray(slopes, "float32"),
            np.ascontiguousarray(knots, "float32"),
            np.float32(out_shift),
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
        out: contiguous, receives the result; made when not given.
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
    flat_image, flat_out = _flat(image), _flat(out)
    matrices = np.array(grid, "float32").reshape(*grid.shape[:3], 12)
    matrices[..., 3::4] *= np.float32(white)
    limit = np.float32(white if clip or image.dtype != np.float32 else np.inf)
    half = np.float32(0 if image.dtype == np.float32 else 0.5)
    constants = guide._scaled(white)

    def band(first, end):
        _slice_apply_rows(
            flat_image[first:end],
            flat_out[first:end],
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


def _flat(image):
    """Return a view as rows of interleaved colours: a distance of 3 that the compiler knows of."""
    if not image.flags.c_contiguous:
        raise ValueError("The result can be written to contiguous arrays only.")
    return image.reshape(image.shape[0], 3 * image.shape[1])


def _white(image):
    try:
        return _WHITE[image.dtype.name]
    except KeyError:
        raise TypeError(f"Pictures are uint8, uint16 or float32, not {image.dtype}.") from None


@kernel
def _split(row, red, green, blue):
    for x in range(red.shape[0]):
        red[x] = row[3 * x]
        green[x] = row[3 * x + 1]
        blue[x] = row[3 * x + 2]


@kernel
def _guide_tile(red, green, blue, value, guide, is_nn, matrix, shift, slopes, knots, out_shift):
    width = red.shape[0]
    zero, one = np.float32(0), np.float32(1)
    for x in range(width):
        guide[x] = out_shift
    for c in range(matrix.shape[1]):
        r, g, b, bias = matrix[0, c], matrix[1, c], matrix[2, c], shift[c]
        for x in range(width):
            value[x] = r * red[x] + g * green[x] + b * blue[x] + bias
        if is_nn:
            weight = slopes[0, c]
            for x in range(width):
                guide[x] += weight * max(value[x], zero)
            continue
        for k in range(0, knots.shape[1], _KNOTS):
            s0, s1, s2, s3 = slopes[c, k], slopes[c, k + 1], slopes[c, k + 2], slopes[c, k + 3]
            k0, k1, k2, k3 = knots[c, k], knots[c, k + 1], knots[c, k + 2], knots[c, k + 3]
            for x in range(width):
                v = value[x]
                guide[x] += s0 * max(v, k0) + s1 * max(v, k1) + s2 * max(v, k2) + s3 * max(v, k3)
    if is_nn:
        for x in range(width):
            guide[x] = one / (one + np.exp(-guide[x]))
    else:
        for x in range(width):
            guide[x] = min(max(guide[x], zero), one)


@kernel
def _guide_rows(image, guide, is_nn, matrix, shift, slopes, knots, out_shift):
    width = guide.shape[1]
    planes = np.empty((4, _TILE), np.float32)
    for y in range(guide.shape[0]):
        for x in range(0, width, _TILE):
            end = min(x + _TILE, width)
            n = end - x
            red, green, blue, value = planes[0, :n], planes[1, :n], planes[2, :n], planes[3, :n]
            _split(image[y, 3 * x : 3 * end], red, green, blue)
            found = guide[y, x:end]
            _guide_tile(
                red, green, blue, value, found, is_nn, matrix, shift, slopes, knots, out_shift
            )


@kernel
def _to_depth(guide, depth):
    """Turn a guide into positions in the depth of the grid; return the layers they touch."""
    top = np.float32(depth - 1)
    first, last = np.int32(depth - 1), np.int32(0)
    for x in range(guide.shape[0]):
        guide[x] = min(max(guide[x] * np.float32(depth) - np.float32(0.5), np.float32(0)), top)
        layer = np.int32(guide[x])
        first, last = min(first, layer), max(last, layer)
    return max(first, 0), min(last + 2, depth)


@kernel
def _twelve(m):
    return m[0], m[1], m[2], m[3], m[4], m[5], m[6], m[7], m[8], m[9], m[10], m[11]


@kernel
def _add_layer(layer, matrix, change, start, step, z, red, green, blue, out_r, out_g, out_b):
    """Add what one layer of the grid contributes; `start + step * x` is the way to the right."""
    m, d = _twelve(matrix), _twelve(change)
    zero, one, here = np.float32(0), np.float32(1), np.float32(layer)
    for x in range(z.shape[0]):
        weight = max(one - abs(z[x] - here), zero)
        t = start + step * np.float32(x)
        r, g, b = red[x], green[x], blue[x]
        out_r[x] += weight * (
            (m[0] + t * d[0]) * r + (m[1] + t * d[1]) * g + (m[2] + t * d[2]) * b + m[3] + t * d[3]
        )
        out_g[x] += weight * (
            (m[4] + t * d[4]) * r + (m[5] + t * d[5]) * g + (m[6] + t * d[6]) * b + m[7] + t * d[7]
        )
        out_b[x] += weight * (
            (m[8] + t * d[8]) * r
            + (m[9] + t * d[9]) * g
            + (m[10] + t * d[10]) * b
            + m[11]
            + t * d[11]
        )


@kernel
def _pull_to_luma(red, green, blue, limit):
    for x in range(red.shape[0]):
        r, g, b = red[x], green[x], blue[x]
        peak = max(r, g, b)
        if peak > limit:
            luma = np.float32(0.299) * r + np.float32(0.587) * g + np.float32(0.114) * b
            luma = min(luma, limit)
            share = (limit - luma) / (peak - luma)
            red[x] = luma + share * (r - luma)
            green[x] = luma + share * (g - luma)
            blue[x] = luma + share * (b - luma)


@kernel
def _join(red, green, blue, out, floor, limit, half):
    for x in range(red.shape[0]):
        out[3 * x] = min(max(red[x], floor), limit) + half
        out[3 * x + 1] = min(max(green[x], floor), limit) + half
        out[3 * x + 2] = min(max(blue[x], floor), limit) + half


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
    width = image.shape[1] // 3
    floor = np.float32(0) if limit < np.inf else -limit
    step = np.float32(cells_x / width)
    lines = np.empty((cells_x, depth, 12), np.float32)
    change = np.empty((depth, 12), np.float32)
    planes = np.empty((8, _TILE), np.float32)
    for y in range(image.shape[0]):
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
        for left in range(-1, cells_x):
            # Pixels whose centre lies between the columns `left` and `left + 1` of the grid.
            end = min(width, int(np.ceil((left + 1.5) * width / cells_x - 0.5)))
            if end <= x:
                continue
            i, j = max(left, 0), min(left + 1, cells_x - 1)
            for z in range(depth):
                for k in range(12):
                    change[z, k] = lines[j, z, k] - lines[i, z, k]
            while x < end:
                count = min(end - x, _TILE)
                red, green, blue, guide = (
                    planes[0, :count],
                    planes[1, :count],
                    planes[2, :count],
                    planes[3, :count],
                )
                value = planes[4, :count]
                out_r, out_g, out_b = planes[5, :count], planes[6, :count], planes[7, :count]
                _split(image[y, 3 * x : 3 * (x + count)], red, green, blue)
                _guide_tile(
                    red, green, blue, value, guide, is_nn, matrix, shift, slopes, knots, out_shift
                )
                first, last = _to_depth(guide, depth)
                start = np.float32((x + 0.5) * cells_x / width - 0.5 - left)
                planes[5:] = 0
                for z in range(first, last):
                    _add_layer(
                        z,
                        lines[i, z],
                        change[z],
                        start,
                        step,
                        guide,
                        red,
                        green,
                        blue,
                        out_r,
                        out_g,
                        out_b,
                    )
                if keep_hue:
                    _pull_to_luma(out_r, out_g, out_b, limit)
                _join(out_r, out_g, out_b, out[y, 3 * x : 3 * (x + count)], floor, limit, half)
                x += count

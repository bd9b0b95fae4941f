"""Trained looks applied to pictures and video frames of any size."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from shared import backend, images, weights
from shared.images import Picture
from shared.layers.bilateral_numba import slice_apply
from shared.weights import Card

from . import operators
from .lut import Lut, apply_lut, read_cube
from .temporal import GridSmoother
from .thumbnail import banded_thumbnail, thumbnail

if TYPE_CHECKING:
    import keras

APP = "enhance"
WIDEST = 3.0
"""Aspect ratio beyond which the square thumbnail squeezes the picture too far."""
_BAND_ROWS = 512
_BAND_MARGIN = 16
_WARM_UP = np.zeros((4, 4, 3), "uint8")


def looks() -> list[Card]:
    """Return the cards of all installed looks: shipped, and in the user's folder."""
    return weights.cards(APP)


def open_look(name_or_path: str | Path, *, strength: float = 1.0, **options: Any):
    """Open a look by name or file.

    Args:
        name_or_path: a name from `looks()`, a `.keras` file with its card, or any `.cube` file.
        strength: 0 leaves the picture as it is, 1 is the look, 2 exaggerates.
        **options: of `Enhancer`; colour tables have no use for them.

    Returns:
        An `Enhancer` for a network, a `LutEnhancer` for a colour table.

    Raises:
        WeightsError: there is no such look, or the file is damaged or of another application.
        DataError: a `.cube` file is malformed.
    """
    path = weights.find(APP, name_or_path)
    if path.suffix.lower() == ".cube":
        carded = path.with_suffix(".json").exists()
        settings = weights.read_card(path).settings if carded else {}
        return LutEnhancer(read_cube(path), settings, strength=strength)
    from . import model  # noqa: F401  registers the layers the file names

    card = weights.read_card(path)
    return Enhancer(weights.load_model(path, APP), card.settings, strength=strength, **options)


class Enhancer:
    """A network look: `enhancer(image) -> image`, same shape and type.

    Args:
        network: made by `model.hdrnet` or `model.pyramid_hdrnet`.
        settings: of the card; `input` is `srgb` or `log`.
        strength: 0 leaves the picture as it is, 1 is the look, 2 exaggerates. May be changed
            between calls.
        smooth: for `stream`: seconds, `auto` or `off` (see `temporal.GridSmoother`).
        keep_hue: where a channel exceeds white, pull the colour towards its luma.
        workers: threads; all cores by default.
    """

    def __init__(
        self,
        network: keras.Model,
        settings: dict[str, Any],
        *,
        strength: float = 1.0,
        smooth: str | float = "auto",
        keep_hue: bool = False,
        workers: int | None = None,
    ):
        from .model import guides

        self.network = network
        self.settings = settings
        self.strength = strength
        self._smooth = smooth
        self._keep_hue = keep_hue
        self._workers = workers
        self.guides = guides(network)
        self._predict = backend.compiled(network.get_layer("coefficients"))
        # Tracing and compiling happen here, not within the first picture or video frame.
        first = _WARM_UP.astype("float32" if settings.get("input") == "log" else "uint8")
        self._apply(self.coefficients(first), first)

    from_weights = staticmethod(open_look)

    def coefficients(self, pixels: np.ndarray) -> np.ndarray:
        """Predict the grid of a picture.

        Returns:
            float32 `(16, 16, 8, 3, 4)`: y, x, guide, output, input; three more rows per level in
            the multi-scale variant.
        """
        return self._grid(thumbnail(pixels))

    def _grid(self, small):
        return self._predict(small[None])[0].astype("float32")

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Enhance a picture.

        Args:
            pixels: `(height, width, 3)` RGB uint8, uint16 or float32, encoded as `prepare` does.

        Returns:
            The same shape and type.
        """
        if self.strength == 0:
            return pixels.copy()
        return self._apply(self.coefficients(pixels), pixels)

    def stream(self, fps: float) -> Callable[[np.ndarray], np.ndarray]:
        """Return a function for the frames of one video, in order; it smooths the grid."""
        smoother = GridSmoother(fps, self._smooth)

        def frame(pixels: np.ndarray) -> np.ndarray:
            small = thumbnail(pixels)
            grid = smoother(small, self._grid(small))
            return pixels.copy() if self.strength == 0 else self._apply(grid, pixels)

        return frame

    def bands(self, pixels: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Enhance a memory-mapped picture in bands of rows, in bounded memory.

        Yields:
            First row, and the result of some rows from there.
        """
        grid = self._grid(banded_thumbnail(pixels))
        height = pixels.shape[0]
        for first in range(0, height, _BAND_ROWS):
            end = min(first + _BAND_ROWS, height)
            top = max(first - _BAND_MARGIN, 0)
            rows = np.ascontiguousarray(pixels[top : min(end + _BAND_MARGIN, height)])
            if self.strength != 0:
                rows = self._apply(grid, rows, first_row=top, height=height)
            yield first, rows[first - top : end - top]

    def prepare(self, picture: Picture) -> Picture:
        """Bring a picture to the encoding the network was trained on; see `prepare`."""
        return prepare(picture, self.settings.get("input", "srgb"))

    def _apply(self, grid, pixels, **band):
        identity = np.eye(3, 4, dtype="float32")
        grid = np.float32(self.strength) * grid
        grid[..., :3, :] += np.float32(1 - self.strength) * identity
        if len(self.guides) > 1:
            return self._apply_pyramid(grid, pixels, **band)
        return slice_apply(
            grid, self.guides[0], pixels, keep_hue=self._keep_hue, workers=self._workers, **band
        )

    def _apply_pyramid(self, grid, pixels, first_row=0, height=None):
        """Add the slice-applied levels of a Gaussian pyramid, the coarsest first (section 5.1)."""
        rows, columns = pixels.shape[:2]
        step = 2 ** (len(self.guides) - 1)
        bottom, right = -rows % step, -columns % step
        level = images.to_float(pixels)
        if bottom or right:
            level = cv2.copyMakeBorder(level, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        levels = [level]
        for _ in self.guides[1:]:
            level = cv2.resize(
                level, (level.shape[1] // 2, level.shape[0] // 2), interpolation=cv2.INTER_AREA
            )
            levels.append(level)
        whole = (height or rows) + -(height or rows) % step
        result = None
        for i in reversed(range(len(levels))):
            part = slice_apply(
                grid[..., 3 * i : 3 * i + 3, :],
                self.guides[i],
                levels[i],
                first_row=first_row >> i,
                height=whole >> i,
                clip=False,
                workers=self._workers,
            )
            if result is not None:
                size = part.shape[1::-1]
                part += cv2.resize(result, size, interpolation=cv2.INTER_LINEAR)
            result = part
        return images.from_float(np.clip(result[:rows, :columns], 0, 1), pixels.dtype)


class LutEnhancer:
    """A look that is a colour table: `enhancer(image) -> image`, same shape and type.

    Args:
        lut: the table.
        settings: of the card; with `autocontrast` the picture is stretched first.
        strength: 0 leaves the picture as it is, 1 is the look, 2 exaggerates.
    """

    def __init__(self, lut: Lut, settings: dict[str, Any], *, strength: float = 1.0):
        self.lut = lut
        self.settings = settings
        self.strength = strength
        apply_lut(_WARM_UP, lut)  # compiles

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Apply the table to `(height, width, 3)` RGB uint8, uint16 or float32."""
        return self._apply(pixels, self._limits(thumbnail(pixels)))

    def stream(self, fps: float) -> Callable[[np.ndarray], np.ndarray]:
        """Return a function for the frames of one video; the stretch follows within 0.3 s."""
        smoother = GridSmoother(fps)

        def frame(pixels: np.ndarray) -> np.ndarray:
            small = thumbnail(pixels)
            return self._apply(pixels, smoother(small, self._limits(small)))

        return frame

    def bands(self, pixels: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Apply the table to a memory-mapped picture in bands of rows."""
        limits = self._limits(banded_thumbnail(pixels))
        for first in range(0, pixels.shape[0], _BAND_ROWS):
            yield first, self._apply(np.array(pixels[first : first + _BAND_ROWS]), limits)

    def prepare(self, picture: Picture) -> Picture:
        """Bring a picture to display-referred sRGB; see `prepare`."""
        return prepare(picture, "srgb")

    def _limits(self, small):
        if not self.settings.get("autocontrast"):
            return np.array([0.0, 1.0], "float32")
        return np.array(operators.contrast_limits(small), "float32")

    def _apply(self, pixels, limits):
        return apply_lut(pixels, self.lut.stretched(*limits), self.strength)


def prepare(picture: Picture, encoding: str) -> Picture:
    """Bring a picture to what a look expects, and note what does not fit.

    Args:
        picture: as read.
        encoding: `srgb` (display-referred) or `log` (`operators.encode_log` of linear light after
            `operators.expose`).

    Returns:
        A picture that is not linear; its `notes` tell what a person should know.
    """
    notes = list(picture.notes)
    pixels = picture.pixels
    height, width = pixels.shape[:2]
    if max(height, width) > WIDEST * min(height, width):
        notes.append("longer than 3:1: the network sees it squeezed, so check the result by eye")
    if encoding == "log":
        if not picture.linear:
            notes.append("no HDR picture: this look expects linear light (.hdr, .exr)")
            pixels = operators.srgb_to_linear(images.to_float(pixels))
        pixels = operators.encode_log(operators.expose(pixels))
    elif picture.linear:
        notes.append("HDR picture clipped to 0..1; the look `tonemap` keeps its range")
        pixels = operators.linear_to_srgb(pixels)
    return dataclasses.replace(picture, pixels=pixels, linear=False, notes=tuple(notes))

"""A picture made to tile: its middle is kept, a strip along its border made anew."""

from typing import Any

import numpy as np

from shared.errors import ConvsuiteError

from .synth import Synthesis, TextureSynthesizer


def seamless(
    synthesizer: TextureSynthesizer, picture: np.ndarray, strip: int, **options: Any
) -> Synthesis:
    """Change only what lies near the border, until the picture tiles.

    Args:
        synthesizer: Of the strip; the picture itself is the exemplar.
        picture: `(height, width, 3)`, RGB, 0..1; cut to multiples of 8 if a network is
            used, and said.
        strip: Width of the strip, in pixels.
        **options: As of `TextureSynthesizer.synthesise`.

    Raises:
        ConvsuiteError: The strip leaves no middle.
    """
    stride = synthesizer.stride
    height, width = (length // stride * stride for length in picture.shape[:2])
    if strip < 1 or 2 * strip >= min(height, width):
        raise ConvsuiteError(
            f"a strip of {strip} pixels on both sides leaves nothing of {width}x{height}; "
            "give a smaller --strip."
        )
    cut = picture[:height, :width]
    done = synthesizer.synthesise(
        [picture],
        (height, width),
        tile="xy",
        mask=strip_mask((height, width), strip),
        first=blended(cut, strip),
        **options,
    )
    if (height, width) == picture.shape[:2]:
        return done
    note = f"cut to {width}x{height}, multiples of {stride}"
    return done._replace(notes=(note, *done.notes))


def strip_mask(size: tuple[int, int], strip: int) -> np.ndarray:
    """Return 1 within a strip along the border, 0 inside, float32."""
    mask = np.ones(size, np.float32)
    mask[strip : size[0] - strip, strip : size[1] - strip] = 0
    return mask


def blended(picture: np.ndarray, strip: int) -> np.ndarray:
    """Mix a picture with its mirror images towards the border, so that both sides meet."""
    for axis in (0, 1):
        length = picture.shape[axis]
        place = np.arange(length)
        near = np.minimum(place, length - 1 - place)
        share = np.clip(0.5 * (1 - near / strip), 0, 0.5).astype(np.float32)
        share = share.reshape([-1 if a == axis else 1 for a in range(3)])
        picture = picture * (1 - share) + np.flip(picture, axis) * share
    return picture.astype(np.float32)

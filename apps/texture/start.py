"""Pictures that an optimisation can start from."""

import numpy as np

Size = tuple[int, int]
"""Height and width, in pixels."""


def noise(
    size: Size, seed: int, *, mean: float | np.ndarray = 0.5, deviation: float = 1 / 255
) -> np.ndarray:
    """Return independent Gaussian values, nearly flat grey.

    Gatys et al. draw them in 0..255 around the mean that the network subtracts, with deviation 1.

    Returns:
        `(height, width, 3)`, clipped to 0..1.
    """
    values = np.random.default_rng(seed).normal(mean, deviation, (*size, 3))
    return np.clip(values, 0, 1).astype(np.float32)


def pixels(exemplar: np.ndarray, size: Size, seed: int) -> np.ndarray:
    """Return pixels drawn from an exemplar, each for itself, `(height, width, 3)`."""
    flat = exemplar.reshape(-1, 3)
    return flat[np.random.default_rng(seed).integers(len(flat), size=size)]


def random_phase(exemplar: np.ndarray, size: Size, seed: int) -> np.ndarray:
    """Return a Gaussian texture with the mean and the power spectrum of an exemplar.

    Every channel is turned by the same random phases, which keeps the correlation of the colours.
    The result tiles. Source: Galerne, Gousseau, Morel, "Random Phase Textures: Theory and
    Synthesis", IEEE Trans. Image Processing 2011.

    Args:
        exemplar: `(height, width, 3)`, RGB, 0..1; only what fits into `size` counts.
        size: Height and width of the result.
        seed: Start of the random phases.

    Returns:
        `(height, width, 3)`, clipped to 0..1.
    """
    height, width = (min(pair) for pair in zip(exemplar.shape[:2], size, strict=True))
    known = exemplar[:height, :width].astype(np.float64)
    mean = known.mean((0, 1))
    # The window keeps the rim of the exemplar from being a pattern of its own.
    window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])[..., None]
    window /= np.sqrt(np.mean(window**2))
    spread = np.zeros((*size, 3))
    spread[:height, :width] = (known - mean) * window * np.sqrt(np.prod(size) / (height * width))
    white = np.fft.rfft2(np.random.default_rng(seed).normal(size=size))
    phase = white / np.maximum(np.abs(white), 1e-12)
    turned = np.fft.irfft2(
        np.fft.rfft2(spread, axes=(0, 1)) * phase[..., None], s=size, axes=(0, 1)
    )
    # The window leaves some of the mean behind.
    return np.clip(turned - turned.mean((0, 1)) + mean, 0, 1).astype(np.float32)

"""What a picture must agree with: energies of feature maps, as pure functions of tensors.

Sources: T: Gatys, Ecker, Bethge, NIPS 2015; S: Gatys, Ecker, Bethge, CVPR 2016; D: Sendik and
Cohen-Or, ACM TOG 36(5), 2017. Feature maps are `(height, width, channels)`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import lazy_loader as lazy
import numpy as np

keras = lazy.load("keras")

_SMOOTHNESS_SIGMA = 1e-4


def gram(features: Any) -> Any:
    """Return the correlations of the channels, F^T F / positions, `(channels, channels)`.

    Divided by the positions, so that exemplar and result may differ in size. Source: T, equation 1.
    """
    flat = keras.ops.reshape(features, (-1, features.shape[-1]))
    return keras.ops.matmul(keras.ops.transpose(flat), flat) / flat.shape[0]


def gram_distance(found: Any, wanted: Any) -> Any:
    """Return |G - G'|^2 / (4 N^2) of two Gram matrices of N channels. Source: T, equation 2."""
    return keras.ops.sum(keras.ops.square(found - wanted)) / (4 * found.shape[-1] ** 2)


def gram_slope(found: Any, wanted: Any) -> Any:
    """Return the derivative of `gram_distance` in the Gram matrix found."""
    return (found - wanted) / (2 * found.shape[-1] ** 2)


def relative_gram_distance(found: Any, wanted: Any) -> Any:
    """Return |G - G'|^2 / |G'|^2, which no scale of the features changes."""
    size = keras.ops.sum(keras.ops.square(wanted)) + 1e-12
    return keras.ops.sum(keras.ops.square(found - wanted)) / size


def correlation(
    features: Any, shifts: tuple[int, int], circular: tuple[bool, bool] = (False, False)
) -> Any:
    """Return the deep correlations: autocorrelation of every channel, without bias.

    Each value is the mean, over all positions where both lie on the map, of the product of two
    features that are a shift apart; neither mean-free nor scaled. Source: D, equation 3.

    Args:
        features: `(height, width, channels)`.
        shifts: Largest shift down and to either side; less than the map.
        circular: Which axes go round, as on a picture that tiles: height, width.

    Returns:
        `(channels, down + 1, 2 * side + 1)`: shifts 0..down and -side..side. The rest follows by
        symmetry.
    """
    height, width, _ = features.shape
    down, side = shifts
    sizes = [
        length if goes_round else 2 * length
        for length, goes_round in zip((height, width), circular, strict=True)
    ]
    maps = keras.ops.transpose(features, (2, 0, 1))
    maps = keras.ops.pad(maps, ((0, 0), (0, sizes[0] - height), (0, sizes[1] - width)))
    real, imaginary = keras.ops.fft2((maps, keras.ops.zeros_like(maps)))
    power = keras.ops.square(real) + keras.ops.square(imaginary)
    sums, _ = keras.ops.ifft2((power, keras.ops.zeros_like(power)))
    rows = sums[:, : down + 1]
    wanted = keras.ops.concatenate([rows[:, :, sizes[1] - side :], rows[:, :, : side + 1]], axis=-1)
    return keras.ops.divide(wanted, overlaps((height, width), shifts, circular))


def overlaps(
    size: tuple[int, int], shifts: tuple[int, int], circular: tuple[bool, bool] = (False, False)
) -> np.ndarray:
    """Return the positions at which a map and its shifted copy both exist, as `correlation` has."""
    reach = (np.arange(shifts[0] + 1), np.abs(np.arange(-shifts[1], shifts[1] + 1)))
    counts = [
        np.full(len(shift), length) if goes_round else length - shift
        for length, shift, goes_round in zip(size, reach, circular, strict=True)
    ]
    return np.outer(*counts).astype(np.float32)


def correlation_distance(found: Any, wanted: Any) -> Any:
    """Return the mean square difference of correlations over channels and shifts, over 4."""
    return keras.ops.mean(keras.ops.square(found - wanted)) / 4


def correlation_sum(found: Any, wanted: Any) -> Any:
    """Return the squared differences of correlations, summed over all shifts. Source: D, eq. 4.

    Shifts upwards, which `correlation` leaves out, count as their mirror images do.
    """
    squares = keras.ops.square(found - wanted)
    return 2 * keras.ops.sum(squares[:, 1:]) + keras.ops.sum(squares[:, :1])


def diversity(features: Any, exemplar: Any) -> Any:
    """Return half the squared difference of features at the same places; D subtracts it."""
    return keras.ops.sum(keras.ops.square(features - exemplar)) / 2


def smoothness(linear: Any, sigma: float = _SMOOTHNESS_SIGMA) -> Any:
    """Return (1 / 2s) sum log(1/4 sum exp(-s d^2)) over the four neighbours, going round.

    Args:
        linear: Features before their ReLU.
        sigma: s.
    """
    total = 0.0
    for axis in (0, 1):
        for step in (1, -1):
            distance = keras.ops.square(linear - keras.ops.roll(linear, step, axis=axis))
            total = total + keras.ops.exp(-sigma * distance)
    return keras.ops.sum(keras.ops.log(total / 4)) / (2 * sigma)


def content(features: Any, wanted: Any) -> Any:
    """Return the mean square difference of features, relative to their mean square. Source: S."""
    size = keras.ops.mean(keras.ops.square(wanted)) + 1e-12
    return keras.ops.mean(keras.ops.square(features - wanted)) / size


def mixed(targets: Sequence[Mapping[str, Any]], mix: Sequence[float]) -> dict[str, Any]:
    """Return the weighted means of statistics of several exemplars, by name."""
    return {
        name: sum(
            share * np.asarray(target[name], np.float32)
            for share, target in zip(mix, targets, strict=True)
        )
        for name in targets[0]
    }

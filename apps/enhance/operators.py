"""Classic picture operators: generators of training pairs and the baselines of speed and quality.

Every operator is a pure function `float32 (height, width, 3), 0..1 -> the same`. `OPERATORS` maps
a photo to the target of a look. `SPOILERS` work the other way round: the photo is the target, and
the spoilt copy is the input from which a network learns the way back.
"""

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

# Rec. 601, the luma of JPEG and OpenCV.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# Rec. 709 primaries: luminance of linear light.
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)

_MIDDLE_GREY = 0.18
_LOG_STOPS = 20.0
_LOG_LOW = float(np.log2(_MIDDLE_GREY) - _LOG_STOPS / 2)

# Differences below the first value are taken for noise and are not amplified; above the second the
# remapping curve acts in full.
_NOISE_LOW, _NOISE_HIGH = 0.01, 0.02
_COARSEST_SIDE = 8

# Contrast of the tone-mapped base between its 1st and 99th percentile.
_BASE_CONTRAST = 20.0


def luma(image: np.ndarray) -> np.ndarray:
    """Return the Rec. 601 luma `(height, width)` of a display-referred picture."""
    return image @ _LUMA


def srgb_to_linear(image: np.ndarray) -> np.ndarray:
    """Decode sRGB values 0..1 to linear light 0..1 (IEC 61966-2-1)."""
    image = np.asarray(image, np.float32)
    curve = ((np.maximum(image, 0) + np.float32(0.055)) / np.float32(1.055)) ** np.float32(2.4)
    return np.where(image <= 0.04045, image / np.float32(12.92), curve)


def linear_to_srgb(linear: np.ndarray) -> np.ndarray:
    """Clip linear light to 0..1 and encode it as sRGB (IEC 61966-2-1)."""
    linear = np.clip(np.asarray(linear, np.float32), 0, 1)
    curve = np.float32(1.055) * linear ** np.float32(1 / 2.4) - np.float32(0.055)
    return np.where(linear <= 0.0031308, linear * np.float32(12.92), curve)


def encode_log(linear: np.ndarray) -> np.ndarray:
    """Encode HDR linear light as 0..1: 20 stops, middle grey (0.18) at 0.5.

    The code spans 0.000176 to 184; what lies outside is clipped. In daylight-scaled light probes
    that is more than 99.8 % of the pixels, all but the discs of sun and lamps. The code depends on
    the pixel alone, not on the exposure of the picture. Keep it in float or 16 bits: one step of
    8 bits is a twelfth of a stop.

    Args:
        linear: Linear light of any range; zero, negative and NaN become 0, infinity 1.
    """
    floor = np.float32(2.0**_LOG_LOW)
    light = np.nan_to_num(np.asarray(linear, np.float32), nan=0.0)
    code = (np.log2(np.maximum(light, floor)) - np.float32(_LOG_LOW)) / np.float32(_LOG_STOPS)
    return np.clip(code, 0, 1)


def expose(linear: np.ndarray) -> np.ndarray:
    """Scale linear light so that its log-average luminance is middle grey (Reinhard et al. 2002).

    HDR files come in any unit; after this, looks that are trained on log-encoded light see all of
    them alike. A black picture stays as it is.
    """
    luminance = np.asarray(linear, np.float32) @ _LUMINANCE
    lit = luminance[np.isfinite(luminance) & (luminance > 0)]
    if not lit.size:
        return linear
    return linear * np.float32(_MIDDLE_GREY / np.exp(np.log(lit).mean(dtype=np.float64)))


def decode_log(image: np.ndarray) -> np.ndarray:
    """Return the linear light of a picture made by `encode_log`."""
    code = np.asarray(image, np.float32)
    return np.exp2(code * np.float32(_LOG_STOPS) + np.float32(_LOG_LOW))


def clahe(image: np.ndarray) -> np.ndarray:
    """Equalise the lightness in tiles with limited contrast (CLAHE, Zuiderveld 1994).

    OpenCV's filter with clip limit 2 and 8 x 8 tiles on L of CIE L*a*b*. The picture is rounded to
    8 bits on the way, as is usual with this filter, so the result has 8-bit steps.
    """
    lab = cv2.cvtColor(_to_bytes(image), cv2.COLOR_RGB2LAB)
    equaliser = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8))
    lab[..., 0] = equaliser.apply(lab[..., 0])
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB).astype(np.float32) / np.float32(255)


def local_laplacian(
    image: np.ndarray, sigma: float, alpha: float, beta: float, *, knots: int = 10
) -> np.ndarray:
    """Change detail and tone of luma without halos (Paris et al. 2011; fast: Aubry et al. 2014).

    Luma is remapped around `knots` grey levels; each coefficient of the output's Laplacian pyramid
    is interpolated between the pyramids of the two knots next to the local mean. The change of luma
    is added to all three channels.

    Args:
        image: Picture `(height, width, 3)`, float32, 0..1.
        sigma: Luma differences up to here are detail, larger ones are edges.
        alpha: Exponent for detail; below 1 enhances, above 1 smooths.
        beta: Slope for edges; below 1 compresses the tonal range.
        knots: Number of grey levels at which luma is remapped.
    """
    grey = luma(image)
    means = _gaussian_pyramid(grey)
    changed = [np.zeros_like(level) for level in means[:-1]]
    spacing = 1 / (knots - 1)
    for knot in np.linspace(0, 1, knots, dtype=np.float32):
        remapped = _laplacian_pyramid(_remap(grey, knot, sigma, alpha, beta))
        for level, mean, detail in zip(changed, means, remapped, strict=False):
            weight = 1 - np.abs(np.clip(mean, 0, 1) - knot) / np.float32(spacing)
            level += np.maximum(weight, 0) * detail
    difference = _collapse([*changed, means[-1]]) - grey
    return np.clip(image + difference[..., None], 0, 1)


def tonemap(image: np.ndarray) -> np.ndarray:
    """Tone-map log-encoded HDR for a display (Durand and Dorsey 2002), bilateral filter in full.

    Log luminance is split by an edge-preserving filter into base and detail; the base is compressed
    to a fixed contrast, the detail kept, colours follow by their ratio to luminance.

    Args:
        image: HDR picture encoded by `encode_log`.

    Returns:
        Display-referred sRGB picture, 0..1.
    """
    linear = decode_log(image)
    luminance = linear @ _LUMINANCE
    log_luminance = np.log10(luminance)
    base = cv2.bilateralFilter(
        log_luminance,
        d=-1,
        sigmaColor=0.4,
        sigmaSpace=max(0.02 * max(luminance.shape), 1.0),
    )
    dark, bright = np.percentile(base, [1, 99])
    slope = np.float32(min(1.0, np.log10(_BASE_CONTRAST) / max(bright - dark, 1e-6)))
    compressed = slope * (base - np.float32(bright)) + (log_luminance - base)
    ratio = linear / luminance[..., None]
    return linear_to_srgb(ratio * np.float32(10) ** compressed[..., None])


def contrast_limits(image: np.ndarray) -> tuple[np.float32, np.float32]:
    """Return the luma below which 0.5 % of the picture lies, and that above which 0.5 % lie.

    An even picture has no contrast to stretch; its limits are 0 and 1.
    """
    dark, bright = np.percentile(luma(image), [0.5, 99.5]).astype("float32")
    return (dark, bright) if bright - dark >= 1 / 255 else (np.float32(0), np.float32(1))


def autocontrast(image: np.ndarray) -> np.ndarray:
    """Stretch all channels alike so that 0.5 % of the luma falls on black and 0.5 % on white."""
    dark, bright = contrast_limits(image)
    return np.clip((image - dark) / (bright - dark), 0, 1)


def mean_gamma(image: np.ndarray, target: float = 0.45) -> np.ndarray:
    """Apply the gamma curve that would move the mean luma to `target`."""
    mean = float(np.clip(luma(image).mean(), 1e-3, 1 - 1e-3))
    return np.clip(image, 0, 1) ** np.float32(np.log(target) / np.log(mean))


def spoil(
    image: np.ndarray,
    rng: np.random.Generator,
    low: float = 0.2,
    high: float = 1.1,
    *,
    noise: float = 0.0,
) -> np.ndarray:
    """Spoil a good photo: exposure, white balance, colour, contrast and flare, in this order.

    The ranges are: linear-light gain `exp(U(ln low, ln high))`, gain per channel `U(.85, 1.18)`,
    saturation `U(.6, 1.05)`, contrast `U(.75, 1.1)` about a pivot `U(0, .5)`, lift `U(-.01, .03)`.

    Args:
        image: Photo `(height, width, 3)`, float32, 0..1.
        rng: Source of the random numbers.
        low: Least gain.
        high: Greatest gain.
        noise: Standard deviation of sensor noise in the dark, in linear light.
    """
    gain = np.exp(rng.uniform(np.log(low), np.log(high))) * rng.uniform(0.85, 1.18, 3)
    linear = srgb_to_linear(image) * gain.astype(np.float32)
    if noise:
        linear = linear + _sensor_noise(linear, rng, noise)
    spoilt = linear_to_srgb(linear)
    grey = luma(spoilt)[..., None]
    spoilt = grey + np.float32(rng.uniform(0.6, 1.05)) * (spoilt - grey)
    contrast, pivot = np.float32(rng.uniform(0.75, 1.1)), np.float32(rng.uniform(0, 0.5))
    spoilt = pivot + contrast * (spoilt - pivot) + np.float32(rng.uniform(-0.01, 0.03))
    return np.clip(spoilt, 0, 1)


def darken(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Spoil a photo to low light: gain `exp(U(ln .04, ln .3))` and slight sensor noise."""
    return spoil(image, rng, 0.04, 0.3, noise=5e-4)


@dataclass(frozen=True)
class Operator:
    """An operator and what a person should know about it.

    Attributes:
        name: Key in `OPERATORS`.
        summary: One line for tables.
        function: `float32 (height, width, 3), 0..1 -> the same`.
        local: Whether equal colours may change differently within one picture.
        source: Publication or definition.
    """

    name: str
    summary: str
    function: Callable[[np.ndarray], np.ndarray]
    local: bool
    source: str

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Apply the operator."""
        return self.function(image)


OPERATORS: dict[str, Operator] = {
    operator.name: operator
    for operator in (
        Operator(
            "clahe",
            "local contrast: lightness equalised in tiles",
            clahe,
            local=True,
            source="Zuiderveld 1994, OpenCV: clip limit 2, 8 x 8 tiles, L of L*a*b*",
        ),
        Operator(
            "detail",
            "fine detail lifted without halos",
            functools.partial(local_laplacian, sigma=0.2, alpha=0.4, beta=1.0),
            local=True,
            source="Paris et al. 2011, Aubry et al. 2014: sigma 0.2, alpha 0.4, beta 1",
        ),
        Operator(
            "tone",
            "tonal range compressed, detail kept",
            functools.partial(local_laplacian, sigma=0.15, alpha=0.6, beta=0.5),
            local=True,
            source="Paris et al. 2011, Aubry et al. 2014: sigma 0.15, alpha 0.6, beta 0.5",
        ),
        Operator(
            "tonemap",
            "log-encoded HDR to a display picture",
            tonemap,
            local=True,
            source="Durand and Dorsey 2002: sigma 2 % of the longer side, 0.4 log10 units",
        ),
        Operator(
            "autocontrast",
            "luma stretched to the full range",
            autocontrast,
            local=False,
            source="0.5 % percentiles of Rec. 601 luma",
        ),
        Operator(
            "mean_gamma",
            "gamma towards a mean luma of 0.45",
            mean_gamma,
            local=False,
            source="exponent ln 0.45 / ln mean Rec. 601 luma",
        ),
    )
}

SPOILERS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "auto": spoil,
    "lowlight": darken,
}


def _to_bytes(image: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _sensor_noise(linear: np.ndarray, rng: np.random.Generator, dark: float) -> np.ndarray:
    """Return Gaussian noise: read noise `dark` plus shot noise, equal at a fiftieth of white."""
    deviation = np.float32(dark) * np.sqrt(1 + 50 * np.clip(linear, 0, 1))
    return deviation * rng.standard_normal(linear.shape, np.float32)


def _remap(
    grey: np.ndarray, centre: np.float32, sigma: float, alpha: float, beta: float
) -> np.ndarray:
    """Remap luma around `centre` (Paris et al. 2011, equations 1 to 3)."""
    difference = grey - centre
    size = np.abs(difference)
    detail = np.float32(sigma) * (size / np.float32(sigma)) ** np.float32(alpha)
    edge = np.float32(beta) * (size - np.float32(sigma)) + np.float32(sigma)
    target = np.where(size <= sigma, detail, edge)
    step = np.clip((size - _NOISE_LOW) / (_NOISE_HIGH - _NOISE_LOW), 0, 1)
    certainty = step**2 * (step - 2) ** 2
    return centre + np.sign(difference) * (size + certainty * (target - size))


def _gaussian_pyramid(grey: np.ndarray) -> list[np.ndarray]:
    levels = [grey]
    while min(levels[-1].shape) > _COARSEST_SIDE:
        levels.append(cv2.pyrDown(levels[-1]))
    return levels


def _laplacian_pyramid(grey: np.ndarray) -> list[np.ndarray]:
    """Return the band-pass levels, without the coarsest low-pass."""
    levels = _gaussian_pyramid(grey)
    return [fine - _expand(coarse, fine) for fine, coarse in itertools.pairwise(levels)]


def _collapse(pyramid: list[np.ndarray]) -> np.ndarray:
    result = pyramid[-1]
    for level in reversed(pyramid[:-1]):
        result = level + _expand(result, level)
    return result


def _expand(coarse: np.ndarray, fine: np.ndarray) -> np.ndarray:
    return cv2.pyrUp(coarse, dstsize=fine.shape[::-1])

"""How good a texture is, by features and statistics that no optimiser of this application sees.

An energy that is minimised cannot judge the result. Here a network of another family compares the
distributions of its features; plain statistics of the pixels say how much was copied from the
exemplar, how much repeats, whether the order is kept, and whether the picture tiles.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from shared import backbones, backend, metrics
from shared.errors import ConvsuiteError

_PATCH = 32
"""Side of the patches whose copies are looked for; the smallest picture that can be judged."""

_SQUEEZENET = ("squeezenet1.1", ("conv1", "fire2", "fire3", "fire5", "fire6", "fire9"))
# Maps behind an activation, at the strides of those above.
_EFFICIENTNET = ("efficientnet_lite0", ("stem", "x2", "x3", "x5", "x6", "x11"))

Features = Mapping[str, np.ndarray]


class Score(NamedTuple):
    """What the judge says of a texture; 0 is best but for the shares of copies of real pictures.

    Attributes:
        gram: Distance of the Gram matrices, relative to the exemplar's; mean over the layers.
        sw: Sliced Wasserstein-1 distance of the features, in deviations; mean over the layers.
        ac: RMS difference of the autocorrelations of luma.
        copy_mean: Mean best correlation of a patch with the exemplar. An unseen part of the same
            texture has it, too: compare with that.
        copy_share: Share of the patches that are copies.
        repeat_mean: Mean best correlation of a patch with another place of the texture.
        repeat_share: Share of the patches that are found elsewhere in the texture.
        seam: Step across the border when the texture is tiled; invisible up to 1.
    """

    gram: float
    sw: float
    ac: float
    copy_mean: float
    copy_share: float
    repeat_mean: float
    repeat_share: float
    seam: float


class Judge:
    """Compares textures by the features of a network.

    Distances of different networks are not comparable; `network` says which one judged.
    """

    def __init__(
        self, network: str, layers: Sequence[str], weights: str | Path | None = None
    ) -> None:
        """Open a network.

        Args:
            network: A network of `shared.backbones`.
            layers: Its taps, shallow to deep.
            weights: As for `shared.backbones.trunk`.

        Raises:
            WeightsError: No weights are found, or they do not fit.
        """
        self.network, self.layers = network, tuple(layers)
        self._spec = backbones.spec(network)
        # Distances that depend on the machine could not be compared.
        with backend.in_float32():
            self._maps = backend.compiled(backbones.trunk(network, self.layers, weights))

    @classmethod
    def open(cls, weights: str | Path | None = None) -> "Judge":
        """Return a judge that sees through SqueezeNet 1.1, or EfficientNet-Lite0 without a file.

        Args:
            weights: Weights of SqueezeNet 1.1, any file that `shared.backbones` reads; None for the
                installed EfficientNet-Lite0.

        Raises:
            WeightsError: The file does not fit, or the package is not installed.
        """
        network, layers = _EFFICIENTNET if weights is None else _SQUEEZENET
        return cls(network, layers, weights)

    def __call__(self, result: np.ndarray, exemplar: np.ndarray) -> Score:
        """Judge a texture by the exemplar it was made from.

        Args:
            result: `(height, width, 3)`, float32, 0..1; at least 32 x 32.
            exemplar: Likewise, of any size.

        Raises:
            ConvsuiteError: A picture is too small.
        """
        for picture in (result, exemplar):
            if min(picture.shape[:2]) < _PATCH:
                raise ConvsuiteError(
                    f"A texture of {picture.shape[1]} x {picture.shape[0]} pixels is too small to "
                    f"be judged; take at least {_PATCH} x {_PATCH}."
                )
        copies, repeats = metrics.novelty(result, exemplar, _PATCH), metrics.repetition(result)
        return Score(
            *self.compare(self.features(result), self.features(exemplar)),
            metrics.autocorrelation_distance(result, exemplar),
            *copies,
            *repeats,
            metrics.tileability(result),
        )

    def features(self, picture: np.ndarray) -> dict[str, np.ndarray]:
        """Return the features of a picture at its own size.

        Args:
            picture: `(height, width, 3)`, float32, 0..1.

        Returns:
            `(positions, channels)` by layer. Positions at the border, where the network sees its
            own padding, are left out where there are others.
        """
        maps = self._maps(backbones.preprocess_whole(picture, self._spec)[None])
        return {
            layer: _inside(found[0]).reshape(-1, found.shape[-1])
            for layer, found in zip(self.layers, maps, strict=True)
        }

    def compare(self, features: Features, reference: Features) -> tuple[float, float]:
        """Return the distances `gram` and `sw` of two pictures' features.

        Args:
            features: From `features`.
            reference: Those of the exemplar; distances are relative to it.

        Returns:
            Means over the layers: the Frobenius norm of the difference of the Gram matrices (of
            the mean over the positions) divided by that of the reference; the sliced
            Wasserstein-1 distance.
        """
        pairs = [(features[layer], reference[layer]) for layer in self.layers]
        return (
            float(np.mean([_gram_distance(*pair) for pair in pairs])),
            float(np.mean([metrics.sliced_wasserstein(*pair) for pair in pairs])),
        )


def _inside(found: np.ndarray) -> np.ndarray:
    """Return a map without one position along each border, where that leaves any."""
    return found[tuple(slice(1, -1) if side > 2 else slice(None) for side in found.shape[:2])]


def _gram_distance(features: np.ndarray, reference: np.ndarray) -> float:
    ours, theirs = (cloud.T @ cloud / len(cloud) for cloud in (features, reference))
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))

"""The pages of `convsuite backbones visualise`: one picture, or many, seen through a network."""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from shared import backend, images
from shared.errors import ConvsuiteError
from shared.report import Page

from . import visualise
from .labels import as_probabilities, decode, load_labels
from .preprocessing import preprocess, to_picture
from .registry import spec as find_spec
from .trunks import class_names, input_statistics, trunk
from .visualise import METHODS, GradCam, Method, Projector, Unit

_GREY = 0.5
_SMALLEST_CROP = 60


class Looker:
    """A network with weights and the views of it; each view is built when it is first asked for."""

    def __init__(self, network: str, weights: str | None = None, *, labels: Path | None = None):
        """Name a network; its weights are read by the views, each as far as it needs them.

        Raises:
            ConvsuiteError: Unknown network, or no weights for it.
        """
        self.spec = find_spec(network)
        self._weights = weights
        self._labels = labels
        self._statistics = input_statistics(network, weights)
        self._gradcams: dict[str, GradCam] = {}

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Return a picture as the network takes it, `(size, size, channels)`."""
        return preprocess(image, self.spec, **self._statistics)

    def shown(self, prepared: np.ndarray) -> np.ndarray:
        """Return a network input as uint8 RGB."""
        return images.from_float(to_picture(prepared, self.spec, **self._statistics), np.uint8)

    def names(self, prepared: np.ndarray, top: int = 5) -> list[tuple[str, float]]:
        """Return the likeliest names with their probabilities."""
        return decode(self._forward(prepared[None])[1][0], top, self.labels)

    @functools.cached_property
    def labels(self) -> list[str]:
        """Names of the classes."""
        known = class_names(self.spec.name, self._weights)
        return load_labels(self._labels, self._whole.output_shape[1][-1], known)

    def label(self, prepared: np.ndarray) -> int:
        """Return the number of the likeliest class."""
        return int(self._forward(prepared[None])[1][0].argmax())

    def occlusion(self, prepared: np.ndarray, label: int | None = None) -> visualise.Occlusion:
        """Slide a grey square over a picture, see `visualise.occlusion`."""
        grey = self.prepare(np.full((8, 8, 3), _GREY, "float32"))[0, 0]
        return visualise.occlusion(self._forward, prepared, grey, label=label)

    def gradcam(
        self, prepared: np.ndarray, label: int | None = None, tap: str | None = None
    ) -> np.ndarray:
        """Return where the network sees a class.

        Args:
            prepared: From `prepare`.
            label: Number of the class; the likeliest by default.
            tap: Maps to go by; the last convolutional ones by default, see `last_maps`.

        Returns:
            `(size, size)`, 0..1.

        Raises:
            ConvsuiteError: Signals pass these maps by, as those inside a residual block.
        """
        tap = tap or last_maps(self.spec.name)
        if tap not in self._gradcams:
            network = trunk(self.spec.name, [tap, "logits"], weights=self._weights)
            self._gradcams[tap] = GradCam(network)
        return self._gradcams[tap](prepared, self.label(prepared) if label is None else label)

    def filters(self) -> np.ndarray:
        """Return the filters of the first convolution as one picture."""
        return visualise.filters(self.map_network(self.spec.taps[0].name), self.spec.preprocessing)

    def map_network(self, tap: str):
        """Return the network up to a tap."""
        return trunk(self.spec.name, features=[tap], weights=self._weights)

    @functools.cached_property
    def _whole(self):
        taps = [self.spec.body, self.spec.taps[-1].name]
        return trunk(self.spec.name, features=taps, weights=self._weights)

    @functools.cached_property
    def _forward(self):
        forward = backend.compiled(self._whole)

        def answer(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            maps, outputs = forward(batch)
            return maps, as_probabilities(outputs, self.spec)

        return answer


def last_maps(network: str) -> str:
    """Return the tap of the last convolutional maps in front of the classifier."""
    entry = find_spec(network)
    taps = [tap.name for tap in entry.taps]
    before = taps[: taps.index(entry.body) + 1]
    return next(tap for tap in reversed(before) if not tap.startswith("pool"))


def middle_tap(network: str) -> str:
    """Return a tap whose maps show parts of objects: the last one at a stride of 8 or less."""
    # Maps inside a block (`xN`) end in ReLU6, whose ceiling stops the gradient of strong units.
    taps = [t.name for t in find_spec(network).taps if 1 < t.stride <= 8 and t.name[0] != "x"]
    return taps[-1] if taps else find_spec(network).body


def picture_page(
    looker: Looker,
    path: Path,
    page: Page,
    *,
    command: str,
    tap: str | None = None,
    method: Method | None = None,
    channels: Sequence[int] | None = None,
) -> None:
    """Add one picture: names, Grad-CAM, occlusion, and the strongest units of some channels.

    Args:
        looker: Network.
        path: Picture.
        page: Receives all.
        command: That makes the page.
        tap: Maps of Grad-CAM and of the units; see `last_maps` and `middle_tap` for the default.
        method: Backward rule of the units; all three by default.
        channels: Of the units; the nine strongest by default.

    Raises:
        ConvsuiteError: The network has no classes.
    """
    looker.spec.check_classes()
    prepared = looker.prepare(images.read(path))
    shown = looker.shown(prepared)
    names = looker.names(prepared)
    label = looker.label(prepared)
    page.picture(
        shown,
        "Seen: " + ", ".join(f"{name} {share:.0%}" for name, share in names[:3]),
        command=command,
        alt=f"{path.name}, cut to the square that the network sees",
    )
    maps_of = tap or last_maps(looker.spec.name)
    try:
        cam = looker.gradcam(prepared, label, maps_of)
    except ConvsuiteError:
        cam = looker.gradcam(prepared, label)
        maps_of = f"{last_maps(looker.spec.name)}, since signals pass {tap} by"
    page.picture(
        visualise.heat(cam, shown),
        f"Grad-CAM: where it sees “{names[0][0]}”, by its maps {maps_of}",
    )
    result = looker.occlusion(prepared, label)
    most = max(float(result.probability.max()), 1e-9)
    page.picture(
        visualise.heat(result.probability / most, shown),
        f"Occlusion: probability of “{names[0][0]}” with a grey square there, "
        f"from {result.probability.min():.0%} (blue) to {most:.0%} (red), whole picture "
        f"{result.whole:.0%}",
    )
    page.picture(
        visualise.heat(np.clip(result.activation, 0, 1), shown),
        "Occlusion: sum of the map that answers most to the whole picture",
    )
    coloured, legend = visualise.areas(result.labels, shown)
    page.picture(
        coloured,
        "Occlusion: the likeliest name with a grey square there: "
        + ", ".join(
            f"{colour} {'others' if one is None else f'“{looker.labels[one]}”'} ({share:.0%})"
            for colour, one, share in legend
        ),
    )
    tap = tap or middle_tap(looker.spec.name)
    network = looker.map_network(tap)
    maps = backend.compiled(network)(prepared[None])
    units = visualise.strongest_units(maps)[0]
    if channels:
        units = [units[channel] for channel in channels]
        which = ", ".join(f"channel {channel}" for channel in channels)
    else:
        units = sorted(units, key=lambda unit: -unit.value)[:9]
        which = "its strongest channels"
    projectors = {rule: Projector(network, rule) for rule in ([method] if method else METHODS)}
    crops = [_crop(shown, next(iter(projectors.values())), unit) for unit in units]
    page.picture(_sheet(crops), f"What is seen in {tap} by {which}")
    batch = np.repeat(prepared[None], len(units), axis=0)
    for rule, projector in projectors.items():
        signals = projector(batch, units, maps.shape[1:])
        back = [_crop(_rgb(looker, s), projector, u) for s, u in zip(signals, units, strict=True)]
        page.picture(_sheet(back), f"The same, sent back to the pixels: {rule}")


def strongest_page(
    looker: Looker,
    pictures: Sequence[Path],
    page: Page,
    *,
    tap: str,
    method: Method = "deconvnet",
    channels: Sequence[int] | None = None,
    count: int = 9,
    show: int = 6,
    batch: int = 16,
) -> list[int]:
    """Add, per channel, the pictures that excite it most beside what it saw in them.

    Args:
        looker: Network.
        pictures: Files; read twice, one batch at a time.
        page: Receives the sheets.
        tap: Where to look.
        method: Backward rule.
        channels: Which channels; by default those with the highest activations.
        count: Pictures per channel.
        show: Channels to show when none are named.
        batch: Pictures per forward pass.

    Returns:
        The channels shown.
    """
    network = looker.map_network(tap)
    forward = backend.compiled(network)
    best = visualise.top_units(forward, _batches(looker, pictures, batch), count)
    if channels is None:
        order = sorted(range(len(best)), key=lambda c: -best[c][0].value)
        channels = order[:show]
    projector = Projector(network, method)
    page.text(
        f"Each channel of {tap} with the {len(best[0])} of {len(pictures)} pictures that excite it "
        f"most, the strongest first: left what came back to the pixels ({method}; grey is zero), "
        f"right the {projector.side} x {projector.side} pixels that the channel sees there; white "
        "lies outside of the picture."
    )
    for channel in channels:
        units = best[channel]
        inputs = np.stack([looker.prepare(images.read(pictures[unit.picture])) for unit in units])
        signals = projector(inputs, units, forward(inputs[:1]).shape[1:])
        seen = [
            _crop(looker.shown(one), projector, unit)
            for one, unit in zip(inputs, units, strict=True)
        ]
        back = [
            _crop(_rgb(looker, s), projector, unit) for s, unit in zip(signals, units, strict=True)
        ]
        page.heading(f"Channel {channel}", level=3)
        page.picture(_sheet(back), f"{tap}, channel {channel}: {method}")
        page.picture(
            _sheet(seen),
            f"{tap}, channel {channel}: the {len(units)} pictures that excite it most, "
            f"activations {units[0].value:.3g} to {units[-1].value:.3g}",
        )
    return list(channels)


def _batches(looker: Looker, pictures: Sequence[Path], size: int):
    for start in range(0, len(pictures), size):
        chunk = pictures[start : start + size]
        yield np.stack([looker.prepare(images.read(path)) for path in chunk])


def _sheet(crops: Sequence[np.ndarray]) -> np.ndarray:
    """Lay out crops; the small ones of early layers are enlarged."""
    return visualise.tiles(crops, zoom=max(1, _SMALLEST_CROP // crops[0].shape[0]))


def _rgb(looker: Looker, signal: np.ndarray) -> np.ndarray:
    """Show a signal in a network input as RGB; grey is zero."""
    if signal.shape[-1] != 3:
        signal = np.repeat(signal.mean(axis=-1, keepdims=True), 3, axis=-1)
    elif looker.spec.preprocessing in visualise.BGR:
        signal = signal[..., ::-1]
    return visualise.centred(signal)


def _crop(picture: np.ndarray, projector: Projector, unit: Unit) -> np.ndarray:
    """Cut out what a unit sees; white is what it would see outside of the picture."""
    rows, columns = projector.box(unit, picture.shape[:2])
    side = min(projector.side, *picture.shape[:2])
    full = np.full((side, side, 3), 255, "uint8")
    if side < projector.side:  # it sees more than the whole picture
        full[rows, columns] = picture[rows, columns]
        return full
    # A window that is cut at the top or left ends at the bottom or right of its square.
    top = side - rows.stop if rows.start == 0 else 0
    left = side - columns.stop if columns.start == 0 else 0
    cut = picture[rows, columns]
    full[top : top + cut.shape[0], left : left + cut.shape[1]] = cut
    return full

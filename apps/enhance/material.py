"""What a look is trained and tested on: pairs of files, or photographs and an exact operator."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from . import pairs

MOST_TESTS = 28
"""The ladder looks at so many pictures, spread evenly over those it is given."""


@dataclass(frozen=True)
class Material:
    """Where training views and test pictures come from."""

    sources: Sequence[Callable[[], pairs.Maker]]
    tests: Sequence[Callable[[], tuple[np.ndarray, np.ndarray]]]
    """Each opens one test picture: (before, wanted)."""
    data: str
    """For the card."""
    look: str | None = None
    """The exact operator, if there is one."""


def pair_material(folder: Path, tests: Path | None = None, held_out: float = 0.15) -> Material:
    """Use a folder of pairs; some are held out for the ladder unless `tests` names others."""
    found = pairs.find_pairs(folder)
    if tests:
        held = pairs.find_pairs(tests)
    else:
        found, held = _split(found, held_out)
    return Material(
        [partial(pairs.pair_views, pair) for pair in found],
        [partial(pairs.read_pair, pair) for pair in _thinned(held)],
        f"{len(found)} pairs of {folder.name}",
    )


def photo_material(
    folders: Sequence[Path], look: str, tests: Path | None = None, held_out: float = 0.15
) -> Material:
    """Use photographs and an exact operator (`OPERATORS`) or its opposite (`SPOILERS`).

    For `tonemap` these are HDR panoramas, tested in eight directions each.
    """
    pairs.check_operator(look)
    photos = [photo for folder in folders for photo in pairs.find_photos(folder)]
    if tests:
        held = pairs.find_photos(tests)
    else:
        photos, held = _split(photos, held_out)
    return Material(
        [partial(pairs.photo_views, photo, look) for photo in photos],
        [
            partial(pairs.exact_pair, photo, look, seed)
            for seed, photo in enumerate(_thinned(held * (8 if look == "tonemap" else 1)))
        ],
        f"{len(photos)} photographs of {', '.join(folder.name for folder in folders)}",
        look,
    )


def _split(items, held_out):
    """Hold out a share, evenly spread: neighbours in a folder tend to be shots of one scene."""
    count = min(len(items) - 1, max(1, round(held_out * len(items))))
    if count < 1:
        return items, items
    chosen = {round((i + 0.5) * len(items) / count - 0.5) for i in range(count)}
    return (
        [item for i, item in enumerate(items) if i not in chosen],
        [item for i, item in enumerate(items) if i in chosen],
    )


def _thinned(items):
    return items[:: -(-len(items) // MOST_TESTS)]

"""Names of classes, and the likeliest of them."""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from shared import assets
from shared.errors import ConvsuiteError, DataError, reason

from .specs import Spec

_MAX_BYTES = 1 << 24
# Lists of ImageNet classes often start each line with the WordNet id, as ours does.
_SYNSET = re.compile(r"n\d{8}\s+")


def decode(
    probabilities: np.ndarray, top: int = 5, labels: Sequence[str] | None = None
) -> list[tuple[str, float]]:
    """Name the likeliest classes of one picture.

    Args:
        probabilities: `(classes,)`.
        top: How many to name; all where there are fewer.
        labels: One name per class; those of `load_labels(None, classes)` by default.

    Returns:
        Names with their probabilities, the likeliest first; of equals the first class.

    Raises:
        ConvsuiteError: Not one vector, or one of another length than the labels.
    """
    probabilities = np.asarray(probabilities)
    if probabilities.ndim != 1:
        raise ConvsuiteError(
            f"Probabilities to decode are one vector, not an array of shape {probabilities.shape}."
        )
    labels = load_labels(None, len(probabilities)) if labels is None else labels
    if len(labels) != len(probabilities):
        raise ConvsuiteError(
            f"There are {len(labels)} labels for {len(probabilities)} classes; give one per class."
        )
    best = np.argsort(-probabilities, kind="stable")[:top]
    return [(labels[i], float(probabilities[i])) for i in best]


def as_probabilities(outputs: np.ndarray, spec: Spec) -> np.ndarray:
    """Turn what a network returns into probabilities.

    Outputs that learned targets of +1 for the class and -1 for the others by squared error estimate
    2 p - 1 (Richard and Lippmann 1991, "Neural network classifiers estimate Bayesian a posteriori
    probabilities"). What lies below counts as 0, and the sum is made 1; where all lie below, no
    class is likelier than another.

    Args:
        outputs: `(…, classes)`.
        spec: The network.

    Returns:
        float32 `(…, classes)`; outputs that are probabilities already stay as they are.
    """
    if spec.taps[-1].name != "outputs":
        return outputs
    shares = np.maximum((1 + outputs) / 2, np.float32(1e-6))
    return shares / shares.sum(axis=-1, keepdims=True)


def load_labels(
    path: str | Path | None, classes: int, known: Sequence[str] | None = None
) -> list[str]:
    """Return the names of the classes of a network.

    Args:
        path: UTF-8 text file, one name a line; a WordNet id in front of a name is left out. None
            takes `known`, else the names of ImageNet for 1,000 classes, else the numbers of the
            classes.
        classes: How many names there must be.
        known: Names in the card of the weights.

    Raises:
        DataError: The file cannot be read, is no text, or has another number of lines.
    """
    if path is None and known is not None:
        return list(known)
    if path is None:
        return list(_imagenet()) if classes == 1000 else [str(i) for i in range(classes)]
    labels = read_labels(path)
    if len(labels) != classes:
        raise DataError(
            f"{path} has {len(labels)} labels, but the network has {classes} classes; "
            "the file needs one line per class."
        )
    return labels


@cache
def _imagenet() -> tuple[str, ...]:
    return tuple(read_labels(assets.labels_dir() / "imagenet.txt"))


def read_labels(path: str | Path) -> list[str]:
    """Return the names in a text file, see `load_labels`.

    Raises:
        DataError: The file cannot be read, or is no text.
    """
    path = Path(path)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(f"{path}: too large for a list of labels (over {_MAX_BYTES} bytes).")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a list of labels ({reason(error)}).") from error
    return [_SYNSET.sub("", line.strip(), count=1) for line in text.rstrip().split("\n")]

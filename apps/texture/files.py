"""Text files that are written whole or not at all, and fingerprints of pictures."""

import hashlib
from pathlib import Path

import numpy as np

from shared.images.files import replacing


def write_text(path: Path, text: str) -> None:
    """Write a file under a temporary name and rename it; its folder is made.

    Raises:
        ImageError: It cannot be written.
    """
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def digest(picture: np.ndarray) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of the values of a picture."""
    return hashlib.sha256(np.ascontiguousarray(picture).tobytes()).hexdigest()[:16]

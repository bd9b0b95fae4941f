"""A page of pictures before and after a look, with sliders."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from shared import images
from shared.console import console
from shared.errors import ImageError
from shared.report import Page


def write_gallery(
    look: Callable[[np.ndarray], np.ndarray],
    photos: Sequence[Path],
    path: Path,
    *,
    title: str,
    command: str,
) -> int:
    """Write a page with one before/after slider per picture.

    Args:
        look: an opened look.
        photos: pictures; one that cannot be read is named and left out.
        path: the `.html` file.
        title: of the page.
        command: shown with each picture.

    Returns:
        How many pictures were left out.
    """
    page = Page(title)
    failed = 0
    for photo in photos:
        try:
            picture = look.prepare(images.load(photo))
        except ImageError as error:
            console.print(f"error: {error}", markup=False, soft_wrap=True)
            failed += 1
            continue
        page.compare(picture.pixels, look(picture.pixels), photo.name, command=command)
    page.write(path)
    return failed

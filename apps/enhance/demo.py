"""The section of this application on the page of `convsuite demo`."""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from shared import backend, demo, images
from shared.errors import ConvsuiteError
from shared.report import Page, line_plot
from shared.weights import Card

from . import bench
from .enhancer import looks, open_look
from .operators import OPERATORS, SPOILERS, expose, linear_to_srgb

PHOTOS = ("rocket.jpg", "coffee.jpg", "chelsea.jpg", "astronaut.jpg")
HDR = "lamplight.hdr"
SHOWCASE = "clahe"
STRENGTHS = (0, 0.5, 1, 1.5)
_MEGAPIXELS = (1, 2, 4, 8, 12)
_FRAMES, _FPS, _FRAME_WIDTH, _FRAME_HEIGHT = 48, 24, 448, 320


class _Shown(NamedTuple):
    """A look at work: pictures before and after, and the commands that made them."""

    card: Card
    before: list[Path]
    after: list[Path]
    run: demo.Done
    preparation: str = ""


def build(page: Page, out: Path) -> None:
    """Show every look, the strength, the grid and a video, each made by the command line."""
    cards = looks()
    if not cards:
        raise ConvsuiteError("No look is installed; `convsuite enhance train-looks` makes them.")
    shown = [_apply(card, _chosen(card, i), out / card.name) for i, card in enumerate(cards)]
    page.text(
        "A look is a small network that has learned an operator from examples, or a colour table. "
        "Every result was made by the command below it."
    )
    page.heading("Looks", level=3)
    page.table(
        ["Look", "What it does", "Measured", "Unchanged", "Time per picture"],
        [_row(look) for look in shown],
        "Measured: PSNR against the operator on photographs that were not trained on; Unchanged: "
        "the same for the picture as it was. A colour table has no operator to be measured "
        "against. Time: of the look in the run below, without reading and writing files, with the "
        "first call, which prepares the network.",
    )
    for look in shown:
        _show_look(page, look)
    networks = [card.name for card in cards if card.name in OPERATORS and card.kind == "keras"]
    if networks:
        look = SHOWCASE if SHOWCASE in networks else networks[0]
        _show_strength(page, look, out / "strength")
        _show_grid(page, look, out / "grid.png")
        _show_speed(page, look)
        _show_video(page, look, out)


def _row(look: _Shown) -> list[Any]:
    results = look.card.results
    measured = next((value for name, value in results.items() if name.endswith(", dB")), None)
    unchanged = results.get("identity, dB")
    return [
        look.card.name,
        look.card.summary,
        None if measured is None else f"{measured:.1f} dB",
        None if unchanged is None else f"{unchanged:.1f} dB",
        f"{1000 * look.run.answer['apply_seconds'] / look.run.answer['done']:.0f} ms",
    ]


def _chosen(card: Card, index: int) -> list[Path]:
    """Return two sample photographs, other ones for the next look; an HDR picture for HDR looks."""
    if card.settings.get("input") == "log":
        return [demo.sample(HDR)]
    round_number, first = divmod(index, len(PHOTOS))
    second = (first + 1 + round_number) % len(PHOTOS)
    return [demo.sample(PHOTOS[first]), demo.sample(PHOTOS[second])]


def _apply(card: Card, photos: list[Path], out: Path) -> _Shown:
    operator, preparation = card.training.get("operator"), ""
    if operator in SPOILERS:
        pairs = out / "pairs"
        preparation = demo.convsuite(
            "enhance", "make-pairs", operator, *photos, "--out", pairs, "--overwrite"
        )
        preparation = preparation.command
        photos = [pairs / "input" / f"{photo.stem}.png" for photo in photos]
    run = demo.convsuite(
        "enhance", "run", *photos, "--look", card.name, "--out", out, "--overwrite", "--json"
    )
    after = [out / (f"{p.stem}.png" if p.name == HDR else p.name) for p in photos]
    return _Shown(card, photos, after, run, preparation)


def _show_look(page: Page, look: _Shown) -> None:
    page.heading(f"{look.card.name} · {look.card.summary}", level=4)
    if look.preparation:
        page.text("This look undoes damage, so the pictures before were spoiled first:")
        page.command(look.preparation)
    for before, after in zip(look.before, look.after, strict=True):
        page.compare(
            _displayed(before),
            after,
            f"{before.stem}, look {look.card.name}",
            command=look.run.command,
            alt=f"Sample picture {before.stem}, look {look.card.name}",
        )


def _displayed(photo: Path) -> Path | np.ndarray:
    """Return an HDR picture as a camera exposed for its average would show it."""
    return linear_to_srgb(expose(images.read(photo))) if photo.name == HDR else photo


def _show_strength(page: Page, look: str, out: Path) -> None:
    page.heading("Strength", level=3)
    page.text(
        f"--strength scales what a look does, here {look}: 0 leaves the picture as it is, bit for "
        "bit, 1 is the look as it was trained, and more exaggerates."
    )
    photo = demo.sample(PHOTOS[0])
    for strength in STRENGTHS:
        target = out / f"{strength:g}"
        done = demo.convsuite(
            "enhance",
            "run",
            photo,
            "--look",
            look,
            "--strength",
            strength,
            "-o",
            target,
            "--overwrite",
        )
        page.picture(
            target / photo.name,
            f"Strength {strength:g}",
            command=done.command,
            alt=f"Sample picture {photo.stem}, look {look} at strength {strength:g}",
        )


def _show_grid(page: Page, look: str, target: Path) -> None:
    page.heading("The grid", level=3)
    page.text(
        "What the network sees, where the guide sends each pixel, and the grid of colour matrices "
        "that it predicts for this picture."
    )
    photo = demo.sample(PHOTOS[3])
    done = demo.convsuite("enhance", "inspect", photo, "--look", look, "--out", target)
    page.picture(
        target,
        f"Thumbnail, guide and slices of the bilateral grid of {photo.name}",
        command=done.command,
    )


def _show_speed(page: Page, look: str) -> None:
    backend.setup()
    enhancer, operator = open_look(look), OPERATORS[look]
    times: dict[str, list[float]] = {f"the look {look}": [], f"the operator {look} itself": []}
    for megapixels in _MEGAPIXELS:
        height = round((megapixels * 1e6 / 1.5) ** 0.5)
        picture = bench.picture_of_size(height, round(1.5 * height))
        methods = (partial(enhancer, picture), partial(operator, images.to_float(picture)))
        for values, method in zip(times.values(), methods, strict=True):
            values.append(bench.cpu_milliseconds(method, 2))
    page.heading("Time", level=3)
    page.text(
        "What a look costs depends on the number of pixels alone, not on the operator it imitates."
    )
    page.svg(
        line_plot(
            {name: (_MEGAPIXELS, values) for name, values in times.items()},
            "size of the picture, megapixels",
            "time of all cores, ms",
        ),
        "Processor time for one picture in memory, without reading and writing the file",
    )


def _show_video(page: Page, look: str, out: Path) -> None:
    page.heading("Video", level=3)
    source, target = out / "pan.mp4", out / f"pan-{look}.mp4"
    _write_pan(demo.sample(PHOTOS[0]), source)
    done = demo.convsuite(
        "enhance", "video", source, target, "--look", look, "--overwrite", "--json"
    )
    page.text(
        f"A clip of {done.answer['frames']} frames, {_FRAME_WIDTH} x {_FRAME_HEIGHT}, that pans "
        f"over a sample picture; the look made {done.answer['fps_apply']:.0f} frames per second, "
        "without decoding and encoding. The grid is smoothed over time, against flicker."
    )
    for number in (_FRAMES // 6, 5 * _FRAMES // 6):
        page.compare(
            _frame(source, number),
            _frame(target, number),
            f"Frame {number}",
            command=done.command,
            alt=f"Frame {number} of the clip, look {look}",
        )


def _write_pan(photo: Path, target: Path) -> None:
    picture = cv2.imread(str(photo))
    room_right = picture.shape[1] - _FRAME_WIDTH
    room_down = picture.shape[0] - _FRAME_HEIGHT
    codec = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(target), codec, _FPS, (_FRAME_WIDTH, _FRAME_HEIGHT))
    for number in range(_FRAMES):
        share = number / (_FRAMES - 1)
        left, top = round(share * room_right), round(share * room_down)
        writer.write(picture[top : top + _FRAME_HEIGHT, left : left + _FRAME_WIDTH])
    writer.release()


def _frame(video: Path, number: int) -> np.ndarray:
    """Return one frame of a video as RGB."""
    reader = cv2.VideoCapture(str(video))
    # Read rather than sought: where a seek lands depends on the codec.
    frames = [reader.read()[1] for _ in range(number + 1)]
    reader.release()
    if frames[-1] is None:
        raise ConvsuiteError(f"{video}: frame {number} cannot be read.")
    return cv2.cvtColor(frames[-1], cv2.COLOR_BGR2RGB)

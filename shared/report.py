"""HTML pages of pictures, tables and plots: one self-contained file each, with no outside request.

page = Page("A gallery", "Photographs, before and after.")
page.compare(photo, enhanced, "A red barn", command="convsuite enhance run barn.jpg -o out")
page.write("out/index.html")
"""

import base64
import contextlib
import importlib.metadata
import io
import os
import platform
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image, ImageOps

from shared import backend
from shared.errors import ConvsuiteError, DependencyError, ImageError

_TEMPLATE = Path(__file__).with_name("templates") / "page.html"
_LONGEST_SIDE = 1200
_WEBP_QUALITY = 88
_RESIZABLE = ("RGB", "RGBA", "L", "CMYK")
_ENLARGE_BUTTON = (
    '<button class="enlarge" type="button" aria-pressed="false" aria-label="Enlarge" '
    'title="Enlarge"><svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" '
    'stroke-linecap="round" aria-hidden="true"><path d="M14 4h6v6M20 4l-7 7M10 20H4v-6M4 20l7-7"/>'
    "</svg></button>"
)
# Matplotlib cannot write `currentColor`; this colour stands for it until the SVG text is there.
_INK = "#010203"
# Readable on white and on black, and apart for colour-blind readers.
_LINE_COLOURS = ("#2a78b8", "#d95f0e", "#2a9d6f", "#a06cc4", "#b8901a", "#d1497f")
_LINE_STYLES = ("-", "--", "-.", ":")
_MARKERS = "osD^vP"

# Behind dark and light text alike, at part of their strength.
_WORD_COLOURS = ("217 95 14", "42 120 184")
_DASH = "\u2013"

Picture = np.ndarray | str | os.PathLike


class Page:
    """Blocks from top to bottom; pictures that follow each other share one grid.

    Every text given to a method is escaped. Pictures are arrays, (height, width) or (height,
    width, 1, 3 or 4), uint8, uint16 or float 0..1, or paths of files that Pillow reads; they are
    embedded, at most 1200 pixels long.
    """

    def __init__(self, title: str, intro: str = ""):
        self._title = title
        self._intro = intro
        self._blocks: list[tuple[str, str]] = []
        self._headings: list[tuple[int, str, str]] = []

    def heading(self, text: str, *, level: int = 2) -> None:
        """Start a section (level 2) or a part of one (3, 4); the contents list levels 2 and 3."""
        anchor = f"section-{len(self._blocks) + 1}"
        if level < 4:
            self._headings.append((level, anchor, text))
        self._add(f'<h{level} id="{anchor}">{escape(text)}</h{level}>')

    def text(self, text: str) -> None:
        """Add paragraphs; an empty line starts a new one."""
        self._add(_paragraphs(text))

    def words(self, words: Sequence[tuple[str, float]], caption: str) -> None:
        """Add a text whose words are coloured by a score: orange for positive, blue for negative.

        Args:
            words: Each word with its score; the largest size gets the full colour.
            caption: Shown below.
        """
        largest = max((abs(score) for _, score in words), default=0.0) or 1.0
        spans = " ".join(
            f'<span style="background: rgb({_WORD_COLOURS[score < 0]} / '
            f'{0.7 * abs(score) / largest:.3f}); border-radius: .25rem; padding: .1rem .15rem" '
            f'title="{score:+.4f}">{escape(word)}</span>'
            for word, score in words
        )
        self._add(
            '<div class="card"><p style="padding: .85rem 1.1rem; margin: 0; line-height: 2; '
            f'overflow-wrap: anywhere">{spans}</p><div class="note">{escape(caption)}</div></div>'
        )

    def problem(self, text: str) -> None:
        """Add a paragraph that says what went wrong, marked as such."""
        self._add(f'<p class="problem" role="alert">{escape(text)}</p>')

    def command(self, text: str) -> None:
        """Add a command line that can be copied."""
        self._add(_command(text))

    def compare(
        self, before: Picture, after: Picture, caption: str, *, command: str = "", alt: str = ""
    ) -> None:
        """Add two pictures of one scene under a slider for mouse, touch and keyboard.

        Args:
            before: Shown left of the slider.
            after: Shown right of the slider; the same shape of picture, in any size.
            caption: Shown below.
            command: The command line that made the result.
            alt: What the scene shows, for those who do not see it; the caption when empty.

        Raises:
            ImageError: A file cannot be read, or the two differ in aspect ratio.
        """
        before_url, before_size = _embed(before)
        after_url, (width, height) = _embed(after)
        if abs(before_size[0] / before_size[1] / (width / height) - 1) > 0.02:
            raise ImageError(
                f"{caption}: the pictures before and after differ in shape ({before_size[0]}x"
                f"{before_size[1]} and {width}x{height}); give two pictures of one scene."
            )
        alt = escape(alt or caption)
        self._figure(
            f'<div class="matte compare" style="--ratio: {width / height:.4f}">'
            f'<img src="{after_url}" width="{width}" height="{height}" alt="{alt} (after)">'
            f'<img class="before" src="{before_url}" alt="{alt} (before)">'
            '<span class="tag left">Before</span><span class="tag right">After</span>'
            '<span class="line"></span><input type="range" min="0" max="100" step="any" value="50" '
            f'aria-label="Share of the picture before: {alt}"></div>',
            caption,
            command,
        )

    def picture(self, image: Picture, caption: str, *, command: str = "", alt: str = "") -> None:
        """Add one picture; the parameters are those of `compare`.

        Raises:
            ImageError: The file cannot be read.
        """
        url, (width, height) = _embed(image)
        self._figure(
            f'<div class="matte" style="--ratio: {width / height:.4f}"><img src="{url}" '
            f'width="{width}" height="{height}" alt="{escape(alt or caption)}"></div>',
            caption,
            command,
        )

    def table(
        self, headers: Sequence[str], rows: Iterable[Sequence[Any]], caption: str = ""
    ) -> None:
        """Add a table; columns of numbers, also of numbers with a unit, are aligned to the right.

        Floats are shown with four significant digits, None as a dash.
        """
        lines = [[_cell(value) for value in row] for row in rows]
        classes = [_column_class([line[index] for line in lines]) for index in range(len(headers))]
        head = _row("th", headers, classes)
        body = "".join(_row("td", line, classes) for line in lines)
        note = f'<div class="note">{escape(caption)}</div>' if caption else ""
        self._add(
            '<div class="table card"><div class="scroll" tabindex="0" role="region" '
            f'aria-label="{escape(caption or "Table")}"><table><thead>{head}</thead>'
            f"<tbody>{body}</tbody></table></div>{note}</div>"
        )

    def svg(self, markup: str, caption: str) -> None:
        """Add a drawing, such as one of `line_plot`; the markup is trusted and not escaped."""
        markup = _with_own_ids(markup, f"drawing-{len(self._blocks)}-")
        self._blocks.append(
            (
                "figure",
                f'<figure><div class="plot" role="img" aria-label="{escape(caption)}">{markup}'
                f"</div><figcaption>{escape(caption)}</figcaption></figure>",
            )
        )

    def facts(self, facts: Mapping[str, object]) -> None:
        """Add names with their values, such as those of `machine`."""
        pairs = "".join(
            f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>"
            for name, value in facts.items()
        )
        self._add(f'<dl class="facts card">{pairs}</dl>')

    def write(self, path: str | os.PathLike) -> None:
        """Write the page to one file, whole or not at all; its folder is made.

        Raises:
            ConvsuiteError: The file cannot be written.
        """
        path = Path(path)
        contents, today = self._contents(), date.today()
        markup = string.Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
            title=escape(self._title),
            intro=_paragraphs(self._intro),
            layout="with-nav" if contents else "",
            contents=contents,
            body="\n".join(self._grouped()),
            footer=f"Made by convsuite on {today.day} {today:%B %Y}.",
        )
        part = path.with_name(f".{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # A file name that is not Unicode reaches the page as lone surrogates.
            part.write_bytes(markup.encode("utf-8", "replace"))
            os.replace(part, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            raise ConvsuiteError(
                f"{path}: the page cannot be written ({error.strerror}); choose another place."
            ) from error

    def _add(self, markup: str) -> None:
        self._blocks.append(("block", markup))

    def _figure(self, picture: str, caption: str, command: str) -> None:
        self._blocks.append(
            (
                "figure",
                f'<figure><div class="frame">{picture}{_ENLARGE_BUTTON}</div>'
                f"<figcaption>{escape(caption)}</figcaption>"
                f"{_command(command) if command else ''}</figure>",
            )
        )

    def _contents(self) -> str:
        if len(self._headings) < 3:
            return ""
        links = "".join(
            f'<li class="level{level}"><a href="#{anchor}">{escape(text)}</a></li>'
            for level, anchor, text in self._headings
        )
        return f'<nav aria-label="Contents"><h2>Contents</h2><ul>{links}</ul></nav>'

    def _grouped(self) -> Iterable[str]:
        figures: list[str] = []
        for kind, markup in [*self._blocks, ("end", "")]:
            if kind == "figure":
                figures.append(markup)
                continue
            if figures:
                yield f'<div class="grid" data-count="{len(figures)}">{"".join(figures)}</div>'
                figures = []
            yield markup


def line_plot(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x_label: str,
    y_label: str,
    title: str = "",
) -> str:
    """Draw lines as SVG markup for `Page.svg`; text and axes take the colour of the page.

    Args:
        series: Name of each line with its x and y values.
        x_label: Quantity and unit of the x axis, such as "strength (1 = as trained)".
        y_label: Quantity and unit of the y axis, such as "time (ms)".
        title: Shown above the axes.
    """
    import matplotlib
    from matplotlib.figure import Figure

    style = {
        "svg.fonttype": "none",
        "text.parse_math": False,
        "font.family": "sans-serif",
        "font.size": 10.5,
        "axes.prop_cycle": _line_cycle(),
        **dict.fromkeys(
            ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK
        ),
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(5.6, 3.5), layout="constrained")
        axes = figure.subplots()
        for name, (x, y) in series.items():
            axes.plot(x, y, label=name, markersize=4, linewidth=1.8)
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.set_title(title, loc="left", fontweight="bold")
        axes.grid(color=_INK, alpha=0.12, linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        if len(series) > 1:
            axes.legend(frameon=False)
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    markup = buffer.getvalue().replace(_INK, "currentColor")
    return re.sub(r"font: ([^;\"]*) sans-serif", r"font: \1 inherit", _svg_element(markup))


def machine() -> dict[str, str]:
    """Return what a reader needs to know about this machine to judge a time.

    Versions are read from the installed packages; nothing is imported.
    """
    cores, threads = psutil.cpu_count(logical=False), psutil.cpu_count()
    return {
        "CPU": _processor(),
        "Cores": f"{cores or threads} ({threads} threads)",
        "Memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
        "System": _system(),
        "Python": platform.python_version(),
        "Keras": _version("keras"),
        "Backend": _backend(),
        "convsuite": _version("convsuite"),
    }


def _paragraphs(text: str) -> str:
    parts = (part.strip() for part in re.split(r"\n\s*\n", text))
    return "".join(f"<p>{escape(part)}</p>" for part in parts if part)


def _command(text: str) -> str:
    # One box per word, so that a line never breaks at the hyphens of an option.
    words = " ".join(f"<span>{escape(word)}</span>" for word in text.split(" "))
    return f'<code class="command">{words}</code>'


def _cell(value: Any) -> str:
    if value is None:
        return _DASH
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    return str(value)


def _is_number(cell: str) -> bool:
    return cell == _DASH or bool(re.fullmatch(r"[-+\u2212\u00b1]?[\d.,]*\d( ?[^\d\s]{1,6})?", cell))


def _column_class(cells: Sequence[str]) -> str:
    if all(map(_is_number, cells)):
        return "number"
    return "prose" if max(map(len, cells)) > 24 else "word"


def _row(tag: str, cells: Sequence[str], classes: Sequence[str]) -> str:
    marked = zip(cells, classes, strict=True)
    return (
        "<tr>"
        + "".join(f'<{tag} class="{name}">{escape(cell)}</{tag}>' for cell, name in marked)
        + "</tr>"
    )


def _embed(image: Picture) -> tuple[str, tuple[int, int]]:
    """Return a data URL of the picture and its (width, height)."""
    opened = _from_array(image) if isinstance(image, np.ndarray) else _from_file(Path(image))
    buffer = io.BytesIO()
    # Kept rather than converted: browsers show a tagged picture in its own colours.
    profile = opened.info.get("icc_profile")
    opened.save(buffer, "WEBP", quality=_WEBP_QUALITY, icc_profile=profile, exif=b"")
    encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f"data:image/webp;base64,{encoded}", opened.size


def _from_array(pixels: np.ndarray) -> Image.Image:
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    picture = Image.fromarray(_to_uint8(pixels))
    picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    return picture if picture.mode in ("RGB", "RGBA") else picture.convert("RGB")


def _from_file(path: Path) -> Image.Image:
    try:
        with Image.open(path) as opened:
            if opened.mode.startswith(("I", "F")):
                return _from_array(np.asarray(opened).clip(0, 65535).astype(np.uint16))
            picture = opened if opened.mode in _RESIZABLE else _coloured(opened)
            picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE), reducing_gap=3)
            return _coloured(ImageOps.exif_transpose(picture))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError(
            f"{path}: cannot be read as a picture for the page; check the file."
        ) from error


def _coloured(picture: Image.Image) -> Image.Image:
    if picture.mode in ("RGB", "RGBA"):
        return picture
    picture.info.pop("icc_profile", None)
    return picture.convert("RGBA" if picture.has_transparency_data else "RGB")


def _to_uint8(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.uint16:
        return np.round(pixels / 257).astype(np.uint8)
    return np.round(np.nan_to_num(pixels).clip(0, 1) * 255).astype(np.uint8)


def _line_cycle() -> Any:
    from cycler import cycler

    count = len(_LINE_COLOURS)
    styles = [_LINE_STYLES[index % len(_LINE_STYLES)] for index in range(count)]
    return cycler(color=_LINE_COLOURS) + cycler(linestyle=styles) + cycler(marker=_MARKERS)


def _svg_element(document: str) -> str:
    """Drop the XML header, the metadata and the fixed size, so that the page scales the drawing."""
    element = document[document.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    return re.sub(r' (?:width|height)="[\d.]+pt"', "", element, count=2)


def _with_own_ids(markup: str, prefix: str) -> str:
    """Prefix the ids of a drawing, since several drawings of one page may use the same ones."""
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}", markup)


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return named[1] if named else platform.processor() or platform.machine()


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {platform.release()}"


def _backend() -> str:
    try:
        name = backend.backend_choice()[0]
    except DependencyError:
        return "none installed"
    return f"{name} {_version(name)}"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"

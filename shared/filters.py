"""One picture filter becomes the verbs `run`, `video` and `webcam` of an application."""

import dataclasses
import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, NoReturn, Protocol

import typer

from shared import console

if TYPE_CHECKING:
    import numpy as np

    from shared.images import Picture

_LINEAR_SUFFIXES = (".hdr", ".exr")

Format = Annotated[
    Literal["png", "jpg", "tif", "webp"] | None,
    typer.Option(
        "--format",
        help="File type of the results; that of the input unless given.",
        show_default=False,
    ),
]
Quality = Annotated[
    int, typer.Option("--quality", min=1, max=100, help="Quality of JPEG and WebP results.")
]
MaxMegapixels = Annotated[
    float,
    typer.Option("--max-megapixels", min=0.001, help="Refuse to load larger pictures at once."),
]


class Filter(Protocol):
    """Turns a picture into another of the same size.

    Attributes:
        strength: how strongly the filter acts, 0 not at all; may be changed between calls.

    A filter may have an attribute `card` besides, what is to be known about the picture that it
    filtered last; the verb `run` writes it beside the result, as JSON.
    """

    strength: float

    def __call__(self, pixels: "np.ndarray") -> "np.ndarray":
        """Filter RGB pixels, (height, width, 3) uint8, uint16 or float32; shape and type stay."""

    def stream(self, fps: float) -> "Callable[[np.ndarray], np.ndarray]":
        """Return a function of the uint8 frames of one video, in order; it holds their state."""

    def bands(self, pixels: "np.ndarray") -> "Iterator[tuple[int, np.ndarray]]":
        """Yield (first row, filtered rows) of a picture too large for memory, top to bottom."""

    def prepare(self, picture: "Picture") -> "Picture":
        """Encode a picture as the filter expects it; what does not fit is added to its notes."""


class _Result(NamedTuple):
    """A filtered picture; the bands of one that stays on disk are still to be computed."""

    picture: "Picture"
    bands: "Iterator[tuple[int, np.ndarray]] | None" = None
    card: dict[str, Any] | None = None


class _PictureWork:
    """Reads, filters and writes pictures for `shared.folders`."""

    def __init__(self, picture_filter: Filter, quality: int, max_megapixels: float):
        self._filter = picture_filter
        self._quality = quality
        self._max_megapixels = max_megapixels
        # Bands are computed while they are written, beside the next picture's `apply`.
        self._one_at_a_time = threading.Lock()

    def read(self, path: Path) -> "Picture":
        from shared import images

        return images.load(path, max_megapixels=self._max_megapixels)

    def apply(self, picture: "Picture") -> _Result:
        import numpy as np

        with self._one_at_a_time:
            picture = self._filter.prepare(picture)
            if isinstance(picture.pixels, np.memmap):
                return _Result(picture, self._filter.bands(picture.pixels))
            filtered = self._filter(picture.pixels)
            card = getattr(self._filter, "card", None)
        return _Result(dataclasses.replace(picture, pixels=filtered), card=card)

    def write(self, result: _Result, path: Path) -> tuple[str, ...]:
        from shared import images
        from shared.images import files

        picture, bands, card = result
        if card is not None:
            # Before the picture: once that is there, the file counts as done.
            with files.replacing(path.with_name(f"{path.name}.json")) as part:
                part.write_text(console.to_json(card, indent=1) + "\n", encoding="utf-8")
        if bands is None:
            images.save(picture, path, quality=self._quality)
        else:
            images.save_bands(picture, path, self._taking_turns(bands))
        return (*picture.notes, *images.losses(picture, path))

    def _taking_turns(
        self, bands: "Iterator[tuple[int, np.ndarray]]"
    ) -> "Iterator[tuple[int, np.ndarray]]":
        while True:
            with self._one_at_a_time:
                band = next(bands, None)
            if band is None:
                return
            yield band


def _picture_work(
    make: Callable[[], Filter],
    device: console.Device,
    precision: console.Precision,
    quality: int,
    max_megapixels: float,
) -> _PictureWork:
    """Build the work in the process that does it, which may be a worker of a cluster."""
    return _PictureWork(_build(make, device, precision), quality, max_megapixels)


def _build(
    make: Callable[[], Filter], device: console.Device, precision: console.Precision
) -> Filter:
    from shared import backend

    backend.setup(device, precision)
    return make()


def _result_name(path: Path, file_type: str | None) -> Path:
    """Return the name of a result; filtered HDR pictures are display-referred, so .png then."""
    from shared import images

    suffix = path.suffix.lower()
    if file_type is not None:
        return path.with_suffix(f".{file_type}")
    if suffix in _LINEAR_SUFFIXES or suffix not in images.READABLE:
        return path.with_suffix(".png")
    return path


def _with_options_of(make: Callable[..., Filter], verb: Callable[..., None]) -> Callable[..., None]:
    """Let typer see the parameters of `make` in place of the verb's `**options`."""
    own = [
        parameter
        for parameter in inspect.signature(verb).parameters.values()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    options = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in inspect.signature(make, eval_str=True).parameters.values()
    ]
    order = sorted([*options, *own], key=lambda parameter: parameter.kind)
    verb.__signature__ = inspect.Signature(order)
    verb.__annotations__ = {}
    return verb


def run_pictures(
    make: Callable[..., Filter],
    inputs: list[str],
    out: Path,
    options: Mapping[str, Any],
    *,
    file_type: str | None = None,
    quality: int = 95,
    max_megapixels: float = 150,
    overwrite: bool = False,
    engine: Literal["local", "ray"] = "local",
    device: str = "auto",
    precision: str = "auto",
    quiet: bool = False,
    json: bool = False,
) -> NoReturn:
    """Filter pictures into a folder, report, and end the command; the body of the verb `run`.

    Args:
        make: builds the filter from the options; can be pickled.
        inputs: files, folders, patterns.
        out: folder of the results.
        options: what the results depend on.
        file_type: suffix of the results without its dot; that of each input when None.
        quality: of JPEG and WebP results.
        max_megapixels: larger pictures are refused, or worked on in bands where possible.
        overwrite: make results again that are already there.
        engine: `local` or `ray`.
        device: for `backend.setup`.
        precision: for `backend.setup`.
        quiet: print failures only.
        json: print the summary as one JSON object.

    Raises:
        typer.Exit: always, with 0, or 1 when an input failed, or 130 when interrupted.
    """
    from shared import folders, images

    rename = functools.partial(_result_name, file_type=file_type)
    jobs = folders.collect(inputs, out, images.READABLE, rename)
    make = functools.partial(make, **options)
    make_work = functools.partial(_picture_work, make, device, precision, quality, max_megapixels)
    summary = folders.process(
        jobs,
        make_work,
        out=out,
        engine=engine,
        overwrite=overwrite,
        settings={**options, "quality": quality},
        quiet=quiet,
    )
    folders.report(summary, out, console.console, noun="pictures", quiet=quiet)
    if json:
        console.emit({"out": out, **summary.to_dict()})
    raise typer.Exit(summary.exit_code)


def add_verbs(
    app: typer.Typer,
    make: Callable[..., Filter],
    *,
    examples: dict[str, list[str]],
    verbs: Sequence[str] | Mapping[str, str] = ("run", "video", "webcam"),
) -> None:
    """Give an application the verbs `run`, `video` and `webcam`, or some of them.

    Args:
        app: the application's commands.
        make: builds the filter; a top-level function, so that it can be sent to a cluster. Its
            parameters are keywords with defaults, annotated for typer, and become options of
            every verb.
        examples: command lines for the help of each verb.
        verbs: which of the three the application gets; a mapping gives them other names.
    """

    def run(
        inputs: console.Inputs,
        *,
        out: console.Out,
        format: Format = None,
        quality: Quality = 95,
        max_megapixels: MaxMegapixels = 150,
        overwrite: console.Overwrite = False,
        engine: console.Engine = "local",
        device: console.Device = "auto",
        precision: console.Precision = "auto",
        quiet: console.Quiet = False,
        json: console.Json = False,
        **options: Any,
    ) -> None:
        """Filter pictures: files, folders with their sub-folders, patterns.

        Bit depth, transparency, EXIF and colour profile are kept. What is already in the output
        folder is skipped, so a run that was cut off goes on where it stopped. Pictures that
        cannot be read are listed at the end and in failures.json.
        """
        run_pictures(
            make,
            inputs,
            out,
            options,
            file_type=format,
            quality=quality,
            max_megapixels=max_megapixels,
            overwrite=overwrite,
            engine=engine,
            device=device,
            precision=precision,
            quiet=quiet,
            json=json,
        )

    def video(
        source: Annotated[
            Path, typer.Argument(metavar="IN", help="Video file, or folder of frames.")
        ],
        target: Annotated[
            Path,
            typer.Argument(metavar="OUT", help="Video file, or (no suffix) folder for frames."),
        ],
        *,
        crf: Annotated[
            int, typer.Option("--crf", min=0, max=51, help="Quality: smaller is better, larger.")
        ] = 18,
        fps: Annotated[
            float, typer.Option("--fps", min=0.1, help="Frame rate of a folder of frames.")
        ] = 25.0,
        overwrite: console.Overwrite = False,
        device: console.Device = "auto",
        precision: console.Precision = "auto",
        quiet: console.Quiet = False,
        json: console.Json = False,
        **options: Any,
    ) -> None:
        """Filter a video; sound, subtitles and the times of the frames are kept."""
        from shared import video as videos

        picture_filter = _build(functools.partial(make, **options), device, precision)
        summary = videos.transform(
            source,
            target,
            picture_filter.stream,
            quiet=quiet,
            overwrite=overwrite,
            crf=crf,
            fps=fps,
        )
        if not quiet:
            for note in summary.notes:
                console.warning_line(note)
            console.console.print(
                f"{summary.frames} frames done, "
                f"{summary.fps_apply:.1f} frames/s without decoding and encoding",
                soft_wrap=True,
            )
        if json:
            console.emit({"out": target, **dataclasses.asdict(summary)})

    def webcam(
        context: typer.Context,
        source: Annotated[
            str,
            typer.Argument(metavar="[SOURCE]", help="Number of a camera, or a video file."),
        ] = "0",
        *,
        out: Annotated[
            Path, typer.Option("--out", "-o", help="Folder for snapshots and recordings.")
        ] = Path("captures"),
        mirror: Annotated[bool, typer.Option("--mirror", help="Swap left and right.")] = False,
        device: console.Device = "auto",
        precision: console.Precision = "auto",
        **options: Any,
    ) -> None:
        """Show a camera, or a video file, through the filter in a window with keys."""
        from shared import video as videos

        videos.play(
            int(source) if source.isdecimal() else source,
            _build(functools.partial(make, **options), device, precision),
            title=context.parent.command_path if context.parent else context.command_path,
            out=out,
            mirror=mirror,
        )

    names = verbs if isinstance(verbs, Mapping) else dict(zip(verbs, verbs, strict=True))
    for verb in (run, video, webcam):
        name = names.get(verb.__name__)
        if name is None:
            continue
        epilog = console.examples(*examples[name]) if name in examples else None
        app.command(name, epilog=epilog)(_with_options_of(make, verb))

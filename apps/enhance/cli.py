"""The command line of image enhancement."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import typer

from shared import console, filters
from shared.console import Device, Inputs, Json, Out, Overwrite, Precision, Quiet, Seed, examples

app = typer.Typer(
    add_completion=False,
    help=(
        "Enhance pictures and video with looks learned by bilateral grids (HDRNet).\n\n"
        "A look is a name from `looks`, a .keras file with its card, or any .cube table."
    ),
    no_args_is_help=True,
    epilog=examples(
        "convsuite enhance run holiday/ -o brighter --look auto",
        "convsuite enhance webcam --look clahe",
        "convsuite enhance train my-pairs -o my-look.keras",
    ),
)
bench_app = typer.Typer(help="Measure speed and quality, beside peers, in one run.")
app.add_typer(bench_app, name="bench")

Look = Annotated[
    str,
    typer.Option(
        "--look", "--weights", metavar="NAME|FILE", help="A name from `looks`, or a file."
    ),
]
Strength = Annotated[
    float,
    typer.Option("--strength", min=0, max=2, help="0 leaves the picture, 1 is the look itself."),
]
OutFile = Annotated[Path, typer.Option("--out", "-o", help="File to write.")]
Minutes = Annotated[float | None, typer.Option("--minutes", min=0, help="Time budget.")]


def open_filter(
    look: Look = "auto",
    strength: Strength = 1.0,
    keep_hue: Annotated[
        bool,
        typer.Option("--keep-hue", help="Keep the hue of highlights that would exceed white."),
    ] = False,
    smooth: Annotated[
        str,
        typer.Option(
            "--smooth", help="Video: auto, off, or seconds over which the look is averaged."
        ),
    ] = "auto",
):
    """Open the look that `run`, `video` and `webcam` apply."""
    from .enhancer import open_look

    if smooth not in ("auto", "off"):
        try:
            smooth = float(smooth)
        except ValueError:
            raise typer.BadParameter(f"--smooth takes auto, off or seconds, not {smooth}") from None
    return open_look(look, strength=strength, keep_hue=keep_hue, smooth=smooth)


filters.add_verbs(
    app,
    open_filter,
    examples={
        "run": [
            "convsuite enhance run photo.jpg -o out",
            "convsuite enhance run holiday/ 'scans/*.tif' -o out --look clahe --strength 0.7",
            "convsuite enhance run photo.jpg -o out --look film.cube",
        ],
        "video": [
            "convsuite enhance video clip.mp4 better.mp4 --look clahe",
            "convsuite enhance video frames/ out-frames --smooth off",
        ],
        "webcam": ["convsuite enhance webcam", "convsuite enhance webcam clip.mp4 --look warm"],
    },
)


def _start(device: str = "auto", precision: str = "auto") -> None:
    from shared import backend

    backend.setup(device, precision)


@app.command(epilog=examples("convsuite enhance looks", "convsuite enhance looks --json"))
def looks(json: Json = False) -> None:
    """List the looks that are installed."""
    from rich.console import Console
    from rich.table import Table

    from .enhancer import looks as installed

    cards = installed()
    if json:
        console.emit({"looks": [dataclasses.asdict(card) for card in cards]})
        return
    table = Table("look", "what it does", "trained on", "result", "licence")
    for card in cards:
        result = next((f"{name} {value}" for name, value in card.results.items()), "")
        table.add_row(card.name, card.summary, card.training.get("data", ""), result, card.licence)
    Console().print(table)


@app.command(
    epilog=examples(
        "convsuite enhance train pairs -o look.keras",
        "convsuite enhance train pairs -o look.keras --minutes 5",
        "convsuite enhance train photos -o look.keras --operator clahe --test other-photos",
    )
)
def train(
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder with input/ and target/, or *_before.* and *_after.*; "
            "with --operator, a folder of photographs."
        ),
    ],
    out: OutFile,
    operator: Annotated[
        str | None,
        typer.Option("--operator", help="Learn this operator of ours; see `make-pairs`."),
    ] = None,
    test: Annotated[
        Path | None, typer.Option("--test", help="Test material; otherwise some is held out.")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Training steps.")] = 3000,
    minutes: Minutes = None,
    views: Annotated[int, typer.Option("--views", min=1, help="Random crops to make.")] = 1500,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Views per step.")] = 8,
    learning_rate: Annotated[float, typer.Option("--learning-rate", min=1e-8)] = 1e-3,
    width: Annotated[int, typer.Option("--width", min=1, help="Channel multiplier.")] = 1,
    guide: Annotated[
        Literal["curves", "nn"], typer.Option("--guide", help="How the depth is chosen.")
    ] = "curves",
    pyramid: Annotated[
        bool, typer.Option("--pyramid", help="Three scales, for filters of fine detail.")
    ] = False,
    batch_norm: Annotated[
        bool, typer.Option("--batch-norm", help="As in the paper's text.")
    ] = False,
    grid_smoothness: Annotated[
        float,
        typer.Option("--grid-smoothness", min=0, help="Against visible cells; try 1e-4."),
    ] = 0.0,
    noise_consistency: Annotated[
        float,
        typer.Option("--noise-consistency", min=0, help="Against flicker in video; try 0.3."),
    ] = 0.0,
    cache_gb: Annotated[
        float, typer.Option("--cache-gb", min=0, help="Views beyond this go to the disk.")
    ] = 4.0,
    start_from: Annotated[
        str | None, typer.Option("--start-from", metavar="NAME|FILE", help="Go on from this look.")
    ] = None,
    summary: Annotated[str, typer.Option("--summary", help="One line for `looks`.")] = "",
    licence: Annotated[
        str, typer.Option("--licence", help="Of the weights, for the card.")
    ] = "as the training pictures",
    force: Annotated[
        bool, typer.Option("--force", help="Train a network though a colour table suffices.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint.")
    ] = False,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Learn a look from pairs of pictures before and after.

    A colour table is tried first: if it reproduces the look, it is written and no network trained.
    At the end a table tells what simpler methods reach, and what would be possible.
    """
    _start(device, precision)
    import shlex
    import sys

    from .material import pair_material, photo_material
    from .model import Architecture
    from .train import Recipe
    from .train import train as fit

    if out.suffix != ".keras":
        raise typer.BadParameter(f"--out must end in .keras, not {out.name}")
    material = photo_material([source], operator, test) if operator else pair_material(source, test)
    recipe = Recipe(
        Architecture(
            width=width,
            guide=guide,
            batch_norm=batch_norm,
            levels=3 if pyramid else 1,
            grid_smoothness=grid_smoothness,
        ),
        steps=steps,
        minutes=minutes,
        views=views,
        batch=batch,
        learning_rate=learning_rate,
        noise_consistency=noise_consistency,
        seed=seed,
        cache_gb=cache_gb,
    )
    trained = fit(
        material,
        out,
        recipe,
        summary=summary,
        licence=licence,
        command=shlex.join(["convsuite", "enhance", *sys.argv[sys.argv.index("train") :]]),
        start_from=start_from,
        force=force,
        resume=resume,
        quiet=quiet,
    )
    _report(trained, quiet, json)


def _report(trained, quiet, json):
    if not quiet:
        _print_rungs(trained.rungs)
        console.console.print(f"wrote {trained.path} and its card", markup=False, soft_wrap=True)
    if json:
        console.emit({"look": trained.path, "ladder": trained.rungs})


def _print_rungs(rungs, title=""):
    from rich.table import Table

    table = Table("method", "PSNR, dB", "± s.e.", "SSIM", "ΔE76", "pictures", title=title)
    for rung in rungs:
        table.add_row(
            rung.method,
            f"{rung.psnr:.2f}",
            f"{rung.standard_error:.2f}",
            f"{rung.ssim:.3f}",
            f"{rung.colour_difference:.2f}",
            str(rung.pictures),
        )
    console.console.print(table)


@app.command(
    "train-looks",
    epilog=examples("convsuite enhance train-looks", "convsuite enhance train-looks clahe warm"),
)
def train_looks(
    names: Annotated[
        list[str] | None, typer.Argument(help="Looks to make; all by default.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", envvar="CONVSUITE_DATA", help="Folder of training photographs."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder; that of the shipped looks.")
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    quiet: Quiet = False,
) -> None:
    """Make the looks that ship with convsuite again, from photographs that are free for any use."""
    _start(device, precision)
    from . import shipped

    known = [*shipped.TABLES, *shipped.FITTED, *shipped.NETWORKS]
    unknown = set(names or ()) - set(known)
    if unknown:
        raise typer.BadParameter(f"no shipped look is called {sorted(unknown)[0]}")
    folder = out or shipped.default_folder()
    for name in names or known:
        if name in shipped.TABLES:
            shipped.write_table(name, folder)
        elif name in shipped.FITTED:
            _report(shipped.FITTED[name](shipped.data_folder(data), folder), quiet, False)
        else:
            trained = shipped.train_network(
                name, shipped.data_folder(data), folder, resume=True, quiet=quiet
            )
            _report(trained, quiet, False)


@app.command("fit-lut", epilog=examples("convsuite enhance fit-lut pairs -o look.cube"))
def fit_lut(
    pairs: Annotated[Path, typer.Argument(help="Folder of pairs, as for `train`.")],
    out: OutFile,
    size: Annotated[int, typer.Option("--size", min=2, max=65, help="Points per axis.")] = 17,
    title: Annotated[str, typer.Option("--title", help="Written into the file.")] = "",
    json: Json = False,
) -> None:
    """Fit a colour table to pairs of pictures, and say how well it does on held-out ones."""
    from .tables import fit_pairs

    psnr = fit_pairs(pairs, out, size=size, title=title or out.stem)
    console.console.print(f"wrote {out}: {psnr:.2f} dB on held-out pictures", markup=False)
    if json:
        console.emit({"table": out, "psnr": psnr})


@app.command("apply-lut", epilog=examples("convsuite enhance apply-lut look.cube photos -o out"))
def apply_lut(
    table: Annotated[Path, typer.Argument(help="A .cube file.")],
    inputs: Inputs,
    out: Out,
    strength: Strength = 1.0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Apply a colour table to pictures; `run --look TABLE` with the options that matter here."""
    from shared.errors import DataError

    if table.suffix.lower() != ".cube":
        raise DataError(f"{table}: a colour table ends in .cube.")
    options = {"look": str(table), "strength": strength}
    filters.run_pictures(
        open_filter, inputs, out, options, overwrite=overwrite, quiet=quiet, json=json
    )


@app.command(
    "make-pairs",
    epilog=examples(
        "convsuite enhance make-pairs clahe photos -o pairs",
        "convsuite enhance make-pairs look.cube photos -o pairs",
    ),
)
def make_pairs(
    operator: Annotated[
        str,
        typer.Argument(
            help="clahe, detail, tone, tonemap, autocontrast, mean_gamma; auto, lowlight (spoil "
            "the photo); or a .cube file."
        ),
    ],
    inputs: Inputs,
    out: Out,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Make pairs for `train` from photographs and an exact operator."""
    from functools import partial

    from shared import folders, images

    from .pairs import PairWork, check_operator

    check_operator(operator)
    target = out / "target"
    jobs = folders.collect(inputs, target, images.READABLE, lambda path: path.with_suffix(".png"))
    summary = folders.process(
        jobs,
        partial(PairWork, operator, target, seed),
        out=target,
        overwrite=overwrite,
        settings={"operator": operator, "seed": seed},
        quiet=quiet,
    )
    folders.report(summary, out, console.console, noun="pairs", quiet=quiet)
    if json:
        console.emit({"out": out, **summary.to_dict()})
    raise typer.Exit(summary.exit_code)


@app.command(
    epilog=examples(
        "convsuite enhance export clahe --format onnx -o clahe.onnx",
        "convsuite enhance export clahe --format grid --picture photo.jpg -o photo.npz",
        "convsuite enhance export clahe --format cube --global -o clahe.cube",
    )
)
def export(
    look: Annotated[str, typer.Argument(metavar="NAME|FILE", help="The look.")],
    format: Annotated[
        Literal["cube", "onnx", "litert", "openvino", "saved_model", "grid"],
        typer.Option("--format", help="What to write."),
    ],
    out: OutFile,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="For grid: the picture it belongs to.")
    ] = None,
    mean: Annotated[
        bool, typer.Option("--global", help="For cube: the mean of what a network does.")
    ] = False,
    json: Json = False,
) -> None:
    """Write a look for other programs: its network, one picture's grid, or a colour table."""
    _start()
    from shared import images
    from shared.errors import DataError

    from . import export as exporting
    from .enhancer import Enhancer, open_look

    opened = open_look(look)
    facts = {"file": out}
    if format == "cube":
        loss = exporting.export_table(opened, out, mean=mean)
        if loss is not None:
            facts["dB between table and network"] = loss
    elif not isinstance(opened, Enhancer):
        raise DataError(f"{look} is a colour table; it can only be exported as cube.")
    elif format == "grid":
        if picture is None:
            raise typer.BadParameter("--format grid needs --picture")
        prepared = opened.prepare(images.load(picture))
        exporting.export_grid(opened, prepared.pixels, out)
    else:
        facts["largest difference"] = exporting.export_network(opened, out, format)
    for name, value in facts.items():
        console.console.print(f"{name}: {value}", markup=False, soft_wrap=True)
    if json:
        console.emit(facts)


@app.command(epilog=examples("convsuite enhance inspect photo.jpg --look clahe -o grid.png"))
def inspect(
    picture: Annotated[Path, typer.Argument(help="A picture.")],
    out: OutFile,
    look: Look = "clahe",
) -> None:
    """Draw the thumbnail, the guide and the slices of the grid of a picture."""
    _start()
    from shared import images
    from shared.errors import DataError

    from .enhancer import Enhancer, open_look
    from .export import inspection

    opened = open_look(look)
    if not isinstance(opened, Enhancer):
        raise DataError(f"{look} is a colour table; it has no grid to look at.")
    prepared = opened.prepare(images.load(picture))
    out.parent.mkdir(parents=True, exist_ok=True)
    inspection(opened, prepared.pixels).savefig(out, dpi=110)


@app.command(epilog=examples("convsuite enhance gallery holiday/ --look clahe -o gallery.html"))
def gallery(
    inputs: Inputs,
    out: OutFile,
    look: Look = "auto",
    strength: Strength = 1.0,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Write a page that shows pictures before and after, with sliders."""
    _start(device, precision)
    from shared import folders, images

    from .enhancer import open_look
    from .gallery import write_gallery

    photos = [job.source for job in folders.collect(inputs, out.parent / "-", images.READABLE)]
    failed = write_gallery(
        open_look(look, strength=strength),
        photos,
        out,
        title=f"Look {look}, strength {strength:g}",
        command=f"convsuite enhance run … --look {look} --strength {strength:g} -o out",
    )
    console.console.print(f"wrote {out}", markup=False, soft_wrap=True)
    raise typer.Exit(1 if failed else 0)


@bench_app.command("speed", epilog=examples("convsuite enhance bench speed --json"))
def bench_speed(look: Look = "clahe", json: Json = False) -> None:
    """Time the parts of `run` beside peers, a whole run of 24 megapixels, and video."""
    _start()
    from . import bench

    rows = bench.speed(look)
    _print_rows(rows, "CPU milliseconds of one thread")
    whole = bench.whole_run(look)
    _print_rows(
        [whole], "one JPEG of 24 megapixels: milliseconds on all cores, memory beyond in and out"
    )
    clip = bench.video_speed(look)
    _print_rows([clip], "video, 1280 x 720, wall time")
    if json:
        console.emit({"speed": rows, "whole run": whole, "video": clip})


@bench_app.command("flicker", epilog=examples("convsuite enhance bench flicker"))
def bench_flicker(look: Look = "clahe", json: Json = False) -> None:
    """Measure how still pictures flicker under noise, with and without smoothing."""
    _start()
    from . import bench

    rows = bench.flicker(look)
    _print_rows(rows, "mean frame-to-frame change of block means, levels of 255")
    if json:
        console.emit({"flicker": rows})


@bench_app.command(
    "controls", epilog=examples("convsuite enhance bench controls photos --look clahe")
)
def bench_controls(
    photos: Annotated[Path, typer.Argument(help="Folder of photographs.")],
    look: Look = "clahe",
    operator: Annotated[
        str | None, typer.Option("--operator", help="What the look imitates; its name by default.")
    ] = None,
    json: Json = False,
) -> None:
    """Measure a look beside itself with a spoilt grid: what its structure is worth."""
    _start()
    from . import bench
    from .material import photo_material

    rungs = bench.controls(look, photo_material([photos], operator or look, photos))
    _print_rungs(rungs, f"{look}, whole and spoilt")
    if json:
        console.emit({"controls": rungs})


@bench_app.command(
    "pairs",
    epilog=examples("convsuite enhance bench pairs my-pairs --pretrained auto --steps 150"),
)
def bench_pairs(
    folder: Annotated[Path, typer.Argument(help="Folder of pairs, as for `train`.")],
    pretrained: Annotated[
        str | None,
        typer.Option("--pretrained", metavar="NAME|FILE", help="Measure this look, too."),
    ] = None,
    steps: Annotated[
        int, typer.Option("--steps", min=0, help="Steps of fine-tuning; 0 leaves it out.")
    ] = 150,
    seed: Seed = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Compare ways to learn a look from few pairs, leaving one out at a time."""
    _start()
    from . import bench

    rungs = bench.leave_one_out(folder, pretrained=pretrained, steps=steps, seed=seed, quiet=quiet)
    _print_rungs(rungs, f"{folder}: each pair by the look of the others")
    if json:
        console.emit({"pairs": rungs})


@bench_app.command("peers", epilog=examples("convsuite enhance bench peers --data DIR"))
def bench_peers(
    data: Annotated[
        Path | None,
        typer.Option("--data", envvar="CONVSUITE_DATA", help="Folder of pairs and weights."),
    ] = None,
    look: Look = "auto",
    json: Json = False,
) -> None:
    """Compare a look with simple means and published networks on pairs made by others.

    The folder holds enhance/{fivek,sice_under,lol_thumbs,underwater} and the networks' weights,
    enhance_weights/{lut3d_srgb,zero_dce}; none of them are part of convsuite.
    """
    _start()
    from . import bench, shipped

    rows = bench.pair_sets(shipped.data_folder(data), look)
    _print_rows(rows, "PSNR against the target, dB")
    if json:
        console.emit({"peers": rows})


def _print_rows(rows, title):
    from rich.table import Table

    table = Table(*rows[0], title=title)
    for row in rows:
        table.add_row(*(f"{v:.2f}" if isinstance(v, float) else str(v) for v in row.values()))
    console.console.print(table)

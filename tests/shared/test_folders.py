import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from rich.console import Console

from shared import folders
from shared.errors import ConvsuiteError, ImageError

ROOT = Path(__file__).resolve().parents[2]
TEXT = frozenset({".txt", ".md"})


def make_files(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


def to_out(path):
    return path.with_suffix(".out")


def pairs(jobs, source_root, out):
    return {
        str(job.source.relative_to(source_root)): str(job.target.relative_to(out)) for job in jobs
    }


class Upper:
    """Upper-cases text; writes through a temporary file, as a Work must."""

    def read(self, path):
        return path.read_text()

    def apply(self, item):
        return item.upper()

    def write(self, result, path):
        part = path.with_name(f".{path.name}.part")
        part.write_text(result)
        part.replace(path)


# ------------------------------------------------------------------ collect


def test_folder_keeps_sub_folders_and_skips_hidden_foreign_and_partial_files(tmp_path):
    source = make_files(
        tmp_path / "in",
        *("b.txt", "a.TXT", "sub/deep/c.md", "d.jpg", "no_suffix"),
        *(".hidden.txt", ".git/e.txt", "f.txt.part", ".a.txt.part"),
    )
    jobs = folders.collect([str(source)], tmp_path / "out", TEXT, to_out)
    assert pairs(jobs, source, tmp_path / "out") == {
        "a.TXT": "a.out",
        "b.txt": "b.out",
        "sub/deep/c.md": "sub/deep/c.out",
    }
    assert [job.source.name for job in jobs] == ["a.TXT", "b.txt", "c.md"]


def test_named_files_are_taken_whatever_their_suffix(tmp_path):
    source = make_files(tmp_path / "in", "x/a.jpg", ".hidden.txt")
    inputs = [str(source / "x" / "a.jpg"), str(source / ".hidden.txt")]
    jobs = folders.collect(inputs, tmp_path / "out", TEXT)
    assert [job.target for job in jobs] == [tmp_path / "out/a.jpg", tmp_path / "out/.hidden.txt"]


def test_patterns_that_the_shell_left_alone(tmp_path):
    source = make_files(tmp_path / "in", "a.txt", "b.txt", "c.md", "sub/d.txt", "odd[1].txt")
    out = tmp_path / "out"
    jobs = folders.collect([f"{source}/?.txt"], out, TEXT)
    assert [job.source.name for job in jobs] == ["a.txt", "b.txt"]
    jobs = folders.collect([f"{source}/**/*.txt"], out, TEXT)
    assert {job.source.name for job in jobs} == {"a.txt", "b.txt", "d.txt", "odd[1].txt"}
    literal = folders.collect([f"{source}/odd[1].txt"], out, TEXT)
    assert [job.source.name for job in literal] == ["odd[1].txt"]


def test_relative_names_and_home(tmp_path, monkeypatch):
    make_files(tmp_path, "a.txt", "sub/b.txt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    out = Path("out")
    assert folders.collect(["a.txt"], out, TEXT) == [folders.Job(Path("a.txt"), out / "a.txt")]
    assert folders.collect(["sub"], out, TEXT) == [folders.Job(Path("sub/b.txt"), out / "b.txt")]
    assert [job.target for job in folders.collect(["."], out, TEXT)] == [
        out / "a.txt",
        out / "sub/b.txt",
    ]
    assert [job.source for job in folders.collect(["~/a.txt"], out, TEXT)] == [tmp_path / "a.txt"]


def test_each_source_once(tmp_path):
    source = make_files(tmp_path / "in", "a.txt", "b.txt")
    inputs = [str(source / "b.txt"), str(source), f"{source}/./a.txt", f"{source}/*.txt"]
    jobs = folders.collect(inputs, tmp_path / "out", TEXT)
    assert [job.source.name for job in jobs] == ["b.txt", "a.txt"]


def test_output_folder_inside_the_input_is_no_input(tmp_path):
    source = make_files(tmp_path / "in", "a.txt", "out/a.txt", "out/sub/b.txt")
    jobs = folders.collect([str(source)], source / "out", TEXT)
    assert [job.source for job in jobs] == [source / "a.txt"]


def test_links_are_followed_and_loops_are_not(tmp_path):
    source = make_files(tmp_path / "in", "a.txt", "sub/b.txt")
    elsewhere = make_files(tmp_path / "elsewhere", "c.txt")
    (source / "linked").symlink_to(elsewhere)
    (source / "sub" / "up").symlink_to(source)
    (elsewhere / "self").symlink_to(elsewhere)
    (source / "me.txt").symlink_to("me.txt")
    jobs = folders.collect([str(source)], tmp_path / "out", TEXT)
    assert {str(job.source.relative_to(source)) for job in jobs} == {
        *("a.txt", "me.txt", "linked/c.txt", "sub/b.txt")
    }


def test_same_target_by_new_suffix_keeps_the_old_one_inside(tmp_path):
    source = make_files(tmp_path / "in", "a.txt", "a.md", "b.txt", "sub/a.md")
    out = tmp_path / "out"
    assert pairs(folders.collect([str(source)], out, TEXT, to_out), source, out) == {
        "a.md": "a.md.out",
        "a.txt": "a.txt.out",
        "b.txt": "b.out",
        "sub/a.md": "sub/a.out",
    }


def test_same_name_from_two_folders_keeps_the_folders(tmp_path):
    make_files(tmp_path / "in", "2023/raw/a.txt", "2024/raw/a.txt", "2024/raw/b.txt")
    out = tmp_path / "out"
    inputs = [str(tmp_path / "in/2023/raw/a.txt"), str(tmp_path / "in/2024/raw")]
    assert pairs(folders.collect(inputs, out, TEXT), tmp_path / "in", out) == {
        "2023/raw/a.txt": "2023/raw/a.txt",
        "2024/raw/a.txt": "2024/raw/a.txt",
        "2024/raw/b.txt": "b.txt",
    }


def test_results_that_cannot_be_told_apart_are_refused(tmp_path):
    source = make_files(tmp_path / "in", "x/a.txt", "y/a.txt", "z/y/a.txt")
    inputs = [str(source / "x/a.txt"), str(source / "y/a.txt"), str(source / "z")]
    with pytest.raises(ConvsuiteError, match=r"would both become .*y/a\.txt"):
        folders.collect(inputs, tmp_path / "out", TEXT)


def test_result_on_an_input_is_refused_under_any_name(tmp_path, monkeypatch):
    source = make_files(tmp_path / "in", "a.txt", "sub/b.txt")
    (tmp_path / "link").symlink_to(source)
    monkeypatch.chdir(source)
    for inputs, out in [
        ([str(source)], source),
        ([str(source)], tmp_path / "link"),
        (["."], source / "sub" / ".."),
        (["a.txt"], source),
        ([str(tmp_path / "link" / "a.txt")], Path(".")),
        ([str(source / "sub"), str(source)], tmp_path / "in" / "sub"),
    ]:
        with pytest.raises(ConvsuiteError, match="name another folder for the results"):
            folders.collect(inputs, out, TEXT)


def test_new_suffix_beside_the_input_is_fine(tmp_path):
    source = make_files(tmp_path / "in", "a.txt")
    jobs = folders.collect([str(source / "a.txt")], source, TEXT, to_out)
    assert [job.target for job in jobs] == [source / "a.out"]


NAMES = st.lists(
    st.tuples(st.sampled_from(["", "x/", "y/", "x/y/"]), st.sampled_from("abc"), st.sampled_from(
        [".txt", ".md", ".txt.md", ".out"]
    )).map("".join),
    min_size=1,
    unique=True,
)  # fmt: skip


@given(names=NAMES, split=st.booleans())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_targets_are_unique_and_never_sources(tmp_path_factory, names, split):
    tmp_path = tmp_path_factory.mktemp("tree")
    source = make_files(tmp_path / "in", *names)
    suffixes = TEXT | {".out"}
    inputs = [str(source / name) for name in names] if split else [str(source)]
    try:
        jobs = folders.collect(inputs, tmp_path / "out", suffixes, to_out)
    except ConvsuiteError:
        reject()
    assert {job.source for job in jobs} == {source / name for name in names}
    targets = [job.target for job in jobs]
    assert len(set(targets)) == len(targets)
    assert all(target.suffix == ".out" for target in targets)
    assert jobs == folders.collect(inputs, tmp_path / "out", suffixes, to_out)


# ------------------------------------------------------------------ process


def run(source, out, work=Upper, **options):
    jobs = folders.collect([str(source)], out, TEXT)
    return folders.process(jobs, work, out=out, **options)


def test_everything_is_done_in_sub_folders_too(tmp_path):
    source = make_files(tmp_path / "in", "a.txt", "sub/b.txt")
    summary = run(source, tmp_path / "out")
    assert (summary.done, summary.skipped, summary.failures) == (2, 0, [])
    assert summary.exit_code == 0
    assert (tmp_path / "out/sub/b.txt").read_text() == "SUB/B.TXT"
    stages = (summary.read_seconds, summary.apply_seconds, summary.write_seconds)
    assert all(0 < seconds < 60 for seconds in (*stages, summary.wall_seconds))


def test_second_run_does_only_what_is_missing(tmp_path):
    source = make_files(tmp_path / "in", "a.txt", "b.txt")
    out = tmp_path / "out"
    run(source, out)
    (out / "b.txt").unlink()
    (out / "a.txt").write_text("kept")
    summary = run(source, out)
    assert (summary.done, summary.skipped) == (1, 1)
    assert (out / "a.txt").read_text() == "kept"
    summary = run(source, out, overwrite=True)
    assert (summary.done, summary.skipped) == (2, 0)
    assert (out / "a.txt").read_text() == "A.TXT"


def test_the_caller_may_say_what_is_done(tmp_path):
    source = make_files(tmp_path / "in", "a.txt", "b.txt")
    run(source, tmp_path / "out")
    (tmp_path / "out" / "a.txt").write_text("other")

    def is_upper(path):
        return path.is_file() and path.read_text().isupper()

    summary = run(source, tmp_path / "out", is_done=is_upper)
    assert (summary.done, summary.skipped) == (1, 1)
    assert (tmp_path / "out" / "a.txt").read_text() == "A.TXT"


def test_results_of_other_settings_are_kept_and_said(tmp_path):
    source = make_files(tmp_path / "in", "a.txt", "sub/b.txt")
    out = tmp_path / "out"

    def told(**options):
        summary = run(source, out, **options)
        return (summary.done, summary.skipped, summary.differing), reported(summary, out)

    assert told()[0] == (2, 0, 0)  # nothing is remembered of these
    assert told(settings={"seed": 1})[0] == (0, 2, 0)
    assert told(settings={"seed": 1}, overwrite=True)[0] == (2, 0, 0)
    (out / "sub" / "b.txt").unlink()
    counts, line = told(settings={"seed": 2})
    assert counts == (1, 1, 1)
    assert "1 already there, 1 of them with other settings (--overwrite to redo)" in line
    assert told(settings={"seed": 2})[0] == (0, 2, 1)
    assert told(settings={"seed": 1})[0] == (0, 2, 1)
    assert told(settings={"seed": 2}, overwrite=True)[0] == (2, 0, 0)
    assert told(settings={"seed": 2})[0] == (0, 2, 0)
    # A line that a kill cut off is as none.
    with (out / folders.SETTINGS_FILE).open("a") as file:
        file.write('{"result": "a.t')
    assert told(settings={"seed": 2})[0] == (0, 2, 0)


def test_failed_files_have_no_settings(tmp_path):
    source = make_files(tmp_path / "in", "0.txt", "1_bad_read.txt")
    run(source, tmp_path / "out", Fragile, settings={"a": 1})
    lines = (tmp_path / "out" / folders.SETTINGS_FILE).read_text().splitlines()
    assert [json.loads(line)["result"] for line in lines] == ["0.txt"]


def test_work_is_not_built_when_nothing_is_to_do(tmp_path):
    source = make_files(tmp_path / "in", "a.txt")
    run(source, tmp_path / "out")

    def never():
        raise AssertionError

    assert run(source, tmp_path / "out", never).skipped == 1


class Fragile(Upper):
    def read(self, path):
        text = super().read(path)
        if "bad_read" in text:
            raise ImageError(f"{path.name} is empty;\n  take another file")
        return text

    def apply(self, item):
        if "bad_apply" in item:
            raise ZeroDivisionError
        return super().apply(item)

    def write(self, result, path):
        if "BAD_WRITE" in result:
            raise OSError(28, "No space left on device")
        super().write(result, path)


def test_failures_in_every_stage_are_named_and_the_rest_is_done(tmp_path):
    names = ("0.txt", "1_bad_read.txt", "2_bad_apply.txt", "3.txt", "4_bad_write.txt", "5.txt")
    source = make_files(tmp_path / "in", *names)
    summary = run(source, tmp_path / "out", Fragile)
    assert summary.done == 3
    assert summary.exit_code == 1
    assert [(f.source.name, f.reason) for f in summary.failures] == [
        ("1_bad_read.txt", "1_bad_read.txt is empty; take another file"),
        ("2_bad_apply.txt", "ZeroDivisionError"),
        ("4_bad_write.txt", "OSError: [Errno 28] No space left on device"),
    ]


def test_what_cannot_be_opened_is_named_without_building_the_work(tmp_path):
    source = make_files(tmp_path / "in", "x.txt/inside.txt")
    (tmp_path / "empty").mkdir()
    (source / "broken.txt").symlink_to(tmp_path / "nowhere")
    inputs = [str(source), str(tmp_path / "empty"), str(tmp_path / "none.txt"), f"{source}/*.md"]
    jobs = folders.collect(inputs, tmp_path / "out", TEXT)
    summary = folders.process(jobs, lambda: 1 / 0, out=tmp_path / "out")
    assert {f.source.name: f.reason for f in summary.failures} == {
        "broken.txt": "no such file",
        "x.txt": "is a folder, not a file to work on",
        "empty": "is a folder, not a file to work on",
        "none.txt": "no such file",
        "*.md": "no file matches this pattern",
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_what_may_not_be_read_is_named(tmp_path):
    source = make_files(tmp_path / "in", "a.txt", "closed/b.txt")
    (source / "a.txt").chmod(0)
    (source / "closed").chmod(0)
    try:
        summary = run(source, tmp_path / "out")
    finally:
        (source / "closed").chmod(0o700)
    assert {f.source.name: f.reason for f in summary.failures} == {
        "a.txt": "permission denied",
        "closed": "permission denied",
    }


def test_output_folder_that_cannot_be_made(tmp_path):
    source = make_files(tmp_path / "in", "a.txt")
    make_files(tmp_path, "file")
    with pytest.raises(ConvsuiteError, match=r"the folder .*file/out cannot be made"):
        run(source, tmp_path / "file" / "out")


def test_mistake_in_building_the_work_is_passed_on(tmp_path):
    source = make_files(tmp_path / "in", "a.txt")

    def broken():
        raise ConvsuiteError("no such weights")

    with pytest.raises(ConvsuiteError, match="no such weights"):
        run(source, tmp_path / "out", broken)


def test_stale_temporary_files_vanish_and_nothing_else(tmp_path):
    source = make_files(tmp_path / "in", "a.txt", "sub/b.txt", ".mine.part")
    out = make_files(
        tmp_path / "out", ".a.txt.part", "sub/.b.txt.part", "other/.c.part", ".keep", "d.part"
    )
    (out / ".ray-123.part").mkdir()
    (out / ".folder.part").mkdir()
    run(source, out)
    left = {str(path.relative_to(out)) for path in out.rglob("*")}
    assert left == {
        *("a.txt", "sub", "sub/b.txt", "other", "other/.c.part", ".keep", "d.part"),
        ".folder.part",
    }
    assert (source / ".mine.part").exists()


class Counting(Upper):
    """Counts items between the start of reading and the end of writing; the slow stage varies."""

    def __init__(self, slow):
        self.slow = slow
        self.lock = threading.Lock()
        self.in_flight = 0
        self.most = 0
        self.applied = []
        self.threads = set()

    def pause(self, stage):
        time.sleep(0.01 if stage == self.slow else 0.001)

    def read(self, path):
        with self.lock:
            self.in_flight += 1
            self.most = max(self.most, self.in_flight)
        self.pause("read")
        return super().read(path)

    def apply(self, item):
        self.applied.append(item)
        self.threads.add(threading.current_thread())
        self.pause("apply")
        return super().apply(item)

    def write(self, result, path):
        self.pause("write")
        super().write(result, path)
        with self.lock:
            self.in_flight -= 1


@pytest.mark.parametrize("slow", ["read", "apply", "write"])
def test_look_ahead_is_bounded_and_order_kept(tmp_path, slow):
    source = make_files(tmp_path / "in", *(f"{number:03}.txt" for number in range(60)))
    work = Counting(slow)
    assert run(source, tmp_path / "out", lambda: work).done == 60
    assert 1 < work.most <= 2 * folders._workers() + 1
    assert work.applied == [f"{number:03}.txt" for number in range(60)]
    assert work.threads == {threading.main_thread()}


class Sleepy(Upper):
    def read(self, path):
        time.sleep(0.02)
        return super().read(path)

    def apply(self, item):
        time.sleep(0.02)
        return super().apply(item)

    def write(self, result, path):
        time.sleep(0.02)
        super().write(result, path)


def test_stages_overlap(tmp_path):
    source = make_files(tmp_path / "in", *(f"{number:03}.txt" for number in range(40)))
    summary = run(source, tmp_path / "out", Sleepy)
    stages = (summary.read_seconds, summary.apply_seconds, summary.write_seconds)
    assert summary.wall_seconds < 0.7 * sum(stages)


class Blob:
    alive = 0
    most = 0
    lock = threading.Lock()

    def __init__(self):
        with Blob.lock:
            Blob.alive += 1
            Blob.most = max(Blob.most, Blob.alive)

    def __del__(self):
        with Blob.lock:
            Blob.alive -= 1


class Hoarding(Upper):
    def read(self, path):
        return Blob()

    def apply(self, item):
        result = Blob()
        if Blob.most % 3 == 0:
            raise ValueError("tracebacks hold frames, frames hold pixels")
        return result

    def write(self, result, path):
        raise ValueError("so do these")


def test_memory_of_failed_items_is_given_back(tmp_path):
    source = make_files(tmp_path / "in", *(f"{number:03}.txt" for number in range(80)))
    summary = run(source, tmp_path / "out", Hoarding)
    assert len(summary.failures) == 80
    assert Blob.most <= 2 * (2 * folders._workers() + 1)


class Remarking(Upper):
    def write(self, result, path):
        super().write(result, path)
        return ["odd name"] if "1" in result else []


def test_notes_become_warnings_with_counts(tmp_path):
    source = make_files(tmp_path / "in", "0.txt", "1.txt", "10.txt", "2.txt")
    summary = run(source, tmp_path / "out", Remarking)
    assert summary.warnings == ["odd name (2 files)"]
    files = [Path(name).name for name in summary.to_dict()["warnings"]["odd name"]]
    assert files == ["1.txt", "10.txt"]


# ------------------------------------------------------------------ report


def reported(summary, out, **options):
    text = io.StringIO()
    folders.report(summary, out, Console(file=text, width=80), **options)
    return text.getvalue()


def test_report_of_a_mixed_run(tmp_path):
    failures = [folders.Failure(Path("in/[b]" + "x" * 100 + ".jpg"), "is empty")]
    summary = folders.Summary(
        done=41, skipped=3, failures=failures, wall_seconds=12.3, notes={"odd": [Path("a")]}
    )
    assert reported(summary, tmp_path, noun="pictures").splitlines() == [
        "warning: odd (1 file)",
        f"failed: {failures[0].source}: is empty",
        "41 done, 3 already there (--overwrite to redo), 1 failed, 12.3 s (3.3 pictures/s)",
    ]
    assert reported(summary, tmp_path, quiet=True).splitlines() == [
        f"failed: {failures[0].source}: is empty"
    ]


def test_failures_file_is_written_and_removed(tmp_path):
    source = make_files(tmp_path / "in", "0.txt", "1_bad_read.txt")
    out = tmp_path / "out"
    reported(run(source, out, Fragile), out)
    stored = json.loads((out / "failures.json").read_text())
    assert stored["failures"] == [
        {
            "input": str(source / "1_bad_read.txt"),
            "reason": "1_bad_read.txt is empty; take another file",
        }
    ]
    assert (stored["done"], stored["skipped"], stored["interrupted"]) == (1, 0, False)
    summary = run(source, out)
    text = reported(summary, out)
    assert not (out / "failures.json").exists()
    assert re.fullmatch(r"1 done, 1 already there \(--overwrite to redo\), 0\.\d s \(.*\)\n", text)


def test_terminal_gets_a_table_and_long_lists_are_cut(tmp_path):
    failures = [folders.Failure(Path(f"{number}.jpg"), "is empty") for number in range(70)]
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=80)
    folders.report(folders.Summary(failures=failures), tmp_path, console)
    assert "Reason" in text.getvalue()
    assert "and 20 more, see failures.json" in text.getvalue()
    assert len(json.loads((tmp_path / "failures.json").read_text())["failures"]) == 70


# ------------------------------------------------------------------ a process of its own


SCRIPT = """
import os, sys, time
from pathlib import Path
import typer
from shared import console, folders

class Slow:
    def read(self, path):
        return path.read_text()
    def apply(self, item):
        time.sleep(float(os.environ["APPLY_SECONDS"]))
        return item
    def write(self, result, path):
        part = path.with_name(f".{path.name}.part")
        with part.open("w") as file:
            file.write(result[: len(result) // 2])
            file.flush()
            time.sleep(0.05)
            file.write(result[len(result) // 2 :])
        part.replace(path)

app = typer.Typer(add_completion=False)

@app.command()
def main(inputs: console.Inputs, out: console.Out):
    jobs = folders.collect(inputs, out, frozenset({".txt"}))
    summary = folders.process(jobs, Slow, out=out)
    folders.report(summary, out, console.console)
    raise typer.Exit(summary.exit_code)

console.run(app)
"""


def start(tmp_path, source, out, apply_seconds=0.02, **options):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, str(script), str(source), "-o", str(out)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "APPLY_SECONDS": str(apply_seconds)},
        stderr=options.pop("stderr", subprocess.PIPE),
        text=True,
        **options,
    )


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def results(out):
    return sorted(out.glob("*.txt"))


@pytest.fixture
def many(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for number in range(40):
        (source / f"{number:02}.txt").write_text(str(number) * 1000)
    return source


def assert_whole(source, out):
    for path in results(out):
        assert path.read_text() == (source / path.name).read_text()


def test_killed_run_leaves_no_half_file_and_goes_on(tmp_path, many):
    out = tmp_path / "out"
    process = start(tmp_path, many, out)
    wait_for(lambda: len(results(out)) >= 3 and list(out.glob(".*.part")))
    process.kill()
    process.communicate()
    done = len(results(out))
    assert 3 <= done < 40
    assert_whole(many, out)
    summary = run(many, out)
    assert (summary.done, summary.skipped) == (40 - done, done)
    assert len(results(out)) == 40
    assert not list(out.glob(".*.part"))


def test_interrupted_run_finishes_what_is_in_hand_and_goes_on(tmp_path, many):
    out = tmp_path / "out"
    process = start(tmp_path, many, out)
    wait_for(lambda: len(results(out)) >= 2)
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 130
    assert messages.startswith("stopping after the files in hand; Ctrl-C again stops at once\n")
    assert messages.endswith("interrupted; run the same command again to go on\n")
    assert "Traceback" not in messages
    done = len(results(out))
    assert 2 <= done < 40
    assert not list(out.glob(".*.part"))
    assert_whole(many, out)
    process = start(tmp_path, many, out)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 0
    assert messages.startswith(f"{40 - done} done, {done} already there")
    assert "\x1b" not in messages
    assert "\r" not in messages
    assert len(results(out)) == 40


def test_second_interrupt_stops_at_once(tmp_path, many):
    out = tmp_path / "out"
    process = start(tmp_path, many, out, apply_seconds=600)
    wait_for(out.exists)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in messages


def test_terminal_shows_file_rate_and_time_left(tmp_path):
    source = make_files(
        tmp_path / "in", *(f"{number:02}_a_rather_long_name_of_a_file.txt" for number in range(20))
    )
    leader, follower = pty.openpty()
    process = start(tmp_path, source, tmp_path / "out", apply_seconds=0.1, stderr=follower)
    os.close(follower)
    shown = b""
    while process.poll() is None or select.select([leader], [], [], 0)[0]:
        if select.select([leader], [], [], 0.1)[0]:
            try:
                shown += os.read(leader, 65536)
            except OSError:  # the other side is closed
                break
    os.close(leader)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert process.wait(60) == 0
    assert re.search(r"\d\d_a_rather_lon…e_of_a_file\.txt", text)
    assert re.search(r"\d+/20", text)
    assert re.search(r"\d\.\d files/s", text)
    assert re.search(r"\d:\d\d:\d\d", text)
    assert "20 done" in text


RAY_SCRIPT = """
import sys
from pathlib import Path
import ray
from shared import console, folders
from shared.errors import ImageError

def make_work():
    class Fragile:
        def read(self, path):
            if "bad" in path.name:
                raise ImageError(f"{path.name} is bad")
            return path.read_bytes()
        def apply(self, item):
            return item.swapcase()
        def write(self, result, path):
            part = path.with_name(f".{path.name}.part")
            part.write_bytes(result)
            part.replace(path)
            return ["short"] if len(result) < 3 else None
    return Fragile()

source, out = sys.argv[1:]
started = []
real_init = ray.init
ray.init = lambda *args, **options: started.append(options) or real_init(*args, **options)
jobs = folders.collect([source], Path(out), frozenset({".txt"}))
summary = folders.process(jobs, make_work, out=Path(out), engine="ray")
folders.report(summary, Path(out), console.console)
console.emit({**summary.to_dict(), "init": started, "running": ray.is_initialized()})
"""


def test_ray_gives_the_same_results_quietly(tmp_path):
    pytest.importorskip("ray")
    source = make_files(tmp_path / "in", *(f"{number:02}.txt" for number in range(12)))
    make_files(source, "bad.txt", "sub/Ümläut name.txt")
    (source / "short.txt").write_text("Hi")
    odd = os.fsdecode(bytes(source) + b"/not\xff-utf8.txt")
    Path(odd).write_text("Odd")
    out = tmp_path / "out"
    result = subprocess.run(
        [sys.executable, "-c", RAY_SCRIPT, str(source), str(out)],
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    told = json.loads(result.stdout)
    assert told["done"] == 15
    assert {Path(f["input"]).name: f["reason"] for f in told["failures"]} == {
        "bad.txt": "bad.txt is bad",
    }
    assert [Path(name).name for name in told["warnings"]["short"]] == ["short.txt"]
    assert told["running"] is False
    assert told["init"][0]["include_dashboard"] is False
    assert told["init"][0]["num_cpus"] == os.cpu_count()
    assert result.stderr.splitlines()[:2] == [
        "warning: short (1 file)",
        f"failed: {source / 'bad.txt'}: bad.txt is bad",
    ]
    assert result.stderr.splitlines()[2].startswith("15 done, 1 failed")
    assert result.stderr.count("\n") == 3

    class SwapCase(Upper):
        def read(self, path):
            return path.read_bytes()

        def apply(self, item):
            return item.swapcase()

        def write(self, result, path):
            path.write_bytes(result)

    (source / "bad.txt").unlink()
    run(source, tmp_path / "local", SwapCase)
    local = {
        os.fsencode(path.relative_to(tmp_path / "local")): path.read_bytes()
        for path in (tmp_path / "local").rglob("*.txt")
    }
    remote = {os.fsencode(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.txt")}
    assert local == remote
    assert not list(out.glob(".*"))


def batch(source, target):
    return {"index": [7], "source": [os.fsencode(source)], "target": [os.fsencode(target)]}


def outcome_of(worker, source, target):
    return json.loads(worker(batch(source, target))["outcome"][0])


def test_ray_worker_does_not_repeat_what_killed_its_predecessor(tmp_path):
    source = make_files(tmp_path, "a.txt") / "a.txt"
    (tmp_path / "scratch").mkdir()
    worker = folders._RayWorker(Upper, tmp_path / "scratch")

    class Killed(Upper):
        def read(self, path):
            raise SystemExit

    with pytest.raises(SystemExit):
        folders._RayWorker(Killed, tmp_path / "scratch")(batch(source, tmp_path / "b.txt"))
    outcome = outcome_of(worker, source, tmp_path / "b.txt")
    assert (outcome["index"], "worker died" in outcome["reason"]) == (7, True)
    (tmp_path / "scratch" / "7").unlink()
    assert outcome_of(worker, source, tmp_path / "b.txt")["reason"] is None
    assert (tmp_path / "b.txt").read_text() == "A.TXT"


def test_ray_worker_heeds_the_stop_mark_and_tells_of_broken_work(tmp_path):
    def broken():
        raise ConvsuiteError("no such weights")

    worker = folders._RayWorker(broken, tmp_path)
    assert outcome_of(worker, "a", "b") == {"broken": "no such weights"}
    (tmp_path / "stop").touch()
    assert outcome_of(folders._RayWorker(Upper, tmp_path), "a", "b") == {}


def test_unreachable_ray_cluster_is_one_sentence(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    source = make_files(tmp_path / "in", "a.txt")
    with pytest.raises(ConvsuiteError, match=r"RAY_ADDRESS=127\.0\.0\.1:1 cannot be used"):
        run(source, tmp_path / "out", engine="ray")
    assert not list((tmp_path / "out").iterdir())

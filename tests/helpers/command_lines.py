"""Commands run as a user runs them."""

import subprocess
import sys

import pytest

from shared import console


def runner(app, name, capsys):
    """Return a function that runs a command of an application in this process.

    It takes the words of the command and the exit code that is expected, and returns what was
    printed to stdout and stderr.
    """

    def run(*words, check=0):
        with pytest.raises(SystemExit) as stopped:
            console.run(app, [str(word) for word in words], prog=f"convsuite {name}")
        printed = capsys.readouterr()
        assert stopped.value.code == check, printed.err
        return printed

    return run


def help_of(name, verb, heavy):
    """Return the help of a verb, after making sure that it imports none of the heavy packages."""
    code = (
        f"import sys; from apps.{name}.cli import app; from shared.console import run\n"
        f"try: run(app, [{verb!r}, '--help'])\n"
        f"finally: print(sorted({set(heavy)!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]")
    assert "Examples" in done.stdout
    return done.stdout

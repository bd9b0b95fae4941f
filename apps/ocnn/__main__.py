"""`python -m apps.ocnn` is `convsuite ocnn`."""

from shared.console import run

from .cli import app

run(app, prog="convsuite ocnn")

"""`python -m apps.texture` is `convsuite texture`."""

from shared.console import run

from .cli import app

run(app, prog="convsuite texture")

"""`python -m apps.enhance` is `convsuite enhance`."""

from shared.console import run

from .cli import app

run(app, prog="convsuite enhance")

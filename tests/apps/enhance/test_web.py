import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms
from waiting import wait_for

pytest.importorskip("gradio", reason="the extra `web` is not installed")

import gradio

from apps.enhance import Enhancer, looks, web
from shared import assets, images
from shared import web as server_side

SAMPLE = assets.samples_dir() / "coffee.jpg"


@pytest.fixture(autouse=True)
def _upload_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    (tmp_path / "gradio").mkdir()
    web._source.cache_clear()


@pytest.fixture(scope="module")
def look():
    return next(card.name for card in looks() if card.kind == "keras")


def _update(path, look, strength=1.0):
    """Run the event handler: (before, after, facts, file for downloading)."""
    (before, after), facts, button = web._update(str(path), look, strength)
    return Path(before), Path(after), facts, Path(button.value["path"])


def _save_tagged(path):
    exif = Image.Exif()
    exif[0x010F] = "A maker"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.open(SAMPLE).save(path, quality=97, exif=exif, icc_profile=profile)


def test_jpeg_comes_back_whole_with_exif_and_profile(look, tmp_path):
    _save_tagged(tmp_path / "tagged.JPG")
    *_, full = _update(tmp_path / "tagged.JPG", look)
    assert full.name == f"tagged-{look}.JPG"
    with Image.open(tmp_path / "tagged.JPG") as source, Image.open(full) as result:
        assert result.format == "JPEG"
        assert result.size == source.size
        assert result.getexif()[0x010F] == "A maker"
        assert result.info["icc_profile"] == source.info["icc_profile"]
    expected = Enhancer.from_weights(look)(images.load(tmp_path / "tagged.JPG").pixels)
    assert cv2.PSNR(images.load(full).pixels, expected) > 35


def test_sixteen_bits_and_alpha_stay(look):
    source = images.load(assets.samples_dir() / "coffee-16bit-alpha.png")
    *_, full = _update(source.source, look, 0.6)
    result = images.load(full)
    assert full.suffix == ".png"
    assert result.pixels.dtype == np.uint16
    np.testing.assert_array_equal(result.alpha, source.alpha)
    expected = Enhancer.from_weights(look, strength=0.6)(source.pixels)
    np.testing.assert_array_equal(result.pixels, expected)


def test_strength_zero_changes_nothing(look, tmp_path):
    pixels = images.load(SAMPLE).pixels
    images.write(tmp_path / "a.png", pixels)
    *_, full = _update(tmp_path / "a.png", look, 0)
    np.testing.assert_array_equal(images.load(full).pixels, pixels)


def test_the_preview_is_small_and_the_download_is_not(look, tmp_path):
    images.write(tmp_path / "large.jpg", cv2.resize(images.load(SAMPLE).pixels, (2400, 1600)))
    before, after, facts, full = _update(tmp_path / "large.jpg", look)
    assert images.load(before).pixels.shape == images.load(after).pixels.shape == (1067, 1600, 3)
    assert images.load(full).pixels.shape == (1600, 2400, 3)
    assert facts.startswith("2400 x 1600 pixels, enhanced in ")


def test_hdr_pictures_come_back_as_png(look, tmp_path):
    images.write(tmp_path / "light.exr", images.read(SAMPLE) * 2)
    *_, facts, full = _update(tmp_path / "light.exr", look)
    assert full.name == f"light-{look}.png"
    assert not images.load(full).linear
    assert "HDR" in facts


@pytest.mark.parametrize(("name", "reason"), [("text.jpg", ""), ("cut.jpg", "truncated")])
def test_broken_pictures_are_named(look, tmp_path, name, reason):
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "cut.jpg").write_bytes(SAMPLE.read_bytes()[:3000])
    with pytest.raises(gradio.Error, match=f"{name}.*{reason}"):
        _update(tmp_path / name, look)


def test_too_many_pixels_are_refused(look, monkeypatch):
    monkeypatch.setenv(server_side._MAX_MEGAPIXELS, "0.1")
    with pytest.raises(gradio.Error, match=r"coffee\.jpg.*0\.1 megapixels.*--max-megapixels"):
        _update(SAMPLE, look)


def test_nothing_chosen_shows_nothing(look):
    for path, chosen in [(None, look), (str(SAMPLE), None)]:
        slider, facts, button = web._update(path, chosen, 1.0)
        assert (slider, facts, button.interactive) == (None, "", False)


def test_a_look_is_opened_once(look, monkeypatch):
    opened = []
    monkeypatch.setattr(
        web.Enhancer, "from_weights", lambda name: opened.append(name) or _Darker(), raising=True
    )
    web._look.cache_clear()
    for strength in (0.2, 1.0, 1.8):
        _update(SAMPLE, look, strength)
    web._look.cache_clear()
    assert opened == [look]


class _Darker:
    """A slow look that shows whether its strength is changed under it."""

    strength = 1.0

    def prepare(self, picture):
        return picture

    def __call__(self, pixels):
        result = (pixels * (1 - self.strength / 2)).astype(np.uint8)
        time.sleep(0.02)
        assert np.array_equal(result, (pixels * (1 - self.strength / 2)).astype(np.uint8))
        return result


def test_visitors_do_not_change_each_others_strength(monkeypatch):
    look = _Darker()
    monkeypatch.setattr(web, "_look", lambda name: look)
    means = {}

    def visit(strength):
        *_, full = _update(SAMPLE, "darker", strength)
        means[strength] = images.load(full).pixels.mean()

    visitors = [threading.Thread(target=visit, args=(s,)) for s in (0.0, 0.4, 0.8, 1.2, 1.6)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    brightness = images.load(SAMPLE).pixels.mean()
    assert means == pytest.approx({s: brightness * (1 - s / 2) for s in means}, abs=1)
    assert len(means) == 5


# ------------------------------------------------------------------------- in a real browser


@pytest.fixture(scope="module")
def page(chromium, tmp_path_factory):
    """A browser on the page of a server in a process of its own."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    log = (tmp_path_factory.mktemp("server") / "log").open("w+")
    command = [sys.executable, "-m", "shared.cli", "web", "--port", str(port), "--device", "cpu"]
    root = Path(server_side.__file__).parents[1]
    process = subprocess.Popen(command, cwd=root, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}/"
    wait_for(lambda: _answers(address) or process.poll() is not None, 180)
    assert process.poll() is None, Path(log.name).read_text()
    chromium.get(address)
    yield chromium
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0, Path(log.name).read_text()
    assert "Traceback" not in Path(log.name).read_text()
    log.close()


def _answers(address):
    try:
        return urllib.request.urlopen(address, timeout=5).status == 200
    except OSError:
        return False


def _fetch(address):
    data = urllib.request.urlopen(address, timeout=20).read()
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def _after(page):
    # In one step: the page may replace the element at any moment.
    return page.execute_script("""return document.querySelector("img[src*='after.jpg']")?.src""")


def _new_after(page, old):
    """Wait for another result than `old` and return (its address, its pixels)."""
    address = wait_for(lambda: (new := _after(page)) != old and new)
    return address, _fetch(address).astype(int)


@pytest.mark.browser
def test_upload_look_and_strength_in_a_browser(page, tmp_path):
    start, _ = _new_after(page, None)
    shutil.copy(SAMPLE, tmp_path / "my picture.jpg")
    page.find_element(
        "css selector", "button[aria-label='Clear'], button[aria-label='Remove this file']"
    ).click()
    wait_for(lambda: page.find_elements("css selector", "input[type=file]"))[0].send_keys(
        str(tmp_path / "my picture.jpg")
    )
    address, first = _new_after(page, start)
    before = _fetch(address.replace("after.jpg", "before.jpg")).astype(int)
    assert np.abs(before - images.load(SAMPLE).pixels).mean() < 3
    assert np.abs(first - before).mean() > 1

    radios = page.find_elements("css selector", "input[type=radio]")
    other = next(radio for radio in radios if not radio.is_selected())
    page.execute_script("arguments[0].click()", other)
    address, second = _new_after(page, address)
    assert np.abs(second - first).mean() > 1

    number = page.find_element("css selector", "input[type=number]")
    number.clear()
    number.send_keys("0\n")
    address, third = _new_after(page, address)
    np.testing.assert_allclose(third, before, atol=2)

    (tmp_path / "downloads").mkdir()
    behaviour = {"behavior": "allow", "downloadPath": str(tmp_path / "downloads")}
    page.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
    page.find_element("xpath", "//button[contains(., 'Download in full size')]").click()
    full = wait_for(lambda: list((tmp_path / "downloads").glob("*.jpg")))[0]
    assert full.name == f"my picture-{other.get_attribute('value')}.jpg"
    assert np.abs(images.load(full).pixels - before).mean() < 2


@pytest.mark.browser
def test_a_sample_can_be_chosen_in_a_browser(page):
    old = _after(page)
    thumbnails = page.find_elements("css selector", ".gallery-item")
    assert len(thumbnails) == len(list(assets.samples_dir().glob("*.[jp][pn]g")))
    thumbnails[1].click()
    address, _ = _new_after(page, old)
    shown = _fetch(address.replace("after.jpg", "before.jpg"))
    expected = images.load(sorted(assets.samples_dir().glob("*.[jp][pn]g"))[1]).pixels
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).mean() < 3


@pytest.mark.browser
def test_the_slider_moves_by_mouse_in_a_browser(page):
    action_chains = pytest.importorskip("selenium.webdriver").ActionChains
    picture = page.find_element("css selector", "img[src*='after.jpg']")
    row = cv2.imdecode(np.frombuffer(picture.screenshot_as_png, np.uint8), 1)
    handle = page.find_element("css selector", "[data-testid=slider] .icon-wrap")
    action_chains(page).click_and_hold(handle).move_by_offset(150, 0).release().perform()
    time.sleep(0.5)
    moved = cv2.imdecode(np.frombuffer(picture.screenshot_as_png, np.uint8), 1)
    changed = np.abs(row.astype(int) - moved).sum(axis=(0, 2)) > 0
    assert changed.sum() > 100

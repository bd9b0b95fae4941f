import base64
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from shared import report
from shared.errors import ConvsuiteError, ImageError

RED, BLUE = (200, 30, 30), (30, 30, 200)
ANY_TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=60)


class _Elements(HTMLParser):
    """Elements of a page as (tag, attributes), and the text inside each tag."""

    def __init__(self, markup):
        super().__init__(convert_charrefs=True)
        self.elements, self.texts, self._open = [], {}, []
        self.feed(markup)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if self._open:
            self.texts.setdefault(self._open[-1], []).append(data)

    def all(self, tag, css_class=None):
        return [
            attributes
            for name, attributes in self.elements
            if name == tag
            and (css_class is None or css_class in attributes.get("class", "").split())
        ]


def _solid(colour, height=200, width=300):
    return np.full((height, width, 3), colour, np.uint8)


def _photo(height=300, width=450, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (6, 9, 3), np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def _written(page, folder):
    page.write(folder / "page.html")
    return (folder / "page.html").read_text(encoding="utf-8")


def _embedded(markup):
    """Decode the pictures of a page with OpenCV: arrays (height, width, 3) RGB."""
    urls = re.findall(r'src="data:image/webp;base64,([^"]+)"', markup)
    buffers = (np.frombuffer(base64.b64decode(url), np.uint8) for url in urls)
    return [cv2.imdecode(buffer, cv2.IMREAD_COLOR)[..., ::-1] for buffer in buffers]


def _of_picture(image, folder):
    page = report.Page("title")
    page.picture(image, "caption")
    return _embedded(_written(page, folder))[0]


@settings(max_examples=40, deadline=None)
@given(text=ANY_TEXT)
def test_every_text_is_shown_as_it_is_and_never_becomes_markup(tmp_path_factory, text):
    page = report.Page(text, text)
    page.heading(text)
    page.text(text)
    page.problem(text)
    page.command(text)
    page.table([text], [[text]], text)
    page.facts({text: text})
    page.picture(_solid(RED, 4, 4), text, command=text, alt=text)
    page.compare(_solid(RED, 4, 4), _solid(BLUE, 4, 4), text)
    found = _Elements(_written(page, tmp_path_factory.mktemp("page")))
    assert len(found.all("script")) == len(found.all("style")) == 1
    assert not [key for _, attributes in found.elements for key in attributes if key[:2] == "on"]
    assert "".join(found.texts["h1"]) == text
    assert found.texts["dt"] == found.texts["dd"] == found.texts["td"] == [text]
    assert found.all("img")[0]["alt"] == text


def test_pictures_survive_embedding(tmp_path):
    photo = _photo()
    assert cv2.PSNR(_of_picture(photo, tmp_path), photo) > 35


def test_all_number_types_show_the_same_picture(tmp_path):
    photo = _photo()
    expected = _of_picture(photo, tmp_path)
    for same in (photo.astype(np.uint16) * 257, photo / 255, (photo / 255).astype(np.float32)):
        np.testing.assert_array_equal(_of_picture(same, tmp_path), expected)


def test_grey_single_channel_and_out_of_range_arrays(tmp_path):
    grey = _photo()[..., 0]
    shown = _of_picture(grey, tmp_path)
    assert np.abs(shown.astype(int) - grey[..., None]).mean() < 2
    np.testing.assert_array_equal(_of_picture(grey[..., None], tmp_path), shown)
    wild = np.array([[np.nan, -1.0], [2.0, np.inf]], np.float32).repeat(16, 0).repeat(16, 1)
    assert _of_picture(wild, tmp_path)[0, 0].max() <= 3
    assert _of_picture(wild, tmp_path)[-1, 0].min() >= 252


@pytest.mark.parametrize(
    ("size", "expected"), [((3000, 1500), (1200, 600)), ((5, 4000), (2, 1200)), ((1, 1), (1, 1))]
)
def test_pictures_are_scaled_to_1200_pixels(tmp_path, size, expected):
    height, width = size
    assert _of_picture(_solid(RED, height, width), tmp_path).shape[:2] == expected


def test_file_orientation_profile_and_odd_modes(tmp_path):
    photo = Image.fromarray(_photo())
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo.save(tmp_path / "turned.jpg", quality=95, exif=exif, icc_profile=profile)
    shown = _of_picture(tmp_path / "turned.jpg", tmp_path)
    assert cv2.PSNR(shown, cv2.rotate(_photo(), cv2.ROTATE_90_CLOCKWISE)) > 30
    url = re.search(r"webp;base64,([^\"]+)", (tmp_path / "page.html").read_text())[1]
    (tmp_path / "embedded.webp").write_bytes(base64.b64decode(url))
    assert Image.open(tmp_path / "embedded.webp").info["icc_profile"] == profile

    photo.convert("CMYK").save(tmp_path / "cmyk.jpg", quality=95)
    assert cv2.PSNR(_of_picture(tmp_path / "cmyk.jpg", tmp_path), _photo()) > 25
    palette = photo.quantize(64)
    palette.save(tmp_path / "palette.png")
    expected = np.asarray(palette.convert("RGB"))
    assert cv2.PSNR(_of_picture(tmp_path / "palette.png", tmp_path), expected) > 30
    cv2.imwrite(str(tmp_path / "deep.png"), _photo()[..., 0].astype(np.uint16) * 257)
    deep = _of_picture(tmp_path / "deep.png", tmp_path)
    assert cv2.PSNR(deep[..., 0].copy(), _photo()[..., 0].copy()) > 35


@pytest.mark.parametrize("name", ["missing.png", "text.jpg", "cut.jpg", "empty.png", "folder.png"])
def test_unreadable_files_are_named(tmp_path, name):
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    Image.fromarray(_photo()).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:2000])
    with pytest.raises(ImageError, match=re.escape(name)):
        report.Page("title").picture(tmp_path / name, "caption")


def test_a_pair_may_differ_in_size_but_not_in_shape():
    page = report.Page("title")
    page.compare(_solid(RED, 100, 150), _solid(BLUE, 200, 300), "twice as large")
    with pytest.raises(ImageError, match=r"the barn.*150x100 and 100x150"):
        page.compare(_solid(RED, 100, 150), _solid(BLUE, 150, 100), "the barn")


def test_neighbouring_pictures_share_a_grid(tmp_path):
    page = report.Page("title")
    for name in "ab":
        page.picture(_solid(RED), name)
    page.text("between")
    page.compare(_solid(RED), _solid(BLUE), "c")
    found = _Elements(_written(page, tmp_path))
    assert [grid["data-count"] for grid in found.all("div", "grid")] == ["2", "1"]


def test_contents_link_to_every_heading(tmp_path):
    page = report.Page("title")
    for level, text in [(2, "One"), (3, "Same"), (3, "Same"), (2, "Two")]:
        page.heading(text, level=level)
    found = _Elements(_written(page, tmp_path))
    targets = [attributes["href"].removeprefix("#") for attributes in found.all("a")]
    anchors = [a["id"] for tag, a in found.elements if tag in ("h2", "h3") and "id" in a]
    assert targets == anchors
    assert len(set(anchors)) == 4


def test_columns_of_numbers_are_aligned_to_the_right(tmp_path):
    page = report.Page("title")
    rows = [["clahe", 26.8123, "42 ms", None, "8x8"], ["auto", 24, "\u22123 ms", 7, "1"]]
    page.table(["look", "dB", "time", "n", "mixed"], rows)
    found = _Elements(_written(page, tmp_path))
    assert [cell["class"] for cell in found.all("td")[:5]] == [
        "word",
        "number",
        "number",
        "number",
        "word",
    ]
    assert found.texts["td"][1:4] == ["26.81", "42 ms", "\u2013"]


def test_a_row_of_another_length_is_refused():
    with pytest.raises((ValueError, IndexError)):
        report.Page("title").table(["a", "b"], [["one"]])


def test_a_failed_write_leaves_the_old_page_and_no_part(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ConvsuiteError, match=r"page\.html: the page cannot be written"):
        report.Page("title").write(tmp_path / "file" / "page.html")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConvsuiteError, match="folder"):
        report.Page("title").write(tmp_path / "folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_file_names_that_are_not_unicode_can_be_written(tmp_path):
    page = report.Page("title")
    page.text(os.fsdecode(b"caf\xe9.jpg"))
    assert "caf?.jpg" in _written(page, tmp_path)


def test_line_plot_draws_the_data_and_its_labels():
    x = np.linspace(0, 10, 11)
    markup = report.line_plot({"a <b>": (x, 2 * x), "c": (x, x)}, "size (MP)", "$ per day", "T")
    root = ET.fromstring(markup)
    texts = ["".join(element.itertext()).strip() for element in root.findall(".//{*}text")]
    assert {"size (MP)", "$ per day", "a <b>", "c", "T"} <= set(texts)
    assert "currentColor" in markup
    assert "#010203" not in markup
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", markup)
    curves = [
        np.array([float(n) for n in re.findall(r"-?[\d.]+", path.get("d"))]).reshape(-1, 2)
        for path in root.findall(".//{*}path")
        if path.get("d").count("L") == 10 and path.get("clip-path")
    ]
    assert len(curves) == 2
    rise = [(curve[0] - curve[-1])[1] for curve in curves]
    assert rise[0] / rise[1] == pytest.approx(2, rel=1e-3)
    assert np.ptp(np.diff(curves[0], axis=0), axis=0) == pytest.approx([0, 0], abs=1e-3)


def test_two_plots_on_a_page_share_no_id(tmp_path):
    page = report.Page("title")
    plot = report.line_plot({"a": ([0, 1], [0, 1])}, "x (s)", "y (m)")
    page.svg(plot, "first")
    page.svg(plot, "second")
    found = _Elements(_written(page, tmp_path))
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids)) > 10
    references = {a.get("xlink:href", "#")[1:] for a in found.all("use")}
    assert references <= set(ids)


def test_machine_facts_without_importing_a_framework():
    program = (
        "import sys, os, json; from shared import report; facts = report.machine(); "
        "assert not {'keras', 'tensorflow', 'matplotlib'} & set(sys.modules), sys.modules; "
        "print(json.dumps(facts))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert f"({os.cpu_count()} threads)" in done.stdout
    assert sys.version.split()[0] in done.stdout
    assert done.stdout == done.stdout.strip() + "\n"


def _long_page():
    page = report.Page("A title", "An introduction.")
    page.heading("One")
    page.facts(report.machine())
    page.compare(_solid(RED), _solid(BLUE), "red and blue", command="convsuite " + "x" * 200)
    page.heading("Two")
    page.picture(_solid(RED), "p" * 200)
    page.picture(_solid(BLUE, 600, 200), "portrait")
    page.table(["column"] * 12, [["some words here"] * 12], "wide")
    page.svg(report.line_plot({"a": ([0, 1], [0, 1])}, "x (s)", "y (m)"), "plot")
    page.heading("Three")
    page.command("convsuite enhance run " + "--a-long-option " * 20)
    return page


@pytest.fixture
def opened(chromium, tmp_path):
    _long_page().write(tmp_path / "page.html")
    _emulate(chromium, 1280)
    chromium.get((tmp_path / "page.html").as_uri())
    return chromium


def _emulate(chromium, width, colours="light", *, touch=False):
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    scheme = [{"name": "prefers-color-scheme", "value": colours}]
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    chromium.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": touch})


def _comparison(chromium):
    return chromium.find_element("css selector", ".compare")


def _visible_split(chromium):
    """Return where red turns to blue in a screenshot of the comparison, in percent."""
    shot = np.frombuffer(_comparison(chromium).screenshot_as_png, np.uint8)
    row = cv2.imdecode(shot, cv2.IMREAD_COLOR)[10].astype(int)
    return 100 * (row[:, 2] > row[:, 0]).mean()


@pytest.mark.browser
def test_slider_follows_the_mouse(opened):
    action_chains = pytest.importorskip("selenium.webdriver").ActionChains
    box = _comparison(opened)
    width = box.size["width"]
    assert _visible_split(opened) == pytest.approx(50, abs=2)
    action_chains(opened).move_to_element_with_offset(box, int(-0.25 * width), 20).click().perform()
    assert _visible_split(opened) == pytest.approx(25, abs=2)
    action_chains(opened).move_to_element_with_offset(
        box, int(-0.25 * width), 20
    ).click_and_hold().move_by_offset(int(0.6 * width), 5).release().perform()
    assert _visible_split(opened) == pytest.approx(85, abs=2)
    action_chains(opened).move_to_element_with_offset(box, 0, 20).perform()
    assert _visible_split(opened) == pytest.approx(85, abs=2)


@pytest.mark.browser
def test_slider_follows_the_keyboard(opened):
    keys = pytest.importorskip("selenium.webdriver").Keys
    field = opened.find_element("css selector", ".compare input")
    field.send_keys(keys.HOME)
    assert _visible_split(opened) == pytest.approx(0, abs=2)
    field.send_keys(keys.ARROW_RIGHT * 10)
    assert _visible_split(opened) == pytest.approx(10, abs=2)
    field.send_keys(keys.END)
    assert _visible_split(opened) == pytest.approx(100, abs=2)
    assert field.get_attribute("aria-valuetext") == "100 % before"


@pytest.mark.browser
def test_slider_follows_a_finger(opened):
    _emulate(opened, 390, touch=True)
    opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", _comparison(opened))
    time.sleep(0.8)  # the page scrolls smoothly
    box = opened.execute_script(
        "return arguments[0].getBoundingClientRect().toJSON()", _comparison(opened)
    )
    y = box["y"] + box["height"] / 3

    def touch(kind, share=None):
        at = [] if share is None else [{"x": box["x"] + share * box["width"], "y": y}]
        opened.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

    touch("touchStart", 0.5)
    for share in (0.55, 0.6, 0.7, 0.8):
        touch("touchMove", share)
    touch("touchEnd")
    assert _visible_split(opened) == pytest.approx(80, abs=2)
    _emulate(opened, 1280)


@pytest.mark.browser
@pytest.mark.parametrize("width", [320, 390, 800, 1280, 1920])
def test_nothing_is_wider_than_the_window(opened, width):
    _emulate(opened, width)
    wide = opened.execute_script(
        "return [document.documentElement.scrollWidth, "
        "...[...document.querySelectorAll('main > *, figure, .command, nav, header')]"
        ".map(e => e.getBoundingClientRect().right)]"
    )
    assert max(wide) <= width
    table = opened.find_element("css selector", ".scroll")
    inside, outside = (table.get_property(name) for name in ("scrollWidth", "clientWidth"))
    assert inside > outside or width == 1920


@pytest.mark.browser
def test_light_and_dark_are_both_readable(opened):
    def brightness(name):
        body = opened.find_element("css selector", "body")
        red, green, blue = map(int, re.findall(r"\d+", body.value_of_css_property(name))[:3])
        return (red + green + blue) / 3

    _emulate(opened, 1280, "light")
    assert brightness("background-color") > 230 > 60 > brightness("color")
    _emulate(opened, 1280, "dark")
    assert brightness("background-color") < 40 < 200 < brightness("color")


@pytest.mark.browser
def test_enlarge_makes_a_picture_as_wide_as_the_page(opened):
    figures = opened.find_elements("css selector", ".grid:not([data-count='1']) figure")
    grid = figures[0].find_element("xpath", "..")
    before = figures[0].size["width"]
    button = figures[0].find_element("css selector", ".enlarge")
    button.send_keys("\n")
    assert before < figures[0].size["width"] == grid.size["width"]
    button.send_keys("\n")
    assert figures[0].size["width"] == before


@pytest.mark.browser
def test_the_page_asks_nothing_of_anybody_and_logs_no_error(opened):
    requested = opened.execute_script(
        "return performance.getEntriesByType('resource').map(e => e.name)"
    )
    assert [name for name in requested if not name.startswith("data:")] == []
    assert opened.get_log("browser") == []


@pytest.mark.browser
def test_heading_order_and_names_for_screen_readers(opened):
    levels = opened.execute_script(
        "return [...document.querySelectorAll('h1,h2,h3')].map(e => +e.tagName[1])"
    )
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    unnamed = opened.execute_script(
        "return [...document.querySelectorAll('img,input,button')]"
        ".filter(e => !(e.alt || e.ariaLabel)).length"
    )
    assert unnamed == 0

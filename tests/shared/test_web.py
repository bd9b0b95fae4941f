import inspect
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner
from waiting import wait_for

from shared import web
from shared.errors import ConvsuiteError, DependencyError, ImageError

gradio = pytest.importorskip("gradio", reason="the extra `web` is not installed")

_DUMMY = """
import threading
import time
from pathlib import Path

import cv2
import gradio
import numpy as np
from shared import web
from shared.errors import ImageError

TITLE = "Brightness"

@web.shows_errors
def _update(path, gain):
    if path is None:
        return None
    picture = cv2.imread(path)
    if picture is None:
        raise ImageError(f"{path} is <b>no</b> picture; choose another.")
    target = web.result_folder() / "bright.png"
    cv2.imwrite(str(target), np.clip(picture * gain, 0, 255).astype(np.uint8))
    return target

def build():
    file = gradio.File(label="Picture")
    gain = gradio.Slider(0, 2, value=1, step=0.1, label="Gain")
    result = gradio.Image(label="Result", interactive=False)
    gradio.on(fn=_update, inputs=[file, gain], outputs=result)

def _work():
    picture = np.zeros((2000, 2000, 3), np.uint8)
    while True:
        if Path(__file__).with_name("busy").exists():
            cv2.GaussianBlur(picture, (31, 31), 3)
        time.sleep(0.01)

for _ in range(3):
    threading.Thread(target=_work, daemon=True).start()
"""


def _free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The page with one stand-in application: (address, folder of temporary files, process)."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "apps" / "dummy").mkdir(parents=True)
    (folder / "apps" / "dummy" / "__init__.py").write_text('"""A stand-in."""')
    (folder / "apps" / "dummy" / "web.py").write_text(_DUMMY)
    (folder / "temporary").mkdir()
    port = _free_port()
    program = (
        f"import apps; apps.__path__[:] = [{str(folder / 'apps')!r}]; "
        "from shared import assets, web; assets._LIBRARIES = (); "
        f"web.serve('127.0.0.1', {port}, max_upload_mb=1)"
    )
    environment = os.environ | {"TMPDIR": str(folder / "temporary")}
    root = Path(web.__file__).parents[1]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", program], env=environment, cwd=root, stdout=log, stderr=log
        )
    address = f"http://127.0.0.1:{port}/"
    wait_for(lambda: _answers(address) or process.poll() is not None, 120)
    assert process.poll() is None, (folder / "log").read_text()
    yield address, folder / "temporary", process
    process.kill()
    process.wait()


def _answers(address):
    try:
        return urllib.request.urlopen(address, timeout=5).status == 200
    except OSError:
        return False


@pytest.fixture
def page(chromium, server):
    # The page before logs that its connections are cut; that is not this page's matter.
    chromium.get("about:blank")
    chromium.get_log("browser")
    chromium.get(server[0])
    wait_for(lambda: chromium.find_elements("css selector", "input[type=file]"))
    return chromium


def _upload(page, file):
    page.find_element("css selector", "input[type=file]").send_keys(str(file))


def _result(page):
    """Fetch the picture that the page shows, with OpenCV; None while there is none."""
    # In one step: the page may replace the element at any moment.
    shown = page.execute_script("""return document.querySelector("img[src*='bright']")?.src""")
    if shown is None:
        return None
    data = urllib.request.urlopen(shown, timeout=10).read()
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def _message(page):
    return wait_for(
        lambda: page.execute_script("return document.querySelector('.toast-body')?.innerText")
    )


@pytest.mark.browser
def test_an_upload_is_processed_and_follows_the_slider(page, tmp_path):
    picture = np.full((40, 60, 3), 100, np.uint8)
    cv2.imwrite(str(tmp_path / "grey.png"), picture)
    _upload(page, tmp_path / "grey.png")
    np.testing.assert_array_equal(
        wait_for(lambda: _result(page) is not None and [_result(page)])[0], picture
    )
    number = page.find_element("css selector", "input[type=number]")
    number.clear()
    number.send_keys("1.5\n")
    wait_for(lambda: _result(page) is not None and _result(page).max() == 150)


@pytest.mark.browser
def test_a_broken_picture_is_named_in_one_sentence(page, server, tmp_path):
    (tmp_path / "broken.jpg").write_text("no picture")
    _upload(page, tmp_path / "broken.jpg")
    text = _message(page)
    assert "broken.jpg is <b>no</b> picture; choose another." in text
    assert str(server[1]) not in text


@pytest.mark.browser
def test_a_file_beyond_the_limit_is_refused(page, tmp_path):
    (tmp_path / "large.bin").write_bytes(bytes(3 * 2**20))
    _upload(page, tmp_path / "large.bin")
    assert "size" in _message(page)


@pytest.mark.browser
def test_the_page_asks_no_other_machine_and_logs_no_error(page, server):
    requested = page.execute_script(
        "return performance.getEntriesByType('resource').map(e => e.name)"
    )
    assert len(requested) > 5
    assert [name for name in requested if not name.startswith((server[0], "data:", "blob:"))] == []
    assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_its_window(page, width):
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width


def test_headers_and_fonts(server):
    with urllib.request.urlopen(server[0], timeout=10) as answer:
        policy, text = answer.headers["content-security-policy"], answer.read().decode()
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert "fonts.g" not in text
    assert '"max_file_size":1048576' in re.sub(r"\s", "", text)


def test_a_server_stopped_at_work_leaves_no_file(server):
    _, temporary, process = server
    assert list(temporary.glob("convsuite-web-*"))
    (temporary.parent / "apps" / "dummy" / "busy").touch()
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert list(temporary.glob("convsuite-web-*")) == []


def test_a_busy_port_is_named():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(ConvsuiteError, match=f"--port {port}: cannot be listened on .*in use"):
            web.serve("127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "::2"])
def test_an_address_of_another_machine_is_named(host):
    with pytest.raises(ConvsuiteError, match=f"--host {host} --port"):
        web.serve(host, _free_port())


@pytest.mark.parametrize(
    ("host", "warned"),
    [("127.0.0.1", False), ("localhost", False), ("::1", False), ("0.0.0.0", True), ("::", True)],
)
def test_a_host_that_others_reach_is_warned_of(monkeypatch, host, warned):
    calls = []
    monkeypatch.setattr(web, "serve", lambda *arguments, **options: calls.append(arguments))
    monkeypatch.setattr(web.backend, "setup", lambda device, precision: None)
    monkeypatch.setenv(web._MAX_MEGAPIXELS, "64")
    result = CliRunner().invoke(web.command, ["--host", host])
    assert result.exit_code == 0
    assert calls == [(host, 7860)]
    assert ("no password" in result.output) is warned


def test_missing_gradio_names_the_extra(monkeypatch):
    monkeypatch.setattr(web.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DependencyError, match=r"convsuite\[web\]"):
        CliRunner().invoke(web.command, [], catch_exceptions=False)


def test_help_imports_no_gradio():
    program = (
        "import sys; from shared import web; from typer.testing import CliRunner; "
        "print(CliRunner().invoke(web.command, ['--help']).output); "
        "assert not {'gradio', 'keras', 'cv2'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "--max-upload-mb" in done.stdout
    assert "convsuite web --port 8000" in done.stdout


def test_without_applications_there_is_no_page(monkeypatch, tmp_path):
    import apps

    monkeypatch.setattr(web.assets, "_LIBRARIES", ())
    monkeypatch.setattr(apps, "__path__", [str(tmp_path)])
    monkeypatch.setattr(apps.__spec__, "submodule_search_locations", [str(tmp_path)])
    with pytest.raises(ConvsuiteError, match="No application"):
        web.build()


def test_only_errors_of_users_are_shown(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))

    @web.shows_errors
    def handler(error):
        raise error

    with pytest.raises(gradio.Error) as caught:
        handler(ImageError(f"{tmp_path / 'abc123' / 'a&b.jpg'} is broken; choose another."))
    assert caught.value.message == "a&amp;b.jpg is broken; choose another."
    with pytest.raises(ZeroDivisionError):
        handler(ZeroDivisionError())


def test_errors_between_live_values_are_shown_too():
    @web.shows_errors
    def handler(count):
        yield from range(count)
        raise ImageError("a.jpg is broken; choose another.")

    values = handler(2)
    assert inspect.isgeneratorfunction(handler)
    assert (next(values), next(values)) == (0, 1)
    with pytest.raises(gradio.Error, match=r"a\.jpg is broken"):
        next(values)


def test_results_lie_in_folders_of_their_own(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    first, second = web.result_folder(), web.result_folder()
    assert first != second
    assert first.parent == second.parent == tmp_path
    assert first.is_dir()

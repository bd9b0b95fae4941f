"""`convsuite web`: one page in the browser, with a tab for each application that has one.

An application takes part by a module `web.py` with the text `TITLE` and `build()`, which is called
inside its tab and adds Gradio components. Its event handlers go through `shows_errors`; they read
uploads with `load`, and files that they make for downloading go into a `result_folder()`.
"""

import functools
import html
import importlib
import importlib.util
import inspect
import ipaddress
import os
import re
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared import assets, backend, console
from shared.errors import ConvsuiteError, DependencyError

if TYPE_CHECKING:
    from shared.images import Picture

# The browser itself refuses whatever a component might want from elsewhere.
_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
    "form-action 'self'; frame-ancestors 'self'; base-uri 'self'"
)
_STYLE = """
footer { display: none !important; }
.gallery-item { height: 4.25rem; width: 5.5rem; }
.gallery-item :is(span, div) { display: block; height: 100%; width: 100%; }
.gallery-item img { height: 100% !important; width: 100% !important; max-width: none !important; }
.gallery-item img { object-fit: cover; }
"""
_INTRO = """\
# convsuite
Classic applications of convolutional networks in graphics and vision. Pictures are processed by
the machine that serves this page, and deleted after an hour.
"""
_MAX_MEGAPIXELS = "CONVSUITE_WEB_MAX_MEGAPIXELS"
_HOUR = 3600
_MEBIBYTE = 2**20

command = typer.Typer(add_completion=False)


@command.command(
    epilog=console.examples("convsuite web", "convsuite web --port 8000 --max-upload-mb 100")
)
def _web(
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 0.0.0.0 is every one.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=1, max=65535, help="Port to listen on.")
    ] = 7860,
    max_upload_mb: Annotated[
        int, typer.Option("--max-upload-mb", min=1, help="Largest file a visitor may send, in MB.")
    ] = 40,
    max_megapixels: Annotated[
        float, typer.Option("--max-megapixels", min=0.001, help="Refuse larger pictures.")
    ] = 64,
    device: console.Device = "auto",
    precision: console.Precision = "auto",
    quiet: console.Quiet = False,
) -> None:
    """Serve the applications as a page in the browser, until Ctrl-C.

    The page is for this machine alone unless --host says otherwise, and asks nothing of any other
    machine. Uploaded pictures are deleted after an hour, and when the server stops.
    """
    _require_gradio()
    if not quiet and not _is_loopback(host):
        console.warning_line(
            f"--host {host}: everybody who reaches this machine can use the page; there is no "
            "password."
        )
    backend.setup(device, precision)
    os.environ[_MAX_MEGAPIXELS] = str(max_megapixels)
    serve(host, port, max_upload_mb=max_upload_mb, quiet=quiet)


def serve(host: str, port: int, *, max_upload_mb: int = 40, quiet: bool = False) -> None:
    """Serve the page until Ctrl-C or SIGTERM, which end the process.

    Raises:
        ConvsuiteError: The port is taken, or the address is not one of this machine.
    """
    _check_address(host, port)
    in_address = f"[{host}]" if ":" in host else host
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (
        tempfile.TemporaryDirectory(prefix="convsuite-web-") as folder,
        suppress(KeyboardInterrupt),
    ):
        os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False"}
        page = build()
        _launch(page, in_address, port, max_upload_mb)
        try:
            if not quiet:
                line = f"http://{in_address}:{port} (Ctrl-C stops the server)"
                console.console.print(line, markup=False, soft_wrap=True)
            threading.Event().wait()
        finally:
            page.close(verbose=False)
    # Visitors' work may go on in threads. Python would end these amid compiled code, which aborts.
    console.console.file.flush()
    os._exit(0)


def build() -> Any:
    """Return the page (`gradio.Blocks`) with one tab per application.

    Raises:
        ConvsuiteError: No application has a tab.
    """
    import gradio

    folders = assets.packages_with("web")
    if not folders:
        raise ConvsuiteError("No application has a page; install convsuite again.")
    with gradio.Blocks(
        title="convsuite", analytics_enabled=False, delete_cache=(_HOUR // 4, _HOUR)
    ) as page:
        gradio.Markdown(_INTRO)
        for name, folder in folders.items():
            module = importlib.import_module(f"{assets.package(folder)}.web")
            with gradio.Tab(module.TITLE, id=name):
                module.build()
    # Applications share the processor, so one request at a time is also the fastest.
    page.queue(default_concurrency_limit=1, max_size=20)
    return page


def shows_errors(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Make an event handler show a `ConvsuiteError` to the visitor, as one sentence.

    Args:
        handler: A function, or a generator function whose values are shown one after the other.
    """
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def streamed(*arguments: Any) -> Iterator[Any]:
            with _errors_shown():
                yield from handler(*arguments)

        return streamed

    @functools.wraps(handler)
    def wrapped(*arguments: Any) -> Any:
        with _errors_shown():
            return handler(*arguments)

    return wrapped


@contextmanager
def _errors_shown() -> Iterator[None]:
    import gradio

    try:
        yield
    except ConvsuiteError as error:
        raise gradio.Error(_sentence(error), duration=None, print_exception=False) from error


def chooser(label: str, samples: Sequence[str]) -> Any:
    """Add an upload of a picture, and samples that can be taken instead of one.

    Returns:
        The `gradio.File`, which holds the first of the samples.
    """
    import gradio

    from shared import images

    file = gradio.File(
        label=label,
        file_types=["image", *sorted(images.READABLE)],
        value=samples[0] if samples else None,
        height=130,
    )
    examples = gradio.Dataset(
        label="Or one of these",
        components=["image"],
        samples=[[sample] for sample in samples],
        type="index",
        samples_per_page=len(samples) or 1,
    )
    examples.click(lambda index: samples[index], examples, file, show_progress="hidden")
    return file


def load(path: str) -> "Picture":
    """Read an uploaded picture.

    Raises:
        ImageError: It is broken, or larger than the server allows.
    """
    from shared import images

    return images.load(path, max_megapixels=float(os.environ.get(_MAX_MEGAPIXELS, 64)))


def sample_pictures() -> list[str]:
    """Return the pictures that ship with convsuite, those that a browser can show."""
    files = sorted(assets.samples_dir().glob("*"))
    return [str(file) for file in files if file.suffix in (".jpg", ".png")]


def result_folder() -> Path:
    """Return a new folder for files of one result; it is deleted with the uploads."""
    return Path(tempfile.mkdtemp(dir=os.environ["GRADIO_TEMP_DIR"]))


class _SecurityHeaders:
    """ASGI middleware that adds the policy to every response."""

    def __init__(self, app: Callable[..., Any]):
        self._app = app

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        async def send_with_policy(message: dict) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", _POLICY.encode("ascii"))
                message = {**message, "headers": [*message.get("headers", ()), policy]}
            await send(message)

        await self._app(scope, receive, send_with_policy)


def _launch(page: Any, host: str, port: int, max_upload_mb: int) -> None:
    from starlette.middleware import Middleware

    page.launch(
        server_name=host,
        server_port=port,
        max_file_size=max_upload_mb * _MEBIBYTE,
        allowed_paths=[str(assets.samples_dir())],
        app_kwargs={"middleware": [Middleware(_SecurityHeaders)]},
        theme=_theme(),
        css=_STYLE,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
        ssr_mode=False,
        share=False,
        inbrowser=False,
        show_error=False,
        quiet=True,
        prevent_thread_lock=True,
    )


def _check_address(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise ConvsuiteError(
            f"--host {host} --port {port}: cannot be listened on ({error.strerror}); choose a free "
            "port, and an address of this machine."
        ) from error


def _theme() -> Any:
    """Return the theme; its fonts are the system's, since Gradio's own would be fetched."""
    import gradio

    return gradio.themes.Default(
        primary_hue="orange",
        secondary_hue="orange",
        neutral_hue="stone",
        font=["system-ui", "-apple-system", "Segoe UI", "sans-serif"],
        font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
    ).set(checkbox_label_gap="*spacing_sm", checkbox_label_padding="*spacing_xs *spacing_md")


def _require_gradio() -> None:
    if importlib.util.find_spec("gradio") is None:
        raise DependencyError(
            "The page in the browser needs Gradio, which is not installed; "
            "run `pip install 'convsuite[web]'`."
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _sentence(error: ConvsuiteError) -> str:
    """Return the text of an error as HTML, without the folders of the server."""
    folder = re.escape(os.environ.get("GRADIO_TEMP_DIR", "")) + r"[/\\][^/\\]+[/\\]"
    return html.escape(re.sub(folder, "", str(error)), quote=False)

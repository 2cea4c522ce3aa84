"""What the browser tests share: a server for a folder, Chromium without the internet, and Pyodide's CDN answered from a folder."""

import functools
import http.server
import os
import shutil
import socketserver
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]


def chromium() -> str:
    "Where Chromium is: CHROMIUM, or on the path. Without it, or without Playwright, the test is skipped."
    pytest.importorskip("playwright", reason="playwright is not installed: pip install '.[browser]'")
    for name in os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome":
        if name and (path := shutil.which(name)): return path
    pytest.skip("there is no Chromium: install it, or name it in CHROMIUM")


def pyodide_dist() -> Path:
    "The folder of a Pyodide distribution. Without it the test is skipped."
    folder = os.environ.get("PYODIDE_DIST")
    if not folder: pytest.skip("PYODIDE_DIST names no folder with a Pyodide distribution")
    folder = Path(folder).resolve()
    assert (folder / "pyodide.mjs").exists(), f"{folder} holds no pyodide.mjs"
    return folder


class Quiet(http.server.SimpleHTTPRequestHandler):
    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {".js": "text/javascript", ".mjs": "text/javascript",
                                                                           ".wasm": "application/wasm", ".whl": "application/zip"}

    def log_message(self, *arguments): pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True

    def handle_error(self, request, address): pass  # the browser closed the connection


@contextmanager
def served(folder: Path):
    "Serves the folder on this machine; gives the address."
    server = Server(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try: yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Page:
    "A page of Chromium, with what went wrong in it and which other hosts it asked for."

    def __init__(self, page, home: str, pyodide: Path | None):
        self.page, self.home, self.pyodide = page, home, pyodide
        self.errors, self.foreign, self.missing = [], [], []
        page.on("console", lambda message: message.type == "error" and self.errors.append(message.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("response", lambda answer: answer.status >= 400 and self.missing.append(f"{answer.status} {answer.url}"))
        page.context.route(lambda url: not url.startswith((home, "data:", "blob:")), self.answer)

    def answer(self, route):
        url = route.request.url
        self.foreign.append(url)
        name = url.split("?")[0].rsplit("/", 1)[-1]
        if self.pyodide and "/pyodide/v" in url and (self.pyodide / name).is_file():
            kind = {"mjs": "text/javascript", "js": "text/javascript", "wasm": "application/wasm", "json": "application/json"}
            route.fulfill(path=self.pyodide / name, content_type=kind.get(name.rsplit(".", 1)[-1], "application/octet-stream"),
                          headers={"Access-Control-Allow-Origin": "*"})
        else: route.abort()


@contextmanager
def opened(home: str, pyodide: Path | None = None, **options):
    "A page in a fresh Chromium that reaches `home` alone, and Pyodide's CDN as far as the folder `pyodide` answers for it."
    path = chromium()
    from playwright.sync_api import sync_playwright
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            context = browser.new_context(service_workers="block", **options)
            yield Page(context.new_page(), home, pyodide)
        finally: browser.close()


def screenshots() -> Path:
    "Where pictures of what was seen are kept: SCREENSHOTS, or the folder for temporary files."
    import tempfile
    folder = Path(os.environ.get("SCREENSHOTS") or Path(tempfile.gettempdir()) / "nn_from_scratch_screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder

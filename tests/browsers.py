"""A browser for tests that open pages, and a server on this machine to open them from."""

import contextlib
import functools
import http.server
import shutil
import threading

import pytest

# Without a sandbox, which the root user of a container has none of, and silent.
_ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-sync"),
)


@contextlib.contextmanager
def opened():
    """A headless Chromium: the system's, else that of `python -m playwright install chromium`."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        path = shutil.which("chromium")
        try:
            browser = started.chromium.launch(executable_path=path, args=_ARGUMENTS)
        except playwright.Error as error:
            if path or "Executable doesn't exist" not in str(error):
                raise
            pytest.skip("there is no Chromium: python -m playwright install chromium")
        yield browser
        browser.close()


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextlib.contextmanager
def served(directory):
    """The address of a server of the files in a directory."""
    handler = functools.partial(_Silent, directory=directory)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()

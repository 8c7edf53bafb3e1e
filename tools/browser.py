"""The app in a real server and a real browser, for tests, screenshots and timing."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running_app(
    weights: Path | None = None,
    temporary: Path | None = None,
    port: int | None = None,
    secrets: Path | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[str]:
    """Starts the app; gives its address.

    Args:
        weights: Other weights than the project's.
        temporary: The server's folder for temporary files.
        port: Where it listens; any free one by default.
        secrets: Another file than `.streamlit/secrets.toml`.
        environment: Further variables of the server's.
    """
    changes = {"MSEENET_WEIGHTS": weights, "TMPDIR": temporary}
    port = port or free_port()
    options = ["--server.port", str(port)]
    if secrets:
        options += ["--secrets.files", str(secrets)]
    server = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", "app.py", *options],
        cwd=ROOT,
        env={
            **os.environ,
            **environment,
            **{name: str(path) for name, path in changes.items() if path},
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://localhost:{port}"
    try:
        deadline = time.monotonic() + 180  # of a busy machine
        while not _answers(f"{url}/_stcore/health"):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the server did not start")
            time.sleep(0.2)
        yield url
    finally:
        server.terminate()
        server.wait(timeout=20)


@contextmanager
def running_browser(*options: str) -> Iterator:
    """Starts headless Chromium, with further command-line options, as Playwright's `Browser`."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", *options],
        )
        yield browser
        browser.close()


def wait_for(page, condition: str, argument=None, seconds: float = 90, polling: int = 60):
    """Waits until a JavaScript expression is true; gives its value.

    Playwright's `wait_for_function` lets the page evaluate text, which the page's content policy
    forbids.

    Args:
        page: Playwright's.
        condition: May use `argument`.
        argument: Any value that JSON can hold.
        seconds: After them the waiting ends in an error of Playwright's.
        polling: Milliseconds from one look to the next.
    """
    script = """([argument, limit, polling]) => new Promise((resolve, reject) => {
        const end = performance.now() + limit;
        const look = () => {
            const value = CONDITION;
            if (value) resolve(value);
            else if (performance.now() > end) reject(new Error("waited in vain"));
            else setTimeout(look, polling);
        };
        look();
    })"""
    script = script.replace("CONDITION", f"({condition})")
    return page.evaluate(script, [argument, 1000 * seconds, polling])


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False

"""What a user of the page waits for, in headless Chromium on the real server."""

import re
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mseenet.errors import UsageError
from mseenet.imaging.synthetic import STYLES, render_field
from mseenet.inference.cam import METHODS
from mseenet.inference.classifier import Classifier
from tools.browser import CHROMIUM, running_app, running_browser, wait_for

FIELDS = 100

_HEAT = "document.querySelector('.st-key-pictures .heat')"

_PICTURE = f"{_HEAT}?.naturalWidth > 0"

_ALL_DONE = (
    f"document.querySelector('.mseenet-tiles b')?.innerText === '{FIELDS}' "
    f"&& document.querySelector('[data-testid=stDataFrame] canvas') && {_PICTURE}"
)

_OVERLAY = f"{_HEAT}.src + {_HEAT}.style.opacity"


def time_app(classifier: Classifier, rounds: int) -> None:
    """Prints how long the page takes, warm.

    Args:
        classifier: For the forward passes that a whole case is compared with.
        rounds: Turns of each measurement; their median is printed.

    Raises:
        UsageError: There is no Chromium, or Playwright is not installed.
    """
    if CHROMIUM is None:
        raise UsageError("expected Chromium on this machine, found none")
    if find_spec("playwright") is None:
        raise UsageError("expected the package playwright (`make` installs it for the tests)")
    pixels = _accepted_fields(classifier, FIELDS + rounds + 1)

    def passes() -> float:
        with _stopwatch() as seconds:
            classifier.predict(pixels[:FIELDS])
        return seconds[0]

    passes()
    with (
        tempfile.TemporaryDirectory() as folder,
        running_app() as url,
        running_browser() as browser,
    ):
        files = [Path(folder, f"{i}.png") for i in range(len(pixels))]
        for file, field in zip(files, pixels, strict=True):
            Image.fromarray(field).save(file)
        _time_single_fields(browser, url, files[FIELDS:])
        page = _time_cases(browser, url, files[:FIELDS], rounds, passes)
        _time_choices(page, rounds)
        _time_opacity(page, rounds)


def _accepted_fields(classifier: Classifier, count: int) -> list[np.ndarray]:
    """Rendered fields, uint8 (224, 224, 3). Of a rejected one no heatmap could be waited for."""
    pixels = [render_field(STYLES[1], i) for i in range(2 * count)]
    predictions = zip(pixels, classifier.predict(pixels), strict=True)
    return [field for field, found in predictions if found.status != "rejected"][:count]


def _time_single_fields(browser, url: str, files: list[Path]) -> None:
    """One field each; the first only warms the server up."""
    seconds = []
    for file in files:
        page = _opened(browser, url)
        seconds.append(_upload_time(page, [file], _PICTURE))
        if len(seconds) == 1:
            page.wait_for_timeout(30_000)  # the other heatmap methods are compiled meanwhile
        page.close()
    print(f"one field, upload to class and heatmap: {statistics.median(seconds[1:]):.2f} s")


def _time_cases(
    browser, url: str, files: list[Path], rounds: int, passes: Callable[[], float]
) -> Any:
    """A whole case, as a ZIP archive and as files; gives the page with the last one."""
    archive = files[0].with_name("case.zip")
    with zipfile.ZipFile(archive, "w") as target:
        for file in files:
            target.write(file, file.name)
    page = None
    for name, uploaded in (("in a ZIP", [archive]), ("as files", files)):
        cases = []
        for _ in range(rounds):
            if page:
                page.close()
            page = _opened(browser, url)
            seconds = _upload_time(page, uploaded, _ALL_DONE)
            page.wait_for_timeout(3000)  # the browser still draws, which would slow them down
            forward = passes()
            cases.append((seconds / forward, seconds, forward))
        ratio, seconds, forward = statistics.median_high(cases)
        print(
            f"{FIELDS} fields {name}, upload to all results: {seconds:.1f} s, "
            f"{ratio:.2f} x the {forward:.1f} s of one batch run "
            f"({min(cases)[0]:.2f} to {max(cases)[0]:.2f} x)"
        )
    return page


def _time_choices(page, rounds: int) -> None:
    """Another class, and another heatmap method, of one field."""
    page.wait_for_timeout(3000)
    page.get_by_role("combobox", name="Order").click()
    page.get_by_role("option", name="As added").click()
    page.get_by_text("0.png").first.wait_for()
    page.wait_for_timeout(3000)

    def choose(name: str, option: str | re.Pattern) -> float:
        shown = page.get_by_role("option", name=option)
        while not shown.is_visible():  # a page that is still being drawn closes the list
            page.get_by_role("combobox", name=name).press("ArrowDown")
            page.wait_for_timeout(300)
        before = page.evaluate(_OVERLAY)
        with _stopwatch() as seconds:
            shown.click()
            wait_for(page, f"{_OVERLAY} !== argument", before, polling=10)
        page.wait_for_timeout(800)
        return seconds[0]

    chosen = []
    for turn in range(2 * rounds):
        choice = re.compile("second choice" if turn % 2 == 0 else "predicted")
        chosen.append(choose("Evidence for", choice))
    print(f"another class to its overlay: {statistics.median(chosen):.2f} s")

    for method in METHODS:
        chosen = []
        for _ in range(rounds):
            chosen.append(choose("Method", method))
            choose("Method", re.compile("^Grad-CAM$"))
        print(f"{method} instead of Grad-CAM: {statistics.median(chosen):.2f} s")


def _time_opacity(page, rounds: int) -> None:
    faded = []
    slider = page.get_by_role("slider", name="Opacity")
    for turn in range(2 * rounds):
        before = page.evaluate(_OVERLAY)
        with _stopwatch() as seconds:
            slider.press("ArrowLeft" if turn % 2 else "ArrowRight")
            wait_for(page, f"{_OVERLAY} !== argument", before, polling=10)
        faded += seconds
        page.wait_for_timeout(800)
    print(f"another opacity to its overlay: {statistics.median(faded):.2f} s")


def _opened(browser, url: str):
    page = browser.new_page(viewport={"width": 1920, "height": 1080})
    page.set_default_timeout(60_000)
    page.goto(url)
    page.locator(".mseenet-steps").wait_for()
    page.locator(".st-key-preload .js-plotly-plot").wait_for(state="attached")
    page.wait_for_timeout(500)
    return page


def _upload_time(page, files: list[Path], awaited: str) -> float:
    """Seconds from the choice of files to what is awaited, a JavaScript condition.

    By the browser's clock: to hand a hundred paths over to the browser takes Playwright a tenth
    of a second, which a user does not wait for.
    """
    page.evaluate(
        """() => {
            const start = () => (window.chosenAt ??= performance.now());
            window.addEventListener("input", start, { capture: true });
        }"""
    )
    page.locator("input[type=file]").first.set_input_files(files)
    return wait_for(page, f"{awaited} && performance.now() - window.chosenAt", polling=10) / 1000


@contextmanager
def _stopwatch() -> Iterator[list[float]]:
    """Gives a list that holds the seconds once the block is left."""
    seconds: list[float] = []
    start = time.perf_counter()
    yield seconds
    seconds.append(time.perf_counter() - start)

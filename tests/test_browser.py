"""The whole thing as a user meets it: real server, real network, headless Chromium."""

import io
import re

import numpy as np
import pytest
from browser import CHROMIUM, running_app, running_browser
from conftest import encode
from PIL import Image

from mseenet import words
from mseenet.config import CLASS_NAMES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def server(ungated_weights):
    with running_app(ungated_weights) as url:
        yield url


@pytest.fixture(scope="module")
def browser():
    with running_browser() as browser:
        yield browser


@pytest.fixture
def page(server, browser):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(60_000)
    page.foreign_requests = []
    page.on(
        "request",
        lambda r: (
            None
            if r.url.startswith((server, "data:", "blob:", server.replace("http", "ws")))
            else page.foreign_requests.append(r.url)
        ),
    )
    page.goto(server)
    page.get_by_text("Add fields").wait_for()
    yield page
    page.close()


def upload(page, *files: tuple[str, bytes]) -> None:
    page.locator("input[type=file]").first.set_input_files(
        [{"name": name, "mimeType": "image/png", "buffer": content} for name, content in files]
    )


def pixels(page, alt: re.Pattern) -> np.ndarray:
    """The pixels of an image as the browser got it."""
    element = page.get_by_role("img", name=alt)
    element.wait_for()
    content = page.request.get(page.evaluate("e => e.src", element.element_handle())).body()
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def test_upload_to_class_bars_and_overlay(page, classifier, field_png):
    upload(page, ("smear.png", field_png))
    (expected,) = classifier.predict([field_png], heatmaps="predicted")
    answer = page.locator(".mseenet-answer strong")
    answer.wait_for()
    assert answer.inner_text() == words.CLASS_TITLES[expected.class_name]

    chart = page.locator(".js-plotly-plot")
    chart.locator(".bartext").first.wait_for()
    assert len(chart.locator(".bars path").all()) == len(CLASS_NAMES)
    assert "%" in chart.inner_text()
    assert all(name in chart.inner_text() for name in CLASS_NAMES)

    original = pixels(page, re.compile("as uploaded"))
    overlay = pixels(page, re.compile("evidence for"))
    assert original.shape == overlay.shape == (224, 224, 3)
    difference = np.abs(overlay - original).sum(axis=2)
    hot, cold = expected.heatmap > 0.5, expected.heatmap < 0.02
    if hot.any():
        assert difference[hot].mean() > 30
    if cold.any():
        assert difference[cold].mean() < 10
    assert page.get_by_text(words.RESEARCH_USE).is_visible()
    assert page.foreign_requests == []


def test_a_bad_file_beside_a_good_one(page, field_png):
    upload(page, ("broken.png", b"not an image"), ("good.png", field_png))
    page.locator(".mseenet-answer").wait_for()
    assert page.get_by_text("got content of another kind").is_visible()
    assert page.locator(".mseenet-answer").count() == 1


def test_narrow_window_needs_no_sideways_scrolling(server, browser, fields):
    page = browser.new_page(viewport={"width": 800, "height": 1000}, color_scheme="dark")
    page.goto(server)
    page.get_by_text("Add fields").wait_for(timeout=60_000)
    upload(page, ("a rather long file name of a smear, slide 12, field 7.png", encode(fields[2])))
    page.locator(".mseenet-answer").wait_for(timeout=60_000)
    widths = page.evaluate(
        "() => { const m = document.querySelector('[data-testid=stMain]');"
        " return [m.scrollWidth, m.clientWidth] }"
    )
    assert widths[0] <= widths[1]
    page.close()


def test_a_rejected_field_names_no_class_until_it_is_asked_for(browser, foreign):
    with running_app() as url:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(60_000)
        page.goto(url)
        page.get_by_text("Add fields").wait_for()
        upload(page, ("rendered.png", encode(foreign)))
        page.get_by_text(words.REJECTED).wait_for()
        assert page.locator(".mseenet-answer").count() == 0
        assert page.locator(".mseenet-summary").inner_text().endswith("rejected 1")
        page.get_by_text("Show the network's output for rejected fields").click()
        page.locator(".mseenet-answer").wait_for()
        assert page.get_by_text(words.REJECTED_SHOWN).is_visible()
        page.close()

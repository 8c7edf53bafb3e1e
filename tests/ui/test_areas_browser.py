"""A picture larger than one field on the page: cut, and each field's place on an overview."""

import itertools
import re

import numpy as np
import pytest
from conftest import encode, encode_pil
from made_up_scans import tiled
from PIL import Image
from playwright.sync_api import expect

from mseenet.case.fields import Case, Field, Original
from mseenet.imaging.areas import Place, area_in
from mseenet.ui.overview import overview
from tools.browser import CHROMIUM

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


def test_an_area_is_cut_and_its_fields_are_shown_on_an_overview(page, area):
    content = encode(area)
    places = area_in(content).places
    page.locator("input[type=file]").first.set_input_files(
        {"name": "scan.png", "mimeType": "image/png", "buffer": content}
    )
    page.get_by_role("heading", name="Take away").wait_for()
    expect(page.get_by_text("larger than one field: cut into 16 fields")).to_be_visible()
    name = page.locator(".mseenet-file").inner_text()
    x, y = map(int, re.search(r"scan\.png \[x (\d+), y (\d+)\]", name).groups())
    assert "slide scan.png" in name
    place = next(place for place in places if place[:2] == (x, y))

    figure = page.locator(".mseenet-overview")
    expect(figure.locator("i")).to_have_count(16)
    picture = figure.get_by_role("img")
    words = f"{place.width} x {place.height} pixels at x {x:,}, y {y:,}"
    assert f"Cut from scan.png: {words}" in picture.get_attribute("alt")
    expect(figure.locator("figcaption")).to_contain_text(words)
    whole, here = picture.bounding_box(), figure.locator(".mseenet-here").bounding_box()
    assert (here["x"] - whole["x"]) / whole["width"] == pytest.approx(x / 2048, abs=0.03)
    assert (here["y"] - whole["y"]) / whole["height"] == pytest.approx(y / 1536, abs=0.03)
    assert here["width"] / whole["width"] == pytest.approx(place.width / 2048, abs=0.05)
    assert here["height"] / whole["height"] == pytest.approx(place.height / 1536, abs=0.05)


def test_frames_lie_on_the_overview_whatever_its_shape(page):
    page.locator(".mseenet-steps").evaluate("steps => (steps.outerHTML = '<p id=shown></p>')")
    shapes = [(4000, 700), (3300, 2000), (2000, 2000), (700, 4000)]
    for (width, height), room in itertools.product(shapes, (600, 150)):
        small = Image.new("RGB", (width // 10, height // 10))
        original = Original("0", "scan.png", (width, height), encode_pil(small, "JPEG"))
        here = Place(width // 2, height // 2, width // 2, height // 4)
        places = (here, Place(0, 0, width, height))
        parts = [Field(str(place), "", b"", original=original, place=place) for place in places]
        case = Case(fields={part.key: part for part in parts})
        shown = f'<div id="shown" style="width:{room}px">{overview(case, parts[0])}</div>'
        page.locator("#shown").evaluate("(shown, html) => (shown.outerHTML = html)", shown)
        page.locator("#shown img").evaluate("picture => picture.decode()")
        # All at one moment: what is above them may still be growing.
        picture, framed, part = page.locator("#shown").evaluate(
            """shown => ["img", "i:not([class])", ".mseenet-here"].map(name => {
              const { x, y, width, height } = shown.querySelector(name).getBoundingClientRect();
              return { x, y, width, height };
            })"""
        )
        assert picture["width"] / picture["height"] == pytest.approx(width / height, rel=0.05)
        assert picture["width"] <= min(220, room)
        assert picture["height"] <= 141
        assert framed == pytest.approx(picture, abs=1)
        assert part == pytest.approx(
            {
                "x": picture["x"] + picture["width"] / 2,
                "y": picture["y"] + picture["height"] / 2,
                "width": picture["width"] / 2,
                "height": picture["height"] / 4,
            },
            abs=1,
        )


def test_a_tiled_tiff_of_more_pixels_than_are_decoded_is_dropped_and_cut(page):
    blocks = np.zeros((10, 11), int)
    blocks[4, 7] = 1
    page.locator("input[type=file]").first.set_input_files(
        {
            "name": "slide 7.tif",
            "mimeType": "image/tiff",
            "buffer": tiled(blocks, (1,), block=1),
        }
    )
    page.get_by_role("heading", name="Take away").wait_for()
    notice = page.get_by_text("slide 7.tif: larger than one field: cut into").inner_text()
    count = int(re.search(r"cut into (\d+) fields of 2", notice)[1])
    assert 4 <= count <= 40
    assert re.search(r"slide 7\.tif \[x \d+, y \d+\]", page.locator(".mseenet-file").inner_text())
    figure = page.locator(".mseenet-overview")
    expect(figure.locator("i")).to_have_count(count)
    expect(figure.locator("figcaption")).to_contain_text("8,448 x 7,680 pixels")
    where = figure.locator(".mseenet-here").bounding_box()
    whole = figure.get_by_role("img").bounding_box()
    assert (where["x"] - whole["x"]) / whole["width"] == pytest.approx(7.5 / 11, abs=0.04)
    assert (where["y"] - whole["y"]) / whole["height"] == pytest.approx(4.5 / 10, abs=0.04)

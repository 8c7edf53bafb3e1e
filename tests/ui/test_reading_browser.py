"""Reading a case in a real browser: by keyboard, blind, saved, opened again, all in one screen."""

import io
import json
import re
import zipfile

import pytest
from conftest import encode
from playwright.sync_api import expect
from test_browser import drawn_anew, findings_of_axe, heading, settled, tiles, upload

from mseenet.case.saved import MANIFEST, is_saved_case
from mseenet.imaging.synthetic import STYLES, render_field
from mseenet.ui.verdict import HIDDEN
from tools.browser import CHROMIUM

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def sixty() -> list[tuple[str, bytes]]:
    return [(f"field {i:02d}.png", encode(render_field(STYLES[i % 2], i))) for i in range(60)]


def saved(page) -> bytes:
    with page.expect_download() as download:
        page.get_by_role("button", name="Save case").click()
    return download.value.path().read_bytes()


def turned_to(page, number: int, total: int) -> None:
    """Waits until the page shows a field, by its place in the list, and all that follows of it."""
    page.get_by_text(f"Field {number} of {total} listed").wait_for()
    # The buttons of the field before are gone, and those of this one are there.
    page.wait_for_function(
        """() => {
            const app = document.querySelector("[data-testid=stApp]");
            const agree = document.querySelectorAll("[class*=st-key-verdict-A-]");
            const drawn = agree.length === 1 && agree[0].className !== window.agreeBefore;
            if (app.dataset.testScriptState !== "notRunning" || !drawn) return false;
            window.agreeBefore = agree[0].className;
            return true;
        }"""
    )


def test_sixty_fields_are_read_by_keyboard_saved_and_opened_elsewhere(opened, sixty):
    page = opened()
    upload(page, *sixty)
    page.get_by_text("Analysing fields").wait_for(state="detached")
    settled(page)
    page.get_by_role("textbox", name="Case label").fill("case 7")
    with drawn_anew(page):
        page.keyboard.press("Enter")
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    for number in range(1, 61):
        turned_to(page, number, 60)
        page.keyboard.press("a1x"[number % 3])
    page.locator(".mseenet-reader-tiles", has_text=re.compile("60\\s*with your verdict")).wait_for()
    settled(page)
    counted = tiles(page)
    assert (counted["with your verdict"], counted["not to be judged"]) == (60, 20)
    assert page.locator(".mseenet-open-case").count() == 1

    content = saved(page)
    page.locator(".mseenet-open-case").wait_for(state="detached")
    assert is_saved_case(content)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        records = json.loads(archive.read(MANIFEST))["fields"]
    assert all(record["verdict"] for record in records)
    page.reload()
    page.locator(".mseenet-steps").wait_for()
    assert asked == []  # nothing was lost

    other = opened()
    upload(other, ("saved.zip", content))
    settled(other)
    assert tiles(other) == counted
    assert other.get_by_role("textbox", name="Case label").input_value() == "case 7"
    assert other.get_by_text("as recorded by release").count() == 0
    with drawn_anew(other):
        other.keyboard.press("u")
    expect(other.locator(".mseenet-open-case")).to_have_count(1)


def test_letters_in_a_comment_are_no_verdicts(page, sixty):
    upload(page, *sixty[:3])
    settled(page)
    first = heading(page)
    page.get_by_role("textbox", name="Comment").click()
    page.keyboard.type("a 1 x u smudge")
    with drawn_anew(page):
        page.keyboard.press("Enter")
    assert heading(page) == first
    with drawn_anew(page):
        page.keyboard.press("3")
    page.get_by_text("Field 2 of 3 listed").wait_for()
    with drawn_anew(page):
        page.keyboard.press("p")
    page.get_by_text("Field 1 of 3 listed").wait_for()
    assert page.get_by_role("textbox", name="Comment").input_value() == "a 1 x u smudge"
    with drawn_anew(page):
        page.keyboard.press("z")
    assert page.get_by_text("No verdict yet.").is_visible()
    assert page.get_by_role("textbox", name="Comment").input_value() == "a 1 x u smudge"


def test_blind_reading_shows_no_answer_before_the_verdict(page, sixty):
    page.get_by_text("Read blind").click()
    settled(page)
    upload(page, *sixty[:4])
    settled(page)
    assert tiles(page) == {"fields analysed": 4}
    assert (
        page.locator(".mseenet-answer, .st-key-bars, .st-key-pictures .heat:visible").count() == 0
    )
    assert page.locator(".mseenet-pictures svg").first.locator("path").count() > 0
    assert not page.locator(".mseenet-pictures .gallery").is_visible()
    assert page.get_by_text("Most decisive cells of the case").count() == 0
    assert f"answer {HIDDEN}" in page.locator(".mseenet-badge").all_inner_texts()
    for number, key in ((2, "2"), (3, "x")):
        page.keyboard.press(key)
        page.get_by_text(f"Field {number} of 4 listed").wait_for()
        settled(page)
        assert page.locator(".mseenet-answer").count() == 0
    page.keyboard.press("p")
    page.get_by_text("Field 2 of 4 listed").wait_for()
    page.locator(".mseenet-answer").wait_for()
    assert page.get_by_text(", blind,").is_visible()
    assert page.locator(".st-key-bars").is_visible()


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (1920, 1080)])
def test_picture_overlay_answer_and_verdict_are_in_sight_together(opened, sixty, width, height):
    page = opened(width=width)
    page.set_viewport_size({"width": width, "height": height})
    upload(page, *sixty[10:24])  # that the network names a class for
    page.get_by_text("Analysing fields").wait_for(state="detached")
    settled(page)
    places = []
    for number in (1, 2):
        turned_to(page, number, 14)
        settled(page)
        line = page.locator(".mseenet-research").bounding_box()["y"]
        for part in (
            ".st-key-verdict",
            ".mseenet-answer",
            ".st-key-bars",
            ".st-key-pictures .frame >> nth=0",
            ".st-key-pictures .frame >> nth=1",
        ):
            box = page.locator(part).bounding_box()
            assert box["y"] >= 0
            assert box["y"] + box["height"] <= line, part
            assert box["height"] > 20
        frame = page.locator(".st-key-pictures .frame").first.bounding_box()
        assert frame["height"] >= 280
        table = page.locator("[data-testid=stDataFrame]").bounding_box()
        places.append((table["x"], table["y"], table["height"]))
        page.keyboard.press("a")
    assert places[0] == pytest.approx(places[1], abs=1)  # the list keeps its place
    assert page.evaluate("document.querySelector('.stMain').scrollTop") == 0


def test_reading_is_accessible(opened, sixty):
    page = opened(width=800)
    upload(page, *sixty[:3])
    settled(page)
    with drawn_anew(page):
        page.keyboard.press("1")
    assert findings_of_axe(page) == []
    page.get_by_role("button", name="Spread and agreement").click()
    page.locator(".mseenet-agreement").wait_for()
    settled(page)
    assert findings_of_axe(page) == []

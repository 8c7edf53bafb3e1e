"""Reading a case in a real browser: by keyboard, blind, saved, opened again, all in one screen."""

import io
import json
import re
import zipfile

import pytest
from conftest import encode
from playwright.sync_api import expect
from test_browser import analysed, drawn_anew, findings_of_axe, heading, settled, tiles, upload

from mseenet.case.saved import MANIFEST, is_saved_case
from mseenet.config import CLASS_NAMES
from mseenet.imaging.synthetic import STYLES, render_field
from mseenet.ui.verdict import HIDDEN
from tools.browser import CHROMIUM, wait_for

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
    wait_for(
        page,
        """(() => {
            const app = document.querySelector("[data-testid=stApp]");
            const agree = document.querySelectorAll("[class*=st-key-verdict-A-]");
            const drawn = agree.length === 1 && agree[0].className !== window.agreeBefore;
            if (app.dataset.testScriptState !== "notRunning" || !drawn) return false;
            window.agreeBefore = agree[0].className;
            return true;
        })()""",
    )


def test_sixty_fields_are_read_by_keyboard_saved_and_opened_elsewhere(opened, sixty):
    page = opened()
    upload(page, *sixty)
    analysed(page, 60)
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


def of_another_release(content: bytes) -> bytes:
    """The saved case as if another release had answered, the first field otherwise."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            if name != MANIFEST:
                new.writestr(name, old.read(name))
        manifest = json.loads(old.read(MANIFEST))
        for record in manifest["fields"]:
            record["answer"]["release"] = "0" * 12
        first = manifest["fields"][0]["answer"]
        other = next(name for name in CLASS_NAMES if name != first["class_name"])
        first["probabilities"] = dict.fromkeys(CLASS_NAMES, 0.01) | {other: 0.97}
        first["class_name"] = other
        new.writestr(MANIFEST, json.dumps(manifest))
    return buffer.getvalue()


def test_a_later_release_shows_what_changed_field_by_field(opened, sixty):
    page = opened()
    upload(page, *sixty[:3])
    settled(page)
    with drawn_anew(page):
        page.keyboard.press("1")
    before = tiles(page)
    content = of_another_release(saved(page))

    later = opened()
    upload(later, ("saved.zip", content))
    settled(later)
    expect(later.get_by_text(f"3 answers stand as recorded by release {'0' * 12}")).to_be_visible()
    assert tiles(later)["with your verdict"] == 1
    with drawn_anew(later):
        later.get_by_role("button", name="Analyse again").click()
    expect(later.get_by_text("as recorded by release")).to_have_count(0, timeout=90_000)
    later.get_by_role("button", name="What changed: 1 of 3 classes").click()
    later.locator(".st-key-changes canvas, [data-testid=stDataFrame] canvas").last.wait_for()
    assert tiles(later) == before  # the same network has answered


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
    expect(page.get_by_role("textbox", name="Comment")).to_have_value("a 1 x u smudge")
    with drawn_anew(page):
        page.keyboard.press("z")
    expect(page.get_by_text("No verdict yet.")).to_be_visible()
    expect(page.get_by_role("textbox", name="Comment")).to_have_value("a 1 x u smudge")


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
    expect(page.locator(".mseenet-pictures .gallery")).not_to_be_visible()
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
    settled(page)
    expect(page.get_by_text(", blind,")).to_be_visible()
    expect(page.locator(".st-key-bars")).to_be_visible()


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (1920, 1080)])
def test_picture_overlay_answer_and_verdict_are_in_sight_together(opened, sixty, width, height):
    page = opened(width=width)
    page.set_viewport_size({"width": width, "height": height})
    upload(page, *sixty[10:24])  # that the network names a class for
    analysed(page, 14)
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


def slides_in_a_zip(fields) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for i, (name, content) in enumerate(fields):
            archive.writestr(f"slide {i % 2 + 1}/{name}", content)
    return buffer.getvalue()


def test_slides_are_grouped_and_their_spread_is_shown(opened, sixty):
    page = opened()
    upload(page, ("case.zip", slides_in_a_zip(sixty[:6])))
    settled(page)
    assert tiles(page)["slides"] == 2
    page.get_by_role("button", name="Spread and agreement").click()
    page.locator(".st-key-spread-dots .main-svg").first.wait_for()
    settled(page)
    ticks = page.locator(".st-key-spread-dots .ytick").all_text_contents()
    assert [tick.strip() for tick in ticks] == ["slide 1", "slide 2"]
    named = page.locator(".st-key-spread-dots .scatterlayer").first.locator("path.point").count()
    assert named >= 2 + 1  # means of slides, and dots of fields
    assert findings_of_axe(page) == []
    page.keyboard.press("Escape")
    settled(page)
    page.get_by_text("Gallery", exact=True).click()
    page.locator(".mseenet-slide").first.wait_for()
    settled(page)
    heads = page.locator(".mseenet-slide").all_inner_texts()
    assert heads == ["case/slide 1: 3", "case/slide 2: 3"]
    head, card = (
        page.locator(part).first.bounding_box() for part in (".mseenet-slide", ".mseenet-card")
    )
    assert head["y"] + head["height"] <= card["y"]
    page.get_by_role("button", name="Slides: 2").click()
    box = page.get_by_role("textbox", name="Pattern of file names")
    box.fill("field {slide}*.png")
    with drawn_anew(page):
        box.press("Enter")
    page.get_by_role("button", name=re.compile("Slides: [3-6]")).wait_for()
    assert findings_of_axe(page) == []

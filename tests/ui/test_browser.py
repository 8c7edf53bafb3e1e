"""The whole thing as a user meets it: real server, real network, headless Chromium."""

import base64
import csv
import io
import json
import re
import socket
import socketserver
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import encode
from PIL import Image
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError
from playwright.sync_api import expect
from pypdf import PdfReader

from mseenet.case import words
from mseenet.config import CLASS_NAMES
from mseenet.imaging.synthetic import STYLES, render_field
from mseenet.ui.field_list import ROW_HEIGHT, TABLE_PAGE
from tools.browser import CHROMIUM, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


def blank(i: int) -> np.ndarray:
    """A picture of the bare slide, which is rejected whatever the weights."""
    return np.full((224, 224, 3), 230 + i, np.uint8)


@pytest.fixture(scope="module")
def mixed_case(fields) -> list[tuple[str, bytes]]:
    """60 files: 50 rendered fields, 4 without content, 4 broken ones, 2 repeated ones."""
    good = [(f"field {i:02d}.png", encode(render_field(STYLES[i % 2], i))) for i in range(50)]
    strange = [(f"empty {i}.png", encode(blank(i))) for i in range(4)]
    broken = [(f"broken {i}.png", b"no image %d" % i) for i in range(3)]
    broken.append(("cut off.png", good[0][1][:900]))
    return [*good, *strange, *broken, ("again 00.png", good[0][1]), ("again 01.png", good[1][1])]


def upload(page, *files: tuple[str, bytes]) -> None:
    page.locator("input[type=file]").first.set_input_files(
        [{"name": name, "mimeType": "image/png", "buffer": content} for name, content in files]
    )
    page.get_by_role("heading", name="Take away").wait_for()


def tiles(page) -> dict[str, int]:
    settled(page)  # what is read at once is read of a whole page
    pairs = page.locator(".mseenet-tiles li").all_inner_texts()
    return {title: int(number) for number, title in (pair.split("\n") for pair in pairs)}


def analysed(page, count: int) -> None:
    """Waits until so many fields are analysed: files may come in several bundles."""
    said = re.compile(rf"^{count} ?fields? analysed")
    page.locator(".mseenet-tiles li").filter(has_text=said).wait_for()
    page.get_by_text("Analysing fields").wait_for(state="detached")
    settled(page)


def settled(page) -> None:
    """Waits until the page has drawn what it has to, and nothing moves any more."""
    wait_for(page, "window.atRest()")


@contextmanager
def drawn_anew(page) -> Iterator[None]:
    """Waits until what is done inside has gone to the server and come back."""
    page.evaluate("window.listen()")
    yield
    wait_for(page, "window.answered()")
    settled(page)


def picture(page) -> np.ndarray:
    # Of the page: the chart itself may be drawn anew while its picture is taken.
    page.locator(".st-key-pictures").scroll_into_view_if_needed()
    shot = page.screenshot(clip=page.locator(".st-key-pictures").bounding_box())
    pixels = np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)
    return pixels[:360]  # the height is rounded, now up and now down


def changed_picture(page, before: np.ndarray) -> np.ndarray:
    """The first picture that differs from `before`: what is loaded need not be painted yet."""
    end = time.monotonic() + 30
    while True:
        after = picture(page)
        # Faint evidence changes colours by few grey levels, but over whole cells of the map.
        changed = np.count_nonzero(np.abs(before - after).max(axis=2) > 5)
        if changed > 1000:
            return after
        assert time.monotonic() < end, f"{changed} pixels have changed"
        time.sleep(0.1)


def heading(page) -> str:
    settled(page)
    return page.locator(".mseenet-file").inner_text()


def choose(page, label: str, option: str | re.Pattern) -> None:
    settled(page)
    wanted = page.get_by_role("option", name=option)
    for _ in range(5):  # a page that is still being drawn closes the list again
        page.get_by_role("combobox", name=label).click()
        try:
            wanted.wait_for(timeout=10_000)
            break
        except PlaywrightTimeoutError:
            settled(page)
    with drawn_anew(page):
        wanted.click()


def findings_of_axe(page) -> list[str]:
    """Serious and critical violations of WCAG rules."""
    results = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]})
    return [
        f"{violation['id']}: {node['html'][:160]}"
        for violation in results.response["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


def test_upload_to_class_bars_and_overlay(opened, server, classifier, field_png):
    own = (server, "data:", "blob:", server.replace("http", "ws"))
    foreign_requests = []

    def watch(page):
        page.on("request", lambda r: r.url.startswith(own) or foreign_requests.append(r.url))

    page = opened(before=watch)
    upload(page, ("smear.png", field_png))
    (expected,) = classifier.predict([field_png], heatmaps="predicted")
    answer = page.locator(".mseenet-answer strong")
    assert answer.inner_text() == words.CLASS_TITLES[expected.class_name]
    bars = page.locator(".st-key-bars .js-plotly-plot")
    bars.locator(".bartext").first.wait_for()
    assert len(bars.locator(".bars path").all()) == len(CLASS_NAMES)
    assert all(name in bars.inner_text() for name in CLASS_NAMES)
    page.locator(".st-key-pictures .heat").wait_for()
    shapes = page.locator(".st-key-pictures img").evaluate_all("l => l.map(e => e.naturalWidth)")
    assert shapes[:3] == [224, 224, 224]
    assert len(shapes) == 3 + expected.nucleated_cells  # and the crops
    expect(page.get_by_text(words.RESEARCH_USE)).to_be_visible()
    assert foreign_requests == []


def test_a_mixed_case_of_sixty_files_and_its_exports(page, mixed_case):
    upload(page, *mixed_case)
    analysed(page, 58)
    counted = tiles(page)
    assert counted["not read"] == 4
    expect(page.get_by_text("2 files left out")).to_be_visible()
    assert counted["rejected"] >= 4
    named = sum(counted.get(name, 0) for name in CLASS_NAMES)
    assert named == 58 - 4 - counted["rejected"]

    first = heading(page)
    page.keyboard.press("n")
    page.get_by_text("Field 2 of 58 listed").wait_for()
    assert heading(page) != first
    page.keyboard.press("p")
    page.get_by_text("Field 1 of 58 listed").wait_for()
    assert heading(page) == first

    page.get_by_role("textbox", name="Case label").fill("Case Ж 7")
    with drawn_anew(page):
        page.keyboard.press("Enter")
    content = {}
    for name in ("CSV table", "PDF report", "ZIP of overlays"):
        with page.expect_download() as download:
            page.get_by_role("button", name=name).click()
        content[name] = download.value.path().read_bytes()
    rows = list(csv.DictReader(io.StringIO(content["CSV table"].decode("utf-8-sig"))))
    assert len(rows) == 60
    assert [row["file"] for row in rows if row["status"] == "left out"] == [
        "again 00.png",
        "again 01.png",
    ]
    rejected = [row for row in rows if row["status"] == "rejected"]
    assert len(rejected) == counted["rejected"]
    assert {row["predicted"] for row in rejected} == {""}
    text = "\n".join(p.extract_text() for p in PdfReader(io.BytesIO(content["PDF report"])).pages)
    assert "Case Ж 7" in text
    assert words.RESEARCH_USE in text
    assert "broken 2.png" in text
    with zipfile.ZipFile(io.BytesIO(content["ZIP of overlays"])) as archive:
        assert archive.testzip() is None
        records = json.loads(archive.read("case.json"))
        pictures = [name for name in archive.namelist() if name.endswith(".png")]
        assert len(pictures) == named
        assert Image.open(io.BytesIO(archive.read(pictures[0]))).size == (224, 224)
    assert len(records["fields"]) == 58


def test_leaving_an_open_case_is_asked_about(page, fields):
    upload(page, ("a.png", encode(fields[0])))
    settled(page)
    counted = tiles(page)
    asked = []

    def answer(dialog):
        asked.append(dialog.type)
        if len(asked) == 1:
            dialog.dismiss()
        else:
            dialog.accept()

    page.on("dialog", answer)
    page.evaluate("setTimeout(() => location.reload(), 0)")
    settled(page)
    assert tiles(page) == counted
    page.reload()
    page.locator(".mseenet-steps").wait_for()
    assert asked == ["beforeunload"] * 2
    assert page.get_by_text("a.png").count() == 0
    page.reload()
    page.locator(".mseenet-steps").wait_for()
    assert len(asked) == 2  # there is nothing to lose any more


def test_class_method_and_opacity_change_the_overlay(page, fields):
    upload(page, ("smear.png", encode(fields[2])))
    settled(page)
    before = picture(page)
    choose(page, "Evidence for", re.compile("second choice"))
    before = changed_picture(page, before)
    choose(page, "Method", "LayerCAM 28 x 28")
    before = changed_picture(page, before)
    with drawn_anew(page):
        page.get_by_role("slider", name="Opacity").press("End")
    changed_picture(page, before)


def shown_part(page) -> tuple[float, float, float]:
    """What both pictures show: scale, left and upper edge in shares of the field."""
    frames = page.locator(".st-key-pictures .frame").evaluate_all(
        "list => list.map(frame => { const box = frame.getBoundingClientRect(),"
        " inner = frame.firstElementChild.getBoundingClientRect();"
        " return [inner.width / box.width, (box.left - inner.left) / inner.width,"
        " (box.top - inner.top) / inner.height] })"
    )
    left, right = frames
    assert left == pytest.approx(right, abs=1e-3)
    return tuple(left)


def test_both_pictures_zoom_and_move_together_and_keep_their_place(page, fields):
    upload(page, *((f"{i}.png", encode(field)) for i, field in enumerate(fields[:2])))
    settled(page)
    frame = page.locator(".st-key-pictures .frame").first
    frame.scroll_into_view_if_needed()
    assert shown_part(page) == pytest.approx((1, 0, 0), abs=1e-3)
    box = frame.bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    for _ in range(3):
        page.mouse.wheel(0, -400)
    wait_for(
        page,
        "document.querySelector('.st-key-pictures .moved').getBoundingClientRect().width"
        " > 2 * argument",
        box["width"],
    )
    settled(page)
    scale, left, top = shown_part(page)
    assert scale > 2
    # What was under the pointer stays there.
    assert (left, top) == pytest.approx((0.5 - 0.5 / scale, 0.5 - 0.5 / scale), abs=0.01)

    page.mouse.down()
    page.mouse.move(middle[0] + 60, middle[1] - 30, steps=5)
    page.mouse.up()
    moved = shown_part(page)
    assert moved[1] == pytest.approx(left - 60 / box["width"] / scale, abs=0.01)
    assert moved[2] == pytest.approx(top + 30 / box["height"] / scale, abs=0.01)
    assert page.locator(".st-key-pictures .mark:visible").count() == 1

    # Neither another class nor method, colours or opacity lose the place; another field does.
    choose(page, "Evidence for", re.compile("second choice"))
    choose(page, "Method", "LayerCAM 28 x 28")
    choose(page, "Colours", "Cividis")
    with drawn_anew(page):
        page.get_by_role("slider", name="Opacity").press("ArrowLeft")
    assert shown_part(page) == pytest.approx(moved, abs=1e-3)
    page.get_by_role("button", name=re.compile("^Next")).click()
    page.get_by_text("Field 2 of 2 listed").wait_for()
    settled(page)
    assert shown_part(page) == pytest.approx((1, 0, 0), abs=1e-3)


def test_outlines_and_crops_show_where_cells_lie(page, fields):
    upload(page, *((f"{i}.png", encode(field)) for i, field in enumerate(fields)))
    settled(page)
    outlines = page.locator(".mseenet-pictures svg").first.locator("path:not(.halo)")
    crops = page.locator(".mseenet-pictures .crops button")
    switch = page.get_by_role("button", name="Outlines")
    assert outlines.count() == crops.count() > 3
    expect(outlines.first).to_be_visible()
    assert switch.get_attribute("aria-pressed") == "true"

    crops.nth(1).click()
    assert shown_part(page)[0] > 1  # nearer
    assert crops.nth(1).get_attribute("aria-pressed") == "true"
    frame = page.locator(".mseenet-pictures .frame").first.bounding_box()
    cell = page.locator(".mseenet-pictures path.marked:not(.halo)").first.bounding_box()
    middle = cell["x"] + cell["width"] / 2 - frame["x"]
    assert 0 < middle < frame["width"]
    switch.click()  # all but the marked one
    expect(outlines.first).not_to_be_visible()
    expect(outlines.nth(1)).to_be_visible()
    crops.nth(1).click()
    expect(outlines.nth(1)).not_to_be_visible()

    before = heading(page)
    with drawn_anew(page):
        page.keyboard.press("n")
    assert heading(page) != before
    assert switch.get_attribute("aria-pressed") == "false"  # kept from field to field
    expect(outlines.first).not_to_be_visible()
    switch.click()

    with drawn_anew(page):
        page.get_by_text("Most decisive cells of the case").click()
    decisive = page.locator(".mseenet-cells button")
    name = decisive.first.get_attribute("aria-label").split(":")[0]
    with drawn_anew(page):
        decisive.first.click()
    assert heading(page).startswith(name)
    assert page.locator(".mseenet-pictures path.marked").count() == 4  # in both, each with a halo
    assert shown_part(page)[0] > 1
    assert findings_of_axe(page) == []


def test_pictures_by_keyboard_and_never_beyond_the_field(page, fields):
    upload(page, ("smear.png", encode(fields[2])))
    settled(page)
    pictures = page.locator(".st-key-pictures .frames")
    pictures.focus()
    for _ in range(3):
        page.keyboard.press("+")
    scale = shown_part(page)[0]
    assert scale == pytest.approx(1.5**3, abs=0.01)
    for _ in range(20):
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowUp")
    assert shown_part(page) == pytest.approx((scale, 1 - 1 / scale, 0), abs=1e-3)
    page.keyboard.press("0")
    assert shown_part(page) == pytest.approx((1, 0, 0), abs=1e-3)
    page.get_by_role("button", name="Zoom in").click()
    assert shown_part(page)[0] == pytest.approx(1.5, abs=0.01)
    page.get_by_role("button", name="Whole field").click()
    assert shown_part(page)[0] == pytest.approx(1)


def test_two_fingers_zoom_in_and_one_moves(opened, fields):
    page = opened(width=820, has_touch=True)
    upload(page, ("smear.png", encode(fields[2])))
    settled(page)
    frame = page.locator(".st-key-pictures .frame").first
    frame.scroll_into_view_if_needed()
    box = frame.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *fingers: tuple[float, float]) -> None:
        points = [{"x": fx, "y": fy, "id": i} for i, (fx, fy) in enumerate(fingers)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", (x - 20, y), (x + 20, y))
    for apart in range(20, 61, 5):
        touch("touchMove", (x - apart, y), (x + apart, y))
    touch("touchEnd")
    scale, left, top = shown_part(page)
    assert scale == pytest.approx(3, rel=0.05)
    assert (left, top) == pytest.approx((0.5 - 0.5 / scale, 0.5 - 0.5 / scale), abs=0.05)
    scrolled = page.evaluate("document.querySelector('.stMain').scrollTop")

    touch("touchStart", (x, y))
    for way in range(0, 41, 5):
        touch("touchMove", (x, y - way))
    touch("touchEnd")
    assert shown_part(page) == pytest.approx(
        (scale, left, top + 40 / box["height"] / scale), abs=0.02
    )
    assert page.evaluate("document.querySelector('.stMain').scrollTop") == scrolled


def test_keys_go_on_working_after_the_mouse_has_moved_a_slider(page, fields):
    upload(page, *((f"{i}.png", encode(field)) for i, field in enumerate(fields)))
    settled(page)
    slider = page.get_by_role("slider", name="Opacity")
    slider.scroll_into_view_if_needed()
    thumb = slider.bounding_box()
    before = slider.input_value()
    with drawn_anew(page):
        page.mouse.click(thumb["x"] - 40, thumb["y"] + thumb["height"] / 2)
    assert slider.input_value() != before
    page.keyboard.press("n")
    page.get_by_text("Field 2 of 4 listed").wait_for()


def test_a_head_of_the_table_orders_and_the_list_follows_the_keys(page, mixed_case):
    count = TABLE_PAGE + 2
    upload(page, *mixed_case[:count])
    settled(page)
    table = page.locator("[data-testid=stDataFrame]").bounding_box()
    page.mouse.click(table["x"] + 300, table["y"] + ROW_HEIGHT / 2)
    expect(page.get_by_role("combobox", name="Order")).to_have_value("Where we differ first")
    settled(page)
    for number in range(2, count + 1):
        page.keyboard.press("n")
        page.get_by_text(f"Field {number} of {count} listed").wait_for()
    page.get_by_label(f"{count - TABLE_PAGE} of {count} fields").first.wait_for(state="attached")
    page.get_by_text("Gallery", exact=True).click()
    page.locator(".st-key-card-selected").wait_for()


def slide_folder(parent: Path, fields: list[np.ndarray]) -> Path:
    """A folder in `slide 7` that holds the fields and a file that is no image."""
    folder = parent / "slide 7" / "inner"
    folder.mkdir(parents=True)
    for i, field in enumerate(fields):
        (folder / f"{i}.png").write_bytes(encode(field))
    (folder / "notes.txt").write_text("not an image")
    return folder


def drop(page, *paths: Path) -> None:
    """Drops files and folders on the page's upload widget, as a file manager does."""
    zone = page.locator("[data-testid=stFileUploaderDropzone]")
    box = zone.bounding_box()
    point = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    browser = page.context.new_cdp_session(page)
    for event in ("dragEnter", "dragOver", "drop"):
        browser.send("Input.dispatchDragEvent", {"type": event, "data": data, **point})


def uploads_of(page) -> list[str]:
    """A list that the addresses of all later uploads are added to."""
    uploads = []
    page.on("request", lambda r: uploads.append(r.url) if r.method == "PUT" else None)
    return uploads


def test_dropped_files_and_folders_come_in_one_upload(page, fields, tmp_path):
    folder = slide_folder(tmp_path, fields[:3])
    (tmp_path / "empty").mkdir()
    alone = tmp_path / "letter.txt"
    alone.write_text("chosen by name")
    uploads = uploads_of(page)
    drop(page, tmp_path / "empty")
    page.get_by_text("Drag and drop files here").wait_for(state="detached")
    expect(page.locator(".mseenet-steps")).to_be_visible()
    drop(page, tmp_path / "slide 7", alone, folder / "0.png")
    page.get_by_role("heading", name="Take away").wait_for()
    settled(page)
    assert len(uploads) == 1
    assert (tiles(page)["fields analysed"], tiles(page)["not read"]) == (4, 1)
    for notice in ("not an image: slide 7/inner/notes.txt", "same content: 0.png"):
        expect(page.get_by_text(notice)).to_be_visible()


def test_a_file_that_cannot_be_read_is_named_and_spoils_no_other(page, fields, tmp_path):
    folder = slide_folder(tmp_path, fields[:3])
    # What was chosen is held back until one of the files has changed: browsers refuse it then.
    page.add_init_script(
        """addEventListener("change", (event) => {
            if (window.held || event.target.type !== "file") return;
            window.held = event.target;
            event.stopImmediatePropagation();
        }, true);"""
    )
    page.reload()
    page.locator(".mseenet-steps").wait_for()
    page.locator("input[type=file]").first.set_input_files(sorted(folder.glob("*.png")))
    wait_for(page, "window.held && true")
    (folder / "1.png").write_bytes(encode(fields[3]) + b"changed")
    page.evaluate("held.dispatchEvent(new Event('change', { bubbles: true }))")
    page.get_by_role("heading", name="Take away").wait_for()
    settled(page)
    assert tiles(page)["fields analysed"] == 2
    expect(page.get_by_text("1.png: the browser could not read this file")).to_be_visible()


def test_large_files_come_apart_and_too_large_ones_are_named(page, tmp_path):
    paths = []
    for name, megabytes in (("a.tif", 40), ("b.tif", 40), ("huge.tif", 201)):
        paths.append(tmp_path / name)
        with paths[-1].open("wb") as stream:
            stream.write(name.encode())
            stream.truncate(megabytes * 2**20)
    uploads = uploads_of(page)
    page.locator("input[type=file]").first.set_input_files(paths)
    page.get_by_role("heading", name="Take away").wait_for()
    settled(page)
    assert len(uploads) == 2
    assert tiles(page)["not read"] == 2
    expect(page.get_by_text("huge.tif: expected at most 200 MB")).to_be_visible()


def test_a_folder_and_the_clipboard(page, fields, tmp_path):
    folder = slide_folder(tmp_path, fields[:2])
    (folder / "1.png").rename(folder / "1")  # an image all the same
    page.get_by_text("Folder", exact=True).click()
    directory = page.locator("input[type=file][webkitdirectory]")
    directory.wait_for(state="attached")
    directory.set_input_files(tmp_path / "slide 7")
    page.get_by_role("heading", name="Take away").wait_for()
    settled(page)
    assert tiles(page)["fields analysed"] == 2
    left_out = "1 file left out, not an image: slide 7/inner/notes.txt"
    expect(page.get_by_text(left_out)).to_be_visible()

    page.get_by_role("button", name="Add more fields").click()
    page.get_by_text("Paste", exact=True).click()
    box = page.locator("[data-testid=stChatInput] textarea")
    box.click()
    content = base64.b64encode(encode(fields[2])).decode()
    box.evaluate(
        """(box, content) => {
            const bytes = Uint8Array.from(atob(content), c => c.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], "image.png", {type: "image/png"}));
            box.dispatchEvent(new ClipboardEvent("paste",
                {clipboardData: data, bubbles: true, cancelable: true}));
        }""",
        content,
    )
    send = page.locator("[data-testid=stChatInputSubmitButton]")
    expect(send).to_be_enabled()
    send.click()
    page.locator(".mseenet-tiles li", has_text="3fields").wait_for()


@pytest.mark.parametrize("width", [1280, 360])
def test_the_camera_gives_its_own_resolution(opened, width):
    page = opened(width=width)
    # What the browser's fake camera gives to whoever asks for as much as this. Asked before the
    # page does: whoever comes or goes interrupts the pictures of the others.
    largest = page.evaluate(
        """async () => {
            const size = { width: { ideal: 4096 }, height: { ideal: 3072 } };
            const stream = await navigator.mediaDevices.getUserMedia({ video: size });
            const [track] = stream.getVideoTracks();
            const { width, height } = track.getSettings();
            track.stop();
            return [width, height];
        }"""
    )
    assert largest[0] > 1000
    page.get_by_text("Camera", exact=True).click()
    wait_for(page, "document.querySelector('video')?.videoWidth === argument", largest[0], 180)
    take = page.get_by_role("button", name="Take Photo")
    for _ in range(6):
        # Streamlit starts the camera anew a second after it knows how wide its own picture is, and a
        # click meanwhile takes no photo.
        take.click()
        with suppress(PlaywrightTimeoutError):
            take.wait_for(state="hidden", timeout=30_000)
            break
    page.get_by_role("heading", name="Take away").wait_for()
    settled(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV table").click()
    assert b"camera" in download.value.path().read_bytes()
    if "fields analysed" in tiles(page):  # what moves in the picture looked like cells: it is cut
        rows = csv.DictReader(io.StringIO(download.value.path().read_text("utf-8-sig")))
        assert 640 < max(int(row["x"]) + int(row["width"]) for row in rows) <= largest[0]
        return
    shown = page.locator(".st-key-pictures img").first.evaluate(
        "e => [e.naturalWidth, e.naturalHeight]"
    )
    assert shown == pytest.approx([1024, 1024 * largest[1] / largest[0]], abs=1)


class NarrowProxy(socketserver.ThreadingTCPServer):
    """Lets through requests of at most so many bytes, as nginx does, and says 413 to others."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, target: str, most: int):
        self.target, self.most = int(target.rpartition(":")[2]), most
        self.refused = []
        super().__init__(("localhost", 0), _Relay)


class _Relay(socketserver.StreamRequestHandler):
    def handle(self):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.rfile.readline()
            if not line:
                return
            head += line
        size = int((re.search(rb"(?i)content-length: (\d+)", head) or [0, 0])[1])
        body = self.rfile.read(size)
        if size > self.server.most:
            self.server.refused.append(size)
            self.wfile.write(
                b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            return
        if b"Upgrade: websocket" not in head:  # one request a connection
            head = re.sub(rb"(?i)\r\nconnection: [^\r]*", b"", head)
            head = head[:-2] + b"Connection: close\r\n\r\n"
        with socket.create_connection(("localhost", self.server.target)) as upstream:
            upstream.sendall(head + body)
            back = threading.Thread(target=_copy, args=(upstream, self.connection))
            back.start()
            if b"Upgrade: websocket" in head:
                _copy(self.connection, upstream)
            back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(2**16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def narrow_proxy(server) -> Iterator[NarrowProxy]:
    with NarrowProxy(server, 2**20) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield proxy
        proxy.shutdown()


def test_behind_a_proxy_of_one_megabyte_small_files_come_in_smaller_bundles(
    opened, narrow_proxy, tmp_path
):
    page = opened(address=f"http://localhost:{narrow_proxy.server_address[1]}")
    paths = []
    for i in range(12):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(render_field(STYLES[i % 2], i)).resize((320, 320)).save(paths[-1])
    assert 2**20 < sum(path.stat().st_size for path in paths)
    (tmp_path / "large.tif").write_bytes(bytes(3 * 2**20))
    page.locator("input[type=file]").first.set_input_files([*paths, tmp_path / "large.tif"])
    analysed(page, 12)
    refusal = page.get_by_text("large.tif: a proxy between the browser and this app refuses")
    expect(refusal).to_be_visible()
    assert page.get_by_text("AxiosError").count() == 0
    assert narrow_proxy.refused


def test_the_mouse_selects_in_table_and_gallery(page, fields):
    upload(page, *((f"{i}.png", encode(field)) for i, field in enumerate(fields)))
    settled(page)
    names = [heading(page)]
    row = ROW_HEIGHT
    for number in (3, 2):
        table = page.locator("[data-testid=stDataFrame]").bounding_box()
        page.mouse.click(table["x"] + 16, table["y"] + (number + 0.5) * row)
        page.get_by_text(f"Field {number} of 4 listed").wait_for()
        settled(page)
        names.append(heading(page))
    page.keyboard.press("n")
    page.get_by_text("Field 3 of 4 listed").wait_for()
    settled(page)
    assert heading(page) == names[1]
    assert len(set(names)) == 3
    page.get_by_text("Gallery", exact=True).click()
    page.locator(".st-key-gallery").get_by_role("button").nth(3).click()
    page.get_by_text("Field 4 of 4 listed").wait_for()
    settled(page)
    assert heading(page) not in names


def test_bad_files_beside_a_good_one(page, field_png):
    bad = ("broken.png", b"not an image"), ("notes.txt", b"not even named as one")
    upload(page, *bad, ("good.png", field_png))
    settled(page)
    assert tiles(page)["not read"] == 2
    assert heading(page).startswith("broken.png")
    assert "got content of another kind" in page.locator(".stAlert").inner_text()
    page.get_by_role("button", name=re.compile("^Next")).click()
    page.get_by_text("Field 2 of 3 listed").wait_for()
    assert heading(page).startswith("notes.txt")
    page.get_by_role("button", name=re.compile("^Next")).click()
    page.locator(".mseenet-answer").wait_for()
    assert heading(page).startswith("good.png")


def test_two_sessions_never_see_each_other(opened, fields):
    pages = [opened(), opened()]
    for page, name, field in zip(pages, ("mine.png", "yours.png"), fields, strict=False):
        upload(page, (name, encode(field)))
    for page, own, other in zip(pages, ("mine", "yours"), ("yours", "mine"), strict=True):
        settled(page)
        assert tiles(page)["field analysed"] == 1
        assert heading(page).startswith(f"{own}.png")
        assert page.get_by_text(f"{other}.png").count() == 0


def test_nothing_is_written_to_disk(page, field_png, temporary_folder):
    large = field_png + bytes(3 * 2**20)  # larger than what is kept in memory by itself
    upload(page, ("secret name.png", large))
    settled(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="PDF report").click()
    assert download.value.path().stat().st_size > 10_000
    # Nor by any of the tests before: they use the same server.
    assert [path for path in temporary_folder.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessible_and_narrow(opened, mixed_case, scheme):
    page = opened(width=800, color_scheme=scheme)
    settled(page)
    assert findings_of_axe(page) == []
    upload(page, *mixed_case[:3], mixed_case[-3])
    settled(page)
    assert findings_of_axe(page) == []
    with drawn_anew(page):
        page.get_by_text("Gallery", exact=True).click()
    page.locator(".mseenet-card").first.wait_for()
    assert findings_of_axe(page) == []
    for name in ("Model", "About"):
        with drawn_anew(page):
            page.get_by_role("link", name=name, exact=True).click()
        assert findings_of_axe(page) == []
        widths = page.evaluate(
            "() => { const m = document.querySelector('[data-testid=stMain]');"
            " return [m.scrollWidth, m.clientWidth] }"
        )
        assert widths[0] <= widths[1]


def test_a_rejected_field_names_no_class_until_it_is_asked_for(page):
    upload(page, ("empty.png", encode(blank(0))))
    page.get_by_text(words.REJECTED).wait_for()
    assert page.locator(".mseenet-answer").count() == 0
    assert tiles(page) == {"field analysed": 1, "rejected": 1}
    page.get_by_text("Show the network's output all the same").click()
    page.locator(".mseenet-answer").wait_for()
    page.get_by_text(words.REJECTED_SHOWN).wait_for()

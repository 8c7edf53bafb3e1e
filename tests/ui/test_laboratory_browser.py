"""The page "Your laboratory" in the browser: a ZIP goes in, the report comes out, at any width."""

import io
import json
import os
import zipfile

import pytest
from conftest import ROOT, encode
from playwright.sync_api import expect
from test_browser import findings_of_axe, settled

from mseenet.config import CLASS_NAMES
from mseenet.imaging.synthetic import STYLES, render_field
from tools.browser import CHROMIUM, running_app

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


def assert_fits(page) -> None:
    """Everything on the page can be read, and nothing is too wide, on any screen."""
    for width in (1280, 420):
        page.set_viewport_size({"width": width, "height": 1000})
        settled(page)
        assert findings_of_axe(page) == []
        main = page.locator("[data-testid=stMain]")
        assert main.evaluate("main => main.scrollWidth <= main.clientWidth")


def archive() -> bytes:
    """Two slides of a rendered field for each class, and a file that cannot be read."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for label, name in enumerate(CLASS_NAMES):
            for slide in range(2):
                rgb = render_field(STYLES[label], 10 * label + slide)
                target.writestr(f"fields/{name}/slide {slide}/a.png", encode(rgb))
        target.writestr("fields/Benign/slide 0/bad.png", b"no image")
    return buffer.getvalue()


def test_a_zip_goes_in_and_the_report_comes_out(page, temporary_folder):
    page.get_by_role("link", name="Your laboratory").click()
    page.get_by_text("Put the fields into a ZIP").wait_for()
    settled(page)
    assert findings_of_axe(page) == []
    page.locator("input[type=file]").first.set_input_files(
        {"name": "fields.zip", "mimeType": "application/zip", "buffer": archive()}
    )
    page.get_by_text("9 fields of 8 slides").wait_for()
    settled(page)
    assert findings_of_axe(page) == []
    page.get_by_role("button", name="Start the check").click()
    page.get_by_role("heading", name="The four requirements").wait_for()
    assert_fits(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Report for programs").click()
    assert download.value.suggested_filename == "verification.json"
    report = json.loads(download.value.path().read_bytes())
    assert report["fields"]["n"] == 8
    assert "bad.png" in report["fields"]["problems"][0]
    assert [path for path in temporary_folder.rglob("*") if path.is_file()] == []


FEWER_FOLDS = """
from mseenet.laboratory import adapt, alignment

adapt.FOLDS, alignment.ROUNDS = 2, 1
"""
"""What a server runs first: a profile then takes a quarter of the looks."""


@pytest.fixture(scope="module")
def gated_server(tmp_path_factory):
    """Address of a server whose weights have a gate, and its folder for temporary files."""
    folder, first = tmp_path_factory.mktemp("temporary"), tmp_path_factory.mktemp("first")
    (first / "sitecustomize.py").write_text(FEWER_FOLDS)
    environment = {"PYTHONPATH": os.pathsep.join(map(str, (first, ROOT)))}
    with running_app(temporary=folder, environment=environment) as address:
        yield address, folder


def test_a_site_profile_is_made_stopped_and_gone_on_with(opened, gated_server):
    address, folder = gated_server
    page = opened(address=address)
    page.get_by_role("link", name="Your laboratory").click()
    page.get_by_text("Put the fields into a ZIP").wait_for()
    page.locator("input[type=file]").first.set_input_files(
        {"name": "fields.zip", "mimeType": "application/zip", "buffer": archive()}
    )
    page.get_by_role("button", name="Start the check").click()
    make = page.get_by_role("button", name="Make a site profile")
    make.wait_for()
    settled(page)
    assert findings_of_axe(page) == []
    make.click()
    page.get_by_text("Making the profile").wait_for()
    make.wait_for(state="hidden")
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Go on").wait_for()
    page.get_by_text("Stopped after").wait_for()
    page.get_by_role("button", name="Go on").click()
    page.get_by_text("may be used.").wait_for(timeout=300_000)  # the network looks 400 times
    assert_fits(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Report for programs").click()
    adaptation = json.loads(download.value.path().read_bytes())["adaptation"]
    settled(page)
    expect(page.get_by_text(adaptation["because"][0])).to_be_visible()
    given = page.get_by_role("button", name="Site profile", exact=True)
    assert given.count() == adaptation["written"]
    assert adaptation["folds"] == 2
    assert [path for path in folder.rglob("*") if path.is_file()] == []

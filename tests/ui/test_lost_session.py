"""Pages whose server no longer has their case, in a real browser with servers that are killed."""

from contextlib import ExitStack

import pytest
from conftest import encode, unchanged_profile
from playwright.sync_api import expect
from test_browser import settled
from test_laboratory_browser import archive

from mseenet.inference.card import DEFAULT_WEIGHTS, read_card
from mseenet.inference.profile import PROFILE_VARIABLE
from tools.browser import free_port, running_app, wait_for

pytestmark = pytest.mark.slow


def drop_fields(page) -> None:
    """Hands the laboratory's fields over, on the page that asks for them."""
    page.get_by_text("Put the fields into a ZIP").wait_for()
    page.locator("input[type=file]").first.set_input_files(
        {"name": "fields.zip", "mimeType": "application/zip", "buffer": archive()}
    )
    page.get_by_role("button", name="Start the check").wait_for()


def lost_case(page):
    """The note on a page whose server no longer has its case, when it has come."""
    note = page.get_by_role("alert").filter(has_text="no longer has this case")
    note.wait_for()
    return note


def laboratories_say_what_is_lost(asked, checked, making) -> None:
    """Pages that had fields, a report as well, and a profile that was being made."""
    lost = asked.get_by_role("alert").filter(has_text="The server no longer has")
    lost.filter(has_text="the fields of your laboratory").wait_for()
    expect(asked.get_by_role("button", name="Start the check")).to_be_visible()
    with asked.expect_navigation():
        lost.get_by_role("button", name="Begin anew").click()
    drop_fields(asked)

    lost = checked.get_by_role("alert").filter(has_text="The server no longer has")
    lost.filter(has_text="the report on your laboratory, which was not downloaded").wait_for()
    checked.get_by_role("button", name="Report for programs").wait_for()

    lost = making.get_by_role("alert").filter(has_text="The server no longer has")
    lost.filter(has_text="the fields of your laboratory and the report on your").wait_for()
    lost.get_by_role("button", name="Begin anew").click()
    making.get_by_text("Put the fields into a ZIP").wait_for()
    assert making.get_by_text("Making the profile").count() == 0


def test_pages_of_a_server_that_was_restarted_say_what_is_lost(opened, fields, tmp_path):
    """Started again with a site profile, and then without it."""
    path, port = tmp_path / "site.json", free_port()
    profile = unchanged_profile(read_card(DEFAULT_WEIGHTS))
    environment = {PROFILE_VARIABLE: str(path)}
    with ExitStack() as running:
        address = running.enter_context(running_app(port=port))
        empty, case, asked, checked, making = (opened(address=address) for _ in range(5))
        files = [
            {"name": f"{i}.png", "mimeType": "image/png", "buffer": encode(field)}
            for i, field in enumerate(fields[:2])
        ]
        case.locator("input[type=file]").first.set_input_files(files)
        case.locator(".st-key-case .mseenet-tiles").wait_for()
        case.locator(".st-key-save-case button").first.wait_for()
        for laboratory in (asked, checked, making):
            laboratory.get_by_role("link", name="Your laboratory").click()
            drop_fields(laboratory)
        for laboratory in (checked, making):
            laboratory.get_by_role("button", name="Start the check").click()
            laboratory.get_by_role("button", name="Report for programs").wait_for()
        assert case.locator(".mseenet-lost").count() == 0

        for page in (empty, case, asked, checked):
            settled(page)  # what a server had still to draw when it ended, no page can show
        making.get_by_role("button", name="Make a site profile").click()
        making.get_by_text("Making the profile").wait_for()
        running.close()
        profile.write(path)
        in_use = empty.get_by_text(f"site profile {profile.title}")
        assert in_use.count() == 0
        with empty.expect_navigation():
            running.enter_context(running_app(port=port, environment=environment))

        # Nothing is lost where there was nothing: the page goes on with the new server.
        empty.locator(".mseenet-steps").wait_for()
        in_use.wait_for()
        empty.locator("input[type=file]").first.set_input_files(files[0])
        empty.locator(".st-key-save-case button").first.wait_for()
        assert empty.locator(".mseenet-lost").count() == 0

        note = lost_case(case)
        assert "add the saved file" in note.inner_text()
        # What was there can still be looked at, and nothing on it works.
        expect(case.locator(".st-key-case .mseenet-tiles")).to_be_visible()
        case.get_by_role("button", name="New case").click(force=True)
        case.get_by_role("button", name="New case").press("Enter")
        assert case.get_by_role("button", name="Forget and begin anew").count() == 0
        expect(case.locator(".st-key-case .mseenet-tiles")).to_be_visible()
        note.get_by_role("button", name="Begin anew").click()
        case.locator(".mseenet-steps").wait_for()
        assert case.locator(".mseenet-lost, .st-key-case").count() == 0

        laboratories_say_what_is_lost(asked, checked, making)

        settled(empty)
        running.close()
        path.unlink()
        running.enter_context(running_app(port=port, environment=environment))
        lost_case(empty).get_by_role("button", name="Begin anew").click()
        empty.get_by_text("The site profile cannot be used, so nothing is predicted.").wait_for()
        empty.locator("[data-testid=stCode]").filter(has_text=str(path)).wait_for()
        assert empty.locator("input[type=file]").count() == 0


_SOCKETS = """
window.sockets = [];
window.WebSocket = class extends WebSocket {
  constructor(...details) {
    super(...details);
    window.sockets.push(this);
  }
};
"""


def test_a_short_break_of_the_connection_loses_nothing(opened, fields):
    asked = []
    page = opened(before=lambda page: page.add_init_script(_SOCKETS))
    page.on("response", lambda answer: "/mseenet/open/" in answer.url and asked.append(answer))
    file = {"name": "a.png", "mimeType": "image/png", "buffer": encode(fields[0])}
    page.locator("input[type=file]").first.set_input_files(file)
    page.locator(".st-key-save-case button").first.wait_for()
    page.evaluate("sockets.at(-1).close()")
    wait_for(page, "sockets.length > 1 && sockets.at(-1).readyState === WebSocket.OPEN")
    page.get_by_role("button", name="New case").click()
    page.get_by_role("button", name="Forget and begin anew").wait_for()
    assert [answer.status for answer in asked] == [204]
    assert page.locator(".mseenet-lost").count() == 0

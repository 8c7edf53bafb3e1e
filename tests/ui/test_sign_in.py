"""Sign-in with a small OpenID Connect provider, in a real browser on the real server."""

import pytest
from conftest import sign_in_secrets

from tools.browser import CHROMIUM, free_port, running_app

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


NO_WEIGHTS = "nothing can be predicted"
"""What the page says first of all, once it is reached, where there are no weights: they would take
ten seconds to load, and what a signed-in user sees of the page is for other tests."""


@pytest.fixture(scope="module")
def gated(provider, tmp_path_factory):
    """Address of a page behind that provider, without weights."""
    folder = tmp_path_factory.mktemp("gated")
    port = free_port()
    secrets = folder / "secrets.toml"
    secrets.write_text(sign_in_secrets(provider.issuer, f"http://localhost:{port}"))
    with running_app(folder, port=port, secrets=secrets) as url:
        yield url


def test_signing_in_and_out(gated, browser):
    page = browser.new_context().new_page()
    page.set_default_timeout(60_000)
    page.goto(gated)
    page.get_by_role("button", name="Sign in").wait_for()
    assert page.get_by_text(NO_WEIGHTS).count() == 0
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("Signed in as user@example.org").wait_for()
    page.get_by_text(NO_WEIGHTS).wait_for()

    stranger = browser.new_context().new_page()
    stranger.goto(gated)
    stranger.get_by_role("button", name="Sign in").wait_for()
    assert stranger.get_by_text(NO_WEIGHTS).count() == 0
    sent = "fetch('/_stcore/upload_file/a/b', {method: 'PUT', body: 'x'}).then(r => r.text())"
    assert "sign in" in stranger.evaluate(sent)

    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("button", name="Sign in").wait_for()
    assert page.get_by_text(NO_WEIGHTS).count() == 0
    page.context.close()
    stranger.context.close()


def test_who_is_not_on_the_list_is_told_so(gated, provider, browser, monkeypatch):
    monkeypatch.setattr(provider.handler, "email", "user@example.net")
    page = browser.new_context().new_page()
    page.set_default_timeout(60_000)
    page.goto(gated)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("user@example.net, who is not on the list").wait_for()
    assert page.get_by_text(NO_WEIGHTS).count() == 0
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("button", name="Sign in").wait_for()
    page.context.close()

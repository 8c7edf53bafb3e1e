"""Sign-in with a small OpenID Connect provider, in a real browser on the real server."""

import json
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from tools.browser import CHROMIUM, free_port, running_app

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def provider():
    """A provider that signs everyone in as one person without asking."""
    jwk = pytest.importorskip("joserfc.jwk")
    jwt = pytest.importorskip("joserfc.jwt")
    key = jwk.RSAKey.generate_key(2048, {"kid": "test", "use": "sig", "alg": "RS256"})
    nonces = {}

    class Provider(BaseHTTPRequestHandler):
        email = "user@example.org"  # of whoever signs in next

        def do_GET(self):
            path, _, query = self.path.partition("?")
            asked = dict(urllib.parse.parse_qsl(query))
            if path == "/.well-known/openid-configuration":
                self.answer(
                    {
                        "issuer": issuer,
                        "authorization_endpoint": f"{issuer}/authorize",
                        "token_endpoint": f"{issuer}/token",
                        "jwks_uri": f"{issuer}/keys",
                        "response_types_supported": ["code"],
                        "subject_types_supported": ["public"],
                        "id_token_signing_alg_values_supported": ["RS256"],
                    }
                )
            elif path == "/keys":
                self.answer({"keys": [key.as_dict(private=False)]})
            elif path == "/authorize":
                code = f"code{len(nonces)}"
                nonces[code] = asked.get("nonce")
                back = urllib.parse.urlencode({"code": code, "state": asked["state"]})
                self.send_response(302)
                self.send_header("Location", f"{asked['redirect_uri']}?{back}")
                self.end_headers()

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            nonce = nonces.pop(dict(urllib.parse.parse_qsl(body))["code"])
            now = int(time.time())
            claims = {
                "iss": issuer,
                "aud": "mseenet",
                "sub": "1",
                "email": Provider.email,
                "iat": now,
                "exp": now + 600,
                "nonce": nonce,
            }
            token = jwt.encode({"alg": "RS256", "kid": "test"}, claims, key)
            self.answer({"access_token": "unused", "token_type": "Bearer", "id_token": token})

        def answer(self, content):
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("localhost", 0), Provider)
    issuer = f"http://localhost:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield SimpleNamespace(issuer=issuer, handler=Provider)
    server.shutdown()


NO_WEIGHTS = "nothing can be predicted"
"""What the page says first of all, once it is reached, where there are no weights: they would take
ten seconds to load, and what a signed-in user sees of the page is for other tests."""


@pytest.fixture(scope="module")
def gated(provider, tmp_path_factory):
    """Address of a page behind that provider, without weights."""
    folder = tmp_path_factory.mktemp("gated")
    port = free_port()
    secrets = folder / "secrets.toml"
    secrets.write_text(
        "[auth]\n"
        f'redirect_uri = "http://localhost:{port}/oauth2callback"\n'
        'cookie_secret = "a secret of this test alone"\n'
        'client_id = "mseenet"\n'
        'client_secret = "unused"\n'
        f'server_metadata_url = "{provider.issuer}/.well-known/openid-configuration"\n'
        "[access]\n"
        'allowed = ["example.org"]\n'
    )
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

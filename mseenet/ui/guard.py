"""What the page's server refuses, and what it tells browsers, before Streamlit sees a request.

Streamlit takes uploads of every client that it has given a session, and gives one before the page
has asked for a sign-in. It sends no headers that keep other pages from framing this one.
"""

from base64 import b64encode
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from hashlib import sha256

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit import config
from streamlit.runtime.scriptrunner import get_script_run_ctx

from mseenet.ui.streamlit_internals import streamlit_scripts

HEADERS = {
    "Permissions-Policy": "camera=(self), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Sent with every answer, beside the policy of `content_policy`."""

UPLOADS, METRICS = "/_stcore/upload_file/", "/_stcore/metrics"
"""Where Streamlit takes uploads, and where it tells everyone about the server's sessions."""

MOST_ADMITTED = 10_000
"""Sessions that are remembered; the oldest are forgotten and have to load the page again."""

_admitted: OrderedDict[str, None] = OrderedDict()


def admit() -> None:
    """Lets the session of the running script upload from now on; called behind the sign-in."""
    context = get_script_run_ctx()
    if context is not None:  # there is none in a test without a session
        _admitted[context.session_id] = None
        _admitted.move_to_end(context.session_id)
        while len(_admitted) > MOST_ADMITTED:
            _admitted.popitem(last=False)


def content_policy(scripts: Iterable[str]) -> str:
    """What the page may load and run: the server's own files, and nothing of another address.

    Args:
        scripts: Written into the page itself; no other script in it runs. Streamlit loads the
            scripts of components from `blob:` addresses, which only a script can make, and writes
            styles into the page.
    """
    hashes = (b64encode(sha256(script.encode()).digest()).decode() for script in scripts)
    return "; ".join(
        (
            "default-src 'self'",
            " ".join(["script-src 'self' blob:", *(f"'sha256-{found}'" for found in hashes)]),
            "style-src 'self' 'unsafe-inline'",
            "connect-src 'self' data: blob:",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "media-src 'self' blob:",
            "worker-src 'self' blob:",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


class Guard:
    """ASGI middleware: uploads only of admitted sessions, no metrics, headers everywhere.

    Args:
        app: What answers all other requests.
        headers: Sent with every answer.
    """

    def __init__(self, app: ASGIApp, headers: Mapping[str, str]) -> None:
        self.app = app
        self.headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self.headers)
            await send(message)

        refused = _refusal(scope["path"], scope["method"])
        await (refused or self.app)(scope, receive, with_headers)


def _refusal(path: str, method: str) -> PlainTextResponse | None:
    if METRICS in path:
        return PlainTextResponse("not found", 404)
    _, upload, rest = path.partition(UPLOADS)
    if upload and method != "OPTIONS" and rest.split("/")[0] not in _admitted:
        return PlainTextResponse("sign in, and load the page, before an upload", 403)
    return None


def middleware(scripts: Iterable[str]) -> list[Middleware]:
    """What `streamlit.App` gets: the guard, then the names by which the server may be called.

    A foreign site whose name leads to this machine (DNS rebinding) is told from the page by the
    name that the browser sends.

    Args:
        scripts: That the app writes into the page.
    """
    policy = content_policy([*scripts, *streamlit_scripts()])
    names = config.get_option("server.allowedHosts") or ["*"]
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=list(names), www_redirect=False)
    return [Middleware(Guard, headers={**HEADERS, "Content-Security-Policy": policy}), hosts]

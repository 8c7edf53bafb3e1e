"""What the page's server refuses, and what it tells browsers, before Streamlit sees a request.

Streamlit takes uploads of every client that it has given a session, and gives one before the page
has asked for a sign-in. It sends no headers that keep other pages from framing this one.
"""

from base64 import b64encode
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from hashlib import sha256

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit import config

from mseenet.errors import UsageError
from mseenet.ui.sessions import end_session, is_open, uploads
from mseenet.ui.shared import is_loaded, load_ahead
from mseenet.ui.streamlit_internals import running_session, streamlit_scripts

HEADERS = {
    "Permissions-Policy": "camera=(self), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Sent with every answer, beside the policy of `content_policy`."""

UPLOADS, METRICS = "/_stcore/upload_file/", "/_stcore/metrics"
"""Where Streamlit takes uploads, and where it tells everyone about the server's sessions."""

OPEN, CLOSED = "/_stcore/mseenet/open/", "/_stcore/mseenet/closed/"
"""Where a page asks whether its session is still there, and says that it was closed; `page.js`."""

READY = "/ready"
"""Says whether the network is loaded (200) or not (503), for health checks and proxies."""

MOST_ADMITTED = 10_000
"""Sessions that are remembered; the oldest are forgotten and have to load the page again."""

_admitted: OrderedDict[str, None] = OrderedDict()


def admit() -> None:
    """Lets the session of the running script upload from now on; called behind the sign-in."""
    session = running_session()
    if session is not None:
        _admitted[session] = None
        _admitted.move_to_end(session)
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
    """ASGI middleware: uploads of admitted sessions for which there is room, no metrics, headers.

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

        status = 500

        async def with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(self.headers)
            await send(message)

        path, method = scope["path"], scope["method"]
        own = _of_session(path, method) or _own_answer(path, method) or _without_room(scope)
        try:
            await (own or self.app)(scope, receive, with_headers)
        finally:
            # One that failed is not there; of one that is deleted nothing is left.
            left = method == "DELETE" or (method == "PUT" and status >= 400)
            if own is None and left and (upload := _upload(path)):
                uploads.forget(*upload)


def _upload(path: str) -> tuple[str, str] | None:
    """Session and file of an upload's address; None for another one."""
    _, found, rest = path.partition(UPLOADS)
    session, _, file = rest.partition("/")
    return (session, file) if found else None


def _of_session(path: str, method: str) -> PlainTextResponse | None:
    """The answer to what a page asks or says of its session."""
    _, asks, mark = path.partition(OPEN)
    if asks:
        return PlainTextResponse(status_code=204 if is_open(mark) else 410)
    _, says, mark = path.partition(CLOSED)
    if says and method == "POST":
        end_session(mark)
        return PlainTextResponse(status_code=204)
    return None


def _own_answer(path: str, method: str) -> PlainTextResponse | None:
    """What the guard answers itself; None for what goes on to Streamlit."""
    if path == READY:
        return PlainTextResponse("ready") if is_loaded() else PlainTextResponse("loading", 503)
    if METRICS in path:
        return PlainTextResponse("not found", 404)
    upload = _upload(path)
    if upload and method != "OPTIONS" and upload[0] not in _admitted:
        return PlainTextResponse("sign in, and load the page, before an upload", 403)
    return None


def _without_room(scope: Scope) -> PlainTextResponse | None:
    """The refusal of an upload for which there is no room, before any of it is read."""
    upload = _upload(scope["path"])
    if not upload or scope["method"] != "PUT":
        return None
    length = Headers(scope=scope).get("content-length", "")
    if not (length.isascii() and length.isdigit()):
        return PlainTextResponse("expected an upload of stated length", 411)
    try:
        reason = uploads.refusal(*upload, int(length))
    except UsageError:
        reason = "room"
    return PlainTextResponse(reason, 507) if reason else None


@asynccontextmanager
async def network_loading(app: object) -> AsyncIterator[None]:
    """The `lifespan` that `streamlit.App` gets: the network loads while the server starts."""
    load_ahead()
    yield


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

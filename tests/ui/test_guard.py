"""What the server refuses and tells browsers, first without and then with a real server."""

import logging
import queue
import re
import socket
import threading
from logging.handlers import QueueHandler
from urllib.parse import urlsplit

import pytest
from conftest import run_async
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from mseenet.case.fields import Case
from mseenet.case.limits import MEGABYTE, Room
from mseenet.inference.card import WeightsError
from mseenet.ui import guard, sessions, shared
from mseenet.ui.bundle import SMALL
from mseenet.ui.frame import page_scripts
from mseenet.ui.session import CaseView
from mseenet.ui.streamlit_internals import streamlit_scripts
from tools.browser import running_app

UPLOAD = "/_stcore/upload_file"


@pytest.fixture
def asked(monkeypatch):
    """Asks an application behind the guard; gives status and headers."""
    monkeypatch.setattr(guard, "_admitted", type(guard._admitted)())

    async def answer(request):
        return PlainTextResponse("answered")

    route = Route("/{path:path}", answer, methods=["GET", "PUT", "DELETE", "OPTIONS"])
    app = Starlette(routes=[route], middleware=guard.middleware(["one()"]))

    def ask(path, method="GET", host="localhost:8501", size=0):
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": b"",
            "headers": [(b"host", host.encode()), (b"content-length", b"%d" % size)],
        }
        sent = []

        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message):
            sent.append(message)

        run_async(app(scope, receive, send))
        ask.body = sent[1]["body"].decode()
        return sent[0]["status"], {k.decode(): v.decode() for k, v in sent[0]["headers"]}

    return ask


def admitted(monkeypatch, session: str) -> None:
    monkeypatch.setattr(guard, "running_session", lambda: session)
    guard.admit()


def test_only_sessions_behind_the_sign_in_upload(asked, monkeypatch):
    for method in ("PUT", "DELETE"):
        assert asked(f"{UPLOAD}/mine/file", method)[0] == 403
    admitted(monkeypatch, "mine")
    for method in ("PUT", "DELETE"):
        assert asked(f"{UPLOAD}/mine/file", method)[0] == 200
        assert asked(f"/hospital{UPLOAD}/mine/file", method)[0] == 200  # below a base path
        assert asked(f"{UPLOAD}/another/file", method)[0] == 403
        assert asked(f"{UPLOAD}/", method)[0] == 403
    assert asked(f"{UPLOAD}/another/file", "OPTIONS")[0] == 200


def test_the_oldest_sessions_are_forgotten_first(asked, monkeypatch):
    monkeypatch.setattr(guard, "MOST_ADMITTED", 2)
    for session in ("a", "b", "a", "c"):
        admitted(monkeypatch, session)
    assert [asked(f"{UPLOAD}/{name}/file", "PUT")[0] for name in "abc"] == [200, 403, 200]


def test_a_run_without_a_session_admits_nobody(asked, monkeypatch):
    monkeypatch.setattr(guard, "running_session", lambda: None)
    guard.admit()
    assert not guard._admitted


@pytest.mark.parametrize("path", ["/_stcore/metrics", "/hospital/_stcore/metrics"])
def test_nobody_is_told_about_sessions(asked, path):
    assert asked(path)[0] == 404


def test_a_server_is_ready_when_its_network_is_loaded(asked, monkeypatch):
    monkeypatch.setattr(guard, "is_loaded", lambda: False)
    assert asked("/ready", host="10.0.0.7:8501")[0] == 503  # a health check knows no name
    monkeypatch.setattr(guard, "is_loaded", lambda: True)
    assert asked("/ready", host="10.0.0.7:8501")[0] == 200
    assert asked("/ready/")[0] == 200  # the application's own


def test_the_network_is_loaded_ahead_and_unusable_weights_are_logged(ungated_weights, monkeypatch):
    monkeypatch.setattr(shared, "_loaded", threading.Event())
    loaded = []
    monkeypatch.setattr(
        shared, "_load", lambda folder: loaded.append(folder) or shared._loaded.set()
    )
    monkeypatch.setenv(shared.WEIGHTS_VARIABLE, str(ungated_weights))
    assert not shared.is_loaded()

    async def start():
        async with guard.network_loading(None):
            pass

    run_async(start())
    assert shared._loaded.wait(60)
    assert loaded == [str(ungated_weights)]

    def fail(folder):
        raise WeightsError(f"{folder}: damaged")

    told: queue.SimpleQueue = queue.SimpleQueue()
    handler = QueueHandler(told)
    logger = logging.getLogger(shared.__name__)
    logger.addHandler(handler)
    try:
        monkeypatch.setattr(shared, "_load", fail)
        shared.load_ahead()
        assert told.get(timeout=60).getMessage() == f"{ungated_weights}: damaged"
    finally:
        logger.removeHandler(handler)


def test_other_names_of_this_machine_are_refused(asked):
    assert asked("/", host="127.0.0.1:8501")[0] == 200
    for host in ("evil.example", "localhost.evil.example", "evil.example:8501"):
        status, headers = asked("/", host=host)
        assert status == 400
        assert headers["x-frame-options"] == "DENY"


def test_every_answer_carries_the_headers(asked):
    for path, method in (("/", "GET"), ("/_stcore/metrics", "GET"), (f"{UPLOAD}/x/y", "PUT")):
        _, headers = asked(path, method)
        assert headers.items() >= {k.lower(): v for k, v in guard.HEADERS.items()}.items()
        policy = headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy
        assert "unsafe-eval" not in policy
        (scripts,) = re.findall("script-src ([^;]*)", policy)
        # Of one(), by `openssl dgst -sha256 -binary | base64`, and of Streamlit's own.
        assert "'sha256-HR7iaask9daLMRRskMI++QeJtjWDOjyPA6lGzYGzKW4='" in scripts
        assert scripts.count("sha256-") == 1 + len(streamlit_scripts()) >= 2
        assert "unsafe-inline" not in scripts


def test_the_scripts_that_are_let_in_are_those_of_the_page():
    assert len(page_scripts()) == 2
    assert all("<script" not in script for script in page_scripts())


def test_a_limit_that_cannot_be_understood_keeps_no_server_from_starting(monkeypatch):
    monkeypatch.setenv("MSEENET_MOST_FIELDS", "many")
    assert guard.middleware(page_scripts())


@pytest.fixture
def room(monkeypatch) -> Room:
    """What the server has: 10 MB, and 5 MB for one case."""
    room = Room(10 * MEGABYTE)
    monkeypatch.setenv("MSEENET_LARGEST_CASE_MB", "5")
    monkeypatch.setenv("MSEENET_MOST_FIELDS", "1")
    monkeypatch.setattr(sessions, "server_room", lambda: room)
    monkeypatch.setattr(sessions.uploads, "_sizes", {})
    return room


def test_uploads_count_before_they_are_read(asked, monkeypatch, room):
    for session in ("one", "other", "third"):
        admitted(monkeypatch, session)

    def put(session, file, megabytes):
        return asked(f"{UPLOAD}/{session}/{file}", "PUT", size=megabytes * MEGABYTE)[0]

    assert [put("one", "a", 3), put("one", "b", 2), put("one", "c", 2)] == [200, 200, 507]
    assert asked.body == "room"  # no case holds so much
    assert [put("other", "a", 4), put("third", "a", 4)] == [200, 507]
    assert asked.body == "full"
    assert room.taken == 9 * MEGABYTE
    notes = [asked(f"{UPLOAD}/third/note {i}", "PUT", size=SMALL)[0] for i in range(8)]
    assert notes == [200] * (1 + sessions.MOST_NOTES) + [507] * 3  # there was room for one
    assert room.taken == 10 * MEGABYTE
    sessions.uploads.forget_session("third")
    asked(f"{UPLOAD}/one/b", "DELETE")
    assert [put("other", "a", 4), put("third", "a", 3)] == [200, 200]  # sent again, it counts once
    sessions.uploads.forget_session("one")
    assert room.taken == 7 * MEGABYTE


def test_an_upload_that_fails_takes_no_room(asked, monkeypatch, room):
    admitted(monkeypatch, "mine")

    class Failing:
        async def __call__(self, scope, receive, send):
            raise RuntimeError("cut off")

    app = guard.Guard(Failing(), {})
    scope = {"type": "http", "method": "PUT", "path": f"{UPLOAD}/mine/a"}
    scope["headers"] = [(b"content-length", b"%d" % (2 * MEGABYTE))]
    with pytest.raises(RuntimeError):
        run_async(app(scope, None, None))
    assert room.taken == 0


def test_uploads_of_sessions_that_are_gone_make_room(asked, monkeypatch, room):
    for session in ("gone", "here"):
        admitted(monkeypatch, session)
    monkeypatch.setattr(sessions, "session_lives", lambda session: session != "gone")
    sizes = {"a": 3, "b": 2}
    for file, size in sizes.items():
        for session in ("gone", "here"):
            asked(f"{UPLOAD}/{session}/{file}", "PUT", size=size * MEGABYTE)
    admitted(monkeypatch, "new")
    assert asked(f"{UPLOAD}/new/a", "PUT", size=4 * MEGABYTE)[0] == 200
    assert room.taken == 9 * MEGABYTE


def test_a_page_asks_for_its_session_and_ends_it(asked, monkeypatch, room):
    living, closed = {"mine"}, []
    monkeypatch.setattr(sessions, "_marks", type(sessions._marks)())
    monkeypatch.setattr(sessions, "session_lives", living.__contains__)
    monkeypatch.setattr(sessions, "close_session", closed.append)
    case = Case(room=room)
    case.take_in([("a.png", b"\x89PNG\r\n\x1a\n" + bytes(1000))])
    view = CaseView(case)
    admitted(monkeypatch, "mine")
    asked(f"{UPLOAD}/mine/a", "PUT", size=2 * MEGABYTE)
    mark = sessions.mark_of("mine", view)
    assert sessions.mark_of("mine", view) == mark
    assert sessions.mark_of("another", CaseView(Case())) != mark
    assert asked(f"/_stcore/mseenet/open/{mark}")[0] == 204
    assert asked("/_stcore/mseenet/open/guess")[0] == 410
    living.clear()  # its time is up, or the server is another one
    assert asked(f"/_stcore/mseenet/open/{mark}")[0] == 410
    assert asked(f"/_stcore/mseenet/closed/{mark}")[0] == 200  # not by a link
    assert closed == []
    assert asked("/_stcore/mseenet/closed/guess", "POST")[0] == 204
    assert asked(f"/hospital/_stcore/mseenet/closed/{mark}", "POST")[0] == 204
    assert (closed, room.taken, view.case.fields) == (["mine"], 0, {})


class Recorder(threading.Thread):
    """Listens where a proxy to the world outside would, and notes who asks for what."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.asked: list[bytes] = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.socket.getsockname()[1]}"

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.asked.append(connection.recv(200))
            connection.close()


@pytest.fixture(scope="module")
def outside():
    recorder = Recorder()
    recorder.start()
    yield recorder
    recorder.socket.close()


@pytest.fixture(scope="module")
def address(outside, tmp_path_factory):
    """Of a page without weights, whose ways to the world outside lead to `outside`."""
    names = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
    variables = dict.fromkeys(names, outside.address) | {"no_proxy": "localhost,127.0.0.1"}
    with running_app(tmp_path_factory.mktemp("empty"), environment=variables) as url:
        yield url


def handshake(address: str, host: str, origin: str) -> int:
    """Status of an attempt to open the page's WebSocket."""
    port = urlsplit(address).port
    request = (
        "GET /_stcore/stream HTTP/1.1\r\n"
        f"Host: {host}:{port}\r\nOrigin: {origin.format(port=port)}\r\n"
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: streamlit\r\n\r\n"
    )
    with socket.create_connection(("localhost", port), timeout=30) as connection:
        connection.sendall(request.encode())
        return int(connection.recv(100).split()[1])


@pytest.mark.slow
def test_pages_of_other_sites_are_refused_and_nobody_outside_is_asked(address, outside):
    assert handshake(address, "localhost", "http://localhost:{port}") == 101
    for host, origin in (
        ("localhost", "http://evil.example"),
        ("localhost", "null"),
        ("evil.example", "http://evil.example"),  # a name that was made to lead here
        ("evil.example", "http://evil.example:{port}"),
    ):
        assert handshake(address, host, origin) in (400, 403)
    assert outside.asked == []


@pytest.mark.slow
def test_the_recorder_would_notice(outside):
    requests = pytest.importorskip("requests")
    with pytest.raises(requests.RequestException):
        requests.get("http://checkip.example/", proxies={"http": outside.address}, timeout=10)
    assert outside.asked.pop().startswith(b"GET http://checkip.example/")

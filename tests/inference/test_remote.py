"""A service as the network: its address, what is asked again and for how long, and what is not."""

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest

from mseenet.inference import remote
from mseenet.inference.classifier import Outputs
from mseenet.inference.remote import (
    RemoteClassifier,
    Server,
    ServerError,
    chosen_server,
    fields_of,
    packed,
    unpacked,
)

LOST = "lost"
"""Instead of an answer: the connection ends."""


@contextmanager
def answering(*answers, certificate=None) -> Iterator[SimpleNamespace]:
    """A server that gives one answer after the other, the last one again and again.

    Args:
        answers: Status, headers and body of each, or `LOST`.
        certificate: Of a server that speaks TLS: a file with its key in it.
    """
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers.get("Authorization", "")))
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = answers[min(len(asked), len(answers)) - 1]
            if answer == LOST:
                self.connection.close()
                return
            status, headers, body = answer
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def handle(self):
            with suppress(OSError, ValueError):  # the other side has gone, or `LOST`
                super().handle()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield SimpleNamespace(port=server.server_port, asked=asked)
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    """The pauses between attempts, which take no time."""
    made: list[float] = []

    def sleep(seconds: float) -> None:
        made.append(seconds)

    clock = SimpleNamespace(sleep=sleep, monotonic=lambda: sum(made))
    monkeypatch.setattr(remote, "time", clock)
    return made


def line_to(port: int, secure: bool = False) -> remote._Line:
    return remote._Line(Server(secure, "127.0.0.1", port, token="secret"), "0" * 12)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://127.0.0.1:8000", Server(False, "127.0.0.1", 8000)),
        (
            "https://smears.example.org/network/",
            Server(True, "smears.example.org", None, "/network"),
        ),
        ("http://[::1]:8000", Server(False, "::1", 8000)),
    ],
)
def test_addresses(text, expected):
    server = chosen_server({"MSEENET_SERVER": text})
    assert server == expected
    assert str(server) == text.rstrip("/")


def test_no_address_is_no_service():
    assert chosen_server({}) is chosen_server({"MSEENET_SERVER": " "}) is None


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1:8000",
        "ftp://a",
        "http://",
        "http://a:x",
        "http://a/?b=c",
        "http://a b",
        "http://[a",
        "http://user:hush@a",
        "http://hush@a",
    ],
)
def test_what_is_no_address(text):
    with pytest.raises(ServerError, match="MSEENET_SERVER: expected an address such as") as error:
        chosen_server({"MSEENET_SERVER": text})
    assert "hush" not in str(error.value)


def test_a_token_that_no_header_can_carry():
    for token in ("hush hush", "hush\nhush", "hüsh"):
        with pytest.raises(ServerError, match="MSEENET_SERVER_TOKEN: expected") as error:
            chosen_server({"MSEENET_SERVER": "http://a", "MSEENET_SERVER_TOKEN": token})
        assert "h" not in str(error.value).partition("spaces")[2]
    server = chosen_server({"MSEENET_SERVER": "http://a", "MSEENET_SERVER_TOKEN": "hush"})
    assert "hush" not in repr(server) + str(server)


@pytest.mark.parametrize("heatmaps", [True, False])
def test_outputs_travel_without_loss(heatmaps):
    random = np.random.default_rng(0)
    bits = random.integers(0, 2**32, (3, 6 + 224 * 224), np.uint32).view(np.float32)
    heat = bits[:, 6:].reshape(3, 224, 224) if heatmaps else None
    sent = Outputs(bits[:, :4], bits[:, 4], bits[:, 5], heat)
    content = packed(sent)
    found = unpacked(content, 3, heatmaps)
    for one, other in zip(sent, found, strict=True):
        if one is None:
            assert other is None
        else:
            assert np.array_equal(one.view(np.uint32), other.view(np.uint32))
    with pytest.raises(ValueError, match="received"):
        unpacked(content[:-4], 3, heatmaps)


def test_a_request_holds_whole_fields():
    assert fields_of(bytes(2 * 150528)).shape == (2, 224, 224, 3)
    for size in (0, 150527, 33 * 150528):
        with pytest.raises(ValueError, match="expected 1 to 32 fields of 150,528 bytes"):
            fields_of(bytes(size))


def test_a_service_says_when_to_come_again(pauses):
    busy = (429, {"Retry-After": "7"}, b'{"detail": "too many"}')
    loading = (503, {"Retry-After": "5"}, b"")
    with answering(busy, loading, (502, {}, b""), LOST, (200, {}, b"{}")) as server:
        assert line_to(server.port).ask("GET", "/v1/network") == b"{}"
    # Where none is named, each pause is twice the one before.
    assert pauses == [7, 5, 4 * remote.FIRST_PAUSE, 8 * remote.FIRST_PAUSE]
    assert server.asked == [("/v1/network", "Bearer secret")] * 5


@pytest.mark.parametrize(
    ("answer", "patience", "said"),
    [
        ((429, {"Retry-After": "50"}, b""), remote.BUSY_PATIENCE, "the service is busy"),
        ((503, {"Retry-After": "5"}, b""), remote.PATIENCE, "the service is not ready"),
        (LOST, remote.PATIENCE, "the service does not answer"),
    ],
)
def test_patience_ends(answer, patience, said, pauses):
    with (
        answering(answer) as server,
        pytest.raises(ServerError, match=said),
    ):
        line_to(server.port).ask("GET", "/v1/network")
    assert patience - 50 <= sum(pauses) <= patience
    assert len(server.asked) == len(pauses) + 1


def test_a_pause_beyond_patience_is_not_waited_for(pauses):
    with (
        answering((503, {"Retry-After": "9999"}, b"")) as server,
        pytest.raises(ServerError, match="not ready"),
    ):
        line_to(server.port).ask("GET", "/v1/network")
    assert pauses == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((401, {}, b""), "expected a token that the service knows in MSEENET_SERVER_TOKEN"),
        ((404, {}, b"<html>"), r"got status 404 \('Not Found'\)"),
        ((307, {"Location": "http://127.0.0.1:1/"}, b""), "got status 307"),
        ((409, {}, b'{"detail": "expected release a"}'), "another network now .*release a"),
        ((200, {}, b"more"), "expected an answer of 3 bytes, received 4"),
        ((200, {}, b"<!"), "expected an answer of 3 bytes, received 2"),
    ],
)
def test_what_asking_again_does_not_help(answer, said, pauses):
    with answering(answer) as server, pytest.raises(ServerError, match=said) as error:
        line_to(server.port).ask("POST", "/v1/network/outputs", {}, np.zeros(3, np.uint8), 3)
    assert "secret" not in str(error.value)
    assert (len(server.asked), pauses) == (1, [])
    assert server.asked[0][0] == f"/v1/network/outputs?release={'0' * 12}"


def test_a_slow_service_is_given_up(monkeypatch, pauses):
    monkeypatch.setattr(remote, "ANSWERING", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        with pytest.raises(ServerError, match=r"does not answer \(timed out\)"):
            line_to(silent.getsockname()[1]).ask("GET", "/v1/network")
    assert time.monotonic() - begun < 30
    assert sum(pauses) <= remote.PATIENCE


def test_at_the_start_a_service_that_is_not_there_is_said_at_once(pauses):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ServerError, match=r"does not answer \(Connection refused\)"):
        RemoteClassifier.connect(Server(False, "127.0.0.1", port))
    assert pauses == []


def test_something_else_at_the_address():
    with (
        answering((200, {}, b"<html>")) as server,
        pytest.raises(ServerError, match="expected the interface of `mseenet serve` there"),
    ):
        RemoteClassifier.connect(Server(False, "127.0.0.1", server.port))


def test_a_profile_is_refused():
    profile = SimpleNamespace(title="Ward 3 (0123456789ab)")
    with pytest.raises(ServerError, match=r"expected no site profile.*received profile Ward 3"):
        RemoteClassifier.connect(Server(False, "127.0.0.1", 1), profile=profile)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl on this machine")
def test_a_certificate_has_to_be_trusted(tmp_path, monkeypatch, pauses):
    file = tmp_path / "both.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    made += ["-nodes", "-days", "2", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [*made, "-keyout", file, "-out", tmp_path / "c"], check=True, capture_output=True
    )
    file.write_text(file.read_text() + (tmp_path / "c").read_text())
    with answering((200, {}, b"{}"), certificate=file) as server:
        with pytest.raises(ServerError, match="expected a certificate that is trusted here"):
            line_to(server.port, secure=True).ask("GET", "/v1/network")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "c"))
        assert line_to(server.port, secure=True).ask("GET", "/v1/network") == b"{}"
    with answering((200, {}, b"{}")) as server, pytest.raises(ServerError, match="expected TLS"):
        line_to(server.port, secure=True).ask("GET", "/v1/network")
    assert pauses == []

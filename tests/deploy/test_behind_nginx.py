"""deploy/nginx.conf in a real nginx, in front of two real servers, with TLS and sign-in."""

import os
import re
import shutil
import socket
import ssl
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import ROOT, sign_in_secrets

from tools.browser import free_port, running_app

NGINX, OPENSSL = (
    shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    for name in ("nginx", "openssl")
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        NGINX is None or OPENSSL is None, reason="no nginx or no openssl on this machine"
    ),
]

httpx = pytest.importorskip("httpx")
websockets = pytest.importorskip("websockets.sync.client")


@dataclass(frozen=True)
class Site:
    """A running nginx.

    Attributes:
        address: What people type.
        plain: The address without TLS.
        folder: Holds its certificate, logs and temporary files.
        second: Stops the second of the two servers behind it.
        start_second: Starts it again.
    """

    address: str
    plain: str
    folder: Path
    second: ExitStack
    start_second: Callable[[], None]

    def client(self):
        trusted = ssl.create_default_context(cafile=self.folder / "certificate.pem")
        return httpx.Client(base_url=self.address, verify=trusted, timeout=60)


def adapted(folder: Path, secure: int, plain: int, servers: list[int]) -> str:
    """The configuration with this machine's ports and folders in the place of a container's."""
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    changes = {
        " /tmp/": f" {folder}/",
        "/etc/nginx/certificates/": f"{folder}/",
        "/dev/stdout": f"{folder}/access.log",
        "/dev/stderr": f"{folder}/error.log",
        "listen 8443": f"listen 127.0.0.1:{secure}",
        "listen 8080": f"listen 127.0.0.1:{plain}",
        "app1:8501": f"127.0.0.1:{servers[0]}",
        "app2:8501": f"127.0.0.1:{servers[1]}",
    }
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text if os.getuid() else f"user root;\n{text}"


@contextmanager
def running_nginx(folder: Path, secure: int) -> Iterator[None]:
    command = [NGINX, "-c", folder / "nginx.conf", "-p", folder, "-e", folder / "error.log"]
    subprocess.run([*command, "-t", "-q"], check=True, timeout=60)
    process = subprocess.Popen([*command, "-g", "daemon off;"])
    try:
        deadline = time.monotonic() + 60
        while not listens(secure):
            assert process.poll() is None, (folder / "error.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def site(provider, tmp_path_factory) -> Iterator[Site]:
    """Two servers without weights, which answer at once, behind nginx and a sign-in."""
    folder = tmp_path_factory.mktemp("nginx")
    subprocess.run(
        [
            *(OPENSSL, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", folder / "key.pem", "-out", folder / "certificate.pem"),
        ],
        check=True,
        capture_output=True,
    )
    secure, plain, *servers = (free_port() for _ in range(4))
    address = f"https://localhost:{secure}"
    secrets = folder / "secrets.toml"
    secrets.write_text(sign_in_secrets(provider.issuer, address))
    (folder / "nginx.conf").write_text(adapted(folder, secure, plain, servers))
    weights = folder / "no weights"
    weights.mkdir()
    with ExitStack() as first, ExitStack() as second:

        def start_second() -> None:
            second.enter_context(running_app(weights, port=servers[1], secrets=secrets))

        first.enter_context(running_app(weights, port=servers[0], secrets=secrets))
        start_second()
        first.enter_context(running_nginx(folder, secure))
        yield Site(address, f"http://localhost:{plain}", folder, second, start_second)


def run_page(site: Site, client) -> tuple[str, str]:
    """Opens the page as a browser does; gives the session's id and all that the page says."""
    from streamlit.proto.BackMsg_pb2 import BackMsg
    from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

    cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in client.cookies.jar)
    message = BackMsg()
    message.rerun_script.query_string = ""
    session, said = "", ""
    with websockets.connect(
        site.address.replace("https", "wss") + "/_stcore/stream",
        ssl=ssl.create_default_context(cafile=site.folder / "certificate.pem"),
        origin=site.address,
        subprotocols=["streamlit", client.cookies.get("_streamlit_xsrf") or "none"],
        additional_headers={"Cookie": cookies},
        open_timeout=60,
        max_size=None,
    ) as stream:
        stream.send(message.SerializeToString())
        while True:
            answer = ForwardMsg.FromString(stream.recv(timeout=120))
            if answer.WhichOneof("type") == "new_session":
                session = answer.new_session.initialize.session_id
            said += str(answer.delta)
            if answer.WhichOneof("type") == "script_finished":
                return session, said


def upload(client, session: str, content: bytes, name: str):
    token = client.cookies["_streamlit_xsrf"]
    return client.put(
        f"/_stcore/upload_file/{session}/{uuid.uuid4()}",
        files={"file": (name, content, "image/png")},
        headers={"X-Xsrftoken": token},
    )


def test_headers_and_the_way_to_tls(site):
    with site.client() as client:
        page = client.get("/")
        assert page.status_code == 200
        headers = page.headers
        assert headers["server"] == "nginx"  # neither a version nor the server behind it
        assert headers["strict-transport-security"] == "max-age=31536000"
        assert headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        cookie = headers["set-cookie"]
        assert re.search("mseenet_server=[0-9a-f]{32}; Path=/; Secure; HttpOnly; SameSite", cookie)
        assert client.get("/_stcore/metrics").status_code == 404
        assert client.get("/ready").status_code == 503  # there are no weights to load
        assert client.get("/", headers={"Host": "evil.example"}).status_code == 400
    moved = httpx.get(f"{site.plain}/model", follow_redirects=False)
    assert (moved.status_code, moved.headers["location"][:17]) == (301, "https://localhost")


def test_nobody_uploads_unsigned_and_logs_name_nothing(site):
    with site.client() as client:
        client.get("/_stcore/health")
        session, said = run_page(site, client)
        assert "Sign in to use this app" in said
        assert upload(client, session, b"x", "patient.png").status_code == 403
        too_large = upload(client, session, bytes(203 * 2**20), "patient.tif")
        assert too_large.status_code == 413
    # Nothing of them is on the proxy's disk or in its log of requests.
    kept = [p for p in site.folder.rglob("*") if p.is_file() and p.parent != site.folder]
    assert kept == []
    log = (site.folder / "access.log").read_text()
    assert " PUT /_stcore/upload_file 403 " in log
    assert session not in log
    assert "patient" not in log


def test_one_server_may_be_restarted(site):
    """Whoever was with it goes on with the other one; nobody sees an error."""

    def everybody_is_served() -> None:
        for _ in range(8):
            with site.client() as client:
                assert client.get("/").status_code == 200
                client.get("/_stcore/health").raise_for_status()
                assert "Sign in to use this app" in run_page(site, client)[1]

    site.second.close()
    everybody_is_served()
    site.start_second()
    everybody_is_served()

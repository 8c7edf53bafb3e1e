"""deploy/nginx.conf in a real nginx, in front of two real servers, with TLS and sign-in."""

import asyncio
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
from itertools import groupby
from pathlib import Path

import pytest
from conftest import ROOT, encode, run_async, sign_in_secrets, until
from loopback import Watched, served

from mseenet.imaging.synthetic import STYLES, render_field
from mseenet.ui.guard import READY
from tools.browser import CHROMIUM, free_port, running_app

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
websockets = pytest.importorskip("websockets")


@dataclass(frozen=True)
class Site:
    """A running nginx.

    Attributes:
        address: What people type.
        plain: The address without TLS.
        folder: Holds its certificate, logs and temporary files.
        servers: Ports of the two servers behind it.
        second: Stops the second of them.
        start_second: Starts it again.
        network: Of both.
    """

    address: str
    plain: str
    folder: Path
    servers: list[int]
    second: ExitStack
    start_second: Callable[[], None]
    network: Watched

    def client(self):
        trusted = ssl.create_default_context(cafile=self.folder / "certificate.pem")
        return httpx.Client(base_url=self.address, verify=trusted, timeout=60)

    def requests(self, agent: str) -> list[tuple[str, list[int], str]]:
        """What a browser of that name has asked: part, ports of the servers tried, status."""
        lines = (self.folder / "agents.log").read_text().splitlines()
        found = (line.split("|") for line in lines)
        return [
            (part, [int(address.rpartition(":")[2]) for address in tried.split(", ")], status)
            for name, part, tried, status in found
            if name == agent and tried != "-"
        ]


def adapted(folder: Path, secure: int, plain: int, servers: list[int]) -> str:
    """The configuration with this machine's ports and folders in the place of a container's."""
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    changes = {
        " /tmp/": f" {folder}/",
        "/etc/nginx/certificates/": f"{folder}/",
        "/dev/stdout part;": f"{folder}/access.log part;\n"
        "log_format agents '$http_user_agent|$logged_part|$upstream_addr|$status';\n"
        f"access_log {folder}/agents.log agents;",
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
        until(lambda: listens(secure), process)
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def site(provider, classifier, ungated_weights, tmp_path_factory) -> Iterator[Site]:
    """Two servers behind nginx and a sign-in; a service that both ask has their network."""
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
    network = Watched(classifier)
    with ExitStack() as first, ExitStack() as second:
        service = first.enter_context(served(network))

        def start(port: int, stack: ExitStack) -> None:
            environment = {"MSEENET_SERVER": service.url}
            server = running_app(ungated_weights, None, port, secrets, environment)
            url = stack.enter_context(server)
            deadline = time.monotonic() + 180
            while httpx.get(url + READY).status_code != 200:
                assert time.monotonic() < deadline
                time.sleep(0.05)

        start(servers[0], first)
        start(servers[1], second)
        first.enter_context(running_nginx(folder, secure))
        yield Site(
            *(address, f"http://localhost:{plain}", folder, servers, second),
            *(lambda: start(servers[1], second), network),
        )


def run_page(site: Site, client) -> tuple[str, str]:
    """Opens the page as a browser does; gives the session's id and all that the page says."""
    return run_async(_run_page(site, client))


async def _run_page(site: Site, client) -> tuple[str, str]:
    """The client with threads reads in one and writes in another, and Python before 3.13.1 loses
    what is written over TLS 1.3 while a ticket is read: one handshake in hundreds never ended."""
    from streamlit.proto.BackMsg_pb2 import BackMsg
    from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

    cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in client.cookies.jar)
    message = BackMsg()
    message.rerun_script.query_string = ""
    session, said = "", ""
    async with (
        asyncio.timeout(120),
        websockets.connect(
            site.address.replace("https", "wss") + "/_stcore/stream",
            ssl=ssl.create_default_context(cafile=site.folder / "certificate.pem"),
            origin=site.address,
            subprotocols=["streamlit", client.cookies.get("_streamlit_xsrf") or "none"],
            additional_headers={"Cookie": cookies},
            max_size=None,
        ) as stream,
    ):
        await stream.send(message.SerializeToString())
        while True:
            answer = ForwardMsg.FromString(await stream.recv())
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
        assert re.search(
            "mseenet_server=(first|second); Path=/; Secure; HttpOnly; SameSite", cookie
        )
        assert "mseenet_server" not in client.get("/").headers.get("set-cookie", "")
        assert client.get("/_stcore/metrics").status_code == 404
        assert client.get(READY).status_code == 200
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


def placed(site: Site, browser, port: int):
    """A browser's context whose server is the one at that port, and its name in the log."""
    for attempt in range(50):  # chance gives a browser a server
        agent = f"browser {attempt} for {port}"
        context = browser.new_context(
            ignore_https_errors=True, base_url=site.address, user_agent=agent
        )
        if not site.requests(agent):
            context.request.get("/_stcore/health")
            until(lambda agent=agent: site.requests(agent))  # logged after it was answered
            if site.requests(agent)[-1][1] == [port]:
                return context, agent
        context.close()
    raise AssertionError(f"nobody was given the server at port {port}")


def signed_in(context):
    """A page behind the sign-in."""
    page = context.new_page()
    page.set_default_timeout(180_000)  # of a busy machine; nothing waits that long
    page.goto("/")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("Signed in as user@example.org").wait_for()
    page.locator(".mseenet-steps").wait_for()
    return page


def add(page, contents: list[bytes]) -> None:
    page.locator("input[type=file]").first.set_input_files(
        [
            {"name": f"{i}.png", "mimeType": "image/png", "buffer": content}
            for i, content in enumerate(contents)
        ]
    )


def analysed(page, count: int) -> None:
    """Waits until so many fields are analysed, and can be taken away."""
    page.locator(".mseenet-tiles li", has_text=re.compile(f"^{count} ?fields analysed")).wait_for()
    page.get_by_role("heading", name="Take away").wait_for()
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()


def taken_away(page) -> int:
    """Rows of the table that the page lets a user take away."""
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV table").click()
    return len(download.value.path().read_text("utf-8-sig").splitlines()) - 1


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_session_stays_with_its_server_and_only_its_own_restart_ends_it(site, browser):
    sixty = [encode(render_field(STYLES[i % 2], i)) for i in range(60)]
    first, second = site.servers
    places = [placed(site, browser, port) for port in (first, second, second)]
    (staying, stayed), (going, gone), (asking, asked) = places
    stays, goes = signed_in(staying), signed_in(going)
    add(goes, sixty)
    analysed(goes, 60)
    site.network.free.clear()
    already = len(site.network.asked)
    add(stays, sixty)
    until(lambda: len(site.network.asked) > already)
    # The other server is started again while this case is being analysed.
    site.second.close()
    lost = goes.get_by_role("alert").filter(has_text="no longer has this case")
    lost.get_by_role("button", name="Begin anew").click()
    goes.get_by_text("Signed in as user@example.org").wait_for()
    goes.locator(".mseenet-steps").wait_for()
    site.start_second()
    site.network.free.set()
    analysed(stays, 60)
    assert taken_away(stays) == 60
    assert stays.locator(".mseenet-lost").count() == 0
    # Who went on with the first server stays there, also when nginx takes the other for alive.
    deadline = time.monotonic() + 180
    while asking.request.get("/_stcore/health") and site.requests(asked)[-1][1] != [second]:
        assert time.monotonic() < deadline
    add(goes, sixty[:3])
    analysed(goes, 3)
    assert taken_away(goes) == 3
    for context, _ in places:
        context.close()

    def streams(agent: str) -> int:
        return sum(part == "/_stcore/stream" for part, _, _ in site.requests(agent))

    until(lambda: streams(stayed) and streams(gone) >= 3)  # noted when they end
    for agent, expected in ((stayed, [first]), (gone, [second, first])):
        requests = site.requests(agent)
        parts = {part for part, _, _ in requests}
        assert {"/", "/_stcore/stream", "/_stcore/upload_file", "/media"} <= parts
        ports = [tried[-1] for _, tried, _ in requests]
        assert [port for port, _ in groupby(ports)] == expected
        assert not [request for request in requests if request[2].startswith("5")]


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

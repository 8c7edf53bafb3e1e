"""An S3 server on this machine's loopback: Moto's, which pyarrow's own client talks to over HTTP.

It is no part of the lock, as what it needs cannot be installed beside Streamlit's pandas. Tests find
it on the path, or by the variable `MSEENET_MOTO`; see CONTRIBUTING.md.
"""

import os
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from conftest import until

from tools.browser import free_port

BUCKET = "slides"

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}

SIGNED = {
    "Content-Type": "text/plain",
    "Authorization": "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=0",
}
"""Of the requests that fill the bucket; Moto looks at no signature until it is told to."""


@contextmanager
def served() -> Iterator[SimpleNamespace]:
    """Serves an empty bucket.

    Gives `environment`, by which pyarrow finds it; `put(key, content)` and `delete(key)`;
    `refuse()`, after which no key of access is right; and `stop()`.
    """
    program = shutil.which(os.environ.get("MSEENET_MOTO", "moto_server"))
    if program is None:
        pytest.skip("there is no moto_server; see CONTRIBUTING.md")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    # Python's own variables are those of the tests, not of the environment that Moto lies in.
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    server = subprocess.Popen(
        [program, "-H", "127.0.0.1", "-p", str(port)],
        env=own,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: _answers(f"{url}/moto-api/"), server)

        def ask(method: str, path: str, content: bytes = b"") -> None:
            request = urllib.request.Request(
                f"{url}/{urllib.parse.quote(path)}", content, SIGNED, method=method
            )
            urllib.request.urlopen(request).close()

        ask("PUT", BUCKET)

        def stop() -> None:
            server.kill()
            server.wait()

        yield SimpleNamespace(
            environment={"AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": "us-east-1", **KEYS},
            put=lambda key, content: ask("PUT", f"{BUCKET}/{key}", content),
            delete=lambda key: ask("DELETE", f"{BUCKET}/{key}"),
            refuse=lambda: ask("POST", "moto-api/reset-auth", b"0"),
            stop=stop,
        )
    finally:
        server.kill()
        server.wait()


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address).close()
    except OSError:
        return False
    return True

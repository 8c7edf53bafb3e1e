"""The network of a service (`mseenet serve`) in place of one in this process.

Files are decoded, squeezed and checked here, and answers are judged here, by the code that does so
with a network of one's own. Only the network itself is elsewhere: the squeezed pixels go there, as
they are, and its outputs come back as float32. So an answer has the same bits, a file that cannot be
read has the same error, and neither files nor their names leave this process.

Bodies are plain arrays in the order of their axes. A request holds uint8 (N, 224, 224, 3). Outputs
are little-endian float32 (N, C + 2), or (N, C + 2 + 224 * 224) with heatmaps: for each field the
probabilities, the novelty, the logarithm of the size and the heatmap, as in `classifier.Outputs`.
For site profiles there are the last layer, (F + 1, C), its bias last, and the features of fields,
(N, D + F + C): `frozen`, `pooled` and `logits` of `classifier.Observed`.
"""

import http.client
import json
import os
import ssl
import time
import urllib.parse
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np

from mseenet import __version__
from mseenet.config import CLASS_NAMES, FIELD_BYTES, IMAGE_SIZE
from mseenet.errors import MSEENetError, shown
from mseenet.inference.card import DEFAULT_WEIGHTS, Card, read_card
from mseenet.inference.classifier import Classifier, Observed, Outputs
from mseenet.inference.profile import SiteProfile
from mseenet.inference.scale import read_reference

SERVER_VARIABLE = "MSEENET_SERVER"
"""Environment variable with the address of a service that page and `predict` use."""

TOKEN_VARIABLE = "MSEENET_SERVER_TOKEN"
"""Environment variable with the bearer token for that service."""

MOST_FIELDS = 32
"""Fields in a request, at most."""

CONNECTING, ANSWERING = 10.0, 120.0
"""Seconds in which a service has to accept a connection, and then to answer: in its line may be
hundreds of images."""

PATIENCE = 60.0
"""Seconds for which a service that is lost, or has not loaded its network, is asked again."""

BUSY_PATIENCE = 600.0
"""The same for one that says that it is busy."""

FIRST_PAUSE, LONGEST_PAUSE = 0.25, 8.0
"""Seconds between attempts where the service names none; each pause is twice the one before."""

LARGEST_ANSWER = 2**16
"""Bytes of an answer that holds no outputs."""


class ServerError(MSEENetError):
    """A service cannot be used as the network; the message says why."""


class _PassingError(ServerError):
    """A service cannot answer now and may be able to later.

    Attributes:
        trouble: Why not, in words.
        patience: Seconds for which it makes sense to ask again.
        pause: Seconds after which to do so, if the service said so.
    """

    def __init__(self, server: "Server", trouble: str, patience: float, pause: float | None = None):
        super().__init__(f"{server}: {trouble}")
        self.trouble = trouble
        self.patience = patience
        self.pause = pause


@dataclass(frozen=True)
class Server:
    """Where a service is.

    Attributes:
        secure: Whether it speaks TLS.
        host: Its name or IP address.
        port: And its port; None for the usual one.
        path: What stands before `/v1`; empty or with a leading slash.
        token: Bearer token; empty for none.
    """

    secure: bool
    host: str
    port: int | None
    path: str = ""
    token: str = field(default="", repr=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port is None else f":{self.port}"
        return f"http{'s' * self.secure}://{host}{port}{self.path}"


def chosen_server(environment: Mapping[str, str] = os.environ) -> Server | None:
    """The service that `SERVER_VARIABLE` names; None if it names none.

    Raises:
        ServerError: Address or token are none.
    """
    text = environment.get(SERVER_VARIABLE, "").strip()
    if not text:
        return None
    token = environment.get(TOKEN_VARIABLE, "").strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ServerError(f"{TOKEN_VARIABLE}: expected a token of ASCII characters without spaces")
    try:
        parts = urllib.parse.urlsplit(text)
        port = parts.port
    except ValueError:
        parts, port = urllib.parse.SplitResult("", "", "", "", ""), None
    # What may be a password is not repeated.
    received = "a name or password in it" if "@" in text else shown(text)
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or "@" in parts.netloc
        or parts.query
        or parts.fragment
        or not text.isascii()
        or not text.isprintable()
        or " " in text
    ):
        raise ServerError(
            f"{SERVER_VARIABLE}: expected an address such as https://smears.example.org or "
            f"http://127.0.0.1:8000, received {received}"
        )
    return Server(parts.scheme == "https", parts.hostname, port, parts.path.rstrip("/"), token)


def fields_of(content: bytes) -> np.ndarray:
    """The fields of a request.

    Args:
        content: Its body.

    Returns:
        Read-only RGB pixels, uint8 (N, 224, 224, 3) in [0, 255].

    Raises:
        ValueError: It is not of 1 to `MOST_FIELDS` fields.
    """
    count, rest = divmod(len(content), FIELD_BYTES)
    if rest or not 1 <= count <= MOST_FIELDS:
        raise ValueError(
            f"expected 1 to {MOST_FIELDS} fields of {FIELD_BYTES:,} bytes, RGB pixels of "
            f"{IMAGE_SIZE} x {IMAGE_SIZE}; received {len(content):,} bytes"
        )
    return np.frombuffer(content, np.uint8).reshape(count, IMAGE_SIZE, IMAGE_SIZE, 3)


def packed(outputs: Outputs) -> bytes:
    """Outputs as the body of an answer, without loss."""
    columns = [outputs.probabilities, outputs.novelties[:, None], outputs.sizes[:, None]]
    if outputs.heatmaps is not None:
        columns.append(outputs.heatmaps.reshape(len(outputs.heatmaps), -1))
    return packed_array(np.concatenate(columns, axis=1))


def packed_array(values: np.ndarray) -> bytes:
    """A float32 array as the body of an answer, without loss."""
    return np.ascontiguousarray(values, "<f4").tobytes()


def unpacked(content: bytes, count: int, heatmaps: bool) -> Outputs:
    """The outputs in the body of an answer.

    Args:
        content: The body.
        count: How many fields were sent.
        heatmaps: Whether heatmaps were asked for.

    Raises:
        ValueError: It holds others.
    """
    classes = len(CLASS_NAMES)
    values = _array(content, count, _width(heatmaps))
    heat = values[:, classes + 2 :].reshape(count, IMAGE_SIZE, IMAGE_SIZE) if heatmaps else None
    return Outputs(values[:, :classes], values[:, classes], values[:, classes + 1], heat)


def _width(heatmaps: bool) -> int:
    """Numbers for each field in an answer."""
    return len(CLASS_NAMES) + 2 + heatmaps * IMAGE_SIZE * IMAGE_SIZE


def _array(content: bytes, rows: int, columns: int) -> np.ndarray:
    expected = 4 * rows * columns
    if len(content) != expected:
        raise ValueError(f"expected {expected:,} bytes, received {len(content):,}")
    return np.frombuffer(content, "<f4").reshape(rows, columns).astype(np.float32)


class RemoteClassifier(Classifier):
    """A classifier whose network a service holds; made by `connect`.

    Several threads may use one. A service that is lost, starting or busy is asked again for some
    time, as it says or in growing pauses; what an answer waits for meanwhile is in `trouble`.
    """

    def __init__(self, card: Card, line: "_Line", device: str, tells_size: bool):
        self.card = card
        self.device = device
        self._line = line
        self._change = None
        self._sizes = read_reference() if tells_size else None

    @classmethod
    def connect(
        cls,
        server: Server,
        weights: str | os.PathLike = DEFAULT_WEIGHTS,
        profile: SiteProfile | None = None,
    ) -> "RemoteClassifier":
        """Makes sure that a service has the network that the weights here are.

        A service that is not there is not asked twice; one that loads its network is waited for.

        Args:
            server: Where it is.
            weights: Folder with the card, by which answers are judged, and the files it names.
            profile: Has to be None.

        Raises:
            WeightsError: Card or weights are missing, altered or for another version.
            ServerError: There is no service, it has another version or network, it does not let
                this program in, or a profile is to be used.
        """
        if profile is not None:
            raise ServerError(
                f"{SERVER_VARIABLE}: expected no site profile, as a service answers with its "
                f"weights as they are; received profile {profile.title}"
            )
        card = read_card(Path(weights))
        line = _Line(server, card.release)
        about = _object(line.ask("GET", "/v1/network", lost_patience=0.0))
        if not about:
            raise ServerError(f"{server}: expected the interface of `mseenet serve` there")
        for name, own in (
            ("version", __version__),
            ("release", card.release),
            ("weights", card.sha256),
        ):
            if about.get(name) != own:
                raise ServerError(
                    f"{server}: expected a service of {name} {own:.12}, as here; it has "
                    f"{about.get(name)!s:.12}"
                )
        device = f"{about.get('device')!s:.80}, by a service"
        return cls(card, line, device, about.get("tells_size") is True)

    @property
    def trouble(self) -> str:
        return self._line.trouble

    def outputs(
        self, fields: np.ndarray, heatmaps: str | None = None, filled: bool = False
    ) -> Outputs:
        """As `Classifier.outputs`; more than `MOST_FIELDS` go in several requests.

        Raises:
            ServerError: The service does not answer.
        """
        query = {"filled": str(filled).lower()} | ({"heatmaps": heatmaps} if heatmaps else {})
        answers = []
        for start in range(0, len(fields), MOST_FIELDS):
            part = fields[start : start + MOST_FIELDS]
            size = 4 * len(part) * _width(heatmaps is not None)
            answers.append(self._line.ask("POST", "/v1/network/outputs", query, part, size))
        return unpacked(b"".join(answers), len(fields), heatmaps is not None)

    def warm_up(self) -> None:
        """Does nothing: what is compiled is the service's."""

    def observe(self, fields: np.ndarray) -> Observed:
        """As `Classifier.observe`, of `MOST_FIELDS` fields at most.

        Raises:
            ServerError: The service does not answer.
        """
        if self.card.novelty is None:
            raise ServerError(f"{self._line.server}: expected weights with a novelty gate")
        widths = [self.card.novelty.reference.means.shape[1], *self._layer[0].shape]
        size = 4 * len(fields) * sum(widths)
        content = self._line.ask("POST", "/v1/network/features", {}, fields, size)
        frozen, pooled, logits = np.split(
            _array(content, len(fields), sum(widths)), np.cumsum(widths)[:2], axis=1
        )
        sizes = None if self._sizes is None else self._sizes.logarithms(frozen)
        return Observed(frozen, pooled, logits, sizes)

    def last_layer(self) -> tuple[np.ndarray, np.ndarray]:
        """As `Classifier.last_layer`.

        Raises:
            ServerError: The service does not answer.
        """
        return self._layer

    @cached_property
    def _layer(self) -> tuple[np.ndarray, np.ndarray]:
        content = self._line.ask("GET", "/v1/network/layer", {})
        rows = len(content) // (4 * len(CLASS_NAMES))
        try:
            layer = _array(content, rows, len(CLASS_NAMES))
        except ValueError as error:
            raise ServerError(f"{self._line.server}: expected a last layer ({error})") from error
        return layer[:-1], layer[-1]

    def _heatmap(self, pixels: np.ndarray, class_name: str, method: str) -> np.ndarray:
        query = {"class": class_name, "method": method}
        size = 4 * IMAGE_SIZE * IMAGE_SIZE
        content = self._line.ask("POST", "/v1/network/heatmap", query, pixels, size)
        return _array(content, IMAGE_SIZE, IMAGE_SIZE)


class _Line:
    """Asks one service. Each request has a connection of its own, so that none can be stale.

    Args:
        server: The service.
        release: That it has to have, each time anew: it may have been replaced meanwhile.

    Attributes:
        trouble: Why the last attempt of a request that goes on had no answer; else empty.
    """

    def __init__(self, server: Server, release: str):
        self.server = server
        self.trouble = ""
        self._release = release
        # Reads SSL_CERT_FILE and SSL_CERT_DIR.
        self._trusted = ssl.create_default_context() if server.secure else None

    def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        pixels: np.ndarray | None = None,
        expected: int | None = None,
        lost_patience: float | None = None,
    ) -> bytes:
        """The body of the answer to a request, which is sent again where that may help.

        Args:
            method: Of HTTP.
            path: From `/v1` on.
            query: Of the address; None for a request that is not for a certain release.
            pixels: The body, or None.
            expected: Bytes that the answer has to have; None for at most `LARGEST_ANSWER`.
            lost_patience: Seconds in which to ask again if nothing answers; None for `PATIENCE`.

        Raises:
            ServerError: There is no such answer.
        """
        target = self.server.path + path
        if query is not None:
            target += f"?{urllib.parse.urlencode({**query, 'release': self._release})}"
        body = None if pixels is None else np.ascontiguousarray(pixels).tobytes()
        lost_patience = PATIENCE if lost_patience is None else lost_patience
        begun, pause = time.monotonic(), FIRST_PAUSE
        try:
            while True:
                try:
                    return self._once(method, target, body, expected, lost_patience)
                except _PassingError as error:
                    wait = pause if error.pause is None else error.pause
                    if time.monotonic() - begun + wait > error.patience:
                        raise ServerError(str(error)) from error
                    self.trouble = error.trouble
                    time.sleep(wait)
                    pause = min(2 * pause, LONGEST_PAUSE)
        finally:
            self.trouble = ""

    def _once(
        self,
        method: str,
        target: str,
        body: bytes | None,
        expected: int | None,
        lost_patience: float,
    ) -> bytes:
        most = LARGEST_ANSWER if expected is None else expected
        headers = {"Content-Type": "application/octet-stream"} if body is not None else {}
        if self.server.token:
            headers["Authorization"] = f"Bearer {self.server.token}"
        connection = self._connection()
        try:
            connection.connect()
            connection.sock.settimeout(ANSWERING)
            # A service that refuses before it has read the body may have said so all the same.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, target, body, headers)
            answer = connection.getresponse()
            content = answer.read(max(most, LARGEST_ANSWER) + 1)
        except ssl.SSLCertVerificationError as error:
            raise ServerError(
                f"{self.server}: expected a certificate that is trusted here "
                f"({error.verify_message}); SSL_CERT_FILE names those of other authorities"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
                raise ServerError(f"{self.server}: expected TLS there ({error.reason})") from error
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise _PassingError(
                self.server, f"the service does not answer ({reason})", lost_patience
            ) from error
        finally:
            connection.close()
        if answer.status == HTTPStatus.OK:
            if len(content) > most or (expected is not None and len(content) != expected):
                raise ServerError(
                    f"{self.server}: expected an answer of {most:,} bytes, received "
                    f"{len(content):,}; is it a service of this version?"
                )
            return content
        raise self._refusal(answer, content)

    def _connection(self) -> http.client.HTTPConnection:
        # Variables such as HTTPS_PROXY have no effect on these.
        if self._trusted is None:
            return http.client.HTTPConnection(
                self.server.host, self.server.port, timeout=CONNECTING
            )
        return http.client.HTTPSConnection(
            self.server.host, self.server.port, timeout=CONNECTING, context=self._trusted
        )

    def _refusal(self, answer: http.client.HTTPResponse, content: bytes) -> ServerError:
        detail = shown(_object(content).get("detail", answer.reason))
        after = answer.headers.get("Retry-After", "")
        pause = float(after) if after.isascii() and after.isdigit() else None
        status = answer.status
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            return _PassingError(
                self.server, f"the service is busy ({detail})", BUSY_PATIENCE, pause
            )
        if status in (502, 503, 504):
            return _PassingError(
                self.server, f"the service is not ready ({detail})", PATIENCE, pause
            )
        if status == HTTPStatus.UNAUTHORIZED:
            return ServerError(
                f"{self.server}: expected a token that the service knows in {TOKEN_VARIABLE}"
            )
        if status == HTTPStatus.CONFLICT:
            return ServerError(f"{self.server}: the service has another network now ({detail})")
        return ServerError(
            f"{self.server}: expected a service of MSEENet {__version__}, got status {status} "
            f"({detail})"
        )


def _object(content: bytes) -> dict[str, Any]:
    """The JSON object in an answer; empty if there is none."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}

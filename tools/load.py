"""What many users of one server wait for: real sessions, over HTTP and WebSockets.

Each session does what a browser does, but for drawing: it loads the page, sends its images as one
bundle, and takes all that the server sends until every field has its result.
"""

import asyncio
import json
import os
import re
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import websockets
from PIL import Image
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from mseenet.case.limits import VARIABLES
from mseenet.case.pictures import encoded
from mseenet.imaging.synthetic import STYLES, render_field
from mseenet.inference.classifier import Classifier
from mseenet.inference.scheduler import Scheduler
from mseenet.ui.bundle import MAGIC
from tools.browser import free_port, running_app

USERS, FIELDS = 20, 10

RUNNING = 16
"""Cases that the server analyses at once here, so that some of the users wait in line."""

LARGE = 400
"""Fields of the large case; as large as 2,000 it would only take longer."""

LONGEST_MESSAGE = 2**28


def time_load(classifier: Classifier) -> None:
    """Prints what users of one server wait for, as ratios of one run.

    Args:
        classifier: For the network's own time.
    """
    images = _images(max(USERS * FIELDS, LARGE))
    _print_network(classifier, images[: USERS * FIELDS])
    port = free_port()
    environment = {VARIABLES["analyses"][0]: str(RUNNING)}
    with running_app(port=port, environment=environment) as url:
        asyncio.run(_time_sessions(url, _Process(port), images))


def _images(count: int) -> list[bytes]:
    """Rendered fields as JPEG, all different."""
    rendered = [render_field(STYLES[1], seed=i) for i in range(20)]
    shifted = (np.roll(rendered[i % 20], 5 * (i // 20), axis=1) for i in range(count))
    return [encoded(Image.fromarray(pixels), "JPEG", quality=95) for pixels in shifted]


class _Timed:
    """A classifier that counts its batches and the processor's time in them."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self.read = classifier.read
        self.batches, self.rows, self.seconds = 0, 0, 0.0

    def answers(self, images: Sequence) -> list:
        start = time.perf_counter()
        found = self.classifier.answers(images)
        self.seconds += time.perf_counter() - start
        self.batches += 1
        self.rows += len(images)
        return found


def _print_network(classifier: Classifier, images: list[bytes]) -> None:
    """The network's own time for many small cases against one large one, through the scheduler."""
    classifier.predict(images[:FIELDS], "predicted", filled=True)
    results = {}
    for name, cases in (
        (f"1 case of {len(images)}", [images]),
        (f"{USERS} cases of {FIELDS}", [images[i::USERS] for i in range(USERS)]),
    ):
        timed = _Timed(classifier)
        scheduler = Scheduler(timed)  # type: ignore[arg-type]
        jobs = [
            scheduler.submit(number, enumerate(case), lambda *_: None)
            for number, case in enumerate(cases)
        ]
        for job in jobs:
            job.wait()
        results[name] = timed
    one = next(iter(results.values()))
    print("the network's own time, through the scheduler")
    for name, timed in results.items():
        print(
            f"  {name:<18}{timed.seconds:>7.2f} s {timed.seconds / one.seconds:>6.2f} x"
            f"{timed.batches:>5} batches {timed.batches / one.batches:>6.2f} x"
        )


@dataclass
class _Session:
    """A user's session, as a browser has it.

    Attributes:
        url: Of the server.
        socket: The WebSocket.
        uploader: Streamlit's name of the widget that takes files.
        name: Of the session.
        mark: By which the page says that it is closed.
        seconds: From the choice of the files to all results.
        in_line: Whether the page said that others were before it.
    """

    url: str
    socket: Any = None
    uploader: str = ""
    name: str = ""
    mark: str = ""
    seconds: float = 0.0
    in_line: bool = False
    counted: int = field(default=0)

    async def open(self) -> None:
        """Loads the page."""
        stream = self.url.replace("http", "ws", 1) + "/_stcore/stream"
        self.socket = await websockets.connect(
            stream, subprotocols=["streamlit"], max_size=LONGEST_MESSAGE, ping_interval=None
        )
        await self.run({})

    async def run(self, state: dict) -> None:
        """Lets the server draw the page, with the files of `state` if there are any."""
        message = BackMsg()
        message.rerun_script.query_string = ""
        if state:
            widget = message.rerun_script.widget_states.widgets.add()
            widget.id = self.uploader
            widget.file_uploader_state_value.uploaded_file_info.add(**state)
        await self.socket.send(message.SerializeToString())
        while not await self._finished():
            pass

    async def _finished(self) -> bool:
        """Takes one message; says whether it is the end of a run that no other one follows."""
        message = ForwardMsg()
        message.ParseFromString(await self.socket.recv())
        kind = message.WhichOneof("type")
        if kind == "new_session":
            self.name = message.new_session.initialize.session_id or self.name
        if kind == "delta":
            self._look(message.delta.new_element)
        return kind == "script_finished" and message.script_finished in (0, 1)

    def _look(self, element: Any) -> None:
        kind = element.WhichOneof("type")
        if kind == "file_uploader":
            self.uploader = element.file_uploader.id
        elif kind == "progress":
            self.in_line |= "in line before" in element.progress.text
        elif kind == "html":
            body = element.html.body
            if found := re.search(r'data-mark="([^"]+)"', body):
                self.mark = found[1]
            if found := re.search(r"<b>([\d,]+)</b><span>fields? analysed", body):
                self.counted = int(found[1].replace(",", ""))

    async def analyse(self, images: list[bytes]) -> "_Session":
        """Sends images and waits for all results."""
        start = time.perf_counter()
        head = [
            {"name": f"{i}.jpg", "size": len(x), "left_out": None} for i, x in enumerate(images)
        ]
        bundle = MAGIC + json.dumps(head).encode() + b"\n" + b"".join(images)
        state = await self._upload(bundle)
        await self.run(state)
        while self.counted < len(images):
            await self._finished()
        self.seconds = time.perf_counter() - start
        return self

    async def _upload(self, bundle: bytes) -> dict:
        ask = BackMsg()
        ask.file_urls_request.request_id = "files"
        ask.file_urls_request.file_names.append("bundle")
        ask.file_urls_request.session_id = self.name
        await self.socket.send(ask.SerializeToString())
        message = ForwardMsg()
        while message.WhichOneof("type") != "file_urls_response":
            message.ParseFromString(await self.socket.recv())
        urls = message.file_urls_response.file_urls[0]
        await asyncio.to_thread(_put, self.url + urls.upload_url, bundle)
        return {"file_id": urls.file_id, "file_urls": urls, "name": "bundle", "size": len(bundle)}

    async def close(self) -> None:
        """Closes the page, as a browser says it."""
        path = f"{self.url}/_stcore/mseenet/closed/{self.mark}"
        await asyncio.to_thread(urllib.request.urlopen, urllib.request.Request(path, method="POST"))
        await self.socket.close()


def _put(address: str, content: bytes) -> None:
    """Uploads as the page does, with the server's token against requests of other sites."""
    base = address.partition("/_stcore")[0]
    with urllib.request.urlopen(f"{base}/_stcore/health") as answer:
        cookie = str(answer.headers["set-cookie"] or "").partition(";")[0]
    edge = b"----mseenet"
    head = b'Content-Disposition: form-data; name="file"; filename="bundle"\r\n'
    body = b"--" + edge + b"\r\n" + head + b"\r\n" + content + b"\r\n--" + edge + b"--\r\n"
    headers = {
        "Content-Type": f"multipart/form-data; boundary={edge.decode()}",
        "Cookie": cookie,
        "X-Xsrftoken": cookie.partition("=")[2].strip('"'),
    }
    urllib.request.urlopen(urllib.request.Request(address, body, headers, method="PUT")).close()


class _Process:
    """The server's process, as the system sees it; nothing is known of it but on Linux."""

    def __init__(self, port: int) -> None:
        self._folder = next(
            (
                entry.path
                for entry in os.scandir("/proc")
                if entry.name.isdigit() and _listens(entry.path, str(port))
            ),
            None,
        )

    def memory(self, name: str = "VmRSS") -> float:
        """In MiB; `VmHWM` is the largest so far."""
        with open(f"{self._folder}/status", encoding="utf-8") as status:
            return int(next(line for line in status if line.startswith(name)).split()[1]) / 1024

    def seconds(self) -> float:
        """Of the processor, so far."""
        with open(f"{self._folder}/stat", encoding="utf-8") as stat:
            values = stat.read().rpartition(")")[2].split()
        return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


def _listens(folder: str, port: str) -> bool:
    try:
        with open(f"{folder}/cmdline", "rb") as line:
            return f"--server.port\0{port}".encode() in line.read()
    except OSError:
        return False


async def _opened(url: str, count: int) -> list[_Session]:
    sessions = [_Session(url) for _ in range(count)]
    await asyncio.gather(*(session.open() for session in sessions))
    return sessions


async def _closed(sessions: Sequence[_Session]) -> None:
    await asyncio.gather(*(session.close() for session in sessions))


async def _time_sessions(url: str, process: _Process, images: list[bytes]) -> None:
    first = await _opened(url, 1)  # only warms the server up
    await first[0].analyse(images[:FIELDS])
    await asyncio.sleep(20)  # the other heatmap methods are compiled meanwhile
    await _closed(first)
    before = process.memory()

    async def alone(part: slice) -> float:
        (session,) = await _opened(url, 1)
        await session.analyse(images[part])
        await _closed([session])
        return session.seconds

    singles = [await alone(slice(i * FIELDS, (i + 1) * FIELDS)) for i in range(3)]
    single = sorted(singles)[1]
    sessions = await _opened(url, USERS)
    busy = process.seconds()
    cases = [images[i * FIELDS : (i + 1) * FIELDS] for i in range(USERS)]
    await asyncio.gather(
        *(session.analyse(case) for session, case in zip(sessions, cases, strict=True))
    )
    busy = process.seconds() - busy
    waits = sorted(session.seconds for session in sessions)
    peak, held = process.memory("VmHWM"), process.memory()
    drawing = process.seconds()
    await sessions[0].run({})
    drawing = process.seconds() - drawing
    in_line = sum(session.in_line for session in sessions)
    await _closed(sessions)
    print(f"{USERS} users with {FIELDS} fields each, at the same time, against one alone")
    print(f"  alone: {single:.2f} s ({min(singles):.2f} to {max(singles):.2f})")
    for name, value in (("first", waits[0]), ("middle", waits[USERS // 2]), ("slowest", waits[-1])):
        print(f"  {name:<8}{value:>7.2f} s {value / single:>6.2f} x")
    print(f"  {in_line} of them were told that others were before them ({RUNNING} run at once)")
    print(
        f"  processor of the server: {busy:.1f} s, of which {USERS} times the drawing of a page "
        f"with results {USERS * drawing:.1f} s"
    )
    large, small = await _opened(url, 2)
    analysis = asyncio.create_task(large.analyse(images[:LARGE]))
    while large.counted == 0:
        await asyncio.sleep(0.05)
    await small.analyse(images[-FIELDS:])
    beside = large.counted
    await analysis
    await _closed([large, small])
    print(
        f"{FIELDS} fields beside a running case of {LARGE}: {small.seconds:.2f} s, "
        f"{small.seconds / single:.2f} x alone (at its end the page of the large case counted {beside})"
    )
    await asyncio.sleep(2)
    print(
        f"memory: {before:.0f} MiB before, {peak:.0f} at the peak, {held:.0f} with {USERS} cases "
        f"open, {process.memory():.0f} after all were closed"
    )

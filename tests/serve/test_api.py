"""What the interface does before it asks a network; no service is started."""

import asyncio
import io
import zipfile

import pytest
from conftest import run_async
from starlette.requests import Request

from mseenet.case.archive import ArchiveError
from mseenet.case.fields import HIDDEN
from mseenet.case.limits import MEGABYTE, Limits
from mseenet.serve import api


def announced(size: int, *pieces: bytes) -> Request:
    """A request that says it is so large, and sends nothing more after these pieces."""
    waiting = list(pieces)

    async def receive():
        if not waiting:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": waiting.pop(0), "more_body": True}

    headers = [(b"content-length", b"%d" % size)]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


def test_what_does_not_come_holds_no_memory_for_ever(monkeypatch):
    monkeypatch.setattr(api, "UNHURRIED", 0.05)
    desk = api.Desk(api.Service("ab", "cd", Limits(), queue=64, tokens=(), replicas=1), None)

    async def read() -> bytes:
        async with desk.content(announced(1000, b"x" * 999)) as body:
            return body

    with pytest.raises(api.RefusedError, match="1 MB a second") as refusal:
        run_async(read())
    assert refusal.value.status == 408
    assert desk._held == 0


def test_one_request_unpacks_no_more_than_a_case_holds():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(5):
            archive.writestr(f"{i}.png", bytes(MEGABYTE))
    limits = Limits(case=2 * MEGABYTE)
    results = []
    for _, read in api._images("a.zip", buffer.getvalue(), limits):
        try:
            results.append(len(read()))
        except ArchiveError as error:
            results.append(str(error))
    refused = "expected at most 2 MB unpacked in one request"
    assert results == [MEGABYTE] * 2 + [refused] * 3


def test_hidden_names_of_a_zip_are_told():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("a.png", ".b.png", "__MACOSX/._a.png", ".x/c.png"):
            archive.writestr(name, b"1")
    (_, read), *left_out = api._images("a.zip", buffer.getvalue(), Limits())
    assert read() == b"1"
    assert [name for name, _ in left_out] == ["a.zip/.b.png", "a.zip/.x/c.png"]
    for _, refuse in left_out:
        with pytest.raises(ArchiveError, match=HIDDEN):
            refuse()
    with pytest.raises(api.RefusedError, match="at most 2 images, got 3"):
        api._images("a.zip", buffer.getvalue(), Limits(fields=2))

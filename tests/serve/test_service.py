"""The service: a real server process, real requests, and replicas that are killed."""

import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, ancestors, encode, until
from PIL import Image

pytest.importorskip("ray.serve", reason="the extra `serve` is not installed")
pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

from mseenet.case.records import record
from mseenet.inference.heatmaps import is_overlay

pytestmark = pytest.mark.slow

TOKEN = "t" * 32
QUEUE = 24


class Service:
    """The running server, and what asks it."""

    def __init__(self, port: int, process: subprocess.Popen):
        self.port = port
        self.process = process

    def ask(self, method: str, path: str, body: bytes | None = None, token: str | None = TOKEN):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.headers), answer.read()
        finally:
            connection.close()

    def records(self, body: bytes, query: str = "") -> list[dict]:
        status, headers, lines = self.ask("POST", f"/v1/predictions{query}", body)
        assert (status, headers["content-type"]) == (200, "application/x-ndjson"), lines
        return [json.loads(line) for line in lines.splitlines()]


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    tokens = tmp_path_factory.mktemp("serve") / "tokens"
    tokens.write_text(TOKEN)
    command = [sys.executable, "-m", "mseenet", "serve", "--port", port, "--tokens", tokens]
    process = subprocess.Popen(
        [*map(str, command), "--queue", str(QUEUE)],
        cwd=ROOT,
        env=os.environ | {"MSEENET_LARGEST_FILE_MB": "2"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr.readline() == f"serving http://127.0.0.1:{port}/v1\n"
        yield Service(port, process)
    finally:
        process.terminate()
        rest = process.communicate()[1]
    assert (process.returncode, rest) == (143, "ended by SIGTERM\n")


@pytest.fixture(scope="module")
def images(fields) -> list[bytes]:
    return [encode(field) for field in fields]


def zip_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_health_and_readiness_need_no_token(service, gated_classifier):
    assert service.ask("GET", "/v1/health", token=None)[0] == 200
    status, _, body = service.ask("GET", "/v1/ready", token=None)
    card = gated_classifier.card
    assert (status, json.loads(body)) == (
        200,
        {"status": "ready", "weights": card.sha256, "release": card.release},
    )


def test_records_are_those_of_predict(service, images, foreign, gated_classifier):
    files = {f"s1/{i}.png": image for i, image in enumerate(images)}
    files |= {"s2/text.png": b"text", "s2/foreign.png": encode(foreign)}
    for query, include in (("?name=case.zip", False), ("?name=case.zip&include_rejected=1", True)):
        answers = service.records(zip_of(files), query)
        card = gated_classifier.card
        wanted = gated_classifier.predict(files.values(), include_rejected=include)
        for answer, name, prediction in zip(answers, files, wanted, strict=True):
            slide = "case/" + name.split("/")[0]
            expected = record(f"case.zip/{name}", prediction, card.sha256, card.release, slide)
            assert list(answer) == list(expected)
            for key in ("confidence", "novelty"):
                assert answer.pop(key) == pytest.approx(expected.pop(key), abs=1e-5)
            assert (answer.pop("probabilities") or {}) == pytest.approx(
                expected.pop("probabilities") or {}, abs=1e-5
            )
            assert answer == expected
    (single,) = service.records(images[0], "?name=a.png")
    assert (single["file"], single["slide"]) == ("a.png", None)


def test_predict_with_the_service_says_and_draws_what_it_does_alone(
    service, images, foreign, tmp_path
):
    case = tmp_path / "case"
    case.mkdir()
    for i, image in enumerate([*images, b"text", encode(foreign)]):
        (case / f"{i}.png").write_bytes(image)

    def predicted(name: str, **environment: str) -> dict[str, bytes]:
        maps, options = tmp_path / name, ["--format", "json", "--include-rejected"]
        done = subprocess.run(
            [sys.executable, "-m", "mseenet", "predict", case, *options, "--heatmaps", maps],
            cwd=ROOT,
            env=os.environ | environment,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 1, done.stderr
        return {"": done.stdout} | {path.name: path.read_bytes() for path in maps.iterdir()}

    # With as many threads as the replica has: else bits differ in the seventh digit.
    alone = predicted("alone", TF_NUM_INTRAOP_THREADS="1")
    address = f"http://127.0.0.1:{service.port}"
    lent = predicted("lent", MSEENET_SERVER=address, MSEENET_SERVER_TOKEN=TOKEN)
    assert len(alone) == 6
    assert lent == alone


def test_heatmap_and_outlines(service, images, gated_classifier, tmp_path):
    query = "?include_rejected=1"
    status, headers, png = service.ask("POST", f"/v1/heatmaps{query}&class=Pro-B", images[0])
    assert (status, headers["content-type"]) == (200, "image/png")
    (tmp_path / "a.png").write_bytes(png)
    assert is_overlay(tmp_path / "a.png")
    assert np.asarray(Image.open(io.BytesIO(png))).shape == (224, 224, 3)

    status, headers, body = service.ask("POST", f"/v1/nuclei{query}", images[0])
    assert (status, headers["content-type"]) == (200, "application/geo+json")
    outlines = json.loads(body)
    assert outlines["type"] == "FeatureCollection"
    (prediction,) = gated_classifier.predict([images[0]], include_rejected=True)
    assert len(outlines["features"]) >= prediction.nucleated_cells > 0
    for feature in outlines["features"]:
        (ring,) = feature["geometry"]["coordinates"]
        assert ring[0] == ring[-1]
        assert all(0 <= value <= 224 for point in ring for value in point)
        assert feature["properties"]["class"] == prediction.class_name

    for path in ("heatmaps", "nuclei"):
        status, _, body = service.ask("POST", f"/v1/{path}", b"text")
        assert (status, "expected an image" in json.loads(body)["detail"]) == (422, True)


@pytest.mark.parametrize("path", ["predictions", "heatmaps", "nuclei"])
def test_refusals(service, images, path):
    for token in (None, "wrong" * 8):
        status, headers, _ = service.ask("POST", f"/v1/{path}", images[0], token)
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
    status, _, body = service.ask("POST", f"/v1/{path}", bytes(2**21 + 1))
    assert (status, json.loads(body)) == (413, {"detail": "expected at most 2 MB"})
    assert service.ask("POST", f"/v1/{path}", b"")[0] == 422
    assert service.ask("POST", f"/v1/{path}?include_rejected=perhaps", images[0])[0] == 422


def test_what_is_too_much_is_told_when_to_come_again(service, images):
    """Each request holds more than half of what may wait."""
    body = zip_of({f"{i}.png": images[i % 4] for i in range(QUEUE // 2 + 1)})
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda _: service.ask("POST", "/v1/predictions?name=a.zip", body), range(8))
        )
    statuses = [status for status, _, _ in answers]
    assert set(statuses) == {200, 429}
    for status, headers, lines in answers:
        if status == 429:
            assert int(headers["retry-after"]) >= 1
        else:
            assert len(lines.splitlines()) == QUEUE // 2 + 1


@pytest.mark.cluster
def test_a_killed_replica_loses_no_request(service, images):
    with ThreadPoolExecutor(4) as pool:
        body = zip_of({f"{i}.png": images[i % 4] for i in range(6)})
        asked = [pool.submit(service.records, body, "?name=a.zip") for _ in range(4)]
        os.kill(replica_of(service.process.pid), signal.SIGKILL)
        found = [job.result() for job in asked]
    assert [len(records) for records in found] == [6] * 4
    assert all(r["status"] != "error" for records in found for r in records)


def test_metrics_count(service, images):
    service.records(images[0])
    assert service.ask("GET", "/v1/metrics", token=None)[0] == 401
    _, headers, body = service.ask("GET", "/v1/metrics")
    assert headers["content-type"].startswith("text/plain")
    figures = body.decode()
    assert 'mseenet_requests_total{path="/v1/predictions",status="200"}' in figures
    assert "mseenet_images_waiting 0.0" in figures


@pytest.mark.cluster
def test_requests_by_the_description(service, tmp_path):
    """Made from the OpenAPI description: none may be answered otherwise than it says."""
    pytest.importorskip("schemathesis", reason="the extra `dev` is not installed")
    checks = "not_a_server_error,status_code_conformance,content_type_conformance"
    checks += ",response_schema_conformance,negative_data_rejection,unsupported_method,ignored_auth"
    address = f"http://127.0.0.1:{service.port}/v1/openapi.json"
    options = ("--max-examples", "10", "--checks", checks, "--no-color", "--seed", "0")
    done = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"),
            "run",
            address,
            *options,
            "--header",
            f"Authorization: Bearer {TOKEN}",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    described = json.loads(service.ask("GET", "/v1/openapi.json")[2])["paths"]
    count = sum(len(operations) for operations in described.values())
    assert re.search(rf"Tested: +{count}$", done.stdout, re.M), done.stdout[-5000:]


def replica_of(server: int) -> int:
    """Process id of the replica that holds the network."""
    found: list[int] = []

    def there() -> bool:
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                title = (folder / "cmdline").read_text()
            except OSError:
                continue
            if "ServeReplica:mseenet:Network" in title and server in ancestors(int(folder.name)):
                found.append(int(folder.name))
        return bool(found)

    until(there)
    return found[0]

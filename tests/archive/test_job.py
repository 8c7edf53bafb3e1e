"""One row an image, whatever is killed: real processes, on two machines that are one."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import object_store
import pytest
from conftest import ROOT, ancestors, encode, unchanged_profile, until

pytest.importorskip("ray", reason="the extra `archive` is not installed")

import pyarrow.dataset as ds

from mseenet import cluster
from mseenet.archive.job import ENDED
from mseenet.archive.store import COMPLETE_NAME
from mseenet.case.records import record
from mseenet.inference.card import CARD_NAME, DEFAULT_WEIGHTS, read_card

pytestmark = pytest.mark.slow

STAND_IN = Path(__file__).parent / "stand_in"
WORKER = "ray::MapWorker"


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    return os.environ | {
        "PYTHONPATH": os.pathsep.join((str(STAND_IN), str(ROOT))),
        **cluster.QUIET,
    }


@pytest.fixture(scope="module")
def machines(environment):
    """Two nodes of one processor each."""
    from ray.cluster_utils import Cluster

    kept = dict(os.environ)
    os.environ |= environment
    node = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    machines = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    try:
        machines.add_node(**node)
        yield machines
    finally:
        machines.shutdown()
        os.environ.clear()
        os.environ |= kept


@pytest.fixture
def weights(weights_copy) -> Path:
    """Weights in whose place the stand-in answers; it notes what it computed."""
    (weights_copy / "computed").touch()
    return weights_copy


@pytest.fixture
def start(tmp_path, environment):
    """Starts the command in a process of its own, which writes to `tmp_path / "out"`."""
    running = []

    def call(*arguments, **settings) -> subprocess.Popen:
        command = [sys.executable, "-m", "mseenet", "archive", "--output", tmp_path / "out"]
        process = subprocess.Popen(
            [*map(str, (*command, *arguments))],
            cwd=tmp_path,
            env=environment | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield call
    for process in running:
        process.kill()
        process.communicate()


def write_contents(folder: Path, number: int, copies: int = 1) -> None:
    folder.mkdir()
    for index in range(number):
        for copy in range(copies):
            (folder / f"{index:04d}-{copy}.png").write_text(f"content {index}")


def rows_in(folder: Path) -> list[dict]:
    return ds.dataset(folder, format="parquet").to_table().to_pylist()


def check_rows(out: Path, images: Path) -> None:
    """One row for each file, with the hash of its content."""
    found = {row["file"]: row["sha256"] for row in rows_in(out)}
    assert len(found) == len(rows_in(out))
    wanted = {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in images.iterdir()}
    assert found == wanted
    assert not list(out.glob(".new-*"))


def workers_of(parent: int | None = None) -> list[int]:
    """Process ids of workers, of the cluster that a process started or of any."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            named = folder.name.isdigit() and (folder / "cmdline").read_text().startswith(WORKER)
        except OSError:
            continue
        if named and (parent is None or parent in ancestors(int(folder.name))):
            found.append(int(folder.name))
    return found


def ended(process: subprocess.Popen) -> tuple[int, str]:
    """Exit status, and what was printed but progress."""
    _, err = process.communicate()
    lines = [line for line in err.splitlines() if line.strip() and "answering:" not in line]
    return process.returncode, "\n".join(lines)


def test_two_machines_give_the_records_of_predict(
    machines, start, tmp_path, gated_classifier, fields
):
    images = tmp_path / "images"
    images.mkdir()
    for number, field in enumerate(fields):
        (images / f"{number}.png").write_bytes(encode(field))
    (images / "copy.png").write_bytes(encode(fields[0]))
    (images / "text.jpg").write_text("text")
    with zipfile.ZipFile(images / "slide.zip", "w") as archive:
        archive.writestr("a.bmp", encode(fields[1], "BMP"))
    status, err = ended(start("images", "absent.png", "--address", machines.address))
    assert (status, len(err.splitlines())) == (1, 1), err
    assert "8 images: 2 error" in err
    card = gated_classifier.card
    rows = {row["file"]: row for row in rows_in(tmp_path / "out")}
    assert len(rows) == 8
    sources = {
        **{f"images/{p.name}": p.read_bytes() for p in images.iterdir() if p.suffix != ".zip"},
        "images/slide.zip/a.bmp": encode(fields[1], "BMP"),
    }
    for name, content in sources.items():
        (prediction,) = gated_classifier.predict([content])
        slide = "images/slide" if "zip" in name else "images"
        wanted = record(name, prediction, card.sha256, card.release, slide)
        row = rows.pop(name)
        assert row.pop("sha256") == hashlib.sha256(content).hexdigest()
        for number in ("confidence", "novelty", "scale"):
            assert row.pop(number) == pytest.approx(wanted.pop(number), abs=1e-5)
        assert (row.pop("probabilities") or {}) == pytest.approx(
            wanted.pop("probabilities") or {}, abs=1e-5
        )
        assert row == wanted
    assert rows.popitem()[1]["reasons"] == [
        "expected a readable image file, got: No such file or directory"
    ]
    assert json.loads((tmp_path / "out" / COMPLETE_NAME).read_text())["rows"] == 8


@pytest.mark.cluster
def test_workers_that_end_and_images_that_end_them(machines, start, tmp_path, weights):
    images = tmp_path / "images"
    write_contents(images, 200, copies=2)
    (images / "a.png").write_text("poison")
    (images / "b.png").write_text("raise")
    process = start(images, "--weights", weights, "--address", machines.address, SMALL_BLOCKS="1")
    until(lambda: list((tmp_path / "out").glob("part-*")), process)
    os.kill(workers_of()[0], signal.SIGKILL)
    status, err = ended(process)
    assert (status, "402 images: 2 error, 400 rejected" in err) == (1, True), err
    rows = {row["file"]: row for row in rows_in(tmp_path / "out")}
    assert len(rows) == len(rows_in(tmp_path / "out")) == 402
    assert rows.pop(str(images / "a.png"))["reasons"] == [ENDED]
    assert "ZeroDivisionError: a defect" in rows.pop(str(images / "b.png"))["reasons"][0]
    for name, row in rows.items():
        sha256 = hashlib.sha256(Path(name).read_bytes()).hexdigest()
        assert (row["sha256"], row["novelty"]) == (sha256, 1 + int(sha256[:4], 16) / 2**16)


@pytest.mark.cluster
def test_a_lost_machine_loses_nothing(machines, start, tmp_path, weights):
    images = tmp_path / "images"
    write_contents(images, 400)
    process = start(images, "--weights", weights, "--address", machines.address, SMALL_BLOCKS="1")
    until(lambda: list((tmp_path / "out").glob("part-*")), process)
    machine = next(node for node in machines.list_all_nodes() if not node.head)
    machines.remove_node(machine, allow_graceful=False)
    assert ended(process)[0] == 0
    machines.add_node(num_cpus=1, object_store_memory=100 * 2**20)
    check_rows(tmp_path / "out", images)


@pytest.mark.cluster
def test_a_second_run_computes_what_changed(machines, start, tmp_path, weights):
    images, out = tmp_path / "images", tmp_path / "out"
    write_contents(images, 20, copies=3)
    options = (images, "--weights", weights, "--address", machines.address)
    assert ended(start(images, *options))[0] == 0  # named twice
    check_rows(out, images)
    computed = (weights / "computed").read_text().split()
    assert len(computed) == len(set(computed)) == 20

    (images / "0000-0.png").write_text("changed")
    (images / "new.png").write_text("content 7")
    assert ended(start(*options))[0] == 0
    check_rows(out, images)
    computed = (weights / "computed").read_text().split()
    assert computed[20:] == [hashlib.sha256(b"changed").hexdigest()]

    profile = unchanged_profile(read_card(weights))
    profile.write(tmp_path / "site.json")
    assert ended(start(*options, "--profile", tmp_path / "site.json"))[0] == 0
    check_rows(out, images)  # no row of before is left: it is another release
    assert {row["profile"] for row in rows_in(out)} == {profile.title}
    assert ended(start(*options))[0] == 0
    assert {row["profile"] for row in rows_in(out)} == {None}
    assert len((weights / "computed").read_text().split()) == 21 + 2 * 21
    (weights / "computed").write_text("".join(f"{sha256}\n" for sha256 in computed))

    rows = rows_in(out)
    (images / "new.png").rename(tmp_path / "new.png")
    (images / "new.png").symlink_to("absent")
    status, err = ended(start(*options))
    assert (status, "1 image could not be read now" in err) == (2, True), err
    assert rows_in(out) == rows
    (tmp_path / "new.png").replace(images / "new.png")

    card = json.loads((weights / CARD_NAME).read_text())
    (weights / CARD_NAME).write_text(json.dumps(card | {"review_confidence": {"value": 0.0}}))
    assert ended(start(*options))[0] == 0
    check_rows(out, images)
    assert len((weights / "computed").read_text().split()) == 21 + 21
    assert len({row["release"] for row in rows_in(out)}) == 1


@pytest.mark.parametrize(
    "name",
    ["SIGKILL", *(pytest.param(n, marks=pytest.mark.cluster) for n in ("SIGTERM", "SIGINT"))],
)
def test_a_job_that_is_stopped_goes_on(start, tmp_path, weights, name):
    """On a cluster that the command starts itself, and takes with it."""
    images, out = tmp_path / "images", tmp_path / "out"
    write_contents(images, 400)
    options = (images, "--weights", weights, "--workers", "2")
    process = start(*options, SMALL_BLOCKS="1")
    until(lambda: list(out.glob("part-*")), process)
    workers = workers_of(process.pid)
    process.send_signal(getattr(signal, name))
    status, err = ended(process)
    assert status == {"SIGKILL": -9, "SIGTERM": 143, "SIGINT": 130}[name]
    assert "Traceback" not in err
    until(lambda: not set(workers) & set(workers_of()))
    before = len(rows_in(out))
    assert 0 < before < 400
    assert not (out / COMPLETE_NAME).exists()
    assert ended(start(*options))[0] == 0
    check_rows(out, images)
    counted = Counter((weights / "computed").read_text().split())
    assert len(counted) == 400
    again = sum(counted.values()) - 400
    assert again <= 400 - before


def test_what_cannot_be_done_is_one_line(start, tmp_path, weights):
    (tmp_path / "a.png").write_text("content")
    wrong = {
        ("--address", "127.0.0.1:1"): "expected Ray to be running at 127.0.0.1:1",
        ("--slides", "*"): "with {slide} once",
        ("--weights", str(tmp_path)): "card.json",
    }
    for options, expected in wrong.items():
        status, err = ended(start("a.png", *options))
        assert (status, len(err.splitlines())) == (2, 1), err
        assert err.startswith("error: ")
        assert expected in err
    assert not (tmp_path / "out").exists()
    assert DEFAULT_WEIGHTS.is_dir()


def test_an_object_store_that_loses_objects_and_then_takes_no_key(start, tmp_path, weights):
    with object_store.served() as store:
        bucket, out = f"s3://{object_store.BUCKET}", tmp_path / "out"
        kept = {f"2019/{i % 3}/{i:04d}.png": f"content {i}".encode() for i in range(300)}
        lost = {f"2019/z/{i:04d}.png": f"lost {i}".encode() for i in range(20)}
        for key, content in (kept | lost).items():
            store.put(key, content)
        options = (f"{bucket}/2019", "--weights", weights, "--workers", "1")
        process = start(*options, SMALL_BLOCKS="1", **store.environment)
        until(lambda: list(out.glob("part-*")), process)
        os.kill(workers_of(process.pid)[0], signal.SIGKILL)
        for key in lost:
            store.delete(key)
        status, err = ended(process)
        assert (status, "320 images: 20 error, 300 rejected" in err) == (1, True), err
        rows = {row["file"]: row for row in rows_in(out)}
        assert len(rows) == len(rows_in(out)) == 320
        assert all("No such file" in rows[f"{bucket}/{key}"]["reasons"][0] for key in lost)
        for key, content in kept.items():
            assert rows[f"{bucket}/{key}"]["sha256"] == hashlib.sha256(content).hexdigest()

        process = start(*options, SMALL_BLOCKS="1", **store.environment)
        until(lambda: not (out / COMPLETE_NAME).exists(), process)  # all is listed
        store.refuse()
        status, err = ended(process)
        assert status == 2
        assert "ACCESS_DENIED" in err
        assert "could not be read now" in err.splitlines()[0]
        assert len(err.splitlines()) == 2
        assert {row["file"]: row for row in rows_in(out)} == rows

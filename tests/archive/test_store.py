"""The folder of rows: whole shards or none, one writer, and no row twice."""

import os
from pathlib import Path

import pytest
from conftest import small_files

pytest.importorskip("pyarrow", reason="the extra `archive` is not installed")

import pyarrow.dataset as ds
import pyarrow.parquet as pq

from mseenet.archive.digests import Digests, digest
from mseenet.archive.store import COMPLETE_NAME, Settings, Store
from mseenet.case.records import record
from mseenet.config import CLASS_NAMES
from mseenet.errors import UsageError
from mseenet.inference.classifier import Prediction


def row(name: str, sha256: str | None = None, release: str = "r1") -> dict:
    prediction = Prediction(
        "ok",
        "Pre-B",
        dict.fromkeys(CLASS_NAMES, 0.25),
        0.25,
        novelty=0.5,
        nucleated_cells=3,
        scale=1.04,
    )
    return record(name, prediction, "w", release, "slide") | {"sha256": sha256 or f"of {name}"}


def digests(*rows: dict) -> tuple[Digests, Digests]:
    names = b"".join(digest(r["file"]) for r in rows)
    return Digests(names), Digests(
        b"".join(digest(r["file"], r["sha256"] or "", r["release"]) for r in rows)
    )


def test_rows_come_back_as_they_were_written(tmp_path):
    rows = [row("a"), row("b\udcff".encode("utf-8", "backslashreplace").decode())]
    rows.append(record("c", Prediction("error", reasons=("x", "y")), "w", "r1") | {"sha256": None})
    with Store.opened(tmp_path / "out", Settings()) as store:
        store.add(rows[:2])
        store.add([])
        store.add(rows[2:])
        store.complete({"rows": 3})
    assert ds.dataset(tmp_path / "out", format="parquet").to_table().to_pylist() == rows
    with Store.opened(tmp_path / "out", Settings()) as store:
        known = store.known("r1")
        assert digest("a", "of a", "r1") in known.rows
        assert digest("a", "other", "r1") not in known.rows
        assert digest("of a", "r1") in known.contents
        assert len(known.rows) == 2  # what could not be read is tried again
        assert len(store.known("r2").rows) == 0
        assert store.answers({"of a", "absent"}, "r1") == {"of a": rows[0]}
        store.add([row("d")])
    assert [path.name for path in sorted((tmp_path / "out").glob("part*"))] == [
        f"part-{number:06d}.parquet" for number in range(3)
    ]


def test_of_an_image_one_row_stays(tmp_path):
    old, other = row("a", "old"), row("not listed", "old")
    new, again = row("a", "new"), row("b")
    with Store.opened(tmp_path, Settings()) as store:
        store.add([old, other])
        store.add([row("a", "new", release="r0"), again])
        store.add([again])
        store.add([new])
        store.keep_only(*digests(new, again), Digests(), "r1")
        kept = [r for path in store.shards() for r in pq.read_table(path).to_pylist()]
        assert kept == [other, again, new]
        assert store.counts(digests(new, again)[0]) == {"ok": 2}


def test_an_image_that_cannot_be_read_now_keeps_its_answer(tmp_path):
    failed = row("a") | {"sha256": None}
    first, newest, other_release = row("a", "old"), row("a", "new"), row("a", "new", "r2")
    with Store.opened(tmp_path, Settings()) as store:
        for one in (first, newest, failed, other_release, row("b", "old")):
            store.add([one])
        names, valid = digests(row("a"), row("b", "new"))
        store.keep_only(names, valid, Digests(digest("a")), "r1")
        assert [r for path in store.shards() for r in pq.read_table(path).to_pylist()] == [newest]


def test_a_complete_folder_says_so_until_more_is_written(tmp_path):
    with Store.opened(tmp_path, Settings()) as store:
        store.complete({})
        assert (tmp_path / COMPLETE_NAME).is_file()
        store.begin()
        assert not (tmp_path / COMPLETE_NAME).exists()


def test_leftovers_of_a_killed_process_are_removed_and_nothing_else(tmp_path):
    with Store.opened(tmp_path, Settings()):
        pass
    unfinished = tmp_path / ".new-0123abcd-part-000007.parquet"
    unfinished.write_bytes(b"half")
    mine = tmp_path / ".new-notes.txt"
    mine.write_text("mine")
    with Store.opened(tmp_path, Settings()) as store:
        assert store.shards() == []
    assert not unfinished.exists()
    assert mine.read_text() == "mine"


def test_other_settings_are_refused(tmp_path):
    with Store.opened(tmp_path, Settings()):
        pass
    with (
        pytest.raises(UsageError, match=r"_settings\.json: expected the settings"),
        Store.opened(tmp_path, Settings(slides="{slide}_*")),
    ):
        pass


def test_a_folder_of_others_and_one_in_use_are_refused(tmp_path):
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "a.csv").touch()
    with (
        pytest.raises(UsageError, match=r"new or empty folder for the archive; it holds a\.csv"),
        Store.opened(tmp_path / "foreign", Settings()),
    ):
        pass
    with (
        Store.opened(tmp_path / "own", Settings()),
        pytest.raises(UsageError, match=rf"own: process {os.getpid()} on \S+ is writing there"),
        Store.opened(tmp_path / "own", Settings()),
    ):
        pass


@pytest.mark.parametrize("damage", [b"", b"PAR1 and no more"])
def test_a_damaged_shard_is_named(tmp_path, damage):
    with Store.opened(tmp_path, Settings()) as store:
        store.add([row("a")])
        (shard,) = store.shards()
        shard.write_bytes(damage or shard.read_bytes()[:-20])
        with pytest.raises(UsageError, match=rf"{shard}: expected a whole Parquet file"):
            store.known("r1")


def test_a_full_disk_is_named_and_leaves_no_half_shard(tmp_path):
    rows = [row(f"{number}", os.urandom(32).hex()) for number in range(2000)]
    with Store.opened(tmp_path, Settings()) as store:
        store.add(rows[:10])
        with small_files(20_000), pytest.raises(OSError, match="File too large") as caught:
            store.add(rows)
        assert caught.value.filename == str(tmp_path / "part-000001.parquet")
        assert [path.name for path in store.shards()] == ["part-000000.parquet"]
        assert not list(tmp_path.glob(".new-*"))
        store.add(rows[10:])
        assert len(store.known("r1").rows) == 2000


@pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="needs /proc")
def test_a_folder_that_takes_no_files_is_named():
    with (
        pytest.raises(OSError, match="/proc/self/fdinfo"),
        Store.opened(Path("/proc/self/fdinfo"), Settings()),
    ):
        pass

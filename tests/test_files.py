import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, small_files

from mseenet.errors import UsageError
from mseenet.files import (
    LOCK_NAME,
    ensure_room,
    one_writer,
    own_folder,
    remove_own_folder,
    whole_file,
    write_atomically,
)


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a.json"
    write_atomically(path, "é\n")
    assert path.read_bytes() == "é\n".encode()
    write_atomically(path, b"\x00")
    assert path.read_bytes() == b"\x00"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step):
    path = tmp_path / "a.json"
    path.write_text("old")

    def fail(*_):
        raise OSError("disk full")

    if step != "write":
        monkeypatch.setattr(os, step, fail)

    def write():
        with whole_file(path) as temporary:
            temporary.write_text("half")
            if step == "write":
                fail()

    with pytest.raises(OSError, match="disk full"):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["a.json", "[a]*.json", "ä" * 120 + ".json"])
def test_what_a_killed_process_left_of_a_file_goes_with_the_next_one(tmp_path, name):
    path = tmp_path / name
    with whole_file(path) as temporary:
        left = temporary.name
    path.unlink()
    (tmp_path / left).write_text("half")
    others = [tmp_path / ".new-0123abcd-b.json", tmp_path / ".new-mine-a.json"]
    for other in others:
        other.write_text("of another file")
    write_atomically(path, "whole")
    assert path.read_text() == "whole"
    assert set(tmp_path.iterdir()) == {path, *others}


def test_what_another_one_is_writing_stays(tmp_path):
    path = tmp_path / "a.json"
    with whole_file(path) as first:
        first.write_text("first")
        write_atomically(path, "second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_came_meanwhile_may_have_to_stay(tmp_path, monkeypatch, links):
    def refuse(*_):
        raise OSError(errno.EPERM, "no links here")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "a.json"
    with whole_file(path, replace=False) as temporary:
        temporary.write_text("first")
    assert path.read_text() == "first"

    def write_again():
        with whole_file(path, replace=False) as temporary:
            temporary.write_text("second")

    with pytest.raises(FileExistsError) as caught:
        write_again()
    assert caught.value.filename == str(path)
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_of_writing_names_the_file_and_others_keep_their_names(tmp_path):
    path = tmp_path / "a.npy"

    def write(error: OSError | None) -> None:
        with whole_file(path) as temporary:
            if error:
                raise error
            with temporary.open("wb") as stream:
                np.save(stream, np.zeros(10_000))  # its error has neither name nor number

    with small_files(10_000), pytest.raises(OSError, match="requested") as caught:
        write(None)
    assert caught.value.filename == str(path)
    with pytest.raises(OSError, match="elsewhere") as caught:
        write(OSError(errno.EACCES, "no", "elsewhere"))
    assert caught.value.filename == "elsewhere"
    with pytest.raises(BrokenPipeError) as caught:
        write(BrokenPipeError(errno.EPIPE, "closed"))
    assert caught.value.filename is None
    assert list(tmp_path.iterdir()) == []


HOLD = """
import sys, time
from pathlib import Path
from mseenet.files import one_writer
with one_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_process_is_told_who_writes_and_a_killed_one_stops_nobody(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(UsageError, match=rf"process {holder.pid} on \S+ is writing there"),
            one_writer(tmp_path),
        ):
            pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    assert (tmp_path / LOCK_NAME).is_file()
    with one_writer(tmp_path):
        assert str(os.getpid()) in (tmp_path / LOCK_NAME).read_text()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_nothing_came_of_is_removed(tmp_path):
    with pytest.raises(ZeroDivisionError), one_writer(tmp_path / "new"):
        raise ZeroDivisionError
    assert not (tmp_path / "new").exists()


def test_a_folder_that_another_process_marks_meanwhile_is_shared(tmp_path, monkeypatch):
    listed = Path.iterdir

    def mark_first(folder):
        (folder / ".mseenet-cache").touch()
        (folder / "features.npy").touch()
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", mark_first)
    assert own_folder(tmp_path / "shared", "cache") == tmp_path / "shared"


def test_only_ones_own_folder_is_used_and_removed(tmp_path):
    own = own_folder(tmp_path / "own", "cache")
    assert own_folder(own, "cache") == own
    with pytest.raises(UsageError, match=r"new or empty folder for the state; it holds \.mseenet"):
        own_folder(own, "state")
    (own / "mine.txt").write_text("mine")
    remove_own_folder(own, "cache")
    assert (own / "mine.txt").read_text() == "mine"
    (own / "mine.txt").unlink()
    remove_own_folder(own, "cache")
    assert not own.exists()

    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "b.weights.h5").touch()
    (tmp_path / "foreign" / "c.weights.h5").touch()
    with pytest.raises(UsageError, match=r"it holds b\.weights\.h5 and 1 more"):
        own_folder(tmp_path / "foreign", "cache")
    remove_own_folder(tmp_path / "foreign", "cache")
    assert len(list((tmp_path / "foreign").iterdir())) == 2
    with pytest.raises(UsageError, match="found a file"):
        own_folder(tmp_path / "foreign" / "b.weights.h5", "cache")


@pytest.mark.parametrize("reserves", [True, False])
def test_a_full_disk_is_told_before_anything_is_written(tmp_path, monkeypatch, reserves):
    if not reserves:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    ensure_room(tmp_path, 3_000_000)
    assert list(tmp_path.iterdir()) == []
    with (
        small_files(1_000_000),
        pytest.raises(OSError, match=r"3 MB are needed") as caught,
    ):
        ensure_room(tmp_path, 3_000_000)
    assert caught.value.filename == str(tmp_path)
    assert list(tmp_path.iterdir()) == []

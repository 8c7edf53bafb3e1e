"""Foreign images in a folder or a ZIP archive, by kind."""

import io
import zipfile

import pytest

from mseenet.case.limits import MEGABYTE, Limits, Room, Share
from mseenet.errors import UsageError
from mseenet.laboratory.foreign import find_foreign, foreign_of_archive, read_foreign


def packed(*names: str, content: bytes = b"x") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("names", "kinds"),
    [
        (("photo/b.png", "photo/a/c.png", "crop/a.png"), {"crop": 1, "photo": 2}),
        (("in/foreign/photo/b.png", "in/foreign/crop/a.png"), {"crop": 1, "photo": 1}),
        (("photo/a.png", "photo/b.png"), {"photo": 2}),
        (("foreign/photo/b.png",), {"photo": 1}),
        (("/photo/b.png", "crop/a.png"), {"crop": 1, "photo": 1}),
        (("foreign/crop/a.png", "foreign/notes.txt", "__MACOSX/foreign/._a.png"), {"crop": 1}),
    ],
)
def test_each_folder_of_an_archive_is_a_kind(names, kinds, tmp_path):
    found = foreign_of_archive(packed(*names))
    assert {kind: len(images) for kind, images in found.items()} == kinds
    assert list(found) == sorted(found)


def test_an_archive_is_read_as_the_folder_that_was_packed(tmp_path, field_png):
    names = ("b/2.png", "b/10.png", "b/a/1.png", "a/x.png")
    for i, name in enumerate(names):
        path = tmp_path / "foreign" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(field_png + bytes([i]))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.write(tmp_path / "foreign" / name, f"foreign/{name}")
    of_folder = find_foreign(tmp_path / "foreign")
    of_archive = foreign_of_archive(buffer.getvalue())
    assert of_archive == {k: [p.read_bytes() for p in paths] for k, paths in of_folder.items()}
    assert list(of_archive) == list(of_folder)
    assert len(read_foreign("b", of_archive["b"]).images) == 3


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"no archive", "expected a readable ZIP archive"),
        (packed("a/notes.txt"), "expected images in the archive"),
        (packed("a.png"), "a.png is in none"),
        (packed("a.png", "photo/b.png"), "a.png is in none"),
        (packed("a/1.png", "b/2.png", "b/3.png"), "at most 2 foreign images of 1 MB"),
        (packed("a/1.png", content=bytes(MEGABYTE + 1)), "unpack to more"),
    ],
)
def test_what_cannot_be_used_is_said(content, problem):
    with pytest.raises(UsageError, match=problem):
        foreign_of_archive(content, Limits(case=MEGABYTE, fields=2))


def test_a_full_server_takes_none():
    room = Room(10)
    share = Share(room)
    with pytest.raises(UsageError, match="full"):
        foreign_of_archive(packed("a/1.png", content=bytes(11)), Limits(), share)

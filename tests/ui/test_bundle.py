"""Bundles as the page reads them; that the browser makes them so is for test_browser.py."""

import json

import pytest

from mseenet.case.fields import Case
from mseenet.ui.bundle import MAGIC, BundleError, Member, unbundled, unpack


def bundle(*members: tuple[str, bytes, str | None]) -> bytes:
    head = [{"name": n, "size": len(c), "left_out": left_out} for n, c, left_out in members]
    return MAGIC + json.dumps(head).encode() + b"\n" + b"".join(c for _, c, _ in members)


def test_contents_come_back_whole():
    first, second = b"line\nbreak" + MAGIC, bytes(range(256))
    packed = bundle(
        ("a.png", first, None), ("Ü/b.png", second, None), ("c", b"", None), ("d", b"", "size")
    )
    assert list(unpack(packed)) == [
        Member("a.png", first, None),
        Member("Ü/b.png", second, None),
        Member("c", b"", None),
        Member("d", b"", "size"),
    ]


def test_a_name_that_is_no_text_can_be_shown():
    (member,) = unpack(bundle(("a\ud800.png", b"x", None)))
    assert member.name == "a?.png"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (MAGIC, "expected the files of one upload"),
        (MAGIC + b"{}\n" + b"x", "expected 0 bytes in 0 files, got 1"),
        (MAGIC + b"[" * 100_000 + b"\n", "expected the files of one upload"),
        (
            MAGIC + b'[{"name": "a", "size": 1e999, "left_out": null}]\n',
            "expected the files of one upload",
        ),
        (MAGIC + b'[{"name": "a", "size": 0, "left_out": {}}]\n', "why the file was left out"),
        (MAGIC + b'[{"name": 1, "size": 0, "left_out": null}]\n', "expected a name"),
        (MAGIC + b'[{"name": "a", "size": 0.5, "left_out": null}]\n', "expected a name, a size"),
        (MAGIC + b"[1]\n", "expected the files of one upload"),
        (MAGIC + b'[{"name": "a"}]\n', "expected the files of one upload"),
        (bundle(("a", b"1234", None))[:-1], "expected 4 bytes in 1 files, got 3"),
        (
            MAGIC
            + b'[{"name": "a", "size": -1, "left_out": null}, {"name": "b", "size": 2, '
            + b'"left_out": null}]\n1',
            "expected 1 bytes in 2 files",
        ),
    ],
)
def test_a_damaged_bundle_is_refused(content, reason):
    with pytest.raises(BundleError, match=reason):
        list(unpack(content))


def test_a_case_takes_what_a_bundle_holds_and_names_the_rest():
    case = Case()
    packed = bundle(
        ("slide/1.png", b"1", None),
        ("slide/again.png", b"1", None),
        ("slide/.hidden/2.png", b"2", None),
        ("slide/._1.png", b"3", None),
        ("slide/Thumbs.db", b"", "kind"),
        ("slide/.DS_Store", b"", "kind"),
        (".chosen.png", b"4", None),
        ("huge.tif", b"", "size"),
        ("locked.tif", b"", "unreadable"),
    )
    uploads = [("9 files", packed), ("2 files", bundle(("b.png", b"5", None))[:-1])]
    case.take_in(*unbundled(uploads, case.limits))
    assert [field.name for field in case.fields.values()] == ["slide/1.png", ".chosen.png"]
    assert case.notices == [
        "2 files added. 1 file left out, as the case already holds the same content: "
        "slide/again.png",
        "1 file left out, not an image: slide/Thumbs.db",
        "1 file left out, hidden by a name that begins with a dot: slide/.hidden/2.png",
    ]
    assert case.problems == [
        "huge.tif: expected at most 200 MB",
        "locked.tif: the browser could not read this file",
        "2 files: expected 1 bytes in 1 files, got 0",
    ]

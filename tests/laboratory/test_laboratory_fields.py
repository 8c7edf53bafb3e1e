"""A laboratory's labelled fields: folders of classes and slides, tables, archives, cases."""

import io
import zipfile
from datetime import UTC, datetime

import pytest
from conftest import encode

from mseenet.case.fields import Case
from mseenet.case.limits import Limits, Room, Share
from mseenet.case.verdicts import Verdict
from mseenet.config import CLASS_NAMES
from mseenet.errors import UsageError
from mseenet.inference.classifier import Prediction
from mseenet.laboratory.fields import (
    fields_of_archive,
    fields_of_case,
    find_fields,
    read_fields,
)

NOW = datetime(2026, 11, 27, tzinfo=UTC)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_folders_tell_class_and_slide(tmp_path, fields):
    write(tmp_path / "Benign" / "s1" / "a.png", encode(fields[0]))
    write(tmp_path / "early" / "b.png", encode(fields[1]))
    write(tmp_path / "Pre-B" / "s2" / "deeper" / "c.png", encode(fields[2]))
    write(tmp_path / "elsewhere" / "d.png", encode(fields[3]))
    write(tmp_path / "Pro" / "notes.txt", b"no image")
    found, problems = find_fields(tmp_path)
    assert [(f.slide, f.label) for f in found] == [
        ("Benign/s1", 0),
        ("Early Pre-B", 1),
        ("Pre-B/s2/deeper", 2),
    ]
    assert len(problems) == 2
    assert any("elsewhere/d.png" in p for p in problems)
    assert any("notes.txt" in p for p in problems)


def test_a_table_tells_class_and_slide_and_what_it_names_wrongly(tmp_path, fields):
    for name in ("a.png", "b.png", "twice.png"):
        write(tmp_path / name, encode(fields[0]))
    rows = ("file,class,slide", "a.png,Pre,7", "b.png,Healthy,7", "gone.png,Pro,7")
    rows += ("twice.png,Pro,1", "twice.png,Pre,1", "../outside.png,Pro,1")
    write(tmp_path.parent / "outside.png", encode(fields[0]))
    (tmp_path / "labels.csv").write_text("\ufeff" + "\n".join(rows), encoding="utf-8")
    found, problems = find_fields(tmp_path)
    assert [(f.name, f.slide, f.label) for f in found] == [("a.png", "7", 2)]
    assert len(problems) == 5
    (tmp_path / "labels.csv").write_text("name,class\na.png,Pre\n", encoding="utf-8")
    with pytest.raises(UsageError, match="column file"):
        find_fields(tmp_path)


def test_without_labelled_fields_it_says_what_is_expected(tmp_path, field_png):
    with pytest.raises(UsageError, match="found no folder"):
        find_fields(tmp_path / "none")
    write(tmp_path / "a.png", field_png)
    with pytest.raises(UsageError, match="lies in no folder of a class"):
        find_fields(tmp_path)


def test_one_bad_field_spoils_no_other_and_repeats_count_once(tmp_path, fields):
    write(tmp_path / "Benign" / "s" / "a.png", encode(fields[0]))
    write(tmp_path / "Benign" / "s" / "again.png", encode(fields[0]))
    write(tmp_path / "Benign" / "s" / "bad.png", encode(fields[1])[:200])
    read = read_fields(*find_fields(tmp_path))
    assert read.names == ("Benign/s/a.png",)
    assert [image.shape for image in read.images] == [(224, 224, 3)]
    assert read.sizes.tolist() == [[224, 224]]
    assert sorted(p.split()[0].rstrip(":") for p in read.problems) == [
        "Benign/s/again.png",
        "Benign/s/bad.png",
    ]
    assert read.counts()["Benign"] == {"fields": 1, "slides": 1}
    (tmp_path / "Benign" / "s" / "a.png").unlink()
    (tmp_path / "Benign" / "s" / "again.png").unlink()
    with pytest.raises(UsageError, match=r"bad\.png"):
        read_fields(*find_fields(tmp_path))


def packed(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def by_content(found) -> list[tuple]:
    sources = [f.source if isinstance(f.source, bytes) else f.source.read_bytes() for f in found]
    return [(f.name, f.slide, f.label, s) for f, s in zip(found, sources, strict=True)]


LABORATORY = (
    "Pro/s1/a.png",
    "benign/s1/b.png",
    "Pro/c.png",
    "loose.png",
    "Pro/notes.txt",
    ".x/d.png",
)
TABLE_OF_THEM = "file,class,slide\nPro/c.png,Early,7\nloose.png,Pre,\ngone.png,Pro,1\n"


@pytest.mark.parametrize("table", [None, TABLE_OF_THEM])
@pytest.mark.parametrize("around", ["", "lab", "a/b"])
def test_an_archive_is_read_as_the_folder_that_was_packed(tmp_path, field_png, table, around):
    for i, name in enumerate(LABORATORY):
        content = b"no image" if name.endswith("txt") else field_png + bytes(i)
        write(tmp_path / "lab" / name, content)
    if table:
        write(tmp_path / "lab" / "labels.csv", table.encode("utf-8-sig"))
    files = [path for path in (tmp_path / "lab").rglob("*") if path.is_file()]
    content = packed(
        {
            f"{around}/{path.relative_to(tmp_path / 'lab').as_posix()}".lstrip(
                "/"
            ): path.read_bytes()
            for path in files
        }
    )
    found, problems = fields_of_archive(content)
    in_folder, said = find_fields(tmp_path / "lab")
    assert by_content(found) == by_content(in_folder)
    assert problems == said
    if table:
        assert [(f.slide, f.label) for f in found] == [("7", 1), ("Pre-B", 2)]
    else:
        assert [f.slide for f in found] == ["Benign/s1", "Pro-B", "Pro-B/s1"]
        assert len(problems) == 3


def test_of_an_archive_that_holds_too_much_nothing_is_read(field_png):
    content = packed({f"Pro/{i}.png": field_png + bytes(i) for i in range(3)})
    size = len(field_png)
    with pytest.raises(UsageError, match="at most 2 labelled fields"):
        fields_of_archive(content, Limits(fields=2))
    with pytest.raises(UsageError, match="unpack to more"):
        fields_of_archive(content, Limits(case=2 * size))
    room = Room(2 * size + 100)
    share = Share(room)
    with pytest.raises(UsageError, match="server is full"):
        fields_of_archive(content, share=share)
    share.end()
    assert room.taken == 0
    found, problems = fields_of_archive(content, Limits(file=size + 1), Share(Room()))
    assert len(found) == 2
    assert problems == ["Pro/2.png: expected at most 0 MB"]


@pytest.mark.parametrize(
    ("name", "most", "message"),
    [("MOST_ROWS", 1, "at most 1 rows"), ("LARGEST_TABLE", 20, r"labels\.csv: expected at most")],
)
def test_a_table_that_would_fill_the_memory_is_not_read(
    tmp_path, field_png, monkeypatch, name, most, message
):
    (tmp_path / "a.png").write_bytes(field_png)
    (tmp_path / "labels.csv").write_text("file,class\na.png,Pro\nb.png,Pro\n")
    monkeypatch.setattr(f"mseenet.laboratory.fields.{name}", most)
    with pytest.raises(UsageError, match=message):
        find_fields(tmp_path)


def test_hostile_archives_are_one_sentence_and_spoil_no_other_file(field_png):
    with pytest.raises(UsageError, match="readable ZIP archive"):
        fields_of_archive(b"PK\x03\x04 and nothing else")
    with pytest.raises(UsageError, match="found no labelled field"):
        fields_of_archive(packed({"a.png": field_png}))
    with pytest.raises(UsageError, match=r"labels\.csv: expected the column file"):
        fields_of_archive(packed({"labels.csv": b"name\n", "a.png": field_png}))
    bomb = packed({"Pro/a.png": field_png, "Pro/b.png": bytes(2**24)}, zipfile.ZIP_DEFLATED)
    found, (problem,) = fields_of_archive(bomb)
    assert [f.name for f in found] == ["Pro/a.png"]
    assert "Pro/b.png: expected a file that unpacks to at most 100 times" in problem
    outside = packed({"labels.csv": b"file,class\n../a.png,Pro\nb.png,Pro\n", "b.png": field_png})
    found, (problem,) = fields_of_archive(outside)
    assert "not in the folder" in problem


def test_no_file_of_an_archive_vanishes_without_a_word(field_png):
    other = field_png + b"other"
    found, problems = fields_of_archive(
        packed({"../Pro/a.png": field_png, "Pro/.b.png": field_png, "Benign/c.png": other})
    )
    assert [field.name for field in found] == ["Benign/c.png", "../Pro/a.png"]
    assert problems == ["1 file left out, hidden by a name that begins with a dot: Pro/.b.png"]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("Pro/a.png", field_png)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("Pro/a.png", other)
    (field,), problems = fields_of_archive(buffer.getvalue())
    assert field.source == other
    assert problems == ["Pro/a.png is in the archive 2 times; only the last one was read"]


def test_a_case_gives_the_fields_with_a_verdict(fields):
    case = Case()
    case.take_in([(f"slide {i % 2}/{i}.png", encode(rgb)) for i, rgb in enumerate(fields)])
    for field, name in zip(case.fields.values(), CLASS_NAMES[:3], strict=False):
        field.prediction = Prediction("rejected")
        field.verdict = Verdict(name, NOW)
    found = fields_of_case(case.fields.values())
    assert [(f.slide, f.label) for f in found] == [
        ("slide 0", 0),
        ("slide 1", 1),
        ("slide 0", 2),
    ]

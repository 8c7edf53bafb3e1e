"""A case in one file: what comes back, and what of a damaged or hostile file does not."""

import dataclasses
import io
import json
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from types import MappingProxyType

import numpy as np
import pytest
from conftest import encode
from PIL import Image

from mseenet.case import saved as saved_case
from mseenet.case.archive import open_archive
from mseenet.case.fields import Case, Field, LeftOut, Source
from mseenet.case.limits import Limits, Room
from mseenet.case.saved import (
    DAMAGED_FIELD,
    DAMAGED_HEATMAP,
    DAMAGED_NUCLEI,
    MANIFEST,
    SCHEMA,
    Reading,
    SavedCaseError,
    is_saved_case,
    open_case,
    parts_of,
    save_case,
)
from mseenet.case.verdicts import UNSURE, Verdict
from mseenet.config import CLASS_NAMES
from mseenet.inference.classifier import Prediction

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
SOURCE = Source("0123456789ab", "ab" * 32, "0.3.0", "Site A (0a1b2c)")
OLD = Source("ba9876543210", "cd" * 32, "0.2.0+abc")
LIMITS = Limits()
PNG = b"\x89PNG\r\n\x1a\n"


def answer(i: int, status: str = "ok") -> Prediction:
    values = np.roll([0.6123456789, 0.2, 0.1, 0.0876543211], i)
    heatmap = np.random.default_rng(i).random((224, 224), dtype=np.float32)
    heatmap.flags.writeable = False
    nuclei = np.packbits(heatmap > 0.9)
    nuclei.flags.writeable = False
    probabilities = {name: float(v) for name, v in zip(CLASS_NAMES, values, strict=True)}
    name = max(probabilities, key=probabilities.get)
    return Prediction(
        status,
        name,
        MappingProxyType(probabilities),
        probabilities[name],
        heatmap,
        name,
        0.25,
        ("out of focus", "a [link](http://example.org)"),
        5 + i,
        nuclei,
        0.5 + 0.25 * i,
    )


@pytest.fixture
def case(fields) -> Case:
    case = Case(label="case Ж", reader="A. Reader", opacity=0.35, color_map="Viridis")
    files = [(f"{i} half \ud800.png", encode(field)) for i, field in enumerate(fields)]
    case.take_in([*files, ("broken.png", b"no image"), ("b.gif.txt", b"x"), files[0]])
    first, second, third, fourth, broken, _ = case.fields.values()
    first.prediction, first.verdict = answer(0), Verdict("Pro-B", NOW, "seen", "B", blind=True)
    first.seen = True
    second.prediction, second.recorded = answer(1, "review"), OLD
    second.verdict, second.draft = Verdict(UNSURE, NOW), "later"
    third.prediction, third.include_rejected = answer(2, "rejected"), True
    fourth.prediction = None
    broken.prediction = Prediction("error", reasons=("no image",))
    return case


def opened(content: bytes, limits: Limits = LIMITS, fields_held: int = 0):
    return open_case(content, limits, fields_held)


def changed(content: bytes, change: Callable[[dict], None]) -> bytes:
    """The saved case with another manifest."""
    entries = parts(content)
    manifest = json.loads(entries[MANIFEST])
    change(manifest)
    return packed(entries | {MANIFEST: json.dumps(manifest).encode()})


def parts(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_everything_comes_back(case):
    keys = list(case.fields)
    reading = Reading(True, keys[1], [keys[0]], [keys[2]])
    content = save_case(case, SOURCE, NOW, reading)
    assert is_saved_case(content)
    saved = opened(content)
    assert (saved.label, saved.reader) == ("case Ж", "A. Reader")
    assert (saved.opacity, saved.color_map) == (0.35, "Viridis")
    assert vars(saved.reading) == vars(reading)
    assert list(saved.damaged) == list(saved.notices) == []
    assert list(saved.left_out) == case.left_out
    assert [field.key for field in saved.fields] == keys
    for field, before in zip(saved.fields, case.fields.values(), strict=True):
        for name in ("name", "content", "synthetic", "repeats", "include_rejected", "seen"):
            assert getattr(field, name) == getattr(before, name)
        assert (field.verdict, field.draft) == (before.verdict, before.draft)
        if before.prediction is None:
            assert field.prediction is field.recorded is None
            continue
        assert field.recorded == (before.recorded or SOURCE)
        for part in dataclasses.fields(Prediction):
            now, then = (getattr(f.prediction, part.name) for f in (field, before))
            if part.name == "heatmap" and then is not None:
                assert now.dtype == np.float32
                assert not now.flags.writeable
                assert np.abs(now - then).max() <= 0.51 / 65535
            elif part.name == "nuclei" and then is not None:
                assert (now.dtype, now.shape) == (np.uint8, (6272,))
                assert not now.flags.writeable
                np.testing.assert_array_equal(now, then)
            else:
                assert now == then


def test_saved_again_it_stays_the_same_and_keeps_its_source(case):
    first = opened(save_case(case, SOURCE, NOW))
    again = Case()
    again.put_back(first.fields)
    second = opened(save_case(again, Source("f" * 12, "f" * 64, "9"), NOW))
    assert [f.recorded for f in second.fields] == [f.recorded for f in first.fields]
    assert [f.prediction and f.prediction.reasons for f in second.fields] == [
        f.prediction and f.prediction.reasons for f in first.fields
    ]
    assert (again.size, len(again.fields)) == (case.size, len(case.fields))


def test_what_was_analysed_again_is_kept_beside_what_came(case):
    case.analyse_again(SOURCE.release)
    second = list(case.fields.values())[1]
    assert second.prediction is second.recorded is None
    assert second.earlier.source == OLD
    second.prediction = answer(3)
    case.analyse_again(SOURCE.release)  # nothing is left to analyse
    assert second.prediction is not None
    restored = opened(save_case(case, SOURCE, NOW)).fields[1]
    assert restored.recorded == SOURCE
    assert restored.earlier.source == OLD
    assert restored.earlier.prediction.class_name == answer(1).class_name
    assert restored.earlier.prediction.nucleated_cells == answer(1).nucleated_cells
    assert restored.earlier.prediction.scale == answer(1).scale
    assert restored.earlier.prediction.heatmap is restored.earlier.prediction.nuclei is None


def test_cells_are_those_of_the_answer_that_stands(case):
    second = list(case.fields.values())[1]
    before = second.cells, second.largest_evidence
    case.analyse_again(SOURCE.release)
    second.prediction = answer(3)
    assert second.largest_evidence != before[1]
    assert [cell.evidence for cell in second.cells] != [cell.evidence for cell in before[0]]


def test_a_saved_case_is_an_archive_of_its_fields_for_whoever_reads_it_so(case):
    contents = open_archive(save_case(case, SOURCE, NOW))
    assert [entry.read(10**7) for entry in contents.images] == [
        field.content for field in case.fields.values() if field.content
    ]


@pytest.mark.parametrize("schema", [SCHEMA + 1, 0, "2", None, True, 1e999])
def test_another_schema_is_named(case, schema):
    content = save_case(case, SOURCE, NOW)
    with pytest.raises(SavedCaseError, match="schema 1 to 3; this one has") as error:
        opened(changed(content, lambda m: m.update(schema=schema)))
    assert "0.3.0" in str(error.value)


def field_value(key: str, value: object, part: str | None = None) -> Callable[[dict], None]:
    def change(manifest: dict) -> None:
        record = manifest["fields"][0]
        (record[part] if part else record)[key] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("label"), "label: expected a value"),
        (lambda m: m.update(label="x" * 81), "label: expected a text of at most 80"),
        (lambda m: m.update(fields={}), "fields: expected a list"),
        (lambda m: m.update(part=0), "part: expected one of its parts"),
        (lambda m: m.update(part=3, parts=2), "part: expected one of its parts"),
        (lambda m: m.update(part=1, parts=10**9), "parts: expected a whole number"),
        (lambda m: m.update(part=1, parts=2), "part_of: expected hexadecimal digits"),
        (lambda m: m["settings"].update(slide_pattern="*"), "slide_pattern: expected a pattern"),
        (field_value("slide", 5), "slide: expected a text"),
        (field_value("slide", "x" * 5000), "slide: expected a text of at most"),
        (field_value("slide_by_hand", 1), "slide_by_hand: expected true or false"),
        (lambda m: m.update(fields=[1]), "fields 1: expected a JSON object"),
        (lambda m: m["settings"].update(opacity=2), "opacity: expected a number in"),
        (lambda m: m["settings"].update(opacity=float("nan")), "opacity: expected a number in"),
        (lambda m: m["settings"].update(color_map="Jet"), "color_map: expected one of"),
        (lambda m: m["reading"].update(kept_copies=[1]), "kept_copies: expected a text"),
        (field_value("name", 5), "name: expected a text"),
        (field_value("sha256", "../x"), "sha256: expected hexadecimal digits"),
        (field_value("synthetic", "no"), "synthetic: expected true or false"),
        (field_value("answer", []), "answer: expected a JSON object"),
        (field_value("status", "sure", "answer"), "status: expected one of ok"),
        (field_value("class_name", "Pre-B", "answer"), "expected the most probable class"),
        (field_value("class_name", ["Benign"], "answer"), "class_name: expected one of"),
        (field_value("probabilities", None, "answer"), "expected one for each class"),
        (field_value("probabilities", {"Benign": 1}, "answer"), "Early Pre-B: expected a value"),
        (field_value("novelty", 1e300, "answer"), "novelty: expected a number"),
        (field_value("nucleated_cells", -1, "answer"), "nucleated_cells: expected a whole number"),
        (field_value("nucleated_cells", 2.0, "answer"), "nucleated_cells: expected a whole number"),
        (field_value("nucleated_cells", True, "answer"), "nucleated_cells: expected a whole"),
        (field_value("nucleated_cells", 10**9, "answer"), "expected a whole number in"),
        (field_value("scale", 0, "answer"), "scale: expected a number in"),
        (field_value("scale", "1.5", "answer"), "scale: expected a number in"),
        (field_value("nuclei", 5, "answer"), "nuclei: expected a text"),
        (field_value("release", "<b>", "answer"), "release: expected hexadecimal digits"),
        (field_value("profile", 1, "answer"), "profile: expected a text"),
        (field_value("heatmap_class", "None", "answer"), "heatmap_class: expected one of"),
        (field_value("choice", "Pre-C", "verdict"), "expected a verdict among"),
        (field_value("given", "yesterday", "verdict"), "Invalid isoformat"),
        (field_value("given", "2026-01-01T00:00:00", "verdict"), "time zone"),
    ],
)
def test_a_manifest_is_not_believed(case, change, message):
    with pytest.raises(SavedCaseError, match=message):
        opened(changed(save_case(case, SOURCE, NOW), change))


@pytest.mark.parametrize("text", [b"", b"{", b"[" * 100_000, b"[1]", b"\xff\xfe", b'{"schema": 1}'])
def test_a_damaged_manifest_is_named(case, text):
    content = packed(parts(save_case(case, SOURCE, NOW)) | {MANIFEST: text})
    assert is_saved_case(content)
    with pytest.raises(SavedCaseError, match="expected"):
        opened(content)


def test_a_manifest_that_unpacks_to_too_much_is_refused(monkeypatch):
    monkeypatch.setattr(saved_case, "LARGEST_MANIFEST", 2**20)
    digits = np.random.default_rng(0).bytes(2**19 + 1).hex()
    with pytest.raises(SavedCaseError, match="expected at most 1 MB"):
        opened(packed({MANIFEST: digits.encode()}))


def test_a_damaged_field_is_named_and_spoils_no_other(case):
    entries = parts(save_case(case, SOURCE, NOW))
    images = [name for name in entries if name.startswith("fields/")]
    entries[images[0]] += b"changed"
    del entries[images[1]]
    saved = opened(packed(entries))
    names = [field.name for field in case.fields.values()]
    assert list(saved.damaged) == [LeftOut(name, DAMAGED_FIELD) for name in names[:2]]
    assert [field.name for field in saved.fields] == names[2:]


def test_a_damaged_heatmap_costs_the_heatmap_alone(case):
    entries = parts(save_case(case, SOURCE, NOW))
    maps = [name for name in entries if name.startswith("heatmaps/")]
    entries[maps[0]] = entries[maps[0]][:-1]
    del entries[maps[1]]
    saved = opened(packed(entries))
    first, second, third, *_ = saved.fields
    assert first.prediction.heatmap is second.prediction.heatmap is None
    assert third.prediction.heatmap is not None
    assert first.prediction.class_name == answer(0).class_name
    assert [notice.endswith(DAMAGED_HEATMAP) for notice in saved.notices] == [True, True]


def test_a_damaged_mask_of_cells_costs_the_mask_alone(case):
    entries = parts(save_case(case, SOURCE, NOW))
    masks = [name for name in entries if name.startswith("nuclei/")]
    entries[masks[0]] += b"x"
    del entries[masks[1]]
    saved = opened(packed(entries))
    first, second, third, *_ = saved.fields
    assert first.prediction.nuclei is second.prediction.nuclei is None
    assert third.prediction.nuclei is not None
    assert first.prediction.nucleated_cells == answer(0).nucleated_cells
    assert first.prediction.heatmap is not None
    assert [notice.endswith(DAMAGED_NUCLEI) for notice in saved.notices] == [True, True]
    assert first.cells == ()


def test_bits_that_flipped_never_raise_anything_else(case):
    content = save_case(case, SOURCE, NOW)
    random = np.random.default_rng(0)
    results = set()
    for _ in range(150):
        damaged = bytearray(content)
        # Half of them in the manifest and the directory, at the end.
        low = len(content) - 6000 if random.random() < 0.5 else 0
        for place in random.integers(low, len(content), 3):
            damaged[place] ^= 1 << random.integers(8)
        try:
            results.add(len(opened(bytes(damaged)).fields))
        except SavedCaseError:
            results.add("refused")
        is_saved_case(bytes(damaged))
    assert results >= {"refused", 5}


def test_the_limits_hold_for_a_saved_case_too(case):
    content = save_case(case, SOURCE, NOW)
    total = len(case.fields)
    names = [field.name for field in case.fields.values()]
    few = opened(content, Limits(fields=2))
    assert [f.name for f in few.fields] == names[:2]
    assert [item.name for item in few.damaged] == names[2:]
    assert all("expected a case of at most 2 fields" in item.reason for item in few.damaged)
    sizes = [len(field.content) for field in case.fields.values()]
    small = opened(content, Limits(case=sizes[0] + sizes[1]))
    assert [f.name for f in small.fields] == names[:2]
    assert len(small.damaged) == total - 2
    with pytest.raises(SavedCaseError, match="at most 0 MB"):
        opened(content, Limits(file=(len(content) - 1) // 2))


def test_nothing_more_is_unpacked_when_enough_was(case):
    """One entry of many zeros, named by many fields."""
    entries = parts(save_case(case, SOURCE, NOW))
    manifest = json.loads(entries[MANIFEST])
    record = manifest["fields"][0] | {"file": "fields/zeros"}
    manifest["fields"] = [record] * 1000
    content = packed({MANIFEST: json.dumps(manifest).encode(), "fields/zeros": bytes(2**20)})
    read = []

    class Counting(zipfile.ZipExtFile):
        def read(self, n=-1):
            data = super().read(n)
            read.append(len(data))
            return data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zipfile, "ZipExtFile", Counting)
        saved = opened(content, Limits(file=2**22, case=2**23))
    assert saved.fields == []
    assert len(saved.damaged) == 1000
    assert sum(read) < 2**24


def test_no_file_of_a_saved_case_may_unpack_to_more_than_its_size_lets_expect(case):
    entries = parts(save_case(case, SOURCE, NOW))
    (name, *_) = (name for name in entries if name.startswith("fields/"))
    saved = opened(packed(entries | {name: bytes(2**24)}))
    assert len(saved.fields) == len(case.fields) - 1
    assert "at most 100 times its size" in saved.damaged[0].reason
    with pytest.raises(SavedCaseError, match="at most 100 times its size"):
        opened(packed(entries | {MANIFEST: b" " * 2**24}))


def test_an_empty_picture_that_packs_well_comes_back():
    buffer = io.BytesIO()
    Image.new("RGB", (1200, 1200), "white").save(buffer, "BMP")
    case = Case()
    case.take_in([("empty.bmp", buffer.getvalue())])
    (field,) = opened(save_case(case, SOURCE, NOW)).fields
    assert field.content == buffer.getvalue()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"text", packed({"a.png": b"x"})])
def test_other_files_are_no_saved_cases(content):
    assert not is_saved_case(content)
    with pytest.raises(SavedCaseError):
        opened(content)


def test_every_part_of_an_answer_is_saved():
    """Whoever adds to `Prediction` is told here to add it to the saved case."""
    assert [part.name for part in dataclasses.fields(Prediction)] == [
        *("status", "class_name", "probabilities", "confidence", "heatmap", "heatmap_class"),
        *("novelty", "reasons", "nucleated_cells", "nuclei", "scale"),
    ]


# Slides


def test_slides_and_how_they_were_told_come_back(case):
    second = [*case.fields.values()][1]
    case.name_slides("{slide} half*")
    case.put_on_slide([second.key], "by hand")
    saved = opened(save_case(case, SOURCE, NOW))
    assert saved.slide_pattern == "{slide} half*"
    assert [f.slide for f in saved.fields] == [f.slide for f in case.fields.values()]
    assert [f.slide for f in saved.fields[:2]] == ["0", "by hand"]
    assert [f.slide_by_hand for f in saved.fields[:2]] == [False, True]
    again = Case(slide_pattern=saved.slide_pattern)
    again.put_back(saved.fields)
    again.name_slides("")
    assert [f.slide for f in again.fields.values()][:2] == [None, "by hand"]


def as_schema_2(manifest: dict) -> None:
    """Without what the second layout did not have."""
    manifest["schema"] = 2
    del manifest["originals"]
    for record in manifest["fields"]:
        del record["original"], record["place"]
        (record["answer"] or {}).pop("profile", None)


def test_a_case_of_the_second_schema_is_opened_with_its_slides(case):
    saved = opened(changed(save_case(case, SOURCE, NOW), as_schema_2))
    assert [f.slide for f in saved.fields] == [f.slide for f in case.fields.values()]
    assert all(f.original is None and f.place is None for f in saved.fields)
    assert {f.recorded.profile for f in saved.fields if f.recorded} == {None}


def as_schema_1(manifest: dict) -> None:
    """Without what the first layout did not have."""
    as_schema_2(manifest)
    manifest["schema"] = 1
    for key in ("part", "parts", "part_of"):
        del manifest[key]
    del manifest["settings"]["slide_pattern"]
    for record in manifest["fields"]:
        del record["slide"], record["slide_by_hand"]
    manifest["fields"][0]["name"] = "case.zip/slide 1/0.png"


def test_a_case_of_the_first_schema_is_opened_with_slides_by_folders(case):
    saved = opened(changed(save_case(case, SOURCE, NOW), as_schema_1))
    assert len(saved.fields) == len(case.fields)
    assert [f.verdict for f in saved.fields] == [f.verdict for f in case.fields.values()]
    assert [f.slide for f in saved.fields][:2] == ["case/slide 1", None]
    assert (saved.slide_pattern, saved.part, saved.parts) == ("", 1, 1)


# Parts


def large_case(limits: Limits, count: int = 6, size: int = 400_000) -> Case:
    """A case of files that cannot be compressed, with answers, that takes more than one part."""
    case = Case(limits, label="large")
    random = np.random.default_rng(0)
    files = [(f"s{i % 2}/{i}.png", PNG + random.bytes(size - len(PNG))) for i in range(count)]
    case.take_in([*files, ("notes.txt.zip", b"PK\x03\x04 damaged")])
    for i, field in enumerate(case.fields.values()):
        field.prediction = answer(i)
        field.verdict = Verdict("Pro-B", NOW, f"comment {i}")
    return case


@pytest.mark.parametrize("file", [1_000_000, 2_000_000])
def test_a_case_that_takes_more_than_can_be_opened_is_saved_in_parts(file):
    limits = Limits(file=file, case=10_000_000)
    case = large_case(limits)
    parts = parts_of(case)
    assert len(parts) > 1
    contents = [save_case(case, SOURCE, NOW, part=i + 1) for i in range(len(parts))]
    assert all(len(content) <= limits.part - 4096 for content in contents)  # the browser's limit
    saved = [opened(content, limits) for content in contents]
    assert [(s.part, s.parts) for s in saved] == [(i + 1, len(parts)) for i in range(len(parts))]
    assert len({s.of for s in saved}) == 1
    restored = [field for s in saved for field in s.fields]
    assert not any(s.damaged or s.notices for s in saved)
    assert [(f.key, f.content, f.verdict, f.slide) for f in restored] == [
        (f.key, f.content, f.verdict, f.slide) for f in case.fields.values()
    ]
    # What is of the whole case comes once.
    assert [item for s in saved for item in s.left_out] == case.left_out
    assert all(s.label == "large" for s in saved)


def test_a_file_of_the_largest_size_can_be_saved_and_opened():
    limits = Limits(file=1_500_000, case=10_000_000)
    case = large_case(limits, count=2, size=limits.file)
    assert [len(part) for part in parts_of(case)] == [1, 1]
    for number, field in enumerate(case.fields.values(), start=1):
        content = save_case(case, SOURCE, NOW, part=number)
        assert len(content) <= limits.part - 4096
        (restored,) = opened(content, limits).fields
        assert restored.content == field.content


def test_parts_do_not_change_while_the_analysis_goes_on():
    case = large_case(Limits(file=1_000_000, case=10_000_000))
    before = [[f.key for f in part] for part in parts_of(case)]
    for field in case.fields.values():
        field.prediction = field.verdict = None
    assert [[f.key for f in part] for part in parts_of(case)] == before


def test_a_small_case_is_one_part_and_an_empty_one_too(case):
    assert [len(part) for part in parts_of(case)] == [len(case.fields)]
    assert parts_of(Case()) == [[]]


def test_the_parts_of_a_case_are_within_its_limits_together():
    limits = Limits(file=1_000_000, case=10_000_000, fields=6)
    content = save_case(large_case(limits), SOURCE, NOW, part=2)
    count = len(opened(content, limits).fields)
    saved = opened(content, limits, fields_held=5)
    assert [len(saved.fields), len(saved.damaged)] == [1, count - 1]
    saved = open_case(content, limits, bytes_held=limits.case - 400_000)
    assert [len(saved.fields), len(saved.damaged)] == [1, count - 1]
    assert all("expected a case of at most" in item.reason for item in saved.damaged)


def test_what_cannot_be_read_is_saved_by_name_size_hash_and_error():
    case = Case()
    case.take_in([("zeros.png", bytes(3_000_000)), ("cut.png", PNG + b"cut")])
    zeros, cut = case.fields.values()
    assert case.size == len(cut.content) > 0
    case.settle(cut, Prediction("error", reasons=("damaged",)))
    assert case.size == 0
    content = save_case(case, SOURCE, NOW)
    assert len(content) < 10_000
    saved = opened(content)
    assert not saved.damaged
    assert [(f.name, f.key, f.size, f.content) for f in saved.fields] == [
        (f.name, f.key, size, b"")
        for f, size in zip((zeros, cut), (3_000_000, len(PNG) + 3), strict=True)
    ]
    assert [f.result.reasons for f in saved.fields] == [zeros.result.reasons, ("damaged",)]
    again = Case()
    again.put_back(saved.fields)
    again.analyse_again("another release")
    assert again.waiting() == []  # there is nothing to analyse


def without_content(change: dict) -> bytes:
    case = Case()
    case.take_in([("zeros.png", bytes(1000))])
    return changed(save_case(case, SOURCE, NOW), lambda m: m["fields"][0].update(change))


def test_a_field_without_content_needs_an_error():
    saved = opened(without_content({"answer": None}))
    assert [item.reason for item in saved.damaged] == [DAMAGED_FIELD]


@pytest.mark.parametrize("size", [-1, "many", True])
def test_a_field_without_content_needs_a_size(size):
    with pytest.raises(SavedCaseError, match="size"):
        opened(without_content({"size": size}))


def test_what_older_saved_cases_keep_of_unreadable_files_is_dropped(case):
    room = Room()
    kept = Field("ab", "old.png", bytes(1000), prediction=Prediction("error", reasons=("x",)))
    reopened = Case(room=room)
    reopened.put_back([kept])
    assert (kept.content, kept.size, room.taken) == (b"", 1000, 0)


def test_fields_of_a_saved_case_for_which_the_server_has_no_room_are_told():
    restored = [Field(key, f"{key}.png", bytes(1000)) for key in ("ab", "cd")]
    case = Case(room=Room(1500))
    (refused,) = case.put_back(restored)
    assert list(case.fields) == ["ab"]
    assert (refused.name, "server is full" in refused.reason) == ("cd.png", True)

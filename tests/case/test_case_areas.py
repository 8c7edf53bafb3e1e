"""Pictures larger than one field in a case: taken in, named, grouped, saved and exported."""

import copy
import csv
import io
import json
import zipfile
from datetime import UTC, datetime

import numpy as np
import pytest
from conftest import encode
from made_up_scans import TILE, tiled
from PIL import Image

from mseenet.case.archive import MAGIC
from mseenet.case.cells import geojson
from mseenet.case.export import CaseContext, CaseField, case_csv, case_zip
from mseenet.case.fields import OVERVIEW, REPEATED, Case, Source
from mseenet.case.limits import Limits
from mseenet.case.names import placed_name
from mseenet.case.saved import MANIFEST, SavedCaseError, open_case, save_case
from mseenet.imaging.areas import Area, Place, area_in
from mseenet.imaging.decoding import decode_image, squeeze
from mseenet.imaging.errors import TruncatedImageError
from mseenet.imaging.nuclei import find_cells
from mseenet.imaging.tiles import TiledPicture
from mseenet.inference.classifier import Prediction

NOW = datetime(2026, 5, 4, 12, 30, tzinfo=UTC)
SOURCE = Source("0123456789ab", "ab" * 32, "0.3.0", "Site A (0a1b2c)")
CONTEXT = CaseContext("", "ab" * 32, "0123456789ab", "0.3.0", "CPU", NOW, {})


@pytest.fixture(scope="module")
def content(area) -> bytes:
    return encode(area)


@pytest.fixture(scope="module")
def cut_once(content) -> Case:
    case = Case()
    case.take_in([("ward/scan.png", content)])
    return case


@pytest.fixture
def case(cut_once) -> Case:
    case = Case()
    case.put_back(copy.deepcopy(list(cut_once.fields.values())))
    case.notices, case.problems = list(cut_once.notices), list(cut_once.problems)
    return case


def changed(saved: bytes, change) -> bytes:
    """A saved case with another manifest."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved)) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == MANIFEST:
                manifest = json.loads(data)
                change(manifest)
                data = json.dumps(manifest).encode()
            new.writestr(name, data)
    return target.getvalue()


def test_a_larger_picture_comes_in_as_its_fields(case, content, area):
    places = area_in(content).places
    fields = list(case.fields.values())
    assert [field.place for field in fields] == list(places)
    assert fields[1].name == f"ward/scan.png [x {places[1].x}, y {places[1].y}]"
    for field in fields:
        x, y, width, height = field.place
        np.testing.assert_array_equal(
            decode_image(field.content), area[y : y + height, x : x + width]
        )
    (notice,) = case.notices
    assert notice.startswith("ward/scan.png: larger than one field: cut into 16 fields of ")
    assert case.problems == []


def test_all_fields_share_one_overview(case):
    (original,) = {field.original for field in case.fields.values()}
    assert original.size == (2048, 1536)
    assert Image.open(io.BytesIO(original.overview)).size == (OVERVIEW, OVERVIEW * 3 // 4)


def test_a_single_field_is_kept_bit_for_bit(field_png):
    case = Case()
    case.take_in([("field.png", field_png)])
    (field,) = case.fields.values()
    assert (field.content, field.name, field.original, field.place) == (
        field_png, "field.png", None, None,
    )  # fmt: skip


def test_one_picture_is_one_slide_unless_told_otherwise(case):
    assert {field.slide for field in case.fields.values()} == {"ward/scan.png"}
    case.name_slides("{slide}.png")
    assert {field.slide for field in case.fields.values()} == {"scan"}
    case.put_on_slide(list(case.fields)[:1], "S 12")
    case.name_slides("")
    assert [f.slide for f in case.fields.values()][:2] == ["S 12", "ward/scan.png"]


def test_the_same_picture_again_is_repeated(case, content):
    before = list(case.fields)
    case.take_in([("copy.png", content)])
    assert list(case.fields) == before
    assert [(item.name, item.reason) for item in case.left_out] == [("copy.png", REPEATED)]


def test_limits_of_a_case_hold_for_the_fields_of_a_picture(content):
    case = Case(limits=Limits(fields=3))
    case.take_in([("scan.png", content), ("more.png", content + b"other")])
    assert len(case.fields) == 3
    assert "13 of these left out, as at most 3 are kept" in case.notices[0]
    assert case.problems == ["more.png: expected a case of at most 3 fields and 1,024 MB"]
    tight = Case(limits=Limits(case=2**20))
    tight.take_in([("scan.png", content)])
    assert 0 < tight.size <= 2**20
    assert len(tight.fields) + len(tight.left_out) == 16
    (problem,) = tight.problems
    assert problem.startswith(f"{len(tight.left_out)} files: expected a case of at most")


def test_a_damaged_picture_spoils_no_other(content):
    case = Case()
    case.take_in([("cut.png", content[: len(content) // 2]), ("scan.png", content)])
    assert next(iter(case.fields.values())).name == "cut.png"  # its answer says why
    assert len(case.fields) == 17


def test_names_of_an_archive_are_read_anew(content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("Xbersicht.png", content)
    packed = buffer.getvalue().replace(b"Xbersicht", b"\x9abersicht")
    assert packed.startswith(MAGIC)
    case = Case()
    case.take_in([("case.zip", packed)])
    case.read_names_in("case.zip", "cp850")
    names = {(field.original.name, field.slide) for field in case.fields.values()}
    assert names == {("case.zip/Übersicht.png", "case/Übersicht.png")}
    assert all(f.name.startswith("case.zip/Übersicht.png [x ") for f in case.fields.values())


def test_a_saved_case_keeps_source_place_and_overview(case):
    opened = open_case(save_case(case, SOURCE, NOW), Limits())
    assert len(opened.fields) == 16
    for before, after in zip(case.fields.values(), opened.fields, strict=True):
        assert (after.name, after.place, after.slide) == (before.name, before.place, before.slide)
        assert (after.original.name, after.original.size) == ("ward/scan.png", (2048, 1536))
        one, other = (
            np.asarray(Image.open(io.BytesIO(f.original.overview)), int) for f in (before, after)
        )
        assert np.abs(one - other).mean() < 2  # compressed anew
    again = Case()
    again.put_back(opened.fields)
    assert [f.name for f in again.fields.values()] == [f.name for f in case.fields.values()]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("place", {"x": 2000, "y": 0, "width": 500, "height": 300}),
        ("place", {"x": -1, "y": 0, "width": 5, "height": 3}),
        ("place", {"x": 0, "y": 0, "width": 0, "height": 3}),
        ("place", None),
        ("original", "ffff"),
        ("original", 7),
    ],
)
def test_a_false_place_in_a_saved_case_is_named(case, key, value):
    saved = changed(save_case(case, SOURCE, NOW), lambda m: m["fields"][0].update({key: value}))
    with pytest.raises(SavedCaseError, match="fields 1"):
        open_case(saved, Limits())


def test_a_damaged_overview_in_a_saved_case_costs_only_the_overview(case):
    def damage(manifest):
        manifest["originals"][0]["overview"] = "fields/none.jpg"

    opened = open_case(changed(save_case(case, SOURCE, NOW), damage), Limits())
    assert len(opened.fields) == 16
    assert all("overview" in notice for notice in opened.notices)


def test_exports_carry_source_and_place(case):
    fields = list(case.fields.values())
    exported = [
        CaseField(f.name, Prediction("error", reasons=("none",)), None, None, cut=f.cut)
        for f in fields[:2]
    ]
    rows = list(csv.DictReader(io.StringIO(case_csv(exported, CONTEXT).decode("utf-8-sig"))))
    place = fields[1].place
    assert [rows[1][key] for key in ("source", "x", "y", "width", "height")] == [
        "ward/scan.png", *map(str, place),
    ]  # fmt: skip
    with zipfile.ZipFile(io.BytesIO(case_zip(exported, CONTEXT, 0.5))) as archive:
        (_, record) = json.loads(archive.read("case.json"))["fields"]
    assert record["source"] == "ward/scan.png"
    assert record["place"] == place._asdict()


def test_outlines_lie_in_the_picture_that_the_field_was_cut_from(case):
    field = list(case.fields.values())[-1]
    found = find_cells(squeeze(decode_image(field.content)))
    field.prediction = Prediction("rejected", nucleated_cells=1, nuclei=found.packed)
    x, y, width, height = field.place
    polygons = geojson(field)["features"]
    assert polygons
    for polygon in polygons:
        corners = np.array(polygon["geometry"]["coordinates"][0])
        assert (corners >= (x, y)).all()
        assert (corners <= (x + width, y + height)).all()


BLOCKS = np.zeros((10, 11), int)
BLOCKS[4, 5] = 1


@pytest.fixture(scope="module")
def large() -> bytes:
    """A tiled TIFF of 8,448 x 7,680 pixels, one tile of it with cells."""
    return tiled(BLOCKS, (1,), block=1)


@pytest.mark.slow
def test_a_tiled_picture_beyond_what_is_decoded_comes_in_as_its_fields(large):
    case = Case()
    case.take_in([("slide 7.tif", large)])
    fields = list(case.fields.values())
    assert 4 <= len(fields) <= 40
    assert {field.slide for field in fields} == {"slide 7.tif"}
    (original,) = {field.original for field in fields}
    assert original.size == (8448, 7680)
    overview = Image.open(io.BytesIO(original.overview))
    assert overview.size == (OVERVIEW, round(OVERVIEW * 10 / 11))
    for field in fields:
        assert 4 * TILE < field.place.x + field.place.width / 2 < 7 * TILE
        assert decode_image(field.content).shape[:2] == (field.place.height, field.place.width)
    assert case.problems == []
    opened = open_case(save_case(case, SOURCE, NOW), Limits())
    assert [field.place for field in opened.fields] == [field.place for field in fields]


def test_a_damaged_place_is_left_out_and_named_and_the_others_stay(large, monkeypatch):
    places = tuple(Place(5 * TILE + x, 4 * TILE, 256, 192) for x in (0, 256, 512))
    overview = np.zeros((10, 11, 3), np.uint8)
    found = Area(TiledPicture(large), places, overview, 0, 0, 0, round_border=False)
    read = TiledPicture.read

    def damaged(picture, place, width=None):
        if place == places[0]:
            raise TruncatedImageError("expected a whole image, got a damaged tile")
        return read(picture, place, width)

    monkeypatch.setattr(TiledPicture, "read", damaged)
    monkeypatch.setattr("mseenet.case.fields.area_in", lambda *_: found)
    case = Case()
    case.take_in([("a.tif", large)])
    assert [field.place for field in case.fields.values()] == list(places[1:])
    name = placed_name("a.tif", places[0])
    assert case.problems == [f"{name}: expected a whole image, got a damaged tile"]


def test_a_damaged_place_ends_no_archive(large, field_png, monkeypatch):
    """Only a full case or server does: what follows then cannot be taken in either."""
    place = Place(5 * TILE, 4 * TILE, 256, 192)
    overview = np.zeros((10, 11, 3), np.uint8)
    found = Area(TiledPicture(large), (place,), overview, 0, 0, 0, round_border=False)

    def damaged(picture, place, width=None):
        raise TruncatedImageError("expected a whole image, got a damaged tile")

    monkeypatch.setattr(TiledPicture, "read", damaged)
    monkeypatch.setattr(
        "mseenet.case.fields.area_in", lambda content, *_: found if content == large else None
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.tif", large)
        archive.writestr("b.png", field_png)
    case = Case()
    case.take_in([("a.zip", buffer.getvalue())])
    assert [field.name for field in case.fields.values()] == ["a.zip/b.png"]
    (problem,) = case.problems
    assert "a damaged tile" in problem


@pytest.mark.parametrize(("name", "change", "words"), [
    ("a.tif", lambda c: tiled(BLOCKS, (1,), 1, tags=((284, 3, 1, 2),)), "colours in separate planes"),
    ("a.mrxs", lambda c: encode(np.zeros((50, 50, 3), np.uint8), "JPEG"), "one file of a MIRAX scan"),
    ("a.VMS", lambda c: b"[Virtual Microscope Specimen]", "one file of a Hamamatsu scan"),
    ("a.dcm", lambda c: bytes(128) + b"DICM" + bytes(100), "a DICOM file"),
    ("a", lambda c: bytes(128) + b"DICM" + bytes(100), "a DICOM file"),
])  # fmt: skip
def test_a_scan_that_cannot_be_read_here_is_an_error_that_names_the_command(
    large, field_png, name, change, words
):
    case = Case()
    case.take_in([(name, change(large)), ("field.png", field_png)])
    (error, other) = case.fields.values()
    assert (error.result.status, error.content, other.content) == ("error", b"", field_png)
    (reason,) = error.result.reasons
    assert words in reason
    assert "`mseenet predict" in reason

import csv
import io
import json
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from PIL import Image
from pypdf import PdfReader

from mseenet.case import pdf as pdf_module
from mseenet.case import words
from mseenet.case.export import (
    CASE_HEADER,
    NO_MEANING,
    CaseContext,
    CaseField,
    case_csv,
    case_zip,
)
from mseenet.case.fields import Source
from mseenet.case.pdf import case_pdf
from mseenet.case.verdicts import NOT_JUDGED, Verdict
from mseenet.config import CLASS_NAMES
from mseenet.imaging.decoding import decode_image
from mseenet.imaging.errors import OwnOverlayError
from mseenet.imaging.formats import OVERLAY_SOFTWARE
from mseenet.inference.classifier import Prediction
from mseenet.inference.heatmaps import overlay

WEIGHTS = "0123456789abcdef" * 4
CONTEXT = CaseContext(
    label="Fall Ä-17",
    weights=WEIGHTS,
    release="fedcba987654",
    version="9.8.7",
    device="CPU",
    made=datetime(2026, 1, 5, 14, 3, 7, tzinfo=timezone(timedelta(hours=1))),
    settings=MappingProxyType({"Heatmap opacity": "60 %", "Heatmap method": "Grad-CAM"}),
)
CONTEXT_SOURCE = Source(CONTEXT.release, CONTEXT.weights, CONTEXT.version)
UNLIKE = "unlike the fields of training: novelty 1.83"
NO_IMAGE = "expected an image, got content of another kind"


def prediction(status="ok", name="Pre-B", confidence=0.91, **changes) -> Prediction:
    probabilities = dict.fromkeys(CLASS_NAMES, (1 - confidence) / 3) | {name: confidence}
    heatmap = np.zeros((224, 224), np.float32)
    heatmap[40:90, 40:90] = 0.9
    settings = {"heatmap": heatmap, "heatmap_class": name, "novelty": 0.42} | changes
    settings = {"nucleated_cells": 11} | settings
    return Prediction(status, name, probabilities, confidence, **settings)


class Cells:
    """Stands for the cells of a field."""

    def geojson(self) -> dict:
        return {"type": "FeatureCollection", "features": []}

    def crops(self, most: int) -> list[tuple[np.ndarray, float]]:
        return [(np.full((40, 40, 3), 90, np.uint8), share) for share in (0.61, 0.07)][:most]


@pytest.fixture(scope="module")
def case(fields) -> list[CaseField]:
    """A field of every kind, in shapes of their own."""
    wide = np.asarray(Image.fromarray(fields[1]).resize((320, 240)))
    refused = Prediction("rejected", novelty=1.83, reasons=(UNLIKE,))
    review = prediction("review", "Early Pre-B", 0.52, reasons=("low confidence: 52 %",))
    return [
        CaseField(
            *("Müller-Öz.png", prediction(), as_made(fields[0]), 0.234),
            evidence_near_nuclei=0.634,
            cells=Cells(),
        ),
        CaseField("Мазок-7.tif", review, as_made(wide), 0.25),
        CaseField("血液.png", prediction(name="Benign"), as_made(fields[2]), None),
        CaseField("foreign.png", refused, as_made(fields[3]), None),
        CaseField(
            "shown.png", prediction("rejected", "Pro-B", reasons=(UNLIKE,)), as_made(wide), 0.1
        ),
        CaseField("notes.txt", Prediction("error", reasons=(NO_IMAGE,)), None, None),
        CaseField("example.png", prediction(), as_made(fields[0]), 0.5, synthetic=True),
    ]


def named(name: str) -> CaseField:
    return CaseField(name, Prediction("error", reasons=(NO_IMAGE,)), None, None)


def pages(pdf: bytes) -> list[str]:
    return [page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages]


def flat(pdf: bytes) -> str:
    """All text on one line, whatever was wrapped where; dashes as hyphens."""
    return re.sub(r"\s+", " ", " ".join(pages(pdf))).replace("\N{EN DASH}", "-")


def rows(content: bytes) -> list[dict]:
    assert content.startswith(b"\xef\xbb\xbf")
    header, *lines = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
    assert header == list(CASE_HEADER)
    return [dict(zip(header, line, strict=True)) for line in lines]


def opened(content: bytes) -> zipfile.ZipFile:
    archive = zipfile.ZipFile(io.BytesIO(content))
    assert archive.testzip() is None
    return archive


def as_made(rgb):
    """What makes the pixels of a field."""
    return lambda: rgb


# CSV


def test_csv_has_a_row_for_each_field(case):
    table = rows(case_csv(case, CONTEXT))
    assert [row["file"] for row in table] == [field.name for field in case]
    assert [row["status"] for row in table] == [field.prediction.status for field in case]
    first = table[0]
    assert (first["predicted"], float(first["confidence"])) == ("Pre-B", 0.91)
    assert float(first["Benign"]) == pytest.approx(0.03)
    assert (first["evidence_on_nuclei"], first["synthetic"]) == ("0.234", "no")
    assert (first["evidence_near_nuclei"], first["nucleated_cells"]) == ("0.634", "11")
    assert (first["case"], first["made"]) == ("Fall Ä-17", "2026-01-05T14:03:07+01:00")
    assert (first["weights"], first["version"]) == (WEIGHTS, "9.8.7")
    assert (table[3]["predicted"], table[3]["novelty"]) == ("", "1.83")
    assert table[4]["reasons"] == f"{NO_MEANING}; {UNLIKE}"
    assert table[5]["reasons"] == NO_IMAGE
    assert table[6]["synthetic"] == "yes"


FORMULAS = (
    *("=cmd", "+1", "-1", "@x", "\tx", "\rx", "\nx", "\t=x", " =x", "\xa0=x", "\u3000-1"),
    *("\uff1dcmd", "\uff0b1", "\uff0d1", "\uff20x", "\x00=x", "\ufeff=x", "\u200b@x", "a\r=x"),
)


@pytest.mark.parametrize("text", FORMULAS)
@pytest.mark.parametrize("column", ["file", "reasons", "case", "version"])
def test_no_text_cell_begins_a_formula(text, column):
    field = CaseField(
        text if column == "file" else "a.png",
        Prediction("error", reasons=(text if column == "reasons" else NO_IMAGE,)),
        None,
        None,
    )
    changes = {"label": text if column == "case" else "", "version": "1"}
    if column == "version":
        changes["version"] = text
    (row,) = rows(case_csv([field], CaseContext(**vars(CONTEXT) | changes)))
    assert row[column].replace("'", "") == text
    assert row[column].startswith("'") or text == "a\r=x"
    assert not re.search(r"[;\t\r\n]\s*[=+\-@]", row[column])


def test_no_cell_begins_a_formula_where_semicolons_separate_cells():
    (row,) = rows(case_csv([named("a;=cmd|'/c calc'!A0.png")], CONTEXT))
    assert row["file"] == "a;'=cmd|'/c calc'!A0.png"


@pytest.mark.parametrize("name", ["plain-1.png", "a;b.png", "x=1 +2.png", "Ü\u0308ß 血.png", "'q'"])
def test_csv_keeps_harmless_names(name):
    (row,) = rows(case_csv([named(name)], CONTEXT))
    assert row["file"] == name


# ZIP


def test_zip_holds_overlays_records_and_table(case):
    archive = opened(case_zip(case, CONTEXT, 0.6))
    overlays = [
        "overlays/001-Müller-Öz.png",
        "overlays/002-Мазок-7.png",
        "overlays/003-血液.png",
        "overlays/005-shown-rejected.png",
        "overlays/007-example-synthetic.png",
    ]
    assert sorted(archive.namelist()) == sorted(
        [*overlays, "cells/001-Müller-Öz.geojson", "case.json", "case.csv"]
    )
    cells = json.loads(archive.read("cells/001-Müller-Öz.geojson"))
    assert cells == Cells().geojson()
    for name in overlays:  # which never come back as fields
        with pytest.raises(OwnOverlayError):
            decode_image(archive.read(name))
    for name, index in zip(overlays, (0, 1, 2, 4, 6), strict=True):
        image = Image.open(io.BytesIO(archive.read(name)))
        expected = overlay(case[index].pixels(), case[index].prediction.heatmap, 0.6)
        assert image.format == "PNG"
        assert image.info == {"Software": OVERLAY_SOFTWARE}
        np.testing.assert_array_equal(np.asarray(image), expected)
    assert archive.read("case.csv") == case_csv(case, CONTEXT)


def test_zip_json_is_complete(case):
    content = json.loads(opened(case_zip(case, CONTEXT, 0.6)).read("case.json"))
    assert content["research_use"] == words.RESEARCH_USE
    assert content["context"] == {
        "label": "Fall Ä-17",
        "weights": WEIGHTS,
        "release": "fedcba987654",
        "profile": None,
        "version": "9.8.7",
        "device": "CPU",
        "made": "2026-01-05T14:03:07+01:00",
        "settings": {"Heatmap opacity": "60 %", "Heatmap method": "Grad-CAM"},
    }
    assert [record["file"] for record in content["fields"]] == [field.name for field in case]
    first, refused, shown = (content["fields"][i] for i in (0, 3, 4))
    assert first["probabilities"]["Pre-B"] == 0.91
    assert (first["evidence_on_nuclei"], first["synthetic"]) == (0.234, False)
    assert (first["evidence_near_nuclei"], first["nucleated_cells"]) == (0.634, 11)
    assert first["cells"] == "cells/001-Müller-Öz.geojson"
    assert first["overlay"] == "overlays/001-Müller-Öz.png"
    assert (refused["predicted"], refused["overlay"]) == (None, None)
    assert shown["reasons"] == [NO_MEANING, UNLIKE]
    assert content["summary"]["named"] == 4
    assert content["summary"]["by_class"]["Pre-B"] == 2


NAMES = (
    *(
        "../../x.png",
        "..\\..\\x.png",
        "/etc/passwd",
        "C:\\a:b.png",
        "nul\0byte.png",
        "a\nb\x1b.png",
    ),
    *("..", ".", "", " ", "a/", "\u202egnp.exe", "half\udc80.png", "x" * 400 + ".png", "血" * 200),
    *("same.png", "same.png", "SAME.PNG", "same.jpg", "CON", "what?*<|>.png", "archive.zip/x.png"),
)


def test_zip_entries_have_safe_and_distinct_names(fields):
    case = [CaseField(name, prediction(), as_made(fields[0][:32, :48]), 0.5) for name in NAMES]
    archive = opened(case_zip(case, CONTEXT, 0.6))
    entries = archive.namelist()
    assert len({entry.casefold() for entry in entries}) == len(entries) == len(NAMES) + 2
    for number, entry in enumerate(entries[: len(NAMES)], start=1):
        folder, name = entry.split("/")
        assert folder == "overlays"
        assert re.fullmatch(r"\d{3}-.+\.png", name)
        assert int(name[:3]) == number
        assert ".." not in name
        assert not re.search(r'[\x00-\x1f\u202e\udc80<>:"|?*\\]', name)
        assert len(name.encode()) <= 150
        with Image.open(io.BytesIO(archive.read(entry))) as image:
            assert image.size == (48, 32)
    assert entries[:2] == ["overlays/001-x.png", "overlays/002-x.png"]
    records = json.loads(archive.read("case.json"))["fields"]
    assert [record["file"] for record in records] == list(NAMES)
    assert [record["overlay"] for record in records] == entries[: len(NAMES)]


PARTIAL = CaseContext(
    **vars(CONTEXT)
    | {
        "waiting": ["late 1.png", "late 2.png"],
        "left_out": [("locked.tif", "the browser could not read this file")],
    }
)


def test_exports_name_what_waits_and_what_was_left_out(case):
    table = rows(case_csv(case, PARTIAL))
    assert [(row["file"], row["status"], row["predicted"]) for row in table[len(case) :]] == [
        ("late 1.png", "waiting", ""),
        ("late 2.png", "waiting", ""),
        ("locked.tif", "left out", ""),
    ]
    assert table[-1]["reasons"] == "the browser could not read this file"
    content = json.loads(opened(case_zip(case, PARTIAL, 0.6)).read("case.json"))
    assert content["waiting"] == ["late 1.png", "late 2.png"]
    assert content["left_out"] == [
        {"file": "locked.tif", "reason": "the browser could not read this file"}
    ]
    assert len(content["fields"]) == len(case)
    text = flat(case_pdf(case, PARTIAL, [], 0.6))
    assert "Not complete: 2 of 9 fields wait for analysis" in text
    assert "late 2.png waits for analysis" in text
    assert "locked.tif the browser could not read this file" in text
    complete = flat(case_pdf(case, CONTEXT, [], 0.6))
    assert "Not in this report" not in complete
    assert "Not complete" not in complete


def test_every_row_names_the_release():
    assert rows(case_csv([named("a.png")], CONTEXT))[0]["release"] == "fedcba987654"


# PDF


@pytest.fixture(scope="module")
def pdf(case) -> bytes:
    return case_pdf(case, CONTEXT, range(len(case)), 0.6)


def test_every_page_says_research_use_and_its_number(case, pdf):
    texts = pages(pdf)
    assert len(texts) >= 3
    for number, text in enumerate(texts, start=1):
        assert words.RESEARCH_USE in text
        assert f"page {number} of {len(texts)}" in text
        assert "2026-01-05 14:03:07+01:00" in text
    # The word appears nowhere but in that line: on each page, and below the title.
    assert flat(pdf).lower().count("diagnos") == len(texts) + 1


def test_pdf_holds_the_summary(pdf):
    text = flat(pdf)
    assert "Fall Ä-17" in text
    assert "7 4 1 2 1 fields with a class of these to review rejected not read" in text
    assert re.search(r"Benign \(haematogones\) 1 \d\d\.\d % Early", text)
    assert "interval" not in text  # fields of one slide are not independent
    assert "Early Pre-B ALL 1 " in text
    assert "Pre-B ALL 2 " in text
    assert "Pro-B ALL 0 " in text
    malignant = (0.97 + 0.84 + 0.09 + 0.97) / 4
    assert f"Malignant (all but Benign) 3 {malignant:.1%}".replace("%", " %") in text
    assert re.search(r"Malignant 71\.[78] % versus Benign 28\.[23] %", text)
    assert "Synthetic fields in this case: 1." in text


EVIDENCE = "Measured on 17 series: 16 right."


def on_slides(*slides: tuple[str | None, str, int]) -> list[CaseField]:
    """Named fields: of each slide so many of a class."""
    return [
        CaseField(f"{slide}-{i}.png", prediction(name=name, heatmap=None), None, None, slide=slide)
        for slide, name, count in slides
        for i in range(count)
    ]


def test_slides_are_in_all_exports():
    case = on_slides(("s 10", "Pre-B", 5), ("s 2", "Benign", 6), (None, "Pro-B", 7))
    case += [CaseField("e.png", prediction(), None, None, synthetic=True, slide="s 2")]
    context = replace(
        CONTEXT, slide_evidence=EVIDENCE, waiting=["w.png"], waiting_slides=[("w.png", "s 3")]
    )
    table = rows(case_csv(case, context))
    assert [row["slide"] for row in table[:12]] == [*["s 10"] * 5, *["s 2"] * 6, ""]
    assert {row["file"]: row["slide"] for row in table}["w.png"] == "s 3"
    content = json.loads(opened(case_zip(case, context, 0.6)).read("case.json"))
    assert content["fields"][0]["slide"] == "s 10"
    summary = content["summary"]
    assert [(s["slide"], s["fields"], s["answer"]) for s in summary["slides"]] == [
        ("s 2", 6, "Benign"),
        ("s 10", 5, "Pre-B"),
        (None, 8, None),
    ]
    assert summary["answer"].startswith("The slides disagree")
    assert EVIDENCE in summary["answer_is"]
    text = flat(case_pdf(case, context, [], 0.6))
    assert "Spread of fields and slides" in text
    assert "s 2 6 6 6 0 0 0 Benign s 10 5 5 0 0 5 0 Pre-B no slide 8 8 0 0 1 7 none:" in text
    assert summary["answer"] in text
    assert EVIDENCE in text


def test_without_a_measurement_exports_give_slides_no_class():
    case = on_slides(("s 1", "Pre-B", 9))
    content = json.loads(opened(case_zip(case, CONTEXT, 0.6)).read("case.json"))["summary"]
    assert content["slides"][0]["answer"] is None
    assert content["answer"] == ""
    text = flat(case_pdf(case, CONTEXT, [], 0.6))
    assert "given no class" in text
    assert "was not measured" in text


def test_the_dot_plot_goes_over_pages_and_colours_no_table():
    case = on_slides(*((f"slide {i:03}", "Pre-B", 1) for i in range(90)))
    document = PdfReader(io.BytesIO(case_pdf(case, CONTEXT, [], 0.6)))
    streams = [page.get_contents().get_data() for page in document.pages]
    text = [page.extract_text() for page in document.pages]
    assert sum("slide 000" in page for page in text) >= 1
    assert text[1].count("100 %") >= 4  # the scale stands on each page
    assert sum(stream.count(b" c\n") + stream.count(b" c ") for stream in streams) >= 4 * 90
    assert not any(b" re f" in stream for stream in streams)


def read(case: list[CaseField]) -> list[CaseField]:
    """The case with verdicts: one that agrees, one that does not, one on a rejected field."""
    given = datetime(2026, 1, 5, 12, tzinfo=UTC)
    verdicts = {
        0: Verdict("Pre-B", given, "clear", "A. Reader", blind=True),
        1: Verdict("Benign", given, "=no", "A. Reader"),
        3: Verdict(NOT_JUDGED, given),
    }
    return [replace(field, verdict=verdicts.get(i)) for i, field in enumerate(case)]


def test_the_readers_verdicts_are_in_the_csv_and_the_json(case):
    table = rows(case_csv(read(case), CONTEXT))
    assert [(row["predicted"], row["verdict"], row["agrees"]) for row in table[:4]] == [
        ("Pre-B", "Pre-B", "yes"),
        ("Early Pre-B", "Benign", "no"),
        ("Benign", "", ""),
        ("", NOT_JUDGED, "yes"),
    ]
    assert [row["verdict_blind"] for row in table[:3]] == ["yes", "no", ""]
    assert table[1]["verdict_comment"] == "'=no"  # no formula
    assert (table[0]["reader"], table[0]["verdict_given"]) == (
        "A. Reader",
        "2026-01-05T12:00:00+00:00",
    )
    records = json.loads(opened(case_zip(read(case), CONTEXT, 0.6)).read("case.json"))
    assert records["fields"][1]["verdict"]["verdict_comment"] == "=no"
    assert records["fields"][2]["verdict"] is None
    assert np.sum(records["agreement"]["table"]) == 3
    assert records["agreement"]["all"] is None  # too few
    assert json.loads(opened(case_zip(case, CONTEXT, 0.6)).read("case.json"))["agreement"] is None


def test_the_pdf_shows_both_and_how_far_they_agree(case):
    text = flat(case_pdf(read(case), CONTEXT, [0, 1], 0.6))
    assert "Verdicts 3 of 7 fields, 1 of them blind" in text
    assert "Both name a class for 2 fields; how far they agree is given from 10 on." in text
    assert "1 Müller-Öz.png ok Pre-B Pre-B 91.0 % 0.42" in text
    assert "2 Мазок-7.tif to review Early Pre-B ≠ Benign 52.0 %" in text
    assert "Reader A. Reader: Pre-B, blind. clear" in text
    assert "Reader A. Reader: ≠ Benign. =no" in text
    many = read(case)[:2] * 6
    text = flat(case_pdf(many, CONTEXT, [], 0.6))
    assert (
        "Agreement: 6 of 12 fields for which both name a class, 50.0 % (95 % interval over fields: 25.4 % to 74.6 %)"
        in text
    )
    assert "Cohen's kappa 0.33" in text
    assert "(o - e) / (1 - e)" in text
    assert "Network and reader" not in flat(case_pdf(case, CONTEXT, [], 0.6))


def test_an_answer_of_another_release_says_so_everywhere(case):
    old = Source("0123456789ab", "c" * 64, "0.1.0", "Site A (0a1b2c)")
    fields = [replace(case[0], recorded=old), replace(case[1], recorded=CONTEXT_SOURCE)]
    table = rows(case_csv(fields, CONTEXT))
    assert [(row["release"], row["weights"], row["profile"]) for row in table] == [
        (old.release, old.weights, old.profile),
        (CONTEXT.release, CONTEXT.weights, ""),
    ]
    text = flat(case_pdf(fields, CONTEXT, [], 0.6))
    assert text.count("as recorded by release") == 1
    assert "as recorded by release 0123456789ab with site profile Site A (0a1b2c)" in text


def test_pdf_lists_all_fields(case):
    text = flat(case_pdf(case, CONTEXT, [], 0.6))
    assert "1 Müller-Öz.png ok Pre-B 91.0 % 0.42 11" in text
    assert "2 Мазок-7.tif to review Early Pre-B 52.0 % 0.42 11 low confidence: 52 %" in text
    assert "4 foreign.png rejected - - 1.83 - unlike the fields" in text
    assert "5 shown.png rejected - - 0.42 11 unlike the fields" in text
    assert "6 notes.txt not read - - - - expected an image" in text
    assert "7 example.png (synthetic) ok Pre-B" in text
    assert "Chosen fields" not in text
    assert "no validated meaning" not in text


def test_pdf_shows_chosen_fields(case, pdf):
    reader = PdfReader(io.BytesIO(pdf))
    text = flat(pdf)
    assert "Chosen fields" in text
    assert "Predicted class Pre-B ALL Confidence 91.0 %" in text
    assert "Benign 3.0 % Early Pre-B 3.0 % Pre-B 91.0 % Pro-B 3.0 %" in text
    assert "Nucleated cells: 11 Evidence on nucleated cells: 63.4 %" in text
    assert "61.0 % 7.0 %" in text  # below the crops
    assert f"{words.REVIEW}: low confidence: 52 %." in text
    assert f"{words.REJECTED}: {UNLIKE}." in text
    assert f"{words.REJECTED_SHOWN}: {UNLIKE}." in text
    assert "Output without validated meaning Pro-B ALL" in text
    assert f"{words.NOT_READ}: {NO_IMAGE}." in text
    assert words.SYNTHETIC in text
    # Six originals, five overlays, the scale, and two crops of one picture.
    sizes = [image.image.size for page in reader.pages for image in page.images]
    assert sorted(sizes) == [(120, 120), (128, 8), *[(224, 224)] * 7, *[(320, 240)] * 4]


def test_pdf_explains_words_and_origin(pdf):
    text = flat(pdf)
    for note in (*words.CLASS_NOTES.values(), words.UNSEEN_SLIDES):
        assert note in text
    assert "Fields of one slide are not independent" in text
    assert f"Release fedcba987654 Weights, SHA-256 {WEIGHTS}" in text
    assert "Heatmap opacity 60 % Heatmap method Grad-CAM" in text
    assert "Software MSEENet 9.8.7 Device CPU" in text


def test_what_the_font_lacks_is_numbered_and_explained(case, pdf):
    text = flat(pdf)
    assert "[8840][6DB2].png" in text
    assert "characters that this document's font lacks: this one for U+8840 of Unicode" in text
    plain = flat(case_pdf(case[:2], CONTEXT, [0], 0.6))
    assert "[" not in plain
    assert "font lacks" not in plain


def test_names_of_characters_that_the_font_lacks_stay_apart():
    patients = ["张伟.png", "王芳.png", "李娜.png", "\U0001fa78.png"]
    text = flat(case_pdf([named(name) for name in patients], CONTEXT, [], 0.6)).replace(" ", "")
    for name in patients:
        shown = "".join(f"[{ord(char):04X}]" for char in name.removesuffix(".png"))
        assert text.count(f"{shown}.png") == 1


def test_names_that_come_out_alike_are_followed_by_their_number():
    long = "begin" + "-" * 200
    names = [long + "a" + "-" * 200, long + "b" + "-" * 200, "other.png"]
    text = flat(case_pdf([named(name) for name in names], CONTEXT, [], 0.6))
    assert "(field 1)" in text
    assert "(field 2)" in text
    assert "(field 3)" not in text


def test_the_fonts_come_with_the_package_and_their_licence():
    folder = Path(pdf_module.__file__).with_name("fonts")
    assert {path.name for path in folder.iterdir()} == {
        "DejaVuSans.ttf",
        "DejaVuSans-Bold.ttf",
        "LICENSE",
    }
    code = "import sys, mseenet.case.pdf; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", [*NAMES, "{nb}.png", "a\ue000\ue001.png", "**b** __u__", "🩸.png"])
def test_any_name_can_be_printed(name, fields):
    field = CaseField(name, prediction(reasons=(name,)), as_made(fields[0]), 0.5)
    context = CaseContext(**vars(CONTEXT) | {"label": name})
    text = flat(case_pdf([field], context, [0], 0.6))
    if name.isascii() and name.isprintable() and len(name) < 30:
        assert (name.strip() or "(no name)") in text
    assert words.RESEARCH_USE in text


def test_decomposed_names_are_composed_for_print_only():
    decomposed = "Mu\u0308ller.png"
    assert "Müller.png" in flat(case_pdf([named(decomposed)], CONTEXT, [], 0.6))
    assert rows(case_csv([named(decomposed)], CONTEXT))[0]["file"] == decomposed


def test_long_names_lose_their_middle():
    text = "".join(pages(case_pdf([named("begin" + "-x" * 500 + "-end.tiff")], CONTEXT, [0], 0.6)))
    assert "begin-x-x" in text
    assert "…" in text
    assert "-end.tiff" in re.sub(r"\s", "", text)


def test_many_fields_repeat_the_header_and_stay_small():
    noise = np.random.default_rng(0).integers(0, 256, (768, 1024, 3), np.uint8)
    case = [
        CaseField(f"field-{i}.png", prediction(), as_made(np.roll(noise, i, axis=1)), 0.5)
        for i in range(200)
    ]
    content = case_pdf(case, CONTEXT, range(20), 0.6)
    assert len(content) < 15e6
    texts = pages(content)
    with_table = [text for text in texts if re.search(r"field-\d+\.png\s+ok", text)]
    assert len(with_table) >= 3
    assert all(re.search(r"No\.\s+File\s+Status\s+Class", text) for text in with_table)
    assert "field-199.png" in flat(content)


def test_a_field_without_evidence_says_so(fields):
    blank = prediction(heatmap=np.zeros((224, 224), np.float32))
    text = flat(case_pdf([CaseField("a.png", blank, as_made(fields[0]), None)], CONTEXT, [0], 0.6))
    assert "No positive evidence for Pre-B" in text
    assert "Evidence on nucleated cells:" not in text


def test_one_named_field_has_a_mean_and_none_has_not():
    field = CaseField("a.png", prediction(heatmap=None), None, None)
    assert "Malignant (all but Benign) 1 97.0 %" in flat(case_pdf([field], CONTEXT, [0], 0.6))
    assert "No class is named for any field" in flat(case_pdf([named("a")], CONTEXT, [0], 0.6))


# Input


def test_an_empty_case_is_refused():
    message = "expected a case of at least one field"
    with pytest.raises(ValueError, match=message):
        case_csv([], CONTEXT)
    with pytest.raises(ValueError, match=message):
        case_zip([], CONTEXT, 0.6)
    with pytest.raises(ValueError, match=message):
        case_pdf([], CONTEXT, [], 0.6)


def test_wrong_arguments_are_named(case):
    with pytest.raises(ValueError, match=r"expected chosen fields in \[0, 7\); received \[7, -1\]"):
        case_pdf(case, CONTEXT, [0, 7, -1], 0.6)
    with pytest.raises(ValueError, match=r"expected opacity in \[0, 1\]; received 60"):
        case_pdf(case, CONTEXT, [], 60)
    with pytest.raises(ValueError, match=r"expected opacity in \[0, 1\]; received 60"):
        case_zip(case, CONTEXT, 60)
    with pytest.raises(ValueError, match="expected a time with time zone"):
        CaseContext("", WEIGHTS, "f", "1", "CPU", datetime(2026, 1, 5), {})
    made = datetime(2026, 1, 5, tzinfo=UTC)
    assert CaseContext("", WEIGHTS, "f", "1", "CPU", made, {}).label == ""


def test_import_needs_neither_streamlit_nor_tensorflow():
    code = (
        "import sys, mseenet.case.export; "
        "assert not {'streamlit', 'tensorflow', 'keras'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

import csv
import io
import json

import pytest

from mseenet.case.records import CSV_HEADER, csv_line, json_line, percent, record, table_line
from mseenet.imaging.areas import Place
from mseenet.inference.classifier import Prediction

PROBABILITIES = {"Benign": 0.01, "Early Pre-B": 0.02, "Pre-B": 0.9, "Pro-B": 0.07}
GOOD = Prediction("ok", "Pre-B", PROBABILITIES, 0.9, nucleated_cells=7, scale=1.46)
CUT = ("scan.tif", Place(2048, 1024, 512, 384))
BAD = Prediction("error", reasons=("expected an image, got text",))


def test_json_has_exactly_the_agreed_fields():
    assert json.loads(json_line(record("a.png", GOOD, "abc", "0123456789ab"))) == {
        "file": "a.png",
        "slide": None,
        "source": None,
        "place": None,
        "status": "ok",
        "predicted": "Pre-B",
        "probabilities": PROBABILITIES,
        "confidence": 0.9,
        "novelty": None,
        "nucleated_cells": 7,
        "scale": 1.46,
        "reasons": [],
        "weights": "abc",
        "release": "0123456789ab",
        "profile": None,
    }
    assert json.loads(
        json_line(record("b.png", BAD, "abc", "0123456789ab", "slide 1", cut=CUT))
    ) == {
        "file": "b.png",
        "slide": "slide 1",
        "source": "scan.tif",
        "place": {"x": 2048, "y": 1024, "width": 512, "height": 384},
        "status": "error",
        "predicted": None,
        "probabilities": None,
        "confidence": None,
        "novelty": None,
        "nucleated_cells": None,
        "scale": None,
        "reasons": ["expected an image, got text"],
        "weights": "abc",
        "release": "0123456789ab",
        "profile": None,
    }
    named = record("a.png", GOOD, "abc", "0123456789ab", profile="site (0123456789ab)")
    assert named["profile"] == "site (0123456789ab)"
    assert csv_line(named).endswith(",0123456789ab,site (0123456789ab)")


@pytest.mark.parametrize(
    "name", ["plain.png", 'quo"te, comma.png', "line\nbreak.png", "Blut-Ö-血.png"]
)
def test_names_survive_json_and_csv(name):
    line = json_line(record(name, GOOD, "abc", "0123456789ab"))
    assert "\n" not in line
    assert json.loads(line)["file"] == name
    (row,) = csv.reader(
        io.StringIO(csv_line(record(name, GOOD, "abc", "0123456789ab")), newline="")
    )
    assert dict(zip(CSV_HEADER, row, strict=True)) == {
        "file": name, "slide": "", "source": "", "x": "", "y": "", "width": "", "height": "", "status": "ok", "predicted": "Pre-B", "confidence": "0.9", "Benign": "0.01",
        "Early Pre-B": "0.02", "Pre-B": "0.9", "Pro-B": "0.07", "novelty": "", "nucleated_cells": "7", "scale": "1.46", "reasons": "", "weights": "abc",
        "release": "0123456789ab", "profile": "",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["=1+1.png", "+a.png", "-a.png", "@a.png", "\ta.png"])
def test_csv_holds_no_formulas(name):
    cut = (name, CUT[1])
    (row,) = csv.reader([csv_line(record(name, BAD, "abc", "0123456789ab", name, cut=cut))])
    assert row[:3] == ["'" + name] * 3
    assert row[3:7] == ["2048", "1024", "512", "384"]
    assert row[7:16] == ["error", *[""] * 8]


def test_table_says_class_or_reason():
    assert table_line(record("a.png", GOOD, "abc", "0123456789ab")).split() == [
        "ok",
        "Pre-B",
        "90.0",
        "%",
        "7",
        "a.png",
    ]
    refused = Prediction("rejected", novelty=1.7, reasons=("unlike the fields",))
    line = table_line(record("c.png", refused, "abc", "0123456789ab"))
    assert line.split() == ["rejected", "-", "-", "-", "c.png:", "unlike", "the", "fields"]
    assert json.loads(json_line(record("c.png", refused, "abc", "0123456789ab")))["novelty"] == 1.7
    assert "b.png: expected an image, got text" in table_line(
        record("b.png", BAD, "abc", "0123456789ab")
    )


@pytest.mark.parametrize(
    ("proportion", "text"),
    [
        (1.0, "> 99.9 %"),
        (0.9991, "> 99.9 %"),
        (0.973, "97.3 %"),
        (0.0004, "< 0.1 %"),
        (0.0, "< 0.1 %"),
    ],
)
def test_percentages_never_claim_certainty(proportion, text):
    assert percent(proportion) == text

"""A reader's verdicts as a folder that training reads."""

import hashlib
import io
import zipfile
from datetime import UTC, datetime

import numpy as np
import pytest
from conftest import encode

from mseenet.case.fields import Case
from mseenet.case.labelled import labelled, missing_classes, training_folder
from mseenet.case.verdicts import NOT_JUDGED, UNSURE, Verdict
from mseenet.config import CLASS_NAMES
from mseenet.imaging.formats import SUFFIXES
from mseenet.inference.classifier import Prediction
from mseenet.laboratory.fields import find_fields
from mseenet.training.dataset import index_dataset

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


def case_of(fields: list[np.ndarray], names: list[str], choices: list[str]) -> Case:
    case = Case()
    for i, (name, choice) in enumerate(zip(names, choices, strict=True)):
        own = fields[i % len(fields)].copy()
        own[0, 0] = i
        case.take_in([(name, encode(own))])
        field = list(case.fields.values())[-1]
        field.prediction = Prediction("rejected")
        field.verdict = Verdict(choice, NOW)
    return case


def test_training_reads_what_is_taken_away(fields, tmp_path):
    names = [
        "slide 7/a.png",
        "../a.png",
        "b?*.JPG",
        "no ending",
        "CON.tif",
        "bad name .",
        "f.png",
        "g.png",
    ]
    choices = [*CLASS_NAMES, "Pre-B", "Pro-B", NOT_JUDGED, UNSURE]
    case = case_of(fields, names, choices)
    content = training_folder(case.done(), NOW)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path / "data")
    index = index_dataset(tmp_path / "data")
    assert index.unexpected == ()
    assert {sample.sha256: CLASS_NAMES[sample.label] for sample in index.samples} == {
        field.key: choice
        for field, choice in zip(case.fields.values(), choices, strict=True)
        if choice in CLASS_NAMES
    }
    found, problems = find_fields(tmp_path / "data")
    assert problems == []
    slides = {hashlib.sha256(f.source.read_bytes()).hexdigest(): (f.label, f.slide) for f in found}
    assert slides == {
        field.key: (CLASS_NAMES.index(choice), field.slide or choice)
        for field, choice in zip(case.fields.values(), choices, strict=True)
        if choice in CLASS_NAMES
    }
    assert "slide 7" in {slide for _, slide in slides.values()}
    (jpeg,) = (s.path for s in index.samples if s.path.name.startswith("b__"))
    assert jpeg.suffix.lower() in SUFFIXES


def test_what_is_no_label_stays_out(fields):
    case = case_of(fields, list("abcd"), ["Pre-B"] * 4)
    unread, synthetic, silent, kept = case.fields.values()
    unread.prediction = Prediction("error")
    synthetic.synthetic = True
    silent.verdict = None
    assert labelled(case.done()) == [("Pre-B", kept)]
    assert missing_classes(case.done()) == ["Benign", "Early Pre-B", "Pro-B"]
    kept.verdict = None
    with pytest.raises(ValueError, match="expected fields for which the reader names a class"):
        training_folder(case.done(), NOW)

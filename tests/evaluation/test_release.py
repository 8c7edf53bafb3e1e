"""One id for all that an answer depends on."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from mseenet.imaging import nuclei, quality
from mseenet.inference import cellularity, scale
from mseenet.inference.card import CARD_NAME, DEFAULT_WEIGHTS, read_card, release_of

CARD = json.loads((DEFAULT_WEIGHTS / CARD_NAME).read_text(encoding="utf-8"))


def changed(path: str, value) -> dict:
    content = json.loads(json.dumps(CARD))
    *parents, last = path.split("/")
    entry = content
    for name in parents:
        entry = entry[name]
    entry[last] = value
    return content


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("weights/sha256", "0" * 64),
        ("model/blank_corner", False),
        ("calibration/value", 3.0),
        ("calibration/slope", 0.0),
        ("review_confidence/value", 0.5),
        ("novelty/reject", 20.0),
        ("novelty/sha256", "0" * 64),
        ("novelty", None),
        ("malignant/threshold", 0.5),
        ("heatmap/scale", 1.0),
        ("out_of_fold/sha256", "0" * 64),
        ("out_of_fold", None),
    ],
)
def test_whatever_changes_an_answer_changes_the_release(path, value):
    assert release_of(changed(path, value)) != release_of(CARD)


@pytest.mark.parametrize(
    ("module", "name"),
    [(scale, "OFF"), (cellularity, "FEWEST"), (quality, "DARK"), (nuclei, "PROBABLE")],
)
def test_a_limit_in_the_code_changes_the_release(module, name, monkeypatch):
    before = release_of(CARD)
    monkeypatch.setattr(module, name, 7)
    assert release_of(CARD) != before


@pytest.mark.parametrize("change", [{"weights": np.zeros(96, np.float32)}, {"bias": 0.5}])
def test_other_coefficients_for_the_size_of_cells_change_the_release(change, monkeypatch):
    before, reference = release_of(CARD), scale.read_reference()
    monkeypatch.setattr(scale, "read_reference", lambda: replace(reference, **change))
    assert release_of(CARD) != before


@pytest.mark.parametrize(
    ("path", "value"),
    [("metrics", {}), ("versions/keras", "9"), ("training/command", "x"), ("intended_use", "x")],
)
def test_figures_and_words_do_not_change_the_release(path, value):
    assert release_of(changed(path, value)) == release_of(CARD)


def test_the_release_depends_on_no_order_of_entries():
    def turned(value):
        if isinstance(value, dict):
            return {name: turned(value[name]) for name in reversed(value)}
        return value

    assert list(turned(CARD)) != list(CARD)
    assert release_of(turned(CARD)) == release_of(CARD)


def test_the_shipped_reports_are_of_the_shipped_release():
    release = read_card(DEFAULT_WEIGHTS).release
    assert re.fullmatch("[0-9a-f]{12}", release)
    for name in ("evaluation.json", "audit.json"):
        assert json.loads((DEFAULT_WEIGHTS / name).read_text())["release"] == release
    for name in ("EVALUATION.md", "AUDIT.md", "MODEL_CARD.md"):
        assert f"Release `{release}`" in (DEFAULT_WEIGHTS / name).read_text(encoding="utf-8")

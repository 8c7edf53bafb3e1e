"""What a verification counts, its intervals over slides, and what it dares to say."""

from dataclasses import replace

import numpy as np
import pytest

from mseenet.config import CLASS_NAMES
from mseenet.laboratory.answers import Answers
from mseenet.laboratory.fields import SeenFields
from mseenet.laboratory.figures import (
    calibration,
    conclusion,
    figures_of,
    judge_criteria,
    over_slides,
    resampled,
)


def made_up(
    slides_each: int, per_slide: int = 20, wrong: float = 0.0, refused: float = 0.0, seed=0
):
    """Fields of all classes with answers that are as sure as they are right."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(4), slides_each * per_slide)
    slides = np.array([f"{k // per_slide}" for k in range(len(labels))])
    count = len(labels)
    fields = SeenFields(
        names=tuple(map(str, range(count))),
        slides=slides,
        labels=labels,
        looks=(None,) * count,
        marks=tuple(map(str, range(count))),
        sources=(b"",) * count,
        problems=(),
    )
    named = np.where(random.random(count) < wrong, (labels + 1) % 4, labels)
    sure = 1 - wrong - 1e-3
    probabilities = np.where(np.arange(4) == named[:, None], sure, (1 - sure) / 3)
    out = random.random(count) < refused
    reasons = tuple(("unlike the fields that ...",) if r else () for r in out)
    return fields, Answers(np.where(out, "rejected", "ok"), probabilities, out * 2.0, reasons)


def verdict(fields, answers):
    return conclusion(judge_criteria(figures_of(fields, answers)), fields)["verdict"]


def test_counts_are_of_the_right_fields():
    fields, answers = made_up(3, wrong=0.1, refused=0.2)
    figures = figures_of(fields, answers)
    named = answers.named
    right = (answers.predicted == fields.labels)[named]
    assert figures["refused"]["proportion"] == pytest.approx(1 - named.mean())
    assert figures["refused"]["reasons"] == {
        "unlike the fields that the network was validated on": int((~named).sum())
    }
    assert figures["accuracy"]["proportion"] == pytest.approx(right.mean())
    assert figures["accuracy"]["n"] == named.sum()
    assert np.sum(figures["confusion"]) == named.sum()
    for label, name in enumerate(CLASS_NAMES):
        row = np.array(figures["confusion"])[label]
        record = figures["by_class"][name]
        assert record["proportion"] == pytest.approx(row[label] / row.sum())
        assert record["slides"] == 3
    confusion = np.array(figures["confusion"])
    benign = figures["malignant_called_benign"]
    assert benign["proportion"] == pytest.approx(confusion[1:, 0].sum() / confusion[1:].sum())


def test_one_slide_says_nothing_of_others():
    record = over_slides(np.ones(50, bool), np.array(["a"] * 50))
    assert record["interval_95"] == [0.0, 1.0]
    assert resampled(lambda rows: 0.0, np.array(["a"] * 5)) == (0.0, 1.0)


def test_intervals_are_over_slides_not_over_fields():
    values = np.repeat([1, 1, 1, 0], 100).astype(bool)
    together = over_slides(values, np.repeat(list("abcd"), 100))["interval_95"]
    apart = over_slides(values, np.arange(400))["interval_95"]
    assert together[1] - together[0] > 4 * (apart[1] - apart[0])


def test_calibration_finds_false_confidence():
    fields, answers = made_up(4, wrong=0.3)
    honest = calibration(answers.probabilities, fields.labels, fields.slides)
    sure = np.where(answers.probabilities > 0.5, 0.997, 0.001)
    boasting = calibration(sure, fields.labels, fields.slides)
    assert honest["error"] < 0.08
    assert boasting["error"] > 0.2
    assert honest["interval_95"][0] <= honest["error"] <= honest["interval_95"][1] + 1e-9
    assert sum(b["n"] for b in boasting["bins"]) == len(fields.labels)


def test_it_holds_only_with_enough_slides():
    assert verdict(*made_up(5)) == "holds"
    fields, answers = made_up(2)
    found = conclusion(judge_criteria(figures_of(fields, answers)), fields)
    assert found["verdict"] == "cannot be said"
    assert "8 slides" in found["because"][-1]


def test_many_slides_without_one_class_are_not_enough():
    fields, answers = made_up(6)
    rows = fields.labels != 3
    found = conclusion(
        judge_criteria(figures_of(fields.chosen(rows), answers.chosen(rows))), fields.chosen(rows)
    )
    assert found["verdict"] == "cannot be said"
    assert "Pro-B" in found["because"][-1]


@pytest.mark.parametrize("spoilt", [{"wrong": 0.2}, {"refused": 0.5}])
def test_it_does_not_hold_where_errors_or_refusals_are_many(spoilt):
    assert verdict(*made_up(6, **spoilt)) == "does not hold"
    assert verdict(*made_up(2, **spoilt)) == "does not hold"  # few slides suffice to see it


def test_shuffled_labels_do_not_hold():
    fields, answers = made_up(6)
    shuffled = np.random.default_rng(1).permutation(fields.labels)
    mixed = replace(fields, labels=shuffled)
    assert verdict(mixed, answers) == "does not hold"


def test_all_refused_names_nothing_and_does_not_hold():
    fields, answers = made_up(6, refused=1.1)
    figures = figures_of(fields, answers)
    assert figures["calibration"]["error"] is None
    found = judge_criteria(figures)
    assert {c["name"]: c["verdict"] for c in found} == {
        "refused": "not met",
        "accuracy": "open",
        "malignant_called_benign": "open",
        "calibration_error": "open",
    }
    assert verdict(fields, answers) == "does not hold"

import numpy as np
import pytest

from mseenet.case.slides import FEWEST_FIELDS
from mseenet.case.summary import answer_text, summarize_case
from mseenet.config import CLASS_NAMES
from mseenet.inference.classifier import Prediction


def prediction(values, status="ok") -> Prediction:
    name = CLASS_NAMES[int(np.argmax(values))]
    probabilities = dict(zip(CLASS_NAMES, values, strict=True))
    return Prediction(status, name, probabilities, max(values))


BENIGN = prediction((0.7, 0.1, 0.1, 0.1))
PRE_B = prediction((0.1, 0.2, 0.6, 0.1))
PRE_B_REVIEW = prediction((0.1, 0.3, 0.4, 0.2), "review")
PRO_B_REJECTED = prediction((0.0, 0.0, 0.0, 1.0), "rejected")
REFUSED = Prediction("rejected", novelty=1.5, reasons=("unlike",))
UNREAD = Prediction("error", reasons=("no image",))


def test_only_named_fields_count_for_classes_and_means():
    summary = summarize_case([BENIGN, PRE_B, PRE_B_REVIEW, PRO_B_REJECTED, REFUSED, UNREAD])
    assert (summary.fields, summary.named) == (6, 3)
    assert summary.by_class == {"Benign": 1, "Early Pre-B": 0, "Pre-B": 2, "Pro-B": 0}
    assert summary.by_status == {"ok": 2, "review": 1, "rejected": 2, "error": 1}
    means = summary.probabilities
    expected = {"Benign": 0.9 / 3, "Early Pre-B": 0.2, "Pre-B": 1.1 / 3, "Pro-B": 0.4 / 3}
    assert means == pytest.approx(expected)
    assert list(means) == list(CLASS_NAMES)
    assert summary.malignant == pytest.approx(1 - 0.3)


@pytest.mark.parametrize("predictions", [[], [UNREAD], [REFUSED, PRO_B_REJECTED]])
def test_without_a_named_field_there_is_no_mean(predictions):
    summary = summarize_case(predictions)
    assert (summary.fields, summary.named) == (len(predictions), 0)
    assert summary.probabilities == {}
    assert summary.malignant is None
    assert sum(summary.by_status.values()) == len(predictions)


def slides(*pairs: tuple[str | None, Prediction]):
    return summarize_case([p for _, p in pairs], [slide for slide, _ in pairs], answered=True)


def test_fields_are_counted_by_slide_in_the_order_of_names():
    summary = slides(
        ("s 10", PRE_B), (None, BENIGN), ("s 2", BENIGN), ("s 10", UNREAD), ("s 2", PRO_B_REJECTED)
    )
    assert [s.slide for s in summary.slides] == ["s 2", "s 10", None]
    assert [(s.fields, s.named) for s in summary.slides] == [(2, 1), (2, 1), (1, 1)]
    assert summary.slides[1].by_class["Pre-B"] == 1
    assert summary.slides[1].probabilities["Pre-B"] == 0.6
    assert sum(s.fields for s in summary.slides) == summary.fields


def test_a_slide_has_the_class_of_the_highest_mean_probability():
    first, second = slides(*[("a", PRE_B)] * FEWEST_FIELDS, *[("b", BENIGN)] * 4).slides
    assert (first.answer, first.why) == ("Pre-B", "")
    assert (second.answer, "fewer than 5" in second.why) == (None, True)
    # Two fields say Benign by a little, three Pre-B by much.
    (mixed,) = slides(*[("a", BENIGN)] * 2, *[("a", prediction((0.0, 0.0, 0.9, 0.1)))] * 3).slides
    assert mixed.answer == "Pre-B"
    (without,) = slides(*[("a", PRE_B_REVIEW)] * 9).slides
    assert (without.answer, "half" in without.why) == (None, True)


def test_rejected_fields_have_no_say_in_the_class_of_a_slide():
    (slide,) = slides(*[("a", BENIGN)] * FEWEST_FIELDS, *[("a", PRO_B_REJECTED)] * 50).slides
    assert slide.answer == "Benign"


def test_fields_of_no_known_slide_are_given_no_class():
    summary = slides(*[(None, PRE_B)] * 20)
    assert summary.slides[0].answer is None
    assert answer_text(summary) == ""


def test_without_a_measurement_no_slide_is_given_a_class():
    summary = summarize_case([PRE_B] * 20, ["a"] * 20)
    assert summary.slides[0].answer is None
    assert "not measured" in summary.slides[0].why


def test_slides_that_differ_leave_the_case_without_a_class():
    pre_b, benign = [PRE_B] * FEWEST_FIELDS, [BENIGN] * FEWEST_FIELDS
    agreed = slides(*(("a", p) for p in pre_b), *(("b", p) for p in pre_b), ("c", BENIGN))
    said = answer_text(agreed)
    assert said == "All 2 slides that are given a class: Pre-B. 1 without a class."
    differ = slides(*(("a", p) for p in pre_b), *(("b", p) for p in benign))
    assert "disagree" in answer_text(differ)
    assert "Pre-B: a; Benign: b" in answer_text(differ)
    assert answer_text(slides(*(("a", p) for p in pre_b))) == "Slide a: Pre-B."


def test_the_order_of_the_fields_does_not_matter():
    rng = np.random.default_rng(1)
    predictions = [prediction(tuple(row)) for row in rng.dirichlet((1, 2, 4, 1), size=300).tolist()]
    summary = summarize_case(iter(predictions))
    assert summary == summarize_case(predictions) == summarize_case(reversed(predictions))

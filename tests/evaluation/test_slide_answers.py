"""How often slides are given their right class, on answers whose figures are known beforehand."""

import numpy as np
import pytest
from scipy.stats import binomtest, hypergeom

from mseenet.case.slides import FEWEST_FIELDS
from mseenet.case.words import SERIES_NEEDED, slide_evidence
from mseenet.evaluation.slide_answers import DRAWN, measure_slides, series_of_part


def made(parts: dict[str, tuple[int, list[int]]]):
    """Probabilities, labels and parts: for each part its label and what its fields are called."""
    called = np.array([c for _, answers in parts.values() for c in answers])
    labels = np.array([label for label, answers in parts.values() for _ in answers])
    names = np.array([name for name, (_, answers) in parts.items() for _ in answers])
    return 0.6 * np.eye(4)[called] + 0.1, labels, names


PARTS = {
    "right": (1, [1] * 30),
    "mostly right": (2, [2] * 24 + [0] * 6),
    "wrong throughout": (3, [0] * 30),
    "divided": (0, [0] * 10 + [1] * 10),
    "few": (1, [1] * (FEWEST_FIELDS - 1)),
}


def measured(parts=PARTS, judged=None):
    probabilities, labels, names = made(parts)
    return measure_slides(
        probabilities, labels, names, np.full(len(labels), True) if judged is None else judged
    )


def test_every_part_is_given_one_class_or_none():
    found = measured()
    outcomes = {item["part"]: item["outcome"] for item in found["each"]}
    assert outcomes == {
        "right": "right",
        "mostly right": "right",
        "wrong throughout": "wrong",
        "divided": "without",
        "few": "without",
    }
    record = found["parts"]
    assert [record[name] for name in ("n", "right", "wrong", "without")] == [5, 2, 1, 2]
    interval = binomtest(2, 5).proportion_ci(method="wilson")
    assert record["interval_95"] == pytest.approx([interval.low, interval.high])


def test_what_is_rejected_has_no_say():
    _, labels, names = made(PARTS)
    judged = (names != "right") | (np.arange(len(labels)) < FEWEST_FIELDS - 1)
    each = {item["part"]: item for item in measured(judged=judged)["each"]}
    assert (each["right"]["fields"], each["right"]["judged"]) == (30, FEWEST_FIELDS - 1)
    assert each["right"]["outcome"] == "without"
    assert each["mostly right"]["outcome"] == "right"


def test_a_series_is_wrong_if_any_of_its_ranges_is():
    ranges = {f"Pre-B Snap_NNN {i}": (2, [2] * 9) for i in range(1, 4)}
    found = measured(
        ranges | {"Pre-B Snap_NNN 4": (2, [0] * 9), "Pre-B Snap_NNN - Copy": (2, [2] * 9)}
    )
    assert (found["parts"]["n"], found["parts"]["right"]) == (5, 4)
    series = found["series"]
    assert [series[name] for name in ("n", "right", "wrong", "without")] == [2, 1, 1, 0]
    assert series_of_part("Benign Snap_NNN (2)") == "Benign Snap_NNN (2)"
    assert series_of_part("Pre-B Snap_NNN 2") == "Pre-B Snap_NNN"


def test_a_part_with_fields_of_two_classes_is_two_slides():
    probabilities, labels, _ = made({"a": (0, [0] * 9), "b": (1, [1] * 9)})
    found = measure_slides(probabilities, labels, np.array(["block"] * 18), labels >= 0)
    assert (found["parts"]["n"], found["parts"]["right"]) == (2, 2)


def test_few_fields_drawn_at_random():
    drawn = {draw["fields"]: draw for draw in measured()["drawn"]}
    assert tuple(drawn) == DRAWN
    five, twenty = drawn[5], drawn[20]
    assert (five["parts"], five["series"], twenty["parts"]) == (4, 4, 4)
    # A class has a majority with four of five fields.
    mostly, divided = hypergeom(30, 24, 5).sf(3), hypergeom(20, 10, 5).sf(3)
    assert five["right"] == pytest.approx((1 + mostly + divided) / 4, abs=0.03)
    assert five["wrong"] == pytest.approx((1 + hypergeom(30, 6, 5).sf(3) + divided) / 4, abs=0.03)
    assert five["lowest"] == {"part": "wrong throughout", "right": 0.0}
    assert 0 <= five["interval_95"][0] <= five["right"] <= five["interval_95"][1] <= 1
    # With more fields each part comes nearer to what all of its fields say.
    assert twenty["right"] == pytest.approx(0.5, abs=0.05)


def figures(right: int, wrong: int) -> dict:
    parts = {f"r{i}": (1, [1] * 20) for i in range(right)}
    parts |= {f"w{i}": (1, [0] * 20) for i in range(wrong)}
    return {"slides": measured(parts)}


def test_the_page_says_how_often_it_is_right_on_the_worst_protocol():
    said = slide_evidence({"series": figures(17, 0), "blocks-100": figures(16, 1)})
    assert "17 series" in said
    assert "16 right, 1 wrong, 0 without a class" in said
    assert "94 %" in said
    assert "unseen blocks, embargo 100" in said
    assert "5 fields" in said


@pytest.mark.parametrize(
    "metrics",
    [
        {},
        {"test": {"accuracy": 1.0}},
        {"series": figures(SERIES_NEEDED - 1, 0)},
        {"series": figures(20, 8)},
        {"series": figures(30, 0), "blocks-50": figures(2, 0)},
    ],
)
def test_without_a_good_measurement_slides_are_given_no_class(metrics):
    assert slide_evidence(metrics) == ""

"""What a reader says, and how far reader and network agree."""

from datetime import UTC, datetime

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from mseenet.case.verdicts import (
    CHOICES,
    FEWEST,
    FEWEST_SLIDES,
    LONGEST_COMMENT,
    NOT_JUDGED,
    UNSURE,
    VERDICT_HEADER,
    Verdict,
    agreeing_choice,
    agreement,
    agreement_record,
    agrees,
    verdict_cells,
    verdict_record,
    verdict_text,
)
from mseenet.config import CLASS_NAMES
from mseenet.inference.classifier import Prediction
from mseenet.metrics import grouped_interval, wilson_interval

NOW = datetime(2026, 11, 26, 12, 30, tzinfo=UTC)


def named(class_name: str, status: str = "ok") -> Prediction:
    probabilities = {name: 0.7 if name == class_name else 0.1 for name in CLASS_NAMES}
    return Prediction(status, class_name, probabilities, 0.7)


def said(choice: str, blind: bool = False) -> Verdict:
    return Verdict(choice, NOW, blind=blind)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"choice": "Pre-C"}, "expected a verdict among"),
        ({"given": datetime(2026, 1, 1)}, "time zone"),
        ({"comment": "x" * (LONGEST_COMMENT + 1)}, "at most 2,000 characters"),
        ({"reader": "x" * 81}, "at most 80 characters"),
    ],
)
def test_a_verdict_is_checked(values, message):
    with pytest.raises(ValueError, match=message):
        Verdict(**({"choice": "Pre-B", "given": NOW} | values))


def test_who_agrees_with_what():
    rejected = Prediction("rejected", "Pre-B", dict.fromkeys(CLASS_NAMES, 0.25), 0.25)
    assert agreeing_choice(named("Pro-B", "review")) == "Pro-B"
    assert agreeing_choice(rejected) == NOT_JUDGED  # whatever was asked to be shown
    assert agreeing_choice(Prediction("error")) is None
    assert agrees(named("Pro-B"), said("Pro-B")) is True
    assert agrees(named("Pro-B"), said("Pre-B")) is False
    assert agrees(named("Pro-B"), said(NOT_JUDGED)) is False
    assert agrees(rejected, said(NOT_JUDGED)) is True
    assert agrees(rejected, said("Pre-B")) is False
    assert agrees(named("Pro-B"), said(UNSURE)) is None
    assert agrees(named("Pro-B"), None) is None


def test_a_verdict_as_record_and_cells():
    verdict = Verdict("Pre-B", NOW, "=1+1", "A. Reader", blind=True)
    record = verdict_record(named("Pro-B"), verdict)
    assert record == {
        "verdict": "Pre-B",
        "agrees": False,
        "verdict_blind": True,
        "verdict_comment": "=1+1",
        "reader": "A. Reader",
        "verdict_given": "2026-11-26T12:30:00+00:00",
    }
    cells = ["Pre-B", "no", "yes", "=1+1", "A. Reader", "2026-11-26T12:30:00+00:00"]
    assert verdict_cells(record) == cells
    assert verdict_cells(None) == [None] * len(VERDICT_HEADER)
    assert verdict_text(named("Pro-B"), verdict) == "≠ Pre-B"
    assert verdict_text(named("Pre-B"), verdict) == "Pre-B"
    assert verdict_text(named("Pre-B"), None) is None


def pairs(seed: int, n: int) -> list[tuple[str, str]]:
    random = np.random.default_rng(seed)
    machine = random.integers(0, 4, n)
    reader = np.where(random.random(n) < 0.7, machine, random.integers(0, 4, n))
    return [(CLASS_NAMES[m], CLASS_NAMES[r]) for m, r in zip(machine, reader, strict=True)]


@pytest.mark.parametrize("seed", range(5))
def test_kappa_is_that_of_scikit_learn(seed):
    labels = pairs(seed, 60)
    found = agreement((named(machine), said(reader)) for machine, reader in labels).measured
    machine, reader = zip(*labels, strict=True)
    agreed = sum(m == r for m, r in labels)
    assert (found.n, found.agreed) == (60, agreed)
    assert found.proportion == agreed / 60
    assert found.interval == wilson_interval(agreed, 60)
    assert found.kappa == pytest.approx(cohen_kappa_score(machine, reader))


def test_the_table_holds_all_and_the_figures_only_fields_with_two_classes():
    both = [(named(m), said(r, blind=i < 10)) for i, (m, r) in enumerate(pairs(1, 20))]
    others = [
        (named("Pre-B"), said(UNSURE)),
        (named("Pre-B"), said(NOT_JUDGED)),
        (Prediction("rejected"), said("Pro-B")),
        (Prediction("rejected"), said(NOT_JUDGED)),
        (named("Pre-B"), None),
        (Prediction("error"), None),
    ]
    found = agreement([*both, *others])
    alone = agreement(both)
    assert found.measured == alone.measured
    assert found.blind == agreement(both[:10]).measured
    assert found.table.sum() == 24
    assert found.table[2, CHOICES.index(UNSURE)] == 1
    assert found.table[4, CHOICES.index("Pro-B")] == 1
    record = agreement_record(found)
    assert record["table"] == found.table.tolist()
    assert record["all"]["n"] == 20
    assert record["blind"]["n"] == 10
    assert "(o - e) / (1 - e)" in record["kappa_is"]


def test_the_interval_is_over_slides_where_there_are_enough():
    both = [(named(m), said(r, blind=i % 2 == 0)) for i, (m, r) in enumerate(pairs(2, 60))]
    slides = [f"s {i // 10}" for i in range(60)]
    found = agreement(both, slides)
    same = np.array([p.class_name == v.choice for p, v in both], float)
    assert found.measured.slides == found.blind.slides == 6
    assert found.measured.interval == grouped_interval(same, np.array(slides))
    assert "95 % interval over 6 slides" in str(found.measured)
    assert agreement_record(found)["all"]["slides"] == 6
    assert found.measured.kappa == agreement(both).measured.kappa
    for of in ([f"s {i % (FEWEST_SLIDES - 1)}" for i in range(60)], [*slides[:-1], None]):
        over_fields = agreement(both, of).measured
        assert over_fields == agreement(both).measured
        assert over_fields.slides is None
        assert "95 % interval over fields" in str(over_fields)


@pytest.mark.parametrize("reader", ["Pre-B", "Benign"])
def test_where_all_slides_are_alike_their_number_counts(reader):
    both = [(named("Pre-B"), said(reader))] * 60
    found = agreement(both, [f"s {i % 6}" for i in range(60)]).measured
    assert found.interval == wilson_interval(6 if reader == "Pre-B" else 0, 6)


def test_of_few_fields_nothing_is_said():
    few = [(named("Pre-B"), said("Pre-B"))] * (FEWEST - 1)
    found = agreement([*few, (named("Pre-B"), said(UNSURE))])
    assert found.measured is None
    assert found.named == FEWEST - 1
    assert agreement_record(found)["all"] is None
    assert agreement_record(agreement([])) is None


def test_kappa_is_not_defined_where_both_always_name_one_class():
    found = agreement([(named("Pre-B"), said("Pre-B"))] * FEWEST).measured
    assert (found.proportion, found.kappa) == (1.0, None)

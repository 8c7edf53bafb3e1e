"""What follows from out-of-fold answers, on answers whose figures are known beforehand."""

import hashlib
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from made_up_answers import GATE, answers, stress_answers
from scipy.stats import binomtest, bootstrap

from mseenet.case.records import percent
from mseenet.case.words import confidence_kept, hardest_unseen, operating_point
from mseenet.config import BENIGN, CLASS_NAMES
from mseenet.evaluation.out_of_fold import OutOfFold, calibrate, hardest, out_of_fold_csv
from mseenet.evaluation.statuses import Seen, statuses
from mseenet.evaluation.stress import ANOTHER_CLASS, NO_CELLS, STRESS_TESTS, UNCHANGED
from mseenet.evaluation.unseen import (
    card_metrics,
    cross_fit,
    measure_malignant,
    measure_unseen,
    out_of_fold_of,
    stress_of,
)
from mseenet.evaluation.unseen_stress import stress_npz
from mseenet.imaging.nuclei import NucleatedCells
from mseenet.imaging.quality import Finding
from mseenet.inference.calibration import Calibration
from mseenet.inference.card import DEFAULT_WEIGHTS, read_card
from mseenet.inference.cellularity import FEWEST, SURE
from mseenet.inference.classifier import judged
from mseenet.metrics import grouped_interval, grouped_proportion, softmax
from mseenet.training.dataset import DatasetError

REJECT = GATE.reject
EASY, HARD = "blocks-50", "series"


@pytest.fixture(scope="module")
def results() -> dict[str, OutOfFold]:
    found = {EASY: answers(1, 0.1), HARD: answers(2, 0.25, folds=4)}
    assert hardest(found) == HARD
    return found


@pytest.fixture(scope="module")
def stress(results):
    return {HARD: stress_answers(results[HARD], 1)}


@pytest.fixture(scope="module")
def measured(results, stress) -> dict[str, dict]:
    return measure_unseen(results, GATE, stress, "cells")


@pytest.fixture(scope="module")
def fitted(results):
    return cross_fit(results, REJECT)


def test_accuracy_is_of_all_fields_and_of_each_fold_and_part(results, measured):
    for protocol, result in results.items():
        right = result.logits.argmax(axis=1) == result.labels
        figures = measured[protocol]
        assert figures["accuracy"] == pytest.approx(right.mean())
        by_fold = [right[result.folds == fold].mean() for fold in np.unique(result.folds)]
        assert [fold["accuracy"] for fold in figures["folds"]] == pytest.approx(by_fold)
        for part in figures["parts"]:
            mine = result.parts == part["name"]
            assert (part["n"], part["right"]) == (mine.sum(), right[mine].sum())
        assert len(figures["parts"]) == len(set(result.parts))


def test_each_part_is_given_a_class_by_its_judged_fields(results, measured):
    for protocol, result in results.items():
        slides = measured[protocol]["slides"]
        assert [item["part"] for item in slides["each"]] == list(dict.fromkeys(result.parts))
        judged = sum(item["judged"] for item in slides["each"])
        rejected = measured[protocol]["statuses"]["rejected"]
        assert judged == round(rejected["n"] * (1 - rejected["proportion"]))
        kept = card_metrics(measured)[protocol]["slides"]
        assert kept == {name: value for name, value in slides.items() if name != "each"}


def test_intervals_are_bootstraps_over_parts(results, measured):
    """SciPy draws the parts of equal size; the interval over single fields is narrower."""
    for protocol, result in results.items():
        right = result.logits.argmax(axis=1) == result.labels
        parts = np.array([right[result.parts == name].mean() for name in np.unique(result.parts)])
        reference = bootstrap(
            (parts,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(5)
        ).confidence_interval
        found = measured[protocol]["interval_95"]["accuracy"]
        assert found == pytest.approx([reference.low, reference.high], abs=0.005)
        benign = result.labels == BENIGN
        expected = grouped_interval(right[benign].astype(float), result.parts[benign])
        assert measured[protocol]["by_class"][BENIGN]["interval_95"] == pytest.approx(expected)


def test_without_errors_the_interval_claims_no_certainty():
    right = answers(3)
    right = replace(right, logits=6 * np.eye(4)[right.labels])
    figures = measure_unseen({"series": right}, GATE, {}, "cells")["series"]
    reference = binomtest(600, 600).proportion_ci(method="wilson")
    assert figures["interval_95"]["accuracy"] == pytest.approx([reference.low, reference.high])
    assert figures["flagged"]["errors"]["n"] == 0


def test_no_field_has_a_part_in_its_own_calibration(results, fitted):
    """Ruining what the hardest protocol says of one fold's files changes all but what they get."""
    for protocol, result in results.items():
        for fold in np.unique(result.folds):
            files = np.array(result.files)[result.folds == fold]
            spoilt = {}
            for name, other in results.items():
                logits = other.logits.copy()
                mine = np.isin(other.files, files)
                logits[mine] = np.roll(logits[mine], 1, axis=1)  # nearly all of them wrong
                spoilt[name] = replace(other, logits=logits)
            if hardest(spoilt) != HARD:
                continue
            again, before = cross_fit(spoilt, REJECT)[protocol], fitted[protocol]
            mine = result.folds == fold
            assert again.temperature[int(fold)] == before.temperature[int(fold)]
            for name in ("threshold", "malignant"):
                np.testing.assert_array_equal(
                    getattr(again, name)[mine], getattr(before, name)[mine]
                )
            others = [f for f in before.temperature if f != fold]
            assert any(again.temperature[f] != before.temperature[f] for f in others)


def test_each_fold_is_calibrated_as_the_card_is(results, fitted):
    """Without the files that the fold tests."""
    tested = results[EASY].folds == 4
    files = np.array(results[EASY].files)[tested]
    others = {name: other.take(~np.isin(other.files, files)) for name, other in results.items()}
    record = calibrate(others, HARD, REJECT)
    calibration = Calibration(*(record["calibration"][name] for name in ("value", "slope")))
    temperatures = calibration.temperatures(results[EASY].novelty[tested] / REJECT)
    found = fitted[EASY]
    expected = softmax(results[EASY].logits[tested], temperatures)
    np.testing.assert_allclose(found.probabilities[tested], expected)
    assert set(found.threshold[tested]) == {record["review_confidence"]["value"]}
    assert set(found.malignant[tested]) == {record["malignant"]["threshold"]}


def test_bins_of_the_reliability_diagram_hold_every_field(measured):
    for figures in measured.values():
        for name in ("before_calibration", "after_calibration"):
            bins = figures[name]["bins"]
            n = figures["n"]
            assert sum(b["n"] for b in bins) == n
            gap = sum(b["n"] * abs(b["confidence"] - b["proportion"]) for b in bins)
            assert figures[name]["ece"] == pytest.approx(gap / n)
            right = sum(b["n"] * b["proportion"] for b in bins)
            assert right == pytest.approx(figures["accuracy"] * n)
            for b in bins:
                excess = b["confidence"] - b["proportion"]
                assert b["too_sure"] == (b["n"] > 50 and excess > 0.08)


def test_a_bin_that_is_too_sure_is_marked():
    sure = answers(4, wrong=0.0)
    logits = 4 * np.eye(4)[sure.labels]
    wrong = np.arange(len(logits)) % 4 == 0
    logits[wrong] = np.roll(logits[wrong], 1, axis=1)
    figures = measure_unseen({"series": replace(sure, logits=logits)}, GATE, {}, "robust")["series"]
    (bin_before,) = figures["before_calibration"]["bins"]
    assert bin_before["too_sure"]
    assert not any(b["too_sure"] for b in figures["after_calibration"]["bins"])


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, "ok"),
        ({"confidence": 0.7}, "review"),
        ({"novelty": GATE.review}, "review"),
        ({"novelty": GATE.reject}, "rejected"),
        ({"findings": 1}, "review"),
        ({"findings": 2}, "rejected"),
        ({"cells": FEWEST - 1}, "review"),
        ({"cells": FEWEST}, "ok"),
        ({"cells": 0, "clear": 0, "confidence": SURE - 0.01}, "rejected"),
        ({"cells": 0, "clear": 0, "confidence": SURE}, "review"),
        ({"confidence": 0.39}, "rejected"),
        ({"confidence": 0.59, "clear": 0}, "rejected"),
        ({"confidence": 0.61, "clear": 0}, "review"),
    ],
)
def test_statuses_are_those_of_the_product(change, status):
    field = {"confidence": 0.95, "novelty": 1.0, "findings": 0, "cells": 8, "clear": 4} | change
    given = {name: np.array([value]) for name, value in field.items()}
    seen = Seen(given["findings"], given["cells"], given["clear"])
    found = statuses(given["confidence"], np.array([0.8]), given["novelty"], GATE, seen)
    assert found.tolist() == [status]
    if not change.keys() - {"novelty"}:
        found = statuses(given["confidence"], np.array([0.8]), given["novelty"], GATE, None)
        assert found.tolist() == [status]


def test_rules_on_arrays_are_those_of_the_classifier(gated_classifier):
    """Both apply the same rules, one to a field as it comes, one to answers that were kept."""
    gate, random = gated_classifier.card.novelty, np.random.default_rng(0)
    threshold, n = gated_classifier.card.review_confidence, 400
    confidence, novelty = random.uniform(0.3, 1, n), random.uniform(0.5, 1.1, n) * gate.reject
    findings = random.choice(3, n, p=(0.8, 0.1, 0.1))
    cells = random.integers(0, 5, n)
    clear = np.minimum(cells, random.integers(0, 3, n))
    found = statuses(confidence, np.full(n, threshold), novelty, gate, Seen(findings, cells, clear))
    for i in range(n):
        quality = [Finding("any", 0.0, "any", severe=findings[i] == 2)] * int(findings[i] > 0)
        status, _, _ = judged(
            gated_classifier.card,
            tuple(quality),
            NucleatedCells(int(cells[i]), int(clear[i])),
            np.array([confidence[i], 0, 0, 0]),
            float(novelty[i] / gate.reject),
        )
        assert found[i] == status
    assert set(found) == {"ok", "review", "rejected"}


def test_flags_are_the_statuses_that_are_not_ok(results, measured, stress, fitted):
    result, given = results[HARD], stress[HARD][UNCHANGED]
    confidence = fitted[HARD].probabilities.max(axis=1)
    seen = Seen(given.findings, given.cells, given.clear)
    status = statuses(confidence, fitted[HARD].threshold, result.novelty, GATE, seen)
    flagged = status != "ok"
    wrong = result.logits.argmax(axis=1) != result.labels
    record = measured[HARD]["flagged"]
    assert measured[HARD]["cells_counted"]
    assert not measured[EASY]["cells_counted"]
    assert record["fields"] == grouped_proportion(flagged, result.parts)
    assert record["errors"] == grouped_proportion(flagged[wrong], result.parts[wrong])
    assert record["rest_right"] == grouped_proportion(~wrong[~flagged], result.parts[~flagged])
    for name in ("ok", "review", "rejected"):
        expected = grouped_proportion(status == name, result.parts)
        assert measured[HARD]["statuses"][name] == expected


def test_the_promise_of_the_review_threshold_is_held_against_others(results, measured, fitted):
    for protocol, result in results.items():
        right = result.logits.argmax(axis=1) == result.labels
        sure = fitted[protocol].probabilities.max(axis=1) >= fitted[protocol].threshold
        record = measured[protocol]["review_promise"]
        assert record == {"promised": 0.99, **grouped_proportion(right[sure], result.parts[sure])}


def test_the_curve_ends_with_all_fields_and_begins_with_the_surest(results, measured, fitted):
    confidence = fitted[EASY].probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    right = (results[EASY].logits.argmax(axis=1) == results[EASY].labels)[order]
    curve = {point["kept"]: point for point in measured[EASY]["risk_coverage"]}
    assert curve[1.0]["proportion"] == pytest.approx(measured[EASY]["accuracy"])
    for kept in (0.05, 0.5, 0.85):
        n = int(kept * len(right))
        assert curve[kept]["n"] == n
        assert curve[kept]["proportion"] == pytest.approx(right[:n].mean())
    selective = measured[EASY]["selective"]
    assert selective == {"coverage": 0.85, **{k: v for k, v in curve[0.85].items() if k != "kept"}}


def test_malignant_and_benign_by_hand():
    probabilities = np.array(
        [[0.9, 0.1, 0, 0], [0.4, 0.6, 0, 0], [0.7, 0.3, 0, 0], [0.45, 0, 0.55, 0], [0.1, 0, 0, 0.9]]
    )
    labels, groups = np.array([0, 0, 1, 2, 3]), np.arange(5)
    found = measure_malignant(probabilities, labels, groups, np.array([0.5, 0.7, 0.2, 0.6, 0.5]))
    counts = {name: (r["proportion"], r["n"]) for name, r in found.items()}
    assert counts == {
        "called_benign": (1 / 3, 3),
        "called_malignant": (1 / 2, 2),
        "sensitivity": (2 / 3, 3),
        "specificity": (1, 2),
    }


def test_the_operating_point_is_set_without_the_fields_that_it_is_tried_on(
    results, measured, fitted
):
    result, found = results[HARD], fitted[HARD]
    malignant = 1 - found.probabilities[:, BENIGN] >= found.malignant
    ill = result.labels != BENIGN
    record = measured[HARD]["malignant"]
    assert record["sensitivity"]["proportion"] == pytest.approx(malignant[ill].mean())
    assert record["specificity"]["proportion"] == pytest.approx(1 - malignant[~ill].mean())


def test_stress_tests_are_judged_with_what_the_tested_fields_had_no_part_in(
    results, stress, measured, fitted
):
    assert "stress" not in measured[EASY]
    tests = measured[HARD]["stress"]["tests"]
    assert list(tests) == list(STRESS_TESTS)
    result, test = results[HARD], ANOTHER_CLASS["feathered"]
    given = stress[HARD][test]
    rows = given.rows
    named = given.logits.argmax(axis=1)
    right = named == result.labels[rows]
    assert tests[test]["right"] == grouped_proportion(right, result.parts[rows])
    donor = named == result.labels[given.donors]
    assert tests[test]["donor"] == grouped_proportion(donor, result.parts[rows])
    temperature = [fitted[HARD].temperature[int(f)] for f in result.folds[rows]]
    confidence = np.array(
        [
            softmax(logits[None], t.temperatures(np.array([novelty / REJECT]))).max()
            for logits, t, novelty in zip(given.logits, temperature, given.novelty, strict=True)
        ]
    )
    assert tests[test]["mean_confidence"] == pytest.approx(confidence.mean())
    seen = Seen(given.findings, given.cells, given.clear)
    status = statuses(confidence, fitted[HARD].threshold[rows], given.novelty, GATE, seen)
    for name in ("ok", "review", "rejected"):
        assert tests[test][name]["proportion"] == pytest.approx(np.mean(status == name))
    assert tests[NO_CELLS]["ok"]["proportion"] <= 0.5  # half of them have none
    # Fields as they are have the same figures here and there.
    assert tests[UNCHANGED]["right"] == grouped_proportion(
        result.logits.argmax(axis=1) == result.labels, result.parts
    )


def test_the_card_quotes_what_the_report_says(measured):
    metrics = json.loads(json.dumps(card_metrics(measured)))
    name, figures = hardest_unseen(metrics)
    assert name == HARD
    assert figures["accuracy"] == measured[HARD]["accuracy"]
    ninety = measured[HARD]["ninety"]
    text = confidence_kept(metrics)
    assert f"{100 * ninety['proportion']:.1f} %" in text
    assert f"of the {ninety['n']:,} answers" in text
    point = {"threshold": 0.5, "sensitivity": 0.995, "specificity": 0.9}
    text = operating_point(point, metrics)
    assert "99.5 %" in text
    for kind in ("sensitivity", "specificity"):
        assert percent(measured[HARD]["malignant"][kind]["proportion"]) in text
    assert confidence_kept({"test": {"n": 4}}) == ""
    assert "set without" not in operating_point(point, {"test": {"n": 4}})


def test_answers_are_read_only_if_they_are_those_of_the_card(tmp_path, results, stress):
    named = {}
    for protocol, result in results.items():
        files = [f"{CLASS_NAMES[label]}/{i}.png" for i, label in enumerate(result.labels)]
        named[protocol] = replace(result, files=files)
    csv, npz = tmp_path / "answers.csv", tmp_path / "answers.npz"
    csv.write_text(out_of_fold_csv(named), encoding="utf-8")
    npz.write_bytes(stress_npz(stress))

    def card(**paths):
        entries = {
            name: {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
            for name, path in paths.items()
        }
        return SimpleNamespace(weights_path=tmp_path / "w.h5", content=entries)

    assert out_of_fold_of(card()) is None
    assert stress_of(card()) == {}
    known = card(out_of_fold=csv, stress=npz)
    read = out_of_fold_of(known)
    assert list(read) == [EASY, HARD]
    np.testing.assert_allclose(read[EASY].logits, results[EASY].logits, atol=6e-5)
    np.testing.assert_array_equal(read[EASY].parts, results[EASY].parts)
    again = stress_of(known)[HARD][UNCHANGED]
    np.testing.assert_array_equal(again.cells, stress[HARD][UNCHANGED].cells)
    csv.write_text(csv.read_text().replace("Benign/0.png", "Benign/1.png"))
    with pytest.raises(DatasetError, match="unaltered"):
        out_of_fold_of(known)
    npz.unlink()
    with pytest.raises(DatasetError, match="unaltered"):
        stress_of(known)


def rounded(value):
    """Figures without the last bits, in which processors differ."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return round(value, 9) if isinstance(value, float) else value


def test_the_shipped_figures_follow_from_the_shipped_answers():
    card = read_card(DEFAULT_WEIGHTS)
    recipe = card.content["training"]["recipe"]
    found = measure_unseen(out_of_fold_of(card), card.novelty, stress_of(card), recipe)
    shipped = json.loads((DEFAULT_WEIGHTS / "evaluation.json").read_text())["unseen"]
    for protocol, figures in json.loads(json.dumps(found)).items():
        assert rounded(figures) == rounded(shipped[protocol])

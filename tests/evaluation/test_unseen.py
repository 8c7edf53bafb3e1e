"""What follows from out-of-fold answers, on answers whose figures are known beforehand."""

import hashlib
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap

from mseenet.config import CLASS_NAMES
from mseenet.evaluation.out_of_fold import (
    OUT_OF_FOLD_NAME,
    OutOfFold,
    calibrate,
    out_of_fold_csv,
    read_out_of_fold,
)
from mseenet.evaluation.unseen import (
    cross_fit,
    measure_malignant,
    measure_unseen,
    out_of_fold_of,
)
from mseenet.inference.calibration import Calibration
from mseenet.inference.card import DEFAULT_WEIGHTS, read_card
from mseenet.metrics import softmax
from mseenet.training.dataset import DatasetError

REJECT = 2.0


def answers(seed: int, per_block: int = 30) -> OutOfFold:
    """Five folds of four classes; the farther a field from training, the more often it is wrong."""
    rng = np.random.default_rng(seed)
    labels, folds = (a.ravel() for a in np.meshgrid(range(4), range(5)))
    labels, folds = np.repeat(labels, per_block), np.repeat(folds, per_block)
    novelty = rng.uniform(0.2, 2.4, len(labels))
    wrong = rng.random(len(labels)) < 0.02 + 0.12 * novelty * (folds + 1) / 5
    named = np.where(wrong, (labels + rng.integers(1, 4, len(labels))) % 4, labels)
    logits = 6 * np.eye(4)[named] + rng.normal(size=(len(labels), 4))
    files = [f"{label}/{i}" for i, label in enumerate(labels)]
    return OutOfFold(files, folds, labels, logits, novelty)


@pytest.fixture(scope="module")
def results() -> dict[int, OutOfFold]:
    return {50: answers(1), 100: answers(2)}


@pytest.fixture(scope="module")
def measured(results) -> dict[str, dict]:
    return measure_unseen(results, review=1.8, reject=REJECT)


def test_accuracy_and_sensitivity_are_means_of_the_folds(results, measured):
    for embargo, result in results.items():
        right = result.logits.argmax(axis=1) == result.labels
        by_fold = [right[result.folds == fold].mean() for fold in range(5)]
        figures = measured[str(embargo)]
        assert [fold["accuracy"] for fold in figures["folds"]] == pytest.approx(by_fold)
        assert figures["mean_accuracy"] == pytest.approx(np.mean(by_fold))
        benign = [right[(result.folds == f) & (result.labels == 0)].mean() for f in range(5)]
        assert figures["mean_sensitivity"][0] == pytest.approx(np.mean(benign))


def test_the_headline_interval_is_a_bootstrap_over_blocks(results, measured):
    """SciPy draws the blocks of equal size; the interval over single fields is narrower."""
    for embargo, result in results.items():
        right = result.logits.argmax(axis=1) == result.labels
        blocks = right.reshape(20, -1)  # one row a fold and class, as `answers` orders them
        keys = (result.folds * 4 + result.labels).reshape(20, -1)
        assert (keys == keys[:, :1]).all()
        reference = bootstrap(
            (blocks.mean(axis=1),),
            np.mean,
            n_resamples=20_000,
            method="percentile",
            rng=np.random.default_rng(5),
        ).confidence_interval
        found = measured[str(embargo)]["interval_95"]["accuracy"]
        assert found == pytest.approx([reference.low, reference.high], abs=0.004)
        single = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
        assert found[1] - found[0] > single.high - single.low


def test_without_errors_the_interval_claims_no_certainty():
    right = answers(3)
    right = replace(right, logits=6 * np.eye(4)[right.labels])
    figures = measure_unseen({50: right}, 1.8, REJECT)["50"]
    reference = binomtest(600, 600).proportion_ci(method="wilson")
    assert figures["interval_95"]["accuracy"] == pytest.approx([reference.low, reference.high])
    assert figures["flagged"]["errors"]["n"] == 0


def test_no_field_has_a_part_in_its_own_calibration(results):
    """Ruining the answers of one fold changes what the others get, never what it gets itself."""
    plain = cross_fit(results, REJECT)
    spoilt = {}
    for embargo, result in results.items():
        logits = result.logits.copy()
        mine = result.folds == 2
        logits[mine] = np.roll(logits[mine], 1, axis=1)  # nearly all of them wrong
        spoilt[embargo] = replace(result, logits=logits)
    again = cross_fit(spoilt, REJECT)
    for embargo, result in results.items():
        mine = result.folds == 2
        (before, unsure), (after, unsure_after) = plain[embargo], again[embargo]
        np.testing.assert_allclose(after[mine], np.roll(before[mine], 1, axis=1))
        np.testing.assert_array_equal(unsure_after[mine], unsure[mine])
        assert np.abs(after[~mine] - before[~mine]).max() > 0.01


def test_each_fold_is_calibrated_as_the_card_is(results):
    others = [result.take(result.folds != 4) for result in results.values()]
    record = calibrate(others, REJECT)["calibration"]
    found, _ = cross_fit(results, REJECT)[100]
    result, mine = results[100], results[100].folds == 4
    temperatures = Calibration(record["value"], record["slope"]).temperatures(
        result.novelty[mine] / REJECT
    )
    np.testing.assert_allclose(found[mine], softmax(result.logits[mine], temperatures))


def test_calibration_helps_where_it_was_not_fitted(measured):
    for figures in measured.values():
        assert figures["after_calibration"]["ece"] < figures["before_calibration"]["ece"]
        assert figures["after_calibration"]["brier"] < figures["before_calibration"]["brier"]


def test_bins_of_the_reliability_diagram_hold_every_field(measured):
    for figures in measured.values():
        for name in ("before_calibration", "after_calibration"):
            bins = figures[name]["bins"]
            assert sum(n for _, _, n in bins) == figures["n"] == 600
            gap = sum(n * abs(confidence - accuracy) for confidence, accuracy, n in bins)
            assert figures[name]["ece"] == pytest.approx(gap / 600)
            right = sum(n * accuracy for _, accuracy, n in bins)
            assert right == pytest.approx(figures["accuracy"] * 600)


def test_flags_are_low_confidence_or_novelty(results, measured):
    probabilities, unsure = cross_fit(results, REJECT)[50]
    result = results[50]
    flagged = unsure | (result.novelty >= 1.8)
    wrong = probabilities.argmax(axis=1) != result.labels
    record = measured["50"]["flagged"]
    assert record["fields"]["proportion"] == pytest.approx(flagged.mean())
    assert record["errors"]["proportion"] == pytest.approx(flagged[wrong].mean())
    assert record["rest_right"]["proportion"] == pytest.approx(1 - wrong[~flagged].mean())
    assert 0 < record["fields"]["proportion"] < 1


def test_novel_fields_are_flagged_however_sure_the_network_is(results):
    flagged = measure_unseen(results, review=0.0, reject=REJECT)["50"]["flagged"]
    assert flagged["fields"]["proportion"] == flagged["errors"]["proportion"] == 1


def test_the_curve_ends_with_all_fields_and_begins_with_the_surest(results, measured):
    probabilities, _ = cross_fit(results, REJECT)[50]
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    right = (probabilities.argmax(axis=1) == results[50].labels)[order]
    curve = dict(measured["50"]["risk_coverage"])
    assert curve[1.0] == pytest.approx(measured["50"]["accuracy"])
    for kept in (0.05, 0.5, 0.85):
        assert curve[kept] == pytest.approx(right[: int(kept * 600)].mean())
    selective = measured["50"]["selective"]
    assert selective["proportion"] == pytest.approx(curve[selective["coverage"]])


def test_malignant_fields_called_benign_by_hand():
    confusion = [[8, 1, 1, 0], [2, 18, 0, 0], [0, 5, 15, 0], [1, 0, 0, 19]]
    found = measure_malignant({"random test": confusion}, {"threshold": 0.5})
    record = found["called_benign"]["random test"]
    assert (record["proportion"], record["n"]) == (3 / 60, 60)
    assert found["operating_point"] == {"threshold": 0.5}


def test_answers_are_read_only_if_they_are_those_of_the_card(tmp_path, results):
    path = tmp_path / OUT_OF_FOLD_NAME
    named = {}
    for embargo, result in results.items():
        files = [f"{CLASS_NAMES[label]}/{i}.png" for i, label in enumerate(result.labels)]
        named[embargo] = replace(result, files=files)
    path.write_text(out_of_fold_csv(named), encoding="utf-8")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()

    def card(record):
        return SimpleNamespace(weights_path=tmp_path / "w.h5", content={"out_of_fold": record})

    assert out_of_fold_of(card(None)) is None
    read = out_of_fold_of(card({"file": path.name, "sha256": sha256}))
    assert list(read) == [50, 100]
    np.testing.assert_allclose(read[50].logits, results[50].logits, atol=6e-5)
    path.write_text(path.read_text().replace("Benign/0.png", "Benign/1.png"))
    with pytest.raises(DatasetError, match="unaltered"):
        out_of_fold_of(card({"file": path.name, "sha256": sha256}))
    path.unlink()
    with pytest.raises(DatasetError, match="unaltered"):
        out_of_fold_of(card({"file": path.name, "sha256": sha256}))


def test_the_shipped_figures_follow_from_the_shipped_answers():
    card = read_card(DEFAULT_WEIGHTS)
    found = measure_unseen(
        read_out_of_fold(DEFAULT_WEIGHTS), card.novelty.review, card.novelty.reject
    )
    shipped = json.loads((DEFAULT_WEIGHTS / "evaluation.json").read_text())["blocks"]
    for embargo, figures in found.items():
        for name in ("n", "confusion", "flagged", "selective", "mean_accuracy"):
            assert figures[name] == shipped[embargo][name]
        assert figures["interval_95"] == shipped[embargo]["interval_95"]

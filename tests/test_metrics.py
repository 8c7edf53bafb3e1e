import json
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, bootstrap
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from mseenet.metrics import (
    SUMMARY_NAMES,
    brier_score,
    class_metrics,
    confusion_matrix,
    cross_entropy,
    expected_calibration_error,
    grouped_interval,
    grouped_intervals,
    grouped_proportion,
    measure,
    proportion,
    reliability,
    risk_coverage,
    selective_threshold,
    softmax,
    summary_measures,
    wilson_interval,
)

RNG = np.random.default_rng(3)
LABELS = RNG.integers(0, 4, 200)
PREDICTED = np.where(RNG.random(200) < 0.8, LABELS, RNG.integers(0, 4, 200))
LOGITS = 3 * np.eye(4)[PREDICTED] + RNG.normal(size=(200, 4))


def test_confusion_rows_are_the_true_labels():
    np.testing.assert_array_equal(
        confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2), [[1, 1], [0, 1]]
    )
    np.testing.assert_array_equal(
        confusion_matrix(LABELS, PREDICTED, 4), sk.confusion_matrix(LABELS, PREDICTED)
    )


def test_summary_equals_scikit_learn():
    figures = summary_measures(confusion_matrix(LABELS, PREDICTED, 4))
    mcc = [sk.matthews_corrcoef(LABELS == c, PREDICTED == c) for c in range(4)]
    expected = {
        "accuracy": sk.accuracy_score(LABELS, PREDICTED),
        "precision": sk.precision_score(LABELS, PREDICTED, average="macro"),
        "sensitivity": sk.recall_score(LABELS, PREDICTED, average="macro"),
        "f1": sk.f1_score(LABELS, PREDICTED, average="macro"),
        "mcc": np.mean(mcc),
    }
    assert figures == pytest.approx(expected)


def test_f1_is_the_harmonic_mean_not_equation_4_as_printed():
    per_class = class_metrics(np.array([[8, 2], [4, 6]]))
    assert per_class.precision[0] == pytest.approx(8 / 12)
    assert per_class.sensitivity[0] == pytest.approx(0.8)
    assert per_class.f1[0] == pytest.approx(8 / 11)
    assert per_class.accuracy[0] == pytest.approx(0.7)


def test_a_class_that_is_never_predicted_counts_as_zero():
    per_class = class_metrics(np.array([[0, 5], [0, 5]]))
    assert per_class.precision[0] == per_class.f1[0] == per_class.mcc[0] == 0


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (276, 279), (1, 3)])
def test_wilson_interval_equals_scipy(successes, n):
    expected = binomtest(successes, n).proportion_ci(method="wilson")
    assert wilson_interval(successes, n) == pytest.approx((expected.low, expected.high))


def test_wilson_interval_without_trials_says_nothing():
    assert wilson_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("precision", partial(sk.precision_score, average="macro")),
        ("sensitivity", partial(sk.recall_score, average="macro")),
        ("f1", partial(sk.f1_score, average="macro")),
    ],
)
def test_bootstrap_intervals_equal_a_loop_over_images(name, reference):
    rng, values = np.random.default_rng(8), []
    for _ in range(1500):
        drawn = rng.integers(0, len(LABELS), len(LABELS))
        values.append(reference(LABELS[drawn], PREDICTED[drawn]))
    found = grouped_intervals(LABELS, PREDICTED, np.arange(len(LABELS)), 4)[name]
    assert found == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=0.008)


def test_grouped_interval_equals_a_loop_over_whole_groups():
    """Groups of unequal size, in no order, with names that are no numbers."""
    rng = np.random.default_rng(2)
    groups = rng.permutation(np.repeat([f"slide {i}" for i in range(25)], range(4, 29)))
    chance = dict(zip(np.unique(groups), rng.random(25), strict=True))
    values = (rng.random(len(groups)) < [chance[g] for g in groups]).astype(float)
    members = [values[groups == name] for name in np.unique(groups)]
    drawn = rng.integers(0, 25, (4000, 25))
    means = [np.concatenate([members[i] for i in row]).mean() for row in drawn]
    found = grouped_interval(values, groups)
    assert found == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.01)
    alone = grouped_interval(values, np.arange(len(values)))
    assert found[1] - found[0] > 1.5 * (alone[1] - alone[0])


def test_grouped_interval_of_single_images_equals_scipy():
    values = (LABELS == PREDICTED).astype(float)
    reference = bootstrap(
        (values,),
        np.mean,
        n_resamples=10_000,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(1),
    ).confidence_interval
    found = grouped_interval(values, np.arange(len(values)))
    assert found == pytest.approx((reference.low, reference.high), abs=0.006)


def test_a_proportion_carries_its_interval():
    reference = binomtest(7, 9).proportion_ci(method="wilson")
    record = proportion(7, 9)
    assert record["interval_95"] == pytest.approx([reference.low, reference.high])
    assert (record["proportion"], record["n"]) == (7 / 9, 9)
    assert proportion(0, 0) == {"proportion": 0, "n": 0, "interval_95": [0, 1]}


def test_a_proportion_of_groups_has_their_interval():
    values, groups = np.arange(60) % 6 > 0, np.repeat(np.arange(10), 6)
    values[:12] = False
    record = grouped_proportion(values, groups)
    assert (record["proportion"], record["n"]) == (values.mean(), 60)
    assert record["interval_95"] == pytest.approx(grouped_interval(values.astype(float), groups))
    assert grouped_proportion(values[12:13], groups[12:13]) == proportion(0, 1)
    assert grouped_proportion(np.array([], bool), np.array([])) == proportion(0, 0)


def test_measures_of_groups_have_their_intervals():
    """Fields that fail together widen every interval, by class too."""
    labels = np.repeat(np.arange(4), 50)
    named = np.where(np.arange(200) % 50 < 10, (labels + 1) % 4, labels)
    groups = np.arange(200) // 10
    together = measure(np.eye(4)[named], labels, groups)
    alone = measure(np.eye(4)[named], labels)
    for name in SUMMARY_NAMES:
        (low, high), (near, far) = together["interval_95"][name], alone["interval_95"][name]
        assert high - low > 1.3 * (far - near)
    right = named == labels
    for c, record in enumerate(together["by_class"]):
        mine = labels == c
        assert record == grouped_proportion(right[mine], groups[mine])
    assert alone["by_class"][0] == proportion(40, 50)


def test_bootstrap_without_errors_claims_nothing():
    sure = np.array([0, 1, 1])
    assert set(grouped_intervals(sure, sure, sure, 2).values()) == {None}
    figures = measure(softmax(5 * np.eye(4)[LABELS]), LABELS)
    assert figures["interval_95"]["mcc"] is None
    assert figures["interval_95"]["accuracy"] == pytest.approx(wilson_interval(200, 200))


@given(st.floats(1, 10))
def test_temperature_never_changes_the_predicted_class(temperature):
    probabilities = softmax(LOGITS, temperature)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), LOGITS.argmax(axis=1))


def test_cross_entropy_and_brier_score_equal_scikit_learn():
    probabilities = softmax(LOGITS)
    assert cross_entropy(LOGITS, LABELS) == pytest.approx(sk.log_loss(LABELS, probabilities))
    expected = sum(sk.brier_score_loss(LABELS == c, probabilities[:, c]) for c in range(4))
    assert brier_score(probabilities, LABELS) == pytest.approx(expected)


def test_softmax_and_cross_entropy_hold_huge_logits():
    logits = np.array([[1000.0, 0, 0, 0]])
    assert softmax(logits)[0, 0] == 1
    assert cross_entropy(logits, np.array([1])) == 1000


def test_calibration_error_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    labels = np.array([0, 0, 0, 1])
    # confidence 0.9 with accuracy 1.0, and 0.6 with 0.5: half the images each
    assert expected_calibration_error(probabilities, labels) == pytest.approx(0.1)


def test_reliability_equals_scikit_learn():
    probabilities = softmax(LOGITS)
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == LABELS
    accuracy, mean = calibration_curve(right, confidence, n_bins=15)
    bins = reliability(probabilities, LABELS, 15)
    assert [b.accuracy for b in bins] == pytest.approx(accuracy)
    assert [b.confidence for b in bins] == pytest.approx(mean)
    assert sum(b.n for b in bins) == len(LABELS)


def test_the_edges_of_confidence_belong_to_bins():
    certain = np.array([[1.0, 0.0], [0.5, 0.5]])
    bins = reliability(certain, np.array([0, 0]), bins=2)
    assert [(b.confidence, b.accuracy, b.n) for b in bins] == [(0.5, 1, 1), (1.0, 1, 1)]


def test_measure_equals_scikit_learn():
    probabilities = softmax(LOGITS, 2.0)
    predicted = probabilities.argmax(axis=1)
    figures = measure(probabilities, LABELS)
    assert figures["n"] == 200
    assert figures["confusion"] == sk.confusion_matrix(LABELS, predicted).tolist()
    assert figures["accuracy"] == pytest.approx(sk.accuracy_score(LABELS, predicted))
    assert figures["f1"] == pytest.approx(sk.f1_score(LABELS, predicted, average="macro"))
    right = int(np.sum(predicted == LABELS))
    reference = binomtest(right, 200).proportion_ci(method="wilson")
    assert figures["interval_95"]["accuracy"] == pytest.approx([reference.low, reference.high])
    low, high = figures["interval_95"]["mcc"]
    assert low < figures["mcc"] < high
    json.dumps(figures)


def test_selective_threshold_keeps_as_many_as_possible():
    confidence = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    correct = np.array([True, True, False, True, False])
    assert selective_threshold(confidence, correct, 1.0) == 0.8
    assert selective_threshold(confidence, correct, 0.75) == 0.6
    assert selective_threshold(confidence, correct, 0.0) == 0.5
    assert selective_threshold(confidence, ~correct, 0.9) == 1.0
    tied = np.array([0.95, 0.9, 0.9])
    assert selective_threshold(tied, np.array([True, True, False]), 1.0) == 0.95


def test_risk_coverage_ranks_by_score():
    curve = risk_coverage(np.array([0.1, 0.9, 0.5]), np.array([False, True, False]))
    np.testing.assert_allclose(curve, [1, 1 / 2, 1 / 3])

"""Figures on slides that were left out of training, from the out-of-fold answers.

Each field is calibrated, sent to review and called malignant by what other fields of the
hardest protocol say: no file has a part in its own. Fields of one part (a series, a range of
captures, a block) fail together, so every interval is a bootstrap over parts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mseenet.config import BENIGN
from mseenet.evaluation.out_of_fold import (
    TRUSTED_ACCURACY,
    OutOfFold,
    calibrate,
    hardest,
    read_out_of_fold,
)
from mseenet.evaluation.slide_answers import measure_slides
from mseenet.evaluation.statuses import Seen, statuses
from mseenet.evaluation.stress import STRESS_TESTS, UNCHANGED, stress_figures, stress_findings
from mseenet.evaluation.unseen_stress import StressAnswers, read_stress
from mseenet.files import file_sha256
from mseenet.inference.calibration import Calibration
from mseenet.inference.card import Card, NoveltyGate
from mseenet.metrics import (
    brier_score,
    confidence_bins,
    expected_calibration_error,
    grouped_proportion,
    measure,
    softmax,
)
from mseenet.training.dataset import DatasetError

COVERAGE = 0.85
"""Proportion of fields that is left when the least confident ones are set aside."""

BINS = 15
"""Bins of confidence for the calibration error and the reliability diagram."""

NINETY = (0.85, 0.95)
"""Confidences that a reader takes for "90 %"."""

MANY = 50
"""A bin of confidence with more fields than this says something on its own."""

TOO_SURE = 0.08
"""By how much the confidence of such a bin may exceed its accuracy."""


def out_of_fold_of(card: Card) -> dict[str, OutOfFold] | None:
    """The out-of-fold answers that the card's calibration comes from, by protocol.

    Returns:
        None for weights that were not cross-validated; a file that lies there all the same
        is of other weights.

    Raises:
        DatasetError: The file is missing, malformed, or not the one that the card names.
    """
    name = _named_file(card, "out_of_fold")
    return read_out_of_fold(card.weights_path.parent, name) if name else None


def stress_of(card: Card) -> dict[str, dict[str, StressAnswers]]:
    """The answers in the stress tests of unseen slides, by protocol and test; empty without.

    Raises:
        DatasetError: As for `out_of_fold_of`.
    """
    name = _named_file(card, "stress")
    return read_stress(card.weights_path.parent, name) if name else {}


def _named_file(card: Card, entry: str) -> str | None:
    """The name of a file of answers, whose hash was compared."""
    record = card.content.get(entry)
    if not record:
        return None
    path = card.weights_path.parent / record["file"]
    if not path.is_file() or file_sha256(path) != record["sha256"]:
        raise DatasetError(
            f"{path}: expected the answers that the card's calibration comes from, unaltered; "
            "mseenet crossvalidate makes them anew"
        )
    return path.name


@dataclass(frozen=True, eq=False)
class Fitted:
    """What the other fields of the hardest protocol give for each field of a protocol.

    Attributes:
        temperature: By fold, the calibration of its fields.
        threshold: Confidence below which the field goes to review, (N,).
        malignant: Probability of all classes but Benign from which on it is called malignant,
            (N,).
        probabilities: Calibrated, (N, C).
    """

    temperature: Mapping[int, Calibration]
    threshold: np.ndarray
    malignant: np.ndarray
    probabilities: np.ndarray

    def calibrated(
        self, logits: np.ndarray, novelty: np.ndarray, folds: np.ndarray, reject: float
    ) -> np.ndarray:
        """Probabilities of other answers of the folds' networks, (n, C)."""
        return _calibrated(self.temperature, logits, novelty, folds, reject)


def cross_fit(results: Mapping[str, OutOfFold], reject: float) -> dict[str, Fitted]:
    """Calibrates each fold as the card is, but without the files that the fold tests.

    Args:
        results: By protocol.
        reject: Distance from which on the weights' gate refuses a field.

    Returns:
        By protocol.
    """
    hard = hardest(results)
    files = {name: np.array(result.files) for name, result in results.items()}
    fitted = {}
    for protocol, result in results.items():
        temperature: dict[int, Calibration] = {}
        threshold, malignant = np.empty((2, len(result.labels)))
        own = files[protocol]
        for fold in np.unique(result.folds):
            mine = result.folds == fold
            others = {
                name: other.take(~np.isin(files[name], own[mine]))
                for name, other in results.items()
            }
            entries = calibrate(others, hard, reject)
            temperature[int(fold)] = Calibration(
                *(entries["calibration"][name] for name in ("value", "slope"))
            )
            threshold[mine] = entries["review_confidence"]["value"]
            malignant[mine] = entries["malignant"]["threshold"]
        probabilities = _calibrated(
            temperature, result.logits, result.novelty, result.folds, reject
        )
        fitted[protocol] = Fitted(temperature, threshold, malignant, probabilities)
    return fitted


def _calibrated(
    temperature: Mapping[int, Calibration],
    logits: np.ndarray,
    novelty: np.ndarray,
    folds: np.ndarray,
    reject: float,
) -> np.ndarray:
    probabilities = np.empty(logits.shape)
    for fold, calibration in temperature.items():
        mine = folds == fold
        divisors = calibration.temperatures(novelty[mine] / reject)
        probabilities[mine] = softmax(logits[mine], divisors)
    return probabilities


def measure_unseen(
    results: Mapping[str, OutOfFold],
    gate: NoveltyGate,
    stress: Mapping[str, Mapping[str, StressAnswers]],
    recipe: str,
) -> dict[str, dict]:
    """Figures on unseen slides, by protocol, ready for JSON.

    Args:
        results: By protocol.
        gate: Of the weights.
        stress: By protocol and stress test, as far as they were made.
        recipe: Of the weights' training.

    Returns:
        What `mseenet.metrics.measure` gives, with all intervals over parts; `hardest`, whether
        calibration and thresholds come from this protocol; right of each fold and part;
        calibration before and after; accuracy of the most confident; statuses and what is
        flagged; what the review threshold promises and gives; `ninety`, the answers of some
        90 %; the figures of malignant and Benign; `slides`, how often a whole part is given the
        right class; and those of the stress tests.
    """
    return {
        protocol: {
            "hardest": protocol == hardest(results),
            **_measure_protocol(results[protocol], fitted, gate, stress.get(protocol, {}), recipe),
        }
        for protocol, fitted in cross_fit(results, gate.reject).items()
    }


def measure_malignant(
    probabilities: np.ndarray, labels: np.ndarray, groups: np.ndarray, threshold: np.ndarray
) -> dict[str, dict]:
    """Malignant fields called Benign and Benign ones called malignant, and the operating point.

    Args:
        probabilities: Calibrated, (N, C).
        labels: int (N,).
        groups: Which fields fail together, (N,).
        threshold: Probability of all classes but Benign from which on a field counts as
            malignant, (N,).

    Returns:
        Records of `grouped_proportion`: `called_benign` of the malignant and `called_malignant`
        of the Benign fields, by the class that is named; `sensitivity` and `specificity` of
        the operating point.
    """
    ill = labels != BENIGN
    benign = probabilities.argmax(axis=1) == BENIGN
    above = 1 - probabilities[:, BENIGN] >= threshold
    return {
        "called_benign": grouped_proportion(benign[ill], groups[ill]),
        "called_malignant": grouped_proportion(~benign[~ill], groups[~ill]),
        "sensitivity": grouped_proportion(above[ill], groups[ill]),
        "specificity": grouped_proportion(~above[~ill], groups[~ill]),
    }


def card_metrics(unseen: Mapping[str, dict]) -> dict[str, dict]:
    """What of `measure_unseen` the page quotes beside each answer, for the card's `metrics`."""
    kept = ("n", "accuracy", "interval_95", "hardest", "ninety", "review_promise", "malignant")
    return {
        protocol: {name: figures[name] for name in kept}
        | {"slides": {name: v for name, v in figures["slides"].items() if name != "each"}}
        for protocol, figures in unseen.items()
    }


def _measure_protocol(
    result: OutOfFold,
    fitted: Fitted,
    gate: NoveltyGate,
    stress: Mapping[str, StressAnswers],
    recipe: str,
) -> dict[str, Any]:
    labels, parts, probabilities = result.labels, result.parts, fitted.probabilities
    correct = result.logits.argmax(axis=1) == labels
    confidence = probabilities.max(axis=1)
    seen = _seen_unchanged(stress, len(labels))
    status = statuses(confidence, fitted.threshold, result.novelty, gate, seen)
    flagged, sure = status != "ok", confidence >= fitted.threshold
    ninety = (confidence >= NINETY[0]) & (confidence < NINETY[1])
    tests = {
        test: _measure_stress(result, fitted, gate, stress[test])
        for test in STRESS_TESTS
        if test in stress
    }
    return {
        **measure(probabilities, labels, parts),
        "folds": [
            {"n": int(mine.sum()), "accuracy": float(correct[mine].mean())}
            for mine in (result.folds == fold for fold in np.unique(result.folds))
        ],
        "parts": [
            {"name": str(name), "n": int(mine.sum()), "right": int(correct[mine].sum())}
            for name, mine in ((name, parts == name) for name in dict.fromkeys(parts))
        ],
        "before_calibration": _measure_calibration(softmax(result.logits), labels, parts),
        "after_calibration": _measure_calibration(probabilities, labels, parts),
        "selective": {
            "coverage": COVERAGE,
            **_most_confident(confidence, correct, parts, COVERAGE),
        },
        "cells_counted": seen is not None,
        "statuses": {
            name: grouped_proportion(status == name, parts) for name in ("ok", "review", "rejected")
        },
        "flagged": {
            "fields": grouped_proportion(flagged, parts),
            "errors": grouped_proportion(flagged[~correct], parts[~correct]),
            "rest_right": grouped_proportion(correct[~flagged], parts[~flagged]),
        },
        "review_promise": {
            "promised": TRUSTED_ACCURACY,
            **grouped_proportion(correct[sure], parts[sure]),
        },
        "ninety": {
            "confidence": float(confidence[ninety].mean()) if ninety.any() else None,
            **grouped_proportion(correct[ninety], parts[ninety]),
        },
        "malignant": measure_malignant(probabilities, labels, parts, fitted.malignant),
        "slides": measure_slides(probabilities, labels, parts, status != "rejected"),
        "risk_coverage": _risk_coverage(confidence, correct, parts),
        **(
            {"stress": {"summary": stress_findings(tests, recipe), "tests": tests}} if tests else {}
        ),
    }


def _seen_unchanged(stress: Mapping[str, StressAnswers], n: int) -> Seen | None:
    """Quality and nucleated cells of the fields as they are, in their order."""
    answers = stress.get(UNCHANGED)
    if answers is None or len(answers.rows) != n:
        return None
    order = np.argsort(answers.rows)
    return Seen(answers.findings[order], answers.cells[order], answers.clear[order])


def _measure_stress(
    result: OutOfFold, fitted: Fitted, gate: NoveltyGate, answers: StressAnswers
) -> dict[str, Any]:
    rows = answers.rows
    probabilities = fitted.calibrated(
        answers.logits, answers.novelty, result.folds[rows], gate.reject
    )
    confidence = probabilities.max(axis=1)
    seen = Seen(answers.findings, answers.cells, answers.clear)
    return stress_figures(
        probabilities.argmax(axis=1),
        confidence,
        statuses(confidence, fitted.threshold[rows], answers.novelty, gate, seen),
        result.labels[rows],
        np.where(answers.donors >= 0, result.labels[answers.donors], -1),
        result.parts[rows],
    )


def _most_confident(
    confidence: np.ndarray, correct: np.ndarray, parts: np.ndarray, coverage: float
) -> dict:
    kept = np.argsort(-confidence, kind="stable")[: int(coverage * len(confidence))]
    return grouped_proportion(correct[kept], parts[kept])


def _risk_coverage(confidence: np.ndarray, correct: np.ndarray, parts: np.ndarray) -> list[dict]:
    return [
        {"kept": k / 100, **_most_confident(confidence, correct, parts, k / 100)}
        for k in range(5, 101, 5)
    ]


def _measure_calibration(
    probabilities: np.ndarray, labels: np.ndarray, parts: np.ndarray
) -> dict[str, Any]:
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    number = confidence_bins(confidence, BINS)
    bins = [number == i for i in np.unique(number)]
    return {
        "ece": expected_calibration_error(probabilities, labels, BINS),
        "brier": brier_score(probabilities, labels),
        "mean_confidence": float(probabilities.max(axis=1).mean()),
        "bins": [_measure_bin(confidence[b], correct[b], parts[b]) for b in bins],
    }


def _measure_bin(confidence: np.ndarray, correct: np.ndarray, parts: np.ndarray) -> dict[str, Any]:
    mean, record = float(confidence.mean()), grouped_proportion(correct, parts)
    excess = mean - record["proportion"]
    too_sure = record["n"] > MANY and excess > TOO_SURE
    return {"confidence": mean, **record, "too_sure": bool(too_sure)}

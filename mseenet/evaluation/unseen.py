"""Figures on slides that were left out of training, from the out-of-fold answers."""

from collections.abc import Mapping
from dataclasses import astuple
from typing import Any

import numpy as np

from mseenet.config import CLASS_NAMES
from mseenet.evaluation.out_of_fold import (
    OutOfFold,
    calibrate,
    read_out_of_fold,
)
from mseenet.files import file_sha256
from mseenet.inference.calibration import Calibration
from mseenet.inference.card import Card
from mseenet.metrics import (
    brier_score,
    expected_calibration_error,
    grouped_interval,
    measure,
    proportion,
    reliability,
    risk_coverage,
    softmax,
)
from mseenet.training.dataset import DatasetError
from mseenet.training.splits import FOLDS

COVERAGE = 0.85
"""Proportion of fields that is left when the least confident ones are set aside."""

BINS = 15
"""Bins of confidence for the calibration error and the reliability diagram."""


def out_of_fold_of(card: Card) -> dict[int, OutOfFold] | None:
    """The out-of-fold answers that the card's calibration comes from, by embargo.

    Returns:
        None for weights that were not cross-validated; a file that lies there all the same
        is of other weights.

    Raises:
        DatasetError: The file is missing, malformed, or not the one that the card names.
    """
    record = card.content.get("out_of_fold")
    if not record:
        return None
    path = card.weights_path.parent / record["file"]
    if not path.is_file() or file_sha256(path) != record["sha256"]:
        raise DatasetError(
            f"{path}: expected the answers that the card's calibration comes from, unaltered; "
            "mseenet crossvalidate makes them anew"
        )
    return read_out_of_fold(path.parent, path.name)


def cross_fit(
    results: Mapping[int, OutOfFold], reject: float
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Calibrates each fold as the card is, but with what the other four folds say.

    No field has a part in its own calibration or in what it would be sent to review by,
    at whatever embargo.

    Args:
        results: By embargo.
        reject: Distance from which on the weights' gate refuses a field.

    Returns:
        By embargo, probabilities (N, C), and whether each field's confidence is below the
        review threshold, bool (N,).
    """
    answers = {
        embargo: (np.empty(result.logits.shape), np.empty(len(result.labels), bool))
        for embargo, result in results.items()
    }
    for fold in range(FOLDS):
        fitted = calibrate([r.take(r.folds != fold) for r in results.values()], reject)
        calibration = Calibration(*(fitted["calibration"][name] for name in ("value", "slope")))
        threshold = fitted["review_confidence"]["value"]
        for embargo, result in results.items():
            mine = result.folds == fold
            temperatures = calibration.temperatures(result.novelty[mine] / reject)
            calibrated = softmax(result.logits[mine], temperatures)
            probabilities, unsure = answers[embargo]
            probabilities[mine] = calibrated
            unsure[mine] = calibrated.max(axis=1) < threshold
    return answers


def measure_unseen(
    results: Mapping[int, OutOfFold], review: float, reject: float
) -> dict[str, dict]:
    """Figures on unseen slides, by embargo, ready for JSON.

    Args:
        results: By embargo.
        review: Distance from which on the weights' gate sends a field to review.
        reject: Distance from which on it refuses a field.

    Returns:
        What `mseenet.metrics.measure` gives, but with an interval of the accuracy from a
        bootstrap over the blocks of the classes; accuracy and sensitivity by fold and their
        means; calibration before and after; accuracy of the most confident; what is flagged.
    """
    return {
        str(embargo): _measure_embargo(
            results[embargo], probabilities, unsure | (results[embargo].novelty >= review)
        )
        for embargo, (probabilities, unsure) in cross_fit(results, reject).items()
    }


def measure_malignant(
    confusions: Mapping[str, list[list[int]]], operating_point: dict
) -> dict[str, Any]:
    """Malignant fields called Benign.

    Args:
        confusions: Confusion matrices by protocol; rows are the true labels.
        operating_point: The card's, taken over.
    """
    benign = CLASS_NAMES.index("Benign")
    called_benign = {}
    for protocol, confusion in confusions.items():
        malignant = np.delete(np.array(confusion), benign, axis=0)
        missed = int(malignant[:, benign].sum())
        called_benign[protocol] = proportion(missed, int(malignant.sum()))
    return {"called_benign": called_benign, "operating_point": operating_point}


def _measure_embargo(result: OutOfFold, calibrated: np.ndarray, flagged: np.ndarray) -> dict:
    labels = result.labels
    correct = result.logits.argmax(axis=1) == labels
    in_fold = [result.folds == fold for fold in range(FOLDS)]
    folds = [_measure_fold(correct[mine], labels[mine]) for mine in in_fold]
    measured = measure(calibrated, labels)
    if not correct.all():  # without errors a bootstrap would claim certainty
        blocks = labels * FOLDS + result.folds
        measured["interval_95"]["accuracy"] = list(grouped_interval(correct, blocks))
    curve = risk_coverage(calibrated.max(axis=1), correct)
    kept = int(COVERAGE * len(labels))
    return {
        **measured,
        "folds": folds,
        "mean_accuracy": float(np.mean([fold["accuracy"] for fold in folds])),
        "mean_sensitivity": np.mean([fold["sensitivity"] for fold in folds], axis=0).tolist(),
        "before_calibration": _measure_calibration(softmax(result.logits), labels),
        "after_calibration": _measure_calibration(calibrated, labels),
        "selective": {"coverage": COVERAGE, **proportion(round(curve[kept - 1] * kept), kept)},
        "flagged": {
            "fields": proportion(int(flagged.sum()), len(labels)),
            "errors": proportion(int(flagged[~correct].sum()), int((~correct).sum())),
            "rest_right": proportion(int(correct[~flagged].sum()), int((~flagged).sum())),
        },
        "risk_coverage": [
            [k / 100, float(curve[int(k / 100 * len(curve)) - 1])] for k in range(5, 101)
        ],
    }


def _measure_fold(correct: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    return {
        "n": len(labels),
        "accuracy": float(correct.mean()),
        "sensitivity": [float(correct[labels == c].mean()) for c in range(len(CLASS_NAMES))],
    }


def _measure_calibration(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    return {
        "ece": expected_calibration_error(probabilities, labels, BINS),
        "brier": brier_score(probabilities, labels),
        "mean_confidence": float(probabilities.max(axis=1).mean()),
        "bins": [list(astuple(b)) for b in reliability(probabilities, labels, BINS)],
    }

"""Figures on slides that were left out of training, from the out-of-fold answers."""

import numpy as np

from mseenet.config import CLASS_NAMES
from mseenet.evaluation.crossvalidation import OutOfFold
from mseenet.evaluation.known import proportion
from mseenet.evaluation.out_of_fold import calibrate
from mseenet.inference.calibration import Calibration
from mseenet.inference.card import Card
from mseenet.metrics import (
    brier_score,
    expected_calibration_error,
    grouped_interval,
    measure,
    risk_coverage,
    softmax,
)
from mseenet.training.splits import FOLDS

COVERAGE = 0.85
"""Share of fields that are left when the least confident ones are flagged."""


BINS = 15
"""Bins of confidence for the calibration error and the reliability diagram."""


def without_own_fold(
    folds: dict[int, OutOfFold], reject: float
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Calibrates each fold as the card is, but with what the other four folds say.

    No field has a part in its own calibration or in what it would be sent to review by,
    at whatever embargo.

    Args:
        folds: Results by embargo.
        reject: Distance from which on the weights' gate refuses a field.

    Returns:
        By embargo, probabilities (N, C), and whether each field's confidence is below the
        review threshold, bool (N,).
    """
    answers = {
        embargo: (np.empty(result.logits.shape), np.empty(len(result.labels), bool))
        for embargo, result in folds.items()
    }
    for fold in range(FOLDS):
        others = [result.take(result.folds != fold) for result in folds.values()]
        fitted = calibrate(others, reject)
        calibration = Calibration(*(fitted["calibration"][n] for n in ("value", "slope")))
        for embargo, result in folds.items():
            mine = result.folds == fold
            probabilities, unsure = answers[embargo]
            novelty = result.novelty[mine] / reject
            probabilities[mine] = softmax(result.logits[mine], calibration.temperatures(novelty))
            confidence = probabilities[mine].max(axis=1)
            unsure[mine] = confidence < fitted["review_confidence"]["value"]
    return answers


def measure_blocks(folds: dict[int, OutOfFold], review: float, reject: float) -> dict[str, dict]:
    """Figures on unseen slides, by embargo.

    The accuracy's interval is a bootstrap over the blocks of the classes.

    Args:
        folds: Logits and distances, by embargo.
        review, reject: Distances from which on the weights' gate sends a field to review,
            and refuses it.
    """
    return {
        str(embargo): _measure_embargo(
            folds[embargo], probabilities, unsure | (folds[embargo].novelty >= review)
        )
        for embargo, (probabilities, unsure) in without_own_fold(folds, reject).items()
    }


def _measure_embargo(result: OutOfFold, calibrated: np.ndarray, flagged: np.ndarray) -> dict:
    labels, logits = result.labels, result.logits
    correct = logits.argmax(axis=1) == labels
    per_fold = []
    for fold in range(FOLDS):
        mine = result.folds == fold
        per_fold.append(
            {
                "n": int(mine.sum()),
                "accuracy": float(correct[mine].mean()),
                "sensitivity": [
                    float(correct[mine & (labels == c)].mean()) for c in range(len(CLASS_NAMES))
                ],
            }
        )
    measured = measure(calibrated, labels)
    if not correct.all():  # without errors a bootstrap would claim certainty
        blocks = labels * FOLDS + result.folds
        measured["interval_95"]["accuracy"] = list(grouped_interval(correct, blocks))
    confidence = calibrated.max(axis=1)
    curve = risk_coverage(confidence, correct)
    kept = int(COVERAGE * len(labels))
    return {
        **measured,
        "folds": per_fold,
        "mean_accuracy": float(np.mean([f["accuracy"] for f in per_fold])),
        "mean_sensitivity": np.mean([f["sensitivity"] for f in per_fold], axis=0).tolist(),
        "before_calibration": _calibration(softmax(logits), labels),
        "after_calibration": _calibration(calibrated, labels),
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


def _calibration(probabilities: np.ndarray, labels: np.ndarray) -> dict:
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    bin_of = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    return {
        "ece": expected_calibration_error(probabilities, labels, BINS),
        "brier": brier_score(probabilities, labels),
        "mean_confidence": float(confidence.mean()),
        "bins": [
            [float(confidence[b].mean()), float(correct[b].mean()), int(b.sum())]
            for b in (bin_of == k for k in range(BINS))
            if b.any()
        ],
    }


def measure_malignant(card: Card, result: dict, folds: dict[int, OutOfFold]) -> dict:
    """Malignant fields called benign, by class and by the operating point."""
    benign = CLASS_NAMES.index("Benign")
    missed = {"random test": np.array(result["parts"]["test"]["confusion"])}
    for embargo in folds:
        missed[f"blocks, embargo {embargo}"] = np.array(result["blocks"][str(embargo)]["confusion"])
    counts = {}
    for name, confusion in missed.items():
        malignant = np.delete(confusion, benign, axis=0)
        counts[name] = proportion(int(malignant[:, benign].sum()), int(malignant.sum()))
    return {"called_benign": counts, "operating_point": card.content["malignant"]}

"""What networks said about slides that they had not seen, and the calibration that follows."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np

from mseenet.config import BENIGN, CLASS_NAMES
from mseenet.inference.calibration import fit_calibration
from mseenet.metrics import selective_threshold, softmax
from mseenet.training.dataset import DatasetError

TRUSTED_ACCURACY = 0.99
"""Accuracy on unseen slides that a field without a flag should have."""

MALIGNANT_SENSITIVITY = 0.996
"""Proportion of malignant fields of unseen slides that the operating point catches where it is
set. On slides that it was not set on it catches less; 99.5 % are to be caught there."""


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """What networks said about fields of slides that they had not seen.

    Attributes:
        files: `Sample.file` of each, (N,).
        folds: Which fold tested the field, int (N,).
        parts: What fails together: names of capture series, of ranges of them, or of blocks
            of the file order, (N,); intervals are of a bootstrap over them.
        labels: int (N,).
        logits: Before calibration, float (N, C).
        novelty: Distance from the fold's own training fields, (N,).
    """

    files: list[str]
    folds: np.ndarray
    parts: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    novelty: np.ndarray

    def take(self, chosen: np.ndarray) -> "OutOfFold":
        """The fields where `chosen`, bool (N,), is true."""
        files = list(compress(self.files, chosen))
        arrays = (self.folds, self.parts, self.labels, self.logits, self.novelty)
        return OutOfFold(files, *(array[chosen] for array in arrays))

    @property
    def accuracy(self) -> float:
        """Proportion of fields whose class is named."""
        return float(np.mean(self.logits.argmax(axis=1) == self.labels))


def out_of_fold_csv(results: Mapping[str, OutOfFold]) -> str:
    """Results by protocol as CSV; what `read_out_of_fold` reads."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("protocol", "fold", "part", "file", "novelty", *CLASS_NAMES))
    for protocol, result in results.items():
        rows = zip(
            result.folds, result.parts, result.files, result.novelty, result.logits, strict=True
        )
        for fold, part, file, novelty, logits in rows:
            numbers = (f"{value:.4f}" for value in (novelty, *logits))
            writer.writerow((protocol, fold, part, file, *numbers))
    return buffer.getvalue()


def read_out_of_fold(folder: Path, name: str) -> dict[str, OutOfFold]:
    """Reads what `out_of_fold_csv` made: results by protocol.

    Args:
        folder: Of the weights.
        name: Of the file, as the card gives it.

    Raises:
        DatasetError: The file is missing or malformed.
    """
    path = folder / name
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        results = {}
        for protocol in dict.fromkeys(row["protocol"] for row in rows):
            mine = [row for row in rows if row["protocol"] == protocol]
            files = [row["file"] for row in mine]
            results[protocol] = OutOfFold(
                files,
                np.array([int(row["fold"]) for row in mine]),
                np.array([row["part"] for row in mine]),
                np.array([CLASS_NAMES.index(file.split("/")[0]) for file in files]),
                np.array([[float(row[name]) for name in CLASS_NAMES] for row in mine]),
                np.array([float(row["novelty"]) for row in mine]),
            )
    except (OSError, KeyError, ValueError) as error:
        raise DatasetError(
            f"{path}: expected what mseenet crossvalidate writes ({error})"
        ) from error
    return results


def hardest(results: Mapping[str, OutOfFold]) -> str:
    """The protocol whose networks were right least often."""
    return min(results, key=lambda protocol: results[protocol].accuracy)


def calibrate(results: Mapping[str, OutOfFold], protocol: str, reject: float) -> dict:
    """Entries of the card that follow from the networks' errors on unseen slides.

    Calibration and review threshold come from one protocol. The operating point is the lowest of
    those that single protocols ask for, as which slides are missed differs between them.

    Args:
        results: By protocol.
        protocol: The hardest (`hardest`): what holds there holds on slides that differ less
            from those of training.
        reject: Distance from which on the weights' gate refuses a field.

    Returns:
        `calibration`, `review_confidence` and `malignant`, each with its origin.
    """
    hard = results[protocol]
    origin = {"fitted_on": f"out-of-fold predictions, protocol {protocol}", "n": len(hard.labels)}
    found = fit_calibration(hard.logits, hard.novelty / reject, hard.labels)

    def calibrated(result: OutOfFold) -> np.ndarray:
        return softmax(result.logits, found.temperatures(result.novelty / reject))

    def malignant(result: OutOfFold, ill: bool) -> np.ndarray:
        chosen = (result.labels != BENIGN) == ill
        return 1 - calibrated(result)[chosen, BENIGN]

    probabilities = calibrated(hard)
    correct = probabilities.argmax(axis=1) == hard.labels
    review = selective_threshold(probabilities.max(axis=1), correct, TRUSTED_ACCURACY)
    point = min(
        float(np.quantile(malignant(result, ill=True), 1 - MALIGNANT_SENSITIVITY, method="lower"))
        for result in results.values()
    )
    return {
        "calibration": found.record() | origin,
        "review_confidence": {"value": review, "accuracy": TRUSTED_ACCURACY, **origin},
        "malignant": {
            "threshold": point,
            "sensitivity": float(np.mean(malignant(hard, ill=True) >= point)),
            "specificity": float(np.mean(malignant(hard, ill=False) < point)),
            **origin,
        },
    }

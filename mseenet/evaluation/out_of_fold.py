"""What networks said about slides that they had not seen, and the calibration that follows."""

import csv
import io
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np

from mseenet.config import CLASS_NAMES
from mseenet.inference.calibration import fit_calibration
from mseenet.metrics import selective_threshold, softmax
from mseenet.training.dataset import DatasetError

OUT_OF_FOLD_NAME = "out-of-fold.csv"
"""The file of the weights that come with the project; new ones have their hash in the name."""

TRUSTED_ACCURACY = 0.99
"""Accuracy on unseen slides that a field without a flag should have."""

MALIGNANT_SENSITIVITY = 0.995
"""Proportion of malignant fields of unseen slides that the operating point is to catch."""


@dataclass(frozen=True)
class OutOfFold:
    """What networks said about fields of slides that they had not seen.

    Attributes:
        files: `Sample.file` of each, (N,).
        folds: Which block the field is in, int (N,).
        labels: int (N,).
        logits: Before calibration, float (N, C).
        novelty: Distance from the fold's own training fields, (N,).
    """

    files: list[str]
    folds: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    novelty: np.ndarray

    def take(self, chosen: np.ndarray) -> "OutOfFold":
        """The fields where `chosen`, bool (N,), is true."""
        files = list(compress(self.files, chosen))
        arrays = (self.folds, self.labels, self.logits, self.novelty)
        return OutOfFold(files, *(array[chosen] for array in arrays))


def out_of_fold_csv(results: dict[int, OutOfFold]) -> str:
    """All results as CSV; what `read_out_of_fold` reads."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("embargo", "fold", "file", "novelty", *CLASS_NAMES))
    for embargo, result in results.items():
        rows = zip(result.folds, result.files, result.novelty, result.logits, strict=True)
        for fold, file, novelty, logits in rows:
            numbers = (f"{value:.4f}" for value in (novelty, *logits))
            writer.writerow((embargo, fold, file, *numbers))
    return buffer.getvalue()


def read_out_of_fold(folder: Path, name: str = OUT_OF_FOLD_NAME) -> dict[int, OutOfFold]:
    """Reads what `out_of_fold_csv` made: results by embargo, in file numbers.

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
        for embargo in sorted({int(row["embargo"]) for row in rows}):
            mine = [row for row in rows if int(row["embargo"]) == embargo]
            files = [row["file"] for row in mine]
            results[embargo] = OutOfFold(
                files,
                np.array([int(row["fold"]) for row in mine]),
                np.array([CLASS_NAMES.index(file.split("/")[0]) for file in files]),
                np.array([[float(row[name]) for name in CLASS_NAMES] for row in mine]),
                np.array([float(row["novelty"]) for row in mine]),
            )
    except (OSError, KeyError, ValueError) as error:
        raise DatasetError(
            f"{path}: expected what mseenet crossvalidate writes ({error})"
        ) from error
    return results


def calibrate(results: list[OutOfFold], reject: float) -> dict:
    """Entries of the card that follow from the networks' errors on unseen slides.

    Args:
        results: One for each embargo; the fields of all of them count alike.
        reject: Distance from which on the weights' gate refuses a field.

    Returns:
        `calibration`, `review_confidence` and `malignant`, each with its origin.
    """
    logits = np.concatenate([result.logits for result in results])
    labels = np.concatenate([result.labels for result in results])
    origin = {"fitted_on": "out-of-fold predictions, protocol blocks", "n": len(labels)}
    novelty = np.concatenate([result.novelty for result in results]) / reject
    found = fit_calibration(logits, novelty, labels)
    probabilities = softmax(logits, found.temperatures(novelty))
    correct = probabilities.argmax(axis=1) == labels
    review = selective_threshold(probabilities.max(axis=1), correct, TRUSTED_ACCURACY)
    benign = CLASS_NAMES.index("Benign")
    malignant = 1 - probabilities[:, benign]
    ill = labels != benign
    point = float(np.quantile(malignant[ill], 1 - MALIGNANT_SENSITIVITY, method="lower"))
    return {
        "calibration": found.record() | origin,
        "review_confidence": {"value": review, "accuracy": TRUSTED_ACCURACY, **origin},
        "malignant": {
            "threshold": point,
            "sensitivity": float(np.mean(malignant[ill] >= point)),
            "specificity": float(np.mean(malignant[~ill] < point)),
            **origin,
        },
    }

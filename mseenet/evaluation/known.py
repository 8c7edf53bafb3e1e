"""Figures of the shipped network on the parts of its own split: accuracy, statuses, changed light."""

from pathlib import Path

import numpy as np

from mseenet import console
from mseenet.config import CLASS_NAMES
from mseenet.files import file_sha256
from mseenet.inference.card import Card
from mseenet.inference.classifier import Classifier
from mseenet.metrics import (
    measure,
    wilson_interval,
)
from mseenet.training.dataset import DatasetError
from mseenet.training.splits import SPLIT_NAMES, Split, read_split


def measure_parts(classifier: Classifier, split: Split, index, images: np.ndarray) -> dict:
    """Figures of the shipped network on each part of its split, whatever the gate says."""
    parts = {}
    for name in SPLIT_NAMES:
        rows = split.indices(index.samples, name)
        stream = classifier.stream(images[rows], include_rejected=True)
        answers = [
            list(p.probabilities.values()) for p in console.progress(stream, name, len(rows))
        ]
        parts[name] = measure(np.array(answers), index.labels[rows])
    return parts


def checked_split(card: Card, index, weights: Path) -> Split:
    """The split that the weights were trained with, checked against card and dataset."""
    record = card.content["split"]
    path = weights / record["file"]
    if not path.is_file() or file_sha256(path) != record["sha256"]:
        raise DatasetError(f"{path}: expected the split file that the card names, unaltered")
    return read_split(path, index, record["protocol"], record["seed"])


def proportion(count: int, n: int) -> dict:
    """A share of n with its Wilson interval; of nothing, 0 with the interval from 0 to 1."""
    return {"proportion": count / max(n, 1), "n": n, "interval_95": list(wilson_interval(count, n))}


def measure_statuses(classifier: Classifier, test: np.ndarray, foreign: Path | None) -> dict:
    """How many fields of the test part, and of what is foreign, get which status."""
    from mseenet.imaging.decoding import SUFFIXES
    from mseenet.imaging.perturbations import brightness

    sources = {"test": list(test)}
    for factor in (0.8, 0.9, 1.1, 1.2):
        sources[f"test, brightness x{factor}"] = [brightness(rgb, factor) for rgb in test]
    for folder in sorted(foreign.iterdir()) if foreign else ():
        files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
        if files:
            sources[folder.name.replace("_", " ")] = files
    results = {}
    for name, images in sources.items():
        statuses = [
            p.status for p in console.progress(classifier.stream(images), name, len(images))
        ]
        counted = [s for s in statuses if s != "error"]
        results[name] = {
            status: proportion(counted.count(status), len(counted))
            for status in ("rejected", "review")
        }
    return results


def measure_robustness(classifier: Classifier, images: np.ndarray, labels: np.ndarray) -> dict:
    """Accuracy on the test part under each perturbation, whatever the gate says of it."""
    from mseenet.imaging.perturbations import PERTURBATIONS

    results = {}
    for kind, severities in PERTURBATIONS.items():
        results[kind] = {}
        for severity, change in severities.items():
            changed = [change(rgb) for rgb in images]
            stream = console.progress(
                classifier.stream(changed, include_rejected=True), f"{kind} {severity}", len(images)
            )
            right = sum(
                CLASS_NAMES.index(p.class_name) == label
                for p, label in zip(stream, labels, strict=True)
            )
            results[kind][severity] = proportion(int(right), len(labels))
    return results

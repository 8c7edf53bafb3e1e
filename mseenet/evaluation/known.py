"""The weights on the parts of their own split, in changed light, and on foreign images."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from mseenet import console
from mseenet.config import CLASS_NAMES
from mseenet.errors import UsageError
from mseenet.files import file_sha256
from mseenet.imaging.decoding import ImageSource
from mseenet.imaging.formats import SUFFIXES, is_image
from mseenet.imaging.perturbations import PERTURBATIONS, brightness
from mseenet.inference.card import Card
from mseenet.inference.classifier import Classifier
from mseenet.metrics import grouped_proportion, measure, proportion
from mseenet.training.dataset import DatasetError, DatasetIndex
from mseenet.training.splits import SPLIT_NAMES, Split, read_split

BRIGHTNESS_FACTORS = (0.6, 0.8, 0.9, 1.1, 1.2, 1.4)
"""Light in which the gate should still let most fields of known slides pass."""


def checked_split(card: Card, index: DatasetIndex) -> Split:
    """The split that the weights were trained with.

    Raises:
        DatasetError: The card names no split, the split file is not the one that it names, or
            the dataset does not hold its images.
    """
    record = card.content.get("split")
    if not record:
        raise DatasetError(f"{card.weights_path.parent}: expected a card that names its split")
    path = card.weights_path.parent / record["file"]
    if not path.is_file() or file_sha256(path) != record["sha256"]:
        raise DatasetError(f"{path}: expected the split file that the card names, unaltered")
    return read_split(path, index, record["protocol"], record.get("seed"))


def foreign_images(folder: Path) -> dict[str, list[Path]]:
    """Images that are to be refused, by kind: each folder in `folder` is one.

    Raises:
        UsageError: There is no folder, no image in its folders, or two kinds would have one
            name in the report.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: expected folders of foreign images, found no folder there")
    kinds: dict[str, list[Path]] = {}
    for kind in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = sorted(
            path for path in kind.rglob("*") if path.suffix.lower() in SUFFIXES or is_image(path)
        )
        if not files:
            continue
        # Reports are UTF-8, which a folder's name need not be.
        name = kind.name.encode(errors="backslashreplace").decode().replace("_", " ")
        if name in kinds or name.partition(",")[0] == "test":
            raise UsageError(f"{kind}: expected another name; {name!r} is taken in the report")
        kinds[name] = files
    if not kinds:
        raise UsageError(f"{folder}: expected a folder of images for each kind, found none")
    return kinds


def measure_parts(
    classifier: Classifier,
    split: Split,
    index: DatasetIndex,
    images: np.ndarray,
    groups: np.ndarray,
) -> dict[str, dict]:
    """`mseenet.metrics.measure` of each part of the split, whatever the gate says.

    Args:
        classifier: Of the weights.
        split: Theirs.
        index: The dataset.
        images: All of it, uint8 (N, H, W, 3).
        groups: Which fields belong together, (N,); `stress.file_order_blocks`.
    """
    parts = {}
    for name in SPLIT_NAMES:
        rows = split.indices(index.samples, name)
        answers = _probabilities(classifier, images[rows], name)
        parts[name] = measure(answers, index.labels[rows], groups[rows])
    return parts


def measure_statuses(
    classifier: Classifier,
    test: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    foreign: Mapping[str, Sequence[Path]],
) -> dict[str, dict[str, dict]]:
    """Which proportion of the test fields, and of each kind of foreign image, is refused or flagged.

    Args:
        classifier: Of the weights.
        test: Fields of the test part, uint8 (N, H, W, 3).
        labels: Their classes, int (N,).
        groups: Which of them belong together, (N,).
        foreign: See `foreign_images`. Files that cannot be read do not count.

    Returns:
        By kind and status ("rejected", "review"), a record of `mseenet.metrics.proportion`;
        of test fields, one of `grouped_proportion`, and by "right_of_ok" which proportion of
        those without a remark are right (None where there are none).
    """
    sources: dict[str, Sequence[ImageSource]] = {"test": list(test)}
    for factor in BRIGHTNESS_FACTORS:
        sources[f"test, brightness x{factor}"] = [brightness(rgb, factor) for rgb in test]
    results: dict[str, dict] = {}
    for name, images in (sources | dict(foreign)).items():
        predictions = list(console.progress(classifier.stream(images), name, len(images)))
        statuses = np.array([prediction.status for prediction in predictions])
        readable = statuses != "error"
        results[name] = {
            status: proportion(int(np.sum(statuses == status)), int(readable.sum()))
            if name in foreign
            else grouped_proportion(statuses == status, groups)
            for status in ("rejected", "review")
        }
        if name in foreign:
            continue
        ok = statuses == "ok"
        named = [CLASS_NAMES.index(str(p.class_name)) for p in predictions if p.status == "ok"]
        right = np.array(named, int) == labels[ok]
        results[name]["right_of_ok"] = grouped_proportion(right, groups[ok]) if ok.any() else None
    return results


def measure_robustness(
    classifier: Classifier, images: np.ndarray, labels: np.ndarray, groups: np.ndarray
) -> dict[str, dict[str, dict]]:
    """Accuracy under each perturbation by kind and severity, whatever the gate says of it.

    Args:
        classifier: Of the weights.
        images: Fields of the test part, uint8 (N, H, W, 3).
        labels: int (N,).
        groups: Which fields belong together, (N,).
    """
    results: dict[str, dict[str, dict]] = {}
    for kind, severities in PERTURBATIONS.items():
        results[kind] = {}
        for severity, change in severities.items():
            changed = [change(rgb) for rgb in images]
            answers = _probabilities(classifier, changed, f"{kind} {severity}")
            results[kind][severity] = grouped_proportion(answers.argmax(axis=1) == labels, groups)
    return results


def _probabilities(
    classifier: Classifier, images: Sequence[np.ndarray] | np.ndarray, name: str
) -> np.ndarray:
    """Calibrated probabilities, float64 (N, C), of refused fields too."""
    stream: Iterable = classifier.stream(images, include_rejected=True)
    answers = [
        [prediction.probabilities[class_name] for class_name in CLASS_NAMES]
        for prediction in console.progress(stream, name, len(images))
    ]
    return np.array(answers)

"""Protocols that know the camera's series: what is tested comes from series not trained on.

The dataset was published a second time under the camera's own file names; captures.csv
beside this module gives for each file number the series and the capture it probably is. A
series is not a patient (89 patients, 17 series), but its fields share a slide's stain, light
and thickness. Two protocols follow from it:

series: 23 parts, each tested once, in five folds. Whole series are left out; the two that
hold most of their class are cut into ranges of captures, with an embargo around.

series-siblings: four folds in which whole looks leave training together. Fold 0 is the
hard one: both sparse Pre-B parts, which alternate in file order, are tested at once, so
that of their kind training has the ten fields of `misc`.
"""

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mseenet.config import CLASS_NAMES
from mseenet.training.dataset import FOLDER_NAMES, DatasetError, Sample
from mseenet.training.splits import Split, file_number

CAPTURES_PATH = Path(__file__).with_name("captures.csv")

PREFIX = "WBC-"
"""What names of the published files begin with; numbers of other files mean nothing here."""

COLUMNS = ("class", "file_number", "series", "capture_index", "confidence")

EMBARGO = 60
"""Captures around a tested range of a cut series that are left out of training."""

RANGES = {("Pre-B", "Snap_NNN"): 4, ("Pro-B", "Snap_NNN"): 4}
"""Into how many ranges of captures the longest series are cut. They hold 86 and 95 % of
their class: leaving one out altogether would leave hardly any field of the class."""

SERIES_FOLDS = (
    (
        ("Benign", "Snap_NNN"),
        ("Early Pre-B", "Sap_148 (k)"),
        ("Pre-B", "Snap_NNN", 1),
        ("Pro-B", "Snap_NNN", 1),
        ("Pro-B", "Snap_NNN - Copy"),
    ),
    (
        ("Benign", "Snap_NNN (2)"),
        ("Early Pre-B", "Snp_147 (k)"),
        ("Early Pre-B", "Snap_0233 (k)"),
        ("Pre-B", "Snap_NNN", 2),
        ("Pro-B", "Snap_NNN", 2),
    ),
    (
        ("Benign", "Snap_NNN (3)"),
        ("Early Pre-B", "Snap_NNN - Copy"),
        ("Pre-B", "Snap_NNN", 3),
        ("Pro-B", "Snap_NNN", 3),
    ),
    (
        ("Benign", "Sap_013 (k)"),
        ("Benign", "Snap_NNN (4)"),
        ("Early Pre-B", "Sn1ap_024 (k)"),
        ("Early Pre-B", "Snap1_043 (k)"),
        ("Pre-B", "Snap_NNN", 4),
        ("Pre-B", "misc"),
        ("Pro-B", "Snap_NNN", 4),
    ),
    (("Early Pre-B", "Snap_NNN"), ("Pre-B", "Snap_NNN - Copy")),
)
"""Parts that are tested together in the protocol `series`: class, series and, of a cut
series, the range, counted from 1. Pro-B `Snap_NNN - Copy` repeats captures of the first
range, so the two stay together."""

SIBLING_FOLDS = (
    (
        ("Benign", "Snap_NNN (3)"),
        ("Benign", "Snap_NNN (4)"),
        ("Early Pre-B", "Snp_147 (k)"),
        ("Early Pre-B", "Snap_NNN - Copy"),
        ("Pre-B", "Snap_NNN - Copy"),
        ("Pre-B", "Snap_NNN", 1),
        ("Pro-B", "Snap_NNN - Copy"),
        ("Pro-B", "Snap_NNN", 4),
    ),
    (
        ("Benign", "Snap_NNN"),
        ("Benign", "Snap_NNN (2)"),
        ("Pre-B", "Snap_NNN", 2),
        ("Pro-B", "Snap_NNN", 1),
    ),
    (
        ("Early Pre-B", "Snap_NNN"),
        ("Early Pre-B", "Snap_0233 (k)"),
        ("Pre-B", "Snap_NNN", 3),
        ("Pro-B", "Snap_NNN", 2),
    ),
    (
        ("Benign", "Sap_013 (k)"),
        ("Early Pre-B", "Sap_148 (k)"),
        ("Early Pre-B", "Sn1ap_024 (k)"),
        ("Early Pre-B", "Snap1_043 (k)"),
        ("Pre-B", "Snap_NNN", 4),
        ("Pre-B", "misc"),
        ("Pro-B", "Snap_NNN", 3),
    ),
)
"""Parts that are tested together in the protocol `series-siblings`."""

SIBLING_WITHHELD = (
    (),
    (("Pro-B", "Snap_NNN - Copy"),),
    (("Early Pre-B", "Snap_NNN - Copy"),),
    (),
)
"""Parts that a fold of `series-siblings` neither trains on nor tests: they repeat a tested
one, or alternate with it in file order. The four Benign series that alternate leave in pairs, as together
they are all but 24 fields of their class."""

PROTOCOLS = {
    "series": (SERIES_FOLDS, ((),) * len(SERIES_FOLDS)),
    "series-siblings": (SIBLING_FOLDS, SIBLING_WITHHELD),
}
"""Tested and withheld parts of each fold, by protocol."""


@dataclass(frozen=True)
class Capture:
    """What captures.csv says of one file.

    Attributes:
        series: Captures of one counter of the camera.
        index: The capture's number in it; None where it is not known.
        confidence: How sure both are, in words.
    """

    series: str
    index: int | None
    confidence: str


def read_captures(path: Path = CAPTURES_PATH) -> dict[tuple[str, int], Capture]:
    """Reads the table of captures.

    Args:
        path: CSV with the columns class, file_number, series, capture_index, confidence;
            the classes are the dataset's folder names.

    Returns:
        A record for each class name and file number.

    Raises:
        DatasetError: The file is missing or malformed, or names a file twice.
    """
    class_of = {alias: name for name, aliases in FOLDER_NAMES.items() for alias in aliases}
    captures = {}
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            if missing := set(COLUMNS) - set(reader.fieldnames or ()):
                raise ValueError(f"no column {min(missing)}")
            for row in reader:
                key = class_of[row["class"]], int(row["file_number"])
                if key in captures:
                    raise ValueError(f"{key} is there twice")
                index = int(row["capture_index"]) if row["capture_index"] else None
                captures[key] = Capture(row["series"], index, row["confidence"])
    except (OSError, KeyError, ValueError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"{path}: expected the columns {', '.join(COLUMNS)} and each file once ({error})"
        ) from error
    return captures


def find_captures(
    samples: Sequence[Sample], captures: Mapping[tuple[str, int], Capture]
) -> list[Capture]:
    """The record of each sample, in their order.

    Raises:
        DatasetError: The table does not have a sample.
    """
    found = []
    for sample in samples:
        capture = _capture_of(sample, captures)
        if capture is None:
            raise DatasetError(
                f"{sample.file}: expected a file of the published dataset ({PREFIX}...), whose "
                "series are known; this one is not among them"
            )
        found.append(capture)
    return found


def series_of(samples: Sequence[Sample]) -> list[str]:
    """To which series each image belongs, for `balance`.

    Returns:
        Class name and series; for images that are not of the published dataset, the class
        name alone: all of a class then count as one series.
    """
    captures = read_captures()
    names = []
    for sample in samples:
        capture, class_name = _capture_of(sample, captures), CLASS_NAMES[sample.label]
        names.append(f"{class_name} {capture.series}" if capture else class_name)
    return names


def _capture_of(sample: Sample, captures: Mapping[tuple[str, int], Capture]) -> Capture | None:
    if not Path(sample.file).name.startswith(PREFIX):
        return None
    return captures.get((CLASS_NAMES[sample.label], file_number(sample)))


def part_names(labels: Sequence[int], captures: Sequence[Capture]) -> list[tuple]:
    """To which part each field belongs.

    Args:
        labels: Indices into `CLASS_NAMES`, (N,).
        captures: A record for each field, (N,).

    Returns:
        For each field class name and series and, where the series is cut (`RANGES`), its
        range, counted from 1. Ranges hold equally many of the fields given, in the order
        of their captures.

    Raises:
        DatasetError: A field of a series that is to be cut has no capture index.
    """
    members = defaultdict(list)
    for i, (label, capture) in enumerate(zip(labels, captures, strict=True)):
        members[CLASS_NAMES[label], capture.series].append(i)
    names: list[tuple] = [()] * len(captures)
    for series, fields in members.items():
        ranges = RANGES.get(series)
        if ranges is None:
            for i in fields:
                names[i] = series
            continue
        fields.sort(key=lambda i: _index(captures[i]))
        for k, chosen in enumerate(np.array_split(np.array(fields), ranges)):
            for i in chosen:
                names[i] = (*series, k + 1)
    return names


def series_split(
    samples: Sequence[Sample],
    captures: Sequence[Capture],
    protocol: str,
    fold: int,
    duplicates: Iterable[tuple[int, int]] = (),
) -> Split:
    """Whole series, and ranges of captures of the longest ones, are the test part.

    Args:
        samples: All usable images.
        captures: A record for each of them (`find_captures`).
        protocol: A key of `PROTOCOLS`.
        fold: Which parts are tested.
        duplicates: Pairs of positions in `samples` (`near_duplicates`); what repeats a test
            image is left out of training, whatever its series.

    Returns:
        A split into "train" and "test"; there is no "val". Of a cut series whose range is
        tested, fields at most `EMBARGO` captures away from the range are in neither.

    Raises:
        DatasetError: Nothing of a tested part, or nothing of a class to train on, is there.
        ValueError: `protocol` or `fold` is unknown.
    """
    if protocol not in PROTOCOLS or not 0 <= fold < len(PROTOCOLS[protocol][0]):
        known = ", ".join(f"{name} (0-{len(folds) - 1})" for name, (folds, _) in PROTOCOLS.items())
        raise ValueError(f"expected protocol and fold of {known}; received {protocol}, {fold}")
    tested, withheld = (set(kind[fold]) for kind in PROTOCOLS[protocol])
    names = part_names([sample.label for sample in samples], captures)
    if missing := tested - set(names):
        raise DatasetError(
            f"protocol {protocol}, fold {fold}: expected fields of {min(missing)}, found none"
        )
    part: list[str | None] = ["test" if name in tested else "train" for name in names]
    spans = defaultdict(list)
    for name, capture in zip(names, captures, strict=True):
        if name in tested and name[:2] in RANGES:
            spans[name].append(_index(capture))
    for i, (name, capture) in enumerate(zip(names, captures, strict=True)):
        if part[i] == "test":
            continue
        close = any(
            span[:2] == name[:2] and min(tests) - EMBARGO <= _index(capture) <= max(tests) + EMBARGO
            for span, tests in spans.items()
        )
        if name in withheld or close:
            part[i] = None
    for pair in duplicates:
        for one, other in (pair, pair[::-1]):
            if part[one] == "test" and part[other] == "train":
                part[other] = None
    for label, class_name in enumerate(CLASS_NAMES):
        if not any(p == "train" and s.label == label for p, s in zip(part, samples, strict=True)):
            raise DatasetError(
                f"protocol {protocol}, fold {fold}: nothing of {class_name} is left to train on"
            )
    return Split(
        f"{protocol}, fold {fold}, embargo {EMBARGO} captures",
        None,
        {sample.file: name for sample, name in zip(samples, part, strict=True) if name},
    )


def _index(capture: Capture) -> int:
    if capture.index is None:
        raise DatasetError(
            f"{capture.series}: expected a capture index for each field of a cut series"
        )
    return capture.index


def balance(names: Sequence | np.ndarray, power: float) -> np.ndarray:
    """How often each field is drawn in training, so that long series do not rule.

    Args:
        names: The part or series of each training field, (N,).
        power: 0 draws all fields alike, 1 all series alike, 0.5 lies between.

    Returns:
        Probabilities, float64 (N,), that sum to 1.
    """
    _, number, sizes = np.unique(
        [str(name) for name in names], return_inverse=True, return_counts=True
    )
    weights = sizes[number] ** -float(power)
    return weights / weights.sum()

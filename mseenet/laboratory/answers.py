"""What a network says of a laboratory's fields, as arrays."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from mseenet.config import CLASS_NAMES
from mseenet.imaging.nuclei import NucleatedCells, find_cells
from mseenet.imaging.quality import SHIPPED, Finding, Thresholds, check_quality
from mseenet.inference.card import Card
from mseenet.inference.classifier import Observed, Prediction, judged
from mseenet.inference.scale import told
from mseenet.laboratory.fields import SeenFields
from mseenet.metrics import softmax

KINDS = (
    ("unlike the fields", "unlike the fields that the network was validated on"),
    ("no nucleated cell", "no nucleated cell found"),
    ("the network recognises none", "none of the classes recognised"),
    ("only", "too few pixels"),
    ("one plain colour", "nothing to classify"),
)
"""How reasons of a refusal begin, and what they are counted as."""

QUALITY = {
    "contrast": "low contrast",
    "dark": "too dark",
    "sharpness": "out of focus",
    "stained": "no stained nucleus",
}
"""How reasons begin that follow from each of `Thresholds`."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What is said of N fields.

    Attributes:
        statuses: "ok", "review" or "rejected", str (N,).
        probabilities: Calibrated, also of rejected fields, float64 (N, C).
        novelty: Distance from the training fields over that of rejection, float64 (N,); NaN
            for weights without a gate.
        reasons: Why each status is what it is.
    """

    statuses: np.ndarray
    probabilities: np.ndarray
    novelty: np.ndarray
    reasons: tuple[tuple[str, ...], ...]

    @property
    def predicted(self) -> np.ndarray:
        """Index of the most probable class, int (N,)."""
        return self.probabilities.argmax(axis=1)

    @property
    def named(self) -> np.ndarray:
        """Which fields are given a class, bool (N,)."""
        return self.statuses != "rejected"

    def chosen(self, rows: np.ndarray) -> "Answers":
        """Those of some fields, by position or as a mask."""
        rows = np.arange(len(self.statuses))[rows]
        return Answers(
            self.statuses[rows],
            self.probabilities[rows],
            self.novelty[rows],
            tuple(self.reasons[i] for i in rows),
        )

    def flagged(self, begins: str) -> np.ndarray:
        """Which fields have a reason that begins so, bool (N,)."""
        return np.array([any(r.startswith(begins) for r in said) for said in self.reasons], bool)

    def refusals(self) -> dict[str, int]:
        """How many fields are refused for what, the most frequent reason first."""
        counts: dict[str, int] = {}
        for status, reasons in zip(self.statuses, self.reasons, strict=True):
            if status == "rejected":
                kind = next((k for start, k in KINDS if reasons[0].startswith(start)), reasons[0])
                counts[kind] = counts.get(kind, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: -item[1]))


@dataclass(frozen=True, eq=False)
class Looked:
    """What is found in fields without the network.

    Attributes:
        findings: What their quality leaves to be desired.
        cells: How many nucleated cells each shows.
    """

    findings: tuple[tuple[Finding, ...], ...]
    cells: tuple[NucleatedCells, ...]


def look_at(images: Iterable[np.ndarray], sizes: np.ndarray) -> Looked:
    """Checks quality and finds cells, as `Classifier.predict` does without a profile.

    Args:
        images: Squeezed RGB pixels of N fields, each uint8 (224, 224, 3) in [0, 255].
        sizes: Height and width as decoded, int (N, 2).
    """
    images = tuple(images)
    with ThreadPoolExecutor() as pool:
        cells = tuple(found.cells for found in pool.map(find_cells, images))
    return Looked(findings_of(images, sizes, SHIPPED), cells)


def findings_of(
    images: Iterable[np.ndarray], sizes: np.ndarray, thresholds: Thresholds
) -> tuple[tuple[Finding, ...], ...]:
    """Checks quality alone, with any thresholds; other arguments as for `look_at`."""
    shapes = [(int(height), int(width)) for height, width in sizes]
    with ThreadPoolExecutor() as pool:
        return tuple(pool.map(partial(check_quality, thresholds=thresholds), images, shapes))


def answer(card: Card, observed: Observed, looked: Looked) -> Answers:
    """What the network says of fields that it and the checks have looked at."""
    novelty = np.full(len(observed.logits), np.nan)
    if card.novelty is not None:
        novelty = card.novelty.reference.distances(observed.frozen) / card.novelty.reject
    divisors = card.calibration.temperatures(np.nan_to_num(novelty))
    probabilities = softmax(observed.logits, divisors)
    sizes: list[float | None] = [None] * len(novelty)
    if observed.sizes is not None:
        sizes = list(map(told, observed.sizes, novelty))
    said = [
        judged(card, *of_field)
        for of_field in zip(
            looked.findings, looked.cells, probabilities, novelty, sizes, strict=True
        )
    ]
    return Answers(
        np.array([status for status, _, _ in said]),
        probabilities,
        np.asarray(novelty, np.float64),
        tuple(reasons for _, _, reasons in said),
    )


def answers_of(predictions: Sequence[Prediction]) -> Answers:
    """What a classifier has said of fields.

    Args:
        predictions: None an error, and with the probabilities of rejected fields.
    """
    probabilities = [list((said.probabilities or {}).values()) for said in predictions]
    novelty = [np.nan if said.novelty is None else said.novelty for said in predictions]
    return Answers(
        np.array([said.status for said in predictions]),
        np.array(probabilities, np.float64),
        np.array(novelty, np.float64),
        tuple(said.reasons for said in predictions),
    )


def by_slide(fields: SeenFields, answers: Answers) -> list[dict]:
    """Counts for each slide: classes, fields, refused, named and right."""
    rows = []
    for slide in np.unique(fields.slides):
        mine = fields.slides == slide
        named = mine & answers.named
        right = named & (answers.predicted == fields.labels)
        rows.append(
            {
                "slide": str(slide),
                "class": ", ".join(CLASS_NAMES[label] for label in np.unique(fields.labels[mine])),
                "fields": int(mine.sum()),
                "refused": int((mine & ~answers.named).sum()),
                "named": int(named.sum()),
                "right": int(right.sum()),
            }
        )
    return rows


def joined(parts: Sequence[Answers], rows: Sequence[np.ndarray]) -> Answers:
    """Answers to parts of the fields as one, in the order of the fields.

    Args:
        parts: Of each part.
        rows: Positions of each part's fields, int; together each position once.
    """
    order = np.argsort(np.concatenate(rows))
    reasons = [reason for part in parts for reason in part.reasons]
    return Answers(
        np.concatenate([part.statuses for part in parts])[order],
        np.concatenate([part.probabilities for part in parts])[order],
        np.concatenate([part.novelty for part in parts])[order],
        tuple(reasons[i] for i in order),
    )

"""Stress tests of the test fields: does the answer follow the cells, or what surrounds them?

From each field images are made that a haematologist would answer as the field itself; only
of a field without nucleated cells there is nothing to say. Donors of background and stain
are fields of the same part, so that nothing of training is in the images.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mseenet import console
from mseenet.config import CLASS_NAMES
from mseenet.imaging.nuclei import blank_background, nucleus_mask
from mseenet.imaging.transplant import (
    CUTTERS,
    HELD_OUT,
    cut_hard,
    empty_field,
    restain,
    transplant,
)
from mseenet.inference.classifier import Classifier
from mseenet.metrics import grouped_proportion
from mseenet.training.dataset import DatasetIndex
from mseenet.training.splits import FOLDS, block_split

TESTED_CUTTERS = ("feathered", HELD_OUT)
"""A cutter that recipes may use, and the one that none uses."""

SAME_CLASS = {name: f"background of the same class, {name} cut" for name in TESTED_CUTTERS}

ANOTHER_CLASS = {name: f"background of another class, {name} cut" for name in TESTED_CUTTERS}

UNCHANGED = "as they are"

RESTAINED = "restained like a field of another class"

HALF = "half of the nucleated cells"

ONLY_CELLS = "only the nucleated cells"

NO_CELLS = "no nucleated cells"

STRESS_TESTS = (
    UNCHANGED,
    *SAME_CLASS.values(),
    *ANOTHER_CLASS.values(),
    RESTAINED,
    HALF,
    ONLY_CELLS,
    NO_CELLS,
)
"""Names of the tests, in the order of the reports."""


DONE = (
    "training does nothing about it",
    "so training also shows nucleated cells on backgrounds of other classes",
)
"""What a recipe does against reading the background: others, and `cells`."""


@dataclass(frozen=True, eq=False)
class StressFields:
    """Fields with what all tests need of them.

    Attributes:
        images: RGB pixels, uint8 (N, H, W, 3) in [0, 255].
        labels: int (N,).
        masks: Where their nucleated cells are, bool (N, H, W).
        emptied: The fields without nucleated cells, uint8 (N, H, W, 3).
        seed: Of donors and cuts.
    """

    images: np.ndarray
    labels: np.ndarray
    masks: np.ndarray
    emptied: np.ndarray
    seed: int = 0

    def donors(self, test: str) -> np.ndarray:
        """Whose background or stain each field gets.

        Both cutters get the same donors, so that their figures can be compared.

        Args:
            test: One of `STRESS_TESTS`.

        Returns:
            Positions of the donors, int (N,); -1 where the test needs none or there is none.
        """
        donors = np.full(len(self.labels), -1)
        same = test in SAME_CLASS.values()
        if not (same or test in ANOTHER_CLASS.values() or test == RESTAINED):
            return donors
        random = np.random.default_rng([self.seed, *test.split(",", maxsplit=1)[0].encode()])
        for i, label in enumerate(self.labels):
            allowed = (self.labels == label) == same
            allowed[i] = False
            if allowed.any():
                donors[i] = random.choice(np.flatnonzero(allowed))
        return donors

    def make(self, test: str, i: int, donor: int) -> np.ndarray | None:
        """The image of one test that is made from one field.

        Args:
            test: One of `STRESS_TESTS`.
            i: Position of the field.
            donor: Of `donors`.

        Returns:
            uint8 (H, W, 3) in [0, 255]; None if there is nothing to test: a donor is wanted
            and there is none, or too few nucleated cells were found.

        Raises:
            ValueError: There is no such test.
        """
        if test not in STRESS_TESTS:
            raise ValueError(f"expected one of {STRESS_TESTS}; received {test!r}")
        if test == UNCHANGED:
            return self.images[i]
        if test == RESTAINED:
            return restain(self.images[i], self.images[donor]) if donor >= 0 else None
        if not self.masks[i].any():
            return None
        if test == NO_CELLS:
            return self.emptied[i]
        if test == ONLY_CELLS:
            return blank_background(self.images[i], self.masks[i])
        return self._put_on_background(test, i, donor)

    def _put_on_background(self, test: str, i: int, donor: int) -> np.ndarray | None:
        random = np.random.default_rng([self.seed, *test.encode(), i])
        if test == HALF:
            donor = i
            cells = cut_hard(self.images[i], self.masks[i], random)
            kept = np.zeros(cells.count, bool)
            kept[random.permutation(cells.count)[: cells.count // 2]] = True
            cells = cells.keep(kept)
        else:
            cutter = next(
                name for name in TESTED_CUTTERS if test in (SAME_CLASS[name], ANOTHER_CLASS[name])
            )
            cells = CUTTERS[cutter](self.images[i], self.masks[i], random)
        return transplant(cells, self.emptied[donor]) if donor >= 0 and cells.count else None


def stress_fields(images: np.ndarray, labels: np.ndarray, seed: int = 0) -> StressFields:
    """Finds the nucleated cells of fields and fills their places, some 30 ms a field.

    Args:
        images: RGB pixels, uint8 (N, H, W, 3) in [0, 255].
        labels: int (N,).
        seed: Of all that is drawn.
    """
    masks, emptied = np.zeros(images.shape[:3], bool), np.zeros_like(images)
    for i in console.progress(range(len(images)), "removing cells"):
        masks[i] = nucleus_mask(images[i])
        emptied[i] = empty_field(images[i], masks[i], np.random.default_rng([seed, i]))
    return StressFields(images, np.asarray(labels), masks, emptied, seed)


def file_order_blocks(index: DatasetIndex) -> np.ndarray:
    """In which block of its class's file order each image lies, a number for each, int (N,).

    The blocks are those of the protocol `blocks`.

    Raises:
        DatasetError: A class has too few images, or files have no number.
    """
    blocks = np.zeros(len(index.samples), int)
    for fold in range(FOLDS):
        split = block_split(index.samples, fold, embargo=0)
        tested = split.indices(index.samples, "test")
        blocks[tested] = index.labels[tested] * FOLDS + fold
    return blocks


def measure_stress(
    classifier: Classifier,
    images: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    recipe: str,
) -> dict[str, Any]:
    """What the classifier says in each stress test.

    Args:
        classifier: Of the weights.
        images: Fields of the test part, uint8 (N, H, W, 3).
        labels: int (N,).
        groups: Which fields belong together, int (N,), for the intervals; `file_order_blocks`.
        recipe: Of the weights' training.

    Returns:
        `summary`, of `stress_findings`, and by test in `tests`, see `stress_figures`. A test for
        which no image can be made is left out.
    """
    fields = stress_fields(images, labels)
    results: dict[str, dict[str, Any]] = {}
    for test in STRESS_TESTS:
        donors = fields.donors(test)
        made = {i: fields.make(test, i, donor) for i, donor in enumerate(donors)}
        changed = {i: image for i, image in made.items() if image is not None}
        if not changed:
            continue
        stream = classifier.stream(list(changed.values()), include_rejected=True)
        predictions = list(console.progress(stream, test, len(changed)))
        rows = list(changed)
        results[test] = stress_figures(
            np.array([CLASS_NAMES.index(str(p.class_name)) for p in predictions]),
            np.array([p.confidence for p in predictions]),
            np.array([p.status for p in predictions]),
            fields.labels[rows],
            np.where(donors >= 0, fields.labels[donors], -1)[rows],
            np.asarray(groups)[rows],
        )
    return {"summary": stress_findings(results, recipe), "tests": results}


def stress_figures(
    named: np.ndarray,
    confidence: np.ndarray,
    status: np.ndarray,
    labels: np.ndarray,
    donor_labels: np.ndarray,
    groups: np.ndarray,
) -> dict[str, Any]:
    """How one test came out, ready for JSON.

    Args:
        named: The class of each image, of refused ones too, int (N,).
        confidence: Calibrated, (N,) in [0, 1].
        status: "ok", "review" or "rejected", str (N,).
        labels: Of the fields that the images were made from, int (N,).
        donor_labels: Of their donors, int (N,); -1 for none.
        groups: Which fields belong together, (N,).

    Returns:
        `n`; `mean_confidence`; and records of `mseenet.metrics.grouped_proportion`: `right` (the
        field's class is named, whatever the gate says), `ok`, `review`, `rejected`,
        `right_of_ok` (of what is "ok"), and, where donors have another class, `donor` (the
        donor's class is named).
    """
    right, ok = named == labels, status == "ok"
    figures: dict[str, Any] = {
        "n": len(named),
        "right": grouped_proportion(right, groups),
        "ok": grouped_proportion(ok, groups),
        "right_of_ok": grouped_proportion(right[ok], groups[ok]),
        "review": grouped_proportion(status == "review", groups),
        "rejected": grouped_proportion(status == "rejected", groups),
        "mean_confidence": float(np.mean(confidence)),
    }
    foreign = (donor_labels >= 0) & (donor_labels != labels)
    if foreign.any():
        figures["donor"] = grouped_proportion((named == donor_labels)[foreign], groups[foreign])
    return figures


def follows_background(stress: Mapping[str, dict[str, Any]]) -> bool:
    """Whether a background of another class costs more than one of the same class.

    Args:
        stress: Figures by test.

    Returns:
        True if, with either cutter, the intervals of what is right do not even touch.
    """
    return any(
        stress[ANOTHER_CLASS[name]]["right"]["interval_95"][1]
        < stress[SAME_CLASS[name]]["right"]["interval_95"][0]
        for name in TESTED_CUTTERS
        if SAME_CLASS[name] in stress and ANOTHER_CLASS[name] in stress
    )


def stress_findings(stress: Mapping[str, dict[str, Any]], recipe: str) -> list[str]:
    """What the figures say, in sentences.

    Args:
        stress: Figures by test.
        recipe: Of the weights' training.
    """
    found = []
    if sentence := background_sentence(stress, recipe):
        found.append(sentence)
    another = [stress[test] for test in ANOTHER_CLASS.values() if test in stress]
    if another:
        found.append(
            f"On the background of another class {_all(another, 'donor')} % get the class of the "
            "background."
        )
    if follows_background(stress):
        found.append(
            "So the network follows red cells and plasma as well as the nucleated cells: what it "
            "has learnt of a class is in part the slides of that class, and a right answer is no "
            "sign that it has read the blasts."
        )
    if NO_CELLS in stress:
        empty = stress[NO_CELLS]
        found.append(
            f"Of fields without nucleated cells {100 * empty['ok']['proportion']:.1f} % are still "
            f'answered "ok" and {100 * empty["rejected"]["proportion"]:.1f} % refused; their mean '
            f"confidence is {100 * empty['mean_confidence']:.1f} %."
        )
    return found


def background_sentence(stress: Mapping[str, dict[str, Any]], recipe: str) -> str | None:
    """What was found about backgrounds, and what was done about it, in one sentence.

    Args:
        stress: Figures by test.
        recipe: Of the weights' training.

    Returns:
        None where the cells could not be put on both kinds of background.
    """
    another = [stress[test] for test in ANOTHER_CLASS.values() if test in stress]
    same = [stress[test] for test in SAME_CLASS.values() if test in stress]
    if not another or not same:
        return None
    return (
        f"The slide's background goes with the class in this dataset; {DONE[recipe == 'cells']}: "
        f"with the nucleated cells on the background of another class {_all(another, 'right')} % "
        f"are right, on that of their own class {_all(same, 'right')} % ({' and '.join(TESTED_CUTTERS)} "
        "cut)."
    )


def _all(figures: list[dict[str, Any]], name: str) -> str:
    return " and ".join(f"{100 * record[name]['proportion']:.1f}" for record in figures)

"""The figures of a method verification in one laboratory, and what they allow to say.

All intervals are 95 % and over slides, as fields of one slide fail together.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from mseenet.config import BENIGN, CLASS_NAMES
from mseenet.imaging.appearance import Appearance
from mseenet.inference.card import Card
from mseenet.laboratory.answers import Answers, by_slide
from mseenet.laboratory.color import TrainingFields, quantiles_of
from mseenet.laboratory.fields import SeenFields
from mseenet.metrics import (
    brier_score,
    confusion_matrix,
    expected_calibration_error,
    grouped_proportion,
    proportion,
    reliability,
)

SCHEMA = 1
"""Version of the report for programs; raised when an entry changes its meaning or goes."""

FEWEST_SLIDES, FEWEST_OF_A_CLASS = 10, 2
"""Slides in all and of each class below which no claim is made, whatever the figures."""

DRAWS = 1000
"""Resamples of slides for what is no plain proportion."""

BINS = 10
"""Of confidence, in the reliability diagram."""

CRITERIA = (
    ("refused", "fields refused", 0.10, False),
    ("accuracy", "fields with a class that are given the right one", 0.95, True),
    ("malignant_called_benign", "malignant fields called Benign", 0.02, False),
    ("calibration_error", "expected calibration error", 0.05, False),
)
"""What is required: entry of the report, in words, limit, and whether at least so much."""

DIGITS = 4
"""Of what is computed from probabilities: which images lie beside a field in a batch of the network
changes its probabilities in the seventh."""


def verification(
    card: Card,
    fields: SeenFields,
    answers: Answers,
    training: TrainingFields,
    made: datetime,
    foreign: Mapping[str, Answers] | None = None,
) -> dict[str, Any]:
    """The report as it goes to a JSON file.

    Args:
        card: Of the weights that answered, with the profile if one was used.
        fields: The laboratory's.
        answers: To all of them.
        training: What the training fields look like.
        made: When.
        foreign: Answers to images that are to be refused, by kind.
    """
    figures = figures_of(fields, answers)
    criteria = judge_criteria(figures)
    return {
        "schema": SCHEMA,
        "kind": "verification in a laboratory",
        "weights": card.sha256,
        "release": card.release,
        "profile": None
        if card.profile is None
        else {"name": card.profile.name, "identity": card.profile.identity},
        "made": made.isoformat(timespec="seconds"),
        "fields": {
            "n": len(fields.labels),
            "slides": len(set(fields.slides)),
            "by_class": fields.counts(),
            "problems": list(fields.problems),
        },
        **figures,
        "slides": by_slide(fields, answers),
        "appearance": appearance(fields.looks, training),
        "appearance_of_these_weights": training.weights == card.sha256,
        "foreign": {
            kind: proportion(int((~said.named).sum()), len(said.statuses))
            for kind, said in (foreign or {}).items()
        },
        "criteria": criteria,
        **conclusion(criteria, fields),
    }


def figures_of(fields: SeenFields, answers: Answers) -> dict[str, Any]:
    """What was measured on the fields, with intervals over slides."""
    labels, slides = fields.labels, fields.slides
    named, right = answers.named, answers.predicted == labels
    malignant = named & (labels != BENIGN)
    ok = answers.statuses == "ok"
    return {
        "refused": over_slides(~named, slides) | {"reasons": answers.refusals()},
        "review": over_slides(answers.statuses == "review", slides),
        "accuracy": over_slides(right[named], slides[named]),
        "accuracy_of_ok": over_slides(right[ok], slides[ok]),
        "accuracy_with_refused": over_slides(right, slides),
        "by_class": {
            name: over_slides(right[named & (labels == c)], slides[named & (labels == c)])
            for c, name in enumerate(CLASS_NAMES)
        },
        "malignant_called_benign": over_slides(
            answers.predicted[malignant] == BENIGN, slides[malignant]
        ),
        "confusion": confusion_matrix(
            labels[named], answers.predicted[named], len(CLASS_NAMES)
        ).tolist(),
        "calibration": calibration(answers.probabilities[named], labels[named], slides[named]),
    }


def over_slides(values: np.ndarray, slides: np.ndarray) -> dict:
    """A proportion with its interval over slides, and how many they are.

    One slide says nothing of others: its interval is [0, 1].
    """
    count = len(set(slides))
    if count < 2:
        record = proportion(int(np.sum(values)), len(values)) | {"interval_95": [0.0, 1.0]}
    else:
        record = grouped_proportion(np.asarray(values, bool), slides)
    return record | {"slides": count}


def calibration(probabilities: np.ndarray, labels: np.ndarray, slides: np.ndarray) -> dict:
    """How far confidence and accuracy agree."""
    if not len(labels):
        return {"error": None, "interval_95": [0.0, 1.0], "brier": None, "bins": []}

    def error(rows: np.ndarray) -> float:
        return expected_calibration_error(probabilities[rows], labels[rows])

    return {
        "error": round(error(np.arange(len(labels))), DIGITS),
        "interval_95": [round(bound, DIGITS) for bound in resampled(error, slides)],
        "brier": round(brier_score(probabilities, labels), DIGITS),
        "bins": [
            {"confidence": round(b.confidence, DIGITS), "accuracy": b.accuracy, "n": b.n}
            for b in reliability(probabilities, labels, BINS)
        ],
    }


def resampled(
    statistic: Callable[[np.ndarray], float], slides: np.ndarray, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap over slides of any statistic, 95 %.

    Args:
        statistic: Of fields given by their positions, int (n,).
        slides: Of each field, (N,).
        draws: Number of resamples.
        seed: Of the resampling.

    Returns:
        Lower and upper bound; (0, 1) for a single slide.
    """
    names, group = np.unique(slides, return_inverse=True)
    if len(names) < 2:
        return 0.0, 1.0
    members = [np.flatnonzero(group == g) for g in range(len(names))]
    random = np.random.default_rng(seed)
    drawn = random.integers(len(names), size=(draws, len(names)))
    values = [statistic(np.concatenate([members[g] for g in row])) for row in drawn]
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def appearance(looks: Sequence[Appearance], training: TrainingFields) -> dict[str, dict]:
    """How each measure is distributed here and in training.

    Returns:
        By measure: `training` and `here`, their 101 quantiles, `here` being None where no field
        shows it; and `outside`, the proportion of fields here that lie beyond the range of 98 %
        of the training fields.
    """
    result = {}
    for measure, known in training.quantiles.items():
        values = np.array([look.measures[measure] for look in looks])
        values = values[np.isfinite(values)]
        outside = (values < known[1]) | (values > known[-2])
        result[measure] = {
            "training": [round(float(q), 4) for q in known],
            "here": [round(float(q), 4) for q in quantiles_of(looks, measure)]
            if len(values)
            else None,
            "outside": float(outside.mean()) if len(values) else None,
        }
    return result


def judge_criteria(figures: Mapping[str, Any]) -> list[dict]:
    """Each requirement with what was found: "met", "not met", or "open" in between.

    Met is what the whole interval meets, not met what none of it does.
    """
    found = []
    for entry, title, limit, at_least in CRITERIA:
        record = figures["calibration"] if entry == "calibration_error" else figures[entry]
        value = record["error"] if entry == "calibration_error" else record["proportion"]
        low, high = record["interval_95"]
        if value is None or record.get("n") == 0:
            verdict = "open"
        elif at_least:
            verdict = "met" if low >= limit else "not met" if high < limit else "open"
        else:
            verdict = "met" if high <= limit else "not met" if low > limit else "open"
        found.append(
            {
                "name": entry,
                "title": title,
                "required": limit,
                "at_least": at_least,
                "value": value,
                "interval_95": [low, high],
                "verdict": verdict,
            }
        )
    return found


def conclusion(criteria: Sequence[Mapping], fields: SeenFields) -> dict[str, Any]:
    """What follows: "holds", "does not hold", or "cannot be said", and why in sentences."""
    slides = len(set(fields.slides))
    few = [n for n, c in fields.counts().items() if c["slides"] < FEWEST_OF_A_CLASS]
    enough = slides >= FEWEST_SLIDES and not few
    failed = [c for c in criteria if c["verdict"] == "not met"]
    unclear = [c for c in criteria if c["verdict"] == "open"]
    if failed:
        verdict = "does not hold"
    elif enough and not unclear:
        verdict = "holds"
    else:
        verdict = "cannot be said"
    said = [f"Not met: {_words(c)}." for c in failed]
    said += [f"Open, as the interval holds both sides: {_words(c)}." for c in unclear]
    if not enough:
        lacking = (
            f"{slides} slides" if slides < FEWEST_SLIDES else f"few slides of {', '.join(few)}"
        )
        said.append(
            f"With {lacking} no claim is made that it holds: at least {FEWEST_SLIDES} slides, "
            f"{FEWEST_OF_A_CLASS} of each class, are needed."
        )
    if verdict == "holds":
        said.append(
            "All requirements are met on these fields, so fields taken, stained and chosen in "
            "the same way may be expected to be answered as well."
        )
    return {"verdict": verdict, "because": said, "enough_slides": enough}


def _words(criterion: Mapping) -> str:
    low, high = criterion["interval_95"]
    limit = f"{'at least' if criterion['at_least'] else 'at most'} {percent(criterion['required'])}"
    value = criterion["value"]
    shown = "none to count" if value is None else f"{percent(value)} ({span(low, high)})"
    return f"{criterion['title']}, {shown}, required {limit}"


def percent(value: float) -> str:
    """A proportion, such as "97.3 %"."""
    return f"{100 * value:.1f} %"


def span(low: float, high: float) -> str:
    """An interval of a proportion, such as "95.1-98.9"."""
    return f"{100 * low:.1f}-{100 * high:.1f}"

"""How often a slide would be given its right class, on series of captures left out of training.

The rule is that of the page, `mseenet.case.slides.slide_answer`. A slide is a part of a
protocol here: a series of captures of one counter of the camera, or a range of captures of a
long one. A series is wrong if any part of it is given a wrong class.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from mseenet.case.slides import slide_answer
from mseenet.metrics import proportion, wilson_interval
from mseenet.training.series import RANGES

DRAWN = (5, 10, 20)
"""So many judged fields of a part are drawn at random."""

DRAWS = 200


def measure_slides(
    probabilities: np.ndarray, labels: np.ndarray, parts: np.ndarray, judged: np.ndarray
) -> dict[str, Any]:
    """Gives each part a class, and counts how many are right.

    Args:
        probabilities: Calibrated without the fields that they are of, (N, C).
        labels: int (N,).
        parts: Names of parts, (N,).
        judged: Whether the field has a class that counts, bool (N,).

    Returns:
        `parts` and `series`: records of `mseenet.metrics.proportion` with `right`, `wrong` and
        `without` an answer; `each`, the parts one by one; `drawn`, for each number of fields of
        `DRAWN` that some parts have: the proportions of draws that are right and wrong, as means
        over series, with Wilson's interval over series, each counted by its proportion, and the
        part with the lowest.
    """
    each: list[dict[str, Any]] = []
    drawn: dict[int, list[tuple[str, str, float, float]]] = {count: [] for count in DRAWN}
    for part in dict.fromkeys(parts.tolist()):
        # A part of the file order may hold fields of several classes, as a slide does not.
        for label in np.unique(labels[parts == part]):
            mine = (parts == part) & (labels == label)
            values = probabilities[mine & judged]
            answer = slide_answer(values)
            each.append(
                {
                    "part": str(part),
                    "series": series_of_part(str(part)),
                    "fields": int(mine.sum()),
                    "judged": len(values),
                    "outcome": _outcome(answer, label),
                }
            )
            for count in DRAWN:
                if len(values) >= count:
                    proportions = _drawn(values, int(label), count)
                    drawn[count].append((str(part), each[-1]["series"], *proportions))
    by_series: dict[str, set[str]] = {}
    for item in each:
        by_series.setdefault(item["series"], set()).add(item["outcome"])
    worst = [
        next(o for o in ("wrong", "without", "right") if o in outcomes)
        for outcomes in by_series.values()
    ]
    return {
        "parts": _record([item["outcome"] for item in each]),
        "series": _record(worst),
        "each": each,
        "drawn": [_drawn_record(count, rows) for count, rows in drawn.items() if rows],
    }


def series_of_part(part: str) -> str:
    """The series that a part is a range of, or the part itself."""
    for class_name, series in RANGES:
        if re.fullmatch(rf"{re.escape(class_name)} {re.escape(series)} \d+", part):
            return f"{class_name} {series}"
    return part


def _outcome(answer: int | None, label: int) -> str:
    if answer is None:
        return "without"
    return "right" if answer == label else "wrong"


def _record(outcomes: Sequence[str]) -> dict[str, Any]:
    counts = {name: outcomes.count(name) for name in ("right", "wrong", "without")}
    return counts | proportion(counts["right"], len(outcomes))


def _drawn(values: np.ndarray, label: int, count: int) -> tuple[float, float]:
    """Proportions of right and of wrong answers from so many of the fields."""
    rng = np.random.default_rng(0)
    answers = [
        slide_answer(values[rng.choice(len(values), count, replace=False)]) for _ in range(DRAWS)
    ]
    right = sum(answer == label for answer in answers)
    without = answers.count(None)
    return right / DRAWS, (DRAWS - right - without) / DRAWS


def _drawn_record(count: int, rows: Sequence[tuple[str, str, float, float]]) -> dict[str, Any]:
    series = dict.fromkeys(row[1] for row in rows)
    proportions = np.array(
        [np.mean([row[2:] for row in rows if row[1] == name], axis=0) for name in series]
    )
    lowest = min(rows, key=lambda row: row[2])
    return {
        "fields": count,
        "parts": len(rows),
        "series": len(series),
        "right": float(proportions[:, 0].mean()),
        "interval_95": list(wilson_interval(float(proportions[:, 0].sum()), len(series))),
        "wrong": float(proportions[:, 1].mean()),
        "lowest": {"part": lowest[0], "right": lowest[2]},
    }

"""Thresholds of image quality for a laboratory whose lamp, camera or focus the shipped ones flag.

The shipped thresholds were chosen so that no training field is flagged. A laboratory's are fitted by
the same rule to its own fields, as the network sees them: each is lowered so far that no field is
flagged that the network calls right and the gate lets pass; but the one slide that asks for most
is not followed, as a slide out of focus is to be taken anew. None is lowered below
`profile.LOOSEST`, whatever the fields, and none is raised: the least of a few dozen fields is no
bound for those to come.

They are used only if they are of use on slides left out, and the fields that lose their remark there
are right as often as the report requires of all fields.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from mseenet.imaging.quality import NO_PICTURE, SHIPPED, SMALLEST_SIDE, Measures, Thresholds
from mseenet.inference.profile import LOOSEST
from mseenet.laboratory.answers import QUALITY, Answers
from mseenet.laboratory.figures import CRITERIA, percent

FEWEST_FIELDS, FEWEST_SLIDES = 20, 3
"""Fields and slides from which thresholds are fitted, also with some slides left out."""

DIGITS = 4
"""Of a threshold, rounded down."""

REQUIRED = next(limit for name, _, limit, _ in CRITERIA if name == "accuracy")
"""Of the fields left out that lose their remark, the proportion that has to be right."""


def loosened(
    measures: Sequence[Measures], slides: np.ndarray, good: np.ndarray, sides: np.ndarray
) -> Thresholds:
    """The thresholds that no good field falls below, but for one slide's.

    Args:
        measures: Of N fields as the network sees them.
        slides: Of each field, (N,).
        good: Which fields are to pass, bool (N,).
        sides: Shorter side of each field as decoded, in pixels, int (N,).
    """
    values = np.array(measures, np.float64).reshape(len(good), len(Measures._fields))
    seen = good & (values[:, Measures._fields.index("contrast")] >= NO_PICTURE)
    found = {}
    for column, name in zip(values.T, Measures._fields, strict=True):
        # An enlarged file is flagged for its resolution instead.
        used = seen & (sides >= SMALLEST_SIDE) if name == "sharpness" else seen
        least = sorted(column[used & (slides == slide)].min() for slide in set(slides[used]))
        shipped, loosest = getattr(SHIPPED, name), getattr(LOOSEST, name)
        needed = shipped if len(least) < 2 else np.floor(least[1] * 10**DIGITS) / 10**DIGITS
        found[name] = float(np.clip(needed, loosest, shipped))
    return Thresholds(**found)


def too_few(slides: np.ndarray, folds: Sequence[np.ndarray]) -> str | None:
    """Why no thresholds are fitted; None if there are fields enough whichever fold is left out.

    Args:
        slides: Of each field, (N,).
        folds: Positions of the fields that are left out together.
    """
    rest = [np.delete(slides, tested) for tested in folds]
    fields, of = min(len(one) for one in rest), min(len(set(one)) for one in rest)
    if fields >= FEWEST_FIELDS and of >= FEWEST_SLIDES:
        return None
    return (
        f"The shipped thresholds stay: with some slides left out {fields} fields of {of} slides are "
        f"there to fit others, and at least {FEWEST_FIELDS} of {FEWEST_SLIDES} are needed."
    )


def useless(labels: np.ndarray, shipped: Answers, own: Answers) -> str | None:
    """Why a laboratory's thresholds are not used; None if they are.

    Args:
        labels: Of the fields, int (N,).
        shipped: Answers with the shipped thresholds, else with profiles that the field's slide had
            no part in.
        own: The same with the thresholds of these profiles.
    """
    freed = (shipped.statuses == "review") & (own.statuses == "ok")
    if not freed.any():
        return "The shipped thresholds stay: with others no field of a slide left out loses its remark."
    right = own.predicted[freed] == labels[freed]
    if right.mean() < REQUIRED:
        return (
            f"The shipped thresholds stay: of {len(right)} fields of slides left out that lose their "
            f"remark with others, {percent(right.mean())} are right, required at least "
            f"{percent(REQUIRED)}."
        )
    return None


def quality_record(
    fitted: Thresholds, reason: str | None, answers: Sequence[Answers]
) -> dict[str, Any]:
    """What the report says of the thresholds.

    Args:
        fitted: The profile's.
        reason: Why these are the shipped ones; None if they are others.
        answers: To N fields: without a profile; with profiles that the field's slide had no part in and
            the shipped thresholds; with the thresholds of these profiles.
    """
    own = asdict(fitted)
    flags = [{name: said.flagged(QUALITY[name]) for name in own} for said in answers]
    changed = [name for name, value in own.items() if value != getattr(SHIPPED, name)]
    return {
        "fitted": reason is None,
        "because": reason
        or f"Lowered, and of use on slides left out: {', '.join(map(QUALITY.__getitem__, changed))}.",
        "n": len(answers[0].statuses),
        "flagged": [int(np.any(list(of.values()), axis=0).sum()) for of in flags],
        "checks": {
            name: {
                "flags": QUALITY[name],
                "shipped": getattr(SHIPPED, name),
                "here": value,
                "loosest": getattr(LOOSEST, name),
                "flagged": [int(of[name].sum()) for of in flags],
            }
            for name, value in own.items()
        },
    }


def quality_rows(record: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Each check of a `quality_record`, and all together, under `QUALITY_HEAD`."""
    n = record["n"]
    rows: list[tuple[str, ...]] = [
        (
            check["flags"],
            *(f"{count:,} of {n:,}" for count in check["flagged"]),
            *(f"{check[which]:.4g}" for which in ("shipped", "here", "loosest")),
        )
        for check in record["checks"].values()
    ]
    return [*rows, ("any of these", *(f"{c:,} of {n:,}" for c in record["flagged"]), "", "", "")]


QUALITY_HEAD = (
    "flagged as",
    "without a profile",
    "with one, shipped thresholds",
    "with one",
    "threshold shipped",
    "threshold here",
    "never below",
)
"""Columns of the thresholds of image quality."""

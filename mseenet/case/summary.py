"""What the fields of one case amount to: counts and means, of all of them and of each slide."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mseenet.case.answers import NAMED, counted_answer
from mseenet.case.slides import FEWEST_FIELDS, in_order, slide_answer
from mseenet.config import CLASS_NAMES
from mseenet.inference.classifier import Prediction

STATUSES = (*NAMED, "rejected", "error")

NO_SLIDE = "no slide"
"""What fields of an unknown slide are listed under."""


@dataclass(frozen=True)
class SlideSummary:
    """The fields of a case that are of one slide.

    Attributes:
        slide: Its name; None for the fields of which that is not known.
        fields: How many there are.
        named: How many of them have a class that counts.
        by_class: Of these, how many for each of `CLASS_NAMES`.
        probabilities: Mean calibrated probability of each of `CLASS_NAMES` over the named
            fields; empty if there is none.
        answer: The class of the slide (`slides.slide_answer`), if it is given one.
        why: Why it is not; empty if it is.
    """

    slide: str | None
    fields: int
    named: int
    by_class: Mapping[str, int]
    probabilities: Mapping[str, float]
    answer: str | None
    why: str

    @property
    def title(self) -> str:
        """Its name, or what fields of no known slide are called."""
        return NO_SLIDE if self.slide is None else self.slide


@dataclass(frozen=True)
class CaseSummary:
    """All fields of a case together.

    Attributes:
        fields: How many there are.
        named: How many of them have a class that counts: status "ok" or "review".
        by_class: Of these, how many for each of `CLASS_NAMES`.
        by_status: How many fields for each of `STATUSES`.
        probabilities: Mean calibrated probability of each of `CLASS_NAMES` over the named
            fields; empty if there is none.
        malignant: The same for all classes but Benign together: 1 minus the mean of Benign.
        slides: The same by slide, in the order of their names, fields of no known slide last.
    """

    fields: int
    named: int
    by_class: Mapping[str, int]
    by_status: Mapping[str, int]
    probabilities: Mapping[str, float]
    malignant: float | None
    slides: Sequence[SlideSummary]

    @property
    def answers(self) -> Mapping[str, Sequence[str]]:
        """Names of the slides by the class that they are given."""
        by_class: dict[str, list[str]] = {}
        for item in self.slides:
            if item.answer is not None:
                by_class.setdefault(item.answer, []).append(item.title)
        return by_class


def summarize_case(
    predictions: Iterable[Prediction],
    slides: Iterable[str | None] | None = None,
    answered: bool = False,
) -> CaseSummary:
    """Counts and averages the predictions of one case.

    No interval is given: fields of one slide are not independent, they share patient, stain and
    camera, and how far they scatter says nothing about another slide.

    Args:
        predictions: Of all fields, whatever their status; probabilities of rejected
            fields, if given, do not count.
        slides: Of which slide each of them is; None if that is known of none.
        answered: Whether slides may be given a class, as it was measured how often that is right.

    Returns:
        The summary, of an empty case too.
    """
    predictions = list(predictions)
    of = [None] * len(predictions) if slides is None else list(slides)
    by_slide: dict[str | None, list[Prediction]] = {}
    for prediction, slide in zip(predictions, of, strict=True):
        by_slide.setdefault(slide, []).append(prediction)
    statuses = Counter(str(p.status) for p in predictions)
    values, classes, means = _counted(predictions)
    return CaseSummary(
        fields=len(predictions),
        named=len(values),
        by_class=classes,
        by_status={status: statuses[status] for status in STATUSES},
        probabilities=means,
        malignant=1 - means["Benign"] if means else None,
        slides=tuple(
            _slide(name, by_slide[name], answered) for name in sorted(by_slide, key=in_order)
        ),
    )


def answer_text(summary: CaseSummary) -> str:
    """The slides' classes side by side; empty if none is given one.

    Where they differ, the case as a whole is given none.
    """
    answers = summary.answers
    if not answers:
        return ""
    count = sum(map(len, answers.values()))
    if len(answers) > 1:
        listed = "; ".join(f"{name}: {', '.join(slides)}" for name, slides in answers.items())
        return f"The slides disagree, so that the case is given no class. {listed}."
    ((name, (first, *_)),) = answers.items()
    without = sum(item.answer is None for item in summary.slides)
    rest = f" {without} without a class." if without else ""
    slides = f"Slide {first}" if count == 1 else f"All {count} slides that are given a class"
    return f"{slides}: {name}.{rest}"


def _slide(name: str | None, predictions: Sequence[Prediction], answered: bool) -> SlideSummary:
    values, classes, means = _counted(predictions)
    answer = slide_answer(values) if answered and name is not None else None
    if answer is not None:
        why = ""
    elif name is None:
        why = "it is not known which of these fields are of one slide"
    elif not answered:
        why = "how often a slide's class is right was not measured for this network"
    elif len(values) < FEWEST_FIELDS:
        why = f"fewer than {FEWEST_FIELDS} fields with a class"
    else:
        why = "no class has more than half of the mean probability"
    return SlideSummary(
        slide=name,
        fields=len(predictions),
        named=len(values),
        by_class=classes,
        probabilities=means,
        answer=None if answer is None else CLASS_NAMES[answer],
        why=why,
    )


def _counted(
    predictions: Iterable[Prediction],
) -> tuple[np.ndarray, dict[str, int], dict[str, float]]:
    """Probabilities (N, C) of the named fields, their number by class, and the means."""
    named = [answer for p in predictions if (answer := counted_answer(p)) is not None]
    counts = Counter(answer.class_name for answer in named)
    values = np.array([[a.probabilities[name] for name in CLASS_NAMES] for a in named])
    values = values.reshape(len(named), len(CLASS_NAMES))
    # Sorted, so that the order of the fields does not move the last digit.
    means = np.sort(values, axis=0).mean(axis=0).tolist() if named else []
    return (
        values,
        {name: counts[name] for name in CLASS_NAMES},
        dict(zip(CLASS_NAMES, means, strict=False)),
    )

"""Asks the network about a laboratory's fields and makes the report."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from mseenet.errors import UsageError
from mseenet.imaging.decoding import ImageSource
from mseenet.inference.card import Card
from mseenet.inference.classifier import Classifier, Prediction
from mseenet.inference.profile import SiteProfile
from mseenet.laboratory.adapt import without_adapted
from mseenet.laboratory.answers import Answers, answers_of
from mseenet.laboratory.color import TrainingFields
from mseenet.laboratory.fields import (
    LabelledField,
    Reader,
    SeenField,
    SeenFields,
    counted,
    together,
)
from mseenet.laboratory.figures import verification


def verify(
    classifier: Classifier,
    fields: SeenFields,
    training: TrainingFields,
    made: datetime,
    foreign: Mapping[str, Sequence[Path]] | None = None,
) -> dict[str, Any]:
    """The report on one laboratory's fields; see `figures.verification`.

    Of slides that a profile was made from nothing is said: they are left out.

    Args:
        classifier: As it would be used there, with a profile or without.
        fields: The laboratory's.
        training: What the training fields look like.
        made: When.
        foreign: Images that are to be refused, by kind.

    Raises:
        UsageError: No image of a kind can be read, or the profile was made from every slide.
    """
    fields = left(fields, tested(fields, classifier.card.profile))
    others = {
        kind: _answers_to_foreign(classifier, files) for kind, files in (foreign or {}).items()
    }
    said = _predictions(classifier, fields.sources)
    return _report(classifier.card, fields, said, training, made, others)


class Check:
    """A verification that is made field by field, and goes on wherever it was interrupted.

    One thread may read the fields while another hands answers over. No pixels are kept.

    Args:
        fields: Not read yet.
        problems: A sentence for each file that is not among them.
    """

    def __init__(self, fields: Sequence[LabelledField], problems: Sequence[str] = ()) -> None:
        self.fields = tuple(fields)
        self._reader = Reader(problems)
        self._seen: list[SeenField | None] = []
        self._said: dict[int, Prediction] = {}

    @property
    def problems(self) -> tuple[str, ...]:
        """A sentence for each file that is left out, as far as is known."""
        return tuple(self._reader.problems)

    @property
    def done(self) -> int:
        """How many fields are read and answered."""
        return min(len(self._seen), len(self._said))

    @property
    def ahead(self) -> int:
        """How many more fields are read than answered."""
        return len(self._seen) - len(self._said)

    @property
    def complete(self) -> bool:
        """Whether all are."""
        return self.done == len(self.fields)

    def counts(self) -> dict[str, dict[str, int]]:
        """Fields and slides by class."""
        return counted((field.label, field.slide) for field in self.fields)

    def read_next(self) -> bool:
        """Reads one more field; says whether there was one."""
        if len(self._seen) == len(self.fields):
            return False
        self._seen.append(self._reader.seen(self.fields[len(self._seen)]))
        return True

    def unanswered(self) -> list[tuple[int, ImageSource]]:
        """Position and content of the fields without an answer."""
        return [(i, f.source) for i, f in enumerate(self.fields) if i not in self._said]

    def settle(self, position: int, prediction: Prediction) -> None:
        """Notes an answer, with the probabilities of a rejected field, for `report`."""
        self._said[position] = replace(prediction, heatmap=None, nuclei=None)

    def seen(self) -> SeenFields:
        """The fields that could be read, once all are read.

        Raises:
            UsageError: There is none.
        """
        return together([one for one in self._seen if one is not None], self.problems)

    def report(self, card: Card, training: TrainingFields, made: datetime) -> dict[str, Any]:
        """What `verify` says of the same fields, once all are read and answered.

        Raises:
            UsageError: None can be read, or the profile was made from every slide.
        """
        found = [(one, self._said[i]) for i, one in enumerate(self._seen) if one is not None]
        fields = together([one for one, _ in found], self.problems)
        kept = tested(fields, card.profile)
        said = [prediction for (_, prediction), k in zip(found, kept, strict=True) if k]
        return _report(card, left(fields, kept), said, training, made, {})


def tested(fields: SeenFields, profile: SiteProfile | None) -> np.ndarray:
    """Which fields a profile may be tested on, bool (N,): those of slides without a part in it.

    Raises:
        UsageError: There are none.
    """
    if profile is None:
        return np.ones(len(fields.labels), bool)
    kept = without_adapted(fields, profile)
    if not kept.any():
        raise UsageError(
            f"profile {profile.name} was made from each of these slides; expected others, as "
            "on these it proves nothing"
        )
    return kept


def left(fields: SeenFields, kept: np.ndarray) -> SeenFields:
    """The fields without those of slides that a profile was made from, which is said."""
    if kept.all():
        return fields
    said = f"{int((~kept).sum())} fields are of slides that the profile was made from; left out"
    return replace(fields.chosen(kept), problems=(*fields.problems, said))


def _predictions(classifier: Classifier, images: Sequence[ImageSource]) -> list[Prediction]:
    # Filled, as for the page, so that both say the same.
    return classifier.predict(images, include_rejected=True, filled=True)


def _answers_to_foreign(classifier: Classifier, files: Sequence[Path]) -> Answers:
    """Answers to images of one kind; those that cannot be read cannot pass either."""
    said = [p for p in _predictions(classifier, files) if p.status != "error"]
    if not said:
        raise UsageError(f"{files[0].parent}: expected images that can be read, found none")
    return answers_of(said)


def _report(
    card: Card,
    fields: SeenFields,
    said: Sequence[Prediction],
    training: TrainingFields,
    made: datetime,
    foreign: Mapping[str, Answers],
) -> dict[str, Any]:
    """The report from what was said of each field; those without an answer are left out."""
    answered = np.array([prediction.status != "error" for prediction in said])
    problems = [
        f"{name}: {prediction.reasons[0]}"
        for name, prediction in zip(fields.names, said, strict=True)
        if prediction.status == "error"
    ]
    if not answered.any():
        raise UsageError(f"expected fields that the network answers, found none ({problems[0]})")
    fields = replace(fields.chosen(answered), problems=(*fields.problems, *problems))
    answers = answers_of([prediction for prediction in said if prediction.status != "error"])
    return verification(card, fields, answers, training, made, foreign)

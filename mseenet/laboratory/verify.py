"""Asks the network about a laboratory's fields and makes the report."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from mseenet.errors import UsageError
from mseenet.imaging.appearance import appearance_of
from mseenet.inference.classifier import Classifier
from mseenet.laboratory.adapt import without_adapted
from mseenet.laboratory.answers import answer, look_at
from mseenet.laboratory.colour import TrainingFields
from mseenet.laboratory.fields import LaboratoryFields
from mseenet.laboratory.figures import verification
from mseenet.laboratory.foreign import read_foreign


def verify(
    classifier: Classifier,
    fields: LaboratoryFields,
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
    card, profile = classifier.card, classifier.card.profile
    if profile is not None:
        kept = without_adapted(fields, profile)
        if not kept.any():
            raise UsageError(
                f"profile {profile.name} was made from each of these slides; expected others, as "
                "on these it proves nothing"
            )
        fields = left(fields, kept)

    def answers_to(images, sizes):
        if profile is not None:
            images = np.stack([profile.normalisation.apply(rgb) for rgb in images])
        return answer(card, classifier.observe(images), look_at(images, sizes))

    others = {kind: read_foreign(files) for kind, files in (foreign or {}).items()}
    return verification(
        card,
        fields,
        answers_to(fields.images, fields.sizes),
        [appearance_of(rgb) for rgb in fields.images],
        training,
        made,
        {kind: answers_to(other.images, other.sizes) for kind, other in others.items()},
    )


def left(fields: LaboratoryFields, kept: np.ndarray) -> LaboratoryFields:
    """The fields without those of slides that a profile was made from, which is said."""
    if kept.all():
        return fields
    said = f"{int((~kept).sum())} fields are of slides that the profile was made from; left out"
    return replace(fields.chosen(kept), problems=(*fields.problems, said))

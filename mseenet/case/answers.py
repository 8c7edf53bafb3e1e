"""What the network says of a field, for whom it says anything at all."""

from collections.abc import Mapping
from typing import NamedTuple

from mseenet.inference.classifier import Prediction

NAMED = ("ok", "review")
"""Status of the predictions whose class counts."""


class Answer(NamedTuple):
    """The network's output for one field.

    Attributes:
        class_name: The most probable of `CLASS_NAMES`.
        probabilities: Calibrated, each in [0, 1], by class name.
        confidence: The largest of them.
    """

    class_name: str
    probabilities: Mapping[str, float]
    confidence: float


def answer_of(prediction: Prediction) -> Answer | None:
    """The network's output; None if there is none, or if it is withheld for a rejected field."""
    name, probabilities = prediction.class_name, prediction.probabilities
    if name is None or probabilities is None or prediction.confidence is None:
        return None
    return Answer(name, probabilities, prediction.confidence)


def counted_answer(prediction: Prediction) -> Answer | None:
    """The answer that counts: None for a rejected field too, whatever was asked for."""
    return answer_of(prediction) if prediction.status in NAMED else None

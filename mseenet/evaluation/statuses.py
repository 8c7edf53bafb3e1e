"""Which status the product would give to fields of which only the answers are kept."""

from dataclasses import dataclass

import numpy as np

from mseenet.inference.card import NoveltyGate
from mseenet.inference.cellularity import FEWEST, refuses


@dataclass(frozen=True, eq=False)
class Seen:
    """What is found in images without a trained network.

    Attributes:
        findings: Of the quality: 0 none, 1 for review, 2 for refusal, int (N,).
        cells: Pieces that are probably nucleated cells, int (N,).
        clear: Pieces that clearly are, int (N,).
    """

    findings: np.ndarray
    cells: np.ndarray
    clear: np.ndarray


def statuses(
    confidence: np.ndarray,
    threshold: np.ndarray,
    novelty: np.ndarray,
    gate: NoveltyGate,
    seen: Seen | None,
) -> np.ndarray:
    """The status of each field, by the rules of `mseenet.inference.classifier`.

    But for the size of the cells: it was not kept with the answers. Of test fields as they are it
    sends some 1 in 100 more to review.

    Args:
        confidence: Calibrated probability of the class that is named, (N,) in [0, 1].
        threshold: Below which it goes to review, (N,).
        novelty: Distance from the training fields of the network that answered, (N,).
        gate: Of the weights.
        seen: What image quality and nucleated cells say; None if that is not known, which
            leaves confidence and novelty.

    Returns:
        "ok", "review" or "rejected", str (N,).
    """
    rejected = novelty >= gate.reject
    review = (novelty >= gate.review) | (confidence < threshold)
    if seen is not None:
        rejected |= (seen.findings == 2) | refuses(seen.cells, seen.clear, confidence)
        review |= (seen.findings == 1) | (seen.cells < FEWEST)
    return np.select([rejected, review], ["rejected", "review"], "ok")

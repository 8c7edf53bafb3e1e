"""What the fields of one case amount to: counts, and mean probabilities with intervals."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from mseenet.case.answers import NAMED, counted_answer
from mseenet.config import CLASS_NAMES
from mseenet.inference.classifier import Prediction

STATUSES = (*NAMED, "rejected", "error")


@dataclass(frozen=True)
class Mean:
    """A mean over the named fields, in [0, 1].

    Attributes:
        value: The mean.
        interval: Its 95 % interval (low, high), or None for fewer than two fields.
    """

    value: float
    interval: tuple[float, float] | None


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
    """

    fields: int
    named: int
    by_class: Mapping[str, int]
    by_status: Mapping[str, int]
    probabilities: Mapping[str, Mean]
    malignant: Mean | None


def summarize_case(
    predictions: Iterable[Prediction], draws: int = 2000, seed: int = 0
) -> CaseSummary:
    """Counts and averages the predictions of one case.

    The intervals are percentile bootstraps over fields. Fields of one slide are not
    independent: they share patient, stain and camera. The interval says how much the
    mean would vary with other fields of the same slides, and even that too narrowly for
    a handful of fields; it says nothing about another slide or about the patient.

    Args:
        predictions: Of all fields, whatever their status; probabilities of rejected
            fields, if given, do not count.
        draws: Number of resamples.
        seed: Of the resampling; the same predictions have the same intervals.

    Returns:
        The summary, of an empty case too.
    """
    predictions = list(predictions)
    named = [answer for p in predictions if (answer := counted_answer(p)) is not None]
    classes = Counter(answer.class_name for answer in named)
    statuses = Counter(str(p.status) for p in predictions)
    means: dict[str, Mean] = {}
    malignant = None
    if named:
        values = np.array(
            [[answer.probabilities[name] for name in CLASS_NAMES] for answer in named]
        )
        # (N, C + 1): the classes, then all but Benign.
        values = np.column_stack([values, 1 - values[:, CLASS_NAMES.index("Benign")]])
        *per_class, malignant = _means(values, draws, seed)
        means = dict(zip(CLASS_NAMES, per_class, strict=True))
    return CaseSummary(
        fields=len(predictions),
        named=len(named),
        by_class={name: classes[name] for name in CLASS_NAMES},
        by_status={status: statuses[status] for status in STATUSES},
        probabilities=means,
        malignant=malignant,
    )


def _means(values: np.ndarray, draws: int, seed: int) -> list[Mean]:
    """Mean and interval of each column of float (N, K)."""
    n = len(values)
    # In an order of their own, so that the order of the fields does not move the interval.
    values = values[np.lexsort(values.T)]
    means = values.mean(axis=0)
    if n < 2:
        return [Mean(float(mean), None) for mean in means]
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws)
    low, high = np.quantile(counts @ values / n, (0.025, 0.975), axis=0)
    return [
        Mean(float(mean), (float(lo), float(hi)))
        for mean, lo, hi in zip(means, low, high, strict=True)
    ]

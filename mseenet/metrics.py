"""The paper's measures (eqs. 1-5), calibration and intervals; NumPy only.

Labels are int arrays (N,) with values in [0, C); probabilities are float arrays (N, C)
whose rows sum to 1; all results are fractions, not percent.
"""

import math
from dataclasses import dataclass

import numpy as np

SUMMARY_NAMES = ("accuracy", "precision", "sensitivity", "f1", "mcc")
"""The measures of the paper's Table I, in its order."""


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts of (true label, predicted label), int64 (C, C); rows are the true labels."""
    matrix = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(matrix, (labels, predicted), 1)
    return matrix


@dataclass(frozen=True)
class ClassMetrics:
    """Eqs. 1-5 for each class against the others; every array is float64 (..., C).

    A ratio whose denominator is zero (a class that was never predicted, say) is 0.
    """

    accuracy: np.ndarray
    precision: np.ndarray
    sensitivity: np.ndarray
    f1: np.ndarray
    mcc: np.ndarray


def class_metrics(confusion: np.ndarray) -> ClassMetrics:
    """Computes eqs. 1-5 of the paper for each class against the rest.

    Eq. 4 of the paper as printed, 2 (P + S) / (P + S), is always 2. What its text
    describes, and what is computed here, is the harmonic mean 2 P S / (P + S).

    Args:
        confusion: Counts, int (..., C, C), rows are the true labels.

    Returns:
        The measures per class.
    """
    tp = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
    fn = confusion.sum(axis=-1) - tp
    fp = confusion.sum(axis=-2) - tp
    tn = confusion.sum(axis=(-2, -1))[..., None] - tp - fn - fp
    precision = _ratio(tp, tp + fp)
    sensitivity = _ratio(tp, tp + fn)
    return ClassMetrics(
        accuracy=_ratio(tp + tn, tp + tn + fp + fn),
        precision=precision,
        sensitivity=sensitivity,
        f1=_ratio(2 * precision * sensitivity, precision + sensitivity),
        mcc=_ratio(tp * tn - fp * fn, np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))),
    )


def summary_measures(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Accuracy over all images and the macro-averages of eqs. 2-5 over the classes.

    Args:
        confusion: Counts, int (..., C, C), rows are the true labels.

    Returns:
        float64 (...) for each of `SUMMARY_NAMES`. `accuracy` is the proportion of images
        that were classified correctly, as the paper's Table I reports it.
    """
    per_class = class_metrics(confusion)
    correct = np.trace(confusion, axis1=-2, axis2=-1)
    return {
        "accuracy": _ratio(correct, confusion.sum(axis=(-2, -1))),
        "precision": per_class.precision.mean(axis=-1),
        "sensitivity": per_class.sensitivity.mean(axis=-1),
        "f1": per_class.f1.mean(axis=-1),
        "mcc": per_class.mcc.mean(axis=-1),
    }


def wilson_interval(successes: float, n: int) -> tuple[float, float]:
    """Wilson's score interval of a proportion, 95 %.

    Reference:
        E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209-212.

    Args:
        successes: In [0, n]; a fraction where a trial counts by a share.
        n: Number of trials; with none, the interval is [0, 1].

    Returns:
        Lower and upper bound, each in [0, 1].
    """
    if n == 0:
        return 0.0, 1.0
    z = 1.959963984540054  # 97.5th percentile of the normal distribution
    proportion = successes / n
    centre = (proportion + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(proportion * (1 - proportion) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def proportion(count: int, n: int) -> dict:
    """A proportion as the reports hold it: `proportion`, `n` and Wilson's `interval_95`.

    Args:
        count: In [0, n].
        n: Of nothing, the proportion is 0 and its interval [0, 1].
    """
    return {"proportion": count / max(n, 1), "n": n, "interval_95": list(wilson_interval(count, n))}


def grouped_interval(
    values: np.ndarray, groups: np.ndarray, draws: int = 5000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap of a mean, 95 %, where the values of one group belong together.

    Neighbours on a slide are no independent observations: whole groups are drawn. Few
    groups make it rough.

    Args:
        values: float (N,).
        groups: Which group each value is in, (N,), of any dtype that sorts.
        draws: Number of resamples.
        seed: Of the resampling.
    """
    _, group = np.unique(groups, return_inverse=True)
    sums = np.column_stack([np.bincount(group, weights=values), np.bincount(group)])
    total, size = _resample(sums, draws, seed).T
    low, high = np.quantile(total / size, (0.025, 0.975))
    return float(low), float(high)


def grouped_proportion(values: np.ndarray, groups: np.ndarray) -> dict:
    """A record as of `proportion`, but of values of which those of one group belong together.

    Args:
        values: What is counted, bool (N,).
        groups: As for `grouped_interval`, (N,). Where all or none are counted there is nothing
            to draw, and the interval is Wilson's over the values, which is too narrow.
    """
    record = proportion(int(np.sum(values)), len(values))
    if np.any(values) and not np.all(values):
        record["interval_95"] = list(grouped_interval(np.asarray(values, float), groups))
    return record


def grouped_intervals(
    labels: np.ndarray, predicted: np.ndarray, groups: np.ndarray, classes: int
) -> dict[str, tuple[float, float] | None]:
    """Percentile bootstrap over groups of each measure of `summary_measures`, 95 %.

    For measures that are no plain proportion.

    Args:
        labels: int (N,).
        predicted: int (N,).
        groups: As for `grouped_interval`, (N,); one for each image if they are independent.
        classes: Number of classes.

    Returns:
        Lower and upper bound for each of `SUMMARY_NAMES`; None if there is no error to
        resample, as the interval would have no width and claim certainty.
    """
    if np.array_equal(labels, predicted):
        return dict.fromkeys(SUMMARY_NAMES)
    names, group = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), classes, classes))
    np.add.at(counts, (group, labels, predicted), 1)
    drawn = _resample(counts.reshape(len(names), -1), 5000, 0)
    return {
        name: (float(np.quantile(v, 0.025)), float(np.quantile(v, 0.975)))
        for name, v in summary_measures(drawn.reshape(-1, classes, classes)).items()
    }


def _resample(sums: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Sums over as many groups as there are, drawn with replacement.

    Args:
        sums: Of each group, (G, K).
        draws: Number of resamples.
        seed: Of the resampling.

    Returns:
        (draws, K).
    """
    equal = np.full(len(sums), 1 / len(sums))
    return np.random.default_rng(seed).multinomial(len(sums), equal, size=draws) @ sums


def softmax(logits: np.ndarray, temperature: float | np.ndarray = 1.0) -> np.ndarray:
    """Probabilities of logits (N, C) divided by `temperature` > 0, one or (N, 1); float64 (N, C)."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def cross_entropy(
    logits: np.ndarray, labels: np.ndarray, temperature: float | np.ndarray = 1.0
) -> float:
    """Mean negative log-likelihood of the true labels, in nats."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    top = scaled.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(scaled - top).sum(axis=1)) + top[:, 0]
    return float(np.mean(log_sum - scaled[np.arange(len(labels)), labels]))


def selective_threshold(confidence: np.ndarray, correct: np.ndarray, accuracy: float) -> float:
    """The lowest confidence from which on answers reach an accuracy.

    Args:
        confidence: (N,), in [0, 1].
        correct: Whether each answer is right, bool (N,).
        accuracy: To be reached by all answers with at least the threshold's confidence.

    Returns:
        The threshold; 1 if even the most confident answers do not reach the accuracy.
    """
    descending = -np.sort(-confidence)
    # Answers of equal confidence are taken together or not at all.
    complete = np.append(np.diff(descending) < 0, True)
    enough = np.flatnonzero((risk_coverage(confidence, correct) >= accuracy) & complete)
    return float(descending[enough[-1]]) if len(enough) else 1.0


def risk_coverage(score: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """Accuracy of the best-scored answers, for every number of them.

    Args:
        score: (N,); higher means more trusted.
        correct: bool (N,).

    Returns:
        float64 (N,): entry k - 1 is the accuracy of the k answers with the highest score.
    """
    order = np.argsort(-score, kind="stable")
    return np.cumsum(correct[order]) / np.arange(1, len(order) + 1)


@dataclass(frozen=True)
class ConfidenceBin:
    """The answers whose confidence lies in one of several equally wide bins.

    Attributes:
        confidence: Their mean, in (0, 1].
        accuracy: The proportion of them that is right, in [0, 1].
        n: How many there are, at least 1.
    """

    confidence: float
    accuracy: float
    n: int


def confidence_bins(confidence: np.ndarray, bins: int = 15) -> np.ndarray:
    """In which of equally wide bins over (0, 1] each confidence lies, int (N,) in [0, bins)."""
    return np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)


def reliability(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = 15
) -> list[ConfidenceBin]:
    """Confidence against accuracy, by equally wide bins of confidence.

    Args:
        probabilities: (N, C).
        labels: (N,).
        bins: Number of bins over (0, 1]; each holds its upper edge.

    Returns:
        The bins with answers in them, in ascending order.
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    bin_of = confidence_bins(confidence, bins)
    return [
        ConfidenceBin(float(confidence[b].mean()), float(correct[b].mean()), int(b.sum()))
        for b in (bin_of == number for number in np.unique(bin_of))
    ]


def expected_calibration_error(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = 15
) -> float:
    """Mean distance of confidence and accuracy over the bins of `reliability`, in [0, 1].

    Each bin counts by its number of answers.

    Reference:
        M. P. Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning",
        AAAI 2015.
    """
    gaps = [b.n * abs(b.confidence - b.accuracy) for b in reliability(probabilities, labels, bins)]
    return sum(gaps) / len(labels)


def brier_score(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean squared distance of the probabilities from the true class, in [0, 2]."""
    truth = np.eye(probabilities.shape[1])[labels]
    return float(np.mean(np.sum((probabilities - truth) ** 2, axis=1)))


def measure(
    probabilities: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None
) -> dict:
    """All figures of one part of a split, ready for JSON.

    Args:
        probabilities: Calibrated, (N, C).
        labels: (N,).
        groups: Which images belong together, (N,), as for `grouped_interval`; None to take
            them for independent.

    Returns:
        `n`; each of `SUMMARY_NAMES`; `interval_95` of each, a bootstrap over groups (of the
        accuracy Wilson's without groups or errors, of the others None without errors);
        `by_class`, the sensitivity for each class as a record of `proportion`; `confusion`
        (rows are the true labels); `ece` and `brier`.
    """
    predicted, classes = probabilities.argmax(axis=1), probabilities.shape[1]
    confusion = confusion_matrix(labels, predicted, classes)
    right = predicted == labels

    def counted(chosen: np.ndarray) -> dict:
        if groups is None:
            return proportion(int(right[chosen].sum()), int(chosen.sum()))
        return grouped_proportion(right[chosen], groups[chosen])

    together = np.arange(len(labels)) if groups is None else groups
    intervals = grouped_intervals(labels, predicted, together, classes)
    intervals["accuracy"] = counted(np.full(len(labels), True))["interval_95"]
    return {
        "n": len(labels),
        **{name: float(value) for name, value in summary_measures(confusion).items()},
        "interval_95": {name: interval and list(interval) for name, interval in intervals.items()},
        "by_class": [counted(labels == c) for c in range(classes)],
        "confusion": confusion.tolist(),
        "ece": expected_calibration_error(probabilities, labels),
        "brier": brier_score(probabilities, labels),
    }


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    numerator, denominator = np.asarray(numerator, float), np.asarray(denominator, float)
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator != 0)

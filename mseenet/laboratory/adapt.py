"""A site profile from a laboratory's labelled fields, and whether it may be used.

Whatever is said of the adapted network comes from slides that had no part in the adaptation: the
slides are dealt to a few folds, and each fold is answered with a profile made from the others.
The profile that is written is made from all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
from scipy.optimize import minimize, minimize_scalar

from mseenet.config import CLASS_NAMES
from mseenet.imaging.quality import SHIPPED, Measures, measured
from mseenet.inference.calibration import BOUNDS, Calibration
from mseenet.inference.card import Card, NoveltyGate
from mseenet.inference.classifier import Observed
from mseenet.inference.novelty import Novelty
from mseenet.inference.profile import SiteProfile
from mseenet.laboratory import alignment, color
from mseenet.laboratory.alignment import Network, aligned, observe_all
from mseenet.laboratory.answers import Answers, answer, findings_of, joined, look_at
from mseenet.laboratory.color import TrainingFields, estimate
from mseenet.laboratory.fields import Images, LaboratoryFields, SeenFields
from mseenet.laboratory.figures import conclusion, figures_of, judge_criteria, verification
from mseenet.laboratory.foreign import ForeignImages
from mseenet.laboratory.thresholds import loosened, quality_record, too_few, useless
from mseenet.metrics import cross_entropy, selective_threshold, softmax

FOLDS = 5
"""At most so many parts of the slides are left out in turn."""

FEWEST_ADAPTED = 4
"""Slides below which nothing is adapted: too few to leave some out."""

FEWEST_REFITTED, FEWEST_REFITTED_OF_A_CLASS = 12, 3
"""Slides in all and of each class from which on the last layer may be fitted anew."""

PENALTY = 1.0
"""On the squared change of the last layer, with features of unit mean square, against the mean
cross-entropy."""

WORTH = 0.98
"""A last layer is changed only if it lowers the cross-entropy of slides left out to this."""

PRIOR = 5.0
"""How many fields it takes to move the temperature as far as they would without the weights'."""

WIDEST = 1.15
"""The gate's thresholds grow at most by this factor."""

PASSING = 0.97
"""Proportion of a laboratory's fields that are to pass the gate without a remark."""

HIGHEST_REVIEW = 0.97
"""The review threshold rises at most so far."""

PROMISED = 0.99
"""Accuracy that answers without a remark are to reach."""


UNASKED = (
    "The shipped thresholds stay: no fields of two slides that are called right ask for others."
)
"""Why a profile has no thresholds of image quality though there are fields enough."""


@dataclass(frozen=True, eq=False)
class Adaptation:
    """What came of an adaptation.

    Attributes:
        profile: Made from all fields; None where it may not be used.
        report: Of `figures.verification` without profile, with the entry `adaptation`.
    """

    profile: SiteProfile | None
    report: dict[str, Any]


def adapt(
    network: Network,
    fields: LaboratoryFields,
    training: TrainingFields,
    name: str,
    made: datetime,
    foreign: Mapping[str, ForeignImages] | None = None,
) -> Adaptation:
    """Makes a profile, tries it on slides left out, and says whether it may be used.

    `takes` tells how often images are taken for that, and nothing else takes long.

    Args:
        network: The weights without a profile.
        fields: The laboratory's.
        training: What the training fields look like.
        name: Of the profile.
        made: When.
        foreign: Images that are to be refused, by kind.

    Raises:
        UsageError: An answer of the network is no finite number.
    """
    others = foreign or {}
    card = network.card
    before = answers_with(network, None, fields.images, fields.sizes)
    foreign_before = {
        kind: answers_with(network, None, other.images, other.sizes)
        for kind, other in others.items()
    }
    report = verification(card, fields, before, training, made, foreign_before)
    if reason := unfit(card, fields):
        return Adaptation(None, report | {"adaptation": {"written": False, "because": [reason]}})

    few = too_few(fields.slides, folds_of(fields))
    shipped, after = crossfitted(network, fields, training, few is None)
    profile = fit(network, fields, training, name, few is None)
    kept = few or (UNASKED if profile.quality == SHIPPED else None)
    if kept is None:
        kept = useless(fields.labels, shipped, after)
    if kept is not None:
        profile, after = replace(profile, quality=SHIPPED), shipped
    image_quality = quality_record(profile.quality, kept, (before, shipped, after))
    foreign_after = {
        kind: answers_with(network, profile, other.images, other.sizes)
        for kind, other in others.items()
    }
    figures = figures_of(fields, after)
    criteria = judge_criteria(figures)
    follows = conclusion(criteria, fields)
    verdict = follows["verdict"]
    reasons = objections(fields.labels, before, after, foreign_before, foreign_after, verdict)
    record = {
        "written": not reasons,
        "because": reasons or ["Better on slides that had no part in it."],
        "folds": len(folds_of(fields)),
        "tested_on": "slides that had no part in the adaptation",
        **figures,
        "criteria": criteria,
        "verdict": verdict,
        "says": follows["because"],
        "foreign_refused": {
            kind: [int((~said[kind].named).sum()) for said in (foreign_before, foreign_after)]
            for kind in foreign_before
        },
        "image_quality": image_quality,
    }
    if reasons:
        return Adaptation(None, report | {"adaptation": record})
    content = {
        "made": made.isoformat(timespec="seconds"),
        "made_from": {
            "fields": fields.counts(),
            "pixels": list(fields.marks),
            "slides": sorted(set(fields.slides)),
        },
        "weights": card.sha256,
        "measured": {
            "tested_on": record["tested_on"],
            "before": {c["name"]: c["value"] for c in report["criteria"]},
            "after": {c["name"]: c["value"] for c in criteria},
            "foreign_refused": record["foreign_refused"],
            "image_quality": image_quality,
        },
    }
    return Adaptation(replace(profile, content=content), report | {"adaptation": record})


def without_adapted(fields: SeenFields, profile: SiteProfile) -> np.ndarray:
    """Which fields are of slides that had no part in a profile, bool (N,)."""
    used = profile.content.get("made_from", {}).get("pixels", [])
    part = np.isin(fields.marks, used)
    return ~np.isin(fields.slides, fields.slides[part])


def objections(
    labels: np.ndarray,
    before: Answers,
    after: Answers,
    foreign_before: Mapping[str, Answers],
    foreign_after: Mapping[str, Answers],
    verdict: str = "cannot be said",
) -> list[str]:
    """Why a profile may not be used, in sentences; none if it may.

    Args:
        labels: Of the fields, int (N,).
        before: Without a profile.
        after: With profiles that the field's slide had no part in.
        foreign_before: To images that are to be refused, by kind.
        foreign_after: The same with the profile.
        verdict: Of `figures.conclusion` with the profile.
    """
    right_before, right_after = (a.predicted == labels for a in (before, after))
    useful_before, useful_after = (
        int((a.named & r).sum()) for a, r in ((before, right_before), (after, right_after))
    )
    found = []
    if verdict == "does not hold":
        found.append("With it, too, the network does not hold there.")
    if useful_after <= useful_before:
        found.append(
            f"Not better: {useful_after} of {len(labels)} fields are named rightly with it, "
            f"{useful_before} without it."
        )
    for word, both in (
        ("named", before.named & after.named),
        ("without a remark", (before.statuses == "ok") & (after.statuses == "ok")),
    ):
        if (lost := int(right_before[both].sum() - right_after[both].sum())) > 0:
            found.append(
                f"Of the {int(both.sum())} fields that are {word} with and without it, {lost} fewer "
                "are right with it."
            )
    if after.named.any() and right_after[after.named].mean() < right_before.mean():
        found.append(
            f"Of the fields named with it {100 * right_after[after.named].mean():.1f} % are right; "
            f"without it the network has {100 * right_before.mean():.1f} % of all fields right."
        )
    for kind, said in foreign_before.items():
        passed = [int(a.named.sum()) for a in (said, foreign_after[kind])]
        if passed[1] > passed[0]:
            found.append(
                f"Foreign images pass more often: of {kind} {passed[1]} with it, {passed[0]} "
                "without it."
            )
    return found


def takes(card: Card, fields: SeenFields, foreign: int = 0) -> int:
    """How many images `adapt` takes in all, each as often as it takes it.

    Args:
        card: Of the weights.
        fields: The laboratory's.
        foreign: How many images are to be refused.
    """
    count = len(fields.labels)
    if unfit(card, fields):
        return count + foreign
    fits = [count, *(count - len(tested) for tested in folds_of(fields))]
    aligned = sum(map(alignment.takes, fits))
    return (color.TAKEN + 1) * sum(fits) + aligned + 2 * (count + foreign)


def folds_of(fields: SeenFields) -> list[np.ndarray]:
    """Fields of the slides that are left out together, positions int, each field once.

    Slides of a class go to different folds as far as there are folds.
    """
    slides = list(dict.fromkeys(fields.slides[np.argsort(fields.labels, kind="stable")]))
    count = min(FOLDS, len(slides))
    number = {slide: place % count for place, slide in enumerate(slides)}
    of_field = np.array([number[slide] for slide in fields.slides])
    return [np.flatnonzero(of_field == fold) for fold in range(count)]


def crossfitted(
    network: Network, fields: LaboratoryFields, training: TrainingFields, loosens: bool
) -> tuple[Answers, Answers]:
    """Answers to each field with a profile from slides of other folds.

    Args:
        network: The weights without a profile.
        fields: The laboratory's.
        training: What the training fields look like.
        loosens: Whether the profiles may have thresholds of image quality.

    Returns:
        With the shipped thresholds of image quality, and with those of the profiles.
    """
    folds = folds_of(fields)
    parts = []
    for tested in folds:
        rest = np.setdiff1d(np.arange(len(fields.labels)), tested)
        profile = fit(network, fields.chosen(rest), training, "fold", loosens)
        left_out = fields.chosen(tested)
        parts.append(answers_both_ways(network, profile, left_out.images, left_out.sizes))
    shipped, own = zip(*parts, strict=True)
    return joined(shipped, folds), joined(own, folds)


def fit(
    network: Network,
    fields: LaboratoryFields,
    training: TrainingFields,
    name: str,
    loosens: bool = True,
) -> SiteProfile:
    """A profile from labelled fields; nothing in it was tried on anything.

    Args:
        network: The weights without a profile.
        fields: Of two slides or more.
        training: What the training fields look like.
        name: Of the profile.
        loosens: Whether it may have thresholds of image quality.
    """
    card, labels = network.card, fields.labels
    assert card.novelty is not None  # see `unfit`
    change = aligned(network, estimate(fields.images, labels, training), fields)
    parts: list[Observed] = []
    measures: list[Measures] = []
    for _, pixels, part in observe_all(network, change, fields.images):
        parts.append(part)
        measures += map(measured, pixels)
    columns = [np.concatenate(column) for column in list(zip(*parts, strict=True))[:3]]
    observed = Observed(columns[0], columns[1], columns[2], None)
    slides = [fields.slides == slide for slide in dict.fromkeys(fields.slides)]
    kernel, bias = network.last_layer()

    own = card.novelty.reference
    distances, logits = np.zeros(len(labels)), np.zeros_like(observed.logits)
    refits = may_refit(fields)
    for out in slides:
        reference = extended(own, observed.frozen[~out], labels[~out])
        distances[out] = reference.distances(observed.frozen[out])
        if refits:
            tried = refitted(kernel, bias, observed.pooled[~out], labels[~out])
            logits[out] = observed.pooled[out] @ tried[0] + tried[1]
    kept = not refits or cross_entropy(logits, labels) > WORTH * cross_entropy(
        observed.logits, labels
    )
    layer = None if kept else refitted(kernel, bias, observed.pooled, labels)
    if kept:
        logits = observed.logits

    wider = float(np.clip(np.quantile(distances, PASSING) / card.novelty.review, 1, WIDEST))
    gate = NoveltyGate(
        extended(own, observed.frozen, labels),
        wider * card.novelty.review,
        wider * card.novelty.reject,
    )
    novelty = distances / gate.reject
    calibration = warmed(card.calibration, logits, novelty, labels)
    confident = softmax(logits, calibration.temperatures(novelty))
    needed = selective_threshold(
        confident.max(axis=1), confident.argmax(axis=1) == labels, PROMISED
    )
    quality = SHIPPED
    if loosens:
        good = (logits.argmax(axis=1) == labels) & (novelty < 1)
        quality = loosened(measures, fields.slides, good, fields.sizes.min(axis=1))
    return SiteProfile(
        name,
        card.release,
        change,
        calibration,
        gate,
        max(card.review_confidence, min(needed, HIGHEST_REVIEW)),
        layer,
        {},
        quality,
    )


def may_refit(fields: LaboratoryFields) -> bool:
    """Whether there are slides enough to fit the last layer anew."""
    counts = fields.counts().values()
    return len(set(fields.slides)) >= FEWEST_REFITTED and all(
        count["slides"] >= FEWEST_REFITTED_OF_A_CLASS for count in counts
    )


def extended(own: Novelty, frozen: np.ndarray, labels: np.ndarray) -> Novelty:
    """The reference with class means of a laboratory beside those of training.

    Each new mean lies between the class's own one and that of the fields, the nearer to the
    latter the more fields there are. Distances can only become smaller.

    Args:
        own: Of the weights.
        frozen: Pooled frozen features, float32 (N, D).
        labels: int (N,).
    """
    whitened = frozen @ own.whitening
    means = [own.means]
    for label in np.unique(labels):
        mine = whitened[labels == label]
        weight = len(mine) / (len(mine) + PRIOR)
        means.append((weight * mine.mean(axis=0) + (1 - weight) * own.means[label])[None])
    return Novelty(np.concatenate(means).astype(np.float32), own.whitening)


def warmed(
    own: Calibration, logits: np.ndarray, novelty: np.ndarray, labels: np.ndarray
) -> Calibration:
    """The calibration with another value, held near the weights' by a prior."""
    (lowest, highest), _ = BOUNDS

    def loss(logarithm: float) -> float:
        tried = Calibration(own.value * np.exp(logarithm), own.slope)
        fields = len(labels) * cross_entropy(logits, labels, tried.temperatures(novelty))
        return fields + PRIOR * logarithm**2

    found = minimize_scalar(loss, bounds=(-1.0, 2.0), method="bounded")
    value = float(np.clip(own.value * np.exp(found.x), lowest, highest))
    return Calibration(round(value, 4), own.slope)


def refitted(
    kernel: np.ndarray, bias: np.ndarray, pooled: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The last layer fitted to fields, held near the weights' own by `PENALTY`.

    Args:
        kernel: float32 (F, C).
        bias: float32 (C,).
        pooled: What the layer reads, float32 (N, F).
        labels: int (N,).

    Returns:
        Kernel and bias, float32.
    """
    scale = np.sqrt(np.mean(pooled.astype(np.float64) ** 2)) + 1e-9
    inputs = np.column_stack([pooled / scale, np.ones(len(pooled))])
    base = pooled @ kernel + bias
    truth = np.eye(len(CLASS_NAMES))[labels]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        change = flat.reshape(inputs.shape[1], -1)
        logits = base + inputs @ change
        gradient = inputs.T @ (softmax(logits) - truth) / len(labels) + PENALTY * change
        return cross_entropy(logits, labels) + PENALTY * float((change**2).sum()) / 2, (
            gradient.ravel()
        )

    start = np.zeros(inputs.shape[1] * len(CLASS_NAMES))
    change = minimize(loss, start, jac=True, method="L-BFGS-B").x.reshape(inputs.shape[1], -1)
    return (
        (kernel + change[:-1] / scale).astype(np.float32),
        (bias + change[-1]).astype(np.float32),
    )


def answers_with(
    network: Network, profile: SiteProfile | None, images: Images, sizes: np.ndarray
) -> Answers:
    """What a classifier would say that was loaded with the profile."""
    return answers_both_ways(network, profile, images, sizes)[1]


def answers_both_ways(
    network: Network, profile: SiteProfile | None, images: Images, sizes: np.ndarray
) -> tuple[Answers, Answers]:
    """As `answers_with`: with the shipped thresholds of image quality, and with the profile's."""
    card, change, layer = network.card, None, None
    if profile is not None:
        card, change, layer = profile.applied_to(card), profile.normalisation, profile.layer
    parts, rows = [], []
    for batch, pixels, seen in observe_all(network, change, images):
        logits = seen.logits if layer is None else seen.pooled @ layer[0] + layer[1]
        observed = seen._replace(logits=logits)
        looked = look_at(pixels, sizes[batch])
        shipped = own = answer(card, observed, looked)
        if card.quality != SHIPPED:
            findings = findings_of(pixels, sizes[batch], card.quality)
            own = answer(card, observed, replace(looked, findings=findings))
        parts.append((shipped, own))
        rows.append(batch)
    shipped_parts, own_parts = zip(*parts, strict=True)
    return joined(shipped_parts, rows), joined(own_parts, rows)


def unfit(card: Card, fields: SeenFields) -> str | None:
    """Why nothing can be adapted; None if it can."""
    if card.novelty is None:
        return "These weights have no novelty gate, and a profile needs one."
    slides = len(set(fields.slides))
    if slides < FEWEST_ADAPTED:
        return f"{slides} slides are too few to adapt to: at least {FEWEST_ADAPTED} are needed."
    if missing := [n for n, c in fields.counts().items() if not c["fields"]]:
        return f"No field of {', '.join(missing)}: all classes are needed to adapt."
    return None

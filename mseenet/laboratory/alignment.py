"""A laboratory's change of colours and size, fitted to what the network sees.

`color.estimate` matches colours without the network, and a few series that look unusual, or a
camera that no linear change undoes, leave it wrong. So that change is moved on, in twelve numbers
for the colours and one for the size of cells, until the features of each class lie as near to those
of the training fields as they can, in the gate's own measure, and its fields are called right. What
is moved is held by a prior, slides count alike, and nothing of the network itself changes.

Least squares by Gauss and Newton with Levenberg's damping. A field is rounded to 8 bits, so
derivatives are taken over steps that are larger than this. Sizes are tried first, as least squares
finds only the nearest of several minima.

Reference:
    D. W. Marquardt, "An algorithm for least-squares estimation of nonlinear parameters",
    J. SIAM 11 (1963) 431-441.
"""

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from mseenet.config import CLASS_NAMES
from mseenet.errors import UsageError
from mseenet.inference.card import Card
from mseenet.inference.classifier import NOT_FINITE, ROWS, Observed
from mseenet.inference.normalisation import ZOOM, Normalisation
from mseenet.laboratory.fields import Images, LaboratoryFields
from mseenet.metrics import softmax

SPREAD = np.array([0.2] * 9 + [0.1] * 3 + [0.2])
"""Of the prior: on the entries of a matrix behind the change's own, in optical density, and on the
logarithm of the size."""

WRONG = 1000.0
"""On the squared error of the probabilities, against the squared distance of the features from
their class's mean, which is about their number, 96, for a training field."""

SIZES = (0.85, 1.0, 1.15, 1.3)
"""Factors that are tried before anything is fitted."""

ROUNDS = 2
"""Steps of least squares; a third changed the fit by 1 % where it was tried."""

STEP = 0.25
"""Of the differences, in standard deviations of the prior."""

DAMPINGS = (0.03, 0.3, 3.0)
"""Of each step, of which the best is taken, in units of the problem's own curvature."""

MOST = 40
"""Fields that are fitted to, the slides taking turns."""

SMALLEST_ZOOM = 0.03
"""Cells that differ less in size are left as they are."""


class Network(Protocol):
    """Who answers: the weights without a profile, such as a `Classifier`."""

    @property
    def card(self) -> Card:
        """Of the weights."""

    def observe(self, fields: np.ndarray) -> Observed:
        """As `Classifier.observe`; `ROWS` fields at most, which go through it in one batch."""

    def last_layer(self) -> tuple[np.ndarray, np.ndarray]:
        """As `Classifier.last_layer`."""


def aligned(network: Network, start: Normalisation, fields: LaboratoryFields) -> Normalisation:
    """The change that brings fields nearest to the training fields of their classes.

    Args:
        network: With a novelty gate.
        start: Where to begin, its size 1.
        fields: The laboratory's.
    """
    card = network.card
    assert card.novelty is not None  # see `adapt.unfit`
    reference = card.novelty.reference
    fields = fields.chosen(_taking_turns(fields.slides))
    _, slide, count = np.unique(fields.slides, return_inverse=True, return_counts=True)
    weights = count[slide, None] ** -0.5
    truth = np.eye(len(CLASS_NAMES))[fields.labels]

    def residuals(point: np.ndarray) -> np.ndarray:
        parts = [part for _, _, part in observe_all(network, _moved(start, point), fields.images)]
        frozen, logits = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("frozen", "logits")
        )
        away = frozen @ reference.whitening - reference.means[fields.labels]
        wrong = WRONG**0.5 * (softmax(logits) - truth)
        return np.concatenate([(weights * away).ravel(), (weights * wrong).ravel(), point])

    def best(points: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        tried = [(point, residuals(point)) for point in points]
        return min(tried, key=lambda one: one[1] @ one[1])

    unit = np.eye(len(SPREAD))
    point, left = best([unit[-1] * np.log(size) / SPREAD[-1] for size in SIZES])
    for _ in range(ROUNDS):
        slopes = np.stack([(residuals(point + STEP * one) - left) / STEP for one in unit], axis=1)
        curvature, gradient = slopes.T @ slopes, slopes.T @ left
        further = [
            point - np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), gradient)
            for damping in DAMPINGS
        ]
        nearer = best(further)
        if nearer[1] @ nearer[1] < left @ left:
            point, left = nearer
    found = _moved(start, point)
    if abs(found.zoom - 1) < SMALLEST_ZOOM:
        return Normalisation(found.light, found.matrix, found.offset, 1.0)
    return found


def takes(count: int) -> int:
    """How many images `aligned` takes in all of so many fields, each as often as it takes it."""
    return min(count, MOST) * (len(SIZES) + ROUNDS * (len(SPREAD) + len(DAMPINGS)))


def observe_all(
    network: Network, change: Normalisation | None, images: Images
) -> Iterator[tuple[np.ndarray, list[np.ndarray], Observed]]:
    """What the network makes of images, by `ROWS`, so that it is free for others in between.

    Yields:
        Positions of a few, int (n,); their pixels, changed; and what the network makes of these.

    Raises:
        UsageError: That is no finite number.
    """
    for batch in np.split(np.arange(len(images)), range(ROWS, len(images), ROWS)):
        pixels = [images[i] if change is None else change.apply(images[i]) for i in batch]
        seen = network.observe(np.stack(pixels))
        if not all(np.isfinite(part).all() for part in seen[:3]):
            raise UsageError(f"expected answers of which profiles can be made: {NOT_FINITE}")
        yield batch, pixels, seen


def _moved(start: Normalisation, point: np.ndarray) -> Normalisation:
    """A change at a point, float64 (13,), in standard deviations of the prior; 0 is its start."""
    moves = point * SPREAD
    matrix = np.eye(3) + moves[:9].reshape(3, 3)
    return Normalisation(
        start.light,
        (start.matrix @ matrix).astype(np.float32),
        (start.offset @ matrix + moves[9:12]).astype(np.float32),
        round(float(np.clip(np.exp(moves[12]), *ZOOM)), 3),
    )


def _taking_turns(slides: np.ndarray) -> np.ndarray:
    """Positions of `MOST` fields at most, ascending, of all slides about as many."""
    turn = np.zeros(len(slides), int)
    for slide in np.unique(slides):
        mine = np.flatnonzero(slides == slide)
        turn[mine] = np.arange(len(mine))
    return np.sort(np.argsort(turn, kind="stable")[:MOST])

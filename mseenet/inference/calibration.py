"""How sure to be of a field: the more it differs from the training fields, the less.

Logits are divided by a temperature before the softmax. One temperature for all fields is
too high for slides that look like those of training and too low for slides that do not;
here it grows with the novelty of the field.

Reference:
    C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, for temperature
    scaling; that it depends on the novelty is ours.
"""

from dataclasses import asdict, dataclass

import numpy as np

from mseenet.metrics import cross_entropy

HIGHEST_NOVELTY = 3.0
"""Beyond it the temperature grows no more; the answer says nothing there anyway."""

BOUNDS = ((1.0, 20.0), (0.0, 6.0))
"""Of value and slope. Below 1 a temperature would make the network more confident than it
was trained to be; on fields without errors the optimum is 0, which would claim certainty."""


@dataclass(frozen=True)
class Calibration:
    """The temperature max(1, value * exp(slope * (novelty - 1))).

    Attributes:
        value: At novelty 1, where fields begin to be refused; > 0.
        slope: Growth of its logarithm with the novelty, >= 0; 0 means one for all fields.
    """

    value: float
    slope: float = 0.0

    def temperatures(self, novelty, ops=np):
        """Divisors of the logits.

        Args:
            novelty: (N,), distance from the training fields over that of rejection.
            ops: `numpy`, or `keras.ops` inside a graph.

        Returns:
            (N, 1), >= 1 and finite.
        """
        grown = self.value * ops.exp(self.slope * (ops.minimum(novelty, HIGHEST_NOVELTY) - 1))
        return ops.maximum(grown, 1.0)[:, None]

    def record(self) -> dict[str, float]:
        """As it stands in the card, rounded to what the fit can tell."""
        return {name: round(value, 3) for name, value in asdict(self).items()}


def fit_calibration(
    logits: np.ndarray, novelty: np.ndarray | None, labels: np.ndarray
) -> Calibration:
    """The calibration with the lowest cross-entropy.

    Args:
        logits: Of fields that the network was not trained on, (N, C).
        novelty: Of the same fields, (N,); None for one temperature whatever the novelty,
            where none of the fields is foreign and a slope could not be told.
        labels: Their true labels, int (N,).
    """
    from scipy.optimize import minimize, minimize_scalar

    if novelty is None:
        (lowest, highest), _ = BOUNDS
        one = minimize_scalar(
            lambda value: cross_entropy(logits, labels, value),
            bounds=(lowest, highest),
            method="bounded",
        )
        return Calibration(float(one.x))

    def loss(parameters: np.ndarray) -> float:
        temperatures = Calibration(*parameters).temperatures(novelty)
        return cross_entropy(logits, labels, temperatures)

    starts = ((1.5, 0.1), (4.0, 2.0))
    found = [minimize(loss, start, method="Nelder-Mead", bounds=BOUNDS) for start in starts]
    best = min(found, key=lambda result: result.fun)
    return Calibration(*(float(value) for value in best.x))


def temperature_text(record: dict) -> str:
    """The card's calibration in words."""
    text = f"temperature {record['value']}"
    if record["slope"]:
        text = f"temperature max(1, {record['value']} exp({record['slope']} (novelty - 1)))"
    return f"{text}, fitted on {record['fitted_on']} (n = {record['n']})"

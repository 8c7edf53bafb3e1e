"""What a person says of a field beside what the network says, and how far the two agree."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from mseenet.case.answers import counted_answer
from mseenet.case.records import percent
from mseenet.config import CLASS_NAMES
from mseenet.inference.classifier import Prediction
from mseenet.metrics import grouped_interval, wilson_interval

NOT_JUDGED = "not to be judged"
UNSURE = "unsure"
CHOICES = (*CLASS_NAMES, NOT_JUDGED, UNSURE)
"""What a reader can say of a field."""

DIFFERS = "\N{NOT EQUAL TO}"
"""Stands before a verdict that differs from the network's answer."""

NO_CLASS = "no class"
"""How the table of agreement calls the network's answer to a rejected field."""

FEWEST = 10
"""Fields that both name a class, from which on agreement is given: of fewer, it says nothing."""

LONGEST_COMMENT, LONGEST_NAME = 2000, 80
"""Of a comment and of a reader's name, in characters."""

KAPPA = (
    "Cohen's kappa is (o - e) / (1 - e): o is the proportion of fields on which both agree, e the "
    "one to be expected if both named their classes as often as they did, but by chance. 1 is full "
    "agreement, 0 no more than chance; where both name one and the same class throughout it is not "
    "defined."
)

FEWEST_SLIDES = 5
"""Slides from which on the interval of the agreement is over slides."""

DEPENDENT = (
    f"95 % interval over slides if there are at least {FEWEST_SLIDES} and all fields are of a known one, "
    "else over fields: fields of one slide are not independent, so that one is too narrow. It is "
    "no result for a patient. A reader who saw the network's answer first agrees more easily: only "
    "blind verdicts are free of that."
)

VERDICT_HEADER = (
    "verdict",
    "agrees",
    "verdict_blind",
    "verdict_comment",
    "reader",
    "verdict_given",
)
"""Columns that the exports of a case have for the reader."""


@dataclass(frozen=True)
class Verdict:
    """What a reader says of one field.

    Attributes:
        choice: One of `CHOICES`.
        given: When, with time zone.
        comment: In the reader's words; may be empty.
        reader: Who, as the reader wrote it; may be empty.
        blind: Whether the network's answer to this field had not been shown before.

    Raises:
        ValueError: One of them is not as it should be.
    """

    choice: str
    given: datetime
    comment: str = ""
    reader: str = ""
    blind: bool = False

    def __post_init__(self):
        if self.choice not in CHOICES:
            raise ValueError(f"expected a verdict among {CHOICES}; received {self.choice!r}")
        if self.given.utcoffset() is None:
            raise ValueError(f"expected a time with time zone; received {self.given!r}")
        for text, longest in ((self.comment, LONGEST_COMMENT), (self.reader, LONGEST_NAME)):
            if len(text) > longest:
                raise ValueError(f"expected at most {longest:,} characters; received {len(text):,}")

    @property
    def class_name(self) -> str | None:
        """The class that the reader names, None for "not to be judged" and "unsure"."""
        return self.choice if self.choice in CLASS_NAMES else None


def agreeing_choice(prediction: Prediction) -> str | None:
    """What a reader says who agrees with the network; None for a file that was not read."""
    if prediction.status == "error":
        return None
    answer = counted_answer(prediction)
    return answer.class_name if answer else NOT_JUDGED


def agrees(prediction: Prediction, verdict: Verdict | None) -> bool | None:
    """Whether reader and network say the same; None without a verdict and for "unsure"."""
    if verdict is None or verdict.choice == UNSURE:
        return None
    return verdict.choice == agreeing_choice(prediction)


def verdict_text(prediction: Prediction, verdict: Verdict | None) -> str | None:
    """The verdict in a table: what the reader says, marked where it differs from the network."""
    if verdict is None:
        return None
    return f"{DIFFERS} {verdict.choice}" if agrees(prediction, verdict) is False else verdict.choice


def verdict_record(prediction: Prediction, verdict: Verdict | None) -> dict | None:
    """One verdict, ready for JSON, with the keys of `VERDICT_HEADER`; None without one."""
    if verdict is None:
        return None
    values = (
        verdict.choice,
        agrees(prediction, verdict),
        verdict.blind,
        verdict.comment,
        verdict.reader,
        verdict.given.isoformat(timespec="seconds"),
    )
    return dict(zip(VERDICT_HEADER, values, strict=True))


def verdict_cells(record: dict | None) -> list[str | None]:
    """Cells of a table for a `verdict_record`, one for each of `VERDICT_HEADER`."""
    words = {True: "yes", False: "no"}
    record = record or dict.fromkeys(VERDICT_HEADER)
    return [words.get(value, value) for value in record.values()]


@dataclass(frozen=True)
class Measured:
    """Agreement on the fields for which both name a class.

    Attributes:
        n: How many fields those are, at least `FEWEST`.
        agreed: On how many of them both name the same class.
        proportion: Of these, in [0, 1].
        interval: Its 95 % interval over `slides`, a bootstrap, or Wilson's where all or none
            are the same; over fields (Wilson) without them.
        slides: How many slides the interval is over; None if it is over fields.
        kappa: Cohen's, at most 1; None where it is not defined (see `KAPPA`).
    """

    n: int
    agreed: int
    proportion: float
    interval: tuple[float, float]
    kappa: float | None
    slides: int | None = None

    def __str__(self) -> str:
        low, high = (percent(bound) for bound in self.interval)
        kappa = "not defined" if self.kappa is None else f"{self.kappa:.2f}"
        return (
            f"{self.agreed} of {self.n} fields for which both name a class, "
            f"{percent(self.proportion)} (95 % interval over "
            f"{'fields' if self.slides is None else f'{self.slides} slides'}: {low} to {high}). "
            f"Cohen's kappa {kappa}."
        )


@dataclass(frozen=True, eq=False)
class Agreement:
    """Network and reader on one case.

    Attributes:
        table: Fields by the network's answer (rows: `CLASS_NAMES`, then `NO_CLASS`) and the
            reader's (columns: `CHOICES`), int64 (5, 6).
        named: Fields for which both name a class.
        measured: Over these; None if they are fewer than `FEWEST`.
        blind: The same for blind verdicts alone.
    """

    table: np.ndarray
    named: int
    measured: Measured | None
    blind: Measured | None

    @property
    def too_few(self) -> str:
        """What is said instead of `measured`."""
        return f"Both name a class for {self.named} fields; how far they agree is given from {FEWEST} on."


def agreement(
    pairs: Iterable[tuple[Prediction, Verdict | None]], slides: Iterable[str | None] | None = None
) -> Agreement:
    """Compares the network's answers with a reader's.

    Args:
        pairs: Both for each field; without a verdict, or for a file that was not read, it
            does not count.
        slides: Of which slide each field is; None if that is known of none.

    Returns:
        Counts, and how far the two agree if there are enough fields.

    Reference:
        J. Cohen, "A Coefficient of Agreement for Nominal Scales", Educ. Psychol. Meas. 20
        (1960) 37-46.
    """
    table, blind = (np.zeros((len(CLASS_NAMES) + 1, len(CHOICES)), np.int64) for _ in range(2))
    counted: list[tuple[bool, str | None, bool]] = []  # whether the same, slide, blind
    pairs = list(pairs)
    of = [None] * len(pairs) if slides is None else list(slides)
    for (prediction, verdict), slide in zip(pairs, of, strict=True):
        if verdict is None or prediction.status == "error":
            continue
        answer = counted_answer(prediction)
        row = CLASS_NAMES.index(answer.class_name) if answer else len(CLASS_NAMES)
        cell = row, CHOICES.index(verdict.choice)
        table[cell] += 1
        blind[cell] += verdict.blind
        if answer and verdict.class_name:
            counted.append((answer.class_name == verdict.class_name, slide, verdict.blind))
    classes = len(CLASS_NAMES)
    named = int(table[:classes, :classes].sum())
    every = [(same, slide) for same, slide, _ in counted]
    blindly = [(same, slide) for same, slide, was_blind in counted if was_blind]
    return Agreement(table, named, _measured(table, every), _measured(blind, blindly))


def agreement_record(agreement: Agreement) -> dict | None:
    """The agreement, ready for JSON; None if no field has a verdict."""
    if not agreement.table.any():
        return None

    def figures(measured: Measured | None) -> dict | None:
        return None if measured is None else vars(measured) | {"interval": [*measured.interval]}

    return {
        "rows": [*CLASS_NAMES, NO_CLASS],
        "columns": list(CHOICES),
        "table": agreement.table.tolist(),
        "fewest": FEWEST,
        "all": figures(agreement.measured),
        "blind": figures(agreement.blind),
        "kappa_is": KAPPA,
        "interval_is": DEPENDENT,
    }


def _measured(table: np.ndarray, counted: Sequence[tuple[bool, str | None]]) -> Measured | None:
    both = table[: len(CLASS_NAMES), : len(CLASS_NAMES)]
    n, agreed = int(both.sum()), int(np.trace(both))
    if n < FEWEST:
        return None
    known = sorted({slide for _, slide in counted if slide is not None})
    slides = len(known) if all(slide is not None for _, slide in counted) else 0
    if slides < FEWEST_SLIDES:
        interval = wilson_interval(agreed, n)
    elif 0 < agreed < n:
        same, of = (np.array(column) for column in zip(*counted, strict=True))
        interval = grouped_interval(same.astype(float), of)
    else:
        interval = wilson_interval(slides * agreed // n, slides)
    chance = int(both.sum(axis=1) @ both.sum(axis=0))  # n * n times the one to be expected
    kappa = None if chance == n * n else (n * agreed - chance) / (n * n - chance)
    over = slides if slides >= FEWEST_SLIDES else None
    return Measured(n, agreed, agreed / n, interval, kappa, over)

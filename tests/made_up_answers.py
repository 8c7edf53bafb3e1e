"""Made-up answers about unseen slides, and the figures that follow from them."""

import json
from functools import cache

import numpy as np

from mseenet.evaluation.out_of_fold import OutOfFold
from mseenet.evaluation.stress import (
    ANOTHER_CLASS,
    NO_CELLS,
    RESTAINED,
    SAME_CLASS,
    STRESS_TESTS,
    UNCHANGED,
)
from mseenet.evaluation.unseen import measure_unseen
from mseenet.evaluation.unseen_stress import StressAnswers
from mseenet.inference.card import NoveltyGate

GATE = NoveltyGate(None, 1.8, 2.0)


def answers(seed: int, wrong: float = 0.12, per_part: int = 30, folds: int = 5) -> OutOfFold:
    """Parts of four classes; the farther a field from training, the more often it is wrong."""
    rng = np.random.default_rng(seed)
    labels, fold = (a.ravel() for a in np.meshgrid(range(4), range(folds)))
    labels, fold = np.repeat(labels, per_part), np.repeat(fold, per_part)
    novelty = rng.uniform(0.2, 2.1, len(labels))
    fails = rng.random(len(labels)) < 0.02 + wrong * novelty * (fold + 1) / folds
    named = np.where(fails, (labels + rng.integers(1, 4, len(labels))) % 4, labels)
    logits = 6 * np.eye(4)[named] + rng.normal(size=(len(labels), 4))
    files = [f"{label}/{i}" for i, label in enumerate(labels)]
    parts = np.array([f"class {c} part {f}" for c, f in zip(labels, fold, strict=True)])
    return OutOfFold(files, fold, parts, labels, logits, novelty)


def stress_answers(result: OutOfFold, seed: int) -> dict[str, StressAnswers]:
    """What the networks of `answers` might say; on other backgrounds they are wrong more often."""
    rng = np.random.default_rng(seed)
    n = len(result.labels)
    made = {}
    for test in STRESS_TESTS:
        rows, donors = np.arange(n), np.full(n, -1)
        logits = result.logits.copy()
        cells, clear = rng.integers(1, 12, n), rng.integers(0, 6, n)
        if test in (*ANOTHER_CLASS.values(), RESTAINED):
            donors = (rows + n // 2) % n
            donors = np.where(result.labels[donors] == result.labels, (rows + 30) % n, donors)
            follows = rng.random(n) < 0.4
            logits[follows] = 6 * np.eye(4)[result.labels[donors[follows]]]
        if test in SAME_CLASS.values():
            donors = ((rows // 30) * 30 + (rows + 1) % 30) % n
        if test == NO_CELLS:
            cells[: n // 2], clear[: n // 2] = 0, 0
        if test != UNCHANGED:
            rows = rows[::-1]
        made[test] = StressAnswers(
            rows,
            donors[rows],
            logits[rows].astype(np.float32),
            result.novelty[rows].astype(np.float32),
            rng.choice(3, n, p=[0.94, 0.05, 0.01]).astype(np.int8)[rows],
            cells[rows].astype(np.int16),
            clear[rows].astype(np.int16),
        )
    return made


@cache
def _figures() -> str:
    results = {
        "series": answers(1, 0.1),
        "series-siblings": answers(2, 0.25, folds=4),
        "blocks-100": answers(3),
    }
    stress = {name: stress_answers(r, i) for i, (name, r) in enumerate(results.items())}
    return json.dumps(measure_unseen(results, GATE, stress, "cells"))


def unseen_figures() -> dict[str, dict]:
    """The entry `unseen` of evaluation.json, of made-up answers to three protocols."""
    return json.loads(_figures())


OPERATING_POINT = {
    "threshold": 0.4,
    "sensitivity": 0.9951,
    "specificity": 0.91,
    "fitted_on": "out-of-fold predictions, protocol series-siblings",
    "n": 480,
}

"""How many times larger than in the training fields the cells of a field are.

Another objective, camera or crop shows the same cells larger or smaller, and the network takes
size for evidence. The frozen blocks, which are never trained, tell the size well: a ridge
regression of its logarithm on their output, averaged over the image as for the novelty, was fitted
on training fields enlarged and reduced from half to twice their size (`tools/scale.py`). Some of
these were blurred or had another brightness, so that a soft picture is not taken for an enlarged
one.

The coefficients belong to one set of frozen blocks. They are used only with blocks of just these
weights, and only in releases with a novelty gate: of what is no field of a smear no size can be
told.
"""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

PATH = Path(__file__).with_name("scale.npz")
"""The coefficients that come with the project."""

OFF = 1.3
"""So many times larger, or smaller, send a field to review. This and the next two were chosen on
validation fields."""

NEAR = 1.12
"""From this factor on, in either direction, more confidence is asked for than usually."""

SURE = 0.95
"""That confidence, in [0, 1]."""

FURTHEST = 4.0
"""Factor beyond which, and below the inverse of which, no size is given: the fit ended at 2."""

KNOWN = 2.0
"""Novelty from which on nothing is said of the size."""


@dataclass(frozen=True, eq=False)
class ScaleReference:
    """A linear function of the pooled frozen features.

    Attributes:
        weights: float32 (D,).
        bias: What it is for features of 0.
        blocks: Which frozen blocks it belongs to (`fingerprint`).
    """

    weights: np.ndarray
    bias: float
    blocks: str

    def logarithms(self, features, ops=np):
        """Natural logarithms of how many times larger the cells are than in training.

        Args:
            features: Pooled frozen features, (B, D).
            ops: `numpy`, or `keras.ops` inside a graph.

        Returns:
            (B,); 0 for cells of the size that training showed.
        """
        return ops.matmul(features, self.weights[:, None])[:, 0] + np.float32(self.bias)

    def save(self, path: Path) -> None:
        """Writes it as a NumPy archive, which `read_reference` reads."""
        np.savez(path, weights=self.weights, bias=self.bias, blocks=self.blocks)


@cache
def read_reference(path: Path = PATH) -> ScaleReference:
    """The reference in a file; it comes with the package, and nobody else writes it."""
    with np.load(path, allow_pickle=False) as archive:
        return ScaleReference(
            archive["weights"].astype(np.float32), float(archive["bias"]), str(archive["blocks"])
        )


def fingerprint(arrays: Iterable[np.ndarray]) -> str:
    """Names weights by their values.

    Args:
        arrays: Of `frozen_blocks(model).get_weights()`.

    Returns:
        SHA-256 in hex.
    """
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array, np.float32).tobytes())
    return digest.hexdigest()


def told(logarithm: float, novelty: float) -> float | None:
    """How many times larger the cells look, rounded to what can be told.

    Args:
        logarithm: Of `ScaleReference.logarithms`.
        novelty: Distance of the field from those of training over that of rejection.

    Returns:
        A factor > 0; None for what is too unlike a smear.
    """
    if novelty >= KNOWN:
        return None
    furthest = math.log(FURTHEST)
    return round(math.exp(min(max(logarithm, -furthest), furthest)), 2)


def doubt(scale: float | None, confidence: float) -> str | None:
    """Why a field whose cells are of another size is to be looked at by a person.

    Args:
        scale: How many times larger its cells are than in training; None if not known.
        confidence: Calibrated probability of its most probable class, in [0, 1].

    Returns:
        The reason in words; None for a field that is of the usual size, or near it and named with
        enough confidence.
    """
    if scale is None or not doubtful(scale, confidence):
        return None
    reason = in_words(scale)
    if is_off(scale):
        return f"{reason} (another magnification?)"
    return (
        f"{reason}, where at least {100 * SURE:.0f} % confidence is expected; received "
        f"{100 * confidence:.1f} %"
    )


def doubtful(scale, confidence):
    """Whether fields go to review for the size of their cells.

    Args:
        scale: How many times larger the cells look, (N,) or one number, > 0.
        confidence: Calibrated probability of the most probable class, in the same shape.

    Returns:
        bool, in the shape of the arguments.
    """
    away = np.abs(np.log(scale))
    return (away >= math.log(OFF)) | ((away >= math.log(NEAR)) & np.less(confidence, SURE))


def is_off(scale: float) -> bool:
    """Whether cells are so much larger or smaller that the field goes to review for it."""
    return abs(math.log(scale)) >= math.log(OFF)


def in_words(scale: float) -> str:
    """The size of the cells, "cells look 1.5 x as large as in the training fields"."""
    return f"cells look {scale:.2g} x as large as in the training fields"

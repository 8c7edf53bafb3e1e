"""What decides an answer's status beside weights and card: the code's limits, and the cells' size."""

import hashlib
from types import ModuleType

from mseenet.imaging import nuclei, quality
from mseenet.inference import cellularity, scale

JUDGES = (quality, nuclei, cellularity, scale)
"""Modules whose limits, their constants, send a field to review or reject it."""


def rules() -> dict:
    """All limits by module and name, and which coefficients tell the size of the cells."""
    limits = {module.__name__.rpartition(".")[2]: _limits(module) for module in JUDGES}
    reference = scale.read_reference()
    coefficients = hashlib.sha256(reference.weights.tobytes())
    coefficients.update(f"{reference.bias!r} {reference.blocks}".encode())
    return limits | {"size": coefficients.hexdigest()}


def _limits(module: ModuleType) -> dict:
    return {
        name: value
        for name, value in vars(module).items()
        if name.isupper() and not name.startswith("_") and isinstance(value, int | float | tuple)
    }

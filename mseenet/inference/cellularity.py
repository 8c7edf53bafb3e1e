"""When a field has too few nucleated cells to name a class."""

import numpy as np

EVEN = 0.4
"""Below this confidence the network prefers no class: it sees nothing to name."""

DOUBTFUL = 0.6
"""Below this confidence a field in which no piece clearly is a nucleated cell has none."""

FEWEST = 3
"""With fewer nucleated cells, but at least one, a field goes to review."""


def refuses(cells: np.ndarray, clear: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """Which fields hold no nucleated cell that a class could be read off.

    Args:
        cells: Pieces that are probably nucleated cells, int (N,).
        clear: Pieces that clearly are, int (N,).
        confidence: Calibrated probability of the most probable class, (N,) in [0, 1].

    Returns:
        bool (N,).
    """
    return (cells == 0) | (confidence < EVEN) | ((clear == 0) & (confidence < DOUBTFUL))

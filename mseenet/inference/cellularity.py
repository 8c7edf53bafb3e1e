"""Whether a field shows enough nucleated cells to be judged, from network and image together.

The answer for a field without blasts or haematogones has no meaning. Colour alone takes stain
precipitate for cells now and then, and the network alone may be sure of an empty field: each
corrects the other.
"""

import numpy as np

from mseenet.imaging.nuclei import NucleatedCells

EVEN = 0.4
"""Calibrated probability of the most probable class, below which the network knows none: of four
classes without a preference each has 0.25."""

DOUBTFUL = 0.6
"""The same for a field in which no piece is clearly a nucleated cell."""

SURE = 0.9
"""The same for a field in which no piece even probably is one: where the light washes out the
colour of the nuclei, the network may still see them. Of 279 validation fields at contrast x0.6
28 show no cell by colour; the network names all of them rightly and is at least so sure."""

FEWEST = 2
"""A field with fewer nucleated cells than this is to be looked at by a person."""


def refuses(count, clear, confidence):
    """Whether fields are refused because they show no nucleated cell.

    Args:
        count: Pieces that probably are nucleated cells (`NucleatedCells.count`), int (N,) or
            one number.
        clear: Those that clearly are (`NucleatedCells.clear`), in the same shape.
        confidence: Calibrated probability of the most probable class, in [0, 1], likewise.

    Returns:
        bool, in the shape of the arguments.
    """
    none = np.equal(count, 0) & np.less(confidence, SURE)
    even = np.less(confidence, EVEN)
    return none | even | (np.equal(clear, 0) & np.less(confidence, DOUBTFUL))


def refusal(cells: NucleatedCells, confidence: float) -> str | None:
    """Why a field is refused because it shows no nucleated cell; see `refuses`.

    Args:
        cells: Of the field.
        confidence: Calibrated probability of its most probable class, in [0, 1].

    Returns:
        The reason in words; None for a field that is not refused.
    """
    if not refuses(cells.count, cells.clear, confidence):
        return None
    answer = f"the network is {100 * confidence:.1f} % sure of its answer"
    if cells.count == 0:
        return (
            "no nucleated cell found: nothing has the colour, size and density of a nucleus, and "
            + answer
        )
    if cells.clear == 0:
        pieces = "one piece has" if cells.count == 1 else f"{cells.count} pieces have"
        return f"no nucleated cell found: {pieces} a nucleus's colour, none clearly, and {answer}"
    return (
        f"the network recognises none of its classes: {answer}, expected at least "
        f"{100 * EVEN:.0f} %"
    )


def doubt(cells: NucleatedCells) -> str | None:
    """Why a field has too few nucleated cells to be judged by the network alone.

    Args:
        cells: Of the field.

    Returns:
        The reason in words; None for a field with `FEWEST` or more.
    """
    if cells.count >= FEWEST:
        return None
    found = "1 nucleated cell" if cells.count == 1 else f"{cells.count} nucleated cells"
    return f"too few cells to judge: {found} found, expected at least {FEWEST}"

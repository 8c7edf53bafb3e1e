"""Single nucleated cells of a field: where they lie, their outlines, and how they look.

What is a nucleus is decided in `mseenet.imaging.nuclei`; here is what is shown of it. All of
it is found on the field squeezed to 224x224, as the network sees it; outlines and crops are
then laid on the original.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mseenet.config import IMAGE_SIZE
from mseenet.imaging.nuclei import with_rim

GRID_CELL = IMAGE_SIZE // 7
"""Side of what one value of the network's last feature maps covers, in pixels of 224: a
heatmap cannot say more closely where evidence lies."""

CROP = 1.6
"""Side of a crop, in proportion to the longer side of its cell: some surroundings are seen."""

SMALLEST_CROP = 32
"""Least side of a crop, in pixels of 224; a blast measures about 23."""


@dataclass(frozen=True)
class Cell:
    """One cell of a field.

    Attributes:
        number: Of the cell in the result of `separate`, from 1 on.
        box: First and last row, first and last column, plus one each for the last ones, in
            pixels of 224: (top, bottom, left, right).
        area: In pixels of 224, squared.
        evidence: Sum of the heatmap over the cell, in its own units times pixels.
        proportion: Proportion of the whole heatmap's sum, in [0, 1]; 0 for a heatmap of zeros.
    """

    number: int
    box: tuple[int, int, int, int]
    area: int
    evidence: float
    proportion: float


def measured(numbers: np.ndarray, heatmap: np.ndarray) -> tuple[Cell, ...]:
    """The cells of a field, those with the largest proportion of the evidence first.

    Args:
        numbers: Of `separate`, int32 (224, 224).
        heatmap: float32 (224, 224) in [0, 1].
    """
    areas = np.bincount(numbers.ravel())
    evidence = np.bincount(numbers.ravel(), heatmap.ravel())
    total = evidence.sum()
    cells = [
        Cell(
            number,
            (box[0].start, box[0].stop, box[1].start, box[1].stop),
            int(areas[number]),
            float(evidence[number]),
            float(evidence[number] / total) if total else 0.0,
        )
        for number, box in enumerate(ndimage.find_objects(numbers), start=1)
        if box is not None
    ]
    return tuple(sorted(cells, key=lambda cell: (-cell.proportion, cell.number)))


def largest_evidence(mask: np.ndarray, heatmap: np.ndarray) -> float:
    """The largest sum of a heatmap over a piece of the mask: no cell of the field has more.

    Args:
        mask: bool (224, 224).
        heatmap: float32 (224, 224) in [0, 1].
    """
    pieces, _ = ndimage.label(mask)
    return float(np.bincount(pieces.ravel(), heatmap.ravel())[1:].max(initial=0.0))


def evidence_on(mask: np.ndarray, heatmap: np.ndarray) -> tuple[float, float]:
    """How much of a heatmap lies on the cells, without and with a rim of `GRID_CELL`.

    Args:
        mask: bool (224, 224).
        heatmap: float32 (224, 224) in [0, 1], not all 0.

    Returns:
        Both as proportions of the heatmap's sum, in [0, 1].
    """
    if not mask.any():
        return 0.0, 0.0
    near = with_rim(mask, GRID_CELL)
    total = heatmap.sum()
    return float(heatmap[mask].sum() / total), float(heatmap[near].sum() / total)


def outline(numbers: np.ndarray, cell: Cell) -> np.ndarray:
    """The line around a cell, halfway between its pixels and the others.

    Args:
        numbers: Of `separate`, int32 (224, 224).
        cell: One of its cells.

    Returns:
        x and y of the corners, clockwise on the screen, in pixels of 224, float64 (n, 2); 0 is
        the left or upper border of the field. The first is not repeated. Of a cell in several
        parts it is the largest part's.
    """
    top, bottom, left, right = cell.box
    inside = np.pad(numbers[top:bottom, left:right] == cell.number, 1)
    # Edges of pixels as (row, column) -> directions, with the inside at the right hand.
    edges: dict[tuple[int, int], set[tuple[int, int]]] = {}
    for neighbour, start, direction in (
        ((-1, 0), (0, 0), (0, 1)),
        ((0, 1), (0, 1), (1, 0)),
        ((1, 0), (1, 1), (0, -1)),
        ((0, -1), (1, 0), (-1, 0)),
    ):
        beyond = np.roll(inside, (-neighbour[0], -neighbour[1]), (0, 1))
        for row, column in np.argwhere(inside & ~beyond).tolist():
            edges.setdefault((row + start[0], column + start[1]), set()).add(direction)
    rings = []
    while edges:
        place = next(iter(edges))
        down, across = next(iter(edges[place]))
        middles = []
        while place in edges:
            # To the right where two parts touch at a corner only.
            turns = ((across, -down), (down, across), (-across, down))
            down, across = next(turn for turn in turns if turn in edges[place])
            edges[place].remove((down, across))
            if not edges[place]:
                del edges[place]
            middles.append((place[1] + across / 2, place[0] + down / 2))
            place = (place[0] + down, place[1] + across)
        rings.append(np.array(middles))
    largest = max(rings, key=enclosed_area)
    before, after = largest - np.roll(largest, 1, 0), np.roll(largest, -1, 0) - largest
    corners = largest[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]
    return corners + np.array([left - 1, top - 1])


def enclosed_area(points: np.ndarray) -> float:
    """The area inside a line, positive if it runs clockwise on the screen.

    Args:
        points: x and y, float (n, 2); the first is not repeated.
    """
    x, y = points.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def crop(rgb: np.ndarray, cell: Cell) -> np.ndarray:
    """A square around a cell, cut from the original picture.

    Args:
        rgb: The whole field, uint8 (H, W, 3) in [0, 255], in its own shape.
        cell: One of its cells.

    Returns:
        uint8 (n, n, 3), moved inwards at the border of the field.
    """
    height, width = rgb.shape[:2]
    down, across = height / IMAGE_SIZE, width / IMAGE_SIZE
    top, bottom, left, right = cell.box
    longest = max((bottom - top) * down, (right - left) * across)
    least = SMALLEST_CROP * min(down, across)
    side = min(round(max(CROP * longest, least, 1)), height, width)
    row = round((top + bottom) / 2 * down - side / 2)
    column = round((left + right) / 2 * across - side / 2)
    row, column = min(max(row, 0), height - side), min(max(column, 0), width - side)
    return rgb[row : row + side, column : column + side]

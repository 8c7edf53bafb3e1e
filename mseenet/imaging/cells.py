"""Single nucleated cells of a field: where they lie, their outlines, and how they look.

What is a nucleus is decided in `mseenet.imaging.nuclei`; here is what is shown of it. All of
it is found on the field squeezed to 224x224, as the network sees it; outlines and crops are
then laid on the original.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mseenet.config import IMAGE_SIZE
from mseenet.imaging import nuclei

GRID_CELL = 32
"""Side of what one value of the network's last feature maps covers, in pixels of 224: a
heatmap cannot say more closely where evidence lies."""

CROP = 1.6
"""Side of a crop, in proportion to the longer side of its cell: some surroundings are seen."""

SMALLEST_CROP = 32
"""Least side of a crop, in pixels of 224; a blast measures about 23."""


_OUTSIDE = ~nuclei.scale_bar_corner((IMAGE_SIZE, IMAGE_SIZE))


@dataclass(frozen=True, eq=False)
class Found:
    """The nucleated cells of a field.

    Attributes:
        cells: How many there are.
        packed: Where they lie, a mask of 224x224 as bits (`numpy.packbits`), read-only uint8
            (6272,); see `unpacked`.
    """

    cells: nuclei.NucleatedCells
    packed: np.ndarray


def find_cells(rgb: np.ndarray) -> Found:
    """Finds and counts the nucleated cells, as `nucleus_mask` and `count_nucleated_cells` do.

    Other than the mask of `nucleus_mask`, this one holds only pieces that are counted: no
    platelets, precipitate and violet red cells. Takes a quarter of the time of those two, as it
    runs beside every prediction; the tests hold the results against theirs.

    Args:
        rgb: RGB pixels of one field, uint8 (224, 224, 3) in [0, 255].
    """
    excess = _excess(rgb)
    mask = excess > np.clip(_otsu(excess[_OUTSIDE]), nuclei.LOWEST, nuclei.HIGHEST)
    mask = _filled(_opened(mask))
    pieces, count = ndimage.label(mask)
    flat, cores = pieces.ravel(), pieces[excess > nuclei.CORE]
    sizes = np.bincount(flat, minlength=count + 1)
    sizes[0] = 0  # the label of everything outside
    reaches_out = np.bincount(pieces[_OUTSIDE], minlength=count + 1) > 0
    keep = sizes >= np.where(reaches_out, nuclei.SMALLEST, nuclei.SMALLEST_AT_SCALE_BAR)
    keep &= (sizes > 0) & (np.bincount(cores, minlength=count + 1) >= sizes / 10)
    density = np.bincount(flat, excess.ravel(), minlength=count + 1) / np.maximum(sizes, 1)
    probable, clear = (
        keep & (sizes >= smallest) & (density >= palest)
        for smallest, palest, _ in (nuclei.PROBABLE, nuclei.CLEAR)
    )
    wide = np.bincount(pieces[_wide(keep[pieces])], minlength=count + 1) > 0
    cells = nuclei.NucleatedCells(int(probable.sum()), int((clear & wide).sum()))
    packed = np.packbits(probable[pieces])
    packed.flags.writeable = False
    return Found(cells, packed)


def unpacked(packed: np.ndarray) -> np.ndarray:
    """The mask of `Found.packed`, bool (224, 224)."""
    return np.unpackbits(packed).astype(bool).reshape(IMAGE_SIZE, IMAGE_SIZE)


def _excess(field: np.ndarray) -> np.ndarray:
    """The optical density that `mseenet.imaging.nuclei` is about, by a table of the 256 levels."""
    green = field[..., 1]
    levels = np.bincount(green[_OUTSIDE], minlength=256)
    bright = _OUTSIDE & (green >= _quantile(levels, 0.75))
    plasma = [
        _quantile(np.bincount(field[..., channel][bright], minlength=256), 0.5)
        for channel in range(3)
    ]
    table = np.log10((np.array(plasma) + 1) / (np.arange(256)[:, None] + 1.0)) * (-0.5, 1, -0.5)
    sums = np.take(table[:, 1], green)
    sums += np.take(table[:, 0], field[..., 0])
    sums += np.take(table[:, 2], field[..., 2])
    return ndimage.gaussian_filter(sums, 1.0)


def _quantile(counts: np.ndarray, proportion: float) -> float:
    """`numpy.quantile` of whole numbers, from how often each of them occurs."""
    ranks = np.cumsum(counts)
    place = proportion * (ranks[-1] - 1)
    below, above = np.searchsorted(ranks, [np.floor(place), np.ceil(place)], side="right")
    return float(below + (place - np.floor(place)) * (above - below))


def _otsu(values: np.ndarray) -> float:
    """Otsu's threshold over 128 bins from 0 to 0.7."""
    bins, highest = 128, 0.7
    inside = values[(values >= 0) & (values <= highest)]
    places = np.minimum((inside * (bins / highest)).astype(np.int32), bins - 1)
    counts = np.bincount(places, minlength=bins)
    edges = np.linspace(0, highest, bins + 1)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centres)
    difference = sums / np.maximum(below, 1) - (sums[-1] - sums) / np.maximum(above, 1)
    return float(edges[1 + np.argmax(below * above * difference**2)])


def _opened(mask: np.ndarray) -> np.ndarray:
    """Opening by a cross, twice, with nothing beyond the border."""
    result = np.pad(mask, 3)
    for combine in (np.logical_and, np.logical_and, np.logical_or, np.logical_or):
        before = result.copy()
        combine(result[1:], before[:-1], out=result[1:])
        combine(result[:-1], before[1:], out=result[:-1])
        combine(result[:, 1:], before[:, :-1], out=result[:, 1:])
        combine(result[:, :-1], before[:, 1:], out=result[:, :-1])
    return result[3:-3, 3:-3]


def _filled(mask: np.ndarray) -> np.ndarray:
    """The mask with its holes: what no way leads to from the border."""
    ground, count = ndimage.label(~mask)
    hole = np.ones(count + 1, bool)
    for border in (ground[0], ground[-1], ground[:, 0], ground[:, -1]):
        hole[border] = False
    hole[0] = True  # the mask itself
    return hole[ground]


def _wide(mask: np.ndarray) -> np.ndarray:
    """Where the ground is at least as far away as the radius of a clear cell, bool (H, W)."""
    radius = nuclei.CLEAR[2]
    height, width = mask.shape
    padded = np.pad(mask, radius, constant_values=True)  # nothing is known beyond the border
    middle = slice(radius, radius + width)
    rows = padded[:, middle].copy()  # eroded by `reach` to both sides
    reach = 0
    result = np.ones(mask.shape, bool)
    for away in range(radius - 1, -1, -1):
        # The row of a circle of offsets nearer than the radius reaches so far to the sides.
        while (reach + 1) ** 2 + away**2 < radius**2:
            reach += 1
            rows &= padded[:, radius - reach : radius - reach + width]
            rows &= padded[:, radius + reach : radius + reach + width]
        result &= rows[radius - away : radius - away + height]
        result &= rows[radius + away : radius + away + height]
    return result


@dataclass(frozen=True)
class Cell:
    """One cell of a field.

    Attributes:
        number: Of the cell in the result of `separate`, from 1 on.
        box: First and last row, first and last column, plus one each for the last ones, in
            pixels of 224: (top, bottom, left, right).
        area: In pixels of 224, squared.
        evidence: Sum of the heatmap over the cell, in its own units times pixels.
        share: Proportion of the whole heatmap's sum, in [0, 1]; 0 for a heatmap of zeros.
    """

    number: int
    box: tuple[int, int, int, int]
    area: int
    evidence: float
    share: float


def measured(numbers: np.ndarray, heatmap: np.ndarray) -> tuple[Cell, ...]:
    """The cells of a field, those with the largest share of the evidence first.

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
    return tuple(sorted(cells, key=lambda cell: (-cell.share, cell.number)))


def largest_evidence(mask: np.ndarray, heatmap: np.ndarray) -> float:
    """The largest sum of a heatmap over a piece of the mask: no cell of the field has more.

    Args:
        mask: bool (224, 224).
        heatmap: float32 (224, 224) in [0, 1].
    """
    pieces, _ = ndimage.label(mask)
    return float(np.bincount(pieces.ravel(), heatmap.ravel())[1:].max(initial=0.0))


def with_rim(mask: np.ndarray) -> np.ndarray:
    """The mask, wider by `GRID_CELL` in every direction, bool (224, 224)."""
    return (ndimage.distance_transform_edt(~mask) <= GRID_CELL) if mask.any() else mask


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
    near = with_rim(mask)
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

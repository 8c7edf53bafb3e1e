"""Cells of one field on the background of another: does an answer follow the cells?

Nucleated cells are cut out with their rim and put on a field from which its own nucleated
cells were removed. Used in two ways that are kept apart: as augmentation, so that a network
learns that red cells, plasma, stain of the ground and the number of cells tell nothing, and
as a stress test, with a cutter that no recipe uses (`HELD_OUT`), so that a network that has
only learned to find the traces of one pair of scissors is found out.

Everything random comes from a generator that is passed in. A field takes about 20 ms.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mseenet.imaging.nuclei import (
    RIM,
    SMALLEST,
    largest_of_each,
    paint_over_nuclei,
    scale_bar_corner,
)

FEATHER = (0.5, 2.5)
"""Smallest and largest half width of the soft edge of cut cells, in pixels."""

WAVER = 1.0
"""How far the line of a soft cut moves at most, in pixels."""

APART = 9
"""Two maxima of the distance from the ground are two cells if they lie farther apart than
this, in pixels of 224; the smallest cells measure about 13."""

SHIFTS = 24
"""How many displaced copies of a field are tried to fill the places of its cells."""

TRIES = 12
"""How many places are tried for a cell before it may overlap another one."""

HELD_OUT = "watershed"
"""The cutter for tests alone; no recipe trains with it."""


@dataclass(frozen=True, eq=False)
class Cells:
    """Nucleated cells cut out of a field.

    Attributes:
        rgb: The field, uint8 (H, W, 3) in [0, 255].
        owner: To which cell a pixel belongs, int32 (H, W); 0 is no cell. Touching cells
            share their rim half and half.
        weight: How much of the pixel is taken along, float32 (H, W) in [0, 1]; 0 where
            `owner` is 0.
    """

    rgb: np.ndarray
    owner: np.ndarray
    weight: np.ndarray

    @property
    def count(self) -> int:
        """How many cells."""
        return int(self.owner.max(initial=0))

    def keep(self, chosen: np.ndarray) -> "Cells":
        """Only some of the cells, in place.

        Args:
            chosen: bool (count,).
        """
        numbers = np.concatenate([[0], np.where(chosen, np.cumsum(chosen), 0)])
        owner = numbers[self.owner].astype(np.int32)
        return Cells(self.rgb, owner, np.where(owner > 0, self.weight, np.float32(0)))


Cutter = Callable[[np.ndarray, np.ndarray, np.random.Generator], Cells]
"""Cuts the cells out of a field: (rgb, mask of `nucleus_mask`, generator) -> Cells."""


def separate(mask: np.ndarray) -> np.ndarray:
    """Numbers the cells of a mask; touching ones are divided where the mask is narrow.

    Args:
        mask: bool (H, W), as of `nucleus_mask`.

    Returns:
        int32 (H, W): 0 outside the mask, else 1 to the number of cells.
    """
    numbers = np.zeros(mask.shape, np.int32)
    if not mask.any():
        return numbers
    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), 1.0)
    pieces, piece_count = ndimage.label(mask)
    # The deepest point of a piece is a maximum: every piece has one.
    peaks = (ndimage.maximum_filter(np.where(mask, depth, 0), 2 * APART + 1) == depth) & mask
    deepest = largest_of_each(depth, pieces, piece_count)
    peaks[mask] |= depth[mask] == deepest[pieces[mask] - 1]
    markers, count = ndimage.label(peaks, np.ones((3, 3)))
    found = np.arange(1, count + 1)
    centres = np.array(ndimage.center_of_mass(peaks, markers, found))
    reach = largest_of_each(depth, markers, count)
    piece = largest_of_each(pieces, markers, count)
    # A cell is what lies nearer to its centre than to others, measured from the edge of the
    # circle that fits there: large cells reach farther than small ones.
    rows, columns = np.nonzero(mask)
    gaps = np.hypot(rows[:, None] - centres[:, 0], columns[:, None] - centres[:, 1]) - reach
    gaps[pieces[rows, columns][:, None] != piece] = np.inf
    _, nearest = np.unique(gaps.argmin(axis=1), return_inverse=True)
    numbers[rows, columns] = nearest + 1
    return numbers


def territories(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a cutter needs to know of a field, found once for any number of cuts.

    Args:
        mask: Of `nucleus_mask`, bool (H, W).

    Returns:
        To which cell each pixel is nearest, int32 (H, W), counted from 1, and how far it is
        from there, in pixels, float64 (H, W); 0 and infinity where there is no cell.
    """
    if not mask.any():
        return np.zeros(mask.shape, np.int32), np.full(mask.shape, np.inf)
    numbers = separate(mask)
    distance, (rows, columns) = ndimage.distance_transform_edt(~mask, return_indices=True)
    return numbers[rows, columns], distance


def cut(
    rgb: np.ndarray, owner: np.ndarray, distance: np.ndarray, line: float, feather: float
) -> Cells:
    """Cuts the cells out along a line around the mask.

    Args:
        rgb: The field, uint8 (H, W, 3) in [0, 255].
        owner: Of `territories`.
        distance: Of `territories`.
        line: How far outside the mask, in pixels.
        feather: Half the width of the soft edge, in pixels; 0 is a hard edge.
    """
    if feather > 0:
        weight = np.clip(0.5 + (line - distance) / (2 * feather), 0, 1).astype(np.float32)
    else:
        weight = (distance <= line).astype(np.float32)
    return Cells(rgb, np.where(weight > 0, owner, 0).astype(np.int32), weight)


def cut_hard(rgb: np.ndarray, mask: np.ndarray, random: np.random.Generator) -> Cells:
    """Cuts along the line `RIM` pixels outside the mask, as with scissors."""
    return cut(rgb, *territories(mask), RIM, 0)


def cut_feathered(rgb: np.ndarray, mask: np.ndarray, random: np.random.Generator) -> Cells:
    """Cuts with a soft edge around the line `RIM` pixels outside the mask.

    Its width is drawn from `FEATHER`, and the line moves by up to `WAVER` pixels.
    """
    feather, line = random.uniform(*FEATHER), RIM + random.uniform(-WAVER, WAVER)
    return cut(rgb, *territories(mask), line, feather)


def cut_by_watershed(rgb: np.ndarray, mask: np.ndarray, random: np.random.Generator) -> Cells:
    """Finds the cells anew, by a watershed of how purple they are, and cuts three pixels out.

    Shares as little as possible with the other cutters: another measure of colour (how far
    green lies below red and blue in grey levels, not in optical density), another way to an
    outline (the steepest slope, not a threshold), another edge. `mask` only says how large
    an area is surely of cells, and how large a one may be.
    """
    if not mask.any():
        return Cells(rgb, np.zeros(mask.shape, np.int32), np.zeros(mask.shape, np.float32))
    red, green, blue = np.moveaxis(rgb.astype(np.float32), -1, 0)
    purple = ndimage.gaussian_filter((red + blue) / 2 - green, 1.0)
    purple[scale_bar_corner(purple.shape) & ~mask] = purple.min()
    inner, outer = np.quantile(purple, [1 - 0.8 * mask.mean(), max(0, 1 - 1.6 * mask.mean())])
    markers = np.zeros(mask.shape, np.int16)
    markers[purple > inner] = 1
    markers[purple < outer] = -1
    slope = ndimage.gaussian_gradient_magnitude(purple, 1.0)
    slope = np.round(255 * slope / max(slope.max(), 1e-6)).astype(np.uint8)
    found = ndimage.watershed_ift(slope, markers) == 1
    found = ndimage.binary_opening(ndimage.binary_fill_holes(found), iterations=2)
    pieces, count = ndimage.label(found)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    keep = sizes >= SMALLEST
    keep[0] = False
    found = keep[pieces]
    owner, distance = territories(found)
    weight = ndimage.gaussian_filter((distance <= 3).astype(np.float32), 0.8)
    weight[owner == 0] = 0
    return Cells(rgb, np.where(weight > 0.02, owner, 0).astype(np.int32), weight)


TRAINING_CUTTERS: dict[str, Cutter] = {"feathered": cut_feathered, "hard": cut_hard}
"""Cutters that recipes may use."""

CUTTERS: dict[str, Cutter] = {**TRAINING_CUTTERS, HELD_OUT: cut_by_watershed}
"""All cutters of the stress tests."""


def empty_field(rgb: np.ndarray, mask: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A field without its nucleated cells: their places are filled from elsewhere in it.

    Each gap gets what lies at another place of the same field where no nucleated cell is,
    with a soft edge; gaps for which there is no such place (crowded fields) are painted
    over as in `paint_over_nuclei`.

    Args:
        rgb: RGB pixels, uint8 (H, W, 3) in [0, 255].
        mask: Of `nucleus_mask`, bool (H, W), not all True.
        random: Draws from where gaps are filled.

    Returns:
        RGB pixels, uint8 (H, W, 3) in [0, 255].
    """
    if not mask.any():
        return rgb.copy()
    gap = ndimage.distance_transform_edt(~mask) <= RIM + 1
    painted = paint_over_nuclei(rgb, gap)
    corner = scale_bar_corner(mask.shape)
    unusable = gap | corner
    wide = ndimage.binary_dilation(gap, iterations=2)
    pieces, count = ndimage.label(wide)
    source = painted.copy()
    open_pieces = np.ones(count + 1, bool)
    open_pieces[0] = False
    height, width = mask.shape
    for _ in range(SHIFTS):
        shift = (int(random.integers(height)), int(random.integers(width)))
        if not open_pieces.any():
            break
        hidden = np.roll(unusable, shift, (0, 1))
        hit = np.bincount(pieces[hidden], minlength=count + 1) > 0
        ready = open_pieces & ~hit
        if ready.any():
            chosen = ready[pieces]
            source[chosen] = np.roll(rgb, shift, (0, 1))[chosen]
            open_pieces &= ~ready
    if open_pieces.any():
        # Crowded: what is left of a gap is filled bit by bit.
        missing = open_pieces[pieces]
        for _ in range(SHIFTS):
            shift = (int(random.integers(height)), int(random.integers(width)))
            chosen = missing & ~np.roll(unusable, shift, (0, 1))
            source[chosen] = np.roll(rgb, shift, (0, 1))[chosen]
            missing &= ~chosen
    soft = ndimage.gaussian_filter(gap.astype(np.float32), 1.0)
    soft = np.maximum(soft, gap)[..., None]
    return np.round(source * soft + rgb * (1 - soft)).astype(np.uint8)


def transplant(cells: Cells, ground: np.ndarray) -> np.ndarray:
    """Puts cells, where they are, on another field.

    Args:
        cells: Of a cutter.
        ground: The other field, without nucleated cells (`empty_field`), of the same size.

    Returns:
        RGB pixels, uint8 (H, W, 3) in [0, 255].
    """
    weight = cells.weight[..., None]
    return np.round(cells.rgb * weight + ground * (1 - weight)).astype(np.uint8)


def scatter(
    cells: Cells, ground: np.ndarray, count: int, random: np.random.Generator
) -> np.ndarray:
    """Puts some cells, turned and mirrored each, at random places of another field.

    How many cells there are and how they lie then tells nothing of the field that they
    come from. Cells that its edge cuts off are taken only if there are no others; the
    scale bar's corner stays free.

    Args:
        cells: Of a cutter.
        ground: The other field, without nucleated cells, of the same size.
        count: How many cells to put there; the same one again where there are fewer.
        random: Drawn from.

    Returns:
        RGB pixels, uint8 (H, W, 3) in [0, 255].
    """
    height, width = cells.owner.shape
    boxes = ndimage.find_objects(cells.owner)
    corner = scale_bar_corner(cells.owner.shape)
    whole = []
    for number, box in enumerate(boxes, 1):
        rows, columns = box
        cut_off = (
            rows.start == 0 or columns.start == 0 or rows.stop == height or columns.stop == width
        )
        mine = cells.owner[box] == number
        if not cut_off and not (corner[box] & mine).any():
            whole.append(number)
    numbers = np.array(whole or range(1, len(boxes) + 1))
    if not len(numbers):
        return ground.copy()
    times = -(-count // len(numbers))
    order = np.concatenate([random.permutation(numbers) for _ in range(times)])[:count]

    result = ground.astype(np.float32)
    taken = corner.copy()
    for number in order:
        box = boxes[number - 1]
        weight = np.where(cells.owner[box] == number, cells.weight[box], 0)
        patch = cells.rgb[box]
        turns, mirrored = int(random.integers(4)), bool(random.integers(2))
        weight, patch = np.rot90(weight, turns), np.rot90(patch, turns)
        if mirrored:
            weight, patch = weight[:, ::-1], patch[:, ::-1]
        high, wide = weight.shape
        if high > height or wide > width:
            continue
        for _ in range(TRIES):
            top = int(random.integers(height - high + 1))
            left = int(random.integers(width - wide + 1))
            place = np.s_[top : top + high, left : left + wide]
            if not (taken[place] & (weight > 0)).any():
                break
        result[place] += weight[..., None] * (patch - result[place])
        taken[place] |= weight > 0
    return np.round(result).astype(np.uint8)


def restain(rgb: np.ndarray, donor: np.ndarray) -> np.ndarray:
    """Gives a field the mean and deviation of each channel's optical density of another.

    Args:
        rgb: RGB pixels, uint8 (H, W, 3) in [0, 255].
        donor: The other field, uint8 (H', W', 3) in [0, 255].

    Returns:
        RGB pixels, uint8 (H, W, 3) in [0, 255].

    Reference:
        E. Reinhard et al., "Color transfer between images", IEEE Comput. Graph. Appl. 21
        (2001) 34-41, in optical density instead of l-alpha-beta.
    """
    mine, other = _density(rgb), _density(donor)
    scale = (other.std(axis=(0, 1)) + 1e-6) / (mine.std(axis=(0, 1)) + 1e-6)
    density = (mine - mine.mean(axis=(0, 1))) * scale + other.mean(axis=(0, 1))
    return np.clip(np.round(256 * 10**-density - 1), 0, 255).astype(np.uint8)


def _density(rgb: np.ndarray) -> np.ndarray:
    """Optical density of each channel, float32 (H, W, 3)."""
    table = -np.log10((np.arange(256) + 1) / 256)
    return table.astype(np.float32)[rgb]

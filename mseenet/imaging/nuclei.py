"""Where the nucleated cells of a field lie, told by colour alone, and fields without them.

For checks of what the network looks at (does it still know the class when every nucleated
cell is gone?), not for counting or measuring cells. No threshold was fitted to outlines
drawn by a person; the mask was judged by eye on fields of many slides.

Chromatin takes up the dyes of a Romanowsky stain so that it absorbs green most, in every
shade from blue-violet to magenta. Red cells of these smears are grey-blue: they absorb red
and green alike, and less. So the measure is the optical density in green beyond the mean
of red and blue, relative to the field's own plasma; the lamp's brightness cancels out.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from mseenet.config import IMAGE_SIZE, SCALE_BAR_CORNER
from mseenet.imaging.decoding import squeeze

LOWEST, HIGHEST = 0.045, 0.08
"""Bounds of Otsu's threshold, in optical density. Red cells rarely reach the lower one;
palely stained nuclei lie just above the upper one, which dark ones beside them would
otherwise push the threshold past."""

CORE = 0.09
"""Optical density that a tenth of a nucleus exceeds. On some slides red cells have a
violet cast that reaches 0.08; the palest nuclei of a field reach 0.10 at least."""

SMALLEST = 60
"""Smallest piece, in pixels of a 224x224 field: a circle of 9 pixels. Small lymphocytes
measure 13 pixels across, platelets and stain precipitate 2 to 7."""

SMALLEST_AT_SCALE_BAR = 150
"""The same for pieces that lie in the scale bar's corner altogether: its lettering makes
pieces of up to 110 pixels."""

RIM = 5
"""How far cells reach beyond the mask, in pixels of 224: cytoplasm and blurred edges."""

PROBABLE, CLEAR = (100, 0.08, 0), (200, 0.10, 6)
"""Least size in pixels of 224, least mean optical density (green beyond red and blue), and
least radius of the largest circle inside, of pieces of the mask that probably are nucleated
cells, and of those that clearly are."""

_BEYOND = (np.array([0.5, -1.0, 0.5]) / np.log(10)).astype(np.float32)
"""From natural logarithms of red, green and blue to the optical density in green beyond the
mean of red and blue."""

WASHED_OUT = 0.7
"""Proportion of the optical density that is lost where all of a field is white, 255 in green:
overexposure clips plasma first and then the nuclei's red and blue. It falls to 0 for fields half
of which is white; of well-exposed ones less is. Chosen on validation fields at brightness x1.2
and x1.4."""

NEUTRAL = (240, 240, 240)
"""What replaces everything but the nucleated cells: grey, about as bright as plasma."""


def scale_bar_corner(shape: tuple[int, int]) -> np.ndarray:
    """Where a scale bar may be burned in, whose red lettering has a nucleus's colour.

    Args:
        shape: Height and width of the field, in pixels.

    Returns:
        bool (H, W), True in the corner; all False for a field of one or two pixels.
    """
    height, width = shape
    rows, columns = (round(SCALE_BAR_CORNER * side / IMAGE_SIZE) for side in shape)
    corner = np.zeros(shape, bool)
    corner[height - rows :, width - columns :] = True
    return corner


def background_color(rgb: np.ndarray) -> np.ndarray:
    """The colour of the plasma between the cells.

    Args:
        rgb: RGB pixels, uint8 (H, W, 3) in [0, 255].

    Returns:
        RGB, float64 (3,) in [0, 255]: the median of the quarter of pixels that are
        brightest in green, which every stain absorbs. The scale bar's corner is left out.
    """
    outside, green = ~scale_bar_corner(rgb.shape[:2]), rgb[..., 1]
    chosen = np.flatnonzero(outside & (green >= _quantile(green[outside], 0.75)))
    bright = rgb.reshape(-1, 3).take(chosen, axis=0)  # a mask as index would take most of the time
    return np.array([_quantile(channel, 0.5) for channel in bright.T])


def nucleus_mask(rgb: np.ndarray) -> np.ndarray:
    """Finds the nuclei, with most of the cytoplasm of blasts, whose rim is scanty.

    Smudge cells, clumps of platelets and thick stain precipitate may be included. The
    mask is found on the field squeezed to 224x224 and then stretched to its size.

    Args:
        rgb: RGB pixels of one field, uint8 (H, W, 3) in [0, 255].

    Returns:
        bool (H, W). All False in a field that shows no nucleated cell.
    """
    height, width = rgb.shape[:2]
    pieces = _pieces(stain(squeeze(rgb)))
    mask = pieces.kept[pieces.numbers]
    if (height, width) == mask.shape:
        return mask
    return np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))


@dataclass(frozen=True)
class NucleatedCells:
    """How many nucleated cells a field shows, and how surely it shows any.

    Attributes:
        count: Pieces of the mask that are probably nucleated cells; touching cells may count
            as one.
        clear: Those that hardly anything else can be: large, round and dark.
    """

    count: int
    clear: int


@dataclass(frozen=True, eq=False)
class FoundCells:
    """The nucleated cells of a field.

    Attributes:
        cells: How many there are.
        packed: Where they lie, a mask of 224x224 as bits (`numpy.packbits`), read-only uint8
            (6272,); see `unpacked`.
    """

    cells: NucleatedCells
    packed: np.ndarray


def find_cells(rgb: np.ndarray) -> FoundCells:
    """Finds and counts the nucleated cells in one pass.

    Other than the mask of `nucleus_mask`, this one holds only pieces that are counted
    (`count_nucleated_cells`).

    Args:
        rgb: RGB pixels of one field, uint8 (224, 224, 3) in [0, 255].
    """
    excess = stain(rgb)
    pieces = _pieces(excess)
    probable, clear = _judge(excess, pieces, pieces.kept[pieces.numbers])
    packed = np.packbits(probable[pieces.numbers])
    packed.flags.writeable = False
    return FoundCells(NucleatedCells(int(probable.sum()), int(clear.sum())), packed)


def unpacked(packed: np.ndarray) -> np.ndarray:
    """The mask of `FoundCells.packed`, bool (224, 224)."""
    return np.unpackbits(packed).astype(bool).reshape(IMAGE_SIZE, IMAGE_SIZE)


def count_nucleated_cells(rgb: np.ndarray, mask: np.ndarray) -> NucleatedCells:
    """Counts nucleated cells, without platelets, precipitate and violet red cells.

    Where a field has no nucleus, the mask's threshold sinks and takes in what is palest; a
    piece counts only if it is dark enough in itself. The bounds were chosen on fields of the
    dataset and on the same fields without their cells.

    Args:
        rgb: RGB pixels of one field, uint8 (224, 224, 3) in [0, 255].
        mask: Of `nucleus_mask`, bool (224, 224).
    """
    numbers, count = ndimage.label(mask)
    kept = np.arange(count + 1) > 0
    probable, clear = _judge(stain(rgb), _Pieces(numbers, _sizes(numbers, count), kept), mask)
    return NucleatedCells(int(probable.sum()), int(clear.sum()))


class _Pieces(NamedTuple):
    """Connected pieces of a mask: which one each pixel belongs to, int (H, W), 0 for none; how
    large each is, and whether it may be a nucleus, by number, with a 0 and False for none."""

    numbers: np.ndarray
    sizes: np.ndarray
    kept: np.ndarray


def _pieces(excess: np.ndarray) -> _Pieces:
    """What stands out of a field in the colour of a nucleus, by its optical density (H, W)."""
    outside = ~scale_bar_corner(excess.shape)
    mask = excess > np.clip(_otsu(excess[outside]), LOWEST, HIGHEST)
    numbers, count = ndimage.label(_filled(_opened(mask)))
    sizes = _sizes(numbers, count)
    cores = np.bincount(numbers[excess > CORE], minlength=count + 1)
    reaches_out = np.bincount(numbers[outside], minlength=count + 1) > 0
    kept = sizes >= np.where(reaches_out, SMALLEST, SMALLEST_AT_SCALE_BAR)
    return _Pieces(numbers, sizes, kept & (cores >= sizes / 10))


def largest_of_each(values: np.ndarray, numbers: np.ndarray, count: int) -> np.ndarray:
    """The largest value in each piece.

    `scipy.ndimage.maximum` gives the same; it sorts the whole field for it, which takes longer than
    all else that is done with the pieces.

    Args:
        values: Of any dtype (H, W).
        numbers: Which piece each pixel belongs to, int (H, W), 0 for none.
        count: Of pieces; each has a pixel.

    Returns:
        Of the dtype of `values` (count,); the first is of the piece with the number 1.
    """
    inside = numbers > 0
    of_each, pieces = values[inside], numbers[inside] - 1
    largest = np.empty(count, values.dtype)
    largest[pieces] = of_each  # of each piece any of its values, to begin with
    np.maximum.at(largest, pieces, of_each)
    return largest


def _sizes(numbers: np.ndarray, count: int) -> np.ndarray:
    sizes = np.bincount(numbers.ravel(), minlength=count + 1)
    sizes[0] = 0  # what is no piece
    return sizes


def _judge(excess: np.ndarray, pieces: _Pieces, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which pieces are probably nucleated cells, and which clearly are, by number."""
    flat = pieces.numbers.ravel()
    weight = np.bincount(flat, excess.ravel(), minlength=len(pieces.sizes))
    density = weight / np.maximum(pieces.sizes, 1)
    probable, clear = (
        pieces.kept & (pieces.sizes >= smallest) & (density >= palest)
        for smallest, palest, _ in (PROBABLE, CLEAR)
    )
    wide = np.bincount(pieces.numbers[_wide(mask, CLEAR[2])], minlength=len(pieces.sizes)) > 0
    return probable, clear & wide


def stain(field: np.ndarray) -> np.ndarray:
    """Optical density in green beyond the mean of red and blue, relative to the plasma.

    As it would be without overexposure (`WASHED_OUT`).

    Args:
        field: RGB pixels, uint8 (H, W, 3) in [0, 255].

    Returns:
        float32 (H, W), about 0 on plasma, 0.05 to 0.5 on nuclei.
    """
    density = np.log(field.astype(np.float32) + 1) @ _BEYOND
    plasma = np.log(background_color(field) + 1) @ _BEYOND
    white = np.mean(field[..., 1] == 255)
    washed_out = max(0.0, 2 * white - 1)
    excess = (density - np.float32(plasma)) / np.float32(1 - WASHED_OUT * washed_out)
    return ndimage.gaussian_filter(excess, 1.0)  # below the grain of JPEG


def _quantile(values: np.ndarray, proportion: float) -> float:
    """`numpy.quantile` of grey levels, uint8 (N,), from how often each occurs."""
    ranks = np.cumsum(np.bincount(values, minlength=256))
    place = proportion * (ranks[-1] - 1)
    below, above = np.searchsorted(ranks, [np.floor(place), np.ceil(place)], side="right")
    return float(below + (place - np.floor(place)) * (above - below))


def _opened(mask: np.ndarray) -> np.ndarray:
    """Opening by a cross, twice, with nothing beyond the border; faster than scipy's."""
    result = np.pad(mask, 3)
    for combine in (np.logical_and, np.logical_and, np.logical_or, np.logical_or):
        before = result.copy()
        combine(result[1:], before[:-1], out=result[1:])
        combine(result[:-1], before[1:], out=result[:-1])
        combine(result[:, 1:], before[:, :-1], out=result[:, 1:])
        combine(result[:, :-1], before[:, 1:], out=result[:, :-1])
    return result[3:-3, 3:-3]


def _filled(mask: np.ndarray) -> np.ndarray:
    """The mask with its holes, what no way leads to from the border; faster than scipy's."""
    ground, count = ndimage.label(~mask)
    hole = np.ones(count + 1, bool)
    for border in (ground[0], ground[-1], ground[:, 0], ground[:, -1]):
        hole[border] = False
    hole[0] = True  # the mask itself
    return hole[ground]


def _wide(mask: np.ndarray, radius: int) -> np.ndarray:
    """Where the ground is at least so far away as `radius`, in pixels, bool (H, W).

    The same as a distance transform tells, in a fraction of its time.
    """
    height, width = mask.shape
    padded = np.pad(mask, radius, constant_values=True)  # nothing is known beyond the border
    rows = padded[:, radius : radius + width].copy()  # eroded by `reach` to both sides
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


def blank_nuclei(rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Replaces nucleated cells, out to `RIM`, by the colour of the field's own plasma.

    Args:
        rgb: RGB pixels, uint8 (H, W, 3) in [0, 255].
        mask: The result of `nucleus_mask`, bool (H, W).

    Returns:
        RGB pixels, uint8 (H, W, 3) in [0, 255].
    """
    blanked = rgb.copy()
    blanked[with_rim(mask)] = np.round(background_color(rgb))
    return blanked


def paint_over_nuclei(rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Replaces nucleated cells, out to `RIM`, by what surrounds them, smoothed.

    Unlike after `blank_nuclei`, it is hard to see how many cells there were.

    Args:
        rgb: RGB pixels, uint8 (H, W, 3) in [0, 255].
        mask: The result of `nucleus_mask`, bool (H, W), not all True.

    Returns:
        RGB pixels, uint8 (H, W, 3) in [0, 255].
    """
    covered = with_rim(mask)
    if not covered.any():
        return rgb.copy()
    rows, columns = ndimage.distance_transform_edt(
        covered, return_distances=False, return_indices=True
    )
    nearest = rgb[rows, columns].astype(np.float32)
    smooth = ndimage.gaussian_filter(nearest, (2, 2, 0))
    return np.where(covered[..., None], np.round(smooth), rgb).astype(np.uint8)


def blank_background(rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Replaces everything but nucleated cells, out to `RIM`, by `NEUTRAL`.

    Args:
        rgb: RGB pixels, uint8 (H, W, 3) in [0, 255].
        mask: The result of `nucleus_mask`, bool (H, W).

    Returns:
        RGB pixels, uint8 (H, W, 3) in [0, 255], the same outside the cells in every field.
    """
    return np.where(with_rim(mask)[..., None], rgb, np.array(NEUTRAL, np.uint8))


def with_rim(mask: np.ndarray, rim: float = RIM) -> np.ndarray:
    """A mask, wider in every direction; an empty one stays empty.

    Args:
        mask: bool (H, W), of a field of any size.
        rim: By how much, in pixels of 224.
    """
    height, width = mask.shape
    distance = ndimage.distance_transform_edt(
        ~mask, sampling=(IMAGE_SIZE / height, IMAGE_SIZE / width)
    )
    return mask | (distance <= rim) if mask.any() else mask


def _otsu(values: np.ndarray) -> float:
    """The threshold with the largest variance between the two sides (N. Otsu, 1979)."""
    bins, highest = 128, 0.7
    # What is negative falls into bin 0, what is higher into one beyond; neither counts.
    places = (np.clip(values, -highest / bins, highest) * (bins / highest) + 1).astype(np.uint8)
    counts = np.bincount(places.ravel(), minlength=bins + 2)[1 : bins + 1]
    edges = np.linspace(0, highest, bins + 1)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centres)
    difference = sums / np.maximum(below, 1) - (sums[-1] - sums) / np.maximum(above, 1)
    return float(edges[1 + np.argmax(below * above * difference**2)])

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
    pixels = rgb[~scale_bar_corner(rgb.shape[:2])]
    green = pixels[:, 1]
    return np.median(pixels[green >= np.quantile(green, 0.75)], axis=0)


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
    field = squeeze(rgb)
    excess = _excess(field)
    outside = ~scale_bar_corner(excess.shape)

    mask = excess > np.clip(_otsu(excess[outside]), LOWEST, HIGHEST)
    mask = ndimage.binary_fill_holes(ndimage.binary_opening(mask, iterations=2))
    pieces, count = ndimage.label(mask)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    cores = np.bincount(pieces[excess > CORE], minlength=count + 1)
    reaches_out = np.bincount(pieces[outside], minlength=count + 1) > 0
    smallest = np.where(reaches_out, SMALLEST, SMALLEST_AT_SCALE_BAR)
    keep = (sizes >= smallest) & (cores >= sizes / 10)
    keep[0] = False  # the label of everything outside
    mask = keep[pieces]
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


def count_nucleated_cells(rgb: np.ndarray, mask: np.ndarray) -> NucleatedCells:
    """Counts nucleated cells, without platelets, precipitate and violet red cells.

    Where a field has no nucleus, the mask's threshold sinks and takes in what is palest; a
    piece counts only if it is dark enough in itself. The bounds were chosen on fields of the
    dataset and on the same fields without their cells.

    Args:
        rgb: RGB pixels of one field, uint8 (224, 224, 3) in [0, 255].
        mask: Of `nucleus_mask`, bool (224, 224).
    """
    pieces, count = ndimage.label(mask)
    if not count:
        return NucleatedCells(0, 0)
    numbers = np.arange(1, count + 1)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
    density = ndimage.mean(_excess(rgb), pieces, numbers)
    radius = ndimage.maximum(ndimage.distance_transform_edt(mask), pieces, numbers)

    def fitting(bounds: tuple[float, float, float]) -> int:
        smallest, palest, narrowest = bounds
        chosen = (sizes >= smallest) & (density >= palest) & (radius >= narrowest)
        return int(np.sum(chosen))

    return NucleatedCells(fitting(PROBABLE), fitting(CLEAR))


def _excess(field: np.ndarray) -> np.ndarray:
    """Optical density in green beyond the mean of red and blue, float64 (H, W)."""
    density = np.log10((background_color(field) + 1) / (field + 1.0))
    excess = density[..., 1] - (density[..., 0] + density[..., 2]) / 2
    return ndimage.gaussian_filter(excess, 1.0)  # below the grain of JPEG and chromatin


def blank_nuclei(rgb: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Replaces nucleated cells, out to `RIM`, by the colour of the field's own plasma.

    Args:
        rgb: RGB pixels, uint8 (H, W, 3) in [0, 255].
        mask: The result of `nucleus_mask`, bool (H, W).

    Returns:
        RGB pixels, uint8 (H, W, 3) in [0, 255].
    """
    blanked = rgb.copy()
    blanked[_with_rim(mask)] = np.round(background_color(rgb))
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
    covered = _with_rim(mask)
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
    return np.where(_with_rim(mask)[..., None], rgb, np.array(NEUTRAL, np.uint8))


def _with_rim(mask: np.ndarray) -> np.ndarray:
    """The mask, wider by `RIM` in every direction, at any size of the field."""
    height, width = mask.shape
    distance = ndimage.distance_transform_edt(
        ~mask, sampling=(IMAGE_SIZE / height, IMAGE_SIZE / width)
    )
    return mask | (distance <= RIM) if mask.any() else mask


def _otsu(values: np.ndarray) -> float:
    """The threshold with the largest variance between the two sides (N. Otsu, 1979)."""
    counts, edges = np.histogram(values, bins=128, range=(0, 0.7))
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centres)
    difference = sums / np.maximum(below, 1) - (sums[-1] - sums) / np.maximum(above, 1)
    return float(edges[1 + np.argmax(below * above * difference**2)])

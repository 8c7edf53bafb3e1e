"""How a field looks, in numbers: its stain, light, size of cells and sharpness.

What laboratories differ in, as far as a field squeezed to 224x224 shows it. The numbers of one
field are compared with those of the training fields, and of many fields they say how a
laboratory's colours have to be changed to look like those of training.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from mseenet.config import IMAGE_SIZE
from mseenet.imaging.nuclei import (
    find_cells,
    largest_of_each,
    scale_bar_corner,
    unpacked,
    with_rim,
)
from mseenet.imaging.quality import sharpness_of

MEASURES = {
    "light": "brightness of the plasma, grey level",
    "tint": "red over blue of the plasma, logarithm to the base of 2",
    "falloff": "brightness of the plasma near the corners over that in the middle",
    "stain": "optical density of the nuclei in green",
    "hue": "optical density of the nuclei in red over that in green",
    "size": "median diameter of the nucleated cells, pixels of 224",
    "sharpness": "fine over coarse detail",
}
"""What is measured of a field, in words with its unit."""

_OUTSIDE = ~scale_bar_corner((IMAGE_SIZE, IMAGE_SIZE))
_PLACE = np.linspace(-1, 1, IMAGE_SIZE)
_RADIUS = np.sqrt(_PLACE[:, None] ** 2 + _PLACE**2)
_MIDDLE = _RADIUS < 0.6
_CORNERS = (_RADIUS > 1.05) & _OUTSIDE


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and covariance of the optical density of some pixels.

    Attributes:
        mean: In red, green and blue, float64 (3,).
        covariance: float64 (3, 3).
    """

    mean: np.ndarray
    covariance: np.ndarray


@dataclass(frozen=True, eq=False)
class Appearance:
    """What is known of one field's look.

    Attributes:
        measures: A number for each of `MEASURES`; NaN for what the field does not show.
        nuclei: Colours of the nucleated cells; None without any.
        rest: Colours of all else, but the rim of the cells and the scale bar's corner.
    """

    measures: dict[str, float]
    nuclei: Moments | None
    rest: Moments


def density_of(rgb: np.ndarray) -> np.ndarray:
    """Optical density, -log10((pixel + 1) / 256), float32 of the same shape, >= 0.

    Args:
        rgb: Pixels in [0, 255], of any shape.
    """
    return _DENSITY[rgb] if rgb.dtype == np.uint8 else -np.log10((rgb + 1.0) / 256)


_DENSITY = (-np.log10((np.arange(256) + 1.0) / 256)).astype(np.float32)


def appearance_of(rgb: np.ndarray) -> Appearance:
    """Measures one field.

    Args:
        rgb: RGB pixels, uint8 (224, 224, 3) in [0, 255].
    """
    mask = unpacked(find_cells(rgb).packed)
    density = density_of(rgb)
    nuclei = _moments(density[mask & _OUTSIDE])
    rest = _moments(density[_OUTSIDE & ~with_rim(mask, 3.0)])
    plasma = _plasma(rgb, _OUTSIDE)
    middle, corners = (_plasma(rgb, where).mean() for where in (_MIDDLE, _CORNERS))
    measures = {
        "light": float(plasma @ (0.299, 0.587, 0.114)),
        "tint": float(np.log2((plasma[0] + 1) / (plasma[2] + 1))),
        "falloff": float((corners + 1) / (middle + 1)),
        "stain": np.nan,
        "hue": np.nan,
        "size": _diameter(mask),
        "sharpness": sharpness_of(rgb),
    }
    if nuclei is not None:
        # Above the plasma's own density, so that the lamp's brightness and colour cancel out.
        above = nuclei.mean - density_of(plasma)
        measures |= {"stain": float(above[1]), "hue": float(above[0] / max(above[1], 0.01))}
    assert rest is not None  # no field is all cells: those that are show none
    return Appearance(measures, nuclei, rest)


def _plasma(rgb: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Colour exceeded by a tenth of some pixels in each channel, float64 (3,)."""
    return np.quantile(rgb[where][::3], 0.9, axis=0).astype(float)


def _moments(density: np.ndarray) -> Moments | None:
    """Of the pixels (n, 3); None for fewer than 50."""
    if len(density) < 50:
        return None
    values = density.astype(np.float64)
    return Moments(values.mean(axis=0), np.cov(values, rowvar=False))


def _diameter(mask: np.ndarray) -> float:
    """Median diameter of the largest circles inside the cells, in pixels.

    Of cells that touch each other a circle holds but one; what the border cuts is left out.
    """
    numbers, count = ndimage.label(mask)
    if not count:
        return float("nan")
    # A piece is at most as far from its outside as from the border that the mask is padded with.
    radii = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    largest = largest_of_each(radii, numbers, count)
    border = np.concatenate([numbers[0], numbers[-1], numbers[:, 0], numbers[:, -1]])
    inside = ~np.isin(np.arange(1, count + 1), border)
    return float(2 * np.median(largest[inside])) if inside.any() else float("nan")

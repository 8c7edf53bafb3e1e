"""A laboratory's colours and size of cells, changed to those of the training fields.

In optical density a stain mixes linearly, a gamma is a factor, and light is an offset; so the
change is an affine one there, after the light's fall towards the corners has been evened out.
Cells of another size are enlarged or reduced at last.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from mseenet.config import IMAGE_SIZE
from mseenet.imaging.appearance import density_of

ZOOM = (0.75, 1.35)
"""Least and largest factor by which cells are enlarged."""

LARGEST = 20.0
"""No entry of a change is larger, in optical density or without unit."""


def surface_terms(side: int = IMAGE_SIZE) -> np.ndarray:
    """What the fall of the light is made of: x, y, x^2, y^2, xy in [-1, 1], (side, side, 5)."""
    place = np.linspace(-1, 1, side, dtype=np.float32)
    x, y = np.meshgrid(place, place)
    return np.stack([x, y, x * x, y * y, x * y], axis=-1)


_TERMS = surface_terms()


@dataclass(frozen=True, eq=False)
class Normalisation:
    """What is done to a field before the network sees it.

    Attributes:
        light: Optical density that is taken away, by terms of `surface_terms` and channel,
            float32 (5, 3).
        matrix: From optical densities of this laboratory to those of training, float32 (3, 3).
        offset: Added then, float32 (3,).
        zoom: Factor by which cells are enlarged, in `ZOOM`.
    """

    light: np.ndarray
    matrix: np.ndarray
    offset: np.ndarray
    zoom: float

    def __post_init__(self):
        arrays = ((self.light, (5, 3)), (self.matrix, (3, 3)), (self.offset, (3,)))
        for array, shape in arrays:
            if array.shape != shape or not (np.abs(array) <= LARGEST).all():
                raise ValueError(
                    f"expected finite numbers of shape {shape}, at most {LARGEST:g}; received "
                    f"{array.shape}"
                )
        if not ZOOM[0] <= self.zoom <= ZOOM[1]:
            raise ValueError(f"expected a zoom in {ZOOM}; received {self.zoom}")

    def recolored(self, rgb: np.ndarray) -> np.ndarray:
        """A field in the colours of training, its cells as they were.

        Args:
            rgb: RGB pixels, uint8 (224, 224, 3) in [0, 255].

        Returns:
            The same kind.
        """
        even = density_of(rgb) - _TERMS @ self.light
        density = np.clip(even @ self.matrix + self.offset, 0, 2.5)
        return np.round(256 * 10.0**-density - 1).clip(0, 255).astype(np.uint8)

    def apply(self, rgb: np.ndarray) -> np.ndarray:
        """A field in the colours of training with cells as large as there.

        Args:
            rgb: RGB pixels, uint8 (224, 224, 3) in [0, 255].

        Returns:
            The same kind: the middle of the field where cells are enlarged, else its borders
            are mirrored.
        """
        return zoomed(self.recolored(rgb), self.zoom)

    def back(self, values: np.ndarray) -> np.ndarray:
        """A map over what `apply` returns, as one over the field that it was given.

        Args:
            values: Such as a heatmap or a mask, float32 or bool (224, 224).

        Returns:
            The same kind; 0 or False where the network did not look.
        """
        if values.dtype == bool:
            return zoomed(values.astype(np.float32), 1 / self.zoom, empty=True) > 0.5
        return zoomed(values, 1 / self.zoom, empty=True)


def zoomed(values: np.ndarray, factor: float, empty: bool = False) -> np.ndarray:
    """Enlarges the middle of a square, or reduces the whole of it.

    Args:
        values: uint8 (S, S, 3), or float32 (S, S).
        factor: Above 1 enlarges.
        empty: Whether 0 surrounds what is reduced, instead of its mirror image.
    """
    side = len(values)
    if factor == 1:
        return values
    if factor > 1:
        margin = (side - side / factor) / 2
        box = (margin, margin, side - margin, side - margin)
        return _resized(values, side, box)
    inner = _resized(values, round(side * factor), None)
    before = (side - len(inner)) // 2
    padding = [(before, side - len(inner) - before)] * 2 + [(0, 0)] * (values.ndim - 2)
    return np.pad(inner, padding, mode="constant" if empty else "reflect")


def _resized(values: np.ndarray, side: int, box: tuple | None) -> np.ndarray:
    image = Image.fromarray(values)
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, box=box))

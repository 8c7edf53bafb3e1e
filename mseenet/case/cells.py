"""The nucleated cells of a case: crops, outlines, and which of them decide.

Only small numbers are kept for each field. Crops and outlines are made when they are shown.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from mseenet.case.answers import counted_answer
from mseenet.case.fields import Field
from mseenet.case.pictures import encoded
from mseenet.config import IMAGE_SIZE
from mseenet.imaging.cells import Cell, crop, outline
from mseenet.imaging.decoding import decode_image
from mseenet.imaging.transplant import separate

DECISIVE = 48
"""So many cells of a class are shown for a case."""

CROP_SIDE = 96
"""Of crops as they are shown, in pixels."""


def decisive_cells(
    fields: Iterable[Field],
    class_name: str,
    limit: int = DECISIVE,
    progress: Callable[[float], None] = lambda part: None,
) -> list[tuple[Field, Cell]]:
    """The cells with the most evidence for a class, in the fields that are called so.

    Evidence is in units that all fields share, summed over the cell. Fields without a chance
    are not looked into: no cell has more than the piece of the mask that it is part of.

    Args:
        fields: Analysed ones.
        class_name: One of `CLASS_NAMES`.
        limit: How many at most.
        progress: Told from time to time which part of the fields, in [0, 1], was looked into. What
            was found is kept with the fields, so that it may end this by an exception.

    Returns:
        Fields and cells, the most decisive first.
    """
    called = [
        field
        for field in fields
        if (answer := counted_answer(field.result)) and answer.class_name == class_name
    ]
    best: list[tuple[Field, Cell]] = []
    for place, field in enumerate(sorted(called, key=lambda field: -field.largest_evidence)):
        if place % 16 == 0:
            progress(place / len(called))
        if len(best) == limit and field.largest_evidence <= best[-1][1].evidence:
            break
        best += [(field, cell) for cell in field.cells if cell.evidence > 0]
        best = sorted(best, key=lambda pair: -pair[1].evidence)[:limit]
    return best


def crops(field: Field, cells: Iterable[Cell]) -> list[np.ndarray]:
    """Squares around cells of one field, from its original picture.

    Args:
        field: A readable one.
        cells: Of it.

    Returns:
        RGB, uint8 (n, n, 3) in [0, 255] each.
    """
    pixels = decode_image(field.content)
    return [crop(pixels, cell).copy() for cell in cells]


def crop_jpeg(pixels: np.ndarray) -> bytes:
    """A crop of `crops` as it is shown, JPEG of `CROP_SIDE` pixels."""
    image = Image.fromarray(pixels).resize((CROP_SIDE, CROP_SIDE), Image.Resampling.BICUBIC)
    return encoded(image, "JPEG", quality=88)


def outlines(field: Field) -> list[np.ndarray]:
    """The lines around the cells of `Field.cells`, in their order, float64 (n, 2) each.

    x and y are in proportion to the field's width and height.
    """
    if not field.cells:
        return []
    numbers = separate(field.nuclei)
    return [outline(numbers, cell) / IMAGE_SIZE for cell in field.cells]


def geojson(field: Field, with_answer: bool = True) -> dict:
    """The outlines as a GeoJSON FeatureCollection, as QuPath reads it.

    Args:
        field: A readable one.
        with_answer: Whether to name the class of the field and each cell's proportion of the
            evidence for it.

    Returns:
        Polygons in pixels of the original picture, upright, or of the larger one that the field was
        cut from; see docs/reference/records.md.
    """
    height, width = decode_image(field.content).shape[:2]
    corner = field.place[:2] if field.place else (0, 0)
    answered = field.result.class_name if with_answer else None
    features = []
    for cell, line in zip(field.cells, outlines(field), strict=True):
        corners = np.round(line * (width, height) + corner, 2).tolist()
        properties = {
            "objectType": "detection",
            "classification": {"name": answered or "Nucleated cell"},
            "class": answered,
            "evidence_share": round(cell.proportion, 6) if answered else None,
            "area": round(cell.area * width * height / IMAGE_SIZE**2, 1),
        }
        features.append(
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [[*corners, corners[0]]]},
                "properties": properties,
            }
        )
    return {"type": "FeatureCollection", "features": features}


@dataclass(frozen=True, eq=False)
class FieldCells:
    """The cells of one field for the exports, made when they are asked for.

    Attributes:
        field: A readable one.
        with_answer: Whether the network's answer is exported too.
    """

    field: Field
    with_answer: bool

    def geojson(self) -> dict:
        """See `geojson`."""
        return geojson(self.field, self.with_answer)

    def crops(self, most: int) -> list[tuple[np.ndarray, float]]:
        """The most decisive cells, RGB uint8 (n, n, 3), and their proportions of the evidence.

        None without an answer.
        """
        chosen = self.field.cells[:most] if self.with_answer else ()
        proportions = [cell.proportion for cell in chosen]
        return list(zip(crops(self.field, chosen) if chosen else [], proportions, strict=True))

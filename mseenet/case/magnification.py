"""What can be done about a field whose cells are of another size than in training."""

import hashlib
from dataclasses import dataclass
from pathlib import PurePosixPath

from PIL import Image

from mseenet.case.fields import Case, Field
from mseenet.case.pictures import encoded
from mseenet.imaging.decoding import decode_image
from mseenet.imaging.quality import SMALLEST_SIDE
from mseenet.inference.scale import is_off


@dataclass(frozen=True)
class Remedy:
    """What can be done, and what cannot.

    Attributes:
        size: Width and height of the central part in which the cells would have the usual size,
            in pixels of the original picture; None where no part of the picture would help.
        words: What is to be said of it.
    """

    size: tuple[int, int] | None
    words: str


def remedy(field: Field) -> Remedy | None:
    """What can be done about the size of the cells.

    Args:
        field: A readable one.

    Returns:
        None for a field whose cells have the usual size, or one that is not known.
    """
    scale = field.result.scale
    if scale is None or not is_off(scale):
        return None
    if scale > 1:
        return Remedy(
            None,
            f"With cells of the usual size the field would show {scale:.2g} x as much in width and "
            "height, and the file has nothing around what is seen. If it was cut out of a larger "
            "picture, add that one; else take the picture with a lower magnification.",
        )
    height, width = decode_image(field.content).shape[:2]
    size = round(width * scale), round(height * scale)
    part = f"central {size[0]} x {size[1]} pixels"
    if min(size) < SMALLEST_SIDE:
        return Remedy(
            None,
            f"In the {part} the cells would have the usual size, but at least {SMALLEST_SIDE} on "
            "each side are needed to show the chromatin. Take the picture with a higher "
            "magnification.",
        )
    return Remedy(
        size,
        f"In the {part} the cells have about the usual size. They can be added as a field of their "
        "own; this one stays as it is. Both count in the case: remove the one that is not to.",
    )


def add_central_part(case: Case, field: Field, size: tuple[int, int]) -> str:
    """Adds the central part of a field to the case, as a field of its own on the same slide.

    What could not be added, such as to a full case, is in `case.problems`; a part that is there
    already in `case.notices`.

    Args:
        case: Holds the field.
        field: A readable one.
        size: Width and height of the part, in pixels of the original picture.

    Returns:
        The part's key, whether it was added or not.
    """
    rgb = decode_image(field.content)
    (width, height), (rows, columns) = size, rgb.shape[:2]
    top, left = (rows - height) // 2, (columns - width) // 2
    part = rgb[top : top + height, left : left + width]
    content = encoded(Image.fromarray(part), "PNG")
    path = PurePosixPath(field.name)
    name = f"{path.with_suffix('')}, central {width} x {height}.png"
    case.take_in([(name, content)], synthetic=field.synthetic)
    key = hashlib.sha256(content).hexdigest()
    added = case.fields.get(key)
    if added is not None and added.slide != field.slide:
        added.slide, added.slide_by_hand = field.slide, True
    return key

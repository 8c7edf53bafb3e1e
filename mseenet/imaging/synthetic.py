"""Rendered images in the manner of a peripheral blood smear (PBS) field.

They contain no pixel of any real image and belong to no class of leukaemia. They serve
as examples in the app, in tests, and for training runs that only try whether all parts
work; what the network says about them means nothing.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from mseenet.config import CLASS_NAMES, IMAGE_SIZE

_SCALE = 2
"""Rendering happens at twice the size, so that reduced edges come out smooth."""


@dataclass(frozen=True)
class FieldStyle:
    """How a rendered field looks; colours are RGB in [0, 255], radii in pixels of 224.

    Attributes:
        title: For a person.
        background: Colour of the empty plasma.
        red_cell: Colour of the rim of red cells.
        nucleus: Colour of the chromatin.
        red_cells: How many red cells.
        nucleated_cells: How many nucleated cells.
        nucleated_radius: Mean radius of nucleated cells.
        blur: Standard deviation of the defocus.
    """

    title: str
    background: tuple[int, int, int]
    red_cell: tuple[int, int, int]
    nucleus: tuple[int, int, int]
    red_cells: int
    nucleated_cells: int
    nucleated_radius: float
    blur: float = 0.6


STYLES = (
    FieldStyle(
        "Mixed cells, warm background", (250, 246, 236), (206, 192, 206), (124, 72, 176), 80, 5, 12
    ),
    FieldStyle(
        "Few cells, pale background", (246, 250, 242), (166, 178, 190), (112, 92, 190), 60, 8, 11.5
    ),
    FieldStyle("Crowded field", (240, 246, 252), (128, 158, 188), (98, 82, 180), 46, 19, 12.5),
    FieldStyle(
        "Rose stain, soft focus", (252, 252, 250), (186, 196, 190), (206, 118, 196), 70, 6, 10, 1.3
    ),
)
"""Four looks that differ in stain, density and focus; which is which class is undefined."""


def render_field(style: FieldStyle, seed: int, size: int = IMAGE_SIZE) -> np.ndarray:
    """Renders one field: uneven light, red cells, nucleated cells, a scale bar.

    Args:
        style: Colours and densities.
        seed: Another seed places other cells.
        size: Height and width, in pixels.

    Returns:
        RGB pixels, uint8 (size, size, 3) in [0, 255]; the same for the same arguments.
    """
    rng = np.random.default_rng(seed)
    unit = size * _SCALE / 224  # rendered pixels for one pixel of a 224x224 field
    extent = size * _SCALE
    canvas = np.empty((extent, extent, 3))
    canvas[:] = style.background
    canvas += _uneven_light(rng, extent)[..., None]

    for _ in range(style.red_cells):
        radius = rng.normal(7.5, 0.6) * unit
        _draw_red_cell(canvas, rng, rng.uniform(0, extent, 2), radius, style.red_cell)
    centres: list[np.ndarray] = []
    for _ in range(style.nucleated_cells):
        radius = style.nucleated_radius * rng.normal(1, 0.1) * unit
        centre = rng.uniform(0, extent, 2)
        for _ in range(20):  # blasts lie side by side, they rarely overlap
            if all(np.hypot(*(centre - other)) > 1.9 * radius for other in centres):
                break
            centre = rng.uniform(0, extent, 2)
        centres.append(centre)
        _draw_nucleated_cell(canvas, rng, centre, radius, style.nucleus)

    canvas += rng.normal(0, 3.0, canvas.shape)  # sensor noise
    image = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    image = image.filter(ImageFilter.GaussianBlur(style.blur * unit))
    image = image.resize((size, size), Image.Resampling.LANCZOS)
    _draw_scale_bar(image)
    return np.asarray(image)


def example_fields() -> dict[str, np.ndarray]:
    """One field of each style, by file name, for people who have no image at hand."""
    return {
        f"synthetic-{i + 1}.png": render_field(style, seed=900 + i)
        for i, style in enumerate(STYLES)
    }


def write_dataset(folder: Path, per_class: int, seed: int = 0) -> None:
    """Writes a dataset of rendered fields in the folder layout of the real one.

    Each class folder gets one style, so that a working training run can tell the
    classes apart; apart from the folder names it has nothing to do with leukaemia.

    Args:
        folder: Made if missing; gets a folder for each class.
        per_class: Images in each.
        seed: Of the first image.
    """
    for label, (class_name, style) in enumerate(zip(CLASS_NAMES, STYLES, strict=True)):
        class_folder = folder / class_name
        class_folder.mkdir(parents=True, exist_ok=True)
        for i in range(per_class):
            field = render_field(style, seed=seed + 10_000 * label + i)
            Image.fromarray(field).save(class_folder / f"synthetic-{label}-{i + 1:03d}.png")


def _uneven_light(rng: np.random.Generator, extent: int) -> np.ndarray:
    """A tilt and a vignette, grey levels (extent, extent) around -4."""
    y, x = np.mgrid[0:extent, 0:extent] / extent - 0.5
    tilt = rng.uniform(-8, 8, 2)
    return tilt[0] * x + tilt[1] * y - 16 * (x * x + y * y)


def _patch(
    canvas: np.ndarray, centre: np.ndarray, reach: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The part of the canvas within `reach` of a centre, and its offsets from there."""
    extent = canvas.shape[0]
    top, left = np.maximum(0, np.floor(centre - reach)).astype(int)
    bottom, right = np.minimum(extent, np.ceil(centre + reach)).astype(int)
    y, x = np.mgrid[top:bottom, left:right]
    return canvas[top:bottom, left:right], y - centre[0], x - centre[1]


def _blend(patch: np.ndarray, color: np.ndarray, weight: np.ndarray) -> None:
    patch += weight[..., None] * (color - patch)


def _outline(
    rng: np.random.Generator, y: np.ndarray, x: np.ndarray, radius: float, wobble: float
) -> np.ndarray:
    """Distance from the centre in proportion to an irregular outline: 1 on the outline."""
    angle = np.arctan2(y, x)
    border = np.ones_like(angle)
    for order in (2, 3, 4):
        border += wobble / order * rng.normal() * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
    return np.hypot(y, x) / (radius * border)


def _draw_red_cell(
    canvas: np.ndarray,
    rng: np.random.Generator,
    centre: np.ndarray,
    radius: float,
    color: tuple[int, int, int],
) -> None:
    patch, y, x = _patch(canvas, centre, 1.5 * radius)
    distance = _outline(rng, y, x, radius, 0.10)
    body = 1 / (1 + np.exp((distance - 1) * 14))
    pallor = 1 - 0.75 * np.exp(-((distance / 0.5) ** 2))  # a disc thinner in the middle
    shade = np.asarray(color, float) + rng.normal(0, 5)
    _blend(patch, shade, 0.85 * body * pallor)


def _draw_nucleated_cell(
    canvas: np.ndarray,
    rng: np.random.Generator,
    centre: np.ndarray,
    radius: float,
    color: tuple[int, int, int],
) -> None:
    patch, y, x = _patch(canvas, centre, 1.6 * radius)
    shade = np.asarray(color, float) + rng.normal(0, 5, 3)
    cytoplasm = 1 / (1 + np.exp((_outline(rng, y, x, radius, 0.08) - 1) * 18))
    _blend(patch, 0.45 * shade + 0.55 * np.array([226, 222, 246]), 0.9 * cytoplasm)

    shift = rng.normal(0, 0.06 * radius, 2)  # a scanty rim, wider on one side
    nucleus = 1 / (
        1 + np.exp((_outline(rng, y - shift[0], x - shift[1], 0.88 * radius, 0.07) - 1) * 22)
    )
    _blend(patch, shade, 0.92 * nucleus)
    patch += (nucleus * _chromatin(rng, patch.shape[:2], radius))[..., None]


def _chromatin(rng: np.random.Generator, shape: tuple[int, int], radius: float) -> np.ndarray:
    """Clumped texture, grey levels around 0: noise at two grains."""
    texture = np.zeros(shape)
    for grain, strength in ((radius / 3, 9.0), (radius / 8, 6.0)):
        coarse = tuple(max(2, int(np.ceil(side / grain))) for side in shape)
        noise = Image.fromarray(rng.normal(0, strength, coarse).astype(np.float32))
        texture += np.asarray(noise.resize(shape[::-1], Image.Resampling.BICUBIC))
    return texture


def _draw_scale_bar(image: Image.Image) -> None:
    width, height = image.size
    unit = width / 224
    draw = ImageDraw.Draw(image)
    draw.rectangle(
        [width - 30 * unit, height - 15 * unit, width - 6 * unit, height - 5 * unit], fill="white"
    )
    draw.line(
        [width - 27 * unit, height - 8 * unit, width - 9 * unit, height - 8 * unit],
        fill="black",
        width=1,
    )

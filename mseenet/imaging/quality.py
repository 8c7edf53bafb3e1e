"""Is this image fit to be classified? Checks in front of the network.

A finding does not say that the prediction is wrong: it says that the field differs, in a
way that has a name, from those that the network has learned. Except for the resolution,
everything is measured on the field squeezed to 224x224, as the network sees it, and
without the corner of the burned-in scale bar.

Beside each threshold stand the values of the 2,507 training and validation fields of the
random split (seed 0), on which alone it was chosen, and of every fifth of them spoiled as
stated: brightness or contrast times a factor, or blurred by a Gaussian. Thresholds leave
room for brightness times 0.6 to 1.2 and contrast times 0.8 to 1.2, which the network tolerates;
of fields at brightness x1.4 a tenth fails them. Four of them are different where a site profile
has its own (`Thresholds`).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from mseenet.config import IMAGE_SIZE
from mseenet.imaging.decoding import squeeze
from mseenet.imaging.nuclei import background_color, scale_bar_corner
from mseenet.imaging.perturbations import YIQ

SMALLEST_SIDE = 200
"""Shortest side that needs no review, in pixels. Every field of the dataset has 224; at 200
each keeps its sharpness (smallest 0.46, see `SHARPNESS`), at 128 the softest fail it."""

TINY_SIDE = 32
"""Shortest side, in pixels, below which the image is refused: a blast, a tenth of a field
wide, has 3 pixels then, and no nucleus can be seen in it."""

NO_PICTURE = 8.0
"""Range of grey levels (`_GREYS`) below which there is nothing but a plain colour and the
camera's noise, which with a standard deviation of 8 reaches 7. Fields: smallest 55."""

LOW_RANGE = 22.0
"""Range of grey levels between the darkest nuclei and plasma. Fields: smallest 55;
brightness x1.2, 0.5th percentile 30; x1.4, 10th percentile 24, 5th 20; contrast x0.2, median 26,
where nothing looks stained (`STAINED`)."""

DARK = 115.0
"""Grey level that plasma, nearly white when well exposed, exceeds. Fields: smallest 207;
brightness x0.6, smallest 124, which the network answers as well as others; x0.25, largest 64."""

BRIGHT = 254.0
"""Grey level that the darkest twentieth of a field, its cells, stays below. Fields: largest
218; brightness x1.2, 99.8th percentile 250; x1.4, 90th percentile 253, 95th 254.8."""

SHARPNESS = 0.44
"""Ratio of fine to coarse detail (`_sharpness`). Fields: smallest 0.446, 0.5th percentile
0.49; blurred by 2 pixels, median 0.447; by 3 pixels, largest 0.398."""

STAINED = 0.05
"""Optical density of the most chromatin-like half percent of a field (`_stained`). Fields:
smallest 0.058, 0.2nd percentile 0.068; brightness x1.2, 0.5th percentile 0.048; contrast
x0.2, largest 0.041."""

_GREYS = (0.002, 0.05, 0.98)
"""Quantiles of the grey levels for the darkest nuclei (100 pixels, a quarter of one blast,
so that a single cell counts), for the darkest twentieth, and for plasma."""

_LUMA = YIQ[0].astype(np.float32)
_CHROMATIN = np.array([-0.8, 1.0, -0.2])

_INSIDE = ~scale_bar_corner((IMAGE_SIZE, IMAGE_SIZE))
_INSIDE_QUARTER = ~scale_bar_corner((IMAGE_SIZE // 4, IMAGE_SIZE // 4))


@dataclass(frozen=True)
class Thresholds:
    """What a field is compared with, as far as a laboratory may have values of its own.

    Attributes:
        contrast: Smallest range of grey levels, see `LOW_RANGE`.
        dark: Smallest grey level of plasma, see `DARK`.
        sharpness: Smallest ratio of fine to coarse detail, see `SHARPNESS`.
        stained: Smallest optical density of what is most like chromatin, see `STAINED`.
    """

    contrast: float = LOW_RANGE
    dark: float = DARK
    sharpness: float = SHARPNESS
    stained: float = STAINED


SHIPPED = Thresholds()
"""Those that come with the project."""


class Measures(NamedTuple):
    """What is compared with `Thresholds`, by the same names and in the same units."""

    contrast: float
    dark: float
    sharpness: float
    stained: float


@dataclass(frozen=True)
class Finding:
    """Something about an image that speaks against classifying it.

    Attributes:
        name: Which check: "low resolution", "low contrast", "too dark", "too bright",
            "out of focus" or "nothing stained".
        value: What was measured, in the unit of the check's threshold.
        reason: In words, for the person who chose the image.
        severe: The image is to be refused, as there is nothing to classify; otherwise a
            person should look at it.
    """

    name: str
    value: float
    reason: str
    severe: bool = False


def check_quality(
    rgb: np.ndarray,
    original: tuple[int, int] | None = None,
    thresholds: Thresholds = SHIPPED,
) -> tuple[Finding, ...]:
    """Looks for what makes an image unfit to be classified.

    What another finding makes meaningless is not looked for: nothing else in an image that
    is refused, the focus of one that had to be enlarged, or stain where there is too
    little contrast to see it.

    Args:
        rgb: RGB pixels, uint8 (H, W, 3) in [0, 255], with at least one pixel.
        original: Height and width as decoded, if `rgb` was squeezed since.
        thresholds: Of review. What refuses an image, its resolution and overexposure are judged
            alike with any.

    Returns:
        The findings, none for a field like those that the network has learned; one alone
        if it is severe.
    """
    height, width = original or rgb.shape[:2]
    side = float(min(height, width))
    if side < TINY_SIDE:
        reason = f"only {width} x {height} pixels: no cell can be seen"
        return (Finding("low resolution", side, reason, severe=True),)

    field = squeeze(rgb)
    fine = _fine(field)
    darkest, dark, plasma = _greys(fine)
    contrast = plasma - darkest
    if contrast < NO_PICTURE:
        reason = "one plain colour: there is nothing to classify"
        return (Finding("low contrast", contrast, reason, severe=True),)

    findings = []
    if side < SMALLEST_SIDE:
        reason = (
            f"low resolution, {width} x {height} pixels: at least {SMALLEST_SIDE} on each side "
            "are needed to show the chromatin"
        )
        findings.append(Finding("low resolution", side, reason))
    if plasma < thresholds.dark:
        reason = "too dark: the empty plasma should look nearly white"
        findings.append(Finding("too dark", plasma, reason))
    if dark > BRIGHT:
        reason = "overexposed: nearly all of the field, cells included, is white"
        findings.append(Finding("too bright", dark, reason))
    if contrast < thresholds.contrast:
        reason = "low contrast: cells hardly stand out from the plasma"
        findings.append(Finding("low contrast", contrast, reason))
    elif (stained := _stained(field)) < thresholds.stained:
        reason = "no stained nucleus in view: there seem to be only plasma and red cells"
        findings.append(Finding("nothing stained", stained, reason))
    if side >= SMALLEST_SIDE and (sharpness := _sharpness(fine)) < thresholds.sharpness:
        reason = "out of focus: edges of cells and their chromatin are blurred"
        findings.append(Finding("out of focus", sharpness, reason))
    return tuple(findings)


def measured(rgb: np.ndarray) -> Measures:
    """All that `check_quality` compares with thresholds that a laboratory may have of its own.

    Args:
        rgb: RGB pixels, uint8 (224, 224, 3) in [0, 255].
    """
    fine = _fine(rgb)
    darkest, _, plasma = _greys(fine)
    return Measures(plasma - darkest, plasma, _sharpness(fine), _stained(rgb))


def sharpness_of(rgb: np.ndarray) -> float:
    """Ratio of fine to coarse detail, as for `SHARPNESS`.

    Args:
        rgb: RGB pixels, uint8 (224, 224, 3) in [0, 255].
    """
    return _sharpness(_fine(rgb))


def _fine(field: np.ndarray) -> np.ndarray:
    """Grey levels blurred by 1 pixel, as noise is neither detail nor extreme, float32 (224, 224)."""
    return ndimage.gaussian_filter(field @ _LUMA, 1.0, truncate=3)


def _greys(fine: np.ndarray) -> list[float]:
    """Grey levels at the quantiles `_GREYS` of a field from `_fine`."""
    return np.quantile(fine[_INSIDE], _GREYS).tolist()


def _sharpness(fine: np.ndarray) -> float:
    """Standard deviation of the detail from 1 to 2 pixels over that from 2 to 4 pixels.

    Differences of Gaussians; the ratio does not depend on brightness and contrast.

    Args:
        fine: Grey levels of the field blurred by 1 pixel, float32 (224, 224).

    Returns:
        A ratio without unit, 0 for an image without any detail.
    """
    middle = ndimage.gaussian_filter(fine, np.sqrt(2**2 - 1**2), truncate=3)
    coarse = ndimage.gaussian_filter(middle, np.sqrt(4**2 - 2**2), truncate=3)
    band = (middle - coarse)[_INSIDE].std()
    return float((fine - middle)[_INSIDE].std() / band) if band > 0 else 0.0


def _stained(field: np.ndarray) -> float:
    """How chromatin-like the most chromatin-like half percent of the field absorbs.

    Chromatin, blue-violet to magenta, absorbs green more than red; grey-blue red cells
    absorb red as much or more. Of combinations of optical density, green - 0.8 red -
    0.2 blue told fields from fields with blanked nuclei best. Density counts from the
    field's own plasma, so that the lamp's colour and brightness cancel out.

    Args:
        field: RGB pixels, uint8 (224, 224, 3) in [0, 255].

    Returns:
        Optical density, exceeded on 16 blocks of 4x4 pixels: two thirds of one blast.
    """
    blocks = np.asarray(Image.fromarray(field).reduce(4))
    density = np.log10((background_color(blocks) + 1) / (blocks[_INSIDE_QUARTER] + 1.0))
    return float(np.partition(density @ _CHROMATIN, -16)[-16])

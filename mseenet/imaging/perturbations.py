"""What the robustness table does to test images: light, colour, stain, focus, noise, geometry.

Nothing here is drawn at random: the same image always gives the same result, so that two
networks are judged on the same pixels. Every function reads and returns the RGB pixels of
one field, uint8 (224, 224, 3) in [0, 255], and leaves its argument as it is.
"""

import io
from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image
from scipy import ndimage

from mseenet.config import IMAGE_SIZE, SCALE_BAR_CORNER
from mseenet.imaging.decoding import squeeze

YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
"""From RGB to luma and two colour axes, around which hue turns (NTSC's weights)."""

HAEMATOXYLIN, EOSIN = (0.65, 0.70, 0.29), (0.07, 0.99, 0.11)
"""Optical density of the two dyes in red, green and blue (Ruifrok & Johnston, 2001)."""


def brightness(rgb: np.ndarray, factor: float) -> np.ndarray:
    """Multiplies all pixel values, as a lamp or an exposure time does; clipped."""
    return _to_uint8(rgb * float(factor))  # a whole number would wrap around in uint8


def contrast(rgb: np.ndarray, factor: float) -> np.ndarray:
    """Multiplies the distance from the image's mean grey (over pixels and channels)."""
    mean = rgb.mean()
    return _to_uint8((rgb - mean) * factor + mean)


def gamma(rgb: np.ndarray, exponent: float) -> np.ndarray:
    """Raises pixel values, taken as [0, 1], to a power: below 1 brightens mid-tones."""
    return _to_uint8(255 * (rgb / 255) ** exponent)


def hue(rgb: np.ndarray, degrees: float) -> np.ndarray:
    """Turns the colour axes I and Q of YIQ; luma and greys stay as they are."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    return _to_uint8(rgb @ (np.linalg.inv(YIQ) @ turn @ YIQ).T)


def stain(rgb: np.ndarray, factor: float) -> np.ndarray:
    """Makes the blue-violet dye stronger or weaker, as another batch of stain does.

    Optical density is -log10((pixel + 1) / 256). It is split into amounts of
    haematoxylin, of eosin and of a residual at right angles to both; the amount of
    haematoxylin is multiplied, and the sum is turned into pixels again. Blood smears get
    Romanowsky dyes, whose blue lies near haematoxylin: with fixed vectors this is a
    stated change, not an estimate of the slide's own stain.

    Reference:
        A. C. Ruifrok, D. A. Johnston, "Quantification of histochemical staining by color
        deconvolution", Anal. Quant. Cytol. Histol. 23 (2001) 291-299.

    Args:
        rgb: A field, as the module's docstring says.
        factor: Of the amount of haematoxylin; 1 changes nothing.

    Returns:
        A field of the same shape.
    """
    vectors = np.array([HAEMATOXYLIN, EOSIN, np.cross(HAEMATOXYLIN, EOSIN)])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    amounts = -np.log10((rgb + 1.0) / 256) @ np.linalg.inv(vectors)
    amounts[..., 0] *= factor
    return _to_uint8(256 * 10 ** -(amounts @ vectors) - 1)


def blur(rgb: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian defocus with a standard deviation in pixels."""
    blurred = ndimage.gaussian_filter(rgb.astype(np.float32), (sigma, sigma, 0), mode="nearest")
    return _to_uint8(blurred)


def noise(rgb: np.ndarray, deviation: float) -> np.ndarray:
    """Adds Gaussian noise with a standard deviation in grey levels, independent per value.

    Every image gets the same noise, so that a result does not depend on the others.
    """
    drawn = np.random.default_rng(0).standard_normal(rgb.shape)
    return _to_uint8(rgb + deviation * drawn)


def jpeg(rgb: np.ndarray, quality: int) -> np.ndarray:
    """Encodes as JPEG with Pillow's quality, 1 to 95, and decodes again."""
    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


def turn(rgb: np.ndarray, degrees: int) -> np.ndarray:
    """Turns counter-clockwise by a multiple of 90 degrees; no pixel value changes."""
    return np.ascontiguousarray(np.rot90(rgb, degrees // 90))


def mirror(rgb: np.ndarray, axis: int) -> np.ndarray:
    """Swaps left and right (axis 1) or top and bottom (axis 0); no pixel value changes."""
    return np.ascontiguousarray(np.flip(rgb, axis))


def original_shape(rgb: np.ndarray, width: int, height: int) -> np.ndarray:
    """Enlarges to a microscope camera's shape (bicubic) and squeezes again, as an upload."""
    upload = Image.fromarray(rgb).resize((width, height), Image.Resampling.BICUBIC)
    return squeeze(np.asarray(upload), len(rgb))


def magnified(rgb: np.ndarray, factor: float) -> np.ndarray:
    """The field as an objective of another magnification shows it, as far as one can tell.

    Enlarged is the central part. Where a field is reduced, more would be seen around it than is
    known: that is filled with mirror images of the field. What the scale bar covers is replaced
    by the mirror image of what lies to its left, so that the bar is not repeated.

    Args:
        rgb: A field, as the module's docstring says.
        factor: How many times larger the cells get, > 0.

    Returns:
        A field of the same shape; the field itself for a factor of 1.
    """
    if factor == 1:
        return rgb
    side = len(rgb)
    if factor > 1:
        edge = side * (1 - 1 / factor) / 2
        box = (edge, edge, side - edge, side - edge)
        part = Image.fromarray(rgb).resize((side, side), Image.Resampling.BICUBIC, box)
        return np.asarray(part)
    corner = round(SCALE_BAR_CORNER * side / IMAGE_SIZE)
    filled = rgb.copy()
    filled[-corner:, -corner:] = rgb[-corner:, -2 * corner : -corner][:, ::-1]
    small = squeeze(filled, round(side * factor))
    before = (side - len(small)) // 2
    after = side - len(small) - before
    return np.pad(small, ((before, after), (before, after), (0, 0)), mode="symmetric")


MAGNIFICATIONS = (0.5, 0.67, 0.8, 1.0, 1.25, 1.5, 2.0)
"""Factors of `magnified` that the reports measure."""


PERTURBATIONS: dict[str, dict[str, Callable[[np.ndarray], np.ndarray]]] = {
    "brightness": {f"x{f}": partial(brightness, factor=f) for f in (0.6, 0.8, 1.2, 1.4)},
    "contrast": {f"x{f}": partial(contrast, factor=f) for f in (0.6, 0.8, 1.2, 1.4)},
    "gamma": {f"{e}": partial(gamma, exponent=e) for e in (0.7, 0.85, 1.2, 1.4)},
    "hue": {f"{d:+d} degrees": partial(hue, degrees=d) for d in (-20, -10, 10, 20)},
    "stain shift": {f"x{f}": partial(stain, factor=f) for f in (0.7, 0.85, 1.15, 1.3)},
    "blur": {f"sigma {s} px": partial(blur, sigma=s) for s in (0.5, 1.0, 1.5, 2.0)},
    "noise": {f"sd {d} grey levels": partial(noise, deviation=d) for d in (5, 10, 20)},
    "JPEG": {f"quality {q}": partial(jpeg, quality=q) for q in (80, 60, 40, 20)},
    "turned": {
        **{f"{d} degrees": partial(turn, degrees=d) for d in (90, 180, 270)},
        "left-right": partial(mirror, axis=1),
        "upside down": partial(mirror, axis=0),
    },
    "original shape": {
        f"{w} x {h}": partial(original_shape, width=w, height=h)
        for w, h in ((512, 384), (1024, 768), (2048, 1536))
    },
}
"""For each kind of change, in the table's order: severity -> function of one field."""


def _to_uint8(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)

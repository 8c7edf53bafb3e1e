"""From samples of any depth, with or without transparency, to 8-bit RGB. Nothing is guessed.

White is what the format or its metadata says, never the image's own maximum.
"""

import functools

import numpy as np
from PIL import Image

from mseenet.imaging.errors import (
    EmptyImageError,
    ImageTooLargeError,
    NotAnImageError,
    OwnOverlayError,
    UnclearPixelsError,
)
from mseenet.imaging.formats import OVERLAY_SOFTWARE

MAX_PIXELS = 64_000_000
"""Largest image decoded, in pixels: three times a 20-megapixel microscope camera."""

SAVE_INSTEAD = "save it as a PNG or TIFF with 8 bits per channel, in RGB"
"""What to do with an image that is sound but unclear."""

_FULL = 65535

_SPARSE = 2**14
"""16-bit images with all values below this come from cameras of 10, 12 or 14 bits, or are
nearly black; which, their pixels do not say."""

_FAINT = 16
"""Of 255: an opacity below this everywhere hides the whole picture."""


def check_size(width: int, height: int) -> None:
    """Refuses what has no pixels or too many, before they are decoded.

    Raises:
        EmptyImageError, ImageTooLargeError: As their names say.
    """
    if width < 1 or height < 1:
        raise EmptyImageError(f"expected an image, got {width} x {height} pixels")
    if width * height > MAX_PIXELS:
        raise ImageTooLargeError(too_large(f"{width:,} x {height:,}"))


def too_large(received: str) -> str:
    """The sentence for an image beyond `MAX_PIXELS`."""
    return (
        f"expected at most {MAX_PIXELS // 1_000_000} million pixels, got {received}; scans of whole "
        "slides are read by `mseenet predict`"
    )


def check_not_overlay(software: object) -> None:
    """Refuses this project's own pictures, which carry `OVERLAY_SOFTWARE`.

    Raises:
        OwnOverlayError: As its name says.
    """
    if software == OVERLAY_SOFTWARE:
        raise OwnOverlayError(
            "expected a field, got a picture that MSEENet made of a field and its heatmap"
        )


def eight_bits(samples: np.ndarray, white: int = _FULL) -> np.ndarray:
    """Scales samples of up to 16 bits to 8 bits.

    Args:
        samples: uint16 of any shape, in [0, white].
        white: The value that is white. 65535 is the range of 16 bits, and stands for an
            unknown one unless the samples use it.

    Returns:
        uint8 of the same shape, in [0, 255], rounded to the nearest.

    Raises:
        UnclearPixelsError: Samples beyond `white`, or samples so far below 65535 that they
            may come from a camera of fewer bits.
    """
    largest = int(samples.max(initial=0))
    if largest > white:
        raise UnclearPixelsError(
            f"expected samples up to {white:,}, as the file states, got {largest:,}; {SAVE_INSTEAD}"
        )
    if white == _FULL and 0 < largest < _SPARSE:
        raise UnclearPixelsError(unclear_range(largest))
    return _scale(white)[samples]


def check_high_bytes(samples: np.ndarray) -> None:
    """Like `eight_bits`, for 16-bit samples of which a library kept only the high bytes.

    Args:
        samples: uint8 of any shape.

    Raises:
        UnclearPixelsError: They may come from a camera of fewer bits.
    """
    largest = int(samples.max(initial=0)) * 256 + 255
    if largest < _SPARSE:
        raise UnclearPixelsError(unclear_range(largest))


def unclear_range(largest: int) -> str:
    """The sentence for 16-bit samples that do not use 16 bits."""
    return (
        "expected 16-bit samples that use the range up to 65,535 (white), got none above "
        f"{largest:,} ({largest.bit_length()} bits), as cameras of fewer bits write them, and no "
        f"statement of where white lies; {SAVE_INSTEAD}"
    )


def flatten(image: Image.Image) -> np.ndarray:
    """Lays an image over white.

    An opacity of zero everywhere says nothing about the picture (programs leave the
    channel empty), and the colours are taken as they are.

    Args:
        image: 8-bit, of any mode that Pillow converts to RGB.

    Returns:
        RGB pixels, uint8 (H, W, 3) in [0, 255].

    Raises:
        UnclearPixelsError: The opacity nowhere reaches 16 of 255, but is not zero.
    """
    if image.mode in ("La", "RGBa"):  # premultiplied; Pillow converts them to these alone
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        opacity = int(np.asarray(image.getchannel("A")).max())
        check_opacity(opacity)
        if opacity:
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
    return np.asarray(image.convert("RGB"))


def check_opacity(largest: int) -> None:
    """Refuses a picture that is hidden but for a trace.

    Args:
        largest: The largest opacity, in [0, 255].

    Raises:
        UnclearPixelsError: It is in [1, 15].
    """
    if 0 < largest < _FAINT:
        raise UnclearPixelsError(
            f"expected a visible picture, got opacity of at most {largest} of 255 everywhere; "
            "save it without transparency"
        )


def rgb_from_array(array: np.ndarray) -> np.ndarray:
    """Turns an array of pixels into RGB.

    Args:
        array: (H, W), (H, W, 3) or (H, W, 4) of dtype uint8 in [0, 255] or uint16 in
            [0, 65535]; channels are R, G, B, opacity.

    Returns:
        RGB pixels, uint8 (H, W, 3) in [0, 255].

    Raises:
        ImageError: One of its subclasses, by what is wrong.
    """
    if array.size == 0:
        raise EmptyImageError(f"expected an image, got an empty array of shape {array.shape}")
    if array.dtype not in (np.uint8, np.uint16):
        raise NotAnImageError(
            "expected an array of dtype uint8 in [0, 255] or uint16 in [0, 65535]; "
            f"received {array.dtype}"
        )
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise NotAnImageError(
            f"expected an array of shape (H, W), (H, W, 3) or (H, W, 4); received {array.shape}"
        )
    check_size(array.shape[1], array.shape[0])
    if array.dtype == np.uint16:
        array = scaled_with_opacity(array)
    if array.ndim == 3 and array.shape[2] == 3:
        return np.ascontiguousarray(array)
    return flatten(Image.fromarray(array))


def scaled_with_opacity(samples: np.ndarray, white: int = _FULL) -> np.ndarray:
    """`eight_bits` of an image whose fourth channel, if any, is opacity, which is never unclear.

    Args:
        samples: uint16 (H, W), (H, W, 3) or (H, W, 4).
        white: As in `eight_bits`, for the colours.

    Returns:
        uint8 of the same shape.
    """
    if samples.ndim == 2 or samples.shape[2] == 3:
        return eight_bits(samples, white)
    colors, opacity = samples[..., :3], samples[..., 3:]
    return np.concatenate([eight_bits(colors, white), _scale(_FULL)[opacity]], axis=2)


@functools.cache
def _scale(white: int) -> np.ndarray:
    """8-bit value of each 16-bit one, uint8 (65536,): a table costs no wide copy of the image."""
    levels = np.arange(_FULL + 1)
    return np.minimum(np.round(levels * (255 / white)), 255).astype(np.uint8)

"""From whatever a user hands over to the RGB pixels that the network reads.

Training, the command line and the app all come through here, so that an image is
decoded and resized in one way only.
"""

import contextlib
import io
import os
import re
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mseenet.config import IMAGE_SIZE
from mseenet.errors import MSEENetError

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
"""Formats that are decoded; Pillow knows many more, and each one is attack surface."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
"""File name endings, in lower case, that a folder is searched for."""

MAX_PIXELS = 64_000_000
"""Largest image decoded, in pixels: three times a 20-megapixel microscope camera."""

ImageSource = bytes | str | os.PathLike | BinaryIO | Image.Image | np.ndarray

# Pillow also warns, over several lines, of sizes below its own limit and of damaged tags;
# what matters of that, this module raises.
warnings.filterwarnings("ignore", module=r"PIL\b")


class ImageError(MSEENetError):
    """This image cannot be used; the message says why, for the person who chose it."""


class UnreadableFileError(ImageError):
    """The file does not exist, is a folder, or may not be read."""


class NotAnImageError(ImageError):
    """The content is not an image in one of `FORMATS`, or holds no usable pixels."""


class EmptyImageError(ImageError):
    """There is no content at all."""


class TruncatedImageError(ImageError):
    """The image begins well, but its data ends early or is damaged."""


class ImageTooLargeError(ImageError):
    """The image has more than `MAX_PIXELS` pixels."""


class AnimatedImageError(ImageError):
    """The file holds several frames or pages, and which one is meant is not known."""


def decode_image(source: ImageSource) -> np.ndarray:
    """Decodes one image to RGB.

    The EXIF orientation is applied, transparency is flattened on white, and palette,
    grey, CMYK and 16-bit images are converted (16 bits by their full range: 65535 is
    white).

    Args:
        source: Encoded bytes, a path, a binary file object, a PIL image, or an array
            (H, W), (H, W, 3) or (H, W, 4) of dtype uint8 in [0, 255] or uint16 in
            [0, 65535]; channels are R, G, B, alpha.

    Returns:
        RGB pixels, uint8 (H, W, 3) in [0, 255].

    Raises:
        ImageError: One of its subclasses, by what is wrong.
    """
    if isinstance(source, np.ndarray):
        return _rgb_from_array(source)
    if isinstance(source, Image.Image):
        _check_size(source.size)
        with _damage_named():  # what was only opened is read now
            source.load()
        return _rgb_from_pil(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return _decode_stream(io.BytesIO(source))
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        with _unreadable_named(), path.open("rb") as stream:
            return _decode_stream(stream)
    if hasattr(source, "read"):
        with _unreadable_named():
            return _decode_stream(source)
    raise NotAnImageError(
        "expected encoded bytes, a path, a binary file, a PIL image or an array; "
        f"received {type(source).__name__}"
    )


def squeeze(rgb: np.ndarray, size: int = IMAGE_SIZE) -> np.ndarray:
    """Resizes to a square without keeping the aspect ratio, as the dataset was made.

    The dataset's 224x224 files are 1024x768 fields squeezed to a square; of Pillow's
    filters its antialiased BILINEAR comes closest to how that was done.

    Args:
        rgb: RGB pixels, uint8 (H, W, 3) in [0, 255].
        size: Height and width of the result, in pixels.

    Returns:
        RGB pixels, uint8 (size, size, 3) in [0, 255]; `rgb` itself if it fits already.
    """
    if rgb.shape[:2] == (size, size):
        return rgb
    image = Image.fromarray(rgb).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image)


def load_image(source: ImageSource, size: int = IMAGE_SIZE) -> np.ndarray:
    """Decodes and squeezes one image: what the network reads, uint8 (size, size, 3)."""
    return squeeze(decode_image(source), size)


def _decode_stream(stream: BinaryIO) -> np.ndarray:
    stream.seek(0)  # what was written just now ends where the stream stands
    if not stream.read(1):
        raise EmptyImageError("expected an image, got an empty file (0 bytes)")
    stream.seek(0)
    try:
        image = Image.open(stream, formats=FORMATS)
    except Image.DecompressionBombError as error:
        (count,) = re.findall(r"\((\d+) pixels\)", str(error)) or ["many more"]
        raise ImageTooLargeError(_too_large(count)) from error
    except UnidentifiedImageError as error:
        raise NotAnImageError(
            f"expected an image ({', '.join(FORMATS)}), got content of another kind"
        ) from error
    except Exception as error:  # Pillow's parsers raise anything on damaged headers
        raise TruncatedImageError(
            f"expected a whole image, got a damaged header ({error})"
        ) from error
    with image:
        _check_size(image.size)
        with _damage_named():  # of a TIFF, counting the pages reads their headers
            # MPO is a phone's still JPEG with a preview or depth map behind it.
            frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        if frames > 1:
            raise AnimatedImageError(
                f"expected a single image, got {frames} frames or pages; save the one you mean"
            )
        with _damage_named():
            image.load()
        return _rgb_from_pil(image)


@contextlib.contextmanager
def _unreadable_named():
    """Makes an `ImageError` of a path or a stream that cannot be read from its start."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a closed stream, a NUL in the path
        raise UnreadableFileError(
            f"expected a readable image file, got: {getattr(error, 'strerror', None) or error}"
        ) from error


@contextlib.contextmanager
def _damage_named():
    """Makes of whatever Pillow's parsers raise on damaged data an `ImageError`."""
    try:
        yield
    except Exception as error:
        raise TruncatedImageError(
            f"expected a whole image, got truncated or damaged data ({error})"
        ) from error


def _rgb_from_pil(image: Image.Image) -> np.ndarray:
    with contextlib.suppress(Exception):  # a damaged EXIF block says nothing about the pixels
        image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise NotAnImageError(
            "expected 8 or 16 bits per channel, got 32-bit floating point of unknown range"
        )
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise NotAnImageError(
                "expected 8 or 16 bits per channel, got integers in "
                f"[{values.min()}, {values.max()}]"
            )
        return _rgb_from_array(values.astype(np.uint16))
    if image.mode == "La":  # premultiplied; Pillow converts it to this mode alone
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.asarray(image.convert("RGB"))


def _rgb_from_array(array: np.ndarray) -> np.ndarray:
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
    _check_size((array.shape[1], array.shape[0]))
    if array.dtype == np.uint16:
        array = np.round(array / 257.0).astype(np.uint8)  # 65535 / 255 = 257
    if array.ndim == 3 and array.shape[2] == 3:
        return np.ascontiguousarray(array)
    return _rgb_from_pil(Image.fromarray(array))


def _check_size(size: tuple[int, int]) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise EmptyImageError(f"expected an image, got {width} x {height} pixels")
    if width * height > MAX_PIXELS:
        raise ImageTooLargeError(_too_large(f"{width:,} x {height:,}"))


def _too_large(received: str) -> str:
    return f"expected at most {MAX_PIXELS // 1_000_000} million pixels, got {received}"

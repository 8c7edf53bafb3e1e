"""From whatever a user hands over to the RGB pixels that the network reads.

Training, the command line and the app all come through here, so that an image is
decoded and resized in one way only. What is accepted, and how each layout is read, stands
in docs/reference/image-formats.md.
"""

import contextlib
import io
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from mseenet.config import IMAGE_SIZE
from mseenet.imaging import formats
from mseenet.imaging.errors import (
    AnimatedImageError,
    EmptyImageError,
    ImageError,
    ImageTooLargeError,
    NotAnImageError,
    OwnOverlayError,
    TruncatedImageError,
    UnclearPixelsError,
    UnreadableFileError,
)
from mseenet.imaging.formats import SUFFIXES
from mseenet.imaging.pixels import (
    MAX_PIXELS,
    SAVE_INSTEAD,
    check_high_bytes,
    check_not_overlay,
    check_size,
    eight_bits,
    flatten,
    rgb_from_array,
    too_large,
)
from mseenet.imaging.tiff import damage_named, decode_tiff, is_planar_16_bit

__all__ = [
    "MAX_PIXELS",
    "SUFFIXES",
    "AnimatedImageError",
    "EmptyImageError",
    "ImageError",
    "ImageSource",
    "ImageTooLargeError",
    "NotAnImageError",
    "OwnOverlayError",
    "TruncatedImageError",
    "UnclearPixelsError",
    "UnreadableFileError",
    "decode_image",
    "load_image",
    "squeeze",
    "unreadable_named",
]

ImageSource = (
    bytes | bytearray | memoryview | str | os.PathLike | BinaryIO | Image.Image | np.ndarray
)

# Pillow also warns, over several lines, of sizes below its own limit and of damaged tags;
# what matters of that, this module raises.
warnings.filterwarnings("ignore", module=r"PIL\b")


def decode_image(source: ImageSource) -> np.ndarray:
    """Decodes one image to RGB.

    The EXIF orientation is applied, transparency is flattened on white, and palette,
    grey, CMYK and 16-bit images are converted (16 bits by their full range: 65535 is
    white). What the pixels mean is never guessed: an image whose colours its format does
    not state is refused.

    Args:
        source: Encoded bytes, a path, a binary file object, a PIL image, or an array
            (H, W), (H, W, 3) or (H, W, 4) of dtype uint8 in [0, 255] or uint16 in
            [0, 65535]; channels are R, G, B, opacity.

    Returns:
        RGB pixels, uint8 (H, W, 3) in [0, 255].

    Raises:
        ImageError: One of its subclasses, by what is wrong.
    """
    if isinstance(source, np.ndarray):
        return rgb_from_array(source)
    if isinstance(source, Image.Image):
        check_size(*source.size)
        if is_planar_16_bit(source):
            raise UnclearPixelsError(
                "expected the file, not an opened PIL image, of a TIFF with 16 bits in separate "
                "planes, which Pillow confuses"
            )
        deep = _is_deep(source)
        with damage_named():  # what was only opened is read now
            source.load()
        return _rgb_from_pil(source, deep)
    if isinstance(source, bytes | bytearray | memoryview):
        return _decode_stream(io.BytesIO(source))
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        with unreadable_named(), path.open("rb") as stream:
            return _decode_stream(stream)
    if hasattr(source, "read") and not isinstance(source, io.TextIOBase):
        with unreadable_named():
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
    head = stream.read(2 * formats.HEAD + 4)
    stream.seek(0)
    if not head:
        raise EmptyImageError("expected an image, got an empty file (0 bytes)")
    image_format = formats.identify(head)
    if image_format is None:
        raise NotAnImageError(
            f"expected an image ({formats.FORMAT_NAMES}), got {formats.name_other(head)}; "
            "save the field as one of these"
        )
    if image_format is formats.TIFF:
        return decode_tiff(stream)
    with _open(stream, image_format) as image:
        check_size(*image.size)
        with damage_named():
            # MPO is a phone's still JPEG with a preview or depth map behind it.
            frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        if frames > 1:
            raise AnimatedImageError(
                f"expected a single image, got {frames} frames or pages; save the one you mean"
            )
        deep = _is_deep(image)
        with damage_named():
            image.load()
        check_size(*image.size)  # HEIC: known for sure only now
        return _rgb_from_pil(image, deep)


def _open(stream: BinaryIO, image_format: formats.Format) -> Image.Image:
    """Reads the headers of any format but TIFF."""
    try:
        if image_format is formats.HEIC:
            from pillow_heif import HeifImageFile  # 25 MB of libraries that few need

            return HeifImageFile(stream)
        return Image.open(stream, formats=image_format.pillow)
    except Image.DecompressionBombError as error:
        (count,) = re.findall(r"\((\d+) pixels\)", str(error)) or ["many more"]
        raise ImageTooLargeError(too_large(count)) from error
    except Exception as error:  # parsers raise anything on damaged headers
        if image_format is formats.JPEG and (process := _unusual_jpeg(stream)):
            raise UnclearPixelsError(
                f"expected a JPEG of 8 bits, got {process}; {SAVE_INSTEAD}"
            ) from error
        raise TruncatedImageError(
            f"expected a whole image, got a damaged {image_format.name} header ({error})"
        ) from error


def _unusual_jpeg(stream: BinaryIO) -> str:
    """What a JPEG is that Pillow does not open, by its frame header (ITU-T T.81, B.2.2)."""
    stream.seek(0)
    content = stream.read(2**20)
    position = 2
    while content[position : position + 1] == b"\xff" and position + 5 <= len(content):
        marker = content[position + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            bits = content[position + 4]
            return f"{bits} bits per channel" if bits != 8 else ""
        position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return ""


@contextlib.contextmanager
def unreadable_named() -> Iterator[None]:
    """Turns errors of a path or a stream that cannot be read from its start into an `ImageError`."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a closed stream, a NUL in the path
        raise UnreadableFileError(
            f"expected a readable image file, got: {getattr(error, 'strerror', None) or error}"
        ) from error


def _is_deep(image: Image.Image) -> bool:
    """Whether an image that is not loaded yet has 16 bits, of which Pillow may keep the high 8."""
    return any(";16" in str(tile.args) for tile in getattr(image, "tile", ()))


def _rgb_from_pil(image: Image.Image, deep: bool = False) -> np.ndarray:
    check_not_overlay(image.info.get("Software"))
    with contextlib.suppress(Exception):  # a damaged EXIF block says nothing about the pixels
        image = ImageOps.exif_transpose(image)
    if image.mode in ("F", "I"):
        kind = "floating point" if image.mode == "F" else "integers"
        raise UnclearPixelsError(
            f"expected 8 or 16 bits per channel, got 32-bit {kind}, whose white is not stated; "
            f"{SAVE_INSTEAD}"
        )
    if (deep or image.mode.startswith("I;16")) and "transparency" in image.info:
        raise UnclearPixelsError(
            f"expected 8 bits per channel with a transparent colour, got 16; {SAVE_INSTEAD}"
        )
    if image.mode.startswith("I;16"):
        return rgb_from_array(eight_bits(np.asarray(image).astype(np.uint16)))
    if deep:
        colors = image.convert("RGB") if image.mode == "RGBA" else image
        check_high_bytes(np.asarray(colors.getchannel(0) if image.mode == "LA" else colors))
    with damage_named():
        return flatten(image)

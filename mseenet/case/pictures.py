"""Encoded pictures, made in memory."""

import io

from PIL import Image


def encoded(image: Image.Image, image_format: str, **options) -> bytes:
    """The pixels alone, without metadata, in an image format of Pillow's."""
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()

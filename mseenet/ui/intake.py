"""Where images come in: uploads, and rendered examples for people without any."""

import hashlib
import io
from dataclasses import dataclass

import streamlit as st
from PIL import Image

from mseenet.images import SUFFIXES
from mseenet.synthetic import example_fields
from mseenet.ui import words


@dataclass(frozen=True)
class Upload:
    """One image as the user handed it over.

    Attributes:
        name: File name, for display only.
        content: Encoded bytes.
        key: SHA-256 of the content, in hex; equal content has equal results.
        synthetic: Whether this project rendered it.
    """

    name: str
    content: bytes
    key: str
    synthetic: bool = False


def take_in() -> list[Upload]:
    """Draws the uploader and the switch for examples; returns all images, uploads first."""
    files = st.file_uploader(
        "Peripheral blood smear fields",
        type=[suffix.lstrip(".") for suffix in SUFFIXES],
        accept_multiple_files=True,
        help="Whole fields at 100x magnification, as in the training data; PNG, JPEG, TIFF, BMP or WebP.",
        key="files",
    )
    left, right = st.columns([3, 2], vertical_alignment="center")
    left.caption(
        f"{words.PRIVACY} Any size is accepted; each field is squeezed to 224 x 224 pixels."
    )
    with right.container(horizontal=True, horizontal_alignment="right"):
        examples = st.toggle(
            "Show synthetic examples",
            key="examples",
            help="Four fields rendered by a program, to try the page without an image.",
        )
    uploads = [_upload(file.name, file.getvalue()) for file in files]
    return uploads + (_examples() if examples else [])


def _upload(name: str, content: bytes, synthetic: bool = False) -> Upload:
    return Upload(name, content, hashlib.sha256(content).hexdigest(), synthetic)


@st.cache_data(show_spinner="Rendering examples ...")
def _examples() -> list[Upload]:
    uploads = []
    for name, rgb in example_fields().items():
        buffer = io.BytesIO()
        Image.fromarray(rgb).save(buffer, format="PNG")
        uploads.append(_upload(name, buffer.getvalue(), synthetic=True))
    return uploads

"""Which file is an image, told by its first bytes; endings are for file pickers only.

A file keeps its format whatever it is called: phones write JPEG as `.jfif` or without any
ending, and a text file may be called `.png`.
"""

import os
from dataclasses import dataclass
from pathlib import Path

HEAD = 64
"""How many bytes from the start of a file `identify` and `name_other` need."""

OVERLAY_SOFTWARE = "MSEENet overlay"
"""Value of the text "Software" (PNG chunk, TIFF tag 305) in every picture that this project
makes of a field and a heatmap. `decode_image` refuses what carries it."""


@dataclass(frozen=True)
class Format:
    """A format that is decoded.

    Attributes:
        name: As people call it.
        suffixes: Endings of file names, in lower case, the usual one first.
        pillow: What Pillow calls it; empty if Pillow does not open it.
    """

    name: str
    suffixes: tuple[str, ...]
    pillow: tuple[str, ...] = ()


PNG = Format("PNG", (".png",), ("PNG",))
JPEG = Format("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), ("JPEG",))
TIFF = Format("TIFF", (".tif", ".tiff"), ("TIFF",))
BMP = Format("BMP", (".bmp",), ("BMP",))
WEBP = Format("WebP", (".webp",), ("WEBP",))
HEIC = Format("HEIC", (".heic", ".heif", ".hif"))

FORMATS = (PNG, JPEG, TIFF, BMP, WEBP, HEIC)
"""Formats that are decoded. Libraries know many more, and each one is attack surface."""

FORMAT_NAMES = ", ".join(image_format.name for image_format in FORMATS)
"""For messages."""

SUFFIXES = tuple(suffix for image_format in FORMATS for suffix in image_format.suffixes)
"""Endings of file names, in lower case, for file pickers."""

STARTS = {
    b"\x89PNG\r\n\x1a\n": PNG,
    b"\xff\xd8\xff": JPEG,
    b"II*\0": TIFF,
    b"MM\0*": TIFF,
    b"II+\0": TIFF,  # BigTIFF
    b"MM\0+": TIFF,
}
"""Formats that are told by how a file begins; `identify` knows the others, too."""

BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)
"""Sizes of the header that follows a BMP file's first 14 bytes: two letters say little."""

_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}
"""Kinds of HEIF whose images are compressed by HEVC (ISO/IEC 23008-12, annex B)."""

_OTHERS = (
    (0, b"GIF8", "a GIF image"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (0, b"II\xbc", "a JPEG XR image"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"gimp xcf", "a GIMP document"),
    (0, b"\0\0\1\0", "an icon"),
    (0, b"v/1\1", "an OpenEXR image"),
    (0, b"SIMPLE  =", "a FITS image"),
    (0, b"NRRD", "an NRRD image"),
    (128, b"DICM", "a DICOM image"),
    (0, b"ZISRAWFILE", "a Zeiss CZI file"),
    (0, b"\xda\xce\xbe\x0a", "a Nikon ND2 file"),
    (0, b"\x70\0\0\0", "a Leica LIF file"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office or Olympus/Zeiss compound file"),
    (0, b"FUJIFILMCCD-RAW", "a camera's raw file"),
    (0, b"IIRO", "a camera's raw file"),
    (0, b"IIU\0", "a camera's raw file"),
    (0, b"%PDF", "a PDF document"),
    (0, b"%!PS", "a PostScript document"),
    (0, b"<svg", "an SVG drawing"),
    (0, b"PK\3\4", "a ZIP archive"),
    (0, b"PK\5\6", "a ZIP archive"),
    (0, b"Rar!", "a RAR archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"\x89HDF\r\n", "an HDF5 file"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x1a\x45\xdf\xa3", "a video"),
)
"""What else people drop in: (offset, bytes there, name)."""


def identify(head: bytes) -> Format | None:
    """Tells the format of a file from its first bytes.

    Args:
        head: At least `HEAD` bytes, or the whole file if it is shorter.

    Returns:
        One of `FORMATS`; None for anything else. The rest of the file may still be damaged.
    """
    for start, image_format in STARTS.items():
        if head.startswith(start):
            return image_format
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return WEBP
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in BMP_HEADERS:
        return BMP
    if _HEIC_BRANDS & set(_brands(head)) and b"crx " not in _brands(head):
        return HEIC
    return None


def name_other(head: bytes) -> str:
    """Says what a file is that `identify` does not know: "a GIF image", "content of another kind".

    Args:
        head: As for `identify`; 132 bytes tell DICOM too.
    """
    for offset, start, name in _OTHERS:
        if head[offset : offset + len(start)] == start:
            return name
    if brands := _brands(head):
        if {b"avif", b"avis"} & set(brands):
            return "an AVIF image"
        if b"crx " in brands:
            return "a camera's raw file"
        if {b"mif1", b"msf1", b"miaf"} & set(brands):
            return "a HEIF image without HEVC"
        return "a video"
    return "content of another kind"


def is_image(source: bytes | str | os.PathLike) -> bool:
    """Whether content, or the file at a path, begins as an image in one of `FORMATS`.

    Args:
        source: The content (its first `HEAD` bytes suffice) or a path.

    Returns:
        False also for what cannot be opened.
    """
    if isinstance(source, str | os.PathLike):
        try:
            with Path(source).open("rb") as stream:
                source = stream.read(HEAD)
        except (OSError, ValueError):  # ValueError: a NUL in the path
            return False
    return identify(source) is not None


def _brands(head: bytes) -> list[bytes]:
    """The kinds that an ISO base media file (HEIC, AVIF, MP4) says it is; [] for another file."""
    if head[4:8] != b"ftyp":
        return []
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return [head[8:12], *(head[i : i + 4] for i in range(16, end - 3, 4))]

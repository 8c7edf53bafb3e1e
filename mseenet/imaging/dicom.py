"""Which DICOM files are of one whole slide; their pixels OpenSlide reads.

Each level of a scan is a file of its own, as are label and overview, or several files; all of
them have one number, that of the series. Only the elements up to that number are read.
"""

import struct
from pathlib import Path
from typing import BinaryIO

WHOLE_SLIDE = b"1.2.840.10008.5.1.4.1.1.77.1.6"
"""Kind of DICOM file: VL Whole Slide Microscopy Image (PS3.4, annex B)."""

MOST_READ = 2**20
"""Bytes that are looked at; the number of the series comes within the first thousands."""

# Elements, group and number (PS3.6).
_CLASS, _SERIES = (0x0002, 0x0002), (0x0020, 0x000E)
_ITEM, _ITEM_END, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)

_LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
"""Kinds of values whose length has four bytes, behind two that are empty (PS3.5, 7.1.2)."""

_UNSTATED = 0xFFFFFFFF


def series_of(path: Path) -> str | None:
    """The number of the series of a file of a whole slide.

    Returns:
        None for any other file, for one that cannot be read, and for one whose elements do not
        state the kinds of their values, as those of whole slides do.
    """
    try:
        with path.open("rb") as stream:
            if stream.read(132)[128:] != b"DICM":
                return None
            return _series(stream)
    except (OSError, ValueError, struct.error):  # ValueError: a NUL in the path
        return None


def _series(stream: BinaryIO) -> str | None:
    depth, kind = 0, b""
    while stream.tell() < MOST_READ:
        element = struct.unpack("<HH", stream.read(4))
        if element in (_ITEM, _ITEM_END, _SEQUENCE_END):
            (length,) = struct.unpack("<I", stream.read(4))
            # An item without a stated length ends by a mark of its own, as a sequence does.
            depth += int(length == _UNSTATED) if element == _ITEM else -1
            continue
        name = stream.read(2)
        if name in _LONG:
            (length,) = struct.unpack("<2xI", stream.read(6))
        else:
            (length,) = struct.unpack("<H", stream.read(2))
        if length == _UNSTATED:
            depth += 1
        elif depth == 0 and element in (_CLASS, _SERIES):
            value = stream.read(min(length, 64)).rstrip(b"\0 ")
            if element == _SERIES:
                return value.decode("ascii", "replace") if kind == WHOLE_SLIDE else None
            kind = value
        else:
            stream.seek(length, 1)
    return None

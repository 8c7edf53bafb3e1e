"""Scans of slides for tests: billions of pixels from a few distinct tiles."""

import functools
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from conftest import stitched
from PIL import Image

from mseenet.imaging.dicom import WHOLE_SLIDE
from mseenet.imaging.synthetic import STYLES

TILE = 768
FIELD = 256
LEVELS = (1, 4, 16, 64)
FRAME = 256
BLOCK = LEVELS[-1] * TILE
"""Side of what one tile of the smallest level covers, in pixels."""

Entry = tuple[int, int, int, int]
"""Of a directory: tag, type, number of values, and the value or where they are."""


@functools.cache
def fields_of_a_tile() -> np.ndarray:
    """Rendered fields of 256 x 192 pixels without gaps, uint8 (768, 768, 3)."""
    return stitched(TILE // FIELD, 4 * TILE // (3 * FIELD), FIELD)


def deflated(rgb: np.ndarray) -> bytes:
    """A tile's data for compression 8."""
    return zlib.compress(rgb.tobytes(), 1)


def jpeg(rgb: np.ndarray, subsampling: int = 0) -> bytes:
    """A tile's data for compression 7, as YCbCr."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=95, subsampling=subsampling)
    return buffer.getvalue()


def tiled(
    blocks: np.ndarray,
    levels: tuple[int, ...] = LEVELS,
    block: int = LEVELS[-1],
    encode: Callable[[np.ndarray], bytes] = deflated,
    tags: tuple[Entry, ...] = (),
) -> bytes:
    """A tiled TIFF with smaller levels whose tiles share a few pieces of data.

    Each block is plasma or, where `blocks` (rows, columns) is True, one tile of fields of 256 x 192
    pixels again and again.

    Args:
        blocks: bool or 0 and 1.
        levels: So many times smaller than the picture each is; 768 is divided by each.
        block: So many tiles of the picture a block is wide and high; divided by each level.
        encode: Makes a tile's data of its pixels.
        tags: Instead of those of a TIFF in RGB with Deflate.
    """
    content, entries = bytearray(struct.pack("<2sHI", b"II", 42, 0)), []
    for factor in levels:
        side = TILE // factor
        small = Image.fromarray(fields_of_a_tile()).resize((side, side), Image.Resampling.BOX)
        stained = np.tile(np.asarray(small), (factor, factor, 1))
        plasma = np.full_like(stained, STYLES[2].background)
        places = []
        for rgb in (plasma, stained):
            data = encode(rgb)
            places.append((len(content), len(data)))
            content += data + bytes(len(data) % 2)
        tiles = np.kron(blocks, np.ones((block // factor,) * 2, int)).astype(int)
        width, height = (n * TILE for n in tiles.shape[::-1])
        chosen = np.array(places, "<u4")[tiles.ravel()]
        offsets, counts = len(content), len(content) + 4 * tiles.size
        content += chosen[:, 0].tobytes() + chosen[:, 1].tobytes()
        bits = len(content)
        content += struct.pack("<3H", 8, 8, 8) + bytes(2)
        page: list[Entry] = [
            (254, 4, 1, int(factor > 1)),
            (256, 4, 1, width),
            (257, 4, 1, height),
            (258, 3, 3, bits),
            (259, 3, 1, 8),
            (262, 3, 1, 2),
            (277, 3, 1, 3),
            (284, 3, 1, 1),
            (322, 3, 1, TILE),
            (323, 3, 1, TILE),
            (324, 4, tiles.size, offsets),
            (325, 4, tiles.size, counts),
        ]
        if tiles.size == 1:  # stands in the directory itself
            page[-2:] = [(324, 4, 1, int(chosen[0, 0])), (325, 4, 1, int(chosen[0, 1]))]
        other = {tag[0]: tag for tag in (*page, *tags)}
        entries.append([other[tag] for tag in sorted(other)])
    link = 4
    for page in entries:
        struct.pack_into("<I", content, link, len(content))
        content += struct.pack("<H", len(page))
        content += b"".join(struct.pack("<HHII", *entry) for entry in page) + bytes(4)
        link = len(content) - 4
    return bytes(content)


def dicom_slide(
    folder: Path,
    rgb: np.ndarray,
    levels: tuple[int, ...] = (1, 4),
    compressed: bool = True,
    left_out: tuple[tuple[int, int], ...] = (),
    series: str = "1.2.3.4",
) -> None:
    """A whole slide in DICOM: a file for each level, in frames of 256 x 256 pixels.

    Args:
        folder: Gets the files.
        rgb: The slide's pixels.
        levels: So many times smaller than the slide each is.
        compressed: Whether frames are JPEG, as most scanners write them.
        left_out: Rows and columns of frames that were not scanned; with any of them each frame
            says where it is (TILED_SPARSE), else they come row by row (TILED_FULL).
        series: Number of the series.
    """
    for number, factor in enumerate(levels):
        height, width = (side // factor for side in rgb.shape[:2])
        small = Image.fromarray(rgb).resize((width, height), Image.Resampling.BOX)
        down, across = -(-height // FRAME), -(-width // FRAME)
        padded = np.full((down * FRAME, across * FRAME, 3), 255, np.uint8)
        padded[:height, :width] = np.asarray(small)
        at = [(y, x) for y in range(down) for x in range(across) if (y, x) not in left_out]
        tiles = padded.reshape(down, FRAME, across, FRAME, 3).swapaxes(1, 2)
        frames = [jpeg(tiles[y, x]) if compressed else tiles[y, x].tobytes() for y, x in at]
        places = [
            _element(0x0048021A, "SQ", _item(
                _element(0x0048021E, "SL", struct.pack("<i", x * FRAME + 1))
                + _element(0x0048021F, "SL", struct.pack("<i", y * FRAME + 1))
            )) for y, x in at
        ]  # fmt: skip
        own = f"{series}.{number}"
        syntax = "1.2.840.10008.1.2.4.50" if compressed else "1.2.840.10008.1.2.1"
        head = b"".join([
            _element(0x00020001, "OB", b"\0\1"), _element(0x00020002, "UI", WHOLE_SLIDE),
            _element(0x00020003, "UI", own.encode()), _element(0x00020010, "UI", syntax.encode()),
            _element(0x00020012, "UI", b"1.2.3"),
        ])  # fmt: skip
        spacing = f"{0.0001 * factor:.4f}".encode()
        measures = _item(
            _element(0x00289110, "SQ", _item(
                _element(0x00280030, "DS", spacing + b"\\" + spacing)
            ))
        )  # fmt: skip
        data = b"".join(frames)
        if compressed:
            data = struct.pack("<HHI", 0xFFFE, 0xE000, 0) + b"".join(map(_item, frames))
            data += struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
        body = b"".join([
            _element(0x00080008, "CS", b"ORIGINAL\\PRIMARY\\VOLUME\\NONE"),
            _element(0x00080016, "UI", WHOLE_SLIDE), _element(0x00080018, "UI", own.encode()),
            _element(0x00080060, "CS", b"SM"),
            # Another series, inside of a sequence whose length is not stated.
            _element(0x00081115, "SQ", _item(_element(0x0020000E, "UI", b"9.9.9"), False), False),
            _element(0x0020000D, "UI", b"1.2.3.5"), _element(0x0020000E, "UI", series.encode()),
            _element(0x00200052, "UI", b"1.2.3.6"), _element(0x00200013, "IS", b"1"),
            _element(0x00209311, "CS", b"TILED_SPARSE" if left_out else b"TILED_FULL"),
            _element(0x00280002, "US", _short(3)),
            _element(0x00280004, "CS", b"YBR_FULL_422" if compressed else b"RGB"),
            _element(0x00280006, "US", _short(0)), _element(0x00280008, "IS", b"%d" % len(frames)),
            _element(0x00280010, "US", _short(FRAME)), _element(0x00280011, "US", _short(FRAME)),
            _element(0x00280100, "US", _short(8)), _element(0x00280101, "US", _short(8)),
            _element(0x00280102, "US", _short(7)), _element(0x00280103, "US", _short(0)),
            _element(0x00480006, "UL", struct.pack("<I", width)),
            _element(0x00480007, "UL", struct.pack("<I", height)),
            _element(0x52009229, "SQ", measures),
            _element(0x52009230, "SQ", b"".join(map(_item, places))) if left_out else b"",
            _element(0x7FE00010, "OB", data, not compressed),
        ])  # fmt: skip
        head = _element(0x00020000, "UL", struct.pack("<I", len(head))) + head
        (folder / f"level {number}.dcm").write_bytes(bytes(128) + b"DICM" + head + body)


def _short(value: int) -> bytes:
    return struct.pack("<H", value)


def _element(tag: int, kind: str, value: bytes, stated: bool = True) -> bytes:
    """An element of a DICOM file; the length of a sequence need not be stated."""
    value += (b"\0" if kind == "UI" else b" ")[: len(value) % 2]
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + kind.encode()
    if kind not in ("OB", "SQ"):
        return head + _short(len(value)) + value
    if stated:
        return head + struct.pack("<2xI", len(value)) + value
    end = b"" if kind == "OB" else struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return head + struct.pack("<2xI", 0xFFFFFFFF) + value + end


def _item(value: bytes, stated: bool = True) -> bytes:
    value += bytes(len(value) % 2)
    if stated:
        return struct.pack("<HHI", 0xFFFE, 0xE000, len(value)) + value
    end = struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    return struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + value + end

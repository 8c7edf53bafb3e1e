"""Writes TIFFs of any layout from known samples, apart from the libraries under test.

After the TIFF 6.0 specification (Adobe, 1992); no library writes all of these layouts.
"""

import struct
import zlib
from dataclasses import dataclass, field

import numpy as np

NONE, LZW, DEFLATE, PACKBITS = 1, 5, 8, 32773
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK = 0, 1, 2, 3, 5

_TYPES = {3: "H", 4: "I", 2: "s", 1: "B"}


@dataclass(frozen=True)
class Page:
    """One page.

    Attributes:
        samples: (H, W, channels), of the dtype that is written.
        bits: Bits of each sample, packed if they are not whole bytes; of `samples` if None.
        photometric: Meaning of the channels.
        planar: Each channel in strips or tiles of its own.
        compression: `NONE`, `LZW`, `DEFLATE` or `PACKBITS`; others are only stated.
        predictor: Differences between neighbours are written.
        tile: Height and width of the tiles; None for strips.
        rows: Of a strip; all if None.
        extra: ExtraSamples; None leaves the tag out.
        tags: More tags: number -> (type, values); text is type 2.
    """

    samples: np.ndarray
    bits: int | None = None
    photometric: int = RGB
    planar: bool = False
    compression: int = NONE
    predictor: bool = False
    tile: tuple[int, int] | None = None
    rows: int | None = None
    extra: tuple[int, ...] | None = None
    tags: dict[int, tuple[int, tuple | bytes]] = field(default_factory=dict)


def write_tiff(*pages: Page, big_endian: bool = False, big_tiff: bool = False) -> bytes:
    """Encodes pages, in a chain, as TIFF or BigTIFF of either byte order."""
    order = ">" if big_endian else "<"
    content = bytearray(b"MM" if big_endian else b"II")
    offset_type, offset_size = ("Q", 8) if big_tiff else ("I", 4)
    content += struct.pack(order + "H", 43 if big_tiff else 42)
    if big_tiff:
        content += struct.pack(order + "HH", 8, 0)
    link = len(content)
    content += bytes(offset_size)
    for page in pages:
        tags = _tags(page, content, order)
        entries = bytearray()
        for tag in sorted(tags):
            kind, values = tags[tag]
            if kind == 2:
                data, count = bytes(values) + b"\0", len(values) + 1
            else:
                data, count = (
                    struct.pack(f"{order}{len(values)}{_TYPES[kind]}", *values),
                    len(values),
                )
            entries += struct.pack(f"{order}HH{offset_type}", tag, kind, count)
            if len(data) <= offset_size:
                entries += data.ljust(offset_size, b"\0")
            else:
                _align(content)
                entries += struct.pack(order + offset_type, len(content))
                content += data
        _align(content)
        content[link : link + offset_size] = struct.pack(order + offset_type, len(content))
        content += struct.pack(order + ("Q" if big_tiff else "H"), len(tags)) + entries
        link = len(content)
        content += bytes(offset_size)
    return bytes(content)


def _tags(page: Page, content: bytearray, order: str) -> dict:
    height, width, channels = page.samples.shape
    bits = page.bits or page.samples.dtype.itemsize * 8
    kind = {"u": 1, "i": 2, "f": 3}[page.samples.dtype.kind]
    pieces = [_encoded(piece, page, bits, order) for piece in _pieces(page)]
    offsets = []
    for piece in pieces:
        _align(content)
        offsets.append(len(content))
        content += piece
    counts = [len(piece) for piece in pieces]
    tags = {
        256: (4, (width,)),
        257: (4, (height,)),
        258: (3, (bits,) * channels),
        259: (3, (page.compression,)),
        262: (3, (page.photometric,)),
        277: (3, (channels,)),
        284: (3, (2 if page.planar else 1,)),
        339: (3, (kind,) * channels),
    }
    if page.predictor:
        tags[317] = (3, (2,))
    if page.extra is not None:
        tags[338] = (3, page.extra)
    if page.tile:
        tags |= {322: (4, (page.tile[1],)), 323: (4, (page.tile[0],))}
        tags |= {324: (4, offsets), 325: (4, counts)}
    else:
        tags |= {273: (4, offsets), 278: (4, (page.rows or height,)), 279: (4, counts)}
    return tags | page.tags


def _pieces(page: Page) -> list[np.ndarray]:
    """Strips or tiles, (rows, columns, channels) each, in the order of the file."""
    planes = [page.samples]
    if page.planar:
        planes = [page.samples[..., i : i + 1] for i in range(page.samples.shape[2])]
    pieces = []
    for plane in planes:
        height, width, _ = plane.shape
        if not page.tile:
            rows = page.rows or height
            pieces += [plane[top : top + rows] for top in range(0, height, rows)]
            continue
        down, across = page.tile
        padded = np.pad(plane, ((0, -height % down), (0, -width % across), (0, 0)), mode="edge")
        pieces += [
            padded[top : top + down, left : left + across]
            for top in range(0, height, down)
            for left in range(0, width, across)
        ]
    return pieces


def _encoded(piece: np.ndarray, page: Page, bits: int, order: str) -> bytes:
    if page.predictor:
        piece = np.diff(piece, axis=1, prepend=np.zeros_like(piece[:, :1]))
    if bits == piece.dtype.itemsize * 8:
        data = piece.astype(piece.dtype.newbyteorder(order)).tobytes()
    else:  # packed, each row from a whole byte
        flat = piece.reshape(piece.shape[0], -1).astype(np.uint16)
        digits = (flat[..., None] >> np.arange(bits - 1, -1, -1)) & 1
        data = np.packbits(digits.reshape(piece.shape[0], -1).astype(np.uint8), axis=1).tobytes()
    if page.compression == DEFLATE:
        return zlib.compress(data)
    if page.compression == LZW:
        return lzw(data)
    if page.compression == PACKBITS:
        return packbits(data)
    return data


def packbits(data: bytes) -> bytes:
    """PackBits without any run: literal pieces of up to 128 bytes."""
    pieces = [data[i : i + 128] for i in range(0, len(data), 128)]
    return b"".join(bytes([len(piece) - 1]) + piece for piece in pieces)


def lzw(data: bytes) -> bytes:
    """LZW as in section 13 of the specification: 9 to 12 bits, high bits first."""
    codes: list[tuple[int, int]] = [(256, 9)]
    table = {bytes([i]): i for i in range(256)}
    following, width, prefix = 258, 9, b""
    for value in data:
        longer = prefix + bytes([value])
        if longer in table:
            prefix = longer
            continue
        codes.append((table[prefix], width))
        table[longer] = following
        following += 1
        if following == 4095:
            codes.append((256, 12))
            table = {bytes([i]): i for i in range(256)}
            following, width = 258, 9
        elif following == 2**width:
            width += 1
        prefix = bytes([value])
    if prefix:
        codes.append((table[prefix], width))
        if following + 1 == 2**width:
            width = min(width + 1, 12)
    codes.append((257, width))
    digits = "".join(f"{code:0{width}b}" for code, width in codes)
    digits += "0" * (-len(digits) % 8)
    return int(digits, 2).to_bytes(len(digits) // 8, "big")


def _align(content: bytearray) -> None:
    content += bytes(len(content) % 2)

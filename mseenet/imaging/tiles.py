"""Tiled TIFFs of any number of pixels, read by regions from their bytes.

What is uploaded is in memory and stays there, so that OpenSlide, which needs a path, cannot read
it; and a library that ends the process on a hostile file would end the cases of all users. Here
the tables of a file are looked up where they lie, and its tiles are decoded one by one, each as
a small TIFF of its own by Pillow's libtiff, which stops at the size of a tile. Whatever a file
says of itself, the pixels held at once, and those decoded for one picture, have a limit.
"""

import io
import math
import struct
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mseenet.imaging.errors import (
    AnimatedImageError,
    ImageTooLargeError,
    TruncatedImageError,
    UnclearPixelsError,
)
from mseenet.imaging.tiff import MOST_PAGES, MOST_PIECES, damage_named, directories

if TYPE_CHECKING:
    from mseenet.imaging.areas import Place

LARGEST_PICTURE = 12_000_000_000
"""Pixels of the largest picture: 100,000 x 100,000 and some more."""

LARGEST_TILE = 2048 * 2048
"""Pixels of the largest tile. Larger ones would be decoded for every field that touches them."""

LARGEST_REGION = 32_000_000
"""Pixels of a region that is put together as it is; a larger one is reduced tile by tile."""

LARGEST_REDUCED = 1_000_000_000
"""Pixels that are decoded for one reduced region, the overview; 20,000 x 20,000 are 400 million."""

MOST_DECODED = 4_000_000_000
"""Pixels of tiles that are decoded for one picture. 600 readings of fields of 2048 x 1536 in tiles
of 256 x 256 take half of it."""

KEPT_TILES = 20_000_000
"""Pixels of tiles that are kept decoded, as fields beside each other touch the same ones."""

MOST_ENTRIES = 1000
"""Entries of one directory; scanners write some 40."""

TOLERANCE = 0.01
"""By so much, relative, a smaller level may differ in shape from the picture, or by one pixel."""

ELSEWHERE = "`mseenet predict`, with the extra `slides`, reads more layouts"

# Tags, by their names in the TIFF 6.0 specification (Adobe, 1992) and its supplements.
_SUBFILE_TYPE, _WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_DESCRIPTION, _ORIENTATION, _SAMPLES, _PLANAR, _SOFTWARE, _PREDICTOR = 270, 274, 277, 284, 305, 317
_TILE_WIDTH, _TILE_LENGTH, _OFFSETS, _COUNTS, _SUB_IFDS, _SAMPLE_FORMAT = (
    322,
    323,
    324,
    325,
    330,
    339,
)
_JPEG_TABLES, _SUBSAMPLING, _XMP = 347, 530, 700

_RGB, _YCBCR, _JPEG = 2, 6, 7
_COMPRESSIONS = (1, 5, _JPEG, 8, 32773, 32946)  # none, LZW, JPEG, Deflate, PackBits, Deflate

_TYPES = {1: "u1", 2: "u1", 3: "u2", 4: "u4", 7: "u1", 13: "u4", 16: "u8", 18: "u8"}
"""Types of values that are looked up, as NumPy has them: unsigned whole numbers and bytes."""

_OTHER_LAYOUTS = (
    (_XMP, b"<iScan", "a Ventana scan, whose tiles overlap"),
    (_DESCRIPTION, b"leica-microsystems.com/scn", "a Leica scan, which has several parts"),
    (_DESCRIPTION, b"DPUfsImport", "a Philips scan, whose levels have borders"),
    (_SOFTWARE, b"MedScan", "a Trestle scan, whose tiles overlap"),
)
"""Scanners whose tiles do not simply lie side by side: tag, what it contains, name."""


@dataclass(frozen=True, eq=False)
class _Page:
    """One directory of a TIFF.

    Attributes:
        content: Of the file.
        order: Of its bytes, as in `struct`.
        entries: For each tag the type and number of its values, and where they begin.
        inner: Whether another page names it as a smaller copy of its own.
    """

    content: bytes
    order: str
    entries: dict[int, tuple[int, int, int]]
    inner: bool = False

    def values(self, tag: int, most: int = MOST_ENTRIES) -> np.ndarray:
        """The values of a tag, (N,) of whole numbers, where they lie; empty without the tag.

        Raises:
            ImageTooLargeError: There are more than `most`.
            TruncatedImageError: They do not lie in the file, or are of another type.
        """
        kind, count, start = self.entries.get(tag, (1, 0, 0))
        if count > most:
            raise ImageTooLargeError(
                f"expected at most {most:,} values of tag {tag}, got {count:,}"
            )
        if kind not in _TYPES or start + count * _size_of(kind) > len(self.content):
            raise TruncatedImageError(f"expected a whole image, got a damaged tag {tag}")
        return np.frombuffer(self.content, self.order + _TYPES[kind], count, start)

    def number(self, tag: int, default: int = 0) -> int:
        """The first value of a tag, or the default."""
        values = self.values(tag)
        return int(values[0]) if len(values) else default

    def text(self, tag: int) -> bytes:
        """The bytes of a tag, at most the first 100,000; empty without it."""
        kind, count, start = self.entries.get(tag, (1, 0, 0))
        return self.content[start : start + min(count, 100_000)] if kind in (1, 2, 7) else b""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, in pixels."""
        return self.number(_WIDTH), self.number(_LENGTH)

    @property
    def is_tiled(self) -> bool:
        return _TILE_WIDTH in self.entries

    @property
    def is_copy(self) -> bool:
        """Whether it is a smaller copy of another page (bit 0), or a mask of one (bit 2)."""
        return self.inner or bool(self.number(_SUBFILE_TYPE) & 0b101)


def _size_of(kind: int) -> int:
    return np.dtype(_TYPES.get(kind, "u8")).itemsize


def _page(content: bytes, order: str, start: int, inner: bool = False) -> _Page:
    big = content[2:4] in (b"+\0", b"\0+")
    head, entry, inline = ("Q", "HHQ", "Q") if big else ("H", "HHI", "I")
    (count,) = struct.unpack_from(order + head, content, start)
    if count > MOST_ENTRIES:
        raise TruncatedImageError(f"expected at most {MOST_ENTRIES} tags, got {count:,}")
    entries = {}
    at = start + struct.calcsize(order + head)
    for _ in range(count):
        tag, kind, number = struct.unpack_from(order + entry, content, at)
        at += struct.calcsize(order + entry)
        (place,) = struct.unpack_from(order + inline, content, at)
        room = struct.calcsize(order + inline)
        entries[tag] = (kind, number, at if number * _size_of(kind) <= room else place)
        at += room
    return _Page(content, order, entries, inner)


def _pages(content: bytes) -> list[_Page]:
    """All pages, and the smaller copies that lie inside of them."""
    order = "<" if content.startswith(b"I") else ">"
    pages = [_page(content, order, at) for at in directories(io.BytesIO(content))]
    inside = [at for page in pages for at in page.values(_SUB_IFDS).tolist()]
    return pages + [_page(content, order, at, inner=True) for at in inside[:MOST_PAGES]]


def most_pixels(content: bytes) -> int:
    """How many pixels the largest page of a TIFF says that it has.

    Raises:
        ImageError: The file is damaged.
    """
    with damage_named():
        return max(math.prod(page.size) for page in _pages(content))


class _Level:
    """A page whose tiles are decoded one by one."""

    def __init__(self, page: _Page):
        self._page = page
        self.size = page.size
        self.tile = (page.number(_TILE_WIDTH), page.number(_TILE_LENGTH))
        compression = page.number(_COMPRESSION, 1)
        colors = page.number(_PHOTOMETRIC, -1)
        found = ""
        if page.number(_SAMPLES, 1) != 3 or page.values(_BITS).tolist() != [8, 8, 8]:
            bits = "+".join(map(str, page.values(_BITS).tolist())) or "1"
            found = f"{page.number(_SAMPLES, 1)} channels of {bits} bits"
        elif page.number(_PLANAR, 1) != 1:
            found = "colours in separate planes"
        elif set(page.values(_SAMPLE_FORMAT).tolist()) - {1}:
            found = "signed or floating-point samples"
        elif compression not in _COMPRESSIONS:
            found = f"the compression number {compression}"
        elif colors != _RGB and (colors, compression) != (_YCBCR, _JPEG):
            found = f"colours of kind {colors}"
        elif page.number(_ORIENTATION, 1) != 1:
            found = "a turned picture"
        if found:
            raise UnclearPixelsError(
                f"expected a TIFF in tiles of red, green and blue of 8 bits, got {found}; {ELSEWHERE}"
            )
        if min(self.tile) < 1 or math.prod(self.tile) > LARGEST_TILE:
            raise ImageTooLargeError(
                f"expected tiles of at most {LARGEST_TILE:,} pixels, got {self.tile[0]:,} x "
                f"{self.tile[1]:,}"
            )
        self.across = math.ceil(self.size[0] / self.tile[0])
        count = self.across * math.ceil(self.size[1] / self.tile[1])
        if count > MOST_PIECES:
            raise ImageTooLargeError(f"expected at most {MOST_PIECES:,} tiles, got {count:,}")
        self._offsets = page.values(_OFFSETS, MOST_PIECES)
        self._counts = page.values(_COUNTS, MOST_PIECES)
        if min(len(self._offsets), len(self._counts)) < count:
            raise TruncatedImageError(
                f"expected a whole image, got {min(len(self._offsets), len(self._counts)):,} of "
                f"{count:,} tiles"
            )

    def decoded(self, column: int, row: int) -> np.ndarray | None:
        """The pixels of a tile, RGB uint8 (h, w, 3); None if it holds none, being not scanned.

        Raises:
            ImageError: It is damaged.
        """
        number = row * self.across + column
        start, length = int(self._offsets[number]), int(self._counts[number])
        if not length:
            return None
        if start + length > len(self._page.content):
            raise TruncatedImageError("expected a whole image, got a tile beyond the file's end")
        with damage_named():
            alone = self._alone(self._page.content[start : start + length])
            with Image.open(io.BytesIO(alone), formats=("TIFF",)) as image:
                if image.size != self.tile or image.mode != "RGB":
                    raise TruncatedImageError("expected a whole image, got a tile of another kind")
                return np.asarray(image)

    def _alone(self, data: bytes) -> bytes:
        """A TIFF that has this one tile, as a strip."""
        page, (width, height) = self._page, self.tile
        bits, tables = struct.pack("<3H", 8, 8, 8), page.values(_JPEG_TABLES, 100_000).tobytes()
        shared = bits + tables + bytes(len(tables) % 2)
        tags = [
            (_WIDTH, 4, 1, width),
            (_LENGTH, 4, 1, height),
            (_BITS, 3, 3, 8),
            (_COMPRESSION, 3, 1, page.number(_COMPRESSION, 1)),
            (_PHOTOMETRIC, 3, 1, page.number(_PHOTOMETRIC)),
            (273, 4, 1, 8 + len(shared)),  # offset of the strip
            (_SAMPLES, 3, 1, 3),
            (278, 4, 1, height),  # rows of the strip
            (279, 4, 1, len(data)),
            (_PREDICTOR, 3, 1, page.number(_PREDICTOR, 1)),
        ]
        if tables:
            tags.append((_JPEG_TABLES, 7, len(tables), 8 + len(bits)))
        if page.number(_PHOTOMETRIC) == _YCBCR:
            across, down = [*page.values(_SUBSAMPLING).tolist(), 2, 2][:2]
            tags.append((_SUBSAMPLING, 3, 2, across | down << 16))
        padded = data + bytes(len(data) % 2)
        return b"".join(
            [
                struct.pack("<2sHI", b"II", 42, 8 + len(shared) + len(padded)),
                shared,
                padded,
                struct.pack("<H", len(tags)),
                *(struct.pack("<HHII", *tag) for tag in tags),
                bytes(4),
            ]
        )


class TiledPicture:
    """A tiled TIFF, as `mseenet.imaging.areas.Picture`.

    Beside the file and what it gives back, at most two copies of a region of `LARGEST_REGION`
    pixels, and tiles of `KEPT_TILES` pixels, are in memory.

    Args:
        content: Of the file, which begins as a TIFF.

    Raises:
        ImageError: It cannot be read by tiles; the message says why.
    """

    def __init__(self, content: bytes):
        with damage_named():
            self._levels = _levels(_pages(content))
        self.size = self._levels[0].size
        self._tiles: OrderedDict[tuple[int, int, int], np.ndarray | None] = OrderedDict()
        self._decoded = 0

    def read(self, place: "Place", width: int | None = None) -> np.ndarray:
        """See `Picture.read`; smaller levels are used, and what is still too large is reduced."""
        number, (x, y, across, down) = 0, place
        for other, level in enumerate(self._levels):
            if width is not None and across * level.size[0] >= width * self.size[0]:
                number = other
        wide, high = self._levels[number].size
        left, top = x * wide // self.size[0], y * high // self.size[1]
        right = left + max(1, across * wide // self.size[0])
        box = (left, top, right, top + max(1, down * high // self.size[1]))
        columns, rows = box[2] - box[0], box[3] - box[1]
        if columns * rows <= LARGEST_REGION:
            return self._pasted(number, box)
        if width is None or columns * rows > LARGEST_REDUCED:
            raise ImageTooLargeError(
                f"expected a picture with smaller levels of at most {LARGEST_REDUCED // 10**6:,} "
                f"million pixels, got a smallest one of {columns:,} x {rows:,}"
            )
        return self._reduced(number, box, (width, max(1, round(width * rows / columns))))

    def _pasted(self, number: int, box: tuple[int, int, int, int]) -> np.ndarray:
        """Pixels of a level inside of left, top, right, bottom."""
        region = np.full((box[3] - box[1], box[2] - box[0], 3), 255, np.uint8)
        for left, top, tile in self._parts(number, box):
            region[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
        return region

    def _reduced(
        self, number: int, box: tuple[int, int, int, int], size: tuple[int, int]
    ) -> np.ndarray:
        """As `_pasted`, each pixel of the result the mean of those that lie in it."""
        spans = (box[2] - box[0], box[3] - box[1])
        sums = np.zeros((size[1], size[0], 3), np.int64)
        for left, top, tile in self._parts(number, box):
            darker = 255 - tile  # what is not scanned is white, and adds nothing
            x, y = (
                np.arange(start, start + length) * wide // span
                for start, length, wide, span in zip(
                    (left, top), tile.shape[1::-1], size, spans, strict=True
                )
            )
            (columns, lefts), (rows, tops) = (np.unique(v, return_index=True) for v in (x, y))
            part = np.add.reduceat(np.add.reduceat(darker, tops, 0, np.int64), lefts, 1)
            sums[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] += part
        counts = [
            np.bincount(np.arange(span) * wide // span)
            for span, wide in zip(spans, size, strict=True)
        ]
        return (255 - sums / (counts[1][:, None] * counts[0])[..., None]).round().astype(np.uint8)

    def _parts(
        self, number: int, box: tuple[int, int, int, int]
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        """Where each scanned tile's part of a box begins, counted from the box, and its pixels."""
        level = self._levels[number]
        left, top, right, bottom = box
        wide, high = level.tile
        right, bottom = min(right, level.size[0]), min(bottom, level.size[1])
        for row in range(top // high, math.ceil(bottom / high)):
            for column in range(left // wide, math.ceil(right / wide)):
                try:
                    tile = self._tile(number, column, row)
                except TruncatedImageError as error:
                    raise TruncatedImageError(
                        f"{error}; a tile at x {column * wide:,}, y {row * high:,} of the level of "
                        f"{level.size[0]:,} x {level.size[1]:,} pixels"
                    ) from error
                if tile is None:
                    continue
                x, y = max(left, column * wide), max(top, row * high)
                part = tile[
                    y - row * high : min(bottom - row * high, high),
                    x - column * wide : min(right - column * wide, wide),
                ]
                yield x - left, y - top, part

    def _tile(self, number: int, column: int, row: int) -> np.ndarray | None:
        key = (number, column, row)
        if key in self._tiles:
            self._tiles.move_to_end(key)
            return self._tiles[key]
        level = self._levels[number]
        self._decoded += math.prod(level.tile)
        if self._decoded > MOST_DECODED:
            raise ImageTooLargeError(
                f"expected a picture whose fields are found in {MOST_DECODED // 10**6:,} million "
                "decoded pixels; smaller levels and tiles take fewer"
            )
        tile = self._tiles[key] = level.decoded(column, row)
        while sum(t.size // 3 for t in self._tiles.values() if t is not None) > KEPT_TILES:
            self._tiles.popitem(last=False)
        return tile


def _levels(pages: list[_Page]) -> list[_Level]:
    """The picture and its smaller copies, the largest first."""
    base = max(pages, key=lambda page: math.prod(page.size))
    for tag, mark, name in _OTHER_LAYOUTS:
        if any(mark in page.text(tag) for page in pages):
            raise UnclearPixelsError(f"expected tiles side by side, got {name}; {ELSEWHERE}")
    width, height = base.size
    if width * height > LARGEST_PICTURE:
        raise ImageTooLargeError(
            f"expected at most {LARGEST_PICTURE // 10**6:,} million pixels, got {width:,} x {height:,}"
        )
    if not base.is_tiled:
        raise ImageTooLargeError(
            f"expected a picture of {width:,} x {height:,} pixels as a tiled TIFF, which is read by "
            f"tiles; this one is in strips; {ELSEWHERE}"
        )
    levels = [base]
    for page in pages:
        if page is base or not page.is_tiled:
            continue  # thumbnails and labels are in strips
        if math.prod(page.size) < width * height and _of_one_shape(base, page):
            levels.append(page)
        elif not page.is_copy:
            raise AnimatedImageError(
                "expected a single image, got several pages in tiles; save the one you mean"
            )
    levels.sort(key=lambda page: -math.prod(page.size))
    return [_Level(page) for page in levels]


def _of_one_shape(base: _Page, page: _Page) -> bool:
    (width, height), (columns, rows) = base.size, page.size
    if min(columns, rows) < 1:
        return False
    expected = height * columns / width
    return abs(rows - expected) <= max(1, TOLERANCE * expected)

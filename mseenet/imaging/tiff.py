"""TIFF, as microscopes and other programs write it.

A TIFF says what its samples mean, in tags that decide between many layouts. Here the tags
are read first, and only layouts whose colours they state are decoded; the rest is refused
with what was found. tifffile reads the tags and places the samples. Pillow, which keeps only
the high byte of 16-bit colours and confuses their planes, decodes 8 bits with compression,
JPEG, palettes and black and white.
"""

import contextlib
import io
import json
import logging
import math
import re
import struct
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO
from xml.etree import ElementTree

import numpy as np
from PIL import Image, UnidentifiedImageError

from mseenet.imaging.errors import (
    AnimatedImageError,
    ImageError,
    ImageTooLargeError,
    TruncatedImageError,
    UnclearPixelsError,
)
from mseenet.imaging.pixels import (
    SAVE_INSTEAD,
    check_not_overlay,
    check_size,
    eight_bits,
    flatten,
    scaled_with_opacity,
    too_large,
)

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

MOST_PAGES = 100
"""Pages looked at; a single field with thumbnails and a pyramid has a dozen."""

MOST_PIECES = 200_000
"""Strips and tiles of one page; 64 million pixels in rows, or in tiles of 32x32, have fewer."""

LARGEST_FILE = 1_000_000_000
"""Of a TIFF, in bytes: twice `MAX_PIXELS` with four channels of 16 bits."""

# Tags, by their names in the TIFF 6.0 specification (Adobe, 1992) and its supplements.
_SUBFILE_TYPE, _OLD_SUBFILE_TYPE, _BITS, _DESCRIPTION = 254, 255, 258, 270
_ORIENTATION, _PLANAR, _SOFTWARE, _COLOR_MAP, _SUB_IFDS = 274, 284, 305, 320, 330
_EXTRA_SAMPLES, _SAMPLE_FORMAT, _SUBSAMPLING, _DEPTH = 338, 339, 530, 32997
_METAMORPH_PLANES, _DNG_VERSION = 33629, 50706

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_COLORS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3}
"""Photometric interpretations that are decoded, and how many channels each needs."""

_OTHER_COLORS = {4: "transparency mask", 8: "CIELAB", 9: "ICC L*a*b*", 10: "ITU L*a*b*"}
_RAW_COLORS = (32803, 34892)  # colour filter array, linear raw

_UNCOMPRESSED, _JPEG = 1, 7
_DEFLATE = (8, 32946)
_PLAIN = (_UNCOMPRESSED, *_DEFLATE)
"""Compressions that need nothing but zlib."""

_IN_PIECES = (*_PLAIN, 5, 32773, 34925, 50000)
"""Compressions of bytes, not of images: LZW, PackBits, LZMA, ZSTD. Strips and tiles can be
undone one by one, whatever their samples are."""

_PILLOW = (*_PLAIN, 2, 3, 4, 5, _JPEG, 32773, 34925, 50000)
"""Compressions that Pillow's libtiff decodes: CCITT, LZW, JPEG, PackBits, LZMA, ZSTD."""

_PILLOW_MODES = {
    _WHITE_IS_ZERO: ("1", "L", "LA", "I;16", "I;16B"),
    _BLACK_IS_ZERO: ("1", "L", "LA", "I;16", "I;16B"),
    _RGB: ("RGB", "RGBA"),
    _PALETTE: ("P", "PA", "L", "1"),
    _CMYK: ("CMYK",),
    _YCBCR: ("RGB", "YCbCr"),
}
"""What Pillow may make of each kind of colour; anything else did not follow the tags."""

_ASSOCIATED, _UNASSOCIATED = 1, 2
"""Values of ExtraSamples for opacity; the associated one was multiplied into the colours."""

_RED_GREEN_BLUE = ("red", "green", "blue")

# It logs each odd tag on standard error; what matters of that, this module raises.
logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)


def decode_tiff(stream: BinaryIO) -> np.ndarray:
    """Decodes a TIFF or BigTIFF that holds one field.

    Reduced pages (thumbnails, pyramids) and masks are left out. Three pages of one
    channel each are one field if OME, ImageJ or tifffile metadata says that they are
    channels, in the order red, green, blue unless the metadata says another.

    Args:
        stream: Binary, seekable.

    Returns:
        RGB pixels, uint8 (H, W, 3) in [0, 255], upright.

    Raises:
        ImageError: One of its subclasses, by what is wrong.
    """
    from tifffile import TiffFile, TiffPage

    size = stream.seek(0, 2)
    if size > LARGEST_FILE:
        raise ImageTooLargeError(
            f"expected a TIFF of at most {LARGEST_FILE // 10**6:,} MB, got {size // 10**6:,} MB, "
            "as of a whole slide; save one field of it"
        )
    stream.seek(0)
    if not isinstance(stream, io.BytesIO):
        # A damaged tag may ask a file on a disk for any number of bytes at once.
        stream = io.BytesIO(stream.read())
    with damage_named():
        offsets = directories(stream)
        stream.seek(0)
        with TiffFile(stream) as tiff:
            pages = []
            for index, offset in enumerate(offsets):
                tiff.filehandle.seek(offset)
                pages.append(TiffPage(tiff, index))
            return _decode_pages(tiff, pages, stream)


@contextlib.contextmanager
def damage_named() -> Iterator[None]:
    """Turns whatever a parser raises on damaged data into an `ImageError`."""
    try:
        yield
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageTooLargeError(too_large("many more")) from error
    except MemoryError as error:
        raise ImageTooLargeError("expected an image that fits into memory") from error
    except Exception as error:  # parsers raise anything on damaged data
        raise TruncatedImageError(
            f"expected a whole image, got truncated or damaged data ({_short(error)})"
        ) from error


def is_planar_16_bit(image: Image.Image) -> bool:
    """Whether Pillow, which opened this TIFF, would garble it: 16 bits in separate planes."""
    tags = getattr(image, "tag_v2", {})
    return tags.get(_PLANAR) == 2 and max(tags.get(_BITS, (8,))) > 8


def _short(error: Exception) -> str:
    return str(error)[:200] or type(error).__name__


def directories(stream: BinaryIO) -> list[int]:
    """Offsets of the pages' directories, each checked to lie in the file.

    Libraries stop without a word where the chain leaves the file, so that of a file that
    was cut off the first page would seem to be all.
    """
    size = stream.seek(0, 2)
    stream.seek(0)
    head = stream.read(16)
    order = "<" if head.startswith(b"I") else ">"
    if head[2:4] in (b"+\0", b"\0+"):
        start, count_format, entry, next_format = 8, "Q", 20, "Q"
    else:
        start, count_format, entry, next_format = 4, "H", 12, "I"
    width = struct.calcsize(next_format)
    (offset,) = struct.unpack(order + next_format, head[start : start + width])
    found: list[int] = []
    while offset:
        if len(found) == MOST_PAGES:
            raise AnimatedImageError(_pages_refused(f"more than {MOST_PAGES} pages"))
        if offset in found:
            raise TruncatedImageError("expected a whole image, got pages that lead in a circle")
        found.append(offset)
        stream.seek(offset)
        content = stream.read(struct.calcsize(count_format))
        (count,) = struct.unpack(order + count_format, content)
        after = offset + len(content) + count * entry
        if after + width > size:
            raise TruncatedImageError("expected a whole image, got a page beyond the file's end")
        stream.seek(after)
        (offset,) = struct.unpack(order + next_format, stream.read(width))
    if not found:
        raise TruncatedImageError("expected a whole image, got a TIFF without any page")
    return found


def _decode_pages(tiff: "TiffFile", pages: list["TiffPage"], stream: BinaryIO) -> np.ndarray:
    full = [page for page in pages if not _is_reduced(page)]
    if not full and len(pages) == 1 and _SUB_IFDS not in pages[0].tags:
        full = pages  # a lone thumbnail is all there is to look at
    if not full or _DNG_VERSION in pages[0].tags:
        raise UnclearPixelsError(
            "expected an image, got a TIFF with previews only, as cameras' raw files have them; "
            f"develop it and {SAVE_INSTEAD}"
        )
    for page in full:
        check_not_overlay(page.tags.valueof(_SOFTWARE))
        check_size(page.imagewidth, page.imagelength)
        planes = page.tags.valueof(_DEPTH, 1)
        if _METAMORPH_PLANES in page.tags:  # a stack with a single directory
            planes = page.tags[_METAMORPH_PLANES].count
        if planes > 1:
            raise AnimatedImageError(_pages_refused(f"a stack of {planes} planes"))
    white = _stated_white(tiff)
    channels = _channels(tiff, full)
    if channels:
        grey = _planes(full, stream, white)
        return np.ascontiguousarray(np.stack([grey[i] for i in channels], axis=2))
    if len(full) > 1:
        raise AnimatedImageError(_pages_refused(f"{len(full)} frames or pages"))
    return _decode_page(full[0], pages.index(full[0]), stream, white)


def _pages_refused(found: str) -> str:
    return f"expected a single image, got {found}; save the one you mean"


def _is_reduced(page: "TiffPage") -> bool:
    """Whether a page says that it is a smaller copy (bit 0) or a mask (bit 2) of another."""
    kind = page.tags.valueof(_SUBFILE_TYPE, 0)
    return bool(kind & 0b101) or page.tags.valueof(_OLD_SUBFILE_TYPE, 1) == 2


# --- one page --------------------------------------------------------------------------------


def _decode_page(
    page: "TiffPage", index: int, stream: BinaryIO, white: int | None = None
) -> np.ndarray:
    """Decodes a page that holds a whole image: RGB, uint8 (H, W, 3)."""
    opacity = _check_layout(page)
    bits = page.bitspersample
    premultiplied = opacity is not None and page.extrasamples[opacity] == _ASSOCIATED
    in_pieces = _can_be_read_in_pieces(page)
    if in_pieces and (bits == 16 or page.compression in _PLAIN or premultiplied):
        return _rgb_from_samples(page, _samples(page), opacity, white)
    try:
        image = _opened_by_pillow(stream, index)
    except UnidentifiedImageError as error:  # the tags are sound: it knows no such combination
        if in_pieces:
            return _rgb_from_samples(page, _samples(page), opacity, white)
        raise _unclear(page, "a combination that is not decoded") from error
    if image.mode not in _PILLOW_MODES[int(page.photometric)]:
        raise _unclear(page, f"colours that Pillow reads as {image.mode}")
    if bits == 12:
        grey = eight_bits(np.asarray(image).astype(np.uint16), white=4095)
        grey = 255 - grey if page.photometric == _WHITE_IS_ZERO else grey
        return np.repeat(grey[..., None], 3, axis=2)
    return flatten(image)


def _check_layout(page: "TiffPage") -> int | None:
    """Refuses a layout whose colours are not stated, or that neither library decodes.

    Returns:
        Which of the channels beyond the colours is opacity; None if none is.
    """
    photometric, bits, samples = page.photometric, _bits(page), page.samplesperpixel
    if photometric in _RAW_COLORS:
        raise _unclear(page, "a camera's raw data")
    if page.compression not in _PILLOW:
        raise _unclear(page, f"the compression {_compression(page)}")
    formats = page.tags.valueof(_SAMPLE_FORMAT, 1)
    formats = set(formats) if isinstance(formats, tuple) else {formats}
    if formats != {1}:
        kinds = {1: "unsigned", 2: "signed integers", 3: "floating point"}
        names = " and ".join(kinds.get(f, f"sample format {f}") for f in sorted(formats))
        raise _unclear(page, f"{names} of {max(bits)} bits, whose white is not stated")
    if len(set(bits)) > 1 or bits[0] not in (1, 2, 4, 8, 12, 16):
        listed = "+".join(map(str, bits)) if len(set(bits)) > 1 else str(bits[0])
        raise _unclear(page, f"{listed} bits per channel")
    if photometric not in _COLORS:
        name = _OTHER_COLORS.get(int(photometric), f"photometric interpretation {photometric:d}")
        raise _unclear(page, f"colours as {name}")
    if bits[0] == 12 and page.compression != _UNCOMPRESSED:
        raise _unclear(page, "12 bits per channel")
    if bits[0] == 16 and not _can_be_read_in_pieces(page):
        raise _unclear(page, "16 bits per channel")
    # Pillow takes colours of half the resolution, the default, for those of the full one.
    full = page.planarconfig == 1 and page.tags.valueof(_SUBSAMPLING) == (1, 1)
    if photometric == _YCBCR and page.compression != _JPEG and not full:
        raise _unclear(page, "luma and colours apart")
    if bits[0] not in (8, 16) and samples > 1:
        raise _unclear(page, f"{bits[0]} bits per channel")
    if photometric == _PALETTE:
        _check_palette(page)
    if len(page.dataoffsets) > MOST_PIECES:
        raise ImageTooLargeError(
            f"expected at most {MOST_PIECES:,} strips or tiles, got {len(page.dataoffsets):,}"
        )
    return _opacity(page, samples - _COLORS[int(photometric)])


def _opacity(page: "TiffPage", extra: int) -> int | None:
    """Which of `extra` channels beyond the colours is opacity, and whether the rest is known."""
    if extra < 0:
        raise _unclear(page, "fewer channels than its colours need")
    if extra == 0:
        return None
    kinds = page.tags.valueof(_EXTRA_SAMPLES, ())
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    if len(kinds) != extra:
        raise _unclear(page, f"{extra} further channel{'s' * (extra > 1)} of unstated meaning")
    opacities = [i for i, kind in enumerate(kinds) if kind in (_ASSOCIATED, _UNASSOCIATED)]
    # Beside red, green and blue the specification lets readers skip what is unspecified;
    # a grey image with more channels has colours that nobody named.
    if len(opacities) > 1 or (
        page.photometric != _RGB and (page.photometric == _CMYK or not opacities or extra > 1)
    ):
        raise _unclear(page, f"{extra} further channel{'s' * (extra > 1)} of unstated meaning")
    return opacities[0] if opacities else None


def _check_palette(page: "TiffPage") -> None:
    entries = page.tags.valueof(_COLOR_MAP)
    if entries is not None and 0 < int(np.max(entries)) < 256:
        raise _unclear(page, "a palette that uses only 256 of its 65,536 levels")


def _unclear(page: "TiffPage", found: str) -> UnclearPixelsError:
    return UnclearPixelsError(
        f"expected a TIFF whose colours are known, got {found} ({_layout(page)}); {SAVE_INSTEAD}"
    )


def _layout(page: "TiffPage") -> str:
    """The page's layout in words: "3 channels of 16 bits in separate planes, compression LZW"."""
    samples = page.samplesperpixel
    return (
        f"{samples} channel{'s' * (samples != 1)} of {'+'.join(map(str, sorted(set(_bits(page)))))} "
        f"bits{' in separate planes' if page.planarconfig == 2 and samples > 1 else ''}, "
        f"compression {_compression(page)}"
    )


def _compression(page: "TiffPage") -> str:
    return getattr(page.compression, "name", None) or f"number {page.compression}"


def _bits(page: "TiffPage") -> tuple[int, ...]:
    bits = page.tags.valueof(_BITS, 1)
    return tuple(bits) if isinstance(bits, tuple) and bits else (bits or 1,)


def _can_be_read_in_pieces(page: "TiffPage") -> bool:
    return (
        page.bitspersample in (8, 16)
        and page.compression in _IN_PIECES
        and page.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK)
        and (page.compression == _UNCOMPRESSED or page.fillorder == 1)
    )


def _samples(page: "TiffPage") -> np.ndarray:
    """All samples of a page of 8 or 16 bits, uint8 or uint16 (H, W, channels).

    Raises:
        TruncatedImageError: A strip or tile is missing or short.
    """
    from tifffile import COMPRESSION

    compression = int(page.compression)
    # Compression is undone here, as tifffile would inflate a strip without a limit, and knows
    # few kinds by itself. Told that there is none, it undoes the predictor, and says where
    # the strip or tile belongs.
    page.compression = COMPRESSION.NONE
    planes, _, height, width, channels = page.shaped
    image = np.zeros(
        (planes, height, width, channels), np.uint16 if page.dtype == np.uint16 else np.uint8
    )
    covered = 0
    for index, (start, count) in enumerate(
        zip(page.dataoffsets, page.databytecounts, strict=False)
    ):
        page.parent.filehandle.seek(start)
        data = page.parent.filehandle.read(count)
        size = _piece_size(page, index) * image.dtype.itemsize
        if compression in _DEFLATE:
            data = zlib.decompressobj().decompress(data, size)
        elif compression != _UNCOMPRESSED:
            data = _decompressed(data, size, compression)
        piece, (plane, _, top, left, _), _ = page.decode(data, index)
        if piece is None or plane >= planes:
            raise TruncatedImageError("expected a whole image, got a strip or tile without data")
        target = image[plane, top : top + piece.shape[1], left : left + piece.shape[2]]
        target[:] = piece[0, : target.shape[0], : target.shape[1]]
        covered += target.size
    if covered < image.size:
        raise TruncatedImageError(
            f"expected a whole image, got {covered / image.size:.0%} of its samples"
        )
    return np.moveaxis(image, 0, 2).reshape(height, width, planes * channels)


def _decompressed(data: bytes, size: int, compression: int) -> bytes:
    """Undoes LZW, PackBits, LZMA or ZSTD of one strip or tile, by Pillow's libtiff.

    Args:
        data: The compressed bytes.
        size: How many bytes they hold.
        compression: Number of the tag.
    """
    # A TIFF of its own: one row of grey bytes, without a predictor.
    tags = {
        256: size,  # width
        257: 1,  # height
        258: 8,  # bits
        259: compression,
        262: _BLACK_IS_ZERO,
        273: 8,  # offset of the strip
        277: 1,  # channels
        278: 1,  # rows
        279: len(data),
    }
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    padded = data + bytes(len(data) % 2)
    content = (
        struct.pack("<2sHI", b"II", 42, 8 + len(padded))
        + padded
        + struct.pack("<H", len(tags))
        + entries
        + bytes(4)
    )
    return Image.open(io.BytesIO(content), formats=("TIFF",)).tobytes()


def _piece_size(page: "TiffPage", index: int) -> int:
    """How many samples strip or tile number `index` holds; the last strip has fewer rows."""
    channels = page.samplesperpixel if page.planarconfig == 1 else 1
    rows, columns = page.rowsperstrip, page.imagewidth
    if page.is_tiled:
        rows, columns = page.tilelength, page.tilewidth
    else:
        strips = math.ceil(page.imagelength / rows)
        rows = min(rows, page.imagelength - index % strips * rows)
    check_size(columns, rows)
    return rows * columns * channels


def _rgb_from_samples(
    page: "TiffPage", samples: np.ndarray, opacity: int | None, white: int | None
) -> np.ndarray:
    colors = _COLORS[int(page.photometric)]
    kept = list(range(colors)) + ([colors + opacity] if opacity is not None else [])
    samples = samples[..., kept]
    if page.photometric == _CMYK:
        if samples.dtype == np.uint16:
            samples = eight_bits(samples, white or 65535)
        size = (samples.shape[1], samples.shape[0])
        return _upright(page, flatten(Image.frombytes("CMYK", size, samples.tobytes())))
    if colors == 1:  # grey: as three equal colours, so that opacity is the fourth channel
        samples = samples[..., [0, 0, 0, *range(1, samples.shape[2])]]
    if samples.dtype == np.uint16:
        samples = scaled_with_opacity(samples, white or 65535)
    if page.photometric == _WHITE_IS_ZERO:
        samples = np.concatenate([255 - samples[..., :3], samples[..., 3:]], axis=2)
    if opacity is None:
        return _upright(page, samples)
    image = Image.fromarray(np.ascontiguousarray(samples))
    if page.extrasamples[opacity] == _ASSOCIATED and samples[..., 3].any():
        image = Image.frombytes("RGBa", image.size, image.tobytes())
    return _upright(page, flatten(image))


def _upright(page: "TiffPage", rgb: np.ndarray) -> np.ndarray:
    """Turns pixels by the tag Orientation (TIFF 6.0, page 36)."""
    orientation = page.tags.valueof(_ORIENTATION, 1)
    if orientation in (5, 6, 7, 8):  # rows are columns of the scene
        rgb = rgb.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        rgb = rgb[::-1]
    if orientation in (2, 3, 6, 7):
        rgb = rgb[:, ::-1]
    return np.ascontiguousarray(rgb)


def _opened_by_pillow(stream: BinaryIO, index: int) -> Image.Image:
    stream.seek(0)
    image = Image.open(stream, formats=("TIFF",))
    if index:
        image.seek(index)
    check_size(*image.size)
    image.load()
    return image


# --- several pages ---------------------------------------------------------------------------


def _stated_white(tiff: "TiffFile") -> int | None:
    """The largest value of 16-bit samples by OME's SignificantBits; None if not stated."""
    if not tiff.is_ome:
        return None
    bits = {int(n) for n in re.findall(r'\bSignificantBits="(\d{1,3})"', tiff.ome_metadata or "")}
    return 2 ** bits.pop() - 1 if len(bits) == 1 and bits <= set(range(9, 17)) else None


def _channels(tiff: "TiffFile", full: list["TiffPage"]) -> list[int] | None:
    """Where red, green and blue are, if the image's channels are told apart by metadata.

    Returns:
        Three numbers of planes; None if there is one page with colours of its own.

    Raises:
        AnimatedImageError: The metadata tells of more planes than three channels.
        UnclearPixelsError: The channels have other colours than red, green and blue.
    """
    first = full[0]
    pages, names = _declared(tiff, first)
    if pages > len(full):
        raise AnimatedImageError(_pages_refused(f"a stack of {pages} pages"))
    planes = len(full) * first.samplesperpixel
    if names is None or len(names) != planes or planes == 1 or not _is_grey(first):
        return None
    if len(names) != 3:
        raise UnclearPixelsError(
            f"expected one image in colour, got {len(names)} channels; {SAVE_INSTEAD}"
        )
    if not any(names):
        return [0, 1, 2]
    if sorted(names) != sorted(_RED_GREEN_BLUE):
        listed = ", ".join(name or "not stated" for name in names)
        raise UnclearPixelsError(
            f"expected channels red, green and blue, got {listed}; {SAVE_INSTEAD}"
        )
    return [names.index(name) for name in _RED_GREEN_BLUE]


def _planes(full: list["TiffPage"], stream: BinaryIO, white: int | None) -> list[np.ndarray]:
    """The grey planes of pages with one channel, or of a page with several: uint8 (H, W) each."""
    shapes = {(page.imagelength, page.imagewidth) for page in full}
    if len(shapes) > 1:
        sizes = ", ".join(f"{width} x {height}" for height, width in sorted(shapes))
        raise AnimatedImageError(_pages_refused(f"pages of {sizes} pixels"))
    largest = 0
    planes = []
    for page in full:
        if not _can_be_read_in_pieces(page):
            raise _unclear(page, "channels one by one")
        formats = page.tags.valueof(_SAMPLE_FORMAT, 1)
        if formats != 1 and set(np.atleast_1d(formats)) != {1}:
            raise _unclear(page, "signed or floating-point channels")
        if len(set(_bits(page))) > 1 or len(page.dataoffsets) > MOST_PIECES:
            raise _unclear(page, "channels one by one")
        samples = _samples(page)
        if page.photometric == _WHITE_IS_ZERO:
            samples = np.iinfo(samples.dtype).max - samples
        planes += list(np.moveaxis(_upright(page, samples), 2, 0))
        largest = max(largest, int(samples.max()))
    stacked = np.stack(planes)  # one range for all channels: a dark one alone is not unclear
    return list(eight_bits(stacked, white or 65535) if stacked.dtype == np.uint16 else stacked)


def _declared(tiff: "TiffFile", first: "TiffPage") -> tuple[int, list[str] | None]:
    """How many pages the metadata tells of, and the colours of the image's channels.

    Args:
        tiff: The open file.
        first: Its first full page.

    Returns:
        The number of pages, 1 without metadata; for each channel "red", "green", "blue",
        another name, or "" if its colour is not stated. None if there are no channels, or
        more than channels.
    """
    if tiff.is_ome:
        return _declared_by_ome(tiff.ome_metadata or "", first.samplesperpixel)
    if tiff.is_imagej:
        return _declared_by_imagej(tiff.imagej_metadata or {})
    if tiff.is_shaped:
        area = first.imagewidth * first.imagelength * first.samplesperpixel
        return _declared_by_tifffile(first.description, area)
    return 1, None


def _declared_by_ome(text: str, samples: int) -> tuple[int, list[str] | None]:
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise TruncatedImageError("expected OME metadata, got XML with entities of its own")
    root = ElementTree.fromstring(text)
    images = [element for element in root.iter() if element.tag.endswith("}Pixels")]
    if len(images) != 1:
        raise AnimatedImageError(_pages_refused(f"{len(images)} images"))
    pixels = images[0]
    sizes = {axis: int(pixels.get(f"Size{axis}", 1)) for axis in "ZCT"}
    pages = math.ceil(math.prod(sizes.values()) / samples)
    if sizes["Z"] * sizes["T"] != 1 or not 1 < sizes["C"] <= MOST_PAGES:
        return pages, None
    channels = [element for element in pixels if element.tag.endswith("}Channel")]
    names = [_ome_color(channel) for channel in channels]
    names += [""] * (sizes["C"] - len(names))
    blocks = [element for element in pixels if element.tag.endswith("}TiffData")]
    channel_of = {int(b.get("IFD", 0)): int(b.get("FirstC", 0)) for b in blocks}
    if sorted(channel_of) == sorted(channel_of.values()) == list(range(len(names))):
        if len(names) == 3 and not any(names):
            names = list(_RED_GREEN_BLUE)
        names = [names[channel_of[page]] for page in range(len(names))]
    return pages, names


def _ome_color(channel: ElementTree.Element) -> str:
    name = channel.get("Name", "").strip().lower()
    if name in (*_RED_GREEN_BLUE, "r", "g", "b"):
        return next(color for color in _RED_GREEN_BLUE if color[0] == name[0])
    value = int(channel.get("Color", -1)) & 0xFFFFFFFF  # red, green, blue, opacity
    pure = {0xFF0000: "red", 0x00FF00: "green", 0x0000FF: "blue", 0xFFFFFF: ""}
    color = pure.get(value >> 8, f"colour #{value >> 8:06x}")
    generic = re.fullmatch(r"(channel|ch|c)?[ :_-]*\d*", name)
    return color or ("" if generic else name)


def _declared_by_imagej(metadata: dict) -> tuple[int, list[str] | None]:
    planes = int(metadata.get("images", 1))
    channels = int(metadata.get("channels", 1))
    labels = [str(label).strip().lower() for label in metadata.get("Labels", ())]
    if channels == planes:
        return planes, [_lut_color(lut) for lut in metadata.get("LUTs", ())] or [""] * channels
    if labels == list(_RED_GREEN_BLUE):  # "RGB Stack"
        return planes, labels
    return planes, None


def _lut_color(table: np.ndarray) -> str:
    """The colour of an ImageJ lookup table, uint8 (3, 256); "" for grey."""
    used = tuple(bool(channel.any()) for channel in np.asarray(table))
    if sum(used) == 1:
        return _RED_GREEN_BLUE[used.index(True)]
    return "" if all(used) else "a mixed colour"


def _declared_by_tifffile(description: str, area: int) -> tuple[int, list[str] | None]:
    metadata = json.loads(description)
    shape = [int(side) for side in metadata["shape"]]
    axes = str(metadata.get("axes", ""))
    pages = math.prod(shape) // area
    if len(axes) != len(shape):
        return pages, None
    sides = dict(zip(axes, shape, strict=True))
    planes = math.prod(side for axis, side in sides.items() if axis not in "YXS")
    return pages, [""] * planes if sides.get("C", 1) == planes <= MOST_PAGES else None


def _is_grey(page: "TiffPage") -> bool:
    return page.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO)

"""What the decoder makes of each layout, measured; written into docs/reference/image-formats.md.

    PYTHONPATH=. python tests/imaging/layouts.py

writes the table anew. `test_layouts.py` fails if it differs from the one in the document, or
if a layout does not end as it is stated here.
"""

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pillow_heif
import tiff_writer as tw
from PIL import Image, PngImagePlugin
from tiff_writer import Page, write_tiff

from mseenet.imaging import formats
from mseenet.imaging.decoding import decode_image
from mseenet.imaging.errors import ImageError

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reference" / "image-formats.md"
BEGIN, END = "<!-- table: made by tests/imaging/layouts.py -->", "<!-- end of the table -->"

_RANDOM = np.random.default_rng(3)
_COARSE = _RANDOM.integers(0, 256, (6, 8, 3), dtype=np.uint8)
PIXELS = np.repeat(np.repeat(_COARSE, 8, axis=0), 8, axis=1)  # (48, 64, 3): survives subsampling
PIXELS[0, 0] = 255
GREY = PIXELS[..., 1]
DEEP = PIXELS.astype(np.uint16) * 257

EXACT, LOSSY, REFUSED = "every pixel", "lossy", "refused"


class Layout(NamedTuple):
    """One row: what it is, its content, how it has to end, and its true RGB pixels."""

    image_format: str
    name: str
    content: bytes
    ends: str
    pixels: np.ndarray = PIXELS


def layouts() -> Iterator[Layout]:
    """All rows, in the table's order."""
    yield from _pictures()
    yield from _tiff_colors()
    yield from _tiff_storage()
    yield from _tiff_pages()
    yield from _others()


def measured(layout: Layout) -> tuple[str, str]:
    """How a layout ends, and the same in words for the table."""
    try:
        decoded = decode_image(layout.content)
    except ImageError as error:
        return REFUSED, f"refused: {error}"
    if decoded.shape != layout.pixels.shape:
        return "wrong shape", str(decoded.shape)
    difference = np.abs(decoded.astype(int) - layout.pixels)
    if difference.max() == 0:
        return EXACT, EXACT
    if difference.mean() < 8:
        return LOSSY, "as its lossy compression left them"
    return "wrong pixels", f"mean difference {difference.mean():.0f}"


def table() -> str:
    """The table in Markdown."""
    rows = ["| format | layout | pixels |", "| --- | --- | --- |"]
    for layout in layouts():
        rows.append(f"| {layout.image_format} | {layout.name} | {measured(layout)[1]} |")
    return "\n".join(rows)


def document_with(new: str) -> str:
    """The document with its table replaced."""
    text = DOCUMENT.read_text("utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{new}\n{END}{after}"


def _saved(image: Image.Image, image_format: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()


def _as_rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


def _pictures() -> Iterator[Layout]:
    pillow_heif.register_heif_opener()
    rgb, grey = Image.fromarray(PIXELS), Image.fromarray(GREY)
    half = np.dstack([PIXELS, np.where(np.arange(64) < 32, 255, 0)[None].repeat(48, 0)])
    half = Image.fromarray(half.astype(np.uint8))
    left = PIXELS.copy()
    left[:, 32:] = 255
    clear = Image.fromarray(np.dstack([PIXELS, np.zeros((48, 64), np.uint8)]))
    palette = rgb.quantize(64)
    yield Layout("PNG", "RGB, 8 bits", _saved(rgb, "PNG"), EXACT)
    yield Layout("PNG", "grey, 8 bits", _saved(grey, "PNG"), EXACT, _as_rgb(GREY))
    deep = Image.fromarray(DEEP[..., 1])
    yield Layout("PNG", "grey, 16 bits", _saved(deep, "PNG"), EXACT, _as_rgb(GREY))
    yield Layout(
        "PNG", "palette", _saved(palette, "PNG"), EXACT, np.asarray(palette.convert("RGB"))
    )
    yield Layout("PNG", "RGB and opacity: laid over white", _saved(half, "PNG"), EXACT, left)
    yield Layout("PNG", "RGB, opacity zero everywhere: ignored", _saved(clear, "PNG"), EXACT)
    several = {"save_all": True, "append_images": [Image.fromarray(255 - PIXELS)]}
    yield Layout("PNG", "animated", _saved(rgb, "PNG", **several), REFUSED)
    sparse = Image.fromarray(DEEP[..., 1] // 16)
    yield Layout("PNG", "12 bits in 16", _saved(sparse, "PNG"), REFUSED)
    note = PngImagePlugin.PngInfo()
    note.add_text("Software", formats.OVERLAY_SOFTWARE)
    yield Layout("PNG", "an overlay made by MSEENet", _saved(rgb, "PNG", pnginfo=note), REFUSED)
    jpeg = {"quality": 95}
    yield Layout("JPEG", "colour", _saved(rgb, "JPEG", **jpeg), LOSSY)
    yield Layout("JPEG", "grey", _saved(grey, "JPEG", **jpeg), LOSSY, _as_rgb(GREY))
    cmyk = rgb.convert("CMYK")
    yield Layout("JPEG", "CMYK", _saved(cmyk, "JPEG", **jpeg), LOSSY)
    yield Layout(
        "JPEG", "with previews behind it (MPO)", _saved(rgb, "MPO", **several, **jpeg), LOSSY
    )
    content = bytearray(_saved(rgb, "JPEG"))
    frame = content.index(b"\xff\xc0")
    content[frame + 1], content[frame + 4] = 0xC1, 12
    yield Layout("JPEG", "12 bits", bytes(content), REFUSED)
    yield Layout("BMP", "RGB", _saved(rgb, "BMP"), EXACT)
    yield Layout("BMP", "grey", _saved(grey, "BMP"), EXACT, _as_rgb(GREY))
    yield Layout("WebP", "lossless", _saved(rgb, "WEBP", lossless=True), EXACT)
    yield Layout("WebP", "lossy", _saved(rgb, "WEBP", quality=95), LOSSY)
    yield Layout("WebP", "animated", _saved(rgb, "WEBP", **several), REFUSED)
    yield Layout("HEIC", "a phone's still", _saved(rgb, "HEIF", quality=95), LOSSY)
    yield Layout("HEIC", "several images", _saved(rgb, "HEIF", **several), REFUSED)


def _tiff_colors() -> Iterator[Layout]:
    grey, deep_grey = GREY[..., None], DEEP[..., 1:2]
    one = (GREY > 127).astype(np.uint8)[..., None]
    opaque = np.full_like(grey, 255)
    cmyk = np.asarray(Image.fromarray(PIXELS).convert("CMYK"))
    rows = [
        ("RGB, 8 bits", Page(PIXELS), EXACT, PIXELS),
        ("RGB, 16 bits", Page(DEEP), EXACT, PIXELS),
        ("grey, 8 bits", Page(grey, photometric=1), EXACT, _as_rgb(GREY)),
        ("grey, 16 bits", Page(deep_grey, photometric=1), EXACT, _as_rgb(GREY)),
        ("grey, white is zero", Page(255 - grey, photometric=0), EXACT, _as_rgb(GREY)),
        (
            "grey, 16 bits, white is zero",
            Page(65535 - deep_grey, photometric=0),
            EXACT,
            _as_rgb(GREY),
        ),
        ("grey, 4 bits", Page(grey // 16, bits=4, photometric=1), EXACT, _as_rgb(GREY // 16 * 17)),
        ("black and white", Page(one, bits=1, photometric=1), EXACT, np.repeat(one * 255, 3, 2)),
        (
            "grey, 12 bits packed",
            Page((deep_grey >> 4).astype(np.uint16), bits=12, photometric=1),
            EXACT,
            _as_rgb(GREY),
        ),
        ("RGB, 12 bits packed", Page(DEEP >> 4, bits=12), REFUSED, PIXELS),
        ("RGB and opacity", Page(np.dstack([PIXELS, opaque]), extra=(2,)), EXACT, PIXELS),
        (
            "RGB and premultiplied opacity",
            Page(np.dstack([PIXELS, opaque]), extra=(1,)),
            EXACT,
            PIXELS,
        ),
        (
            "RGB, opacity zero everywhere: ignored",
            Page(np.dstack([PIXELS, opaque * 0]), extra=(2,)),
            EXACT,
            PIXELS,
        ),
        (
            "RGB and a channel marked unspecified",
            Page(np.dstack([PIXELS, grey]), extra=(0,)),
            EXACT,
            PIXELS,
        ),
        ("RGB and a channel without a mark", Page(np.dstack([PIXELS, grey])), REFUSED, PIXELS),
        ("three grey channels", Page(PIXELS, photometric=1, extra=(0, 0)), REFUSED, PIXELS),
        (
            "CMYK",
            Page(cmyk, photometric=5),
            EXACT,
            np.asarray(Image.fromarray(cmyk, "CMYK").convert("RGB")),
        ),
        (
            "YCbCr without compression, colours at half resolution",
            Page(PIXELS, photometric=6),
            REFUSED,
            PIXELS,
        ),
        ("CIELAB", Page(PIXELS, photometric=8), REFUSED, PIXELS),
        ("a camera's raw data", Page(deep_grey, photometric=32803), REFUSED, PIXELS),
        ("RGB, 10 bits in 16", Page(DEEP // 64), REFUSED, PIXELS),
        ("RGB, 12 bits in 16", Page(DEEP // 16), REFUSED, PIXELS),
        ("RGB, 14 bits in 16", Page(DEEP // 4), REFUSED, PIXELS),
        ("RGB, signed 16 bits", Page((DEEP // 2).astype(np.int16)), REFUSED, PIXELS),
        ("RGB, 32-bit integers", Page(DEEP.astype(np.uint32) * 65537), REFUSED, PIXELS),
        ("RGB, 32-bit floating point", Page((PIXELS / 255).astype(np.float32)), REFUSED, PIXELS),
        ("RGB, 64-bit floating point", Page(PIXELS / 255), REFUSED, PIXELS),
    ]
    for name, page, ends, pixels in rows:
        yield Layout("TIFF", name, write_tiff(page), ends, pixels)


def _tiff_storage() -> Iterator[Layout]:
    compressions = {
        "no compression": tw.NONE,
        "deflate": tw.DEFLATE,
        "LZW": tw.LZW,
        "PackBits": tw.PACKBITS,
    }
    for name, compression in compressions.items():
        for bits, samples in ((8, PIXELS), (16, DEEP)):
            for planar in (False, True):
                pages = [
                    Page(samples, planar=planar, compression=compression, predictor=p, tile=tile)
                    for p in ((False, True) if compression in (tw.LZW, tw.DEFLATE) else (False,))
                    for tile in (None, (16, 32))
                ]
                contents = {
                    write_tiff(page, big_endian=big) for page in pages for big in (False, True)
                }
                ends = {measured(Layout("", "", content, "")) for content in contents}
                assert len({end for end, _ in ends}) == 1, (name, bits, planar, ends)
                where = "in separate planes" if planar else "interleaved"
                yield Layout(
                    "TIFF",
                    f"RGB {where}, {bits} bits, {name}; strips or tiles, either byte order"
                    + (", with or without predictor" if len(pages) > 2 else ""),
                    min(contents),
                    EXACT,
                )
    yield Layout("BigTIFF", "little-endian", write_tiff(Page(DEEP), big_tiff=True), EXACT)
    yield Layout(
        "BigTIFF", "big-endian", write_tiff(Page(DEEP), big_tiff=True, big_endian=True), EXACT
    )
    content = write_tiff(Page(DEEP, compression=tw.LZW), big_tiff=True, big_endian=True)
    yield Layout("BigTIFF", "big-endian, LZW", content, EXACT)
    rgb = Image.fromarray(PIXELS)
    for name in ("zstd", "lzma"):
        yield Layout("TIFF", f"RGB, {name.upper()}", _saved(rgb, "TIFF", compression=name), EXACT)
    yield Layout("TIFF", "RGB, JPEG", _saved(rgb, "TIFF", compression="jpeg", quality=95), LOSSY)
    one = rgb.convert("1")
    for name in ("group3", "group4"):
        content = _saved(one, "TIFF", compression=name)
        yield Layout(
            "TIFF", f"black and white, CCITT {name}", content, EXACT, np.asarray(one.convert("RGB"))
        )
    for name, number in (
        ("JPEG 2000", 34712),
        ("JPEG XR", 22610),
        ("WebP", 50001),
        ("LERC", 34887),
        ("JPEG XL", 50002),
    ):
        yield Layout("TIFF", f"RGB, {name}", write_tiff(Page(PIXELS, compression=number)), REFUSED)


def _tiff_pages() -> Iterator[Layout]:
    half = Page(PIXELS[::2, ::2], tags={254: (4, (1,))})
    rgb, other = Page(PIXELS), Page(255 - PIXELS)
    yield Layout(
        "TIFF", "pages marked as reduced (pyramid, thumbnail)", write_tiff(rgb, half), EXACT
    )
    yield Layout("TIFF", "a thumbnail first", write_tiff(half, rgb), EXACT)
    unmarked = Page(PIXELS[::2, ::2])
    yield Layout("TIFF", "a smaller page without a mark", write_tiff(rgb, unmarked), REFUSED)
    yield Layout("TIFF", "several pages", write_tiff(rgb, other), REFUSED)
    imagej = b"ImageJ=1.54f\nimages=3\nchannels=3\nmode=composite\n"
    stack = b"ImageJ=1.54f\nimages=3\nslices=3\n"
    for name, samples in (("8 bits", PIXELS), ("16 bits", DEEP)):
        content = _channels(imagej, samples)
        yield Layout("TIFF", f"ImageJ, 3 channels on pages of their own, {name}", content, EXACT)
        content = _channels(_ome(""), samples)
        yield Layout(
            "TIFF", f"OME `CYX`, 3 channels without stated colours, {name}", content, EXACT
        )
    named = "".join(f'<Channel ID="{n}" Name="{n}"/>' for n in ("Blue", "Green", "Red"))
    yield Layout(
        "TIFF", "OME, channels Blue, Green, Red", _channels(_ome(named), PIXELS[..., ::-1]), EXACT
    )
    stains = "".join(f'<Channel ID="{n}" Name="{n}"/>' for n in ("DAPI", "FITC", "Cy5"))
    yield Layout("TIFF", "OME, channels DAPI, FITC, Cy5", _channels(_ome(stains), PIXELS), REFUSED)
    yield Layout("TIFF", "ImageJ, 3 slices", _channels(stack, PIXELS), REFUSED)
    levels = np.round(PIXELS * (4095 / 255)).astype(np.uint16)
    description = _ome('<Channel ID="0" SamplesPerPixel="3"/>', ' SignificantBits="12"')
    content = write_tiff(Page(levels, tags={270: (2, description)}))
    yield Layout("TIFF", "OME, RGB, 12 bits in 16 with `SignificantBits`", content, EXACT)


def _channels(description: bytes, samples: np.ndarray) -> bytes:
    tags = ({270: (2, description)}, {}, {})
    return write_tiff(
        *(Page(samples[..., i : i + 1], photometric=1, tags=tags[i]) for i in range(3))
    )


def _ome(channels: str, attributes: str = "") -> bytes:
    return (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image>'
        f'<Pixels Type="uint8" SizeX="64" SizeY="48" SizeC="3" SizeZ="1" SizeT="1"{attributes}>'
        f"{channels}<TiffData/></Pixels></Image></OME>"
    ).encode()


def _others() -> Iterator[Layout]:
    rgb = Image.fromarray(PIXELS)
    yield Layout("GIF", "", _saved(rgb, "GIF"), REFUSED)
    yield Layout("AVIF", "", _saved(rgb, "AVIF"), REFUSED)
    yield Layout("JPEG 2000", "", _saved(rgb, "JPEG2000"), REFUSED)
    yield Layout("DICOM", "", bytes(128) + b"DICM" + bytes(100), REFUSED)
    yield Layout("PDF", "", b"%PDF-1.7\n" + bytes(100), REFUSED)
    yield Layout("CZI", "", b"ZISRAWFILE" + bytes(100), REFUSED)


if __name__ == "__main__":
    DOCUMENT.write_text(document_with(table()), "utf-8")
    sys.exit()

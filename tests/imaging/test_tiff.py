"""Pixels known beforehand through every layout, or a sentence that names the layout."""

import io
import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import pytest
import tiff_writer as tw
from conftest import encode_pil
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiff_writer import Page, write_tiff

from mseenet.imaging.decoding import decode_image
from mseenet.imaging.errors import (
    AnimatedImageError,
    ImageError,
    TruncatedImageError,
    UnclearPixelsError,
)

RANDOM = np.random.default_rng(5)
PIXELS = RANDOM.integers(0, 256, (21, 34, 3), dtype=np.uint8)
PIXELS[0, 0] = 255
DEEP = PIXELS.astype(np.uint16) * 257
REDUCED = {254: (4, (1,))}


def pixels_of(height: int, width: int, channels: int, seed: int) -> np.ndarray:
    """Random pixels, uint8, white and black among them, so that 16 bits use their range."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    pixels[0, 0] = 255
    return pixels


@st.composite
def layouts(draw):
    """A TIFF and its RGB pixels."""
    channels = draw(
        st.sampled_from(
            ["grey", "white is zero", "RGB", "RGB + unspecified", "RGB + opacity", "CMYK"]
        )
    )
    bits = draw(st.sampled_from([8, 16]))
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    count = {"grey": 1, "white is zero": 1, "RGB": 3}.get(channels, 4)
    samples = pixels_of(height, width, count, draw(st.integers(0, 2**16)))
    tile = draw(st.sampled_from([None, (16, 16), (32, 16)]))
    compression = draw(st.sampled_from([tw.NONE, tw.LZW, tw.DEFLATE, tw.PACKBITS]))
    planar = draw(st.booleans())
    page = Page(
        samples.astype(np.uint16) * 257 if bits == 16 else samples,
        photometric={"grey": 1, "white is zero": 0, "CMYK": 5}.get(channels, 2),
        planar=planar,
        compression=compression,
        predictor=draw(st.booleans()) and compression in (tw.LZW, tw.DEFLATE),
        tile=tile,
        rows=draw(st.sampled_from([None, 1, 7])),
        extra={"RGB + unspecified": (0,), "RGB + opacity": (2,)}.get(channels),
    )
    reduced = Page(samples[::2, ::2], photometric=page.photometric, extra=page.extra, tags=REDUCED)
    pages = draw(st.sampled_from([(page,), (page, reduced), (reduced, page)]))
    content = write_tiff(*pages, big_endian=draw(st.booleans()), big_tiff=draw(st.booleans()))
    if channels == "RGB + opacity":
        expected = np.array(
            Image.alpha_composite(
                Image.new("RGBA", (width, height), "white"), Image.fromarray(samples)
            ).convert("RGB")
        )
    elif channels == "CMYK":
        expected = np.array(
            Image.frombytes("CMYK", (width, height), samples.tobytes()).convert("RGB")
        )
    elif count == 1:
        expected = np.repeat(255 - samples if channels == "white is zero" else samples, 3, axis=2)
    else:
        expected = samples[..., :3]
    return content, expected


@settings(max_examples=400, deadline=None)
@given(layouts())
def test_every_layout_gives_its_pixels(layout):
    content, expected = layout
    np.testing.assert_array_equal(decode_image(content), expected)


@pytest.mark.parametrize("compression", [tw.NONE, tw.DEFLATE, tw.LZW])
def test_sixteen_bits_are_rounded_to_the_nearest_level(compression):
    deep = RANDOM.integers(0, 65536, (50, 60, 3), dtype=np.uint16)
    deep[0, 0] = 65535
    decoded = decode_image(write_tiff(Page(deep, compression=compression)))
    np.testing.assert_array_equal(decoded, np.round(deep / 257))


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("photometric", [0, 1])
def test_few_bits_use_their_full_range(bits, photometric):
    levels = RANDOM.integers(0, 2**bits, (9, 13, 1), dtype=np.uint8)
    levels[0, :2, 0] = 0, 2**bits - 1
    expected = np.round(levels * (255 / (2**bits - 1)))
    decoded = decode_image(write_tiff(Page(levels, bits=bits, photometric=photometric)))
    np.testing.assert_array_equal(
        decoded, np.repeat(expected if photometric else 255 - expected, 3, axis=2)
    )


def test_twelve_packed_bits_use_their_full_range():
    levels = RANDOM.integers(0, 4096, (8, 12, 1), dtype=np.uint16)
    decoded = decode_image(write_tiff(Page(levels, bits=12, photometric=1)))
    np.testing.assert_array_equal(decoded[..., 0], np.round(levels[..., 0] * (255 / 4095)))
    with pytest.raises(UnclearPixelsError, match="12 bits per channel"):
        decode_image(write_tiff(Page(np.repeat(levels, 3, axis=2), bits=12)))


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_applied_once_whichever_library_decodes(orientation, deep):
    samples = DEEP if deep else PIXELS
    decoded = decode_image(write_tiff(Page(samples, tags={274: (3, (orientation,))})))
    upright = {
        1: PIXELS,
        2: PIXELS[:, ::-1],
        3: PIXELS[::-1, ::-1],
        4: PIXELS[::-1],
        5: PIXELS.transpose(1, 0, 2),
        6: np.rot90(PIXELS, -1),
        7: PIXELS[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(PIXELS),
    }
    np.testing.assert_array_equal(decoded, upright[orientation])


UNCLEAR = {
    "12 bits in 16": (Page(DEEP // 16), "none above 4,095"),
    "10 bits in 16": (Page(DEEP // 64), "none above 1,023"),
    "14 bits in 16, LZW": (Page(DEEP // 4, compression=tw.LZW), "none above 16,383"),
    "32-bit integers": (Page(PIXELS.astype(np.uint32)), "32 bits per channel"),
    "64-bit floats": (Page(PIXELS / 255), "floating point of 64 bits"),
    "32-bit floats": (Page((PIXELS / 255).astype(np.float32)), "floating point of 32 bits"),
    "32-bit float grey": (
        Page((PIXELS[..., :1] / 255).astype(np.float32), photometric=1),
        "floating point of 32 bits",
    ),
    "signed 16 bits": (Page(DEEP.astype(np.int16)), "signed integers of 16 bits"),
    "signed 8 bits": (Page(PIXELS.astype(np.int8)), "signed integers of 8 bits"),
    "two greys": (Page(PIXELS[..., :2], photometric=1, extra=(0,)), "1 further channel of unst"),
    "three greys": (Page(PIXELS, photometric=1, extra=(0, 0)), "2 further channels of unstated"),
    "RGB + unstated": (
        Page(np.concatenate([PIXELS, PIXELS[..., :1]], axis=2)),
        "1 further channel of unstated",
    ),
    "JPEG XR": (Page(PIXELS, compression=22610), "the compression JPEGXR"),
    "JPEG 2000": (Page(PIXELS, compression=33005), "the compression APERIO_JP2000_RGB"),
    "unknown": (Page(PIXELS, compression=60606), "the compression number 60606"),
    "WebP": (Page(PIXELS, compression=50001), "the compression WEBP"),
    "CIELAB": (Page(PIXELS, photometric=8), "colours as CIELAB"),
    "raw": (Page(PIXELS[..., :1], photometric=32803), "a camera's raw data"),
    "YCbCr of half resolution": (Page(PIXELS, photometric=6), "luma and colours apart"),
    "16-bit palette": (Page(DEEP[..., :1], photometric=3), "16 bits per channel"),
    "mixed bits": (Page(PIXELS, tags={258: (3, (8, 8, 16))}), r"8\+8\+16 bits"),
    "two opacities": (
        Page(np.concatenate([PIXELS, PIXELS[..., :2]], axis=2), extra=(1, 2)),
        "2 further channels",
    ),
    "old JPEG": (Page(PIXELS, photometric=6, compression=6), "the compression OJPEG"),
    "too few channels": (Page(PIXELS[..., :1]), "fewer channels than its colours need"),
    "4-bit RGB": (Page(PIXELS // 16, bits=4), "4 bits per channel"),
}


@pytest.mark.parametrize(("page", "message"), UNCLEAR.values(), ids=UNCLEAR)
def test_what_is_not_stated_is_refused_by_name(page, message):
    with pytest.raises(UnclearPixelsError, match=message) as caught:
        decode_image(write_tiff(page))
    assert "save it as a PNG or TIFF" in str(caught.value)


@pytest.mark.parametrize("compression", [tw.NONE, tw.LZW])
def test_palettes_and_further_channels(compression):
    levels = RANDOM.integers(0, 65536, 768, dtype=np.uint16)
    palette = {320: (3, tuple(levels.tolist()))}
    indices = PIXELS[..., :1]
    content = write_tiff(Page(indices, photometric=3, compression=compression, tags=palette))
    expected = (levels.reshape(3, 256).T >> 8)[indices[..., 0]]
    np.testing.assert_array_equal(decode_image(content), expected)
    opaque = np.full((*PIXELS.shape[:2], 1), 255, np.uint8)
    five = np.concatenate([PIXELS, indices, opaque], axis=2)
    for planar in (False, True):
        page = Page(five, extra=(0, 2), compression=compression, planar=planar)
        np.testing.assert_array_equal(decode_image(write_tiff(page)), PIXELS)
    two = np.concatenate([255 - indices, opaque], axis=2)
    page = Page(two, photometric=0, extra=(2,), compression=compression)
    np.testing.assert_array_equal(decode_image(write_tiff(page)), np.repeat(indices, 3, axis=2))


def test_an_opacity_of_zero_everywhere_is_no_statement():
    clear = np.zeros((*PIXELS.shape[:2], 1), np.uint8)
    for kind in (1, 2):
        for samples in (PIXELS, DEEP):
            content = np.concatenate([samples, clear.astype(samples.dtype)], axis=2)
            page = Page(content, extra=(kind,))
            for planar in (False, True):
                decoded = decode_image(write_tiff(replace(page, planar=planar)))
                np.testing.assert_array_equal(decoded, PIXELS)


def test_premultiplied_opacity_is_laid_over_white():
    opacity = np.full((*PIXELS.shape[:2], 1), 128, np.uint8)
    premultiplied = np.round(PIXELS * (128 / 255)).astype(np.uint8)
    content = np.concatenate([premultiplied, opacity], axis=2)
    expected = premultiplied.astype(int) + 127
    for page in (Page(content, extra=(1,)), Page(content.astype(np.uint16) * 257, extra=(1,))):
        np.testing.assert_allclose(decode_image(write_tiff(page)), expected, atol=2)


# --- several pages ---------------------------------------------------------------------------

SMALL = PIXELS[::2, ::2]


def test_reduced_pages_and_masks_are_left_out():
    first, small = Page(PIXELS), Page(SMALL, tags=REDUCED)
    mask = Page(PIXELS[..., :1] // 200, bits=1, photometric=4, tags={254: (4, (4,))})
    for pages in ((first, small), (small, first), (first, small, small, mask)):
        np.testing.assert_array_equal(decode_image(write_tiff(*pages)), PIXELS)
    old = Page(SMALL, tags={255: (3, (2,))})
    np.testing.assert_array_equal(decode_image(write_tiff(old, Page(DEEP))), PIXELS)


def test_pages_of_unknown_meaning_are_refused():
    grey = [Page(PIXELS[..., i : i + 1], photometric=1) for i in range(3)]
    for pages in (grey, [Page(PIXELS), Page(SMALL)], [Page(PIXELS)] * 2):
        with pytest.raises(AnimatedImageError, match=f"got {len(pages)} frames or pages"):
            decode_image(write_tiff(*pages))
    with pytest.raises(AnimatedImageError, match="more than 100 pages"):
        decode_image(write_tiff(*[Page(SMALL)] * 101))


def channel_pages(description: bytes, samples: np.ndarray = PIXELS) -> bytes:
    pages = [Page(samples[..., i : i + 1], photometric=1) for i in range(samples.shape[2])]
    pages[0].tags[270] = (2, description)
    try:
        return write_tiff(*[replace(page, tags=dict(page.tags)) for page in pages])
    finally:
        pages[0].tags.clear()


def ome(
    channels: str, attributes: str = 'SizeC="3" SizeZ="1" SizeT="1"', blocks: str = "<TiffData/>"
) -> bytes:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="34" SizeY="21" {attributes}>'
        f"{channels}{blocks}</Pixels></Image></OME>"
    ).encode()


IMAGEJ = b"ImageJ=1.54f\nimages=3\nchannels=3\nmode=composite\n"
CYX = b'{"shape": [3, 21, 34], "axes": "CYX"}'


@pytest.mark.parametrize("samples", [PIXELS, DEEP], ids=["8 bits", "16 bits"])
@pytest.mark.parametrize("description", [IMAGEJ, CYX, ome("")], ids=["ImageJ", "tifffile", "OME"])
def test_three_channels_on_pages_of_their_own_are_one_image(description, samples):
    np.testing.assert_array_equal(decode_image(channel_pages(description, samples)), PIXELS)


def test_a_dark_channel_does_not_make_a_16_bit_image_unclear():
    samples = DEEP.copy()
    samples[..., 2] //= 64
    decoded = decode_image(channel_pages(IMAGEJ, samples))
    np.testing.assert_array_equal(decoded, np.round(samples / 257))


def test_stated_colors_decide_the_order_of_channels():
    named = "".join(
        f'<Channel ID="{i}" Name="{n}"/>' for i, n in enumerate(("Blue", "Green", "Red"))
    )
    np.testing.assert_array_equal(decode_image(channel_pages(ome(named))), PIXELS[..., ::-1])
    colored = "".join(f'<Channel ID="{c}" Color="{c}"/>' for c in (16711935, -16776961, 65535))
    decoded = decode_image(channel_pages(ome(colored)))
    np.testing.assert_array_equal(decoded, PIXELS[..., [1, 0, 2]])
    turned = "".join(f'<TiffData IFD="{i}" FirstC="{2 - i}" PlaneCount="1"/>' for i in range(3))
    decoded = decode_image(channel_pages(ome("", blocks=turned)))
    np.testing.assert_array_equal(decoded, PIXELS[..., ::-1])


@pytest.mark.parametrize(
    ("description", "error", "message"),
    [
        (b"ImageJ=1.54f\nimages=3\nslices=3\n", AnimatedImageError, "3 frames or pages"),
        (b"ImageJ=1.54f\nimages=9\nchannels=3\nslices=3\n", AnimatedImageError, "stack of 9 pages"),
        (ome("", 'SizeC="1" SizeZ="3" SizeT="1"'), AnimatedImageError, "3 frames"),
        (ome("", 'SizeC="3" SizeZ="5" SizeT="1"'), AnimatedImageError, "stack of 15 pages"),
        (
            ome('<Channel ID="0" Name="DAPI"/><Channel ID="1"/><Channel ID="2"/>'),
            UnclearPixelsError,
            "got dapi, not stated, not stated",
        ),
        (b'{"shape": [3, 21, 34], "axes": "ZYX"}', AnimatedImageError, "3 frames"),
    ],
)
def test_stacks_and_stains_are_no_colors(description, error, message):
    with pytest.raises(error, match=message):
        decode_image(channel_pages(description))


def test_two_and_four_channels_are_no_colors():
    for count in (2, 4):
        samples = RANDOM.integers(0, 256, (21, 34, count), dtype=np.uint8)
        description = IMAGEJ.replace(b"=3", b"=%d" % count)
        with pytest.raises(UnclearPixelsError, match=f"got {count} channels"):
            decode_image(channel_pages(description, samples))


def test_a_page_that_tells_of_more_pages_is_no_single_image():
    for description in (b"ImageJ=1.54f\nimages=5\nslices=5\n", b'{"shape": [5, 21, 34, 3]}'):
        with pytest.raises(AnimatedImageError, match="stack of 5 pages"):
            decode_image(write_tiff(Page(PIXELS, tags={270: (2, description)})))


@pytest.mark.parametrize(("tag", "values"), [(32997, (5,)), (33629, (0,) * 5)])
def test_a_stack_with_a_single_directory_is_refused(tag, values):
    content = write_tiff(Page(PIXELS, tags={tag: (4, values)})) + bytes(200)
    with pytest.raises(AnimatedImageError, match="stack of 5 planes"):
        decode_image(content)


def test_bits_stated_by_ome_scale_the_samples():
    levels = RANDOM.integers(0, 4096, (21, 34, 3), dtype=np.uint16)
    description = ome('<Channel ID="0" SamplesPerPixel="3"/>', 'SizeC="3" SignificantBits="12"')
    content = write_tiff(Page(levels, tags={270: (2, description)}))
    np.testing.assert_array_equal(decode_image(content), np.round(levels * (255 / 4095)))
    beyond = write_tiff(Page(levels * 8, tags={270: (2, description)}))
    with pytest.raises(UnclearPixelsError, match="samples up to 4,095"):
        decode_image(beyond)


# --- damage and malice -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "page", [Page(PIXELS), Page(DEEP), Page(DEEP, planar=True, compression=tw.DEFLATE)]
)
def test_files_cut_anywhere_raise_image_errors(page):
    content = write_tiff(page, page)
    for end in range(0, len(content), 7):
        with pytest.raises(ImageError):
            decode_image(content[:end])
    # Data of the second half is missing, the directory is there.
    lost = write_tiff(replace(page, tags={279: (4, (9,))}))
    with pytest.raises(TruncatedImageError):
        decode_image(lost)


def test_an_inflating_strip_is_cut_at_its_size():
    bomb = zlib.compress(bytes(200_000_000), 9)
    page = Page(DEEP, compression=tw.DEFLATE, tags={273: (4, (0,)), 279: (4, (len(bomb),))})
    page.tags[273] = (4, (len(write_tiff(page)),))  # the strip lies behind all else
    content = write_tiff(page) + bomb
    tracemalloc.start()
    decoded = decode_image(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (decoded == 0).all()
    assert peak < 20_000_000


def test_pages_in_a_circle_and_odd_directories_end():
    content = bytearray(write_tiff(Page(PIXELS)))
    first = content[4:8]
    content[-4:] = first
    with pytest.raises(TruncatedImageError, match="circle"):
        decode_image(bytes(content))
    with pytest.raises(TruncatedImageError, match="without any page"):
        decode_image(b"II*\0" + bytes(60))


def test_a_tiff_that_pillow_would_garble_is_refused_as_an_opened_image():
    content = write_tiff(Page(DEEP, planar=True))
    np.testing.assert_array_equal(decode_image(content), PIXELS)
    with pytest.raises(UnclearPixelsError, match="separate planes"):
        decode_image(Image.open(io.BytesIO(content)))


@pytest.mark.parametrize(
    "compression", ["tiff_lzw", "jpeg", "tiff_adobe_deflate", "packbits", "zstd", "lzma"]
)
def test_compressions_that_pillow_writes(compression):
    smooth = np.repeat(np.repeat(PIXELS[:4, :4], 16, 0), 16, 1)
    options = {"quality": 95} if compression == "jpeg" else {}
    content = encode_pil(Image.fromarray(smooth), "TIFF", compression=compression, **options)
    difference = np.abs(decode_image(content).astype(int) - smooth)
    assert difference.mean() < (12 if compression == "jpeg" else 1e-9)

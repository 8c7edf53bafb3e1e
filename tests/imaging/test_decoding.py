import contextlib
import io
import struct
import zlib

import numpy as np
import pillow_heif
import pytest
from conftest import encode, encode_pil
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, PngImagePlugin

from mseenet.imaging import formats, pixels
from mseenet.imaging.decoding import (
    AnimatedImageError,
    EmptyImageError,
    ImageError,
    ImageTooLargeError,
    NotAnImageError,
    OwnOverlayError,
    TruncatedImageError,
    UnclearPixelsError,
    UnreadableFileError,
    decode_image,
    load_image,
    squeeze,
)


def heic(image: Image.Image, **options) -> bytes:
    pillow_heif.register_heif_opener()
    return encode_pil(image, "HEIF", **options)


RED_GREEN = np.array([[[200, 10, 20], [10, 200, 30]]], dtype=np.uint8).repeat(8, 0).repeat(8, 1)


@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "BMP"])
def test_lossless_formats_keep_every_pixel(image_format):
    np.testing.assert_array_equal(decode_image(encode(RED_GREEN, image_format)), RED_GREEN)


@pytest.mark.parametrize("image_format", ["JPEG", "WEBP"])
def test_lossy_formats_stay_close(image_format):
    decoded = decode_image(encode(RED_GREEN, image_format, quality=95))
    assert np.abs(decoded.astype(int) - RED_GREEN).mean() < 8


def test_all_kinds_of_source_give_the_same_pixels(tmp_path):
    content = encode(RED_GREEN)
    path = tmp_path / "field.png"
    path.write_bytes(content)
    sources = [
        content,
        bytearray(content),
        path,
        str(path),
        io.BytesIO(content),
        Image.fromarray(RED_GREEN),
        RED_GREEN,
    ]
    for source in sources:
        np.testing.assert_array_equal(decode_image(source), RED_GREEN)


def test_exif_orientation_is_applied():
    image = Image.fromarray(RED_GREEN)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to see it upright
    decoded = decode_image(encode_pil(image, "PNG", exif=exif))
    assert decoded.shape == (16, 8, 3)
    np.testing.assert_array_equal(decoded, np.rot90(RED_GREEN, -1))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_becomes_white(mode):
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.putpixel((0, 0), (40, 40, 40, 255))
    decoded = decode_image(encode_pil(image.convert(mode), "TIFF" if mode == "PA" else "PNG"))
    assert (decoded[0, 0] == 40).all()
    assert (decoded.reshape(-1, 3)[1:] == 255).all()


def test_transparent_palette_entry_becomes_white():
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((0, 0), 1)
    decoded = decode_image(encode_pil(image, "PNG", transparency=0))
    assert decoded[0, 0].tolist() == [40, 50, 60]
    assert (decoded.reshape(-1, 3)[1:] == 255).all()


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "TIFF", "BMP"])
def test_an_opacity_of_zero_everywhere_says_nothing(image_format):
    image = Image.fromarray(np.dstack([RED_GREEN, np.zeros((8, 16), np.uint8)]))
    options = {"lossless": True, "exact": True} if image_format == "WEBP" else {}
    np.testing.assert_array_equal(
        decode_image(encode_pil(image, image_format, **options)), RED_GREEN
    )
    np.testing.assert_array_equal(decode_image(image), RED_GREEN)
    np.testing.assert_array_equal(decode_image(np.asarray(image)), RED_GREEN)


def test_a_trace_of_opacity_hides_the_picture():
    image = Image.fromarray(np.dstack([RED_GREEN, np.full((8, 16), 3, np.uint8)]))
    with pytest.raises(UnclearPixelsError, match="opacity of at most 3 of 255"):
        decode_image(image)


def test_half_transparency_is_blended():
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    assert abs(int(decode_image(image)[0, 0, 0]) - 127) <= 1


def test_palette_grey_and_bilevel_images():
    palette = Image.fromarray(RED_GREEN).convert("P", palette=Image.Palette.ADAPTIVE)
    np.testing.assert_allclose(decode_image(encode_pil(palette, "PNG")), RED_GREEN, atol=3)
    grey = np.arange(16, dtype=np.uint8).reshape(4, 4)
    np.testing.assert_array_equal(decode_image(encode(grey))[..., 1], grey)
    assert set(np.unique(decode_image(Image.new("1", (3, 3), 1)))) == {255}


def test_cmyk_jpeg():
    cmyk = Image.new("RGB", (16, 16), (200, 100, 50)).convert("CMYK")
    decoded = decode_image(encode_pil(cmyk, "JPEG", quality=95))
    np.testing.assert_allclose(decoded[8, 8], (200, 100, 50), atol=6)


@pytest.mark.parametrize("image_format", ["TIFF", "PNG"])
def test_sixteen_bit_grey_uses_its_full_range(image_format):
    deep = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    decoded = decode_image(encode(deep, image_format))
    np.testing.assert_array_equal(decoded[0, :, 0], [0, 1, 128, 255])


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_a_camera_of_fewer_bits_in_16_is_not_taken_for_a_dark_image(bits):
    samples = np.array([[0, 2**bits - 1, 5]], dtype=np.uint16)
    for source in (samples, encode(samples), encode(samples, "TIFF"), np.dstack([samples] * 3)):
        with pytest.raises(UnclearPixelsError, match=rf"got none above .* \({bits} bits\)"):
            decode_image(source)
    assert (decode_image(np.zeros((3, 4), np.uint16)) == 0).all()  # black on any scale


def png(samples: np.ndarray, color_type: int, bits: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of any colour type and depth, from (H, W, channels); Pillow writes few of them."""
    height, width, _ = samples.shape
    if bits == 16:
        rows = samples.astype(">u2").reshape(height, -1).view(np.uint8)
    else:
        digits = (samples.reshape(height, -1, 1) >> np.arange(bits - 1, -1, -1)) & 1
        rows = np.packbits(digits.reshape(height, -1).astype(np.uint8), axis=1)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", header), *chunks, (b"IDAT", data), (b"IEND", b"")):
        checksum = zlib.crc32(kind + body)
        content += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)
    return content


@settings(max_examples=150, deadline=None)
@given(
    layout=st.sampled_from(
        [
            *((0, bits) for bits in (1, 2, 4, 8, 16)),
            *((3, bits) for bits in (1, 2, 4, 8)),
            *((color_type, bits) for color_type in (2, 4, 6) for bits in (8, 16)),
        ]
    ),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    seed=st.integers(0, 2**16),
)
def test_every_kind_of_png_gives_its_pixels(layout, height, width, seed):
    color_type, bits = layout
    random = np.random.default_rng(seed)
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color_type]
    samples = random.integers(0, 2**bits, (height, width, channels))
    samples[0, 0] = 2**bits - 1
    eight = samples * 255 / (2**bits - 1)
    if color_type == 3:
        palette = random.integers(0, 256, (2**bits, 3), dtype=np.uint8)
        content = png(samples, 3, bits, (b"PLTE", palette.tobytes()))
        expected = palette[samples[..., 0]].astype(float)
    else:
        content = png(samples, color_type, bits)
        expected = np.repeat(eight[..., :1], 3, axis=2) if channels < 3 else eight[..., :3]
        if channels in (2, 4):
            opacity = eight[..., -1:] / 255
            expected = expected * opacity + 255 * (1 - opacity)
    # Of 16 bits in colour Pillow keeps the high byte, which takes up to a level from a sample and,
    # over white, up to another one for the opacity. Blending rounds twice.
    high_bytes = (2 if channels in (2, 4) else 1) * (bits == 16 and layout != (0, 16))
    tolerance = 0.51 + high_bytes + (0.5 if channels in (2, 4) else 0)
    assert np.abs(decode_image(content) - expected).max() <= tolerance


@settings(max_examples=150, deadline=None)
@given(
    image_format=st.sampled_from(["PNG", "BMP", "WEBP", "TIFF"]),
    mode=st.sampled_from(["1", "L", "P", "RGB", "RGBA"]),
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    seed=st.integers(0, 2**16),
)
def test_every_mode_of_every_lossless_format(image_format, mode, height, width, seed):
    samples = np.random.default_rng(seed).integers(0, 256, (height, width, 4), dtype=np.uint8)
    samples[0, 0, 3] = 255
    image = Image.fromarray(samples if mode == "RGBA" else samples[..., :3].copy()).convert(mode)
    if mode == "RGBA" and image_format != "BMP":  # whose fourth byte is reserved
        white = Image.new("RGBA", image.size, "white")
        expected = np.asarray(Image.alpha_composite(white, image).convert("RGB"))
    else:
        expected = np.asarray(image.convert("RGB"))
    options = {"lossless": True, "exact": True} if image_format == "WEBP" else {}
    content = encode_pil(image, image_format, **options)
    np.testing.assert_array_equal(decode_image(content), expected)


@pytest.mark.parametrize("color_type", [0, 2, 4, 6])
def test_a_png_of_12_bits_in_16_is_refused(color_type):
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[color_type]
    samples = np.full((4, 5, channels), 4000)
    if channels in (2, 4):
        samples[..., -1] = 65535
    with pytest.raises(UnclearPixelsError, match="16-bit samples that use the range"):
        decode_image(png(samples, color_type, 16))


def test_a_transparent_color_of_16_bits_is_refused():
    content = png(np.full((4, 5, 3), 60_000), 2, 16, (b"tRNS", struct.pack(">HHH", 1, 2, 3)))
    with pytest.raises(UnclearPixelsError, match="transparent colour"):
        decode_image(content)


@pytest.mark.parametrize("order", ["before", "after"])
def test_own_overlays_are_refused_by_name(order, fields):
    note = PngImagePlugin.PngInfo()
    text = b"Software\0" + formats.OVERLAY_SOFTWARE.encode()
    note.add(b"tEXt", text, after_idat=order == "after")
    with pytest.raises(OwnOverlayError, match="MSEENet made"):
        decode_image(encode(fields[0], pnginfo=note))
    with pytest.raises(OwnOverlayError, match="MSEENet made"):
        decode_image(encode(fields[0], "TIFF", tiffinfo={305: formats.OVERLAY_SOFTWARE}))
    other = PngImagePlugin.PngInfo()
    other.add_text("Software", "a microscope")
    np.testing.assert_array_equal(decode_image(encode(fields[0], pnginfo=other)), fields[0])


@pytest.mark.parametrize("quality", [-1, 95])
def test_heic_from_a_phone(quality, fields):
    image = Image.fromarray(fields[0])
    content = heic(image, quality=quality, chroma=444, matrix_coefficients=0 if quality < 0 else 6)
    difference = np.abs(decode_image(content).astype(int) - fields[0])
    assert difference.max() == 0 if quality < 0 else difference.mean() < 3


def test_a_turned_heic_is_upright_once(fields):
    exif = Image.Exif()
    exif[0x0112] = 6
    corner = fields[0][:96, :160]
    decoded = decode_image(heic(Image.fromarray(corner), quality=95, exif=exif.tobytes()))
    assert decoded.shape == (160, 96, 3)
    assert np.abs(decoded.astype(int) - np.rot90(corner, -1)).mean() < 6


def test_several_heic_images_are_refused(fields):
    images = [Image.fromarray(field) for field in fields[:2]]
    content = heic(images[0], save_all=True, append_images=images[1:])
    with pytest.raises(AnimatedImageError, match="got 2 frames"):
        decode_image(content)


def test_a_jpeg_of_12_bits_is_named():
    content = bytearray(encode(RED_GREEN, "JPEG"))
    frame = content.index(b"\xff\xc0")
    content[frame + 1], content[frame + 4] = 0xC1, 12
    with pytest.raises(UnclearPixelsError, match="got 12 bits per channel"):
        decode_image(bytes(content))


def test_a_phone_jpeg_with_a_preview_behind_it_is_one_image():
    image = Image.fromarray(RED_GREEN)
    content = encode_pil(image, "MPO", save_all=True, append_images=[image])
    assert decode_image(content).shape == RED_GREEN.shape


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "TIFF"])
def test_several_frames_are_refused(image_format):
    image = Image.fromarray(RED_GREEN)
    other = Image.fromarray(255 - RED_GREEN)
    content = encode_pil(image, image_format, save_all=True, append_images=[other])
    with pytest.raises(AnimatedImageError, match="got 2 frames"):
        decode_image(content)


def test_nothing_and_something_else():
    with pytest.raises(EmptyImageError, match="0 bytes"):
        decode_image(b"")
    with pytest.raises(NotAnImageError, match="expected an image"):
        decode_image(b"Dear colleague, please find attached")
    with pytest.raises(NotAnImageError, match="received NoneType"):
        decode_image(None)
    with pytest.raises(NotAnImageError, match=r"binary file.*received StringIO"):
        decode_image(io.StringIO("opened as text"))


def test_unreadable_paths(tmp_path):
    with pytest.raises(UnreadableFileError, match="No such file"):
        decode_image(tmp_path / "absent.png")
    with pytest.raises(UnreadableFileError, match="directory"):
        decode_image(tmp_path)


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "TIFF", "WEBP", "BMP"])
def test_truncated_files(image_format, fields):
    content = encode(fields[0], image_format)
    with pytest.raises(TruncatedImageError):
        decode_image(content[: len(content) // 2])


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
def test_a_tiff_of_two_pages_cut_anywhere_raises_image_errors(compression):
    page = Image.fromarray(RED_GREEN)
    content = encode_pil(page, "TIFF", save_all=True, append_images=[page], compression=compression)
    for end in range(len(content)):
        with pytest.raises(ImageError):
            decode_image(content[:end])


def test_a_damaged_image_that_is_only_opened_raises_image_errors(fields):
    content = encode(fields[0], "JPEG")
    with pytest.raises(TruncatedImageError):
        decode_image(Image.open(io.BytesIO(content[: len(content) // 2])))


def test_premultiplied_grey():
    grey = Image.fromarray(RED_GREEN).convert("LA")
    np.testing.assert_array_equal(decode_image(grey.convert("La")), decode_image(grey))


def test_sources_that_cannot_be_read(tmp_path):
    closed = io.BytesIO(encode(RED_GREEN))
    closed.close()
    for source in (closed, tmp_path / "a\0b.png"):
        with pytest.raises(UnreadableFileError):
            decode_image(source)


def test_a_file_object_is_read_from_its_start():
    stream = io.BytesIO()
    Image.fromarray(RED_GREEN).save(stream, "PNG")
    np.testing.assert_array_equal(decode_image(stream), RED_GREEN)


def test_a_decompression_bomb_is_refused_before_it_is_decoded():
    bomb = encode_pil(Image.new("1", (30_000, 30_000)), "PNG")
    assert len(bomb) < 1_000_000
    with pytest.raises(ImageTooLargeError, match="at most 64 million pixels, got 900000000"):
        decode_image(bomb)


def test_the_pixel_limit_holds_for_every_kind_of_source(monkeypatch):
    monkeypatch.setattr(pixels, "MAX_PIXELS", 100)
    for source in (encode(RED_GREEN), Image.fromarray(RED_GREEN), RED_GREEN):
        with pytest.raises(ImageTooLargeError):
            decode_image(source)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), "received float32"),
        (np.zeros((4, 4, 3), bool), "received bool"),
        (np.zeros((4, 4, 2), np.uint8), r"received \(4, 4, 2\)"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"received \(1, 4, 4, 3\)"),
    ],
)
def test_arrays_of_unclear_meaning_are_refused(array, message):
    with pytest.raises(NotAnImageError, match=message):
        decode_image(array)


def test_an_empty_array_and_a_float_image_are_refused():
    with pytest.raises(EmptyImageError):
        decode_image(np.zeros((0, 4, 3), np.uint8))
    with pytest.raises(NotAnImageError, match="floating point"):
        decode_image(Image.new("F", (4, 4)))
    with pytest.raises(UnclearPixelsError, match="32-bit integers"):
        decode_image(Image.fromarray(np.array([[70_000]], dtype=np.int32)))


def test_squeeze_ignores_the_aspect_ratio_and_leaves_fitting_images_alone(fields):
    assert squeeze(fields[0]) is fields[0]
    wide = np.zeros((768, 1024, 3), np.uint8)
    wide[:, :512] = 255
    squeezed = squeeze(wide)
    assert squeezed.shape == (224, 224, 3)
    assert (squeezed[:, :110] == 255).all()
    assert (squeezed[:, 114:] == 0).all()


@given(
    hnp.arrays(
        dtype=st.just(np.uint8),
        shape=st.one_of(
            st.tuples(st.integers(1, 40), st.integers(1, 40)),
            st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([3, 4])),
        ),
        fill=st.integers(0, 255),
    )
)
def test_any_array_of_pixels_becomes_the_network_input(array):
    if array.shape[2:] == (4,):
        array = array.copy()
        array[0, 0, 3] = 255  # something is to be seen
    loaded = load_image(array)
    assert loaded.shape == (224, 224, 3)
    assert loaded.dtype == np.uint8


@given(st.binary(max_size=300))
def test_random_bytes_never_raise_anything_but_image_errors(content):
    with pytest.raises(ImageError):
        decode_image(content)


@settings(max_examples=150, deadline=None)
@given(
    image_format=st.sampled_from(["PNG", "JPEG", "TIFF", "BMP", "WEBP"]),
    changes=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=12
    ),
    keep=st.floats(0.05, 1),
)
def test_damaged_files_decode_or_raise_image_errors(image_format, changes, keep):
    content = bytearray(encode(RED_GREEN, image_format))
    for place, value in changes:
        content[int(place * len(content))] = value
    decoded = None
    with contextlib.suppress(ImageError):
        decoded = decode_image(bytes(content[: int(keep * len(content))]))
    assert decoded is None or (decoded.dtype == np.uint8 and decoded.shape[2] == 3)

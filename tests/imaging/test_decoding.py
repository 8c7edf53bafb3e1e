import contextlib
import io

import numpy as np
import pytest
from conftest import encode, encode_pil
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from mseenet.imaging import decoding
from mseenet.imaging.decoding import (
    AnimatedImageError,
    EmptyImageError,
    ImageError,
    ImageTooLargeError,
    NotAnImageError,
    TruncatedImageError,
    UnreadableFileError,
    decode_image,
    load_image,
    squeeze,
)

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
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0)).convert(mode)
    content = encode_pil(image, "TIFF" if mode == "PA" else "PNG")
    assert (decode_image(content) == 255).all()


def test_transparent_palette_entry_becomes_white():
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30])
    assert (decode_image(encode_pil(image, "PNG", transparency=0)) == 255).all()


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


def test_sixteen_bit_rgb_tiff():
    # Pillow reads such files but does not write them: a minimal one by hand.
    pixels = np.array([[[0, 32896, 65535]]], dtype="<u2")
    entries = [
        (256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 3, 8), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, 1, 14), (277, 3, 1, 3), (278, 3, 1, 1), (279, 4, 1, 6),
    ]  # fmt: skip
    directory = len(entries).to_bytes(2, "little")
    for tag, kind, count, value in entries:
        directory += b"".join(
            number.to_bytes(size, "little")
            for number, size in ((tag, 2), (kind, 2), (count, 4), (value, 4))
        )
    body = b"\x10\x00\x10\x00\x10\x00" + pixels.tobytes()
    content = b"II*\x00" + (8 + len(body)).to_bytes(4, "little") + body + directory + bytes(4)
    np.testing.assert_array_equal(decode_image(content), [[[0, 128, 255]]])


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
    monkeypatch.setattr(decoding, "MAX_PIXELS", 100)
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
    with pytest.raises(NotAnImageError, match="got integers"):
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
        dtype=st.sampled_from([np.uint8, np.uint16]),
        shape=st.one_of(
            st.tuples(st.integers(1, 40), st.integers(1, 40)),
            st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([3, 4])),
        ),
        fill=st.integers(0, 255),
    )
)
def test_any_array_of_pixels_becomes_the_network_input(array):
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

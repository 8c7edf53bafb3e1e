import io

import pytest
from conftest import encode
from PIL import Image

from mseenet.imaging import formats
from mseenet.imaging.decoding import NotAnImageError, decode_image
from mseenet.imaging.formats import FORMATS, HEAD, SUFFIXES, identify, is_image, name_other


@pytest.mark.parametrize(
    ("image_format", "expected"),
    [
        ("PNG", formats.PNG),
        ("JPEG", formats.JPEG),
        ("TIFF", formats.TIFF),
        ("BMP", formats.BMP),
        ("WEBP", formats.WEBP),
    ],
)
def test_content_tells_the_format_whatever_the_file_is_called(
    image_format, expected, fields, tmp_path
):
    content = encode(fields[0], image_format)
    assert identify(content[:HEAD]) is expected
    path = tmp_path / "field.txt"
    path.write_bytes(content)
    assert is_image(path)
    assert is_image(content)


def test_what_is_no_image(tmp_path):
    path = tmp_path / "field.png"
    path.write_text("Dear colleague")
    assert not is_image(path)
    assert not is_image(tmp_path / "absent.png")
    assert not is_image(tmp_path)
    assert not is_image("a\0b")
    assert not is_image(b"")
    assert not is_image(b"BM is no bitmap by its first two letters alone")


def ftyp(*brands: bytes) -> bytes:
    body = b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:])
    return (4 + len(body)).to_bytes(4, "big") + body


@pytest.mark.parametrize(
    ("brands", "known"),
    [
        ((b"heic", b"mif1", b"heic"), True),
        ((b"mif1", b"mif1", b"heic"), True),
        ((b"heix", b"mif1"), True),
        ((b"mif1", b"avif"), False),
        ((b"crx ", b"crx ", b"isom"), False),
        ((b"isom", b"mp41"), False),
        ((b"qt  ",), False),
    ],
)
def test_phones_stills_are_told_from_their_videos(brands, known):
    assert (identify(ftyp(*brands)) is formats.HEIC) == known


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"GIF89a", "a GIF image"),
        (bytes(128) + b"DICM", "a DICOM image"),
        (b"%PDF-1.7", "a PDF document"),
        (b"ZISRAWFILE", "a Zeiss CZI file"),
        (ftyp(b"mif1", b"avif"), "an AVIF image"),
        (ftyp(b"isom"), "a video"),
        (ftyp(b"crx "), "a camera's raw file"),
        (b"PK\3\4", "a ZIP archive"),
        (b"Dear colleague", "content of another kind"),
    ],
)
def test_other_files_are_refused_by_their_name(content, name):
    assert name_other(content) == name
    with pytest.raises(NotAnImageError, match=f"PNG, JPEG, TIFF, BMP, WebP, HEIC.*{name}"):
        decode_image(content + bytes(200))


def test_a_gif_is_named():
    stream = io.BytesIO()
    Image.new("P", (4, 4)).save(stream, "GIF")
    with pytest.raises(NotAnImageError, match="got a GIF image"):
        decode_image(stream.getvalue())


def test_file_pickers_offer_what_phones_and_browsers_write():
    assert {".jfif", ".jpe", ".heic", ".heif", ".tif", ".png"} <= set(SUFFIXES)
    assert len(SUFFIXES) == len(set(SUFFIXES)) == sum(len(f.suffixes) for f in FORMATS)

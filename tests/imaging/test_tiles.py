"""Tiled TIFFs of any number of pixels, read by regions from their bytes."""

import io
import json
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from conftest import ROOT
from made_up_scans import FIELD, TILE, deflated, fields_of_a_tile, jpeg, tiled
from PIL import Image

from mseenet.imaging import tiles
from mseenet.imaging.areas import OVERVIEW, Place, WholePicture, area_in, find_area
from mseenet.imaging.errors import ImageError
from mseenet.imaging.tiles import TiledPicture, most_pixels
from tools.fuzz.mutation import damaged

LEVELS = (1, 4, 16)
BLOCKS = np.array([[0, 0], [0, 1]])
SIDE = 2 * LEVELS[-1] * TILE


def becomes(content: bytes, folder: Path) -> dict:
    """What `python -m tools.larger --memory` prints of a file."""
    path = folder / "scan.tif"
    path.write_bytes(content)
    command = [sys.executable, "-m", "tools.larger", "--memory", path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def with_tag(content: bytes, tag: int, value: int, page: int = 0) -> bytes:
    """The file with another value of a tag that stands in the directory of a page."""
    changed = bytearray(content)
    (start,) = struct.unpack_from("<I", content, 4)
    for _ in range(page):
        (count,) = struct.unpack_from("<H", content, start)
        (start,) = struct.unpack_from("<I", content, start + 2 + 12 * count)
    (count,) = struct.unpack_from("<H", content, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack_from("<H", content, entry)[0] == tag:
            struct.pack_into("<I", changed, entry + 8, value)
            return bytes(changed)
    raise AssertionError(f"no tag {tag}")


@pytest.fixture(scope="module")
def large() -> bytes:
    """A picture of 24,576 x 24,576 pixels with two smaller levels, one quarter of it with cells."""
    return tiled(BLOCKS, LEVELS, block=LEVELS[-1])


@pytest.mark.slow
def test_a_picture_of_600_million_pixels_is_cut_where_cells_are_in_bounded_memory(large, tmp_path):
    found = becomes(large, tmp_path)
    assert (found["size"], found["fields"]) == ([SIDE, SIDE], 200)
    assert found["MiB beside the file"] < 400, "all pixels would take 1,728"
    for x, y, width, height in found["places"]:
        assert width == pytest.approx(FIELD, rel=0.15)
        assert SIDE // 2 - width < x < SIDE
        assert SIDE // 2 - height < y < SIDE


@pytest.mark.slow
def test_a_picture_of_ten_thousand_million_pixels_takes_no_more(tmp_path):
    blocks = np.zeros((8, 8), int)
    blocks[5, 2] = 1
    found = becomes(tiled(blocks, LEVELS, block=16), tmp_path)
    assert (found["size"], found["fields"]) == ([98_304, 98_304], 200)
    assert found["MiB beside the file"] < 500


@pytest.mark.slow
def test_without_smaller_levels_the_overview_is_made_tile_by_tile(monkeypatch):
    blocks = np.zeros((3, 4), int)
    blocks[1, 2] = 1
    content = tiled(blocks, (1,), block=1)
    monkeypatch.setattr(tiles, "LARGEST_REGION", 3_000_000)
    area = find_area(TiledPicture(content), too_large=True)
    assert area.overview.shape == (OVERVIEW * 3 // 4, OVERVIEW, 3)
    for x, y, width, height in area.places:
        assert width == pytest.approx(FIELD, rel=0.15)
        assert 2 * TILE - width < x < 3 * TILE
        assert TILE - height < y < 2 * TILE


@pytest.mark.slow
def test_a_tiled_picture_is_cut_as_the_same_pixels_decoded_at_once(area):
    pixels = np.tile(area, (2, 1, 1))
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, tile=(256, 256), compression="zlib", photometric="rgb")
    by_tiles = find_area(TiledPicture(buffer.getvalue()))
    whole = find_area(WholePicture(pixels))
    assert by_tiles.places == whole.places
    np.testing.assert_array_equal(by_tiles.overview, whole.overview)
    for (_, one), (_, other) in zip(by_tiles.fields(), whole.fields(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("options", [
    {"compression": None},
    {"compression": "zlib"},
    {"compression": "zlib", "predictor": True},
    {"compression": "zlib", "bigtiff": True},
    {"compression": "zlib", "byteorder": ">"},
    {"compression": None, "byteorder": ">", "bigtiff": True},
], ids=str)  # fmt: skip
def test_every_pixel_comes_out_as_it_was_put_in(area, options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, area, tile=(256, 320), photometric="rgb", **options)
    picture = TiledPicture(buffer.getvalue())
    assert picture.size == (2048, 1536)
    for place in (Place(0, 0, 2048, 1536), Place(300, 200, 700, 900), Place(2047, 1535, 1, 1)):
        x, y, width, height = place
        np.testing.assert_array_equal(picture.read(place), area[y : y + height, x : x + width])


@pytest.mark.parametrize("inner", [False, True], ids=["pages", "SubIFDs"])
def test_smaller_levels_are_found_as_pages_and_inside_of_pages(area, inner):
    buffer = io.BytesIO()
    options = {"tile": (256, 256), "compression": "zlib", "photometric": "rgb", "metadata": None}
    small = np.asarray(Image.fromarray(area).resize((512, 384), Image.Resampling.BOX))
    with tifffile.TiffWriter(buffer) as writer:
        writer.write(area, subifds=int(inner), **options)
        writer.write(small, subfiletype=1, **options)
    picture = TiledPicture(buffer.getvalue())
    np.testing.assert_array_equal(picture.read(Place(0, 0, 2048, 1536), 500), small)
    np.testing.assert_array_equal(
        picture.read(Place(1024, 768, 1024, 768), 200), small[192:384, 256:512]
    )
    np.testing.assert_array_equal(picture.read(Place(0, 0, 2048, 1536), 513), area)


@pytest.mark.parametrize("subsampling", [0, 2], ids=["4:4:4", "4:2:0"])
@pytest.mark.parametrize("apart", [False, True], ids=["whole", "tables apart"])
def test_jpeg_in_tiles_has_the_pixels_of_the_same_jpeg_alone(subsampling, apart):
    pixels = fields_of_a_tile()
    whole = jpeg(pixels, subsampling)
    factor = 1 + (subsampling > 0)
    tags = [(259, 3, 1, 7), (262, 3, 1, 6), (530, 3, 2, factor | factor << 16)]
    content = tiled(np.array([[1]]), (1,), 1, lambda rgb: whole, tuple(tags))
    if apart:
        tables, image = split(whole)
        tags.append((347, 7, len(tables), 0))
        content = tiled(np.array([[1]]), (1,), 1, lambda rgb: image, tuple(tags))
        content = with_tag(content + tables, 347, len(content))
    found = TiledPicture(content).read(Place(0, 0, TILE, TILE))
    expected = np.asarray(Image.open(io.BytesIO(whole)).convert("RGB"))
    assert np.abs(found.astype(int) - expected).max() <= 2


def split(content: bytes) -> tuple[bytes, bytes]:
    """The tables of a JPEG, and the JPEG without them, as TIFF keeps them."""
    tables, image, at = b"\xff\xd8", b"\xff\xd8", 2
    while content[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        if content[at + 1] in (0xDB, 0xC4):
            tables += content[at:end]
        elif content[at + 1] != 0xE0:
            image += content[at:end]
        at = end
    return tables + b"\xff\xd9", image + content[at:]


def test_what_was_not_scanned_is_white(large):
    content = tiled(np.array([[1, 1]]), (1,), 1)
    start = TiledPicture(content)._levels[0]._page.entries[325][2]
    content = content[: start + 4] + bytes(4) + content[start + 8 :]
    pixels = TiledPicture(content).read(Place(0, 0, 2 * TILE, TILE))
    np.testing.assert_array_equal(pixels[:, :TILE], fields_of_a_tile())
    assert (pixels[:, TILE:] == 255).all()


def test_means_of_reduced_regions_are_those_of_the_pixels(area, monkeypatch):
    monkeypatch.setattr(tiles, "LARGEST_REGION", 1000)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, area, tile=(256, 208), compression="zlib", photometric="rgb")
    found = TiledPicture(buffer.getvalue()).read(Place(0, 0, 2048, 1536), 128)
    expected = area.reshape(96, 16, 128, 16, 3).mean(axis=(1, 3))
    assert np.abs(found - expected).max() <= 0.51


def bomb(content: bytes) -> bytes:
    """The file with tiles that inflate to 500 MB each."""
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(10**7)) for _ in range(50)) + packer.flush()
    picture = TiledPicture(content)._levels[0]._page
    tables = np.frombuffer(content, "<u4", picture.entries[324][1], picture.entries[324][2])
    changed = bytearray(content) + data
    for tag, value in ((324, len(content)), (325, len(data))):
        place = picture.entries[tag][2]
        changed[place : place + tables.nbytes] = np.full(len(tables), value, "<u4").tobytes()
    return bytes(changed)


HOSTILE = {
    "100,000 million declared": (
        lambda c: with_tag(with_tag(c, 256, 10**9), 257, 10**2), "at most 12,000 million pixels"),
    "more tiles than tables": (lambda c: with_tag(c, 256, 100_000), "tiles"),
    "huge tiles": (lambda c: with_tag(with_tag(c, 322, 60_000), 323, 60_000), "expected tiles of at"),
    "tiles of no size": (lambda c: with_tag(c, 322, 0), "expected tiles of at most"),
    "many tiles": (lambda c: with_tag(with_tag(c, 322, 16), 323, 16), "at most 200,000 tiles"),
    "tables beyond the end": (lambda c: with_tag(c, 324, len(c)), "damaged tag 324"),
    "no levels for so many pixels": (
        lambda c: tiled(np.ones((1, 1), int), (1,), 128), "smaller levels of at most 1,000 million"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_lies_ends_in_an_error_of_one_line_at_once(large, name):
    change, words = HOSTILE[name]
    content = change(large)
    assert most_pixels(content) > 64_000_000
    began = time.monotonic()
    with pytest.raises(ImageError, match=words) as error:
        area_in(content)
    assert "\n" not in str(error.value)
    assert time.monotonic() - began < 5


@pytest.mark.slow
def test_tiles_that_inflate_without_end_take_the_memory_of_tiles(large, tmp_path):
    found = becomes(bomb(large), tmp_path)
    assert "expected" in found["error"]
    assert found["MiB beside the file"] < 400


def test_a_picture_without_end_of_decoding_ends(large, monkeypatch):
    monkeypatch.setattr(tiles, "MOST_DECODED", 20 * TILE**2)
    with pytest.raises(ImageError, match="decoded pixels; smaller levels and tiles take fewer"):
        area_in(large)


def test_one_damaged_tile_spoils_only_what_lies_there(large):
    picture = TiledPicture(large)
    page = picture._levels[0]._page
    start = page.entries[325][2]
    damaged = bytearray(large)
    struct.pack_into("<I", damaged, start, 3)
    picture = TiledPicture(bytes(damaged))
    with pytest.raises(ImageError, match="a tile at x 0, y 0 of the level of 24,576 x 24,576"):
        picture.read(Place(0, 0, 10, 10))
    assert picture.read(Place(TILE, 0, 10, 10)).shape == (10, 10, 3)


@pytest.mark.parametrize(("options", "words"), [
    ({"rowsperstrip": 64}, "this one is in strips"),
    ({"tile": (256, 256), "planarconfig": "separate"}, "colours in separate planes"),
    ({"tile": (256, 256), "dtype": "uint16"}, r"3 channels of 16\+16\+16 bits"),
    ({"tile": (256, 256), "software": "MedScan"}, "a Trestle scan"),
    ({"tile": (256, 256), "description": "<a xmlns='http://www.leica-microsystems.com/scn/2010/'>"},
     "a Leica scan"),
    ({"tile": (256, 256), "extratags": [(274, 3, 1, 6, True)]}, "a turned picture"),
    ({"tile": (256, 256), "pages": 2}, "several pages in tiles"),
])  # fmt: skip
def test_another_layout_is_refused_and_named(area, options, words):
    pixels = area.astype(options.pop("dtype", "uint8"))
    pages = options.pop("pages", 1)
    if options.get("planarconfig"):
        pixels = pixels.transpose(2, 0, 1)
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as writer:
        for _ in range(pages):
            writer.write(pixels, photometric="rgb", metadata=None, **options)
    with pytest.raises(ImageError, match=words):
        TiledPicture(buffer.getvalue())


@pytest.mark.parametrize("encode", [deflated, jpeg], ids=["Deflate", "JPEG"])
def test_changed_files_raise_nothing_but_errors_of_their_own(encode):
    tags = ((259, 3, 1, 7), (262, 3, 1, 6), (530, 3, 2, 1 | 1 << 16)) if encode is jpeg else ()
    sound = [("scan", tiled(np.eye(2, dtype=int), (1, 4), 4, encode, tags))]
    random = np.random.default_rng(0)
    read = 0
    for _ in range(300):
        _, content = damaged(sound, random)
        try:
            picture = TiledPicture(content)
            width, height = picture.size
            picture.read(Place(0, 0, width, height), 100)
            picture.read(Place(width // 2, height // 2, 1, 1))
        except ImageError:
            continue
        read += 1
    assert 0 < read < 300

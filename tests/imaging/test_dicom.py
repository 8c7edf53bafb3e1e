"""Whole slides in DICOM: which files are of one, and that OpenSlide's pixels are theirs."""

import numpy as np
import pytest
from conftest import stitched
from made_up_scans import FIELD, dicom_slide

from mseenet.commands.predict import find_images
from mseenet.imaging.areas import Place, area_in
from mseenet.imaging.dicom import WHOLE_SLIDE, series_of
from mseenet.imaging.scans import ScanError, open_scan


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return stitched(6, 7, FIELD)


@pytest.mark.parametrize("left_out", [(), ((1, 2), (3, 0))], ids=["full", "sparse"])
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "JPEG"])
def test_regions_have_the_pixels_of_the_slide_and_white_where_it_was_not_scanned(
    tmp_path, pixels, compressed, left_out
):
    dicom_slide(tmp_path, pixels, (1,), compressed, left_out)
    scan = open_scan(tmp_path / "level 0.dcm")
    height, width = pixels.shape[:2]
    assert scan.size == (width, height)
    expected = pixels.copy()
    for row, column in left_out:
        expected[256 * row : 256 * (row + 1), 256 * column : 256 * (column + 1)] = 255
    difference = np.abs(scan.read(Place(0, 0, width, height)).astype(int) - expected)
    assert difference.mean() < (2 if compressed else 0.001)
    assert difference.max() <= (60 if compressed else 0)


@pytest.mark.slow
def test_a_folder_of_one_series_is_one_scan_that_is_cut(tmp_path, pixels):
    dicom_slide(tmp_path, pixels)
    files, problems = find_images([str(tmp_path)])
    assert (files, problems) == ([tmp_path / "level 0.dcm"], [])
    files, _ = find_images([str(tmp_path / "*.dcm"), str(tmp_path / "level 1.dcm")])
    assert files == [tmp_path / "level 0.dcm"]
    area = area_in(tmp_path / "level 0.dcm")
    assert area.picture.size == (pixels.shape[1], pixels.shape[0])
    for place in area.places:
        assert place.width == pytest.approx(FIELD, rel=0.15)
    assert open_scan(tmp_path / "level 1.dcm").size == area.picture.size


def test_each_series_and_each_folder_is_a_scan_of_its_own(tmp_path, pixels):
    names = [("a", "1.2"), ("b", "1.2"), ("b", "1.3")]
    for number, (folder, series) in enumerate(names):
        (tmp_path / folder).mkdir(exist_ok=True)
        dicom_slide(tmp_path / folder, pixels, series=series)
        for file in (tmp_path / folder).glob("level*"):
            file.rename(file.with_name(f"{number} {file.name}"))
    files, _ = find_images([str(tmp_path)])
    found = [(file.parent.name, series_of(file)) for file in files]
    assert found == names


def test_what_is_no_whole_slide_has_no_series(tmp_path, pixels):
    dicom_slide(tmp_path, pixels, (4,))
    whole = (tmp_path / "level 0.dcm").read_bytes()
    assert series_of(tmp_path / "level 0.dcm") == "1.2.3.4"
    other = tmp_path / "other"
    start = whole.index(b"1.2.3.4")
    contents = [b"", b"DICM", whole[:131], whole[:200], whole[: start + 100], bytes(10**6)]
    contents += [whole.replace(WHOLE_SLIDE, b"1.2.840.10008.5.1.4.1.1.2\0\0\0\0\0")]
    contents += [bytes(128) + b"DICM" + bytes(8 * 10**6), bytes(128) + b"DICM" + b"\xff" * 1000]
    for content in contents:
        other.write_bytes(content)
        assert series_of(other) is None
    assert series_of(tmp_path / "missing") is None
    assert series_of(tmp_path) is None
    assert find_images([str(other)])[0] == [other]


def test_a_damaged_slide_is_an_error_of_one_line(tmp_path, pixels):
    dicom_slide(tmp_path, pixels)
    file = tmp_path / "level 0.dcm"
    file.write_bytes(file.read_bytes()[:600])
    with pytest.raises(ScanError, match="expected a scan that OpenSlide reads") as error:
        area_in(file)
    assert "\n" not in str(error.value)

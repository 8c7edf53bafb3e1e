"""Pictures larger than one field: known as such, and cut where nucleated cells lie."""

import numpy as np
import pytest
from conftest import encode, stitched
from PIL import Image

from mseenet.imaging import areas
from mseenet.imaging.areas import (
    AreaError,
    Place,
    WholePicture,
    area_in,
    find_area,
)
from mseenet.imaging.decoding import squeeze
from mseenet.imaging.nuclei import find_cells
from mseenet.imaging.synthetic import STYLES, render_field

PLASMA = STYLES[2].background


def enlarged(field: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(field).resize((width, height), Image.Resampling.BICUBIC))


def through_eyepiece(rgb: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """A picture with all black beyond a circle, and where the circle is."""
    height, width = rgb.shape[:2]
    y, x = np.mgrid[:height, :width]
    circle = np.hypot(x - width / 2, y - height / 2) < reach * height
    photo = rgb.copy()
    photo[~circle] = np.random.default_rng(0).integers(0, 12, (np.count_nonzero(~circle), 3))
    return photo, circle


def overlap(one: Place, other: Place) -> bool:
    return (
        one.x < other.x + other.width
        and other.x < one.x + one.width
        and one.y < other.y + other.height
        and other.y < one.y + one.height
    )


@pytest.fixture(scope="module")
def found(area):
    return area_in(encode(area))


def test_fields_of_a_stitched_area_have_the_size_that_they_had(found):
    assert len(found.places) == 16
    width, height = found.places[0][2:]
    assert width == pytest.approx(512, rel=0.1)
    assert height == pytest.approx(width * 3 / 4, abs=1)
    assert len({place[2:] for place in found.places}) == 1


def test_fields_lie_in_the_picture_in_reading_order_and_do_not_overlap(found, area):
    places = found.places
    assert list(places) == sorted(places, key=lambda place: (place.y, place.x))
    height, width = area.shape[:2]
    for i, place in enumerate(places):
        assert 0 <= place.x
        assert 0 <= place.y
        assert place.x + place.width <= width
        assert place.y + place.height <= height
        assert not any(overlap(place, other) for other in places[:i])


def test_the_pixels_are_those_of_the_picture(found, area):
    for place, rgb in found.fields():
        x, y, columns, rows = place
        np.testing.assert_array_equal(rgb, area[y : y + rows, x : x + columns])


def test_the_overview_is_the_whole_in_small(found, area):
    assert found.overview.shape == (768, 1024, 3)
    expected = area.reshape(768, 2, 1024, 2, 3).mean(axis=(1, 3))
    assert np.abs(found.overview - expected).max() <= 1


@pytest.mark.parametrize("width", [256, 700])
def test_the_size_of_fields_follows_that_of_the_nuclei(width):
    across = 2048 // width + 1
    picture = stitched(across, across, width)
    places = find_area(WholePicture(picture)).places
    assert places[0].width == pytest.approx(width, rel=0.15)


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.title)
def test_a_field_of_a_camera_is_a_field_whatever_its_size(style):
    field = render_field(style, seed=3)
    for size in ((224, 224), (1024, 768), (2592, 1944)):
        assert area_in(encode(enlarged(field, *size), "JPEG")) is None


def test_a_small_picture_is_not_even_decoded(monkeypatch, area):
    monkeypatch.setattr(areas, "decode_image", None)
    assert area_in(encode(area[:768, :1024])) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not an image",
        encode(np.full((1500, 2000, 3), PLASMA, np.uint8)),
        encode(np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), np.uint8))[:90_000],
        encode(np.zeros((1500, 2000, 3), np.uint8)),
    ],
    ids=["empty", "text", "plasma", "cut off", "black"],
)
def test_what_has_no_cells_or_cannot_be_read_is_left_to_the_decoder(content):
    assert area_in(content) is None


def test_places_without_nucleated_cells_are_left_out(area):
    emptied = area.copy()
    emptied[768:] = PLASMA
    found = find_area(WholePicture(emptied))
    assert 6 <= len(found.places) <= 10
    assert found.without_cells >= 6
    assert all(place.y < 768 for place in found.places)
    for _, rgb in found.fields():
        assert find_cells(squeeze(rgb)).cells.count > 0
    assert f"{found.without_cells} places without them left out" in found.described(200)


def test_of_more_fields_than_may_be_kept_those_are_that_lie_evenly_spread(area, found):
    few = find_area(WholePicture(area), most=4)
    assert [found.places.index(place) for place in few.places] == [2, 6, 10, 14]
    assert few.over_limit == 12
    assert "cut into 16 fields" in few.described(4)
    assert "12 of these left out, as at most 4 are kept" in few.described(4)


def test_of_too_many_places_the_most_stained_are_looked_at(monkeypatch, area):
    monkeypatch.setattr(areas, "MOST_LOOKED_AT", 5)
    emptied = area.copy()
    emptied[:768] = PLASMA
    found = find_area(WholePicture(emptied))
    assert len(found.places) == 5
    assert all(place.y + place.height > 768 for place in found.places)
    assert found.unseen >= 11
    assert "not looked at, as at most 5 with most stain are" in found.described(200)


@pytest.mark.parametrize("reach", [0.48, 0.62], ids=["whole circle", "circle over the edges"])
def test_a_photograph_through_an_eyepiece_is_cut_inside_its_round_border(area, reach):
    photo, circle = through_eyepiece(area, reach)
    found = area_in(encode(photo))
    assert found.round_border
    assert len(found.places) >= 4
    for x, y, width, height in found.places:
        assert width == pytest.approx(512, rel=0.15)
        assert circle[y : y + height, x : x + width].all()


def test_dark_corners_alone_are_no_border(area):
    dim = area.copy()
    dim[:60, :60] = 0
    assert not find_area(WholePicture(dim)).round_border


def test_a_picture_that_is_too_large_for_a_field_is_cut_or_refused():
    plasma = WholePicture(np.full((400, 400, 3), PLASMA, np.uint8))
    assert find_area(plasma) is None
    with pytest.raises(AreaError, match="expected nucleated cells"):
        find_area(plasma, too_large=True)


class ToldScales:
    """Tells of all fields what is in turn in a list; the last entry again and again."""

    def __init__(self, *told: float | None):
        self.told, self.asked = list(told), []

    def __call__(self, fields):
        self.asked.append(fields)
        told = self.told.pop(0) if len(self.told) > 1 else self.told[0]
        return [told] * len(fields)


@pytest.mark.parametrize("told", [(1.3, 1.0), (1.3, 1.1, 1 / 1.1)], ids=["at once", "by steps"])
def test_fields_are_cut_so_large_that_their_cells_look_as_in_training(area, found, told):
    scales = ToldScales(*told)
    larger = find_area(WholePicture(area), scales=scales)
    assert larger.places[0].width == pytest.approx(1.3 * found.places[0].width, rel=0.1)
    assert larger.places[0].height == pytest.approx(larger.places[0].width * 3 / 4, abs=1)
    assert len(scales.asked) == len(told)
    for fields in scales.asked:
        assert 0 < len(fields) <= areas.SCALED
        assert {(field.shape, field.dtype) for field in fields} == {
            ((224, 224, 3), np.dtype(np.uint8))
        }


@pytest.mark.parametrize("told", [1.0, None])
def test_cells_of_the_size_of_training_or_of_none_that_is_known_change_nothing(area, found, told):
    scales = ToldScales(told)
    assert find_area(WholePicture(area), scales=scales).places == found.places
    assert len(scales.asked) == 1


def test_what_is_told_of_half_of_the_fields_changes_nothing(area, found):
    def half(fields):
        return [3.0 if i % 2 else None for i in range(len(fields))]

    assert find_area(WholePicture(area), scales=half).places == found.places


def test_a_picture_whose_cells_fill_it_as_those_of_a_field_is_one(area):
    assert find_area(WholePicture(area), scales=ToldScales(3.0, 1.0)) is None


@pytest.mark.parametrize("told", [1e-9, 1e9])
def test_no_told_size_makes_fields_smaller_than_are_tried_or_larger_than_the_picture(area, told):
    found = find_area(WholePicture(area), too_large=True, scales=ToldScales(told))
    for x, y, width, height in found.places:
        assert areas.NARROWEST * areas.SHRUNK <= width
        assert x + width <= area.shape[1]
        assert y + height <= area.shape[0]


def test_the_size_is_asked_for_whatever_way_a_picture_comes_in(area, tmp_path):
    path = tmp_path / "area.png"
    path.write_bytes(encode(area))
    for source in (path, path.read_bytes()):
        scales = ToldScales(1.3, 1.0)
        widths = {place.width for place in area_in(source, scales=scales).places}
        assert len(scales.asked) == 2
        assert min(widths) > 550

import io

import numpy as np
import pytest
from PIL import Image

from mseenet.case.fields import REPEATED, Case
from mseenet.case.limits import Limits
from mseenet.case.magnification import add_central_part, remedy
from mseenet.case.pictures import encoded
from mseenet.inference.classifier import Prediction


def case_of(scale: float | None, shape: tuple[int, int] = (900, 1200), **settings) -> Case:
    """A case of one field whose cells look `scale` times as large."""
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    case = Case(**settings)
    case.take_in([("slide 7/a.b.png", encoded(Image.fromarray(pixels), "PNG"))])
    (field,) = case.fields.values()
    field.prediction = Prediction("review", scale=scale)
    return case


def test_small_cells_get_the_central_part_in_which_they_have_the_usual_size():
    case = case_of(0.5)
    (field,) = case.fields.values()
    found = remedy(field)
    assert found.size == (600, 450)
    assert "central 600 x 450 pixels" in found.words
    key = add_central_part(case, field, found.size)
    assert list(case.fields) == [field.key, key]
    added = case.fields[key]
    assert (added.name, added.slide) == ("slide 7/a.b, central 600 x 450.png", field.slide)
    assert added.prediction is None
    whole = np.asarray(Image.open(io.BytesIO(field.content)))
    part = np.asarray(Image.open(io.BytesIO(added.content)))
    assert np.array_equal(part, whole[225:675, 300:900])


@pytest.mark.parametrize("by_hand", ["by hand", None])
def test_the_part_is_on_the_slide_of_its_field(by_hand):
    case = case_of(0.5, slide_pattern="{slide}/a.b.png")
    (field,) = case.fields.values()
    case.put_on_slide([field.key], by_hand)
    added = case.fields[add_central_part(case, field, (600, 450))]
    assert added.slide == field.slide == (by_hand or "slide 7")
    case.name_slides("{slide}/a.b.png")
    assert added.slide == field.slide


def test_the_part_is_added_once_and_examples_stay_examples():
    case = case_of(0.5)
    (field,) = case.fields.values()
    field.synthetic = True
    keys = {add_central_part(case, field, (600, 450)) for _ in range(2)}
    assert set(case.fields) == {field.key, *keys}
    assert len(keys) == 1
    assert all(f.synthetic for f in case.fields.values())
    assert case.left_out[-1].reason == REPEATED


def test_a_full_case_says_so_and_keeps_the_field():
    case = case_of(0.5, limits=Limits(fields=1))
    (field,) = case.fields.values()
    assert add_central_part(case, field, (600, 450)) not in case.fields
    assert list(case.fields) == [field.key]
    assert "expected a case of at most 1 fields" in case.problems[0]


def test_large_cells_need_what_the_file_does_not_have():
    (field,) = case_of(1.5).fields.values()
    found = remedy(field)
    assert found.size is None
    assert "1.5 x as much" in found.words
    assert "lower magnification" in found.words


def test_a_part_that_would_be_too_small_is_not_offered():
    (field,) = case_of(0.6, (224, 224)).fields.values()
    found = remedy(field)
    assert found.size is None
    assert "central 134 x 134 pixels" in found.words
    assert "higher magnification" in found.words


@pytest.mark.parametrize("scale", [None, 1.0, 0.95, 1.1])
def test_cells_of_the_usual_size_need_nothing(scale):
    (field,) = case_of(scale).fields.values()
    assert remedy(field) is None

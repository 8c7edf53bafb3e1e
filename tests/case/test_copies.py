"""Copies of one field in several files are known by their pixels."""

import numpy as np
import pytest
from conftest import encode
from PIL import Image

from mseenet.case.copies import copies_among
from mseenet.case.fields import COPY, Case, Field
from mseenet.imaging.synthetic import STYLES, render_field
from mseenet.inference.classifier import Prediction


def analysed(name: str, content: bytes, status="ok") -> Field:
    return Field(name, name, content, prediction=Prediction(status))


@pytest.fixture(scope="module")
def different() -> list[np.ndarray]:
    """Ten fields, five of each of two stains."""
    return [render_field(STYLES[i % 2], i) for i in range(10)]


def test_one_field_in_five_files_is_found(different):
    field = different[0]
    larger = np.asarray(Image.fromarray(field).resize((1024, 768)))
    files = [
        analysed("a.png", encode(field)),
        analysed("b.png", encode(different[1])),
        analysed("a.jpg", encode(field, "JPEG", quality=75)),
        analysed("a.tif", encode(field, "TIFF")),
        analysed("bad.png", b"x", "error"),
        analysed("a.bmp", encode(field, "BMP")),
        analysed("large.png", encode(larger)),
    ]
    (group,) = copies_among(files)
    assert [field.name for field in group] == ["a.png", "a.jpg", "a.tif", "a.bmp", "large.png"]


def test_different_fields_of_one_stain_are_no_copies(different):
    fields = [analysed(f"{i}.png", encode(field)) for i, field in enumerate(different)]
    assert copies_among(fields) == []
    assert copies_among(fields[:1]) == copies_among([]) == []


def test_two_groups_stay_apart(different):
    fields = [
        analysed(f"{i}.{kind}", encode(different[i], kind))
        for kind in ("PNG", "TIFF")
        for i in (0, 1)
    ]
    groups = [[field.name for field in group] for group in copies_among(fields)]
    assert groups == [["0.PNG", "0.TIFF"], ["1.PNG", "1.TIFF"]]


def test_a_copy_that_is_left_out_is_noted_for_the_exports():
    case = Case()
    case.take_in([("a.png", b"1"), ("a.jpg", b"2")])
    case.leave_out_copy(list(case.fields)[1])
    assert [field.name for field in case.fields.values()] == ["a.png"]
    assert [(item.name, item.reason) for item in case.left_out] == [("a.jpg", COPY)]

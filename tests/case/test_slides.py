"""Which slide a field is of."""

import time

import pytest

from mseenet.case.slides import PatternError, slide_by_pattern, slide_of


@pytest.mark.parametrize(
    ("name", "slide"),
    [
        ("001.jpg", None),
        ("slide 1/001.jpg", "slide 1"),
        ("case 7/slide 1/001.jpg", "case 7/slide 1"),
        ("case 7\\slide 1\\001.jpg", "case 7/slide 1"),
        ("slide 1.zip/001.jpg", "slide 1"),
        ("case.ZIP/slide 1/001.jpg", "case/slide 1"),
        (".zip/001.jpg", ".zip"),
        ("./slide 1//001.jpg", "slide 1"),
        ("/001.jpg", None),
        ("", None),
    ],
)
def test_the_folder_of_a_field_is_its_slide(name, slide):
    assert slide_of(name) == slide


@pytest.mark.parametrize(
    ("name", "pattern", "slide"),
    [
        ("S12_003.jpg", "{slide}_*", "S12"),
        ("S12_a_003.jpg", "{slide}_*", "S12_a"),
        ("any/folder/S12_003.jpg", "{slide}_*", "S12"),
        ("2024_S12_003.jpg", "2024_{slide}_*", "S12"),
        ("x-S12-003.jpg", "*-{slide}-*", "S12"),
        ("S12.jpg", "{slide}_*", None),
        ("_003.jpg", "{slide}_*", None),
        ("case/S12/fields/003.jpg", "{slide}/*/*", "S12"),
        ("003.jpg", "{slide}/*", None),
        ("a+b_1.jpg", "{slide}_1.jpg", "a+b"),
        ("aXb_1.jpg", "{slide}.b_*", None),
    ],
)
def test_a_pattern_names_the_slide(name, pattern, slide):
    assert slide_by_pattern(name, pattern) == slide


@pytest.mark.parametrize("pattern", ["", "*", "{slide}{slide}", "{slide}/", "{slide}" + 99 * "a"])
def test_a_pattern_without_a_slide_is_refused(pattern):
    with pytest.raises(PatternError, match="with {slide} once"):
        slide_by_pattern("a.jpg", pattern)


def test_no_pattern_takes_long():
    with pytest.raises(PatternError, match="two \\*"):
        slide_by_pattern("a.jpg", "*a*a*{slide}")
    begin = time.perf_counter()
    assert slide_by_pattern(255 * "a", "*a{slide}a*b") is None
    assert slide_by_pattern(4000 * "a", "*a{slide}a*b") is None
    assert time.perf_counter() - begin < 5

"""Which slide a field is of."""

import time

import pytest

from mseenet.case.slides import PatternError, in_order, short_names, slide_by_pattern, slide_of


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
    with pytest.raises(PatternError, match=r"with \{slide\} once"):
        slide_by_pattern("a.jpg", pattern)


def test_a_pattern_takes_the_place_of_folders():
    assert slide_of("folder/S12_003.jpg", "{slide}_*") == "S12"
    assert slide_of("folder/003.jpg", "{slide}_*") is None


def test_slides_are_ordered_by_the_numbers_in_their_names():
    slides = ["s 10", None, "S 2", "a", "s 2", "7", "s \u0662", "s ²"]
    ordered = sorted(slides, key=in_order)
    assert ordered[:3] == ["7", "a", "S 2"]
    assert ordered.index("s 2") < ordered.index("s 10")
    assert ordered[-1] is None


def test_slides_are_called_without_the_folders_that_all_are_in():
    assert short_names(["case/a", None, "case/b"]) == {"case/a": "a", "case/b": "b"}
    assert short_names(["case/a", "case"]) == {"case/a": "case/a", "case": "case"}
    assert short_names(["x/y/a"]) == {"x/y/a": "a"}
    assert short_names([None]) == {}


def test_no_pattern_takes_long():
    with pytest.raises(PatternError, match=r"two \*"):
        slide_by_pattern("a.jpg", "*a*a*{slide}")
    begin = time.perf_counter()
    assert slide_by_pattern(255 * "a", "*a{slide}a*b") is None
    assert slide_by_pattern(4000 * "a", "*a{slide}a*b") is None
    assert time.perf_counter() - begin < 5

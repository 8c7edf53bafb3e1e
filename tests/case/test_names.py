import unicodedata

import pytest

from mseenet.case.names import cut, cut_to_bytes, file_stem, look_of, shortened, unique_name


def test_equal_names_are_numbered_before_their_ending():
    looks: set[str] = set()
    names = []
    for name in ("image.png", "image.png", "a/image.png", "image.png", "image (2).png", "x", "x"):
        names.append(unique_name(name, looks))
        looks.add(look_of(names[-1]))
    assert names == [
        "image.png",
        "image (2).png",
        "a/image.png",
        "image (3).png",
        "image (2) (2).png",
        "x",
        "x (2)",
    ]


@pytest.mark.parametrize(
    "twin",
    ["Mu\u0308ller.png", "M\u00fcller.png\u200b", " M\u00fcller.png", "M\u00fcl\u00adler.png"],
)
def test_names_that_look_the_same_are_numbered_too(twin):
    assert "(2)" in unique_name(twin, {look_of("M\u00fcller.png")})


def test_names_are_cut_between_characters():
    accents = "e\u0301" * 5
    assert cut(accents, 4) == "e\u0301" * 2
    assert cut(accents, 5) == "e\u0301" * 2
    family = "\U0001f468\u200d\U0001f469"
    assert cut("x" + family, 2) == "x"
    assert cut("x" + family, 3) == "x"
    assert cut("x" + family, 4) == "x" + family


@pytest.mark.parametrize("text", ["\u8840" * 60, "e\u0301" * 60, "\U0001fa78" * 60, "a\udc80" * 60])
@pytest.mark.parametrize("longest", range(100, 110))
def test_names_in_bytes_are_cut_between_characters(text, longest):
    short = cut_to_bytes(text, longest)
    assert text.startswith(short)
    assert longest - 5 < len(short.encode("utf-8", "surrogatepass")) <= longest
    assert not unicodedata.combining(text[len(short)])


def test_a_long_name_keeps_both_ends():
    text = "begin" + "-" * 200 + "end"
    assert shortened(text, 40).startswith("begin-")
    assert shortened(text, 40).endswith("-end")
    assert len(shortened(text, 40)) == 40
    assert shortened("short", 40) == "short"


def test_names_of_files_are_safe_and_never_empty():
    assert file_stem("../../\u8840\u6db2.png") == "\u8840\u6db2"
    assert file_stem("a<b>\x00.tif") == "a_b__"
    assert file_stem("..") == file_stem("") == "field"
    assert len(file_stem("\u8840" * 100).encode()) == 120

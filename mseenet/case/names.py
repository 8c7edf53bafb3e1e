"""Names of files: kept apart, cut between characters, and made safe for a file system."""

import re
import unicodedata
from collections.abc import Container
from itertools import accumulate
from pathlib import PurePosixPath

from mseenet.imaging.areas import Place
from mseenet.imaging.formats import SUFFIXES

_UNSAFE = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories: control, invisible, half a surrogate pair, ends of line."""

_JOINER = "\N{ZERO WIDTH JOINER}"


def look_of(name: str) -> str:
    """What names that a person cannot tell apart have in common.

    Composed and decomposed letters, invisible characters and rows of spaces look alike.
    """
    visible = "".join(
        char for char in unicodedata.normalize("NFC", name) if unicodedata.category(char) != "Cf"
    )
    return " ".join(visible.split())


def unique_name(name: str, looks: Container[str]) -> str:
    """The name, with a number before its ending if its look is among `looks`.

    Every image that is pasted is called `image.png`: the second becomes `image (2).png`.
    """
    if look_of(name) not in looks:
        return name
    folder, slash, file = name.rpartition("/")
    path = PurePosixPath(file)
    number = 2
    while True:
        numbered = f"{folder}{slash}{path.stem} ({number}){path.suffix}"
        if look_of(numbered) not in looks:
            return numbered
        number += 1


def placed_name(name: str, place: Place) -> str:
    """What a field is called that was cut from a picture: "scan.tif [x 2048, y 1024]"."""
    return f"{name} {place}"


def cut(text: str, longest: int) -> str:
    """The first characters of a text, at most `longest` code points.

    A letter is never parted from its accents, nor an emoji from what it is joined to.
    """
    end = min(longest, len(text))
    while 0 < end < len(text) and (_follows(text[end]) or text[end - 1] == _JOINER):
        end -= 1
    return text[:end]


def cut_to_bytes(text: str, longest: int) -> str:
    """The first characters of a text, as many as take `longest` bytes of UTF-8 at most."""
    sizes = (len(char.encode("utf-8", "surrogatepass")) for char in text)
    return cut(text, sum(total <= longest for total in accumulate(sizes)))


def shortened(text: str, longest: int) -> str:
    """A long text without its middle, at most `longest` code points."""
    if len(text) <= longest:
        return text
    tail = longest // 3
    begin = len(text) - tail
    while begin < len(text) and (_follows(text[begin]) or text[begin - 1] == _JOINER):
        begin += 1
    return f"{cut(text, longest - tail - 1)}\N{HORIZONTAL ELLIPSIS}{text[begin:]}"


def file_stem(name: str, longest: int = 120) -> str:
    """A file's name without folder and ending, as every file system takes it.

    Args:
        name: Of any origin.
        longest: Of the result, in bytes of UTF-8; file systems take 255 for a whole name.

    Returns:
        At least one character; different names may come out the same.
    """
    stem = PurePosixPath(re.split(r"[/\\]", name)[-1]).stem
    stem = "".join(
        "_" if char in '<>:"|?*' or unicodedata.category(char) in _UNSAFE else char for char in stem
    )
    return cut_to_bytes(stem, longest).strip(". ") or "field"


def entry_name(name: str, mark: str) -> str:
    """A name for a field's file in an archive: stem, mark and the ending of an image, if any.

    Args:
        name: Of the field, of any origin.
        mark: Keeps equal names apart.
    """
    ending = next((s for s in SUFFIXES if name.lower().endswith(s)), "")
    return f"{file_stem(name)}-{mark}{ending}"


def _follows(char: str) -> bool:
    """Whether a character only completes the one before it."""
    return char == _JOINER or unicodedata.category(char) in ("Mn", "Me", "Mc")

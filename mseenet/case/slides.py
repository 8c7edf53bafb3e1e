"""Which slide a field is of: by its folder or a pattern of names; and what a slide's fields say."""

import re
from collections.abc import Iterable
from itertools import takewhile

import numpy as np

from mseenet.errors import UsageError

SLIDE = "{slide}"
"""Stands for the name of the slide in a pattern."""

LONGEST_PATTERN = 100
"""In characters."""

LONGEST_SLIDE = 200
"""Name of a slide, in characters."""

FEWEST_FIELDS = 5
"""Judged fields that a slide needs to be given a class."""

MAJORITY = 0.5
"""Mean probability that the class of a slide exceeds."""

_LONGEST_PART = 255
"""Of a name, in characters; file systems take no more, and to match would take long."""


class PatternError(UsageError):
    """A pattern of names cannot be used; the message says why."""


def slide_of(name: str, pattern: str = "", cut: bool = False) -> str | None:
    """The slide that a field is of by the folder that it lies in, or by a pattern.

    `case 7/slide 2/001.jpg` is of the slide `case 7/slide 2`, and `slide 2.zip/001.jpg` of
    `slide 2`. Fields of one folder are of one slide, those of a folder inside it of another.

    Args:
        name: Of a file, with the folders (or the archive and its folders) that it came in;
            `/` and `\\` part them.
        pattern: If not empty, folders tell nothing, but `slide_by_pattern`.
        cut: Whether the file is a larger picture, which fields were cut from: without a pattern
            each is a slide of its own, called by its path.

    Returns:
        The path of its folder, without the endings of archives; None for a file without one.

    Raises:
        PatternError: The pattern cannot be used.
    """
    if pattern:
        return slide_by_pattern(name, pattern)
    folders = _parts(name) if cut else _parts(name)[:-1]
    return "/".join(re.sub(r"(?i)(?<=.)\.zip$", "", folder) for folder in folders) or None


def slide_by_pattern(name: str, pattern: str) -> str | None:
    """The slide that a field is of by its name.

    In a pattern `{slide}` stands for the name of the slide, at least one character and as many
    as may be, and `*` for anything; neither reaches over a `/`. All else stands for itself.
    `{slide}_*` makes `S12_a` of `S12_a_003.jpg`, and `{slide}/*/*` names the slide by the folder
    of the folder. A pattern is held against as many parts of the path, from the end, as it has.

    Args:
        name: As for `slide_of`.
        pattern: See above.

    Returns:
        None if the pattern does not fit.

    Raises:
        PatternError: The pattern cannot be used.
    """
    expression, depth = _compiled(pattern)
    parts = _parts(name)[-depth:]
    if len(parts) < depth or any(len(part) > _LONGEST_PART for part in parts):
        return None
    found = expression.fullmatch("/".join(parts))
    return found["slide"] if found else None


def slide_answer(probabilities: np.ndarray) -> int | None:
    """The class of a slide: that of the highest mean probability, if it is more than one half.

    `mseenet.evaluation.slide_answers` measures how often that is right.

    Args:
        probabilities: Calibrated, of the slide's judged fields, (N, C).

    Returns:
        Index of the class; None for fewer than `FEWEST_FIELDS`, or without a majority.
    """
    if len(probabilities) < FEWEST_FIELDS:
        return None
    means = probabilities.mean(axis=0)
    return int(means.argmax()) if means.max() > MAJORITY else None


def in_order(slide: str | None) -> tuple:
    """Sorts slides by name, numbers in it by their value, fields without a slide last."""
    pieces = re.split(r"(\d+)", (slide or "").casefold())
    return slide is None, [(int(p), "") if p.isdecimal() else (-1, p) for p in pieces], slide or ""


def short_names(slides: Iterable[str | None]) -> dict[str, str]:
    """What slides are called beside each other: their names without the folders that all are in."""
    paths = {slide: slide.split("/") for slide in slides if slide is not None}
    levels = zip(*(path[:-1] for path in paths.values()), strict=False)
    common = sum(1 for _ in takewhile(lambda names: len(set(names)) == 1, levels))
    return {slide: "/".join(path[common:]) for slide, path in paths.items()}


def _parts(name: str) -> list[str]:
    return [part for part in re.split(r"[/\\]", name) if part not in ("", ".")]


def _compiled(pattern: str) -> tuple[re.Pattern[str], int]:
    parts = pattern.split("/")
    if len(pattern) > LONGEST_PATTERN or pattern.count(SLIDE) != 1 or not all(parts):
        raise PatternError(
            f"expected a pattern of at most {LONGEST_PATTERN} characters with {SLIDE} once, such as "
            f"{SLIDE}_*; received {pattern!r}"
        )
    if any(part.count("*") > 2 for part in parts):
        raise PatternError(f"expected at most two * in one part of a pattern; received {pattern!r}")
    wild = {"*": "[^/]*", SLIDE: "(?P<slide>[^/]+)"}
    pieces = re.split(r"(\*|\{slide\})", pattern)
    expression = "".join(wild.get(piece, re.escape(piece)) for piece in pieces)
    return re.compile(expression, re.DOTALL), len(parts)

"""Which slide a field is of: by its folder, or by a pattern of names."""

import re

from mseenet.errors import UsageError

SLIDE = "{slide}"
"""Stands for the name of the slide in a pattern."""

LONGEST_PATTERN = 100
"""In characters."""

LONGEST_SLIDE = 200
"""Name of a slide, in characters."""

_LONGEST_PART = 255
"""Of a name, in characters; file systems take no more, and to match would take long."""


class PatternError(UsageError):
    """A pattern of names cannot be used; the message says why."""


def slide_of(name: str) -> str | None:
    """The slide that a field is of by the folder that it lies in.

    `case 7/slide 2/001.jpg` is of the slide `case 7/slide 2`, and `slide 2.zip/001.jpg` of
    `slide 2`. Fields of one folder are of one slide, those of a folder inside it of another.

    Args:
        name: Of a file, with the folders (or the archive and its folders) that it came in;
            `/` and `\\` part them.

    Returns:
        The path of its folder, without the endings of archives; None for a file without one.
    """
    *folders, _ = _parts(name)
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

"""Damage: of bytes, and of what JSON says."""

import json
import math
from typing import Any

import numpy as np

Sound = list[tuple[str, bytes]]
"""Names and contents of files that are read, or refused by name."""

DEEP = "\N{DOWNWARDS ARROW}"
"""Stands for nesting that `json.dumps` could not write itself."""

DEPTHS = (50, 300, 900, 960, 980, 990, 1000, 3000, 100_000)
"""Of that nesting; around the interpreter's limit what can be read may not be written again."""

HOSTILE: tuple[Any, ...] = (
    *(math.nan, math.inf, -math.inf, 1e308, 5e-324, 10**400, -(10**18), 2**63, 2**31, 65536),
    *(0, 1, -1, 0.5, True, False, None, "", "x", "x" * 5000, "\ud800", "\0", "../x", "/etc/passwd"),
    *("=1+1", "a\nb", "NaN", [], {}, [[]], [None], {"": None}, DEEP),
)
"""What is put in the place of values."""


def damaged(sound: Sound, random: np.random.Generator) -> tuple[str, bytes]:
    """The name of a sound file, and its content with bytes changed at random."""
    name, original = sound[random.integers(len(sound))]
    content = bytearray(original)
    for _ in range(random.geometric(0.4)):  # often one change, so that the rest is read too
        if not content:
            break
        _damage(content, sound, random)
    if random.random() < 0.1:
        del content[int(random.integers(len(content) + 1)) :]
    return name, bytes(content)


def _damage(content: bytearray, sound: Sound, random: np.random.Generator) -> None:
    # Half of the places lie in the first 200 bytes, or the last, where directories are.
    near = int(random.integers(min(200, len(content))))
    anywhere = int(random.integers(len(content)))
    place = (near, len(content) - 1 - near, anywhere, anywhere)[random.integers(4)]
    kind = random.integers(6)
    if kind == 0:
        content[place] = random.integers(256)
    elif kind == 1:
        content[place] ^= 1 << int(random.integers(8))
    elif kind == 2:
        width = (2, 4, 8)[random.integers(3)]
        number = (0, 1, 2 ** (8 * width - 1), 2 ** (8 * width) - 1, 65536)[random.integers(5)]
        order = ("little", "big")[random.integers(2)]
        content[place : place + width] = (number % 2 ** (8 * width)).to_bytes(width, order)
    elif kind == 3:
        del content[place : place + int(random.integers(1, 64))]
    elif kind == 4:
        part = content[place : place + int(random.integers(1, 64))]
        content[place:place] = part * int(random.integers(1, 4))
    else:
        other = sound[random.integers(len(sound))][1]
        start = int(random.integers(len(other)))
        part = other[start : start + int(random.integers(1, 200))]
        content[place : place + len(part)] = part


def other_json(text: str | bytes, random: np.random.Generator) -> bytes:
    """JSON that says something else: values replaced, left out, doubled, exchanged."""
    content = json.loads(text)
    for _ in range(random.geometric(0.6)):
        content = _other(content, random)
    written = json.dumps(content)
    depth = DEPTHS[random.integers(len(DEPTHS))]
    opening, closing = (("[", "]"), ('{"a":', "}"))[random.integers(2)]
    deep = opening * depth + "0" + closing * depth
    return written.replace(json.dumps(DEEP), deep).encode("utf-8", "surrogatepass")


def _other(content: Any, random: np.random.Generator) -> Any:
    places = list(_places(content)) if isinstance(content, dict | list) else []
    if not places:
        return HOSTILE[random.integers(len(HOSTILE))]
    container, key = places[random.integers(len(places))]
    kind = random.integers(5)
    if kind == 0:
        del container[key]
    elif kind == 1:
        other, of = places[random.integers(len(places))]
        container[key] = json.loads(json.dumps(other[of]))
    elif kind == 2 and isinstance(container, list):
        container.append(json.loads(json.dumps(container[key])))
    elif kind == 3 and isinstance(container[key], int | float) and abs(container[key]) < 1e300:
        factor = (-1, 2, 10, 1e-3, 1e6)[random.integers(5)]
        container[key] = container[key] * factor
    else:
        container[key] = HOSTILE[random.integers(len(HOSTILE))]
    return content


def _places(content: Any):
    """Each container inside and each of its keys."""
    keys = content if isinstance(content, dict) else range(len(content))
    for key in keys:
        yield content, key
        if isinstance(content[key], dict | list):
            yield from _places(content[key])

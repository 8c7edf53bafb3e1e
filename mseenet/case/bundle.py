"""All files of one drop or choice as a single upload, put together in the browser."""

import json
from collections.abc import Iterator
from typing import Literal, NamedTuple

from mseenet.errors import MSEENetError

MAGIC = b"MSEENet bundle\n"
"""How a bundle begins. A line of JSON follows, a list of `name`, `size` in bytes and `left_out`
for each file, and then the contents of all files, one behind the other."""


class BundleError(MSEENetError):
    """A bundle did not arrive as the browser made it."""


class Member(NamedTuple):
    """One file of a bundle.

    Attributes:
        name: With its path, if it comes from a folder.
        content: Empty if the browser left it out.
        left_out: Why, if so: not named as an image (only in folders), too large for an
            upload, or the browser could not read it.
    """

    name: str
    content: bytes
    left_out: Literal["kind", "size", "unreadable"] | None


def unpack(content: bytes) -> Iterator[Member]:
    """The members of a bundle, which begins with `MAGIC`.

    Raises:
        BundleError: It is not whole.
    """
    start = content.find(b"\n", len(MAGIC)) + 1
    try:
        head = json.loads(content[len(MAGIC) : start])
        members = [(str(item["name"]), int(item["size"]), item["left_out"]) for item in head]
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise BundleError(f"expected the files of one upload ({error})") from error
    sizes = [size for _, size, _ in members]
    if min(sizes, default=0) < 0 or sum(sizes) != len(content) - start:
        raise BundleError(
            f"expected {sum(sizes):,} bytes in {len(members)} files, got {len(content) - start:,}"
        )
    for name, size, left_out in members:
        # Windows allows names that are no text; they could not be shown.
        name = name.encode("utf-8", "replace").decode()
        yield Member(name, content[start : start + size], left_out)
        start += size

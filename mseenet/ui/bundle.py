"""All files of one drop or choice as a single upload, put together in the browser."""

import json
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mseenet.case.archive import is_hidden, is_litter
from mseenet.case.fields import HIDDEN, NOT_AN_IMAGE, LeftOut, no_room, server_full, too_large
from mseenet.case.limits import Limits, Room
from mseenet.errors import MSEENetError

MAGIC = b"MSEENet bundle\n"
"""How a bundle begins. A line of JSON follows, a list of `name`, `size` in bytes and `left_out`
for each file, and then the contents of all files, one behind the other."""


SMALL = 2**20
"""A few uploads up to this size, in bytes, are taken by a full server, too: a bundle of notes is
one."""


class BundleError(MSEENetError):
    """A bundle did not arrive as the browser made it."""


class Member(NamedTuple):
    """One file of a bundle.

    Attributes:
        name: With its path, if it comes from a folder.
        content: Empty if the browser left it out.
        left_out: Why, if so, a key of `reasons`.
    """

    name: str
    content: bytes
    left_out: str | None


def reasons(limits: Limits) -> dict[str, str]:
    """Why the browser leaves files out, in words."""
    return {
        "kind": NOT_AN_IMAGE,
        "size": too_large(limits),
        "room": no_room(limits),
        "full": server_full(Room(limits.server)),
        "unreadable": "the browser could not read this file",
        "proxy": "a proxy between the browser and this app refuses an upload of this size; expected "
        "a smaller file, or a higher limit of the proxy (nginx: client_max_body_size)",
    }


def unpack(content: bytes) -> Iterator[Member]:
    """The members of a bundle, which begins with `MAGIC`.

    Raises:
        BundleError: It is not whole.
    """
    start = content.find(b"\n", len(MAGIC)) + 1
    try:
        head = json.loads(content[len(MAGIC) : start])
        members = [_member(item["name"], item["size"], item["left_out"]) for item in head]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BundleError(f"expected the files of one upload ({error})") from error
    sizes = [size for _, size, _ in members]
    if min(sizes, default=0) < 0 or sum(sizes) != len(content) - start:
        raise BundleError(
            f"expected {sum(sizes):,} bytes in {len(members)} files, got {len(content) - start:,}"
        )
    for name, size, left_out in members:
        # Windows allows names that are no text; they could not be shown.
        shown = name.encode("utf-8", "replace").decode()
        yield Member(shown, content[start : start + size], left_out)
        start += size


def _member(name: object, size: object, left_out: object) -> tuple[str, int, str | None]:
    """What the browser says of a file, if that is of the right types."""
    if (
        not isinstance(name, str)
        or not isinstance(size, int)
        or not (left_out is None or isinstance(left_out, str))
    ):
        raise TypeError("expected a name, a size, and why the file was left out")
    return name, size, left_out


def unbundled(
    uploads: Iterable[tuple[str, bytes]], limits: Limits
) -> tuple[list[tuple[str, bytes]], list[LeftOut]]:
    """The files in uploads, whether bundled or not, and those that the browser left out.

    What operating systems put into a folder beside a user's files is passed over.
    """
    files: list[tuple[str, bytes]] = []
    left_out: list[LeftOut] = []
    words = reasons(limits)
    for name, content in uploads:
        if not content.startswith(MAGIC):
            files.append((name, content))
            continue
        try:
            members = list(unpack(content))
        except BundleError as error:
            left_out.append(LeftOut(name, str(error)))
            continue
        for member in members:
            if "/" in member.name and is_litter(member.name):
                continue
            if "/" in member.name and is_hidden(member.name):
                left_out.append(LeftOut(member.name, HIDDEN, expected=True))
            elif member.left_out:
                reason = words.get(member.left_out, member.left_out)
                left_out.append(LeftOut(member.name, reason, expected=member.left_out == "kind"))
            else:
                files.append((member.name, member.content))
    return files, left_out

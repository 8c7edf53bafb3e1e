"""How much one case, and one server, may hold, whichever way the files come in."""

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from mseenet.config import FIELD_BYTES
from mseenet.errors import UsageError

MEGABYTE = 2**20


@dataclass(frozen=True)
class Limits:
    """What is refused so that neither a case nor all of them fill the server's memory.

    Attributes:
        file: Largest single image, and largest archive, in bytes.
        case: All images of a case together, in bytes, unpacked.
        fields: Most fields in a case.
        server: All cases on the server together, in bytes, with uploads on their way into one.
        analyses: Cases that are analysed at the same time; others wait in line.
        waiting: Cases that wait in line at the same time; others are to try again later.
    """

    file: int = 200 * MEGABYTE
    case: int = 1024 * MEGABYTE
    fields: int = 2000
    server: int = 4096 * MEGABYTE
    analyses: int = 32
    waiting: int = 64

    @property
    def part(self) -> int:
        """Largest file of a saved case, in bytes: any image fits in, with what is said of it."""
        return self.file + min(self.file, MEGABYTE)

    @property
    def decoded(self) -> int:
        """Most fields whose pixels may be held at once; they take as much as a case at most."""
        return self.case // FIELD_BYTES

    def __str__(self) -> str:
        """The limits in words, to be read before an upload."""
        return (
            f"At most {self.file // MEGABYTE:,} MB a file, and {self.fields:,} fields or "
            f"{self.case // MEGABYTE:,} MB a case; all cases on this server together at most "
            f"{self.server // MEGABYTE:,} MB."
        )


VARIABLES = {
    "file": ("MSEENET_LARGEST_FILE_MB", MEGABYTE),
    "case": ("MSEENET_LARGEST_CASE_MB", MEGABYTE),
    "fields": ("MSEENET_MOST_FIELDS", 1),
    "server": ("MSEENET_ALL_CASES_MB", MEGABYTE),
    "analyses": ("MSEENET_MOST_ANALYSES", 1),
    "waiting": ("MSEENET_MOST_WAITING", 1),
}
"""For each limit the environment variable that sets it, and its unit."""


def configured_limits(
    largest_upload: int | None = None, environment: Mapping[str, str] = os.environ
) -> Limits:
    """The limits that the operator has set, or safe ones.

    Args:
        largest_upload: What the server lets in as one file, in bytes; no file of a saved case
            is larger, and a single image is smaller by 1 MB, or half of it.
        environment: Where the variables of `VARIABLES` are looked up.

    Raises:
        UsageError: A variable is no whole number above 0.
    """
    limits = vars(Limits()).copy()
    for name, (variable, unit) in VARIABLES.items():
        text = environment.get(variable)
        if text is None:
            continue
        if not (text.isascii() and text.isdigit() and int(text) > 0):
            raise UsageError(f"{variable}: expected a whole number above 0; received {text!r}")
        limits[name] = int(text) * unit
    if largest_upload is not None:
        room = max(largest_upload - MEGABYTE, largest_upload // 2)
        limits["file"] = min(limits["file"], room)
    return Limits(**limits)


class Room:
    """The bytes that all cases of a server share; several threads may use one.

    Args:
        most: So many there are; None for any number.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self._taken = 0
        self._lock = threading.Lock()

    @property
    def taken(self) -> int:
        """What is in use, in bytes."""
        return self._taken

    @property
    def left(self) -> float:
        """What is not in use, in bytes; infinite without a limit."""
        return float("inf") if self.most is None else self.most - self._taken

    def take(self, size: int) -> bool:
        """Takes so many bytes, or none where so many are not left; says whether it did."""
        with self._lock:
            if self.most is not None and self._taken + size > self.most:
                return False
            self._taken += size
            return True

    def give_back(self, size: int) -> None:
        """Gives bytes back that were taken."""
        with self._lock:
            self._taken -= size


class Share:
    """What one owner has taken of a room, and gives back as a whole at the end."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._lock = threading.Lock()
        self._ended = False
        self.size = 0

    def take(self, size: int) -> bool:
        """As `Room.take`; nothing after the end."""
        with self._lock:
            if self._ended or not self._room.take(size):
                return False
            self.size += size
            return True

    def give_back(self, size: int) -> None:
        """Gives some of it back."""
        with self._lock:
            if not self._ended:
                self._room.give_back(size)
                self.size -= size

    def end(self) -> None:
        """Gives all of it back, however often it is called."""
        with self._lock:
            if not self._ended:
                self._room.give_back(self.size)
                self.size, self._ended = 0, True

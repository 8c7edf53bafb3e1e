"""How much one case may hold: one limit, whichever way the files come in."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from mseenet.errors import UsageError

MEGABYTE = 2**20


@dataclass(frozen=True)
class Limits:
    """What is refused so that no case fills the server's memory.

    Attributes:
        file: Largest single image, and largest archive, in bytes.
        case: All images of a case together, in bytes, unpacked.
        fields: Most fields in a case.
    """

    file: int = 200 * MEGABYTE
    case: int = 1024 * MEGABYTE
    fields: int = 2000

    @property
    def part(self) -> int:
        """Largest file of a saved case, in bytes: any image fits in, with what is said of it."""
        return self.file + min(self.file, MEGABYTE)

    def __str__(self) -> str:
        """The limits in words, to be read before an upload."""
        return (
            f"At most {self.file // MEGABYTE:,} MB a file, and {self.fields:,} fields or "
            f"{self.case // MEGABYTE:,} MB a case."
        )


VARIABLES = {
    "file": ("MSEENET_LARGEST_FILE_MB", MEGABYTE),
    "case": ("MSEENET_LARGEST_CASE_MB", MEGABYTE),
    "fields": ("MSEENET_MOST_FIELDS", 1),
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

"""The root of every error that MSEENet raises on purpose.

The command line and the app print these as one line and go on or stop; any other
exception is a defect and keeps its traceback.
"""

import reprlib

LONGEST_SHOWN = 80
"""Characters of a foreign value that an error repeats."""

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = LONGEST_SHOWN
_SHORT.maxdict = _SHORT.maxlist = 10


class MSEENetError(Exception):
    """Something outside the program is not as required; the message says what."""


class UsageError(MSEENetError):
    """The command was asked for something that it cannot do."""


def shown(value: object) -> str:
    """What was received, for an error: in short, however long or deeply nested it is."""
    text = _SHORT.repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]} ..."

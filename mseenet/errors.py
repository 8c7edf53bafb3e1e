"""The root of every error that MSEENet raises on purpose.

The command line and the app print these as one line and go on or stop; any other
exception is a defect and keeps its traceback.
"""


class MSEENetError(Exception):
    """Something outside the program is not as required; the message says what."""


class UsageError(MSEENetError):
    """The command was asked for something that it cannot do."""

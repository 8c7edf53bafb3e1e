"""Says in one sentence where MSEENet cannot run, before anything else is imported.

TensorFlow, which the network runs on, is built for few platforms. The Makefile runs this file
with whatever Python it finds, so it needs neither an installed package nor a recent Python.
"""

import platform
import sys

OLDEST, NEWEST = (3, 11), (3, 13)
"""Versions of Python from the first to the last that TensorFlow 2.21 and MSEENet share."""

MACHINES = {
    "Linux": ("x86_64", "aarch64"),
    "Darwin": ("arm64",),
    "Windows": ("AMD64",),
}
"""Processors that TensorFlow has wheels for, by operating system, as `platform` names them."""


def unsupported() -> str:
    """Why this Python or this machine cannot run MSEENet: one sentence, empty if it can."""
    required = (
        "MSEENet needs 64-bit Python 3.11 to 3.13 on Linux (x86_64, aarch64), on a Mac with Apple "
        "silicon or on Windows (x86-64), since TensorFlow 2.21 has no build for anything else"
    )
    version = sys.version_info[:2]
    machine = platform.machine()
    system = platform.system()
    fits = (
        OLDEST <= version <= NEWEST and machine in MACHINES.get(system, ()) and sys.maxsize > 2**32
    )
    if fits:
        return ""
    received = f"Python {version[0]}.{version[1]} on {system} {machine}"
    return f"{required}; this is {received}."


if __name__ == "__main__":
    reason = unsupported()
    if reason:
        print(f"error: {reason}", file=sys.stderr)
        sys.exit(2)

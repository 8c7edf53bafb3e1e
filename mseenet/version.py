"""The version with the commit that the code is of."""

import subprocess
from functools import cache
from pathlib import Path

from mseenet import __version__

STAMP = "commit.txt"
"""File in an installed package that names the commit it was built from (see hatch_build.py)."""

_PACKAGE = Path(__file__).resolve().parent


@cache
def version_text() -> str:
    """The version, and where it is known the commit, as PEP 440 writes it.

    Git is asked at the first call, never at import.

    Returns:
        Such as "0.2.0+g1a2b3c4" in a checkout, "0.2.0+g1a2b3c4.modified" in one whose files
        differ from the commit, and "0.2.0" where there is no commit to name.
    """
    commit = _stamped() if (_PACKAGE / STAMP).is_file() else commit_of(_PACKAGE.parent)
    return f"{__version__}+{commit}" if commit else __version__


def commit_of(checkout: Path) -> str:
    """The commit of a checkout, such as "g1a2b3c4" or "g1a2b3c4.modified"; "" if there is none.

    Only a folder that is itself the top of a checkout counts: a package that was installed
    somewhere below another project's repository is not of that project's commit.
    """
    if not (checkout / ".git").exists():
        return ""
    command = ["git", "describe", "--always", "--exclude=*", "--abbrev=7", "--dirty=.modified"]
    try:
        done = subprocess.run(
            command, cwd=checkout, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):  # no git, or a repository that it refuses
        return ""
    return f"g{done.stdout.strip()}"


def _stamped() -> str:
    return (_PACKAGE / STAMP).read_text(encoding="utf-8").strip()

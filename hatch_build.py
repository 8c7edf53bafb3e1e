"""What a built package carries beside the code: weights, page and the commit it is of.

Hatchling runs this (see pyproject.toml). Of `weights/` the files that the card names
and the reports go in, but no weights of another release, no training state and no figures.
"""

import json
import sys
import tempfile
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

STAMP = "mseenet/commit.txt"
PAGE = ("app.py", ".streamlit/config.toml")
TEXTS = (".json", ".md", ".csv")
"""Card, reports and what they were made from; weights count only where the card names them."""


class CustomBuildHook(BuildHookInterface):
    def initialize(self, version, build_data):
        """Adds files to a wheel or source archive; an editable install finds all in place."""
        root = Path(self.root)
        added = build_data["force_include"]
        if version != "editable":
            added.update(self._commit(root))
        if self.target_name == "wheel" and version != "editable":
            added.update({str(root / file): f"mseenet/page/{file}" for file in PAGE})
            added.update(
                {str(file): f"mseenet/weights/{file.name}" for file in release_files(root)}
            )

    def _commit(self, root: Path) -> dict[str, str]:
        if (root / STAMP).is_file():  # unpacked from a source archive, which has it already
            return {}
        sys.path.insert(0, str(root))
        try:
            from mseenet.version import commit_of
        finally:
            sys.path.remove(str(root))
        commit = commit_of(root)
        if not commit:
            return {}
        self._folder = tempfile.TemporaryDirectory()  # until the archive is written
        stamp = Path(self._folder.name, "commit.txt")
        stamp.write_text(commit, encoding="utf-8")
        return {str(stamp): STAMP}


def release_files(root: Path) -> list[Path]:
    """The files of `weights/` that belong to the release that its card describes."""
    folder = root / "weights"
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    named = {part["file"] for part in card.values() if isinstance(part, dict) and "file" in part}
    return [
        file
        for file in sorted(folder.iterdir())
        if file.is_file() and (file.name in named or file.suffix in TEXTS)
    ]

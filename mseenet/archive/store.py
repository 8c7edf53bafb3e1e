"""The folder of an archive's answers: shards in Parquet, each whole or absent.

One process writes. What a row is worth is told by what it says (name, SHA-256 of the content,
release), never by the name of a file.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mseenet.archive.digests import Digests, digest
from mseenet.config import CLASS_NAMES
from mseenet.errors import UsageError
from mseenet.files import one_writer, own_folder, whole_file, write_atomically
from mseenet.imaging.areas import Place

PURPOSE = "archive"
SETTINGS_NAME = "_settings.json"
COMPLETE_NAME = "_complete.json"
"""Says that the folder holds one row for each image. Readers of Parquet pass over names that
begin with `_` or a dot."""

SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("slide", pa.string()),
        ("source", pa.string()),
        ("place", pa.struct([(name, pa.int64()) for name in Place._fields])),
        ("status", pa.string()),
        ("predicted", pa.string()),
        ("probabilities", pa.struct([(name, pa.float64()) for name in CLASS_NAMES])),
        ("confidence", pa.float64()),
        ("novelty", pa.float64()),
        ("nucleated_cells", pa.int32()),
        ("scale", pa.float64()),
        ("reasons", pa.list_(pa.string())),
        ("weights", pa.string()),
        ("release", pa.string()),
        ("profile", pa.string()),
        ("sha256", pa.string()),
    ]
)
"""A row: the record of `mseenet.case.records.record`, and the SHA-256 of the image's file in hex,
null where it could not be read. `source` and `place` are null: an archive's pictures are not cut."""

_SHARD = re.compile(r"part-(\d{6,})\.parquet")
_UNFINISHED = re.compile(r"\.new-[0-9a-f]{8}-(?:part-\d{6,}\.parquet|_\w+\.json)")


@dataclass(frozen=True)
class Settings:
    """What all rows of a folder have in common.

    Attributes:
        slides: Pattern that tells slides (`mseenet.case.slides.slide_of`).
        include_rejected: Whether rejected images have the network's output.
    """

    slides: str = ""
    include_rejected: bool = False


@dataclass(frozen=True)
class Known:
    """What is there already of one release.

    Attributes:
        rows: Digests of name, content and release.
        contents: Digests of content and release.
        names: Digests of names.
    """

    rows: Digests
    contents: Digests
    names: Digests


class Store:
    """The folder, while this process alone writes to it; made by `Store.opened`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._next = max(self._numbered(), default=-1) + 1

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, settings: Settings) -> Iterator["Store"]:
        """Locks and marks the folder, and removes what an ended process left unfinished.

        Raises:
            UsageError: The folder is foreign, in use, or was begun with other settings.
            OSError: It cannot be written to.
        """
        with one_writer(folder):
            own_folder(folder, PURPOSE)
            for path in folder.iterdir():
                if _UNFINISHED.fullmatch(path.name):
                    path.unlink()
            _check_settings(folder / SETTINGS_NAME, settings)
            yield cls(folder)

    def shards(self) -> list[Path]:
        """The shards in the order in which they were begun."""
        numbered = self._numbered()
        return [numbered[number] for number in sorted(numbered)]

    def _numbered(self) -> dict[int, Path]:
        found = ((_SHARD.fullmatch(path.name), path) for path in self.folder.iterdir())
        return {int(match[1]): path for match, path in found if match}

    def known(self, release: str) -> Known:
        """What the shards hold.

        Raises:
            UsageError: A shard cannot be read.
        """
        rows, contents, names = bytearray(), bytearray(), bytearray()
        for path in self.shards():
            for name, sha256, row_release in _identities(path):
                if row_release == release and sha256:
                    rows += digest(name, sha256, release)
                    contents += digest(sha256, release)
                    names += digest(name)
        return Known(Digests(rows), Digests(contents), Digests(names))

    def add(self, rows: list[dict]) -> None:
        """Writes rows as a new shard, or none of them.

        Raises:
            OSError: The shard cannot be written; the error names it.
        """
        if not rows:
            return
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        self._write(self.folder / f"part-{self._next:06d}.parquet", table)
        self._next += 1

    def answers(self, contents: set[str], release: str) -> dict[str, dict]:
        """One row of each content of a release that is there, by its SHA-256."""
        found: dict[str, dict] = {}
        for path in self.shards():
            if len(found) == len(contents):
                break
            table = _read(path)
            for position, (_, sha256, row_release) in enumerate(_rows_of(table)):
                if row_release == release and sha256 in contents and sha256 not in found:
                    found[sha256] = table.slice(position, 1).to_pylist()[0]
        return found

    def keep_only(self, names: Digests, valid: Digests, unread: Digests, release: str) -> None:
        """Removes rows of images whose content, release or answer is another one now.

        Args:
            names: Digests of names; rows of other names stay.
            valid: Digests of name, content and release. Of equal rows the newest stays.
            unread: Digests of names whose content is not known now: of the rows of such a name and
                of `release` that have a content, the newest stays.
            release: Of the weights.
        """
        seen: set[bytes] = set()
        for path in reversed(self.shards()):
            kept: list[int] = []
            identities = list(_identities(path))
            for position in reversed(range(len(identities))):
                name, sha256, of_release = identities[position]
                named, key = digest(name), digest(name, sha256 or "", of_release)
                if named in unread and sha256 and of_release == release:
                    key = named  # the only row of its name that holds
                    holds = True
                else:
                    holds = key in valid
                if named not in names or (holds and key not in seen):
                    kept.append(position)
                seen.add(key)
            if len(kept) < len(identities):
                self._replace(path, kept[::-1])

    def counts(self, names: Digests) -> Counter:
        """Rows of images with these names, by status."""
        counted: Counter = Counter()
        for path in self.shards():
            files, statuses = _read(path, ["file", "status"]).columns
            for file, status in zip(files.to_pylist(), statuses.to_pylist(), strict=True):
                counted[status] += digest(file) in names
        return +counted

    def begin(self) -> None:
        """From here until `complete` the folder may lack rows, or hold those of old contents."""
        (self.folder / COMPLETE_NAME).unlink(missing_ok=True)

    def complete(self, summary: dict) -> None:
        """Marks the folder as complete."""
        write_atomically(self.folder / COMPLETE_NAME, json.dumps(summary, indent=2) + "\n")

    def _replace(self, path: Path, kept: list[int]) -> None:
        if kept:
            self._write(path, _read(path).take(pa.array(kept)))
        else:
            path.unlink()

    def _write(self, path: Path, table: pa.Table) -> None:
        try:
            with whole_file(path) as temporary:
                pq.write_table(table, temporary, compression="zstd")
        except OSError as error:
            raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def _identities(path: Path) -> Iterator[tuple[str, str | None, str]]:
    return _rows_of(_read(path, ["file", "sha256", "release"]))


def _rows_of(table: pa.Table) -> Iterator[tuple[str, str | None, str]]:
    """Name, SHA-256 and release of each row."""
    columns = (table.column(name).to_pylist() for name in ("file", "sha256", "release"))
    return zip(*columns, strict=True)


def _read(path: Path, columns: list[str] | None = None) -> pa.Table:
    try:
        if not pq.read_schema(path).equals(SCHEMA):
            raise UsageError(f"{path}: expected the columns of `mseenet archive`, found others")
        return pq.read_table(path, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise UsageError(
            f"{path}: expected a whole Parquet file ({' '.join(str(error).split())}); "
            "remove it, and its images are answered anew"
        ) from error


def _check_settings(path: Path, settings: Settings) -> None:
    wanted = asdict(settings)
    if not path.exists():
        write_atomically(path, json.dumps(wanted) + "\n")
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if found != wanted:
        raise UsageError(
            f"{path}: expected the settings that the folder was begun with, {found}; "
            f"received {wanted}"
        )

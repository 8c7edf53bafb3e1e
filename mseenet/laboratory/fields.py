"""A laboratory's own fields with the classes that are known there, and which slide each is of."""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Self

import numpy as np

from mseenet.case.archive import ArchiveError, Entry, is_hidden, is_litter, open_archive
from mseenet.case.fields import HIDDEN, Field, counted_files, server_full, some_of, too_large
from mseenet.case.labelled import labelled
from mseenet.case.limits import MEGABYTE, Limits, Room, Share
from mseenet.config import CLASS_NAMES, LABELS_TABLE
from mseenet.errors import UsageError
from mseenet.imaging.appearance import Appearance, appearance_of
from mseenet.imaging.decoding import ImageError, ImageSource, decode_image, squeeze
from mseenet.imaging.formats import SUFFIXES, is_image
from mseenet.training.dataset import FOLDER_NAMES, PARENT_FOLDERS

COLUMNS = ("file", "class")
"""What `LABELS_TABLE` needs; a column `slide` may be there, too."""

MOST_ROWS = 100_000
"""Of such a table."""

LARGEST_TABLE = 8 * MEGABYTE

CLASS_OF = {
    alias.lower(): CLASS_NAMES.index(name)
    for name, aliases in FOLDER_NAMES.items()
    for alias in (name, *aliases)
}
"""Index of a class by the names that its folder may have, in lower case."""

Progress = Callable[[Iterable, str], Iterable]


@dataclass(frozen=True)
class LabelledField:
    """One field of a laboratory, not read yet.

    Attributes:
        name: For reports.
        slide: Fields of one slide belong together, of whatever classes they are. Of a folder it is
            class and slide, as folders of one name may lie in several classes.
        label: Index into `CLASS_NAMES`.
        source: What `decode_image` takes.
    """

    name: str
    slide: str
    label: int
    source: ImageSource


class SeenField(NamedTuple):
    """One field that was read, without its pixels.

    Attributes:
        field: What was known of it before.
        look: What it looks like.
        mark: 16 hex digits of the hash of its squeezed pixels, by which it is known again.
    """

    field: LabelledField
    look: Appearance
    mark: str


@dataclass(frozen=True, eq=False)
class SeenFields:
    """Fields that were read, without their pixels.

    Attributes:
        names: Of each field, (N,).
        slides: Of each field, str (N,).
        labels: int64 (N,).
        looks: What each looks like, (N,).
        marks: Of each, see `SeenField`, (N,).
        sources: What `decode_image` takes, of each field.
        problems: A sentence for each file that is not among them.
    """

    names: tuple[str, ...]
    slides: np.ndarray
    labels: np.ndarray
    looks: tuple[Appearance, ...]
    marks: tuple[str, ...]
    sources: tuple[ImageSource, ...]
    problems: tuple[str, ...]

    def chosen(self, rows: np.ndarray) -> Self:
        """Some of the fields, by position or as a mask."""
        rows = np.arange(len(self.labels))[rows]
        return replace(
            self,
            names=tuple(self.names[i] for i in rows),
            slides=self.slides[rows],
            labels=self.labels[rows],
            looks=tuple(self.looks[i] for i in rows),
            marks=tuple(self.marks[i] for i in rows),
            sources=tuple(self.sources[i] for i in rows),
        )

    def counts(self) -> dict[str, dict[str, int]]:
        """Fields and slides by class."""
        return counted(zip(self.labels, self.slides, strict=True))


class Images(Sequence[np.ndarray]):
    """RGB pixels of N squeezed images, each uint8 (224, 224, 3) in [0, 255].

    Some of them, chosen, are no copies: a laboratory's fields take hundreds of megabytes.

    Args:
        images: Of each its pixels.
        taken: Called when one is handed out, as a measure of the work that is done.
    """

    def __init__(
        self, images: Iterable[np.ndarray], taken: Callable[[], None] = lambda: None
    ) -> None:
        self._images = tuple(images)
        self._taken = taken

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, place):
        """One image; or several, as a tuple."""
        found = self._images[place]
        self._taken()
        return found

    def chosen(self, rows: np.ndarray) -> Self:
        """Some of the images, by position or as a mask."""
        rows = np.arange(len(self))[rows]
        return type(self)((self._images[i] for i in rows), self._taken)


@dataclass(frozen=True, eq=False)
class LaboratoryFields(SeenFields):
    """Fields that were read, with their pixels.

    Attributes:
        images: Pixels of the N fields.
        sizes: Height and width of each field as decoded, int (N, 2).
    """

    images: Images
    sizes: np.ndarray

    def chosen(self, rows: np.ndarray) -> Self:
        """Some of the fields, by position or as a mask."""
        return replace(
            super().chosen(rows), images=self.images.chosen(rows), sizes=self.sizes[rows]
        )


def counted(known: Iterable[tuple[int, str]]) -> dict[str, dict[str, int]]:
    """Fields and slides by class.

    Args:
        known: Of each field the index of its class, and its slide.
    """
    slides: list[list[str]] = [[] for _ in CLASS_NAMES]
    for label, slide in known:
        slides[label].append(slide)
    return {
        name: {"fields": len(of_class), "slides": len(set(of_class))}
        for name, of_class in zip(CLASS_NAMES, slides, strict=True)
    }


def find_fields(data: Path) -> tuple[list[LabelledField], list[str]]:
    """The labelled fields in a folder.

    Args:
        data: Holds folders of classes, named as for `mseenet train`, and in these folders of
            slides; or `LABELS_TABLE`, with the columns file, class and, if known, slide. Folders around
            all of that do not matter. Images that lie in a class folder itself count as one
            slide, for nothing says that they are of several.

    Returns:
        The fields by name, and a sentence for each thing that was not as expected.

    Raises:
        UsageError: There is no such folder, or nothing in it is labelled.
    """
    if not data.is_dir():
        raise UsageError(f"{data}: expected a folder of labelled fields, found no folder there")
    files = {
        PurePosixPath(path.relative_to(data).as_posix()): path
        for path in data.rglob("*")
        if path.is_file()
    }

    def is_picture(name: PurePosixPath) -> bool:
        return name.suffix.lower() in SUFFIXES or is_image(files[name])

    def read_table(name: PurePosixPath) -> bytes:
        try:
            return files[name].read_bytes()
        except OSError as error:
            raise UsageError(f"{files[name]}: {error.strerror}") from error

    found, problems = _labelled_files(files, is_picture, read_table, f"{data}: ")
    fields = [LabelledField(f.name, f.slide, f.label, files[f.path]) for f in found]
    return fields, problems


def fields_of_archive(
    content: bytes, limits: Limits = Limits(), share: Share | None = None
) -> tuple[list[LabelledField], list[str]]:
    """The labelled fields in a ZIP archive, which is read as the folder that was packed.

    Args:
        content: Of the archive.
        limits: What it may hold, as for a case. Of an archive that holds more nothing is read,
            as what is left could lack a class.
        share: What takes the fields' bytes; whoever gives it ends it, also after an error.

    Returns:
        As `find_fields`.

    Raises:
        UsageError: It cannot be read, holds more than it may, or nothing in it is labelled.
    """
    try:
        contents = open_archive(content)
    except ArchiveError as error:
        raise UsageError(str(error)) from error
    pictures = {PurePosixPath(entry.name): entry for entry in contents.images}
    entries = pictures | {PurePosixPath(entry.name): entry for entry in contents.others}

    def read_table(name: PurePosixPath) -> bytes:
        try:
            return _read(entries[name], limits)
        except ArchiveError as error:
            raise UsageError(f"{LABELS_TABLE}: {error}") from error

    names = {*entries, *map(PurePosixPath, contents.hidden)}
    found, problems = _labelled_files(names, pictures.__contains__, read_table)
    twice = Counter(PurePosixPath(e.name) for e in [*contents.images, *contents.others])
    problems += [
        f"{path} is in the archive {times} times; only the last one was read"
        for path, times in twice.items()
        if times > 1
    ]
    unpacked = unpack([entries[file.path] for file in found], "labelled fields", limits, share)
    fields = []
    for file, data in zip(found, unpacked, strict=True):
        if isinstance(data, ArchiveError):
            problems.append(f"{file.name}: {data}")
        else:
            fields.append(LabelledField(file.name, file.slide, file.label, data))
    if not fields:
        raise UsageError(f"expected fields that can be read, found none ({problems[-1]})")
    return fields, problems


def unpack(
    entries: Sequence[Entry], what: str, limits: Limits, share: Share | None = None
) -> Iterator[bytes | ArchiveError]:
    """The content of each of an archive's files, or why it cannot be read.

    Args:
        entries: The files.
        what: They are, in the plural.
        limits: As for a case, for all of them.
        share: What takes their bytes; whoever gives it ends it, also after an error.

    Raises:
        UsageError: They are more than they may be.
    """
    most = f"at most {limits.fields:,} {what} of {limits.case // MEGABYTE:,} MB together"
    if len(entries) > limits.fields:
        raise UsageError(f"expected {most}; found {len(entries):,}")
    size = 0
    for entry in entries:
        try:
            content = _read(entry, limits)
        except ArchiveError as error:
            yield error
            continue
        size += len(content)
        if size > limits.case:
            raise UsageError(f"expected {most}; these unpack to more")
        if share is not None and not share.take(len(content)):
            raise UsageError(server_full(Room(limits.server)))
        yield content


def _read(entry: Entry, limits: Limits) -> bytes:
    """Raises `ArchiveError`."""
    content = entry.read(limits.file + 1)
    if len(content) > limits.file:
        raise ArchiveError(too_large(limits))
    return content


def fields_of_case(fields: Iterable[Field]) -> list[LabelledField]:
    """The fields of a case for which the reader names a class, by class and name.

    A field without a slide counts as one of a slide that all such fields of its class share; a
    slide whose fields the reader gives several classes is one.
    """
    found = [
        LabelledField(
            field.name,
            field.slide or class_name,
            CLASS_NAMES.index(class_name),
            field.content,
        )
        for class_name, field in labelled(fields)
    ]
    return sorted(found, key=lambda field: (field.label, field.name))


class Reader:
    """Decodes labelled fields one by one: none spoils another, and repeats count once.

    Attributes:
        problems: A sentence for each field that is left out, behind those given.
    """

    def __init__(self, problems: Iterable[str] = ()) -> None:
        self.problems = list(problems)
        self._names: dict[bytes, str] = {}

    def decoded(self, field: LabelledField) -> np.ndarray | None:
        """RGB pixels, uint8 (H, W, 3) in [0, 255]; None for a field that is left out."""
        try:
            rgb = decode_image(field.source)
        except ImageError as error:
            self.problems.append(f"{field.name}: {error}")
            return None
        pixels = hashlib.sha256(repr(rgb.shape).encode() + rgb.tobytes()).digest()
        if (first := self._names.setdefault(pixels, field.name)) != field.name:
            self.problems.append(f"{field.name} repeats {first} and is left out")
            return None
        return rgb

    def seen(self, field: LabelledField) -> SeenField | None:
        """What is kept of a field; None for one that is left out."""
        rgb = self.decoded(field)
        return None if rgb is None else seen(field, squeeze(rgb))


def seen(field: LabelledField, rgb: np.ndarray) -> SeenField:
    """What is kept of a field, from its squeezed pixels, uint8 (224, 224, 3) in [0, 255]."""
    return SeenField(field, appearance_of(rgb), hashlib.sha256(rgb.tobytes()).hexdigest()[:16])


def together(found: Sequence[SeenField], problems: Sequence[str]) -> SeenFields:
    """Fields that were read, as one.

    Raises:
        UsageError: There is none.
    """
    if not found:
        raise UsageError(f"expected fields that can be read, found none ({problems[0]})")
    return SeenFields(
        tuple(one.field.name for one in found),
        np.array([one.field.slide for one in found]),
        np.array([one.field.label for one in found], np.int64),
        tuple(one.look for one in found),
        tuple(one.mark for one in found),
        tuple(one.field.source for one in found),
        tuple(problems),
    )


def see_fields(
    fields: Sequence[LabelledField], problems: Iterable[str] = (), progress: Progress | None = None
) -> SeenFields:
    """Reads labelled fields and keeps no pixels.

    Raises:
        UsageError: None of them can be read.
    """
    reader = Reader(problems)
    each = map(reader.seen, progress(fields, "reading fields") if progress else fields)
    return together([one for one in each if one is not None], reader.problems)


def read_fields(
    fields: Sequence[LabelledField], problems: Iterable[str] = (), progress: Progress | None = None
) -> LaboratoryFields:
    """Reads labelled fields and keeps their squeezed pixels.

    Raises:
        UsageError: None of them can be read.
    """
    reader = Reader(problems)
    found, images, sizes = [], [], []
    for field in progress(fields, "reading fields") if progress else fields:
        if (rgb := reader.decoded(field)) is not None:
            images.append(squeeze(rgb))
            sizes.append(rgb.shape[:2])
            found.append(seen(field, images[-1]))
    known = vars(together(found, reader.problems))
    return LaboratoryFields(**known, images=Images(images), sizes=np.array(sizes))


class _LabelledFile(NamedTuple):
    """A file whose class is known: its path, and the attributes of a `LabelledField`."""

    path: PurePosixPath
    name: str
    slide: str
    label: int


def _labelled_files(
    paths: Iterable[PurePosixPath],
    is_picture: Callable[[PurePosixPath], bool],
    read_table: Callable[[PurePosixPath], bytes],
    place: str = "",
) -> tuple[list[_LabelledFile], list[str]]:
    """The labelled files of a folder or an archive, by class and name, and what is wrong.

    Args:
        paths: Of all files.
        is_picture: Whether one is an image.
        read_table: Gives the content of `LABELS_TABLE`.
        place: How an error begins.

    Raises:
        UsageError: The table cannot be used, or nothing is labelled.
    """
    named = {path for path in paths if not _is_litter(path)}
    hidden = {path for path in named if is_hidden(str(path))}
    paths = named - hidden
    top = _common_folder(paths)
    if (table := top / LABELS_TABLE) in paths:
        found, problems = _by_table(f"{place}{LABELS_TABLE}", read_table(table), top, paths)
    else:
        found, problems = _by_folders(_below_parent(top, paths), paths, is_picture)
    if not found:
        raise UsageError(
            f"{place}expected folders of the classes ({', '.join(CLASS_NAMES)}) with fields, or "
            f"{LABELS_TABLE} with the columns {', '.join(COLUMNS)}; found no labelled field"
            + (f" ({problems[0]})" if problems else "")
        )
    if hidden:
        names = [str(p.relative_to(top) if p.is_relative_to(top) else p) for p in sorted(hidden)]
        problems.append(f"{counted_files(len(names))} left out, {HIDDEN}: {some_of(names)}")
    return sorted(found, key=lambda file: (file.label, file.name)), problems


def _is_litter(path: PurePosixPath) -> bool:
    return is_litter(str(path)) or path.name.startswith("Thumbs.db")


def _common_folder(paths: Collection[PurePosixPath]) -> PurePosixPath:
    """The innermost folder that all files lie in, outside of the class folders."""
    folder = PurePosixPath()
    while True:
        depth = len(folder.parts)
        tops = {path.parts[depth] if len(path.parts) > depth + 1 else None for path in paths}
        top = tops.pop() if len(tops) == 1 else None
        if top is None or top.lower() in CLASS_OF:
            return folder
        folder /= top


def _below_parent(top: PurePosixPath, paths: Collection[PurePosixPath]) -> PurePosixPath:
    """The folder of the class folders, which a published archive has beside others."""
    parents = (top / name for name in PARENT_FOLDERS)
    return next((p for p in parents if any(p in path.parents for path in paths)), top)


def _by_folders(
    root: PurePosixPath,
    paths: Iterable[PurePosixPath],
    is_picture: Callable[[PurePosixPath], bool],
) -> tuple[list[_LabelledFile], list[str]]:
    found, problems = [], []
    for path in sorted(path for path in paths if path.is_relative_to(root)):
        relative = path.relative_to(root)
        if not is_picture(path):
            problems.append(f"{relative} is not an image file")
        elif (known := _from_path(relative)) is None:
            problems.append(f"{relative} lies in no folder of a class")
        else:
            found.append(_LabelledFile(path, str(relative), *known))
    return found, problems


def _from_path(path: PurePosixPath) -> tuple[str, int] | None:
    """Slide and class by the innermost folder that is named as a class; None without any."""
    folders = path.parts[:-1]
    for i in reversed(range(len(folders))):
        label = CLASS_OF.get(folders[i].lower())
        if label is not None:
            return "/".join((CLASS_NAMES[label], *folders[i + 1 :])), label
    return None


def _by_table(
    table: str, content: bytes, folder: PurePosixPath, paths: Collection[PurePosixPath]
) -> tuple[list[_LabelledFile], list[str]]:
    if len(content) > LARGEST_TABLE:
        raise UsageError(f"{table}: expected at most {LARGEST_TABLE // MEGABYTE} MB")
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
            raise UsageError(f"{table}: expected the column {missing[0]}")
        rows = list(islice(reader, MOST_ROWS + 1))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{table}: expected a table in UTF-8 ({error})") from error
    if len(rows) > MOST_ROWS:
        raise UsageError(f"{table}: expected at most {MOST_ROWS:,} rows")
    found, problems = [], []
    repeated = Counter(row["file"] for row in rows)
    for row in rows:
        name, label = row["file"] or "", CLASS_OF.get((row["class"] or "").strip().lower())
        path = folder / name
        if label is None:
            problems.append(f"{name}: {row['class']!r} in {LABELS_TABLE} is none of the classes")
        elif repeated[name] > 1:
            problems.append(f"{name} stands in {LABELS_TABLE} more than once")
        elif path not in paths:
            problems.append(f"{name}: {LABELS_TABLE} names it, and it is not in the folder")
        else:
            slide = (row.get("slide") or "").strip()
            found.append(_LabelledFile(path, name, slide or CLASS_NAMES[label], label))
    return found, problems

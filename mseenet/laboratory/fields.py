"""A laboratory's own fields with the classes that are known there, and which slide each is of."""

import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from mseenet.case.archive import ArchiveError, open_archive
from mseenet.case.fields import Field
from mseenet.case.labelled import labelled
from mseenet.config import CLASS_NAMES
from mseenet.errors import UsageError
from mseenet.imaging.decoding import ImageError, ImageSource, decode_image, squeeze
from mseenet.imaging.formats import SUFFIXES, is_image
from mseenet.training.dataset import FOLDER_NAMES, PARENT_FOLDERS

TABLE = "labels.csv"
"""Name of a table in the folder that gives the classes instead of the folders."""

COLUMNS = ("file", "class")
"""What such a table needs; a column `slide` may be there, too."""

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
        slide: Class and slide; fields of one slide belong together.
        label: Index into `CLASS_NAMES`.
        source: What `decode_image` takes.
    """

    name: str
    slide: str
    label: int
    source: ImageSource


@dataclass(frozen=True, eq=False)
class LaboratoryFields:
    """Fields that were read.

    Attributes:
        names: Of each field, (N,).
        slides: Of each field, str (N,).
        labels: int64 (N,).
        images: RGB pixels, squeezed, uint8 (N, 224, 224, 3) in [0, 255].
        sources: What `decode_image` takes, of each field.
        sizes: Height and width of each field as decoded, int (N, 2).
        problems: A sentence for each file that is not among them.
    """

    names: tuple[str, ...]
    slides: np.ndarray
    labels: np.ndarray
    images: np.ndarray
    sources: tuple[ImageSource, ...]
    sizes: np.ndarray
    problems: tuple[str, ...]

    def chosen(self, rows: np.ndarray) -> "LaboratoryFields":
        """Some of the fields, by position or as a mask."""
        rows = np.arange(len(self.labels))[rows]
        return LaboratoryFields(
            tuple(self.names[i] for i in rows),
            self.slides[rows],
            self.labels[rows],
            self.images[rows],
            tuple(self.sources[i] for i in rows),
            self.sizes[rows],
            self.problems,
        )

    def counts(self) -> dict[str, dict[str, int]]:
        """Fields and slides by class."""
        return {
            name: {
                "fields": int((self.labels == label).sum()),
                "slides": len(set(self.slides[self.labels == label])),
            }
            for label, name in enumerate(CLASS_NAMES)
        }


def find_fields(data: Path) -> tuple[list[LabelledField], list[str]]:
    """The labelled fields in a folder.

    Args:
        data: Holds folders of classes, named as for `mseenet train`, and in these folders of
            slides; or `TABLE`, with the columns file, class and, if known, slide. Images that
            lie in a class folder itself count as one slide, for nothing says that they are of
            several.

    Returns:
        The fields by name, and a sentence for each thing that was not as expected.

    Raises:
        UsageError: There is no such folder, or nothing in it is labelled.
    """
    if not data.is_dir():
        raise UsageError(f"{data}: expected a folder of labelled fields, found no folder there")
    table = data / TABLE
    fields, problems = _by_table(data, table) if table.is_file() else _by_folders(data)
    if not fields:
        raise UsageError(
            f"{data}: expected folders of the classes ({', '.join(CLASS_NAMES)}) with fields, or "
            f"{TABLE} with the columns {', '.join(COLUMNS)}; found no labelled field"
            + (f" ({problems[0]})" if problems else "")
        )
    return sorted(fields, key=lambda field: (field.label, field.name)), problems


def fields_of_archive(content: bytes) -> tuple[list[LabelledField], list[str]]:
    """The labelled fields in a ZIP archive of folders of classes and slides.

    Raises:
        UsageError: It cannot be read, or nothing in it is labelled.
    """
    try:
        contents = open_archive(content)
    except ArchiveError as error:
        raise UsageError(str(error)) from error
    fields, problems = [], []
    for entry in contents.images:
        try:
            found = _from_path(PurePosixPath(entry.name))
            if found is None:
                problems.append(f"{entry.name} lies in no folder of a class")
                continue
            fields.append(LabelledField(entry.name, *found, entry.read(MOST_BYTES)))
        except ArchiveError as error:
            problems.append(f"{entry.name}: {error}")
    if not fields:
        raise UsageError(
            f"expected folders of the classes ({', '.join(CLASS_NAMES)}) in the archive, found "
            "no labelled field"
        )
    return sorted(fields, key=lambda field: (field.label, field.name)), problems


MOST_BYTES = 64 * 2**20
"""Of one field in an archive."""


def fields_of_case(fields: Iterable[Field]) -> list[LabelledField]:
    """The fields of a case for which the reader names a class.

    A field without a slide counts as one of a slide that all such fields of its class share.
    """
    return [
        LabelledField(
            field.name,
            f"{class_name}/{field.slide or ''}",
            CLASS_NAMES.index(class_name),
            field.content,
        )
        for class_name, field in labelled(fields)
    ]


def read_fields(
    fields: Sequence[LabelledField], problems: Iterable[str] = (), progress: Progress | None = None
) -> LaboratoryFields:
    """Decodes labelled fields; one that cannot be read spoils no other, and repeats count once.

    Raises:
        UsageError: None of them can be read.
    """
    found, images, sizes, said = [], [], [], list(problems)
    names: dict[bytes, str] = {}
    for field in progress(fields, "reading fields") if progress else fields:
        try:
            rgb = decode_image(field.source)
        except ImageError as error:
            said.append(f"{field.name}: {error}")
            continue
        pixels = hashlib.sha256(repr(rgb.shape).encode() + rgb.tobytes()).digest()
        if (first := names.setdefault(pixels, field.name)) != field.name:
            said.append(f"{field.name} repeats {first} and is left out")
            continue
        found.append(field)
        images.append(squeeze(rgb))
        sizes.append(rgb.shape[:2])
    if not found:
        raise UsageError(f"expected fields that can be read, found none ({said[0]})")
    return LaboratoryFields(
        tuple(field.name for field in found),
        np.array([field.slide for field in found]),
        np.array([field.label for field in found], np.int64),
        np.stack(images),
        tuple(field.source for field in found),
        np.array(sizes),
        tuple(said),
    )


def _by_folders(data: Path) -> tuple[list[LabelledField], list[str]]:
    root = next((data / name for name in PARENT_FOLDERS if (data / name).is_dir()), data)
    fields, problems = [], []
    for path in _files(root):
        relative = PurePosixPath(path.relative_to(root).as_posix())
        if not (path.suffix.lower() in SUFFIXES or is_image(path)):
            problems.append(f"{relative} is not an image file")
        elif (found := _from_path(relative)) is None:
            problems.append(f"{relative} lies in no folder of a class")
        else:
            fields.append(LabelledField(str(relative), *found, path))
    return fields, problems


def _files(root: Path) -> list[Path]:
    """All files below a folder but hidden ones."""
    return sorted(
        path
        for path in root.rglob("*")
        if path.is_file()
        and not any(part.startswith((".", "Thumbs.db")) for part in path.relative_to(root).parts)
    )


def _from_path(path: PurePosixPath) -> tuple[str, int] | None:
    """Slide and class by the innermost folder that is named as a class; None without any."""
    folders = path.parts[:-1]
    for i in reversed(range(len(folders))):
        label = CLASS_OF.get(folders[i].lower())
        if label is not None:
            return "/".join((CLASS_NAMES[label], *folders[i + 1 :])), label
    return None


def _by_table(data: Path, table: Path) -> tuple[list[LabelledField], list[str]]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
                raise UsageError(f"{table}: expected the column {missing[0]}")
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{table}: expected a table in UTF-8 ({error})") from error
    fields, problems = [], []
    repeated = Counter(row["file"] for row in rows)
    for row in rows:
        name, label = row["file"] or "", CLASS_OF.get((row["class"] or "").strip().lower())
        path = data / name
        if label is None:
            problems.append(f"{name}: {row['class']!r} in {TABLE} is none of the classes")
        elif repeated[name] > 1:
            problems.append(f"{name} stands in {TABLE} more than once")
        elif not name or not path.resolve().is_relative_to(data.resolve()) or not path.is_file():
            problems.append(f"{name}: {TABLE} names it, and it is not in the folder")
        else:
            slide = (row.get("slide") or "").strip()
            fields.append(LabelledField(name, f"{CLASS_NAMES[label]}/{slide}", label, path))
    return fields, problems

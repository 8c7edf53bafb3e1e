"""The ALL image dataset on disk: an index of its files, and their pixels.

The dataset is not part of this project; README.md says where it comes from.
"""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mseenet.config import CLASS_NAMES, IMAGE_SIZE, LABELS_TABLE
from mseenet.errors import MSEENetError
from mseenet.imaging.decoding import ImageError, decode_image, squeeze
from mseenet.imaging.formats import SUFFIXES, is_image

FOLDER_NAMES = {
    "Benign": ("Benign",),
    "Early Pre-B": ("Early", "[Malignant] early Pre-B", "Early Pre-B"),
    "Pre-B": ("Pre", "[Malignant] Pre-B", "Pre-B"),
    "Pro-B": ("Pro", "[Malignant] Pro-B", "Pro-B"),
}
"""For each class, the folder names of the published layouts (compared without case)."""

PARENT_FOLDERS = ("Original", "Blood cell Cancer [ALL]")
"""Folders of the published archives that hold the class folders."""

Progress = Callable[[Iterable, str], Iterable]
"""Wraps an iterable and shows how far it is: (iterable, description) -> iterable."""


class DatasetError(MSEENetError):
    """The dataset or the split file is not as required; the message says what."""


@dataclass(frozen=True)
class Sample:
    """One readable image of the dataset.

    Attributes:
        file: "class name/file name", the same for every layout and machine.
        path: Where it is on this machine.
        label: Index into `CLASS_NAMES`.
        sha256: Of the file's bytes, in hex.
        pixel_sha256: Of the decoded RGB pixels and their shape, in hex.
    """

    file: str
    path: Path
    label: int
    sha256: str
    pixel_sha256: str


@dataclass(frozen=True)
class DatasetIndex:
    """What was found below a dataset folder.

    Attributes:
        root: The folder that holds the class folders.
        samples: All usable images, by class, then by file name.
        unexpected: A sentence for each thing that was not as expected.
    """

    root: Path
    samples: tuple[Sample, ...]
    unexpected: tuple[str, ...]

    @property
    def labels(self) -> np.ndarray:
        """Labels of all samples, int64 (N,)."""
        return np.array([sample.label for sample in self.samples], dtype=np.int64)

    def describe(self) -> str:
        """Counts per class, duplicates, and everything unexpected, for a person."""
        counts = Counter(sample.label for sample in self.samples)
        per_class = ", ".join(f"{name} {counts[i]}" for i, name in enumerate(CLASS_NAMES))
        duplicates = len(self.samples) - len({s.pixel_sha256 for s in self.samples})
        lines = [
            f"{len(self.samples)} images in {self.root}: {per_class}",
            f"{duplicates} repeat the pixels of another image; repeats stay in one split",
        ]
        return "\n".join(lines + [f"unexpected: {line}" for line in self.unexpected])


def index_dataset(data: str | Path, progress: Progress | None = None) -> DatasetIndex:
    """Finds, decodes and hashes the images of all four classes.

    Args:
        data: The folder with the class folders, or the one above it in the published
            archives (see `FOLDER_NAMES` and `PARENT_FOLDERS`).
        progress: Shows how far the reading is.

    Returns:
        The index. Images that cannot be decoded or named in UTF-8, files that are no images, unknown
        folders and pixel-identical images in two classes (all copies are left out, as
        the label is unknown) are in `unexpected`.

    Raises:
        DatasetError: The folder or a class folder is missing or holds no image.
    """
    root = _find_root(Path(data))
    folders, unexpected = _class_folders(root)
    files = []
    for class_name, folder in folders.items():
        usable: list[Path] = []
        other: list[Path] = []
        for path in _entries(folder):
            meant = path.suffix.lower() in SUFFIXES or is_image(path)
            (usable if path.is_file() and meant else other).append(path)
        unexpected += [f"{folder.name}/{path.name} is not an image file" for path in other]
        if not usable:
            raise DatasetError(f"{folder}: expected images ({', '.join(SUFFIXES)}), found none")
        files += [(class_name, path) for path in usable]

    samples = []
    for class_name, path in progress(files, "reading images") if progress else files:
        try:
            path.name.encode()
            content = path.read_bytes()
            rgb = decode_image(content)
        except (ImageError, OSError) as error:
            unexpected.append(f"{path.parent.name}/{path.name}: {error}")
            continue
        except UnicodeEncodeError:  # split files are UTF-8
            unexpected.append(f"{path.parent.name}/{path.name!r}: expected a name in UTF-8")
            continue
        pixels = hashlib.sha256(repr(rgb.shape).encode())
        pixels.update(rgb.tobytes())
        samples.append(
            Sample(
                file=f"{class_name}/{path.name}",
                path=path,
                label=CLASS_NAMES.index(class_name),
                sha256=hashlib.sha256(content).hexdigest(),
                pixel_sha256=pixels.hexdigest(),
            )
        )

    labels_of = defaultdict(set)
    for sample in samples:
        labels_of[sample.pixel_sha256].add(sample.label)
    ambiguous = [s for s in samples if len(labels_of[s.pixel_sha256]) > 1]
    unexpected += [f"{s.file} has the pixels of an image in another class" for s in ambiguous]
    samples = [s for s in samples if len(labels_of[s.pixel_sha256]) == 1]
    for label, class_name in enumerate(CLASS_NAMES):
        if not any(sample.label == label for sample in samples):
            raise DatasetError(f"{root}: class {class_name} has no usable image")
    return DatasetIndex(root, tuple(samples), tuple(unexpected))


def load_images(
    samples: Sequence[Sample], size: int = IMAGE_SIZE, progress: Progress | None = None
) -> np.ndarray:
    """Decodes and squeezes all samples into memory.

    Args:
        samples: What to load, in order.
        size: Height and width, in pixels.
        progress: Shows how far the loading is.

    Returns:
        RGB pixels, uint8 (N, size, size, 3) in [0, 255]; 150 kB an image at 224.
    """
    images = np.empty((len(samples), size, size, 3), dtype=np.uint8)
    numbered = list(enumerate(samples))
    for i, sample in progress(numbered, "loading images") if progress else numbered:
        images[i] = squeeze(decode_image(sample.path), size)
    return images


def _entries(folder: Path) -> list[Path]:
    """What a folder holds, by name, without hidden files and the like."""
    try:
        return sorted(
            path for path in folder.iterdir() if not path.name.startswith((".", "Thumbs.db"))
        )
    except OSError as error:
        raise DatasetError(f"{folder}: expected a readable folder ({error.strerror})") from error


def _find_root(data: Path) -> Path:
    if not data.is_dir():
        raise DatasetError(f"{data}: expected the dataset's folder, found no folder there")
    known = {name.lower() for names in FOLDER_NAMES.values() for name in names}
    for candidate in (data, *(data / name for name in PARENT_FOLDERS)):
        if candidate.is_dir() and any(e.name.lower() in known for e in _entries(candidate)):
            return candidate
    raise DatasetError(
        f"{data}: expected class folders (Benign, Early, Pre, Pro), found "
        + (", ".join(entry.name for entry in _entries(data)[:5]) or "an empty folder")
    )


def _class_folders(root: Path) -> tuple[dict[str, Path], list[str]]:
    class_of = {alias.lower(): name for name, aliases in FOLDER_NAMES.items() for alias in aliases}
    folders: dict[str, Path] = {}
    unexpected = []
    for entry in _entries(root):
        if entry.name == LABELS_TABLE:  # of the page's training folder; the folders say the same
            continue
        class_name = class_of.get(entry.name.lower())
        if class_name is None or not entry.is_dir():
            unexpected.append(f"{entry.name}{os.sep if entry.is_dir() else ''} is no class folder")
        elif class_name in folders:
            raise DatasetError(
                f"{root}: {folders[class_name].name} and {entry.name} are both for {class_name}"
            )
        else:
            folders[class_name] = entry
    if missing := [name for name in CLASS_NAMES if name not in folders]:
        raise DatasetError(
            f"{root}: no folder for class {missing[0]}; expected one named "
            + " or ".join(FOLDER_NAMES[missing[0]])
        )
    return {name: folders[name] for name in CLASS_NAMES}, unexpected

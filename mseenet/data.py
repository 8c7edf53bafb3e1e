"""The ALL image dataset on disk: an index of its files, and splits that can be checked.

The dataset is not part of this project; README.md says where it comes from.
"""

import csv
import hashlib
import io
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mseenet.config import CLASS_NAMES, IMAGE_SIZE
from mseenet.errors import MSEENetError
from mseenet.images import SUFFIXES, ImageError, decode_image, squeeze

FOLDER_NAMES = {
    "Benign": ("Benign",),
    "Early Pre-B": ("Early", "[Malignant] early Pre-B", "Early Pre-B"),
    "Pre-B": ("Pre", "[Malignant] Pre-B", "Pre-B"),
    "Pro-B": ("Pro", "[Malignant] Pro-B", "Pro-B"),
}
"""For each class, the folder names of the published layouts (compared without case)."""

PARENT_FOLDERS = ("Original", "Blood cell Cancer [ALL]")
"""Folders of the published archives that hold the class folders."""

SPLIT_NAMES = ("train", "val", "test")

FOLDS = 5
"""Blocks of file order that the protocol `blocks` cuts each class into."""

EMBARGOES = (50, 100)
"""Files around a test block that the reports keep out of training, in file numbers."""

NEAR_DUPLICATE = 0.97
"""Correlation of two thumbnails above which two fields overlap or repeat each other."""

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


@dataclass(frozen=True)
class Split:
    """Which image serves for what.

    Attributes:
        protocol: How the images were divided: "random", or "blocks" with fold and embargo.
        seed: Seed of the division; None where nothing is drawn at random.
        assignment: "train", "val" or "test" by `Sample.file`; a file that a protocol
            leaves out is absent.
    """

    protocol: str
    seed: int | None
    assignment: dict[str, str]

    def indices(self, samples: Sequence[Sample], name: str) -> np.ndarray:
        """Positions in `samples` of the part `name`, int64 (n,), ascending."""
        return np.array(
            [i for i, s in enumerate(samples) if self.assignment.get(s.file) == name],
            dtype=np.int64,
        )


def index_dataset(data: str | Path, progress: Progress | None = None) -> DatasetIndex:
    """Finds, decodes and hashes the images of all four classes.

    Args:
        data: The folder with the class folders, or the one above it in the published
            archives (see `FOLDER_NAMES` and `PARENT_FOLDERS`).
        progress: Shows how far the reading is.

    Returns:
        The index. Images that cannot be decoded, files that are no images, unknown
        folders and pixel-identical images in two classes (all copies are left out, as
        the label is unknown) are in `unexpected`.

    Raises:
        DatasetError: The folder or a class folder is missing or holds no image.
    """
    root = _find_root(Path(data))
    folders, unexpected = _class_folders(root)
    files = []
    for class_name, folder in folders.items():
        usable, other = [], []
        for path in _entries(folder):
            is_image = path.is_file() and path.suffix.lower() in SUFFIXES
            (usable if is_image else other).append(path)
        unexpected += [f"{folder.name}/{path.name} is not an image file" for path in other]
        if not usable:
            raise DatasetError(f"{folder}: expected images ({', '.join(SUFFIXES)}), found none")
        files += [(class_name, path) for path in usable]

    samples = []
    for class_name, path in progress(files, "reading images") if progress else files:
        try:
            content = path.read_bytes()
            rgb = decode_image(content)
        except (ImageError, OSError) as error:
            unexpected.append(f"{path.parent.name}/{path.name}: {error}")
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


def random_split(
    samples: Sequence[Sample], seed: int, fractions: tuple[float, float] = (0.1, 0.1)
) -> Split:
    """The paper's protocol: stratified random 80 % train, 10 % val, 10 % test.

    Pixel-identical images form one group and stay together. The order of the groups is
    that of the SHA-256 of seed and pixels, so that it depends on nothing but these: not
    on the machine, the library versions, file names or the order of the files.

    Neighbouring images of one slide do end up in different parts, as in the paper: the
    numbers measured on this split are optimistic.

    Args:
        samples: All usable images.
        seed: Another seed gives another split.
        fractions: Shares of the images of each class for val and for test.

    Returns:
        The split; every sample is in exactly one part.

    Raises:
        DatasetError: A class has too few images for a part to get one.
    """
    assignment = {}
    for label, class_name in enumerate(CLASS_NAMES):
        groups = defaultdict(list)
        for sample in samples:
            if sample.label == label:
                groups[sample.pixel_sha256].append(sample.file)
        order = sorted(groups, key=lambda key: hashlib.sha256(f"{seed}:{key}".encode()).digest())
        total = sum(len(files) for files in groups.values())
        room = {
            "test": round(total * fractions[1]),
            "val": round(total * fractions[0]),
            "train": total,
        }
        parts = Counter()
        for key in order:
            part = next(name for name, free in room.items() if free >= len(groups[key]))
            room[part] -= len(groups[key])
            parts[part] += len(groups[key])
            assignment |= dict.fromkeys(groups[key], part)
        if missing := [name for name in SPLIT_NAMES if not parts[name]]:
            raise DatasetError(
                f"class {class_name}: expected enough images for a split, got {total}; "
                f"none left for {', '.join(missing)}"
            )
    return Split("random", seed, assignment)


def near_duplicates(images: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of images that show (nearly) the same field.

    Args:
        images: RGB pixels, uint8 (N, H, W, 3) in [0, 255].

    Returns:
        Positions (i, j), i < j, whose 32x32 grey thumbnails correlate by more than
        `NEAR_DUPLICATE`.
    """
    grey = [Image.fromarray(rgb).convert("L") for rgb in images]
    small = [np.asarray(g.resize((32, 32), Image.Resampling.BOX), np.float32) for g in grey]
    thumbnails = np.stack(small).reshape(len(images), -1)
    thumbnails -= thumbnails.mean(axis=1, keepdims=True)
    thumbnails /= np.maximum(np.linalg.norm(thumbnails, axis=1, keepdims=True), 1e-6)
    pairs = np.argwhere(np.triu(thumbnails @ thumbnails.T > NEAR_DUPLICATE, k=1))
    return [(int(i), int(j)) for i, j in pairs]


def block_split(
    samples: Sequence[Sample],
    fold: int,
    embargo: int,
    duplicates: Iterable[tuple[int, int]] = (),
    folds: int = FOLDS,
) -> Split:
    """A contiguous block of file order is the test part; its surroundings are left out.

    The dataset names no patients, but its file numbers follow the slides: a block holds
    mostly whole slides, and the embargo takes most of what is left of them out of
    training. Slides interleave, though: of one Pre-B slide an embargo of 50 leaves some,
    one of 100 hardly any. Each class is cut into `folds` blocks; over all folds each
    image is tested once.

    Args:
        samples: All usable images; each file name ends in its number.
        fold: Which block is tested, in [0, folds).
        embargo: Files whose number is at most this far from a number of the test block
            of their class are left out.
        duplicates: Pairs of positions in `samples` (`near_duplicates`); what repeats a
            test image is left out.
        folds: Number of blocks.

    Returns:
        A split into "train" and "test"; there is no "val".

    Raises:
        DatasetError: A file name has no number, or a class has no image for a part.
        ValueError: `fold` or `embargo` is out of range.
    """
    if not 0 <= fold < folds or embargo < 0:
        raise ValueError(
            f"expected fold in [0, {folds}) and embargo >= 0; received {fold}, {embargo}"
        )
    part = {}
    for label, class_name in enumerate(CLASS_NAMES):
        numbered = sorted(
            (_file_number(sample), i) for i, sample in enumerate(samples) if sample.label == label
        )
        tested = np.array_split(np.arange(len(numbered)), folds)[fold]
        if not len(tested) or len(tested) == len(numbered):
            raise DatasetError(
                f"class {class_name}: expected at least {folds} images for {folds} blocks, "
                f"got {len(numbered)}"
            )
        first, last = numbered[tested[0]][0] - embargo, numbered[tested[-1]][0] + embargo
        part |= {i: None if first <= number <= last else "train" for number, i in numbered}
        part |= {numbered[position][1]: "test" for position in tested}
        if not any(part[i] == "train" for _, i in numbered):
            raise DatasetError(
                f"class {class_name}: an embargo of {embargo} files leaves nothing to train on"
            )
    for pair in duplicates:
        for one, other in (pair, pair[::-1]):
            if part[one] == "test" and part[other] == "train":
                part[other] = None
    return Split(
        f"blocks, fold {fold}, embargo {embargo}",
        None,
        {samples[i].file: name for i, name in part.items() if name},
    )


def split_csv(split: Split, samples: Sequence[Sample]) -> bytes:
    """The split as a CSV file, `split,file,sha256`, sorted; what `read_split` reads."""
    rows = sorted(
        (split.assignment[s.file], s.file, s.sha256) for s in samples if s.file in split.assignment
    )
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("split", "file", "sha256"))
    writer.writerows(rows)
    return buffer.getvalue().encode()


def read_split(path: Path, index: DatasetIndex, protocol: str, seed: int) -> Split:
    """Reads a split file and checks that the dataset holds its images; more are ignored.

    Args:
        path: A file made by `split_csv`.
        index: The dataset on this machine.
        protocol: Recorded in the result.
        seed: Recorded in the result.

    Returns:
        The split.

    Raises:
        DatasetError: The file is missing or malformed, or an image that it lists is
            missing or has other content here.
    """
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        listed = {row["file"]: (row["split"], row["sha256"]) for row in rows}
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"{path}: expected a split file with the columns split, file, sha256 ({error})"
        ) from error
    here = {sample.file: sample.sha256 for sample in index.samples}
    wrong = [file for file, (_, sha256) in listed.items() if here.get(file) != sha256]
    if wrong:
        raise DatasetError(
            f"{index.root}: {len(wrong)} of the {len(listed)} images that {path.name} lists "
            f"are missing or have other content, first {wrong[0]}"
        )
    return Split(protocol, seed, {file: part for file, (part, _) in listed.items()})


def _file_number(sample: Sample) -> int:
    numbers = re.findall(r"\d+", Path(sample.file).stem)
    if not numbers:
        raise DatasetError(f"{sample.file}: expected a file name that ends in a number")
    return int(numbers[-1])


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
    folders, unexpected = {}, []
    for entry in _entries(root):
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

"""Which image trains and which one tests: splits that can be checked."""

import csv
import hashlib
import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mseenet.config import CLASS_NAMES
from mseenet.training.dataset import DatasetError, DatasetIndex, Sample

SPLIT_NAMES = ("train", "val", "test")

FOLDS = 5
"""Blocks of file order that the protocol `blocks` cuts each class into."""

EMBARGOES = (50, 100)
"""Files around a test block that the reports keep out of training, in file numbers."""

NEAR_DUPLICATE = 0.97
"""Correlation of two thumbnails above which two fields overlap or repeat each other."""


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
        fractions: Proportions of the images of each class for val and for test.

    Returns:
        The split; every sample is in exactly one part.

    Raises:
        DatasetError: A class has too few images for a part to get one.
    """
    assignment: dict[str, str] = {}
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
        parts: Counter[str] = Counter()
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
    part: dict[int, str | None] = {}
    for label, class_name in enumerate(CLASS_NAMES):
        numbered = sorted(
            (file_number(sample), i) for i, sample in enumerate(samples) if sample.label == label
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


def read_split(path: Path, index: DatasetIndex, protocol: str, seed: int | None) -> Split:
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


def file_number(sample: Sample) -> int:
    """The number that the file's name ends in.

    Raises:
        DatasetError: There is none.
    """
    numbers = re.findall(r"\d+", Path(sample.file).stem)
    if not numbers:
        raise DatasetError(f"{sample.file}: expected a file name that ends in a number")
    return int(numbers[-1])

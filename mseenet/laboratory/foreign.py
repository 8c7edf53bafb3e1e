"""Images that no laboratory's profile may let pass."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from mseenet.case.archive import ArchiveError, open_archive
from mseenet.case.limits import Limits, Share
from mseenet.errors import UsageError
from mseenet.imaging.decoding import ImageError, ImageSource, decode_image, squeeze
from mseenet.imaging.formats import SUFFIXES, is_image
from mseenet.laboratory.fields import Images, unpack


@dataclass(frozen=True, eq=False)
class ForeignImages:
    """Images of one kind that are to be refused.

    Attributes:
        images: Pixels of the N images.
        sizes: Height and width of each as decoded, int (N, 2).
    """

    images: Images
    sizes: np.ndarray


def find_foreign(folder: Path) -> Mapping[str, Sequence[Path]]:
    """Images by kind: each folder in `folder` is one.

    Raises:
        UsageError: There is no such folder, or no image in its folders.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: expected folders of foreign images, found no folder there")
    kinds = {}
    for kind in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = [p for p in sorted(kind.rglob("*")) if p.suffix.lower() in SUFFIXES or is_image(p)]
        if files:
            kinds[kind.name.encode(errors="backslashreplace").decode()] = files
    if not kinds:
        raise UsageError(f"{folder}: expected folders of foreign images, found no image in any")
    return kinds


def foreign_of_archive(
    content: bytes, limits: Limits = Limits(), share: Share | None = None
) -> dict[str, list[bytes]]:
    """The images in a ZIP archive by kind: each folder is one.

    Folders around these do not matter; what lies in a folder of a kind, at any depth, is of it.

    Args:
        content: Of the archive.
        limits: What it may hold, as for a case.
        share: What takes the images' bytes; whoever gives it ends it, also after an error.

    Raises:
        UsageError: It cannot be read, holds more than it may, or has images in no folder.
    """
    try:
        images = open_archive(content).images
    except ArchiveError as error:
        raise UsageError(str(error)) from error
    found = [(PurePosixPath(entry.name.lstrip("/")), entry) for entry in images]
    found.sort(key=lambda pair: pair[0])
    paths = [path for path, _ in found]
    around = PurePosixPath(os.path.commonpath([path.parent for path in paths]))
    if around in {path.parent for path in paths}:
        around = around.parent  # which it is not if it is the archive itself
    kinds: dict[str, list[bytes]] = {}
    unpacked = unpack([entry for _, entry in found], "foreign images", limits, share)
    for path, data in zip(paths, unpacked, strict=True):
        inner = path.relative_to(around)
        if len(inner.parts) < 2:
            raise UsageError(f"expected each image in a folder that is its kind; {path} is in none")
        if isinstance(data, ArchiveError):
            raise UsageError(f"{path}: {data}")
        kinds.setdefault(inner.parts[0], []).append(data)
    return dict(sorted(kinds.items()))


def read_foreign(
    place: object,
    files: Iterable[ImageSource],
    taken: Callable[[], None] = lambda: None,
) -> ForeignImages:
    """Decodes the images of one kind; those that cannot be read cannot pass either.

    Args:
        place: Where they are, for an error.
        files: What `decode_image` takes.
        taken: Of the images, see `Images`.

    Raises:
        UsageError: None of them can be read.
    """
    images, sizes = [], []
    for file in files:
        try:
            rgb = decode_image(file)
        except ImageError:
            continue
        images.append(squeeze(rgb))
        sizes.append(rgb.shape[:2])
    if not images:
        raise UsageError(f"{place}: expected images that can be read, found none")
    return ForeignImages(Images(images, taken), np.array(sizes))

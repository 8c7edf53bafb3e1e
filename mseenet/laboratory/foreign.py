"""Images that no laboratory's profile may let pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mseenet.errors import UsageError
from mseenet.imaging.decoding import ImageError, decode_image, squeeze
from mseenet.imaging.formats import SUFFIXES, is_image
from mseenet.laboratory.fields import Images


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


def read_foreign(files: Sequence[Path]) -> ForeignImages:
    """Decodes the images of one kind; those that cannot be read cannot pass either.

    Raises:
        UsageError: None of them can be read.
    """
    images, sizes = [], []
    for path in files:
        try:
            rgb = decode_image(path)
        except ImageError:
            continue
        images.append(squeeze(rgb))
        sizes.append(rgb.shape[:2])
    if not images:
        raise UsageError(f"{files[0].parent}: expected images that can be read, found none")
    return ForeignImages(Images(images), np.array(sizes))

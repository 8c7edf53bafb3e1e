"""Scans of whole slides, read by regions from their path; nothing else of them is in memory.

OpenSlide reads them, which is in the extra `slides`. It needs a path, so that what is uploaded to
the page, which is never written to a disk, cannot be read by it; of that `mseenet.imaging.tiles`
reads the layout that most programs write.
"""

import importlib.util
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mseenet.imaging.errors import ImageError, ImageTooLargeError, TruncatedImageError
from mseenet.imaging.pixels import MAX_PIXELS

if TYPE_CHECKING:
    from openslide import OpenSlide

    from mseenet.imaging.areas import Place

SUFFIXES = (".svs", ".ndpi", ".scn", ".bif", ".svslide", ".mrxs", ".vms", ".vmu")
"""Endings of scanners' files, in lower case. A TIFF of any name may be a scan, too."""

SEVERAL_FILES = {
    ".mrxs": "one file of a MIRAX scan",
    ".vms": "one file of a Hamamatsu scan",
    ".vmu": "one file of a Hamamatsu scan",
    ".dcm": "a DICOM file",
}
"""Endings of scans that lie in several files, and what a file of theirs is."""

NOT_INSTALLED = (
    "expected OpenSlide, by which scans of slides are read and which is not installed; "
    "run: pip install 'mseenet[slides]'"
)


class ScanError(ImageError):
    """A scan of a slide cannot be read here; the message says why."""


class Scan:
    """A scan of a slide, as `mseenet.imaging.areas.Picture`."""

    def __init__(self, slide: "OpenSlide"):
        self._slide = slide
        self.size: tuple[int, int] = slide.dimensions

    def read(self, place: "Place", width: int | None = None) -> np.ndarray:
        """See `Picture.read`; smaller levels of the scan are used."""
        x, y, columns, rows = place
        wanted = 1.0 if width is None else max(1.0, columns / width)
        level = self._slide.get_best_level_for_downsample(wanted)
        factor = self._slide.level_downsamples[level]
        size = (max(1, int(columns / factor)), max(1, int(rows / factor)))
        if size[0] * size[1] > MAX_PIXELS:
            raise ImageTooLargeError(
                f"expected a scan with smaller levels of at most {MAX_PIXELS // 10**6} million "
                f"pixels, got a smallest one of {size[0]:,} x {size[1]:,}"
            )
        try:
            region = self._slide.read_region((x, y), level, size)
        except Exception as error:  # of whatever library decodes the level
            raise TruncatedImageError(
                f"expected a whole scan, got a damaged region at x {x:,}, y {y:,} ({error})"
            ) from error
        # What was not scanned is transparent.
        white = Image.new("RGBA", region.size, "white")
        return np.asarray(Image.alpha_composite(white, region).convert("RGB"))


def one_of_several(name: str, content: bytes) -> str | None:
    """What a file is that is only a part of a scan, in words; None if it is a whole of its own.

    The image in a MIRAX file, such as it is, is a thumbnail of the slide.

    Args:
        name: Of the file.
        content: Its first 132 bytes, or more.
    """
    if content[128:132] == b"DICM":
        return SEVERAL_FILES[".dcm"]
    return SEVERAL_FILES.get(PurePosixPath(name.lower()).suffix)


def open_scan(path: Path) -> Scan:
    """Opens a scan.

    Raises:
        ScanError: OpenSlide is not installed, or does not read the file.
    """
    if importlib.util.find_spec("openslide") is None:
        raise ScanError(NOT_INSTALLED)
    from openslide import OpenSlide, OpenSlideError

    try:
        return Scan(OpenSlide(path))
    except (OpenSlideError, OSError) as error:
        raise ScanError(f"expected a scan that OpenSlide reads, got: {error}") from error

"""Pictures larger than one field, cut into fields of the size that the network has learned.

Stitched areas, scans of slides and photographs through an eyepiece show many fields at once.
Squeezed as one field, their cells would be a few pixels wide. How large a field is in such a
picture its nuclei tell: at the right size they measure, on fields squeezed to 224x224, what
those of the training fields do. Who has a network hands in what tells the size of cells better
(`Scales`). A picture is cut only if at least `FEWEST` such fields fit in it, or if it has the
black round border of an eyepiece; any other one is a field as it is.
"""

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

import numpy as np
from PIL import Image
from scipy import ndimage

from mseenet.config import IMAGE_SIZE
from mseenet.imaging import formats
from mseenet.imaging.decoding import decode_image, squeeze
from mseenet.imaging.dicom import series_of
from mseenet.imaging.errors import ImageError
from mseenet.imaging.nuclei import FoundCells, find_cells, stain, unpacked
from mseenet.imaging.pixels import MAX_PIXELS
from mseenet.imaging.scans import SUFFIXES, open_scan
from mseenet.imaging.tiff import LARGEST_FILE
from mseenet.imaging.tiles import TiledPicture, most_pixels
from mseenet.imaging.transplant import separate

SMALLEST_AREA = 2_000_000
"""Pixels of the smallest picture that is looked at; four fields of 1024x768 have 3.1 million."""

ASPECT = 4 / 3
"""Width of a training field to its height, before it was squeezed."""

FEWEST = 3.0
"""So many fields, by their area, a picture has that is cut, unless it has a round border. Four
stitched fields come to 3 or more as nuclei are up to 15 % larger in some series than `NUCLEUS`."""

SHRUNK = 0.87
"""To this proportion of its width a field is reduced if another column fits by that."""

MOST_FIELDS = 200
"""Fields that are kept of one picture; of more, so many that lie evenly spread."""

MOST_LOOKED_AT = 400
"""Places of one picture that are searched for nucleated cells; of more, those with most stain."""

NUCLEUS = 420.0
"""Area of a nucleated cell, in pixels of 224, squared: the median of 11,733 cells in 986 fields
of the training and validation part of the random split (seed 0) is 419, those of series with 30
cells or more 249 to 532."""

ALIKE = 2.2
"""Cells of a field are counted for its size if their area is `NUCLEUS` up to this factor."""

STEP = 2**0.5
"""Between widths of fields that are tried; the best one is refined by the cells found there."""

NARROWEST = 96
"""Pixels of the narrowest field tried: a nucleus is 10 pixels wide then."""

WIDEST = 4096
"""Pixels of the widest one; cameras' fields are narrower."""

SAMPLES = 8
"""Places that are looked at for each width."""

FEWEST_CELLS, LEAST_COVERED = 8, 0.003
"""Cells of about the right area that show a width, and the proportion of the places that they
cover. On training fields 0.02 to 0.25 are covered, 0.04 in sparse ones."""

ONE_FIELD = 250.0
"""Median area of a cell, squared pixels of 224, from which on the whole picture is one field.
Where four fields of the training and validation part were squeezed to one, the largest median of
32 was 177."""

CLEARER = 1.5
"""So many times more than the whole picture as one field a narrower one has to be covered. For 32
areas of four fields it was 1.9 times and more; of the single fields tried two would have been cut
else."""

Scales = Callable[[list[np.ndarray]], list[float | None]]
"""Tells of squeezed fields, RGB uint8 (224, 224, 3), how many times larger their cells look than
those of the training fields; None where that cannot be told."""

SCALED = 16
"""Places of which `Scales` is asked at once; the size has to be told of more than half of them."""

SCALINGS, SAME_SCALE = 3, 1.02
"""So many times it is asked at most, and the factor below which the width is right."""

OVERVIEW = 1024
"""Longest side of the overview, in pixels."""

BLACK = 48
"""All of red, green and blue below this are the black around an eyepiece's circle."""

LEAST_BORDER, LEAST_LIT = 0.05, 0.1
"""Proportion of a picture that its black border has at least, and what it encloses."""

MARGIN = 0.02
"""What is left off inside the border, in proportion to the longer side: there it is dim."""


class AreaError(ImageError):
    """A picture is too large for one field, and cannot be cut into fields."""


class Place(NamedTuple):
    """Where a field lies in the picture that it was cut from, in pixels of the picture.

    Attributes:
        x: Of its left border, from the left.
        y: Of its upper border, from the top.
        width: Of the field.
        height: Of the field.
    """

    x: int
    y: int
    width: int
    height: int

    def __str__(self) -> str:
        return f"[x {self.x}, y {self.y}]"


class Picture(Protocol):
    """A picture of any size, of which regions are read."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, in pixels."""

    def read(self, place: Place, width: int | None = None) -> np.ndarray:
        """The pixels of a region.

        Args:
            place: Inside the picture.
            width: So wide the result is at least, unless the region is narrower; None for all
                pixels. It may be reduced in proportion where the picture has smaller copies.

        Returns:
            RGB, uint8 (h, w, 3) in [0, 255].

        Raises:
            ImageError: The region is damaged.
        """


class WholePicture:
    """A picture that is decoded as a whole."""

    def __init__(self, rgb: np.ndarray):
        self._rgb = rgb
        self.size = (rgb.shape[1], rgb.shape[0])

    def read(self, place: Place, width: int | None = None) -> np.ndarray:
        """See `Picture.read`; nothing is reduced."""
        x, y, columns, rows = place
        return self._rgb[y : y + rows, x : x + columns]


@dataclass(frozen=True, eq=False)
class Area:
    """A picture and the fields in it.

    Attributes:
        picture: As it was given.
        places: Of the fields that hold nucleated cells, in reading order; at least one.
        overview: The whole picture in small, RGB uint8 (h, w, 3), at most `OVERVIEW` long.
        without_cells: How many places hold no nucleated cell.
        over_limit: How many fields with nucleated cells are more than may be kept.
        unseen: How many places were not looked at, as they are more than `MOST_LOOKED_AT`.
        round_border: Whether the picture has a black border, inside of which it was cut.
    """

    picture: Picture
    places: tuple[Place, ...]
    overview: np.ndarray
    without_cells: int
    over_limit: int
    unseen: int
    round_border: bool

    def fields(self) -> Iterator[tuple[Place, np.ndarray]]:
        """Each place and the pixels there, RGB uint8 (h, w, 3), all that the picture has."""
        for place in self.places:
            yield place, self.picture.read(place)

    def described(self, most: int) -> str:
        """What became of the picture, in words.

        Args:
            most: Fields that might be kept.
        """
        width, height = self.places[0][2:]
        found = len(self.places) + self.over_limit
        parts = [
            f"larger than one field: cut into {_counted(found, 'field')} of {width} x {height} "
            "pixels with nucleated cells"
        ]
        if self.over_limit:
            parts.append(
                f"{self.over_limit:,} of these left out, as at most {most:,} are kept, evenly spread"
            )
        if self.without_cells:
            parts.append(f"{_counted(self.without_cells, 'place')} without them left out")
        if self.unseen:
            parts.append(
                f"{_counted(self.unseen, 'place')} not looked at, as at most {MOST_LOOKED_AT:,} "
                "with most stain are"
            )
        return "; ".join(parts)


def _counted(count: int, name: str) -> str:
    return f"{count:,} {name}{'s' * (count != 1)}"


def area_in(
    source: bytes | Path, most: int = MOST_FIELDS, scales: Scales | None = None
) -> Area | None:
    """Looks for the fields of an encoded picture.

    Args:
        source: The content of a file, of any kind, or its path. From a path scans of whole
            slides are read, too (`mseenet.imaging.scans`); of content beyond `MAX_PIXELS`
            pixels a tiled TIFF is (`mseenet.imaging.tiles`).
        most: As for `find_area`.
        scales: As for `find_area`.

    Returns:
        None if it is a field as it is, or cannot be decoded: why, `decode_image` says.

    Raises:
        ImageError: It is a scan of a slide, or a TIFF beyond `MAX_PIXELS`, that cannot be read
            or cut.
    """
    if isinstance(source, Path):
        if _is_scan(source):
            return find_area(open_scan(source), most, too_large=True, scales=scales)
    elif _is_large_tiff(source):
        return find_area(TiledPicture(source), most, too_large=True, scales=scales)
    if _pixels(source) < SMALLEST_AREA:
        return None
    try:
        return find_area(WholePicture(decode_image(source)), most, scales=scales)
    except ImageError:
        return None


def _is_scan(path: Path) -> bool:
    """Whether a file is named as a scan, is one in DICOM, or is a TIFF beyond `decode_image`."""
    if path.suffix.lower() in SUFFIXES or series_of(path) is not None:
        return True
    try:
        with path.open("rb") as stream:
            is_tiff = formats.identify(stream.read(formats.HEAD)) is formats.TIFF
        return is_tiff and (path.stat().st_size > LARGEST_FILE or _pixels(path) > MAX_PIXELS)
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return False


def _is_large_tiff(content: bytes) -> bool:
    """Whether content is a TIFF that has a page of too many pixels for `decode_image`."""
    if formats.identify(content[: formats.HEAD]) is not formats.TIFF:
        return False
    with contextlib.suppress(ImageError):  # what is damaged is named when it is decoded
        return most_pixels(content) > MAX_PIXELS
    return False


def _pixels(source: bytes | Path) -> int:
    """How many pixels a picture has by its header; 0 if that is not known."""
    # Whatever cannot be read is named when it is decoded.
    with contextlib.suppress(Exception), _opened(source) as stream:
        image_format = formats.identify(stream.read(formats.HEAD))
        if image_format is None:
            return 0
        stream.seek(0)
        if image_format is formats.HEIC:
            from pillow_heif import HeifImageFile

            width, height = HeifImageFile(stream).size
        else:
            try:
                with Image.open(stream, formats=image_format.pillow) as image:
                    width, height = image.size
            except Image.DecompressionBombError:  # beyond Pillow's limit, and ours
                return MAX_PIXELS + 1
        return width * height
    return 0


def _opened(source: bytes | Path) -> BinaryIO:
    return source.open("rb") if isinstance(source, Path) else io.BytesIO(source)


def find_area(
    picture: Picture,
    most: int = MOST_FIELDS,
    too_large: bool = False,
    scales: Scales | None = None,
) -> Area | None:
    """Looks for the fields of a picture that is larger than one.

    Args:
        picture: Of at least 1 x 1 pixel.
        most: Fields that are kept at most, 1 or more.
        too_large: Whether it is too large to be a field itself, so that None is no answer.
        scales: Tells the size of cells; without it, or where it can tell none, nuclei alone do.

    Returns:
        None if the picture is a field as it is.

    Raises:
        AreaError: It is too large to be one, and no size of its fields was found, or there is
            no nucleated cell.
        ImageError: A region is damaged.
    """
    overview = _overview(picture)
    lit = _inside_border(overview)
    width = _field_width(picture, overview, lit)
    if width is not None and scales is not None:
        width = _rescaled(picture, overview, lit, width, scales)
    if width is not None and lit is None and not too_large:
        width = width if np.prod(picture.size) >= FEWEST * width**2 / ASPECT else None
    places = None if width is None else _grid(picture.size, lit, _shrunk(width, picture.size[0]))
    if places is None or not len(places):
        if not too_large:
            return None
        raise AreaError(
            "expected nucleated cells, by whose size a picture of this size is cut into fields; "
            "found too few"
        )
    chosen = _most_stained(picture.size, overview, places, MOST_LOOKED_AT)
    holding = [place for place in chosen if _found_at(picture, place).cells.count]
    if not holding:
        if not too_large:
            return None
        raise AreaError("expected nucleated cells; found none in any field of this picture")
    kept = [holding[i] for i in _spread(len(holding), most)]
    return Area(
        picture=picture,
        places=tuple(kept),
        overview=overview,
        without_cells=len(chosen) - len(holding),
        over_limit=len(holding) - len(kept),
        unseen=len(places) - len(chosen),
        round_border=lit is not None,
    )


def _overview(picture: Picture) -> np.ndarray:
    width, height = picture.size
    factor = min(1.0, OVERVIEW / max(width, height))
    small = (max(1, round(width * factor)), max(1, round(height * factor)))
    image = Image.fromarray(picture.read(Place(0, 0, width, height), small[0]))
    if image.size != small:
        image = image.resize(small, Image.Resampling.BOX)
    return np.asarray(image)


def _inside_border(overview: np.ndarray) -> np.ndarray | None:
    """What a black round border encloses, bool (h, w); None if there is no such border.

    The circle may reach over the picture's edges: three corners are to be black.
    """
    pieces, _ = ndimage.label(overview.max(axis=2) < BLACK)
    corners = pieces[[0, 0, -1, -1], [0, -1, 0, -1]]
    if np.count_nonzero(corners) < 3:
        return None
    lit = ~np.isin(pieces, corners[corners > 0])
    numbers, count = ndimage.label(lit)
    if not count:
        return None
    lit = ndimage.binary_fill_holes(numbers == 1 + np.argmax(np.bincount(numbers.ravel())[1:]))
    if lit.mean() < LEAST_LIT or 1 - lit.mean() < LEAST_BORDER:
        return None
    # What lies beyond the picture's edges is not dark.
    distance = ndimage.distance_transform_edt(np.pad(lit, 1, mode="edge"))[1:-1, 1:-1]
    return distance > MARGIN * max(lit.shape)


def _field_width(picture: Picture, overview: np.ndarray, lit: np.ndarray | None) -> float | None:
    """How wide a field is, in pixels of the picture, by its nuclei; None if it has too few.

    Returns also None where the picture as a whole shows nuclei of the size of one field's.
    """
    width, height = picture.size
    rng = np.random.default_rng(0)
    best = (0.0, 0.0)  # proportion that is covered, width
    least = LEAST_COVERED
    candidate = float(min(width, height * ASPECT, WIDEST))
    whole = lit is None and width * height <= 2 * candidate * candidate / ASPECT
    while candidate >= NARROWEST:
        places = _grid(picture.size, lit, candidate)
        chosen = _drawn(picture.size, overview, places, rng)
        areas = _areas_at(picture, [Place(*place) for place in chosen.tolist()])
        if len(areas):
            median = float(np.median(areas))
            alike = areas[(areas > NUCLEUS / ALIKE) & (areas < NUCLEUS * ALIKE)]
            covered = alike.sum() / (len(chosen) * IMAGE_SIZE**2)
            if whole and median >= ONE_FIELD and covered >= LEAST_COVERED and len(alike) > 1:
                return None
            if len(alike) >= FEWEST_CELLS and covered > max(best[0], least):
                best = (covered, candidate * (median / NUCLEUS) ** 0.5)
            elif covered < best[0] / 2:
                break  # past the right width: nuclei only get larger from here on
            if whole:
                least = max(least, CLEARER * covered)
        whole = False
        candidate /= STEP
    return best[1] or None


def _rescaled(
    picture: Picture, overview: np.ndarray, lit: np.ndarray | None, width: float, scales: Scales
) -> float:
    """The width of fields in which cells look as large as in the training fields."""
    widest = float(min(picture.size[0], picture.size[1] * ASPECT, WIDEST))
    for _ in range(SCALINGS):
        places = _grid(picture.size, lit, width)
        chosen = _most_stained(picture.size, overview, places, SCALED)
        fields = [squeeze(picture.read(place, 2 * IMAGE_SIZE)) for place in chosen]
        told = [scale for scale in scales(fields) if scale is not None]
        if 2 * len(told) <= len(fields):
            return width
        factor = float(np.exp(np.median(np.log(told))))
        width = min(max(width * factor, NARROWEST), widest)
        if max(factor, 1 / factor) < SAME_SCALE:
            break
    return width


def _areas_at(picture: Picture, places: list[Place]) -> np.ndarray:
    """Areas of the cells at some places, touching ones divided, in pixels of 224, squared."""
    areas = [np.zeros(0, int)]
    for place in places:
        found = _found_at(picture, place)
        areas.append(np.bincount(separate(unpacked(found.packed)).ravel())[1:])
    return np.concatenate(areas)


def _found_at(picture: Picture, place: Place) -> FoundCells:
    return find_cells(squeeze(picture.read(place, 2 * IMAGE_SIZE)))


def _shrunk(width: float, whole: int) -> float:
    """The width of a field, reduced if another column fits by little."""
    narrower = whole / (whole // width + 1)
    return narrower if narrower >= SHRUNK * width else width


def _grid(size: tuple[int, int], lit: np.ndarray | None, width: float) -> np.ndarray:
    """Places of fields that do not overlap, in reading order, int (N, 4) as `Place`.

    In the middle of the picture or, inside a border, where most of them fit.
    """
    columns, rows = max(1, int(width)), max(1, int(width / ASPECT))
    across, down = size[0] // columns, size[1] // rows
    spare = (size[0] - across * columns, size[1] - down * rows)
    if lit is None:
        return _at(spare[0] // 2, spare[1] // 2, columns, rows, across, down)
    sums = np.pad(np.cumsum(np.cumsum(~lit, 0), 1), ((1, 0), (1, 0)))
    best = np.zeros((0, 4), int)
    for top in np.linspace(0, rows, 8, endpoint=False).astype(int):
        for left in np.linspace(0, columns, 8, endpoint=False).astype(int):
            counts = ((size[0] - left) // columns, (size[1] - top) // rows)
            places = _at(left, top, columns, rows, *counts)
            x0, y0, x1, y1 = _in_overview(size, lit.shape, places)
            dark = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
            if np.count_nonzero(dark == 0) > len(best):
                best = places[dark == 0]
    return best


def _at(left: int, top: int, columns: int, rows: int, across: int, down: int) -> np.ndarray:
    y, x = (values.ravel() for values in np.mgrid[:down, :across])
    sides = np.ones_like(x)
    return np.stack([left + x * columns, top + y * rows, sides * columns, sides * rows], axis=1)


def _in_overview(size: tuple[int, int], shape: tuple[int, ...], places: np.ndarray) -> np.ndarray:
    """Left, top, right and bottom of places, in pixels of the overview, int (4, N).

    At least one pixel; what is only touched belongs to a place, too.
    """
    scale = np.array([shape[1] / size[0], shape[0] / size[1]])
    first = np.floor(places[:, :2] * scale).astype(int)
    first = np.minimum(first, np.array([shape[1], shape[0]]) - 1)
    last = np.ceil((places[:, :2] + places[:, 2:]) * scale).astype(int)
    last = np.clip(last, first + 1, [shape[1], shape[0]])
    return np.concatenate([first, last], axis=1).T


def _stain_of(size: tuple[int, int], overview: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Mean stain of nuclei at each place, by the overview, float64 (N,), 0 or more."""
    sums = np.cumsum(np.cumsum(np.maximum(stain(overview), 0), 0, np.float64), 1)
    sums = np.pad(sums, ((1, 0), (1, 0)))
    x0, y0, x1, y1 = _in_overview(size, overview.shape, places)
    total = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
    return np.maximum(total, 0) / ((x1 - x0) * (y1 - y0))


def _drawn(
    size: tuple[int, int], overview: np.ndarray, places: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Some of the places, those with much stain rather than empty ones."""
    if len(places) <= SAMPLES:
        return places
    weights = _stain_of(size, overview, places) + 1e-6
    return places[rng.choice(len(places), SAMPLES, replace=False, p=weights / weights.sum())]


def _most_stained(
    size: tuple[int, int], overview: np.ndarray, places: np.ndarray, most: int
) -> list[Place]:
    """The places to look at, in reading order."""
    if len(places) > most:
        order = np.argsort(-_stain_of(size, overview, places), kind="stable")
        places = places[np.sort(order[:most])]
    return [Place(*place) for place in places.tolist()]


def _spread(count: int, most: int) -> list[int]:
    """At most `most` of so many numbers, from 0 on, evenly spread."""
    if count <= most:
        return list(range(count))
    return ((np.arange(most) + 0.5) * count / most).astype(int).tolist()

"""A case: fields as they were handed over, in memory only, and what became of each."""

import hashlib
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from PIL import Image

from mseenet.case.archive import ArchiveError, is_archive, named, open_archive
from mseenet.case.limits import MEGABYTE, Limits, Room, Share
from mseenet.case.names import look_of, placed_name, unique_name
from mseenet.case.pictures import encoded
from mseenet.case.slides import slide_of
from mseenet.case.verdicts import Verdict
from mseenet.config import IMAGE_SIZE
from mseenet.imaging.areas import MOST_FIELDS, Area, Place, Scales, area_in
from mseenet.imaging.cells import Cell, largest_evidence, measured
from mseenet.imaging.decoding import ImageError, decode_image, squeeze
from mseenet.imaging.formats import HEAD, is_image
from mseenet.imaging.scans import one_of_several
from mseenet.imaging.transplant import separate
from mseenet.inference.classifier import NOT_FINITE, Prediction
from mseenet.inference.heatmaps import COLOR_MAPS

OPACITY = 0.85
"""Of heatmaps until the user changes it: what is half as strong as it gets is still seen."""

LARGEST_SIDE = 1024
"""Fields are shown at most this large, in pixels; the network has its own copy."""

THUMBNAIL = 200
"""Side of the thumbnails in table and gallery, in pixels."""

OVERVIEW = 480
"""Longest side of the overview of a picture that fields were cut from, in pixels."""

LOOK = 32
"""Side of what fields are compared by, in pixels."""

NAMED_AT_MOST = 5
"""So many files of one kind are named in a message; the others are counted."""

NOT_AN_IMAGE = "not an image"
SEVERAL_FILES = (
    "expected a picture in one file, got {kind}; scans of whole slides in several files are read by "
    "`mseenet predict PATH`, with the extra `slides`"
)
HIDDEN = "hidden by a name that begins with a dot"
REPEATED = "as the case already holds the same content"
COPY = "another file of the same field, left out on request"
EXAMPLES_KEPT_OUT = (
    "The synthetic examples were not added: they would count among the fields of this case. "
    "Begin a new case to try them."
)
EXAMPLES_DROPPED = "The synthetic examples were removed, so that they do not count in this case."


class Origin(NamedTuple):
    """A name from an archive that does not say how its names are encoded.

    Attributes:
        archive: The archive's name.
        raw: The name's bytes inside it.
    """

    archive: str
    raw: bytes

    def name_in(self, encoding: str) -> str:
        """The name, with the archive's in front."""
        return f"{self.archive}/{named(self.raw, encoding)}"


class Source(NamedTuple):
    """What gave an answer.

    Attributes:
        release: See `Card.release`, in hex.
        weights: SHA-256 of the weights file, in hex.
        version: Of mseenet.
        profile: Name and identity of the site profile that was used (`SiteProfile.title`); None
            without, and in cases that were saved before it was noted.
    """

    release: str
    weights: str
    version: str
    profile: str | None = None

    @property
    def title(self) -> str:
        """The release, as texts name it."""
        return f"{self.release} with site profile {self.profile}" if self.profile else self.release


class Earlier(NamedTuple):
    """An answer that was analysed again.

    Attributes:
        source: What gave it.
        prediction: The answer, without heatmap and `nuclei`.
    """

    source: Source
    prediction: Prediction


@dataclass(eq=False)
class Original:
    """A picture larger than one field, which fields of the case were cut from.

    Attributes:
        key: SHA-256 of its content, in hex; the content itself is not kept.
        name: File name, for display only.
        size: Width and height, in pixels.
        overview: The whole picture in small, as JPEG.
    """

    key: str
    name: str
    size: tuple[int, int]
    overview: bytes


@dataclass
class LeftOut:
    """A file that did not become a field of its own.

    Attributes:
        name: As the user knows it.
        reason: In words, the same for all files of one kind.
        expected: Whether that is in order, such as for a repeated file; else it is a problem.
        origin: Where the name comes from if its encoding is a guess.
    """

    name: str
    reason: str
    expected: bool = False
    origin: Origin | None = None


@dataclass(eq=False)
class Field:
    """One field of the case.

    Attributes:
        key: SHA-256 of the content, in hex; equal content is one field.
        name: File name, for display only; no other field of the case has one that looks so.
        content: Encoded bytes, as they came; empty once it is known that they cannot be read.
        size: Of the content as it came, in bytes.
        synthetic: Whether this project rendered it.
        repeats: Names under which the same content came again.
        prediction: With the heatmap of the predicted class; None while it waits.
        include_rejected: Whether the user asked for the network's output although it is
            rejected.
        origin: Where the name comes from if its encoding is a guess.
        verdict: What the reader says of it, if anything yet.
        draft: A comment that was written before there is a verdict.
        seen: Whether the network's answer to it has been shown.
        recorded: What gave the answer if it was opened from a saved case; None if it was
            given here.
        earlier: The answer of the saved case after the field was analysed again.
        slide: Name of the slide that it is of, if that is known.
        slide_by_hand: Whether the user has said so, so that names do not change it.
        original: The picture that it was cut from, if it was.
        place: Where it lies in that picture; None without one.
    """

    key: str
    name: str
    content: bytes
    synthetic: bool = False
    repeats: list[str] = field(default_factory=list)
    prediction: Prediction | None = None
    include_rejected: bool = False
    origin: Origin | None = None
    verdict: Verdict | None = None
    draft: str = ""
    seen: bool = False
    recorded: Source | None = None
    earlier: Earlier | None = None
    slide: str | None = None
    slide_by_hand: bool = False
    size: int = -1
    original: Original | None = None
    place: Place | None = None

    def __post_init__(self) -> None:
        if self.size < 0:
            self.size = len(self.content)

    @property
    def file(self) -> str:
        """Name of the file that it came in."""
        return self.original.name if self.original else self.name

    @property
    def cut(self) -> tuple[str, Place] | None:
        """Name of the larger picture that it was cut from, and where it lies there."""
        return (self.original.name, self.place) if self.original and self.place else None

    @property
    def content_name(self) -> str:
        """A name for a file of `content`."""
        return f"{self.name}.png" if self.cut else self.name

    def slide_by(self, pattern: str) -> str | None:
        """The slide by folders or a pattern (`slides.slide_of`); one picture's fields are of one.

        Raises:
            PatternError: The pattern cannot be used.
        """
        return slide_of(self.file, pattern, cut=self.original is not None)

    @property
    def result(self) -> Prediction:
        """The prediction of a field that does not wait, one of `Case.done`.

        Raises:
            RuntimeError: It waits.
        """
        if self.prediction is None:
            raise RuntimeError("expected an analysed field; received one that waits")
        return self.prediction

    @property
    def readable(self) -> bool:
        """Whether there is an image to look at."""
        return self.prediction is not None and self.prediction.status != "error"

    def pixels(self) -> np.ndarray:
        """What is shown: RGB uint8 (H, W, 3) in [0, 255] in the field's own shape.

        Made anew from `content`, as those of 200 fields would fill half a gigabyte.

        Raises:
            ImageError: The field is not readable.
        """
        image = Image.fromarray(decode_image(self.content))
        image.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.BILINEAR)
        return np.asarray(image)

    @cached_property
    def picture(self) -> bytes:
        """`pixels` as JPEG."""
        return encoded(Image.fromarray(self.pixels()), "JPEG", quality=88)

    @cached_property
    def thumbnail(self) -> bytes:
        """A small `picture`."""
        image = Image.fromarray(self.pixels())
        image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR)
        return encoded(image, "JPEG", quality=85)

    @cached_property
    def look(self) -> np.ndarray:
        """The field in small, by which copies of it are known: RGB uint8 (32, 32, 3)."""
        small = Image.fromarray(squeeze(decode_image(self.content)))
        return np.asarray(small.resize((LOOK, LOOK), Image.Resampling.BOX))

    @property
    def nuclei(self) -> np.ndarray:
        """Where nucleated cells lie in what the network sees, bool (224, 224)."""
        mask = self.result.nucleus_mask()
        return np.zeros((IMAGE_SIZE, IMAGE_SIZE), bool) if mask is None else mask

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """The nucleated cells, touching ones divided, the most decisive first."""
        return measured(separate(self.nuclei), self._heat)

    @cached_property
    def largest_evidence(self) -> float:
        """No cell has more evidence than this; far sooner known than `cells`."""
        return largest_evidence(self.nuclei, self._heat)

    @property
    def _heat(self) -> np.ndarray:
        heatmap = self.result.heatmap
        return np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.float32) if heatmap is None else heatmap


@dataclass(eq=False)
class Case:
    """All that was put in, and what became of it.

    Attributes:
        limits: What it may hold at most.
        room: What all cases of the server share; without limit for a case of its own.
        fields: By key, in the order in which they came.
        left_out: Files that did not become fields, of all intakes.
        problems: What of the latest intake could not be taken in, in words.
        notices: What of the latest intake was left out in order, and why, in words.
        encodings: For each archive with names of unstated encoding how they are read, a key of
            `archive.ENCODINGS`.
        label: What the user calls it.
        opacity: Of the heatmaps, in [0, 1], where they are shown and in exports.
        color_map: Of the heatmaps, one of `heatmaps.COLOR_MAPS`.
        reader: Who gives the verdicts, as the reader wrote it; may be empty.
        slide_pattern: By which names tell the slide (`slides.slide_by_pattern`); empty where
            folders do.
    """

    limits: Limits = field(default_factory=Limits)
    room: Room = field(default_factory=Room)
    fields: dict[str, Field] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    encodings: dict[str, str] = field(default_factory=dict)
    label: str = ""
    opacity: float = OPACITY
    color_map: str = COLOR_MAPS[0]
    reader: str = ""
    slide_pattern: str = ""
    _looks: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self._share = Share(self.room)
        weakref.finalize(self, self._share.end)

    def take_in(
        self,
        files: Iterable[tuple[str, bytes]],
        left_out: Iterable[LeftOut] = (),
        synthetic: bool = False,
        scales: Scales | None = None,
    ) -> None:
        """Takes in all of one intake and says what became of it.

        Args:
            files: Names and contents; a ZIP archive gives every image in it.
            left_out: What was left out on the way here already.
            synthetic: Whether this project rendered them. A case holds either such examples
                or fields of a user, so that examples count in no result.
            scales: By which a picture larger than one field is cut (`areas.find_area`).
        """
        self.problems, self.notices = [], []
        known, fields_before = len(self.left_out), len(self.fields)
        if synthetic and any(not field.synthetic for field in self.fields.values()):
            self.notices.append(EXAMPLES_KEPT_OUT)
            return
        self.left_out += left_out
        for name, content in files:
            self._add(name, content, synthetic, scales)
        new = self.left_out[known:]
        if repeated := [item.name for item in new if item.reason == REPEATED]:
            added = counted_files(len(self.fields) - fields_before)
            self.notices.append(f"{added} added. {_message(REPEATED, repeated)}")
        for reason in (NOT_AN_IMAGE, HIDDEN):
            if others := [item.name for item in new if item.reason == reason]:
                self.notices.append(_message(reason, others))
        if not synthetic and any(not field.synthetic for field in self.fields.values()):
            examples = [field.key for field in self.fields.values() if field.synthetic]
            for key in examples:
                self.remove(key)
            if examples:
                self.notices.append(EXAMPLES_DROPPED)
        self.problems = problems_of(new)

    @property
    def size(self) -> int:
        """Of all images together, in bytes, as far as they are kept."""
        return self._share.size

    def waiting(self) -> list[Field]:
        """Fields without a prediction."""
        return [f for f in self.fields.values() if f.prediction is None]

    def done(self) -> list[Field]:
        """Fields with a prediction; all of them have a `result`."""
        return [f for f in self.fields.values() if f.prediction is not None]

    def remove(self, key: str) -> None:
        """Forgets a field, if it is there."""
        field = self.fields.pop(key, None)
        if field is not None:
            self._share.give_back(len(field.content))
            self._looks.discard(look_of(field.name))

    def end(self) -> None:
        """Forgets all fields, and gives what they took back to the server at once."""
        self.fields = {}
        self._share.end()

    def settle(self, field: Field, prediction: Prediction) -> None:
        """Notes what was found of a field; what cannot be read is not kept.

        Its name, size, hash and the error stay.
        """
        field.prediction = prediction
        if prediction.status == "error" and prediction.reasons != (NOT_FINITE,):
            dropped, field.content = len(field.content), b""
            if self.fields.get(field.key) is field:  # else it was given back with the field
                self._share.give_back(dropped)

    def put_back(self, fields: Iterable[Field]) -> list[LeftOut]:
        """Takes fields of a saved case, which were counted against its own limits when read.

        Returns:
            Those for which the server has no room.
        """
        refused = []
        for restored in fields:
            if restored.prediction is not None:
                self.settle(restored, restored.prediction)
            if not self._share.take(len(restored.content)):
                refused.append(LeftOut(restored.name, server_full(self.room)))
                continue
            self.fields[restored.key] = restored
            slide = restored.slide
            self._name(restored, restored.name)
            restored.slide = slide
        return refused

    def analyse_again(self, release: str) -> None:
        """Lets the fields wait whose answers another release than `release` has recorded.

        Those answers are kept as `Field.earlier`.
        """
        for recorded in self.fields.values():
            source = recorded.recorded
            kept = recorded.readable or recorded.content  # else there is nothing to analyse
            if source and source.release != release and recorded.prediction and kept:
                answer = replace(recorded.prediction, heatmap=None, nuclei=None)
                recorded.earlier = Earlier(source, answer)
                recorded.prediction = recorded.recorded = None
                for known in ("cells", "largest_evidence"):  # of that answer
                    vars(recorded).pop(known, None)

    def name_slides(self, pattern: str) -> None:
        """Tells the slides of all fields by their names, but for those that were told by hand.

        Args:
            pattern: As for `slides.slide_by_pattern`; empty to go by folders.

        Raises:
            PatternError: The pattern cannot be used; nothing is changed.
        """
        slide_of("", pattern)
        slides = {f.key: f.slide_by(pattern) for f in self.fields.values()}
        self.slide_pattern = pattern
        for named_field in self.fields.values():
            if not named_field.slide_by_hand:
                named_field.slide = slides[named_field.key]

    def put_on_slide(self, keys: Iterable[str], slide: str | None) -> None:
        """Says by hand which slide fields are of.

        Args:
            keys: Of the fields; those that are not there are passed over.
            slide: Its name; None to go by names again.
        """
        for key in keys:
            if (told := self.fields.get(key)) is not None:
                told.slide_by_hand = slide is not None
                told.slide = slide or told.slide_by(self.slide_pattern)

    def leave_out_copy(self, key: str) -> None:
        """Forgets a field that another one shows too, and notes so for the exports."""
        if key in self.fields:
            field = self.fields[key]
            self.left_out.append(LeftOut(field.name, COPY, expected=True, origin=field.origin))
            self.remove(key)

    def read_names_in(self, archive: str, encoding: str) -> None:
        """Reads an archive's names of unstated encoding anew.

        Args:
            archive: One of `encodings`.
            encoding: A key of `archive.ENCODINGS`.
        """
        self.encodings[archive] = encoding
        renamed = [
            (field, field.origin)
            for field in self.fields.values()
            if field.origin is not None and field.origin.archive == archive
        ]
        self._looks.difference_update([look_of(field.name) for field, _ in renamed])
        for renamed_field, origin in renamed:
            name = origin.name_in(encoding)
            if renamed_field.original and renamed_field.place:
                renamed_field.original.name = name
                name = placed_name(name, renamed_field.place)
            self._name(renamed_field, name)
        for left_out in self.left_out:
            if left_out.origin is not None and left_out.origin.archive == archive:
                left_out.name = left_out.origin.name_in(encoding)

    def _add(self, name: str, content: bytes, synthetic: bool, scales: Scales | None) -> None:
        if is_archive(name, content):
            self._add_archive(name, content, scales)
        elif len(content) > self.limits.file:
            self.left_out.append(LeftOut(name, too_large(self.limits)))
        else:
            self._add_field(name, content, scales, synthetic)

    def _add_field(
        self,
        name: str,
        content: bytes,
        scales: Scales | None,
        synthetic: bool = False,
        origin: Origin | None = None,
    ) -> str | None:
        """Takes in a file; returns why there was no room for all of it, or None if there was."""
        key = hashlib.sha256(content).hexdigest()
        if key in self.fields:
            self.fields[key].repeats.append(name)
            self.left_out.append(LeftOut(name, REPEATED, expected=True, origin=origin))
            return None
        if any(f.original is not None and f.original.key == key for f in self.fields.values()):
            self.left_out.append(LeftOut(name, REPEATED, expected=True, origin=origin))
            return None
        added = Field(key, name, content, synthetic, origin=origin)
        if error := _unreadable(name, content):
            self.settle(added, error)
        elif self._has_room(0):
            try:
                area = area_in(content, self._room_for_fields(), scales)
            except ImageError as error:
                self.settle(added, Prediction("error", reasons=(str(error),)))
            else:
                if area is not None:
                    original = Original(key, name, area.picture.size, _overview(area))
                    return self._add_cuts(area, original, origin)
        return self._put(added)

    def _add_cuts(self, area: Area, original: Original, origin: Origin | None) -> str | None:
        """Takes in the fields of a picture that is larger than one; returns as `_add_field`."""
        full = None
        self.notices.append(f"{original.name}: {area.described(self._room_for_fields())}.")
        for place in area.places:
            name = placed_name(original.name, place)
            try:
                rgb = area.picture.read(place)
            except ImageError as error:  # of one place: the others may be whole
                self.left_out.append(LeftOut(name, str(error), origin=origin))
                continue
            content = encoded(Image.fromarray(rgb), "PNG", compress_level=1)
            key = hashlib.sha256(content).hexdigest()
            if key in self.fields:  # such as a copy of the picture with other metadata
                self.left_out.append(LeftOut(name, REPEATED, expected=True, origin=origin))
            else:
                cut = Field(key, name, content, origin=origin, original=original, place=place)
                full = self._put(cut) or full
        return full

    def _room_for_fields(self) -> int:
        return max(1, min(MOST_FIELDS, self.limits.fields - len(self.fields)))

    def _put(self, added: Field) -> str | None:
        """Takes in a field if there is room for it; returns why there is none, or None."""
        full = None
        if not self._has_room(len(added.content)):
            full = no_room(self.limits)
        elif not self._share.take(len(added.content)):
            full = server_full(self.room)
        if full is not None:
            self.left_out.append(LeftOut(added.name, full, origin=added.origin))
            return full
        self.fields[added.key] = added
        self._name(added, added.name)
        return None

    def _name(self, field: Field, name: str) -> None:
        field.name = unique_name(name, self._looks)
        self._looks.add(look_of(field.name))
        if not field.slide_by_hand:
            field.slide = field.slide_by(self.slide_pattern)

    def _has_room(self, size: int) -> bool:
        return len(self.fields) < self.limits.fields and self.size + size <= self.limits.case

    def _add_archive(self, name: str, content: bytes, scales: Scales | None) -> None:
        try:
            contents = open_archive(content)
        except ArchiveError as error:
            self.left_out.append(LeftOut(name, str(error)))
            return
        if contents.encoding is not None:
            looks = {look_of(archive) for archive in self.encodings}
            name = unique_name(name, looks)
            self.encodings[name] = contents.encoding
        for entry in contents.others:
            origin = None if entry.raw is None else Origin(name, entry.raw)
            path = f"{name}/{entry.name}"
            self.left_out.append(LeftOut(path, NOT_AN_IMAGE, expected=True, origin=origin))
        for hidden in contents.hidden:
            self.left_out.append(LeftOut(f"{name}/{hidden}", HIDDEN, expected=True))
        full = None  # why there is no more room
        for entry in contents.images:
            path = f"{name}/{entry.name}"
            origin = None if entry.raw is None else Origin(name, entry.raw)
            if full is not None:  # nothing more is unpacked
                self.left_out.append(LeftOut(path, full, origin=origin))
                continue
            try:
                data = entry.read(self.limits.file + 1)
            except ArchiveError as error:
                self.left_out.append(LeftOut(path, str(error), origin=origin))
                continue
            if len(data) > self.limits.file:
                self.left_out.append(LeftOut(path, too_large(self.limits), origin=origin))
                continue
            full = self._add_field(path, data, scales, origin=origin)


def by_doubt(fields: Iterable[Field]) -> list[Field]:
    """Analysed fields, those that need a person most first."""
    order = ("review", "rejected", "error", "ok")

    def doubt(field: Field) -> tuple[int, float, float]:
        result = field.result
        return order.index(result.status), result.confidence or 0.0, -(result.novelty or 0.0)

    return sorted(fields, key=doubt)


def problems_of(left_out: Iterable[LeftOut]) -> list[str]:
    """One message for each kind of problem: counted, and the first few named."""
    names: dict[str, list[str]] = {}
    for item in left_out:
        if not item.expected:
            names.setdefault(item.reason, []).append(item.name)
    return [
        f"{of_kind[0]}: {reason}"
        if len(of_kind) == 1
        else f"{counted_files(len(of_kind))}: {reason}: {some_of(of_kind)}"
        for reason, of_kind in names.items()
    ]


def _overview(area: Area) -> bytes:
    image = Image.fromarray(area.overview)
    image.thumbnail((OVERVIEW, OVERVIEW), Image.Resampling.BOX)
    return encoded(image, "JPEG", quality=85)


def too_large(limits: Limits) -> str:
    """What is said of a file over the limit."""
    return f"expected at most {limits.file // MEGABYTE:,} MB"


def no_room(limits: Limits) -> str:
    """What is said of a file that a full case does not take."""
    return f"expected a case of at most {limits.fields:,} fields and {limits.case // MEGABYTE:,} MB"


def server_full(room: Room) -> str:
    """What is said of a file for which all cases of the server leave no room."""
    return (
        f"this server is full: all cases on it together may take {(room.most or 0) // MEGABYTE:,} MB; "
        "try again when others have closed theirs, nothing on this page is lost"
    )


def _unreadable(name: str, content: bytes) -> Prediction | None:
    """What is said of content that is no image, or only a part of one; None if it may be one."""
    if (kind := one_of_several(name, content)) is not None:
        return Prediction("error", reasons=(SEVERAL_FILES.format(kind=kind),))
    if is_image(content[:HEAD]):
        return None
    try:
        decode_image(content)
    except ImageError as error:
        return Prediction("error", reasons=(str(error),))
    return None


def counted_files(count: int) -> str:
    """A number of files, in words."""
    return "1 file" if count == 1 else f"{count:,} files"


def some_of(names: list[str]) -> str:
    """The first of many names."""
    return ", ".join(names[:NAMED_AT_MOST]) + (", ..." if len(names) > NAMED_AT_MOST else "")


def _message(reason: str, names: list[str]) -> str:
    return f"{counted_files(len(names))} left out, {reason}: {some_of(names)}"

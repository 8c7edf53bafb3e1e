"""A case: fields as they were handed over, in memory only, and what became of each."""

import hashlib
import io
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath

import numpy as np
from PIL import Image

from mseenet.case import words
from mseenet.case.bundle import MAGIC, BundleError, unpack
from mseenet.case.export import encoded
from mseenet.imaging.decoding import SUFFIXES, decode_image, squeeze
from mseenet.imaging.nuclei import nucleus_mask
from mseenet.inference.classifier import Prediction
from mseenet.inference.heatmaps import COLOR_MAPS

OPACITY = 0.85
"""Of heatmaps until the user changes it: what is half as strong as it gets is still seen."""

LARGEST_SIDE = 1024
"""Fields are shown at most this large, in pixels; the network has its own copy."""

THUMBNAIL = 200
"""Side of the thumbnails in table and gallery, in pixels."""

MOST_MEMBERS, LARGEST_MEMBER, LARGEST_CASE = 2000, 50 * 2**20, 2**30
"""Of a ZIP archive: more files, a larger one unpacked, or what makes the case larger (bytes),
are refused, so that small archives cannot fill the memory."""


@dataclass(eq=False)
class Field:
    """One field of the case.

    Attributes:
        key: SHA-256 of the content, in hex; equal content is one field.
        name: File name, for display only.
        content: Encoded bytes, as they came.
        synthetic: Whether this project rendered it.
        repeats: Names under which the same content came again.
        prediction: With the heatmap of the predicted class; None while it waits.
        anyway: Whether the user asked for the network's output although it is rejected.
    """

    key: str
    name: str
    content: bytes
    synthetic: bool = False
    repeats: list[str] = field(default_factory=list)
    prediction: Prediction | None = None
    include_rejected: bool = False

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
    def nuclei(self) -> np.ndarray:
        """Where nucleated cells lie in what the network sees, bool (224, 224)."""
        return nucleus_mask(squeeze(decode_image(self.content)))


@dataclass(eq=False)
class Case:
    """What one session has put in, and what became of it.

    Attributes:
        fields: By key, in the order in which they came.
        problems: What of the latest intake could not be taken in, in words.
        notices: What of the latest intake was left out, and why, in words.
        paused: Whether the user has stopped the analysis.
        listed: Whether the fields have been on the page, one by one, beside their summary.
        selected: Key of the field that the user chose to look at.
        steps: How often the list had to be turned to the selected field; names its widgets.
        label: What the user calls it.
        opacity: Of the heatmaps, in [0, 1], on the page and in what is taken away.
        color_map: Of the heatmaps, one of `explain.COLOR_MAPS`.
        intakes: How often something was taken in; names the next uploader, which starts empty.
        largest_upload: Largest file that the browser sends, in MB; named where one was left out.
    """

    fields: dict[str, Field] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    paused: bool = False
    listed: bool = False
    selected: str | None = None
    steps: int = 0
    label: str = ""
    opacity: float = OPACITY
    color_map: str = COLOR_MAPS[0]
    intakes: int = 0
    largest_upload: int = 200

    def take_in(self, files: Iterable[tuple[str, bytes]], synthetic: bool = False) -> None:
        """Takes in all of one intake, names and contents, and says what became of it."""
        self.problems, self.notices = [], []
        known = {key: len(field.repeats) for key, field in self.fields.items()}
        for name, content in files:
            self.add(name, content, synthetic)
        repeated = [
            name
            for key, field in self.fields.items()
            for name in field.repeats[known.get(key, 0) :]
        ]
        if repeated:
            new = len(self.fields) - len(known)
            self.notices.append(
                f"{_files(new)} added. {_files(len(repeated))} left out, as the case already "
                f"holds the same content: {_some(repeated)}"
            )
        self.intakes += 1
        self.paused = False

    def add(self, name: str, content: bytes, synthetic: bool = False) -> None:
        """Takes in an image, or every image in a ZIP archive or a bundle; a repeated one once."""
        if content.startswith(MAGIC):
            self._add_bundle(name, content)
            return
        if content[:4] == b"PK\x03\x04" and not name.lower().endswith(SUFFIXES):
            self._add_archive(name, content)
            return
        key = hashlib.sha256(content).hexdigest()
        if key in self.fields:
            self.fields[key].repeats.append(name)
        else:
            self.fields[key] = Field(key, name, content, synthetic)

    def waiting(self) -> list[Field]:
        """Fields without a prediction."""
        return [f for f in self.fields.values() if f.prediction is None]

    def done(self) -> list[Field]:
        """Fields with a prediction."""
        return [f for f in self.fields.values() if f.prediction is not None]

    def shown(self, listed: list[Field]) -> Field:
        """The field to look at: the user's choice, else the first of those listed."""
        return next((field for field in listed if field.key == self.selected), listed[0])

    def step_to(self, key: str) -> None:
        """Selects a field and turns the list to it."""
        self.selected = key
        self.steps += 1

    def remove(self, key: str) -> None:
        """Forgets a field."""
        self.fields.pop(key, None)  # a double click calls this twice
        if self.selected == key:
            self.selected = None

    def _add_archive(self, name: str, content: bytes) -> None:
        try:
            archive = zipfile.ZipFile(io.BytesIO(content))
        except Exception as error:  # zipfile raises anything on damaged directories
            self.problems.append(f"{name}: {words.ARCHIVE_NOT_READ} ({error})")
            return
        members, others = [], []
        for info in archive.infolist():
            # A damaged directory may hold an empty name, at which `is_dir` fails.
            if info.filename and not (info.is_dir() or _is_hidden(info.filename)):
                is_image = info.filename.lower().endswith(SUFFIXES)
                (members if is_image else others).append(info)
        if not 0 < len(members) <= MOST_MEMBERS:
            self.problems.append(
                f"{name}: expected 1 to {MOST_MEMBERS} images in the archive, found {len(members)}"
            )
            return
        self._notice_others([info.filename for info in others], f"{name}: ")
        size = sum(len(field.content) for field in self.fields.values())
        for i, info in enumerate(members):
            path = f"{name}/{info.filename}"
            try:
                with archive.open(info) as stream:
                    data = stream.read(LARGEST_MEMBER + 1)
            except Exception as error:  # so do the decompressors on damaged data
                self.problems.append(f"{path}: {words.ARCHIVE_NOT_READ} ({error})")
                continue
            if len(data) > LARGEST_MEMBER:
                limit = LARGEST_MEMBER // 2**20
                self.problems.append(f"{path}: expected at most {limit} MB")
                continue
            size += len(data)
            if size > LARGEST_CASE:
                limit = LARGEST_CASE // 2**20
                left_out = _files(len(members) - i)
                self.problems.append(
                    f"{name}: expected a case of at most {limit} MB; {left_out} from {path} on left out"
                )
                return
            self.add(path, data)

    def _add_bundle(self, name: str, content: bytes) -> None:
        try:
            members = list(unpack(content))
        except BundleError as error:
            self.problems.append(f"{name}: {error}")
            return
        others = []
        for member in members:
            if "/" in member.name and _is_hidden(member.name):
                continue
            if member.left_out == "size":
                self.problems.append(f"{member.name}: expected at most {self.largest_upload} MB")
            elif member.left_out == "unreadable":
                self.problems.append(f"{member.name}: the browser could not read this file")
            elif member.left_out:
                others.append(member.name)
            else:
                self.add(member.name, member.content)
        self._notice_others(others)

    def _notice_others(self, names: list[str], where: str = "") -> None:
        if names:
            left_out = f"{_files(len(names))} left out, not named as an image"
            self.notices.append(f"{where}{left_out}: {_some(names)}")


def by_doubt(fields: Iterable[Field]) -> list[Field]:
    """The fields that need a person most come first."""
    order = ("review", "rejected", "error", "ok")
    return sorted(
        fields,
        key=lambda f: (
            order.index(f.prediction.status),
            f.prediction.confidence or 0.0,
            -(f.prediction.novelty or 0.0),
        ),
    )


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _is_hidden(name: str) -> bool:
    """Whether operating systems put it beside a user's files."""
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts)

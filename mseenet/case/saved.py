"""A case as a file, or several: uploaded bytes, answers, verdicts and settings, to be opened again.

No file is larger than what can be opened (`Limits.part`): a case that takes more comes in parts,
each a saved case of its own with some of the fields. The file is a ZIP archive;
docs/reference/records.md describes it. It is read with the limits of any archive, and nothing in
it is believed before it was checked. It is not signed: whoever can write the file can change what
it says.
"""

import hashlib
import io
import json
import math
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

import numpy as np
from PIL import Image

from mseenet.case import words
from mseenet.case.answers import NAMED
from mseenet.case.archive import MAGIC, ArchiveError, Entry, entries_of
from mseenet.case.fields import (
    OVERVIEW,
    Case,
    Earlier,
    Field,
    LeftOut,
    Original,
    Source,
    no_room,
    too_large,
)
from mseenet.case.limits import MEGABYTE, Limits
from mseenet.case.names import entry_name
from mseenet.case.pictures import encoded
from mseenet.case.slides import PatternError, slide_of
from mseenet.case.summary import STATUSES
from mseenet.case.verdicts import LONGEST_COMMENT, LONGEST_NAME, Verdict
from mseenet.config import CLASS_NAMES, IMAGE_SIZE
from mseenet.errors import MSEENetError, shown
from mseenet.imaging.areas import Place
from mseenet.imaging.decoding import ImageError, decode_image
from mseenet.inference.classifier import Prediction
from mseenet.inference.heatmaps import COLOR_MAPS

SCHEMA = 3
"""Version of the file's layout that is written."""

READ = (1, 2, 3)
"""Versions that are read. The first has neither slides nor parts, the second no fields that were
cut from larger pictures."""

MANIFEST = "mseenet-case.json"
"""The entry by which a saved case is known."""

LARGEST_MANIFEST = 64 * 2**20
"""In bytes; 2,000 fields take about 3 MB."""

LONGEST_TEXT = 4096
"""Of a name or a reason in a saved case, in characters."""

DAMAGED_FIELD = "damaged in the saved case; expected the content that was saved"

DAMAGED_HEATMAP = "the saved heatmap is damaged; the network in use computes it anew"

DAMAGED_OVERVIEW = "damaged in the saved case: the overview of the picture it was cut from"

DAMAGED_NUCLEI = "damaged in the saved case: where the nucleated cells lie, so none is outlined"

MOST_PARTS = 10_000
"""Of one case."""

ANSWER = 2**17
"""What is kept of a field beside its content takes no more, in bytes: heatmap and mask 104 kB."""

SCALES = (0.01, 100.0)
"""Sizes of cells that are believed, in times of those of training."""

LARGEST_OVERVIEW = 2**20
"""In bytes; one of 480 x 480 pixels takes 50 kB."""

MOST_PIXELS = 10**9
"""Of one side of a picture that fields were cut from."""

_HEATMAP = (IMAGE_SIZE, IMAGE_SIZE)
_NUCLEI = IMAGE_SIZE * IMAGE_SIZE // 8
_HEX = re.compile(r"[0-9a-f]{1,128}")


class SavedCaseError(MSEENetError):
    """A saved case cannot be opened; the message says why."""


@dataclass(frozen=True, eq=False)
class Reading:
    """How a case was being read when it was saved.

    Attributes:
        blind: Whether the network's answers were hidden.
        selected: Key of the field that was looked at, or None.
        pictured: Keys of the fields chosen for the report; None if none were chosen.
        kept_copies: Keys of the fields that count although they are copies.
    """

    blind: bool = False
    selected: str | None = None
    pictured: Sequence[str] | None = None
    kept_copies: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class SavedCase:
    """What was read from a saved case.

    Attributes:
        fields: All that could be read, in their order.
        label: Of the case.
        reader: Who gave verdicts.
        opacity: Of the heatmaps, in [0, 1].
        color_map: Of the heatmaps, one of `heatmaps.COLOR_MAPS`.
        left_out: Files that had not become fields when it was saved.
        damaged: Fields that could not be read now, with the reason.
        notices: What else is damaged, in words.
        reading: How it was being read.
        slide_pattern: By which names tell the slide; empty where folders do.
        part: Which part of the case it is, from 1.
        parts: How many there are.
        of: The case that it is a part of, in hex; empty for one that is whole.
    """

    fields: Sequence[Field]
    label: str
    reader: str
    opacity: float
    color_map: str
    left_out: Sequence[LeftOut]
    damaged: Sequence[LeftOut]
    notices: Sequence[str]
    reading: Reading = field(default_factory=Reading)
    slide_pattern: str = ""
    part: int = 1
    parts: int = 1
    of: str = ""


def parts_of(case: Case) -> list[list[Field]]:
    """The fields of each part in which a case is saved, one part if it takes no more.

    What is added to a field takes its room from the beginning, so that the parts stay the same
    as long as no field comes or goes.
    """
    most = case.limits.part - 2 * ANSWER  # with the directory and what the whole case has
    parts: list[list[Field]] = [[]]
    size = sum(_longest(item.name) + _longest(item.reason) for item in case.left_out)
    for item in [*case.fields.values()]:
        # What cannot be compressed grows by a few bytes in each block.
        own = len(item.content) + len(item.content) // 1000 + ANSWER
        own += sum(map(_longest, item.repeats))
        own += len(item.original.overview) if item.original else 0
        if parts[-1] and size + own > most:
            parts.append([])
            size = 0
        parts[-1].append(item)
        size += own
    return parts


def _longest(text: str) -> int:
    """What a text takes at most in JSON, in bytes."""
    return 6 * len(text) + 64


def is_saved_case(content: bytes) -> bool:
    """Whether a file was saved by `save_case`, damaged or not."""
    if not content.startswith(MAGIC):
        return False
    try:
        return MANIFEST in entries_of(content)
    except ArchiveError:
        return False


def save_case(
    case: Case, source: Source, made: datetime, reading: Reading | None = None, part: int = 1
) -> bytes:
    """Writes a case, or a part of it, to one file.

    Args:
        case: With fields that wait, too.
        source: The network in use, which gave all answers that do not name another one.
        made: When, with time zone.
        reading: How it is being read.
        part: Which of the parts of `parts_of`, from 1.

    Returns:
        A ZIP archive, for `open_case`.

    Raises:
        IndexError: There is no such part.
    """
    reading = reading or Reading()
    parts = parts_of(case)
    fields = parts[part - 1]
    before = sum(map(len, parts[: part - 1]))
    keys = "".join(item.key for items in parts for item in items)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:

        def add(name: str, content: bytes, method: int = zipfile.ZIP_DEFLATED) -> None:
            info = zipfile.ZipInfo(name, made.timetuple()[:6])
            archive.writestr(info, content, method, 1)

        originals = {item.original.key: item.original for item in fields if item.original}
        records = []
        for number, item in enumerate(fields, start=before + 1):
            prediction = item.prediction  # of one moment
            file = None  # of what could not be read nothing is kept
            if item.content:
                file = f"fields/{entry_name(item.content_name, f'{number:04d}')}"
                # As it came: an empty picture may pack better than an archive is believed.
                add(file, item.content, zipfile.ZIP_STORED)
            answer = None
            if prediction is not None:
                heatmap = nuclei = None
                if prediction.heatmap is not None:
                    heatmap = f"heatmaps/{number:04d}.bin"
                    add(heatmap, _packed(prediction.heatmap))
                if prediction.nuclei is not None:
                    nuclei = f"nuclei/{number:04d}.bin"
                    add(nuclei, prediction.nuclei.tobytes())
                answer = _answer_record(prediction, item.recorded or source)
                answer |= {"heatmap": heatmap, "heatmap_class": prediction.heatmap_class}
                answer["nuclei"] = nuclei
            earlier = item.earlier
            records.append(
                {
                    "name": item.name,
                    "slide": item.slide,
                    "slide_by_hand": item.slide_by_hand,
                    "original": item.original and item.original.key,
                    "place": item.place and item.place._asdict(),
                    "sha256": item.key,
                    "file": file,
                    "size": item.size,
                    "synthetic": item.synthetic,
                    "repeats": list(item.repeats),
                    "include_rejected": item.include_rejected,
                    "answer_seen": item.seen,
                    "answer": answer,
                    "earlier": earlier and _answer_record(earlier.prediction, earlier.source),
                    "draft": item.draft,
                    "verdict": item.verdict and _verdict_record(item.verdict),
                }
            )
        for original in originals.values():
            add(f"overviews/{original.key}.jpg", original.overview)
        manifest = {
            "format": "MSEENet case",
            "schema": SCHEMA,
            "research_use": words.RESEARCH_USE,
            "saved": made.isoformat(),
            **source._asdict(),
            "part": part,
            "parts": len(parts),
            "part_of": hashlib.sha256(keys.encode()).hexdigest() if len(parts) > 1 else "",
            "label": case.label,
            "reader": case.reader,
            "settings": {
                "opacity": case.opacity,
                "color_map": case.color_map,
                "slide_pattern": case.slide_pattern,
            },
            "reading": {
                "blind": reading.blind,
                "selected": reading.selected,
                "pictured": None if reading.pictured is None else list(reading.pictured),
                "kept_copies": list(reading.kept_copies),
            },
            "originals": [
                {
                    "sha256": original.key,
                    "name": original.name,
                    "width": original.size[0],
                    "height": original.size[1],
                    "overview": f"overviews/{original.key}.jpg",
                }
                for original in originals.values()
            ],
            "fields": records,
            "left_out": [
                {"name": item.name, "reason": item.reason, "expected": item.expected}
                for item in (case.left_out if part == 1 else ())
            ],
        }
        # Escaped, so that half a surrogate pair in a name comes back as it was.
        add(MANIFEST, json.dumps(manifest, allow_nan=False, indent=1).encode())
    return buffer.getvalue()


def open_case(
    content: bytes, limits: Limits, fields_held: int = 0, bytes_held: int = 0
) -> SavedCase:
    """Reads a saved case.

    Args:
        content: Of the file.
        limits: What a case may hold; what is more than that is left out and named.
        fields_held: So many of its fields the case that this one is added to holds already.
        bytes_held: So much of its bytes.

    Returns:
        The case. Fields whose content is damaged are left out and named. Every answer has its
        `recorded` source.

    Raises:
        SavedCaseError: It is damaged, too large, or of another schema.
    """
    if len(content) > limits.part:
        raise SavedCaseError(f"expected at most {limits.part // MEGABYTE:,} MB")
    try:
        entries = entries_of(content)
    except ArchiveError as error:
        raise SavedCaseError(str(error)) from error
    manifest = _Record(_manifest(entries), "saved case")
    schema = manifest.value("schema")
    if schema not in READ or isinstance(schema, bool):
        raise SavedCaseError(
            f"expected a saved case of schema {READ[0]} to {READ[-1]}; this one has {shown(schema)}, of another "
            f"version of MSEENet ({shown(manifest.value('version'))})"
        )
    left_out = [
        LeftOut(item.text("name"), item.text("reason"), item.flag("expected"))
        for item in manifest.records("left_out")
    ]
    fields: dict[str, Field] = {}
    damaged: list[LeftOut] = []
    notices: list[str] = []
    originals = _originals(manifest, entries) if schema > 2 else {}
    unpacked = bytes_held  # what is refused counts, too: unpacking takes time
    for record in manifest.records("fields"):
        restored = _field(record, schema, originals)
        if fields_held + len(fields) >= limits.fields or unpacked > limits.case:
            damaged.append(LeftOut(restored.name, no_room(limits)))
            continue
        if record.value("file") is None:
            if _add_unreadable(restored, record) and restored.key not in fields:
                fields[restored.key] = restored
            else:
                damaged.append(LeftOut(restored.name, DAMAGED_FIELD))
            continue
        content_or_reason = _content(entries.get(record.text("file")), limits)
        if isinstance(content_or_reason, str):
            damaged.append(LeftOut(restored.name, content_or_reason))
            unpacked += limits.file
            continue
        unpacked += len(content_or_reason)
        if unpacked > limits.case:
            damaged.append(LeftOut(restored.name, no_room(limits)))
            continue
        if hashlib.sha256(content_or_reason).hexdigest() != restored.key or restored.key in fields:
            damaged.append(LeftOut(restored.name, DAMAGED_FIELD))
            continue
        restored.content, restored.size = content_or_reason, len(content_or_reason)
        damages = _add_answer(restored, record, entries)
        damages += [DAMAGED_OVERVIEW] * bool(restored.original and not restored.original.overview)
        notices += [f"{restored.name}: {damage}" for damage in damages]
        fields[restored.key] = restored
    settings, reading = manifest.record("settings"), manifest.record("reading")
    selected, pictured = reading.value("selected"), reading.value("pictured")
    slide_pattern = _pattern(settings) if schema > 1 else ""
    part, parts, of = _part(manifest) if schema > 1 else (1, 1, "")
    return SavedCase(
        fields=list(fields.values()),
        label=manifest.text("label", 80),
        reader=manifest.text("reader", LONGEST_NAME),
        opacity=settings.number("opacity", 0, 1),
        color_map=settings.one_of("color_map", COLOR_MAPS),
        left_out=left_out,
        damaged=damaged,
        notices=notices,
        reading=Reading(
            blind=reading.flag("blind"),
            selected=None if selected is None else reading.text("selected"),
            pictured=None if pictured is None else reading.texts("pictured"),
            kept_copies=reading.texts("kept_copies"),
        ),
        slide_pattern=slide_pattern,
        part=part,
        parts=parts,
        of=of,
    )


def _pattern(settings: "_Record") -> str:
    pattern = settings.text("slide_pattern")
    try:
        slide_of("", pattern)
    except PatternError as error:
        raise SavedCaseError(f"{settings.place}, slide_pattern: {error}") from error
    return pattern


def _part(manifest: "_Record") -> tuple[int, int, str]:
    part, parts = (manifest.count(name, MOST_PARTS) or 0 for name in ("part", "parts"))
    if not 1 <= part <= parts:
        raise manifest.wrong("part", "one of its parts, counted from 1", part)
    return part, parts, manifest.hexadecimal("part_of") if parts > 1 else ""


def _manifest(entries: Mapping[str, Entry]) -> Any:
    entry = entries.get(MANIFEST)
    if entry is None:
        raise SavedCaseError(f"expected a saved case, which holds {MANIFEST}")
    try:
        text = entry.read(LARGEST_MANIFEST + 1)
    except ArchiveError as error:
        raise SavedCaseError(f"{MANIFEST}: {error}") from error
    if len(text) > LARGEST_MANIFEST:
        raise SavedCaseError(f"{MANIFEST}: expected at most {LARGEST_MANIFEST // 2**20} MB")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SavedCaseError(f"{MANIFEST}: expected JSON ({error})") from error


def _answer_record(prediction: Prediction, source: Source) -> dict:
    probabilities = prediction.probabilities
    return {
        **source._asdict(),
        "status": prediction.status,
        "class_name": prediction.class_name,
        "probabilities": None if probabilities is None else dict(probabilities),
        "novelty": prediction.novelty,
        "nucleated_cells": prediction.nucleated_cells,
        "scale": prediction.scale,
        "reasons": list(prediction.reasons),
    }


def _verdict_record(verdict: Verdict) -> dict:
    return vars(verdict) | {"given": verdict.given.isoformat()}


def _packed(heatmap: np.ndarray) -> bytes:
    """A heatmap in steps of 1/65535, each value as the difference to the one at its left."""
    levels = np.round(heatmap * 65535).astype(np.uint16)
    levels[:, 1:] -= levels[:, :-1].copy()
    return levels.astype("<u2").tobytes()


def _unpacked(content: bytes) -> np.ndarray:
    differences = np.frombuffer(content, "<u2").reshape(_HEATMAP)
    heatmap = np.cumsum(differences, axis=1, dtype=np.uint16) / np.float32(65535)
    heatmap.flags.writeable = False
    return heatmap


def _originals(manifest: "_Record", entries: Mapping[str, Entry]) -> dict[str, Original]:
    """The pictures that fields were cut from, by key; a damaged overview is empty."""
    originals = {}
    for record in manifest.records("originals"):
        size = (record.side("width"), record.side("height"))
        key = record.hexadecimal("sha256")
        overview = _overview(entries.get(record.text("overview")))
        originals[key] = Original(key, record.text("name"), size, overview)
    return originals


def _overview(entry: Entry | None) -> bytes:
    """An overview as JPEG, made anew of its pixels; empty if there is none or it is damaged."""
    try:
        content = b"" if entry is None else entry.read(LARGEST_OVERVIEW + 1)
        if not content or len(content) > LARGEST_OVERVIEW:
            return b""
        image = Image.fromarray(decode_image(content))
    except (ArchiveError, ImageError):
        return b""
    image.thumbnail((OVERVIEW, OVERVIEW))
    return encoded(image, "JPEG", quality=85)


def _place(record: "_Record", original: Original) -> Place:
    values = record.record("place")
    place = Place(*(values.count(name, MOST_PIXELS) or 0 for name in Place._fields))
    inside = (
        place.x + place.width <= original.size[0] and place.y + place.height <= original.size[1]
    )
    if not (inside and place.width and place.height):
        raise record.wrong("place", f"a place in {original.name}", tuple(place))
    return place


def _field(record: "_Record", schema: int, originals: Mapping[str, Original]) -> Field:
    """A field without its content."""
    original = place = None
    if schema > 2 and record.value("original") is not None:
        original = originals.get(record.hexadecimal("original"))
        if original is None:
            raise record.wrong("original", "one of the pictures that it names", None)
        place = _place(record, original)
    verdict = record.record("verdict", optional=True)
    by_hand, slide = False, slide_of(record.text("name"))
    if schema > 1:
        by_hand = record.flag("slide_by_hand")
        slide = None if record.value("slide") is None else record.text("slide")
    return Field(
        key=record.hexadecimal("sha256"),
        name=record.text("name"),
        content=b"",
        synthetic=record.flag("synthetic"),
        repeats=record.texts("repeats"),
        include_rejected=record.flag("include_rejected"),
        seen=record.flag("answer_seen"),
        verdict=verdict and _verdict(verdict),
        draft=record.text("draft", LONGEST_COMMENT),
        slide=slide,
        slide_by_hand=by_hand,
        original=original,
        place=place,
    )


def _content(entry: Entry | None, limits: Limits) -> bytes | str:
    """The bytes of a field, or why there are none."""
    if entry is None:
        return DAMAGED_FIELD
    try:
        content = entry.read(limits.file + 1)
    except ArchiveError as error:
        return str(error)
    return content if len(content) <= limits.file else too_large(limits)


def _add_unreadable(field: Field, record: "_Record") -> bool:
    """Adds the error of a field that was saved without content; whether it has one."""
    answer = record.record("answer", optional=True)
    if not answer or answer.value("status") != "error":
        return False
    field.size = record.count("size", 2**63) or 0
    field.prediction, field.recorded = _prediction(answer), _source(answer)
    return True


def _add_answer(field: Field, record: "_Record", entries: Mapping[str, Entry]) -> list[str]:
    """Adds what the network has said; returns what of it is damaged and left out."""
    earlier = record.record("earlier", optional=True)
    if earlier:
        field.earlier = Earlier(_source(earlier), _prediction(earlier))
    answer = record.record("answer", optional=True)
    if not answer:
        return []
    damages: list[str] = []
    heatmap = heatmap_class = nuclei = None
    if answer.value("heatmap") is not None:
        content = _exactly(2 * IMAGE_SIZE * IMAGE_SIZE, entries.get(answer.text("heatmap")))
        heatmap = None if content is None else _unpacked(content)
        damages += [DAMAGED_HEATMAP] * (content is None)
        heatmap_class = answer.one_of("heatmap_class", CLASS_NAMES)
    if answer.value("nuclei") is not None:
        content = _exactly(_NUCLEI, entries.get(answer.text("nuclei")))
        nuclei = None if content is None else np.frombuffer(content, np.uint8)  # read-only
        damages += [DAMAGED_NUCLEI] * (content is None)
    field.prediction = replace(_prediction(answer, heatmap, heatmap_class), nuclei=nuclei)
    field.recorded = _source(answer)
    return damages


def _exactly(size: int, entry: Entry | None) -> bytes | None:
    """The content of an entry; None if it is damaged or of another size."""
    try:
        content = b"" if entry is None else entry.read(size + 1)
    except ArchiveError:
        return None
    return content if len(content) == size else None


def _source(record: "_Record") -> Source:
    return Source(
        release=record.hexadecimal("release"),
        weights=record.hexadecimal("weights"),
        version=record.text("version"),
        profile=None if record.content.get("profile") is None else record.text("profile"),
    )


def _prediction(
    record: "_Record", heatmap: np.ndarray | None = None, heatmap_class: str | None = None
) -> Prediction:
    status = record.one_of("status", STATUSES)
    novelty = record.value("novelty")
    given = record.record("probabilities", optional=True)
    class_name = probabilities = None
    if given is not None:
        probabilities = {name: given.number(name, 0, 1) for name in CLASS_NAMES}
        class_name = record.one_of("class_name", CLASS_NAMES)
        if probabilities[class_name] < max(probabilities.values()):
            raise record.wrong("class_name", "the most probable class", class_name)
    elif status in NAMED or heatmap is not None:
        raise record.wrong("probabilities", "one for each class", None)
    return Prediction(
        status=status,  # type: ignore[arg-type]  # one of `STATUSES`
        class_name=class_name,
        probabilities=probabilities and MappingProxyType(probabilities),
        confidence=None if probabilities is None else max(probabilities.values()),
        heatmap=heatmap,
        heatmap_class=heatmap_class,
        novelty=None if novelty is None else record.number("novelty", 0, math.inf),
        reasons=tuple(record.texts("reasons")),
        nucleated_cells=record.count("nucleated_cells", IMAGE_SIZE**2),
        scale=_scale(record),
    )


def _scale(record: "_Record") -> float | None:
    """How large the cells look; cases saved by earlier versions do not say it."""
    if record.content.get("scale") is None:
        return None
    return record.number("scale", *SCALES)


def _verdict(record: "_Record") -> Verdict:
    try:
        return Verdict(
            choice=record.text("choice"),
            given=datetime.fromisoformat(record.text("given")),
            comment=record.text("comment"),
            reader=record.text("reader"),
            blind=record.flag("blind"),
        )
    except ValueError as error:
        raise SavedCaseError(f"{record.place}: {error}") from error


class _Record:
    """A JSON object whose values are checked when they are looked up.

    All methods raise `SavedCaseError` where a value is not as they say.
    """

    def __init__(self, content: Any, place: str):
        if not isinstance(content, dict):
            raise SavedCaseError(f"{place}: expected a JSON object; received {shown(content)}")
        self.content, self.place = content, place

    def wrong(self, key: str, expected: str, received: object) -> SavedCaseError:
        return SavedCaseError(
            f"{self.place}, {key}: expected {expected}; received {shown(received)}"
        )

    def value(self, key: str) -> Any:
        if key not in self.content:
            raise self.wrong(key, "a value", None)
        return self.content[key]

    def text(self, key: str, longest: int = LONGEST_TEXT) -> str:
        value = self.value(key)
        if not isinstance(value, str) or len(value) > longest:
            raise self.wrong(key, f"a text of at most {longest:,} characters", value)
        return value

    def hexadecimal(self, key: str) -> str:
        value = self.value(key)
        if not isinstance(value, str) or not _HEX.fullmatch(value):
            raise self.wrong(key, "hexadecimal digits", value)
        return value

    def flag(self, key: str) -> bool:
        value = self.value(key)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false", value)
        return value

    def number(self, key: str, low: float, high: float) -> float:
        value = self.value(key)
        known = isinstance(value, int | float) and not isinstance(value, bool)
        if not known or not low <= value <= high or abs(value) > 1e9:
            raise self.wrong(key, f"a number in [{low}, {high}]", value)
        return float(value)

    def count(self, key: str, most: int) -> int | None:
        value = self.value(key)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
            raise self.wrong(key, f"a whole number in [0, {most}]", value)
        return value

    def side(self, key: str) -> int:
        value = self.count(key, MOST_PIXELS)
        if not value:
            raise self.wrong(key, "a number of pixels", value)
        return value

    def one_of(self, key: str, options: Sequence[str]) -> str:
        value = self.value(key)
        if value not in options:
            raise self.wrong(key, f"one of {', '.join(options)}", value)
        return value

    def items(self, key: str) -> list:
        value = self.value(key)
        if not isinstance(value, list):
            raise self.wrong(key, "a list", value)
        return value

    def texts(self, key: str) -> list[str]:
        return [_Record({key: item}, self.place).text(key) for item in self.items(key)]

    def records(self, key: str) -> list["_Record"]:
        return [
            _Record(item, f"{self.place}, {key} {number}")
            for number, item in enumerate(self.items(key), start=1)
        ]

    def record(self, key: str, optional: bool = False) -> Any:
        value = self.value(key)
        if value is None and optional:
            return None
        return _Record(value, f"{self.place}, {key}")

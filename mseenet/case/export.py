"""Exports of one case as CSV and ZIP, made in memory; see also `pdf`."""

import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Protocol

import numpy as np

from mseenet.case import words
from mseenet.case.fields import Source
from mseenet.case.names import file_stem
from mseenet.case.records import CSV_HEADER, csv_line, csv_row, cut_record, record
from mseenet.case.summary import CaseSummary, answer_text, summarize_case
from mseenet.case.verdicts import (
    VERDICT_HEADER,
    Agreement,
    Verdict,
    agreement,
    agreement_record,
    verdict_cells,
    verdict_record,
)
from mseenet.imaging.areas import Place
from mseenet.inference.classifier import Prediction
from mseenet.inference.heatmaps import COLOR_MAPS, encode_overlay, overlay

CASE_HEADER = (
    *CSV_HEADER,
    *VERDICT_HEADER,
    "evidence_on_nuclei",
    "evidence_near_nuclei",
    "synthetic",
    "case",
    "made",
    "version",
)
"""Columns of `case_csv`."""

NO_MEANING = "what the network says about a rejected field has no validated meaning"


class CellPictures(Protocol):
    """Makes what is exported of a field's nucleated cells, such as `cells.FieldCells`."""

    def geojson(self) -> dict:
        """Outlines as a GeoJSON FeatureCollection."""

    def crops(self, most: int) -> list[tuple[np.ndarray, float]]:
        """The most decisive cells, RGB uint8 (n, n, 3), and their proportions of the evidence."""


@dataclass(frozen=True, eq=False)
class CaseField:
    """One field of a case.

    Attributes:
        name: File name as uploaded; for display only.
        prediction: With the heatmap, where there is one. If a rejected field comes with
            class and probabilities, they are shown, marked as without validated meaning.
        pixels: Makes RGB uint8 (H, W, 3) in [0, 255] in the field's own shape, or None if it
            is unreadable or not to be shown. Called for one picture after the other, as
            those of a whole case would fill half a gigabyte.
        evidence_on_nuclei: Proportion of the heatmap's mass on nucleated cells, in [0, 1], or
            None if it is not known.
        synthetic: Whether this project rendered the field.
        verdict: What the reader says of it, if anything.
        recorded: What gave the answer, if not the network in use.
        evidence_near_nuclei: The same as `evidence_on_nuclei` with a rim of one grid cell of the
            heatmap around the cells.
        cells: Outlines and crops of the nucleated cells, or None if they are not to be shown.
        slide: Name of the slide that it is of, if that is known.
        cut: Name of the larger picture that it was cut from, and where it lies there.
    """

    name: str
    prediction: Prediction
    pixels: Callable[[], np.ndarray] | None
    evidence_on_nuclei: float | None
    synthetic: bool = False
    verdict: Verdict | None = None
    recorded: Source | None = None
    evidence_near_nuclei: float | None = None
    cells: CellPictures | None = None
    slide: str | None = None
    cut: tuple[str, Place] | None = None


@dataclass(frozen=True)
class CaseContext:
    """Where a case's results come from.

    Attributes:
        label: The user's label for the case; may be empty.
        weights: SHA-256 of the weights file, in hex.
        release: Names weights, calibration and gate together, in hex (`Card.release`).
        version: Of mseenet.
        device: Where the network ran, such as "CPU".
        made: When, with time zone.
        settings: What the user could set, and how it was set, in words.
        waiting: Names of the fields that were not analysed yet.
        left_out: Names and reasons of the files that did not become fields.
        slide_evidence: How often the class of a slide is right (`words.slide_evidence`); empty to
            give slides no class.
        waiting_slides: Names of fields that wait and of their slides, where these are known.
        profile: Name and identity of the site profile in use (`SiteProfile.title`); None without.
        waiting_cuts: Names of fields that wait and were cut from a larger picture, each with that
            picture's name and where the field lies there.

    Raises:
        ValueError: `made` has no time zone.
    """

    label: str
    weights: str
    release: str
    version: str
    device: str
    made: datetime
    settings: Mapping[str, str]
    waiting: Sequence[str] = ()
    left_out: Sequence[tuple[str, str]] = ()
    slide_evidence: str = ""
    waiting_slides: Sequence[tuple[str, str]] = ()
    profile: str | None = None
    waiting_cuts: Sequence[tuple[str, tuple[str, Place]]] = ()

    def __post_init__(self):
        if self.made.utcoffset() is None:
            raise ValueError(f"expected a time with time zone; received {self.made!r}")


def case_csv(fields: Sequence[CaseField], context: CaseContext) -> bytes:
    """One row for each field, with the columns of `CASE_HEADER`.

    Fields that wait have the status "waiting", and files that were left out "left out".

    Returns:
        CSV as UTF-8 with byte order mark, by which Excel knows the encoding.

    Raises:
        ValueError: There are no fields.
    """
    lines = [csv_row(CASE_HEADER)]
    for row in (*_records(fields, context), *_missing(context)):
        made = context.made.isoformat(timespec="seconds")
        synthetic = {True: "yes", False: "no", None: None}[row["synthetic"]]
        origin = (context.label, made, context.version)
        reader = verdict_cells(row["verdict"])
        evidence = (row["evidence_on_nuclei"], row["evidence_near_nuclei"])
        extra = csv_row((*reader, *evidence, synthetic, *origin))
        lines.append(f"{csv_line(row)},{extra}")
    return "\ufeff".encode() + _utf8("".join(line + "\r\n" for line in lines))


def case_zip(
    fields: Sequence[CaseField],
    context: CaseContext,
    opacity: float,
    color_map: str = COLOR_MAPS[0],
) -> bytes:
    """Everything of a case: `case.csv`, `case.json`, overlays where there is a heatmap, and
    outlines of nucleated cells as GeoJSON.

    Args:
        fields: At least one.
        context: Where the results come from.
        opacity: Of the heatmap, in [0, 1].
        color_map: One of `heatmaps.COLOR_MAPS`.

    Returns:
        A ZIP archive. Entries are numbered in the order of `fields`; overlays are PNG in
        the shape of the fields, and their names say if a field is rejected or synthetic.

    Raises:
        ValueError: There are no fields, or `opacity` is outside [0, 1].
    """
    check(fields, opacity)
    records = _records(fields, context)
    buffer = io.BytesIO()
    made = context.made.timetuple()[:6]

    with zipfile.ZipFile(buffer, "w") as archive:

        def add(name: str, content: bytes, compression: int) -> None:
            archive.writestr(zipfile.ZipInfo(name, made), content, compression)

        for number, (field, row) in enumerate(zip(fields, records, strict=True), start=1):
            row["overlay"] = None
            if field.pixels is not None and field.prediction.heatmap is not None:
                row["overlay"] = _entry_name("overlays", number, field, "png")
                blended = overlay(field.pixels(), field.prediction.heatmap, opacity, color_map)
                picture = encode_overlay(blended, compress_level=1)
                add(row["overlay"], picture, zipfile.ZIP_STORED)
            row["cells"] = None
            if field.cells is not None:
                row["cells"] = _entry_name("cells", number, field, "geojson")
                lines = json.dumps(field.cells.geojson(), ensure_ascii=False, allow_nan=False)
                add(row["cells"], _utf8(lines + "\n"), zipfile.ZIP_DEFLATED)
        case = {
            "research_use": words.RESEARCH_USE,
            "context": {
                "label": context.label,
                "weights": context.weights,
                "release": context.release,
                "profile": context.profile,
                "version": context.version,
                "device": context.device,
                "made": context.made.isoformat(),
                "settings": dict(context.settings),
            },
            "summary": _summary_record(fields, context),
            "agreement": agreement_record(agreement_in(fields)),
            "fields": records,
            "waiting": list(context.waiting),
            "left_out": [{"file": name, "reason": why} for name, why in context.left_out],
        }
        text = json.dumps(case, ensure_ascii=False, allow_nan=False, indent=2)
        add("case.json", _utf8(text + "\n"), zipfile.ZIP_DEFLATED)
        add("case.csv", case_csv(fields, context), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def check(fields: Sequence[CaseField], opacity: float = 0.0) -> None:
    """Raises `ValueError` for no fields, or an opacity outside [0, 1]."""
    if not fields:
        raise ValueError("expected a case of at least one field; received none")
    if not 0 <= opacity <= 1:
        raise ValueError(f"expected opacity in [0, 1]; received {opacity}")


def summary_in(fields: Sequence[CaseField], context: CaseContext) -> CaseSummary:
    """Counts and means of the fields; synthetic ones are of no slide."""
    return summarize_case(
        [f.prediction for f in fields],
        [None if f.synthetic else f.slide for f in fields],
        answered=bool(context.slide_evidence),
    )


def _summary_record(fields: Sequence[CaseField], context: CaseContext) -> dict:
    summary = summary_in(fields, context)
    return asdict(summary) | {
        "answer": answer_text(summary),
        "answer_is": f"{words.SLIDE_RULE} {context.slide_evidence or words.NO_SLIDE_CLASS}",
    }


def agreement_in(fields: Sequence[CaseField]) -> Agreement:
    """How far network and reader agree on the fields; synthetic ones do not count."""
    counted = [field for field in fields if not field.synthetic]
    return agreement([(f.prediction, f.verdict) for f in counted], [f.slide for f in counted])


def _records(fields: Sequence[CaseField], context: CaseContext) -> list[dict]:
    check(fields)
    records = []
    for field in fields:
        source = field.recorded or context
        # The release names the profile, too; cases saved earlier do not say which it was.
        profile = context.profile if source.release == context.release else source.profile
        origin = (source.weights, source.release, field.slide, profile, field.cut)
        row = record(field.name, field.prediction, *origin)
        if row["status"] == "rejected" and row["predicted"] is not None:
            row["reasons"] = [NO_MEANING, *row["reasons"]]
        own = {
            "verdict": verdict_record(field.prediction, field.verdict),
            "evidence_on_nuclei": field.evidence_on_nuclei,
            "evidence_near_nuclei": field.evidence_near_nuclei,
            "synthetic": field.synthetic,
        }
        records.append(row | own)
    return records


def _missing(context: CaseContext) -> list[dict]:
    """Rows of what the case does not hold, or not yet."""
    waiting = [(name, "waiting", "not analysed yet") for name in context.waiting]
    slides, cuts = dict(context.waiting_slides), dict(context.waiting_cuts)
    left_out = [(name, "left out", reason) for name, reason in context.left_out]
    return [
        {
            "file": name,
            "slide": slides.get(name) if status == "waiting" else None,
            **cut_record(cuts.get(name) if status == "waiting" else None),
            "status": status,
            "predicted": None,
            "probabilities": None,
            "confidence": None,
            "novelty": None,
            "nucleated_cells": None,
            "scale": None,
            "reasons": [reason],
            "weights": context.weights,
            "release": context.release,
            "profile": context.profile,
            "evidence_on_nuclei": None,
            "evidence_near_nuclei": None,
            "synthetic": None,
            "verdict": None,
        }
        for name, status, reason in (*waiting, *left_out)
    ]


def _entry_name(folder: str, number: int, field: CaseField, kind: str) -> str:
    """A name that every file system takes; the number keeps equal names apart."""
    marks = (field.prediction.status == "rejected", "rejected"), (field.synthetic, "synthetic")
    suffix = "".join(f"-{mark}" for on, mark in marks if on)
    # What follows the last dot of a cut field's name is no ending.
    name = f"{field.name}.png" if field.cut else field.name
    return f"{folder}/{number:03d}-{file_stem(name)}{suffix}.{kind}"


def _utf8(text: str) -> bytes:
    # Half a surrogate pair, as in names of other file systems, becomes JSON's own escape.
    return text.encode("utf-8", "backslashreplace")

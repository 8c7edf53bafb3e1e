"""Predictions as text: JSON Lines, CSV and a table for the terminal."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable

from mseenet.config import CLASS_NAMES
from mseenet.imaging.areas import Place
from mseenet.inference.classifier import Prediction


def record(
    file: str,
    prediction: Prediction,
    weights: str,
    release: str,
    slide: str | None = None,
    profile: str | None = None,
    cut: tuple[str, Place] | None = None,
) -> dict:
    """One prediction, ready for JSON.

    Args:
        file: Name of the image, as the user gave it.
        prediction: Its prediction.
        weights: SHA-256 of the weights file, in hex.
        release: Names weights, calibration and gate together (`Card.release`).
        slide: The slide that it is of, if that is known.
        profile: Name and identity of the site profile that was used (`SiteProfile.title`).
        cut: Name of the larger picture that it was cut from, and where it lies there.

    Returns:
        file, slide, source, place, status, predicted, probabilities, confidence, novelty,
        nucleated_cells, scale, reasons, weights, release, profile.
        `source` and `place` (x, y, width, height) are None for a picture that is one field.
        `predicted`, `probabilities` and `confidence` are None for an image that was not
        read, and for a rejected one unless the network's output was asked for; `novelty`
        and `nucleated_cells` are None for an image that was not read, `scale` wherever the size
        of the cells is not known.
    """
    probabilities = prediction.probabilities
    return {
        "file": file,
        "slide": slide,
        **cut_record(cut),
        "status": prediction.status,
        "predicted": prediction.class_name,
        "probabilities": None if probabilities is None else dict(probabilities),
        "confidence": prediction.confidence,
        "novelty": prediction.novelty,
        "nucleated_cells": prediction.nucleated_cells,
        "scale": prediction.scale,
        "reasons": list(prediction.reasons),
        "weights": weights,
        "release": release,
        "profile": profile,
    }


def cut_record(cut: tuple[str, Place] | None) -> dict:
    """`source` and `place` of a record; None for a picture that is one field."""
    source, place = cut or (None, None)
    return {"source": source, "place": None if place is None else place._asdict()}


def json_line(record: dict) -> str:
    """One line of JSON, without its end of line; no NaN or infinity."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False)


CSV_HEADER = (
    "file",
    "slide",
    "source",
    *Place._fields,
    "status",
    "predicted",
    "confidence",
    *CLASS_NAMES,
    "novelty",
    "nucleated_cells",
    "scale",
    "reasons",
    "weights",
    "release",
    "profile",
)


def csv_line(record: dict) -> str:
    """One line of CSV, without its end of line, with the columns of `CSV_HEADER`."""
    probabilities = record["probabilities"] or dict.fromkeys(CLASS_NAMES)
    return csv_row(
        (
            record["file"],
            record["slide"],
            record["source"],
            *(record["place"] or dict.fromkeys(Place._fields)).values(),
            record["status"],
            record["predicted"],
            record["confidence"],
            *probabilities.values(),
            record["novelty"],
            record["nucleated_cells"],
            record["scale"],
            "; ".join(record["reasons"]),
            record["weights"],
            record["release"],
            record["profile"],
        )
    )


def csv_row(cells: Iterable) -> str:
    """One line of CSV, without its end of line, of text, numbers and None.

    A text that a spreadsheet would run as a formula gets an apostrophe in front.
    """
    buffer = io.StringIO(newline="")
    # With this end of line the writer quotes a lone carriage return, too.
    csv.writer(buffer, lineterminator="\r\n").writerow(
        [_harmless(cell) if isinstance(cell, str) else cell for cell in cells]
    )
    return buffer.getvalue().removesuffix("\r\n")


def percent(proportion: float) -> str:
    """A proportion in words that never claim certainty: "< 0.1 %", "97.3 %", "> 99.9 %"."""
    if proportion > 0.999:
        return "> 99.9 %"
    if proportion < 0.001:
        return "< 0.1 %"
    return f"{100 * proportion:.1f} %"


def table_line(record: dict) -> str:
    """One line for the terminal: status, class, confidence, cells, file, reasons."""
    named = record["predicted"] is not None
    answer = record["predicted"] if named else "-"
    confidence = percent(record["confidence"]) if named else "-"
    reasons = f": {'; '.join(record['reasons'])}" if record["reasons"] else ""
    cells = "-" if record["nucleated_cells"] is None else record["nucleated_cells"]
    return (
        f"{record['status']:<10}{answer:<12}{confidence:>10}{cells:>7}  {record['file']}{reasons}"
    )


FORMATS: dict[str, tuple[str | None, Callable[[dict], str]]] = {
    "table": (f"{'status':<10}{'class':<12}{'confidence':>10}{'cells':>7}  file", table_line),
    "json": (None, json_line),
    "csv": (",".join(CSV_HEADER), csv_line),
}
"""For each format its header line, if any, and what makes a line of a record."""


# Where a spreadsheet may see a cell begin: at the start and, where the semicolon or the tab
# separates cells (as in much of Europe), behind one; then a sign of a formula, full-width ones
# included, behind any space, control or invisible character.
_FORMULA = re.compile(
    r"\A(?=[\t\r\n])"
    r"|(?:\A|(?<=[;\t\r\n]))"
    r"(?=[\s\x00-\x1f\x7f-\x9f\xad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20])"
)


def _harmless(text: str) -> str:
    return _FORMULA.sub("'", text)

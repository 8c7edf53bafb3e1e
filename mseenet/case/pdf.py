"""The report of a case as PDF, to print or to keep, made in memory."""

import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from fpdf import FPDF
from fpdf.fonts import FontFace
from PIL import Image

from mseenet.case import words
from mseenet.case.answers import Answer, answer_of, counted_answer
from mseenet.case.export import CaseContext, CaseField, agreement_in, check, summary_in
from mseenet.case.names import shortened
from mseenet.case.pictures import encoded
from mseenet.case.records import percent
from mseenet.case.summary import CaseSummary, SlideSummary, answer_text
from mseenet.case.verdicts import (
    CHOICES,
    DEPENDENT,
    DIFFERS,
    KAPPA,
    NO_CLASS,
    verdict_text,
)
from mseenet.config import CLASS_NAMES
from mseenet.inference.classifier import Prediction
from mseenet.inference.heatmaps import COLOR_MAPS, has_evidence, overlay

MEANINGS = {
    "Confidence": "The calibrated probability of the class that is named. " + words.UNSEEN_SLIDES,
    "Novelty": "Distance from the training fields, whatever the class. From 1 on a field is "
    "rejected; below 1 does not mean that the class is right.",
    "Slide": "As told by folders, a pattern of file names, or the reader. Fields of one slide are not "
    "independent: they share patient, stain and camera, so the spread of the fields says nothing "
    "about another slide or about the patient.",
    "Class of a slide": words.SLIDE_RULE,
    "Heatmap": "Where in the field the evidence for a class lies. It is coarse, and it does not "
    "show that a cell there is a blast.",
    "Nucleated cells": "Found by their colour, without the network; touching ones may count as one. "
    "Crops show those with the largest shares of the heatmap of the class that is named.",
    "Evidence on nucleated cells": "Proportion of the heatmap that lies on nucleated cells with a rim "
    "of one cell of its grid, as it cannot say more closely where. The rest lies on plasma and red "
    "cells.",
    "ok": "A class is named, and no check has raised a doubt. The class can still be wrong.",
    "To review": "A class is named and counted, but a person should look at the field first.",
    "Rejected": "The field lies outside of what the network was validated for. It is not counted.",
    "Reader": f"What a person says of the field; {DIFFERS} where that differs from the network's answer.",
    "Not read": "The file is no image that can be read. It is not counted.",
}
"""What the words of the PDF mean, beside those for the classes."""


def case_pdf(
    fields: Sequence[CaseField],
    context: CaseContext,
    chosen: Collection[int],
    opacity: float,
    color_map: str = COLOR_MAPS[0],
) -> bytes:
    """A report to print: summary, table of all fields, pictures of the chosen ones.

    Args:
        fields: At least one.
        context: Where the results come from.
        chosen: Indices into `fields` of those whose pictures are shown.
        opacity: Of the heatmap, in [0, 1].
        color_map: One of `heatmaps.COLOR_MAPS`.

    Returns:
        A PDF of A4 pages. Its pictures are reduced copies made of pixels.

    Raises:
        ValueError: There are no fields, a chosen one does not exist, or `opacity` is
            outside [0, 1].
    """
    check(fields, opacity)
    wrong = [index for index in chosen if not 0 <= index < len(fields)]
    if wrong:
        raise ValueError(f"expected chosen fields in [0, {len(fields)}); received {wrong}")
    pdf = _Report(context)
    _draw_summary(pdf, fields, context)
    _draw_agreement(pdf, fields)
    titles = _titles(pdf, fields)
    _draw_table(pdf, fields, titles)
    if len(chosen):
        look = {"opacity": opacity, "color_map": color_map}
        _draw_chosen(pdf, fields, titles, chosen, look)
    _draw_missing(pdf, context)
    meanings = {words.CLASS_TITLES[n]: words.CLASS_NOTES[n] for n in CLASS_NAMES} | MEANINGS
    if pdf.replaced:
        meanings[pdf.replaced] = (
            "Numbers in square brackets stand for characters that this document's font lacks: "
            f"this one for U+{pdf.replaced[1:-1]} of Unicode. The CSV and ZIP exports hold the "
            "exact names."
        )
    pdf.title_of("What the words mean")
    pdf.pairs(meanings)
    pdf.title_of("How this was made")
    pdf.pairs(
        dict(context.settings)
        | {"Release": context.release, "Weights, SHA-256": context.weights}
        | ({"Site profile": context.profile} if context.profile else {})
        | {"Software": f"MSEENet {context.version}"}
        | {"Device": context.device, "Time": _time(context)}
    )
    return bytes(pdf.output())


_FONTS = Path(__file__).with_name("fonts")

_PAGES = "\ue000\ue001"
"""Stands for the number of pages; of private characters, which no name keeps."""

_PICTURE, _GAP = 59.0, 4.0
"""Side of the square that a picture fits into, and what lies between two, in mm."""

_ANSWER = 50.0
"""Height of class, bars and numbers beside the pictures, in mm."""

_CROPS, _CROP, _CROP_SIZE = 9, 18.0, (120, 120)
"""How many cells are shown of a field, and the side of their pictures in mm and in pixels."""

_STRIP, _DOT, _GOLDEN = 7.0, 0.9, 0.618
"""Height of a slide's row in the dot plot and diameter of a dot, in mm; the step from one dot to
the next, in parts of the height."""

_PICTURE_PIXELS = 512
"""Largest side of an embedded picture: 220 dots an inch."""

_TEXT, _GREY, _RULE = (30, 27, 38), (105, 100, 118), (205, 200, 215)
_ACCENT, _WARNING = (106, 75, 176), (160, 60, 20)


class _Report(FPDF):
    """An A4 document with the project's fonts, footer and building blocks."""

    def __init__(self, context: CaseContext):
        super().__init__(format="A4")
        self.replaced = ""
        self.context = context
        self.add_font("DejaVu", "", _FONTS / "DejaVuSans.ttf")
        self.add_font("DejaVu", "B", _FONTS / "DejaVuSans-Bold.ttf")
        self._known = self.fonts["dejavu"].cmap.keys() & self.fonts["dejavuB"].cmap.keys()
        self.set_title("MSEENet: report of a case")
        self.set_lang("en")
        self.set_creation_date(context.made)
        self.set_margins(15, 15)
        self.set_auto_page_break(True, 20)
        self.c_margin = 0
        self.alias_nb_pages(_PAGES)
        self.add_page()

    def header(self) -> None:
        if self.page > 1:
            case = f"{shortened(self.context.label, 80)}, " if self.context.label else ""
            self.style(7, color=_GREY)
            self.cell(0, 4, self.safe(case + _time(self.context)), align="R")
            self.set_y(22)

    def footer(self) -> None:
        self.set_y(-13)
        self.style(8, bold=True)
        self.cell(self.epw - 30, 5, words.RESEARCH_USE)
        self.style(8, color=_GREY)
        self.cell(30, 5, f"page {self.page} of {_PAGES}", align="R")

    def safe(self, text: str) -> str:
        """Any text as the fonts can show it.

        What they lack is shown by its number in Unicode, such as `[8840]`, so that names stay
        apart and can be looked up; the first of them is kept in `replaced`, to be explained.
        """
        shown = []
        for char in unicodedata.normalize("NFC", text):
            known = ord(char) in self._known and unicodedata.category(char)[0] != "C"
            shown.append(char if known else f"[{ord(char):04X}]")
            if not known:
                self.replaced = self.replaced or shown[-1]
        return "".join(shown)

    def style(self, size: float, bold: bool = False, color=_TEXT) -> None:
        self.set_font("DejaVu", "B" if bold else "", size)
        self.set_text_color(*color)

    def text_of(self, text: str, size: float = 8, bold=False, color=_TEXT, width=0.0) -> None:
        """Wrapped text from here on; the position moves below it."""
        self.style(size, bold, color)
        self.multi_cell(width, 0.48 * size, text, align="L", new_x="LEFT", new_y="NEXT")

    def height_of(self, text: str, size: float = 8, bold=False, width=0.0) -> float:
        """What `text_of` would take, in mm; 0 for no text."""
        if not text:
            return 0.0
        self.style(size, bold)
        return self.multi_cell(width, 0.48 * size, text, align="L", dry_run=True, output="HEIGHT")

    def title_of(self, text: str, follows: float = 25) -> None:
        """A heading, on the next page unless `follows` mm fit below it."""
        if self.will_page_break(12 + follows):
            self.add_page()
        else:
            self.ln(6)
        self.start_section(text)
        self.text_of(text, 12, bold=True, color=_ACCENT)
        self.ln(1.5)

    def grid(self, rows: Sequence[Sequence[str]], widths, align, size=7.5, bold_last=False):
        """A table whose first row is repeated on every page; widths in mm."""
        self.style(size)
        self.set_draw_color(*_RULE)
        self.set_fill_color(self.DEFAULT_FILL_COLOR)  # else its cells take the latest bar's
        with self.table(
            col_widths=widths,
            width=sum(widths),
            align="LEFT",
            text_align=align,
            v_align="TOP",
            line_height=0.46 * size,
            padding=(0.9, 2.4, 0.9, 0),
            borders_layout="HORIZONTAL_LINES",
            headings_style=FontFace(emphasis="BOLD", color=_GREY),
        ) as table:
            for row in rows:
                last = bold_last and row is rows[-1]
                table.row(row, style=FontFace(emphasis="BOLD") if last else None)
        self.style(size)

    def pairs(self, entries: Mapping[str, str]) -> None:
        """Names at the left, what belongs to them at the right."""
        wide = self.epw - 45
        for key, value in entries.items():
            name, text = self.safe(key), self.safe(value)
            height = max(
                self.height_of(name, bold=True, width=42), self.height_of(text, width=wide)
            )
            if self.will_page_break(height):
                self.add_page()
            y = self.y
            self.text_of(name, bold=True, width=42)
            self.set_xy(self.l_margin + 45, y)
            self.text_of(text, width=wide)
            self.set_xy(self.l_margin, y + height + 1)


def _draw_summary(pdf: _Report, fields: Sequence[CaseField], context: CaseContext) -> None:
    summary = summary_in(fields, context)
    pdf.text_of("MSEENet: report of a case", 18, bold=True)
    pdf.text_of(words.RESEARCH_USE, 9, bold=True, color=_WARNING)
    pdf.ln(2)
    label = shortened(context.label.strip(), 200) or "no label given"
    pdf.pairs({"Case": label, "Time": _time(context)})
    pdf.title_of("Summary")
    counts = {"fields": summary.fields, "with a class": summary.named} | {
        f"of these {text}" if status == "review" else text: summary.by_status[status]
        for status, text in words.STATUS_TITLES.items()
        if status != "ok"
    }
    width = pdf.epw / len(counts)
    for values, size, color in (
        (map(str, counts.values()), 16, _TEXT),
        (iter(counts), 8, _GREY),
    ):
        pdf.style(size, bold=size > 8, color=color)
        for value in values:
            pdf.cell(width, 0.45 * size, value)
        pdf.ln()
    synthetic = sum(field.synthetic for field in fields)
    if synthetic:
        pdf.ln(2)
        pdf.text_of(
            f"Synthetic fields in this case: {synthetic}. They are rendered by a program; what the "
            "network says about them has no meaning.",
            bold=True,
            color=_WARNING,
        )
    if context.waiting:
        pdf.ln(2)
        pdf.text_of(
            f"Not complete: {len(context.waiting)} of {len(fields) + len(context.waiting)} fields "
            "wait for analysis and count nowhere in this report.",
            bold=True,
            color=_WARNING,
        )
    pdf.ln(3)
    _draw_means(pdf, summary)
    if summary.named:
        _draw_spread(pdf, summary, fields)
        _draw_slides(pdf, summary)


def _draw_means(pdf: _Report, summary: CaseSummary) -> None:
    if summary.malignant is None:
        pdf.text_of("No class is named for any field, so there is nothing to average.")
        return

    def row(title: str, count: int, mean: float) -> tuple[str, str, str]:
        return title, str(count), percent(mean)

    rows = [("Class", "Fields", "Mean probability")]
    for name, mean in summary.probabilities.items():
        rows.append(row(words.CLASS_TITLES[name], summary.by_class[name], mean))
    malignant = summary.named - summary.by_class["Benign"]
    rows.append(row("Malignant (all but Benign)", malignant, summary.malignant))
    pdf.grid(rows, (62, 22, 40), ("LEFT", "RIGHT", "RIGHT"), size=8.5, bold_last=True)
    pdf.ln(2)
    means = percent(summary.malignant), percent(summary.probabilities["Benign"])
    pdf.text_of(
        f"Malignant {means[0]} versus Benign {means[1]}: means of the calibrated probabilities of "
        f"{_counted(summary.named)} with a class. Rejected and unread fields are left out.",
        color=_GREY,
    )


def _draw_spread(pdf: _Report, summary: CaseSummary, fields: Sequence[CaseField]) -> None:
    """A row a slide, a column a class: a dot a field, and a line for the mean."""
    pdf.title_of("Spread of fields and slides", follows=30)
    pdf.text_of(
        "Calibrated probability of each class: a dot for each field with a class, a line for the mean "
        f"of the slide. {words.NOT_A_CASE_RESULT}",
        color=_GREY,
    )
    names, gap = 42.0, 4.0
    width = (pdf.epw - names) / len(CLASS_NAMES)
    starts = [pdf.l_margin + names + i * width for i in range(len(CLASS_NAMES))]

    def head() -> None:
        pdf.ln(1)
        pdf.style(7, bold=True, color=_GREY)
        for name, x in zip(CLASS_NAMES, starts, strict=True):
            pdf.set_x(x)
            pdf.cell(width - gap, 4, name)
        pdf.ln(4)
        pdf.style(6, color=_GREY)
        for x in starts:
            pdf.set_x(x)
            pdf.cell(width - gap, 3, "0 %")
            pdf.set_x(x)
            pdf.cell(width - gap, 3, "100 %", align="R")
        pdf.ln(3)

    head()
    for item in summary.slides:
        if pdf.will_page_break(_STRIP):
            pdf.add_page()
            head()
        y = pdf.y
        pdf.style(7)
        pdf.cell(names - 2, _STRIP, pdf.safe(shortened(item.title, 26)))
        values = _values_of(item, fields)
        for column, x in enumerate(starts):
            pdf.set_draw_color(*_RULE)
            pdf.line(x, y + _STRIP / 2, x + width - gap, y + _STRIP / 2)
            pdf.set_fill_color(*_ACCENT)
            with pdf.local_context(fill_opacity=0.4):
                for number, value in enumerate(values[:, column]):
                    up = (_GOLDEN * number % 1 - 0.5) * (_STRIP - 2.2)  # so that dots lie apart
                    at = x + value * (width - gap)
                    pdf.ellipse(at - _DOT / 2, y + (_STRIP - _DOT) / 2 + up, _DOT, _DOT, "F")
            if item.probabilities:
                at = x + item.probabilities[CLASS_NAMES[column]] * (width - gap)
                pdf.set_draw_color(*_TEXT)
                pdf.line(at, y + 0.6, at, y + _STRIP - 0.6)
        pdf.set_xy(pdf.l_margin, y + _STRIP)


def _values_of(item: SlideSummary, fields: Sequence[CaseField]) -> np.ndarray:
    """Probabilities (N, C) of a slide's fields with a class."""
    answers = [
        counted_answer(field.prediction)
        for field in fields
        if (None if field.synthetic else field.slide) == item.slide
    ]
    values = [[a.probabilities[name] for name in CLASS_NAMES] for a in answers if a is not None]
    return np.array(values).reshape(len(values), len(CLASS_NAMES))


def _draw_slides(pdf: _Report, summary: CaseSummary) -> None:
    """Counts of each slide and its class, if it is given one, and how often that is right."""
    pdf.ln(3)
    rows: list[tuple[str, ...]] = [
        ("Slide", "Fields", "With a class", *CLASS_NAMES, "Class of the slide")
    ]
    for item in summary.slides:
        counts = (item.fields, item.named, *(item.by_class[name] for name in CLASS_NAMES))
        said = item.answer or f"none: {item.why}"
        rows.append((pdf.safe(shortened(item.title, 60)), *map(str, counts), said))
    numbers = ("RIGHT",) * (2 + len(CLASS_NAMES))
    pdf.grid(rows, (40, 14, 21, 15, 21, 14, 14, 41), ("LEFT", *numbers, "LEFT"), size=7)
    pdf.ln(2)
    if text := answer_text(summary):
        pdf.text_of(pdf.safe(text), bold=True)
    pdf.text_of(pdf.context.slide_evidence or words.NO_SLIDE_CLASS, 7, color=_GREY)


def _draw_table(pdf: _Report, fields: Sequence[CaseField], titles: Sequence[str]) -> None:
    pdf.title_of("All fields")
    none = "\N{EN DASH}"
    read = any(field.verdict is not None for field in fields)
    slides = any(field.slide is not None for field in fields)
    head = (
        "No.",
        "File",
        *(["Slide"] * slides),
        "Status",
        "Class",
        *(["Reader"] * read),
        "Confidence",
        "Novelty",
        "Cells",
        "Reasons",
    )
    rows: list[tuple[str, ...]] = [head]
    for number, (field, title) in enumerate(zip(fields, titles, strict=True), start=1):
        prediction = field.prediction
        answer = counted_answer(prediction)
        rows.append(
            (
                str(number),
                title,
                *([pdf.safe(shortened(field.slide or none, 60))] * slides),
                words.STATUS_TITLES[prediction.status],
                answer.class_name if answer else none,
                *([verdict_text(prediction, field.verdict) or none] * read),
                percent(answer.confidence) if answer else none,
                none if prediction.novelty is None else f"{prediction.novelty:.2f}",
                none if prediction.nucleated_cells is None else str(prediction.nucleated_cells),
                pdf.safe("; ".join(filter(None, (_reasons(prediction), _recorded(pdf, field))))),
            )
        )
    align = ("LEFT",) * (4 + slides + read) + ("RIGHT", "RIGHT", "RIGHT", "LEFT")
    # Of A4, all in all 180 mm: what the columns of slide and reader take comes from the names.
    name, reasons = (37, 29) if read else (45, 38)
    name, of, reasons = (name - 8, [20], reasons - 12) if slides else (name, [], reasons)
    middle = (17, 20, 22, 20, 15, 11) if read else (18, 21, 21, 16, 12)
    pdf.grid(rows, (9, name, *of, *middle, reasons), align, size=7)


def _draw_agreement(pdf: _Report, fields: Sequence[CaseField]) -> None:
    """The reader's verdicts beside the network's answers; nothing without a verdict."""
    verdicts = [field.verdict for field in fields if field.verdict is not None]
    if not verdicts:
        return
    pdf.title_of("Network and reader", follows=50)
    readers = ", ".join(sorted({verdict.reader for verdict in verdicts if verdict.reader}))
    blind = sum(verdict.blind for verdict in verdicts)
    pdf.pairs(
        {
            "Reader": readers or "no name given",
            "Verdicts": f"{len(verdicts)} of {len(fields)} fields, {blind} of them blind (given "
            "before the network's answer was shown)",
        }
    )
    agreement = agreement_in(fields)
    rows: list[tuple[str, ...]] = [("Network, reader", *CHOICES)]
    for name, counts in zip((*CLASS_NAMES, NO_CLASS), agreement.table, strict=True):
        rows.append((name, *(str(count) for count in counts)))
    pdf.ln(1)
    pdf.grid(rows, (34, *(24,) * len(CHOICES)), ("LEFT", *("RIGHT",) * len(CHOICES)), size=7.5)
    pdf.ln(2)
    if agreement.measured is None:
        pdf.text_of(agreement.too_few)
        return
    pdf.text_of(f"Agreement: {agreement.measured}")
    if agreement.blind is not None:
        pdf.text_of(f"Blind verdicts alone: {agreement.blind}")
    pdf.text_of(f"{DEPENDENT} {KAPPA}", 7, color=_GREY)


def _recorded(pdf: _Report, field: CaseField) -> str:
    """Which release gave the answer, if not the one of this report."""
    source = field.recorded
    if source is None or source.release == pdf.context.release:
        return ""
    return f"as recorded by release {source.title}"


def _verdict_note(field: CaseField) -> str:
    """The verdict of a field whose pictures are shown; empty without one."""
    verdict = field.verdict
    if verdict is None:
        return ""
    text = f"Reader{f' {verdict.reader}' if verdict.reader else ''}: "
    text += f"{verdict_text(field.prediction, verdict)}{', blind' if verdict.blind else ''}"
    return f"{text}. {verdict.comment}".strip()


def _draw_missing(pdf: _Report, context: CaseContext) -> None:
    """Names what the user handed over and this report has no result for."""
    missing = [(name, "waits for analysis") for name in context.waiting] + [*context.left_out]
    if missing:
        pdf.title_of("Not in this report")
        rows = [("File", "Reason")]
        rows += [(pdf.safe(shortened(name, 100)), pdf.safe(why)) for name, why in missing]
        pdf.grid(rows, (80, 100), ("LEFT", "LEFT"), size=7)


def _draw_chosen(
    pdf: _Report,
    fields: Sequence[CaseField],
    titles: Sequence[str],
    chosen: Collection[int],
    look: Mapping,
) -> None:
    pdf.title_of("Chosen fields", follows=_PICTURE + 30)
    pdf.text_of("At the left as uploaded, at the right with the heatmap over it. Evidence:")
    x, y = pdf.l_margin + 105, pdf.y - 3.4
    pdf.text(x, pdf.y - 1, "none")
    ramp = np.tile(np.linspace(0, 1, 128, dtype=np.float32), (8, 1))
    legend = overlay(np.full((8, 128, 3), 255, np.uint8), ramp, **look)
    pdf.image(encoded(Image.fromarray(legend), "PNG"), x + 9, y, 30, 3, alt_text="Colour scale")
    pdf.text(x + 41, pdf.y - 1, "strong")
    for number, (field, title) in enumerate(zip(fields, titles, strict=True), start=1):
        if number - 1 in chosen:
            _draw_field(pdf, f"{number}   {title}", field, look)


def _draw_field(pdf: _Report, heading: str, field: CaseField, look: Mapping) -> None:
    prediction = field.prediction
    answer = answer_of(prediction)
    note, verdict = pdf.safe(_note(field)), pdf.safe(_verdict_note(field))
    pictures = 0.0
    rgb = None if field.pixels is None else field.pixels()
    if rgb is not None:
        tall, wide = rgb.shape[:2]
        pictures = max(5 + _PICTURE * tall / max(tall, wide), _ANSWER if answer else 0.0)
    cells = field.cells.crops(_CROPS) if field.cells is not None and rgb is not None else []
    if cells:
        pictures += _CROP + 6
    height = 5 + pdf.height_of(heading, 10, bold=True) + pdf.height_of(note) + pictures
    height += pdf.height_of(verdict)
    if pdf.will_page_break(height):
        pdf.add_page()
    else:
        pdf.ln(5)
    pdf.text_of(heading, 10, bold=True)
    if note:
        pdf.text_of(note, color=_WARNING)
    if verdict:
        pdf.text_of(verdict)
    if rgb is None:
        return
    top, left = pdf.y + 1.5, pdf.l_margin
    small = Image.fromarray(rgb)
    small.thumbnail((_PICTURE_PIXELS, _PICTURE_PIXELS))
    _draw_picture(pdf, small, left, top, "Field as uploaded")
    if prediction.heatmap is not None:
        blended = Image.fromarray(overlay(np.asarray(small), prediction.heatmap, **look))
        evidence = f"Evidence for {prediction.heatmap_class}"
        if not has_evidence(prediction.heatmap):
            evidence = f"No positive evidence for {prediction.heatmap_class}"
        _draw_picture(pdf, blended, left + _PICTURE + _GAP, top, evidence)
    if answer is not None:
        _draw_answer(pdf, field, answer, left + 2 * (_PICTURE + _GAP), top)
    for place, (pixels, proportion) in enumerate(cells):
        x, y = left + place * (_CROP + _GAP / 2), top + pictures - _CROP - 4.5
        jpeg = encoded(Image.fromarray(pixels).resize(_CROP_SIZE), "JPEG", quality=88)
        pdf.image(jpeg, x, y, _CROP, _CROP, alt_text=f"Nucleated cell {place + 1}")
        pdf.set_xy(x, y + _CROP + 0.5)
        pdf.text_of(percent(proportion), 7, color=_GREY, width=_CROP)
    pdf.set_xy(left, top + pictures)


def _draw_picture(pdf: _Report, image: Image.Image, x: float, y: float, caption: str) -> None:
    scale = _PICTURE / max(image.size)
    width, height = image.width * scale, image.height * scale
    jpeg = encoded(image, "JPEG", quality=88, subsampling=0)
    pdf.image(jpeg, x, y, width, height, alt_text=caption)
    pdf.set_xy(x, y + height + 1)
    pdf.text_of(caption, 7, color=_GREY, width=_PICTURE)


def _draw_answer(pdf: _Report, field: CaseField, answer: Answer, x: float, y: float) -> None:
    prediction = field.prediction
    width = pdf.w - pdf.r_margin - x
    counts = counted_answer(prediction) is not None
    pdf.set_xy(x, y)
    lead = "Predicted class" if counts else words.OUTPUT_WITHOUT_MEANING
    pdf.text_of(lead, 7.5, color=_GREY if counts else _WARNING, width=width)
    pdf.text_of(words.CLASS_TITLES[answer.class_name], 11, bold=True, width=width)
    pdf.text_of(f"Confidence {percent(answer.confidence)}", width=width)
    pdf.ln(2)
    for name, probability in answer.probabilities.items():
        color = _ACCENT if name == answer.class_name and counts else _GREY
        pdf.set_x(x)
        pdf.style(7.5)
        pdf.cell(20, 5, name)
        pdf.set_fill_color(*_RULE)
        pdf.rect(x + 20, pdf.y + 1.2, width - 36, 2.6, "F")
        pdf.set_fill_color(*color)
        pdf.rect(x + 20, pdf.y + 1.2, (width - 36) * probability, 2.6, "F")
        pdf.cell(width - 20, 5, percent(probability), align="R")
        pdf.ln()
    pdf.set_xy(x, pdf.y + 2)
    if prediction.nucleated_cells is not None:
        pdf.text_of(f"Nucleated cells: {prediction.nucleated_cells}", 7.5, width=width)
        pdf.set_x(x)
    if field.evidence_near_nuclei is not None:
        proportion = percent(field.evidence_near_nuclei)
        pdf.text_of(f"Evidence on nucleated cells: {proportion}", 7.5, width=width)
        if field.evidence_near_nuclei < words.MOSTLY:
            pdf.set_x(x)
            pdf.text_of(words.BACKGROUND_EVIDENCE_SHORT, 7.5, color=_WARNING, width=width)
    if prediction.novelty is not None:
        pdf.set_x(x)
        pdf.text_of(f"Novelty {prediction.novelty:.2f}", 7.5, width=width)


def _note(field: CaseField) -> str:
    """Where a cut field lies, and why one is not plainly ok; empty if there is neither."""
    prediction = field.prediction
    about = f"{words.SYNTHETIC} " if field.synthetic else ""
    if field.cut is not None:
        source, place = field.cut
        about += f"{words.cut_from(shortened(source, 100), place)} "
    rejected = words.REJECTED if prediction.class_name is None else words.REJECTED_SHOWN
    lead = {"review": words.REVIEW, "rejected": rejected, "error": words.NOT_READ}
    if prediction.status not in lead:
        return about
    sentence = ": ".join(filter(None, (lead[prediction.status], _reasons(prediction))))
    return f"{about}{sentence}."


def _reasons(prediction: Prediction) -> str:
    text = shortened("; ".join(prediction.reasons), 400)
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def _titles(pdf: _Report, fields: Sequence[CaseField]) -> list[str]:
    """How each field is called; where names come out alike, its number follows."""
    titles = [pdf.safe(shortened(field.name.strip(), 100)) or "(no name)" for field in fields]
    alike = Counter(titles)
    for i, field in enumerate(fields):
        if alike[titles[i]] > 1:
            titles[i] += f" (field {i + 1})"
        if field.synthetic:
            titles[i] += " (synthetic)"
    return titles


def _time(context: CaseContext) -> str:
    return context.made.isoformat(" ", "seconds")


def _counted(fields: int) -> str:
    return "the one field" if fields == 1 else f"the {fields} fields"

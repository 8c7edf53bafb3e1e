"""The nucleated cells on the page: outlines over the field, and galleries of crops."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import partial
from pathlib import Path

import numpy as np
import streamlit as st

from mseenet.case.answers import Answer, counted_answer
from mseenet.case.cells import DECISIVE, crop_jpeg, crops, decisive_cells, outlines
from mseenet.case.fields import Case, Field
from mseenet.case.records import percent
from mseenet.config import CLASS_NAMES
from mseenet.imaging.cells import Cell, evidence_on
from mseenet.inference.classifier import Prediction
from mseenet.ui.pictures import data_uri
from mseenet.ui.session import CaseView
from mseenet.ui.verdict import hides

KEPT = 800
"""Crops and outlines that a session keeps: some megabytes."""

_FILES = {
    kind: Path(__file__).with_suffix(f".{kind}").read_text("utf-8")
    for kind in ("html", "css", "js")
}

_component = st.components.v2.component("mseenet-cells", isolate_styles=False, **_FILES)


class Kept:
    """What was made last, so many of it; each belongs to a field, whose key comes first.

    It is made anew after the field was analysed again: order and shares of cells are those of one answer.
    """

    def __init__(self, most: int = KEPT):
        self._most = most
        self._made: OrderedDict[tuple[str, Hashable], tuple[Prediction | None, object]] = (
            OrderedDict()
        )

    def get(self, field: Field, what: Hashable, make: Callable[[], object]):
        """What was made before, or is made now."""
        key = (field.key, what)
        if key not in self._made or self._made[key][0] is not field.prediction:
            self._made[key] = (field.prediction, make())
        self._made.move_to_end(key)
        while len(self._made) > self._most:
            self._made.popitem(last=False)
        return self._made[key][1]

    def forget_others(self, case: Case) -> None:
        """Forgets what belongs to fields that are no longer in the case."""
        for key in [key for key in self._made if key[0] not in case.fields]:
            del self._made[key]


def _kept(case: Case) -> Kept:
    kept = st.session_state.setdefault("cells-kept", Kept())
    kept.forget_others(case)
    return kept


def layer(case: Case, field: Field, answer: Answer | None) -> dict[str, object]:
    """Outlines and crops of one field, for `pictures.draw_pictures`.

    Args:
        case: The field's.
        field: A readable one.
        answer: What is shown of the network's answer; without one there are outlines alone.

    Returns:
        `cells`: x and y in turn of each outline, in proportion to the sides; `crops`, if there is
        an answer, and `galleryTitle`; `marked`: the place of a cell that the user asked for, and
        `asked`: when that was, if there is one.
    """
    kept = _kept(case)
    data: dict[str, object] = {
        "cells": kept.get(
            field,
            "outlines",
            lambda: [np.round(line, 4).ravel().tolist() for line in outlines(field)],
        )
    }
    if answer is not None and field.cells:
        pictures = _pictures(kept, field, field.cells[:DECISIVE])
        data["crops"] = [
            {
                "picture": picture,
                "share": percent(cell.proportion) if cell.proportion else "none",
                "label": f"Cell {place} of {len(field.cells)}: {percent(cell.proportion)} of the evidence "
                f"for {answer.class_name}; show it in the field",
            }
            for place, (picture, cell) in enumerate(
                zip(pictures, field.cells, strict=False), start=1
            )
        ]
        first = f", the first {DECISIVE}" if len(field.cells) > DECISIVE else ""
        data["galleryTitle"] = (
            f"Cells by their share of the evidence for {answer.class_name}{first}; a click shows "
            "one in the field"
        )
    marked = st.session_state.get("marked-cell")
    if marked and marked[0] == field.key:
        if answer is not None:
            data |= {"marked": marked[1], "asked": marked[2]}
    else:  # the user has gone on to another field
        st.session_state.pop("marked-cell", None)
    return data


def _pictures(kept: Kept, field: Field, cells: tuple[Cell, ...]) -> list[str]:
    """The crops of some cells as data URIs; the field is decoded only if one is missing."""
    made: dict[int, str] = {}

    def make(number: int) -> str:
        if not made:
            for other, pixels in zip(cells, crops(field, cells), strict=True):
                made[other.number] = data_uri(crop_jpeg(pixels), "jpeg")
        return made[number]

    return [kept.get(field, cell.number, partial(make, cell.number)) for cell in cells]


def counted_cells(field: Field) -> str:
    """How many nucleated cells were found, in words."""
    count = field.result.nucleated_cells or 0
    divided = len(field.cells)
    found = "1 nucleated cell" if count == 1 else f"{count} nucleated cells"
    more = f", {divided} where touching ones are divided" if divided > count else ""
    return f"{found} found by colour{more}."


def evidence_on_cells(field: Field, heatmap: np.ndarray | None) -> tuple[float, float] | None:
    """The proportions of a heatmap on nucleated cells, without and with the rim of a grid cell.

    None for a heatmap without evidence, or a field whose cells are not known.
    """
    if heatmap is None or not heatmap.any() or field.result.nuclei is None:
        return None
    return evidence_on(field.nuclei, heatmap)


def draw_case_cells(view: CaseView) -> None:
    """Draws a switch, and behind it the most decisive cells of the case, by class.

    Fields whose answer is hidden have no part in it.
    """
    done = [field for field in view.case.done() if not hides(view, field, in_list=True)]
    answers = (counted_answer(field.result) for field in done)
    called = {answer.class_name for answer in answers if answer}
    if len(done) < 2 or not called:  # one field shows its cells itself
        return
    if not st.toggle(
        "Most decisive cells of the case",
        key="case-cells",
        help=f"Of each class the {DECISIVE} cells with the most evidence for it, in the fields "
        "that are called so. Nothing says that such a cell is a blast.",
    ):
        return
    classes = [name for name in CLASS_NAMES if name in called]
    if st.session_state.get("cells-class") not in classes:
        st.session_state["cells-class"] = classes[0]
    class_name = st.segmented_control(
        "Class", classes, key="cells-class", required=True, label_visibility="collapsed"
    )
    with st.spinner("Looking for the most decisive cells ..."):
        # Each step of the bar is a moment at which the page can take what the user does.
        place = st.empty()
        best = decisive_cells(done, class_name, progress=place.progress)
        place.empty()
        wanted: dict[str, list[Cell]] = {}
        for field, cell in best:
            wanted.setdefault(field.key, []).append(cell)
            field.seen = True
        kept = _kept(view.case)
        pictures = {
            (key, cell.number): picture
            for key, cells in wanted.items()
            for cell, picture in zip(
                cells, _pictures(kept, view.case.fields[key], tuple(cells)), strict=True
            )
        }
    if not best:
        st.caption(f"No nucleated cell carries evidence for {class_name}.")
        return
    _component(
        key="case-cells-gallery",
        data={
            "title": f"Cells with the most evidence for {class_name}; a click opens the field",
            "crops": [
                {
                    "id": f"{field.key} {field.cells.index(cell)}",
                    "picture": pictures[field.key, cell.number],
                    "share": percent(cell.proportion),
                    "label": f"{field.name}: {percent(cell.proportion)} of the field's evidence for "
                    f"{class_name}; open the field",
                }
                for field, cell in best
            ],
        },
        on_chosen_change=lambda: open_cell(
            view, st.session_state["case-cells-gallery"].get("chosen")
        ),
    )


def open_cell(view: CaseView, chosen: str | None) -> None:
    """Selects the field of a crop and marks its cell; one that has gone is passed over."""
    if not chosen:
        return
    key, place = chosen.split(" ")
    if key in view.case.fields:
        # The last number lets the same cell be asked for again.
        st.session_state["marked-cell"] = (key, int(place), view.steps)
        for filtered in ("statuses", "classes", "verdicts"):  # by which the field may not be listed
            st.session_state[filtered] = []
        view.step_to(key)

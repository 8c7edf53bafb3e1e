"""Exports of a case: CSV, PDF report, ZIP of overlays. Made on the click, not before."""

from collections.abc import Container
from datetime import datetime

import streamlit as st

from mseenet.case import words
from mseenet.case.cells import FieldCells
from mseenet.case.export import CaseContext, CaseField, case_csv, case_zip
from mseenet.case.fields import Case, Field, by_doubt
from mseenet.case.labelled import labelled, missing_classes, training_folder
from mseenet.case.pdf import case_pdf
from mseenet.inference.classifier import Classifier, without_answer
from mseenet.ui.cells import evidence_on_cells
from mseenet.ui.session import CaseView, reads_blind
from mseenet.version import version_text

SHOWN_IN_REPORT = 12
"""The most doubtful fields whose pictures go into the report unless the user chooses others."""


def draw_exports(view: CaseView, classifier: Classifier) -> None:
    """Draws the buttons for downloads of all analysed fields."""
    case = view.case
    st.html('<h2 class="mseenet-section">Take away</h2>')
    if missing := words.missing_from_exports(len(case.waiting()), len(case.left_out)):
        st.caption(f":material/info: {missing}")
    with st.container(horizontal=True, vertical_alignment="center", key="exports"):
        # In blind reading even an order tells of the answers.
        order = list if reads_blind() else by_doubt
        chosen = _choose_pictures(view, order(case.done()))

        # All of it is read on the click: opacity, colours and what is analysed by then change
        # without this being drawn.
        def report() -> bytes:
            fields, waiting = _now(case)
            positions = [i for i, field in enumerate(fields) if field.key in chosen]
            exported, context = _exported(fields, chosen), _context(case, waiting, classifier)
            return case_pdf(exported, context, positions, case.opacity, case.color_map)

        def table() -> bytes:
            fields, waiting = _now(case)
            return case_csv(_exported(fields, ()), _context(case, waiting, classifier))

        def overlays() -> bytes:
            fields, waiting = _now(case)
            exported, context = _exported(fields, case.fields), _context(case, waiting, classifier)
            return case_zip(exported, context, case.opacity, case.color_map)

        for label, suffix, mime, make in (
            ("PDF report", "pdf", "application/pdf", report),
            ("CSV table", "csv", "text/csv", table),
            ("ZIP of overlays", "zip", "application/zip", overlays),
        ):
            st.download_button(
                label,
                make,
                f"mseenet-case-{datetime.now():%Y%m%d-%H%M}.{suffix}",
                mime,
                key=f"download-{suffix}",
                on_click="ignore",
            )
        if labels := len(labelled(case.done())):
            st.download_button(
                f"Training folder: {labels}",
                lambda: training_folder(case.done(), datetime.now()),
                f"mseenet-labelled-{datetime.now():%Y%m%d-%H%M}.zip",
                "application/zip",
                key="download-training",
                on_click="ignore",
                help=words.TRAINING_FOLDER,
            )
    if labels and (absent := missing_classes(case.done())):
        st.caption(
            f":material/info: The training folder has no field of {', '.join(absent)}; training "
            "needs all four classes, so add it to a folder that has them."
        )


def _choose_pictures(view: CaseView, fields: list[Field]) -> list[str]:
    """Keys of the fields whose pictures go into the report."""
    names = {field.key: field.name for field in fields if field.readable}
    if view.pictured is None:
        default = list(names)[:SHOWN_IN_REPORT]
    else:
        default = [key for key in view.pictured if key in names]
    # Another name with every change of the fields: the widget starts with the choice anew.
    key = f"report-{hash(tuple(names.items()))}"
    chosen = st.session_state.get(key, default)
    with st.popover(f"Pictures in the report: {len(chosen)} of {len(names)}"):
        return st.multiselect(
            "Fields shown in the report",
            list(names),
            default=default,
            format_func=names.__getitem__,
            key=key,
            placeholder="none",
            help=f"At first the {SHOWN_IN_REPORT} most doubtful ones.",
            on_change=lambda: view.choose_pictures(st.session_state[key]),
        )


def _now(case: Case) -> tuple[list[Field], list[Field]]:
    """The analysed fields, most doubtful first, and those that wait: each field in one of them.

    A download runs beside the analysis, which may finish a field between two looks at it.
    """
    waiting = case.waiting()
    late = {field.key for field in waiting}
    return by_doubt(f for f in [*case.fields.values()] if f.key not in late), waiting


def _context(case: Case, waiting: list[Field], classifier: Classifier) -> CaseContext:
    return CaseContext(
        label=case.label,
        weights=classifier.card.sha256,
        version=version_text(),
        release=classifier.card.release,
        device=classifier.device,
        made=datetime.now().astimezone(),
        settings={
            "Heatmap": "Grad-CAM of the predicted class",
            "Opacity": f"{100 * case.opacity:.0f} %",
            "Colours": case.color_map,
        },
        waiting=[field.name for field in waiting],
        left_out=[(item.name, item.reason) for item in case.left_out],
        slide_evidence=words.slide_evidence(classifier.card.content.get("metrics") or {}),
        profile=None if classifier.card.profile is None else classifier.card.profile.title,
        waiting_slides=[(field.name, field.slide) for field in waiting if field.slide],
        waiting_cuts=[(field.name, field.cut) for field in waiting if field.cut],
    )


def _exported(fields: list[Field], pictured: Container[str]) -> list[CaseField]:
    """What of the fields is exported; pictures only of those with the keys `pictured`."""
    exported = []
    for field in fields:
        prediction = field.result
        field.seen = True  # to whoever opens the file
        if prediction.status == "rejected" and not field.include_rejected:
            prediction = without_answer(prediction)
        on, near = evidence_on_cells(field, prediction.heatmap) or (None, None)
        shown = field.readable and field.key in pictured
        exported.append(
            CaseField(
                field.name,
                prediction,
                field.pixels if shown else None,
                on,
                field.synthetic,
                verdict=field.verdict,
                recorded=field.recorded,
                evidence_near_nuclei=near,
                cells=FieldCells(field, prediction.class_name is not None) if shown else None,
                slide=field.slide,
                cut=field.cut,
            )
        )
    return exported

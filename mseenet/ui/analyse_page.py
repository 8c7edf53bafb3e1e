"""The page on which a case is taken in, analysed, read and exported."""

import streamlit as st

from mseenet.inference.classifier import Classifier
from mseenet.ui.analysis import analyse, analyse_next, draw_progress, ends_soon
from mseenet.ui.case_summary import draw_summary
from mseenet.ui.cells import draw_case_cells
from mseenet.ui.charts import preload
from mseenet.ui.copies import draw_copies
from mseenet.ui.exports import draw_exports
from mseenet.ui.field_list import draw_field_list
from mseenet.ui.field_view import draw_field_view
from mseenet.ui.frame import draw_empty_state
from mseenet.ui.intake import draw_intake, draw_messages
from mseenet.ui.saved_case import draw_missing_parts, draw_recorded, draw_save
from mseenet.ui.session import CaseView, current_view, new_case
from mseenet.ui.shared import prepare_methods
from mseenet.ui.verdict import draw_blind_switch, draw_reader_name


def draw_analyse_page(classifier: Classifier) -> None:
    """Draws the case of this session; the fields that wait are analysed at the end."""
    view = current_view()
    case = view.case
    # Emptied at once when a case begins: what it held would stay until all is analysed.
    start = st.empty()
    if not case.fields:
        with start.container():
            draw_messages(case)
            taken = draw_intake(view, classifier)
            draw_blind_switch()
            draw_empty_state()
        preload()
        if taken:
            _begin(view, classifier)
        return
    with st.container(key="case"):
        _draw_case_bar(view, classifier)
        draw_messages(case)
        draw_missing_parts(view)
        draw_recorded(view, classifier)
        progress, summary = st.empty(), st.empty()
        with progress.container():
            bar = draw_progress(view)
        # Nobody reads a field in that time. What was on the page stays there, though, while
        # fields that were added later are analysed.
        soon = ends_soon(view) and not view.listed
        if case.done():
            with summary.container():
                draw_summary(view, classifier.card, counts_alone=soon)
                draw_copies(view)
        if soon:
            analyse(view, classifier, case.waiting(), bar)
            if view.problem:
                st.rerun()  # to say it
            progress.empty()
            with summary.container():
                draw_summary(view, classifier.card)
                draw_copies(view)
        if case.done():
            view.listed = True
            if len(case.fields) == 1:
                draw_field_view(view, classifier, case.done())
            else:
                list_side, field_side = st.columns([4, 10], gap="medium")
                with list_side:
                    listed = draw_field_list(view)
                with field_side:
                    if listed:
                        draw_field_view(view, classifier, listed)
                draw_case_cells(view)
            draw_exports(view, classifier)
    analyse_next(view, classifier, bar)
    prepare_methods(classifier)


def _begin(view: CaseView, classifier: Classifier) -> None:
    """Analyses the first fields of an intake before anything is drawn of it: that is sooner."""
    analyse_next(view, classifier)
    st.rerun()


def _draw_case_bar(view: CaseView, classifier: Classifier) -> None:
    case = view.case
    with st.container(horizontal=True, vertical_alignment="center", key="case-bar"):
        case.label = st.text_input(
            "Case label",
            key="label",
            placeholder="Case label (optional)",
            max_chars=80,
            width=220,
            label_visibility="collapsed",
        )
        draw_reader_name(case)
        draw_blind_switch()
        st.space("stretch")
        draw_save(view, classifier)
        with st.popover("Add more fields", icon=":material/add:", width=190):
            taken = draw_intake(view, classifier)
        if taken:
            _begin(view, classifier)
        with st.popover("New case", width=130):
            fields = f"{len(case.fields)} fields" if len(case.fields) > 1 else "field"
            verdicts = sum(field.verdict is not None for field in case.fields.values())
            also = f" and {verdicts} verdict{'s' * (verdicts > 1)}" if verdicts else ""
            unsaved = "; not saved" if view.unsaved() else ""
            st.markdown(f"This forgets the {fields}{also} of this session{unsaved}.")
            st.button("Forget and begin anew", on_click=new_case, type="primary")

"""The page on which a case is taken in, analysed, read and taken away."""

import streamlit as st

from mseenet.classifier import Classifier
from mseenet.ui.analysis import analyse_next, draw_progress
from mseenet.ui.case import Case, current_case, new_case
from mseenet.ui.case_summary import draw_summary
from mseenet.ui.field_list import draw_field_list
from mseenet.ui.field_view import draw_field_view
from mseenet.ui.frame import draw_empty_state
from mseenet.ui.intake import draw_intake, draw_problems
from mseenet.ui.take_away import draw_take_away


def draw_analyse_page(classifier: Classifier) -> None:
    """Draws the case of this session; the fields that wait are analysed at the end."""
    case = current_case()
    if not case.fields:
        draw_intake(case)
        draw_problems(case.problems)
        draw_empty_state()
        return
    _draw_case_bar(case)
    draw_problems(case.problems)
    draw_progress(case)
    if case.done():
        draw_summary(case)
        listed = draw_field_list(case)
        if listed:
            draw_field_view(case, classifier, listed)
        draw_take_away(case, classifier)
    analyse_next(case, classifier)


def _draw_case_bar(case: Case) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", key="case-bar"):
        case.label = st.text_input(
            "Case label",
            key=f"label-{id(case)}",
            placeholder="optional; stays in this browser session",
            max_chars=80,
            width=320,
        )
        st.button("New case", on_click=new_case, help="Forgets all fields of this session.")
    with st.expander("Add more fields", key="more"):
        draw_intake(case)

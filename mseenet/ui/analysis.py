"""Runs the network over the fields that wait, a few at a time, while the page stays usable."""

import time

import streamlit as st

from mseenet.classifier import Classifier
from mseenet.ui.case import Case

FIELDS_AT_ONCE = 16
"""After so many the page is drawn anew: results appear while the rest still runs."""


def draw_progress(case: Case) -> None:
    """Draws how far the analysis is, with the time left, and a button to stop or go on."""
    waiting, total = len(case.waiting()), len(case.fields)
    if not waiting:
        return
    with st.container(horizontal=True, vertical_alignment="center", key="progress"):
        text = f"Analysing fields: {total - waiting} of {total}"
        rate = st.session_state.get("seconds_per_field")
        if rate:
            text += f", about {max(1, round(rate * waiting))} s left"
        if case.paused:
            text = f"Stopped after {total - waiting} of {total} fields"
        st.progress((total - waiting) / total, text=text)
        if st.button("Go on" if case.paused else "Stop", key="pause"):
            case.paused = not case.paused
            st.rerun()
    if waiting == total:
        st.caption("Results appear here while the rest still runs.")


def analyse_next(case: Case, classifier: Classifier) -> None:
    """Predicts the next waiting fields; the page runs anew afterwards."""
    fields = case.waiting()[:FIELDS_AT_ONCE]
    if case.paused or not fields:
        return
    started = time.monotonic()
    contents = [field.content for field in fields]
    # What the network says of rejected fields is computed too, and shown only on request.
    predictions = classifier.stream(contents, "predicted", batch_size=8, anyway=True)
    for field, prediction in zip(fields, predictions, strict=True):
        field.take(prediction)
    st.session_state["seconds_per_field"] = (time.monotonic() - started) / len(fields)
    st.rerun()

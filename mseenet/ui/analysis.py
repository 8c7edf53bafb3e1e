"""Runs the network over the fields that wait, while the page stays usable."""

import time

import streamlit as st

from mseenet.classifier import Classifier
from mseenet.ui.case import Case

FIELDS_AT_ONCE = 16
"""After so many the first results are drawn; then whenever there are seven times as many, as
drawing them takes longer than analysing a few more."""

BATCH = 8
"""Fields between two steps of the progress bar, where a click on Stop is heard."""


def draw_progress(case: Case):
    """Draws how far the analysis is, with the time left, and a button to stop or go on.

    Returns:
        The progress bar, for `analyse_next`; None if no field waits.
    """
    waiting, total = len(case.waiting()), len(case.fields)
    if not waiting:
        return None
    with st.container(horizontal=True, vertical_alignment="center", key="progress"):
        bar = st.progress(0.0)
        _show(bar, case)
        if st.button("Go on" if case.paused else "Stop", key="pause"):
            case.paused = not case.paused
            st.rerun()
    if waiting == total:
        st.caption("Results appear here while the rest still runs.")
    return bar


def analyse_next(case: Case, classifier: Classifier, bar=None) -> None:
    """Predicts the next waiting fields, then draws the page anew.

    Args:
        case: Keeps each result at once: an interruption loses nothing.
        classifier: Predicts.
        bar: Of `draw_progress`, if there is one.
    """
    waiting = case.waiting()
    if case.paused or not waiting:
        return
    fields = waiting[: max(FIELDS_AT_ONCE, 6 * len(case.done()))]
    started = time.monotonic()
    contents = (field.content for field in fields)
    # What the network says of rejected fields is computed too, and shown only on request.
    predictions = classifier.stream(contents, "predicted", batch_size=BATCH, anyway=True)
    for number, (field, prediction) in enumerate(zip(fields, predictions, strict=True), start=1):
        field.prediction = prediction
        if number % BATCH == 0:
            st.session_state["seconds_per_field"] = (time.monotonic() - started) / number
            if bar:
                _show(bar, case)
    st.rerun()


def _show(bar, case: Case) -> None:
    waiting, total = len(case.waiting()), len(case.fields)
    done = total - waiting
    if case.paused:
        text = f"Stopped after {done} of {total} fields"
    else:
        text = f"Analysing fields: {done} of {total}"
        if rate := st.session_state.get("seconds_per_field"):
            text += f", about {max(1, round(rate * waiting))} s left"
    bar.progress(done / total, text=text)

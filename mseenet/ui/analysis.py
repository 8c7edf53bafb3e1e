"""Runs the network over the fields that wait, while the page stays usable."""

import time
from collections.abc import Callable

import numpy as np
import streamlit as st

from mseenet.case.fields import Case, Field
from mseenet.errors import MSEENetError
from mseenet.inference.classifier import Classifier, Prediction
from mseenet.inference.remote import ServerError
from mseenet.inference.scheduler import BusyError, Place
from mseenet.ui.frame import plain
from mseenet.ui.session import CaseView
from mseenet.ui.shared import draw_error, scheduler_of
from mseenet.ui.streamlit_internals import is_connected, running_session

FIELDS_AT_ONCE = 16
"""After so many the first results are drawn; then whenever there are seven times as many, as
drawing them takes longer than analysing a few more."""

STEP = 0.5
"""Seconds, about, between two steps of the progress bar, where a click on Stop takes effect."""

SHORTEST_WAIT = 5.0
"""Seconds, at least, until a page for which there was no place in line tries again by itself."""

LONGEST_WAIT = 20.0
"""Seconds, at most, until it does: the line may move faster than its last steps told."""

SOON = 4.0
"""Seconds in which nobody reads a field, while drawing it slows the analysis of the others down by
a fifth."""

LONGEST_SCALING = 20.0
"""Seconds, at most, for which an intake waits in line to have the size of cells told."""

NO_SERVICE = (
    "The service that holds the network does not answer. Nothing is lost: the fields that have no "
    "answer yet are analysed when you go on."
)

BUSY = (
    "This server is busy: {cases} cases are being analysed or wait in line, and it takes no more. "
    "Try again in {pause}; this page does so by itself while it is open. Nothing is lost."
)


def ends_soon(view: CaseView) -> bool:
    """Whether the analysis is running and over within `SOON`."""
    return bool(view.case.waiting()) and not view.paused and _seconds_left(view.case) < SOON


def draw_progress(view: CaseView):
    """Draws how far the analysis is, with the time left, and a button to stop or go on.

    Returns:
        The progress bar, for `analyse_next`; None if no field waits.
    """
    waiting, total = len(view.case.waiting()), len(view.case.fields)
    if not waiting:
        return None
    with st.container(horizontal=True, vertical_alignment="center", key="progress"):
        bar = st.progress(0.0)
        _show(bar, view.case, view.paused)
        busy = isinstance(view.problem, BusyError)
        label = "Try again now" if busy else "Go on" if view.paused else "Stop"
        if st.button(label, key="pause"):
            if view.paused:
                view.go_on()
            else:
                view.stop()
            st.rerun()
    if view.problem:
        draw_problem(view.problem, view.go_on)
    elif waiting == total:
        st.caption("Results appear here while the rest still runs.")
    return bar


def draw_problem(problem: MSEENetError, go_on: Callable[[], None]) -> None:
    """Says why an analysis has stopped by itself; one for which the line was full is tried again.

    Args:
        problem: What stopped it.
        go_on: Lets it go on with the next run of the page.
    """
    if not isinstance(problem, BusyError):
        draw_error(NO_SERVICE, problem)
        return
    pause = max(SHORTEST_WAIT, problem.seconds or 0)
    end = problem.made + min(pause, LONGEST_WAIT)

    @st.fragment(run_every=max(1.0, end - time.monotonic()))
    def wait() -> None:
        if time.monotonic() >= end:
            go_on()
            st.rerun()
        about = "a moment" if problem.seconds is None else f"about {round(pause)} s"
        st.warning(BUSY.format(cases=problem.cases, pause=about), icon=":material/hourglass_top:")

    wait()


def scales_of(
    view: CaseView, classifier: Classifier, fields: list[np.ndarray]
) -> list[float | None]:
    """What `Classifier.scales` tells, in the case's turn.

    None where the line is full or long or a service does not answer, so that no intake fails
    or is held up by it.
    """
    answers: dict[int, Prediction] = {}
    scheduler, session = scheduler_of(classifier), running_session()
    try:
        job = scheduler.submit(
            view.case, enumerate(fields), answers.__setitem__, lambda: is_connected(session)
        )
        job.wait(LONGEST_SCALING)
        job.cancel()
    except (BusyError, ServerError):
        answers.clear()
    return [answers[i].scale if i in answers else None for i in range(len(fields))]


def analyse_next(view: CaseView, classifier: Classifier, bar=None) -> None:
    """Predicts the next waiting fields, then draws the page anew.

    Args:
        view: Its case keeps each result at once: an interruption loses nothing.
        classifier: Predicts.
        bar: Of `draw_progress`, if there is one.
    """
    case = view.case
    waiting = case.waiting()
    if view.paused or not waiting:
        return
    # Who has to wait in line is to see that first.
    if bar is not None or not scheduler_of(classifier).is_full():
        analyse(view, classifier, waiting[: max(FIELDS_AT_ONCE, 6 * len(case.done()))], bar)
    st.rerun()


def analyse(view: CaseView, classifier: Classifier, fields: list[Field], bar=None) -> None:
    """Predicts fields of the case, which keeps each result at once; see `Scheduler`.

    A service that does not answer, or a line that is full, stops the analysis; the fields without
    an answer wait.
    """
    case = view.case
    scheduler, session = scheduler_of(classifier), running_session()
    started, known = time.monotonic(), len(fields)
    images = [(field, field.content) for field in fields]
    later = len(case.waiting()) - known
    try:
        job = scheduler.submit(case, images, case.settle, lambda: is_connected(session), later)
    except BusyError as error:
        view.stop(error)
        return
    del images
    try:
        # Whatever is drawn is where Streamlit ends a script that is no longer needed.
        while not job.wait(STEP):
            place = scheduler.place(job)
            if done := known - job.left:
                st.session_state["seconds_per_field"] = (time.monotonic() - started) / done
            if bar:
                _show(bar, case, place=place, trouble=classifier.trouble)
            elif classifier.trouble or place.ahead:
                return  # to the page, which has a bar then and says it
    except ServerError as error:
        view.stop(error)
    finally:
        job.cancel()
    st.session_state["seconds_per_field"] = (time.monotonic() - started) / max(1, known)


def _seconds_left(case: Case) -> float:
    """Infinite as long as the speed is not known."""
    return st.session_state.get("seconds_per_field", np.inf) * len(case.waiting())


def _show(
    bar, case: Case, paused: bool = False, place: Place | None = None, trouble: str = ""
) -> None:
    waiting, total = len(case.waiting()), len(case.fields)
    done = total - waiting
    if paused:
        text = f"Stopped after {done} of {total} fields"
    elif trouble:
        text = f"Waiting for the network after {done} of {total} fields: {plain(trouble)}"
    elif place and place.ahead:
        text = f"This server is busy: {place.ahead} in line before this case"
        if place.seconds is not None:
            text += f", about {max(1, round(place.seconds))} s left"
    else:
        text = f"Analysing fields: {done} of {total}"
        if (seconds := _seconds_left(case)) < np.inf:
            text += f", about {max(1, round(seconds))} s left"
    bar.progress(done / total, text=text)

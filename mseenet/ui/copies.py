"""Tells of fields that came in several files, and lets the user decide how often they count."""

import streamlit as st

from mseenet.case.copies import copies_among
from mseenet.case.fields import Field, some_of
from mseenet.ui.frame import plain
from mseenet.ui.session import CaseView


def draw_copies(view: CaseView) -> None:
    """Draws what looks the same, and the choice between counting it once and each time.

    Drawn when all fields are analysed, so that the question is asked once.
    """
    if view.case.waiting():
        return
    groups = [group for group in _groups(view) if not _kept(view, group)]
    if not groups:
        return
    copies = [field for group in groups for field in group[1:]]
    named = some_of([" = ".join(field.name for field in group) for group in groups])
    counts = "1 file shows" if len(copies) == 1 else f"{len(copies)} files show"
    with st.container(horizontal=True, vertical_alignment="center", key="copies"):
        st.warning(
            f"{counts} the same as another one, in another format or size or photographed again: "
            f"{plain(named)}. Each counts as a field of its own.",
            icon=":material/content_copy:",
        )
        st.button("Count each field once", on_click=_leave_out, args=(view, groups))
        st.button("Keep all", on_click=_keep, args=(view, groups), type="tertiary")


def _groups(view: CaseView) -> list[list[Field]]:
    """Copies in the case; compared anew only when its fields have changed."""
    done = view.case.done()
    known = st.session_state.get("copies")
    keys = tuple(field.key for field in done)
    if known is None or known[0] != keys:
        known = st.session_state["copies"] = keys, copies_among(done)
    return known[1]


def _kept(view: CaseView, group: list[Field]) -> bool:
    return all(field.key in view.kept_copies for field in group)


def _leave_out(view: CaseView, groups: list[list[Field]]) -> None:
    for kept, *copies in groups:
        for field in copies:
            kept.verdict = kept.verdict or field.verdict  # which showed the same
            view.case.leave_out_copy(field.key)
            if view.selected == field.key:
                view.selected = None


def _keep(view: CaseView, groups: list[list[Field]]) -> None:
    view.kept_copies.update(field.key for group in groups for field in group)

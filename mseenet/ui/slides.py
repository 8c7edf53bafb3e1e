"""Which slide the fields are of: told by names, or by hand."""

from collections import Counter
from collections.abc import Iterable, Sequence

import streamlit as st

from mseenet.case import words
from mseenet.case.fields import Case, Field
from mseenet.case.slides import LONGEST_PATTERN, LONGEST_SLIDE, PatternError, in_order
from mseenet.ui.frame import plain
from mseenet.ui.session import CaseView


def slides_of(case: Case) -> list[str | None]:
    """The slides of a case in the order of their names; None for fields of which none is known."""
    return sorted({field.slide for field in case.fields.values()}, key=in_order)


def groups(case: Case) -> bool:
    """Whether the list is grouped by slide."""
    return bool(st.session_state.get("by-slide")) and len(slides_of(case)) > 1


def grouped(case: Case, fields: Sequence[Field]) -> list[Field]:
    """Fields by slide, in their order within each; as they are if the list is not grouped."""
    return sorted(fields, key=lambda f: in_order(f.slide)) if groups(case) else list(fields)


def draw_slides(view: CaseView, shown: Field | None, listed: Sequence[Field]) -> None:
    """Draws how slides are told, into the container that is open.

    Args:
        view: Of this session.
        shown: The field that is looked at.
        listed: All that the list holds.
    """
    case = view.case
    names = [slide for slide in slides_of(case) if slide is not None]
    st.caption(plain(words.SLIDES))
    st.text_input(
        "Pattern of file names",
        key="slide-pattern",
        placeholder="folders tell the slide",
        help="Such as {slide}_* for S12_001.jpg",
        max_chars=LONGEST_PATTERN,
        on_change=_name_slides,
        args=(view,),
    )
    if view.pattern_problem:
        st.error(plain(view.pattern_problem), icon=":material/error:")
    st.toggle("Group the list by slide", key="by-slide")
    st.toggle("Mark fields in the gallery", key="mark-fields")
    st.text_input(
        "Put on slide",
        key="slide-name",
        placeholder="name of a slide",
        max_chars=LONGEST_SLIDE,
        help="For fields of which names do not tell it: " + ", ".join(map(plain, names[:5])),
    )
    name = st.session_state.get("slide-name", "").strip()
    marked = [key for key in view.marked if key in case.fields]
    with st.container(horizontal=True, gap="xsmall"):
        for label, keys in (
            ("This field", [shown.key] if shown else []),
            (f"Marked: {len(marked)}", marked),
            (f"All listed: {len(listed)}", [field.key for field in listed]),
        ):
            st.button(
                label,
                key=f"slide-{label.split(':')[0]}",
                disabled=not (name and keys),
                on_click=_put,
                args=(view, keys, name),
            )
        by_hand = [field.key for field in case.fields.values() if field.slide_by_hand]
        st.button(
            "By names again",
            key="slide-by-names",
            type="tertiary",
            disabled=not by_hand,
            on_click=_put,
            args=(view, by_hand, None),
        )
    counts = Counter(field.slide for field in case.fields.values())
    without = counts.pop(None, 0)
    if without:
        st.caption(f"{without} of {len(case.fields)} fields are of no known slide.")


def draw_mark(view: CaseView, field: Field) -> None:
    """Draws the box by which a field is marked, if fields are being marked."""
    if st.session_state.get("mark-fields"):
        key = f"mark-{field.key[:12]}"
        st.checkbox(
            "mark",
            value=field.key in view.marked,
            key=key,
            on_change=lambda: _mark(view, field.key, st.session_state[key]),
        )


def _mark(view: CaseView, key: str, on: bool) -> None:
    (view.marked.add if on else view.marked.discard)(key)


def _name_slides(view: CaseView) -> None:
    view.pattern_problem = ""
    try:
        view.case.name_slides(st.session_state["slide-pattern"].strip())
    except PatternError as error:
        view.pattern_problem = str(error)
    view.steps += 1


def _put(view: CaseView, keys: Iterable[str], slide: str | None) -> None:
    view.case.put_on_slide(keys, slide)
    for key in view.marked:
        st.session_state.pop(f"mark-{key[:12]}", None)
    view.marked.clear()
    view.steps += 1

"""The fields of a case as a table or a gallery: filtered, ordered, one of them selected."""

import base64
import html

import streamlit as st

from mseenet import words
from mseenet.config import CLASS_NAMES
from mseenet.report import percent
from mseenet.ui.case import Case, Field, by_doubt

ORDERS = {
    "Most doubtful first": by_doubt,
    "File name": lambda fields: sorted(fields, key=lambda f: f.name.casefold()),
    "As added": list,
}
GALLERY_PAGE = 24
ROW_HEIGHT = 44
"""Of the table, in pixels."""


def draw_field_list(case: Case) -> list[Field]:
    """Draws the filters and the list; returns what is listed, in order.

    What the user chooses there becomes `case.selected`.
    """
    with st.container(horizontal=True, vertical_alignment="bottom", key="filters"):
        view = st.segmented_control(
            "View", ("Table", "Gallery"), default="Table", required=True, key="view"
        )
        order = st.selectbox("Order", list(ORDERS), key="order", width=210)
        statuses = st.multiselect(
            "Status",
            list(words.STATUS_TITLES),
            format_func=words.STATUS_TITLES.get,
            key="statuses",
            placeholder="all",
            width=210,
        )
        classes = st.multiselect("Class", CLASS_NAMES, key="classes", placeholder="all", width=210)
    listed = [
        field
        for field in ORDERS[order](case.done())
        if (not statuses or field.prediction.status in statuses)
        and (not classes or named_class(field) in classes)
    ]
    if not listed:
        st.caption("No field matches." if case.done() else "No field is analysed yet.")
        return listed
    (_draw_table if view == "Table" else _draw_gallery)(case, listed)
    return listed


def named_class(field: Field) -> str | None:
    """The class that the field is called, None for one that is refused or unreadable."""
    prediction = field.prediction
    return prediction.class_name if prediction.status in ("ok", "review") else None


def thumbnail_uri(field: Field) -> str | None:
    """The thumbnail as a data URI, None for an unreadable field."""
    if not field.thumbnail:
        return None
    return "data:image/jpeg;base64," + base64.b64encode(field.thumbnail).decode()


def _draw_table(case: Case, listed: list[Field]) -> None:
    keys = [field.key for field in listed]
    position = listed.index(case.shown(listed))
    # The selection of a table cannot be set from here; a table of another name starts with it.
    name = f"table-{hash((tuple(keys), st.session_state.get('steps', 0)))}"
    event = st.dataframe(
        {
            "Field": [thumbnail_uri(field) for field in listed],
            "File": [field.name for field in listed],
            "Status": [words.STATUS_TITLES[field.prediction.status] for field in listed],
            "Class": [named_class(field) for field in listed],
            "Confidence": [
                100 * field.prediction.confidence if named_class(field) else None
                for field in listed
            ],
            "Novelty": [field.prediction.novelty for field in listed],
            "Reasons": ["; ".join(field.prediction.reasons) for field in listed],
        },
        height=min(9, len(listed) + 1) * ROW_HEIGHT,
        row_height=ROW_HEIGHT,
        hide_index=True,
        placeholder="-",
        column_config={
            "Field": st.column_config.ImageColumn(width=60),
            "File": st.column_config.TextColumn(width="medium"),
            "Status": st.column_config.TextColumn(width="small"),
            "Class": st.column_config.TextColumn(width="small"),
            "Confidence": st.column_config.NumberColumn(format="%.1f %%", width="small"),
            "Novelty": st.column_config.NumberColumn(
                format="%.2f", width="small", help=words.NOVELTY
            ),
            "Reasons": st.column_config.TextColumn(width="large"),
        },
        selection_mode="single-row-required",
        selection_default={"selection": {"rows": [position]}},
        on_select="rerun",
        key=name,
        alt=f"{len(listed)} fields with file name, status, class, confidence and reasons",
    )
    rows = event.selection.rows
    # Unless the user has chosen, the most doubtful field is shown, also when more results come.
    if rows and rows[0] != position:
        case.selected = keys[rows[0]]


def _draw_gallery(case: Case, listed: list[Field]) -> None:
    pages = -(-len(listed) // GALLERY_PAGE)
    page = st.pagination(pages, key="gallery-page") if pages > 1 else 1
    first = (page - 1) * GALLERY_PAGE
    with st.container(horizontal=True, gap="small", key="gallery"):
        for field in listed[first : first + GALLERY_PAGE]:
            _draw_card(case, field, field is case.shown(listed))


def _draw_card(case: Case, field: Field, selected: bool) -> None:
    answer = named_class(field) or words.STATUS_TITLES[field.prediction.status]
    key = "card-selected" if selected else f"card-{field.key[:12]}"
    with st.container(width=132, gap=None, key=key):
        uri = thumbnail_uri(field)
        picture = f'<img src="{uri}" alt="">' if uri else "<span></span>"
        status = field.prediction.status
        st.html(
            f'<div class="mseenet-card mseenet-{status}">{picture}<small>'
            f"{html.escape(words.STATUS_TITLES[status])}</small></div>"
        )
        shown = f"{answer} {percent(field.prediction.confidence)}" if named_class(field) else answer
        chosen = st.button(
            f"✓ {shown}" if selected else shown,
            key=f"choose-{field.key[:12]}",
            help=field.name,
            width="stretch",
        )
        if chosen:
            case.selected = field.key
            st.rerun()

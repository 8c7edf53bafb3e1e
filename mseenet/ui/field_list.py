"""The fields of a case as a table or a gallery: filtered, ordered, one of them selected."""

import html
from collections.abc import Container
from itertools import groupby

import streamlit as st

from mseenet.case import words
from mseenet.case.answers import counted_answer
from mseenet.case.fields import Field, by_doubt
from mseenet.case.records import percent
from mseenet.case.slides import short_names
from mseenet.case.summary import NO_SLIDE
from mseenet.case.verdicts import DIFFERS
from mseenet.config import CLASS_NAMES
from mseenet.ui.frame import plain
from mseenet.ui.pictures import data_uri
from mseenet.ui.session import CaseView, reads_blind
from mseenet.ui.slides import draw_mark, draw_slides, grouped, groups, slides_of
from mseenet.ui.verdict import FILTERS, HIDDEN, by_difference, filter_of, hides, reader_text

TABLE_PAGE, GALLERY_PAGE = 10, 12
"""Fields on one page of the list: the selected one is always in sight."""

ROW_HEIGHT = 40
"""Of the table, in pixels."""

DIFFERENCE_FIRST = "Where we differ first"

COLUMNS = {
    "Status": "Most doubtful first",
    "Class": "Class",
    "Reader": DIFFERENCE_FIRST,
    "Confidence": "Least confident first",
    "Cells": "Fewest cells first",
    "File": "File name",
    "Novelty": "Most novel first",
}
"""The order that a click on the head of a column stands for."""


def _by(key):
    return lambda fields: sorted(fields, key=key)


ORDERS = {
    "Most doubtful first": by_doubt,
    "Least confident first": _by(lambda f: (named_class(f) is None, f.result.confidence or 0)),
    "Most confident first": _by(lambda f: (named_class(f) is None, -(f.result.confidence or 0))),
    "Most novel first": _by(lambda f: -(f.result.novelty or 0)),
    "Fewest cells first": _by(
        lambda f: (f.result.nucleated_cells is None, f.result.nucleated_cells or 0)
    ),
    "Class": _by(lambda f: [*CLASS_NAMES, None].index(named_class(f))),
    DIFFERENCE_FIRST: by_difference,
    "File name": _by(lambda f: f.name.casefold()),
    "As added": list,
}

BLIND_ORDERS = ("As added", "File name")
"""Those that tell nothing of the network's answers."""


def draw_field_list(view: CaseView) -> list[Field]:
    """Draws the filters and the list; returns what is listed, in order.

    What the user chooses there becomes `view.selected`.
    """
    case = view.case
    st.session_state.setdefault("view", "Table")
    st.session_state.setdefault("by-slide", True)
    slides = slides_of(case)
    titles = [slide or NO_SLIDE for slide in slides]
    if chosen := st.session_state.get("slides"):  # a slide may be called otherwise by now
        left = [title for title in chosen if title in titles] if len(slides) > 1 else []
        st.session_state["slides"] = left
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key="filters"):
        form = st.segmented_control(
            "View",
            ("Table", "Gallery"),
            required=True,
            key="view",
            label_visibility="collapsed",
        )
        blind = reads_blind()
        by_answer = () if blind else ("statuses", "classes")
        filters = [
            name
            for key in (*by_answer, "verdicts", "slides")
            for name in st.session_state.get(key, ())
        ]
        with st.popover(f"Filter: {len(filters)}" if filters else "Filter"):
            statuses, classes = [], []
            if not blind:
                statuses = st.multiselect(
                    "Status",
                    list(words.STATUS_TITLES),
                    format_func=words.STATUS_TITLES.get,
                    key="statuses",
                    placeholder="all",
                )
                classes = st.multiselect("Class", CLASS_NAMES, key="classes", placeholder="all")
            verdicts = st.multiselect("Verdict", FILTERS, key="verdicts", placeholder="all")
            chosen = (
                st.multiselect("Slide", titles, key="slides", placeholder="all")
                if len(slides) > 1
                else []
            )
        known = len(slides) - (None in slides)
        about_slides = st.popover(f"Slides: {known}" if known else "Slides", key="slides-popover")
        order = st.selectbox(
            "Order",
            BLIND_ORDERS if blind else list(ORDERS),
            key="blind-order" if blind else "order",
            width=200,
            label_visibility="collapsed",
        )
    listed = [
        field
        for field in ORDERS[order](case.done())
        if (not statuses or field.result.status in statuses)
        and (not classes or named_class(field) in classes)
        and (not verdicts or filter_of(field) in verdicts)
        and (not chosen or (field.slide or NO_SLIDE) in chosen)
    ]
    listed = grouped(case, listed)
    with about_slides:
        draw_slides(view, view.shown(listed) if listed else None, listed)
    if not listed:
        st.caption("No field matches." if case.done() else "No field is analysed yet.")
        return listed
    size = TABLE_PAGE if form == "Table" else GALLERY_PAGE
    place = st.container()
    page = _draw_pages(view, listed, size)
    hidden = {field.key for field in page if hides(view, field, in_list=True)}
    for field in page:
        field.seen |= field.key not in hidden
    with place:
        (_draw_table if form == "Table" else _draw_gallery)(view, listed, page, hidden)
    return listed


def named_class(field: Field) -> str | None:
    """The class that the field is called, None for one that is refused or unreadable."""
    answer = counted_answer(field.result)
    return answer.class_name if answer else None


def status_title(field: Field) -> str:
    """The status in words; synthetic fields say so wherever they are listed."""
    title = words.STATUS_TITLES[field.result.status]
    return f"{title}, synthetic" if field.synthetic else title


def order_of(column: str, order: str) -> str:
    """The order after a click on the head of a column; a second one on confidence reverses it."""
    if column == "Confidence" and order == COLUMNS[column]:
        return "Most confident first"
    return COLUMNS.get(column, order)


def thumbnail_uri(field: Field) -> str | None:
    """The thumbnail as a data URI, None for an unreadable field."""
    return data_uri(field.thumbnail, "jpeg") if field.readable else None


def _draw_pages(view: CaseView, listed: list[Field], size: int) -> list[Field]:
    """The page of the list that the user turned to, at first the one of the selected field."""
    pages = -(-len(listed) // size)
    if pages == 1:
        return listed
    here = listed.index(view.shown(listed)) // size + 1
    # Another name with every step and order: the page of the selected field again.
    name = f"page-{size}-{view.steps}-{hash(tuple(field.key for field in listed))}"
    page = st.pagination(pages, default=here, max_visible_pages=5, key=name)
    return listed[(page - 1) * size : page * size]


def _draw_table(
    view: CaseView, listed: list[Field], page: list[Field], hidden: Container[str]
) -> None:
    keys = [field.key for field in page]
    short = short_names(slides_of(view.case))
    shown = [None if field.key in hidden else field for field in page]
    answers = [field and counted_answer(field.result) for field in shown]
    selected = view.shown(listed).key
    # The selection of a table cannot be set from here; a table of another name starts with it.
    name = f"table-{hash((tuple(keys), view.steps, selected if selected not in keys else 0))}"
    required = selected in keys
    st.dataframe(
        {
            "Field": [thumbnail_uri(field) for field in page],
            **({"Slide": [f.slide and short[f.slide] for f in page]} if short else {}),
            "Status": [status_title(field) if field else HIDDEN for field in shown],
            "Class": [answer and answer.class_name for answer in answers],
            "Reader": [
                reader_text(field) if field.key not in hidden else _given(field) for field in page
            ],
            "Confidence": [answer and percent(answer.confidence) for answer in answers],
            "Cells": [field.result.nucleated_cells for field in page],
            "File": [field.name for field in page],
            "Reasons": ["; ".join(field.result.reasons) if field else None for field in shown],
            "Novelty": [field and field.result.novelty for field in shown],
        },
        height=(len(page) + 1) * ROW_HEIGHT + 2,
        row_height=ROW_HEIGHT,
        hide_index=True,
        placeholder="-",
        column_config={
            "Field": st.column_config.ImageColumn("", width=44),
            "Slide": st.column_config.TextColumn(width=86),
            "Status": st.column_config.TextColumn(width=80),
            "Class": st.column_config.TextColumn(width=86),
            "Reader": st.column_config.TextColumn(
                width=90,
                help=f"Your verdict; {DIFFERS} where it differs from the network's answer.",
            ),
            "Confidence": st.column_config.TextColumn(width=84, alignment="right"),
            "Cells": st.column_config.NumberColumn(width=60, help=words.NUCLEATED_CELLS),
            "File": st.column_config.TextColumn(width=190),
            "Reasons": st.column_config.TextColumn(width="large"),
            "Novelty": st.column_config.NumberColumn(
                format="%.2f", width="small", help=words.NOVELTY
            ),
        },
        # With columns to select, a click on a head does not sort: it orders the whole list.
        selection_mode=["single-row-required" if required else "single-row", "single-column"],
        selection_default={"selection": {"rows": [keys.index(selected)] if required else []}},
        on_select=lambda: _take_selection(view, name, keys),
        key=name,
        alt=f"{len(page)} of {len(listed)} fields with status, class, confidence, file and reasons",
    )


def _take_selection(view: CaseView, name: str, keys: list[str]) -> None:
    """What the user has selected in the table: a field, or a column to order by."""
    selection = st.session_state[name]["selection"]
    if selection["columns"]:
        key = "blind-order" if reads_blind() else "order"
        order = order_of(selection["columns"][0], st.session_state[key])
        if key == "order" or order in BLIND_ORDERS:
            st.session_state[key] = order
        view.steps += 1
    elif selection["rows"]:
        view.selected = keys[selection["rows"][0]]


def _given(field: Field) -> str | None:
    """The verdict without a word on the network's answer."""
    return field.verdict.choice if field.verdict else None


def _draw_gallery(
    view: CaseView, listed: list[Field], page: list[Field], hidden: Container[str]
) -> None:
    with st.container(horizontal=True, gap="small", key="gallery"):
        by_slide = groupby(page, lambda f: f.slide) if groups(view.case) else [(None, page)]
        for slide, fields in by_slide:
            if groups(view.case):
                count = sum(field.slide == slide for field in listed)
                title = f"{slide or NO_SLIDE}: {count}"
                st.html(f'<p class="mseenet-slide">{html.escape(title)}</p>', width="stretch")
            for field in fields:
                _draw_card(view, field, field is view.shown(listed), field.key in hidden)


def _draw_card(view: CaseView, field: Field, selected: bool, hidden: bool) -> None:
    answer = None if hidden else counted_answer(field.result)
    key = "card-selected" if selected else f"card-{field.key[:12]}"
    with st.container(width=132, gap=None, key=key):
        uri = thumbnail_uri(field)
        picture = f'<img src="{uri}" alt="">' if uri else "<span></span>"
        status = field.result.status
        # What has no class is called by its status below the picture already.
        mark = status_title(field) if status == "review" or field.synthetic else ""
        verdict = _given(field) if hidden else reader_text(field)
        label = f"<small>{html.escape(mark)}</small>" if mark and not hidden else ""
        if verdict:
            label += f'<small class="mseenet-read">reader: {html.escape(verdict)}</small>'
        st.html(f'<div class="mseenet-card">{picture}{label}</div>')
        shown = HIDDEN if hidden else words.STATUS_TITLES[status]
        if answer:
            shown = f"{answer.class_name} {percent(answer.confidence)}"
        st.button(
            f"✓ {shown}" if selected else shown,
            key=f"choose-{field.key[:12]}",
            help=plain(field.name),
            width="stretch",
            on_click=view.select,
            args=(field.key,),
        )
        draw_mark(view, field)

"""What the case comes to, before any single field is looked at."""

import html
from collections import Counter
from collections.abc import Mapping

import streamlit as st

from mseenet.case import words
from mseenet.case.answers import counted_answer
from mseenet.case.fields import Field
from mseenet.case.records import percent
from mseenet.case.summary import CaseSummary, answer_text, summarize_case
from mseenet.case.verdicts import CHOICES
from mseenet.config import CLASS_NAMES
from mseenet.inference.card import Card
from mseenet.ui.charts import plot, spread_dots
from mseenet.ui.frame import plain
from mseenet.ui.session import CaseView
from mseenet.ui.verdict import draw_agreement, still_hidden

SPREAD = "spread"
"""Key of the button behind which the spread of fields and slides is."""


def draw_summary(view: CaseView, card: Card, counts_alone: bool = False) -> None:
    """Draws counts by the network and by the reader; spread, slides and agreement behind a button.

    In blind reading there are no counts of the network's answers as long as one is hidden.

    Args:
        view: Of this session.
        card: Of the network in use.
        counts_alone: Whether the button is left out, as all is drawn anew in a moment.
    """
    case = view.case
    done = case.done()
    evidence = words.slide_evidence(card.content.get("metrics") or {})
    summary = summarize_case(
        [field.result for field in done], list(map(_slide, done)), answered=bool(evidence)
    )
    tiles = [_tile(summary.fields, "fields analysed" if summary.fields != 1 else "field analysed")]
    if still_hidden(view):
        st.html(f'<ul class="mseenet-tiles">{"".join(tiles)}</ul>{_reader_tiles(done)}')
        return
    tiles += [_tile(summary.by_class[name], name) for name in CLASS_NAMES if summary.by_class[name]]
    tiles += [
        _tile(summary.by_status[status], title, status)
        for status, title in (
            ("review", "of these to review"),
            ("rejected", words.STATUS_TITLES["rejected"]),
            ("error", words.STATUS_TITLES["error"]),
        )
        if summary.by_status[status]
    ]
    if slides := sum(item.slide is not None for item in summary.slides):
        if len(summary.answers) > 1:
            tiles.append(_tile(slides, "slides, which disagree", "review"))
        else:
            tiles.append(_tile(slides, "slides" if slides > 1 else "slide"))
    if synthetic := sum(field.synthetic for field in done):
        tiles.append(_tile(synthetic, "synthetic", "synthetic"))
    counts = f'<ul class="mseenet-tiles">{"".join(tiles)}</ul>'
    with st.container(horizontal=True, vertical_alignment="center"):
        st.html(f'<div class="mseenet-case-summary">{counts}{_reader_tiles(done)}</div>')
        # Nothing without a named field, or where a single field says it all itself.
        if summary.named and summary.fields > 1 and not counts_alone:
            # What nobody sees is not computed with every verdict.
            spread = st.popover("Spread and agreement", key=SPREAD, on_change="rerun")
            with spread:
                if spread.open:
                    with st.container(key="spread-body"):
                        _draw_spread(summary, done, evidence)
                draw_agreement(case)


def _slide(field: Field) -> str | None:
    """The slide that a field counts for; synthetic ones count for none."""
    return None if field.synthetic else field.slide


def _draw_spread(summary: CaseSummary, done: list[Field], evidence: str) -> None:
    """Dots of all fields by slide, the slides' means and, if that was measured, their classes."""
    rows = [
        (
            item,
            [
                (field.name, answer)
                for field in done
                if _slide(field) == item.slide and (answer := counted_answer(field.result))
            ],
        )
        for item in summary.slides
    ]
    plot(
        spread_dots(rows),
        "Calibrated probabilities of each class, a dot for each field, a row for each slide",
        "spread-dots",
    )
    st.html(_table_of_slides(summary))
    if text := answer_text(summary):
        st.markdown(f"**{plain(text)}**")
    st.caption(plain(f"{words.SLIDE_RULE} {evidence}" if evidence else words.NO_SLIDE_CLASS))


def _reader_tiles(done: list[Field]) -> str:
    """The reader's counts; empty without a verdict."""
    counts = Counter(field.verdict.choice for field in done if field.verdict is not None)
    if not counts:
        return ""
    tiles = [_tile(counts.total(), "with your verdict", "reader")]
    tiles += [_tile(counts[choice], choice, "reader") for choice in CHOICES if counts[choice]]
    return f'<ul class="mseenet-tiles mseenet-reader-tiles">{"".join(tiles)}</ul>'


def _tile(number: int, title: str, kind: str = "") -> str:
    return f'<li class="mseenet-{kind}"><b>{number}</b><span>{html.escape(title)}</span></li>'


def _table_of_slides(summary: CaseSummary) -> str:
    """A line a slide, and one for all fields with a class."""
    head = "".join(
        f'<th scope="col">{html.escape(title)}</th>'
        for title in ("Slide", "With a class", *CLASS_NAMES, "Malignant", "Class of the slide")
    )
    lines = [
        _line(item.title, item.named, item.probabilities, item.answer or f"none: {item.why}")
        for item in summary.slides
    ]
    if len(summary.slides) > 1:
        lines.append(_line("all", summary.named, summary.probabilities, ""))
    caption = (
        "Number of fields with a class, and means of their calibrated probabilities. "
        f"{words.NOT_A_CASE_RESULT}"
    )
    return (
        # On a narrow screen it scrolls, by keyboard too.
        '<div class="mseenet-wide" role="region" aria-label="Slides" tabindex="0">'
        f'<table class="mseenet-means"><caption>{html.escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def _line(title: str, named: int, means: Mapping[str, float], said: str) -> str:
    numbers = [percent(means[name]) if means else "" for name in CLASS_NAMES]
    numbers.append(percent(1 - means["Benign"]) if means else "")
    cells = "".join(f"<td>{html.escape(text)}</td>" for text in (str(named), *numbers))
    return f'<tr><th scope="row">{html.escape(title)}</th>{cells}<td>{html.escape(said)}</td></tr>'

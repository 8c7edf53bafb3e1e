"""What the case comes to, before any single field is looked at."""

import html
from collections import Counter

import streamlit as st

from mseenet.case import words
from mseenet.case.fields import Field
from mseenet.case.records import percent
from mseenet.case.summary import CaseSummary, Mean, summarize_case
from mseenet.case.verdicts import CHOICES
from mseenet.config import CLASS_NAMES
from mseenet.ui.session import CaseView
from mseenet.ui.verdict import draw_agreement, still_hidden


def draw_summary(view: CaseView) -> None:
    """Draws counts by the network and by the reader; means and agreement behind a button.

    In blind reading there are no counts of the network's answers as long as one is hidden.
    """
    case = view.case
    done = case.done()
    summary = summarize_case([field.result for field in done])
    tiles = [_tile(summary.fields, "fields analysed")]
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
    if synthetic := sum(field.synthetic for field in done):
        tiles.append(_tile(synthetic, "synthetic", "synthetic"))
    counts = f'<ul class="mseenet-tiles">{"".join(tiles)}</ul>'
    with st.container(horizontal=True, vertical_alignment="center"):
        st.html(f'<div class="mseenet-case-summary">{counts}{_reader_tiles(done)}</div>')
        if means := _means(summary):
            with st.popover("Means and agreement"):
                st.html(means)
                draw_agreement(case)


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


def _means(summary: CaseSummary) -> str:
    """A line a class, and below them malignant against benign.

    Nothing without a named field, or where a single field says it all itself.
    """
    if not summary.named or summary.fields == 1:
        return ""
    lines = [_mean(name, mean) for name, mean in summary.probabilities.items()]
    if summary.malignant is not None:
        lines.append(_mean("malignant", summary.malignant, "malignant"))
    caption = (
        f"Mean calibrated probability over {summary.named} named fields, 95 % interval over fields. "
        f"{words.NOT_A_CASE_RESULT}"
    )
    return (
        f'<table class="mseenet-means"><caption>{html.escape(caption)}</caption>'
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


def _mean(name: str, mean: Mean, kind: str = "") -> str:
    low, high = mean.interval or (mean.value, mean.value)
    interval = f"{100 * low:.1f}-{100 * high:.1f}" if mean.interval else "needs two fields"
    track = (
        f'<span class="mseenet-track"><i style="left:{100 * low:.1f}%;right:{100 * (1 - high):.1f}%">'
        f'</i><b style="left:{100 * mean.value:.1f}%"></b></span>'
    )
    return (
        f'<tr class="mseenet-{kind}"><th scope="row">{html.escape(name)}</th><td>{track}</td>'
        f"<td>{html.escape(percent(mean.value))}</td><td>({interval})</td></tr>"
    )

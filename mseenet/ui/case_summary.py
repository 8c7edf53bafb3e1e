"""What the case comes to, before any single field is looked at."""

import html

import streamlit as st

from mseenet.case import words
from mseenet.case.fields import Case
from mseenet.case.records import percent
from mseenet.case.summary import CaseSummary, Mean, summarize_case
from mseenet.config import CLASS_NAMES


def draw_summary(case: Case) -> None:
    """Draws counts by class and status, and the mean probabilities over the fields."""
    done = case.done()
    summary = summarize_case([field.result for field in done])
    tiles = [_tile(summary.fields, "fields analysed")]
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
    st.html(f'<div class="mseenet-case-summary">{counts}{_means(summary)}</div>')


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

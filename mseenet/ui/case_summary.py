"""What the case comes to, before any single field is looked at."""

import html

import streamlit as st

from mseenet import words
from mseenet.config import CLASS_NAMES
from mseenet.report import percent
from mseenet.summary import Mean, summarize
from mseenet.ui.case import Case


def draw_summary(case: Case) -> None:
    """Draws counts by class and status, and the mean probabilities over the fields."""
    summary = summarize([field.prediction for field in case.done()])
    tiles = [_tile(summary.fields, "fields analysed")]
    tiles += [_tile(summary.by_class[name], name) for name in CLASS_NAMES if summary.by_class[name]]
    tiles += [
        _tile(summary.by_status[status], words.STATUS_TITLES[status], status)
        for status in ("review", "rejected", "error")
        if summary.by_status[status]
    ]
    st.html(f'<ul class="mseenet-tiles">{"".join(tiles)}</ul>')
    if summary.named:
        means = (*summary.probabilities.items(), ("malignant classes together", summary.malignant))
        parts = "; ".join(f"{name} {_with_interval(mean)}" for name, mean in means)
        st.caption(
            f"Mean calibrated probability over {summary.named} named fields, with a 95 % interval "
            f"over fields: {parts}. {words.NOT_A_CASE_RESULT}"
        )


def _tile(number: int, title: str, kind: str = "") -> str:
    return f'<li class="mseenet-{kind}"><b>{number}</b><span>{html.escape(title)}</span></li>'


def _with_interval(mean: Mean) -> str:
    if mean.interval is None:
        return percent(mean.value)
    low, high = mean.interval
    return f"{percent(mean.value)} ({100 * low:.1f}-{100 * high:.1f})"

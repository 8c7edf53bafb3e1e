"""Plotly charts of one field."""

import html
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module

import plotly.graph_objects as go
import streamlit as st
from plotly.subplots import make_subplots

from mseenet.case.answers import Answer
from mseenet.case.names import shortened
from mseenet.case.records import percent
from mseenet.case.slides import short_names
from mseenet.case.summary import SlideSummary
from mseenet.case.words import CLASS_TITLES
from mseenet.config import CLASS_NAMES
from mseenet.ui.pictures import preload_pictures

# Plotly and Streamlit use these as soon as anything has begun to import them, as the script of
# another page may be doing at that moment; here they are whole before the first page. They come
# with Streamlit, and nothing here needs them: a version that does without leaves them away.
for name in ("pandas", "pyarrow"):
    with suppress(ImportError):
        import_module(name)

HIGHLIGHT = "#7a5bc0"
"""Colour of the predicted class; 3:1 or more against the page in light and dark."""

OTHERS = "#9a93ab"

ROW = 34
"""Height of a slide's row of dots, in pixels."""

BARS_HEIGHT = 118
"""In pixels."""


def text_color() -> str:
    """Colour of a chart's words, 4.5:1 or more against the page in the theme in use."""
    return "#cfc8de" if st.context.theme.type == "dark" else "#4a4560"


def probability_bars(
    probabilities: Mapping[str, float], review: float, meaningful: bool = True
) -> go.Figure:
    """Horizontal bars of the calibrated probabilities, the predicted class highlighted.

    Args:
        probabilities: By class name, each in [0, 1].
        review: Confidence below which a field goes to review, in [0, 1]; marked if > 0.
        meaningful: False for a rejected field: nothing is highlighted, the bars are hollow.
    """
    names = list(probabilities)
    values = [100 * probabilities[name] for name in names]
    predicted = max(names, key=probabilities.__getitem__)
    figure = go.Figure(
        go.Bar(
            x=values,
            y=names,
            orientation="h",
            marker={
                "color": [
                    HIGHLIGHT if name == predicted and meaningful else OTHERS for name in names
                ],
                "pattern": {"shape": "" if meaningful else "/", "solidity": 0.3},
            },
            text=[percent(value / 100) for value in values],
            textposition="outside",
            textfont={"color": text_color()},
            cliponaxis=False,
            customdata=[CLASS_TITLES[name] for name in names],
            hovertemplate="%{customdata}: %{x:.2f} %<extra></extra>",
        )
    )
    if review > 0 and meaningful:
        figure.add_vline(
            100 * review,
            line={"width": 1.5, "dash": "dot", "color": OTHERS},
            annotation={
                "text": f"review below {percent(review)}",
                "font": {"size": 12, "color": text_color()},
            },
            annotation_position="top",
            annotation_yanchor="bottom",
        )
    return _quiet(figure, BARS_HEIGHT)


def spread_dots(
    rows: Sequence[tuple[SlideSummary, Sequence[tuple[str, Answer]]]],
) -> go.Figure:
    """The fields of a case as dots by their calibrated probabilities, a row a slide.

    Args:
        rows: Each slide, with the names and answers of its fields with a class.
    """
    short = short_names(item.slide for item, _ in rows)
    titles = [short.get(item.title, item.title) for item, _ in rows]
    figure = make_subplots(1, len(CLASS_NAMES), shared_yaxes=True, column_titles=list(CLASS_NAMES))
    dots = "#a88be8" if st.context.theme.type == "dark" else HIGHLIGHT
    place, names = [], []
    for row, (_, fields) in enumerate(rows):
        # By the golden ratio dots that follow each other lie apart.
        place += [row + 0.6 * (0.618 * i % 1 - 0.5) for i in range(len(fields))]
        names += [name for name, _ in fields]
    for column, class_name in enumerate(CLASS_NAMES, start=1):
        values = [100 * a.probabilities[class_name] for _, fields in rows for _, a in fields]
        figure.add_trace(
            go.Scatter(
                x=values,
                y=place,
                mode="markers",
                marker={"size": 5, "color": dots, "opacity": 0.6},
                customdata=[html.escape(name) for name in names],
                hovertemplate="%{customdata}: %{x:.1f} %<extra></extra>",
            ),
            1,
            column,
        )
        means = [100 * i.probabilities[class_name] if i.probabilities else None for i, _ in rows]
        figure.add_trace(
            go.Scatter(
                x=means,
                y=list(range(len(rows))),
                mode="markers",
                marker={
                    "symbol": "line-ns",
                    "size": ROW / 2,
                    "line": {"width": 2.5, "color": text_color()},
                },
                hovertemplate="mean: %{x:.1f} %<extra></extra>",
            ),
            1,
            column,
        )
    figure.update_xaxes(
        range=[-4, 104],
        tickvals=[0, 100],
        ticktext=["0", "100"],
        fixedrange=True,
        zeroline=False,
        tickfont={"size": 12, "color": text_color()},
    )
    figure.update_xaxes(ticktext=["0", "100 %"], col=len(CLASS_NAMES))
    figure.update_yaxes(
        range=[len(rows) - 0.5, -0.5],
        tickvals=list(range(len(rows))),
        ticktext=[html.escape(shortened(title, 24)) for title in titles],
        fixedrange=True,
        zeroline=False,
        tickfont={"size": 13, "color": text_color()},
    )
    figure.update_annotations(font={"size": 13, "color": text_color()})
    return figure.update_layout(
        height=70 + ROW * len(rows),
        margin={"l": 0, "r": 24, "t": 26, "b": 4},
        showlegend=False,
    )


def plot(figure: go.Figure, alt: str, key: str) -> None:
    """Draws a chart as wide as its place.

    Args:
        figure: The chart.
        alt: What it shows, in words.
        key: Of the widget.
    """
    st.plotly_chart(figure, key=key, config={"displayModeBar": False}, alt=alt)


def preload() -> None:
    """Lets the browser fetch what draws tables and charts before there is a field to draw.

    Several megabytes, which would otherwise come between the first result and its picture.
    """
    with st.container(key="preload"):
        st.plotly_chart(go.Figure(), height=20, key="preload-chart")
        st.dataframe({"": []}, height=60)
        preload_pictures()


def _quiet(figure: go.Figure, height: int) -> go.Figure:
    return figure.update_layout(
        height=height,
        margin={"l": 0, "r": 56, "t": 22, "b": 4},
        bargap=0.4,
        font={"size": 14},
        showlegend=False,
        xaxis={"range": [0, 100], "visible": False, "fixedrange": True},
        yaxis={
            "autorange": "reversed",
            "fixedrange": True,
            "ticklabelstandoff": 8,
            "tickfont": {"size": 14, "color": text_color()},
        },
    )

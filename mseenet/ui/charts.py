"""Plotly charts of one field."""

from collections.abc import Mapping

import plotly.graph_objects as go
import streamlit as st

from mseenet.case.records import percent
from mseenet.case.words import CLASS_TITLES
from mseenet.ui.pictures import preload_pictures

HIGHLIGHT = "#7a5bc0"
"""Colour of the predicted class; 3:1 or more against the page in light and dark."""

OTHERS = "#9a93ab"

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

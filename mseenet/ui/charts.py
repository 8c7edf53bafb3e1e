"""Plotly charts of one prediction."""

from collections.abc import Mapping

import plotly.graph_objects as go

from mseenet.report import percent
from mseenet.ui.words import CLASS_TITLES

HIGHLIGHT = "#7a5bc0"
"""Colour of the predicted class; 3:1 or more against the page in light and dark."""

OTHERS = "#9a93ab"

CHART_HEIGHT = 180
"""In pixels."""


def probability_bars(probabilities: Mapping[str, float]) -> go.Figure:
    """Horizontal bars of the calibrated probabilities, the predicted class highlighted.

    Args:
        probabilities: By class name, each in [0, 1].
    """
    names = list(probabilities)
    values = [100 * probabilities[name] for name in names]
    predicted = max(names, key=probabilities.__getitem__)
    figure = go.Figure(
        go.Bar(
            x=values,
            y=names,
            orientation="h",
            marker_color=[HIGHLIGHT if name == predicted else OTHERS for name in names],
            text=[percent(value / 100) for value in values],
            textposition="outside",
            cliponaxis=False,
            customdata=[CLASS_TITLES[name] for name in names],
            hovertemplate="%{customdata}: %{x:.2f} %<extra></extra>",
        )
    )
    figure.update_layout(
        height=CHART_HEIGHT,
        margin={"l": 0, "r": 56, "t": 4, "b": 4},
        bargap=0.4,
        font={"size": 14},
        showlegend=False,
        xaxis={"range": [0, 100], "visible": False, "fixedrange": True},
        yaxis={
            "autorange": "reversed",
            "fixedrange": True,
            "ticklabelstandoff": 8,
            "tickfont": {"size": 14},
        },
    )
    return figure

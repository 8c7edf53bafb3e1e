"""Plotly charts of the report on a laboratory's fields."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from mseenet.laboratory.page import densities
from mseenet.ui.charts import HIGHLIGHT
from mseenet.ui.evaluation_charts import GREY, lay_out


def distribution(measure: Mapping[str, Any]) -> go.Figure:
    """A measure over the training fields and, if known, over the laboratory's.

    Args:
        measure: An entry of the report's `appearance`.
    """
    figure = go.Figure()
    values, curves = densities(measure)
    looks = (
        ("training", GREY, "dot", "138, 131, 154"),
        ("these fields", HIGHLIGHT, None, "122, 91, 192"),
    )
    for curve, (name, color, dash, shade) in zip(curves, looks, strict=False):
        figure.add_scatter(
            x=values,
            y=curve,
            mode="lines",
            line={"color": color, "dash": dash, "width": 2},
            fill="tozeroy",
            fillcolor=f"rgba({shade}, 0.3)",
            name=name,
            hovertemplate="%{x:.3g}<extra>" + name + "</extra>",
        )
    lay_out(figure, height=190)
    figure.update_layout(showlegend=False, margin={"t": 8})
    figure.update_xaxes(showgrid=False, nticks=5)
    figure.update_yaxes(visible=False, range=[0, 1.05])
    return figure


def distribution_text(measure: Mapping[str, Any]) -> str:
    """What `distribution` shows, in words."""
    said = []
    for kind, name in (("training", "training fields"), ("here", "these fields")):
        if quantiles := measure[kind]:
            low, middle, high = (quantiles[percent] for percent in (1, 50, 99))
            said.append(f"{name}: median {middle:.3g}, 98 % from {low:.3g} to {high:.3g}")
    return "; ".join(said)


def reliability_dots(bins: Sequence[Mapping[str, float]]) -> go.Figure:
    """Accuracy over confidence; the larger a dot, the more fields.

    Args:
        bins: Of the report's `calibration`.
    """
    counts = np.array([b["n"] for b in bins], float)
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 100], y=[0, 100], mode="lines", line={"color": GREY, "dash": "dot"}, hoverinfo="skip"
    )
    figure.add_scatter(
        x=[100 * b["confidence"] for b in bins],
        y=[100 * b["accuracy"] for b in bins],
        mode="markers",
        marker={
            "color": HIGHLIGHT,
            "opacity": 0.85,
            "size": 8 + 26 * np.sqrt(counts / max(1.0, counts.sum())),
        },
        cliponaxis=False,
        customdata=[b["n"] for b in bins],
        hovertemplate="%{customdata} fields<br>confidence %{x:.1f} %<br>right %{y:.1f} %"
        "<extra></extra>",
    )
    lay_out(figure, height=390)
    figure.update_layout(showlegend=False)
    figure.update_xaxes(title="mean confidence, percent", range=[0, 104], showgrid=True)
    figure.update_yaxes(title="right, percent", range=[0, 104], showgrid=True)
    return figure

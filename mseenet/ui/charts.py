"""Plotly charts of one field."""

import base64
from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
import streamlit as st
from plotly.colors import sample_colorscale, unlabel_rgb
from plotly.subplots import make_subplots

from mseenet.report import percent
from mseenet.ui.case import encoded
from mseenet.words import CLASS_TITLES

HIGHLIGHT = "#7a5bc0"
"""Colour of the predicted class; 3:1 or more against the page in light and dark."""

OTHERS = "#9a93ab"

BARS_HEIGHT = 180
"""In pixels."""

COLOR_BAR_HEIGHT = 52
"""In pixels, below the pictures."""


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
                "text": f"review below {review:.0%}",
                "font": {"size": 12, "color": text_color()},
            },
            annotation_position="top left",
        )
    return _quiet(figure, BARS_HEIGHT)


def preload() -> None:
    """Lets the browser fetch what draws tables and charts before there is a field to draw.

    Several megabytes, which would otherwise come between the first result and its picture.
    """
    with st.container(key="preload"):
        st.plotly_chart(go.Figure(), height=20, key="preload-chart")
        st.dataframe({"": []}, height=60)


def field_pair(
    shown: np.ndarray,
    heatmap: np.ndarray | None,
    opacity: float,
    color_map: str,
    absolute: bool,
) -> go.Figure:
    """The field, and beside it the field under its heatmap; both zoom and pan together.

    Args:
        shown: RGB, uint8 (H, W, 3) in [0, 255].
        heatmap: float32 (h, w) in [0, 1], stretched over the field; None for the field alone.
        opacity: Share of the heat's colour where the heat is 1, in [0, 1].
        color_map: One of `explain.COLOR_MAPS`.
        absolute: Whether heat is in units that all fields share.
    """
    rows, columns = shown.shape[:2]
    source = "data:image/jpeg;base64," + base64.b64encode(encoded(shown)).decode()
    panels = 1 if heatmap is None else 2
    figure = make_subplots(1, panels, horizontal_spacing=0.01)
    for panel in range(1, panels + 1):
        # Its pixels' colours under the pointer say nothing to a person.
        figure.add_trace(go.Image(source=source, hoverinfo="skip"), 1, panel)
    if heatmap is not None:
        coarse = heatmap[::2, ::2]
        figure.add_trace(
            go.Heatmap(
                z=coarse.round(3),
                x0=columns / coarse.shape[1] / 2 - 0.5,
                dx=columns / coarse.shape[1],
                y0=rows / coarse.shape[0] / 2 - 0.5,
                dy=rows / coarse.shape[0],
                zmin=0,
                zmax=1,
                zsmooth="best",
                colorscale=_heat_scale(color_map, opacity),
                showscale=False,
                hovertemplate="%{z:.0%}<extra></extra>",
            ),
            1,
            2,
        )
        # A colour bar of the translucent scale would show the page through it.
        key = {
            "color": [0],
            "cmin": 0,
            "cmax": 1,
            "colorscale": _heat_scale(color_map, opacity, over_white=True),
            "colorbar": {
                "orientation": "h",
                "title": {
                    "text": "evidence" if absolute else "evidence, relative to this map's maximum",
                    "side": "top",
                    "font": {"color": text_color()},
                },
                "tickvals": [0, 0.25, 0.5, 0.75, 1],
                "tickformat": ".0%",
                "tickfont": {"color": text_color()},
                "thickness": 10,
                "len": 0.49,
                "x": 1,
                "xanchor": "right",
                "y": 0,
                "yanchor": "top",
                "ypad": 0,
            },
        }
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", marker=key), 1, 2)
    figure.update_xaxes(
        visible=False,
        range=[-0.5, columns - 0.5],
        minallowed=-0.5,
        maxallowed=columns - 0.5,
        constrain="domain",
        matches="x",
    )
    figure.update_yaxes(
        visible=False,
        range=[rows - 0.5, -0.5],
        minallowed=-0.5,
        maxallowed=rows - 0.5,
        constrain="domain",
        constraintoward="top",
        matches="y",
    )
    for panel in range(1, panels + 1):
        name = "" if panel == 1 else str(panel)
        figure.update_layout({f"yaxis{name}": {"scaleanchor": f"x{name}"}})
    return figure.update_layout(
        margin={"l": 0, "r": 0, "t": 0, "b": COLOR_BAR_HEIGHT if panels > 1 else 0},
        dragmode="pan",
        showlegend=False,
        plot_bgcolor="rgba(0,0,0,0)",
        paper_bgcolor="rgba(0,0,0,0)",
    )


def _heat_scale(color_map: str, opacity: float, over_white: bool = False) -> list[list]:
    """A colour scale that covers in proportion to the heat, like `explain.overlay`.

    Translucent, or as it looks over white.
    """
    stops = np.linspace(0, 1, 33)
    scale = []
    for stop, color in zip(stops, sample_colorscale(color_map, list(stops)), strict=True):
        weight, rgb = opacity * stop, np.array(unlabel_rgb(color))
        if over_white:
            rgb, alpha = rgb * weight + 255 * (1 - weight), 1
        else:
            alpha = weight
        scale.append([float(stop), "rgba({:.0f},{:.0f},{:.0f},{:.3f})".format(*rgb, alpha)])
    return scale


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

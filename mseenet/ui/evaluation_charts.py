"""Plotly charts of the reports beside the weights; each shows only what its report holds.

Purple is what matters most, orange what it is compared with, grey what surrounds them: told
apart with any colour vision, 3:1 or more against the page in light and dark. Markers and
line styles say the same once more.
"""

import itertools
import math
from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mseenet.case.words import protocol_title
from mseenet.config import CLASS_NAMES
from mseenet.ui.charts import HIGHLIGHT

ORANGE = "#d55e00"

GREY = "#8a839a"

_GRID = "rgba(138, 131, 154, 0.25)"


def percentage(proportion: float) -> str:
    """A proportion with one decimal: "99.3 %"."""
    return f"{100 * proportion:.1f} %"


def interval_text(interval: Sequence[float]) -> str:
    """An interval of proportions: "97.4-99.8 %"."""
    low, high = interval
    return f"{100 * low:.1f}-{100 * high:.1f} %"


def confusion_heatmap(
    confusion: Sequence[Sequence[int]], by_class: Sequence[dict] | None = None
) -> go.Figure:
    """Counts, and their percentages of each true class, which are also the shade.

    Args:
        confusion: Rows are the true, columns the predicted classes.
        by_class: Of the report, the sensitivity of each class, whose interval the diagonal shows.
    """
    totals = [sum(row) for row in confusion]
    proportions = [[c / max(1, n) for c in row] for row, n in zip(confusion, totals, strict=True)]
    details = [
        [
            f"true {true}, called {called}:<br>{count} of {n} fields<br>{percentage(count / max(1, n))}"
            + (
                f", 95 % interval {interval_text(by_class[i]['interval_95'])}"
                if by_class and i == j
                else ""
            )
            for j, (called, count) in enumerate(zip(CLASS_NAMES, row, strict=True))
        ]
        for i, (true, row, n) in enumerate(zip(CLASS_NAMES, confusion, totals, strict=True))
    ]
    figure = go.Figure(
        go.Heatmap(
            z=[[100 * proportion for proportion in row] for row in proportions],
            zmin=0,
            zmax=100,
            # Shades between which neither text would be legible are skipped.
            colorscale=[
                [0, "rgba(91, 61, 153, 0.1)"],
                [0.5, "rgba(91, 61, 153, 0.45)"],
                [0.5, "rgba(91, 61, 153, 0.8)"],
                [1, "rgba(91, 61, 153, 1)"],
            ],
            showscale=False,
            xgap=3,
            ygap=3,
            customdata=details,
            hovertemplate="%{customdata}<extra></extra>",
        )
    )
    places = list(range(len(totals)))
    text = [
        [
            f"<b>{count}</b><br>{percentage(proportion)}"
            for count, proportion in zip(*row, strict=True)
        ]
        for row in zip(confusion, proportions, strict=True)
    ]
    dark = [(i, j) for i in places for j in places if proportions[i][j] >= 0.5]
    figure.add_scatter(
        x=[j for _, j in dark],
        y=[i for i, _ in dark],
        mode="text",
        text=[text[i][j] for i, j in dark],
        textfont_color="#fff",
        hoverinfo="skip",
        showlegend=False,
    )
    for i, j in {(i, j) for i in places for j in places} - {*dark}:
        figure.add_annotation(x=j, y=i, text=text[i][j], showarrow=False)
    lay_out(figure, height=390)
    figure.update_xaxes(
        title="called by the network",
        side="top",
        showgrid=False,
        tickvals=places,
        ticktext=CLASS_NAMES,
    )
    figure.update_yaxes(
        title="true class",
        autorange="reversed",
        showgrid=False,
        tickvals=places,
        ticktext=[f"{name}<br>n = {n}" for name, n in zip(CLASS_NAMES, totals, strict=True)],
    )
    return figure


def accuracy_by_split(evaluation: dict) -> go.Figure:
    """Accuracy with its interval on known and on unseen slides, and of each fold."""
    test = evaluation["parts"]["test"]
    rows = [("Known slides<br>random test", test["accuracy"], test)]
    rows += [
        (f"Unseen slides<br>{_short(protocol)}", figures["accuracy"], figures)
        for protocol, figures in evaluation.get("unseen", {}).items()
    ]
    names = [f"<b>{lines}</b><br>n = {figures['n']:,}" for lines, _, figures in rows]
    values = [100 * accuracy for _, accuracy, _ in rows]
    intervals = [figures["interval_95"]["accuracy"] for _, _, figures in rows]
    figure = go.Figure()
    folds = [
        (position, number, fold)
        for position, (_, _, figures) in enumerate(rows)
        for number, fold in enumerate(figures.get("folds", []), start=1)
    ]
    figure.add_scatter(
        x=[100 * fold["accuracy"] for _, _, fold in folds],
        y=[position + 0.24 for position, _, _ in folds],
        mode="markers",
        marker={"symbol": "diamond-open", "size": 9, "color": ORANGE, "line": {"width": 2}},
        name="each fold",
        customdata=[[number, fold["n"]] for _, number, fold in folds],
        hovertemplate="Fold %{customdata[0]}: %{x:.1f} % of %{customdata[1]} fields<extra></extra>",
        visible=bool(folds),
    )
    figure.add_scatter(
        x=values,
        y=list(range(len(rows))),
        error_x=_error_bars(values, intervals),
        mode="markers",
        marker={"size": 11, "color": HIGHLIGHT},
        name="all, with 95 % interval",
        customdata=[
            [interval_text(interval), figures["n"]]
            for interval, (_, _, figures) in zip(intervals, rows, strict=True)
        ],
        hovertemplate="%{x:.1f} % of %{customdata[1]:,} fields<br>"
        "95 % interval %{customdata[0]}<extra></extra>",
    )
    for position, value in enumerate(values):
        figure.add_annotation(
            x=value, y=position, text=f"{value:.1f} %", showarrow=False, yanchor="bottom", yshift=8
        )
    lowest = min([*(100 * i[0] for i in intervals), *(100 * f["accuracy"] for _, _, f in folds)])
    lay_out(figure, height=95 * len(rows) + 105)
    figure.update_xaxes(title="accuracy, percent", range=_range(lowest))
    figure.update_xaxes(showgrid=True)
    figure.update_yaxes(
        tickvals=list(range(len(rows))), ticktext=names, range=[len(rows) - 0.5, -0.5]
    )
    return figure


def reliability(unseen: dict[str, dict]) -> go.Figure:
    """Accuracy against confidence on unseen slides, before and after calibration.

    Args:
        unseen: By protocol.
    """
    columns = min(2, len(unseen))
    rows = -(-len(unseen) // columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        shared_yaxes=True,
        horizontal_spacing=0.05,
        vertical_spacing=0.3 / rows,
        subplot_titles=[f"{_short(p)}, n = {figures['n']:,}" for p, figures in unseen.items()],
    )
    series = (
        ("before", ORANGE, "213, 94, 0", "square"),
        ("after", HIGHLIGHT, "122, 91, 192", "circle"),
    )
    lowest = 100.0
    for position, figures in enumerate(unseen.values()):
        cell = {"row": position // columns + 1, "col": position % columns + 1}
        figure.add_scatter(
            x=[0, 100],
            y=[0, 100],
            mode="lines",
            line={"color": GREY, "width": 1, "dash": "dot"},
            name="confidence = accuracy",
            showlegend=position == 0,
            hoverinfo="skip",
            **cell,
        )
        for name, color, rgb, symbol in series:
            bins = figures[f"{name}_calibration"]["bins"]
            accuracy = [100 * b["proportion"] for b in bins]
            lowest = min(lowest, 100 * bins[0]["confidence"])
            figure.add_scatter(
                x=[100 * b["confidence"] for b in bins],
                y=accuracy,
                error_y=_error_bars(accuracy, [b["interval_95"] for b in bins])
                | {"thickness": 1.5, "width": 0, "color": f"rgba({rgb}, 0.4)"},
                mode="markers",
                marker={
                    "symbol": symbol,
                    "size": [7 + 8 * math.sqrt(b["n"] / figures["n"]) for b in bins],
                    "color": color,
                    "opacity": 1,
                    "line": {"width": 0},
                },
                name=f"{name} calibration",
                legendgroup=name,
                showlegend=position == 0,
                customdata=[[b["n"], interval_text(b["interval_95"])] for b in bins],
                hovertemplate=f"<b>{name} calibration</b><br>"
                "confidence %{x:.1f} % on average<br>accuracy %{y:.1f} % of %{customdata[0]:,} "
                "fields<br>95 % interval %{customdata[1]}<extra></extra>",
                **cell,
            )
    lay_out(figure, height=110 + 290 * rows)
    figure.update_layout(margin={"t": 70}, legend={"y": 1 + 0.1 / rows, "itemsizing": "constant"})
    figure.update_xaxes(range=[max(0, lowest - 5), 103])
    figure.update_xaxes(title="confidence, percent", row=rows)
    figure.update_yaxes(range=[-2, 104], dtick=20)
    figure.update_yaxes(title="accuracy, percent", col=1)
    return figure


def risk_coverage(unseen: dict[str, dict]) -> go.Figure:
    """Accuracy of what is left when the least confident fields are set aside.

    Args:
        unseen: By protocol.
    """
    figure = go.Figure()
    styles = itertools.cycle(
        (
            (HIGHLIGHT, "solid", "122, 91, 192"),
            (ORANGE, "dash", "213, 94, 0"),
            (GREY, "dot", "138, 131, 154"),
            (HIGHLIGHT, "dashdot", "122, 91, 192"),
        )
    )
    lowest, first = 100.0, 100.0
    for (protocol, figures), (color, dash, rgb) in zip(unseen.items(), styles, strict=False):
        points = figures["risk_coverage"]
        percent = [100 * point["kept"] for point in points]
        intervals = [point["interval_95"] for point in points]
        lowest = min(lowest, *(100 * low for low, _ in intervals))
        first = min(first, *percent)
        figure.add_scatter(
            x=percent + percent[::-1],
            y=[100 * high for _, high in intervals] + [100 * low for low, _ in intervals[::-1]],
            fill="toself",
            fillcolor=f"rgba({rgb}, 0.15)",
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
            name=f"interval, {_short(protocol)}",
        )
        figure.add_scatter(
            x=percent,
            y=[100 * point["proportion"] for point in points],
            mode="lines",
            line={"color": color, "width": 2.5, "dash": dash},
            name=f"{_short(protocol)}, n = {figures['n']:,}",
            customdata=[[point["n"], interval_text(point["interval_95"])] for point in points],
            hovertemplate=f"{_short(protocol)}: "
            "%{y:.1f} % of %{customdata[0]:,} (%{customdata[1]})<extra></extra>",
        )
    lay_out(figure, height=400, hovermode="x unified")
    figure.update_xaxes(
        title="most confident fields that are kept, percent",
        range=[first - 1, 101],
        spikethickness=1,
        spikecolor=GREY,
        unifiedhovertitle={"text": "%{x} % most confident"},
    )
    figure.update_yaxes(title="accuracy, percent", range=_range(lowest))
    return figure


def robustness(changes: dict[str, dict], unchanged: dict) -> go.Figure:
    """Accuracy by severity, a panel for each kind of change.

    Args:
        changes: By kind and severity.
        unchanged: `parts.test` of the report, the line to compare with.
    """
    columns = 2
    kinds = list(changes.items())
    rows = -(-len(kinds) // columns)
    sizes = [
        max(len(severities) for _, severities in kinds[columns * r : columns * (r + 1)])
        for r in range(rows)
    ]
    figure = make_subplots(
        rows=rows,
        cols=columns,
        row_heights=sizes,
        horizontal_spacing=0.16,
        vertical_spacing=0.22 / rows,
        subplot_titles=[kind[:1].upper() + kind[1:] for kind, _ in kinds],
    )
    lowest = 100.0
    for position, (_, severities) in enumerate(kinds):
        cell = {"row": position // columns + 1, "col": position % columns + 1}
        values = [100 * figures["proportion"] for figures in severities.values()]
        intervals = [figures["interval_95"] for figures in severities.values()]
        lowest = min(lowest, *(100 * low for low, _ in intervals))
        figure.add_scatter(
            x=values,
            y=list(severities),
            error_x=_error_bars(values, intervals),
            mode="markers",
            marker={"size": 9, "color": HIGHLIGHT},
            showlegend=False,
            customdata=[
                [figures["n"], interval_text(figures["interval_95"])]
                for figures in severities.values()
            ],
            hovertemplate="%{y}: %{x:.1f} % of %{customdata[0]} fields<br>"
            "95 % interval %{customdata[1]}<extra></extra>",
            **cell,
        )
        figure.add_vline(
            100 * unchanged["accuracy"],
            line={"color": ORANGE, "width": 1.5, "dash": "dash"},
            **cell,
        )
        figure.update_yaxes(
            type="category", range=[len(severities) - 0.4, -0.6], ticklabelstandoff=6, **cell
        )
    lay_out(figure, height=27 * sum(sizes) + 34 * rows + 70)
    figure.update_layout(margin={"t": 30})
    figure.update_xaxes(range=_range(lowest), showgrid=True, showticklabels=False)
    for column in range(1, columns + 1):
        last = (len(kinds) - column) // columns + 1
        figure.update_xaxes(title="accuracy, percent", showticklabels=True, row=last, col=column)
    return figure


def audit_bars(audit: dict) -> go.Figure:
    """What colour, frozen features, and the network with parts blanked out get right."""
    parts = (
        ("network", audit["network"], HIGHLIGHT),
        ("frozen features", audit["frozen_features"], GREY),
        ("colour alone", audit["color_alone"], ORANGE),
    )
    figure, names, top = go.Figure(), [], 0
    for part, results, color in parts:
        values = [100 * figures["proportion"] for figures in results.values()]
        positions = list(range(top, top + len(results)))
        top += len(results)
        names += [f"{part}: {name}" for name in results]
        figure.add_bar(
            x=values,
            y=positions,
            orientation="h",
            marker_color=color,
            error_x=_error_bars(values, [f["interval_95"] for f in results.values()]),
            name=part,
            customdata=[
                [figures["n"], interval_text(figures["interval_95"])]
                for figures in results.values()
            ],
            hovertemplate=f"{part}: " + "%{x:.1f} % of %{customdata[0]:,} fields<br>"
            "95 % interval %{customdata[1]}<extra></extra>",
        )
        for position, figures in zip(positions, results.values(), strict=True):
            figure.add_annotation(
                x=100 * figures["interval_95"][1],
                y=position,
                text=f"{percentage(figures['proportion'])}, n = {figures['n']:,}",
                showarrow=False,
                xanchor="left",
                xshift=8,
            )
    figure.update_traces(error_x_width=6)
    lay_out(figure, height=34 * top + 100)
    figure.update_layout(bargap=0.35)
    figure.update_xaxes(
        title="accuracy, percent", range=[0, 124], tickvals=[0, 20, 40, 60, 80, 100]
    )
    figure.update_yaxes(
        tickvals=list(range(top)), ticktext=names, range=[top - 0.4, -0.6], showgrid=False
    )
    return figure


def stress_bars(stress: dict[str, dict]) -> go.Figure:
    """How often the class of the cells, and that of background or stain, is named.

    Args:
        stress: `tests` of stress tests of the report.
    """
    figure, names = go.Figure(), list(stress)
    for measure, title, color in (
        ("right", "class of the cells", HIGHLIGHT),
        ("donor", "class of the field that lent background or stain", ORANGE),
    ):
        records = {
            names.index(name): figures[measure]
            for name, figures in stress.items()
            if measure in figures
        }
        values = [100 * record["proportion"] for record in records.values()]
        figure.add_bar(
            x=values,
            y=list(records),
            orientation="h",
            marker_color=color,
            error_x=_error_bars(values, [record["interval_95"] for record in records.values()]),
            name=title,
            customdata=[
                [record["n"], interval_text(record["interval_95"])] for record in records.values()
            ],
            hovertemplate=f"{title}: " + "%{x:.1f} % of %{customdata[0]:,} fields<br>"
            "95 % interval %{customdata[1]}<extra></extra>",
        )
    figure.update_traces(error_x_width=6)
    lay_out(figure, height=52 * len(names) + 100)
    figure.update_layout(barmode="group", bargap=0.3)
    figure.update_xaxes(title="named, percent", range=[0, 104])
    figure.update_yaxes(
        tickvals=list(range(len(names))),
        ticktext=[f"{name}<br>n = {figures['n']:,}" for name, figures in stress.items()],
        range=[len(names) - 0.5, -0.5],
        showgrid=False,
    )
    return figure


def _short(protocol: str) -> str:
    """The title of a protocol beside others for unseen slides."""
    return protocol_title(protocol).removeprefix("unseen ")


def _error_bars(values: Sequence[float], intervals: Sequence[Sequence[float]]) -> dict:
    """From values in percent and intervals in [0, 1]; rounding must not make a bar negative."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [max(0, 100 * i[1] - v) for v, i in zip(values, intervals, strict=True)],
        "arrayminus": [max(0, v - 100 * i[0]) for v, i in zip(values, intervals, strict=True)],
        "thickness": 2,
        "width": 4,
    }


def _range(lowest: float) -> list[float]:
    """From below the lowest value to a little over 100 percent."""
    margin = 0.06 * (100 - lowest) + 0.2
    return [max(0, lowest - margin), 100 + margin]


def lay_out(figure: go.Figure, height: int, hovermode: str = "closest") -> None:
    """Gives a chart the look of all charts of reports, `height` in pixels."""
    figure.update_layout(
        height=height,
        margin={"l": 0, "r": 8, "t": 44, "b": 0},
        paper_bgcolor="rgba(0, 0, 0, 0)",
        plot_bgcolor="rgba(0, 0, 0, 0)",
        font={"size": 13},
        hovermode=hovermode,
        dragmode=False,
        legend={
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1.02,
            "yanchor": "bottom",
            "itemclick": False,
            "itemdoubleclick": False,
            "font": {"size": 13},
        },
    )
    figure.update_annotations(font_size=13)
    axis = {
        "fixedrange": True,
        "automargin": True,
        "zeroline": False,
        "gridcolor": _GRID,
        "tickfont": {"size": 13},
        "title": {"font": {"size": 13}},
    }
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)

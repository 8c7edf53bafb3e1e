"""Figures of the evaluation, as SVG; they never contain any part of an image."""

from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt

from mseenet.config import CLASS_NAMES

# Okabe and Ito's palette, told apart with any colour vision; text stays text, and equal
# figures are equal files.
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#77728A"
plt.rcParams.update(
    {
        "svg.fonttype": "none",
        "svg.hashsalt": "mseenet",
        "font.family": "sans-serif",
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
)


def draw_confusion(confusion: list[list[int]], title: str, path: Path) -> None:
    """Draws counts with the share of each true class as shade; rows are the true labels."""
    figure, axes = plt.subplots(figsize=(4.6, 4.2), layout="constrained")
    totals = [max(1, sum(row)) for row in confusion]
    proportions = [
        [count / total for count in row] for row, total in zip(confusion, totals, strict=True)
    ]
    axes.imshow(proportions, cmap="Blues", vmin=0, vmax=1)
    for i, row in enumerate(confusion):
        for j, count in enumerate(row):
            color = "white" if proportions[i][j] > 0.5 else "black"
            axes.text(j, i, str(count), ha="center", va="center", color=color)
    axes.set_xticks(range(len(CLASS_NAMES)), CLASS_NAMES, rotation=20)
    axes.set_yticks(range(len(CLASS_NAMES)), CLASS_NAMES)
    axes.set(xlabel="predicted", ylabel="true", title=title)
    axes.spines[:].set_visible(False)
    _save(figure, path)


def draw_history(history: dict[str, list[dict]], path: Path) -> None:
    """Draws accuracy and loss of training and validation over the epochs of all phases."""
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(6.4, 5), sharex=True, layout="constrained")
    offset = 0
    for number, (phase, records) in enumerate(history.items()):
        if number:
            for axes in (top, bottom):
                axes.axvline(offset, color="grey", linestyle=":", linewidth=1)
        name = f" {phase.replace('_', '-')}"
        top.text(offset, 1.02, name, transform=top.get_xaxis_transform(), fontsize=9)
        for axes, name in ((top, "accuracy"), (bottom, "loss")):
            trained = [r for r in records if name in r]
            axes.plot(
                [offset + r["epoch"] for r in trained],
                [r[name] for r in trained],
                color=BLUE,
                marker=".",
                label=None if number else "training",
            )
            axes.plot(
                [offset + r["epoch"] for r in records],
                [r[f"val_{name}"] for r in records],
                color=ORANGE,
                marker=".",
                linestyle="--",
                label=None if number else "validation",
            )
        offset += records[-1]["epoch"]
    top.set(ylabel="accuracy")
    bottom.set(ylabel="cross-entropy (log scale)", xlabel="epoch", yscale="log")
    top.legend(loc="lower right", frameon=False)
    _save(figure, path)


def draw_reliability(blocks: dict[str, dict], path: Path) -> None:
    """Draws accuracy against confidence on unseen slides, before and after calibration."""
    figure, panels = plt.subplots(
        1, len(blocks), figsize=(4.2 * len(blocks), 4), layout="constrained", squeeze=False
    )
    for axes, (embargo, figures) in zip(panels[0], blocks.items(), strict=True):
        axes.plot([0, 1], [0, 1], color="grey", linewidth=1)
        for name, color, marker in (("before", ORANGE, "s"), ("after", BLUE, "o")):
            result = figures[f"{name}_calibration"]
            confidence, accuracy, counts = zip(*result["bins"], strict=True)
            axes.plot(confidence, accuracy, color=color, linewidth=1)
            sizes = [6 + 90 * count / sum(counts) for count in counts]
            label = f"{name} calibration, ECE {result['ece']:.3f}"
            axes.scatter(confidence, accuracy, sizes, color=color, marker=marker, label=label)
        title = f"blocks, embargo {embargo}, n = {figures['n']}"
        axes.set(
            xlabel="confidence", ylabel="accuracy", title=title, xlim=(0.2, 1.02), ylim=(0, 1.04)
        )
        axes.legend(loc="upper left", frameon=False)
    _save(figure, path)


def draw_risk_coverage(blocks: dict[str, dict], path: Path) -> None:
    """Draws the accuracy of what is left when the least confident fields are flagged."""
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    for (embargo, figures), color, style in zip(
        blocks.items(), (BLUE, ORANGE), ("-", "--"), strict=False
    ):
        coverage, accuracy = zip(*figures["risk_coverage"], strict=True)
        axes.plot(
            [100 * c for c in coverage],
            [100 * a for a in accuracy],
            style,
            color=color,
            label=f"embargo {embargo}, n = {figures['n']}",
        )
    axes.set(xlabel="fields that are not flagged, percent", ylabel="their accuracy, percent")
    axes.legend(loc="lower left", frameon=False)
    _save(figure, path)


def draw_robustness(robustness: dict[str, dict], path: Path) -> None:
    """Draws the accuracy for every kind and severity of change, with intervals."""
    rows = [
        (f"{kind} {severity}", figures)
        for kind, severities in robustness.items()
        for severity, figures in severities.items()
    ]
    figure, axes = plt.subplots(figsize=(6.4, 0.2 * len(rows) + 1), layout="constrained")
    for position, (_, figures) in enumerate(rows):
        low, high = (100 * bound for bound in figures["interval_95"])
        axes.plot([low, high], [position, position], color=BLUE, linewidth=1)
        axes.plot(100 * figures["proportion"], position, "o", color=BLUE, markersize=4)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel=f"accuracy, percent (n = {rows[0][1]['n']}, 95 % interval)")
    _save(figure, path)


def draw_audit(result: dict, path: Path) -> None:
    """Draws what colour, frozen features, and the network with parts blanked out get right."""
    rows = [(f"colour alone, {name}", f, ORANGE) for name, f in result["color_alone"].items()]
    rows += [(f"frozen features, {name}", f, GREY) for name, f in result["frozen_features"].items()]
    rows += [(f"network, {name}", f, BLUE) for name, f in result["network"].items()]
    figure, axes = plt.subplots(figsize=(7.2, 0.32 * len(rows) + 0.9), layout="constrained")
    for position, (_, figures, color) in enumerate(rows):
        low, high = (100 * bound for bound in figures["interval_95"])
        axes.plot([low, high], [position, position], color=color, linewidth=1)
        axes.plot(100 * figures["proportion"], position, "o", color=color, markersize=5)
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows], fontsize=9)
    axes.invert_yaxis()
    axes.set(xlabel="accuracy, percent (95 % interval)", xlim=(0, 101))
    _save(figure, path)


def _save(figure, path: Path) -> None:
    figure.savefig(path, format="svg", metadata={"Date": None})
    plt.close(figure)

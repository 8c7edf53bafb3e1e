"""Figures of the evaluation, as SVG; they never contain any part of an image."""

from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt

from mseenet.config import CLASS_NAMES, PHASES

# Okabe and Ito's palette, told apart with any colour vision; text stays text, and equal
# figures are equal files.
BLUE, ORANGE = "#0072B2", "#D55E00"
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
    shares = [
        [count / total for count in row] for row, total in zip(confusion, totals, strict=True)
    ]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i, row in enumerate(confusion):
        for j, count in enumerate(row):
            color = "white" if shares[i][j] > 0.5 else "black"
            axes.text(j, i, str(count), ha="center", va="center", color=color)
    axes.set_xticks(range(len(CLASS_NAMES)), CLASS_NAMES, rotation=20)
    axes.set_yticks(range(len(CLASS_NAMES)), CLASS_NAMES)
    axes.set(xlabel="predicted", ylabel="true", title=title)
    axes.spines[:].set_visible(False)
    _save(figure, path)


def draw_history(history: dict[str, list[dict]], path: Path) -> None:
    """Draws accuracy and loss of training and validation over the epochs of both phases."""
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(6.4, 5), sharex=True, layout="constrained")
    offset = 0
    for phase in PHASES:
        records = history[phase]
        if phase != PHASES[0]:
            for axes in (top, bottom):
                axes.axvline(offset, color="grey", linestyle=":", linewidth=1)
            top.text(offset, 1.02, " fine-tuning", transform=top.get_xaxis_transform(), fontsize=9)
        for axes, name in ((top, "accuracy"), (bottom, "loss")):
            trained = [r for r in records if name in r]
            axes.plot(
                [offset + r["epoch"] for r in trained],
                [r[name] for r in trained],
                color=BLUE,
                marker=".",
                label="training" if phase == PHASES[0] else None,
            )
            axes.plot(
                [offset + r["epoch"] for r in records],
                [r[f"val_{name}"] for r in records],
                color=ORANGE,
                marker=".",
                linestyle="--",
                label="validation" if phase == PHASES[0] else None,
            )
        offset += records[-1]["epoch"]
    top.text(0, 1.02, " frozen backbone", transform=top.get_xaxis_transform(), fontsize=9)
    top.set(ylabel="accuracy")
    bottom.set(ylabel="cross-entropy (log scale)", xlabel="epoch", yscale="log")
    top.legend(loc="lower right", frameon=False)
    _save(figure, path)


def _save(figure, path: Path) -> None:
    figure.savefig(path, format="svg", metadata={"Date": None})
    plt.close(figure)

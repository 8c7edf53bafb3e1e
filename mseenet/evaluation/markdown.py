"""Tables and percentages of the reports in Markdown."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines of a table.

    Args:
        head: Titles of the columns; one that ends in a colon, which is not shown, aligns its
            column to the right.
        rows: Cells, as many as there are titles.
    """
    lines = [
        [title.removesuffix(":") for title in head],
        ["---:" if title.endswith(":") else "---" for title in head],
        *rows,
    ]
    return [f"| {' | '.join(map(str, cells))} |" for cells in lines]


def percent(value: float, interval: Sequence[float] | None) -> str:
    """A proportion and its interval in percent: "98.39 (96.8-99.4)".

    Args:
        value: In [0, 1].
        interval: Lower and upper bound in [0, 1]; None where nothing was wrong and a bootstrap
            has nothing to draw.
    """
    if interval is None:
        return f"{100 * value:.2f} (no error)"
    low, high = interval
    return f"{100 * value:.2f} ({100 * low:.1f}-{100 * high:.1f})"


def proportion_percent(record: dict) -> str:
    """The same, of a record of `mseenet.metrics.proportion`."""
    return percent(record["proportion"], record["interval_95"])

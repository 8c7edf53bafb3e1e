"""Fills the tables of figures in README.md and docs/explanation/figures.md from the reports.

    python -m tools.figures

What stands between the marks is replaced by what weights/evaluation.json says;
tests/test_docs.py fails where it is not the same.
"""

import json
import re
from pathlib import Path

from mseenet.case.words import confidence_kept, hardest_unseen, protocol_title
from mseenet.evaluation.markdown import table
from mseenet.evaluation.stress import ANOTHER_CLASS, NO_CELLS

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "explanation" / "figures.md")
START, END = "<!-- table: figures of weights/evaluation.json -->", "<!-- end of the table -->"


def figures_table(evaluation: dict) -> list[str]:
    """Lines of what stands between the marks.

    Args:
        evaluation: Content of evaluation.json.
    """

    def proportion(record: dict) -> str:
        low, high = record["interval_95"]
        return f"{100 * record['proportion']:.1f} % ({100 * low:.1f}-{100 * high:.1f})"

    def accuracy(figures: dict) -> str:
        interval = figures["interval_95"]["accuracy"]
        return proportion({"proportion": figures["accuracy"], "interval_95": interval})

    test = evaluation["parts"]["test"]
    rows = [["known slides: the paper's random split", test["n"], f"{accuracy(test)} right"]]
    unseen = evaluation.get("unseen", {})
    for protocol, figures in unseen.items():
        promise, malignant = figures["review_promise"], figures["malignant"]
        rows += [
            [protocol_title(protocol), f"{figures['n']:,}", f"{accuracy(figures)} right"],
            [
                "the same, at or above the review threshold",
                f"{promise['n']:,}",
                f"promised {promise['promised']:.0%}, given {proportion(promise)}",
            ],
            [
                "the same, malignant called Benign",
                f"{malignant['called_benign']['n']:,}",
                proportion(malignant["called_benign"]),
            ],
        ]
        if "slides" in figures:
            series = figures["slides"]["series"]
            title = "the same, whole series given their class"
            rows.append([title, series["n"], f"{proportion(series)} right"])
    found = hardest_unseen(unseen)
    where, stress = "known slides", evaluation.get("stress")
    if found and "stress" in found[1]:
        where, stress = protocol_title(found[0]), found[1]["stress"]
    if stress:
        for test_name in (*ANOTHER_CLASS.values(), NO_CELLS):
            figures = stress["tests"].get(test_name)
            if figures:
                said = proportion(figures["right"]) + " right"
                if test_name == NO_CELLS:
                    said = proportion(figures["ok"]) + ' still "ok"'
                rows.append([f"{where}, {test_name}", f"{figures['n']:,}", said])
    for name, statuses in evaluation["statuses"].items():
        if "brightness" not in name:
            title = "its own test fields" if name == "test" else name
            rejected = statuses["rejected"]
            rows.append([title, rejected["n"], f"{proportion(rejected)} refused"])
    rows.append(["the paper, its own random split", "", "98.77 % right"])
    lines = table(["tested on", "n:", "result (95 % interval)"], rows)
    sentences = [*(stress["summary"][:1] if stress else []), confidence_kept(unseen)]
    return [*lines, *(line for text in sentences if text for line in ("", text))]


def filled(text: str, evaluation: dict) -> str:
    """A document with the table that the report gives.

    Args:
        text: Holds the marks.
        evaluation: Content of evaluation.json.
    """
    made = "\n".join((START, "", *figures_table(evaluation), "", END))
    pattern = f"{re.escape(START)}.*?{re.escape(END)}"
    return re.sub(pattern, lambda _: made, text, flags=re.DOTALL)


def main() -> None:
    evaluation = json.loads((ROOT / "weights" / "evaluation.json").read_text("utf-8"))
    for document in DOCUMENTS:
        document.write_text(filled(document.read_text("utf-8"), evaluation), encoding="utf-8")


if __name__ == "__main__":
    main()

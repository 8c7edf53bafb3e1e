"""The model card, MODEL_CARD.md: written from card.json and the reports, never by hand."""

import json

from mseenet.config import CLASS_NAMES
from mseenet.evaluation.markdown import proportion_percent, table
from mseenet.evaluation.stress import ANOTHER_CLASS, NO_CELLS, SAME_CLASS, follows_background
from mseenet.inference.calibration import temperature_text


def model_card(card: dict, evaluation: dict, audit: dict | None = None) -> str:
    """The card for people.

    Args:
        card: Content of card.json.
        evaluation: Content of evaluation.json.
        audit: Content of audit.json, if one of this release is there.

    Returns:
        Markdown.
    """
    split, training = card["split"], card["training"]
    settings = training["settings"]
    lines = [
        "# Model card: MSEENet",
        "",
        "Written by `mseenet evaluate` from card.json and the reports; do not edit.",
        "",
        f"- Release `{evaluation['release']}`: names weights, calibration, thresholds and gate together",
        f"- Weights `{card['weights']['file']}`, SHA-256 `{card['weights']['sha256']}`",
        f"- {card['weights']['parameters']:,} parameters: EfficientNetV2B0 and an inception-style "
        "multi-scale module, after Najjar, Kadum and Hassan (2025)",
        f"- Input: {card['input']['channels']}, {card['input']['height']} x {card['input']['width']} "
        f"pixels in {card['input']['value_range']}, {card['input']['resize']}",
        f"- Output: probabilities of {', '.join(CLASS_NAMES)}, calibrated with {temperature_text(card['calibration'])}",
        f"- Trained {training['finished'][:10]} on {training['device']} in {training['minutes']} "
        f"minutes, recipe `{training['recipe']}`: `{training['command']}`",
        "",
        "## Intended use",
        "",
        "Research and teaching: to see what a network makes of peripheral blood smear fields of "
        "suspected B-cell acute lymphoblastic leukaemia, and how far it can be trusted. Not a "
        "medical device; no diagnosis, no grading, no advice on treatment follows from it.",
        "",
        "## Out of scope",
        "",
        "Acute myeloid leukaemia, chronic lymphocytic leukaemia, T-cell ALL, other diseases, healthy "
        "blood (Benign means haematogones), single-cell crops, bone marrow, other magnifications; "
        "and every laboratory, stain and camera but that of the training data, until somebody has "
        "validated it there. The novelty gate refuses much of this, but it is no guarantee.",
        "",
        "## Data and protocols",
        "",
        f"The ALL image dataset of one laboratory (doi:10.34740/KAGGLE/DSV/2175623): "
        f"{sum(split['n'].values())} fields, {', '.join(f'{n} {name}' for name, n in split['n'].items())} "
        f"by the {split['protocol']} protocol with seed {split['seed']} (`{split['file']}`). Subtypes "
        "were assigned by flow cytometry. The dataset names no patients; file order follows the "
        "slides, so the random protocol tests known slides, and the protocol `blocks` tests "
        "contiguous file ranges with an embargo around them.",
        "",
        "Settings: " + json.dumps(settings),
        "",
        "## Figures",
        "",
        "95 % intervals in brackets: of accuracy on unseen slides and of cells on other backgrounds "
        "a bootstrap over blocks, else "
        "Wilson's, which takes fields for independent. Every figure with its conditions is in EVALUATION.md.",
        "",
        *table(["measured", "n:", "percent"], _figures(evaluation)),
    ]
    if audit:
        lines += ["", "## Shortcuts", "", "From AUDIT.md:", ""]
        lines += [f"- {line}" for line in audit["summary"]]
    lines += [
        "",
        "## Limits",
        "",
        "- One laboratory, one stain; which patients the fields are of is not known. Colour alone "
        "predicts the class well in this dataset, and no evaluation on it can rule out that the "
        "network uses that.",
        *_limit_of_stress(evaluation.get("stress")),
        "- Accuracy falls on unseen slides, most on those that look like none in training.",
        "- Heatmaps show where the evidence lies in cells of 32 pixels, not which cell, and not why.",
        "- Thresholds were set on fields of this dataset; their rates elsewhere are unknown.",
        "",
        "## Licence and citation",
        "",
        "MIT for code and weights. The backbone's ImageNet weights are Keras's (Apache-2.0). The "
        "dataset's authors ask for citation (doi:10.1002/int.22753, "
        "doi:10.34740/KAGGLE/DSV/2175623) and against redistribution.",
    ]
    return "\n".join(lines) + "\n"


def _limit_of_stress(stress: dict | None) -> list[str]:
    """What the stress tests found, if it is a limit."""
    if not stress or not follows_background(stress["tests"]):
        return []
    return [
        "- The answer follows red cells and plasma as well as the nucleated cells: on the background "
        "of another class the same cells are called right less often than on that of their own."
    ]


def _figures(evaluation: dict) -> list[tuple[str, int, str]]:
    def row(name: str, record: dict) -> tuple[str, int, str]:
        return name, record["n"], proportion_percent(record)

    def accuracy(name: str, figures: dict, measure: str) -> tuple[str, int, str]:
        record = {"n": figures["n"], "proportion": figures[measure]}
        return row(name, record | {"interval_95": figures["interval_95"]["accuracy"]})

    rows = [accuracy("accuracy, random test", evaluation["parts"]["test"], "accuracy")]
    for embargo, blocks in evaluation.get("blocks", {}).items():
        name = f"unseen slides (blocks, embargo {embargo})"
        kept, flagged = blocks["selective"], blocks["flagged"]
        ece = f"{100 * blocks['after_calibration']['ece']:.2f}"
        rows += [
            accuracy(
                f"accuracy, {name}, mean of {len(blocks['folds'])} folds", blocks, "mean_accuracy"
            ),
            row(f"the same, most confident {kept['coverage']:.0%}", kept),
            row("the same, fields that are not flagged", flagged["rest_right"]),
            row("errors that are flagged", flagged["errors"]),
            (f"expected calibration error, {name}", blocks["n"], ece),
        ]
    for protocol, record in evaluation.get("malignant", {}).get("called_benign", {}).items():
        rows.append(row(f"malignant called Benign, {protocol}", record))
    statuses = evaluation["statuses"]
    rows += [row(f"rejected: {name}", figures["rejected"]) for name, figures in statuses.items()]
    rows.append(row("to review: test", statuses["test"]["review"]))
    for kind, severities in evaluation["robustness"].items():
        severity, worst = min(severities.items(), key=lambda item: item[1]["proportion"])
        rows.append(row(f"accuracy, {kind}, worst at {severity}", worst))
    stress = evaluation.get("stress", {}).get("tests", {})
    for name in (*SAME_CLASS.values(), *ANOTHER_CLASS.values()):
        if name in stress:
            rows.append(row(f"accuracy, cells on {name}", stress[name]["right"]))
        if "donor" in stress.get(name, {}):
            rows.append(row("the same, class of the background named", stress[name]["donor"]))
    if NO_CELLS in stress:
        rows += [row(f"{NO_CELLS}: {s}", stress[NO_CELLS][s]) for s in ("ok", "rejected")]
    return rows

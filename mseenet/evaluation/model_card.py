"""The model card, MODEL_CARD.md: written from card.json and the reports, never by hand."""

import json

from mseenet.case.words import confidence_kept, hardest_unseen, operating_point, protocol_title
from mseenet.config import CLASS_NAMES
from mseenet.evaluation.markdown import proportion_percent, table
from mseenet.evaluation.stress import (
    ANOTHER_CLASS,
    NO_CELLS,
    SAME_CLASS,
    background_sentence,
    follows_background,
)
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
        "were assigned by flow cytometry. The dataset names no patients, and the random protocol tests "
        "known slides. For unseen ones series of the camera, or blocks of file order with an embargo "
        "around them, are left out of training; a series is no patient.",
        "",
        "Settings: " + json.dumps(settings),
        "",
        "## Figures",
        "",
        "95 % intervals in brackets: a bootstrap over series, ranges of captures or blocks, whose "
        "fields fail together; Wilson's for foreign images, and where all or none are counted. Every "
        "figure with its conditions is in EVALUATION.md.",
        "",
        *table(["measured", "n:", "percent"], _figures(evaluation)),
    ]
    if "unseen" in evaluation:
        point = operating_point(evaluation["operating_point"], evaluation["unseen"])
        lines += [
            "",
            f"The malignant operating point: {point}. {confidence_kept(evaluation['unseen'])}",
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
        *_limit_of_stress(evaluation, training["recipe"]),
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


def stress_of_report(evaluation: dict) -> tuple[str, dict] | None:
    """The stress tests that say most: of the hardest unseen slides, else of the random test.

    Args:
        evaluation: Content of evaluation.json.

    Returns:
        On what, and `summary` and `tests`; None if there are none.
    """
    found = hardest_unseen(evaluation.get("unseen", {}))
    if found and "stress" in found[1]:
        return protocol_title(found[0]), found[1]["stress"]
    stress = evaluation.get("stress")
    return ("the random test", stress) if stress else None


def _limit_of_stress(evaluation: dict, recipe: str) -> list[str]:
    """What the stress tests found, and what was done about it."""
    found = stress_of_report(evaluation)
    sentence = found and background_sentence(found[1]["tests"], recipe)
    if not found or not sentence:
        return []
    lines = [f"- {sentence.removesuffix('.')} (on {found[0]})."]
    if follows_background(found[1]["tests"]):
        lines.append("- The answer follows red cells and plasma as well as the nucleated cells.")
    return lines


def _figures(evaluation: dict) -> list[tuple[str, int, str]]:
    def row(name: str, record: dict) -> tuple[str, int, str]:
        return name, record["n"], proportion_percent(record)

    def accuracy(name: str, figures: dict) -> tuple[str, int, str]:
        record = {"n": figures["n"], "proportion": figures["accuracy"]}
        return row(name, record | {"interval_95": figures["interval_95"]["accuracy"]})

    rows = [accuracy("accuracy, random test", evaluation["parts"]["test"])]
    for protocol, figures in evaluation.get("unseen", {}).items():
        name = protocol_title(protocol)
        kept, flagged, malignant = figures["selective"], figures["flagged"], figures["malignant"]
        promise = figures["review_promise"]
        rows += [
            accuracy(f"accuracy, {name}", figures),
            row(f"the same, most confident {kept['coverage']:.0%}", kept),
            row("the same, fields that are not flagged", flagged["rest_right"]),
            row(f"the same, above the threshold that promises {promise['promised']:.0%}", promise),
            row("errors that are flagged", flagged["errors"]),
            (
                f"expected calibration error, {name}",
                figures["n"],
                f"{100 * figures['after_calibration']['ece']:.2f}",
            ),
            row(f"malignant called Benign, {name}", malignant["called_benign"]),
            row(f"Benign called malignant, {name}", malignant["called_malignant"]),
            row("operating point, malignant caught", malignant["sensitivity"]),
            row("operating point, benign below it", malignant["specificity"]),
        ]
    statuses = evaluation["statuses"]
    rows += [row(f"rejected: {name}", figures["rejected"]) for name, figures in statuses.items()]
    rows.append(row("to review: test", statuses["test"]["review"]))
    for kind, severities in evaluation["robustness"].items():
        severity, worst = min(severities.items(), key=lambda item: item[1]["proportion"])
        rows.append(row(f"accuracy, {kind}, worst at {severity}", worst))
    found = stress_of_report(evaluation)
    stress = found[1]["tests"] if found else {}
    for name in (*SAME_CLASS.values(), *ANOTHER_CLASS.values()):
        if name in stress:
            rows.append(row(f"accuracy, cells on {name}", stress[name]["right"]))
        if "donor" in stress.get(name, {}):
            rows.append(row("the same, class of the background named", stress[name]["donor"]))
    if NO_CELLS in stress:
        rows += [row(f"{NO_CELLS}: {s}", stress[NO_CELLS][s]) for s in ("ok", "rejected")]
    return rows

"""EVALUATION.md: the report for people, from the numbers of evaluation.json."""

import numpy as np

from mseenet.config import CLASS_NAMES
from mseenet.evaluation.unseen import BINS, COVERAGE
from mseenet.inference.calibration import temperature_text
from mseenet.inference.card import Card
from mseenet.metrics import (
    SUMMARY_NAMES,
    class_metrics,
    wilson_interval,
)
from mseenet.training.splits import FOLDS

PAPER_TABLE = (
    # Table I of the paper: authors, method, then SUMMARY_NAMES in percent
    ("Atteia et al. (2023)", "features, PSO, PCA", 97.40, None, 96.60, None, None),
    ("Gokulkrishnan et al. (2023)", "pre-trained CNNs", 96.77, None, None, None, None),
    ("Kadhim et al. (2023)", "own CNN", 98.15, None, 94.73, None, None),
    ("Hagar et al. (2023)", "own model", 98.20, None, None, None, None),
    ("Rejula et al. (2023)", "ANFIS", 95.67, None, None, None, None),
    (
        "Tusar et al. (2024)",
        "DNN, ConvNet, MobileNetV2, ResNet50",
        97.00,
        97.00,
        96.00,
        96.00,
        None,
    ),
    ("Mustafa et al. (2024)", "YOLOv5", 97.80, 96.00, 96.70, None, None),
    ("Najjar et al. (2025)", "MSEENet, the paper", 98.77, 98.99, 98.49, 98.72, 98.34),
)


def evaluation_markdown(result: dict, card: Card) -> str:
    """The report for people, from the same numbers as evaluation.json."""
    parts = result["parts"]
    test = parts["test"]
    lines = [
        "# Evaluation",
        "",
        "Written by `mseenet evaluate`; do not edit. Weights "
        f"`{card.weights_path.name}`, split `{card.content['split']['file']}`.",
        "",
        "The split is the paper's: stratified at random, 80/10/10. Fields of one slide lie in "
        "training and test alike (the dataset names no patients), so these figures say how well "
        "known slides are recognised. **Expect less on a slide that the network has not seen.** "
        f"Calibrated with {temperature_text(card.content['calibration'])}. The fields of `test` had "
        "no part in training these weights; but as fields of blocks, tested by other networks, "
        "they are among those that calibration and review threshold come from.",
        "",
        "## Each part of the split",
        "",
        "Percent, with 95 % intervals (accuracy: Wilson; others: bootstrap over images, which says "
        "nothing where there is no error: read the accuracy's interval then). "
        "Precision, sensitivity, F1 and MCC are means over the four classes of eqs. 2-5, each "
        "class against the rest. Eq. 4 as printed in the paper, 2(P+S)/(P+S), is always 2; the "
        "harmonic mean 2PS/(P+S) that its text describes is meant and used.",
        "",
        "| part | n | accuracy | precision | sensitivity | F1 | MCC | ECE | Brier |",
        "| --- | ---: | --- | --- | --- | --- | --- | ---: | ---: |",
    ]
    for name, figures in parts.items():
        cells = [_with_interval(figures[m], figures["interval_95"][m]) for m in SUMMARY_NAMES]
        lines.append(
            f"| {name} | {figures['n']} | {' | '.join(cells)} | "
            f"{figures['ece']:.3f} | {figures['brier']:.4f} |"
        )

    confusion = np.array(test["confusion"])
    per_class = class_metrics(confusion)
    lines += [
        "",
        "## Test split by class",
        "",
        "| class | n | precision | sensitivity | F1 | MCC |",
        "| --- | ---: | --- | --- | ---: | ---: |",
    ]
    for i, name in enumerate(CLASS_NAMES):
        true, named, hit = confusion[i].sum(), confusion[:, i].sum(), confusion[i, i]
        lines.append(
            f"| {name} | {true} "
            f"| {_with_interval(per_class.precision[i], wilson_interval(int(hit), int(named)))} "
            f"| {_with_interval(per_class.sensitivity[i], wilson_interval(int(hit), int(true)))} "
            f"| {100 * per_class.f1[i]:.2f} | {100 * per_class.mcc[i]:.2f} |"
        )
    lines += [
        "",
        "Confusion matrix (rows: true class, columns: predicted):",
        "",
        f"| | {' | '.join(CLASS_NAMES)} |",
        "| --- |" + " ---: |" * len(CLASS_NAMES),
        *(
            f"| **{name}** | {' | '.join(map(str, row))} |"
            for name, row in zip(CLASS_NAMES, test["confusion"], strict=True)
        ),
        "",
        "![Confusion matrix of the test split](figures/confusion.svg)",
        "![Accuracy and loss over the epochs](figures/training.svg)",
        "",
        "## Beside the paper's Table I",
        "",
        "Percent. Every row has its own random test images; differences of a point are within "
        f"what the choice of {test['n']} images does.",
        "",
        "| authors | method | accuracy | precision | sensitivity | F1 | MCC |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for authors, method, *values in PAPER_TABLE:
        cells = ["-" if value is None else f"{value:.2f}" for value in values]
        lines.append(f"| {authors} | {method} | {' | '.join(cells)} |")
    ours = " | ".join(f"**{100 * test[name]:.2f}**" for name in SUMMARY_NAMES)
    lines.append(f"| this project | these weights, n = {test['n']} | {ours} |")

    lines += _blocks_lines(result) + _status_lines(result) + _robustness_lines(result)
    return "\n".join(lines) + "\n"


def _blocks_lines(result: dict) -> list[str]:
    if "blocks" not in result:
        return []
    test, blocks = result["parts"]["test"], result["blocks"]
    lines = [
        "",
        "## Unseen slides",
        "",
        "File numbers follow the slides. Each class is cut into five contiguous blocks; each block "
        "is tested by a network trained with the same recipe on the rest, without the files within "
        "the embargo (in file numbers) around the block and without near-duplicates of its images. "
        "Means over the five folds; their interval is a bootstrap over the "
        f"{FOLDS * len(CLASS_NAMES)} blocks, as neighbours on a slide are not independent (so few "
        "make it rough). All other intervals of this section take fields for independent and are "
        "too narrow. The recipe's "
        "augmentation was chosen with a look at fold 0 and its learning rate at fold 4, its style "
        "mixing, number of epochs and share of unchanged images on the val part and on another "
        "partition of the same files, into four blocks: these figures are somewhat optimistic. "
        "Slides interleave in file order, and the narrower embargo leaves some of one in training.",
        "",
        "| protocol | n | accuracy | of each fold | MCC | "
        + " | ".join(f"{name} sensitivity" for name in CLASS_NAMES)
        + " |",
        "| --- | ---: | --- | --- | ---: |" + " ---: |" * len(CLASS_NAMES),
    ]
    confusion = np.array(test["confusion"])
    cells = " | ".join(f"{100 * v:.1f}" for v in class_metrics(confusion).sensitivity)
    lines.append(
        f"| random test | {test['n']} | {_with_interval(test['accuracy'], test['interval_95']['accuracy'])} "
        f"| | {100 * test['mcc']:.2f} | {cells} |"
    )
    for embargo, figures in blocks.items():
        cells = " | ".join(f"{100 * v:.1f}" for v in figures["mean_sensitivity"])
        folds = ", ".join(f"{100 * fold['accuracy']:.1f}" for fold in figures["folds"])
        lines.append(
            f"| blocks, embargo {embargo} | {figures['n']} | "
            f"{_with_interval(figures['mean_accuracy'], figures['interval_95']['accuracy'])} | {folds} "
            f"| {100 * figures['mcc']:.2f} | {cells} |"
        )
    lines += [
        "",
        f"Confidence on unseen slides (ECE with {BINS} bins; each fold calibrated as the weights "
        "are, but with what fits the other four folds of both embargoes), and accuracy of the most "
        f"confident {COVERAGE:.0%} of the fields:",
        "",
        "| protocol | ECE before | ECE after | Brier before | Brier after | accuracy of the most confident |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for embargo, figures in blocks.items():
        before, after = figures["before_calibration"], figures["after_calibration"]
        chosen = figures["selective"]
        lines.append(
            f"| blocks, embargo {embargo} | {before['ece']:.3f} | {after['ece']:.3f} | "
            f"{before['brier']:.4f} | {after['brier']:.4f} | "
            f"{_with_interval(chosen['proportion'], chosen['interval_95'])}, n = {chosen['n']} |"
        )
    flagged = [
        f"embargo {embargo}: {_with_interval(f['fields']['proportion'], f['fields']['interval_95'])} "
        f"of the fields, among them {_with_interval(f['errors']['proportion'], f['errors']['interval_95'])} "
        f"of the {f['errors']['n']} errors, of the others "
        f"{_with_interval(f['rest_right']['proportion'], f['rest_right']['interval_95'])} right"
        for embargo, f in ((e, figures["flagged"]) for e, figures in blocks.items())
    ]
    point = result["malignant"]["operating_point"]
    called = [
        f"{name} {_with_interval(value['proportion'], value['interval_95'])} of {value['n']}"
        for name, value in result["malignant"]["called_benign"].items()
    ]
    return [
        *lines,
        f"| random test, with the card's calibration | | {test['ece']:.3f} | | {test['brier']:.4f} | |",
        "",
        "Sent to review or refused, by a confidence threshold from the other four folds and by the "
        f"weights' own novelty thresholds. {'; '.join(flagged).capitalize()}.",
        "",
        f"Malignant fields called Benign: {'; '.join(called)}. Calling a field malignant from a "
        f"probability of {point['threshold']:.3f} on (all classes but Benign together) catches "
        f"{point['sensitivity']:.2%} of the malignant fields of unseen slides; {point['specificity']:.1%} "
        f"of the benign ones stay below it (n = {point['n']}: each field at either embargo; chosen on "
        "the same predictions).",
        "",
        "![Reliability on unseen slides](figures/reliability.svg)",
        "![Accuracy against the share of fields that are not flagged](figures/risk-coverage.svg)",
    ]


def _status_lines(result: dict) -> list[str]:
    lines = [
        "",
        "## What is refused",
        "",
        "Novelty gate and quality checks, percent of each kind with the Wilson interval. Thresholds "
        "of novelty and quality come from training and validation fields, that of confidence from "
        "the fields of blocks; no foreign image had a part in them.",
        "",
        "| images | n | rejected | to review |",
        "| --- | ---: | --- | --- |",
    ]
    for name, figures in result["statuses"].items():
        rejected, review = (
            _with_interval(figures[s]["proportion"], figures[s]["interval_95"])
            for s in ("rejected", "review")
        )
        lines.append(f"| {name} | {figures['rejected']['n']} | {rejected} | {review} |")
    return lines


def _robustness_lines(result: dict) -> list[str]:
    n = result["parts"]["test"]["n"]
    lines = [
        "",
        "## Other light, stain and focus",
        "",
        f"Accuracy on the {n} test fields, changed as stated, with the Wilson interval; the gate's "
        "verdict is disregarded here.",
        "",
        "| change | accuracy by severity |",
        "| --- | --- |",
    ]
    for kind, severities in result["robustness"].items():
        cells = "; ".join(
            f"{name}: {_with_interval(value['proportion'], value['interval_95'])}"
            for name, value in severities.items()
        )
        lines.append(f"| {kind} | {cells} |")
    return [*lines, "", "![Accuracy under changes of the image](figures/robustness.svg)"]


def _with_interval(value: float, interval) -> str:
    if interval is None:
        return f"{100 * value:.2f} (no error)"
    return f"{100 * value:.2f} ({100 * interval[0]:.1f}-{100 * interval[1]:.1f})"

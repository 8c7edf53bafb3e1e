"""EVALUATION.md: the report for people, from the numbers of evaluation.json."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mseenet.config import CLASS_NAMES
from mseenet.evaluation.markdown import percent, proportion_percent, table
from mseenet.evaluation.unseen import BINS, COVERAGE
from mseenet.imaging.transplant import HELD_OUT
from mseenet.inference.calibration import temperature_text
from mseenet.metrics import SUMMARY_NAMES, class_metrics, wilson_interval
from mseenet.training.splits import FOLDS

PAPER_TABLE: tuple[tuple[str, str, tuple[float | None, ...]], ...] = (
    # Table I of the paper: authors, method, then SUMMARY_NAMES in percent
    ("Atteia et al. (2023)", "features, PSO, PCA", (97.40, None, 96.60, None, None)),
    ("Gokulkrishnan et al. (2023)", "pre-trained CNNs", (96.77, None, None, None, None)),
    ("Kadhim et al. (2023)", "own CNN", (98.15, None, 94.73, None, None)),
    ("Hagar et al. (2023)", "own model", (98.20, None, None, None, None)),
    ("Rejula et al. (2023)", "ANFIS", (95.67, None, None, None, None)),
    (
        "Tusar et al. (2024)",
        "DNN, ConvNet, MobileNetV2, ResNet50",
        (97.00, 97.00, 96.00, 96.00, None),
    ),
    ("Mustafa et al. (2024)", "YOLOv5", (97.80, 96.00, 96.70, None, None)),
    ("Najjar et al. (2025)", "MSEENet, the paper", (98.77, 98.99, 98.49, 98.72, 98.34)),
)


def evaluation_markdown(result: dict, card: dict, history: Mapping[str, Sequence[dict]]) -> str:
    """The report for people, from the same numbers as evaluation.json.

    Args:
        result: Content of evaluation.json.
        card: Content of card.json.
        history: Content of the history that the card names: the epochs of each phase.
    """
    test = result["parts"]["test"]
    lines = [
        "# Evaluation",
        "",
        f"Written by `mseenet evaluate`; do not edit. Release `{result['release']}`: weights "
        f"`{card['weights']['file']}`, split `{card['split']['file']}`. The page *Model* of the app "
        "draws what stands here as charts.",
        "",
        "The split is the paper's: stratified at random, 80/10/10. Fields of one slide lie in "
        "training and test alike (the dataset names no patients), so these figures say how well "
        "known slides are recognised. **Expect less on a slide that the network has not seen.** "
        f"Calibrated with {temperature_text(card['calibration'])}. The fields of `test` had "
        "no part in training these weights; but as fields of blocks, tested by other networks, "
        "they are among those that calibration and review threshold come from.",
        *_parts(result["parts"]),
        *_classes(test["confusion"]),
        *_paper(test),
    ]
    if "blocks" in result:
        lines += _unseen(result)
        lines += _calibration(result)
        lines += _reliability(result["blocks"])
        lines += _risk_coverage(result["blocks"])
    lines += _statuses(result["statuses"])
    lines += _robustness(result["robustness"], test["n"])
    if "stress" in result:
        lines += _stress(result["stress"])
    lines += _training(history, card["training"].get("best_epoch", {}))
    return "\n".join(lines) + "\n"


def _parts(parts: dict[str, dict]) -> list[str]:
    rows = [
        [
            name,
            figures["n"],
            *(percent(figures[m], figures["interval_95"][m]) for m in SUMMARY_NAMES),
            f"{figures['ece']:.3f}",
            f"{figures['brier']:.4f}",
        ]
        for name, figures in parts.items()
    ]
    head = ["part", "n:", "accuracy", "precision", "sensitivity", "F1", "MCC", "ECE:", "Brier:"]
    return [
        "",
        "## Each part of the split",
        "",
        "Percent, with 95 % intervals (accuracy: Wilson; others: bootstrap over images, which says "
        "nothing where there is no error: read the accuracy's interval then). "
        "Precision, sensitivity, F1 and MCC are means over the four classes of eqs. 2-5, each "
        "class against the rest. Eq. 4 as printed in the paper, 2(P+S)/(P+S), is always 2; the "
        "harmonic mean 2PS/(P+S) that its text describes is meant and used.",
        "",
        *table(head, rows),
    ]


def _classes(counts: list[list[int]]) -> list[str]:
    confusion = np.array(counts)
    measures = class_metrics(confusion)
    rows = []
    for i, name in enumerate(CLASS_NAMES):
        true, named, hit = (
            int(n) for n in (confusion[i].sum(), confusion[:, i].sum(), counts[i][i])
        )
        rows.append(
            [
                name,
                true,
                percent(measures.precision[i], wilson_interval(hit, named)),
                percent(measures.sensitivity[i], wilson_interval(hit, true)),
                f"{100 * measures.f1[i]:.2f}",
                f"{100 * measures.mcc[i]:.2f}",
            ]
        )
    named_rows = [[f"**{name}**", *row] for name, row in zip(CLASS_NAMES, counts, strict=True)]
    return [
        "",
        "## Test split by class",
        "",
        *table(["class", "n:", "precision", "sensitivity", "F1:", "MCC:"], rows),
        "",
        "Confusion matrix (rows: true class, columns: predicted):",
        "",
        *table(["", *(f"{name}:" for name in CLASS_NAMES)], named_rows),
    ]


def _paper(test: dict) -> list[str]:
    rows = [
        [authors, method, *("-" if value is None else f"{value:.2f}" for value in values)]
        for authors, method, values in PAPER_TABLE
    ]
    ours = [f"**{100 * test[name]:.2f}**" for name in SUMMARY_NAMES]
    rows.append(["this project", f"these weights, n = {test['n']}", *ours])
    return [
        "",
        "## Beside the paper's Table I",
        "",
        "Percent. Every row has its own random test images; differences of a point are within "
        f"what the choice of {test['n']} images does.",
        "",
        *table(
            ["authors", "method", "accuracy:", "precision:", "sensitivity:", "F1:", "MCC:"], rows
        ),
    ]


def _unseen(result: dict) -> list[str]:
    test = result["parts"]["test"]
    sensitivity = class_metrics(np.array(test["confusion"])).sensitivity
    rows = [
        [
            "random test",
            test["n"],
            percent(test["accuracy"], test["interval_95"]["accuracy"]),
            "",
            f"{100 * test['mcc']:.2f}",
            *(f"{100 * value:.1f}" for value in sensitivity),
        ]
    ]
    rows += [
        [
            f"blocks, embargo {embargo}",
            figures["n"],
            percent(figures["mean_accuracy"], figures["interval_95"]["accuracy"]),
            ", ".join(f"{100 * fold['accuracy']:.1f}" for fold in figures["folds"]),
            f"{100 * figures['mcc']:.2f}",
            *(f"{100 * value:.1f}" for value in figures["mean_sensitivity"]),
        ]
        for embargo, figures in result["blocks"].items()
    ]
    head = ["protocol", "n:", "accuracy", "of each fold", "MCC:"]
    return [
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
        "mixing, number of epochs and proportion of unchanged images on the val part and on another "
        "partition of the same files, into four blocks: these figures are somewhat optimistic. "
        "Slides interleave in file order, and the narrower embargo leaves some of one in training.",
        "",
        *table([*head, *(f"{name} sensitivity:" for name in CLASS_NAMES)], rows),
    ]


def _calibration(result: dict) -> list[str]:
    test, blocks = result["parts"]["test"], result["blocks"]
    rows = []
    for embargo, figures in blocks.items():
        before, after = figures["before_calibration"], figures["after_calibration"]
        chosen = figures["selective"]
        rows.append(
            [
                f"blocks, embargo {embargo}",
                f"{before['ece']:.3f}",
                f"{after['ece']:.3f}",
                f"{before['brier']:.4f}",
                f"{after['brier']:.4f}",
                f"{proportion_percent(chosen)}, n = {chosen['n']}",
            ]
        )
    known = ["", f"{test['ece']:.3f}", "", f"{test['brier']:.4f}", ""]
    rows.append(["random test, with the card's calibration", *known])
    head = ["protocol", "ECE before:", "ECE after:", "Brier before:", "Brier after:"]
    flags = [
        f"embargo {embargo}: {proportion_percent(flagged['fields'])} of the fields, among them "
        f"{proportion_percent(flagged['errors'])} of the {flagged['errors']['n']} errors, of the "
        f"others {proportion_percent(flagged['rest_right'])} right"
        for embargo, flagged in ((e, figures["flagged"]) for e, figures in blocks.items())
    ]
    point = result["malignant"]["operating_point"]
    called = [
        f"{name} {proportion_percent(record)} of {record['n']}"
        for name, record in result["malignant"]["called_benign"].items()
    ]
    return [
        "",
        f"Confidence on unseen slides (ECE with {BINS} bins; each fold calibrated as the weights "
        "are, but with what fits the other four folds of both embargoes), and accuracy of the most "
        f"confident {COVERAGE:.0%} of the fields:",
        "",
        *table([*head, "accuracy of the most confident"], rows),
        "",
        "Sent to review or refused, by a confidence threshold from the other four folds and by the "
        f"weights' own novelty thresholds. {'; '.join(flags).capitalize()}.",
        "",
        f"Malignant fields called Benign: {'; '.join(called)}. Calling a field malignant from a "
        f"probability of {point['threshold']:.3f} on (all classes but Benign together) catches "
        f"{point['sensitivity']:.2%} of the malignant fields of unseen slides; {point['specificity']:.1%} "
        f"of the benign ones stay below it (n = {point['n']}: each field at either embargo; chosen on "
        "the same predictions).",
    ]


def _reliability(blocks: dict[str, dict]) -> list[str]:
    series = {
        f"embargo {embargo}, {name}": {
            _bin_of(confidence): f"{100 * confidence:.1f} / {100 * accuracy:.1f}, n = {n}"
            for confidence, accuracy, n in figures[f"{name}_calibration"]["bins"]
        }
        for embargo, figures in blocks.items()
        for name in ("before", "after")
    }
    rows = [
        [
            f"{100 * (number - 1) / BINS:.0f}-{100 * number / BINS:.0f}",
            *(cells.get(number, "") for cells in series.values()),
        ]
        for number in range(1, BINS + 1)
        if any(number in cells for cells in series.values())
    ]
    return [
        "",
        "### Reliability on unseen slides",
        "",
        "By range of confidence: mean confidence / accuracy in percent, and the number of fields, "
        "before and after calibration.",
        "",
        *table(["confidence", *series], rows),
    ]


def _bin_of(mean_confidence: float) -> int:
    """Number of the bin, from 1; rounding must not lift a mean over the upper edge."""
    return math.ceil(round(mean_confidence * BINS, 9))


def _risk_coverage(blocks: dict[str, dict]) -> list[str]:
    curves = {embargo: dict(figures["risk_coverage"]) for embargo, figures in blocks.items()}
    rows = []
    for kept in (k / 100 for k in range(5, 101, 5)):
        cells = [
            _of_the_most_confident(curve.get(kept), int(kept * blocks[embargo]["n"]))
            for embargo, curve in curves.items()
        ]
        rows.append([f"{kept:.0%}", *cells])
    return [
        "",
        "### Accuracy of the most confident fields of unseen slides",
        "",
        "What is right in percent, with the Wilson interval, when only so many fields are kept.",
        "",
        *table(["kept:", *(f"embargo {embargo}" for embargo in blocks)], rows),
    ]


def _of_the_most_confident(accuracy: float | None, n: int) -> str:
    if accuracy is None:
        return ""
    return f"{percent(accuracy, wilson_interval(round(accuracy * n), n))}, n = {n}"


def _statuses(statuses: dict[str, dict]) -> list[str]:
    rows = [
        [
            name,
            figures["rejected"]["n"],
            proportion_percent(figures["rejected"]),
            proportion_percent(figures["review"]),
        ]
        for name, figures in statuses.items()
    ]
    return [
        "",
        "## What is refused",
        "",
        "Novelty gate and quality checks, percent of each kind with the Wilson interval. Thresholds "
        "of novelty and quality come from training and validation fields, that of confidence from "
        "the fields of blocks; no foreign image had a part in them.",
        "",
        *table(["images", "n:", "rejected", "to review"], rows),
    ]


def _robustness(changes: dict[str, dict], n: int) -> list[str]:
    rows = [
        [kind, "; ".join(f"{name}: {proportion_percent(r)}" for name, r in severities.items())]
        for kind, severities in changes.items()
    ]
    return [
        "",
        "## Other light, stain and focus",
        "",
        f"Accuracy on the {n} test fields, changed as stated, with the Wilson interval; the gate's "
        "verdict is disregarded here.",
        "",
        *table(["change", "accuracy by severity"], rows),
    ]


def _stress(stress: dict) -> list[str]:
    measures = ("right", "donor", "ok", "right_of_ok", "review", "rejected")
    rows = [
        [
            name,
            figures["n"],
            *(_share(figures.get(measure)) for measure in measures),
            f"{100 * figures['mean_confidence']:.1f}",
        ]
        for name, figures in stress["tests"].items()
    ]
    head = [
        "test fields",
        "n:",
        "right class",
        "background's or stain's class",
        "ok",
        "right of ok",
        "to review",
        "rejected",
        "mean confidence:",
    ]
    return [
        "",
        "## Cells or slide",
        "",
        "Test fields, changed so that a haematologist would still name the same class: the "
        "nucleated cells with their rim are cut out and put on another test field from which its "
        "own were removed, of the same or of another class, by two cutters, of which no training "
        f"recipe uses `{HELD_OUT}`; cells and background get the optical density of a field of another "
        "class; half of the nucleated cells, drawn at random, are removed; all but the nucleated cells is blanked out. "
        "Without nucleated cells (their places are filled from elsewhere in the field) there is "
        "nothing to name, and right is only what the field was. The right class and the "
        "background's are counted whatever the gate says; ok, to review and rejected are what it "
        "says.",
        "",
        "Percent, with 95 % intervals: a bootstrap over blocks of file order, as fields of one "
        "slide fail together; Wilson's over fields where all or none are counted, which is too "
        "narrow. Fields in which no nucleated cell is found (for half of the cells: fewer than "
        "two) are left out. Known slides only.",
        "",
        *table(head, rows),
        *(line for finding in stress["summary"] for line in ("", finding)),
    ]


def _share(record: dict | None) -> str:
    """Percent of a record; none where it does not apply or nothing was there to count."""
    return proportion_percent(record) if record and record["n"] else "-"


def _training(history: Mapping[str, Sequence[dict]], best: Mapping[str, int]) -> list[str]:
    def number(record: dict, name: str, digits: int, factor: int = 1) -> str:
        value = record.get(name)
        return "-" if value is None else f"{factor * value:.{digits}f}"

    rows = [
        [
            phase.replace("_", "-"),
            f"**{record['epoch']}**" if best.get(phase) == record["epoch"] else record["epoch"],
            f"{record['learning_rate']:.1e}",
            number(record, "accuracy", 1, 100),
            number(record, "loss", 4),
            number(record, "val_accuracy", 1, 100),
            number(record, "val_loss", 4),
        ]
        for phase, records in history.items()
        for record in records
    ]
    head = ["phase", "epoch:", "learning rate:", "accuracy:", "loss:", "val accuracy:", "val loss:"]
    return [
        "",
        "## Training",
        "",
        "Accuracy in percent and cross-entropy by epoch; epoch 0 is what the phase began with. The "
        "epoch that was kept is bold. Figures of training are of the images as the recipe draws them, in "
        "the course of the epoch.",
        "",
        *table(head, rows),
    ]

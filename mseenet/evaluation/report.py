"""EVALUATION.md: the report for people, from the numbers of evaluation.json."""

from collections.abc import Mapping, Sequence

import numpy as np

from mseenet.case.slides import FEWEST_FIELDS
from mseenet.case.words import (
    PROTOCOL_NOTES,
    confidence_kept,
    hardest_unseen,
    protocol_title,
    slide_evidence,
)
from mseenet.config import CLASS_NAMES
from mseenet.evaluation.markdown import percent, proportion_percent, table
from mseenet.evaluation.out_of_fold import MALIGNANT_SENSITIVITY
from mseenet.evaluation.slide_answers import DRAWS
from mseenet.evaluation.unseen import BINS, COVERAGE, MANY, TOO_SURE
from mseenet.imaging.transplant import HELD_OUT
from mseenet.inference.calibration import temperature_text
from mseenet.metrics import SUMMARY_NAMES, class_metrics, confidence_bins

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
        "no part in training these weights"
        + (
            "; but they are among the unseen fields, tested by other networks, that calibration and "
            "review threshold come from."
            if "unseen" in result
            else "."
        ),
        "",
        "Fields of one slide fail together. So 95 % intervals are a bootstrap over groups: the "
        "blocks of file order (five a class) of known slides, and the parts of each protocol (series, "
        "ranges of captures, blocks) of unseen ones. They are few, which makes it rough. Where all "
        "or none are counted there is nothing to draw, and the interval is Wilson's over fields, "
        "which is too narrow. Foreign images are independent, and their intervals Wilson's.",
        *_parts(result["parts"]),
        *_classes(test),
        *_paper(test),
    ]
    if "unseen" in result:
        unseen = result["unseen"]
        lines += _unseen(result)
        lines += _tested_parts(unseen)
        lines += _slides(unseen)
        lines += _calibration(result)
        lines += _malignant(unseen, result["operating_point"])
        lines += _reliability(unseen)
        lines += _risk_coverage(unseen)
    lines += _statuses(result["statuses"])
    lines += _robustness(result["robustness"], test["n"])
    lines += _stress(result)
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
        "Percent, with 95 % intervals over blocks of file order (means over the classes have none "
        "where there is no error: read the accuracy's interval then). "
        "Precision, sensitivity, F1 and MCC are means over the four classes of eqs. 2-5, each "
        "class against the rest. Eq. 4 as printed in the paper, 2(P+S)/(P+S), is always 2; the "
        "harmonic mean 2PS/(P+S) that its text describes is meant and used.",
        "",
        *table(head, rows),
    ]


def _classes(test: dict) -> list[str]:
    counts = test["confusion"]
    measures = class_metrics(np.array(counts))
    rows = [
        [
            name,
            record["n"],
            f"{100 * measures.precision[i]:.2f}",
            proportion_percent(record),
            f"{100 * measures.f1[i]:.2f}",
            f"{100 * measures.mcc[i]:.2f}",
        ]
        for i, (name, record) in enumerate(zip(CLASS_NAMES, test["by_class"], strict=True))
    ]
    named_rows = [[f"**{name}**", *row] for name, row in zip(CLASS_NAMES, counts, strict=True)]
    return [
        "",
        "## Test split by class",
        "",
        *table(["class", "n:", "precision:", "sensitivity", "F1:", "MCC:"], rows),
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
    rows = [
        [
            title,
            figures["n"],
            percent(figures["accuracy"], figures["interval_95"]["accuracy"]),
            ", ".join(f"{100 * fold['accuracy']:.1f}" for fold in figures.get("folds", ())),
            percent(figures["mcc"], figures["interval_95"]["mcc"]),
            *map(proportion_percent, figures["by_class"]),
        ]
        for title, figures in _known_and_unseen(result)
    ]
    head = ["tested on", "n:", "accuracy", "of each fold", "MCC"]
    return [
        "",
        "## Unseen slides",
        "",
        "Each fold of a protocol is tested by a network trained with the same recipe on the rest, "
        "without near-duplicates of the tested images. What is left out of training is a stand-in "
        "for a slide: the dataset names no patients, and a series is none. Choices of the recipe "
        "were made with a look at some of the same files, so these figures are somewhat optimistic.",
        "",
        *(
            f"- **{protocol_title(name)}** (`{name}`). {PROTOCOL_NOTES.get(name, '')}"
            for name in result["unseen"]
        ),
        "",
        *table([*head, *(f"{name} sensitivity" for name in CLASS_NAMES)], rows),
    ]


def _known_and_unseen(result: dict) -> list[tuple[str, dict]]:
    unseen = [(protocol_title(name), figures) for name, figures in result["unseen"].items()]
    return [("random test", result["parts"]["test"]), *unseen]


def _tested_parts(unseen: dict[str, dict]) -> list[str]:
    rows = [
        [
            protocol_title(name),
            part["name"],
            part["n"],
            part["right"],
            f"{100 * part['right'] / part['n']:.1f}",
        ]
        for name, figures in unseen.items()
        for part in figures["parts"]
    ]
    return [
        "",
        "### Parts of unseen slides",
        "",
        "What fails together: fields of each series, range of captures or block, and how many of "
        "them are right.",
        "",
        *table(["protocol", "part", "n:", "right:", "percent:"], rows),
    ]


def _slides(unseen: dict[str, dict]) -> list[str]:
    rows, drawn = [], []
    for name, figures in unseen.items():
        if (slides := figures.get("slides")) is None:  # of a report that is older than this table
            return []
        for kind in ("parts", "series"):
            record = slides[kind]
            counts = (record[outcome] for outcome in ("n", "right", "wrong", "without"))
            rows.append([protocol_title(name), kind, *counts, proportion_percent(record)])
        drawn += [
            [
                protocol_title(name),
                draw["fields"],
                draw["parts"],
                draw["series"],
                percent(draw["right"], draw["interval_95"]),
                f"{100 * draw['wrong']:.2f}",
                f"{100 * draw['lowest']['right']:.1f} ({draw['lowest']['part']})",
            ]
            for draw in slides["drawn"]
        ]
    evidence = slide_evidence(unseen)
    return [
        "",
        "### The class of a slide",
        "",
        "A part, taken for a slide, is given the class of the highest mean calibrated probability of "
        f"its judged fields (those not rejected), if there are at least {FEWEST_FIELDS} and the mean is "
        "more than one half; else none. Ranges of captures of one series belong together: a series is "
        "wrong if any of them is. Intervals are Wilson's. ",
        "",
        *table(
            ["protocol", "counted:", "n:", "right:", "wrong:", "no class:", "right, percent"], rows
        ),
        "",
        f"The same with few fields of each part, drawn at random ({DRAWS} draws a part): percent of "
        "draws as means over series, with Wilson's interval over series.",
        "",
        *table(
            ["protocol", "fields:", "parts:", "series:", "right", "wrong:", "lowest part"], drawn
        ),
        "",
        evidence or "The page gives slides no class: too few series, or too many of them wrong.",
    ]


def _calibration(result: dict) -> list[str]:
    test, unseen = result["parts"]["test"], result["unseen"]
    rows, flags = [], []
    for name, figures in unseen.items():
        before, after = figures["before_calibration"], figures["after_calibration"]
        chosen, flagged = figures["selective"], figures["flagged"]
        rows.append(
            [
                protocol_title(name),
                f"{before['ece']:.3f}",
                f"{after['ece']:.3f}",
                f"{before['brier']:.4f}",
                f"{after['brier']:.4f}",
                f"{proportion_percent(chosen)}, n = {chosen['n']}",
            ]
        )
        flags.append(
            [
                protocol_title(name),
                _counted(figures["review_promise"]),
                *(proportion_percent(figures["statuses"][s]) for s in ("review", "rejected")),
                _counted(flagged["errors"]),
                _counted(flagged["rest_right"]),
            ]
        )
    known = ["", f"{test['ece']:.3f}", "", f"{test['brier']:.4f}", ""]
    rows.append(["random test, with the card's calibration", *known])
    head = ["protocol", "ECE before:", "ECE after:", "Brier before:", "Brier after:"]
    promised = next(iter(unseen.values()))["review_promise"]["promised"]
    hard = hardest_unseen(unseen)
    origin = f" ({protocol_title(hard[0])})" if hard else ""
    partial = not all(figures["cells_counted"] for figures in unseen.values())
    return [
        "",
        "### Confidence on unseen slides",
        "",
        f"ECE with {BINS} bins. Calibration, review threshold and malignant operating point come from "
        f"the hardest protocol{origin}; here each fold is given what that protocol's fields say "
        "without the files that the fold tests. Last column: accuracy of the most confident "
        f"{COVERAGE:.0%} of the fields.",
        "",
        *table([*head, "right of the most confident"], rows),
        "",
        f"The review threshold promises {promised:.0%} right of the answers at or above it. Fields "
        "go to review or are rejected for confidence, novelty, image quality or want of nucleated "
        "cells, by the product's rules; the others are ok."
        + (
            " Without stress tests of a protocol, quality and cells are not known and count for "
            "nothing there."
            if partial
            else ""
        ),
        "",
        *table(
            [
                "protocol",
                f"right at or above the threshold (promised: {promised:.0%})",
                "to review",
                "rejected",
                "errors that are flagged",
                "right of ok",
            ],
            flags,
        ),
        *(("", confidence_kept(unseen)) if confidence_kept(unseen) else ()),
    ]


def _malignant(unseen: dict[str, dict], point: dict) -> list[str]:
    rows = [
        [
            protocol_title(name),
            *(
                f"{_counted(figures['malignant'][m])}"
                for m in ("called_benign", "called_malignant", "sensitivity", "specificity")
            ),
        ]
        for name, figures in unseen.items()
    ]
    return [
        "",
        "### Malignant or Benign",
        "",
        "The first two columns go by the class that is named. The operating point calls a field "
        f"malignant from a probability of {point['threshold']:.3f} on (all classes but Benign together): "
        f"it is set so low that it catches {MALIGNANT_SENSITIVITY:.1%} in every protocol. "
        f"On the fields of the hardest one ({point['fitted_on']}, n = {point['n']}) it catches "
        f"{point['sensitivity']:.2%} of the malignant ones, and {point['specificity']:.2%} of the benign ones "
        "stay below it. The last two columns are what it gives when it is chosen without the files "
        "that are tested.",
        "",
        *table(
            [
                "protocol",
                "malignant called Benign",
                "Benign called malignant",
                "operating point: malignant caught",
                "operating point: benign below it",
            ],
            rows,
        ),
    ]


def _counted(record: dict) -> str:
    """Counts and percent of a record: "12 of 835: 1.44 (0.6-2.5)"."""
    if not record["n"]:
        return "-"
    count = round(record["proportion"] * record["n"])
    return f"{count} of {record['n']}: {proportion_percent(record)}"


def _reliability(unseen: dict[str, dict]) -> list[str]:
    series = {
        f"{protocol_title(protocol)}, {name}": {
            _bin_of(b["confidence"]): f"{100 * b['confidence']:.1f} / {100 * b['proportion']:.1f}"
            f"{' **too sure**' if b['too_sure'] else ''}, n = {b['n']}"
            for b in figures[f"{name}_calibration"]["bins"]
        }
        for protocol, figures in unseen.items()
        for name in ("before", "after")
    }
    rows = [
        [
            f"{100 * number / BINS:.0f}-{100 * (number + 1) / BINS:.0f}",
            *(cells.get(number, "") for cells in series.values()),
        ]
        for number in range(BINS)
        if any(number in cells for cells in series.values())
    ]
    return [
        "",
        "### Reliability on unseen slides",
        "",
        "By range of confidence: mean confidence / accuracy in percent, and the number of fields, "
        f"before and after calibration. **Too sure**: more than {MANY} fields whose confidence exceeds "
        f"their accuracy by more than {100 * TOO_SURE:.0f} points.",
        "",
        *table(["confidence", *series], rows),
    ]


def _bin_of(mean_confidence: float) -> int:
    """Number of the bin; rounding must not lift a mean over the upper edge."""
    return int(confidence_bins(np.array([round(mean_confidence, 9)]), BINS)[0])


def _risk_coverage(unseen: dict[str, dict]) -> list[str]:
    curves = [
        {point["kept"]: f"{proportion_percent(point)}, n = {point['n']}" for point in curve}
        for curve in (figures["risk_coverage"] for figures in unseen.values())
    ]
    rows = [[f"{kept:.0%}", *(curve[kept] for curve in curves)] for kept in curves[0]]
    return [
        "",
        "### Accuracy of the most confident fields of unseen slides",
        "",
        "What is right in percent when only so many fields are kept.",
        "",
        *table(["kept:", *map(protocol_title, unseen)], rows),
    ]


def _statuses(statuses: dict[str, dict]) -> list[str]:
    rows = [
        [
            name,
            figures["rejected"]["n"],
            proportion_percent(figures["rejected"]),
            proportion_percent(figures["review"]),
            proportion_percent(figures["right_of_ok"]) if figures.get("right_of_ok") else "-",
        ]
        for name, figures in statuses.items()
    ]
    return [
        "",
        "## What is refused",
        "",
        "By novelty, image quality and nucleated cells; percent of each kind. Thresholds of "
        "novelty and quality come from training and validation fields, that of confidence from "
        "unseen fields; no foreign image had a part in them. The test fields had a part in one "
        "choice: after they had shown that the gate refused 5 % of them at brightness x1.1, its "
        "copies in other light and its factor of 1.12 were chosen (on val). So refusals of test "
        "fields in other light are somewhat optimistic.",
        "",
        *table(["images", "n:", "rejected", "to review", "right of the others"], rows),
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
        f"Accuracy on the {n} test fields, changed as stated; the gate's "
        "verdict is disregarded here.",
        "",
        *table(["change", "accuracy by severity"], rows),
    ]


def _stress(result: dict) -> list[str]:
    tested = [
        (protocol_title(name), figures["stress"])
        for name, figures in result.get("unseen", {}).items()
        if "stress" in figures
    ]
    if "stress" in result:
        tested.insert(0, ("random test (known slides)", result["stress"]))
    if not tested:
        return []
    lines = [
        "",
        "## Cells or slide",
        "",
        "Fields, changed so that a haematologist would still name the same class: the "
        "nucleated cells with their rim are cut out and put on another tested field from which its "
        "own were removed, of the same or of another class, by two cutters, of which no training "
        f"recipe uses `{HELD_OUT}`; cells and background get the optical density of a field of another "
        "class; half of the nucleated cells, drawn at random, are removed; all but the nucleated cells is blanked out. "
        "Without nucleated cells (their places are filled from elsewhere in the field) there is "
        "nothing to name, and right is only what the field was. The right class and the "
        "background's are counted whatever the gate says; ok, to review and rejected are what it "
        "says. Percent. Fields in which no nucleated cell is found (for half of the cells: fewer "
        "than two) are left out. On unseen slides backgrounds and stains come from tested fields of "
        "the same fold.",
    ]
    for title, stress in tested:
        lines += ["", f"### Cells or slide: {title}", "", *_stress_table(stress["tests"])]
        lines += [line for finding in stress["summary"] for line in ("", finding)]
    return lines


def _stress_table(tests: dict[str, dict]) -> list[str]:
    measures = ("right", "donor", "ok", "right_of_ok", "review", "rejected")
    rows = [
        [
            name,
            figures["n"],
            *(_proportion(figures.get(measure)) for measure in measures),
            f"{100 * figures['mean_confidence']:.1f}",
        ]
        for name, figures in tests.items()
    ]
    head = [
        "fields",
        "n:",
        "right class",
        "background's or stain's class",
        "ok",
        "right of ok",
        "to review",
        "rejected",
        "mean confidence:",
    ]
    return table(head, rows)


def _proportion(record: dict | None) -> str:
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

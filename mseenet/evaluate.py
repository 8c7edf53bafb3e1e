"""Measures the shipped weights: known slides, unseen slides, other light, foreign images.

    python -m mseenet.evaluate --data DIR [--foreign DIR]

Writes evaluation.json, EVALUATION.md, MODEL_CARD.md and figures beside the weights. The
dataset is checked against the split file first, image by image. What concerns unseen
slides comes from out-of-fold.csv (`python -m mseenet.crossvalidate`).

With --foreign DIR each folder in DIR is a kind of image that the novelty gate should
refuse. With --head-seeds N the head is also trained anew on frozen features for N random
splits, to show how far a figure from a few hundred test images moves from split to split.
"""

import argparse
import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from mseenet import cli
from mseenet.calibration import Calibration
from mseenet.card import DEFAULT_WEIGHTS, HISTORY_NAME, Card, read_card, update_card
from mseenet.classifier import Classifier
from mseenet.config import CLASS_NAMES, ModelConfig, TrainingConfig
from mseenet.crossvalidate import OutOfFold, calibrate, read_out_of_fold
from mseenet.data import (
    FOLDS,
    SPLIT_NAMES,
    DatasetError,
    Split,
    index_dataset,
    load_images,
    random_split,
    read_split,
)
from mseenet.files import file_sha256, write_atomically
from mseenet.metrics import (
    SUMMARY_NAMES,
    brier_score,
    class_metrics,
    confusion_matrix,
    expected_calibration_error,
    grouped_interval,
    measure,
    risk_coverage,
    softmax,
    summary,
    wilson_interval,
)
from mseenet.modelcard import model_card, temperature_text

COVERAGE = 0.85
"""Share of fields that are left when the least confident ones are flagged."""

BINS = 15
"""Bins of confidence for the calibration error and the reliability diagram."""

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


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m mseenet.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, metavar="DIR", required=True, help="the dataset")
    parser.add_argument(
        "--weights", type=Path, metavar="DIR", default=DEFAULT_WEIGHTS, help="(default: weights/)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where the report goes (default: as --weights)"
    )
    parser.add_argument(
        "--foreign", type=Path, metavar="DIR", help="folders of images that are to be refused"
    )
    parser.add_argument(
        "--head-seeds",
        type=int,
        default=0,
        choices=(0, *range(2, 11)),
        metavar="N",
        help="train the head on frozen features for N splits, 2 to 10 (default: do not)",
    )
    parser.add_argument(
        "--backbone-weights",
        default="imagenet",
        metavar="FILE",
        help="for --head-seeds: ImageNet weights of the bare backbone (default: download them)",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    out = arguments.out or arguments.weights
    card = read_card(arguments.weights)
    history = read_history(arguments.weights)
    index = index_dataset(arguments.data, cli.progress)
    cli.say(index.describe())
    images = load_images(index.samples, progress=cli.progress)
    cli.import_keras()

    split = checked_split(card, index, arguments.weights)
    classifier = Classifier.load(arguments.weights)
    result = {
        "weights": card.sha256,
        "split": {name: card.content["split"][name] for name in ("protocol", "seed", "sha256")},
        "parts": measure_parts(classifier, split, index, images),
    }
    test = split.indices(index.samples, "test")
    result["statuses"] = measure_statuses(classifier, images[test], arguments.foreign)
    result["robustness"] = measure_robustness(classifier, images[test], index.labels[test])
    if "malignant" not in card.content:  # only cross-validation of these weights writes it
        cli.say("unseen slides are left out: run python -m mseenet.crossvalidate first")
    else:
        folds = read_out_of_fold(arguments.weights)
        result["blocks"] = measure_blocks(folds, card.novelty.review, card.novelty.reject)
        result["malignant"] = measure_malignant(card, result, folds)
    if arguments.head_seeds:
        result["head_on_frozen_features"] = measure_head(
            index, images, arguments.backbone_weights, arguments.head_seeds
        )

    from mseenet.figures import (
        draw_confusion,
        draw_history,
        draw_reliability,
        draw_risk_coverage,
        draw_robustness,
    )

    figures = out / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    test = result["parts"]["test"]
    draw_confusion(
        test["confusion"], f"random test split, n = {test['n']}", figures / "confusion.svg"
    )
    draw_history(history, figures / "training.svg")
    draw_robustness(result["robustness"], figures / "robustness.svg")
    if "blocks" in result:
        draw_reliability(result["blocks"], figures / "reliability.svg")
        draw_risk_coverage(result["blocks"], figures / "risk-coverage.svg")
    write_atomically(out / "evaluation.json", json.dumps(result, indent=1) + "\n")
    if out.resolve() == arguments.weights.resolve():
        # The calibration may be newer than the card's figures.
        metrics = {name: result["parts"][name] for name in ("val", "test")}
        for embargo, figures in result.get("blocks", {}).items():
            kept = ("n", "mean_accuracy", "interval_95")
            metrics[f"blocks, embargo {embargo}"] = {name: figures[name] for name in kept}
        update_card(out, {"metrics": metrics})
    text = markdown(result, card)
    write_atomically(out / "EVALUATION.md", text)
    write_atomically(out / "MODEL_CARD.md", model_card(card.content, result, out))
    print(text)
    return 0


def read_history(weights: Path) -> dict[str, list[dict]]:
    """Reads the training history beside the weights."""
    path = weights / HISTORY_NAME
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: expected the training history ({error})") from error


def measure_parts(classifier: Classifier, split: Split, index, images: np.ndarray) -> dict:
    """Figures of the shipped network on each part of its split, whatever the gate says."""
    parts = {}
    for name in SPLIT_NAMES:
        rows = split.indices(index.samples, name)
        stream = classifier.stream(images[rows], anyway=True)
        answers = [list(p.probabilities.values()) for p in cli.progress(stream, name, len(rows))]
        parts[name] = measure(np.array(answers), index.labels[rows])
    return parts


def checked_split(card: Card, index, weights: Path) -> Split:
    """The split that the weights were trained with, checked against card and dataset."""
    record = card.content["split"]
    path = weights / record["file"]
    if not path.is_file() or file_sha256(path) != record["sha256"]:
        raise DatasetError(f"{path}: expected the split file that the card names, unaltered")
    return read_split(path, index, record["protocol"], record["seed"])


def share(count: int, n: int) -> dict:
    """A share of n with its Wilson interval; of nothing, 0 with the interval from 0 to 1."""
    return {"share": count / max(n, 1), "n": n, "interval_95": list(wilson_interval(count, n))}


def measure_statuses(classifier: Classifier, test: np.ndarray, foreign: Path | None) -> dict:
    """How many fields of the test part, and of what is foreign, get which status."""
    from mseenet.images import SUFFIXES
    from mseenet.perturb import brightness

    sources = {"test": list(test)}
    for factor in (0.8, 0.9, 1.1, 1.2):
        sources[f"test, brightness x{factor}"] = [brightness(rgb, factor) for rgb in test]
    for folder in sorted(foreign.iterdir()) if foreign else ():
        files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
        if files:
            sources[folder.name.replace("_", " ")] = files
    results = {}
    for name, images in sources.items():
        statuses = [p.status for p in cli.progress(classifier.stream(images), name, len(images))]
        counted = [s for s in statuses if s != "error"]
        results[name] = {
            status: share(counted.count(status), len(counted)) for status in ("rejected", "review")
        }
    return results


def measure_robustness(classifier: Classifier, images: np.ndarray, labels: np.ndarray) -> dict:
    """Accuracy on the test part under each perturbation, whatever the gate says of it."""
    from mseenet.perturb import PERTURBATIONS

    results = {}
    for kind, severities in PERTURBATIONS.items():
        results[kind] = {}
        for severity, change in severities.items():
            changed = [change(rgb) for rgb in images]
            stream = cli.progress(
                classifier.stream(changed, anyway=True), f"{kind} {severity}", len(images)
            )
            right = sum(
                CLASS_NAMES.index(p.class_name) == label
                for p, label in zip(stream, labels, strict=True)
            )
            results[kind][severity] = share(int(right), len(labels))
    return results


def without_own_fold(
    folds: dict[int, OutOfFold], reject: float
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Calibrates each fold as the card is, but with what the other four folds say.

    No field has a part in its own calibration or in what it would be sent to review by,
    at whatever embargo.

    Args:
        folds: Results by embargo.
        reject: Distance from which on the weights' gate refuses a field.

    Returns:
        By embargo, probabilities (N, C), and whether each field's confidence is below the
        review threshold, bool (N,).
    """
    answers = {
        embargo: (np.empty(result.logits.shape), np.empty(len(result.labels), bool))
        for embargo, result in folds.items()
    }
    for fold in range(FOLDS):
        others = [result.take(result.folds != fold) for result in folds.values()]
        fitted = calibrate(others, reject)
        calibration = Calibration(*(fitted["calibration"][n] for n in ("value", "slope")))
        for embargo, result in folds.items():
            mine = result.folds == fold
            probabilities, unsure = answers[embargo]
            novelty = result.novelty[mine] / reject
            probabilities[mine] = softmax(result.logits[mine], calibration.temperatures(novelty))
            confidence = probabilities[mine].max(axis=1)
            unsure[mine] = confidence < fitted["review_confidence"]["value"]
    return answers


def measure_blocks(folds: dict[int, OutOfFold], review: float, reject: float) -> dict[str, dict]:
    """Figures on unseen slides, by embargo.

    The accuracy's interval is a bootstrap over the blocks of the classes.

    Args:
        folds: Logits and distances, by embargo.
        review, reject: Distances from which on the weights' gate sends a field to review,
            and refuses it.
    """
    return {
        str(embargo): _measure_embargo(
            folds[embargo], probabilities, unsure | (folds[embargo].novelty >= review)
        )
        for embargo, (probabilities, unsure) in without_own_fold(folds, reject).items()
    }


def _measure_embargo(result: OutOfFold, calibrated: np.ndarray, flagged: np.ndarray) -> dict:
    labels, logits = result.labels, result.logits
    correct = logits.argmax(axis=1) == labels
    per_fold = []
    for fold in range(FOLDS):
        mine = result.folds == fold
        per_fold.append(
            {
                "n": int(mine.sum()),
                "accuracy": float(correct[mine].mean()),
                "sensitivity": [
                    float(correct[mine & (labels == c)].mean()) for c in range(len(CLASS_NAMES))
                ],
            }
        )
    measured = measure(calibrated, labels)
    if not correct.all():  # without errors a bootstrap would claim certainty
        blocks = labels * FOLDS + result.folds
        measured["interval_95"]["accuracy"] = list(grouped_interval(correct, blocks))
    confidence = calibrated.max(axis=1)
    curve = risk_coverage(confidence, correct)
    kept = int(COVERAGE * len(labels))
    return {
        **measured,
        "folds": per_fold,
        "mean_accuracy": float(np.mean([f["accuracy"] for f in per_fold])),
        "mean_sensitivity": np.mean([f["sensitivity"] for f in per_fold], axis=0).tolist(),
        "before_calibration": _calibration(softmax(logits), labels),
        "after_calibration": _calibration(calibrated, labels),
        "selective": {"coverage": COVERAGE, **share(round(curve[kept - 1] * kept), kept)},
        "flagged": {
            "fields": share(int(flagged.sum()), len(labels)),
            "errors": share(int(flagged[~correct].sum()), int((~correct).sum())),
            "rest_right": share(int(correct[~flagged].sum()), int((~flagged).sum())),
        },
        "risk_coverage": [
            [k / 100, float(curve[int(k / 100 * len(curve)) - 1])] for k in range(5, 101)
        ],
    }


def _calibration(probabilities: np.ndarray, labels: np.ndarray) -> dict:
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    bin_of = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    return {
        "ece": expected_calibration_error(probabilities, labels, BINS),
        "brier": brier_score(probabilities, labels),
        "mean_confidence": float(confidence.mean()),
        "bins": [
            [float(confidence[b].mean()), float(correct[b].mean()), int(b.sum())]
            for b in (bin_of == k for k in range(BINS))
            if b.any()
        ],
    }


def measure_malignant(card: Card, result: dict, folds: dict[int, OutOfFold]) -> dict:
    """Malignant fields called benign, by class and by the operating point."""
    benign = CLASS_NAMES.index("Benign")
    missed = {"random test": np.array(result["parts"]["test"]["confusion"])}
    for embargo in folds:
        missed[f"blocks, embargo {embargo}"] = np.array(result["blocks"][str(embargo)]["confusion"])
    counts = {}
    for name, confusion in missed.items():
        malignant = np.delete(confusion, benign, axis=0)
        counts[name] = share(int(malignant[:, benign].sum()), int(malignant.sum()))
    return {"called_benign": counts, "operating_point": card.content["malignant"]}


def measure_head(index, images: np.ndarray, backbone_weights: str, seeds: int) -> dict:
    """Test figures of a head trained on frozen features, for the splits of several seeds."""
    import keras
    from scipy.stats import t as student_t

    from mseenet.fit import Checkpoint, predict, run_phase
    from mseenet.model import build_model, feature_extractor, head_on_features

    labels = index.labels
    model = build_model(ModelConfig(), backbone_weights)
    features = predict(feature_extractor(model), images, "features")
    runs = []
    for seed in range(seeds):
        config = replace(TrainingConfig(), seed=seed)
        split = random_split(index.samples, seed)
        part = {name: split.indices(index.samples, name) for name in SPLIT_NAMES}
        keras.utils.set_random_seed(seed)
        head = head_on_features(build_model(ModelConfig()))
        with tempfile.TemporaryDirectory() as folder:
            run_phase(
                "head",
                head,
                (features[part["train"]], labels[part["train"]]),
                (features[part["val"]], labels[part["val"]]),
                config,
                Checkpoint(Path(folder), {}),
            )
        predicted = predict(head, features[part["test"]]).argmax(axis=1)
        confusion = confusion_matrix(labels[part["test"]], predicted, len(CLASS_NAMES))
        figures = {name: float(value) for name, value in summary(confusion).items()}
        runs.append({"seed": seed, "n": len(part["test"]), **figures})
        cli.say(f"head, seed {seed}: test accuracy {figures['accuracy']:.4f}")
    statistics = {}
    for name in SUMMARY_NAMES:
        values = np.array([run[name] for run in runs])
        half = student_t.ppf(0.975, seeds - 1) * values.std(ddof=1) / math.sqrt(seeds)
        statistics[name] = {
            "mean": float(values.mean()),
            "interval_95": [float(values.mean() - half), float(min(1.0, values.mean() + half))],
        }
    return {"runs": runs, **statistics}


def markdown(result: dict, card: Card) -> str:
    """The report for people, from the same numbers as evaluation.json."""
    parts = result["parts"]
    test = parts["test"]
    lines = [
        "# Evaluation",
        "",
        "Written by `python -m mseenet.evaluate`; do not edit. Weights "
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
    if head := result.get("head_on_frozen_features"):
        lines += [
            "",
            "## From split to split",
            "",
            f"The head alone, trained on the frozen backbone's features, on the test parts of "
            f"{len(head['runs'])} random splits (n = {head['runs'][0]['n']} each). Percent; the last "
            "row is the mean with the 95 % interval of the mean (Student's t; the splits overlap, "
            "so it is somewhat too narrow).",
            "",
            "| seed | accuracy | precision | sensitivity | F1 | MCC |",
            "| ---: | --- | --- | --- | --- | --- |",
        ]
        for run in head["runs"]:
            cells = " | ".join(f"{100 * run[name]:.2f}" for name in SUMMARY_NAMES)
            lines.append(f"| {run['seed']} | {cells} |")
        cells = [_with_interval(head[n]["mean"], head[n]["interval_95"]) for n in SUMMARY_NAMES]
        lines.append(f"| mean | {' | '.join(cells)} |")
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
            f"{_with_interval(chosen['share'], chosen['interval_95'])}, n = {chosen['n']} |"
        )
    flagged = [
        f"embargo {embargo}: {_with_interval(f['fields']['share'], f['fields']['interval_95'])} "
        f"of the fields, among them {_with_interval(f['errors']['share'], f['errors']['interval_95'])} "
        f"of the {f['errors']['n']} errors, of the others "
        f"{_with_interval(f['rest_right']['share'], f['rest_right']['interval_95'])} right"
        for embargo, f in ((e, figures["flagged"]) for e, figures in blocks.items())
    ]
    point = result["malignant"]["operating_point"]
    called = [
        f"{name} {_with_interval(value['share'], value['interval_95'])} of {value['n']}"
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
            _with_interval(figures[s]["share"], figures[s]["interval_95"])
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
            f"{name}: {_with_interval(value['share'], value['interval_95'])}"
            for name, value in severities.items()
        )
        lines.append(f"| {kind} | {cells} |")
    return [*lines, "", "![Accuracy under changes of the image](figures/robustness.svg)"]


def _with_interval(value: float, interval) -> str:
    if interval is None:
        return f"{100 * value:.2f} (no error)"
    return f"{100 * value:.2f} ({100 * interval[0]:.1f}-{100 * interval[1]:.1f})"


if __name__ == "__main__":
    cli.run(main)

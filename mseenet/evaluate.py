"""Measures the shipped weights on the split that they were trained with.

    python -m mseenet.evaluate --data DIR

Writes evaluation.json, EVALUATION.md and figures beside the weights. The dataset is
checked against the split file first, image by image.

With --head-seeds N the head is also trained anew on frozen features for N random splits,
to show how far a figure from a few hundred test images moves from split to split.
"""

import argparse
import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from mseenet import cli
from mseenet.card import DEFAULT_WEIGHTS, HISTORY_NAME, Card, read_card
from mseenet.config import CLASS_NAMES, ModelConfig, TrainingConfig
from mseenet.data import (
    SPLIT_NAMES,
    DatasetError,
    index_dataset,
    load_images,
    random_split,
    read_split,
)
from mseenet.files import file_sha256, write_atomically
from mseenet.metrics import (
    SUMMARY_NAMES,
    class_metrics,
    confusion_matrix,
    measure,
    summary,
    wilson_interval,
)

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

    result = {
        "weights": card.sha256,
        "split": {name: card.content["split"][name] for name in ("protocol", "seed", "sha256")},
        "parts": measure_parts(card, index, images, arguments.weights),
    }
    if arguments.head_seeds:
        result["head_on_frozen_features"] = measure_head(
            index, images, arguments.backbone_weights, arguments.head_seeds
        )

    from mseenet.figures import draw_confusion, draw_history

    figures = out / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    test = result["parts"]["test"]
    draw_confusion(
        test["confusion"], f"random test split, n = {test['n']}", figures / "confusion.svg"
    )
    draw_history(history, figures / "training.svg")
    write_atomically(out / "evaluation.json", json.dumps(result, indent=1) + "\n")
    text = markdown(result, card)
    write_atomically(out / "EVALUATION.md", text)
    print(text)
    return 0


def read_history(weights: Path) -> dict[str, list[dict]]:
    """Reads the training history beside the weights."""
    path = weights / HISTORY_NAME
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: expected the training history ({error})") from error


def measure_parts(card: Card, index, images: np.ndarray, weights: Path) -> dict[str, dict]:
    """Figures of the shipped network on each part of its split."""
    from mseenet.fit import predict
    from mseenet.model import build_model, logits_model

    split_record = card.content["split"]
    path = weights / split_record["file"]
    if not path.is_file() or file_sha256(path) != split_record["sha256"]:
        raise DatasetError(f"{path}: expected the split file that the card names, unaltered")
    split = read_split(path, index, split_record["protocol"], split_record["seed"])

    model = build_model(card.model)
    model.load_weights(card.weights_path)
    network = logits_model(model)
    parts = {}
    for name in SPLIT_NAMES:
        rows = split.indices(index.samples, name)
        logits = predict(network, images[rows], name)
        parts[name] = measure(logits, index.labels[rows], card.temperature)
    return parts


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
        "`val` chose epochs and temperature; `test` chose nothing.",
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


def _with_interval(value: float, interval) -> str:
    if interval is None:
        return f"{100 * value:.2f} (no error)"
    return f"{100 * value:.2f} ({100 * interval[0]:.1f}-{100 * interval[1]:.1f})"


if __name__ == "__main__":
    cli.run(main)

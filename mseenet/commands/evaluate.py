"""Measures the shipped weights: known slides, unseen slides, other light, foreign images.

    mseenet evaluate --data DIR [--foreign DIR]

Writes evaluation.json, EVALUATION.md, MODEL_CARD.md and figures beside the weights. The
dataset is checked against the split file first, image by image. What concerns unseen
slides comes from out-of-fold.csv (`mseenet crossvalidate`).

With --foreign DIR each folder in DIR is a kind of image that the novelty gate should
refuse.
"""

import argparse
import json
from pathlib import Path

from mseenet import console
from mseenet.evaluation.known import (
    checked_split,
    measure_parts,
    measure_robustness,
    measure_statuses,
)
from mseenet.evaluation.model_card import model_card
from mseenet.evaluation.out_of_fold import read_out_of_fold
from mseenet.evaluation.report import evaluation_markdown
from mseenet.evaluation.unseen import measure_blocks, measure_malignant
from mseenet.files import write_atomically
from mseenet.inference.card import DEFAULT_WEIGHTS, HISTORY_NAME, read_card, update_card
from mseenet.inference.classifier import Classifier
from mseenet.training.dataset import DatasetError, index_dataset, load_images


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = console.command_parser("evaluate", __doc__)
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
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    out = arguments.out or arguments.weights
    card = read_card(arguments.weights)
    history = read_history(arguments.weights)
    index = index_dataset(arguments.data, console.progress)
    console.say(index.describe())
    images = load_images(index.samples, progress=console.progress)
    console.import_keras()

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
        console.say("unseen slides are left out: run mseenet crossvalidate first")
    else:
        folds = read_out_of_fold(arguments.weights)
        result["blocks"] = measure_blocks(folds, card.novelty.review, card.novelty.reject)
        result["malignant"] = measure_malignant(card, result, folds)

    from mseenet.evaluation.figures import (
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
    text = evaluation_markdown(result, card)
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

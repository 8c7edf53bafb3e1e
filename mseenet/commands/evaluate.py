"""Measures weights: known slides, unseen slides, other light, other backgrounds, foreign images.

    mseenet evaluate --data DIR [--foreign DIR]

Writes evaluation.json, EVALUATION.md and MODEL_CARD.md beside the weights. The
dataset is checked against the split file first, image by image. What concerns unseen
slides comes from the answers that `mseenet crossvalidate` keeps beside the weights.

With --foreign DIR each folder in DIR is a kind of image that the novelty gate should
refuse.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from mseenet import console
from mseenet.errors import UsageError
from mseenet.evaluation.known import (
    checked_split,
    foreign_images,
    measure_parts,
    measure_robustness,
    measure_statuses,
)
from mseenet.evaluation.model_card import model_card
from mseenet.evaluation.report import evaluation_markdown
from mseenet.evaluation.stress import file_order_blocks, measure_stress
from mseenet.evaluation.unseen import card_metrics, measure_unseen, out_of_fold_of, stress_of
from mseenet.files import write_atomically
from mseenet.inference.card import DEFAULT_WEIGHTS, Card, read_card, update_card
from mseenet.inference.classifier import Classifier
from mseenet.resources import weights_to_write
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
    # All that can be refused is read before minutes of computing.
    out = arguments.out or (
        weights_to_write("--out") if arguments.weights == DEFAULT_WEIGHTS else arguments.weights
    )
    card = read_card(arguments.weights)
    history = read_history(card)
    out_of_fold = out_of_fold_of(card)
    stress = stress_of(card)
    foreign = foreign_images(arguments.foreign) if arguments.foreign else {}
    index = index_dataset(arguments.data, console.progress)
    console.say(index.describe())
    split = checked_split(card, index)
    groups = file_order_blocks(index)
    images = load_images(index.samples, progress=console.progress)
    console.import_keras()
    classifier = Classifier.load(arguments.weights)

    test, recipe = split.indices(index.samples, "test"), card.content["training"]["recipe"]
    fields, labels = images[test], index.labels[test]
    result: dict[str, Any] = {
        "release": card.release,
        "weights": card.sha256,
        "split": {name: card.content["split"].get(name) for name in ("protocol", "seed", "sha256")},
        "parts": measure_parts(classifier, split, index, images, groups),
        "statuses": measure_statuses(classifier, fields, labels, groups[test], foreign),
        "robustness": measure_robustness(classifier, fields, labels, groups[test]),
        "stress": measure_stress(classifier, fields, labels, groups[test], recipe),
    }
    if out_of_fold is None or card.novelty is None:
        console.say("unseen slides are left out: run mseenet crossvalidate first")
    else:
        result["unseen"] = measure_unseen(out_of_fold, card.novelty, stress, recipe)
        result["operating_point"] = card.content["malignant"]
    write_reports(result, card, history, out)
    return 0


def write_reports(result: dict[str, Any], card: Card, history: dict, out: Path) -> None:
    """Writes the report for programs and those for people, and prints the latter.

    Raises:
        UsageError: Meanwhile other weights were published where the reports belong.
    """
    out.mkdir(parents=True, exist_ok=True)
    beside_weights = out.resolve() == card.weights_path.parent.resolve()
    if beside_weights and read_card(out).release != card.release:
        raise UsageError(f"{out}: another release was published there while this one was measured")
    write_atomically(out / "evaluation.json", json.dumps(result, indent=1) + "\n")
    if beside_weights:
        # The calibration may be newer than the card's figures.
        metrics = {name: result["parts"][name] for name in ("val", "test")}
        metrics |= card_metrics(result.get("unseen", {}))
        card = update_card(out, {"metrics": metrics})
    text = evaluation_markdown(result, card.content, history)
    write_atomically(out / "EVALUATION.md", text)
    audit = read_audit(out, card)
    write_atomically(out / "MODEL_CARD.md", model_card(card.content, result, audit))
    print(text)


def read_history(card: Card) -> dict[str, list[dict]]:
    """Reads the training history that the card names.

    Raises:
        DatasetError: The card names none, or the file is missing or malformed.
    """
    training = card.content.get("training")
    if not training:
        raise DatasetError(f"{card.weights_path.parent}: expected a card that names its training")
    path = card.weights_path.parent / training["history"]
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: expected the training history ({error})") from error


def read_audit(folder: Path, card: Card) -> dict | None:
    """The audit in a folder, if it is of the card's release."""
    path = folder / "audit.json"
    try:
        audit = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        console.say(f"{path} cannot be read and is left out of the model card")
        return None
    if audit.get("release") != card.release:
        console.say(f"{path} is of another release and is left out of the model card")
        return None
    return audit

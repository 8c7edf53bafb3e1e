"""Does the network look at blasts, or at something that happens to go with the label?

    mseenet audit --data DIR

What colour alone achieves, and frozen features of fields whose nucleated cells are painted
over. On the test part of the weights' split: what the network says when nucleated cells or
everything else is blanked out, how much of the heatmaps lies on nucleated cells, and what
the scale-bar corner does. With out-of-fold.csv beside the
weights, also the drop from known to unseen slides. Writes audit.json, AUDIT.md and
figures/audit.svg beside the weights; `evaluate` takes them over into the model card.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from mseenet import console
from mseenet.evaluation.audit import (
    audit_linear,
    audit_markdown,
    audit_network,
    color_features,
    findings,
    frozen_means,
    splits_of,
)
from mseenet.evaluation.known import checked_split, proportion
from mseenet.evaluation.out_of_fold import read_out_of_fold
from mseenet.files import write_atomically
from mseenet.imaging.nuclei import (
    nucleus_mask,
    paint_over_nuclei,
)
from mseenet.inference.card import DEFAULT_WEIGHTS, read_card
from mseenet.inference.classifier import Classifier
from mseenet.training.dataset import (
    index_dataset,
    load_images,
)


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = console.command_parser("audit", __doc__)
    parser.add_argument("--data", type=Path, metavar="DIR", required=True, help="the dataset")
    parser.add_argument(
        "--weights", type=Path, metavar="DIR", default=DEFAULT_WEIGHTS, help="(default: weights/)"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    card = read_card(arguments.weights)
    index = index_dataset(arguments.data, console.progress)
    images = load_images(index.samples, progress=console.progress)
    labels = index.labels
    split = checked_split(card, index, arguments.weights)
    test = split.indices(index.samples, "test")
    console.import_keras()
    classifier = Classifier.load(arguments.weights)

    protocols = splits_of(index, images, split)
    painted = np.stack(
        [
            paint_over_nuclei(rgb, nucleus_mask(rgb))
            for rgb in console.progress(images, "painting over")
        ]
    )
    frozen = {
        f"{what}, {name}": figures
        for what, variant in (("whole fields", images), ("cells painted over", painted))
        for name, figures in audit_linear(
            index, frozen_means(card, variant, what), protocols
        ).items()
    }
    result = {
        "weights": card.sha256,
        "n": len(test),
        "color_alone": audit_linear(index, color_features(images), protocols),
        "frozen_features": frozen,
        "network": audit_network(classifier, images[test], labels[test]),
    }
    if "malignant" in card.content:  # else the answers there are of other weights
        for embargo, folds in read_out_of_fold(arguments.weights).items():
            right = folds.logits.argmax(axis=1) == folds.labels
            result["network"][f"unseen slides, embargo {embargo}"] = {
                **proportion(int(right.sum()), len(right))
            }
    result["summary"] = findings(result)

    from mseenet.evaluation.figures import draw_audit

    figures = arguments.weights / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    draw_audit(result, figures / "audit.svg")
    write_atomically(arguments.weights / "audit.json", json.dumps(result, indent=1) + "\n")
    text = audit_markdown(result)
    write_atomically(arguments.weights / "AUDIT.md", text)
    print(text)
    return 0

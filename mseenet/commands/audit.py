"""Does the network look at blasts, or at something that happens to go with the label?

    mseenet audit --data DIR

What colour alone achieves, and frozen features of fields whose nucleated cells are painted
over. On the test part of the weights' split: what the network says when nucleated cells or
everything else is blanked out, how much of the heatmaps lies on nucleated cells, and what
the scale-bar corner does. For weights that were cross-validated, also the drop from known to
unseen slides. Writes audit.json and AUDIT.md beside the weights; `evaluate` takes the
findings over into the model card.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from mseenet import console
from mseenet.case.words import protocol_title
from mseenet.evaluation.audit import (
    audit_markdown,
    audit_splits,
    color_features,
    findings,
    linear_accuracy,
    measure_occlusion,
    pooled_frozen_features,
)
from mseenet.evaluation.known import checked_split
from mseenet.evaluation.stress import file_order_blocks
from mseenet.evaluation.unseen import out_of_fold_of
from mseenet.files import write_atomically
from mseenet.imaging.nuclei import nucleus_mask, paint_over_nuclei
from mseenet.inference.card import read_card
from mseenet.inference.classifier import Classifier
from mseenet.metrics import grouped_proportion
from mseenet.resources import weights_to_write
from mseenet.training.dataset import index_dataset, load_images


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = console.command_parser("audit", __doc__)
    parser.add_argument("--data", type=Path, metavar="DIR", required=True, help="the dataset")
    parser.add_argument("--weights", type=Path, metavar="DIR", help="(default: weights/)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    console.require("sklearn", extra="train")
    arguments.weights = arguments.weights or weights_to_write("--weights")
    card = read_card(arguments.weights)
    out_of_fold = out_of_fold_of(card)
    index = index_dataset(arguments.data, console.progress)
    split = checked_split(card, index)
    images = load_images(index.samples, progress=console.progress)
    protocols = audit_splits(index, images, split)
    groups = file_order_blocks(index)
    test = split.indices(index.samples, "test")
    console.import_keras()
    classifier = Classifier.load(arguments.weights)

    frozen = {}
    for fields in ("whole fields", "cells painted over"):
        shown = images
        if fields == "cells painted over":
            stream = console.progress(images, "painting over")
            shown = np.stack([paint_over_nuclei(rgb, nucleus_mask(rgb)) for rgb in stream])
        features = pooled_frozen_features(card, shown, fields)
        for protocol, record in linear_accuracy(index, features, protocols, groups).items():
            frozen[f"{fields}, {protocol}"] = record
    result: dict[str, Any] = {
        "release": card.release,
        "weights": card.sha256,
        "n": len(test),
        "color_alone": linear_accuracy(index, color_features(images), protocols, groups),
        "frozen_features": frozen,
        "network": measure_occlusion(classifier, images[test], index.labels[test], groups[test]),
    }
    for protocol, answers in (out_of_fold or {}).items():
        right = answers.logits.argmax(axis=1) == answers.labels
        result["network"][protocol_title(protocol)] = grouped_proportion(right, answers.parts)
    result["summary"] = findings(result)

    write_atomically(arguments.weights / "audit.json", json.dumps(result, indent=1) + "\n")
    text = audit_markdown(result)
    write_atomically(arguments.weights / "AUDIT.md", text)
    print(text)
    return 0

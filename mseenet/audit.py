"""Does the network look at blasts, or at something that happens to go with the label?

    python -m mseenet.audit --data DIR

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

from mseenet import cli
from mseenet.card import DEFAULT_WEIGHTS, read_card
from mseenet.classifier import Classifier
from mseenet.config import CLASS_NAMES
from mseenet.crossvalidate import read_out_of_fold
from mseenet.data import EMBARGOES, FOLDS, block_split, index_dataset, load_images, near_duplicates
from mseenet.evaluate import checked_split, share
from mseenet.files import write_atomically
from mseenet.nuclei import (
    background_color,
    blank_background,
    blank_nuclei,
    nucleus_mask,
    paint_over_nuclei,
    scale_bar_corner,
)


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m mseenet.audit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, metavar="DIR", required=True, help="the dataset")
    parser.add_argument(
        "--weights", type=Path, metavar="DIR", default=DEFAULT_WEIGHTS, help="(default: weights/)"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    card = read_card(arguments.weights)
    index = index_dataset(arguments.data, cli.progress)
    images = load_images(index.samples, progress=cli.progress)
    labels = index.labels
    split = checked_split(card, index, arguments.weights)
    test = split.indices(index.samples, "test")
    cli.import_keras()
    classifier = Classifier.load(arguments.weights)

    protocols = splits_of(index, images, split)
    painted = np.stack(
        [paint_over_nuclei(rgb, nucleus_mask(rgb)) for rgb in cli.progress(images, "painting over")]
    )
    frozen = {
        f"{what}, {name}": figures
        for what, variant in (("whole fields", images), ("cells painted over", painted))
        for name, figures in audit_linear(
            index, trunk_means(card, variant, what), protocols
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
                **share(int(right.sum()), len(right))
            }
    result["summary"] = summarize(result)

    from mseenet.figures import draw_audit

    figures = arguments.weights / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    draw_audit(result, figures / "audit.svg")
    write_atomically(arguments.weights / "audit.json", json.dumps(result, indent=1) + "\n")
    text = markdown(result)
    write_atomically(arguments.weights / "AUDIT.md", text)
    print(text)
    return 0


def color_features(images: np.ndarray) -> np.ndarray:
    """Mean colour and background colour of each image, float64 (N, 6)."""
    return np.stack([[*rgb.mean(axis=(0, 1)), *background_color(rgb)] for rgb in images])


def nearest_class(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Linear discriminant analysis: the class whose mean is nearest under one covariance.

    Args:
        train: (N, D).
        labels: int (N,).
        test: (M, D).

    Returns:
        Predicted labels, int (M,).
    """
    means = np.stack([train[labels == c].mean(axis=0) for c in range(labels.max() + 1)])
    covariance = np.cov((train - means[labels]).T) + 1e-6 * np.eye(train.shape[1])
    weights = np.linalg.solve(covariance, means.T)  # (D, C)
    scores = test @ weights - 0.5 * np.sum(means.T * weights, axis=0)
    return np.argmax(scores + np.log(np.bincount(labels) / len(labels)), axis=1)


def splits_of(index, images: np.ndarray, split) -> dict[str, list]:
    """The splits of each protocol, over which its test images are pooled."""
    duplicates = near_duplicates(images)
    return {"random test": [split]} | {
        f"unseen slides, embargo {embargo}": [
            block_split(index.samples, fold, embargo, duplicates) for fold in range(FOLDS)
        ]
        for embargo in EMBARGOES
    }


def audit_linear(index, features: np.ndarray, protocols: dict[str, list]) -> dict:
    """What a linear discriminant on `features`, (N, D), achieves under each protocol."""
    labels, results = index.labels, {}
    for name, splits in protocols.items():
        right = []
        for split in splits:
            train, test = (split.indices(index.samples, part) for part in ("train", "test"))
            predicted = nearest_class(features[train], labels[train], features[test])
            right.append(predicted == labels[test])
        right = np.concatenate(right)
        results[name] = share(int(right.sum()), len(right))
    return results


def trunk_means(card, images: np.ndarray, name: str) -> np.ndarray:
    """Output of the trunk, which is as ImageNet left it, averaged over each image, (N, 96)."""
    import keras

    from mseenet.model import build_model, trunk

    model = build_model(card.model)
    model.load_weights(card.weights_path)
    network, means = trunk(model), []
    for start in cli.progress(range(0, len(images), 64), name):
        batch = network.predict_on_batch(images[start : start + 64].astype(np.float32))
        means.append(keras.ops.convert_to_numpy(batch).mean(axis=(1, 2)))
    return np.concatenate(means)


def audit_network(classifier: Classifier, images: np.ndarray, labels: np.ndarray) -> dict:
    """What the network says of the images as they are and with parts blanked out."""
    masks = [nucleus_mask(rgb) for rgb in images]
    corner = scale_bar_corner(images.shape[1:3])
    variants = {
        "as they are": list(images),
        "nucleated cells blanked out": list(map(blank_nuclei, images, masks)),
        "all but nucleated cells blanked out": list(map(blank_background, images, masks)),
        "scale-bar corner black": [
            np.where(corner[..., None], 0, rgb).astype(np.uint8) for rgb in images
        ],
        # The corner of a field of the next class, so that it speaks for another label.
        "scale-bar corner of another class": [
            np.where(corner[..., None], images[np.flatnonzero(labels == (label + 1) % 4)[0]], rgb)
            for rgb, label in zip(images, labels, strict=True)
        ],
    }
    results, plain = {}, None
    for name, variant in variants.items():
        stream = classifier.stream(variant, heatmaps="predicted", anyway=True)
        predictions = list(cli.progress(stream, name, len(images)))
        predicted = np.array([CLASS_NAMES.index(p.class_name) for p in predictions])
        plain = predicted if plain is None else plain
        counts = np.bincount(predicted, minlength=len(CLASS_NAMES))
        results[name] = {
            **share(int(np.sum(predicted == labels)), len(labels)),
            "changed": share(int(np.sum(predicted != plain)), len(labels)),
            "rejected": share(sum(p.status == "rejected" for p in predictions), len(labels)),
            "mean_confidence": float(np.mean([p.confidence for p in predictions])),
            "named": dict(zip(CLASS_NAMES, counts.tolist(), strict=True)),
        }
        if name == "as they are":
            heat = np.stack([p.heatmap for p in predictions])
            mass = heat.sum(axis=(1, 2)) + 1e-9
            cells = np.stack(masks)
            results[name] |= {
                "heat_on_cells": float(np.mean((heat * cells).sum(axis=(1, 2)) / mass)),
                "area_of_cells": float(cells.mean()),
                "heat_in_corner": float(np.mean((heat * corner).sum(axis=(1, 2)) / mass)),
                "area_of_corner": float(corner.mean()),
            }
    return results


def summarize(result: dict) -> list[str]:
    """The findings in sentences, each with its numbers."""
    network, n = result["network"], result["n"]
    plain = network["as they are"]
    lines = [
        "Colour alone (mean and background colour, linear discriminant): "
        + "; ".join(f"{name} {_percent(value)}" for name, value in result["color_alone"].items())
        + ".",
        "A linear discriminant on frozen ImageNet features (the trunk's), trained and tested on the "
        "same kind of fields: "
        + "; ".join(f"{name} {_percent(f)}" for name, f in result["frozen_features"].items())
        + ". What the classes owe to red cells, plasma and stain shows in the fields whose "
        "nucleated cells are painted over with what surrounds them.",
    ]
    for name, figures in network.items():
        if name.startswith("unseen"):
            lines.append(
                f"The network falls from {_percent(plain)} on known slides to {_percent(figures)} "
                f"on {name} (n = {figures['n']})."
            )
        elif name != "as they are":
            named = ", ".join(f"{c} {k}" for c, k in figures["named"].items())
            lines.append(
                f"With {name}: {_percent(figures)} right (n = {n}), {_percent(figures['changed'])} "
                f"called otherwise than before, {_percent(figures['rejected'])} rejected; named {named}."
            )
    lines.append(
        f"{100 * plain['heat_on_cells']:.1f} % of the heatmaps' mass lies on nucleated cells, which cover "
        f"{100 * plain['area_of_cells']:.1f} % of the fields; {100 * plain['heat_in_corner']:.1f} % lies in the "
        f"scale-bar corner, {100 * plain['area_of_corner']:.1f} % of the area. A heatmap cell is 32 pixels "
        "wide, more than a blast."
    )
    return lines


def markdown(result: dict) -> str:
    """The report for people."""
    lines = [
        "# Shortcut audit",
        "",
        f"Written by `python -m mseenet.audit`; do not edit. {result['n']} fields of the random test "
        "part unless stated; 95 % Wilson intervals in brackets. Nucleated cells are found by colour "
        "(`mseenet.nuclei`). Blanked fields look like no real field, so a changed answer shows what "
        "the network uses, not that it is wrong.",
        "",
        *(f"- {line}" for line in result["summary"]),
        "",
        "![What is right with parts of the image blanked out](figures/audit.svg)",
    ]
    return "\n".join(lines) + "\n"


def _percent(figures: dict) -> str:
    low, high = figures["interval_95"]
    return f"{100 * figures['share']:.1f} % ({100 * low:.1f}-{100 * high:.1f})"


if __name__ == "__main__":
    cli.run(main)

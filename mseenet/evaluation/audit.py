"""Does the network look at blasts, or at something that happens to go with the label?"""

import numpy as np

from mseenet import console
from mseenet.config import CLASS_NAMES
from mseenet.evaluation.known import proportion
from mseenet.imaging.nuclei import (
    background_color,
    blank_background,
    blank_nuclei,
    nucleus_mask,
    scale_bar_corner,
)
from mseenet.inference.classifier import Classifier
from mseenet.training.splits import EMBARGOES, FOLDS, block_split, near_duplicates


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
        results[name] = proportion(int(right.sum()), len(right))
    return results


def frozen_means(card, images: np.ndarray, name: str) -> np.ndarray:
    """Output of the frozen blocks, which is as ImageNet left it, averaged over each image, (N, 96)."""
    from mseenet.inference.backend import keras
    from mseenet.inference.network import build_model, frozen_blocks

    model = build_model(card.model)
    model.load_weights(card.weights_path)
    network, means = frozen_blocks(model), []
    for start in console.progress(range(0, len(images), 64), name):
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
        stream = classifier.stream(variant, heatmaps="predicted", include_rejected=True)
        predictions = list(console.progress(stream, name, len(images)))
        predicted = np.array([CLASS_NAMES.index(p.class_name) for p in predictions])
        plain = predicted if plain is None else plain
        counts = np.bincount(predicted, minlength=len(CLASS_NAMES))
        results[name] = {
            **proportion(int(np.sum(predicted == labels)), len(labels)),
            "changed": proportion(int(np.sum(predicted != plain)), len(labels)),
            "rejected": proportion(sum(p.status == "rejected" for p in predictions), len(labels)),
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


def findings(result: dict) -> list[str]:
    """The findings in sentences, each with its numbers."""
    network, n = result["network"], result["n"]
    plain = network["as they are"]
    lines = [
        "Colour alone (mean and background colour, linear discriminant): "
        + "; ".join(f"{name} {_percent(value)}" for name, value in result["color_alone"].items())
        + ".",
        "A linear discriminant on frozen ImageNet features (of the frozen blocks), trained and tested on the "
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


def audit_markdown(result: dict) -> str:
    """The report for people."""
    lines = [
        "# Shortcut audit",
        "",
        f"Written by `mseenet audit`; do not edit. {result['n']} fields of the random test "
        "part unless stated; 95 % Wilson intervals in brackets. Nucleated cells are found by colour "
        "(`mseenet.imaging.nuclei`). Blanked fields look like no real field, so a changed answer shows what "
        "the network uses, not that it is wrong.",
        "",
        *(f"- {line}" for line in result["summary"]),
        "",
        "![What is right with parts of the image blanked out](figures/audit.svg)",
    ]
    return "\n".join(lines) + "\n"


def _percent(figures: dict) -> str:
    low, high = figures["interval_95"]
    return f"{100 * figures['proportion']:.1f} % ({100 * low:.1f}-{100 * high:.1f})"

"""Does the network look at blasts, or at something that happens to go with the label?"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from mseenet import console
from mseenet.case.words import protocol_title
from mseenet.config import CLASS_NAMES
from mseenet.evaluation.markdown import proportion_percent, table
from mseenet.imaging.cells import GRID_CELL
from mseenet.imaging.nuclei import (
    background_color,
    blank_background,
    blank_nuclei,
    nucleus_mask,
    scale_bar_corner,
    with_rim,
)
from mseenet.inference.card import Card
from mseenet.inference.classifier import Classifier, Prediction
from mseenet.metrics import grouped_proportion
from mseenet.training.dataset import DatasetIndex
from mseenet.training.splits import EMBARGOES, FOLDS, Split, block_split, near_duplicates

AS_THEY_ARE = "as they are"

PARTS = {
    "network": "network",
    "frozen_features": "frozen features",
    "color_alone": "colour alone",
}
"""Keys of audit.json that hold accuracies, and what reports call them."""


def audit_splits(
    index: DatasetIndex, images: np.ndarray, split: Split
) -> dict[str, Sequence[Split]]:
    """The splits of each protocol, over which its test images are pooled.

    Args:
        index: The dataset.
        images: All of it, uint8 (N, H, W, 3).
        split: The weights' own.

    Raises:
        DatasetError: The dataset is too small for the protocol `blocks`.
    """
    duplicates = near_duplicates(images)
    protocols: dict[str, Sequence[Split]] = {"random test": [split]}
    for embargo in EMBARGOES:
        protocols[protocol_title(f"blocks-{embargo}")] = [
            block_split(index.samples, fold, embargo, duplicates) for fold in range(FOLDS)
        ]
    return protocols


def color_features(images: Iterable[np.ndarray]) -> np.ndarray:
    """Mean colour and background colour of each image, float64 (N, 6)."""
    return np.stack([[*rgb.mean(axis=(0, 1)), *background_color(rgb)] for rgb in images])


def pooled_frozen_features(card: Card, images: np.ndarray, name: str) -> np.ndarray:
    """Output of the frozen blocks, which is as ImageNet left it, averaged over each image.

    Args:
        card: Of the weights.
        images: uint8 (N, 224, 224, 3).
        name: Shown with the progress.

    Returns:
        float32 (N, 96).
    """
    from mseenet.inference.backend import keras
    from mseenet.inference.network import build_model, frozen_blocks

    model = build_model(card.model)
    model.load_weights(card.weights_path)
    network, means = frozen_blocks(model), []
    for start in console.progress(range(0, len(images), 64), name):
        batch = network.predict_on_batch(images[start : start + 64].astype(np.float32))
        means.append(keras.ops.convert_to_numpy(batch).mean(axis=(1, 2)))
    return np.concatenate(means)


def linear_accuracy(
    index: DatasetIndex,
    features: np.ndarray,
    protocols: Mapping[str, Sequence[Split]],
    groups: np.ndarray,
) -> dict[str, dict]:
    """What linear discriminant analysis of some features achieves under each protocol.

    Args:
        index: The dataset.
        features: Of all its images, (N, D).
        protocols: See `audit_splits`.
        groups: Which images belong together, (N,); `stress.file_order_blocks`.

    Returns:
        By protocol, a record of `mseenet.metrics.grouped_proportion`.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    labels, results = index.labels, {}
    for name, splits in protocols.items():
        right, tested = [], []
        for split in splits:
            train, test = (split.indices(index.samples, part) for part in ("train", "test"))
            model = LinearDiscriminantAnalysis().fit(features[train], labels[train])
            right.append(model.predict(features[test]) == labels[test])
            tested.append(groups[test])
        results[name] = grouped_proportion(np.concatenate(right), np.concatenate(tested))
    return results


def occlude(
    images: np.ndarray, labels: np.ndarray, masks: Iterable[np.ndarray]
) -> dict[str, list[np.ndarray]]:
    """The images as they are, and with parts of them blanked out or exchanged.

    Args:
        images: RGB pixels, uint8 (N, H, W, 3); of every class at least one.
        labels: int (N,).
        masks: Where each image's nucleated cells are, bool (H, W).
    """
    corner = scale_bar_corner(images.shape[1:3])[..., None]
    # A field of the next class lends its corner, so that it speaks for another label.
    donors = [np.flatnonzero(labels == (c + 1) % len(CLASS_NAMES))[0] for c in labels]
    masks = list(masks)
    return {
        AS_THEY_ARE: list(images),
        "nucleated cells blanked out": list(map(blank_nuclei, images, masks)),
        "all but nucleated cells blanked out": list(map(blank_background, images, masks)),
        "scale-bar corner black": [np.where(corner, 0, rgb).astype(np.uint8) for rgb in images],
        "scale-bar corner of another class": [
            np.where(corner, images[donor], rgb) for donor, rgb in zip(donors, images, strict=True)
        ],
    }


def measure_occlusion(
    classifier: Classifier, images: np.ndarray, labels: np.ndarray, groups: np.ndarray
) -> dict[str, dict]:
    """What the network says of images with parts blanked out, and where its heatmaps lie.

    Args:
        classifier: Of the weights.
        images: RGB pixels, uint8 (N, 224, 224, 3).
        labels: int (N,).
        groups: Which images belong together, (N,).

    Returns:
        By variant of `occlude`: the accuracy as a record of `grouped_proportion`; how
        many answers `changed`, how many fields are `rejected`, the mean confidence and how
        often each class is `named`. For the images as they are also the proportions of
        heatmap and area on nucleated cells, on these with a rim of `GRID_CELL`, and in the
        scale bar's corner.
    """
    masks = [nucleus_mask(rgb) for rgb in images]
    results: dict[str, dict] = {}
    unchanged = None
    for name, variant in occlude(images, labels, masks).items():
        stream = classifier.stream(variant, heatmaps="predicted", include_rejected=True)
        predictions = list(console.progress(stream, name, len(images)))
        predicted = np.array([CLASS_NAMES.index(p.class_name) for p in predictions])
        unchanged = predicted if unchanged is None else unchanged
        counts = np.bincount(predicted, minlength=len(CLASS_NAMES))
        results[name] = {
            **grouped_proportion(predicted == labels, groups),
            "changed": grouped_proportion(predicted != unchanged, groups),
            "rejected": grouped_proportion(
                np.array([p.status == "rejected" for p in predictions]), groups
            ),
            "mean_confidence": float(np.mean([p.confidence for p in predictions])),
            "named": dict(zip(CLASS_NAMES, counts.tolist(), strict=True)),
        }
        if name == AS_THEY_ARE:
            results[name] |= _heat(predictions, np.stack(masks))
    return results


def _heat(predictions: Sequence[Prediction], cells: np.ndarray) -> dict[str, float]:
    """Mean proportions of the heatmaps and of the area; `cells` is bool (N, H, W)."""
    heat = np.stack([p.heatmap for p in predictions if p.heatmap is not None])  # each has one
    mass = heat.sum(axis=(1, 2)) + 1e-9  # a map may be empty
    corner = scale_bar_corner(cells.shape[1:])
    near = np.stack([with_rim(mask, GRID_CELL) for mask in cells])
    return {
        "heat_on_cells": float(np.mean((heat * cells).sum(axis=(1, 2)) / mass)),
        "area_of_cells": float(cells.mean()),
        "heat_near_cells": float(np.mean((heat * near).sum(axis=(1, 2)) / mass)),
        "area_near_cells": float(near.mean()),
        "heat_in_corner": float(np.mean((heat * corner).sum(axis=(1, 2)) / mass)),
        "area_of_corner": float(corner.mean()),
    }


def findings(result: dict) -> list[str]:
    """The findings in sentences, each with its numbers; `result` is the content of audit.json."""
    network, n = result["network"], result["n"]
    plain = network[AS_THEY_ARE]
    lines = [
        "Colour alone (mean and background colour, linear discriminant analysis): "
        + "; ".join(f"{name} {_percent(value)}" for name, value in result["color_alone"].items())
        + ".",
        "Linear discriminant analysis of frozen ImageNet features (of the frozen blocks), trained and "
        "tested on the same kind of fields: "
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
        elif name != AS_THEY_ARE:
            named = ", ".join(f"{c} {k}" for c, k in figures["named"].items())
            lines.append(
                f"With {name}: {_percent(figures)} right (n = {n}), {_percent(figures['changed'])} "
                f"called otherwise than before, {_percent(figures['rejected'])} rejected; named {named}."
            )
    lines.append(
        f"{100 * plain['heat_on_cells']:.1f} % of the heatmaps' mass lies on nucleated cells, which cover "
        f"{100 * plain['area_of_cells']:.1f} % of the fields, and {100 * plain['heat_near_cells']:.1f} % on them with "
        f"a rim of one grid cell of the heatmap, {GRID_CELL} pixels, {100 * plain['area_near_cells']:.1f} % of the "
        f"fields; {100 * plain['heat_in_corner']:.1f} % lies in the scale-bar corner, "
        f"{100 * plain['area_of_corner']:.1f} % of the area."
    )
    return lines


def audit_markdown(result: dict) -> str:
    """AUDIT.md, the report for people, from the content of audit.json."""
    rows = [
        [title, name, record["n"], proportion_percent(record)]
        for part, title in PARTS.items()
        for name, record in result[part].items()
    ]
    lines = [
        "# Shortcut audit",
        "",
        f"Written by `mseenet audit`; do not edit. Release `{result['release']}`. {result['n']} fields "
        "of the random test part unless stated; 95 % intervals in brackets, a bootstrap over blocks of file "
        "order (of the network on unseen slides, over what fails together there), as fields of one slide "
        "fail together; Wilson's, which is too narrow, where all or none are counted. Nucleated cells are "
        "found by colour (`mseenet.imaging.nuclei`). Blanked fields look like no real field, so a "
        "changed answer shows what the network uses, not that it is wrong. The page *Model* of the app "
        "draws the table as a chart.",
        "",
        *(f"- {line}" for line in result["summary"]),
        "",
        "## Accuracy, percent",
        "",
        *table(["what decides", "fields", "n:", "accuracy"], rows),
    ]
    return "\n".join(lines) + "\n"


def _percent(record: dict) -> str:
    low, high = record["interval_95"]
    return f"{100 * record['proportion']:.1f} % ({100 * low:.1f}-{100 * high:.1f})"

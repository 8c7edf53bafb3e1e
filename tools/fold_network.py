"""Trains and publishes the network of a fold or of several: for trials that need unseen slides.

    python -m tools.fold_network --data DIR --backbone-weights FILE --out DIR

It is trained by the robust recipe, without transplanted cells and with fewer copies than a release,
on fields that a protocol for unseen slides trains on in each of these folds. It takes some ten
minutes and is worse than a release. Thresholds and calibration are those of the weights in weights/,
as in the evaluation on unseen slides. The result is a folder of weights like any other; it is no
release.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from mseenet import console
from mseenet.config import RobustConfig
from mseenet.inference.card import DEFAULT_WEIGHTS, Card, publish, read_card
from mseenet.training.dataset import Sample, index_dataset, load_images
from mseenet.training.provenance import backbone_record
from mseenet.training.series import find_captures, read_captures, series_of, series_split
from mseenet.training.splits import Split, near_duplicates, split_csv

CONFIG = RobustConfig(copies=2)

FIELDS = 1000
"""Most fields that are trained on; of long series fewer, as `balance` says."""

KEPT = ("calibration", "heatmap", "malignant", "review_confidence", "novelty")
"""Sections of the card that are taken over."""


def train_fold(
    data: Path,
    backbone_weights: str,
    out: Path,
    protocol: str,
    folds: Sequence[int],
    cache: Path | None,
) -> Card:
    """Trains a network without the tested fields of folds and writes it as a folder of weights.

    Args:
        data: The dataset.
        backbone_weights: As for `network.build_backbone`.
        out: Folder of the result.
        protocol: "series" or "series-siblings".
        folds: Of the protocol, one at least.
        cache: Folder that keeps frozen features; None to compute them.
    """
    shipped = read_card(DEFAULT_WEIGHTS)
    index = index_dataset(data, console.progress)
    every = load_images(index.samples, progress=console.progress)
    split = without_folds(index.samples, protocol, folds, near_duplicates(every))
    rows = chosen_fields(split.indices(index.samples, "train"), index.samples)
    samples, images, labels = [index.samples[i] for i in rows], every[rows], index.labels[rows]

    console.import_keras()
    from mseenet.inference.backend import keras
    from mseenet.inference.network import build_model, freeze_batch_normalization
    from mseenet.training.checkpoint import Checkpoint
    from mseenet.training.gate import reference_of
    from mseenet.training.robust import fit_head_then_fine_tune, frozen_features

    keras.utils.clear_session()
    keras.utils.set_random_seed(CONFIG.seed)
    model = build_model(shipped.model, backbone_weights)
    freeze_batch_normalization(model)
    backbone = backbone_record(backbone_weights)
    with tempfile.TemporaryDirectory() as scratch:
        kept = cache or Path(scratch) / "features"
        features = frozen_features(model, samples, images, CONFIG, backbone, kept)
        checkpoint = Checkpoint(Path(scratch) / "run", {})
        train = (features.draw(np.arange(len(rows))), labels)
        fit_head_then_fine_tune(model, train, None, CONFIG, checkpoint)
        history = {name: checkpoint.history(name) for name in checkpoint.phases()}
        reference = reference_of(features.pooled(), labels, np.arange(len(rows)))
    content = {name: shipped.content[name] for name in ("model", *KEPT) if name in shipped.content}
    number = "-".join(map(str, folds))
    content |= {
        "training": shipped.content["training"]
        | {"recipe": "robust", "settings": asdict(CONFIG), "backbone": backbone},
        "split": {"protocol": protocol, "seed": number, "n": {"train": len(rows)}},
        "intended_use": "a fold of a cross-validation, for trials alone",
    }
    return publish(
        out, model, content, reference, history=history, split=split_csv(split, index.samples)
    )


def without_folds(
    samples: Sequence[Sample],
    protocol: str,
    folds: Sequence[int],
    duplicates: Sequence[tuple[int, int]],
) -> Split:
    """What each of some folds trains on, and what any of them tests; arguments of `series_split`."""
    captures = find_captures(samples, read_captures())
    splits = [series_split(samples, captures, protocol, fold, duplicates) for fold in folds]
    parts = {}
    for sample in samples:
        found = {split.assignment.get(sample.file) for split in splits}
        if "test" in found:
            parts[sample.file] = "test"
        elif found == {"train"}:
            parts[sample.file] = "train"
    return Split("; ".join(split.protocol for split in splits), None, parts)


def chosen_fields(rows: np.ndarray, samples: Sequence[Sample]) -> np.ndarray:
    """At most `FIELDS` of the rows, classes alike and long series less often, int64, ascending."""
    from mseenet.training.cells import chances

    train = [samples[i] for i in rows]
    likely = chances(np.array([sample.label for sample in train]), series_of(train), 0.75)
    random = np.random.default_rng(CONFIG.seed)
    chosen = random.choice(len(rows), min(FIELDS, len(rows)), replace=False, p=likely)
    return np.sort(rows[chosen])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--backbone-weights", default="imagenet", metavar="FILE")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--protocol", default="series-siblings")
    parser.add_argument("--fold", type=int, nargs="+", default=[0])
    parser.add_argument("--cache", type=Path, metavar="DIR")
    arguments = parser.parse_args()
    card = train_fold(
        arguments.data,
        arguments.backbone_weights,
        arguments.out,
        arguments.protocol,
        arguments.fold,
        arguments.cache,
    )
    print(f"wrote {card.weights_path.parent}, release {card.release}")


if __name__ == "__main__":
    main()

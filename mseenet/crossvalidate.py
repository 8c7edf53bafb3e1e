"""Measures the robust recipe on unseen slides, and calibrates the weights for them.

    python -m mseenet.crossvalidate --data DIR

The file order follows the slides, so contiguous blocks of it are tested by networks that
were trained without them and without an embargo of files around them (protocol `blocks`
of `mseenet.data`): 5 folds for each embargo, with the settings in the card of the
weights. Logits and novelty of every tested field go to out-of-fold.csv beside the
weights; calibration, review threshold and malignant operating point that follow from
them go into the card. Each fold is kept when it is done; the same command goes on after
an interruption.
"""

import argparse
import csv
import io
import os
import tempfile
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np

from mseenet import cli
from mseenet.calibration import fit_calibration
from mseenet.card import DEFAULT_WEIGHTS, read_card, update_card
from mseenet.config import CLASS_NAMES, ModelConfig, PhaseConfig, RobustConfig
from mseenet.data import (
    EMBARGOES,
    FOLDS,
    DatasetError,
    block_split,
    index_dataset,
    load_images,
    near_duplicates,
)
from mseenet.errors import UsageError
from mseenet.files import write_atomically
from mseenet.metrics import selective_threshold, softmax

OUT_OF_FOLD_NAME = "out-of-fold.csv"

TRUSTED_ACCURACY = 0.99
"""Accuracy on unseen slides that a field without a flag should have."""

MALIGNANT_SENSITIVITY = 0.995
"""Share of malignant fields of unseen slides that the operating point is to catch."""


@dataclass(frozen=True)
class OutOfFold:
    """What networks said about fields of slides that they had not seen.

    Attributes:
        files: `Sample.file` of each, (N,).
        folds: Which block the field is in, int (N,).
        labels: int (N,).
        logits: Before calibration, float (N, C).
        novelty: Distance from the fold's own training fields, (N,).
    """

    files: list[str]
    folds: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    novelty: np.ndarray

    def take(self, chosen: np.ndarray) -> "OutOfFold":
        """The fields where `chosen`, bool (N,), is true."""
        files = list(compress(self.files, chosen))
        arrays = (self.folds, self.labels, self.logits, self.novelty)
        return OutOfFold(files, *(array[chosen] for array in arrays))


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m mseenet.crossvalidate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, metavar="DIR", required=True, help="the dataset")
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="DIR",
        default=DEFAULT_WEIGHTS,
        help="whose recipe is measured and whose card is completed (default: weights/)",
    )
    parser.add_argument(
        "--backbone-weights",
        default="imagenet",
        metavar="FILE",
        help="ImageNet weights of the bare backbone (default: download them)",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="trunk features kept by `train --cache` (default: compute them)",
    )
    parser.add_argument(
        "--embargo",
        type=int,
        choices=EMBARGOES,
        action="append",
        help="train the folds of this embargo only, and leave reports and card to a run without "
        "this option: for several processes or machines side by side",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    card = read_card(arguments.weights)
    if card.content["training"]["recipe"] != "robust":
        raise UsageError(
            f"{arguments.weights}: expected weights of the robust recipe, got "
            f"{card.content['training']['recipe']}"
        )
    settings = dict(card.content["training"]["settings"])
    settings |= {name: PhaseConfig(**settings[name]) for name in ("head", "crown")}
    config = RobustConfig(**settings)
    index = index_dataset(arguments.data, cli.progress)
    cli.say(index.describe())
    images = load_images(index.samples, progress=cli.progress)
    work = arguments.weights / ".checkpoint" / f"folds-{card.sha256[:8]}"
    run_folds(index, images, config, card.model, arguments, work)

    if arguments.embargo:
        return 0
    results = {embargo: collect(index, work, embargo) for embargo in EMBARGOES}
    write_atomically(arguments.weights / OUT_OF_FOLD_NAME, out_of_fold_csv(results))
    changes = calibrate(list(results.values()), card.novelty.reject)
    update_card(arguments.weights, changes)
    for path in sorted(work.iterdir()):
        path.unlink()
    work.rmdir()
    cli.say(
        f"temperature {changes['calibration']['value']} at novelty 1, review below confidence "
        f"{changes['review_confidence']['value']:.3f}; wrote {OUT_OF_FOLD_NAME} and the card"
    )
    return 0


def run_folds(
    index,
    images: np.ndarray,
    config: RobustConfig,
    model_config: ModelConfig,
    arguments,
    work: Path,
) -> None:
    """Trains and tests what is missing in `work`, one .npz file a fold and embargo."""
    cli.import_keras()
    import keras

    from mseenet.fit import Checkpoint, predict
    from mseenet.model import build_model, crown
    from mseenet.novelty import fit_novelty
    from mseenet.robust import fit_head_then_crown, trunk_features
    from mseenet.train import backbone_record

    work.mkdir(parents=True, exist_ok=True)
    model = build_model(model_config, arguments.backbone_weights)
    backbone = backbone_record(arguments.backbone_weights)
    with tempfile.TemporaryDirectory() as temporary:
        cache = arguments.cache or Path(temporary)
        features = trunk_features(model, index.samples, images, config, backbone, cache)
        pooled, labels = features.pooled(), index.labels
        duplicates = near_duplicates(images)
        for embargo in arguments.embargo or EMBARGOES:
            for fold in range(FOLDS):
                path = work / f"embargo{embargo}-fold{fold}.npz"
                if path.is_file():
                    continue
                split = block_split(index.samples, fold, embargo, duplicates)
                train, test = (split.indices(index.samples, name) for name in ("train", "test"))
                keras.utils.set_random_seed(config.seed)
                model = build_model(model_config, arguments.backbone_weights)
                checkpoint = Checkpoint(Path(temporary) / "fold", {})
                data = (features.draw(train), labels[train])
                fit_head_then_crown(model, data, None, config, checkpoint)
                checkpoint.delete()
                logits = predict(crown(model), features.copies[0][test].astype(np.float32))
                gate = fit_novelty(
                    pooled[:, train].reshape(-1, pooled.shape[-1]),
                    np.tile(labels[train], len(pooled)),
                )
                distances = gate.distances(pooled[0, test])
                temporary = path.with_suffix(f".{os.getpid()}.part")
                with temporary.open("wb") as stream:
                    np.savez(stream, rows=test, logits=logits, novelty=distances)
                temporary.replace(path)  # a file that is there is whole
                accuracy = np.mean(logits.argmax(axis=1) == labels[test])
                cli.say(f"embargo {embargo}, fold {fold}: {accuracy:.4f} of {len(test)}")


def collect(index, work: Path, embargo: int) -> OutOfFold:
    """The folds of one embargo as one, in the order of the index."""
    parts = []
    for fold in range(FOLDS):
        with np.load(work / f"embargo{embargo}-fold{fold}.npz", allow_pickle=False) as part:
            parts.append((np.full(len(part["rows"]), fold), *(part[n] for n in part.files)))
    folds, rows, logits, novelty = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(rows)
    samples = [index.samples[i] for i in rows[order]]
    return OutOfFold(
        [sample.file for sample in samples],
        folds[order],
        np.array([sample.label for sample in samples]),
        logits[order],
        novelty[order],
    )


def out_of_fold_csv(results: dict[int, OutOfFold]) -> str:
    """All results as CSV; what `read_out_of_fold` reads."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("embargo", "fold", "file", "novelty", *CLASS_NAMES))
    for embargo, result in results.items():
        rows = zip(result.folds, result.files, result.novelty, result.logits, strict=True)
        for fold, file, novelty, logits in rows:
            numbers = (f"{value:.4f}" for value in (novelty, *logits))
            writer.writerow((embargo, fold, file, *numbers))
    return buffer.getvalue()


def read_out_of_fold(weights: Path) -> dict[int, OutOfFold]:
    """Reads out-of-fold.csv beside the weights: results by embargo, in file numbers.

    Raises:
        DatasetError: The file is missing or malformed.
    """
    path = weights / OUT_OF_FOLD_NAME
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        results = {}
        for embargo in sorted({int(row["embargo"]) for row in rows}):
            mine = [row for row in rows if int(row["embargo"]) == embargo]
            files = [row["file"] for row in mine]
            results[embargo] = OutOfFold(
                files,
                np.array([int(row["fold"]) for row in mine]),
                np.array([CLASS_NAMES.index(file.split("/")[0]) for file in files]),
                np.array([[float(row[name]) for name in CLASS_NAMES] for row in mine]),
                np.array([float(row["novelty"]) for row in mine]),
            )
    except (OSError, KeyError, ValueError) as error:
        raise DatasetError(
            f"{path}: expected what python -m mseenet.crossvalidate writes ({error})"
        ) from error
    return results


def calibrate(results: list[OutOfFold], reject: float) -> dict:
    """Entries of the card that follow from the networks' errors on unseen slides.

    Args:
        results: One for each embargo; the fields of all of them count alike.
        reject: Distance from which on the weights' gate refuses a field.

    Returns:
        `calibration`, `review_confidence` and `malignant`, each with its origin.
    """
    logits = np.concatenate([result.logits for result in results])
    labels = np.concatenate([result.labels for result in results])
    origin = {"fitted_on": "out-of-fold predictions, protocol blocks", "n": len(labels)}
    novelty = np.concatenate([result.novelty for result in results]) / reject
    found = fit_calibration(logits, novelty, labels)
    probabilities = softmax(logits, found.temperatures(novelty))
    correct = probabilities.argmax(axis=1) == labels
    review = selective_threshold(probabilities.max(axis=1), correct, TRUSTED_ACCURACY)
    benign = CLASS_NAMES.index("Benign")
    malignant = 1 - probabilities[:, benign]
    ill = labels != benign
    point = float(np.quantile(malignant[ill], 1 - MALIGNANT_SENSITIVITY, method="lower"))
    return {
        "calibration": found.record() | origin,
        "review_confidence": {"value": review, "accuracy": TRUSTED_ACCURACY, **origin},
        "malignant": {
            "threshold": point,
            "sensitivity": float(np.mean(malignant[ill] >= point)),
            "specificity": float(np.mean(malignant[~ill] < point)),
            **origin,
        },
    }


if __name__ == "__main__":
    cli.run(main)

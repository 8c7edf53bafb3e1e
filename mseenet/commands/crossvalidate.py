"""Measures a recipe on unseen slides, and calibrates the weights for them.

    mseenet crossvalidate --data DIR [--protocol NAME ...]

Slides are tested by networks that were trained without them, with the settings in the card of the
weights. The protocols `series` and `series-siblings` leave out whole series of the camera's
captures, or ranges of them (`mseenet.training.series`); they are known for the published
dataset alone. `blocks-50` and `blocks-100` leave out contiguous blocks of the file order, and
as many files around them (`mseenet.training.splits`); they serve any dataset.

Logits and novelty of every tested field, and what the networks say in stress tests, go to files
beside the weights; calibration, review threshold and malignant operating point that follow from
the hardest protocol go into the card. Each fold is kept when it is done; the same command goes on
after an interruption.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mseenet import console
from mseenet.config import CellsConfig, PhaseConfig, RobustConfig
from mseenet.errors import UsageError
from mseenet.evaluation.crossvalidation import (
    PROTOCOLS,
    Folds,
    collect,
    remove_folds,
    run_folds,
)
from mseenet.evaluation.crossvalidation import PURPOSE as FOLDS_PURPOSE
from mseenet.evaluation.out_of_fold import OutOfFold, calibrate, hardest, out_of_fold_csv
from mseenet.evaluation.unseen_stress import StressAnswers, stress_npz
from mseenet.files import (
    FEATURES_PURPOSE,
    file_sha256,
    one_writer,
    own_folder,
    remove_own_folder,
)
from mseenet.inference.card import Card, read_card, store, update_card
from mseenet.resources import weights_to_write
from mseenet.training.dataset import index_dataset, load_images
from mseenet.training.provenance import backbone_record
from mseenet.training.run import PURPOSE
from mseenet.training.series import PROTOCOLS as SERIES
from mseenet.training.splits import near_duplicates


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = console.command_parser("crossvalidate", __doc__)
    parser.add_argument("--data", type=Path, metavar="DIR", required=True, help="the dataset")
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="DIR",
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
        help="frozen features kept by `train --cache` (default: compute them)",
    )
    parser.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        action="append",
        help="which slides are tested, given once or several times "
        f"(default: {' and '.join(SERIES)})",
    )
    parser.add_argument(
        "--folds-only",
        action="store_true",
        help="train the folds and leave files and card to a run without this option: for several "
        "processes or machines side by side",
    )
    arguments = parser.parse_args(argv)
    arguments.protocol = list(dict.fromkeys(arguments.protocol or SERIES))
    return arguments


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    console.require("sklearn", "train")
    arguments.weights = arguments.weights or weights_to_write("--weights")
    card = read_card(arguments.weights)
    config = recipe_of(card)
    backbone = backbone_record(arguments.backbone_weights)
    refuse_other_backbone(card, backbone)
    if arguments.cache is not None:
        own_folder(arguments.cache, FEATURES_PURPOSE)
    index = index_dataset(arguments.data, console.progress)
    console.say(index.describe())
    images = load_images(index.samples, progress=console.progress)
    console.import_keras()
    folds = Folds(
        index,
        images,
        near_duplicates(images),
        config,
        card.model,
        arguments.backbone_weights,
        backbone,
    )
    kept = own_folder(arguments.weights / ".checkpoint", PURPOSE)
    work = kept / f"folds-{folds.key()}"
    try:
        with only_writer_of_folds(work, arguments.protocol):
            run_folds(folds, work, arguments.protocol, arguments.cache)
            if not arguments.folds_only:
                finish(card, folds, work, arguments.protocol)
    finally:  # keeps whatever is still needed to go on
        remove_own_folder(work, FOLDS_PURPOSE)
        remove_own_folder(kept, PURPOSE)
    return 0


@contextmanager
def only_writer_of_folds(work: Path, protocols: Sequence[str]) -> Iterator[None]:
    """Lets one process at a time train the folds of a protocol; others may train other protocols.

    Raises:
        UsageError: Another process does, or `work` holds other files.
    """
    own_folder(work, FOLDS_PURPOSE)
    with ExitStack() as stack:
        for protocol in protocols:
            stack.enter_context(one_writer(work, f".{protocol}.lock"))
        yield


def finish(card: Card, folds: Folds, work: Path, protocols: Sequence[str]) -> None:
    """Completes the card with what all folds say, and removes them.

    Args:
        card: Of the weights.
        folds: Of the cross-validation.
        work: Holds the files of all folds.
        protocols: Those that were asked for.
    """
    collected = {protocol: collect(folds, work, protocol) for protocol in protocols}
    results = {protocol: result for protocol, (result, _) in collected.items()}
    changes = complete_card(card, results, {name: tests for name, (_, tests) in collected.items()})
    remove_folds(folds, work, protocols)
    for protocol, result in results.items():
        console.say(f"{protocol}: {result.accuracy:.4f} of {len(result.labels)}")
    console.say(
        f"from {hardest(results)}: temperature {changes['calibration']['value']} at novelty 1, review "
        f"below confidence {changes['review_confidence']['value']:.3f}; wrote "
        f"{changes['out_of_fold']['file']}, {changes['stress']['file']} and the card"
    )


def recipe_of(card: Card) -> RobustConfig:
    """The settings that the weights were trained with.

    Raises:
        UsageError: They are of another recipe or version, or have no gate.
    """
    training = card.content.get("training") or {}
    folder = card.weights_path.parent
    recipe = {"robust": RobustConfig, "cells": CellsConfig}.get(str(training.get("recipe")))
    if recipe is None or card.novelty is None:
        raise UsageError(
            f"{folder}: expected weights of the recipe robust or cells with a novelty gate, got "
            f"{training.get('recipe')}"
        )
    try:
        settings = dict(training["settings"])
        settings |= {name: PhaseConfig(**settings[name]) for name in ("head", "fine_tune")}
        return recipe(**settings)
    except (KeyError, TypeError) as error:
        raise UsageError(
            f"{folder}: expected settings of the recipe in the card ({error})"
        ) from error


def refuse_other_backbone(card: Card, backbone: dict) -> None:
    """Folds that begin with another backbone would measure another recipe.

    Raises:
        UsageError: Both backbones are known by their hash, and it differs.
    """
    trained = (card.content.get("training") or {}).get("backbone") or {}
    ours, theirs = backbone.get("sha256"), trained.get("sha256")
    if ours and theirs and ours != theirs:
        raise UsageError(
            f"--backbone-weights: expected the file that the weights were trained from, SHA-256 "
            f"{theirs[:12]}..., got {ours[:12]}..."
        )


def complete_card(
    card: Card,
    results: Mapping[str, OutOfFold],
    stress: Mapping[str, Mapping[str, StressAnswers]],
) -> dict:
    """Writes the answers beside the weights, and what follows from them into the card.

    Args:
        card: Of the weights.
        results: By protocol.
        stress: By protocol and stress test.

    Returns:
        The changed entries of the card.

    Raises:
        UsageError: Meanwhile other weights were published there, or are being.
    """
    folder = card.weights_path.parent
    assert card.novelty is not None  # see `recipe_of`
    protocol = hardest(results)
    changes = calibrate(results, protocol, card.novelty.reject)
    with one_writer(folder):
        if read_card(folder).sha256 != card.sha256:
            raise UsageError(
                f"{folder}: other weights were published there while the folds were trained"
            )
        # Reports on unseen slides are made of the very answers that the calibration comes from.
        for entry, stem, suffix, content in (
            ("out_of_fold", "out-of-fold", ".csv", out_of_fold_csv(results).encode()),
            ("stress", "out-of-fold-stress", ".npz", stress_npz(stress)),
        ):
            path = store(folder, stem, suffix, content)
            changes[entry] = {"file": path.name, "sha256": file_sha256(path)}
        update_card(folder, changes)
    return changes

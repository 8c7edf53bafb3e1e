"""Measures a recipe on unseen slides, and calibrates the weights for them.

    mseenet crossvalidate --data DIR [--protocol blocks|series|series-siblings]

The file order follows the slides, so contiguous blocks of it are tested by networks that
were trained without them and without an embargo of files around them (protocol `blocks`
of `mseenet.training.splits`): 5 folds for each embargo, with the settings in the card of the
weights. Logits and novelty of every tested field go to a file beside the
weights; calibration, review threshold and malignant operating point that follow from
them go into the card. Each fold is kept when it is done; the same command goes on after
an interruption.

The protocols series and series-siblings test whole series of the camera's captures, which
are known for the published dataset alone. Their answers go to a file out-of-fold-PROTOCOL-...csv
beside the weights; the card stays as it is.
"""

import argparse
from pathlib import Path

from mseenet import console
from mseenet.config import CellsConfig, PhaseConfig, RobustConfig
from mseenet.errors import UsageError
from mseenet.evaluation.crossvalidation import BLOCKS, Folds, collect, remove_folds, run_folds
from mseenet.evaluation.out_of_fold import OutOfFold, calibrate, out_of_fold_csv
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
from mseenet.training.series import PROTOCOLS
from mseenet.training.splits import EMBARGOES, near_duplicates


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
        choices=(BLOCKS, *PROTOCOLS),
        default=BLOCKS,
        help="which fields are tested; only blocks completes the card (default: %(default)s)",
    )
    parser.add_argument(
        "--embargo",
        type=int,
        choices=EMBARGOES,
        action="append",
        help="train the folds of this embargo only, and leave reports and card to a run without "
        "this option: for several processes or machines side by side",
    )
    arguments = parser.parse_args(argv)
    if arguments.embargo and arguments.protocol != BLOCKS:
        parser.error("--embargo is of the protocol blocks; series have one of their own")
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
        arguments.protocol,
    )
    if arguments.protocol != BLOCKS:
        return measure_series(folds, card, arguments.cache)
    kept = own_folder(arguments.weights / ".checkpoint", PURPOSE)
    work = kept / f"folds-{folds.key()}"
    run_folds(folds, work, arguments.embargo or EMBARGOES, arguments.cache)
    if arguments.embargo:
        return 0

    results = {embargo: collect(folds, work, embargo) for embargo in EMBARGOES}
    changes = complete_card(card, results)
    remove_folds(work, EMBARGOES)
    remove_own_folder(kept, PURPOSE)
    console.say(
        f"temperature {changes['calibration']['value']} at novelty 1, review below confidence "
        f"{changes['review_confidence']['value']:.3f}; wrote {changes['out_of_fold']['file']} "
        "and the card"
    )
    return 0


def measure_series(folds: Folds, card: Card, cache: Path | None) -> int:
    """Trains and tests the folds of a series protocol and writes the answers beside the weights."""
    folder = card.weights_path.parent
    kept = own_folder(folder / ".checkpoint", PURPOSE)
    work = kept / f"folds-{folds.key()}"
    run_folds(folds, work, folds.embargoes, cache)
    results = {embargo: collect(folds, work, embargo) for embargo in folds.embargoes}
    path = store(folder, f"out-of-fold-{folds.protocol}", ".csv", out_of_fold_csv(results).encode())
    remove_folds(work, folds.embargoes, folds.count)
    remove_own_folder(kept, PURPOSE)
    for result in results.values():
        right = result.logits.argmax(axis=1) == result.labels
        console.say(f"{folds.protocol}: {right.mean():.4f} of {len(right)}; wrote {path.name}")
    return 0


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


def complete_card(card: Card, results: dict[int, OutOfFold]) -> dict:
    """Writes the answers beside the weights, and what follows from them into the card.

    Returns:
        The changed entries of the card.

    Raises:
        UsageError: Meanwhile other weights were published there, or are being.
    """
    folder = card.weights_path.parent
    assert card.novelty is not None  # see `recipe_of`
    changes = calibrate(list(results.values()), card.novelty.reject)
    with one_writer(folder):
        if read_card(folder).sha256 != card.sha256:
            raise UsageError(
                f"{folder}: other weights were published there while the folds were trained"
            )
        path = store(folder, "out-of-fold", ".csv", out_of_fold_csv(results).encode())
        # Reports on unseen slides are made of the very answers that the calibration comes from.
        changes["out_of_fold"] = {"file": path.name, "sha256": file_sha256(path)}
        update_card(folder, changes)
    return changes

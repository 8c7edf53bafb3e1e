"""Measures the robust recipe on unseen slides, and calibrates the weights for them.

    mseenet crossvalidate --data DIR

The file order follows the slides, so contiguous blocks of it are tested by networks that
were trained without them and without an embargo of files around them (protocol `blocks`
of `mseenet.training.dataset`): 5 folds for each embargo, with the settings in the card of the
weights. Logits and novelty of every tested field go to out-of-fold.csv beside the
weights; calibration, review threshold and malignant operating point that follow from
them go into the card. Each fold is kept when it is done; the same command goes on after
an interruption.
"""

import argparse
from pathlib import Path

from mseenet import console
from mseenet.config import PhaseConfig, RobustConfig
from mseenet.errors import UsageError
from mseenet.evaluation.crossvalidation import collect, run_folds
from mseenet.evaluation.out_of_fold import OUT_OF_FOLD_NAME, calibrate, out_of_fold_csv
from mseenet.files import file_sha256, write_atomically
from mseenet.inference.card import DEFAULT_WEIGHTS, read_card, update_card
from mseenet.training.dataset import (
    index_dataset,
    load_images,
)
from mseenet.training.splits import EMBARGOES


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = console.command_parser("crossvalidate", __doc__)
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
        help="frozen features kept by `train --cache` (default: compute them)",
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
    settings |= {name: PhaseConfig(**settings[name]) for name in ("head", "fine_tune")}
    config = RobustConfig(**settings)
    index = index_dataset(arguments.data, console.progress)
    console.say(index.describe())
    images = load_images(index.samples, progress=console.progress)
    work = arguments.weights / ".checkpoint" / f"folds-{card.sha256[:8]}"
    run_folds(index, images, config, card.model, arguments, work)

    if arguments.embargo:
        return 0
    results = {embargo: collect(index, work, embargo) for embargo in EMBARGOES}
    path = arguments.weights / OUT_OF_FOLD_NAME
    write_atomically(path, out_of_fold_csv(results))
    changes = calibrate(list(results.values()), card.novelty.reject)
    # Reports on unseen slides are made of the very answers that the calibration comes from.
    changes["out_of_fold"] = {"file": path.name, "sha256": file_sha256(path)}
    update_card(arguments.weights, changes)
    for path in sorted(work.iterdir()):
        path.unlink()
    work.rmdir()
    console.say(
        f"temperature {changes['calibration']['value']} at novelty 1, review below confidence "
        f"{changes['review_confidence']['value']:.3f}; wrote {OUT_OF_FOLD_NAME} and the card"
    )
    return 0

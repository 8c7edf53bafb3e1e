"""Trains MSEENet on the ALL image dataset and writes the weights and their card.

    mseenet train --data DIR [--recipe cells|robust|paper]

The images are divided as in the paper, 80/10/10 at random, 224x224 pixels.

cells: the lower layers keep their ImageNet weights and are run once over copies of the images;
the upper layers are fine-tuned on that. Copies are augmented, and show cells on the background
of fields of other classes, scattered, and none; series of captures are drawn more alike. The
scale-bar corner is blanked inside the network. What is shipped.

robust: the same with augmented copies of whole fields alone.

paper: no augmentation; first the head on a frozen backbone, then the whole network, each
with early stopping and a learning rate that drops on a plateau.

After Ctrl-C or a kill, the same command with --resume goes on from the last whole epoch
and comes to the same result. `mseenet crossvalidate` then measures the recipe
on unseen slides and calibrates the weights for them.
"""

import argparse
import math
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from mseenet import console
from mseenet.config import (
    RECIPES,
    CellsConfig,
    PhaseConfig,
    RobustConfig,
    TrainingConfig,
)
from mseenet.resources import weights_to_write
from mseenet.training.provenance import recorded_command
from mseenet.training.run import Job, checkpoint_folder, train
from mseenet.training.smoke import SMOKE_SETTINGS, write_smoke_backbone, write_smoke_data

BACKBONE_NAME = "random.weights.h5"


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    config = TrainingConfig()
    parser = console.command_parser("train", __doc__)
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="the dataset, with a folder a class"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where weights and card go (default: weights/)"
    )
    parser.add_argument(
        "--backbone-weights",
        default="imagenet",
        metavar="FILE",
        help="ImageNet weights of the bare backbone (default: download them)",
    )
    parser.add_argument("--recipe", choices=RECIPES, default="cells", help="(default: %(default)s)")
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="keep the frozen features of robust and cells here for other runs, 38 kB an image and "
        "copy (default: with the checkpoint, removed at the end)",
    )
    parser.add_argument(
        "--seed",
        type=console.whole_number(0, 2**32 - 1),
        default=config.seed,
        help="of split and training (default: %(default)s)",
    )
    parser.add_argument(
        "--batch-size",
        type=console.whole_number(1),
        default=config.batch_size,
        help="(default: %(default)s)",
    )
    parser.add_argument(
        "--copies",
        type=console.whole_number(1),
        metavar="N",
        help="augmented copies of each image in the recipes robust and cells (default: "
        f"{RobustConfig().copies} and {CellsConfig().copies})",
    )
    for phase in ("head", "fine-tune"):
        parser.add_argument(
            f"--{phase}-epochs",
            type=console.whole_number(0),
            metavar="N",
            help="at most; 0 skips the phase (default: the recipe's)",
        )
        parser.add_argument(
            f"--{phase}-learning-rate",
            type=_learning_rate,
            metavar="RATE",
            help="the largest one (default: the recipe's)",
        )
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="DIR",
        help="where it is kept, a folder for nothing else (default: OUT/.checkpoint)",
    )
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="try the whole path in a minute: synthetic images, random backbone, few epochs; "
        "without --out the result goes to a temporary folder and is removed",
    )
    arguments = parser.parse_args(argv)
    if arguments.smoke:
        if arguments.data or arguments.backbone_weights != "imagenet":
            parser.error(
                "--smoke makes its own images and backbone; leave out --data and --backbone-weights"
            )
    elif arguments.data is None:
        parser.error("expected --data DIR, the folder of the dataset (or --smoke)")
    return arguments


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    command = recorded_command(sys.argv[1:] if argv is None else argv)
    kept = arguments.out is not None or not arguments.smoke
    with ExitStack() as stack:
        if arguments.smoke:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            arguments.data, arguments.backbone_weights = work / "data", work / BACKBONE_NAME
            arguments.out = arguments.out or work / "weights"
            console.import_keras()
            write_smoke_data(arguments.data)
            write_smoke_backbone(arguments.backbone_weights, arguments.seed)
        job = job_of(arguments, command)
        try:
            train(job)
        except (KeyboardInterrupt, OSError):
            if kept and (checkpoint_folder(job.checkpoint) / "state.json").is_file():
                console.say("the same command with --resume goes on from the last whole epoch")
            raise
    return 0


def job_of(arguments: argparse.Namespace, command: str) -> Job:
    """The training that the command line asks for."""
    out = arguments.out or weights_to_write("--out")
    return Job(
        data=arguments.data,
        out=out,
        config=training_config(arguments),
        backbone_weights=arguments.backbone_weights,
        checkpoint=arguments.checkpoint or out / ".checkpoint",
        cache=arguments.cache,
        resume=arguments.resume,
        command=command,
    )


def training_config(arguments: argparse.Namespace) -> TrainingConfig | RobustConfig:
    """The recipe's settings with what the command line changes."""
    if arguments.smoke:
        return replace(SMOKE_SETTINGS[arguments.recipe], seed=arguments.seed)
    config = {"paper": TrainingConfig, "robust": RobustConfig, "cells": CellsConfig}[
        arguments.recipe
    ]()
    if isinstance(config, RobustConfig) and arguments.copies is not None:
        config = replace(config, copies=arguments.copies)
    changed = {}
    for name in ("head", "fine_tune"):
        phase: PhaseConfig = getattr(config, name)
        given = {s: getattr(arguments, f"{name}_{s}") for s in ("epochs", "learning_rate")}
        changed[name] = replace(phase, **{s: v for s, v in given.items() if v is not None})
    return replace(
        config,
        seed=arguments.seed,
        batch_size=arguments.batch_size,
        head=changed["head"],
        fine_tune=changed["fine_tune"],
    )


def _learning_rate(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


_learning_rate.__name__ = "number"  # what argparse says of a text that is none

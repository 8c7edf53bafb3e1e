"""Compares MSEENet's head with simpler heads, and with other families of methods.

    mseenet baselines --data DIR

Is the multi-scale module worth it, on the features of the frozen backbone and fine-tuned
by the robust recipe? And what do the families of the paper's Table I reach when they are
made anew, on the same splits?

Writes baselines.json and BASELINES.md after each row. --only NAME,... measures these
entries again and keeps the other rows; processes that measure different ones may run side
by side. Nothing is chosen on a test image: all settings are fixed beforehand, the last
epoch is taken, and the val part of a random split stays unused.
"""

import argparse
import json
import tempfile
from pathlib import Path

from mseenet import console
from mseenet.evaluation.baselines.entries import ENTRIES
from mseenet.evaluation.baselines.protocol import Inputs, accuracy_interval, compare, measure_row
from mseenet.evaluation.baselines.report import baselines_markdown, merge, read_result
from mseenet.files import file_sha256, one_writer, write_atomically
from mseenet.resources import weights_to_write
from mseenet.training.dataset import DatasetIndex, index_dataset

RESULT_NAME = "baselines.json"


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    names = [entry.name for entry in ENTRIES]
    parser = console.command_parser("baselines", __doc__)
    parser.epilog = f"entries: {', '.join(names)}"
    add = parser.add_argument
    add("--data", type=Path, metavar="DIR", required=True, help="the dataset")
    weights = "ImageNet weights of the bare backbone (default: download them)"
    add("--backbone-weights", default="imagenet", metavar="FILE", help=weights)
    cache = (
        "frozen features kept by `train --cache`, for the fine-tuned heads (default: compute them)"
    )
    add("--cache", type=Path, metavar="DIR", help=cache)
    seeds = "of the heads, 1 to 10 (default: %(default)s)"
    add("--seeds", type=int, choices=range(1, 11), default=3, metavar="N", help=seeds)
    add("--only", metavar="NAME,...", help="measure these entries (default: all)")
    add("--out", type=Path, metavar="DIR", help="(default: weights/)")
    minutes = "limit for each network that is trained from scratch (default: %(default)g)"
    add("--minutes-per-run", type=float, default=4.0, metavar="N", help=minutes)
    arguments = parser.parse_args(argv)
    arguments.only = names if arguments.only is None else arguments.only.split(",")
    if unknown := [name for name in arguments.only if name not in names]:
        parser.error(f"--only: expected names of {', '.join(names)}; received {unknown[0]!r}")
    if not arguments.minutes_per_run > 0:
        parser.error(f"--minutes-per-run: expected more than 0, got {arguments.minutes_per_run}")
    return arguments


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    console.require("sklearn", extra="train")
    backbone = arguments.backbone_weights
    source = backbone if backbone == "imagenet" else file_sha256(Path(backbone))
    arguments.out = arguments.out or weights_to_write("--out")
    index = index_dataset(arguments.data, console.progress)
    console.say(index.describe())
    arguments.out.mkdir(parents=True, exist_ok=True)
    read_result(
        arguments.out / RESULT_NAME, index
    )  # refuses rows of other images before hours of computing
    console.import_keras()

    from mseenet.inference.device import prepare_device

    console.say(f"computing on {prepare_device()}")
    with tempfile.TemporaryDirectory() as temporary:
        cache = arguments.cache or Path(temporary)
        inputs = Inputs(index, backbone, arguments.minutes_per_run, cache)
        for entry in (entry for entry in ENTRIES if entry.name in arguments.only):
            if entry.reads:
                getattr(inputs, entry.reads)  # made here, so that no row is charged for it
            for split in entry.splits:
                row = measure_row(entry, split, inputs, arguments.seeds)
                if entry.reads:
                    row["backbone"] = source
                console.say(f"{entry.name}, {split}: {100 * row['accuracy']:.2f} % of {row['n']}")
                result = keep_row(row, inputs, index, arguments.out)
    print(baselines_markdown(result))
    return 0


def keep_row(row: dict, inputs: Inputs, index: DatasetIndex, folder: Path) -> dict:
    """Adds a row to the reports in `folder`, beside those of other processes.

    Returns:
        The content of baselines.json.
    """
    path = folder / RESULT_NAME
    with one_writer(folder, lock=".baselines.lock", wait=True):
        result = read_result(path, index)
        result["rows"] = [
            kept | {"interval_95": accuracy_interval(kept, inputs)}  # of earlier versions, too
            for kept in merge(result["rows"], row)
        ]
        result["comparisons"] = compare(result["rows"], inputs)
        write_atomically(path, json.dumps(result) + "\n")
        write_atomically(folder / "BASELINES.md", baselines_markdown(result))
    return result

"""Compares MSEENet's head with simpler heads, and with other families of methods.

    python -m mseenet.baselines --data DIR

Is the multi-scale module worth it, on the features of the frozen backbone and fine-tuned
by the robust recipe? And what do the families of the paper's Table I reach when they are
made anew, on the same splits?

Writes baselines.json and BASELINES.md after each row. --only NAME,... measures these
entries again and keeps the other rows; processes that measure different ones may run side
by side. Nothing is chosen on a test image: all settings are fixed beforehand, the last
epoch is taken, and the val part of a random split stays unused.
"""

import argparse
import hashlib
import importlib.util
import json
import tempfile
from pathlib import Path

from mseenet import cli
from mseenet.baselines.protocol import Inputs, compare, measure_row
from mseenet.baselines.table import ENTRIES, markdown
from mseenet.card import DEFAULT_WEIGHTS
from mseenet.data import DatasetError, DatasetIndex, index_dataset
from mseenet.errors import UsageError
from mseenet.files import file_sha256, write_atomically


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    names = [entry.name for entry in ENTRIES]
    parser = argparse.ArgumentParser(
        prog="python -m mseenet.baselines",
        description=__doc__,
        epilog=f"entries: {', '.join(names)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--data", type=Path, metavar="DIR", required=True, help="the dataset")
    weights = "ImageNet weights of the bare backbone (default: download them)"
    add("--backbone-weights", default="imagenet", metavar="FILE", help=weights)
    cache = (
        "trunk features kept by `train --cache`, for the fine-tuned heads (default: compute them)"
    )
    add("--cache", type=Path, metavar="DIR", help=cache)
    seeds = "of the heads, 1 to 10 (default: %(default)s)"
    add("--seeds", type=int, choices=range(1, 11), default=3, metavar="N", help=seeds)
    add("--only", metavar="NAME,...", help="measure these entries (default: all)")
    add("--out", type=Path, metavar="DIR", default=DEFAULT_WEIGHTS, help="(default: weights/)")
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
    if not importlib.util.find_spec("sklearn"):  # which users do not need
        raise UsageError("expected scikit-learn; run: pip install -r requirements-dev.txt")
    backbone = arguments.backbone_weights
    source = backbone if backbone == "imagenet" else file_sha256(Path(backbone))
    index = index_dataset(arguments.data, cli.progress)
    cli.say(index.describe())
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "baselines.json"
    read_result(path, index)  # refuses rows of other images before hours of computing
    cli.import_keras()

    from mseenet.device import prepare_device

    cli.say(f"computing on {prepare_device()}")
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
                cli.say(f"{entry.name}, {split}: {100 * row['accuracy']:.2f} % of {row['n']}")
                # Read again, as another process may have added rows of other entries.
                result = read_result(path, index)
                result["rows"] = merge(result["rows"], row)
                result["comparisons"] = compare(result["rows"], inputs)
                write_atomically(path, json.dumps(result) + "\n")
                write_atomically(arguments.out / "BASELINES.md", markdown(result))
    print(markdown(result))
    return 0


def read_result(path: Path, index: DatasetIndex) -> dict:
    """The result of earlier runs, or an empty one: `dataset`, `rows` and `comparisons`.

    Raises:
        DatasetError: The file tells of other images, whose rows are not comparable.
    """
    listed = "".join(f"{sample.file} {sample.sha256}\n" for sample in index.samples).encode()
    dataset = {"n": len(index.samples), "sha256": hashlib.sha256(listed).hexdigest()}
    if not path.exists():
        return {"dataset": dataset, "rows": [], "comparisons": []}
    result = json.loads(path.read_text(encoding="utf-8"))
    if result["dataset"] != dataset:
        raise DatasetError(
            f"{path}: its rows are of other images; choose another --out, or remove the file"
        )
    return result


def merge(rows: list[dict], new: dict) -> list[dict]:
    """Replaces the row of the same entry and split, and sorts by the order of the table."""
    by_key = {(row["entry"], row["split"]): row for row in (*rows, new)}
    order = [(entry.name, split) for entry in ENTRIES for split in entry.splits]
    return [by_key[key] for key in order if key in by_key]


if __name__ == "__main__":
    cli.run(main)

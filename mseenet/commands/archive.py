"""Predicts the class of images by the million, on one machine or on a cluster.

    mseenet archive SOURCE... --output DIR

Each SOURCE is an image, a folder, a ZIP or TAR archive, a text file (.txt) with a path or address a
line, or an address such as s3://bucket/folder. A folder is searched at any depth for images and
archives. DIR gets one row for each image, in Parquet: the record that `mseenet predict` gives, and
the SHA-256 of the image's file. A job that was interrupted in any way goes on with the same command:
what is there already for the same name, content and weights is not computed again, nor is equal
content. The exit status is 0 if every image was read, 1 if any was not, and 2 if a source, the
folder, the cluster or the weights cannot be used, or images that could not be read keep the answer
of an earlier run. For research use only.
"""

import argparse
from pathlib import Path

from mseenet import console

EXTRA = "archive"


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = console.command_parser("archive", __doc__)
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="an image, a folder, a ZIP or TAR archive, a list (.txt) or an address",
    )
    parser.add_argument(
        "--output", type=_on_disk, metavar="DIR", required=True, help="folder for the rows"
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="DIR",
        help="folder of weights and card, the same on every machine (default: weights/)",
    )
    parser.add_argument(
        "--slides",
        default="",
        metavar="PATTERN",
        help="as for `mseenet predict`",
    )
    parser.add_argument(
        "--include-rejected",
        action="store_true",
        help="give the network's output for rejected images too; their status stays rejected",
    )
    parser.add_argument(
        "--workers",
        type=console.whole_number(1),
        metavar="N",
        help="networks that work side by side (default: as many as there are processors)",
    )
    parser.add_argument(
        "--threads",
        type=console.whole_number(1),
        default=1,
        metavar="N",
        help="processors for one worker (default: %(default)s)",
    )
    parser.add_argument(
        "--address",
        help="of a running Ray cluster, such as auto or HOST:6379 (default: this machine alone)",
    )
    console.add_profile_option(parser)
    return parser.parse_args(argv)


def _on_disk(name: str) -> Path:
    if "://" in name:
        raise argparse.ArgumentTypeError(
            f"expected a folder on a disk, got {name}; copy the folder to a store when it is complete"
        )
    return Path(name)


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    console.require("ray", EXTRA)
    from mseenet.archive.job import Job, score
    from mseenet.archive.store import Settings
    from mseenet.inference.card import DEFAULT_WEIGHTS
    from mseenet.inference.profile import chosen_profile

    problems: list[str] = []

    def report(problem: str) -> None:
        problems.append(problem)
        console.say(f"error: {problem}")

    job = Job(
        arguments.sources,
        arguments.output,
        (arguments.weights or DEFAULT_WEIGHTS).absolute(),
        Settings(arguments.slides, arguments.include_rejected),
        arguments.workers,
        arguments.threads,
        arguments.address,
        chosen_profile(arguments.profile),
    )
    counted = score(job, report)
    words = ", ".join(f"{number:,} {status}" for status, number in sorted(counted.items()))
    console.say(f"{arguments.output}: {sum(counted.values()):,} images: {words}")
    return 2 if problems else int(counted["error"] > 0)

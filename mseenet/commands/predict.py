"""Predicts the class of images from the command line.

    mseenet predict PATH...

Each PATH is an image or a folder, which is searched for images at any depth. Results go
to standard output (or --output), all else to standard error. An image unlike the fields
that the network was validated on is rejected, and no class is named. The exit status is 0 if
every image was read, 1 if any was not, and 2 if the command, a folder or the weights
cannot be used. For research use only.
"""

import argparse
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from mseenet import console
from mseenet.errors import UsageError


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = console.command_parser("predict", __doc__)
    parser.add_argument("paths", nargs="+", metavar="PATH", help="an image, or a folder of images")
    parser.add_argument(
        "--weights", type=Path, metavar="DIR", help="folder of weights and card (default: weights/)"
    )
    parser.add_argument(
        "--format",
        choices=("table", "json", "csv"),
        default="table",
        help="json is one object a line (default: %(default)s)",
    )
    parser.add_argument(
        "--heatmaps",
        type=Path,
        metavar="DIR",
        help="also write each image with the heatmap of its class laid over it, as PNG",
    )
    parser.add_argument(
        "--include-rejected",
        action="store_true",
        help="show the network's output for rejected images too; their status stays rejected",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="instead of standard output")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    files, bad_folders = find_images(arguments.paths)
    for message in bad_folders:
        console.say(f"error: {message}")
    if not files:
        return 2

    from tqdm import tqdm

    from mseenet.case.records import FORMATS, record
    from mseenet.inference.card import DEFAULT_WEIGHTS, read_card
    from mseenet.inference.classifier import Classifier

    weights = arguments.weights or DEFAULT_WEIGHTS
    read_card(weights)  # unusable weights are known before ten seconds of imports
    console.import_keras()
    classifier = Classifier.load(weights)
    header, line_of = FORMATS[arguments.format]
    failed = False
    try:
        if arguments.heatmaps:
            arguments.heatmaps.mkdir(parents=True, exist_ok=True)
        # A file name need not be text; what is not is written as backslash escapes.
        output = sys.stdout
        if isinstance(output, io.TextIOWrapper):
            output.reconfigure(errors="backslashreplace")
        if arguments.output:
            output = arguments.output.open("w", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise UsageError(f"{error.filename}: cannot be written ({error.strerror})") from error
    try:
        if header:
            print(header, file=output)
        predictions = classifier.stream(
            files,
            "predicted" if arguments.heatmaps else None,
            include_rejected=arguments.include_rejected,
        )
        numbered = enumerate(zip(files, predictions, strict=True), start=1)
        for number, (file, prediction) in console.progress(
            numbered, "predicting", total=len(files)
        ):
            result = record(str(file), prediction, classifier.card.sha256)
            tqdm.write(line_of(result), file=output)  # keeps clear of the progress bar
            failed = failed or prediction.status == "error"
            if arguments.heatmaps and prediction.heatmap is not None:
                write_overlay(arguments.heatmaps, number, file, prediction.heatmap)
    finally:
        if arguments.output:
            output.close()
    return 2 if bad_folders else int(failed)


def find_images(paths: list[str]) -> tuple[list[Path], list[str]]:
    """Lists the images that are meant, in order, and says which folders hold none.

    A path that is no folder counts as an image, whether or not it can be read.
    """
    from mseenet.imaging.decoding import SUFFIXES

    files: list[Path] = []
    problems: list[str] = []
    for path in map(Path, paths):
        if not path.is_dir():
            files.append(path)
            continue
        known = len(problems)
        found = sorted(file for file in _walk(path, problems) if file.suffix.lower() in SUFFIXES)
        if not found and len(problems) == known:
            problems.append(f"{path}: expected images ({', '.join(SUFFIXES)}), found none")
        files += found
    return files, problems


def write_overlay(folder: Path, number: int, file: Path, heatmap) -> None:
    """Writes the squeezed image with its heatmap; the number keeps equal names apart."""
    from PIL import Image

    from mseenet.case.names import cut_to_bytes
    from mseenet.imaging.decoding import load_image
    from mseenet.inference.heatmaps import overlay

    stem = cut_to_bytes(file.stem, 200)  # file systems take 255
    target = folder / f"{number:05d}-{stem}.png"
    try:
        Image.fromarray(overlay(load_image(file), heatmap)).save(target)
    except OSError as error:
        raise UsageError(f"{target}: cannot be written ({error.strerror})") from error


def _walk(folder: Path, problems: list[str]) -> Iterator[Path]:
    def note(error: OSError) -> None:
        problems.append(f"{error.filename}: expected a readable folder ({error.strerror})")

    for parent, _, names in os.walk(folder, onerror=note):
        yield from (Path(parent) / name for name in names if not name.startswith("."))

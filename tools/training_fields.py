"""Measures what the training fields look like: stain, light, size of cells, sharpness.

    python -m tools.training_fields --data DIR [--weights DIR] [--out FILE] [--every N]

Reports for a laboratory compare its fields with these numbers, and its colours are changed to
these. Only fields that the weights' split file calls "train" are read. Nothing but numbers is
kept: quantiles, means and covariances over all of them. The shipped ones are of every fifth.
"""

import argparse
from pathlib import Path

import numpy as np

from mseenet import console
from mseenet.evaluation.known import checked_split
from mseenet.files import write_atomically
from mseenet.imaging.decoding import decode_image, squeeze
from mseenet.inference.card import DEFAULT_WEIGHTS, read_card
from mseenet.laboratory.color import TRAINING_PATH, describe
from mseenet.training.dataset import index_dataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the dataset")
    parser.add_argument("--weights", type=Path, default=DEFAULT_WEIGHTS, metavar="DIR")
    parser.add_argument("--out", type=Path, default=TRAINING_PATH, metavar="FILE")
    parser.add_argument("--every", type=int, default=5, metavar="N", help="(default: 5)")
    arguments = parser.parse_args()
    card = read_card(arguments.weights)
    index = index_dataset(arguments.data, console.progress)
    rows = checked_split(card, index).indices(index.samples, "train")[:: arguments.every]
    fields = (
        squeeze(decode_image(index.samples[i].path)) for i in console.progress(rows, "measuring")
    )
    found, _ = describe(fields, np.asarray(index.labels[rows]), card.sha256)
    write_atomically(arguments.out, found.to_json() + "\n")
    print(f"wrote {arguments.out}: {found.n} fields")


if __name__ == "__main__":
    main()

"""What thresholds of image quality of its own do for a laboratory whose lamp is dim and focus soft.

    python -m tools.soft_site --data DIR [--brightness 0.45] [--blur 2]

No labelled fields of such a laboratory are at hand. So fields of the part `test` of the shipped split
get darker and blurred. A site profile is fitted to some of two slides of each class, and tried as
`mseenet verify --adapt` tries it; then it answers fields of all other slides, and these spoiled
further, of which all that were flagged before are to stay flagged. A slide is a series, or a range
of captures of a long one. The network was trained on other fields of the same slides, so what comes
of it says nothing of how many are right elsewhere.
"""

import argparse
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np

from mseenet import console
from mseenet.config import CLASS_NAMES
from mseenet.evaluation.known import checked_split
from mseenet.imaging.appearance import appearance_of
from mseenet.imaging.decoding import decode_image, squeeze
from mseenet.imaging.perturbations import blur, brightness, contrast
from mseenet.inference.card import DEFAULT_WEIGHTS, read_card
from mseenet.laboratory.adapt import adapt, answers_both_ways, answers_with, fit
from mseenet.laboratory.alignment import Network
from mseenet.laboratory.answers import QUALITY, Answers
from mseenet.laboratory.color import read_training_fields
from mseenet.laboratory.fields import Images, LaboratoryFields
from mseenet.laboratory.thresholds import QUALITY_HEAD, quality_rows
from mseenet.training.dataset import index_dataset
from mseenet.training.series import find_captures, part_names, read_captures

SLIDES, EACH = 2, 5
"""Slides of each class that the profile is fitted to, and fields of each."""

TESTED = 10
"""Fields of each other slide that are taken, if it has so many."""

Change = Callable[[np.ndarray], np.ndarray]

SPOILED: dict[str, Change] = {
    "blurred by another 3 pixels": lambda rgb: blur(rgb, 3),
    "brightness x0.25": lambda rgb: brightness(rgb, 0.25),
    "contrast x0.2": lambda rgb: contrast(rgb, 0.2),
    "black": np.zeros_like,
    "white": lambda rgb: np.full_like(rgb, 255),
    "grey": lambda rgb: np.full_like(rgb, 128),
}
"""What is done to fields of the site, so that none may be answered without a remark."""


def soft(rgb: np.ndarray, light: float, sigma: float) -> np.ndarray:
    """A field as the site would have taken it, uint8 of the same shape."""
    return blur(brightness(rgb, light), sigma)


def site_fields(data: Path, change: Change) -> tuple[LaboratoryFields, LaboratoryFields]:
    """Fields to adapt to, and fields of other slides."""
    card, index = read_card(DEFAULT_WEIGHTS), index_dataset(data, console.progress)
    samples = index.samples
    names = part_names(
        [sample.label for sample in samples], find_captures(samples, read_captures())
    )
    parts: dict[tuple, list[int]] = {}
    for row in checked_split(card, index).indices(samples, "test"):
        parts.setdefault(names[row], []).append(int(row))
    chosen: tuple[list[int], list[int]] = ([], [])
    for class_name in CLASS_NAMES:
        mine = sorted(part for part in parts if part[0] == class_name)
        adapted = [part for part in mine if len(parts[part]) >= EACH][:SLIDES]
        for part in mine:
            count = EACH if part in adapted else TESTED
            chosen[part not in adapted].extend(parts[part][:count])

    def taken(rows: list[int]) -> LaboratoryFields:
        images = [change(squeeze(decode_image(samples[row].path))) for row in rows]
        slides = [" ".join(map(str, names[row])) for row in rows]
        return LaboratoryFields(
            names=tuple(samples[row].path.name for row in rows),
            slides=np.array(slides),
            labels=np.array([samples[row].label for row in rows]),
            looks=tuple(map(appearance_of, images)),
            marks=tuple(samples[row].path.name for row in rows),
            sources=tuple(samples[row].path for row in rows),
            problems=(),
            images=Images(images),
            sizes=np.array([rgb.shape[:2] for rgb in images]),
        )

    return taken(chosen[0]), taken(chosen[1])


def flagged(said: Answers) -> int:
    """How many fields are flagged for image quality."""
    return int(np.any([said.flagged(begins) for begins in QUALITY.values()], axis=0).sum())


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the dataset")
    parser.add_argument("--brightness", type=float, default=0.45, help="(default: %(default)s)")
    parser.add_argument("--blur", type=float, default=2.0, help="pixels (default: %(default)s)")
    parser.add_argument(
        "--part", choices=("left-out", "others"), help="one of both tables alone (default: both)"
    )
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    console.import_keras()
    from mseenet.inference.classifier import Classifier

    change = partial(soft, light=arguments.brightness, sigma=arguments.blur)
    fields, others = site_fields(arguments.data, change)
    network = Classifier.load(DEFAULT_WEIGHTS)
    if arguments.part != "others":
        show_left_out(network, fields)
    if arguments.part != "left-out":
        show_others(network, fields, others)


def show_left_out(network: Network, fields: LaboratoryFields) -> None:
    """Prints what `mseenet verify --adapt` says of the thresholds on slides left out."""
    found = adapt(network, fields, read_training_fields(), "soft", datetime.now().astimezone())
    adaptation = found.report["adaptation"]
    print(
        f"{len(fields.labels)} fields of {len(set(fields.slides))} slides, each left out in turn:"
    )
    print(" ".join(adaptation["because"]), adaptation["image_quality"]["because"])
    _print_rows(QUALITY_HEAD, quality_rows(adaptation["image_quality"]))


def show_others(network: Network, fields: LaboratoryFields, others: LaboratoryFields) -> None:
    """Prints what the profile of all adaptation fields does on other slides.

    Whether or not `mseenet verify` would write it.
    """
    profile = fit(network, fields, read_training_fields(), "soft")
    print(
        f"{len(others.labels)} fields of {len(set(others.slides))} other slides, {profile.quality}:"
    )
    without = answers_with(network, None, others.images, others.sizes)
    said = answers_both_ways(network, profile, others.images, others.sizes)
    named = ("no profile", "profile, shipped thresholds", "profile")
    rows = [
        _row(title, answers, others.labels)
        for title, answers in zip(named, (without, *said), strict=True)
    ]
    for title, spoil in SPOILED.items():
        images = Images([spoil(rgb) for rgb in others.images])
        answers = answers_with(network, profile, images, others.sizes)
        rows.append(_row(f"profile, {title}", answers, others.labels))
    head = ("", "flagged for image quality", "refused", "without a remark", "right of these")
    _print_rows(head, rows)


def _row(title: str, said: Answers, labels: np.ndarray) -> tuple[str, ...]:
    ok = said.statuses == "ok"
    right = int((said.predicted == labels)[ok].sum())
    return (title, *map(str, (flagged(said), int((~said.named).sum()), int(ok.sum()), right)))


def _print_rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print("|", " | ".join(head), "|")
    print("| --- |", "---: | " * (len(head) - 1))
    for row in rows:
        print("|", " | ".join(row), "|", flush=True)


if __name__ == "__main__":
    main()

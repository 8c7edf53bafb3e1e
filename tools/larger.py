"""Measures what pictures larger than one field come to: their answers, and their memory.

    python -m tools.larger --data DIR [--part val]
    python -m tools.larger --memory FILE

With --data: fields of a part of the weights' own split that are of one capture series are laid
side by side, each enlarged from 224x224 to 1024x768 pixels, and the area is cut as the page and
`mseenet predict` cut one. Printed is how the answers to the cut fields agree with that to the
field at their middle, with what explains a difference: the enlargement alone, and places of the
true size half a field away. How `mseenet.imaging.areas` asks the network for the size was chosen
on `val`; `test` is for the report.

With --memory: a file is read and cut as on the page, by nuclei alone, and one object of JSON says
what became of it, and how much memory that took beside the file. Linux only.
"""

import argparse
import json
import math
import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mseenet import console
from mseenet.config import CLASS_NAMES
from mseenet.errors import UsageError
from mseenet.evaluation.known import checked_split
from mseenet.imaging.areas import Place, Scales, WholePicture, area_in, find_area
from mseenet.imaging.errors import ImageError
from mseenet.inference.card import DEFAULT_WEIGHTS, read_card
from mseenet.inference.classifier import Classifier, Prediction
from mseenet.inference.scale import NEAR
from mseenet.metrics import grouped_interval, grouped_proportion
from mseenet.training.dataset import DatasetIndex, index_dataset, load_images
from mseenet.training.series import find_captures, part_names, read_captures

FIELD = (1024, 768)
"""Width and height of a field in the areas, those of the camera's fields."""

AREAS = ((4, 3), (3, 3), (3, 2), (2, 2))
"""Fields across and down of an area: as large as the rest of a series allows."""

HALF = (FIELD[0] // 2, FIELD[1] // 2)


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = console.command_parser("larger", __doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", type=Path, metavar="DIR", help="the dataset")
    parser.add_argument(
        "--part", choices=("val", "test"), default="test", help="(default: %(default)s)"
    )
    what.add_argument("--memory", type=Path, metavar="FILE", help="a picture larger than one field")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    if arguments.memory:
        print(json.dumps(memory(arguments.memory)))
        return 0
    index = index_dataset(arguments.data, console.progress)
    rows = checked_split(read_card(DEFAULT_WEIGHTS), index).indices(index.samples, arguments.part)
    console.import_keras()
    measure(index, rows)
    return 0


def memory(file: Path) -> dict:
    """What becomes of a file, and the most memory meanwhile, in MiB beside the file."""

    def stated(name: str) -> int:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(re.findall(rf"{name}:\s+(\d+)", status)[0]) // 1024

    if not Path("/proc/self/status").exists():
        raise UsageError("--memory: expected Linux, which tells how much memory a process takes")
    content = file.read_bytes()
    before = stated("VmRSS")
    found: dict = {}
    try:
        area = area_in(content)
        if area is not None:
            fields = sum(1 for _ in area.fields())
            found = {"size": area.picture.size, "fields": fields, "places": area.places}
    except ImageError as error:
        found = {"error": str(error)}
    return found | {"MiB beside the file": stated("VmHWM") - before}


class Cut(NamedTuple):
    """A field that was cut from an area.

    Attributes:
        rgb: Its pixels, uint8 (h, w, 3).
        own: Row of the field that lies at its middle.
        width: In pixels of the area.
    """

    rgb: np.ndarray
    own: int
    width: int


def measure(index: DatasetIndex, rows: np.ndarray) -> None:
    """Prints a line for each way to cut; intervals are over series and ranges of captures.

    Args:
        index: Of the dataset.
        rows: Of the fields that areas are made of.
    """
    names = part_names(index.labels, find_captures(index.samples, read_captures()))
    groups = np.unique([str(name) for name in names], return_inverse=True)[1]
    images = dict(zip(rows.tolist(), load_images([index.samples[i] for i in rows]), strict=True))
    classifier = Classifier.load()
    ways: dict[str, list[Cut]] = defaultdict(list)
    areas, uncut, widths = arranged(rows, groups), 0, []
    for area in console.progress(areas, "areas"):
        for name, cuts in cut_in_ways(area, images, classifier.scales).items():
            ways[name] += cuts
            uncut += not cuts
    used = sorted({row for area in areas for row in area.ravel().tolist()})
    own = dict(zip(used, _answers(classifier, [images[row] for row in used]), strict=True))
    ways = {"the fields themselves": [Cut(images[row], row, FIELD[0]) for row in used], **ways}
    print(f"{len(areas)} areas of {len(used)} fields; not cut: {uncut}")
    print(
        "| cut | n | right | ok | right of ok | class of its field | status of its field | change |"
    )
    print("| --- | ---: | --- | --- | --- | --- | --- | --- |")
    for name, cuts in ways.items():
        answers = _answers(classifier, [cut.rgb for cut in cuts])
        pairs = [(answer, own[cut.own], cut) for answer, cut in zip(answers, cuts, strict=True)]
        print(_row(name, pairs, index.labels, groups))
        if name.startswith("by nuclei"):
            near = [pair for pair in pairs if _is_near(pair[2])]
            far = [pair for pair in pairs if not _is_near(pair[2])]
            print(_row(f"of these less than {NEAR} times off", near, index.labels, groups))
            print(_row("of these more", far, index.labels, groups))
            found = np.quantile([cut.width / FIELD[0] for cut in cuts], (0, 0.05, 0.5, 0.95, 1))
            widths.append(f"{name}: " + ", ".join(f"{value:.2f}" for value in found))
    print("width found / true, by fields: least, 5 %, median, 95 %, most")
    print("\n".join(widths))


def _is_near(cut: Cut) -> bool:
    return abs(math.log(cut.width / FIELD[0])) < math.log(NEAR)


def arranged(rows: np.ndarray, groups: np.ndarray) -> list[np.ndarray]:
    """Rows of fields of one group, as they lie in areas, int (down, across) each.

    What is left of a group after the areas that it fills is left out.
    """
    areas = []
    for group in np.unique(groups[rows]):
        left = rows[groups[rows] == group]
        for across, down in AREAS:
            while len(left) >= across * down:
                areas.append(left[: across * down].reshape(down, across))
                left = left[across * down :]
    return areas


def cut_in_ways(
    area: np.ndarray, images: dict[int, np.ndarray], scales: Scales
) -> dict[str, list[Cut]]:
    """Cuts one area of fields.

    Args:
        area: Rows of its fields, int (down, across).
        images: Of the rows, RGB uint8 (224, 224, 3).
        scales: As for `find_area`.
    """
    enlarged = {row: Image.fromarray(images[row]).resize(FIELD) for row in area.ravel().tolist()}
    pixels = np.vstack([np.hstack([np.asarray(enlarged[i]) for i in row]) for row in area.tolist()])
    shifted = np.roll(pixels, (HALF[1], HALF[0]), (0, 1))
    ragged = pixels[: -FIELD[1] // 3, : -FIELD[0] // 3]
    true = [
        Place(x, y, *FIELD)
        for y in range(0, pixels.shape[0], FIELD[1])
        for x in range(0, pixels.shape[1], FIELD[0])
    ]
    return {
        "true size, in place": _cuts(pixels, true, area, (0, 0)),
        "true size, half a field away": _cuts(shifted, true, area, HALF),
        "by nuclei alone": _cuts(pixels, _places(pixels), area, (0, 0)),
        "by nuclei alone, half a field away": _cuts(shifted, _places(shifted), area, HALF),
        "by nuclei and network": _cuts(pixels, _places(pixels, scales), area, (0, 0)),
        "by nuclei and network, half a field away": _cuts(
            shifted, _places(shifted, scales), area, HALF
        ),
        "by nuclei alone, a third of a field missing": _cuts(ragged, _places(ragged), area, (0, 0)),
        "by nuclei and network, a third of a field missing": _cuts(
            ragged, _places(ragged, scales), area, (0, 0)
        ),
    }


def _places(pixels: np.ndarray, scales: Scales | None = None) -> tuple[Place, ...]:
    found = find_area(WholePicture(pixels), scales=scales)
    return () if found is None else found.places


def _cuts(
    pixels: np.ndarray,
    places: list[Place] | tuple[Place, ...],
    area: np.ndarray,
    shift: tuple[int, int],
) -> list[Cut]:
    cuts = []
    for x, y, width, height in places:
        column = (x + width // 2 - shift[0]) % pixels.shape[1] // FIELD[0]
        row = (y + height // 2 - shift[1]) % pixels.shape[0] // FIELD[1]
        cuts.append(Cut(pixels[y : y + height, x : x + width], int(area[row, column]), width))
    return cuts


def _answers(classifier: Classifier, images: list[np.ndarray]) -> list[Prediction]:
    """Answers with the output of rejected fields, which keep their status."""
    return list(classifier.predict(images, include_rejected=True))


def _row(
    name: str,
    pairs: list[tuple[Prediction, Prediction, Cut]],
    all_labels: np.ndarray,
    all_groups: np.ndarray,
) -> str:
    """A row of the table, of answers to cut fields and to the fields at their middle."""
    if not pairs:
        return f"| {name} | 0 | | | | | | |"
    answers, own, cuts = zip(*pairs, strict=True)
    rows = np.array([cut.own for cut in cuts])
    labels, groups = all_labels[rows], all_groups[rows]
    right = np.array([CLASS_NAMES.index(str(a.class_name)) for a in answers]) == labels
    ok = np.array([answer.status == "ok" for answer in answers])
    alike = np.array([a.class_name == b.class_name for a, b in zip(answers, own, strict=True)])
    status = np.array([a.status == b.status for a, b in zip(answers, own, strict=True)])
    true, before = (
        np.array([(a.probabilities or {})[CLASS_NAMES[k]] for a, k in zip(of, labels, strict=True)])
        for of in (answers, own)
    )
    low, high = grouped_interval(true - before, groups)
    change = f"{np.mean(true - before):+.3f} ({low:+.3f} to {high:+.3f})"
    proportions = [
        _proportion(right, groups),
        _proportion(ok, groups),
        _proportion(right[ok], groups[ok]),
        _proportion(alike, groups),
        _proportion(status, groups),
    ]
    return f"| {name} | {len(answers)} | {' | '.join(proportions)} | {change} |"


def _proportion(values: np.ndarray, groups: np.ndarray) -> str:
    record = grouped_proportion(values, groups)
    low, high = (100 * end for end in record["interval_95"])
    return f"{100 * record['proportion']:.1f} % ({low:.1f}-{high:.1f})"


if __name__ == "__main__":
    console.run(main)

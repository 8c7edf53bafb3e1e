"""Fits and measures the estimate of how large the cells of a field are.

    python -m tools.scale --data DIR --fit
    python -m tools.scale --data DIR [--part val] [--from FILE]

With --fit it writes mseenet/inference/scale.npz: a ridge regression of the logarithm of the
factor on the frozen blocks' features of every tenth training field, enlarged and reduced
(`perturbations.magnified`), half of them blurred, all in another light.

Without, it prints for a part of the weights' own split what becomes of its fields at each
factor: the estimate, how many are "ok", how many of these are right. Thresholds of
mseenet/inference/scale.py were chosen on `val`; `test` is for the report.
"""

import argparse
import math
from pathlib import Path

import numpy as np

from mseenet import console
from mseenet.config import CLASS_NAMES
from mseenet.evaluation.known import checked_split
from mseenet.imaging.perturbations import MAGNIFICATIONS, blur, brightness, magnified
from mseenet.inference.card import DEFAULT_WEIGHTS, Card, read_card
from mseenet.inference.classifier import Prediction
from mseenet.inference.scale import PATH, ScaleReference, doubt, fingerprint
from mseenet.metrics import grouped_proportion
from mseenet.training.dataset import DatasetIndex, index_dataset, load_images
from mseenet.training.series import find_captures, part_names, read_captures

FITTED = (0.5, 0.57, 0.67, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 1.75, 2.0)
"""Factors that the fit looks at, about as dense below as above 1."""

EVERY = 10
"""Every so many training fields are fitted to."""

SOFTEST = 1.2
"""Largest standard deviation of the blur, in pixels of 224."""

LIGHT = (0.55, 1.45)
"""Factors of the brightness."""

RIDGE = 10.0
"""Penalty on the squared coefficients of standardised features."""


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = console.command_parser("scale", __doc__)
    parser.add_argument("--data", type=Path, metavar="DIR", required=True, help="the dataset")
    parser.add_argument("--fit", action="store_true", help="write the coefficients anew")
    parser.add_argument(
        "--part", choices=("val", "test"), default="test", help="(default: %(default)s)"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    card = read_card(DEFAULT_WEIGHTS)
    index = index_dataset(arguments.data, console.progress)
    split = checked_split(card, index)
    console.import_keras()
    if arguments.fit:
        fit(card, index, split.indices(index.samples, "train")[::EVERY])
    else:
        measure(index, split.indices(index.samples, arguments.part))
    return 0


def fit(card: Card, index: DatasetIndex, rows: np.ndarray) -> None:
    """Fits to some fields, writes the coefficients, and prints how far off each factor is."""
    from mseenet.inference.network import build_model, frozen_blocks
    from mseenet.training.loop import outputs_of

    model = build_model(card.model)
    model.load_weights(card.weights_path)
    network = frozen_blocks(model)
    images = load_images([index.samples[i] for i in rows], progress=console.progress)
    features, logarithms = [], []
    for i in console.progress(range(len(images)), "fields"):
        changed = np.stack(_copies(images[i], np.random.default_rng([0, i])))
        features.append(outputs_of(network, changed).mean(axis=(1, 2)))
        logarithms += [math.log(factor) for factor in FITTED]
    reference = ridge(
        np.concatenate(features), np.array(logarithms), fingerprint(network.get_weights())
    )
    reference.save(PATH)
    estimates = reference.logarithms(np.concatenate(features)).reshape(-1, len(FITTED))
    print(f"{len(images)} training fields")
    for factor, column in zip(FITTED, estimates.T, strict=True):
        print(f"x{factor}: {math.exp(column.mean()):.3f}, deviation {column.std():.3f} (log)")


def _copies(field: np.ndarray, random: np.random.Generator) -> list[np.ndarray]:
    copies = []
    for factor in FITTED:
        copy = brightness(magnified(field, factor), random.uniform(*LIGHT))
        copies.append(blur(copy, random.uniform(0, SOFTEST)) if random.random() < 0.5 else copy)
    return copies


def ridge(features: np.ndarray, logarithms: np.ndarray, blocks: str) -> ScaleReference:
    """Least squares with a penalty on the coefficients of standardised features.

    Args:
        features: float (N, D).
        logarithms: What they are to give, (N,).
        blocks: Of the reference.
    """
    features = np.asarray(features, np.float64)
    mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-9
    standard, middle = (features - mean) / deviation, logarithms.mean()
    penalty = RIDGE * np.eye(features.shape[1])
    solved = np.linalg.solve(standard.T @ standard + penalty, standard.T @ (logarithms - middle))
    weights = solved / deviation
    return ScaleReference(weights.astype(np.float32), float(middle - mean @ weights), blocks)


def measure(index: DatasetIndex, rows: np.ndarray) -> None:
    """Prints a row for each factor and one for all together; intervals are over series."""
    from mseenet.inference.classifier import Classifier

    classifier = Classifier.load()
    images = load_images([index.samples[i] for i in rows], progress=console.progress)
    names = part_names(index.labels, find_captures(index.samples, read_captures()))
    groups = np.unique([str(name) for name in names], return_inverse=True)[1][rows]
    labels = index.labels[rows]
    rows_of_all = []
    print("| cells | n | estimate, median (5 to 95 %) | ok before | ok | right of these |")
    print("| --- | ---: | --- | --- | ---: | --- |")
    for factor in MAGNIFICATIONS:
        changed = [magnified(field, factor) for field in images]
        predictions = classifier.predict(changed, include_rejected=True)
        ok = np.array([prediction.status == "ok" for prediction in predictions])
        size_alone = np.array([_for_its_size_alone(prediction) for prediction in predictions])
        named = [CLASS_NAMES.index(str(prediction.class_name)) for prediction in predictions]
        scales = [prediction.scale for prediction in predictions if prediction.scale]
        low, middle, high = np.quantile(scales, (0.05, 0.5, 0.95))
        right = np.array(named) == labels
        estimate = f"{middle:.2f} ({low:.2f}-{high:.2f})"
        print(_row(f"x{factor}", estimate, ok | size_alone, ok, right, groups))
        rows_of_all.append((ok | size_alone, ok, right, groups))
    print(_row("all", "", *(np.concatenate(column) for column in zip(*rows_of_all, strict=True))))


def _for_its_size_alone(prediction: Prediction) -> bool:
    """Whether a field would be "ok" but for the size of its cells."""
    own = doubt(prediction.scale, prediction.confidence or 0.0)
    return prediction.status == "review" and prediction.reasons == (own,)


def _row(
    name: str,
    estimate: str,
    before: np.ndarray,
    ok: np.ndarray,
    right: np.ndarray,
    groups: np.ndarray,
) -> str:
    former = f"{100 * before.mean():.1f} %, {right[before].sum()} of {before.sum()} right"
    answer = "-"
    if ok.any():
        record = grouped_proportion(right[ok], groups[ok])
        low, high = (100 * end for end in record["interval_95"])
        answer = f"{right[ok].sum()} of {ok.sum()}: {100 * record['proportion']:.1f} % "
        answer += f"({low:.1f}-{high:.1f})"
    return f"| {name} | {len(ok)} | {estimate} | {former} | {100 * ok.mean():.1f} % | {answer} |"


if __name__ == "__main__":
    console.run(main)

"""What every entry is given and how it is measured: images, splits, rows, comparisons."""

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from mseenet import console
from mseenet.config import CLASS_NAMES, IMAGE_SIZE, ModelConfig, RobustConfig
from mseenet.metrics import (
    SUMMARY_NAMES,
    confusion_matrix,
    grouped_interval,
    summary_measures,
    wilson_interval,
)
from mseenet.training.dataset import DatasetIndex, load_images
from mseenet.training.splits import EMBARGOES, FOLDS, block_split, near_duplicates, random_split

RANDOM = "random"
BLOCKS = tuple(f"blocks, embargo {embargo}" for embargo in EMBARGOES)
SPLITS = (RANDOM, *BLOCKS)
"""The protocols, as the rows name them; a row is known by its entry and its split."""

COMPARED = (
    ("inception-head", "plain-head"),
    ("inception-head", "linear-probe"),
    ("inception-fine-tuned", "plain-fine-tuned"),
)
"""Entries with and without the inception module."""

BATCH_SIZE = 32


class Inputs:
    """The images in the forms that the entries read, each made when first asked for.

    Args:
        index: The dataset.
        backbone_weights: As for `mseenet.inference.network.build_backbone`.
        minutes: Wall-clock limit for the training of one network from scratch.
        cache: Folder for the frozen features, as for `mseenet.training.robust.frozen_features`.
    """

    def __init__(self, index: DatasetIndex, backbone_weights: str, minutes: float, cache: Path):
        self.samples, self.labels = index.samples, index.labels
        self.minutes = minutes
        self.backbone_weights = backbone_weights
        self._cache = cache
        self._images: dict[int, np.ndarray] = {}

    def images(self, size: int = IMAGE_SIZE) -> np.ndarray:
        """RGB pixels, uint8 (N, size, size, 3) in [0, 255]."""
        if size not in self._images:
            # 150 kB an image at 224: only the size in use is kept.
            self._images = {size: load_images(self.samples, size, console.progress)}
        return self._images[size]

    @cached_property
    def duplicates(self) -> list[tuple[int, int]]:
        """Positions of near-duplicates, see `near_duplicates`."""
        return near_duplicates(self.images())

    @cached_property
    def features(self) -> np.ndarray:
        """Features of the frozen backbone, float16 (N, 7, 7, 1280).

        Half precision halves 700 MB and rounds far below the differences between images.
        """
        from mseenet.inference.network import build_backbone

        return forward(build_backbone(self.backbone_weights), self.images(), np.float16)

    @cached_property
    def pooled(self) -> np.ndarray:
        """The same, averaged over the positions, float32 (N, 1280)."""
        return self.features.mean(axis=(1, 2), dtype=np.float32)

    @cached_property
    def frozen(self):
        """Frozen features of all images and their augmented copies, as the robust recipe's."""
        from mseenet.inference.network import build_model
        from mseenet.training.provenance import backbone_record
        from mseenet.training.robust import frozen_features

        weights = self.backbone_weights
        model = build_model(ModelConfig(blank_corner=True), weights)
        record = backbone_record(weights)
        config = RobustConfig()
        return frozen_features(model, self.samples, self.images(), config, record, self._cache)


def forward(network, inputs: np.ndarray, dtype: type = np.float32) -> np.ndarray:
    """Outputs of a Keras model for inputs (N, ...), which become float32 batch by batch."""
    outputs = np.empty((len(inputs), *network.output.shape[1:]), dtype)
    for start in console.progress(range(0, len(inputs), BATCH_SIZE), network.name):
        batch = inputs[start : start + BATCH_SIZE].astype(np.float32)
        outputs[start : start + BATCH_SIZE] = network.predict_on_batch(batch)
    return outputs


@dataclass(frozen=True)
class Task:
    """Positions of training and of test images, int64, ascending, and the seed of all draws."""

    train: np.ndarray
    test: np.ndarray
    seed: int


Answer = tuple[np.ndarray, dict[str, float | str]]
"""Labels of the test images, int (m,), and facts for the table; numbers become means of runs."""


@dataclass(frozen=True)
class Entry:
    """One method.

    Attributes:
        name, title: For --only and for the table.
        classify: Trains on `Task.train` and predicts `Task.test`.
        splits: What it is measured on.
        published: Row of the paper's Table I whose family it makes anew, and its accuracy in
            percent; None for the heads, which alone are measured with more seeds than 0.
        block_seeds: How many of these seeds at most are measured on blocks.
        drawn: Whether training draws anything at random; if not, blocks, which are not
            drawn either, give the same for each seed.
        reads: The features of MSEENet's backbone that it reads, as an attribute of `Inputs`.
    """

    name: str
    title: str
    classify: Callable[[Inputs, Task], Answer]
    splits: tuple[str, ...] = SPLITS
    published: str | None = None
    block_seeds: int | None = None
    drawn: bool = True
    reads: Literal["pooled", "frozen"] | None = None


def tasks(inputs: Inputs, split: str, seed: int) -> list[Task]:
    """The trainings behind one seed of a row: one for a random split, one a fold for blocks."""
    samples = inputs.samples
    if split == RANDOM:
        parts = [random_split(samples, seed)]
    else:
        embargo, pairs = EMBARGOES[BLOCKS.index(split)], inputs.duplicates
        parts = [block_split(samples, fold, embargo, pairs, FOLDS) for fold in range(FOLDS)]
    return [
        Task(part.indices(samples, "train"), part.indices(samples, "test"), seed * FOLDS + fold)
        for fold, part in enumerate(parts)
    ]


def measure_row(entry: Entry, split: str, inputs: Inputs, seeds: int) -> dict:
    """One row of the table, ready for JSON.

    Returns:
        `n` test images of one seed; the measures of `mseenet.metrics.summary_measures`, means over the seeds,
        in [0, 1]; `accuracies` by seed and `sd`, their sample standard deviation (None for
        one seed); `interval_95`, of `accuracy_interval`; `confusion`,
        summed over the seeds; `wrong`, positions of misclassified images by seed; `minutes`
        of training and testing; `facts`; and whether anything is `drawn` at random.
    """
    drawn = split == RANDOM or entry.drawn
    if split != RANDOM and entry.block_seeds:
        seeds = min(seeds, entry.block_seeds)
    used = range(seeds if entry.published is None and drawn else 1)
    confusions, wrong, facts, minutes = [], [], [], 0.0
    for seed in used:
        confusion, missed = np.zeros((len(CLASS_NAMES),) * 2, np.int64), []
        for task in console.progress(
            tasks(inputs, split, seed), f"{entry.name}, {split}, seed {seed}"
        ):
            started = time.monotonic()
            predicted, fact = entry.classify(inputs, task)
            minutes += (time.monotonic() - started) / 60
            labels = inputs.labels[task.test]
            confusion += confusion_matrix(labels, predicted, len(CLASS_NAMES))
            missed += task.test[predicted != labels].tolist()
            facts.append(fact)
        confusions.append(confusion)
        wrong.append(sorted(missed))
    measures = summary_measures(np.stack(confusions))
    accuracies = measures["accuracy"].tolist()
    n = int(confusions[0].sum())
    row = {
        "entry": entry.name,
        "split": split,
        "seeds": list(used),
        "drawn": drawn,
        "n": n,
        **{name: float(measures[name].mean()) for name in SUMMARY_NAMES},
        "accuracies": accuracies,
        "sd": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "confusion": np.sum(confusions, axis=0).tolist(),
        "facts": {
            key: value if isinstance(value, str) else float(np.mean([fact[key] for fact in facts]))
            for key, value in facts[0].items()
        },
        "minutes": minutes,
        "wrong": wrong,
    }
    return row | {"interval_95": accuracy_interval(row, inputs)}


def accuracy_interval(row: dict, inputs: Inputs) -> list[float]:
    """The 95 % interval of a row's mean accuracy: a bootstrap over blocks of file order.

    Without errors it is Wilson's over the n images of one seed, which is too narrow.
    """
    right = _right(row, inputs)
    tested = ~np.isnan(right)
    if np.all(right[tested] == 1):
        return list(wilson_interval(row["n"], row["n"]))
    groups = np.broadcast_to(_blocks(inputs), right.shape)[tested]
    return list(grouped_interval(right[tested], groups))


def compare(rows: Sequence[dict], inputs: Inputs) -> list[dict]:
    """The inception head against simpler heads, as far as the rows are there.

    The groups are the blocks of file order of each class: neighbours fail together on random
    splits, too.
    """
    by_key = {(row["entry"], row["split"]): row for row in rows}
    results = []
    for split, (first, second) in itertools.product(SPLITS, COMPARED):
        pair = [by_key[name, split] for name in (first, second) if (name, split) in by_key]
        if len(pair) < 2:
            continue
        ours, theirs = (_right(row, inputs) for row in pair)
        shared = min(len(ours), len(theirs))  # seeds, which all start from 0
        difference = ours[:shared] - theirs[:shared]
        tested = ~np.isnan(difference)
        groups = np.broadcast_to(_blocks(inputs), tested.shape)[tested]
        found = {"first": first, "second": second, "split": split, "n": len(groups)}
        results.append(found | paired_difference(difference[tested], groups))
    return results


def paired_difference(difference: np.ndarray, groups: np.ndarray) -> dict:
    """Mean difference of two methods on the same images, with a bootstrap interval of 95 %.

    Args:
        difference: Proportion of runs in which the first method is right less that of the
            second, by image, float (N,) in [-1, 1].
        groups: Images of one group are drawn together, int (N,): neighbours on a slide
            are no independent observations.

    Returns:
        `difference`, `interval_95` and `groups`, their number.
    """
    interval = list(grouped_interval(difference, groups))
    count = len(np.unique(groups))
    return {"difference": difference.mean(), "interval_95": interval, "groups": count}


def _right(row: dict, inputs: Inputs) -> np.ndarray:
    """Whether each image was classified rightly, float (runs, N); NaN where not tested.

    A random split tests other images for each seed, which count once a seed. Blocks test
    all images for each seed: one line, the proportion of seeds that were right.
    """
    right = np.full((len(row["seeds"]), len(inputs.labels)), np.nan)
    random = row["split"] == RANDOM
    for seed, wrong in zip(row["seeds"], row["wrong"], strict=True):
        tested = tasks(inputs, RANDOM, seed)[0].test if random else slice(None)
        right[seed, tested] = 1
        right[seed, wrong] = 0
    return right if random else right.mean(axis=0, keepdims=True)


def _blocks(inputs: Inputs) -> np.ndarray:
    """Number of the block of file order, by image, int64 (N,)."""
    block = np.empty(len(inputs.labels), np.int64)
    for fold in range(FOLDS):
        test = block_split(inputs.samples, fold, 0, folds=FOLDS).indices(inputs.samples, "test")
        block[test] = inputs.labels[test] * FOLDS + fold
    return block

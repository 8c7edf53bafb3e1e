"""Trains and tests the folds of a protocol for unseen slides; each is kept when it is done."""

import hashlib
import inspect
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from mseenet import __version__, console
from mseenet.config import CLASS_NAMES, CellsConfig, ModelConfig, RobustConfig
from mseenet.evaluation.out_of_fold import OutOfFold
from mseenet.evaluation.stress import STRESS_TESTS
from mseenet.evaluation.unseen_stress import StressAnswers, stress_inputs
from mseenet.files import file_sha256, own_folder, remove_own_folder, whole_file
from mseenet.training.dataset import DatasetIndex
from mseenet.training.series import (
    CAPTURES_PATH,
    find_captures,
    part_names,
    read_captures,
    series_split,
)
from mseenet.training.series import PROTOCOLS as SERIES
from mseenet.training.splits import EMBARGOES, FOLDS, Split, block_split

BLOCKS = {f"blocks-{embargo}": embargo for embargo in EMBARGOES}
"""Protocols of `block_split` and their embargoes, in file numbers."""

PROTOCOLS = (*SERIES, *BLOCKS)
"""All protocols for unseen slides."""

PURPOSE = "folds"
"""What the marker of the folds' folder says that it is for."""


@dataclass(frozen=True)
class Folds:
    """What the folds of one cross-validation are made of.

    Attributes:
        index: The images' records.
        images: RGB pixels, uint8 (N, 224, 224, 3) in [0, 255].
        duplicates: Of `near_duplicates`; what repeats a test image is not trained on.
        config: Settings of the recipe.
        model_config: Widths of the head.
        backbone_weights: As for `network.build_backbone`.
        backbone: Where they come from (`backbone_record`).
    """

    index: DatasetIndex
    images: np.ndarray
    duplicates: Sequence[tuple[int, int]]
    config: RobustConfig
    model_config: ModelConfig
    backbone_weights: str | Path
    backbone: dict

    def count(self, protocol: str) -> int:
        """How many folds a protocol has."""
        return FOLDS if protocol in BLOCKS else len(SERIES[protocol][0])

    def split(self, protocol: str, fold: int) -> Split:
        """Which images train and which are tested."""
        samples = self.index.samples
        if protocol in BLOCKS:
            return block_split(samples, fold, BLOCKS[protocol], self.duplicates, FOLDS)
        captures = find_captures(samples, read_captures())
        return series_split(samples, captures, protocol, fold, self.duplicates)

    def tested(self, protocol: str, fold: int) -> np.ndarray:
        """Positions of the tested images, int (n,), in the order of the index."""
        return self.split(protocol, fold).indices(self.index.samples, "test")

    def parts(self, protocol: str, folds: np.ndarray) -> list[str]:
        """What fails together: to which part of a protocol each image belongs.

        Args:
            protocol: One of `PROTOCOLS`.
            folds: Which fold tests each image, int (N,).
        """
        samples = self.index.samples
        if protocol in BLOCKS:
            pairs = zip(samples, folds, strict=True)
            return [f"{CLASS_NAMES[sample.label]} block {fold}" for sample, fold in pairs]
        captures = find_captures(samples, read_captures())
        names = part_names([sample.label for sample in samples], captures)
        return [" ".join(map(str, name)) for name in names]

    def key(self) -> str:
        """12 hex digits that differ wherever a fold's answers may differ."""
        from mseenet.evaluation import stress, unseen_stress
        from mseenet.imaging import nuclei, perturbations, quality, transplant
        from mseenet.inference import network, novelty
        from mseenet.training import (
            augmentation,
            cells,
            donors,
            gate,
            loop,
            robust,
            series,
            splits,
        )

        modules = (
            *(nuclei, perturbations, quality, transplant, network, novelty, stress, unseen_stress),
            *(augmentation, cells, donors, gate, loop, robust, series, splits),
        )
        basis = {
            "version": __version__,
            "code": [inspect.getsource(module) for module in modules],
            "training": asdict(self.config),
            "model": asdict(self.model_config),
            "backbone": self.backbone,
            "images": [(s.file, s.label, s.pixel_sha256) for s in self.index.samples],
            "duplicates": [list(map(int, pair)) for pair in self.duplicates],
            "folds": {protocol: self.count(protocol) for protocol in PROTOCOLS},
            "captures": file_sha256(CAPTURES_PATH),
        }
        return hashlib.sha256(json.dumps(basis, sort_keys=True).encode()).hexdigest()[:12]


def run_folds(
    folds: Folds, work: Path, protocols: Sequence[str], cache: Path | None = None
) -> None:
    """Trains and tests what is missing in `work`, one file a fold and protocol.

    Several processes may share `work`, each with protocols of its own.

    Args:
        folds: What they are made of.
        work: Folder for these folds alone; made if missing.
        protocols: Some of `PROTOCOLS`.
        cache: Folder that keeps frozen features; None to compute them.

    Raises:
        UsageError: `work` or `cache` holds other files.
        DatasetError: There are too few images for an embargo, or their series are unknown.
    """
    own_folder(work, PURPOSE)
    wanted = [(name, fold) for name in protocols for fold in range(folds.count(name))]
    for protocol, fold in wanted:
        folds.split(protocol, fold)  # too few images are told before hours of work
    missing = [pair for pair in wanted if not _is_kept(folds, work, *pair)]
    if not missing:
        return
    console.import_keras()
    from mseenet.inference.backend import keras
    from mseenet.inference.network import build_model
    from mseenet.training.cells import donated_features
    from mseenet.training.checkpoint import Checkpoint
    from mseenet.training.robust import frozen_features

    with tempfile.TemporaryDirectory() as scratch:
        kept = cache or Path(scratch) / "features"
        keras.utils.set_random_seed(folds.config.seed)
        model = build_model(folds.model_config, folds.backbone_weights)
        initial = model.get_weights()
        samples, images, config = folds.index.samples, folds.images, folds.config
        features = frozen_features(model, samples, images, config, folds.backbone, kept)
        donated = None
        if isinstance(config, CellsConfig):
            donated = donated_features(model, samples, images, config, folds.backbone, kept)
        for protocol, fold in missing:
            model.set_weights(initial)
            split = folds.split(protocol, fold)
            checkpoint = Checkpoint(Path(scratch) / "run", {})
            parts = folds.parts(protocol, np.full(len(samples), fold))
            answers = _train_and_test(
                folds, split, parts, model, features, donated, checkpoint, kept
            )
            with (
                whole_file(_fold_path(work, protocol, fold)) as part,
                part.open("wb") as stream,
            ):
                np.savez(stream, **answers)  # a file that is there is whole
            rows = split.indices(folds.index.samples, "test")
            right = answers["logits"].argmax(axis=1) == folds.index.labels[rows]
            console.say(f"{protocol}, fold {fold}: {right.mean():.4f} of {len(right)}")
        del features, donated  # they map files of the folder that goes now


def _train_and_test(
    folds: Folds,
    split: Split,
    parts: list[str],
    model,
    features,
    donated,
    checkpoint,
    cache: Path,
) -> dict[str, Any]:
    """Trains a network on one fold's train part and asks it about the test part.

    Returns:
        `files` of the tested images, (n,), `logits` (n, C) and `novelty` (n,); and for each
        stress test what `StressAnswers` holds, with positions in the tested images.
    """
    from mseenet.inference.network import fine_tuned_blocks, frozen_blocks
    from mseenet.training.cells import mixture
    from mseenet.training.gate import reference_of
    from mseenet.training.loop import Training, outputs_of
    from mseenet.training.robust import fit_head_then_fine_tune

    samples, labels, pooled = folds.index.samples, folds.index.labels, features.pooled()
    train, test = (split.indices(samples, name) for name in ("train", "test"))
    drawn: Training = (features.draw(train), labels[train])
    if isinstance(folds.config, CellsConfig):
        drawn = mixture(features, donated, samples, train, folds.config)
    fit_head_then_fine_tune(model, drawn, None, folds.config, checkpoint)
    checkpoint.delete()
    reference = reference_of(pooled, labels, train)
    network = fine_tuned_blocks(model)
    answers = {
        "files": np.array([samples[i].file for i in test]),
        "logits": outputs_of(network, features.copies[0][test].astype(np.float32)),
        "novelty": reference.distances(pooled[0, test]),
    }
    inputs = stress_inputs(
        frozen_blocks(model),
        folds.images[test],
        labels[test],
        [parts[i] for i in test],
        [samples[i].pixel_sha256 for i in test],
        cache,
    )
    for test_name, given in inputs.items():
        seen = given.features.astype(np.float32)
        answer = StressAnswers(
            given.rows,
            given.donors,
            outputs_of(network, seen),
            reference.distances(seen.mean(axis=(1, 2))).astype(np.float32),
            given.findings,
            given.cells,
            given.clear,
        )
        answers |= {f"{test_name}/{name}": array for name, array in vars(answer).items()}
    return answers


def collect(folds: Folds, work: Path, protocol: str) -> tuple[OutOfFold, dict[str, StressAnswers]]:
    """The kept folds of one protocol as one, in the order of the index, and its stress tests."""
    tested = [folds.tested(protocol, fold) for fold in range(folds.count(protocol))]
    kept = [_read_fold(_fold_path(work, protocol, fold)) for fold in range(len(tested))]
    number = np.full(len(folds.index.samples), -1)
    for fold, rows in enumerate(tested):
        number[rows] = fold
    rows = np.flatnonzero(number >= 0)
    place = np.cumsum(number >= 0) - 1  # of an image among those that are tested
    order = np.argsort(np.concatenate(tested))
    parts = np.array(folds.parts(protocol, number))

    def joined(name: str) -> np.ndarray:
        return np.concatenate([answers[name] for answers in kept])[order]

    result = OutOfFold(
        [folds.index.samples[i].file for i in rows],
        number[rows],
        parts[rows],
        folds.index.labels[rows],
        joined("logits"),
        joined("novelty"),
    )
    stress = {}
    for test in STRESS_TESTS:
        found: dict[str, list[np.ndarray]] = {field.name: [] for field in fields(StressAnswers)}
        for images, answers in zip(tested, kept, strict=True):
            if f"{test}/rows" not in answers:
                continue
            for name, arrays in found.items():
                array = answers[f"{test}/{name}"]
                if name in ("rows", "donors"):
                    array = np.where(array >= 0, place[images[array]], -1)
                arrays.append(array)
        if found["rows"]:
            stress[test] = StressAnswers(**{n: np.concatenate(a) for n, a in found.items()})
    return result, stress


def remove_folds(folds: Folds, work: Path, protocols: Sequence[str]) -> None:
    """Removes the files of `run_folds`, and `work` if nothing else is left in it.

    Args:
        folds: Of `run_folds`.
        work: Of `run_folds`.
        protocols: Of `run_folds`.
    """
    for protocol in protocols:
        for fold in range(folds.count(protocol)):
            _fold_path(work, protocol, fold).unlink(missing_ok=True)
    remove_own_folder(work, PURPOSE)


def _fold_path(work: Path, protocol: str, fold: int) -> Path:
    return work / f"{protocol}-fold{fold}.npz"


def _read_fold(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def _is_kept(folds: Folds, work: Path, protocol: str, fold: int) -> bool:
    """Whether a file holds this fold's answers, about the very images that it tests."""
    try:
        answers = _read_fold(_fold_path(work, protocol, fold))
    except FileNotFoundError:
        return False
    tested = [folds.index.samples[i].file for i in folds.tested(protocol, fold)]
    return (
        answers["files"].tolist() == tested
        and answers["logits"].shape == (len(tested), len(CLASS_NAMES))
        and answers["novelty"].shape == (len(tested),)
    )

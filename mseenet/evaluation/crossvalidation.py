"""Trains and tests the folds of a protocol for unseen slides; each is kept when it is done."""

import hashlib
import inspect
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mseenet import __version__, console
from mseenet.config import CLASS_NAMES, CellsConfig, ModelConfig, RobustConfig
from mseenet.evaluation.out_of_fold import OutOfFold
from mseenet.files import file_sha256, own_folder, remove_own_folder, whole_file
from mseenet.training.dataset import DatasetIndex
from mseenet.training.series import (
    CAPTURES_PATH,
    EMBARGO,
    PROTOCOLS,
    find_captures,
    read_captures,
    series_split,
)
from mseenet.training.splits import EMBARGOES, FOLDS, Split, block_split

BLOCKS = "blocks"
"""The protocol of `block_split`; the others are those of `series.PROTOCOLS`."""

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
        protocol: `BLOCKS` or a key of `series.PROTOCOLS`.
    """

    index: DatasetIndex
    images: np.ndarray
    duplicates: Sequence[tuple[int, int]]
    config: RobustConfig
    model_config: ModelConfig
    backbone_weights: str | Path
    backbone: dict
    protocol: str = BLOCKS

    @property
    def count(self) -> int:
        """How many folds the protocol has."""
        return FOLDS if self.protocol == BLOCKS else len(PROTOCOLS[self.protocol][0])

    @property
    def embargoes(self) -> tuple[int, ...]:
        """With which embargoes it is run: in file numbers, or in captures."""
        return EMBARGOES if self.protocol == BLOCKS else (EMBARGO,)

    def split(self, fold: int, embargo: int) -> Split:
        """Which images train and which are tested."""
        samples = self.index.samples
        if self.protocol == BLOCKS:
            return block_split(samples, fold, embargo, self.duplicates)
        captures = find_captures(samples, read_captures())
        return series_split(samples, captures, self.protocol, fold, self.duplicates)

    def tested(self, fold: int, embargo: int) -> list[str]:
        """`Sample.file` of the tested images, in the order of the index."""
        split = self.split(fold, embargo)
        return [self.index.samples[i].file for i in split.indices(self.index.samples, "test")]

    def key(self) -> str:
        """12 hex digits that differ wherever a fold's answers may differ."""
        from mseenet.imaging import nuclei, perturbations, transplant
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
            *(nuclei, perturbations, transplant, network, novelty),
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
            "protocol": self.protocol,
            "folds": self.count,
            "captures": file_sha256(CAPTURES_PATH),
        }
        return hashlib.sha256(json.dumps(basis, sort_keys=True).encode()).hexdigest()[:12]


def run_folds(
    folds: Folds, work: Path, embargoes: Sequence[int], cache: Path | None = None
) -> None:
    """Trains and tests what is missing in `work`, one file a fold and embargo.

    Several processes may share `work`, each with embargoes of its own.

    Args:
        folds: What they are made of.
        work: Folder for these folds alone; made if missing.
        embargoes: Of `Folds.embargoes`.
        cache: Folder that keeps frozen features; None to compute them.

    Raises:
        UsageError: `work` or `cache` holds other files.
        DatasetError: There are too few images for an embargo, or their series are unknown.
    """
    own_folder(work, PURPOSE)
    wanted = [(embargo, fold) for embargo in embargoes for fold in range(folds.count)]
    for embargo, fold in wanted:
        folds.split(fold, embargo)  # too few images are told before hours of work
    missing = [pair for pair in wanted if not _is_kept(folds, work, *pair)]
    if not missing:
        return
    console.import_keras()
    from mseenet.inference.backend import keras
    from mseenet.inference.network import build_model
    from mseenet.training.robust import frozen_features

    with tempfile.TemporaryDirectory() as scratch:
        keras.utils.set_random_seed(folds.config.seed)
        model = build_model(folds.model_config, folds.backbone_weights)
        initial = model.get_weights()
        features = frozen_features(
            model,
            folds.index.samples,
            folds.images,
            folds.config,
            folds.backbone,
            cache or Path(scratch) / "features",
        )
        for embargo, fold in missing:
            model.set_weights(initial)
            split = folds.split(fold, embargo)
            answers = _train_and_test(folds, split, model, features, Path(scratch), cache)
            with (
                whole_file(_fold_path(work, fold, embargo)) as part,
                part.open("wb") as stream,
            ):
                np.savez(stream, **answers)  # a file that is there is whole
            rows = split.indices(folds.index.samples, "test")
            right = answers["logits"].argmax(axis=1) == folds.index.labels[rows]
            console.say(f"embargo {embargo}, fold {fold}: {right.mean():.4f} of {len(right)}")
        del features  # it maps files of the folder that goes now


def _train_and_test(
    folds: Folds, split: Split, model, features, scratch: Path, cache: Path | None
) -> dict[str, Any]:
    """Trains a network on one fold's train part and asks it about the test part.

    Donors of the recipe `cells` are fields of the train part alone.

    Returns:
        `files` of the tested images, (n,), `logits` (n, C) and `novelty` (n,).
    """
    from mseenet.inference.network import fine_tuned_blocks
    from mseenet.training.cells import donated_features, mixture
    from mseenet.training.checkpoint import Checkpoint
    from mseenet.training.gate import fit_novelty
    from mseenet.training.loop import Training, outputs_of
    from mseenet.training.robust import fit_head_then_fine_tune

    samples, labels, pooled = folds.index.samples, folds.index.labels, features.pooled()
    train, test = (split.indices(samples, name) for name in ("train", "test"))
    checkpoint = Checkpoint(scratch / "run", {})
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        drawn: Training = (features.draw(train), labels[train])
        if isinstance(folds.config, CellsConfig):
            donated = donated_features(
                model,
                samples,
                folds.images,
                train,
                folds.config,
                folds.backbone,
                cache or Path(folder),
            )
            drawn = mixture(features, donated, samples, train, folds.config)
            del donated
        fit_head_then_fine_tune(model, drawn, None, folds.config, checkpoint)
        del drawn  # it maps files of the folder that goes now
    checkpoint.delete()
    reference = fit_novelty(
        pooled[:, train].reshape(-1, pooled.shape[-1]), np.tile(labels[train], len(pooled))
    )
    return {
        "files": np.array([samples[i].file for i in test]),
        "logits": outputs_of(fine_tuned_blocks(model), features.copies[0][test].astype(np.float32)),
        "novelty": reference.distances(pooled[0, test]),
    }


def collect(folds: Folds, work: Path, embargo: int) -> OutOfFold:
    """The kept folds of one embargo as one, in the order of the index."""
    position = {sample.file: i for i, sample in enumerate(folds.index.samples)}
    parts = []
    for fold in range(folds.count):
        answers = _read_fold(_fold_path(work, fold, embargo))
        rows = np.array([position[file] for file in answers["files"]])
        parts.append((rows, np.full(len(rows), fold), answers["logits"], answers["novelty"]))
    rows, numbers, logits, novelty = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(rows)
    return OutOfFold(
        [folds.index.samples[i].file for i in rows[order]],
        numbers[order],
        folds.index.labels[rows[order]],
        logits[order],
        novelty[order],
    )


def remove_folds(work: Path, embargoes: Sequence[int], count: int = FOLDS) -> None:
    """Removes the files of `run_folds`, and `work` if nothing else is left in it.

    Args:
        work: Of `run_folds`.
        embargoes: Of `run_folds`.
        count: Of the folds of an embargo.
    """
    for embargo in embargoes:
        for fold in range(count):
            _fold_path(work, fold, embargo).unlink(missing_ok=True)
    remove_own_folder(work, PURPOSE)


def _fold_path(work: Path, fold: int, embargo: int) -> Path:
    return work / f"embargo{embargo}-fold{fold}.npz"


def _read_fold(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in ("files", "logits", "novelty")}


def _is_kept(folds: Folds, work: Path, embargo: int, fold: int) -> bool:
    """Whether a file holds this fold's answers, about the very images that it tests."""
    try:
        answers = _read_fold(_fold_path(work, fold, embargo))
    except FileNotFoundError:
        return False
    tested = folds.tested(fold, embargo)
    return (
        answers["files"].tolist() == tested
        and answers["logits"].shape == (len(tested), len(CLASS_NAMES))
        and answers["novelty"].shape == (len(tested),)
    )

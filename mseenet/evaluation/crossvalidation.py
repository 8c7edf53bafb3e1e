"""Trains and tests the folds of the protocol `blocks`; each is kept when it is done."""

import os
import tempfile
from pathlib import Path

import numpy as np

from mseenet import console
from mseenet.config import ModelConfig, RobustConfig
from mseenet.evaluation.out_of_fold import OutOfFold
from mseenet.training.splits import EMBARGOES, FOLDS, block_split, near_duplicates


def run_folds(
    index,
    images: np.ndarray,
    config: RobustConfig,
    model_config: ModelConfig,
    arguments,
    work: Path,
) -> None:
    """Trains and tests what is missing in `work`, one .npz file a fold and embargo."""
    console.import_keras()
    from mseenet.inference.backend import keras
    from mseenet.inference.network import build_model, fine_tuned_blocks
    from mseenet.inference.novelty import fit_novelty
    from mseenet.training.checkpoint import Checkpoint
    from mseenet.training.loop import outputs_of
    from mseenet.training.robust import fit_head_then_fine_tune, frozen_features
    from mseenet.training.run import backbone_record

    work.mkdir(parents=True, exist_ok=True)
    model = build_model(model_config, arguments.backbone_weights)
    backbone = backbone_record(arguments.backbone_weights)
    with tempfile.TemporaryDirectory() as temporary:
        cache = arguments.cache or Path(temporary)
        features = frozen_features(model, index.samples, images, config, backbone, cache)
        pooled, labels = features.pooled(), index.labels
        duplicates = near_duplicates(images)
        for embargo in arguments.embargo or EMBARGOES:
            for fold in range(FOLDS):
                path = work / f"embargo{embargo}-fold{fold}.npz"
                if path.is_file():
                    continue
                split = block_split(index.samples, fold, embargo, duplicates)
                train, test = (split.indices(index.samples, name) for name in ("train", "test"))
                keras.utils.set_random_seed(config.seed)
                model = build_model(model_config, arguments.backbone_weights)
                checkpoint = Checkpoint(Path(temporary) / "fold", {})
                data = (features.draw(train), labels[train])
                fit_head_then_fine_tune(model, data, None, config, checkpoint)
                checkpoint.delete()
                logits = outputs_of(
                    fine_tuned_blocks(model), features.copies[0][test].astype(np.float32)
                )
                gate = fit_novelty(
                    pooled[:, train].reshape(-1, pooled.shape[-1]),
                    np.tile(labels[train], len(pooled)),
                )
                distances = gate.distances(pooled[0, test])
                temporary = path.with_suffix(f".{os.getpid()}.part")
                with temporary.open("wb") as stream:
                    np.savez(stream, rows=test, logits=logits, novelty=distances)
                temporary.replace(path)  # a file that is there is whole
                accuracy = np.mean(logits.argmax(axis=1) == labels[test])
                console.say(f"embargo {embargo}, fold {fold}: {accuracy:.4f} of {len(test)}")


def collect(index, work: Path, embargo: int) -> OutOfFold:
    """The folds of one embargo as one, in the order of the index."""
    parts = []
    for fold in range(FOLDS):
        with np.load(work / f"embargo{embargo}-fold{fold}.npz", allow_pickle=False) as part:
            parts.append((np.full(len(part["rows"]), fold), *(part[n] for n in part.files)))
    folds, rows, logits, novelty = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(rows)
    samples = [index.samples[i] for i in rows[order]]
    return OutOfFold(
        [sample.file for sample in samples],
        folds[order],
        np.array([sample.label for sample in samples]),
        logits[order],
        novelty[order],
    )

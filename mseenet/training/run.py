"""From a dataset to published weights: trains, calibrates, measures, and writes the card."""

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from mseenet import console
from mseenet.config import (
    FROZEN_LAYER,
    TARGET_LAYER,
    ModelConfig,
    RobustConfig,
    TrainingConfig,
)
from mseenet.errors import UsageError
from mseenet.files import write_atomically
from mseenet.inference.calibration import Calibration
from mseenet.inference.card import CARD_NAME, HISTORY_NAME, Card, publish
from mseenet.inference.device import prepare_device
from mseenet.inference.heatmaps import evidence_scale
from mseenet.metrics import fit_temperature, measure, softmax, wilson_interval
from mseenet.training.checkpoint import Checkpoint
from mseenet.training.dataset import (
    index_dataset,
    load_images,
)
from mseenet.training.paper import fit_head_then_all
from mseenet.training.provenance import backbone_record, versions
from mseenet.training.splits import SPLIT_NAMES, random_split, split_csv


@dataclass(frozen=True)
class Job:
    """What one training reads, and where its result goes.

    Attributes:
        data: The dataset's folder.
        out: Gets weights, card, split and history; made if missing.
        config: Settings, which also say the recipe.
        backbone_weights: As for `network.build_backbone`.
        checkpoint: Folder from which an interrupted run goes on; removed at the end.
        cache: Folder that keeps frozen features for other runs; None for the checkpoint's.
        resume: Whether to go on from `checkpoint`.
        command: How the training was started, for the card.
    """

    data: Path
    out: Path
    config: TrainingConfig | RobustConfig
    backbone_weights: str | None
    checkpoint: Path
    cache: Path | None = None
    resume: bool = False
    command: str = ""


def train(job: Job) -> Card:
    """Trains both phases, then calibrates, measures and publishes the result.

    Raises:
        DatasetError: The dataset is not as required.
        TrainingError: The training failed, or its result is useless; old weights stay.
        UsageError: A checkpoint or the backbone's weights are not as asked for.
    """
    config, started = job.config, time.monotonic()
    robust = isinstance(config, RobustConfig)
    model_config = ModelConfig(blank_corner=robust)
    index = index_dataset(job.data, console.progress)
    console.say(index.describe())
    split = random_split(index.samples, config.seed)
    split_content = split_csv(split, index.samples)
    backbone = backbone_record(job.backbone_weights)

    console.import_keras()
    from mseenet.inference.backend import keras
    from mseenet.inference.network import build_model, freeze_batch_normalization, logits_model
    from mseenet.training.loop import outputs_of

    settings = {
        "training": asdict(config),
        "model": asdict(model_config),
        "backbone": backbone,
        "split": hashlib.sha256(split_content).hexdigest(),
        "keras backend": keras.backend.backend(),
    }
    checkpoint = Checkpoint(job.checkpoint, settings)
    if job.resume:
        checkpoint.open()
    elif checkpoint.exists():
        raise UsageError(
            f"{checkpoint.folder}: an interrupted run left a checkpoint; "
            "add --resume to go on, or remove the folder to start anew"
        )

    device = prepare_device()
    images = load_images(index.samples, progress=console.progress)
    labels = index.labels
    rows = {name: split.indices(index.samples, name) for name in SPLIT_NAMES}
    counts = ", ".join(f"{name} {len(r)}" for name, r in rows.items())
    console.say(f"{counts} images; device: {device}")

    keras.utils.set_random_seed(config.seed)
    model = build_model(model_config, job.backbone_weights)
    freeze_batch_normalization(model)
    gate = {}
    if robust:
        from mseenet.training.robust import fit_head_then_fine_tune, frozen_features

        cache = job.cache or checkpoint.folder
        features = frozen_features(model, index.samples, images, config, backbone, cache)
        train = (features.draw(rows["train"]), labels[rows["train"]])
        val = (features.copies[0][rows["val"]].astype(np.float32), labels[rows["val"]])
        fit_head_then_fine_tune(model, train, val, config, checkpoint)
        gate = novelty_gate(features.pooled(), labels, rows)
    else:
        fit_head_then_all(model, images, labels, rows, config, checkpoint)
    network = logits_model(model)

    console.say("measuring")
    val_logits = outputs_of(network, images[rows["val"]], "val")
    test_logits = outputs_of(network, images[rows["test"]], "test")
    refuse_if_useless(val_logits, labels[rows["val"]])
    # One temperature until cross-validation has seen errors on unseen slides.
    calibration = Calibration(fit_temperature(val_logits, labels[rows["val"]]))
    scale = evidence_scale(model, images[rows["val"]])
    split_name = f"split-{split.protocol}-seed{split.seed}.csv"
    job.out.mkdir(parents=True, exist_ok=True)
    (job.out / split_name).write_bytes(split_content)
    write_atomically(
        job.out / HISTORY_NAME,
        json.dumps({name: checkpoint.history(name) for name in checkpoint.phases()}, indent=1)
        + "\n",
    )
    card = publish(
        job.out,
        model,
        {
            "model": asdict(model_config),
            "calibration": calibration.record() | {"fitted_on": "val", "n": len(val_logits)},
            "novelty": gate.get("record"),
            "heatmap": {
                "layer": TARGET_LAYER,
                "scale": scale,
                "unit": "logits per cell",
                "fitted_on": "val",
                "n": len(val_logits),
            },
            "training": {
                "command": job.command,
                "recipe": "robust" if robust else "paper",
                "settings": asdict(config),
                "backbone": backbone,
                "history": HISTORY_NAME,
                "best_epoch": {name: checkpoint.best_epoch(name) for name in checkpoint.phases()},
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
                "minutes": round((time.monotonic() - started) / 60, 1),
                "device": device,
            },
            "split": {
                "protocol": split.protocol,
                "seed": split.seed,
                "file": split_name,
                "sha256": settings["split"],
                "n": {name: len(r) for name, r in rows.items()},
            },
            "metrics": {
                "val": measure(softmax(val_logits, calibration.value), labels[rows["val"]]),
                "test": measure(softmax(test_logits, calibration.value), labels[rows["test"]]),
            },
            "versions": versions(),
            "intended_use": "research only; not a medical device",
        },
        novelty=gate.get("reference"),
    )
    checkpoint.delete()
    for name in ("val", "test"):
        figures = card.content["metrics"][name]
        console.say(
            f"{name}: n {figures['n']}, accuracy {figures['accuracy']:.4f}, mcc {figures['mcc']:.4f}"
        )
    console.say(f"wrote {card.weights_path} and {job.out / CARD_NAME}")
    return card


def novelty_gate(pooled: np.ndarray, labels: np.ndarray, rows: dict[str, np.ndarray]) -> dict:
    """The reference of the novelty gate, and what the card says of it.

    Args:
        pooled: Of `FrozenFeatures.pooled`, (copies, N, D).
        labels: (N,).
        rows: Positions of the images of "train" and "val".
    """
    from mseenet.inference.novelty import fit_novelty, thresholds

    train = rows["train"]
    reference = fit_novelty(
        pooled[:, train].reshape(-1, pooled.shape[-1]), np.tile(labels[train], len(pooled))
    )
    review, reject = thresholds(reference.distances(pooled[0, rows["val"]]))
    record = {
        "layer": FROZEN_LAYER,
        "review": review,
        "reject": reject,
        "fitted_on": "train, with augmented, compressed and dimmed copies",
        "thresholds_from": "val",
        "n": len(rows["val"]),
    }
    return {"reference": reference, "record": record}


def refuse_if_useless(logits: np.ndarray, labels: np.ndarray) -> None:
    """Raises `TrainingError` for a network that is no better than chance on `val`."""
    from mseenet.training.loop import TrainingError

    correct = int(np.sum(logits.argmax(axis=1) == labels))
    chance = np.bincount(labels).max() / len(labels)
    lowest, _ = wilson_interval(correct, len(labels))
    if not np.isfinite(logits).all() or lowest <= chance:
        raise TrainingError(
            f"{correct} of {len(labels)} validation images are right, which is not better than "
            f"always naming the largest class ({chance:.1%}); the weights were not replaced"
        )

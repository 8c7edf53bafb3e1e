"""From a dataset to published weights: prepare, fit, measure, publish."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from mseenet import console
from mseenet.config import (
    TARGET_LAYER,
    CellsConfig,
    ModelConfig,
    RobustConfig,
    TrainingConfig,
    recipe_name,
)
from mseenet.errors import UsageError
from mseenet.files import FEATURES_PURPOSE, one_writer, own_folder, remove_own_folder
from mseenet.inference.calibration import Calibration, fit_calibration
from mseenet.inference.card import CARD_NAME, Card, publish, refuse_foreign_release
from mseenet.inference.device import prepare_device
from mseenet.inference.novelty import Novelty
from mseenet.metrics import measure, softmax, wilson_interval
from mseenet.training.checkpoint import PURPOSE as CHECKPOINT_PURPOSE
from mseenet.training.checkpoint import Checkpoint, UselessError
from mseenet.training.dataset import DatasetIndex, index_dataset, load_images
from mseenet.training.gate import novelty_gate
from mseenet.training.provenance import backbone_record, versions
from mseenet.training.splits import SPLIT_NAMES, Split, random_split, split_csv

PURPOSE = "training"
"""What the marker of a checkpoint's folder says that it is for."""


@dataclass(frozen=True)
class Job:
    """What one training reads, and where its result goes.

    Attributes:
        data: The dataset's folder.
        out: Gets weights, card, split and history; made if missing.
        config: Settings, which also say the recipe.
        backbone_weights: As for `network.build_backbone`.
        checkpoint: Folder of its own from which an interrupted run goes on; removed at the end.
        cache: Folder that keeps frozen features for other runs; None for the checkpoint's.
        resume: Whether to go on from `checkpoint`.
        command: How the training was started, for the card.
    """

    data: Path
    out: Path
    config: TrainingConfig | RobustConfig
    backbone_weights: str | Path | None
    checkpoint: Path
    cache: Path | None = None
    resume: bool = False
    command: str = ""

    @property
    def model_config(self) -> ModelConfig:
        """All recipes but the paper's blank the corner with the scale bar inside the network."""
        return ModelConfig(blank_corner=isinstance(self.config, RobustConfig))


@dataclass(frozen=True)
class Inputs:
    """What a training works on.

    Attributes:
        index: The images' records.
        images: RGB pixels, uint8 (N, 224, 224, 3) in [0, 255].
        labels: int (N,).
        split: Which image serves for what.
        split_content: The split's file.
        rows: Positions of the images of "train", "val" and "test".
        backbone: Where the backbone's weights come from.
    """

    index: DatasetIndex
    images: np.ndarray
    labels: np.ndarray
    split: Split
    split_content: bytes
    rows: dict[str, np.ndarray]
    backbone: dict


@dataclass(frozen=True)
class Measured:
    """What is known of a trained network.

    Attributes:
        calibration: Fitted on "val", one temperature: errors on unseen slides, from which a
            slope could be told, are known after cross-validation only.
        heatmap_scale: See `heatmaps.evidence_scale`.
        metrics: Of `metrics.measure`, for "val" and "test".
    """

    calibration: Calibration
    heatmap_scale: float
    metrics: dict[str, dict]


def train(job: Job) -> Card:
    """Trains both phases, then calibrates, measures and publishes the result.

    Raises:
        DatasetError: The dataset is not as required.
        TrainingError: The training failed, or its result is useless; old weights stay.
        UsageError: A folder, the checkpoint, the backbone's weights or an installed package is
            not as asked for, or another training writes to the same place.
    """
    started = time.monotonic()
    check_before_work(job)
    with one_writer(job.out):
        own_folder(job.checkpoint, PURPOSE)
        try:
            with one_writer(job.checkpoint):
                inputs = prepare(job)
                checkpoint = open_checkpoint(job, inputs)
                model, gate, kept = fit(job, inputs, checkpoint)
                try:
                    measured = measure_network(model, inputs)
                except UselessError:
                    # Nothing to go on from: --resume would only come to the same refusal.
                    discard(checkpoint, kept)
                    raise
                card = publish_result(job, inputs, checkpoint, model, gate, measured, started)
                discard(checkpoint, kept)
        finally:  # keeps whatever is still needed to go on
            for folder, purpose in (
                (checkpoint_folder(job.checkpoint), CHECKPOINT_PURPOSE),
                (features_folder(job.checkpoint), FEATURES_PURPOSE),
                (job.checkpoint, PURPOSE),
            ):
                remove_own_folder(folder, purpose)
    for name, figures in measured.metrics.items():
        console.say(
            f"{name}: n {figures['n']}, accuracy {figures['accuracy']:.4f}, mcc {figures['mcc']:.4f}"
        )
    console.say(f"wrote {card.weights_path} and {job.out / CARD_NAME}")
    return card


def discard(checkpoint: Checkpoint, kept: Sequence[Path]) -> None:
    """Removes what an interrupted run would have gone on from."""
    checkpoint.delete()
    for path in kept:
        path.unlink(missing_ok=True)


def checkpoint_folder(folder: Path) -> Path:
    """Where in a job's folder the state and the weights of an interrupted run are."""
    return folder / "run"


def features_folder(folder: Path) -> Path:
    """Where in a job's folder the frozen features are if no cache was named."""
    return folder / "features"


def check_before_work(job: Job) -> None:
    """Refuses what would otherwise fail after minutes of work.

    Raises:
        UsageError: A package is missing, or a folder is not for this.
    """
    if isinstance(job.config, RobustConfig):
        console.require("sklearn", "train")
    refuse_foreign_release(job.out)
    folders = {"--out": job.out, "--checkpoint": job.checkpoint, "--cache": job.cache}
    named = [(name, path.resolve()) for name, path in folders.items() if path is not None]
    for i, (name, path) in enumerate(named):
        for other, same in named[:i]:
            if path == same:
                raise UsageError(f"expected different folders for {other} and {name}, got {path}")
    if job.cache is not None:
        own_folder(job.cache, FEATURES_PURPOSE)


def prepare(job: Job) -> Inputs:
    """Reads the dataset, divides it and says what was found."""
    index = index_dataset(job.data, console.progress)
    console.say(index.describe())
    split = random_split(index.samples, job.config.seed)
    backbone = backbone_record(job.backbone_weights)
    images = load_images(index.samples, progress=console.progress)
    rows = {name: split.indices(index.samples, name) for name in SPLIT_NAMES}
    counts = ", ".join(f"{name} {len(r)}" for name, r in rows.items())
    console.say(f"{counts} images")
    content = split_csv(split, index.samples)
    return Inputs(index, images, index.labels, split, content, rows, backbone)


def open_checkpoint(job: Job, inputs: Inputs) -> Checkpoint:
    """The checkpoint to go on from, or to be made.

    Raises:
        TrainingError: There is none to resume, or it is of other settings.
        UsageError: There is one, and the job does not say what is to become of it.
    """
    settings = {
        "training": asdict(job.config),
        "model": asdict(job.model_config),
        "backbone": inputs.backbone,
        "split": hashlib.sha256(inputs.split_content).hexdigest(),
    }
    checkpoint = Checkpoint(checkpoint_folder(job.checkpoint), settings)
    if job.resume:
        checkpoint.open()
    elif checkpoint.exists():
        raise UsageError(
            f"{job.checkpoint}: an interrupted run left a checkpoint; "
            "add --resume to go on, or remove the folder to start anew"
        )
    return checkpoint


def fit(
    job: Job, inputs: Inputs, checkpoint: Checkpoint
) -> tuple[Any, tuple[Novelty, dict] | None, tuple[Path, ...]]:
    """Builds the network and trains it by the job's recipe.

    Returns:
        The `keras.Model` of `build_model`; the reference of the novelty gate and what the card
        says of it, None for the paper's recipe; files that the checkpoint no longer needs once
        the result is published.
    """
    console.import_keras()
    from mseenet.inference.backend import keras
    from mseenet.inference.network import build_model, freeze_batch_normalization
    from mseenet.training.cells import donated_features, mixture
    from mseenet.training.loop import Training
    from mseenet.training.paper import fit_head_then_all
    from mseenet.training.robust import fit_head_then_fine_tune, frozen_features

    config, labels, rows = job.config, inputs.labels, inputs.rows
    console.say(f"device: {prepare_device()}")
    # Keras numbers unnamed layers through the process and writes the names into the weights
    # file: only so is its hash the same whatever was built before.
    keras.utils.clear_session()
    keras.utils.set_random_seed(config.seed)
    model = build_model(job.model_config, job.backbone_weights)
    freeze_batch_normalization(model)
    if isinstance(config, TrainingConfig):
        fit_head_then_all(model, inputs.images, labels, rows, config, checkpoint)
        return model, None, ()

    cache = job.cache or features_folder(job.checkpoint)
    features = frozen_features(
        model, inputs.index.samples, inputs.images, config, inputs.backbone, cache
    )
    files = features.files
    train: Training = (features.draw(rows["train"]), labels[rows["train"]])
    if isinstance(config, CellsConfig):
        samples, chosen = inputs.index.samples, rows["train"]
        donated = donated_features(model, samples, inputs.images, config, inputs.backbone, cache)
        train = mixture(features, donated, samples, chosen, config)
        files += donated.files
    val = (features.copies[0][rows["val"]].astype(np.float32), labels[rows["val"]])
    fit_head_then_fine_tune(model, train, val, config, checkpoint)
    gate = novelty_gate(features.pooled(), labels, rows)
    return model, gate, () if job.cache else files


def measure_network(model, inputs: Inputs) -> Measured:
    """Calibrates and measures on "val", and measures on "test".

    Raises:
        UselessError: The network is no better than chance on "val".
    """
    from mseenet.inference.heatmaps import evidence_scale
    from mseenet.inference.network import logits_model
    from mseenet.training.loop import outputs_of

    console.say("measuring")
    network = logits_model(model)
    parts = {name: inputs.rows[name] for name in ("val", "test")}
    logits = {name: outputs_of(network, inputs.images[rows], name) for name, rows in parts.items()}
    refuse_if_useless(logits["val"], inputs.labels[parts["val"]])
    calibration = fit_calibration(logits["val"], None, inputs.labels[parts["val"]])
    return Measured(
        calibration,
        evidence_scale(model, inputs.images[parts["val"]]),
        {
            name: measure(softmax(logits[name], calibration.value), inputs.labels[rows])
            for name, rows in parts.items()
        },
    )


def publish_result(
    job: Job,
    inputs: Inputs,
    checkpoint: Checkpoint,
    model,
    gate: tuple[Novelty, dict] | None,
    measured: Measured,
    started: float,
) -> Card:
    """Writes weights, novelty reference, split, history and the card that describes them.

    Args:
        job: What was asked for.
        inputs: What it was trained on.
        checkpoint: Holds the history.
        model: The trained `keras.Model`.
        gate: Of `fit`.
        measured: Of `measure_network`.
        started: When the training began, `time.monotonic()`.
    """
    n_val = len(inputs.rows["val"])
    reference, novelty = gate or (None, None)
    phases = checkpoint.phases()
    content = {
        "model": asdict(job.model_config),
        "calibration": measured.calibration.record() | {"fitted_on": "val", "n": n_val},
        "novelty": novelty,
        "heatmap": {
            "layer": TARGET_LAYER,
            "scale": measured.heatmap_scale,
            "unit": "logits per cell",
            "fitted_on": "val",
            "n": n_val,
        },
        "training": {
            "command": job.command,
            "recipe": recipe_name(job.config),
            "settings": asdict(job.config),
            "backbone": inputs.backbone,
            "best_epoch": {name: checkpoint.best_epoch(name) for name in phases},
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "minutes": round((time.monotonic() - started) / 60, 1),
            "device": prepare_device(),
        },
        "split": {
            "protocol": inputs.split.protocol,
            "seed": inputs.split.seed,
            "n": {name: len(rows) for name, rows in inputs.rows.items()},
        },
        "metrics": measured.metrics,
        "versions": versions(),
        "intended_use": "research only; not a medical device",
    }
    return publish(
        job.out,
        model,
        content,
        novelty=reference,
        history={name: checkpoint.history(name) for name in phases},
        split=inputs.split_content,
    )


def refuse_if_useless(logits: np.ndarray, labels: np.ndarray) -> None:
    """Raises `UselessError` for a network that is no better than chance on `val`."""
    correct = int(np.sum(logits.argmax(axis=1) == labels))
    chance = np.bincount(labels).max() / len(labels)
    lowest, _ = wilson_interval(correct, len(labels))
    if not np.isfinite(logits).all() or lowest <= chance:
        raise UselessError(
            f"{correct} of {len(labels)} validation images are right, which is not better than "
            f"always naming the largest class ({chance:.1%}); the weights were not replaced"
        )

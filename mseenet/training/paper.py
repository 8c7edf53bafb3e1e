"""The paper's recipe: the head on a frozen backbone, then all layers; no augmentation."""

import numpy as np

from mseenet.config import TrainingConfig
from mseenet.inference.backend import keras
from mseenet.inference.network import feature_extractor, head_on_features, logits_model
from mseenet.training.checkpoint import Checkpoint
from mseenet.training.loop import outputs_of, run_phase


def fit_head_then_all(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    rows: dict[str, np.ndarray],
    config: TrainingConfig,
    checkpoint: Checkpoint,
) -> None:
    """Trains the head on features of the frozen backbone, then all layers.

    Args:
        model: Of `build_model`, with the backbone's weights; trained in place.
        images: RGB pixels, uint8 (N, 224, 224, 3) in [0, 255].
        labels: int (N,).
        rows: Positions of the images of "train" and "val".
        config: Settings of the phases.
        checkpoint: To go on from, and kept up to date.
    """
    if not checkpoint.knows("fine_tune"):
        extractor = feature_extractor(model)
        train, val = (
            (outputs_of(extractor, images[rows[name]], f"features of {name}"), labels[rows[name]])
            for name in ("train", "val")
        )
        run_phase("head", head_on_features(model), train, val, config, checkpoint)
        del train, val  # 250 kB an image
    train, val = ((images[rows[name]], labels[rows[name]]) for name in ("train", "val"))
    run_phase("fine_tune", logits_model(model), train, val, config, checkpoint)

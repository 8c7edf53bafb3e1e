"""What a smoke run trains on: rendered images, and a random backbone that can be trained.

No download, no dataset: both are made anew from a seed. The classes differ in stain,
density and focus, so that training which works tells them apart without an error.
"""

from pathlib import Path

from PIL import Image

from mseenet.config import CLASS_NAMES, CellsConfig, PhaseConfig, RobustConfig, TrainingConfig
from mseenet.files import ensure_room
from mseenet.imaging.synthetic import STYLES, render_field
from mseenet.inference.card import room_for

PER_CLASS = 20
"""Images of each class: 16 to train, 2 to validate, 2 to test."""

SPACING = 200
"""Distance of file numbers, more than any embargo: each image counts as a slide of its own."""

SMOKE_SETTINGS: dict[str, TrainingConfig | RobustConfig] = {
    "paper": TrainingConfig(
        batch_size=8,
        head=PhaseConfig(epochs=10, learning_rate=2e-3, patience=10, plateau_patience=10),
        fine_tune=PhaseConfig(epochs=1, learning_rate=1e-6),
    ),
    # The classes differ most in stain: styles are not mixed, and few fields change in colour.
    "robust": RobustConfig(
        batch_size=8,
        copies=1,
        unchanged=0.9,
        mixed=0.0,
        head=PhaseConfig(epochs=6, learning_rate=2e-3, cosine=True),
        fine_tune=PhaseConfig(epochs=1, learning_rate=1e-6, cosine=True),
    ),
    # So does the ground here: few drawn fields lie on another one.
    "cells": CellsConfig(
        batch_size=8,
        copies=1,
        donated=1,
        unchanged=0.85,
        transplanted=0.02,
        scattered=0.02,
        emptied=0.02,
        mixed=0.0,
        head=PhaseConfig(epochs=6, learning_rate=2e-3, cosine=True),
        fine_tune=PhaseConfig(epochs=1, learning_rate=1e-6, cosine=True),
    ),
}
"""Settings by recipe: few epochs, and small steps where the random blocks are tuned."""


def write_smoke_data(folder: Path, per_class: int = PER_CLASS) -> None:
    """Writes rendered fields in the layout of the dataset, a class folder for each style.

    Args:
        folder: Made if missing.
        per_class: Images in each class.
    """
    for label, (class_name, style) in enumerate(zip(CLASS_NAMES, STYLES, strict=True)):
        (folder / class_name).mkdir(parents=True, exist_ok=True)
        for i in range(per_class):
            field = Image.fromarray(render_field(style, seed=10_000 * label + i))
            field.save(folder / class_name / f"rendered-{SPACING * (i + 1):05d}.png")


def write_smoke_backbone(path: Path, seed: int) -> None:
    """Writes a random backbone on whose features a head can be trained.

    In a plain random one, activations fade from layer to layer to a hundredth or a thousandth
    of what ImageNet's weights give, as the seed falls, so that no learning rate suits the
    head; and the branches that stochastic depth drops in training are as large as what they
    are added to, so that training and validation see different features. Here each residual
    block begins as the identity, and the last batch normalisation has the statistics of
    rendered images.

    Reference:
        P. Goyal et al., "Accurate, Large Minibatch SGD" (2017), section 5.1, for residual
        branches that begin at zero.

    Args:
        path: Gets the weights, `.weights.h5`.
        seed: Of the random weights.
    """
    import numpy as np

    from mseenet.inference.backend import keras
    from mseenet.inference.network import build_backbone

    fields = [
        render_field(style, seed=5_000 + 10_000 * label + i)
        for label, style in enumerate(STYLES)
        for i in range(2)
    ]
    keras.utils.clear_session()  # so that the file's hash depends on the seed alone
    keras.utils.set_random_seed(seed)
    backbone = build_backbone(None)
    for layer in backbone.layers:
        if layer.name.endswith("_add"):
            normalization = backbone.get_layer(layer.name.replace("_add", "_project_bn"))
            normalization.gamma.assign(np.zeros(normalization.gamma.shape))
    last = backbone.get_layer("top_bn")
    before = keras.Model(backbone.input, last.input).predict_on_batch(np.stack(fields))
    mean, variance = before.mean(axis=(0, 1, 2)), before.var(axis=(0, 1, 2))  # (1280,)
    # Keras adds epsilon, which may be a thousand times such a variance, before the root.
    scale = np.sqrt((variance + last.epsilon) / variance)
    last.set_weights([scale, np.zeros_like(mean), mean, variance])
    ensure_room(path.parent, room_for(backbone))
    backbone.save_weights(path, overwrite=True)

"""MSEENet: EfficientNetV2B0 followed by an inception-style multi-scale module.

Reference:
    Najjar, Kadum and Hassan, "Integrating Multi-scale Feature Extraction into
    EfficientNet for Acute Lymphoblastic Leukemia Classification" (2025), Figs. 1-2.
"""

import os
from pathlib import Path

import numpy as np

from mseenet.config import (
    CLASS_NAMES,
    FEATURE_LAYER,
    FROZEN_LAYER,
    IMAGE_SIZE,
    SCALE_BAR_CORNER,
    TARGET_LAYER,
    ModelConfig,
)
from mseenet.errors import UsageError
from mseenet.inference.backend import keras

layers = keras.layers

CORNER = SCALE_BAR_CORNER / IMAGE_SIZE
"""Side of the blanked bottom-right corner, as a proportion of the image's: 37 of 224 pixels,
which hold the burned-in scale bars of the dataset, of several styles that tell its slides
apart."""


def build_backbone(weights: str | Path | None = None, image_size: int = IMAGE_SIZE) -> keras.Model:
    """Builds EfficientNetV2B0 without its classifier.

    The graph begins with a rescaling layer (x / 255, the paper's [0, 1]) and a
    normalisation layer (ImageNet's mean and variance): feed raw pixels, never scaled ones.

    Args:
        weights: None for random weights, "imagenet" to download Keras's own, or the path
            of a `.weights.h5` file of this bare backbone.
        image_size: Height and width of the input, in pixels.

    Returns:
        A model from RGB float32 in [0, 255], (B, image_size, image_size, 3), to float32
        features, (B, image_size / 32, image_size / 32, 1280).

    Raises:
        UsageError: The file is missing or does not fit, or the download failed.
    """
    shape = (image_size, image_size, 3)
    try:
        if weights is None or weights == "imagenet":
            return keras.applications.EfficientNetV2B0(
                include_top=False, weights=weights, input_shape=shape
            )
        if not os.path.isfile(weights):
            raise UsageError(
                f"backbone weights: expected a .weights.h5 file, found none at {weights}"
            )
        backbone = keras.applications.EfficientNetV2B0(
            include_top=False, weights=None, input_shape=shape
        )
        backbone.load_weights(weights)
        return backbone
    except UsageError:
        raise
    except Exception as error:  # Keras raises bare Exception for a failed download
        source = "ImageNet download" if weights == "imagenet" else weights
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(
            f"backbone weights: could not use {source} ({reason}); "
            "pass --backbone-weights FILE on a machine without a network"
        ) from error


def inception_module(features: keras.KerasTensor, config: ModelConfig) -> keras.KerasTensor:
    """Looks at the features at three scales in parallel (the paper's Fig. 2, right).

    1x1, 3x3 and 5x5 convolutions, the larger two behind 1x1 reductions, and a 3x3
    max-pooling with a 1x1 projection; all "same" padded and followed by ReLU.

    Args:
        features: Feature map, float32 (B, H, W, C).
        config: Widths of the branches.

    Returns:
        The concatenated branches, float32 >= 0,
        (B, H, W, filters_1x1 + filters_3x3 + filters_5x5 + filters_pool).
    """

    def conv(x, filters: int, size: int, name: str):
        return layers.Conv2D(
            filters,
            size,
            padding="same",
            activation="relu",
            kernel_initializer="he_normal",
            name=f"inception_{name}",
        )(x)

    branch_1x1 = conv(features, config.filters_1x1, 1, "1x1")
    branch_3x3 = conv(features, config.reduce_3x3, 1, "3x3_reduce")
    branch_3x3 = conv(branch_3x3, config.filters_3x3, 3, "3x3")
    branch_5x5 = conv(features, config.reduce_5x5, 1, "5x5_reduce")
    branch_5x5 = conv(branch_5x5, config.filters_5x5, 5, "5x5")
    pooled = layers.MaxPooling2D(3, strides=1, padding="same", name="inception_pool")(features)
    pooled = conv(pooled, config.filters_pool, 1, "pool_project")
    return layers.Concatenate(name=TARGET_LAYER)([branch_1x1, branch_3x3, branch_5x5, pooled])


def build_model(
    config: ModelConfig = ModelConfig(),
    backbone_weights: str | Path | None = None,
    image_size: int = IMAGE_SIZE,
) -> keras.Model:
    """Builds the whole network as one flat graph.

    Behind the inception module: global average pooling, dropout, one dense layer
    (`logits`) and a softmax (`probabilities`). The paper leaves the classifier open; a
    single linear layer on pooled features makes every logit a sum over image positions,
    so that Grad-CAM is exact and free (see `mseenet.inference.heatmaps`).

    Args:
        config: Widths of the head.
        backbone_weights: As in `build_backbone`.
        image_size: Height and width of the input, in pixels.

    Returns:
        A model from RGB in [0, 255], float32 (B, image_size, image_size, 3), to
        uncalibrated probabilities, float32 (B, 4), in the order of `CLASS_NAMES`.
    """
    build = _build_behind_blanked_corner if config.blank_corner else build_backbone
    backbone = build(backbone_weights, image_size)
    x = inception_module(backbone.output, config)  # (B, 7, 7, 384)
    x = layers.GlobalAveragePooling2D(name="pooled")(x)  # (B, 384)
    x = layers.Dropout(config.dropout, name="dropout")(x)
    x = layers.Dense(len(CLASS_NAMES), name="logits")(x)  # (B, 4)
    probabilities = layers.Softmax(name="probabilities")(x)
    return keras.Model(backbone.input, probabilities, name="mseenet")


def blank_corner(images: keras.KerasTensor) -> keras.KerasTensor:
    """Fills the corner with the scale bar with the image's own bright background.

    Args:
        images: RGB in [0, 255], float32 (B, H, W, 3).

    Returns:
        The same, with the bottom-right square of side `CORNER` replaced by the upper
        quartile of each channel of the image (the plasma between the cells).
    """
    _, height, width, _ = images.shape
    rows, columns = round(CORNER * height), round(CORNER * width)
    corner = np.zeros((1, height, width, 1), np.float32)
    corner[:, -rows:, -columns:] = 1
    # Every fourth pixel says the same, for a sixteenth of the sorting.
    sample = keras.ops.reshape(images[:, ::4, ::4, :], (-1, (height // 4) * (width // 4), 3))
    order = keras.ops.sort(sample, axis=1)
    background = order[:, (3 * order.shape[1]) // 4, :][:, None, None, :]
    return images * (1 - corner) + background * corner


def _build_behind_blanked_corner(weights: str | Path | None, image_size: int) -> keras.Model:
    """As `build_backbone`, reading images whose corner is blanked, in one flat graph."""
    # What is not taken from a bare backbone needs none: building one takes a second.
    bare = None if weights is None else build_backbone(weights, image_size)
    shape = (image_size, image_size, 3)
    images = keras.Input(shape)
    behind = keras.applications.EfficientNetV2B0(
        include_top=False, weights=None, input_tensor=blank_corner(images), input_shape=shape
    )
    if bare is not None:
        behind.set_weights(bare.get_weights())
    return keras.Model(images, behind.output)


def frozen_blocks(model: keras.Model) -> keras.Model:
    """The part of `model` that the robust recipe keeps as ImageNet left it.

    Sharing its weights: image -> output of `FROZEN_LAYER`, (B, 14, 14, 96).
    """
    return keras.Model(model.input, model.get_layer(FROZEN_LAYER).output, name="frozen")


def fine_tuned_blocks(model: keras.Model) -> keras.Model:
    """The part of `model` above the frozen blocks, sharing its weights: (B, 14, 14, 96) -> logits."""
    features = model.get_layer(FROZEN_LAYER).output
    return keras.Model(features, model.get_layer("logits").output, name="fine_tune")


def feature_extractor(model: keras.Model) -> keras.Model:
    """The backbone inside `model`, sharing its weights: image -> features."""
    return keras.Model(model.input, model.get_layer(FEATURE_LAYER).output, name="backbone")


def head_on_features(model: keras.Model) -> keras.Model:
    """The head inside `model`, sharing its weights: features -> logits, (B, 4)."""
    features = model.get_layer(FEATURE_LAYER).output
    return keras.Model(features, model.get_layer("logits").output, name="head")


def logits_model(model: keras.Model) -> keras.Model:
    """The whole of `model` up to its logits, sharing its weights: image -> (B, 4)."""
    return keras.Model(model.input, model.get_layer("logits").output, name="mseenet_logits")


def freeze_backbone(model: keras.Model, frozen: bool) -> None:
    """Leaves only the head trainable, or all layers but batch normalisation again."""
    in_head = False
    for layer in model.layers:
        layer.trainable = in_head or not frozen
        in_head = in_head or layer.name == FEATURE_LAYER
    freeze_batch_normalization(model)


def freeze_batch_normalization(model: keras.Model) -> None:
    """Makes every batch-normalisation layer use its stored statistics, in training too."""
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = False

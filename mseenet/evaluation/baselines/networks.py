"""The methods that Keras trains; it is imported where needed, so that --help is fast."""

import math
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from mseenet import console
from mseenet.config import CLASS_NAMES, FROZEN_LAYER, ModelConfig, RobustConfig
from mseenet.evaluation.baselines.protocol import BATCH_SIZE, Answer, Inputs, Task, forward

LEARNING_RATE = 1e-3
HEAD_EPOCHS = 6

PLAIN_WIDTH = 384
"""Of the plain head's layer: what the inception module has channels."""


def plain_head(inputs: Inputs, task: Task) -> Answer:
    """Pooling, dense with ReLU, dropout: as wide and nearly as large as the inception head."""
    keras = _seeded_keras(task.seed)
    # Pooling comes first and has no weights: reading the pooled features is the same network.
    features = keras.Input(inputs.pooled.shape[1:])
    x = keras.layers.Dense(PLAIN_WIDTH, activation="relu")(features)
    return _train(_classifier(keras, features, x), inputs.pooled, inputs.labels, task, HEAD_EPOCHS)


def inception_head(inputs: Inputs, task: Task) -> Answer:
    """MSEENet's head: the inception module, pooling, dropout."""
    from mseenet.inference.network import inception_module

    keras = _seeded_keras(task.seed)
    features = keras.Input(inputs.features.shape[1:])
    x = inception_module(features, ModelConfig())
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = _classifier(keras, features, x)
    return _train(model, inputs.features, inputs.labels, task, HEAD_EPOCHS)


def plain_fine_tuned(inputs: Inputs, task: Task) -> Answer:
    """The plain head and the backbone above the frozen blocks, trained by the robust recipe."""
    from mseenet.inference.network import build_backbone

    keras = _seeded_keras(task.seed)
    backbone = build_backbone(inputs.backbone_weights)
    x = keras.layers.GlobalAveragePooling2D()(backbone.output)
    x = keras.layers.Dense(PLAIN_WIDTH, activation="relu")(x)
    x = keras.layers.Dropout(ModelConfig().dropout)(x)
    x = keras.layers.Dense(len(CLASS_NAMES), name="logits")(x)
    return _fine_tune(keras.Model(backbone.input, x), inputs, task)


def inception_fine_tuned(inputs: Inputs, task: Task) -> Answer:
    """MSEENet: the inception head and the backbone above the frozen blocks, trained likewise."""
    from mseenet.inference.network import build_model

    _seeded_keras(task.seed)
    return _fine_tune(build_model(ModelConfig(), inputs.backbone_weights), inputs, task)


def own_cnn(inputs: Inputs, task: Task) -> Answer:
    """Four convolutions with batch normalisation at 112x112, from scratch."""
    keras = _seeded_keras(task.seed)
    pixels = keras.Input((112, 112, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(pixels)
    for filters in (16, 32, 64, 128):
        if filters > 16:
            x = keras.layers.MaxPooling2D()(x)
        x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.Activation("relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)  # (B, 128)
    return _train_from_scratch(_classifier(keras, pixels, x), inputs, task)


def mobilenet_v2(inputs: Inputs, task: Task) -> Answer:
    """MobileNetV2 at 96x96, from scratch."""
    return _application("MobileNetV2", "mobilenet_v2", 96, inputs, task)


def resnet50(inputs: Inputs, task: Task) -> Answer:
    """ResNet50 at 64x64, from scratch."""
    return _application("ResNet50", "resnet50", 64, inputs, task)


def _application(name: str, module: str, size: int, inputs: Inputs, task: Task) -> Answer:
    """A network of `keras.applications`, from random weights.

    Transfer from ImageNet is what the linear probe measures. That these networks start from
    nothing also makes the row the same with and without a connection to download weights.
    """
    keras = _seeded_keras(task.seed)
    pixels = keras.Input((size, size, 3))
    prepared = getattr(keras.applications, module).preprocess_input(pixels)
    options = {"include_top": False, "weights": None, "pooling": "avg"}
    network = getattr(keras.applications, name)(**options, input_tensor=prepared)
    return _train_from_scratch(_classifier(keras, pixels, network.output), inputs, task)


def _seeded_keras(seed: int):
    """Keras, having forgotten earlier networks, which would pile up over many runs."""
    from mseenet.inference.backend import keras

    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    return keras


def _classifier(keras, inputs, pooled):
    """Dropout and one dense layer behind pooled features (B, D) -> logits (B, 4)."""
    x = keras.layers.Dropout(ModelConfig().dropout)(pooled)
    return keras.Model(inputs, keras.layers.Dense(len(CLASS_NAMES))(x))


def _fine_tune(model, inputs: Inputs, task: Task) -> Answer:
    """What a fold of `mseenet.evaluation.crossvalidation` does, with the seed of the task."""
    from mseenet.inference.network import fine_tuned_blocks
    from mseenet.training.checkpoint import Checkpoint
    from mseenet.training.robust import fit_head_then_fine_tune

    features, config = inputs.frozen, replace(RobustConfig(), seed=task.seed)
    train = (features.draw(task.train), inputs.labels[task.train])
    with tempfile.TemporaryDirectory() as folder:
        fit_head_then_fine_tune(model, train, None, config, Checkpoint(Path(folder, "run"), {}))
    network = fine_tuned_blocks(model)
    facts = {
        "trained": f"trained above {FROZEN_LAYER}",
        "epochs": config.fine_tune.epochs,
        "parameters": network.count_params(),
    }
    return forward(network, features.copies[0][task.test]).argmax(axis=1), facts


def _train_from_scratch(model, inputs: Inputs, task: Task) -> Answer:
    for layer in model.layers:
        if hasattr(layer, "moving_mean"):
            # Keras's 0.99 averages over more steps than a short training has.
            layer.momentum = 0.9
    size = model.input.shape[1]
    # 40 epochs at most; the time limit usually comes first.
    predicted, facts = _train(model, inputs.images(size), inputs.labels, task, 40, inputs.minutes)
    return predicted, {"weights": f"from scratch at {size}x{size}", **facts}


def _train(
    model, inputs: np.ndarray, labels: np.ndarray, task: Task, epochs: int, minutes=math.inf
) -> Answer:
    """Adam until `epochs` or `minutes` are over; the rate falls as a cosine to that end.

    Inputs and labels are those of all images, (N, ...) and (N,). Pixels, which are uint8, are
    mirrored at random both ways.
    """
    from mseenet.inference.backend import keras

    optimizer = keras.optimizers.Adam(LEARNING_RATE)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    random = np.random.default_rng(task.seed)
    steps = math.ceil(len(task.train) / BATCH_SIZE)
    started, step, done = time.monotonic(), 0, 0.0
    while done < 1:
        batches = np.array_split(random.permutation(task.train), steps)
        for rows in console.progress(batches, f"epoch {step // steps + 1}"):
            optimizer.learning_rate = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * done))
            batch = inputs[rows].astype(np.float32)
            for axis in (1, 2) if inputs.dtype == np.uint8 else ():
                chosen = random.random(len(batch)) < 0.5
                batch[chosen] = np.flip(batch[chosen], axis)
            model.train_on_batch(batch, labels[rows])
            step += 1
            elapsed = (time.monotonic() - started) / 60
            done = max(step / (epochs * steps), elapsed / minutes)
            if done >= 1:
                break
    facts = {"epochs": step / steps, "parameters": model.count_params()}
    if minutes < math.inf:
        facts["minutes of training"] = elapsed
    return forward(model, inputs[task.test]).argmax(axis=1), facts

"""The training loop: epochs, early stopping, and checkpoints to go on from."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from mseenet.config import PhaseConfig, RobustConfig, TrainingConfig
from mseenet.inference.backend import keras
from mseenet.metrics import cross_entropy
from mseenet.training.checkpoint import Checkpoint, PhaseState, TrainingError

SHOWN = ("loss", "val_accuracy")
"""Figures of the latest epoch beside the progress bar."""

WARM_UP = 0.1
"""Proportion of all steps in which the rate of a cosine schedule rises."""

Draw = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""Makes a batch of training inputs: (rows int (B,), generator) -> (B, ...)."""


@dataclass(frozen=True)
class Mixture:
    """Training images that are drawn unequally often, with a target of their own each time.

    Attributes:
        draw: Makes a batch: (rows int (B,), generator) -> inputs (B, ...), and the probability
            that each class should get, float32 (B, C).
        chances: Probability of each image to be drawn next, float64 (N,); an epoch draws N.
    """

    draw: Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]
    chances: np.ndarray


Training = tuple[np.ndarray | Draw, np.ndarray] | Mixture
"""What a phase trains on: inputs (N, ...), or what draws a batch of them, and labels int
(N,), each image once an epoch; or a mixture."""


def run_phase(
    name: str,
    model: keras.Model,
    train: Training,
    val: tuple[np.ndarray, np.ndarray] | None,
    config: TrainingConfig | RobustConfig,
    checkpoint: Checkpoint,
) -> None:
    """Trains `model` and leaves it with the weights of its best epoch.

    The order of the images and the seeds of dropout are drawn anew for each epoch from
    (seed, phase, epoch) alone: an interrupted run that goes on gives the result of one
    that was not interrupted.

    Args:
        name: Of the phase, a field of `config`.
        model: Inputs -> logits (B, C); its trainable weights are trained.
        train: Inputs and labels, or a mixture.
        val: Inputs and labels for early stopping, learning rate and choice of the epoch;
            a phase with a cosine schedule chooses nothing and needs none.
        config: Settings of the phase, batch size and seed.
        checkpoint: Goes on from there if it knows the phase; kept up to date. It holds
            the history in the end.

    Raises:
        TrainingError: The loss is no longer a finite number.
    """
    phase: PhaseConfig = getattr(config, name)
    batch_size = config.batch_size
    optimizer = keras.optimizers.AdamW(phase.learning_rate, weight_decay=phase.weight_decay)
    optimizer.build(model.trainable_variables)  # so that its state can be loaded
    loss, accuracy = keras.losses.SparseCategoricalCrossentropy, "accuracy"
    if isinstance(train, Mixture):
        loss = keras.losses.CategoricalCrossentropy
        accuracy = keras.metrics.MeanMetricWrapper(_named, name="accuracy")
    model.compile(
        optimizer,
        loss(from_logits=True),
        metrics=[accuracy],
        jit_compile=False,  # XLA on a CPU slows TensorFlow down
    )
    state = checkpoint.restore(name, model)
    if state is None:
        state = PhaseState(phase.learning_rate)
        state.record(phase, **_validate(model, val, batch_size))
        checkpoint.save(name, state, model)

    count, order_of, batch_of = _drawing(train)
    steps = math.ceil(count / batch_size)
    bar = tqdm(
        desc=name,
        total=phase.epochs * steps,
        initial=state.epoch * steps,
        unit="batch",
    )
    with bar:
        while not state.finished(phase):
            random = np.random.default_rng([config.seed, *name.encode(), state.epoch])
            _seed_dropout(model, random)
            order = order_of(random)
            totals = {"loss": 0.0, "accuracy": 0.0}
            for start in range(0, len(order), batch_size):
                batch = order[start : start + batch_size]
                if phase.cosine:
                    done = (state.epoch + start / len(order)) / phase.epochs
                    state.learning_rate = _cosine(phase, done)
                optimizer.learning_rate = state.learning_rate
                logs = model.train_on_batch(*batch_of(batch, random), return_dict=True)
                if not math.isfinite(logs["loss"]):
                    raise TrainingError(
                        f"{name}: the loss became {float(logs['loss'])} in epoch {state.epoch + 1}; "
                        "nothing was written. Try a lower learning rate"
                    )
                for measure in totals:
                    totals[measure] += float(logs[measure]) * len(batch) / len(order)
                bar.update()
            state.epoch += 1
            state.record(
                phase,
                **totals,
                **_validate(model, val, batch_size),
            )
            checkpoint.save(name, state, model)
            latest = state.history[-1]
            shown = (f"{name} {value:.4f}" for name, value in latest.items() if name in SHOWN)
            bar.set_postfix_str(f"epoch {state.epoch}: {', '.join(shown)}")
    checkpoint.load_best(name, model)


def outputs_of(
    model: keras.Model, inputs: np.ndarray, description: str | None = None, batch_size: int = 32
) -> np.ndarray:
    """Outputs of a model for all inputs, float32 (N, ...).

    Args:
        model: With one output.
        inputs: (N, ...).
        description: Shows a progress bar of this name on standard error.
        batch_size: Inputs at once; the outputs do not depend on it.
    """
    batches = tqdm(
        range(0, len(inputs), batch_size), desc=description, disable=not description, leave=False
    )
    outputs = [model.predict_on_batch(inputs[i : i + batch_size]) for i in batches]
    return np.concatenate([keras.ops.convert_to_numpy(output) for output in outputs])


def _drawing(train: Training) -> tuple[int, Callable, Callable]:
    """How many images an epoch draws, what draws their order, and what makes a batch."""
    if isinstance(train, Mixture):
        chances = train.chances
        return (
            len(chances),
            lambda random: random.choice(len(chances), len(chances), p=chances),
            train.draw,
        )
    inputs, labels = train

    def batch_of(rows: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        return inputs(rows, random) if callable(inputs) else inputs[rows], labels[rows]

    return len(labels), lambda random: random.permutation(len(labels)), batch_of


def _named(targets, logits):
    """Probability that the targets give to the class named, (B,)."""
    named = keras.ops.one_hot(keras.ops.argmax(logits, axis=-1), logits.shape[-1])
    return keras.ops.sum(targets * named, axis=-1)


def _cosine(phase: PhaseConfig, done: float) -> float:
    """The learning rate when the proportion `done` of all steps is done: warm-up, then a cosine."""
    if done < WARM_UP:
        return phase.learning_rate * (done / WARM_UP + 0.02)
    fall = 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))
    return max(phase.min_learning_rate, phase.learning_rate * fall)


def _seed_dropout(model: keras.Model, random: np.random.Generator) -> None:
    """Seeds each dropout layer (stochastic depth in the backbone too).

    Keras does not save the state of their generators with the weights.
    """
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout) and layer.rate > 0:
            layer.seed_generator.state.assign(random.integers(0, 2**31, 2).astype(np.uint32))


def _validate(model: keras.Model, val: tuple | None, batch_size: int) -> dict:
    if val is None:
        return {"val_loss": None}
    inputs, labels = val
    logits = outputs_of(model, inputs, batch_size=batch_size)
    return {
        "val_loss": cross_entropy(logits, labels),
        "val_accuracy": float(np.mean(logits.argmax(axis=1) == labels)),
    }

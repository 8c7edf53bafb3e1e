"""The training loop: epochs, early stopping, and checkpoints to go on from."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import keras
import numpy as np
from tqdm import tqdm

from mseenet.config import PhaseConfig, RobustConfig, TrainingConfig
from mseenet.errors import MSEENetError
from mseenet.files import write_atomically
from mseenet.metrics import cross_entropy

MINIMUM_IMPROVEMENT = 1e-4
"""A validation loss counts as lower when it is lower by this much, in nats."""

SHOWN = ("loss", "val_accuracy")
"""Figures of the latest epoch beside the progress bar."""

WARM_UP = 0.1
"""Share of all steps in which the rate of a cosine schedule rises."""

Draw = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""Makes a batch of training inputs: (rows int (B,), generator) -> (B, ...)."""


class TrainingError(MSEENetError):
    """Training cannot go on, or its result cannot be used; the message says why."""


@dataclass
class PhaseState:
    """Where a training phase stands; all of it goes through JSON.

    Attributes:
        learning_rate: The current one.
        epoch: Epochs done.
        best_epoch: Where the validation loss was lowest, 0 being before any training;
            the latest one with a cosine schedule.
        best_loss: That loss, in nats.
        stale: Epochs since `best_epoch`.
        plateau: Epochs since `best_epoch` or since the rate last dropped.
        history: One record an epoch, epoch 0 included.
    """

    learning_rate: float
    epoch: int = 0
    best_epoch: int = 0
    best_loss: float = math.inf
    stale: int = 0
    plateau: int = 0
    history: list[dict] = field(default_factory=list)

    def finished(self, phase: PhaseConfig) -> bool:
        """Whether the phase has run its epochs or has stopped improving."""
        stopped = not phase.cosine and self.stale >= phase.patience
        return self.epoch >= phase.epochs or stopped

    def record(self, phase: PhaseConfig, val_loss: float | None, **others: float) -> None:
        """Takes in one epoch's result: history, early stopping, learning rate."""
        self.history.append(
            {
                "epoch": self.epoch,
                "learning_rate": self.learning_rate,
                "val_loss": val_loss,
                **others,
            }
        )
        if phase.cosine or val_loss < self.best_loss - MINIMUM_IMPROVEMENT:
            self.best_loss, self.best_epoch = val_loss, self.epoch
            self.stale = self.plateau = 0
            return
        self.stale += 1
        self.plateau += 1
        if self.plateau >= phase.plateau_patience:
            dropped = self.learning_rate * phase.plateau_factor
            self.learning_rate = max(dropped, phase.min_learning_rate)
            self.plateau = 0


class Checkpoint:
    """A folder from which an interrupted run goes on.

    `state.json` names the weights files that belong to it and is replaced in one step,
    so that a kill at any moment leaves the state of the last whole epoch.

    Args:
        folder: Made when first needed.
        settings: What the run depends on; a checkpoint of other settings is refused.
    """

    def __init__(self, folder: Path, settings: dict):
        self.folder = folder
        self._settings = json.loads(json.dumps(settings))
        self._path = folder / "state.json"
        self._content = {"settings": self._settings, "phases": {}}

    def exists(self) -> bool:
        """Whether there is something to go on from."""
        return self._path.is_file()

    def open(self) -> None:
        """Reads the state of an earlier run.

        Raises:
            TrainingError: There is none, or it belongs to other settings.
        """
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError) as error:
            raise TrainingError(
                f"{self.folder}: expected a checkpoint to resume ({error})"
            ) from error
        if content["settings"] != self._settings:
            differing = [
                name
                for name in self._settings
                if content["settings"].get(name) != self._settings[name]
            ]
            raise TrainingError(
                f"{self.folder}: the checkpoint was made with other settings "
                f"({', '.join(differing)}); repeat them, or remove the folder to start anew"
            )
        self._content = content

    def save(self, name: str, state: PhaseState, model: keras.Model) -> None:
        """Keeps the phase's state, the model's weights and its optimizer's state."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = f"{name}-{state.epoch:03d}.weights.h5"
        model.save_weights(self.folder / file, overwrite=True)
        best = file
        if state.best_epoch != state.epoch:
            best = self._content["phases"][name]["best"]
        self._content["phases"][name] = {"last": file, "best": best, "state": asdict(state)}
        write_atomically(self._path, json.dumps(self._content))
        needed = {
            phase[kind] for phase in self._content["phases"].values() for kind in ("last", "best")
        }
        for path in self.folder.glob("*.weights.h5"):
            if path.name not in needed:
                path.unlink()

    def knows(self, name: str) -> bool:
        """Whether the phase has begun."""
        return name in self._content["phases"]

    def phases(self) -> list[str]:
        """Names of the phases that have begun, in their order."""
        return list(self._content["phases"])

    def history(self, name: str) -> list[dict]:
        """One record an epoch: epoch, learning_rate, loss, accuracy, val_loss, val_accuracy.

        Epoch 0, before training, has only the validation figures.
        """
        return self._content["phases"][name]["state"]["history"]

    def best_epoch(self, name: str) -> int:
        """The epoch with the lowest validation loss, the one that `load_best` loads."""
        return self._content["phases"][name]["state"]["best_epoch"]

    def restore(self, name: str, model: keras.Model) -> PhaseState | None:
        """Loads the last epoch of a phase into `model`; None if the phase is new."""
        if not self.knows(name):
            return None
        phase = self._content["phases"][name]
        model.load_weights(self.folder / phase["last"])
        return PhaseState(**phase["state"])

    def load_best(self, name: str, model: keras.Model) -> None:
        """Loads the epoch with the lowest validation loss into `model`."""
        model.load_weights(self.folder / self._content["phases"][name]["best"])

    def delete(self) -> None:
        """Removes the folder; to be called once the result is safe."""
        shutil.rmtree(self.folder, ignore_errors=True)


def run_phase(
    name: str,
    model: keras.Model,
    train: tuple[np.ndarray | Draw, np.ndarray],
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
        train: Inputs (N, ...), or what draws a batch of them, and labels int (N,).
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
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=keras.backend.backend() == "jax",  # XLA on a CPU slows TensorFlow down
    )
    state = checkpoint.restore(name, model)
    if state is None:
        state = PhaseState(phase.learning_rate)
        state.record(phase, **_validate(model, val, batch_size))
        checkpoint.save(name, state, model)

    inputs, labels = train
    draw = inputs if callable(inputs) else lambda rows, random: inputs[rows]
    steps = math.ceil(len(labels) / batch_size)
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
            order = random.permutation(len(labels))
            totals = {"loss": 0.0, "accuracy": 0.0}
            for start in range(0, len(order), batch_size):
                batch = order[start : start + batch_size]
                if phase.cosine:
                    done = (state.epoch + start / len(order)) / phase.epochs
                    state.learning_rate = _cosine(phase, done)
                optimizer.learning_rate = state.learning_rate
                logs = model.train_on_batch(draw(batch, random), labels[batch], return_dict=True)
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


def predict(
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


def _cosine(phase: PhaseConfig, done: float) -> float:
    """The learning rate when the share `done` of all steps is done: warm-up, then a cosine."""
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
    logits = predict(model, inputs, batch_size=batch_size)
    return {
        "val_loss": cross_entropy(logits, labels),
        "val_accuracy": float(np.mean(logits.argmax(axis=1) == labels)),
    }

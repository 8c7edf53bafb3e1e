"""A folder from which an interrupted training goes on."""

import json
import math
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mseenet.config import PhaseConfig
from mseenet.errors import MSEENetError
from mseenet.files import write_atomically

MINIMUM_IMPROVEMENT = 1e-4
"""A validation loss counts as lower when it is lower by this much, in nats."""


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

    def save(self, name: str, state: PhaseState, model) -> None:
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

    def restore(self, name: str, model) -> PhaseState | None:
        """Loads the last epoch of a phase into `model`; None if the phase is new."""
        if not self.knows(name):
            return None
        phase = self._content["phases"][name]
        model.load_weights(self.folder / phase["last"])
        return PhaseState(**phase["state"])

    def load_best(self, name: str, model) -> None:
        """Loads the epoch with the lowest validation loss into `model`."""
        model.load_weights(self.folder / self._content["phases"][name]["best"])

    def delete(self) -> None:
        """Removes the folder; to be called once the result is safe."""
        shutil.rmtree(self.folder, ignore_errors=True)

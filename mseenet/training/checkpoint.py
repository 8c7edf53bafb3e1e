"""A folder from which an interrupted training goes on."""

import json
import math
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mseenet.config import PhaseConfig
from mseenet.errors import MSEENetError
from mseenet.files import (
    ensure_room,
    own_folder,
    remove_own_folder,
    sync,
    write_atomically,
)
from mseenet.inference.card import room_for

PURPOSE = "checkpoint"
"""What the folder's marker says it is for."""

MINIMUM_IMPROVEMENT = 1e-4
"""A validation loss counts as lower when it is lower by this much, in nats."""


class TrainingError(MSEENetError):
    """Training cannot go on, or its result cannot be used; the message says why."""


class UselessError(TrainingError):
    """The trained network is no better than chance; training it again would come to the same."""


@dataclass
class PhaseState:
    """Where a training phase stands; all of it goes through JSON.

    Attributes:
        learning_rate: The current one.
        epoch: Epochs done.
        best_epoch: Where the validation loss was lowest, 0 being before any training;
            the latest one with a cosine schedule.
        best_loss: That loss, in nats; None where no validation loss is computed.
        stale: Epochs since `best_epoch`.
        plateau: Epochs since `best_epoch` or since the rate last dropped.
        history: One record an epoch, epoch 0 included.
    """

    learning_rate: float
    epoch: int = 0
    best_epoch: int = 0
    best_loss: float | None = math.inf
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
        if phase.cosine or self._improved(val_loss):
            self.best_loss, self.best_epoch = val_loss, self.epoch
            self.stale = self.plateau = 0
            return
        self.stale += 1
        self.plateau += 1
        if self.plateau >= phase.plateau_patience:
            dropped = self.learning_rate * phase.plateau_factor
            self.learning_rate = max(dropped, phase.min_learning_rate)
            self.plateau = 0

    def _improved(self, val_loss: float | None) -> bool:
        if val_loss is None:
            raise ValueError("expected a validation loss in a phase that chooses its epoch by it")
        return self.best_loss is None or val_loss < self.best_loss - MINIMUM_IMPROVEMENT


class Checkpoint:
    """A folder from which an interrupted run goes on.

    `state.json` names the weights files that belong to it and is replaced in one step,
    so that a kill at any moment leaves the state of the last whole epoch. The folder holds
    nothing else: one that holds other files is refused, and only files that the state names
    are ever removed.

    Args:
        folder: Made when first needed.
        settings: What the run depends on; a checkpoint of other settings is refused.
    """

    def __init__(self, folder: Path, settings: dict):
        self.folder = folder
        self._settings = json.loads(json.dumps(settings))
        self._path = folder / "state.json"
        # "files": all that were begun, whole or not.
        self._content: dict[str, Any] = {"settings": self._settings, "phases": {}, "files": []}

    def exists(self) -> bool:
        """Whether there is something to go on from."""
        return self._path.is_file()

    def open(self) -> None:
        """Reads the state of an earlier run.

        Raises:
            TrainingError: There is none, it belongs to other settings, or a weights file that
                it names is missing.
        """
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            settings, phases, files = (content[name] for name in self._content)
            needed = [phase[kind] for phase in phases.values() for kind in ("last", "best")]
            if foreign := [name for name in (*needed, *files) if Path(name).name != name]:
                raise ValueError(f"{foreign[0]} is no name of a file in it")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise TrainingError(
                f"{self.folder}: expected a checkpoint to resume ({error})"
            ) from error
        if settings != self._settings:
            differing = [
                name for name in self._settings if settings.get(name) != self._settings[name]
            ]
            raise TrainingError(
                f"{self.folder}: the checkpoint was made with other settings "
                f"({', '.join(differing)}); repeat them, or remove the folder to start anew"
            )
        if missing := [name for name in needed if not (self.folder / name).is_file()]:
            raise TrainingError(
                f"{self.folder}: expected the weights {missing[0]} of the checkpoint, found none; "
                "remove the folder to start anew"
            )
        self._content = {"settings": settings, "phases": phases, "files": files}

    def save(self, name: str, state: PhaseState, model) -> None:
        """Keeps the phase's state, the model's weights and its optimizer's state.

        Raises:
            UsageError: The folder holds files that are not of a checkpoint.
        """
        own_folder(self.folder, PURPOSE)
        file = f"{name}-{state.epoch:03d}.weights.h5"
        if file not in self._content["files"]:
            self._content["files"].append(file)
            self._write()  # before the file, so that a kill leaves none that is not named
        ensure_room(self.folder, room_for(model))
        model.save_weights(self.folder / file, overwrite=True)
        sync(self.folder / file)
        best = file
        if state.best_epoch != state.epoch:
            best = self._content["phases"][name]["best"]
        self._content["phases"][name] = {"last": file, "best": best, "state": asdict(state)}
        self._write()
        needed = {
            phase[kind] for phase in self._content["phases"].values() for kind in ("last", "best")
        }
        self._remove(set(self._content["files"]) - needed)
        self._content["files"] = sorted(needed)

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
        """The epoch that `load_best` loads, see `PhaseState.best_epoch`."""
        return self._content["phases"][name]["state"]["best_epoch"]

    def restore(self, name: str, model) -> PhaseState | None:
        """Loads the last epoch of a phase into `model`; None if the phase is new."""
        if not self.knows(name):
            return None
        phase = self._content["phases"][name]
        model.load_weights(self.folder / phase["last"])
        return PhaseState(**deepcopy(phase["state"]))  # what is kept changes in `save` alone

    def load_best(self, name: str, model) -> None:
        """Loads the weights of `best_epoch` into `model`."""
        model.load_weights(self.folder / self._content["phases"][name]["best"])

    def delete(self) -> None:
        """Removes its files, and the folder if nothing else is left in it.

        To be called once the result is safe.
        """
        self._remove(set(self._content["files"]))
        self._path.unlink(missing_ok=True)
        remove_own_folder(self.folder, PURPOSE)

    def _write(self) -> None:
        write_atomically(self._path, json.dumps(self._content))

    def _remove(self, names: set[str]) -> None:
        for name in names:
            (self.folder / name).unlink(missing_ok=True)

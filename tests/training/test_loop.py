import errno
import json
from dataclasses import replace

import keras
import numpy as np
import pytest

from mseenet.config import PhaseConfig, TrainingConfig
from mseenet.errors import UsageError
from mseenet.training import checkpoint as checkpoint_module
from mseenet.training.checkpoint import Checkpoint, PhaseState, TrainingError
from mseenet.training.loop import Mixture, outputs_of, run_phase

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(96, 5)).astype(np.float32)
LABELS = (INPUTS[:, 0] > 0).astype(np.int64) + 2 * (INPUTS[:, 1] > 0)
TRAIN, VAL = (INPUTS[:64], LABELS[:64]), (INPUTS[64:], LABELS[64:])


def config(**changes) -> TrainingConfig:
    settings = {"epochs": 6, "learning_rate": 0.02, "patience": 6, "plateau_patience": 2} | changes
    phase = PhaseConfig(**settings)
    return TrainingConfig(seed=1, batch_size=16, head=phase, fine_tune=phase)


def small_model() -> keras.Model:
    keras.utils.set_random_seed(3)
    inputs = keras.Input((5,))
    x = keras.layers.Dense(16, activation="relu")(inputs)
    x = keras.layers.Dropout(0.3)(x)
    return keras.Model(inputs, keras.layers.Dense(4)(x))


def weights_of(model: keras.Model) -> np.ndarray:
    return np.concatenate([w.ravel() for w in model.get_weights()])


def test_training_lowers_the_loss_and_keeps_the_best_epoch(tmp_path):
    model = small_model()
    checkpoint = Checkpoint(tmp_path / "c", {})
    run_phase("head", model, TRAIN, VAL, config(), checkpoint)
    history = checkpoint.history("head")
    assert [record["epoch"] for record in history] == list(range(7))
    assert "loss" not in history[0]
    losses = [record["val_loss"] for record in history]
    assert min(losses) < 0.7 * losses[0]
    assert 0.5 * losses[0] < history[1]["loss"] < 1.5 * losses[0]
    assert losses[checkpoint.best_epoch("head")] == min(losses)
    accuracy = np.mean(outputs_of(model, VAL[0]).argmax(axis=1) == VAL[1])
    assert accuracy == history[checkpoint.best_epoch("head")]["val_accuracy"]


def test_an_interrupted_run_goes_on_to_the_same_result(tmp_path, monkeypatch):
    whole = small_model()
    run_phase("head", whole, TRAIN, VAL, config(), Checkpoint(tmp_path / "whole", {"a": 1}))

    model, save, saved = small_model(), Checkpoint.save, []

    def save_then_stop(self, name, state, model):
        save(self, name, state, model)
        saved.append(state.epoch)
        if state.epoch == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", save_then_stop)
    with pytest.raises(KeyboardInterrupt):
        run_phase("head", model, TRAIN, VAL, config(), Checkpoint(tmp_path / "cut", {"a": 1}))
    monkeypatch.undo()

    keras.utils.set_random_seed(99)  # nothing may depend on the state of the process
    model = small_model()
    model.set_weights([0 * w for w in model.get_weights()])
    checkpoint = Checkpoint(tmp_path / "cut", {"a": 1})
    checkpoint.open()
    run_phase("head", model, TRAIN, VAL, config(), checkpoint)
    assert saved == [0, 1, 2, 3]
    np.testing.assert_array_equal(weights_of(model), weights_of(whole))


def test_training_figures_are_means_over_the_epoch(tmp_path):
    model = small_model()
    model.layers[2].rate = 0.0  # without dropout and learning, training equals validation
    frozen = config(epochs=1, learning_rate=0.0)
    run_phase("head", model, TRAIN, TRAIN, frozen, checkpoint := Checkpoint(tmp_path / "c", {}))
    latest = checkpoint.history("head")[1]
    assert latest["loss"] == pytest.approx(latest["val_loss"], rel=1e-5)
    assert latest["accuracy"] == pytest.approx(latest["val_accuracy"], rel=1e-5)


def test_a_finished_phase_is_not_trained_again(tmp_path):
    model = small_model()
    checkpoint = Checkpoint(tmp_path / "c", {})
    run_phase("head", model, TRAIN, VAL, config(), checkpoint)
    before, history = weights_of(model), checkpoint.history("head")
    run_phase("head", model, TRAIN, VAL, config(), checkpoint)
    np.testing.assert_array_equal(weights_of(model), before)
    assert checkpoint.history("head") == history


def test_old_weights_files_do_not_pile_up(tmp_path):
    run_phase("head", small_model(), TRAIN, VAL, config(), Checkpoint(tmp_path / "c", {}))
    assert len(list((tmp_path / "c").glob("*.weights.h5"))) <= 2


def test_a_full_disk_ends_a_phase_in_an_error_and_keeps_the_last_epoch(tmp_path, monkeypatch):
    folder = tmp_path / "c"
    run_phase("head", small_model(), TRAIN, VAL, config(epochs=1), Checkpoint(folder, {}))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    asked = []

    def full(where, size):
        asked.append(size)
        raise OSError(errno.ENOSPC, "No space left on device", str(where))

    monkeypatch.setattr(checkpoint_module, "ensure_room", full)
    again = Checkpoint(folder, {})
    again.open()
    with pytest.raises(OSError, match="No space left on device"):
        run_phase("head", small_model(), TRAIN, VAL, config(epochs=2), again)
    largest = max(len(content) for content in before.values())
    assert largest <= asked[0]
    weights = {name: content for name, content in before.items() if name.endswith(".h5")}
    assert {p.name: p.read_bytes() for p in folder.glob("*.h5")} == weights
    monkeypatch.undo()
    whole = Checkpoint(folder, {})
    whole.open()
    run_phase("head", small_model(), TRAIN, VAL, config(epochs=2), whole)
    assert [record["epoch"] for record in whole.history("head")] == [0, 1, 2]


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    checkpoint = Checkpoint(tmp_path / "c", {"seed": 1, "batch": 2})
    run_phase("head", small_model(), TRAIN, VAL, config(epochs=1), checkpoint)
    with pytest.raises(TrainingError, match=r"other settings \(seed\)"):
        Checkpoint(tmp_path / "c", {"seed": 2, "batch": 2}).open()
    with pytest.raises(TrainingError, match="expected a checkpoint to resume"):
        Checkpoint(tmp_path / "elsewhere", {}).open()


def test_only_files_of_the_checkpoint_are_removed(tmp_path):
    folder = tmp_path / "c"
    checkpoint = Checkpoint(folder, {})
    run_phase("head", small_model(), TRAIN, VAL, config(epochs=1), checkpoint)
    (folder / "mine.weights.h5").write_text("mine")
    run_phase("fine_tune", small_model(), TRAIN, VAL, config(epochs=1), checkpoint)
    checkpoint.delete()
    left = {path.name for path in folder.iterdir()}
    assert left == {"mine.weights.h5", ".mseenet-checkpoint"}
    (folder / "mine.weights.h5").unlink()
    checkpoint.delete()
    assert not folder.exists()


def test_a_foreign_folder_is_no_checkpoint(tmp_path):
    (tmp_path / "head-000.weights.h5").write_text("mine")
    with pytest.raises(UsageError, match=r"it holds head-000\.weights\.h5"):
        run_phase("head", small_model(), TRAIN, VAL, config(), Checkpoint(tmp_path, {}))
    assert (tmp_path / "head-000.weights.h5").read_text() == "mine"


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content.pop("phases"),
        lambda content: content["phases"]["head"].update(last="../away.weights.h5"),
        lambda content: content["phases"]["head"].update(last="absent.weights.h5"),
        lambda content: content.update(files=7),
    ],
)
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    folder = tmp_path / "c"
    run_phase("head", small_model(), TRAIN, VAL, config(epochs=1), Checkpoint(folder, {}))
    content = json.loads((folder / "state.json").read_text())
    damage(content)
    (folder / "state.json").write_text(json.dumps(content))
    with pytest.raises(TrainingError, match="expected"):
        Checkpoint(folder, {}).open()


def test_a_loss_that_is_no_number_stops_the_training(tmp_path):
    diverging = config(learning_rate=1e38)
    with pytest.raises(TrainingError, match=r"the loss became (nan|inf) in epoch 1"):
        run_phase("head", small_model(), TRAIN, VAL, diverging, Checkpoint(tmp_path, {}))


def test_early_stopping_and_learning_rate_reduction():
    phase = PhaseConfig(
        epochs=100, learning_rate=1.0, patience=5, plateau_patience=2, plateau_factor=0.1,
        min_learning_rate=0.02,
    )  # fmt: skip
    state = PhaseState(phase.learning_rate)
    rates = []
    for loss in (1.0, 0.5, 0.6, 0.7, 0.55, 0.52, 0.51):
        assert not state.finished(phase)
        state.record(phase, loss)
        state.epoch += 1
        rates.append(state.learning_rate)
    assert rates == [1.0, 1.0, 1.0, 0.1, 0.1, 0.02, 0.02]
    assert state.best_epoch == 1
    assert state.best_loss == 0.5
    assert state.finished(phase)


def test_a_cosine_phase_chooses_nothing_and_ends_low(tmp_path):
    checkpoint = Checkpoint(tmp_path / "c", {})
    cosine = config(epochs=4, learning_rate=0.01)
    cosine = replace(cosine, head=replace(cosine.head, cosine=True, weight_decay=0.01))
    drawn = []

    def draw(rows, random):
        drawn.append(len(rows))
        return TRAIN[0][rows]

    run_phase("head", small_model(), (draw, TRAIN[1]), None, cosine, checkpoint)
    history = checkpoint.history("head")
    assert checkpoint.best_epoch("head") == 4
    assert sum(drawn) == 4 * len(TRAIN[1])
    rates = [record["learning_rate"] for record in history[1:]]
    assert rates == sorted(rates, reverse=True)
    assert max(rates) < 0.01 > 100 * rates[-1] / 2
    assert all(record["val_loss"] is None for record in history)
    assert history[-1]["loss"] < history[1]["loss"]


def cosine_config(epochs: int) -> TrainingConfig:
    settings = config(epochs=epochs, learning_rate=0.01)
    return replace(settings, head=replace(settings.head, cosine=True))


def test_a_mixture_draws_by_its_chances(tmp_path):
    chances = np.zeros(len(TRAIN[1]))
    chances[[2, 5]] = 0.25, 0.75
    drawn = []

    def draw(rows, random):
        drawn.extend(rows)
        return TRAIN[0][rows], np.eye(4, dtype=np.float32)[TRAIN[1][rows]]

    checkpoint = Checkpoint(tmp_path / "c", {})
    run_phase("head", small_model(), Mixture(draw, chances), None, cosine_config(1), checkpoint)
    assert len(drawn) == len(TRAIN[1])
    assert np.mean(np.array(drawn) == 5) == pytest.approx(0.75, abs=0.15)
    assert set(drawn) == {2, 5}


def test_a_mixture_teaches_its_targets(tmp_path):
    # Half of the images are of class 1, and of the others nothing can be said.
    targets = np.full((64, 4), 0.25, np.float32)
    targets[::2] = np.eye(4)[1]
    inputs = np.zeros((64, 5), np.float32)
    inputs[::2] = 1
    mixture = Mixture(lambda rows, random: (inputs[rows], targets[rows]), np.full(64, 1 / 64))
    model = small_model()
    run_phase("head", model, mixture, None, cosine_config(60), Checkpoint(tmp_path / "c", {}))
    logits = outputs_of(model, inputs[:2])
    odds = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert odds[0, 1] > 0.8
    np.testing.assert_allclose(odds[1], 0.25, atol=0.08)
    latest = Checkpoint(tmp_path / "c", {})
    latest.open()
    record = latest.history("head")[-1]
    assert record["accuracy"] == pytest.approx(0.5 + 0.25 / 2, abs=0.15)
    assert record["loss"] >= 0.5 * np.log(4) - 0.15  # what cannot be known costs this much

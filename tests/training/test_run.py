import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import ROOT

from mseenet.commands import train
from mseenet.commands.train import main, parse_arguments, training_config
from mseenet.config import RECIPES, CellsConfig, RobustConfig, TrainingConfig, recipe_name
from mseenet.errors import MSEENetError, UsageError
from mseenet.files import LOCK_NAME, file_sha256, one_writer, own_folder
from mseenet.inference.card import CARD_NAME, read_card
from mseenet.training import run
from mseenet.training.checkpoint import PhaseState, TrainingError, UselessError
from mseenet.training.provenance import recorded_command
from mseenet.training.run import refuse_if_useless
from mseenet.training.smoke import write_smoke_backbone, write_smoke_data


def test_the_command_line_sets_the_training_settings():
    arguments = parse_arguments(
        [
            "--data",
            "d",
            "--recipe",
            "paper",
            "--seed",
            "7",
            "--head-epochs",
            "3",
            "--fine-tune-learning-rate",
            "0.5",
        ]
    )
    config = training_config(arguments)
    assert (config.seed, config.head.epochs, config.fine_tune.learning_rate) == (7, 3, 0.5)
    assert training_config(parse_arguments(["--data", "d"])) == CellsConfig()
    paper = parse_arguments(["--data", "d", "--recipe", "paper"])
    assert training_config(paper) == TrainingConfig()
    shorter = training_config(parse_arguments(["--data", "d", "--fine-tune-epochs", "2"]))
    assert shorter.fine_tune == replace(CellsConfig().fine_tune, epochs=2)
    robust = parse_arguments(["--data", "d", "--recipe", "robust", "--copies", "5"])
    assert training_config(robust) == RobustConfig(copies=5)


def test_each_recipe_names_itself():
    for recipe in RECIPES:
        config = training_config(parse_arguments(["--data", "d", "--recipe", recipe]))
        assert recipe_name(config) == recipe


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--smoke", "--data", "d"],
        ["--data", "d", "--batch-size", "0"],
        ["--data", "d", "--head-epochs", "-1"],
        ["--data", "d", "--copies", "many"],
        ["--data", "d", "--seed", "-1"],
        ["--data", "d", "--seed", str(2**32)],
        ["--data", "d", "--head-learning-rate", "0"],
        ["--data", "d", "--fine-tune-learning-rate", "nan"],
        ["--data", "d", "--fine-tune-learning-rate", "fast"],
    ],
)
def test_wrong_usage(argv, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse_arguments(argv)
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert " _" not in line  # no name that only the code has


def test_the_recorded_command_names_no_path():
    argv = ["--data", "/home/me/data", "--seed", "1", "--out=/tmp/x", "--backbone-weights", "b.h5"]
    assert recorded_command(argv) == (
        "mseenet train --data DIR --seed 1 --out=DIR --backbone-weights FILE"
    )
    shortened = ["--dat", "/home/me/data", "--o=/tmp/x", "--back", "/home/me/b.h5", "--res"]
    arguments = parse_arguments(shortened)
    assert (arguments.data, arguments.out) == (Path("/home/me/data"), Path("/tmp/x"))
    assert recorded_command(shortened) == "mseenet train --dat DIR --o=DIR --back FILE --res"


def test_weights_that_know_nothing_are_refused():
    labels = np.repeat([0, 1, 2, 3], 10)
    right = 5 * np.eye(4)[labels]
    refuse_if_useless(right, labels)
    for useless in (np.tile([1.0, 0, 0, 0], (40, 1)), np.full((40, 4), np.nan)):
        with pytest.raises(TrainingError, match="not better than"):
            refuse_if_useless(useless, labels)


@pytest.fixture(scope="module")
def little_data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("little") / "data"
    write_smoke_data(folder, per_class=10)
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere"], "found no folder there"),
        (["--data", "DATA", "--backbone-weights", "absent.h5"], "expected the backbone's weights"),
        (["--data", "DATA", "--resume"], "expected a checkpoint to resume"),
        (["--data", "DATA", "--checkpoint", "FOREIGN"], "it holds mine.weights.h5"),
        (["--data", "DATA", "--cache", "FOREIGN"], "it holds mine.weights.h5"),
        (["--data", "DATA", "--out", "FOREIGN"], "it holds mine.weights.h5"),
        (["--data", "DATA", "--checkpoint", "out"], "different folders for --out and --checkpoint"),
    ],
)
def test_unusable_input_is_told_and_nothing_is_changed(
    little_data, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "DATA").symlink_to(little_data)
    (tmp_path / "FOREIGN").mkdir()
    (tmp_path / "FOREIGN" / "mine.weights.h5").write_text("mine")
    with pytest.raises(MSEENetError, match=message):
        main(["--out", "out", *arguments])
    assert not (tmp_path / "out").exists()
    assert [path.name for path in (tmp_path / "FOREIGN").iterdir()] == ["mine.weights.h5"]


def test_an_error_is_one_line_and_status_2(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mseenet", "train", "--data", "nowhere", "--out", "out"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "found no folder there" in line
    assert "Traceback" not in done.stderr


def test_without_scikit_learn_the_robust_recipe_does_not_begin(little_data, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'mseenet\[train\]'"):
        main(["--data", str(little_data), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_a_second_training_into_one_folder_is_told(little_data, tmp_path):
    out = tmp_path / "out"
    with one_writer(out):
        with pytest.raises(UsageError, match=rf"process {os.getpid()} on .* is writing there"):
            main(["--data", str(little_data), "--out", str(out)])
        assert [path.name for path in out.iterdir()] == [LOCK_NAME]
    # Nor may two trainings go on from one checkpoint.
    checkpoint = own_folder(tmp_path / "checkpoint", "training")
    with one_writer(checkpoint), pytest.raises(UsageError, match="is writing there"):
        main(["--data", str(little_data), "--out", str(out), "--checkpoint", str(checkpoint)])


def test_nothing_is_left_to_resume_of_a_useless_network(little_data, tmp_path, monkeypatch):
    out = tmp_path / "out"
    features = tmp_path / "features.npy"

    def fit(job, inputs, checkpoint):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        checkpoint.save("fine_tune", PhaseState(1e-3), model)
        features.write_text("frozen")
        return model, None, (features,)

    def refuse(model, inputs):
        raise UselessError("not better than always naming the largest class")

    monkeypatch.setattr(run, "fit", fit)
    monkeypatch.setattr(run, "measure_network", refuse)
    backbone = tmp_path / "b.weights.h5"
    backbone.write_bytes(b"never read")
    arguments = ["--data", str(little_data), "--out", str(out), "--backbone-weights", str(backbone)]
    with pytest.raises(UselessError):
        main(arguments)
    assert not out.exists()
    assert not features.exists()
    with pytest.raises(TrainingError, match="expected a checkpoint to resume"):
        main([*arguments, "--resume"])


@pytest.mark.slow
def test_the_backbone_of_a_smoke_run_depends_on_the_seed_alone(smoke_weights, tmp_path):
    before = file_sha256(smoke_weights.parent / "random.weights.h5")
    hashes = []
    for seed in (0, 1):
        write_smoke_backbone(tmp_path / "b.weights.h5", seed)
        hashes.append(file_sha256(tmp_path / "b.weights.h5"))
    assert before == hashes[0] != hashes[1]


@pytest.mark.slow
def test_the_default_recipe_gives_usable_weights_with_a_gate(smoke_weights, smoke_data):
    from mseenet import Classifier

    card = read_card(smoke_weights)
    content = card.content
    assert content["training"]["command"] == "mseenet train --smoke --out DIR"
    assert content["training"]["recipe"] == "cells"
    assert card.model.blank_corner
    assert 0 < card.novelty.review < card.novelty.reject
    assert content["metrics"]["val"]["accuracy"] == 1
    named = {
        CARD_NAME,
        content["weights"]["file"],
        content["novelty"]["file"],
        content["split"]["file"],
        content["training"]["history"],
    }
    assert {path.name for path in smoke_weights.iterdir()} == named
    history = json.loads((smoke_weights / content["training"]["history"]).read_text())
    assert list(history) == ["head", "fine_tune"]
    images = sorted(smoke_data.rglob("*.png"))[::20]
    predictions = Classifier.load(smoke_weights).predict(images, heatmaps="predicted")
    assert [p.status for p in predictions] == ["ok"] * 4


@pytest.mark.slow
def test_the_papers_recipe_gives_usable_weights(smoke_weights, smoke_data, tmp_path, monkeypatch):
    backbone = smoke_weights.parent / "random.weights.h5"
    monkeypatch.setattr(train, "write_smoke_data", lambda data: data.symlink_to(smoke_data))
    monkeypatch.setattr(train, "write_smoke_backbone", lambda path, _: path.symlink_to(backbone))
    assert main(["--smoke", "--recipe", "paper", "--out", str(tmp_path / "weights")]) == 0
    card = read_card(tmp_path / "weights")
    assert card.content["training"]["recipe"] == "paper"
    assert card.novelty is None
    assert card.content["metrics"]["val"]["accuracy"] == 1

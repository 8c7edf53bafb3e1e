import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from mseenet.commands.train import parse_arguments, training_config
from mseenet.config import RobustConfig, TrainingConfig
from mseenet.imaging.synthetic import write_dataset
from mseenet.inference.card import CARD_NAME, read_card
from mseenet.training.checkpoint import TrainingError
from mseenet.training.provenance import recorded_command
from mseenet.training.run import refuse_if_useless

SMOKE = [sys.executable, "-m", "mseenet", "train", "--smoke", "--recipe", "paper"]


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
    assert training_config(parse_arguments(["--data", "d"])) == RobustConfig()
    paper = parse_arguments(["--data", "d", "--recipe", "paper"])
    assert training_config(paper) == TrainingConfig()
    robust = training_config(parse_arguments(["--data", "d", "--fine-tune-epochs", "2"]))
    assert robust.fine_tune == replace(RobustConfig().fine_tune, epochs=2)


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--smoke", "--data", "d"],
        ["--data", "d", "--batch-size", "0"],
        ["--data", "d", "--head-epochs", "-1"],
    ],
)
def test_wrong_usage(argv, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse_arguments(argv)
    assert stopped.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_the_recorded_command_names_no_path():
    argv = ["--data", "/home/me/data", "--seed", "1", "--out=/tmp/x", "--backbone-weights", "b.h5"]
    assert recorded_command(argv) == (
        "mseenet train --data DIR --seed 1 --out=DIR --backbone-weights FILE"
    )


def test_weights_that_know_nothing_are_refused():
    labels = np.repeat([0, 1, 2, 3], 10)
    right = 5 * np.eye(4)[labels]
    refuse_if_useless(right, labels)
    for useless in (np.tile([1.0, 0, 0, 0], (40, 1)), np.full((40, 4), np.nan)):
        with pytest.raises(TrainingError, match="not better than"):
            refuse_if_useless(useless, labels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere"], "found no folder there"),
        (["--data", "DATA", "--backbone-weights", "absent.h5"], "expected the backbone's weights"),
        (["--data", "DATA", "--resume"], "expected a checkpoint to resume"),
    ],
)
def test_unusable_input_is_one_line_and_status_2(tmp_path, arguments, message):
    write_dataset(tmp_path / "DATA", per_class=10)
    done = subprocess.run(
        [sys.executable, "-m", "mseenet", "train", *arguments, "--out", str(tmp_path / "out")],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert message in line
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / CARD_NAME).exists()


@pytest.fixture(scope="module")
def smoke_weights(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("smoke") / "weights"
    subprocess.run([*SMOKE, "--out", out], cwd=ROOT, check=True)
    return out


@pytest.mark.slow
def test_smoke_run_gives_usable_weights(smoke_weights):
    from mseenet import Classifier

    card = read_card(smoke_weights)
    assert card.content["training"]["command"] == ("mseenet train --smoke --recipe paper --out DIR")
    assert card.content["metrics"]["val"]["accuracy"] > 0.5
    assert not (smoke_weights / ".checkpoint").exists()
    data = smoke_weights.parent / "data"
    write_dataset(data, per_class=2, seed=500)
    images = sorted(data.rglob("*.png"))
    predictions = Classifier.load(smoke_weights).predict(images, heatmaps="predicted")
    assert [p.status for p in predictions] == ["ok"] * 8


@pytest.mark.slow
def test_the_robust_recipe_gives_weights_with_a_gate_that_can_be_audited(tmp_path):
    out = tmp_path / "weights"
    command = [sys.executable, "-m", "mseenet", "train", "--smoke"]
    subprocess.run([*command, "--out", out], cwd=ROOT, check=True)
    card = read_card(out)
    assert card.content["training"]["recipe"] == "robust"
    assert card.model.blank_corner
    assert 0 < card.novelty.review < card.novelty.reject
    assert card.content["metrics"]["val"]["accuracy"] > 0.25
    assert list(json.loads((out / "history.json").read_text())) == ["head", "fine_tune"]

    write_dataset(tmp_path / "data", per_class=20)
    audit = [
        sys.executable,
        "-m",
        "mseenet.evaluation.audit",
        "--weights",
        out,
        "--data",
        tmp_path / "data",
    ]
    done = subprocess.run(audit, cwd=ROOT, capture_output=True, text=True)
    # Twenty images a class are too few for an embargo of 50 files, and the message says so.
    assert done.returncode == 2
    assert "leaves nothing to train on" in done.stderr


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_weights(smoke_weights, tmp_path):
    out = tmp_path / "weights"
    state = out / ".checkpoint" / "state.json"
    process = subprocess.Popen([*SMOKE, "--out", out], cwd=ROOT)
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline:
        if state.is_file() and "fine_tune-000.weights.h5" in state.read_text():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert "fine_tune" in json.loads(state.read_text())["phases"]
    assert not (out / CARD_NAME).exists()

    again = subprocess.run([*SMOKE, "--out", out], cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 2
    assert "add --resume to go on" in again.stderr

    subprocess.run([*SMOKE, "--out", out, "--resume"], cwd=ROOT, check=True)
    assert read_card(out).sha256 == read_card(smoke_weights).sha256


@pytest.mark.slow
def test_evaluation_of_a_smoke_run(smoke_weights, tmp_path):
    write_dataset(tmp_path / "data", per_class=20)
    command = [
        sys.executable,
        "-m",
        "mseenet.evaluation.known",
        "--weights",
        smoke_weights,
        "--out",
        tmp_path / "report",
    ]
    done = subprocess.run(
        [*command, "--data", tmp_path / "data"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    card = read_card(smoke_weights).content
    assert result["parts"]["test"]["confusion"] == card["metrics"]["test"]["confusion"]
    assert {name: part["n"] for name, part in result["parts"].items()} == card["split"]["n"]
    text = (tmp_path / "report" / "EVALUATION.md").read_text()
    assert text == done.stdout.removesuffix("\n")
    assert (
        "| Najjar et al. (2025) | MSEENet, the paper | 98.77 | 98.99 | 98.49 | 98.72 | 98.34 |"
        in text
    )
    for name in ("confusion.svg", "training.svg"):
        assert (tmp_path / "report" / "figures" / name).read_text().startswith("<?xml")

    next((tmp_path / "data" / "Pre-B").iterdir()).unlink()
    done = subprocess.run(
        [*command, "--data", tmp_path / "data"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "1 of the 80 images that split-random-seed0.csv lists are missing" in done.stderr

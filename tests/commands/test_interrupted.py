"""Commands that are interrupted, disturbed by a second one, or run out of disk; real processes."""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, small_files, until, weights_of

from mseenet.commands.predict import main as predict_main
from mseenet.errors import UsageError
from mseenet.files import LOCK_NAME
from mseenet.training.run import Job, train
from mseenet.training.smoke import SMOKE_SETTINGS

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and limits of POSIX systems")

WITHOUT_NETWORK = """
import os, sys, time
from pathlib import Path
from types import SimpleNamespace
from mseenet import cli, console
from mseenet.inference.classifier import Classifier, Prediction

class Network:
    card = SimpleNamespace(sha256="0" * 64, release="0" * 12, profile=None)
    scales = None

    def stream(self, images, heatmaps, include_rejected):
        for number, image in enumerate(images):
            if number == int(os.environ["PAUSE_AT"]):
                Path(os.environ["PAUSED"]).touch()
                time.sleep(600)
            yield Prediction("error", reasons=(f"field {number} " + "of a row " * 20,))

console.import_keras = lambda: None
Classifier.load = lambda folder, profile: Network()
cli.main(sys.argv[1:])
"""
"""The command with a network that answers at once, but waits before one of its images: what is
tested here are files, pipes and signals, and TensorFlow takes ten seconds to load."""

REAL = "import sys; from mseenet import cli; cli.main(sys.argv[1:])"

NEVER = 10**6


@pytest.fixture
def started(tmp_path):
    """Starts the command; what still runs at the end is killed."""
    processes: list[subprocess.Popen] = []

    def start(*arguments, pause_at: int = NEVER, code: str = WITHOUT_NETWORK, **options):
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            cwd=ROOT,
            env=os.environ | {"PAUSE_AT": str(pause_at), "PAUSED": str(tmp_path / "paused")},
            text=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def images(tmp_path, field_png) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(400):
        (folder / f"{number:03d}.png").write_bytes(field_png)
    return folder


def ended(process: subprocess.Popen) -> tuple[int, str, list[str]]:
    """Exit status, standard output, and the lines of standard error but the progress bar's."""
    out, err = process.communicate(timeout=900)
    lines = [line.rpartition("\r")[2].strip() for line in err.splitlines()]
    bar = "predicting:"
    return process.returncode, out, [line for line in lines if line and not line.startswith(bar)]


def text_files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file() and path.name != "paused"}


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [
        (signal.SIGTERM, 143, ["ended by SIGTERM"]),
        (signal.SIGHUP, 129, ["ended by SIGHUP"]),
        (signal.SIGINT, 130, ["interrupted"]),
        (signal.SIGKILL, -9, []),
    ],
)
def test_an_ended_prediction_leaves_no_result_and_keeps_nobody_from_another(
    started, images, tmp_path, number, status, said
):
    target = tmp_path / "out.csv"
    options = ("predict", images, "--output", target, "--format", "csv")
    process = started(*options, pause_at=300)
    until((tmp_path / "paused").exists, process)
    second = ended(started(*options))
    assert second[:2] == (2, "")
    assert second[2] == [
        f"error: {target}: process {process.pid} on {os.uname().nodename} is writing there; wait "
        "until it has ended, or choose another file"
    ]
    process.send_signal(number)
    code, out, lines = ended(process)
    assert (code, out) == (status, "")
    assert lines[-1:] == said
    assert not any("Traceback" in line for line in lines)
    left = text_files(tmp_path)
    assert "out.csv" not in left
    assert len(left) == (2 if number == signal.SIGKILL else 0)  # hidden: a part of it, and a lock
    assert all(name.startswith(".") for name in left)
    code, out, lines = ended(started(*options))
    assert (code, out) == (1, "")
    assert len(target.read_text().splitlines()) == 401
    assert text_files(tmp_path) == {"out.csv"}


IN_A_FINALISER = """
import signal, sys, time, weakref
from mseenet import console

class Thing:
    pass

def main():
    thing = Thing()
    kept = weakref.ref(thing, lambda _: signal.raise_signal(int(sys.argv[1])))
    del thing
    time.sleep(3600)
    return 0

console.run(main)
"""


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [
        (signal.SIGTERM, 143, "ended by SIGTERM"),
        (signal.SIGHUP, 129, "ended by SIGHUP"),
        (signal.SIGINT, 130, "interrupted"),
    ],
)
def test_an_end_that_comes_in_a_finaliser_is_not_lost(started, number, status, said):
    """Python prints and forgets what is raised there."""
    process = started(int(number), code=IN_A_FINALISER)
    assert ended(process) == (status, "", [said])


def test_a_file_that_came_meanwhile_is_not_replaced(started, images, tmp_path):
    target = tmp_path / "out.json"
    meanwhile = WITHOUT_NETWORK.replace(
        "time.sleep(600)", f"Path({str(target)!r}).write_text('mine')"
    )
    late = started("predict", images, "--output", target, pause_at=5, code=meanwhile)
    status, out, lines = ended(late)
    assert (status, out) == (2, "")
    assert lines[-1] == f"error: {target}: cannot be written (File exists)"
    assert target.read_text() == "mine"
    assert text_files(tmp_path) == {"out.json"}


def test_two_predictions_do_not_mix_their_overlays(started, images, tmp_path):
    options = ("predict", images, "--heatmaps", tmp_path / "heat")
    process = started(*options, pause_at=0)
    until((tmp_path / "paused").exists, process)
    status, _, lines = ended(started(*options))
    assert status == 2
    assert lines[-1].startswith(f"error: {tmp_path / 'heat'}: process {process.pid} on ")


def limited() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def test_a_full_disk_is_one_line_that_names_the_file(started, images, tmp_path):
    target = tmp_path / "out.csv"
    full = started("predict", images, "--output", target, preexec_fn=limited)
    status, out, lines = ended(full)
    assert (status, out) == (2, "")
    assert lines[-1] == f"error: {target}: cannot be written (File too large)"
    assert len([line for line in lines if "error" in line]) == 1
    assert text_files(tmp_path) == set()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
@pytest.mark.parametrize("count", [1, 400])  # found when Python ends, and in the middle
def test_a_full_disk_behind_a_redirection(started, images, count):
    with open("/dev/full", "w") as full:
        chosen = sorted(images.iterdir())[:count]
        status, _, lines = ended(started("predict", *chosen, stdout=full))
    assert status == 2
    assert lines[-1] == "error: standard output: cannot be written (No space left on device)"
    assert not any("Exception" in line or "Traceback" in line for line in lines)
    status, _, lines = ended(started("predict", *chosen, "--output", "/dev/full"))
    assert (status, lines[-1]) == (
        2,
        "error: /dev/full: cannot be written (No space left on device)",
    )


@pytest.mark.parametrize("errors", ["", " 2>&1"])
def test_a_reader_that_has_enough_ends_a_prediction_quietly(images, errors):
    command = f'"$PYTHON" -c "$CODE" predict "$IMAGES"{errors} | head -c 300 >/dev/null; '
    done = subprocess.run(
        ["bash", "-c", command + "echo ${PIPESTATUS[0]}"],
        cwd=ROOT,
        env=os.environ
        | {"PYTHON": sys.executable, "CODE": WITHOUT_NETWORK, "IMAGES": str(images)}
        | {"PAUSE_AT": str(NEVER)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1\n"
    assert all(line.lstrip().startswith("predicting") for line in done.stderr.split("\r") if line)


def without_privileges() -> None:
    """Lets even root write only where the permissions say so."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


@pytest.fixture
def read_only(tmp_path):
    folder = tmp_path / "read only"
    folder.mkdir()
    folder.chmod(0o555)
    tried = subprocess.run(
        ["touch", folder / "x"], preexec_fn=without_privileges, check=False, capture_output=True
    )
    if tried.returncode == 0:
        pytest.skip("this user may write everywhere")
    yield folder
    folder.chmod(0o755)


@pytest.mark.parametrize("option", ["--output", "--heatmaps"])
def test_a_folder_that_cannot_be_written_is_told_before_any_work(
    started, images, read_only, tmp_path, option
):
    target = read_only / "out.csv" if option == "--output" else read_only
    process = started("predict", images, option, target, pause_at=0, preexec_fn=without_privileges)
    status, out, lines = ended(process)
    assert (status, out) == (2, "")
    (line,) = lines
    assert line.startswith(f"error: {target}: ")
    assert "Permission denied" in line
    assert not (tmp_path / "paused").exists()


def test_training_into_a_folder_that_cannot_be_written(started, read_only, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    options = ("train", "--recipe", "paper", "--data", data, "--out")
    for out in (read_only, read_only / "new"):
        status, _, lines = ended(started(*options, out, preexec_fn=without_privileges))
        assert (status, lines) == (2, [f"error: {out}: Permission denied"])


def test_verifying_into_a_folder_that_cannot_be_written(started, images, read_only, tmp_path):
    fields = tmp_path / "laboratory" / "Benign"
    fields.parent.mkdir()
    images.rename(fields)
    options = ("verify", "--data", fields.parent, "--output", read_only)
    process = started(*options, pause_at=0, preexec_fn=without_privileges)
    assert ended(process) == (2, "", [f"error: {read_only}: Permission denied"])
    assert not (tmp_path / "paused").exists()


@pytest.mark.slow
def test_the_network_may_be_loading_when_the_end_comes(started, images, tmp_path):
    """While TensorFlow is imported, standard error leads nowhere, and much of it is no Python."""
    target = tmp_path / "out.csv"
    process = started("predict", images, "--output", target, code=REAL)
    loaded = "tensorflow"
    until(lambda: loaded in Path(f"/proc/{process.pid}/maps").read_text(), process)
    process.terminate()
    assert ended(process) == (143, "", ["ended by SIGTERM"])
    assert text_files(tmp_path) == set()


def test_an_error_of_another_file_is_not_the_outputs(images, tmp_path, monkeypatch):
    """As when the folder of temporary files is full."""
    from mseenet.commands import predict

    def fail(*_):
        raise OSError(28, "No space left on device", "/elsewhere")

    monkeypatch.setattr(predict, "write_predictions", fail)
    with pytest.raises(OSError, match="elsewhere") as caught:
        predict_main([str(images), "--output", str(tmp_path / "out.csv")])
    assert not isinstance(caught.value, UsageError)
    assert text_files(tmp_path) == set()


def epoch_of(checkpoint: Path) -> int:
    """The last epoch that a training could go on from."""
    state = json.loads((checkpoint / "run" / "state.json").read_text())
    return sum(phase["state"]["epoch"] for phase in state["phases"].values())


SMOKE = """
import os, sys
from mseenet import cli
from mseenet.commands import train
train.write_smoke_data = lambda folder: os.symlink(os.environ["DATA"], folder)
train.write_smoke_backbone = lambda path, seed: os.symlink(os.environ["BACKBONE"], path)
cli.main(["train", "--smoke", "--resume", "--out", sys.argv[1]])
"""
"""Goes on with a smoke run, over what such a run has made already."""


@pytest.mark.slow
def test_a_training_that_was_ended_killed_and_out_of_disk_comes_to_the_same(
    started, smoke_weights, smoke_data, tmp_path, monkeypatch
):
    out, backbone = tmp_path / "weights", smoke_weights.parent / "random.weights.h5"
    shutil.copytree(smoke_weights.parent / "killed", out)
    checkpoint = out / ".checkpoint"
    assert epoch_of(checkpoint) == 3

    monkeypatch.setenv("DATA", str(smoke_data))
    monkeypatch.setenv("BACKBONE", str(backbone))
    process = started(out, code=SMOKE)
    until(lambda: epoch_of(checkpoint) > 3, process)
    process.terminate()
    status, _, lines = ended(process)
    assert status == 143
    hint = "the same command with --resume goes on from the last whole epoch"
    assert lines[-2:] == [hint, "ended by SIGTERM"]
    assert not any("Traceback" in line for line in lines)
    assert list(out.rglob(LOCK_NAME)) == []

    job = Job(
        data=smoke_data,
        out=out,
        config=SMOKE_SETTINGS["cells"],
        backbone_weights=backbone,
        checkpoint=checkpoint,
        resume=True,
    )
    with pytest.raises(UsageError, match="add --resume to go on"):
        train(replace(job, resume=False))
    weights = {path: path.read_bytes() for path in checkpoint.glob("run/*.h5")}
    reached = epoch_of(checkpoint)
    with small_files(1_000_000), pytest.raises(OSError, match="MB are needed") as caught:
        train(job)
    assert caught.value.filename == str(checkpoint / "run")
    assert {path: path.read_bytes() for path in checkpoint.glob("run/*.h5")} == weights
    assert epoch_of(checkpoint) == reached

    # As a kill leaves a lock and what was being written.
    (out / LOCK_NAME).write_text("process 1 on elsewhere\n")
    (out / ".new-01234567.weights.h5").write_bytes(b"half")
    (checkpoint / "run" / ".new-01234567-state.json").write_bytes(b"{")
    (features,) = sorted((checkpoint / "features").glob("*-0.npy"))[:1]
    (checkpoint / "features" / f".new-01234567-{features.name}").write_bytes(b"half")
    features.unlink()

    train(job)
    # Names tell the content, whose last bits may differ (below); nothing else is left.
    kinds = [sorted(p.name.split("-")[0] for p in f.iterdir()) for f in (out, smoke_weights)]
    assert kinds[0] == kinds[1]
    ours, theirs = (weights_of(folder) for folder in (out, smoke_weights))
    assert ours.keys() == theirs.keys()
    for name, values in theirs.items():
        # Threads add up gradients in an order that changes the last bit.
        np.testing.assert_allclose(ours[name], values, rtol=0, atol=1e-6, err_msg=name)

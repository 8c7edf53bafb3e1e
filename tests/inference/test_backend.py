"""Settings of this machine or process change no answer."""

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT

from mseenet.imaging.synthetic import example_fields
from mseenet.inference import backend

ANSWER = """
import json, sys
{before}
from mseenet import Classifier
from mseenet.imaging.synthetic import example_fields

field = next(iter(example_fields().values()))
classifier = Classifier.load(sys.argv[1])
(prediction,) = classifier.predict([field])
cam = classifier.heatmap(field, "Pre-B", "Grad-CAM++")

import keras
from keras.src.backend.config import keras_home

json.dump(
    dict(prediction.probabilities)
    | {{"cam": float(cam.mean()), "max_epochs": keras.config.max_epochs(), "home": keras_home()}},
    sys.stdout,
)
"""

CHANGED = {
    "floatx": "float16",
    "epsilon": 0.01,
    "backend": "torch",
    "image_data_format": "channels_first",
}


def answer(weights, home, before: str = "", **variables: str) -> dict:
    """What another process says of one field, with another home and other variables."""
    done = subprocess.run(
        [sys.executable, "-c", ANSWER.format(before=before), str(weights)],
        env=os.environ | {"HOME": str(home), "PYTHONPATH": str(ROOT)} | variables,
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def expected(classifier) -> dict:
    field = next(iter(example_fields().values()))
    cam = classifier.heatmap(field, "Pre-B", "Grad-CAM++")
    return dict(classifier.predict([field])[0].probabilities) | {"cam": float(cam.mean())}


@pytest.mark.slow
def test_other_settings_of_keras_change_nothing(tmp_path, ungated_weights, expected):
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras" / "keras.json").write_text(json.dumps(CHANGED))
    received = answer(
        ungated_weights,
        tmp_path,
        KERAS_BACKEND="torch",
        KERAS_MAX_EPOCHS="1",
        TF_USE_LEGACY_KERAS="1",
    )
    assert received.pop("home") == str(tmp_path / ".keras")
    assert received.pop("max_epochs") is None
    assert received == pytest.approx(expected, abs=1e-5)
    assert json.loads((tmp_path / ".keras" / "keras.json").read_text()) == CHANGED


@pytest.mark.slow
def test_keras_that_was_set_up_by_another_part_of_the_program(tmp_path, ungated_weights, expected):
    before = (
        "import keras; keras.config.set_floatx('float16')\n"
        "keras.config.set_image_data_format('channels_first')\n"
        "keras.config.set_dtype_policy('mixed_float16')"
    )
    received = answer(ungated_weights, tmp_path, before)
    assert {name: received[name] for name in expected} == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_a_damaged_file_is_of_no_account_and_variables_stay_as_they_were(tmp_path):
    (tmp_path / "keras.json").write_bytes(b"\xff{")
    import_elsewhere(
        tmp_path / "home", KERAS_HOME=str(tmp_path), KERAS_BACKEND="jax", KERAS_MAX_EPOCHS="many"
    )
    assert (tmp_path / "keras.json").read_bytes() == b"\xff{"


@pytest.mark.slow
def test_a_home_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    import_elsewhere(tmp_path / "file" / "home")


def import_elsewhere(home, **variables: str) -> None:
    code = (
        "import os; before = dict(os.environ)\n"
        "from mseenet.inference.backend import keras\n"
        "changed = {n for n in before | os.environ if before.get(n) != os.environ.get(n)}\n"
        "assert not {n for n in changed if 'KERAS' in n}, changed\n"
        "assert keras.config.floatx() == 'float32' and keras.config.epsilon() == 1e-7\n"
        "assert keras.config.image_data_format() == 'channels_last'\n"
        "assert keras.config.backend() == 'tensorflow'"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"HOME": str(home), "PYTHONPATH": str(ROOT)} | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_another_backend_that_is_already_in_use_is_named(monkeypatch):
    monkeypatch.setattr(backend.keras.config, "backend", lambda: "torch")
    with pytest.raises(backend.BackendError, match="imported Keras on torch before MSEENet"):
        backend.prepare_keras()


def test_a_platform_without_tensorflow_is_told(monkeypatch):
    monkeypatch.setattr(backend, "unsupported", lambda: "no TensorFlow here.")
    with pytest.raises(backend.BackendError, match="no TensorFlow here"):
        backend.prepare_keras()


def test_a_missing_tensorflow_is_told(monkeypatch):
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # what makes an import fail
    with pytest.raises(backend.BackendError, match="expected TensorFlow and Keras"):
        backend.prepare_keras()

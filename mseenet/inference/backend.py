"""Keras as the network needs it, whatever this machine or this process is set to.

Everything in the package takes Keras from here:

    from mseenet.inference.backend import keras

`~/.keras/keras.json` and the variables `KERAS_*` can choose another backend, half precision,
channels in front or a limit on the epochs. The weights were made and measured with TensorFlow,
float32 and channels last, so a setting made for another program must not change an answer.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mseenet.errors import MSEENetError
from mseenet.supported import unsupported

__all__ = ["BackendError", "keras", "prepare_keras"]

SETTINGS = (
    "KERAS_HOME",
    "KERAS_BACKEND",
    "KERAS_MAX_EPOCHS",
    "KERAS_MAX_STEPS_PER_EPOCH",
    "KERAS_NNX_ENABLED",
    "TF_USE_LEGACY_KERAS",
)
"""Environment variables that Keras and TensorFlow read when they are imported."""


class BackendError(MSEENetError):
    """Keras cannot be had on TensorFlow here; the message says why."""


def prepare_keras():
    """Imports Keras on TensorFlow and sets float32 and channels last.

    May be called again at any time, for instance where another part of the program may have
    changed a setting. The settings are those of the whole process, as Keras has no others.

    Returns:
        The module `keras`.

    Raises:
        BackendError: TensorFlow or Keras cannot be imported, or Keras was imported before with
            another backend, which it cannot change.
    """
    if reason := unsupported():
        raise BackendError(reason)
    if "keras" not in sys.modules:
        try:
            _import_undisturbed()
        except ImportError as error:
            raise BackendError(
                f"expected TensorFlow and Keras, which `pip install .` brings ({error})"
            ) from error
    import keras as prepared

    if prepared.config.backend() != "tensorflow":
        raise BackendError(
            "expected Keras on TensorFlow; this process imported Keras on "
            f"{prepared.config.backend()} before MSEENet, and Keras cannot change its backend"
        )
    prepared.config.set_floatx("float32")
    prepared.config.set_epsilon(1e-7)
    prepared.config.set_dtype_policy("float32")
    prepared.config.set_image_data_format("channels_last")
    return prepared


def _import_undisturbed() -> None:
    with _keras_variables() as home:
        import tensorflow as tf

        tf.keras.backend  # noqa: B018 resolves tf.keras now, while it leads to Keras 3
        from keras.src.backend import config

        # Where downloads are kept is the user's choice all the same.
        config._KERAS_DIR = home


@contextmanager
def _keras_variables() -> Iterator[str]:
    """Hides the user's settings of Keras; gives the folder in which Keras keeps downloads."""
    kept = {name: os.environ.pop(name) for name in SETTINGS if name in os.environ}
    # No keras.json can be below a file, nor can Keras write one there.
    os.environ |= {"KERAS_BACKEND": "tensorflow", "KERAS_HOME": str(Path(__file__) / "none")}
    try:
        yield kept.get("KERAS_HOME") or os.path.expanduser(os.path.join("~", ".keras"))
    finally:
        del os.environ["KERAS_BACKEND"], os.environ["KERAS_HOME"]
        os.environ |= kept


prepare_keras()
import keras  # noqa: E402 it must not be imported before it is prepared

"""The classifier that all sessions of the server use; it keeps nothing of any image."""

import gc
import logging
import os
import threading
import time
from pathlib import Path
from typing import NoReturn

import streamlit as st

from mseenet.case import words
from mseenet.errors import MSEENetError
from mseenet.inference.card import DEFAULT_WEIGHTS, WeightsError
from mseenet.inference.classifier import Classifier
from mseenet.inference.profile import PROFILE_VARIABLE, ProfileError, chosen_profile
from mseenet.inference.remote import (
    SERVER_VARIABLE,
    RemoteClassifier,
    ServerError,
    chosen_server,
)
from mseenet.inference.scheduler import Scheduler
from mseenet.ui.bundler import page_limits
from mseenet.ui.streamlit_internals import keep_compiled_functions

WEIGHTS_VARIABLE = "MSEENET_WEIGHTS"
"""Environment variable that names another folder of weights."""

SERVICE_WAIT = 5.0
"""Seconds after which a service that was not there is looked for again."""

_loaded = threading.Event()


@st.cache_resource(show_spinner=False)
def _load(folder: str) -> Classifier:
    # As the weights, the profile is the server's and stays what it was at its start.
    server, profile = chosen_server(), chosen_profile()
    if server is not None:
        classifier: Classifier = RemoteClassifier.connect(server, folder, profile)
    else:
        classifier = Classifier.load(Path(folder), profile)
        spare_the_network()
    _loaded.set()
    return classifier


@st.cache_resource(show_spinner=False, hash_funcs={Classifier: id, RemoteClassifier: id})
def scheduler_of(classifier: Classifier) -> Scheduler:
    """What shares a classifier between the cases of all sessions."""
    limits = page_limits()
    return Scheduler(classifier, limits.analyses, limits.waiting)


def spare_the_network() -> None:
    """Keeps what makes the network fast from being undone in every run of a page.

    Whenever Python collects garbage it would look through all of TensorFlow, too (0.5 s).
    """
    keep_compiled_functions()
    gc.collect()
    gc.freeze()


def load_ahead() -> None:
    """Begins to load the network, for the first page to find it or to wait for the rest.

    Weights that cannot be used are told in the log; the server stays up, and its pages say it. A
    service that is to be the network is looked for until it is there.
    """

    def load() -> None:
        told = ""
        while True:
            try:
                _load(_folder())
                return
            except MSEENetError as error:
                if told != str(error):
                    told = str(error)
                    logging.getLogger(__name__).error("%s", error)
                if not isinstance(error, ServerError):
                    return
            time.sleep(SERVICE_WAIT)

    threading.Thread(target=load, daemon=True).start()


def is_loaded() -> bool:
    """Whether the network is loaded and compiled, so that a first answer takes no longer."""
    return _loaded.is_set()


def _folder() -> str:
    return os.environ.get(WEIGHTS_VARIABLE, str(DEFAULT_WEIGHTS))


def load_classifier() -> Classifier:
    """Loads the classifier once for all sessions; without a usable network the page ends."""
    try:
        with st.spinner("Loading the network (once, about ten seconds) ..."):
            return _load(_folder())
    except ProfileError as error:
        _end(
            "The site profile cannot be used, so nothing is predicted. Correct or remove the "
            f"setting {PROFILE_VARIABLE}.",
            error,
        )
    except ServerError as error:
        _end(
            f"The service of the setting {SERVER_VARIABLE} cannot be used, so nothing can be "
            "predicted. Load this page anew when it can.",
            error,
        )
    except WeightsError as error:
        _end(
            "The network's weights cannot be used, so nothing can be predicted. "
            "Restore the `weights` folder of the project or train it anew (see README).",
            error,
        )


def privacy() -> str:
    """What becomes of images, in words."""
    sent = os.environ.get(SERVER_VARIABLE, "").strip()
    return f"{words.PRIVACY} {words.PIXELS_SENT}" if sent else words.PRIVACY


def draw_error(text: str, error: MSEENetError) -> None:
    """Says what cannot be done, and why."""
    st.error(text, icon=":material/error:")
    st.code(str(error), language=None, wrap_lines=True)


def _end(text: str, error: MSEENetError) -> NoReturn:
    draw_error(text, error)
    st.stop()
    raise error  # not reached: `stop` ends the page


@st.cache_resource(show_spinner=False)
def prepare_methods(_classifier: Classifier) -> None:
    """Compiles the other heatmap methods in the background, once.

    Takes ten seconds, so it is for when a first case has been analysed and is being read.
    """
    threading.Thread(target=_classifier.warm_up, daemon=False).start()

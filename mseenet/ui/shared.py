"""The classifier that all sessions of the server use; it keeps nothing of any image."""

import gc
import logging
import os
import threading
from pathlib import Path

import streamlit as st

from mseenet.errors import MSEENetError
from mseenet.inference.card import DEFAULT_WEIGHTS, WeightsError
from mseenet.inference.classifier import Classifier
from mseenet.inference.profile import PROFILE_VARIABLE, ProfileError, chosen_profile
from mseenet.inference.scheduler import Scheduler
from mseenet.ui.bundler import page_limits
from mseenet.ui.streamlit_internals import keep_compiled_functions

WEIGHTS_VARIABLE = "MSEENET_WEIGHTS"
"""Environment variable that names another folder of weights."""


_loaded = threading.Event()


@st.cache_resource(show_spinner=False)
def _load(folder: str) -> Classifier:
    # As the weights, the profile is the server's and stays what it was at its start.
    classifier = Classifier.load(Path(folder), chosen_profile())
    spare_the_network()
    _loaded.set()
    return classifier


@st.cache_resource(show_spinner=False, hash_funcs={Classifier: id})
def scheduler_of(classifier: Classifier) -> Scheduler:
    """What shares a classifier between the cases of all sessions."""
    return Scheduler(classifier, page_limits().analyses)


def spare_the_network() -> None:
    """Keeps what makes the network fast from being undone in every run of a page.

    Whenever Python collects garbage it would look through all of TensorFlow, too (0.5 s).
    """
    keep_compiled_functions()
    gc.collect()
    gc.freeze()


def load_ahead() -> None:
    """Begins to load the network, for the first page to find it or to wait for the rest.

    Weights that cannot be used are told in the log; the server stays up, and its pages say it.
    """

    def load() -> None:
        try:
            _load(_folder())
        except MSEENetError as error:
            logging.getLogger(__name__).error("%s", error)

    threading.Thread(target=load, daemon=True).start()


def is_loaded() -> bool:
    """Whether the network is loaded and compiled, so that a first answer takes no longer."""
    return _loaded.is_set()


def _folder() -> str:
    return os.environ.get(WEIGHTS_VARIABLE, str(DEFAULT_WEIGHTS))


def load_classifier() -> Classifier:
    """Loads the classifier once for all sessions; without usable weights the page ends."""
    try:
        with st.spinner("Loading the network (once, about ten seconds) ..."):
            return _load(_folder())
    except ProfileError as error:
        st.error(
            "The site profile cannot be used, so nothing is predicted. Correct or remove the "
            f"setting {PROFILE_VARIABLE}.",
            icon=":material/error:",
        )
        st.code(str(error), language=None, wrap_lines=True)
        st.stop()
        raise  # not reached: `stop` ends the page
    except WeightsError as error:
        st.error(
            "The network's weights cannot be used, so nothing can be predicted. "
            "Restore the `weights` folder of the project or train it anew (see README).",
            icon=":material/error:",
        )
        st.code(str(error), language=None, wrap_lines=True)
        st.stop()
        raise  # not reached: `stop` ends the page


@st.cache_resource(show_spinner=False)
def prepare_methods(_classifier: Classifier) -> None:
    """Compiles the other heatmap methods in the background, once.

    Takes ten seconds, so it is for when a first case has been analysed and is being read.
    """
    threading.Thread(target=_classifier.warm_up, daemon=False).start()

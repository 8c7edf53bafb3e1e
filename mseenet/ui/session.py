"""The state of one browser session: its case, and what the user has set."""

import streamlit as st

from mseenet.case.fields import Case
from mseenet.ui.bundler import upload_limit

SETTINGS = (
    "way",
    "label",
    "view",
    "order",
    "statuses",
    "classes",
    "method",
    "color-map",
    "opacity",
)
"""Names of the widgets whose values belong to the session."""


def current_case() -> Case:
    """The case of this browser session; it ends with the session."""
    return st.session_state.setdefault("case", Case(largest_upload=upload_limit()))


def keep_settings() -> None:
    """Lets what the user has set survive a look at another page.

    Streamlit forgets a widget's value when a page is drawn without the widget. These widgets
    get their first value through the session's state too: a default of their own would clash.
    """
    for name in SETTINGS:
        if name in st.session_state:
            st.session_state[name] = st.session_state[name]


def new_case() -> None:
    """Drops all fields and settings of this session, the case label too."""
    intakes = current_case().intakes + 1
    st.session_state.clear()
    st.session_state["case"] = Case(intakes=intakes, largest_upload=upload_limit())

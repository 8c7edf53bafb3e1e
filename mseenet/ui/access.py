"""Sign-in through OpenID Connect, where the operator has configured it."""

import logging
from importlib.util import find_spec
from pathlib import Path

import streamlit as st
from streamlit import config

PACKAGES = ("authlib", "httpx")
"""What Streamlit needs for OpenID Connect and does not install by itself."""


def require_sign_in() -> None:
    """Ends the page at a sign-in button until the user has signed in.

    Without a section `auth` in `.streamlit/secrets.toml` the app is open to everyone who
    can reach it, which by default is this machine alone. A file of secrets that cannot be
    read ends the page: it may hold that section.
    """
    try:
        configured = "auth" in st.secrets
    except FileNotFoundError as error:  # Streamlit's for a file that it cannot parse, too
        meant = config.is_manually_set("secrets.files")
        if meant or any(Path(path).exists() for path in st.get_option("secrets.files")):
            logging.getLogger(__name__).error("secrets: %s", error)
            st.error(
                "The file of secrets, which may ask for a sign-in, cannot be read. The operator "
                "of this app finds the reason in its log.",
                icon=":material/lock:",
            )
            st.stop()
        return
    if not configured:
        return
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        st.error(
            f"Sign-in is configured, but cannot work: {' and '.join(missing)} not installed. "
            'The operator of this app runs pip install "streamlit[auth]" and starts it again.',
            icon=":material/lock:",
        )
        st.stop()
    if not st.user.get("is_logged_in", False):
        st.info("Sign in to use this app.", icon=":material/lock:")
        st.button("Sign in", on_click=st.login, type="primary")
        st.stop()
    with st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center"):
        st.caption(f"Signed in as {st.user.get('email', 'unknown')}", width="content")
        st.button("Sign out", on_click=st.logout, type="tertiary")

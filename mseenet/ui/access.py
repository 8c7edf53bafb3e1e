"""Sign-in through OpenID Connect, where the operator has configured it."""

from importlib.util import find_spec

import streamlit as st

PACKAGES = ("authlib", "httpx")
"""What Streamlit needs for OpenID Connect and does not install by itself."""


def require_sign_in() -> None:
    """Ends the page at a sign-in button until the user has signed in.

    Without a section `auth` in `.streamlit/secrets.toml` the app is open to everyone who
    can reach it, which by default is this machine alone.
    """
    try:
        configured = "auth" in st.secrets
    except FileNotFoundError:
        configured = False
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

"""Sign-in through OpenID Connect, where the operator has configured it."""

import logging
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import streamlit as st
from streamlit import config

from mseenet.ui.frame import plain

PACKAGES = ("authlib", "httpx")
"""What Streamlit needs for OpenID Connect and does not install by itself."""


def require_sign_in() -> None:
    """Ends the page at a sign-in button until the user has signed in.

    Without a section `auth` in `.streamlit/secrets.toml` the app is open to everyone who
    can reach it, which by default is this machine alone. A file of secrets that cannot be
    read ends the page: it may hold that section. A section `access` says who of those who
    can sign in may use the app: `allowed = ["name@example.org", "example.org"]`.
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
    email = str(st.user.get("email") or "")
    if (allowed := _allowed()) is not None and not is_allowed(
        email, allowed, st.user.get("email_verified")
    ):
        st.error(
            f"You are signed in as {plain(email or 'somebody without an address')}, who is not on "
            "the list of those who may use this app. Ask its operator, or sign in with another "
            "account.",
            icon=":material/lock:",
        )
        st.button("Sign out", on_click=st.logout, type="primary")
        st.stop()
    with st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center"):
        st.caption(f"Signed in as {plain(email or 'unknown')}", width="content")
        st.button("Sign out", on_click=st.logout, type="tertiary")


def _allowed() -> list[str] | None:
    """Who may use the app by the section `access`, or None without one: every account may.

    A list that cannot be understood ends the page, as it was meant to keep people out.
    """
    if "access" not in st.secrets:
        _warn_of_open_door()
        return None
    allowed = entries_of(st.secrets["access"])
    if allowed is None:
        logging.getLogger(__name__).error(
            'secrets: [access] expected allowed = ["name@example.org", "example.org"]'
        )
        st.error(
            "The list of those who may use this app cannot be read. The operator finds the reason "
            "in its log.",
            icon=":material/lock:",
        )
        st.stop()
    return allowed


def entries_of(section: object) -> list[str] | None:
    """The list `allowed` of a section of the secrets; None if it is no list of texts."""
    allowed = section.get("allowed") if isinstance(section, Mapping) else None
    if isinstance(allowed, str) or not isinstance(allowed, Sequence):
        return None
    entries = [entry for entry in allowed if isinstance(entry, str) and entry.strip("@ ")]
    return entries if len(entries) == len(allowed) else None


def is_allowed(email: str, allowed: Sequence[str], verified: object = None) -> bool:
    """Whether an account is on the list.

    Args:
        email: The account's address; empty if the provider tells none.
        allowed: Addresses, and domains such as "example.org" or "@example.org", which let in
            every address of exactly that domain. Capitals make no difference.
        verified: The provider's claim `email_verified`; an address that it says is not
            verified could be anybody's.
    """
    address = email.strip().casefold()
    domain = address.rpartition("@")[2]
    if "@" not in address or verified is False or str(verified).casefold() == "false":
        return False
    entries = {entry.strip().casefold().removeprefix("@") for entry in allowed}
    return address in entries or domain in entries


@cache
def _warn_of_open_door() -> None:
    logging.getLogger(__name__).warning(
        "sign-in lets in every account of the provider; list those who may use the app in the "
        "secrets file, section [access]"
    )

"""Makes the browser send all files of one drop or choice as a single upload, a bundle."""

import json
from pathlib import Path

import streamlit as st

from mseenet.case.bundle import MAGIC
from mseenet.imaging.decoding import SUFFIXES

_SCRIPT = Path(__file__).with_suffix(".js").read_text("utf-8")


def upload_limit() -> int:
    """Largest file that the server takes, in MB."""
    return st.get_option("server.maxUploadSize")


def bundler() -> str:
    """The script, as HTML, that makes all upload widgets of a page send bundles."""
    settings = {
        "magic": MAGIC.decode(),
        "suffixes": [*SUFFIXES, ".zip"],
        "limit": upload_limit() * 2**20,
    }
    script = _SCRIPT.replace("SETTINGS", json.dumps(settings))
    return f"<script>{script}</script>"

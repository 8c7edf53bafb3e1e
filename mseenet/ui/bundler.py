"""Makes the browser send all files of one drop or choice as a single upload, a bundle."""

import json
from pathlib import Path

import streamlit as st

from mseenet.case.limits import MEGABYTE, Limits, configured_limits
from mseenet.case.saved import ANSWER
from mseenet.imaging.formats import BMP_HEADERS, STARTS, SUFFIXES
from mseenet.ui.bundle import MAGIC

_SCRIPT = Path(__file__).with_suffix(".js").read_text("utf-8")


def upload_limit() -> int:
    """Largest upload that the server takes, in bytes."""
    return st.get_option("server.maxUploadSize") * MEGABYTE


def page_limits() -> Limits:
    """What a case may hold; no file is larger than what the server lets in.

    Raises:
        UsageError: A limit that the operator has set is no whole number above 0.
    """
    return configured_limits(largest_upload=upload_limit())


def bundler() -> str:
    """The script that makes all upload widgets of a page send bundles."""
    limits = page_limits()
    settings = {
        "magic": MAGIC.decode(),
        "suffixes": [*SUFFIXES, ".zip"],
        "starts": [list(start) for start in STARTS],
        "bmpHeaders": BMP_HEADERS,
        "limit": limits.file,
        "partLimit": limits.part,
        "caseLimit": limits.case + limits.fields * ANSWER,
    }
    return _SCRIPT.replace("SETTINGS", json.dumps(settings))
